//! The life of an alert: *pending* (failing, not yet often enough), *firing*, *resolved*. Pure: the clock is an input.
//!
//! People hear when it fires, when its severity rises, a reminder now and then, and when it is over.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::transition::Kind;
use crate::checks::{Check, Finding, Severity, Status};
use crate::config::Policy;
use crate::trigger::Change;

/// The stored state of one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Where it stands.
    pub phase: Phase,
    /// The worst severity since it began.
    pub severity: Severity,
    /// Consecutive failing results while pending.
    pub failing: u32,
    /// Consecutive passing results while firing.
    pub passing: u32,
    /// When the first failing result was found.
    pub since: Timestamp,
    /// When people last heard of it.
    pub last_notified: Timestamp,
    /// The incident it belongs to.
    pub incident: String,
    /// The latest finding.
    pub finding: Finding,
    /// Why the check's result is unknown at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Failing, not yet often enough.
    Pending,
    /// People know.
    Firing,
    /// Over.
    Resolved,
}

/// How many results it takes to fire and to resolve, and how often to remind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Consecutive failing results before it fires.
    pub alert_after: u32,
    /// Consecutive passing results before it resolves.
    pub resolve_after: u32,
    /// Time between reminders.
    pub remind_every: Option<Duration>,
}

impl Thresholds {
    /// The policy's thresholds for `check`. Alerts of checks that cannot flap fire and resolve with the first result.
    #[must_use]
    pub fn for_check(check: Check, policy: &Policy) -> Self {
        let (alert_after, resolve_after) =
            if check.can_flap { (policy.alert_after, policy.resolve_after) } else { (1, 1) };
        Self { alert_after, resolve_after, remind_every: policy.remind_every }
    }
}

/// What one run says about an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Signal<'a> {
    /// The check fails.
    Failing(&'a Finding),
    /// The check passes.
    Passing,
    /// The check's result is unknown, and why.
    Unknown(&'a str),
    /// The resource no longer exists.
    Absent,
}

impl<'a> From<&'a Status> for Signal<'a> {
    fn from(status: &'a Status) -> Self {
        match status {
            Status::Pass => Self::Passing,
            Status::Fail(finding) => Self::Failing(finding),
            Status::Unknown(why) => Self::Unknown(why),
        }
    }
}

/// The next state of `alert` after `signal`, and what people must hear.
///
/// `incident` is the one that a new alert joins.
#[must_use]
pub fn advance(
    alert: Option<&Alert>,
    signal: Signal<'_>,
    thresholds: Thresholds,
    incident: &str,
    now: Timestamp,
) -> (Option<Alert>, Option<Kind>) {
    let current = alert.filter(|alert| alert.phase != Phase::Resolved);
    match (current, signal) {
        (None, Signal::Failing(finding)) => on_failing(&begin(finding, incident, now), finding, thresholds, now),
        (None, _) => (alert.cloned(), None),
        (Some(alert), Signal::Failing(finding)) => on_failing(alert, finding, thresholds, now),
        (Some(alert), Signal::Passing) => on_passing(alert, thresholds.resolve_after, now),
        (Some(alert), Signal::Absent) => on_passing(alert, 0, now),
        (Some(alert), Signal::Unknown(why)) => {
            // Neither failing nor passing: the alert stays as it is, and the next reminder says that the result is unknown.
            let alert = Alert { unknown: Some(why.to_owned()), ..alert.clone() };
            remind(alert, thresholds, now)
        }
    }
}

fn begin(finding: &Finding, incident: &str, now: Timestamp) -> Alert {
    Alert {
        phase: Phase::Pending,
        severity: finding.severity,
        failing: 0,
        passing: 0,
        since: now,
        last_notified: now,
        incident: incident.to_owned(),
        finding: finding.clone(),
        unknown: None,
    }
}

fn on_failing(
    alert: &Alert,
    finding: &Finding,
    thresholds: Thresholds,
    now: Timestamp,
) -> (Option<Alert>, Option<Kind>) {
    let rose = finding.severity > alert.severity;
    let mut next = Alert { passing: 0, unknown: None, severity: alert.severity.max(finding.severity), ..alert.clone() };
    // Only the run that CloudTrail's event started knows the cause. A change that came after the alert began did not
    // cause it, unless it made it worse.
    let known = alert.finding.cause.clone();
    let caused = |change: &&Change| rose || change.event_time.parse().is_ok_and(|at: Timestamp| at <= alert.since);
    let reported = finding.cause.as_ref().filter(caused).cloned();
    next.finding = Finding { cause: if rose { reported.or(known) } else { known.or(reported) }, ..finding.clone() };
    if next.phase == Phase::Firing {
        if !rose {
            return remind(next, thresholds, now);
        }
    } else {
        next.failing = next.failing.saturating_add(1);
        if next.failing < thresholds.alert_after {
            return (Some(next), None);
        }
        next.phase = Phase::Firing;
    }
    next.last_notified = now;
    (Some(next), Some(Kind::Firing))
}

fn on_passing(alert: &Alert, resolve_after: u32, now: Timestamp) -> (Option<Alert>, Option<Kind>) {
    if alert.phase == Phase::Pending {
        // Nobody heard that it began, so nobody needs to hear that it is over.
        return (Some(Alert { phase: Phase::Resolved, ..alert.clone() }), None);
    }
    let mut next = Alert { passing: alert.passing.saturating_add(1), unknown: None, ..alert.clone() };
    if next.passing < resolve_after {
        return (Some(next), None);
    }
    next.phase = Phase::Resolved;
    next.last_notified = now;
    (Some(next), Some(Kind::Resolved))
}

fn remind(mut alert: Alert, thresholds: Thresholds, now: Timestamp) -> (Option<Alert>, Option<Kind>) {
    let due =
        thresholds.remind_every.is_some_and(|every| now.duration_since(alert.last_notified).unsigned_abs() >= every);
    // Alerts of severity info are sent once.
    if alert.phase != Phase::Firing || alert.finding.severity == Severity::Info || !due {
        return (Some(alert), None);
    }
    alert.last_notified = now;
    (Some(alert), Some(Kind::Reminder))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, finding};

    const TWICE: Thresholds =
        Thresholds { alert_after: 2, resolve_after: 2, remind_every: Some(Duration::from_hours(2)) };

    /// Plays one signal a minute (`i`nfo, `b`ad, `B` worse, `g`ood, `?` unknown, `x` absent) and writes down what people heard:
    /// `F`iring, `R`esolved, `r`eminder, `.` nothing.
    fn heard(signals: &str, thresholds: Thresholds, minutes: i64) -> String {
        let (info, warning, critical) =
            (finding(Severity::Info), finding(Severity::Warning), finding(Severity::Critical));
        let mut alert = None;
        let mut now = at(8, 0);
        let mut heard = String::new();
        for signal in signals.chars() {
            let signal = match signal {
                'i' => Signal::Failing(&info),
                'b' => Signal::Failing(&warning),
                'B' => Signal::Failing(&critical),
                'g' => Signal::Passing,
                '?' => Signal::Unknown("no answer"),
                _ => Signal::Absent,
            };
            let (next, kind) = advance(alert.as_ref(), signal, thresholds, "thread", now);
            alert = next;
            heard.push(match kind {
                Some(Kind::Firing) => 'F',
                Some(Kind::Resolved) => 'R',
                Some(Kind::Reminder) => 'r',
                Some(Kind::Notice) => 'n',
                None => '.',
            });
            now += jiff::SignedDuration::from_mins(minutes);
        }
        heard
    }

    #[test]
    fn histories() {
        let table = [
            ("ggg", "...", "nothing was ever bad"),
            ("bgbg", "....", "never bad often enough"),
            ("bbbb", ".F..", "sent once"),
            ("bbgg", ".F.R", "sent once, resolved once"),
            ("bbgbgbgg", ".F.....R", "flapping sends nothing new"),
            ("bbB", ".FF", "severity rises"),
            ("bbBbBgg", ".FF...R", "severity falls and rises again: known already"),
            ("BBb", ".F.", "severity falls"),
            ("bb??gg", ".F...R", "unknown neither resolves nor repeats"),
            ("b?b", "..F", "unknown does not count, and does not start again either"),
            ("???", "...", "unknown is not bad"),
            ("bbx", ".FR", "an absent resource resolves at once"),
            ("bx", "..", "absent before it fired"),
            ("bbggbbgg", ".F.R.F.R", "a second alert is sent again"),
            ("xgx", "...", "nothing to resolve"),
        ];
        for (signals, expected, why) in table {
            assert_eq!(heard(signals, TWICE, 1), expected, "{signals}: {why}");
        }
    }

    #[test]
    fn settings_fire_and_resolve_with_the_first_result() {
        let at_once = Thresholds { alert_after: 1, resolve_after: 1, ..TWICE };
        assert_eq!(heard("bbgb", at_once, 1), "F.RF");
    }

    #[test]
    fn a_firing_alert_is_repeated_by_reminders() {
        assert_eq!(heard("bbbbbb", TWICE, 60), ".F.r.r");
        assert_eq!(heard("bb????gg", TWICE, 60), ".F.r.r.R", "also while the result is unknown");
        assert_eq!(heard("bbbbbb", Thresholds { remind_every: None, ..TWICE }, 6000), ".F....");
        assert_eq!(heard("iiiiibbb", TWICE, 60), ".F...F.r", "info is sent once");
    }

    #[test]
    fn the_cause_outlives_the_run_that_knew_it() {
        let caused = Finding { cause: Some(crate::testing::change()), ..finding(Severity::Warning) };
        let (alert, _) = advance(None, Signal::Failing(&caused), TWICE, "t", at(8, 0));
        let (alert, kind) = advance(alert.as_ref(), Signal::Failing(&finding(Severity::Warning)), TWICE, "t", at(8, 1));
        assert_eq!(kind, Some(Kind::Firing));
        assert_eq!(alert.unwrap().finding.cause, caused.cause);
    }

    #[test]
    fn a_change_after_the_alert_began_is_not_its_cause_unless_it_made_it_worse() {
        let change =
            |hour: u8| Some(Change { event_time: format!("2026-03-14T{hour:02}:00:00Z"), ..crate::testing::change() });
        let caused = |severity, cause| Finding { cause, ..finding(severity) };
        let began = |cause| advance(None, Signal::Failing(&caused(Severity::Warning, cause)), TWICE, "t", at(8, 0)).0;
        let then = |before: Option<Alert>, severity, cause| {
            let next =
                advance(before.as_ref(), Signal::Failing(&caused(severity, cause)), TWICE, "t", at(9, 30)).0.unwrap();
            next.finding.cause
        };
        assert_eq!(then(began(None), Severity::Warning, change(9)), None, "a bystander");
        assert_eq!(then(began(None), Severity::Warning, change(7)), change(7), "reported late");
        assert_eq!(then(began(change(7)), Severity::Warning, change(9)), change(7));
        assert_eq!(then(began(change(7)), Severity::Critical, change(9)), change(9), "worse by this");
    }

    proptest! {
        /// Every failing stretch that is long enough is sent exactly once as firing, then exactly once as resolved.
        #[test]
        fn firing_and_resolved_alternate(signals in "[bBg?x]{0,40}") {
            let thresholds = Thresholds { remind_every: None, ..TWICE };
            // A history of one severity has no rises, so that firing and resolved must alternate.
            let signals = signals.replace('B', "b");
            let heard_all: String = heard(&signals, thresholds, 1).replace('.', "");
            prop_assert!(heard_all.chars().enumerate().all(|(index, kind)| kind == if index % 2 == 0 { 'F' } else { 'R' }), "{} {}", signals, heard_all);
            prop_assert_eq!(heard_all.is_empty(), !signals.replace('?', "").contains("bb"), "{} {}", signals, heard_all);
            // Two passing results, or an absent resource, end every alert.
            let ended = heard(&format!("{signals}gg"), thresholds, 1).replace('.', "");
            prop_assert!(ended.is_empty() || ended.ends_with('R'), "{} {}", signals, ended);
        }
    }
}
