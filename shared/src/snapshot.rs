//! What was seen in AWS, in plain values. No type of the SDK gets past [`crate::observe`].

use std::fmt;

use jiff::Timestamp;

use crate::ids::{AccountId, Arn, EndpointId, ServiceId};

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

/// A consumer's endpoint on one of the endpoint services, as EC2 described it in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The endpoint service EC2 says it belongs to.
    pub service: ServiceId,
    /// The consumer's endpoint.
    pub endpoint: EndpointId,
    /// The account that owns the endpoint, if EC2 named a well-formed one.
    pub owner: Option<AccountId>,
    /// Where the connection stands.
    pub state: ConnectionState,
    /// When the endpoint was created.
    pub created: Option<Timestamp>,
    /// The endpoint's Region, when it is not the service's own.
    pub region: Option<String>,
}

/// The states of an endpoint connection.
///
/// EC2 sends them in lower camel case (`pendingAcceptance`) while its documentation and the SDK's enum write
/// `PendingAcceptance`, so they are compared without case. A state this tool does not know stays what it is.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_VpcEndpointConnection.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// The consumer asks; nobody has answered.
    PendingAcceptance,
    /// Accepted, and being set up.
    Pending,
    /// Traffic flows.
    Available,
    /// The provider said no, or took its yes back.
    Rejected,
    /// AWS could not set it up.
    Failed,
    /// Nobody answered in time.
    Expired,
    /// The consumer is deleting it.
    Deleting,
    /// The consumer has deleted it.
    Deleted,
    /// A state this tool does not know, as EC2 wrote it.
    Other(String),
}

impl ConnectionState {
    /// Reads what EC2 wrote.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "pendingacceptance" => Self::PendingAcceptance,
            "pending" => Self::Pending,
            "available" => Self::Available,
            "rejected" => Self::Rejected,
            "failed" => Self::Failed,
            "expired" => Self::Expired,
            "deleting" => Self::Deleting,
            "deleted" => Self::Deleted,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PendingAcceptance => "pendingAcceptance",
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Other(text) => text,
        })
    }
}

/// An endpoint service's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointService {
    /// Its id.
    pub id: ServiceId,
    /// Its `Name` tag.
    pub name: Option<String>,
    /// `Pending`, `Available`, `Deleting`, `Deleted` or `Failed`, as EC2 wrote it.
    pub state: Option<String>,
    /// The Network Load Balancers behind it.
    pub load_balancers: Vec<Arn>,
    /// Who may ask to connect, as EC2 writes it; not read in every run.
    pub principals: Option<Seen<Vec<String>>>,
}

/// A Network Load Balancer, and what this run saw of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Its ARN.
    pub arn: Arn,
    /// Its target groups: those that its listeners forward to.
    pub target_groups: Seen<Vec<TargetGroup>>,
    /// Its own attribute `load_balancing.cross_zone.enabled`; not read in every run.
    pub cross_zone: Option<Seen<bool>>,
}

impl LoadBalancer {
    /// The name, which its ARN carries: `loadbalancer/net/NAME/ID`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.arn.resource().split('/').nth(2).unwrap_or_else(|| self.arn.resource())
    }
}

/// A target group that a listener forwards to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// Its ARN.
    pub arn: Arn,
    /// Whether its targets are checked at all, and where: `TCP on traffic-port`.
    pub health_check: Option<String>,
    /// Its targets with their health; not read in every run.
    pub targets: Option<Seen<Vec<Target>>>,
    /// Its attribute `load_balancing.cross_zone.enabled`; not read in every run.
    pub cross_zone: Option<Seen<CrossZoneOverride>>,
}

impl TargetGroup {
    /// The name, which its ARN carries: `targetgroup/NAME/ID`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.arn.resource().split('/').nth(1).unwrap_or_else(|| self.arn.resource())
    }
}

/// A target group's say in cross-zone load balancing.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-cross-zone.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossZoneOverride {
    /// `true`, whatever the load balancer says.
    On,
    /// `false`, whatever the load balancer says.
    Off,
    /// `use_load_balancer_configuration`, the default.
    LoadBalancer,
}

/// A registered target and its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Instance id, IP address, or load balancer ARN.
    pub id: String,
    /// The port it is registered with.
    pub port: Option<u16>,
    /// The zone, when ELB says it (it does for IP targets); `all` for addresses outside the VPC.
    pub zone: Option<String>,
    /// The health ELB reports.
    pub health: Health,
    /// The reason code, e.g. `Target.FailedHealthChecks`.
    pub reason: Option<String>,
    /// The reason in ELB's words.
    pub description: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match &self.zone {
            Some(zone) => write!(f, " ({zone})"),
            None => Ok(()),
        }
    }
}

/// The health of a target.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Takes traffic.
    Healthy,
    /// Fails its health checks.
    Unhealthy,
    /// Fails its health checks, and its connections are being drained.
    UnhealthyDraining,
    /// Being registered, or in its first health checks.
    Initial,
    /// Being deregistered.
    Draining,
    /// Not in use: no listener forwards to its group, or its zone is not enabled.
    Unused,
    /// Health checks are off.
    Unavailable,
    /// A state this tool does not know, or none.
    Other(String),
}

impl Health {
    /// Reads what ELB wrote.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "healthy" => Self::Healthy,
            "unhealthy" => Self::Unhealthy,
            "unhealthy.draining" => Self::UnhealthyDraining,
            "initial" => Self::Initial,
            "draining" => Self::Draining,
            "unused" => Self::Unused,
            "unavailable" => Self::Unavailable,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::UnhealthyDraining => "unhealthy.draining",
            Self::Initial => "initial",
            Self::Draining => "draining",
            Self::Unused => "unused",
            Self::Unavailable => "unavailable",
            Self::Other(text) => text,
        })
    }
}
