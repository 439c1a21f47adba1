//! `service.available`: is the endpoint service there, and does it take connections?

use std::collections::BTreeMap;

use super::{Check, Finding, Observation, Place, Remedy, Severity, Status};
use crate::ids::ServiceId;
use crate::snapshot::{EndpointService, Seen};

/// The observation for one of the configured endpoint services, from all that EC2 knows of them.
#[must_use]
pub fn evaluate(service: &ServiceId, known: &Seen<BTreeMap<ServiceId, EndpointService>>, place: &Place) -> Observation {
    let status = match known.as_ref().map(|known| known.get(service)) {
        Ok(Some(found)) => match found.state.as_deref() {
            // EC2 writes it with a capital letter, and other states of the same API without: compared without case.
            Some(state) if state.eq_ignore_ascii_case("available") => Status::Pass,
            Some(state) => fail(service, &format!("the endpoint service is '{state}', not available"), place),
            None => Status::Unknown("EC2 does not say in which state the endpoint service is".to_owned()),
        },
        Ok(None) => fail(service, "EC2 does not know this endpoint service", place),
        Err(unseen) => Status::Unknown(unseen.to_string()),
    };
    Observation { check: Check::ServiceAvailable, resource: service.to_string(), status }
}

fn fail(service: &ServiceId, summary: &str, place: &Place) -> Status {
    Status::Fail(Box::new(Finding {
        severity: Severity::Critical,
        summary: summary.to_owned(),
        meaning: "dbt cannot connect through this service, and the guard can tell nothing else about it.".to_owned(),
        evidence: vec![format!("asked for {service} in {}", place.region())],
        remedy: Remedy {
            what: "If it was deleted, create it anew and give dbt Support the new name. If the id is wrong, mend the \
                   stack's EndpointServiceIds. The stack must be in the service's account and Region."
                .to_owned(),
            command: Some(format!(
                "aws ec2 describe-vpc-endpoint-service-configurations --region {} --filters \
                 Name=service-id,Values={service}",
                place.region()
            )),
            console: place.endpoint_service(service.as_str()),
        },
        cause: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{place, service, unseen};

    fn status(known: &[EndpointService]) -> Status {
        let known = known.iter().map(|service| (service.id.clone(), service.clone())).collect();
        evaluate(&service(1), &Ok(known), &place()).status
    }

    fn service_in(state: Option<&str>) -> EndpointService {
        let state = state.map(ToOwned::to_owned);
        EndpointService { id: service(1), name: None, state, load_balancers: Vec::new(), principals: None }
    }

    #[test]
    fn only_an_available_service_passes() {
        assert_eq!(status(&[service_in(Some("Available"))]), Status::Pass);
        for state in ["Pending", "Deleting", "Deleted", "Failed", "new"] {
            assert!(matches!(status(&[service_in(Some(state))]), Status::Fail(_)), "{state}");
        }
        assert!(matches!(status(&[]), Status::Fail(_)), "a service EC2 does not know");
        assert!(matches!(status(&[service_in(None)]), Status::Unknown(_)), "a service without a state");
        let failed = Err(unseen("ec2:DescribeVpcEndpointServiceConfigurations"));
        assert!(matches!(evaluate(&service(1), &failed, &place()).status, Status::Unknown(_)));
    }
}
