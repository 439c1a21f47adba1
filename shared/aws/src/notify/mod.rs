//! Notify: stores transitions, sends them and acknowledges them. This is a transactional outbox with a lease.
//!
//! The order matters. A conditional write stores a transition with a short lease on sending it, so two concurrent runs
//! send it once. It stays in the record's outbox until SNS has accepted it, so a later run sends it after a refused
//! publish or a crash.
//!
//! | event | consequence |
//! |---|---|
//! | two concurrent runs | one message: one of them wins the record |
//! | a slow run with an older read | no message: a record knows its read's start, and an older read changes nothing |
//! | the response to a write is lost, and its retry fails | no loss: the run recognizes its own write |
//! | SNS refuses | the run releases the lease, and the next run sends the message |
//! | a crash before SNS accepts | a run sends the message after the lease has expired |
//! | a crash between SNS's acceptance and the acknowledgement | a second copy of the message |
//! | a crash right after the run changed AWS | a later run sends the findings, which were stored before the change |
//! | the table cannot be read or written | every failure, with a remark that it may repeat, once an hour per instance |
//! | an item cannot be parsed | one more message on the failure |
//! | SNS refuses for hours | twelve transitions per record, with the first and the latest; the others are counted |
//! | an endpoint service leaves the configuration | a notice that its firing alerts are no longer watched |

mod outbox;
mod publish;
mod removed_services;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use guard_core::alerts::reconcile::Report;
use guard_core::alerts::record::{Items, Key, Partition, subscribers};
use guard_core::check::Severity;
use guard_core::config::Settings;
use guard_core::snapshot::CallError;
use guard_core::trigger::Change;
use jiff::Timestamp;

use self::outbox::Sent;
pub(crate) use self::outbox::{Outbox, Written};
pub use self::publish::{AlertTopic, LIST as LIST_SUBSCRIPTIONS, SubscriptionState, TopicSubscription};
use crate::concurrently;
use crate::invocation::{Invocation, RunErrors};
use crate::memory::{LoadedState, load, stored_names};
use crate::table::StateTable;

/// Stores and sends transitions.
#[derive(Debug, Clone)]
pub struct Notifier {
    function: &'static str,
    table: StateTable,
    topic: AlertTopic,
    settings: Settings,
    /// Whether this instance has closed the alerts on removed services.
    removed_services_closed: Arc<AtomicBool>,
    /// The transitions that this instance sent while the table failed.
    recently_sent: Arc<Mutex<BTreeMap<Key, Sent>>>,
}

/// A run's report on one partition, and the records to reconcile it with.
#[derive(Debug)]
pub struct PartitionWork<'a> {
    /// The run's report.
    pub report: Report<'a>,
    /// The stored records.
    pub state: &'a LoadedState,
}

/// The transitions that a run has to send: one outbox per partition, stored as far as the writes succeeded.
#[derive(Debug)]
pub struct News(Vec<Outbox>);

impl News {
    /// Whether all outboxes are empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Outbox::is_empty)
    }

    /// The function's alerts that fire now.
    pub fn firing(&self) -> Firing {
        Firing {
            severities: self.0.iter().flat_map(|outbox| outbox.firing.severities.iter().copied()).collect(),
            is_complete: self.0.iter().all(|outbox| outbox.firing.is_complete),
        }
    }
}

/// The alerts that fire, as far as a run knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// Their severities.
    pub severities: Vec<Severity>,
    /// Whether the list is complete: if the table cannot be read, the stored alerts are unknown.
    pub is_complete: bool,
}

impl Default for Firing {
    fn default() -> Self {
        Self { severities: Vec::new(), is_complete: true }
    }
}

impl Notifier {
    /// The notifier of `function`, whose name is part of its records' keys.
    pub fn new(function: &'static str, config: &aws_config::SdkConfig, settings: &Settings) -> Self {
        Self {
            function,
            table: StateTable::new(config, &settings.state_table),
            topic: AlertTopic::new(config, &settings.alert_topic),
            settings: settings.clone(),
            removed_services_closed: Arc::default(),
            recently_sent: Arc::default(),
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> &StateTable {
        &self.table
    }

    /// The number of confirmed subscriptions of the alert topic.
    ///
    /// # Errors
    /// If SNS does not list them: another account's topic can deny it.
    pub async fn subscriptions(&self) -> Result<usize, CallError> {
        let subscriptions = self.topic.subscriptions().await?;
        Ok(subscriptions.iter().filter(|it| it.state == SubscriptionState::Confirmed).count())
    }

    /// The partitions of this function: every configured endpoint service, and the guard itself.
    pub fn partitions(&self) -> Vec<Partition> {
        let services = self.settings.policy.services.iter().cloned().map(Partition::Service);
        services.chain([Partition::Guard]).collect()
    }

    /// Reconciles a run's reports with the stored records, and stores the transitions to send.
    pub async fn store(
        &self,
        Invocation { id, origin, .. }: &Invocation,
        work: Vec<PartitionWork<'_>>,
        now: Timestamp,
    ) -> News {
        // Only the guard's own records contain the number of subscriptions.
        let items = work.iter().filter_map(|work| work.state.as_ref().ok());
        let heard_since = items.into_iter().find_map(subscribers).and_then(|subscribers| subscribers.heard_since);
        let outboxes = concurrently(work, async |PartitionWork { report, state }| {
            self.reconcile(id, origin, &report, state, (now, heard_since)).await
        });
        News(outboxes.await)
    }

    /// Adds each of `changes` as the cause of alerts that already fire, and sends it. Stores the changes whose effects
    /// may only show later. Called for a run's own change and for those that it covers.
    pub async fn attribute(&self, invocation: &Invocation, changes: &[Change]) -> RunErrors {
        if changes.is_empty() {
            return RunErrors::default();
        }
        let states = load(&self.table, &self.partitions()).await;
        let names = stored_names(&states).into_iter().filter_map(|(service, name)| Some((service, name?))).collect();
        let outboxes = concurrently(states, async |(partition, state)| {
            let mut outbox = Outbox::new(&partition);
            match state {
                Ok(items) => self.attribute_in(&partition, items, changes, invocation, &mut outbox).await,
                Err(error) => outbox.error = Some(error),
            }
            outbox
        })
        .await;
        self.send(News(outboxes), &names, invocation, Timestamp::now()).await
    }

    async fn attribute_in(
        &self,
        partition: &Partition,
        mut items: Items,
        changes: &[Change],
        Invocation { id, origin, .. }: &Invocation,
        outbox: &mut Outbox,
    ) {
        let now = Timestamp::now();
        let reconciler = self.reconciler(id, origin, now);
        let note = |items: &Items| reconciler.note(changes, items).into_iter().collect();
        self.settle(partition, note(&items), outbox, now, note).await;
        let is_of_others =
            |change: &&Change| partition.service().is_some_and(|service| change.is_of_another_service(service));
        for change in changes.iter().filter(|change| !is_of_others(change)) {
            let attribute = |items: &Items| reconciler.attribute(change, items);
            let writes = attribute(&items);
            if writes.is_empty() {
                continue;
            }
            self.settle(partition, writes, outbox, now, attribute).await;
            match self.table.load(partition).await {
                Ok(fresh) => items = fresh,
                Err(error) => {
                    outbox.error = Some(error);
                    return;
                }
            }
        }
    }
}
