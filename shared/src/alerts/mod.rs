//! Tell: what is new is stored first, then published, then marked as told.
//!
//! The order matters. A transition is written with a condition and a short lease on telling it, so two runs at once tell
//! it once; it stays in the table until SNS has taken it, so a refused publish or a crash is told by a later run.

pub mod connection;
pub mod lifecycle;
pub mod message;
#[cfg(test)]
mod simulation;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_sns::error::SdkError;
use aws_sdk_sns::operation::publish::PublishError;
use aws_sdk_sns::types::MessageAttributeValue;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use self::lifecycle::{Kind, Look, Patience, Phase, advance};
use self::message::Message;
use self::store::{Items, Memory, Record, Store, Stored, Version, Write};
use crate::checks::{Check, Finding, Observation, Place, Severity, Status};
use crate::config::Settings;
use crate::ids::{EndpointId, ServiceId};
use crate::observe::{side_by_side, unseen};
use crate::snapshot::{Connection, Unseen};

/// How long one run has the telling to itself: longer than a function may run.
const LEASE: SignedDuration = SignedDuration::from_secs(120);

/// While the table fails, the same thing is said again by the same instance of a function after this.
const AGAIN_WITHOUT_MEMORY: SignedDuration = SignedDuration::from_hours(1);

/// How often a lost race is decided again before it is left to the next run.
const TRIES: usize = 5;

/// Something people must hear. Kept with the item it happened to until SNS has taken it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Counts the transitions of its item.
    pub number: u64,
    /// What happened.
    pub kind: Kind,
    /// The check's id; `connection` for a notice.
    pub check: String,
    /// The resource it happened to.
    pub resource: String,
    /// When.
    pub at: Timestamp,
    /// When the stretch it belongs to began.
    pub since: Timestamp,
    /// The incident.
    pub thread: String,
    /// What was found.
    pub finding: Finding,
    /// Why its check cannot tell at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Transitions before this one that could be neither told nor kept.
    #[serde(default)]
    pub skipped: u64,
}

impl Transition {
    /// Something that happened now. It gets its number from the item it is added to.
    fn now(kind: Kind, about: (&str, &str), since: Timestamp, thread: &str, finding: &Finding, now: Timestamp) -> Self {
        let (check, resource) = about;
        Self {
            number: 0,
            kind,
            check: check.to_owned(),
            resource: resource.to_owned(),
            at: now,
            since,
            thread: thread.to_owned(),
            finding: finding.clone(),
            unknown: None,
            skipped: 0,
        }
    }
}

/// What one run found out about one endpoint service.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The endpoint service.
    pub service: &'a ServiceId,
    /// What the checks said; twice if the run changed something and looked again.
    pub rounds: &'a [Vec<Observation>],
    /// All its connections, in a run that read them.
    pub connections: Option<&'a [Connection]>,
    /// When the last of the reads began that this is the outcome of.
    pub looked: Timestamp,
}

/// Decides what is new, remembers it, and tells people.
#[derive(Debug, Clone)]
pub struct Teller {
    function: &'static str,
    store: Store,
    sns: aws_sdk_sns::Client,
    settings: Settings,
    place: Place,
    /// Whether the alerts of services that are no longer configured were closed, since this instance started.
    let_go: Arc<AtomicBool>,
    /// What was said while the table failed, and when: an instance's own memory, better than none.
    said: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

/// What a run has to tell of one endpoint service.
#[derive(Debug)]
pub struct Untold {
    service: ServiceId,
    entries: Vec<Entry>,
    /// The table failed: what is told may be told again.
    pub trouble: Option<Unseen>,
}

/// An item's record, and what the table has of it.
#[derive(Debug)]
struct Entry {
    item: String,
    record: Record,
    version: Version,
}

impl Untold {
    /// Whether people have nothing to hear.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Teller {
    /// Tells for the function `function`, whose name marks its items.
    #[must_use]
    pub fn new(function: &'static str, config: &aws_config::SdkConfig, settings: &Settings) -> Self {
        Self {
            function,
            store: Store::new(config, &settings.state_table),
            sns: aws_sdk_sns::Client::new(config),
            settings: settings.clone(),
            place: Place::of(&settings.alert_topic),
            let_go: Arc::default(),
            said: Arc::default(),
        }
    }

    /// The table.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The Region that commands and links are for.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Everything remembered of `service`.
    ///
    /// # Errors
    /// [`Unseen`] if the table cannot be read. Give it to [`Teller::settle`] all the same: then all is said that is bad.
    pub async fn recall(&self, service: &ServiceId) -> Result<Items, Unseen> {
        self.store.load(service.as_str()).await
    }

    /// Closes the alerts of endpoint services that this function watched before its configuration changed, with a notice.
    /// Done once per instance: a new configuration is a new instance.
    ///
    /// # Errors
    /// [`Unseen`] if the table or SNS failed; the next run tries again.
    pub async fn let_go(&self, now: Timestamp) -> Result<(), Unseen> {
        if self.let_go.load(Ordering::Relaxed) {
            return Ok(());
        }
        let configured: Vec<String> = self.settings.policy.services.iter().map(ToString::to_string).collect();
        let stored = self.store.load(WATCHED).await?.remove(self.function);
        let (before, version) = match stored {
            Some(Stored { record: Some(Record { memory: Memory::Watched(services), .. }), version }) => {
                (services, version)
            }
            Some(Stored { version, .. }) => (Vec::new(), version),
            None => (Vec::new(), Version::Absent),
        };
        let mut closed = true;
        for service in before.iter().filter(|service| !configured.contains(service)) {
            if let Ok(service) = service.parse() {
                closed &= self.close(&service, now).await?;
            }
        }
        if !closed {
            return Ok(());
        }
        if before != configured {
            let memory = Memory::Watched(configured);
            let record = Record::new(memory, now);
            // If another instance was first, it has noted the same.
            self.store.put(WATCHED, self.function, &record, version, now).await?;
        }
        self.let_go.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether all is told: `false` while another run has the telling of something.
    async fn close(&self, service: &ServiceId, now: Timestamp) -> Result<bool, Unseen> {
        let mut all = true;
        let mut untold = Untold { service: service.clone(), entries: Vec::new(), trouble: None };
        for (item, stored) in self.store.load(service.as_str()).await? {
            let Some(Record { memory: Memory::Alert(alert), .. }) = &stored.record else { continue };
            let Some((function, about)) = parts(&item) else { continue };
            let Some(mut record) = stored.record.clone() else { continue };
            // What an earlier attempt has closed and could not tell is told now.
            if function != self.function || (alert.phase != Phase::Firing && record.untold.is_empty()) {
                continue;
            }
            if record.telling_until.is_some_and(|until| until > now) {
                all = false;
                continue;
            }
            let finding = Finding {
                severity: Severity::Info,
                summary: format!("no longer watched: {}", alert.finding.summary),
                meaning:
                    "The endpoint service is no longer in the stack's EndpointServiceIds, so nobody looks whether this \
                          is still so."
                        .to_owned(),
                ..alert.finding.clone()
            };
            if alert.phase == Phase::Firing {
                record.add(Transition::now(Kind::Notice, about, alert.since, &alert.thread, &finding, now));
            }
            record.telling_until = Some(now + LEASE);
            record.looked = now;
            if let Memory::Alert(alert) = &mut record.memory {
                alert.phase = Phase::Resolved;
            }
            if let Write::Won(version) = self.store.put(service.as_str(), &item, &record, stored.version, now).await? {
                untold.entries.push(Entry { item, record, version: Version::At(version) });
            } else {
                all = false;
            }
        }
        self.publish(untold, None, now).await.map(|()| all)
    }

    /// Adds a notice that nothing is remembered of: if SNS does not take it, it is lost with this run.
    pub fn add_notice(&self, untold: &mut Untold, finding: &Finding, now: Timestamp) {
        let thread = format!("{}-{}", untold.service, now.as_second());
        let about = ("notice", untold.service.as_str());
        let mut record = Record::new(Memory::Watched(Vec::new()), now);
        record.add(Transition::now(Kind::Notice, about, now, &thread, finding, now));
        let item = self.item("notice", untold.service.as_str());
        untold.entries.push(Entry { item, record, version: Version::Absent });
    }

    /// The connections of dbt's among `items`.
    #[must_use]
    pub fn known_connections<'a>(&self, items: &'a Items) -> BTreeMap<EndpointId, &'a connection::KnownConnection> {
        let prefix = self.item(CONNECTION, "");
        let known = items.iter().filter_map(|(item, stored)| {
            let endpoint = item.strip_prefix(&prefix)?.parse().ok()?;
            match &stored.record.as_ref()?.memory {
                Memory::Connection(known) => Some((endpoint, known)),
                _ => None,
            }
        });
        known.collect()
    }

    /// Compares the report with what is remembered and stores what changed. What is new, and this run's to tell, comes
    /// back for [`Teller::publish`].
    pub async fn settle(&self, report: Report<'_>, items: Result<Items, Unseen>, now: Timestamp) -> Untold {
        let mut untold = Untold { service: report.service.clone(), entries: Vec::new(), trouble: None };
        let mut items = match items {
            Ok(items) => items,
            Err(trouble) => {
                tracing::error!(%trouble, service = %report.service, "the memory cannot be read; what is bad is said");
                untold.entries = self.without_memory(report, now);
                untold.trouble = Some(trouble);
                return untold;
            }
        };
        let mut only: Option<BTreeSet<String>> = None;
        for _ in 0..TRIES {
            let mut changes = self.changes(report, &items, now);
            changes.retain(|change| only.as_ref().is_none_or(|only| only.contains(&change.item)));
            let results = side_by_side(&changes, |Entry { item, record, version }| {
                self.store.put(report.service.as_str(), item, record, *version, now)
            })
            .await;
            let mut lost = BTreeSet::new();
            for (entry, result) in changes.into_iter().zip(results) {
                let ours = entry.record.telling_until == Some(now + LEASE);
                match result {
                    Ok(Write::Won(version)) if ours => {
                        untold.entries.push(Entry { version: Version::At(version), ..entry });
                    }
                    Ok(Write::Won(_)) => {}
                    Ok(Write::Lost) => drop(lost.insert(entry.item)),
                    Err(trouble) => {
                        tracing::error!(%trouble, item = entry.item, "not stored; it is said all the same");
                        untold.trouble = Some(trouble);
                        untold.entries.extend(self.unstored(entry, now));
                    }
                }
            }
            if lost.is_empty() {
                return untold;
            }
            match self.store.load(report.service.as_str()).await {
                Ok(fresh) => items = fresh,
                Err(trouble) => {
                    untold.trouble = Some(trouble);
                    return untold;
                }
            }
            only = Some(lost);
        }
        untold.trouble = Some(Unseen {
            call: "dynamodb:PutItem",
            error: format!("lost the race for an item {TRIES} times"),
            denied: false,
        });
        untold
    }

    /// Sends one message for the service, and marks what it said as told. `name` is the service's `Name` tag.
    ///
    /// # Errors
    /// [`Unseen`] if SNS did not take it (a later run tells it), or if the table failed before or after.
    pub async fn publish(&self, untold: Untold, name: Option<&str>, now: Timestamp) -> Result<(), Unseen> {
        let Untold { service, entries, trouble } = untold;
        if !entries.is_empty() {
            let told: Vec<&[Transition]> = entries.iter().map(|entry| entry.record.untold.as_slice()).collect();
            let message = Message::of(&service, name, self.function, &told, trouble.as_ref());
            if let Err(failure) = self.send(&message).await {
                tracing::error!(%failure, %service, "not told; a later run tells it");
                self.release(&service, entries, now).await;
                return Err(failure);
            }
            for transition in told.iter().copied().flatten() {
                tracing::info!(%service, ?transition, "told");
            }
            let marks = side_by_side(entries, |entry| self.mark_told(&service, entry, now)).await;
            marks.into_iter().collect::<Result<(), Unseen>>()?;
        }
        trouble.map_or(Ok(()), Err)
    }

    async fn send(&self, message: &Message) -> Result<(), Unseen> {
        let mut publish = self
            .sns
            .publish()
            .topic_arn(self.settings.alert_topic.as_str())
            .subject(&message.subject)
            .message_structure("json")
            .message(message.bodies());
        for (name, value) in message.attributes() {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            publish = publish.message_attributes(
                name,
                value.map_err(|error| unseen("sns:Publish", &SdkError::<PublishError>::construction_failure(error)))?,
            );
        }
        publish.send().await.map(drop).map_err(|error| unseen("sns:Publish", &error))
    }

    /// Takes what was told out of the item, whoever has written to it since.
    async fn mark_told(&self, service: &ServiceId, entry: Entry, now: Timestamp) -> Result<(), Unseen> {
        let Entry { item, mut record, version } = entry;
        if !matches!(version, Version::At(_)) {
            return Ok(());
        }
        let mut version = version;
        let told_to = record.untold.last().map_or(0, |last| last.number);
        for _ in 0..TRIES {
            record.untold.retain(|transition| transition.number > told_to);
            record.telling_until = None;
            if let Write::Won(_) = self.store.put(service.as_str(), &item, &record, version, now).await? {
                return Ok(());
            }
            let Some(stored) = self.store.load(service.as_str()).await?.remove(&item) else { return Ok(()) };
            let Some(fresh) = stored.record else { return Ok(()) };
            (record, version) = (fresh, stored.version);
        }
        Err(Unseen {
            call: "dynamodb:PutItem",
            error: format!("{item} was told, but could not be marked so; it may be told again"),
            denied: false,
        })
    }

    /// Gives the lease back, so that the next run can tell at once. If that fails, the lease runs out by itself.
    async fn release(&self, service: &ServiceId, entries: Vec<Entry>, now: Timestamp) {
        side_by_side(entries, async |Entry { item, mut record, version }| {
            record.telling_until = None;
            if !matches!(version, Version::At(_)) {
                return;
            }
            if let Err(trouble) = self.store.put(service.as_str(), &item, &record, version, now).await {
                tracing::warn!(%trouble, item, "the lease stays until it runs out");
            }
        })
        .await;
    }

    /// The items this report changes, with what becomes of them.
    fn changes(&self, report: Report<'_>, items: &Items, now: Timestamp) -> Vec<Entry> {
        let thread = incident(items).unwrap_or_else(|| format!("{}-{}", report.service, now.as_second()));
        let remembered = items.keys().filter(|item| item.split('#').next() == Some(self.function)).cloned();
        let observed = report.rounds.iter().flatten();
        let observed = observed.map(|observation| self.item(observation.check.id(), &observation.resource));
        let connections =
            report.connections.unwrap_or_default().iter().filter(|connection| connection.service == *report.service);
        let connections = connections.map(|connection| self.item(CONNECTION, connection.endpoint.as_str()));
        let all: BTreeSet<String> = remembered.chain(observed).chain(connections).collect();

        all.into_iter()
            .filter_map(|item| {
                let stored = items.get(&item);
                let before = stored.and_then(|stored| stored.record.as_ref());
                let mut record = match before {
                    Some(newer) if newer.looked > report.looked => newer.clone(),
                    _ => self.next(report, &item, before, &thread, now)?,
                };
                let free = record.telling_until.is_none_or(|until| until <= now);
                if !record.untold.is_empty() && free {
                    record.telling_until = Some(now + LEASE);
                }
                let version = stored.map_or(Version::Absent, |stored| stored.version);
                (before != Some(&record)).then_some(Entry { item, record, version })
            })
            .collect()
    }

    /// What becomes of one item; `None` if there is nothing to remember.
    fn next(
        &self,
        report: Report<'_>,
        item: &str,
        before: Option<&Record>,
        thread: &str,
        now: Timestamp,
    ) -> Option<Record> {
        let (_, about) = parts(item)?;
        let (check, resource) = about;
        let mut happened = Vec::new();
        let memory = if check == CONNECTION {
            let known = before.and_then(|record| match &record.memory {
                Memory::Connection(known) => Some(known),
                _ => None,
            });
            let endpoint: EndpointId = resource.parse().ok()?;
            match report.connections {
                None => Memory::Connection(known?.clone()),
                Some(connections) => {
                    let seen = connections.iter().find(|connection| connection.endpoint == endpoint);
                    let policy = &self.settings.policy;
                    match connection::remember(known, seen, &endpoint, policy, &self.place, now) {
                        Some((known, notice)) => {
                            if let Some(notice) = notice {
                                happened.push(Transition::now(Kind::Notice, about, now, thread, &notice, now));
                            }
                            Memory::Connection(known)
                        }
                        None => Memory::Connection(known?.clone()),
                    }
                }
            }
        } else {
            let check = Check::ALL.into_iter().find(|known| known.id() == check)?;
            let patience = Patience::of(check, &self.settings.policy);
            let mut alert = before.and_then(|record| match &record.memory {
                Memory::Alert(alert) => Some((**alert).clone()),
                _ => None,
            });
            for round in report.rounds {
                let (next, kind) =
                    advance(alert.as_ref(), look(round, check, resource, report.service), patience, thread, now);
                if let (Some(next), Some(kind)) = (&next, kind) {
                    let transition = Transition::now(kind, about, next.since, &next.thread, &next.finding, now);
                    happened.push(Transition { unknown: next.unknown.clone(), ..transition });
                }
                alert = next;
            }
            Memory::Alert(Box::new(alert?))
        };
        let unchanged = before.filter(|before| before.memory == memory && happened.is_empty());
        let looked = unchanged.map_or(report.looked, |before| before.looked);
        let mut record = match before {
            Some(before) => Record { memory, looked, ..before.clone() },
            None => Record::new(memory, looked),
        };
        for transition in happened {
            record.add(transition);
        }
        Some(record)
    }

    /// Everything bad, as if it were new: what is said when nothing is remembered.
    fn without_memory(&self, report: Report<'_>, now: Timestamp) -> Vec<Entry> {
        let last: &[Observation] = report.rounds.last().map(Vec::as_slice).unwrap_or_default();
        let thread = format!("{}-{}", report.service, now.as_second());
        let bad = last.iter().filter_map(|observation| {
            let Status::Fail(finding) = &observation.status else { return None };
            let wait = Patience { alert_after: u32::MAX, resolve_after: 1, remind_every: None };
            let (alert, _) = advance(None, Look::Bad(finding), wait, &thread, now);
            let memory = Memory::Alert(Box::new(alert?));
            let record = Record::new(memory, report.looked);
            let item = self.item(observation.check.id(), &observation.resource);
            self.unstored(Entry { item, record, version: Version::Absent }, now)
        });
        bad.collect()
    }

    /// What is said of an item that the table did not take, if this instance has not said it lately. Whatever is bad
    /// counts as firing: a table that forgets would let it wait for ever.
    fn unstored(&self, mut entry: Entry, now: Timestamp) -> Option<Entry> {
        if let (Memory::Alert(alert), true) = (&entry.record.memory, entry.record.untold.is_empty())
            && alert.phase == Phase::Pending
        {
            let (_, about) = parts(&entry.item)?;
            let firing = Transition::now(Kind::Firing, about, alert.since, &alert.thread, &alert.finding, now);
            entry.record.add(firing);
        }
        if entry.record.untold.is_empty() {
            return None;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = said.get(&entry.item).is_some_and(|at| now.duration_since(*at) < AGAIN_WITHOUT_MEMORY);
        if lately {
            return None;
        }
        said.insert(entry.item.clone(), now);
        entry.version = Version::Absent;
        Some(entry)
    }

    fn item(&self, about: &str, resource: &str) -> String {
        format!("{}#{about}#{resource}", self.function)
    }
}

/// A sort key's parts: the function, and what the item is about: the check and the resource.
fn parts(item: &str) -> Option<(&str, (&str, &str))> {
    let (function, about) = item.split_once('#')?;
    Some((function, about.split_once('#')?))
}

/// In the place of a check's id, in the items of dbt's connections.
const CONNECTION: &str = "connection";

/// The partition of the functions' notes on what they watch.
const WATCHED: &str = "watched";

/// The incident that is open: that of the alert that has been firing longest.
fn incident(items: &Items) -> Option<String> {
    let alerts = items.values().filter_map(|stored| match &stored.record.as_ref()?.memory {
        Memory::Alert(alert) if alert.phase == Phase::Firing => Some(alert),
        _ => None,
    });
    alerts.min_by_key(|alert| alert.since).map(|alert| alert.thread.clone())
}

/// What `round` says of one alert. A resource that the round does not name is gone, unless the round could not list them
/// all, which is told of the endpoint service itself.
fn look<'a>(round: &'a [Observation], check: Check, resource: &str, service: &ServiceId) -> Look<'a> {
    let mut of_check = round.iter().filter(|observation| observation.check == check);
    if let Some(observation) = of_check.clone().find(|observation| observation.resource == resource) {
        return Look::from(&observation.status);
    }
    let unlisted = of_check.clone().filter(|observation| observation.resource == service.as_str());
    let unknown = unlisted.into_iter().find_map(|observation| match &observation.status {
        Status::Unknown(why) => Some(why.as_str()),
        _ => None,
    });
    match unknown {
        Some(why) => Look::Unknown(why),
        // A call that does not fail is not named. But after one that fails, others may not have been made.
        None if check == Check::VisibilityLost => match of_check.next() {
            Some(_) => Look::Unknown("another read fails, and this one may not have been tried"),
            None => Look::Good,
        },
        None => Look::Gone,
    }
}
