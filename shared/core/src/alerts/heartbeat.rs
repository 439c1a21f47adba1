//! The notice that the guard is running: without it, silence could also mean that the guard is dead.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use super::lifecycle::{Alert, Phase};
use super::reconcile::Evaluation;
use super::record::Items;
use super::silencing;
use super::traffic;
use crate::check::{CheckResult, Finding, Remedy, Severity, Status};
use crate::ids::EndpointId;

/// The longest reason shown in the summary.
const MAX_REASON: usize = 24;

/// The notice, with the check results, the firing alerts and the silences. `evaluation` is `None` if it was another
/// service's turn to be read; `items` is `None` if the table could not be read.
pub fn notice(evaluation: Option<&Evaluation>, items: Option<&Items>, now: Timestamp) -> Finding {
    let counts = evaluation.map(|evaluation| ChecksByResult::new(&evaluation.results));
    let sees_all = counts.as_ref().is_none_or(|counts| counts.unknown.is_empty()) && items.is_some();
    let impact = if sees_all {
        "The guard is running. It alerts you when a check fails, unless a silence covers it."
    } else {
        "The guard is running, but it cannot check everything: it may miss a failure."
    };
    let evidence = match items {
        Some(items) => table_lines(items, now),
        None => vec!["firing alerts: unknown, because the guard's table cannot be read".to_owned()],
    };
    let summary = counts.map_or_else(|| "running; checks services in turns".to_owned(), |it| it.to_string());
    Finding::new(Severity::Info, summary, impact, Remedy::nothing("Nothing.", None)).with_evidence(evidence)
}

/// The notice's lines from the table: the firing alerts of all functions, including silenced ones; the silences; and
/// the time of dbt's last connection.
fn table_lines(items: &Items, now: Timestamp) -> Vec<String> {
    let alerts = items.values().filter_map(|item| item.record.as_ref()?.alert());
    let line = |alert: &Alert| {
        let silenced = if alert.silenced { ", silenced" } else { "" };
        format!("firing: {} ({}{silenced})", alert.finding.summary, alert.finding.severity.as_str())
    };
    let alerts: Vec<String> = alerts.filter(|alert| alert.phase == Phase::Firing).map(line).collect();
    let alerts = if alerts.is_empty() { vec!["firing: nothing".to_owned()] } else { alerts };
    let silences = silencing::describe(items, now);
    let connected = traffic::recorded(items).into_iter().flat_map(|traffic| {
        traffic.endpoints.keys().filter_map(|endpoint| {
            let endpoint: EndpointId = endpoint.parse().ok()?;
            let line = traffic
                .of(&endpoint, now)
                .map_or_else(|why| format!("dbt's last connection is unknown: {why}"), |last| last.describe(None));
            Some(format!("{endpoint}: {line}"))
        })
    });
    alerts.into_iter().chain(silences).chain(connected).collect()
}

/// The checks by their worst result.
#[derive(Default)]
struct ChecksByResult {
    passing: usize,
    failing: Vec<String>,
    unknown: Vec<String>,
}

impl ChecksByResult {
    fn new(results: &[CheckResult]) -> Self {
        let mut checks: BTreeMap<&str, Vec<&Status>> = BTreeMap::new();
        for CheckResult { check, status, .. } in results.iter().filter(|result| result.status != Status::NotAsked) {
            checks.entry(check.id).or_default().push(status);
        }
        let mut counts = Self::default();
        for (id, statuses) in checks {
            let unknown = statuses.iter().find_map(|status| match status {
                Status::Unknown(why) => Some(why),
                _ => None,
            });
            if statuses.iter().any(|status| matches!(status, Status::Fail(_))) {
                counts.failing.push(id.to_owned());
            } else if let Some(why) = unknown {
                counts.unknown.push(id.to_owned() + &reason(why));
            } else {
                counts.passing += 1;
            }
        }
        counts
    }
}

/// `: ALB target`, if the reason begins with a short phrase.
fn reason(why: &str) -> String {
    let words = why.split_once(": ").map(|(words, _)| words).filter(|words| words.len() <= MAX_REASON);
    words.map(|words| format!(": {words}")).unwrap_or_default()
}

impl fmt::Display for ChecksByResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |ids: &[String]| match ids.is_empty() {
            true => String::new(),
            false => format!(" ({})", ids.join(", ")),
        };
        let Self { passing, failing, unknown } = self;
        let checks = if *passing == 1 { "check passes" } else { "checks pass" };
        write!(f, "{passing} {checks}, {} fail{}, ", failing.len(), named(failing))?;
        write!(f, "{} unknown{}", unknown.len(), named(unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::lifecycle::{Now, Signal, Thresholds, advance};
    use crate::alerts::record::{Key, State};
    use crate::alerts::silence::Silence;
    use crate::catalogue;
    use crate::snapshot::{LastConnection, Traffic};
    use crate::testing::{at, endpoint, finding, item, silence};

    fn result(id: &str, status: Status) -> CheckResult {
        CheckResult::new(catalogue::find(id).unwrap(), "resource", status)
    }

    fn pass() -> Status {
        Status::Pass("right".to_owned())
    }

    #[test]
    fn the_notice_counts_each_check_by_its_worst_result() {
        let fail = || Status::Fail(Box::new(finding(Severity::Warning)));
        let results = vec![
            result("listener.port", fail()),
            result("load-balancer.cross-zone", pass()),
            result("load-balancer.cross-zone", fail()),
            result("network-path", pass()),
            result("network-path", Status::Unknown("ALB target: its path is not checked".to_owned())),
            result("service.available", pass()),
        ];
        let evaluation = Evaluation::new(at(8, 0), Vec::new(), results);
        let found = notice(Some(&evaluation), Some(&Items::new()), at(8, 0));
        let expected =
            "1 check passes, 2 fail (listener.port, load-balancer.cross-zone), 1 unknown (network-path: ALB target)";
        assert_eq!(found.summary, expected);
        assert!(found.impact.contains("cannot check everything"), "unknown is not well");
        assert_eq!(found.evidence, ["firing: nothing"]);
    }

    #[test]
    fn the_notice_lists_firing_alerts_silences_and_traffic() {
        let evaluation = Evaluation::new(at(8, 0), Vec::new(), vec![result("listener.port", pass())]);
        let firing = |silenced| {
            let thresholds = Thresholds { alert_after: 1, resolve_after: 1, remind_every: None };
            let moment = Now { run: "run", now: at(7, 0), incident: "incident", silenced };
            let alert = advance(None, Signal::Failing(&finding(Severity::Warning)), thresholds, moment).0.unwrap();
            State::Alert(Box::new(alert))
        };
        let silence = Silence { checks: vec!["listener.port".to_owned()], ..silence() };
        let last = LastConnection { since: at(1, 0), at: Some(at(7, 30)) };
        let traffic = Traffic { until: at(8, 0), endpoints: [(endpoint(1).to_string(), last)].into() };
        let items: Items = [
            (Key::new("drift-watcher", "listener.port", "a"), firing(false)),
            (Key::new("drift-watcher", "listener.port", "b"), firing(true)),
            (Key::new(Key::ANY_FUNCTION, Key::SILENCE, "1"), State::Silence(silence)),
            (Key::new("drift-watcher", Key::TRAFFIC, "vpce-svc-1"), State::Traffic(traffic)),
        ]
        .map(|(key, state)| (key, item(state)))
        .into();
        let found = |items: Option<&Items>, now| notice(Some(&evaluation), items, now);
        let summary = finding(Severity::Warning).summary;
        let well = found(Some(&items), at(8, 0));
        assert!(well.impact.starts_with("The guard is running. It alerts you"), "{}", well.impact);
        let mut lines = well.evidence;
        lines.sort();
        assert_eq!(
            lines,
            [
                format!("firing: {summary} (warning)"),
                format!("firing: {summary} (warning, silenced)"),
                "silenced until 2026-03-14T09:00:00Z: listener.port (by ada: upgrade)".to_owned(),
                format!("{}: dbt last connected at 2026-03-14T07:30:00Z or up to 5 minutes before", endpoint(1)),
            ]
        );
        let blind = found(None, at(8, 0));
        assert_eq!(blind.evidence, ["firing alerts: unknown, because the guard's table cannot be read"]);
        assert!(blind.impact.contains("cannot check everything"), "{}", blind.impact);
        let late = found(Some(&items), at(20, 0)).evidence;
        assert!(late.last().unwrap().contains("dbt's last connection is unknown"), "{late:?}");
    }
}
