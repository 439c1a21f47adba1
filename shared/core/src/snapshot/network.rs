//! The VPCs of the load balancers: security group rules, interfaces, subnets, network ACLs and routes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{CallError, Observed, Unread, interface_description};
use crate::ids::Arn;

/// The network around the load balancers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The rules of the load balancers' and the targets' security groups, inbound and outbound.
    pub rules: Observed<Vec<SecurityGroupRule>>,
    /// The security groups with an unreadable rule, each with the error.
    pub unread_rules: BTreeMap<String, CallError>,
    /// The prefix lists in these rules, by id.
    pub prefix_lists: BTreeMap<String, Observed<Vec<IpNet>>>,
    pub interfaces: Observed<Vec<Interface>>,
    pub subnets: Observed<Vec<Subnet>>,
    pub acls: Observed<Vec<NetworkAcl>>,
    pub route_tables: Observed<Vec<RouteTable>>,
}

impl Network {
    /// The rules of these security groups together.
    ///
    /// # Errors
    /// The reason why they are unknown: the read failed, or one of the rules could not be read.
    pub fn rules_of(&self, groups: &[String]) -> Result<Vec<&SecurityGroupRule>, Unread> {
        let rules = self.rules.as_ref()?;
        match groups.iter().find_map(|group| self.unread_rules.get(group)) {
            Some(error) => Err(error.into()),
            None => Ok(rules.iter().filter(|rule| groups.contains(&rule.group)).collect()),
        }
    }

    /// The addresses of a prefix list.
    pub fn prefix_list(&self, id: &str) -> Result<&[IpNet], String> {
        match self.prefix_lists.get(id) {
            Some(read) => read.as_deref().map_err(ToString::to_string),
            None => Err(format!("the prefix list {id} was not read")),
        }
    }

    /// The network interfaces of a load balancer: its nodes.
    ///
    /// # Errors
    /// The reason, if they could not be read, or if EC2 shows none.
    pub fn nodes(&self, load_balancer: &Arn) -> Result<Vec<&Interface>, Unread> {
        let interfaces = self.interfaces.as_ref()?;
        let description = interface_description(load_balancer);
        let nodes: Vec<&Interface> =
            interfaces.iter().filter(|interface| interface.description == description).collect();
        if nodes.is_empty() {
            return Err(format!("EC2 shows no network interface of {load_balancer}").into());
        }
        Ok(nodes)
    }
}

/// A range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// One port.
    pub fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The number of ports.
    pub fn number(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }

    /// Whether `port` is in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The ports in both ranges; `None` without a common port.
    pub fn and(self, other: Self) -> Option<Self> {
        let both = Self { first: self.first.max(other.first), last: self.last.min(other.last) };
        (both.first <= both.last).then_some(both)
    }

    /// The ports of this range that are not in `other`.
    pub fn without(self, other: Self) -> impl Iterator<Item = Self> {
        let before = other.first.checked_sub(1).and_then(|last| self.and(Self { first: 0, last }));
        let after = other.last.checked_add(1).and_then(|first| self.and(Self { first, last: u16::MAX }));
        before.into_iter().chain(after)
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A rule of a security group.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SecurityGroupRule.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroupRule {
    /// `sgr-…`
    pub id: String,
    pub group: String,
    pub egress: bool,
    /// The allowed TCP ports; `None` for another protocol.
    pub tcp: Option<Ports>,
    /// The allowed source or destination.
    pub peer: Peer,
}

/// The source of an inbound rule, or the destination of an outbound one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// These addresses.
    Cidr(IpNet),
    /// The addresses of a prefix list, by id.
    PrefixList(String),
    /// The members of a security group.
    Group(String),
}

impl Peer {
    /// The id of the prefix list, if it is one.
    pub fn prefix_list(&self) -> Option<&str> {
        match self {
            Self::PrefixList(id) => Some(id),
            Self::Cidr(_) | Self::Group(_) => None,
        }
    }
}

/// A network interface of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `eni-…`
    pub id: String,
    /// `ELB net/NAME/ID`, which identifies the load balancer.
    pub description: String,
    pub subnet: String,
    /// Its private addresses, IPv4 and IPv6, the primary one first. A target sees an address of its own family as the
    /// source.
    pub addresses: Vec<IpAddr>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// `subnet-…`
    pub id: String,
    pub vpc: String,
    /// Its IPv4 and IPv6 ranges.
    pub cidrs: Vec<IpNet>,
}

/// A network ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAcl {
    /// `acl-…`
    pub id: String,
    pub subnets: Vec<String>,
    /// The ids of these associations, `aclassoc-…`, by subnet.
    pub associations: BTreeMap<String, String>,
    /// Its rules, in any order.
    pub entries: Vec<AclEntry>,
}

/// A rule of a network ACL.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NetworkAclEntry.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclEntry {
    /// The rule number. The matching rule with the lowest number decides.
    pub number: i32,
    pub egress: bool,
    pub allow: bool,
    /// The TCP ports to which it applies; `None` for another protocol.
    pub tcp: Option<Ports>,
    /// The source of an inbound rule, or the destination of an outbound one.
    pub peer: IpNet,
}

/// A route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTable {
    /// `rtb-…`
    pub id: String,
    pub vpc: String,
    /// Whether it is the VPC's main table, which subnets without an association use.
    pub main: bool,
    /// The id of the association that makes it the main table, `rtbassoc-…`.
    pub main_association: Option<String>,
    pub subnets: Vec<String>,
    /// The ids of these associations, `rtbassoc-…`, by subnet.
    pub associations: BTreeMap<String, String>,
    pub routes: Vec<Route>,
    /// The targets of routes to prefix lists, except gateway endpoints. The guard does not read these lists' addresses.
    pub to_prefix_lists: Vec<String>,
}

/// A route.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Route.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNet,
    /// The target: `local`, `pcx-…`, `tgw-…`, …
    pub by: String,
    /// `active`, `blackhole` or `filtered`, as EC2 wrote it.
    pub state: String,
}

impl Route {
    /// Whether it carries traffic; `None` for an unknown state. A `filtered` route is in the table but carries no
    /// traffic, like a `blackhole`, whose target is gone.
    /// carries as little as a `blackhole`, whose target is gone.
    pub fn carries_traffic(&self) -> Option<bool> {
        match self.state.to_ascii_lowercase().as_str() {
            "active" => Some(true),
            "blackhole" | "filtered" => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_includes_both_ends() {
        let ports = Ports { first: 5432, last: 5434 };
        assert_eq!([ports, Ports::one(443), Ports::ALL].map(Ports::number), [3, 1, 65_536]);
    }
}
