//! Who may connect. This is the file to audit: nothing is accepted but what [`Plan::new`] names, and it names only endpoints
//! for which [`decide`] says [`Verdict::Accept`].

use std::collections::BTreeMap;
use std::fmt;

use crate::config::{Policy, UntrustedRequests};
use crate::ids::{EndpointId, ServiceId};
use crate::snapshot::{Connection, ConnectionState};

/// What one connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// dbt's request: accept it.
    Accept,
    /// dbt's connection, being set up.
    Establishing,
    /// dbt's connection, available.
    Established,
    /// dbt's connection, rejected, failed or expired.
    Broken,
    /// A request of an untrusted account.
    UntrustedRequest,
    /// An untrusted account is connected.
    UntrustedConnected,
    /// A connection of an untrusted account that was rejected, failed or expired.
    UntrustedClosed,
    /// The consumer is deleting it, or has deleted it.
    Gone,
    /// EC2 reports a state that this version does not know.
    UnknownState,
    /// It belongs to an endpoint service that is not configured.
    NotOurs,
}

/// Decides about one connection, by what EC2 reported in this run and nothing else.
///
/// Deny by default: the owner is dbt only if EC2 names an account and that account is configured.
#[must_use]
pub fn decide(connection: &Connection, policy: &Policy) -> Verdict {
    use ConnectionState::{Available, Deleted, Deleting, Expired, Failed, Other, Pending, PendingAcceptance, Rejected};

    if !policy.services.contains(&connection.service) {
        return Verdict::NotOurs;
    }
    let is_dbt = connection.owner.as_ref().is_some_and(|owner| policy.dbt_accounts.contains(owner));
    match (&connection.state, is_dbt) {
        (PendingAcceptance, true) => Verdict::Accept,
        (PendingAcceptance, false) => Verdict::UntrustedRequest,
        (Pending, true) => Verdict::Establishing,
        (Available, true) => Verdict::Established,
        (Pending | Available, false) => Verdict::UntrustedConnected,
        (Rejected | Failed | Expired, true) => Verdict::Broken,
        (Rejected | Failed | Expired, false) => Verdict::UntrustedClosed,
        (Deleting | Deleted, _) => Verdict::Gone,
        (Other(_), _) => Verdict::UnknownState,
    }
}

/// The changes to make in EC2, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Requests to accept, by endpoint service.
    pub accept: BTreeMap<ServiceId, Vec<EndpointId>>,
    /// Requests to reject and connections to revoke, by endpoint service. EC2 has one call for both.
    pub reject: BTreeMap<ServiceId, Vec<EndpointId>>,
}

impl Plan {
    /// The changes that follow from [`decide`] for each connection.
    #[must_use]
    pub fn new(connections: &[Connection], policy: &Policy) -> Self {
        let mut plan = Self::default();
        for connection in connections {
            let list = match (decide(connection, policy), policy.untrusted_requests) {
                (Verdict::Accept, _) => &mut plan.accept,
                (Verdict::UntrustedRequest | Verdict::UntrustedConnected, UntrustedRequests::Reject) => {
                    &mut plan.reject
                }
                _ => continue,
            };
            list.entry(connection.service.clone()).or_default().push(connection.endpoint.clone());
        }
        plan
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accept.is_empty() && self.reject.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes = [("accept", &self.accept), ("reject", &self.reject)];
        let lines = changes.iter().flat_map(|(verb, services)| {
            services.iter().flat_map(move |(service, endpoints)| {
                endpoints.iter().map(move |endpoint| format!("{verb} {endpoint} on {service}"))
            })
        });
        let lines: Vec<String> = lines.collect();
        f.write_str(if lines.is_empty() { "nothing to change".to_owned() } else { lines.join(", ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::AccountId;
    use crate::testing::{self, connection, endpoint, policy, service};

    const DBT: Option<&str> = Some(testing::DBT);
    const UNTRUSTED: Option<&str> = Some(testing::UNTRUSTED);

    /// Every cell of the table: the state as EC2 writes it, and the verdict for dbt and for any other owner.
    const TABLE: &[(&str, Verdict, Verdict)] = &[
        ("pendingAcceptance", Verdict::Accept, Verdict::UntrustedRequest),
        ("pending", Verdict::Establishing, Verdict::UntrustedConnected),
        ("available", Verdict::Established, Verdict::UntrustedConnected),
        ("rejected", Verdict::Broken, Verdict::UntrustedClosed),
        ("failed", Verdict::Broken, Verdict::UntrustedClosed),
        ("expired", Verdict::Broken, Verdict::UntrustedClosed),
        ("deleting", Verdict::Gone, Verdict::Gone),
        ("deleted", Verdict::Gone, Verdict::Gone),
        ("partial", Verdict::UnknownState, Verdict::UnknownState),
        ("", Verdict::UnknownState, Verdict::UnknownState),
    ];

    #[test]
    fn every_cell_of_the_table() {
        for (state, dbt, other) in TABLE {
            assert_eq!(decide(&connection(1, DBT, state), &policy()), *dbt, "{state}, dbt");
            assert_eq!(decide(&connection(1, UNTRUSTED, state), &policy()), *other, "{state}, an untrusted account");
            assert_eq!(decide(&connection(1, None, state), &policy()), *other, "{state}, owner missing");
        }
    }

    #[test]
    fn states_are_compared_without_case() {
        assert_eq!(decide(&connection(1, DBT, "PendingAcceptance"), &policy()), Verdict::Accept);
        assert_eq!(decide(&connection(1, UNTRUSTED, "Available"), &policy()), Verdict::UntrustedConnected);
    }

    #[test]
    fn every_configured_account_is_dbt_and_no_similar_one_is() {
        let mut policy = policy();
        policy.dbt_accounts.insert("555555555555".parse().unwrap());
        assert_eq!(decide(&connection(1, Some("555555555555"), "pendingAcceptance"), &policy), Verdict::Accept);
        assert_eq!(
            decide(&connection(1, Some("555555555556"), "pendingAcceptance"), &policy),
            Verdict::UntrustedRequest
        );
    }

    #[test]
    fn a_connection_of_another_service_is_left_alone() {
        for state in TABLE.iter().map(|(state, ..)| state) {
            for owner in [DBT, UNTRUSTED, None] {
                let foreign = Connection { service: service(99), ..connection(1, owner, state) };
                assert_eq!(decide(&foreign, &policy()), Verdict::NotOurs, "{state}");
            }
        }
    }

    #[test]
    fn untrusted_accounts_are_rejected_only_when_configured() {
        let connections = [
            connection(1, UNTRUSTED, "pendingAcceptance"),
            connection(2, UNTRUSTED, "available"),
            connection(3, None, "pending"),
            connection(4, UNTRUSTED, "rejected"),
            connection(5, DBT, "available"),
            connection(6, DBT, "partial"),
        ];
        let mut policy = policy();
        assert!(Plan::new(&connections, &policy).is_empty());
        policy.untrusted_requests = UntrustedRequests::Reject;
        let plan = Plan::new(&connections, &policy);
        assert!(plan.accept.is_empty());
        assert_eq!(plan.reject, BTreeMap::from([(service(1), vec![endpoint(1), endpoint(2), endpoint(3)])]));
    }

    #[test]
    fn a_plan_can_be_read() {
        assert_eq!(Plan::default().to_string(), "nothing to change");
        let plan = Plan::new(&[connection(1, DBT, "pendingAcceptance")], &policy());
        assert_eq!(plan.to_string(), "accept vpce-00000000000000001 on vpce-svc-00000000000000001");
    }

    proptest! {
        /// Of any connections, only requests of dbt's accounts on a configured service are accepted.
        #[test]
        fn only_requests_of_dbt_are_accepted(
            rows in prop::collection::vec((0..4u32, 0..4usize, "pendingAcceptance|PENDINGACCEPTANCE|available|[a-zA-Z]{0,20}"), 0..20),
            reject in any::<bool>(),
        ) {
            let owners = [DBT, UNTRUSTED, None, Some("123456789013")];
            let connections: Vec<Connection> = rows
                .iter()
                .zip(1..)
                .map(|((on, owner, state), number)| Connection { service: service(*on), ..connection(number, owners[*owner], state) })
                .collect();
            let mut policy = policy();
            policy.untrusted_requests = if reject { UntrustedRequests::Reject } else { UntrustedRequests::Alert };
            let plan = Plan::new(&connections, &policy);
            let find = |id: &EndpointId| connections.iter().find(|connection| connection.endpoint == *id).unwrap();
            for (on, endpoints) in &plan.accept {
                for connection in endpoints.iter().map(find) {
                    prop_assert_eq!(&connection.service, on);
                    prop_assert_eq!(on, &service(1));
                    prop_assert_eq!(connection.owner.as_ref().map(AccountId::as_str), DBT);
                    prop_assert_eq!(&connection.state, &ConnectionState::PendingAcceptance);
                }
            }
            for connection in plan.reject.values().flatten().map(find) {
                prop_assert!(reject);
                prop_assert_ne!(connection.owner.as_ref().map(AccountId::as_str), DBT);
            }
        }
    }
}
