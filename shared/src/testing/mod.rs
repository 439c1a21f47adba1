//! Builders for tests: they read like sentences, and only what a test is about is written in it.

pub mod aws;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::checks::{Finding, Place, Remedy, Severity};
use crate::config::{Policy, Settings};
use crate::ids::{Arn, EndpointId, ServiceId};
use crate::snapshot::{Connection, ConnectionState, Health, LoadBalancer, Target, TargetGroup, Unseen};
use crate::trigger::Change;

/// Endpoint service number `number`; the policy of [`policy`] watches number 1.
#[must_use]
pub fn service(number: u32) -> ServiceId {
    format!("vpce-svc-{number:017x}").parse().unwrap()
}

/// VPC endpoint number `number`.
#[must_use]
pub fn endpoint(number: u32) -> EndpointId {
    format!("vpce-{number:017x}").parse().unwrap()
}

/// An hour of a day, in UTC.
#[must_use]
pub fn at(hour: i8, minute: i8) -> Timestamp {
    let time = jiff::civil::date(2026, 3, 14).at(hour, minute, 0, 0);
    time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
}

/// A connection on service 1.
#[must_use]
pub fn connection(number: u32, owner: Option<&str>, state: &str) -> Connection {
    Connection {
        service: service(1),
        endpoint: endpoint(number),
        owner: owner.map(|account| account.parse().unwrap()),
        state: ConnectionState::parse(state),
        created: Some(at(8, 0)),
        region: None,
    }
}

/// Service 1 for dbt's account 123456789012, with these variables besides.
#[must_use]
pub fn settings(variables: &[(&str, &str)]) -> Settings {
    let service = service(1);
    let base = [
        ("ENDPOINT_SERVICE_IDS", service.as_str()),
        ("DBT_PRINCIPALS", "arn:aws:iam::123456789012:root"),
        ("ALERT_TOPIC_ARN", "arn:aws:sns:eu-central-1:111122223333:alerts"),
        ("STATE_TABLE", "state"),
    ];
    Settings::from_lookup(|name| {
        variables.iter().chain(&base).find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
    .unwrap()
}

/// The policy of [`settings`] without further variables.
#[must_use]
pub fn policy() -> Policy {
    let policy = settings(&[]).policy;
    assert_eq!(policy.services, BTreeSet::from([service(1)]));
    policy
}

/// The Region the tests are in.
#[must_use]
pub fn place() -> Place {
    Place::of(&settings(&[]).alert_topic)
}

/// A read that AWS refused.
#[must_use]
pub fn unseen(call: &'static str) -> Unseen {
    Unseen { call, error: "AccessDenied: not authorized".to_owned(), denied: true }
}

/// A load balancer with these target groups.
#[must_use]
pub fn load_balancer(name: &str, target_groups: Vec<TargetGroup>) -> LoadBalancer {
    LoadBalancer {
        arn: elb_arn(&format!("loadbalancer/net/{name}/0123456789abcdef")),
        target_groups: Ok(target_groups),
        cross_zone: None,
    }
}

/// A target group of which only the name is known.
#[must_use]
pub fn target_group(name: &str) -> TargetGroup {
    TargetGroup {
        arn: elb_arn(&format!("targetgroup/{name}/0123456789abcdef")),
        health_check: Some("TCP on traffic-port".to_owned()),
        targets: None,
        cross_zone: None,
    }
}

fn elb_arn(resource: &str) -> Arn {
    format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:{resource}").parse().unwrap()
}

/// The target 10.0.0.`number` in zone a.
#[must_use]
pub fn target(number: u8, health: &str) -> Target {
    let failed = health.starts_with("unhealthy");
    Target {
        id: format!("10.0.0.{number}"),
        port: Some(5432),
        zone: Some("eu-central-1a".to_owned()),
        health: Health::parse(health),
        reason: failed.then(|| "Target.FailedHealthChecks".to_owned()),
        description: failed.then(|| "Health checks failed".to_owned()),
    }
}

/// A finding of which only the severity matters.
#[must_use]
pub fn finding(severity: Severity) -> Finding {
    Finding {
        severity,
        summary: "2 of 3 targets down in target group pg".to_owned(),
        meaning: "dbt still gets through.".to_owned(),
        evidence: vec!["healthy: 1 of 3 (1 in eu-central-1a)".to_owned()],
        remedy: Remedy {
            what: "Start them.".to_owned(),
            command: Some("aws elbv2 describe-target-health".to_owned()),
            console: Some("https://eu-central-1.console.aws.amazon.com/ec2/home".to_owned()),
        },
        cause: None,
    }
}

/// Somebody's change to the load balancer of [`load_balancer`] named `pg`.
#[must_use]
pub fn change() -> Change {
    Change {
        event_name: "ModifyLoadBalancerAttributes".to_owned(),
        by: "arn:aws:iam::111122223333:user/network-admin".to_owned(),
        from: "203.0.113.7".to_owned(),
        at: "2026-03-14T08:00:00Z".to_owned(),
        id: "e-1".to_owned(),
        parameters: format!("{{\"loadBalancerArn\":\"{}\"}}", elb_arn("loadbalancer/net/pg/0123456789abcdef")),
    }
}
