//! The finding about obstacles, and the commands that remove them.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::analyzer::{Obstacle, PathAnalyzer};
use crate::check::{CheckContext, Command, Finding, Region, Remedy, Severity};
use crate::snapshot::{Ports, TargetGroup};
use crate::text::{count, limited};

/// Maximum number of obstacles listed in an alert; it counts the others.
const MAX_OBSTACLES: usize = 12;

/// Maximum number of commands in an alert: each removes one kind of obstacle.
const MAX_COMMANDS: usize = 4;

/// The finding for a target group with `blocked` targets.
pub(super) fn finding(
    group: &TargetGroup,
    targets: usize,
    blocked: usize,
    obstacles: &BTreeSet<Obstacle<'_>>,
    analyzer: &PathAnalyzer<'_>,
    context: CheckContext<'_>,
) -> Finding {
    let acls: BTreeSet<&str> = obstacles.iter().filter_map(acl).collect();
    let tables: BTreeSet<&str> = obstacles.iter().filter_map(Obstacle::route_table).collect();
    let (obstacle, action) = describe(!acls.is_empty(), !tables.is_empty());
    let commands = allow_commands(obstacles, analyzer, context);
    let repeat = if commands.len() > MAX_COMMANDS {
        " The commands do not remove every obstacle: wait for the next alert."
    } else {
        ""
    };
    Finding::new(
        Severity::Warning,
        format!("{obstacle} {blocked} of {} in {}", count(targets, "target"), group.name()),
        "Some or all of dbt's connections time out between the load balancer and these targets.",
        Remedy::new(
            &format!("{action}{repeat}"),
            command(commands, &acls, &tables, context.region),
            match acls.first() {
                Some(acl) => context.region.network_acl(acl),
                None => tables.first().and_then(|table| context.region.route_table(table)),
            },
        ),
    )
    .with_evidence(limited(obstacles.iter().map(ToString::to_string).collect(), MAX_OBSTACLES))
    .with_parts(obstacles.iter().map(part))
    .about(obstacles.iter().flat_map(Obstacle::ids))
    .stopping_dbt(blocked == targets)
}

/// The words for the obstacles, and the action against them.
fn describe(acls: bool, routes: bool) -> (&'static str, &'static str) {
    match (acls, routes) {
        (true, false) => (
            "network ACL blocks",
            "First check that nobody denied this traffic on purpose. Then allow it, to the targets and back.",
        ),
        (false, _) => ("no route to", "Create the missing route, or replace the dead one."),
        (true, true) => (
            "network ACL and routes block",
            "First check that nobody denied this traffic on purpose. Then allow it, to the targets and back, and create the \
             missing route, or replace the dead one.",
        ),
    }
}

/// The commands that remove the ACL obstacles, followed by commands that show what a person must decide.
fn command(
    mut commands: Vec<Command>,
    acls: &BTreeSet<&str>,
    tables: &BTreeSet<&str>,
    region: &Region,
) -> Option<Command> {
    commands.truncate(MAX_COMMANDS);
    if !tables.is_empty() {
        commands.push(Command::new("ec2 describe-route-tables", region).options("route-table-ids", tables));
    }
    if commands.is_empty() {
        commands.push(Command::new("ec2 describe-network-acls", region).options("network-acl-ids", acls));
    }
    commands.into_iter().reduce(Command::then)
}

/// The commands that allow denied traffic: each adds a rule before the denying one, for the peer's complete subnet.
fn allow_commands(
    obstacles: &BTreeSet<Obstacle<'_>>,
    analyzer: &PathAnalyzer<'_>,
    context: CheckContext<'_>,
) -> Vec<Command> {
    let mut wanted: BTreeMap<(&str, bool, Ports, String), i32> = BTreeMap::new();
    for obstacle in obstacles {
        let Obstacle::Acl { acl, egress, peer, ports, rule, .. } = obstacle else { continue };
        let mut cidrs = analyzer.subnets.iter().flat_map(|subnet| &subnet.cidrs);
        let cidr = cidrs.find(|cidr| cidr.contains(peer)).copied().unwrap_or_else(|| IpNet::from(*peer));
        let before = wanted.entry((acl, *egress, *ports, cidr.to_string())).or_insert(*rule);
        *before = (*before).min(*rule);
    }
    let mut used: BTreeSet<(&str, bool, i32)> = analyzer
        .acls
        .iter()
        .flat_map(|acl| acl.entries.iter().map(|entry| (acl.id.as_str(), entry.egress, entry.number)))
        .collect();
    let commands = wanted.into_iter().filter_map(|((acl, egress, ports, cidr), before)| {
        let number = (1..before).rev().find(|number| !used.contains(&(acl, egress, *number)))?;
        used.insert((acl, egress, number));
        let block = if cidr.contains(':') { "ipv6-cidr-block" } else { "cidr-block" };
        let direction = if egress { "--egress" } else { "--ingress" };
        Some(
            Command::new("ec2 create-network-acl-entry", context.region)
                .option("network-acl-id", acl)
                .literal(direction)
                .option("rule-number", number)
                .literal("--protocol tcp")
                .option("port-range", format!("From={},To={}", ports.first, ports.last))
                .option(block, cidr)
                .literal("--rule-action allow"),
        )
    });
    commands.collect()
}

fn acl<'a>(obstacle: &'a Obstacle<'_>) -> Option<&'a str> {
    match obstacle {
        Obstacle::Acl { acl, .. } => Some(acl),
        _ => None,
    }
}

/// The name of the part: the rule or route to change, without the target.
fn part(obstacle: &Obstacle<'_>) -> String {
    match obstacle {
        Obstacle::Acl { acl, egress, rule, .. } => {
            format!("{acl} rule {rule} {}", if *egress { "outbound" } else { "inbound" })
        }
        Obstacle::NoRoute { table, .. } => format!("{table} has no route"),
        Obstacle::Dead { table, destination, state, .. } => format!("{table} {state} {destination}"),
        Obstacle::Internet { table, by, .. } => format!("{table} routes to {by}"),
    }
}
