//! `service.available`: is the endpoint service there, and does it take connections?

use super::{Check, Finding, Observation, Place, Remedy, Severity, Status, View, observed};
use crate::ids::ServiceId;

/// The observation for the endpoint service.
#[must_use]
pub fn evaluate(view: View<'_>) -> Observation {
    let View { service, place, .. } = view;
    let status = match view.paths.services.as_ref().map(|known| known.get(service)) {
        Ok(Some(found)) => match found.state.as_deref() {
            // EC2 writes it with a capital letter, and other states of the same API without: compared without case.
            Some(state) if state.eq_ignore_ascii_case("available") => Status::Pass,
            Some(state) => fail(service, &format!("the endpoint service is '{state}', not available"), place),
            None => Status::Unknown("EC2 does not say in which state the endpoint service is".to_owned()),
        },
        Ok(None) => fail(service, "EC2 does not know this endpoint service", place),
        Err(unseen) => Status::Unknown(unseen.to_string()),
    };
    observed(Check::ServiceAvailable, service, status)
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
    use crate::snapshot::{EndpointService, Paths};
    use crate::testing::{endpoint_service, paths, unseen, view};

    fn status(paths: &Paths) -> Status {
        view(paths, |view| evaluate(view).status)
    }

    fn in_state(state: Option<&str>) -> Paths {
        let state = state.map(ToOwned::to_owned);
        paths(EndpointService { state, ..endpoint_service() }, [])
    }

    #[test]
    fn only_an_available_service_passes() {
        assert_eq!(status(&in_state(Some("Available"))), Status::Pass);
        for state in ["Pending", "Deleting", "Deleted", "Failed", "new"] {
            assert!(matches!(status(&in_state(Some(state))), Status::Fail(_)), "{state}");
        }
        let gone = Paths { services: Ok([].into()), ..in_state(None) };
        assert!(matches!(status(&gone), Status::Fail(_)), "a service EC2 does not know");
        assert!(matches!(status(&in_state(None)), Status::Unknown(_)), "a service without a state");
        let failed = Err(unseen("ec2:DescribeVpcEndpointServiceConfigurations"));
        assert!(matches!(status(&Paths { services: failed, ..in_state(None) }), Status::Unknown(_)));
    }
}
