//! `target-group.hostname`: are the registered addresses those that the group's name resolves to?
//!
//! RDS and Aurora change their address on a failover; targets that are registered by address then point nowhere. A target
//! group with the tag `privatelink-guard:hostname` names what it stands for. The guard compares, and changes nothing. What
//! DNS does not answer, or answers with addresses that cannot be targets, is unknown: never a reason to change targets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::check::{CheckContext, CheckResult, Command, Finding, Group, Remedy, Severity, Spec, Status};
use crate::snapshot::{Health, Hostname, TargetGroup, TargetKind, Unread, known};

/// DNS answers with at most eight of the addresses of a name that has more: the rest is not known.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/routing-policy-multivalue.html>
const MAX_ADDRESSES: usize = 8;

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "target-group.hostname",
    severities: &[
        (Severity::Critical, "none of the registered addresses belongs to the name"),
        (Severity::Warning, "some do, and some addresses are missing or too many"),
    ],
    fails_when: "a target group of IP addresses has the tag `privatelink-guard:hostname`, and its targets are not what \
                 that name resolves to, as after an RDS failover",
    failing_word: "outdated",
    impact: "dbt's connections go to an address that your service no longer has, or fail.",
    fix_in_short: "register the new address, then deregister the old one",
    can_flap: true,
    cloudtrail_events: &["AddTags", "DeregisterTargets", "RegisterTargets", "RemoveTags"],
    group: Group::Health,
    evaluate,
    ..Spec::USUAL
};

/// One result per target group with the tag.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.for_target_groups(&SPEC, |_, group| status(group, context))
}

/// `None` for a group without the tag, or without addresses as targets.
fn status(group: &TargetGroup, context: CheckContext<'_>) -> Option<Status> {
    if group.kind != TargetKind::Ip {
        return None;
    }
    match known(group.hostname.as_ref()) {
        Ok(None) => None,
        Ok(Some(hostname)) => Some(judge(group, hostname, context).unwrap_or_else(Status::from)),
        Err(why) => Some(why.into()),
    }
}

fn judge(group: &TargetGroup, hostname: &Hostname, context: CheckContext<'_>) -> Result<Status, Unread> {
    let wanted = wanted(hostname)?;
    let targets = group.targets.as_ref()?;
    let in_use = targets.iter().filter(|target| target.health != Health::Draining);
    let registered: BTreeSet<IpAddr> = in_use.filter_map(|target| target.address).collect();
    if registered == wanted {
        return Ok(Status::pass(format!("targets of {} are what its hostname resolves to", group.name())));
    }
    let missing: Vec<IpAddr> = wanted.difference(&registered).copied().collect();
    // A healthy target is not taken out because of what DNS says.
    let healthy = |address: &IpAddr| {
        targets.iter().any(|target| target.address == Some(*address) && target.health == Health::Healthy)
    };
    let outdated: Vec<IpAddr> = registered.difference(&wanted).copied().filter(|address| !healthy(address)).collect();
    let none_is_right = wanted.is_disjoint(&registered);
    Ok(Status::fail(
        Finding::new(
            if none_is_right { Severity::Critical } else { Severity::Warning },
            match none_is_right {
                true => format!("no target of {} is what its hostname resolves to", group.name()),
                false => format!("targets of {} differ from what its hostname resolves to", group.name()),
            },
            match none_is_right {
                true => {
                    "dbt's connections go to addresses that your service no longer has: after an RDS failover \
                     they fail."
                }
                false => "Some of dbt's connections may go to an address that your service no longer has.",
            },
            remedy(group, &missing, &outdated, context),
        )
        .with_evidence(evidence(group, hostname, &registered, &wanted, &outdated, context))
        .with_parts(missing.iter().map(|address| format!("missing: {address}")))
        .stopping_dbt(none_is_right),
    ))
}

/// The addresses that should be registered.
///
/// # Errors
/// Why they are not known.
fn wanted(hostname: &Hostname) -> Result<BTreeSet<IpAddr>, String> {
    let Hostname { name, addresses, networks } = hostname;
    // Aurora's reader and custom endpoints answer with one of their instances in turn.
    // https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html
    if [".cluster-ro-", ".cluster-custom-"].iter().any(|kind| name.contains(kind)) {
        return Err(format!("{name} stands for several instances, and DNS names one at a time"));
    }
    let addresses = addresses.as_ref().map_err(|why| format!("{name} cannot be resolved: {why}"))?;
    let networks = networks.as_ref().map_err(ToString::to_string)?;
    if addresses.is_empty() {
        return Err(format!("{name} has no address of the target group's family"));
    }
    if addresses.len() >= MAX_ADDRESSES {
        return Err(format!("{name} has {MAX_ADDRESSES} addresses or more, and DNS may not name all"));
    }
    match addresses.iter().find(|address| !networks.iter().any(|network| network.contains(*address))) {
        Some(address) => {
            Err(format!("{name} resolves to {address}, which is in no network that the target group's VPC reaches"))
        }
        None => Ok(addresses.iter().copied().collect()),
    }
}

fn evidence(
    group: &TargetGroup,
    hostname: &Hostname,
    registered: &BTreeSet<IpAddr>,
    wanted: &BTreeSet<IpAddr>,
    outdated: &[IpAddr],
    context: CheckContext<'_>,
) -> Vec<String> {
    let listed = |addresses: &BTreeSet<IpAddr>| match addresses.is_empty() {
        true => "none".to_owned(),
        false => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let slow = group.health_check_timing.filter(|(interval, failures)| interval * failures > 20);
    let slow = slow.map(|(interval, failures)| {
        format!(
            "health checks: {failures} failures, {interval} s apart; 2 failures 10 s apart notice a failover sooner"
        )
    });
    let deregister = (!outdated.is_empty()).then(|| {
        let command = deregister(group, outdated, context);
        command.into_text().map(|text| format!("once the new target is healthy: {text}"))
    });
    let attributes = group.attributes.iter().flatten();
    let keeps = attributes.flat_map(|attributes| &attributes.keeps_connections).map(|attribute| {
        format!("{attribute} is false: connections to an address that is gone hang until they time out")
    });
    [
        format!("hostname: {}", hostname.name),
        format!("it resolves to: {}", listed(wanted)),
        format!("registered: {}", listed(registered)),
    ]
    .into_iter()
    .chain(slow)
    .chain(keeps)
    .chain(deregister.flatten())
    .collect()
}

fn remedy(group: &TargetGroup, missing: &[IpAddr], outdated: &[IpAddr], context: CheckContext<'_>) -> Remedy {
    let (action, command) = match (missing.is_empty(), outdated.is_empty()) {
        (false, true) => {
            ("Register the address. The load balancer takes some minutes to use it.", register(group, missing, context))
        }
        (false, false) => (
            "Register the address. The load balancer takes some minutes to use it; then deregister the old one: the evidence has \
             the command.",
            register(group, missing, context),
        ),
        (true, _) => (
            "Deregister the addresses that the name no longer has, unless they are meant to be there.",
            deregister(group, outdated, context),
        ),
    };
    let is_empty = missing.is_empty() && outdated.is_empty();
    Remedy::new(action, (!is_empty).then_some(command), context.region.target_group(&group.arn))
}

fn register(group: &TargetGroup, addresses: &[IpAddr], context: CheckContext<'_>) -> Command {
    Command::new("elbv2 register-targets", context.region)
        .option("target-group-arn", &group.arn)
        .options("targets", targets(group, addresses))
}

fn deregister(group: &TargetGroup, addresses: &[IpAddr], context: CheckContext<'_>) -> Command {
    Command::new("elbv2 deregister-targets", context.region)
        .option("target-group-arn", &group.arn)
        .options("targets", targets(group, addresses))
}

/// The addresses with the port of the registered targets; without one, ELB takes the group's own. Addresses outside the
/// group's VPC have the zone `all`, which must be given.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html>
fn targets(group: &TargetGroup, addresses: &[IpAddr]) -> Vec<String> {
    let registered = || group.targets.iter().flatten();
    let port = registered().find_map(|target| target.port);
    let port = port.map(|port| format!(",Port={port}")).unwrap_or_default();
    let zone =
        if registered().any(|target| target.zone.as_deref() == Some("all")) { ",AvailabilityZone=all" } else { "" };
    addresses.iter().map(|address| format!("Id={address}{port}{zone}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{CrossZoneOverride, RoutingThreshold, Target, TargetGroupAttributes};
    use crate::testing::{
        call_error, endpoint_service, failure, load_balancer, only_status, target, target_group, topology, with_context,
    };

    fn hostname(addresses: Result<Vec<&str>, String>) -> Hostname {
        Hostname {
            name: "db.example.com".to_owned(),
            addresses: addresses.map(|all| all.iter().map(|address| address.parse().unwrap()).collect()),
            networks: Ok(vec!["10.0.0.0/24".parse().unwrap()]),
        }
    }

    fn status(targets: Vec<Target>, hostname: Hostname) -> Status {
        let group = TargetGroup { targets: Ok(targets), hostname: Some(Ok(Some(hostname))), ..target_group("pg") };
        let topology = topology(endpoint_service(), [load_balancer("pg", vec![group])]);
        with_context(&topology, |context| only_status(evaluate(context)))
    }

    fn severity(targets: Vec<Target>, addresses: &[&str]) -> Option<Severity> {
        failure(status(targets, hostname(Ok(addresses.to_vec())))).map(|finding| finding.severity)
    }

    #[test]
    fn the_registered_addresses_must_be_those_of_the_name() {
        let one = || vec![target(1, "healthy")];
        assert_eq!(severity(one(), &["10.0.0.1"]), None);
        assert_eq!(severity(one(), &["10.0.0.2"]), Some(Severity::Critical), "a failover");
        assert_eq!(severity(one(), &["10.0.0.1", "10.0.0.2"]), Some(Severity::Warning), "one is missing");
        assert_eq!(
            severity(vec![target(1, "healthy"), target(2, "unhealthy")], &["10.0.0.1"]),
            Some(Severity::Warning)
        );
        assert_eq!(severity(vec![target(1, "draining"), target(2, "initial")], &["10.0.0.2"]), None, "being replaced");
        assert_eq!(severity(vec![], &["10.0.0.2"]), Some(Severity::Critical));
    }

    #[test]
    fn the_commands_register_the_new_and_deregister_the_old_address() {
        let finding = failure(status(vec![target(1, "unhealthy")], hostname(Ok(vec!["10.0.0.2"])))).unwrap();
        assert!(finding.remedy.command.unwrap().ends_with("--targets Id=10.0.0.2,Port=5432"));
        let old = finding.evidence.last().unwrap();
        assert!(old.ends_with("--targets Id=10.0.0.1,Port=5432") && old.contains("deregister-targets"), "{old}");
        assert!(finding.remedy.action.contains("the evidence has the command"), "{}", finding.remedy.action);
        let added = failure(status(vec![target(1, "healthy")], hostname(Ok(vec!["10.0.0.1", "10.0.0.2"])))).unwrap();
        assert!(!added.remedy.action.contains("evidence"), "nothing is outdated: {}", added.remedy.action);
        let healthy = failure(status(vec![target(1, "healthy"), target(2, "healthy")], hostname(Ok(vec!["10.0.0.2"]))));
        assert_eq!(healthy.unwrap().remedy.command, None, "a healthy target is not taken out");
    }

    #[test]
    fn a_group_that_would_notice_a_failover_late_is_told() {
        let slow = |timing: Option<(u32, u32)>| {
            let group = TargetGroup {
                targets: Ok(vec![target(1, "unhealthy")]),
                hostname: Some(Ok(Some(hostname(Ok(vec!["10.0.0.2"]))))),
                health_check_timing: timing,
                attributes: Some(Ok(TargetGroupAttributes {
                    cross_zone: CrossZoneOverride::LoadBalancer,
                    keeps_connections: vec!["deregistration_delay.connection_termination.enabled".to_owned()],
                    routing_threshold: RoutingThreshold::DEFAULT,
                })),
                ..target_group("pg")
            };
            let topology = topology(endpoint_service(), [load_balancer("pg", vec![group])]);
            let evidence = failure(with_context(&topology, |context| only_status(evaluate(context)))).unwrap().evidence;
            assert_eq!(evidence[..2], ["hostname: db.example.com", "it resolves to: 10.0.0.2"]);
            evidence.into_iter().find(|line| line.starts_with("health checks:"))
        };
        let expected = "health checks: 3 failures, 10 s apart; 2 failures 10 s apart notice a failover sooner";
        assert_eq!(slow(Some((10, 3))).as_deref(), Some(expected));
        assert_eq!((slow(Some((10, 2))), slow(Some((5, 4))), slow(None)), (None, None, None));
        assert!(slow(Some((30, 2))).is_some());
    }

    #[test]
    fn the_command_keeps_healthy_targets_and_ignores_draining_ones() {
        let remedy =
            |targets, addresses: &[&str]| failure(status(targets, hostname(Ok(addresses.to_vec())))).unwrap().remedy;
        let surplus = remedy(vec![target(1, "healthy"), target(2, "unhealthy")], &["10.0.0.1"]);
        assert!(surplus.command.unwrap().ends_with("--targets Id=10.0.0.2,Port=5432"), "only the one that fails");
        let replaced = remedy(vec![target(1, "draining"), target(3, "healthy")], &["10.0.0.2", "10.0.0.3"]);
        assert!(replaced.command.unwrap().contains("register-targets"));
        let healthy = remedy(vec![target(1, "healthy"), target(2, "healthy")], &["10.0.0.1"]);
        assert_eq!(healthy.command, None, "there is nothing to do at once");
    }

    #[test]
    fn targets_outside_the_vpc_are_registered_for_all_zones() {
        let outside = Target { zone: Some("all".to_owned()), ..target(1, "unhealthy") };
        let finding = failure(status(vec![outside], hostname(Ok(vec!["10.0.0.2"])))).unwrap();
        assert!(finding.remedy.command.unwrap().ends_with("--targets Id=10.0.0.2,Port=5432,AvailabilityZone=all"));
    }

    #[test]
    fn an_incomplete_or_public_dns_answer_is_unknown() {
        let unknown = |hostname| matches!(status(vec![target(1, "healthy")], hostname), Status::Unknown(_));
        assert!(unknown(hostname(Err("no answer".to_owned()))));
        let reader = "db.cluster-ro-abc.eu-central-1.rds.amazonaws.com".to_owned();
        assert!(unknown(Hostname { name: reader, ..hostname(Ok(vec!["10.0.0.2"])) }), "one of several at a time");
        assert!(unknown(hostname(Ok(vec![]))));
        assert!(unknown(hostname(Ok(vec!["203.0.113.7"]))), "public, or outside the VPC");
        let eight: Vec<String> = (1..=8).map(|number| format!("10.0.0.{number}")).collect();
        assert!(unknown(hostname(Ok(eight.iter().map(String::as_str).collect()))), "DNS may not name all");
        assert!(unknown(Hostname {
            networks: Err(call_error("ec2:DescribeSubnets")),
            ..hostname(Ok(vec!["10.0.0.1"]))
        }));
    }

    #[test]
    fn only_groups_of_addresses_with_the_tag_are_checked() {
        let results = |group: TargetGroup| {
            let topology = topology(endpoint_service(), [load_balancer("pg", vec![group])]);
            with_context(&topology, evaluate)
        };
        assert_eq!(results(TargetGroup { hostname: Some(Ok(None)), ..target_group("pg") }), []);
        let of_instances = TargetGroup { kind: TargetKind::Instance, hostname: None, ..target_group("pg") };
        assert_eq!(results(of_instances), []);
        let unread =
            TargetGroup { hostname: Some(Err(call_error("elasticloadbalancing:DescribeTags"))), ..target_group("pg") };
        assert!(matches!(results(unread)[0].status, Status::Unknown(_)));
    }
}
