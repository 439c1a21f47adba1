//! Evidence and commands shared by the checks of connections.

use super::{CheckContext, Command, Region};
use crate::ids::{AccountId, EndpointId, ServiceId};
use crate::snapshot::Connection;
use crate::text::limited;

/// Maximum number of endpoints listed in an alert; it counts the others.
pub(crate) const MAX_ENDPOINTS: usize = 20;

/// EC2's report on each connection, one line each.
pub(crate) fn evidence(context: CheckContext<'_>, connections: &[&Connection]) -> Vec<String> {
    let line = |connection: &&Connection| {
        let Connection { endpoint, owner, state, created, region, .. } = connection;
        let owner = owner.as_ref().map_or("an unnamed account", AccountId::as_str);
        let created = created.map(|created| format!(", created {created:.0}")).unwrap_or_default();
        let region = region.as_ref().map(|region| format!(", from {region}")).unwrap_or_default();
        let refused =
            context.refused.get(endpoint.as_str()).map(|error| format!(", AWS refused the change: {}", error.reason()));
        format!("{endpoint} of {owner}: {state}{created}{region}{}", refused.unwrap_or_default())
    };
    limited(connections.iter().map(line).collect(), MAX_ENDPOINTS)
}

/// The AWS CLI command that shows these connections. It searches the complete answer, because EC2 may refuse its
/// documented filter by endpoint id. A parsed id contains only hex digits.
/// <https://docs.aws.amazon.com/cli/latest/userguide/cli-usage-filter.html>
pub(crate) fn describe_command(service: &ServiceId, context: CheckContext<'_>, connections: &[&Connection]) -> Command {
    let ids: Vec<String> = endpoints(connections).map(|id| format!("'{id}'")).collect();
    Command::new("ec2 describe-vpc-endpoint-connections", context.region)
        .option("filters", format!("Name=service-id,Values={service}"))
        .literal(&format!("--query \"VpcEndpointConnections[?contains([{}],VpcEndpointId)]\"", ids.join(",")))
}

pub(crate) fn accept_command(service: &ServiceId, context: CheckContext<'_>, connections: &[&Connection]) -> Command {
    Command::new("ec2 accept-vpc-endpoint-connections", context.region)
        .option("service-id", service)
        .options("vpc-endpoint-ids", endpoints(connections))
}

/// The AWS CLI command that rejects these requests and revokes these connections: EC2 has one call for both.
pub(crate) fn reject_command<'a>(
    service: &ServiceId,
    endpoints: impl IntoIterator<Item = &'a EndpointId>,
    region: &Region,
) -> Command {
    Command::new("ec2 reject-vpc-endpoint-connections", region)
        .option("service-id", service)
        .options("vpc-endpoint-ids", endpoints)
}

/// The endpoints of these connections, up to the maximum in an alert.
pub(crate) fn endpoints<'a>(connections: &[&'a Connection]) -> impl Iterator<Item = &'a EndpointId> {
    connections.iter().take(MAX_ENDPOINTS).map(|connection| &connection.endpoint)
}
