//! Two thousand notifications at once, ten concurrent instances and one table; and an endless stream of notifications.
//! These tests run in real time, because the debounce compares events with the clock.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use attack::{End, FakeAws, Row, RunningFunction, report};
use guard_aws::testing::notification;
use guard_core::testing::{DBT, UNTRUSTED, endpoint, service};
use jiff::Timestamp;

const NOTIFICATIONS: usize = 2_000;
const INSTANCES: usize = 10;

/// dbt's requests, and those of others.
const REQUESTS: std::ops::RangeInclusive<u32> = 1..=10;
const OTHERS: std::ops::RangeInclusive<u32> = 11..=20;

/// The maximum number of reads of the connections in one run: one, and three more to confirm its changes. The list
/// contains all endpoints that the notifications name, so no run reads again because of a missing one.
const READS_PER_RUN: usize = 1 + 3;

#[test]
fn a_storm_accepts_each_request_once_with_one_message() {
    let mut fake = FakeAws::new(1);
    let row = |number, owner| Row::new(number, 1, Some(owner), "pendingAcceptance");
    fake.connections =
        REQUESTS.map(|number| row(number, DBT)).chain(OTHERS.map(|number| row(number, UNTRUSTED))).collect();
    let aws = fake.shared();
    let sent = Timestamp::now().to_string();
    // A hundred notifications name each request; every tenth notification is SNS's second delivery of the previous one.
    let event = |number: usize| {
        let name = endpoint(u32::try_from(number % 20).unwrap() + 1);
        let id = format!("m-{}", if number % 10 == 9 { number - 1 } else { number });
        notification(&id, &sent, &format!(r#"{{"serviceId":"{}","vpcEndpointId":"{name}"}}"#, service(1)))
    };
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ends = runtime.block_on(async {
        let instances = (0..INSTANCES).map(async |first| {
            let instance = RunningFunction::new("connection-acceptor", &aws, &[("MAX_DBT_ENDPOINTS", "11")]);
            let mut ends = Vec::new();
            for number in (first..NOTIFICATIONS).step_by(INSTANCES) {
                ends.push(instance.run(&format!("run-{number}"), &event(number)).await);
            }
            ends
        });
        futures_util::future::join_all(instances).await.concat()
    });
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert_eq!(ends.len(), NOTIFICATIONS);
    assert!(ends.iter().all(|end| *end == End::Done), "no notification fails, so Lambda repeats none");

    let fake = aws.lock().unwrap();
    let requested: BTreeSet<String> = REQUESTS.map(|number| endpoint(number).to_string()).collect();
    let accepted: BTreeSet<String> = fake.accepted.keys().cloned().collect();
    assert_eq!(accepted, requested);
    assert!(fake.accepted.values().all(|times| *times == 1));
    // A second delivery counts as Lambda's retry, which it may be, so it runs again.
    let runs = 2 * seconds + NOTIFICATIONS / 10;
    let reads = fake.count("DescribeVpcEndpointConnections");
    report(&format!("{seconds} s, {} calls, {reads} reads, {} messages", fake.calls.len(), fake.messages.len()));
    assert!(reads <= runs + READS_PER_RUN, "{reads} reads");
    assert!(fake.accept_calls.len() <= 2 * accepted.len(), "at most two runs decided before the first had accepted");
    assert_eq!(fake.reject_calls, []);
    assert_eq!(fake.messages.len(), 1, "{:?}", fake.published);
    let about: BTreeSet<(String, String)> =
        fake.published.iter().map(|sent| (sent.check.clone(), sent.resource.clone())).collect();
    assert_eq!(about.len(), fake.published.len(), "each once");
    assert_eq!(about.len(), 10 + 1, "dbt's ten connections, and one untrusted account");
}

/// Each notification arrives as soon as it is sent, and Lambda runs concurrent instances for them.
#[test]
fn a_steady_stream_causes_at_most_two_runs_a_second() {
    const A_SECOND: u32 = 10;
    const SECONDS: u32 = 4;
    let mut fake = FakeAws::new(1);
    fake.connections = OTHERS.map(|number| Row::new(number, 1, Some(UNTRUSTED), "pendingAcceptance")).collect();
    let aws = fake.shared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runs = (0..A_SECOND * SECONDS).map(async |number| {
        let instance = RunningFunction::new("connection-acceptor", &aws, &[]);
        tokio::time::sleep(Duration::from_secs(1) * number / A_SECOND).await;
        let body = format!(r#"{{"serviceId":"{}","vpcEndpointId":"{}"}}"#, service(1), endpoint(11));
        let event = notification(&format!("m-{number}"), &Timestamp::now().to_string(), &body);
        instance.run(&format!("run-{number}"), &event).await
    });
    let began = Instant::now();
    let ends = runtime.block_on(futures_util::future::join_all(runs));
    assert!(ends.iter().all(|end| *end == End::Done));
    let reads = aws.lock().unwrap().count("DescribeVpcEndpointConnections");
    // No other run fits into the wait before the first run.
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    report(&format!("a steady stream: {} notifications in {seconds} s, {reads} reads", ends.len()));
    assert!(reads <= 2 * seconds, "{reads} reads in {seconds} s");
}
