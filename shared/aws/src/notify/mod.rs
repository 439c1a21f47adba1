//! Notify: stores what people must hear, sends it, then acknowledges it: a transactional outbox with a lease.
//!
//! The order matters. A transition is written with a condition and a short lease on sending it, so two runs at once send it
//! once. It stays in the record's outbox until SNS has accepted it, so a later run sends what a refused publish or a crash
//! left behind.
//!
//! | what happens | what people get |
//! |---|---|
//! | two runs at once | one message: one of them wins the record |
//! | a slow run with an older read | nothing: a record keeps when its read began, and an older read changes nothing |
//! | the answer to a write is lost, and its retry fails | nothing is lost: the run recognizes its own write |
//! | SNS refuses | the lease is given back, and the next run sends it |
//! | a crash before SNS accepts | a run after the lease has expired sends it |
//! | a crash between SNS's yes and the acknowledgement | the message a second time |
//! | a crash right after the run changed AWS | what it had found was stored before the change; a later run sends it |
//! | the table cannot be read or written | what fails, with a remark that it may repeat, once an hour per instance |
//! | an item cannot be parsed | what fails, once more |
//! | SNS refuses for hours | twelve transitions per record, the first and the latest among them; the others are counted |
//! | an endpoint service leaves the configuration | a notice that its firing alerts are no longer watched |

mod delivery;
mod removed_services;
#[cfg(test)]
mod simulation;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use guard_core::alerts::lifecycle::Phase;
use guard_core::alerts::path;
use guard_core::alerts::reconcile::{RecordWrite, Report};
use guard_core::alerts::record::{Item, Items, Key, Partition, Record, Version, firing};
use guard_core::alerts::run::Run;
use guard_core::alerts::sample;
use guard_core::alerts::transition::Transition;
use guard_core::check::Severity;
use guard_core::config::Settings;
use guard_core::ids::ServiceId;
use guard_core::message::origin::Origin;
use guard_core::message::{Banner, Envelope, Message};
use guard_core::snapshot::{CallError, ErrorKind};
use guard_core::trigger::Change;
use jiff::{SignedDuration, Timestamp};

use self::delivery::Delivery;
use self::store::{Store, Write};
use crate::concurrently;
use crate::lambda::{Invocation, RunErrors};

/// While the table fails, an instance sends the same thing again after this.
const REPEAT_WITHOUT_TABLE: SignedDuration = SignedDuration::from_hours(1);

/// How often a lost race is decided again before it is left to the next run. A run writes a record twice, what it found and
/// that it was sent: so of ten runs at once none loses more often.
const MAX_TRIES: usize = 20;

/// Stores and sends what people must hear.
#[derive(Debug, Clone)]
pub struct Notifier {
    function: &'static str,
    store: Store,
    delivery: Delivery,
    settings: Settings,
    /// Whether this instance has closed the alerts of removed services.
    removed_services_closed: Arc<AtomicBool>,
    /// What this instance sent while the table failed.
    recently_sent: Arc<Mutex<BTreeMap<Key, Sent>>>,
}

/// What was sent of a record that the table did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    at: Timestamp,
    severity: Severity,
    parts: Vec<String>,
}

/// The stored records of one partition, as far as the table could be read.
pub type LoadedState = Result<Items, CallError>;

/// The services' names, as drift-watcher read and stored them; `None` for a service that has none.
#[must_use]
pub fn stored_names(states: &[(&Partition, LoadedState)]) -> BTreeMap<ServiceId, Option<String>> {
    let name = |(partition, state): &(&Partition, LoadedState)| {
        let path = path::recorded(state.as_ref().ok()?)?;
        Some((partition.service()?.clone(), path.name().map(ToOwned::to_owned)))
    };
    states.iter().filter_map(name).collect()
}

/// What a run found out about one partition, and the records to reconcile it with.
#[derive(Debug)]
pub struct Findings<'a> {
    /// What the run found out.
    pub report: Report<'a>,
    /// The stored records.
    pub state: LoadedState,
}

/// What [`Notifier::notify`] did.
#[derive(Debug, Default)]
pub struct Notified {
    /// The function's alerts that fire now.
    pub firing: Firing,
    /// What failed.
    pub errors: RunErrors,
}

/// The alerts that fire, as far as a run knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// Their severities.
    pub severities: Vec<Severity>,
    /// Whether those are all: the stored ones are unknown if the table cannot be read.
    pub is_complete: bool,
}

impl Default for Firing {
    fn default() -> Self {
        Self { severities: Vec::new(), is_complete: true }
    }
}

/// What a run has to send about one partition.
#[derive(Debug)]
pub(crate) struct Outbox {
    partition: Partition,
    /// Records whose outbox this run holds the lease on.
    entries: Vec<Entry>,
    /// Transitions that are in no record, and what to remember of them once they are sent.
    unrecorded: Vec<(Key, Sent, Vec<Transition>)>,
    /// Why the table failed: what is sent may be sent again.
    error: Option<CallError>,
    /// The function's alerts that fire now.
    firing: Firing,
}

/// A record as it was written.
#[derive(Debug)]
struct Entry {
    key: Key,
    record: Record,
    version: u64,
}

impl Outbox {
    fn new(partition: &Partition) -> Self {
        Self {
            partition: partition.clone(),
            entries: Vec::new(),
            unrecorded: Vec::new(),
            error: None,
            firing: Firing::default(),
        }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unrecorded.is_empty()
    }

    /// Adds an update that was written as `version`, if this run sends its record's outbox.
    fn extend(&mut self, write: RecordWrite, version: u64) {
        if write.leased {
            self.entries.push(Entry { key: write.key, record: write.record, version });
        }
    }
}

/// The keys of the lost updates that another run wrote. Where the table holds exactly what this run wrote, the write
/// succeeded, its answer was lost, and the SDK's retry found the version changed.
fn claim_lost_answers(lost: Vec<RecordWrite>, items: &Items, outbox: &mut Outbox) -> BTreeSet<Key> {
    let mut others = BTreeSet::new();
    for write in lost {
        match items.get(&write.key) {
            Some(Item { record: Some(stored), version: Version::At(version) }) if *stored == write.record => {
                outbox.extend(write, *version);
            }
            _ => drop(others.insert(write.key)),
        }
    }
    others
}

impl Notifier {
    /// Notifies for the function `function`, whose name is part of its records' keys.
    #[must_use]
    pub fn new(function: &'static str, config: &aws_config::SdkConfig, settings: &Settings) -> Self {
        Self {
            function,
            store: Store::new(config, &settings.state_table),
            delivery: Delivery::new(config, &settings.alert_topic),
            settings: settings.clone(),
            removed_services_closed: Arc::default(),
            recently_sent: Arc::default(),
        }
    }

    /// The table.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The function's name.
    pub(crate) fn function(&self) -> &'static str {
        self.function
    }

    /// The partitions of this function: every configured endpoint service, and the guard itself.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        let services = self.settings.policy.services.iter().cloned().map(Partition::Service);
        services.chain([Partition::Guard]).collect()
    }

    /// The stored records of `partitions`, in their order.
    pub async fn load_state<'a>(&self, partitions: &'a [Partition]) -> Vec<(&'a Partition, LoadedState)> {
        concurrently(partitions, async |partition| (partition, self.store.load(partition).await)).await
    }

    /// Stores what `report` says before the run changes AWS, so that a later run sends it if this one dies before it has
    /// stored what became of the change. Without a lease: whichever run comes first sends it. `state` gets the versions
    /// that were written, and keeps the records that were read: once the run knows more, it reconciles with those again.
    pub async fn store_before_change(
        &self,
        Invocation { id, origin, .. }: &Invocation,
        report: &Report<'_>,
        state: &mut LoadedState,
    ) {
        let Ok(items) = state else { return };
        let now = Timestamp::now();
        let writes = self.run(id, origin, now).writes(report, items);
        for RecordWrite { key, mut record, expected, .. } in writes.into_iter().filter(|write| write.leased) {
            record.lease_until = None;
            let before = items.get(&key).and_then(|item| item.record.clone());
            if before.as_ref() == Some(&record) {
                continue;
            }
            match self.store.put(report.partition, &key, &record, expected, now).await {
                Ok(Write::Won(version)) => {
                    drop(items.insert(key, Item { record: before, version: Version::At(version) }));
                }
                Ok(Write::Lost) => tracing::info!(%key, "another run has written it; making the change all the same"),
                Err(error) => tracing::error!(%error, %key, "could not store it; making the change all the same"),
            }
        }
    }

    /// Reconciles what a run found with the stored records, and sends one message per partition that has something new.
    /// `names` is asked for the services' `Name` tags only then.
    pub async fn notify<N: AsyncFnOnce() -> BTreeMap<ServiceId, String>>(
        &self,
        Invocation { id, origin, .. }: &Invocation,
        findings: Vec<Findings<'_>>,
        names: N,
    ) -> Notified {
        let outboxes = concurrently(findings, async |Findings { report, state }| {
            self.reconcile(id, origin, &report, state, Timestamp::now()).await
        })
        .await;
        let firing = Firing {
            severities: outboxes.iter().flat_map(|outbox| outbox.firing.severities.iter().copied()).collect(),
            is_complete: outboxes.iter().all(|outbox| outbox.firing.is_complete),
        };
        let names = if outboxes.iter().all(Outbox::is_empty) { BTreeMap::new() } else { names().await };
        Notified { firing, errors: self.publish_all(outboxes, &names, origin).await }
    }

    /// Sends test messages about the first configured service, one of each severity and kind.
    pub async fn send_test_messages(&self, Invocation { origin, .. }: &Invocation) -> RunErrors {
        let mut errors = RunErrors::default();
        let Some(service) = self.settings.policy.services.first() else { return errors };
        let partition = Partition::Service(service.clone());
        let caution = Some(Banner::Test);
        let envelope = Envelope { partition: &partition, name: None, origin, function: self.function, caution };
        // One after the other, so that they arrive in this order.
        for transition in sample::transitions(service, &origin.region, Timestamp::now()) {
            errors.push(self.delivery.publish(&Message::new(envelope, &[&[transition]])).await);
        }
        errors
    }

    /// Adds `change` as the cause of alerts that already fire, and sends it. For a run that another run covers.
    pub async fn attribute(&self, Invocation { id, origin, .. }: &Invocation, change: &Change) -> RunErrors {
        let partitions = self.partitions();
        let states = self.load_state(&partitions).await;
        let names = stored_names(&states).into_iter().filter_map(|(service, name)| Some((service, name?))).collect();
        let outboxes = concurrently(states, async |(partition, state)| {
            let now = Timestamp::now();
            let mut outbox = Outbox::new(partition);
            match state {
                Ok(items) => {
                    // If another run wrote first, it read the alert with its cause, or the next change finds it.
                    let writes = self.run(id, origin, now).attribute(change, &items);
                    self.write(partition, writes, &mut outbox, now).await;
                }
                Err(error) => outbox.error = Some(error),
            }
            outbox
        })
        .await;
        self.publish_all(outboxes, &names, origin).await
    }

    async fn publish_all(
        &self,
        outboxes: Vec<Outbox>,
        names: &BTreeMap<ServiceId, String>,
        origin: &Origin,
    ) -> RunErrors {
        let sent = concurrently(outboxes, async |outbox| {
            let name = outbox.partition.service().and_then(|service| names.get(service)).map(String::as_str);
            self.publish(outbox, name, origin, Timestamp::now()).await
        })
        .await;
        let mut errors = RunErrors::default();
        for result in sent {
            errors.push(result);
        }
        errors
    }

    fn run<'a>(&'a self, id: &'a str, origin: &'a Origin, now: Timestamp) -> Run<'a> {
        Run { id, function: self.function, policy: &self.settings.policy, region: &origin.region, now }
    }

    /// The severities of the function's alerts that fire once these updates are stored.
    fn firing_after(&self, mut items: Items, writes: &[RecordWrite]) -> Vec<Severity> {
        for RecordWrite { key, record, .. } in writes {
            items.insert(key.clone(), Item { record: Some(record.clone()), version: Version::Unreadable });
        }
        let ours = firing(&items).filter(|(key, _)| key.function == self.function);
        ours.map(|(_, alert)| alert.finding.severity).collect()
    }

    /// Compares the report with the stored records, and stores what changed. The outbox holds what this run has to send.
    async fn reconcile(
        &self,
        id: &str,
        origin: &Origin,
        report: &Report<'_>,
        state: LoadedState,
        now: Timestamp,
    ) -> Outbox {
        let mut outbox = Outbox::new(report.partition);
        let run = self.run(id, origin, now);
        let mut items = match state {
            Ok(items) => items,
            Err(error) => {
                tracing::error!(%error, partition = %report.partition, "the table cannot be read; sending what fails");
                let writes = run.writes(report, &Items::new());
                // Without the table nothing gets beyond pending: what fails counts as firing.
                let failing = writes.iter().filter_map(|write| write.record.alert());
                let failing = failing.filter(|alert| alert.phase != Phase::Resolved);
                outbox.firing.severities = failing.map(|alert| alert.finding.severity).collect();
                outbox.firing.is_complete = false;
                // Without its record, every connection looks new; what is new is sent once the table answers again.
                let news = writes.iter().filter(|write| write.key.subject != Key::CONNECTION);
                outbox.unrecorded = news.filter_map(|write| self.not_recently_sent(write, now)).collect();
                outbox.error = Some(error);
                return outbox;
            }
        };
        let mut writes = run.writes(report, &items);
        outbox.firing.severities = self.firing_after(items.clone(), &writes);
        for _ in 0..MAX_TRIES {
            let lost = self.write(report.partition, writes, &mut outbox, now).await;
            if lost.is_empty() {
                return outbox;
            }
            items = match self.store.load(report.partition).await {
                Ok(fresh) => fresh,
                Err(error) => {
                    outbox.error = Some(error);
                    return outbox;
                }
            };
            let lost = claim_lost_answers(lost, &items, &mut outbox);
            writes = run.writes(report, &items);
            writes.retain(|write| lost.contains(&write.key));
        }
        outbox.error = Some(CallError::new(
            "dynamodb:PutItem",
            ErrorKind::GivenUp,
            format!("lost the race for an item {MAX_TRIES} times"),
        ));
        outbox
    }

    /// Writes the updates, and puts into `outbox` what this run has to send. The updates that another write came before.
    async fn write(
        &self,
        partition: &Partition,
        writes: Vec<RecordWrite>,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Vec<RecordWrite> {
        let results = concurrently(&writes, |RecordWrite { key, record, expected, .. }| {
            self.store.put(partition, key, record, *expected, now)
        })
        .await;
        let mut lost = Vec::new();
        for (write, result) in writes.into_iter().zip(results) {
            match result {
                Ok(Write::Won(version)) => outbox.extend(write, version),
                Ok(Write::Lost) => lost.push(write),
                Err(error) => {
                    tracing::error!(%error, key = %write.key, "could not store the alert; sending it anyway");
                    outbox.error = Some(error);
                    outbox.unrecorded.extend(self.not_recently_sent(&write, now));
                }
            }
        }
        lost
    }

    /// What to send of a record that the table did not take, unless this instance sent it recently and nothing is new.
    fn not_recently_sent(&self, write: &RecordWrite, now: Timestamp) -> Option<(Key, Sent, Vec<Transition>)> {
        let transitions = write.unstored_transitions(now);
        let finding = &transitions.last()?.finding;
        let news = Sent { at: now, severity: finding.severity, parts: finding.failing_parts().cloned().collect() };
        let recently_sent = self.recently_sent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = recently_sent.get(&write.key).is_some_and(|sent| {
            now.duration_since(sent.at) < REPEAT_WITHOUT_TABLE
                && news.severity <= sent.severity
                && news.parts.iter().all(|part| sent.parts.contains(part))
        });
        (!is_known).then(|| (write.key.clone(), news, transitions))
    }

    /// Sends one message for the partition, and acknowledges what it contained. `name` is the service's `Name` tag.
    ///
    /// # Errors
    /// If SNS did not accept it (a later run sends it), or if the table failed before or after.
    async fn publish(
        &self,
        outbox: Outbox,
        name: Option<&str>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<(), CallError> {
        if outbox.is_empty() {
            return outbox.error.map_or(Ok(()), Err);
        }
        let Outbox { partition, entries, unrecorded, error, .. } = outbox;
        let recorded = entries.iter().map(|entry| entry.record.outbox.as_slice());
        let transitions: Vec<&[Transition]> =
            recorded.chain(unrecorded.iter().map(|(_, _, transitions)| transitions.as_slice())).collect();
        let caution = error.as_ref().map(Banner::TableFailed);
        let envelope = Envelope { partition: &partition, name, origin, function: self.function, caution };
        let message = Message::new(envelope, &transitions);
        if let Err(error) = self.delivery.publish(&message).await {
            tracing::error!(%error, %partition, "not sent; a later run sends it");
            self.release(&partition, entries, now).await;
            return Err(error);
        }
        for transition in transitions.iter().copied().flatten() {
            tracing::info!(%partition, ?transition, "sent");
        }
        let sent = unrecorded.into_iter().map(|(key, sent, _)| (key, sent));
        self.recently_sent.lock().unwrap_or_else(PoisonError::into_inner).extend(sent);
        let acknowledged = concurrently(entries, |entry| self.acknowledge(&partition, entry, now)).await;
        acknowledged.into_iter().collect::<Result<(), CallError>>()?;
        error.map_or(Ok(()), Err)
    }

    /// Removes what was sent from the record's outbox, even if another run has written the record since.
    async fn acknowledge(&self, partition: &Partition, entry: Entry, now: Timestamp) -> Result<(), CallError> {
        let Entry { key, mut record, version } = entry;
        let mut expected = Version::At(version);
        let sent = record.outbox.last().map_or(0, |last| last.number);
        for _ in 0..MAX_TRIES {
            record.acknowledge(sent);
            if let Write::Won(_) = self.store.put(partition, &key, &record, Some(expected), now).await? {
                return Ok(());
            }
            let Some(item) = self.store.load(partition).await?.remove(&key) else { return Ok(()) };
            let Some(fresh) = item.record else { return Ok(()) };
            (record, expected) = (fresh, item.version);
        }
        Err(CallError::new(
            "dynamodb:PutItem",
            ErrorKind::GivenUp,
            format!("{key} was sent but could not be acknowledged; it may be sent again"),
        ))
    }

    /// Gives the leases back, so that the next run can send at once. If that fails, they expire by themselves.
    async fn release(&self, partition: &Partition, entries: Vec<Entry>, now: Timestamp) {
        concurrently(entries, async |Entry { key, mut record, version }| {
            record.lease_until = None;
            if let Err(error) = self.store.put(partition, &key, &record, Some(Version::At(version)), now).await {
                tracing::warn!(%error, %key, "the lease stays until it expires");
            }
        })
        .await;
    }
}
