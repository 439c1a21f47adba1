//! `service.notification`: does EC2 notify the guard of every connection event?

use std::collections::BTreeSet;

use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Remedy, Severity, Spec, Status};
use crate::ids::{Arn, ServiceId};
use crate::snapshot::{EVENTS, Notification, known};
use crate::text::count;

pub(crate) const SPEC: Spec = Spec {
    id: "service.notification",
    in_short: "EC2 notifies the guard of all four connection events.",
    severities: &[(Severity::Warning, "always")],
    fails_when: "the enabled connection notifications to the guard's topic do not cover all four events: `Accept`, \
                 `Connect`, `Delete`, `Reject`",
    failing_word: "incomplete",
    impact: "The guard accepts dbt's request at its next scheduled run (by default within 5 minutes) instead of within \
             seconds.",
    is_watched: |policy| policy.notification_topic.is_some(),
    cloudtrail_events: &[
        "CreateVpcEndpointConnectionNotification",
        "DeleteVpcEndpointConnectionNotifications",
        "ModifyVpcEndpointConnectionNotification",
    ],
    branch: Branch::Service,
    can_stop_dbt: false,
    evaluate,
    ..Spec::USUAL
};

/// The result for the endpoint service; none if the policy has no topic.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/create-notification-endpoint-service.html>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let Some(topic) = &context.policy.notification_topic else { return Vec::new() };
    context.for_service(&SPEC, |service| match known(context.topology.notifications.as_ref()) {
        Ok(notifications) => judge(&service.id, notifications, topic, context),
        Err(why) => why.into(),
    })
}

fn judge(service: &ServiceId, notifications: &[Notification], topic: &Arn, context: CheckContext<'_>) -> Status {
    let to_guard: Vec<&Notification> = notifications
        .iter()
        .filter(|notification| notification.service == *service && notification.topic == topic.as_str())
        .collect();
    let notified: BTreeSet<&str> = to_guard
        .iter()
        .filter(|notification| notification.enabled)
        .flat_map(|notification| notification.events.iter().map(String::as_str))
        .collect();
    let missing: Vec<&str> = EVENTS.into_iter().filter(|event| !notified.contains(event)).collect();
    if missing.is_empty() {
        return Status::pass("EC2 notifies the guard of all 4 connection events");
    }
    Status::fail(
        Finding::new(
            Severity::Warning,
            match missing.len() {
                4 => "EC2 does not notify the guard of connection events (0 of 4)".to_owned(),
                _ => format!("EC2 does not notify the guard of {} events", missing.join(", ")),
            },
            "The guard notices such events at its next scheduled run, by default within 5 minutes \
             instead of within seconds.",
            remedy(service, &to_guard, context),
        )
        .with_evidence(evidence(&to_guard, topic))
        .with_parts(missing)
        .about(to_guard.iter().map(|notification| &notification.id)),
    )
}

fn evidence(to_guard: &[&Notification], topic: &Arn) -> Vec<String> {
    let line = |notification: &&Notification| {
        let state = if notification.enabled { "enabled" } else { "disabled" };
        format!("{}: {} ({state})", notification.id, notification.events.join(", "))
    };
    let mut evidence = vec![format!("topic: {topic}"), format!("{} to it", count(to_guard.len(), "notification"))];
    evidence.extend(to_guard.iter().map(line));
    evidence
}

/// The notification belongs to the stack: a manually created one would remain when the stack is removed.
/// `CloudFormation` does not check whether a resource still exists, so an update without a change creates nothing. The
/// remedy removes the resource from the stack and adds a new one: deleting a missing resource succeeds.
/// <https://repost.aws/knowledge-center/cfn-recreate-resource-deleted-outside>
fn remedy(service: &ServiceId, to_guard: &[&Notification], context: CheckContext<'_>) -> Remedy {
    let disabled = to_guard.iter().find(|notification| !notification.enabled);
    let (action, command) = match (disabled, to_guard.first()) {
        (Some(Notification { topic, .. }), _) => (
            format!(
                "EC2 disables a notification that it cannot deliver. The command shows the topic's policy: it must \
                 allow vpce.amazonaws.com to publish. If a KMS key of yours encrypts the topic, the key's policy must \
                 allow it too. Then {ANEW}."
            ),
            Some(
                Command::new("sns get-topic-attributes", context.region)
                    .option("topic-arn", topic)
                    .literal("--query Attributes.Policy --output text"),
            ),
        ),
        (None, Some(Notification { id, .. })) => (
            "The command makes the notification cover all four events.".to_owned(),
            Some(
                Command::new("ec2 modify-vpc-endpoint-connection-notification", context.region)
                    .option("connection-notification-id", id)
                    .options("connection-events", EVENTS),
            ),
        ),
        (None, None) => (
            format!(
                "The stack's notification is missing: somebody deleted it, or ConnectionNotifications is 'false'. Do \
                 not create one by hand: it would stay behind when the stack is deleted. Instead, {ANEW}."
            ),
            None,
        ),
    };
    Remedy::new(&action, command, context.region.endpoint_service(service.as_str()))
}

const ANEW: &str = "let the stack create it again: make deploy SET=\"ConnectionNotifications=false\", and after that, \
                    make deploy SET=\"ConnectionNotifications=true\", both with the STACK, PROFILE and REGION that you \
                    deploy with";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Topology;
    use crate::testing::{
        call_error, endpoint_service, failure, only_status, service, settings, topology, with_policy,
    };

    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:notifications";

    fn notification(number: u32, topic: &str, events: &[&str]) -> Notification {
        Notification {
            id: "vpce-nfn-0123456789abcdef0".to_owned(),
            service: service(number),
            topic: topic.to_owned(),
            events: events.iter().map(ToString::to_string).collect(),
            enabled: true,
        }
    }

    /// The finding for these notifications, if the check fails.
    fn finding(notifications: Vec<Notification>) -> Option<Finding> {
        let policy = settings(&[("NOTIFICATION_TOPIC_ARN", TOPIC)]).policy;
        let topology = Topology { notifications: Some(Ok(notifications)), ..topology(endpoint_service(), []) };
        failure(only_status(with_policy(&topology, &policy, evaluate)))
    }

    fn summary_and_remedy(notifications: Vec<Notification>) -> (String, Remedy) {
        let finding = finding(notifications).unwrap();
        (finding.summary, finding.remedy)
    }

    #[test]
    fn the_notifications_together_must_cover_all_events() {
        assert_eq!(finding(vec![notification(1, TOPIC, &EVENTS)]), None);
        assert_eq!(
            finding(vec![
                notification(1, TOPIC, &["Accept", "Connect"]),
                notification(1, TOPIC, &["Delete", "Reject"])
            ]),
            None
        );
        let (summary, remedy) = summary_and_remedy(vec![notification(1, TOPIC, &["Accept", "Connect", "Reject"])]);
        assert_eq!(summary, "EC2 does not notify the guard of Delete events");
        let command = remedy.command.unwrap();
        assert!(command.contains("modify-vpc-endpoint-connection-notification"), "{command}");
    }

    #[test]
    fn the_evidence_lists_the_notifications_to_the_guard() {
        let id = "vpce-nfn-0123456789abcdef0";
        let disabled = Notification { enabled: false, ..notification(1, TOPIC, &["Accept", "Connect"]) };
        let evidence = finding(vec![notification(1, TOPIC, &["Delete"]), disabled]).unwrap().evidence;
        let lines = [format!("{id}: Delete (enabled)"), format!("{id}: Accept, Connect (disabled)")];
        assert_eq!(evidence[..2], [format!("topic: {TOPIC}"), "2 notifications to it".to_owned()]);
        assert_eq!(evidence[2..], lines);
    }

    #[test]
    fn a_notification_elsewhere_or_disabled_does_not_count() {
        let elsewhere = notification(1, "arn:aws:sns:eu-central-1:111122223333:other", &EVENTS);
        let of_another_service = notification(2, TOPIC, &EVENTS);
        let (summary, deleted) = summary_and_remedy(vec![elsewhere, of_another_service]);
        assert_eq!(summary, "EC2 does not notify the guard of connection events (0 of 4)");
        assert_eq!(deleted.command, None, "one that is made by hand stays behind when the stack is removed");
        let disabled = Notification { enabled: false, ..notification(1, TOPIC, &EVENTS) };
        let (_, disabled) = summary_and_remedy(vec![disabled]);
        assert!(disabled.command.unwrap().contains("sns get-topic-attributes"));
        for action in [deleted.action, disabled.action] {
            let [off, on] = ["false", "true"].map(|to| action.find(&format!("SET=\"ConnectionNotifications={to}\"")));
            assert!(off.is_some() && off < on, "the stack owns it: {action}");
        }
    }

    #[test]
    fn a_failed_read_is_unknown_and_no_topic_has_no_result() {
        let topology = topology(endpoint_service(), []);
        assert_eq!(with_policy(&topology, &settings(&[]).policy, evaluate), []);
        let policy = settings(&[("NOTIFICATION_TOPIC_ARN", TOPIC)]).policy;
        let status = |notifications| {
            only_status(with_policy(&Topology { notifications, ..topology.clone() }, &policy, evaluate))
        };
        let failed = call_error("ec2:DescribeVpcEndpointConnectionNotifications");
        assert!(matches!(status(Some(Err(failed))), Status::Unknown(_)));
        assert_eq!(status(None), Status::NotAsked);
    }
}
