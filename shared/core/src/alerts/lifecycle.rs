//! The life of an alert: *pending* (failing, but not often enough yet), *firing*, *resolved*. Pure: the clock is an
//! input.
//!
//! An alert is sent when it fires, when it gets worse than last sent, when it has a new part, as a reminder, when its
//! cause becomes known later, and when it is over. While a silence matches, the alert continues but nothing is sent.
//! After the silence, the alert is sent at once if it still fires, or if it is over and its firing was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::check::{Check, Finding, PartStatus, Severity, Status};
use crate::config::Policy;
use crate::trigger::Change;

/// Minimum time between two messages of an alert that others can make fire and resolve at will with its severity
/// ([`Finding::provokable`]). If the alert still fires after this time, it is sent.
const PROVOKED_SILENCE: SignedDuration = SignedDuration::from_hours(24);

/// The stored state of one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub phase: Phase,
    /// Consecutive failing results while pending.
    pub failing: u32,
    /// Consecutive passing results while firing.
    pub passing: u32,
    /// Consecutive results milder than the severity last sent.
    pub milder: u32,
    /// The run that last counted a result. A retry has the same id, and its result is not counted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_by: Option<String>,
    /// When the first failing result was found.
    pub since: Timestamp,
    pub last_notified: Timestamp,
    /// The severity last sent while firing; `None` until the firing was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified: Option<Severity>,
    /// Time and severity of the last message as firing, kept after the alert is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fired: Option<(Timestamp, Severity)>,
    /// The parts of the finding, and whether each was sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, KnownPart>,
    pub incident: String,
    pub finding: Finding,
    /// The reason why the check's result is unknown at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Whether a silence holds it back, or held it back and no message was sent since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silenced: bool,
}

/// One part of a finding: its last severity, its consecutive results, and whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPart {
    pub severity: Severity,
    /// Consecutive results with it.
    pub failing: u32,
    /// Consecutive results without it.
    pub absent: u32,
    pub notified: bool,
}

/// The phase of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Failing, but not often enough yet.
    Pending,
    /// Failing often enough.
    Firing,
    Resolved,
}

impl Alert {
    /// Whether it is over, with nothing left to send.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Resolved && self.notified.is_none()
    }
}

/// The numbers of results that fire and resolve an alert, and the interval between reminders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub alert_after: u32,
    pub resolve_after: u32,
    pub remind_every: Option<Duration>,
}

impl Thresholds {
    /// The policy's thresholds for `check`. The first result fires or resolves an alert of a check that cannot flap.
    pub fn for_check(check: Check, policy: &Policy) -> Self {
        let (alert_after, resolve_after) =
            if check.can_flap { (policy.alert_after, policy.resolve_after) } else { (1, 1) };
        Self { alert_after, resolve_after, remind_every: policy.remind_every }
    }
}

/// One run's result for an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Signal<'a> {
    Failing(&'a Finding),
    /// The check passes, with the fact that holds now.
    Passing(&'a str),
    /// The check's result is unknown, with the reason.
    Unknown(&'a str),
    /// The resource no longer exists, or is no longer behind the endpoint service.
    Gone,
    /// The alert's check or resource is no longer watched.
    Unwatched,
}

impl<'a> Signal<'a> {
    /// The signal of `status`; `None` if the check was not asked.
    pub fn of(status: &'a Status) -> Option<Self> {
        match status {
            Status::Pass(now_true) => Some(Self::Passing(now_true)),
            Status::Fail(finding) => Some(Self::Failing(finding)),
            Status::Unknown(why) => Some(Self::Unknown(why)),
            Status::NotAsked => None,
        }
    }
}

/// An event of an alert that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It fires, got worse than last sent, or has a new part.
    Fired,
    Reminded,
    /// A change that caused it became known.
    CauseFound,
    /// It fell from this severity, and that lasted; sent only for a fall to info or for a provokable finding.
    Eased(Severity),
    /// The check passes again.
    Recovered,
    /// It is over because the resource is gone.
    Gone,
    /// It is over because nothing checks it any more.
    Unwatched,
}

/// The facts of a run that affect an alert.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// The run's id, which a retry shares with the run it repeats.
    pub run: &'a str,
    pub now: Timestamp,
    /// The incident that a new alert joins.
    pub incident: &'a str,
    /// Whether a silence matches the alert.
    pub silenced: bool,
}

/// The next state of `alert` after `signal`, and the event to send.
pub fn advance(
    alert: Option<&Alert>,
    signal: Signal<'_>,
    thresholds: Thresholds,
    moment: Now<'_>,
) -> (Option<Alert>, Option<Event>) {
    let current = alert.filter(|alert| !alert.is_over());
    let (next, event) = match (current, signal) {
        (None, Signal::Failing(finding)) => {
            let last_fired = alert.and_then(|alert| alert.last_fired);
            on_failing(begin(finding, last_fired, moment), finding, thresholds, moment)
        }
        (None, _) => return (alert.cloned(), None),
        (Some(alert), Signal::Failing(finding)) => on_failing(alert.clone(), finding, thresholds, moment),
        (Some(alert), Signal::Passing(_)) => on_passing(alert.clone(), thresholds, moment),
        (Some(alert), Signal::Gone) => end(alert.clone(), Event::Gone, moment),
        (Some(alert), Signal::Unwatched) => end(alert.clone(), Event::Unwatched, moment),
        (Some(alert), Signal::Unknown(why)) => {
            // An unknown result neither fails nor passes: the alert stays as it is, and the next reminder reports the
            // unknown result.
            let silenced = alert.silenced || moment.silenced;
            let next = Alert { unknown: Some(why.to_owned()), silenced, ..alert.clone() };
            remind(next, alert.silenced, thresholds, moment)
        }
    };
    (Some(next), event)
}

fn begin(finding: &Finding, last_fired: Option<(Timestamp, Severity)>, moment: Now<'_>) -> Alert {
    Alert {
        phase: Phase::Pending,
        failing: 0,
        passing: 0,
        milder: 0,
        counted_by: None,
        since: moment.now,
        last_notified: moment.now,
        notified: None,
        last_fired,
        parts: BTreeMap::new(),
        incident: moment.incident.to_owned(),
        finding: finding.clone(),
        unknown: None,
        silenced: false,
    }
}

fn on_failing(alert: Alert, finding: &Finding, thresholds: Thresholds, moment: Now<'_>) -> (Alert, Option<Event>) {
    let (finding, unknown) = &with_unknown_parts(&alert, finding);
    let is_retry = alert.counted_by.as_deref() == Some(moment.run);
    let known_cause = alert.finding.cause.clone();
    let was_silenced = alert.silenced;
    // A silence hid the end of the alert: for the reader, it never ended.
    let phase = if alert.phase == Phase::Resolved { Phase::Pending } else { alert.phase };
    let worse = alert.notified.is_some_and(|heard| finding.severity > heard);
    let has_new_part = alert.notified.is_some() && finding.failing_parts().any(|part| !alert.parts.contains_key(part));
    let mut next = Alert {
        phase,
        passing: 0,
        unknown: unknown.clone(),
        silenced: was_silenced || moment.silenced,
        counted_by: Some(moment.run.to_owned()),
        finding: with_cause(&alert, finding, worse || has_new_part),
        failing: count(alert.failing, is_retry),
        ..alert
    };
    count_parts(&mut next, is_retry, thresholds);
    if next.phase == Phase::Pending {
        if next.failing < thresholds.alert_after {
            return (next, None);
        }
        next.phase = Phase::Firing;
        if next.notified.is_none() && (moment.silenced || provoked_recently(&next, moment.now)) {
            return (next, None);
        }
        if next.notified.is_none() {
            return fire(next, moment);
        }
    }
    if moment.silenced {
        return (next, None);
    }
    if has_news(&next, thresholds, moment.now) {
        return fire(next, moment);
    }
    // A silence or the limit on provokable alerts held the alert back until now.
    if next.notified.is_none() && !provoked_recently(&next, moment.now) {
        return fire(next, moment);
    }
    if let Some(event) = remember_milder(&mut next, is_retry, thresholds) {
        next.last_notified = moment.now;
        return (next, Some(event));
    }
    if next.notified.is_some() && next.finding.cause != known_cause && !was_silenced {
        return (next, Some(Event::CauseFound));
    }
    remind(next, was_silenced, thresholds, moment)
}

/// Whether the alert is worse than last sent, or has a part that was not sent.
fn has_news(alert: &Alert, thresholds: Thresholds, now: Timestamp) -> bool {
    // New parts that others can add at will are sent at most once a day.
    let is_due = alert.finding.provokable.is_none() || now.duration_since(alert.last_notified) >= PROVOKED_SILENCE;
    let is_new = |part: &KnownPart| is_due && !part.notified && part.failing >= thresholds.alert_after;
    let is_news = |heard: Severity| alert.finding.severity > heard || alert.parts.values().any(is_new);
    alert.notified.is_some_and(is_news)
}

/// One more consecutive result. A retry, or a second read of the same run, repeats its run's result and counts only if
/// it is the first.
fn count(results: u32, is_retry: bool) -> u32 {
    if is_retry { results.max(1) } else { results.saturating_add(1) }
}

/// The finding, and the reason why a part of it is unknown if that part may be worse than the known failures. In that
/// case the stored finding stays, because a failed read makes nothing milder.
fn with_unknown_parts(alert: &Alert, finding: &Finding) -> (Finding, Option<String>) {
    let failed = alert.parts.iter().filter(|(_, known)| known.failing > 0);
    let unknown = failed.filter_map(|(name, known)| match finding.part(name) {
        Some(PartStatus::Unknown(why)) => Some((known.severity, why)),
        _ => None,
    });
    // The unread rest was no worse than the whole finding.
    let rest = finding.rest().filter(|_| alert.passing == 0).map(|why| (alert.finding.severity, why));
    match unknown.chain(rest).max_by_key(|(severity, _)| *severity) {
        Some((severity, why)) if severity > finding.severity => {
            let mut known = alert.finding.clone();
            if finding.failing_parts().any(|part| !alert.parts.contains_key(part)) {
                known.evidence.push(format!("also: {}", finding.summary));
            }
            let ids = known.ids.union(&finding.ids).cloned().collect();
            (Finding { parts: finding.parts.clone(), ids, severity, ..known }, Some(why.clone()))
        }
        _ => (finding.clone(), None),
    }
}

/// The finding with its known cause. A change after the last message cannot be the cause of the failure in that
/// message, but can be the cause of a new or worse failure.
fn with_cause(alert: &Alert, finding: &Finding, has_news: bool) -> Finding {
    if has_news {
        // A silence can hold the same news back for several runs.
        let same_news = (alert.finding.severity, &alert.finding.parts) == (finding.severity, &finding.parts);
        let known = alert.finding.cause.clone().filter(|_| same_news);
        return Finding { cause: finding.cause.clone().or(known), ..finding.clone() };
    }
    let fired = alert.last_fired.map_or(alert.since, |(at, _)| at.max(alert.since));
    let came_before = |time: &str| time.parse().is_ok_and(|at: Timestamp| at <= fired);
    let known = &alert.finding.cause;
    // The last change before the alert is its likeliest cause.
    let is_later = |change: &Change| known.as_ref().is_none_or(|known| change.event_time > known.event_time);
    let late = finding.cause.as_ref().filter(|change| came_before(&change.event_time) && is_later(change));
    Finding { cause: late.or(known.as_ref()).cloned(), ..finding.clone() }
}

/// The alert with the cause in `finding`, if that change came before the alert and after the known cause.
pub fn with_late_cause(alert: &Alert, finding: &Finding) -> Alert {
    Alert { finding: with_cause(alert, finding, false), ..alert.clone() }
}

/// Counts the parts of the current finding. A part that is absent for `resolve_after` results is dropped, so that its
/// return is sent.
fn count_parts(alert: &mut Alert, is_retry: bool, thresholds: Thresholds) {
    for (name, status) in &alert.finding.parts {
        if let PartStatus::Failing(severity) = status {
            let new = KnownPart { severity: *severity, failing: 0, absent: 0, notified: false };
            alert.parts.entry(name.clone()).or_insert(new);
        }
    }
    for (name, part) in &mut alert.parts {
        *part = match alert.finding.part(name) {
            Some(PartStatus::Failing(severity)) => {
                KnownPart { severity: *severity, failing: count(part.failing, is_retry), absent: 0, ..*part }
            }
            Some(PartStatus::Unknown(_)) if part.failing > 0 => *part,
            Some(PartStatus::Unknown(_)) | None => {
                KnownPart { failing: 0, absent: count(part.absent, is_retry), ..*part }
            }
        };
    }
    alert.parts.retain(|_, part| part.absent < thresholds.resolve_after);
}

/// A fall to warning that lasts `resolve_after` results is recorded without a message, so that the next rise is sent. A
/// fall to info is sent, because info alerts get no reminders.
fn remember_milder(alert: &mut Alert, is_retry: bool, thresholds: Thresholds) -> Option<Event> {
    let Some(heard) = alert.notified.filter(|heard| alert.finding.severity < *heard) else {
        alert.milder = 0;
        return None;
    };
    alert.milder = count(alert.milder, is_retry);
    if alert.milder < thresholds.resolve_after {
        return None;
    }
    (alert.notified, alert.milder) = (Some(alert.finding.severity), 0);
    // A reader who has run the command for the critical failure still needs to know the rest.
    (alert.finding.severity == Severity::Info || alert.finding.provokable.is_some()).then_some(Event::Eased(heard))
}

/// Whether the alert was sent recently and others can make it fire and resolve at will.
fn provoked_recently(alert: &Alert, now: Timestamp) -> bool {
    let recent = |(at, heard): (Timestamp, Severity)| {
        now.duration_since(at) < PROVOKED_SILENCE && alert.finding.severity <= heard
    };
    let is_provoked = alert.finding.provokable.is_some_and(|up_to| alert.finding.severity <= up_to);
    is_provoked && alert.last_fired.is_some_and(recent)
}

fn fire(mut alert: Alert, moment: Now<'_>) -> (Alert, Option<Event>) {
    let severity = alert.finding.severity;
    alert.notified = Some(severity);
    alert.last_notified = moment.now;
    alert.last_fired = Some((moment.now, severity));
    alert.silenced = false;
    alert.milder = 0;
    for part in alert.parts.values_mut().filter(|part| part.absent == 0 && part.failing > 0) {
        part.notified = true;
    }
    (alert, Some(Event::Fired))
}

fn on_passing(alert: Alert, thresholds: Thresholds, moment: Now<'_>) -> (Alert, Option<Event>) {
    let passing = count(alert.passing, alert.counted_by.as_deref() == Some(moment.run));
    let next = Alert {
        parts: without_failing(alert.parts),
        passing,
        failing: 0,
        unknown: None,
        silenced: alert.silenced || moment.silenced,
        counted_by: Some(moment.run.to_owned()),
        ..alert
    };
    if next.phase == Phase::Firing && next.passing < thresholds.resolve_after {
        return (next, None);
    }
    end(next, Event::Recovered, moment)
}

fn without_failing(parts: BTreeMap<String, KnownPart>) -> BTreeMap<String, KnownPart> {
    parts.into_iter().map(|(name, part)| (name, KnownPart { failing: 0, ..part })).collect()
}

/// Ends the alert. An alert whose firing was not sent ends without a message. A matching silence delays the message.
fn end(alert: Alert, event: Event, moment: Now<'_>) -> (Alert, Option<Event>) {
    let heard = alert.notified.is_some();
    if heard && moment.silenced {
        let parts = without_failing(alert.parts);
        return (Alert { phase: Phase::Resolved, silenced: true, parts, ..alert }, None);
    }
    let last_notified = if heard { moment.now } else { alert.last_notified };
    (Alert { phase: Phase::Resolved, notified: None, silenced: false, last_notified, ..alert }, heard.then_some(event))
}

/// Sends a firing alert again if a reminder is due or a silence has just ended.
fn remind(mut alert: Alert, was_silenced: bool, thresholds: Thresholds, moment: Now<'_>) -> (Alert, Option<Event>) {
    let age = moment.now.duration_since(alert.last_notified).unsigned_abs();
    let due = was_silenced || thresholds.remind_every.is_some_and(|every| age >= every);
    // Alerts of severity info are sent once.
    let once = alert.finding.severity == Severity::Info && (alert.notified.is_some() || !was_silenced);
    if moment.silenced || alert.phase != Phase::Firing || once || !due {
        alert.silenced &= moment.silenced || !once;
        return (alert, None);
    }
    if alert.notified.is_none() || (was_silenced && has_news(&alert, thresholds, moment.now)) {
        return fire(alert, moment);
    }
    // The reminder shows the current severity.
    alert.notified = Some(alert.finding.severity);
    alert.milder = 0;
    alert.last_notified = moment.now;
    alert.silenced = false;
    (alert, Some(Event::Reminded))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, change, finding};
    use crate::trigger::Change;

    const TWICE: Thresholds =
        Thresholds { alert_after: 2, resolve_after: 2, remind_every: Some(Duration::from_hours(2)) };

    const AT_ONCE: Thresholds = Thresholds { alert_after: 1, resolve_after: 1, ..TWICE };

    /// The finding for a letter: `i`nfo, `b`ad, `B` worse; `p` and `P` are the same, and provokable; `1` and `2` have
    /// that part, `3` has both. `K` has part `1`, critical, and part `2`, a warning; in `k` part `1` is unknown, in `r`
    /// all but part `2`.
    fn failing(letter: char) -> Option<Finding> {
        let severity = match letter {
            'i' => Severity::Info,
            'b' | 'p' | '1'..='3' | 'k' | 'r' => Severity::Warning,
            'B' | 'K' | 'P' => Severity::Critical,
            _ => return None,
        };
        let parts: &[&str] = match letter {
            '1' => &["1"],
            '2' | 'K' | 'k' | 'r' => &["2"],
            '3' => &["1", "2"],
            _ => &[],
        };
        let finding = Finding { provokable: provokable(letter), severity: Severity::Warning, ..finding(severity) };
        let mut finding = Finding { severity, ..finding.with_parts(parts.iter().copied()) };
        let unread = || "no answer".to_owned();
        match letter {
            'K' => drop(finding.parts.insert("1".to_owned(), PartStatus::Failing(Severity::Critical))),
            'k' => drop(finding.parts.insert("1".to_owned(), PartStatus::Unknown(unread()))),
            'r' => finding = finding.with_unknown_rest(Some(unread())),
            _ => {}
        }
        Some(finding)
    }

    fn provokable(letter: char) -> Option<Severity> {
        match letter {
            'p' => Some(Severity::Warning),
            'P' => Some(Severity::Critical),
            _ => None,
        }
    }

    /// Plays one signal per run (as [`failing`], and `g`ood, `?` unknown, `x` gone, `u` unwatched; `'` repeats the
    /// previous run as a retry) and records the messages: `F`ired, `R`ecovered, `r`eminder, `e`ased to info, `x` gone,
    /// `u` unwatched. A silence matches the runs between parentheses.
    fn heard(signals: &str, thresholds: Thresholds, minutes: i64) -> String {
        play(signals, thresholds, minutes).0
    }

    /// The events as [`heard`] records them, and the resulting alert.
    fn play(signals: &str, thresholds: Thresholds, minutes: i64) -> (String, Alert) {
        let (mut alert, mut heard, mut now, mut run, mut previous) = (None, String::new(), at(8, 0), 0, 'g');
        let mut silenced = false;
        for letter in signals.chars() {
            if matches!(letter, '(' | ')') {
                silenced = letter == '(';
                continue;
            }
            run += u32::from(letter != '\'');
            let letter = if letter == '\'' { previous } else { letter };
            let finding = failing(letter);
            let signal = match (&finding, letter) {
                (Some(finding), _) => Signal::Failing(finding),
                (None, 'g') => Signal::Passing("right"),
                (None, '?') => Signal::Unknown("no answer"),
                (None, 'u') => Signal::Unwatched,
                (None, _) => Signal::Gone,
            };
            let id = run.to_string();
            let moment = Now { run: &id, now, incident: "incident", silenced };
            let (next, event) = advance(alert.as_ref(), signal, thresholds, moment);
            heard.push(match event {
                Some(Event::Fired) => 'F',
                Some(Event::Recovered) => 'R',
                Some(Event::Reminded) => 'r',
                Some(Event::CauseFound) => 'c',
                Some(Event::Eased(_)) => 'e',
                Some(Event::Gone) => 'x',
                Some(Event::Unwatched) => 'u',
                None => '.',
            });
            (alert, previous) = (next, letter);
            now += SignedDuration::from_mins(minutes);
        }
        (heard, alert.unwrap_or_else(|| begin(&finding(Severity::Info), None, NEVER)))
    }

    /// The moment for an alert that never began.
    const NEVER: Now<'_> = Now { run: "", now: Timestamp::MIN, incident: "", silenced: false };

    #[test]
    fn a_stored_alert_keeps_unknown_silence_and_last_message() {
        let state = |signals: &str| play(signals, TWICE, 1).1;
        assert_eq!(state("bb?").unknown.as_deref(), Some("no answer"), "the next reminder says so");
        assert_eq!(state("bb?b").unknown, None);
        assert_eq!(state("bb?g").unknown, None);
        assert!(state("bb(b").silenced && state("ii(i").silenced);
        assert!(!state("ii(i)i").silenced, "info is not sent again, and counts as firing again");
        assert!(!state("(bb)gg").silenced, "it is over");
        assert_eq!(state("bbgg").last_notified, at(8, 3), "people heard that it is over");
        assert_eq!(state("bg").last_notified, at(8, 0), "nobody heard anything");
    }

    #[test]
    fn a_silence_delays_messages_until_it_ends() {
        let table = [
            ("(bbb)bb", "...F.", "what still fires is sent when the silence ends"),
            ("(bbgg)bb", ".....F", "what fired and resolved meanwhile was never heard of, and starts anew"),
            ("(b)b", ".F", "failing results count during a silence"),
            ("bb(bb)b", ".F..r", "known before, still firing: sent again"),
            ("bb(bB)B", ".F..F", "it got worse meanwhile"),
            ("11(33)3", ".F..F", "a new part meanwhile"),
            ("bb(gg)gg", ".F..R.", "over meanwhile: sent afterwards, once"),
            ("bb(gg)?g", ".F...R", "but not on an unknown result"),
            ("bb(gg)xx", ".F..x.", "gone afterwards"),
            ("bb(x)x", ".F.x", "gone meanwhile"),
            ("bb(x)bb", ".F.r.", "gone and back: people believe that it never ended"),
            ("bb(g)bb", ".F.r.", "one passing result does not hide that a silence has ended"),
            ("bb(gg)bb", ".F...r", "over and firing again: people believe that it never ended"),
            ("bb(gg)?bb", ".F....r", "also after an unknown result"),
            ("bb(ggbb)g", ".F.....", "one passing result"),
            ("(bb)gb", "...F", "one passing result in between, of two that it takes"),
            ("(ii)gi", "...F", "info too"),
            ("bb(bb)gb", ".F...r", "known before"),
            ("bb(?)?", ".F.r", "an unknown result does not hide that it fires"),
            ("(bb?)?", "...F", "nor that it fired meanwhile"),
            ("(ii)ii", "..F.", "info too, once"),
            ("ii(ii)ii", ".F....", "info that was sent is not repeated"),
        ];
        for (signals, expected, why) in table {
            assert_eq!(heard(signals, TWICE, 1), expected, "{signals}: {why}");
        }
        let hourly = |signals| heard(signals, TWICE, 60);
        assert_eq!(hourly("bb(bbbb)bbb"), ".F....r.r", "no reminder meanwhile");
    }

    #[test]
    fn each_history_sends_the_expected_messages() {
        let table = [
            ("ggg", "...", "never failing"),
            ("bgbg", "....", "never failing often enough"),
            ("bbbb", ".F..", "sent once"),
            ("bbgg", ".F.R", "sent once, resolved once"),
            ("bbgbgbgg", ".F.....R", "flapping sends nothing new"),
            ("bbB", ".FF", "severity rises"),
            ("bbBbBgg", ".FF...R", "severity falls for one result only, and rises again: people know it"),
            ("bbBbbBgg", ".FF..F.R", "severity falls for two results, and rises again"),
            ("BBb", ".F.", "severity falls"),
            ("BBBbB", ".F...", "what stays as bad as people know is not milder"),
            ("bb??gg", ".F...R", "unknown neither resolves nor repeats"),
            ("b?b", "..F", "unknown does not count, and does not start again either"),
            ("???", "...", "unknown is not failing"),
            ("bbx", ".Fx", "gone is over at once, and is not recovered"),
            ("bbu", ".Fu", "unwatched is over at once, and is not recovered"),
            ("bx", "..", "gone before it fired"),
            ("bbggbbgg", ".F.R.F.R", "a second alert is sent again"),
            ("xgx", "...", "nothing to resolve"),
            ("b'bb", "..F.", "a retry of the same run is one result"),
            ("bbg'g", ".F..R", "also when passing"),
            ("113333", ".F.F..", "a new part counts like a new alert"),
            ("1121", ".F..", "a part that comes and goes is not new"),
            ("112121", ".F....", "also if it comes again: results count only if they follow each other"),
        ];
        for (signals, expected, why) in table {
            assert_eq!(heard(signals, TWICE, 1), expected, "{signals}: {why}");
        }
    }

    #[test]
    fn settings_fire_and_resolve_with_the_first_result() {
        let table = [
            ("bbgb", "F.RF", "one result decides"),
            ("bBbBg", "FF.FR", "worse, better, worse again"),
            ("13g", "FFR", "another part fails"),
            ("3123", "F.FF", "a part that was fixed fails again"),
            ("32", "F.", "one part is fixed, and the other is known"),
        ];
        for (signals, expected, why) in table {
            assert_eq!(heard(signals, AT_ONCE, 1), expected, "{signals}: {why}");
        }
    }

    #[test]
    fn a_provoked_warning_is_sent_at_most_once_a_day() {
        let provoked = Thresholds { remind_every: None, ..AT_ONCE };
        assert_eq!(heard("pgpgpg", provoked, 10), "FR....");
        assert_eq!(heard("pgBgBg", provoked, 10), "FRFRFR");
        assert_eq!(heard("PgPgPg", provoked, 10), "FR....", "so is a critical one that others can cause");
        assert_eq!(heard("pgPgP", provoked, 10), "FRFR.", "it gets worse once");
        assert_eq!(heard("pgppBg", provoked, 10), "FR..FR", "it gets worse");
        assert_eq!(heard("pgpgpg", provoked, 24 * 60), "FRFRFR", "a day later it is news");
        assert_eq!(heard("pgp", provoked, 12 * 60), "FRF", "exactly a day later too");
        assert_eq!(
            heard("pgpppp", provoked, 10 * 60),
            "FR.F..",
            "what still fires a day later is news, without reminders too"
        );
        assert_eq!(heard("pg(pp)ppp", provoked, 5 * 60), "FR..F..", "a silence that ends says what fires");
        let reminded = Thresholds { remind_every: Some(Duration::from_hours(2)), ..provoked };
        assert_eq!(heard("pgppppg", reminded, 60), "FR..F.R", "a reminder is due, and people hear that it fires");
    }

    #[test]
    fn a_failed_read_of_one_part_makes_nothing_milder() {
        let table = [
            ("KkKkKg", "F....R", "every second read of the part fails"),
            ("KrKrKg", "F....R", "the part is not named, but not all parts are known"),
            ("K2K", "F.F", "the part was fixed, and fails again"),
            ("Kk2K", "F..F", "it was fixed after all"),
            ("kK", "FF", "it was never read before"),
            ("Kk?kg", "F...R", "all of it unread"),
        ];
        for (signals, expected, why) in table {
            assert_eq!(heard(signals, Thresholds { remind_every: None, ..AT_ONCE }, 1), expected, "{signals}: {why}");
        }
        let (_, alert) = play("Kk", AT_ONCE, 1);
        assert_eq!((alert.finding.severity, alert.unknown.as_deref()), (Severity::Critical, Some("no answer")));
        assert_eq!(alert.notified, Some(Severity::Critical), "the pager stays on");
    }

    #[test]
    fn a_fall_to_info_and_its_end_are_sent_once() {
        let table = [
            ("Biiig", "Fe..R", AT_ONCE, "without reminders"),
            ("biiB", "Fe.F", AT_ONCE, "worse again"),
            ("BbbiiB", "F..e.F", AT_ONCE, "by way of a warning, which is silent"),
            ("BBiiiigg", ".F.e...R", TWICE, "it has to last"),
            ("BBiBBB", ".F....", TWICE, "it did not last"),
            ("B(ii)iig", "F..e.R", AT_ONCE, "after a silence"),
            ("B(iig)g", "F...R", AT_ONCE, "over within a silence"),
        ];
        for (signals, expected, thresholds, why) in table {
            assert_eq!(
                heard(signals, Thresholds { remind_every: None, ..thresholds }, 1),
                expected,
                "{signals}: {why}"
            );
        }
        assert_eq!(heard("Biiiii", AT_ONCE, 24 * 60), "Fe....", "no reminder of an info");
    }

    #[test]
    fn a_firing_alert_is_repeated_by_reminders() {
        assert_eq!(heard("bbbbbb", TWICE, 60), ".F.r.r");
        assert_eq!(heard("bb????gg", TWICE, 60), ".F.r.r.R", "also while the result is unknown");
        assert_eq!(heard("bbbbbb", Thresholds { remind_every: None, ..TWICE }, 6000), ".F....");
        assert_eq!(heard("iiiiibbb", TWICE, 60), ".F...F.r", "info is sent once");
    }

    /// The alert and the event after a failing result at this hour, with this severity and cause.
    fn failing_at(
        alert: Option<&Alert>,
        hour: i8,
        severity: Severity,
        cause: Option<Change>,
    ) -> (Alert, Option<Event>) {
        let finding = Finding { cause, ..finding(severity) };
        let run = hour.to_string();
        let moment = Now { run: &run, now: at(hour, 30), incident: "incident", silenced: false };
        let (alert, event) = advance(alert, Signal::Failing(&finding), AT_ONCE, moment);
        (alert.unwrap(), event)
    }

    fn change_at(hour: u8) -> Change {
        Change { event_time: format!("2026-03-14T{hour:02}:00:00Z"), ..change() }
    }

    #[test]
    fn a_cause_stays_after_the_run_that_found_it() {
        let (alert, _) = failing_at(None, 8, Severity::Warning, Some(change_at(8)));
        assert_eq!(failing_at(Some(&alert), 9, Severity::Warning, None).0.finding.cause, Some(change_at(8)));
    }

    #[test]
    fn a_late_cause_is_sent_once() {
        let (alert, _) = failing_at(None, 8, Severity::Warning, None);
        let (alert, event) = failing_at(Some(&alert), 9, Severity::Warning, Some(change_at(8)));
        assert_eq!((alert.finding.cause.clone(), event), (Some(change_at(8)), Some(Event::CauseFound)));
        let (_, event) = failing_at(Some(&alert), 9, Severity::Warning, Some(change_at(8)));
        assert_eq!(event, None);
        let (_, event) = failing_at(Some(&alert), 9, Severity::Warning, Some(change_at(7)));
        assert_eq!(event, None, "an earlier change is a less likely cause");
        let (alert, _) = failing_at(None, 9, Severity::Warning, Some(change_at(7)));
        let (alert, event) = failing_at(Some(&alert), 10, Severity::Warning, Some(change_at(8)));
        assert_eq!(
            (alert.finding.cause, event),
            (Some(change_at(8)), Some(Event::CauseFound)),
            "the last one before it"
        );
    }

    #[test]
    fn a_later_change_is_a_cause_only_if_the_alert_gets_worse() {
        let (alert, _) = failing_at(None, 8, Severity::Warning, None);
        let (alert, event) = failing_at(Some(&alert), 9, Severity::Warning, Some(change_at(9)));
        assert_eq!((alert.finding.cause.clone(), event), (None, None), "a bystander");
        let (alert, event) = failing_at(Some(&alert), 9, Severity::Critical, Some(change_at(9)));
        assert_eq!((alert.finding.cause, event), (Some(change_at(9)), Some(Event::Fired)), "it made it worse");
    }

    #[test]
    fn an_alert_keeps_a_cause_found_during_a_silence() {
        let failing = |alert: Option<&Alert>, hour: u8, severity, cause, silenced| {
            let finding = Finding { cause, ..finding(severity) };
            let run = hour.to_string();
            let now = at(i8::try_from(hour).unwrap(), 30);
            let moment = Now { run: &run, now, incident: "incident", silenced };
            let (alert, event) = advance(alert, Signal::Failing(&finding), AT_ONCE, moment);
            (alert.unwrap(), event)
        };
        let (alert, _) = failing(None, 8, Severity::Warning, Some(change_at(8)), false);
        let (alert, _) = failing(Some(&alert), 9, Severity::Critical, Some(change_at(9)), true);
        let (alert, event) = failing(Some(&alert), 10, Severity::Critical, None, true);
        assert_eq!((alert.finding.cause.clone(), event), (Some(change_at(9)), None));
        let (alert, event) = failing(Some(&alert), 11, Severity::Critical, None, false);
        assert_eq!((alert.finding.cause, event), (Some(change_at(9)), Some(Event::Fired)));
    }

    #[test]
    fn a_later_change_is_the_cause_only_of_a_new_part() {
        let failing_with = |alert: Option<&Alert>, parts: &[&str], hour: u8| {
            let finding = finding(Severity::Warning).with_parts(parts.iter().copied());
            let finding = Finding { cause: Some(change_at(hour)), ..finding };
            let run = hour.to_string();
            let moment = Now { run: &run, now: at(8, 30), incident: "incident", silenced: false };
            advance(alert, Signal::Failing(&finding), AT_ONCE, moment).0.unwrap()
        };
        let first = Alert { finding: finding(Severity::Warning), ..failing_with(None, &["1"], 8) };
        assert_eq!(failing_with(Some(&first), &["1"], 9).finding.cause, None, "a bystander");
        assert_eq!(failing_with(Some(&first), &["1", "2"], 9).finding.cause, Some(change_at(9)));
    }

    proptest! {
        /// Each failing stretch that is long enough is sent exactly once as firing, then exactly once as over.
        #[test]
        fn firing_and_over_alternate(signals in "[bg?xu]{0,40}") {
            let thresholds = Thresholds { remind_every: None, ..TWICE };
            let all: String = heard(&signals, thresholds, 1).replace('.', "");
            let alternates = all.chars().enumerate().all(|(index, event)| (event == 'F') == (index % 2 == 0));
            prop_assert!(alternates, "{} {}", signals, all);
            prop_assert_eq!(all.is_empty(), !signals.replace('?', "").contains("bb"), "{} {}", signals, all);
            // Two passing results end every alert.
            let ended = heard(&format!("{signals}gg"), thresholds, 1).replace('.', "");
            prop_assert!(!ended.ends_with('F'), "{} {}", signals, ended);
        }

        /// The severity last sent is never milder than one that held for two results, and each part that failed for two
        /// results was sent.
        #[test]
        fn the_worst_lasting_severity_is_always_sent(signals in "[bB123g?]{0,40}", last in "bb|BB|11|22|33") {
            let silent = heard(&format!("{signals}{last}{last}"), TWICE, 1);
            let tail: String = silent.chars().skip(signals.len() + last.len()).collect();
            prop_assert!(!tail.contains('F'), "{}{} was known after two results: {}", signals, last, silent);
        }
    }
}
