"""docs/deploy-policy.json allows exactly what deploying the stack needs.

What CloudFormation calls with the deployer's credentials is in AWS's own resource schemas, which cfn-lint contains: for
each type the permissions that creating, reading, updating and deleting it take. tests/infra/test_make_deploy.py deploys
with exactly this policy.
"""
import json
import pathlib
import re
import subprocess
import sys

import cfnlint
import pytest
from rendering import ROOT, SLACK, TEAMS, many, render, render_chat
from test_own_roles import own
from test_policies import fits, known

sys.path.insert(0, str(ROOT / "tools"))

import stackset

POLICY = json.loads((ROOT / "docs/deploy-policy.json").read_text(encoding="utf-8"))
# What infra/deploy.py and the AWS CLI call directly.
DIRECT = {
    "cloudformation:CreateChangeSet", "cloudformation:DeleteChangeSet", "cloudformation:DeleteStack",
    "cloudformation:DescribeChangeSet", "cloudformation:DescribeStackEvents", "cloudformation:DescribeStacks",
    "cloudformation:ContinueUpdateRollback", "cloudformation:RollbackStack",  # in the commands after a failure
    "cloudformation:ExecuteChangeSet", "ec2:DescribeVpcEndpointConnections",
    "ec2:DescribeVpcEndpointServiceConfigurations", "s3:CreateBucket",
    "s3:GetObject", "s3:ListBucket", "s3:PutBucketPublicAccessBlock", "s3:PutObject"}
# The schemas name these for features that the stack's resources do not use. By service, or by action.
UNUSED = {
    # KmsKeyArn: docs/kms.md lists what a key needs.
    "kms", "logs:AssociateKmsKey", "logs:DisassociateKmsKey",
    # Functions in a VPC, with a file system, layers, signing, versions, capacity or a fixed runtime.
    "elasticfilesystem", "s3files", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs",
    "ec2:DescribeNetworkInterfaces", "lambda:GetLayerVersion", "lambda:GetCodeSigningConfig",
    "lambda:PutFunctionCodeSigningConfig", "lambda:DeleteFunctionCodeSigningConfig", "lambda:PublishVersion",
    "lambda:PutRuntimeManagementConfig", "lambda:PutFunctionRecursionConfig", "lambda:PutFunctionScalingConfig",
    "lambda:PassCapacityProvider", "lambda:AssociateRuntimeAlias", "lambda:PutFunctionConcurrency",
    "lambda:DeleteFunctionConcurrency", "s3:GetObjectVersion",
    # Tables that are imported, replicated, streamed or shared.
    "kinesis", "s3:GetObjectMetadata", "dynamodb:DescribeImport", "dynamodb:ImportTable",
    "dynamodb:EnableKinesisStreamingDestination", "dynamodb:DisableKinesisStreamingDestination",
    "dynamodb:UpdateKinesisStreamingDestination", "dynamodb:CreateTableReplica", "dynamodb:AssociateTableReplica",
    "dynamodb:Scan", "dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:PutItem", "dynamodb:GetItem",
    "dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:PutResourcePolicy", "dynamodb:DeleteResourcePolicy",
    "dynamodb:UpdateContributorInsights", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents",
    # Log groups and topics with data protection, delivery or indexes.
    "firehose", "s3:REST.PUT.OBJECT", "logs:CreateLogDelivery", "logs:PutDataProtectionPolicy",
    "logs:DeleteDataProtectionPolicy", "logs:PutIndexPolicy", "logs:DeleteIndexPolicy", "logs:PutResourcePolicy",
    "logs:DeleteResourcePolicy", "logs:PutLogGroupDeletionProtection", "logs:PutBearerTokenAuthentication",
    "sns:PutDataProtectionPolicy",
    # Policies of users and groups.
    "iam:AttachGroupPolicy", "iam:AttachUserPolicy", "iam:DetachGroupPolicy", "iam:DetachUserPolicy",
    "iam:GetUserPolicy", "iam:GetGroupPolicy", "iam:PutUserPolicy", "iam:PutGroupPolicy", "iam:DeleteUserPolicy",
    "iam:DeleteGroupPolicy",
    # Stack policies and termination protection, which the stack's owner may set.
    "cloudformation:GetStackPolicy", "cloudformation:GetTemplate", "cloudformation:SetStackPolicy",
    "cloudformation:UpdateTerminationProtection",
    # The account's first channel and its first table: docs/permissions.md lists them.
    "iam:CreateServiceLinkedRole",
    # FlowLogGroup, Slack and Teams: docs/permissions.md lists them.
    "chatbot", "logs:PutQueryDefinition", "logs:DeleteQueryDefinition", "logs:DescribeQueryDefinitions"}


def is_used(action):
    return action not in UNUSED and action.split(":")[0] not in UNUSED


# With everything that needs a resource of its own.
EVERYTHING = {"Heartbeat": "weekly", "CrossZone": "enforce", "AlertEmail": "a@example.com", "FlowLogGroup": "flows",
              **SLACK, **TEAMS}


@pytest.fixture(scope="module")
def needed():
    """The permissions of every resource type that the stack can have."""
    return needed_with()


def needed_with(**roles):
    everything = [render(**EVERYTHING, **roles), render_chat(**SLACK, **TEAMS, **roles)]
    kinds = {resource["Type"] for rendered in everything for resource in rendered.resources.values()}
    schemas = {schema["typeName"]: schema for path in
               (pathlib.Path(cfnlint.__file__).parent / "data/schemas/resources").glob("*.json")
               if (schema := json.loads(path.read_text(encoding="utf-8"))).get("typeName") in kinds}
    assert set(schemas) == kinds
    return {permission for schema in schemas.values() for name, handler in schema["handlers"].items() if name != "list"
            for permission in handler["permissions"]}


def test_it_allows_what_the_resources_and_the_command_need_and_nothing_else(needed):
    assert actions_of(POLICY["Statement"]) == {action for action in needed if is_used(action)} | DIRECT


def actions_of(statements):
    return {action for statement in statements for action in many(statement["Action"])}


def test_with_own_roles_the_documented_statements_can_go():
    page = (ROOT / "docs/permissions.md").read_text(encoding="utf-8")
    [named] = re.findall(r"the statements\s+`(\w+)`\s+and\s+`(\w+)`\s+can go", page)
    assert set(named) < {statement["Sid"] for statement in POLICY["Statement"]}
    left = [statement for statement in POLICY["Statement"] if statement["Sid"] not in named]
    # SNS reads roles for the logs of deliveries and for subscriptions of Firehose: the stack has neither.
    needed = needed_with(**own()) - {"iam:GetRole"}
    assert actions_of(left) == {action for action in needed if is_used(action)} | DIRECT
    assert {action for action in actions_of(left) if action.startswith("iam:")} == {"iam:PassRole"}


def test_nothing_is_excluded_that_no_resource_could_need(needed):
    services = {permission.split(":")[0] for permission in needed}
    assert needed | services >= UNUSED


def test_every_action_exists_and_is_limited_where_iam_can_limit_it():
    for statement in POLICY["Statement"]:
        for action in many(statement["Action"]):
            limited = any(entry.get("Resources") for entry in known(action).values())
            everywhere = statement["Resource"] == "*"
            if statement["Sid"] == "Transforms":
                continue  # only the user guide has these: cfn-lint's list knows no resource of AWS's own account
            if not everywhere:
                assert any(fits(action, arn) for arn in many(statement["Resource"])), action
            else:
                assert not limited, action


def test_the_documented_sed_names_another_stack_everywhere_but_in_the_bucket():
    """infra/deploy.py uses the same bucket for every stack."""
    page = (ROOT / "docs/permissions.md").read_text(encoding="utf-8")
    [command] = re.findall(r"(?m)^    (sed (?:.*\\\n)+.*) > deploy-policy\.json$", page)
    for name, value in {"account": "444455556666", "region": "us-east-1", "stack": "dbt"}.items():
        command = command.replace(f"<{name}>", value)
    policy = subprocess.run(["sh", "-c", command], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    arns = {arn for statement in json.loads(policy)["Statement"] for arn in many(statement["Resource"])}
    bucket = "arn:aws:s3:::privatelink-guard-444455556666-us-east-1"
    logs = "arn:aws:logs:us-east-1:444455556666:log-group:/privatelink-guard/*"
    assert {arn for arn in arns if "privatelink-guard" in arn} == {bucket, f"{bucket}/privatelink-guard/*", logs}
    assert "arn:aws:cloudformation:us-east-1:444455556666:stack/dbt/*" in arns


def test_the_role_of_stack_sets_knows_the_beginning_of_each_name():
    """CloudFormation cuts the stack's name, which it puts in front. A log group's name is the template's own."""
    rendered = render(stack="StackSet-privatelink-guards-01234567-89ab-cdef-0123-456789abcdef", Heartbeat="weekly",
                      CrossZone="enforce", AlertEmail="a@example.com")
    beginning = dict(stackset.NAMES)["privatelink-guard-"]
    names = {rendered.name(name) for name, resource in rendered.resources.items()
             if resource["Type"] != "AWS::Logs::LogGroup"}
    assert len(names) > 30
    assert [name for name in names if not name.startswith(beginning)] == []


def test_it_fits_into_a_managed_policy():
    """IAM counts no whitespace: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
    assert len(json.dumps(POLICY, separators=(",", ":"))) <= 6144
