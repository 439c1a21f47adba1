//! health-watcher: are there targets behind the load balancers to serve dbt?
//!
//! drift-watcher reads the path behind an endpoint service and stores it beside the service's alerts. While that is
//! recent, a run asks only for the health of the targets, and it reads everything anew before it changes an alert.

use std::collections::BTreeSet;
use std::time::Duration;

use guard_aws::apply::Outcome;
use guard_aws::memory::States;
use guard_aws::metrics::{self, Metric};
use guard_aws::observe::Scope;
use guard_aws::observe::pace::{self, Rate};
use guard_aws::pipeline::{Read, Run, Watcher, checks};
use guard_core::alerts::record::Items;
use guard_core::alerts::stored_path;
use guard_core::check::{CheckResult, Group, Status};
use guard_core::ids::ServiceId;
use guard_core::plan::Plan;
use guard_core::snapshot::{StoredPath, Topology};
use jiff::{SignedDuration, Timestamp};

/// The function.
#[derive(Debug)]
pub struct HealthWatcher;

impl Watcher for HealthWatcher {
    const NAME: &'static str = "health-watcher";
    const CHECKS: Group = Group::Health;

    const ELB_RATE: Rate = pace::ELB_HEALTH;
    /// A run ends before the next minute's begins, and has time left to read anew what has changed.
    const TURN: Option<Duration> = Some(Duration::from_secs(40));

    /// One for each target group.
    fn calls(&self, run: &Run<'_>, items: &Items, anew: bool) -> Option<usize> {
        let path = stored_path::usable(items, run.began, run.settings)?;
        Some(if anew { path.calls(false) } else { path.groups() })
    }

    /// Asks for the targets' health where the stored path can be used. Reads everything of the other services, and of
    /// those whose alerts would change.
    async fn read(&self, run: &Run<'_>, services: &BTreeSet<ServiceId>) -> Vec<Read> {
        let states = run.memory.all().await;
        let now = Timestamp::now();
        let usable = states.values().filter_map(|state| stored_path::usable(state.as_ref().ok()?, now, run.settings));
        let paths: Vec<&StoredPath> = usable.filter(|path| services.contains(path.service())).collect();
        let known: BTreeSet<ServiceId> = paths.iter().map(|path| path.service().clone()).collect();
        let unknown: BTreeSet<ServiceId> = services.difference(&known).cloned().collect();
        let stored = Read::new(known, Topology::from_paths(paths.iter().copied()), now, checks::<Self>());

        // A call that fails because a stored path is out of date, as for a target group that is gone, is no failure
        // once it is made for a path that was read anew.
        let confirming = run.observer.apart();
        let health = async {
            let (began, services) = (Timestamp::now(), stored.services.clone());
            let topology = confirming.health(stored.topology.clone()).await;
            Read::new(services, topology, began, checks::<Self>())
        };
        let (mut health, unknown) = tokio::join!(health, read_all(run, unknown, Scope::Health));
        if health.drop_unfinished() {
            confirming.forget_given_up();
        }
        let is_changed = |service: &&ServiceId| changes_an_alert(run, states, service, &stored, &health);
        let changed: BTreeSet<ServiceId> = health.services.iter().filter(is_changed).cloned().collect();
        let by_path = health.clone();
        health.services.retain(|service| !changed.contains(service));
        let scope = Scope::Path { health: &by_path.topology };
        let anew = read_all(run, changed, scope).await;
        // What it says of the targets is as old as their health.
        let anew = anew.map(|anew| Read { began: by_path.began + NEXT, ..anew });
        run.observer.include(confirming.calls());
        let by_path = anew.as_ref().and_then(|anew| stated_outage(run, states, by_path, anew));
        [Some(health), unknown, by_path, anew].into_iter().flatten().filter(|read| !read.services.is_empty()).collect()
    }

    /// Only of all targets: a part of them would look like a loss.
    fn metrics(&self, run: &Run<'_>, reads: &[Read], _: &Plan, _: &Outcome) -> Vec<Metric> {
        let read: BTreeSet<&ServiceId> = reads.iter().flat_map(|read| &read.services).collect();
        if run.settings.policy.services.iter().any(|service| !read.contains(service)) {
            return Vec::new();
        }
        metrics::targets(reads.iter().map(|read| &read.topology)).into()
    }
}

/// Whether the health of the targets behind a stored path would change an alert.
fn changes_an_alert(run: &Run<'_>, states: &States, service: &ServiceId, stored: &Read, health: &Read) -> bool {
    let state = states.iter().find(|(partition, _)| partition.service() == Some(service));
    let Some((_, Ok(items))) = state else { return true };
    let evaluate = |read: &Read| run.evaluate(&read.checks, service, read, Some(items), &Outcome::default());
    !stored_path::changes_nothing(&evaluate(health), &evaluate(stored).results, HealthWatcher::NAME, items)
}

/// Of `by_path`, the health of the targets behind stored paths, the failures that `anew` could not confirm because the rest
/// could not be read: control planes fail together with targets.
fn stated_outage(run: &Run<'_>, states: &States, by_path: Read, anew: &Read) -> Option<Read> {
    let unconfirmed = |service: &ServiceId| -> BTreeSet<String> {
        let state = states.iter().find(|(partition, _)| partition.service() == Some(service));
        let items = state.and_then(|(_, state)| state.as_ref().ok());
        let results = |read: &Read| run.evaluate(&read.checks, service, read, items, &Outcome::default()).results;
        let anew = results(anew);
        let is_unknown = |failed: &CheckResult| {
            let mut of_check = anew.iter().filter(|result| result.check == failed.check);
            let own = of_check.clone().find(|result| result.resource == failed.resource);
            let result = own.or_else(|| of_check.find(|result| result.is_unlisted));
            result.is_some_and(|result| matches!(result.status, Status::Unknown(_) | Status::NotAsked))
        };
        let failed = results(&by_path).into_iter().filter(|result| matches!(result.status, Status::Fail(_)));
        failed.filter(is_unknown).map(|result| result.resource).collect()
    };
    let resources: BTreeSet<String> = anew.services.iter().flat_map(unconfirmed).collect();
    let only_failures_of = (!resources.is_empty()).then_some(resources)?;
    Some(Read { services: anew.services.clone(), only_failures_of: Some(only_failures_of), ..by_path })
}

/// The least time between two reads, so that the second one counts as later.
const NEXT: SignedDuration = SignedDuration::from_nanos(1);

/// Reads everything behind these services; nothing without services.
async fn read_all(run: &Run<'_>, services: BTreeSet<ServiceId>, scope: Scope<'_>) -> Option<Read> {
    if services.is_empty() {
        return None;
    }
    let began = Timestamp::now();
    let topology = run.observer.topology(&services, scope).await;
    Some(Read::new(services, topology, began, checks::<HealthWatcher>()))
}
