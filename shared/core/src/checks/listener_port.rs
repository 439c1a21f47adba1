//! `listener.port`: does a listener accept connections on the ports that dbt connects to?
//!
//! The check covers each load balancer of the service, because any of them may get a connection. A listener that
//! forwards to an empty target group passes here; `target-group.health` reports the group.

use std::collections::BTreeSet;

use crate::check::protocols::negotiating;
use crate::check::restore::{
    create_listener, follow_the_groups, last_listeners, list_load_balancers, list_target_groups, listen_again,
};
use crate::check::{CheckContext, CheckResult, Command, Finding, Parts, Remedy, Severity, Spec, Status};
use crate::config::ListenerPorts;
use crate::ids::{Arn, ServiceId};
use crate::snapshot::{Listener, LoadBalancer, Unread};

pub(crate) const SPEC: Spec = Spec {
    id: "listener.port",
    in_short: "A listener forwards each of dbt's ports to a target group.",
    severities: &[
        (Severity::Critical, "no such listener"),
        (Severity::Warning, "`ListenerPorts` is empty, and one listener is gone while another is left"),
    ],
    fails_when: "a load balancer of the service has no TCP or TLS listener that forwards to a target group on one of \
                 `ListenerPorts`; if `ListenerPorts` is empty, on any port, or on a port where one was within the last 7 days",
    failing_word: "closed",
    impact: "dbt cannot connect on this port. If the service has several load balancers, any of them may get dbt's \
             connections, so each one needs the listener.",
    cloudtrail_events: &[
        "CreateListener",
        "CreateRule",
        "DeleteListener",
        "DeleteRule",
        "ModifyListener",
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
    context.per_listeners(&SPEC, |load_balancer, listeners| judge(load_balancer, listeners, &expected, context))
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
            "dbt's connections fail: no listener forwards TCP connections on this port to a target group.",
            remedy(load_balancer, listeners, &missing, context),
        )
        .with_evidence(evidence(listeners))
        .with_parts(missing.iter().copied().map(Parts::port))
        .stopping_dbt(true),
    )
}

pub(crate) const LISTENER: &str = "listener ";

/// The stored id of a listener that serves dbt. It is not the ARN, because a recreated listener has a new one.
pub(crate) fn listener_id(load_balancer: &LoadBalancer, listener: &Listener) -> Option<String> {
    listener.serves(&BTreeSet::new()).then(|| format!("{LISTENER}{} {}", listener.port, load_balancer.arn))
}

/// The ports of listeners that are gone, if the stack does not configure dbt's ports.
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

/// The finding for a listener that is gone while another is left: the guard does not know which one dbt uses.
fn gone_listener(
    load_balancer: &LoadBalancer,
    listeners: &[Listener],
    gone: &[u16],
    context: CheckContext<'_>,
) -> Finding {
    let remedy = remedy(load_balancer, listeners, gone, context);
    let left: Vec<String> =
        listeners.iter().filter(|it| it.serves(&context.ports())).map(|it| it.port.to_string()).collect();
    let action = format!(
        "If dbt uses a port that is gone: {} If it uses only what is left, say so: make deploy SET=\"ListenerPorts={}\"",
        remedy.action,
        with_ports(&context.policy.listener_ports, context.service, &left.join("+"))
    );
    Finding::new(
        Severity::Warning,
        served(load_balancer, gone.iter().copied(), "no longer listens"),
        "If dbt uses this port, its connections fail. ListenerPorts is empty, so the guard does not know.",
        Remedy { action, ..remedy },
    )
    .with_evidence(evidence(listeners))
    .with_parts(gone.iter().copied().map(Parts::port))
}

/// The value of `LISTENER_PORTS` with these ports for the service; other services keep theirs.
fn with_ports(present: &ListenerPorts, service: Option<&ServiceId>, ports: &str) -> String {
    let Some(service) = service else { return ports.to_owned() };
    let others = match present {
        ListenerPorts::PerService(services) => Some(services),
        ListenerPorts::Any | ListenerPorts::Every(_) => None,
    };
    let entry = |(service, ports): (&ServiceId, &BTreeSet<u16>)| {
        format!("{service}={}", ports.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"))
    };
    others.into_iter().flatten().map(entry).chain([format!("{service}={ports}")]).collect::<Vec<_>>().join(",")
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
        let groups: Vec<&str> = groups.iter().map(Arn::name).collect();
        let to = if groups.is_empty() { "to no target group".to_owned() } else { format!("to {}", groups.join(", ")) };
        format!("listener {listener}: forwards {to}")
    };
    listeners.iter().map(line).collect()
}

/// The remedy, as far as the stored path shows what was there.
fn remedy(load_balancer: &LoadBalancer, listeners: &[Listener], missing: &[u16], context: CheckContext<'_>) -> Remedy {
    let (region, arn) = (context.region, &load_balancer.arn);
    let occupied = listeners.iter().find(|listener| missing.contains(&listener.port));
    let groups = load_balancer.target_groups.iter().flatten().collect::<Vec<_>>();
    let mut last = last_listeners(load_balancer, missing, context);
    last.retain(|last| listeners.iter().all(|listener| listener.port != last.port));
    let none_is_left = listeners.is_empty() && context.service.is_some();
    let which = if none_is_left { "first command" } else { "command" };
    let again = last.iter().filter_map(|listener| listen_again(arn, listener, context)).reduce(Command::then);
    let (action, command) = match (occupied, again, missing, &groups[..]) {
        (Some(listener), ..) => (
            format!(
                "Listener {listener} uses this port, but dbt needs a {} listener that forwards to a target group. \
                 Change it, or delete it and create another.",
                if negotiating(listener.port).is_some() { "TCP" } else { "TCP or TLS" }
            ),
            Command::new("elbv2 describe-listeners", region).option("load-balancer-arn", arn),
        ),
        (None, Some(again), ..) => (format!("{CREATE_AGAIN} The {which} does this. {NOT_KEPT}"), again),
        (None, None, [port], [group]) => (
            format!(
                "Create the listener. The {which} uses {}, the only target group here: check that it is the right one. If \
                 dbt uses another port, correct the stack's ListenerPorts.",
                group.name()
            ),
            create_listener(arn, ("TCP", *port), &group.arn, None, context),
        ),
        (None, None, ..) => (
            format!(
                "In the console, create a TCP listener that forwards to your service's target group. The {which} lists the \
                 target groups."
            ),
            list_target_groups(context),
        ),
    };
    let (action, command) = match none_is_left {
        true => was_it_replaced(&action, command, &last, context),
        false => (action, command),
    };
    Remedy::new(&action, Some(command), region.load_balancer(arn))
}

const CREATE_AGAIN: &str = "Create the listener again, with its last port, target group and default certificate.";

const NOT_KEPT: &str = "Set its TLS policy, further certificates and rules yourself, if it had any. On a port whose protocol negotiates TLS \
                        itself, such as 5432, it is a TCP listener.";

/// The remedy without any listener: if another load balancer replaced this one, it needs no listener.
fn was_it_replaced(action: &str, command: Command, last: &[&Listener], context: CheckContext<'_>) -> (String, Command) {
    let groups: BTreeSet<&Arn> = last.iter().flat_map(|listener| listener.forwards_to.iter().flatten()).collect();
    let follow = (!groups.is_empty()).then(|| follow_the_groups(groups, context)).flatten();
    let (replaced, follow) = match follow {
        Some(follow) => ("adds the load balancer that now has this one's target groups.", follow),
        None => (
            "lists your internal Network Load Balancers; add the new one to the endpoint service in the console.",
            list_load_balancers(context),
        ),
    };
    let action = format!(
        "Was this load balancer replaced? If not: {action} If it was, the second command {replaced} Some of dbt's \
         connections may fail until you remove this one from the endpoint service: see load-balancer.internal-nlb in \
         the runbook."
    );
    (action, command.next_line(follow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::protocols::NEGOTIATE_TLS;
    use crate::snapshot::StoredPath;
    use crate::testing::{
        at, endpoint_service, failures, listener, load_balancer, only_finding, service, settings, summaries,
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
    fn a_gone_listener_is_a_warning_until_its_port_serves_again() {
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
        let of_this_service = format!("SET=\"ListenerPorts={}=5432,{}=443\"", service(2), service(1));
        let balancer = nlb("pg", vec![on(443)]);
        let was_in_place = BTreeSet::from([listener_id(&balancer, &on(5432)).unwrap()]);
        let mut policy = settings(&[]).policy;
        policy.listener_ports = ListenerPorts::PerService([(service(2), [5432].into())].into());
        let results = with_policy(&topology(endpoint_service(), [balancer]), &policy, |context| {
            evaluate(CheckContext { was_in_place: &was_in_place, ..context })
        });
        let action = only_finding(results).remedy.action;
        assert!(action.ends_with(&of_this_service), "the stack's other services keep theirs: {action}");
        assert_eq!(status("", vec![]).map(|(severity, _)| severity), Some(Severity::Critical), "none is left");
    }

    /// The remedy for a load balancer that had the first listeners when stored, and has the second now.
    fn remedy_after(had: Option<Vec<Listener>>, has: Vec<Listener>, ports: &str) -> Remedy {
        let balancer = |listeners: Vec<Listener>| nlb("pg", listeners);
        let read = |listeners| topology(endpoint_service(), [balancer(listeners)]);
        let path = had.and_then(|had| StoredPath::new(&read(had), &service(1), at(8, 45), at(8, 45)));
        let policy = settings(&[("LISTENER_PORTS", ports)]).policy;
        let results =
            with_policy(&read(has), &policy, |context| evaluate(CheckContext { last_path: path.as_ref(), ..context }));
        only_finding(results).remedy
    }

    #[test]
    fn a_deleted_listener_is_recreated_as_it_was() {
        let created = |had: Listener| {
            let (port, other) = (had.port.to_string(), listener("TCP", 8080, &target_group("pg")));
            let command = remedy_after(Some(vec![had, other.clone()]), vec![other], &port).command.unwrap();
            command.split_once("/0123456789abcdef ").unwrap().1.to_owned()
        };
        let web = target_group("web");
        let forwards = format!("--default-actions Type=forward,TargetGroupArn={}", web.arn);
        let tcp = created(listener("TCP", 5432, &web));
        assert_eq!(tcp, format!("--protocol TCP --port 5432 {forwards}"), "not the group that is left");
        let certificate = Some("arn:aws:acm:eu-central-1:111122223333:certificate/1".to_owned());
        let tls = |port| Listener { certificate: certificate.clone(), ..listener("TLS", port, &web) };
        let with = format!(" --certificates CertificateArn={}", certificate.clone().unwrap());
        assert_eq!(created(tls(443)), format!("--protocol TLS --port 443 {forwards}{with}"));
        assert_eq!(created(tls(5432)), tcp, "Postgres negotiates TLS itself");
        let several =
            Listener { forwards_to: Ok(vec![web.arn.clone(), target_group("pg").arn]), ..listener("TCP", 5432, &web) };
        let other = listener("TCP", 8080, &target_group("pg"));
        let weighted = remedy_after(Some(vec![several, other.clone()]), vec![other], "5432");
        assert!(weighted.action.contains("check that it is the right one"), "the weights are not known");
    }

    /// `assert_pasteable` checks the same rule on every finding.
    #[test]
    fn no_remedy_proposes_tls_where_clients_negotiate_it() {
        for (port, _) in NEGOTIATE_TLS {
            let (tls, udp) = (listener("TLS", port, &target_group("pg")), listener("UDP", port, &target_group("pg")));
            for (had, has) in [(None, vec![udp]), (None, vec![]), (Some(vec![tls]), vec![])] {
                let Remedy { action, command, .. } = remedy_after(had, has, &port.to_string());
                assert!(!action.contains("or TLS"), "{action}");
                assert!(!command.unwrap().contains("--protocol TLS"));
            }
        }
        let udp = listener("UDP", 443, &target_group("pg"));
        assert!(remedy_after(None, vec![udp], "443").action.contains("needs a TCP or TLS listener"));
    }

    #[test]
    fn without_a_listener_the_remedy_asks_about_a_replacement() {
        let lines = |had: Option<Vec<Listener>>, ports: &str| {
            let Remedy { action, command, .. } = remedy_after(had, vec![], ports);
            assert!(action.starts_with("Was this load balancer replaced?"), "{action}");
            command.unwrap().lines().map(ToOwned::to_owned).collect::<Vec<String>>()
        };
        for ports in ["5432", ""] {
            let known = lines(Some(on("TCP")), ports);
            assert!(known[0].starts_with("aws elbv2 create-listener") && known.len() == 2, "{known:?}");
            assert_eq!(
                known[1],
                format!(
                    "aws ec2 modify-vpc-endpoint-service-configuration --region eu-central-1 --service-id {} \
                     --add-network-load-balancer-arns $(aws elbv2 describe-target-groups --region eu-central-1 \
                     --target-group-arns {} --query 'TargetGroups[].LoadBalancerArns[]' --output text)",
                    service(1),
                    target_group("pg").arn
                )
            );
            let unknown = lines(None, ports);
            assert!(unknown[1].starts_with("aws elbv2 describe-load-balancers"), "{unknown:?}");
        }
        let left = remedy_after(Some(on("TCP")), vec![listener("TCP", 443, &target_group("pg"))], "5432");
        assert!(!left.action.contains("replaced"), "another listener is left");
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
    fn a_listener_without_a_target_group_serves_nobody() {
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
}
