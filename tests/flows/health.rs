//! health-watcher's alerts on targets; the heartbeat and test messages.

use anyhow::{Result, ensure};
use serde_json::json;
use story::company::TARGETS;
use story::local_aws::{concurrently, eventually};
use story::stack::GuardFunction::{DriftWatcher, HealthWatcher};

use crate::environment::{FlowEnvironment, with_environment};

#[test]
fn targets_failing_in_turn_send_one_warning_and_one_critical() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        for target in TARGETS {
            postgres.set_health(aws, target, "unhealthy")?;
            // Three parallel runs on one table.
            concurrently(3, |_| environment.run(HealthWatcher))?;
        }
        mailbox.wait("[WARNING]", "1 of 3 targets unhealthy")?;
        mailbox.wait("[CRITICAL]", "0 of 3 targets healthy")?;
        environment.ensure_same_verdict()?;
        mailbox.expect_once("[WARNING]", "1 of 3 targets unhealthy")?;
        mailbox.expect_once("[CRITICAL]", "0 of 3 targets healthy")?;
        // A separate alert, in the same message as another one unless a different run of the three stored each.
        mailbox.expect_once("[INFO]", "no healthy target in eu-central-1a")?;
        let emails = mailbox.emails()?;
        ensure!(emails.len() <= 3, "{emails:#?}");

        environment.set_all_targets("healthy")?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "0 of 3 targets healthy")?;
        Ok(())
    })
}

#[test]
fn the_alert_names_who_deregistered_all_targets() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        for target in TARGETS {
            postgres.deregister_target(aws, &format!("Id={target}"))?;
        }
        // In the alert or in a later notice: drift-watcher notes the change when its event arrives.
        let (reported, by) = ("CloudTrail reports: DeregisterTargets by", "user/network-admin-postgres");
        let named = eventually("an alert that names who deregistered the targets", || {
            environment.run(HealthWatcher)?;
            Ok((mailbox.count(reported, by)? > 0).then_some(()))
        });
        named?;
        for target in TARGETS {
            postgres.register_target(aws, &format!("Id={target}"))?;
        }
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "3 of 3 targets healthy").map(drop)
    })
}

#[test]
fn the_heartbeat_sends_how_many_checks_pass() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, stack, .. } = environment;
        postgres.allow_every_account(aws)?;
        mailbox.wait("[CRITICAL]", "any AWS account may request a connection")?;

        let heartbeat = json!({"source": "privatelink-guard.heartbeat"});
        assert_eq!(stack.invoke(aws, DriftWatcher, &heartbeat)?, None);
        mailbox.wait("[NOTICE]", "16 checks pass, 1 fail (service.principals), 0 unknown")?;

        postgres.modify_permissions(aws, "--remove-allowed-principals '*'")?;
        mailbox.wait("[RESOLVED]", "any AWS account may request a connection")?;
        Ok(())
    })
}

#[test]
fn test_messages_cover_each_severity_and_kind_and_are_marked() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, stack, .. } = environment;
        assert_eq!(stack.invoke(aws, DriftWatcher, &json!({"source": "privatelink-guard.test"}))?, None);
        let emails = mailbox.emails()?;
        let labels: Vec<&str> = emails.iter().filter_map(|mail| mail.subject.split(']').next()).collect();
        assert_eq!(labels, ["[CRITICAL", "[STILL WARNING, day 2", "[RESOLVED", "[NOTICE"]);
        for mail in &emails {
            ensure!(mail.subject.contains("TEST: ") && mail.body.contains("This is a test message."), "{mail:?}");
            ensure!(mail.body.contains("Account 111122223333, eu-central-1, stack guard"), "{mail:?}");
        }
        Ok(())
    })
}
