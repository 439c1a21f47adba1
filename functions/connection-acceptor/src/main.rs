//! The Lambda function `connection-acceptor`.

use connection_acceptor::ConnectionAcceptor;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    guard_aws::lambda::serve(ConnectionAcceptor).await
}
