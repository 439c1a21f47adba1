//! What the deployed guard knows, as `status --json` prints it. Pure.

use guard_core::admission::Admissions;
use guard_core::alerts::lifecycle::{Alert, Phase};
use guard_core::alerts::record::{Items, Key, Partition, admissions, stored_path};
use guard_core::alerts::{silencing, traffic};
use guard_core::catalogue;
use guard_core::check::{Group, Region, Severity};
use guard_core::config::rate;
use guard_core::ids::EndpointId;
use guard_core::text::strip_invisible;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::report::CheckState;

/// The version of the JSON's form.
pub const SCHEMA_VERSION: &str = "1.0";

/// The usual maximum delay of Lambda's metrics; AWS documents that they are sent every minute, and no delay.
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics.html>
const LATENESS: SignedDuration = SignedDuration::from_mins(5);

/// What the guard knows.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, title = "privatelink-guard status --json")]
pub struct GuardStatus {
    /// The version of this form.
    pub schema_version: &'static str,
    /// The account; null if AWS did not name it.
    pub account_id: Option<String>,
    /// The Region.
    pub region: String,
    /// When AWS was asked.
    pub asked_at: String,
    /// The stack.
    pub stack: StackStatus,
    /// The firing alerts, worst first.
    pub alerts: Vec<AlertStatus>,
    /// The silences that hold.
    pub silences: Vec<SilenceStatus>,
    /// The endpoints of dbt that the guard has seen and that are not gone, and its held requests.
    pub endpoints: Vec<EndpointStatus>,
    /// The functions.
    pub functions: Vec<FunctionStatus>,
    /// The subscriptions of the alert topic; null if they could not be read.
    pub subscriptions: Option<SubscriptionsStatus>,
    /// What could not be read, and why.
    pub unknown: Vec<String>,
}

/// The stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct StackStatus {
    /// Its name.
    pub name: String,
    /// CloudFormation's word for its state.
    pub status: String,
    /// When it was last deployed.
    pub deployed_at: Option<String>,
    /// Whether the guard only reports.
    pub dry_run: bool,
}

/// A firing alert.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct AlertStatus {
    /// The endpoint service; null for the guard's own.
    pub service_id: Option<String>,
    /// The service's name.
    pub service_name: Option<String>,
    /// The check.
    pub check: String,
    /// The resource.
    pub resource: String,
    /// The severity.
    pub severity: Severity,
    /// The failure.
    pub summary: String,
    /// When it began.
    pub since: String,
    /// When it was last sent; null if it was not.
    pub last_sent: Option<String>,
    /// Its incident.
    pub incident: String,
    /// Whether a silence holds it back.
    pub silenced: bool,
    /// Why its check is unknown at present.
    pub unknown: Option<String>,
}

/// A silence that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct SilenceStatus {
    /// Its id, with which it is removed.
    pub id: String,
    /// The endpoint service; null for the guard's own alerts.
    pub service_id: Option<String>,
    /// What it covers, in words.
    pub covers: String,
    /// The checks.
    pub checks: Vec<String>,
    /// The resources; empty for all.
    pub resources: Vec<String>,
    /// Its end.
    pub until: String,
    /// The author.
    pub by: String,
    /// The reason.
    pub comment: String,
    /// The command that ends it; null if its id could not be pasted into a shell.
    pub end_command: Option<String>,
}

/// An endpoint of dbt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct EndpointStatus {
    /// The endpoint service.
    pub service_id: String,
    /// The endpoint.
    pub endpoint_id: String,
    /// `held`, or the state that EC2 showed last.
    pub state: String,
    /// When it was first seen in that state; null for a held request.
    pub since: Option<String>,
    /// The end of the last five minutes with a connection; null if CloudWatch has none or was not asked.
    pub last_connection: Option<String>,
    /// When CloudWatch was last asked; null if it was not.
    pub traffic_asked_at: Option<String>,
}

/// A function, by Lambda's metrics, which are minutes old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct FunctionStatus {
    /// The function.
    pub function: String,
    /// Its schedule.
    pub schedule: String,
    /// Whether it runs as its schedule says and without errors.
    pub state: FunctionState,
    /// The minute of its last run; null if there was none in the last day, or if that is unknown.
    pub last_run: Option<String>,
    /// Its runs in the last day.
    pub runs: Option<u64>,
    /// Those that ended in error.
    pub errors: Option<u64>,
    /// The age in seconds of the oldest read of an endpoint service, if the services take turns.
    pub oldest_read_seconds: Option<u64>,
}

/// The state of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FunctionState {
    /// It runs.
    Runs,
    /// It runs, and some runs of the last day ended in error.
    Errors,
    /// Its last run is older than its schedule allows.
    Silent,
    /// Lambda's metrics do not tell.
    Unknown,
}

/// The subscriptions of the alert topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct SubscriptionsStatus {
    /// The alert topic.
    pub topic_arn: String,
    /// The protocols of the confirmed subscriptions.
    pub confirmed: Vec<String>,
    /// The protocols of those that nobody has confirmed yet.
    pub pending: Vec<String>,
}

impl GuardStatus {
    /// 1 if something of severity `fail_on` or worse is wrong, else 2 if something is unknown, else 0.
    pub fn exit_status(&self, fail_on: Severity) -> u8 {
        let states = || self.states().map(|state| (state.severity(), state));
        if states().any(|(severity, _)| severity.is_some_and(|severity| severity >= fail_on)) {
            1
        } else {
            u8::from(!self.unknown.is_empty() || states().any(|(_, state)| state == CheckState::Unknown)) * 2
        }
    }

    fn states(&self) -> impl Iterator<Item = CheckState> {
        let alerts = self.alerts.iter().map(AlertStatus::state);
        let functions = self.functions.iter().map(|function| function.state.state());
        let subscriptions = self.subscriptions.iter().map(SubscriptionsStatus::state);
        alerts.chain(functions).chain(subscriptions).chain([self.stack.state()])
    }

    /// Adds what the records of one partition say.
    pub(super) fn add(&mut self, partition: &Partition, items: &Items, now: Timestamp) {
        let service_id = partition.service().map(ToString::to_string);
        // The command has no ARN, so the partition does not matter.
        let region = Region::new("aws", &self.region);
        let name = stored_path(items).and_then(|path| path.name()).map(strip_invisible);
        let alerts = items.iter().filter_map(|(key, item)| Some((key, item.record.as_ref()?.alert()?)));
        let alerts = alerts.filter(|(key, alert)| is_firing(key, alert));
        self.alerts.extend(alerts.map(|(key, alert)| AlertStatus {
            service_id: service_id.clone(),
            service_name: name.clone(),
            ..AlertStatus::new(key, alert)
        }));
        self.alerts.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.since.cmp(&b.since)));
        self.silences.extend(silencing::active(items, now).map(|(key, silence, until)| SilenceStatus {
            id: strip_invisible(&key.resource),
            service_id: service_id.clone(),
            covers: strip_invisible(&silence.subject()),
            checks: silence.checks.clone(),
            resources: silence.resources.clone(),
            until: seconds(until),
            by: strip_invisible(&silence.by),
            comment: strip_invisible(&silence.comment),
            end_command: silencing::end_command(&key.resource, &self.stack.name, &region),
        }));
        if let Some(service_id) = service_id {
            self.endpoints.extend(endpoints(&service_id, items));
        }
        let unreadable = items.values().filter(|item| item.record.is_none()).count();
        if unreadable > 0 {
            self.unknown.push(format!("{unreadable} records of {partition} cannot be read"));
        }
    }
}

fn is_firing(key: &Key, alert: &Alert) -> bool {
    alert.phase == Phase::Firing && catalogue::find(&key.subject).is_some()
}

impl AlertStatus {
    fn new(key: &Key, alert: &Alert) -> Self {
        Self {
            service_id: None,
            service_name: None,
            check: key.subject.clone(),
            resource: strip_invisible(&key.resource),
            severity: alert.finding.severity,
            summary: strip_invisible(&alert.finding.summary),
            since: seconds(alert.since),
            last_sent: alert.notified.map(|_| seconds(alert.last_notified)),
            incident: alert.incident.clone(),
            silenced: alert.silenced,
            unknown: alert.unknown.as_deref().map(strip_invisible),
        }
    }

    /// Its state.
    pub fn state(&self) -> CheckState {
        CheckState::failing(self.severity)
    }
}

impl StackStatus {
    /// Whether CloudFormation has finished the last deployment.
    pub fn state(&self) -> CheckState {
        match self.status.as_str() {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_COMPLETE" => CheckState::Pass,
            status if status.ends_with("_IN_PROGRESS") => CheckState::Unknown,
            _ => CheckState::Warning,
        }
    }
}

/// The requests that a firing alert on dbt's connections names and that the guard has held, and dbt's endpoints.
fn endpoints(service_id: &str, items: &Items) -> Vec<EndpointStatus> {
    let Admissions { held, .. } = admissions(items).unwrap_or_default();
    let is_of_dbt = |key: &Key| catalogue::find(&key.subject).is_some_and(|check| check.group == Group::Connections);
    let alerts = items.iter().filter_map(|(key, item)| Some((key, item.record.as_ref()?.alert()?)));
    let alerts = alerts.filter(|(key, alert)| is_firing(key, alert) && is_of_dbt(key));
    let named = alerts.flat_map(|(_, alert)| alert.finding.ids.iter());
    let held = named.filter(|id| id.parse().is_ok_and(|id: EndpointId| held.contains(&id)));
    let mut held: Vec<String> = held.cloned().collect();
    held.dedup();
    let traffic = traffic::recorded(items);
    let status = |endpoint_id: &str, state: &str, since: Option<Timestamp>| {
        let last = traffic.and_then(|traffic| traffic.endpoints.get(endpoint_id));
        EndpointStatus {
            service_id: service_id.to_owned(),
            endpoint_id: strip_invisible(endpoint_id),
            state: strip_invisible(state),
            since: since.map(seconds),
            last_connection: last.and_then(|last| last.at).map(seconds),
            traffic_asked_at: last.and(traffic).map(|traffic| seconds(traffic.until)),
        }
    };
    let known = items.iter().filter_map(|(key, item)| Some((key, item.record.as_ref()?.connection()?)));
    let known = known.filter(|(_, known)| !known.gone);
    let known = known.map(|(key, known)| status(&key.resource, &known.state, Some(known.since)));
    known.chain(held.iter().map(|endpoint| status(endpoint, "held", None))).collect()
}

/// A function's runs of the last day, by Lambda's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// The start of the minute of the last one.
    pub last: Option<Timestamp>,
    /// Their number.
    pub number: u64,
    /// Those that ended in error.
    pub errors: u64,
    /// The age of the oldest read in seconds.
    pub oldest_read_seconds: Option<u64>,
}

impl FunctionStatus {
    /// The status of a function. `deployed_at` is the last deployment, before which it may not have run.
    pub fn new(
        function: &str,
        schedule: &str,
        runs: Option<Runs>,
        (deployed_at, now): (Option<Timestamp>, Timestamp),
    ) -> Self {
        let allowed = rate(schedule).ok().and_then(|rate| SignedDuration::try_from(rate * 2).ok());
        let state = match (runs, allowed) {
            (None, _) | (_, None) => FunctionState::Unknown,
            (Some(runs), Some(allowed)) => {
                let is_old = |time: Timestamp| now.duration_since(time) > allowed + LATENESS;
                match (runs.last.is_none_or(is_old), runs.errors) {
                    // Deployed a moment ago, or just not told yet.
                    (true, _) if runs.last.is_none() && deployed_at.is_some_and(|at| !is_old(at)) => {
                        FunctionState::Unknown
                    }
                    (true, _) => FunctionState::Silent,
                    (false, 0) => FunctionState::Runs,
                    (false, _) => FunctionState::Errors,
                }
            }
        };
        Self {
            function: function.to_owned(),
            schedule: schedule.to_owned(),
            state,
            last_run: runs.and_then(|runs| runs.last).map(seconds),
            runs: runs.map(|runs| runs.number),
            errors: runs.map(|runs| runs.errors),
            oldest_read_seconds: runs.and_then(|runs| runs.oldest_read_seconds),
        }
    }
}

impl FunctionState {
    /// As a result of a check.
    pub fn state(self) -> CheckState {
        match self {
            Self::Runs => CheckState::Pass,
            Self::Errors => CheckState::Warning,
            Self::Silent => CheckState::Critical,
            Self::Unknown => CheckState::Unknown,
        }
    }
}

impl SubscriptionsStatus {
    /// Whether anybody hears the alerts.
    pub fn state(&self) -> CheckState {
        match (self.confirmed.is_empty(), self.pending.is_empty()) {
            (true, _) => CheckState::Critical,
            (false, false) => CheckState::Info,
            (false, true) => CheckState::Pass,
        }
    }
}

/// A time as JSON has it.
pub(super) fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}
