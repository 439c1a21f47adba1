//! The numbered results under the drawing, most urgent first, each linked to its place in the drawing.

use std::cmp::Reverse;

use guard_core::check::{CheckResult, Status};
use guard_core::text::strip_invisible;

use super::Badge;
use crate::report::CheckState;

/// A result on the page.
pub(super) struct ListedResult {
    pub anchor: String,
    /// The number that the drawing refers to; `None` for a pass.
    pub number: Option<usize>,
    pub state: CheckState,
    pub badge: Badge,
    pub check: &'static str,
    /// The result's place in the drawing.
    pub place: Option<Place>,
    pub resource: String,
    pub summary: String,
    pub impact: String,
    pub evidence: Vec<String>,
    pub action: String,
    pub command: Option<String>,
    pub console: Option<String>,
}

/// A part in the drawing.
#[derive(Clone)]
pub(super) struct Place {
    pub anchor: String,
    pub name: String,
}

/// A result's mark in the drawing: its number and its subject.
pub(super) struct Callout {
    pub anchor: String,
    pub number: usize,
    pub badge: Badge,
    pub text: String,
}

/// The results of a service in the order in which the page lists them.
pub(super) struct Index<'a> {
    entries: Vec<(&'a CheckResult, Option<Place>)>,
    prefix: &'a str,
}

impl<'a> Index<'a> {
    pub fn new(results: &'a [CheckResult], prefix: &'a str) -> Self {
        let mut entries: Vec<_> = results.iter().map(|result| (result, None)).collect();
        entries.sort_by_key(|(result, _)| rank(CheckState::of(&result.status)));
        Self { entries, prefix }
    }

    /// The callouts for the `results` that do not pass, for the part at `place`.
    pub fn call_out<'r>(&mut self, results: impl Iterator<Item = &'r CheckResult>, place: &Place) -> Vec<Callout> {
        let mut positions: Vec<usize> = results.filter_map(|result| self.position(result)).collect();
        positions.sort_unstable();
        for position in &positions {
            self.entries[*position].1.get_or_insert_with(|| place.clone());
        }
        positions.into_iter().filter_map(|position| self.callout(position)).collect()
    }

    fn position(&self, result: &CheckResult) -> Option<usize> {
        self.entries.iter().position(|(known, _)| *known == result)
    }

    fn callout(&self, position: usize) -> Option<Callout> {
        let (result, _) = self.entries[position];
        let text = match &result.status {
            Status::Pass(_) | Status::NotAsked => return None,
            Status::Unknown(_) => result.check.id.to_owned(),
            Status::Fail(finding) => strip_invisible(&finding.summary),
        };
        let badge = Badge::of(Some(CheckState::of(&result.status)));
        Some(Callout { anchor: self.anchor(position), number: position + 1, badge, text })
    }

    fn anchor(&self, position: usize) -> String {
        format!("{}-r{}", self.prefix, position + 1)
    }

    /// All results.
    pub fn listed(&self) -> Vec<ListedResult> {
        self.entries.iter().enumerate().map(|(position, entry)| self.listed_result(position, entry)).collect()
    }

    fn listed_result(&self, position: usize, (result, place): &(&CheckResult, Option<Place>)) -> ListedResult {
        let state = CheckState::of(&result.status);
        let plain = ListedResult {
            anchor: self.anchor(position),
            number: (state != CheckState::Pass).then_some(position + 1),
            state,
            badge: Badge::of(Some(state)),
            check: result.check.id,
            place: place.clone(),
            resource: strip_invisible(&result.resource),
            summary: String::new(),
            impact: String::new(),
            evidence: Vec::new(),
            action: String::new(),
            command: None,
            console: None,
        };
        match &result.status {
            status @ (Status::Pass(_) | Status::Unknown(_) | Status::NotAsked) => {
                ListedResult { summary: strip_invisible(status.text()), ..plain }
            }
            Status::Fail(finding) => ListedResult {
                summary: strip_invisible(&finding.summary),
                impact: strip_invisible(&finding.impact),
                evidence: finding.evidence.iter().map(|line| strip_invisible(line)).collect(),
                action: strip_invisible(&finding.remedy.action),
                // Unchanged: it holds only characters that a shell takes literally, and it must still work when copied.
                command: finding.remedy.command.clone(),
                console: finding.remedy.console.clone().filter(|address| address.starts_with("https://")),
                ..plain
            },
        }
    }
}

/// The order of the list: failures from the worst, then unknown results, then passes.
fn rank(state: CheckState) -> (u8, Reverse<CheckState>) {
    let group = match state {
        CheckState::Critical | CheckState::Warning | CheckState::Info => 0,
        CheckState::Unknown => 1,
        CheckState::Pass => 2,
    };
    (group, Reverse(state))
}
