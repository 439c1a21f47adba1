"""One server for all tests, and helpers that act as the provider, as dbt and as an untrusted account."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import botocore.session
import pytest
from botocore.config import Config

HERE = pathlib.Path(__file__).parent
PACKAGE = HERE.parent
sys.path.insert(0, str(PACKAGE))

import wire_check  # noqa: E402
from local_aws import control  # noqa: E402

PROVIDER, DBT, UNTRUSTED = "111122223333", "444455556666", "777788889999"
REGION = "eu-central-1"
TIMEOUT = 300  # seconds: ends only hung waits; nothing takes that long, even on a busy machine


def eventually(check):
    """The first true result of `check`."""
    deadline = time.monotonic() + TIMEOUT
    while not (result := check()):
        assert time.monotonic() < deadline, f"not within {TIMEOUT} s: {check}"
        time.sleep(0.05)
    return result


class LocalAws:
    """A running server."""

    def __init__(self, port):
        self.endpoint = f"http://127.0.0.1:{port}"
        self.session = botocore.session.get_session()

    def client(self, service, account=PROVIDER, secret="test", region=REGION):
        client = self.session.create_client(service, region_name=region, endpoint_url=self.endpoint,
                                            aws_access_key_id=account, aws_secret_access_key=secret,
                                            config=Config(retries={"total_max_attempts": 1}, read_timeout=TIMEOUT))
        wire_check.watch(client)
        return client

    def control(self, command, **arguments):
        return control.call(self.endpoint, command, arguments)

    def environment(self, account=PROVIDER, secret="test"):
        return {**{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                "AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": account,
                "AWS_SECRET_ACCESS_KEY": secret, "AWS_PAGER": "", "AWS_CONFIG_FILE": str(PACKAGE / "aws-config"),
                "PYTHONPATH": str(PACKAGE)}

    def cli(self, *arguments, account=PROVIDER, secret="test", succeeds=True):
        """The AWS CLI's output, parsed if it is JSON; for a call that must fail, the error message."""
        command = [str(pathlib.Path(sys.executable).parent / "aws"), *arguments]
        done = subprocess.run(command, env=self.environment(account, secret), capture_output=True, text=True,
                              check=False)
        assert (done.returncode == 0) is succeeds, done.stderr or done.stdout
        if not succeeds:
            return done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout.strip()


@pytest.fixture(scope="session")
def aws():
    command = [sys.executable, "-m", "local_aws", "serve", "--minute", "1"]
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PACKAGE)}, stdout=subprocess.PIPE,
                              text=True)
    ready, port = server.stdout.readline().rsplit(":", 1)
    assert "ready" in ready
    started = LocalAws(int(port))
    # These tests create load balancers and endpoints faster than AWS allows, and their clients do not retry, so that
    # each error is visible. With limits, the machine's speed would decide the result; test_limits.py has its own
    # server.
    started.control("limits", off=True)
    yield started
    server.send_signal(signal.SIGTERM)
    assert server.wait(TIMEOUT) == 0


@pytest.fixture(autouse=True)
def clean(aws):
    """Fail a test that received a response AWS could not send, and end its faults and delays before the next test."""
    wire_check.violations.clear()
    yield
    assert wire_check.violations == []
    aws.control("fault", clear=True)
    aws.control("answer", clear=True)
    aws.control("managed-resources", parameter="known")
    aws.control("page-size", size=0)
    aws.control("delay", cloudtrail=0, rds=0, connections=0, dns=0, targets=0)
    aws.control("dns", clear=True)
    aws.control("clock", start=True)


@pytest.fixture(scope="session")
def names():
    """Names that no other test uses."""
    numbers = iter(range(1, 10_000))
    return lambda prefix: f"{prefix}-{next(numbers)}"


class Provider:
    """A Network Load Balancer in two zones with a target group, behind an endpoint service that allows dbt."""

    def __init__(self, aws, name, security_groups=(), allowed=(f"arn:aws:iam::{DBT}:root",), acceptance=True):
        self.ec2, self.elb = aws.client("ec2"), aws.client("elbv2")
        subnets = self.ec2.describe_subnets()["Subnets"][:2]
        self.vpc, self.zones = subnets[0]["VpcId"], [subnet["AvailabilityZone"] for subnet in subnets]
        self.load_balancer = self.elb.create_load_balancer(
            Name=name, Type="network", Scheme="internal", Subnets=[subnet["SubnetId"] for subnet in subnets],
            SecurityGroups=list(security_groups))["LoadBalancers"][0]["LoadBalancerArn"]
        self.target_group = self.new_target_group(f"{name}-tg")
        self.service = self.ec2.create_vpc_endpoint_service_configuration(
            AcceptanceRequired=acceptance, NetworkLoadBalancerArns=[self.load_balancer],
            TagSpecifications=[{"ResourceType": "vpc-endpoint-service", "Tags": [{"Key": "Name", "Value": name}]}],
        )["ServiceConfiguration"]
        self.service_id, self.service_name = self.service["ServiceId"], self.service["ServiceName"]
        if allowed:
            self.ec2.modify_vpc_endpoint_service_permissions(ServiceId=self.service_id,
                                                             AddAllowedPrincipals=list(allowed))

    def new_target_group(self, name):
        return self.elb.create_target_group(Name=name, Protocol="TCP", Port=5432, VpcId=self.vpc, TargetType="ip")[
            "TargetGroups"][0]["TargetGroupArn"]

    def listen(self, port=5432):
        return self.elb.create_listener(
            LoadBalancerArn=self.load_balancer, Protocol="TCP", Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.target_group}])["Listeners"][0]["ListenerArn"]

    def connections(self, **filters):
        wanted = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        return self.ec2.describe_vpc_endpoint_connections(Filters=[
            {"Name": "service-id", "Values": [self.service_id]}, *wanted])["VpcEndpointConnections"]

    def state(self, endpoint_id):
        return next((c["VpcEndpointState"] for c in self.connections(vpc_endpoint_id=endpoint_id)), None)


@pytest.fixture
def provider(aws, names):
    return Provider(aws, names("db"))


@pytest.fixture
def connect(aws, provider):
    """Creates an endpoint to the provider's service and returns its id."""
    def create(account=DBT, service_name=None, **more):
        ec2 = aws.client("ec2", account)
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        return ec2.create_vpc_endpoint(VpcEndpointType="Interface", VpcId=vpc,
                                       ServiceName=service_name or provider.service_name, **more)[
            "VpcEndpoint"]["VpcEndpointId"]
    return create
