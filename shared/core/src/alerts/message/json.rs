//! The JSON body for programs, as `docs/alert.schema.json` describes it.

use serde_json::{Value, json};

use super::Content;
use crate::alerts::transition::{Kind, Transition};
use crate::ids::ServiceId;

/// The body, with the first `in_full` transitions.
pub(super) fn body(content: &Content<'_>, in_full: usize) -> String {
    let transitions: Vec<Value> =
        content.transitions.iter().take(in_full).map(|transition| transition_json(transition)).collect();
    json!({
        "schemaVersion": "1.0",
        "serviceId": content.partition.service().map(ServiceId::as_str),
        "serviceName": content.name,
        "function": content.function,
        "severity": content.severity.as_str(),
        "kinds": content.kinds.iter().map(|kind: &Kind| kind.as_str()).collect::<Vec<_>>(),
        "omitted": content.transitions.len() - transitions.len(),
        "transitions": transitions,
        "caution": content.caution,
    })
    .to_string()
}

/// The transition without what only the guard itself uses.
fn transition_json(transition: &Transition) -> Value {
    let mut json = json!(transition);
    if let Some(finding) = json.get_mut("finding").and_then(Value::as_object_mut) {
        finding.remove("parts");
        finding.remove("related");
    }
    json
}
