//! `network-path`: can the load balancer's nodes and the targets reach each other?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Check, Finding, Observation, Remedy, Severity, Status, View, count, observed, some_of};
use crate::snapshot::{
    AclEntry, Interface, LoadBalancer, NOT_READ, Network, NetworkAcl, Ports, Route, RouteTable, Subnet, Target,
    TargetGroup, TargetKind, interface_description,
};

/// The ports on which answers come back to a node.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/custom-network-acl.html#nacl-ephemeral-ports>
const EPHEMERAL: Ports = Ports { first: 1024, last: u16::MAX };

/// The rule that ends every network ACL, shown as `*`: it denies.
const LAST_RULE: i32 = 32767;

/// Evidence lines per alert; the rest is counted.
const MOST_OBSTACLES_NAMED: usize = 12;

/// Commands per alert: each mends one kind of obstacle.
const MOST_COMMANDS: usize = 4;

/// One observation per target group: from each node that sends to a target, with the node's private address as the source.
/// Client IP preservation does not hold for what comes through PrivateLink.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html#client-ip-preservation>
///
/// Of targets outside the VPC the near side is judged and the route; that their own side is not seen is an observation of
/// its own, so that what is mended on the near side counts as mended.
#[must_use]
pub fn evaluate(view: View<'_>) -> Vec<Observation> {
    let near = view.per_target_group(Check::NetworkPath, |balancer, group| {
        match Map::of(balancer, view.paths.network.as_ref()) {
            Ok(map) => judge(balancer, group, &map, view),
            Err(why) => Status::Unknown(why),
        }
    });
    let balancers = view.paths.behind(view.service).unwrap_or_default().into_iter();
    let mapped =
        balancers.filter_map(|balancer| Some((balancer, Map::of(balancer, view.paths.network.as_ref()).ok()?)));
    let far = mapped.flat_map(|(balancer, map)| {
        let groups = balancer.target_groups.iter().flatten();
        groups.filter_map(|group| far_side(group, &map)).collect::<Vec<_>>()
    });
    near.into_iter().chain(far).collect()
}

/// That the side of targets whose subnet is not seen is not judged, if there are any.
fn far_side(group: &TargetGroup, map: &Map<'_>) -> Option<Observation> {
    let vpcs = || map.nodes.iter().filter_map(|node| map.subnet(&node.subnet)).map(|subnet| subnet.vpc.as_str());
    let seen = |target: &Target, address| vpcs().any(|vpc| map.subnet_of(target, address, vpc).is_some());
    let far = |target: &&Target| target.address.is_some_and(|address| !seen(target, address));
    let number = group.targets.iter().flatten().filter(far).count();
    let why = format!("{} in subnets that are not seen, nor are the network ACLs there", count(number, "target"));
    let resource = format!("{}, the far side", group.arn);
    (number > 0).then(|| observed(Check::NetworkPath, &resource, Status::Unknown(why)))
}

/// What stands in a packet's way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle<'a> {
    /// A network ACL denies these ports, by this rule.
    Acl { acl: &'a str, subnet: &'a str, egress: bool, peer: IpAddr, ports: Ports, rule: i32 },
    /// The route table has no route.
    NoRoute { table: &'a str, to: IpAddr },
    /// What the route led to is gone.
    Blackhole { table: &'a str, destination: String, by: &'a str, to: IpAddr },
    /// The route leads to the internet, where private addresses go nowhere.
    Internet { table: &'a str, by: &'a str, to: IpAddr },
}

/// The network around one load balancer.
struct Map<'a> {
    nodes: Vec<&'a Interface>,
    subnets: &'a [Subnet],
    acls: &'a [NetworkAcl],
    tables: &'a [RouteTable],
}

impl<'a> Map<'a> {
    fn of(balancer: &LoadBalancer, network: Option<&'a Network>) -> Result<Self, String> {
        let network = network.ok_or(NOT_READ)?;
        let interfaces = network.interfaces.as_ref().map_err(ToString::to_string)?;
        let description = interface_description(&balancer.arn);
        let nodes: Vec<&Interface> = interfaces.iter().filter(|own| own.description == description).collect();
        if nodes.is_empty() {
            return Err(format!("EC2 shows no network interface of {}", balancer.name()));
        }
        let subnets = network.subnets.as_ref().map_err(ToString::to_string)?;
        let acls = network.acls.as_ref().map_err(ToString::to_string)?;
        let tables = network.route_tables.as_ref().map_err(ToString::to_string)?;
        Ok(Self { nodes, subnets, acls, tables })
    }

    fn subnet(&self, id: &str) -> Option<&'a Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == id)
    }

    /// The subnet of the node's VPC that the target is in.
    fn subnet_of(&self, target: &Target, address: IpAddr, vpc: &str) -> Option<&'a Subnet> {
        match &target.subnet {
            Some(id) => self.subnet(id),
            None => {
                self.subnets.iter().find(|own| own.vpc == vpc && own.cidrs.iter().any(|cidr| cidr.contains(&address)))
            }
        }
    }

    /// The ACL rules that keep `ports` from passing between `subnet` and `peer`.
    fn denied(&self, subnet: &'a str, egress: bool, peer: IpAddr, ports: Ports) -> Result<Vec<Obstacle<'a>>, String> {
        let acl = self.acls.iter().find(|acl| acl.subnets.iter().any(|own| own == subnet));
        let acl = acl.ok_or_else(|| format!("EC2 shows no network ACL of {subnet}"))?;
        let denied = denied(&acl.entries, egress, peer, ports).into_iter();
        Ok(denied.map(|(ports, rule)| Obstacle::Acl { acl: &acl.id, subnet, egress, peer, ports, rule }).collect())
    }

    /// The rules that keep answers from coming back. A port that is denied here and there, as a rule against RDP does, is a
    /// connection in tens of thousands: only what denies a hundredth of the range counts.
    fn unanswered(&self, subnet: &'a str, egress: bool, peer: IpAddr) -> Result<Vec<Obstacle<'a>>, String> {
        let mut obstacles = self.denied(subnet, egress, peer, EPHEMERAL)?;
        obstacles.retain(|obstacle| match obstacle {
            Obstacle::Acl { ports, .. } => ports.number() * 100 >= EPHEMERAL.number(),
            _ => true,
        });
        Ok(obstacles)
    }

    /// What keeps packets of `subnet` from leaving for `to`: the most specific route decides.
    /// <https://docs.aws.amazon.com/vpc/latest/userguide/route-tables-priority.html>
    fn unrouted(&self, subnet: &Subnet, to: IpAddr) -> Result<Option<Obstacle<'a>>, String> {
        let own = self.tables.iter().find(|table| table.subnets.contains(&subnet.id));
        let table = own.or_else(|| self.tables.iter().find(|table| table.main && table.vpc == subnet.vpc));
        let table = table.ok_or_else(|| format!("EC2 shows no route table of {}", subnet.id))?;
        let routes = table.routes.iter().filter(|route| route.destination.contains(&to));
        let best = routes.max_by_key(|route| route.destination.prefix_len());
        let obstacle = match best {
            None => Obstacle::NoRoute { table: &table.id, to },
            Some(Route { destination, by, blackhole: true }) => {
                Obstacle::Blackhole { table: &table.id, destination: destination.to_string(), by, to }
            }
            Some(Route { by, .. }) if by.starts_with("igw-") || by.starts_with("eigw-") => {
                Obstacle::Internet { table: &table.id, by, to }
            }
            Some(Route { by, .. }) if by.starts_with("nat-") => {
                return Err(format!("{} leads to {to} by {by}, and where that sends it is not looked at", table.id));
            }
            Some(_) => return Ok(None),
        };
        // A prefix list may hold a more specific route.
        match table.to_prefix_lists.first() {
            Some(by) => Err(format!("{} leads to a prefix list by {by}, which may contain {to}", table.id)),
            None => Ok(Some(obstacle)),
        }
    }

    /// Everything in the way from `node` to `target` and back, and what could not be told.
    fn between(
        &self,
        node: &'a Interface,
        target: &Target,
        address: IpAddr,
        port: u16,
    ) -> (Vec<Obstacle<'a>>, Option<String>) {
        let Some(from) = self.subnet(&node.subnet) else {
            return (Vec::new(), Some(format!("EC2 shows no subnet {}", node.subnet)));
        };
        let Some(source) = node.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4()).copied() else {
            return (Vec::new(), Some(format!("{} has no address of the family of {address}", node.description)));
        };
        let to = self.subnet_of(target, address, &from.vpc);
        // Network ACLs stand at a subnet's edge, and inside a VPC there is always a route.
        if to.is_some_and(|to| to.id == from.id) {
            return (Vec::new(), None);
        }
        let target_port = Ports::one(port);
        let mut looks = vec![
            self.denied(&from.id, true, address, target_port),
            self.unanswered(&from.id, false, address),
            self.unrouted(from, address).map(|obstacle| obstacle.into_iter().collect()),
        ];
        if let Some(to) = to {
            looks.push(self.denied(&to.id, false, source, target_port));
            looks.push(self.unanswered(&to.id, true, source));
        }
        let (mut obstacles, mut untold) = (Vec::new(), None);
        for look in looks {
            match look {
                Ok(found) => obstacles.extend(found),
                Err(why) => untold = Some(why),
            }
        }
        (obstacles, untold)
    }
}

/// The parts of `ports` that an ACL denies, each with the rule that does: rules are tried from the lowest number on, and the
/// first that matches decides.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/nacl-rules.html>
fn denied(entries: &[AclEntry], egress: bool, peer: IpAddr, ports: Ports) -> Vec<(Ports, i32)> {
    let mut rules: Vec<&AclEntry> =
        entries.iter().filter(|entry| entry.egress == egress && entry.peer.contains(&peer)).collect();
    rules.sort_by_key(|entry| entry.number);
    let (mut undecided, mut denied) = (vec![ports], Vec::new());
    for rule in rules {
        let Some(about) = rule.tcp else { continue };
        if !rule.allow {
            denied.extend(undecided.iter().filter_map(|left| left.and(about)).map(|ports| (ports, rule.number)));
        }
        undecided = undecided.into_iter().flat_map(|left| left.without(about)).collect();
    }
    denied.extend(undecided.into_iter().map(|ports| (ports, LAST_RULE)));
    denied
}

fn judge(balancer: &LoadBalancer, group: &TargetGroup, map: &Map<'_>, view: View<'_>) -> Status {
    let targets = match &group.targets {
        Ok(targets) => targets,
        Err(unseen) => return Status::Unknown(unseen.to_string()),
    };
    if group.kind == TargetKind::LoadBalancer && !targets.is_empty() {
        return Status::Unknown("the way to an Application Load Balancer is not looked at".to_owned());
    }
    // Not known counts as on: then every node must reach every target.
    let crossing = balancer.crosses_zones(group).unwrap_or(true);
    let (mut obstacles, mut blocked, mut untold) = (BTreeSet::new(), 0, None);
    for target in targets {
        let (Some(address), Some(port)) = (target.address, target.port) else {
            untold = Some(format!("the address of {target} is not known"));
            continue;
        };
        let nodes = map.nodes.iter().filter(|node| crossing || shares_zone(balancer, node, target));
        let mut in_the_way = false;
        for node in nodes {
            let (found, unclear) = map.between(node, target, address, port);
            in_the_way |= !found.is_empty();
            obstacles.extend(found);
            untold = unclear.or(untold);
        }
        blocked += usize::from(in_the_way);
    }
    if obstacles.is_empty() {
        return untold.map_or(Status::Pass, Status::Unknown);
    }
    Status::Fail(Box::new(finding(group, targets, blocked, &obstacles, map, view)))
}

/// Whether the node sends to the target though cross-zone load balancing is off.
fn shares_zone(balancer: &LoadBalancer, node: &Interface, target: &Target) -> bool {
    let zones = balancer.description.iter().flat_map(|description| &description.zones);
    let zone = zones.into_iter().find(|zone| zone.subnet == node.subnet).map(|zone| zone.name.as_str());
    match (zone, target.zone.as_deref()) {
        (Some(own), Some(zone)) => zone == "all" || zone == own,
        _ => true,
    }
}

fn finding(
    group: &TargetGroup,
    targets: &[Target],
    blocked: usize,
    obstacles: &BTreeSet<Obstacle<'_>>,
    map: &Map<'_>,
    view: View<'_>,
) -> Finding {
    let acls: BTreeSet<&str> = obstacles
        .iter()
        .filter_map(|obstacle| match obstacle {
            Obstacle::Acl { acl, .. } => Some(*acl),
            _ => None,
        })
        .collect();
    let routes = obstacles.iter().any(|obstacle| !matches!(obstacle, Obstacle::Acl { .. }));
    let what = match (acls.is_empty(), routes) {
        (false, false) => "a network ACL blocks",
        (true, _) => "a missing route cuts off",
        (false, true) => "a network ACL and a missing route cut off",
    };
    let (mut commands, region) = (repairs(obstacles, map, view), view.place.region());
    let all = commands.len();
    commands.truncate(MOST_COMMANDS);
    let repeat = if all > MOST_COMMANDS {
        " More obstacles than the command clears are there: look again after it."
    } else {
        ""
    };
    let tables: BTreeSet<&str> = obstacles.iter().filter_map(Obstacle::table).collect();
    if !tables.is_empty() {
        let tables: Vec<&str> = tables.into_iter().collect();
        commands
            .push(format!("aws ec2 describe-route-tables --region {region} --route-table-ids {}", tables.join(" ")));
    }
    if commands.is_empty() {
        let acls: Vec<&str> = acls.iter().copied().collect();
        commands.push(format!("aws ec2 describe-network-acls --region {region} --network-acl-ids {}", acls.join(" ")));
    }
    let pass = "Let the load balancer's nodes reach the targets, and the answers come back; see first that the rule that \
                denies it may be overruled.";
    let lead = "Lead the route to where the target is: replace the dead route, or create the missing one.";
    let remedy = match (acls.is_empty(), routes) {
        (false, false) => pass.to_owned(),
        (true, _) => lead.to_owned(),
        (false, true) => format!("{pass} {lead}"),
    };
    let lines = obstacles.iter().map(ToString::to_string).collect();
    Finding {
        severity: Severity::Warning,
        summary: format!("{what} {blocked} of {} in target group {}", count(targets.len(), "target"), group.name()),
        meaning: "Part of dbt's connections, or all, time out between the load balancer and these targets.".to_owned(),
        evidence: some_of(lines, MOST_OBSTACLES_NAMED),
        remedy: Remedy {
            what: format!("{remedy}{repeat}"),
            command: Some(commands.join(" && ")),
            console: match acls.first() {
                Some(acl) => view.place.network_acl(acl),
                None => obstacles.iter().find_map(Obstacle::table).and_then(|table| view.place.route_table(table)),
            },
        },
        cause: None,
    }
}

impl Obstacle<'_> {
    fn table(&self) -> Option<&str> {
        match self {
            Self::Acl { .. } => None,
            Self::NoRoute { table, .. } | Self::Blackhole { table, .. } | Self::Internet { table, .. } => Some(table),
        }
    }
}

impl std::fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Acl { acl, subnet, egress, peer, ports, rule } => {
                let way = if *egress { "out to" } else { "in from" };
                write!(f, "{acl} of {subnet}: TCP {ports} {way} {peer} is denied by ")?;
                if *rule == LAST_RULE { f.write_str("rule *, the last") } else { write!(f, "rule {rule}") }
            }
            Self::NoRoute { table, to } => write!(f, "{table}: no route to {to}"),
            Self::Blackhole { table, destination, by, to } => {
                write!(f, "{table}: the route to {destination} by {by} is a blackhole ({to})")
            }
            Self::Internet { table, by, to } => {
                write!(f, "{table}: the route to {to} is {by}, which drops private addresses")
            }
        }
    }
}

/// The commands that let pass what an ACL denies: a rule before the one that denies, for all of the peer's subnet.
fn repairs(obstacles: &BTreeSet<Obstacle<'_>>, map: &Map<'_>, view: View<'_>) -> Vec<String> {
    let mut wanted: BTreeMap<(&str, bool, Ports, String), i32> = BTreeMap::new();
    for obstacle in obstacles {
        let Obstacle::Acl { acl, egress, peer, ports, rule, .. } = obstacle else { continue };
        let mut subnets = map.subnets.iter().flat_map(|subnet| &subnet.cidrs);
        let cidr = subnets.find(|cidr| cidr.contains(peer)).copied().unwrap_or_else(|| IpNet::from(*peer));
        let before = wanted.entry((acl, *egress, *ports, cidr.to_string())).or_insert(*rule);
        *before = (*before).min(*rule);
    }
    let mut used: BTreeSet<(&str, bool, i32)> = map
        .acls
        .iter()
        .flat_map(|acl| acl.entries.iter().map(|entry| (acl.id.as_str(), entry.egress, entry.number)))
        .collect();
    let commands = wanted.into_iter().filter_map(|((acl, egress, ports, cidr), before)| {
        let number = (1..before).rev().find(|number| !used.contains(&(acl, egress, *number)))?;
        used.insert((acl, egress, number));
        let range = if cidr.contains(':') { "--ipv6-cidr-block" } else { "--cidr-block" };
        let way = if egress { "--egress" } else { "--ingress" };
        Some(format!(
            "aws ec2 create-network-acl-entry --region {} --network-acl-id {acl} {way} --rule-number {number} \
             --protocol tcp --port-range From={},To={} {range} {cidr} --rule-action allow",
            view.place.region(),
            ports.first,
            ports.last
        ))
    });
    commands.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{CrossZoneOverride, Paths};
    use crate::testing::{endpoint_service, load_balancer, network, paths, target, target_group, unseen, view};

    fn entry(number: i32, egress: bool, allow: bool, tcp: Option<Ports>, peer: &str) -> AclEntry {
        AclEntry { number, egress, allow, tcp, peer: peer.parse().unwrap() }
    }

    fn route(destination: &str, by: &str, blackhole: bool) -> Route {
        Route { destination: destination.parse().unwrap(), by: by.to_owned(), blackhole }
    }

    /// A node in subnet-a (10.0.0.0/24) at 10.0.0.200, one in subnet-b (10.0.1.0/24) at 10.0.1.200, all doors open.
    fn open() -> Network {
        let subnet = |id: &str, cidr: &str| Subnet {
            id: id.to_owned(),
            vpc: "vpc-1".to_owned(),
            cidrs: vec![cidr.parse().unwrap()],
        };
        let node = |subnet: &str, address: &str| Interface {
            description: "ELB net/pg/0123456789abcdef".to_owned(),
            subnet: subnet.to_owned(),
            addresses: vec![address.parse().unwrap()],
        };
        let acl = |id: &str, subnet: &str| NetworkAcl {
            id: id.to_owned(),
            subnets: vec![subnet.to_owned()],
            entries: [true, false].into_iter().flat_map(doors).collect(),
        };
        Network {
            interfaces: Ok(vec![node("subnet-a", "10.0.0.200"), node("subnet-b", "10.0.1.200")]),
            subnets: Ok(vec![subnet("subnet-a", "10.0.0.0/24"), subnet("subnet-b", "10.0.1.0/24")]),
            acls: Ok(vec![acl("acl-a", "subnet-a"), acl("acl-b", "subnet-b")]),
            route_tables: Ok(vec![RouteTable {
                id: "rtb-1".to_owned(),
                vpc: "vpc-1".to_owned(),
                main: true,
                subnets: vec![],
                routes: vec![route("10.0.0.0/16", "local", false)],
                to_prefix_lists: vec![],
            }]),
            ..network()
        }
    }

    /// What AWS's default ACL has: everything passes.
    fn doors(egress: bool) -> [AclEntry; 2] {
        [
            entry(100, egress, true, Some(Ports::ALL), "0.0.0.0/0"),
            entry(LAST_RULE, egress, false, Some(Ports::ALL), "0.0.0.0/0"),
        ]
    }

    /// Everything passes; the rules of `acl` that `change` makes.
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

    fn seen(network: Network, targets: Vec<Target>, crossing: bool) -> Paths {
        let cross_zone = Some(Ok(if crossing { CrossZoneOverride::On } else { CrossZoneOverride::Off }));
        let group = TargetGroup { targets: Ok(targets), cross_zone, ..target_group("pg") };
        Paths { network: Some(network), ..paths(endpoint_service(), [load_balancer("pg", vec![group])]) }
    }

    fn status(network: Network, targets: Vec<Target>) -> Status {
        view(&seen(network, targets, true), evaluate).remove(0).status
    }

    /// The evidence, if it fails.
    fn obstacles(network: Network, targets: Vec<Target>) -> Vec<String> {
        match status(network, targets) {
            Status::Pass => Vec::new(),
            Status::Fail(finding) => finding.evidence,
            Status::Unknown(why) => panic!("unknown: {why}"),
        }
    }

    #[test]
    fn open_doors_let_pass() {
        assert_eq!(obstacles(open(), vec![at("10.0.0.10"), at("10.0.1.10")]), [""; 0]);
        assert_eq!(obstacles(open(), vec![]), [""; 0]);
    }

    #[test]
    fn the_lowest_rule_that_matches_decides() {
        let deny = |number| entry(number, false, false, Some(Ports::one(5432)), "10.0.0.0/24");
        let allow = |number| entry(number, false, true, Some(Ports::one(5432)), "10.0.0.0/8");
        let blocked = ["acl-b of subnet-b: TCP 5432 in from 10.0.0.200 is denied by rule 90"];
        let told =
            |rules: Vec<AclEntry>| obstacles(with_acl(1, |entries| entries.extend(rules)), vec![at("10.0.1.10")]);
        assert_eq!(told(vec![deny(90)]), blocked);
        assert_eq!(told(vec![allow(95), deny(90)]), blocked, "whatever the order they come in");
        assert_eq!(told(vec![deny(90), allow(80)]), [""; 0]);
        assert_eq!(told(vec![deny(110)]), [""; 0], "behind the rule that allows all");
        let udp = AclEntry { tcp: None, ..deny(90) };
        let another_port = AclEntry { tcp: Some(Ports::one(443)), ..deny(90) };
        let another_peer = AclEntry { peer: "10.0.9.0/24".parse().unwrap(), ..deny(90) };
        assert_eq!(told(vec![udp, another_port, another_peer]), [""; 0]);
    }

    #[test]
    fn every_ephemeral_port_must_come_back() {
        let narrow = |entries: &mut Vec<AclEntry>| {
            entries.retain(|entry| !entry.egress || entry.number == LAST_RULE);
            entries.push(entry(100, true, true, Some(Ports { first: 32768, last: 65535 }), "10.0.0.0/8"));
        };
        let expected = ["acl-b of subnet-b: TCP 1024-32767 out to 10.0.0.200 is denied by rule *, the last"];
        assert_eq!(obstacles(with_acl(1, narrow), vec![at("10.0.1.10")]), expected);
        let shut = |entries: &mut Vec<AclEntry>| entries.retain(|entry| entry.egress);
        let expected = [
            "acl-a of subnet-a: TCP 1024-65535 in from 10.0.1.10 is denied by rule *, the last",
            "acl-a of subnet-a: TCP 5432 in from 10.0.1.200 is denied by rule *, the last",
        ];
        let told = obstacles(with_acl(0, shut), vec![at("10.0.0.10"), at("10.0.1.10")]);
        assert_eq!(told, expected, "both ways, and nothing inside the subnet");
    }

    #[test]
    fn without_cross_zone_only_nodes_of_the_targets_zone_count() {
        let deny = entry(90, false, false, Some(Ports::ALL), "0.0.0.0/0");
        let network = || with_acl(1, |entries| entries.push(deny.clone()));
        let status = |crossing| view(&seen(network(), vec![at("10.0.1.10")], crossing), evaluate).remove(0).status;
        assert!(matches!(status(true), Status::Fail(_)));
        assert_eq!(status(false), Status::Pass);
    }

    #[test]
    fn the_command_opens_just_what_is_shut_before_the_rule_that_shuts_it() {
        let deny = entry(90, false, false, Some(Ports::one(5432)), "0.0.0.0/0");
        let taken = entry(89, false, true, Some(Ports::one(443)), "0.0.0.0/0");
        let network = with_acl(1, |entries| entries.extend([deny, taken]));
        let Status::Fail(finding) = status(network, vec![at("10.0.1.10")]) else { panic!("it fails") };
        assert_eq!(finding.summary, "a network ACL blocks 1 of 1 target in target group pg");
        assert_eq!(
            finding.remedy.command.unwrap(),
            "aws ec2 create-network-acl-entry --region eu-central-1 --network-acl-id acl-b --ingress --rule-number 88 \
             --protocol tcp --port-range From=5432,To=5432 --cidr-block 10.0.0.0/24 --rule-action allow"
        );
    }

    #[test]
    fn a_target_in_a_peered_vpc_needs_a_living_route() {
        let peered = || vec![outside("10.7.0.10")];
        let to = |destination: &str, by: &str, blackhole| {
            with_routes(|table| table.routes.push(route(destination, by, blackhole)))
        };
        let told = |network| obstacles(network, peered());
        assert_eq!(told(open()), ["rtb-1: no route to 10.7.0.10"]);
        assert_eq!(
            told(to("10.7.0.0/16", "pcx-1", true)),
            ["rtb-1: the route to 10.7.0.0/16 by pcx-1 is a blackhole (10.7.0.10)"]
        );
        assert_eq!(
            told(to("0.0.0.0/0", "igw-1", false)),
            ["rtb-1: the route to 10.7.0.10 is igw-1, which drops private addresses"]
        );
        assert_eq!(told(to("10.7.0.0/16", "pcx-1", false)), [""; 0]);
        assert_eq!(told(to("0.0.0.0/0", "tgw-1", false)), [""; 0]);
        let unknown = |network| matches!(status(network, peered()), Status::Unknown(_));
        assert!(unknown(to("0.0.0.0/0", "nat-1", false)));
        assert!(unknown(with_routes(|table| table.to_prefix_lists.push("tgw-1".to_owned()))));
    }

    #[test]
    fn that_the_far_side_is_not_seen_is_told_apart_from_the_near_side() {
        let network = with_routes(|table| table.routes.push(route("10.7.0.0/16", "pcx-1", false)));
        let observations = view(&seen(network, vec![at("10.0.0.10"), outside("10.7.0.10")], true), evaluate);
        let [near, far] = &observations[..] else { panic!("{observations:?}") };
        assert_eq!(near.status, Status::Pass);
        let why = "1 target in subnets that are not seen, nor are the network ACLs there";
        assert_eq!((far.resource.ends_with(", the far side"), &far.status), (true, &Status::Unknown(why.to_owned())));
    }

    #[test]
    fn a_target_of_the_other_family_is_reached_from_the_nodes_address_of_that_family() {
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
        let told = |network| status(network, vec![at("2001:db8:0:2::10")]);
        let Status::Fail(finding) = told(six()) else { panic!("the ACLs say nothing of IPv6") };
        assert!(
            finding.evidence.iter().any(|line| line.contains("in from 2001:db8:0:1::200")),
            "{:?}",
            finding.evidence
        );
        assert!(finding.remedy.command.unwrap().contains("--ipv6-cidr-block 2001:db8:0:1::/64 --rule-action allow"));
        let mut wide = six();
        for acl in wide.acls.as_mut().unwrap() {
            acl.entries.extend([true, false].map(|egress| entry(101, egress, true, Some(Ports::ALL), "::/0")));
        }
        wide.route_tables.as_mut().unwrap()[0].routes.push(route("2001:db8::/32", "local", false));
        assert_eq!(told(wide), Status::Pass);
        assert!(matches!(told(open()), Status::Unknown(_)), "a node without IPv6");
    }

    #[test]
    fn a_port_denied_here_and_there_is_no_obstacle_to_answers() {
        let rdp = |egress| entry(90, egress, false, Some(Ports::one(3389)), "0.0.0.0/0");
        let closed = |ports| entry(90, false, false, Some(ports), "0.0.0.0/0");
        let told =
            |rules: Vec<AclEntry>| obstacles(with_acl(0, |entries| entries.extend(rules)), vec![at("10.0.1.10")]);
        assert_eq!(told(vec![rdp(true), rdp(false)]), [""; 0]);
        assert_eq!(told(vec![closed(Ports { first: 3000, last: 3600 })]), [""; 0]);
        assert_eq!(told(vec![closed(Ports { first: 3000, last: 4000 })]).len(), 1);
    }

    #[test]
    fn every_target_that_is_cut_off_counts_and_there_is_always_a_command() {
        let deny = || entry(1, false, false, Some(Ports::one(5432)), "0.0.0.0/0");
        let network = with_acl(1, |entries| entries.push(deny()));
        let Status::Fail(finding) = status(network, vec![at("10.0.1.10"), at("10.0.1.11")]) else { panic!("it fails") };
        assert_eq!(finding.summary, "a network ACL blocks 2 of 2 targets in target group pg");
        let command = "aws ec2 describe-network-acls --region eu-central-1 --network-acl-ids acl-b";
        assert_eq!(finding.remedy.command.as_deref(), Some(command), "no rule number is left before rule 1");
    }

    #[test]
    fn the_most_specific_route_of_the_nodes_own_table_decides() {
        let peered = || vec![outside("10.7.0.10")];
        let told = |change: fn(&mut Vec<RouteTable>)| {
            let mut network = open();
            change(network.route_tables.as_mut().unwrap());
            obstacles(network, peered())
        };
        let specific = told(|tables| {
            tables[0].routes.push(route("10.7.0.0/24", "pcx-2", true));
            tables[0].routes.push(route("10.0.0.0/8", "tgw-1", false));
        });
        assert_eq!(specific, ["rtb-1: the route to 10.7.0.0/24 by pcx-2 is a blackhole (10.7.0.10)"]);
        let own_table = told(|tables| {
            tables[0].routes.push(route("10.7.0.0/16", "pcx-1", false));
            tables.push(RouteTable {
                id: "rtb-2".to_owned(),
                main: false,
                subnets: vec!["subnet-b".to_owned()],
                routes: vec![],
                ..tables[0].clone()
            });
        });
        assert_eq!(own_table, ["rtb-2: no route to 10.7.0.10"]);
    }

    #[test]
    fn a_target_outside_is_blocked_by_the_acl_on_the_near_side() {
        let mut network = with_acl(0, |entries| entries.push(entry(90, true, false, Some(Ports::ALL), "10.7.0.0/16")));
        network.route_tables.as_mut().unwrap()[0].routes.push(route("10.7.0.0/16", "pcx-1", false));
        let expected = ["acl-a of subnet-a: TCP 5432 out to 10.7.0.10 is denied by rule 90"];
        assert_eq!(obstacles(network, vec![outside("10.7.0.10")]), expected);
    }

    #[test]
    fn what_cannot_be_told_is_unknown() {
        let unknown = |network, targets| matches!(status(network, targets), Status::Unknown(_));
        let inside = || vec![at("10.0.1.10")];
        let failed = || unseen("ec2:DescribeNetworkAcls");
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
        let paths = Paths { network: Some(open()), ..paths(endpoint_service(), [load_balancer("pg", vec![group])]) };
        assert!(matches!(view(&paths, evaluate)[0].status, Status::Unknown(_)));
    }
}
