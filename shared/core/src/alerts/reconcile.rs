//! Compares what a run found with the stored records: which records change, and what people must hear. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::connection;
use super::lifecycle::{Alert, Phase, Signal, Thresholds, advance};
use super::record::{Item, Items, Key, Record, State, Version};
use super::transition::{Kind, Transition};
use crate::checks::{Check, CheckResult, Finding, Region, Remedy, Severity, Status, catalogue};
use crate::config::Policy;
use crate::ids::{EndpointId, ServiceId};
use crate::snapshot::Connection;

/// What one run found out about one endpoint service.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// The endpoint service.
    pub service: &'a ServiceId,
    /// The results of the checks; twice if the run changed something and checked again.
    pub rounds: Vec<Vec<CheckResult>>,
    /// All connections, in a run that read them.
    pub connections: Option<&'a [Connection]>,
    /// When the last of the reads began that this results from.
    pub observed_at: Timestamp,
}

/// What all decisions of one run depend on.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The function, whose name is part of its records' keys.
    pub function: &'a str,
    /// What must be.
    pub policy: &'a Policy,
    /// The Region that commands and console links are for.
    pub region: &'a Region,
    /// The time of the decisions.
    pub now: Timestamp,
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// What it is about.
    pub key: Key,
    /// The new content.
    pub record: Record,
    /// The version that must be in place; `None`: no item.
    pub expected: Option<Version>,
    /// Whether this run sends the record's outbox once the record is written.
    pub leased: bool,
}

impl Run<'_> {
    /// The records that change because of `report`.
    #[must_use]
    pub fn updates(&self, report: &Report<'_>, items: &Items) -> Vec<Update> {
        let incident = open_incident(items).unwrap_or_else(|| self.new_incident(report.service));
        let update = |key: Key| {
            let item = items.get(&key);
            let before = item.and_then(|item| item.record.as_ref());
            let mut record = match before {
                // A newer read has been recorded.
                Some(newer) if newer.observed_at > report.observed_at => newer.clone(),
                _ => self.next(report, &key, before, &incident)?,
            };
            let leased = record.lease(self.now);
            let expected = item.map(|item| item.version);
            (before != Some(&record)).then_some(Update { key, record, expected, leased })
        };
        self.keys(report, items).into_iter().filter_map(update).collect()
    }

    /// The records that close the alerts of an endpoint service that is no longer configured, and whether another run
    /// still holds a lease on some of them.
    #[must_use]
    pub fn close(&self, items: &Items) -> (Vec<Update>, bool) {
        let (mut updates, mut leased_elsewhere) = (Vec::new(), false);
        for (key, item) in items.iter().filter(|(key, _)| key.function == self.function) {
            let Some(record) = &item.record else { continue };
            let Some(alert) = record.alert() else { continue };
            // Closed by an earlier attempt, and sent.
            if alert.phase != Phase::Firing && record.outbox.is_empty() {
                continue;
            }
            let why = "The endpoint service is no longer in the stack's EndpointServiceIds, so nobody checks whether this \
                       still holds.";
            let mut record = closed(key, record, alert, "no longer watched", why, self.now);
            if record.lease(self.now) {
                record.observed_at = self.now;
                updates.push(Update { key: key.clone(), record, expected: Some(item.version), leased: true });
            } else {
                leased_elsewhere = true;
            }
        }
        (updates, leased_elsewhere)
    }

    /// Records for everything that fails, for when the stored records could not be read.
    #[must_use]
    pub fn updates_without_items(&self, report: &Report<'_>) -> Vec<Update> {
        let incident = self.new_incident(report.service);
        let thresholds = Thresholds { alert_after: u32::MAX, resolve_after: 1, remind_every: None };
        let update = |result: &CheckResult| {
            let Status::Fail(finding) = &result.status else { return None };
            let (alert, _) = advance(None, Signal::Failing(finding), thresholds, &incident, self.now);
            let record = Record::new(State::Alert(Box::new(alert?)), report.observed_at);
            let key = Key::new(self.function, result.check.id, &result.resource);
            Some(Update { key, record, expected: None, leased: false })
        };
        report.rounds.last().into_iter().flatten().filter_map(update).collect()
    }

    /// The name of an incident that begins now.
    #[must_use]
    pub fn new_incident(&self, service: &ServiceId) -> String {
        format!("{service}-{}", self.now.as_second())
    }

    /// The keys of all records that the report can change.
    fn keys(&self, report: &Report<'_>, items: &Items) -> BTreeSet<Key> {
        let stored = items.keys().filter(|key| key.function == self.function).cloned();
        let results = report.rounds.iter().flatten();
        let results = results.map(|result| Key::new(self.function, result.check.id, &result.resource));
        let connections = report.connections.unwrap_or_default().iter();
        let connections = connections
            .filter(|connection| connection.service == *report.service)
            .map(|connection| Key::new(self.function, Key::CONNECTION, connection.endpoint.as_str()));
        stored.chain(results).chain(connections).collect()
    }

    /// The next content of one record; `None` if there is nothing to record.
    fn next(&self, report: &Report<'_>, key: &Key, before: Option<&Record>, incident: &str) -> Option<Record> {
        let (state, transitions) = if key.subject == Key::CONNECTION {
            self.next_connection(report, key, before)?
        } else if let Some(check) = catalogue::find(&key.subject) {
            self.next_alert(report, check, key, before, incident)?
        } else {
            let (record, alert) = before.and_then(|record| Some((record, record.alert()?)))?;
            let why = "This version of privatelink-guard does not have this check, so nobody checks whether this still \
                       holds.";
            return Some(closed(key, record, alert, "no longer checked", why, self.now));
        };
        let unchanged = before.filter(|before| before.state == state && transitions.is_empty());
        let observed_at = unchanged.map_or(report.observed_at, |before| before.observed_at);
        let mut record = match before {
            Some(before) => Record { state, observed_at, ..before.clone() },
            None => Record::new(state, observed_at),
        };
        for transition in transitions {
            record.push(transition);
        }
        Some(record)
    }

    fn next_alert(
        &self,
        report: &Report<'_>,
        check: Check,
        key: &Key,
        before: Option<&Record>,
        incident: &str,
    ) -> Option<(State, Vec<Transition>)> {
        let thresholds = Thresholds::for_check(check, self.policy);
        let mut alert = before.and_then(Record::alert).cloned();
        let mut transitions = Vec::new();
        for round in &report.rounds {
            let signal = signal(round, check, &key.resource, report.service);
            let (next, kind) = advance(alert.as_ref(), signal, thresholds, incident, self.now);
            if let (Some(next), Some(kind)) = (&next, kind) {
                transitions.push(alert_transition(kind, key, next, self.now));
            }
            alert = next;
        }
        Some((State::Alert(Box::new(alert?)), transitions))
    }

    fn next_connection(
        &self,
        report: &Report<'_>,
        key: &Key,
        before: Option<&Record>,
    ) -> Option<(State, Vec<Transition>)> {
        let known = before.and_then(Record::connection);
        let unchanged = || Some((State::Connection(known?.clone()), Vec::new()));
        let endpoint: EndpointId = key.resource.parse().ok()?;
        let Some(connections) = report.connections else { return unchanged() };
        let connection = connections.iter().find(|connection| connection.endpoint == endpoint);
        let Some((next, notice)) = connection::advance(known, connection, &endpoint, self) else { return unchanged() };
        let incident = self.new_incident(report.service);
        let notice = notice.map(|finding| Transition::new(Kind::Notice, key.about(), &incident, finding, self.now));
        Some((State::Connection(next), notice.into_iter().collect()))
    }
}

impl Update {
    /// What to send of a record that the table did not take. Everything that fails counts as firing: without the table it
    /// would otherwise stay pending for ever.
    #[must_use]
    pub fn unstored_transitions(mut self, now: Timestamp) -> Vec<Transition> {
        if let Some(alert) = self.record.alert().filter(|alert| alert.phase == Phase::Pending)
            && self.record.outbox.is_empty()
        {
            let firing = alert_transition(Kind::Firing, &self.key, alert, now);
            self.record.push(firing);
        }
        self.record.outbox
    }
}

/// A notice that no record keeps: if SNS does not accept it, it is lost with the run.
#[must_use]
pub fn unrecorded_notice(
    subject: &str,
    resource: &str,
    incident: &str,
    finding: Finding,
    now: Timestamp,
) -> Transition {
    let notice = Transition::new(Kind::Notice, (subject, resource), incident, finding, now);
    Transition { number: 1, ..notice }
}

/// A finding of severity info that needs nothing to be done.
pub(crate) fn notice(
    summary: String,
    impact: &str,
    evidence: Vec<String>,
    action: &str,
    console: Option<String>,
) -> Finding {
    Finding {
        severity: Severity::Info,
        summary,
        impact: impact.to_owned(),
        evidence,
        remedy: Remedy { action: action.to_owned(), command: None, console },
        cause: None,
    }
}

fn alert_transition(kind: Kind, key: &Key, alert: &Alert, now: Timestamp) -> Transition {
    let transition = Transition::new(kind, key.about(), &alert.incident, alert.finding.clone(), now);
    Transition { since: alert.since, unknown: alert.unknown.clone(), ..transition }
}

/// The record with its alert closed, and a notice of it if people know the alert.
fn closed(key: &Key, record: &Record, alert: &Alert, what: &str, why: &str, now: Timestamp) -> Record {
    let over = Alert { phase: Phase::Resolved, ..alert.clone() };
    let mut next = Record { state: State::Alert(Box::new(over)), ..record.clone() };
    if alert.phase == Phase::Firing {
        let finding = Finding {
            severity: Severity::Info,
            summary: format!("{what}: {}", alert.finding.summary),
            impact: why.to_owned(),
            ..alert.finding.clone()
        };
        let notice = Transition::new(Kind::Notice, key.about(), &alert.incident, finding, now);
        next.push(Transition { since: alert.since, ..notice });
    }
    next
}

/// The open incident: that of the alert that has been firing longest.
fn open_incident(items: &Items) -> Option<String> {
    let alerts = items.values().filter_map(|Item { record, .. }| record.as_ref()?.alert());
    let firing = alerts.filter(|alert| alert.phase == Phase::Firing);
    firing.min_by_key(|alert| alert.since).map(|alert| alert.incident.clone())
}

/// What `round` says of one alert. A resource without a result is absent, unless the resources could not be listed: then
/// the round has an unknown result for the endpoint service itself.
fn signal<'a>(round: &'a [CheckResult], check: Check, resource: &str, service: &ServiceId) -> Signal<'a> {
    let mut of_check = round.iter().filter(|result| result.check == check);
    if let Some(result) = of_check.clone().find(|result| result.resource == resource) {
        return Signal::from(&result.status);
    }
    let unlisted = of_check.clone().find_map(|result| match &result.status {
        Status::Unknown(why) if result.resource == service.as_str() => Some(why.as_str()),
        _ => None,
    });
    match unlisted {
        Some(why) => Signal::Unknown(why),
        // A call that works has no result. But after one that failed, others may not have been made.
        None if check.group == catalogue::Group::Visibility => match of_check.next() {
            Some(_) => Signal::Unknown("another read fails, and this one may not have been made"),
            None => Signal::Passing,
        },
        None => Signal::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, finding, policy, region, service};

    /// The updates of a drift-watcher run that found nothing, an hour after these items were written.
    fn updates(items: &Items) -> Vec<Update> {
        let (service, policy, region) = (service(1), policy(), region());
        let run = Run { function: "drift-watcher", policy: &policy, region: &region, now: at(9, 0) };
        let report = Report { service: &service, rounds: vec![vec![]], connections: None, observed_at: at(9, 0) };
        run.updates(&report, items)
    }

    fn item(function: &str, check: &str, phase: Phase) -> (Key, Item) {
        let finding = finding(Severity::Critical);
        let thresholds = Thresholds { alert_after: 1, resolve_after: 1, remind_every: None };
        let (alert, _) = advance(None, Signal::Failing(&finding), thresholds, "incident", at(8, 0));
        let alert = Alert { phase, ..alert.unwrap() };
        let record = Record::new(State::Alert(Box::new(alert)), at(8, 0));
        (Key::new(function, check, "resource"), Item { record: Some(record), version: Version::At(1) })
    }

    #[test]
    fn an_alert_of_a_check_that_this_version_does_not_have_is_closed_with_a_notice() {
        let updates = updates(&Items::from([item("drift-watcher", "connection.stranger", Phase::Firing)]));
        let [Update { record, leased: true, .. }] = &updates[..] else { panic!("{updates:?}") };
        let [notice] = &record.outbox[..] else { panic!("one notice: {:?}", record.outbox) };
        assert_eq!((notice.kind, notice.check.as_str()), (Kind::Notice, "connection.stranger"));
        assert!(notice.finding.summary.starts_with("no longer checked: 2 of 3 targets down"), "{notice:?}");
        assert_eq!(record.alert().unwrap().phase, Phase::Resolved);
    }

    #[test]
    fn such_an_alert_is_closed_once_and_by_the_function_that_wrote_it() {
        let items = [
            item("drift-watcher", "connection.stranger", Phase::Resolved),
            item("health-watcher", "connection.stranger", Phase::Firing),
        ];
        assert_eq!(updates(&Items::from(items)), []);
    }
}
