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
mod flow_logs;
mod hostnames;
mod load_balancers;
mod network;
mod series;
mod topology;
mod traffic;

pub use self::flow_logs::{FlowLog, Node};
pub use self::series::{MetricQuery, Series};
pub use self::topology::Scope;

use std::collections::BTreeSet;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::Filter;
use guard_core::snapshot::{CallError, Calls, ErrorKind, Observed};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clients;
use crate::errors::{call_error, malformed_response};

/// The actions of all reads, as IAM names them; but for flow logs, which only the command line reads.
pub const ACTIONS: [&str; 21] = [
    "acm:DescribeCertificate",
    "cloudwatch:GetMetricData",
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkAcls",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcEndpointConnectionNotifications",
    "ec2:DescribeVpcEndpointConnections",
    "ec2:DescribeVpcEndpointServiceConfigurations",
    "ec2:DescribeVpcEndpointServicePermissions",
    "ec2:GetManagedPrefixListEntries",
    "elasticloadbalancing:DescribeListenerCertificates",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancerAttributes",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeTags",
    "elasticloadbalancing:DescribeTargetGroupAttributes",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
];

/// How many calls to EC2 and ELB may run at the same time. EC2's describe calls share a bucket of about 100 per account
/// and Region, refilled at some 20 a second. This keeps a run short and leaves room for other tools.
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
    /// When reading must end.
    until: Option<Instant>,
    /// How often [`Observer::for_run`] was called, on all clones.
    runs: Arc<AtomicU64>,
    /// Where reading begins: see [`Observer::starting_anywhere`].
    rotation: u64,
}

impl Observer {
    /// Reads with clients of this configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self {
            acm: aws_sdk_acm::Client::new(config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(config),
            ec2: clients::ec2(config),
            elb: clients::elb(config),
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
            calls: Arc::default(),
            until: None,
            runs: Arc::default(),
            rotation: 0,
        }
    }

    /// The same clients for the run `id`, which keeps a record of its calls, and reads nothing after `until`.
    #[must_use]
    pub fn for_run(&self, id: &str, until: Instant) -> Self {
        let mut hasher = DefaultHasher::new();
        (id, self.runs.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
        Self { calls: Arc::default(), until: Some(until), rotation: hasher.finish(), ..self.clone() }
    }

    /// The calls so far, each with its first error, if it failed.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same observer with a record of calls of its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { calls: Arc::default(), ..self.clone() }
    }

    /// Adds calls that were recorded apart, unless this observer has made them itself.
    pub fn include(&self, calls: Calls) {
        let mut own = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for (call, error) in calls {
            own.entry(call).or_insert(error);
        }
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
        // The SDK's futures are large, and a run holds one for each target group.
        let response = Box::pin(response);
        let read = async {
            // An error only if the semaphore is closed, which it never is.
            let _permit = self.permits.acquire().await;
            response.await.map_err(|error| call_error(call, &error)).and_then(parse)
        };
        self.in_time(call, read).await
    }

    /// All pages of a list, each row parsed. `next` gives the pages, `split` takes one apart into rows and the token of
    /// the next. Pages follow each other and count as one call. A token that repeats is an error: the SDK's paginators
    /// would stop there without a word, and a partial list would look like the whole.
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
        let pages = async {
            let _permit = self.permits.acquire().await;
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
        self.in_time(call, pages).await
    }

    /// The result of `read`, unless the time for reading ends before.
    async fn in_time<T>(&self, call: &'static str, read: impl Future<Output = Observed<T>>) -> Observed<T> {
        let result = match self.until {
            Some(until) => tokio::time::timeout_at(until, read).await.unwrap_or_else(|_| Err(no_time_left(call))),
            None => read.await,
        };
        self.record(call, result)
    }

    /// `items`, beginning with any of them: if time runs out, the last ones are not always the same. The run's id and a
    /// count decide, so that a retry, which has the same id, differs, and a test repeats itself. The clock would not
    /// do: a schedule of 15 minutes finds the same one of five each time.
    fn starting_anywhere<T>(&self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut items: Vec<T> = items.into_iter().collect();
        let first = self.rotation.checked_rem(items.len() as u64).unwrap_or_default();
        items.rotate_left(usize::try_from(first).unwrap_or_default());
        items
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

fn no_time_left(call: &'static str) -> CallError {
    CallError::new(call, ErrorKind::GivenUp, "no time was left in this run")
}

/// The filter that matches any of `values`.
fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_smithy_http_client::test_util::NeverClient;
    use guard_core::testing::service;

    use super::*;
    use crate::testing;

    #[tokio::test(start_paused = true)]
    async fn reading_ends_in_time_and_says_that_no_time_was_left() {
        let config = testing::config(&Arc::default(), |(): &mut (), _| (200, String::new()));
        let config = config.into_builder().http_client(NeverClient::new()).build();
        let began = Instant::now();
        let observer = Observer::new(&config).for_run("run", began + Duration::from_secs(80));
        let topology = observer.topology(&[service(1)].into(), Scope::Health).await;
        assert_eq!((Instant::now() - began).as_secs(), 80);
        let why = topology.service(&service(1)).unwrap_err();
        assert_eq!(
            why.to_string(),
            "ec2:DescribeVpcEndpointServiceConfigurations failed: no time was left in this run"
        );
        assert!(observer.calls().values().all(Option::is_some));
    }
}
