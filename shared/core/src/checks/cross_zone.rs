//! `load-balancer.cross-zone`: does every zone's address reach targets in all zones?

use super::catalogue::Absence;
use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status};
use crate::config::CrossZone;
use crate::ids::Arn;
use crate::snapshot::{CrossZoneOverride, LoadBalancer, TargetGroup};

/// Why cross-zone load balancing is off, in effect, for a target group.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-cross-zone.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Off {
    /// The target group leaves it to the load balancer, whose attribute is `false`.
    ByLoadBalancer,
    /// The target group's own attribute is `false`.
    ByTargetGroup,
}

/// Why it is off for `group`, if it is.
fn off(load_balancer: &LoadBalancer, group: &TargetGroup) -> Result<Option<Off>, String> {
    let by = match group.cross_zone {
        Some(Ok(CrossZoneOverride::Off)) => Off::ByTargetGroup,
        _ => Off::ByLoadBalancer,
    };
    Ok((!load_balancer.crosses_zones(group)?).then_some(by))
}

/// The catalogue's row.
pub const SPEC: Spec = Spec {
    id: "load-balancer.cross-zone",
    severities: &[(Severity::Warning, "always")],
    fails_when: "cross-zone load balancing is off, in effect, for a target group that gets dbt's traffic; not checked \
                 with `CrossZone=ignore`",
    impact: "dbt reaches only the targets in the zone where its connection enters. If those fail, some of its \
             connections fail although targets in other zones are healthy.",
    fix_in_short: "switch it on, or set `CrossZone=enforce`",
    can_flap: false,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: |policy| policy.cross_zone != CrossZone::Ignore,
    cloudtrail_events: &[
        "CreateListener",
        "ModifyListener",
        "ModifyLoadBalancerAttributes",
        "ModifyTargetGroupAttributes",
    ],
    group: Group::Settings,
    evaluate,
};

/// One result per target group.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_target_group(&SPEC, |load_balancer, group| match off(load_balancer, group) {
        Ok(None) => Status::Pass,
        Ok(Some(off)) => Status::fail(finding(load_balancer, group, off, context)),
        Err(why) => Status::Unknown(why),
    })
}

/// What `CROSS_ZONE=enforce` sets back. Each resource once, however many target groups hang on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Load balancers whose attribute becomes `true`.
    pub load_balancers: Vec<Arn>,
    /// Target groups whose attribute becomes `use_load_balancer_configuration`, AWS's default.
    pub target_groups: Vec<Arn>,
}

impl Plan {
    /// What must change so that cross-zone is on, in effect, for every target group.
    #[must_use]
    pub fn new<'a>(load_balancers: impl IntoIterator<Item = &'a LoadBalancer>) -> Self {
        let mut plan = Self::default();
        for load_balancer in load_balancers {
            let groups = load_balancer.target_groups.iter().flatten();
            let all: Vec<(&TargetGroup, Off)> =
                groups.filter_map(|group| Some((group, off(load_balancer, group).ok().flatten()?))).collect();
            for (group, _) in all.iter().filter(|(_, off)| *off == Off::ByTargetGroup) {
                push_once(&mut plan.target_groups, &group.arn);
            }
            // A group set back to the load balancer's setting needs that to be on as well.
            if !all.is_empty() && load_balancer.cross_zone == Some(Ok(false)) {
                push_once(&mut plan.load_balancers, &load_balancer.arn);
            }
        }
        plan
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.load_balancers.is_empty() && self.target_groups.is_empty()
    }
}

fn push_once(list: &mut Vec<Arn>, arn: &Arn) {
    if !list.contains(arn) {
        list.push(arn.clone());
    }
}

fn finding(load_balancer: &LoadBalancer, group: &TargetGroup, off: Off, context: CheckContext<'_>) -> Finding {
    let (name, region) = (group.name(), context.region.name());
    let (summary, command) = match off {
        Off::ByLoadBalancer => (
            format!("cross-zone is off on {} (target group {name})", load_balancer.name()),
            format!(
                "aws elbv2 modify-load-balancer-attributes --region {region} --load-balancer-arn {} --attributes \
                 Key=load_balancing.cross_zone.enabled,Value=true",
                load_balancer.arn
            ),
        ),
        Off::ByTargetGroup => (
            format!("cross-zone is off on target group {name}, which overrides {}", load_balancer.name()),
            format!(
                "aws elbv2 modify-target-group-attributes --region {region} --target-group-arn {} --attributes \
                 Key=load_balancing.cross_zone.enabled,Value=use_load_balancer_configuration",
                group.arn
            ),
        ),
    };
    let say = |on: bool| if on { "true" } else { "false" };
    let of_load_balancer = match &load_balancer.cross_zone {
        Some(Ok(on)) => say(*on).to_owned(),
        Some(Err(error)) => error.to_string(),
        None => "not read".to_owned(),
    };
    let enforced = context.policy.cross_zone == CrossZone::Enforce;
    let refused = [&load_balancer.arn, &group.arn].into_iter().find_map(|arn| context.refused.get(arn.as_str()));
    let action = match (enforced, context.policy.dry_run, refused) {
        (false, ..) => "Switch it on, as dbt's guide asks.",
        (true, true, _) => "The guard would switch it back on (CrossZone is 'enforce'), but DryRun is on.",
        (true, false, None) => "Nothing: the guard has switched it back on (CrossZone is 'enforce').",
        (true, false, Some(_)) => "The guard could not switch it back on and tries again. Switch it on yourself.",
    };
    let switched_on = enforced && !context.policy.dry_run && refused.is_none();
    let of_group = if off == Off::ByTargetGroup { "false" } else { "use_load_balancer_configuration" };
    Finding {
        severity: Severity::Warning,
        summary,
        impact: "Without cross-zone load balancing, dbt reaches only the targets in the zone its connection enters by. When those fail, part of its \
                  connections fails while other zones sit idle."
            .to_owned(),
        evidence: [
            format!("load balancer {}: load_balancing.cross_zone.enabled = {of_load_balancer}", load_balancer.name()),
            format!("target group {name}: load_balancing.cross_zone.enabled = {of_group}"),
        ]
        .into_iter()
        .chain(refused.cloned())
        .collect(),
        remedy: Remedy {
            action: action.to_owned(),
            command: (!switched_on).then_some(command),
            console: match off {
                Off::ByLoadBalancer => context.region.load_balancer(&load_balancer.arn),
                Off::ByTargetGroup => context.region.target_group(&group.arn),
            },
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Observed;
    use crate::testing::{call_error, endpoint_service, load_balancer, target_group, topology, with_context};

    fn balancer(cross_zone: Observed<bool>, overrides: &[CrossZoneOverride]) -> LoadBalancer {
        let groups = overrides
            .iter()
            .zip(1..)
            .map(|(own, number)| TargetGroup { cross_zone: Some(Ok(*own)), ..target_group(&format!("pg-{number}")) });
        LoadBalancer { cross_zone: Some(cross_zone), ..load_balancer("pg", groups.collect()) }
    }

    fn statuses(load_balancer: LoadBalancer) -> Vec<Status> {
        let results = with_context(&topology(endpoint_service(), [load_balancer]), evaluate);
        results.into_iter().map(|result| result.status).collect()
    }

    #[test]
    fn the_target_groups_override_decides_before_the_load_balancer() {
        use CrossZoneOverride::{LoadBalancer, Off, On};
        // The load balancer's attribute, the target group's, whether that passes.
        let table = [
            (true, LoadBalancer, true),
            (true, On, true),
            (true, Off, false),
            (false, LoadBalancer, false),
            (false, On, true),
            (false, Off, false),
        ];
        for (own, group, passes) in table {
            let statuses = statuses(balancer(Ok(own), &[group]));
            assert_eq!(matches!(statuses[..], [Status::Pass]), passes, "{own} {group:?}");
            assert_eq!(matches!(statuses[..], [Status::Fail(_)]), !passes, "{own} {group:?}");
            let load_balancer = balancer(Ok(own), &[group]);
            assert_eq!(Plan::new(&[load_balancer]).is_empty(), passes, "{own} {group:?}");
        }
    }

    #[test]
    fn the_plan_names_what_is_off_and_nothing_else() {
        use CrossZoneOverride::{LoadBalancer, Off, On};
        let arns = |plan: Plan| {
            (plan.load_balancers.len(), plan.target_groups.iter().map(|arn| arn.resource().to_owned()).collect())
        };
        let groups = |names: &[&str]| {
            names.iter().map(|name| format!("targetgroup/{name}/0123456789abcdef")).collect::<Vec<_>>()
        };
        assert_eq!(arns(Plan::new(&[balancer(Ok(true), &[LoadBalancer, Off])])), (0, groups(&["pg-2"])));
        assert_eq!(arns(Plan::new(&[balancer(Ok(false), &[LoadBalancer, On])])), (1, groups(&[])));
        assert_eq!(
            arns(Plan::new(&[balancer(Ok(false), &[On, Off])])),
            (1, groups(&["pg-2"])),
            "the override alone would not do"
        );
        assert_eq!(arns(Plan::new(&[balancer(Ok(false), &[On, On])])), (0, groups(&[])));
    }

    #[test]
    fn what_could_not_be_read_is_unknown_and_not_changed() {
        let unread = balancer(
            Err(call_error("elasticloadbalancing:DescribeLoadBalancerAttributes")),
            &[CrossZoneOverride::LoadBalancer],
        );
        assert!(Plan::new(std::slice::from_ref(&unread)).is_empty());
        assert!(matches!(statuses(unread)[..], [Status::Unknown(_)]));
        let decided =
            balancer(Err(call_error("elasticloadbalancing:DescribeLoadBalancerAttributes")), &[CrossZoneOverride::On]);
        assert!(matches!(statuses(decided)[..], [Status::Pass]), "an override needs no load balancer");
        let unread = LoadBalancer { cross_zone: Some(Ok(true)), ..load_balancer("pg", vec![target_group("pg")]) };
        assert!(matches!(statuses(unread)[..], [Status::Unknown(_)]));
    }
}
