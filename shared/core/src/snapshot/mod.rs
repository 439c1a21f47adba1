//! A run's reads from AWS, as plain values without SDK types. Each read is either a value or the error of its call.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

mod certificate;
mod connection;
mod gone;
mod hostname;
mod load_balancer;
mod network;
mod service;
mod stored_path;
mod topology;
mod traffic;

pub use self::certificate::Certificate;
pub use self::connection::{Connection, ConnectionState, Connections};
pub use self::hostname::{HOSTNAME_TAG, Hostname, ReachedNetworks};
pub use self::load_balancer::{
    Coverage, CrossZoneOverride, Description, Health, Listener, LoadBalancer, MIN_HEALTHY_TAG, PROXY_PROTOCOL_TAG,
    RoutingThreshold, Target, TargetGroup, TargetGroupAttributes, TargetKind, Zone, interface_description,
};
pub use self::network::{
    AclEntry, Interface, Network, NetworkAcl, Peer, Ports, Route, RouteTable, SecurityGroupRule, Subnet,
};
pub use self::service::{EVENTS, EndpointService, Notification, PrivateDns, SupportedRegion};
pub use self::stored_path::{KnownDetails, StoredPath};
pub use self::topology::Topology;
pub use self::traffic::{LastConnection, Traffic};

/// The result of a read: the value, or the error. A failed read is never an empty value.
pub type Observed<T> = Result<T, CallError>;

/// A call to AWS that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {}", self.reason())]
pub struct CallError {
    /// The call as IAM names its action: `ec2:DescribeVpcEndpointConnections`.
    pub call: &'static str,
    pub kind: ErrorKind,
    /// AWS's message, or a description of the failure if AWS did not answer.
    pub message: String,
}

/// The kinds of failure of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// AWS refused it, with this code: `Throttling`, `UnauthorizedOperation`, …
    Refused(String),
    /// No credentials to sign the call.
    NoCredentials,
    /// AWS did not answer in time, or its answer did not arrive.
    NoAnswer,
    /// AWS's answer contradicts its documentation.
    Malformed,
    /// The call was not made or not repeated: the run had no time left, or other runs came first.
    GivenUp,
}

/// The codes of a missing permission: EC2 answers `UnauthorizedOperation`, ELB `AccessDenied`, others the rest.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/CommonErrors.html>
const DENIED: [&str; 4] = ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthorizationError"];

/// The codes of a call that came too soon after others of the account: EC2 answers `RequestLimitExceeded`, ELB
/// `Throttling`, other services the rest.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>
const THROTTLED: [&str; 5] =
    ["RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "TooManyRequestsException"];

impl CallError {
    /// The failure of `call`.
    pub fn new(call: &'static str, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { call, kind, message: message.into() }
    }

    /// AWS's code, if AWS gave one.
    pub fn code(&self) -> Option<&str> {
        match &self.kind {
            ErrorKind::Refused(code) => Some(code),
            _ => None,
        }
    }

    /// Whether AWS refused it because a permission is missing.
    pub fn is_denied(&self) -> bool {
        self.code().is_some_and(|code| DENIED.contains(&code))
    }

    /// Whether AWS refused it because the account makes too many calls.
    pub fn is_throttled(&self) -> bool {
        self.code().is_some_and(|code| THROTTLED.contains(&code))
    }

    /// AWS's code and message; without a code, the message.
    pub fn reason(&self) -> String {
        match self.code() {
            Some(code) if self.message.is_empty() => code.to_owned(),
            Some(code) => format!("{code}: {}", self.message),
            None => self.message.clone(),
        }
    }
}

/// A failure is never stored: storing a read that contains one is an error.
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

/// The calls of a run, by their IAM actions, each with its first error if it failed.
pub type Calls = BTreeMap<&'static str, Option<CallError>>;

/// The reason why a value is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// This run did not ask for it.
    #[error("it was not read in this run")]
    NotAsked,
    /// The value is unknown for this reason: the read failed, or AWS omitted it.
    #[error("{0}")]
    Unknown(String),
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self::Unknown(why)
    }
}

impl From<&CallError> for Unread {
    fn from(error: &CallError) -> Self {
        Self::Unknown(error.to_string())
    }
}

/// The value of an optional read.
pub fn known<T>(read: Option<&Observed<T>>) -> Result<&T, Unread> {
    Ok(read.ok_or(Unread::NotAsked)?.as_ref()?)
}
