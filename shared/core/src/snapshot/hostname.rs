//! The hostname behind a target group's addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Observed;

/// The tag of a target group that contains its hostname.
pub const HOSTNAME_TAG: &str = "privatelink-guard:hostname";

/// The hostname in a group's tag `privatelink-guard:hostname`, and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hostname {
    pub name: String,
    /// Its addresses, of the group's address family; or the reason why they are unknown.
    pub addresses: Result<Vec<IpAddr>, String>,
    /// The networks of the subnets in the group's VPC, and the destinations of its routes, except the internet.
    pub networks: Observed<Vec<IpNet>>,
}
