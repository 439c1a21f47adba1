//! `service.regions`: does the service support the Regions that dbt connects from?
//!
//! Only dbt's endpoints that are requested, being set up or available count. EC2 names an endpoint's Region only if it is
//! not the service's own.

use std::collections::BTreeMap;

use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Need, Remedy, Severity, Spec, Status};
use crate::ids::EndpointId;
use crate::snapshot::{Connection, ConnectionState, EndpointService};

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "service.regions",
    severities: &[(Severity::Warning, "always")],
    fails_when: "a dbt endpoint that is waiting or connected is in another Region, and the service does not list that \
                 Region as supported and available",
    failing_word: "unsupported",
    impact: "The existing endpoint keeps working, but dbt cannot create a new one in that Region.",
    fix_in_short: "`modify-vpc-endpoint-service-configuration --add-supported-regions`",
    cloudtrail_events: &["ModifyVpcEndpointServiceConfiguration"],
    branch: Branch::Service,
    needs: Some(Need::DbtPrincipals),
    evaluate,
    ..Spec::USUAL
};

/// The result for the endpoint service.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html#endpoint-service-cross-region>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.for_service(&SPEC, |service| match context.topology.connections_of(&service.id) {
        Ok(connections) => judge(service, &connections, context),
        Err(why) => why.into(),
    })
}

fn judge(service: &EndpointService, connections: &[&Connection], context: CheckContext<'_>) -> Status {
    let regions = regions_of_dbt(connections, context);
    let with = |wanted: Option<bool>| -> BTreeMap<&str, Vec<&EndpointId>> {
        regions
            .iter()
            .filter(|(name, _)| support(service, name) == wanted)
            .map(|(name, own)| (*name, own.clone()))
            .collect()
    };
    let (unsupported, unknown) = (with(Some(false)), with(None));
    match unknown.keys().next() {
        _ if !unsupported.is_empty() => Status::fail(finding(service, &unsupported, context)),
        Some(region) => Status::Unknown(format!("EC2 does not say whether the service supports {region}")),
        None => Status::pass("every Region that dbt connects from is supported"),
    }
}

/// The other Regions that dbt connects from, each with its endpoints.
fn regions_of_dbt<'a>(
    connections: &[&'a Connection],
    context: CheckContext<'_>,
) -> BTreeMap<&'a str, Vec<&'a EndpointId>> {
    let is_dbts = |connection: &&Connection| {
        connection.owner.as_ref().is_some_and(|owner| context.policy.dbt_accounts.contains(owner))
    };
    let in_use = |connection: &&Connection| {
        connection.state.is_connected() || connection.state == ConnectionState::PendingAcceptance
    };
    let mut regions: BTreeMap<&str, Vec<&EndpointId>> = BTreeMap::new();
    for connection in connections.iter().copied().filter(is_dbts).filter(in_use) {
        if let Some(region) = connection.region.as_deref() {
            regions.entry(region).or_default().push(&connection.endpoint);
        }
    }
    regions
}

/// Whether the service supports the Region; `None` if EC2 gives no state for it.
fn support(service: &EndpointService, name: &str) -> Option<bool> {
    let mut states = service.regions.iter().filter(|region| region.name == name).map(|region| region.state.as_deref());
    if states.clone().flatten().any(|state| state.eq_ignore_ascii_case("available")) {
        return Some(true);
    }
    if states.any(|state| state.is_none()) { None } else { Some(false) }
}

fn finding(
    service: &EndpointService,
    missing: &BTreeMap<&str, Vec<&EndpointId>>,
    context: CheckContext<'_>,
) -> Finding {
    let names: Vec<&str> = missing.keys().copied().collect();
    let supported = service
        .regions
        .iter()
        .map(|region| format!("supported: {} ({})", region.name, region.state.as_deref().unwrap_or("no state")));
    let endpoints = missing.iter().flat_map(|(region, endpoints)| {
        endpoints.iter().map(move |endpoint| format!("dbt's endpoint {endpoint} is in {region}"))
    });
    Finding::new(
        Severity::Warning,
        format!("unsupported Region: dbt connects from {}", names.join(", ")),
        SPEC.impact,
        Remedy::new(
            "If your dbt environment is there, add the Region to the endpoint service.",
            Some(
                Command::new("ec2 modify-vpc-endpoint-service-configuration", context.region)
                    .option("service-id", &service.id)
                    .options("add-supported-regions", &names),
            ),
            context.region.endpoint_service(service.id.as_str()),
        ),
    )
    .with_evidence(endpoints.chain(supported).collect())
    .with_parts(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{SupportedRegion, Topology};
    use crate::testing::{
        DBT, UNTRUSTED, call_error, connection, endpoint_service, failures, only_status, service, topology,
        with_context,
    };

    fn connection_from(region: Option<&str>, owner: &str, state: &str) -> Connection {
        Connection { region: region.map(ToOwned::to_owned), ..connection(1, Some(owner), state) }
    }

    /// A service with these supported Regions and their states, and these connections.
    fn topology_with(supported: &[(&str, &str)], connections: Vec<Connection>) -> Topology {
        let region = |(name, state): &(&str, &str)| SupportedRegion {
            name: (*name).to_owned(),
            state: Some((*state).to_owned()),
        };
        let regions = supported.iter().map(region).collect();
        Topology {
            connections: Some(Ok(connections)),
            ..topology(EndpointService { regions, ..endpoint_service() }, [])
        }
    }

    #[test]
    fn the_regions_of_dbts_endpoints_in_use_must_be_supported() {
        let us = Some("us-east-1");
        let table = [
            (vec![], None, DBT, "available", true),
            (vec![], us, DBT, "available", false),
            (vec![], us, DBT, "pendingAcceptance", false),
            (vec![], us, DBT, "rejected", true),
            (vec![], us, DBT, "deleted", true),
            (vec![], us, UNTRUSTED, "available", true),
            (vec![("us-east-1", "Available")], us, DBT, "available", true),
            (vec![("us-east-1", "Deleting")], us, DBT, "available", false),
            (vec![("us-west-2", "Available")], us, DBT, "available", false),
        ];
        for (supported, region, owner, state, passes) in table {
            let topology = topology_with(&supported, vec![connection_from(region, owner, state)]);
            let results = with_context(&topology, evaluate);
            assert_eq!(failures(&results).is_empty(), passes, "{supported:?} {region:?} {owner} {state}");
        }
    }

    #[test]
    fn a_region_without_a_state_is_unknown() {
        let us = SupportedRegion { name: "us-east-1".to_owned(), state: None };
        let service = EndpointService { regions: vec![us], ..endpoint_service() };
        let connections = Some(Ok(vec![connection_from(Some("us-east-1"), DBT, "available")]));
        let topology = Topology { connections, ..topology(service, []) };
        assert!(matches!(only_status(with_context(&topology, evaluate)), Status::Unknown(_)));
    }

    #[test]
    fn connections_that_could_not_be_read_are_unknown() {
        let error = call_error("ec2:DescribeVpcEndpointConnections");
        let failed = Topology { connections: Some(Err(error.clone())), ..topology_with(&[], vec![]) };
        let of_one = Topology { unread_connections: [(service(1), error)].into(), ..topology_with(&[], vec![]) };
        for topology in [failed, of_one] {
            assert!(matches!(only_status(with_context(&topology, evaluate)), Status::Unknown(_)));
        }
    }
}
