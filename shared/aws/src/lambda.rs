//! How every function starts and ends.

use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use guard_core::alerts::origin::Origin;
use guard_core::checks::Region;
use guard_core::config::Settings;
use guard_core::ids::Arn;
use guard_core::snapshot::CallError;
use guard_core::trigger::Trigger;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

use crate::events;

/// Reads the configuration, builds the function once, and then calls `handle` for every event.
///
/// # Errors
/// Before any call to AWS, if the configuration is wrong.
pub async fn serve<G>(
    build: impl FnOnce(Settings, &SdkConfig) -> G,
    handle: impl AsyncFn(&G, Invocation) -> Result<(), RunErrors>,
) -> Result<(), Error> {
    lambda_runtime::tracing::init_default_subscriber();
    let settings = Settings::from_env().inspect_err(|problems| tracing::error!(%problems, "cannot start"))?;
    let config = sdk_config().await;
    let guard = build(settings.clone(), &config);
    let (guard, handle, settings, region) = (&guard, &handle, &settings, &config.region().map(AsRef::as_ref));
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let invocation = Invocation {
            id: event.context.request_id,
            trigger: events::parse(&event.payload),
            origin: origin(settings, &event.context.invoked_function_arn, *region),
        };
        handle(guard, invocation).await.map_err(Error::from)
    }))
    .await
}

/// One start of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda's request id. A retry has the id of the invocation it repeats.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>
    pub id: String,
    /// Why it runs.
    pub trigger: Trigger,
    /// The deployment that it belongs to.
    pub origin: Origin,
}

/// The deployment, as the ARN of the invoked function names it. Without one, the account is not known, and the Region is
/// the SDK's.
#[must_use]
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

/// Retries with backoff and jitter. The longest chain of calls, each as slow as this allows, ends within a function's 110
/// seconds, so that the run can send what it found.
async fn sdk_config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(4))
        .operation_timeout(Duration::from_secs(8))
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(timeouts)
        .load()
        .await
}

/// The calls of a run that failed. The invocation ends in error, so that Lambda retries it, and the dead-letter queue and the
/// alarm see it. What succeeded stays done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RunErrors(Vec<CallError>);

impl RunErrors {
    /// Adds failures.
    pub fn extend(&mut self, failures: impl IntoIterator<Item = CallError>) {
        self.0.extend(failures);
    }

    /// Adds the failures of a part of the run.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Adds the failure, if it is one.
    pub fn push(&mut self, result: Result<(), CallError>) {
        self.0.extend(result.err());
    }

    /// Ends the run.
    ///
    /// # Errors
    /// If anything failed.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::error::Error for RunErrors {}

impl fmt::Display for RunErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "left undone: {}", failures.join("; "))
    }
}
