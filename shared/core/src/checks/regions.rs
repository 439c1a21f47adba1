//! `service.regions`: does the service support the Regions that dbt connects from?
//!
//! Only dbt's endpoints that are requested, being set up or available count, and only in a Region other than the
//! service's. A Region that AWS is still adding is unknown: it may become available or fail.

use std::collections::BTreeMap;

use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Need, Remedy, Severity, Spec, Status};
use crate::ids::EndpointId;
use crate::snapshot::{Connection, ConnectionState, EndpointService, SupportedRegion};

pub(crate) const SPEC: Spec = Spec {
    id: "service.regions",
    in_short: "The service supports each Region that dbt connects from.",
    severities: &[(Severity::Warning, "always")],
    fails_when: "a dbt endpoint that is waiting or connected is in another Region, and the service does not list that \
                 Region as supported, or lists it as `Deleting`, `Deleted`, `Failed` or `Closed`",
    failing_word: "unsupported",
    impact: "The existing endpoint keeps working, but dbt cannot create a new one in that Region.",
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
    let missing: BTreeMap<&str, Missing<'_>> = regions
        .iter()
        .filter_map(|(name, endpoints)| match support(service, name) {
            Support::Unlisted => Some((*name, Missing { state: None, endpoints })),
            Support::Over(state) => Some((*name, Missing { state: Some(state), endpoints })),
            Support::Available | Support::Pending | Support::Unclear(_) => None,
        })
        .collect();
    let unknown = regions.keys().find_map(|name| match support(service, name) {
        Support::Pending => Some(format!("AWS is still adding {name} to the supported Regions (Pending)")),
        Support::Unclear(None) => Some(format!("EC2 does not say whether the service supports {name}")),
        Support::Unclear(Some(state)) => Some(format!("{name} is in unknown state '{state}' for the service")),
        Support::Available | Support::Unlisted | Support::Over(_) => None,
    });
    match unknown {
        unknown if !missing.is_empty() => Status::fail(finding(service, &missing, context).with_unknown_rest(unknown)),
        Some(why) => Status::Unknown(why),
        None => Status::pass("every Region that dbt connects from is supported"),
    }
}

/// The other Regions from which dbt connects, each with its endpoints.
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

/// The state of a Region, as EC2 reports it.
enum Support<'a> {
    Available,
    /// AWS is adding it.
    Pending,
    /// `Deleting`, `Deleted`, `Failed` or `Closed`: consumers cannot connect from it now, or soon.
    Over(&'a str),
    /// The service does not list it.
    Unlisted,
    /// It has no state, or an unknown one.
    Unclear(Option<&'a str>),
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SupportedRegionDetail.html>
fn support<'a>(service: &'a EndpointService, name: &str) -> Support<'a> {
    let of_region = |region: &&SupportedRegion| region.name == name;
    let mut states = service.regions.iter().filter(of_region).map(|region| region.state.as_deref());
    let is = |state: Option<&str>, wanted: &str| state.is_some_and(|state| state.eq_ignore_ascii_case(wanted));
    if states.clone().any(|state| is(state, "Available")) {
        return Support::Available;
    }
    match states.next() {
        None => Support::Unlisted,
        Some(state) if is(state, "Pending") => Support::Pending,
        Some(Some(state)) if ["Deleting", "Deleted", "Failed", "Closed"].iter().any(|over| is(Some(state), over)) => {
            Support::Over(state)
        }
        Some(state) => Support::Unclear(state),
    }
}

/// An unsupported Region of dbt: its state, if the service lists it, and dbt's endpoints there.
struct Missing<'a> {
    state: Option<&'a str>,
    endpoints: &'a [&'a EndpointId],
}

fn finding(service: &EndpointService, missing: &BTreeMap<&str, Missing<'_>>, context: CheckContext<'_>) -> Finding {
    let unlisted: Vec<&str> =
        missing.iter().filter(|(_, region)| region.state.is_none()).map(|(name, _)| *name).collect();
    let over =
        missing.iter().filter_map(|(name, region)| Some(format!("{name} is '{}' for this service", region.state?)));
    let over: Vec<String> = over.collect();
    let summary = match &unlisted[..] {
        [] => format!("{}; dbt connects from it", over.join(", ")),
        unlisted => format!("unsupported Region: dbt connects from {}", unlisted.join(", ")),
    };
    let supported = service
        .regions
        .iter()
        .map(|region| format!("listed: {} ({})", region.name, region.state.as_deref().unwrap_or("no state")));
    let endpoints = missing.iter().flat_map(|(name, region)| {
        region.endpoints.iter().map(move |endpoint| format!("dbt's endpoint {endpoint} is in {name}"))
    });
    let describe = Command::new("ec2 describe-vpc-endpoint-service-configurations", context.region)
        .option("service-ids", &service.id)
        .literal("--query 'ServiceConfigurations[].SupportedRegions'");
    let add = Command::new("ec2 modify-vpc-endpoint-service-configuration", context.region)
        .option("service-id", &service.id)
        .options("add-supported-regions", &unlisted);
    let (action, command) = if unlisted.is_empty() { (GET_IT_BACK, describe) } else { (ADD, add) };
    let part = |(name, region): (&&str, &Missing<'_>)| match region.state {
        Some(state) => format!("{name} {state}"),
        None => (*name).to_owned(),
    };
    Finding::new(
        Severity::Warning,
        summary,
        SPEC.impact,
        Remedy::new(action, Some(command), context.region.endpoint_service(service.id.as_str())),
    )
    .with_evidence(endpoints.chain(supported).collect())
    .with_parts(missing.iter().map(part))
}

/// <https://aws.amazon.com/privatelink/pricing/>
const ADD: &str = "If your dbt environment is there, add the Region to the endpoint service. AWS charges you, the provider, for a \
     Region as long as it is active.";

const GET_IT_BACK: &str = "If your dbt environment is there, and nobody removed the Region on purpose: wait until the command no longer lists it, then \
                           add it again (the runbook has the command). AWS charges you, the provider, for it while it is active. If it \
                           stays in the list, ask AWS Support.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Topology;
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
            (vec![("us-east-1", "Failed"), ("us-east-1", "Available")], us, DBT, "available", true),
            (vec![("us-west-2", "Available")], us, DBT, "available", false),
        ];
        for (supported, region, owner, state, passes) in table {
            let topology = topology_with(&supported, vec![connection_from(region, owner, state)]);
            let results = with_context(&topology, evaluate);
            assert_eq!(failures(&results).is_empty(), passes, "{supported:?} {region:?} {owner} {state}");
        }
    }

    #[test]
    fn each_state_of_a_supported_region_has_its_result() {
        let table = [
            ("Available", "pass: every Region that dbt connects from is supported"),
            ("available", "pass: every Region that dbt connects from is supported"),
            ("Pending", "unknown: AWS is still adding us-east-1 to the supported Regions (Pending)"),
            ("Deleting", "fail: us-east-1 is 'Deleting' for this service; dbt connects from it"),
            ("Deleted", "fail: us-east-1 is 'Deleted' for this service; dbt connects from it"),
            ("Failed", "fail: us-east-1 is 'Failed' for this service; dbt connects from it"),
            ("Closed", "fail: us-east-1 is 'Closed' for this service; dbt connects from it"),
            ("newState", "unknown: us-east-1 is in unknown state 'newState' for the service"),
        ];
        for (state, expected) in table {
            let connections = vec![connection_from(Some("us-east-1"), DBT, "available")];
            let topology = topology_with(&[("us-east-1", state)], connections);
            let said = match only_status(with_context(&topology, evaluate)) {
                Status::Pass(why) => format!("pass: {why}"),
                Status::Unknown(why) => format!("unknown: {why}"),
                Status::Fail(finding) => {
                    let command = finding.remedy.command.unwrap();
                    assert!(!command.contains("add-supported-regions"), "it was run before: {command}");
                    format!("fail: {}", finding.summary)
                }
                Status::NotAsked => unreachable!("it was asked"),
            };
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn the_remedy_states_that_another_region_costs_money() {
        let connections = ["us-east-1", "us-west-2"].map(|region| connection_from(Some(region), DBT, "available"));
        let topology = topology_with(&[("us-west-2", "Pending")], connections.to_vec());
        let Status::Fail(finding) = only_status(with_context(&topology, evaluate)) else { panic!("it fails") };
        assert_eq!(finding.summary, "unsupported Region: dbt connects from us-east-1");
        assert!(finding.remedy.action.contains("charges you"), "{}", finding.remedy.action);
        assert!(finding.remedy.command.unwrap().ends_with("--add-supported-regions us-east-1"));
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
    fn unread_connections_are_unknown() {
        let error = call_error("ec2:DescribeVpcEndpointConnections");
        let failed = Topology { connections: Some(Err(error.clone())), ..topology_with(&[], vec![]) };
        let of_one = Topology { unread_connections: [(service(1), error)].into(), ..topology_with(&[], vec![]) };
        for topology in [failed, of_one] {
            assert!(matches!(only_status(with_context(&topology, evaluate)), Status::Unknown(_)));
        }
    }
}
