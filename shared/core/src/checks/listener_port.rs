//! `listener.port`: does a listener accept connections on the ports that dbt connects to?
//!
//! Checked on each load balancer of the service, because any of them may get a connection. A listener that forwards to an
//! empty target group passes here; `target-group.health` reports the group.

use std::collections::BTreeSet;

use crate::check::{CheckContext, CheckResult, Command, Finding, Parts, Remedy, Severity, Spec, Status};
use crate::snapshot::{Listener, LoadBalancer, Unread};

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "listener.port",
    severities: &[
        (Severity::Critical, "no such listener"),
        (
            Severity::Warning,
            "`ListenerPorts` is empty, and a listener that was there is gone while another one is left",
        ),
    ],
    fails_when: "a load balancer of the service has no TCP or TLS listener that forwards to a target group on one of \
                 `ListenerPorts`; if `ListenerPorts` is empty, on any port, or on a port where one was within the last 7 days",
    failing_word: "closed",
    impact: "dbt cannot connect on this port. If the service has several load balancers, any of them may get dbt's \
             connections, so each one needs the listener.",
    fix_in_short: "`create-listener`, or correct `ListenerPorts`",
    cloudtrail_events: &[
        "CreateListener",
        "CreateRule",
        "DeleteListener",
        "DeleteRule",
        "ModifyListener",
        "ModifyListenerAttributes",
        "ModifyRule",
        "SetRulePriorities",
    ],
    parts: Parts::Ports,
    evaluate,
    ..Spec::USUAL
};

/// One result per load balancer.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-listeners.html>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let expected = context.ports();
    context.per_load_balancer(&SPEC, |load_balancer, _| match &load_balancer.listeners {
        Ok(listeners) => judge(load_balancer, listeners, &expected, context),
        Err(error) => Unread::from(error).into(),
    })
}

fn judge(
    load_balancer: &LoadBalancer,
    listeners: &[Listener],
    expected: &BTreeSet<u16>,
    context: CheckContext<'_>,
) -> Status {
    let serving: BTreeSet<u16> =
        listeners.iter().filter(|listener| listener.serves(expected)).map(|listener| listener.port).collect();
    let mut on_path = listeners.iter().filter(|listener| listener.is_on(expected));
    let unread = on_path.find_map(|listener| listener.forwards_to.as_ref().err());
    let missing: Vec<u16> = expected.difference(&serving).copied().collect();
    let summary = if expected.is_empty() && serving.is_empty() {
        format!("{} has no listener for dbt", load_balancer.name())
    } else if let Some(gone) = gone_ports(load_balancer, &serving, expected, context) {
        return Status::fail(gone_listener(load_balancer, listeners, &gone, context));
    } else if let (true, Some(error)) = (missing.is_empty(), unread) {
        return Unread::from(error).into();
    } else if missing.is_empty() {
        return Status::pass(match expected.is_empty() {
            true => served(load_balancer, serving.iter().copied(), "listens") + "; no port is required",
            false => served(load_balancer, expected.iter().copied(), "listens"),
        });
    } else {
        served(load_balancer, missing.iter().copied(), "does not listen")
    };
    Status::fail(
        Finding::new(
            Severity::Critical,
            summary,
            "dbt's connections fail: no TCP or TLS listener forwards them to a target group.",
            remedy(load_balancer, listeners, &missing, context),
        )
        .with_evidence(evidence(listeners))
        .with_parts(missing.iter().copied().map(Parts::port))
        .stopping_dbt(true),
    )
}

/// What the remembered id of a listener begins with.
pub(crate) const LISTENER: &str = "listener ";

/// The id by which a listener that serves dbt is remembered: its own ARN is another one once it is created anew.
pub(crate) fn listener_id(load_balancer: &LoadBalancer, listener: &Listener) -> Option<String> {
    listener.serves(&BTreeSet::new()).then(|| format!("{LISTENER}{} {}", listener.port, load_balancer.arn))
}

/// The ports where a listener was, if the stack does not say which ports dbt uses.
fn gone_ports(
    load_balancer: &LoadBalancer,
    serving: &BTreeSet<u16>,
    expected: &BTreeSet<u16>,
    context: CheckContext<'_>,
) -> Option<Vec<u16>> {
    let port = |id: &String| {
        let (port, arn) = id.strip_prefix(LISTENER)?.split_once(' ')?;
        (arn == load_balancer.arn.as_str()).then(|| port.parse::<u16>().ok())?
    };
    let gone: BTreeSet<u16> = context.was_in_place.iter().filter_map(port).collect();
    let gone: Vec<u16> = gone.difference(serving).copied().collect();
    (expected.is_empty() && !gone.is_empty()).then_some(gone)
}

/// A listener that was there is gone, and another one is left: which one dbt uses is not known.
fn gone_listener(
    load_balancer: &LoadBalancer,
    listeners: &[Listener],
    gone: &[u16],
    context: CheckContext<'_>,
) -> Finding {
    let Remedy { action, command, console, .. } = remedy(load_balancer, listeners, gone, context);
    Finding::new(
        Severity::Warning,
        served(load_balancer, gone.iter().copied(), "no longer listens"),
        "If dbt uses this port, its connections fail. ListenerPorts is empty, so the guard does not know.",
        Remedy {
            action: format!(
                "If dbt does not use the port, name those that it uses: make deploy SET=\"ListenerPorts=<port>\". If it does: {action}"
            ),
            command,
            console,
            nothing_to_do: false,
        },
    )
    .with_evidence(evidence(listeners))
    .with_parts(gone.iter().copied().map(Parts::port))
}

/// `pg does not listen for dbt on port 5432`.
fn served(load_balancer: &LoadBalancer, ports: impl Iterator<Item = u16>, verb: &str) -> String {
    let ports: Vec<String> = ports.map(|port| port.to_string()).collect();
    let plural = if ports.len() == 1 { "" } else { "s" };
    format!("{} {verb} for dbt on port{plural} {}", load_balancer.name(), ports.join(", "))
}

fn evidence(listeners: &[Listener]) -> Vec<String> {
    if listeners.is_empty() {
        return vec!["no listener".to_owned()];
    }
    let line = |listener: &Listener| {
        let Ok(groups) = &listener.forwards_to else {
            return format!("listener {listener}: its rules could not be read");
        };
        let groups: Vec<&str> = groups.iter().filter_map(|arn| arn.resource().split('/').nth(1)).collect();
        let to = if groups.is_empty() { "to no target group".to_owned() } else { format!("to {}", groups.join(", ")) };
        format!("listener {listener}: forwards {to}")
    };
    listeners.iter().map(line).collect()
}

fn remedy(load_balancer: &LoadBalancer, listeners: &[Listener], missing: &[u16], context: CheckContext<'_>) -> Remedy {
    let (region, arn) = (context.region, &load_balancer.arn);
    let occupied = listeners.iter().find(|listener| missing.contains(&listener.port));
    let groups = load_balancer.target_groups.iter().flatten().collect::<Vec<_>>();
    let create = |port: &str, group: &str| {
        Command::new("elbv2 create-listener", region)
            .option("load-balancer-arn", arn)
            .literal("--protocol TCP")
            .option("port", port)
            .option("default-actions", format!("Type=forward,TargetGroupArn={group}"))
    };
    let (action, command) = match (occupied, missing.first(), &groups[..]) {
        (Some(listener), ..) => (
            format!(
                "The listener {listener} uses the port, but dbt needs one of protocol TCP or TLS that forwards to a target \
                 group. Change it, or delete it and create another."
            ),
            Command::new("elbv2 describe-listeners", region).option("load-balancer-arn", arn),
        ),
        (None, Some(port), [group]) => (
            format!(
                "Create the listener. The command uses {}, the only target group here: check that it is the right one. If \
                 dbt uses another port, correct the stack's ListenerPorts.",
                group.name()
            ),
            create(&port.to_string(), group.arn.as_str()),
        ),
        (None, port, _) => (
            "Create a TCP or TLS listener that forwards to your service's target group. In the command, replace \
             TARGET_GROUP_ARN, and PORT if it is there."
                .to_owned(),
            create(&port.map_or("PORT".to_owned(), ToString::to_string), "TARGET_GROUP_ARN"),
        ),
    };
    Remedy::new(&action, Some(command), context.region.load_balancer(arn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        call_error, endpoint_service, failures, listener, load_balancer, only_finding, settings, summaries,
        target_group, topology, with_context, with_policy,
    };

    fn nlb(name: &str, listeners: Vec<Listener>) -> LoadBalancer {
        LoadBalancer { listeners: Ok(listeners), ..load_balancer(name, vec![target_group("pg")]) }
    }

    fn results(ports: &str, load_balancers: Vec<LoadBalancer>) -> Vec<CheckResult> {
        let policy = settings(&[("LISTENER_PORTS", ports)]).policy;
        with_policy(&topology(endpoint_service(), load_balancers), &policy, evaluate)
    }

    fn on(protocol: &str) -> Vec<Listener> {
        vec![listener(protocol, 5432, &target_group("pg"))]
    }

    #[test]
    fn without_ports_a_listener_that_is_gone_is_a_warning_until_one_listens_there() {
        let status = |ports: &str, listeners: Vec<Listener>| {
            let balancer = nlb("pg", listeners);
            let was =
                [5432, 443].map(|port| listener_id(&balancer, &listener("TCP", port, &target_group("pg"))).unwrap());
            let was_in_place = BTreeSet::from(was);
            let policy = settings(&[("LISTENER_PORTS", ports)]).policy;
            let results = with_policy(&topology(endpoint_service(), [balancer]), &policy, |context| {
                evaluate(CheckContext { was_in_place: &was_in_place, ..context })
            });
            failures(&results).first().map(|(severity, summary)| (*severity, (*summary).to_owned()))
        };
        let on = |port| listener("TCP", port, &target_group("pg"));
        let warning = Some((Severity::Warning, "pg no longer listens for dbt on port 5432".to_owned()));
        assert_eq!(status("", vec![on(443)]), warning);
        assert_eq!(status("", vec![on(443), on(5432)]), None);
        assert_eq!(status("443", vec![on(443)]), None, "the stack says which ports dbt uses");
        assert_eq!(status("", vec![]).map(|(severity, _)| severity), Some(Severity::Critical), "none is left");
    }

    #[test]
    fn a_listener_serves_dbt_if_its_protocol_carries_tcp() {
        for protocol in ["TCP", "TLS", "TCP_UDP"] {
            assert_eq!(summaries(&results("5432", vec![nlb("pg", on(protocol))])), [""; 0], "{protocol}");
            assert_eq!(summaries(&results("", vec![nlb("pg", on(protocol))])), [""; 0], "{protocol}");
        }
        for protocol in ["UDP", "QUIC", ""] {
            let expected = "pg does not listen for dbt on port 5432";
            assert_eq!(summaries(&results("5432", vec![nlb("pg", on(protocol))])), [expected], "{protocol}");
            let any = "pg has no listener for dbt";
            assert_eq!(summaries(&results("", vec![nlb("pg", on(protocol))])), [any], "{protocol}");
        }
    }

    #[test]
    fn each_expected_port_counts_on_each_load_balancer() {
        let expected = "pg does not listen for dbt on port 443";
        assert_eq!(summaries(&results("5432+443", vec![nlb("pg", on("TCP"))])), [expected]);
        let idle = "other does not listen for dbt on port 5432";
        assert_eq!(summaries(&results("5432", vec![nlb("pg", on("TCP")), nlb("other", vec![])])), [idle]);
        let elsewhere = "vpce-svc-00000000000000001=443";
        let expected = "pg does not listen for dbt on port 443";
        assert_eq!(summaries(&results(elsewhere, vec![nlb("pg", on("TCP"))])), [expected]);
    }

    #[test]
    fn a_listener_that_forwards_to_nothing_serves_nobody() {
        let nowhere = Listener { forwards_to: Ok(vec![]), ..on("TCP").remove(0) };
        let evidence = |listeners| only_finding(results("443+5432", vec![nlb("pg", listeners)])).evidence;
        let lines = evidence(vec![nowhere, listener("UDP", 53, &target_group("pg"))]);
        assert_eq!(lines, ["listener TCP 5432: forwards to no target group", "listener UDP 53: forwards to pg"]);
        assert_eq!(evidence(vec![]), ["no listener"]);
    }

    #[test]
    fn an_empty_target_group_is_reported_by_target_group_health() {
        let nlb = nlb("pg", on("TCP"));
        assert_eq!(summaries(&results("5432", vec![nlb.clone()])), [""; 0]);
        let health = with_context(&topology(endpoint_service(), [nlb]), crate::checks::target_health::SPEC.evaluate);
        assert_eq!(failures(&health), [(Severity::Critical, "no target is registered in pg")]);
    }

    #[test]
    fn a_failed_read_is_unknown() {
        let failed = Err(call_error("elasticloadbalancing:DescribeListeners"));
        let unread = LoadBalancer { listeners: failed, ..nlb("pg", vec![]) };
        let results = with_context(&topology(endpoint_service(), [unread]), evaluate);
        assert!(matches!(results[0].status, Status::Unknown(_)));
    }
}
