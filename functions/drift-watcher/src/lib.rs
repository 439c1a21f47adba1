//! drift-watcher: is everything still configured as it must be, and who changed it?

use std::collections::BTreeMap;

use guard_aws::memory::States;
use guard_aws::observe::Scope;
use guard_aws::pipeline::{Done, Read, Run, Watcher, checks};
use guard_core::alerts::reconcile::{ReadPath, Report};
use guard_core::alerts::traffic::{self, Question};
use guard_core::alerts::{heartbeat, inventory, stored_path};
use guard_core::check::{Check, Group};
use guard_core::checks::cross_zone;
use guard_core::config::CrossZone;
use guard_core::ids::ServiceId;
use guard_core::plan::Plan;
use guard_core::snapshot::{Connection, StoredPath, Topology, Traffic};
use guard_core::trigger::Trigger;
use jiff::Timestamp;

/// The function.
#[derive(Debug)]
pub struct DriftWatcher;

impl Watcher for DriftWatcher {
    const NAME: &'static str = "drift-watcher";
    const CHECKS: Group = Group::Settings;
    const HIDDEN: Option<Check> = Some(&cross_zone::SPEC);
    const WATCHES_DELIVERY: bool = true;

    async fn read(&self, run: &Run<'_>) -> Vec<Read> {
        let (began, policy) = (Timestamp::now(), &run.settings.policy);
        let scope = Scope::Settings { notifications: policy.notification_topic.is_some() };
        let (mut topology, states) = tokio::join!(run.observer.topology(&policy.services, scope), run.memory.all());
        // Without the connections there is nothing to ask about.
        let connections = topology.connections.iter().flatten().flatten().cloned().collect();
        let (traffic, ()) =
            tokio::join!(traffic(run, connections, states), name_target_groups(run, &mut topology, states));
        topology.traffic = traffic;
        vec![Read::new(policy.services.clone(), topology, began, checks::<Self>())]
    }

    async fn plan(&self, run: &Run<'_>, reads: &[Read]) -> Plan {
        match run.settings.policy.cross_zone {
            CrossZone::Enforce => {
                Plan::enforces_cross_zone(reads.iter().flat_map(|read| read.topology.load_balancers.values()))
            }
            CrossZone::Alert | CrossZone::Ignore => Plan::default(),
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
        let items = done.items;
        let (Some(service), Some(Read { topology, began, .. })) = (report.partition.service(), reads.first()) else {
            return;
        };
        report.in_place = inventory::in_place(topology, service);
        report.traffic = topology.traffic.get(service).cloned();
        let path = topology.named_at.and_then(|named_at| StoredPath::new(topology, service, *began, named_at));
        let outdated = items.and_then(stored_path::recorded).is_some_and(|stored| stored.is_contradicted_by(topology));
        report.path = (path.is_some() || outdated).then_some(ReadPath { path, read_at: *began });
        let first = report.evaluations.first().filter(|_| run.invocation.trigger == Trigger::Heartbeat);
        report.heartbeat = first.map(|first| heartbeat::notice(first, items, Timestamp::now()));
    }
}

/// Asks CloudWatch when dbt last connected, in one call for all services whose question is due.
async fn traffic(run: &Run<'_>, connections: Vec<Connection>, states: &States) -> BTreeMap<ServiceId, Traffic> {
    let (policy, now) = (&run.settings.policy, Timestamp::now());
    let due = states.iter().filter_map(|(partition, state)| {
        // Without the table nothing is remembered, and every run would ask.
        let before = traffic::recorded(state.as_ref().ok()?);
        let service = partition.service()?;
        Some((service, before, traffic::question(service, &connections, before, policy, now)?))
    });
    let due: Vec<_> = due.collect();
    let Some(from) = due.iter().map(|(_, _, question)| question.from).min() else { return BTreeMap::new() };
    let endpoints = due.iter().flat_map(|(_, _, question)| question.endpoints.clone()).collect();
    // A failed call is one of the run's calls, and no answer.
    let Ok(answer) = run.observer.last_connections(endpoints, from, now).await else { return BTreeMap::new() };
    let next = |(service, before, question): &(&ServiceId, Option<&Traffic>, Question)| {
        ((*service).clone(), traffic::next(*before, question, &answer, now))
    };
    due.iter().map(next).collect()
}

/// Fills in the names of the target groups from the stored paths, or from their tags: once an hour, for a new group,
/// and after a change, which may be one of tags.
async fn name_target_groups(run: &Run<'_>, topology: &mut Topology, states: &States) {
    let now = Timestamp::now();
    let stored = states.values().filter_map(|state| stored_path::recorded(state.as_ref().ok()?));
    if !matches!(run.invocation.trigger, Trigger::Change(_)) {
        topology.named_at = stored_path::take_names(topology, stored, now);
    }
    if topology.named_at.is_none() {
        run.observer.name_target_groups(topology).await;
        topology.named_at = Some(now);
    }
}
