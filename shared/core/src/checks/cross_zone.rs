//! `load-balancer.cross-zone`: does dbt reach targets in all zones, wherever its connection enters?
//!
//! The target group's own attribute decides; its default `use_load_balancer_configuration` defers to the load
//! balancer. With `CROSS_ZONE=enforce`, a [`Plan`] contains the settings to switch back on.

use crate::check::{CheckContext, CheckResult, Command, Finding, Region, Remedy, Severity, Spec, Status};
use std::collections::BTreeSet;

use crate::config::{CrossZone, ListenerPorts};
use crate::ids::{Arn, ServiceId};
use crate::plan::Plan;
use crate::snapshot::{CrossZoneOverride, LoadBalancer, TargetGroup, TargetGroupAttributes, Topology, Unread};

/// The setting that switches cross-zone load balancing off for a target group.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-cross-zone.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Off {
    /// The load balancer's attribute is `false`, and the target group does not override it.
    ByLoadBalancer,
    /// The target group's own attribute is `false`.
    ByTargetGroup,
}

impl Off {
    /// Its name as a part of the finding.
    fn as_str(self) -> &'static str {
        match self {
            Self::ByLoadBalancer => "load balancer",
            Self::ByTargetGroup => "target group",
        }
    }
}

/// The setting that switches it off for `group`; `None` if it is on.
fn off(load_balancer: &LoadBalancer, group: &TargetGroup) -> Result<Option<Off>, Unread> {
    let by = match &group.attributes {
        Some(Ok(TargetGroupAttributes { cross_zone: CrossZoneOverride::Off, .. })) => Off::ByTargetGroup,
        _ => Off::ByLoadBalancer,
    };
    Ok((!load_balancer.crosses_zones(group)?).then_some(by))
}

/// The catalogue's row.
pub const SPEC: Spec = Spec {
    id: "load-balancer.cross-zone",
    in_short: "Cross-zone load balancing is on.",
    severities: &[(Severity::Warning, "always")],
    fails_when: "cross-zone load balancing is effectively off for a target group that gets dbt's traffic; not checked \
                 with `CrossZone=ignore`",
    failing_word: "off",
    impact: "dbt reaches only the targets in the zone where its connection enters. If those fail, some of its \
             connections fail although targets in other zones are healthy.",
    is_watched: |policy| policy.cross_zone != CrossZone::Ignore,
    cloudtrail_events: &[
        "CreateListener",
        "CreateRule",
        "DeleteRule",
        "ModifyListener",
        "ModifyLoadBalancerAttributes",
        "ModifyRule",
        "ModifyTargetGroupAttributes",
        "SetRulePriorities",
    ],
    evaluate,
    ..Spec::USUAL
};

/// One result per target group; none with `CROSS_ZONE=ignore`.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_target_group(&SPEC, |load_balancer, group| match off(load_balancer, group) {
        Ok(None) => Status::pass(format!("cross-zone is on for {}", group.name())),
        Ok(Some(off)) => Status::fail(finding(load_balancer, group, off, context)),
        Err(why) => why.into(),
    })
}

impl Plan {
    /// The changes of `CROSS_ZONE=enforce` that switch cross-zone on, in effect, for every target group on dbt's path
    /// to these services. Each resource appears once, even if several target groups depend on it.
    pub fn enforces_cross_zone(topology: &Topology, services: &BTreeSet<ServiceId>, ports: &ListenerPorts) -> Self {
        let mut plan = Self::default();
        let load_balancers = services.iter().flat_map(|service| {
            let load_balancers = topology.load_balancers_of(service).unwrap_or_default();
            load_balancers.into_iter().map(|load_balancer| (load_balancer, ports.for_service(Some(service))))
        });
        for (load_balancer, ports) in load_balancers {
            let groups = load_balancer.groups_on(&ports);
            let switched_off: Vec<(&TargetGroup, Off)> =
                groups.filter_map(|group| Some((group, off(load_balancer, group).ok().flatten()?))).collect();
            for (group, _) in switched_off.iter().filter(|(_, off)| *off == Off::ByTargetGroup) {
                push_once(&mut plan.cross_zone_deferred, &group.arn);
            }
            // A group that defers to the load balancer needs the load balancer's setting to be on as well.
            if !switched_off.is_empty() && load_balancer.cross_zone == Some(Ok(false)) {
                push_once(&mut plan.cross_zone_on, &load_balancer.arn);
            }
        }
        plan
    }
}

fn push_once(list: &mut Vec<Arn>, arn: &Arn) {
    if !list.contains(arn) {
        list.push(arn.clone());
    }
}

fn finding(load_balancer: &LoadBalancer, group: &TargetGroup, off: Off, context: CheckContext<'_>) -> Finding {
    let name = group.name();
    let summary = match off {
        Off::ByLoadBalancer => format!("cross-zone is off for {name}"),
        Off::ByTargetGroup => format!("cross-zone is off for {name} (target group's setting)"),
    };
    let refused = [&load_balancer.arn, &group.arn].into_iter().find_map(|arn| context.refused.get(arn.as_str()));
    Finding::new(Severity::Warning, summary, SPEC.impact, remedy(load_balancer, group, off, refused.is_some(), context))
        .with_evidence(
            attributes(load_balancer, name, off).into_iter().chain(refused.map(ToString::to_string)).collect(),
        )
        .with_parts([off.as_str()])
}

/// The evidence: the two attributes that decide.
fn attributes(load_balancer: &LoadBalancer, group: &str, off: Off) -> [String; 2] {
    let of_load_balancer = match &load_balancer.cross_zone {
        Some(Ok(on)) => on.to_string(),
        Some(Err(error)) => error.to_string(),
        None => "not read".to_owned(),
    };
    let of_group = if off == Off::ByTargetGroup { "false" } else { "use_load_balancer_configuration" };
    [
        format!("load balancer {}: load_balancing.cross_zone.enabled = {of_load_balancer}", load_balancer.name()),
        format!("target group {group}: load_balancing.cross_zone.enabled = {of_group}"),
    ]
}

fn remedy(
    load_balancer: &LoadBalancer,
    group: &TargetGroup,
    off: Off,
    refused: bool,
    context: CheckContext<'_>,
) -> Remedy {
    let console = match off {
        Off::ByLoadBalancer => context.region.load_balancer(&load_balancer.arn),
        Off::ByTargetGroup => context.region.target_group(&group.arn),
    };
    let enforced = context.policy.cross_zone == CrossZone::Enforce;
    let action = match (enforced, context.policy.dry_run, refused) {
        (true, false, false) => {
            let action = "Nothing: the guard is switching it back on (CrossZone is 'enforce').";
            return Remedy::nothing(action, console);
        }
        (false, ..) => "Switch cross-zone load balancing on, as dbt's guide recommends.",
        (true, true, _) => {
            "DryRun is on, so the guard does not switch it on (CrossZone is 'enforce'). Switch it on yourself, or \
             switch DryRun off: make deploy SET=\"DryRun=false\""
        }
        (true, false, true) => "AWS refused the guard's change: switch it on yourself. The guard tries again.",
    };
    Remedy::new(action, Some(switch_on(load_balancer, group, off, context.region)), console)
}

/// The AWS CLI command that switches cross-zone load balancing on for a target group; `None` if it is on or unknown.
pub(super) fn command(load_balancer: &LoadBalancer, group: &TargetGroup, region: &Region) -> Option<Command> {
    off(load_balancer, group).ok().flatten().map(|off| switch_on(load_balancer, group, off, region))
}

/// A group that defers to the load balancer needs the load balancer's setting to be on as well.
fn switch_on(load_balancer: &LoadBalancer, group: &TargetGroup, off: Off, region: &Region) -> Command {
    let of_load_balancer = || {
        Command::new("elbv2 modify-load-balancer-attributes", region)
            .option("load-balancer-arn", &load_balancer.arn)
            .option("attributes", "Key=load_balancing.cross_zone.enabled,Value=true")
    };
    let of_group = || {
        Command::new("elbv2 modify-target-group-attributes", region)
            .option("target-group-arn", &group.arn)
            .option("attributes", "Key=load_balancing.cross_zone.enabled,Value=use_load_balancer_configuration")
    };
    match (off, &load_balancer.cross_zone) {
        (Off::ByLoadBalancer, _) => of_load_balancer(),
        (Off::ByTargetGroup, Some(Ok(true))) => of_group(),
        (Off::ByTargetGroup, _) => of_group().then(of_load_balancer()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Observed;
    use crate::testing::{
        call_error, endpoint_service, group_attributes, load_balancer, only_finding, refusal, region, service,
        settings, target_group, topology, with_context, with_policy,
    };

    /// A load balancer with this attribute, and a target group for each override.
    fn nlb(cross_zone: Observed<bool>, overrides: &[CrossZoneOverride]) -> LoadBalancer {
        let groups = overrides.iter().zip(1..).map(|(cross_zone, number)| TargetGroup {
            attributes: group_attributes(*cross_zone),
            ..target_group(&format!("pg-{number}"))
        });
        LoadBalancer { cross_zone: Some(cross_zone), ..load_balancer("pg", groups.collect()) }
    }

    fn plan(load_balancer: LoadBalancer) -> Plan {
        let topology = topology(endpoint_service(), [load_balancer]);
        Plan::enforces_cross_zone(&topology, &[service(1)].into(), &ListenerPorts::Any)
    }

    fn statuses(load_balancer: LoadBalancer) -> Vec<Status> {
        let results = with_context(&topology(endpoint_service(), [load_balancer]), evaluate);
        results.into_iter().map(|result| result.status).collect()
    }

    #[test]
    fn the_target_groups_override_takes_precedence() {
        use CrossZoneOverride::{LoadBalancer, Off, On};
        // The load balancer's attribute, the target group's override, and whether the check passes.
        let table = [
            (true, LoadBalancer, true),
            (true, On, true),
            (true, Off, false),
            (false, LoadBalancer, false),
            (false, On, true),
            (false, Off, false),
        ];
        for (attribute, group, passes) in table {
            let statuses = statuses(nlb(Ok(attribute), &[group]));
            assert_eq!(matches!(statuses[..], [Status::Pass(_)]), passes, "{attribute} {group:?}");
            assert_eq!(matches!(statuses[..], [Status::Fail(_)]), !passes, "{attribute} {group:?}");
            assert_eq!(plan(nlb(Ok(attribute), &[group])).is_empty(), passes, "{attribute} {group:?}");
        }
    }

    #[test]
    fn the_plan_contains_only_settings_that_are_off() {
        use CrossZoneOverride::{LoadBalancer, Off, On};
        let arns = |plan: Plan| {
            (plan.cross_zone_on.len(), plan.cross_zone_deferred.iter().map(|arn| arn.resource().to_owned()).collect())
        };
        let groups = |names: &[&str]| {
            names.iter().map(|name| format!("targetgroup/{name}/0123456789abcdef")).collect::<Vec<_>>()
        };
        assert_eq!(arns(plan(nlb(Ok(true), &[LoadBalancer, Off]))), (0, groups(&["pg-2"])));
        assert_eq!(arns(plan(nlb(Ok(false), &[LoadBalancer, On]))), (1, groups(&[])));
        assert_eq!(arns(plan(nlb(Ok(false), &[On, Off]))), (1, groups(&["pg-2"])), "the load balancer is off as well");
        assert_eq!(arns(plan(nlb(Ok(false), &[On, On]))), (0, groups(&[])));
    }

    #[test]
    fn the_command_changes_each_setting_that_is_off() {
        let command = |of_load_balancer: bool, of_group: CrossZoneOverride| {
            let mut group = target_group("pg");
            group.attributes = group_attributes(of_group);
            let mut balancer = load_balancer("pg", vec![group.clone()]);
            balancer.cross_zone = Some(Ok(of_load_balancer));
            super::command(&balancer, &group, &region()).and_then(Command::into_text)
        };
        assert_eq!(command(true, CrossZoneOverride::LoadBalancer), None);
        let both = command(false, CrossZoneOverride::Off).unwrap();
        assert!(both.contains("modify-target-group-attributes") && both.contains("modify-load-balancer-attributes"));
        assert!(!command(true, CrossZoneOverride::Off).unwrap().contains("modify-load-balancer-attributes"));
        assert!(!command(false, CrossZoneOverride::LoadBalancer).unwrap().contains("modify-target-group-attributes"));
    }

    #[test]
    fn a_setting_that_the_guard_enforces_needs_no_command() {
        let remedy = |cross_zone: &str, dry_run: &str, refused: bool| {
            let variables = [("CROSS_ZONE", cross_zone), ("DRY_RUN", dry_run)];
            let off = nlb(Ok(false), &[CrossZoneOverride::LoadBalancer]);
            let refused = refused.then(|| (off.arn.to_string(), refusal("Odd"))).into_iter().collect();
            let topology = topology(endpoint_service(), [off]);
            let results = with_policy(&topology, &settings(&variables).policy, |context| {
                evaluate(CheckContext { refused: &refused, ..context })
            });
            only_finding(results).remedy
        };
        let table = [
            ("alert", "false", false, "Switch cross-zone load balancing on, as dbt's guide recommends.", true),
            ("enforce", "false", false, "Nothing: the guard is switching it back on", false),
            ("enforce", "false", true, "AWS refused the guard's change: switch it on yourself.", true),
            ("enforce", "true", false, "DryRun is on, so the guard does not switch it on", true),
        ];
        for (cross_zone, dry_run, refused, begins, has_command) in table {
            let Remedy { action, command, .. } = remedy(cross_zone, dry_run, refused);
            assert!(action.starts_with(begins), "{action}");
            assert_eq!(command.is_some(), has_command, "{action}");
        }
    }

    #[test]
    fn an_unread_setting_is_unknown_and_never_changed() {
        let unread = nlb(
            Err(call_error("elasticloadbalancing:DescribeLoadBalancerAttributes")),
            &[CrossZoneOverride::LoadBalancer],
        );
        assert!(plan(unread.clone()).is_empty());
        assert!(matches!(statuses(unread)[..], [Status::Unknown(_)]));
        let overridden =
            nlb(Err(call_error("elasticloadbalancing:DescribeLoadBalancerAttributes")), &[CrossZoneOverride::On]);
        assert!(matches!(statuses(overridden)[..], [Status::Pass(_)]), "the load balancer does not matter");
        let unread = LoadBalancer { cross_zone: Some(Ok(true)), ..load_balancer("pg", vec![target_group("pg")]) };
        assert!(matches!(statuses(unread)[..], [Status::NotAsked]), "the group's own setting was not asked for");
    }
}
