//! drift-watcher: detects configuration drift, and names who caused it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use guard_aws::memory::{LoadedState, States};
use guard_aws::observe::Scope;
use guard_aws::pipeline::{Done, Read, Run, Watcher};
use guard_core::alerts::reconcile::{ReadPath, Report};
use guard_core::alerts::record::{Items, Partition, stored_path};
use guard_core::alerts::traffic::{self, Question};
use guard_core::alerts::{heartbeat, inventory, reuse};
use guard_core::catalogue::checks_of;
use guard_core::check::{Check, Group};
use guard_core::checks::cross_zone;
use guard_core::config::CrossZone;
use guard_core::ids::ServiceId;
use guard_core::plan::Plan;
use guard_core::snapshot::{Connection, KnownDetails, StoredPath, Traffic};
use guard_core::trigger::Trigger;
use jiff::Timestamp;

/// The function.
#[derive(Debug)]
pub struct DriftWatcher;

impl Watcher for DriftWatcher {
    const NAME: &'static str = "drift-watcher";
    const HIDDEN: Option<Check> = Some(&cross_zone::SPEC);
    const WATCHES_DELIVERY: bool = true;

    const REACTS_TO_CHANGES: bool = true;
    /// A duration that lets the run and its follow-up calls end within the function's timeout.
    const TURN: Option<Duration> = Some(Duration::from_secs(65));

    /// One call for each load balancer and target group, and the calls for details if those are due.
    fn calls(&self, run: &Run<'_>, items: &Items, anew: bool) -> Option<usize> {
        let path = stored_path(items)?;
        let are_known = reuse::has_recent_details(path, run.began)
            && !matches!(run.invocation.trigger, Trigger::Change(_))
            && !reuse::awaits_details(items, Self::NAME);
        Some(path.calls(anew || !are_known))
    }

    async fn read(&self, run: &Run<'_>, services: &BTreeSet<ServiceId>) -> Vec<Read> {
        let (began, policy, states) = (Timestamp::now(), &run.settings.policy, run.memory.all().await);
        let known = known_details(run, states, services);
        // Connection notifications are read as rarely as details.
        let are_due = services.iter().any(|service| known.of(service).is_none());
        let notifications = policy.notification_topic.is_some() && are_due;
        let scope = Scope::Settings { notifications, known: &known };
        let mut topology = run.observer.topology(services, scope).await;
        // Without the connections, no endpoint is known.
        let connections = topology.connections.iter().flatten().flatten().cloned().collect();
        topology.traffic = traffic(run, connections, states, services).await;
        let detailed_at = |service: &ServiceId| (service.clone(), known.of(service).unwrap_or(began));
        topology.detailed_at = services.iter().map(detailed_at).collect();
        vec![Read::new(services.clone(), topology, began, checks_of(&[Group::Settings]))]
    }

    async fn plan(&self, run: &Run<'_>, reads: &[Read]) -> Plan {
        match (run.settings.policy.cross_zone, reads.first()) {
            (CrossZone::Enforce, Some(Read { topology, services, .. })) => {
                Plan::enforces_cross_zone(topology, services, &run.settings.policy.listener_ports)
            }
            _ => Plan::default(),
        }
    }

    /// Reads the changed attributes; only cross-zone load balancing counts for this read.
    async fn read_again(&self, run: &Run<'_>, plan: &Plan, reads: &mut Vec<Read>) {
        let Some(first) = reads.first() else { return };
        let (began, services) = (Timestamp::now(), first.services.clone());
        let topology = run.observer.cross_zone_again(first.topology.clone(), plan).await;
        reads.push(Read::new(services, topology, began, vec![&cross_zone::SPEC]));
    }

    fn remember<'a>(&self, run: &Run<'_>, reads: &'a [Read], done: Done<'_>, report: &mut Report<'a>) {
        let (Some(service), items) = (report.partition.service(), done.items) else { return };
        if run.invocation.trigger == Trigger::Heartbeat {
            report.heartbeat = Some(heartbeat::notice(report.evaluations.first(), items, Timestamp::now()));
        }
        let stored = items.and_then(stored_path);
        let details_due = |read_at| ReadPath { path: stored.map(StoredPath::with_details_due), read_at };
        let of_service = |read: &&Read| read.services.contains(service);
        let (Some(first), Some(last)) = (reads.iter().find(of_service), reads.iter().rfind(of_service)) else {
            // The change may concern a detail, and this run has not read the details.
            let changed = matches!(run.invocation.trigger, Trigger::Change(_)) && run.asked.contains(service);
            report.path = (changed && stored.is_some()).then(|| details_due(run.began));
            return;
        };
        let (topology, began) = (&first.topology, first.began);
        report.in_place = inventory::in_place(items, topology, service);
        report.traffic = topology.traffic.get(service).cloned();
        // The last read includes the guard's own changes to attributes.
        let detailed_at = topology.detailed_at.get(service);
        let path = detailed_at.and_then(|detailed_at| StoredPath::new(&last.topology, service, began, *detailed_at));
        let ports = run.settings.policy.all_ports();
        let path = path.map(|path| path.behind(ports).remembering(stored));
        let outdated = stored.is_some_and(|stored| stored.is_contradicted_by(topology));
        report.path = match path {
            None if stored.is_some() && !outdated => Some(details_due(began)),
            path => (path.is_some() || outdated).then_some(ReadPath { path, read_at: began }),
        };
    }
}

/// The details of `services` that need not be read again; none after a change, which may concern a detail.
fn known_details<'a>(run: &Run<'_>, states: &'a States, services: &BTreeSet<ServiceId>) -> KnownDetails<'a> {
    let anew = match run.invocation.trigger {
        Trigger::Change(_) => services.clone(),
        _ => BTreeSet::new(),
    };
    let of_service =
        |(partition, state): (&'a Partition, &'a LoadedState)| Some((partition.service()?, state.as_ref().ok()?));
    reuse::known_details(states.iter().filter_map(of_service), &anew, DriftWatcher::NAME, run.began)
}

/// dbt's last connections according to CloudWatch, with one call for all services that are due.
async fn traffic(
    run: &Run<'_>,
    connections: Vec<Connection>,
    states: &States,
    services: &BTreeSet<ServiceId>,
) -> BTreeMap<ServiceId, Traffic> {
    let (policy, now) = (&run.settings.policy, Timestamp::now());
    let due = states.iter().filter_map(|(partition, state)| {
        // Without this record, every run would ask CloudWatch.
        let before = traffic::recorded(state.as_ref().ok()?);
        let service = partition.service().filter(|service| services.contains(service))?;
        Some((service, before, traffic::question(service, &connections, before, policy, now)?))
    });
    let due: Vec<_> = due.collect();
    let Some(from) = due.iter().map(|(_, _, question)| question.from).min() else { return BTreeMap::new() };
    let endpoints = due.iter().flat_map(|(_, _, question)| question.endpoints.clone()).collect();
    // A failed call is recorded with the run's calls, and yields no traffic.
    let Ok(answer) = run.observer.last_connections(endpoints, from, now).await else { return BTreeMap::new() };
    let next = |(service, before, question): &(&ServiceId, Option<&Traffic>, Question)| {
        ((*service).clone(), traffic::next(*before, question, &answer, now))
    };
    due.iter().map(next).collect()
}
