//! Changes that CloudTrail reports: foreign changes start no run, and changes on a path start one that reads only the
//! services concerned.

use std::time::Duration;

use attack::faults::{Fault, FaultPlan};
use attack::{Aws, End, FakeAws, RunningFunction, play, report, target_group};
use guard_aws::testing::{cloudtrail_event, scheduled};
use guard_core::testing::service;
use serde_json::{Value, json};

/// CloudTrail's event of a change, with a fixed time.
fn change(id: usize, event_name: &str, parameters: &Value) -> Value {
    cloudtrail_event(&json!({
        "eventName": event_name,
        "eventID": format!("e-{id}"),
        "eventTime": "2026-03-14T08:00:00Z",
        "userIdentity": {"arn": "arn:aws:iam::111122223333:user/somebody"},
        "requestParameters": parameters,
    }))
}

fn foreign(id: usize) -> Value {
    let group = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef";
    let parameters = [
        ("RegisterTargets", json!({"targetGroupArn": group, "targets": [{"id": format!("i-{id:08}")}]})),
        ("AuthorizeSecurityGroupIngress", json!({"groupId": format!("sg-{id:08}")})),
        ("CreateRoute", json!({"routeTableId": format!("rtb-{id:08}"), "destinationCidrBlock": "10.9.0.0/16"})),
    ];
    let (event_name, parameters) = &parameters[id % 3];
    change(id, event_name, parameters)
}

/// A change on a path: the target group behind service `number` gets a target.
fn ours(id: usize, number: u32) -> Value {
    change(id, "RegisterTargets", &json!({"targetGroupArn": target_group(number), "targets": [{"id": "10.0.0.9"}]}))
}

/// An account whose paths drift-watcher has read, and an instance of drift-watcher.
async fn known_account(services: u32) -> (Aws, RunningFunction) {
    let aws = FakeAws::new(services).shared();
    let function = RunningFunction::new("drift-watcher", &aws, &[]);
    assert_eq!(function.run("first", &scheduled()).await, End::Done);
    aws.lock().unwrap().calls.clear();
    (aws, function)
}

/// The number of calls to the table, and the number of other calls.
fn calls(aws: &Aws) -> (usize, usize) {
    let fake = aws.lock().unwrap();
    let of_table = |action: &&str| ["Query", "PutItem", "UpdateItem"].contains(action);
    let actions = fake.calls.iter().map(|call| call.action.as_str());
    (actions.clone().filter(of_table).count(), actions.filter(|action| !of_table(action)).count())
}

/// The number of reads of a path's listeners.
fn runs(aws: &Aws) -> usize {
    aws.lock().unwrap().count("DescribeListeners")
}

#[test]
fn a_thousand_foreign_changes_start_no_run() {
    play(async {
        let (aws, function) = known_account(3).await;
        for id in 0..1000 {
            assert_eq!(function.run(&format!("run-{id}"), &foreign(id)).await, End::Done);
        }
        let mut refused = ours(1000, 1);
        refused["detail"]["errorCode"] = json!("AccessDenied");
        assert_eq!(function.run("refused", &refused).await, End::Done);
        let (table, others) = calls(&aws);
        report(&format!("1,000 foreign changes: {table} calls to the table, {others} others"));
        assert!(table <= 2_000);
        assert_eq!(others, 0);
    });
}

#[test]
fn every_change_concerns_a_service_without_stored_ids() {
    play(async {
        let aws = FakeAws::new(1).shared();
        let function = RunningFunction::new("drift-watcher", &aws, &[]);
        assert_eq!(function.run("nothing is stored yet", &foreign(1)).await, End::Done);
        assert_eq!(runs(&aws), 1);

        let (aws, function) = known_account(2).await;
        let is_of_first = |item: &Value| item["service"]["S"] == "ids" && item["item"]["S"] == service(1).as_str();
        aws.lock().unwrap().table.items.retain(|item| !is_of_first(item));
        assert_eq!(function.run("one is missing", &foreign(2)).await, End::Done);
        let read = |number: u32| {
            let fake = aws.lock().unwrap();
            let listeners = fake.calls.iter().filter(|call| call.action == "DescribeListeners");
            listeners.filter(|call| call.about.contains(&format!("lb-{number}"))).count()
        };
        assert_eq!((read(1), read(2)), (1, 0));
    });
}

#[test]
fn a_change_reads_only_the_services_that_it_concerns() {
    play(async {
        let (aws, function) = known_account(30).await;
        let began = tokio::time::Instant::now();
        assert_eq!(function.run("ours", &ours(1, 7)).await, End::Done);
        let seconds = began.elapsed().as_secs();
        let fake = aws.lock().unwrap();
        let read: Vec<&str> = fake
            .calls
            .iter()
            .filter(|call| call.action == "DescribeListeners")
            .map(|call| call.about.as_str())
            .collect();
        assert!(read.len() == 1 && read[0].contains("lb-7"), "{read:?}");
        let details = fake.calls.iter().filter(|call| call.action == "DescribeTargetGroupAttributes").count();
        assert_eq!(details, 1, "the change may be one of them");
        assert!(seconds < 5, "{seconds} s");
    });
}

/// The events of one deployment, which all name the same target group.
#[test]
fn a_burst_of_path_changes_causes_one_run_and_no_waiting() {
    play(async {
        let (aws, function) = known_account(3).await;
        let events = (0..150).map(async |id| {
            let began = tokio::time::Instant::now();
            let event = ours(id, 2);
            assert_eq!(function.run(&format!("run-{id}"), &event).await, End::Done);
            began.elapsed().as_millis()
        });
        let mut took = futures_util::future::join_all(events).await;
        took.sort_unstable();
        report(&format!("150 changes of ours: {} ms in the median, {} ms at most", took[75], took[149]));
        assert_eq!(runs(&aws), 1);
        assert!(took[148] < 500, "all but the one that runs end at once: {took:?}");
    });
}

#[test]
fn one_run_reads_concurrent_changes_to_many_services() {
    play(async {
        let (aws, function) = known_account(30).await;
        let events = (1..=30).map(async |number| {
            let event = ours(number as usize, number);
            assert_eq!(function.run(&format!("run-{number}"), &event).await, End::Done);
        });
        futures_util::future::join_all(events).await;
        let fake = aws.lock().unwrap();
        let of_listeners = fake.calls.iter().filter(|call| call.action == "DescribeListeners");
        let read: std::collections::BTreeSet<&str> = of_listeners.clone().map(|call| call.about.as_str()).collect();
        assert_eq!(read.len(), 30, "each service is read");
        assert!(of_listeners.count() <= 60, "by two runs at most");
        let begun = fake.calls.iter().filter(|call| call.action == "DescribeVpcEndpointConnections").count();
        report(&format!("30 changes to 30 services at once: {begun} runs"));
        assert!(begun <= 2, "{begun} runs");
    });
}

/// The retry has only the first event; the second invocation has ended, because the first event's run covered it.
#[test]
fn a_retry_reads_the_services_that_others_left_to_its_run() {
    play(async {
        let (aws, function) = known_account(3).await;
        aws.lock().unwrap().plan = FaultPlan::always(|call| call.action == "PutItem", Fault::Error);
        let (one, two) = (ours(1, 1), ours(2, 2));
        let ends = tokio::join!(function.run("one", &one), function.run("two", &two));
        let undone = |end: &End| matches!(end, End::Undone(_));
        assert!(undone(&ends.0) != undone(&ends.1), "one of them ran: {ends:?}");
        aws.lock().unwrap().plan = FaultPlan::Calm;
        aws.lock().unwrap().calls.clear();
        let (id, event) = if undone(&ends.0) { ("one", &one) } else { ("two", &two) };
        assert_eq!(function.run(id, event).await, End::Done);
        assert_eq!(runs(&aws), 2, "both services");
    });
}

/// The first run has begun when the second event arrives, and does not read the second event's service.
#[test]
fn a_started_run_covers_only_the_services_that_it_reads() {
    play(async {
        let (aws, function) = known_account(3).await;
        let (one, two) = (ours(1, 1), ours(2, 2));
        let later = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            function.run("two", &two).await
        };
        let ends = tokio::join!(function.run("one", &one), later);
        assert_eq!(ends, (End::Done, End::Done));
        let fake = aws.lock().unwrap();
        let of_listeners = fake.calls.iter().filter(|call| call.action == "DescribeListeners");
        let read: Vec<&str> = of_listeners.map(|call| call.about.as_str()).collect();
        assert!(read.len() == 2 && read[0].contains("lb-1") && read[1].contains("lb-2"), "{read:?}");
    });
}

/// The changes identify a default VPC's security group only by its name.
#[test]
fn changes_without_a_path_id_start_one_run_a_minute() {
    play(async {
        let (aws, function) = known_account(2).await;
        for id in 0..30 {
            let parameters = json!({"groupName": "default", "ipPermissions": {"items": [{"groupId": "sg-00000009"}]}});
            let event = change(id, "AuthorizeSecurityGroupIngress", &parameters);
            assert_eq!(function.run(&format!("run-{id}"), &event).await, End::Done);
        }
        assert_eq!(runs(&aws), 2, "one run, of both services");
    });
}

/// The change may concern a detail, and the run that it starts cannot read the details.
#[test]
fn the_schedule_reads_details_that_a_change_run_missed() {
    const DETAIL: &str = "DescribeLoadBalancerAttributes";
    play(async {
        let (aws, function) = known_account(1).await;
        aws.lock().unwrap().plan = FaultPlan::always(|call| call.action == DETAIL, Fault::Deny);
        assert_eq!(function.run("ours", &ours(1, 1)).await, End::Done);
        aws.lock().unwrap().plan = FaultPlan::Calm;
        let before = aws.lock().unwrap().count(DETAIL);
        assert_eq!(function.run("schedule", &scheduled()).await, End::Done);
        assert_eq!(aws.lock().unwrap().count(DETAIL), before + 1);
        assert_eq!(function.run("next schedule", &scheduled()).await, End::Done);
        assert_eq!(aws.lock().unwrap().count(DETAIL), before + 1);
    });
}

#[test]
fn a_partly_failed_read_adds_ids_and_never_replaces_them() {
    play(async {
        let (aws, function) = known_account(1).await;
        aws.lock().unwrap().plan = FaultPlan::always(|call| call.action == "DescribeTargetGroups", Fault::Deny);
        assert_eq!(function.run("partial", &scheduled()).await, End::Done);
        aws.lock().unwrap().plan = FaultPlan::Calm;
        let before = runs(&aws);
        assert_eq!(function.run("ours", &ours(1, 1)).await, End::Done);
        assert_eq!(runs(&aws), before + 1, "its target group is still known");
        assert_eq!(function.run("foreign", &foreign(2)).await, End::Done);
        assert_eq!(runs(&aws), before + 1);
        let ids = aws.lock().unwrap().table.items.iter().filter(|item| item["service"]["S"] == "ids").count();
        assert_eq!(ids, 1, "{}", service(1));
    });
}

/// health-watcher detects the failure; drift-watcher receives the change.
#[test]
fn an_early_or_late_target_change_is_named_as_the_cause() {
    let deregistered = |id, number| {
        change(
            id,
            "DeregisterTargets",
            &json!({"targetGroupArn": target_group(number), "targets": [{"id": "10.0.0.9"}]}),
        )
    };
    let heard = |aws: &Aws| -> Vec<(String, String)> {
        let fake = aws.lock().unwrap();
        let of_health = fake.published.iter().filter(|sent| sent.check == "target-group.health");
        of_health.map(|sent| (sent.kind.clone(), sent.cause.clone())).collect()
    };
    let pair = |kind: &str, cause: &str| (kind.to_owned(), cause.to_owned());
    play(async {
        for is_late in [false, true] {
            let (aws, drift) = known_account(2).await;
            let health = RunningFunction::new("health-watcher", &aws, &[]);
            let look = async |id: &str| assert_eq!(health.run(id, &scheduled()).await, End::Done);
            look("all is well").await;
            aws.lock().unwrap().unhealthy = [1].into();
            if is_late {
                look("once").await;
                look("twice").await;
                assert_eq!(heard(&aws), [pair("firing", "")]);
            }
            for (id, number) in [(1, 1), (2, 2)] {
                assert_eq!(drift.run(&format!("event-{id}"), &deregistered(id, number)).await, End::Done);
            }
            look("then").await;
            look("and then").await;
            let expected = match is_late {
                true => vec![pair("firing", ""), pair("notice", "DeregisterTargets")],
                false => vec![pair("firing", "DeregisterTargets")],
            };
            assert_eq!(heard(&aws), expected);
        }
    });
}

/// The slower run reads first and knows the cause, but the other one writes the alert first.
#[test]
fn two_concurrent_runs_name_a_cause_once() {
    for offset in (1_000..2_000).step_by(50) {
        let aws = FakeAws::new(1).shared();
        play(async {
            let by_change = RunningFunction::with_latency(Duration::from_millis(100), "drift-watcher", &aws, &[]);
            let by_schedule = RunningFunction::new("drift-watcher", &aws, &[]);
            assert_eq!(by_schedule.run("before", &scheduled()).await, End::Done);
            aws.lock().unwrap().others_allowed.insert(1);
            let parameters = json!({"serviceId": service(1).to_string(), "addAllowedPrincipals": ["777777777777"]});
            let event = change(1, "ModifyVpcEndpointServicePermissions", &parameters);
            let schedule = async {
                tokio::time::sleep(Duration::from_millis(offset)).await;
                by_schedule.run("beside", &scheduled()).await
            };
            let ends = tokio::join!(by_change.run("by a change", &event), schedule);
            assert_eq!(ends, (End::Done, End::Done));
        });
        let fake = aws.lock().unwrap();
        let of_check = || fake.published.iter().filter(|sent| sent.check == "service.principals");
        let kinds: Vec<&str> = of_check().map(|sent| sent.kind.as_str()).collect();
        let causes = of_check().filter(|sent| sent.cause == "ModifyVpcEndpointServicePermissions").count();
        assert_eq!(causes, 1, "{offset} ms: {kinds:?}");
    }
}
