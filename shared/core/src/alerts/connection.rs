//! Records of dbt's connections, with the time of their last change of state and the notices sent, and of known
//! accounts. Pure.

use jiff::{SignedDuration, Timestamp};

use super::lifecycle::Phase;
use super::reconciler::Reconciler;
use super::record::{Item, Items, Key, KnownConnection, admissions};
use super::traffic;
use crate::check::connection_details::reject_command;
use crate::check::{Finding, RecordedState, Remedy, RememberedConnections, Severity};
use crate::checks::connection_absent;
use crate::connections::{Owner, Room, Verdict, decide};
use crate::ids::{EndpointId, ServiceId};
use crate::snapshot::{Connection, ConnectionState};
use crate::text::limited;

/// Maximum number of dbt's other endpoints listed in a notice; it counts the rest.
const MAX_OTHERS: usize = 20;

/// The next state of `known`, given the `connections` that EC2 shows now, and the notice to send. `is_accepted` is true
/// if this run accepted the connection.
///
/// `None` for connections of other accounts.
pub fn advance(
    known: Option<&KnownConnection>,
    connections: &[Connection],
    endpoint: &EndpointId,
    is_accepted: bool,
    run: &Reconciler<'_>,
) -> Option<(KnownConnection, Option<Finding>)> {
    let Some(connection) = connections.iter().find(|connection| connection.endpoint == *endpoint) else {
        return known.map(|known| vanished(known, endpoint, run.now));
    };
    let verdict = decide(connection, run.policy);
    if Owner::new(connection, run.policy) != Owner::Dbt || verdict == Verdict::NotOurs {
        return None;
    }
    // A connection that came and went between two runs needs no notice.
    if known.is_none() && verdict == Verdict::Gone {
        return None;
    }
    let state = connection.state.to_string();
    let since = known.filter(|known| known.state == state).map(|known| known.since);
    let is_new_state = since.is_none();
    let since = since.unwrap_or(run.now);
    let mut next = KnownConnection {
        owner: connection.owner.as_ref().map(ToString::to_string)?,
        state,
        since,
        established: known.is_some_and(|known| known.established),
        accepted: known.and_then(|known| known.accepted).or(is_accepted.then_some(run.now)),
        gone: verdict == Verdict::Gone && known.is_some_and(|known| known.gone),
    };
    let was_gone = known.is_some_and(|known| known.gone && !next.gone);
    let is_connected = connection.state.is_connected();
    let notice = match verdict {
        Verdict::Gone if !next.gone => {
            next.gone = true;
            Some(gone(&next, endpoint))
        }
        Verdict::Established if is_connected && (was_gone || !next.established) => {
            let what = if was_gone && next.established { "connected again" } else { "connected" };
            next.established = true;
            let others = others(connections, connection, run);
            Some(connected(&next, connection, what, &others, run))
        }
        Verdict::Broken if is_new_state && !next.established && next.accepted.is_none() => {
            let is_over = connection.state == ConnectionState::Rejected || another_works(connections, connection, run);
            is_over.then(|| closed(&next, connection, run))
        }
        _ => None,
    };
    Some((next, notice))
}

/// Time for which a known account must be gone before its return is worth a notice.
const KNOWN_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Interval at which a connected known account is recorded again.
const RECORD_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// The time at which a known account was last seen connected, if it must be recorded now, and the notice to send. An
/// account has one record for all its endpoints, and none before it is connected.
pub fn known_account(
    last: Option<Timestamp>,
    connections: &[Connection],
    (service, account): (&ServiceId, &str),
    run: &Reconciler<'_>,
) -> Option<(Timestamp, Option<Finding>)> {
    let is_its = |connection: &&Connection| {
        connection.service == *service
            && connection.owner.as_ref().is_some_and(|owner| owner.as_str() == account)
            && Owner::new(connection, run.policy) == Owner::Known
            && connection.state.is_connected()
    };
    let connection = connections.iter().find(is_its)?;
    let since = |last: Timestamp| run.now.duration_since(last);
    if last.is_some_and(|last| since(last) < RECORD_EVERY) {
        return None;
    }
    let is_news = last.is_none_or(|last| since(last) >= KNOWN_FOR);
    let finding = is_news.then(|| {
        notice(
            format!("known account {account} is connected through {}", connection.endpoint),
            "dbt is not affected. The account is one of the stack's KnownAccounts, so the guard leaves its endpoints \
             alone. It does not report further ones.",
            vec![format!("owner: {account}, a known account"), format!("state: {}", connection.state)],
            Remedy::nothing("Nothing.", run.region.endpoint_service(service.as_str())),
        )
    });
    Some((run.now, finding))
}

/// The next state and the notice of an endpoint that EC2 no longer shows.
fn vanished(known: &KnownConnection, endpoint: &EndpointId, now: Timestamp) -> (KnownConnection, Option<Finding>) {
    let state = "gone".to_owned();
    let since = if known.state == state { known.since } else { now };
    let next = KnownConnection { state, since, gone: true, ..known.clone() };
    let notice = (!known.gone).then(|| gone(&next, endpoint));
    (next, notice)
}

/// dbt's other endpoints on the service that are waiting, being set up, or available.
fn others(connections: &[Connection], connection: &Connection, run: &Reconciler<'_>) -> Vec<EndpointId> {
    let lives = |connection: &&Connection| {
        matches!(decide(connection, run.policy), Verdict::DbtRequest | Verdict::Establishing | Verdict::Established)
    };
    let others = others_on_service(connections, connection);
    others.filter(lives).map(|other| other.endpoint.clone()).collect()
}

/// Whether another endpoint of dbt's on the same service is available.
fn another_works(connections: &[Connection], connection: &Connection, run: &Reconciler<'_>) -> bool {
    others_on_service(connections, connection).any(|other| decide(other, run.policy) == Verdict::Established)
}

fn others_on_service<'a>(
    connections: &'a [Connection],
    connection: &'a Connection,
) -> impl Iterator<Item = &'a Connection> {
    connections.iter().filter(|other| other.service == connection.service && other.endpoint != connection.endpoint)
}

/// The history of the connections, from the stored records.
pub fn remembered(items: &Items) -> RememberedConnections {
    let mut remembered = RememberedConnections {
        traffic: traffic::recorded(items).cloned(),
        admissions: admissions(items),
        ..RememberedConnections::default()
    };
    for (key, Item { record, .. }) in items {
        let Some(record) = record else {
            // An unreadable record may belong to dbt: its endpoint is not revoked, and dbt counts as connected before.
            if let (Key::CONNECTION, Ok(endpoint)) = (key.subject.as_str(), key.resource.parse()) {
                remembered.had_connection = true;
                remembered.established.insert(endpoint);
            }
            continue;
        };
        if let (Some(known), Ok(endpoint)) = (record.connection(), key.resource.parse::<EndpointId>()) {
            let recorded = RecordedState { state: known.state.clone(), since: known.since };
            remembered.states.insert(endpoint.clone(), recorded);
            if known.established || known.accepted.is_some() {
                remembered.had_connection = true;
                remembered.established.insert(endpoint);
            }
        }
        // Records of lost connections expire, but the alert on the loss of the last one stays.
        let lost = |alert: &super::lifecycle::Alert| {
            alert.phase == Phase::Firing && alert.finding.severity == Severity::Critical
        };
        remembered.had_connection |= key.subject == connection_absent::SPEC.id && record.alert().is_some_and(lost);
    }
    remembered
}

fn connected(
    known: &KnownConnection,
    connection: &Connection,
    what: &str,
    others: &[EndpointId],
    run: &Reconciler<'_>,
) -> Finding {
    let Connection { service, endpoint, .. } = connection;
    let created = connection.created.map(|created| format!("created: {created:.0}"));
    let region = connection.region.as_ref().map(|region| format!("endpoint's Region: {region}"));
    let evidence = evidence(known).into_iter().chain(created).chain(region);
    let console = run.region.endpoint_service(service.as_str());
    let listed = limited(others.iter().map(ToString::to_string).collect(), MAX_OTHERS);
    let listed = (!others.is_empty()).then(|| format!("other dbt endpoints: {}", listed.join(", ")));
    let room = Room::new(run.policy, service);
    if others.is_empty() || room != Room::Any {
        // A list of expected endpoints means that a person has confirmed them as theirs.
        let action = match room {
            Room::Exactly(_) => {
                "If dbt Support is waiting, tell them that it is accepted. Then test the connection in dbt."
            }
            _ => {
                "If dbt Support is waiting, tell them that it is accepted. Then test the connection in dbt. If that \
                 fails, ask them whether the endpoint is yours: dbt's other customers can request your service too."
            }
        };
        return notice(
            format!("dbt is {what} through {endpoint}"),
            &format!("dbt's endpoint {endpoint} is accepted and available. This does not prove that traffic passes."),
            evidence.chain(listed).collect(),
            Remedy::new(action, None, console),
        );
    }
    Finding::new(
        Severity::Warning,
        format!("dbt is {what} through {endpoint}, one of {} endpoints", others.len() + 1),
        "dbt creates the endpoints of all its customers in the same accounts. One of these endpoints \
         may belong to another customer, who could then reach your service.",
        Remedy::new(
            "If you asked dbt Support for this endpoint, do nothing. If not, ask dbt Support whose it \
             is. The command rejects it and cuts its connections: make sure that it is not the one you \
             use.",
            Some(reject_command(service, [endpoint], run.region)),
            console,
        ),
    )
    .with_evidence(evidence.chain(listed).collect())
}

/// The notice for a request that was rejected, or that failed, before it was connected.
fn closed(known: &KnownConnection, connection: &Connection, run: &Reconciler<'_>) -> Finding {
    let Connection { service, endpoint, .. } = connection;
    notice(
        format!("dbt's request {endpoint} is {}", known.state),
        "It was never connected, so dbt is not affected.",
        evidence(known).into(),
        Remedy::new(
            "If you did not expect this, ask dbt Support whose the endpoint is. AWS lists it until dbt deletes it.",
            None,
            run.region.endpoint_service(service.as_str()),
        ),
    )
}

fn gone(known: &KnownConnection, endpoint: &EndpointId) -> Finding {
    notice(
        format!("dbt's endpoint {endpoint} is {}", if known.state == "gone" { "gone" } else { "deleted" }),
        "dbt no longer connects through this endpoint. If it has no other, it cannot reach your service.",
        evidence(known).into(),
        Remedy::new("If you did not expect this, ask dbt Support why it was deleted.", None, None),
    )
}

/// A finding of severity info that needs no action.
fn notice(summary: String, impact: &str, evidence: Vec<String>, remedy: Remedy) -> Finding {
    Finding::new(Severity::Info, summary, impact, remedy).with_evidence(evidence)
}

fn evidence(known: &KnownConnection) -> [String; 2] {
    [format!("owner: {}, one of dbt's accounts", known.owner), format!("state: {}", known.state)]
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::alerts::record::{Record, State, Version};
    use crate::check::Region;
    use crate::config::Policy;
    use crate::snapshot::Traffic;
    use crate::testing::{DBT, UNTRUSTED, alert, at, connection, endpoint, item, region, service, settings};

    const KNOWN: &str = "555555555555";

    /// Runs `run` as the connection-acceptor at this time, with one known account and this limit on dbt's endpoints.
    fn at_time<T>(now: Timestamp, limit: &str, run: impl FnOnce(&Reconciler<'_>) -> T) -> T {
        let variables = [("KNOWN_ACCOUNTS", KNOWN), ("MAX_DBT_ENDPOINTS", limit)];
        let (policy, region): (Policy, Region) = (settings(&variables).policy, region());
        run(&Reconciler {
            id: "run",
            function: "connection-acceptor",
            policy: &policy,
            stack: None,
            region: &region,
            now,
            heard_since: None,
        })
    }

    fn advance_at(
        now: Timestamp,
        known: Option<&KnownConnection>,
        connections: &[Connection],
    ) -> Option<(KnownConnection, Option<Finding>)> {
        at_time(now, "1", |run| advance(known, connections, &endpoint(1), false, run))
    }

    /// Plays these states of dbt's endpoint, a minute apart, and returns the notices with their positions.
    fn notices_of(states: &[Option<&str>]) -> Vec<(usize, String)> {
        let mut known = None;
        let mut notices = Vec::new();
        for (index, state) in states.iter().enumerate() {
            let connections: Vec<Connection> = state.iter().map(|state| connection(1, Some(DBT), state)).collect();
            let advanced = advance_at(at(8, i8::try_from(index).unwrap()), known.as_ref(), &connections);
            let Some((next, notice)) = advanced else { continue };
            known = Some(next);
            notices.extend(notice.map(|notice| (index, notice.summary)));
        }
        notices
    }

    #[test]
    fn a_connection_sends_one_notice_when_available_and_when_gone() {
        let notices = notices_of;
        let connected = "dbt is connected through vpce-00000000000000001".to_owned();
        let deleted = "dbt's endpoint vpce-00000000000000001 is deleted".to_owned();
        let states = [Some("pendingAcceptance"), Some("pending"), Some("available"), Some("available")];
        assert_eq!(notices(&states), [(2, connected.clone())]);
        let states = [Some("available"), Some("rejected"), Some("pending"), Some("available")];
        assert_eq!(notices(&states), [(0, connected.clone())], "the first time only");
        let states = [Some("available"), Some("deleting"), Some("deleted"), None, None];
        assert_eq!(notices(&states), [(0, connected.clone()), (1, deleted)]);
        let vanished = "dbt's endpoint vpce-00000000000000001 is gone".to_owned();
        assert_eq!(notices(&[Some("pendingAcceptance"), None, None]), [(1, vanished.clone())]);
        let states = [Some("pendingAcceptance"), None, Some("available")];
        assert_eq!(notices(&states), [(1, vanished), (2, connected)], "it was not connected before");
        assert_eq!(notices(&[None, None]), [], "never seen, never missed");
        assert_eq!(notices(&[Some("deleting"), Some("deleted"), None]), [], "it came and went between two runs");
    }

    #[test]
    fn a_connection_falsely_reported_gone_is_connected_again() {
        let notices = notices_of(&[Some("available"), None, Some("available"), Some("available")]);
        let summaries: Vec<&str> = notices.iter().map(|(_, summary)| summary.as_str()).collect();
        assert_eq!(
            summaries,
            [
                "dbt is connected through vpce-00000000000000001",
                "dbt's endpoint vpce-00000000000000001 is gone",
                "dbt is connected again through vpce-00000000000000001",
            ]
        );
    }

    #[test]
    fn a_known_account_gets_a_notice_again_after_a_week_away() {
        let day = |days: i64| at(8, 0) + SignedDuration::from_hours(24 * days);
        let seen = |last: Option<Timestamp>, days: i64, states: &[&str]| {
            let connections: Vec<Connection> =
                states.iter().zip(1..).map(|(state, number)| connection(number, Some(KNOWN), state)).collect();
            at_time(day(days), "1", |run| known_account(last, &connections, (&service(1), KNOWN), run))
                .map(|(last, notice)| (last, notice.map(|notice| notice.summary)))
        };
        let connected = Some("known account 555555555555 is connected through vpce-00000000000000002".to_owned());
        assert_eq!(seen(None, 0, &["pendingAcceptance", "rejected"]), None, "no record before it is connected");
        assert_eq!(seen(None, 0, &["pendingAcceptance", "available", "available"]), Some((day(0), connected.clone())));
        assert_eq!(seen(Some(day(0)), 0, &["available", "available"]), None, "nothing to write");
        assert_eq!(seen(Some(day(0)), 1, &["available"]), Some((day(1), None)), "recorded once a day");
        assert_eq!(seen(Some(day(0)), 7, &["deleted", "available"]), Some((day(7), connected)));
    }

    #[test]
    fn a_second_endpoint_of_dbt_without_a_limit_is_a_warning() {
        let notice = |second: &str, limit: &str| {
            let connections = [connection(1, Some(DBT), "available"), connection(2, Some(DBT), second)];
            at_time(at(8, 0), limit, |run| advance(None, &connections, &endpoint(1), false, run)).unwrap().1.unwrap()
        };
        let second = notice("available", "0");
        assert_eq!(second.severity, Severity::Warning);
        assert!(second.remedy.command.unwrap().ends_with("--vpc-endpoint-ids vpce-00000000000000001"));
        assert_eq!(notice("deleted", "0").severity, Severity::Info);
        let limited = notice("available", "2");
        assert_eq!(limited.severity, Severity::Info, "connection.dbt says what is beyond the limit");
        assert!(limited.evidence.contains(&"other dbt endpoints: vpce-00000000000000002".to_owned()));
    }

    #[test]
    fn a_rejected_request_of_dbt_sends_one_notice() {
        let rejected = "dbt's request vpce-00000000000000001 is rejected".to_owned();
        let states = [Some("pendingAcceptance"), Some("rejected"), Some("rejected"), None];
        let gone = "dbt's endpoint vpce-00000000000000001 is gone".to_owned();
        assert_eq!(notices_of(&states), [(1, rejected.clone()), (3, gone)]);
        assert_eq!(notices_of(&[Some("available"), Some("rejected")]).len(), 1, "that is an alert");
        assert_eq!(notices_of(&[Some("pendingAcceptance"), Some("failed")]), [], "dbt is not connected");
        let another = [connection(1, Some(DBT), "failed"), connection(2, Some(DBT), "available")];
        let (failed, notice) = advance_at(at(8, 0), None, &another).unwrap();
        assert_eq!(notice.unwrap().summary, "dbt's request vpce-00000000000000001 is failed");
        assert_eq!(advance_at(at(8, 5), Some(&failed), &another).unwrap().1, None, "once");
        let accepted = KnownConnection { accepted: Some(at(8, 0)), state: "pending".to_owned(), ..failed };
        assert_eq!(advance_at(at(8, 5), Some(&accepted), &another).unwrap().1, None, "the guard accepted it: an alert");
    }

    #[test]
    fn untrusted_accounts_get_no_notices() {
        for owner in [Some(UNTRUSTED), None] {
            assert_eq!(advance_at(at(8, 0), None, &[connection(1, owner, "available")]), None);
        }
    }

    #[test]
    fn the_history_has_states_and_established_connections() {
        let pending = [connection(1, Some(DBT), "pending")];
        let (first, _) = advance_at(at(8, 0), None, &pending).unwrap();
        let (known, _) = advance_at(at(8, 9), Some(&first), &pending).unwrap();
        let key = || Key::new("connection-acceptor", Key::CONNECTION, endpoint(1).as_str());
        let history_of = |known: KnownConnection| {
            let record = Some(Record::new(State::Connection(known), at(8, 9)));
            remembered(&Items::from([(key(), Item { record, version: Version::At(1) })]))
        };
        let remembered = history_of(known.clone());
        assert_eq!(remembered.since(&pending[0]), Some(at(8, 0)));
        assert_eq!(remembered.since(&connection(1, Some(DBT), "available")), None, "another state");
        assert!(!remembered.had_connection && remembered.established.is_empty());
        let (gone, _) = advance_at(at(8, 30), Some(&known), &[]).unwrap();
        assert_eq!((gone.state.as_str(), gone.since), ("gone", at(8, 30)));
        assert_eq!(advance_at(at(9, 0), Some(&gone), &[]).unwrap().0.since, at(8, 30), "gone since then");
        let remembered = history_of(KnownConnection { established: true, ..known });
        assert!(remembered.had_connection);
        assert_eq!(remembered.established, BTreeSet::from([endpoint(1)]));
        let traffic = Traffic { until: at(8, 0), endpoints: BTreeMap::new() };
        let asked = Key::new("drift-watcher", Key::TRAFFIC, service(1).as_str());
        let items = Items::from([(asked, item(State::Traffic(traffic.clone())))]);
        assert_eq!(super::remembered(&items).traffic, Some(traffic));
        let unreadable = super::remembered(&Items::from([(key(), Item { record: None, version: Version::At(1) })]));
        assert!(unreadable.had_connection);
        assert_eq!(unreadable.established, BTreeSet::from([endpoint(1)]), "it may be dbt's");
    }

    #[test]
    fn a_critical_absence_alert_proves_a_former_connection() {
        let had_connection = |check: &str, phase: Phase, severity: Severity| {
            let key = Key::new("connection-acceptor", check, service(1).as_str());
            remembered(&Items::from([(key, item(State::Alert(Box::new(alert(phase, severity)))))])).had_connection
        };
        assert!(had_connection("connection.absent", Phase::Firing, Severity::Critical));
        assert!(
            !had_connection("connection.absent", Phase::Firing, Severity::Info),
            "it waits for dbt's first request"
        );
        assert!(!had_connection("connection.absent", Phase::Resolved, Severity::Critical));
        assert!(!had_connection("connection.untrusted", Phase::Firing, Severity::Critical));
    }
}
