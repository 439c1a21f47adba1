//! The only place that reads EC2, ELB, ACM and CloudWatch. It reads all pages; a failed read is a
//! [`CallError`](guard_core::snapshot::CallError), never an empty list.

/// All pages of the list that `$request` asks for, each row parsed: see [`Observer::pages`]. Each attempt asks anew.
macro_rules! list {
    ($observer:expr, $call:expr, $request:expr, $rows:ident, $token:ident, $parse:expr) => {{
        let read = async || {
            let mut pages = $request.clone().into_paginator().stop_on_duplicate_token(false).send();
            $observer.pages($call, async || pages.next().await, |page| (page.$rows, page.$token), $parse).await
        };
        $observer.read($call, read).await
    }};
}

mod certificates;
mod connections;
mod endpoint_services;
mod flow_logs;
mod hostnames;
mod load_balancers;
mod network;
pub mod pace;
mod series;
mod topology;
mod traffic;

pub use self::flow_logs::{FlowLog, Node};
pub use self::series::{MetricQuery, Series};
pub use self::topology::Scope;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::Filter;
use guard_core::snapshot::{CallError, Calls, ErrorKind, Observed};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::pace::{Pace, Rate};
use crate::clients;
use crate::errors::{call_error, malformed_response};

/// The actions of all reads, as IAM names them; but for flow logs, which only the command line reads.
pub const ACTIONS: [&str; 23] = [
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
    "elasticloadbalancing:DescribeListenerAttributes",
    "elasticloadbalancing:DescribeListenerCertificates",
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancerAttributes",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeRules",
    "elasticloadbalancing:DescribeTags",
    "elasticloadbalancing:DescribeTargetGroupAttributes",
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
];

/// How many calls may run at the same time.
pub const MAX_CALLS: usize = 16;

/// The pauses before a call is repeated that AWS refused because there were too many, after the SDK's own attempts: the
/// first one, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// How long a refused call is repeated if nothing else limits the time for reading.
const REPEAT_FOR: Duration = Duration::from_secs(30);

/// How much of the time for reading is left to calls that follow from what was read one by one.
pub const RESERVED_TO_FOLLOW: Duration = Duration::from_secs(10);

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
    paces: Arc<Paces>,
    calls: Arc<Mutex<Calls>>,
    /// Whether EC2 has refused `IncludeManagedResources`, on all clones: see [`Observer::include_managed`].
    lacks_managed: Arc<AtomicBool>,
    /// When reading must end.
    until: Option<Instant>,
    /// How often [`Observer::for_run`] was called, on all clones.
    runs: Arc<AtomicU64>,
    /// dbt's ports on any of the services; empty if some service takes any. Behind others nothing is read.
    ports: Arc<BTreeSet<u16>>,
    /// Where reading begins: see [`Observer::starting_anywhere`].
    rotation: u64,
}

/// The pace of the calls to each API whose limits the whole account shares.
#[derive(Debug)]
struct Paces {
    ec2: Pace,
    elb: Pace,
}

impl Paces {
    /// Waits for the turn of `call`.
    async fn turn(&self, call: &str) {
        match call.split_once(':') {
            Some(("ec2", _)) => self.ec2.turn().await,
            Some(("elasticloadbalancing", _)) => self.elb.turn().await,
            _ => {}
        }
    }
}

impl Observer {
    /// Reads with clients of this configuration, and ELB at this rate, what is behind these ports, or behind any if it is empty.
    pub fn new(config: &aws_config::SdkConfig, elb: Rate, ports: BTreeSet<u16>) -> Self {
        Self {
            acm: aws_sdk_acm::Client::new(config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(config),
            ec2: clients::ec2(config),
            elb: clients::elb(config),
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
            paces: Arc::new(Paces { ec2: Pace::new(pace::EC2), elb: Pace::new(elb) }),
            calls: Arc::default(),
            lacks_managed: Arc::default(),
            until: None,
            runs: Arc::default(),
            ports: Arc::new(ports),
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

    /// The same observer, for calls that are made one by one and that others follow.
    fn hurried(&self) -> Self {
        let earlier = |until: Instant| {
            let left = until.saturating_duration_since(Instant::now());
            until - RESERVED_TO_FOLLOW.min(left / 2)
        };
        Self { until: self.until.map(earlier), ..self.clone() }
    }

    /// Forgets calls for which no time was left, if what they were made for counts as not read in this run.
    pub fn forget_given_up(&self) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|_, error| !error.as_ref().is_some_and(|error| error.kind == ErrorKind::GivenUp));
    }

    /// The calls so far, each with its first error, if it failed.
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

    /// The value of `IncludeManagedResources`: the account may hide what AWS services manage. The parameter is from April 2026;
    /// an EC2 that does not know it has nothing to hide.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeNetworkInterfaces.html>
    fn include_managed(&self) -> Option<bool> {
        (!self.lacks_managed.load(Ordering::Relaxed)).then_some(true)
    }

    /// Whether EC2 refused a call because it does not know `IncludeManagedResources`. Later calls do without it.
    fn learns_of_managed(&self, error: &CallError) -> bool {
        let is_unknown = error.code() == Some("UnknownParameter") && error.message.contains("IncludeManagedResources");
        if is_unknown {
            self.lacks_managed.store(true, Ordering::Relaxed);
        }
        is_unknown
    }

    /// The parsed response of `call`.
    async fn call<R, T, E>(
        &self,
        call: &'static str,
        send: impl AsyncFn() -> Result<R, SdkError<E>>,
        parse: impl Fn(R) -> Observed<T>,
    ) -> Observed<T>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let read = async || self.in_turn(call, send()).await.map_err(|error| call_error(call, &error)).and_then(&parse);
        self.read(call, read).await
    }

    /// All pages of a list, each row parsed. `next` gives the pages, `split` takes one apart into rows and the token of
    /// the next. Pages follow each other, and each has its turn. A token that repeats is an error: the SDK's paginators
    /// would stop there without a word, and a partial list would look like the whole.
    async fn pages<P, R, T, E>(
        &self,
        call: &'static str,
        mut next: impl AsyncFnMut() -> Option<Result<P, SdkError<E>>>,
        split: impl Fn(P) -> (Option<Vec<R>>, Option<String>),
        parse: impl Fn(&R) -> Observed<T>,
    ) -> Observed<Vec<T>>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (mut parsed, mut tokens) = (Vec::new(), BTreeSet::new());
        while let Some(page) = self.in_turn(call, next()).await {
            let (rows, token) = split(page.map_err(|error| call_error(call, &error))?);
            for row in rows.unwrap_or_default() {
                parsed.push(parse(&row)?);
            }
            let Some(token) = token.filter(|token| !token.is_empty()) else { break };
            if !tokens.insert(token) {
                return Err(malformed_response(call, "it repeats a page, so the list is partial"));
            }
        }
        Ok(parsed)
    }

    /// The answer to one request of `call`, which waits until the pace allows it, and until less than [`MAX_CALLS`] run.
    async fn in_turn<A>(&self, call: &'static str, request: impl Future<Output = A>) -> A {
        // The SDK's futures are large, and a run holds one for each target group.
        let request = Box::pin(request);
        self.paces.turn(call).await;
        // An error only if the semaphore is closed, which it never is.
        let _permit = self.permits.acquire().await;
        request.await
    }

    /// The result of `read`, which is repeated while AWS refuses it because there were too many calls, unless the time for
    /// reading ends before; and once if EC2 does not know a parameter.
    async fn read<T>(&self, call: &'static str, read: impl AsyncFn() -> Observed<T>) -> Observed<T> {
        let until = self.until.unwrap_or_else(|| Instant::now() + REPEAT_FOR);
        let repeated = async {
            let ([mut pause, longest], mut has_learnt) = (PAUSES, false);
            loop {
                match read().await {
                    Err(error) if !has_learnt && self.learns_of_managed(&error) => {
                        has_learnt = true;
                        continue;
                    }
                    Err(error) if error.is_throttled() && Instant::now() + pause < until => {}
                    result => return result,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        };
        let result = match self.until {
            Some(until) => tokio::time::timeout_at(until, repeated).await.unwrap_or_else(|_| Err(no_time_left(call))),
            None => repeated.await,
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
            tracing::error!(%error, "a read failed");
            *first_error = Some(error.clone());
        }
        result
    }

    /// The error of each of `owners` that has an incomplete row, `what`, in the answer to `call`. It names all of them, and is
    /// recorded, though the call succeeded.
    fn incomplete<T: Ord + ToString>(
        &self,
        call: &'static str,
        what: &str,
        owners: BTreeSet<T>,
    ) -> BTreeMap<T, CallError> {
        if owners.is_empty() {
            return BTreeMap::new();
        }
        let named: Vec<String> = owners.iter().map(ToString::to_string).collect();
        let error = malformed_response(call, &format!("{what} of {} is incomplete", named.join(", ")));
        // Recorded; there is no result to pass on.
        let _ = self.record::<()>(call, Err(error.clone()));
        owners.into_iter().map(|owner| (owner, error.clone())).collect()
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
        let observer =
            Observer::new(&config, pace::EC2, BTreeSet::new()).for_run("run", began + Duration::from_secs(80));
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
