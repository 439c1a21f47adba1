//! Flows: the real template, the real functions, a local AWS, and people with the AWS CLI.
//!
//! Each test has a local AWS and a stack of its own, so that they can run side by side.

// A flow is read from top to bottom.
#![allow(clippy::too_many_lines, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flows::company::{Company, TARGETS};
use flows::local_aws::{LocalAws, Who, eventually, text, top};
use flows::mail::{self, Mail};
use flows::stack::{self, Stack};
use flows::story::{Audience, Chapter, Stage};
use flows::{COMPANY, STRANGER};
use serde_json::{Value, json};

/// Sees the story in silence.
struct Nobody;

impl Audience for Nobody {
    fn step(&mut self, _: &str, _: &[String]) {}
    fn heard(&mut self, _: &Mail, _: Duration) {}
    fn ended(&mut self, _: &Chapter) {}
}

/// More forged notifications than there may be looks while they are sent.
const FORGED: usize = 40;

fn scheduled() -> Value {
    json!({"source": "aws.events", "detail-type": "Scheduled Event"})
}

/// A stack of its own, for a company of its own.
fn guarded(minute: u32, parameters: &[(&str, &str)]) -> Result<(LocalAws, Company, Stack)> {
    let aws = LocalAws::start(minute)?;
    let company = Company::found(&aws, "postgres")?;
    stack::build(&aws)?;
    let stack = Stack::deploy(&aws, "guard", &[&company.service], parameters)?;
    Ok((aws, company, stack))
}

#[test]
fn the_story_of_the_demo() -> Result<()> {
    let mut stage = Stage::set(&mut Nobody)?;
    for chapter in stage.play(&mut Nobody)? {
        chapter.result.with_context(|| chapter.title)?;
    }
    // One email for each thing that happened, and the same in Slack.
    let delivered = mail::since(&stage.aws, 0)?;
    let subjects = |protocol: &str| -> Vec<String> {
        delivered.iter().filter(|mail| mail.protocol == protocol).map(|mail| mail.subject.clone()).collect()
    };
    let labels: Vec<String> =
        subjects("email").iter().map(|subject| subject.split(' ').next().unwrap_or_default().to_owned()).collect();
    #[rustfmt::skip]
    let expected = [
        "[NOTICE]", "[CRITICAL]", "[WARNING]", "[WARNING]", "[RESOLVED]", "[WARNING]", "[RESOLVED]",
        "[CRITICAL]", "[RESOLVED]", "[CRITICAL]", "[RESOLVED]", "[WARNING]", "[RESOLVED]", "[WARNING]",
    ];
    assert_eq!(labels, expected);
    assert_eq!(subjects("email"), subjects("https"));
    Ok(())
}

#[test]
fn whatever_goes_wrong_dbt_is_let_in_and_people_hear_it_once() -> Result<()> {
    // Schedules so slow that only what a test does makes the guard look.
    let quiet = [
        ("AcceptorSchedule", "rate(2 hours)"),
        ("HealthSchedule", "rate(2 hours)"),
        ("DriftSchedule", "rate(2 hours)"),
    ];
    let parameters = [quiet[0], quiet[1], quiet[2], ("AlertAfter", "1"), ("ResolveAfter", "1")];
    let (aws, company, stack) = guarded(60, &parameters)?;
    let look = || stack.invoke(&aws, "ConnectionAcceptorName", &scheduled());
    let look_as = |run: usize| stack.invoke_as(&aws, "ConnectionAcceptorName", &scheduled(), run);
    company.allow_anybody(&aws)?;
    mail::wait(&aws, 0, "[CRITICAL]", "anybody may ask")?;

    // Strangers fill the first pages; dbt's request is on the last.
    aws.control(&["page-size", "1"])?;
    let heard = mail::last(&aws)?;
    let strangers = [company.stranger_connects(&aws)?, company.stranger_connects(&aws)?];
    // One alert for the account, however many endpoints it creates.
    mail::wait(&aws, heard, "[WARNING]", &format!("account {STRANGER} is not dbt's and asks"))?;
    let dbt = company.dbt_connects(&aws)?;
    eventually("dbt's endpoint to be available", 30, || Ok((company.state(&aws, &dbt)? == "available").then_some(())))?;
    mail::wait(&aws, heard, "[NOTICE]", &format!("dbt is connected through {dbt}"))?;
    aws.control(&["page-size", "0"])?;

    // Forged and repeated notifications, and four runs at once: nobody is let in, nothing is told again.
    let topic = stack.output("NotificationTopicArn")?;
    let forged = json!({"vpcEndpointId": strangers[0], "vpcEndpointOwner": flows::DBT, "serviceId": company.service});
    let deliveries = || {
        let invoked = aws.control(&["invocations"])?;
        Ok::<_, anyhow::Error>(invoked.as_array().into_iter().flatten().filter(|run| run["trigger"] == "sns").count())
    };
    let (before, delivered) = (requests(&aws, "ConnectionAcceptor")?.len(), deliveries()?);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let rings: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..FORGED / 4 {
                        aws.control(&["notify", "--topic", topic, "--message", &forged.to_string()])?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        rings.into_iter().try_for_each(|ring| ring.join().expect("no panic"))
    })?;
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|run| scope.spawn(move || look_as(run))).collect();
        runs.into_iter().try_for_each(|run| {
            assert_eq!(run.join().expect("no panic")?, None);
            anyhow::Ok(())
        })
    })?;
    eventually("the notifications to be handled", 30, || Ok((deliveries()? >= delivered + FORGED).then_some(())))?;
    let seconds = began.elapsed().as_secs();
    let asked = requests(&aws, "ConnectionAcceptor")?.into_iter().skip(before);
    let reads = asked.filter(|action| action == "ec2:DescribeVpcEndpointConnections").count() as u64;
    let bound = 4 + 2 * (seconds + 1);
    ensure!(bound < 4 + FORGED as u64, "too slow to tell: {FORGED} notifications took {seconds} s");
    ensure!(reads <= bound, "{reads} reads in {seconds} s: 4 runs, and two looks a second");
    for stranger in &strangers {
        assert_eq!(company.state(&aws, stranger)?, "pendingAcceptance");
    }
    assert_eq!(mail::times_told(&aws, 0, "[WARNING]", &format!("account {STRANGER} is not dbt's and asks"))?, 1);
    assert_eq!(mail::times_told(&aws, 0, "[NOTICE]", &dbt)?, 1);

    // SNS refuses: a later run tells, once.
    aws.control(&["fault", "--action", "sns:Publish", "--code", "InternalError", "--status", "500"])?;
    let heard = mail::last(&aws)?;
    let second = company.dbt_connects(&aws)?;
    eventually("dbt's second endpoint to be available", 30, || {
        Ok((company.state(&aws, &second)? == "available").then_some(()))
    })?;
    let failed = eventually("a run that cannot tell to end in error", 60, look)?;
    ensure!(failed.contains("sns:Publish"), "{failed}");
    assert_eq!(mail::times_told(&aws, heard, "[NOTICE]", &second)?, 0);
    aws.control(&["fault", "--clear"])?;
    eventually("the notice to be told after all", 60, || {
        look()?;
        Ok((mail::times_told(&aws, heard, "[NOTICE]", &second)? > 0).then_some(()))
    })?;
    look()?;
    assert_eq!(mail::times_told(&aws, heard, "[NOTICE]", &second)?, 1);

    // EC2 refuses one item: an alert with its code, no error; then it takes it, and the alert is over.
    #[rustfmt::skip]
    aws.control(&["fault", "--action", "ec2:AcceptVpcEndpointConnections", "--unsuccessful", "NotJustNow"])?;
    let heard = mail::last(&aws)?;
    let third = company.dbt_connects(&aws)?;
    mail::wait(&aws, heard, "[CRITICAL]", "could not be accepted: NotJustNow")?;
    let asked = |action: &str| {
        Ok::<_, anyhow::Error>(requests(&aws, "ConnectionAcceptor")?.iter().filter(|asked| *asked == action).count())
    };
    let before = asked("ec2:AcceptVpcEndpointConnections")?;
    assert_eq!(look()?, None);
    let after = asked("ec2:AcceptVpcEndpointConnections")?;
    assert_eq!(after, before + 1, "CloudTrail tells of the guard's own calls, and those must not ring again");
    aws.control(&["fault", "--clear"])?;
    assert_eq!(look()?, None);
    mail::wait(&aws, heard, "[RESOLVED]", &format!("dbt's request {third} could not be accepted"))?;
    eventually("dbt's third endpoint to be available", 30, || {
        look()?;
        Ok((company.state(&aws, &third)? == "available").then_some(()))
    })?;
    assert_eq!(mail::times_told(&aws, heard, "[CRITICAL]", &third)?, 1);

    // A read is denied: that is an alert with the action's name, and an error; the other checks go on.
    #[rustfmt::skip]
    aws.control(&["fault", "--action", "elasticloadbalancing:DescribeTargetHealth", "--code", "AccessDenied", "--status", "403"])?;
    let heard = mail::last(&aws)?;
    let failed = stack.invoke(&aws, "HealthWatcherName", &scheduled())?.context("it ends in error")?;
    ensure!(failed.contains("elasticloadbalancing:DescribeTargetHealth"), "{failed}");
    mail::wait(&aws, heard, "[WARNING]", "elasticloadbalancing:DescribeTargetHealth")?;
    aws.control(&["fault", "--clear"])?;
    assert_eq!(stack.invoke(&aws, "HealthWatcherName", &scheduled())?, None);
    mail::wait(&aws, heard, "[RESOLVED]", "elasticloadbalancing:DescribeTargetHealth fails")?;

    // All targets fail one after the other: once as a warning, once more as critical.
    let heard = mail::last(&aws)?;
    for target in TARGETS {
        company.set_health(&aws, target, "unhealthy")?;
        // Three runs at the same time, against the same table.
        std::thread::scope(|scope| {
            let look = |run: usize| stack.invoke_as(&aws, "HealthWatcherName", &scheduled(), run);
            let looks: Vec<_> = (0..3).map(|run| scope.spawn(move || look(run))).collect();
            looks.into_iter().try_for_each(|look| {
                assert_eq!(look.join().expect("no panic")?, None);
                anyhow::Ok(())
            })
        })?;
    }
    mail::wait(&aws, heard, "[WARNING]", "1 of 3 targets down")?;
    mail::wait(&aws, heard, "[CRITICAL]", "3 of 3 targets down")?;
    assert_eq!(mail::emails_since(&aws, heard)?.len(), 2);

    // Asked whether it is alive, it says so.
    let heard = mail::last(&aws)?;
    let alive = json!({"source": "privatelink-guard.still-watching"});
    assert_eq!(stack.invoke(&aws, "DriftWatcherName", &alive)?, None);
    mail::wait(&aws, heard, "[NOTICE]", "still watching: 11 checks of the settings pass, 1 fail, 0 are unknown")?;

    // The table cannot be read: what is bad is said, once by this instance, and the run ends in error.
    aws.control(&["fault", "--action", "dynamodb:Query", "--code", "InternalServerError", "--status", "500"])?;
    let heard = mail::last(&aws)?;
    for _ in 0..2 {
        let failed = stack.invoke(&aws, "HealthWatcherName", &scheduled())?.context("it ends in error")?;
        ensure!(failed.contains("dynamodb:Query"), "{failed}");
    }
    mail::wait(&aws, heard, "[CRITICAL]", "this may be told again")?;
    assert_eq!(mail::times_told(&aws, heard, "[CRITICAL]", "3 of 3 targets down")?, 1);
    aws.control(&["fault", "--clear"])?;

    // EC2 says what nobody knows: an alert, and nothing is changed.
    let heard = mail::last(&aws)?;
    aws.control(&["connection", "--endpoint-id", &dbt, "--state", "levitating"])?;
    assert_eq!(look()?, None);
    mail::wait(&aws, heard, "[CRITICAL]", "unknown state 'levitating'")?;
    assert_eq!(company.state(&aws, &dbt)?, "levitating");
    Ok(())
}

#[test]
fn the_strict_guard_turns_strangers_out_and_has_just_the_permissions_it_uses() -> Result<()> {
    let aws = LocalAws::start(2)?;
    let company = Company::found(&aws, "postgres")?;
    let other = Company::found(&aws, "gitlab")?;
    // Long before the guard, somebody let a stranger in, on both services.
    let mut strangers = Vec::new();
    for company in [&company, &other] {
        company.allow_anybody(&aws)?;
        let stranger = company.stranger_connects(&aws)?;
        #[rustfmt::skip]
        aws.aws(&company.admin, &["ec2", "accept-vpc-endpoint-connections", "--service-id", &company.service,
            "--vpc-endpoint-ids", &stranger])?;
        eventually("the stranger to be in", 30, || Ok((company.state(&aws, &stranger)? == "available").then_some(())))?;
        strangers.push(stranger);
    }

    stack::build(&aws)?;
    let parameters = [("UnknownRequesters", "reject"), ("CrossZone", "enforce")];
    let stack = Stack::deploy(&aws, "guard", &[&company.service], &parameters)?;
    let queue = subscribe_queue(&aws, &stack)?;
    // An instance in one zone of two, and a prefix list: what takes further reads to judge.
    company.serve_the_web(&aws)?;
    mail::wait(&aws, 0, "[INFO]", "1 of 2 zones has no healthy target in target group web")?;
    eventually("the schedule to turn the stranger out", 60, || {
        Ok((company.state(&aws, &strangers[0])? == "rejected").then_some(()))
    })?;
    mail::wait(&aws, 0, "[RESOLVED]", &format!("account {STRANGER} is not dbt's and is connected ({})", strangers[0]))?;
    assert_eq!(other.state(&aws, &strangers[1])?, "available", "the service of others is not ours to guard");

    // A target group that overrides the load balancer is set back as well.
    let attribute = "Key=load_balancing.cross_zone.enabled,Value=false";
    #[rustfmt::skip]
    aws.aws(&company.admin, &["elbv2", "modify-target-group-attributes", "--target-group-arn", &company.target_group,
        "--attributes", attribute])?;
    mail::wait(&aws, 0, "[RESOLVED]", "which overrides postgres")?;
    company.set_cross_zone(&aws, false)?;
    eventually("cross-zone to be back on", 30, || company.cross_zone(&aws).map(|on| on.then_some(())))?;
    let dbt = company.dbt_connects(&aws)?;
    mail::wait(&aws, 0, "[NOTICE]", &format!("dbt is connected through {dbt}"))?;
    eventually("every function to have run on its schedule", 60, || {
        let runs = aws.control(&["invocations"])?;
        let scheduled: BTreeSet<String> = runs
            .as_array()
            .into_iter()
            .flatten()
            .filter(|run| run["trigger"] == "schedule" && run["ok"] == true)
            .filter_map(|run| run["function"].as_str().map(ToOwned::to_owned))
            .collect();
        Ok((scheduled.len() == 3).then_some(()))
    })?;

    // What a program receives is as the schema says.
    let received = eventually("messages in the queue", 30, || {
        #[rustfmt::skip]
        let answer = aws.aws(&Who::account(COMPANY), &["sqs", "receive-message", "--queue-url", &queue,
            "--max-number-of-messages", "10"])?;
        Ok(answer["Messages"].as_array().cloned())
    })?;
    for message in &received {
        validate(&text(message, "/Body")?)?;
    }

    // Least privilege, both ways: what each function did is what its role allows, no less (the local AWS enforces it)
    // and no more.
    for function in ["ConnectionAcceptor", "HealthWatcher", "DriftWatcher"] {
        let used: BTreeSet<String> = requests(&aws, function)?.into_iter().collect();
        let mut allowed = allowed_actions(&aws, &format!("{function}Role"))?;
        // Lambda's own, in the function's name: it logs, and queues what failed.
        for lambdas in ["logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"] {
            assert!(allowed.remove(lambdas), "{function} lets Lambda do {lambdas}");
        }
        assert_eq!(used, allowed, "{function}: used, and allowed");
    }
    Ok(())
}

#[test]
fn every_point_of_the_checklist_is_told_and_over_when_mended() -> Result<()> {
    let aws = LocalAws::start(60)?;
    let postgres = Company::found(&aws, "postgres")?;
    let gitlab = Company::found(&aws, "gitlab")?;
    gitlab.serve_the_web(&aws)?;
    stack::build(&aws)?;
    // Schedules so slow that only CloudTrail and the test make the guard look.
    let quiet = ["AcceptorSchedule", "HealthSchedule", "DriftSchedule"].map(|schedule| (schedule, "rate(2 hours)"));
    let parameters = [quiet[0], quiet[1], quiet[2], ("AlertAfter", "1"), ("ResolveAfter", "1")];
    let stack = Stack::deploy(&aws, "guard", &[&postgres.service, &gitlab.service], &parameters)?;
    let drift = || stack.invoke(&aws, "DriftWatcherName", &scheduled());
    let health = || stack.invoke(&aws, "HealthWatcherName", &scheduled());

    // As dbt's guide says, all is well; but for the one instance behind two zones. Each fact was asked for once: two
    // services, two load balancers, three target groups, one prefix list.
    assert_eq!(drift()?, None);
    assert_eq!(health()?, None);
    mail::wait(&aws, 0, "[INFO]", "1 of 2 zones has no healthy target in target group web")?;
    assert_eq!(mail::emails_since(&aws, 0)?.len(), 1);
    #[rustfmt::skip]
    assert_eq!(calls(&aws, "DriftWatcher", drift)?, [
        ("dynamodb:Query", 2),
        ("ec2:DescribeInstances", 1),
        ("ec2:DescribeNetworkAcls", 1),
        ("ec2:DescribeNetworkInterfaces", 1),
        ("ec2:DescribeRouteTables", 1),
        ("ec2:DescribeSecurityGroupRules", 1),
        ("ec2:DescribeSubnets", 1),
        ("ec2:DescribeVpcEndpointConnectionNotifications", 1),
        ("ec2:DescribeVpcEndpointConnections", 1),
        ("ec2:DescribeVpcEndpointServiceConfigurations", 1),
        ("ec2:DescribeVpcEndpointServicePermissions", 2),
        ("ec2:GetManagedPrefixListEntries", 1),
        ("elasticloadbalancing:DescribeListeners", 2),
        ("elasticloadbalancing:DescribeLoadBalancerAttributes", 2),
        ("elasticloadbalancing:DescribeLoadBalancers", 1),
        ("elasticloadbalancing:DescribeTargetGroupAttributes", 3),
        ("elasticloadbalancing:DescribeTargetGroups", 1),
        ("elasticloadbalancing:DescribeTargetHealth", 3),
    ].map(owned));
    #[rustfmt::skip]
    assert_eq!(calls(&aws, "HealthWatcher", health)?, [
        ("dynamodb:Query", 2),
        ("ec2:DescribeInstances", 1),
        ("ec2:DescribeVpcEndpointServiceConfigurations", 1),
        ("elasticloadbalancing:DescribeListeners", 2),
        // Attributes for the one target group that has no healthy target in some zone.
        ("elasticloadbalancing:DescribeLoadBalancerAttributes", 1),
        ("elasticloadbalancing:DescribeLoadBalancers", 1),
        ("elasticloadbalancing:DescribeTargetGroupAttributes", 1),
        ("elasticloadbalancing:DescribeTargetGroups", 1),
        ("elasticloadbalancing:DescribeTargetHealth", 3),
    ].map(owned));

    // An administrator turns everything the wrong way; and AWS answers a row at a time.
    aws.control(&["page-size", "1"])?;
    let heard = mail::last(&aws)?;
    let service = |company: &Company, change: &[&str]| {
        let command = ["ec2", "modify-vpc-endpoint-service-configuration", "--service-id", &company.service];
        company.administer(&aws, &[&command, change].concat())
    };
    service(&postgres, &["--no-acceptance-required"])?;
    service(&postgres, &["--private-dns-name", "pg.example.com"])?;
    #[rustfmt::skip]
    postgres.administer(&aws, &["ec2", "modify-vpc-endpoint-service-permissions", "--service-id", &postgres.service,
        "--add-allowed-principals", &format!("arn:aws:iam::{STRANGER}:root"), "arn:aws:iam::555555555555:role/a",
        "--remove-allowed-principals", &format!("arn:aws:iam::{}:root", flows::DBT)])?;
    let filter = format!("Name=service-id,Values={}", postgres.service);
    #[rustfmt::skip]
    let notifications =
        postgres.administer(&aws, &["ec2", "describe-vpc-endpoint-connection-notifications", "--filters", &filter])?;
    let notification = text(&notifications, "/ConnectionNotificationSet/0/ConnectionNotificationId")?;
    #[rustfmt::skip]
    postgres.administer(&aws, &["ec2", "delete-vpc-endpoint-connection-notifications",
        "--connection-notification-ids", &notification])?;
    postgres.shut_dbt_out(&aws)?;
    postgres.deny_in_network_acl(&aws)?;
    gitlab.stop_listening(&aws)?;
    #[rustfmt::skip]
    gitlab.administer(&aws, &["ec2", "authorize-security-group-ingress", "--group-id", &gitlab.security_group,
        "--protocol", "tcp", "--port", "443", "--cidr", "10.0.0.0/8"])?;
    service(&gitlab, &["--add-supported-regions", "us-east-1"])?;
    gitlab.connect_from_region(&aws, flows::DBT, "us-east-1")?;
    service(&gitlab, &["--remove-supported-regions", "us-east-1"])?;

    // What is told of it, and whether the printed command mends it.
    let told = [
        (&postgres, "service.acceptance-required", "[CRITICAL]", "connected without anybody accepting them"),
        (&postgres, "service.private-dns", "[WARNING]", "pg.example.com is not verified"),
        (&postgres, "service.principals", "[CRITICAL]", "dbt may not ask to connect"),
        (&postgres, "service.notification", "[WARNING]", "does not tell the guard of 4 of 4 events"),
        (&postgres, "load-balancer.security-groups", "[CRITICAL]", "security groups of postgres keep dbt out"),
        (&postgres, "network-path", "[WARNING]", "targets in target group postgres"),
        (&gitlab, "load-balancer.broad-rule", "[WARNING]", "1 rule of gitlab lets in more than dbt"),
        (&gitlab, "service.regions", "[WARNING]", "dbt connects from us-east-1"),
    ];
    let listener = "no listener serves port 5432 of gitlab";
    mail::wait(&aws, heard, "[CRITICAL]", listener)?;
    for (_, _, label, words) in told {
        mail::wait(&aws, heard, label, words)?;
    }
    for (company, check, _, words) in told {
        company.follow(&aws, heard, check, words)?;
    }
    gitlab.listen(&aws)?;
    // The wide rule's command takes nothing out, since targets might depend on it; the evidence has the one that does.
    let wide = mail::wait(&aws, heard, "[WARNING]", "1 rule of gitlab lets in more than dbt")?;
    let revoke = wide.body.lines().find_map(|line| line.split_once("to take it out: ")).context("the second step")?.1;
    aws.paste(&gitlab.admin, revoke)?;
    for words in told.map(|(.., words)| words).into_iter().chain([listener]) {
        mail::wait(&aws, heard, "[RESOLVED]", words)?;
    }

    // What no call of the company's changes is seen by the schedule.
    let heard = mail::last(&aws)?;
    aws.control(&["load-balancer", "--load-balancer", &gitlab.load_balancer, "--state", "active_impaired"])?;
    #[rustfmt::skip]
    postgres.administer(&aws, &["elbv2", "register-targets", "--target-group-arn", &postgres.target_group,
        "--targets", "Id=10.7.0.10,AvailabilityZone=all"])?;
    assert_eq!(drift()?, None);
    mail::wait(&aws, heard, "[CRITICAL]", "gitlab is 'active_impaired', not active")?;
    mail::wait(&aws, heard, "[WARNING]", "a missing route cuts off 1 of 4 targets in target group postgres")?;
    aws.control(&["load-balancer", "--load-balancer", &gitlab.load_balancer, "--state", "active"])?;
    #[rustfmt::skip]
    postgres.administer(&aws, &["elbv2", "deregister-targets", "--target-group-arn", &postgres.target_group,
        "--targets", "Id=10.7.0.10"])?;
    aws.control(&[
        "target-health",
        "--target-group",
        &postgres.target_group,
        "--target",
        TARGETS[0],
        "--state",
        "unhealthy",
    ])?;
    postgres.set_cross_zone(&aws, false)?;
    mail::wait(&aws, heard, "[WARNING]", "cross-zone is off on postgres")?;
    assert_eq!(health()?, None);
    mail::wait(&aws, heard, "[CRITICAL]", "1 of 2 zones has no healthy target in target group postgres")?;

    // One call is denied: the checks that need it cannot tell, the others go on.
    let heard = mail::last(&aws)?;
    #[rustfmt::skip]
    aws.control(&["fault", "--action", "ec2:DescribeSecurityGroupRules", "--code", "UnauthorizedOperation", "--status", "403"])?;
    service(&gitlab, &["--no-acceptance-required"])?;
    mail::wait(&aws, heard, "[CRITICAL]", "connected without anybody accepting them")?;
    let failed = drift()?.context("it ends in error")?;
    ensure!(failed.contains("ec2:DescribeSecurityGroupRules"), "{failed}");
    mail::wait(&aws, heard, "[WARNING]", "the guard cannot see: ec2:DescribeSecurityGroupRules fails")?;
    Ok(())
}

fn owned((action, number): (&str, usize)) -> (String, usize) {
    (action.to_owned(), number)
}

/// How often each action was called by `function` in one run, in alphabetical order.
fn calls(aws: &LocalAws, function: &str, run: impl Fn() -> Result<Option<String>>) -> Result<Vec<(String, usize)>> {
    let before = requests(aws, function)?.len();
    ensure!(run()?.is_none(), "{function} ends in error");
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for action in requests(aws, function)?.into_iter().skip(before) {
        *calls.entry(action).or_default() += 1;
    }
    Ok(calls.into_iter().collect())
}

/// Subscribes a queue to the alert topic, as a program would; its URL.
fn subscribe_queue(aws: &LocalAws, stack: &Stack) -> Result<String> {
    let root = Who::account(COMPANY);
    let topic = stack.output("AlertTopicArn")?;
    let arn = format!("arn:aws:sqs:{}:{COMPANY}:alerts", flows::REGION);
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }]});
    let attributes = json!({"Policy": policy.to_string()}).to_string();
    let queue = aws.aws(&root, &["sqs", "create-queue", "--queue-name", "alerts", "--attributes", &attributes])?;
    #[rustfmt::skip]
    aws.aws(&root, &["sns", "subscribe", "--topic-arn", topic, "--protocol", "sqs", "--notification-endpoint", &arn,
        "--attributes", "RawMessageDelivery=true"])?;
    text(&queue, "/QueueUrl")
}

/// Holds a message against the schema in the documentation.
fn validate(message: &str) -> Result<()> {
    let script = "import json, sys, jsonschema\n\
                  schema = json.load(open('docs/alert.schema.json'))\n\
                  jsonschema.Draft202012Validator(schema).validate(json.loads(sys.argv[1]))";
    let done =
        Command::new(top().join(".tools/aws/bin/python")).args(["-c", script, message]).current_dir(top()).output()?;
    ensure!(done.status.success(), "{message}\n{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// The actions that a function's role has asked for, in order.
fn requests(aws: &LocalAws, function: &str) -> Result<Vec<String>> {
    let list = aws.control(&["requests", "--principal", &format!("{function}Role")])?;
    let actions = list.as_array().into_iter().flatten();
    let actions = actions.filter_map(|request| Some((request["service"].as_str()?, request["action"].as_str()?)));
    Ok(actions.map(|(service, action)| format!("{service}:{action}")).collect())
}

/// The actions that the role with this logical id is allowed.
fn allowed_actions(aws: &LocalAws, logical_id: &str) -> Result<BTreeSet<String>> {
    let root = Who::account(COMPANY);
    let run = |arguments: &[&str]| aws.aws(&root, arguments);
    let resource = run(&[
        "cloudformation",
        "describe-stack-resource",
        "--stack-name",
        "guard",
        "--logical-resource-id",
        logical_id,
    ])?;
    let role = text(&resource, "/StackResourceDetail/PhysicalResourceId")?;
    let mut documents = Vec::new();
    for name in
        run(&["iam", "list-role-policies", "--role-name", &role])?["PolicyNames"].as_array().into_iter().flatten()
    {
        let name = name.as_str().context("a name")?;
        documents.push(
            run(&["iam", "get-role-policy", "--role-name", &role, "--policy-name", name])?["PolicyDocument"].clone(),
        );
    }
    let attached = run(&["iam", "list-attached-role-policies", "--role-name", &role])?;
    for policy in attached["AttachedPolicies"].as_array().into_iter().flatten() {
        let arn = text(policy, "/PolicyArn")?;
        let version = text(&run(&["iam", "get-policy", "--policy-arn", &arn])?, "/Policy/DefaultVersionId")?;
        let policy = run(&["iam", "get-policy-version", "--policy-arn", &arn, "--version-id", &version])?;
        documents.push(policy["PolicyVersion"]["Document"].clone());
    }
    let mut actions = BTreeSet::new();
    for statement in documents.iter().flat_map(|document| document["Statement"].as_array().cloned().unwrap_or_default())
    {
        let of_statement = match &statement["Action"] {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        actions.extend(of_statement.iter().filter_map(Value::as_str).map(ToOwned::to_owned));
    }
    Ok(actions)
}
