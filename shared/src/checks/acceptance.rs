//! `service.acceptance-required`: does nobody get in without being let in?

use super::{Check, Finding, Observation, Remedy, Severity, Status, View};

/// The observation for the endpoint service.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html#accept-reject-connection-requests>
#[must_use]
pub fn evaluate(view: View<'_>) -> Observation {
    view.of_service(Check::ServiceAcceptanceRequired, |service| match service.acceptance_required {
        Some(true) => Status::Pass,
        Some(false) => Status::Fail(Box::new(Finding {
            severity: Severity::Critical,
            summary: "requests are connected without anybody accepting them".to_owned(),
            meaning:
                "dbt gets in, and so does every other account that the allowed principals let ask: the guard is not \
                      asked any more."
                    .to_owned(),
            evidence: vec!["acceptance required: false".to_owned()],
            remedy: Remedy {
                what: "Require acceptance again; the guard accepts dbt's requests. This closes no connection that \
                       exists, so see who is connected as well."
                    .to_owned(),
                command: Some(format!(
                    "aws ec2 modify-vpc-endpoint-service-configuration --region {} --service-id {} \
                     --acceptance-required",
                    view.place.region(),
                    service.id
                )),
                console: view.place.endpoint_service(service.id.as_str()),
            },
            cause: None,
        })),
        None => Status::Unknown("EC2 does not say whether acceptance is required".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{EndpointService, Paths};
    use crate::testing::{endpoint_service, paths, unseen, view};

    #[test]
    fn acceptance_must_be_required() {
        let status = |acceptance_required| {
            let paths = paths(EndpointService { acceptance_required, ..endpoint_service() }, []);
            view(&paths, |view| evaluate(view).status)
        };
        assert_eq!(status(Some(true)), Status::Pass);
        assert!(matches!(status(Some(false)), Status::Fail(finding) if finding.severity == Severity::Critical));
        assert!(matches!(status(None), Status::Unknown(_)));
        let failed = Err(unseen("ec2:DescribeVpcEndpointServiceConfigurations"));
        let blind = Paths { services: failed, ..paths(endpoint_service(), []) };
        assert!(matches!(view(&blind, evaluate).status, Status::Unknown(_)));
    }
}
