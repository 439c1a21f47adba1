//! The catalogue: one row per check. Everything that enumerates checks is derived from it or tested against it: the
//! checks of each function, the events of its rule, the README's table, and `docs/checks.md`.

use crate::check::{Check, CheckContext, CheckResult, Group, cause};
use crate::trigger::Change;

/// Every check.
pub const CATALOGUE: &[Check] = &[
    &crate::checks::service_available::SPEC,
    &crate::checks::acceptance_required::SPEC,
    &crate::checks::principals::SPEC,
    &crate::checks::private_dns::SPEC,
    &crate::checks::notification::SPEC,
    &crate::checks::regions::SPEC,
    &crate::checks::connection_untrusted::SPEC,
    &crate::checks::connection_dbt::SPEC,
    &crate::checks::connection_absent::SPEC,
    &crate::checks::internal_nlb::SPEC,
    &crate::checks::cross_zone::SPEC,
    &crate::checks::zones::SPEC,
    &crate::checks::security_groups::SPEC,
    &crate::checks::outbound::SPEC,
    &crate::checks::broad_rule::SPEC,
    &crate::checks::listener_port::SPEC,
    &crate::checks::listener_tls::SPEC,
    &crate::checks::listener_idle_timeout::SPEC,
    &crate::checks::certificate::SPEC,
    &crate::checks::target_health::SPEC,
    &crate::checks::proxy_protocol::SPEC,
    &crate::checks::target_security_groups::SPEC,
    &crate::checks::target_hostname::SPEC,
    &crate::checks::network_path::SPEC,
    &crate::checks::visibility_lost::SPEC,
    &crate::checks::subscribers::SPEC,
];

/// The checks of `groups`.
pub fn checks_of(groups: &[Group]) -> Vec<Check> {
    CATALOGUE.iter().copied().filter(|check| groups.contains(&check.group)).collect()
}

/// The results of those `checks` that the policy includes, for one endpoint service, with the changes that caused them.
pub fn evaluate_checks(checks: &[Check], context: CheckContext<'_>) -> Vec<CheckResult> {
    let watched = checks.iter().filter(|check| (check.is_watched)(context.policy));
    let mut results: Vec<CheckResult> = watched.flat_map(|check| (check.evaluate)(context)).collect();
    cause::add_related(&mut results, context);
    let of_others = |change: &&Change| context.service.is_some_and(|service| change.is_of_another_service(service));
    for change in context.changes.iter().filter(|change| !of_others(change)) {
        cause::attribute(&mut results, change);
    }
    results
}

/// The check with this id, if this version has it.
pub fn find(id: &str) -> Option<Check> {
    CATALOGUE.iter().copied().find(|check| check.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::check::{Severity, Status};
    use crate::snapshot::{CallError, CrossZoneOverride, EndpointService, LoadBalancer, Target, TargetGroup, Topology};
    use crate::testing::{
        call_error, endpoint_service, group_attributes, load_balancer, service, target, target_group, topology,
        with_connections, with_context,
    };

    #[test]
    fn ids_are_unique() {
        let ids: BTreeSet<&str> = CATALOGUE.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), CATALOGUE.len());
    }

    #[test]
    fn every_check_is_in_one_group() {
        let groups = [Group::Connections, Group::Health, Group::Settings, Group::Visibility, Group::Delivery];
        let ids = |groups: &[Group]| checks_of(groups).iter().map(|check| check.id).collect::<BTreeSet<_>>();
        assert_eq!(groups.iter().map(|group| ids(&[*group]).len()).sum::<usize>(), CATALOGUE.len());
        assert_eq!(ids(&groups), CATALOGUE.iter().map(|check| check.id).collect());
        assert_eq!(ids(&[Group::Visibility]), ["visibility.lost"].into());
        assert_eq!(groups.map(Group::as_str), ["connections", "health", "settings", "visibility", "delivery"]);
        assert_eq!(format!("{:?}", crate::checks::visibility_lost::SPEC), "visibility.lost");
    }

    /// The checks that are about the endpoint service alone, or about calls.
    const ABOUT_ONE: [&str; 9] = [
        "connection.absent",
        "delivery.subscribers",
        "service.acceptance-required",
        "service.available",
        "service.notification",
        "service.principals",
        "service.private-dns",
        "service.regions",
        "visibility.lost",
    ];

    const OF_TARGET_GROUPS: [&str; 7] = [
        "load-balancer.cross-zone",
        "load-balancer.zones",
        "network-path",
        "target-group.health",
        "target-group.hostname",
        "target-group.proxy-protocol",
        "target-group.security-groups",
    ];

    /// Otherwise the guard would close the alerts on resources that it could not list, because they seem to be gone.
    #[test]
    fn every_check_reports_a_failed_list_as_unlisted() {
        let denied = || call_error("ec2:Describe");
        let no_services = Topology { services: Some(Err(denied())), ..with_connections(Vec::new()) };
        let nothing = Topology { connections: Some(Err(denied())), ..no_services.clone() };
        let unread_connections = [(service(1), denied())].into();
        let of_another = Topology { unread_connections, ..no_services };
        let no_groups = LoadBalancer { target_groups: Err(denied()), ..load_balancer("pg", Vec::new()) };
        let half = topology(endpoint_service(), [load_balancer("other", vec![target_group("other")]), no_groups]);
        let half = Topology { connections: Some(Ok(Vec::new())), ..half };
        let unlisted = |topology: &Topology| -> BTreeSet<&str> {
            let results: Vec<CheckResult> = with_context(topology, |context| {
                CATALOGUE.iter().flat_map(|check| (check.evaluate)(context)).collect()
            });
            let is_unknown = |result: &CheckResult| matches!(result.status, Status::Unknown(_));
            let is_known_anyway =
                |result: &CheckResult| !result.is_unlisted && matches!(topology.services, Some(Ok(_)));
            assert!(results.iter().all(|result| is_unknown(result) || is_known_anyway(result)), "{results:?}");
            results.iter().filter(|result| result.is_unlisted).map(|result| result.check.id).collect()
        };
        let all: BTreeSet<&str> = CATALOGUE.iter().map(|check| check.id).collect();
        assert_eq!(unlisted(&nothing), &all - &ABOUT_ONE.into());
        assert_eq!(unlisted(&of_another), &all - &ABOUT_ONE.into(), "other services' connections were read");
        assert_eq!(unlisted(&half), OF_TARGET_GROUPS.into());
    }

    #[test]
    fn a_check_is_unknown_without_a_read_that_it_needs() {
        const DENIED: fn() -> CallError = || call_error("elasticloadbalancing:Describe");
        let everywhere = Target { zone: Some("all".to_owned()), ..target(1, "healthy") };
        let group = TargetGroup { targets: Ok(vec![everywhere]), ..target_group("pg") };
        let group = TargetGroup { attributes: group_attributes(CrossZoneOverride::On), ..group };
        let unknown_after = |fail: fn(&mut LoadBalancer)| -> BTreeSet<&str> {
            let mut balancer = load_balancer("pg", vec![group.clone()]);
            fail(&mut balancer);
            let zones = Some(vec!["eu-central-1a".to_owned(), "eu-central-1b".to_owned()]);
            let topology = topology(EndpointService { zones, ..endpoint_service() }, [balancer]);
            let results = with_context(&topology, |context| evaluate_checks(CATALOGUE, context));
            let unknown = results.iter().filter(|result| matches!(result.status, Status::Unknown(_)));
            unknown.map(|result| result.check.id).collect()
        };
        assert_eq!(unknown_after(|_| {}), [].into());
        let of_listeners = ["listener.idle-timeout", "listener.port", "listener.tls"];
        let of_load_balancers = [
            "load-balancer.broad-rule",
            "load-balancer.internal-nlb",
            "load-balancer.outbound",
            "load-balancer.security-groups",
            "load-balancer.zones",
        ];
        let without_description = unknown_after(|balancer| balancer.description = Err(DENIED()));
        assert_eq!(without_description, of_listeners.into_iter().chain(of_load_balancers).collect());
        let without_listeners = unknown_after(|balancer| balancer.listeners = Err(DENIED()));
        let of_all_listeners = of_listeners.into_iter().chain(["listener.certificate"]);
        assert_eq!(without_listeners, of_all_listeners.chain(OF_TARGET_GROUPS).collect());
        let without_targets =
            unknown_after(|balancer| balancer.target_groups.as_mut().unwrap()[0].targets = Err(DENIED()));
        assert_eq!(without_targets, ["load-balancer.zones", "target-group.health"].into());
    }

    #[test]
    fn every_row_is_complete() {
        for check in CATALOGUE {
            let texts = [check.id, check.in_short, check.fails_when, check.failing_word, check.impact];
            assert!(texts.iter().all(|text| !text.trim().is_empty()), "{}", check.id);
            let severities: Vec<Severity> = check.severities.iter().map(|(severity, _)| *severity).collect();
            assert!(!severities.is_empty() && severities.is_sorted_by(|worse, better| worse > better), "{}", check.id);
            assert!(check.cloudtrail_events.is_sorted(), "{}", check.id);
        }
    }
}
