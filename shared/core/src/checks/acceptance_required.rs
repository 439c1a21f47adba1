//! `service.acceptance-required`: does the endpoint service require acceptance of each request?

use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Remedy, Severity, Spec, Status};

pub(crate) const SPEC: Spec = Spec {
    id: "service.acceptance-required",
    in_short: "The endpoint service requires acceptance of requests.",
    severities: &[(Severity::Critical, "always")],
    fails_when: "the endpoint service does not require acceptance of requests",
    failing_word: "off",
    impact: "dbt can connect, and so can every other allowed principal, without anyone approving it.",
    cloudtrail_events: &["ModifyVpcEndpointServiceConfiguration"],
    branch: Branch::Service,
    evaluate,
    ..Spec::USUAL
};

/// The result for the endpoint service.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html#accept-reject-connection-requests>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.for_service(&SPEC, |service| match service.acceptance_required {
        Some(true) => Status::pass("acceptance is required"),
        Some(false) => Status::fail(
            Finding::new(
                Severity::Critical,
                "acceptance is OFF: allowed accounts connect unapproved",
                SPEC.impact,
                Remedy::new(
                    "Require acceptance again; the guard then accepts dbt's requests. Existing connections stay open, \
                     so also check who is connected.",
                    Some(
                        Command::new("ec2 modify-vpc-endpoint-service-configuration", context.region)
                            .option("service-id", &service.id)
                            .literal("--acceptance-required"),
                    ),
                    context.region.endpoint_service(service.id.as_str()),
                ),
            )
            .with_evidence(vec!["acceptance required: false".to_owned()]),
        ),
        None => Status::Unknown("EC2 does not say whether acceptance is required".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::EndpointService;
    use crate::testing::{endpoint_service, failure, only_status, topology, with_context};

    #[test]
    fn acceptance_must_be_required() {
        let status = |acceptance_required| {
            let topology = topology(EndpointService { acceptance_required, ..endpoint_service() }, []);
            only_status(with_context(&topology, evaluate))
        };
        assert!(matches!(status(Some(true)), Status::Pass(_)));
        assert_eq!(failure(status(Some(false))).unwrap().severity, Severity::Critical);
        assert!(matches!(status(None), Status::Unknown(_)));
    }
}
