//! The JSON body for programs. `docs/alert.schema.json` is made from these types.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::origin::Origin;
use super::text::runbook;
use super::{Content, summary};
use crate::alerts::transition::{Kind, Transition};
use crate::check::Severity;
use crate::ids::{AccountId, ServiceId};
use crate::text::strip_invisible;
use crate::trigger::Change;

/// The form of the message. Its first number changes when a reader of the old form could misread the new one.
const SCHEMA_VERSION: &str = "2.0";

/// # An alert of privatelink-guard, as SQS and Lambda subscribers of the alert topic receive it
///
/// One message contains everything new that a run found about one endpoint service, or about what several of them depend on,
/// worst first. Text from AWS is without control characters and without characters that change direction or have no width.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
#[serde(rename_all = "camelCase")]
pub struct AlertMessage<'a> {
    /// Its first number changes when a reader of the old form could misread the new one.
    #[cfg_attr(feature = "schema", schemars(extend("const" = SCHEMA_VERSION)))]
    schema_version: &'static str,
    /// The account that the guard runs in; null if Lambda did not name it.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9]{12}$")))]
    account_id: Option<&'a str>,
    region: &'a str,
    /// The stack's name; empty if not configured.
    stack: &'a str,
    /// null: the guard's own, what several endpoint services depend on.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^vpce-svc-[0-9a-f]+$")))]
    service_id: Option<&'a str>,
    /// The endpoint service's Name tag.
    service_name: Option<String>,
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["connection-acceptor", "health-watcher", "drift-watcher"])))]
    function: &'a str,
    /// The worst of what fires or is repeated; if there is none, of all transitions.
    severity: Severity,
    /// All kinds in the message.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    kinds: &'a BTreeSet<Kind>,
    transitions: Vec<AlertTransition<'a>>,
    /// Transitions that did not fit; the log of the function has them.
    omitted: usize,
    /// What to know besides: the guard's table failed, so this may be sent again; or this is a test message.
    caution: Option<&'a str>,
}

/// What happened to one alert, or a notice.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
#[serde(rename_all = "camelCase")]
struct AlertTransition<'a> {
    kind: Kind,
    /// The check's id; 'connection' for a notice about a connection of dbt or of a known account, 'heartbeat' for the
    /// heartbeat, 'silence' for the notice that a silence began, 'removal' for the guard's last message.
    check: &'a str,
    /// The ARN, id or account that was checked.
    resource: String,
    severity: Severity,
    /// What is wrong; for 'resolved', what is right now and how long it was wrong.
    summary: String,
    /// What it means for dbt; for 'resolved', what it meant.
    impact: &'a str,
    evidence: Vec<String>,
    remedy: AlertRemedy<'a>,
    /// The change that CloudTrail reported.
    cause: Option<&'a Change>,
    /// When the alert began.
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("format" = "date-time")))]
    since: Timestamp,
    /// When this happened.
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("format" = "date-time")))]
    at: Timestamp,
    /// The incident: an alert joins that of an alert of the same service that began firing within an hour before.
    incident: &'a str,
    /// Counts the transitions of this check and resource.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    number: u64,
    /// Why the check's result is unknown at present.
    unknown: Option<String>,
    /// Earlier transitions that could be neither sent nor kept.
    dropped: u64,
}

/// What to do.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
struct AlertRemedy<'a> {
    action: String,
    /// The exact AWS CLI command; where there are several, each has a line of its own, and is an alternative or a step to decide
    /// on: the action says which. Each line can be pasted as it is.
    command: Option<&'a str>,
    #[cfg_attr(feature = "schema", schemars(extend("format" = "uri")))]
    console: Option<&'a str>,
    /// The stack's `RunbookUrl` with the check's id.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "uri")))]
    runbook: Option<String>,
}

/// The body, with the first `in_full` transitions.
pub(super) fn body(content: &Content<'_>, in_full: usize) -> String {
    let envelope = content.envelope;
    let transitions: Vec<_> =
        content.transitions.iter().take(in_full).map(|transition| flat(transition, envelope.origin)).collect();
    let message = AlertMessage {
        schema_version: SCHEMA_VERSION,
        account_id: envelope.origin.account.as_ref().map(AccountId::as_str),
        region: envelope.origin.region.name(),
        stack: envelope.origin.stack.as_deref().unwrap_or_default(),
        service_id: envelope.partition.service().map(ServiceId::as_str),
        service_name: envelope.name.map(strip_invisible),
        function: envelope.function,
        severity: content.severity,
        kinds: &content.kinds,
        omitted: content.transitions.len() - transitions.len(),
        transitions,
        caution: content.banner.as_deref(),
    };
    serde_json::json!(message).to_string()
}

/// The transition without the fields that only the guard itself uses.
fn flat<'a>(transition: &'a Transition, origin: &Origin) -> AlertTransition<'a> {
    let Transition { number, kind, check, resource, at, since, incident, finding, unknown, dropped, .. } = transition;
    let remedy = &finding.remedy;
    // The remedy of a resolved alert must not be carried out.
    let (action, command) = match kind {
        Kind::Resolved => ("Nothing: the check passes again.", None),
        _ => (remedy.action.as_str(), remedy.command.as_deref()),
    };
    AlertTransition {
        kind: *kind,
        check,
        resource: strip_invisible(resource),
        severity: finding.severity,
        summary: summary(transition),
        impact: &finding.impact,
        evidence: finding.evidence.iter().map(|line| strip_invisible(line)).collect(),
        remedy: AlertRemedy {
            action: strip_invisible(action),
            command,
            console: remedy.console.as_deref(),
            runbook: runbook(transition, origin),
        },
        cause: finding.cause.as_ref(),
        since: *since,
        at: *at,
        incident,
        number: *number,
        unknown: unknown.as_deref().map(strip_invisible),
        dropped: *dropped,
    }
}
