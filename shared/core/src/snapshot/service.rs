//! Endpoint services.

use serde::{Deserialize, Serialize};

use crate::ids::{Arn, ServiceId};
use crate::snapshot::Observed;

/// An endpoint service's configuration.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ServiceConfiguration.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointService {
    pub id: ServiceId,
    /// Its `Name` tag.
    pub name: Option<String>,
    /// The name that consumers need: `com.amazonaws.vpce.REGION.vpce-svc-…`.
    pub service_name: Option<String>,
    /// `Pending`, `Available`, `Deleting`, `Deleted` or `Failed`, as EC2 wrote it.
    pub state: Option<String>,
    pub acceptance_required: Option<bool>,
    /// The names of the zones that it offers to consumers. `None` if unknown: EC2 may return only ids.
    pub zones: Option<Vec<String>>,
    /// The ids of these zones, used to find the names and not stored.
    #[serde(skip)]
    pub zone_ids: Vec<String>,
    /// The IP address types of endpoints that it takes: `ipv4`, `ipv6`, as EC2 wrote them; empty if EC2 omitted them.
    pub ip_address_types: Vec<String>,
    /// The load balancers behind it, including Gateway Load Balancers.
    pub load_balancers: Vec<Arn>,
    /// Its private DNS name, if it has one.
    pub private_dns: Option<PrivateDns>,
    /// The other Regions from which consumers can connect.
    pub regions: Vec<SupportedRegion>,
    /// The allowed principals, as EC2 writes them; not read in every run.
    pub principals: Option<Observed<Vec<String>>>,
}

/// A private DNS name and the verification of its ownership.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/manage-dns-names.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateDns {
    pub name: String,
    /// `pendingVerification`, `verified` or `failed`, as EC2 wrote it.
    pub state: Option<String>,
    pub record: Option<(String, String)>,
}

/// A Region from which consumers can connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportedRegion {
    /// `us-east-1`, …
    pub name: String,
    /// `Pending`, `Available`, …, as EC2 wrote it.
    pub state: Option<String>,
}

/// All events that a connection notification can have.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVpcEndpointConnectionNotification.html>
pub const EVENTS: [&str; 4] = ["Accept", "Connect", "Delete", "Reject"];

/// A connection notification: EC2 publishes events of an endpoint service's connections to an SNS topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// `vpce-nfn-…`
    pub id: String,
    pub service: ServiceId,
    pub topic: String,
    /// The events that it publishes, from [`EVENTS`].
    pub events: Vec<String>,
    pub enabled: bool,
}
