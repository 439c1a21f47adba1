//! The Lambda entry point that all functions share.

use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region as AwsRegion, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use guard_core::check::Region;
use guard_core::config::Settings;
use guard_core::ids::Arn;
use guard_core::message::origin::Origin;
use guard_core::trigger::Trigger;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use tracing_subscriber::filter::LevelFilter;

use crate::invocation::{Deadline, Invocation, RunErrors};
use crate::pipeline::{Pipeline, Watcher};
use crate::{events, http};

/// Reads the configuration, builds the function once, and runs it for every event.
///
/// # Errors
/// Before any call to AWS, if the configuration is wrong.
pub async fn serve(watcher: impl Watcher) -> Result<(), Error> {
    init_logs();
    let settings = Settings::from_env().inspect_err(|problems| tracing::error!(%problems, "cannot start"))?;
    let config = sdk_config();
    let pipeline = Pipeline::new(watcher, settings.clone(), &config);
    let (pipeline, settings, region) = (&pipeline, &settings, &config.region().map(AsRef::as_ref));
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let invocation = Invocation {
            id: event.context.request_id,
            trigger: events::parse(&event.payload),
            origin: origin(settings, &event.context.invoked_function_arn, *region),
            deadline: Deadline::new(time_left(event.context.deadline)),
        };
        let end = invocation.deadline.end;
        let answer = answer(&invocation.trigger);
        // Boxed, because a run's future is large and its type deeply nested.
        let result = tokio::time::timeout_at(end, Box::pin(pipeline.handle(invocation))).await;
        result.unwrap_or_else(|_| Err(RunErrors::out_of_time())).map(|()| answer).map_err(Error::from)
    }))
    .await
}

/// What the function returns after a run without errors. Only who asks for messages reads it.
fn answer(trigger: &Trigger) -> Option<&'static str> {
    match trigger {
        Trigger::Test => Some("The test messages are sent. See that every subscriber receives them."),
        Trigger::Removal => Some("The last message is sent. When it has arrived, delete the stack."),
        _ => None,
    }
}

/// JSON log lines, as the template's `LogFormat` declares, at the level that Lambda's logging controls set.
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html>
fn init_logs() {
    let level = env::var("AWS_LAMBDA_LOG_LEVEL").ok().and_then(|level| level.parse().ok());
    let lines = tracing_subscriber::fmt().with_max_level(level.unwrap_or(LevelFilter::INFO));
    // CloudWatch adds the time, and module names do not help readers.
    lines.with_target(false).without_time().json().init();
}

/// The time left until `deadline`, which Lambda gives in milliseconds since the epoch.
fn time_left(deadline: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(deadline).saturating_sub(now)
}

/// The deployment that the invoked function's ARN names. Without an ARN, the account is unknown and the Region is the
/// SDK's.
pub fn origin(settings: &Settings, function: &str, region: Option<&str>) -> Origin {
    let arn = function.parse::<Arn>().ok();
    let region = match &arn {
        Some(arn) => Region::new(arn.partition(), arn.region()),
        None => Region::new("aws", region.unwrap_or_default()),
    };
    Origin {
        account: arn.and_then(|arn| arn.account().parse().ok()),
        region,
        stack: settings.stack_name.clone(),
        runbook_url: settings.runbook_url.clone(),
    }
}

/// The SDK's configuration. Lambda passes everything in environment variables, so only those are read: the SDK's
/// default search through profiles, web identities and metadata services would make up a tenth of a function's size.
///
/// Calls are retried with backoff and jitter. Even if each call is as slow as the timeouts allow, the longest chain of
/// calls ends within a function's 110 seconds, so the run can still send its findings.
fn sdk_config() -> SdkConfig {
    let is_on = |name| env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let mut config = sdk_builder()
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .region(env::var("AWS_REGION").or_else(|_| env::var("AWS_DEFAULT_REGION")).ok().map(AwsRegion::new))
        .http_client(http::client())
        .service_config(FromEnvironment)
        .use_fips(is_on("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"));
    config.set_endpoint_url(env::var("AWS_ENDPOINT_URL").ok());
    config.build()
}

/// Timeouts and retries of every call.
pub(crate) fn sdk_builder() -> aws_types::sdk_config::Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(4))
        .operation_timeout(Duration::from_secs(8))
        .build();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(timeouts)
}

/// Service-specific settings, such as `AWS_ENDPOINT_URL_DYNAMODB`.
#[derive(Debug)]
struct FromEnvironment;

impl LoadServiceConfig for FromEnvironment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        of_service(key.env(), key.service_id(), |name| env::var(name).ok())
    }
}

/// The service-specific variable, or the global one.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
fn of_service(name: &str, service: &str, lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
    let own = format!("{name}_{}", service.to_ascii_uppercase().replace(' ', "_"));
    lookup(&own).or_else(|| lookup(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_messages_gets_an_answer() {
        assert!(answer(&Trigger::Test).unwrap().starts_with("The test messages are sent."));
        assert!(answer(&Trigger::Removal).unwrap().starts_with("The last message is sent."));
        assert_eq!([Trigger::Schedule, Trigger::Heartbeat].each_ref().map(answer), [None, None]);
    }

    #[test]
    fn a_service_specific_variable_overrides_the_global_one() {
        let lookup = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some("all".to_owned()),
            "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2" => Some("elb".to_owned()),
            _ => None,
        };
        assert_eq!(of_service("AWS_ENDPOINT_URL", "Elastic Load Balancing v2", lookup), Some("elb".to_owned()));
        assert_eq!(of_service("AWS_ENDPOINT_URL", "EC2", lookup), Some("all".to_owned()));
        assert_eq!(of_service("AWS_ENDPOINT_URL", "EC2", |_| None), None);
    }
}
