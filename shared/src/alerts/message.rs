//! Transitions → one message, with a body for each kind of reader. Pure.
//!
//! What AWS calls things is not ours to trust: names and reasons lose their control characters everywhere, and what could
//! be taken for markup in the body that is rendered as Markdown.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Transition;
use super::lifecycle::Kind;
use crate::checks::{Severity, some_of};
use crate::ids::ServiceId;
use crate::snapshot::Unseen;

/// SNS's limit for an email subject. <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
const MOST_SUBJECT: usize = 100;

/// SNS's limit for all bodies of a message together is 256 KiB; the rest is for its own wrapping.
const MOST_BYTES: usize = 240 * 1024;

/// Transitions told in full, if they fit; of the others, a line each.
const MOST_IN_FULL: usize = 20;

/// Transitions that get at least a line; beyond, they are counted.
const MOST_LISTED: usize = 100;

/// The same for a chat message, which nobody scrolls through. Amazon Q documents no limits; these are well within Slack's.
const MOST_IN_CHAT: usize = 5;

/// Characters in a row of an email's prose.
const MOST_IN_A_ROW: usize = 78;

/// Lines of evidence in a chat message.
const MOST_EVIDENCE_IN_CHAT: usize = 8;

/// Characters of any one line that comes from AWS.
const MOST_IN_A_LINE: usize = 400;

/// One message, as SNS is to publish it.
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
    kind: Kind,
    service: ServiceId,
}

/// What all bodies are made from.
struct Content<'a> {
    service: &'a ServiceId,
    name: Option<&'a str>,
    function: &'a str,
    label: &'static str,
    title: String,
    severity: Severity,
    kind: Kind,
    transitions: Vec<&'a Transition>,
    caution: Option<String>,
}

impl Message {
    /// Renders what happened to the items of one endpoint service: `told` has, for each item, its transitions in order.
    #[must_use]
    pub fn of(
        service: &ServiceId,
        name: Option<&str>,
        function: &str,
        told: &[&[Transition]],
        trouble: Option<&Unseen>,
    ) -> Self {
        let mut items: Vec<&[Transition]> = told.iter().copied().filter(|item| !item.is_empty()).collect();
        // Worst first; what is over comes after what is not.
        items.sort_by_key(|item| (item.last().map(|last| last.kind), Reverse(worst(*item))));
        let transitions: Vec<&Transition> = items.iter().copied().flatten().collect();
        let others = match items.len() {
            0 | 1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        let of = of(service, name);
        let content = Content {
            service,
            name,
            function,
            label: items.first().map_or("NOTICE", |item| item_label(item)),
            title: items.first().map_or(of.clone(), |item| format!("{of}: {}{others}", item_summary(item))),
            severity: worst(transitions.iter().copied()),
            kind: transitions.iter().map(|transition| transition.kind).min().unwrap_or(Kind::Notice),
            transitions,
            caution: trouble.map(|trouble| {
                format!(
                    "The guard's memory, its DynamoDB table, failed ({}): this may be told again, and what is over may \
                     go unsaid.",
                    plain(&trouble.to_string())
                )
            }),
        };
        let mut in_full = MOST_IN_FULL;
        loop {
            let message = content.render(in_full);
            if in_full == 0 || message.bodies().len() <= MOST_BYTES {
                return message;
            }
            in_full /= 2;
        }
    }

    /// The `Message` of an SNS publish with `MessageStructure=json`: a body per protocol. Email gets the default.
    #[must_use]
    pub fn bodies(&self) -> String {
        json!({"default": self.text, "https": self.chat, "sqs": self.data, "lambda": self.data}).to_string()
    }

    /// The message attributes that subscription filter policies can match.
    #[must_use]
    pub fn attributes(&self) -> [(&'static str, String); 3] {
        [
            ("severity", self.severity.word().to_owned()),
            ("kind", self.kind.word().to_owned()),
            ("serviceId", self.service.to_string()),
        ]
    }
}

impl Content<'_> {
    fn render(&self, in_full: usize) -> Message {
        Message {
            subject: subject(&format!("[{}] {}", self.label, self.title)),
            text: self.text(in_full),
            chat: self.chat(in_full.min(MOST_IN_CHAT)),
            data: self.data(in_full),
            severity: self.severity,
            kind: self.kind,
            service: self.service.clone(),
        }
    }

    /// A line for each transition that is not told in full, and the number of those without even that.
    fn listed(&self, in_full: usize) -> (impl Iterator<Item = String>, usize) {
        let rest = self.transitions.get(in_full..).unwrap_or_default();
        let lines = rest.iter().take(MOST_LISTED);
        let lines = lines.map(|transition| format!("[{}] {}", label(transition), summary(transition)));
        (lines, rest.len().saturating_sub(MOST_LISTED))
    }

    fn text(&self, in_full: usize) -> String {
        let mut text = String::new();
        for transition in self.transitions.iter().take(in_full) {
            text.push_str(&match transition.kind {
                Kind::Resolved => text_resolved(transition),
                _ => text_in_full(transition),
            });
            text.push_str("\n----\n\n");
        }
        let (lines, more) = self.listed(in_full);
        let lines: Vec<String> = lines.collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "And in short:\n\n{}\n", lines.join("\n"));
            if more > 0 {
                let _ = writeln!(text, "And {more} more.");
            }
            let _ = writeln!(text, "The log of {} has all of them in full.\n\n----\n", self.function);
        }
        if let Some(caution) = &self.caution {
            let _ = writeln!(text, "{caution}\n");
        }
        let of = of(self.service, self.name);
        let _ = writeln!(text, "Endpoint service: {of}\nTold by privatelink-guard, function {}.", self.function);
        text
    }

    /// The custom notification of Amazon Q Developer in chat applications.
    /// <https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>
    fn chat(&self, in_full: usize) -> String {
        let mut description = String::new();
        let mut next_steps: Vec<String> = Vec::new();
        for transition in self.transitions.iter().take(in_full) {
            // The title has said it, if there is nothing else.
            if self.transitions.len() > 1 {
                let _ = writeln!(description, "*{}: {}*", label(transition), markdown(&summary(transition)));
            }
            description.push_str(&chat_in_full(transition));
            let step = chat_step(transition);
            next_steps.extend(step.filter(|step| !next_steps.contains(step)));
        }
        let rest = self.transitions.len().saturating_sub(in_full);
        if rest > 0 {
            let _ = writeln!(description, "And {rest} more: see the email, or the log of {}.", self.function);
        }
        if let Some(caution) = &self.caution {
            let _ = writeln!(description, "{}", markdown(caution));
        }
        let title = markdown(&format!("{}: {}", self.label, self.title));
        let resources: BTreeSet<&str> =
            self.transitions.iter().take(in_full).map(|transition| transition.resource.as_str()).collect();
        let oldest = self.transitions.iter().min_by_key(|transition| transition.since);
        let (severity, kind, service) = (self.severity.word(), self.kind.word(), self.service.as_str());
        json!({
            "version": "1.0",
            "source": "custom",
            "content": {
                "textType": "client-markdown",
                "title": title,
                "description": description.trim_end(),
                "nextSteps": next_steps,
                "keywords": [severity, kind, service],
            },
            "metadata": {
                "threadId": oldest.map_or(service, |oldest| oldest.thread.as_str()),
                "summary": title,
                "eventType": format!("privatelink-guard {kind}"),
                "relatedResources": resources,
                "additionalContext": {"severity": severity, "kind": kind, "serviceId": service},
            },
        })
        .to_string()
    }

    fn data(&self, in_full: usize) -> String {
        let told: Vec<&&Transition> = self.transitions.iter().take(in_full).collect();
        json!({
            "schemaVersion": "1.0",
            "serviceId": self.service.as_str(),
            "serviceName": self.name,
            "function": self.function,
            "severity": self.severity.word(),
            "kind": self.kind.word(),
            "transitions": told,
            "omitted": self.transitions.len() - told.len(),
            "caution": self.caution,
        })
        .to_string()
    }
}

fn of(service: &ServiceId, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{service} ({})", plain(name)),
        None => service.to_string(),
    }
}

fn worst<'a>(transitions: impl IntoIterator<Item = &'a Transition>) -> Severity {
    transitions.into_iter().map(|transition| transition.finding.severity).max().unwrap_or(Severity::Info)
}

/// What stands in front, in words: colour is never the only sign.
fn label(transition: &Transition) -> &'static str {
    match (transition.kind, transition.finding.severity) {
        (Kind::Resolved, _) => "RESOLVED",
        (Kind::Notice, _) => "NOTICE",
        (_, Severity::Critical) => "CRITICAL",
        (_, Severity::Warning) => "WARNING",
        (_, Severity::Info) => "INFO",
    }
}

/// The label of what happened to one item. What began and ended since the last message is told as what it was.
fn item_label(item: &[Transition]) -> &'static str {
    let began = item.iter().find(|transition| transition.kind == Kind::Firing);
    began.or(item.last()).map_or("NOTICE", label)
}

fn item_summary(item: &[Transition]) -> String {
    let Some(last) = item.last() else { return String::new() };
    let began = item.iter().any(|transition| transition.kind == Kind::Firing);
    match last.kind {
        Kind::Resolved if began => format!("{} (over already)", plain(&last.finding.summary)),
        _ => summary(last),
    }
}

/// What it is about; of what is over, that it is over.
fn summary(transition: &Transition) -> String {
    let summary = plain(&transition.finding.summary);
    if transition.kind == Kind::Resolved { format!("over: {summary}") } else { summary }
}

/// Prose in lines that fit a terminal and a phone.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in plain(text).split(' ') {
        let characters = word.chars().count();
        if length > 0 && length + 1 + characters > MOST_IN_A_ROW {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += characters;
    }
    lines
}

/// One line without control characters, not too long; where it was cut, it says so.
fn plain(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST_IN_A_LINE) {
        Some((end, _)) => format!("{}... (cut)", &line[..end]),
        None => line,
    }
}

/// A command, which is of no use when it is cut.
fn command(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// ASCII, and short enough; dots say where it was cut.
fn subject(title: &str) -> String {
    let ascii: String = title.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    if ascii.len() <= MOST_SUBJECT { ascii } else { format!("{}...", &ascii[..MOST_SUBJECT - 3]) }
}

fn lasted(transition: &Transition) -> String {
    duration(transition.at.duration_since(transition.since))
}

/// `3 days 4 hours`, `12 minutes`, `40 seconds`: the two largest units that say something.
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

fn text_in_full(transition: &Transition) -> String {
    let finding = &transition.finding;
    let mut text = format!("{}\n", wrapped(&format!("[{}] {}", label(transition), finding.summary)));
    let _ = match transition.kind {
        Kind::Reminder => writeln!(text, "Still so, after {}; since {}.", lasted(transition), time(transition.since)),
        _ => writeln!(text, "Since {}.", time(transition.since)),
    };
    if let Some(unknown) = &transition.unknown {
        let _ = writeln!(text, "The guard cannot tell at present whether it is still so: {}", plain(unknown));
    }
    if transition.skipped > 0 {
        let _ = writeln!(text, "Before this, {} of its changes could not be told.", transition.skipped);
    }
    let _ = writeln!(text, "\n{}\n\nSeen:", wrapped(&format!("For dbt: {}", finding.meaning)));
    for line in &finding.evidence {
        let _ = writeln!(text, "- {}", plain(line));
    }
    if let Some(cause) = &finding.cause {
        let _ = writeln!(text, "\n{}", wrapped(&format!("Changed by: {cause}")));
    }
    let _ = writeln!(text, "\n{}", wrapped(&format!("To do: {}", finding.remedy.what)));
    if let Some(exact) = &finding.remedy.command {
        // One option a line; the shell takes them together again.
        let _ = writeln!(text, "\n  {}", command(exact).replace(" --", " \\\n    --").replace(" && ", " &&\n  "));
    }
    if let Some(console) = &finding.remedy.console {
        let _ = writeln!(text, "\nConsole: {}", command(console));
    }
    let _ = match transition.kind {
        Kind::Notice => Ok(()),
        _ => writeln!(text, "\nCheck: {} on {}", transition.check, plain(&transition.resource)),
    };
    text
}

fn text_resolved(transition: &Transition) -> String {
    format!(
        "{}\nIt lasted {}, from {} to {}.\n\nCheck: {} on {}\n",
        wrapped(&format!("[RESOLVED] {}", summary(transition))),
        lasted(transition),
        time(transition.since),
        time(transition.at),
        transition.check,
        plain(&transition.resource)
    )
}

/// Slack has no escape for its markup, so a character that could open one is followed by a zero-width space: it looks
/// the same and forms nothing.
fn markdown(text: &str) -> String {
    let mut safe = String::new();
    for c in plain(text).chars() {
        safe.push(c);
        if matches!(c, '*' | '_' | '~' | '`' | '[' | ']' | '<' | '>' | '!' | '#' | '@') {
            safe.push('\u{200b}');
        }
    }
    safe
}

/// Text that is shown as it is, between back-ticks.
fn code(text: &str) -> String {
    plain(text).replace('`', "'")
}

fn chat_in_full(transition: &Transition) -> String {
    let finding = &transition.finding;
    let mut text = String::new();
    let since = time(transition.since);
    if transition.kind == Kind::Resolved {
        let _ = writeln!(text, "It lasted {}, since {since}.\n", lasted(transition));
        return text;
    }
    let _ = match transition.kind {
        Kind::Reminder => writeln!(text, "Still so, after {}; since {since}.", lasted(transition)),
        _ => writeln!(text, "Since {since}."),
    };
    if let Some(unknown) = &transition.unknown {
        let _ = writeln!(text, "The guard cannot tell at present whether it is still so: {}", markdown(unknown));
    }
    let _ = writeln!(text, "{}", markdown(&finding.meaning));
    let evidence = some_of(finding.evidence.iter().map(|line| code(line)).collect(), MOST_EVIDENCE_IN_CHAT);
    let _ = writeln!(text, "```\n{}\n```", evidence.join("\n"));
    if let Some(cause) = &finding.cause {
        let _ = writeln!(text, "Changed by `{}`", code(&cause.to_string()));
    }
    text.push('\n');
    text
}

/// What to do next; nothing when it is over, or was never wrong.
fn chat_step(transition: &Transition) -> Option<String> {
    if matches!(transition.kind, Kind::Resolved | Kind::Notice) {
        return None;
    }
    let remedy = &transition.finding.remedy;
    let exact = remedy.command.as_ref().map(|exact| format!(" `{}`", command(exact).replace('`', "'")));
    let console = remedy.console.as_ref().map(|console| format!(" <{console}|Console>"));
    Some(format!("{}{}{}", markdown(&remedy.what), exact.unwrap_or_default(), console.unwrap_or_default()))
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
            thread: "vpce-svc-00000000000000001-1773475200".to_owned(),
            finding: finding(severity),
            unknown: None,
            skipped: 0,
        }
    }

    fn message(told: &[&[Transition]]) -> Message {
        Message::of(&service(1), Some("postgres"), "health-watcher", told, None)
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
        Told by privatelink-guard, function health-watcher.
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
        let attributes: Vec<String> =
            message.attributes().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(attributes, ["severity=critical", "kind=firing", "serviceId=vpce-svc-00000000000000001"]);
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
        let message = Message::of(
            &service(1),
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
