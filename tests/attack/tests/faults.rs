//! Weather: calls that are throttled, fail, are reset, hang, whose answers are cut in half, or lost after AWS has done what
//! was asked. When it is calm again, everything has been sent, nothing twice but for the stated exceptions, and nothing
//! was called resolved that is not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use attack::faults::Plan;
use attack::{Api, Aws, End, FUNCTIONS, Instance, Published, Row, World, play, seeds};
use guard_aws::testing::scheduled;
use guard_core::testing::{DBT, UNTRUSTED};

const VARIABLES: &[(&str, &str)] = &[("REMIND_EVERY_HOURS", "0")];

/// Rounds of all functions during bad weather, and after it.
const ROUNDS: (usize, usize) = (4, 5);

const APIS: [&[Api]; 5] = [&[Api::Ec2], &[Api::Elb], &[Api::DynamoDb], &[Api::Sns], &[]];

/// On some of three endpoint services something is wrong, and on each dbt asks.
fn broken() -> World {
    let mut world = World::new(3);
    world.connections = vec![
        Row::new(1, 1, Some(DBT), "pendingAcceptance"),
        Row::new(2, 2, Some(DBT), "pendingAcceptance"),
        Row::new(3, 3, Some(DBT), "pendingAcceptance"),
        Row::new(4, 2, Some(UNTRUSTED), "available"),
        Row::new(5, 3, None, "pendingAcceptance"),
    ];
    (world.unhealthy, world.cross_zone_off, world.others_allowed) = ([1, 2].into(), [2].into(), [1, 3].into());
    world
}

/// Everything in order.
fn fix(world: &mut World) {
    world.connections.truncate(3);
    (world.unhealthy, world.cross_zone_off, world.others_allowed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
}

struct Story {
    aws: Aws,
    instances: Vec<Instance>,
    runs: usize,
    undone: usize,
}

impl Story {
    fn new(world: World) -> Self {
        let aws: Aws = Arc::new(Mutex::new(world));
        let instances = FUNCTIONS.iter().map(|name| Instance::new(name, &aws, VARIABLES)).collect();
        Self { aws, instances, runs: 0, undone: 0 }
    }

    async fn rounds(&mut self, rounds: usize, plan: Plan) {
        self.aws.lock().unwrap().plan = plan;
        for _ in 0..rounds {
            self.aws.lock().unwrap().wait_for_leases();
            for instance in &self.instances {
                self.runs += 1;
                let end = instance.run(&format!("run-{}", self.runs), &scheduled()).await;
                assert_ne!(end, End::OutOfTime, "a run knows its deadline");
                self.undone += usize::from(end != End::Done);
            }
        }
    }

    /// Bad weather, then calm; what was sent in that time, without what is about the guard itself.
    async fn weather(&mut self, plan: Plan) -> Vec<Published> {
        let before = self.aws.lock().unwrap().published.len();
        self.rounds(ROUNDS.0, plan).await;
        self.rounds(ROUNDS.1, Plan::Calm).await;
        let world = self.aws.lock().unwrap();
        world.published[before..].iter().filter(|sent| sent.check != "visibility.lost").cloned().collect()
    }
}

/// What was sent, each once.
fn news(published: &[Published]) -> BTreeSet<(&str, &str, &str, &str)> {
    published.iter().map(|sent| (&*sent.kind, &*sent.service, &*sent.check, &*sent.resource)).collect()
}

/// Checks that nothing was sent again without a stated reason: SNS's answer was lost, or the table failed in between.
fn assert_not_repeated(published: &[Published], world: &World, when: &str) {
    for (index, sent) in published.iter().enumerate() {
        let same = |other: &&Published| (other.about(), other.number, &other.kind) == (sent.about(), sent.number, &sent.kind);
        let Some(again) = published[index + 1..].iter().find(same) else { continue };
        let answer_lost = world.lost_answers.contains(&sent.publish);
        let table_failed = world.table_faults_at(sent.publish) != world.table_faults_at(again.publish);
        assert!(answer_lost || table_failed, "{when}: sent twice: {sent:?} {again:?}");
    }
}

fn check(seed: u64, percent: u64, apis: &[Api]) {
    let when = format!("ATTACK_SEED={seed}, {percent} % of {apis:?}");
    let storm = |seed| Plan::Storm { seed, percent, apis: apis.to_vec() };
    play(async {
        let mut undisturbed = Story::new(broken());
        let expected = undisturbed.weather(Plan::Calm).await;
        let mut story = Story::new(broken());
        let sent = story.weather(storm(seed)).await;
        assert_eq!(news(&sent), news(&expected), "{when}");
        assert!(sent.iter().all(|sent| sent.kind != "resolved"), "{when}: nothing was fixed: {sent:?}");

        fix(&mut undisturbed.aws.lock().unwrap());
        let expected = undisturbed.weather(Plan::Calm).await;
        fix(&mut story.aws.lock().unwrap());
        let sent_after = story.weather(storm(seed + 1_000_000)).await;
        assert_eq!(news(&sent_after), news(&expected), "{when}: after the fix");
        let world = story.aws.lock().unwrap();
        assert_not_repeated(&[sent, sent_after].concat(), &world, &when);
        assert!(world.accepted.values().all(|times| *times == 1) && world.accepted.len() == 3, "{when}");
        assert_eq!(world.reject_calls, [], "{when}");
        println!("{when}: {} calls, {} of {} runs left something undone", world.calls.len(), story.undone, story.runs);
    });
}

/// One seed for each API at the worst, and for all of them at each rate. `make attack` plays the others.
#[test]
fn after_bad_weather_everything_has_been_sent() {
    for seed in seeds(1) {
        for apis in APIS {
            check(seed, 50, apis);
        }
        check(seed, 5, &[]);
        check(seed, 20, &[]);
    }
}

/// Every API and all of them, at every rate.
#[test]
#[ignore = "long: make attack"]
fn long_after_bad_weather_everything_has_been_sent() {
    for seed in seeds(20) {
        for (apis, percent) in APIS.iter().flat_map(|apis| [5, 20, 50].map(|percent| (apis, percent))) {
            check(seed, percent, apis);
        }
    }
}
