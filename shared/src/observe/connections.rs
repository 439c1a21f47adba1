//! Endpoint connections.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{Filter, VpcEndpointConnection};
use jiff::Timestamp;

use super::{Observer, unseen, untold};
use crate::ids::ServiceId;
use crate::snapshot::{Connection, ConnectionState, Seen};

const CALL: &str = "ec2:DescribeVpcEndpointConnections";

/// Values that one filter takes.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html>
pub(super) const FILTER_VALUES: usize = 200;

impl Observer {
    /// Every connection of `services`, all pages: one call per 200 services and page.
    ///
    /// # Errors
    /// [`crate::snapshot::Unseen`] if any page or row could not be read: half a list would make a connection look gone.
    pub async fn connections(&self, services: &BTreeSet<ServiceId>) -> Seen<Vec<Connection>> {
        let ids: Vec<String> = services.iter().map(ToString::to_string).collect();
        let mut connections = Vec::new();
        // Without a service-id filter EC2 returns every connection of the account: no services, no call.
        for ids in ids.chunks(FILTER_VALUES) {
            let filter = Filter::builder().name("service-id").set_values(Some(ids.to_vec())).build();
            let mut pages =
                self.ec2.describe_vpc_endpoint_connections().filters(filter).into_paginator().items().send();
            while let Some(row) = pages.next().await {
                let row = row.map_err(|error| unseen(CALL, &error))?;
                // Passing over a row would make its connection look gone.
                connections.push(connection(&row).ok_or_else(|| untold(CALL, "a connection has no ids"))?);
            }
        }
        Ok(connections)
    }
}

/// `None` if EC2 did not say which endpoint of which service it is: what cannot be named cannot be acted on.
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
