//! The only place that reads EC2 and ELB. It reads all pages; a failed read is a
//! [`CallError`](guard_core::snapshot::CallError), never an empty list.

mod connections;
mod endpoint_services;
mod load_balancers;
mod network;
mod topology;

pub use self::topology::Scope;

use std::error::Error;
use std::sync::Arc;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::Filter;
use guard_core::snapshot::Observed;
use tokio::sync::Semaphore;

use crate::errors::call_error;

/// How many calls to EC2 and ELB may run at the same time. EC2's describe calls share a bucket of about 100 per account and
/// Region, refilled at some 20 a second. This keeps a run short and leaves room for other tools.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
pub const MAX_CALLS: usize = 16;

/// How many values one filter accepts.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html>
const FILTER_VALUES: usize = 200;

/// Reads EC2 and ELB.
#[derive(Debug, Clone)]
pub struct Observer {
    ec2: aws_sdk_ec2::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    permits: Arc<Semaphore>,
}

impl Observer {
    /// Reads with clients of this configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self {
            ec2: aws_sdk_ec2::Client::new(config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(config),
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
        }
    }

    /// Waits for the response of `call`, at most [`MAX_CALLS`] at the same time. The pages of a list are read one after
    /// another and count as one call.
    async fn call<T, E, R>(
        &self,
        call: &'static str,
        response: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Observed<T>
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug,
    {
        // An error only if the semaphore is closed, which it never is.
        let _permit = self.permits.acquire().await;
        response.await.map_err(|error| call_error(call, &error))
    }

    /// Reads `values` in batches of `size`, and joins the responses. Without values there is no call, because without a
    /// filter EC2 would return everything in the account.
    async fn in_batches<T>(
        &self,
        values: Vec<String>,
        size: usize,
        read: impl AsyncFn(Vec<String>) -> Observed<Vec<T>>,
    ) -> Observed<Vec<T>> {
        let batches = futures_util::future::join_all(values.chunks(size).map(|values| read(values.to_vec()))).await;
        let batches: Vec<Vec<T>> = batches.into_iter().collect::<Observed<_>>()?;
        Ok(batches.into_iter().flatten().collect())
    }
}

/// The filter that matches any of `values`.
fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}
