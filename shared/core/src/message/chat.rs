//! The custom notification of Amazon Q Developer in chat applications, for Slack and Microsoft Teams.
//! <https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::escape::{code, markdown, strip_and_cut};
use super::origin::Origin;
use super::text::{dropped, runbook};
use super::{Content, label, lasted, summary, time};
use crate::alerts::transition::{Kind, Transition};
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
    next_steps: Vec<String>,
    in_full: usize,
}

impl Shown {
    fn new(content: &Content<'_>, detail: Detail) -> Self {
        Self {
            title: markdown(&format!("{}: {}: {}", content.label, content.name(), content.failure)),
            description: description(content, detail),
            next_steps: next_steps(content, detail),
            in_full: detail.in_full,
        }
    }

    /// The fallback for names and texts longer than any intended one.
    fn least(content: &Content<'_>) -> Self {
        let title = markdown(&format!("{}: {}: {}", content.label, content.name(), content.failure));
        let description = format!("This is too long for chat. The log of {} has all of it.", content.envelope.function);
        Self { title: title.chars().take(MAX_TITLE).collect(), description, next_steps: Vec::new(), in_full: 0 }
    }

    fn characters(&self) -> usize {
        let texts = [&self.title, &self.description].into_iter().chain(&self.next_steps);
        texts.map(|text| text.chars().count()).sum()
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
                "nextSteps": self.next_steps,
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

fn description(content: &Content<'_>, detail: Detail) -> String {
    let mut text = format!("*{}*, {}\n", markdown(&content.service()), markdown(&content.envelope.origin.describe()));
    if let Some(banner) = &content.banner {
        let _ = writeln!(text, "{}", markdown(banner));
    }
    for transition in content.transitions.iter().take(detail.in_full) {
        // With one transition, the message's title already names it.
        if content.transitions.len() > 1 {
            let _ = writeln!(text, "*{}: {}*", label(transition), markdown(&summary(transition)));
        }
        text.push_str(&full(transition, content.envelope.origin, detail.evidence));
    }
    let rest = content.transitions.get(detail.in_full..).unwrap_or_default();
    for transition in rest.iter().take(detail.listed) {
        let _ = writeln!(text, "{}: {}", label(transition), markdown(&summary(transition)));
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

fn full(transition: &Transition, origin: &Origin, max_evidence: usize) -> String {
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
        if max_evidence > 0 && !finding.evidence.is_empty() {
            let evidence = limited(finding.evidence.iter().map(|line| code(line)).collect(), max_evidence);
            let _ = writeln!(text, "```\n{}\n```", evidence.join("\n"));
        } else if !finding.evidence.is_empty() {
            text.push_str("The function's log has the evidence.\n");
        }
    }
    if transition.kind != Kind::Notice {
        let runbook = runbook(transition, origin).map(|link| format!(", <{link}|runbook>"));
        let _ = writeln!(text, "Check `{}`{}", strip_and_cut(&transition.check), runbook.unwrap_or_default());
    }
    text.push('\n');
    text
}

fn next_steps(content: &Content<'_>, detail: Detail) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for step in content.transitions.iter().take(detail.in_full).filter_map(|step| next_step(step, detail.commands)) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

/// The next step of a transition; `None` if it needs none.
fn next_step(transition: &Transition, with_command: bool) -> Option<String> {
    let remedy = &transition.finding.remedy;
    if transition.kind == Kind::Resolved || remedy.nothing_to_do {
        return None;
    }
    // A command contains no back-tick, because its arguments are restricted.
    let command = remedy.command.as_ref().map(|commands| match with_command {
        true => format!(" `{}`", commands.replace('\n', "` `")),
        false => " (The command is too long for chat; the function's log has it.)".to_owned(),
    });
    let console = remedy.console.as_ref().map(|console| format!(" <{console}|Console>"));
    Some(format!("{}{}{}", markdown(&remedy.action), command.unwrap_or_default(), console.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::record::Partition;
    use crate::check::{Finding, Remedy, Severity};
    use crate::message::Envelope;
    use crate::testing::{at, finding, origin, service};

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
                        ```\nhealthy: 1 of 3 (1 in eu-central-1a)\n```\n\
                        Check `target-group.health`, <https://wiki.example.com/checks.md#target-group.health|runbook>";
        assert_eq!(description_of(1, 5), expected);
    }

    #[test]
    fn each_command_of_a_remedy_has_its_own_code_span() {
        let mut finding = finding(Severity::Critical);
        finding.remedy.command = Some("aws a b\naws c d".to_owned());
        let step = next_step(&transition(Kind::Firing, finding), true).unwrap();
        assert!(step.starts_with("Start them. `aws a b` `aws c d` <"), "{step}");
    }

    #[test]
    fn transitions_are_described_then_listed_then_counted() {
        let counts = |number: usize, in_full: usize| {
            let description = description_of(number, in_full);
            let titles = description.matches("*CRITICAL: 2 of 3 targets unhealthy in pg*").count();
            let described = description.matches("Check `target-group.health`").count();
            assert_eq!(titles, described);
            let listed = description.lines().filter(|line| line.starts_with("CRITICAL: ")).count();
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
        let described = |evidence: &[&str], max_evidence| {
            let evidence = evidence.iter().map(ToString::to_string).collect();
            full(
                &transition(Kind::Firing, Finding { evidence, ..finding(Severity::Critical) }),
                &origin(),
                max_evidence,
            )
        };
        let (left_out, block) = ("The function's log has the evidence.", "```\nhealthy: 1 of 3\n```");
        assert!(described(&["healthy: 1 of 3"], 3).contains(block));
        let none = described(&["healthy: 1 of 3"], 0);
        assert!(none.contains(left_out) && !none.contains("```"), "{none}");
        let nothing = described(&[], 3);
        assert!(!nothing.contains(left_out) && !nothing.contains("```"), "{nothing}");
    }

    #[test]
    fn a_transition_without_an_action_has_no_next_step() {
        let step = |kind, action: &str, command: Option<&str>| {
            let command = command.map(ToOwned::to_owned);
            let remedy = Remedy { command, ..Remedy::new(action, None, None) };
            next_step(&transition(kind, Finding { remedy, ..finding(Severity::Info) }), true)
        };
        let nothing = Finding { remedy: Remedy::nothing("Nothing.", None), ..finding(Severity::Info) };
        assert_eq!(next_step(&transition(Kind::Notice, nothing), true), None);
        assert_eq!(step(Kind::Resolved, "Start them.", Some("aws elbv2 help")), None);
        assert_eq!(step(Kind::Firing, "Start them.", None).as_deref(), Some("Start them."));
        let both = step(Kind::Firing, "Nothing is lost; look.", Some("aws elbv2 help"));
        assert_eq!(both.as_deref(), Some("Nothing is lost; look. `aws elbv2 help`"));
    }
}
