//! Calls that AWS refuses: alerts name the call, a run with work left ends in error, and no message is lost or sent
//! twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use story::local_aws::eventually;
use story::stack::GuardFunction::{ConnectionAcceptor, DriftWatcher, HealthWatcher};
use story::stack::scheduled_event;

use crate::environment::{FlowEnvironment, with_environment};
use crate::path::PathItem;

#[test]
fn a_notice_that_sns_refuses_is_sent_once_by_a_later_run() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, stack, .. } = environment;
        aws.fail("sns:Publish", "InternalError", 500)?;
        let dbt = postgres.dbt_connects(aws)?;
        postgres.wait_for_state(aws, &dbt, "available")?;
        let error = eventually("a run that cannot publish to end in error", || {
            stack.invoke(aws, ConnectionAcceptor, &scheduled_event())
        })?;
        ensure!(error.contains("sns:Publish"), "{error}");
        assert_eq!(mailbox.count("[NOTICE]", &dbt)?, 0);

        aws.clear_faults()?;
        eventually("the notice to be sent after all", || {
            environment.run(ConnectionAcceptor)?;
            Ok((mailbox.count("[NOTICE]", &dbt)? > 0).then_some(()))
        })?;
        environment.run(ConnectionAcceptor)?;
        mailbox.expect_once("[NOTICE]", &dbt)?;
        Ok(())
    })
}

#[test]
fn a_denied_read_fires_with_the_name_of_the_action() -> Result<()> {
    with_environment(|environment, mailbox| {
        let aws = &environment.aws;
        aws.fail("elasticloadbalancing:DescribeTargetHealth", "AccessDenied", 403)?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[WARNING]", "elasticloadbalancing:DescribeTargetHealth")?;

        aws.clear_faults()?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "elasticloadbalancing:DescribeTargetHealth")?;
        Ok(())
    })
}

#[test]
fn a_run_ends_before_lambda_kills_it_and_names_what_is_unread() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, stack, .. } = environment;
        let action = "elasticloadbalancing:DescribeTargetHealth";
        // Lambda keeps 6 s of it, and half of the rest is for reading. That is less than the 8 s after which the SDK
        // gives up a call, so the run itself has no time left.
        stack.set_timeout(aws, HealthWatcher, Duration::from_secs(20))?;
        aws.delay_answers(action, Duration::from_mins(1))?;
        // A killed run would end in error and send nothing.
        environment.run(HealthWatcher)?;
        let alert = mailbox.wait("[WARNING]", action)?;
        ensure!(alert.body.contains("no time was left in this run"), "{}", alert.body);

        aws.delay_answers(action, Duration::ZERO)?;
        stack.set_timeout(aws, HealthWatcher, Duration::from_secs(110))?;
        // The other calls without time left fire too, and only a run that makes all of them resolves them all.
        PathItem::new(stack, &environment.postgres.service)?.remove(aws)?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", action)?;
        environment.run(DriftWatcher)?;
        Ok(())
    })
}

#[test]
fn a_function_without_its_table_sends_each_failure_once() -> Result<()> {
    with_environment(|environment, mailbox| {
        let aws = &environment.aws;
        environment.set_all_targets("unhealthy")?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[CRITICAL]", "0 of 3 targets healthy")?;

        aws.fail("dynamodb:Query", "InternalServerError", 500)?;
        let without_table = environment.mailbox()?;
        for _ in 0..2 {
            let error = environment.failing_run(HealthWatcher)?;
            ensure!(error.contains("dynamodb:Query"), "{error}");
        }
        without_table.wait("[CRITICAL]", "You may get this message again")?;
        assert_eq!(without_table.count("[CRITICAL]", "0 of 3 targets healthy")?, 1);

        aws.clear_faults()?;
        environment.set_all_targets("healthy")?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "0 of 3 targets healthy")?;
        Ok(())
    })
}
