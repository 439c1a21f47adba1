//! `target-group.health`: are the targets healthy that dbt's traffic reaches?
//!
//! Targets that are being registered or drained count only if none is healthy, so a deployment raises no alert. If none is
//! healthy and ELB does not give the health of some, the result is unknown.

use std::collections::BTreeMap;

use super::restore::{REGISTER_AGAIN, register_again};
use crate::check::{CheckContext, CheckResult, Command, Finding, Group, Remedy, Severity, Spec, Status};
use crate::snapshot::{Health, Target, TargetGroup, Unread};
use crate::text::{count, limited};

/// Evidence lines per alert; the rest is counted.
const MAX_TARGETS: usize = 20;

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "target-group.health",
    severities: &[
        (Severity::Critical, "no target is registered, or none is healthy"),
        (Severity::Warning, "some are healthy, and some unhealthy or unused"),
        (Severity::Info, "some are healthy, none is unhealthy, and the unused ones are in zones that are not enabled"),
    ],
    fails_when: "a target group that gets dbt's traffic has no healthy target, or has unhealthy or unused ones",
    failing_word: "failing",
    impact: "With no healthy target, the load balancer tries all of them, so dbt's connections fail unless a target \
             works in spite of its health check. With some healthy targets, dbt gets through.",
    fix_in_short: "start the service on the targets, allow the load balancer there, or register other targets",
    can_flap: true,
    group: Group::Health,
    evaluate,
    ..Spec::USUAL
};

/// One result per target group.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_target_group(&SPEC, |_, group| match &group.targets {
        Ok(targets) => judge(group, targets, context),
        Err(error) => Unread::from(error).into(),
    })
}

/// What the health of a target means for dbt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serving {
    Yes,
    /// Fails its health checks.
    Down,
    /// Gets no traffic.
    Unused,
    /// Being registered.
    Initial,
    /// Being deregistered.
    Draining,
    /// ELB does not say.
    Unknown,
}

fn serving(health: &Health) -> Serving {
    match health {
        Health::Healthy => Serving::Yes,
        Health::Unhealthy | Health::UnhealthyDraining => Serving::Down,
        Health::Unused => Serving::Unused,
        Health::Initial => Serving::Initial,
        Health::Draining => Serving::Draining,
        Health::Unavailable | Health::Other(_) => Serving::Unknown,
    }
}

/// Whether the target gets no traffic although its zone is enabled on the load balancer.
fn is_unused_in_enabled_zone(target: &Target) -> bool {
    target.health == Health::Unused && target.reason.as_deref() != Some("Target.NotInUse")
}

/// The targets of a group, counted by what their health means for dbt.
struct TargetCounts<'a> {
    targets: &'a [Target],
}

impl TargetCounts<'_> {
    fn number(&self, kind: Serving) -> usize {
        self.targets.iter().filter(|target| serving(&target.health) == kind).count()
    }

    fn healthy(&self) -> usize {
        self.number(Serving::Yes)
    }

    /// The number of targets that fail or get no traffic.
    fn failing(&self) -> usize {
        self.number(Serving::Down) + self.number(Serving::Unused)
    }

    /// `2 unhealthy`, `1 unused`, `1 draining`: all that are not healthy.
    fn not_healthy(&self) -> Vec<String> {
        let kinds = [
            (Serving::Down, "unhealthy"),
            (Serving::Unused, "unused"),
            (Serving::Initial, "initial"),
            (Serving::Draining, "draining"),
            (Serving::Unknown, "unknown"),
        ];
        let numbers = kinds.map(|(kind, word)| (self.number(kind), word));
        numbers.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect()
    }
}

fn judge(group: &TargetGroup, targets: &[Target], context: CheckContext<'_>) -> Status {
    let counts = TargetCounts { targets };
    let (healthy, unknown) = (counts.healthy(), counts.number(Serving::Unknown));
    let down = counts.number(Serving::Down);
    // Unknown targets count neither as healthy nor as a reason to stay silent.
    if unknown > 0 && (counts.failing() == 0 || (healthy == 0 && down == 0)) {
        let why = "ELB does not say whether they are healthy; are health checks off?";
        return Status::Unknown(format!("{} in {}: {why}", count(unknown, "target"), group.name()));
    }
    if healthy > 0 && counts.failing() == 0 {
        return Status::pass(format!("{healthy} of {} healthy in {}", count(targets.len(), "target"), group.name()));
    }
    let severity = severity(&counts);
    let show = || Command::new("elbv2 describe-target-health", context.region).option("target-group-arn", &group.arn);
    let register = register_again(group, context).filter(|_| counts.number(Serving::Draining) == targets.len());
    Status::fail(
        Finding::new(
            severity,
            summary(group.name(), &counts),
            impact(&counts, severity),
            Remedy::new(
                match register {
                    Some(_) => REGISTER_AGAIN,
                    None => action(targets),
                },
                register.or_else(|| (!targets.is_empty()).then(show)),
                context.region.target_group(&group.arn),
            ),
        )
        .with_evidence(evidence(group, &counts))
        // Both are critical, and need different things: people hear when the one becomes the other.
        .with_parts(targets.is_empty().then_some("no target is registered"))
        .about(targets.iter().map(|target| &target.id))
        .stopping_dbt(severity == Severity::Critical),
    )
}

fn severity(counts: &TargetCounts<'_>) -> Severity {
    if counts.healthy() == 0 {
        Severity::Critical
    } else if counts.number(Serving::Down) > 0 || counts.targets.iter().any(is_unused_in_enabled_zone) {
        Severity::Warning
    } else {
        Severity::Info
    }
}

fn summary(group: &str, counts: &TargetCounts<'_>) -> String {
    let (down, unused) = (counts.number(Serving::Down), counts.number(Serving::Unused));
    let all = count(counts.targets.len(), "target");
    match (counts.targets.len(), counts.healthy()) {
        (0, _) => format!("no target is registered in {group}"),
        (_, 0) => format!("0 of {all} healthy in {group}"),
        _ if unused == 0 => format!("{down} of {all} unhealthy in {group}"),
        _ if down == 0 => format!("{unused} of {all} unused in {group}"),
        _ => format!("{} of {all} failing in {group} ({down} unhealthy, {unused} unused)", down + unused),
    }
}

fn impact(counts: &TargetCounts<'_>, severity: Severity) -> &'static str {
    if counts.targets.is_empty() {
        "dbt cannot connect: the load balancer has no target to send its connections to."
    } else if counts.healthy() == 0 {
        // https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html
        match counts.number(Serving::Down) {
            0 => "dbt cannot connect: no target receives traffic.",
            _ => {
                "dbt's connections fail, unless a target works although its health check fails: with no healthy target, the \
                 load balancer tries them all."
            }
        }
    } else if severity == Severity::Info {
        "dbt gets through. These targets get no traffic: the load balancer is not enabled in their zones."
    } else {
        "dbt can still connect through the healthy targets. If they fail as well, dbt cannot connect."
    }
}

fn evidence(group: &TargetGroup, counts: &TargetCounts<'_>) -> Vec<String> {
    let (targets, healthy) = (counts.targets, counts.healthy());
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for target in targets.iter().filter(|target| target.health == Health::Healthy) {
        *zones.entry(target.zone.as_deref().unwrap_or("a zone ELB does not name")).or_default() += 1;
    }
    let zones: Vec<String> = zones.iter().map(|(zone, number)| format!("{number} in {zone}")).collect();
    let mut evidence = vec![match zones.is_empty() {
        _ if targets.is_empty() => "no target is registered".to_owned(),
        true => format!("healthy: none of {}; {}", targets.len(), counts.not_healthy().join(", ")),
        false => format!("healthy: {healthy} of {} ({})", targets.len(), zones.join(", ")),
    }];
    if let Some(check) = &group.health_check {
        evidence.push(format!("health check: {check}"));
    }
    let failing = targets.iter().filter(|target| target.health != Health::Healthy).map(|target| {
        let reason = target.reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
        let description = target.description.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
        format!("{target}: {}{reason}{description}", target.health)
    });
    evidence.extend(limited(failing.collect(), MAX_TARGETS));
    evidence
}

/// What to do about the most likely cause.
fn action(targets: &[Target]) -> &'static str {
    if targets.is_empty() {
        "Register the servers of your service in the target group."
    } else if targets.iter().any(|target| matches!(target.health, Health::Unhealthy | Health::UnhealthyDraining)) {
        "Check that the service runs on these targets and listens on the port, and that their security groups allow the load \
         balancer's private addresses."
    } else if targets.iter().any(|target| target.health == Health::Unused) {
        "These targets get no traffic. Enable their zone on the load balancer, start the instances, or register targets in the \
         load balancer's zones."
    } else {
        "These targets are being registered or deregistered. If this lasts, register other targets."
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{LoadBalancer, Topology};
    use crate::testing::{
        call_error, endpoint_service, failure, load_balancer, only_status, target, target_group, topology, with_context,
    };

    fn results(load_balancer: LoadBalancer) -> Vec<CheckResult> {
        with_context(&topology(endpoint_service(), [load_balancer]), evaluate)
    }

    fn status(targets: &[Target]) -> Status {
        let group = TargetGroup { targets: Ok(targets.to_vec()), ..target_group("pg") };
        // One per target group, never per target.
        only_status(results(load_balancer("pg", vec![group])))
    }

    /// Severity and summary for targets with these states, if the check fails.
    fn outcome(healths: &[&str]) -> Option<(Severity, String)> {
        let targets: Vec<Target> = healths.iter().zip(1..).map(|(health, number)| target(number, health)).collect();
        failure(status(&targets)).map(|finding| (finding.severity, finding.summary))
    }

    #[test]
    fn the_numbers_decide_the_severity() {
        let critical = |summary: &str| Some((Severity::Critical, format!("{summary} in pg")));
        let warning = |summary: &str| Some((Severity::Warning, format!("{summary} in pg")));
        assert_eq!(outcome(&["healthy", "healthy"]), None);
        assert_eq!(outcome(&["healthy", "unhealthy", "unhealthy.draining"]), warning("2 of 3 targets unhealthy"));
        assert_eq!(outcome(&["unhealthy"]), critical("0 of 1 target healthy"));
        assert_eq!(outcome(&[]), critical("no target is registered"));
        let parts = |targets: &[Target]| failure(status(targets)).unwrap().parts.into_keys().collect::<Vec<String>>();
        assert_eq!(parts(&[target(1, "unhealthy")]), Vec::<String>::new());
        assert_eq!(parts(&[]), ["no target is registered"], "as critical as before, and still news");
    }

    #[test]
    fn the_impact_and_the_evidence_fit_the_numbers() {
        let says = |healths: &[&str]| {
            let targets: Vec<Target> = healths.iter().zip(1..).map(|(health, number)| target(number, health)).collect();
            let finding = failure(status(&targets)).unwrap();
            (finding.impact, finding.summary, finding.evidence.into_iter().next().unwrap())
        };
        let table: [(&[&str], &str, &str, &str); 6] = [
            (&[], "dbt cannot connect: the load balancer has no target", "no target is registered", "no target is"),
            (
                &["initial", "unused"],
                "dbt cannot connect: no target receives traffic.",
                "0 of 2 targets healthy",
                "healthy: none of 2; 1 unused, 1 initial",
            ),
            (
                &["unhealthy", "unhealthy", "draining"],
                "dbt's connections fail, unless a target works",
                "0 of 3 targets healthy",
                "healthy: none of 3; 2 unhealthy, 1 draining",
            ),
            (&["healthy", "unhealthy"], "dbt can still connect", "1 of 2 targets unhealthy", "healthy: 1 of 2 ("),
            (
                &["healthy", "unused", "unhealthy"],
                "dbt can still connect",
                "2 of 3 targets failing in pg (1 unhealthy, 1 unused)",
                "healthy: 1 of 3 (",
            ),
            (
                &["healthy", "unhealthy", "unavailable"],
                "dbt can still connect",
                "1 of 3 targets unhealthy",
                "healthy: 1 of 3 (",
            ),
        ];
        for (healths, impact, summary, evidence) in table {
            let said = says(healths);
            let begins = said.0.starts_with(impact) && said.1.starts_with(summary) && said.2.starts_with(evidence);
            assert!(begins, "{healths:?}: {said:?}");
        }
        let not_in_use = Target { reason: Some("Target.NotInUse".to_owned()), ..target(2, "unused") };
        let impact = failure(status(&[target(1, "healthy"), not_in_use])).unwrap().impact;
        assert!(impact.starts_with("dbt gets through."), "{impact}");
    }

    #[test]
    fn unknown_targets_beside_unused_ones_are_unknown() {
        let unknown = |states: &[&str]| {
            let targets: Vec<Target> = states.iter().zip(1..).map(|(state, number)| target(number, state)).collect();
            matches!(status(&targets), Status::Unknown(_))
        };
        assert!(unknown(&["unavailable", "unused"]), "it may be the one that works");
        assert!(!unknown(&["unavailable", "unhealthy"]));
        assert!(!unknown(&["unavailable", "unused", "healthy"]));
    }

    #[test]
    fn a_deployment_is_no_failure_while_a_target_is_healthy() {
        assert_eq!(outcome(&["healthy", "draining", "initial"]), None);
        let critical = |summary: &str| Some((Severity::Critical, summary.to_owned()));
        assert_eq!(outcome(&["initial"]), critical("0 of 1 target healthy in pg"));
        assert_eq!(outcome(&["draining", "draining"]), critical("0 of 2 targets healthy in pg"));
        let both = critical("0 of 2 targets healthy in pg");
        assert_eq!(outcome(&["draining", "initial"]), both);
        let all_in_one = critical("0 of 4 targets healthy in pg");
        assert_eq!(outcome(&["draining", "unused", "initial", "unhealthy"]), all_in_one);
    }

    #[test]
    fn targets_whose_zone_is_not_enabled_are_unused_not_failing() {
        let unused = |reason: &str| Target { reason: Some(reason.to_owned()), ..target(2, "unused") };
        for (reason, severity) in [("Target.NotInUse", Severity::Info), ("Target.InvalidState", Severity::Warning)] {
            let finding = failure(status(&[target(1, "healthy"), unused(reason)])).expect(reason);
            assert_eq!(finding.severity, severity, "{reason}");
            assert_eq!(finding.summary, "1 of 2 targets unused in pg");
        }
        let critical = (Severity::Critical, "0 of 2 targets healthy in pg".to_owned());
        assert_eq!(outcome(&["unused", "unused"]), Some(critical));
        let finding = failure(status(&[target(1, "unused")])).unwrap();
        assert!(finding.remedy.action.contains("Enable their zone"), "{}", finding.remedy.action);
    }

    #[test]
    fn an_application_load_balancer_is_a_target_like_any_other() {
        let alb = |health| Target {
            id: "arn:aws:elasticloadbalancing:…:loadbalancer/app/web/1".to_owned(),
            zone: None,
            ..target(1, health)
        };
        assert!(matches!(status(&[alb("healthy")]), Status::Pass(_)));
        assert_eq!(failure(status(&[alb("unhealthy")])).unwrap().severity, Severity::Critical);
    }

    #[test]
    fn of_two_target_groups_only_the_unhealthy_one_fails() {
        let group = |name: &str, health| TargetGroup { targets: Ok(vec![target(1, health)]), ..target_group(name) };
        let results = results(load_balancer("pg", vec![group("pg-1", "healthy"), group("pg-2", "unhealthy")]));
        let failing: Vec<&str> = results
            .iter()
            .filter(|result| matches!(result.status, Status::Fail(_)))
            .map(|result| result.resource.as_str())
            .collect();
        assert!(matches!(failing[..], [arn] if arn.contains("targetgroup/pg-2/")), "{failing:?}");
    }

    #[test]
    fn an_unavailable_or_new_target_state_is_unknown() {
        assert!(matches!(status(&[target(1, "unavailable")]), Status::Unknown(_)));
        let healthy_and_unknown = [target(1, "healthy"), target(2, "brand-new-state")];
        assert!(matches!(status(&healthy_and_unknown), Status::Unknown(_)), "it must not resolve an alert");
    }

    #[test]
    fn targets_in_an_unknown_state_are_no_reason_to_stay_silent() {
        let finding = |states: &[&str]| {
            let targets: Vec<Target> = states.iter().zip(1..).map(|(state, number)| target(number, state)).collect();
            failure(status(&targets)).map(|finding| (finding.severity, finding.summary))
        };
        let nine_down = ["unhealthy", "unhealthy", "unhealthy", "brand-new-state"];
        let summary = "0 of 4 targets healthy in pg".to_owned();
        assert_eq!(finding(&nine_down), Some((Severity::Critical, summary)));
        let warning = finding(&["healthy", "unhealthy", "brand-new-state"]).map(|(severity, _)| severity);
        assert_eq!(warning, Some(Severity::Warning));
    }

    #[test]
    fn a_failed_read_is_unknown() {
        let failed = || call_error("elasticloadbalancing:DescribeTargetHealth");
        let group = TargetGroup { targets: Err(failed()), ..target_group("pg") };
        let no_targets = topology(endpoint_service(), [load_balancer("pg", vec![group])]);
        let no_groups = LoadBalancer { target_groups: Err(failed()), ..load_balancer("pg", vec![]) };
        let topologies = [
            topology(endpoint_service(), [no_groups]),
            Topology { services: Some(Err(failed())), ..no_targets.clone() },
            no_targets,
        ];
        for topology in topologies {
            let results = with_context(&topology, evaluate);
            assert!(matches!(&results[..], [CheckResult { status: Status::Unknown(_), .. }]), "{results:?}");
        }
    }

    #[test]
    fn the_evidence_names_zones_and_reasons_and_counts_the_rest() {
        let mut targets: Vec<Target> = (1..=25).map(|number| target(number, "unhealthy")).collect();
        targets.push(target(26, "healthy"));
        let finding = failure(status(&targets)).unwrap();
        assert_eq!(finding.evidence[0], "healthy: 1 of 26 (1 in eu-central-1a)");
        assert_eq!(
            finding.evidence[2],
            "10.0.0.1:5432 (eu-central-1a): unhealthy, Target.FailedHealthChecks (Health checks failed)"
        );
        assert_eq!(finding.evidence.last().unwrap(), "and 5 more");
    }
}
