//! Changes in AWS whose effect may show only later. drift-watcher, which such a change starts, notes the changes that
//! health-watcher's checks depend on. Targets fail their health checks minutes after a change, and CloudTrail may
//! report the change before or after that. So a noted change can be the cause of any later finding of health-watcher.
//! Pure.

use jiff::{SignedDuration, Timestamp};

use super::reconcile::RecordWrite;
use super::reconciler::Reconciler;
use super::record::{Items, Key, Record, State, stored_path};
use crate::catalogue::checks_of;
use crate::check::Group;
use crate::trigger::Change;

/// Time for which a noted change can be a cause. By default, health checks are 30 seconds apart, several of them must
/// fail, and health-watcher needs two failing results.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html>
const KEEP_FOR: SignedDuration = SignedDuration::from_mins(10);

/// Maximum number of noted changes and maximum total size of their notes in bytes: a deployment makes hundreds of
/// changes, and the latest ones matter.
const MAX_NOTED: (usize, usize) = (20, 60_000);

/// Whether one of health-watcher's checks depends on the call.
fn is_noted(change: &Change) -> bool {
    checks_of(&[Group::Health]).iter().any(|check| check.cloudtrail_events.contains(&change.event_name.as_str()))
}

/// The recently noted changes, latest last. Changes in the same second stay in the order of the notes.
pub fn recent(items: &Items, now: Timestamp) -> Vec<Change> {
    let notes = items.values().filter_map(|item| item.record.as_ref()?.changes()).flatten();
    let recent = notes.filter(|(at, _)| now.duration_since(*at) < KEEP_FOR);
    let mut changes: Vec<Change> = recent.filter_map(|(_, note)| Change::from_note(note)).collect();
    changes.sort_by(|one, other| one.event_time.cmp(&other.event_time));
    changes
}

impl Reconciler<'_> {
    /// The record of noted changes, extended by those of `changes` that name the partition's path.
    pub fn note(&self, changes: &[Change], items: &Items) -> Option<RecordWrite> {
        let path = stored_path(items)?;
        let key = Key::new(self.function, Key::CHANGES, path.service().as_str());
        let before = items.get(&key).and_then(|item| item.record.clone());
        let mut notes = before.as_ref().and_then(Record::changes).unwrap_or_default().to_vec();
        notes.retain(|(at, _)| self.now.duration_since(*at) < KEEP_FOR);
        let mut is_new = false;
        for change in changes.iter().filter(|change| is_noted(change) && change.names_any(path.arns())) {
            let note = change.note();
            // A retry by Lambda reports the same change again.
            if !notes.iter().any(|(_, known)| *known == note) {
                notes.push((self.now, note));
                is_new = true;
            }
        }
        if !is_new {
            return None;
        }
        let (most, bytes) = MAX_NOTED;
        while notes.len() > most || notes.iter().map(|(_, note)| note.len()).sum::<usize>() > bytes {
            notes.remove(0);
        }
        let record = before.unwrap_or_else(|| Record::new(State::Changes(Vec::new()), self.now));
        self.record_write(key, Record { state: State::Changes(notes), ..record }, items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::record::{Item, Version};
    use crate::snapshot::{StoredPath, TargetGroup};
    use crate::testing::{
        at, change, elb_arn, endpoint_service, item, load_balancer, region, service, settings, target_group, topology,
    };

    const FUNCTION: &str = "drift-watcher";

    /// The records of a service whose path has the target group `pg`.
    fn stored() -> Items {
        let read = topology(endpoint_service(), [load_balancer("pg", vec![target_group("pg")])]);
        let path = StoredPath::new(&read, &service(1), at(8, 0), at(8, 0)).unwrap();
        [(Key::new(FUNCTION, Key::PATH, "1"), item(State::Path(Some(Box::new(path)))))].into()
    }

    /// A change of the target group at this minute.
    fn of_group(event_name: &str, minute: i8, group: &TargetGroup) -> Change {
        let parameters = format!("{{\"targetGroupArn\":\"{}\"}}", group.arn);
        let event_time = at(8, minute).to_string();
        Change { event_name: event_name.to_owned(), event_time, parameters, ..change() }
    }

    /// Notes these changes at this minute. Returns whether that changed the record.
    fn note(items: &mut Items, minute: i8, changes: &[Change]) -> bool {
        let (policy, region) = (settings(&[]).policy, region());
        let now = at(8, minute);
        let run = Reconciler {
            id: "1",
            function: FUNCTION,
            policy: &policy,
            stack: None,
            region: &region,
            now,
            heard_since: None,
        };
        let write = run.note(changes, items);
        let is_written = write.is_some();
        items.extend(write.map(|write| (write.key, Item { record: Some(write.record), version: Version::At(1) })));
        is_written
    }

    /// The times of the changes that can be causes at this minute.
    fn causes(items: &Items, minute: i8) -> Vec<String> {
        recent(items, at(8, minute)).into_iter().map(|change| change.event_time[14..16].to_owned()).collect()
    }

    #[test]
    fn a_noted_change_can_be_a_cause_for_ten_minutes() {
        let (mut items, pg) = (stored(), target_group("pg"));
        assert!(note(&mut items, 5, &[of_group("DeregisterTargets", 1, &pg)]));
        assert!(note(&mut items, 7, &[of_group("RegisterTargets", 7, &pg), of_group("ModifyTargetGroup", 6, &pg)]));
        assert_eq!(causes(&items, 5), ["01", "06", "07"], "the likeliest last");
        assert_eq!(causes(&items, 14), ["01", "06", "07"]);
        assert_eq!(causes(&items, 15), ["06", "07"]);
        assert!(recent(&items, at(8, 14)).iter().all(|change| change.names(pg.arn.as_str())));
        assert!(!note(&mut items, 8, &[of_group("RegisterTargets", 7, &pg)]), "Lambda's retry");
        let many: Vec<Change> = (10..50).map(|minute| of_group("RegisterTargets", minute, &pg)).collect();
        note(&mut items, 50, &many);
        assert_eq!(causes(&items, 50).len(), MAX_NOTED.0);
    }

    #[test]
    fn notes_stay_within_their_number_and_size() {
        let (mut items, pg) = (stored(), target_group("pg"));
        let names: Vec<String> = (0..100).map(|number| format!("\"{number:0>250}\"")).collect();
        let hostile = format!("\"{}\"", "\\u0001".repeat(40));
        let parameters = format!("[\"{}\",{hostile},{}]", pg.arn, names.join(","));
        let forged = |minute: i8| Change { parameters: parameters.clone(), ..of_group("RegisterTargets", minute, &pg) };
        assert!(note(&mut items, 20, &(0..20).map(forged).collect::<Vec<_>>()));
        let json =
            serde_json::to_string(&items.values().filter_map(|item| item.record.clone()).collect::<Vec<_>>()).unwrap();
        assert!(json.len() < 100_000 && !json.contains("u0001"), "{} bytes", json.len());
        assert_eq!(causes(&items, 20).last().map(String::as_str), Some("19"), "the latest stay");
    }

    #[test]
    fn only_changes_that_can_affect_target_health_are_noted() {
        let of_load_balancer = |event_name: &str, name: &str| Change {
            event_name: event_name.to_owned(),
            parameters: format!("[\"{}\"]", elb_arn(&format!("loadbalancer/net/{name}/0123456789abcdef"))),
            ..change()
        };
        for (change, is_noted) in [
            (of_group("DeregisterTargets", 1, &target_group("pg")), true),
            (of_load_balancer("SetSubnets", "pg"), true),
            (of_load_balancer("SetSecurityGroups", "pg"), false),
            (of_group("DeregisterTargets", 1, &target_group("other")), false),
            (of_load_balancer("SetSubnets", "other"), false),
        ] {
            assert_eq!(note(&mut stored(), 2, std::slice::from_ref(&change)), is_noted, "{change:?}");
        }
        let no_path = &mut Items::new();
        assert!(!note(no_path, 2, &[of_group("DeregisterTargets", 1, &target_group("pg"))]));
    }
}
