//! The path between a load balancer's node and a target: subnets, network ACLs, and routes.

use std::fmt;
use std::net::IpAddr;

use super::acl::{LAST_RULE, denied};
use crate::snapshot::{Interface, LoadBalancer, Network, NetworkAcl, Ports, Route, RouteTable, Subnet, Target, Unread};

/// The ports on which return traffic reaches a node.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/custom-network-acl.html#nacl-ephemeral-ports>
const EPHEMERAL: Ports = Ports { first: 1024, last: u16::MAX };

/// The network around one load balancer.
pub(super) struct PathAnalyzer<'a> {
    /// The load balancer's network interfaces.
    pub(super) nodes: Vec<&'a Interface>,
    pub(super) subnets: &'a [Subnet],
    pub(super) acls: &'a [NetworkAcl],
    route_tables: &'a [RouteTable],
}

/// The obstacles and unknown parts between a node and a target.
#[derive(Default)]
pub(super) struct Path<'a> {
    pub(super) obstacles: Vec<Obstacle<'a>>,
    /// The reason why part of the path is unknown.
    pub(super) unknown: Option<String>,
}

/// An obstacle on the path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle<'a> {
    /// A rule of a network ACL denies these ports.
    Acl { acl: &'a str, subnet: &'a str, egress: bool, peer: IpAddr, ports: Ports, rule: i32 },
    /// The route table has no route.
    NoRoute { table: &'a str, to: IpAddr },
    /// The route carries no traffic: its target is gone, or it is filtered.
    Dead { table: &'a str, destination: String, by: &'a str, state: String, to: IpAddr },
    /// The route leads to the internet, which drops private addresses.
    Internet { table: &'a str, by: &'a str, to: IpAddr },
}

impl<'a> PathAnalyzer<'a> {
    /// The network around `load_balancer`.
    ///
    /// # Errors
    /// The reason, if part of the network could not be read.
    pub(super) fn new(load_balancer: &LoadBalancer, network: Option<&'a Network>) -> Result<Self, Unread> {
        let network = network.ok_or(Unread::NotAsked)?;
        let nodes = network.nodes(&load_balancer.arn)?;
        let subnets = network.subnets.as_ref()?;
        let acls = network.acls.as_ref()?;
        let route_tables = network.route_tables.as_ref()?;
        Ok(Self { nodes, subnets, acls, route_tables })
    }

    /// All obstacles from `node` to `target` and back.
    pub(super) fn between(&self, node: &'a Interface, target: &Target, address: IpAddr, port: u16) -> Path<'a> {
        let unknown = |why: String| Path { unknown: Some(why), ..Path::default() };
        let Some(from) = self.subnet(&node.subnet) else {
            return unknown(format!("EC2 shows no subnet {}", node.subnet));
        };
        let Some(source) = node.addresses.iter().find(|source| source.is_ipv4() == address.is_ipv4()).copied() else {
            return unknown(format!("{} has no address of the family of {address}", node.description));
        };
        let to = self.subnet_of(target, address, &from.vpc);
        // Network ACLs apply only at a subnet's boundary, and a VPC always has a route within it.
        if to.is_some_and(|to| to.id == from.id) {
            return Path::default();
        }
        let mut hops = vec![
            self.denied(&from.id, true, address, Ports::one(port)),
            self.return_traffic_denied(&from.id, false, address),
            self.unrouted(from, address).map(|obstacle| obstacle.into_iter().collect()),
        ];
        if let Some(to) = to {
            hops.push(self.denied(&to.id, false, source, Ports::one(port)));
            hops.push(self.return_traffic_denied(&to.id, true, source));
        }
        let mut path = Path::default();
        for hop in hops {
            match hop {
                Ok(obstacles) => path.obstacles.extend(obstacles),
                Err(why) => path.unknown = Some(why),
            }
        }
        path
    }

    /// Whether EC2 shows the target's subnet.
    pub(super) fn is_in_a_known_subnet(&self, target: &Target, address: IpAddr) -> bool {
        let mut vpcs = self.nodes.iter().filter_map(|node| self.subnet(&node.subnet)).map(|subnet| &subnet.vpc);
        vpcs.any(|vpc| self.subnet_of(target, address, vpc).is_some())
    }

    fn subnet(&self, id: &str) -> Option<&'a Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == id)
    }

    /// The target's subnet, if it is in the node's VPC.
    fn subnet_of(&self, target: &Target, address: IpAddr, vpc: &str) -> Option<&'a Subnet> {
        match &target.subnet {
            Some(id) => self.subnet(id),
            None => self
                .subnets
                .iter()
                .find(|subnet| subnet.vpc == vpc && subnet.cidrs.iter().any(|cidr| cidr.contains(&address))),
        }
    }

    /// The ACL rules that deny `ports` between `subnet` and `peer`.
    fn denied(&self, subnet: &'a str, egress: bool, peer: IpAddr, ports: Ports) -> Result<Vec<Obstacle<'a>>, String> {
        let acl = self.acls.iter().find(|acl| acl.subnets.iter().any(|id| id == subnet));
        let acl = acl.ok_or_else(|| format!("EC2 shows no network ACL of {subnet}"))?;
        let denied = denied(&acl.entries, egress, peer, ports).into_iter();
        Ok(denied.map(|(ports, rule)| Obstacle::Acl { acl: &acl.id, subnet, egress, peer, ports, rule }).collect())
    }

    /// The ACL rules that deny return traffic. A rule that denies a few ports, such as RDP's, affects one connection in
    /// tens of thousands: only rules that deny a hundredth of the range count.
    fn return_traffic_denied(&self, subnet: &'a str, egress: bool, peer: IpAddr) -> Result<Vec<Obstacle<'a>>, String> {
        let mut obstacles = self.denied(subnet, egress, peer, EPHEMERAL)?;
        obstacles.retain(|obstacle| match obstacle {
            Obstacle::Acl { ports, .. } => ports.number() * 100 >= EPHEMERAL.number(),
            _ => true,
        });
        Ok(obstacles)
    }

    /// The obstacle to packets from `subnet` to `to`: the most specific route decides.
    /// <https://docs.aws.amazon.com/vpc/latest/userguide/route-tables-priority.html>
    fn unrouted(&self, subnet: &Subnet, to: IpAddr) -> Result<Option<Obstacle<'a>>, String> {
        let explicit = self.route_tables.iter().find(|table| table.subnets.contains(&subnet.id));
        let table = explicit.or_else(|| self.route_tables.iter().find(|table| table.main && table.vpc == subnet.vpc));
        let table = table.ok_or_else(|| format!("EC2 shows no route table of {}", subnet.id))?;
        let routes = table.routes.iter().filter(|route| route.destination.contains(&to));
        let best = routes.max_by_key(|route| route.destination.prefix_len());
        let obstacle = match best.map(|route| (route, route.carries_traffic())) {
            None => Obstacle::NoRoute { table: &table.id, to },
            Some((Route { destination, by, state }, Some(false))) => {
                let (destination, state) = (destination.to_string(), state.to_ascii_lowercase());
                Obstacle::Dead { table: &table.id, destination, by, state, to }
            }
            Some((Route { destination, state, .. }, None)) => {
                return Err(format!("{} has a route to {destination} in unknown state '{state}'", table.id));
            }
            Some((Route { by, .. }, _)) if by.starts_with("igw-") && to.is_ipv4() => {
                Obstacle::Internet { table: &table.id, by, to }
            }
            Some((Route { by, .. }, _)) if ["nat-", "igw-", "eigw-"].iter().any(|kind| by.starts_with(kind)) => {
                return Err(format!("{} routes {to} to {by}, and the path behind it is not checked", table.id));
            }
            Some(_) => return Ok(None),
        };
        // A route to a prefix list may be more specific.
        match table.to_prefix_lists.first() {
            Some(by) => Err(format!("{} routes a prefix list to {by}, which may contain {to}", table.id)),
            None => Ok(Some(obstacle)),
        }
    }
}

impl Obstacle<'_> {
    /// The obstacle's ids: the ACL and its subnet, or the route table and its route's target.
    pub(super) fn ids(&self) -> [&str; 2] {
        match self {
            Self::Acl { acl, subnet, .. } => [acl, subnet],
            Self::NoRoute { table, .. } => [table, table],
            Self::Dead { table, by, .. } | Self::Internet { table, by, .. } => [table, by],
        }
    }

    /// The route table to change.
    pub(super) fn route_table(&self) -> Option<&str> {
        match self {
            Self::Acl { .. } => None,
            Self::NoRoute { table, .. } | Self::Dead { table, .. } | Self::Internet { table, .. } => Some(table),
        }
    }
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acl { acl, subnet, egress, peer, ports, rule } => {
                let direction = if *egress { "out to" } else { "in from" };
                write!(f, "{acl} of {subnet}: TCP {ports} {direction} {peer} is denied by ")?;
                if *rule == LAST_RULE { f.write_str("the default rule (*)") } else { write!(f, "rule {rule}") }
            }
            Self::NoRoute { table, to } => write!(f, "{table}: no route to {to}"),
            Self::Dead { table, destination, by, state, to } => {
                let state = if state == "blackhole" { "a blackhole" } else { state };
                write!(f, "{table}: the route to {destination} via {by} is {state} ({to})")
            }
            Self::Internet { table, by, to } => {
                write!(f, "{table}: the route to {to} is {by}, which drops private addresses")
            }
        }
    }
}
