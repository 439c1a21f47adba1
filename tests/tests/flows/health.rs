//! health-watcher reports the targets; the notice that the guard is alive.

use anyhow::Result;
use flows::company::TARGETS;
use flows::environment::{Environment, with_environment};
use flows::local_aws::concurrently;
use flows::stack::Function::{DriftWatcher, HealthWatcher};
use serde_json::json;

#[test]
fn targets_that_fail_one_by_one_send_one_warning_and_one_critical_alert() -> Result<()> {
    with_environment(|environment| {
        let Environment { aws, postgres, .. } = environment;
        let mailbox = environment.mailbox()?;
        for target in TARGETS {
            postgres.set_health(aws, target, "unhealthy")?;
            // Three runs at the same time, on the same table.
            concurrently(3, |_| environment.run(HealthWatcher))?;
        }
        mailbox.wait("[WARNING]", "1 of 3 targets unhealthy")?;
        mailbox.wait("[CRITICAL]", "0 of 3 targets healthy")?;
        assert_eq!(mailbox.emails()?.len(), 2);

        environment.set_all_targets("healthy")?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "0 of 3 targets healthy")?;
        Ok(())
    })
}

#[test]
fn the_heartbeat_sends_how_many_checks_pass() -> Result<()> {
    with_environment(|environment| {
        let Environment { aws, postgres, stack, .. } = environment;
        let mailbox = environment.mailbox()?;
        postgres.allow_every_account(aws)?;
        mailbox.wait("[CRITICAL]", "any AWS account may request a connection")?;

        let heartbeat = json!({"source": "privatelink-guard.heartbeat"});
        assert_eq!(stack.invoke(aws, DriftWatcher, &heartbeat)?, None);
        mailbox.wait("[NOTICE]", "11 checks pass, 1 fail (service.principals), 0 unknown")?;

        postgres.allow_dbt_only(aws)?;
        mailbox.wait("[RESOLVED]", "any AWS account may request a connection")?;
        Ok(())
    })
}
