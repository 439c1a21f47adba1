//! Only resources that dbt reaches count: its ports, the target groups for IPv4, the targets that get new connections.

use anyhow::{Result, ensure};
use story::company::{Company, TARGETS};
use story::local_aws::{LocalAws, text};
use story::stack::GuardFunction::{DriftWatcher, HealthWatcher};

use crate::environment::{FlowEnvironment, with_environment};

#[test]
fn a_listener_on_another_port_is_not_judged() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        let empty = postgres.create_target_group(aws, "admin")?;
        let listener = postgres.add_listener(aws, "9000", &empty)?;
        for function in [DriftWatcher, HealthWatcher] {
            environment.run(function)?;
        }
        ensure!(mailbox.emails()?.is_empty(), "{:#?}", mailbox.emails()?);
        let (report, _) = environment.check(&[])?;
        ensure!(!report.to_string().contains(&empty), "{report:#}");
        postgres.change(aws, &format!("elbv2 delete-listener --listener-arn {listener}"))
    })
}

#[test]
fn the_group_that_ipv4_reaches_is_judged() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        postgres.set_ip_address_type(aws, "dualstack")?;
        let empty = postgres.create_target_group(aws, "four")?;
        let rule = add_ipv4_rule(postgres, aws, &empty)?;
        for function in [DriftWatcher, HealthWatcher] {
            environment.run(function)?;
        }
        mailbox.wait("[CRITICAL]", "no target is registered in four")?;
        environment.ensure_same_verdict()?;

        postgres.change(aws, &format!("elbv2 delete-rule --rule-arn {rule}"))?;
        for function in [DriftWatcher, HealthWatcher] {
            environment.run(function)?;
        }
        mailbox.wait("[NOTICE]", "no target is registered in four")?;
        postgres.set_ip_address_type(aws, "ipv4")
    })
}

#[test]
fn a_zonal_shift_is_reported_once_and_standbys_do_not_fail() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        postgres.shift_away_from(aws, Some("eu-central-1a"))?;
        for _ in 0..2 {
            environment.run(HealthWatcher)?;
        }
        mailbox.expect_once("[INFO]", "zonal shift away from eu-central-1a (postgres)")?;
        environment.ensure_same_verdict()?;
        postgres.shift_away_from(aws, None)?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "zonal shift away from eu-central-1a")?;

        postgres.tag_target_group(aws, "add-tags", "Key=privatelink-guard:min-healthy,Value=2")?;
        environment.run(DriftWatcher)?;
        postgres.set_health(aws, TARGETS[0], "unhealthy")?;
        environment.run(HealthWatcher)?;
        ensure!(mailbox.count("[WARNING]", "")? == 0, "two are enough");
        postgres.set_health(aws, TARGETS[1], "unhealthy")?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[WARNING]", "2 of 3 targets unhealthy in postgres")?;
        environment.set_all_targets("healthy")?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "3 of 3 targets healthy in postgres")?;
        postgres.tag_target_group(aws, "remove-tags", "privatelink-guard:min-healthy")
    })
}

/// Adds a rule to the listener on port 5432 that sends IPv4 connections to another target group, and returns its ARN.
fn add_ipv4_rule(service: &Company, aws: &LocalAws, target_group: &str) -> Result<String> {
    let condition = r#"[{"Field":"source-ip","SourceIpConfig":{"IpAddressType":"ipv4"}}]"#;
    let rule = format!("--conditions '{condition}' --actions Type=forward,TargetGroupArn={target_group}");
    let create = format!("elbv2 create-rule --listener-arn {} --priority 1 {rule}", service.listener);
    text(&service.administer(aws, &create)?, "/Rules/0/RuleArn")
}
