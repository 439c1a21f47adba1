//! Transitions → one message per endpoint service and run, with a body for each kind of reader. Pure.
//!
//! Plain text serves email and every protocol without a body of its own; Amazon Q's custom notification serves `https`;
//! JSON serves `sqs` and `lambda`. Nothing is cut without saying so: what does not fit is a line each, and beyond that a
//! number.

mod chat;
mod escape;
mod json;
mod text;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use self::escape::{plain, subject};
use super::record::Partition;
use super::transition::{Kind, Transition};
use crate::checks::Severity;
use crate::snapshot::CallError;

/// SNS limits all bodies of a message together to 256 KiB; the rest is for SNS's own wrapping.
const MAX_BYTES: usize = 240 * 1024;

/// Transitions described in full, if they fit. The others get a line each.
const MAX_IN_FULL: usize = 20;

/// Transitions that get a line; beyond that they are counted.
const MAX_LISTED: usize = 100;

/// One message, as SNS publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The email's subject: ASCII, at most 100 characters.
    pub subject: String,
    /// For email, and for every protocol without a body of its own.
    pub text: String,
    /// For Amazon Q Developer in chat applications (Slack): its custom notification, as JSON.
    pub chat: String,
    /// For programs (SQS, Lambda): JSON as in `docs/alert.schema.json`.
    pub data: String,
    severity: Severity,
    kinds: BTreeSet<Kind>,
    partition: Partition,
}

/// What all bodies are made from.
struct Content<'a> {
    partition: &'a Partition,
    name: Option<&'a str>,
    function: &'a str,
    label: &'static str,
    title: String,
    severity: Severity,
    kinds: BTreeSet<Kind>,
    transitions: Vec<&'a Transition>,
    caution: Option<String>,
}

impl Message {
    /// Renders the transitions of the records of one partition: `outboxes` holds, for each record, its transitions in
    /// order. `name` is the endpoint service's `Name` tag; `trouble`, why the table failed.
    #[must_use]
    pub fn new(
        partition: &Partition,
        name: Option<&str>,
        function: &str,
        outboxes: &[&[Transition]],
        trouble: Option<&CallError>,
    ) -> Self {
        let content = Content::new(partition, name, function, outboxes, trouble);
        let mut in_full = MAX_IN_FULL;
        loop {
            let message = content.render(in_full);
            if in_full == 0 || message.bodies().len() <= MAX_BYTES {
                return message;
            }
            in_full /= 2;
        }
    }

    /// The `Message` of an SNS publish with `MessageStructure=json`: a body per protocol. Email gets the default.
    #[must_use]
    pub fn bodies(&self) -> String {
        serde_json::json!({"default": self.text, "https": self.chat, "sqs": self.data, "lambda": self.data}).to_string()
    }

    /// The message attributes that subscription filter policies can match.
    /// <https://docs.aws.amazon.com/sns/latest/dg/string-value-matching.html>
    #[must_use]
    pub fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let kinds = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let service = self.partition.service().map(|service| ("serviceId", Attribute::Text(service.to_string())));
        [("severity", Attribute::Text(self.severity.as_str().to_owned())), ("kind", Attribute::List(kinds))]
            .into_iter()
            .chain(service)
            .collect()
    }
}

/// The value of a message attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A string.
    Text(String),
    /// A list of strings: a filter policy matches if any of them matches.
    List(Vec<&'static str>),
}

impl<'a> Content<'a> {
    fn new(
        partition: &'a Partition,
        name: Option<&'a str>,
        function: &'a str,
        outboxes: &[&'a [Transition]],
        trouble: Option<&CallError>,
    ) -> Self {
        let mut outboxes: Vec<&[Transition]> = outboxes.iter().copied().filter(|outbox| !outbox.is_empty()).collect();
        // Worst first; what is over comes after what is not.
        outboxes.sort_by_key(|outbox| (outbox.last().map(urgency_rank), Reverse(worst(*outbox))));
        let transitions: Vec<&Transition> = outboxes.iter().copied().flatten().collect();
        let others = match outboxes.len() {
            0 | 1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        let title = title(partition, name);
        Self {
            partition,
            name,
            function,
            label: outboxes.first().map_or("NOTICE", |outbox| outbox_label(outbox)),
            title: outboxes
                .first()
                .map_or(title.clone(), |outbox| format!("{title}: {}{others}", outbox_summary(outbox))),
            severity: urgency(&transitions),
            kinds: transitions.iter().map(|transition| transition.kind).collect(),
            transitions,
            caution: trouble.map(|trouble| {
                format!(
                    "The guard's memory, its DynamoDB table, failed ({}): this may be sent again, and what is over may \
                     not be sent.",
                    plain(&trouble.to_string())
                )
            }),
        }
    }

    fn render(&self, in_full: usize) -> Message {
        Message {
            subject: subject(&format!("[{}] {}", self.label, self.title)),
            text: text::body(self, in_full),
            chat: chat::body(self, in_full),
            data: json::body(self, in_full),
            severity: self.severity,
            kinds: self.kinds.clone(),
            partition: self.partition.clone(),
        }
    }
}

fn title(partition: &Partition, name: Option<&str>) -> String {
    match (partition, name) {
        (Partition::Service(service), Some(name)) => format!("{service} ({})", plain(name)),
        (Partition::Service(service), None) => service.to_string(),
        (Partition::Guard, _) => "privatelink-guard".to_owned(),
    }
}

/// The worst severity of what fires or is repeated; if there is none, of everything.
fn urgency(transitions: &[&Transition]) -> Severity {
    let urgent = |transition: &&&Transition| matches!(transition.kind, Kind::Firing | Kind::Reminder);
    let urgent: Vec<&Transition> = transitions.iter().filter(urgent).copied().collect();
    worst(if urgent.is_empty() { transitions.to_vec() } else { urgent })
}

/// What people read first: what is wrong, then what is over, then notices; and last that something harmless is over.
fn urgency_rank(transition: &Transition) -> (bool, Kind) {
    let harmless = transition.kind == Kind::Resolved && transition.finding.severity == Severity::Info;
    (harmless, transition.kind)
}

fn worst<'a>(transitions: impl IntoIterator<Item = &'a Transition>) -> Severity {
    transitions.into_iter().map(|transition| transition.finding.severity).max().unwrap_or(Severity::Info)
}

/// The label in front, in words: colour is never the only sign.
fn label(transition: &Transition) -> &'static str {
    match (transition.kind, transition.finding.severity) {
        (Kind::Resolved, _) => "RESOLVED",
        (Kind::Notice, _) => "NOTICE",
        (_, Severity::Critical) => "CRITICAL",
        (_, Severity::Warning) => "WARNING",
        (_, Severity::Info) => "INFO",
    }
}

/// The label of a record's transitions. An alert that fired and resolved since the last message keeps the label it fired
/// with.
fn outbox_label(outbox: &[Transition]) -> &'static str {
    let fired = outbox.iter().find(|transition| transition.kind == Kind::Firing);
    fired.or(outbox.last()).map_or("NOTICE", label)
}

fn outbox_summary(outbox: &[Transition]) -> String {
    let Some(last) = outbox.last() else { return String::new() };
    let fired = outbox.iter().any(|transition| transition.kind == Kind::Firing);
    match last.kind {
        Kind::Resolved if fired => format!("{} (over already)", plain(&last.finding.summary)),
        _ => summary(last),
    }
}

/// What is wrong; for a resolved alert, that it is over.
fn summary(transition: &Transition) -> String {
    let summary = plain(&transition.finding.summary);
    if transition.kind == Kind::Resolved { format!("over: {summary}") } else { summary }
}

fn lasted(transition: &Transition) -> String {
    duration(transition.at.duration_since(transition.since))
}

/// `3 days 4 hours`, `12 minutes`, `40 seconds`: the largest unit, and the next one if it is not zero.
fn duration(lasted: SignedDuration) -> String {
    let seconds = lasted.as_secs().max(0);
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let Some(largest) = units.iter().position(|(length, _)| seconds >= *length) else {
        return "less than a second".to_owned();
    };
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (length, unit) in &units[largest..units.len().min(largest + 2)] {
        let number = rest / length;
        rest %= length;
        if number > 0 {
            parts.push(format!("{number} {unit}{}", if number == 1 { "" } else { "s" }));
        }
    }
    parts.join(" ")
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::checks::Finding;
    use crate::testing::{at, change, finding, service};

    fn transition(kind: Kind, severity: Severity) -> Transition {
        Transition {
            number: 1,
            kind,
            check: "target-group.health".to_owned(),
            resource: "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef"
                .to_owned(),
            at: at(9, 12),
            since: at(8, 0),
            incident: "vpce-svc-00000000000000001-1773475200".to_owned(),
            finding: finding(severity),
            unknown: None,
            dropped: 0,
        }
    }

    fn message(outboxes: &[&[Transition]]) -> Message {
        Message::new(&Partition::Service(service(1)), Some("postgres"), "health-watcher", outboxes, None)
    }

    #[test]
    fn an_email_reads_like_this() {
        let mut fired = transition(Kind::Firing, Severity::Critical);
        fired.finding.cause = Some(change());
        let message = message(&[&[fired]]);
        insta::assert_snapshot!(format!("Subject: {}\n\n{}", message.subject, message.text), @"
        Subject: [CRITICAL] vpce-svc-00000000000000001 (postgres): 2 of 3 targets down in target group pg

        [CRITICAL] 2 of 3 targets down in target group pg
        Since 2026-03-14 08:00:00 UTC.

        For dbt: dbt still gets through.

        Seen:
        - healthy: 1 of 3 (1 in eu-central-1a)

        Changed by: ModifyLoadBalancerAttributes by
        arn:aws:iam::111122223333:user/network-admin from 203.0.113.7 at
        2026-03-14T08:00:00Z

        To do: Start them.

          aws elbv2 describe-target-health

        Console: https://eu-central-1.console.aws.amazon.com/ec2/home

        Check: target-group.health on arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef

        ----

        Endpoint service: vpce-svc-00000000000000001 (postgres)
        Sent by privatelink-guard, function health-watcher.
        ");
    }

    #[test]
    fn the_worst_comes_first_and_what_is_over_last() {
        let message = message(&[
            &[transition(Kind::Resolved, Severity::Critical)],
            &[transition(Kind::Firing, Severity::Warning)],
            &[transition(Kind::Firing, Severity::Critical)],
        ]);
        let labels: Vec<&str> = message
            .text
            .lines()
            .filter(|line| line.starts_with('['))
            .map(|line| line.split(']').next().unwrap())
            .collect();
        assert_eq!(labels, ["[CRITICAL", "[WARNING", "[RESOLVED"]);
        assert!(message.chat.contains("target group pg (and 2 more)"), "{}", message.chat);
        assert!(
            message
                .text
                .contains("It lasted 1 hour 12 minutes, from 2026-03-14 08:00:00 UTC to 2026-03-14 09:12:00 UTC.")
        );
        assert_eq!(
            message.attributes(),
            [
                ("severity", Attribute::Text("critical".to_owned())),
                ("kind", Attribute::List(vec!["firing", "resolved"])),
                ("serviceId", Attribute::Text("vpce-svc-00000000000000001".to_owned())),
            ]
        );
    }

    #[test]
    fn severity_is_the_worst_of_what_fires_and_only_then_of_the_rest() {
        let severity = |outboxes: &[&[Transition]]| message(outboxes).attributes().remove(0).1;
        let (resolved, fired) =
            ([transition(Kind::Resolved, Severity::Critical)], [transition(Kind::Firing, Severity::Warning)]);
        assert_eq!(severity(&[&resolved, &fired]), Attribute::Text("warning".to_owned()));
        assert_eq!(severity(&[&resolved]), Attribute::Text("critical".to_owned()));
    }

    #[test]
    fn what_several_services_depend_on_is_the_guards_own_message() {
        let outboxes: &[&[Transition]] = &[&[transition(Kind::Firing, Severity::Warning)]];
        let message = Message::new(&Partition::Guard, None, "drift-watcher", outboxes, None);
        assert!(message.subject.starts_with("[WARNING] privatelink-guard: "), "{}", message.subject);
        assert_eq!(message.attributes().len(), 2, "no serviceId");
        let data: Value = serde_json::from_str(&message.data).unwrap();
        assert_eq!(data["serviceId"], Value::Null);
    }

    #[test]
    fn the_subject_is_ascii_and_fits() {
        let long = Finding { summary: "größer ".repeat(40), ..finding(Severity::Critical) };
        let fired = Transition { finding: long, ..transition(Kind::Firing, Severity::Critical) };
        let subject = message(&[&[fired]]).subject;
        assert!(subject.is_ascii() && subject.len() <= 100 && subject.ends_with("..."), "{subject}");
    }

    #[test]
    fn a_name_cannot_forge_a_message() {
        let fake = Finding {
            summary: "target group *[ok](http://x)*\n[RESOLVED] all is well".to_owned(),
            evidence: vec!["```\nall is well".to_owned()],
            ..finding(Severity::Critical)
        };
        let message = Message::new(
            &Partition::Service(service(1)),
            Some("pg\r\nSubject: fine"),
            "health-watcher",
            &[&[Transition { finding: fake, ..transition(Kind::Firing, Severity::Critical) }]],
            None,
        );
        assert!(!message.text.lines().any(|line| line.starts_with("[RESOLVED]")), "{}", message.text);
        assert!(!message.subject.contains('\n'));
        let chat: Value = serde_json::from_str(&message.chat).unwrap();
        let description = chat.pointer("/content/description").unwrap().as_str().unwrap();
        assert!(!description.contains("[ok](http"), "{description}");
        assert_eq!(description.matches("```").count(), 2, "one block, opened and closed by us: {description}");
    }

    #[test]
    fn the_chat_body_has_the_shape_amazon_q_shows() {
        let message = message(&[&[transition(Kind::Firing, Severity::Critical)]]);
        let chat: Value = serde_json::from_str(&message.chat).unwrap();
        assert_eq!((chat["version"].as_str(), chat["source"].as_str()), (Some("1.0"), Some("custom")));
        assert_eq!(chat.pointer("/content/textType").unwrap(), "client-markdown");
        assert_eq!(chat.pointer("/metadata/threadId").unwrap(), "vpce-svc-00000000000000001-1773475200");
        assert!(
            chat.pointer("/content/nextSteps/0")
                .unwrap()
                .as_str()
                .unwrap()
                .contains("aws elbv2 describe-target-health")
        );
        let bodies: Value = serde_json::from_str(&message.bodies()).unwrap();
        assert!(["default", "https", "sqs", "lambda"].iter().all(|protocol| bodies[protocol].is_string()));
    }

    #[test]
    fn however_much_there_is_it_fits_and_nothing_is_left_out_silently() {
        let long =
            Finding { evidence: vec!["10.0.0.1:5432: unhealthy ".repeat(40); 21], ..finding(Severity::Critical) };
        let one = Transition { finding: long, ..transition(Kind::Firing, Severity::Critical) };
        let many: Vec<Transition> = (0..300)
            .map(|number| Transition { resource: format!("{}/{number}", one.resource), ..one.clone() })
            .collect();
        let items: Vec<&[Transition]> = many.chunks(1).collect();
        let message = message(&items);
        assert!(message.bodies().len() <= 240 * 1024, "{}", message.bodies().len());
        let in_full = message.text.matches("For dbt:").count();
        let in_short = message.text.lines().filter(|line| line.starts_with("[CRITICAL]")).count() - in_full;
        let counted: usize =
            message.text.split("And ").filter_map(|part| part.split(" more.").next()?.parse::<usize>().ok()).sum();
        assert!(in_full > 0 && in_short > 0, "{in_full} {in_short}");
        assert_eq!(in_full + in_short + counted, 300);
        assert!(message.text.contains("... (cut)"), "a line that was cut says so");
        let data: Value = serde_json::from_str(&message.data).unwrap();
        assert_eq!(data["omitted"], 300 - data["transitions"].as_array().unwrap().len());
        let chat: Value = serde_json::from_str(&message.chat).unwrap();
        let description = chat.pointer("/content/description").unwrap().as_str().unwrap();
        assert!(description.contains(&format!("And {} more", 300 - in_full.min(5))), "{description}");
        assert!(description.len() < 30_000, "{}", description.len());
    }

    #[test]
    fn durations_as_people_say_them() {
        let table = [
            (0, "less than a second"),
            (1, "1 second"),
            (61, "1 minute 1 second"),
            (720, "12 minutes"),
            (97_200, "1 day 3 hours"),
        ];
        for (seconds, said) in table {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), said);
        }
    }
}
