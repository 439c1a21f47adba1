//! AWS's rate limits: the guard waits before AWS throttles, and services take turns if one run cannot read everything.

use std::collections::BTreeSet;
use std::time::Duration;

use attack::faults::{Fault, FaultPlan};
use attack::limits::Limits;
use attack::{Aws, End, FakeAws, Published, RunningFunction, play, report, run_once, target_group};
use guard_aws::testing::scheduled;
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_mins(1);

/// An account with this number of services and target groups per service, beside a tool that makes `other_tool` calls
/// per second.
fn account(services: u32, groups: u32, other_tool: f64) -> Aws {
    let limits = Limits::beside(other_tool);
    FakeAws { more_groups: groups - 1, limits, ..FakeAws::new(services) }.shared()
}

/// Runs a function `runs` times on its schedule. A long run does not delay the next one, which begins in another
/// instance.
async fn scheduled_runs(function: &str, aws: &Aws, runs: u32) {
    let every = if function == "drift-watcher" { 15 * MINUTE } else { MINUTE };
    let instances = [0, 1].map(|_| RunningFunction::new(function, aws, &[("ALERT_AFTER", "1")]));
    let run = async |number: u32| {
        sleep(every * number).await;
        let end = instances[number as usize % 2].run(&format!("{function}-{number}"), &scheduled()).await;
        assert_eq!(end, End::Done, "{function}, run {number}");
    };
    futures_util::future::join_all((0..runs).map(run)).await;
}

/// The numbers of made and of refused calls to ELB and EC2 since call number `since`, and the target groups that were
/// read.
fn summary(aws: &Aws, since: usize) -> (usize, usize, BTreeSet<String>) {
    let fake = aws.lock().unwrap();
    let paced = fake.calls[since..].iter().filter(|call| call.action.starts_with("Describe"));
    let refused = paced.clone().filter(|call| call.trouble.is_some()).count();
    let read = paced.clone().filter(|call| call.action == "DescribeTargetHealth" && call.trouble.is_none());
    (paced.clone().count(), refused, read.map(|call| call.about.clone()).collect())
}

fn alerts(aws: &Aws) -> Vec<Published> {
    let sent = aws.lock().unwrap().published.clone();
    sent.into_iter().filter(|sent| sent.kind != "notice").collect()
}

/// All functions start at once, as after a deployment; then health-watcher runs every minute.
#[test]
fn sixty_target_groups_are_read_beside_another_tool() {
    let aws = account(20, 3, 4.0);
    play(async {
        tokio::join!(
            scheduled_runs("connection-acceptor", &aws, 1),
            scheduled_runs("drift-watcher", &aws, 1),
            scheduled_runs("health-watcher", &aws, 3)
        );
    });
    let (calls, refused, read) = summary(&aws, 0);
    report(&format!("20 services, 60 target groups beside 4 calls a second: {calls} calls, {refused} refused"));
    assert_eq!(read.len(), 60);
    assert!(refused * 20 < calls, "{refused} of {calls} refused");
    assert_eq!(alerts(&aws), [], "no read failed");
}

#[test]
fn three_hundred_target_groups_take_turns() {
    let aws = account(30, 10, 0.0);
    play(async {
        // Six runs read all paths with their details; the first run does not know the lengths of the paths.
        scheduled_runs("drift-watcher", &aws, 6).await;
        assert_eq!(summary(&aws, 0).2.len(), 300, "the settings of all");
        let since = aws.lock().unwrap().calls.len();
        scheduled_runs("health-watcher", &aws, 4).await;
        let (calls, refused, read) = summary(&aws, since);
        report(&format!("30 services, 300 target groups: {calls} calls of four health runs, {refused} refused"));
        assert_eq!((read.len(), refused), (300, 0), "the health of all");
    });
    assert_eq!(alerts(&aws), [], "whose turn it was not has no result");
    let fake = aws.lock().unwrap();
    let turns = fake.table.items.iter().filter(|item| item["service"]["S"] == "turns");
    assert_eq!(turns.count(), 2, "an item per function");
}

#[test]
fn a_service_with_an_alert_is_read_in_every_run() {
    let aws = account(30, 10, 0.0);
    play(async {
        scheduled_runs("drift-watcher", &aws, 5).await;
        aws.lock().unwrap().unhealthy = [29].into();
        scheduled_runs("health-watcher", &aws, 4).await;
        let fired = |aws: &Aws| {
            let fake = aws.lock().unwrap();
            let alerts = fake.published.iter().filter(|sent| sent.check == "target-group.health");
            alerts.map(|sent| (sent.kind.clone(), sent.service.clone())).collect::<BTreeSet<_>>()
        };
        assert_eq!(fired(&aws), [("firing".to_owned(), guard_core::testing::service(29).to_string())].into());
        for run in 0..3 {
            let since = aws.lock().unwrap().calls.len();
            scheduled_runs("health-watcher", &aws, 1).await;
            let read = summary(&aws, since).2;
            assert!(
                read.len() < 300 && read.iter().any(|about| about.contains("tg-29%2F") || about.contains("tg-29/")),
                "{run}"
            );
        }
    });
}

/// Control planes fail together with targets, and an outage hits everything at once.
#[test]
fn the_run_that_detects_a_total_outage_reports_it() {
    let aws = account(25, 2, 4.0);
    play(async {
        scheduled_runs("drift-watcher", &aws, 1).await;
        aws.lock().unwrap().unhealthy = (1..=25).collect();
        scheduled_runs("health-watcher", &aws, 1).await;
    });
    let fired: BTreeSet<String> =
        alerts(&aws).into_iter().map(|sent| format!("{} {}", sent.check, sent.resource)).collect();
    assert_eq!(fired.len(), 50, "{fired:?}");
    assert!(fired.iter().all(|about| about.starts_with("target-group.health ")), "{fired:?}");
}

/// drift-watcher's own calls start no run, so it must remember the values that it has set.
#[test]
fn an_enforced_attribute_is_not_set_again() {
    let aws = account(1, 1, 0.0);
    aws.lock().unwrap().cross_zone_off = [1].into();
    play(async {
        for id in ["first", "second", "third"] {
            let function = RunningFunction::new("drift-watcher", &aws, &[("CROSS_ZONE", "enforce")]);
            assert_eq!(function.run(id, &scheduled()).await, End::Done, "{id}");
        }
    });
    assert_eq!(aws.lock().unwrap().count("ModifyLoadBalancerAttributes"), 1);
    let kinds: Vec<String> = alerts(&aws).into_iter().map(|sent| sent.kind).collect();
    assert_eq!(kinds, ["firing", "resolved"]);
}

#[test]
fn small_accounts_need_no_turns() {
    let aws = account(30, 1, 0.0);
    play(async {
        tokio::join!(scheduled_runs("drift-watcher", &aws, 2), scheduled_runs("health-watcher", &aws, 2));
    });
    assert_eq!(alerts(&aws), []);
    assert!(aws.lock().unwrap().table.items.iter().all(|item| item["service"]["S"] != "turns"));
}

/// The calls that read details, which seldom change; most calls return only one resource's details.
const DETAILS: [&str; 6] = [
    "DescribeListenerAttributes",
    "DescribeLoadBalancerAttributes",
    "DescribeTargetGroups",
    "DescribeTargetGroupAttributes",
    "DescribeTags",
    "DescribeVpcEndpointConnectionNotifications",
];

/// The number of calls for details since call number `since`.
fn details(aws: &Aws, since: usize) -> usize {
    let fake = aws.lock().unwrap();
    fake.calls[since..].iter().filter(|call| DETAILS.contains(&call.action.as_str())).count()
}

#[test]
fn details_are_read_hourly_and_while_an_alert_is_open() {
    let aws = account(1, 1, 0.0);
    let topic = [("NOTIFICATION_TOPIC_ARN", "arn:aws:sns:eu-central-1:111122223333:notifications")];
    let run = async |id: &str| {
        let since = aws.lock().unwrap().calls.len();
        let end = run_once("drift-watcher", &aws, &topic, id).await;
        assert_eq!(end, End::Done, "{id}");
        details(&aws, since)
    };
    play(async {
        assert_eq!((run("first").await, run("second").await), (DETAILS.len(), 0));
        aws.lock().unwrap().others_allowed = [1].into();
        assert_eq!((run("fails").await, run("open").await), (0, DETAILS.len()));
        aws.lock().unwrap().others_allowed.clear();
        assert_eq!((run("fixed").await, run("resolved").await), (DETAILS.len(), 0));
        aws.lock().unwrap().table.items.retain(|item| !item["item"]["S"].as_str().unwrap().contains("#path#"));
        assert_eq!(run("forgotten").await, DETAILS.len());
    });
}

/// AWS throttles for twenty seconds, because another tool uses up the limit.
#[test]
fn a_throttled_read_is_repeated_until_time_runs_out() {
    let aws = account(1, 1, 0.0);
    play(async {
        let function = RunningFunction::new("drift-watcher", &aws, &[]);
        aws.lock().unwrap().plan = FaultPlan::always(|call| call.action == "DescribeListeners", Fault::Throttle);
        let later = async {
            sleep(Duration::from_secs(20)).await;
            aws.lock().unwrap().plan = FaultPlan::Calm;
        };
        let event = scheduled();
        let (end, ()) = tokio::join!(function.run("busy", &event), later);
        assert_eq!(end, End::Done);
    });
    let fake = aws.lock().unwrap();
    assert_eq!(fake.published, []);
    assert!(fake.count("DescribeListeners") < 20, "with pauses: {}", fake.count("DescribeListeners"));
    let read: Vec<&str> = fake.calls.iter().map(|call| call.about.as_str()).collect();
    assert!(read.iter().any(|about| about.contains(&target_group(1))), "and then all is read");
}
