"""Every policy document, in each partition, checked against AWS's list of actions, resources and condition keys.

The list is the service authorization reference that cfn-lint contains.
"""
import json
import pathlib
import re
import subprocess
import sys

import pytest
from cfnlint.data import AdditionalSpecs
from cfnlint.helpers import load_resource
from rendering import (
    ACCOUNT,
    ALL_FUNCTIONS,
    KEY,
    PARTITIONS,
    ROOT,
    SERVICE,
    SLACK,
    TEAMS,
    allowed,
    documents_of,
    follow,
    many,
    partition_of,
    policies,
    render,
    render_chat,
    source,
    statements,
)

REFERENCE = load_resource(AdditionalSpecs, "Policies.json")
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
GLOBAL_KEYS = {"aws:SourceAccount", "aws:SourceArn", "aws:PrincipalAccount", "aws:PrincipalArn",
               "aws:PrincipalIsAWSService", "aws:ViaAWSService"}
# https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html
KMS_KEYS = {"kms:ViaService", "kms:EncryptionContext:aws:sns:topicArn"}
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
DYNAMODB_KEYS = {"dynamodb:LeadingKeys"}
OPERATORS = {"StringEquals", "ForAllValues:StringEquals", "StringLike", "ArnEquals", "ArnLike", "ArnNotEquals",
             "BoolIfExists"}
ROLES = [f"{name}Role" for name in ALL_FUNCTIONS]
WRITES = re.compile(r"(ec2|elasticloadbalancing):(?!Describe|Get)")
STRICT = {"UntrustedRequests": "reject", "CrossZone": "enforce", "AlertEmail": "ops@example.com"}
LOAD_BALANCER = f"arn:aws:elasticloadbalancing:eu-central-1:{ACCOUNT}:loadbalancer/net/db/0123456789abcdef"
TARGET_GROUP = f"arn:aws:elasticloadbalancing:eu-central-1:{ACCOUNT}:targetgroup/db/0123456789abcdef"
CENTRAL = "999988887777"
# According to the reference it can be limited to datasets, and AWS's own metrics are in none.
UNLIMITED = {"cloudwatch:GetMetricData"}


def known(action):
    """The entries of the actions that match, since the name can have a wildcard."""
    service, name = action.lower().split(":")
    actions = REFERENCE[service]["Actions"]
    found = {key: value for key, value in actions.items() if re.fullmatch(name.replace("*", ".*"), key)}
    assert found, f"no such action: {action}"
    return found


def matches(arn, form):
    pattern = re.escape(form)
    for variable in ("Partition", "Region", "Account"):
        pattern = pattern.replace(re.escape("${" + variable + "}"), "[^:]*")
    return re.fullmatch(pattern.replace(re.escape(".*"), ".*"), arn)


def fits(action, arn):
    """Whether the action can be limited to this type of resource."""
    service = action.lower().split(":")[0]
    kinds = {kind.lower() for entry in known(action).values() for kind in entry.get("Resources", [])}
    forms = [form for kind in kinds for form in REFERENCE[service]["Resources"][kind]["ARNFormats"]]
    return any(matches(arn, form) for form in forms)


def problems(name, kind, document):
    """Statements that AWS would reject or ignore, or that allow more than necessary."""
    assert document["Version"] == "2012-10-17", name
    for statement in statements(document):
        assert set(statement) <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}, name
        actions = many(statement["Action"])
        for action in actions:
            known(action)
            assert action.count("*") == 0 or action == "kms:GenerateDataKey*", (name, action)
        for operator, keys in statement.get("Condition", {}).items():
            if operator not in OPERATORS:
                yield f"{name}: {operator}"
            services = {action.split(":")[0] for action in actions}
            known_keys = GLOBAL_KEYS | (KMS_KEYS if services == {"kms"} else set()) | (
                DYNAMODB_KEYS if services == {"dynamodb"} else set())
            yield from (f"{name}: {key}" for key in keys if key not in known_keys)
        if kind == "trust":
            continue
        resources = many(statement["Resource"])
        for action in actions:
            limited = any(entry.get("Resources") for entry in known(action).values())
            if resources == ["*"]:
                if limited and action not in UNLIMITED:
                    yield f"{name}: {action} can be limited to resources"
            elif not limited:
                yield f"{name}: {action} cannot be limited, so this allows nothing"
            elif not any(fits(action, arn) for arn in resources):
                yield f"{name}: {action} applies to none of {resources}"
        for arn in resources:
            if arn != "*" and not any(fits(action, arn) for action in actions):
                yield f"{name}: none of {actions} applies to {arn}"
        if statement.get("Principal") == "*" and statement["Effect"] == "Allow":
            yield f"{name}: allowed to anyone"


OTHER_REGION = {"eu-central-1": "us-east-1", "cn-north-1": "cn-northwest-1", "us-gov-west-1": "us-gov-east-1"}


def topic(region, account=ACCOUNT, name="alerts"):
    partition = "aws" if region == "us-east-1" else PARTITIONS.get(region) or PARTITIONS[
        next(home for home, other in OTHER_REGION.items() if other == region)]
    return f"arn:{partition}:sns:{region}:{account}:{name}"


def existing_topics(region):
    """Existing alert topics: near, in another account, in another Region, and in another of both."""
    return [topic(region), topic(region, CENTRAL), topic(OTHER_REGION[region]), topic(OTHER_REGION[region], CENTRAL)]


def variants(region):
    has_chat = region == "eu-central-1"
    key = KEY.replace("arn:aws:", f"arn:{PARTITIONS[region]}:").replace("eu-central-1", region)
    return [render(region), render(region, **STRICT, **follow(region), **(SLACK if has_chat else {}), KmsKeyArn=key),
            *(render(region, AlertTopicArn=arn, PagerTopicArn=topic(region, name="pager"), **follow(region))
              for arn in existing_topics(region)),
            *([render_chat(region, **SLACK, **TEAMS)] if has_chat else []),
            render(region, **STRICT, EnforceCrossZoneOn=f"{LOAD_BALANCER},{TARGET_GROUP}")]


@pytest.mark.parametrize("region", PARTITIONS)
def test_every_policy_is_valid_and_no_wider_than_necessary(region):
    checked = [(name, kind, document) for rendered in variants(region) for name, kind, document in policies(rendered)]
    assert len(checked) > 50
    assert [problem for policy in checked for problem in problems(*policy)] == []


@pytest.mark.parametrize("action, resource, problem", [
    ("ec2:AcceptVpcEndpointConnection", "*", None), ("sns:Publish", "*", "can be limited"),
    ("ec2:DescribeVpcEndpointConnections", f"arn:aws:ec2:x:{ACCOUNT}:vpc-endpoint-service/y", "cannot be limited"),
    ("sqs:SendMessage", f"arn:aws:sns:eu-central-1:{ACCOUNT}:topic", "applies to none of"),
])
def test_the_policy_checks_find_mistakes(action, resource, problem):
    document = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": action, "Resource": resource}}
    if problem is None:
        with pytest.raises(AssertionError, match="no such action"):
            list(problems("it", "identity", document))
    else:
        assert any(problem in found for found in problems("it", "identity", document))


@pytest.mark.parametrize("region, partition", PARTITIONS.items())
def test_every_arn_has_the_stacks_partition(region, partition):
    for rendered in variants(region)[:-1]:
        text = json.dumps([rendered.resources, rendered.outputs])
        arns = set(re.findall(r'arn:([^:"]+):', text.replace("arn:aws:iam::444455556666:root", "")))
        # The notification topic's policy has "*".
        assert arns <= {partition, "*"}


def test_every_resource_type_exists_in_each_partition():
    """The types that some partitions lack are in a template of their own, infra/chat.yaml."""
    command = [str(pathlib.Path(sys.executable).with_name("cfn-lint")), "--format", "parseable", "--regions",
               *PARTITIONS, "--", str(ROOT / "template.yaml")]
    lines = subprocess.run(command, text=True, capture_output=True, check=False).stdout.splitlines()
    assert lines == []


def test_chat_is_rejected_where_amazon_q_is_not_available():
    rule = source()["Rules"]["ChatIsNotInThisRegion"]
    [regions, _] = rule["RuleCondition"]["Fn::Contains"]
    assert {"cn-north-1", "us-gov-west-1"} <= set(regions)
    refused = json.dumps(rule["Assertions"][0]["Assert"])
    assert "SlackWorkspaceId" in refused
    assert "TeamsTenantId" in refused


# ---- permissions of each role


def test_each_role_can_be_assumed_by_one_service_only(rendered):
    services = {name: statements(document)[0]["Principal"]["Service"]
                for name, kind, document in policies(rendered) if kind == "trust"}
    own = {**dict.fromkeys(ROLES, "lambda.amazonaws.com"),
           **{name.replace("Role", "ScheduleRole"): "scheduler.amazonaws.com" for name in ROLES}}
    assert services == own
    abroad = render(AlertTopicArn=topic("eu-central-1", CENTRAL), **follow())
    services = {name: statements(document)[0]["Principal"]["Service"]
                for name, kind, document in policies(abroad) if kind == "trust"}
    assert services == {**own, "AlarmOverRole": "events.amazonaws.com"}


def test_the_chat_channels_role_may_do_nothing():
    chat = render_chat(**SLACK, **TEAMS)
    assert [(name, kind) for name, kind, _ in policies(chat)] == [("Role", "trust")]
    assert documents_of(chat, "Role") == []


@pytest.mark.parametrize("name", ALL_FUNCTIONS)
def test_a_schedule_may_start_only_its_function(rendered, name):
    assert allowed(rendered, f"{name}ScheduleRole") == {
        ("lambda:InvokeFunction", f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:{name}"),
        ("sqs:SendMessage", f"arn:aws:sqs:eu-central-1:{ACCOUNT}:DeadLetters")}


def writes(**parameters):
    rendered = render(**parameters)
    return {role: {pair for pair in allowed(rendered, role) if WRITES.match(pair[0])}
            for role in rendered.of_type("AWS::IAM::Role")}


def test_each_role_may_change_only_what_its_function_needs():
    def service(action, service_id=SERVICE):
        return action, f"arn:aws:ec2:eu-central-1:{ACCOUNT}:vpc-endpoint-service/{service_id}"

    def all_of(action, kind):
        return action, f"arn:aws:elasticloadbalancing:eu-central-1:{ACCOUNT}:{kind}/*"
    load_balancers, groups = "elasticloadbalancing:ModifyLoadBalancerAttributes", \
        "elasticloadbalancing:ModifyTargetGroupAttributes"
    accept = service("ec2:AcceptVpcEndpointConnections")
    nothing = dict.fromkeys(writes(), frozenset())
    assert writes() == {**nothing, "ConnectionAcceptorRole": {accept}}
    assert writes(UntrustedRequests="reject") == {
        **nothing, "ConnectionAcceptorRole": {accept, service("ec2:RejectVpcEndpointConnections")}}
    assert writes(EndpointServiceIds=f"{SERVICE},vpce-svc-00000000")["ConnectionAcceptorRole"] == {
        accept, service(accept[0], "vpce-svc-00000000")}
    enforced = writes(CrossZone="enforce")
    assert enforced["DriftWatcherRole"] == {
        (action, arn) for action in (load_balancers, groups)
        for _, arn in (all_of(action, "loadbalancer/net"), all_of(action, "targetgroup"))}
    limited = writes(CrossZone="enforce", EnforceCrossZoneOn=f"{LOAD_BALANCER}, {TARGET_GROUP}")
    assert limited["DriftWatcherRole"] == {
        (action, arn) for action in (load_balancers, groups) for arn in (LOAD_BALANCER, TARGET_GROUP)}
    assert writes(**{**STRICT, "DryRun": "true"}) == nothing


def test_target_follower_may_change_the_named_groups_and_deregisters_only_to_replace():
    def changes(**parameters):
        return {role: pairs for role, pairs in writes(**follow(), **parameters).items() if pairs}
    accept = writes()["ConnectionAcceptorRole"]
    group = follow()["FollowTargetGroups"]
    register, deregister = [(f"elasticloadbalancing:{action}", group)
                            for action in ("RegisterTargets", "DeregisterTargets")]
    assert changes() == {"ConnectionAcceptorRole": accept, "TargetFollowerRole": {register, deregister}}
    both = {"FollowTargetGroups": f"{group}, {TARGET_GROUP}"}
    assert writes(**{**follow(), **both})["TargetFollowerRole"] == {
        (action, arn) for action, _ in (register, deregister) for arn in (group, TARGET_GROUP)}
    assert writes(**{**follow(), "FollowHostnames": "register"})["TargetFollowerRole"] == {register}
    assert changes(DryRun="true") == {}
    # A group by itself changes nothing, and no group is never every group.
    assert "TargetFollowerRole" not in writes(FollowTargetGroups=group)
    assert writes(FollowHostnames="replace")["TargetFollowerRole"] == set()


def test_without_being_asked_for_there_is_nothing_of_target_follower():
    assert [name for name in [*render().resources, *render().outputs] if "Follow" in name] == []
    assert "TargetFollower" not in json.dumps(render().resources)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_use_the_configured_key_and_no_other(role):
    used = {pair for pair in allowed(render(KmsKeyArn=KEY, **follow()), role) if pair[0].startswith("kms:")}
    assert used == {("kms:Decrypt", KEY), ("kms:GenerateDataKey*", KEY)}
    assert not [pair for pair in allowed(render(**follow()), role) if pair[0].startswith("kms:")]


@pytest.mark.parametrize("region", PARTITIONS)
def test_a_role_may_publish_to_the_alert_topic_only(region):
    own = f"arn:{PARTITIONS[region]}:sns:{region}:{ACCOUNT}:AlertTopic"
    topics = [("", own), *((arn, arn) for arn in existing_topics(region))]
    for rendered, expected in [(render(region, AlertTopicArn=given, **follow(region)), arn) for given, arn in topics]:
        for role in ROLES:
            published = {arn for action, arn in allowed(rendered, role) if action == "sns:Publish"}
            assert published == {expected}


@pytest.mark.parametrize("region", PARTITIONS)
def test_a_role_may_use_the_key_of_an_existing_topic_only_through_sns_for_that_topic(region):
    for arn in existing_topics(region):
        home = arn.split(":")[3]
        rendered = render(region, AlertTopicArn=arn, **follow(region))
        using = [role for role in rendered.of_type("AWS::IAM::Role") if any(
            action.startswith("kms:") for action, _ in allowed(rendered, role))]
        abroad = home == region and CENTRAL in arn
        assert sorted(using) == sorted([*ROLES, *(["AlarmOverRole"] if abroad else [])])
        for role in using:
            [statement] = [statement for document in documents_of(rendered, role) for statement in statements(document)
                           if "kms:Decrypt" in many(statement["Action"])]
            assert statement == {
                "Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                "Resource": f"arn:{PARTITIONS[region]}:kms:{home}:*:key/*",
                "Condition": {"StringEquals": {"kms:EncryptionContext:aws:sns:topicArn": arn},
                              "StringLike": {"kms:ViaService": f"sns.{home}.amazonaws.com*"}}}


def test_only_the_notes_of_runs_can_be_updated_in_place(rendered):
    """By the functions that events start. Every other write to the table is a conditional PutItem."""
    allowed = {}
    for name, _, document in policies(rendered):
        for statement in many(document["Statement"]):
            if "dynamodb:UpdateItem" in many(statement["Action"]):
                allowed[name.split("/")[0]] = statement
    assert set(allowed) == {"ConnectionAcceptorRole", "DriftWatcherRole"}
    for statement in allowed.values():
        assert many(statement["Action"]) == ["dynamodb:UpdateItem"]
        assert statement["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["runs"]}}


# In each partition, its Region with the longest name.
LONGEST_REGIONS = ["mexico-central-1", "cn-northwest-1", "us-gov-east-1"]
SERVICES = 30  # per stack, as the template and the documents say
# Followed target groups, by the number of services, as their parameter says.
FOLLOWED = {SERVICES: 3, 15: 10}


def length(value):
    """In characters, without white space."""
    return len(json.dumps(value, separators=(",", ":")))


def largest_parameters(region, existing_topic, services=SERVICES):
    """The most services, two ports for each, and long values for everything else."""
    partition, ids = partition_of(region), [f"vpce-svc-{number:017x}" for number in range(services)]
    arn = f"arn:{partition}:{{}}:{region}:{ACCOUNT}:{{}}"
    group = arn.format("elasticloadbalancing", f"targetgroup/{'x' * 32}/0123456789abcdef")
    parameters = {
        "EndpointServiceIds": ",".join(ids), "ListenerPorts": ",".join(f"{service}=5432+443" for service in ids),
        "DbtPrincipals": ",".join([f"arn:{partition}:iam::444455556666:root"] * 4),
        "ExpectedEndpoints": ",".join(f"{service}=vpce-{'e' * 17}" for service in ids),
        "KnownAccounts": ",".join(["555566667777"] * 20), "DbtCidrs": ",".join(["10.100.200.0/24"] * 10),
        "UntrustedRequests": "reject", "CrossZone": "enforce",
        "FollowHostnames": "replace", "FollowTargetGroups": ",".join([group] * FOLLOWED[services]),
        "EnforceCrossZoneOn": ",".join([group] * (PARAMETER // (len(group) + 1))),
        "KmsKeyArn": arn.format("kms", "key/mrk-" + "0" * 32), "PagerTopicArn": arn.format("sns", "p" * 256),
        "AlertTopicArn": arn.format("sns", "a" * 256).replace(ACCOUNT, CENTRAL) if existing_topic else "",
        "RunbookUrl": "https://" + "a" * (source()["Parameters"]["RunbookUrl"]["MaxLength"] - len("https://"))}
    assert all(len(value) <= PARAMETER for value in parameters.values())
    return parameters


# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
PARAMETER, RESOURCES = 4_096, 500
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
INLINE, MANAGED = 10_240, 6_144
# https://docs.aws.amazon.com/sns/latest/dg/sns-access-policy-language-api-permissions-reference.html
TOPIC_POLICY = 30_720
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
PATTERN = 2_048
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
ENVIRONMENT = 4_096
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
DESCRIPTION = 1_024


@pytest.mark.parametrize("services", FOLLOWED)
@pytest.mark.parametrize("existing_topic", [False, True])
@pytest.mark.parametrize("region", LONGEST_REGIONS)
def test_the_largest_stack_stays_within_the_quotas(region, existing_topic, services):
    rendered = render(region, stack="s" * 128, **largest_parameters(region, existing_topic, services))
    managed = [policy["PolicyDocument"] for policy in rendered.of_type("AWS::IAM::ManagedPolicy").values()]
    assert all(length(document) <= MANAGED for document in managed)
    for role in rendered.of_type("AWS::IAM::Role"):
        sizes = [length(document) for document in documents_of(rendered, role) if document not in managed]
        assert sum(sizes) <= INLINE, (role, sum(sizes))
    for policy in rendered.of_type("AWS::SNS::TopicPolicy").values():
        assert length(policy["PolicyDocument"]) <= TOPIC_POLICY
    for name, rule in rendered.of_type("AWS::Events::Rule").items():
        assert length(rule["EventPattern"]) <= PATTERN, name
    for function in rendered.of_type("AWS::Lambda::Function").values():
        assert length(function["Environment"]["Variables"]) <= ENVIRONMENT
    for name, alarm in rendered.of_type("AWS::CloudWatch::Alarm").items():
        assert len(alarm["AlarmDescription"]) <= DESCRIPTION, name
    assert len(rendered.resources) <= RESOURCES


def test_the_documents_name_the_limit_that_was_computed():
    assert f"At most {SERVICES} per stack." in source()["Parameters"]["EndpointServiceIds"]["Description"]
    followed = source()["Parameters"]["FollowTargetGroups"]["Description"]
    assert f"At most {FOLLOWED[SERVICES]}, or {FOLLOWED[15]} in a stack of up to 15 services." in followed
    assert f"at most {SERVICES} per stack" in (ROOT / "README.md").read_text()
    assert f"a stack takes at most {SERVICES}." in (ROOT / "docs/cost.md").read_text()
    assert f"SERVICES_PER_STACK = {SERVICES} " in (ROOT / "tools/cost.py").read_text()
