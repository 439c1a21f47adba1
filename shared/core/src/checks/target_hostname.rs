//! `target-group.hostname`: are the registered addresses the ones that the group's hostname resolves to?
//!
//! RDS and Aurora change their address on a failover; targets that are registered by address then point nowhere. The
//! tag `privatelink-guard:hostname` contains the hostname behind a target group. The guard compares and changes
//! nothing. A missing DNS answer, or one with addresses that cannot be targets, is unknown and never a reason to change
//! targets. The same applies to a name with changing answers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::check::restore::{as_registered, target_argument};
use crate::check::{CheckContext, CheckResult, Command, Finding, Group, Remedy, Severity, Spec, Status};
use crate::config::FollowHostnames;
use crate::follow::state::{FollowState, PlannedTarget};
use crate::follow::{self, new_target};
use crate::snapshot::{Health, Hostname, Target, TargetGroup, TargetKind, Unread, known};

pub(crate) const SPEC: Spec = Spec {
    id: "target-group.hostname",
    in_short: "The targets are the addresses of the name in the target group's tag.",
    severities: &[
        (
            Severity::Critical,
            "none of the registered addresses belongs to the name, or it changed too often to be followed",
        ),
        (Severity::Warning, "some do, but addresses are missing or left over, or the group cannot be followed"),
    ],
    fails_when: "a target group of IP addresses has the tag `privatelink-guard:hostname`, and its targets differ from \
                 that name's addresses, for example after an RDS failover; or a group in `FollowTargetGroups` has no such \
                 tag, or other targets than addresses",
    failing_word: "outdated",
    impact: "dbt's connections go to an address that your service no longer has, or fail.",
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

/// The status; `None` for a group without the tag, or without addresses as targets.
fn status(group: &TargetGroup, context: CheckContext<'_>) -> Option<Status> {
    let is_to_follow = context.policy.follow_target_groups.contains(&group.arn);
    if group.kind != TargetKind::Ip {
        return is_to_follow.then(|| cannot_follow(group, ("its targets are not addresses", TAKE_OUT), context));
    }
    match known(group.hostname.as_ref()) {
        Ok(None) if is_to_follow => Some(cannot_follow(group, ("it has no hostname", TAG_OR_TAKE_OUT), context)),
        Ok(None) => None,
        Ok(Some(hostname)) => Some(judge(group, hostname, context).unwrap_or_else(Status::from)),
        Err(why) => Some(why.into()),
    }
}

fn judge(group: &TargetGroup, hostname: &Hostname, context: CheckContext<'_>) -> Result<Status, Unread> {
    let wanted = hostname.wanted()?;
    let targets = group.targets.as_ref()?;
    let in_use = || targets.iter().filter(|target| target.health != Health::Draining);
    let registered: BTreeSet<IpAddr> = in_use().filter_map(|target| target.address).collect();
    if registered == wanted {
        return Ok(Status::pass(format!("targets of {} match its hostname's addresses", group.name())));
    }
    if answers_in_turn(group, hostname, context) {
        let why = "they changed since drift-watcher last looked";
        return Ok(Status::Unknown(format!("{} has several addresses, and {why}", hostname.name)));
    }
    let missing: Vec<IpAddr> = wanted.difference(&registered).copied().collect();
    let is_writer = hostname.is_writer();
    let is_outdated = |target: &&Target| {
        target.address.is_some_and(|address| !wanted.contains(&address))
            && (is_writer || target.health != Health::Healthy)
    };
    let outdated: Vec<&Target> = in_use().filter(is_outdated).collect();
    let none_is_right = wanted.is_disjoint(&registered);
    let follower = follower(group, &missing, context);
    let is_stopped = follower == Follower::Stopped;
    let not_followed = follower.reason();
    // People who were told to do nothing hear of it anew.
    let left_to_people = not_followed.is_some().then(|| "not followed any more".to_owned());
    let parts = missing.iter().map(|address| format!("missing: {address}"));
    let remedy = match follower {
        Follower::Acts => left_to_the_guard(group, &missing, context),
        _ => remedy(group, hostname, &missing, &outdated, context),
    };
    Ok(Status::fail(
        Finding::new(
            if none_is_right || is_stopped { Severity::Critical } else { Severity::Warning },
            match none_is_right {
                _ if is_stopped => format!("{} is not followed: over 3 changes in an hour", group.name()),
                true => format!("no target of {} matches its hostname's addresses", group.name()),
                false => format!("targets of {} differ from its hostname's addresses", group.name()),
            },
            match none_is_right {
                true => {
                    "dbt's connections go to addresses that your service no longer has: after an RDS failover \
                     they fail."
                }
                false => "Some of dbt's connections may go to an address that your service no longer has.",
            },
            remedy,
        )
        .with_evidence(evidence(group, hostname, (&registered, &wanted), not_followed))
        .with_parts(parts.chain(left_to_people))
        .stopping_dbt(none_is_right),
    ))
}

/// What target-follower does about the difference.
#[derive(Debug, PartialEq, Eq)]
enum Follower {
    /// It changes what is left to change.
    Acts,
    /// Nothing: it does not follow the group, or only registers.
    IsAbsent,
    /// Nothing, after too many changes.
    Stopped,
    /// Nothing, or nothing with success.
    Cannot(String),
}

impl Follower {
    /// The reason why it leaves the difference to people, although it follows the group.
    fn reason(&self) -> Option<String> {
        match self {
            Self::Acts | Self::IsAbsent => None,
            Self::Stopped => Some(
                "the guard follows again once the hostname has had the same addresses for an hour, or the targets are these"
                    .to_owned(),
            ),
            Self::Cannot(why) => Some(format!("not followed: {why}")),
        }
    }
}

fn follower(group: &TargetGroup, missing: &[IpAddr], context: CheckContext<'_>) -> Follower {
    let (policy, state) = (context.policy, context.follow_states.get(group.arn.as_str()));
    let only_registers = policy.follow_hostnames == FollowHostnames::Register && missing.is_empty();
    if !policy.follow_target_groups.contains(&group.arn) || policy.dry_run || only_registers {
        return Follower::IsAbsent;
    }
    if state.is_some_and(|state| state.stopped) {
        return Follower::Stopped;
    }
    let refusal = state.and_then(|state| state.refused.as_ref()).map(|refusal| format!("AWS refused it: {refusal}"));
    let left = |state: &&&FollowState| !missing.is_empty() && missing.iter().all(|address| state.leaves(address));
    let left = state.filter(left).map(|_| "somebody deregistered the address twice".to_owned());
    let why = follow::obstacle(group).or(left).or(refusal);
    why.map_or(Follower::Acts, Follower::Cannot)
}

/// The remedy while the guard follows the hostname.
fn left_to_the_guard(group: &TargetGroup, missing: &[IpAddr], context: CheckContext<'_>) -> Remedy {
    let action = match missing.is_empty() {
        true => {
            "Nothing: the guard follows the hostname. It deregisters the others once all of the hostname's addresses are \
                 healthy."
        }
        false => "Nothing: the guard follows the hostname. It registers the address within two minutes.",
    };
    Remedy::nothing(action, context.region.target_group(&group.arn))
}

const TAG_OR_TAKE_OUT: &str = "Add the tag privatelink-guard:hostname with the hostname of its targets to the target group, \
                               or take the group out of the stack's parameter FollowTargetGroups.";

const TAKE_OUT: &str = "Take the target group out of the stack's parameter FollowTargetGroups, or use one of the target \
                        type ip instead: a group's type cannot be changed.";

/// A group that the guard is to follow, and cannot.
fn cannot_follow(group: &TargetGroup, (why, action): (&str, &str), context: CheckContext<'_>) -> Status {
    Status::fail(Finding::new(
        Severity::Warning,
        format!("{} is to be followed, but {why}", group.name()),
        "After a failover, dbt's connections would go to the old address: the guard does not know the new one.",
        Remedy::new(action, None, context.region.target_group(&group.arn)),
    ))
}

/// Whether the name has several addresses that differ from those that drift-watcher stored, as a name for an RDS Proxy
/// does. A failover replaces one address by another.
fn answers_in_turn(group: &TargetGroup, hostname: &Hostname, context: CheckContext<'_>) -> bool {
    let before = context.last_path.and_then(|path| path.hostname(&group.arn));
    let before = before.filter(|before| before.name == hostname.name).and_then(|before| before.addresses.as_ref().ok());
    let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<IpAddr>>();
    let (Some(before), Ok(now)) = (before, &hostname.addresses) else { return false };
    set(before) != set(now) && before.len().max(now.len()) > 1
}

fn evidence(
    group: &TargetGroup,
    hostname: &Hostname,
    (registered, wanted): (&BTreeSet<IpAddr>, &BTreeSet<IpAddr>),
    not_followed: Option<String>,
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
    .chain(not_followed)
    .chain(slow)
    .chain(keeps)
    .collect()
}

/// The remedy. The old address stays until the new one is healthy, because it serves what it can.
fn remedy(
    group: &TargetGroup,
    hostname: &Hostname,
    missing: &[IpAddr],
    outdated: &[&Target],
    context: CheckContext<'_>,
) -> Remedy {
    let region = context.region;
    let register = || {
        Command::new("elbv2 register-targets", region)
            .option("target-group-arn", &group.arn)
            .options("targets", added(group, hostname, missing))
    };
    // https://docs.aws.amazon.com/cli/latest/reference/elbv2/wait/target-in-service.html
    let wait = || {
        Command::new("elbv2 wait target-in-service", region)
            .option("target-group-arn", &group.arn)
            .options("targets", added(group, hostname, hostname.addresses.iter().flatten()))
    };
    let deregister = || {
        Command::new("elbv2 deregister-targets", region)
            .option("target-group-arn", &group.arn)
            .options("targets", outdated.iter().map(|old| as_registered(group, old)))
    };
    let (action, command) = match (missing.is_empty(), outdated.is_empty()) {
        (false, true) => ("Register the address. The load balancer takes some minutes to use it.", Some(register())),
        (false, false) => (
            "The command registers the new address, waits up to 10 minutes until it is healthy, and then deregisters the old one. If \
             it ends with \"Max attempts exceeded\", nothing was deregistered: look at target-group.health.",
            Some(register().then(wait()).then(deregister())),
        ),
        (true, false) => (
            "Deregister the addresses that the name no longer has, unless they are meant to be there. The command first waits \
             until the name's own addresses are healthy.",
            Some(wait().then(deregister())),
        ),
        (true, true) => (
            "Deregister the addresses that the name does not have, unless they are meant to be there. They are healthy, so there \
             is no command: deregister them in the console.",
            None,
        ),
    };
    Remedy::new(action, command, region.target_group(&group.arn))
}

/// The new targets, with the port of the registered ones; without it, ELB uses the group's own port.
fn added<'a>(group: &TargetGroup, hostname: &Hostname, addresses: impl IntoIterator<Item = &'a IpAddr>) -> Vec<String> {
    let port = group.targets.iter().flatten().find_map(|target| target.port);
    let target = |address: &IpAddr| new_target(hostname, port, *address);
    let argument = |PlannedTarget { address, port, zone }| target_argument(&address.to_string(), port, zone.as_deref());
    addresses.into_iter().map(target).map(argument).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{
        CrossZoneOverride, ReachedNetworks, RoutingThreshold, StoredPath, Target, TargetGroupAttributes,
    };
    use crate::testing::{
        at, call_error, endpoint_service, failure, load_balancer, only_status, service, settings, target, target_group,
        topology, with_context, with_policy,
    };

    fn hostname(addresses: Result<Vec<&str>, String>) -> Hostname {
        Hostname {
            name: "db.example.com".to_owned(),
            addresses: addresses.map(|all| all.iter().map(|address| address.parse().unwrap()).collect()),
            networks: Ok(ReachedNetworks { own: vec!["10.0.0.0/24".parse().unwrap()], routed: Vec::new() }),
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
    fn the_command_replaces_the_old_address_by_the_new_one() {
        let finding = failure(status(vec![target(1, "unhealthy")], hostname(Ok(vec!["10.0.0.2"])))).unwrap();
        let command = finding.remedy.command.unwrap();
        assert_eq!(steps(&command), [REGISTER_2, "wait target-in-service", DEREGISTER_1]);
        assert!(!finding.evidence.iter().any(|line| line.contains("aws ")), "commands stand where commands stand");
        let added = failure(status(vec![target(1, "healthy")], hostname(Ok(vec!["10.0.0.1", "10.0.0.2"])))).unwrap();
        assert_eq!(steps(&added.remedy.command.unwrap()), [REGISTER_2], "nothing is outdated");
    }

    const REGISTER_2: &str = "register-targets Id=10.0.0.2,Port=5432";
    const DEREGISTER_1: &str = "deregister-targets Id=10.0.0.1,Port=5432,AvailabilityZone=eu-central-1a";

    /// The operations of a command, with the targets that they change.
    fn steps(command: &str) -> Vec<String> {
        let step = |step: &str| {
            let operation = step.split(" --").next().unwrap().trim_start_matches("aws elbv2 ");
            match operation.starts_with("wait") {
                true => operation.to_owned(),
                false => format!("{operation} {}", step.split("--targets ").nth(1).unwrap()),
            }
        };
        command.split(" && ").map(step).collect()
    }

    #[test]
    fn only_an_aurora_writer_loses_its_healthy_old_target() {
        let writer = "db.cluster-c1a2b3.eu-central-1.rds.amazonaws.com";
        let command = |name: &str, targets: &[Target]| {
            let name = Hostname { name: name.to_owned(), ..hostname(Ok(vec!["10.0.0.2"])) };
            failure(status(targets.to_vec(), name)).unwrap().remedy.command.map(|command| steps(&command))
        };
        let (old, both) = ([target(1, "healthy")], [target(1, "healthy"), target(2, "healthy")]);
        let replaces = Some([REGISTER_2, "wait target-in-service", DEREGISTER_1].map(ToOwned::to_owned).to_vec());
        assert_eq!(command(writer, &old), replaces, "it goes on as a reader, whose health checks pass");
        assert_eq!(command(&writer.to_uppercase(), &old), replaces);
        let removes = Some(["wait target-in-service", DEREGISTER_1].map(ToOwned::to_owned).to_vec());
        assert_eq!(command(writer, &both), removes);
        for other in ["db.c1a2b3.eu-central-1.rds.amazonaws.com", "db.example.com", "db.cluster-1.example.com"] {
            assert_eq!(command(other, &old), Some(vec![REGISTER_2.to_owned()]), "{other}: it may be meant to be there");
            assert_eq!(command(other, &both), None, "{other}");
        }
    }

    #[test]
    fn a_name_with_changing_addresses_is_unknown() {
        let judged = |before: Option<&[&str]>, now: &[&str]| {
            let group = |addresses: &[&str]| {
                let hostname = Some(Ok(Some(hostname(Ok(addresses.to_vec())))));
                TargetGroup { targets: Ok(vec![target(1, "healthy")]), hostname, ..target_group("pg") }
            };
            let read = |addresses| topology(endpoint_service(), [load_balancer("pg", vec![group(addresses)])]);
            let path = before.and_then(|before| StoredPath::new(&read(before), &service(1), at(8, 45), at(8, 0)));
            with_context(&read(now), |context| {
                only_status(evaluate(CheckContext { last_path: path.as_ref(), ..context }))
            })
        };
        let is_unknown = |before, now| matches!(judged(before, now), Status::Unknown(_));
        assert!(is_unknown(Some(&["10.0.0.1", "10.0.0.2"]), &["10.0.0.3", "10.0.0.4"]));
        assert!(is_unknown(Some(&["10.0.0.1", "10.0.0.2"]), &["10.0.0.3"]));
        assert!(!is_unknown(Some(&["10.0.0.1", "10.0.0.2"]), &["10.0.0.2", "10.0.0.1"]), "the same ones");
        assert!(!is_unknown(Some(&["10.0.0.1"]), &["10.0.0.2"]), "a failover");
        assert!(!is_unknown(None, &["10.0.0.1", "10.0.0.2"]));
        assert!(matches!(judged(Some(&["10.0.0.1", "10.0.0.2"]), &["10.0.0.1"]), Status::Pass(_)));
    }

    #[test]
    fn slow_health_checks_are_reported_with_a_failover() {
        let slow = |timing: Option<(u32, u32)>| {
            let group = TargetGroup {
                targets: Ok(vec![target(1, "unhealthy")]),
                hostname: Some(Ok(Some(hostname(Ok(vec!["10.0.0.2"]))))),
                health_check_timing: timing,
                attributes: Some(Ok(TargetGroupAttributes {
                    cross_zone: CrossZoneOverride::LoadBalancer,
                    keeps_connections: vec!["deregistration_delay.connection_termination.enabled".to_owned()],
                    routing_threshold: RoutingThreshold::DEFAULT,
                    proxy_protocol: false,
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
        let only_the_one_that_fails = "deregister-targets Id=10.0.0.2,Port=5432,AvailabilityZone=eu-central-1a";
        assert_eq!(steps(&surplus.command.unwrap()), ["wait target-in-service", only_the_one_that_fails]);
        let replaced = remedy(vec![target(1, "draining"), target(3, "healthy")], &["10.0.0.2", "10.0.0.3"]);
        assert!(replaced.command.unwrap().contains("register-targets"));
        let healthy = remedy(vec![target(1, "healthy"), target(2, "healthy")], &["10.0.0.1"]);
        assert_eq!(healthy.command, None, "there is nothing to do at once");
    }

    #[test]
    fn targets_outside_the_vpc_are_registered_for_all_zones() {
        let outside = Target { zone: Some("all".to_owned()), ..target(1, "unhealthy") };
        let routed = ReachedNetworks { own: Vec::new(), routed: vec!["10.0.0.0/24".parse().unwrap()] };
        let hostname = Hostname { networks: Ok(routed), ..hostname(Ok(vec!["10.0.0.2"])) };
        let finding = failure(status(vec![outside], hostname)).unwrap();
        let all = |id| format!("Id=10.0.0.{id},Port=5432,AvailabilityZone=all");
        let steps = steps(&finding.remedy.command.unwrap());
        assert_eq!(steps[0], format!("register-targets {}", all(2)));
        assert_eq!(steps[2], format!("deregister-targets {}", all(1)));
    }

    /// The finding on group `pg` with these targets, whose hostname now has address 2, in a stack with these parameters.
    fn followed(targets: Vec<Target>, mode: &str, dry_run: &str, state: Option<&FollowState>) -> Finding {
        let group = target_group("pg");
        let variables =
            [("FOLLOW_HOSTNAMES", mode), ("FOLLOW_TARGET_GROUPS", group.arn.as_str()), ("DRY_RUN", dry_run)];
        let policy = settings(&variables).policy;
        let states = state.into_iter().map(|state| (group.arn.as_str(), state)).collect();
        let hostname = Some(Ok(Some(hostname(Ok(vec!["10.0.0.2"])))));
        let read = TargetGroup { targets: Ok(targets), hostname, ..group.clone() };
        let topology = topology(endpoint_service(), [load_balancer("pg", vec![read])]);
        with_policy(&topology, &policy, |context| {
            failure(only_status(evaluate(CheckContext { follow_states: &states, ..context }))).unwrap()
        })
    }

    #[test]
    fn a_followed_group_leaves_people_nothing_to_do() {
        let failed_over = || vec![target(1, "unhealthy")];
        let both = || vec![target(1, "healthy"), target(2, "initial")];
        for (targets, mode, dry_run, nothing_to_do) in [
            (failed_over(), "replace", "false", true),
            (failed_over(), "register", "false", true),
            (both(), "replace", "false", true),
            (both(), "register", "false", false),
            (failed_over(), "never", "false", false),
            (failed_over(), "replace", "true", false),
            (vec![target(1, "unhealthy"), Target { port: Some(1), ..target(3, "healthy") }], "replace", "false", false),
        ] {
            let remedy = followed(targets, mode, dry_run, None).remedy;
            assert_eq!(remedy.nothing_to_do, nothing_to_do, "{mode}, {dry_run}: {remedy:?}");
            assert!(!nothing_to_do || remedy.command.is_none());
        }
    }

    #[test]
    fn what_the_guard_cannot_follow_is_left_to_people() {
        let address = || BTreeSet::from([IpAddr::from([10, 0, 0, 2])]);
        let state = || FollowState {
            followed: address(),
            ..FollowState::first_seen(None, "db.example.com", address(), at(8, 0))
        };
        let says = |state: FollowState, words: &str| {
            let finding = followed(vec![target(1, "unhealthy")], "replace", "false", Some(&state));
            assert!(finding.evidence.iter().any(|line| line.contains(words)), "{words}: {finding:?}");
            assert!(finding.remedy.command.is_some());
            assert_eq!(finding.parts.len(), 2, "a part of its own, which is news");
            finding
        };
        says(
            FollowState { refused: Some("TooManyTargets: no".to_owned()), ..state() },
            "AWS refused it: TooManyTargets",
        );
        says(
            FollowState { registered: address(), again: address(), ..state() },
            "somebody deregistered the address twice",
        );
        let stopped = says(FollowState { stopped: true, ..state() }, "the same addresses for an hour");
        assert_eq!(stopped.severity, Severity::Critical);
    }

    #[test]
    fn a_group_to_follow_needs_a_hostname() {
        let group = target_group("pg");
        let variables = [("FOLLOW_HOSTNAMES", "replace"), ("FOLLOW_TARGET_GROUPS", group.arn.as_str())];
        let topology = topology(endpoint_service(), [load_balancer("pg", vec![group.clone()])]);
        let status = with_policy(&topology, &settings(&variables).policy, |context| only_status(evaluate(context)));
        let finding = failure(status).unwrap();
        let expected = (Severity::Warning, "pg is to be followed, but it has no hostname");
        assert_eq!((finding.severity, finding.summary.as_str()), expected);
    }

    #[test]
    fn a_group_to_follow_must_have_addresses_as_targets() {
        let group = TargetGroup { kind: TargetKind::Instance, ..target_group("pg") };
        let variables = [("FOLLOW_HOSTNAMES", "replace"), ("FOLLOW_TARGET_GROUPS", group.arn.as_str())];
        let topology = topology(endpoint_service(), [load_balancer("pg", vec![group.clone()])]);
        let status = with_policy(&topology, &settings(&variables).policy, |context| only_status(evaluate(context)));
        assert_eq!(failure(status).unwrap().summary, "pg is to be followed, but its targets are not addresses");
        assert!(with_context(&topology, evaluate).is_empty(), "unless it is to be followed");
    }

    #[test]
    fn an_incomplete_or_public_dns_answer_is_unknown() {
        let unknown = |hostname| matches!(status(vec![target(1, "healthy")], hostname), Status::Unknown(_));
        assert!(unknown(hostname(Err("no answer".to_owned()))));
        let rds = |kind: &str| format!("db.{kind}-abc.eu-central-1.rds.amazonaws.com");
        for kind in ["cluster-ro", "cluster-custom", "proxy", "Proxy", "endpoint.proxy"] {
            let reader = Hostname { name: rds(kind), ..hostname(Ok(vec!["10.0.0.2"])) };
            assert!(unknown(reader), "{kind}: some of several at a time");
        }
        let china = "db.proxy-abc.rds.cn-north-1.amazonaws.com.cn".to_owned();
        assert!(unknown(Hostname { name: china, ..hostname(Ok(vec!["10.0.0.2"])) }));
        let own = Hostname { name: "db.proxy-1.example.com".to_owned(), ..hostname(Ok(vec!["10.0.0.2"])) };
        assert!(!unknown(own), "no name of RDS's");
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
    fn only_address_groups_with_the_tag_are_checked() {
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
