"""Roles of one's own: the stack creates none, uses those that are given, and the command prints what each needs."""
import importlib.util
import json
import re
import subprocess

import pytest
from rendering import (
    ACCOUNT,
    ALL_FUNCTIONS,
    KEY,
    PARTITIONS,
    ROOT,
    SERVICE,
    SLACK,
    TEAMS,
    documents_of,
    follow,
    many,
    partition_of,
    render,
    render_chat,
    source,
    statements,
)
from test_policies import CENTRAL, INLINE, LONGEST_REGIONS, MANAGED, STRICT, largest_parameters, length, topic

spec = importlib.util.spec_from_file_location("role_templates", ROOT / "tools/role_templates.py")
role_templates = importlib.util.module_from_spec(spec)
spec.loader.exec_module(role_templates)

COMMAND = ROOT / "target/debug/privatelink-guard"
STACK = "guard"
# The roles of the template, by what the command calls them.
PRINTED = {"connection-acceptor": ["ConnectionAcceptorRole"], "health-watcher": ["HealthWatcherRole"],
           "drift-watcher": ["DriftWatcherRole"], "target-follower": ["TargetFollowerRole"],
           "schedules": [f"{name}ScheduleRole" for name in ALL_FUNCTIONS]}
GIVEN = [name for name in source()["Parameters"] if name.endswith("RoleArn")]
OTHER = "vpce-svc-00000000000000000"


def own(region="eu-central-1"):
    """Every role is given, with a path."""
    return {name: f"arn:{partition_of(region)}:iam::{ACCOUNT}:role/security/{name}" for name in GIVEN}


def printed(role, *flags, region="eu-central-1", stack=STACK, **parameters):
    """What the command prints before the stack is deployed."""
    given = [word for name, value in parameters.items() for word in ("--set", f"{name}={value}")]
    return json.loads(run("--role", role, *flags, "--account", ACCOUNT, "--region", region, "--stack", stack, *given))


def run(*arguments, status=0):
    done = subprocess.run([COMMAND, "policy", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout or done.stderr


def permissions(documents):
    """Each permission by itself, however statements are put together."""
    return {(statement["Effect"], action, resource, json.dumps(statement.get("Condition"), sort_keys=True))
            for document in documents for statement in statements(document)
            for action in many(statement["Action"]) for resource in many(statement["Resource"])}


def created(rendered, roles):
    """What the template's roles allow, with a pattern for the part of a name that only CloudFormation knows."""
    found = permissions(document for role in roles if role in rendered.resources
                        for document in documents_of(rendered, role))
    return {(effect, action, re.sub(r"-X{13}$", "-*", resource), condition)
            for effect, action, resource, condition in found}


def variants(region, role=None):
    """Parameters that the policies depend on, and that make the role's function."""
    needed = follow(region) if role == "target-follower" else {}
    partition = partition_of(region)
    balancer = f"arn:{partition}:elasticloadbalancing:{region}:{ACCOUNT}:loadbalancer/net/db/0123456789abcdef"
    key = KEY.replace("arn:aws:", f"arn:{partition}:").replace("eu-central-1", region)
    every = [{}, {"DryRun": "true"}, {**STRICT, "EndpointServiceIds": f"{SERVICE}, {OTHER}"},
             {**STRICT, "DryRun": "true", "KmsKeyArn": key}, {**STRICT, "EnforceCrossZoneOn": balancer},
             {"AlertTopicArn": topic(region)}, {"AlertTopicArn": topic(region, CENTRAL), "KmsKeyArn": key},
             follow(region), {**follow(region), "FollowHostnames": "register", "DryRun": "true"}]
    return [{**needed, **parameters} for parameters in every]


@pytest.mark.parametrize("role", PRINTED)
@pytest.mark.parametrize("region", PARTITIONS)
def test_the_printed_policy_allows_what_the_template_would(region, role):
    for parameters in variants(region, role):
        expected = created(render(region, stack=STACK, **parameters), PRINTED[role])
        given = {"EndpointServiceIds": SERVICE, **parameters}
        assert permissions([printed(role, region=region, **given)]) == expected, parameters
        # With the role given, the stack no longer shows what it would have created.
        assert permissions([printed(role, region=region, **given, **own(region))]) == expected


@pytest.mark.parametrize("region", PARTITIONS)
def test_the_rules_role_is_needed_for_a_topic_of_another_account(region):
    given = {"EndpointServiceIds": SERVICE, "AlertTopicArn": topic(region, CENTRAL)}
    expected = created(render(region, stack=STACK, **given), ["AlarmOverRole"])
    assert permissions([printed("alarm-over", region=region, **given)]) == expected
    for role, name in {"alarm-over": "AlarmOverRole", "target-follower": "TargetFollowerRole"}.items():
        refused = run("--role", role, "--account", ACCOUNT, "--region", region, "--set",
                      f"EndpointServiceIds={SERVICE}", status=64)
        assert f"with these parameters, the stack has no role {name}" in refused


def test_the_printed_trust_policies_are_the_templates():
    abroad = {"EndpointServiceIds": SERVICE, "AlertTopicArn": topic("eu-central-1", CENTRAL), **follow()}
    rendered = render(**abroad)
    for role, [name, *_] in {**PRINTED, "alarm-over": ["AlarmOverRole"]}.items():
        trust = rendered.resources[name]["Properties"]["AssumeRolePolicyDocument"]
        assert printed(role, "--trust", **abroad) == trust
    chat = render_chat(**SLACK).resources["Role"]["Properties"]["AssumeRolePolicyDocument"]
    assert printed("chat", "--trust", EndpointServiceIds=SERVICE) == chat
    assert "needs no permissions" in run("--role", "chat", "--account", ACCOUNT, "--region", "eu-central-1", "--set",
                                         f"EndpointServiceIds={SERVICE}", status=64)


def test_a_wildcard_never_stands_in_a_condition():
    """Of made-up names, only resources have patterns: StringEquals would take one for a name."""
    for role in PRINTED:
        for parameters in variants("eu-central-1", role):
            document = printed(role, **{"EndpointServiceIds": SERVICE, **parameters})
            assert f"{STACK}-" not in json.dumps([each.get("Condition") for each in document["Statement"]])


@pytest.mark.parametrize("region", LONGEST_REGIONS)
def test_the_printed_policies_of_the_largest_stack_fit_a_role(region):
    for existing_topic in (False, True):
        for role in PRINTED:
            size = length(printed(role, region=region, stack="s" * 31, **largest_parameters(region, existing_topic)))
            assert size <= (INLINE if role in ("drift-watcher", "target-follower") else MANAGED), (role, size)


@pytest.mark.parametrize("arguments, reason", [
    (["--set", "DryRun=yes"], "DryRun=yes must be true or false"),
    (["--set", "DryRum=true"], "there is no parameter DryRum"),
    (["--set", "EnforceCrossZoneOn=*"], "must be empty or ARNs of Network Load Balancers"),
    (["--set", "EndpointServiceIds=vpce-svc-1, *"], "must be endpoint service ids"),
    (["--stack", "s" * 32], "CloudFormation shortens the names"),
    (["--account", "1111"], "expected a 12-digit account id"),
])
def test_what_cloudformation_would_refuse_is_refused(arguments, reason):
    complete = {"--account": ACCOUNT, "--region": "eu-central-1", "--stack": STACK}
    kept = [word for name, value in complete.items() if name not in arguments for word in (name, value)]
    assert reason in run("--role", "drift-watcher", *kept, "--set", f"EndpointServiceIds={SERVICE}", *arguments,
                         status=64)


def test_the_command_contains_the_templates_roles():
    assert role_templates.FILE.read_text(encoding="utf-8") == role_templates.text(), "run `make docs`"


# ---- the stack -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", PARTITIONS)
def test_with_every_role_given_the_stack_creates_nothing_in_iam(region):
    abroad = {**STRICT, **follow(region), "AlertEmail": "", "AlertTopicArn": topic(region, CENTRAL)}
    for parameters in ({**STRICT, "Heartbeat": "weekly"}, abroad):
        rendered = render(region, **parameters, **own(region))
        assert [each for each in rendered.resources.values() if each["Type"].startswith("AWS::IAM::")] == []
    if region == "eu-central-1":
        chat = render_chat(**SLACK, **TEAMS, **own())
        assert {each["Type"].split("::")[1] for each in chat.resources.values()} == {"Chatbot"}
        assert {each["Properties"]["IamRoleArn"] for each in chat.resources.values()} == {own()["ChatRoleArn"]}


@pytest.mark.parametrize("given", GIVEN)
def test_a_given_role_stands_wherever_the_created_one_did(given):
    """Nothing else changes: each mention of the role's ARN, and the role and its policies are gone."""
    parameters = {**STRICT, "AlertEmail": "", "AlertTopicArn": topic("eu-central-1", CENTRAL)} if given == (
        "AlarmOverRoleArn") else {**STRICT, **follow(), "Heartbeat": "weekly", **SLACK, **TEAMS}
    arn = own()[given]
    before, after = render(**parameters), render(**parameters, **{given: arn})
    name = given.removesuffix("Arn")
    roles = [f"{function}ScheduleRole" for function in ALL_FUNCTIONS] if given == "ScheduleRoleArn" else [name]
    text = json.dumps([before.resources, before.outputs])
    for role in roles:
        text = text.replace(f"arn:aws:iam::{ACCOUNT}:role/{role}", arn)
    resources, outputs = json.loads(text)
    if given == "ChatRoleArn":
        resources["AlertChat"]["Properties"]["Parameters"]["RoleArn"] = arn
    gone = set(resources) - set(after.resources)
    assert {resources[each]["Type"].split("::")[1] for each in gone} <= {"IAM"}
    assert gone & set(before.of_type("AWS::IAM::Role")) == set(roles) & set(before.resources)
    assert {each: resources[each] for each in after.resources} == after.resources
    assert outputs == after.outputs
    # The others still have what they share.
    for role in after.of_type("AWS::IAM::Role"):
        assert documents_of(after, role) == documents_of(before, role)
