//! Calls that AWS refuses, and a table that does not answer.

use std::time::Duration;

use attack::faults::{Fault, FaultPlan, Trouble};
use attack::{Call, End, FakeAws, Row, RunningFunction, play};
use guard_aws::testing::notification;
use guard_core::testing::{DBT, UNTRUSTED, endpoint};
use serde_json::Value;
use tokio::time::Instant;

/// Runs connection-acceptor on a notification while these calls fail.
fn run(rows: Vec<Row>, which: fn(&Call) -> bool, fault: Fault) -> (End, FakeAws) {
    let (end, _, aws) = run_with(FaultPlan::always(which, fault), rows);
    (end, aws)
}

/// Runs connection-acceptor on a notification. Returns its end and its duration, and AWS afterwards.
fn run_with(plan: FaultPlan, rows: Vec<Row>) -> (End, Duration, FakeAws) {
    let aws = FakeAws { connections: rows, plan, ..FakeAws::new(1) }.shared();
    let event: Value = notification("m-1", "2026-03-14T08:00:00.000Z", "");
    let variables = [("UNTRUSTED_REQUESTS", "reject"), ("MAX_DBT_ENDPOINTS", "3")];
    let (end, took) = play(async {
        let began = Instant::now();
        (RunningFunction::new("connection-acceptor", &aws, &variables).run("first", &event).await, began.elapsed())
    });
    let fake = std::mem::take(&mut *aws.lock().unwrap());
    (end, took, fake)
}

fn requests(owner: &str) -> Vec<Row> {
    [1, 2, 3].map(|number| Row::new(number, 1, Some(owner), "pendingAcceptance")).to_vec()
}

/// Whether the call accepts or rejects endpoint 2.
fn answers_the_second(call: &Call) -> bool {
    let is_answer = ["AcceptVpcEndpointConnections", "RejectVpcEndpointConnections"].contains(&call.action.as_str());
    is_answer && call.about.contains(endpoint(2).as_str())
}

fn sent(aws: &FakeAws) -> Vec<(&str, &str)> {
    aws.published.iter().map(|sent| (sent.kind.as_str(), sent.resource.as_str())).collect()
}

#[test]
fn a_refused_endpoint_blocks_no_other_endpoint() {
    let (end, aws) = run(requests(DBT), answers_the_second, Fault::Refuse);
    assert_eq!(end, End::Done, "it is an alert, and the next run tries again");
    let accepted: Vec<&str> = aws.accepted.keys().map(String::as_str).collect();
    assert_eq!(accepted, [endpoint(1).as_str(), endpoint(3).as_str()]);
    assert_eq!(aws.count("AcceptVpcEndpointConnections"), 1 + 3, "together, then one by one, and not again");
    let alert = aws.published.iter().find(|sent| sent.kind == "firing").unwrap();
    assert_eq!((alert.check.as_str(), alert.resource.as_str()), ("connection.dbt", endpoint(2).as_str()));
    assert!(alert.evidence.contains("InvalidParameter"), "{alert:?}");
}

#[test]
fn a_refused_reject_is_split_by_endpoint_and_reported() {
    let (end, aws) = run(requests(UNTRUSTED), answers_the_second, Fault::Refuse);
    assert_eq!(end, End::Done);
    let states: Vec<&str> = aws.connections.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(states, ["rejected", "pendingAcceptance", "rejected"]);
    assert_eq!(aws.count("RejectVpcEndpointConnections"), 1 + 3);
    let alert = aws.published.iter().find(|sent| sent.check == "connection.untrusted").unwrap();
    assert!(alert.action.starts_with("AWS refused to reject it: InvalidParameter"), "{alert:?}");
}

/// For lack of a permission, or by a proxy.
#[test]
fn a_denied_call_is_not_split_and_the_run_ends_in_error() {
    for fault in [Fault::Deny, Fault::Page] {
        let (end, aws) = run(requests(DBT), |call| call.action == "AcceptVpcEndpointConnections", fault);
        assert!(matches!(&end, End::Undone(why) if why.contains("ec2:AcceptVpcEndpointConnections")), "{end:?}");
        assert_eq!(aws.count("AcceptVpcEndpointConnections"), 1, "{fault:?}");
        assert!(sent(&aws).contains(&("firing", endpoint(1).as_str())), "{:?}", sent(&aws));
    }
}

#[test]
fn a_run_starts_although_the_table_fails_its_claim() {
    for fault in [Fault::Error, Fault::Throttle, Fault::Deny, Fault::Reset, Fault::Hang] {
        let claims =
            FaultPlan::Next { times: 1, which: |call| call.action == "UpdateItem", trouble: Trouble::Before(fault) };
        let (end, took, aws) = run_with(claims, requests(DBT));
        assert_eq!(end, End::Done, "{fault:?}");
        assert!(took < Duration::from_secs(2), "{fault:?}: {took:?}");
        assert_eq!(aws.accepted.len(), 3, "{fault:?}");
        assert!(aws.calls[0].trouble.is_some(), "{fault:?}: the claim");
    }
}

/// A request from dbt beside requests to reject from three untrusted accounts, whose findings are stored first.
#[test]
fn accepting_waits_for_no_table_write() {
    let untrusted = ["999999999991", "999999999992", "999999999993"].into_iter().zip(2..);
    let untrusted = untrusted.map(|(owner, number)| Row::new(number, 1, Some(owner), "pendingAcceptance"));
    let rows = [Row::new(1, 1, Some(DBT), "pendingAcceptance")].into_iter().chain(untrusted).collect();
    let (_, aws) = run(rows, |call| call.action == "PutItem", Fault::Hang);
    assert_eq!(aws.accepted.keys().collect::<Vec<_>>(), [endpoint(1).as_str()]);
    let actions = aws.calls.iter().map(|call| call.action.as_str());
    let before: Vec<&str> = actions.take_while(|action| *action != "AcceptVpcEndpointConnections").collect();
    let writes = before.iter().filter(|action| **action == "PutItem").count();
    assert!(writes <= 2, "the claim of the run, and one that is not waited for: {before:?}");
}
