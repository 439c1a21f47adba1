//! The custom notification of Amazon Q Developer in chat applications, for Slack and Microsoft Teams.
//! <https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>
//!
//! It has no `nextSteps`, which are a list of strings at the end: an action stands in the description, with its failure,
//! and its commands under it in blocks.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::escape::{code, markdown, strip_and_cut};
use super::origin::Origin;
use super::text::{dropped, runbook};
use super::{Content, Label, lasted, summary, time};
use crate::alerts::transition::{Kind, Transition};
use crate::check::Remedy;
use crate::text::limited;

/// Maximum number of characters of all visible text. Slack's section block holds 3,000.
/// <https://docs.slack.dev/reference/block-kit/blocks/section-block>
const MAX_CHARACTERS: usize = 3_000;

/// Length of a title that had to be cut.
const MAX_TITLE: usize = 250;

/// The levels of detail, from most to least; the first that fits is sent.
const DETAILS: [Detail; 8] = [
    Detail { in_full: 5, evidence: 8, commands: true, listed: 10 },
    Detail { in_full: 3, evidence: 6, commands: true, listed: 10 },
    Detail { in_full: 2, evidence: 5, commands: true, listed: 5 },
    Detail { in_full: 1, evidence: 8, commands: true, listed: 5 },
    Detail { in_full: 1, evidence: 3, commands: true, listed: 3 },
    Detail { in_full: 1, evidence: 3, commands: false, listed: 3 },
    Detail { in_full: 1, evidence: 0, commands: false, listed: 1 },
    Detail { in_full: 0, evidence: 0, commands: false, listed: 1 },
];

/// A level of detail of a message.
#[derive(Debug, Clone, Copy)]
struct Detail {
    in_full: usize,
    /// Lines of evidence for each.
    evidence: usize,
    commands: bool,
    /// Further transitions with a line each; the rest is counted.
    listed: usize,
}

/// The body, with at most the first `in_full` transitions in full.
pub(super) fn body(content: &Content<'_>, in_full: usize) -> String {
    let with = |detail: Detail| Detail { in_full: detail.in_full.min(in_full), ..detail };
    let mut shown = DETAILS.into_iter().map(|detail| Shown::new(content, with(detail)));
    let fits = shown.find(|shown| shown.characters() <= MAX_CHARACTERS);
    fits.unwrap_or_else(|| Shown::least(content)).notification(content).to_string()
}

struct Shown {
    title: String,
    description: String,
    in_full: usize,
}

impl Shown {
    fn new(content: &Content<'_>, detail: Detail) -> Self {
        Self { title: title(content), description: description(content, detail), in_full: detail.in_full }
    }

    /// The fallback for names and texts longer than any intended one.
    fn least(content: &Content<'_>) -> Self {
        let description = format!("This is too long for chat. The log of {} has all of it.", content.envelope.function);
        Self { title: title(content).chars().take(MAX_TITLE).collect(), description, in_full: 0 }
    }

    fn characters(&self) -> usize {
        self.title.chars().count() + self.description.chars().count()
    }

    fn notification(&self, content: &Content<'_>) -> Value {
        let described = content.transitions.iter().take(self.in_full);
        let resources: BTreeSet<&str> = described.map(|transition| transition.resource.as_str()).collect();
        let oldest = content.transitions.iter().min_by_key(|transition| transition.since);
        let partition = content.envelope.partition.to_string();
        let kinds: Vec<&str> = content.kinds.iter().map(|kind| kind.as_str()).collect();
        let (severity, kind) = (content.severity.as_str(), kinds.join(", "));
        json!({
            "version": "1.0",
            "source": "custom",
            "content": {
                "textType": "client-markdown",
                "title": self.title,
                "description": self.description,
                "keywords": [severity, kind, partition],
            },
            "metadata": {
                "threadId": oldest.map_or(partition.as_str(), |oldest| oldest.incident.as_str()),
                "summary": self.title,
                "eventType": format!("privatelink-guard {kind}"),
                "relatedResources": resources,
                "additionalContext": {"severity": severity, "kind": kind, "serviceId": partition},
            },
        })
    }
}

fn title(content: &Content<'_>) -> String {
    format!("{}: {}", labelled(&content.label), markdown(&format!("{}: {}", content.name(), content.failure)))
}

/// `🔴 CRITICAL`. The symbol is a character of Unicode, not one of Slack's codes (`:red_circle:`), because Amazon Q sends
/// the text in the markdown of each platform, and that of Teams has no such codes.
/// <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-format>
fn labelled(label: &Label) -> String {
    format!("{} {label}", label.symbol)
}

fn description(content: &Content<'_>, detail: Detail) -> String {
    let mut text = format!("*{}*, {}\n", markdown(&content.service()), markdown(&content.envelope.origin.describe()));
    if let Some(banner) = &content.banner {
        let _ = writeln!(text, "{}", markdown(banner));
    }
    for transition in content.transitions.iter().take(detail.in_full) {
        // With one transition, the message's title already names it.
        if content.transitions.len() > 1 {
            let _ = writeln!(text, "*{}*", line(transition));
        }
        text.push_str(&full(transition, content.envelope.origin, detail));
    }
    let rest = content.transitions.get(detail.in_full..).unwrap_or_default();
    for transition in rest.iter().take(detail.listed) {
        let _ = writeln!(text, "{}", line(transition));
    }
    let more = rest.len().saturating_sub(detail.listed);
    if more > 0 {
        let _ = writeln!(text, "And {more} more.");
    }
    if !rest.is_empty() {
        let _ = writeln!(text, "The log of {} has everything in full.", content.envelope.function);
    }
    text.trim_end().to_owned()
}

/// `🔴 CRITICAL: 2 of 3 targets unhealthy in pg`.
fn line(transition: &Transition) -> String {
    format!("{}: {}", labelled(&Label::new(transition)), markdown(&summary(transition)))
}

/// A transition in full. As in an email, the action stands before the evidence.
fn full(transition: &Transition, origin: &Origin, detail: Detail) -> String {
    let finding = &transition.finding;
    let since = time(transition.since);
    let mut text = match transition.kind {
        Kind::Resolved => {
            format!("It was: {}\nIt lasted {}, from {since}.\n", markdown(&finding.summary), lasted(transition))
        }
        Kind::Reminder => format!("Firing for {}, since {since}.\n", lasted(transition)),
        Kind::Notice => format!("{}.\n", time(transition.at)),
        Kind::Firing => format!("Since {since}.\n"),
    };
    text.push_str(&dropped(transition));
    if transition.kind != Kind::Resolved {
        if let Some(unknown) = &transition.unknown {
            let _ = writeln!(text, "The guard cannot check it now: {}", markdown(unknown));
        }
        let _ = writeln!(text, "{}", markdown(&finding.impact));
        if let Some(cause) = &finding.cause {
            let _ = writeln!(text, "CloudTrail reports: `{}`", code(&cause.to_string()));
        }
        text.push_str(&to_do(&finding.remedy, detail.commands));
        text.push_str(&evidence(&finding.evidence, detail.evidence));
    }
    if transition.kind != Kind::Notice {
        let runbook = runbook(transition, origin).map(|link| format!(", <{link}|runbook>"));
        let _ = writeln!(text, "Check `{}`{}", strip_and_cut(&transition.check), runbook.unwrap_or_default());
    }
    text.push('\n');
    text
}

/// The action, and each of its commands in a block of its own: one may be the alternative to another. Empty if there is
/// nothing to do.
fn to_do(remedy: &Remedy, with_commands: bool) -> String {
    if remedy.nothing_to_do {
        return String::new();
    }
    let console = remedy.console.as_ref().map(|console| format!(" <{console}|Console>"));
    let mut text = format!("*To do:* {}{}\n", markdown(&remedy.action), console.unwrap_or_default());
    match &remedy.command {
        // A command contains no back-tick, because its arguments are restricted.
        Some(commands) if with_commands => text.extend(commands.lines().map(block)),
        Some(_) => text.push_str("The command is too long for chat; the function's log has it.\n"),
        None => {}
    }
    text
}

fn evidence(lines: &[String], max: usize) -> String {
    match max {
        _ if lines.is_empty() => String::new(),
        0 => "The function's log has the evidence.\n".to_owned(),
        _ => format!("Evidence:\n{}", block(&limited(lines.iter().map(|line| code(line)).collect(), max).join("\n"))),
    }
}

/// A code block. A long line in it wraps, and is copied as one line. Cards in Teams have no code blocks: they show the
/// fences, around the same lines.
/// <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-format>
fn block(text: &str) -> String {
    format!("```\n{text}\n```\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::record::Partition;
    use crate::check::{Finding, Severity};
    use crate::message::Envelope;
    use crate::testing::{at, examples, finding, origin, service};

    fn transition(kind: Kind, finding: Finding) -> Transition {
        Transition::new(kind, ("target-group.health", "pg"), "incident", finding, at(8, 0))
    }

    fn fired() -> Transition {
        transition(Kind::Firing, finding(Severity::Critical))
    }

    /// Renders a message about these transitions.
    fn with_content<T>(transitions: &[Transition], render: impl FnOnce(&Content<'_>) -> T) -> T {
        let (partition, origin) = (Partition::Service(service(1)), origin());
        let function = "health-watcher";
        let envelope = Envelope { partition: &partition, name: None, origin: &origin, function, banner: None };
        render(&Content::new(envelope, &transitions.chunks(1).collect::<Vec<_>>()))
    }

    /// The description of a message about `number` transitions at the most detail, with at most `in_full` in full.
    fn description_of(number: usize, in_full: usize) -> String {
        with_content(&vec![fired(); number], |content| description(content, Detail { in_full, ..DETAILS[0] }))
    }

    #[test]
    fn a_chat_description_reads_like_this() {
        let expected = "*vpce-svc-00000000000000001*, account 111122223333, eu-central-1, stack privatelink-guard\n\
                        Since 2026-03-14 08:00:00 UTC.\n\
                        dbt still gets through.\n\
                        *To do:* Start them. <https://eu-central-1.console.aws.amazon.com/ec2/home|Console>\n\
                        ```\naws elbv2 describe-target-health\n```\n\
                        Evidence:\n\
                        ```\nhealthy: 1 of 3 (1 in eu-central-1a)\n```\n\
                        Check `target-group.health`, <https://wiki.example.com/checks.md#target-group.health|runbook>";
        assert_eq!(description_of(1, 5), expected);
    }

    /// The text of the code blocks.
    fn blocks(text: &str) -> Vec<&str> {
        text.split("```").skip(1).step_by(2).map(|block| block.trim_matches('\n')).collect()
    }

    #[test]
    fn the_blocks_are_exactly_the_commands_of_the_remedy() {
        for (name, message) in examples() {
            let data: Value = serde_json::from_str(&message.data).unwrap();
            let chat: Value = serde_json::from_str(&message.chat).unwrap();
            let description = chat.pointer("/content/description").unwrap().as_str().unwrap();
            // A block of evidence begins behind its title.
            let shown = description.split("Evidence:\n```\n").enumerate().map(|(index, part)| match index {
                0 => part,
                _ => part.split_once("```").unwrap().1,
            });
            let shown = shown.flat_map(blocks).collect::<Vec<_>>().join("\n");
            let firing = data["transitions"].as_array().unwrap().iter().filter(|it| it["kind"] != "resolved");
            let commands: Vec<&str> = firing.filter_map(|it| it.pointer("/remedy/command")?.as_str()).collect();
            assert_eq!(shown, commands.join("\n"), "{name}");
        }
    }

    #[test]
    fn each_command_of_a_remedy_has_its_own_block() {
        let command = Some("aws a b && aws c d\naws e 'f g' --h i".to_owned());
        let text = to_do(&Remedy { command, ..Remedy::new("Do it.", None, None) }, true);
        assert!(text.starts_with("*To do:* Do it.\n```\n"), "{text}");
        assert_eq!(blocks(&text), ["aws a b && aws c d", "aws e 'f g' --h i"]);
    }

    #[test]
    fn each_severity_and_a_resolved_alert_have_a_symbol() {
        let labelled = |kind, severity| labelled(&Label::new(&transition(kind, finding(severity))));
        assert_eq!(labelled(Kind::Firing, Severity::Critical), "🔴 CRITICAL");
        assert_eq!(labelled(Kind::Firing, Severity::Warning), "🟠 WARNING");
        assert_eq!(labelled(Kind::Firing, Severity::Info), "🔵 INFO");
        assert_eq!(labelled(Kind::Reminder, Severity::Warning), "🟠 STILL WARNING, day 1");
        assert_eq!(labelled(Kind::Resolved, Severity::Critical), "✅ RESOLVED");
        assert_eq!(labelled(Kind::Notice, Severity::Info), "⚪ NOTICE");
        let milder = Transition { no_longer: Some(Severity::Critical), ..fired() };
        let milder = Transition { kind: Kind::Notice, finding: finding(Severity::Info), ..milder };
        assert_eq!(super::labelled(&Label::new(&milder)), "🔵 INFO");
        assert_eq!(
            with_content(&[fired()], title),
            "🔴 CRITICAL: vpce-svc-00000000000000001: 2 of 3 targets unhealthy in pg"
        );
    }

    #[test]
    fn transitions_are_described_then_listed_then_counted() {
        let counts = |number: usize, in_full: usize| {
            let description = description_of(number, in_full);
            let titles = description.matches("*🔴 CRITICAL: 2 of 3 targets unhealthy in pg*").count();
            let described = description.matches("Check `target-group.health`").count();
            assert_eq!(titles, described);
            let listed = description.lines().filter(|line| line.starts_with("🔴 CRITICAL: ")).count();
            let more = description.lines().find_map(|line| line.strip_prefix("And ")).map(ToOwned::to_owned);
            assert_eq!(description.contains("The log of health-watcher has everything"), described < number);
            (described, listed, more)
        };
        assert_eq!(counts(2, 5), (2, 0, None));
        assert_eq!(counts(15, 5), (5, 10, None));
        assert_eq!(counts(16, 5), (5, 10, Some("1 more.".to_owned())));
        assert_eq!(counts(16, 0), (0, 10, Some("6 more.".to_owned())));
    }

    #[test]
    fn a_chat_body_describes_no_more_than_the_other_bodies() {
        let body = with_content(&[fired(), fired()], |content| body(content, 1));
        assert_eq!(body.matches("Check `target-group.health`").count(), 1, "{body}");
    }

    #[test]
    fn the_description_announces_omitted_evidence() {
        let described = |lines: &[&str], max| evidence(&lines.iter().map(ToString::to_string).collect::<Vec<_>>(), max);
        let (left_out, block) = ("The function's log has the evidence.", "Evidence:\n```\nhealthy: 1 of 3\n```");
        assert!(described(&["healthy: 1 of 3"], 3).contains(block));
        let none = described(&["healthy: 1 of 3"], 0);
        assert!(none.contains(left_out) && !none.contains("```"), "{none}");
        let nothing = described(&[], 3);
        assert!(!nothing.contains(left_out) && !nothing.contains("```"), "{nothing}");
    }

    #[test]
    fn a_transition_without_an_action_has_nothing_to_do() {
        assert_eq!(to_do(&Remedy::nothing("Nothing.", None), true), "");
        assert_eq!(to_do(&Remedy::new("Start them.", None, None), true), "*To do:* Start them.\n");
        let resolved = transition(Kind::Resolved, finding(Severity::Critical));
        assert!(!full(&resolved, &origin(), DETAILS[0]).contains("Start them."));
    }

    #[test]
    fn a_command_that_does_not_fit_is_in_the_log() {
        let remedy = Remedy { command: Some("aws a b".to_owned()), ..Remedy::new("Do it.", None, None) };
        assert_eq!(
            to_do(&remedy, false),
            "*To do:* Do it.\nThe command is too long for chat; the function's log has it.\n"
        );
    }
}
