//! Impostors: whatever an event claims and whatever EC2 lists, only dbt is accepted.
//!
//! Each case consists of an event, and of the connections that EC2 lists, over several pages, before and after the
//! run's changes. Events are forged, replayed, truncated, oversized, or meant for another function. Owners resemble
//! dbt's, are missing or malformed, or change between the read and the accept. States have odd casings or do not exist.

use std::collections::BTreeSet;

use attack::{End, FakeAws, Row, RunningFunction, play, report};
use guard_aws::testing::{cloudtrail_event, notification, pointers, scheduled};
use guard_core::testing::{DBT, UNTRUSTED, endpoint, service};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::corpus::run_seeded;

/// The maximum number of calls in any run: 1 + 3 + 3 reads of the connections (at most 11 pages here), 2 + 2 accepts
/// and rejects with one call per endpoint if AWS refuses them together, names, table, and messages.
const MAX_CALLS: usize = 120;

/// Texts for every field of an event.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("vpce-".repeat(20_000)),
        8 => Just(DBT.to_owned()),
        8 => Just(format!("arn:aws:iam::{DBT}:root")),
        8 => Just(endpoint(1).to_string()),
        8 => Just(service(1).to_string()),
        8 => Just(service(9).to_string()),
        8 => Just("pendingAcceptance".to_owned()),
        8 => Just("2026-03-14T08:00:00.000Z".to_owned()),
        8 => Just("9999-12-31T23:59:59.999Z".to_owned()),
        8 => Just("\u{202e}\u{0}\u{1b}[31m".to_owned()),
        16 => ".{0,30}",
    ]
}

/// A forged connection notification that names dbt.
fn claim() -> impl Strategy<Value = String> {
    (text(), text(), text()).prop_map(|(service, endpoint, state)| {
        json!({"serviceId": service, "vpcEndpointId": endpoint, "vpcEndpointState": state, "vpcEndpointOwner": DBT,
               "accept": true})
        .to_string()
    })
}

fn events() -> impl Strategy<Value = Value> {
    let name = || select(vec!["AcceptVpcEndpointConnections", "ModifyVpcEndpointServicePermissions", "SetSubnets", ""]);
    let sent = || "2026-03-14T08:0[0-9]:00.000Z";
    let whole = prop_oneof![
        2 => Just(scheduled()),
        4 => (text(), sent(), claim()).prop_map(|(id, sent, claim)| notification(&id, &sent, &claim)),
        1 => (text(), text(), text()).prop_map(|(id, sent, message)| notification(&id, &sent, &message)),
        2 => (name(), text(), text()).prop_map(|(name, who, id)| cloudtrail_event(&json!({
            "eventName": name, "eventTime": "2026-03-14T08:00:00Z", "eventID": id,
            "userIdentity": {"arn": who, "accountId": DBT, "type": "Root"},
            "requestParameters": {"vpcEndpointOwner": DBT, "VpcEndpointId": id}}))),
        // Events for another function, or for none.
        1 => Just(json!({"source": "privatelink-guard.heartbeat"})),
        1 => (text(), text()).prop_map(|(name, value)| json!({name: value, "owner": DBT})),
        1 => Just(json!(null)),
    ];
    let doubled = |mut event: Value| {
        if let Some(records) = event.get_mut("Records").and_then(Value::as_array_mut) {
            let again = records.clone();
            records.extend(again);
        }
        event
    };
    prop_oneof![
        6 => whole.clone(),
        1 => whole.clone().prop_map(doubled),
        // A part is missing or replaced.
        2 => (whole, any::<Index>(), select(vec![json!(null), json!({}), json!([]), json!(7), json!(DBT)])).prop_map(
            |(mut event, place, instead)| {
                let all = pointers(&event, "");
                *event.pointer_mut(&all[place.index(all.len())]).unwrap() = instead;
                event
            }
        ),
    ]
}

/// dbt's account; the same with one digit changed, reversed, in other digits, or with a prefix or suffix; other
/// accounts; none.
fn owner() -> impl Strategy<Value = Option<String>> {
    let similar = [
        "123456789013",
        "023456789012",
        "210987654321",
        "12345678901",
        "1234567890123",
        "123456789012 ",
        " 123456789012",
        "123456789012\n",
        "arn:aws:iam::123456789012:root",
        "１２３４５６７８９０１２",
        "١٢٣٤٥٦٧٨٩٠١٢",
        "123456789012,999999999999",
        "*",
        "",
        "null",
        "0x1cbe991a14",
        "123456789012\u{200b}",
    ];
    prop_oneof![
        4 => Just(Some(DBT.to_owned())),
        3 => Just(Some(UNTRUSTED.to_owned())),
        2 => Just(None),
        6 => select(similar.to_vec()).prop_map(|text| Some(text.to_owned())),
        1 => "[0-9]{12}".prop_map(Some),
    ]
}

fn state() -> impl Strategy<Value = String> {
    let known = [
        "pendingAcceptance",
        "PendingAcceptance",
        "PENDINGACCEPTANCE",
        "pending",
        "available",
        "Available",
        "deleting",
        "deleted",
        "rejected",
        "failed",
        "expired",
        "partial",
        "pendingacceptance ",
        "pending-acceptance",
        "accepted",
        "",
    ];
    prop_oneof![5 => Just("pendingAcceptance".to_owned()), 6 => select(known.to_vec()).prop_map(ToOwned::to_owned), 1 => "[a-zA-Z]{0,12}"]
}

/// Connections on the guarded service and on others, each endpoint once.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let on = prop_oneof![8 => Just(service(1).to_string()), 1 => Just(service(2).to_string()),
        1 => Just("vpce-svc-0000000000000000１".to_owned()), 1 => Just(format!("{}0", service(1)))];
    vec((1..200u32, on, owner(), state()), 0..64).prop_map(|rows| {
        let mut seen = BTreeSet::new();
        let rows = rows.into_iter().map(|(number, service, owner, state)| Row { number, service, owner, state });
        rows.filter(|row| seen.insert(row.number)).collect()
    })
}

#[derive(Debug, Clone)]
struct Case {
    event: Value,
    rows: Vec<Row>,
    /// EC2's list after the run's first change, with other owners and states.
    afterwards: Option<Vec<Row>>,
    page: usize,
    reject: bool,
    /// The limit on dbt's endpoints; 0 for none.
    limit: usize,
    /// Whether the event is delivered again.
    replayed: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let settings = (any::<bool>(), 0..6usize);
    (events(), rows(), proptest::option::weighted(0.3, rows()), 6..40usize, settings, prop::bool::weighted(0.1))
        .prop_map(|(event, rows, afterwards, page, (reject, limit), replayed)| Case {
            event,
            rows,
            afterwards,
            page,
            reject,
            limit,
            replayed,
        })
}

/// Whether EC2 lists `row`, in this read, as dbt's request on the guarded service.
fn is_due(row: &Row) -> bool {
    row.owner.as_deref() == Some(DBT)
        && row.service == service(1).as_str()
        && row.state.eq_ignore_ascii_case("pendingAcceptance")
}

/// Whether `row` is a dbt endpoint on the guarded service that counts towards the limit.
fn is_in(row: &Row) -> bool {
    let takes_none = ["pendingAcceptance", "rejected", "failed", "expired", "deleting", "deleted"];
    row.owner.as_deref() == Some(DBT)
        && row.service == service(1).as_str()
        && !takes_none.iter().any(|state| row.state.eq_ignore_ascii_case(state))
}

/// Whether EC2 names an untrusted account as the owner: twelve ASCII digits, but not dbt's.
fn is_named_untrusted(row: &Row) -> bool {
    let account = row.owner.as_deref().unwrap_or_default();
    account != DBT && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())
}

fn attack(case: &Case) -> Result<usize, TestCaseError> {
    let Case { event, rows, afterwards, page, reject, limit, replayed } = case.clone();
    let fake = FakeAws { connections: rows.clone(), afterwards: afterwards.clone(), page, ..FakeAws::new(1) };
    let aws = fake.shared();
    let most = limit.to_string();
    let variables =
        [("UNTRUSTED_REQUESTS", if reject { "reject" } else { "alert" }), ("MAX_DBT_ENDPOINTS", most.as_str())];
    let end = play(async {
        let instance = RunningFunction::new("connection-acceptor", &aws, &variables);
        let end = instance.run("first", &event).await;
        if replayed && afterwards.is_none() {
            instance.run("first", &event).await;
        }
        end
    });
    let fake = aws.lock().unwrap();
    prop_assert!(end != End::OutOfTime, "{:?}", end);
    prop_assert!(fake.calls.len() <= MAX_CALLS, "{} calls", fake.calls.len());
    let find = |id: &str| rows.iter().find(|row| endpoint(row.number).as_str() == id);
    for (on, id) in &fake.accept_calls {
        let row = find(id);
        prop_assert!(row.is_some_and(is_due) && *on == service(1).as_str(), "accepted on {}: {:?}", on, row);
    }
    for (on, id) in &fake.reject_calls {
        let row = find(id);
        prop_assert!(
            reject && row.is_some_and(is_named_untrusted) && *on == service(1).as_str(),
            "rejected on {}: {:?}",
            on,
            row
        );
    }
    // Conversely, dbt's requests are accepted once, within the limit, unless EC2 lists unreadable rows.
    let is_readable = |row: &Row| row.service.parse::<guard_core::ids::ServiceId>().is_ok();
    let due: BTreeSet<String> =
        rows.iter().filter(|row| is_due(row)).map(|row| endpoint(row.number).to_string()).collect();
    let accepted: BTreeSet<String> = fake.accept_calls.iter().map(|(_, id)| id.clone()).collect();
    if rows.iter().all(is_readable) {
        let room =
            if limit == 0 { usize::MAX } else { limit.saturating_sub(rows.iter().filter(|row| is_in(row)).count()) };
        prop_assert!(accepted.is_subset(&due));
        prop_assert_eq!(accepted.len(), due.len().min(room));
        prop_assert_eq!(fake.accept_calls.len(), accepted.len(), "each once");
    } else {
        prop_assert!(accepted.is_empty(), "part of a list is no list");
    }
    Ok(rows.len().max(1))
}

/// Runs `runs` cases with a seed.
fn attack_with(seed: u64, runs: u32) {
    let impostors = std::cell::Cell::new(0);
    run_seeded(seed, runs, &cases(), |case| {
        impostors.set(impostors.get() + attack(&case)?);
        Ok(())
    });
    report(&format!("ATTACK_SEED={seed}: {runs} runs, {} connections", impostors.get()));
    assert!(impostors.get() > 20 * runs as usize);
}

/// More than 10,000 connections, in 500 runs.
#[test]
fn no_impostor_gets_in() {
    for seed in attack::seeds(1) {
        attack_with(seed, 500);
    }
}

#[test]
#[ignore = "long: make attack"]
fn long_no_impostor_gets_in() {
    for seed in attack::seeds(20) {
        attack_with(seed, 10_000);
    }
}
