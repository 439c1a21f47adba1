//! The Lambda function `health-watcher`.

use health_watcher::HealthWatcher;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    guard_aws::lambda::serve(HealthWatcher).await
}
