"""`make deploy` against the local AWS: what it looks at before it builds, what it asks, and what it refuses."""
import base64
import contextlib
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from infra_support import INFRA, ROOT, TOOLS, local

sys.path.insert(0, str(INFRA))

import artifacts
import deploy
from botocore.exceptions import ClientError

PROVIDER, DBT, REGION = local.PROVIDER, local.DBT, local.REGION
PRINCIPAL = f"arn:aws:iam::{DBT}:root"
STUB = ROOT / "local-aws/tests/stack/function/bootstrap"

clean = local.clean  # for every test here


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The files of a build whose functions are the local AWS's stub."""
    folder = tmp_path_factory.mktemp("release")
    artifacts.write(folder, "x86_64", dict.fromkeys(artifacts.FUNCTIONS, STUB))
    return folder


@pytest.fixture
def building(tmp_path):
    """Stands for make when the functions are built: notes that it was called, and fails."""
    make = tmp_path / "make"
    make.write_text(f"#!/bin/sh\necho $@ >{tmp_path}/built\nexit 1\n")
    make.chmod(0o755)
    return make


@contextlib.contextmanager
def heeding_ctrl_c():
    """Lets the child process react to Ctrl-C, as in a terminal: it would inherit that background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class MakeDeploy:
    """Runs it. Without `release` it would build; `building` then stands for the build."""

    def __init__(self, aws, building, release):
        self.aws, self.building, self.release = aws, building, release

    def __call__(self, *variables, answers="", succeeds=True, **environment):
        variables = [*variables, *([] if any("PREBUILT" in each for each in variables) else [f"MAKE={self.building}"])]
        done = subprocess.run(["make", "deploy", *variables], cwd=ROOT, input=answers, text=True, capture_output=True,
                              env={**self.aws.environment(), **environment}, check=False,
                              timeout=local.TIMEOUT)
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        return done.stdout + done.stderr

    def released(self, stack, *variables, **options):
        """Its output with the release, as in continuous integration: nothing is asked."""
        return self(f"STACK={stack}", f"PREBUILT={self.release}", "YES=1", *variables, **options)

    def interrupted_at(self, prompt, *variables, answers=""):
        """Its output if Ctrl-C is pressed at this prompt."""
        with heeding_ctrl_c():
            started = subprocess.Popen(["make", "deploy", *variables, f"MAKE={self.building}"], cwd=ROOT, text=True,
                                       env={**self.aws.environment(), "PYTHONUNBUFFERED": "1"}, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        started.stdin.write(answers)
        started.stdin.flush()
        output = ""
        while not output.endswith(prompt):
            character = started.stdout.read(1)
            assert character, output
            output += character
        # Between printing the prompt and reading, Python only notes a Ctrl-C, and reacts to the next.
        deadline = time.monotonic() + local.TIMEOUT
        while started.poll() is None:
            assert time.monotonic() < deadline, output
            os.killpg(started.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(timeout=10)
        rest = started.stdout.read()
        assert started.returncode
        return output + rest

    @property
    def built(self):
        return (self.building.parent / "built").exists()


@pytest.fixture
def make_deploy(aws, building, release):
    bucket = f"privatelink-guard-{PROVIDER}-{REGION}"
    with contextlib.suppress(ClientError):  # it exists
        aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    return MakeDeploy(aws, building, release)


def described(aws, stack):
    [found] = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return found


def parameters(aws, stack):
    return {each["ParameterKey"]: each["ParameterValue"] for each in described(aws, stack)["Parameters"]}


def events(aws):
    """What CloudFormation was asked to change."""
    return {each["action"] for each in aws.control("requests", since=0) if each["service"] == "cloudformation"
            and not each["action"].startswith(("Describe", "List", "Get"))}


def given(provider, **others):
    return "SET=" + " ".join(f"{name}={value}" for name, value in {
        "EndpointServiceIds": provider.service_id, "DbtPrincipals": PRINCIPAL, **others}.items())


@pytest.mark.parametrize("settings, message", [
    ({"STACK": "guard; rm -r ."}, "cannot be a stack's name"),
    ({"SHA256": "0" * 64}, "PREBUILT names none"),
    ({"SHA256": ""}, "PREBUILT names none"),
    ({"YES": "no"}, "YES=no is neither"),
])
def test_settings_that_can_be_misread_are_refused(settings, message):
    with pytest.raises(deploy.Problem, match=message):
        deploy.Settings.read(settings)


def test_only_yes_1_asks_nothing():
    assert [deploy.Settings.read({"YES": each}).ask for each in ("", "1")] == [True, False]


def test_the_printed_command_does_the_same_again():
    given = {"STACK": "guard", "PROFILE": "net admin", "PREBUILT": "https://example.com/$1", "SHA256": "0" * 64,
             "ARCHITECTURE": "arm64", "TAGS": "team=network cost=42"}
    assert deploy.Settings.read(given).command(DryRun="false", HealthSchedule="rate(5 minutes)") == (
        f"make deploy STACK=guard PROFILE='net admin' PREBUILT='https://example.com/$$1' SHA256={'0' * 64} "
        "ARCHITECTURE=arm64 TAGS='team=network cost=42' SET='DryRun=false HealthSchedule=rate(5 minutes)'")


# ---- what it looks at before it builds -------------------------------------------------------------------------------


@pytest.mark.parametrize("environment, message", [
    ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true",
      "HOME": "/nonexistent"}, "Unable to locate credentials"),
    ({"AWS_DEFAULT_REGION": "", "HOME": "/nonexistent"}, "make deploy REGION=eu-central-1"),
    ({"PROFILE": "nobody"}, "The config profile (nobody) could not be found"),
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect to the endpoint URL"),
])
def test_without_credentials_or_a_region_nothing_is_built(make_deploy, environment, message):
    output = make_deploy("YES=1", succeeds=False, **environment)
    assert message in output
    assert not make_deploy.built


def test_credentials_that_aws_refuses_are_reported_in_awss_words(aws, make_deploy):
    aws.control("fault", action="sts:GetCallerIdentity", code="ExpiredToken", message="The security token is expired")
    output = make_deploy("YES=1", succeeds=False)
    assert "AWS does not accept your credentials" in output
    assert "The security token is expired" in output
    assert not make_deploy.built


def test_an_error_of_describe_stacks_never_counts_as_no_stack(aws, make_deploy, release):
    aws.control("fault", action="cloudformation:DescribeStacks", code="AccessDenied", message="not authorized to read")
    before = events(aws)
    output = make_deploy("YES=1", f"PREBUILT={release}", succeeds=False)
    assert "is not known, so nothing is deployed" in output
    assert "not authorized to read" in output
    assert events(aws) == before


@pytest.mark.parametrize("variables, message", [
    (["SET={known}", "REGION=us-east-1"], "{service}: no such endpoint service in us-east-1"),
    (["SET={known} HealthSchedule=rate(1 day)"], 'HealthSchedule="rate(1 day)" must be a rate from rate(1 minute)'),
    (["SET={known} CrosZone=enforce"], "There is no parameter CrosZone. Do you mean CrossZone?"),
    ([], "Give them:\n    make deploy STACK=privatelink-guard SET='EndpointServiceIds=<…> DbtPrincipals=<…>'\n"),
])
def test_a_wrong_parameter_is_noticed_before_the_build(make_deploy, provider, variables, message):
    known = f"EndpointServiceIds={provider.service_id} DbtPrincipals={PRINCIPAL}"
    output = make_deploy("YES=1", *[each.format(known=known) for each in variables], succeeds=False)
    assert message.format(service=provider.service_id) in output
    assert not make_deploy.built


def test_a_dry_run_of_make_only_prints(aws, make_deploy):
    before = len(aws.control("requests", since=0))
    assert "infra/deploy.py" in make_deploy("-n", "YES=1")
    assert len(aws.control("requests", since=0)) == before


def test_without_the_compiler_or_memory_it_names_the_way_without(monkeypatch):
    monkeypatch.setattr(deploy.shutil, "which", lambda name: None if name == "cargo" else name)
    with pytest.raises(deploy.Problem, match=r"(?s)needs cargo.*make deploy PREBUILT="):
        deploy.check_build()
    monkeypatch.setattr(deploy.shutil, "which", lambda name: name)
    monkeypatch.setattr(deploy, "free_memory_gb", lambda: 3.21)
    with pytest.raises(deploy.Problem, match=r"(?s)needs 7 GB of memory, and 3.2 GB are free.*make deploy PREBUILT="):
        deploy.check_build()
    monkeypatch.setattr(deploy, "free_memory_gb", lambda: None)
    deploy.check_build()


def test_free_memory_counts_swap(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  16000000 kB\nMemAvailable:  5000000 kB\nSwapFree:  2500000 kB\n")
    assert deploy.free_memory_gb(tmp_path / "meminfo") == 7.5
    assert deploy.free_memory_gb(tmp_path / "absent") is None


# ---- questions -------------------------------------------------------------------------------------------------------


def test_a_first_deployment_asks_before_it_builds(make_deploy, provider):
    output = make_deploy("STACK=asked", answers=f"\n{provider.service_id}\n*\n{PRINCIPAL}\n\n\n", succeeds=False)
    assert re.findall(r"(\w+) \[.*?\]: ", output) == [
        "EndpointServiceIds", "EndpointServiceIds", "DbtPrincipals", "DbtPrincipals", "AlertEmail", "DryRun"]
    # Enter selects no service: each must be named.
    assert re.search(rf"  {provider.service_id} \(db-\d+\)\n", output)
    assert "EndpointServiceIds must be endpoint service ids" in output
    assert "DbtPrincipals must be principals such as" in output
    # A hint, and never the answer that Enter gives.
    assert "dbt's pages name account 346425330055" in output
    assert "346425330055]" not in output
    # On a machine with too little memory for the build, that is said now, and not an hour later.
    assert make_deploy.built or "GB are free" in output


def test_nothing_is_built_for_questions_that_nobody_answers(make_deploy):
    """In a Region without endpoint services."""
    output = make_deploy("STACK=asked", "REGION=us-east-2", succeeds=False)
    assert "These exist here:\n  none in us-east-2. REGION=<region> selects another" in output
    assert "With YES=1 nothing is asked" in output
    assert not make_deploy.built


def test_ctrl_c_at_a_question_says_that_nothing_was_deployed(make_deploy):
    output = make_deploy.interrupted_at("EndpointServiceIds [required]: ", "STACK=asked")
    assert "make deploy: interrupted. Nothing was deployed." in output
    assert "Traceback" not in output
    assert not make_deploy.built


def test_ctrl_c_at_the_changes_removes_the_change_set(aws, make_deploy, names, provider, release):
    stack = names("interrupted")
    output = make_deploy.interrupted_at("[y/N]: ", f"STACK={stack}", f"PREBUILT={release}", given(
        provider, AlertEmail="", DryRun="true"))
    assert "interrupted. Nothing was deployed." in output
    assert aws.client("cloudformation").list_change_sets(StackName=stack)["Summaries"] == []


def test_no_bucket_is_created_without_a_yes(aws, make_deploy, release):
    """In a Region without a bucket. The deployer may not list endpoint services, so any id is taken."""
    aws.control("fault", action="ec2:DescribeVpcEndpointServiceConfigurations", code="UnauthorizedOperation")
    arguments = ["REGION=us-west-2", f"PREBUILT={release}",
                 f"SET=EndpointServiceIds=vpce-svc-00000000000000000 DbtPrincipals={PRINCIPAL} AlertEmail= DryRun=true"]
    before = len(aws.control("requests", since=0))
    output = make_deploy(*arguments, answers="no\n", succeeds=False)
    assert f"Create privatelink-guard-{PROVIDER}-us-west-2 in account {PROVIDER}? [y/N]" in output
    assert "Nothing was deployed, and no bucket was created." in output
    calls = aws.control("requests", since=before)
    assert [each["action"] for each in calls if each["service"] == "s3"] == ["ListBucket"]


def test_a_no_to_the_changes_deploys_nothing(aws, make_deploy, names, provider, release):
    stack = names("declined")
    output = make_deploy(f"STACK={stack}", f"PREBUILT={release}", given(provider), answers="\n\nno\n", succeeds=False)
    assert "Add     ConnectionAcceptor  AWS::Lambda::Function" in output
    assert f"dbt's endpoints:\n  {provider.service_id}: 0 connected. " in output
    assert "Nothing was deployed." in output
    assert aws.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"] == []


# ---- deploying -------------------------------------------------------------------------------------------------------


def test_a_release_is_deployed_and_changed_without_cargo(aws, make_deploy, names, provider):
    """As in continuous integration, with nothing on the PATH but the system's programs."""
    stack, path = names("released"), "/usr/bin:/bin"
    assert subprocess.run(["sh", "-c", "command -v cargo"], env={"PATH": path}, check=False).returncode
    output = make_deploy.released(stack, "TAGS=team=network engineering cost=42",
                                  given(provider, AlertEmail="ops@example.com"), PATH=path)
    assert re.search(r"SHA256SUMS has the SHA-256 [0-9a-f]{64}", output)
    assert "TestMessage: echo" in output
    assert f"Deployed {stack} to {REGION} of account {PROVIDER}." in output
    assert "DryRun=false" not in output
    assert re.search(r"1\. AWS has sent an email to ops@example.com\. Open the link.*\n"
                     r"  2\. Send test messages.*\n     echo", output)
    first = described(aws, stack)
    assert first["StackStatus"] == "CREATE_COMPLETE"
    assert {each["Key"]: each["Value"] for each in first["Tags"]} == {"team": "network engineering", "cost": "42"}
    function = aws.client("lambda").get_function_configuration(FunctionName=next(
        each["OutputValue"] for each in first["Outputs"] if each["OutputKey"] == "DriftWatcherName"))
    assert (function["Architectures"], function["Handler"]) == (["x86_64"], "bootstrap")

    before = parameters(aws, stack)
    output = make_deploy.released(stack, "TAGS=cost=43", PATH=path,
                                  SET="HealthSchedule=rate(5 minutes) CrossZone=enforce")
    assert ("\nParameters:\n  CrossZone: alert -> enforce\n  HealthSchedule: rate(1 minute) -> rate(5 minutes)\n"
            "\ndbt's endpoints:\n  ") in output
    assert "\nTags:\n  cost: 42 -> 43\n\nResources:\n" in output
    assert "What to do now" not in output
    assert parameters(aws, stack) == {**before, "HealthSchedule": "rate(5 minutes)", "CrossZone": "enforce"}
    assert {each["Key"]: each["Value"] for each in described(aws, stack)["Tags"]} == {
        "team": "network engineering", "cost": "43"}
    assert "Nothing changes" in make_deploy.released(stack, PATH=path)
    changes = aws.client("cloudformation").list_change_sets(StackName=stack)["Summaries"]
    assert "FAILED" not in [each["Status"] for each in changes]


def test_the_named_profile_and_region_are_those_of_every_call(aws, make_deploy, names, tmp_path):
    """Also with keys of another account in the environment."""
    (tmp_path / "credentials").write_text(
        f"[other]\naws_access_key_id = {local.UNTRUSTED}\naws_secret_access_key = any\n")
    aws.control("fault", action="ec2:DescribeVpcEndpointServiceConfigurations", code="UnauthorizedOperation")
    before = len(aws.control("requests", since=0))
    output = make_deploy.released(names("identity"), "PROFILE=other", "REGION=us-east-1", succeeds=False,
                                  AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"),
                                  SET=f"EndpointServiceIds=vpce-svc-00000000000000000 DbtPrincipals={PRINCIPAL}")
    assert f"to us-east-1 of account {local.UNTRUSTED}, as arn:aws:iam::{local.UNTRUSTED}:root" in output
    calls = aws.control("requests", since=before)
    assert {"sts", "s3", "cloudformation"} <= {each["service"] for each in calls}
    assert {each["principal"] for each in calls if each["principal"].endswith(":root")} == {
        f"arn:aws:iam::{local.UNTRUSTED}:root"}
    assert output.count(f"account {local.UNTRUSTED}") >= 3


def test_an_update_that_fails_leaves_everything_as_it_was(aws, make_deploy, names, provider):
    stack = names("rolled-back")
    make_deploy.released(stack, given(provider))
    before = parameters(aws, stack)
    aws.control("fault", action="ec2:DescribeVpcEndpointServiceConfigurations", code="UnauthorizedOperation")
    output = make_deploy.released(stack, "SET=EndpointServiceIds+=vpce-svc-00000000000000000", succeeds=False)
    assert "is UPDATE_ROLLBACK_COMPLETE: everything is as it was before." in output
    assert parameters(aws, stack) == before


class Named(deploy.Account):
    """An identity that makes no calls to AWS."""

    def __init__(self, profile=""):
        self.region, self.profile = REGION, profile


@pytest.mark.parametrize("status, command", [
    ("CREATE_COMPLETE", None), ("UPDATE_ROLLBACK_COMPLETE", None),
    ("CREATE_IN_PROGRESS", "describe-stacks"), ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "describe-stacks"),
    ("UPDATE_FAILED", "rollback-stack"), ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
    ("ROLLBACK_COMPLETE", "wait stack-delete-complete"), ("CREATE_FAILED", "wait stack-delete-complete"),
    ("DELETE_FAILED", "wait stack-delete-complete"),
])
def test_a_broken_stack_is_refused_with_the_command_that_helps(status, command):
    stack = {"StackName": "guard", "StackStatus": status, "Parameters": [{"ParameterKey": "EndpointServiceIds"}]}
    if not command:
        deploy.check_state(stack, Named())
        return
    with pytest.raises(deploy.Problem, match=f"The stack guard is {status}") as problem:
        deploy.check_state(stack, Named("net admin"))
    last = str(problem.value).rpartition("\n")[2]
    assert f"aws cloudformation {command} --region {REGION} --profile 'net admin' --stack-name guard" in last


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "DELETE_FAILED"])
def test_a_stack_of_something_else_is_left_alone(status):
    with pytest.raises(deploy.Problem, match="no parameter EndpointServiceIds") as problem:
        deploy.check_state({"StackName": "shop", "StackStatus": status}, Named())
    assert "aws cloudformation" not in str(problem.value)


GOES_ON = r"begun to change the stack {stack} in .*, it goes on.*\n    aws cloudformation describe-stacks "


def test_a_lost_answer_never_counts_as_nothing_deployed(aws, make_deploy, names, provider):
    aws.control("fault", action="cloudformation:ExecuteChangeSet", code="InternalFailure", message="not now")
    stack = names("lost")
    output = make_deploy.released(stack, given(provider), succeeds=False)
    assert re.search(rf"AWS cannot be asked any more: .*not now\. .*{GOES_ON.format(stack=stack)}", output)
    assert "Nothing was deployed" not in output


def interrupted_in(function, monkeypatch, aws, stack, release, provider):
    """What `make deploy` says if Ctrl-C is pressed as it calls this function."""
    def press(*_):
        raise KeyboardInterrupt
    name, parameters = given(provider).split("=", 1)
    variables = {"STACK": stack, "PREBUILT": str(release), "YES": "1", name: parameters}
    for name, value in {**aws.environment(), **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(function, press)
    with pytest.raises(SystemExit) as ended:
        deploy.main()
    return str(ended.value)


def test_ctrl_c_during_the_change_says_that_it_goes_on(aws, names, provider, release, monkeypatch):
    stack = names("left")
    # The pause before the first look at what CloudFormation does.
    output = interrupted_in("deploy.time.sleep", monkeypatch, aws, stack, release, provider)
    assert re.search(rf"interrupted\. .*{GOES_ON.format(stack=stack)}", output)
    assert "Nothing was deployed" not in output


def test_ctrl_c_after_the_change_denies_nothing(aws, names, provider, release, monkeypatch):
    output = interrupted_in("deploy.print_next_steps", monkeypatch, aws, names("done"), release, provider)
    assert "interrupted" in output
    assert "Nothing was deployed" not in output


def test_an_arm64_stack_stays_arm64(aws, make_deploy, names, provider, tmp_path):
    """Nobody names the architecture again, and the release has only this one."""
    artifacts.write(tmp_path / "release", "arm64", dict.fromkeys(artifacts.FUNCTIONS, STUB))
    stack, prebuilt = names("arm"), f"PREBUILT={tmp_path / 'release'}"
    make_deploy(f"STACK={stack}", prebuilt, "YES=1", "ARCHITECTURE=arm64", given(provider))
    make_deploy(f"STACK={stack}", prebuilt, "YES=1", "SET=AlertAfter=3")
    assert (parameters(aws, stack)["Architecture"], parameters(aws, stack)["AlertAfter"]) == ("arm64", "3")


def test_another_stack_that_already_watches_the_service_is_named(make_deploy, names, provider, release):
    first, second = names("first"), names("second")
    make_deploy.released(first, given(provider))
    answers = f"{provider.service_id}\n{PRINCIPAL}\n\n\nno\n"
    output = make_deploy(f"STACK={second}", f"PREBUILT={release}", answers=answers, succeeds=False)
    assert re.search(rf"{provider.service_id} \(db-\d+\): the stack {first} watches it already", output)
    assert output.count(f"CAUTION: The stack {first} watches {provider.service_id} already.") == 2
    assert "CAUTION" not in make_deploy.released(first, "SET=AlertAfter=3")


def test_a_topic_that_alarms_do_not_reach_is_a_caution_and_not_refused(aws, make_deploy, names, provider):
    """Without permission to read the topic, the output says that it is not checked."""
    def topic(name, key):
        return aws.client("sns").create_topic(Name=names(name), Attributes={"KmsMasterKeyId": key})["TopicArn"]
    closed, own = topic("alerts", "alias/aws/sns"), topic("pager", "alias/own")
    stack = names("topics")
    output = make_deploy.released(stack, given(provider, AlertTopicArn=closed, PagerTopicArn=own))
    assert output.count(f"CAUTION: AlertTopicArn: {closed} is encrypted with AWS's own key alias/aws/sns") == 2
    assert output.count("CAUTION") == 2
    assert "Send test messages, and see that they arrive: four of the guard's, and then one of CloudWatch's:" in output
    assert re.search(r"\. See that your pager opens an incident.*\n     aws cloudwatch set-alarm-state", output)
    aws.control("fault", action="sns:GetTopicAttributes", code="AuthorizationError", message="not allowed to read")
    output = make_deploy.released(stack, f"SET=AlertTopicArn={own} PagerTopicArn={closed}")
    for unread in (closed, own):
        assert f"{unread} cannot be read, so whether CloudWatch's alarms reach it is not checked: " in output
    assert "CAUTION" not in output
    assert "Send test messages" in output


def test_a_failed_first_deployment_is_explained_and_cleared_by_the_printed_command(aws, make_deploy, names):
    """The service does not exist, and whoever deploys may not list the services, so that it is not noticed before."""
    stack = names("failed")
    absent = f"SET=EndpointServiceIds=vpce-svc-00000000000000000 DbtPrincipals={PRINCIPAL}"
    aws.control("fault", action="ec2:DescribeVpcEndpointServiceConfigurations", code="UnauthorizedOperation")
    output = make_deploy.released(stack, absent, succeeds=False)
    assert "is ROLLBACK_COMPLETE: its first deployment failed" in output
    assert "vpce-svc-00000000000000000" in output
    again = make_deploy.released(stack, absent, succeeds=False)
    assert f"The stack {stack} is ROLLBACK_COMPLETE: its first deployment failed" in again
    [command] = re.findall(r"^    (aws cloudformation delete-stack .*)$", again, re.MULTILINE)
    environment = aws.environment()
    subprocess.run(command, shell=True, check=True, timeout=local.TIMEOUT,
                   env={**environment, "PATH": f"{TOOLS}{os.pathsep}{environment['PATH']}"})
    assert "The deployment failed:" in make_deploy.released(stack, absent, succeeds=False)


def test_a_bucket_of_another_account_is_refused(aws, make_deploy, names, provider):
    bucket = names("taken")
    aws.client("s3", DBT).create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    output = make_deploy.released(names("guard"), f"BUCKET={bucket}", given(provider), succeeds=False)
    assert f"The bucket {bucket} cannot be used" in output


# ---- who deploys -----------------------------------------------------------------------------------------------------


def policy(without=()):
    """docs/deploy-policy.json, or with less."""
    document = json.loads((ROOT / "docs/deploy-policy.json").read_text(encoding="utf-8"))
    for statement in document["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        statement["Action"] = [action for action in actions if action not in without] or ["none:None"]
    return document


def deployer(aws, document, name):
    """A user with this policy and nothing else."""
    iam = aws.client("iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="deploy", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.mark.parametrize("missing", ["s3:PutObject", "cloudformation:ExecuteChangeSet"])
def test_with_less_than_the_documented_policy_the_deployment_is_refused(
        aws, make_deploy, names, provider, release, missing):
    user = deployer(aws, policy(without=[missing]), names("deployer"))
    output = make_deploy(f"PREBUILT={release}", "YES=1", given(provider), succeeds=False, **user)
    assert re.search(rf"not authorized to perform: {missing}|AccessDenied|Access Denied", output)


def test_the_documented_policy_is_enough_to_deploy_and_to_change(aws, make_deploy, names, provider, release):
    """For this account, Region and stack: those that the document names. tests/template/test_deploy_policy.py has what
    CloudFormation calls in the deployer's name, which the local AWS does not check."""
    user = deployer(aws, policy(), names("deployer"))
    make_deploy(f"PREBUILT={release}", "YES=1", given(provider), **user)
    make_deploy(f"PREBUILT={release}", "YES=1", "SET=DryRun=true", **user)
    assert parameters(aws, "privatelink-guard")["DryRun"] == "true"
    denied = make_deploy("STACK=another", f"PREBUILT={release}", "YES=1", given(provider), succeeds=False, **user)
    assert "Whether the stack another exists is not known" in denied


def test_with_roles_of_your_own_nobody_needs_to_create_any(aws, make_deploy, names, provider, release):
    """The deployer may pass them and nothing else of IAM: docs/permissions.md. The stack may have had its own."""
    iam, roles = aws.client("iam"), {}
    for name, service in {"ConnectionAcceptorRoleArn": "lambda", "HealthWatcherRoleArn": "lambda",
                          "DriftWatcherRoleArn": "lambda", "ScheduleRoleArn": "scheduler"}.items():
        trust = {"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
        roles[name] = iam.create_role(RoleName=names("own"), Path="/security/",
                                      AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    document = policy()
    document["Statement"] = [each for each in document["Statement"] if each["Sid"] not in ("Roles", "SharedPolicy")]
    [passing] = [each for each in document["Statement"] if each["Sid"] == "PassRoles"]
    passing["Resource"] = list(roles.values())
    user = deployer(aws, document, names("deployer"))
    more = "".join(f" {name}={arn}" for name, arn in roles.items())
    output = make_deploy(f"PREBUILT={release}", "YES=1", given(provider) + more, **user)
    assert [each["RoleName"] for each in iam.list_roles()["Roles"]
            if each["RoleName"].startswith("privatelink-guard-")] == []
    used = {each["Role"] for each in aws.client("lambda").list_functions()["Functions"]
            if each["FunctionName"].startswith("privatelink-guard-")}
    assert used == {arn for name, arn in roles.items() if name != "ScheduleRoleArn"}
    assert f"privatelink-guard policy --role schedules --stack privatelink-guard --region {REGION}" in output
    foreign = make_deploy(f"PREBUILT={release}", "YES=1", f"SET=ScheduleRoleArn=arn:aws:iam::{DBT}:role/own",
                          succeeds=False, **user)
    assert f"A role must be in account {PROVIDER}, where the stack is" in foreign


# ---- the release's files ---------------------------------------------------------------------------------------------


@pytest.fixture
def copy(release, tmp_path):
    for each in release.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    return tmp_path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_changed_byte_is_refused_before_aws_is_asked(aws, make_deploy, copy, provider):
    flip(copy / "health-watcher-x86_64.zip")
    before = len(aws.control("requests", since=0))
    output = make_deploy(f"PREBUILT={copy}", "YES=1", given(provider), succeeds=False)
    assert "health-watcher-x86_64.zip is not the file that SHA256SUMS lists" in output
    assert len(aws.control("requests", since=0)) == before


@pytest.mark.parametrize("change, message", [
    (lambda folder: flip(folder / "template-x86_64.yaml"), "template-x86_64.yaml is not the file that SHA256SUMS"),
    (lambda folder: flip(folder / "chat.yaml"), "chat.yaml is not the file that SHA256SUMS lists"),
    (lambda folder: (folder / "SHA256SUMS").unlink(), "has no SHA256SUMS"),
    (lambda folder: (folder / "SHA256SUMS").write_text(""), "is not a list"),
    (lambda folder: (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../evil\n"), "is not a list"),
    (lambda folder: (folder / "chat.yaml").unlink(), "chat.yaml is not in"),
])
def test_files_that_are_changed_or_not_all_there_are_refused(copy, change, message):
    change(copy)
    with pytest.raises(artifacts.Refused, match=message):
        artifacts.verify(copy, artifacts.names("x86_64"))


class Website:
    """Serves a folder, as a page of releases does, and from its n-th answer on another one."""

    def __init__(self, folder):
        self.folder, self.asked, self.then, self.switch_at = folder, [], folder, None
        self.redirect, site = None, self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def translate_path(self, path):
                site.asked.append(path.strip("/"))
                switched = site.switch_at is not None and len(site.asked) > site.switch_at
                return str((site.then if switched else site.folder) / path.strip("/"))

            def send_head(self):
                if not site.redirect:
                    return super().send_head()
                self.send_response(302)
                self.send_header("Location", site.redirect)
                self.end_headers()
                return None

            def log_message(self, *arguments):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def website(copy):
    site = Website(copy)
    with site.server:
        threading.Thread(target=site.server.serve_forever, daemon=True).start()
        yield site
        site.server.shutdown()


@pytest.fixture
def another(copy, tmp_path_factory):
    """Another release, complete and consistent."""
    folder = tmp_path_factory.mktemp("another")
    program = folder / "program"
    program.write_bytes(b"#!/bin/sh\n# another program\nexit 1\n")
    artifacts.write(folder / "release", "x86_64", dict.fromkeys(artifacts.FUNCTIONS, program))
    return folder / "release"


def test_a_server_that_changes_its_answers_deploys_nothing_but_what_was_shown(
        aws, make_deploy, names, provider, website, another):
    """It serves one release until its last file was got, and another after that: each file is asked for once."""
    shown = artifacts.sha256((website.folder / artifacts.SUMS).read_bytes())
    wanted = [artifacts.SUMS, *artifacts.names("x86_64")]
    website.then, website.switch_at, stack = another, len(wanted), names("replayed")
    zipped = (website.folder / "drift-watcher-x86_64.zip").read_bytes()
    # Nor is what lies in the bucket under the code's name.
    aws.client("s3").put_object(Bucket=f"privatelink-guard-{PROVIDER}-{REGION}", Body=b"another program",
                                Key=f"privatelink-guard/{hashlib.md5(zipped).hexdigest()}")
    output = make_deploy(f"STACK={stack}", f"PREBUILT={website.address}", "YES=1", given(provider))
    assert f"SHA256SUMS has the SHA-256 {shown}" in output
    assert website.asked == wanted
    function = aws.client("lambda").get_function_configuration(FunctionName=next(
        each["OutputValue"] for each in described(aws, stack)["Outputs"] if each["OutputKey"] == "DriftWatcherName"))
    assert base64.b64decode(function["CodeSha256"]).hex() == artifacts.sha256(zipped)


@pytest.mark.parametrize("switch_at", [1, 2, 3])
def test_a_server_that_changes_its_answers_halfway_is_refused(website, another, tmp_path, switch_at):
    website.then, website.switch_at = another, switch_at
    with pytest.raises(artifacts.Refused, match="is not the file that SHA256SUMS lists"):
        artifacts.Release(website.address, tmp_path / "new").fetch(artifacts.names("x86_64"))


def test_only_https_and_what_is_there_is_read(website, tmp_path):
    def read(source):
        return artifacts.Release(source, tmp_path / "new")
    with pytest.raises(artifacts.Refused, match="is not an https address"):
        read("http://example.com/release")
    with pytest.raises(artifacts.Refused, match="There is no folder /nonexistent"):
        read("/nonexistent")
    with pytest.raises(artifacts.Refused, match=r"has no template-arm64\.yaml.*a release without this architecture"):
        read(website.address).fetch(artifacts.names("arm64"))
    with pytest.raises(artifacts.Refused, match="cannot be read"):
        read(f"{website.address}/nothing")
    website.redirect = "http://example.com/SHA256SUMS"
    with pytest.raises(artifacts.Refused, match=r"redirects to http://example\.com/SHA256SUMS"):
        read(website.address)


def test_a_folder_that_changes_after_it_was_read_changes_nothing(copy, tmp_path_factory):
    wanted = artifacts.names("x86_64")
    release = artifacts.Release(str(copy), tmp_path_factory.mktemp("kept"))
    before = {name: (release.fetch(wanted) / name).read_bytes() for name in wanted}
    (copy / wanted[-1]).write_bytes(artifacts.zipped(b"another program"))
    artifacts.write_sums(copy)
    assert {name: (release.fetch(wanted) / name).read_bytes() for name in wanted} == before


def test_another_release_than_the_named_hash_is_refused(aws, make_deploy, names, provider, release, copy):
    stack, digest = names("hashed"), artifacts.sha256((release / artifacts.SUMS).read_bytes())
    make_deploy.released(stack, f"SHA256={digest.upper()}", given(provider))
    (copy / "drift-watcher-x86_64.zip").write_bytes(artifacts.zipped(b"another program"))
    artifacts.write_sums(copy)
    before = len(aws.control("requests", since=0))
    output = make_deploy(f"PREBUILT={copy}", "YES=1", f"SHA256={digest}", succeeds=False)
    assert "is not the release that SHA256 names" in output
    assert len(aws.control("requests", since=0)) == before


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64])
def test_a_hash_that_is_none_is_refused(make_deploy, release, digest):
    output = make_deploy(f"PREBUILT={release}", "YES=1", f"SHA256={digest}", succeeds=False)
    assert f'SHA256="{digest}" is no SHA-256' in output


def test_two_packagings_are_the_same_bytes(release, tmp_path):
    """Whatever the times and modes of the files."""
    copied = tmp_path / "bootstrap"
    copied.write_bytes(STUB.read_bytes())
    os.utime(copied, (1, 1))
    artifacts.write(tmp_path / "again", "x86_64", dict.fromkeys(artifacts.FUNCTIONS, copied))
    assert {each.name: each.read_bytes() for each in (tmp_path / "again").iterdir()} == {
        each.name: each.read_bytes() for each in release.iterdir()}
    assert artifacts.verify(release) == artifacts.verify(tmp_path / "again")
