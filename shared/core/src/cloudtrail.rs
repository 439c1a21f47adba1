//! Converts a CloudTrail record into the change that it reports. Pure.
//!
//! Record shapes differ by service and by the age of the API call:
//!
//! - EC2's calls on endpoint services, and its newer calls, wrap the request: `{"ACTIONRequest": {…}}`. A list item is
//!   `{"tag": 1, "content": …}`; a one-item list is the item itself, and an empty list is `""` or `{}`.
//! - A value made of digits, such as an account id, may be a number without its leading zeros.
//! - A failed call has a record too, with an `errorCode`. Any member may be missing.
//!
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::trigger::{Change, Trigger, as_text, reported};

/// The trigger for `record`.
pub fn trigger(record: &Value) -> Trigger {
    match (change(record), record["eventName"].as_str()) {
        (Some(change), _) => Trigger::Change(change),
        (None, Some(_)) => Trigger::Refused,
        (None, None) => Trigger::Unrecognised,
    }
}

/// The change that `record` reports; `None` for a call that failed or had no effect.
fn change(record: &Value) -> Option<Change> {
    if !record["errorCode"].is_null() {
        return None;
    }
    let or_unknown = |text: Option<String>| reported(text.as_deref().unwrap_or("unknown"));
    let event_name = reported(record["eventName"].as_str()?);
    let parameters = done(&event_name, &record["requestParameters"], &record["responseElements"])?;
    Some(Change {
        principal: or_unknown(caller(&record["userIdentity"])),
        source_ip_address: or_unknown(as_text(&record["sourceIPAddress"])),
        event_time: or_unknown(as_text(&record["eventTime"])),
        id: or_unknown(as_text(&record["eventID"])),
        parameters: if parameters.is_null() { String::new() } else { parameters.to_string() },
        event_name,
    })
}

/// The caller. An AWS service that acts for itself has no ARN, and neither does an IAM Identity Center user.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html>
fn caller(identity: &Value) -> Option<String> {
    let fields = ["arn", "invokedBy", "userName", "principalId", "accountId"];
    fields.into_iter().filter_map(|field| as_text(&identity[field])).find(|text| !text.is_empty())
}

/// The parameters that took effect; `None` if none did.
fn done(event_name: &str, request: &Value, response: &Value) -> Option<Value> {
    let mut failed = BTreeSet::new();
    add_unsuccessful(response, &mut failed);
    let done = without(request, &failed)?;
    // The request names only the attachment, which appears in no route. The response names the VPC and the transit
    // gateway.
    // https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteTransitGatewayVpcAttachment.html
    if event_name == "DeleteTransitGatewayVpcAttachment" {
        let attachment = &response["DeleteTransitGatewayVpcAttachmentResponse"]["transitGatewayVpcAttachment"];
        return Some(json!([done, attachment["vpcId"], attachment["transitGatewayId"]]));
    }
    Some(done)
}

/// Adds the ids that the response lists as unsuccessful: a call with such ids still succeeds.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AcceptVpcEndpointConnections.html>
fn add_unsuccessful(response: &Value, failed: &mut BTreeSet<String>) {
    fn add_ids(items: &Value, failed: &mut BTreeSet<String>) {
        match items {
            Value::Array(items) => items.iter().for_each(|item| add_ids(item, failed)),
            Value::Object(fields) => {
                failed.extend(fields.get("resourceId").and_then(as_text));
                fields.values().for_each(|value| add_ids(value, failed));
            }
            _ => {}
        }
    }
    let Value::Object(fields) = response else { return };
    for (name, value) in fields {
        if name == "unsuccessful" {
            add_ids(value, failed);
        } else {
            add_unsuccessful(value, failed);
        }
    }
}

/// The request without the `failed` ids and without removed principals, since removing a principal admits nobody.
/// `None` if one of its lists becomes empty.
fn without(request: &Value, failed: &BTreeSet<String>) -> Option<Value> {
    match request {
        Value::String(id) if failed.contains(id) => None,
        Value::Array(items) => {
            let left: Vec<Value> = items.iter().filter_map(|item| without(item, failed)).collect();
            (items.is_empty() || !left.is_empty()).then_some(Value::Array(left))
        }
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "RemoveAllowedPrincipals");
            kept.map(|(name, value)| Some((name.clone(), without(value, failed)?))).collect()
        }
        other => Some(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use crate::check::CheckContext;
    use crate::testing::{UNTRUSTED, connection, endpoint, only_finding, service, with_connections, with_context};

    /// The request of one of EC2's newer calls, as CloudTrail records it.
    fn wrapped(action: &str, request: &Value) -> Value {
        json!({"eventName": action, "requestParameters": {format!("{action}Request"): request}})
    }

    #[test]
    fn the_caller_has_the_best_name_in_its_record() {
        let service = "autoscaling.amazonaws.com";
        let table = [
            (json!({"arn": "arn:aws:iam::1:user/a", "userName": "a", "invokedBy": service}), "arn:aws:iam::1:user/a"),
            (json!({"type": "AWSService", "invokedBy": service}), service),
            (json!({"arn": "", "type": "IAMUser", "userName": "alice", "accountId": "111122223333"}), "alice"),
            (json!({"type": "AWSAccount", "principalId": "AIDAX:session", "accountId": "1"}), "AIDAX:session"),
            (json!({"type": "IdentityCenterUser", "accountId": 11_122_223_333_u64}), "011122223333"),
            (json!({"type": "Unknown"}), "unknown"),
            (json!(null), "unknown"),
        ];
        for (identity, expected) in table {
            let change = change(&json!({"eventName": "SetSubnets", "userIdentity": identity})).unwrap();
            assert_eq!(change.principal, expected, "{identity}");
        }
    }

    #[test]
    fn a_change_without_details_is_still_a_change() {
        let change = change(&json!({"eventName": "SetSubnets"})).unwrap();
        assert_eq!(change.to_string(), "SetSubnets by unknown from unknown at unknown");
        assert_eq!(change.texts(), None);
    }

    #[test]
    fn a_failed_call_changed_nothing() {
        let (name, code) = ("SetSubnets", "Client.UnauthorizedOperation");
        assert_eq!(trigger(&json!({"eventName": name, "errorCode": code})), Trigger::Refused);
        assert!(matches!(trigger(&json!({"eventName": name, "errorCode": null})), Trigger::Change(_)));
        for record in [json!({"errorCode": code}), json!({}), json!("?"), json!(null)] {
            assert_eq!(trigger(&record), Trigger::Unrecognised, "{record}");
        }
    }

    #[test]
    fn ids_are_found_in_every_shape_of_a_record() {
        let own = UNTRUSTED.parse::<u64>().unwrap();
        let principal = format!("arn:aws:iam::{UNTRUSTED}:root");
        for (added, names_account) in [
            (json!({"tag": 1, "content": principal}), true),
            (json!([{"tag": 1, "content": "arn:aws:iam::1:root"}, {"tag": 2, "content": principal}]), true),
            (json!({"tag": 1, "content": format!("arn:aws:iam::{UNTRUSTED}:role/a/b")}), true),
            (json!({"tag": 1, "content": own}), true),
            (json!({"tag": 1, "content": "*"}), true),
            (json!({"tag": 1, "content": "arn:aws:iam::888888888888:root"}), false),
            (json!({"tag": 1, "content": format!("arn:aws:sns:r:{UNTRUSTED}:topic")}), false),
            (json!(""), false),
            (json!({}), false),
        ] {
            let request = json!({"ServiceId": service(1), "AddAllowedPrincipals": added});
            let change = change(&wrapped("ModifyVpcEndpointServicePermissions", &request)).unwrap();
            assert!(change.names(service(1).as_str()) && !change.names(service(2).as_str()), "{added}");
            assert_eq!(change.names(UNTRUSTED), names_account, "{added}");
        }
    }

    #[test]
    fn a_removed_permission_does_not_name_its_account() {
        let removed = json!({"tag": 1, "content": format!("arn:aws:iam::{UNTRUSTED}:root")});
        let request = json!({"ServiceId": service(1), "RemoveAllowedPrincipals": removed});
        let change = change(&wrapped("ModifyVpcEndpointServicePermissions", &request)).unwrap();
        assert!(change.names(service(1).as_str()) && !change.names(UNTRUSTED), "{}", change.parameters);
    }

    #[test]
    fn a_cause_of_a_connection_is_the_change_that_admitted_it() {
        let connections = vec![connection(1, Some(UNTRUSTED), "available")];
        let topology = with_connections(connections);
        let is_cause = |record: &Value| {
            let changes: Vec<Change> = change(record).into_iter().collect();
            let untrusted = catalogue::find("connection.untrusted").unwrap();
            let results = with_context(&topology, |context| {
                catalogue::evaluate_checks(&[untrusted], CheckContext { changes: &changes, ..context })
            });
            only_finding(results).cause.is_some()
        };
        let allow = |number, member: &str| {
            let principal = json!({"tag": 1, "content": format!("arn:aws:iam::{UNTRUSTED}:root")});
            wrapped("ModifyVpcEndpointServicePermissions", &json!({"ServiceId": service(number), member: principal}))
        };
        assert!(is_cause(&allow(1, "AddAllowedPrincipals")));
        assert!(!is_cause(&allow(2, "AddAllowedPrincipals")), "on another service");
        assert!(!is_cause(&allow(1, "RemoveAllowedPrincipals")));
        let accept = json!({"ServiceId": service(1), "VpcEndpointId": {"tag": 1, "content": endpoint(1)}});
        let mut accepted = wrapped("AcceptVpcEndpointConnections", &accept);
        assert!(is_cause(&accepted));
        let failed = json!({"item": {"resourceId": endpoint(1), "error": {"code": "InvalidState"}}});
        accepted["responseElements"] = json!({"AcceptVpcEndpointConnectionsResponse": {"unsuccessful": failed}});
        assert!(!is_cause(&accepted), "it accepted nothing");
    }

    #[test]
    fn unsuccessful_items_are_not_part_of_the_change() {
        let item = |number| json!({"error": {"code": "InvalidState"}, "resourceId": endpoint(number)});
        let asked = |number: u32| json!({"tag": number, "content": endpoint(number)});
        let named = |ids: Value, unsuccessful: Value| {
            let request = json!({"ServiceId": service(1), "VpcEndpointId": ids});
            let mut record = wrapped("AcceptVpcEndpointConnections", &request);
            record["responseElements"] =
                json!({"AcceptVpcEndpointConnectionsResponse": {"xmlns": "x", "unsuccessful": unsuccessful}});
            let change = change(&record)?;
            Some([1, 2].map(|number| change.names(endpoint(number).as_str())))
        };
        let both = || json!([asked(1), asked(2)]);
        assert_eq!(named(both(), json!("")), Some([true, true]));
        assert_eq!(named(both(), json!({"item": item(1)})), Some([false, true]));
        assert_eq!(named(both(), json!({"item": [item(1), item(2)]})), None, "it did nothing");
        assert_eq!(named(asked(1), json!({"item": item(1)})), None);
        assert_eq!(named(asked(1), json!({"item": item(2)})), Some([true, false]));
        assert_eq!(named(asked(1), json!({})), Some([true, false]));
    }

    #[test]
    fn a_deleted_attachment_names_its_vpc_and_transit_gateway() {
        let mut record =
            wrapped("DeleteTransitGatewayVpcAttachment", &json!({"TransitGatewayAttachmentId": "tgw-attach-1"}));
        assert!(change(&record).unwrap().names("tgw-attach-1"), "without a response");
        record["responseElements"] = json!({"DeleteTransitGatewayVpcAttachmentResponse": {"transitGatewayVpcAttachment": {
            "transitGatewayAttachmentId": "tgw-attach-1", "transitGatewayId": "tgw-1", "vpcId": "vpc-1", "state": "deleting"}}});
        let change = change(&record).unwrap();
        assert!(["tgw-attach-1", "tgw-1", "vpc-1"].iter().all(|id| change.names(id)), "{}", change.parameters);
    }
}
