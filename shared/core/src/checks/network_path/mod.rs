//! `network-path`: can the load balancer's nodes and the targets reach each other?
//!
//! A node sends to a target from its own private address of the target's family; client IP preservation does not apply
//! to PrivateLink traffic. So the check covers each node separately, in both directions. Only nodes that send to the
//! target count (cross-zone load balancing).
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html#client-ip-preservation>

mod acl;
mod analyzer;
mod finding;

use std::collections::BTreeSet;

use self::analyzer::PathAnalyzer;
use crate::check::{CheckContext, CheckResult, Severity, Spec, Status};
use crate::ids::Arn;
use crate::snapshot::{LoadBalancer, Target, TargetGroup, TargetKind, Unread};
use crate::text::count;

pub(crate) const SPEC: Spec = Spec {
    id: "network-path",
    in_short: "Network ACLs and routes let traffic through between load balancer and targets.",
    severities: &[(Severity::Warning, "always")],
    fails_when: "a network ACL between a load balancer node and a target blocks the target port or at least 1 % of the \
                 return ports 1024-65535, or no route leads from the node's subnet to the target (none, a blackhole, a \
                 filtered one, or an internet gateway)",
    failing_word: "blocked",
    impact: "Some or all of dbt's connections time out between the load balancer and these targets.",
    cloudtrail_events: &[
        "AssociateRouteTable",
        "CreateNetworkAclEntry",
        "CreateRoute",
        "DeleteNetworkAclEntry",
        "DeleteRoute",
        "DeleteTransitGateway",
        "DeleteTransitGatewayVpcAttachment",
        "DeleteVpcEndpoints",
        "DeleteVpcPeeringConnection",
        "DeleteVpnGateway",
        "DeregisterTargets",
        "DetachVpnGateway",
        "DisableVgwRoutePropagation",
        "DisassociateRouteTable",
        "RegisterTargets",
        "ReplaceNetworkAclAssociation",
        "ReplaceNetworkAclEntry",
        "ReplaceRoute",
        "ReplaceRouteTableAssociation",
        "SetSubnets",
    ],
    evaluate,
    ..Spec::USUAL
};

/// One result per target group. For targets outside the VPC, it covers the load balancer's own side and the route.
/// Their unchecked side has a separate, unknown result, so that a fix on the near side resolves the alert.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let network = context.topology.network.as_ref();
    let near =
        context.per_target_group(&SPEC, |load_balancer, group| match PathAnalyzer::new(load_balancer, network) {
            Ok(analyzer) => near_side(load_balancer, group, &analyzer, context),
            Err(why) => why.into(),
        });
    let (ports, load_balancers) = (context.ports(), context.load_balancers(&SPEC).unwrap_or_default());
    let remote = load_balancers.into_iter().flat_map(|load_balancer| {
        let analyzer = PathAnalyzer::new(load_balancer, network).ok();
        let groups = load_balancer.groups_on(&ports);
        groups.filter_map(move |group| remote_side(group, analyzer.as_ref()?))
    });
    near.into_iter().chain(remote).collect()
}

fn near_side(
    load_balancer: &LoadBalancer,
    group: &TargetGroup,
    analyzer: &PathAnalyzer<'_>,
    context: CheckContext<'_>,
) -> Status {
    let targets = match &group.targets {
        Ok(targets) => targets,
        Err(error) => return Unread::from(error).into(),
    };
    if group.kind == TargetKind::LoadBalancer && !targets.is_empty() {
        return Status::Unknown("ALB target: the path to an Application Load Balancer is not checked".to_owned());
    }
    let targets: Vec<&Target> = targets.iter().filter(|target| !target.is_being_removed()).collect();
    let (mut obstacles, mut blocked, mut unknown) = (BTreeSet::new(), 0, None);
    for target in &targets {
        let (Some(address), Some(port)) = (target.address, target.port) else {
            unknown = Some(format!("the address of {target} is not known"));
            continue;
        };
        let mut is_blocked = false;
        for node in analyzer.nodes.iter().filter(|node| load_balancer.node_sends_to(group, node, target)) {
            let path = analyzer.between(node, target, address, port);
            is_blocked |= !path.obstacles.is_empty();
            obstacles.extend(path.obstacles);
            unknown = path.unknown.or(unknown);
        }
        blocked += usize::from(is_blocked);
    }
    if obstacles.is_empty() {
        let passes = || Status::pass(format!("no network ACL or route blocks {}", group.name()));
        return unknown.map_or_else(passes, Status::Unknown);
    }
    Status::fail(
        finding::finding(group, targets.len(), blocked, &obstacles, analyzer, context).with_unknown_rest(unknown),
    )
}

/// An unknown result, if a target is in a subnet that EC2 does not show.
fn remote_side(group: &TargetGroup, analyzer: &PathAnalyzer<'_>) -> Option<CheckResult> {
    let is_remote = |target: &&Target| {
        let is_unseen = |address| !analyzer.is_in_a_known_subnet(target, address);
        !target.is_being_removed() && target.address.is_some_and(is_unseen)
    };
    let number = group.targets.iter().flatten().filter(is_remote).count();
    let why = format!(
        "{} in subnets that EC2 does not show; the network ACLs there are not checked",
        count(number, "target")
    );
    (number > 0).then(|| CheckResult::new(&SPEC, &remote_side_of(&group.arn), Status::Unknown(why)))
}

/// The resource of the result about those targets of `group` whose subnets EC2 does not show.
pub fn remote_side_of(group: &Arn) -> String {
    format!("{group}, remote side")
}

/// The resource without the side that [`remote_side_of`] added.
pub fn without_side(resource: &str) -> &str {
    resource.split_once(", ").map_or(resource, |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::acl::LAST_RULE;
    use super::*;
    use crate::snapshot::{AclEntry, CrossZoneOverride, Health, Network, Ports, RouteTable, Topology};
    use crate::testing::{
        acl_entry, call_error, endpoint_service, group_attributes, load_balancer, open_network, route, route_table,
        target, target_group, terminated, topology, with_context,
    };

    fn open() -> Network {
        open_network(&['a', 'b'])
    }

    /// An open network, except for the changes that `change` makes to the rules of `acl`.
    fn with_acl(acl: usize, change: impl FnOnce(&mut Vec<AclEntry>)) -> Network {
        let mut network = open();
        change(&mut network.acls.as_mut().unwrap()[acl].entries);
        network
    }

    fn with_routes(change: impl FnOnce(&mut RouteTable)) -> Network {
        let mut network = open();
        change(&mut network.route_tables.as_mut().unwrap()[0]);
        network
    }

    fn at(address: &str) -> Target {
        let zone = if address.starts_with("10.0.1.") { "eu-central-1b" } else { "eu-central-1a" };
        Target {
            id: address.to_owned(),
            address: address.parse().ok(),
            zone: Some(zone.to_owned()),
            ..target(1, "healthy")
        }
    }

    fn outside(address: &str) -> Target {
        Target { zone: Some("all".to_owned()), ..at(address) }
    }

    fn seen(network: Network, targets: Vec<Target>, crossing: bool) -> Topology {
        let attributes = group_attributes(if crossing { CrossZoneOverride::On } else { CrossZoneOverride::Off });
        let group = TargetGroup { targets: Ok(targets), attributes, ..target_group("pg") };
        Topology { network: Some(network), ..topology(endpoint_service(), [load_balancer("pg", vec![group])]) }
    }

    fn status(network: Network, targets: Vec<Target>) -> Status {
        with_context(&seen(network, targets, true), evaluate).remove(0).status
    }

    /// The evidence of a failure; empty for a pass.
    fn obstacles(network: Network, targets: Vec<Target>) -> Vec<String> {
        match status(network, targets) {
            Status::Pass(_) => Vec::new(),
            Status::Fail(finding) => finding.evidence,
            Status::Unknown(why) => panic!("unknown: {why}"),
            Status::NotAsked => panic!("not asked"),
        }
    }

    #[test]
    fn an_open_network_passes() {
        assert_eq!(obstacles(open(), vec![at("10.0.0.10"), at("10.0.1.10")]), [""; 0]);
        assert_eq!(obstacles(open(), vec![]), [""; 0]);
    }

    #[test]
    fn the_lowest_matching_rule_decides() {
        let deny = |number| acl_entry(number, false, false, Some(Ports::one(5432)), "10.0.0.0/24");
        let allow = |number| acl_entry(number, false, true, Some(Ports::one(5432)), "10.0.0.0/8");
        let blocked = ["acl-b of subnet-b: TCP 5432 in from 10.0.0.200 is denied by rule 90"];
        let found =
            |rules: Vec<AclEntry>| obstacles(with_acl(1, |entries| entries.extend(rules)), vec![at("10.0.1.10")]);
        assert_eq!(found(vec![deny(90)]), blocked);
        assert_eq!(found(vec![allow(95), deny(90)]), blocked, "whatever the order they come in");
        assert_eq!(found(vec![deny(90), allow(80)]), [""; 0]);
        assert_eq!(found(vec![deny(110)]), [""; 0], "behind the rule that allows all");
        let udp = AclEntry { tcp: None, ..deny(90) };
        let another_port = AclEntry { tcp: Some(Ports::one(443)), ..deny(90) };
        let another_peer = AclEntry { peer: "10.0.9.0/24".parse().unwrap(), ..deny(90) };
        assert_eq!(found(vec![udp, another_port, another_peer]), [""; 0]);
    }

    #[test]
    fn every_ephemeral_port_must_be_open_for_answers() {
        let narrow = |entries: &mut Vec<AclEntry>| {
            entries.retain(|entry| !entry.egress || entry.number == LAST_RULE);
            entries.push(acl_entry(100, true, true, Some(Ports { first: 32768, last: 65535 }), "10.0.0.0/8"));
        };
        let expected = ["acl-b of subnet-b: TCP 1024-32767 out to 10.0.0.200 is denied by the default rule (*)"];
        assert_eq!(obstacles(with_acl(1, narrow), vec![at("10.0.1.10")]), expected);
        let shut = |entries: &mut Vec<AclEntry>| entries.retain(|entry| entry.egress);
        let expected = [
            "acl-a of subnet-a: TCP 1024-65535 in from 10.0.1.10 is denied by the default rule (*)",
            "acl-a of subnet-a: TCP 5432 in from 10.0.1.200 is denied by the default rule (*)",
        ];
        let found = obstacles(with_acl(0, shut), vec![at("10.0.0.10"), at("10.0.1.10")]);
        assert_eq!(found, expected, "both ways, and nothing inside the subnet");
    }

    #[test]
    fn without_cross_zone_only_nodes_of_the_targets_zone_count() {
        let deny = acl_entry(90, false, false, Some(Ports::ALL), "0.0.0.0/0");
        let network = || with_acl(1, |entries| entries.push(deny.clone()));
        let status =
            |crossing| with_context(&seen(network(), vec![at("10.0.1.10")], crossing), evaluate).remove(0).status;
        assert!(matches!(status(true), Status::Fail(_)));
        assert!(matches!(status(false), Status::Pass(_)));
    }

    #[test]
    fn the_command_adds_an_acl_entry_before_the_denying_rule() {
        let deny = acl_entry(90, false, false, Some(Ports::one(5432)), "0.0.0.0/0");
        let taken = acl_entry(89, false, true, Some(Ports::one(443)), "0.0.0.0/0");
        let network = with_acl(1, |entries| entries.extend([deny, taken]));
        let Status::Fail(finding) = status(network, vec![at("10.0.1.10")]) else { panic!("it fails") };
        assert_eq!(finding.summary, "network ACL blocks 1 of 1 target in pg");
        assert_eq!(
            finding.remedy.command.unwrap(),
            "aws ec2 create-network-acl-entry --region eu-central-1 --network-acl-id acl-b --ingress --rule-number 88 \
             --protocol tcp --port-range From=5432,To=5432 --cidr-block 10.0.0.0/24 --rule-action allow"
        );
    }

    #[test]
    fn a_target_in_a_peered_vpc_needs_an_active_route() {
        let peered = || vec![outside("10.7.0.10")];
        let to = |destination: &str, by: &str, state: &str| {
            with_routes(|table| table.routes.push(route(destination, by, state)))
        };
        let found = |network| obstacles(network, peered());
        assert_eq!(found(open()), ["rtb-1: no route to 10.7.0.10"]);
        assert_eq!(
            found(to("10.7.0.0/16", "pcx-1", "blackhole")),
            ["rtb-1: the route to 10.7.0.0/16 via pcx-1 is a blackhole (10.7.0.10)"]
        );
        assert_eq!(
            found(to("10.7.0.0/16", "tgw-1", "Filtered")),
            ["rtb-1: the route to 10.7.0.0/16 via tgw-1 is filtered (10.7.0.10)"]
        );
        assert_eq!(
            found(to("0.0.0.0/0", "igw-1", "active")),
            ["rtb-1: the route to 10.7.0.10 is igw-1, which drops private addresses"]
        );
        assert_eq!(found(to("10.7.0.0/16", "pcx-1", "active")), [""; 0]);
        assert_eq!(found(to("0.0.0.0/0", "tgw-1", "active")), [""; 0]);
        let unknown = |network| matches!(status(network, peered()), Status::Unknown(_));
        assert!(unknown(to("0.0.0.0/0", "nat-1", "active")));
        assert!(unknown(to("10.7.0.0/16", "tgw-1", "newState")), "it may carry nothing");
        assert!(unknown(with_routes(|table| table.to_prefix_lists.push("tgw-1".to_owned()))));
    }

    #[test]
    fn a_draining_target_needs_no_path() {
        let leaving = Target { health: Health::Draining, ..outside("10.7.0.10") };
        let results = with_context(&seen(open(), vec![at("10.0.0.10"), leaving.clone(), terminated()], true), evaluate);
        assert!(matches!(&results[..], [CheckResult { status: Status::Pass(_), .. }]), "{results:?}");
        let Status::Fail(finding) = status(open(), vec![outside("10.7.0.10"), leaving]) else { panic!("it fails") };
        assert_eq!(finding.summary, "no route to 1 of 1 target in pg");
    }

    #[test]
    fn an_unseen_remote_side_has_its_own_result() {
        let network = with_routes(|table| table.routes.push(route("10.7.0.0/16", "pcx-1", "active")));
        let targets = vec![at("10.0.0.10"), at("10.0.1.10"), outside("10.7.0.10")];
        let results = with_context(&seen(network, targets, true), evaluate);
        let [near, far] = &results[..] else { panic!("{results:?}") };
        assert!(matches!(near.status, Status::Pass(_)));
        let why = "1 target in subnets that EC2 does not show; the network ACLs there are not checked";
        assert_eq!((far.resource.ends_with(", remote side"), &far.status), (true, &Status::Unknown(why.to_owned())));
        assert_eq!(with_context(&seen(open(), vec![at("10.0.0.10")], true), evaluate).len(), 1, "no far side");
    }

    #[test]
    fn a_node_reaches_an_ipv6_target_from_its_ipv6_address() {
        let six = || {
            let mut network = open();
            for (subnet, number) in network.subnets.as_mut().unwrap().iter_mut().zip(1..) {
                subnet.cidrs.push(format!("2001:db8:0:{number}::/64").parse().unwrap());
            }
            for (node, number) in network.interfaces.as_mut().unwrap().iter_mut().zip(1..) {
                node.addresses.push(format!("2001:db8:0:{number}::200").parse().unwrap());
            }
            network
        };
        let found = |network| status(network, vec![at("2001:db8:0:2::10")]);
        let Status::Fail(finding) = found(six()) else { panic!("the ACLs say nothing of IPv6") };
        assert!(
            finding.evidence.iter().any(|line| line.contains("in from 2001:db8:0:1::200")),
            "{:?}",
            finding.evidence
        );
        assert!(finding.remedy.command.unwrap().contains("--ipv6-cidr-block 2001:db8:0:1::/64 --rule-action allow"));
        let mut wide = six();
        for acl in wide.acls.as_mut().unwrap() {
            acl.entries.extend([true, false].map(|egress| acl_entry(101, egress, true, Some(Ports::ALL), "::/0")));
        }
        wide.route_tables.as_mut().unwrap()[0].routes.push(route("2001:db8::/32", "local", "active"));
        assert!(matches!(found(wide), Status::Pass(_)));
        assert!(matches!(found(open()), Status::Unknown(_)), "a node without IPv6");
    }

    #[test]
    fn a_few_denied_ports_are_no_obstacle_to_answers() {
        let rdp = |egress| acl_entry(90, egress, false, Some(Ports::one(3389)), "0.0.0.0/0");
        let closed = |ports| acl_entry(90, false, false, Some(ports), "0.0.0.0/0");
        let found =
            |rules: Vec<AclEntry>| obstacles(with_acl(0, |entries| entries.extend(rules)), vec![at("10.0.1.10")]);
        assert_eq!(found(vec![rdp(true), rdp(false)]), [""; 0]);
        assert_eq!(found(vec![closed(Ports { first: 3000, last: 3600 })]), [""; 0]);
        assert_eq!(found(vec![closed(Ports { first: 3000, last: 4000 })]).len(), 1);
    }

    #[test]
    fn a_finding_counts_every_blocked_target_and_has_a_command() {
        let deny = || acl_entry(1, false, false, Some(Ports::one(5432)), "0.0.0.0/0");
        let network = with_acl(1, |entries| entries.push(deny()));
        let targets = vec![at("10.0.1.10"), at("10.0.1.11"), at("10.0.0.10")];
        let Status::Fail(finding) = status(network, targets) else { panic!("it fails") };
        assert_eq!(finding.summary, "network ACL blocks 2 of 3 targets in pg");
        let command = "aws ec2 describe-network-acls --region eu-central-1 --network-acl-ids acl-b";
        assert_eq!(finding.remedy.command.as_deref(), Some(command), "no rule number is left before rule 1");
    }

    #[test]
    fn the_most_specific_route_of_the_nodes_own_table_decides() {
        let peered = || vec![outside("10.7.0.10")];
        let found = |change: fn(&mut Vec<RouteTable>)| {
            let mut network = open();
            change(network.route_tables.as_mut().unwrap());
            obstacles(network, peered())
        };
        let specific = found(|tables| {
            tables[0].routes.push(route("10.7.0.0/24", "pcx-2", "blackhole"));
            tables[0].routes.push(route("10.0.0.0/8", "tgw-1", "active"));
        });
        assert_eq!(specific, ["rtb-1: the route to 10.7.0.0/24 via pcx-2 is a blackhole (10.7.0.10)"]);
        let own_table = found(|tables| {
            tables[0].routes.push(route("10.7.0.0/16", "pcx-1", "active"));
            tables.push(RouteTable { subnets: vec!["subnet-b".to_owned()], ..route_table("rtb-2") });
        });
        assert_eq!(own_table, ["rtb-2: no route to 10.7.0.10"]);
    }

    #[test]
    fn a_subnet_without_its_own_table_uses_the_main_table() {
        let mut network = open();
        let tables = network.route_tables.as_mut().unwrap();
        let elsewhere = RouteTable { vpc: "vpc-2".to_owned(), main: true, ..route_table("rtb-3") };
        tables.splice(0..0, [route_table("rtb-2"), elsewhere]);
        tables[2].routes.push(route("10.7.0.0/16", "pcx-1", "active"));
        assert_eq!(obstacles(network, vec![outside("10.7.0.10")]), [""; 0]);
    }

    /// The summary, parts, command and console page of a failure.
    fn heard(network: Network, target: Target) -> (String, Vec<String>, String, String) {
        let Status::Fail(finding) = status(network, vec![target]) else { panic!("it fails") };
        let (command, console) = (finding.remedy.command.unwrap(), finding.remedy.console.unwrap());
        let page = console.split_once('#').unwrap().1.to_owned();
        (finding.summary, finding.parts.into_keys().collect(), command, page)
    }

    #[test]
    fn each_obstacle_is_a_part_and_a_route_links_its_table() {
        let via = |by: &str, state: &str| with_routes(|table| table.routes.push(route("10.7.0.0/16", by, state)));
        let parts = |network| {
            let (summary, parts, command, page) = heard(network, outside("10.7.0.10"));
            assert_eq!(summary, "no route to 1 of 1 target in pg");
            assert_eq!(command, "aws ec2 describe-route-tables --region eu-central-1 --route-table-ids rtb-1");
            assert_eq!(page, "RouteTableDetails:RouteTableId=rtb-1");
            parts
        };
        assert_eq!(parts(open()), ["rtb-1 has no route"]);
        assert_eq!(parts(via("pcx-1", "blackhole")), ["rtb-1 blackhole 10.7.0.0/16"]);
        assert_eq!(parts(via("igw-1", "active")), ["rtb-1 routes to igw-1"]);
        let deny = |egress| acl_entry(90, egress, false, Some(Ports::ALL), "10.7.0.0/16");
        let mut both = with_acl(0, |entries| entries.push(deny(true)));
        both.acls.as_mut().unwrap()[1].entries.push(deny(false));
        let (summary, parts, command, page) = heard(both, outside("10.7.0.10"));
        assert_eq!(summary, "network ACL and routes block 1 of 1 target in pg");
        assert_eq!(parts, ["acl-a rule 90 outbound", "acl-b rule 90 inbound", "rtb-1 has no route"]);
        assert!(command.ends_with("&& aws ec2 describe-route-tables --region eu-central-1 --route-table-ids rtb-1"));
        assert_eq!(page, "NetworkAclDetails:networkAclId=acl-a");
    }

    #[test]
    fn an_alert_announces_the_commands_that_do_not_fit() {
        let action = |ranges: i32| {
            let deny = |number: i32| {
                let first = u16::try_from(10_000 + 2_000 * number).unwrap();
                acl_entry(10 * number, true, false, Some(Ports { first, last: first + 999 }), "0.0.0.0/0")
            };
            let network = with_acl(1, |entries| entries.extend((1..=ranges).map(deny)));
            let Status::Fail(finding) = status(network, vec![at("10.0.1.10")]) else { panic!("it fails") };
            assert_eq!(
                finding.remedy.command.unwrap().matches("aws ec2").count(),
                usize::try_from(ranges.min(4)).unwrap()
            );
            finding.remedy.action
        };
        assert!(!action(3).contains("wait for the next alert") && !action(4).contains("wait for the next alert"));
        assert!(action(5).ends_with("wait for the next alert."));
    }

    #[test]
    fn a_target_outside_is_blocked_by_the_acl_on_the_near_side() {
        let mut network =
            with_acl(0, |entries| entries.push(acl_entry(90, true, false, Some(Ports::ALL), "10.7.0.0/16")));
        network.route_tables.as_mut().unwrap()[0].routes.push(route("10.7.0.0/16", "pcx-1", "active"));
        let expected = ["acl-a of subnet-a: TCP 5432 out to 10.7.0.10 is denied by rule 90"];
        assert_eq!(obstacles(network, vec![outside("10.7.0.10")]), expected);
    }

    #[test]
    fn an_unread_acl_route_or_address_is_unknown() {
        let unknown = |network, targets| matches!(status(network, targets), Status::Unknown(_));
        let inside = || vec![at("10.0.1.10")];
        let failed = || call_error("ec2:DescribeNetworkAcls");
        assert!(unknown(Network { interfaces: Ok(vec![]), ..open() }, inside()), "no node");
        assert!(unknown(Network { interfaces: Err(failed()), ..open() }, inside()));
        assert!(unknown(Network { acls: Err(failed()), ..open() }, inside()));
        assert!(unknown(Network { acls: Ok(vec![]), ..open() }, inside()), "an ACL that others own");
        assert!(unknown(Network { route_tables: Ok(vec![]), ..open() }, inside()));
        assert!(unknown(open(), vec![Target { address: None, ..at("i-1") }]), "an instance EC2 did not describe");
        let group = TargetGroup {
            kind: TargetKind::LoadBalancer,
            targets: Ok(vec![Target { address: None, ..at("arn") }]),
            ..target_group("alb")
        };
        let of_group = |group: TargetGroup| {
            let topology =
                Topology { network: Some(open()), ..topology(endpoint_service(), [load_balancer("pg", vec![group])]) };
            with_context(&topology, evaluate).remove(0).status
        };
        let why = "ALB target: the path to an Application Load Balancer is not checked";
        assert_eq!(of_group(group.clone()), Status::Unknown(why.to_owned()));
        assert!(matches!(of_group(TargetGroup { targets: Ok(vec![]), ..group }), Status::Pass(_)), "without a target");
    }
}
