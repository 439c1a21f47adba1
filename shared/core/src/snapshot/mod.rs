//! What a run read from AWS, as plain values without SDK types. Each read is either a value or the error of its call.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

mod certificate;
mod connection;
mod hostname;
mod load_balancer;
mod network;
mod path;
mod service;
mod topology;
mod traffic;

pub use self::certificate::Certificate;
pub use self::connection::{Connection, ConnectionState};
pub use self::hostname::{HOSTNAME_TAG, Hostname};
pub use self::load_balancer::{
    Coverage, CrossZoneOverride, Description, Health, Listener, LoadBalancer, Target, TargetGroup,
    TargetGroupAttributes, TargetKind, Zone, interface_description,
};
pub use self::network::{
    AclEntry, Interface, Network, NetworkAcl, Peer, Ports, Route, RouteTable, SecurityGroupRule, Subnet,
};
pub use self::path::Path;
pub use self::service::{EVENTS, EndpointService, Notification, PrivateDns, SupportedRegion};
pub use self::topology::Topology;
pub use self::traffic::{LastConnection, Traffic};

/// The result of a read: the value, or why it failed. A failed read is never an empty value.
pub type Observed<T> = Result<T, CallError>;

/// A call to AWS that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {error}")]
pub struct CallError {
    /// The call as IAM names its action: `ec2:DescribeVpcEndpointConnections`.
    pub call: &'static str,
    /// AWS's code and message, or what went wrong before AWS answered.
    pub error: String,
    /// Whether AWS denied it because a permission is missing.
    pub denied: bool,
}

/// What failed is never stored: whoever stores a read that contains a failure gets an error.
impl Serialize for CallError {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom(format_args!("{self}: it cannot be stored")))
    }
}

impl<'de> Deserialize<'de> for CallError {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("no failed read is ever stored"))
    }
}

/// The calls of a run, as IAM names their actions, each with its first error if it failed.
pub type Calls = BTreeMap<&'static str, Option<CallError>>;

/// Why a value is unknown if this run did not read it.
pub const NOT_READ: &str = "it was not read in this run";

/// The value of an optional read.
///
/// # Errors
/// Why the value is unknown: the read failed, or this run did not make it.
pub fn known<T>(read: Option<&Observed<T>>) -> Result<&T, String> {
    match read {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(NOT_READ.to_owned()),
    }
}
