//! Endpoint connections.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::VpcEndpointConnection;
use guard_core::ids::ServiceId;
use guard_core::snapshot::{Connection, ConnectionState, Observed};
use jiff::Timestamp;

use super::{FILTER_VALUES, Observer, filter};
use crate::errors::malformed_response;

const CALL: &str = "ec2:DescribeVpcEndpointConnections";

impl Observer {
    /// The connections of `services`: one call per 200 services and page.
    ///
    /// # Errors
    /// [`guard_core::snapshot::CallError`] if a page or row could not be read: a partial list is an error.
    pub async fn connections(&self, services: &BTreeSet<ServiceId>) -> Observed<Vec<Connection>> {
        let ids = services.iter().map(ToString::to_string).collect();
        // Without its row, a connection would count as deleted.
        let parse = |row: &VpcEndpointConnection| {
            connection(row).ok_or_else(|| malformed_response(CALL, "a connection has no ids"))
        };
        self.in_batches(ids, FILTER_VALUES, async |ids| {
            let call = self.ec2.describe_vpc_endpoint_connections().filters(filter("service-id", ids));
            list!(self, CALL, call, vpc_endpoint_connections, next_token, parse)
        })
        .await
    }
}

/// `None` if the row has no valid service id or endpoint id.
fn connection(row: &VpcEndpointConnection) -> Option<Connection> {
    Some(Connection {
        service: row.service_id()?.parse().ok()?,
        endpoint: row.vpc_endpoint_id()?.parse().ok()?,
        owner: row.vpc_endpoint_owner().and_then(|owner| owner.parse().ok()),
        state: ConnectionState::parse(row.vpc_endpoint_state().map_or("", |state| state.as_str())),
        created: row.creation_timestamp().and_then(|time| Timestamp::from_second(time.secs()).ok()),
        region: row.vpc_endpoint_region().map(ToOwned::to_owned),
    })
}
