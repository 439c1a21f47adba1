//! `listener.port`: is somebody listening where dbt connects?

use std::collections::BTreeSet;

use super::catalogue::{ALWAYS, Absence};
use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status};
use crate::snapshot::{Listener, LoadBalancer};

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "listener.port",
    severities: &[(Severity::Critical, "always")],
    fails_when: "a load balancer of the service has no TCP or TLS listener that forwards to a target group on one of \
                 `ListenerPorts`; if `ListenerPorts` is empty, on any port",
    impact: "dbt cannot connect on this port. If the service has several load balancers, any of them may get dbt's \
             connections, so each one needs the listener.",
    fix_in_short: "`create-listener`, or correct `ListenerPorts`",
    can_flap: false,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: ALWAYS,
    cloudtrail_events: &["CreateListener", "DeleteListener", "ModifyListener"],
    group: Group::Settings,
    evaluate,
};

/// One result per load balancer: with several behind a service, any of them may get a connection.
///
/// A listener that forwards to a group without targets counts here: what is wrong then is the group, and
/// `target-group.health` says so.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-listeners.html>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let expected = context.policy.listener_ports.for_service(context.service);
    context.per_load_balancer(&SPEC, |balancer, _| match &balancer.listeners {
        Ok(listeners) => judge(balancer, listeners, &expected, context),
        Err(error) => Status::Unknown(error.to_string()),
    })
}

fn judge(
    balancer: &LoadBalancer,
    listeners: &[Listener],
    expected: &BTreeSet<u16>,
    context: CheckContext<'_>,
) -> Status {
    let serving: BTreeSet<u16> = listeners.iter().filter(|own| own.serves()).map(|own| own.port).collect();
    let missing: Vec<u16> = expected.difference(&serving).copied().collect();
    let name = balancer.name();
    let summary = if expected.is_empty() && serving.is_empty() {
        format!("no listener of {name} serves dbt")
    } else if missing.is_empty() {
        return Status::Pass;
    } else {
        let ports: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let plural = if ports.len() == 1 { "" } else { "s" };
        format!(
            "no listener serves port{plural} {} of {name} ({} of {})",
            ports.join(", "),
            ports.len(),
            expected.len()
        )
    };
    let (region, arn) = (context.region.name(), &balancer.arn);
    let taken = listeners.iter().find(|own| missing.contains(&own.port));
    let groups = balancer.target_groups.iter().flatten().collect::<Vec<_>>();
    let (action, command) = match (taken, missing.first(), &groups[..]) {
        (Some(taken), ..) => (
            format!(
                "{taken} has the port, but does not serve dbt: its protocol must be TCP or TLS, and it must forward to a \
                 target group."
            ),
            format!("aws elbv2 describe-listeners --region {region} --load-balancer-arn {arn}"),
        ),
        (None, Some(port), [group]) => (
            format!(
                "Create the listener; {} is the only target group here, so see that it is the right one. If dbt expects \
                 another port, on_passing the stack's ListenerPorts.",
                group.name()
            ),
            format!(
                "aws elbv2 create-listener --region {region} --load-balancer-arn {arn} --protocol TCP --port {port} \
                 --default-actions Type=forward,TargetGroupArn={}",
                group.arn
            ),
        ),
        (None, ..) => (
            "Create a TCP or TLS listener that forwards to the target group of your service; set the target group's ARN \
             in this command, and the port where it is missing."
                .to_owned(),
            format!(
                "aws elbv2 create-listener --region {region} --load-balancer-arn {arn} --protocol TCP --port {} \
                 --default-actions Type=forward,TargetGroupArn=ARN",
                missing.first().map_or("PORT".to_owned(), ToString::to_string)
            ),
        ),
    };
    let line = |own: &Listener| {
        let groups: Vec<&str> = own.forwards_to.iter().filter_map(|arn| arn.resource().split('/').nth(1)).collect();
        let to = if groups.is_empty() { "to no target group".to_owned() } else { format!("to {}", groups.join(", ")) };
        format!("listener {own}: forwards {to}")
    };
    Status::Fail(Box::new(Finding {
        severity: Severity::Critical,
        summary,
        impact: "dbt's connections to these ports are refused: no TCP or TLS listener takes them and forwards them."
            .to_owned(),
        evidence: if listeners.is_empty() {
            vec!["no listener".to_owned()]
        } else {
            listeners.iter().map(line).collect()
        },
        remedy: Remedy { action, command: Some(command), console: context.region.load_balancer(arn) },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        call_error, endpoint_service, failures, listener, load_balancer, settings, target_group, topology,
        with_context, with_policy,
    };

    fn balancer(name: &str, listeners: Vec<Listener>) -> LoadBalancer {
        LoadBalancer { listeners: Ok(listeners), ..load_balancer(name, vec![target_group("pg")]) }
    }

    fn told(ports: &str, balancers: Vec<LoadBalancer>) -> Vec<String> {
        let policy = settings(&[("LISTENER_PORTS", ports)]).policy;
        let results = with_policy(&topology(endpoint_service(), balancers), &policy, evaluate);
        failures(&results).into_iter().map(|(_, summary)| summary.to_owned()).collect()
    }

    fn on(protocol: &str) -> Vec<Listener> {
        vec![listener(protocol, 5432, &target_group("pg"))]
    }

    #[test]
    fn tcp_in_any_dress_serves_dbt_and_udp_does_not() {
        for protocol in ["TCP", "TLS", "TCP_UDP"] {
            assert_eq!(told("5432", vec![balancer("pg", on(protocol))]), [""; 0], "{protocol}");
            assert_eq!(told("", vec![balancer("pg", on(protocol))]), [""; 0], "{protocol}");
        }
        for protocol in ["UDP", "QUIC", ""] {
            let expected = "no listener serves port 5432 of pg (1 of 1)";
            assert_eq!(told("5432", vec![balancer("pg", on(protocol))]), [expected], "{protocol}");
            let any = "no listener of pg serves dbt";
            assert_eq!(told("", vec![balancer("pg", on(protocol))]), [any], "{protocol}");
        }
    }

    #[test]
    fn each_expected_port_counts_on_each_load_balancer() {
        let expected = "no listener serves port 443 of pg (1 of 2)";
        assert_eq!(told("5432+443", vec![balancer("pg", on("TCP"))]), [expected]);
        let idle = "no listener serves port 5432 of other (1 of 1)";
        assert_eq!(told("5432", vec![balancer("pg", on("TCP")), balancer("other", vec![])]), [idle]);
        let elsewhere = "vpce-svc-00000000000000001=443";
        let expected = "no listener serves port 443 of pg (1 of 1)";
        assert_eq!(told(elsewhere, vec![balancer("pg", on("TCP"))]), [expected]);
    }

    #[test]
    fn a_listener_that_forwards_to_nothing_serves_nobody() {
        let nowhere = Listener { forwards_to: vec![], ..on("TCP").remove(0) };
        assert_eq!(told("5432", vec![balancer("pg", vec![nowhere])]).len(), 1);
    }

    #[test]
    fn a_listener_that_forwards_to_an_empty_group_is_the_groups_matter() {
        let balancer = balancer("pg", on("TCP"));
        assert_eq!(told("5432", vec![balancer.clone()]), [""; 0]);
        let health =
            with_context(&topology(endpoint_service(), [balancer]), crate::checks::target_health::SPEC.evaluate);
        assert_eq!(failures(&health), [(Severity::Critical, "no target is registered in target group pg")]);
    }

    #[test]
    fn what_could_not_be_read_is_unknown() {
        let failed = Err(call_error("elasticloadbalancing:DescribeListeners"));
        let blind = LoadBalancer { listeners: failed, ..balancer("pg", vec![]) };
        let results = with_context(&topology(endpoint_service(), [blind]), evaluate);
        assert!(matches!(results[0].status, Status::Unknown(_)));
    }
}
