//! What is recorded of dbt's own connections: since when each is in its state, and which notices people got. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reconcile::{Run, notice};
use super::record::{Item, Items, Key};
use crate::checks::{Finding, Region};
use crate::connections::{Verdict, decide};
use crate::ids::{AccountId, EndpointId};
use crate::snapshot::Connection;

/// The stored state of a connection of dbt's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownConnection {
    /// The account that owns the endpoint.
    pub owner: String,
    /// The state it was last seen in, as EC2 wrote it.
    pub state: String,
    /// When it was first seen in that state.
    pub since: Timestamp,
    /// Whether it has been available, and people heard so.
    pub established: bool,
    /// Whether it is gone, and people heard so.
    pub gone: bool,
}

/// The next state of `known`, now that EC2 shows `connection` or no longer shows it, and the notice that people get.
///
/// `None` for connections that are not dbt's: they have alerts and no notices.
#[must_use]
pub fn advance(
    known: Option<&KnownConnection>,
    connection: Option<&Connection>,
    endpoint: &EndpointId,
    run: &Run<'_>,
) -> Option<(KnownConnection, Option<Finding>)> {
    let (verdict, owner, state) = match connection {
        Some(connection) => {
            let is_dbt = |owner: &&AccountId| run.policy.dbt_accounts.contains(*owner);
            let owner = connection.owner.as_ref().filter(is_dbt)?;
            (decide(connection, run.policy), owner.to_string(), connection.state.to_string())
        }
        None => (Verdict::Gone, known?.owner.clone(), "gone".to_owned()),
    };
    if verdict == Verdict::NotOurs {
        return None;
    }
    let since = known.filter(|known| known.state == state).map_or(run.now, |known| known.since);
    let mut next = KnownConnection {
        owner,
        state,
        since,
        established: known.is_some_and(|known| known.established),
        gone: verdict == Verdict::Gone && known.is_some_and(|known| known.gone),
    };
    let notice = match verdict {
        Verdict::Established if !next.established => {
            next.established = true;
            Some(established(&next, endpoint, connection, run.region))
        }
        Verdict::Gone if !next.gone => {
            next.gone = true;
            Some(gone(&next, endpoint))
        }
        _ => None,
    };
    Some((next, notice))
}

/// Since when each endpoint has been in its current state, from the records of dbt's connections.
#[must_use]
pub fn state_since(items: &Items, connections: &[Connection]) -> BTreeMap<EndpointId, Timestamp> {
    let known = items.iter().filter(|(key, _)| key.subject == Key::CONNECTION);
    let known = known.filter_map(|(key, Item { record, .. })| {
        let endpoint: EndpointId = key.resource.parse().ok()?;
        Some((endpoint, record.as_ref()?.connection()?))
    });
    let in_the_same_state = known.filter(|(endpoint, known)| {
        connections
            .iter()
            .any(|connection| connection.endpoint == *endpoint && connection.state.to_string() == known.state)
    });
    in_the_same_state.map(|(endpoint, known)| (endpoint, known.since)).collect()
}

fn established(
    known: &KnownConnection,
    endpoint: &EndpointId,
    connection: Option<&Connection>,
    region: &Region,
) -> Finding {
    let created = connection.and_then(|connection| connection.created).map(|created| format!("created: {created:.0}"));
    let endpoint_region = connection
        .and_then(|connection| connection.region.as_ref())
        .map(|endpoint_region| format!("endpoint's Region: {endpoint_region}"));
    notice(
        format!("dbt is connected through {endpoint}"),
        "dbt's request is accepted and its endpoint is available: traffic can flow.",
        evidence(known).into_iter().chain(created).chain(endpoint_region).collect(),
        "Nothing to do. If dbt Support waits for it, tell them that the connection is accepted.",
        connection.and_then(|connection| region.endpoint_service(connection.service.as_str())),
    )
}

fn gone(known: &KnownConnection, endpoint: &EndpointId) -> Finding {
    notice(
        format!("dbt's connection {endpoint} is {}", if known.state == "gone" { "gone" } else { "deleted" }),
        "dbt no longer connects through this endpoint. If it has no other, dbt cannot reach your service.",
        evidence(known).into(),
        "Nothing to do if dbt meant to delete it. Otherwise ask dbt Support.",
        None,
    )
}

fn evidence(known: &KnownConnection) -> [String; 2] {
    [format!("owner: {}, one of dbt's accounts", known.owner), format!("state: {}", known.state)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::record::{Record, State, Version};
    use crate::config::Policy;
    use crate::testing::{DBT, UNTRUSTED, at, connection, endpoint, policy, region};

    /// Runs `run` as the connection-acceptor at this time.
    fn at_time<T>(now: Timestamp, run: impl FnOnce(&Run<'_>) -> T) -> T {
        let (policy, region): (Policy, Region) = (policy(), region());
        run(&Run { function: "connection-acceptor", policy: &policy, region: &region, now })
    }

    /// Plays these states of dbt's endpoint, a minute apart, and gives the notices with their positions.
    fn notices(states: &[Option<&str>]) -> Vec<(usize, String)> {
        let mut known = None;
        let mut notices = Vec::new();
        for (index, state) in states.iter().enumerate() {
            let connection = state.map(|state| connection(1, Some(DBT), state));
            let now = at(8, i8::try_from(index).unwrap());
            let advanced = at_time(now, |run| advance(known.as_ref(), connection.as_ref(), &endpoint(1), run));
            let Some((next, notice)) = advanced else { continue };
            known = Some(next);
            notices.extend(notice.map(|notice| (index, notice.summary)));
        }
        notices
    }

    #[test]
    fn one_notice_when_it_is_first_available_and_one_when_it_is_gone() {
        let connected = "dbt is connected through vpce-00000000000000001".to_owned();
        let deleted = "dbt's connection vpce-00000000000000001 is deleted".to_owned();
        let states = [Some("pendingAcceptance"), Some("pending"), Some("available"), Some("available")];
        assert_eq!(notices(&states), [(2, connected.clone())]);
        let states = [Some("available"), Some("rejected"), Some("pending"), Some("available")];
        assert_eq!(notices(&states), [(0, connected.clone())], "the first time only");
        let states = [Some("available"), Some("deleting"), Some("deleted"), None, None];
        assert_eq!(notices(&states), [(0, connected), (1, deleted)]);
        let vanished = "dbt's connection vpce-00000000000000001 is gone".to_owned();
        assert_eq!(notices(&[Some("pendingAcceptance"), None, None]), [(1, vanished)]);
        assert_eq!(notices(&[None, None]), [], "never seen, never missed");
    }

    #[test]
    fn untrusted_accounts_get_no_notices() {
        for owner in [Some(UNTRUSTED), None] {
            let connection = connection(1, owner, "available");
            assert_eq!(at_time(at(8, 0), |run| advance(None, Some(&connection), &endpoint(1), run)), None);
        }
    }

    #[test]
    fn a_state_counts_from_when_it_was_first_seen() {
        let pending = connection(1, Some(DBT), "pending");
        let seen = |known: Option<&KnownConnection>, now| {
            at_time(now, |run| advance(known, Some(&pending), &endpoint(1), run)).unwrap().0
        };
        let known = seen(Some(&seen(None, at(8, 0))), at(8, 9));
        let key = Key::new("connection-acceptor", Key::CONNECTION, endpoint(1).as_str());
        let record = Some(Record::new(State::Connection(known), at(8, 9)));
        let items = Items::from([(key, Item { record, version: Version::At(1) })]);
        let since = |connection| state_since(&items, &[connection]);
        assert_eq!(since(pending.clone()), BTreeMap::from([(endpoint(1), at(8, 0))]));
        assert_eq!(since(connection(1, Some(DBT), "available")), BTreeMap::new());
    }
}
