//! Endpoint connections.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use super::CallError;
use crate::ids::{AccountId, EndpointId, ServiceId};

/// The connections that EC2 listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connections {
    /// The connections of services that were read completely.
    pub listed: Vec<Connection>,
    /// The other services, each with the error of an unreadable connection: the rest of such a service is unknown.
    pub unread: BTreeMap<ServiceId, CallError>,
}

/// The connection of a consumer's endpoint to an endpoint service, as EC2 described it in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub service: ServiceId,
    pub endpoint: EndpointId,
    /// The account that owns the endpoint, if EC2 named a well-formed one.
    pub owner: Option<AccountId>,
    pub state: ConnectionState,
    pub created: Option<Timestamp>,
    /// The endpoint's Region; `None` if it is the service's own.
    pub region: Option<String>,
}

/// The states of an endpoint connection.
///
/// EC2 sends them in lower camel case (`pendingAcceptance`), while its documentation and the SDK's enum have
/// `PendingAcceptance`, so they are compared without case.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_VpcEndpointConnection.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// Requested by the consumer, not yet accepted or rejected.
    PendingAcceptance,
    /// Accepted, and being set up.
    Pending,
    Available,
    /// Connected in some Availability Zones only. The state is in EC2's model; AWS's pages do not explain it.
    Partial,
    /// Rejected or revoked by the provider.
    Rejected,
    /// AWS could not set it up.
    Failed,
    /// Neither accepted nor rejected in time.
    Expired,
    /// The consumer is deleting it.
    Deleting,
    /// The consumer has deleted it.
    Deleted,
    /// An unknown state, as EC2 wrote it.
    Other(String),
}

impl ConnectionState {
    /// Parses a state as EC2 writes it.
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "pendingacceptance" => Self::PendingAcceptance,
            "pending" => Self::Pending,
            "available" => Self::Available,
            "partial" => Self::Partial,
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
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Pending | Self::Available | Self::Partial)
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PendingAcceptance => "pendingAcceptance",
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Partial => "partial",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Other(text) => text,
        })
    }
}
