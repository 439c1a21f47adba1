//! The hostname behind a target group's addresses, and what its DNS answer proves.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Observed;
use crate::config::private_networks;

/// The tag of a target group that contains its hostname.
pub const HOSTNAME_TAG: &str = "privatelink-guard:hostname";

/// Maximum number of addresses in a DNS answer: the rest of a longer list is unknown.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/routing-policy-multivalue.html>
const MAX_ADDRESSES: usize = 8;

/// The hostname in a group's tag `privatelink-guard:hostname`, and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hostname {
    pub name: String,
    /// Its addresses, of the group's address family; or the reason why they are unknown.
    pub addresses: Result<Vec<IpAddr>, String>,
    /// The networks that the group's VPC reaches.
    pub networks: Observed<ReachedNetworks>,
}

/// The networks that a VPC reaches without the internet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedNetworks {
    /// The networks of the VPC's own subnets.
    pub own: Vec<IpNet>,
    /// The destinations of its routes, except those through an internet or NAT gateway and the default routes.
    pub routed: Vec<IpNet>,
}

impl ReachedNetworks {
    /// Whether the address is in a subnet of the VPC.
    pub fn is_own(&self, address: &IpAddr) -> bool {
        self.own.iter().any(|network| network.contains(address))
    }

    /// Whether the address can be a target: it is the VPC's own, or routed and private. ELB takes no public address.
    /// IPv6 has no private range that peered VPCs use.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-target-groups.html#target-type>
    fn reaches(&self, address: &IpAddr) -> bool {
        let is_private = || address.is_ipv6() || private_networks().any(|network| network.contains(address));
        self.is_own(address) || (self.routed.iter().any(|network| network.contains(address)) && is_private())
    }
}

impl Hostname {
    /// The addresses that should be registered.
    ///
    /// # Errors
    /// The reason why the DNS answer does not prove them.
    pub fn wanted(&self) -> Result<BTreeSet<IpAddr>, String> {
        let Self { name, addresses, networks } = self;
        if self.is_one_of_several() {
            return Err(format!("{name} has several addresses, and DNS returns only some at a time"));
        }
        let addresses = addresses.as_ref().map_err(|why| format!("{name} cannot be resolved: {why}"))?;
        let networks = networks.as_ref().map_err(ToString::to_string)?;
        if addresses.is_empty() {
            return Err(format!("{name} has no address of the target group's family"));
        }
        if addresses.len() >= MAX_ADDRESSES {
            return Err(format!("{name} has {MAX_ADDRESSES} addresses or more, and DNS may not return all"));
        }
        match addresses.iter().find(|address| !networks.reaches(address)) {
            Some(address) => Err(format!(
                "{name} resolves to {address}, which is in no private network that the target group's VPC reaches"
            )),
            None => Ok(addresses.iter().copied().collect()),
        }
    }

    /// Whether the name belongs to an Aurora cluster's writer. After a failover, the old writer continues as a reader: it
    /// is healthy, but refuses to write. A healthy target of any other name stays, whatever DNS answers.
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Endpoints.Cluster.html>
    pub(crate) fn is_writer(&self) -> bool {
        self.is_of_rds() && self.name.to_ascii_lowercase().contains(".cluster-") && !self.is_one_of_several()
    }

    /// Whether DNS answers with changing subsets of the name's addresses: the reader and custom endpoints of Aurora, and
    /// RDS Proxy, which adds and removes addresses as it scales.
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html>
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-connecting.html> (the form of the name)
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-network-prereqs.html> (the addresses)
    fn is_one_of_several(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        (self.is_of_rds() && name.contains(".proxy-"))
            || [".cluster-ro-", ".cluster-custom-"].iter().any(|kind| name.contains(kind))
    }

    fn is_of_rds(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        // In China the Region stands in between: …rds.cn-north-1.amazonaws.com.cn
        // https://docs.aws.amazon.com/general/latest/gr/rds-service.html
        name.contains(".rds.") && name.contains(".amazonaws.com")
    }
}
