//! What was seen in AWS, in plain values. No type of the SDK gets past [`crate::observe`].

mod connection;
mod load_balancer;
mod network;
mod paths;
mod service;

pub use self::connection::{Connection, ConnectionState};
pub use self::load_balancer::{
    Coverage, CrossZoneOverride, Description, Health, Listener, LoadBalancer, Target, TargetGroup, TargetKind, Zone,
    interface_description,
};
pub use self::network::{
    AclEntry, Interface, Network, NetworkAcl, Ports, Route, RouteTable, SecurityGroupRule, Source, Subnet,
};
pub use self::paths::Paths;
pub use self::service::{EVENTS, EndpointService, Notification, PrivateDns, SupportedRegion};

/// What a read gave, or why it could not be seen. There is no third case: a read that failed is never "nothing there".
pub type Seen<T> = Result<T, Unseen>;

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {error}")]
pub struct Unseen {
    /// The call as IAM names its action: `ec2:DescribeVpcEndpointConnections`.
    pub call: &'static str,
    /// AWS's code and message, or what happened on the way to it.
    pub error: String,
    /// AWS refused it for want of permission.
    pub denied: bool,
}

/// Why something is not known that was not asked for.
pub const NOT_READ: &str = "it was not read in this run";

/// What a read gave that is not made in every run; in words, why it is not known.
///
/// # Errors
/// If it failed or was not made.
pub fn told<T>(read: Option<&Seen<T>>) -> Result<&T, String> {
    match read {
        Some(Ok(seen)) => Ok(seen),
        Some(Err(unseen)) => Err(unseen.to_string()),
        None => Err(NOT_READ.to_owned()),
    }
}
