//! The JSON body for programs, as `docs/alert.schema.json` describes it.

use serde_json::json;

use super::Content;

/// The body, with the first `in_full` transitions.
pub(super) fn body(content: &Content<'_>, in_full: usize) -> String {
    let transitions: Vec<_> = content.transitions.iter().take(in_full).collect();
    json!({
        "schemaVersion": "1.0",
        "serviceId": content.service.as_str(),
        "serviceName": content.name,
        "function": content.function,
        "severity": content.severity.as_str(),
        "kind": content.kind.as_str(),
        "transitions": transitions,
        "omitted": content.transitions.len() - transitions.len(),
        "caution": content.caution,
    })
    .to_string()
}
