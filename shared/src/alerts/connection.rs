//! What is remembered of dbt's own connections: since when each is in its state, and which notices were due. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checks::{Finding, Place, Remedy, Severity};
use crate::config::Policy;
use crate::connections::{Verdict, decide};
use crate::ids::{AccountId, EndpointId};
use crate::snapshot::Connection;

/// What is remembered of a connection of dbt's.
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

/// What `known` becomes now that EC2 shows `connection`, or no longer shows it, and the notice people get.
///
/// `None` for connections that are not dbt's: they have alerts, and no notices.
#[must_use]
pub fn remember(
    known: Option<&KnownConnection>,
    connection: Option<&Connection>,
    endpoint: &EndpointId,
    policy: &Policy,
    place: &Place,
    now: Timestamp,
) -> Option<(KnownConnection, Option<Finding>)> {
    let (verdict, owner, state) = match connection {
        Some(connection) => {
            let dbt = |owner: &&AccountId| policy.dbt_accounts.contains(*owner);
            let owner = connection.owner.as_ref().filter(dbt)?;
            (decide(connection, policy), owner.to_string(), connection.state.to_string())
        }
        None => (Verdict::Gone, known?.owner.clone(), "gone".to_owned()),
    };
    if verdict == Verdict::NotOurs {
        return None;
    }
    let since = known.filter(|known| known.state == state).map_or(now, |known| known.since);
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
            Some(established(&next, endpoint, connection, place))
        }
        Verdict::Gone if !next.gone => {
            next.gone = true;
            Some(gone(&next, endpoint))
        }
        _ => None,
    };
    Some((next, notice))
}

/// Since when each endpoint has been in the state it is in.
#[must_use]
pub fn since<'a>(
    known: impl IntoIterator<Item = (EndpointId, &'a KnownConnection)>,
    seen: &[Connection],
) -> BTreeMap<EndpointId, Timestamp> {
    let known = known.into_iter().filter(|(endpoint, known)| {
        seen.iter().any(|connection| connection.endpoint == *endpoint && connection.state.to_string() == known.state)
    });
    known.map(|(endpoint, known)| (endpoint, known.since)).collect()
}

fn established(
    known: &KnownConnection,
    endpoint: &EndpointId,
    connection: Option<&Connection>,
    place: &Place,
) -> Finding {
    let mut evidence =
        vec![format!("owner: {}, one of dbt's accounts", known.owner), format!("state: {}", known.state)];
    evidence
        .extend(connection.and_then(|connection| connection.created).map(|created| format!("created: {created:.0}")));
    evidence.extend(
        connection
            .and_then(|connection| connection.region.as_ref())
            .map(|region| format!("endpoint's Region: {region}")),
    );
    notice(
        format!("dbt is connected through {endpoint}"),
        "dbt's request is accepted and its endpoint is available: traffic can flow.",
        evidence,
        "Nothing to do. Tell dbt Support that the connection is accepted, if they wait for it.",
        connection.and_then(|connection| place.endpoint_service(connection.service.as_str())),
    )
}

fn gone(known: &KnownConnection, endpoint: &EndpointId) -> Finding {
    notice(
        format!("dbt's connection {endpoint} is {}", if known.state == "gone" { "gone" } else { "deleted" }),
        "dbt no longer connects through this endpoint. If it has no other, dbt cannot reach your service.",
        vec![format!("owner: {}, one of dbt's accounts", known.owner), format!("state: {}", known.state)],
        "Nothing to do if dbt meant to delete it. Otherwise ask dbt Support.",
        None,
    )
}

fn notice(summary: String, meaning: &str, evidence: Vec<String>, what: &str, console: Option<String>) -> Finding {
    Finding {
        severity: Severity::Info,
        summary,
        meaning: meaning.to_owned(),
        evidence,
        remedy: Remedy { what: what.to_owned(), command: None, console },
        cause: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, connection, endpoint, place, policy};

    /// Plays these states of dbt's endpoint, a minute apart, and gives the notices with their positions.
    fn notices(states: &[Option<&str>]) -> Vec<(usize, String)> {
        let mut known = None;
        let mut notices = Vec::new();
        for (index, state) in states.iter().enumerate() {
            let connection = state.map(|state| connection(1, Some("123456789012"), state));
            let now = at(8, i8::try_from(index).unwrap());
            let Some((next, notice)) =
                remember(known.as_ref(), connection.as_ref(), &endpoint(1), &policy(), &place(), now)
            else {
                continue;
            };
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
    fn strangers_get_no_notices() {
        for owner in [Some("999999999999"), None] {
            let connection = connection(1, owner, "available");
            assert_eq!(remember(None, Some(&connection), &endpoint(1), &policy(), &place(), at(8, 0)), None);
        }
    }

    #[test]
    fn since_counts_from_the_first_look_at_a_state() {
        let pending = connection(1, Some("123456789012"), "pending");
        let (known, _) = remember(None, Some(&pending), &endpoint(1), &policy(), &place(), at(8, 0)).unwrap();
        let (known, _) = remember(Some(&known), Some(&pending), &endpoint(1), &policy(), &place(), at(8, 9)).unwrap();
        assert_eq!(since([(endpoint(1), &known)], &[pending]), BTreeMap::from([(endpoint(1), at(8, 0))]));
        let available = connection(1, Some("123456789012"), "available");
        assert_eq!(since([(endpoint(1), &known)], &[available]), BTreeMap::new());
    }
}
