//! The only place that reads EC2 and ELB. It reads all pages; a failed read is a `CallError`, never an empty list.

mod connections;
mod endpoint_services;
mod load_balancers;
mod network;
mod topology;

pub use self::topology::Scope;

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::Filter;
use guard_core::snapshot::{Calls, Observed};
use tokio::sync::Semaphore;

use crate::errors::call_error;

/// Calls to EC2 and ELB at the same time. EC2's describe calls share a bucket of about 100 per account and Region, refilled
/// at some 20 a second: this keeps a run short and leaves room for other tools.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
pub const MAX_CALLS: usize = 16;

/// Values that one filter accepts.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html>
const FILTER_VALUES: usize = 200;

/// Reads EC2 and ELB.
#[derive(Debug, Clone)]
pub struct Observer {
    ec2: aws_sdk_ec2::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    permits: Arc<Semaphore>,
    calls: Arc<Mutex<Calls>>,
}

impl Observer {
    /// Reads with these clients.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self {
            ec2: aws_sdk_ec2::Client::new(config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(config),
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
            calls: Arc::default(),
        }
    }

    /// The same clients for one run, which keeps a record of its calls.
    #[must_use]
    pub fn for_run(&self) -> Self {
        Self { calls: Arc::default(), ..self.clone() }
    }

    /// The calls so far, each with its first error, if it failed.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the response of `call`, one of [`MAX_CALLS`]. The pages of one list follow each other and count as one.
    async fn call<T, E, R>(
        &self,
        call: &'static str,
        response: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Observed<T>
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug,
    {
        // Never closed, so never an error.
        let _permit = self.permits.acquire().await;
        self.record(call, response.await.map_err(|error| call_error(call, &error)))
    }

    /// Records how `call` ended, and passes the result on.
    fn record<T>(&self, call: &'static str, result: Observed<T>) -> Observed<T> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let first_error = calls.entry(call).or_default();
        if let (Err(error), None) = (&result, &first_error) {
            *first_error = Some(error.clone());
        }
        result
    }

    /// Reads `values` in as many calls as their number needs, and joins the responses. Without values there is no call:
    /// without its filter EC2 would return everything in the account.
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
