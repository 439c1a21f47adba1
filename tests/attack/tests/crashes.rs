//! A run that is killed at every call: before AWS gets it, and after AWS has done it but before the answer. Between two
//! calls nothing that lasts can change, so these are all the places where a kill can matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use attack::faults::FaultPlan;
use attack::{Aws, End, FUNCTIONS, FakeAws, Published, Row, RunningFunction, play};
use guard_aws::testing::scheduled;
use guard_core::testing::{DBT, UNTRUSTED};

/// Everything that can be sent at once, and every change that the guard makes.
const VARIABLES: &[(&str, &str)] =
    &[("ALERT_AFTER", "1"), ("UNTRUSTED_REQUESTS", "reject"), ("CROSS_ZONE", "enforce"), ("REMIND_EVERY_HOURS", "0")];

/// dbt asks, an untrusted account asks, another is connected, and in each part something is wrong.
fn company() -> FakeAws {
    let mut world = FakeAws::new(1);
    world.connections = vec![
        Row::new(1, 1, Some(DBT), "pendingAcceptance"),
        Row::new(2, 1, Some(UNTRUSTED), "pendingAcceptance"),
        Row::new(3, 1, Some("888888888888"), "available"),
    ];
    (world.unhealthy, world.cross_zone_off, world.others_allowed) = ([1].into(), [1].into(), [1].into());
    world
}

/// What people heard: what it is about, and what happened to it, in words.
fn news(published: &[Published]) -> BTreeSet<(String, String, String)> {
    published.iter().map(|sent| (sent.kind.clone(), sent.check.clone(), sent.resource.clone())).collect()
}

/// How often each transition was sent.
fn repeats(published: &[Published]) -> BTreeMap<(String, String, u64), usize> {
    let mut counts = BTreeMap::new();
    for sent in published {
        *counts.entry((sent.check.clone(), sent.resource.clone(), sent.number)).or_default() += 1;
    }
    counts
}

/// Runs `function` in a new instance, as AWS is after a kill: leases have expired.
async fn later(function: &str, aws: &Aws, id: &str) -> End {
    aws.lock().unwrap().wait_for_leases();
    RunningFunction::new(function, aws, VARIABLES).run(id, &scheduled()).await
}

/// Kills the first run of `function` at a call. `None` if it has fewer calls; else what AWS is after three more runs. The
/// first of them is Lambda's retry, with the same id.
fn killed(function: &str, at: usize, after: bool) -> Option<FakeAws> {
    let aws: Aws = Arc::new(Mutex::new(FakeAws { plan: FaultPlan::Kill { at, after }, ..company() }));
    play(async {
        let end = RunningFunction::new(function, &aws, VARIABLES).run("first", &scheduled()).await;
        if end != End::Killed {
            assert!(aws.lock().unwrap().calls.len() < at, "{end:?}");
            return None;
        }
        aws.lock().unwrap().plan = FaultPlan::Calm;
        for id in ["first", "second", "third"] {
            assert_eq!(later(function, &aws, id).await, End::Done, "{function}, killed at call {at}");
        }
        Some(std::mem::take(&mut *aws.lock().unwrap()))
    })
}

/// What is sent by runs that nothing disturbs.
fn undisturbed(function: &str) -> FakeAws {
    let aws: Aws = Arc::new(Mutex::new(company()));
    play(async {
        for id in ["first", "second", "third"] {
            assert_eq!(later(function, &aws, id).await, End::Done);
        }
    });
    std::mem::take(&mut *aws.lock().unwrap())
}

/// Kills `function` at every call, and compares what people heard with what undisturbed runs send. How many kills.
fn kill_everywhere(function: &str) -> usize {
    let expected = undisturbed(function);
    assert!(!expected.published.is_empty());
    let once = repeats(&expected.published);
    assert!(once.values().all(|times| *times == 1), "{once:?}");
    let mut kills = 0;
    for (at, after) in (1..).flat_map(|at| [(at, false), (at, true)]) {
        let Some(world) = killed(function, at, after) else { break };
        kills += 1;
        let call = &world.calls[at - 1].action;
        let when = format!("{function}, killed at call {at}, {call}, after it: {after}");
        assert_eq!(news(&world.published), news(&expected.published), "{when}");
        // The stated exception: SNS took the message, and nobody could note it.
        let may_repeat = world.calls[..at].iter().any(|call| call.action == "Publish");
        let most = repeats(&world.published).into_values().max();
        assert!(most <= Some(if may_repeat { 2 } else { 1 }), "{when}: {:?}", world.published);
        assert_eq!(world.accepted, expected.accepted, "{when}");
        assert_eq!(world.connections, expected.connections, "{when}");
        assert_eq!(world.cross_zone_off, expected.cross_zone_off, "{when}");
    }
    kills
}

#[test]
fn connection_acceptor_can_be_killed_at_every_call() {
    assert!(kill_everywhere(FUNCTIONS[0]) > 30);
}

#[test]
fn health_watcher_can_be_killed_at_every_call() {
    assert!(kill_everywhere(FUNCTIONS[1]) > 20);
}

#[test]
fn drift_watcher_can_be_killed_at_every_call() {
    assert!(kill_everywhere(FUNCTIONS[2]) > 50);
}
