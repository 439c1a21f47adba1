//! Compares a run's results with the stored records and yields the records to change and the transitions to send. Pure.
//!
//! Every result carries the start time of its read. A record keeps the latest of these times, and an older read
//! changes nothing, whichever run it belongs to.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::lifecycle::{Alert, Event, Now, Phase, Signal, Thresholds, advance, with_late_cause};
use super::reconciler::Reconciler;
use super::record::{Item, Items, Key, Partition, Record, State, Version, without_future};
use super::transition::{Kind, Transition};
use super::{connection, inventory, silencing};
use crate::admission::{Admissions, Decided};
use crate::catalogue;
use crate::check::{Check, CheckContext, CheckResult, Finding, Group, Remedy, Severity, Status, WhenMissing, cause};
use crate::checks::subscribers::Subscribers;
use crate::checks::{target_hostname, visibility_lost};
use crate::config::Policy;
use crate::connections::Owner;
use crate::follow::state::FollowState;
use crate::ids::{Arn, EndpointId, ServiceId};
use crate::snapshot::{Calls, Connection, StoredPath, Traffic, Unread};
use crate::trigger::Change;

/// An alert joins the incident of another alert of its partition that began firing within this time.
const INCIDENT_WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// Time without a run that asks for its result after which an alert closes: nothing needs that result any more.
const NOT_ASKED_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The results of one run for one partition.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    pub partition: &'a Partition,
    /// The results of the checks, oldest read first.
    pub evaluations: Vec<Evaluation>,
    /// All connections of the endpoint service, with the start time of their read; `None` if the run did not read them.
    pub connections: Option<(&'a [Connection], Timestamp)>,
    pub heartbeat: Option<Finding>,
    /// The ids in place, in a run that read all of them.
    pub in_place: Option<BTreeSet<String>>,
    /// dbt's last connections, in a run that asked for them.
    pub traffic: Option<Traffic>,
    /// The path behind the endpoint service, in a run that read it completely or found the stored one outdated.
    pub path: Option<ReadPath>,
    /// The number of the alert topic's subscriptions, in a run that asked for it.
    pub subscribers: Option<Subscribers>,
    /// The decisions on dbt's requests, in a run that made them.
    pub admissions: Option<Decided>,
    /// The followed target groups, in a run that looked at them.
    pub followed: Vec<Followed>,
}

/// A followed target group, after a look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    pub group: Arn,
    /// The stored state on which the run decided.
    pub before: Option<FollowState>,
    pub state: FollowState,
    /// The time of the look.
    pub at: Timestamp,
    /// The notice about newly planned changes.
    pub notice: Option<Finding>,
}

/// A path behind an endpoint service, or the withdrawal of the stored one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPath {
    /// The path; `None` to withdraw the stored one.
    pub path: Option<StoredPath>,
    /// Start time of the read.
    pub read_at: Timestamp,
}

impl Report<'_> {
    /// Start time of the latest read.
    fn read_at(&self) -> Option<Timestamp> {
        self.evaluations.iter().map(|evaluation| evaluation.observed_at).max()
    }
}

impl<'a> Report<'a> {
    /// The results of a run's checks, without any other facts.
    pub fn new(partition: &'a Partition, evaluations: Vec<Evaluation>) -> Self {
        Self {
            partition,
            evaluations,
            connections: None,
            heartbeat: None,
            in_place: None,
            traffic: None,
            path: None,
            subscribers: None,
            admissions: None,
            followed: Vec::new(),
        }
    }
}

/// The results of one read.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Start time of the read.
    pub observed_at: Timestamp,
    /// The evaluated checks: a resource without a result of one of them is absent.
    pub checks: Vec<Check>,
    pub results: Vec<CheckResult>,
    /// The existing resources that are not on dbt's path.
    pub off_path: BTreeSet<String>,
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordWrite {
    pub key: Key,
    pub record: Record,
    /// The version that must be in place; `None` for no item.
    pub expected: Option<Version>,
    /// Whether this run sends the record's outbox after writing the record.
    pub leased: bool,
}

impl Evaluation {
    /// Existing `results` of `checks`, from a read that began at `observed_at`.
    pub fn new(observed_at: Timestamp, checks: Vec<Check>, results: Vec<CheckResult>) -> Self {
        Self { observed_at, checks, results, off_path: BTreeSet::new() }
    }

    /// Evaluates `checks` on a read that began at `observed_at`.
    pub fn evaluate(checks: &[Check], context: CheckContext<'_>, observed_at: Timestamp) -> Self {
        let results = catalogue::evaluate_checks(checks, context);
        Self { off_path: context.off_path(), ..Self::new(observed_at, checks.to_vec(), results) }
    }

    /// Keeps the failures of these resources behind `service`; every other result becomes *not asked*.
    #[must_use]
    pub fn only_failures_of(mut self, resources: &BTreeSet<String>, service: &ServiceId) -> Self {
        for result in &mut self.results {
            if !(matches!(result.status, Status::Fail(_)) && resources.contains(&result.resource)) {
                result.status = Status::NotAsked;
            }
        }
        self.off_path.clear();
        let rest = self.checks.iter().map(|check| CheckResult::unlisted(check, service, Unread::NotAsked));
        self.results.extend(rest);
        self
    }

    /// The results about the guard itself, from the calls of a run whose reads began at `observed_at`.
    pub fn of_calls(calls: &Calls, observed_at: Timestamp) -> Self {
        let results = visibility_lost::of_calls(calls);
        Self::new(observed_at, catalogue::checks_of(&[Group::Visibility]), results)
    }
}

impl Reconciler<'_> {
    /// The records that `report` changes.
    pub fn writes(&self, report: &Report<'_>, items: &Items) -> Vec<RecordWrite> {
        let items = &without_future(items.clone(), self.now);
        let last_read = self.last_read(items);
        let incident = open_incident(items, self.now).unwrap_or_else(|| self.new_incident(report.partition));
        let next = |key: Key| {
            let before = items.get(&key).and_then(|item| item.record.as_ref());
            let silenced = silencing::covers(items, &key.subject, &key.resource, self.now);
            let record = self.next(report, &key, before, (&incident, silenced), last_read)?;
            // A newer read means that the service is configured again.
            let retired = record.retired && report.read_at() <= Some(record.observed_at);
            self.record_write(key, Record { retired, ..record }, items)
        };
        self.keys(report, items).into_iter().filter_map(next).collect()
    }

    /// Start time of this function's last read of the partition, according to its records.
    fn last_read(&self, items: &Items) -> Option<Timestamp> {
        let ours = items.iter().filter(|(key, _)| key.function == self.function);
        ours.filter_map(|(_, item)| item.record.as_ref()?.read_at()).max()
    }

    /// The records that change because `change` is a cause of existing alerts.
    pub fn attribute(&self, change: &Change, items: &Items) -> Vec<RecordWrite> {
        let attributed = |(key, item): (&Key, &Item)| {
            let mut record = item.record.clone()?;
            let alert = record.alert().filter(|alert| alert.phase != Phase::Resolved)?.clone();
            let silenced = silencing::covers(items, &key.subject, &key.resource, self.now);
            let check = catalogue::find(&key.subject)?;
            if key.function != self.function || !cause::can_cause(change, check, &key.resource, &alert.finding) {
                return None;
            }
            let finding = Finding { cause: Some(change.clone()), ..alert.finding.clone() };
            let run = alert.counted_by.as_deref().unwrap_or(self.id);
            let moment = Now { run, now: self.now, incident: &alert.incident, silenced };
            let (next, event) = match alert.phase {
                // A cause is not a result and does not make a pending alert fire.
                Phase::Pending => (Some(with_late_cause(&alert, &finding)), None),
                _ => {
                    advance(Some(&alert), Signal::Failing(&finding), Thresholds::for_check(check, self.policy), moment)
                }
            };
            let next = next?;
            if event.is_none() && next.finding.cause == alert.finding.cause {
                return None;
            }
            // Any event, not only `CauseFound`: the end of a silence may show here first.
            if let Some(event) = event {
                record.push(transition(event, key, &next, None, self.now));
            }
            record.state = State::Alert(Box::new(next));
            self.record_write(key.clone(), record, items)
        };
        items.iter().filter_map(attributed).collect()
    }

    /// The records that close the alerts of an endpoint service that is no longer configured, with all unsent
    /// transitions about it; and whether another run still holds a lease on some of these records.
    pub fn close(&self, items: &Items) -> (Vec<RecordWrite>, bool) {
        let (mut writes, mut leased_elsewhere) = (Vec::new(), false);
        for (key, item) in items.iter().filter(|(key, _)| key.function == self.function) {
            let Some(before) = &item.record else { continue };
            let is_silence = before.silence().is_some();
            // An earlier attempt closed it, or it was never sent.
            let is_closed =
                |alert: &&Alert| alert.is_over() || (alert.phase == Phase::Pending && alert.notified.is_none());
            let mut record = match before.alert().filter(|alert| !is_closed(alert)) {
                Some(alert) => self.unwatched(key, before, alert),
                None => before.clone(),
            };
            record.retired |= !is_silence;
            if record != *before {
                // Later writes from an instance with the old configuration must change nothing.
                record.observed_at = self.now;
            }
            let leased = record.lease(self.now);
            if leased {
                writes.push(RecordWrite { key: key.clone(), record, expected: Some(item.version), leased });
            } else if !record.outbox.is_empty() {
                leased_elsewhere = true;
            } else if record != *before {
                // The record has no message to send: the alert fired without one and closes without one.
                writes.push(RecordWrite { key: key.clone(), record, expected: Some(item.version), leased });
            }
        }
        (writes, leased_elsewhere)
    }

    /// The id of an incident that begins now.
    pub fn new_incident(&self, partition: &Partition) -> String {
        format!("{partition}-{}", self.now.as_second())
    }

    /// The update to `record`, if it differs from the stored record or has transitions to send.
    pub(super) fn record_write(&self, key: Key, mut record: Record, items: &Items) -> Option<RecordWrite> {
        let item = items.get(&key);
        let leased = record.lease(self.now);
        let changed = item.and_then(|item| item.record.as_ref()) != Some(&record);
        changed.then_some(RecordWrite { key, record, expected: item.map(|item| item.version), leased })
    }

    /// The keys of all records that the report can change.
    fn keys(&self, report: &Report<'_>, items: &Items) -> BTreeSet<Key> {
        let key = |subject: &str, resource: &str| Key::new(self.function, subject, resource);
        let is_ours = |key: &&Key| [self.function, Key::ANY_FUNCTION].contains(&key.function.as_str());
        let stored = items.keys().filter(is_ours).cloned();
        let results = report.evaluations.iter().flat_map(|evaluation| &evaluation.results);
        let results = results.map(|result| key(result.check.id, &result.resource));
        let connections = report.connections.iter().flat_map(|(connections, _)| connections.iter());
        let connections = connections
            .filter(|connection| Some(&connection.service) == report.partition.service())
            .filter_map(|connection| match Owner::new(connection, self.policy) {
                Owner::Dbt => Some(key(Key::CONNECTION, connection.endpoint.as_str())),
                Owner::Known => Some(key(Key::KNOWN_ACCOUNT, connection.owner.as_ref()?.as_str())),
                Owner::Untrusted | Owner::Unnamed => None,
            });
        let heartbeat = report.heartbeat.iter().map(|_| key(Key::HEARTBEAT, &report.partition.to_string()));
        let inventory = report.in_place.iter().map(|_| key(Key::INVENTORY, &report.partition.to_string()));
        let traffic = report.traffic.iter().map(|_| key(Key::TRAFFIC, &report.partition.to_string()));
        let path = report.path.iter().map(|_| key(Key::PATH, &report.partition.to_string()));
        let admissions = report.admissions.iter().map(|_| key(Key::ADMISSIONS, &report.partition.to_string()));
        let subscribers = report.subscribers.iter().map(|_| key(Key::SUBSCRIBERS, &report.partition.to_string()));
        let followed = report.followed.iter().map(|followed| key(Key::FOLLOW, followed.group.as_str()));
        let path = path.chain(admissions).chain(subscribers).chain(followed);
        stored.chain(results).chain(connections).chain(heartbeat).chain(inventory).chain(traffic).chain(path).collect()
    }

    /// The next content of one record; `None` if there is nothing to record.
    fn next(
        &self,
        report: &Report<'_>,
        key: &Key,
        before: Option<&Record>,
        (incident, silenced): (&str, bool),
        last_read: Option<Timestamp>,
    ) -> Option<Record> {
        match key.subject.as_str() {
            Key::CONNECTION => self.next_connection(report, key, before),
            Key::KNOWN_ACCOUNT => self.next_known_account(report, key, before),
            Key::HEARTBEAT => self.next_heartbeat(report, key, before),
            Key::INVENTORY => Some(self.next_inventory(report.in_place.as_ref()?, before)),
            Key::PATH => {
                let ReadPath { path, read_at } = report.path.as_ref()?;
                // A slower run's older read replaces neither a newer path nor a withdrawal.
                let newer = before.is_some_and(|before| before.observed_at >= *read_at);
                // A run that began later may have reused details that another run has since read again.
                let stored = before.and_then(Record::path).and_then(|stored| stored.detailed_at);
                let details_due = |path: StoredPath| match path.detailed_at.zip(stored) {
                    Some((read, stored)) if read < stored => path.with_details_due(),
                    _ => path,
                };
                let state = State::Path(path.clone().map(details_due).map(Box::new));
                (!newer).then(|| with(before.cloned(), state, *read_at, None))
            }
            Key::ADMISSIONS => self.next_admissions(report, before),
            Key::FOLLOW => self.next_followed(report, key, before, incident),
            Key::SUBSCRIBERS => {
                let state = State::Subscribers(report.subscribers.clone()?);
                Some(with(before.cloned(), state, self.now, None))
            }
            Key::TRAFFIC => {
                let state = State::Traffic(report.traffic.clone()?);
                Some(with(before.cloned(), state, self.now, None))
            }
            Key::SILENCE => {
                before.map(|silence| silencing::announced(key, silence, &self.new_incident(report.partition), self))
            }
            check => match catalogue::find(check) {
                Some(check) => {
                    let moment = Now { run: self.id, now: self.now, incident, silenced };
                    self.next_alert(report, check, key, before, (moment, last_read))
                }
                // This version does not have the check.
                None => before.and_then(|record| Some(self.unwatched(key, record, record.alert()?))),
            },
        }
    }

    fn next_alert(
        &self,
        report: &Report<'_>,
        check: Check,
        key: &Key,
        before: Option<&Record>,
        (moment, last_read): (Now<'_>, Option<Timestamp>),
    ) -> Option<Record> {
        let newest = report.read_at();
        let thresholds = Thresholds::for_check(check, self.policy);
        let mut record = before.map(|before| self.unheard(before));
        for evaluation in report.evaluations.iter().filter(|evaluation| evaluation.checks.contains(&check)) {
            // The record already contains this read or a newer one.
            if record.as_ref().is_some_and(|record| record.observed_at >= evaluation.observed_at) {
                continue;
            }
            let passing = match check.when_missing {
                WhenMissing::Passing(now_true) => Some(now_true(&key.resource, self.policy)),
                WhenMissing::Gone | WhenMissing::NotAsked => None,
            };
            let last_result = record.as_ref().map_or(evaluation.observed_at, |record| record.observed_at);
            let absent = match (&passing, check.when_missing) {
                (Some(now_true), _) => Some(Signal::Passing(now_true)),
                (None, WhenMissing::NotAsked) if evaluation.observed_at.duration_since(last_result) < NOT_ASKED_FOR => {
                    None
                }
                (None, _) => Some(Signal::Gone),
            };
            let Some(signal) = signal(evaluation, check, (&key.resource, absent), self.policy) else { continue };
            let alert = record.as_ref().and_then(Record::alert);
            let was_silenced = alert.is_some_and(|alert| alert.silenced);
            let over = alert.is_none_or(Alert::is_over);
            // A newer run, which stored the time of its read, found nothing wrong. An older read can show a failure
            // that a later change hid.
            if over && Some(evaluation.observed_at) == newest && last_read > newest {
                continue;
            }
            let (next, event) = advance(alert, signal, thresholds, moment);
            let Some(mut next) = next else { continue };
            next.finding.limit_ids();
            // An alert that stays over is not written again, so that it can expire.
            if over && next.is_over() {
                continue;
            }
            let now_true = match signal {
                Signal::Passing(now_true) => Some(now_true),
                _ => None,
            };
            let transition = event.map(|event| transition(event, key, &next, now_true, self.now));
            let transition = transition.map(|it| if was_silenced { silencing::held_back(it) } else { it });
            let state = State::Alert(Box::new(next));
            record = Some(with(record, state, evaluation.observed_at, transition));
        }
        record
    }

    /// The record; if its last message was sent while the topic had no subscriber, the alert counts as unsent.
    fn unheard(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if let State::Alert(alert) = &mut record.state
            && alert.phase == Phase::Firing
            && self.heard_since.is_some_and(|since| alert.last_notified < since)
        {
            (alert.notified, alert.last_fired) = (None, None);
        }
        record
    }

    fn next_admissions(&self, report: &Report<'_>, before: Option<&Record>) -> Option<Record> {
        let (decided, (_, read_at)) = (report.admissions.as_ref()?, report.connections?);
        let known = before.and_then(Record::admissions).cloned().unwrap_or_default();
        let newer = before.map(|before| before.observed_at).filter(|observed_at| *observed_at >= read_at);
        let next = if newer.is_some() { known.merge(decided, self.now) } else { known.next(decided, self.now) };
        let is_new = before.is_none() && next != Admissions::default() || before.is_some() && next != known;
        if !is_new {
            return before.cloned();
        }
        Some(with(before.cloned(), State::Admissions(next), newer.unwrap_or(read_at), None))
    }

    /// The record of a followed group, with the notice about newly planned changes, in the incident of the group's alert.
    /// If another run has stored a state meanwhile, that one stays: it may hold calls under way, and the next run decides
    /// on it.
    fn next_followed(&self, report: &Report<'_>, key: &Key, before: Option<&Record>, incident: &str) -> Option<Record> {
        let looked = report.followed.iter().find(|followed| followed.group.as_str() == key.resource);
        let stored = before.and_then(Record::follow);
        let is_next = |looked: &&Followed| stored == looked.before.as_ref();
        let Some(Followed { state, at, notice, .. }) = looked.filter(is_next) else { return before.cloned() };
        if stored == Some(state) {
            return before.cloned();
        }
        let about = (target_hostname::SPEC.id, key.resource.as_str());
        let notice = notice.clone().map(|finding| Transition::new(Kind::Notice, about, incident, finding, self.now));
        Some(with(before.cloned(), State::Follow(Box::new(state.clone())), *at, notice))
    }

    fn next_connection(&self, report: &Report<'_>, key: &Key, before: Option<&Record>) -> Option<Record> {
        let known = before.and_then(Record::connection);
        let (Some((connections, observed_at)), Ok(endpoint)) = (report.connections, key.resource.parse::<EndpointId>())
        else {
            return before.cloned();
        };
        if before.is_some_and(|before| before.observed_at >= observed_at) {
            return before.cloned();
        }
        // A held request never has a record of its own: one record holds thousands of them.
        let is_parked = report.admissions.as_ref().is_some_and(|decided| decided.parked.contains(&endpoint));
        if before.is_none() && is_parked {
            return None;
        }
        let is_accepted = report.admissions.as_ref().is_some_and(|decided| decided.accepted.contains(&endpoint));
        let Some((next, notice)) = connection::advance(known, connections, &endpoint, is_accepted, self) else {
            return before.cloned();
        };
        let state = State::Connection(next);
        let unchanged = before.filter(|before| before.state == state && notice.is_none());
        if let Some(before) = unchanged {
            return Some(before.clone());
        }
        let incident = self.new_incident(report.partition);
        let notice = notice.map(|finding| Transition::new(Kind::Notice, key.about(), &incident, finding, self.now));
        Some(with(before.cloned(), state, observed_at, notice))
    }

    fn next_known_account(&self, report: &Report<'_>, key: &Key, before: Option<&Record>) -> Option<Record> {
        let last = before.and_then(Record::known_account);
        let about = (report.partition.service()?, key.resource.as_str());
        let advanced =
            report.connections.and_then(|(connections, _)| connection::known_account(last, connections, about, self));
        let Some((last, notice)) = advanced else { return before.cloned() };
        let incident = self.new_incident(report.partition);
        let notice = notice.map(|finding| {
            Transition::new(Kind::Notice, (Key::CONNECTION, &key.resource), &incident, finding, self.now)
        });
        Some(with(before.cloned(), State::KnownAccount(last), self.now, notice))
    }

    /// The heartbeat's record with the notice to send. A retry sends no second one.
    fn next_heartbeat(&self, report: &Report<'_>, key: &Key, before: Option<&Record>) -> Option<Record> {
        let state = State::Heartbeat(self.id.to_owned());
        let Some(finding) = report.heartbeat.clone().filter(|_| before.is_none_or(|before| before.state != state))
        else {
            return before.cloned();
        };
        let incident = self.new_incident(report.partition);
        let notice = Transition::new(Kind::Notice, key.about(), &incident, finding, self.now);
        Some(with(before.cloned(), state, self.now, Some(notice)))
    }

    fn next_inventory(&self, in_place: &BTreeSet<String>, before: Option<&Record>) -> Record {
        let known = before.and_then(Record::inventory);
        let next = inventory::next(known, in_place, self.now);
        match before.filter(|_| known == Some(&next)) {
            Some(before) => before.clone(),
            None => with(before.cloned(), State::Inventory(next), self.now, None),
        }
    }

    /// The record with its alert closed because nothing checks it any more.
    fn unwatched(&self, key: &Key, record: &Record, alert: &Alert) -> Record {
        let thresholds = Thresholds { alert_after: 1, resolve_after: 1, remind_every: None };
        let moment = Now { run: self.id, now: self.now, incident: &alert.incident, silenced: false };
        let (Some(next), event) = advance(Some(alert), Signal::Unwatched, thresholds, moment) else {
            return record.clone();
        };
        let transition = event.map(|event| transition(event, key, &next, None, self.now));
        with(Some(record.clone()), State::Alert(Box::new(next)), record.observed_at, transition)
    }
}

impl RecordWrite {
    /// The transitions to send from a record that the table did not take. Every failure counts as firing: without the
    /// table it would stay pending for ever.
    pub fn unstored_transitions(&self, now: Timestamp) -> Vec<Transition> {
        let mut record = self.record.clone();
        let is_pending = |alert: &&Alert| alert.phase == Phase::Pending && !alert.silenced;
        if let Some(alert) = self.record.alert().filter(is_pending)
            && record.outbox.is_empty()
        {
            record.push(transition(Event::Fired, &self.key, alert, None, now));
        }
        record.outbox
    }
}

/// The record with this state and transition.
fn with(before: Option<Record>, state: State, observed_at: Timestamp, transition: Option<Transition>) -> Record {
    let mut record = match before {
        Some(before) => Record { state, observed_at, retired: false, ..before },
        None => Record::new(state, observed_at),
    };
    if let Some(transition) = transition {
        record.push(transition);
    }
    record
}

/// The transition for an alert's event; `now_true` is the fact that holds now, if the check passes.
fn transition(event: Event, key: &Key, alert: &Alert, now_true: Option<&str>, now: Timestamp) -> Transition {
    let closed = |what: &str, why: &str, remedy: Remedy| Finding {
        severity: Severity::Info,
        summary: format!("closed ({what}): {}", alert.finding.summary),
        impact: why.to_owned(),
        remedy,
        ..alert.finding.clone()
    };
    let console = || alert.finding.remedy.console.clone();
    let find_out = || Remedy::new("If nobody intended this, find out who removed it.", None, console());
    let (kind, finding) = match event {
        Event::Fired => (Kind::Firing, alert.finding.clone()),
        Event::Reminded => (Kind::Reminder, alert.finding.clone()),
        Event::Recovered => (Kind::Resolved, alert.finding.clone()),
        Event::CauseFound => {
            let summary = format!("cause found: {}", alert.finding.summary);
            (Kind::Notice, Finding { summary, ..alert.finding.clone() })
        }
        Event::Eased(was) => {
            let was = if was == Severity::Critical { "critical" } else { "a warning" };
            let summary = format!("no longer {was}: {}", alert.finding.summary);
            (Kind::Notice, Finding { summary, ..alert.finding.clone() })
        }
        Event::Gone if key.subject == visibility_lost::SPEC.id => {
            let why = "No run has made this call for a day: the guard makes it only when a check needs the answer. It \
                       may still fail. If it does, you get a new alert.";
            (Kind::Notice, closed("call no longer made", why, Remedy::nothing("Nothing.", console())))
        }
        Event::Gone => {
            let why = "The resource no longer exists, is no longer behind the endpoint service, or no longer needs this \
                       check. Nothing was fixed: if dbt needs it, another check reports that.";
            (Kind::Notice, closed("resource gone", why, find_out()))
        }
        Event::Unwatched => {
            let why = "Nothing was fixed. The guard no longer checks this: dbt's ports do not reach it any more, or its check, its \
                       setting or its endpoint service was removed from the guard's configuration.";
            (Kind::Notice, closed("no longer checked", why, find_out()))
        }
    };
    let transition = Transition::new(kind, key.about(), &alert.incident, finding, now);
    Transition {
        since: alert.since,
        no_longer: match event {
            Event::Eased(was) => Some(was),
            _ => None,
        },
        unknown: alert.unknown.clone(),
        now_true: now_true.map(ToOwned::to_owned),
        ..transition
    }
}

/// The incident that a new alert joins: that of the latest alert that began firing within the last hour. Alerts of
/// severity info open no incident.
fn open_incident(items: &Items, now: Timestamp) -> Option<String> {
    let alerts = items.values().filter_map(|Item { record, .. }| record.as_ref()?.alert());
    let recent = alerts.filter(|alert| {
        alert.phase == Phase::Firing
            && alert.finding.severity > Severity::Info
            && now.duration_since(alert.since) <= INCIDENT_WINDOW
    });
    recent.max_by_key(|alert| alert.since).map(|alert| alert.incident.clone())
}

/// The signal of `evaluation` for one alert; `None` if the evaluation did not ask about the resource.
fn signal<'a>(
    evaluation: &'a Evaluation,
    check: Check,
    (resource, absent): (&str, Option<Signal<'a>>),
    policy: &Policy,
) -> Option<Signal<'a>> {
    if !(check.is_watched)(policy) || evaluation.off_path.contains(resource) {
        return Some(Signal::Unwatched);
    }
    let of_check = || evaluation.results.iter().filter(|result| result.check == check);
    let own = of_check().find(|result| result.resource == resource && !result.is_unlisted);
    match own.or_else(|| of_check().find(|result| result.is_unlisted)) {
        Some(result) => Signal::of(&result.status),
        None => absent,
    }
}

#[cfg(test)]
mod tests;
