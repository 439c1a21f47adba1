"""IAM: the resource of each EC2 and ELBv2 call for its authorization, and the text of denials.

ministack evaluates the policies (its AUTH mode) but does not know the resources of the PrivateLink calls. According to
the service authorization reference, Accept, Reject, the Modify calls and the allowed principals are authorized for the
vpc-endpoint-service, and network changes for the changed resource. The other Describe calls of EC2 and ELBv2 do not
support resources: a policy that names one for them allows nothing.
"""
import json

from ministack.core import iam_actions, iam_evaluator
from ministack.services import ec2, tagging

from . import callers, cbor, connection_notifications, endpoint_services

# The parameter with the endpoint service's id.
_ENDPOINT_SERVICE_CALLS = {**dict.fromkeys((
    "AcceptVpcEndpointConnections", "RejectVpcEndpointConnections", "ModifyVpcEndpointServiceConfiguration",
    "ModifyVpcEndpointServicePermissions", "ModifyVpcEndpointServicePayerResponsibility",
    "StartVpcEndpointServicePrivateDnsVerification", "CreateVpcEndpointConnectionNotification",
    "DescribeVpcEndpointServicePermissions"), "ServiceId"), "DeleteVpcEndpointServiceConfigurations": "ServiceId.1"}

# The parameter with the notification's id.
_NOTIFICATION_CALLS = {"DeleteVpcEndpointConnectionNotifications": "ConnectionNotificationId.1",
                       "ModifyVpcEndpointConnectionNotification": "ConnectionNotificationId"}

# The parameter with the resource's id, and the resource type in ARNs.
_NETWORK_CALLS = {
    **dict.fromkeys(("CreateRoute", "ReplaceRoute", "DeleteRoute", "DeleteRouteTable", "AssociateRouteTable",
                     "ReplaceRouteTableAssociation"), ("RouteTableId", "route-table")),
    **dict.fromkeys(("CreateNetworkAclEntry", "ReplaceNetworkAclEntry", "DeleteNetworkAclEntry", "DeleteNetworkAcl",
                     "ReplaceNetworkAclAssociation"), ("NetworkAclId", "network-acl")),
    **dict.fromkeys(("GetManagedPrefixListEntries", "ModifyManagedPrefixList", "DeleteManagedPrefixList"),
                    ("PrefixListId", "prefix-list")),
    **dict.fromkeys(("AcceptVpcPeeringConnection", "RejectVpcPeeringConnection", "DeleteVpcPeeringConnection"),
                    ("VpcPeeringConnectionId", "vpc-peering-connection")),
}


def _principal_arn(arn):
    """aws:PrincipalArn: for a role session, the role's ARN."""
    role = callers.issuer_of(arn)
    return role["Arn"] if role else arn


def _is_rpc(service, path):
    """Whether the path names the action, as in Smithy's RPC protocol, the AWS SDK for Rust's for CloudWatch."""
    return service == "monitoring" and "/operation/" in path


def _resource_of(service, form, ec2_arn):
    """The resource of a call to EC2 or ELBv2; None leaves it to ministack."""
    def parameter(name):
        return iam_actions._query_param(form, name)
    action, endpoint_service = parameter("Action"), None
    if service == "elasticloadbalancing" and action in ("AddTags", "RemoveTags"):
        return parameter("ResourceArns.member.1") or "*"
    if service == "ec2" and action in _ENDPOINT_SERVICE_CALLS:
        endpoint_service = parameter(_ENDPOINT_SERVICE_CALLS[action])
    elif service == "ec2" and action in _NOTIFICATION_CALLS:
        endpoint_service = connection_notifications.service_of(parameter(_NOTIFICATION_CALLS[action]))
    elif service == "ec2" and action in _NETWORK_CALLS:
        name, kind = _NETWORK_CALLS[action]
        return f"{ec2_arn}:{kind}/{parameter(name)}"
    elif service not in ("ec2", "elasticloadbalancing") or not action.startswith("Describe"):
        return None
    return f"{ec2_arn}:vpc-endpoint-service/{endpoint_service}" if endpoint_service else "*"


def install():
    resource_arn, denied_response = iam_actions.extract_resource_arn, iam_actions.access_denied_response
    condition_key, action_of = iam_evaluator._resolve_condition_key, iam_actions.extract_iam_action

    def named_action(service, method, path, headers, body, form):
        if _is_rpc(service, path):
            return f"cloudwatch:{path.rsplit('/', 1)[-1]}"
        return action_of(service, method, path, headers, body, form)

    def authorized_resource(service, method, path, headers, body, form, region, account):
        if _is_rpc(service, path):
            body = json.dumps(cbor.loads(body), default=str).encode()
        if named_action(service, method, path, headers, body, form) == "cloudwatch:DescribeAlarmHistory":
            return f"arn:aws:cloudwatch:{region}:{account}:alarm:*"
        ours = _resource_of(service, form, f"arn:aws:ec2:{region}:{account}")
        return ours or resource_arn(service, method, path, headers, body, form, region, account)

    def worded_denial(service, action, principal_arn, request_id, **more):
        """A denial's text, which names the resource. EC2 adds a sentence before; SNS writes actions as SNS:Action."""
        by_identity_policy = not any(more.get(name) for name in ("error_code", "message", "resource_policy_arn"))
        if by_identity_policy and service in ("acm", "ec2", "elasticloadbalancing", "sns", "dynamodb", "sqs"):
            resource = more.get("resource_arn", "*")
            spelt = action.replace("sns:", "SNS:") if service == "sns" else action
            message = iam_actions.identity_denial_message(spelt, principal_arn, resource,
                                                          more.get("explicit_deny", False))
            if resource == "*":
                message = message.replace(" on resource: *", "")
            if service == "ec2":
                message = f"You are not authorized to perform this operation. {message}"
            more["message"] = message
        return denied_response(service, action, principal_arn, request_id, **more)

    def resolved_condition_key(key, context):
        if key.lower() == "aws:principalarn":
            return _principal_arn(context.principal_arn)
        return condition_key(key, context)

    def tags_of(arn):
        """The tags for aws:ResourceTag. EC2 stores its tags by id."""
        if arn.split(":")[2:3] == ["ec2"]:
            return {tag["Key"]: tag["Value"] for tag in ec2._tags.get(arn.rsplit("/", 1)[-1], [])}
        return resource_tags(arn)

    def enforced(access_key, action, service, region, resource_arn="*", service_context=None):
        """Require a second permission to accept or reject on a service with several Regions. No documentation says that
        AWS demands it for these calls, so the guard must be ready for it.
        """
        denied = enforce(access_key, action, service, region, resource_arn, service_context)
        if denied or action not in ("ec2:AcceptVpcEndpointConnections", "ec2:RejectVpcEndpointConnections"):
            return denied
        if not endpoint_services.other_regions(resource_arn.rsplit("/", 1)[-1]):
            return None
        return enforce(access_key, "vpce:AllowMultiRegion", service, region, resource_arn, service_context)

    enforce, iam_evaluator.enforce = iam_evaluator.enforce, enforced
    resource_tags = tagging.resource_tags
    tagging.resource_tags = tags_of
    iam_evaluator._resolve_condition_key = resolved_condition_key
    iam_actions.extract_iam_action = named_action
    iam_actions.extract_resource_arn = authorized_resource
    iam_actions.access_denied_response = worded_denial
