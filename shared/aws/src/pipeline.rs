//! The order of a run's steps, which is the same for every function:
//!
//! debounce → (read and load in parallel) → plan → store what the change will hide, or is → apply → read again →
//! evaluate every read → reconcile → store → send → acknowledge.
//!
//! A function adds only the steps of its [`Watcher`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_config::SdkConfig;
use guard_core::admission::admit;
use guard_core::alerts::connection::remembered;
use guard_core::alerts::reconcile::{Evaluation, Report};
use guard_core::alerts::record::{self, Items, Partition};
use guard_core::alerts::{changes, inventory, reuse};
use guard_core::check::{Check, CheckContext};
use guard_core::checks::subscribers::{self, Subscribers};
use guard_core::concern::{self, Concern, PathIds};
use guard_core::config::Settings;
use guard_core::ids::ServiceId;
use guard_core::plan::Plan;
use guard_core::snapshot::{CallError, Connection, ErrorKind, Topology};
use guard_core::trigger::{Change, Trigger};
use guard_core::turns::{Candidate, Turn};
use jiff::Timestamp;
use tokio::time::{Instant, timeout, timeout_at};

use crate::apply::{Applier, Outcome};
use crate::concurrently;
use crate::debounce::{self, Claim, Event};
use crate::invocation::{Invocation, RunErrors};
use crate::memory::{LoadedState, Memory, States, stored_names};
use crate::metrics::{self, Metric};
use crate::notify::{Notifier, PartitionWork, Written};
use crate::observe::pace::{self, Rate};
use crate::observe::{Observer, RESERVED_TO_FOLLOW};
use crate::table::ToRead;
use crate::turns::Turns;

/// The longest wait of a message for the services' names.
const NAMES_WITHIN: Duration = Duration::from_secs(3);

/// The longest wait of a change for the path ids that decide whether it concerns a service.
const IDS_WITHIN: Duration = Duration::from_secs(2);

/// The number of ELB calls assumed per path while no path is known: a load balancer with one target group.
const UNKNOWN_PATH: usize = 3;

/// The steps that differ between the functions. One thread runs them, so their futures need not be `Send`.
#[allow(async_fn_in_trait)]
pub trait Watcher {
    /// The function's name, which is part of its records' keys.
    const NAME: &'static str;

    /// The check whose findings the function's changes hide. These findings are stored before a change is made.
    const HIDDEN: Option<Check> = None;

    /// Whether the function watches the subscriptions of the alert topic.
    const WATCHES_DELIVERY: bool = false;

    /// Whether changes in AWS start the function. If so, it stores the path ids that decide whether a change concerns a
    /// service.
    const REACTS_TO_CHANGES: bool = false;

    /// The function's share of ELB's rate limit.
    const ELB_RATE: Rate = pace::ELB;

    /// The longest duration of a run's first read if the services take turns; without it, every run reads all services.
    const TURN: Option<Duration> = None;

    /// The number of ELB calls for reading an endpoint service with these records, or for reading it `anew`; `None` if
    /// the records do not tell.
    fn calls(&self, _run: &Run<'_>, _items: &Items, _anew: bool) -> Option<usize> {
        None
    }

    /// Reads these endpoint services. A function that reads less if it knows the records waits for the run's memory.
    async fn read(&self, run: &Run<'_>, services: &BTreeSet<ServiceId>) -> Vec<Read>;

    /// The changes to make in AWS.
    async fn plan(&self, _run: &Run<'_>, _reads: &[Read]) -> Plan {
        Plan::default()
    }

    /// The report to store before the run makes its changes, so that a later run sends it if this one dies: the findings
    /// that the changes hide.
    fn before_change<'a>(
        &self,
        run: &Run<'_>,
        reads: &[Read],
        (partition, items): (&'a Partition, &Items),
    ) -> Report<'a> {
        let hidden = Self::HIDDEN.as_slice();
        let about = partition.service().zip(reads.first());
        let evaluate = |(service, read)| run.evaluate(hidden, service, read, Some(items), &Outcome::default());
        Report::new(partition, about.map(evaluate).into_iter().collect())
    }

    /// Reads the resources that `plan` has changed again. A superseded read keeps only the checks for which it still
    /// counts.
    async fn read_again(&self, _run: &Run<'_>, _plan: &Plan, _reads: &mut Vec<Read>) {}

    /// Adds the facts that the function stores about an endpoint service besides the check results, given its stored
    /// records and the plan's outcome.
    fn remember<'a>(&self, _run: &Run<'_>, _reads: &'a [Read], _done: Done<'_>, _report: &mut Report<'a>) {}

    /// A task that the function could not complete, besides failed changes: the run ends in error, so Lambda retries
    /// it. A failed read, in contrast, causes an alert, and the next scheduled run repeats it.
    fn left_undone(&self, _run: &Run<'_>, _reads: &[Read]) -> Option<CallError> {
        None
    }

    /// The metrics that only this function has.
    fn metrics(&self, _run: &Run<'_>, _reads: &[Read], _plan: &Plan, _outcome: &Outcome) -> Vec<Metric> {
        Vec::new()
    }
}

/// The basis for a function's stored facts: the service's records, the plan and its outcome.
#[derive(Debug, Clone, Copy)]
pub struct Done<'a> {
    /// The stored records; `None` if they could not be read.
    pub items: Option<&'a Items>,
    /// The plan.
    pub plan: &'a Plan,
    /// The plan's outcome.
    pub outcome: &'a Outcome,
}

/// A read of some endpoint services, and the checks that evaluate it.
#[derive(Debug, Clone)]
pub struct Read {
    /// The services that were read.
    pub services: BTreeSet<ServiceId>,
    /// Their topology.
    pub topology: Topology,
    /// The start of the read.
    pub began: Timestamp,
    /// The checks for which the read counts.
    pub checks: Vec<Check>,
    /// The only resources whose failures count; `None` if everything counts.
    pub only_failures_of: Option<BTreeSet<String>>,
}

impl Read {
    /// A read in which everything counts.
    pub fn new(services: BTreeSet<ServiceId>, topology: Topology, began: Timestamp, checks: Vec<Check>) -> Self {
        Self { services, topology, began, checks, only_failures_of: None }
    }

    /// Removes the services that were not read completely before time ran out: a later run reads them. Returns whether
    /// it removed any. If no service was read completely, all stay, with their unknown results.
    pub fn drop_unfinished(&mut self) -> bool {
        let (unfinished, finished): (BTreeSet<ServiceId>, BTreeSet<ServiceId>) =
            self.services.iter().cloned().partition(|service| self.topology.is_unfinished(service));
        let drops = !unfinished.is_empty() && !finished.is_empty();
        if drops {
            tracing::warn!(?unfinished, "no time was left to read these endpoint services; a later run does");
            self.services = finished;
        }
        drops
    }

    /// The connections; empty if they were not read, or could not be read.
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
    /// The invocation that started it.
    pub invocation: &'a Invocation,
    /// The function's settings.
    pub settings: &'a Settings,
    /// The endpoint services that the run concerns.
    pub asked: &'a BTreeSet<ServiceId>,
    /// Reads AWS until the run's time for reading ends, and records the calls.
    pub observer: Observer,
    /// The records of earlier runs.
    pub memory: Memory<'a>,
    /// The start of the run.
    pub began: Timestamp,
}

impl Run<'_> {
    /// The time left for reading, minus a reserve for follow-up calls.
    pub fn time_to_read(&self) -> Duration {
        self.invocation.deadline.reads.saturating_duration_since(Instant::now() + RESERVED_TO_FOLLOW)
    }

    /// The evaluation of `read` for `service`, with its stored records and the plan's outcome.
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
        // As planned: records that arrived too late for the plan do not change the requests that it held.
        let before = remembered.as_ref().filter(|_| !outcome.lacks_memory);
        let before = before.and_then(|remembered| remembered.admissions.as_ref());
        let held = admit(read.connections(), policy, service, before, now).hold;
        let was_in_place = items.map(|items| inventory::gone(items, &read.topology, service)).unwrap_or_default();
        let mut changes = items.map(|items| changes::recent(items, now)).unwrap_or_default();
        if let Trigger::Change(change) = &self.invocation.trigger {
            changes.push(change.clone());
        }
        let (region, follow_states) = (&self.invocation.origin.region, self.memory.follow_states());
        let context = CheckContext {
            remembered: remembered.as_ref(),
            refused: &outcome.refused,
            lacks_memory: outcome.lacks_memory || items.is_none(),
            changes: &changes,
            was_in_place: &was_in_place,
            follow_states: &follow_states,
            last_path: items.and_then(record::stored_path),
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

/// A function: its clients and its watcher.
#[derive(Debug)]
pub struct Pipeline<W> {
    watcher: W,
    settings: Settings,
    observer: Observer,
    applier: Applier,
    notifier: Notifier,
    turns: Turns,
}

impl<W: Watcher> Pipeline<W> {
    /// Builds the clients once.
    pub fn new(watcher: W, settings: Settings, config: &SdkConfig) -> Self {
        Self {
            watcher,
            observer: Observer::new(config, W::ELB_RATE, settings.policy.all_ports()),
            applier: Applier::new(config, settings.policy.dry_run),
            notifier: Notifier::new(W::NAME, config, &settings),
            turns: Turns::default(),
            settings,
        }
    }

    /// Handles one invocation. It causes no run if its event is foreign or a refused call, or if another event's run
    /// covers it. A covered change becomes a cause of that run's findings.
    ///
    /// # Errors
    /// [`RunErrors`] names the calls that failed. A change that AWS refuses for good is not an error: it causes an
    /// alert.
    pub async fn handle(&self, invocation: Invocation) -> Result<(), RunErrors> {
        let (table, trigger, all) = (self.notifier.table(), &invocation.trigger, &self.settings.policy.services);
        match trigger {
            Trigger::Test => return self.notifier.send_test_messages(&invocation).await.into_result(),
            Trigger::Removal => return self.notifier.send_last_message(&invocation).await.into_result(),
            Trigger::Refused => {
                tracing::info!("{trigger}: nothing to do");
                return Ok(());
            }
            _ => {}
        }
        let concern = self.concern(trigger).await;
        if concern == Concern::Nothing {
            tracing::info!(%trigger, "foreign: it names nothing on the path of an endpoint service");
            return Ok(());
        }
        tracing::info!(%trigger, "running");
        // Boxed, because a run's future is large.
        let Some((id, at)) = trigger.event() else { return Box::pin(self.run(&invocation, all)).await.into_result() };
        let change = if let Trigger::Change(change) = trigger { Some(change) } else { None };
        let (event, seldom) = (Event { id, at, change }, format!("{}#seldom", W::NAME));
        let (run, mut services, claim) = match concern {
            Concern::Seldom => (seldom.as_str(), ToRead::All, debounce::claim_seldom(table, &seldom, event).await),
            Concern::Services(services) => {
                let services = ToRead::These(services);
                let claim = debounce::claim(table, W::NAME, event, &services).await;
                (W::NAME, services, claim)
            }
            _ => (W::NAME, ToRead::All, debounce::claim(table, W::NAME, event, &ToRead::All).await),
        };
        let Claim::Run(began) = claim else {
            let changes = change.filter(|_| claim == Claim::WasCovered).map(std::slice::from_ref);
            return self.notifier.attribute(&invocation, changes.unwrap_or_default()).await.into_result();
        };
        if W::REACTS_TO_CHANGES {
            services = debounce::begun(table, run, began, services).await;
        }
        let services = match &services {
            ToRead::All => all,
            ToRead::These(services) => services,
        };
        let mut errors = Box::pin(self.run(&invocation, services)).await;
        let covered = debounce::finished(table, run, began, !errors.is_empty()).await;
        // This includes the run's own change: it must be stored, and a concurrent run may have written the alert first.
        let own = change.filter(|_| W::REACTS_TO_CHANGES).cloned();
        let changes: Vec<Change> = own.into_iter().chain(covered).collect();
        errors.append(self.notifier.attribute(&invocation, &changes).await);
        errors.into_result()
    }

    /// The endpoint services that the trigger concerns. Only a change can concern fewer than all.
    async fn concern(&self, trigger: &Trigger) -> Concern {
        let Trigger::Change(change) = trigger else { return Concern::Any };
        if !W::REACTS_TO_CHANGES {
            return Concern::Any;
        }
        match timeout(IDS_WITHIN, self.notifier.table().path_ids()).await {
            Ok(Ok(ids)) => concern::of(change, &ids, &self.settings.policy.services, Timestamp::now()),
            failed => {
                tracing::warn!(?failed, "which endpoint services the change concerns is not known; reading all");
                Concern::Any
            }
        }
    }

    async fn run(&self, invocation: &Invocation, services: &BTreeSet<ServiceId>) -> RunErrors {
        let run = Run {
            invocation,
            settings: &self.settings,
            asked: services,
            observer: self.observer.for_run(&invocation.id, invocation.deadline.reads),
            memory: Memory::new(self.notifier.table(), self.notifier.partitions()),
            began: Timestamp::now(),
        };
        // Reading and accepting wait neither for the table nor for the notices on removed services.
        let removed = self.notifier.close_removed_services(invocation, run.began);
        let (mut errors, _, removed) = tokio::join!(self.work(&run), run.memory.all(), removed);
        errors.push(removed);
        errors
    }

    async fn work(&self, run: &Run<'_>) -> RunErrors {
        let turn = self.turn(run).await;
        let (mut reads, subscribers) = tokio::join!(self.watcher.read(run, &turn.services), self.subscribers(run));
        let dropped = reads.iter_mut().filter_map(|read| read.drop_unfinished().then_some(())).count();
        if dropped > 0 {
            run.observer.forget_given_up();
        }
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
        let news = self.notifier.store(run.invocation, work, Timestamp::now()).await;
        metrics.extend(metrics::firing_alerts(&news.firing()));
        let names = if news.is_empty() { BTreeMap::new() } else { self.names(run, states, &reads).await };
        let read_at: Vec<_> = reads.iter().map(|read| (&read.services, read.began)).collect();
        let (mut errors, path_ids, read) = tokio::join!(
            self.notifier.send(news, &names, run.invocation, Timestamp::now()),
            self.store_path_ids(run, &turn, &reads),
            self.turns.note(self.notifier.table(), W::NAME, &turn, &read_at),
        );
        metrics.extend(read.map(|oldest| metrics::oldest_read(oldest, Timestamp::now())));
        metrics::write(&metrics, run.began);
        errors.push(path_ids);
        errors.extend(outcome.failed);
        errors.extend(self.watcher.left_undone(run, &reads));
        if plan.lacks_memory {
            let message = "a change waited for the table in vain";
            errors.push(Err(CallError::new("dynamodb:Query", ErrorKind::NoAnswer, message)));
        }
        errors
    }

    /// The services that this run reads.
    async fn turn(&self, run: &Run<'_>) -> Turn {
        let Some(within) = W::TURN else { return Turn { services: run.asked.clone(), runs_in_a_pass: 1 } };
        let states = run.memory.all().await;
        let services_and_items =
            states.iter().filter_map(|(partition, state)| Some((partition.service()?, state.as_ref().ok())));
        let calls = |items: Option<&Items>, anew| self.watcher.calls(run, items?, anew);
        let known: Vec<usize> = services_and_items.clone().filter_map(|(_, items)| calls(items, true)).collect();
        // An unknown path counts as average. If it is longer, time runs out before it is read completely.
        let otherwise = known.iter().sum::<usize>().checked_div(known.len()).unwrap_or(UNKNOWN_PATH);
        let candidates = services_and_items.map(|(service, items)| Candidate {
            service: service.clone(),
            calls: calls(items, false).unwrap_or(otherwise),
            has_open_alert: items.is_some_and(|items| reuse::has_open_alert(items, W::NAME)),
            last_read: None,
        });
        let budget = W::ELB_RATE.calls_within(within.min(run.time_to_read()));
        self.turns.take(self.notifier.table(), W::NAME, candidates.collect(), run.asked, budget).await
    }

    /// Stores the ids on the paths that were read, which decide whether later changes concern a service. An incomplete
    /// read adds to the stored ids.
    async fn store_path_ids(&self, run: &Run<'_>, turn: &Turn, reads: &[Read]) -> Result<(), CallError> {
        let Some(read) = reads.first().filter(|_| W::REACTS_TO_CHANGES) else { return Ok(()) };
        let schedule = run.settings.drift_schedule;
        let until = concern::valid_until(read.began, schedule, turn.runs_in_a_pass);
        let found = run.memory.all().await.iter().filter_map(|(partition, state)| {
            let service = partition.service().filter(|service| read.services.contains(service))?;
            let in_place = inventory::in_place(state.as_ref().ok(), &read.topology, service);
            Some((service, concern::ids_on_path(&read.topology, service, in_place.as_ref())))
        });
        let found: Vec<_> = found.collect();
        let table = self.notifier.table();
        let are_complete = found.iter().all(|(_, (_, is_complete))| *is_complete);
        let stored = if are_complete { BTreeMap::new() } else { table.path_ids().await? };
        let written = concurrently(found, async |(service, (hashes, is_complete))| {
            let ids = match stored.get(service) {
                _ if is_complete => PathIds { hashes, until },
                Some(stored) => PathIds { hashes: &stored.hashes | &hashes, until: stored.until },
                None => return Ok(()),
            };
            table.put_path_ids(service, &ids, read.began).await
        });
        written.await.into_iter().collect()
    }

    /// The check of the alert topic's subscriptions, if it is due: the evaluation, and the record to store.
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
        let evaluation = Evaluation::new(now, vec![&subscribers::SPEC], vec![result]);
        Some((evaluation, number.ok().map(|number| Subscribers::next(before, number, now))))
    }

    /// Carries out `plan`: accepts at once, and makes the other changes once the findings that they hide are stored.
    /// Then reads again.
    async fn change(
        &self,
        run: &Run<'_>,
        plan: &Plan,
        reads: &mut Vec<Read>,
    ) -> (Outcome, BTreeMap<Partition, LoadedState>) {
        if plan.is_empty() || self.settings.policy.dry_run {
            return (self.applier.apply(plan).await, BTreeMap::new());
        }
        let (accepts, mut others) = plan.split();
        let (mut outcome, stored) = tokio::join!(self.applier.apply(&accepts), self.store_first(run, &others, reads));
        let (stored, written) = stored;
        others.targets.retain(|group, _| match written.iter().find(|(key, _)| key.is_followed(group)) {
            Some((_, Ok(()))) => true,
            Some((_, Err(error))) => {
                outcome.failed.push(error.clone());
                false
            }
            // Another run's record came first, and the next run decides on it.
            None => false,
        });
        outcome.extend(self.applier.apply(&others).await);
        self.watcher.read_again(run, plan, reads).await;
        (outcome, stored)
    }

    /// Stores what the watcher wants stored before the changes in `plan`. Returns the records with the versions that were
    /// written, by partition, and the results of the writes.
    async fn store_first(
        &self,
        run: &Run<'_>,
        plan: &Plan,
        reads: &[Read],
    ) -> (BTreeMap<Partition, LoadedState>, Written) {
        if !plan.is_stored_first() {
            return Default::default();
        }
        let Some(states) = run.memory.for_plan().await else {
            tracing::error!("the table is slow; nothing is stored before the change");
            return Default::default();
        };
        let services = states.iter().filter_map(|(partition, state)| Some((partition, partition.service()?, state)));
        let is_concerned = |service| reads.iter().any(|read| plan.concerns(service, &read.topology));
        let concerned = services.filter(|(_, service, _)| is_concerned(service));
        let stored = concurrently(concerned, async |(partition, _, state)| {
            let items = state.as_ref().ok()?;
            let report = self.watcher.before_change(run, reads, (partition, items));
            let (items, written) = self.notifier.store_before_change(run.invocation, &report, items).await;
            Some(((partition.clone(), Ok(items)), written))
        });
        let (states, written): (_, Vec<Written>) = stored.await.into_iter().flatten().unzip();
        (states, written.into_iter().flatten().collect())
    }

    /// The run's report on one partition: every read, evaluated for its checks, oldest first.
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

    /// The services' names, as read or else as stored; they only serve the reader. EC2 is asked for names that are
    /// neither read nor stored, but a slow answer does not delay the run.
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

/// Adds the check of the alert topic's subscriptions to the work on the guard's own partition.
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
