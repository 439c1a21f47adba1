//! The plain text body, for email and every protocol without its own body. A paragraph is one line, which phones and
//! terminals wrap.

use std::fmt::Write;

use super::escape::strip_and_cut;
use super::origin::Origin;
use super::{Content, Label, MAX_LISTED, lasted, summary, time};
use crate::alerts::record::Partition;
use crate::alerts::transition::{Kind, Transition};
use crate::catalogue;
use crate::text::strip_invisible;

/// The body, with the first `in_full` transitions in full.
pub(super) fn body(content: &Content<'_>, in_full: usize) -> String {
    let mut text = format!("{}\n", heading(content));
    if let Some(banner) = &content.banner {
        let _ = writeln!(text, "{}\n", strip_invisible(banner));
    }
    for transition in content.transitions.iter().take(in_full) {
        text.push_str(&match transition.kind {
            Kind::Resolved => resolved(transition),
            _ => full(transition, content.envelope.origin),
        });
        text.push_str("\n----\n\n");
    }
    text.push_str(&listed(content, in_full));
    let _ = writeln!(text, "Sent by privatelink-guard, function {}.", content.envelope.function);
    text
}

/// The heading with the service and its account: one mailbox may get the alerts of several stacks.
fn heading(content: &Content<'_>) -> String {
    let about = match content.envelope.partition {
        Partition::Service(_) => format!("Endpoint service {}", content.service()),
        Partition::Guard => "The guard itself, for all its endpoint services".to_owned(),
    };
    format!("{about}\n{}\n", strip_invisible(&capitalized(&content.envelope.origin.describe())))
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

/// A line for each transition that is not described in full, and the number of transitions without a line.
fn listed(content: &Content<'_>, in_full: usize) -> String {
    let rest = content.transitions.get(in_full..).unwrap_or_default();
    if rest.is_empty() {
        return String::new();
    }
    let lines = rest.iter().take(MAX_LISTED);
    let lines: Vec<String> =
        lines.map(|transition| format!("[{}] {}", Label::new(transition), summary(transition))).collect();
    let more = match rest.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!("And {more} more.\n"),
    };
    format!(
        "The others in short:\n\n{}\n\n{more}The log of {} has all of them in full.\n\n----\n\n",
        lines.join("\n"),
        content.envelope.function
    )
}

/// A transition in full. The action stands before the evidence, because people read alerts at night, on a phone.
fn full(transition: &Transition, origin: &Origin) -> String {
    let finding = &transition.finding;
    let mut text = format!("{}\n", strip_and_cut(&format!("[{}] {}", Label::new(transition), finding.summary)));
    let _ = match transition.kind {
        Kind::Reminder => writeln!(text, "Firing for {}, since {}.", lasted(transition), time(transition.since)),
        Kind::Notice => writeln!(text, "{}.", time(transition.at)),
        _ => writeln!(text, "Since {}.", time(transition.since)),
    };
    if let Some(unknown) = &transition.unknown {
        let _ = writeln!(text, "{}", strip_and_cut(&format!("The guard cannot check it now: {unknown}")));
    }
    text.push_str(&dropped(transition));
    let _ = writeln!(text, "\n{}", strip_invisible(&format!("Impact: {}", finding.impact)));
    if let Some(cause) = &finding.cause {
        let _ = writeln!(text, "\n{}", strip_and_cut(&format!("CloudTrail reports: {cause}")));
    }
    let _ = writeln!(text, "\n{}", strip_invisible(&format!("To do: {}", finding.remedy.action)));
    for command in finding.remedy.command.iter().flat_map(|commands| commands.lines()) {
        // One option per line; the shell joins the lines again.
        let _ = writeln!(text, "\n  {}", command.replace(" --", " \\\n    --").replace(" && ", " &&\n  "));
    }
    let links = [("Console", finding.remedy.console.clone()), ("Runbook", runbook(transition, origin))];
    let links = links.iter().filter_map(|(name, link)| Some(format!("{name}: {}\n", link.as_ref()?)));
    text.push_str(&block("", links));
    text.push_str(&block("Evidence:\n", finding.evidence.iter().map(|line| format!("- {}\n", strip_and_cut(line)))));
    if transition.kind != Kind::Notice {
        let _ = write!(text, "\nCheck: {} on {}\n", transition.check, strip_and_cut(&transition.resource));
    }
    text
}

/// The lines under a title, after an empty line; empty without lines.
fn block(title: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\n{title}{lines}") }
}

/// The link to the runbook, which has no section for notices.
pub(super) fn runbook(transition: &Transition, origin: &Origin) -> Option<String> {
    origin.runbook(&transition.check).filter(|_| catalogue::find(&transition.check).is_some())
}

/// A line with the number of dropped changes; empty if there are none.
pub(super) fn dropped(transition: &Transition) -> String {
    match transition.dropped {
        0 => String::new(),
        dropped => format!("{dropped} of its earlier changes could not be sent.\n"),
    }
}

fn resolved(transition: &Transition) -> String {
    format!(
        "{}\n{}\nIt lasted {}, from {} to {}.\n{}\nCheck: {} on {}\n",
        strip_and_cut(&format!("[RESOLVED] {}", summary(transition))),
        strip_and_cut(&format!("It was: {}", transition.finding.summary)),
        lasted(transition),
        time(transition.since),
        time(transition.at),
        dropped(transition),
        transition.check,
        strip_and_cut(&transition.resource)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;
    use crate::testing::{at, finding, origin};

    fn transition(kind: Kind) -> Transition {
        let fired =
            Transition::new(kind, ("target-group.health", "pg"), "incident", finding(Severity::Warning), at(8, 0));
        Transition { at: at(9, 30), ..fired }
    }

    #[test]
    fn the_second_line_has_the_time_and_the_duration() {
        let second_line = |kind| full(&transition(kind), &origin()).lines().nth(1).map(ToOwned::to_owned);
        assert_eq!(second_line(Kind::Firing).as_deref(), Some("Since 2026-03-14 08:00:00 UTC."));
        let reminder = "Firing for 1 hour 30 minutes, since 2026-03-14 08:00:00 UTC.";
        assert_eq!(second_line(Kind::Reminder).as_deref(), Some(reminder));
        assert_eq!(second_line(Kind::Notice).as_deref(), Some("2026-03-14 09:30:00 UTC."));
    }

    #[test]
    fn each_command_of_a_remedy_can_be_pasted_alone() {
        let mut finding = finding(Severity::Critical);
        finding.remedy.command = Some("aws a b --c d && aws e f\naws g h --i j".to_owned());
        let text = full(&Transition { finding, ..transition(Kind::Firing) }, &origin());
        let commands = "\n\n  aws a b \\\n    --c d &&\n  aws e f\n\n  aws g h \\\n    --i j\n\n";
        assert!(text.contains(commands), "{text}");
    }

    #[test]
    fn a_reminder_reports_dropped_changes_and_unknown_results() {
        let text = |dropped, unknown: Option<&str>| {
            let unknown = unknown.map(ToOwned::to_owned);
            full(&Transition { unknown, dropped, ..transition(Kind::Reminder) }, &origin())
        };
        assert!(text(2, None).contains("\n2 of its earlier changes could not be sent.\n"));
        assert!(text(0, Some("AccessDenied")).contains("\nThe guard cannot check it now: AccessDenied\n"));
        let whole = text(0, None);
        assert!(!whole.contains("could not be sent") && !whole.contains("cannot check"), "{whole}");
        let over = Transition { dropped: 3, now_true: Some("on".to_owned()), ..transition(Kind::Resolved) };
        assert!(resolved(&over).contains("3 of its earlier changes could not be sent."));
    }
}
