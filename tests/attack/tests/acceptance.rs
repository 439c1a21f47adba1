//! connection-acceptor's reactions to EC2's responses, and its messages. `impostors.rs` tests who is accepted at all.

use std::sync::atomic::{AtomicU32, Ordering};

use attack::faults::{Fault, FaultPlan};
use attack::{End, FakeAws, Flaw, Row, RunningFunction, Table, play};
use guard_aws::testing::{cloudtrail_event, notification, scheduled};
use guard_core::alerts::record::{Key, Record, State};
use guard_core::snapshot::{EndpointService, StoredPath};
use guard_core::testing::{DBT, UNTRUSTED, at, endpoint, endpoint_service, service, topology};
use serde_json::{Value, json};

const WAITING: &str = "pendingAcceptance";

/// dbt's connection on service 1.
fn dbt(number: u32, state: &str) -> Row {
    Row::new(number, 1, Some(DBT), state)
}

fn untrusted(number: u32, state: &str) -> Row {
    Row::new(number, 1, Some(UNTRUSTED), state)
}

fn with(connections: Vec<Row>) -> FakeAws {
    FakeAws { connections, ..FakeAws::new(1) }
}

/// AWS at a later run: the same table, these connections, and no calls or messages yet.
fn later(before: FakeAws, connections: Vec<Row>) -> FakeAws {
    FakeAws { table: before.table, connections, ..FakeAws::new(before.services) }
}

/// Runs the function in this AWS. Returns its end, and AWS afterwards.
fn run(fake: FakeAws, variables: &[(&str, &str)], event: &Value) -> (End, FakeAws) {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let id = format!("run-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let aws = fake.shared();
    let end = play(async { RunningFunction::new("connection-acceptor", &aws, variables).run(&id, event).await });
    let fake = std::mem::take(&mut *aws.lock().unwrap());
    (end, fake)
}

/// Runs the function on schedule, and asserts that it completes everything.
fn done(aws: FakeAws, variables: &[(&str, &str)]) -> FakeAws {
    let (end, aws) = run(aws, variables, &scheduled());
    assert_eq!(end, End::Done);
    aws
}

/// Runs the function on each of these lists in turn.
fn history(lists: &[Vec<Row>], variables: &[(&str, &str)]) -> Vec<FakeAws> {
    let (mut table, mut worlds) = (Table::default(), Vec::new());
    for rows in lists {
        let aws = done(FakeAws { table, ..with(rows.clone()) }, variables);
        table = aws.table.clone();
        worlds.push(aws);
    }
    worlds
}

fn accepted(aws: &FakeAws) -> Vec<&str> {
    aws.accept_calls.iter().map(|(_, id)| id.as_str()).collect()
}

fn rejected(aws: &FakeAws) -> Vec<&str> {
    aws.reject_calls.iter().map(|(_, id)| id.as_str()).collect()
}

fn subjects(aws: &FakeAws) -> Vec<&str> {
    aws.messages.iter().map(|(subject, _)| subject.as_str()).collect()
}

/// All calls except those to the table.
fn calls(aws: &FakeAws) -> Vec<&str> {
    let of_table = ["Query", "PutItem", "UpdateItem", "DeleteItem", "GetItem"];
    aws.calls.iter().map(|call| call.action.as_str()).filter(|action| !of_table.contains(action)).collect()
}

fn transitions(aws: &FakeAws) -> Vec<Value> {
    let parse = |(_, message): &(String, String)| serde_json::from_str::<Value>(message).unwrap();
    aws.messages.iter().flat_map(|message| parse(message)["transitions"].as_array().unwrap().clone()).collect()
}

// ---- EC2's responses
// -------------------------------------------------------------------------------------------------

#[test]
fn an_unreadable_row_fails_only_its_own_service() {
    let variables = [("UNTRUSTED_REQUESTS", "reject"), ("MAX_DBT_ENDPOINTS", "2")];
    let connected = Row::new(4, 2, Some(DBT), "available");
    let requests = [dbt(1, WAITING), Row::new(2, 2, Some(DBT), WAITING), Row::new(3, 2, Some(UNTRUSTED), WAITING)];
    let attachment = Row::new(0, 2, Some(DBT), "available");
    let before = done(FakeAws { connections: vec![connected], ..FakeAws::new(2) }, &variables);
    let broken = later(before, [&requests[..], &[attachment]].concat());
    let (end, aws) = run(broken, &variables, &scheduled());
    let why = format!("a connection of {} is incomplete", service(2));
    assert!(matches!(end, End::Undone(undone) if undone.contains(&why)), "Lambda asks again");
    assert_eq!(accepted(&aws), [endpoint(1).as_str()], "who is on service 2 is not known");
    assert_eq!(aws.reject_calls, []);
    let is_missed = |aws: &FakeAws| aws.messages.iter().any(|(_, text)| text.contains(endpoint(4).as_str()));
    assert!(!is_missed(&aws), "the row may be of the endpoint that was connected");
    let (_, aws) = run(later(aws, requests.to_vec()), &variables, &scheduled());
    assert!(accepted(&aws).contains(&endpoint(2).as_str()) && is_missed(&aws), "{:?}", aws.accept_calls);
}

#[test]
fn a_notified_request_that_ec2_lists_late_is_accepted() {
    let named = |on: u32| json!({"serviceId": service(on).to_string(), "vpcEndpointId": endpoint(1).to_string()});
    let event = |message: &Value| notification("m-1", "2026-03-14T08:00:00.000Z", &message.to_string());
    let late = || FakeAws { reads: [vec![], vec![], vec![dbt(1, WAITING)]].into(), ..with(Vec::new()) };
    let (_, aws) = run(late(), &[], &event(&named(1)));
    assert_eq!(accepted(&aws), [endpoint(1).as_str()]);
    let (end, _) = run(with(Vec::new()), &[], &event(&named(1)));
    assert!(
        matches!(end, End::Undone(why) if why.contains("does not show an endpoint")),
        "Lambda asks again in a minute"
    );
    let mut deleted = named(1);
    deleted["eventName"] = "Delete".into();
    assert_eq!(run(with(Vec::new()), &[], &event(&deleted)).0, End::Done, "what is deleted is in no list");
    let (_, aws) = run(late(), &[], &event(&named(9)));
    let reads = aws.count("DescribeVpcEndpointConnections");
    assert_eq!((reads, accepted(&aws).len()), (1, 0), "another service's notification is no reason to wait");
}

#[test]
fn a_refused_item_fails_neither_the_batch_nor_the_run() {
    let nameless = Flaw { action: "AcceptVpcEndpointConnections", find: "resourceId", replace: "unknown" };
    for flaw in [None, Some(nameless)] {
        let requests = vec![dbt(1, WAITING), dbt(2, WAITING)];
        let aws = FakeAws { refused_items: [(1, "Odd")].into(), flaw, ..with(requests) };
        let aws = done(aws, &[("MAX_DBT_ENDPOINTS", "2")]);
        assert_eq!(accepted(&aws), [endpoint(1).as_str(), endpoint(2).as_str()]);
        // A warning, because dbt is connected through the other endpoint.
        let subject = format!("[WARNING] {}: cannot accept dbt's request {}", service(1), endpoint(1));
        assert!(matches!(&subjects(&aws)[..], [only] if only.starts_with(&subject)), "{:?}", subjects(&aws));
    }
}

#[test]
fn losing_the_race_to_accept_is_no_error() {
    let aws = FakeAws { refused_items: [(1, "InvalidState")].into(), ..with(vec![dbt(1, WAITING)]) };
    let aws = done(FakeAws { afterwards: Some(vec![dbt(1, "available")]), ..aws }, &[]);
    assert_eq!(subjects(&aws), [format!("[NOTICE] {}: dbt is connected through {}", service(1), endpoint(1))]);
}

#[test]
fn a_refused_reject_is_reported_as_refused() {
    let aws =
        FakeAws { refused_items: [(2, "Odd")].into(), ..with(vec![dbt(1, "available"), untrusted(2, "available")]) };
    let aws = done(aws, &[("UNTRUSTED_REQUESTS", "reject")]);
    let alert = aws.published.iter().find(|sent| sent.check == "connection.untrusted").unwrap();
    assert!(alert.action.starts_with("AWS refused to reject it: Odd: not waiting."), "{}", alert.action);
}

#[test]
fn a_connection_recorded_as_dbts_is_never_revoked() {
    let variables = [("UNTRUSTED_REQUESTS", "reject")];
    let first = done(with(vec![dbt(1, "available")]), &variables);
    // EC2 returns a wrong owner.
    for owner in [None, Some(UNTRUSTED)] {
        let rows = vec![Row::new(1, 1, owner, "available"), untrusted(2, "available")];
        let (_, aws) = run(FakeAws { table: first.table.clone(), ..with(rows) }, &variables, &scheduled());
        assert_eq!(rejected(&aws), [endpoint(2).as_str()], "{owner:?}");
        assert!(subjects(&aws).iter().any(|subject| subject.contains("[CRITICAL]")), "but people hear of it");
    }
}

#[test]
fn a_run_with_nothing_to_answer_makes_one_call() {
    let aws = done(with(vec![dbt(1, "pending"), untrusted(2, "rejected")]), &[]);
    assert_eq!(calls(&aws), ["DescribeVpcEndpointConnections"]);
}

#[test]
fn a_dry_run_changes_nothing_and_announces_itself() {
    let variables = [("DRY_RUN", "true"), ("UNTRUSTED_REQUESTS", "reject")];
    let aws = done(with(vec![dbt(1, WAITING), untrusted(2, "available")]), &variables);
    assert_eq!((&aws.accept_calls[..], &aws.reject_calls[..]), (&[][..], &[][..]));
    let text = &aws.messages[0].1;
    let waits = format!("dbt's request {} waits to be accepted", endpoint(1));
    for words in
        ["The guard would reject it, but DryRun is on.", "DryRun is on, so the guard does not accept it.", &waits]
    {
        assert!(text.contains(words), "{text}");
    }
}

// ---- held requests --------------------------------------------------------------------------------------------------

#[test]
fn a_parked_request_stays_held_after_the_first_endpoint_leaves() {
    let lists = [
        vec![dbt(1, "available"), dbt(2, WAITING)],
        vec![dbt(1, "deleted"), dbt(2, WAITING)],
        vec![dbt(2, WAITING), dbt(3, WAITING)],
    ];
    let worlds = history(&lists, &[]);
    let new = endpoint(3).to_string();
    assert_eq!(worlds.iter().flat_map(accepted).collect::<Vec<_>>(), [new.as_str()], "the company's new endpoint does");
    let named = format!("{}={}", service(1), endpoint(2));
    let worlds = history(&lists[2..], &[("EXPECTED_ENDPOINTS", &named)]);
    assert_eq!(accepted(&worlds[0]), [endpoint(2).as_str()]);
}

#[test]
fn held_requests_stay_held_if_the_confirming_read_fails() {
    let waiting = vec![dbt(1, WAITING), dbt(2, WAITING)];
    let broken = [waiting.clone(), vec![dbt(0, "available")]].concat();
    let (_, aws) = run(FakeAws { afterwards: Some(broken), ..with(waiting) }, &[], &scheduled());
    assert_eq!(accepted(&aws), [endpoint(1).as_str()], "there is room for one");
    let (_, aws) = run(later(aws, vec![dbt(2, WAITING)]), &[], &scheduled());
    assert_eq!(aws.accept_calls, []);
}

#[test]
fn held_requests_share_one_alert_until_people_answer() {
    let first = dbt(1, "available");
    let lists = [
        vec![first.clone(), dbt(2, WAITING), dbt(3, WAITING)],
        vec![first.clone(), dbt(2, WAITING), dbt(3, WAITING), dbt(4, WAITING)],
        vec![first.clone(), dbt(2, "rejected"), dbt(3, "rejected"), dbt(4, "deleted")],
        vec![first, dbt(2, "rejected")],
    ];
    let worlds = history(&lists, &[]);
    let [held, more, answered, after] = &worlds[..] else { panic!() };
    let numbers = [held, more, answered, after].map(|aws| aws.messages.len());
    assert_eq!(numbers, [1, 0, 1, 0]);
    let expected = format!("[WARNING] {}: 2 dbt requests held: MaxDbtEndpoints", service(1));
    assert!(subjects(held)[0].starts_with(&expected), "{:?}", subjects(held));
    assert!(subjects(answered)[0].starts_with("[RESOLVED] vpce-svc-00000...: no dbt request is held"));
}

#[test]
fn a_manually_accepted_request_is_reported_beyond_the_limit() {
    let lists = [vec![dbt(1, "available"), dbt(2, WAITING)], vec![dbt(1, "available"), dbt(2, "available")]];
    let worlds = history(&lists, &[]);
    let subject = format!("[WARNING] {}: 2 dbt endpoints connected: MaxDbtEndpoints allows", service(1));
    assert!(subjects(&worlds[1])[0].starts_with(&subject), "{:?}", subjects(&worlds[1]));
    let two = history(&lists, &[("MAX_DBT_ENDPOINTS", "2")]);
    assert_eq!(accepted(&two[0]), [endpoint(2).as_str()], "with the limit raised, there is nothing to hold");
}

// ---- without the table ----------------------------------------------------------------------------------------------

/// An AWS whose DynamoDB denies queries.
fn without_table(connections: Vec<Row>) -> FakeAws {
    FakeAws { plan: FaultPlan::always(|call| call.action == "Query", Fault::Deny), ..with(connections) }
}

#[test]
fn without_the_table_requests_are_held_and_reported() {
    let (end, aws) = run(without_table(vec![dbt(1, WAITING)]), &[], &scheduled());
    assert!(matches!(end, End::Undone(_)), "Lambda asks again");
    assert_eq!(aws.accept_calls, []);
    let all = format!("{:?}", subjects(&aws));
    assert!(all.contains("1 request held: state table unreadable"), "{all}");
    let (_, aws) = run(without_table(vec![dbt(1, WAITING)]), &[("MAX_DBT_ENDPOINTS", "0")], &scheduled());
    assert_eq!(accepted(&aws), [endpoint(1).as_str()], "without a limit, accepting waits for no table");
}

#[test]
fn a_connection_without_a_record_sends_no_notice() {
    let (end, aws) = run(without_table(vec![dbt(1, "available"), untrusted(2, "available")]), &[], &scheduled());
    assert!(matches!(end, End::Undone(_)));
    let [subject] = &subjects(&aws)[..] else { panic!("{:?}", subjects(&aws)) };
    assert!(subject.contains("untrusted account 999999999999 is CONNECTED") && !subject.contains("more"), "{subject}");
}

// ---- events and causes ----------------------------------------------------------------------------------------------

#[test]
fn a_notification_covered_by_another_run_reads_nothing() {
    let connected = || vec![dbt(1, "available")];
    let (end, first) = run(with(connected()), &[], &notification("m-1", "2026-03-14T08:00:00.000Z", ""));
    assert_eq!((end, calls(&first)[0]), (End::Done, "DescribeVpcEndpointConnections"));
    let reads = |event: &Value| {
        let aws = FakeAws { table: first.table.clone(), ..with(connected()) };
        run(aws, &[], event).1.count("DescribeVpcEndpointConnections")
    };
    let second = notification("m-2", "2026-03-14T08:00:01.000Z", "");
    assert_eq!(reads(&second), 0, "the run of m-1 began long after m-2 was sent");
    let again = notification("m-1", "2026-03-14T08:00:00.000Z", "");
    assert_eq!(reads(&again), 1, "the same notification again is Lambda's retry: the first run failed");
    let later = notification("m-3", "2100-01-01T00:00:00.000Z", "");
    assert_eq!(reads(&later), 1, "a notification that the run cannot cover");
    assert_eq!(reads(&scheduled()), 1, "the schedule is never covered");
}

#[test]
fn a_change_on_one_service_sends_nothing_about_another() {
    let steady = vec![Row::new(10, 2, Some(DBT), "available"), Row::new(11, 2, Some(UNTRUSTED), "available")];
    let aws = done(FakeAws { connections: steady.clone(), ..FakeAws::new(2) }, &[]);
    assert_eq!(subjects(&aws).len(), 2, "waiting for dbt on service 1, an untrusted account on 2");
    // dbt requests a connection on service 1: it is accepted and confirmed, and service 2 is not mentioned.
    let aws = done(later(aws, [vec![dbt(1, WAITING)], steady].concat()), &[]);
    let subject = format!("[NOTICE] {}: dbt is connected through {}", service(1), endpoint(1));
    assert!(matches!(&subjects(&aws)[..], [only] if only.starts_with(&subject)), "{:?}", subjects(&aws));
}

/// CloudTrail's record of an accepted request.
fn acceptance(event: &str, number: u32, name: &str) -> Value {
    cloudtrail_event(&json!({
        "eventName": "AcceptVpcEndpointConnections", "eventID": event, "eventTime": "2026-03-14T08:00:00Z",
        "userIdentity": {"arn": format!("arn:aws:iam::111122223333:user/{name}")},
        "requestParameters": {"AcceptVpcEndpointConnectionsRequest": {
            "ServiceId": service(1).to_string(), "VpcEndpointId": {"tag": 1, "content": endpoint(number).to_string()},
        }},
    }))
}

const ANOTHER: &str = "888888888888";

fn two_untrusted() -> FakeAws {
    with(vec![dbt(1, "available"), untrusted(7, "available"), Row::new(8, 1, Some(ANOTHER), "available")])
}

#[test]
fn the_alert_names_who_accepted_an_untrusted_account() {
    let (_, aws) = run(two_untrusted(), &[], &acceptance("e-1", 7, "one"));
    let cause = |account: &str| {
        let transitions = transitions(&aws);
        transitions.iter().find(|transition| transition["resource"] == account).unwrap()["cause"]["principal"].clone()
    };
    assert_eq!(cause(UNTRUSTED), "arn:aws:iam::111122223333:user/one");
    assert_eq!(cause(ANOTHER), Value::Null, "another account's endpoint, another cause");
}

/// drift-watcher's stored path behind service 1, with the service's name.
fn stored_path(name: &str) -> (String, String) {
    let service_1 = EndpointService { name: Some(name.to_owned()), ..endpoint_service() };
    let path = StoredPath::new(&topology(service_1, []), &service(1), at(8, 0), at(8, 0)).unwrap();
    let record = Record::new(State::Path(Some(Box::new(path))), at(8, 0));
    let key = Key::new("drift-watcher", Key::PATH, service(1).as_str());
    (key.to_string(), serde_json::to_string(&record).unwrap())
}

#[test]
fn a_covered_change_becomes_a_cause_of_the_other_runs_alert() {
    let (_, mut first) = run(two_untrusted(), &[], &acceptance("e-1", 7, "one"));
    let (item, record) = stored_path("postgres");
    first.table.add(service(1).as_str(), &item, &record);
    let (end, second) = run(later(first, Vec::new()), &[], &acceptance("e-2", 8, "two"));
    assert_eq!(end, End::Done);
    assert_eq!(calls(&second), ["Publish"], "EC2 is not asked again");
    assert!(subjects(&second)[0].starts_with("[NOTICE] postgres: "), "the stored name: {:?}", subjects(&second));
    let transitions = transitions(&second);
    let [notice] = &transitions[..] else { panic!("{transitions:?}") };
    assert_eq!((notice["kind"].as_str(), notice["resource"].as_str()), (Some("notice"), Some(ANOTHER)));
    assert_eq!(notice["cause"]["principal"], "arn:aws:iam::111122223333:user/two");
}

#[test]
fn an_untrusted_account_on_a_new_endpoint_fires_again() {
    let lists = [
        vec![untrusted(1, "available")],
        vec![untrusted(1, "rejected"), untrusted(2, WAITING)],
        vec![untrusted(1, "rejected"), untrusted(2, "available")],
        vec![untrusted(3, "available"), untrusted(2, "available")],
    ];
    let with_dbt = lists.map(|rows| [vec![dbt(9, "available")], rows].concat());
    let numbers: Vec<usize> = history(&with_dbt, &[]).iter().map(|aws| aws.messages.len()).collect();
    // Connected; rejected and requested again, with a notice; connected again; one more, which only a later reminder
    // names.
    assert_eq!(numbers, [1, 1, 1, 0]);
}
