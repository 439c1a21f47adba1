//! The custom notification of Amazon Q Developer in chat applications.
//! <https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html>

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::json;

use super::escape::{code, command, markdown};
use super::{Content, label, lasted, summary, time};
use crate::alerts::transition::{Kind, Transition};
use crate::checks::limited;

/// Transitions described in full. Amazon Q documents no limits; five are well within Slack's.
const MAX_IN_FULL: usize = 5;

/// Lines of evidence per transition.
const MAX_EVIDENCE: usize = 8;

/// The body, with at most the first `in_full` transitions in full.
pub(super) fn body(content: &Content<'_>, in_full: usize) -> String {
    let in_full = in_full.min(MAX_IN_FULL);
    let described = content.transitions.iter().take(in_full);
    let title = markdown(&format!("{}: {}", content.label, content.title));
    let resources: BTreeSet<&str> = described.map(|transition| transition.resource.as_str()).collect();
    let oldest = content.transitions.iter().min_by_key(|transition| transition.since);
    let partition = content.partition.to_string();
    let kinds: Vec<&str> = content.kinds.iter().map(|kind| kind.as_str()).collect();
    let (severity, kind) = (content.severity.as_str(), kinds.join(", "));
    json!({
        "version": "1.0",
        "source": "custom",
        "content": {
            "textType": "client-markdown",
            "title": title,
            "description": description(content, in_full),
            "nextSteps": next_steps(content, in_full),
            "keywords": [severity, kind, partition],
        },
        "metadata": {
            "threadId": oldest.map_or(partition.as_str(), |oldest| oldest.incident.as_str()),
            "summary": title,
            "eventType": format!("privatelink-guard {kind}"),
            "relatedResources": resources,
            "additionalContext": {"severity": severity, "kind": kind, "serviceId": partition},
        },
    })
    .to_string()
}

fn description(content: &Content<'_>, in_full: usize) -> String {
    let mut text = String::new();
    for transition in content.transitions.iter().take(in_full) {
        // The title names the only one.
        if content.transitions.len() > 1 {
            let _ = writeln!(text, "*{}: {}*", label(transition), markdown(&summary(transition)));
        }
        text.push_str(&full(transition));
    }
    let rest = content.transitions.len().saturating_sub(in_full);
    if rest > 0 {
        let _ = writeln!(text, "And {rest} more: see the email, or the log of {}.", content.function);
    }
    if let Some(caution) = &content.caution {
        let _ = writeln!(text, "{}", markdown(caution));
    }
    text.trim_end().to_owned()
}

fn full(transition: &Transition) -> String {
    let finding = &transition.finding;
    let since = time(transition.since);
    if transition.kind == Kind::Resolved {
        return format!("It lasted {}, since {since}.\n\n", lasted(transition));
    }
    let mut text = match transition.kind {
        Kind::Reminder => format!("Still so, after {}; since {since}.\n", lasted(transition)),
        _ => format!("Since {since}.\n"),
    };
    if let Some(unknown) = &transition.unknown {
        let _ = writeln!(text, "The guard cannot tell at present whether it is still so: {}", markdown(unknown));
    }
    let _ = writeln!(text, "{}", markdown(&finding.impact));
    let evidence = limited(finding.evidence.iter().map(|line| code(line)).collect(), MAX_EVIDENCE);
    let _ = writeln!(text, "```\n{}\n```", evidence.join("\n"));
    if let Some(cause) = &finding.cause {
        let _ = writeln!(text, "Changed by `{}`", code(&cause.to_string()));
    }
    text.push('\n');
    text
}

/// What to do next, each step once.
fn next_steps(content: &Content<'_>, in_full: usize) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for step in content.transitions.iter().take(in_full).filter_map(|transition| next_step(transition)) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

/// What to do about it; nothing if it is over or was never wrong.
fn next_step(transition: &Transition) -> Option<String> {
    if matches!(transition.kind, Kind::Resolved | Kind::Notice) {
        return None;
    }
    let remedy = &transition.finding.remedy;
    let exact = remedy.command.as_ref().map(|exact| format!(" `{}`", command(exact).replace('`', "'")));
    let console = remedy.console.as_ref().map(|console| format!(" <{console}|Console>"));
    Some(format!("{}{}{}", markdown(&remedy.action), exact.unwrap_or_default(), console.unwrap_or_default()))
}
