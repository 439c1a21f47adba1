"""infra/ deployed to the local AWS with the AWS CLI as in its README, and checked through the API."""
import json
import re
import socket
import subprocess
import sys
import time

import pytest
from infra_support import INFRA, ROOT, TOOLS, load, local

sys.path.insert(0, str(INFRA))

import artifacts

PROVIDER, DBT, OTHER, REGION, eventually = local.PROVIDER, local.DBT, local.UNTRUSTED, local.REGION, local.eventually
ROOT_OF_DBT = f"arn:aws:iam::{DBT}:root"

clean = local.clean  # for every test here


def deploy(aws, stack, template, account=PROVIDER, region=REGION, bucket=None, **parameters):
    """Create or update a stack. Returns its outputs. A template of more than 51,200 bytes needs a bucket."""
    aws.cli("cloudformation", "deploy", *(["--s3-bucket", bucket] if bucket else []), "--region", region,
            "--stack-name", stack, "--template-file", str(template), "--no-fail-on-empty-changeset",
            "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND",
            "--parameter-overrides", *[f"{key}={value}" for key, value in parameters.items()], account=account)
    [described] = aws.client("cloudformation", account, region=region).describe_stacks(StackName=stack)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def delete(aws, stack, account=PROVIDER, region=REGION):
    client = aws.client("cloudformation", account, region=region)
    client.delete_stack(StackName=stack)
    eventually(lambda: not [each for each in client.list_stacks()["StackSummaries"] if each["StackName"] == stack
                            and each["StackStatus"] != "DELETE_COMPLETE"])


def shell(aws, command, account=PROVIDER, cwd=None):
    """Run the command of an output, as an administrator would."""
    environment = aws.environment(account)
    environment["PATH"] = f"{TOOLS}:{environment['PATH']}"
    done = subprocess.run(["bash", "-ec", command], env=environment, cwd=cwd, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def resource(aws, stack, logical_id, account=PROVIDER):
    return aws.client("cloudformation", account).describe_stack_resource(
        StackName=stack, LogicalResourceId=logical_id)["StackResourceDetail"]["PhysicalResourceId"]


class Shared:
    """endpoint-service.yaml, deployed for the provider fixture's load balancer."""

    def __init__(self, aws, stack, load_balancer):
        self.aws, self.stack, self.load_balancer = aws, stack, load_balancer
        self.ec2 = aws.client("ec2")
        self.deployed = 0  # in which second
        self.deploy()

    def deploy(self, **parameters):
        eventually(lambda: int(time.time()) > self.deployed)  # the AWS CLI names change sets by the second
        self.outputs = deploy(self.aws, self.stack, INFRA / "endpoint-service.yaml", **{
            "LoadBalancerArns": self.load_balancer, "Name": "postgres", "DbtPrincipals": ROOT_OF_DBT, **parameters})
        self.deployed = int(time.time())
        self.id, self.name = self.outputs["ServiceId"], self.outputs["ServiceName"]

    def configuration(self):
        [found] = self.ec2.describe_vpc_endpoint_service_configurations(ServiceIds=[self.id])["ServiceConfigurations"]
        return found

    def allowed(self):
        return {each["Principal"] for each in
                self.ec2.describe_vpc_endpoint_service_permissions(ServiceId=self.id)["AllowedPrincipals"]}

    def state(self, endpoint):
        return next((each["VpcEndpointState"] for each in self.ec2.describe_vpc_endpoint_connections(Filters=[
            {"Name": "service-id", "Values": [self.id]}])["VpcEndpointConnections"]
            if each["VpcEndpointId"] == endpoint), None)


@pytest.fixture(scope="module")
def unchanged(aws, names):
    """For tests that do not change it."""
    return Shared(aws, names("share"), local.Provider(aws, names("db")).load_balancer)


@pytest.fixture
def shared(aws, names, provider):
    """For tests that change it."""
    return Shared(aws, names("share"), provider.load_balancer)


# endpoint-service.yaml


def test_the_service_is_as_dbts_guide_requires(unchanged):
    configuration = unchanged.configuration()
    assert configuration["AcceptanceRequired"] is True
    assert configuration["NetworkLoadBalancerArns"] == [unchanged.load_balancer]
    assert configuration["ServiceName"] == unchanged.name
    assert {"Key": "Name", "Value": "postgres"} in configuration["Tags"]
    assert unchanged.allowed() == {ROOT_OF_DBT}
    assert "PrivateDnsCommand" not in unchanged.outputs


def test_dbts_request_is_pending_and_others_do_not_find_the_service(aws, unchanged):
    def request(account):
        ec2 = aws.client("ec2", account)
        return ec2.create_vpc_endpoint(VpcEndpointType="Interface", ServiceName=unchanged.name,
                                       VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"])["VpcEndpoint"]["VpcEndpointId"]
    assert unchanged.state(request(DBT)) == "pendingAcceptance"
    with pytest.raises(Exception, match="InvalidServiceName"):
        request(OTHER)


def test_a_change_of_principals_keeps_the_service(shared):
    before, role = shared.id, f"arn:aws:iam::{DBT}:role/privatelink"
    shared.deploy(DbtPrincipals=f"{ROOT_OF_DBT},{role}")
    assert (shared.id, shared.allowed()) == (before, {ROOT_OF_DBT, role})
    shared.deploy(DbtPrincipals=role)
    assert (shared.id, shared.allowed()) == (before, {role})


def test_allowing_everyone_is_rejected_before_anything_is_created(aws, names, provider):
    error = aws.cli("cloudformation", "deploy", "--stack-name", names("all"), "--template-file",
                    str(INFRA / "endpoint-service.yaml"), "--parameter-overrides",
                    f"LoadBalancerArns={provider.load_balancer}", "DbtPrincipals=*", succeeds=False)
    assert "never *" in error


def test_the_cross_zone_command_switches_it_on(aws, shared, provider):
    def cross_zone():
        attributes = provider.elb.describe_load_balancer_attributes(LoadBalancerArn=shared.load_balancer)["Attributes"]
        return {each["Key"]: each["Value"] for each in attributes}["load_balancing.cross_zone.enabled"]
    assert cross_zone() == "false"
    shell(aws, shared.outputs["CrossZoneCommand"])
    assert cross_zone() == "true"


def test_the_next_command_deploys_the_guard_for_this_service_and_adds_another(aws, names, unchanged, shared, build):
    stack = names("guard")
    shared.deploy(DbtPrincipals=f"arn:aws:iam::{DBT}:role/privatelink")

    def parameters_after(service):
        shell(aws, f"{service.outputs['NextCommand']} PREBUILT={build} STACK={stack} YES=1", cwd=ROOT)
        [deployed] = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in deployed["Parameters"]}
        return parameters["EndpointServiceIds"], parameters["DbtPrincipals"]
    assert parameters_after(unchanged) == (unchanged.id, ROOT_OF_DBT)
    assert parameters_after(shared) == (
        f"{unchanged.id},{shared.id}", f"{ROOT_OF_DBT},arn:aws:iam::{DBT}:role/privatelink")
    delete(aws, stack)


def test_deleting_the_stack_leaves_dbt_connected(aws, shared):
    delete(aws, shared.stack)
    assert shared.configuration()["ServiceState"] == "Available"
    assert shared.allowed() == {ROOT_OF_DBT}


# test-consumer.yaml


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Without the one rule whose type the local AWS does not support; test_templates.py checks it."""
    text = (INFRA / "test-consumer.yaml").read_text(encoding="utf-8")
    text, cut = re.subn(r"  EndpointFromProbe:\n(?:    .*\n)+", "", text)
    assert cut == 1
    path = tmp_path_factory.mktemp("infra") / "test-consumer.yaml"
    path.write_text(text, encoding="utf-8")
    return path


class Consumer:
    """test-consumer.yaml, deployed in the provider's own account or in another."""

    def __init__(self, aws, stack, template, service_name, account, **parameters):
        self.aws, self.stack, self.account = aws, stack, account
        vpc = aws.client("ec2", account).describe_vpcs()["Vpcs"][0]["VpcId"]
        self.outputs = deploy(aws, stack, template, account=account, ServiceName=service_name, VpcId=vpc,
                              SubnetIds="subnet-00000001,subnet-00000002", **parameters)
        self.endpoint = self.outputs["EndpointId"]
        self.probe = resource(aws, stack, "Probe", account)

    def invoke(self):
        answer = self.aws.client("lambda", self.account).invoke(FunctionName=self.probe)
        assert "FunctionError" not in answer
        return json.loads(answer["Payload"].read())


@pytest.fixture(scope="module")
def consumer(aws, names, unchanged, template):
    """In the provider's own account, which needs no permission on the service."""
    made = Consumer(aws, names("probe"), template, unchanged.name, PROVIDER, Ports="5432")
    yield made
    delete(aws, made.stack)


def test_the_endpoint_is_pending_until_it_is_accepted_by_hand(aws, unchanged, consumer):
    [endpoint] = aws.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[consumer.endpoint])["VpcEndpoints"]
    assert (endpoint["State"], endpoint["ServiceName"], endpoint["VpcEndpointType"]) == (
        "pendingAcceptance", unchanged.name, "Interface")
    assert sorted(endpoint["SubnetIds"]) == ["subnet-00000001", "subnet-00000002"]
    assert [group["GroupId"] for group in endpoint["Groups"]] == [
        resource(aws, consumer.stack, "EndpointSecurityGroup")]
    assert consumer.outputs["DnsNames"].split(",")[0].split(":")[1] == endpoint["DnsEntries"][0]["DnsName"]
    shell(aws, consumer.outputs["AcceptCommand"])
    eventually(lambda: unchanged.state(consumer.endpoint) == "available")


def test_another_account_must_be_allowed_first(aws, names, shared, template):
    shared.deploy(DbtPrincipals=f"{ROOT_OF_DBT},arn:aws:iam::{OTHER}:root")
    consumer = Consumer(aws, names("probe"), template, shared.name, OTHER, Ports="5432")
    assert shared.state(consumer.endpoint) == "pendingAcceptance"
    shell(aws, consumer.outputs["AcceptCommand"])
    eventually(lambda: shared.state(consumer.endpoint) == "available")
    delete(aws, consumer.stack, OTHER)
    eventually(lambda: shared.state(consumer.endpoint) in ("deleting", "deleted", None))


def test_the_probe_runs_on_demand_and_reports_why_it_cannot_connect(aws, unchanged, consumer, tmp_path):
    report = json.loads(shell(aws, consumer.outputs["InvokeCommand"], cwd=tmp_path).split("}", 1)[1])
    assert (report["ServiceName"], report["endpoint"]) == (unchanged.name, consumer.endpoint)
    assert report["reachable"] is False
    assert report["host"].startswith(f"{consumer.endpoint}-")
    assert "has no address" in report["verdict"]


def test_the_probe_measures_successful_connections(aws, consumer):
    """The local AWS has no network traffic, so the deployed function connects to this machine."""
    client = aws.client("lambda")
    variables = client.get_function_configuration(FunctionName=consumer.probe)["Environment"]["Variables"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        client.update_function_configuration(FunctionName=consumer.probe, Environment={"Variables": {
            **variables, "DNS_ENTRIES": "Z1EXAMPLE:127.0.0.1", "PORTS": str(server.getsockname()[1])}})
        report = consumer.invoke()
    client.update_function_configuration(FunctionName=consumer.probe, Environment={"Variables": variables})
    assert report["reachable"] is True
    assert report["results"][0]["milliseconds"] < 1000

    logs = aws.client("logs")
    group = f"/privatelink-guard/{consumer.stack}/probe"
    [described] = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert described["retentionInDays"] == 14
    lines = [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]
    metrics = [json.loads(line) for line in lines if line.startswith("{") and "CloudWatchMetrics" in line]
    assert metrics[-1]["Reachable"] == 1


def test_the_probe_may_do_no_more_than_lambda_needs(aws, consumer):
    iam, role = aws.client("iam"), resource(aws, consumer.stack, "ProbeRole")
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    allowed = set()
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        for statement in iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if statement["Effect"] == "Allow":
                allowed |= set(actions)
            else:
                assert (actions, statement["Resource"]) == (["ec2:*"], "*")
    assert allowed == {
        "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
        "logs:CreateLogStream", "logs:PutLogEvents"}


def test_there_is_an_alarm_only_with_a_schedule(aws, names, unchanged, consumer, template):
    cloudwatch = aws.client("cloudwatch")
    assert cloudwatch.describe_alarms(AlarmNamePrefix=consumer.stack)["MetricAlarms"] == []
    topic = aws.client("sns").create_topic(Name=names("alarm"))["TopicArn"]
    scheduled = Consumer(aws, names("probe"), template, unchanged.name, PROVIDER, Ports="5432,443",
                         Schedule="rate(1 minute)", AlarmTopicArn=topic)
    [alarm] = cloudwatch.describe_alarms(AlarmNamePrefix=scheduled.stack)["MetricAlarms"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["AlarmActions"]) == (
        "PrivatelinkGuard/Probe", "Reachable", [topic])
    assert alarm["Dimensions"] == [{"Name": "ServiceName", "Value": unchanged.name}]
    runs = eventually(lambda: [each for each in aws.control("invocations")
                               if (each["function"], each["trigger"]) == (scheduled.probe, "schedule")])
    assert runs[0]["ok"]
    delete(aws, scheduled.stack)


# package.py and stackset.yaml


@pytest.fixture
def build(tmp_path):
    """What `make functions` writes, with functions that do nothing."""
    function = tmp_path / "bootstrap"
    function.write_text("#!/bin/sh\nexit 1\n")
    artifacts.write(tmp_path / "build", "x86_64", dict.fromkeys(artifacts.FUNCTIONS, function))
    return tmp_path / "build"


def make_package(aws, *variables, succeeds=True):
    """Its output: the address, and standard error."""
    done = subprocess.run(["make", "--no-print-directory", "package", *variables], cwd=ROOT, env=aws.environment(),
                          capture_output=True, text=True, check=False, timeout=local.TIMEOUT)
    assert (done.returncode == 0) is succeeds, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("change, variables, message", [
    (lambda build: (build / "chat.yaml").write_text("Resources: {}\n"), ["PREFIX=acme-guard", f"REGIONS={REGION}"],
     "chat.yaml is not the file that SHA256SUMS lists"),
    (lambda build: None, [], 'make package PREFIX=<company>-privatelink-guard REGIONS="eu-central-1 us-east-1"'),
    (lambda build: None, ["PREFIX=acme-guard", f"REGIONS={REGION}", f"SHA256={'0' * 64}"],
     "is not the release that SHA256 names"),
    (lambda build: None, ["PREFIX=acme-guard", f"REGIONS={REGION}", "SHA256="], "is no SHA-256"),
    (lambda build: None, ["PREFIX=acme-guard", f"REGIONS={REGION}", "READERS=*"], "READERS takes account ids"),
])
def test_what_must_not_be_uploaded_is_refused_before_aws_is_asked(aws, build, change, variables, message):
    change(build)
    before = len(aws.control("requests", since=0))
    _, errors = make_package(aws, f"BUILD={build}", *variables, succeeds=False)
    assert message in errors
    assert len(aws.control("requests", since=0)) == before


def test_a_bucket_that_somebody_else_registered_first_receives_nothing(aws, names, build):
    prefix = names("acme-guard")
    aws.client("s3", OTHER, region="us-east-1").create_bucket(Bucket=f"{prefix}-us-east-1")
    before = len(aws.control("requests", since=0))
    _, errors = make_package(aws, f"BUILD={build}", f"PREFIX={prefix}", f"REGIONS={REGION} us-east-1", succeeds=False)
    assert f"The bucket {prefix}-us-east-1 cannot be used" in errors
    assert not [each for each in aws.control("requests", since=before) if each["action"] == "PutObject"]


def test_the_policy_of_an_existing_bucket_stays(aws, names, build):
    prefix = names("acme-guard")
    s3, bucket = aws.client("s3"), f"{prefix}-{REGION}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    own = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*",
        "Condition": {"Bool": {"aws:SecureTransport": "maybe"}}}]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(own))
    _, errors = make_package(aws, f"BUILD={build}", f"PREFIX={prefix}", f"REGIONS={REGION}", f"READERS={DBT}")
    assert json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"]) == own
    [statement] = re.findall(r"^    (\{.*\})$", errors, re.MULTILINE)
    assert json.loads(statement)["Principal"] == {"AWS": [ROOT_OF_DBT]}
    # S3 returns a list of one item as that item.
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": {
        **json.loads(statement), "Principal": {"AWS": ROOT_OF_DBT}}}))
    _, errors = make_package(aws, f"BUILD={build}", f"PREFIX={prefix}", f"REGIONS={REGION}", f"READERS={DBT}")
    assert "has a policy" not in errors


def test_the_packaged_guard_deploys_in_every_region(aws, names, build, tmp_path):
    prefix, regions = names("acme-guard"), [REGION, "us-east-1"]
    settings = [f"READERS={DBT} {OTHER}", f"BUILD={build}", f"PREFIX={prefix}", f"REGIONS={' '.join(regions)}"]
    url, _ = make_package(aws, *settings)
    address = rf"https://{prefix}-{REGION}\.s3\.{REGION}\.amazonaws\.com/"
    name = re.fullmatch(address + r"(privatelink-guard/[\w/]+\.yaml)", url)[1]
    # The same content keeps its name, and what READERS need is there already.
    assert make_package(aws, *settings)[0] == url

    s3 = aws.client("s3")
    packaged = tmp_path / "packaged.yaml"
    packaged.write_bytes(s3.get_object(Bucket=f"{prefix}-{REGION}", Key=name)["Body"].read())
    for region in regions:
        policy = json.loads(s3.get_bucket_policy(Bucket=f"{prefix}-{region}")["Policy"])
        [statement] = policy["Statement"]
        assert (statement["Principal"]["AWS"], statement["Action"]) == (
            [ROOT_OF_DBT, f"arn:aws:iam::{OTHER}:root"], "s3:GetObject")

        ec2, elb = aws.client("ec2", region=region), aws.client("elbv2", region=region)
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2]]
        balancer = elb.create_load_balancer(Name=names("db"), Type="network", Scheme="internal", Subnets=subnets)[
            "LoadBalancers"][0]["LoadBalancerArn"]
        service = deploy(aws, names("share"), INFRA / "endpoint-service.yaml", region=region,
                         LoadBalancerArns=balancer, DbtPrincipals=ROOT_OF_DBT)
        assert service["ServiceName"] == f"com.amazonaws.vpce.{region}.{service['ServiceId']}"
        stack = names("guard")
        outputs = deploy(aws, stack, packaged, region=region, bucket=f"{prefix}-{region}",
                         EndpointServiceIds=service["ServiceId"], DbtPrincipals=ROOT_OF_DBT,
                         SlackWorkspaceId="T0123ABCD", SlackChannelId="C0123ABCD",
                         **{f"{each}Schedule": "rate(2 hours)" for each in ("Acceptor", "Health", "Drift")})
        # The functions exist only if this Region has its copy of the code.
        functions = {each["FunctionName"] for each in aws.client("lambda", region=region).list_functions()["Functions"]}
        assert {outputs[f"{each}Name"] for each in ("ConnectionAcceptor", "HealthWatcher", "DriftWatcher")} <= functions
        # And the nested stack comes from this Region's copy of its template.
        [nested] = [each for each in aws.client("cloudformation", region=region).list_stacks()["StackSummaries"]
                    if each["StackName"].startswith(f"{stack}-AlertChat")]
        assert nested["StackStatus"] == "CREATE_COMPLETE"
        template = aws.client("cloudformation", region=region).get_template(StackName=stack, TemplateStage="Original")
        assert f"/{prefix}-${{AWS::Region}}/privatelink-guard/" in json.dumps(template["TemplateBody"], default=str)
        subscribed = aws.client("sns", region=region).list_subscriptions_by_topic(TopicArn=outputs["AlertTopicArn"])
        assert [each["Protocol"] for each in subscribed["Subscriptions"]] == ["https"]
        delete(aws, stack, region=region)


def test_an_incomplete_place_or_a_second_subscriber_is_rejected(aws, names, tmp_path):
    """The local AWS has no stack sets, so the template's parameters and rules are tested with another resource."""
    head, _ = (INFRA / "stackset.yaml").read_text(encoding="utf-8").split("\nResources:\n")
    template = tmp_path / "stackset.yaml"
    template.write_text(head + "\nResources: {Topic: {Type: AWS::SNS::Topic}}\n", encoding="utf-8")
    places = {"TemplateURL": "https://b.s3.eu-central-1.amazonaws.com/t.yaml", "DbtPrincipals": ROOT_OF_DBT,
              "Account1": PROVIDER, "Region1": REGION, "EndpointServiceIds1": "vpce-svc-0123456789abcdef0"}
    error = aws.cli("cloudformation", "deploy", "--stack-name", names("guards"), "--template-file",
                    str(template), "--parameter-overrides",
                    *[f"{key}={value}" for key, value in {**places, "Account2": DBT}.items()], succeeds=False)
    assert "Give Account2, Region2 and EndpointServiceIds2" in error
    topic = {"AlertTopicArn": "arn:aws:sns:eu-central-1:111122223333:alerts", "AlertEmail": "ops@example.com"}
    error = aws.cli("cloudformation", "deploy", "--stack-name", names("guards"), "--template-file", str(template),
                    "--parameter-overrides", *[f"{key}={value}" for key, value in {**places, **topic}.items()],
                    succeeds=False)
    assert "leave AlertEmail empty and subscribe the address to that topic" in error
    deploy(aws, names("guards"), template, **places)


def test_the_readme_names_every_template_and_existing_parameters():
    text = (INFRA / "README.md").read_text(encoding="utf-8")
    for template in INFRA.glob("*.yaml"):
        assert template.name in text
    commands = re.findall(r"--template-file (infra/[\w-]+\.yaml)(.*?)\n\n", text, re.DOTALL)
    # The others are deployed by the guard's template and by make verify.
    others = {"infra/chat.yaml", "infra/verify.yaml", "infra/verify-consumer.yaml"}
    assert {template for template, _ in commands} == {f"infra/{each.name}" for each in INFRA.glob("*.yaml")} - others
    for template, parameters in commands:
        known = load(ROOT / template)["Parameters"]
        given = re.findall(r"\b([A-Z]\w+)=", parameters)
        assert given, template
        assert set(given) <= set(known), template
