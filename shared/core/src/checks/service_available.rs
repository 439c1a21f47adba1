//! `service.available`: does the endpoint service exist, is it available, and does it support IPv4, which dbt's
//! endpoints use?

use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Remedy, Severity, Spec, Status};
use crate::ids::ServiceId;
use crate::snapshot::{EndpointService, known};

pub(crate) const SPEC: Spec = Spec {
    id: "service.available",
    in_short: "EC2 knows the endpoint service, it is available, and it accepts IPv4 endpoints.",
    severities: &[(Severity::Critical, "always")],
    fails_when: "EC2 does not know the endpoint service in the stack's account and Region, its state is not `Available`, or it \
                 accepts no IPv4 endpoints",
    failing_word: "unavailable",
    impact: "dbt cannot connect through this service. While EC2 does not know the service, its other checks are \
             *unknown*.",
    cloudtrail_events: &["DeleteVpcEndpointServiceConfigurations", "ModifyVpcEndpointServiceConfiguration"],
    branch: Branch::Service,
    evaluate,
    ..Spec::USUAL
};

fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let Some(service) = context.service else { return Vec::new() };
    let status = match known(context.topology.services.as_ref()).map(|services| services.get(service)) {
        Ok(Some(found)) => match found.state.as_deref() {
            // EC2 capitalizes this state, but not other states of the same API, so compare without case.
            Some(state) if state.eq_ignore_ascii_case("available") => address_types(found, context),
            Some(state) => fail(&format!("endpoint service is '{state}', not available"), true, service, context),
            None => Status::Unknown("EC2 does not report the endpoint service's state".to_owned()),
        },
        Ok(None) => fail(&format!("endpoint service not found in {}", context.region.name()), false, service, context),
        Err(why) => why.into(),
    };
    vec![CheckResult::new(&SPEC, service, status)]
}

/// dbt's endpoints are IPv4.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/privatelink-share-your-services.html#endpoint-service-ip-address-type>
fn address_types(found: &EndpointService, context: CheckContext<'_>) -> Status {
    let types = &found.ip_address_types;
    if types.is_empty() {
        return Status::Unknown("EC2 does not say which IP address types the endpoint service accepts".to_owned());
    }
    if types.iter().any(|kind| kind.eq_ignore_ascii_case("ipv4")) {
        return Status::pass("the endpoint service is available");
    }
    let summary = "endpoint service accepts no IPv4 endpoints";
    Status::fail(
        Finding::new(
            Severity::Critical,
            summary,
            "dbt cannot create an endpoint: its endpoints are IPv4.",
            Remedy::new(
                "The command lets the service accept IPv4 endpoints as well. Its load balancers already accept IPv4.",
                Some(
                    Command::new("ec2 modify-vpc-endpoint-service-configuration", context.region)
                        .option("service-id", &found.id)
                        .literal("--add-supported-ip-address-types ipv4"),
                ),
                context.region.endpoint_service(found.id.as_str()),
            ),
        )
        .with_evidence(vec![format!("supported: {}", types.join(", "))])
        .with_parts([summary])
        .stopping_dbt(true),
    )
}

fn fail(summary: &str, is_listed: bool, service: &ServiceId, context: CheckContext<'_>) -> Status {
    let region = context.region;
    Status::fail(
        Finding::new(
            Severity::Critical,
            summary,
            match is_listed {
                true => "dbt cannot connect through this service while it is in this state.",
                false => "If it was deleted, dbt cannot connect. Until EC2 finds it, its other checks are unknown.",
            },
            Remedy::new(
                match is_listed {
                    true => "Pending: wait a few minutes. Failed: ask AWS Support. Deleting or deleted: it cannot be restored. Create a \
                         new service, and send dbt Support its name: see the runbook.",
                    false => {
                        "If it was deleted, create it again and send dbt Support its new name. If the id is wrong, \
                         correct the stack's EndpointServiceIds. The stack must run in the service's account and \
                         Region."
                    }
                },
                Some(
                    Command::new("ec2 describe-vpc-endpoint-service-configurations", region)
                        .option("filters", format!("Name=service-id,Values={service}")),
                ),
                region.endpoint_service(service.as_str()),
            ),
        )
        .with_evidence(vec![format!("asked for {service} in {}", region.name())])
        .with_parts([summary])
        .stopping_dbt(true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Topology;
    use crate::testing::{endpoint_service, failure, only_status, topology, with_context};

    fn status(topology: &Topology) -> Status {
        only_status(with_context(topology, evaluate))
    }

    fn in_state(state: Option<&str>) -> Topology {
        let state = state.map(ToOwned::to_owned);
        topology(EndpointService { state, ..endpoint_service() }, [])
    }

    #[test]
    fn a_service_without_ipv4_is_critical() {
        let with = |types: &[&str]| {
            let ip_address_types = types.iter().map(ToString::to_string).collect();
            let state = Some("Available".to_owned());
            status(&topology(EndpointService { state, ip_address_types, ..endpoint_service() }, []))
        };
        assert!(matches!(with(&["ipv4"]), Status::Pass(_)));
        assert!(matches!(with(&["ipv6", "IPv4"]), Status::Pass(_)));
        assert!(matches!(with(&[]), Status::Unknown(_)), "EC2 left them out");
        let finding = failure(with(&["ipv6"])).unwrap();
        assert_eq!(
            (finding.severity, &*finding.summary),
            (Severity::Critical, "endpoint service accepts no IPv4 endpoints")
        );
        assert!(
            finding.stops_dbt && finding.remedy.command.unwrap().ends_with("--add-supported-ip-address-types ipv4")
        );
    }

    #[test]
    fn only_an_available_service_passes() {
        assert!(matches!(status(&in_state(Some("Available"))), Status::Pass(_)));
        for state in ["Pending", "Deleting", "Deleted", "Failed", "new"] {
            assert!(matches!(status(&in_state(Some(state))), Status::Fail(_)), "{state}");
        }
        let gone = Topology { services: Some(Ok([].into())), ..in_state(None) };
        assert!(matches!(status(&gone), Status::Fail(_)), "a service that EC2 does not know");
        assert!(matches!(status(&in_state(None)), Status::Unknown(_)), "a service without a state");
    }
}
