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
//! | SNS refuses | the lease is given back, and the next run sends it |
//! | a crash before SNS accepts | a run after the lease has expired sends it |
//! | a crash between SNS's yes and the acknowledgement | the message a second time |
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

use guard_core::alerts::message::Message;
use guard_core::alerts::reconcile::{Report, Run, Update, unrecorded_notice};
use guard_core::alerts::record::{Items, Key, Record, Version};
use guard_core::alerts::transition::Transition;
use guard_core::checks::{Finding, Region};
use guard_core::config::Settings;
use guard_core::ids::ServiceId;
use guard_core::snapshot::CallError;
use jiff::{SignedDuration, Timestamp};

use self::delivery::Delivery;
use self::store::{Store, Write};
use crate::concurrently;
use crate::lambda::RunErrors;

/// While the table fails, an instance sends the same thing again after this.
const REPEAT_WITHOUT_TABLE: SignedDuration = SignedDuration::from_hours(1);

/// How often a lost race is decided again before it is left to the next run.
const MAX_TRIES: usize = 5;

/// Stores and sends what people must hear.
#[derive(Debug, Clone)]
pub struct Notifier {
    function: &'static str,
    store: Store,
    delivery: Delivery,
    settings: Settings,
    region: Region,
    /// Whether this instance has closed the alerts of removed services.
    removed_services_closed: Arc<AtomicBool>,
    /// What this instance sent while the table failed, and when.
    recently_sent: Arc<Mutex<BTreeMap<Key, Timestamp>>>,
}

/// The stored records of one endpoint service, as far as the table could be read.
pub type LoadedState = Result<Items, CallError>;

/// What a run found out about one endpoint service, and the records to reconcile it with.
#[derive(Debug)]
pub struct ServiceReport<'a> {
    /// What the run found out.
    pub report: Report<'a>,
    /// The stored records.
    pub state: LoadedState,
    /// A notice to send that no record keeps.
    pub notice: Option<Finding>,
}

/// What a run has to send about one endpoint service.
#[derive(Debug)]
pub(crate) struct Outbox {
    service: ServiceId,
    /// Records whose outbox this run holds the lease on.
    entries: Vec<Entry>,
    /// Transitions that are in no record, grouped by what they are about.
    unrecorded: Vec<Vec<Transition>>,
    /// Why the table failed: what is sent may be sent again.
    error: Option<CallError>,
}

/// A record as it was written.
#[derive(Debug)]
struct Entry {
    key: Key,
    record: Record,
    version: u64,
}

impl Outbox {
    fn new(service: &ServiceId) -> Self {
        Self { service: service.clone(), entries: Vec::new(), unrecorded: Vec::new(), error: None }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unrecorded.is_empty()
    }
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
            region: Region::from_arn(&settings.alert_topic),
            removed_services_closed: Arc::default(),
            recently_sent: Arc::default(),
        }
    }

    /// The table.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The Region that commands and console links are for.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The stored records of every configured endpoint service.
    pub async fn load_state(&self) -> Vec<(&ServiceId, LoadedState)> {
        concurrently(&self.settings.policy.services, async |service| (service, self.store.load(service).await)).await
    }

    /// Reconciles the reports with the stored records, and sends one message per endpoint service that has something new.
    /// `names` is asked for the services' `Name` tags only then.
    pub async fn notify<N: AsyncFnOnce() -> BTreeMap<ServiceId, String>>(
        &self,
        reports: Vec<ServiceReport<'_>>,
        names: N,
    ) -> RunErrors {
        let outboxes = concurrently(reports, async |ServiceReport { report, state, notice }| {
            let now = Timestamp::now();
            let mut outbox = self.reconcile(&report, state, now).await;
            outbox.unrecorded.extend(notice.map(|finding| vec![self.heartbeat(report.service, finding, now)]));
            outbox
        })
        .await;
        let names = if outboxes.iter().all(Outbox::is_empty) { BTreeMap::new() } else { names().await };
        let sent = concurrently(outboxes, async |outbox| {
            let name = names.get(&outbox.service).map(String::as_str);
            self.publish(outbox, name, Timestamp::now()).await
        })
        .await;
        let mut errors = RunErrors::default();
        for result in sent {
            errors.push(result);
        }
        errors
    }

    fn run(&self, now: Timestamp) -> Run<'_> {
        Run { function: self.function, policy: &self.settings.policy, region: &self.region, now }
    }

    fn heartbeat(&self, service: &ServiceId, finding: Finding, now: Timestamp) -> Transition {
        unrecorded_notice("heartbeat", service.as_str(), &self.run(now).new_incident(service), finding, now)
    }

    /// Compares the report with the stored records, and stores what changed. The outbox holds what this run has to send.
    async fn reconcile(&self, report: &Report<'_>, state: LoadedState, now: Timestamp) -> Outbox {
        let mut outbox = Outbox::new(report.service);
        let run = self.run(now);
        let mut items = match state {
            Ok(items) => items,
            Err(error) => {
                tracing::error!(%error, service = %report.service, "the table cannot be read; sending what fails");
                outbox.unrecorded = self.not_recently_sent(run.updates_without_items(report), now);
                outbox.error = Some(error);
                return outbox;
            }
        };
        let mut updates = run.updates(report, &items);
        for _ in 0..MAX_TRIES {
            let lost = self.write(report.service, updates, &mut outbox, now).await;
            if lost.is_empty() {
                return outbox;
            }
            items = match self.store.load(report.service).await {
                Ok(fresh) => fresh,
                Err(error) => {
                    outbox.error = Some(error);
                    return outbox;
                }
            };
            updates = run.updates(report, &items);
            updates.retain(|update| lost.contains(&update.key));
        }
        outbox.error = Some(CallError {
            call: "dynamodb:PutItem",
            error: format!("lost the race for an item {MAX_TRIES} times"),
            denied: false,
        });
        outbox
    }

    /// Writes the updates, and puts into `outbox` what this run has to send. The keys that another run wrote first.
    async fn write(
        &self,
        service: &ServiceId,
        updates: Vec<Update>,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> BTreeSet<Key> {
        let results = concurrently(&updates, |Update { key, record, expected, .. }| {
            self.store.put(service, key, record, *expected, now)
        })
        .await;
        let mut lost = BTreeSet::new();
        for (update, result) in updates.into_iter().zip(results) {
            match result {
                Ok(Write::Won(version)) if update.leased => {
                    outbox.entries.push(Entry { key: update.key, record: update.record, version });
                }
                Ok(Write::Won(_)) => {}
                Ok(Write::Lost) => drop(lost.insert(update.key)),
                Err(error) => {
                    tracing::error!(%error, key = %update.key, "not stored; sending it all the same");
                    outbox.error = Some(error);
                    outbox.unrecorded.extend(self.not_recently_sent([update], now));
                }
            }
        }
        lost
    }

    /// What to send of records that the table did not take, unless this instance sent it recently.
    fn not_recently_sent(&self, updates: impl IntoIterator<Item = Update>, now: Timestamp) -> Vec<Vec<Transition>> {
        let mut sent = self.recently_sent.lock().unwrap_or_else(PoisonError::into_inner);
        let transitions = updates.into_iter().filter_map(|update| {
            let key = update.key.clone();
            let transitions = update.unstored_transitions(now);
            let recent = sent.get(&key).is_some_and(|at| now.duration_since(*at) < REPEAT_WITHOUT_TABLE);
            if recent || transitions.is_empty() {
                return None;
            }
            sent.insert(key, now);
            Some(transitions)
        });
        transitions.collect()
    }

    /// Sends one message for the service, and acknowledges what it contained. `name` is the service's `Name` tag.
    ///
    /// # Errors
    /// If SNS did not accept it (a later run sends it), or if the table failed before or after.
    async fn publish(&self, outbox: Outbox, name: Option<&str>, now: Timestamp) -> Result<(), CallError> {
        if outbox.is_empty() {
            return outbox.error.map_or(Ok(()), Err);
        }
        let Outbox { service, entries, unrecorded, error } = outbox;
        let recorded = entries.iter().map(|entry| entry.record.outbox.as_slice());
        let transitions: Vec<&[Transition]> = recorded.chain(unrecorded.iter().map(Vec::as_slice)).collect();
        let message = Message::new(&service, name, self.function, &transitions, error.as_ref());
        if let Err(error) = self.delivery.publish(&message).await {
            tracing::error!(%error, %service, "not sent; a later run sends it");
            self.release(&service, entries, now).await;
            return Err(error);
        }
        for transition in transitions.iter().copied().flatten() {
            tracing::info!(%service, ?transition, "sent");
        }
        let acknowledged = concurrently(entries, |entry| self.acknowledge(&service, entry, now)).await;
        acknowledged.into_iter().collect::<Result<(), CallError>>()?;
        error.map_or(Ok(()), Err)
    }

    /// Removes what was sent from the record's outbox, even if another run has written the record since.
    async fn acknowledge(&self, service: &ServiceId, entry: Entry, now: Timestamp) -> Result<(), CallError> {
        let Entry { key, mut record, version } = entry;
        let mut expected = Version::At(version);
        let sent = record.outbox.last().map_or(0, |last| last.number);
        for _ in 0..MAX_TRIES {
            record.acknowledge(sent);
            if let Write::Won(_) = self.store.put(service, &key, &record, Some(expected), now).await? {
                return Ok(());
            }
            let Some(item) = self.store.load(service).await?.remove(&key) else { return Ok(()) };
            let Some(fresh) = item.record else { return Ok(()) };
            (record, expected) = (fresh, item.version);
        }
        Err(CallError {
            call: "dynamodb:PutItem",
            error: format!("{key} was sent but could not be acknowledged; it may be sent again"),
            denied: false,
        })
    }

    /// Gives the leases back, so that the next run can send at once. If that fails, they expire by themselves.
    async fn release(&self, service: &ServiceId, entries: Vec<Entry>, now: Timestamp) {
        concurrently(entries, async |Entry { key, mut record, version }| {
            record.lease_until = None;
            if let Err(error) = self.store.put(service, &key, &record, Some(Version::At(version)), now).await {
                tracing::warn!(%error, %key, "the lease stays until it expires");
            }
        })
        .await;
    }
}
