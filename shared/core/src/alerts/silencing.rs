//! The effect of silences: planned work without alerts. While a silence matches an alert, the guard records its
//! transitions without sending them, and continues to accept and reject. Notices about connections are never silenced.

use jiff::{SignedDuration, Timestamp};

use super::record::{Items, Key, Record, State};
use super::silence::Silence;
use super::transition::{Kind, Transition};
use crate::check::{Finding, Remedy, Severity};

/// Maximum length of a silence, from the time at which the guard first saw it.
pub const MAX_LENGTH: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The silences that have not ended, each with its end.
pub fn active(items: &Items, now: Timestamp) -> impl Iterator<Item = (&Silence, Timestamp)> {
    // The guard would not announce a silence under another key.
    let is_silence = |key: &Key| key.function == Key::ANY_FUNCTION && key.subject == Key::SILENCE;
    let silences = items.iter().filter(move |(key, _)| is_silence(key)).filter_map(|(_, item)| item.record.as_ref());
    let ends = move |record: &'_ Record| record.silence().map(|silence| ends_at(silence, record, now));
    silences.filter_map(move |record| Some((record.silence()?, ends(record)?))).filter(move |(_, end)| now < *end)
}

/// Whether a silence covers this check of this resource.
pub fn covers(items: &Items, check: &str, resource: &str, now: Timestamp) -> bool {
    active(items, now).any(|(silence, _)| silence.matches(check, resource))
}

/// The end of the silence: its own end, but at most [`MAX_LENGTH`] after the guard first saw it. `observed_at` is the
/// guard's own time only from then on.
fn ends_at(silence: &Silence, record: &Record, now: Timestamp) -> Timestamp {
    let seen = if is_announced(silence) { record.observed_at.min(now) } else { now };
    seen.checked_add(MAX_LENGTH).map_or(silence.until, |latest| silence.until.min(latest))
}

/// Whether the silence was announced in its present form.
fn is_announced(silence: &Silence) -> bool {
    silence.announced.as_ref() == Some(&silence.describe())
}

/// The record of a silence with the notice of its beginning, if that was not added yet.
pub(super) fn announced(key: &Key, record: &Record, incident: &str, now: Timestamp) -> Record {
    let unannounced = record.silence().filter(|silence| !is_announced(silence));
    let end = unannounced.map(|silence| (silence, ends_at(silence, record, now)));
    let Some((silence, end)) = end.filter(|(_, end)| now < *end) else { return record.clone() };
    let state = State::Silence(Silence { announced: Some(silence.describe()), ..silence.clone() });
    let mut announced = Record { state, observed_at: now, ..record.clone() };
    announced.push(Transition::new(Kind::Notice, key.about(), incident, notice(silence, end), now));
    announced
}

fn notice(silence: &Silence, end: Timestamp) -> Finding {
    let until = end.strftime("%Y-%m-%d %H:%M UTC");
    let cut = (end < silence.until).then(|| format!("asked for: until {}, which is longer than 7 days", silence.until));
    let resources = match silence.resources.is_empty() {
        true => "all".to_owned(),
        false => silence.resources.join(", "),
    };
    Finding::new(
        Severity::Info,
        format!("alerts silenced until {until}"),
        "Alerts that match are not sent until then. The guard still accepts dbt's requests, and treats others as \
                 before.",
        Remedy::new(
            "If this is not planned work, delete the silence from the state table: docs/silences.md says how.",
            None,
            None,
        ),
    )
    .with_evidence(
        [
            format!("by: {}", silence.by),
            format!("why: {}", silence.comment),
            format!("checks: {}", silence.checks.join(", ")),
            format!("resources: {resources}"),
        ]
        .into_iter()
        .chain(cut)
        .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::record::{Item, Version};
    use crate::testing::{at, item};

    fn silence(checks: &[&str], resources: &[&str], until: Timestamp) -> Silence {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Silence { checks: owned(checks), resources: owned(resources), until, ..crate::testing::silence() }
    }

    fn items(record: Record) -> Items {
        let key = Key::new(Key::ANY_FUNCTION, Key::SILENCE, "1");
        Items::from([(key, Item { record: Some(record), version: Version::At(1) })])
    }

    #[test]
    fn a_silence_ends_at_its_end_or_after_seven_days() {
        let covered = |until: Timestamp, seen: Option<Timestamp>, now: Timestamp| {
            let silence = silence(&["*"], &[], until);
            let announced = seen.map(|_| silence.describe());
            let record = Record::new(State::Silence(Silence { announced, ..silence }), seen.unwrap_or(at(7, 0)));
            covers(&items(record), "listener.port", "pg", now)
        };
        let day = |days: i64| at(8, 0) + SignedDuration::from_hours(24 * days);
        assert!(covered(at(9, 0), None, at(8, 59)));
        assert!(!covered(at(9, 0), None, at(9, 0)));
        assert!(covered(day(30), Some(day(0)), day(6)));
        assert!(!covered(day(30), Some(day(0)), day(7)), "a month is seven days");
        assert!(!covered(day(-1), Some(day(9)), day(0)), "nor does a time in the future help");
    }

    #[test]
    fn the_seven_days_begin_when_the_guard_sees_the_silence() {
        let day = |days: i64| at(8, 0) + SignedDuration::from_hours(24 * days);
        let record = Record::new(State::Silence(silence(&["*"], &[], day(30))), day(0));
        let seen = announced(&Key::new(Key::ANY_FUNCTION, Key::SILENCE, "1"), &record, "incident", day(2));
        assert_eq!((seen.observed_at, seen.outbox.len()), (day(2), 1));
        assert!(covers(&items(seen.clone()), "listener.port", "pg", day(8)));
        assert!(!covers(&items(seen), "listener.port", "pg", day(9)));
    }

    #[test]
    fn a_silence_under_another_key_has_no_effect() {
        let key = Key::new("drift-watcher", Key::SILENCE, "1");
        let items = Items::from([(key, item(State::Silence(silence(&["*"], &[], at(9, 0)))))]);
        assert!(!covers(&items, "listener.port", "pg", at(8, 0)));
    }

    #[test]
    fn a_silence_is_announced_once_with_author_and_reason() {
        let key = Key::new(Key::ANY_FUNCTION, Key::SILENCE, "1");
        let asked = at(8, 0) + SignedDuration::from_hours(30 * 24);
        let record = Record::new(State::Silence(silence(&["target-group.health"], &[], asked)), at(7, 0));
        let first = announced(&key, &record, "incident", at(8, 0));
        let [notice] = &first.outbox[..] else { panic!("{first:?}") };
        assert_eq!(notice.finding.summary, "alerts silenced until 2026-03-21 08:00 UTC");
        let evidence = notice.finding.evidence.join("\n");
        for expected in ["by: ada", "why: upgrade", "checks: target-group.health", "longer than 7 days"] {
            assert!(evidence.contains(expected), "{evidence}");
        }
        assert_eq!(announced(&key, &first, "incident", at(8, 1)), first);
        let State::Silence(known) = first.state.clone() else { panic!("{first:?}") };
        let changed = Silence { checks: vec!["*".to_owned()], ..known };
        let changed = Record { state: State::Silence(changed), outbox: Vec::new(), ..first };
        assert_eq!(announced(&key, &changed, "incident", at(8, 2)).outbox.len(), 1, "it covers more than people heard");
        let short = Record::new(State::Silence(silence(&["*"], &[], at(7, 30))), at(7, 0));
        assert_eq!(announced(&key, &short, "incident", at(7, 30)), short, "it ended before the guard saw it");
        let in_time = announced(&key, &short, "incident", at(7, 29));
        let [notice] = &in_time.outbox[..] else { panic!("{in_time:?}") };
        assert_eq!(notice.finding.summary, "alerts silenced until 2026-03-14 07:30 UTC");
        assert!(!notice.finding.evidence.join("\n").contains("asked for"), "it lasts as long as was asked");
    }
}
