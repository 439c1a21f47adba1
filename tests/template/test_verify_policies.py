"""docs/verify-policy.json and docs/verify-consumer-policy.json allow what `make verify` needs, and nothing else.

What CloudFormation calls is in AWS's own resource schemas, as for docs/deploy-policy.json. What make verify calls
itself is in its sources, as command lines of the AWS CLI.
"""
import json
import pathlib
import re

import cfnlint
import pytest
from cfnlint.decode import cfn_yaml
from rendering import ROOT, many
from test_policies import fits, known

PROVIDER, CONSUMER = ("verify-policy.json", "verify.yaml"), ("verify-consumer-policy.json", "verify-consumer.yaml")
# What infra/deploy.py calls for the guard's stack. docs/deploy-policy.json has the rest of what the guard needs.
DEPLOY = {"cloudformation:CreateChangeSet", "cloudformation:DeleteChangeSet", "cloudformation:DescribeChangeSet",
          "cloudformation:ExecuteChangeSet", "s3:GetObject", "s3:PutObject"}
# What make verify calls in each account, besides what the schemas name.
CALLS = {
    PROVIDER: DEPLOY | {
        "cloudformation:CreateStack", "cloudformation:DeleteStack", "cloudformation:DescribeStackEvents",
        "cloudformation:DescribeStacks", "cloudtrail:DescribeTrails", "cloudtrail:GetTrailStatus",
        # For the intrinsic function Fn::GetAZs, according to its reference.
        "ec2:DescribeAccountAttributes", "ec2:DescribeAvailabilityZones",
        "cloudwatch:DescribeAlarmHistory", "cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics",
        "cloudwatch:SetAlarmState", "ec2:DescribeInstances", "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeVpcEndpointConnections", "ec2:DescribeVpcEndpoints",
        "ec2:RejectVpcEndpointConnections", "lambda:InvokeFunction", "logs:FilterLogEvents", "s3:DeleteObject",
        "s3:ListBucket", "sqs:ReceiveMessage"},
    CONSUMER: {
        "cloudformation:CreateStack", "cloudformation:DeleteStack", "cloudformation:DescribeStackEvents",
        "cloudformation:DescribeStacks", "ec2:CreateVpcEndpoint", "ec2:DeleteVpcEndpoints",
        "ec2:DescribeAvailabilityZones", "ec2:DescribeVpcEndpoints", "cloudwatch:ListMetrics"},
}
# The schemas name these for features that the templates' resources do not use: updates, other kinds of targets and
# listeners, IPv6, IPAM, encryption of VPCs, other Regions.
UNUSED = re.compile("|".join([
    "cognito-idp:.*", "iam:.*", "s3tables:.*", "cloudwatch:(Delete|List|Put)(Managed)?InsightRules", "vpce:.*",
    r"\w+:Untag\w+", "ec2:DeleteTags", "elasticloadbalancing:RemoveTags", "ec2:.*SubnetCidrBlock",
    "ec2:ModifySubnetAttribute", "ec2:ModifyVpc(Attribute|Tenancy)", "ec2:(Create|Describe)VpcEncryptionControls?",
    "ec2:UpdateSecurityGroupRuleDescriptions.*", "ec2:DescribeInstances", "ec2:DescribeIpamPools",
    "ec2:ModifyVpcEndpointServicePayerResponsibility", "elasticloadbalancing:Set.*",
    "elasticloadbalancing:(Describe|Modify)CapacityReservation", "elasticloadbalancing:ModifyIpPools",
    "elasticloadbalancing:ModifyTargetGroup", "elasticloadbalancing:ModifyListenerAttributes",
    "sns:PutDataProtectionPolicy", "sns:SetSubscriptionAttributes",
    # Names in the schema that IAM does not know: the permissions are set with Modify….
    "ec2:(Create|Delete)VpcEndpointServicePermissions",
    # Of a bucket, its tags and the block of public access.
    r"s3:(?!CreateBucket$|DeleteBucket$|ListBucket$|DeleteObject$|TagResource$|ListTagsForResource$)\w+"
    r"(?<!BucketTagging)(?<!BucketPublicAccessBlock)"]))
# According to the reference these can be limited to resources. They read, and "*" works however AWS authorizes them:
# all stacks, for one, are described by a call that names none.
UNLIMITED = {"cloudformation:DescribeStacks", "cloudwatch:ListMetrics", "ec2:DescribeVpcAttribute"}
both = pytest.mark.parametrize("files", [PROVIDER, CONSUMER], ids=["provider", "consumer"])


def policy(files):
    return json.loads((ROOT / "docs" / files[0]).read_text(encoding="utf-8"))


def needed(files):
    """The permissions of every resource type in the template."""
    template = cfn_yaml.load(str(ROOT / "infra" / files[1]))
    kinds = {resource["Type"] for resource in template["Resources"].values()}
    schemas = {schema["typeName"]: schema for path in
               (pathlib.Path(cfnlint.__file__).parent / "data/schemas/resources").glob("*.json")
               if (schema := json.loads(path.read_text(encoding="utf-8"))).get("typeName") in kinds}
    assert set(schemas) == kinds
    return {permission for schema in schemas.values() for name, handler in schema["handlers"].items() if name != "list"
            for permission in handler["permissions"]}


def allowed(files):
    return {action for statement in policy(files)["Statement"] for action in many(statement["Action"])}


@both
def test_it_allows_what_the_resources_and_the_command_need_and_nothing_else(files):
    used = {action for action in needed(files) if not UNUSED.fullmatch(action)}
    assert allowed(files) == used | CALLS[files]


@both
def test_every_action_exists_and_is_limited_where_iam_can_limit_it(files):
    for statement in policy(files)["Statement"]:
        for action in many(statement["Action"]):
            limited = any(entry.get("Resources") for entry in known(action).values())
            if statement["Resource"] != "*":
                assert any(fits(action, arn) for arn in many(statement["Resource"])), action
            elif limited:
                assert action in UNLIMITED, action


@both
def test_what_has_no_name_of_verifys_is_limited_to_its_tag(files):
    for statement in policy(files)["Statement"]:
        for arn in many(statement["Resource"]):
            writes = [each for each in many(statement["Action"]) if not re.search(":(Describe|Get|List)", each)]
            if writes and "verify-" not in arn:
                condition = json.dumps(statement["Condition"])
                assert "/privatelink-guard-verify" in condition or "ec2:CreateAction" in condition, statement["Sid"]


@both
def test_it_fits_into_a_managed_policy(files):
    """IAM counts no whitespace: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
    assert len(json.dumps(policy(files), separators=(",", ":"))) <= 6144


def cli_calls():
    """What the sources call with the AWS CLI: the service and the operation."""
    sources = [*(ROOT / "story/src/verify").glob("*.rs"), *(ROOT / "story/src/chapters").glob("*.rs")]
    services = "cloudformation|cloudtrail|cloudwatch|ec2|elbv2|logs|sns|sqs|sts"  # of s3, only `s3 rm`
    text = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "demo.rs")
    return set(re.findall(rf'"({services}) ([a-z0-9-]+)', text))


def test_what_verify_calls_is_allowed():
    plural = {"elbv2": "elasticloadbalancing"}
    calls = {f"{plural.get(service, service)}:{''.join(part.capitalize() for part in operation.split('-'))}"
             for service, operation in cli_calls()}
    assert len(calls) > 25
    every = allowed(PROVIDER) | allowed(CONSUMER)
    # Anybody may ask who they are.
    assert calls - every == {"sts:GetCallerIdentity"}
