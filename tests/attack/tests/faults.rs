//! Faults: calls that are throttled, fail, are reset, hang, or whose responses are cut in half, or lost after AWS has
//! executed the call. Once the faults end, every transition has been sent, none twice except for the stated reasons,
//! and no alert was resolved while its check still failed.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use attack::faults::{Fault, FaultPlan, Trouble};
use attack::{
    Api, Aws, Call, End, FUNCTIONS, FakeAws, Made, Published, Row, RunningFunction, play, report, run_once, seeds,
    target_group,
};
use guard_aws::testing::scheduled;
use guard_core::testing::{DBT, UNTRUSTED};

const VARIABLES: &[(&str, &str)] = &[("REMIND_EVERY_HOURS", "0")];

/// The rounds of the functions while calls fail, and afterwards.
const ROUNDS: (usize, usize) = (4, 3);

const APIS: [&[Api]; 5] = [&[Api::Ec2], &[Api::Elb], &[Api::DynamoDb], &[Api::Sns], &[]];

/// An AWS with three endpoint services, each with a request from dbt, and some with problems.
fn broken() -> FakeAws {
    let mut aws = FakeAws::new(3);
    aws.connections = vec![
        Row::new(1, 1, Some(DBT), "pendingAcceptance"),
        Row::new(2, 2, Some(DBT), "pendingAcceptance"),
        Row::new(3, 3, Some(DBT), "pendingAcceptance"),
        Row::new(4, 2, Some(UNTRUSTED), "available"),
        Row::new(5, 3, None, "pendingAcceptance"),
    ];
    (aws.unhealthy, aws.cross_zone_off, aws.others_allowed) = ([1, 2].into(), [2].into(), [1, 3].into());
    aws
}

/// Fixes all problems.
fn fix(aws: &mut FakeAws) {
    aws.connections.truncate(3);
    (aws.unhealthy, aws.cross_zone_off, aws.others_allowed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
}

struct Story {
    aws: Aws,
    instances: Vec<RunningFunction>,
    /// For each run, the number of earlier calls.
    began: Vec<usize>,
    undone: usize,
}

impl Story {
    fn new(fake: FakeAws) -> Self {
        let aws = fake.shared();
        // target-follower has a story of its own. DNS answers in real time, so no seed reproduces the order of its calls.
        let functions = FUNCTIONS.into_iter().filter(|name| *name != "target-follower");
        let instances = functions.map(|name| RunningFunction::new(name, &aws, VARIABLES)).collect();
        Self { aws, instances, began: Vec::new(), undone: 0 }
    }

    async fn rounds(&mut self, rounds: usize, plan: FaultPlan) {
        self.aws.lock().unwrap().plan = plan;
        for _ in 0..rounds {
            self.aws.lock().unwrap().wait_for_leases();
            for instance in &self.instances {
                self.began.push(self.aws.lock().unwrap().calls.len());
                let end = instance.run(&format!("run-{}", self.began.len()), &scheduled()).await;
                assert_ne!(end, End::OutOfTime, "a run knows its deadline");
                self.undone += usize::from(end != End::Done);
            }
        }
    }

    /// Plays faults, then calm. Returns the transitions sent meanwhile, except those about the guard itself.
    async fn faults_then_calm(&mut self, plan: FaultPlan) -> Vec<Published> {
        let before = self.aws.lock().unwrap().published.len();
        self.rounds(ROUNDS.0, plan).await;
        self.rounds(ROUNDS.1, FaultPlan::Calm).await;
        let fake = self.aws.lock().unwrap();
        fake.published[before..].iter().filter(|sent| sent.check != "visibility.lost").cloned().collect()
    }
}

/// The distinct sent transitions.
fn news<'a>(published: &[&'a Published]) -> BTreeSet<(&'a str, &'a str, &'a str, &'a str)> {
    published.iter().map(|sent| (&*sent.kind, &*sent.service, &*sent.check, &*sent.resource)).collect()
}

/// Asserts that exactly `expected` was sent, except for alerts on unaccepted dbt requests, which must be true and
/// resolve in the end. So no unfixed problem is reported as resolved.
fn assert_news(sent: &[Published], expected: &[Published], when: &str) {
    let of_acceptance = |sent: &&Published| sent.check == "connection.dbt";
    let (acceptance, sent): (Vec<&Published>, Vec<&Published>) = sent.iter().partition(of_acceptance);
    assert_eq!(news(&sent), news(&expected.iter().collect::<Vec<_>>()), "{when}");
    let (firing, resolved): (Vec<&Published>, Vec<&Published>) =
        acceptance.iter().partition(|sent| sent.kind == "firing");
    // An alert sent while the table failed may be missing in the table, so nothing resolves it.
    let recorded = firing.iter().filter(|sent| !sent.table_failed);
    let is_resolved = |sent: &&&Published| resolved.iter().any(|resolved| resolved.resource == sent.resource);
    assert!(recorded.clone().all(|sent| is_resolved(&sent)), "{when}: it is accepted in the end: {firing:?}");
}

/// The simulated AWS's view of the run that sent a transition.
struct Seen {
    /// Whether the service's records could not be read, or the alert could not be stored.
    without_table: bool,
    /// Whether SNS accepted the message, but its response was lost.
    answer_lost: bool,
    /// Whether the table then took a write of the alert, which acknowledges it.
    is_noted: bool,
}

impl Seen {
    fn new(sent: &Published, story: &Story, when: &str) -> Self {
        let calls = &story.aws.lock().unwrap().calls;
        let next_run = story.began.partition_point(|began| *began <= sent.call);
        let until = story.began.get(next_run).copied().unwrap_or(calls.len());
        let (before, after) = (&calls[story.began[next_run - 1]..sent.call], &calls[sent.call + 1..until]);
        let partition = if sent.service.is_empty() { "guard" } else { &sent.service };
        let item = format!("{}#{}#{}", sent.function, sent.check, sent.resource);
        let records: Vec<&Made> =
            calls_about(before, partition).filter(|call| ["Query", "PutItem"].contains(&&*call.action)).collect();
        // A run that stores anything has read the records, and reads them again if another write came first.
        let unread = records.iter().all(|call| call.action == "Query") && last_failed(records.iter().copied());
        let writes = |calls| calls_about(calls, &item).filter(|call| call.action == "PutItem");
        let without_table = unread || last_failed(writes(before));
        assert!(sent.table_failed || !without_table, "{when}: sent without a caution: {sent:?}");
        let table_failed = records.iter().any(|call| call.trouble.is_some());
        assert!(!sent.table_failed || table_failed, "{when}: a caution, and the table did not fail: {sent:?}");
        Self {
            without_table,
            answer_lost: matches!(calls[sent.call].trouble, Some(Trouble::After(_))),
            is_noted: writes(after).any(|call| !matches!(call.trouble, Some(Trouble::Before(_)))),
        }
    }
}

fn calls_about<'a>(calls: &'a [Made], what: &str) -> impl DoubleEndedIterator<Item = &'a Made> {
    let what = format!("\"{what}\"");
    calls.iter().filter(move |call| call.about.contains(&what))
}

/// Whether all attempts failed, that is, the last one.
fn last_failed<'a>(mut tries: impl DoubleEndedIterator<Item = &'a Made>) -> bool {
    tries.next_back().is_some_and(|call| call.trouble.is_some())
}

/// Asserts that transitions were repeated only for the stated reasons. A message sent with the table repeats if it
/// could not be acknowledged. A message sent without the table repeats after an hour, which is longer than these tests
/// take. A message sent without the table carries a caution, and no message does while the table answers.
fn assert_not_repeated(story: &Story, when: &str) {
    let published = story.aws.lock().unwrap().published.clone();
    let seen: Vec<Seen> = published.iter().map(|sent| Seen::new(sent, story, when)).collect();
    for (index, sent) in published.iter().enumerate() {
        let again = (index + 1..published.len()).find(|again| {
            let other = &published[*again];
            // Each function has its own alert on a call, which may fire repeatedly. All other problems occur once and
            // are fixed.
            let is_same =
                sent.check != "visibility.lost" || (other.number, &other.function) == (sent.number, &sent.function);
            is_same
                && (other.about(), &other.kind) == (sent.about(), &sent.kind)
                && seen[*again].without_table == seen[index].without_table
        });
        let Seen { without_table, answer_lost, is_noted } = seen[index];
        let may_repeat = answer_lost || (!without_table && !is_noted);
        assert!(
            may_repeat || again.is_none(),
            "{when}: sent twice: {sent:?} {:?}",
            again.map(|again| &published[again])
        );
    }
}

/// The transitions that undisturbed runs send, before and after the fix.
fn undisturbed() -> &'static (Vec<Published>, Vec<Published>) {
    static SENT: OnceLock<(Vec<Published>, Vec<Published>)> = OnceLock::new();
    SENT.get_or_init(|| {
        play(async {
            let mut story = Story::new(broken());
            let broken = story.faults_then_calm(FaultPlan::Calm).await;
            fix(&mut story.aws.lock().unwrap());
            (broken, story.faults_then_calm(FaultPlan::Calm).await)
        })
    })
}

/// Plays the whole story with this seed, and checks the sent transitions. Returns the calls.
fn check(seed: u64, percent: u64, apis: &[Api]) -> Vec<Made> {
    let when = format!("ATTACK_SEED={seed}, {percent} % of {apis:?}");
    let (broken_news, fixed_news) = undisturbed();
    let bad = |seed| FaultPlan::Storm { seed, percent, apis: apis.to_vec() };
    // The SDK's jitter.
    fastrand::seed(seed);
    play(async {
        let mut story = Story::new(broken());
        let sent = story.faults_then_calm(bad(seed)).await;
        assert_news(&sent, broken_news, &when);
        fix(&mut story.aws.lock().unwrap());
        let sent_after = story.faults_then_calm(bad(seed + 1_000_000)).await;
        // Permitted repetitions are checked below.
        let is_known =
            |again: &&Published| sent.iter().any(|sent| (sent.about(), &sent.kind) == (again.about(), &again.kind));
        let news_after: Vec<Published> = sent_after.iter().filter(|sent| !is_known(sent)).cloned().collect();
        assert_news(&news_after, fixed_news, &format!("{when}, after the fix"));
        assert_not_repeated(&story, &when);
        let fake = story.aws.lock().unwrap();
        assert!(fake.accepted.values().all(|times| *times == 1) && fake.accepted.len() == 3, "{when}");
        assert_eq!(fake.reject_calls, [], "{when}");
        report(&format!(
            "{when}: {} calls, {} of {} runs left something undone",
            fake.calls.len(),
            story.undone,
            story.began.len()
        ));
        fake.calls.clone()
    })
}

/// Checks the highest rate of faults for these APIs. `make attack` plays the other rates and more seeds.
fn check_at_the_worst(apis: &[Api]) {
    for seed in seeds(1) {
        check(seed, 50, apis);
    }
}

#[test]
fn every_transition_is_sent_after_ec2_faults() {
    check_at_the_worst(APIS[0]);
}

#[test]
fn every_transition_is_sent_after_elb_faults() {
    check_at_the_worst(APIS[1]);
}

#[test]
fn every_transition_is_sent_after_dynamodb_faults() {
    check_at_the_worst(APIS[2]);
}

#[test]
fn every_transition_is_sent_after_sns_faults() {
    check_at_the_worst(APIS[3]);
}

#[test]
fn every_transition_is_sent_after_faults_in_all_apis() {
    check_at_the_worst(APIS[4]);
}

/// A failure is reproducible at any time, whatever was played before.
#[test]
fn a_seed_reproduces_all_calls() {
    assert!(check(2, 50, &[]) == check(2, 50, &[]), "the calls differ");
}

/// Each API, and all of them together, at every rate.
#[test]
#[ignore = "long: make attack"]
fn long_every_transition_is_sent_after_faults() {
    for seed in seeds(20) {
        for (apis, percent) in APIS.iter().flat_map(|apis| [5, 20, 50].map(|percent| (apis, percent))) {
            check(seed, percent, apis);
        }
    }
}

/// Asserts that a run of each function with forty endpoint services ends by itself despite these faults.
fn check_deadline(what: &str, plan: &FaultPlan) {
    let mut fake = FakeAws::new(40);
    (fake.unhealthy, fake.cross_zone_off) = ((1..=40).collect(), (1..=40).collect());
    fake.hostnames = (1..=40).map(|number| (number, "10.0.0.20".to_owned())).collect();
    let aws = fake.shared();
    let followed = (1..=40).map(target_group).collect::<Vec<_>>().join(",");
    let follow = [("FOLLOW_HOSTNAMES", "replace"), ("FOLLOW_TARGET_GROUPS", followed.as_str())];
    let variables = [VARIABLES, &follow].concat();
    fastrand::seed(1);
    play(async {
        for name in FUNCTIONS {
            aws.lock().unwrap().plan = plan.clone();
            let began = tokio::time::Instant::now();
            let end = run_once(name, &aws, &variables, name).await;
            let took = began.elapsed().as_secs();
            report(&format!("{name}: {took} s while {what}"));
            assert_ne!(end, End::OutOfTime, "{name} took {took} s while {what}");
        }
    });
}

#[test]
fn a_run_with_forty_services_ends_by_itself_whatever_hangs() {
    check_deadline("EC2 hangs", &FaultPlan::always(|call| call.api == Api::Ec2, Fault::Hang));
    check_deadline("ELB hangs", &FaultPlan::always(|call| call.api == Api::Elb, Fault::Hang));
    check_deadline("SNS hangs", &FaultPlan::always(|call| call.api == Api::Sns, Fault::Hang));
    check_deadline("DynamoDB hangs", &FaultPlan::always(|call| call.api == Api::DynamoDb, Fault::Hang));
    check_deadline("half of all calls fail", &FaultPlan::Storm { seed: 1, percent: 50, apis: Vec::new() });
}

/// The load balancer whose listeners this run of drift-watcher reads first.
async fn reads_first(instance: &RunningFunction, aws: &Aws, id: &str) -> String {
    let before = aws.lock().unwrap().calls.len();
    assert_eq!(instance.run(id, &scheduled()).await, End::Done);
    let calls = &aws.lock().unwrap().calls[before..];
    calls.iter().find(|call| call.action == "DescribeListeners").unwrap().about.clone()
}

/// The clock must not decide: with a schedule of 15 minutes and five load balancers, the same one would always be last.
#[test]
fn new_instances_and_retries_vary_the_first_load_balancer() {
    let aws = FakeAws::new(5).shared();
    let new = || RunningFunction::new("drift-watcher", &aws, VARIABLES);
    play(async {
        let (mut of_new, mut of_retries, instance) = (BTreeSet::new(), BTreeSet::new(), new());
        for run in 0..40 {
            of_new.insert(reads_first(&new(), &aws, &format!("run-{run}")).await);
            of_retries.insert(reads_first(&instance, &aws, "run").await);
        }
        assert_eq!(of_new.len(), 5, "{of_new:?}");
        assert_eq!(of_retries, of_new);
    });
}

/// ELB reports no healthy target, and all other reads of health-watcher fail.
#[test]
fn an_outage_in_elb_is_sent_although_all_other_reads_fail() {
    for fault in [Fault::Throttle, Fault::Deny, Fault::Hang] {
        let aws = FakeAws::new(2).shared();
        let variables = [("ALERT_AFTER", "1")];
        play(async {
            for function in ["drift-watcher", "health-watcher"] {
                run_once(function, &aws, &variables, function).await;
            }
            {
                let mut fake = aws.lock().unwrap();
                fake.published.clear();
                fake.unhealthy = [1].into();
                let is_other_read =
                    |call: &Call| matches!(call.api, Api::Ec2 | Api::Elb) && call.action != "DescribeTargetHealth";
                fake.plan = FaultPlan::always(is_other_read, fault);
            }
            run_once("health-watcher", &aws, &variables, "outage").await
        });
        let fake = aws.lock().unwrap();
        let fired: Vec<&str> =
            fake.published.iter().filter(|sent| sent.kind == "firing").map(|sent| sent.check.as_str()).collect();
        assert!(fired.contains(&"target-group.health"), "{fault:?}: {fired:?}");
        assert!(fake.published.iter().all(|sent| sent.kind != "resolved"), "{fault:?}");
    }
}

/// A listener now leads to dead targets. drift-watcher reads it while an unrelated read fails; the stored path still
/// contains the healthy targets.
#[test]
fn an_outdated_path_is_withdrawn_although_another_read_fails() {
    let aws = FakeAws::new(1).shared();
    let has_path = |aws: &Aws| {
        let fake = aws.lock().unwrap();
        let paths = fake.table.items.iter().filter(|item| item["item"]["S"].as_str().unwrap().contains("#path#"));
        paths.filter(|item| item["record"]["S"].as_str().unwrap().contains("load_balancers")).count()
    };
    play(async {
        run_once("drift-watcher", &aws, &[], "first").await;
        assert_eq!(has_path(&aws), 1);
        let is_detail = |call: &Call| call.action == "DescribeLoadBalancerAttributes";
        aws.lock().unwrap().plan = FaultPlan::always(is_detail, Fault::Deny);
        run_once("drift-watcher", &aws, &[], "attributes").await;
        assert_eq!(has_path(&aws), 1, "it still leads where it did");
        aws.lock().unwrap().plan = FaultPlan::always(|call| call.action == "DescribeListeners", Fault::Deny);
        run_once("drift-watcher", &aws, &[], "listeners").await;
        assert_eq!(has_path(&aws), 0, "where the listeners lead is not known");
        End::Done
    });
}
