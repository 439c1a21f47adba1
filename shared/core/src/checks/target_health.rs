//! `target-group.health`: are the targets of dbt's traffic healthy?
//!
//! Targets that are being registered or drained count only if none is healthy, so a deployment raises no alert. If none
//! is healthy and ELB does not report the health of some, the result is unknown. Targets under a zonal shift get no new
//! connections and do not count at all.

use std::collections::{BTreeMap, BTreeSet};

use super::cross_zone;
use crate::check::cause::NO_TARGET;
use crate::check::restore::register_again;
use crate::check::{CheckContext, CheckResult, Command, Finding, Group, Remedy, Severity, Spec, Status};
use crate::snapshot::{Health, LoadBalancer, MIN_HEALTHY_TAG, RoutingThreshold, Target, TargetGroup, Unread};
use crate::text::{count, limited};

/// Maximum number of targets in an alert's evidence; the rest is counted.
const MAX_TARGETS: usize = 20;

pub(crate) const SPEC: Spec = Spec {
    id: "target-group.health",
    in_short: "Each target group has enough healthy targets.",
    severities: &[
        (
            Severity::Critical,
            "no target is registered, none is healthy, or fewer are healthy than the routing threshold, so that \
             failing ones get connections too",
        ),
        (Severity::Warning, "some are healthy, and some unhealthy or unused"),
        (
            Severity::Info,
            "some are healthy, none is unhealthy, and the unused ones are in zones that are not enabled; or the health \
             check proves little: its port is not the targets', or it passes with 4xx or 5xx",
        ),
    ],
    fails_when: "a target group that gets dbt's traffic has no healthy target or too few for its routing threshold; or \
                 it has unhealthy or unused ones, unless as many are healthy as its tag \
                 `privatelink-guard:min-healthy` asks for",
    failing_word: "failing",
    impact: "With no healthy target, or fewer than the group's routing threshold, the load balancer tries all of them, so \
             dbt's connections to failing ones fail. With enough healthy targets, dbt gets through.",
    can_flap: true,
    cloudtrail_events: &["DeregisterTargets", "ModifyTargetGroup", "ModifyTargetGroupAttributes", "RegisterTargets"],
    group: Group::Health,
    evaluate,
    ..Spec::USUAL
};

/// One result per target group.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_target_group(&SPEC, |load_balancer, group| match &group.targets {
        Ok(targets) => judge(load_balancer, group, targets, context),
        Err(error) => Unread::from(error).into(),
    })
}

/// The meaning of a target's health for dbt.
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
    /// Not reported by ELB.
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

/// The targets of a group that are not shifted away.
struct TargetCounts<'a> {
    targets: Vec<&'a Target>,
    /// The number of targets that are shifted away.
    shifted: usize,
}

impl<'a> TargetCounts<'a> {
    fn new(targets: impl IntoIterator<Item = &'a Target>) -> Self {
        let (shifted, targets): (Vec<&Target>, _) = targets.into_iter().partition(|target| target.is_shifted_away);
        Self { targets, shifted: shifted.len() }
    }

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

    /// `2 unhealthy`, `1 unused`, `1 draining`: all targets that are not healthy.
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

/// New connections that reach failing targets, because too few targets are healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FailOpen {
    threshold: RoutingThreshold,
    /// The zone that the connections enter; `None` with cross-zone load balancing.
    zone: Option<String>,
    failing: usize,
    all: usize,
}

impl FailOpen {
    /// The zone where most connections fail. `None` if every zone reaches the group's routing threshold, if the
    /// threshold is unknown, or if it is AWS's default, under which connections reach failing targets only without a
    /// healthy one.
    fn of(load_balancer: &LoadBalancer, group: &TargetGroup, targets: &[Target]) -> Option<Self> {
        let threshold = group.attributes.as_ref()?.as_ref().ok()?.routing_threshold;
        // Targets outside the VPC belong to all zones.
        let named = targets.iter().filter_map(|target| target.zone.as_deref()).filter(|zone| *zone != "all");
        let zones: BTreeSet<Option<&str>> = match load_balancer.crosses_zones(group).ok()? {
            false if named.clone().next().is_some() => named.map(Some).collect(),
            _ => [None].into(),
        };
        let within = |zone: Option<&str>| {
            let is_in = |target: &&Target| match target.zone.as_deref() {
                Some(own) => zone.is_none_or(|zone| own == zone || own == "all"),
                None => true,
            };
            let counts = TargetCounts::new(targets.iter().filter(is_in));
            // Targets with unknown health may be healthy.
            let healthy = counts.healthy() + counts.number(Serving::Unknown);
            let failing = counts.number(Serving::Down);
            let all = healthy + failing + counts.number(Serving::Initial);
            let is_open = failing > 0 && threshold.is_breached(healthy, all);
            is_open.then(|| Self { threshold, zone: zone.map(ToOwned::to_owned), failing, all })
        };
        let worst = |a: &Self, b: &Self| (a.failing * b.all).cmp(&(b.failing * a.all));
        zones.into_iter().filter_map(within).filter(|_| threshold != RoutingThreshold::DEFAULT).max_by(worst)
    }

    /// Whether the connections' zone has no healthy target: then no threshold would help.
    fn is_complete(&self) -> bool {
        self.failing == self.all
    }

    /// `3 in 4`: the share of failing targets among all that get connections; `all` without a healthy one.
    fn share(&self) -> String {
        if self.is_complete() { "all".to_owned() } else { format!("{} in {}", self.failing, self.all) }
    }

    fn evidence(&self) -> String {
        let RoutingThreshold { count: least, percentage } = self.threshold;
        let percentage =
            percentage.map(|percentage| format!(", or less than {percentage} % healthy,")).unwrap_or_default();
        format!(
            "routing threshold: with fewer than {}{percentage} the load balancer sends to all targets",
            count(least, "healthy target")
        )
    }
}

fn judge(load_balancer: &LoadBalancer, group: &TargetGroup, targets: &[Target], context: CheckContext<'_>) -> Status {
    let counts = TargetCounts::new(targets);
    let (healthy, unknown) = (counts.healthy(), counts.number(Serving::Unknown));
    let down = counts.number(Serving::Down);
    // An unknown target does not count as healthy, and does not hide a failure.
    if unknown > 0 && (counts.failing() == 0 || (healthy == 0 && down == 0)) {
        return Status::Unknown(not_said(unknown, group));
    }
    let fail_open = FailOpen::of(load_balancer, group, targets).filter(|_| healthy > 0);
    let enough = enough(group).is_some_and(|enough| healthy >= enough);
    let unread = unread(load_balancer, group);
    if healthy > 0 && fail_open.is_none() && counts.failing() > 0 {
        match &unread {
            // The failing targets may be standbys, or get connections.
            Some(why) if enough || group.own_tags.is_err() => return Status::Unknown(why.clone()),
            None if enough && unknown > 0 => return Status::Unknown(not_said(unknown, group)),
            _ => {}
        }
    }
    if healthy > 0 && fail_open.is_none() && (counts.failing() == 0 || enough) {
        let all = count(counts.targets.len(), "target");
        if let Some(weakness) = Weakness::of(group, &counts) {
            return Status::fail(weakness.finding(group, context));
        }
        let tag = if counts.failing() > 0 { ", enough by its tag" } else { "" };
        return Status::pass(format!("{healthy} of {all} healthy in {}{tag}", group.name()));
    }
    let severity = if fail_open.is_some() { Severity::Critical } else { severity(&counts) };
    let mut evidence = evidence(group, &counts);
    evidence.splice(1..1, fail_open.iter().map(FailOpen::evidence));
    // The two cases are equally critical but need different fixes, so a change from one to the other sends a message.
    let part = match &fail_open {
        Some(_) => Some(TOO_FEW),
        None => (counts.number(Serving::Draining) == targets.len()).then_some(NO_TARGET),
    };
    Status::fail(
        Finding::new(
            severity,
            summary(group.name(), &counts, fail_open.as_ref()),
            impact(&counts, severity, fail_open.as_ref()),
            remedy((load_balancer, group), &counts, fail_open.as_ref(), context),
        )
        .with_evidence(evidence)
        .with_parts(part)
        .with_unknown_parts(unread.filter(|_| healthy > 0 && part.is_none()).map(|why| (TOO_FEW, why)))
        .about(targets.iter().map(|target| &target.id))
        .stopping_dbt(severity == Severity::Critical),
    )
}

fn not_said(unknown: usize, group: &TargetGroup) -> String {
    let why = "ELB does not say whether they are healthy; are health checks off?";
    format!("{} in {}: {why}", count(unknown, "target"), group.name())
}

/// The part of a finding about a group below its routing threshold.
const TOO_FEW: &str = "too few are healthy";

/// The reason why the routing threshold or the sufficient number of healthy targets is unknown.
fn unread(load_balancer: &LoadBalancer, group: &TargetGroup) -> Option<String> {
    let attributes = group.attributes.as_ref()?.as_ref().err();
    let cross_zone = load_balancer.cross_zone.as_ref().and_then(|cross_zone| cross_zone.as_ref().err());
    attributes.or(cross_zone).or(group.own_tags.as_ref().err()).map(ToString::to_string)
}

/// A reason why a healthy target does not prove that the service answers dbt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weakness {
    /// The health checks use this port, and a target listens for dbt on another.
    OtherPort(u16),
    /// The health checks pass with an error of the service.
    TakesErrors,
}

impl Weakness {
    fn of(group: &TargetGroup, counts: &TargetCounts<'_>) -> Option<Self> {
        let is_other = |port: &u16| counts.targets.iter().any(|target| target.port.is_some_and(|own| own != *port));
        let takes_errors = group.health_check_codes.as_deref().is_some_and(takes_errors);
        let other_port = group.health_check_port.filter(is_other).map(Self::OtherPort);
        other_port.or(takes_errors.then_some(Self::TakesErrors))
    }

    /// Severity info: the alert is sent once, and the setting may be intended.
    fn finding(self, group: &TargetGroup, context: CheckContext<'_>) -> Finding {
        let (summary, part) = match self {
            Self::OtherPort(port) => {
                (format!("health check of {} is on port {port}, not the traffic port", group.name()), "other port")
            }
            Self::TakesErrors => {
                (format!("health check of {} passes with errors (4xx or 5xx)", group.name()), "takes errors")
            }
        };
        let describe =
            Command::new("elbv2 describe-target-groups", context.region).option("target-group-arns", &group.arn);
        let check = group.health_check.iter().map(|check| format!("health check: {check}"));
        Finding::new(
            Severity::Info,
            summary,
            "Enough targets count as healthy, but the service can be down while this check passes.",
            Remedy::new(
                "Nothing, if this is intended, as with Patroni or Vault. Otherwise point the health check at the traffic port, and \
                 accept only success codes (200-399). The command shows the settings.",
                Some(describe),
                context.region.target_group(&group.arn),
            ),
        )
        .with_evidence(check.collect())
        .with_parts([part])
    }
}

/// Whether codes such as `200-399,418` include one from 400 on.
fn takes_errors(codes: &str) -> bool {
    let highest = |range: &str| range.rsplit('-').next().and_then(|last| last.trim().parse::<u16>().ok());
    codes.split(',').filter_map(highest).any(|code| code >= 400)
}

/// The sufficient number of healthy targets, from a tag of the group.
fn enough(group: &TargetGroup) -> Option<usize> {
    min_healthy_tag(group)?.trim().parse().ok().filter(|enough| *enough > 0)
}

fn min_healthy_tag(group: &TargetGroup) -> Option<&String> {
    group.own_tags.as_ref().ok()?.get(MIN_HEALTHY_TAG)
}

fn severity(counts: &TargetCounts<'_>) -> Severity {
    if counts.healthy() == 0 {
        Severity::Critical
    } else if counts.number(Serving::Down) > 0 || counts.targets.iter().any(|target| is_unused_in_enabled_zone(target))
    {
        Severity::Warning
    } else {
        Severity::Info
    }
}

fn summary(group: &str, counts: &TargetCounts<'_>, fail_open: Option<&FailOpen>) -> String {
    if let Some(fail_open) = fail_open {
        let zone = fail_open.zone.as_ref().map(|zone| format!(", {zone}")).unwrap_or_default();
        return format!("too few healthy in {group}{zone}: {} connections fail", fail_open.share());
    }
    let (down, unused) = (counts.number(Serving::Down), counts.number(Serving::Unused));
    let all = count(counts.targets.len(), "target");
    match (counts.targets.len(), counts.healthy()) {
        (0, _) if counts.shifted > 0 => format!("zonal shift: no target of {group} gets new connections"),
        (0, _) => format!("no target is registered in {group}"),
        (_, 0) => format!("0 of {all} healthy in {group}"),
        _ if unused == 0 => format!("{down} of {all} unhealthy in {group}"),
        _ if down == 0 => format!("{unused} of {all} unused in {group}"),
        _ => format!("{} of {all} failing in {group} ({down} unhealthy, {unused} unused)", down + unused),
    }
}

fn impact(counts: &TargetCounts<'_>, severity: Severity, fail_open: Option<&FailOpen>) -> String {
    let impact = if let Some(fail_open) = fail_open {
        let enter = fail_open.zone.as_ref().map(|zone| format!(" that enter in {zone}")).unwrap_or_default();
        return match fail_open.is_complete() {
            true => format!(
                "dbt's new connections{enter} fail: no target there is healthy, so the load balancer tries the failing ones."
            ),
            false => format!(
                "About {} of dbt's new connections{enter} fail: so few targets are healthy that the load balancer also sends to \
                 failing ones.",
                fail_open.share()
            ),
        };
    } else if counts.targets.is_empty() && counts.shifted > 0 {
        "dbt cannot open new connections: the load balancer sends them to no target."
    } else if counts.targets.is_empty() {
        "dbt cannot connect: the load balancer has no target to send its connections to."
    } else if counts.healthy() == 0 {
        // https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html
        match counts.number(Serving::Down) {
            0 => "dbt cannot connect: no target receives traffic.",
            _ => {
                "dbt's connections fail, unless a target works despite its failing health check: with no healthy \
                 target, the load balancer tries them all."
            }
        }
    } else if severity == Severity::Info {
        "dbt gets through. These targets get no traffic: the load balancer is not enabled in their zones."
    } else {
        "dbt can still connect through the healthy targets. If these fail too, it cannot."
    };
    impact.to_owned()
}

fn evidence(group: &TargetGroup, counts: &TargetCounts<'_>) -> Vec<String> {
    let healthy = counts.healthy();
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for target in counts.targets.iter().filter(|target| target.is_healthy()) {
        *zones.entry(target.zone.as_deref().unwrap_or("a zone ELB does not name")).or_default() += 1;
    }
    let zones: Vec<String> = zones.iter().map(|(zone, number)| format!("{number} in {zone}")).collect();
    let all = counts.targets.len();
    let mut evidence = vec![match zones.is_empty() {
        _ if all == 0 && counts.shifted > 0 => "healthy: none".to_owned(),
        _ if all == 0 => "no target is registered".to_owned(),
        true => format!("healthy: none of {all}; {}", counts.not_healthy().join(", ")),
        false => format!("healthy: {healthy} of {all} ({})", zones.join(", ")),
    }];
    evidence.extend(group.health_check.as_ref().map(|check| format!("health check: {check}")));
    if counts.shifted > 0 {
        evidence.push(format!("a zonal shift keeps new connections away from {}", count(counts.shifted, "target")));
    }
    evidence.extend(min_healthy_tag(group).map(|tag| match enough(group) {
        Some(enough) => format!("the tag {MIN_HEALTHY_TAG} asks for {}", count(enough, "healthy target")),
        None => format!("the tag {MIN_HEALTHY_TAG} is ignored: '{tag}' is not a whole number of at least 1"),
    }));
    let failing = counts.targets.iter().filter(|target| target.health != Health::Healthy).map(|target| {
        let reason = target.reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
        let description = target.description.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
        format!("{target}: {}{reason}{description}", target.health)
    });
    evidence.extend(limited(failing.collect(), MAX_TARGETS));
    evidence
}

/// The command that lowers the threshold: connections go only to healthy targets, as long as there is one.
fn lower_threshold(group: &TargetGroup, context: CheckContext<'_>) -> Command {
    const THRESHOLD: &str = "target_group_health.unhealthy_state_routing.minimum_healthy_targets";
    let settings = [("count", "1"), ("percentage", "off")];
    Command::new("elbv2 modify-target-group-attributes", context.region)
        .option("target-group-arn", &group.arn)
        .options("attributes", settings.map(|(name, value)| format!("Key={THRESHOLD}.{name},Value={value}")))
}

/// The remedy for the most likely cause, with the command that carries it out or shows more.
fn remedy(
    (load_balancer, group): (&LoadBalancer, &TargetGroup),
    counts: &TargetCounts<'_>,
    fail_open: Option<&FailOpen>,
    context: CheckContext<'_>,
) -> Remedy {
    let console = context.region.target_group(&group.arn);
    let all = counts.targets.len() + counts.shifted;
    let register = register_again(group, context).filter(|_| counts.number(Serving::Draining) == all);
    if let Some((action, register)) = register {
        return Remedy::new(&action, Some(register), console);
    }
    let show = Command::new("elbv2 describe-target-health", context.region).option("target-group-arn", &group.arn);
    let (until_then, command) = match fail_open {
        Some(fail_open) if fail_open.is_complete() => {
            (SWITCH_CROSS_ZONE_ON, cross_zone::command(load_balancer, group, context.region).unwrap_or(show))
        }
        Some(_) => (LOWER_THE_THRESHOLD, lower_threshold(group, context)),
        None => ("", show),
    };
    let action = format!("{}{until_then}", action(counts));
    Remedy::new(&action, (all > 0).then_some(command), console)
}

const LOWER_THE_THRESHOLD: &str = " Until then, the command lowers the group's routing threshold to AWS's default, so only healthy \
                                   targets get connections. They must carry the whole load. Set it back afterwards: the old value \
                                   is in the evidence.";

const SWITCH_CROSS_ZONE_ON: &str = " No target is healthy in this zone, so a lower routing threshold would not help. Until one is, the \
                                    command switches cross-zone load balancing on.";

/// The action against the most likely cause.
fn action(counts: &TargetCounts<'_>) -> &'static str {
    // https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html
    let answers = |target: &&&Target| target.reason.as_deref() == Some("Target.ResponseCodeMismatch");
    let down: Vec<&&Target> = counts.targets.iter().filter(|target| target.health.is_failing()).collect();
    if counts.targets.is_empty() {
        match counts.shifted {
            0 => "Register your service's servers in the target group.",
            _ => {
                "End the zonal shift, or register targets in other zones. The alert of load-balancer.zones has the command."
            }
        }
    } else if !down.iter().all(answers) {
        "Check that the service runs on these targets and listens on the port, and that their security groups allow the load \
         balancer's private addresses."
    } else if !down.is_empty() {
        "The network and the port work: the targets answer the health check, but with a code that it does not expect. \
         Check its path, protocol and success codes, and the service's own answer there."
    } else if counts.targets.iter().any(|target| target.health == Health::Unused) {
        "These targets get no traffic. Enable their zone on the load balancer, start the instances, or register targets in the \
         load balancer's zones."
    } else {
        "These targets are being registered or deregistered. If this lasts, register other targets."
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::PartStatus;
    use crate::snapshot::{CrossZoneOverride, LoadBalancer, Observed, TargetGroupAttributes};
    use crate::testing::{
        call_error, endpoint_service, failure, group_attributes, load_balancer, only_status, target, target_group,
        topology, with_context,
    };

    fn results(load_balancer: LoadBalancer) -> Vec<CheckResult> {
        with_context(&topology(endpoint_service(), [load_balancer]), evaluate)
    }

    /// One target for each of these states.
    fn targets(healths: &[&str]) -> Vec<Target> {
        healths.iter().zip(1..).map(|(health, number)| target(number, health)).collect()
    }

    /// The status of a group. It is one result, never one per target.
    fn of_group(group: TargetGroup) -> Status {
        only_status(results(load_balancer("pg", vec![group])))
    }

    fn status(targets: &[Target]) -> Status {
        of_group(TargetGroup { targets: Ok(targets.to_vec()), ..target_group("pg") })
    }

    /// The severity and summary for targets with these states, if the check fails.
    fn outcome(healths: &[&str]) -> Option<(Severity, String)> {
        failure(status(&targets(healths))).map(|finding| (finding.severity, finding.summary))
    }

    #[test]
    fn the_numbers_of_targets_decide_the_severity() {
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
            let finding = failure(status(&targets(healths))).unwrap();
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
    fn targets_in_an_unknown_state_hide_no_failure() {
        let table: [(&[&str], &str); 7] = [
            (&["unavailable"], "unknown"),
            (&["healthy", "brand-new-state"], "unknown"),
            (&["unavailable", "unused"], "unknown"),
            (&["unavailable", "unhealthy"], "critical"),
            (&["unavailable", "unused", "healthy"], "warning"),
            (&["unhealthy", "unhealthy", "unhealthy", "brand-new-state"], "critical"),
            (&["healthy", "unhealthy", "brand-new-state"], "warning"),
        ];
        for (states, expected) in table {
            let said = match status(&targets(states)) {
                Status::Fail(finding) => finding.severity.as_str(),
                Status::Unknown(_) => "unknown",
                Status::Pass(_) | Status::NotAsked => "pass",
            };
            assert_eq!(said, expected, "{states:?}");
        }
        assert_eq!(
            outcome(&["unhealthy", "new"]),
            Some((Severity::Critical, "0 of 2 targets healthy in pg".to_owned()))
        );
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
    fn an_unused_target_in_a_disabled_zone_is_only_info() {
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

    fn attributes(crossing: bool, routing_threshold: RoutingThreshold) -> Option<Observed<TargetGroupAttributes>> {
        let cross_zone = if crossing { CrossZoneOverride::On } else { CrossZoneOverride::Off };
        group_attributes(cross_zone).map(|read| Ok(TargetGroupAttributes { routing_threshold, ..read? }))
    }

    /// The status of these targets (state and zone) in a group with this routing threshold and tag.
    fn with_threshold(
        targets: &[(&str, char)],
        threshold: RoutingThreshold,
        tag: Option<&str>,
        crossing: bool,
    ) -> Status {
        let targets = targets.iter().zip(1..).map(|((health, zone), number)| Target {
            zone: Some(format!("eu-central-1{zone}")),
            is_shifted_away: *health == "shifted",
            ..target(number, if *health == "shifted" { "healthy" } else { health })
        });
        let group = TargetGroup {
            targets: Ok(targets.collect()),
            attributes: attributes(crossing, threshold),
            own_tags: Ok(tag.map(|tag| (MIN_HEALTHY_TAG.to_owned(), tag.to_owned())).into_iter().collect()),
            ..target_group("pg")
        };
        of_group(group)
    }

    #[test]
    fn below_the_routing_threshold_a_failing_share_is_critical() {
        const TWO: RoutingThreshold = RoutingThreshold { count: 2, percentage: None };
        const HALF: RoutingThreshold = RoutingThreshold { count: 1, percentage: Some(50) };
        let one_of_four = [("healthy", 'a'), ("unhealthy", 'a'), ("unhealthy", 'b'), ("unhealthy", 'b')];
        let two_of_four = [("healthy", 'a'), ("healthy", 'a'), ("unhealthy", 'b'), ("unhealthy", 'b')];
        let share = |text: &str| Some((Severity::Critical, format!("{text} fail")));
        let warning = |number: u8| Some((Severity::Warning, format!("{number} of 4 targets unhealthy in pg")));
        for (targets, threshold, crossing, expected) in [
            (one_of_four, RoutingThreshold::DEFAULT, true, warning(3)),
            (one_of_four, TWO, true, share("too few healthy in pg: 3 in 4 connections")),
            (one_of_four, HALF, true, share("too few healthy in pg: 3 in 4 connections")),
            (two_of_four, TWO, true, warning(2)),
            (two_of_four, HALF, true, warning(2)),
            (two_of_four, TWO, false, share("too few healthy in pg, eu-central-1b: all connections")),
        ] {
            let finding = failure(with_threshold(&targets, threshold, Some("1"), crossing));
            let said = finding.map(|finding| (finding.severity, finding.summary));
            let expected = expected.filter(|(severity, _)| *severity == Severity::Critical);
            assert_eq!(said, expected, "{targets:?} {threshold:?}: the tag lifts no threshold");
        }
        let finding = failure(with_threshold(&one_of_four, TWO, None, true)).unwrap();
        assert!(finding.impact.starts_with("About 3 in 4 of dbt's new connections fail"), "{}", finding.impact);
        assert_eq!(
            finding.evidence[1],
            "routing threshold: with fewer than 2 healthy targets the load balancer sends to all targets"
        );
        assert!(finding.remedy.command.unwrap().contains("minimum_healthy_targets.count,Value=1"));
        let in_one_zone = failure(with_threshold(&two_of_four, TWO, None, false)).unwrap();
        assert!(in_one_zone.impact.starts_with("dbt's new connections that enter in eu-central-1b fail"));
        let command = in_one_zone.remedy.command.unwrap();
        assert!(command.contains("Key=load_balancing.cross_zone.enabled"), "no threshold helps there: {command}");
        let unread = TargetGroup {
            targets: Ok(targets(&["healthy", "unhealthy"])),
            attributes: Some(Err(call_error("elasticloadbalancing:DescribeTargetGroupAttributes"))),
            ..target_group("pg")
        };
        let finding = failure(of_group(unread)).unwrap();
        assert_eq!(finding.severity, Severity::Warning, "the threshold is not known");
    }

    #[test]
    fn a_tag_sets_the_sufficient_number_of_healthy_targets() {
        let standby = [("healthy", 'a'), ("unhealthy", 'a'), ("unhealthy", 'b')];
        let said =
            |targets: &[(&str, char)], tag| failure(with_threshold(targets, RoutingThreshold::DEFAULT, tag, true));
        let severity = |targets: &[(&str, char)], tag| said(targets, Some(tag)).map(|finding| finding.severity);
        assert_eq!(severity(&standby, "1"), None);
        let unknown = [("healthy", 'a'), ("unhealthy", 'a'), ("unavailable", 'b')];
        let status = with_threshold(&unknown, RoutingThreshold::DEFAULT, Some("1"), true);
        assert!(matches!(status, Status::Unknown(_)), "some healthy and some unknown is never a pass");
        assert_eq!(severity(&standby, "2"), Some(Severity::Warning), "one is not enough");
        assert_eq!(severity(&[("unhealthy", 'a')], "1"), Some(Severity::Critical), "it does not lift this");
        assert_eq!(severity(&[], "1"), Some(Severity::Critical));
        for tag in ["0", "-1", "two", "1.5", ""] {
            let evidence = said(&standby, Some(tag)).unwrap().evidence;
            let says_so = format!(
                "the tag privatelink-guard:min-healthy is ignored: '{tag}' is not a whole number of at least 1"
            );
            assert!(evidence.iter().any(|line| line.starts_with(&says_so)), "{evidence:?}");
        }
    }

    #[test]
    fn unread_attributes_and_tags_hide_no_failure() {
        let denied = || call_error("elasticloadbalancing:DescribeTargetGroupAttributes");
        let judged = |own_tags: Observed<BTreeMap<String, String>>,
                      attributes: Option<Observed<TargetGroupAttributes>>| {
            let targets = Ok(vec![target(1, "healthy"), target(2, "unhealthy")]);
            let group = TargetGroup { own_tags, targets, attributes, ..target_group("pg") };
            only_status(results(LoadBalancer { cross_zone: Some(Ok(true)), ..load_balancer("pg", vec![group]) }))
        };
        let tagged = || Ok(BTreeMap::from([(MIN_HEALTHY_TAG.to_owned(), "1".to_owned())]));
        let read = || group_attributes(CrossZoneOverride::LoadBalancer);
        assert!(matches!(judged(tagged(), read()), Status::Pass(_)));
        assert!(matches!(judged(tagged(), Some(Err(denied()))), Status::Unknown(_)), "it may be below its threshold");
        assert!(matches!(judged(Err(denied()), read()), Status::Unknown(_)), "the other may be a standby");
        let finding = failure(judged(Ok(BTreeMap::new()), Some(Err(denied())))).unwrap();
        assert_eq!(finding.severity, Severity::Warning);
        let parts: Vec<_> =
            finding.parts.iter().map(|(name, status)| (&**name, matches!(status, PartStatus::Unknown(_)))).collect();
        assert_eq!(parts, [("too few are healthy", true)], "what people know of it stays");
    }

    #[test]
    fn targets_outside_the_vpc_count_in_every_zone() {
        const TWO: RoutingThreshold = RoutingThreshold { count: 2, percentage: None };
        let summary = |targets: &[(&str, &str)]| {
            let targets = targets
                .iter()
                .zip(1..)
                .map(|((health, zone), number)| Target { zone: Some((*zone).to_owned()), ..target(number, health) });
            let (targets, attributes) = (Ok(targets.collect()), attributes(false, TWO));
            failure(of_group(TargetGroup { targets, attributes, ..target_group("pg") })).unwrap().summary
        };
        assert_eq!(
            summary(&[("healthy", "all"), ("healthy", "a"), ("unhealthy", "all")]),
            "1 of 3 targets unhealthy in pg"
        );
        assert_eq!(
            summary(&[("healthy", "all"), ("unhealthy", "all")]),
            "too few healthy in pg: 1 in 2 connections fail"
        );
    }

    #[test]
    fn a_shifted_target_is_in_no_count() {
        let said = |targets: &[(&str, char)]| {
            let finding = failure(with_threshold(targets, RoutingThreshold::DEFAULT, None, true));
            finding.map(|finding| (finding.severity, finding.summary))
        };
        assert_eq!(said(&[("shifted", 'a'), ("healthy", 'b')]), None, "load-balancer.zones reports it");
        let none = |summary: &str| Some((Severity::Critical, summary.to_owned()));
        assert_eq!(said(&[("shifted", 'a'), ("unhealthy", 'b')]), none("0 of 1 target healthy in pg"));
        assert_eq!(said(&[("shifted", 'a')]), none("zonal shift: no target of pg gets new connections"));
    }

    #[test]
    fn a_weak_health_check_is_info() {
        let said = |port: Option<u16>, codes: Option<&str>, healths: &[&str]| {
            let group = TargetGroup {
                targets: Ok(targets(healths)),
                health_check_port: port,
                health_check_codes: codes.map(ToOwned::to_owned),
                ..target_group("pg")
            };
            failure(of_group(group)).map(|finding| (finding.severity, finding.summary))
        };
        let info = |summary: &str| Some((Severity::Info, summary.to_owned()));
        assert_eq!(said(None, Some("200-399"), &["healthy"]), None);
        assert_eq!(said(Some(5432), Some("200,301"), &["healthy"]), None, "it is the targets' port");
        assert_eq!(
            said(Some(8008), None, &["healthy"]),
            info("health check of pg is on port 8008, not the traffic port")
        );
        for codes in ["200-499", "200,503", "404"] {
            assert_eq!(
                said(None, Some(codes), &["healthy"]),
                info("health check of pg passes with errors (4xx or 5xx)")
            );
        }
        let worse = said(Some(8008), None, &["healthy", "unhealthy"]);
        assert_eq!(worse.map(|(severity, _)| severity), Some(Severity::Warning), "what fails is more important");
    }

    #[test]
    fn an_unexpected_answer_does_not_blame_the_network() {
        let action = |reasons: &[&str]| {
            let targets = reasons
                .iter()
                .zip(1..)
                .map(|(reason, number)| Target { reason: Some((*reason).to_owned()), ..target(number, "unhealthy") });
            failure(status(&targets.collect::<Vec<_>>())).unwrap().remedy.action
        };
        let mismatch = action(&["Target.ResponseCodeMismatch", "Target.ResponseCodeMismatch"]);
        assert!(mismatch.contains("path, protocol and success codes") && !mismatch.contains("security"), "{mismatch}");
        for others in [&["Target.ResponseCodeMismatch", "Target.Timeout"], &["Target.Timeout"; 2]] {
            assert!(action(others).contains("security groups"), "{others:?}");
        }
    }

    #[test]
    fn an_application_load_balancer_is_judged_as_a_target() {
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
