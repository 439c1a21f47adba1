//! The report as JSON: `docs/check.schema.json`.

use guard_core::check::{CheckResult, Status};
use serde_json::{Value, json};

use crate::report::{CheckReport, CheckState, ServiceReport};

/// The report for programs.
pub fn render(report: &CheckReport) -> Value {
    let summary = report.summary();
    json!({
        "schemaVersion": "1.0",
        "accountId": report.account,
        "region": report.region,
        "checkedAt": report.checked_at.to_string(),
        "services": report.services.iter().map(service).collect::<Vec<_>>(),
        "summary": { "pass": summary.pass, "fail": summary.fail, "unknown": summary.unknown },
    })
}

fn service(service: &ServiceReport) -> Value {
    json!({
        "serviceId": service.id.as_ref().map(ToString::to_string),
        "name": service.name,
        "serviceName": service.service_name,
        "results": service.results.iter().map(result).collect::<Vec<_>>(),
    })
}

/// A row. A pass has no severity, and only what is unknown has a reason.
fn result(result: &CheckResult) -> Value {
    let state = CheckState::of(&result.status);
    let mut row = json!({
        "check": result.check.id,
        "resource": result.resource,
        "status": state.word(),
        "severity": state.severity().map(guard_core::check::Severity::as_str),
        "summary": null,
        "impact": null,
        "evidence": [],
        "remedy": null,
        "reason": null,
    });
    match &result.status {
        Status::Pass(right) => row["summary"] = right.as_str().into(),
        Status::Unknown(why) => row["reason"] = why.as_str().into(),
        Status::NotAsked => {}
        Status::Fail(finding) => {
            row["summary"] = finding.summary.as_str().into();
            row["impact"] = finding.impact.as_str().into();
            row["evidence"] = finding.evidence.clone().into();
            row["remedy"] = json!({
                "action": finding.remedy.action,
                "command": finding.remedy.command,
                "console": finding.remedy.console,
            });
        }
    }
    row
}
