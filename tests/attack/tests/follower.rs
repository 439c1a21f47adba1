//! target-follower in a failover: killed at every call, with faults, beside another run, without the table. It may be
//! late, but it deregisters nothing unless the hostname's own address is registered and healthy, and it says once what
//! it does.
//!
//! There is no DNS here. A hostname is an address, which resolves to itself, and a failover puts another one into the tag.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use attack::faults::{Fault, FaultPlan, Trouble};
use attack::{
    Api, Aws, Call, End, FakeAws, FakeTarget, Published, RunningFunction, TargetChange, play, run_once, seeds,
    target_group,
};
use guard_aws::testing::scheduled;
use serde_json::{Value, json};

const FOLLOWER: &str = "target-follower";
const OLD: &str = "10.0.0.10";
const NEW: &str = "10.0.0.20";
const THIRD: &str = "10.0.0.30";

/// The notices about the failover from [`OLD`] to [`NEW`].
const NOTICES: [&str; 2] = ["registering 10.0.0.20:5432 in tg-1", "deregistering 10.0.0.10:5432 from tg-1"];

/// An AWS with one target group, whose one target has its hostname's address.
fn in_order() -> FakeAws {
    let mut aws = FakeAws::new(1);
    aws.targets.insert(1, vec![FakeTarget::new(OLD, "healthy")]);
    aws.hostnames.insert(1, OLD.to_owned());
    aws
}

fn fail_over(aws: &Aws, address: &str) {
    aws.lock().unwrap().hostnames.insert(1, address.to_owned());
}

/// Sets how the target group 1 is followed, and `more`.
fn follower(aws: &Aws, more: &[(&str, &str)]) -> RunningFunction {
    let group = target_group(1);
    let own = [("FOLLOW_HOSTNAMES", "replace"), ("FOLLOW_TARGET_GROUPS", group.as_str())];
    RunningFunction::new(FOLLOWER, aws, &[more, &own].concat())
}

/// A run of a new instance, a minute after the last one.
async fn next_run(aws: &Aws, more: &[(&str, &str)]) -> End {
    let id = {
        let mut fake = aws.lock().unwrap();
        fake.wait_a_minute();
        fake.wait_for_leases();
        format!("run-{}", fake.calls.len())
    };
    follower(aws, more).run(&id, &scheduled()).await
}

/// Asserts that the next `runs` runs do all their work. New targets become healthy after each.
async fn runs(aws: &Aws, runs: usize) {
    for _ in 0..runs {
        assert_eq!(next_run(aws, &[]).await, End::Done);
        aws.lock().unwrap().finish_target_changes();
    }
}

/// An AWS whose hostname has failed over to [`NEW`], after this number of runs since then. The second one registers
/// the new target, and the third one deregisters the old one.
async fn failed_over(since: usize) -> Aws {
    let aws = in_order().shared();
    runs(&aws, 2).await;
    fail_over(&aws, NEW);
    runs(&aws, since).await;
    aws.lock().unwrap().calls.clear();
    aws
}

/// The summaries of the notices that were sent, each with its number of copies.
fn notices(aws: &Aws) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    let fake = aws.lock().unwrap();
    for sent in fake.published.iter().filter(|sent| sent.kind == "notice" && sent.check == "target-group.hostname") {
        *copies.entry(sent.summary.clone()).or_default() += 1;
    }
    copies
}

fn each_once(summaries: &[&str]) -> BTreeMap<String, usize> {
    summaries.iter().map(|summary| ((*summary).to_owned(), 1)).collect()
}

/// The addresses of the targets in use.
fn in_use(aws: &Aws) -> Vec<String> {
    let fake = aws.lock().unwrap();
    fake.targets[&1].iter().filter(|target| target.health != "draining").map(|target| target.id.clone()).collect()
}

/// Asserts that each call deregistered only addresses that are not the hostname's, which was registered and healthy.
fn assert_safe(aws: &Aws, when: &str) {
    for change in aws.lock().unwrap().target_changes.iter().filter(|change| change.action == "DeregisterTargets") {
        let TargetChange { addresses, wanted, before, .. } = change;
        let wanted = wanted.as_ref().unwrap();
        let is_healthy = before.iter().any(|target| target.id == *wanted && target.health == "healthy");
        assert!(is_healthy && !addresses.contains(wanted), "{when}: {change:?}");
    }
}

fn count(aws: &Aws, action: &str) -> usize {
    aws.lock().unwrap().count(action)
}

/// The stored state of the target group.
fn stored_state(aws: &Aws) -> Value {
    let fake = aws.lock().unwrap();
    let item = fake.table.items.iter().find(|item| item["item"]["S"].as_str().unwrap().contains("#follow#")).unwrap();
    let record: Value = serde_json::from_str(item["record"]["S"].as_str().unwrap()).unwrap();
    record["state"]["follow"].clone()
}

/// Kills the run after `since` runs at every call. Returns the number of kills.
fn kill_everywhere(since: usize) -> usize {
    let mut kills = 0;
    for (at, after) in (1..).flat_map(|at| [(at, false), (at, true)]) {
        let when = format!("killed at call {at}, after it: {after}");
        let was_killed = play(async {
            let aws = failed_over(since).await;
            aws.lock().unwrap().plan = FaultPlan::Kill { at, after };
            if next_run(&aws, &[]).await != End::Killed {
                return false;
            }
            let has_published = count(&aws, "Publish") > 0;
            {
                let mut fake = aws.lock().unwrap();
                fake.plan = FaultPlan::Calm;
                fake.finish_target_changes();
            }
            runs(&aws, 3).await;
            assert_safe(&aws, &when);
            assert_eq!(in_use(&aws), [NEW], "{when}");
            assert_eq!(stored_state(&aws)["again"], json!([]), "{when}: nobody deregistered it");
            let sent = notices(&aws);
            // SNS accepted the message, and the run died before the acknowledgement.
            let most = if has_published { 2 } else { 1 };
            assert!(sent.values().all(|copies| *copies <= most), "{when}: {sent:?}");
            assert_eq!(sent.into_keys().collect::<BTreeSet<_>>(), NOTICES.map(ToOwned::to_owned).into(), "{when}");
            true
        });
        if !was_killed {
            break;
        }
        kills += 1;
    }
    kills
}

#[test]
fn a_kill_at_any_call_of_the_registering_run_does_no_harm() {
    assert!(kill_everywhere(1) > 20);
}

#[test]
fn a_kill_at_any_call_of_the_deregistering_run_does_no_harm() {
    assert!(kill_everywhere(2) > 20);
}

/// Two failovers while half of the calls fail; the second new target is slow to become healthy.
fn check_faults(seed: u64, apis: &[Api]) -> usize {
    let when = format!("ATTACK_SEED={seed}, {apis:?}");
    fastrand::seed(seed);
    play(async {
        let aws = failed_over(0).await;
        let instance = follower(&aws, &[]);
        for round in 0..16 {
            if round == 8 {
                fail_over(&aws, THIRD);
            }
            {
                let mut fake = aws.lock().unwrap();
                fake.plan = if round < 12 {
                    FaultPlan::Storm { seed: seed + round, percent: 50, apis: apis.to_vec() }
                } else {
                    FaultPlan::Calm
                };
                fake.wait_a_minute();
                fake.wait_for_leases();
                if round % 3 == 2 || round >= 12 {
                    fake.finish_target_changes();
                }
            }
            let end = instance.run(&format!("run-{round}"), &scheduled()).await;
            assert_ne!(end, End::OutOfTime, "{when}");
        }
        assert_safe(&aws, &when);
        assert_eq!(in_use(&aws), [THIRD], "{when}");
        let sent = notices(&aws);
        assert_eq!(stored_state(&aws)["again"], json!([]), "{when}: nobody deregistered it");
        for last in ["registering 10.0.0.30:5432 in tg-1", "from tg-1"] {
            assert!(sent.keys().any(|summary| summary.contains(last)), "{when}: {sent:?}");
        }
        let fake = aws.lock().unwrap();
        fake.target_changes.len()
    })
}

const APIS: [&[Api]; 5] = [&[Api::Ec2], &[Api::Elb], &[Api::DynamoDb], &[Api::Sns], &[]];

#[test]
fn the_targets_become_right_after_faults() {
    let changes: usize = seeds(1).flat_map(|seed| APIS.map(|apis| check_faults(seed, apis))).sum();
    assert!(changes >= 15, "{changes} changes; each of the two failovers takes two");
}

#[test]
#[ignore = "long: make attack"]
fn long_the_targets_become_right_after_faults() {
    for (seed, apis) in seeds(20).flat_map(|seed| APIS.map(|apis| (seed, apis))) {
        check_faults(seed, apis);
    }
}

/// The times between the beginnings of two runs that have the second one begin at each call of the first, which takes
/// 20 milliseconds.
fn delays() -> impl Iterator<Item = u64> {
    (0..400).step_by(20)
}

#[test]
fn of_two_runs_at_once_one_changes_targets() {
    for delay in delays() {
        for (since, action) in [(1, "RegisterTargets"), (2, "DeregisterTargets")] {
            play(async {
                let aws = failed_over(since).await;
                aws.lock().unwrap().wait_a_minute();
                let (first, second) = (follower(&aws, &[]), follower(&aws, &[]));
                let event = scheduled();
                let later = async {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    second.run("second", &event).await
                };
                let ends = tokio::join!(first.run("first", &event), later);
                assert_eq!(ends, (End::Done, End::Done), "{delay} ms later");
                assert_eq!(count(&aws, action), 1, "{delay} ms later");
                runs(&aws, 2).await;
                assert_eq!(notices(&aws), each_once(&NOTICES), "{delay} ms later");
                assert_eq!(in_use(&aws), [NEW]);
            });
        }
    }
}

/// Calls under way stay known: a late one must not undo a newer one.
#[test]
fn a_run_with_another_answer_keeps_the_plan_of_others() {
    let mut with_calls = 0;
    for delay in delays() {
        play(async {
            let aws = failed_over(1).await;
            aws.lock().unwrap().wait_a_minute();
            let (first, second) = (follower(&aws, &[]), follower(&aws, &[]));
            let event = scheduled();
            let later = async {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                fail_over(&aws, THIRD);
                second.run("second", &event).await
            };
            let ends = tokio::join!(first.run("first", &event), later);
            assert_eq!(ends, (End::Done, End::Done), "{delay} ms later");
            if count(&aws, "RegisterTargets") > 0 {
                with_calls += 1;
                assert!(stored_state(&aws)["plan"].is_object(), "{delay} ms later: {}", stored_state(&aws));
            }
        });
    }
    assert!(with_calls > 10, "{with_calls}");
}

/// Plays the registering run while the table has this fault; then runs without it.
fn without_table(what: &str, plan: &FaultPlan) {
    play(async {
        let aws = failed_over(1).await;
        aws.lock().unwrap().plan = plan.clone();
        let end = next_run(&aws, &[]).await;
        assert!(matches!(end, End::Undone(_)), "{what}: {end:?}");
        assert_eq!(aws.lock().unwrap().target_changes, [], "{what}");
        assert_eq!(notices(&aws), each_once(&[]), "{what}: it would say what it does not do");
        aws.lock().unwrap().plan = FaultPlan::Calm;
        runs(&aws, 3).await;
        assert_eq!(in_use(&aws), [NEW], "{what}");
        assert_eq!(notices(&aws), each_once(&NOTICES), "{what}");
    });
}

fn is_query(call: &Call) -> bool {
    call.action == "Query"
}

fn is_write(call: &Call) -> bool {
    call.action == "PutItem" && call.about.contains("#follow#")
}

#[test]
fn without_the_table_no_target_is_changed() {
    for fault in [Fault::Error, Fault::Hang, Fault::Deny, Fault::Throttle] {
        without_table(&format!("all reads: {fault:?}"), &FaultPlan::always(is_query, fault));
        without_table(&format!("all writes: {fault:?}"), &FaultPlan::always(is_write, fault));
    }
    // The SDK tries four times, and the run then writes the record once more.
    let first = FaultPlan::Next { times: 4, which: is_write, trouble: Trouble::Before(Fault::Error) };
    without_table("the first write", &first);
}

/// Whether AWS has made the call or not, the run does not know it, and the next one says nothing twice.
#[test]
fn a_call_without_an_answer_causes_no_second_notice() {
    let which = |call: &Call| ["RegisterTargets", "DeregisterTargets"].contains(&&*call.action);
    let troubles =
        [Fault::Reset, Fault::Hang].into_iter().flat_map(|fault| [Trouble::After(fault), Trouble::Before(fault)]);
    for (since, trouble, times) in troubles.flat_map(|it| [(1, it, 1), (1, it, usize::MAX), (2, it, usize::MAX)]) {
        play(async {
            let aws = failed_over(since).await;
            aws.lock().unwrap().plan = FaultPlan::Next { times, which, trouble };
            let end = next_run(&aws, &[]).await;
            assert_eq!(end == End::Done, times == 1, "{trouble:?}: {end:?}");
            aws.lock().unwrap().plan = FaultPlan::Calm;
            runs(&aws, 3).await;
            assert_eq!(in_use(&aws), [NEW], "{trouble:?}");
            assert_eq!(notices(&aws), each_once(&NOTICES), "{trouble:?}, {times} times after {since} runs");
        });
    }
}

/// The command in the last message about the hostname.
fn last_command(aws: &Aws) -> Option<String> {
    let fake = aws.lock().unwrap();
    let (_, message) = fake.messages.iter().rfind(|(_, message)| message.contains("target-group.hostname")).unwrap();
    let message: Value = serde_json::from_str(message).unwrap();
    let transitions = message["transitions"].as_array().unwrap();
    let about = transitions.iter().find(|transition| transition["check"] == "target-group.hostname").unwrap();
    about["remedy"]["command"].as_str().map(ToOwned::to_owned)
}

/// The alert of a run of health-watcher about the hostname, whose run finds the group followed.
async fn alert(aws: &Aws) -> Published {
    let group = target_group(1);
    let variables = [("FOLLOW_HOSTNAMES", "replace"), ("FOLLOW_TARGET_GROUPS", group.as_str()), ("ALERT_AFTER", "1")];
    assert_eq!(run_once("health-watcher", aws, &variables, "health").await, End::Done);
    let fake = aws.lock().unwrap();
    let is_alert = |sent: &&Published| sent.check == "target-group.hostname" && sent.function == "health-watcher";
    fake.published.iter().rfind(is_alert).unwrap().clone()
}

#[test]
fn a_refused_call_is_left_to_people_who_get_the_command() {
    play(async {
        let aws = failed_over(1).await;
        assert!(alert(&aws).await.action.starts_with("Nothing: the guard follows the hostname."));
        assert_eq!(last_command(&aws), None);
    });
    play(async {
        let aws = failed_over(1).await;
        aws.lock().unwrap().full = [1].into();
        for _ in 0..2 {
            assert!(matches!(next_run(&aws, &[]).await, End::Undone(_)));
            assert!(stored_state(&aws)["refused"].as_str().unwrap().contains("TooManyTargets"));
        }
        let alert = alert(&aws).await;
        assert!(alert.evidence.contains("not followed: AWS refused it: "), "{alert:?}");
        assert!(alert.evidence.contains("TooManyTargets"), "{alert:?}");
        assert!(last_command(&aws).unwrap().contains("register-targets"));
        aws.lock().unwrap().full.clear();
        runs(&aws, 3).await;
        assert_eq!(stored_state(&aws)["refused"], Value::Null);
        assert_eq!(notices(&aws), each_once(&NOTICES));
    });
}

#[test]
fn a_dry_run_says_once_what_it_would_do() {
    play(async {
        let aws = failed_over(0).await;
        let dry_run = [("DRY_RUN", "true")];
        for _ in 0..3 {
            assert_eq!(next_run(&aws, &dry_run).await, End::Done);
        }
        let writes = count(&aws, "PutItem");
        for _ in 0..3 {
            assert_eq!(next_run(&aws, &dry_run).await, End::Done);
        }
        assert_eq!(count(&aws, "PutItem"), writes, "nothing is new");
        assert_eq!(aws.lock().unwrap().target_changes, []);
        assert_eq!(notices(&aws), each_once(&["would register 10.0.0.20:5432 in tg-1"]));
    });
}

#[test]
fn register_never_deregisters() {
    play(async {
        let aws = failed_over(0).await;
        for _ in 0..6 {
            assert_eq!(next_run(&aws, &[("FOLLOW_HOSTNAMES", "register")]).await, End::Done);
            aws.lock().unwrap().finish_target_changes();
        }
        assert_eq!((in_use(&aws), count(&aws, "DeregisterTargets")), (vec![OLD.to_owned(), NEW.to_owned()], 0));
        assert_eq!(notices(&aws), each_once(&NOTICES[..1]));
    });
}

/// The calls of a run on the path that drift-watcher has stored: one for each group, and a query for each of the three
/// services' and the guard's own records.
#[test]
fn a_run_on_a_stored_path_reads_only_targets() {
    play(async {
        let mut fake = FakeAws::new(3);
        for number in [1, 2] {
            fake.targets.insert(number, vec![FakeTarget::new(OLD, "healthy")]);
            fake.hostnames.insert(number, OLD.to_owned());
        }
        let aws = fake.shared();
        let groups = [1, 2].map(target_group).join(",");
        let variables = [("FOLLOW_HOSTNAMES", "replace"), ("FOLLOW_TARGET_GROUPS", groups.as_str())];
        assert_eq!(run_once("drift-watcher", &aws, &variables, "drift").await, End::Done);
        let instance = RunningFunction::new(FOLLOWER, &aws, &variables);
        let calls_of = async |id: &str| {
            {
                let mut fake = aws.lock().unwrap();
                fake.wait_a_minute();
                fake.calls.clear();
            }
            assert_eq!(instance.run(id, &scheduled()).await, End::Done);
            let mut calls: BTreeMap<String, usize> = BTreeMap::new();
            for call in &aws.lock().unwrap().calls {
                *calls.entry(call.action.clone()).or_default() += 1;
            }
            calls
        };
        // A new instance looks for services that were removed.
        let [first, second, third] = [calls_of("first").await, calls_of("second").await, calls_of("third").await];
        assert_eq!((first["DescribeTargetHealth"], first["Query"]), (2, 4 + 1));
        let reads = || [("DescribeTargetHealth", 2), ("Query", 4)].map(|(action, times)| (action.to_owned(), times));
        assert_eq!(second, reads().into_iter().chain([("PutItem".to_owned(), 2)]).collect(), "the answer is followed");
        assert_eq!(third, reads().into(), "nothing is new");
    });
}
