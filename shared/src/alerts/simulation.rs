//! Histories of many runs with everything that can go wrong between them: is everything told, once, in order?

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

use super::{Report, Teller, Untold};
use crate::checks::{Check, Observation, Severity, Status};
use crate::snapshot::Unseen;
use crate::testing::aws::{Request, Table, config, published};
use crate::testing::{at, finding, service, settings};

/// The table and the topic, and what they refuse at present.
#[derive(Default)]
struct World {
    table: Table,
    table_reads_fail: bool,
    table_writes_fail: bool,
    topic_fails: bool,
    /// What people were told: the numbers and kinds of transitions, message by message.
    told: Vec<Vec<(u64, String)>>,
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
                let told = transitions.map(|transition| {
                    (transition["number"].as_u64().unwrap(), transition["kind"].as_str().unwrap().to_owned())
                });
                self.told.push(told.collect());
                published()
            }
        }
    }
}

/// What befalls a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// SNS refuses.
    TopicFails,
    /// It dies after it has stored what is new.
    DiesBeforeTelling,
    /// SNS takes the message, and then the run dies.
    DiesBeforeMarking,
    /// Another run does the same at the same time. The flags say who goes first: in reading, storing and telling.
    Doubled(bool, bool, bool),
}

struct Stage {
    world: Arc<Mutex<World>>,
    teller: Teller,
}

impl Stage {
    fn new() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let settings = settings(&[("REMIND_EVERY_HOURS", "0")]);
        let teller = Teller::new("drift-watcher", &config(&world, World::answer), &settings);
        Self { world, teller }
    }

    /// Stores what a look found: `b`ad, `g`ood or `?`.
    async fn settle(&self, look: char, items: Result<super::store::Items, Unseen>, now: Timestamp) -> Untold {
        let status = match look {
            'b' => Status::Fail(Box::new(finding(Severity::Critical))),
            'g' => Status::Pass,
            _ => Status::Unknown("no answer".to_owned()),
        };
        let resource = service(1).to_string();
        let round = [vec![Observation { check: Check::ServicePrincipals, resource, status }]];
        let service = service(1);
        let report = Report { service: &service, rounds: &round, connections: None, looked: now };
        self.teller.settle(report, items, now).await
    }

    async fn run(&self, look: char, fate: Fate, now: Timestamp) {
        let set = |change: &dyn Fn(&mut World)| change(&mut self.world.lock().unwrap());
        let service = service(1);
        let recall = || self.teller.recall(&service);
        match fate {
            Fate::Fine | Fate::TopicFails => {
                set(&|world| world.topic_fails = fate == Fate::TopicFails);
                let untold = self.settle(look, recall().await, now).await;
                let _ = self.teller.publish(untold, None, now).await;
                set(&|world| world.topic_fails = false);
            }
            Fate::DiesBeforeTelling => drop(self.settle(look, recall().await, now).await),
            Fate::DiesBeforeMarking => {
                let untold = self.settle(look, recall().await, now).await;
                set(&|world| world.table_writes_fail = true);
                let _ = self.teller.publish(untold, None, now).await;
                set(&|world| world.table_writes_fail = false);
            }
            Fate::Doubled(stores_after_both_read, second_stores_first, second_tells_first) => {
                let later = now + SignedDuration::from_millis(7);
                let first_items = recall().await;
                let (first, second) = if stores_after_both_read {
                    let second_items = recall().await;
                    if second_stores_first {
                        let second = self.settle(look, second_items, later).await;
                        (self.settle(look, first_items, now).await, second)
                    } else {
                        let first = self.settle(look, first_items, now).await;
                        (first, self.settle(look, second_items, later).await)
                    }
                } else {
                    let first = self.settle(look, first_items, now).await;
                    (first, self.settle(look, recall().await, later).await)
                };
                let order = if second_tells_first { [second, first] } else { [first, second] };
                for untold in order {
                    let _ = self.teller.publish(untold, None, now).await;
                }
            }
        }
    }

    fn told(&self) -> Vec<(u64, String)> {
        self.world.lock().unwrap().told.concat()
    }
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Fine),
        1 => Just(Fate::TopicFails),
        1 => Just(Fate::DiesBeforeTelling),
        1 => Just(Fate::DiesBeforeMarking),
        1 => (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(read, store, tell)| Fate::Doubled(read, store, tell)),
    ]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every stretch of badness is told once as firing and once as resolved, in order, and nothing else is, whatever
    /// befalls the runs; only what SNS took from a run that then died may be told again.
    #[test]
    fn every_stretch_is_told_once_and_in_order(
        history in prop::collection::vec((prop::sample::select(vec!['b', 'g', '?']), fates(), 1..6i64), 0..12),
    ) {
        let stage = Stage::new();
        let mut now = at(8, 0);
        for (look, fate, minutes) in &history {
            now += SignedDuration::from_mins(*minutes);
            block_on(stage.run(*look, *fate, now));
        }
        // In the end all is well, and two quiet runs make up for whatever was left; the first waits for no lease.
        for _ in 0..2 {
            now += SignedDuration::from_mins(3);
            block_on(stage.run('g', Fate::Fine, now));
        }
        let seen: String = history.iter().map(|(look, ..)| *look).filter(|look| *look != '?').collect();
        let stretches = seen.split('g').filter(|stretch| !stretch.is_empty()).count();
        let expected: Vec<(u64, String)> = (1..)
            .zip(["firing", "resolved"].into_iter().cycle().map(ToOwned::to_owned))
            .take(2 * stretches)
            .collect();
        let told = stage.told();
        let mut known = BTreeSet::new();
        let once: Vec<(u64, String)> = told.iter().filter(|transition| known.insert(transition.0)).cloned().collect();
        prop_assert_eq!(&once, &expected);
        let may_repeat = history.iter().any(|(_, fate, _)| *fate == Fate::DiesBeforeMarking);
        prop_assert!(may_repeat || told.len() == once.len(), "told again: {:?}", told);
    }
}

#[test]
fn a_table_that_cannot_be_read_makes_no_alert_silent_and_none_a_nuisance() {
    let stage = Stage::new();
    stage.world.lock().unwrap().table_reads_fail = true;
    for minute in 0..30 {
        block_on(stage.run('b', Fate::Fine, at(8, minute)));
    }
    assert_eq!(stage.told().len(), 1, "said, though nothing is remembered; not every minute");
    block_on(stage.run('b', Fate::Fine, at(9, 1)));
    assert_eq!(stage.told().len(), 2, "and again after an hour");
    block_on(stage.run('g', Fate::Fine, at(9, 2)));
    assert_eq!(stage.told().len(), 2, "what is over goes unsaid");
}

#[test]
fn a_table_that_cannot_be_written_makes_no_alert_silent() {
    let stage = Stage::new();
    stage.world.lock().unwrap().table_writes_fail = true;
    for minute in 0..30 {
        block_on(stage.run('b', Fate::Fine, at(8, minute)));
    }
    assert_eq!(stage.told(), [(1, "firing".to_owned())]);
}

#[test]
fn an_item_that_cannot_be_read_is_said_again_and_mended() {
    let stage = Stage::new();
    block_on(stage.run('b', Fate::Fine, at(8, 0)));
    stage.world.lock().unwrap().table.items[0]["record"]["S"] = "garbage".into();
    block_on(stage.run('b', Fate::Fine, at(8, 1)));
    block_on(stage.run('b', Fate::Fine, at(8, 2)));
    assert_eq!(stage.told().len(), 2);
    stage.world.lock().unwrap().table.items[0]["version"] = serde_json::json!({"S": "garbage"});
    block_on(stage.run('g', Fate::Fine, at(8, 3)));
    assert_eq!(stage.told().last().unwrap().1, "resolved");
}

#[test]
fn the_alerts_of_a_service_that_is_no_longer_configured_close_with_a_notice() {
    let stage = Stage::new();
    block_on(stage.teller.let_go(at(8, 0))).unwrap();
    block_on(stage.run('b', Fate::Fine, at(8, 1)));
    let other = service(2);
    let settings = settings(&[("ENDPOINT_SERVICE_IDS", other.as_str())]);
    let after = |minute| {
        let after = Teller::new("drift-watcher", &config(&stage.world, World::answer), &settings);
        block_on(after.let_go(at(8, minute)))
    };
    stage.world.lock().unwrap().topic_fails = true;
    assert!(after(2).is_err(), "what could not be told is not done");
    stage.world.lock().unwrap().topic_fails = false;
    for minute in 3..6 {
        after(minute).unwrap();
    }
    assert_eq!(stage.told(), [(1, "firing".to_owned()), (2, "notice".to_owned())]);
}
