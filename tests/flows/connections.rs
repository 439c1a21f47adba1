//! Connections that AWS refuses or does not explain, known accounts, and missing traffic. The demo has the rest.

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use story::local_aws::{Caller, eventually};
use story::stack::GuardFunction::{ConnectionAcceptor, DriftWatcher};
use story::{KNOWN, REGION};

use crate::api_calls;
use crate::environment::{FlowEnvironment, with_environment};

#[test]
fn a_request_that_ec2_refuses_fires_until_it_is_accepted() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        ensure_dbt_is_connected(environment)?;
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
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        ensure_dbt_is_connected(environment)?;
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
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        let principal = format!("arn:aws:iam::{KNOWN}:root");
        postgres.modify_permissions(aws, &format!("--add-allowed-principals {principal}"))?;
        let known = postgres.connect_from(aws, KNOWN, REGION)?;
        environment.run(ConnectionAcceptor)?;
        assert_eq!(postgres.state(aws, &known)?, "pendingAcceptance");

        postgres.accept(aws, &known)?;
        environment.run(ConnectionAcceptor)?;
        mailbox.wait("[NOTICE]", &format!("known account {KNOWN} is connected through {known}"))?;

        aws.aws(&Caller::root(KNOWN), &format!("ec2 delete-vpc-endpoints --vpc-endpoint-ids {known}"))?;
        postgres.modify_permissions(aws, &format!("--remove-allowed-principals {principal}"))?;
        environment.run(DriftWatcher)?;
        let subjects: Vec<String> = mailbox.emails()?.into_iter().map(|mail| mail.subject).collect();
        ensure!(subjects.len() == 1, "no alert, neither of the account nor of its principal: {subjects:#?}");
        Ok(())
    })
}

#[test]
fn an_unused_dbt_connection_is_a_warning_if_traffic_is_expected() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, stack, .. } = environment;
        let dbt = postgres.dbt_connects(aws)?;
        mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;
        let last = Timestamp::now() - SignedDuration::from_hours(30);
        let dimensions = [format!("Service Id={}", postgres.service), format!("VPC Endpoint Id={dbt}")];
        aws.set_metric("AWS/PrivateLinkServices", "NewConnections", &dimensions, &[3], last)?;
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

/// Gives dbt a working connection, so that another one that does not work is a warning.
fn ensure_dbt_is_connected(environment: &FlowEnvironment) -> Result<()> {
    let FlowEnvironment { aws, postgres, .. } = environment;
    let mailbox = environment.mailbox()?;
    let endpoint = postgres.dbt_connects(aws)?;
    mailbox.wait("[NOTICE]", &format!("dbt is connected through {endpoint}")).map(drop)
}
