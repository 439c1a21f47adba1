//! Runs killed at every call: before AWS receives it, and after AWS has executed it but before the response. No lasting
//! state changes between two calls, so these are all points at which a kill matters.

use std::collections::{BTreeMap, BTreeSet};

use attack::faults::FaultPlan;
use attack::{Aws, End, FUNCTIONS, FakeAws, Published, Row, play, run_once};
use guard_core::testing::{DBT, UNTRUSTED};

/// Settings that send all alerts at once, and enable all changes of the guard.
const VARIABLES: &[(&str, &str)] =
    &[("ALERT_AFTER", "1"), ("UNTRUSTED_REQUESTS", "reject"), ("CROSS_ZONE", "enforce"), ("REMIND_EVERY_HOURS", "0")];

/// An AWS with requests from dbt and from an untrusted account, a connected untrusted account, and a problem in every
/// area.
fn company() -> FakeAws {
    let mut aws = FakeAws::new(1);
    aws.connections = vec![
        Row::new(1, 1, Some(DBT), "pendingAcceptance"),
        Row::new(2, 1, Some(UNTRUSTED), "pendingAcceptance"),
        Row::new(3, 1, Some("888888888888"), "available"),
    ];
    (aws.unhealthy, aws.cross_zone_off, aws.others_allowed) = ([1].into(), [1].into(), [1].into());
    aws
}

/// The distinct transitions that were sent: kind, check and resource.
fn news(published: &[Published]) -> BTreeSet<(String, String, String)> {
    published.iter().map(|sent| (sent.kind.clone(), sent.check.clone(), sent.resource.clone())).collect()
}

/// The number of copies of each transition.
fn repeats(published: &[Published]) -> BTreeMap<(String, String, u64), usize> {
    let mut counts = BTreeMap::new();
    for sent in published {
        *counts.entry((sent.check.clone(), sent.resource.clone(), sent.number)).or_default() += 1;
    }
    counts
}

/// Runs `function` in a new instance some time after a kill, when the leases have expired.
async fn later(function: &str, aws: &Aws, id: &str) -> End {
    aws.lock().unwrap().wait_for_leases();
    run_once(function, aws, VARIABLES, id).await
}

/// Kills the first run of `function` at call number `at`. Returns AWS after three more runs, the first of which is
/// Lambda's retry with the same id; `None` if the first run makes fewer calls.
fn killed(function: &str, at: usize, after: bool) -> Option<FakeAws> {
    let aws = FakeAws { plan: FaultPlan::Kill { at, after }, ..company() }.shared();
    play(async {
        let end = run_once(function, &aws, VARIABLES, "first").await;
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

/// AWS after undisturbed runs.
fn undisturbed(function: &str) -> FakeAws {
    let aws = company().shared();
    play(async {
        for id in ["first", "second", "third"] {
            assert_eq!(later(function, &aws, id).await, End::Done);
        }
    });
    std::mem::take(&mut *aws.lock().unwrap())
}

/// Kills `function` at every call, and compares the sent transitions with those of undisturbed runs. Returns the number
/// of kills.
fn kill_everywhere(function: &str) -> usize {
    let expected = undisturbed(function);
    assert!(!expected.published.is_empty());
    let once = repeats(&expected.published);
    assert!(once.values().all(|times| *times == 1), "{once:?}");
    let mut kills = 0;
    for (at, after) in (1..).flat_map(|at| [(at, false), (at, true)]) {
        let Some(aws) = killed(function, at, after) else { break };
        kills += 1;
        let call = &aws.calls[at - 1].action;
        let when = format!("{function}, killed at call {at}, {call}, after it: {after}");
        assert_eq!(news(&aws.published), news(&expected.published), "{when}");
        // The stated exception: SNS accepted the message, and the run died before the acknowledgement.
        let may_repeat = aws.calls[..at].iter().any(|call| call.action == "Publish");
        let most = repeats(&aws.published).into_values().max();
        assert!(most <= Some(if may_repeat { 2 } else { 1 }), "{when}: {:?}", aws.published);
        assert_eq!(aws.accepted, expected.accepted, "{when}");
        assert_eq!(aws.connections, expected.connections, "{when}");
        assert_eq!(aws.cross_zone_off, expected.cross_zone_off, "{when}");
    }
    kills
}

#[test]
fn connection_acceptor_survives_a_kill_at_every_call() {
    assert!(kill_everywhere(FUNCTIONS[0]) > 30);
}

#[test]
fn health_watcher_survives_a_kill_at_every_call() {
    assert!(kill_everywhere(FUNCTIONS[1]) > 20);
}

#[test]
fn drift_watcher_survives_a_kill_at_every_call() {
    assert!(kill_everywhere(FUNCTIONS[2]) > 50);
}
