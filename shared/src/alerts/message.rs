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
use crate::checks::Severity;
use crate::ids::ServiceId;
use crate::snapshot::Unseen;

/// SNS's limit for an email subject. <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
const MOST_SUBJECT: usize = 100;

/// Transitions told in full; of the rest, the number. Ten kilobytes each at the most keep three bodies within SNS's
/// 256 KiB.
const MOST_IN_FULL: usize = 8;

/// One message, as SNS is to publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The email's subject: ASCII, at most 100 characters.
    pub subject: String,
    /// For email, and for every protocol without a body of its own.
    pub text: String,
    /// For Amazon Q Developer in chat applications (Slack): its custom notification, as JSON.
    pub chat: String,
    severity: Severity,
    kind: Kind,
    service: ServiceId,
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
        let of = match name {
            Some(name) => format!("{service} ({})", plain(name)),
            None => service.to_string(),
        };
        let transitions: Vec<&Transition> = items.iter().copied().flatten().collect();
        let severity = worst(transitions.iter().copied());
        let kind = transitions.iter().map(|transition| transition.kind).min().unwrap_or(Kind::Notice);
        let headline = items.first().and_then(|item| item.last());
        let headline = headline.map(|first| {
            let others = match items.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            (label(first), format!("{of}: {}{others}", plain(&first.finding.summary)))
        });
        let (label, title) = headline.unwrap_or(("NOTICE", of.clone()));
        let caution = trouble.map(|trouble| {
            format!(
                "The guard's memory, its DynamoDB table, failed ({}): this may be told again, and what is over may go \
                 unsaid.",
                plain(&trouble.to_string())
            )
        });
        Self {
            subject: subject(&format!("[{label}] {title}")),
            text: text(&of, function, &transitions, caution.as_deref()),
            chat: chat(service, &format!("{label}: {title}"), kind, severity, &transitions, caution.as_deref()),
            severity,
            kind,
            service: service.clone(),
        }
    }

    /// The `Message` of an SNS publish with `MessageStructure=json`: a body per protocol.
    #[must_use]
    pub fn bodies(&self) -> String {
        json!({"default": self.text, "email": self.text, "https": self.chat}).to_string()
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

/// One line without control characters.
fn plain(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
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

fn text(of: &str, function: &str, transitions: &[&Transition], caution: Option<&str>) -> String {
    let mut text = String::new();
    for transition in transitions.iter().take(MOST_IN_FULL) {
        let told = match transition.kind {
            Kind::Resolved => text_resolved(transition),
            _ => text_in_full(transition),
        };
        text.push_str(&told);
        text.push_str("\n----\n\n");
    }
    if let Some(more) = transitions.len().checked_sub(MOST_IN_FULL).filter(|more| *more > 0) {
        let _ = writeln!(text, "And {more} more; the log of {function} has them all.\n\n----\n");
    }
    if let Some(caution) = caution {
        let _ = writeln!(text, "{caution}\n");
    }
    let _ = writeln!(text, "Endpoint service: {of}\nTold by privatelink-guard, function {function}.");
    text
}

fn text_in_full(transition: &Transition) -> String {
    let finding = &transition.finding;
    let mut text = format!("[{}] {}\n", label(transition), plain(&finding.summary));
    let _ = match transition.kind {
        Kind::Reminder => writeln!(text, "Still so, after {}; since {}.", lasted(transition), time(transition.since)),
        _ => writeln!(text, "Since {}.", time(transition.since)),
    };
    if let Some(unknown) = &transition.unknown {
        let _ = writeln!(text, "The guard cannot tell at present whether it is still so: {}", plain(unknown));
    }
    let _ = writeln!(text, "\nFor dbt: {}\n\nSeen:", plain(&finding.meaning));
    for line in &finding.evidence {
        let _ = writeln!(text, "- {}", plain(line));
    }
    if let Some(cause) = &finding.cause {
        let _ = writeln!(text, "\nChanged by: {}", plain(&cause.to_string()));
    }
    let _ = writeln!(text, "\nTo do: {}", plain(&finding.remedy.what));
    if let Some(command) = &finding.remedy.command {
        let _ = writeln!(text, "\n  {}", plain(command));
    }
    if let Some(console) = &finding.remedy.console {
        let _ = writeln!(text, "\nConsole: {}", plain(console));
    }
    let _ = match transition.kind {
        Kind::Notice => Ok(()),
        _ => writeln!(text, "\nCheck: {} on {}", transition.check, plain(&transition.resource)),
    };
    text
}

fn text_resolved(transition: &Transition) -> String {
    format!(
        "[RESOLVED] {}\nThis is over. It lasted {}, from {} to {}.\n\nCheck: {} on {}\n",
        plain(&transition.finding.summary),
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

/// The custom notification of Amazon Q Developer in chat applications.
/// <https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>
fn chat(
    service: &ServiceId,
    title: &str,
    kind: Kind,
    severity: Severity,
    transitions: &[&Transition],
    caution: Option<&str>,
) -> String {
    let mut description = String::new();
    let mut next_steps: Vec<String> = Vec::new();
    for transition in transitions.iter().take(MOST_IN_FULL) {
        let finding = &transition.finding;
        let _ = writeln!(description, "*{}: {}*", label(transition), markdown(&finding.summary));
        if transition.kind == Kind::Resolved {
            let _ = writeln!(description, "This is over. It lasted {}.\n", lasted(transition));
            continue;
        }
        if transition.kind == Kind::Reminder {
            let _ = writeln!(description, "Still so, after {}.", lasted(transition));
        }
        if let Some(unknown) = &transition.unknown {
            let _ =
                writeln!(description, "The guard cannot tell at present whether it is still so: {}", markdown(unknown));
        }
        let _ = writeln!(description, "{}", markdown(&finding.meaning));
        let evidence: Vec<String> = finding.evidence.iter().map(|line| code(line)).collect();
        let _ = writeln!(description, "```\n{}\n```", evidence.join("\n"));
        if let Some(cause) = &finding.cause {
            let _ = writeln!(description, "Changed by `{}`", code(&cause.to_string()));
        }
        description.push('\n');
        let mut step = markdown(&finding.remedy.what);
        if let Some(command) = &finding.remedy.command {
            let _ = write!(step, " `{}`", code(command));
        }
        if let Some(console) = &finding.remedy.console {
            let _ = write!(step, " <{console}|Console>");
        }
        if transition.kind != Kind::Notice && !next_steps.contains(&step) {
            next_steps.push(step);
        }
    }
    if let Some(more) = transitions.len().checked_sub(MOST_IN_FULL).filter(|more| *more > 0) {
        let _ = writeln!(description, "And {more} more; the email and the function's log have them.");
    }
    if let Some(caution) = caution {
        let _ = writeln!(description, "{}", markdown(caution));
    }
    let resources: BTreeSet<&str> = transitions.iter().map(|transition| transition.resource.as_str()).collect();
    let oldest = transitions.iter().min_by_key(|transition| transition.since);
    json!({
        "version": "1.0",
        "source": "custom",
        "content": {
            "textType": "client-markdown",
            "title": markdown(title),
            "description": description.trim_end(),
            "nextSteps": next_steps,
            "keywords": [severity.word(), kind.word(), service.as_str()],
        },
        "metadata": {
            "threadId": oldest.map_or(service.as_str(), |oldest| oldest.thread.as_str()),
            "summary": markdown(title),
            "eventType": format!("privatelink-guard {}", kind.word()),
            "relatedResources": resources,
            "additionalContext": {"severity": severity.word(), "kind": kind.word(), "serviceId": service.as_str()},
        },
    })
    .to_string()
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

        Changed by: ModifyLoadBalancerAttributes by arn:aws:iam::111122223333:user/network-admin from 203.0.113.7 at 2026-03-14T08:00:00Z

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
        assert!(
            message.subject.ends_with("target group pg (and 2 more)") || message.subject.ends_with("..."),
            "{}",
            message.subject
        );
        assert!(message.text.contains(
            "This is over. It lasted 1 hour 12 minutes, from 2026-03-14 08:00:00 UTC to 2026-03-14 09:12:00 UTC."
        ));
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
        assert!(["default", "email", "https"].iter().all(|protocol| bodies[protocol].is_string()));
    }

    #[test]
    fn what_is_left_out_is_counted_and_all_fits() {
        let many: Vec<Transition> = vec![transition(Kind::Firing, Severity::Critical); 50];
        let message = message(&[&many]);
        assert!(message.text.contains("And 42 more"), "{}", message.text);
        assert!(message.bodies().len() < 256 * 1024);
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
