//! Late data from AWS: CloudTrail reports a change after the guard has found it, and EC2's list lags behind.

use std::time::Duration;

use anyhow::{Result, ensure};
use story::local_aws::eventually;
use story::stack::GuardFunction::{ConnectionAcceptor, DriftWatcher};

use crate::environment::{FlowEnvironment, with_environment};

const RULES: &str = "security group blocks dbt on port 5432";
const ACCEPTANCE: &str = "is OFF: allowed accounts connect unapproved";
/// A delay that no flow waits for: the flow ends it when the events may come.
const HELD_BACK: Duration = Duration::from_hours(1);

#[test]
fn a_cause_that_arrives_after_the_alert_is_sent_once() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        aws.delay("cloudtrail", HELD_BACK)?;
        postgres.remove_dbt_rule(aws)?;
        environment.run(DriftWatcher)?;
        let alert = mailbox.wait("[CRITICAL]", RULES)?;
        ensure!(!alert.body.contains("CloudTrail reports"), "the cause is not known yet: {}", alert.body);

        aws.delay("cloudtrail", Duration::ZERO)?;
        let cause = mailbox.wait("[NOTICE]", "CloudTrail reports: RevokeSecurityGroupIngress by")?;
        ensure!(cause.contains("[NOTICE]", &format!("cause found: {RULES}")), "{}", cause.body);
        ensure!(cause.contains("[NOTICE]", "user/network-admin-postgres"), "{}", cause.body);

        postgres.run_printed_command(mailbox, "load-balancer.security-groups", RULES)?;
        mailbox.wait("[RESOLVED]", RULES)?;
        mailbox.expect_once("[NOTICE]", "cause found")?;
        Ok(())
    })
}

#[test]
fn two_changes_in_one_burst_both_get_their_cause() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        // Both events arrive after the run that finds both failures.
        aws.delay("cloudtrail", HELD_BACK)?;
        postgres.remove_dbt_rule(aws)?;
        postgres.modify_service(aws, "--no-acceptance-required")?;
        environment.run(DriftWatcher)?;
        mailbox.wait("[CRITICAL]", RULES)?;
        mailbox.wait("[CRITICAL]", ACCEPTANCE)?;

        aws.delay("cloudtrail", Duration::ZERO)?;
        mailbox.wait("[NOTICE]", "CloudTrail reports: RevokeSecurityGroupIngress by")?;
        mailbox.wait("[NOTICE]", "CloudTrail reports: ModifyVpcEndpointServiceConfiguration by")?;

        postgres.run_printed_command(mailbox, "load-balancer.security-groups", RULES)?;
        postgres.run_printed_command(mailbox, "service.acceptance-required", ACCEPTANCE)?;
        mailbox.wait("[RESOLVED]", RULES)?;
        mailbox.wait("[RESOLVED]", ACCEPTANCE)?;
        assert_eq!(mailbox.count("[NOTICE]", "cause found")?, 2);
        Ok(())
    })
}

#[test]
fn dbt_is_accepted_though_the_list_of_connections_lags_behind() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        aws.delay("connections", Duration::from_secs(2))?;
        let dbt = postgres.dbt_connects(aws)?;
        // No schedule runs here: only the notification starts a run.
        eventually("the list to show that dbt is connected", || {
            Ok(postgres.state(aws, &dbt).is_ok_and(|state| state == "available").then_some(()))
        })?;
        aws.delay("connections", Duration::ZERO)?;
        environment.run(ConnectionAcceptor)?;
        mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;
        for label in ["[CRITICAL]", "[WARNING]"] {
            assert_eq!(mailbox.count(label, &format!("{dbt} could not be accepted"))?, 0, "losing a race is no alert");
        }
        Ok(())
    })
}

#[test]
fn a_deletion_by_id_has_its_cause() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        environment.run(DriftWatcher)?;
        postgres.delete_notification(aws)?;
        mailbox.wait("[WARNING]", "connection events (0 of 4)")?;
        let cause = "DeleteVpcEndpointConnectionNotifications by";
        let mail = mailbox.wait("CloudTrail reports:", cause)?;
        ensure!(mail.body.contains("user/network-admin-postgres"), "{}", mail.body);

        postgres.create_notification(aws)?;
        mailbox.wait("[RESOLVED]", "connection events (0 of 4)")?;
        Ok(())
    })
}
