//! The order of the work, which is the same for every function:
//!
//! debounce → (read beside load) → plan → store what the change will hide → apply → read again → evaluate every read →
//! reconcile → store → send → acknowledge.
//!
//! A function adds only the steps of its [`Watcher`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_config::SdkConfig;
use guard_core::admission::admit;
use guard_core::alerts::connection::remembered;
use guard_core::alerts::inventory;
use guard_core::alerts::reconcile::{Evaluation, Report};
use guard_core::alerts::record::{self, Items, Partition};
use guard_core::check::{Check, CheckContext, Group};
use guard_core::checks::catalogue::checks_of;
use guard_core::checks::subscribers::{self, Subscribers};
use guard_core::config::Settings;
use guard_core::ids::ServiceId;
use guard_core::plan::Plan;
use guard_core::snapshot::{CallError, Connection, ErrorKind, Topology};
use guard_core::trigger::Trigger;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::apply::{Applier, Outcome};
use crate::concurrently;
use crate::debounce::{self, Claim};
use crate::invocation::{Invocation, RunErrors};
use crate::memory::{LoadedState, Memory, States, stored_names};
use crate::metrics::{self, Metric};
use crate::notify::{Notifier, PartitionWork};
use crate::observe::Observer;

/// How long a message waits for the services' names.
const NAMES_WITHIN: Duration = Duration::from_secs(3);

/// The steps that differ between the functions. One thread runs them, so their futures need not be `Send`.
#[allow(async_fn_in_trait)]
pub trait Watcher {
    /// The function's name, which is part of its records' keys.
    const NAME: &'static str;

    /// The checks that it evaluates.
    const CHECKS: Group;

    /// The check whose findings its changes hide. They are stored before a change is made.
    const HIDDEN: Option<Check> = None;

    /// Whether it watches how many people hear the alerts.
    const WATCHES_DELIVERY: bool = false;

    /// Reads AWS. A function that reads less where records are known waits for the run's memory.
    async fn read(&self, run: &Run<'_>) -> Vec<Read>;

    /// The changes to make in AWS.
    async fn plan(&self, _run: &Run<'_>, _reads: &[Read]) -> Plan {
        Plan::default()
    }

    /// Reads again the resources that `plan` has changed. A superseded read keeps the checks that still count for it.
    async fn read_again(&self, _run: &Run<'_>, _plan: &Plan, _reads: &mut Vec<Read>) {}

    /// Adds the facts that the function remembers of an endpoint service besides the results of its checks, given its
    /// stored records and what became of the plan.
    fn remember<'a>(&self, _run: &Run<'_>, _reads: &'a [Read], _done: Done<'_>, _report: &mut Report<'a>) {}

    /// What it could not do, besides failed calls and changes: the run ends in error, so that Lambda asks again.
    fn left_undone(&self, _run: &Run<'_>, _reads: &[Read]) -> Option<CallError> {
        None
    }

    /// The metrics that only this function has.
    fn metrics(&self, _run: &Run<'_>, _reads: &[Read], _plan: &Plan, _outcome: &Outcome) -> Vec<Metric> {
        Vec::new()
    }
}

/// What a function remembers goes by: the stored records of the service, the plan, and what became of it.
#[derive(Debug, Clone, Copy)]
pub struct Done<'a> {
    /// The stored records; `None` if they could not be read.
    pub items: Option<&'a Items>,
    /// The plan.
    pub plan: &'a Plan,
    /// What became of it.
    pub outcome: &'a Outcome,
}

/// A read of some endpoint services, and the checks that it is evaluated for.
#[derive(Debug, Clone)]
pub struct Read {
    /// The services that were read.
    pub services: BTreeSet<ServiceId>,
    /// Their topology as it was read.
    pub topology: Topology,
    /// When the read began.
    pub began: Timestamp,
    /// The checks that it counts for.
    pub checks: Vec<Check>,
    /// If only failures of these resources count; `None` if everything counts.
    pub only_failures_of: Option<BTreeSet<String>>,
}

impl Read {
    /// A read of which everything counts.
    #[must_use]
    pub fn new(services: BTreeSet<ServiceId>, topology: Topology, began: Timestamp, checks: Vec<Check>) -> Self {
        Self { services, topology, began, checks, only_failures_of: None }
    }

    /// The connections that were read; none if they were not, or could not be.
    #[must_use]
    pub fn connections(&self) -> &[Connection] {
        match &self.topology.connections {
            Some(Ok(connections)) => connections,
            _ => &[],
        }
    }
}

/// One run of a function.
#[derive(Debug)]
pub struct Run<'a> {
    /// What started it.
    pub invocation: &'a Invocation,
    /// The function's settings.
    pub settings: &'a Settings,
    /// Reads AWS until the run's time for reading is over, and keeps a record of the calls.
    pub observer: Observer,
    /// The records of earlier runs.
    pub memory: Memory<'a>,
    began: Timestamp,
}

impl Run<'_> {
    /// The evaluation of `read` for `service`, with its stored records and what became of the plan.
    #[must_use]
    pub fn evaluate(
        &self,
        checks: &[Check],
        service: &ServiceId,
        read: &Read,
        items: Option<&Items>,
        outcome: &Outcome,
    ) -> Evaluation {
        let remembered = items.map(remembered);
        let (policy, now) = (&self.settings.policy, Timestamp::now());
        // As it was decided: a table that came too late for the plan does not help what it held.
        let before = remembered.as_ref().filter(|_| !outcome.lacks_memory);
        let before = before.and_then(|remembered| remembered.admissions.as_ref());
        let held = admit(read.connections(), policy, service, before, now).hold;
        let was_in_place = items.map(|items| inventory::gone(items, &read.topology, service)).unwrap_or_default();
        let change = match &self.invocation.trigger {
            Trigger::Change(change) => Some(change),
            _ => None,
        };
        let region = &self.invocation.origin.region;
        let context = CheckContext {
            remembered: remembered.as_ref(),
            refused: &outcome.refused,
            lacks_memory: outcome.lacks_memory || items.is_none(),
            change,
            was_in_place: &was_in_place,
            held: &held,
            ..CheckContext::new(service, &read.topology, policy, region, now)
        };
        let evaluation = Evaluation::evaluate(checks, context, read.began);
        match &read.only_failures_of {
            Some(resources) => evaluation.only_failures_of(resources, service),
            None => evaluation,
        }
    }
}

/// A function: its clients, and its watcher.
#[derive(Debug)]
pub struct Pipeline<W> {
    watcher: W,
    settings: Settings,
    observer: Observer,
    applier: Applier,
    notifier: Notifier,
}

impl<W: Watcher> Pipeline<W> {
    /// Builds the clients once.
    #[must_use]
    pub fn new(watcher: W, settings: Settings, config: &SdkConfig) -> Self {
        Self {
            watcher,
            observer: Observer::new(config),
            applier: Applier::new(config, settings.policy.dry_run),
            notifier: Notifier::new(W::NAME, config, &settings),
            settings,
        }
    }

    /// One run, unless another one that began after its event covers it. A covered change becomes a cause of what the
    /// other run found.
    ///
    /// # Errors
    /// [`RunErrors`] names the calls that failed. A change that AWS refuses for good is not among them: it is an alert.
    pub async fn handle(&self, invocation: Invocation) -> Result<(), RunErrors> {
        tracing::info!(trigger = %invocation.trigger, "running");
        if invocation.trigger == Trigger::Test {
            return self.notifier.send_test_messages(&invocation).await.into_result();
        }
        let (table, trigger) = (self.notifier.table(), &invocation.trigger);
        match (debounce::claim(table, W::NAME, trigger).await, trigger) {
            (Claim::Run(began), _) => {
                // Boxed, since a run's future is large.
                let result = Box::pin(self.run(&invocation)).await;
                debounce::finished(table, W::NAME, trigger, began).await;
                result
            }
            (Claim::Covered, Trigger::Change(change)) => {
                debounce::wait_for_covering_run(table, W::NAME).await;
                self.notifier.attribute(&invocation, change).await.into_result()
            }
            (Claim::Covered, _) => Ok(()),
        }
    }

    async fn run(&self, invocation: &Invocation) -> Result<(), RunErrors> {
        let run = Run {
            invocation,
            settings: &self.settings,
            observer: self.observer.for_run(&invocation.id, invocation.deadline.reads),
            memory: Memory::new(self.notifier.table(), self.notifier.partitions()),
            began: Timestamp::now(),
        };
        // Reading and accepting wait neither for the table nor for the notices on removed services.
        let removed = self.notifier.close_removed_services(invocation, run.began);
        let (mut errors, _, removed) = tokio::join!(self.work(&run), run.memory.all(), removed);
        errors.push(removed);
        errors.extend(run.observer.calls().into_values().flatten());
        errors.into_result()
    }

    async fn work(&self, run: &Run<'_>) -> RunErrors {
        let (mut reads, subscribers) = tokio::join!(self.watcher.read(run), self.subscribers(run));
        let plan = self.watcher.plan(run, &reads).await;
        let (outcome, stored) = self.change(run, &plan, &mut reads).await;
        let states = run.memory.all().await;
        let work = states.iter().map(|state| {
            let work = self.evaluate(run, state, &stored, &reads, (&plan, &outcome));
            with_subscribers(work, subscribers.as_ref())
        });
        let work: Vec<PartitionWork<'_>> = work.collect();
        let mut metrics = self.watcher.metrics(run, &reads, &plan, &outcome);
        metrics.push(metrics::unknown_checks(&work));
        let news = self.notifier.store(run.invocation, work).await;
        metrics.extend(metrics::firing_alerts(&news.firing()));
        let names = if news.is_empty() { BTreeMap::new() } else { self.names(run, states, &reads).await };
        let mut errors = self.notifier.send(news, &names, run.invocation).await;
        metrics::write(&metrics, run.began);
        errors.extend(outcome.failed);
        errors.extend(self.watcher.left_undone(run, &reads));
        if plan.lacks_memory {
            let message = "a change waited for the table in vain";
            errors.push(Err(CallError::new("dynamodb:Query", ErrorKind::NoAnswer, message)));
        }
        errors
    }

    /// How many people hear the alerts, if it is time to ask: the result, and what to remember.
    async fn subscribers(&self, run: &Run<'_>) -> Option<(Evaluation, Option<Subscribers>)> {
        if !W::WATCHES_DELIVERY {
            return None;
        }
        let items = run.memory.all().await.get(&Partition::Guard)?.as_ref().ok()?;
        let (before, now) = (record::subscribers(items), Timestamp::now());
        if !Subscribers::is_due(before, now) {
            return None;
        }
        let until = run.invocation.deadline.reads;
        let number = timeout_at(until, self.notifier.subscriptions()).await.ok()?;
        let (topic, region) = (&self.settings.alert_topic, &run.invocation.origin.region);
        let result = subscribers::result(topic, &number, before, (region, now));
        if let Err(error) = &number {
            tracing::warn!(%error, "how many people are subscribed to the alerts is not known");
        }
        let evaluation = Evaluation { observed_at: now, checks: vec![&subscribers::SPEC], results: vec![result] };
        Some((evaluation, number.ok().map(|number| Subscribers::next(before, number, now))))
    }

    /// Carries out `plan`: accepts at once, and makes the other changes after the findings that they hide are stored. Then
    /// reads again.
    async fn change(
        &self,
        run: &Run<'_>,
        plan: &Plan,
        reads: &mut Vec<Read>,
    ) -> (Outcome, BTreeMap<Partition, LoadedState>) {
        if plan.is_empty() || self.settings.policy.dry_run {
            return (self.applier.apply(plan).await, BTreeMap::new());
        }
        let (accepts, others) = plan.split();
        let (mut outcome, stored) = tokio::join!(self.applier.apply(&accepts), self.store_hidden(run, &others, reads));
        outcome.extend(self.applier.apply(&others).await);
        self.watcher.read_again(run, plan, reads).await;
        (outcome, stored)
    }

    /// Stores the findings that the changes in `plan` will hide, so that a later run sends them if this one dies.
    /// Returns the records with the versions that were written, by partition.
    async fn store_hidden(&self, run: &Run<'_>, plan: &Plan, reads: &[Read]) -> BTreeMap<Partition, LoadedState> {
        let (Some(check), Some(read)) = (W::HIDDEN.filter(|_| plan.hides_findings()), reads.first()) else {
            return BTreeMap::new();
        };
        let Some(states) = run.memory.for_plan().await else {
            tracing::error!("the table is slow; making the change without storing first what it hides");
            return BTreeMap::new();
        };
        let services = states.iter().filter_map(|(partition, state)| Some((partition, partition.service()?, state)));
        let concerned = services.filter(|(_, service, _)| plan.concerns(service, &read.topology));
        let stored = concurrently(concerned, async |(partition, service, state)| {
            let items = state.as_ref().ok()?;
            let evaluation = run.evaluate(&[check], service, read, Some(items), &Outcome::default());
            let report = Report::new(partition, vec![evaluation]);
            Some((partition.clone(), Ok(self.notifier.store_before_change(run.invocation, &report, items).await)))
        });
        stored.await.into_iter().flatten().collect()
    }

    /// The run's report on one partition: every read evaluated for its checks, oldest first.
    fn evaluate<'a>(
        &self,
        run: &Run<'_>,
        (partition, state): (&'a Partition, &'a LoadedState),
        stored: &'a BTreeMap<Partition, LoadedState>,
        reads: &'a [Read],
        (plan, outcome): (&Plan, &Outcome),
    ) -> PartitionWork<'a> {
        let state = stored.get(partition).unwrap_or(state);
        let Some(service) = partition.service() else {
            let evaluation = Evaluation::of_calls(&run.observer.calls(), run.began);
            return PartitionWork { report: Report::new(partition, vec![evaluation]), state };
        };
        let items = state.as_ref().ok();
        let evaluations = reads
            .iter()
            .filter(|read| read.services.contains(service))
            .map(|read| run.evaluate(&read.checks, service, read, items, outcome));
        let mut report = Report::new(partition, evaluations.collect());
        self.watcher.remember(run, reads, Done { items, plan, outcome }, &mut report);
        PartitionWork { report, state }
    }

    /// The services' names, which only serve the reader: as they were read, else as they are stored. EC2 is asked for
    /// names that no read asked for and that are not stored, but a slow answer does not delay the run.
    async fn names(&self, run: &Run<'_>, states: &States, reads: &[Read]) -> BTreeMap<ServiceId, String> {
        let stored = stored_names(states);
        let known = stored.iter().filter_map(|(service, name)| Some((service.clone(), name.clone()?)));
        let known = known.chain(reads.iter().flat_map(|read| read.topology.names())).collect();
        let services = &self.settings.policy.services;
        let unknown: BTreeSet<ServiceId> =
            services.iter().filter(|service| !stored.contains_key(service)).cloned().collect();
        if unknown.is_empty() || reads.iter().any(|read| read.topology.services.is_some()) {
            return known;
        }
        let until = run.invocation.deadline.end.min(Instant::now() + NAMES_WITHIN);
        let asked = self.observer.for_run(&run.invocation.id, until).endpoint_services(&unknown).await;
        if let Err(error) = &asked {
            tracing::warn!(%error, "sending without the names of some services");
        }
        known.into_iter().chain(Topology { services: Some(asked), ..Topology::default() }.names()).collect()
    }
}

/// The work on the guard's own partition, with how many people hear the alerts.
fn with_subscribers<'a>(
    mut work: PartitionWork<'a>,
    subscribers: Option<&(Evaluation, Option<Subscribers>)>,
) -> PartitionWork<'a> {
    if let (Partition::Guard, Some((evaluation, next))) = (work.report.partition, subscribers) {
        work.report.evaluations.push(evaluation.clone());
        work.report.subscribers.clone_from(next);
    }
    work
}

/// The checks of one function.
#[must_use]
pub fn checks<W: Watcher>() -> Vec<Check> {
    checks_of(&[W::CHECKS])
}
