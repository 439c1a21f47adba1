//! The effect of silences: planned work without alerts. While a silence matches an alert, the guard records its
//! transitions without sending them, and continues to accept and reject. Notices about connections are never silenced.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::reconciler::Reconciler;
use super::record::{Items, Key, Record, State, stored_path};
use super::silence::Silence;
use super::transition::{Kind, Transition};
use crate::catalogue;
use crate::check::command::{Command, argument};
use crate::check::{Finding, Region, Remedy, Severity};
use crate::checks::network_path::without_side;
use crate::snapshot::StoredPath;

/// Maximum length of a silence, from the time at which the guard first saw it.
pub const MAX_LENGTH: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The silences that have not ended, each with its key and its end.
pub fn active(items: &Items, now: Timestamp) -> impl Iterator<Item = (&Key, &Silence, Timestamp)> {
    // The guard would not announce a silence under another key.
    let is_silence = |key: &Key| key.function == Key::ANY_FUNCTION && key.subject == Key::SILENCE;
    let records = items.iter().filter_map(|(key, item)| Some((key, item.record.as_ref()?)));
    let silences = records.filter(move |(key, _)| is_silence(key)).filter_map(move |(key, record)| {
        let silence = record.silence()?;
        Some((key, silence, ends_at(silence, record, now)))
    });
    silences.filter(move |(.., end)| now < *end)
}

/// Whether a silence covers this check of this resource.
pub fn covers(items: &Items, check: &str, resource: &str, now: Timestamp) -> bool {
    active(items, now).any(|(_, silence, _)| silence.matches(check, resource))
}

/// The silences that have not ended, a line each.
pub fn describe(items: &Items, now: Timestamp) -> impl Iterator<Item = String> {
    active(items, now).map(|(_, silence, end)| {
        format!("silenced until {end:.0}: {} (by {}: {})", silence.subject(), silence.by, silence.comment)
    })
}

/// The resources that alerts can be about, as far as the records show.
pub fn known_resources(items: &Items) -> BTreeSet<String> {
    let is_about_one = |key: &&Key| {
        let subjects = [Key::CONNECTION, Key::KNOWN_ACCOUNT];
        subjects.contains(&key.subject.as_str()) || catalogue::find(&key.subject).is_some()
    };
    let recorded = items.keys().filter(is_about_one).map(|key| without_side(&key.resource).to_owned());
    let path = stored_path(items);
    recorded.chain(path.into_iter().flat_map(StoredPath::resources)).collect()
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
pub(super) fn announced(key: &Key, record: &Record, incident: &str, run: &Reconciler<'_>) -> Record {
    let unannounced = record.silence().filter(|silence| !is_announced(silence));
    let end = unannounced.map(|silence| (silence, ends_at(silence, record, run.now)));
    let Some((silence, end)) = end.filter(|(_, end)| run.now < *end) else { return record.clone() };
    let state = State::Silence(Silence { announced: Some(silence.describe()), ..silence.clone() });
    let mut announced = Record { state, observed_at: run.now, ..record.clone() };
    let notice = notice(&key.resource, silence, end, run);
    announced.push(Transition::new(Kind::Notice, key.about(), incident, notice, run.now));
    announced
}

/// The transition, with a note that a silence held its alert back.
pub(super) fn held_back(mut transition: Transition) -> Transition {
    transition.finding.evidence.push("a silence held this alert back until now".to_owned());
    transition
}

/// The command that ends the silence `id`; `None` if a shell would not take an argument literally: anybody who may write
/// to the table chooses the id.
pub fn end_command(id: &str, stack: &str, region: &Region) -> Option<String> {
    removal(id, stack, region)?.into_text()
}

fn removal(id: &str, stack: &str, region: &Region) -> Option<Command> {
    Some(Command::own("silence remove", region).option("stack", stack).literal(&argument(id)?))
}

/// The notice that the silence `id` has begun.
fn notice(id: &str, silence: &Silence, end: Timestamp, run: &Reconciler<'_>) -> Finding {
    let cut = (end < silence.until).then(|| format!("asked for: until {}, which is longer than 7 days", silence.until));
    let resources = match silence.resources.is_empty() {
        true => "all".to_owned(),
        false => silence.resources.join(", "),
    };
    let command = run.stack.and_then(|stack| removal(id, stack, run.region));
    let action = match command {
        Some(_) => "If this is not planned work, or once it is done, end the silence:",
        None => "If this is not planned work, delete the silence from the state table: docs/silences.md says how.",
    };
    Finding::new(
        Severity::Info,
        format!("{} silenced until {}", silence.subject(), end.strftime("%b %-d %H:%M UTC")),
        "Matching alerts are not sent until then. The guard still accepts dbt's requests, and treats others as before.",
        Remedy::new(action, command, None),
    )
    .with_evidence(
        [
            format!("id: {id}"),
            format!("until: {end:.0}"),
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
    use crate::testing::{at, item, region, settings};

    fn silence(checks: &[&str], resources: &[&str], until: Timestamp) -> Silence {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Silence { checks: owned(checks), resources: owned(resources), until, ..crate::testing::silence() }
    }

    fn items(record: Record) -> Items {
        let key = Key::new(Key::ANY_FUNCTION, Key::SILENCE, "1");
        Items::from([(key, Item { record: Some(record), version: Version::At(1) })])
    }

    /// The record of the silence `1` after a run at this time.
    fn seen(record: &Record, now: Timestamp, stack: Option<&str>) -> Record {
        let (policy, region) = (settings(&[]).policy, region());
        let run = Reconciler {
            id: "run",
            function: "drift-watcher",
            policy: &policy,
            stack,
            region: &region,
            now,
            heard_since: None,
        };
        announced(&Key::new(Key::ANY_FUNCTION, Key::SILENCE, "1"), record, "incident", &run)
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
        let seen = seen(&record, day(2), None);
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
        let announced = |record: &Record, now: Timestamp| seen(record, now, Some("guard"));
        let asked = at(8, 0) + SignedDuration::from_hours(30 * 24);
        let record = Record::new(State::Silence(silence(&["target-group.health"], &[], asked)), at(7, 0));
        let first = announced(&record, at(8, 0));
        let [notice] = &first.outbox[..] else { panic!("{first:?}") };
        assert_eq!(notice.finding.summary, "target-group.health silenced until Mar 21 08:00 UTC");
        let evidence = notice.finding.evidence.join("\n");
        let end = "privatelink-guard silence remove --region eu-central-1 --stack guard 1";
        assert_eq!(notice.finding.remedy.command.as_deref(), Some(end));
        assert_eq!(seen(&record, at(8, 0), None).outbox[0].finding.remedy.command, None, "without a stack's name");
        for expected in ["id: 1", "by: ada", "why: upgrade", "checks: target-group.health", "longer than 7 days"] {
            assert!(evidence.contains(expected), "{evidence}");
        }
        assert_eq!(end_command("1", "guard", &region()).as_deref(), Some(end));
        assert_eq!(end_command("1;reboot", "guard", &region()), None);
        assert_eq!(announced(&first, at(8, 1)), first);
        let State::Silence(known) = first.state.clone() else { panic!("{first:?}") };
        let changed = Silence { checks: vec!["*".to_owned()], ..known };
        let changed = Record { state: State::Silence(changed), outbox: Vec::new(), ..first };
        assert_eq!(announced(&changed, at(8, 2)).outbox.len(), 1, "it covers more than people heard");
        let short = Record::new(State::Silence(silence(&["*"], &[], at(7, 30))), at(7, 0));
        assert_eq!(announced(&short, at(7, 30)), short, "it ended before the guard saw it");
        let in_time = announced(&short, at(7, 29));
        let [notice] = &in_time.outbox[..] else { panic!("{in_time:?}") };
        assert_eq!(notice.finding.summary, "all alerts but access silenced until Mar 14 07:30 UTC");
        assert!(!notice.finding.evidence.join("\n").contains("asked for"), "it lasts as long as was asked");
    }
}
