//! The report for a terminal: a tree with one line per result, and the fix under each failure. Signs and words repeat
//! the meaning of the colours.

use std::fmt::Write;

use anstyle::Style;
use guard_core::check::{CheckResult, Finding, Severity, Status};
use guard_core::text::strip_invisible;

use super::paragraph::fill;
use super::{painted, strong};
use crate::report::{CheckReport, CheckState, PartKind, PathPart, Summary};

/// The least width of a text in columns, at any depth of the tree.
const MIN_TEXT: usize = 30;

/// The sign of a part that no check is about.
const NO_CHECK: char = '–';

/// The most healthy targets that a group lists.
const MAX_HEALTHY_TARGETS: usize = 8;

/// The report in lines of at most `width` columns. Commands are never broken and may be longer.
pub fn render(report: &CheckReport, width: usize) -> String {
    let account = report.account.as_deref().unwrap_or("unknown");
    let mut text = format!("account {account}, {}, {:.0}\n", report.region, report.checked_at);
    for service in &report.services {
        text.push('\n');
        Tree { text: &mut text, width, runbook: report.runbook.as_deref() }.part(&service.path, "", "");
        for silence in &service.silences {
            let _ = writeln!(text, "{}", fill(&strip_invisible(silence), width.max(MIN_TEXT), "", "  "));
        }
    }
    let _ = writeln!(text, "\n{}", summary_line(report));
    text
}

/// `14 pass, 2 fail (1 critical, 1 warning), 1 unknown`.
pub fn summary_line(report: &CheckReport) -> String {
    let Summary { pass, fail, unknown } = report.summary();
    let states: Vec<CheckState> = report.results().map(|result| CheckState::of(&result.status)).collect();
    let of = |severity: Severity| states.iter().filter(|state| state.severity() == Some(severity)).count();
    let severities = [Severity::Critical, Severity::Warning, Severity::Info];
    let counts = severities.map(|severity| (of(severity), severity.as_str()));
    let counts: Vec<String> =
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    let detail = if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
    format!("{pass} pass, {fail} fail{detail}, {unknown} unknown")
}

struct Tree<'a> {
    text: &'a mut String,
    width: usize,
    runbook: Option<&'a str>,
}

impl Tree<'_> {
    /// A part's line, its results, and the parts behind it. `lead` stands before the part's own line, `below` before
    /// the others.
    fn part(&mut self, part: &PathPart, lead: &str, below: &str) {
        let detail = part.detail.as_deref().map(|detail| format!(", {}", strip_invisible(detail))).unwrap_or_default();
        let sign = match part.state() {
            Some(state) => painted(state, &state.sign().to_string()),
            None => NO_CHECK.to_string(),
        };
        let title = format!("{} {}", part.kind.as_str(), strip_invisible(&part.name));
        let line = if part.is_off_path { dim(&format!("{title}{detail}")) } else { strong(&title) + &detail };
        let _ = writeln!(self.text, "{lead}{sign} {line}");
        let (shown, hidden) = shown_parts(&part.parts);
        let mut left = part.results.len() + shown.len() + usize::from(hidden > 0);
        for result in &part.results {
            left -= 1;
            self.result(result, below, left == 0);
        }
        for part in shown {
            left -= 1;
            let (lead, further) = branch(below, left == 0);
            self.part(part, &lead, &further);
        }
        if hidden > 0 {
            let _ = writeln!(self.text, "{}and {hidden} more healthy targets", branch(below, true).0);
        }
    }

    fn result(&mut self, result: &CheckResult, below: &str, last: bool) {
        let state = CheckState::of(&result.status);
        let (lead, further) = branch(below, last);
        let sign = painted(state, &format!("{} {}", state.sign(), state.word()));
        let severity = state.severity().map(|severity| format!(", {}", severity.as_str())).unwrap_or_default();
        let (plain, indent) =
            (format!("{} {}{severity}  {}: ", state.sign(), state.word(), result.check.id), further + "  ");
        // Wrapped without its colours, which have no width.
        let line = self.wrap(&lead, &indent, &format!("{plain}{}", strip_invisible(result.status.text())));
        let unpainted = format!("{} {}", state.sign(), state.word());
        let _ = writeln!(self.text, "{}", line.replacen(&unpainted, &sign, 1));
        if let Status::Fail(finding) = &result.status {
            self.finding(&format!("{indent}  "), finding, result);
        }
    }

    fn finding(&mut self, indent: &str, finding: &Finding, result: &CheckResult) {
        self.wrapped(indent, "for dbt: ", &finding.impact);
        for line in &finding.evidence {
            self.wrapped(indent, "- ", line);
        }
        self.wrapped(indent, "to do: ", &finding.remedy.action);
        for command in finding.remedy.command.iter().flat_map(|commands| commands.lines()) {
            let _ = writeln!(self.text, "{indent}$ {command}");
        }
        let runbook = self.runbook.map(|runbook| format!("{runbook}#{}", result.check.id));
        if let Some(address) = runbook.as_ref().or(finding.remedy.console.as_ref()) {
            let _ = writeln!(self.text, "{indent}more: {}", strip_invisible(address));
        }
    }

    /// `text` in wrapped lines, each after `indent`, with `label` before the first.
    fn wrapped(&mut self, indent: &str, label: &str, text: &str) {
        let hanging = format!("{indent}{}", " ".repeat(label.chars().count()));
        let lines = self.wrap(&format!("{indent}{label}"), &hanging, &strip_invisible(text));
        let _ = writeln!(self.text, "{lines}");
    }

    fn wrap(&self, first: &str, hanging: &str, text: &str) -> String {
        fill(text, self.width.max(hanging.chars().count() + MIN_TEXT), first, hanging)
    }
}

/// The tree's strokes before a line, and before the lines under it.
fn branch(below: &str, last: bool) -> (String, String) {
    match last {
        true => (format!("{below}└─ "), format!("{below}   ")),
        false => (format!("{below}├─ "), format!("{below}│  ")),
    }
}

/// The parts to show, and the number of healthy targets left out.
fn shown_parts(parts: &[PathPart]) -> (Vec<&PathPart>, usize) {
    let mut room = MAX_HEALTHY_TARGETS;
    let is_shown = |part: &&PathPart| {
        if part.kind != PartKind::Target || part.own_state != Some(CheckState::Pass) {
            return true;
        }
        room = room.saturating_sub(1);
        room > 0
    };
    let shown: Vec<&PathPart> = parts.iter().filter(is_shown).collect();
    let hidden = parts.len() - shown.len();
    (shown, hidden)
}

fn dim(text: &str) -> String {
    let style = Style::new().dimmed();
    format!("{style}{text}{style:#}")
}
