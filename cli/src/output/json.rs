//! The report as JSON. `docs/check.schema.json` is made from these types.

use guard_core::check::{CheckResult, Severity, Status};
use serde::Serialize;
use serde_json::Value;

use crate::report::{CheckReport, CheckState, ServiceReport};

/// The form of the report.
const SCHEMA_VERSION: &str = "1.0";

/// # The output of `privatelink-guard check --json`
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct CheckOutput<'a> {
    /// Changes when the meaning of a field does.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    schema_version: &'static str,
    /// The account; null if AWS did not say.
    #[schemars(regex(pattern = "^[0-9]{12}$"))]
    account_id: Option<&'a str>,
    region: &'a str,
    /// When reading began, in UTC.
    #[schemars(extend("format" = "date-time"))]
    checked_at: String,
    services: Vec<ServiceOutput<'a>>,
    summary: SummaryOutput,
}

/// How many results there are.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SummaryOutput {
    pass: usize,
    fail: usize,
    unknown: usize,
}

/// What was found of one endpoint service.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct ServiceOutput<'a> {
    /// Null with --load-balancer: there is no endpoint service yet.
    #[schemars(regex(pattern = "^vpce-svc-"))]
    service_id: Option<&'a str>,
    /// The Name tag, or the load balancer's name.
    name: Option<&'a str>,
    /// The name that consumers need.
    service_name: Option<&'a str>,
    results: Vec<ResultOutput<'a>>,
}

/// The result of one check. A pass has no severity, and only what is unknown has a reason.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [
    {"properties": {"status": {"const": "pass"}, "severity": {"type": "null"}, "reason": {"type": "null"}, "remedy": {"type": "null"}}},
    {"properties": {"status": {"const": "fail"}, "severity": {"type": "string"}, "reason": {"type": "null"}, "remedy": {"type": "object"}}},
    {"properties": {"status": {"const": "unknown"}, "severity": {"type": "null"}, "reason": {"type": "string"}, "remedy": {"type": "null"}}},
]))]
struct ResultOutput<'a> {
    #[schemars(regex(pattern = r"^[a-z-]+(\.[a-z-]+)?$"))]
    check: &'a str,
    resource: &'a str,
    status: &'static str,
    severity: Option<Severity>,
    summary: Option<&'a str>,
    impact: Option<&'a str>,
    evidence: &'a [String],
    remedy: Option<RemedyOutput<'a>>,
    /// Why it is unknown.
    reason: Option<&'a str>,
}

/// What to do.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RemedyOutput<'a> {
    action: &'a str,
    /// Of the AWS CLI, a line for each; null if there is none.
    command: Option<&'a str>,
    #[schemars(extend("format" = "uri"))]
    console: Option<&'a str>,
}

/// The report for programs.
pub fn render(report: &CheckReport) -> Value {
    let summary = report.summary();
    serde_json::json!(CheckOutput {
        schema_version: SCHEMA_VERSION,
        account_id: report.account.as_deref(),
        region: &report.region,
        checked_at: report.checked_at.to_string(),
        services: report.services.iter().map(service).collect(),
        summary: SummaryOutput { pass: summary.pass, fail: summary.fail, unknown: summary.unknown },
    })
}

fn service(service: &ServiceReport) -> ServiceOutput<'_> {
    ServiceOutput {
        service_id: service.id.as_ref().map(guard_core::ids::ServiceId::as_str),
        name: service.name.as_deref(),
        service_name: service.service_name.as_deref(),
        results: service.results.iter().map(result).collect(),
    }
}

fn result(result: &CheckResult) -> ResultOutput<'_> {
    let state = CheckState::of(&result.status);
    let row = ResultOutput {
        check: result.check.id,
        resource: &result.resource,
        status: state.word(),
        severity: state.severity(),
        summary: None,
        impact: None,
        evidence: &[],
        remedy: None,
        reason: None,
    };
    match &result.status {
        Status::Pass(now_true) => ResultOutput { summary: Some(now_true), ..row },
        Status::Unknown(why) => ResultOutput { reason: Some(why), ..row },
        Status::NotAsked => row,
        Status::Fail(finding) => ResultOutput {
            summary: Some(&finding.summary),
            impact: Some(&finding.impact),
            evidence: &finding.evidence,
            remedy: Some(RemedyOutput {
                action: &finding.remedy.action,
                command: finding.remedy.command.as_deref(),
                console: finding.remedy.console.as_deref(),
            }),
            ..row
        },
    }
}
