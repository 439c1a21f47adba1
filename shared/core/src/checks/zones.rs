//! `load-balancer.zones`: does every zone that dbt can enter have a healthy target?
//!
//! Decided per target group. A zone without a healthy target is critical, but info if cross-zone load balancing is on,
//! or if the service does not offer the zone, because dbt does not enter there. If EC2 lists the service's zones only
//! by id, every zone counts as offered. An offered zone without an enabled load balancer is critical, even with
//! cross-zone; a single zone in all, or a load balancer's zone that the service does not offer, is info. A zone under a
//! zonal shift is info, whatever the cross-zone setting, and critical only if no target elsewhere is healthy. Targets
//! outside the VPC (`all`) serve every zone. If no target is healthy in any zone, the result is unknown, because
//! `target-group.health` reports that.

use std::collections::{BTreeMap, BTreeSet};

use super::cross_zone;
use crate::check::{CheckContext, CheckResult, Command, Finding, Group, Parts, Remedy, Severity, Spec, Status};
use crate::ids::ServiceId;
use crate::snapshot::{Coverage, Description, Health, LoadBalancer, Target, TargetGroup, TargetKind, Unread};
use crate::text::count;

pub(crate) const SPEC: Spec = Spec {
    id: "load-balancer.zones",
    in_short: "Each zone has healthy targets, and the service offers at least two zones.",
    severities: &[
        (
            Severity::Critical,
            "the service offers the zone, and cross-zone is off or no load balancer is enabled there; or a zonal shift leaves \
             no healthy target",
        ),
        (
            Severity::Info,
            "cross-zone is on, or the service does not offer the zone, or a zonal shift keeps connections away from it; there \
             is only one zone, or the service offers fewer than the load balancer has",
        ),
    ],
    fails_when: "a target group has healthy targets, but none in one of the load balancer's zones; a zonal shift keeps new \
                 connections away from a zone; the service offers a zone in which none of its load balancers is enabled, or \
                 does not offer all of their zones; or it is in only one zone",
    failing_word: "uncovered",
    impact: "Critical: dbt's connections that enter in this zone fail. Info: dbt gets through, because targets in \
             other zones answer, or because dbt cannot enter in this zone.",
    can_flap: true,
    cloudtrail_events: &[
        "DeregisterTargets",
        "ModifyLoadBalancerAttributes",
        "ModifyTargetGroupAttributes",
        "RegisterTargets",
        "SetSubnets",
    ],
    group: Group::Health,
    parts: Parts::Zones,
    evaluate,
    ..Spec::USUAL
};

/// One result per target group, and one for the service.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html#availability-zones>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let service = context.endpoint_service();
    let zones = service.iter().flat_map(|service| &service.zones).flatten();
    let offered: BTreeSet<&str> = zones.map(String::as_str).collect();
    let mut results =
        context.per_target_group(&SPEC, |load_balancer, group| judge(load_balancer, group, &offered, context));
    results.extend(zones_without_load_balancer(&offered, context));
    results
}

fn judge(
    load_balancer: &LoadBalancer,
    group: &TargetGroup,
    offered: &BTreeSet<&str>,
    context: CheckContext<'_>,
) -> Status {
    let targets = match (&load_balancer.description, &group.targets) {
        (Ok(_), Ok(targets)) => targets,
        (Err(error), _) | (_, Err(error)) => return Unread::from(error).into(),
    };
    let healthy = targets.iter().filter(|target| target.is_healthy()).count();
    let shift = Shift::of(targets);
    let status = match load_balancer.coverage(group) {
        Coverage::Full => Status::pass(format!("every zone has a healthy target in {}", group.name())),
        Coverage::Unclear if healthy == 0 => {
            Status::Unknown("no target is healthy in any zone; target-group.health reports that".to_owned())
        }
        Coverage::Unclear => unclear(load_balancer, group),
        Coverage::Lacks(zones) => match load_balancer.crosses_zones(group) {
            Ok(cross_zone) => {
                Status::fail(Lack { load_balancer, group, zones, cross_zone, healthy, offered }.finding(context))
            }
            Err(why) => why.into(),
        },
    };
    match shift {
        Some(shift) => shift.added_to(status, load_balancer, group, context),
        None => status,
    }
}

/// A zonal shift. AWS may start one itself, and practice runs shift a zone every week.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/zonal-shift.html>
struct Shift<'a> {
    /// The zones under the shift, each with its number of targets.
    zones: BTreeMap<&'a str, usize>,
    /// The number of healthy targets in other zones.
    healthy_elsewhere: usize,
    /// Whether no target in another zone is, or may be, healthy.
    leaves_nothing: bool,
}

impl<'a> Shift<'a> {
    fn of(targets: &'a [Target]) -> Option<Self> {
        let (left, rest): (Vec<&Target>, Vec<&Target>) = targets.iter().partition(|target| target.is_shifted_away);
        let may_serve =
            |target: &&Target| matches!(target.health, Health::Healthy | Health::Unavailable | Health::Other(_));
        let mut zones = BTreeMap::new();
        for target in &left {
            *zones.entry(target.zone.as_deref().unwrap_or("a zone that ELB does not name")).or_default() += 1;
        }
        let healthy_elsewhere = rest.iter().filter(|target| target.is_healthy()).count();
        (!left.is_empty()).then(|| Self { zones, healthy_elsewhere, leaves_nothing: !rest.iter().any(may_serve) })
    }

    /// `status` with the shift: as a further part of a failure, or as a separate finding.
    fn added_to(
        self,
        status: Status,
        load_balancer: &LoadBalancer,
        group: &TargetGroup,
        context: CheckContext<'_>,
    ) -> Status {
        let zones = self.zones.keys().copied().collect::<Vec<_>>().join(", ");
        let parts: Vec<String> = self.zones.keys().map(|zone| format!("zonal shift away from {zone}")).collect();
        if let Status::Fail(mut finding) = status {
            finding.evidence.extend(parts.iter().cloned());
            return Status::Fail(Box::new(finding.with_parts(parts)));
        }
        let unknown = match status {
            Status::Unknown(why) if !self.leaves_nothing => Some(why),
            _ => None,
        };
        let show = || {
            Command::new("arc-zonal-shift get-managed-resource", context.region)
                .option("resource-identifier", &load_balancer.arn)
        };
        let console = context.region.load_balancer(&load_balancer.arn);
        let finding = match self.leaves_nothing {
            true => Finding::new(
                Severity::Critical,
                format!("zonal shift leaves no healthy target in {}", group.name()),
                "dbt's new connections fail or reach unhealthy targets: no target in another zone is healthy.",
                Remedy::new(
                    &format!(
                        "Fix a target in another zone. The first command shows who shifted {zones} away, and until \
                         when. If that zone works again and its targets are healthy, end the shift with the second. If \
                         that says \"expected one argument\", AWS started the shift: look at AWS Health, then switch \
                         autoshift off for the load balancer."
                    ),
                    Some(show().next_line(end_shift(load_balancer, context))),
                    console,
                ),
            ),
            false => Finding::new(
                Severity::Info,
                format!("zonal shift away from {zones} ({})", group.name()),
                format!(
                    "New connections go to targets in other zones. AWS does not document whether this includes dbt's \
                     connections that enter in {zones}."
                ),
                Remedy::new(
                    "Nothing, if it is planned or a practice run. The command shows the shift's kind, comment and end; \
                     AWS ends its own autoshifts. To find the person, look up StartZonalShift in CloudTrail.",
                    Some(show()),
                    console,
                ),
            ),
        };
        let shifted = self
            .zones
            .iter()
            .map(|(zone, number)| format!("{zone}: no new connections to {} (zonal shift)", count(*number, "target")));
        let elsewhere = format!("{} elsewhere", count(self.healthy_elsewhere, "healthy target"));
        let severity = finding.severity;
        Status::fail(
            finding
                .with_evidence(shifted.chain([elsewhere]).collect())
                .with_parts(parts)
                .with_unknown_rest(unknown)
                .stopping_dbt(severity == Severity::Critical),
        )
    }
}

/// The command that ends the load balancer's active shifts.
/// <https://docs.aws.amazon.com/arc-zonal-shift/latest/api/API_CancelZonalShift.html>
fn end_shift(load_balancer: &LoadBalancer, context: CheckContext<'_>) -> Command {
    let applied = Command::new("arc-zonal-shift get-managed-resource", context.region)
        .option("resource-identifier", &load_balancer.arn)
        .literal("--query \"zonalShifts[?appliedStatus=='APPLIED'].zonalShiftId\" --output text");
    Command::new("arc-zonal-shift cancel-zonal-shift", context.region).option_of("zonal-shift-id", &applied)
}

/// The status if the zones of the healthy targets are unknown. With cross-zone load balancing, they do not matter.
fn unclear(load_balancer: &LoadBalancer, group: &TargetGroup) -> Status {
    match (load_balancer.crosses_zones(group), group.kind) {
        (Ok(true), _) => Status::pass(format!("cross-zone covers every zone for {}", group.name())),
        (Ok(false), TargetKind::LoadBalancer) => {
            Status::Unknown("ELB does not say in which zones an Application Load Balancer answers".to_owned())
        }
        (Ok(false), _) => Status::Unknown("the zones of the healthy targets are unknown".to_owned()),
        (Err(why), _) => why.into(),
    }
}

/// Zones of a load balancer without a healthy target of a group.
struct Lack<'a> {
    load_balancer: &'a LoadBalancer,
    group: &'a TargetGroup,
    zones: Vec<&'a str>,
    cross_zone: bool,
    /// The number of healthy targets in other zones.
    healthy: usize,
    /// The zones that the service offers; empty if unknown.
    offered: &'a BTreeSet<&'a str>,
}

impl Lack<'_> {
    fn finding(&self, context: CheckContext<'_>) -> Finding {
        let Self { load_balancer, group, zones, .. } = self;
        let (severity, impact) = self.severity_and_impact();
        let mut action = "Register a target there, or fix the targets that are registered.".to_owned();
        let switch_on = cross_zone::command(load_balancer, group, context.region).filter(|_| severity > Severity::Info);
        let command = match switch_on {
            Some(switch_on) => {
                action.push_str(" Until then, switch cross-zone load balancing on, so that dbt reaches the healthy targets in other zones.");
                switch_on
            }
            None => Command::new("elbv2 describe-target-health", context.region).option("target-group-arn", &group.arn),
        };
        Finding::new(
            severity,
            format!("no healthy target in {} ({})", zones.join(", "), group.name()),
            impact,
            Remedy::new(&action, Some(command), context.region.target_group(&group.arn)),
        )
        .with_evidence(self.evidence())
        .with_parts(zones.iter().copied())
        .stopping_dbt(severity == Severity::Critical)
    }

    fn severity_and_impact(&self) -> (Severity, &'static str) {
        // EC2 may list a service's zones only by id. Then all zones count as offered.
        let offers = |zone: &&str| self.offered.is_empty() || self.offered.contains(zone);
        if self.cross_zone {
            (
                Severity::Info,
                "dbt gets through: cross-zone load balancing sends connections that enter there to healthy targets in \
                 other zones.",
            )
        } else if !self.zones.iter().any(offers) {
            (
                Severity::Info,
                "dbt gets through: the endpoint service does not offer these zones, so no dbt connection enters there.",
            )
        } else {
            (
                Severity::Critical,
                "dbt's connections that enter there fail: cross-zone load balancing is off, so they reach only targets in \
                 that zone.",
            )
        }
    }

    fn evidence(&self) -> Vec<String> {
        let state = if self.cross_zone { "on" } else { "off" };
        let setting = format!("load balancer {}: cross-zone load balancing is {state}", self.load_balancer.name());
        let line = |zone: &&str| {
            let offered = match (self.offered.is_empty(), self.offered.contains(zone)) {
                (true, _) => "",
                (false, true) => ", offered by the endpoint service",
                (false, false) => ", not offered by the endpoint service",
            };
            format!("{zone}: no healthy target{offered}")
        };
        let elsewhere = format!("{} elsewhere", count(self.healthy, "healthy target"));
        std::iter::once(setting).chain(self.zones.iter().map(line)).chain([elsewhere]).collect()
    }
}

/// The result for the service: it fails if it offers a zone in which none of its load balancers is enabled. `None` if
/// its load balancers could not be listed.
fn zones_without_load_balancer(offered: &BTreeSet<&str>, context: CheckContext<'_>) -> Option<CheckResult> {
    let service = context.service?;
    let load_balancers = context.load_balancers(&SPEC).ok()?;
    let status = judge_zones(service, &load_balancers, offered, context);
    Some(CheckResult::new(&SPEC, service, status))
}

fn judge_zones(
    service: &ServiceId,
    load_balancers: &[&LoadBalancer],
    offered: &BTreeSet<&str>,
    context: CheckContext<'_>,
) -> Status {
    if offered.is_empty() {
        return Status::Unknown("EC2 does not name the zones that the service offers".to_owned());
    }
    let descriptions: Result<Vec<&Description>, _> =
        load_balancers.iter().map(|load_balancer| load_balancer.description.as_ref()).collect();
    let descriptions = match descriptions {
        Ok(descriptions) => descriptions,
        Err(error) => return Unread::from(error).into(),
    };
    let enabled: BTreeSet<&str> = descriptions
        .into_iter()
        .flat_map(|description| description.zones.iter().map(|zone| zone.name.as_str()))
        .collect();
    let missing: Vec<&str> = offered.difference(&enabled).copied().collect();
    if missing.is_empty() {
        return judge_number(service, load_balancers, offered, &enabled, context);
    }
    Status::fail(
        Finding::new(
            Severity::Critical,
            format!("no load balancer in {}: dbt cannot connect there", missing.join(", ")),
            format!(
                "The endpoint service offers {} to dbt, but connections that enter there fail.",
                missing.join(", ")
            ),
            enable_zones(service, load_balancers, &missing, context),
        )
        .with_evidence(vec![
            format!("offered: {}", offered.iter().copied().collect::<Vec<_>>().join(", ")),
            format!("enabled: {}", enabled.into_iter().collect::<Vec<_>>().join(", ")),
        ])
        .with_parts(missing.iter().copied())
        .stopping_dbt(true),
    )
}

/// The status of the zones' number: there should be two, as dbt's guides require and AWS recommends, and the service
/// should offer all zones of its load balancers. A zone that a load balancer gets after joining the service is not
/// offered until the load balancer is added again.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/privatelink-share-your-services.html>
/// <https://github.com/hashicorp/terraform-provider-aws/issues/40809>
fn judge_number(
    service: &ServiceId,
    load_balancers: &[&LoadBalancer],
    offered: &BTreeSet<&str>,
    enabled: &BTreeSet<&str>,
    context: CheckContext<'_>,
) -> Status {
    let more: Vec<&str> = enabled.difference(offered).copied().collect();
    let console = context.region.endpoint_service(service.as_str());
    let finding = match (more.is_empty(), enabled.len()) {
        (true, 1) => Finding::new(
            Severity::Info,
            format!("service is in one zone only: {}", listed(enabled)),
            "dbt gets through. An outage of this zone cuts it off: dbt's guides ask for two zones.",
            Remedy::new(
                "Nothing, if one zone is intended. Otherwise register targets in a second zone, add a subnet there to the load balancer \
                 in the console (the command lists the subnets), add the load balancer to the endpoint service again, and ask dbt \
                 Support to extend its endpoint.",
                subnets(load_balancers, &[], context),
                console,
            ),
        ),
        (true, _) => return Status::pass("a load balancer is enabled in every offered zone"),
        (false, all) => Finding::new(
            Severity::Info,
            format!("service offers {} of the load balancer's {all} zones", offered.len()),
            "dbt gets through, but its endpoint cannot be in the other zones.",
            Remedy::new(
                "First make sure that these zones have healthy targets, or that cross-zone is on. Then run the \
                 command: it adds the load balancer to the service again, which should offer its new zones. No \
                 connection is cut. If nothing changes, save the load balancers again in the console.",
                Some(
                    Command::new("ec2 modify-vpc-endpoint-service-configuration", context.region)
                        .option("service-id", service)
                        .options("add-network-load-balancer-arns", load_balancers.iter().map(|it| &it.arn)),
                ),
                console,
            ),
        ),
    };
    let not_offered = more.iter().map(|zone| format!("not offered: {zone}"));
    let offered = format!("offered: {}", listed(offered));
    Status::fail(finding.with_evidence([offered].into_iter().chain(not_offered).collect()).with_parts(more))
}

fn listed(zones: &BTreeSet<&str>) -> String {
    zones.iter().copied().collect::<Vec<_>>().join(", ")
}

/// The command that lists the subnets of the first load balancer's VPC, in these zones or in any zone.
fn subnets(load_balancers: &[&LoadBalancer], zones: &[&str], context: CheckContext<'_>) -> Option<Command> {
    let description = load_balancers.first()?.description.as_ref().ok()?;
    let in_zones = (!zones.is_empty()).then(|| format!("Name=availability-zone,Values={}", zones.join(",")));
    let filters = [format!("Name=vpc-id,Values={}", description.vpc)].into_iter().chain(in_zones);
    Some(
        Command::new("ec2 describe-subnets", context.region)
            .options("filters", filters)
            .literal("--query 'Subnets[].[AvailabilityZone,SubnetId,CidrBlock]' --output text"),
    )
}

/// The remedy that enables the first load balancer in the missing zones; the command lists the subnets to choose from.
fn enable_zones(
    service: &ServiceId,
    load_balancers: &[&LoadBalancer],
    missing: &[&str],
    context: CheckContext<'_>,
) -> Remedy {
    let action = format!(
        "In the console, edit the load balancer's subnets, and add one in {}. The command lists the subnets there.",
        missing.join(" and one in ")
    );
    let console = load_balancers.first().and_then(|first| context.region.load_balancer(&first.arn));
    let console = console.or_else(|| context.region.endpoint_service(service.as_str()));
    Remedy::new(&action, subnets(load_balancers, missing, context), console)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{CrossZoneOverride, EndpointService, Target};
    use crate::testing::{
        call_error, endpoint_service, group_attributes, load_balancer, target, target_group, topology, with_context,
    };

    /// A target in this zone.
    fn target_in(number: u8, zone: Option<&str>, health: &str) -> Target {
        Target { zone: zone.map(ToOwned::to_owned), ..target(number, health) }
    }

    fn in_a(number: u8, health: &str) -> Target {
        target_in(number, Some("eu-central-1a"), health)
    }

    fn in_b(number: u8, health: &str) -> Target {
        target_in(number, Some("eu-central-1b"), health)
    }

    /// The statuses of the target group and the service, for a load balancer in zones a and b with these targets.
    fn statuses(targets: Vec<Target>, cross_zone: bool, offered: &[&str]) -> Vec<Status> {
        let attributes = group_attributes(CrossZoneOverride::LoadBalancer);
        let group = TargetGroup { targets: Ok(targets), attributes, ..target_group("pg") };
        let load_balancer = LoadBalancer { cross_zone: Some(Ok(cross_zone)), ..load_balancer("pg", vec![group]) };
        let zones = (!offered.is_empty()).then(|| offered.iter().map(ToString::to_string).collect());
        let topology = topology(EndpointService { zones, ..endpoint_service() }, [load_balancer]);
        with_context(&topology, evaluate).into_iter().map(|result| result.status).collect()
    }

    /// The severity for the target group, if the check fails. The service passes, or its finding is only about offering
    /// more.
    fn severity(targets: Vec<Target>, cross_zone: bool, offered: &[&str]) -> Option<Severity> {
        match &statuses(targets, cross_zone, offered)[..] {
            // If EC2 does not name a service's zones, nothing more is known.
            [Status::Pass(_), Status::Pass(_)] => None,
            [Status::Fail(finding), Status::Unknown(_)] if offered.is_empty() => Some(finding.severity),
            [Status::Fail(finding), Status::Pass(_)] => Some(finding.severity),
            [Status::Fail(finding), Status::Fail(more)] if more.severity == Severity::Info => Some(finding.severity),
            other => panic!("{other:?}"),
        }
    }

    const BOTH: &[&str] = &["eu-central-1a", "eu-central-1b"];

    #[test]
    fn without_cross_zone_a_zone_needs_a_healthy_target() {
        let (critical, info) = (Some(Severity::Critical), Some(Severity::Info));
        assert_eq!(severity(vec![in_a(1, "healthy"), in_b(2, "healthy")], false, BOTH), None);
        for lacking in [
            vec![in_a(1, "healthy")],
            vec![in_a(1, "healthy"), in_b(2, "unhealthy")],
            vec![in_a(1, "healthy"), in_b(2, "draining")],
        ] {
            assert_eq!(severity(lacking.clone(), false, BOTH), critical);
            assert_eq!(severity(lacking.clone(), true, BOTH), info);
            assert_eq!(severity(lacking, false, &[]), critical, "without names, all zones count as offered");
        }
    }

    #[test]
    fn a_zonal_shift_is_info_unless_it_leaves_no_healthy_target() {
        let shifted = |target: Target| Target { is_shifted_away: true, ..target };
        let a = || shifted(in_a(1, "healthy"));
        let summary = "zonal shift away from eu-central-1a (pg)";
        for cross_zone in [true, false] {
            let said = |targets: Vec<Target>| match statuses(targets, cross_zone, BOTH).remove(0) {
                Status::Fail(finding) => {
                    (finding.severity, finding.summary, finding.parts.into_keys().collect::<Vec<_>>())
                }
                other => panic!("{other:?}"),
            };
            let part = "zonal shift away from eu-central-1a".to_owned();
            let only = |severity| (severity, summary.to_owned(), vec![part.clone()]);
            assert_eq!(said(vec![a(), in_b(2, "healthy")]), only(Severity::Info), "{cross_zone}");
            let cut_off =
                (Severity::Critical, "zonal shift leaves no healthy target in pg".to_owned(), vec![part.clone()]);
            assert_eq!(said(vec![a(), in_b(2, "unhealthy")]), cut_off, "{cross_zone}");
            assert_eq!(said(vec![a(), in_b(2, "unavailable")]).0, Severity::Info, "it may be healthy");
        }
        let lacking =
            statuses(vec![shifted(in_b(2, "healthy")), target_in(3, Some("eu-central-1c"), "healthy")], false, BOTH);
        let Status::Fail(finding) = &lacking[0] else { panic!("{lacking:?}") };
        let parts: Vec<&str> = finding.parts.keys().map(String::as_str).collect();
        assert_eq!(
            parts,
            ["eu-central-1a", "zonal shift away from eu-central-1b"],
            "the shift is no lack, and no lack hides it"
        );
    }

    #[test]
    fn the_command_switches_cross_zone_on_if_dbt_is_cut_off() {
        let remedy = |cross_zone: bool| match statuses(vec![in_a(1, "healthy")], cross_zone, BOTH).remove(0) {
            Status::Fail(finding) => (finding.remedy.action, finding.remedy.command.unwrap()),
            other => panic!("{other:?}"),
        };
        let (action, command) = remedy(false);
        assert!(action.contains("switch cross-zone load balancing on"), "{action}");
        assert!(command.starts_with("aws elbv2 modify-load-balancer-attributes"), "{command}");
        let (action, command) = remedy(true);
        assert!(!action.contains("switch cross-zone"), "{action}");
        assert!(command.starts_with("aws elbv2 describe-target-health"), "{command}");
        // A zone that is not offered cuts nobody off.
        let Status::Fail(finding) = statuses(vec![in_a(1, "healthy")], false, &["eu-central-1a"]).remove(0) else {
            panic!("it is info")
        };
        assert!(finding.remedy.command.unwrap().starts_with("aws elbv2 describe-target-health"));
    }

    #[test]
    fn the_evidence_shows_whether_a_zone_is_offered() {
        let evidence = |cross_zone: bool, offered: &[&str]| match statuses(
            vec![in_a(1, "healthy")],
            cross_zone,
            offered,
        )
        .remove(0)
        {
            Status::Fail(finding) => finding.evidence,
            other => panic!("{other:?}"),
        };
        let lines = |state: &str, offered: &str| {
            [
                format!("load balancer pg: cross-zone load balancing is {state}"),
                format!("eu-central-1b: no healthy target{offered}"),
                "1 healthy target elsewhere".to_owned(),
            ]
        };
        assert_eq!(evidence(false, BOTH), lines("off", ", offered by the endpoint service"));
        assert_eq!(evidence(true, &["eu-central-1a"]), lines("on", ", not offered by the endpoint service"));
        assert_eq!(evidence(false, &[]), lines("off", ""), "EC2 does not name the zones");
    }

    #[test]
    fn a_zone_that_the_service_does_not_offer_is_info() {
        assert_eq!(severity(vec![in_a(1, "healthy")], false, &["eu-central-1a"]), Some(Severity::Info));
        assert_eq!(severity(vec![in_b(1, "healthy")], false, &["eu-central-1a"]), Some(Severity::Critical));
    }

    #[test]
    fn a_single_zone_or_an_unoffered_zone_is_info() {
        let of_service = |enabled: &[&str], offered: &[&str]| {
            let mut load_balancer = load_balancer("pg", Vec::new());
            let description = load_balancer.description.as_mut().unwrap();
            description.zones.retain(|zone| enabled.contains(&&*zone.name));
            let zones = Some(offered.iter().map(ToString::to_string).collect());
            let topology = topology(EndpointService { zones, ..endpoint_service() }, [load_balancer]);
            with_context(&topology, evaluate).remove(0).status
        };
        let a = &BOTH[..1];
        assert!(matches!(of_service(BOTH, BOTH), Status::Pass(_)));
        assert!(matches!(&of_service(a, BOTH), Status::Fail(finding) if finding.severity == Severity::Critical));
        for (enabled, summary, command) in [
            (a, "service is in one zone only: eu-central-1a", "aws ec2 describe-subnets"),
            (
                BOTH,
                "service offers 1 of the load balancer's 2 zones",
                "aws ec2 modify-vpc-endpoint-service-configuration",
            ),
        ] {
            let Status::Fail(finding) = of_service(enabled, a) else { panic!("{summary}") };
            assert_eq!((finding.severity, &*finding.summary), (Severity::Info, summary));
            assert!(finding.remedy.command.unwrap().starts_with(command), "{summary}");
        }
    }

    #[test]
    fn targets_outside_the_vpc_serve_every_zone() {
        assert_eq!(severity(vec![target_in(1, Some("all"), "healthy")], false, BOTH), None);
        let unhealthy = vec![target_in(1, Some("all"), "unhealthy"), in_a(2, "healthy")];
        assert_eq!(severity(unhealthy, false, BOTH), Some(Severity::Critical));
    }

    #[test]
    fn an_offered_zone_without_a_load_balancer_is_critical() {
        let in_both = vec![in_a(1, "healthy"), in_b(2, "healthy")];
        let offered = ["eu-central-1a", "eu-central-1b", "eu-central-1c"];
        let statuses = statuses(in_both, true, &offered);
        let [Status::Pass(_), Status::Fail(finding)] = &statuses[..] else { panic!("{statuses:?}") };
        assert_eq!(finding.severity, Severity::Critical);
        assert!(finding.summary.contains("eu-central-1c"), "{}", finding.summary);
    }

    #[test]
    fn zones_without_known_or_healthy_targets_are_unknown() {
        let unclear = |targets: Vec<Target>| matches!(statuses(targets, false, BOTH)[0], Status::Unknown(_));
        assert!(unclear(vec![in_a(1, "unhealthy"), in_b(2, "unhealthy")]), "target-group.health reports it");
        assert!(unclear(vec![]));
        assert!(unclear(vec![target_in(1, None, "healthy")]), "an instance that EC2 did not describe");
        let none_healthy = statuses(vec![in_a(1, "unhealthy"), in_b(2, "unhealthy")], true, BOTH);
        assert!(matches!(none_healthy[0], Status::Unknown(_)), "cross-zone helps only if a target is healthy");
        assert_eq!(
            severity(vec![target_in(1, None, "healthy")], true, BOTH),
            None,
            "with cross-zone, zones do not matter"
        );

        let alb = TargetGroup {
            kind: TargetKind::LoadBalancer,
            targets: Ok(vec![target_in(1, None, "healthy")]),
            attributes: group_attributes(CrossZoneOverride::Off),
            ..target_group("alb")
        };
        let results = with_context(&topology(endpoint_service(), [load_balancer("pg", vec![alb])]), evaluate);
        let why = "ELB does not say in which zones an Application Load Balancer answers";
        assert_eq!(results[0].status, Status::Unknown(why.to_owned()));

        let lacking = TargetGroup { targets: Ok(vec![in_a(1, "healthy")]), ..target_group("pg") };
        let status = |attributes| {
            let group = TargetGroup { attributes, ..lacking.clone() };
            with_context(&topology(endpoint_service(), [load_balancer("pg", vec![group])]), evaluate).remove(0).status
        };
        let failed = call_error("elasticloadbalancing:DescribeTargetGroupAttributes");
        assert!(matches!(status(Some(Err(failed))), Status::Unknown(_)));
        assert_eq!(status(None), Status::NotAsked);
    }
}
