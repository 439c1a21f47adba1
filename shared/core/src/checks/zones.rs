//! `load-balancer.zones`: does every zone that dbt can enter by have a target?

use std::collections::BTreeSet;

use super::catalogue::{ALWAYS, Absence};
use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status, count};
use crate::snapshot::{Coverage, Description, Health, LoadBalancer, TargetGroup, TargetKind};

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "load-balancer.zones",
    severities: &[
        (Severity::Critical, "the service offers the zone, and cross-zone is off or no load balancer is enabled there"),
        (Severity::Info, "cross-zone is on, or the service does not offer the zone"),
    ],
    fails_when: "a target group has healthy targets, but none in one of the load balancer's zones; or the service \
                 offers a zone in which none of its load balancers is enabled",
    impact: "Critical: dbt's connections that enter by this zone fail. Info: dbt gets through, because targets in \
             other zones answer, or because dbt cannot enter by this zone.",
    fix_in_short: "register a target in the zone, switch cross-zone on, or enable a load balancer there",
    can_flap: true,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: ALWAYS,
    cloudtrail_events: &[],
    group: Group::Health,
    evaluate,
};

/// One result per target group; and one for the service where it offers a zone in which no load balancer is.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html#availability-zones>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let service = context.topology.service(context.service);
    let offered: BTreeSet<&str> = service.iter().flat_map(|own| own.zones.iter().map(String::as_str)).collect();
    let mut results = context.per_target_group(&SPEC, |balancer, group| judge(balancer, group, &offered, context));
    results.extend(
        zones_without_load_balancer(&offered, context).map(|status| CheckResult::new(&SPEC, context.service, status)),
    );
    results
}

fn judge(balancer: &LoadBalancer, group: &TargetGroup, offered: &BTreeSet<&str>, context: CheckContext<'_>) -> Status {
    let targets = match (&balancer.description, &group.targets) {
        (Ok(_), Ok(targets)) => targets,
        (Err(error), _) | (_, Err(error)) => return Status::Unknown(error.to_string()),
    };
    let zones = match balancer.coverage(group) {
        Coverage::Full => return Status::Pass,
        Coverage::Lacks(zones) => zones,
        Coverage::Unclear if !targets.iter().any(|target| target.health == Health::Healthy) => {
            return Status::Unknown("no target is healthy in any zone; target-group.health reports that".to_owned());
        }
        Coverage::Unclear => {
            return match (balancer.crosses_zones(group), group.kind) {
                (Ok(true), _) => Status::Pass,
                (Ok(false), TargetKind::LoadBalancer) => {
                    Status::Unknown("ELB does not say in which zones an Application Load Balancer answers".to_owned())
                }
                (Ok(false), _) => Status::Unknown("it is not known in which zones the healthy targets are".to_owned()),
                (Err(why), _) => Status::Unknown(why),
            };
        }
    };
    let crossing = match balancer.crosses_zones(group) {
        Ok(crossing) => crossing,
        Err(why) => return Status::Unknown(why),
    };
    // EC2 may give a service's zones by id alone: then each counts as offered.
    let entered = |zone: &&str| offered.is_empty() || offered.contains(zone);
    let by_dbt = zones.iter().filter(|zone| entered(zone)).count();
    let name = group.name();
    let (severity, impact) = if crossing {
        (
            Severity::Info,
            "dbt gets through: cross-zone load balancing sends what enters there to the healthy targets of other zones.",
        )
    } else if by_dbt == 0 {
        (
            Severity::Info,
            "dbt gets through: the endpoint service does not offer these zones, so nothing of dbt's enters there.",
        )
    } else {
        (
            Severity::Critical,
            "dbt's connections that enter there fail: cross-zone load balancing is off, so they reach targets of that zone alone.",
        )
    };
    let (plural, have) = if zones.len() == 1 { ("", "has") } else { ("s", "have") };
    let of = balancer.description.as_ref().map_or(0, |description| description.zones.len());
    let state = if crossing { "on" } else { "off" };
    let line = |zone: &&str| {
        let not = if offered.contains(zone) { "" } else { "not " };
        let service = format!(", {not}offered by the endpoint service");
        format!("{zone}: no healthy target{}", if offered.is_empty() { "" } else { &service })
    };
    let healthy = targets.iter().filter(|target| target.health == Health::Healthy);
    Status::Fail(Box::new(Finding {
        severity,
        summary: format!(
            "{} of {of} zones {have} no healthy target in target group {name}: {}",
            zones.len(),
            zones.join(", ")
        ),
        impact: impact.to_owned(),
        evidence: std::iter::once(format!("load balancer {}: cross-zone load balancing is {state}", balancer.name()))
            .chain(zones.iter().map(line))
            .chain([format!("{} elsewhere", count(healthy.count(), "healthy target"))])
            .collect(),
        remedy: Remedy {
            action: format!(
                "Register a target in the zone{plural}, or fix the targets that are there. Cross-zone load balancing makes \
                 it matter less."
            ),
            command: Some(format!(
                "aws elbv2 describe-target-health --region {} --target-group-arn {}",
                context.region.name(),
                group.arn
            )),
            console: context.region.target_group(&group.arn),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

/// Zones that the service offers and no load balancer of it is enabled in.
fn zones_without_load_balancer(offered: &BTreeSet<&str>, context: CheckContext<'_>) -> Option<Status> {
    let balancers = context.topology.load_balancers_of(context.service).ok()?;
    let descriptions: Result<Vec<&Description>, _> =
        balancers.iter().map(|balancer| balancer.description.as_ref()).collect();
    let descriptions = match descriptions {
        Ok(descriptions) => descriptions,
        Err(error) => return Some(Status::Unknown(error.to_string())),
    };
    let enabled: BTreeSet<&str> =
        descriptions.into_iter().flat_map(|own| own.zones.iter().map(|zone| zone.name.as_str())).collect();
    let dead: Vec<&str> = offered.difference(&enabled).copied().collect();
    if dead.is_empty() {
        return Some(Status::Pass);
    }
    Some(Status::Fail(Box::new(Finding {
        severity: Severity::Critical,
        summary: format!("the service offers {}, where no load balancer of it is enabled", dead.join(", ")),
        impact: "dbt's connections that enter there fail: nothing takes them.".to_owned(),
        evidence: vec![
            format!("offered: {}", offered.iter().copied().collect::<Vec<_>>().join(", ")),
            format!("enabled: {}", enabled.into_iter().collect::<Vec<_>>().join(", ")),
        ],
        remedy: Remedy {
            action: "Enable the load balancer in that zone: name all its subnets, old and new.".to_owned(),
            command: balancers.first().map(|balancer| {
                format!(
                    "aws elbv2 set-subnets --region {} --load-balancer-arn {} --subnets SUBNETS",
                    context.region.name(),
                    balancer.arn
                )
            }),
            console: context.region.endpoint_service(context.service.as_str()),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{CrossZoneOverride, EndpointService, Target};
    use crate::testing::{call_error, endpoint_service, load_balancer, target, target_group, topology, with_context};

    /// A target in this zone.
    fn placed(number: u8, zone: Option<&str>, health: &str) -> Target {
        Target { zone: zone.map(ToOwned::to_owned), ..target(number, health) }
    }

    fn a(number: u8, health: &str) -> Target {
        placed(number, Some("eu-central-1a"), health)
    }

    fn b(number: u8, health: &str) -> Target {
        placed(number, Some("eu-central-1b"), health)
    }

    /// What is said of a load balancer in zones a and b with these targets, per resource.
    fn statuses(targets: Vec<Target>, crossing: bool, offered: &[&str]) -> Vec<Status> {
        let cross_zone = Some(Ok(CrossZoneOverride::LoadBalancer));
        let group = TargetGroup { targets: Ok(targets), cross_zone, ..target_group("pg") };
        let balancer = LoadBalancer { cross_zone: Some(Ok(crossing)), ..load_balancer("pg", vec![group]) };
        let zones = offered.iter().map(ToString::to_string).collect();
        let topology = topology(EndpointService { zones, ..endpoint_service() }, [balancer]);
        with_context(&topology, evaluate).into_iter().map(|result| result.status).collect()
    }

    fn severity(targets: Vec<Target>, crossing: bool, offered: &[&str]) -> Option<Severity> {
        match &statuses(targets, crossing, offered)[..] {
            [Status::Pass, Status::Pass] => None,
            [Status::Fail(finding), Status::Pass] => Some(finding.severity),
            other => panic!("{other:?}"),
        }
    }

    const BOTH: &[&str] = &["eu-central-1a", "eu-central-1b"];

    #[test]
    fn a_zone_without_a_healthy_target_is_critical_unless_zones_are_crossed() {
        let (critical, info) = (Some(Severity::Critical), Some(Severity::Info));
        assert_eq!(severity(vec![a(1, "healthy"), b(2, "healthy")], false, BOTH), None);
        for lacking in
            [vec![a(1, "healthy")], vec![a(1, "healthy"), b(2, "unhealthy")], vec![a(1, "healthy"), b(2, "draining")]]
        {
            assert_eq!(severity(lacking.clone(), false, BOTH), critical);
            assert_eq!(severity(lacking.clone(), true, BOTH), info);
            assert_eq!(severity(lacking, false, &[]), critical, "zones by id alone count as offered");
        }
    }

    #[test]
    fn a_zone_that_the_service_does_not_offer_is_zones_without_load_balancer() {
        assert_eq!(severity(vec![a(1, "healthy")], false, &["eu-central-1a"]), Some(Severity::Info));
        assert_eq!(severity(vec![b(1, "healthy")], false, &["eu-central-1a"]), Some(Severity::Critical));
    }

    #[test]
    fn targets_outside_the_vpc_serve_every_zone() {
        assert_eq!(severity(vec![placed(1, Some("all"), "healthy")], false, BOTH), None);
        let sick = vec![placed(1, Some("all"), "unhealthy"), a(2, "healthy")];
        assert_eq!(severity(sick, false, BOTH), Some(Severity::Critical));
    }

    #[test]
    fn a_zone_of_the_service_without_a_load_balancer_is_critical_even_with_cross_zone() {
        let everywhere = vec![a(1, "healthy"), b(2, "healthy")];
        let offered = ["eu-central-1a", "eu-central-1b", "eu-central-1c"];
        let statuses = statuses(everywhere, true, &offered);
        let [Status::Pass, Status::Fail(finding)] = &statuses[..] else { panic!("{statuses:?}") };
        assert_eq!(finding.severity, Severity::Critical);
        assert!(finding.summary.contains("eu-central-1c"), "{}", finding.summary);
    }

    #[test]
    fn what_cannot_be_told_is_unknown() {
        let unclear = |targets: Vec<Target>| matches!(statuses(targets, false, BOTH)[0], Status::Unknown(_));
        assert!(unclear(vec![a(1, "unhealthy"), b(2, "unhealthy")]), "target-group.health says it");
        assert!(unclear(vec![]));
        assert!(unclear(vec![placed(1, None, "healthy")]), "an instance EC2 did not describe");
        assert_eq!(severity(vec![placed(1, None, "healthy")], true, BOTH), None, "with cross-zone no zone matters");

        let lacking = TargetGroup { targets: Ok(vec![a(1, "healthy")]), ..target_group("pg") };
        let failed = Some(Err(call_error("elasticloadbalancing:DescribeTargetGroupAttributes")));
        for group in [lacking.clone(), TargetGroup { cross_zone: failed, ..lacking }] {
            let results = with_context(&topology(endpoint_service(), [load_balancer("pg", vec![group])]), evaluate);
            assert!(matches!(results[0].status, Status::Unknown(_)), "{results:?}");
        }
    }
}
