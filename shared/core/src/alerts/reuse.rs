//! What a run may reuse of a stored path: its details for an hour, and the whole path only to find that nothing has
//! changed. Pure.
//!
//! A stored path may be out of date. So a result from it never fires, worsens or resolves an alert: before an alert
//! changes, the path is read again.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::lifecycle::Phase;
use super::reconcile::Evaluation;
use super::record::{Items, Key, stored_path};
use crate::catalogue;
use crate::check::{CheckResult, Severity, Status};
use crate::config::Settings;
use crate::ids::ServiceId;
use crate::snapshot::{KnownDetails, StoredPath};

/// The stored path, if it is recent and was read for dbt's present ports.
pub fn usable<'a>(items: &'a Items, now: Timestamp, settings: &Settings) -> Option<&'a StoredPath> {
    let ports = settings.policy.all_ports();
    stored_path(items).filter(|path| path.is_valid(now, settings.path_max_age()) && path.ports == ports)
}

/// Time for which a path's details are reused. With a schedule of 15 minutes, every fifth run reads them.
const DETAILS_VALID_FOR: SignedDuration = SignedDuration::from_mins(65);

/// The details of these endpoint services that `function` need not read again: those read within the hour, except
/// details of services in `anew`, which may just have changed, and of services that await them.
pub fn known_details<'a>(
    services: impl IntoIterator<Item = (&'a ServiceId, &'a Items)>,
    anew: &BTreeSet<ServiceId>,
    function: &str,
    now: Timestamp,
) -> KnownDetails<'a> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (service, items) in services {
        let Some(path) = stored_path(items) else { continue };
        let is_known = has_recent_details(path, now) && !anew.contains(service) && !awaits_details(items, function);
        if is_known { &mut known } else { &mut unknown }.push(path);
    }
    KnownDetails::new(known, &unknown)
}

/// Whether the path's details were read within the hour.
pub fn has_recent_details(path: &StoredPath, now: Timestamp) -> bool {
    path.detailed_at.is_some_and(|detailed_at| now.duration_since(detailed_at) < DETAILS_VALID_FOR)
}

/// Whether `function` has an open, pending or unreadable alert.
pub fn has_open_alert(items: &Items, function: &str) -> bool {
    has_alert(items, function, Severity::Info)
}

/// Whether the next run reads the details to see whether an alert of `function` is over. An info alert may stay open
/// for ever, so it waits for an hour, or for the change that ends it.
pub fn awaits_details(items: &Items, function: &str) -> bool {
    has_alert(items, function, Severity::Warning)
}

fn has_alert(items: &Items, function: &str, least: Severity) -> bool {
    let of_checks = items.iter().filter(|(key, _)| key.function == function && catalogue::find(&key.subject).is_some());
    of_checks.map(|(_, item)| &item.record).any(|record| match record {
        Some(record) => record.alert().is_some_and(|alert| !alert.is_over() && alert.finding.severity >= least),
        None => true,
    })
}

/// Whether `evaluation` changes no alert of `function`. Its results combine a stored path with the present health of
/// its targets; `before` has the results of the path as stored. An unknown result is trusted only if it was unknown
/// then too: some facts can never be read.
pub fn changes_nothing(evaluation: &Evaluation, before: &[CheckResult], function: &str, items: &Items) -> bool {
    let is_ours = |key: &Key| key.function == function && evaluation.checks.iter().any(|check| check.id == key.subject);
    let mut alerts = items.iter().filter(|(key, _)| is_ours(key)).filter_map(|(key, item)| {
        // An unreadable item may be any alert.
        let alert = item.record.as_ref().map(|record| record.alert());
        match alert {
            Some(Some(alert)) if alert.is_over() => None,
            alert => Some((key, alert.flatten())),
        }
    });
    let result_of = |key: &Key| {
        evaluation.results.iter().find(|result| result.check.id == key.subject && result.resource == key.resource)
    };
    let is_firing = |result: &CheckResult| {
        let key = Key::new(function, result.check.id, &result.resource);
        let alert = items.get(&key).and_then(|item| item.record.as_ref()?.alert());
        alert.is_some_and(|alert| alert.phase == Phase::Firing)
    };
    let alerts_stay = alerts.all(|(key, alert)| match (alert, result_of(key).map(|result| &result.status)) {
        (Some(alert), Some(Status::Fail(finding))) => {
            alert.phase == Phase::Firing
                && alert.finding.severity == finding.severity
                && alert.finding.parts == finding.parts
        }
        (Some(_), Some(Status::Unknown(_) | Status::NotAsked)) => true,
        _ => false,
    });
    let results_stay = evaluation.results.iter().all(|result| match &result.status {
        Status::Pass(_) | Status::NotAsked => true,
        Status::Fail(_) => is_firing(result),
        Status::Unknown(_) => before.contains(result),
    });
    alerts_stay && results_stay
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::lifecycle::Alert;
    use crate::alerts::record::{Item, State, Version};
    use crate::catalogue;
    use crate::check::Severity;
    use crate::snapshot::{
        CrossZoneOverride, EndpointService, Hostname, LoadBalancer, ReachedNetworks, TargetGroup, Topology,
    };
    use crate::testing::{
        alert, at, endpoint_service, finding, group_attributes, item, load_balancer, service, settings, target_group,
        topology,
    };

    const FUNCTION: &str = "health-watcher";

    fn result(status: Status) -> CheckResult {
        CheckResult::new(catalogue::find("target-group.health").unwrap(), "pg", status)
    }

    fn fails(severity: Severity) -> Status {
        Status::Fail(Box::new(finding(severity)))
    }

    fn unknown(why: &str) -> Status {
        Status::Unknown(why.to_owned())
    }

    fn stored(alert: Alert) -> Item {
        item(State::Alert(Box::new(alert)))
    }

    const UNREADABLE: Item = Item { record: None, version: Version::Unreadable };

    /// Whether a new status changes nothing, given this stored item and the status when the path was read.
    fn same(status: Status, item: impl Into<Option<Item>>, before: Status) -> bool {
        let check = catalogue::find("target-group.health").unwrap();
        let evaluation = Evaluation::new(at(9, 0), vec![check], vec![result(status)]);
        let items = item.into().map(|item| (Key::new(FUNCTION, check.id, "pg"), item)).into_iter().collect();
        changes_nothing(&evaluation, &[result(before)], FUNCTION, &items)
    }

    fn in_phase(phase: Phase) -> Item {
        stored(alert(phase, Severity::Warning))
    }

    fn pass() -> Status {
        Status::Pass("right".to_owned())
    }

    #[test]
    fn a_pass_changes_nothing_unless_an_alert_is_open() {
        assert!(same(pass(), None, pass()));
        assert!(same(pass(), in_phase(Phase::Resolved), pass()));
        assert!(!same(pass(), in_phase(Phase::Firing), pass()), "a stale path resolves nothing");
        assert!(!same(pass(), in_phase(Phase::Pending), pass()));
        assert!(!same(pass(), UNREADABLE, pass()));
    }

    #[test]
    fn a_failure_changes_nothing_if_the_same_alert_fires() {
        let warning = || fails(Severity::Warning);
        assert!(!same(warning(), None, warning()), "a stale path fires nothing");
        assert!(!same(warning(), in_phase(Phase::Pending), warning()));
        assert!(!same(warning(), in_phase(Phase::Resolved), warning()));
        assert!(same(warning(), in_phase(Phase::Firing), pass()));
        assert!(!same(fails(Severity::Critical), in_phase(Phase::Firing), pass()), "it got worse");
        let other = finding(Severity::Warning).with_parts(["another"]);
        assert!(!same(Status::Fail(Box::new(other)), in_phase(Phase::Firing), pass()));
    }

    #[test]
    fn an_unknown_result_is_trusted_only_if_the_path_had_it() {
        assert!(same(unknown("ALB target"), None, unknown("ALB target")));
        assert!(same(unknown("ALB target"), in_phase(Phase::Firing), unknown("ALB target")));
        assert!(!same(unknown("no such target group"), None, pass()));
        assert!(!same(unknown("no such target group"), None, unknown("ALB target")));
    }

    #[test]
    fn an_open_alert_without_a_result_needs_a_new_read() {
        let check = catalogue::find("target-group.health").unwrap();
        let evaluation = Evaluation::new(at(9, 0), vec![check], Vec::new());
        let items = |phase| [(Key::new(FUNCTION, check.id, "pg"), in_phase(phase))].into();
        assert!(!changes_nothing(&evaluation, &[], FUNCTION, &items(Phase::Firing)));
        assert!(changes_nothing(&evaluation, &[], FUNCTION, &items(Phase::Resolved)));
        assert!(changes_nothing(&evaluation, &[], "drift-watcher", &items(Phase::Firing)), "another function's");
    }

    #[test]
    fn each_alert_is_compared_with_the_result_of_its_own_resource() {
        let check = catalogue::find("target-group.health").unwrap();
        let of = |resource: &str, status| CheckResult { resource: resource.to_owned(), ..result(status) };
        let results = vec![of("other", fails(Severity::Warning)), of("pg", pass())];
        let evaluation = Evaluation::new(at(9, 0), vec![check], results);
        let key = |resource| Key::new(FUNCTION, check.id, resource);
        let both = [(key("other"), in_phase(Phase::Firing)), (key("pg"), in_phase(Phase::Firing))].into();
        assert!(!changes_nothing(&evaluation, &[], FUNCTION, &both), "pg's alert is over");
        let one = [(key("other"), in_phase(Phase::Firing))].into();
        assert!(changes_nothing(&evaluation, &[], FUNCTION, &one));
    }

    #[test]
    fn a_stored_path_is_usable_until_its_age_or_ports_change() {
        let path = StoredPath::new(&with_name(None), &service(1), at(8, 0), at(8, 0)).unwrap();
        let stored = Key::new(FUNCTION, Key::PATH, service(1).as_str());
        let items = Items::from([(stored, item(State::Path(Some(Box::new(path.clone())))))]);
        let with = |ports: &str| settings(&[("DRIFT_SCHEDULE", "rate(5 minutes)"), ("LISTENER_PORTS", ports)]);
        let usable_at = |now| usable(&items, now, &with(""));
        assert_eq!(usable_at(at(8, 10)), Some(&path));
        assert_eq!(usable_at(at(8, 11)), None);
        assert_eq!(usable(&items, at(8, 10), &with("5432")), None, "it was read behind other ports");
        assert_eq!(stored_path(&items), Some(&path), "however old");
        let elsewhere = Key::new(FUNCTION, Key::TRAFFIC, service(1).as_str());
        let items = Items::from([(elsewhere, item(State::Path(Some(Box::new(path)))))]);
        assert_eq!(stored_path(&items), None);
    }

    fn with_name(name: Option<&str>) -> Topology {
        let name = name.map(|name| Hostname {
            name: name.to_owned(),
            addresses: Ok(Vec::new()),
            networks: Ok(ReachedNetworks::default()),
        });
        let group = TargetGroup {
            hostname: Some(Ok(name)),
            attributes: group_attributes(CrossZoneOverride::Off),
            ..target_group("pg")
        };
        let balancer = LoadBalancer { cross_zone: Some(Ok(true)), ..load_balancer("pg", vec![group]) };
        topology(endpoint_service(), [balancer])
    }

    /// The details known at `now` for a path read at eight, with this alert beside it.
    fn known_at(
        now: Timestamp,
        alert: Option<Item>,
        anew: &BTreeSet<ServiceId>,
    ) -> Option<(bool, CrossZoneOverride, String)> {
        let stored = with_name(Some("db.example.internal"));
        let path = StoredPath::new(&stored, &service(1), at(8, 45), at(8, 0)).unwrap();
        let path = (Key::new(FUNCTION, Key::PATH, service(1).as_str()), item(State::Path(Some(Box::new(path)))));
        let alert = alert.map(|alert| (Key::new(FUNCTION, "listener.port", "pg"), alert));
        let items: Items = [path].into_iter().chain(alert).collect();
        let id = service(1);
        let known = known_details([(&id, &items)], anew, FUNCTION, now);
        assert_eq!(known.hostname(&target_group("new").arn), None, "a new group is read");
        let balancer = stored.load_balancers.values().next().unwrap();
        let hostname = known.hostname(&target_group("pg").arn)?.clone()?;
        assert_eq!(known.of(&service(1)), Some(at(8, 0)), "they are as old as when they were read");
        Some((known.cross_zone(&balancer.arn)?, known.attributes(&target_group("pg").arn)?.cross_zone, hostname.name))
    }

    #[test]
    fn details_are_reused_for_an_hour() {
        let known = Some((true, CrossZoneOverride::Off, "db.example.internal".to_owned()));
        let nothing = BTreeSet::new();
        assert_eq!(known_at(at(9, 0), None, &nothing), known);
        assert_eq!(known_at(at(9, 5), None, &nothing), None, "too long ago");
    }

    #[test]
    fn a_change_or_an_open_alert_needs_new_details() {
        let nothing = BTreeSet::new();
        assert_eq!(known_at(at(9, 0), None, &[service(1)].into()), None);
        for phase in [Phase::Pending, Phase::Firing] {
            assert_eq!(known_at(at(9, 0), Some(in_phase(phase)), &nothing), None, "{phase:?}");
        }
        assert_eq!(known_at(at(9, 0), Some(UNREADABLE), &nothing), None);
        let info = stored(alert(Phase::Firing, Severity::Info));
        assert!(known_at(at(9, 0), Some(info), &nothing).is_some(), "it may stay for ever");
        assert!(known_at(at(9, 0), Some(in_phase(Phase::Resolved)), &nothing).is_some());
    }

    #[test]
    fn a_shared_load_balancer_is_read_again_for_all_services() {
        let shared = with_name(None);
        let path = |number| {
            let service = EndpointService { id: service(number), ..endpoint_service() };
            let topology = topology(service.clone(), shared.load_balancers.values().cloned());
            StoredPath::new(&topology, &service.id, at(8, 0), at(8, 0)).unwrap()
        };
        let (one, two) = (path(1), path(2));
        let balancer = shared.load_balancers.keys().next().unwrap();
        assert_eq!(KnownDetails::new(vec![&one], &[]).cross_zone(balancer), Some(true));
        assert_eq!(KnownDetails::new(vec![&one], &[&two]).cross_zone(balancer), None);
    }
}
