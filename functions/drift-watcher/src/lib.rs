//! drift-watcher: is everything still configured as it must be, and who changed it?

use std::collections::{BTreeMap, BTreeSet};

use guard_aws::apply::{Applier, Outcome};
use guard_aws::concurrently;
use guard_aws::debounce;
use guard_aws::lambda::{Invocation, RunErrors};
use guard_aws::metrics;
use guard_aws::notify::{Findings, LoadedState, Notifier};
use guard_aws::observe::{Observer, Scope};
use guard_core::alerts::heartbeat;
use guard_core::alerts::inventory;
use guard_core::alerts::path;
use guard_core::alerts::reconcile::{Evaluation, Report};
use guard_core::alerts::record::Partition;
use guard_core::alerts::traffic::{self, Question};
use guard_core::check::{CheckContext, Group, cause};
use guard_core::checks::catalogue::checks_of;
use guard_core::checks::cross_zone::{self, Plan};
use guard_core::config::{CrossZone, Settings};
use guard_core::ids::ServiceId;
use guard_core::snapshot::{Calls, Path, Topology, Traffic};
use guard_core::trigger::Trigger;
use jiff::Timestamp;

const FUNCTION: &str = "drift-watcher";

/// The function, with its clients.
#[derive(Debug)]
pub struct DriftWatcher {
    settings: Settings,
    observer: Observer,
    applier: Applier,
    notifier: Notifier,
}

/// What one run read and changed.
struct Run<'a> {
    invocation: &'a Invocation,
    /// The first read, and when it began.
    first: (Topology, Timestamp),
    /// When the target groups' tags were read.
    named_at: Timestamp,
    outcome: Outcome,
    /// The first read with the cross-zone attributes read again, if the run changed any.
    enforced: Option<(Topology, Timestamp)>,
    /// When dbt last connected, of the services that the run asked about.
    traffic: BTreeMap<ServiceId, Traffic>,
    calls: Calls,
}

impl DriftWatcher {
    /// Builds the clients once.
    #[must_use]
    pub fn new(settings: Settings, config: &aws_config::SdkConfig) -> Self {
        Self {
            observer: Observer::new(config),
            applier: Applier::new(config, settings.policy.dry_run),
            notifier: Notifier::new(FUNCTION, config, &settings),
            settings,
        }
    }

    /// One run.
    ///
    /// # Errors
    /// [`RunErrors`] names the calls that failed.
    pub async fn handle(&self, invocation: Invocation) -> Result<(), RunErrors> {
        let trigger = &invocation.trigger;
        if *trigger == Trigger::Test {
            tracing::info!(%trigger, "sending test messages");
            return self.notifier.send_test_messages(&invocation).await.into_result();
        }
        tracing::info!(%trigger, "checking the settings");
        debounce::run_unless_covered(&self.notifier, &invocation, async || self.run(&invocation).await).await
    }

    async fn run(&self, invocation: &Invocation) -> Result<(), RunErrors> {
        let policy = &self.settings.policy;
        let began = Timestamp::now();
        let observer = self.observer.for_run(&invocation.id, invocation.deadline.reads);
        let partitions = self.notifier.partitions();
        let scope = Scope::Settings { notifications: policy.notification_topic.is_some() };
        let (mut topology, mut states, removed) = tokio::join!(
            observer.topology(&policy.services, scope),
            self.notifier.load_state(&partitions),
            self.notifier.close_removed_services(&invocation.origin, began)
        );
        let named_at = self.name_target_groups(&observer, &mut topology, &states, invocation).await;
        let plan = self.plan(&topology);
        if !plan.is_empty() && !policy.dry_run {
            self.store_before_enforcing(invocation, (&topology, began), &mut states).await;
        }
        let outcome = self.applier.enforce_cross_zone(&plan).await;
        let enforced = if plan.is_empty() || policy.dry_run {
            None
        } else {
            let began = Timestamp::now();
            let again = observer.cross_zone_again(topology.clone(), &plan.load_balancers, &plan.target_groups).await;
            Some((again, began))
        };
        let traffic = self.traffic(&observer, &topology, &states).await;
        let run =
            Run { invocation, first: (topology, began), named_at, outcome, enforced, traffic, calls: observer.calls() };

        let mut errors = RunErrors::default();
        errors.push(removed);
        let findings: Vec<Findings<'_>> = states.into_iter().map(|state| self.findings(state, &run)).collect();
        let unknown_checks = metrics::unknown_checks(&findings);
        let notified = self.notifier.notify(invocation, findings, async || run.first.0.names()).await;
        errors.append(notified.errors);
        let mut metrics = metrics::firing_alerts(&notified.firing);
        metrics.push(unknown_checks);
        metrics::write(&metrics, began);
        errors.extend(run.outcome.failed);
        errors.extend(run.calls.into_values().flatten());
        errors.into_result()
    }

    /// Stores that cross-zone load balancing is off: once it is on again, no later run sees it.
    async fn store_before_enforcing(
        &self,
        invocation: &Invocation,
        (topology, began): (&Topology, Timestamp),
        states: &mut [(&Partition, LoadedState)],
    ) {
        let (policy, region) = (&self.settings.policy, &invocation.origin.region);
        concurrently(states, async |(partition, state)| {
            let Some(service) = partition.service() else { return };
            let context = CheckContext::new(service, topology, policy, region, Timestamp::now());
            let mut evaluation = Evaluation::evaluate(&[&cross_zone::SPEC], context, began);
            if let Trigger::Change(change) = &invocation.trigger {
                cause::attribute(&mut evaluation.results, change);
            }
            self.notifier.store_before_change(invocation, &Report::new(partition, vec![evaluation]), state).await;
        })
        .await;
    }

    /// Asks CloudWatch when dbt last connected, about all services that it is time for, in one call.
    async fn traffic(
        &self,
        observer: &Observer,
        topology: &Topology,
        states: &[(&Partition, LoadedState)],
    ) -> BTreeMap<ServiceId, Traffic> {
        let (policy, now) = (&self.settings.policy, Timestamp::now());
        let Some(Ok(connections)) = &topology.connections else { return BTreeMap::new() };
        let due = states.iter().filter_map(|(partition, state)| {
            // Without the table nothing is remembered, and every run would ask.
            let before = traffic::recorded(state.as_ref().ok()?);
            let service = partition.service()?;
            Some((service, before, traffic::question(service, connections, before, policy, now)?))
        });
        let due: Vec<_> = due.collect();
        let Some(from) = due.iter().map(|(_, _, question)| question.from).min() else { return BTreeMap::new() };
        let endpoints = due.iter().flat_map(|(_, _, question)| question.endpoints.clone()).collect();
        // A failed call is one of the run's calls, and no answer.
        let Ok(answer) = observer.last_connections(endpoints, from, now).await else { return BTreeMap::new() };
        let next = |(service, before, question): &(&ServiceId, Option<&Traffic>, Question)| {
            ((*service).clone(), traffic::next(*before, question, &answer, now))
        };
        due.iter().map(next).collect()
    }

    /// Fills in the names of the target groups: from the stored paths, or from their tags: once an hour, for a new group, and
    /// after a change, which may be one of tags. When they were read.
    async fn name_target_groups(
        &self,
        observer: &Observer,
        topology: &mut Topology,
        states: &[(&Partition, LoadedState)],
        invocation: &Invocation,
    ) -> Timestamp {
        let now = Timestamp::now();
        let stored = states.iter().filter_map(|(_, state)| path::recorded(state.as_ref().ok()?));
        if !matches!(invocation.trigger, Trigger::Change(_))
            && let Some(named_at) = path::take_names(topology, stored, now)
        {
            return named_at;
        }
        observer.name_target_groups(topology).await;
        now
    }

    fn plan(&self, topology: &Topology) -> Plan {
        match self.settings.policy.cross_zone {
            CrossZone::Enforce => Plan::new(topology.load_balancers.values()),
            CrossZone::Alert | CrossZone::Ignore => Plan::default(),
        }
    }

    fn findings<'a>(&self, (partition, state): (&'a Partition, LoadedState), run: &Run<'_>) -> Findings<'a> {
        match partition {
            Partition::Service(service) => {
                let in_place = inventory::in_place(&run.first.0, service);
                let remembered = state.as_ref().map(inventory::ids).unwrap_or_default();
                let gone = remembered.into_iter().filter(|id| in_place.as_ref().is_some_and(|ids| !ids.contains(id)));
                let (first, enforced) = self.evaluations(service, &gone.collect(), run);
                let is_asked = run.invocation.trigger == Trigger::Heartbeat;
                let heartbeat = is_asked.then(|| heartbeat::notice(&first, state.as_ref().ok(), Timestamp::now()));
                let traffic = run.traffic.get(service).cloned();
                let evaluations = std::iter::once(first).chain(enforced).collect();
                let path = Path::new(&run.first.0, service, run.first.1, run.named_at);
                let report = Report { heartbeat, in_place, traffic, path, ..Report::new(partition, evaluations) };
                Findings { report, state }
            }
            Partition::Guard => {
                Findings { report: Report::new(partition, vec![Evaluation::of_calls(&run.calls, run.first.1)]), state }
            }
        }
    }

    /// All checks of the first read; then, if the run changed it, cross-zone load balancing alone, of the second.
    fn evaluations(
        &self,
        service: &ServiceId,
        was_in_place: &BTreeSet<String>,
        run: &Run<'_>,
    ) -> (Evaluation, Option<Evaluation>) {
        let (policy, region) = (&self.settings.policy, &run.invocation.origin.region);
        let evaluate = |checks: &[_], (topology, began): &(Topology, Timestamp)| {
            let context = CheckContext::new(service, topology, policy, region, Timestamp::now());
            let context = CheckContext { refused: &run.outcome.refused, was_in_place, ..context };
            let mut evaluation = Evaluation::evaluate(checks, context, *began);
            if let Trigger::Change(change) = &run.invocation.trigger {
                cause::attribute(&mut evaluation.results, change);
            }
            evaluation
        };
        let first = evaluate(&checks_of(&[Group::Settings]), &run.first);
        let enforced = run.enforced.as_ref().map(|read| evaluate(&[&cross_zone::SPEC], read));
        (first, enforced)
    }
}
