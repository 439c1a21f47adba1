//! The name that a target group's addresses come from.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Observed;

/// The tag of a target group that names it.
pub const HOSTNAME_TAG: &str = "privatelink-guard:hostname";

/// The name, as in the group's tag `privatelink-guard:hostname`, and what it resolves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hostname {
    /// The name.
    pub name: String,
    /// Its addresses, of the group's address family; or why they are not known.
    pub addresses: Result<Vec<IpAddr>, String>,
    /// The networks of the subnets of the group's VPC, and those that its routes lead to, without the internet.
    pub networks: Observed<Vec<IpNet>>,
}
