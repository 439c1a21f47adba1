//! The guard's own figures, in CloudWatch's embedded metric format: a line in the log that CloudWatch makes metrics of.
//! No call, no permission, and no dimension but the function, so that their number, and what they cost, is fixed.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::alerts::lifecycle::Phase;
use crate::alerts::store::{Items, Memory};
use crate::checks::{Observation, Severity, Status};
use crate::snapshot::{Health, Paths};

/// A figure's name and value.
pub type Figure = (&'static str, usize);

/// Writes the figures of one run to the log.
pub fn write(figures: &[Figure], now: Timestamp) {
    // Lambda sets it; it names the stack as well, and so keeps the figures of two stacks apart.
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| "unknown".to_owned());
    println!("{}", line(&function, figures, now));
}

fn line(function: &str, figures: &[Figure], now: Timestamp) -> Value {
    let metrics: Vec<Value> = figures.iter().map(|(name, _)| json!({"Name": name, "Unit": "Count"})).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({"Timestamp": now.as_millisecond(), "CloudWatchMetrics": [
            {"Namespace": "PrivatelinkGuard", "Dimensions": [["Function"]], "Metrics": metrics},
        ]}),
    );
    line.insert("Function".to_owned(), function.into());
    line.extend(figures.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
    Value::Object(line)
}

/// `UnknownChecks`: what could not be told.
#[must_use]
pub fn unknown_checks<'a>(observations: impl IntoIterator<Item = &'a Observation>) -> Figure {
    let unknown = observations.into_iter().filter(|observation| matches!(observation.status, Status::Unknown(_)));
    ("UnknownChecks", unknown.count())
}

/// `HealthyTargets` and `UnhealthyTargets`, each target group once.
#[must_use]
pub fn targets(paths: &Paths) -> [Figure; 2] {
    let groups = paths.load_balancers.values().flat_map(|balancer| balancer.target_groups.iter().flatten());
    let (mut healthy, mut unhealthy) = (0, 0);
    for target in groups.flat_map(|group| group.targets.iter().flatten()) {
        match target.health {
            Health::Healthy => healthy += 1,
            Health::Unhealthy | Health::UnhealthyDraining => unhealthy += 1,
            _ => {}
        }
    }
    [("HealthyTargets", healthy), ("UnhealthyTargets", unhealthy)]
}

/// `OpenCriticalAlerts` and `OpenWarningAlerts`, of all functions, as the table has them.
#[must_use]
pub fn open_alerts<'a>(remembered: impl IntoIterator<Item = &'a Items>) -> [Figure; 2] {
    let records = remembered.into_iter().flat_map(Items::values).filter_map(|stored| stored.record.as_ref());
    let (mut critical, mut warning) = (0, 0);
    for record in records {
        match &record.memory {
            Memory::Alert(alert) if alert.phase == Phase::Firing => match alert.severity {
                Severity::Critical => critical += 1,
                Severity::Warning => warning += 1,
                Severity::Info => {}
            },
            _ => {}
        }
    }
    [("OpenCriticalAlerts", critical), ("OpenWarningAlerts", warning)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_cloudwatch_reads() {
        let line = line("guard-HealthWatcher", &[("HealthyTargets", 3)], crate::testing::at(8, 0));
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
