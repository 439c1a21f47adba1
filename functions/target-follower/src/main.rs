//! The Lambda function `target-follower`.

use target_follower::TargetFollower;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    guard_aws::lambda::serve(TargetFollower).await
}
