//! `service.regions`: does the service support the Regions dbt connects from?

use std::collections::BTreeMap;

use super::catalogue::{ALWAYS, Absence};
use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status};
use crate::ids::EndpointId;
use crate::snapshot::{Connection, ConnectionState, EndpointService, known};

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "service.regions",
    severities: &[(Severity::Warning, "always")],
    fails_when: "a dbt endpoint that is waiting or connected is in another Region, and the service does not list that \
                 Region as supported and available",
    impact: "The existing endpoint keeps working, but dbt cannot create a new one in that Region.",
    fix_in_short: "`modify-vpc-endpoint-service-configuration --add-supported-regions`",
    can_flap: false,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: ALWAYS,
    cloudtrail_events: &["ModifyVpcEndpointServiceConfiguration"],
    group: Group::Settings,
    evaluate,
};

/// The result for the endpoint service. EC2 names an endpoint's Region only where it is not the service's own.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html#endpoint-service-cross-region>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.for_service(&SPEC, |service| match known(context.topology.connections.as_ref()) {
        Ok(connections) => judge(service, connections, context),
        Err(why) => Status::Unknown(why),
    })
}

fn judge(service: &EndpointService, connections: &[Connection], context: CheckContext<'_>) -> Status {
    let is_dbts = |connection: &&Connection| {
        let owner = connection.owner.as_ref();
        connection.service == service.id && owner.is_some_and(|owner| context.policy.dbt_accounts.contains(owner))
    };
    let alive = |connection: &&Connection| {
        use ConnectionState::{Available, Pending, PendingAcceptance};
        matches!(connection.state, Available | Pending | PendingAcceptance)
    };
    let supported = |name: &str| {
        let available =
            |state: &Option<String>| state.as_ref().is_none_or(|state| state.eq_ignore_ascii_case("available"));
        service.regions.iter().any(|region| region.name == name && available(&region.state))
    };
    let mut missing: BTreeMap<&str, Vec<&EndpointId>> = BTreeMap::new();
    for connection in connections.iter().filter(is_dbts).filter(alive) {
        let elsewhere = connection.region.as_deref().filter(|region| *region != context.region.name());
        if let Some(region) = elsewhere.filter(|region| !supported(region)) {
            missing.entry(region).or_default().push(&connection.endpoint);
        }
    }
    if missing.is_empty() {
        return Status::Pass;
    }
    let names: Vec<&str> = missing.keys().copied().collect();
    let lists = service
        .regions
        .iter()
        .map(|region| format!("supported: {} ({})", region.name, region.state.as_deref().unwrap_or("no state")));
    let endpoints = missing.iter().flat_map(|(region, endpoints)| {
        endpoints.iter().map(move |endpoint| format!("dbt's endpoint {endpoint} is in {region}"))
    });
    Status::Fail(Box::new(Finding {
        severity: Severity::Warning,
        summary: format!("dbt connects from {}, which the service does not support", names.join(" and ")),
        impact: "dbt's endpoint there can lose its connection, and cannot be created anew.".to_owned(),
        evidence: endpoints.chain(lists).collect(),
        remedy: Remedy {
            action: "Let consumers connect from there, if this is where dbt's environment is.".to_owned(),
            command: Some(format!(
                "aws ec2 modify-vpc-endpoint-service-configuration --region {} --service-id {} --add-supported-regions {}",
                context.region.name(),
                service.id,
                names.join(" ")
            )),
            console: context.region.endpoint_service(service.id.as_str()),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{SupportedRegion, Topology};
    use crate::testing::{call_error, connection, endpoint_service, failures, only_status, topology, with_context};

    const DBT: Option<&str> = Some("123456789012");

    fn from(region: Option<&str>, owner: Option<&str>, state: &str) -> Connection {
        Connection { region: region.map(ToOwned::to_owned), ..connection(1, owner, state) }
    }

    fn seen(supported: &[(&str, &str)], connections: Vec<Connection>) -> Topology {
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
    fn the_regions_of_dbts_living_endpoints_must_be_supported() {
        let us = Some("us-east-1");
        let table = [
            (vec![], None, DBT, "available", true),
            (vec![], Some("eu-central-1"), DBT, "available", true),
            (vec![], us, DBT, "available", false),
            (vec![], us, DBT, "pendingAcceptance", false),
            (vec![], us, DBT, "rejected", true),
            (vec![], us, DBT, "deleted", true),
            (vec![], us, Some("999999999999"), "available", true),
            (vec![("us-east-1", "Available")], us, DBT, "available", true),
            (vec![("us-east-1", "Deleting")], us, DBT, "available", false),
            (vec![("us-west-2", "Available")], us, DBT, "available", false),
        ];
        for (supported, region, owner, state, passes) in table {
            let results = with_context(&seen(&supported, vec![from(region, owner, state)]), evaluate);
            assert_eq!(failures(&results).is_empty(), passes, "{supported:?} {region:?} {owner:?} {state}");
        }
    }

    #[test]
    fn connections_that_could_not_be_read_are_unknown() {
        let failed = Some(Err(call_error("ec2:DescribeVpcEndpointConnections")));
        let topology = Topology { connections: failed, ..seen(&[], vec![]) };
        assert!(matches!(only_status(with_context(&topology, evaluate)), Status::Unknown(_)));
    }
}
