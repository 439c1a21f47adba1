//! Endpoint connections.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::VpcEndpointConnection;
use guard_core::ids::ServiceId;
use guard_core::snapshot::{Connection, ConnectionState, Connections, Observed};
use jiff::Timestamp;

use super::{FILTER_VALUES, Observer, filter};
use crate::errors::malformed_response;

const CALL: &str = "ec2:DescribeVpcEndpointConnections";

impl Observer {
    /// The connections of `services`: one call per 200 services and page. A row without an endpoint id, as a transit
    /// gateway's attachment may cause, makes its own service's connections unreadable: it may be any connection, and
    /// without the row that connection would count as deleted.
    ///
    /// # Errors
    /// [`guard_core::snapshot::CallError`] if a page could not be read, or a row does not name its service: a partial
    /// list is an error.
    pub async fn connections(&self, services: &BTreeSet<ServiceId>) -> Observed<Connections> {
        let ids = services.iter().map(ToString::to_string).collect();
        let own_region = self.ec2.config().region().map(AsRef::as_ref);
        let parse = |row: &VpcEndpointConnection| {
            let service: Option<ServiceId> = row.service_id().and_then(|id| id.parse().ok());
            let service =
                service.ok_or_else(|| malformed_response(CALL, "a connection does not say of which service it is"))?;
            Ok(connection(row, &service, own_region).ok_or(service))
        };
        let rows: Vec<Result<Connection, ServiceId>> = self
            .in_batches(ids, FILTER_VALUES, async |ids| {
                let call = self.ec2.describe_vpc_endpoint_connections().filters(filter("service-id", ids));
                list!(self, CALL, call, vpc_endpoint_connections, next_token, parse)
            })
            .await?;
        let (mut listed, mut incomplete) = (Vec::new(), BTreeSet::new());
        for row in rows {
            match row {
                Ok(connection) => listed.push(connection),
                // Ignores services that were not asked about.
                Err(service) if services.contains(&service) => drop(incomplete.insert(service)),
                Err(_) => {}
            }
        }
        let unread = self.incomplete(CALL, "a connection", incomplete);
        listed.retain(|connection: &Connection| !unread.contains_key(&connection.service));
        Ok(Connections { listed, unread })
    }
}

/// `None` if the row has no valid endpoint id. EC2 may name the service's own Region.
fn connection(row: &VpcEndpointConnection, service: &ServiceId, own_region: Option<&str>) -> Option<Connection> {
    Some(Connection {
        service: service.clone(),
        endpoint: row.vpc_endpoint_id()?.parse().ok()?,
        owner: row.vpc_endpoint_owner().and_then(|owner| owner.parse().ok()),
        state: ConnectionState::parse(row.vpc_endpoint_state().map_or("", |state| state.as_str())),
        created: row.creation_timestamp().and_then(|time| Timestamp::from_second(time.secs()).ok()),
        region: row.vpc_endpoint_region().filter(|region| Some(*region) != own_region).map(ToOwned::to_owned),
    })
}
