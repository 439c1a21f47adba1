//! Test messages, one of each severity and kind, so that users can test their subscriptions and filters.

use jiff::{SignedDuration, Timestamp};

use super::transition::{Kind, Transition};
use crate::check::{Command, Finding, Region, Remedy, Severity};
use crate::checks::{cross_zone, security_groups};
use crate::ids::ServiceId;
use crate::trigger::Change;

/// The transitions for the test messages of `service`, each sent as its own message. Their resources do not exist, and
/// every summary begins with `TEST`.
pub fn transitions(service: &ServiceId, region: &Region, now: Timestamp) -> Vec<Transition> {
    let incident = format!("{service}-test-{}", now.as_second());
    let sample = |kind, check: &str, resource: &str, minutes: i64, finding: Finding| {
        let transition = Transition::new(kind, (check, resource), &incident, finding, now);
        Transition { number: 1, since: now - SignedDuration::from_mins(minutes), ..transition }
    };
    let group = "sg-00000000000000000";
    let load_balancer = "a load balancer that does not exist";
    vec![
        sample(Kind::Firing, security_groups::SPEC.id, load_balancer, 0, blocked(group, region, now)),
        sample(Kind::Reminder, cross_zone::SPEC.id, load_balancer, 25 * 60, off()),
        Transition {
            now_true: Some("TEST: security groups allow dbt on port 5432".to_owned()),
            ..sample(Kind::Resolved, security_groups::SPEC.id, load_balancer, 12, blocked(group, region, now))
        },
        sample(Kind::Notice, "connection", "vpce-00000000000000000", 0, connected()),
    ]
}

fn blocked(group: &str, region: &Region, now: Timestamp) -> Finding {
    let show = Command::new("ec2 describe-security-group-rules", region)
        .option("filters", format!("Name=group-id,Values={group}"));
    Finding {
        cause: Some(Change {
            event_name: "RevokeSecurityGroupIngress".to_owned(),
            principal: "arn:aws:iam::111122223333:user/nobody".to_owned(),
            source_ip_address: "203.0.113.7".to_owned(),
            event_time: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            parameters: String::new(),
            id: String::new(),
        }),
        ..finding(
            Severity::Critical,
            "TEST: security group blocks dbt on port 5432",
            "dbt cannot connect from the blocked networks: its connections time out before they reach a listener.",
            format!("security groups: {group}"),
            Remedy::new("Nothing: this is a test. A real alert often has the command that fixes it.", Some(show), None),
        )
    }
}

fn off() -> Finding {
    finding(
        Severity::Warning,
        "TEST: cross-zone is off for pg",
        "dbt reaches only the targets in the zone where its connection enters.",
        "load balancer pg: load_balancing.cross_zone.enabled = false".to_owned(),
        Remedy::nothing("Nothing: this is a test.", None),
    )
}

fn connected() -> Finding {
    finding(
        Severity::Info,
        "TEST: dbt is connected through vpce-00000000000000000",
        "dbt's endpoint is accepted and available. This does not prove that traffic passes.",
        "owner: 123456789012, one of dbt's accounts".to_owned(),
        Remedy::nothing("Nothing: this is a test.", None),
    )
}

fn finding(severity: Severity, summary: &str, impact: &str, evidence: String, remedy: Remedy) -> Finding {
    Finding::new(severity, summary, impact, remedy).with_evidence(vec![evidence])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::{at, region, service};

    #[test]
    fn each_kind_and_severity_has_a_sample_marked_as_a_test() {
        let transitions = transitions(&service(1), &region(), at(8, 0));
        let kinds: BTreeSet<Kind> = transitions.iter().map(|transition| transition.kind).collect();
        let severities: BTreeSet<Severity> = transitions.iter().map(|sample| sample.finding.severity).collect();
        assert_eq!(kinds.len(), 4);
        assert_eq!(severities.len(), 3);
        let minutes = transitions.iter().map(|sample| at(8, 0).duration_since(sample.since).as_mins());
        assert_eq!(minutes.collect::<Vec<_>>(), [0, 25 * 60, 12, 0], "a reminder on day 2");
        for Transition { now_true, finding, .. } in &transitions {
            assert!(now_true.as_ref().unwrap_or(&finding.summary).starts_with("TEST: "), "{finding:?}");
        }
    }
}
