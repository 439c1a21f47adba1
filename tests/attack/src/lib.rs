//! A simulated AWS for tests that attack: the functions run against it with the real SDK clients, including retries and
//! timeouts. It simulates the state of EC2, ELB, DynamoDB and SNS, and can refuse, fail, hang, truncate responses, or
//! execute a call and lose the response. The clock of `tokio` is paused, so hanging takes no time.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::panic)]

mod aws;
mod call;
pub mod faults;
pub mod limits;
mod table;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_types::body::SdkBody;
use connection_acceptor::ConnectionAcceptor;
use drift_watcher::DriftWatcher;
use guard_aws::events;
use guard_aws::invocation::{Deadline, Invocation, RunErrors};
use guard_aws::pipeline::Pipeline;
use guard_aws::testing;
use guard_core::config::Settings;
use guard_core::testing::{origin, service, settings};
use health_watcher::HealthWatcher;
use serde_json::Value;
use target_follower::TargetFollower;
use tokio::sync::Notify;

pub use self::aws::{FakeAws, FakeTarget, Flaw, Made, Published, REFUSED_PAGE, Row, TargetChange, target_group};
pub use self::call::{Api, Call};
use self::faults::Fault;
pub use self::table::Table;

/// The usual latency of AWS.
const LATENCY: Duration = Duration::from_millis(20);

/// The simulated AWS, shared by several clients.
pub type Aws = Arc<Mutex<FakeAws>>;

impl FakeAws {
    /// This AWS, for several clients.
    pub fn shared(self) -> Aws {
        Arc::new(Mutex::new(self))
    }
}

/// The connection between an SDK client and the simulated AWS.
#[derive(Debug, Clone)]
struct Wire {
    aws: Aws,
    /// The time until a response arrives.
    latency: Duration,
    /// Signals the death of the process to the test.
    killed: Arc<Notify>,
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { aws, latency, killed } = self.clone();
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(latency).await;
            let body = std::str::from_utf8(request.body().bytes().unwrap()).unwrap();
            let call = Call::new(request.uri(), request.headers().get("x-amz-target"), body);
            let answer = aws.lock().unwrap().take(&call);
            match answer {
                Ok((status, body)) => Ok(Response::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body))),
                Err(Fault::Reset) => Err(ConnectorError::io("connection reset by peer".into())),
                Err(fault) => {
                    if fault == Fault::Kill {
                        killed.notify_one();
                    }
                    std::future::pending().await
                }
            }
        })
    }
}

impl Wire {
    fn config(self, region: Region) -> SdkConfig {
        let wire = SharedHttpConnector::new(self);
        testing::sdk_config(http_client_fn(move |_, _| wire.clone())).into_builder().region(region).build()
    }
}

/// A configuration whose clients call `aws`.
pub fn config(aws: &Aws) -> SdkConfig {
    Wire { aws: aws.clone(), latency: LATENCY, killed: Arc::default() }.config(own_region())
}

/// A function's instance.
#[derive(Debug)]
pub enum Function {
    /// connection-acceptor.
    Acceptor(Pipeline<ConnectionAcceptor>),
    /// health-watcher.
    Health(Pipeline<HealthWatcher>),
    /// drift-watcher.
    Drift(Pipeline<DriftWatcher>),
    /// target-follower.
    Follower(Pipeline<TargetFollower>),
}

/// The functions' names.
pub const FUNCTIONS: [&str; 4] = ["connection-acceptor", "health-watcher", "drift-watcher", "target-follower"];

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It completed everything.
    Done,
    /// It ended in an error that names the failed calls.
    Undone(String),
    /// Lambda's deadline came first.
    OutOfTime,
    /// It was killed.
    Killed,
}

/// An instance of a function, and its kill signal.
#[derive(Debug)]
pub struct RunningFunction {
    function: Function,
    killed: Arc<Notify>,
}

impl RunningFunction {
    /// A new instance with these variables, for all endpoint services of `aws`.
    pub fn new(name: &str, aws: &Aws, variables: &[(&str, &str)]) -> Self {
        Self::with_latency(LATENCY, name, aws, variables)
    }

    /// The same as [`RunningFunction::new`], with this latency of AWS.
    pub fn with_latency(latency: Duration, name: &str, aws: &Aws, variables: &[(&str, &str)]) -> Self {
        let killed = Arc::new(Notify::new());
        let region = own_region();
        let topic = format!("arn:aws:sns:{region}:111122223333:alerts");
        let config = Wire { aws: aws.clone(), latency, killed: killed.clone() }.config(region);
        let count = aws.lock().unwrap().services;
        let services: Vec<String> = (1..=count).map(|number| service(number).to_string()).collect();
        let services = services.join(",");
        let own = [("ENDPOINT_SERVICE_IDS", services.as_str()), ("ALERT_TOPIC_ARN", topic.as_str())];
        let settings = settings(&[&own, variables].concat());
        Self { function: build(name, settings, &config), killed }
    }

    /// Runs one invocation, which Lambda would end after 110 seconds.
    pub async fn run(&self, id: &str, event: &Value) -> End {
        let deadline = Deadline::new(Duration::from_secs(110));
        let invocation = Invocation { id: id.to_owned(), trigger: events::parse(event), origin: origin(), deadline };
        let run = tokio::time::timeout_at(deadline.end, Box::pin(self.handle(invocation)));
        tokio::select! {
            biased;
            () = self.killed.notified() => End::Killed,
            result = run => match result {
                Ok(Ok(())) => End::Done,
                Ok(Err(undone)) => End::Undone(undone.to_string()),
                Err(_) => End::OutOfTime,
            },
        }
    }

    async fn handle(&self, invocation: Invocation) -> Result<(), RunErrors> {
        match &self.function {
            Function::Acceptor(function) => Box::pin(function.handle(invocation)).await,
            Function::Health(function) => Box::pin(function.handle(invocation)).await,
            Function::Drift(function) => Box::pin(function.handle(invocation)).await,
            Function::Follower(function) => Box::pin(function.handle(invocation)).await,
        }
    }
}

/// A unique Region for each instance. Within a process, the SDK's clients share their retry quota by service and
/// Region. In Lambda, each instance is a process; here, one test's retries would affect the next.
fn own_region() -> Region {
    static INSTANCES: AtomicUsize = AtomicUsize::new(0);
    Region::new(format!("region-{}", INSTANCES.fetch_add(1, Ordering::Relaxed)))
}

fn build(name: &str, settings: Settings, config: &SdkConfig) -> Function {
    match name {
        "connection-acceptor" => Function::Acceptor(Pipeline::new(ConnectionAcceptor, settings, config)),
        "health-watcher" => Function::Health(Pipeline::new(HealthWatcher, settings, config)),
        "drift-watcher" => Function::Drift(Pipeline::new(DriftWatcher, settings, config)),
        _ => Function::Follower(Pipeline::new(TargetFollower, settings, config)),
    }
}

/// Runs a new instance of `function` on schedule.
pub async fn run_once(function: &str, aws: &Aws, variables: &[(&str, &str)], id: &str) -> End {
    RunningFunction::new(function, aws, variables).run(id, &testing::scheduled()).await
}

/// Runs `future` with a paused clock, so that waiting takes no time.
pub fn play<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}

/// The range of seeds: its start and length from `ATTACK_SEED` and `ATTACK_SEEDS`, else 1 and `seeds`.
pub fn seeds(seeds: u64) -> std::ops::Range<u64> {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
    };
    let first = number("ATTACK_SEED", 1);
    first..first + number("ATTACK_SEEDS", seeds)
}

/// Prints a line of figures at once, because an attack takes an hour, and the harness hides the `println!` output of
/// passing tests.
///
/// # Panics
/// If standard error is closed.
pub fn report(figures: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("{figures}\n").as_bytes()).unwrap();
}
