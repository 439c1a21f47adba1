//! The Lambda function `drift-watcher`.

use drift_watcher::DriftWatcher;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    guard_aws::lambda::serve(DriftWatcher).await
}
