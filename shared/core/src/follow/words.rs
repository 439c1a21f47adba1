//! The notice about planned changes of targets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Look;
use super::state::{FollowState, PlannedTarget, TargetPlan};
use crate::check::{Finding, Region, Remedy, Severity};
use crate::config::FollowHostnames;
use crate::snapshot::Target;
use crate::text::limited;

/// Maximum number of addresses in a summary.
const IN_SUMMARY: usize = 2;

/// The notice about the plan in `state`, whose predecessor is `before`.
pub fn notice(
    before: Option<&FollowState>,
    (state, plan): (&FollowState, &TargetPlan),
    look: Look<'_>,
    (region, dry_run): (&Region, bool),
) -> Finding {
    let group = look.group.name();
    let registers = !plan.register.is_empty();
    let planned = if registers { &plan.register } else { &plan.deregister };
    let verb = match (registers, dry_run) {
        (true, false) => "registering",
        (true, true) => "would register",
        (false, false) => "deregistering",
        (false, true) => "would deregister",
    };
    let preposition = if registers { "in" } else { "from" };
    let is_repeated = plan.register.iter().any(|target| state.again.contains(&target.address));
    let again = if is_repeated { ", which somebody deregistered" } else { "" };
    let targets = limited(planned.iter().map(PlannedTarget::to_string).collect(), IN_SUMMARY).join(", ");
    Finding::new(
        Severity::Info,
        format!("{verb} {targets} {preposition} {group}{again}"),
        impact(look, state, registers, dry_run),
        Remedy::nothing("Nothing.", region.target_group(&look.group.arn)),
    )
    .with_evidence(evidence(before, (state, plan), look))
}

fn impact(look: Look<'_>, state: &FollowState, registers: bool, dry_run: bool) -> &'static str {
    let is_right = |target: &&Target| target.address.is_some_and(|address| state.answer.contains(&address));
    let works = look.group.targets.iter().flatten().filter(is_right).any(Target::is_healthy);
    match (dry_run, registers, works) {
        (true, ..) => "The stack's parameter DryRun is true: the guard only reports this, and changes no targets.",
        (false, true, false) => {
            "dbt gets through once the load balancer finds the new address healthy. That takes some minutes, whoever \
             registers it."
        }
        (false, true, true) => "dbt gets through. The load balancer uses the new address once it is healthy.",
        (false, false, _) => "dbt gets through: the hostname's own addresses are registered and healthy.",
    }
}

fn evidence(before: Option<&FollowState>, (state, plan): (&FollowState, &TargetPlan), look: Look<'_>) -> Vec<String> {
    let listed = |addresses: &BTreeSet<IpAddr>| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        if addresses.is_empty() { "none".to_owned() } else { addresses.join(", ") }
    };
    let was = before.map(|before| &before.followed).filter(|was| !was.is_empty() && **was != state.answer);
    let others: BTreeSet<IpAddr> = look.group.targets.iter().flatten().filter_map(|target| target.address).collect();
    let left: BTreeSet<IpAddr> = others.difference(&state.answer).copied().collect();
    let left = (!plan.register.is_empty() && !left.is_empty()).then(|| match look.mode {
        FollowHostnames::Replace => format!("deregistered later, once all addresses are healthy: {}", listed(&left)),
        _ => format!("not deregistered, as FollowHostnames is register: {}", listed(&left)),
    });
    [format!("hostname: {}", state.name), format!("it resolves to: {}", listed(&state.answer))]
        .into_iter()
        .chain(was.map(|was| format!("before: {}", listed(was))))
        .chain(left)
        .collect()
}
