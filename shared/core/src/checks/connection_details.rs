//! Evidence and commands that the checks of connections share.

use super::{CheckContext, limited};
use crate::ids::AccountId;
use crate::snapshot::Connection;

/// Endpoints that one alert names; it counts the others.
const MAX_ENDPOINTS: usize = 20;

/// What EC2 reported of each connection, a line each.
pub(super) fn evidence(context: CheckContext<'_>, connections: &[&Connection]) -> Vec<String> {
    let line = |connection: &&Connection| {
        let Connection { endpoint, owner, state, created, region, .. } = connection;
        let owner = owner.as_ref().map_or("an unnamed account", AccountId::as_str);
        let created = created.map(|created| format!(", created {created:.0}")).unwrap_or_default();
        let region = region.as_ref().map(|region| format!(", from {region}")).unwrap_or_default();
        let refused = context.refused.get(endpoint.as_str()).map(|why| format!(", AWS refused the change: {why}"));
        format!("{endpoint} of {owner}: {state}{created}{region}{}", refused.unwrap_or_default())
    };
    limited(connections.iter().map(line).collect(), MAX_ENDPOINTS)
}

/// The AWS CLI command that shows these connections.
pub(super) fn describe_command(context: CheckContext<'_>, connections: &[&Connection]) -> String {
    format!(
        "aws ec2 describe-vpc-endpoint-connections --region {} --filters Name=service-id,Values={} \
         Name=vpc-endpoint-id,Values={}",
        context.region.name(),
        context.service,
        endpoints(connections).join(",")
    )
}

/// The AWS CLI command that accepts these connections.
pub(super) fn accept_command(context: CheckContext<'_>, connections: &[&Connection]) -> String {
    command("accept", context, connections)
}

/// The AWS CLI command that rejects these requests and revokes these connections: EC2 has one call for both.
pub(super) fn reject_command(context: CheckContext<'_>, connections: &[&Connection]) -> String {
    command("reject", context, connections)
}

fn command(verb: &str, context: CheckContext<'_>, connections: &[&Connection]) -> String {
    format!(
        "aws ec2 {verb}-vpc-endpoint-connections --region {} --service-id {} --vpc-endpoint-ids {}",
        context.region.name(),
        context.service,
        endpoints(connections).join(" ")
    )
}

fn endpoints<'a>(connections: &[&'a Connection]) -> Vec<&'a str> {
    connections.iter().take(MAX_ENDPOINTS).map(|connection| connection.endpoint.as_str()).collect()
}
