//! connection-acceptor accepts only dbt and sends each fact once.

use std::time::Instant;

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use story::local_aws::{Caller, LocalAws, concurrently, eventually};
use story::mail::Mailbox;
use story::stack::GuardFunction::{ConnectionAcceptor, DriftWatcher};
use story::{COMPANY, DBT, KNOWN, UNTRUSTED};

use crate::api_calls;
use crate::environment::{FlowEnvironment, with_environment};

#[test]
fn dbt_is_accepted_behind_pages_of_untrusted_requests() -> Result<()> {
    with_environment(|environment| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        let mailbox = environment.mailbox()?;
        postgres.allow_every_account(aws)?;
        mailbox.wait("[CRITICAL]", "any AWS account may request a connection")?;

        aws.set_page_size(1)?;
        let untrusted = [postgres.untrusted_connects(aws)?, postgres.untrusted_connects(aws)?];
        mailbox.wait("[WARNING]", &asks(UNTRUSTED))?;
        let dbt = postgres.dbt_connects(aws)?;
        postgres.wait_for_state(aws, &dbt, "available")?;
        mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;
        aws.set_page_size(0)?;

        assert_eq!(mailbox.count("[WARNING]", &asks(UNTRUSTED))?, 1, "one alert for the account");
        withdraw(environment, mailbox, UNTRUSTED, &untrusted)
    })
}

/// Another untrusted account, since the requests of one account send at most one alert a day.
const ANOTHER: &str = "888899990000";

/// More notifications than the runs that debouncing allows while they arrive.
const FORGED: usize = 40;

#[test]
fn forged_notifications_accept_nobody_and_repeat_no_alert() -> Result<()> {
    with_environment(|environment| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        let mailbox = environment.mailbox()?;
        postgres.allow_every_account(aws)?;
        let untrusted = [postgres.connect_from(aws, ANOTHER)?, postgres.connect_from(aws, ANOTHER)?];
        mailbox.wait("[WARNING]", &asks(ANOTHER))?;
        let dbt = postgres.dbt_connects(aws)?;
        mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;

        let (reads_before, handled_before, unclaimed) =
            (reads(aws)?, notifications_handled(aws)?, unclaimed_runs(aws)?);
        let began = Instant::now();
        send_forged_notifications(environment, &untrusted[0])?;
        // On a busy machine, one of so many runs may get no answer in time. It then ends in error, as it must, and
        // fires an alert, which the last run resolves.
        let scheduled = json!({"source": "aws.events", "detail-type": "Scheduled Event"});
        concurrently(4, |_| environment.stack.invoke(aws, ConnectionAcceptor, &scheduled).map(drop))?;
        eventually("the notifications to be handled", || {
            Ok((notifications_handled(aws)? >= handled_before + FORGED).then_some(()))
        })?;
        environment.run(ConnectionAcceptor)?;
        let seconds = usize::try_from(began.elapsed().as_secs())?;
        // While the table is slow, as on a busy machine, runs go ahead without asking it for longer, and this bound
        // says little. tests/attack tests the debouncing with a table that is never slow.
        let unclaimed = unclaimed_runs(aws)? - unclaimed;
        let (reads, limit) = (reads(aws)? - reads_before, 5 + unclaimed + 2 * (seconds + 1));
        ensure!(reads <= limit, "{reads} reads in {seconds} s, for 5 + {unclaimed} runs and two runs a second");

        for endpoint in &untrusted {
            assert_eq!(postgres.state(aws, endpoint)?, "pendingAcceptance");
        }
        mailbox.expect_once("[WARNING]", &asks(ANOTHER))?;
        mailbox.expect_once("[NOTICE]", &dbt)?;
        withdraw(environment, mailbox, ANOTHER, &untrusted)
    })
}

#[test]
fn a_request_that_ec2_refuses_fires_until_it_is_accepted() -> Result<()> {
    with_environment(|environment| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        ensure_dbt_is_connected(environment)?;
        let mailbox = environment.mailbox()?;
        aws.fail_items("ec2:AcceptVpcEndpointConnections", "NotJustNow")?;
        let dbt = postgres.dbt_connects(aws)?;
        mailbox.wait("[WARNING]", "NotJustNow")?;

        let accepts = || api_calls::count(aws, ConnectionAcceptor, "ec2:AcceptVpcEndpointConnections");
        let accepts_before = accepts()?;
        environment.run(ConnectionAcceptor)?;
        assert_eq!(accepts()?, accepts_before + 1, "CloudTrail records the guard's own calls: they trigger no run");

        aws.clear_faults()?;
        environment.run(ConnectionAcceptor)?;
        mailbox.wait("[RESOLVED]", &format!("cannot accept dbt's request {dbt}"))?;
        eventually("dbt's endpoint to be available", || {
            environment.run(ConnectionAcceptor)?;
            Ok((postgres.state(aws, &dbt)? == "available").then_some(()))
        })?;
        mailbox.expect_once("[WARNING]", &dbt)?;
        mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;
        Ok(())
    })
}

#[test]
fn a_connection_in_an_unknown_state_fires_and_stays_unchanged() -> Result<()> {
    with_environment(|environment| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        ensure_dbt_is_connected(environment)?;
        let mailbox = environment.mailbox()?;
        let dbt = postgres.dbt_connects(aws)?;
        mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;

        let set_state = |state| aws.control("connection", &json!({"endpoint_id": dbt, "state": state}));
        set_state("levitating")?;
        environment.run(ConnectionAcceptor)?;
        mailbox.wait("[WARNING]", "unknown state 'levitating'")?;
        assert_eq!(postgres.state(aws, &dbt)?, "levitating");

        set_state("available")?;
        environment.run(ConnectionAcceptor)?;
        mailbox.wait("[RESOLVED]", "unknown state 'levitating'")?;
        Ok(())
    })
}

#[test]
fn a_known_account_is_left_alone_and_reported_once_connected() -> Result<()> {
    with_environment(|environment| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        let mailbox = environment.mailbox()?;
        let principal = format!("arn:aws:iam::{KNOWN}:root");
        postgres.modify_permissions(aws, &["--add-allowed-principals", &principal])?;
        let known = postgres.connect_from(aws, KNOWN)?;
        environment.run(ConnectionAcceptor)?;
        assert_eq!(postgres.state(aws, &known)?, "pendingAcceptance");

        #[rustfmt::skip]
        postgres.administer(aws, &["ec2", "accept-vpc-endpoint-connections", "--service-id", &postgres.service,
            "--vpc-endpoint-ids", &known])?;
        postgres.wait_for_state(aws, &known, "available")?;
        environment.run(ConnectionAcceptor)?;
        mailbox.wait("[NOTICE]", &format!("known account {KNOWN} is connected through {known}"))?;

        postgres.leave(aws, KNOWN, &[known])?;
        postgres.modify_permissions(aws, &["--remove-allowed-principals", &principal])?;
        environment.run(DriftWatcher)?;
        let subjects: Vec<String> = mailbox.emails()?.into_iter().map(|mail| mail.subject).collect();
        ensure!(subjects.len() == 1, "no alert, neither of the account nor of its principal: {subjects:#?}");
        Ok(())
    })
}

#[test]
fn an_unused_dbt_connection_is_a_warning_if_traffic_is_expected() -> Result<()> {
    with_environment(|environment| {
        let FlowEnvironment { aws, postgres, stack, .. } = environment;
        let mailbox = environment.mailbox()?;
        let dbt = postgres.dbt_connects(aws)?;
        mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;
        let last = Timestamp::now() - SignedDuration::from_hours(30);
        postgres.set_new_connections(aws, &dbt, last)?;
        environment.run(DriftWatcher)?;
        environment.run(ConnectionAcceptor)?;
        assert_eq!(mailbox.count("[WARNING]", "no connection from dbt")?, 0, "nobody expects any");

        assert_eq!(stack.invoke(aws, DriftWatcher, &json!({"source": "privatelink-guard.heartbeat"}))?, None);
        mailbox.wait("[NOTICE]", &format!("{dbt}: dbt last connected at "))?;

        stack.set_variable(aws, ConnectionAcceptor, "EXPECT_TRAFFIC_EVERY", "24")?;
        environment.run(ConnectionAcceptor)?;
        mailbox.wait("[WARNING]", "no connection from dbt for ")?;

        stack.set_variable(aws, ConnectionAcceptor, "EXPECT_TRAFFIC_EVERY", "48")?;
        environment.run(ConnectionAcceptor)?;
        mailbox.wait("[RESOLVED]", &format!("dbt's endpoint {dbt} is available"))?;
        stack.set_variable(aws, ConnectionAcceptor, "EXPECT_TRAFFIC_EVERY", "0")
    })
}

fn asks(account: &str) -> String {
    format!("untrusted account {account} requests")
}

/// Gives dbt a working connection, so that another one that does not work is a warning.
fn ensure_dbt_is_connected(environment: &FlowEnvironment) -> Result<()> {
    let FlowEnvironment { aws, postgres, .. } = environment;
    let mailbox = environment.mailbox()?;
    let endpoint = postgres.dbt_connects(aws)?;
    mailbox.wait("[NOTICE]", &format!("dbt is connected through {endpoint}")).map(drop)
}

/// Revokes an untrusted account's permission and removes its requests.
fn withdraw(environment: &FlowEnvironment, mailbox: Mailbox<'_>, account: &str, endpoints: &[String]) -> Result<()> {
    let FlowEnvironment { aws, postgres, .. } = environment;
    postgres.leave(aws, account, endpoints)?;
    postgres.allow_dbt_only(aws)?;
    mailbox.wait("[RESOLVED]", &asks(account))?;
    mailbox.wait("[RESOLVED]", "any AWS account may request a connection")?;
    Ok(())
}

/// Sends forged notifications that present an untrusted account's endpoint as dbt's.
fn send_forged_notifications(environment: &FlowEnvironment, endpoint: &str) -> Result<()> {
    let FlowEnvironment { aws, postgres, stack, .. } = environment;
    let topic = stack.output("NotificationTopicArn")?;
    let forged = json!({"vpcEndpointId": endpoint, "vpcEndpointOwner": DBT, "serviceId": postgres.service});
    let notification = json!({"topic": topic, "message": forged.to_string()});
    concurrently(4, |_| {
        for _ in 0..FORGED / 4 {
            aws.control("notify", &notification)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn reads(aws: &LocalAws) -> Result<usize> {
    api_calls::count(aws, ConnectionAcceptor, "ec2:DescribeVpcEndpointConnections")
}

/// Runs that could not learn in time whether another run had covered their event.
fn unclaimed_runs(aws: &LocalAws) -> Result<usize> {
    let group = "/privatelink-guard/guard/connection-acceptor";
    let events = aws.aws(&Caller::root(COMPANY), &["logs", "filter-log-events", "--log-group-name", group])?;
    let lines = events["events"].as_array().into_iter().flatten();
    Ok(lines.filter(|line| line["message"].as_str().is_some_and(|line| line.contains("going ahead"))).count())
}

fn notifications_handled(aws: &LocalAws) -> Result<usize> {
    Ok(aws.invocations()?.iter().filter(|run| run["trigger"] == "sns").count())
}
