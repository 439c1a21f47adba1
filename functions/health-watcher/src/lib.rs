//! health-watcher: checks for healthy targets behind the load balancers that serve dbt.
//!
//! drift-watcher stores the path behind an endpoint service beside the service's alerts. While the stored path is
//! recent, a run reads only the health of the targets, and reads everything again before it changes an alert.

use std::collections::BTreeSet;
use std::time::Duration;

use guard_aws::apply::Outcome;
use guard_aws::memory::States;
use guard_aws::metrics::{self, Metric};
use guard_aws::observe::Scope;
use guard_aws::observe::pace::{self, Rate};
use guard_aws::pipeline::{Read, Run, Watcher};
use guard_core::alerts::record::Items;
use guard_core::alerts::reuse;
use guard_core::catalogue::checks_of;
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

    const ELB_RATE: Rate = pace::ELB_HEALTH;
    /// A duration that lets a run end before the next minute's run, with time left for reading changed paths again.
    const TURN: Option<Duration> = Some(Duration::from_secs(40));

    /// One call for each target group.
    fn calls(&self, run: &Run<'_>, items: &Items, anew: bool) -> Option<usize> {
        let path = reuse::usable(items, run.began, run.settings)?;
        Some(if anew { path.calls(false) } else { path.groups() })
    }

    /// Reads only the targets' health if the stored path is usable. Reads everything for the other services, and for
    /// services whose alerts would change.
    async fn read(&self, run: &Run<'_>, services: &BTreeSet<ServiceId>) -> Vec<Read> {
        let states = run.memory.all().await;
        let now = Timestamp::now();
        let usable = states.values().filter_map(|state| reuse::usable(state.as_ref().ok()?, now, run.settings));
        let paths: Vec<&StoredPath> = usable.filter(|path| services.contains(path.service())).collect();
        let known: BTreeSet<ServiceId> = paths.iter().map(|path| path.service().clone()).collect();
        let unknown: BTreeSet<ServiceId> = services.difference(&known).cloned().collect();
        let stored = Read::new(known, Topology::from_paths(paths.iter().copied()), now, checks_of(&[Group::Health]));

        // A call that fails because of an outdated stored path, for example with a deleted target group, does not count
        // as failed once it succeeds for a new path.
        let confirming = run.observer.apart();
        let health = async {
            let (began, services) = (Timestamp::now(), stored.services.clone());
            let topology = confirming.health(stored.topology.clone()).await;
            Read::new(services, topology, began, checks_of(&[Group::Health]))
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
        // This read contains the target health of `by_path`, so its time is just after that read.
        let anew = anew.map(|anew| Read { began: by_path.began + NEXT, ..anew });
        run.observer.include(confirming.calls());
        let by_path = anew.as_ref().and_then(|anew| stated_outage(run, states, by_path, anew));
        [Some(health), unknown, by_path, anew].into_iter().flatten().filter(|read| !read.services.is_empty()).collect()
    }

    /// Metrics are written only if all services were read, because a part of the targets would look like a loss.
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
    !reuse::changes_nothing(&evaluate(health), &evaluate(stored).results, HealthWatcher::NAME, items)
}

/// The failures in `by_path`, the target health behind stored paths, that `anew` could not confirm because other reads
/// failed: control planes fail together with targets.
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

/// The minimum time between two reads that makes the second one count as later.
const NEXT: SignedDuration = SignedDuration::from_nanos(1);

/// Reads everything behind these services; `None` without services.
async fn read_all(run: &Run<'_>, services: BTreeSet<ServiceId>, scope: Scope<'_>) -> Option<Read> {
    if services.is_empty() {
        return None;
    }
    let began = Timestamp::now();
    let topology = run.observer.topology(&services, scope).await;
    Some(Read::new(services, topology, began, checks_of(&[Group::Health])))
}
