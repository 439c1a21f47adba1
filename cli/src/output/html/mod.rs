//! The report as one page that needs neither a network nor a script: the drawn path, and below it the fixes. The
//! template escapes all text from AWS, and invisible characters are left out.

mod drawing;
mod results;

use anyhow::Context;
use askama::Template;
use guard_core::text::strip_invisible;

use self::drawing::Drawing;
use self::results::{Index, ListedResult};
use super::tree::summary_line;
use crate::report::{CheckReport, CheckState, ServiceReport, Summary};

/// The report as an HTML page.
pub fn render(report: &CheckReport) -> Result<String, askama::Error> {
    ReportPage::new(report).render()
}

/// Writes the page to `file`.
pub fn write(report: &CheckReport, file: &std::path::Path) -> anyhow::Result<()> {
    std::fs::write(file, render(report)?).with_context(|| format!("the page cannot be written to {}", file.display()))
}

/// The template's input: finished texts, which the template only lays out.
#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage {
    title: String,
    verdict: String,
    facts: Vec<(&'static str, String)>,
    counts: [(Badge, String); 3],
    services: Vec<ServiceSection>,
}

/// A sign and a word, and the colour that says the same.
#[derive(Clone)]
struct Badge {
    class: &'static str,
    sign: char,
    word: String,
}

/// The section of an endpoint service.
struct ServiceSection {
    anchor: String,
    name: String,
    badge: Badge,
    summary: String,
    facts: Vec<(&'static str, String)>,
    silences: Vec<String>,
    path: Drawing,
    failing: Vec<ListedResult>,
    unknown: Vec<ListedResult>,
    passing: Vec<ListedResult>,
}

impl ReportPage {
    fn new(report: &CheckReport) -> Self {
        let account = report.account.clone().unwrap_or_else(|| "not known".to_owned());
        let facts = vec![
            ("Account", strip_invisible(&account)),
            ("Region", strip_invisible(&report.region)),
            ("Checked at", report.checked_at.strftime("%Y-%m-%d %H:%M UTC").to_string()),
        ];
        Self {
            title: format!("{}: dbt's path in {}", summary_line(report), strip_invisible(&report.region)),
            verdict: verdict(report),
            facts,
            counts: counts(report),
            services: report
                .services
                .iter()
                .zip(1..)
                .map(|(service, number)| ServiceSection::new(service, number))
                .collect(),
        }
    }
}

/// The answer in one sentence.
fn verdict(report: &CheckReport) -> String {
    let Summary { pass, fail, unknown } = report.summary();
    match (fail, unknown) {
        (0, 0) if pass == 0 => "Nothing was checked.".to_owned(),
        (0, 0) => "Everything that was checked meets dbt's needs.".to_owned(),
        (0, _) if pass == 0 => "Nothing could be determined.".to_owned(),
        (0, _) => format!("Nothing fails, but {}.", undetermined(unknown)),
        (_, 0) => format!("{}.", failing(fail)),
        _ => format!("{}, and {}.", failing(fail), undetermined(unknown)),
    }
}

fn failing(number: usize) -> String {
    if number == 1 { "1 check fails".to_owned() } else { format!("{number} checks fail") }
}

fn undetermined(number: usize) -> String {
    if number == 1 { "1 could not be determined".to_owned() } else { format!("{number} could not be determined") }
}

/// The number of results per status; the count of failures has the colour of the worst one.
fn counts(report: &CheckReport) -> [(Badge, String); 3] {
    let Summary { pass, fail, unknown } = report.summary();
    let states = report.results().map(|result| CheckState::of(&result.status));
    let worst = states.filter(|state| state.severity().is_some()).max();
    let count = |state: CheckState, number: usize, word: String| {
        let badge = Badge::of((number > 0).then_some(state));
        (Badge { word, sign: state.sign(), ..badge }, number.to_string())
    };
    [
        count(CheckState::Pass, pass, "pass".to_owned()),
        count(worst.unwrap_or(CheckState::Critical), fail, format!("fail{}", severities(report))),
        count(CheckState::Unknown, unknown, "unknown".to_owned()),
    ]
}

/// `: 1 critical, 2 warning`, if something fails.
fn severities(report: &CheckReport) -> String {
    let counts = [CheckState::Critical, CheckState::Warning, CheckState::Info].into_iter().filter_map(|state| {
        let number = report.results().filter(|result| CheckState::of(&result.status) == state).count();
        Some(format!("{number} {}", state.severity().filter(|_| number > 0)?.as_str()))
    });
    let counts: Vec<String> = counts.collect();
    if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) }
}

impl Badge {
    fn of(state: Option<CheckState>) -> Self {
        let Some(state) = state else { return Self { class: "none", sign: '–', word: "no check".to_owned() } };
        let (class, word) = match state.severity() {
            Some(severity) => (severity.as_str(), format!("{}, {}", state.word(), severity.as_str())),
            None => (state.word(), state.word().to_owned()),
        };
        Self { class, sign: state.sign(), word }
    }
}

impl ServiceSection {
    fn new(service: &ServiceReport, number: usize) -> Self {
        let anchor = format!("s{number}");
        let mut index = Index::new(&service.results, &anchor);
        let path = Drawing::new(service, &anchor, &mut index);
        let id = service.id.as_ref().map(ToString::to_string);
        let name = service.name.clone().or_else(|| id.clone()).unwrap_or_else(|| "load balancer".to_owned());
        let facts = [("Endpoint service", id), ("Service name", service.service_name.as_deref().map(strip_invisible))];
        let (mut failing, mut unknown, mut passing) = (Vec::new(), Vec::new(), Vec::new());
        for result in index.listed() {
            match result.state {
                CheckState::Pass => passing.push(result),
                CheckState::Unknown => unknown.push(result),
                _ => failing.push(result),
            }
        }
        Self {
            anchor,
            name: strip_invisible(&name),
            badge: Badge::of(Some(service.state())),
            summary: Summary::of(&service.results).to_string(),
            facts: facts.into_iter().filter_map(|(label, value)| Some((label, value?))).collect(),
            silences: service.silences.iter().map(|silence| strip_invisible(silence)).collect(),
            path,
            failing,
            unknown,
            passing,
        }
    }
}

#[cfg(test)]
mod tests;
