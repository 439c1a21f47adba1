//! The alert topic's subscriptions: drift-watcher reads them once an hour, and alerts sent without any subscription are
//! sent once more.

use std::collections::BTreeMap;

use attack::{Aws, End, FakeAws, Flaw, play, run_once};
use guard_core::alerts::record::{Key, Record, State};
use guard_core::checks::subscribers::Subscribers;
use jiff::{SignedDuration, Timestamp};

/// Stores the record of a topic whose first read, two hours ago, showed `number` subscriptions.
fn asked_two_hours_ago(aws: &mut FakeAws, number: usize) {
    let then = Timestamp::now() - SignedDuration::from_hours(2);
    let state = Subscribers { since: then, numbers: BTreeMap::from([(then, number)]), heard_since: None };
    let record = Record::new(State::Subscribers(state), then);
    let key = Key::new("drift-watcher", Key::SUBSCRIBERS, "guard").to_string();
    aws.table.add("guard", &key, &serde_json::to_string(&record).unwrap());
}

async fn run(aws: &Aws, function: &str, id: &str) -> Vec<String> {
    aws.lock().unwrap().published.clear();
    assert_eq!(run_once(function, aws, &[], id).await, End::Done);
    let fake = aws.lock().unwrap();
    fake.published.iter().map(|sent| format!("{} {}", sent.kind, sent.check)).collect()
}

#[test]
fn drift_watcher_reads_the_subscriptions_once_an_hour() {
    let aws = FakeAws::new(1).shared();
    play(async {
        run(&aws, "drift-watcher", "first").await;
        run(&aws, "drift-watcher", "second").await;
        assert_eq!(aws.lock().unwrap().count("ListSubscriptionsByTopic"), 1);
        End::Done
    });
}

#[test]
fn the_end_of_the_last_subscription_is_critical() {
    let confirmed = "arn:aws:sns:eu-central-1:111122223333:alerts:1";
    let flaw = Flaw { action: "ListSubscriptionsByTopic", find: confirmed, replace: "PendingConfirmation" };
    let aws = FakeAws { flaw: Some(flaw), ..FakeAws::new(1) }.shared();
    asked_two_hours_ago(&mut aws.lock().unwrap(), 1);
    play(async {
        assert_eq!(run(&aws, "drift-watcher", "first").await, ["firing delivery.subscribers"]);
        End::Done
    });
}

#[test]
fn an_alert_sent_without_a_subscription_is_sent_once_more() {
    let fake = FakeAws { connections: Vec::new(), others_allowed: [1].into(), ..FakeAws::new(1) };
    let aws = fake.shared();
    asked_two_hours_ago(&mut aws.lock().unwrap(), 0);
    play(async {
        assert_eq!(run(&aws, "connection-acceptor", "waits").await, ["firing connection.absent"]);
        assert_eq!(run(&aws, "connection-acceptor", "still").await, [""; 0]);
        assert_eq!(run(&aws, "drift-watcher", "confirmed").await, ["firing service.principals"], "SNS lists one now");
        assert_eq!(run(&aws, "connection-acceptor", "again").await, ["firing connection.absent"]);
        assert_eq!(run(&aws, "connection-acceptor", "once").await, [""; 0]);
        End::Done
    });
}
