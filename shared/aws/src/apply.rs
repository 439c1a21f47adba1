//! The only module that changes EC2 and ELB. It carries out plans; a dry run only logs them.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::UnsuccessfulItem;
use aws_sdk_elasticloadbalancingv2::types as elb;
use guard_core::follow::CALLS_BEGIN_WITHIN;
use guard_core::follow::state::{PlannedTarget, TargetPlan};
use guard_core::ids::{Arn, EndpointId, ServiceId};
use guard_core::plan::Plan;
use guard_core::snapshot::{CallError, ErrorKind};
use jiff::Timestamp;

use crate::clients;
use crate::concurrently;
use crate::errors::call_error;

/// Endpoints per accept or reject call. AWS documents no limit; a small batch limits the impact of a failed call and
/// the length of its log line.
const ENDPOINTS_PER_CALL: usize = 50;

/// Changes EC2 and ELB.
#[derive(Debug, Clone)]
pub struct Applier {
    ec2: aws_sdk_ec2::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    dry_run: bool,
}

/// The outcome of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The endpoints and ARNs that AWS did not change as requested, each with its error.
    pub refused: BTreeMap<String, CallError>,
    /// The failed calls that may succeed next time: the run has left something undone.
    pub failed: Vec<CallError>,
    /// The target groups whose planned calls were made, whatever AWS answered.
    pub followed: BTreeSet<Arn>,
    /// Whether the plan lacked the records that it needs.
    pub lacks_memory: bool,
}

/// The answer to a connection request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Accept,
    Reject,
}

impl Applier {
    /// An applier with this SDK configuration; it changes nothing if `dry_run`.
    pub fn new(config: &aws_config::SdkConfig, dry_run: bool) -> Self {
        Self { ec2: clients::ec2(config), elb: clients::elb(config), dry_run }
    }

    /// Carries out `plan`.
    pub async fn apply(&self, plan: &Plan) -> Outcome {
        let mut outcome = Outcome { lacks_memory: plan.lacks_memory, ..Outcome::default() };
        if plan.is_empty() {
            return outcome;
        }
        tracing::info!(%plan, dry_run = self.dry_run, "planned changes");
        if self.dry_run {
            return outcome;
        }
        outcome.extend(self.answer_connections(plan).await);
        outcome.extend(self.enforce_cross_zone(plan).await);
        outcome.extend(self.change_targets(plan).await);
        outcome
    }

    /// Accepts and rejects connections. One refused endpoint affects neither its batch nor other batches.
    async fn answer_connections(&self, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        let answers = [(Answer::Accept, &plan.accept), (Answer::Reject, &plan.reject)];
        let batches = answers.into_iter().flat_map(|(answer, services)| {
            services.iter().flat_map(move |(service, endpoints)| {
                endpoints.chunks(ENDPOINTS_PER_CALL).map(move |batch| (answer, service, batch))
            })
        });
        for batch in concurrently(batches, |(answer, service, batch)| self.answer(answer, service, batch)).await {
            outcome.extend(batch);
        }
        outcome
    }

    /// Makes one call; if AWS refuses it as a whole, one call per endpoint, so that one endpoint cannot block the
    /// others.
    async fn answer(&self, answer: Answer, service: &ServiceId, endpoints: &[EndpointId]) -> Outcome {
        let mut outcome = Outcome::default();
        match self.call(answer, service, endpoints).await {
            Err(failure) if failure.final_answer && endpoints.len() > 1 => {
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
    ) -> Result<Vec<Unsuccessful>, Failure> {
        let ids = Some(endpoints.iter().map(ToString::to_string).collect());
        let (call, unsuccessful) = match answer {
            Answer::Accept => {
                let call = "ec2:AcceptVpcEndpointConnections";
                let request = self.ec2.accept_vpc_endpoint_connections().service_id(service.as_str());
                let response = request.set_vpc_endpoint_ids(ids).send().await;
                (call, response.map_err(|error| Failure::new(call, &error))?.unsuccessful)
            }
            Answer::Reject => {
                let call = "ec2:RejectVpcEndpointConnections";
                let request = self.ec2.reject_vpc_endpoint_connections().service_id(service.as_str());
                let response = request.set_vpc_endpoint_ids(ids).send().await;
                (call, response.map_err(|error| Failure::new(call, &error))?.unsuccessful)
            }
        };
        Ok(unsuccessful.unwrap_or_default().iter().map(|item| unsuccessful_item(call, item)).collect())
    }

    /// Switches cross-zone load balancing back on.
    async fn enforce_cross_zone(&self, plan: &Plan) -> Outcome {
        let mut errors = Vec::new();
        for arn in &plan.cross_zone_on {
            errors.extend(self.switch_on(arn).await.err().map(|error| (arn, error)));
        }
        for arn in &plan.cross_zone_deferred {
            errors.extend(self.defer_to_load_balancer(arn).await.err().map(|error| (arn, error)));
        }
        for (arn, error) in &errors {
            tracing::error!(%arn, %error, "could not switch cross-zone load balancing on");
        }
        Outcome {
            refused: errors.iter().map(|(arn, error)| (arn.to_string(), error.clone())).collect(),
            failed: errors.into_iter().map(|(_, error)| error).collect(),
            ..Outcome::default()
        }
    }

    /// Registers and deregisters targets. A call that would begin too late for its plan is left to the next run.
    async fn change_targets(&self, plan: &Plan) -> Outcome {
        let changes = concurrently(&plan.targets, async |(group, plan)| (group, self.change_group(group, plan).await));
        let mut outcome = Outcome { followed: plan.targets.keys().cloned().collect(), ..Outcome::default() };
        for (group, error) in changes.await.into_iter().filter_map(|(group, result)| Some((group, result.err()?))) {
            tracing::error!(%group, %error, "could not change its targets");
            outcome.refused.insert(group.to_string(), error.clone());
            outcome.failed.push(error);
        }
        outcome
    }

    async fn change_group(&self, group: &Arn, plan: &TargetPlan) -> Result<(), CallError> {
        if !plan.register.is_empty() {
            const CALL: &str = "elasticloadbalancing:RegisterTargets";
            in_time(CALL, plan)?;
            let call = self.elb.register_targets().target_group_arn(group.as_str());
            let response = call.set_targets(Some(plan.register.iter().map(description).collect())).send().await;
            response.map_err(|error| call_error(CALL, &error))?;
        }
        if !plan.deregister.is_empty() {
            const CALL: &str = "elasticloadbalancing:DeregisterTargets";
            in_time(CALL, plan)?;
            let call = self.elb.deregister_targets().target_group_arn(group.as_str());
            let response = call.set_targets(Some(plan.deregister.iter().map(description).collect())).send().await;
            response.map_err(|error| call_error(CALL, &error))?;
        }
        Ok(())
    }

    async fn switch_on(&self, load_balancer: &Arn) -> Result<(), CallError> {
        let attribute = elb::LoadBalancerAttribute::builder().key("load_balancing.cross_zone.enabled").value("true");
        let call = self.elb.modify_load_balancer_attributes().load_balancer_arn(load_balancer.as_str());
        let response = call.attributes(attribute.build()).send().await;
        response.map(drop).map_err(|error| call_error("elasticloadbalancing:ModifyLoadBalancerAttributes", &error))
    }

    async fn defer_to_load_balancer(&self, target_group: &Arn) -> Result<(), CallError> {
        let attribute = elb::TargetGroupAttribute::builder()
            .key("load_balancing.cross_zone.enabled")
            .value("use_load_balancer_configuration");
        let call = self.elb.modify_target_group_attributes().target_group_arn(target_group.as_str());
        let response = call.attributes(attribute.build()).send().await;
        response.map(drop).map_err(|error| call_error("elasticloadbalancing:ModifyTargetGroupAttributes", &error))
    }
}

/// Fails if it is too late to begin the planned `call`.
fn in_time(call: &'static str, plan: &TargetPlan) -> Result<(), CallError> {
    match Timestamp::now().duration_since(plan.at) <= CALLS_BEGIN_WITHIN {
        true => Ok(()),
        false => Err(CallError::new(call, ErrorKind::GivenUp, "the look-up that it follows is too old")),
    }
}

fn description(target: &PlannedTarget) -> elb::TargetDescription {
    let PlannedTarget { address, port, zone } = target;
    let description = elb::TargetDescription::builder().id(address.to_string()).set_port(port.map(i32::from));
    description.set_availability_zone(zone.clone()).build()
}

/// A call that failed as a whole.
struct Failure {
    error: CallError,
    /// AWS understood the call, refused it, and would refuse it again: not throttling, an outage or a missing
    /// permission.
    final_answer: bool,
}

impl Failure {
    fn new<E>(call: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let understood = error.code().is_some();
        let throttled = error.code().is_some_and(|code| code.contains("Throttl") || code == "RequestLimitExceeded");
        let error = call_error(call, error);
        Self { final_answer: status == Some(400) && understood && !throttled && !error.is_denied(), error }
    }
}

impl Outcome {
    /// Adds the outcome of another plan.
    pub fn extend(&mut self, other: Self) {
        self.refused.extend(other.refused);
        self.failed.extend(other.failed);
        self.followed.extend(other.followed);
        self.lacks_memory |= other.lacks_memory;
    }

    fn add(&mut self, result: Result<Vec<Unsuccessful>, Failure>, endpoints: &[EndpointId]) {
        match result {
            // HTTP 200 does not mean success: each item has its own result.
            Ok(unsuccessful) => {
                for (endpoint, error) in unsuccessful {
                    match endpoint {
                        Some(endpoint) => self.refuse(&[endpoint], &error),
                        // EC2 does not name the endpoint: the next read shows which ones succeeded.
                        None => self.refuse(endpoints, &error),
                    }
                }
            }
            Err(Failure { error, final_answer }) => {
                tracing::error!(%error, ?endpoints, "the call failed");
                self.refuse(endpoints, &error);
                if !final_answer {
                    self.failed.push(error);
                }
            }
        }
    }

    fn refuse(&mut self, endpoints: &[EndpointId], error: &CallError) {
        self.refused.extend(endpoints.iter().map(|endpoint| (endpoint.to_string(), error.clone())));
    }
}

/// An endpoint that AWS did not change, if AWS names it, and its error.
type Unsuccessful = (Option<EndpointId>, CallError);

fn unsuccessful_item(call: &'static str, item: &UnsuccessfulItem) -> Unsuccessful {
    let endpoint = item.resource_id().and_then(|id| id.parse::<EndpointId>().ok());
    let error = item.error();
    let code = error.and_then(|error| error.code()).unwrap_or("no code").to_owned();
    let message = error.and_then(|error| error.message()).unwrap_or("no message");
    tracing::warn!(?endpoint, code, message, "AWS refused the change");
    (endpoint, CallError::new(call, ErrorKind::Refused(code), message))
}
