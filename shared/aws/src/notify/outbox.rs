//! The first half of notifying: reconciles a run's report with the stored records, and stores the transitions to send.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use guard_core::alerts::lifecycle::Phase;
use guard_core::alerts::reconcile::{RecordWrite, Report};
use guard_core::alerts::reconciler::Reconciler;
use guard_core::alerts::record::{Item, Items, Key, Partition, Record, Version, firing};
use guard_core::alerts::transition::Transition;
use guard_core::check::Severity;
use guard_core::message::origin::Origin;
use guard_core::snapshot::{CallError, ErrorKind};
use jiff::{SignedDuration, Timestamp};

use super::{Firing, Notifier};
use crate::concurrently;
use crate::invocation::Invocation;
use crate::memory::LoadedState;
use crate::table::Write;

/// The time after which an instance repeats a transition while the table fails.
const REPEAT_WITHOUT_TABLE: SignedDuration = SignedDuration::from_hours(1);

/// The number of lost races after which a run leaves the record to the next run. A run writes a record twice, to store
/// and to acknowledge, so none of ten concurrent runs loses more often.
pub(super) const MAX_TRIES: usize = 20;

/// A message sent on a record that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    at: Timestamp,
    severity: Severity,
    parts: Vec<String>,
}

/// The results of writes before a change, by the records' keys. A write that another run's came before is missing.
pub(crate) type Written = BTreeMap<Key, Result<(), CallError>>;

/// The transitions that a run has to send about one partition.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(super) partition: Partition,
    /// Records whose outboxes this run has leased.
    pub(super) entries: Vec<Entry>,
    /// Transitions without a stored record, and what to remember of them once they are sent.
    pub(super) unrecorded: Vec<(Key, Sent, Vec<Transition>)>,
    /// The table's error; because of it, the transitions may be sent again.
    pub(super) error: Option<CallError>,
    /// The function's alerts that fire now.
    pub(super) firing: Firing,
}

/// A record as written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) record: Record,
    pub(super) version: u64,
}

impl Outbox {
    pub(super) fn new(partition: &Partition) -> Self {
        Self {
            partition: partition.clone(),
            entries: Vec::new(),
            unrecorded: Vec::new(),
            error: None,
            firing: Firing::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unrecorded.is_empty()
    }

    /// Adds an update that was written as `version`, if this run has leased the record's outbox.
    pub(super) fn extend(&mut self, write: RecordWrite, version: u64) {
        if write.leased {
            self.entries.push(Entry { key: write.key, record: write.record, version });
        }
    }
}

/// The keys of the writes that lost to another run. If the table holds exactly what this run wrote, the write
/// succeeded: its response was lost, and the SDK's retry found a changed version.
fn claim_lost_answers(lost: Vec<RecordWrite>, items: &Items, outbox: &mut Outbox) -> BTreeSet<Key> {
    let mut others = BTreeSet::new();
    for write in lost {
        match items.get(&write.key) {
            Some(Item { record: Some(stored), version: Version::At(version) })
                if is_stored_as(&write.record, stored) =>
            {
                outbox.extend(write, *version);
            }
            _ => drop(others.insert(write.key)),
        }
    }
    others
}

/// Whether `stored` is the stored form of `record`, which lacks some fields.
fn is_stored_as(record: &Record, stored: &Record) -> bool {
    matches!((serde_json::to_value(record), serde_json::to_value(stored)), (Ok(record), Ok(stored)) if record == stored)
}

/// Whether the write belongs before the change: it has a message to send, or the plan itself.
fn is_stored_first(write: &RecordWrite) -> bool {
    write.leased || write.record.follow().is_some()
}

impl Notifier {
    /// Stores `report` before the run changes AWS, so that a later run sends it if this one dies before it has stored
    /// the change's outcome. It takes no lease, so the next run to come sends it. Returns the earlier records with the
    /// written versions, for the run to reconcile again once it knows the outcome, and the results of the writes.
    pub async fn store_before_change(
        &self,
        Invocation { id, origin, .. }: &Invocation,
        report: &Report<'_>,
        items: &Items,
    ) -> (Items, Written) {
        let (now, mut stored, mut written) = (Timestamp::now(), items.clone(), Written::new());
        let writes = self.reconciler(id, origin, now).writes(report, items);
        for RecordWrite { key, mut record, expected, .. } in writes.into_iter().filter(is_stored_first) {
            record.lease_until = None;
            let before = items.get(&key).and_then(|item| item.record.clone());
            if before.as_ref() == Some(&record) {
                continue;
            }
            match self.table.put(report.partition, &key, &record, expected, now).await {
                Ok(Write::Won(version)) => {
                    stored.insert(key.clone(), Item { record: before, version: Version::At(version) });
                    written.insert(key, Ok(()));
                }
                Ok(Write::Lost) => tracing::info!(%key, "another run has written it before the change"),
                Err(error) => {
                    tracing::error!(%error, %key, "could not store it before the change");
                    written.insert(key, Err(error));
                }
            }
        }
        (stored, written)
    }

    /// Reconciles the report with the stored records, and stores the changes. Returns the transitions that this run has
    /// to send.
    pub(super) async fn reconcile(
        &self,
        id: &str,
        origin: &Origin,
        report: &Report<'_>,
        state: &LoadedState,
        (now, heard_since): (Timestamp, Option<Timestamp>),
    ) -> Outbox {
        let reconciler = Reconciler { heard_since, ..self.reconciler(id, origin, now) };
        let items = match state {
            Ok(items) => items,
            Err(error) => return self.without_table(&reconciler, report, error.clone()),
        };
        let mut outbox = Outbox::new(report.partition);
        let writes = reconciler.writes(report, items);
        outbox.firing.severities = self.firing_after(items.clone(), &writes);
        self.settle(report.partition, writes, &mut outbox, now, |fresh| reconciler.writes(report, fresh)).await;
        outbox
    }

    /// Writes the records, and decides again on each one that another run wrote first.
    pub(super) async fn settle(
        &self,
        partition: &Partition,
        mut writes: Vec<RecordWrite>,
        outbox: &mut Outbox,
        now: Timestamp,
        decide: impl Fn(&Items) -> Vec<RecordWrite>,
    ) {
        for _ in 0..MAX_TRIES {
            let lost = self.write(partition, writes, outbox, now).await;
            if lost.is_empty() {
                return;
            }
            let fresh = match self.table.load(partition).await {
                Ok(fresh) => fresh,
                Err(error) => {
                    outbox.error = Some(error);
                    return;
                }
            };
            let lost = claim_lost_answers(lost, &fresh, outbox);
            writes = decide(&fresh);
            writes.retain(|write| lost.contains(&write.key));
        }
        let message = format!("lost the race for an item {MAX_TRIES} times");
        outbox.error = Some(CallError::new("dynamodb:PutItem", ErrorKind::GivenUp, message));
    }

    /// The outbox while the table cannot be read: all failures.
    fn without_table(&self, reconciler: &Reconciler<'_>, report: &Report<'_>, error: CallError) -> Outbox {
        tracing::error!(%error, partition = %report.partition, "the table cannot be read; sending what fails");
        let mut outbox = Outbox::new(report.partition);
        let writes = reconciler.writes(report, &Items::new());
        // Without the table every alert stays pending, so every failure counts as firing.
        let failing = writes.iter().filter_map(|write| write.record.alert());
        let failing = failing.filter(|alert| alert.phase != Phase::Resolved);
        outbox.firing.severities = failing.map(|alert| alert.finding.severity).collect();
        outbox.firing.is_complete = false;
        // Without its record, every connection looks new; notices are sent once the table answers again.
        let news = writes.iter().filter(|write| write.key.subject != Key::CONNECTION);
        outbox.unrecorded = news.filter_map(|write| self.not_recently_sent(write, reconciler.now)).collect();
        outbox.error = Some(error);
        outbox
    }

    /// Writes the records, and adds the transitions that this run has to send to `outbox`. Returns the writes that lost
    /// to another run.
    pub(super) async fn write(
        &self,
        partition: &Partition,
        writes: Vec<RecordWrite>,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Vec<RecordWrite> {
        let results = concurrently(&writes, |RecordWrite { key, record, expected, .. }| {
            self.table.put(partition, key, record, *expected, now)
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

    /// The transitions to send for a record that could not be stored, unless this instance sent them recently and
    /// nothing is new.
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

    /// The severities of the function's alerts that fire after these updates.
    fn firing_after(&self, mut items: Items, writes: &[RecordWrite]) -> Vec<Severity> {
        for RecordWrite { key, record, .. } in writes {
            items.insert(key.clone(), Item { record: Some(record.clone()), version: Version::Unreadable });
        }
        let ours = firing(&items).filter(|(key, _)| key.function == self.function);
        ours.map(|(_, alert)| alert.finding.severity).collect()
    }

    pub(super) fn reconciler<'a>(&'a self, id: &'a str, origin: &'a Origin, now: Timestamp) -> Reconciler<'a> {
        let Self { function, settings, .. } = self;
        let stack = settings.stack_name.as_deref();
        Reconciler { id, function, policy: &settings.policy, stack, region: &origin.region, now, heard_since: None }
    }
}
