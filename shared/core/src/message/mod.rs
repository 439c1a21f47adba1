//! Renders transitions as one message per endpoint service and run, with a body for each kind of reader. Pure.
//!
//! Plain text serves email and every protocol without its own body; Amazon Q's custom notification serves `https`, for
//! Slack and Microsoft Teams; `sms` gets one line; JSON serves `sqs` and `lambda`. A message always marks what it
//! omits: transitions that do not fit get a line each, and the rest is counted.

mod chat;
mod escape;
mod json;
pub mod origin;
mod text;

pub use self::json::AlertMessage;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use jiff::Timestamp;

use self::escape::{ascii, strip_and_cut};
use self::origin::Origin;
use crate::alerts::record::Partition;
use crate::alerts::transition::{Kind, Transition};
use crate::catalogue;
use crate::check::Severity;
use crate::snapshot::CallError;
use crate::text::{duration, short_duration};

/// Maximum size of all bodies together. SNS allows 256 KiB, and the rest is for its own wrapping.
const MAX_BYTES: usize = 240 * 1024;

/// Maximum number of transitions described in full. The others get a line each.
const MAX_IN_FULL: usize = 20;

/// Maximum number of transitions with a line; the rest is counted.
const MAX_LISTED: usize = 100;

/// Maximum length of an email subject. <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
const MAX_SUBJECT: usize = 100;

/// Maximum length of the service's name in a subject. A longer failure shortens the name, but not below [`MIN_NAME`].
const MAX_NAME: usize = 30;
const MIN_NAME: usize = 12;

/// Maximum length of one text message. <https://docs.aws.amazon.com/sns/latest/dg/sms_sending-overview.html>
const MAX_SMS: usize = 140;

/// One message, as SNS publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The email's subject: ASCII, at most 100 characters.
    pub subject: String,
    /// For email, and for every protocol without its own body.
    pub text: String,
    /// For Amazon Q Developer in chat applications (Slack, Teams): its custom notification, as JSON.
    pub chat: String,
    /// For phones: ASCII, at most 140 characters.
    pub sms: String,
    /// For programs (SQS, Lambda): JSON as in `docs/alert.schema.json`.
    pub data: String,
    severity: Severity,
    kinds: BTreeSet<Kind>,
    partition: Partition,
}

/// A remark in a message beside its transitions.
#[derive(Debug, Clone, Copy)]
pub enum Banner<'a> {
    TableFailed(&'a CallError),
    /// Somebody asked for a test message.
    Test,
}

/// The subject and the sender of a message.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    pub partition: &'a Partition,
    pub name: Option<&'a str>,
    pub origin: &'a Origin,
    pub function: &'a str,
    pub banner: Option<Banner<'a>>,
}

struct Content<'a> {
    envelope: Envelope<'a>,
    label: Label,
    failure: String,
    /// The failure without its duration, for a subject that is too short for both.
    short_failure: String,
    severity: Severity,
    kinds: BTreeSet<Kind>,
    transitions: Vec<&'a Transition>,
    banner: Option<String>,
}

impl Message {
    /// Renders the transitions of one partition's records: `outboxes` contains each record's transitions in order.
    pub fn new(envelope: Envelope<'_>, outboxes: &[&[Transition]]) -> Self {
        let content = Content::new(envelope, outboxes);
        let mut in_full = MAX_IN_FULL;
        loop {
            let message = content.render(in_full);
            if in_full == 0 || message.bodies().len() <= MAX_BYTES {
                return message;
            }
            in_full /= 2;
        }
    }

    /// The `Message` of an SNS publish with `MessageStructure=json`: one body per protocol. Email gets the default.
    pub fn bodies(&self) -> String {
        serde_json::json!({
            "default": self.text, "https": self.chat, "sms": self.sms, "sqs": self.data, "lambda": self.data,
        })
        .to_string()
    }

    /// The message attributes that subscription filter policies can match.
    /// <https://docs.aws.amazon.com/sns/latest/dg/string-value-matching.html>
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
    Text(String),
    /// A list of strings: a filter policy matches if any of them matches.
    List(Vec<&'static str>),
}

impl<'a> Content<'a> {
    fn new(envelope: Envelope<'a>, outboxes: &[&'a [Transition]]) -> Self {
        let mut outboxes: Vec<&[Transition]> = outboxes.iter().copied().filter(|outbox| !outbox.is_empty()).collect();
        // Worst first; resolved alerts come after firing ones.
        outboxes.sort_by_key(|outbox| (outbox.last().map(urgency_rank), Reverse(worst(*outbox))));
        let transitions: Vec<&Transition> = outboxes.iter().copied().flatten().collect();
        let others = match outboxes.len() {
            0 | 1 => String::new(),
            all => format!(" (+{} more)", all - 1),
        };
        Self {
            envelope,
            label: outboxes.first().map_or(Label::notice(), |outbox| outbox_label(outbox)),
            failure: outboxes.first().map_or(String::new(), |outbox| outbox_summary(outbox, summary)) + &others,
            short_failure: outboxes.first().map_or(String::new(), |outbox| outbox_summary(outbox, short_summary))
                + &others,
            severity: urgency(&transitions),
            kinds: transitions.iter().map(|transition| transition.kind).collect(),
            transitions,
            banner: envelope.banner.map(banner),
        }
    }

    fn render(&self, in_full: usize) -> Message {
        let subject = self.subject();
        Message {
            text: text::body(self, in_full),
            chat: chat::body(self, in_full),
            sms: sms(&subject, self.envelope.origin),
            data: json::body(self, in_full),
            subject,
            severity: self.severity,
            kinds: self.kinds.clone(),
            partition: self.envelope.partition.clone(),
        }
    }

    /// `[CRITICAL] postgres: security group blocks dbt on port 5432`. A long failure shortens the name, and a long fact
    /// that holds now replaces the duration.
    fn subject(&self) -> String {
        let full = self.subject_of(&self.failure);
        let fits = full.chars().count() <= MAX_SUBJECT;
        ascii(&if fits { full } else { self.subject_of(&self.short_failure) }, MAX_SUBJECT)
    }

    fn subject_of(&self, failure: &str) -> String {
        let failure = strip_and_cut(failure);
        let rest = MAX_SUBJECT.saturating_sub(self.label.words.len() + "[] : ".len() + failure.chars().count());
        let name = ascii(&self.name(), rest.clamp(MIN_NAME, MAX_NAME));
        format!("[{}] {name}: {failure}", self.label)
    }

    /// The service's name; its id, if it has none.
    fn name(&self) -> String {
        let name = self.envelope.name.map(strip_and_cut).filter(|name| !name.is_empty());
        match self.envelope.partition {
            Partition::Service(service) => name.unwrap_or_else(|| service.to_string()),
            Partition::Guard => "privatelink-guard".to_owned(),
        }
    }

    /// `postgres (vpce-svc-…)`: the service's name and id.
    fn service(&self) -> String {
        match (self.envelope.partition, self.name()) {
            (Partition::Service(service), name) if name != service.as_str() => format!("{name} ({service})"),
            (_, name) => name,
        }
    }
}

fn banner(banner: Banner<'_>) -> String {
    match banner {
        Banner::TableFailed(error) => format!(
            "The guard cannot use its state table ({}). You may get this message again, and resolved messages may be missing.",
            strip_and_cut(&error.to_string())
        ),
        Banner::Test => "This is a test message. Nothing is wrong.".to_owned(),
    }
}

/// The subject, with its account and Region.
fn sms(subject: &str, origin: &Origin) -> String {
    let account = origin.account.as_ref().map(|account| format!("{account}, ")).unwrap_or_default();
    let place = format!(" ({account}{})", origin.region.name());
    ascii(subject, MAX_SMS.saturating_sub(place.len())) + &place
}

/// The worst severity of firing alerts and reminders; if there are none, of all transitions.
fn urgency(transitions: &[&Transition]) -> Severity {
    let urgent = |transition: &&&Transition| matches!(transition.kind, Kind::Firing | Kind::Reminder);
    let urgent: Vec<&Transition> = transitions.iter().filter(urgent).copied().collect();
    worst(if urgent.is_empty() { transitions.to_vec() } else { urgent })
}

/// The reading order: failures, resolved alerts, notices, and last resolved alerts of severity info.
fn urgency_rank(transition: &Transition) -> (bool, Kind) {
    let harmless = transition.kind == Kind::Resolved && transition.finding.severity == Severity::Info;
    (harmless, transition.kind)
}

fn worst<'a>(transitions: impl IntoIterator<Item = &'a Transition>) -> Severity {
    transitions.into_iter().map(|transition| transition.finding.severity).max().unwrap_or(Severity::Info)
}

/// The label in front: words, because colour must not be the only sign, and a symbol, which chat shows before them.
struct Label {
    /// A coloured picture by itself: without an invisible character that asks for one, as `⚠` needs it.
    /// <https://www.unicode.org/Public/UCD/latest/ucd/emoji/emoji-data.txt>
    symbol: char,
    words: String,
}

impl Label {
    fn new(transition: &Transition) -> Self {
        let severity = transition.finding.severity;
        let (circle, word) = (circle(severity), severity.as_str().to_uppercase());
        match transition.kind {
            Kind::Resolved => Self { symbol: '✅', words: "RESOLVED".to_owned() },
            Kind::Notice if transition.no_longer.is_none() => Self::notice(),
            Kind::Firing | Kind::Notice => Self { symbol: circle, words: word },
            Kind::Reminder => Self { symbol: circle, words: format!("STILL {word}, day {}", day(transition)) },
        }
    }

    fn notice() -> Self {
        Self { symbol: '⚪', words: "NOTICE".to_owned() }
    }
}

/// The words.
impl Display for Label {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

fn circle(severity: Severity) -> char {
    match severity {
        Severity::Critical => '🔴',
        Severity::Warning => '🟠',
        Severity::Info => '🔵',
    }
}

/// The first 24 hours are day 1.
fn day(transition: &Transition) -> i64 {
    transition.at.duration_since(transition.since).as_hours().max(0) / 24 + 1
}

/// The label of a record's transitions. An alert that fired and resolved since the last message keeps its firing label.
fn outbox_label(outbox: &[Transition]) -> Label {
    let fired = outbox.iter().find(|transition| transition.kind == Kind::Firing);
    fired.or(outbox.last()).map_or(Label::notice(), Label::new)
}

fn outbox_summary(outbox: &[Transition], summary: fn(&Transition) -> String) -> String {
    let Some(last) = outbox.last() else { return String::new() };
    let fired = outbox.iter().any(|transition| transition.kind == Kind::Firing);
    match last.kind {
        Kind::Resolved if fired => format!("{} (already resolved)", strip_and_cut(&last.finding.summary)),
        _ => summary(last),
    }
}

/// The failure; for a resolved alert, the fact that holds now, with the duration of the failure.
fn summary(transition: &Transition) -> String {
    match (&transition.now_true, catalogue::find(&transition.check)) {
        (Some(now_true), Some(check)) => {
            let lasted = short_duration(transition.at.duration_since(transition.since));
            format!("{} (was {} {lasted})", strip_and_cut(now_true), check.failing_word)
        }
        _ => strip_and_cut(&transition.finding.summary),
    }
}

fn short_summary(transition: &Transition) -> String {
    strip_and_cut(transition.now_true.as_ref().unwrap_or(&transition.finding.summary))
}

fn lasted(transition: &Transition) -> String {
    duration(transition.at.duration_since(transition.since))
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use jiff::SignedDuration;
    use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

    use super::*;
    use crate::check::Finding;
    use crate::testing::{at, change, examples, finding, origin, service};

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
            now_true: (kind == Kind::Resolved).then(|| "3 of 3 targets healthy in pg".to_owned()),
            no_longer: None,
            unknown: None,
            dropped: 0,
        }
    }

    fn message_of(partition: &Partition, name: Option<&str>, outboxes: &[&[Transition]]) -> Message {
        let origin = origin();
        let envelope = Envelope { partition, name, origin: &origin, function: "health-watcher", banner: None };
        Message::new(envelope, outboxes)
    }

    fn message(outboxes: &[&[Transition]]) -> Message {
        message_of(&Partition::Service(service(1)), Some("postgres"), outboxes)
    }

    fn email(message: &Message) -> String {
        format!("Subject: {}\n\n{}", message.subject, message.text)
    }

    #[test]
    fn an_alert_email_reads_like_this() {
        let mut fired = transition(Kind::Firing, Severity::Critical);
        fired.finding.cause = Some(change());
        insta::assert_snapshot!(email(&message(&[&[fired]])), @"
        Subject: [CRITICAL] postgres: 2 of 3 targets unhealthy in pg

        Endpoint service postgres (vpce-svc-00000000000000001)
        Account 111122223333, eu-central-1, stack privatelink-guard

        [CRITICAL] 2 of 3 targets unhealthy in pg
        Since 2026-03-14 08:00:00 UTC.

        Impact: dbt still gets through.

        CloudTrail reports: ModifyLoadBalancerAttributes by arn:aws:iam::111122223333:user/network-admin from 203.0.113.7 at 2026-03-14T08:00:00Z

        To do: Start them.

          aws elbv2 describe-target-health

        Console: https://eu-central-1.console.aws.amazon.com/ec2/home
        Runbook: https://wiki.example.com/checks.md#target-group.health

        Evidence:
        - healthy: 1 of 3 (1 in eu-central-1a)

        Check: target-group.health on arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef

        ----

        Sent by privatelink-guard, function health-watcher.
        ");
    }

    #[test]
    fn a_resolved_alert_states_the_fact_that_holds_now() {
        insta::assert_snapshot!(email(&message(&[&[transition(Kind::Resolved, Severity::Critical)]])), @"
        Subject: [RESOLVED] postgres: 3 of 3 targets healthy in pg (was failing 1 h)

        Endpoint service postgres (vpce-svc-00000000000000001)
        Account 111122223333, eu-central-1, stack privatelink-guard

        [RESOLVED] 3 of 3 targets healthy in pg (was failing 1 h)
        It was: 2 of 3 targets unhealthy in pg
        It lasted 1 hour 12 minutes, from 2026-03-14 08:00:00 UTC to 2026-03-14 09:12:00 UTC.

        Check: target-group.health on arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef

        ----

        Sent by privatelink-guard, function health-watcher.
        ");
    }

    #[test]
    fn a_subject_contains_the_complete_failure() {
        let with = |severity: Severity, summary: &str| {
            let finding = Finding { summary: summary.to_owned(), ..finding(severity) };
            Transition { finding, ..transition(Kind::Firing, severity) }
        };
        let subject = |name: &str, transition: Transition| {
            message_of(&Partition::Service(service(1)), Some(name), &[&[transition]]).subject
        };
        let blocked = || with(Severity::Critical, "security group blocks dbt on port 5432");
        assert_eq!(subject("postgres", blocked()), "[CRITICAL] postgres: security group blocks dbt on port 5432");
        let reminder = Transition { kind: Kind::Reminder, at: at(8, 0) + SignedDuration::from_hours(30), ..blocked() };
        let expected = "[STILL CRITICAL, day 2] postgres: security group blocks dbt on port 5432";
        assert_eq!(subject("postgres", reminder), expected);
        let resolved = Transition {
            check: "load-balancer.cross-zone".to_owned(),
            now_true: Some("cross-zone is on for pg".to_owned()),
            at: at(8, 12),
            ..transition(Kind::Resolved, Severity::Warning)
        };
        assert_eq!(
            subject("postgres", resolved.clone()),
            "[RESOLVED] postgres: cross-zone is on for pg (was off 12 min)"
        );
        let now_true = "only dbt and known accounts may request a connection".to_owned();
        let long =
            Transition { check: "service.principals".to_owned(), now_true: Some(now_true.clone()), ..resolved.clone() };
        let two =
            message_of(&Partition::Service(service(1)), Some("postgres"), &[&[long], std::slice::from_ref(&resolved)])
                .subject;
        assert_eq!(two, format!("[RESOLVED] postgres: {now_true} (+1 more)"), "what is right now is never cut");
        let long_name = "p".repeat(200);
        let cut = subject(&long_name, blocked());
        assert_eq!(cut, format!("[CRITICAL] {}...: security group blocks dbt on port 5432", "p".repeat(27)));
        let long_failure = "f".repeat(70);
        let both = subject(&long_name, with(Severity::Critical, &long_failure));
        assert!(both.ends_with(&format!("...: {long_failure}")) && both.len() <= 100, "the name gives way: {both}");
        let too_long = subject("größer", with(Severity::Critical, &"größer ".repeat(40)));
        assert!(too_long.is_ascii() && too_long.len() == 100 && too_long.ends_with("..."), "{too_long}");
        let unnamed = message_of(&Partition::Service(service(1)), None, &[&[blocked()]]).subject;
        assert_eq!(unnamed, "[CRITICAL] vpce-svc-00000000000000001: security group blocks dbt on port 5432");
        let over = with(Severity::Critical, "security group blocks dbt on port 5432");
        let over = [blocked(), Transition { kind: Kind::Resolved, ..over }];
        let over = message(&[&over]).subject;
        assert_eq!(over, "[CRITICAL] postgres: security group blocks dbt on port 5432 (already resolved)");
    }

    #[test]
    fn the_text_begins_with_the_services_name_and_id() {
        let first_line = |name| {
            let fired = transition(Kind::Firing, Severity::Critical);
            let message = message_of(&Partition::Service(service(1)), name, &[&[fired]]);
            message.text.lines().next().map(ToOwned::to_owned)
        };
        let named = "Endpoint service postgres (vpce-svc-00000000000000001)";
        assert_eq!(first_line(Some("postgres")).as_deref(), Some(named));
        assert_eq!(first_line(None).as_deref(), Some("Endpoint service vpce-svc-00000000000000001"));
    }

    #[test]
    fn a_text_message_names_its_account_and_region() {
        let short = message(&[&[transition(Kind::Firing, Severity::Critical)]]).sms;
        assert_eq!(short, "[CRITICAL] postgres: 2 of 3 targets unhealthy in pg (111122223333, eu-central-1)");
        let long = Finding { summary: "x".repeat(300), ..finding(Severity::Critical) };
        let long = Transition { finding: long, ..transition(Kind::Firing, Severity::Critical) };
        let long = message(&[&[long]]).sms;
        assert!(long.len() <= 140 && long.ends_with("(111122223333, eu-central-1)"), "{long}");
    }

    #[test]
    fn every_body_marks_a_test_message() {
        let (partition, origin) = (Partition::Service(service(1)), origin());
        let banner = Some(Banner::Test);
        let envelope =
            Envelope { partition: &partition, name: None, origin: &origin, function: "drift-watcher", banner };
        let message = Message::new(envelope, &[&[transition(Kind::Firing, Severity::Critical)]]);
        for body in [&message.text, &message.chat, &message.data] {
            assert!(body.contains("This is a test message. Nothing is wrong."), "{body}");
        }
    }

    #[test]
    fn the_worst_alert_comes_first_and_resolved_ones_last() {
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
        assert!(message.chat.contains("in pg (+2 more)"), "{}", message.chat);
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
    fn a_resolved_info_alert_comes_last() {
        let transition = |kind: Kind, severity: Severity, summary: &str| {
            let finding = Finding { summary: summary.to_owned(), ..finding(severity) };
            Transition { check: "other".to_owned(), finding, ..transition(kind, severity) }
        };
        let harmless = transition(Kind::Resolved, Severity::Info, "harmless");
        let notice = transition(Kind::Notice, Severity::Info, "happened");
        let again_right = transition(Kind::Resolved, Severity::Warning, "again right");
        let message = message(&[&[harmless], &[notice], &[again_right]]);
        let lines: Vec<&str> = message.text.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(lines, ["[RESOLVED] again right", "[NOTICE] happened", "[RESOLVED] harmless"]);
    }

    #[test]
    fn firing_alerts_decide_the_severity_before_resolved_ones() {
        let severity = |outboxes: &[&[Transition]]| message(outboxes).attributes().remove(0).1;
        let (resolved, fired) =
            ([transition(Kind::Resolved, Severity::Critical)], [transition(Kind::Firing, Severity::Warning)]);
        assert_eq!(severity(&[&resolved, &fired]), Attribute::Text("warning".to_owned()));
        assert_eq!(severity(&[&resolved]), Attribute::Text("critical".to_owned()));
    }

    #[test]
    fn a_message_on_shared_resources_names_no_service() {
        let message = message_of(&Partition::Guard, None, &[&[transition(Kind::Firing, Severity::Warning)]]);
        assert!(message.subject.starts_with("[WARNING] privatelink-guard: "), "{}", message.subject);
        assert_eq!(message.attributes().len(), 2, "no serviceId");
        let data: Value = serde_json::from_str(&message.data).unwrap();
        assert_eq!(data["serviceId"], Value::Null);
    }

    #[test]
    fn a_name_cannot_forge_a_message() {
        let fake = Finding {
            summary: "target group *[ok](http://x)*\n[RESOLVED] ✅ all is well".to_owned(),
            evidence: vec!["```\n✅ all is well".to_owned()],
            ..finding(Severity::Critical)
        };
        let fake = Transition { finding: fake, ..transition(Kind::Firing, Severity::Critical) };
        let name = "pg\r\nSubject: \u{202e}fine\u{200b} ✅✔\u{fe0f}🟢 RESOLVED :white_check_mark:";
        let message = message_of(&Partition::Service(service(1)), Some(name), &[&[fake]]);
        assert!(!message.text.lines().any(|line| line.starts_with("[RESOLVED]")), "{}", message.text);
        assert!(
            message.text.starts_with("Endpoint service pg Subject: fine ✅✔🟢 RESOLVED :white_check_mark: (vpce-svc-"),
            "{}",
            message.text
        );
        assert!(!message.subject.contains('\n'));
        let chat: Value = serde_json::from_str(&message.chat).unwrap();
        let description = chat.pointer("/content/description").unwrap().as_str().unwrap();
        assert!(!description.contains("[ok](http"), "{description}");
        assert_eq!(description.matches("```").count(), 4, "two blocks, opened and closed by us: {description}");
        let title = chat.pointer("/content/title").unwrap().as_str().unwrap();
        assert!(title.starts_with("🔴 CRITICAL: pg Subject: fine ??? RESOLVED :\u{200b}white"), "{title}");
        let symbols =
            |text: &str| text.chars().filter(|c| c.general_category() == GeneralCategory::OtherSymbol).count();
        assert_eq!((symbols(title), symbols(description)), (1, 0), "only the label's own: {title} {description}");
    }

    #[test]
    fn the_chat_body_has_the_form_of_amazon_q() {
        let message = message(&[&[transition(Kind::Firing, Severity::Critical)]]);
        let chat: Value = serde_json::from_str(&message.chat).unwrap();
        assert_eq!((chat["version"].as_str(), chat["source"].as_str()), (Some("1.0"), Some("custom")));
        assert_eq!(chat.pointer("/content/textType").unwrap(), "client-markdown");
        assert_eq!(chat.pointer("/metadata/threadId").unwrap(), "vpce-svc-00000000000000001-1773475200");
        let description = chat.pointer("/content/description").unwrap().as_str().unwrap();
        assert!(description.contains("aws elbv2 describe-target-health"), "{description}");
        let check = "Check `target-group.health`, <https://wiki.example.com/checks.md#target-group.health|runbook>";
        assert!(description.contains(check), "{description}");
        assert!(!message.chat.contains("email"), "who reads chat may get no email");
        let bodies: Value = serde_json::from_str(&message.bodies()).unwrap();
        assert!(["default", "https", "sms", "sqs", "lambda"].iter().all(|protocol| bodies[protocol].is_string()));
    }

    /// The visible text of a chat message.
    fn shown(message: &Message) -> usize {
        let chat: Value = serde_json::from_str(&message.chat).unwrap();
        ["title", "description"].map(|text| chat["content"][text].as_str().unwrap().chars().count()).iter().sum()
    }

    #[test]
    fn a_chat_message_fits_slacks_block_and_marks_its_cuts() {
        for number in [1, 2, 5, 30] {
            for length in [1, 20, 100] {
                let mut long = finding(Severity::Critical);
                long.evidence = vec!["10.0.0.1:5432 ".repeat(length); 21];
                long.remedy.command = Some(format!("aws ec2 describe-subnets {}", "subnet-1 ".repeat(length)));
                let one = Transition { finding: long, ..transition(Kind::Firing, Severity::Critical) };
                let numbered = |number: usize| Transition { resource: format!("{number}"), ..one.clone() };
                let many: Vec<Transition> = (0..number).map(numbered).collect();
                let message = message(&many.chunks(1).collect::<Vec<_>>());
                assert!(shown(&message) <= 3_000, "{number} of {length}: {}", shown(&message));
                let is_cut = number > 5 || length == 100;
                let says_so = ["has everything in full", "too long for chat", "(cut)"];
                assert!(!is_cut || says_so.iter().any(|words| message.chat.contains(words)), "{}", message.chat);
            }
        }
    }

    #[test]
    fn a_message_always_fits_and_counts_its_omissions() {
        let long =
            Finding { evidence: vec!["10.0.0.1:5432: unhealthy ".repeat(50); 21], ..finding(Severity::Critical) };
        let one = Transition { finding: long, ..transition(Kind::Firing, Severity::Critical) };
        let many: Vec<Transition> = (0..300)
            .map(|number| Transition { resource: format!("{}/{number}", one.resource), ..one.clone() })
            .collect();
        let items: Vec<&[Transition]> = many.chunks(1).collect();
        let message = message(&items);
        assert!(message.bodies().len() <= 240 * 1024, "{}", message.bodies().len());
        assert!(shown(&message) <= 3_000, "{}", shown(&message));
        let in_full = message.text.matches("Impact:").count();
        let in_short = message.text.lines().filter(|line| line.starts_with("[CRITICAL]")).count() - in_full;
        let counted: usize =
            message.text.split("And ").filter_map(|part| part.split(" more.").next()?.parse::<usize>().ok()).sum();
        assert!(in_full > 0 && in_short > 0, "{in_full} {in_short}");
        assert_eq!(in_full + in_short + counted, 300);
        assert!(message.text.contains("... (cut)"), "a line that was cut says so");
        let data: Value = serde_json::from_str(&message.data).unwrap();
        assert_eq!(data["omitted"], 300 - data["transitions"].as_array().unwrap().len());
    }

    /// Writes the examples if `UPDATE_EXAMPLES` is set (`make docs`).
    #[test]
    fn the_examples_in_docs_are_up_to_date() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
        for (name, message) in examples() {
            let data: Value = serde_json::from_str(&message.data).unwrap();
            let file = folder.join(format!("{name}.json"));
            if std::env::var_os("UPDATE_EXAMPLES").is_some() {
                std::fs::write(&file, format!("{data:#}\n")).unwrap();
            }
            // Compares values, because other crates in the build decide whether serde_json keeps the order of keys.
            let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap_or_default()).unwrap_or_default();
            assert_eq!(written, data, "{name}: run `make docs`");
        }
    }
}
