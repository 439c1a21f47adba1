//! Endpoint connections.

use std::fmt;

use jiff::Timestamp;

use crate::ids::{AccountId, EndpointId, ServiceId};

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

impl ConnectionState {
    /// Whether the consumer is connected, or is being connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Pending | Self::Available)
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
