//! What rang. An event says "look now" and may name ids or a person; it is never evidence, so nothing in it is required
//! and nothing in it can fail.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids;

/// Why a function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The clock.
    Schedule,
    /// A message on the notification topic.
    Notification {
        /// SNS's id of the message.
        id: String,
        /// When SNS took the message, in SNS's own words (not the message's).
        sent: Option<Timestamp>,
        /// The endpoint service and endpoint ids that stand in its text.
        mentions: Vec<String>,
    },
    /// A change in AWS that CloudTrail recorded.
    Change(Change),
    /// Somebody wants to hear that the guard is alive: the schedule of the stack's `StillWatching`.
    StillWatching,
    /// Anything else: a test event from the console, or something that should not be subscribed to this function.
    Unrecognised,
}

/// A call that CloudTrail recorded, and AWS carried out: who changed what, from where, when.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `ModifyLoadBalancerAttributes`, …
    pub event_name: String,
    /// The principal's ARN.
    pub by: String,
    /// The source address, or the AWS service that called.
    pub from: String,
    /// When, as CloudTrail writes it.
    pub at: String,
    /// The request's parameters, to find out what the change was about.
    #[serde(skip)]
    pub parameters: String,
    /// CloudTrail's id of the event.
    #[serde(skip)]
    pub id: String,
}

impl Change {
    /// Whether the change names `resource`, an id or an ARN; of a load balancer, also whether it names one of its listeners,
    /// whose ARN goes on where the load balancer's ends.
    #[must_use]
    pub fn is_about(&self, resource: &str) -> bool {
        let listener = resource.split_once(":loadbalancer/").map(|(_, path)| format!(":listener/{path}/"));
        self.parameters.contains(&format!("\"{resource}\""))
            || listener.is_some_and(|listener| self.parameters.contains(&listener))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} from {} at {}", self.event_name, self.by, self.from, self.at)
    }
}

impl Trigger {
    /// The id of what rang, and when it happened; `None` for what must be answered whatever other runs do.
    #[must_use]
    pub fn ring(&self) -> Option<(&str, Timestamp)> {
        match self {
            Self::Notification { id, sent, .. } => Some((id, (*sent)?)),
            // CloudTrail's times are cut to the second, so it happened within the second after.
            Self::Change(change) => {
                let at: Timestamp = change.at.parse().ok()?;
                Some((&change.id, at.checked_add(SignedDuration::from_secs(1)).ok()?))
            }
            Self::Schedule | Self::StillWatching | Self::Unrecognised => None,
        }
    }

    /// Reads as much of `event` as there is.
    #[must_use]
    pub fn of(event: &Value) -> Self {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        if text("/Records/0/EventSource") == Some("aws:sns") {
            return Self::Notification {
                id: text("/Records/0/Sns/MessageId").unwrap_or("without an id").to_owned(),
                sent: text("/Records/0/Sns/Timestamp").and_then(|time| time.parse().ok()),
                mentions: text("/Records/0/Sns/Message").map(ids::mentioned).unwrap_or_default(),
            };
        }
        if text("/source") == Some("privatelink-guard.still-watching") {
            return Self::StillWatching;
        }
        if text("/source") == Some("aws.events") {
            return Self::Schedule;
        }
        // CloudTrail records what was denied as well; that changed nothing, and whoever tried is nobody's cause.
        let carried_out = event.pointer("/detail/errorCode").is_none();
        if let (Some("AWS API Call via CloudTrail"), Some(event_name), true) =
            (text("/detail-type"), text("/detail/eventName"), carried_out)
        {
            let or_unknown = |pointer: &str| text(pointer).unwrap_or("unknown").to_owned();
            return Self::Change(Change {
                event_name: event_name.to_owned(),
                by: or_unknown("/detail/userIdentity/arn"),
                from: or_unknown("/detail/sourceIPAddress"),
                at: or_unknown("/detail/eventTime"),
                id: or_unknown("/detail/eventID"),
                parameters: event.pointer("/detail/requestParameters").map(Value::to_string).unwrap_or_default(),
            });
        }
        Self::Unrecognised
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule => f.write_str("schedule"),
            Self::StillWatching => f.write_str("schedule of the still-watching notice"),
            Self::Notification { id, mentions, .. } if mentions.is_empty() => {
                write!(f, "connection notification {id}, which names nothing")
            }
            Self::Notification { id, mentions, .. } => {
                write!(f, "connection notification {id}, which names {}", mentions.join(" and "))
            }
            Self::Change(change) => change.fmt(f),
            Self::Unrecognised => f.write_str("an event of no known kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_trigger_is_recognised() {
        assert_eq!(Trigger::of(&json!({"source": "aws.events", "detail-type": "Scheduled Event"})), Trigger::Schedule);
        let notification = json!({"Records": [{"EventSource": "aws:sns", "Sns": {
            "MessageId": "m-1", "Timestamp": "2026-03-14T08:00:00.000Z", "Message": "vpce-svc-0123456789abcdef0: Connect",
        }}]});
        assert_eq!(
            Trigger::of(&notification),
            Trigger::Notification {
                id: "m-1".to_owned(),
                sent: Some(crate::testing::at(8, 0)),
                mentions: vec!["vpce-svc-0123456789abcdef0".to_owned()],
            }
        );
        assert_eq!(Trigger::of(&json!({"hello": "world"})), Trigger::Unrecognised);
        let denied = json!({"detail-type": "AWS API Call via CloudTrail", "detail": {
            "eventName": "ModifyLoadBalancerAttributes", "errorCode": "AccessDenied",
        }});
        assert_eq!(Trigger::of(&denied), Trigger::Unrecognised, "what was denied changed nothing");
    }

    #[test]
    fn a_change_names_who_where_and_when() {
        let arn = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/pg/0123456789abcdef";
        let event = json!({
            "source": "aws.elasticloadbalancing",
            "detail-type": "AWS API Call via CloudTrail",
            "detail": {
                "eventName": "ModifyLoadBalancerAttributes",
                "userIdentity": {"arn": "arn:aws:iam::111122223333:user/network-admin"},
                "sourceIPAddress": "203.0.113.7",
                "eventTime": "2026-03-14T08:00:00Z",
                "requestParameters": {"loadBalancerArn": arn},
            },
        });
        let Trigger::Change(change) = Trigger::of(&event) else { panic!("a change") };
        assert_eq!(
            change.to_string(),
            "ModifyLoadBalancerAttributes by arn:aws:iam::111122223333:user/network-admin from 203.0.113.7 at \
             2026-03-14T08:00:00Z"
        );
        assert!(change.is_about(arn));
        assert!(!change.is_about(&arn[..arn.len() - 1]), "a prefix is another resource");
    }

    proptest! {
        #[test]
        fn no_event_is_a_panic(text in r#"\{("(Records|source|detail|detail-type)": ?("[a-z.:]{0,9}"|\[\{?\}?\]|null|[0-9]{1,3}),? ?){0,4}\}"#) {
            if let Ok(event) = serde_json::from_str::<Value>(&text) {
                let _ = Trigger::of(&event).to_string();
            }
        }
    }
}
