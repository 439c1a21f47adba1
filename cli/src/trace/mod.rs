//! `trace`: the place where the requests of a time stopped, from AWS's metrics and the load balancer's flow logs.
//!
//! [`span`] is the time; [`metrics`] and [`flow_logs`] read the [`facts`]; [`verdict`] decides, [`evidence`] gives the
//! reasons, and [`render`] prints them.

mod evidence;
mod facts;
mod flow_logs;
mod metrics;
mod render;
mod span;
mod verdict;
mod words;

use std::collections::BTreeSet;

use anyhow::Result;
use guard_aws::observe::{Observer, Scope, pace};
use guard_core::ids::{AccountId, Arn, EndpointId, ServiceId};
use guard_core::snapshot::{Connection, Connections, LoadBalancer, Observed, Topology};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use self::evidence::missing;
use self::facts::{Endpoints, Freshness, TraceFacts};
use self::flow_logs::{LoggedPath, SearchOutcome};
use self::metrics::{Measured, Reading, Subjects};
use self::span::Span;
use self::verdict::{Decision, TraceVerdict, decide};
use crate::args::{self, AwsArgs};
use crate::check::Expectations;
use crate::output;
use crate::progress::Progress;
use crate::session::{Session, explained};

/// The IAM actions of all calls that [`Observer`] does not make for the checks.
pub const ACTIONS: [&str; 5] =
    ["ec2:DescribeFlowLogs", "logs:DescribeLogGroups", "logs:GetQueryResults", "logs:StartQuery", "logs:StopQuery"];

/// The usual maximum delay of CloudWatch; AWS documents none.
const LATENESS: SignedDuration = SignedDuration::from_mins(5);

/// The age up to which the endpoints' present states still apply to a past time.
const STATES_HOLD: SignedDuration = SignedDuration::from_hours(1);

/// The outcome of the requests to an endpoint service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ServiceTrace {
    pub service: ServiceId,
    pub name: Option<String>,
    /// The account and the Region of the calls.
    pub place: String,
    pub span: Span,
    /// The counts, or the reason why they are unknown.
    pub measured: Result<Measured, String>,
    pub decision: Decision,
    pub missing: Vec<Gap>,
}

/// A fact that AWS did not record or that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gap {
    /// The fact, and the reason why it is missing.
    pub what: String,
    /// A command that helps to get the fact.
    pub command: Option<String>,
}

impl Gap {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), command: None }
    }
}

/// Traces the requests to each service and returns the exit status: 2 if a verdict is unknown, else 0.
///
/// # Errors
/// If the arguments make no sense, or if the services cannot be determined.
pub async fn run(aws: &AwsArgs, arguments: &args::TraceArgs) -> Result<u8> {
    let span = Span::of(arguments, Timestamp::now())?;
    let session = Session::open(aws).await?;
    let expectations = Expectations::new(&session, &arguments.subject, None).await?;
    let account = session.identity().await.map_or_else(|_| "unknown".to_owned(), |identity| identity.account);
    let place = format!("account {account}, {}", session.region);
    let reader = TraceReader {
        observer: Observer::new(&session.config, pace::ELB, expectations.policy.all_ports()),
        place,
        session: &session,
        span,
        yes: arguments.yes,
    };
    let traces = reader.traces(&expectations).await;
    for (number, trace) in traces.iter().enumerate() {
        let gap = if number > 0 { "\n" } else { "" };
        output::print(&format!("{gap}{}", render::render(trace, &TimeZone::system(), textwrap::termwidth())))?;
    }
    let is_unknown = traces.iter().any(|trace| trace.decision.verdict == TraceVerdict::Unknown);
    Ok(if is_unknown { 2 } else { 0 })
}

/// A reader of the facts about a span of time.
struct TraceReader<'a> {
    observer: Observer,
    place: String,
    session: &'a Session,
    span: Span,
    yes: bool,
}

impl TraceReader<'_> {
    async fn traces(&self, expectations: &Expectations) -> Vec<ServiceTrace> {
        let services = &expectations.policy.services;
        let progress = Progress::start("Reading the path in AWS");
        let (topology, connections) =
            tokio::join!(self.observer.topology(services, Scope::Health), self.observer.connections(services));
        progress.stop();
        let mut traces = Vec::new();
        // One at a time: a search of flow logs costs money and announces that first.
        for service in services {
            traces.push(self.trace(service, &topology, &connections, expectations).await);
        }
        traces
    }

    async fn trace(
        &self,
        service: &ServiceId,
        topology: &Topology,
        connections: &Observed<Connections>,
        expectations: &Expectations,
    ) -> ServiceTrace {
        let (dbt, ports) = (expectations.dbt_accounts(), expectations.policy.listener_ports.for_service(Some(service)));
        // The connection list of a missing service is empty, and proves nothing.
        let connections = topology.service(service).map_err(|why| why.to_string()).and_then(|_| {
            let read = connections.as_ref();
            let of_service = read.and_then(|read| read.unread.get(service).map_or(Ok(&read.listed), Err));
            of_service.map_err(explained)
        });
        let of_service = connections.as_ref().map(|all| of_service(all, service, dbt)).map_err(Clone::clone);
        let of_all = connections.as_ref().map_or(0, |all| self::of_service(all, service, None).len());
        let path = topology.load_balancers_of(service);
        let load_balancers = path.as_deref().unwrap_or_default();
        let subjects = subjects(service, of_service.as_deref().ok(), load_balancers, &ports);
        let now = Timestamp::now();
        let SearchOutcome { rejections, gaps } = self.logs().search(&LoggedPath::of(load_balancers, &ports)).await;
        let measured = self.measure(&subjects).await;
        let facts = TraceFacts {
            endpoints: of_service.map(|connections| Endpoints {
                of_others: of_all - connections.len(),
                ..endpoints(&connections, dbt.is_some())
            }),
            totals: measured.as_ref().map(|measured| measured.totals.clone()).map_err(Clone::clone),
            rejections,
            freshness: freshness(self.span, now),
            is_past: now.duration_since(self.span.to) > STATES_HOLD,
        };
        let unread = path.as_ref().err().map(|why| Gap::new(format!("What is behind the endpoint service: {why}")));
        let unknown = missing(&facts).into_iter().map(Gap::new);
        ServiceTrace {
            service: service.clone(),
            name: topology.service(service).ok().and_then(|service| service.name.clone()),
            place: self.place.clone(),
            span: self.span,
            decision: decide(&facts),
            missing: unread.into_iter().chain(unknown).chain(gaps).collect(),
            measured,
        }
    }

    async fn measure(&self, subjects: &Subjects) -> Result<Measured, String> {
        let queries = subjects.queries(self.span);
        let asked: Vec<_> = queries.iter().map(|Reading { query, .. }| query.clone()).collect();
        let progress = Progress::start("Reading the metrics in CloudWatch");
        let answers = self.observer.series(&asked, self.span.from, self.span.to).await;
        progress.stop();
        Ok(Measured::new(self.span, &queries, &answers.map_err(|error| explained(&error))?))
    }

    fn logs(&self) -> flow_logs::Logs<'_> {
        flow_logs::Logs { observer: &self.observer, session: self.session, span: self.span, yes: self.yes }
    }
}

/// The connections that count: dbt's, or all of the service's if the user did not name dbt's accounts.
fn of_service<'a>(
    connections: &'a [Connection],
    service: &ServiceId,
    dbt: Option<&BTreeSet<AccountId>>,
) -> Vec<&'a Connection> {
    let is_dbts = |connection: &Connection| {
        dbt.is_none_or(|dbt| connection.owner.as_ref().is_some_and(|owner| dbt.contains(owner)))
    };
    connections.iter().filter(|connection| connection.service == *service && is_dbts(connection)).collect()
}

/// The resources whose metrics to read. Every endpoint in this Region counts, since one that is not connected now may
/// have been connected then. Without any, the whole service counts, since an endpoint may have been deleted since.
fn subjects(
    service: &ServiceId,
    connections: Option<&[&Connection]>,
    load_balancers: &[&LoadBalancer],
    ports: &BTreeSet<u16>,
) -> Subjects {
    let near = |connections: &[&Connection]| -> Vec<EndpointId> {
        let near = connections.iter().filter(|connection| connection.region.is_none());
        near.map(|connection| connection.endpoint.clone()).collect()
    };
    let connections = connections.filter(|connections| !connections.is_empty());
    let groups = |load_balancer: &&LoadBalancer| -> (Arn, Vec<Arn>) {
        (load_balancer.arn.clone(), load_balancer.forwards_to(ports).into_iter().collect())
    };
    Subjects {
        service: service.clone(),
        endpoints: connections.map(near),
        load_balancers: load_balancers.iter().map(groups).collect(),
    }
}

fn endpoints(connections: &[&Connection], of_dbt: bool) -> Endpoints {
    let (connected, waiting): (Vec<&Connection>, Vec<&Connection>) =
        connections.iter().partition(|connection| connection.state.is_connected());
    let far: Vec<String> = connected.iter().filter_map(|connection| connection.region.clone()).collect();
    Endpoints {
        near: connected.len() - far.len(),
        far,
        waiting: waiting.iter().map(|connection| format!("{} ({})", connection.endpoint, connection.state)).collect(),
        of_dbt,
        of_others: 0,
    }
}

fn freshness(span: Span, now: Timestamp) -> Freshness {
    let settled = now - LATENESS;
    if span.to <= settled {
        Freshness::Settled
    } else if settled.duration_since(span.from) * 2 >= span.length() {
        Freshness::EndIsLate
    } else {
        Freshness::AllIsLate
    }
}

impl LoggedPath {
    fn of(load_balancers: &[&LoadBalancer], ports: &BTreeSet<u16>) -> Self {
        let listeners = load_balancers.iter().flat_map(|load_balancer| load_balancer.listeners.iter().flatten());
        let groups = load_balancers.iter().flat_map(|load_balancer| load_balancer.groups_on(ports));
        Self {
            load_balancers: load_balancers.iter().map(|load_balancer| load_balancer.arn.clone()).collect(),
            ports: listeners.filter(|listener| listener.serves(ports)).map(|listener| listener.port).collect(),
            targets: groups
                .flat_map(|group| group.targets.iter().flatten())
                .filter_map(|target| target.address)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use guard_core::testing::{at, connection, endpoint, listener, load_balancer, service, target_group};

    use super::*;

    fn connections() -> Vec<Connection> {
        let near = connection(1, Some("444455556666"), "available");
        let far =
            Connection { region: Some("us-east-1".to_owned()), ..connection(2, Some("444455556666"), "available") };
        let waiting = connection(3, Some("444455556666"), "pendingAcceptance");
        vec![near, far, waiting, connection(4, Some("777788889999"), "available"), connection(5, None, "available")]
    }

    #[test]
    fn only_dbts_endpoints_count_if_dbt_is_known() {
        let (all, dbt) = (connections(), BTreeSet::from(["444455556666".parse().unwrap()]));
        let of_dbt = of_service(&all, &service(1), Some(&dbt));
        let expected = Endpoints {
            near: 1,
            far: vec!["us-east-1".to_owned()],
            waiting: vec![format!("{} (pendingAcceptance)", endpoint(3))],
            of_dbt: true,
            of_others: 0,
        };
        assert_eq!(endpoints(&of_dbt, true), expected);
        let of_all = endpoints(&of_service(&all, &service(1), None), false);
        assert_eq!((of_all.near, of_all.of_dbt), (3, false));
        assert!(of_service(&all, &service(2), None).is_empty());
    }

    #[test]
    fn metrics_are_read_for_local_endpoints_or_for_all_if_none() {
        let group = target_group("pg");
        let mut balancer = load_balancer("pg", vec![group.clone()]);
        balancer.listeners = Ok(vec![listener("TCP", 5432, &group), listener("UDP", 53, &target_group("dns"))]);
        let (all, any) = (connections(), BTreeSet::new());
        let read = |connections: &[&Connection]| subjects(&service(1), Some(connections), &[&balancer], &any);
        let of_dbt = read(&[&all[0], &all[1], &all[2]]);
        assert_eq!(of_dbt.endpoints, Some(vec![endpoint(1), endpoint(3)]));
        assert_eq!(of_dbt.load_balancers, [(balancer.arn.clone(), vec![group.arn])]);
        assert_eq!(read(&[&all[1]]).endpoints, Some(vec![]), "AWS has no metrics of other Regions' endpoints");
        assert_eq!(read(&[]).endpoints, None, "one may have been deleted since");
        assert_eq!(subjects(&service(1), None, &[], &any).endpoints, None);
    }

    #[test]
    fn metrics_settle_five_minutes_after_the_end() {
        let span = Span { from: at(9, 0), to: at(9, 20), period: SignedDuration::from_mins(1) };
        let table = [
            (at(9, 30), Freshness::Settled),
            (at(9, 25), Freshness::Settled),
            (at(9, 24), Freshness::EndIsLate),
            (at(9, 15), Freshness::EndIsLate),
            (at(9, 14), Freshness::AllIsLate),
            (at(9, 4), Freshness::AllIsLate),
        ];
        for (now, expected) in table {
            assert_eq!(freshness(span, now), expected, "{now}");
        }
    }
}
