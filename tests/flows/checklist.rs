//! Every check fires after a failure and resolves after its fix. A new check needs a new row.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use story::company::{Company, TARGETS};
use story::local_aws::{LocalAws, eventually};
use story::mail::Mailbox;
use story::stack::GuardFunction::{self, DriftWatcher, HealthWatcher};
use story::top;
use story::{DBT, UNTRUSTED};

use crate::api_calls;
use crate::environment::{FlowEnvironment, with_environment};

use self::Fix::{Change, PrintedCommand, PrintedCommands};
use self::RowService::{Gitlab, Postgres};

/// A failure of a check, and the expected alerts.
struct ChecklistRow {
    check: &'static str,
    service: RowService,
    breaks: fn(&Company, &LocalAws) -> Result<()>,
    /// The check's alert and others that fire with it: label, and words of the summary.
    alerts: &'static [(&'static str, &'static str)],
    fix: Fix,
}

enum RowService {
    Postgres,
    Gitlab,
}

enum Fix {
    /// The command in the alert's remedy; the first if there are several.
    PrintedCommand,
    /// All commands in the remedy, in turn.
    PrintedCommands,
    /// A change for which the alert has no command.
    Change(fn(&Company, &LocalAws) -> Result<()>),
}

/// Changes that trigger their check, since CloudTrail records them.
#[rustfmt::skip]
const CHANGES: &[ChecklistRow] = &[
    ChecklistRow { check: "service.available", service: Gitlab,
        breaks: |service, aws| service.modify_service(aws,
            "--add-supported-ip-address-types ipv6 --remove-supported-ip-address-types ipv4"),
        alerts: &[("[CRITICAL]", "endpoint service accepts no IPv4 endpoints")], fix: PrintedCommand },
    ChecklistRow { check: "service.acceptance-required", service: Postgres,
        breaks: |service, aws| service.modify_service(aws, "--no-acceptance-required"),
        alerts: &[("[CRITICAL]", "is OFF: allowed accounts connect unapproved")], fix: PrintedCommand },
    ChecklistRow { check: "service.private-dns", service: Postgres,
        breaks: |service, aws| service.modify_service(aws, "--private-dns-name pg.example.com"),
        alerts: &[("[WARNING]", "private DNS name is not verified: pg.example.com")], fix: PrintedCommand },
    ChecklistRow { check: "service.principals", service: Postgres, breaks: allow_others_instead_of_dbt,
        alerts: &[("[CRITICAL]", "dbt is not an allowed principal")], fix: PrintedCommand },
    ChecklistRow { check: "service.notification", service: Postgres, breaks: Company::delete_notification,
        alerts: &[("[WARNING]", "connection events (0 of 4)")], fix: Change(Company::create_notification) },
    ChecklistRow { check: "load-balancer.security-groups", service: Postgres, breaks: Company::remove_dbt_rule,
        alerts: &[("[CRITICAL]", "security group blocks dbt on port 5432")], fix: PrintedCommand },
    ChecklistRow { check: "load-balancer.outbound", service: Postgres, breaks: Company::remove_outbound_rule,
        alerts: &[("[CRITICAL]", "outbound rules of postgres block 3 of 3 targets")], fix: PrintedCommand },
    ChecklistRow { check: "network-path", service: Postgres, breaks: Company::deny_in_network_acl,
        alerts: &[("[WARNING]", "targets in postgres")], fix: PrintedCommand },
    ChecklistRow { check: "target-group.proxy-protocol", service: Postgres,
        breaks: |service, aws| service.set_group_attribute(aws, "proxy_protocol_v2.enabled", "true"),
        alerts: &[("[WARNING]", "Proxy Protocol v2 is on for postgres: may break dbt")], fix: PrintedCommand },
    // On gitlab: without cross-zone load balancing, postgres's traffic stays in its subnets and passes no network ACL.
    ChecklistRow { check: "load-balancer.cross-zone", service: Gitlab,
        breaks: |service, aws| service.set_cross_zone(aws, false),
        // The group behind port 443, since a later row deletes the listener on 5432.
        alerts: &[("[WARNING]", "cross-zone is off for web")], fix: PrintedCommand },
    ChecklistRow { check: "listener.port", service: Gitlab, breaks: Company::delete_listener,
        alerts: &[("[CRITICAL]", "gitlab does not listen for dbt on port 5432")], fix: PrintedCommand },
    ChecklistRow { check: "listener.tls", service: Postgres,
        breaks: |service, aws| service.switch_to_tls(aws, 5432, 90).map(drop),
        alerts: &[("[WARNING]", "TLS listener of postgres breaks Postgres on port 5432")], fix: PrintedCommand },
    ChecklistRow { check: "listener.idle-timeout", service: Gitlab,
        breaks: drop_connections_that_are_idle_for_a_minute,
        alerts: &[("[INFO]", "gitlab drops connections idle for 60 s on port 443")], fix: PrintedCommand },
    // The first command allows dbt's networks. It removes nothing, since targets might depend on the broad rule.
    ChecklistRow { check: "load-balancer.broad-rule", service: Gitlab,
        breaks: |service, aws| service.allow_ingress(aws, "443", "10.0.0.0/8"),
        alerts: &[("[WARNING]", "1 inbound rule of gitlab allows more than dbt")],
        fix: PrintedCommands },
    ChecklistRow { check: "service.regions", service: Gitlab, breaks: remove_the_region_that_dbt_connects_from,
        alerts: &[("[WARNING]", "dbt connects from us-east-1")], fix: PrintedCommand },
];

/// Changes that trigger no check, each with the function whose scheduled run finds it.
#[rustfmt::skip]
const FOUND_BY_SCHEDULE: &[(GuardFunction, ChecklistRow)] = &[
    (DriftWatcher, ChecklistRow { check: "load-balancer.internal-nlb", service: Gitlab,
        breaks: |service, aws| service.set_load_balancer_state(aws, "active_impaired"),
        alerts: &[("[CRITICAL]", "gitlab is 'active_impaired', not active")],
        fix: Change(|service, aws| service.set_load_balancer_state(aws, "active")) }),
    (DriftWatcher, ChecklistRow { check: "network-path", service: Postgres,
        breaks: |service, aws| service.register_target(aws, "Id=10.7.0.10,AvailabilityZone=all"),
        alerts: &[("[WARNING]", "no route to 1 of 4 targets in postgres")],
        fix: Change(|service, aws| service.deregister_target(aws, "Id=10.7.0.10,AvailabilityZone=all")) }),
    (HealthWatcher, ChecklistRow { check: "load-balancer.zones", service: Postgres, breaks: leave_one_zone_without_a_target,
        alerts: &[("[CRITICAL]", "no healthy target in eu-central-1a (postgres)"),
            ("[WARNING]", "1 of 3 targets unhealthy"), ("[WARNING]", "cross-zone is off for postgres")],
        fix: Change(serve_both_zones_again) }),
    (HealthWatcher, ChecklistRow { check: "load-balancer.zones", service: Postgres,
        breaks: |service, aws| service.set_subnets(aws, 3),
        alerts: &[("[INFO]", "service offers 2 of the load balancer's 3 zones")], fix: PrintedCommand }),
    // dbt cannot enter by the other zones, so nothing else fails.
    (HealthWatcher, ChecklistRow { check: "load-balancer.zones", service: Postgres,
        breaks: |service, aws| service.offer_subnets(aws, 1),
        alerts: &[("[INFO]", "service is in one zone only: eu-central-1a")],
        fix: Change(|service, aws| service.offer_subnets(aws, 2)) }),
    (HealthWatcher, ChecklistRow { check: "target-group.health", service: Postgres,
        breaks: |service, aws| service.set_health_check(aws, "--health-check-port 8008"),
        alerts: &[("[INFO]", "health check of postgres is on port 8008, not the traffic port")],
        fix: Change(|service, aws| service.set_health_check(aws, "--health-check-port traffic-port")) }),
    (HealthWatcher, ChecklistRow { check: "target-group.health", service: Postgres,
        breaks: |service, aws| service.set_health_check(aws, "--health-check-protocol HTTP --matcher HttpCode=200-499"),
        alerts: &[("[INFO]", "health check of postgres passes with errors (4xx or 5xx)")],
        fix: Change(|service, aws| service.set_health_check(aws, "--health-check-protocol TCP")) }),
];

/// The checks that other flows cover.
const SHOWN_ELSEWHERE: [&str; 8] = [
    "connection.absent",
    "connection.dbt",
    "connection.untrusted",
    // This check is asked once an hour; only tests/attack has hours.
    "delivery.subscribers",
    "listener.certificate",
    "target-group.hostname",
    "target-group.security-groups",
    "visibility.lost",
];

#[test]
fn every_change_fires_its_alert_and_every_fix_resolves_it() -> Result<()> {
    with_environment(|environment, mailbox| {
        environment.aws.set_page_size(1)?;
        // The commands restore the settings that this run reads.
        environment.run(DriftWatcher)?;
        for row in CHANGES {
            (row.breaks)(row.company(environment), &environment.aws).context(row.check)?;
        }
        for row in CHANGES {
            row.wait(mailbox)?;
        }
        ensure_same_verdict(environment)?;
        for row in CHANGES {
            row.fix(environment, mailbox).context(row.check)?;
        }
        for row in CHANGES {
            row.wait_until_resolved(mailbox)?;
        }
        ensure_same_verdict(environment)?;
        ensure_subjects_are_complete(mailbox)?;
        environment.aws.set_page_size(0)
    })
}

/// The command and the functions agree. health-watcher's severities also depend on settings that drift-watcher follows.
fn ensure_same_verdict(environment: &FlowEnvironment) -> Result<()> {
    environment.run(HealthWatcher)?;
    environment.ensure_same_verdict()
}

/// A subject names the failure in 100 characters, uncut.
fn ensure_subjects_are_complete(mailbox: Mailbox<'_>) -> Result<()> {
    for mail in mailbox.emails()? {
        ensure!(mail.subject.len() <= 100 && !mail.subject.contains("..."), "{}", mail.subject);
    }
    Ok(())
}

#[test]
fn the_schedule_finds_changes_that_trigger_no_check() -> Result<()> {
    with_environment(|environment, mailbox| {
        environment.aws.set_page_size(1)?;
        for (function, row) in FOUND_BY_SCHEDULE {
            (row.breaks)(row.company(environment), &environment.aws).context(row.check)?;
            row.run_until(false, *function, environment)?;
            ensure_same_verdict(environment)?;
            row.fix(environment, mailbox).context(row.check)?;
            row.run_until(true, *function, environment)?;
        }
        environment.aws.set_page_size(0)
    })
}

#[test]
fn a_denied_read_does_not_stop_the_other_checks() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, gitlab, .. } = environment;
        aws.fail("ec2:DescribeSecurityGroupRules", "UnauthorizedOperation", 403)?;
        gitlab.modify_service(aws, "--no-acceptance-required")?;
        mailbox.wait("[CRITICAL]", "is OFF: allowed accounts connect unapproved")?;
        environment.run(DriftWatcher)?;
        mailbox.wait("[WARNING]", "ec2:DescribeSecurityGroupRules is denied")?;

        aws.clear_faults()?;
        gitlab.modify_service(aws, "--acceptance-required")?;
        mailbox.wait("[RESOLVED]", "is OFF: allowed accounts connect unapproved")?;
        mailbox.wait("[RESOLVED]", "ec2:DescribeSecurityGroupRules")?;
        Ok(())
    })
}

#[test]
fn each_fact_is_read_once() -> Result<()> {
    with_environment(|environment, _| {
        ensure_calls(environment, DriftWatcher, &DRIFT_WATCHER_CALLS)?;
        ensure_calls(environment, HealthWatcher, &HEALTH_WATCHER_CALLS)
    })
}

/// The calls for two services, two load balancers, three target groups and one prefix list. Attributes, tags, target
/// groups and notifications were read within the hour.
const DRIFT_WATCHER_CALLS: [(&str, usize); 15] = [
    // The stored path of each service, and the ids on it.
    ("dynamodb:PutItem", 4),
    // For each service, and for the guard itself.
    ("dynamodb:Query", 3),
    ("ec2:DescribeInstances", 1),
    ("ec2:DescribeNetworkAcls", 1),
    // Of the load balancers, and of the targets.
    ("ec2:DescribeNetworkInterfaces", 2),
    ("ec2:DescribeRouteTables", 1),
    ("ec2:DescribeSecurityGroupRules", 1),
    ("ec2:DescribeSubnets", 1),
    ("ec2:DescribeVpcEndpointConnections", 1),
    ("ec2:DescribeVpcEndpointServiceConfigurations", 1),
    ("ec2:DescribeVpcEndpointServicePermissions", 2),
    ("ec2:GetManagedPrefixListEntries", 1),
    ("elasticloadbalancing:DescribeListeners", 2),
    ("elasticloadbalancing:DescribeLoadBalancers", 1),
    ("elasticloadbalancing:DescribeTargetHealth", 3),
];

/// The stored paths save all other reads.
const HEALTH_WATCHER_CALLS: [(&str, usize); 3] = [
    // The firing alert stores when its result was read, so that an older read changes nothing.
    ("dynamodb:PutItem", 1),
    // For each service, and for the guard itself.
    ("dynamodb:Query", 3),
    ("elasticloadbalancing:DescribeTargetHealth", 3),
];

#[test]
fn every_check_has_a_row() -> Result<()> {
    let runbook = std::fs::read_to_string(top().join("docs/checks.md"))?;
    let listed: BTreeSet<&str> = runbook.lines().filter_map(check_of_heading).collect();
    let rows = CHANGES.iter().chain(FOUND_BY_SCHEDULE.iter().map(|(_, row)| row)).map(|row| row.check);
    assert_eq!(listed, rows.chain(SHOWN_ELSEWHERE).collect());
    Ok(())
}

/// The check id in a heading of the runbook: ``## `id` ``.
fn check_of_heading(line: &str) -> Option<&str> {
    line.strip_prefix("## `")?.strip_suffix('`')
}

impl ChecklistRow {
    fn company<'e>(&self, environment: &'e FlowEnvironment) -> &'e Company {
        match self.service {
            Postgres => &environment.postgres,
            Gitlab => &environment.gitlab,
        }
    }

    fn wait(&self, mailbox: Mailbox<'_>) -> Result<()> {
        let mut alerts = self.alerts.iter();
        alerts.try_for_each(|(label, words)| mailbox.wait(label, words).map(drop)).context(self.check)
    }

    fn wait_until_resolved(&self, mailbox: Mailbox<'_>) -> Result<()> {
        let mut alerts = self.alerts.iter();
        alerts.try_for_each(|(_, words)| mailbox.wait("[RESOLVED]", words).map(drop)).context(self.check)
    }

    /// Runs the function until its alerts are sent, or resolved. health-watcher knows a setting only after
    /// drift-watcher has read it, in a run that the change starts.
    fn run_until(&self, resolved: bool, function: GuardFunction, environment: &FlowEnvironment) -> Result<()> {
        let mailbox = environment.mailbox()?;
        let is_sent = |(label, words): &(&str, &str)| mailbox.count(if resolved { "[RESOLVED]" } else { label }, words);
        eventually(&format!("alerts of {}, resolved: {resolved}", self.check), || {
            environment.run(function)?;
            let counts: Vec<usize> = self.alerts.iter().map(is_sent).collect::<Result<_>>()?;
            Ok(counts.iter().all(|count| *count > 0).then_some(()))
        })
    }

    fn fix(&self, environment: &FlowEnvironment, mailbox: Mailbox<'_>) -> Result<()> {
        let (aws, company) = (&environment.aws, self.company(environment));
        let (_, words) = self.alerts[0];
        match self.fix {
            Change(change) => change(company, aws),
            PrintedCommand => company.run_printed_command(mailbox, self.check, words),
            PrintedCommands => {
                let commands = mailbox.commands(self.check, words)?;
                commands.iter().try_for_each(|command| company.run_in_shell(aws, command))
            }
        }
    }
}

fn allow_others_instead_of_dbt(service: &Company, aws: &LocalAws) -> Result<()> {
    let [dbt, untrusted] = [DBT, UNTRUSTED].map(|account| format!("arn:aws:iam::{account}:root"));
    let others = format!("--add-allowed-principals {untrusted} arn:aws:iam::555555555555:role/a");
    service.modify_permissions(aws, &format!("{others} --remove-allowed-principals {dbt}"))
}

fn remove_the_region_that_dbt_connects_from(service: &Company, aws: &LocalAws) -> Result<()> {
    service.modify_service(aws, "--add-supported-regions us-east-1")?;
    service.connect_from(aws, DBT, "us-east-1")?;
    service.modify_service(aws, "--remove-supported-regions us-east-1")
}

fn drop_connections_that_are_idle_for_a_minute(service: &Company, aws: &LocalAws) -> Result<()> {
    let modify = format!("elbv2 modify-listener-attributes --listener-arn {}", service.listener_on(aws, 443)?);
    service.change(aws, &format!("{modify} --attributes Key=tcp.idle_timeout.seconds,Value=60"))
}

fn leave_one_zone_without_a_target(service: &Company, aws: &LocalAws) -> Result<()> {
    service.set_health(aws, TARGETS[0], "unhealthy")?;
    service.set_cross_zone(aws, false)
}

fn serve_both_zones_again(service: &Company, aws: &LocalAws) -> Result<()> {
    service.set_health(aws, TARGETS[0], "healthy")?;
    service.set_cross_zone(aws, true)
}

fn ensure_calls(environment: &FlowEnvironment, function: GuardFunction, expected: &[(&str, usize)]) -> Result<()> {
    let calls = api_calls::of_one_run(&environment.aws, &environment.stack, function)?;
    let expected: BTreeMap<String, usize> =
        expected.iter().map(|(action, count)| ((*action).to_owned(), *count)).collect();
    ensure!(calls == expected, "{function:?} called {calls:#?}, expected {expected:#?}");
    Ok(())
}
