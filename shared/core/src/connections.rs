//! The decision on who may connect. This is the file to audit: the guard accepts only the endpoints in
//! [`Plan::accepts`], and each of those is a [`Verdict::DbtRequest`] by [`decide`] and admitted by [`is_admitted`].

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Policy, UntrustedRequests};
use crate::ids::{EndpointId, ServiceId};
use crate::plan::Plan;
use crate::snapshot::{Connection, ConnectionState};

/// The owner of an endpoint, as reported by EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// One of dbt's accounts.
    Dbt,
    /// One of the `KNOWN_ACCOUNTS`.
    Known,
    /// Any other account.
    Untrusted,
    /// EC2 names no account, or no well-formed one.
    Unnamed,
}

impl Owner {
    /// The owner of `connection`. Deny by default: dbt owns it only if EC2 names a configured account.
    pub fn new(connection: &Connection, policy: &Policy) -> Self {
        match &connection.owner {
            Some(account) if policy.dbt_accounts.contains(account) => Self::Dbt,
            Some(account) if policy.known_accounts.contains(account) => Self::Known,
            Some(_) => Self::Untrusted,
            None => Self::Unnamed,
        }
    }
}

/// The class of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// dbt's request: accepted if there is room, else held.
    DbtRequest,
    /// dbt's connection, being set up.
    Establishing,
    /// dbt's connection, available in all or in some zones.
    Established,
    /// dbt's connection, rejected, failed or expired.
    Broken,
    /// An endpoint of a known account, in any state: the guard does not answer it.
    Known,
    /// A request of an untrusted account.
    UntrustedRequest,
    /// An untrusted account is connected.
    UntrustedConnected,
    /// A request whose owner EC2 does not name.
    UnnamedRequest,
    /// A connection whose owner EC2 does not name.
    UnnamedConnected,
    /// A connection that is not dbt's and was rejected, failed or expired.
    Closed,
    /// The consumer is deleting it, or has deleted it.
    Gone,
    /// EC2 reports a state that this version does not know.
    UnknownState,
    /// It belongs to an endpoint service that is not configured.
    NotOurs,
}

/// Classifies one connection, only by what EC2 reported in this run.
pub fn decide(connection: &Connection, policy: &Policy) -> Verdict {
    use ConnectionState::{
        Available, Deleted, Deleting, Expired, Failed, Other, Partial, Pending, PendingAcceptance, Rejected,
    };

    if !policy.services.contains(&connection.service) {
        return Verdict::NotOurs;
    }
    match (&connection.state, Owner::new(connection, policy)) {
        (Deleting | Deleted, _) => Verdict::Gone,
        (_, Owner::Known) => Verdict::Known,
        (Other(_), _) => Verdict::UnknownState,
        (PendingAcceptance, Owner::Dbt) => Verdict::DbtRequest,
        (PendingAcceptance, Owner::Untrusted) => Verdict::UntrustedRequest,
        (PendingAcceptance, Owner::Unnamed) => Verdict::UnnamedRequest,
        (Pending, Owner::Dbt) => Verdict::Establishing,
        (Available | Partial, Owner::Dbt) => Verdict::Established,
        (Pending | Available | Partial, Owner::Untrusted) => Verdict::UntrustedConnected,
        (Pending | Available | Partial, Owner::Unnamed) => Verdict::UnnamedConnected,
        (Rejected | Failed | Expired, Owner::Dbt) => Verdict::Broken,
        (Rejected | Failed | Expired, _) => Verdict::Closed,
    }
}

/// The limit on dbt's endpoints of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room<'a> {
    /// Any number.
    Any,
    /// At most this many.
    AtMost(usize),
    /// These, and no others.
    Exactly(&'a BTreeSet<EndpointId>),
}

impl<'a> Room<'a> {
    /// The limit for `service`.
    pub fn new(policy: &'a Policy, service: &ServiceId) -> Self {
        match (policy.expected_endpoints.get(service), policy.max_dbt_endpoints) {
            (Some(expected), _) => Self::Exactly(expected),
            (None, Some(limit)) => Self::AtMost(limit),
            (None, None) => Self::Any,
        }
    }
}

/// Whether a request of dbt is accepted, given the remaining room and whether it was held before. `held` is `None`
/// while the table cannot be read. Deny by default.
pub fn is_admitted(endpoint: &EndpointId, room: Room<'_>, taken: usize, held: Option<bool>) -> bool {
    match (room, held) {
        (Room::Any, _) => true,
        (_, None) | (Room::AtMost(_), Some(true)) => false,
        (Room::AtMost(limit), Some(false)) => taken < limit,
        (Room::Exactly(expected), Some(_)) => expected.contains(endpoint),
    }
}

impl Plan {
    /// The endpoints that `UNTRUSTED_REQUESTS=reject` rejects and revokes: only those whose account EC2 names.
    /// `established` contains the endpoints stored as dbt's established connections. They are left alone, because EC2
    /// may report a wrong owner and revoking cuts dbt off at once. While the table cannot be read (`None`), nothing is
    /// revoked.
    pub fn rejects(connections: &[Connection], policy: &Policy, established: Option<&BTreeSet<EndpointId>>) -> Self {
        if policy.untrusted_requests != UntrustedRequests::Reject {
            return Self::default();
        }
        let is_dbts = |endpoint: &EndpointId| established.is_some_and(|established| established.contains(endpoint));
        let reject = connections.iter().filter(|connection| match decide(connection, policy) {
            Verdict::UntrustedRequest => !is_dbts(&connection.endpoint),
            Verdict::UntrustedConnected => established.is_some() && !is_dbts(&connection.endpoint),
            _ => false,
        });
        Self { reject: by_service(reject), ..Self::default() }
    }
}

/// Whether the decision to reject depends on the stored connections.
pub fn needs_memory(connections: &[Connection], policy: &Policy) -> bool {
    let may_be_rejected = |connection: &Connection| {
        matches!(decide(connection, policy), Verdict::UntrustedRequest | Verdict::UntrustedConnected)
    };
    policy.untrusted_requests == UntrustedRequests::Reject && connections.iter().any(may_be_rejected)
}

fn by_service<'a>(connections: impl Iterator<Item = &'a Connection>) -> BTreeMap<ServiceId, Vec<EndpointId>> {
    let mut services: BTreeMap<ServiceId, Vec<EndpointId>> = BTreeMap::new();
    for connection in connections {
        services.entry(connection.service.clone()).or_default().push(connection.endpoint.clone());
    }
    services
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::AccountId;
    use crate::testing::{self, connection, endpoint, policy, service, settings};

    const DBT: Option<&str> = Some(testing::DBT);
    const UNTRUSTED: Option<&str> = Some(testing::UNTRUSTED);

    const KNOWN: Option<&str> = Some("555555555555");

    /// A policy with service 1 for dbt, one known account, and these further variables.
    fn policy_with(variables: &[(&str, &str)]) -> Policy {
        settings(&[&[("KNOWN_ACCOUNTS", "555555555555")], variables].concat()).policy
    }

    /// The complete table: each state as EC2 writes it, and its verdict for dbt, a known account, any other account,
    /// and no account.
    const TABLE: &[(&str, [Verdict; 4])] = {
        use Verdict::{
            Broken, Closed, DbtRequest, Established, Establishing, Gone, Known, UnknownState, UnnamedConnected,
            UnnamedRequest, UntrustedConnected, UntrustedRequest,
        };
        &[
            ("pendingAcceptance", [DbtRequest, Known, UntrustedRequest, UnnamedRequest]),
            ("pending", [Establishing, Known, UntrustedConnected, UnnamedConnected]),
            ("available", [Established, Known, UntrustedConnected, UnnamedConnected]),
            ("rejected", [Broken, Known, Closed, Closed]),
            ("failed", [Broken, Known, Closed, Closed]),
            ("expired", [Broken, Known, Closed, Closed]),
            ("deleting", [Gone, Gone, Gone, Gone]),
            ("deleted", [Gone, Gone, Gone, Gone]),
            ("partial", [Established, Known, UntrustedConnected, UnnamedConnected]),
            ("newState", [UnknownState, Known, UnknownState, UnknownState]),
            ("", [UnknownState, Known, UnknownState, UnknownState]),
        ]
    };

    #[test]
    fn every_state_and_owner_has_its_verdict() {
        for (state, verdicts) in TABLE {
            for (owner, verdict) in [DBT, KNOWN, UNTRUSTED, None].into_iter().zip(verdicts) {
                assert_eq!(decide(&connection(1, owner, state), &policy_with(&[])), *verdict, "{state}, {owner:?}");
            }
        }
    }

    #[test]
    fn a_request_is_admitted_if_it_fits_and_was_not_held() {
        let expected = BTreeSet::from([endpoint(1)]);
        let table = [
            // Room, places taken, held before (`None`: the table could not be read), and whether endpoints 1 and 2 are
            // admitted.
            (Room::Any, 99, None, [true, true]),
            (Room::Any, 99, Some(true), [true, true]),
            (Room::Exactly(&expected), 0, None, [false, false]),
            (Room::Exactly(&expected), 99, Some(false), [true, false]),
            (Room::Exactly(&expected), 99, Some(true), [true, false]),
            (Room::AtMost(2), 1, Some(false), [true, true]),
            (Room::AtMost(2), 2, Some(false), [false, false]),
            (Room::AtMost(2), 0, Some(true), [false, false]),
            (Room::AtMost(2), 0, None, [false, false]),
        ];
        for (room, taken, held, admitted) in table {
            let found = [1, 2].map(|number| is_admitted(&endpoint(number), room, taken, held));
            assert_eq!(found, admitted, "{room:?}, {taken}, {held:?}");
        }
    }

    #[test]
    fn states_are_compared_without_case() {
        assert_eq!(decide(&connection(1, DBT, "PendingAcceptance"), &policy()), Verdict::DbtRequest);
        assert_eq!(decide(&connection(1, UNTRUSTED, "Available"), &policy()), Verdict::UntrustedConnected);
    }

    #[test]
    fn only_exact_configured_accounts_are_dbts() {
        let mut policy = policy();
        policy.dbt_accounts.insert("555555555555".parse().unwrap());
        assert_eq!(decide(&connection(1, Some("555555555555"), "pendingAcceptance"), &policy), Verdict::DbtRequest);
        assert_eq!(
            decide(&connection(1, Some("555555555556"), "pendingAcceptance"), &policy),
            Verdict::UntrustedRequest
        );
    }

    #[test]
    fn a_connection_of_another_service_is_left_alone() {
        for state in TABLE.iter().map(|(state, ..)| state) {
            for owner in [DBT, KNOWN, UNTRUSTED, None] {
                let foreign = Connection { service: service(99), ..connection(1, owner, state) };
                assert_eq!(decide(&foreign, &policy_with(&[])), Verdict::NotOurs, "{state}");
            }
        }
    }

    #[test]
    fn only_named_untrusted_accounts_are_rejected_if_configured() {
        let connections = [
            connection(1, UNTRUSTED, "pendingAcceptance"),
            connection(2, UNTRUSTED, "available"),
            connection(3, None, "pending"),
            connection(4, UNTRUSTED, "rejected"),
            connection(5, DBT, "available"),
            connection(6, DBT, "newState"),
            connection(10, UNTRUSTED, "partial"),
            connection(7, None, "pendingAcceptance"),
            connection(8, KNOWN, "pendingAcceptance"),
            connection(9, KNOWN, "available"),
        ];
        let rejected = |policy: &Policy, established: Option<&BTreeSet<EndpointId>>| {
            Plan::rejects(&connections, policy, established).reject.remove(&service(1)).unwrap_or_default()
        };
        assert_eq!(rejected(&policy_with(&[]), Some(&BTreeSet::new())), []);
        let strict = policy_with(&[("UNTRUSTED_REQUESTS", "reject")]);
        assert_eq!(rejected(&strict, Some(&BTreeSet::new())), [endpoint(1), endpoint(2), endpoint(10)]);
        assert_eq!(rejected(&strict, Some(&[endpoint(2), endpoint(10)].into())), [endpoint(1)], "remembered as dbt's");
        assert_eq!(rejected(&strict, None), [endpoint(1)], "without the table nothing is revoked");
    }

    #[test]
    fn stored_connections_are_needed_only_to_reject() {
        let needed = |requests: &str, owner: Option<&str>, state: &str| {
            needs_memory(&[connection(1, owner, state)], &policy_with(&[("UNTRUSTED_REQUESTS", requests)]))
        };
        assert!(needed("reject", UNTRUSTED, "pendingAcceptance") && needed("reject", UNTRUSTED, "available"));
        assert!(!needed("reject", DBT, "pendingAcceptance"), "accepting does not wait for the table");
        assert!(!needed("alert", UNTRUSTED, "available") && !needed("reject", None, "available"));
    }

    proptest! {
        /// Of any connections, only those of untrusted accounts that EC2 names are rejected, and only if configured.
        #[test]
        fn nothing_of_dbts_is_rejected(
            rows in prop::collection::vec((0..4u32, 0..4usize, "pendingAcceptance|PENDINGACCEPTANCE|available|[a-zA-Z]{0,20}"), 0..20),
            reject in any::<bool>(),
        ) {
            let owners = [DBT, UNTRUSTED, None, KNOWN];
            let connections: Vec<Connection> = rows
                .iter()
                .zip(1..)
                .map(|((on, owner, state), number)| Connection { service: service(*on), ..connection(number, owners[*owner], state) })
                .collect();
            let policy = policy_with(&[("UNTRUSTED_REQUESTS", if reject { "reject" } else { "alert" })]);
            let rejects = Plan::rejects(&connections, &policy, Some(&BTreeSet::new()));
            prop_assert!(rejects.accept.is_empty());
            let find = |id: &EndpointId| connections.iter().find(|connection| connection.endpoint == *id).unwrap();
            for connection in rejects.reject.values().flatten().map(find) {
                prop_assert!(reject);
                prop_assert_eq!(connection.owner.as_ref().map(AccountId::as_str), UNTRUSTED);
            }
        }
    }
}
