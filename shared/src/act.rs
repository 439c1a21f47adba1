//! The only place that changes EC2 and ELB. It carries out plans that can be printed, and in a dry run only logs them.

use std::collections::BTreeMap;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::UnsuccessfulItem;
use aws_sdk_elasticloadbalancingv2::types as elb;

use crate::checks::cross_zone;
use crate::connections::Plan;
use crate::ids::{Arn, EndpointId, ServiceId};
use crate::observe::{side_by_side, unseen};
use crate::snapshot::Unseen;

/// Endpoints per accept or reject call. AWS documents no limit; this keeps one call's damage and log line small.
const ENDPOINTS_PER_CALL: usize = 50;

/// Changes EC2 and ELB.
#[derive(Debug, Clone)]
pub struct Writer {
    ec2: aws_sdk_ec2::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    dry_run: bool,
}

/// What became of a [`Plan`].
#[derive(Debug, Default)]
pub struct Outcome {
    /// Endpoints for which AWS did not do as asked, with its code and message.
    pub undone: BTreeMap<EndpointId, String>,
    /// Calls that failed and might not the next time: the run has left something undone.
    pub failed: Vec<Unseen>,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Accept,
    Reject,
}

impl Writer {
    /// Writes with these clients, unless `dry_run`.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, dry_run: bool) -> Self {
        Self {
            ec2: aws_sdk_ec2::Client::new(config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(config),
            dry_run,
        }
    }

    /// Accepts and rejects what `plan` names. A refused endpoint fails neither its batch nor the others.
    pub async fn answer_requests(&self, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        if plan.is_empty() {
            return outcome;
        }
        tracing::info!(%plan, dry_run = self.dry_run, "answering connection requests");
        if self.dry_run {
            return outcome;
        }
        let batches = [(Answer::Accept, &plan.accept), (Answer::Reject, &plan.reject)];
        let batches = batches.into_iter().flat_map(|(answer, services)| {
            services.iter().flat_map(move |(service, endpoints)| {
                endpoints.chunks(ENDPOINTS_PER_CALL).map(move |batch| (answer, service, batch))
            })
        });
        let parts = side_by_side(batches, |(answer, service, batch)| self.answer(answer, service, batch)).await;
        for part in parts {
            outcome.undone.extend(part.undone);
            outcome.failed.extend(part.failed);
        }
        outcome
    }

    /// One call; if AWS refuses it as a whole, one for each endpoint, so that one of them cannot hold up the others.
    async fn answer(&self, answer: Answer, service: &ServiceId, endpoints: &[EndpointId]) -> Outcome {
        let mut outcome = Outcome::default();
        match self.call(answer, service, endpoints).await {
            Err(failure) if failure.refused && endpoints.len() > 1 => {
                for endpoint in endpoints.chunks(1) {
                    outcome.add(self.call(answer, service, endpoint).await, endpoint);
                }
            }
            result => outcome.add(result, endpoints),
        }
        outcome
    }

    async fn call(
        &self,
        answer: Answer,
        service: &ServiceId,
        endpoints: &[EndpointId],
    ) -> Result<Vec<UnsuccessfulItem>, Failure> {
        let ids = Some(endpoints.iter().map(ToString::to_string).collect());
        let unsuccessful = match answer {
            Answer::Accept => {
                let call = self.ec2.accept_vpc_endpoint_connections().service_id(service.as_str());
                let answer = call.set_vpc_endpoint_ids(ids).send().await;
                answer.map_err(|error| Failure::of("ec2:AcceptVpcEndpointConnections", &error))?.unsuccessful
            }
            Answer::Reject => {
                let call = self.ec2.reject_vpc_endpoint_connections().service_id(service.as_str());
                let answer = call.set_vpc_endpoint_ids(ids).send().await;
                answer.map_err(|error| Failure::of("ec2:RejectVpcEndpointConnections", &error))?.unsuccessful
            }
        };
        Ok(unsuccessful.unwrap_or_default())
    }

    /// Switches cross-zone load balancing back on where `plan` says. Returns the calls that failed.
    pub async fn enforce_cross_zone(&self, plan: &cross_zone::Plan) -> Vec<(Arn, Unseen)> {
        let mut failed = Vec::new();
        if plan.is_empty() {
            return failed;
        }
        tracing::info!(?plan, dry_run = self.dry_run, "switching cross-zone load balancing back on");
        if self.dry_run {
            return failed;
        }
        for arn in &plan.load_balancers {
            let attribute =
                elb::LoadBalancerAttribute::builder().key("load_balancing.cross_zone.enabled").value("true");
            let call = self.elb.modify_load_balancer_attributes().load_balancer_arn(arn.as_str());
            if let Err(error) = call.attributes(attribute.build()).send().await {
                failed.push((arn.clone(), unseen("elasticloadbalancing:ModifyLoadBalancerAttributes", &error)));
            }
        }
        for arn in &plan.target_groups {
            let attribute = elb::TargetGroupAttribute::builder()
                .key("load_balancing.cross_zone.enabled")
                .value("use_load_balancer_configuration");
            let call = self.elb.modify_target_group_attributes().target_group_arn(arn.as_str());
            if let Err(error) = call.attributes(attribute.build()).send().await {
                failed.push((arn.clone(), unseen("elasticloadbalancing:ModifyTargetGroupAttributes", &error)));
            }
        }
        for (arn, failure) in &failed {
            tracing::error!(%arn, %failure, "could not switch cross-zone load balancing on");
        }
        failed
    }
}

/// A call that failed as a whole.
struct Failure {
    unseen: Unseen,
    /// AWS understood it, said no, and would say so again: not a throttle, an outage or a lack of permission.
    refused: bool,
}

impl Failure {
    fn of<E>(call: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let unseen = unseen(call, error);
        let status = error.raw_response().map(|response| response.status().as_u16());
        let throttled = error.code().is_some_and(|code| code.contains("Throttl") || code == "RequestLimitExceeded");
        Self { refused: status == Some(400) && !throttled && !unseen.denied, unseen }
    }
}

impl Outcome {
    fn add(&mut self, result: Result<Vec<UnsuccessfulItem>, Failure>, endpoints: &[EndpointId]) {
        match result {
            // A 200 is not a yes: each item has its own answer.
            Ok(unsuccessful) => {
                for (endpoint, why) in unsuccessful.iter().map(refusal) {
                    match endpoint {
                        Some(endpoint) => drop(self.undone.insert(endpoint, why)),
                        // EC2 does not say which: those that went through show it when they are read again.
                        None => self.undone.extend(endpoints.iter().map(|endpoint| (endpoint.clone(), why.clone()))),
                    }
                }
            }
            Err(Failure { unseen, refused }) => {
                tracing::error!(failure = %unseen, ?endpoints, "the call failed");
                self.undone.extend(endpoints.iter().map(|endpoint| (endpoint.clone(), unseen.error.clone())));
                if !refused {
                    self.failed.push(unseen);
                }
            }
        }
    }
}

fn refusal(item: &UnsuccessfulItem) -> (Option<EndpointId>, String) {
    let endpoint = item.resource_id().and_then(|id| id.parse::<EndpointId>().ok());
    let error = item.error();
    let code = error.and_then(|error| error.code()).unwrap_or("no code");
    let message = error.and_then(|error| error.message()).unwrap_or("no message");
    tracing::warn!(?endpoint, code, message, "AWS refused the change");
    (endpoint, format!("{code}: {message}"))
}
