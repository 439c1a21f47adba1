//! The status of a guard that has found what `check` finds.

use std::cmp::Reverse;

use guard_core::check::Status;
use guard_core::testing::{at, endpoint};
use jiff::SignedDuration;
use privatelink_guard::report::{CheckReport, ServiceReport};
use privatelink_guard::status::known::{
    AlertStatus, EndpointStatus, FunctionStatus, GuardStatus, Runs, SCHEMA_VERSION, StackStatus, SubscriptionsStatus,
};

/// The failures of the report fire since the target failed.
pub fn of(report: &CheckReport) -> GuardStatus {
    let function = |name, schedule, (minutes, number)| {
        let last = Some(report.checked_at - SignedDuration::from_mins(minutes));
        let runs = Runs { last, number, errors: 0, oldest_read_seconds: None };
        FunctionStatus::new(name, schedule, Some(runs), (None, report.checked_at))
    };
    let mut alerts: Vec<AlertStatus> = report.services.iter().flat_map(alerts).collect();
    alerts.sort_by_key(|alert| Reverse(alert.severity));
    GuardStatus {
        schema_version: SCHEMA_VERSION,
        account_id: report.account.clone(),
        region: report.region.clone(),
        asked_at: report.checked_at.to_string(),
        stack: StackStatus {
            name: "privatelink-guard".to_owned(),
            status: "UPDATE_COMPLETE".to_owned(),
            deployed_at: Some("2026-02-12T09:00:00Z".to_owned()),
            dry_run: false,
        },
        alerts,
        silences: Vec::new(),
        endpoints: report.services.iter().map(connected).collect(),
        functions: vec![
            function("connection-acceptor", "rate(5 minutes)", (3, 288)),
            function("health-watcher", "rate(1 minute)", (1, 1440)),
            function("drift-watcher", "rate(15 minutes)", (12, 96)),
        ],
        subscriptions: Some(SubscriptionsStatus {
            topic_arn: "arn:aws:sns:eu-central-1:111122223333:alerts".to_owned(),
            confirmed: vec!["email".to_owned(), "https".to_owned()],
            pending: Vec::new(),
        }),
        unknown: Vec::new(),
    }
}

fn alerts(service: &ServiceReport) -> Vec<AlertStatus> {
    let firing = service.results.iter().filter_map(|result| {
        let Status::Fail(finding) = &result.status else { return None };
        Some(AlertStatus {
            service_id: service.id.as_ref().map(ToString::to_string),
            service_name: service.name.clone(),
            check: result.check.id.to_owned(),
            resource: result.resource.clone(),
            severity: finding.severity,
            summary: finding.summary.clone(),
            since: at(8, 48).to_string(),
            last_sent: Some(at(8, 48).to_string()),
            incident: format!("{}-{}", service.id.as_ref()?, at(8, 48).as_second()),
            silenced: false,
            unknown: None,
        })
    });
    firing.collect()
}

fn connected(service: &ServiceReport) -> EndpointStatus {
    EndpointStatus {
        service_id: service.id.as_ref().unwrap().to_string(),
        endpoint_id: endpoint(1).to_string(),
        state: "available".to_owned(),
        since: Some(at(8, 0).to_string()),
        last_connection: Some(at(8, 55).to_string()),
        traffic_asked_at: Some(at(8, 57).to_string()),
    }
}
