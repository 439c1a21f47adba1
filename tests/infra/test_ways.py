"""The ways to deploy, each to the local AWS with the real functions: they give the same alert, and the same end.

`make deploy` with a release, `sam build` and `sam deploy --guided`, and what StackSets does in a place with the role of
infra/stackset-role.yaml. StackSets itself is not part of the local AWS.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import uuid

import pytest
from botocore.exceptions import ClientError
from infra_support import INFRA, ROOT, TOOLS, load, local

sys.path.insert(0, str(INFRA))

import artifacts

PROVIDER, DBT, REGION, eventually = local.PROVIDER, local.DBT, local.REGION, local.eventually
ADMINISTRATOR = "999988887777"
PRINCIPAL, EMAIL = f"arn:aws:iam::{DBT}:root", "ops@example.com"
BUILT = {name: ROOT / "target/debug" / name for name in artifacts.FUNCTIONS}
ROLE = "stacksets-exec-custom-privatelink-guard"
# The tests start the functions.
SELDOM = {f"{each}Schedule": "rate(2 hours)" for each in ("Acceptor", "Health", "Drift")}

clean = local.clean  # for every test here


@pytest.fixture(scope="module")
def service(aws):
    """One endpoint service for every way: nothing listens behind it, which is an alert."""
    return local.Provider(aws, "ways").service_id


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    artifacts.write(folder, "x86_64", BUILT, level=1)
    return folder


def copy_project(folder):
    """What `sam` reads, but the Makefile."""
    (folder / "infra").mkdir(parents=True)
    for file in ("template.yaml", "samconfig.toml", "infra/chat.yaml"):
        shutil.copy(ROOT / file, folder / file)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """What `sam build` reads, with functions that are compiled already."""
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder)
    lines = [f"build-{''.join(each.title() for each in name.split('-'))}:\n\tcp {path} $(ARTIFACTS_DIR)/bootstrap\n"
             for name, path in BUILT.items()]
    (folder / "Makefile").write_text("".join(lines), encoding="utf-8")
    return folder


def run(aws, command, cwd, answers="", succeeds=True):
    """What a command prints."""
    environment = {**aws.environment(), "SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "0.2"}
    environment["PATH"] = os.pathsep.join([str(TOOLS), str(ROOT / ".tools/sam/bin"), os.environ["PATH"]])
    done = subprocess.run(command, cwd=cwd, input=answers, text=True, capture_output=True, env=environment, check=False,
                          timeout=local.TIMEOUT)
    assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
    return done.stdout + done.stderr


def outputs(aws, stack):
    [described] = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    assert described["StackStatus"] == "CREATE_COMPLETE"
    return {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}


# ---- the ways --------------------------------------------------------------------------------------------------------


class MakeDeploy:
    """`make deploy PREBUILT=…`, with the questions that it asks the first time."""

    stack = "way-make"

    def __init__(self, aws, service, release, **_):
        given = " ".join(f"{name}={value}" for name, value in SELDOM.items())
        # The four questions, the bucket, the changes.
        answers = f"{service}\n{PRINCIPAL}\n{EMAIL}\nfalse\ny\ny\n"
        command = ["make", "deploy", f"STACK={self.stack}", f"PREBUILT={release}", f"SET={given}"]
        printed = run(aws, command, ROOT, answers)
        assert f"Deployed {self.stack} to {REGION} of account {PROVIDER}." in printed


class SamGuided:
    """`sam build` and `sam deploy --guided`, answered as a new user does: three answers, and Enter for the rest."""

    stack = "way-sam"

    def __init__(self, aws, service, project, **_):
        run(aws, ["sam", "build"], project)
        given = {"EndpointServiceIds": service, "DbtPrincipals": PRINCIPAL, "AlertEmail": EMAIL, **SELDOM}
        declared = re.findall(r"(?m)^  (\w+):\n    Type: (?!AWS)", (ROOT / "template.yaml").read_text(encoding="utf-8"))
        # The stack's name, the Region, the parameters, six questions of SAM's own, and whether to deploy the changes.
        answers = [self.stack, "", *(given.get(name, "") for name in declared), *[""] * 6, "y", ""]
        printed = run(aws, ["sam", "deploy", "--guided"], project, "\n".join(answers))
        assert re.findall(r"Parameter (\w+) \[(.*?)\]", printed)[:4] == [
            ("EndpointServiceIds", "required"), ("DbtPrincipals", "required"), ("AlertEmail", ""), ("DryRun", "false")]
        assert "Successfully created/updated stack" in printed
        # What was answered is kept: the next deployment asks nothing of it.
        again = run(aws, ["sam", "deploy", "--no-fail-on-empty-changeset"], project)
        assert f'"EndpointServiceIds": "{service}"' in again
        assert "is up to date" in again


class StackSets:
    """What StackSets does in a place: a stack of its name, created by the execution role."""

    stack = f"StackSet-privatelink-guards-{uuid.uuid4()}"

    def __init__(self, aws, service, release, **_):
        prefix = "ways-acme-guard"
        # The local AWS finds a template only in the bucket of the stack's own account.
        printed = run(aws, ["make", "package", f"BUILD={release}", f"PREFIX={prefix}", f"REGIONS={REGION}"], ROOT)
        key = re.search(r"(?m)^https://[^/]+/(\S+)$", printed)[1]
        aws.cli("cloudformation", "deploy", "--stack-name", "stackset-role", "--template-file",
                str(INFRA / "stackset-role.yaml"), "--capabilities", "CAPABILITY_NAMED_IAM", "--parameter-overrides",
                f"AdministratorAccountId={ADMINISTRATOR}")
        self.client = execution_role(aws, administrator(aws))
        parameters = {"EndpointServiceIds": service, "DbtPrincipals": PRINCIPAL, "AlertEmail": EMAIL, **SELDOM}
        guard = {"TemplateURL": f"{aws.endpoint}/{prefix}-{REGION}/{key}",
                 "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
                 "Parameters": [{"ParameterKey": name, "ParameterValue": given} for name, given in parameters.items()]}
        with pytest.raises(ClientError, match="AccessDenied"):
            self.client.create_stack(StackName="another", **guard)
        self.client.create_stack(StackName=self.stack, **guard)
        eventually(lambda: self.client.describe_stacks(StackName=self.stack)["Stacks"][0]["StackStatus"]
                   != "CREATE_IN_PROGRESS")


def administrator(aws):
    """A user of the stack set's account, who may do what the administration role of infra/stackset.yaml may."""
    template = load(INFRA / "stackset.yaml")
    [policy] = template["Resources"]["AdministrationRole"]["Properties"]["Policies"]
    [statement] = policy["PolicyDocument"]["Statement"]
    role = template["Parameters"]["ExecutionRoleName"]["Default"]
    arn = statement["Resource"]["Fn::Sub"].replace("${AWS::Partition}", "aws").replace("${ExecutionRoleName}", role)
    document = {"Version": "2012-10-17", "Statement": [{**statement, "Resource": arn}]}
    iam = aws.client("iam", ADMINISTRATOR)
    iam.create_user(UserName="administrator")
    iam.put_user_policy(UserName="administrator", PolicyName="assume", PolicyDocument=json.dumps(document))
    return iam.create_access_key(UserName="administrator")["AccessKey"]


def execution_role(aws, key):
    """CloudFormation with the credentials of the execution role."""
    sts = aws.client("sts", key["AccessKeyId"], key["SecretAccessKey"])
    arn = f"arn:aws:iam::{PROVIDER}:role/{ROLE}"
    session = sts.assume_role(RoleArn=arn, RoleSessionName="stacksets")["Credentials"]
    return aws.session.create_client(
        "cloudformation", region_name=REGION, endpoint_url=aws.endpoint, aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"], aws_session_token=session["SessionToken"])


# ---- what each gives -------------------------------------------------------------------------------------------------

WAYS = [MakeDeploy, SamGuided, StackSets]
# The alert of each way so far.
alerts = {}


def next_email(aws, since):
    """The next email of drift-watcher, with its subject in front. The others run on their schedules as well."""
    [email, *_] = eventually(lambda: [
        each for each in aws.control("mail", since=since)
        if each["endpoint"] == EMAIL and "function drift-watcher" in each["message"]])
    return f"{email['subject']}\n{email['message']}"


def plain(text, stack):
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|-\d{10}\b", "TIME", text.replace(stack, "STACK"))


@pytest.mark.skipif(not all(path.exists() for path in BUILT.values()), reason="needs `make local-build`")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.stack.split("-privatelink")[0])
def test_every_way_gives_the_same_alert_and_a_last_message(aws, way, service, release, project, tmp_path):
    way(aws=aws, service=service, release=release, project=project)
    named = outputs(aws, way.stack)
    before = len(aws.control("mail"))
    run(aws, ["aws", "lambda", "invoke", "--function-name", named["DriftWatcherName"], os.devnull], tmp_path)
    alert = next_email(aws, before)
    assert "CRITICAL" in alert
    alerts[way] = plain(alert, way.stack)
    assert set(alerts.values()) == {alerts[way]}

    before = len(aws.control("mail"))
    run(aws, ["bash", "-ec", named["LastMessage"]], tmp_path)
    last = next_email(aws, before)
    assert last.startswith("[NOTICE] privatelink-guard: the guard is being removed\n")
    assert f"stack {way.stack}" in last
    run(aws, ["aws", "cloudformation", "delete-stack", "--stack-name", way.stack], tmp_path)
    run(aws, ["aws", "cloudformation", "wait", "stack-delete-complete", "--stack-name", way.stack], tmp_path)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        aws.client("lambda").get_function(FunctionName=named["DriftWatcherName"])


# ---- without a build -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where, arguments", [
    ("project", []), ("project", ["--template-file", "template.yaml"]),
    ("elsewhere", ["--template-file", "../project/template.yaml"]),
])
def test_sam_deploy_without_a_build_uploads_nothing(aws, tmp_path, where, arguments):
    """Otherwise it would upload all of the folder, target/ included, and report a deployed stack."""
    (tmp_path / "elsewhere").mkdir()
    copy_project(tmp_path / "project")
    before = len(aws.control("requests", since=0))
    printed = run(aws, ["sam", "deploy", "--no-confirm-changeset", *arguments], tmp_path / where, succeeds=False)
    assert "run-sam-build-first" in printed
    assert "Traceback" not in printed
    assert not [each for each in aws.control("requests", since=before) if each["action"] == "PutObject"]


def test_sam_deploy_without_required_parameters_says_which(aws, tmp_path):
    """In CloudFormation's words, instead of a traceback of SAM's."""
    folder = tmp_path / "project"
    copy_project(folder)
    (folder / "bootstrap").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "Makefile").write_text("build-%:\n\tcp bootstrap $(ARTIFACTS_DIR)/bootstrap\n", encoding="utf-8")
    run(aws, ["sam", "build"], folder)
    printed = run(aws, ["sam", "deploy", "--stack-name", "asked"], folder, succeeds=False)
    assert "must be endpoint service ids such as" in " ".join(printed.split())
    assert "Traceback" not in printed


def test_packaging_the_template_without_a_build_is_refused(aws, names):
    bucket = names("unbuilt")
    aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    error = aws.cli("cloudformation", "package", "--template-file", str(ROOT / "template.yaml"), "--s3-bucket", bucket,
                    succeeds=False)
    assert "run-sam-build-first" in error
    assert "Contents" not in aws.client("s3").list_objects_v2(Bucket=bucket)
