//! The VPCs that the load balancers are in: who may pass, and where packets go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Observed;

/// What surrounds the load balancers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The inbound rules of the load balancers' security groups.
    pub rules: Observed<Vec<SecurityGroupRule>>,
    /// The prefix lists those rules name, by id.
    pub prefix_lists: BTreeMap<String, Observed<Vec<IpNet>>>,
    /// The load balancers' network interfaces.
    pub interfaces: Observed<Vec<Interface>>,
    /// The subnets of the load balancers' VPCs.
    pub subnets: Observed<Vec<Subnet>>,
    /// The network ACLs of those VPCs.
    pub acls: Observed<Vec<NetworkAcl>>,
    /// The route tables of those VPCs.
    pub route_tables: Observed<Vec<RouteTable>>,
}

/// The ports from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// One port.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// How many they are.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }

    /// Whether `port` is among them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Option<Self> {
        let both = Self { first: self.first.max(other.first), last: self.last.min(other.last) };
        (both.first <= both.last).then_some(both)
    }

    /// Those of `self` that are not in `other`.
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

/// An inbound rule of a security group.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SecurityGroupRule.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroupRule {
    /// `sgr-…`
    pub id: String,
    /// The security group.
    pub group: String,
    /// The TCP ports it opens; `None` if it is about another protocol.
    pub tcp: Option<Ports>,
    /// Whom it lets in.
    pub source: Source,
}

/// Whom an inbound rule lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// These addresses.
    Cidr(IpNet),
    /// The addresses of a prefix list, by id.
    PrefixList(String),
    /// The members of a security group: never dbt, whose endpoint is in another VPC.
    Group(String),
}

/// A network interface of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `ELB net/NAME/ID`, from which the load balancer is known.
    pub description: String,
    /// The subnet it is in.
    pub subnet: String,
    /// Its private addresses, IPv4 and IPv6: what targets of the same family see as the source.
    pub addresses: Vec<IpAddr>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// `subnet-…`
    pub id: String,
    /// The VPC.
    pub vpc: String,
    /// Its IPv4 range, and its IPv6 ranges.
    pub cidrs: Vec<IpNet>,
}

/// A network ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAcl {
    /// `acl-…`
    pub id: String,
    /// The subnets it stands before.
    pub subnets: Vec<String>,
    /// Its rules, in any order.
    pub entries: Vec<AclEntry>,
}

/// A rule of a network ACL.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NetworkAclEntry.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclEntry {
    /// Its place: the lowest number that matches decides.
    pub number: i32,
    /// Whether it is about what leaves the subnet.
    pub egress: bool,
    /// Whether it lets pass.
    pub allow: bool,
    /// The TCP ports it is about; `None` if it is about another protocol.
    pub tcp: Option<Ports>,
    /// The other end.
    pub peer: IpNet,
}

/// A route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTable {
    /// `rtb-…`
    pub id: String,
    /// The VPC.
    pub vpc: String,
    /// Whether subnets without a table of their own use it.
    pub main: bool,
    /// The subnets that use it by name.
    pub subnets: Vec<String>,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Routes to prefix lists, whose addresses are not read: the target of each. Those to gateway endpoints are left out.
    pub to_prefix_lists: Vec<String>,
}

/// A route.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Route.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// By what: `local`, `pcx-…`, `tgw-…`, …
    pub by: String,
    /// What it led to is gone.
    pub blackhole: bool,
}
