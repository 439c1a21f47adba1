//! The report: a masked page and JSON with everything that happened, to be attached to an issue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use askama::Template;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::VerifyEnd;
use super::assumptions::{ASSUMPTIONS, Assumption, SeenIn};
use super::figures::Figures;
use super::mask::Mask;
use super::profiles::Profiles;
use super::steps::{self, VerifyFindings};
use super::teardown::{Left, Removal};
use crate::chapters::{ChapterOutcome, ChapterResult, Exchange, connections, health, settings};
use crate::stage::Party;

/// README's statements about AWS, each with the chapters that prove it.
pub const STATEMENTS: [(&str, &[&str]); 7] = [
    (
        "EC2 sends connection notifications, and the guard accepts dbt's request within seconds.",
        &[connections::DBT_REQUESTS.title, steps::NOTIFICATION.0],
    ),
    (
        "A second request of dbt's account is held and reported, and does not get in when the first endpoint goes.",
        &[
            connections::OTHER_CUSTOMER_REQUESTS.title,
            connections::DBT_LEAVES.title,
            connections::OTHER_CUSTOMER_IS_REJECTED.title,
        ],
    ),
    (
        "Requests of untrusted accounts stay pending, and are reported.",
        &[connections::EVERY_ACCOUNT_ALLOWED.title, connections::UNTRUSTED_REQUESTS.title],
    ),
    (
        "CloudTrail's events reach the guard, and its alerts name who made a change.",
        &[settings::CROSS_ZONE.title, steps::CHANGE.0],
    ),
    (
        "The guard reads the answers of Elastic Load Balancing and EC2 correctly: health, listeners, security groups, acceptance.",
        &[
            health::TARGET_FAILS.title,
            health::TARGET_RECOVERS.title,
            settings::REMOVED_RULE.title,
            settings::DELETED_LISTENER.title,
            settings::ACCEPTANCE.title,
        ],
    ),
    (
        "The stack deploys and rings no alarm, its roles may do what the functions do, and its alerts reach the subscribers of a topic.",
        &[steps::GUARD.0, steps::TEST_MESSAGE.0, steps::DEAD_LETTERS.0, steps::ALARMS.0],
    ),
    ("Run times, memory and cold starts are those of Lambda.", &[steps::FIGURES.0]),
];

/// Features that no run of `make verify` can prove.
pub const NOT_PROVED: &str = "Slack, Teams and email subscriptions, customer managed keys, rejecting untrusted \
                              requests, enforcing cross-zone, instances and IP addresses as targets, network ACLs, \
                              certificates, arm64, real traffic, and dbt's own side are not part of it.";

/// A finished run.
pub struct VerifyReport<'a> {
    /// The start of the run.
    pub began: Timestamp,
    /// The duration of the run.
    pub took: Duration,
    /// Whether the user ended the run.
    pub interrupted: bool,
    /// The played chapters.
    pub played: Vec<ChapterResult>,
    /// The removed resources.
    pub removals: Vec<Removal>,
    /// The leftovers.
    pub left: Vec<Left>,
    /// Further findings.
    pub findings: VerifyFindings,
    /// The stage of the run.
    pub stage: &'a Profiles,
}

impl VerifyReport<'_> {
    /// The outcome of the run.
    pub fn end(&self) -> VerifyEnd {
        match self.interrupted {
            true => VerifyEnd::Interrupted,
            false if self.left.is_empty() && self.played.iter().all(ChapterResult::is_ok) => VerifyEnd::AsExpected,
            false => VerifyEnd::Otherwise,
        }
    }

    /// Writes `report.json` and `report.html`, and returns the page's path.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let json = serde_json::to_string_pretty(&self.json())?;
        let (data, page) = (folder.join("report.json"), folder.join("report.html"));
        std::fs::write(&data, json + "\n").with_context(|| format!("{} cannot be written", data.display()))?;
        std::fs::write(&page, self.page()?).with_context(|| format!("{} cannot be written", page.display()))?;
        Ok(page)
    }

    fn mask(&self) -> Mask {
        let accounts: Vec<_> = self.stage.accounts.iter().map(|(party, account)| (part(*party), account)).collect();
        Mask::new(&accounts)
    }

    fn is_local(&self) -> bool {
        self.stage.accounts.values().any(super::account::Account::is_local)
    }

    /// The report as JSON, masked.
    pub fn json(&self) -> Value {
        let mask = self.mask();
        let region = self.stage.accounts.get(&Party::Provider).map(|account| account.region.clone());
        mask.json(&json!({
            "schemaVersion": "1.0",
            "run": self.stage.names.run,
            "guardVersion": env!("CARGO_PKG_VERSION"),
            "ranOn": if self.is_local() { "a local AWS" } else { "AWS" },
            "region": region,
            "beganAt": self.began.to_string(),
            "tookSeconds": self.took.as_secs(),
            "interrupted": self.interrupted,
            "statements": self.statements().iter().map(|(statement, state, why)| json!({
                "statement": statement, "proved": *state == Proof::Proved, "why": why,
            })).collect::<Vec<_>>(),
            "steps": self.played.iter().map(step_json).collect::<Vec<_>>(),
            "assumptions": self.sights().iter().map(|(assumption, seen)| json!({
                "id": assumption.id, "question": assumption.question,
                "seen": seen.as_ref().ok(), "notSeen": seen.as_ref().err(),
            })).collect::<Vec<_>>(),
            "connectionNotifications": *self.findings.notifications.borrow(),
            "cloudTrailEvent": *self.findings.change.borrow(),
            "functions": self.findings.figures.borrow().iter().map(Figures::json).collect::<Vec<_>>(),
            "removed": self.removals.iter().map(|removal| json!({
                "what": removal.what, "error": removal.result.as_ref().err().map(|error| format!("{error:#}")),
            })).collect::<Vec<_>>(),
            "left": self.left.iter().map(|left| json!({"what": left.what, "command": left.command})).collect::<Vec<_>>(),
        }))
    }

    /// The page: one file without a script, which loads nothing from the network.
    pub fn page(&self) -> Result<String, askama::Error> {
        VerifyPage::new(self, &self.mask()).render()
    }

    /// For each statement, whether this run proves it, with the reason if not.
    fn statements(&self) -> Vec<(&'static str, Proof, String)> {
        let proof = |titles: &[&str]| {
            titles.iter().find_map(|title| self.why_not(title)).unwrap_or_else(|| match self.is_local() {
                true => (Proof::Open, "as expected, on a local AWS: that proves nothing about AWS".to_owned()),
                false => (Proof::Proved, "as expected".to_owned()),
            })
        };
        STATEMENTS
            .iter()
            .map(|(text, titles)| (*text, proof(titles)))
            .map(|(text, (state, why))| (text, state, why))
            .collect()
    }

    /// The reason why the chapter did not end as expected, and its meaning for a statement; `None` if it did.
    fn why_not(&self, title: &str) -> Option<(Proof, String)> {
        let played = self.played.iter().find(|played| played.title == title);
        match played.map(|played| &played.outcome) {
            Some(ChapterOutcome::AsExpected) => None,
            Some(ChapterOutcome::Failed(_)) => Some((Proof::Refuted, format!("failed: {title}"))),
            Some(ChapterOutcome::Skipped(reason)) => Some((Proof::Open, format!("skipped: {title}: {reason}"))),
            None => Some((Proof::Open, format!("not reached: {title}"))),
        }
    }

    /// For each assumption, the different answers in this run, or the reason why there are none.
    fn sights(&self) -> Vec<(&'static Assumption, Result<Vec<Value>, String>)> {
        ASSUMPTIONS.iter().map(|assumption| (assumption, self.sight(assumption))).collect()
    }

    fn sight(&self, assumption: &Assumption) -> Result<Vec<Value>, String> {
        let (mut seen, mut why) = (Vec::new(), None);
        let sights = self.played.iter().flat_map(|played| &played.sights);
        for sight in sights.filter(|sight| sight.assumption == assumption.id) {
            match &sight.seen {
                Ok(value) if seen.contains(value) => {}
                Ok(value) => seen.push(value.clone()),
                Err(reason) => why = Some(reason.clone()),
            }
        }
        if !seen.is_empty() {
            return Ok(seen);
        }
        Err(why.unwrap_or_else(|| match assumption.seen {
            SeenIn::Nowhere(reason) => reason.to_owned(),
            SeenIn::Chapter(title) => self.why_not(title).map_or_else(|| format!("not in: {title}"), |(_, why)| why),
        }))
    }
}

/// Whether a run proves a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Proved,
    Refuted,
    Open,
}

fn part(party: Party) -> &'static str {
    match party {
        Party::Provider => "provider",
        Party::Consumer => "consumer",
        Party::Untrusted => "untrusted",
    }
}

fn step_json(played: &ChapterResult) -> Value {
    let (outcome, why) = outcome(&played.outcome);
    json!({
        "title": played.title,
        "expected": played.expected,
        "outcome": outcome,
        "why": why,
        "tookSeconds": seconds(played.took),
        "facts": played.facts.iter().map(|(name, text)| json!({"name": name, "text": text})).collect::<Vec<_>>(),
        "alerts": played.alerts.iter().map(|(alert, after)| json!({
            "subject": alert.subject, "afterSeconds": seconds(*after), "message": alert.content,
        })).collect::<Vec<_>>(),
        "answers": played.exchanges.iter().map(|exchange| json!({
            "account": part(exchange.party), "command": exchange.command, "asked": exchange.times,
            "answer": exchange.answer.as_ref().ok(), "error": exchange.answer.as_ref().err(),
        })).collect::<Vec<_>>(),
    })
}

/// The word for a chapter's outcome, and its reason.
fn outcome(outcome: &ChapterOutcome) -> (&'static str, Option<String>) {
    match outcome {
        ChapterOutcome::AsExpected => ("as expected", None),
        ChapterOutcome::Failed(error) => ("failed", Some(format!("{error:#}"))),
        ChapterOutcome::Skipped(reason) => ("skipped", Some(reason.clone())),
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

// ---- the page -------------------------------------------------------------------------------------------------------

/// The template's input: finished and masked texts, which the template only lays out.
#[derive(Template)]
#[template(path = "verify.html")]
struct VerifyPage {
    style: &'static str,
    verdict: String,
    counts: Vec<(ReportBadge, usize)>,
    facts: Vec<(&'static str, String)>,
    local: bool,
    statements: Vec<(ReportBadge, String, String)>,
    not_proved: &'static str,
    assumptions: Vec<ReportSight>,
    steps: Vec<ReportStep>,
    notifications: Vec<String>,
    change: Option<String>,
    removals: Vec<(ReportBadge, String)>,
    left: Vec<Left>,
}

/// A sign and a word, and the colour that says the same.
#[derive(Clone, Copy)]
struct ReportBadge {
    class: &'static str,
    sign: char,
    word: &'static str,
}

const AS_EXPECTED: ReportBadge = ReportBadge { class: "pass", sign: '✓', word: "as expected" };
const FAILED: ReportBadge = ReportBadge { class: "critical", sign: '✗', word: "failed" };
const SKIPPED: ReportBadge = ReportBadge { class: "unknown", sign: '–', word: "skipped" };

struct ReportSight {
    id: &'static str,
    question: &'static str,
    /// The answers as JSON.
    seen: Vec<String>,
    /// The reason if there are none.
    why: String,
}

struct ReportStep {
    number: usize,
    title: String,
    badge: ReportBadge,
    expected: String,
    happened: String,
    took: String,
    facts: Vec<(String, String)>,
    alerts: Vec<(String, Vec<String>)>,
    answers: Vec<(String, String)>,
}

impl VerifyPage {
    fn new(report: &VerifyReport<'_>, mask: &Mask) -> Self {
        let stage = report.stage;
        let accounts = stage.accounts.keys().map(|party| part(*party)).collect::<Vec<_>>().join(", ");
        let region = stage.accounts.get(&Party::Provider).map(|account| account.region.clone()).unwrap_or_default();
        let place = if report.is_local() { "a local AWS" } else { "AWS" };
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
        let notifications = report.findings.notifications.borrow().iter().map(|text| mask.text(text)).collect();
        let change = report.findings.change.borrow().as_ref().map(|event| pretty(&mask.json(event)));
        Self {
            style: concat!(
                include_str!("../../../cli/templates/report.css"),
                include_str!("../../templates/verify.css")
            ),
            verdict: verdict(report),
            counts: counts(&report.played),
            facts: vec![
                ("Ran on", format!("{place}, {region}")),
                ("Began", report.began.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
                ("Took", words(report.took)),
                ("Run", stage.names.run.clone()),
                ("Guard", env!("CARGO_PKG_VERSION").to_owned()),
                ("Accounts, masked", accounts),
            ],
            local: report.is_local(),
            statements: report.statements().into_iter().map(|row| statement(row, mask)).collect(),
            not_proved: NOT_PROVED,
            assumptions: report.sights().into_iter().map(|row| sight(row, mask)).collect(),
            steps: report
                .played
                .iter()
                .zip(1..)
                .map(|(played, number)| ReportStep::new(played, number, mask))
                .collect(),
            notifications,
            change,
            removals: report.removals.iter().map(|removal| removed(removal, mask)).collect(),
            left: report.left.iter().map(|left| masked_left(left, mask)).collect(),
        }
    }
}

fn statement((text, proof, why): (&str, Proof, String), mask: &Mask) -> (ReportBadge, String, String) {
    let badge = match proof {
        Proof::Proved => ReportBadge { word: "proved", ..AS_EXPECTED },
        Proof::Refuted => ReportBadge { word: "not so", ..FAILED },
        Proof::Open => ReportBadge { word: "not proved", sign: '?', ..SKIPPED },
    };
    (badge, text.to_owned(), mask.text(&why))
}

fn sight((assumption, seen): (&Assumption, Result<Vec<Value>, String>), mask: &Mask) -> ReportSight {
    let Assumption { id, question, .. } = *assumption;
    let why = seen.as_ref().err().map(|why| mask.text(why)).unwrap_or_default();
    let pretty = |value: &Value| serde_json::to_string_pretty(&mask.json(value)).unwrap_or_default();
    ReportSight { id, question, seen: seen.iter().flatten().map(pretty).collect(), why }
}

fn verdict(report: &VerifyReport<'_>) -> String {
    let failed = report.played.iter().filter(|played| !played.is_ok()).count();
    let left = if report.left.is_empty() { "nothing is left" } else { "something is left" };
    match (report.interrupted, failed) {
        (true, _) => format!("Interrupted; {left}."),
        (false, 0) => format!("Every step ended as expected; {left}."),
        (false, 1) => format!("1 step did not end as expected; {left}."),
        (false, number) => format!("{number} steps did not end as expected; {left}."),
    }
}

fn counts(played: &[ChapterResult]) -> Vec<(ReportBadge, usize)> {
    let count = |badge: ReportBadge| {
        (badge, played.iter().filter(|played| badge_of(&played.outcome).word == badge.word).count())
    };
    [AS_EXPECTED, FAILED, SKIPPED].map(count).into_iter().filter(|(_, number)| *number > 0).collect()
}

fn badge_of(outcome: &ChapterOutcome) -> ReportBadge {
    match outcome {
        ChapterOutcome::AsExpected => AS_EXPECTED,
        ChapterOutcome::Failed(_) => FAILED,
        ChapterOutcome::Skipped(_) => SKIPPED,
    }
}

fn removed(removal: &Removal, mask: &Mask) -> (ReportBadge, String) {
    match &removal.result {
        Ok(()) => (ReportBadge { word: "removed", ..AS_EXPECTED }, mask.text(&removal.what)),
        Err(error) => {
            (ReportBadge { word: "not removed", ..FAILED }, mask.text(&format!("{}: {error:#}", removal.what)))
        }
    }
}

fn masked_left(left: &Left, mask: &Mask) -> Left {
    Left { what: mask.text(&left.what), command: mask.text(&left.command) }
}

impl ReportStep {
    fn new(played: &ChapterResult, number: usize, mask: &Mask) -> Self {
        let (word, why) = outcome(&played.outcome);
        let alerts = played.alerts.iter().map(|(alert, after)| {
            let lines = alert.lines().iter().map(|line| mask.text(line)).collect();
            (format!("after {:.1} s", after.as_secs_f32()), lines)
        });
        Self {
            number,
            title: capitalized(played.title),
            badge: badge_of(&played.outcome),
            expected: capitalized(played.expected),
            happened: capitalized(&why.map_or_else(|| word.to_owned(), |why| mask.text(&format!("{word}: {why}")))),
            took: words(played.took),
            facts: played.facts.iter().map(|(name, text)| (name.clone(), mask.text(text))).collect(),
            alerts: alerts.collect(),
            answers: played.exchanges.iter().map(|exchange| answer(exchange, mask)).collect(),
        }
    }
}

/// The command and AWS's last answer.
fn answer(exchange: &Exchange, mask: &Mask) -> (String, String) {
    let times = if exchange.times > 1 { format!(" (asked {} times)", exchange.times) } else { String::new() };
    let command = format!("{}: {}{times}", part(exchange.party), exchange.command);
    let answer = match &exchange.answer {
        Ok(Value::Null) => "no output".to_owned(),
        Ok(value) => serde_json::to_string_pretty(&mask.json(value)).unwrap_or_default(),
        Err(error) => mask.text(error),
    };
    (mask.text(&command), answer)
}

/// The text with a capital letter, as a title.
fn capitalized(text: &str) -> String {
    match text.strip_prefix("dbt") {
        Some(_) => text.to_owned(), // dbt never has a capital letter
        None => text.chars().take(1).flat_map(char::to_uppercase).chain(text.chars().skip(1)).collect(),
    }
}

/// `1 min 5 s`, `4.2 s`
fn words(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f32()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anyhow::anyhow;

    use super::*;
    use crate::chapters::Sight;
    use crate::verify::assumptions;
    use crate::verify::stacks::Names;

    #[test]
    fn readme_lists_the_statements_that_verify_proves() {
        let readme = std::fs::read_to_string(crate::local_aws::top().join("README.md")).unwrap();
        let readme = readme.split_whitespace().collect::<Vec<_>>().join(" ");
        for statement in STATEMENTS.map(|(statement, _)| statement) {
            assert!(readme.contains(statement), "README does not say: {statement}");
        }
        assert!(readme.contains(NOT_PROVED), "README does not say: {NOT_PROVED}");
    }

    #[test]
    fn each_assumption_is_seen_or_has_a_reason() {
        let (names, accounts) = (Names { run: "0123abcd".to_owned() }, super::super::teardown::Accounts::default());
        let stage = Profiles::new(accounts, names, Path::new("/"), Arc::default());
        let sight = |assumption, seen: Result<Value, &str>| Sight { assumption, seen: seen.map_err(ToOwned::to_owned) };
        let chapter = |(title, expected): (&'static str, &'static str), outcome, sights| ChapterResult {
            title,
            expected,
            outcome,
            took: Duration::ZERO,
            exchanges: Vec::new(),
            alerts: Vec::new(),
            facts: Vec::new(),
            sights,
        };
        let spelling = connections::STATE_SPELLING;
        let requests = (connections::DBT_REQUESTS.title, connections::DBT_REQUESTS.expected);
        let played = vec![
            chapter(
                requests,
                ChapterOutcome::AsExpected,
                ["pending", "available", "pending"].map(|state| sight(spelling, Ok(json!(state)))).into(),
            ),
            chapter(
                assumptions::ANSWERS,
                ChapterOutcome::Failed(anyhow!("no answer")),
                vec![sight("own-region", Ok(Value::Null)), sight("service-zones", Err("the profile may not ask"))],
            ),
        ];
        let report = VerifyReport {
            began: Timestamp::UNIX_EPOCH,
            took: Duration::ZERO,
            interrupted: false,
            played,
            removals: Vec::new(),
            left: Vec::new(),
            findings: VerifyFindings::default(),
            stage: &stage,
        };
        let seen = |id: &str| report.sights().into_iter().find(|(each, _)| each.id == id).unwrap().1;
        assert_eq!(seen(spelling), Ok(vec![json!("pending"), json!("available")]));
        assert_eq!(seen("own-region"), Ok(vec![Value::Null]), "what a failed step saw counts");
        assert_eq!(seen("service-zones"), Err("the profile may not ask".to_owned()));
        assert_eq!(seen("managed-resources"), Err(format!("failed: {}", assumptions::ANSWERS.0)));
        assert_eq!(seen("service-metrics"), Err(format!("not reached: {}", assumptions::PUBLISHED.0)));
        assert!(seen("zonal-shift").unwrap_err().contains("a client and servers in two zones"));
    }

    #[test]
    fn durations_are_in_words() {
        assert_eq!(words(Duration::from_millis(4_240)), "4.2 s");
        assert_eq!(words(Duration::from_secs(65)), "1 min 5 s");
    }
}
