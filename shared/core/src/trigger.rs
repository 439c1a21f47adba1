//! The reason why a function runs. An event only means "reconcile now"; it may name ids or a person, but is never
//! evidence.

use std::collections::BTreeSet;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{AccountId, Arn, ServiceId, load_balancer_of};

/// The reason for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    Schedule,
    Notification {
        /// SNS's id of the message.
        id: String,
        /// When SNS received the message.
        sent: Timestamp,
        /// The ids of endpoint services and endpoints that its text mentions.
        mentions: Vec<String>,
    },
    Change(Change),
    /// A call that CloudTrail recorded and AWS refused: nothing changed, so there is nothing to do.
    Refused,
    /// RDS reported a failover: its hostname may have other addresses.
    Failover,
    /// The schedule of the stack's `Heartbeat` parameter: send a notice that the guard is running.
    Heartbeat,
    Test,
    /// Somebody is about to delete the stack: send the last message.
    Removal,
    /// Anything else: a test event from the console, or an event that does not belong to this function.
    Unrecognised,
}

/// An API call that CloudTrail recorded and that succeeded: who changed what, from where, and when.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `ModifyLoadBalancerAttributes`, …
    pub event_name: String,
    /// The ARN of the caller, or another identification of it.
    pub principal: String,
    /// The source IP address, or the AWS service that made the call.
    pub source_ip_address: String,
    /// The time of the call, as CloudTrail writes it.
    pub event_time: String,
    /// The request parameters that took effect, as JSON: see [`crate::cloudtrail`].
    #[serde(skip)]
    pub parameters: String,
    /// CloudTrail's id of the event.
    #[serde(skip)]
    pub id: String,
}

/// Maximum length of a reported caller or source; the longest ARN of a role session is shorter.
const MAX_REPORTED: usize = 256;

/// A caller, source or time from an event, restricted to the characters of ARNs, addresses and times: anybody who may
/// invoke the function can write an event, and alerts show this text.
pub fn reported(text: &str) -> String {
    let safe = |c: char| match c {
        ' ' => '-',
        c if c.is_ascii_alphanumeric() || "+=,.@_/:-".contains(c) => c,
        _ => '?',
    };
    text.chars().take(MAX_REPORTED).map(safe).collect()
}

/// The stored form of a change, for a later run.
#[derive(Serialize, Deserialize)]
struct Noted {
    change: Change,
    names: Vec<String>,
}

/// Maximum number and length of the noted parameter texts: an ARN is shorter.
const MAX_NOTED: (usize, usize) = (100, 256);

/// Numbers up to this are ports, counts and bytes; ids are larger.
const MAX_COUNT: u64 = 65_535;

/// The text; for a number that can be an account id, its twelve digits.
pub(crate) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => {
            number.as_u64().filter(|number| *number > MAX_COUNT).map(|number| format!("{number:012}"))
        }
        _ => None,
    }
}

impl Change {
    /// All texts in the parameters, each a possible id; `None` if the parameters cannot be read.
    pub fn texts(&self) -> Option<Vec<String>> {
        fn add(value: &Value, texts: &mut Vec<String>) {
            match value {
                Value::Array(values) => values.iter().for_each(|value| add(value, texts)),
                Value::Object(fields) => fields.values().for_each(|value| add(value, texts)),
                value => texts.extend(as_text(value)),
            }
        }
        let mut texts = Vec::new();
        add(&serde_json::from_str(&self.parameters).ok()?, &mut texts);
        Some(texts)
    }

    /// The change as text, with the short parameters that contain only characters of ids and ARNs.
    pub fn note(&self) -> String {
        let (number, length) = MAX_NOTED;
        let is_id = |name: &String| name.len() <= length && (name == "*" || reported(name) == *name);
        let names = self.texts().unwrap_or_default().into_iter().filter(is_id).take(number);
        serde_json::to_string(&Noted { change: self.clone(), names: names.collect() }).unwrap_or_default()
    }

    /// The change in a note.
    pub fn from_note(note: &str) -> Option<Self> {
        let Noted { change, names } = serde_json::from_str(note).ok()?;
        Some(Self { parameters: serde_json::to_string(&names).ok()?, ..change })
    }

    /// Whether the change names `resource`: see [`Change::names_any`].
    pub fn names(&self, resource: &str) -> bool {
        self.names_any([resource])
    }

    /// Whether the change names one of `resources`: ids, ARNs, or accounts. A listener or its rule names its load
    /// balancer, and a principal or `*`, which stands for everybody, names an account.
    pub fn names_any<'a>(&self, resources: impl IntoIterator<Item = &'a str>) -> bool {
        let texts = self.texts().unwrap_or_default();
        let load_balancers = texts.iter().filter_map(|text| load_balancer_of(text));
        let named: BTreeSet<String> = texts.iter().cloned().chain(load_balancers).collect();
        let principals: Vec<Arn> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        let admits = |account: &AccountId| {
            let of_account = |arn: &Arn| arn.service() == "iam" && arn.account() == account.as_str();
            named.contains("*") || principals.iter().any(of_account)
        };
        resources.into_iter().any(|it| named.contains(it) || it.parse().is_ok_and(|account| admits(&account)))
    }

    /// Whether the change names endpoint services, but not `service`.
    pub fn is_of_another_service(&self, service: &ServiceId) -> bool {
        let texts = self.texts().unwrap_or_default();
        let mut services = texts.iter().filter_map(|text| text.parse::<ServiceId>().ok()).peekable();
        services.peek().is_some() && services.all(|named| named != *service)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event_name, principal, source_ip_address, event_time, .. } = self;
        write!(f, "{event_name} by {principal} from {source_ip_address} at {event_time}")
    }
}

impl Trigger {
    /// The id and time of the event; `None` for triggers that always lead to a run.
    pub fn event(&self) -> Option<(&str, Timestamp)> {
        match self {
            Self::Notification { id, sent, .. } => Some((id, *sent)),
            // CloudTrail truncates times to the second: the call was made within the following second.
            Self::Change(change) => {
                let at: Timestamp = change.event_time.parse().ok()?;
                Some((&change.id, at.checked_add(SignedDuration::from_secs(1)).ok()?))
            }
            Self::Schedule
            | Self::Failover
            | Self::Refused
            | Self::Heartbeat
            | Self::Test
            | Self::Removal
            | Self::Unrecognised => None,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule => f.write_str("schedule"),
            Self::Failover => f.write_str("failover that RDS reported"),
            Self::Heartbeat => f.write_str("heartbeat schedule"),
            Self::Test => f.write_str("request for test messages"),
            Self::Removal => f.write_str("request for the last message"),
            Self::Notification { id, mentions, .. } if mentions.is_empty() => {
                write!(f, "connection notification {id}, which names no id")
            }
            Self::Notification { id, mentions, .. } => {
                write!(f, "connection notification {id}, which names {}", mentions.join(" and "))
            }
            Self::Change(change) => change.fmt(f),
            Self::Refused => f.write_str("call that AWS refused"),
            Self::Unrecognised => f.write_str("unrecognised event"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Trigger};
    use crate::testing::{at, change};

    #[test]
    fn event_text_keeps_only_characters_of_arns_and_addresses() {
        let arn = "arn:aws:sts::111122223333:assumed-role/net+ops=1,a.b@c_d/session";
        assert_eq!(super::reported(arn), arn);
        assert_eq!(super::reported("2001:db8::7"), "2001:db8::7");
        assert_eq!(super::reported("AWS Internal"), "AWS-Internal");
        assert_eq!(super::reported("`x`\n*[ok](http://y)*;\u{202e}"), "?x????ok??http://y????");
        assert_eq!(super::reported(&"a".repeat(9_999)).len(), 256);
    }

    #[test]
    fn another_run_covers_only_notifications_and_changes() {
        use Trigger::{Failover, Heartbeat, Removal, Schedule, Test, Unrecognised};

        let notification = Trigger::Notification { id: "m-1".to_owned(), sent: at(8, 0), mentions: Vec::new() };
        assert_eq!(notification.event(), Some(("m-1", at(8, 0))));
        let change = Change { id: "c-1".to_owned(), event_time: "2026-03-14T07:59:59Z".to_owned(), ..change() };
        assert_eq!(Trigger::Change(change.clone()).event(), Some(("c-1", at(8, 0))), "within the second after");
        assert_eq!(Trigger::Change(Change { event_time: "soon".to_owned(), ..change }).event(), None);
        for always in [Schedule, Failover, Heartbeat, Test, Removal, Unrecognised] {
            assert_eq!(always.event(), None, "{always}");
        }
    }

    #[test]
    fn a_trigger_describes_why_the_run_began() {
        let notification = |mentions: &[&str]| {
            let mentions = mentions.iter().map(ToString::to_string).collect();
            Trigger::Notification { id: "m-1".to_owned(), sent: at(8, 0), mentions }.to_string()
        };
        assert_eq!(notification(&[]), "connection notification m-1, which names no id");
        assert_eq!(notification(&["a", "b"]), "connection notification m-1, which names a and b");
        assert_eq!(Trigger::Schedule.to_string(), "schedule");
        assert_eq!(Trigger::Change(change()).to_string(), change().to_string());
    }

    #[test]
    fn a_change_describes_its_call_and_names_its_resources() {
        let change = change();
        assert_eq!(
            change.to_string(),
            "ModifyLoadBalancerAttributes by arn:aws:iam::111122223333:user/network-admin from 203.0.113.7 at \
             2026-03-14T08:00:00Z"
        );
        let arn = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/pg/0123456789abcdef";
        assert!(change.names(arn));
        assert!(!change.names(&arn[..arn.len() - 1]), "a prefix is another resource");
        let path = "net/pg/0123456789abcdef/fedcba9876543210";
        for (part, names) in [
            (format!("listener/{path}"), true),
            (format!("listener-rule/{path}/0011223344556677"), true),
            ("listener-rule/net/pg/0123456789abcdee/fedcba9876543210/0011223344556677".to_owned(), false),
        ] {
            let parameters = format!("[\"arn:aws:elasticloadbalancing:eu-central-1:111122223333:{part}\"]");
            assert_eq!(Change { parameters, ..change.clone() }.names(arn), names, "{part}");
        }
    }

    #[test]
    fn a_noted_change_still_names_its_resources() {
        let parameters = r#"{"a":[{"groupId":"sg-1"}],"n":7,"owner":200802171337,"long":"LONG"}"#;
        let parameters = parameters.replace("LONG", &"x".repeat(9_999));
        let change = Change { parameters, ..change() };
        let note = change.note();
        let noted = Change::from_note(&note).unwrap();
        assert_eq!(noted.to_string(), change.to_string());
        assert!(noted.names("sg-1") && !noted.names("sg-2"));
        assert_eq!(noted.texts().unwrap(), ["sg-1", "200802171337"], "seven is a count");
        assert!(note.len() < 500, "{note}");
        assert_eq!(Change::from_note("{}"), None);
        assert_eq!(Change { parameters: "?".to_owned(), ..change }.texts(), None);
    }
}
