//! The JSON body for programs, as `docs/alert.schema.json` describes it.

use serde_json::{Value, json};

use super::origin::Origin;
use super::text::runbook;
use super::{Content, summary};
use crate::alerts::transition::{Kind, Transition};
use crate::ids::{AccountId, ServiceId};
use crate::text::strip_invisible;

/// The body, with the first `in_full` transitions.
pub(super) fn body(content: &Content<'_>, in_full: usize) -> String {
    let envelope = content.envelope;
    let transitions: Vec<Value> =
        content.transitions.iter().take(in_full).map(|transition| flat(transition, envelope.origin)).collect();
    json!({
        "schemaVersion": "2.0",
        "accountId": envelope.origin.account.as_ref().map(AccountId::as_str),
        "region": envelope.origin.region.name(),
        "stack": envelope.origin.stack.as_deref().unwrap_or_default(),
        "serviceId": envelope.partition.service().map(ServiceId::as_str),
        "serviceName": envelope.name.map(strip_invisible),
        "function": envelope.function,
        "severity": content.severity.as_str(),
        "kinds": content.kinds.iter().map(|kind: &Kind| kind.as_str()).collect::<Vec<_>>(),
        "omitted": content.transitions.len() - transitions.len(),
        "transitions": transitions,
        "caution": content.banner,
    })
    .to_string()
}

/// The transition without the fields that only the guard itself uses.
fn flat(transition: &Transition, origin: &Origin) -> Value {
    let Transition { number, kind, check, resource, at, since, incident, finding, unknown, dropped, .. } = transition;
    let remedy = &finding.remedy;
    // Nobody must carry out the remedy of an alert that is over.
    let (action, command) = match kind {
        Kind::Resolved => ("Nothing: the check passes again.", None),
        _ => (remedy.action.as_str(), remedy.command.as_deref()),
    };
    json!({
        "kind": kind.as_str(),
        "check": check,
        "resource": strip_invisible(resource),
        "severity": finding.severity.as_str(),
        "summary": summary(transition),
        "impact": finding.impact,
        "evidence": finding.evidence.iter().map(|line| strip_invisible(line)).collect::<Vec<_>>(),
        "remedy": {
            "action": strip_invisible(action),
            "command": command,
            "console": remedy.console,
            "runbook": runbook(transition, origin),
        },
        "cause": finding.cause,
        "since": since,
        "at": at,
        "incident": incident,
        "number": number,
        "unknown": unknown.as_deref().map(strip_invisible),
        "dropped": dropped,
    })
}
