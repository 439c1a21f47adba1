//! `service.private-dns`: is the service's private DNS name verified?

use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Remedy, Severity, Spec, Status};
use crate::ids::ServiceId;
use crate::snapshot::PrivateDns;

pub(crate) const SPEC: Spec = Spec {
    id: "service.private-dns",
    in_short: "The private DNS name, if there is one, is verified.",
    severities: &[(Severity::Warning, "always")],
    fails_when: "the endpoint service has a private DNS name whose state is not `verified`",
    failing_word: "unverified",
    impact: "dbt cannot use this name, so TLS connections that need it fail; the endpoint's own DNS names still work. \
             If the name was verified before, existing connections keep working, but AWS denies new requests.",
    cloudtrail_events: &["ModifyVpcEndpointServiceConfiguration", "StartVpcEndpointServicePrivateDnsVerification"],
    branch: Branch::Service,
    evaluate,
    ..Spec::USUAL
};

/// The result for the endpoint service. A service without a private DNS name passes.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/manage-dns-names.html>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.for_service(&SPEC, |service| match &service.private_dns {
        None => Status::pass("no private DNS name is set"),
        Some(dns) => judge(&service.id, dns, context),
    })
}

fn judge(service: &ServiceId, dns: &PrivateDns, context: CheckContext<'_>) -> Status {
    let PrivateDns { name, state, record } = dns;
    let Some(state) = state else {
        return Status::Unknown(format!("EC2 does not say whether the private DNS name {name} is verified"));
    };
    if state.eq_ignore_ascii_case("verified") {
        return Status::pass(format!("private DNS name is verified: {name}"));
    }
    let proof = record.as_ref().map(|(name, value)| format!("TXT record for the verification: {name} = {value}"));
    Status::fail(
        Finding::new(
            Severity::Warning,
            format!("private DNS name is not verified: {name}"),
            "dbt cannot use this name, so TLS connections to it fail. The endpoint's own DNS names still \
             work.",
            Remedy::new(
                "Add the TXT record to the public DNS zone of the name, then start the verification. It can \
                 take ten minutes.",
                Some(
                    Command::new("ec2 start-vpc-endpoint-service-private-dns-verification", context.region)
                        .option("service-id", service),
                ),
                context.region.endpoint_service(service.as_str()),
            ),
        )
        .with_evidence([format!("private DNS name: {name}, {state}")].into_iter().chain(proof).collect())
        // A different unverified name is a new failure.
        .with_parts([format!("{name}: {state}")])
        .stopping_dbt(true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::EndpointService;
    use crate::testing::{endpoint_service, failure, only_status, parts, topology, with_context};

    fn status(state: Option<&str>) -> Status {
        let dns = PrivateDns {
            name: "pg.example.com".to_owned(),
            state: state.map(ToOwned::to_owned),
            record: Some(("_abc".to_owned(), "vpce:xyz".to_owned())),
        };
        let service = EndpointService { private_dns: Some(dns), ..endpoint_service() };
        only_status(with_context(&topology(service, []), evaluate))
    }

    #[test]
    fn a_private_dns_name_must_be_verified() {
        assert!(
            matches!(only_status(with_context(&topology(endpoint_service(), []), evaluate)), Status::Pass(_)),
            "no name"
        );
        assert!(matches!(status(Some("verified")), Status::Pass(_)));
        assert!(matches!(status(None), Status::Unknown(_)));
        for state in ["pendingVerification", "failed", "new"] {
            let finding = failure(status(Some(state))).expect(state);
            assert_eq!(finding.evidence[1], "TXT record for the verification: _abc = vpce:xyz");
            assert_eq!(parts(&finding), [format!("pg.example.com: {state}")]);
        }
    }
}
