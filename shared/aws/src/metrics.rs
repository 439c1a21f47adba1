//! The guard's metrics, in CloudWatch's embedded metric format: a log line that CloudWatch turns into metrics. This
//! needs no call and no permission. The function is the only dimension, so the number of metrics, and their cost, is
//! fixed.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;

use guard_core::check::{Severity, Status};
use guard_core::snapshot::Topology;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::notify::{Firing, PartitionWork};

/// A metric's name and value.
pub type Metric = (&'static str, usize);

/// Writes the metrics of one run to the log.
pub fn write(metrics: &[Metric], now: Timestamp) {
    // Lambda sets this variable. It contains the stack's name, which separates the metrics of two stacks.
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| "unknown".to_owned());
    println!("{}", line(&function, metrics, now));
}

fn line(function: &str, metrics: &[Metric], now: Timestamp) -> Value {
    let definitions: Vec<Value> = metrics.iter().map(|(name, _)| json!({"Name": name, "Unit": unit(name)})).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({"Timestamp": now.as_millisecond(), "CloudWatchMetrics": [
            {"Namespace": "PrivatelinkGuard", "Dimensions": [["Function"]], "Metrics": definitions},
        ]}),
    );
    line.insert("Function".to_owned(), function.into());
    line.extend(metrics.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
    Value::Object(line)
}

fn unit(name: &str) -> &'static str {
    if name.ends_with("Seconds") { "Seconds" } else { "Count" }
}

/// `OldestReadSeconds`: the age of the oldest last read of any endpoint service. Written only if services take turns.
pub fn oldest_read(read_at: Timestamp, now: Timestamp) -> Metric {
    ("OldestReadSeconds", usize::try_from(now.duration_since(read_at).as_secs()).unwrap_or_default())
}

/// `UnknownChecks`: the number of unknown results.
pub fn unknown_checks(work: &[PartitionWork<'_>]) -> Metric {
    let results = work.iter().flat_map(|work| &work.report.evaluations).flat_map(|evaluation| &evaluation.results);
    ("UnknownChecks", results.filter(|result| matches!(result.status, Status::Unknown(_))).count())
}

/// `HealthyTargets` and `UnhealthyTargets`, counting each load balancer once.
pub fn targets<'a>(reads: impl IntoIterator<Item = &'a Topology>) -> [Metric; 2] {
    let load_balancers: BTreeMap<_, _> = reads.into_iter().flat_map(|topology| &topology.load_balancers).collect();
    let groups = load_balancers.values().flat_map(|balancer| balancer.target_groups.iter().flatten());
    let (mut healthy, mut unhealthy) = (0, 0);
    for target in groups.flat_map(|group| group.targets.iter().flatten()) {
        healthy += usize::from(target.is_healthy());
        unhealthy += usize::from(target.health.is_failing() && !target.is_shifted_away);
    }
    [("HealthyTargets", healthy), ("UnhealthyTargets", unhealthy)]
}

/// `FiringCriticalAlerts` and `FiringWarningAlerts`: the function's own alerts that fire after a run. While the table
/// cannot be read, a zero would be a guess that resolves a pager's incident, so it is omitted.
pub fn firing_alerts(firing: &Firing) -> Vec<Metric> {
    let number = |wanted| firing.severities.iter().filter(|severity| **severity == wanted).count();
    let metrics =
        [("FiringCriticalAlerts", number(Severity::Critical)), ("FiringWarningAlerts", number(Severity::Warning))];
    metrics.into_iter().filter(|(_, number)| firing.is_complete || *number > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_count_of_firing_alerts_is_never_zero() {
        let metrics = |severities: &[Severity], is_complete| {
            firing_alerts(&Firing { severities: severities.to_vec(), is_complete })
        };
        let critical = [Severity::Critical, Severity::Info, Severity::Critical];
        assert_eq!(metrics(&critical, true), [("FiringCriticalAlerts", 2), ("FiringWarningAlerts", 0)]);
        assert_eq!(metrics(&critical, false), [("FiringCriticalAlerts", 2)], "at least two");
        assert_eq!(metrics(&[], false), []);
    }

    #[test]
    fn a_log_line_follows_the_embedded_metric_format() {
        let line = line("guard-HealthWatcher", &[("HealthyTargets", 3)], guard_core::testing::at(8, 0));
        assert_eq!(
            line,
            json!({
                "_aws": {"Timestamp": 1_773_475_200_000_i64, "CloudWatchMetrics": [{
                    "Namespace": "PrivatelinkGuard",
                    "Dimensions": [["Function"]],
                    "Metrics": [{"Name": "HealthyTargets", "Unit": "Count"}],
                }]},
                "Function": "guard-HealthWatcher",
                "HealthyTargets": 3,
            })
        );
    }
}
