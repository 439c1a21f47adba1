//! The plain text body: email, and every protocol without a body of its own.

use std::fmt::Write;

use super::escape::{command, plain, wrapped};
use super::{Content, MAX_LISTED, label, lasted, summary, time, title};
use crate::alerts::transition::{Kind, Transition};

/// The body, with the first `in_full` transitions in full.
pub(super) fn body(content: &Content<'_>, in_full: usize) -> String {
    let mut text = String::new();
    for transition in content.transitions.iter().take(in_full) {
        text.push_str(&match transition.kind {
            Kind::Resolved => resolved(transition),
            _ => full(transition),
        });
        text.push_str("\n----\n\n");
    }
    text.push_str(&listed(content, in_full));
    if let Some(caution) = &content.caution {
        let _ = writeln!(text, "{caution}\n");
    }
    if content.partition.service().is_some() {
        let _ = writeln!(text, "Endpoint service: {}", title(content.partition, content.name));
    }
    let _ = writeln!(text, "Sent by privatelink-guard, function {}.", content.function);
    text
}

/// A line for each transition that is not described in full, and the number of those that do not even get a line.
fn listed(content: &Content<'_>, in_full: usize) -> String {
    let rest = content.transitions.get(in_full..).unwrap_or_default();
    if rest.is_empty() {
        return String::new();
    }
    let lines = rest.iter().take(MAX_LISTED);
    let lines: Vec<String> =
        lines.map(|transition| format!("[{}] {}", label(transition), summary(transition))).collect();
    let more = match rest.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!("And {more} more.\n"),
    };
    format!(
        "And in short:\n\n{}\n\n{more}The log of {} has all of them in full.\n\n----\n\n",
        lines.join("\n"),
        content.function
    )
}

fn full(transition: &Transition) -> String {
    let finding = &transition.finding;
    let mut text = format!("{}\n", wrapped(&format!("[{}] {}", label(transition), finding.summary)));
    let _ = match transition.kind {
        Kind::Reminder => writeln!(text, "Still so, after {}; since {}.", lasted(transition), time(transition.since)),
        _ => writeln!(text, "Since {}.", time(transition.since)),
    };
    if let Some(unknown) = &transition.unknown {
        let _ = writeln!(text, "The guard cannot tell at present whether it is still so: {}", plain(unknown));
    }
    if transition.dropped > 0 {
        let _ = writeln!(text, "Before this, {} of its changes could not be sent.", transition.dropped);
    }
    let _ = writeln!(text, "\n{}\n\nSeen:", wrapped(&format!("For dbt: {}", finding.impact)));
    for line in &finding.evidence {
        let _ = writeln!(text, "- {}", plain(line));
    }
    if let Some(cause) = &finding.cause {
        let _ = writeln!(text, "\n{}", wrapped(&format!("Changed by: {cause}")));
    }
    let _ = writeln!(text, "\n{}", wrapped(&format!("To do: {}", finding.remedy.action)));
    if let Some(exact) = &finding.remedy.command {
        // One option a line; the shell joins the lines again.
        let _ = writeln!(text, "\n  {}", command(exact).replace(" --", " \\\n    --").replace(" && ", " &&\n  "));
    }
    if let Some(console) = &finding.remedy.console {
        let _ = writeln!(text, "\nConsole: {}", command(console));
    }
    if transition.kind != Kind::Notice {
        let _ = writeln!(text, "\nCheck: {} on {}", transition.check, plain(&transition.resource));
    }
    text
}

fn resolved(transition: &Transition) -> String {
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
