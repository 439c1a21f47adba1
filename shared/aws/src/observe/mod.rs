//! The only module that reads EC2, ELB, ACM and CloudWatch. It reads all pages; a failed read is a
//! [`CallError`](guard_core::snapshot::CallError), never an empty list.

/// All parsed rows of the list that `$request` describes: see [`Observer::pages`]. Each attempt starts from the first
/// page.
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

/// The IAM actions of all reads, except for flow logs, which only the command line reads.
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

/// The maximum number of concurrent calls.
pub const MAX_CALLS: usize = 16;

/// The first and the longest pause before a throttled call is repeated, after the SDK's own retries.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// The time for repeating throttled calls if nothing else limits the time for reading.
const REPEAT_FOR: Duration = Duration::from_secs(30);

/// The part of the reading time reserved for follow-up calls after the reads that are made one by one.
pub const RESERVED_TO_FOLLOW: Duration = Duration::from_secs(10);

/// The maximum number of values in one filter.
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
    /// The end of the time for reading.
    until: Option<Instant>,
    /// The number of calls to [`Observer::for_run`], on all clones.
    runs: Arc<AtomicU64>,
    /// dbt's ports on any of the services; empty if a service takes any port. Nothing behind other ports is read.
    ports: Arc<BTreeSet<u16>>,
    /// The offset at which reading begins: see [`Observer::starting_anywhere`].
    rotation: u64,
}

/// The pace of the calls to the APIs whose limits the whole account shares.
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
    /// An observer with this SDK configuration that calls ELB at this rate. It reads only the path behind `ports`, or
    /// behind all ports if the set is empty.
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

    /// An observer for the run `id` with the same clients, with its own record of calls, which reads nothing after
    /// `until`.
    #[must_use]
    pub fn for_run(&self, id: &str, until: Instant) -> Self {
        let mut hasher = DefaultHasher::new();
        (id, self.runs.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
        Self { calls: Arc::default(), until: Some(until), rotation: hasher.finish(), ..self.clone() }
    }

    /// The same observer with an earlier deadline, for calls that are made one by one and that others follow.
    fn hurried(&self) -> Self {
        let earlier = |until: Instant| {
            let left = until.saturating_duration_since(Instant::now());
            until - RESERVED_TO_FOLLOW.min(left / 2)
        };
        Self { until: self.until.map(earlier), ..self.clone() }
    }

    /// Forgets the calls for which no time was left, if this run treats their services as not read.
    pub fn forget_given_up(&self) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|_, error| !error.as_ref().is_some_and(|error| error.kind == ErrorKind::GivenUp));
    }

    /// The calls so far, each with its first error, if any.
    pub fn calls(&self) -> Calls {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same observer with a separate record of calls.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { calls: Arc::default(), ..self.clone() }
    }

    /// Adds separately recorded calls, unless this observer has made them itself.
    pub fn include(&self, calls: Calls) {
        let mut own = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for (call, error) in calls {
            own.entry(call).or_insert(error);
        }
    }

    /// The value of `IncludeManagedResources`, because the account may hide resources that AWS services manage. The
    /// parameter dates from April 2026; an EC2 endpoint that does not know it hides nothing.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeNetworkInterfaces.html>
    fn include_managed(&self) -> Option<bool> {
        (!self.lacks_managed.load(Ordering::Relaxed)).then_some(true)
    }

    /// Whether EC2 refused a call because it does not know `IncludeManagedResources`. Later calls then omit it.
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

    /// The parsed rows of all pages of a list. `next` returns the pages, and `split` separates a page into its rows and
    /// the next page's token. Pages are read in sequence, each at the permitted pace. A repeated token is an error: the
    /// SDK's paginators would silently stop there, and a partial list would look complete.
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

    /// The response to one request of `call`, which waits until the pace allows it and fewer than [`MAX_CALLS`] are
    /// running.
    async fn in_turn<A>(&self, call: &'static str, request: impl Future<Output = A>) -> A {
        // The SDK's futures are large, and a run holds one for each target group.
        let request = Box::pin(request);
        self.paces.turn(call).await;
        // This fails only if the semaphore is closed, which never happens.
        let _permit = self.permits.acquire().await;
        request.await
    }

    /// The result of `read`, repeated while AWS throttles it and time for reading is left, and once if EC2 does not
    /// know a parameter.
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

    /// `items`, rotated by an offset, so that the same items are not always last when time runs out. The run's id and a
    /// count decide the offset, so that a retry, which has the same id, differs, and tests are reproducible. The clock
    /// is unsuitable: a schedule of 15 minutes would select the same one of five each time.
    fn starting_anywhere<T>(&self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut items: Vec<T> = items.into_iter().collect();
        let first = self.rotation.checked_rem(items.len() as u64).unwrap_or_default();
        items.rotate_left(usize::try_from(first).unwrap_or_default());
        items
    }

    /// Records the result of `call`, and returns it.
    fn record<T>(&self, call: &'static str, result: Observed<T>) -> Observed<T> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let first_error = calls.entry(call).or_default();
        if let (Err(error), None) = (&result, &first_error) {
            tracing::error!(%error, "a read failed");
            *first_error = Some(error.clone());
        }
        result
    }

    /// One error for each of `owners` that has an incomplete row, `what`, in the response to `call`. The error names
    /// all owners, and is recorded although the call succeeded.
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
        // Only the record matters; there is no result to return.
        let _ = self.record::<()>(call, Err(error.clone()));
        owners.into_iter().map(|owner| (owner, error.clone())).collect()
    }

    /// Reads `values` in batches of `size`, and joins the responses. Without values it makes no call, because EC2
    /// returns everything in the account if the filter is missing.
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

    use aws_smithy_http_client::test_util::{NeverClient, infallible_client_fn};
    use aws_smithy_types::body::SdkBody;
    use guard_core::testing::service;

    use super::*;
    use crate::testing;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_read_ends_in_time_and_names_the_reason() {
        let config = testing::config(NeverClient::new());
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

    #[tokio::test(start_paused = true)]
    async fn a_parameter_unknown_to_ec2_is_omitted_from_then_on() {
        let asked: Arc<Mutex<Vec<bool>>> = Arc::default();
        let all_asked = asked.clone();
        let client = infallible_client_fn(move |request: http::Request<SdkBody>| {
            let body = std::str::from_utf8(request.body().bytes().unwrap()).unwrap();
            let is_unknown = body.contains("IncludeManagedResources");
            asked.lock().unwrap().push(is_unknown);
            let (status, body) = match is_unknown {
                true => (
                    400,
                    "<Response><Errors><Error><Code>UnknownParameter</Code><Message>The parameter \
                     IncludeManagedResources is not recognized</Message></Error></Errors></Response>",
                ),
                false => (200, "<DescribeNetworkInterfacesResponse></DescribeNetworkInterfacesResponse>"),
            };
            http::Response::builder().status(status).body(SdkBody::from(body)).unwrap()
        });
        let observer = Observer::new(&testing::config(client), pace::EC2, BTreeSet::new());
        for run in ["first", "second"] {
            let observer = observer.for_run(run, Instant::now() + Duration::from_mins(1));
            assert_eq!(observer.nodes(["ELB net/pg/0123456789abcdef".to_owned()].into()).await, Ok(Vec::new()));
            assert!(observer.calls().values().all(Option::is_none), "it is no failure");
        }
        assert_eq!(*all_asked.lock().unwrap(), [true, false, false]);
    }
}
