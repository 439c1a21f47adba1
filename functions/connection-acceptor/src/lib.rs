//! connection-acceptor: accepts connection requests from dbt, and from no one else.
//!
//! Whatever triggers it, the function reads all connections of the configured services, decides on each, and reads
//! again until its changes show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use guard_aws::apply::Outcome;
use guard_aws::memory::{established, recorded_admissions};
use guard_aws::metrics::Metric;
use guard_aws::pipeline::{Done, Read, Run, Watcher};
use guard_core::admission::{self, Decided, admit};
use guard_core::alerts::reconcile::Report;
use guard_core::alerts::record::admissions;
use guard_core::catalogue::checks_of;
use guard_core::check::{Check, Group};
use guard_core::checks::connection_untrusted;
use guard_core::connections::{self, Verdict, decide};
use guard_core::ids::{EndpointId, ServiceId};
use guard_core::plan::Plan;
use guard_core::snapshot::{CallError, Connection, ErrorKind, Topology};
use guard_core::trigger::Trigger;
use jiff::Timestamp;

/// The pauses before the reads that confirm a change. A later run reports a change that takes longer.
const CONFIRM_AFTER: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// The function.
#[derive(Debug)]
pub struct ConnectionAcceptor;

impl Watcher for ConnectionAcceptor {
    const NAME: &'static str = "connection-acceptor";
    const HIDDEN: Option<Check> = Some(&connection_untrusted::SPEC);

    /// Reads the connections. If a notification names an endpoint of a configured service that EC2's list lacks, the
    /// function reads again after a pause: the notification only hints that the list lags behind.
    async fn read(&self, run: &Run<'_>, _: &BTreeSet<ServiceId>) -> Vec<Read> {
        log_unconfigured_services(run);
        let mut read = connections(run).await;
        for pause in CONFIRM_AFTER {
            if !lacks_mentioned(&read, run) {
                break;
            }
            tokio::time::sleep(pause).await;
            read = connections(run).await;
        }
        for connection in read.connections() {
            let Connection { service, endpoint, owner, state, .. } = connection;
            let owner = owner.as_ref().map_or("not named", |owner| owner.as_str());
            let verdict = decide(connection, &run.settings.policy);
            tracing::info!(%service, %endpoint, owner, %state, ?verdict, "decided");
        }
        vec![read]
    }

    /// Accepting waits for the table if there is a limit, because held requests must stay held. Rejecting always waits,
    /// because it must not hit a connection that the table knows as dbt's.
    async fn plan(&self, run: &Run<'_>, reads: &[Read]) -> Plan {
        let policy = &run.settings.policy;
        let Some(connections) = reads.first().map(Read::connections) else { return Plan::default() };
        let now = Timestamp::now();
        if !admission::needs_memory(connections, policy) && !connections::needs_memory(connections, policy) {
            return Plan::accepts(connections, policy, &BTreeMap::new(), now);
        }
        let Some(states) = run.memory.for_plan().await else {
            return Plan { lacks_memory: true, ..Plan::accepts(connections, policy, &BTreeMap::new(), now) };
        };
        let Plan { reject, .. } = Plan::rejects(connections, policy, established(states).as_ref());
        Plan { reject, ..Plan::accepts(connections, policy, &recorded_admissions(states), now) }
    }

    /// Reads again until all changes show, or the pauses are used up. The first read then counts only for untrusted
    /// accounts, because a rejected account did send a request.
    async fn read_again(&self, run: &Run<'_>, plan: &Plan, reads: &mut Vec<Read>) {
        let answered: BTreeSet<&EndpointId> = plan.endpoints().collect();
        let is_pending = |connection: &Connection| {
            use Verdict::{DbtRequest, Establishing, UntrustedConnected, UntrustedRequest};
            let verdict = decide(connection, &run.settings.policy);
            answered.contains(&connection.endpoint)
                && matches!(verdict, DbtRequest | Establishing | UntrustedRequest | UntrustedConnected)
        };
        let mut last = None;
        for pause in CONFIRM_AFTER {
            tokio::time::sleep(pause).await;
            let read = connections(run).await;
            let mut changed = plan.accept.keys().chain(plan.reject.keys());
            let is_unread = changed.any(|service| read.topology.unread_connections.contains_key(service));
            if is_unread || matches!(read.topology.connections, Some(Err(_))) {
                break;
            }
            let settled = !read.connections().iter().any(is_pending);
            last = Some(read);
            if settled {
                break;
            }
        }
        if let Some(last) = last {
            for read in reads.iter_mut() {
                read.checks = vec![&connection_untrusted::SPEC];
            }
            reads.push(last);
        }
    }

    fn remember<'a>(&self, run: &Run<'_>, reads: &'a [Read], done: Done<'_>, report: &mut Report<'a>) {
        let Some(last) = reads.last().filter(|read| matches!(read.topology.connections, Some(Ok(_)))) else { return };
        if report.partition.service().is_some_and(|service| last.topology.unread_connections.contains_key(service)) {
            return;
        }
        report.connections = Some((last.connections(), last.began));
        let (policy, now) = (&run.settings.policy, Timestamp::now());
        let (Some(service), Some(items)) = (report.partition.service(), done.items) else { return };
        // If the record is unreadable, all waiting requests count as held, and a readable record replaces it.
        let before = admissions(items);
        let admission = admit(last.connections(), policy, service, before.as_ref(), now);
        let planned = done.plan.accept.get(service).into_iter().flatten();
        let accepted =
            planned.filter(|endpoint| !policy.dry_run && !done.outcome.refused.contains_key(endpoint.as_str()));
        let accepted: Vec<EndpointId> = accepted.cloned().collect();
        let on_service = last.connections().iter().filter(|connection| connection.service == *service);
        let before = before.unwrap_or_default();
        report.admissions = Some(Decided::new(on_service, policy, &before, admission, accepted));
    }

    /// Unreadable connections, or a request that a notification names and EC2 does not list within the run: a request
    /// may be waiting, and Lambda retries sooner than the schedule.
    fn left_undone(&self, run: &Run<'_>, reads: &[Read]) -> Option<CallError> {
        let last = reads.last()?;
        let of_all = last.topology.connections.as_ref().and_then(|read| read.as_ref().err());
        if let Some(error) = of_all.or_else(|| last.topology.unread_connections.values().next()) {
            return Some(error.clone());
        }
        lacks_mentioned(last, run).then(|| {
            let message = "the list does not show an endpoint that a notification names";
            CallError::new("ec2:DescribeVpcEndpointConnections", ErrorKind::GivenUp, message)
        })
    }

    fn metrics(&self, run: &Run<'_>, _: &[Read], plan: &Plan, outcome: &Outcome) -> Vec<Metric> {
        let planned = plan.accept.values().flatten();
        let accepted = planned.filter(|endpoint| !outcome.refused.contains_key(endpoint.as_str())).count();
        let accepted = if run.settings.policy.dry_run { 0 } else { accepted };
        vec![("AcceptedConnections", accepted), ("FailedConnectionChanges", outcome.refused.len())]
    }
}

/// All connections of the configured services.
async fn connections(run: &Run<'_>) -> Read {
    let (began, services) = (Timestamp::now(), &run.settings.policy.services);
    let mut topology = Topology::default();
    topology.set_connections(run.observer.connections(services).await);
    Read::new(services.clone(), topology, began, checks_of(&[Group::Connections]))
}

fn log_unconfigured_services(run: &Run<'_>) {
    let Trigger::Notification { id, mentions, .. } = &run.invocation.trigger else { return };
    let services = mentions.iter().filter_map(|mention| mention.parse::<ServiceId>().ok());
    for service in services.filter(|service| !run.settings.policy.services.contains(service)) {
        tracing::warn!(id, %service, "the notification names a service that is not configured; ignored");
    }
}

fn lacks_mentioned(read: &Read, run: &Run<'_>) -> bool {
    let (Trigger::Notification { mentions, .. }, Some(Ok(connections))) =
        (&run.invocation.trigger, &read.topology.connections)
    else {
        return false;
    };
    let is_ours = |id: &String| id.parse().is_ok_and(|id: ServiceId| run.settings.policy.services.contains(&id));
    let is_missing = |id: &String| {
        id.parse().is_ok_and(|id: EndpointId| connections.iter().all(|connection| connection.endpoint != id))
    };
    mentions.iter().any(is_ours) && mentions.iter().any(is_missing)
}
