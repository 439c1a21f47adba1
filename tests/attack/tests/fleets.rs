//! Ten thousand endpoints: in dbt's account, where other customers of dbt request the service and the limit is one; in
//! an untrusted account; in a known account.

use attack::{Aws, End, FakeAws, Row, play, report, run_once};
use guard_core::testing::{DBT, UNTRUSTED, endpoint};

const REQUESTS: u32 = 10_000;

const KNOWN: &str = "555555555555";

/// Runs connection-acceptor once. Returns the number of table writes, and the kind, check and resource of each sent
/// transition.
async fn run(aws: &Aws, id: &str, change: impl FnOnce(&mut FakeAws)) -> (usize, Vec<(String, String)>) {
    run_with(aws, (id, &[]), change).await
}

async fn run_with(
    aws: &Aws,
    (id, variables): (&str, &[(&str, &str)]),
    change: impl FnOnce(&mut FakeAws),
) -> (usize, Vec<(String, String)>) {
    let before = {
        let mut fake = aws.lock().unwrap();
        change(&mut fake);
        fake.published.clear();
        fake.count("PutItem")
    };
    assert_eq!(run_once("connection-acceptor", aws, variables, id).await, End::Done);
    let fake = aws.lock().unwrap();
    let sent = fake.published.iter().map(|sent| (format!("{} {}", sent.kind, sent.check), sent.resource.clone()));
    (fake.count("PutItem") - before, sent.collect())
}

fn answer_all(aws: &mut FakeAws, state: &str) {
    for row in aws.connections.iter_mut().filter(|row| row.state == "pendingAcceptance") {
        state.clone_into(&mut row.state);
    }
}

fn largest_item(aws: &FakeAws) -> usize {
    aws.table.items.iter().map(|item| item.to_string().len()).max().unwrap_or_default()
}

#[test]
fn ten_thousand_requests_cause_one_accept_and_one_alert() {
    let mut fake = FakeAws { page: 1000, ..FakeAws::new(1) };
    fake.connections = (1..=REQUESTS).map(|number| Row::new(number, 1, Some(DBT), "pendingAcceptance")).collect();
    let aws = fake.shared();
    play(async {
        let (first, sent) = run(&aws, "first", |_| {}).await;
        let held = |kind: &str| sent.iter().filter(|(sent, _)| sent == kind).count();
        assert_eq!((held("firing connection.dbt"), held("notice connection"), sent.len()), (1, 1, 2), "{sent:?}");
        let (steady, sent) = run(&aws, "second", |_| {}).await;
        assert_eq!((steady, sent.len()), (1, 0), "the alert's counters: {sent:?}");
        let (more, sent) = run(&aws, "third", |fake| {
            let new = (1..=1000).map(|number| Row::new(REQUESTS + number, 1, Some(DBT), "pendingAcceptance"));
            fake.connections.extend(new);
        })
        .await;
        assert_eq!(sent, [], "more of them on the same day are no news");
        let (gone, sent) = run(&aws, "fourth", |fake| fake.connections.retain(|row| row.number != 1)).await;
        let about: Vec<&str> = sent.iter().map(|(about, _)| about.as_str()).collect();
        assert!(about.contains(&"firing connection.absent"), "dbt has lost its endpoint: {about:?}");
        let (answered, sent) = run(&aws, "fifth", |fake| answer_all(fake, "rejected")).await;
        assert!(sent.iter().any(|(about, _)| about == "resolved connection.dbt"), "{sent:?}");
        assert!(sent.len() < 3, "nothing about each of them: {}", sent.len());
        let (deleted, sent) = run(&aws, "sixth", |fake| fake.connections.clear()).await;
        assert_eq!(sent, []);
        let fake = aws.lock().unwrap();
        assert_eq!(fake.accepted.keys().collect::<Vec<_>>(), [endpoint(1).as_str()], "the oldest, and no other ever");
        let (items, largest) = (fake.table.items.len(), largest_item(&fake));
        report(&format!(
            "{REQUESTS} parked requests: {first} writes at first, {steady} while nothing changes, {more} for 1,000 more, {gone} \
             when dbt's endpoint goes, {answered} when all are rejected, {deleted} when all are gone; {items} items, the largest \
             of {largest} bytes"
        ));
        assert!([first, more, gone, answered, deleted].iter().all(|writes| *writes <= 8));
        assert!(largest < 100_000, "{largest} bytes");
        End::Done
    });
}

/// A person accepted all endpoints, and then the account creates more.
#[test]
fn a_fleet_of_endpoints_causes_one_message_and_small_records() {
    for (owner, variables, expected) in [
        (UNTRUSTED, &[][..], "firing connection.untrusted"),
        (KNOWN, &[("KNOWN_ACCOUNTS", KNOWN)], "notice connection"),
    ] {
        let mut fake = FakeAws { page: 1000, ..FakeAws::new(1) };
        fake.connections.extend((2..=REQUESTS).map(|number| Row::new(number, 1, Some(owner), "available")));
        let aws = fake.shared();
        play(async {
            let (first, sent) = run_with(&aws, ("first", variables), |_| {}).await;
            let its = sent.iter().filter(|(about, resource)| about == expected && resource == owner);
            assert_eq!(its.count(), 1, "{sent:?}");
            let (more, sent) = run_with(&aws, ("second", variables), |fake| {
                let new = (1..=1000).map(|number| Row::new(REQUESTS + number, 1, Some(owner), "available"));
                fake.connections.extend(new);
            })
            .await;
            assert_eq!(sent, [], "more of them on the same day are no news");
            let fake = aws.lock().unwrap();
            let (items, largest) = (fake.table.items.len(), largest_item(&fake));
            report(&format!(
                "{REQUESTS} endpoints of {owner}: {first} writes, {more} for 1,000 more; {items} items, the largest of {largest} bytes"
            ));
            assert!(first.max(more) <= 8 && items <= 8 && largest < 100_000);
            End::Done
        });
    }
}
