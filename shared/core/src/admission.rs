//! The decision between accepting and holding dbt's requests. dbt creates the endpoints of all its customers in the
//! same accounts, so a request from dbt's account may belong to another customer.
//!
//! A limit is no lock: two simultaneous runs that see different lists may each accept a request where there is room
//! for one. The next run reports the excess.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Policy;
use crate::connections::{Room, Verdict, decide, is_admitted};
use crate::ids::{EndpointId, ServiceId};
use crate::plan::Plan;
use crate::snapshot::{Connection, Topology};

/// Time for which an accepted endpoint takes room, whatever EC2's list shows: the list lags behind.
const ACCEPTED_FOR: SignedDuration = SignedDuration::from_mins(15);

/// Maximum number of held requests stored by id. Beyond it, every request created up to the latest one counts as held.
const MAX_HELD: usize = 500;

/// Maximum number of accepted requests stored: the highest configurable limit.
const MAX_ACCEPTED: usize = 1000;

/// Stored decisions on one service's requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admissions {
    /// Held requests. They stay held until a person accepts them or lists them as expected. The guard never again
    /// reports those that were rejected or deleted.
    #[serde(default)]
    pub held: BTreeSet<EndpointId>,
    /// Set if there are more than `MAX_HELD`: every request created up to this time counts as held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
    /// Accepted endpoints, each with the time of its acceptance.
    #[serde(default)]
    pub accepted: BTreeMap<EndpointId, Timestamp>,
}

impl Admissions {
    /// Whether `request` was held.
    pub fn has_held(&self, request: &Connection) -> bool {
        let by_time = self.held_until.is_some_and(|until| request.created.is_none_or(|created| created <= until));
        !self.accepted.contains_key(&request.endpoint) && (by_time || self.held.contains(&request.endpoint))
    }

    fn was_just_accepted(&self, endpoint: &EndpointId, now: Timestamp) -> bool {
        self.accepted.get(endpoint).is_some_and(|at| now.duration_since(*at) < ACCEPTED_FOR)
    }

    /// The record after a run with these decisions.
    #[must_use]
    pub fn next(&self, decided: &Decided, now: Timestamp) -> Self {
        let Decided { hold, parked, accepted, latest } = decided;
        let still = self.accepted.iter().filter(|(endpoint, _)| self.was_just_accepted(endpoint, now));
        let still = still.map(|(endpoint, at)| (endpoint.clone(), *at));
        let anew = accepted.iter().filter(|endpoint| !self.was_just_accepted(endpoint, now));
        Self {
            held: hold.iter().chain(parked.difference(hold)).take(MAX_HELD).cloned().collect(),
            held_until: (parked.len() > MAX_HELD).then(|| latest.or(self.held_until).unwrap_or(now)),
            accepted: still.chain(anew.map(|endpoint| (endpoint.clone(), now))).take(MAX_ACCEPTED).collect(),
        }
    }

    /// The merged record, if this one is newer than the one that the run read: it keeps both sides' entries.
    #[must_use]
    pub fn merge(&self, older: &Decided, now: Timestamp) -> Self {
        let next = self.next(older, now);
        let held = self.held.union(&next.held).take(MAX_HELD).cloned().collect();
        Self { held, held_until: self.held_until.max(next.held_until), ..next }
    }
}

/// A run's decisions on dbt's requests on one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub hold: BTreeSet<EndpointId>,
    /// `hold`, and earlier held requests not accepted since: rejected, deleted, or no longer listed.
    pub parked: BTreeSet<EndpointId>,
    /// The endpoints that EC2 accepted.
    pub accepted: Vec<EndpointId>,
    /// Creation time of the newest parked request.
    pub latest: Option<Timestamp>,
}

impl Decided {
    /// The decisions on `connections`, from `admission`, the endpoints that EC2 `accepted`, and the record `before` the
    /// run.
    pub fn new<'a>(
        connections: impl IntoIterator<Item = &'a Connection>,
        policy: &Policy,
        before: &Admissions,
        admission: Admission,
        accepted: Vec<EndpointId>,
    ) -> Self {
        let hold = admission.hold;
        let went_in: BTreeSet<&EndpointId> = admission.accept.iter().chain(&accepted).collect();
        // An unknown state does not prove that somebody accepted the request.
        let is_in = |connection: &Connection| {
            let verdict = decide(connection, policy);
            matches!(verdict, Verdict::Establishing | Verdict::Established) || went_in.contains(&connection.endpoint)
        };
        let is_parked = |connection: &&Connection| {
            !is_in(connection) && (hold.contains(&connection.endpoint) || before.has_held(connection))
        };
        let listed: BTreeMap<&EndpointId, &Connection> =
            connections.into_iter().map(|connection| (&connection.endpoint, connection)).collect();
        let unlisted = before.held.iter().filter(|endpoint| !listed.contains_key(endpoint));
        let parked: Vec<&Connection> = listed.values().copied().filter(is_parked).collect();
        Self {
            latest: parked.iter().filter_map(|connection| connection.created).max(),
            parked: parked.iter().map(|connection| &connection.endpoint).chain(unlisted).cloned().collect(),
            hold,
            accepted,
        }
    }
}

/// The admission of dbt's requests on one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Requests that fit, oldest first.
    pub accept: Vec<EndpointId>,
    /// All other requests.
    pub hold: BTreeSet<EndpointId>,
}

/// Decides on dbt's requests on `service` from all its `connections` and the stored decisions; `None` if the table
/// could not be read.
pub fn admit(
    connections: &[Connection],
    policy: &Policy,
    service: &ServiceId,
    before: Option<&Admissions>,
    now: Timestamp,
) -> Admission {
    let room = Room::new(policy, service);
    let on_service = || connections.iter().filter(|connection| connection.service == *service);
    let mut requests: Vec<&Connection> =
        on_service().filter(|connection| decide(connection, policy) == Verdict::DbtRequest).collect();
    // A recently accepted endpoint keeps its place and is not held. A request without a creation time counts as the
    // youngest.
    let just_accepted = |endpoint: &EndpointId| before.is_some_and(|before| before.was_just_accepted(endpoint, now));
    requests.sort_by_key(|request| {
        let created = request.created.unwrap_or(Timestamp::MAX);
        (!just_accepted(&request.endpoint), created, request.endpoint.clone())
    });
    let waiting: BTreeSet<&EndpointId> = requests.iter().map(|request| &request.endpoint).collect();
    let recent =
        before.into_iter().flat_map(|before| before.accepted.keys()).filter(|endpoint| just_accepted(endpoint));
    let connected = on_service().filter(|connection| takes_room(connection, policy)).map(|found| &found.endpoint);
    let placed: BTreeSet<&EndpointId> =
        connected.chain(recent).filter(|endpoint| !waiting.contains(endpoint)).collect();
    let mut admission = Admission::default();
    for request in requests {
        let held = before.map(|before| before.has_held(request));
        let taken = placed.len() + admission.accept.len();
        if is_admitted(&request.endpoint, room, taken, held) {
            admission.accept.push(request.endpoint.clone());
        } else if !just_accepted(&request.endpoint) {
            admission.hold.insert(request.endpoint.clone());
        }
    }
    admission
}

/// dbt's requests that EC2's list alone shows as held, for callers that cannot read the stored decisions.
pub fn held_by_the_list(
    topology: &Topology,
    policy: &Policy,
    service: &ServiceId,
    now: Timestamp,
) -> BTreeSet<EndpointId> {
    let connections = topology.connections.as_ref().and_then(|read| read.as_deref().ok()).unwrap_or_default();
    admit(connections, policy, service, Some(&Admissions::default()), now).hold
}

impl Plan {
    /// dbt's requests that [`admit`] admits. `before` has each service's stored decisions; a missing service could not
    /// be read.
    pub fn accepts(
        connections: &[Connection],
        policy: &Policy,
        before: &BTreeMap<ServiceId, Admissions>,
        now: Timestamp,
    ) -> Self {
        let admitted = |service: &ServiceId| admit(connections, policy, service, before.get(service), now).accept;
        let accept = policy.services.iter().map(|service| (service.clone(), admitted(service)));
        Self { accept: accept.filter(|(_, endpoints)| !endpoints.is_empty()).collect(), ..Self::default() }
    }
}

/// Whether `connection` is dbt's and connected, being set up, or in a state that this version does not know.
pub fn takes_room(connection: &Connection, policy: &Policy) -> bool {
    let is_dbts = connection.owner.as_ref().is_some_and(|owner| policy.dbt_accounts.contains(owner));
    let verdict = decide(connection, policy);
    is_dbts && matches!(verdict, Verdict::Establishing | Verdict::Established | Verdict::UnknownState)
}

/// Whether the decision on dbt's requests depends on the stored decisions.
pub fn needs_memory(connections: &[Connection], policy: &Policy) -> bool {
    let depends = |connection: &Connection| {
        decide(connection, policy) == Verdict::DbtRequest && Room::new(policy, &connection.service) != Room::Any
    };
    connections.iter().any(depends)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::AccountId;
    use crate::snapshot::ConnectionState;
    use crate::testing::{self, at, connection, endpoint, service, settings};

    const DBT: Option<&str> = Some(testing::DBT);

    fn policy_with(variables: &[(&str, &str)]) -> Policy {
        settings(variables).policy
    }

    /// The numbers of service 1's endpoints that are accepted and held.
    fn decided(
        connections: &[Connection],
        policy: &Policy,
        before: Option<&Admissions>,
    ) -> (Vec<EndpointId>, BTreeSet<EndpointId>) {
        let Admission { accept, hold } = admit(connections, policy, &service(1), before, at(9, 0));
        (accept, hold)
    }

    /// The record after a run at `now` that saw `connections` and accepted these endpoints.
    fn remember(connections: &[Connection], before: &Admissions, accepted: &[u32], now: Timestamp) -> Admissions {
        let policy = policy_with(&[]);
        let admission = admit(connections, &policy, &service(1), Some(before), now);
        before.next(&Decided::new(connections, &policy, before, admission, endpoints(accepted)), now)
    }

    fn endpoints(numbers: &[u32]) -> Vec<EndpointId> {
        numbers.iter().map(|number| endpoint(*number)).collect()
    }

    fn set(numbers: &[u32]) -> BTreeSet<EndpointId> {
        endpoints(numbers).into_iter().collect()
    }

    fn request(number: u32) -> Connection {
        connection(number, DBT, "pendingAcceptance")
    }

    #[test]
    fn requests_are_accepted_oldest_first_while_there_is_room() {
        let created = |number, created| Connection { created, ..request(number) };
        let requests =
            [created(1, None), created(2, Some(at(8, 30))), created(3, Some(at(8, 10))), created(4, Some(at(8, 10)))];
        let none = Admissions::default();
        assert_eq!(decided(&requests, &policy_with(&[]), Some(&none)), (endpoints(&[3]), set(&[1, 2, 4])));
        let two = policy_with(&[("MAX_DBT_ENDPOINTS", "2")]);
        assert_eq!(decided(&requests, &two, Some(&none)), (endpoints(&[3, 4]), set(&[1, 2])));
        let any = policy_with(&[("MAX_DBT_ENDPOINTS", "0")]);
        assert_eq!(decided(&requests, &any, None), (endpoints(&[3, 4, 2, 1]), set(&[])), "it waits for no table");
    }

    #[test]
    fn an_endpoint_of_dbt_takes_room_unless_it_is_broken_or_gone() {
        for (state, takes) in [
            ("pending", true),
            ("available", true),
            ("partial", true),
            ("newState", true),
            ("rejected", false),
            ("failed", false),
            ("expired", false),
            ("deleted", false),
        ] {
            let connections = [connection(1, DBT, state), request(2)];
            let (accept, _) = decided(&connections, &policy_with(&[]), Some(&Admissions::default()));
            assert_eq!(accept.is_empty(), takes, "{state}");
        }
        let untrusted = [connection(1, Some(testing::UNTRUSTED), "available"), request(2)];
        assert_eq!(decided(&untrusted, &policy_with(&[]), Some(&Admissions::default())).0, endpoints(&[2]));
    }

    #[test]
    fn a_parked_request_stays_held_after_the_first_endpoint_leaves() {
        let policy = policy_with(&[]);
        let both = [connection(1, DBT, "available"), request(2)];
        let none = Admissions::default();
        assert_eq!(decided(&both, &policy, Some(&none)), (vec![], set(&[2])));
        let remembered = remember(&both, &none, &[], at(8, 0));
        let alone = [connection(1, DBT, "deleted"), request(2), request(3)];
        assert_eq!(decided(&alone, &policy, Some(&remembered)), (endpoints(&[3]), set(&[2])), "a new one does");
        let named = policy_with(&[("EXPECTED_ENDPOINTS", &format!("{}={}", service(1), endpoint(2)))]);
        assert_eq!(decided(&[request(2)], &named, Some(&remembered)).0, endpoints(&[2]), "a person named it");
    }

    #[test]
    fn a_held_request_is_forgotten_only_if_it_was_accepted() {
        let both = [connection(1, DBT, "available"), request(2)];
        let remembered = remember(&both, &Admissions::default(), &[], at(8, 0));
        for state in ["rejected", "deleted", "expired"] {
            let answered = [connection(1, DBT, "available"), connection(2, DBT, state)];
            assert_eq!(remember(&answered, &remembered, &[], at(8, 5)), remembered, "{state}");
        }
        assert_eq!(remember(&both[..1], &remembered, &[], at(8, 5)), remembered, "a list that lacks it once");
        let accepted = [connection(1, DBT, "available"), connection(2, DBT, "pending")];
        assert_eq!(remember(&accepted, &remembered, &[], at(8, 5)), Admissions::default());
    }

    #[test]
    fn a_request_is_held_until_the_table_is_read() {
        let pending = [request(1)];
        assert_eq!(decided(&pending, &policy_with(&[]), None), (vec![], set(&[1])));
        assert_eq!(decided(&pending, &policy_with(&[]), Some(&Admissions::default())).0, endpoints(&[1]));
    }

    #[test]
    fn an_accepted_request_keeps_its_place_while_the_list_lags() {
        let policy = policy_with(&[]);
        let older = Connection { created: Some(at(7, 0)), ..request(2) };
        let lagging = [request(1), older.clone()];
        let remembered = remember(&lagging[..1], &Admissions::default(), &[1], at(8, 50));
        assert_eq!(decided(&lagging, &policy, Some(&remembered)), (endpoints(&[1]), set(&[2])));
        assert_eq!(decided(&lagging[1..], &policy, Some(&remembered)), (vec![], set(&[2])), "not even listed");
        let long_ago = remember(&lagging[..1], &Admissions::default(), &[1], at(8, 44));
        assert_eq!(
            decided(&[older], &policy, Some(&long_ago)).0,
            endpoints(&[2]),
            "after fifteen minutes the list counts"
        );
    }

    #[test]
    fn a_merge_keeps_the_newer_runs_decisions() {
        let newer = remember(&[connection(1, DBT, "available"), request(2)], &Admissions::default(), &[1], at(8, 50));
        let older = Decided { hold: set(&[3]), parked: set(&[3]), accepted: endpoints(&[4]), latest: None };
        let merged = newer.merge(&older, at(8, 51));
        assert_eq!(merged.held, set(&[2, 3]));
        assert_eq!(merged.accepted, BTreeMap::from([(endpoint(1), at(8, 50)), (endpoint(4), at(8, 51))]));
    }

    #[test]
    fn requests_beyond_the_id_limit_are_remembered_by_time() {
        let mut many: Vec<Connection> = (2..=2000).map(request).collect();
        many.push(connection(1, DBT, "available"));
        let remembered = remember(&many, &Admissions::default(), &[], at(8, 30));
        assert!(remembered.held.len() == 500 && serde_json::to_string(&remembered).unwrap().len() < 20_000);
        assert_eq!(decided(&[request(1999)], &policy_with(&[]), Some(&remembered)).0, vec![]);
        let later = Connection { created: Some(at(8, 1)), ..request(3000) };
        assert_eq!(decided(&[later], &policy_with(&[]), Some(&remembered)).0, endpoints(&[3000]));
    }

    proptest! {
        /// Whatever EC2 lists from run to run: a held request stays out until somebody else accepts it, and no run
        /// accepts more than the room allows.
        #[test]
        fn a_held_request_is_never_accepted_later(
            lists in prop::collection::vec(prop::collection::vec(0..7usize, 6), 1..12), limit in 1..4usize,
        ) {
            let states = [
                None, Some("pendingAcceptance"), Some("pending"), Some("available"), Some("rejected"), Some("deleted"), Some("new"),
            ];
            let policy = policy_with(&[("MAX_DBT_ENDPOINTS", &limit.to_string())]);
            let (mut remembered, mut held) = (Admissions::default(), BTreeSet::new());
            for (list, minute) in lists.iter().zip(0..) {
                let listed = list.iter().zip(1..).filter_map(|(state, number)| Some(connection(number, DBT, states[*state]?)));
                let (connections, now): (Vec<Connection>, _) = (listed.collect(), at(9, minute));
                let is_in = |endpoint: &EndpointId| {
                    let accepted = |found: &Connection| ["pending", "available"].contains(&found.state.to_string().as_str());
                    connections.iter().any(|found| found.endpoint == *endpoint && accepted(found))
                };
                held.retain(|endpoint| !is_in(endpoint));
                let admission = admit(&connections, &policy, &service(1), Some(&remembered), now);
                prop_assert!(admission.accept.iter().all(|endpoint| !held.contains(endpoint)));
                let connected = connections.iter().filter(|found| takes_room(found, &policy)).count();
                prop_assert!(admission.accept.is_empty() || connected + admission.accept.len() <= limit);
                held.extend(admission.hold.iter().cloned());
                let accepted = admission.accept.clone();
                remembered = remembered.next(&Decided::new(&connections, &policy, &remembered, admission, accepted), now);
            }
        }

        /// Of any connections, the guard accepts only dbt's requests on a configured service: never more than the room
        /// allows, no held request, and with expected endpoints no others.
        #[test]
        fn nothing_is_accepted_beyond_the_room(
            rows in prop::collection::vec(
                (0..3u32, 0..4usize, "pendingAcceptance|PENDINGACCEPTANCE|pending|available|[a-zA-Z]{0,9}", 0..3i8), 0..20),
            limit in 0..4usize,
            expects in prop::collection::btree_set(1..20u32, 0..3),
            held in prop::collection::btree_set(1..20u32, 0..5),
            is_read in any::<bool>(),
        ) {
            let owners = [DBT, Some(testing::UNTRUSTED), None, Some("555555555555")];
            let connections: Vec<Connection> = rows
                .iter()
                .zip(1..)
                .map(|((on, owner, state, hour), number)| {
                    let created = Some(at(*hour, 0));
                    Connection { service: service(*on), created, ..connection(number, owners[*owner], state) }
                })
                .collect();
            let expected: Vec<String> = expects.iter().map(|number| endpoint(*number).to_string()).collect();
            let expected = if expected.is_empty() { String::new() } else { format!("{}={}", service(1), expected.join("+")) };
            let policy = policy_with(&[
                ("KNOWN_ACCOUNTS", "555555555555"),
                ("MAX_DBT_ENDPOINTS", &limit.to_string()),
                ("EXPECTED_ENDPOINTS", &expected),
            ]);
            let held: BTreeSet<EndpointId> = held.iter().map(|number| endpoint(*number)).collect();
            let before = is_read.then(|| (service(1), Admissions { held: held.clone(), ..Admissions::default() }));
            let plan = Plan::accepts(&connections, &policy, &before.into_iter().collect(), at(9, 0));
            prop_assert!(plan.reject.is_empty());
            let find = |id: &EndpointId| connections.iter().find(|connection| connection.endpoint == *id).unwrap();
            for (on, accepted) in &plan.accept {
                prop_assert_eq!(on, &service(1));
                for connection in accepted.iter().map(find) {
                    prop_assert_eq!(&connection.service, on);
                    prop_assert_eq!(connection.owner.as_ref().map(AccountId::as_str), DBT);
                    prop_assert_eq!(&connection.state, &ConnectionState::PendingAcceptance);
                }
                match Room::new(&policy, on) {
                    Room::Any => {}
                    Room::Exactly(expected) => prop_assert!(accepted.iter().all(|endpoint| expected.contains(endpoint))),
                    Room::AtMost(limit) => {
                        let connected = connections.iter().filter(|found| found.service == *on && takes_room(found, &policy));
                        prop_assert!(connected.count() + accepted.len() <= limit);
                        prop_assert!(is_read && accepted.iter().all(|endpoint| !held.contains(endpoint)));
                    }
                }
            }
        }
    }
}
