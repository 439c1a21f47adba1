//! The trace for a terminal: a table of the counts, and the verdict with its reasons.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use guard_core::text::strip_invisible;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::ServiceTrace;
use super::metrics::{TrafficCounts, TrafficMetric};
use super::span::Span;
use super::verdict::TraceVerdict;
use super::words::bytes;
use crate::output::paragraph::fill;

/// A column of the table, to the right of the time.
struct Column {
    heading: &'static str,
    width: usize,
    /// The metrics that the column adds up.
    metrics: &'static [TrafficMetric],
    /// The format of a sum.
    format: fn(u64) -> String,
}

impl Column {
    const fn new(heading: &'static str, width: usize, metrics: &'static [TrafficMetric]) -> Self {
        Self { heading, width, metrics, format: |number| number.to_string() }
    }
}

const COLUMNS: [Column; 7] = [
    Column::new("connections", 13, &[TrafficMetric::Connections]),
    Column::new("flows", 8, &[TrafficMetric::Flows]),
    Column { format: bytes, ..Column::new("bytes", 10, &[TrafficMetric::Bytes]) },
    Column::new(
        "resets",
        8,
        &[TrafficMetric::ClientResets, TrafficMetric::BalancerResets, TrafficMetric::TargetResets],
    ),
    Column::new("blocked", 9, &BLOCKED),
    Column::new("healthy", 9, &[TrafficMetric::Healthy]),
    Column::new("unhealthy", 11, &[TrafficMetric::Unhealthy]),
];

/// Flows that the load balancer blocks.
const BLOCKED: [TrafficMetric; 4] =
    [TrafficMetric::BlockedInbound, TrafficMetric::BlockedOutbound, TrafficMetric::Rejected, TrafficMetric::PortErrors];

/// The trace in lines of at most `width` columns. Commands are never broken and may be longer.
pub fn render(trace: &ServiceTrace, zone: &TimeZone, width: usize) -> String {
    let mut text = heading(trace, zone);
    if let Ok(measured) = &trace.measured {
        text.push('\n');
        text.push_str(&table(&measured.periods.iter().collect::<Vec<_>>(), trace.span, zone));
    }
    let verdict = trace.decision.verdict;
    let _ = writeln!(text, "\n{}", paint(verdict, &format!("Verdict: {verdict}")));
    text.push_str(&paragraph("", &trace.decision.sentence, width));
    trace.decision.evidence.iter().for_each(|line| text.push_str(&paragraph("- ", line, width)));
    if !trace.missing.is_empty() {
        text.push_str("What would show more:\n");
    }
    for gap in &trace.missing {
        text.push_str(&paragraph("- ", &gap.what, width));
        if let Some(command) = &gap.command {
            let _ = writeln!(text, "  $ {}", strip_invisible(command));
        }
    }
    text
}

/// `line` after `first`, wrapped.
fn paragraph(first: &str, line: &str, width: usize) -> String {
    fill(&strip_invisible(line), width.max(40), first, &" ".repeat(first.len())) + "\n"
}

fn heading(trace: &ServiceTrace, zone: &TimeZone) -> String {
    let Span { from, to, period } = trace.span;
    let name = trace.name.as_ref().map(|name| format!(" {}", strip_invisible(name))).unwrap_or_default();
    let day = |time: Timestamp, format: &str| time.to_zoned(zone.clone()).strftime(format).to_string();
    let minutes = period.as_mins();
    let each = if minutes == 1 { "minute".to_owned() } else { format!("{minutes} minutes") };
    format!(
        "{}\nendpoint service{name}, {}\n{} to {} ({}), per {each}\n",
        trace.place,
        trace.service,
        day(from, "%Y-%m-%d %H:%M"),
        day(to, "%Y-%m-%d %H:%M"),
        day(from, "UTC%:z"),
    )
}

/// One line for each period with events, and one for each stretch without.
fn table(periods: &[(&Timestamp, &TrafficCounts)], span: Span, zone: &TimeZone) -> String {
    let days = span.from.to_zoned(zone.clone()).date() != span.to.to_zoned(zone.clone()).date();
    let clock =
        |time: Timestamp| time.to_zoned(zone.clone()).strftime(if days { "%m-%d %H:%M" } else { "%H:%M" }).to_string();
    let time_width = if days { 11 } else { 5 };
    let header = columns(|column| column.heading.to_owned());
    let mut text = format!("{:time_width$}{header}\n", "time");
    for stretch in periods.chunk_by(|(_, one), (_, next)| one.is_quiet() && next.is_quiet()) {
        if let (Some((from, first)), Some((last, _))) = (stretch.first(), stretch.last())
            && first.is_quiet()
        {
            let end = last.checked_add(span.period).unwrap_or(**last);
            let _ = writeln!(text, "{:time_width$}  until {}: nothing", clock(**from), clock(end));
            continue;
        }
        for (start, counts) in stretch {
            let _ = writeln!(text, "{:time_width$}{}", clock(**start), row(counts));
        }
    }
    text
}

fn row(counts: &TrafficCounts) -> String {
    columns(|column| counts.sum(column.metrics).map_or("?".to_owned(), column.format))
}

/// The value of each column, aligned to the right.
fn columns(value: impl Fn(&Column) -> String) -> String {
    COLUMNS.iter().fold(String::new(), |mut line, column| {
        let width = column.width;
        let _ = write!(line, "{:>width$}", value(column));
        line
    })
}

fn paint(verdict: TraceVerdict, text: &str) -> String {
    let color = match verdict {
        TraceVerdict::GotThrough => AnsiColor::Green,
        TraceVerdict::NotSent | TraceVerdict::Unknown => AnsiColor::Yellow,
        TraceVerdict::StoppedBeforeLoadBalancer | TraceVerdict::StoppedBeforeTarget => AnsiColor::Red,
    };
    let style = Style::new().bold().fg_color(Some(color.into()));
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use guard_core::testing::service;
    use jiff::SignedDuration;

    use super::*;
    use crate::trace::Gap;
    use crate::trace::metrics::Measured;
    use crate::trace::verdict::Decision;

    const START: i64 = 1_773_475_200;

    fn minute(number: i64) -> Timestamp {
        Timestamp::from_second(START + 60 * number).unwrap()
    }

    fn trace(periods: BTreeMap<Timestamp, TrafficCounts>) -> ServiceTrace {
        let from = minute(0);
        let period = SignedDuration::from_mins(1);
        let to = from + period * i32::try_from(periods.len()).unwrap();
        ServiceTrace {
            place: "account 111122223333, eu-central-1".to_owned(),
            service: service(1),
            name: Some("pg\u{202e}".to_owned()),
            span: Span { from, to, period },
            measured: Ok(Measured { periods, ..Measured::default() }),
            decision: Decision {
                verdict: TraceVerdict::StoppedBeforeTarget,
                sentence: "The requests stopped between the load balancer and the targets: nobody answered.".to_owned(),
                evidence: vec!["load balancer: 3 flows began".to_owned()],
            },
            missing: vec![Gap {
                what: "No flow log.".to_owned(),
                command: Some("aws ec2 create-flow-logs".to_owned()),
            }],
        }
    }

    #[test]
    fn quiet_minutes_share_a_line_and_unknown_is_not_zero() {
        let busy = [
            (TrafficMetric::Connections, 3),
            (TrafficMetric::Flows, 3),
            (TrafficMetric::Bytes, 12_345),
            (TrafficMetric::TargetResets, 2),
        ];
        let busy: TrafficCounts = busy.into_iter().collect();
        let quiet: TrafficCounts = [(TrafficMetric::Flows, 0), (TrafficMetric::Healthy, 2)].into_iter().collect();
        let counts = [quiet.clone(), quiet.clone(), busy, quiet.clone()];
        let periods: BTreeMap<Timestamp, TrafficCounts> = (0..).map(minute).zip(counts).collect();
        let text = anstream::adapter::strip_str(&render(&trace(periods), &TimeZone::UTC, 80)).to_string();
        assert_eq!(
            text,
            format!(
                "\
account 111122223333, eu-central-1
endpoint service pg, {}
2026-03-14 08:00 to 2026-03-14 08:04 (UTC+00:00), per minute

time   connections   flows     bytes  resets  blocked  healthy  unhealthy
08:00  until 08:02: nothing
08:02            3       3   12.3 kB       2        ?        ?          ?
08:03  until 08:04: nothing

Verdict: stopped before the target
The requests stopped between the load balancer and the targets: nobody answered.
- load balancer: 3 flows began
What would show more:
- No flow log.
  $ aws ec2 create-flow-logs
",
                service(1)
            )
        );
    }

    #[test]
    fn the_table_fits_a_terminal_even_if_it_spans_days() {
        let metrics = || COLUMNS.iter().flat_map(|column| column.metrics);
        let periods: BTreeMap<Timestamp, TrafficCounts> =
            (0..3).map(|day| (minute(24 * 60 * day), metrics().map(|metric| (*metric, 9_999_999)).collect())).collect();
        let mut trace = trace(periods);
        trace.span.to = minute(3 * 24 * 60);
        let text = anstream::adapter::strip_str(&render(&trace, &TimeZone::UTC, 80)).to_string();
        assert!(text.contains("03-15 08:00      9999999 9999999   10.0 MB"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
