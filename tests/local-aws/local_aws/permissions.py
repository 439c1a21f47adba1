"""IAM: the resource for which each EC2 and ELBv2 call is authorized, and the text of denials.

ministack evaluates the policies (its AUTH mode) but does not know the resources of the PrivateLink calls. According to
the service authorization reference, Accept, Reject and the Modify calls are authorized for the vpc-endpoint-service,
and network changes for the resource they change. The Describe calls of EC2 and ELBv2 do not support resources: a policy
that names one for them allows nothing.
"""
import json

from ministack.core import iam_actions, iam_evaluator
from ministack.services import ec2, tagging

from . import cbor

_ENDPOINT_SERVICE_CALLS = (
    "AcceptVpcEndpointConnections", "RejectVpcEndpointConnections", "ModifyVpcEndpointServiceConfiguration",
    "ModifyVpcEndpointServicePermissions", "ModifyVpcEndpointServicePayerResponsibility",
    "StartVpcEndpointServicePrivateDnsVerification", "CreateVpcEndpointConnectionNotification")

# The parameter that holds the resource's id, and the resource type in ARNs.
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
    account, _, resource = arn.partition("sts::")[2].partition(":")
    return f"arn:aws:iam::{account}:role/{resource.split('/')[1]}" if resource.startswith("assumed-role/") else arn


def _is_rpc(service, path):
    """Smithy's RPC protocol, which the AWS SDK for Rust speaks to CloudWatch: the path names the action."""
    return service == "monitoring" and "/operation/" in path


def install():
    resource_arn, denied_response = iam_actions.extract_resource_arn, iam_actions.access_denied_response
    condition_key, action_of = iam_evaluator._resolve_condition_key, iam_actions.extract_iam_action

    def named_action(service, method, path, headers, body, form):
        if _is_rpc(service, path):
            return f"cloudwatch:{path.rsplit('/', 1)[-1]}"
        return action_of(service, method, path, headers, body, form)

    def authorized_resource(service, method, path, headers, body, form, region, account):
        action = iam_actions._query_param(form, "Action")
        if _is_rpc(service, path):
            body = json.dumps(cbor.loads(body), default=str).encode()
        if service in ("ec2", "elasticloadbalancing") and action.startswith("Describe"):
            return "*"
        if service == "elasticloadbalancing" and action in ("AddTags", "RemoveTags"):
            return iam_actions._query_param(form, "ResourceArns.member.1") or "*"
        if service == "ec2" and action in _ENDPOINT_SERVICE_CALLS:
            service_id = iam_actions._query_param(form, "ServiceId")
            return f"arn:aws:ec2:{region}:{account}:vpc-endpoint-service/{service_id}" if service_id else "*"
        if service == "ec2" and action == "DeleteVpcEndpointServiceConfigurations":
            service_id = iam_actions._query_param(form, "ServiceId.1")
            return f"arn:aws:ec2:{region}:{account}:vpc-endpoint-service/{service_id}"
        if service == "ec2" and action in _NETWORK_CALLS:
            parameter, kind = _NETWORK_CALLS[action]
            return f"arn:aws:ec2:{region}:{account}:{kind}/{iam_actions._query_param(form, parameter)}"
        return resource_arn(service, method, path, headers, body, form, region, account)

    def worded_denial(service, action, principal_arn, request_id, **more):
        """Denials name the resource. EC2 adds a sentence before, and SNS writes its actions as SNS:Action."""
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
        """For aws:ResourceTag. EC2 keeps its tags by id."""
        if arn.split(":")[2:3] == ["ec2"]:
            return {tag["Key"]: tag["Value"] for tag in ec2._tags.get(arn.rsplit("/", 1)[-1], [])}
        return resource_tags(arn)

    resource_tags = tagging.resource_tags
    tagging.resource_tags = tags_of
    iam_evaluator._resolve_condition_key = resolved_condition_key
    iam_actions.extract_iam_action = named_action
    iam_actions.extract_resource_arn = authorized_resource
    iam_actions.access_denied_response = worded_denial
