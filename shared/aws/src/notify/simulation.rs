//! Histories of many runs with everything that can go wrong between them: is everything sent, once, in order?

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use guard_core::alerts::reconcile::Report;
use guard_core::checks::{CheckResult, Severity, Status, catalogue};
use guard_core::testing::{at, finding, service, settings};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

use super::{LoadedState, Notifier, Outbox};
use crate::testing::{Request, Table, config, published};

/// The table and the topic, and what they refuse at present.
#[derive(Default)]
struct World {
    table: Table,
    table_reads_fail: bool,
    table_writes_fail: bool,
    topic_fails: bool,
    /// What people heard: the numbers and kinds of transitions, message by message.
    heard: Vec<Vec<(u64, String)>>,
}

impl World {
    fn answer(&mut self, request: Request) -> (u16, String) {
        let unavailable = || (503, "{}".to_owned());
        match request {
            Request::Json(action, _) if action == "Query" && self.table_reads_fail => unavailable(),
            Request::Json(action, _) if action == "PutItem" && self.table_writes_fail => unavailable(),
            Request::Json(action, body) => self.table.answer(&action, &body),
            Request::Query(_) if self.topic_fails => unavailable(),
            Request::Query(form) => {
                let bodies: Value = serde_json::from_str(&form.get("Message").unwrap()).unwrap();
                let data: Value = serde_json::from_str(bodies["sqs"].as_str().unwrap()).unwrap();
                let transitions = data["transitions"].as_array().unwrap().iter();
                let heard = transitions.map(|transition| {
                    (transition["number"].as_u64().unwrap(), transition["kind"].as_str().unwrap().to_owned())
                });
                self.heard.push(heard.collect());
                published()
            }
        }
    }
}

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// SNS refuses.
    TopicFails,
    /// It dies after it has stored the transitions.
    DiesBeforeSending,
    /// SNS accepts the message, and then the run dies.
    DiesBeforeAcknowledging,
    /// Another run does the same at the same time. The flags say who goes first in reading, storing and sending.
    Doubled(bool, bool, bool),
}

struct Stage {
    world: Arc<Mutex<World>>,
    notifier: Notifier,
}

impl Stage {
    fn new() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let settings = settings(&[("REMIND_EVERY_HOURS", "0")]);
        let notifier = Notifier::new("drift-watcher", &config(&world, World::answer), &settings);
        Self { world, notifier }
    }

    /// Stores what a run found: `b`ad, `g`ood or `?`.
    async fn reconcile(&self, result: char, state: LoadedState, now: Timestamp) -> Outbox {
        let status = match result {
            'b' => Status::Fail(Box::new(finding(Severity::Critical))),
            'g' => Status::Pass,
            _ => Status::Unknown("no answer".to_owned()),
        };
        let check = catalogue::find("service.principals").unwrap();
        let service = service(1);
        let result = CheckResult { check, resource: service.to_string(), status };
        let rounds = vec![vec![result]];
        let report = Report { service: &service, rounds, connections: None, observed_at: now };
        self.notifier.reconcile(&report, state, now).await
    }

    async fn run(&self, result: char, fate: Fate, now: Timestamp) {
        let set = |change: &dyn Fn(&mut World)| change(&mut self.world.lock().unwrap());
        let service = service(1);
        let load = || self.notifier.store.load(&service);
        match fate {
            Fate::Fine | Fate::TopicFails => {
                set(&|world| world.topic_fails = fate == Fate::TopicFails);
                let outbox = self.reconcile(result, load().await, now).await;
                let _ = self.notifier.publish(outbox, None, now).await;
                set(&|world| world.topic_fails = false);
            }
            Fate::DiesBeforeSending => drop(self.reconcile(result, load().await, now).await),
            Fate::DiesBeforeAcknowledging => {
                let outbox = self.reconcile(result, load().await, now).await;
                set(&|world| world.table_writes_fail = true);
                let _ = self.notifier.publish(outbox, None, now).await;
                set(&|world| world.table_writes_fail = false);
            }
            Fate::Doubled(stores_after_both_read, second_stores_first, second_sends_first) => {
                let later = now + SignedDuration::from_millis(7);
                let first_items = load().await;
                let (first, second) = if stores_after_both_read {
                    let second_items = load().await;
                    if second_stores_first {
                        let second = self.reconcile(result, second_items, later).await;
                        (self.reconcile(result, first_items, now).await, second)
                    } else {
                        let first = self.reconcile(result, first_items, now).await;
                        (first, self.reconcile(result, second_items, later).await)
                    }
                } else {
                    let first = self.reconcile(result, first_items, now).await;
                    (first, self.reconcile(result, load().await, later).await)
                };
                let order = if second_sends_first { [second, first] } else { [first, second] };
                for outbox in order {
                    let _ = self.notifier.publish(outbox, None, now).await;
                }
            }
        }
    }

    fn heard(&self) -> Vec<(u64, String)> {
        self.world.lock().unwrap().heard.concat()
    }
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Fine),
        1 => Just(Fate::TopicFails),
        1 => Just(Fate::DiesBeforeSending),
        1 => Just(Fate::DiesBeforeAcknowledging),
        1 => (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(read, store, send)| Fate::Doubled(read, store, send)),
    ]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every failing stretch is sent once as firing and once as resolved, in order, and nothing else is, whatever happens to
    /// the runs. Only what SNS accepted from a run that then died may be sent again.
    #[test]
    fn every_stretch_is_sent_once_and_in_order(
        history in prop::collection::vec((prop::sample::select(vec!['b', 'g', '?']), fates(), 1..6i64), 0..12),
    ) {
        let stage = Stage::new();
        let mut now = at(8, 0);
        for (result, fate, minutes) in &history {
            now += SignedDuration::from_mins(*minutes);
            block_on(stage.run(*result, *fate, now));
        }
        // In the end the check passes, and two undisturbed runs send what was left; the first may find a lease.
        for _ in 0..2 {
            now += SignedDuration::from_mins(3);
            block_on(stage.run('g', Fate::Fine, now));
        }
        let seen: String = history.iter().map(|(result, ..)| *result).filter(|result| *result != '?').collect();
        let stretches = seen.split('g').filter(|stretch| !stretch.is_empty()).count();
        let expected: Vec<(u64, String)> = (1..)
            .zip(["firing", "resolved"].into_iter().cycle().map(ToOwned::to_owned))
            .take(2 * stretches)
            .collect();
        let heard = stage.heard();
        let mut known = BTreeSet::new();
        let once: Vec<(u64, String)> = heard.iter().filter(|transition| known.insert(transition.0)).cloned().collect();
        prop_assert_eq!(&once, &expected);
        let may_repeat = history.iter().any(|(_, fate, _)| *fate == Fate::DiesBeforeAcknowledging);
        prop_assert!(may_repeat || heard.len() == once.len(), "sent again: {:?}", heard);
    }
}

#[test]
fn without_reading_the_table_alerts_are_sent_once_an_hour() {
    let stage = Stage::new();
    stage.world.lock().unwrap().table_reads_fail = true;
    for minute in 0..30 {
        block_on(stage.run('b', Fate::Fine, at(8, minute)));
    }
    assert_eq!(stage.heard().len(), 1, "sent without the table, but not every minute");
    block_on(stage.run('b', Fate::Fine, at(9, 1)));
    assert_eq!(stage.heard().len(), 2, "and again after an hour");
    block_on(stage.run('g', Fate::Fine, at(9, 2)));
    assert_eq!(stage.heard().len(), 2, "what is over is not sent");
}

#[test]
fn without_writing_the_table_alerts_are_sent() {
    let stage = Stage::new();
    stage.world.lock().unwrap().table_writes_fail = true;
    for minute in 0..30 {
        block_on(stage.run('b', Fate::Fine, at(8, minute)));
    }
    assert_eq!(stage.heard(), [(1, "firing".to_owned())]);
}

#[test]
fn an_item_that_cannot_be_read_is_sent_again_and_repaired() {
    let stage = Stage::new();
    block_on(stage.run('b', Fate::Fine, at(8, 0)));
    stage.world.lock().unwrap().table.items[0]["record"]["S"] = "garbage".into();
    block_on(stage.run('b', Fate::Fine, at(8, 1)));
    block_on(stage.run('b', Fate::Fine, at(8, 2)));
    assert_eq!(stage.heard().len(), 2);
    stage.world.lock().unwrap().table.items[0]["version"] = serde_json::json!({"S": "garbage"});
    block_on(stage.run('g', Fate::Fine, at(8, 3)));
    assert_eq!(stage.heard().last().unwrap().1, "resolved");
}

#[test]
fn the_alerts_of_a_service_that_is_no_longer_configured_close_with_a_notice() {
    let stage = Stage::new();
    block_on(stage.notifier.close_removed_services(at(8, 0))).unwrap();
    block_on(stage.run('b', Fate::Fine, at(8, 1)));
    let other = service(2);
    let settings = settings(&[("ENDPOINT_SERVICE_IDS", other.as_str())]);
    let after = |minute| {
        let after = Notifier::new("drift-watcher", &config(&stage.world, World::answer), &settings);
        block_on(after.close_removed_services(at(8, minute)))
    };
    stage.world.lock().unwrap().topic_fails = true;
    assert!(after(2).is_err(), "what could not be sent is not done");
    stage.world.lock().unwrap().topic_fails = false;
    for minute in 3..6 {
        after(minute).unwrap();
    }
    assert_eq!(stage.heard(), [(1, "firing".to_owned()), (2, "notice".to_owned())]);
}
