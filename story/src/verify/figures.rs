//! The functions' own figures, from Lambda's reports in their logs.

use serde_json::{Value, json};

/// The figures of a function's runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// The function's name in the template.
    pub function: String,
    /// The number of runs.
    pub runs: usize,
    /// The number of failed runs.
    pub failed: usize,
    /// The time of each initialization, in milliseconds, sorted.
    pub cold_starts: Vec<f64>,
    /// The time of each run, in milliseconds, sorted.
    pub durations: Vec<f64>,
    /// The highest memory use of a run, in megabytes.
    pub memory: u64,
    /// The function's memory, in megabytes.
    pub memory_size: u64,
}

impl Figures {
    /// Reads the reports among the lines of a log.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html#platform-report>
    pub fn read<'a>(function: &str, lines: impl IntoIterator<Item = &'a str>) -> Self {
        let reports = lines.into_iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let reports: Vec<Value> = reports.filter(|line| line["type"] == "platform.report").collect();
        let metric = |name: &str| -> Vec<f64> {
            let mut values: Vec<f64> =
                reports.iter().filter_map(|report| report["record"]["metrics"][name].as_f64()).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let whole = |name: &str| {
            let values = reports.iter().filter_map(|report| report["record"]["metrics"][name].as_u64());
            values.max().unwrap_or_default()
        };
        Self {
            function: function.to_owned(),
            runs: reports.len(),
            failed: reports.iter().filter(|report| report["record"]["status"] != "success").count(),
            cold_starts: metric("initDurationMs"),
            durations: metric("durationMs"),
            memory: whole("maxMemoryUsedMB"),
            memory_size: whole("memorySizeMB"),
        }
    }

    /// The figures as one line.
    pub fn line(&self) -> String {
        let range = |values: &[f64]| match values {
            [] => "none".to_owned(),
            [one] => format!("{one:.0} ms"),
            [least, .., most] => {
                format!("{least:.0} to {most:.0} ms, median {:.0} ms", values[values.len() / 2])
            }
        };
        format!(
            "{} runs, {} failed; cold start {}; duration {}; memory {} of {} MB",
            self.runs,
            self.failed,
            range(&self.cold_starts),
            range(&self.durations),
            self.memory,
            self.memory_size,
        )
    }

    /// The figures as JSON.
    pub fn json(&self) -> Value {
        json!({
            "function": self.function,
            "runs": self.runs,
            "failed": self.failed,
            "coldStartsMs": self.cold_starts,
            "durationsMs": self.durations,
            "maxMemoryUsedMB": self.memory,
            "memorySizeMB": self.memory_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"time":"2026-11-28T12:00:00Z","type":"platform.report","record":{"requestId":"r",
        "metrics":{"durationMs":35.5,"billedDurationMs":126,"memorySizeMB":128,"maxMemoryUsedMB":21,
        "initDurationMs":90.2},"status":"success"}}"#;

    #[test]
    fn only_reports_enter_the_figures() {
        let warm = REPORT.replace(",\n        \"initDurationMs\":90.2", "").replace("35.5", "12.25");
        let lines = ["START", r#"{"type":"platform.start"}"#, REPORT, &warm, r#"{"level":"INFO"}"#];
        let figures = Figures::read("HealthWatcher", lines);
        assert_eq!((figures.runs, figures.failed, figures.memory, figures.memory_size), (2, 0, 21, 128));
        assert_eq!((figures.cold_starts, figures.durations), (vec![90.2], vec![12.25, 35.5]));
    }

    #[test]
    fn a_failed_run_is_counted_as_failed() {
        let failed = REPORT.replace("success", "error");
        assert_eq!(Figures::read("HealthWatcher", [failed.as_str()]).failed, 1);
    }

    #[test]
    fn the_line_names_the_range() {
        let figures = Figures::read("HealthWatcher", [REPORT]);
        let expected = "1 runs, 0 failed; cold start 90 ms; duration 36 ms; memory 21 of 128 MB";
        assert_eq!(figures.line(), expected);
    }
}
