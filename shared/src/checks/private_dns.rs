//! `service.private-dns`: can dbt use the service's own name?

use super::{Check, Finding, Observation, Remedy, Severity, Status, View};
use crate::ids::ServiceId;
use crate::snapshot::PrivateDns;

/// The observation for the endpoint service. A service without a private DNS name needs none.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/manage-dns-names.html>
#[must_use]
pub fn evaluate(view: View<'_>) -> Observation {
    view.of_service(Check::ServicePrivateDns, |service| match &service.private_dns {
        None => Status::Pass,
        Some(dns) => judge(&service.id, dns, view),
    })
}

fn judge(service: &ServiceId, dns: &PrivateDns, view: View<'_>) -> Status {
    let PrivateDns { name, state, record } = dns;
    let Some(state) = state else {
        return Status::Unknown(format!("EC2 does not say whether the private DNS name {name} is verified"));
    };
    if state.eq_ignore_ascii_case("verified") {
        return Status::Pass;
    }
    let proof = record.as_ref().map(|(name, value)| format!("TXT record that proves it: {name} = {value}"));
    Status::Fail(Box::new(Finding {
        severity: Severity::Warning,
        summary: format!("the private DNS name {name} is not verified ({state})"),
        meaning:
            "dbt cannot reach the service by this name, so TLS to it fails. By the endpoint's own names it connects."
                .to_owned(),
        evidence: [format!("private DNS name: {name}, {state}")].into_iter().chain(proof).collect(),
        remedy: Remedy {
            what:
                "Put the TXT record into the name's public DNS zone, then let AWS verify it; that can take ten minutes."
                    .to_owned(),
            command: Some(format!(
                "aws ec2 start-vpc-endpoint-service-private-dns-verification --region {} --service-id {service}",
                view.place.region()
            )),
            console: view.place.endpoint_service(service.as_str()),
        },
        cause: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::EndpointService;
    use crate::testing::{endpoint_service, paths, view};

    fn status(state: Option<&str>) -> Status {
        let dns = PrivateDns {
            name: "pg.example.com".to_owned(),
            state: state.map(ToOwned::to_owned),
            record: Some(("_abc".to_owned(), "vpce:xyz".to_owned())),
        };
        let service = EndpointService { private_dns: Some(dns), ..endpoint_service() };
        view(&paths(service, []), |view| evaluate(view).status)
    }

    #[test]
    fn a_name_must_be_verified() {
        assert_eq!(view(&paths(endpoint_service(), []), |view| evaluate(view).status), Status::Pass, "no name");
        assert_eq!(status(Some("verified")), Status::Pass);
        assert!(matches!(status(None), Status::Unknown(_)));
        for state in ["pendingVerification", "failed", "new"] {
            let Status::Fail(finding) = status(Some(state)) else { panic!("{state} fails") };
            assert_eq!(finding.evidence[1], "TXT record that proves it: _abc = vpce:xyz");
        }
    }
}
