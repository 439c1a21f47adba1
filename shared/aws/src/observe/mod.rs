//! The only place that reads EC2, ELB, ACM and CloudWatch. It reads all pages; a failed read is a
//! [`CallError`](guard_core::snapshot::CallError), never an empty list.

/// All pages of the list that `$request` asks for, each row parsed: see [`Observer::list`].
macro_rules! list {
    ($observer:expr, $call:expr, $request:expr, $rows:ident, $token:ident, $parse:expr) => {{
        let mut pages = $request.into_paginator().stop_on_duplicate_token(false).send();
        $observer.list($call, async || pages.next().await, |page| (page.$rows, page.$token), $parse).await
    }};
}

mod certificates;
mod connections;
mod endpoint_services;
mod hostnames;
mod load_balancers;
mod metrics;
mod network;
mod topology;

pub use self::topology::Scope;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::Filter;
use guard_core::snapshot::{Calls, Observed};
use tokio::sync::Semaphore;

use crate::errors::{call_error, malformed_response};

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
    acm: aws_sdk_acm::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
    ec2: aws_sdk_ec2::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    permits: Arc<Semaphore>,
    calls: Arc<Mutex<Calls>>,
}

impl Observer {
    /// Reads with clients of this configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self {
            acm: aws_sdk_acm::Client::new(config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(config),
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

    /// The parsed response of `call`, at most [`MAX_CALLS`] at the same time.
    async fn call<R, T, E, H>(
        &self,
        call: &'static str,
        response: impl Future<Output = Result<R, SdkError<E, H>>>,
        parse: impl FnOnce(R) -> Observed<T>,
    ) -> Observed<T>
    where
        E: ProvideErrorMetadata + Error + 'static,
        H: std::fmt::Debug,
    {
        // An error only if the semaphore is closed, which it never is.
        let _permit = self.permits.acquire().await;
        let response = response.await.map_err(|error| call_error(call, &error));
        self.record(call, response.and_then(parse))
    }

    /// All pages of a list, each row parsed. `next` gives the pages, `split` takes one apart into rows and the token of the
    /// next. Pages follow each other and count as one call. A token that repeats is an error: the SDK's paginators would
    /// stop there without a word, and a partial list would look like the whole.
    async fn list<P, R, T, E, H>(
        &self,
        call: &'static str,
        mut next: impl AsyncFnMut() -> Option<Result<P, SdkError<E, H>>>,
        split: impl Fn(P) -> (Option<Vec<R>>, Option<String>),
        parse: impl Fn(&R) -> Observed<T>,
    ) -> Observed<Vec<T>>
    where
        E: ProvideErrorMetadata + Error + 'static,
        H: std::fmt::Debug,
    {
        let _permit = self.permits.acquire().await;
        let pages = async {
            let (mut parsed, mut tokens) = (Vec::new(), BTreeSet::new());
            while let Some(page) = next().await {
                let (rows, token) = split(page.map_err(|error| call_error(call, &error))?);
                for row in rows.unwrap_or_default() {
                    parsed.push(parse(&row)?);
                }
                if let Some(token) = token.filter(|token| !token.is_empty())
                    && !tokens.insert(token)
                {
                    return Err(malformed_response(call, "it repeats a page, so the list is partial"));
                }
            }
            Ok(parsed)
        };
        self.record(call, pages.await)
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
