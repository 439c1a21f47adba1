//! The attribution of findings to changes in AWS.

use super::{Check, CheckContext, CheckResult, Finding, Status};
use crate::ids::AccountId;
use crate::trigger::Change;

/// Records `change` on each finding that it can have caused.
pub fn attribute(results: &mut [CheckResult], change: &Change) {
    for CheckResult { check, resource, status, .. } in results {
        if let Status::Fail(finding) = status
            && can_cause(change, check, resource, finding)
        {
            finding.cause = Some(change.clone());
        }
    }
}

/// Whether the check depends on the call, and the call names the finding's resource or one of its ids.
pub fn can_cause(change: &Change, check: Check, resource: &str, finding: &Finding) -> bool {
    check.cloudtrail_events.contains(&change.event_name.as_str())
        && change.names_any(std::iter::once(resource).chain(finding.ids.iter().map(String::as_str)))
        && !is_of_another_group(change, resource)
        && (change.event_name == "DeregisterTargets" || !finding.parts.contains_key(NO_TARGET))
}

/// The part of a finding about a target group without any target. Only deregistering causes that, and people often
/// change the group's settings just before.
pub(crate) const NO_TARGET: &str = "no target is registered";

/// Whether `resource` is a target group and the call names only other groups: a target can be in several.
fn is_of_another_group(change: &Change, resource: &str) -> bool {
    let is_group = |text: &str| text.contains(":targetgroup/");
    is_group(resource) && !change.names(resource) && change.texts().iter().flatten().any(|text| is_group(text))
}

/// Adds to each finding the ids that are related to its resource.
pub(crate) fn add_related(results: &mut [CheckResult], context: CheckContext<'_>) {
    for CheckResult { check, resource, status, .. } in results {
        if let Status::Fail(finding) = status {
            let deleted = context.was_in_place.iter().filter(|_| names_only_ids(check)).cloned();
            finding.ids.extend(related(resource, context).into_iter().map(ToOwned::to_owned).chain(deleted));
        }
    }
}

/// Whether the check depends on a call that names the deleted resource only by its id.
fn names_only_ids(check: Check) -> bool {
    let by_id_alone = ["DeleteVpcEndpointConnectionNotifications", "DisassociateRouteTable"];
    by_id_alone.iter().any(|event| check.cloudtrail_events.contains(event))
}

/// The ids related to a resource: the load balancers of a target group, or the endpoints of an account.
fn related<'a>(resource: &str, context: CheckContext<'a>) -> Vec<&'a str> {
    let load_balancers = context.topology.load_balancers.values().filter(|load_balancer| {
        load_balancer.target_groups.iter().flatten().any(|group| group.arn.as_str() == resource)
    });
    let connections = context.topology.connections.iter().flatten().flatten();
    let endpoints = connections
        .filter(|connection| connection.owner.as_ref().is_some_and(|owner: &AccountId| owner.as_str() == resource));
    load_balancers
        .map(|load_balancer| load_balancer.arn.as_str())
        .chain(endpoints.map(|connection| connection.endpoint.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::catalogue;
    use crate::check::Severity;
    use crate::testing::{
        DBT, UNTRUSTED, change, connection, endpoint, endpoint_service, finding, load_balancer, only_finding,
        target_group, topology, with_context,
    };

    fn check(id: &str) -> Check {
        catalogue::find(id).unwrap()
    }

    /// Whether this call becomes the cause of a finding of `check` on the target group `pg` with the id sg-1.
    fn is_cause(check: Check, event_name: &str, parameters: &str) -> bool {
        let group = target_group("pg");
        let found = finding(Severity::Critical).about(["sg-1", "sg-2"]);
        let mut results = [CheckResult::new(check, &group.arn, Status::fail(found))];
        let change = Change { event_name: event_name.to_owned(), parameters: parameters.to_owned(), ..change() };
        let topology = topology(endpoint_service(), [load_balancer("pg", vec![group])]);
        with_context(&topology, |context| add_related(&mut results, context));
        attribute(&mut results, &change);
        matches!(&results[0].status, Status::Fail(finding) if finding.cause.is_some())
    }

    #[test]
    fn a_deletion_is_found_by_an_id_in_the_inventory() {
        let was_in_place = BTreeSet::from(["vpce-nfn-1".to_owned()]);
        let cause = |check: Check, id: &str| {
            let found = finding(Severity::Warning);
            let mut results = [CheckResult::new(check, "vpce-svc-1", Status::fail(found))];
            let topology = topology(endpoint_service(), []);
            with_context(&topology, |context| {
                add_related(&mut results, CheckContext { was_in_place: &was_in_place, ..context });
            });
            let event_name = "DeleteVpcEndpointConnectionNotifications".to_owned();
            attribute(&mut results, &Change { event_name, parameters: format!("{{\"id\":\"{id}\"}}"), ..change() });
            matches!(&results[0].status, Status::Fail(finding) if finding.cause.is_some())
        };
        assert!(cause(check("service.notification"), "vpce-nfn-1"));
        assert!(!cause(check("service.notification"), "vpce-nfn-2"), "another service's");
        assert!(!cause(check("load-balancer.cross-zone"), "vpce-nfn-1"), "a check that does not depend on it");
    }

    #[test]
    fn related_ids_include_the_inventory_only_for_deletions() {
        let mut topology = topology(endpoint_service(), []);
        let connections = [connection(1, Some(DBT), "available"), connection(2, Some(UNTRUSTED), "available")];
        topology.connections = Some(Ok(connections.to_vec()));
        let was_in_place = BTreeSet::from(["vpce-nfn-1".to_owned()]);
        let related = |check: Check, resource: &str| {
            let mut results = [CheckResult::new(check, resource, Status::fail(finding(Severity::Warning)))];
            with_context(&topology, |context| {
                add_related(&mut results, CheckContext { was_in_place: &was_in_place, ..context });
            });
            only_finding(results.to_vec()).ids.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(related(check("connection.untrusted"), UNTRUSTED), [endpoint(2).to_string()]);
        assert_eq!(related(check("service.notification"), "vpce-svc-1"), ["vpce-nfn-1"]);
        assert_eq!(related(check("load-balancer.cross-zone"), "vpce-svc-1"), Vec::<String>::new());
    }

    #[test]
    fn a_cause_is_a_relevant_call_that_names_the_resource() {
        let (listener_port, cross_zone, security_groups) =
            (check("listener.port"), check("load-balancer.cross-zone"), check("load-balancer.security-groups"));
        let arn = |resource: &str| format!("\"arn:aws:elasticloadbalancing:eu-central-1:111122223333:{resource}\"");
        let pg = format!("{{\"loadBalancerArn\":{}}}", arn("loadbalancer/net/pg/0123456789abcdef"));
        let other = format!("{{\"loadBalancerArn\":{}}}", arn("loadbalancer/net/other/0123456789abcdef"));
        let listener = format!("{{\"listenerArn\":{}}}", arn("listener/net/pg/0123456789abcdef/fedcba9876543210"));
        let group = r#"{"groupId":"sg-1"}"#;
        assert!(is_cause(cross_zone, "ModifyLoadBalancerAttributes", &pg), "its load balancer");
        let (health, of_group) = (
            check("target-group.health"),
            format!("{{\"targetGroupArn\":{}}}", arn("targetgroup/pg/0123456789abcdef")),
        );
        let empties = |event_name: &str| {
            let change = Change { event_name: event_name.to_owned(), parameters: of_group.clone(), ..change() };
            let found = finding(Severity::Critical).with_parts([NO_TARGET]);
            can_cause(&change, health, target_group("pg").arn.as_str(), &found)
        };
        assert!(empties("DeregisterTargets"));
        assert!(!empties("RegisterTargets") && !empties("ModifyTargetGroupAttributes"), "they empty no group");
        assert!(is_cause(listener_port, "DeleteListener", &listener), "a listener of its load balancer");
        assert!(is_cause(security_groups, "RevokeSecurityGroupIngress", group), "an id of the finding");
        assert!(!is_cause(cross_zone, "ModifyLoadBalancerAttributes", &other), "another load balancer");
        assert!(!is_cause(security_groups, "RevokeSecurityGroupIngress", r#"{"groupId":"sg-12"}"#), "another group");
        let (health, group_of) = (check("target-group.health"), |name: &str| {
            format!("{{\"targetGroupArn\":\"{}\",\"targets\":[{{\"id\":\"sg-1\"}}]}}", target_group(name).arn)
        });
        assert!(is_cause(health, "DeregisterTargets", &group_of("pg")));
        assert!(!is_cause(health, "DeregisterTargets", &group_of("other")), "the same target in another group");
        assert!(!is_cause(cross_zone, "RevokeSecurityGroupIngress", group), "a call that the check does not depend on");
    }
}
