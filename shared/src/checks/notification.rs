//! `service.notification`: does EC2 tell the guard at once what happens to connections?

use std::collections::BTreeSet;

use super::{Check, Finding, Observation, Remedy, Severity, Status, View, count};
use crate::ids::{Arn, ServiceId};
use crate::snapshot::{EVENTS, Notification, told};

/// The observation for the endpoint service; none if the policy names no topic.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/create-notification-endpoint-service.html>
#[must_use]
pub fn evaluate(view: View<'_>) -> Option<Observation> {
    let topic = view.policy.notification_topic.as_ref()?;
    Some(view.of_service(Check::ServiceNotification, |service| match told(view.paths.notifications.as_ref()) {
        Ok(all) => judge(&service.id, all, topic, view),
        Err(why) => Status::Unknown(why),
    }))
}

fn judge(service: &ServiceId, all: &[Notification], topic: &Arn, view: View<'_>) -> Status {
    let ours: Vec<&Notification> =
        all.iter().filter(|own| own.service == *service && own.topic == topic.as_str()).collect();
    let told: BTreeSet<&str> =
        ours.iter().filter(|own| own.enabled).flat_map(|own| own.events.iter().map(String::as_str)).collect();
    let missing: Vec<&str> = EVENTS.into_iter().filter(|event| !told.contains(event)).collect();
    if missing.is_empty() {
        return Status::Pass;
    }
    let disabled = ours.iter().find(|own| !own.enabled);
    let region = view.place.region();
    let create = format!(
        "aws ec2 create-vpc-endpoint-connection-notification --region {region} --service-id {service} \
         --connection-notification-arn {topic} --connection-events {}",
        EVENTS.join(" ")
    );
    let (what, command) = match (disabled, ours.first()) {
        (Some(Notification { id, .. }), _) => (
            "EC2 disables a notification that it cannot deliver: see that the topic's policy lets vpce.amazonaws.com \
             publish, as the stack sets it. Then put a new one in its place.",
            format!(
                "aws ec2 delete-vpc-endpoint-connection-notifications --region {region} --connection-notification-ids {id} \
                 && {create}"
            ),
        ),
        (None, Some(Notification { id, .. })) => (
            "Let the notification tell of all four events.",
            format!(
                "aws ec2 modify-vpc-endpoint-connection-notification --region {region} --connection-notification-id {id} \
                 --connection-events {}",
                EVENTS.join(" ")
            ),
        ),
        (None, None) => ("Create the notification anew.", create),
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
        meaning: "dbt's request is accepted by the schedule, minutes later than it could be.".to_owned(),
        evidence,
        remedy: Remedy {
            what: what.to_owned(),
            command: Some(command),
            console: view.place.endpoint_service(service.as_str()),
        },
        cause: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Paths;
    use crate::testing::{endpoint_service, paths, service, settings, unseen, view_of};

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
        let paths = Paths { notifications: Some(Ok(notifications)), ..paths(endpoint_service(), []) };
        match view_of(&paths, &policy, evaluate).unwrap().status {
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
        let paths = paths(endpoint_service(), []);
        assert_eq!(view_of(&paths, &settings(&[]).policy, evaluate), None);
        let policy = settings(&[("NOTIFICATION_TOPIC_ARN", TOPIC)]).policy;
        let failed = Some(Err(unseen("ec2:DescribeVpcEndpointConnectionNotifications")));
        for notifications in [None, failed] {
            let paths = Paths { notifications, ..paths.clone() };
            assert!(matches!(view_of(&paths, &policy, evaluate).unwrap().status, Status::Unknown(_)));
        }
    }
}
