"""AWS's rate limits: the buckets alone, with a clock set by the test, and a server whose minute is so long that no
bucket refills during a test.
"""
import json
import os
import subprocess
import sys

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import DBT, PACKAGE, PROVIDER, REGION, LocalAws
from local_aws.limits import Limits, of_call
from test_endpoint_services import error_code

MINUTE = 10**6  # ELB's largest bucket gets a token in half an hour
READS, ALL = "elasticloadbalancing: non-mutating", "elasticloadbalancing: all"
SCOPE = (PROVIDER, REGION)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limits(clock):
    return Limits(clock)


def granted(limits, count, action="DescribeTargetHealth", service="elasticloadbalancing", scope=SCOPE, parameters=()):
    """The number of simultaneous calls that go ahead."""
    return sum(limits.take(scope, of_call(service, action, parameters)) for _ in range(count))


def counts(limits, name, scope=SCOPE):
    return limits.report()["buckets"][" ".join(scope)][name]


def test_forty_reads_pass_at_once_and_then_ten_a_second(limits, clock):
    assert granted(limits, 50) == 40
    assert counts(limits, READS) == {"tokens": 0, "least": 0, "granted": 40, "refused": 10}
    clock.now += 1
    assert granted(limits, 50) == 10
    clock.now += 0.1
    assert granted(limits, 2) == 1
    clock.now += 3600
    assert granted(limits, 50) == 40


def test_different_reads_share_a_bucket_and_changes_have_another(limits):
    assert granted(limits, 30) == 30
    assert granted(limits, 30, "DescribeTags") == 10
    assert counts(limits, READS)["tokens"] == counts(limits, ALL)["tokens"] == 0
    assert granted(limits, 1, "ModifyListener") == 0, "the bucket of all actions is empty"
    assert counts(limits, "elasticloadbalancing: mutating") == {
        "tokens": 20, "least": 20, "granted": 0, "refused": 0}, "what is refused takes no token"


@pytest.mark.parametrize("action, capacity, a_second", [
    ("ModifyListener", 20, 3), ("AddTags", 20, 3), ("RegisterTargets", 20, 4), ("DeregisterTargets", 20, 4)])
def test_each_class_of_changes_has_its_own_rate(limits, clock, action, capacity, a_second):
    assert granted(limits, 40, action) == capacity
    clock.now += 1
    assert granted(limits, 40, action) == a_second


def test_a_load_balancer_is_created_every_five_seconds(limits, clock):
    assert granted(limits, 20, "CreateLoadBalancer") == 10
    clock.now += 4.9
    assert granted(limits, 1, "CreateLoadBalancer") == 0
    clock.now += 0.1
    assert granted(limits, 2, "CreateLoadBalancer") == 1


def test_registrations_take_no_token_from_other_changes(limits):
    assert granted(limits, 20, "RegisterTargets") == 20
    assert granted(limits, 1, "DeregisterTargets") == 0
    assert granted(limits, 20, "CreateListener") == 20
    assert granted(limits, 1) == 0, "these were forty actions"


def test_each_account_and_region_has_its_own_buckets(limits):
    assert granted(limits, 40) == 40
    assert granted(limits, 40, scope=(DBT, REGION)) == 40
    assert granted(limits, 40, scope=(PROVIDER, "us-east-1")) == 40


@pytest.mark.parametrize("action, parameters, capacity, a_second", [
    ("DescribeSubnets", [], 100, 20),
    ("GetManagedPrefixListEntries", ["PrefixListId"], 100, 20),
    ("DescribeNetworkInterfaces", ["Filter.1.Name", "Filter.1.Value.1"], 100, 20),
    ("DescribeNetworkInterfaces", ["MaxResults"], 100, 20),
    ("DescribeSecurityGroups", ["GroupId.1"], 100, 20),
    ("DescribeNetworkInterfaces", ["Action", "Version"], 50, 10),
    ("CreateRoute", ["RouteTableId"], 50, 5),
    ("AuthorizeSecurityGroupIngress", ["GroupId"], 50, 5),
    ("AcceptVpcEndpointConnections", ["ServiceId", "VpcEndpointId.1"], 10, 1),
])
def test_each_class_of_ec2_actions_has_its_own_rate(limits, clock, action, parameters, capacity, a_second):
    asked = {"action": action, "service": "ec2", "parameters": parameters}
    assert granted(limits, 150, **asked) == capacity
    clock.now += 1
    assert granted(limits, 150, **asked) == a_second


def test_each_action_of_ec2_has_its_own_bucket(limits):
    assert granted(limits, 150, "DescribeSubnets", "ec2") == 100
    assert granted(limits, 150, "DescribeRouteTables", "ec2") == 100
    assert granted(limits, 150, "DescribeVolumes", "ec2") == 50
    assert granted(limits, 150, "DescribeVolumes", "ec2", parameters=["Filter.1.Name"]) == 100


def test_other_services_have_no_limit(limits):
    assert granted(limits, 1000, "GetItem", "dynamodb") == 1000


def test_disabled_limits_refuse_nothing_and_enabling_resets(limits):
    granted(limits, 50)
    limits.switch(on=False)
    assert granted(limits, 1000) == 1000
    assert limits.report()["buckets"] == {}
    limits.switch(on=True)
    assert granted(limits, 50) == 40


def test_a_second_tool_uses_the_same_buckets(limits, clock):
    limits.start_second_tool(SCOPE, 4)
    clock.now += 10  # its first call came at once, its last one comes now
    assert granted(limits, 50) == 39
    assert counts(limits, READS)["tokens"] == counts(limits, ALL)["tokens"] == 0
    clock.now += 1
    assert granted(limits, 50) == 6, "four of ten are gone"
    assert limits.report()["second_tool"] == {"per_second": 4, "granted": 45, "refused": 0}


def test_refused_calls_of_a_second_tool_are_counted(limits, clock):
    limits.start_second_tool(SCOPE, 4)
    for _ in range(64):
        clock.now += 1 / 64
        granted(limits, 50)  # takes each token as soon as it exists
    tool = limits.report()["second_tool"]
    assert tool["granted"] + tool["refused"] == 5
    assert tool["refused"] > 0
    assert counts(limits, READS)["least"] >= 0
    limits.start_second_tool(SCOPE, 0)
    clock.now += 100
    assert limits.report()["second_tool"] == {**tool, "per_second": 0}


def test_reading_the_limits_does_not_change_the_second_tool(clock):
    looked_at, unseen = Limits(clock), Limits(clock)
    for limits in (looked_at, unseen):
        limits.start_second_tool(SCOPE, 16)
    for _ in range(40):
        clock.now += 0.25
        looked_at.report()
    assert looked_at.report() == unseen.report()


@pytest.fixture(scope="module")
def slow():
    """A server that refills nothing."""
    serve = [sys.executable, "-m", "local_aws", "serve", "--minute", str(MINUTE)]
    server = subprocess.Popen(serve, env={**os.environ, "PYTHONPATH": str(PACKAGE)}, stdout=subprocess.PIPE, text=True)
    started = LocalAws(int(server.stdout.readline().rsplit(":", 1)[1]))
    assert started.control("limits")["on"], "by default"
    yield started
    server.terminate()
    server.wait()


@pytest.fixture
def elb(slow):
    """A client, with full buckets."""
    slow.control("limits", on=True)
    return slow.client("elbv2")


def test_a_refused_call_has_awss_error_and_is_logged(slow, elb):
    last = slow.control("requests")[-1:] or [{"n": 0}]
    vpc = slow.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    create = {"Protocol": "TCP", "Port": 1, "VpcId": vpc, "TargetType": "ip"}
    made = [elb.create_target_group(Name=f"group-{number}", **create) for number in range(20)]
    with pytest.raises(ClientError) as failure:
        elb.create_target_group(Name="group-20", **create)
    answer = failure.value.response
    assert answer["Error"] == {"Type": "Sender", "Code": "Throttling", "Message": "Rate exceeded"}
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    logged = [entry["error"] for entry in slow.control("requests", since=last[0]["n"])
              if entry["action"] == "CreateTargetGroup"]
    assert logged == [None] * 20 + ["Throttling"]
    for group in made:
        assert error_code(elb.delete_target_group, TargetGroupArn=group["TargetGroups"][0]["TargetGroupArn"]) == (
            "Throttling"), "of the same class"


def test_ec2_refuses_with_its_own_error(slow):
    slow.control("limits", on=True)
    ec2 = slow.client("ec2")
    for _ in range(50):
        ec2.describe_security_groups()
    with pytest.raises(ClientError) as failure:
        ec2.describe_security_groups()
    assert failure.value.response["Error"]["Code"] == "RequestLimitExceeded"
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]


def test_a_refused_call_uses_no_fault(slow, elb):
    slow.control("fault", action="elasticloadbalancing:DescribeLoadBalancers", code="InternalError", times=1)
    for _ in range(40):
        elb.describe_target_groups()
    assert error_code(elb.describe_load_balancers) == "Throttling"
    slow.control("limits", on=True)
    assert error_code(elb.describe_load_balancers) == "InternalError"


def test_the_sdk_retries_refused_calls(slow, elb):
    for _ in range(40):
        elb.describe_target_groups()
    patient = slow.session.create_client("elbv2", region_name=REGION, endpoint_url=slow.endpoint,
                                         aws_access_key_id=PROVIDER, aws_secret_access_key="test",
                                         config=Config(retries={"mode": "standard", "total_max_attempts": 2}))
    last = slow.control("requests")[-1]["n"]
    assert error_code(patient.describe_target_groups) == "Throttling"
    assert [entry["error"] for entry in slow.control("requests", since=last)] == ["Throttling"] * 2


def command(slow, *arguments):
    done = subprocess.run([sys.executable, "-m", "local_aws", "limits", *arguments], env=slow.environment(),
                          capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def test_the_command_shows_and_switches_the_limits(slow, elb):
    elb.describe_target_groups()
    shown = command(slow)
    assert (shown["on"], list(shown["buckets"])) == (True, [f"{PROVIDER} {REGION}"])
    bucket = shown["buckets"][f"{PROVIDER} {REGION}"][READS]
    assert (round(bucket["tokens"]), round(bucket["least"]), bucket["granted"], bucket["refused"]) == (39, 39, 1, 0)
    assert command(slow, "--off") == {
        "on": False, "buckets": {}, "second_tool": {"per_second": 0, "granted": 0, "refused": 0}}
    for _ in range(50):
        elb.describe_target_groups()
    assert command(slow, "--on", "--second-tool", "4")["second_tool"] == {"per_second": 4, "granted": 1, "refused": 0}
    assert command(slow, "--second-tool", "0")["second_tool"]["per_second"] == 0
    assert command(slow, "--on", "--off") == "ValueError: limits are either on or off"
    assert command(slow, "--second-tool", "-1") == "ValueError: a rate is not negative"
