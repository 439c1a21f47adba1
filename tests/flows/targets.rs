//! Obstacles between dbt and the targets: their security groups, an expiring certificate, a changed address.

use anyhow::Result;
use story::company::TARGETS;
use story::local_aws::eventually;
use story::stack::GuardFunction::{DriftWatcher, HealthWatcher};

use crate::environment::{FlowEnvironment, with_environment};

#[test]
fn the_targets_security_group_is_opened_by_the_printed_commands() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, gitlab, .. } = environment;
        postgres.change_servers_rule(aws, "revoke-security-group-ingress")?;
        let blocked = |service: &str| format!("security group blocks 3 of 3 targets in {service}");
        mailbox.wait("[CRITICAL]", &blocked("postgres"))?;
        // In the alert or in a later notice: another run may find the failure before the change's own event arrives.
        mailbox.wait("CloudTrail reports:", "user/network-admin-postgres")?;
        environment.ensure_same_verdict()?;

        // Each command allows the security group of its load balancer.
        for (company, service) in [(postgres, "postgres"), (gitlab, "gitlab")] {
            mailbox.wait("[CRITICAL]", &blocked(service))?;
            company.run_printed_command(mailbox, "target-group.security-groups", &blocked(service))?;
        }
        for service in ["postgres", "gitlab"] {
            mailbox.wait("[RESOLVED]", &blocked(service))?;
        }
        postgres.change_servers_rule(aws, "authorize-security-group-ingress")
    })
}

#[test]
fn a_certificate_is_reported_before_it_expires() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, gitlab, .. } = environment;
        let [listener, certificate] = gitlab.switch_to_tls(aws, 443, 10)?;
        mailbox.wait("[WARNING]", "certificate of gitlab:443 expires in 10 days")?;
        aws.set_certificate_expiry(&certificate, 2)?;
        environment.run(DriftWatcher)?;
        mailbox.wait("[CRITICAL]", "certificate of gitlab:443 expires in 2 days")?;
        environment.ensure_same_verdict()?;

        aws.set_certificate_expiry(&certificate, 300)?;
        environment.run(DriftWatcher)?;
        mailbox.wait("[RESOLVED]", "certificate of gitlab:443 is valid for 300 days")?;

        // ACM still reports it as issued.
        aws.set_certificate_key(&certificate, "RSA_4096")?;
        environment.run(DriftWatcher)?;
        mailbox.wait("[CRITICAL]", "certificate of gitlab:443 has an unusable key: RSA-4096")?;
        aws.set_certificate_key(&certificate, "RSA_2048")?;
        environment.run(DriftWatcher)?;

        // A second certificate, for clients that ask for its name. The change itself starts drift-watcher.
        let second = gitlab.certificate(aws)?;
        aws.set_certificate_expiry(&second, 20)?;
        let add = format!("elbv2 add-listener-certificates --listener-arn {listener}");
        gitlab.change(aws, &format!("{add} --certificates CertificateArn={second}"))?;
        mailbox.wait("[WARNING]", "certificate of gitlab:443 expires in 20 days")?;
        gitlab.switch_to_tcp(aws, &listener)
    })
}

#[test]
fn a_target_group_must_have_the_addresses_of_its_hostname() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        // An address stands for itself in DNS, so this flow's name needs no DNS server.
        postgres.tag_target_group(aws, "add-tags", &format!("Key=privatelink-guard:hostname,Value={}", TARGETS[0]))?;
        // A healthy target stays, since somebody may have meant to register it.
        for target in &TARGETS[1..] {
            postgres.set_health(aws, target, "unhealthy")?;
        }
        // The tag change starts drift-watcher, which stores the name for health-watcher.
        let differ = "targets of postgres differ from its hostname's addresses";
        eventually("the name to be known", || {
            environment.run(HealthWatcher)?;
            Ok((mailbox.count("[WARNING]", differ)? > 0).then_some(()))
        })?;

        postgres.run_printed_command(mailbox, "target-group.hostname", "targets of postgres differ")?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "targets of postgres match its hostname's addresses")?;

        postgres.tag_target_group(aws, "remove-tags", "privatelink-guard:hostname")?;
        for target in &TARGETS[1..] {
            postgres.register_target(aws, &format!("Id={target}"))?;
        }
        environment.set_all_targets("healthy")?;
        environment.run(HealthWatcher)
    })
}
