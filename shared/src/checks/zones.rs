//! `load-balancer.zones`: does every zone that dbt can enter by have a target?

use std::collections::BTreeSet;

use super::{Check, Finding, Observation, Remedy, Severity, Status, View, count, observed};
use crate::snapshot::{Coverage, Description, Health, LoadBalancer, TargetGroup, TargetKind};

/// One observation per target group; and one for the service where it offers a zone in which no load balancer is.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html#availability-zones>
#[must_use]
pub fn evaluate(view: View<'_>) -> Vec<Observation> {
    let service = view.paths.service(view.service);
    let offered: BTreeSet<&str> = service.iter().flat_map(|own| own.zones.iter().map(String::as_str)).collect();
    let check = Check::LoadBalancerZones;
    let mut observations = view.per_target_group(check, |balancer, group| judge(balancer, group, &offered, view));
    observations.extend(entered_by_nobody(&offered, view).map(|status| observed(check, view.service, status)));
    observations
}

fn judge(balancer: &LoadBalancer, group: &TargetGroup, offered: &BTreeSet<&str>, view: View<'_>) -> Status {
    let targets = match (&balancer.description, &group.targets) {
        (Ok(_), Ok(targets)) => targets,
        (Err(unseen), _) | (_, Err(unseen)) => return Status::Unknown(unseen.to_string()),
    };
    let zones = match balancer.coverage(group) {
        Coverage::Full => return Status::Pass,
        Coverage::Lacks(zones) => zones,
        Coverage::Unclear if !targets.iter().any(|target| target.health == Health::Healthy) => {
            return Status::Unknown(
                "no target is healthy in any zone, which is target-group.health's matter".to_owned(),
            );
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
    let (severity, meaning) = if crossing {
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
        meaning: meaning.to_owned(),
        evidence: std::iter::once(format!("load balancer {}: cross-zone load balancing is {state}", balancer.name()))
            .chain(zones.iter().map(line))
            .chain([format!("{} elsewhere", count(healthy.count(), "healthy target"))])
            .collect(),
        remedy: Remedy {
            what: format!(
                "Register a target in the zone{plural}, or mend those that are there. Cross-zone load balancing makes \
                 it matter less."
            ),
            command: Some(format!(
                "aws elbv2 describe-target-health --region {} --target-group-arn {}",
                view.place.region(),
                group.arn
            )),
            console: view.place.target_group(&group.arn),
        },
        cause: None,
    }))
}

/// Zones that the service offers and no load balancer of it is enabled in.
fn entered_by_nobody(offered: &BTreeSet<&str>, view: View<'_>) -> Option<Status> {
    let balancers = view.paths.behind(view.service).ok()?;
    let descriptions: Result<Vec<&Description>, _> =
        balancers.iter().map(|balancer| balancer.description.as_ref()).collect();
    let descriptions = match descriptions {
        Ok(descriptions) => descriptions,
        Err(unseen) => return Some(Status::Unknown(unseen.to_string())),
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
        meaning: "dbt's connections that enter there fail: nothing takes them.".to_owned(),
        evidence: vec![
            format!("offered: {}", offered.iter().copied().collect::<Vec<_>>().join(", ")),
            format!("enabled: {}", enabled.into_iter().collect::<Vec<_>>().join(", ")),
        ],
        remedy: Remedy {
            what: "Enable the load balancer in that zone: name all its subnets, old and new.".to_owned(),
            command: balancers.first().map(|balancer| {
                format!(
                    "aws elbv2 set-subnets --region {} --load-balancer-arn {} --subnets SUBNETS",
                    view.place.region(),
                    balancer.arn
                )
            }),
            console: view.place.endpoint_service(view.service.as_str()),
        },
        cause: None,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{CrossZoneOverride, EndpointService, Target};
    use crate::testing::{endpoint_service, load_balancer, paths, target, target_group, unseen, view};

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
        let paths = paths(EndpointService { zones, ..endpoint_service() }, [balancer]);
        view(&paths, evaluate).into_iter().map(|observation| observation.status).collect()
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
    fn a_zone_that_the_service_does_not_offer_is_entered_by_nobody() {
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
        let failed = Some(Err(unseen("elasticloadbalancing:DescribeTargetGroupAttributes")));
        for group in [lacking.clone(), TargetGroup { cross_zone: failed, ..lacking }] {
            let observations = view(&paths(endpoint_service(), [load_balancer("pg", vec![group])]), evaluate);
            assert!(matches!(observations[0].status, Status::Unknown(_)), "{observations:?}");
        }
    }
}
