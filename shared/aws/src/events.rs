//! Lambda events → [`Trigger`]. An event that does not parse is still a reason to run.

use aws_lambda_events::event::sns::SnsEvent;
use guard_core::trigger::Trigger;
use guard_core::{cloudtrail, ids};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The source of the heartbeat event, a constant in the template and the event's only field.
const HEARTBEAT: &str = "privatelink-guard.heartbeat";

/// The source of the event in the stack's output `TestMessage`.
const TEST: &str = "privatelink-guard.test";

/// The source of the event in the stack's output `LastMessage`.
const REMOVAL: &str = "privatelink-guard.removal";

/// The trigger that `event` represents.
pub fn parse(event: &Value) -> Trigger {
    match event["source"].as_str() {
        Some(HEARTBEAT) => return Trigger::Heartbeat,
        Some(TEST) => return Trigger::Test,
        Some(REMOVAL) => return Trigger::Removal,
        _ => {}
    }
    let notification = SnsEvent::deserialize(event).ok().and_then(notification);
    notification.or_else(|| scheduled_or_recorded(event)).unwrap_or(Trigger::Unrecognised)
}

fn notification(event: SnsEvent) -> Option<Trigger> {
    // SNS sends exactly one record per invocation.
    let message = event.records.into_iter().next()?.sns;
    Some(Trigger::Notification {
        id: message.message_id,
        sent: Timestamp::from_millisecond(message.timestamp.timestamp_millis()).ok()?,
        // No list shows a deleted endpoint, so waiting for it is pointless.
        mentions: match message.message.to_ascii_lowercase().contains("delete") {
            true => Vec::new(),
            false => ids::mentioned(&message.message),
        },
    })
}

fn scheduled_or_recorded(event: &Value) -> Option<Trigger> {
    match (event["source"].as_str()?, event["detail-type"].as_str()?) {
        ("aws.events", _) => Some(Trigger::Schedule),
        ("aws.rds", _) => Some(Trigger::Failover),
        (_, "AWS API Call via CloudTrail") => Some(cloudtrail::trigger(&event["detail"])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use guard_core::testing::{at, change};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{cloudtrail_event, notification, pointers, scheduled};

    #[test]
    fn each_trigger_is_recognised() {
        assert_eq!(parse(&scheduled()), Trigger::Schedule);
        assert_eq!(parse(&failover()), Trigger::Failover);
        assert_eq!(parse(&json!({"source": "privatelink-guard.heartbeat"})), Trigger::Heartbeat);
        assert_eq!(parse(&json!({"source": "privatelink-guard.test"})), Trigger::Test);
        assert_eq!(parse(&json!({"source": "privatelink-guard.removal"})), Trigger::Removal);
        let expected = Trigger::Notification {
            id: "m-1".to_owned(),
            sent: at(8, 0),
            mentions: vec!["vpce-svc-0123456789abcdef0".to_owned()],
        };
        let message = "vpce-svc-0123456789abcdef0: Connect";
        assert_eq!(parse(&notification("m-1", "2026-03-14T08:00:00.000Z", message)), expected);
        let recorded = cloudtrail_event(&json!({
            "eventName": "ModifyLoadBalancerAttributes",
            "userIdentity": {"arn": "arn:aws:iam::111122223333:user/network-admin"},
            "sourceIPAddress": "203.0.113.7",
            "eventTime": "2026-03-14T08:00:00Z",
            "eventID": "e-1",
            "requestParameters": serde_json::from_str::<Value>(&change().parameters).unwrap(),
        }));
        assert_eq!(parse(&recorded), Trigger::Change(change()));
    }

    #[test]
    fn a_refused_call_differs_from_an_unrecognised_event() {
        let denied = json!({"eventName": "ModifyLoadBalancerAttributes", "errorCode": "AccessDenied"});
        assert_eq!(parse(&cloudtrail_event(&denied)), Trigger::Refused);
        for event in [json!({"hello": "world"}), json!(null), cloudtrail_event(&json!("?"))] {
            assert_eq!(parse(&event), Trigger::Unrecognised, "{event}");
        }
    }

    #[test]
    fn caller_and_source_address_cannot_inject_markup() {
        let record = json!({
            "eventName": "SetSubnets",
            "userIdentity": {"arn": "arn:aws:iam::1:user/`;curl x`\n[RESOLVED] \u{202e}"},
            "sourceIPAddress": "*[ok](http://x)*",
        });
        let Trigger::Change(change) = parse(&cloudtrail_event(&record)) else { panic!("a change") };
        assert_eq!(change.principal, "arn:aws:iam::1:user/??curl-x???RESOLVED?-?");
        assert_eq!(change.source_ip_address, "??ok??http://x??");
    }

    /// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-cloud-watch-events.html>
    fn failover() -> Value {
        json!({
            "source": "aws.rds",
            "detail-type": "RDS DB Instance Event",
            "detail": {"EventCategories": ["failover"], "SourceIdentifier": "db", "EventID": "RDS-EVENT-0049"},
        })
    }

    /// Events that AWS could send, with any text in their fields, each with its kind.
    fn events() -> impl Strategy<Value = (&'static str, Value)> {
        let text = ".{0,20}";
        prop_oneof![
            Just(("schedule", scheduled())),
            (text, text)
                .prop_map(|(id, message)| ("notification", notification(&id, "2026-03-14T08:00:00.000Z", &message))),
            (text, text, text).prop_map(|(name, principal, time)| {
                let record =
                    json!({"eventName": name, "userIdentity": {"arn": principal}, "eventTime": time, "eventID": time});
                ("change", cloudtrail_event(&record))
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_aws_event_is_recognised((kind, event) in events()) {
            let recognised = match parse(&event) {
                Trigger::Schedule => "schedule",
                Trigger::Failover => "failover",
                Trigger::Notification { .. } => "notification",
                Trigger::Change(_) => "change",
                Trigger::Heartbeat => "heartbeat",
                Trigger::Test => "test",
                Trigger::Removal => "removal",
                Trigger::Refused => "refused",
                Trigger::Unrecognised => "unrecognised",
            };
            prop_assert_eq!(recognised, kind);
        }

        /// Replaces one value of an event that AWS could send.
        #[test]
        fn no_malformed_event_panics(
            (_, mut event) in events(),
            place in any::<prop::sample::Index>(),
            instead in prop_oneof![Just(json!(null)), Just(json!({})), Just(json!([])), Just(json!(7)), ".{0,20}".prop_map(Value::from)],
        ) {
            let pointers = pointers(&event, "");
            let pointer = &pointers[place.index(pointers.len())];
            *event.pointer_mut(pointer).unwrap() = instead;
            let _ = parse(&event).to_string();
        }
    }
}
