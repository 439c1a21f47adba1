//! health-watcher: are there targets behind the load balancers to serve dbt?
//!
//! What is behind an endpoint service is read by drift-watcher and stored beside the service's alerts. While that is recent,
//! a run asks only for the health of the targets, and it reads everything anew before it changes an alert.

use std::collections::BTreeSet;

use guard_aws::lambda::{Invocation, RunErrors};
use guard_aws::metrics;
use guard_aws::notify::{Findings, LoadedState, Notifier};
use guard_aws::observe::{Observer, Scope};
use guard_core::alerts::path;
use guard_core::alerts::reconcile::{Evaluation, Report};
use guard_core::alerts::record::Partition;
use guard_core::check::{CheckContext, Group, Region};
use guard_core::checks::catalogue::checks_of;
use guard_core::config::Settings;
use guard_core::ids::ServiceId;
use guard_core::snapshot::{Calls, Path, Topology};
use jiff::Timestamp;

const FUNCTION: &str = "health-watcher";

/// The function, with its clients.
#[derive(Debug)]
pub struct HealthWatcher {
    settings: Settings,
    observer: Observer,
    notifier: Notifier,
}

/// What was read of some endpoint services.
struct Read {
    services: BTreeSet<ServiceId>,
    topology: Topology,
    began: Timestamp,
}

impl HealthWatcher {
    /// Builds the clients once.
    #[must_use]
    pub fn new(settings: Settings, config: &aws_config::SdkConfig) -> Self {
        let notifier = Notifier::new(FUNCTION, config, &settings);
        Self { observer: Observer::new(config), notifier, settings }
    }

    /// One run.
    ///
    /// # Errors
    /// [`RunErrors`] names the calls that failed.
    pub async fn handle(&self, invocation: Invocation) -> Result<(), RunErrors> {
        let Invocation { id, trigger, origin, deadline } = &invocation;
        tracing::info!(%trigger, "checking the targets");
        let began = Timestamp::now();
        let (confirming, reading) =
            (self.observer.for_run(id, deadline.reads), self.observer.for_run(id, deadline.reads));
        let partitions = self.notifier.partitions();
        let read = async {
            let states = self.notifier.load_state(&partitions).await;
            (self.read(&confirming, &reading, &states, &origin.region).await, states)
        };
        let ((reads, states), removed) = tokio::join!(read, self.notifier.close_removed_services(origin, began));
        // What a stored path got wrong, such as a target group that is gone, is no failure once it was read anew.
        let calls: Calls = confirming.calls().into_iter().chain(reading.calls()).collect();

        let mut errors = RunErrors::default();
        errors.push(removed);
        let mut metrics = Vec::from(metrics::targets(reads.iter().map(|read| &read.topology)));
        let findings: Vec<Findings<'_>> =
            states.into_iter().map(|state| self.findings(state, &reads, (&calls, began), &origin.region)).collect();
        metrics.push(metrics::unknown_checks(&findings));
        let names = async || reads.iter().flat_map(|read| read.topology.names()).collect();
        let notified = self.notifier.notify(&invocation, findings, names).await;
        metrics.extend(metrics::firing_alerts(&notified.firing));
        errors.append(notified.errors);
        errors.extend(calls.into_values().flatten());
        metrics::write(&metrics, began);
        errors.into_result()
    }

    /// Asks for the targets' health where the stored path can be used. Everything is read of the other services, and of
    /// those whose alerts would change.
    async fn read(
        &self,
        confirming: &Observer,
        reading: &Observer,
        states: &[(&Partition, LoadedState)],
        region: &Region,
    ) -> Vec<Read> {
        let (now, max_age) = (Timestamp::now(), self.settings.path_max_age());
        let usable = states.iter().filter_map(|(_, state)| path::usable(state.as_ref().ok()?, now, max_age));
        let paths: Vec<&Path> = usable.collect();
        let known: BTreeSet<&ServiceId> = paths.iter().map(|path| path.service()).collect();
        let unknown =
            self.settings.policy.services.iter().filter(|service| !known.contains(service)).cloned().collect();
        let stored = Topology::from_paths(paths);
        let health = async { (Timestamp::now(), confirming.health(stored.clone()).await) };
        let ((began, topology), unknown) = tokio::join!(health, self.read_all(reading, unknown));

        let is_to_be_read = |service: &&&ServiceId| {
            let items = states.iter().find(|(partition, _)| partition.service() == Some(service));
            let Some((_, Ok(items))) = items else { return true };
            let evaluation = self.evaluation(service, &topology, began, region);
            let before = self.evaluation(service, &stored, began, region).results;
            !path::changes_nothing(&evaluation, &before, FUNCTION, items)
        };
        let changed: BTreeSet<ServiceId> = known.iter().filter(is_to_be_read).copied().cloned().collect();
        let same = known.into_iter().filter(|service| !changed.contains(*service)).cloned().collect();
        let anew = self.read_all(reading, changed).await;
        let read = Read { services: same, topology, began };
        [read].into_iter().chain(unknown).chain(anew).filter(|read| !read.services.is_empty()).collect()
    }

    /// Reads everything that is behind these services; nothing without services.
    async fn read_all(&self, observer: &Observer, services: BTreeSet<ServiceId>) -> Option<Read> {
        if services.is_empty() {
            return None;
        }
        let began = Timestamp::now();
        let topology = observer.topology(&services, Scope::Health).await;
        Some(Read { services, topology, began })
    }

    fn evaluation(&self, service: &ServiceId, topology: &Topology, began: Timestamp, region: &Region) -> Evaluation {
        let context = CheckContext::new(service, topology, &self.settings.policy, region, Timestamp::now());
        Evaluation::evaluate(&checks_of(&[Group::Health]), context, began)
    }

    fn findings<'a>(
        &self,
        (partition, state): (&'a Partition, LoadedState),
        reads: &[Read],
        (calls, began): (&Calls, Timestamp),
        region: &Region,
    ) -> Findings<'a> {
        let evaluations = match partition {
            Partition::Service(service) => {
                let read = reads.iter().filter(|read| read.services.contains(service));
                read.map(|read| self.evaluation(service, &read.topology, read.began, region)).collect()
            }
            Partition::Guard => vec![Evaluation::of_calls(calls, began)],
        };
        Findings { report: Report::new(partition, evaluations), state }
    }
}
