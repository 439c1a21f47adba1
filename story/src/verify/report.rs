//! The report: everything that happened, masked, to be attached to an issue.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::VerifyEnd;
use super::account::Account;
use super::assumptions::{Assumption, SeenIn, assumptions};
use super::figures::Figures;
use super::markdown;
use super::mask::Mask;
use super::profiles::{Profiles, QueueEvent};
use super::teardown::{Left, Removal};
use super::{following, steps};
use crate::chapters::{connections, health, settings};
use crate::outcome::{ChapterOutcome, ChapterResult};
use crate::stage::Party;

/// The statements of docs/verify.md about AWS, each with the chapters that prove it.
pub const STATEMENTS: [(&str, &[&str]); 8] = [
    (
        "EC2 sends connection notifications, and the guard accepts dbt's request within seconds.",
        &[connections::DBT_REQUESTS.title, steps::NOTIFICATION.title],
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
        &[settings::CROSS_ZONE.title, steps::CHANGE.title],
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
        "The addresses of a hostname become the targets of a group, and others are deregistered once these are healthy.",
        &[following::FOLLOWS.title],
    ),
    (
        "The stack deploys and rings no alarm, its roles may do what the functions do, and its alerts reach the subscribers of a topic.",
        &[steps::GUARD.title, steps::TEST_MESSAGE.title, steps::DEAD_LETTERS.title, steps::ALARMS.title],
    ),
    ("Run times, memory and cold starts are those of Lambda.", &[steps::FIGURES.title]),
];

/// Features that no run of `make verify` can prove.
pub const NOT_PROVED: &str = "Slack, Teams and email subscriptions, customer managed keys, rejecting untrusted \
                              requests, enforcing cross-zone, instances as targets, network ACLs, certificates, a \
                              database's failover, arm64, real traffic, and dbt's own side are not part of it.";

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

    /// Writes `report.md`, and returns its path.
    pub fn write(&self) -> Result<PathBuf> {
        let path = self.stage.folder.join("report.md");
        std::fs::write(&path, markdown::render(&self.data()))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    fn is_local(&self) -> bool {
        self.stage.accounts.values().any(Account::is_local)
    }

    /// Everything, masked.
    fn data(&self) -> Value {
        let accounts: Vec<_> = self.stage.accounts.iter().map(|(party, account)| (part(*party), account)).collect();
        let events = self.stage.received_events();
        let region = self.stage.accounts.get(&Party::Provider).map(|account| account.region.clone());
        Mask::new(&accounts).json(&json!({
            "schemaVersion": "1.0",
            "verdict": self.verdict(),
            "run": self.stage.names.run,
            "guardVersion": env!("CARGO_PKG_VERSION"),
            "ranOn": if self.is_local() { "a local AWS" } else { "AWS" },
            "region": region,
            "beganAt": self.began.to_string(),
            "tookSeconds": self.took.as_secs(),
            "interrupted": self.interrupted,
            "statements": self.statements().iter().map(|(statement, verdict, why)| json!({
                "statement": statement, "verdict": verdict, "why": why,
            })).collect::<Vec<_>>(),
            "notProved": NOT_PROVED,
            "steps": self.played.iter().map(step_json).collect::<Vec<_>>(),
            "assumptions": assumptions().iter().map(|assumption| {
                let seen = self.sight(assumption);
                json!({
                    "id": assumption.id, "question": assumption.question,
                    "seen": seen.as_ref().ok(), "notSeen": seen.as_ref().err(),
                })
            }).collect::<Vec<_>>(),
            "connectionNotifications": events.iter().filter_map(QueueEvent::message).map(|(_, text)| text)
                .collect::<Vec<_>>(),
            "cloudTrailEvent": self.stage.change().map(|(event, _)| event),
            "functions": self.stage.figures.borrow().iter().map(Figures::json).collect::<Vec<_>>(),
            "removed": self.removals.iter().map(|removal| json!({
                "what": removal.what, "error": removal.result.as_ref().err().map(|error| format!("{error:#}")),
            })).collect::<Vec<_>>(),
            "left": self.left.iter().map(|left| json!({"what": left.what, "command": left.command})).collect::<Vec<_>>(),
        }))
    }

    /// Each statement, whether this run proves it, and why not.
    fn statements(&self) -> Vec<(&'static str, &'static str, String)> {
        let proof = |titles: &[&str]| {
            titles.iter().find_map(|title| self.why_not(title)).unwrap_or_else(|| match self.is_local() {
                true => (OPEN, "as expected, on a local AWS: that proves nothing about AWS".to_owned()),
                false => ("proved", "as expected".to_owned()),
            })
        };
        let row = |(statement, titles): &(&'static str, &[&str])| {
            let (verdict, why) = proof(titles);
            (*statement, verdict, why)
        };
        STATEMENTS.iter().map(row).collect()
    }

    /// Why the chapter did not end as expected, and what that says about a statement; nothing if it did.
    fn why_not(&self, title: &str) -> Option<(&'static str, String)> {
        let played = self.played.iter().find(|played| played.title == title);
        match played.map(|played| &played.outcome) {
            Some(ChapterOutcome::AsExpected) => None,
            Some(ChapterOutcome::Failed(_)) => Some(("not so", format!("failed: {title}"))),
            Some(ChapterOutcome::Skipped(reason)) => Some((OPEN, format!("skipped: {title}: {reason}"))),
            None => Some((OPEN, format!("not reached: {title}"))),
        }
    }

    fn verdict(&self) -> String {
        let failed = self.played.iter().filter(|played| !played.is_ok()).count();
        let left = if self.left.is_empty() { "nothing is left" } else { "something is left" };
        match (self.interrupted, failed) {
            (true, _) => format!("Interrupted; {left}."),
            (false, 0) => format!("Every step ended as expected; {left}."),
            (false, 1) => format!("1 step did not end as expected; {left}."),
            (false, number) => format!("{number} steps did not end as expected; {left}."),
        }
    }

    /// The different answers in this run to an assumption, or the reason why there are none.
    fn sight(&self, assumption: &Assumption) -> Result<Vec<Value>, String> {
        let (mut seen, mut why) = (Vec::new(), None);
        let sights = self.played.iter().flat_map(|played| &played.sights);
        for sight in sights.filter(|sight| sight.assumption == assumption.id) {
            match &sight.seen {
                Ok(values) => seen.extend(values.clone()),
                Err(reason) => why = Some(reason.clone()),
            }
        }
        if !seen.is_empty() {
            let is_new = |(index, value): &(usize, &Value)| !seen[..*index].contains(value);
            return Ok(seen.iter().enumerate().filter(is_new).map(|(_, value)| value.clone()).collect());
        }
        Err(why.unwrap_or_else(|| match &assumption.seen {
            SeenIn::Nowhere(reason) => reason.clone(),
            SeenIn::Chapter(title) => self.why_not(title).map_or_else(|| format!("not in: {title}"), |(_, why)| why),
        }))
    }
}

/// The verdict on a statement that this run neither proves nor refutes.
const OPEN: &str = "not proved";

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
        ChapterOutcome::Failed(error) => ("failed", Some(error.clone())),
        ChapterOutcome::Skipped(reason) => ("skipped", Some(reason.clone())),
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::outcome::Sight;
    use crate::verify::assumptions::{ANSWERS, PUBLISHED};
    use crate::verify::stacks::Names;

    #[test]
    fn the_page_lists_the_statements_that_verify_proves() {
        let page = std::fs::read_to_string(crate::top().join("docs/verify.md")).unwrap();
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        for statement in STATEMENTS.map(|(statement, _)| statement) {
            assert!(page.contains(statement), "docs/verify.md does not say: {statement}");
        }
        assert!(page.contains(NOT_PROVED), "docs/verify.md does not say: {NOT_PROVED}");
    }

    #[test]
    fn each_assumption_is_seen_or_has_a_reason() {
        let (names, accounts) = (Names { run: "0123abcd".to_owned() }, super::super::teardown::Accounts::default());
        let stage = Profiles::new(accounts, names, String::new(), Path::new("/"), Arc::default());
        let sight =
            |assumption, seen: Result<Vec<Value>, &str>| Sight { assumption, seen: seen.map_err(ToOwned::to_owned) };
        let mut requests = ChapterResult::new(
            connections::DBT_REQUESTS.title,
            connections::DBT_REQUESTS.expected,
            ChapterOutcome::AsExpected,
        );
        requests.sights =
            ["pending", "available", "pending"].map(|state| sight("state-spelling", Ok(vec![json!(state)]))).into();
        let mut answers =
            ChapterResult::new(ANSWERS.title, ANSWERS.expected, ChapterOutcome::Failed("no answer".to_owned()));
        answers.sights =
            vec![sight("own-region", Ok(vec![Value::Null])), sight("service-zones", Err("the profile may not ask"))];
        let report = VerifyReport {
            began: Timestamp::UNIX_EPOCH,
            took: Duration::ZERO,
            interrupted: false,
            played: vec![requests, answers],
            removals: Vec::new(),
            left: Vec::new(),
            stage: &stage,
        };
        let seen = |id: &str| report.sight(assumptions().iter().find(|each| each.id == id).unwrap());
        assert_eq!(seen("state-spelling"), Ok(vec![json!("pending"), json!("available")]));
        assert_eq!(seen("own-region"), Ok(vec![Value::Null]), "what a failed step saw counts");
        assert_eq!(seen("service-zones"), Err("the profile may not ask".to_owned()));
        assert_eq!(seen("managed-resources"), Err(format!("failed: {}", ANSWERS.title)));
        assert_eq!(seen("service-metrics"), Err(format!("not reached: {}", PUBLISHED.title)));
        assert!(seen("zonal-shift").unwrap_err().contains("a client and servers in two zones"));
    }
}
