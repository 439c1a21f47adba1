//! `service.notification`: does EC2 notify the guard of every connection event?

use std::collections::BTreeSet;

use super::catalogue::Absence;
use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status, count};
use crate::ids::{Arn, ServiceId};
use crate::snapshot::{EVENTS, Notification, known};

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "service.notification",
    severities: &[(Severity::Warning, "always")],
    fails_when: "the enabled connection notifications to the guard's topic do not cover all four events: `Accept`, \
                 `Connect`, `Delete`, `Reject`",
    impact: "dbt's request is accepted by the next scheduled run (by default within 5 minutes) instead of within \
             seconds.",
    fix_in_short: "create the notification again, for all four events",
    can_flap: false,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: |policy| policy.notification_topic.is_some(),
    cloudtrail_events: &[
        "CreateVpcEndpointConnectionNotification",
        "DeleteVpcEndpointConnectionNotifications",
        "ModifyVpcEndpointConnectionNotification",
    ],
    group: Group::Settings,
    evaluate,
};

/// The result for the endpoint service; none if the policy names no topic.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/create-notification-endpoint-service.html>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let Some(topic) = &context.policy.notification_topic else { return Vec::new() };
    context.for_service(&SPEC, |service| match known(context.topology.notifications.as_ref()) {
        Ok(all) => judge(&service.id, all, topic, context),
        Err(why) => Status::Unknown(why),
    })
}

fn judge(service: &ServiceId, all: &[Notification], topic: &Arn, context: CheckContext<'_>) -> Status {
    let ours: Vec<&Notification> =
        all.iter().filter(|own| own.service == *service && own.topic == topic.as_str()).collect();
    let notified: BTreeSet<&str> =
        ours.iter().filter(|own| own.enabled).flat_map(|own| own.events.iter().map(String::as_str)).collect();
    let missing: Vec<&str> = EVENTS.into_iter().filter(|event| !notified.contains(event)).collect();
    if missing.is_empty() {
        return Status::Pass;
    }
    let disabled = ours.iter().find(|own| !own.enabled);
    let region = context.region.name();
    let create = format!(
        "aws ec2 create-vpc-endpoint-connection-notification --region {region} --service-id {service} \
         --connection-notification-arn {topic} --connection-events {}",
        EVENTS.join(" ")
    );
    let (action, command) = match (disabled, ours.first()) {
        (Some(Notification { id, .. }), _) => (
            "EC2 disables a notification that it cannot deliver: see that the topic's policy lets vpce.amazonaws.com \
             publish, as the stack sets it. Then replace it with a new one.",
            format!(
                "aws ec2 delete-vpc-endpoint-connection-notifications --region {region} --connection-notification-ids {id} \
                 && {create}"
            ),
        ),
        (None, Some(Notification { id, .. })) => (
            "Subscribe the notification to all four events.",
            format!(
                "aws ec2 modify-vpc-endpoint-connection-notification --region {region} --connection-notification-id {id} \
                 --connection-events {}",
                EVENTS.join(" ")
            ),
        ),
        (None, None) => ("Create the notification again.", create),
    };
    let line = |own: &&Notification| {
        let state = if own.enabled { "enabled" } else { "disabled" };
        format!("{}: {} ({state})", own.id, own.events.join(", "))
    };
    let mut evidence = vec![format!("topic: {topic}"), format!("{} to it", count(ours.len(), "notification"))];
    evidence.extend(ours.iter().map(line));
    Status::Fail(Box::new(Finding {
        severity: Severity::Warning,
        summary: format!("EC2 does not tell the guard of {} of 4 events: {}", missing.len(), missing.join(", ")),
        impact: "dbt's request is accepted by the schedule, minutes later than it could be.".to_owned(),
        evidence,
        remedy: Remedy {
            action: action.to_owned(),
            command: Some(command),
            console: context.region.endpoint_service(service.as_str()),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Topology;
    use crate::testing::{call_error, endpoint_service, only_status, service, settings, topology, with_policy};

    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:doorbell";

    fn to(number: u32, topic: &str, events: &[&str]) -> Notification {
        Notification {
            id: "vpce-nfn-0123456789abcdef0".to_owned(),
            service: service(number),
            topic: topic.to_owned(),
            events: events.iter().map(ToString::to_string).collect(),
            enabled: true,
        }
    }

    /// Summary and command, if it fails.
    fn told(notifications: Vec<Notification>) -> Option<(String, String)> {
        let policy = settings(&[("NOTIFICATION_TOPIC_ARN", TOPIC)]).policy;
        let topology = Topology { notifications: Some(Ok(notifications)), ..topology(endpoint_service(), []) };
        match only_status(with_policy(&topology, &policy, evaluate)) {
            Status::Pass => None,
            Status::Fail(finding) => Some((finding.summary, finding.remedy.command.unwrap())),
            Status::Unknown(why) => panic!("unknown: {why}"),
        }
    }

    #[test]
    fn all_four_events_must_reach_the_topic_whichever_notification_brings_them() {
        assert_eq!(told(vec![to(1, TOPIC, &EVENTS)]), None);
        assert_eq!(told(vec![to(1, TOPIC, &["Accept", "Connect"]), to(1, TOPIC, &["Delete", "Reject"])]), None);
        let (summary, command) = told(vec![to(1, TOPIC, &["Accept", "Connect", "Reject"])]).unwrap();
        assert_eq!(summary, "EC2 does not tell the guard of 1 of 4 events: Delete");
        assert!(command.contains("modify-vpc-endpoint-connection-notification"), "{command}");
    }

    #[test]
    fn what_goes_elsewhere_or_nowhere_does_not_count() {
        let elsewhere = to(1, "arn:aws:sns:eu-central-1:111122223333:other", &EVENTS);
        let of_another = to(2, TOPIC, &EVENTS);
        let (summary, command) = told(vec![elsewhere, of_another]).unwrap();
        assert_eq!(summary, "EC2 does not tell the guard of 4 of 4 events: Accept, Connect, Delete, Reject");
        assert!(command.contains("create-vpc-endpoint-connection-notification"), "{command}");
        let disabled = Notification { enabled: false, ..to(1, TOPIC, &EVENTS) };
        let (_, command) = told(vec![disabled]).unwrap();
        assert!(command.contains("delete-vpc-endpoint-connection-notifications"), "{command}");
        assert!(command.contains(" && aws ec2 create-vpc-endpoint-connection-notification"), "{command}");
    }

    #[test]
    fn without_a_topic_there_is_no_check_and_without_a_read_no_answer() {
        let topology = topology(endpoint_service(), []);
        assert_eq!(with_policy(&topology, &settings(&[]).policy, evaluate), []);
        let policy = settings(&[("NOTIFICATION_TOPIC_ARN", TOPIC)]).policy;
        let failed = Some(Err(call_error("ec2:DescribeVpcEndpointConnectionNotifications")));
        for notifications in [None, failed] {
            let topology = Topology { notifications, ..topology.clone() };
            assert!(matches!(only_status(with_policy(&topology, &policy, evaluate)), Status::Unknown(_)));
        }
    }
}
