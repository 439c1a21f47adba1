//! How a function starts, and how it ends: the same for all of them.

use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

use crate::config::Settings;
use crate::snapshot::Unseen;

/// Reads the configuration, builds the function once, and then calls `handle` for every event.
///
/// # Errors
/// At once, and before any call to AWS, if the configuration is wrong.
pub async fn serve<G>(
    build: impl FnOnce(Settings, &SdkConfig) -> G,
    handle: impl AsyncFn(&G, &Value) -> Result<(), LeftUndone>,
) -> Result<(), Error> {
    lambda_runtime::tracing::init_default_subscriber();
    let settings = Settings::from_env().inspect_err(|problems| tracing::error!(%problems, "cannot start"))?;
    let guard = build(settings, &sdk_config().await);
    let (guard, handle) = (&guard, &handle);
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        handle(guard, &event.payload).await.map_err(Error::from)
    }))
    .await
}

/// Retries with backoff and jitter. The longest chain of calls, each as slow as this allows, ends within a function's
/// 110 seconds, so that what was found is told.
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

/// What a run left undone. The invocation ends in error, so that Lambda tries again, and the dead-letter queue and the
/// alarm see it. What was done and told is done and told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LeftUndone(Vec<Unseen>);

impl LeftUndone {
    /// Notes failures.
    pub fn extend(&mut self, failures: impl IntoIterator<Item = Unseen>) {
        self.0.extend(failures);
    }

    /// Notes the failure, if it is one.
    pub fn note(&mut self, result: Result<(), Unseen>) {
        self.0.extend(result.err());
    }

    /// Ends the run.
    ///
    /// # Errors
    /// If anything was noted.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::error::Error for LeftUndone {}

impl fmt::Display for LeftUndone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "left undone: {}", failures.join("; "))
    }
}
