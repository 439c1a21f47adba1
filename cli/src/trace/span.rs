//! The time under examination, in whole periods.

use jiff::{SignedDuration, Timestamp};

use crate::BadUsage;
use crate::args::TraceArgs;

/// The age up to which CloudWatch keeps one-minute values.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html>
const REACH: SignedDuration = SignedDuration::from_hours(15 * 24);

/// The possible periods, in minutes.
const PERIODS: [i64; 5] = [1, 5, 15, 60, 360];

/// The most periods in a table that people read.
const MAX_ROWS: i64 = 60;

/// A time in periods of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Timestamp,
    /// The end of the last period, which may lie in the future.
    pub to: Timestamp,
    pub period: SignedDuration,
}

impl Span {
    /// The time in the flags, in the shortest periods that keep the table short.
    ///
    /// # Errors
    /// If the flags give no valid time, or one for which CloudWatch has no values.
    pub fn of(arguments: &TraceArgs, now: Timestamp) -> Result<Self, BadUsage> {
        let bad = |text: &str| Err(BadUsage(text.to_owned()));
        let (from, to) = match (arguments.from, arguments.to, arguments.last) {
            (Some(from), Some(to), _) => (from, to),
            (_, _, Some(last)) => {
                let Some(from) = SignedDuration::try_from(last).ok().and_then(|last| now.checked_sub(last).ok()) else {
                    return bad("--last: CloudWatch has values of the last 15 days only");
                };
                (from, now)
            }
            _ => return bad("give --from and --to, or --last"),
        };
        if from >= to {
            return bad("--from must be before --to");
        }
        if to > now {
            return bad("--to is in the future");
        }
        if from < now - REACH {
            return bad("CloudWatch has values of single minutes for the last 15 days only");
        }
        Self::in_periods(from, to).ok_or_else(|| BadUsage("the time is out of range".to_owned()))
    }

    fn in_periods(from: Timestamp, to: Timestamp) -> Option<Self> {
        let minutes = (to.as_second() - from.as_second() + 59) / 60;
        let fits = |period: &i64| minutes <= period * MAX_ROWS;
        let seconds = 60 * PERIODS.into_iter().find(fits).unwrap_or(PERIODS[PERIODS.len() - 1]);
        let end = to.as_second() + i64::from(to.subsec_nanosecond() > 0);
        Some(Self {
            from: Timestamp::from_second(from.as_second().div_euclid(seconds) * seconds).ok()?,
            to: Timestamp::from_second((end + seconds - 1).div_euclid(seconds) * seconds).ok()?,
            period: SignedDuration::from_secs(seconds),
        })
    }

    pub fn periods(&self) -> impl Iterator<Item = Timestamp> + use<> {
        let (to, period) = (self.to, self.period);
        std::iter::successors(Some(self.from), move |start| start.checked_add(period).ok())
            .take_while(move |start| *start < to)
    }

    pub fn length(&self) -> SignedDuration {
        self.to.duration_since(self.from)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::args::Subject;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn asked(from: Option<&str>, to: Option<&str>, last_minutes: Option<u64>) -> TraceArgs {
        let last = last_minutes.map(|minutes| Duration::from_secs(60 * minutes));
        TraceArgs { subject: Subject::default(), from: from.map(at), to: to.map(at), last, yes: false }
    }

    const NOW: &str = "2026-03-14T12:00:30Z";

    #[test]
    fn whole_periods_cover_the_time_in_a_short_table() {
        let table = [
            (30, "2026-03-14T11:30:00Z", "2026-03-14T12:01:00Z", 1, 31),
            (60, "2026-03-14T11:00:00Z", "2026-03-14T12:01:00Z", 1, 61),
            (61, "2026-03-14T10:55:00Z", "2026-03-14T12:05:00Z", 5, 14),
            (300, "2026-03-14T07:00:00Z", "2026-03-14T12:05:00Z", 5, 61),
            (24 * 60, "2026-03-13T12:00:00Z", "2026-03-14T13:00:00Z", 60, 25),
            (15 * 24 * 60, "2026-02-27T12:00:00Z", "2026-03-14T18:00:00Z", 360, 61),
        ];
        for (minutes, from, to, period, rows) in table {
            let span = Span::of(&asked(None, None, Some(minutes)), at(NOW)).unwrap();
            let expected = Span { from: at(from), to: at(to), period: SignedDuration::from_mins(period) };
            assert_eq!((span, span.periods().count()), (expected, rows), "{minutes} minutes");
        }
        let exact = asked(Some("2026-03-14T09:00:00Z"), Some("2026-03-14T09:20:00Z"), None);
        let span = Span::of(&exact, at(NOW)).unwrap();
        assert_eq!((span.from, span.to), (at("2026-03-14T09:00:00Z"), at("2026-03-14T09:20:00Z")));
    }

    #[test]
    fn an_invalid_span_or_one_without_values_is_refused() {
        let table = [
            (asked(Some("2026-03-14T09:20:00Z"), Some("2026-03-14T09:00:00Z"), None), "before --to"),
            (asked(Some("2026-03-14T09:00:00Z"), Some("2026-03-14T09:00:00Z"), None), "before --to"),
            (asked(Some("2026-03-14T11:00:00Z"), Some("2026-03-14T12:01:00Z"), None), "future"),
            (asked(Some("2026-02-01T00:00:00Z"), Some("2026-02-01T01:00:00Z"), None), "15 days"),
            (asked(None, None, Some(16 * 24 * 60)), "15 days"),
            (asked(None, None, None), "--last"),
        ];
        for (arguments, words) in table {
            let error = Span::of(&arguments, at(NOW)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
