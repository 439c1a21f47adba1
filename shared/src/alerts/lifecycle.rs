//! When to say something, and when to stay silent. Pure: the clock is an input.
//!
//! An alert is *pending* (bad, not yet often enough), then *firing*, then *resolved*. People hear once that it fires,
//! once that its severity rises, a reminder now and then, and once that it is over.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checks::{Check, Finding, Severity, Status};
use crate::config::Policy;
use crate::trigger::Change;

/// What is remembered of one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Where it stands.
    pub phase: Phase,
    /// The worst severity since it began.
    pub severity: Severity,
    /// Bad observations in a row, while pending.
    pub bad: u32,
    /// Good observations in a row, while firing.
    pub good: u32,
    /// The first bad observation of this stretch.
    pub since: Timestamp,
    /// When something was last said of it.
    pub last_said: Timestamp,
    /// The incident it belongs to.
    pub thread: String,
    /// The latest finding.
    pub finding: Finding,
    /// Why its check cannot tell at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Bad, not yet often enough.
    Pending,
    /// People were told.
    Firing,
    /// Over.
    Resolved,
}

/// What happened, as people hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something is wrong, or got worse.
    Firing,
    /// It is still wrong.
    Reminder,
    /// It is over.
    Resolved,
    /// Something happened that is not wrong.
    Notice,
}

impl Kind {
    /// The lower-case word, as in message attributes.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Reminder => "reminder",
            Self::Resolved => "resolved",
            Self::Notice => "notice",
        }
    }
}

/// How long to wait before believing, and before repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Bad observations in a row before it fires.
    pub alert_after: u32,
    /// Good observations in a row before it resolves.
    pub resolve_after: u32,
    /// Time between reminders.
    pub remind_every: Option<Duration>,
}

impl Patience {
    /// What the policy asks for this check: those that report settings fire and resolve at the first look.
    #[must_use]
    pub fn of(check: Check, policy: &Policy) -> Self {
        let (alert_after, resolve_after) =
            if check.wavers() { (policy.alert_after, policy.resolve_after) } else { (1, 1) };
        Self { alert_after, resolve_after, remind_every: policy.remind_every }
    }
}

/// One look at what an alert is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Look<'a> {
    /// It is wrong.
    Bad(&'a Finding),
    /// It is right.
    Good,
    /// It could not be told, and why.
    Unknown(&'a str),
    /// What it was about is no longer there.
    Gone,
}

impl<'a> From<&'a Status> for Look<'a> {
    fn from(status: &'a Status) -> Self {
        match status {
            Status::Pass => Self::Good,
            Status::Fail(finding) => Self::Bad(finding),
            Status::Unknown(why) => Self::Unknown(why),
        }
    }
}

/// What `alert` becomes after one more look, and what people must hear of it.
///
/// `thread` names the incident a new alert joins.
#[must_use]
pub fn advance(
    alert: Option<&Alert>,
    look: Look<'_>,
    patience: Patience,
    thread: &str,
    now: Timestamp,
) -> (Option<Alert>, Option<Kind>) {
    let current = alert.filter(|alert| alert.phase != Phase::Resolved);
    match (current, look) {
        (None, Look::Bad(finding)) => worsen(&begin(finding, thread, now), finding, patience, now),
        (None, _) => (alert.cloned(), None),
        (Some(alert), Look::Bad(finding)) => worsen(alert, finding, patience, now),
        (Some(alert), Look::Good) => mend(alert, patience.resolve_after, now),
        (Some(alert), Look::Gone) => mend(alert, 0, now),
        (Some(alert), Look::Unknown(why)) => {
            // Neither good nor bad: it stays what it is, and the next reminder says that nobody can tell.
            let alert = Alert { unknown: Some(why.to_owned()), ..alert.clone() };
            remind(alert, patience, now)
        }
    }
}

fn begin(finding: &Finding, thread: &str, now: Timestamp) -> Alert {
    Alert {
        phase: Phase::Pending,
        severity: finding.severity,
        bad: 0,
        good: 0,
        since: now,
        last_said: now,
        thread: thread.to_owned(),
        finding: finding.clone(),
        unknown: None,
    }
}

fn worsen(alert: &Alert, finding: &Finding, patience: Patience, now: Timestamp) -> (Option<Alert>, Option<Kind>) {
    let rose = finding.severity > alert.severity;
    let mut next = Alert { good: 0, unknown: None, severity: alert.severity.max(finding.severity), ..alert.clone() };
    // What changed it is known to the run that CloudTrail rang, and to no later one. A change that came after it began
    // did not bring it about, unless it made it worse.
    let known = alert.finding.cause.clone();
    let caused = |change: &&Change| rose || change.at.parse().is_ok_and(|at: Timestamp| at <= alert.since);
    let told = finding.cause.as_ref().filter(caused).cloned();
    next.finding = Finding { cause: if rose { told.or(known) } else { known.or(told) }, ..finding.clone() };
    if next.phase == Phase::Firing {
        if !rose {
            return remind(next, patience, now);
        }
    } else {
        next.bad = next.bad.saturating_add(1);
        if next.bad < patience.alert_after {
            return (Some(next), None);
        }
        next.phase = Phase::Firing;
    }
    next.last_said = now;
    (Some(next), Some(Kind::Firing))
}

fn mend(alert: &Alert, resolve_after: u32, now: Timestamp) -> (Option<Alert>, Option<Kind>) {
    if alert.phase == Phase::Pending {
        // It never fired, so nobody need hear that it is over.
        return (Some(Alert { phase: Phase::Resolved, ..alert.clone() }), None);
    }
    let mut next = Alert { good: alert.good.saturating_add(1), unknown: None, ..alert.clone() };
    if next.good < resolve_after {
        return (Some(next), None);
    }
    next.phase = Phase::Resolved;
    next.last_said = now;
    (Some(next), Some(Kind::Resolved))
}

fn remind(mut alert: Alert, patience: Patience, now: Timestamp) -> (Option<Alert>, Option<Kind>) {
    let due = patience.remind_every.is_some_and(|every| now.duration_since(alert.last_said).unsigned_abs() >= every);
    // What is merely worth knowing is said once.
    if alert.phase != Phase::Firing || alert.finding.severity == Severity::Info || !due {
        return (Some(alert), None);
    }
    alert.last_said = now;
    (Some(alert), Some(Kind::Reminder))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, finding};

    const TWICE: Patience = Patience { alert_after: 2, resolve_after: 2, remind_every: Some(Duration::from_hours(2)) };

    /// Plays one look a minute (`i`nfo, `b`ad, `B` worse, `g`ood, `?` unknown, `x` gone) and writes down what was said:
    /// `F`iring, `R`esolved, `r`eminder, `.` nothing.
    fn said(looks: &str, patience: Patience, minutes: i64) -> String {
        let (info, warning, critical) =
            (finding(Severity::Info), finding(Severity::Warning), finding(Severity::Critical));
        let mut alert = None;
        let mut now = at(8, 0);
        let mut said = String::new();
        for look in looks.chars() {
            let look = match look {
                'i' => Look::Bad(&info),
                'b' => Look::Bad(&warning),
                'B' => Look::Bad(&critical),
                'g' => Look::Good,
                '?' => Look::Unknown("no answer"),
                _ => Look::Gone,
            };
            let (next, kind) = advance(alert.as_ref(), look, patience, "thread", now);
            alert = next;
            said.push(match kind {
                Some(Kind::Firing) => 'F',
                Some(Kind::Resolved) => 'R',
                Some(Kind::Reminder) => 'r',
                Some(Kind::Notice) => 'n',
                None => '.',
            });
            now += jiff::SignedDuration::from_mins(minutes);
        }
        said
    }

    #[test]
    fn histories() {
        let table = [
            ("ggg", "...", "nothing was ever bad"),
            ("bgbg", "....", "never bad often enough"),
            ("bbbb", ".F..", "told once"),
            ("bbgg", ".F.R", "told once, resolved once"),
            ("bbgbgbgg", ".F.....R", "flapping says nothing new"),
            ("bbB", ".FF", "severity rises"),
            ("bbBbBgg", ".FF...R", "severity falls and rises again: known already"),
            ("BBb", ".F.", "severity falls"),
            ("bb??gg", ".F...R", "unknown neither resolves nor repeats"),
            ("b?b", "..F", "unknown does not count, and does not start again either"),
            ("???", "...", "unknown is not bad"),
            ("bbx", ".FR", "what is gone is over at once"),
            ("bx", "..", "gone before it fired"),
            ("bbggbbgg", ".F.R.F.R", "a second stretch is told again"),
            ("xgx", "...", "nothing to resolve"),
        ];
        for (looks, expected, why) in table {
            assert_eq!(said(looks, TWICE, 1), expected, "{looks}: {why}");
        }
    }

    #[test]
    fn settings_fire_and_resolve_at_the_first_look() {
        let at_once = Patience { alert_after: 1, resolve_after: 1, ..TWICE };
        assert_eq!(said("bbgb", at_once, 1), "F.RF");
    }

    #[test]
    fn a_firing_alert_is_repeated_now_and_then() {
        assert_eq!(said("bbbbbb", TWICE, 60), ".F.r.r");
        assert_eq!(said("bb????gg", TWICE, 60), ".F.r.r.R", "also while nobody can tell");
        assert_eq!(said("bbbbbb", Patience { remind_every: None, ..TWICE }, 6000), ".F....");
        assert_eq!(said("iiiiibbb", TWICE, 60), ".F...F.r", "what is merely worth knowing is said once");
    }

    #[test]
    fn the_cause_outlives_the_look_that_knew_it() {
        let caused = Finding { cause: Some(crate::testing::change()), ..finding(Severity::Warning) };
        let (alert, _) = advance(None, Look::Bad(&caused), TWICE, "t", at(8, 0));
        let (alert, kind) = advance(alert.as_ref(), Look::Bad(&finding(Severity::Warning)), TWICE, "t", at(8, 1));
        assert_eq!(kind, Some(Kind::Firing));
        assert_eq!(alert.unwrap().finding.cause, caused.cause);
    }

    #[test]
    fn what_came_after_it_began_is_not_its_cause_unless_it_made_it_worse() {
        let change = |hour: u8| Some(Change { at: format!("2026-03-14T{hour:02}:00:00Z"), ..crate::testing::change() });
        let told = |severity, cause| Finding { cause, ..finding(severity) };
        let began = |cause| advance(None, Look::Bad(&told(Severity::Warning, cause)), TWICE, "t", at(8, 0)).0;
        let then = |before: Option<Alert>, severity, cause| {
            let next = advance(before.as_ref(), Look::Bad(&told(severity, cause)), TWICE, "t", at(9, 30)).0.unwrap();
            next.finding.cause
        };
        assert_eq!(then(began(None), Severity::Warning, change(9)), None, "a bystander");
        assert_eq!(then(began(None), Severity::Warning, change(7)), change(7), "told of late");
        assert_eq!(then(began(change(7)), Severity::Warning, change(9)), change(7));
        assert_eq!(then(began(change(7)), Severity::Critical, change(9)), change(9), "worse by this");
    }

    proptest! {
        /// Every stretch long enough is told exactly once as firing, then exactly once as resolved, and nothing else.
        #[test]
        fn firing_and_resolved_alternate(looks in "[bBg?x]{0,40}") {
            let patience = Patience { remind_every: None, ..TWICE };
            // A history of one severity has no rises, so that firing and resolved must alternate.
            let looks = looks.replace('B', "b");
            let told: String = said(&looks, patience, 1).replace('.', "");
            prop_assert!(told.chars().enumerate().all(|(index, kind)| kind == if index % 2 == 0 { 'F' } else { 'R' }), "{} {}", looks, told);
            prop_assert_eq!(told.is_empty(), !looks.replace('?', "").contains("bb"), "{} {}", looks, told);
            // Two good looks, or a resource that is gone, end whatever there was.
            let ended = said(&format!("{looks}gg"), patience, 1).replace('.', "");
            prop_assert!(ended.is_empty() || ended.ends_with('R'), "{} {}", looks, ended);
        }
    }
}
