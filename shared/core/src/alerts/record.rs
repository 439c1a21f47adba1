//! The table's content: one record per alert, silence, connection of dbt, and known account, and one for each kind of
//! other state.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::lifecycle::{Alert, Phase};
use super::silence::Silence;
use super::transition::Transition;
use crate::admission::Admissions;
use crate::checks::subscribers::Subscribers;
use crate::config::CLOCKS_DIFFER;
use crate::follow::state::FollowState;
use crate::ids::{Arn, ServiceId};
use crate::snapshot::{StoredPath, Traffic};

/// Time for which a run holds the lease on a record's outbox: longer than a function may run.
pub const LEASE: SignedDuration = SignedDuration::from_secs(120);

/// Time for which a finished record stays in the table: longer than EC2 lists a deleted connection.
const KEEP_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Time for which the guard stores that an endpoint of dbt was connected: without it, dbt's next loss would look like
/// the time before dbt's first request.
const KEEP_ESTABLISHED_FOR: SignedDuration = SignedDuration::from_hours(400 * 24);

/// Maximum number of unsent transitions in an outbox. Beyond it, the outbox drops and counts transitions in the middle.
const MAX_OUTBOX: usize = 12;

/// The partition of a record in the table: one endpoint service, or the guard itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Partition {
    Service(ServiceId),
    /// The guard itself, for facts that several endpoint services depend on.
    Guard,
}

impl Partition {
    /// The endpoint service; `None` for the guard's own partition.
    pub fn service(&self) -> Option<&ServiceId> {
        match self {
            Self::Service(service) => Some(service),
            Self::Guard => None,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.service().map_or("guard", ServiceId::as_str))
    }
}

/// The records of one partition.
pub type Items = BTreeMap<Key, Item>;

/// The alerts that fire, except those that a silence holds back.
pub fn firing(items: &Items) -> impl Iterator<Item = (&Key, &Alert)> {
    let alerts = items.iter().filter_map(|(key, item)| Some((key, item.record.as_ref()?.alert()?)));
    alerts.filter(|(_, alert)| alert.phase == Phase::Firing && !alert.silenced)
}

/// The recorded number of the alert topic's subscriptions.
pub fn subscribers(items: &Items) -> Option<&Subscribers> {
    items.values().find_map(|item| item.record.as_ref()?.subscribers())
}

/// The stored path, of any age.
pub fn stored_path(items: &Items) -> Option<&StoredPath> {
    let mut records = items.iter().filter(|(key, _)| key.subject == Key::PATH);
    records.find_map(|(_, item)| item.record.as_ref()?.path())
}

/// The states of the followed target groups, by ARN.
pub fn follow_states(items: &Items) -> BTreeMap<&str, &FollowState> {
    let states = items.iter().filter(|(key, _)| key.subject == Key::FOLLOW);
    states.filter_map(|(key, item)| Some((key.resource.as_str(), item.record.as_ref()?.follow()?))).collect()
}

/// The records without times in the future.
pub fn without_future(items: Items, now: Timestamp) -> Items {
    let sound = |(key, item): (Key, Item)| {
        let record = item.record.map(|record| record.without_future(now));
        (key, Item { record, ..item })
    };
    items.into_iter().map(sound).collect()
}

/// The stored decisions on dbt's requests; empty without a record. `None` if the record cannot be read.
pub fn admissions(items: &Items) -> Option<Admissions> {
    match items.iter().find(|(key, _)| key.subject == Key::ADMISSIONS) {
        Some((_, item)) => item.record.as_ref().and_then(Record::admissions).cloned(),
        None => Some(Admissions::default()),
    }
}

/// The key of a record: the sort key of its item in the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The function that writes it, or [`Key::ANY_FUNCTION`].
    pub function: String,
    /// The id of a check, or one of the constants: [`Key::ADMISSIONS`] and so on.
    pub subject: String,
    pub resource: String,
}

/// An item as it was read from the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The content; `None` if it cannot be read. Then everything that it may have recorded is sent again.
    pub record: Option<Record>,
    pub version: Version,
}

/// The version of an item in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    At(u64),
    /// An item without a readable version.
    Unreadable,
}

/// The content of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub state: State,
    /// The transitions that SNS has not accepted yet, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbox: Vec<Transition>,
    /// The end of the lease held by the run that wrote this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// The number of transitions so far, from which the next one gets its number. A silence that a person wrote, as
    /// docs/silences.md shows, has none.
    #[serde(default)]
    pub transitions: u64,
    /// The start time of the read behind this record. A slower run's older read changes nothing.
    pub observed_at: Timestamp,
    /// Whether its endpoint service is no longer configured, so that the record expires.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
}

/// The state in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Alert(Box<Alert>),
    Connection(KnownConnection),
    /// The id of the run that sent the last heartbeat.
    Heartbeat(String),
    Silence(Silence),
    /// The ids that were in place, each with the time of its disappearance.
    Inventory(BTreeMap<String, Option<Timestamp>>),
    Traffic(Traffic),
    /// The path behind the endpoint service; `None` after a withdrawal, because the path has changed or may have.
    Path(Option<Box<StoredPath>>),
    Admissions(Admissions),
    /// A target group that target-follower follows.
    Follow(Box<FollowState>),
    Subscribers(Subscribers),
    /// Notes of changes whose effect may show only later, each with the time of the note.
    Changes(Vec<(Timestamp, String)>),
    #[serde(rename = "known-account")]
    KnownAccount(Timestamp),
}

/// The stored state of a connection of dbt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownConnection {
    pub owner: String,
    /// The last state seen, as EC2 wrote it.
    pub state: String,
    /// When it was first seen in that state.
    pub since: Timestamp,
    /// Whether it has been available and the notice about that was sent.
    pub established: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Timestamp>,
    /// Whether it is gone and the notice about that was sent.
    pub gone: bool,
}

impl Key {
    /// The subject of the record of changes whose effect may show only later.
    pub const CHANGES: &str = "changes";
    /// The subject of the record of the alert topic's subscriptions.
    pub const SUBSCRIBERS: &str = "subscribers";
    /// The subject of the records of known accounts.
    pub const KNOWN_ACCOUNT: &str = "known-account";
    /// The subject of the records of dbt's connections.
    pub const CONNECTION: &str = "connection";
    /// The subject of the heartbeat's record.
    pub const HEARTBEAT: &str = "heartbeat";
    /// The subject of the record of ids in place.
    pub const INVENTORY: &str = "inventory";
    /// Each silence's resource is a name of its own.
    pub const SILENCE: &str = "silence";
    /// The subject of the record of the path behind the endpoint service.
    pub const PATH: &str = "path";
    /// The subject of the record of the decisions on dbt's requests.
    pub const ADMISSIONS: &str = "admissions";
    /// The subject of the records of followed target groups.
    pub const FOLLOW: &str = "follow";
    /// The subject of the record of dbt's last connections.
    pub const TRAFFIC: &str = "traffic";
    /// The function of records that belong to no function: silences.
    pub const ANY_FUNCTION: &str = "*";

    /// The key of `function`'s record about `subject` and `resource`.
    pub fn new(function: &str, subject: &str, resource: &str) -> Self {
        Self { function: function.to_owned(), subject: subject.to_owned(), resource: resource.to_owned() }
    }

    /// Whether it is the key of this followed target group's record.
    pub fn is_followed(&self, group: &Arn) -> bool {
        self.subject == Self::FOLLOW && self.resource == group.as_str()
    }

    /// The subject and the resource.
    pub fn about(&self) -> (&str, &str) {
        (&self.subject, &self.resource)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}#{}", self.function, self.subject, self.resource)
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '#');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(function), Some(subject), Some(resource)) => Ok(Self::new(function, subject, resource)),
            _ => Err(format!("'{text}' is not FUNCTION#SUBJECT#RESOURCE")),
        }
    }
}

impl Record {
    /// A new record with an empty outbox.
    pub fn new(state: State, observed_at: Timestamp) -> Self {
        Self { state, outbox: Vec::new(), lease_until: None, transitions: 0, observed_at, retired: false }
    }

    /// The alert, if this is an alert's record.
    pub fn alert(&self) -> Option<&Alert> {
        if let State::Alert(alert) = &self.state { Some(alert) } else { None }
    }

    /// The connection, if this is a connection's record.
    pub fn connection(&self) -> Option<&KnownConnection> {
        if let State::Connection(connection) = &self.state { Some(connection) } else { None }
    }

    /// The ids that were in place, if this is their record.
    pub fn inventory(&self) -> Option<&BTreeMap<String, Option<Timestamp>>> {
        if let State::Inventory(inventory) = &self.state { Some(inventory) } else { None }
    }

    /// dbt's last connections, if this is their record.
    pub fn traffic(&self) -> Option<&Traffic> {
        if let State::Traffic(traffic) = &self.state { Some(traffic) } else { None }
    }

    /// The path behind the endpoint service, if this is its record.
    pub fn path(&self) -> Option<&StoredPath> {
        if let State::Path(path) = &self.state { path.as_deref() } else { None }
    }

    /// The decisions on dbt's requests, if this is their record.
    pub fn admissions(&self) -> Option<&Admissions> {
        if let State::Admissions(admissions) = &self.state { Some(admissions) } else { None }
    }

    /// The followed target group's state, if this is its record.
    pub fn follow(&self) -> Option<&FollowState> {
        if let State::Follow(state) = &self.state { Some(state) } else { None }
    }

    /// The number of the alert topic's subscriptions, if this is its record.
    pub fn subscribers(&self) -> Option<&Subscribers> {
        if let State::Subscribers(subscribers) = &self.state { Some(subscribers) } else { None }
    }

    /// The notes of changes whose effect may show only later, if this is their record.
    pub fn changes(&self) -> Option<&[(Timestamp, String)]> {
        if let State::Changes(changes) = &self.state { Some(changes) } else { None }
    }

    /// When the known account was last seen connected, if this is its record.
    pub fn known_account(&self) -> Option<Timestamp> {
        if let State::KnownAccount(last) = &self.state { Some(*last) } else { None }
    }

    /// The silence, if this is a silence's record.
    pub fn silence(&self) -> Option<&Silence> {
        if let State::Silence(silence) = &self.state { Some(silence) } else { None }
    }

    /// Numbers the transition and puts it into the outbox.
    pub fn push(&mut self, transition: Transition) {
        self.transitions = self.transitions.saturating_add(1);
        self.outbox.push(Transition { number: self.transitions, ..transition });
        if self.outbox.len() > MAX_OUTBOX {
            let dropped = self.outbox.remove(self.outbox.len() - 2);
            tracing::error!(?dropped, "the outbox is full: this is dropped and only counted");
            if let Some(last) = self.outbox.last_mut() {
                last.dropped = dropped.dropped + 1;
            }
        }
    }

    /// Takes the lease on the outbox if it has transitions and no other run holds the lease. Returns whether this run
    /// holds it now.
    pub fn lease(&mut self, now: Timestamp) -> bool {
        let free = self.lease_until.is_none_or(|until| until <= now);
        let leased = free && !self.outbox.is_empty();
        if leased {
            self.lease_until = Some(now + LEASE);
        }
        leased
    }

    /// Removes the transitions up to number `sent`, and returns the lease.
    pub fn acknowledge(&mut self, sent: u64) {
        self.outbox.retain(|transition| transition.number > sent);
        self.lease_until = None;
    }

    /// The start time of the partition's read, for the kinds of records that store it.
    pub fn read_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Alert(_) | State::Connection(_) | State::Path(_) | State::Admissions(_) => Some(self.observed_at),
            State::Changes(_)
            | State::Follow(_)
            | State::Heartbeat(_)
            | State::Inventory(_)
            | State::KnownAccount(_)
            | State::Silence(_)
            | State::Subscribers(_)
            | State::Traffic(_) => None,
        }
    }

    /// The record without times in the future. A clock that was ahead wrote them: they are wrong, not newer.
    #[must_use]
    pub fn without_future(mut self, now: Timestamp) -> Self {
        let limit = now + CLOCKS_DIFFER;
        let never = |time: Timestamp| if time > limit { Timestamp::UNIX_EPOCH } else { time };
        let at_most_now = |time: Timestamp| if time > limit { now } else { time };
        self.observed_at = never(self.observed_at);
        self.lease_until = self.lease_until.filter(|until| *until <= limit + LEASE);
        match &mut self.state {
            State::Alert(alert) => {
                alert.since = at_most_now(alert.since);
                alert.last_notified = at_most_now(alert.last_notified);
                alert.last_fired = alert.last_fired.filter(|(at, _)| *at <= limit);
            }
            State::Connection(connection) => {
                connection.since = at_most_now(connection.since);
                connection.accepted = connection.accepted.map(at_most_now);
            }
            State::Inventory(inventory) => {
                inventory.values_mut().flatten().for_each(|gone| *gone = at_most_now(*gone));
            }
            State::Traffic(traffic) => traffic.until = never(traffic.until),
            State::Path(path) => {
                if let Some(path) = path {
                    (path.read_at, path.detailed_at) = (never(path.read_at), path.detailed_at.map(never));
                }
            }
            State::Admissions(admissions) => {
                admissions.accepted.values_mut().for_each(|at| *at = at_most_now(*at));
            }
            State::KnownAccount(last) => *last = at_most_now(*last),
            State::Changes(changes) => changes.retain(|(at, _)| *at <= limit),
            State::Subscribers(subscribers) => {
                subscribers.since = at_most_now(subscribers.since);
                subscribers.numbers.retain(|at, _| *at <= limit);
                subscribers.heard_since = subscribers.heard_since.map(at_most_now);
            }
            // The decision on a followed group compares its times with its own clock.
            State::Heartbeat(_) | State::Silence(_) | State::Follow(_) => {}
        }
        self
    }

    /// The record's expiry time if it is written now and needs no further change.
    pub fn expires(&self, now: Timestamp) -> Option<Timestamp> {
        let (is_over, keep_for) = match &self.state {
            State::Alert(alert) => (alert.is_over(), KEEP_FOR),
            State::Connection(connection) if connection.established => (connection.gone, KEEP_ESTABLISHED_FOR),
            State::Connection(connection) => (connection.gone, KEEP_FOR),
            // The record of a known account is rewritten daily while it is connected, and noted changes count only for
            // minutes.
            State::KnownAccount(_) | State::Changes(_) => (true, KEEP_FOR),
            // The silence is written once, when it is announced, and ends before finished records leave the table.
            State::Silence(silence) => (silence.announced.is_some(), KEEP_FOR),
            State::Heartbeat(_)
            | State::Inventory(_)
            | State::Traffic(_)
            | State::Path(_)
            | State::Admissions(_)
            | State::Follow(_)
            | State::Subscribers(_) => (false, KEEP_FOR),
        };
        // A held request stays held, even if its service is configured again.
        let keep_for = match self.state {
            State::Admissions(_) => KEEP_ESTABLISHED_FOR,
            _ => keep_for,
        };
        ((is_over || self.retired) && self.outbox.is_empty()).then(|| now + keep_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::transition::Kind;
    use crate::check::Severity;
    use crate::testing::{alert, at, finding, item};

    #[test]
    fn a_time_in_the_future_is_wrong_and_not_newer() {
        let ahead = || Record {
            lease_until: Some(at(20, 2)),
            ..Record::new(
                State::Alert(Box::new(Alert {
                    last_fired: Some((at(20, 0), Severity::Warning)),
                    ..alert(Phase::Firing, Severity::Warning)
                })),
                at(20, 0),
            )
        };
        let sound = ahead().without_future(at(9, 0));
        assert_eq!((sound.observed_at, sound.lease_until), (Timestamp::UNIX_EPOCH, None));
        assert_eq!(sound.alert().unwrap().last_fired, None);
        assert_eq!(ahead().without_future(at(20, 0)), ahead(), "it is not ahead any more");
        let moment = Record { observed_at: at(9, 0) + SignedDuration::from_secs(30), ..ahead() };
        assert_eq!(moment.clone().without_future(at(9, 0)).observed_at, moment.observed_at, "clocks differ a little");
    }

    fn connection(established: bool, gone: bool) -> State {
        let (owner, state) = ("111122223333".to_owned(), "deleted".to_owned());
        State::Connection(KnownConnection { owner, state, since: at(7, 0), established, accepted: None, gone })
    }

    #[test]
    fn a_lost_connection_of_dbt_expires_after_400_days() {
        let days = |state: State| {
            let expires = Record::new(state, at(8, 0)).expires(at(8, 0));
            expires.map(|expires| expires.duration_since(at(8, 0)).as_hours() / 24)
        };
        assert_eq!(days(connection(true, false)), None);
        assert_eq!(days(connection(true, true)), Some(400));
        assert_eq!(days(connection(false, true)), Some(7), "a request that came to nothing");
        assert_eq!(days(State::KnownAccount(at(7, 0))), Some(7), "after it was last seen");
        assert_eq!(days(State::Heartbeat("run".to_owned())), None);
    }

    #[test]
    fn a_full_outbox_keeps_both_ends_and_counts_the_rest() {
        let mut record = Record::new(State::Heartbeat("run".to_owned()), at(8, 0));
        for _ in 0..MAX_OUTBOX + 3 {
            record.push(Transition::new(Kind::Firing, ("check", "pg"), "", finding(Severity::Critical), at(8, 0)));
        }
        let numbers: Vec<u64> = record.outbox.iter().map(|transition| transition.number).collect();
        assert_eq!(numbers, (1..12).chain([15]).collect::<Vec<_>>());
        assert_eq!(record.outbox.last().unwrap().dropped, 3);
    }

    #[test]
    fn a_record_with_unsent_transitions_never_expires() {
        let mut record = Record::new(connection(false, true), at(8, 0));
        record.push(Transition::new(Kind::Notice, ("connection", "vpce-1"), "", finding(Severity::Info), at(8, 0)));
        assert_eq!(record.expires(at(8, 0)), None);
        record.acknowledge(1);
        assert!(record.expires(at(8, 0)).is_some());
    }

    #[test]
    fn silenced_and_resolved_alerts_do_not_count_as_firing() {
        let silenced = Alert { silenced: true, ..alert(Phase::Firing, Severity::Warning) };
        let alerts = [
            ("firing", alert(Phase::Firing, Severity::Warning)),
            ("over", alert(Phase::Resolved, Severity::Warning)),
            ("pending", alert(Phase::Pending, Severity::Warning)),
            ("silenced", silenced),
        ];
        let key = |resource| Key::new("health-watcher", "target-group.health", resource);
        let items = alerts.map(|(resource, alert)| (key(resource), item(State::Alert(Box::new(alert))))).into();
        assert_eq!(firing(&items).map(|(key, _)| key.resource.as_str()).collect::<Vec<_>>(), ["firing"]);
    }

    #[test]
    fn a_key_is_read_back_as_written() {
        let key = Key::new("drift-watcher", "listener.port", "arn:aws:elb#1");
        assert_eq!(key.to_string(), "drift-watcher#listener.port#arn:aws:elb#1");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!("drift-watcher#listener.port".parse::<Key>().is_err());
    }
}
