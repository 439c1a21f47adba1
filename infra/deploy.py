"""Deploys the guard: `make deploy`. It asks everything it needs before it builds anything, and shows the changes first.

Settings are variables, as in `make deploy STACK=guard REGION=eu-central-1 SET="DryRun=false"`:

    STACK      the stack's name                                               privatelink-guard
    SET        parameters: Name=value, separated by spaces. A value may hold spaces and parentheses, and ends where the
               next Name= begins: SET="HealthSchedule=rate(5 minutes) CrossZone=enforce". It takes no quotes of its own;
               in make, write $$ for $. What it does not name keeps its value.
    TAGS       the stack's tags, written like SET. Other tags of the stack stay.
    PROFILE, REGION   as in the AWS CLI
    PREBUILT   the folder or the https address of a release: nothing is compiled, and no Rust is needed
    ARCHITECTURE      x86_64 or arm64                                         the deployed one, or x86_64
    BUCKET     where the code is uploaded                                     privatelink-guard-<account>-<region>
    YES=1      ask nothing, for continuous integration
"""
import dataclasses
import difflib
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import artifacts
import botocore.exceptions
import botocore.session
import yaml
from botocore.config import Config

ROOT = artifacts.ROOT
# Parameters with another name than in an earlier version. The old name is never taken for "not set".
RENAMED = {"UnknownRequesters": "UntrustedRequests", "StillWatching": "Heartbeat"}
# What is asked the first time; everything else has a default that is safe.
QUESTIONS = {"EndpointServiceIds": None, "DbtPrincipals": None, "AlertEmail": "", "DryRun": "true"}
# EC2's SDK takes this much to compile.
BUILD_GB = 9


class Problem(Exception):
    """Why nothing was deployed: what is wrong, what it means, and what to do."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command was given."""

    stack: str
    given: dict
    tags: dict
    profile: str
    region: str
    prebuilt: str
    architecture: str
    bucket: str
    ask: bool

    @staticmethod
    def read(environment):
        def of(name, default=""):
            return environment.get(name, "").strip() or default
        stack = of("STACK", "privatelink-guard")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}", stack):
            raise Problem(f'STACK="{stack}" cannot be a stack\'s name: letters, digits and hyphens, a letter first.')
        return Settings(stack=stack, given=pairs("SET", of("SET")),
                        tags=pairs("TAGS", of("TAGS"), r"[^\s=]+"), profile=of("PROFILE"), region=of("REGION"),
                        prebuilt=of("PREBUILT"), architecture=of("ARCHITECTURE"), bucket=of("BUCKET"),
                        ask=not of("YES"))


def pairs(variable, text, name=r"[A-Za-z][A-Za-z0-9]*"):
    """Name=value, separated by spaces; a value ends where the next name begins."""
    parts = re.split(rf"(?:^|\s+)(?={name}=)", text.strip())
    if parts[0]:
        raise Problem(f'{variable}="{text}" does not begin with Name=value. Example: {variable}="DryRun=false"')
    found = dict(part.split("=", 1) for part in (each.strip() for each in parts[1:]))
    quoted = [key for key, value in found.items() if value.startswith(("'", '"'))]
    if quoted:
        raise Problem(f"{variable} takes no quotes inside it, so those of {', '.join(quoted)} would be part of the "
                      "value. Leave them out: a value ends where the next name begins.")
    return found


# ---- who deploys, and where ------------------------------------------------------------------------------------------


class Account:
    """The caller's session, looked at before anything else."""

    def __init__(self, settings):
        try:
            self.session = botocore.session.Session(profile=settings.profile or None)
            self.region = settings.region or self.session.get_config_variable("region")
            if not self.region:
                raise Problem("No Region is set, so there is nowhere to deploy to. Name that of your endpoint service: "
                              "make deploy REGION=eu-central-1")
            caller = self.client("sts").get_caller_identity()
        except botocore.exceptions.ProfileNotFound as error:
            raise Problem(f"{error}. These exist: {', '.join(self.profiles()) or 'none'}. "
                          "make deploy PROFILE=<name> selects one.") from None
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise Problem(f"AWS does not accept your credentials: {error}\nSign in first, for example with "
                          "`aws sso login` or `aws configure`; make deploy PROFILE=<name> selects a profile.") from None
        self.id, self.arn = caller["Account"], caller["Arn"]

    @staticmethod
    def profiles():
        return botocore.session.Session().available_profiles

    def client(self, service):
        return self.session.create_client(service, region_name=self.region, config=Config(retries={"mode": "standard"}))

    def environment(self):
        """For the AWS CLI: the same caller and Region."""
        profile = {"AWS_PROFILE": self.session.profile} if self.session.profile else {}
        return {**os.environ, **profile, "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region, "AWS_PAGER": ""}


# ---- what is deployed ------------------------------------------------------------------------------------------------


def deployed(cloudformation, name):
    """The stack, or nothing if there is none. Any other error ends the deployment: taking it for "no stack" would
    reset every parameter."""
    try:
        [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except botocore.exceptions.ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise Problem(f"Whether the stack {name} exists is not known, so nothing is deployed: {error}") from None
    # A change set that nobody executed: there are no resources yet.
    return None if stack["StackStatus"] == "REVIEW_IN_PROGRESS" else stack


def check_state(stack, region):
    """Only a stack at rest can be updated."""
    status, name = stack["StackStatus"], stack["StackName"]
    aws = f"aws cloudformation {{}} --region {region} --stack-name {name}"
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
        failed = "'StackEvents[?ends_with(ResourceStatus, `FAILED`)].[LogicalResourceId, ResourceStatusReason]'"
        raise Problem(f"The stack {name} is {status}: its first deployment failed, or its deletion did. Nothing of it "
                      f"works, and CloudFormation cannot update it. This shows why:\n"
                      f"    {aws.format('describe-stack-events')} --output text --query {failed}\n"
                      f"This clears it; then deploy again:\n"
                      f"    {aws.format('delete-stack')} && {aws.format('wait stack-delete-complete')}")
    if status == "UPDATE_ROLLBACK_FAILED":
        raise Problem(f"The stack {name} is {status}: an update failed, and so did going back. This tries again:\n"
                      f"    {aws.format('continue-update-rollback')}")
    if status.endswith("_IN_PROGRESS"):
        raise Problem(f"The stack {name} is {status}: somebody is deploying it. This waits for them:\n"
                      f"    {aws.format('wait stack-update-complete')}")


# ---- parameters ------------------------------------------------------------------------------------------------------


def declared(text):
    """The template's parameters, and their labels."""
    class Loader(yaml.SafeLoader):
        """Intrinsic functions are only carried over."""
    Loader.add_multi_constructor("!", lambda loader, tag, node: None)
    template = yaml.load(text, Loader)
    labels = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterLabels"]
    return template["Parameters"], {name: label["default"] for name, label in labels.items()}


def check_names(given, stack, parameters):
    """A name that the template does not have is an error: CloudFormation would use a default without a word."""
    for name in given:
        if name in RENAMED:
            raise Problem(f"{name} is now {RENAMED[name]}. Write {RENAMED[name]}={given[name]}")
        if name not in parameters:
            [close] = difflib.get_close_matches(name, parameters, 1) or [None]
            raise Problem(f"There is no parameter {name}." + (f" Do you mean {close}?" if close else "")
                          + " The README's section Configure lists them.")
    for name, value in previous(stack).items():
        new = RENAMED.get(name)
        if new and new not in given:
            raise Problem(f"The deployed stack has {name}={value}. That parameter is now {new}, and without it the "
                          f'default would apply. Add it: make deploy SET="{new}={value}"')
        if name not in parameters and not new:
            print(f"The deployed stack has {name}={value}. This version no longer has that parameter.")


def previous(stack):
    return {each["ParameterKey"]: each["ParameterValue"] for each in (stack or {}).get("Parameters", [])}


def problem_with(value, parameter):
    """What CloudFormation would say of the value, after the build."""
    items = [each.strip() for each in value.split(",")] if parameter["Type"] == "CommaDelimitedList" else [value]
    fits = all(re.search(parameter.get("AllowedPattern", ""), each) for each in items)
    allowed = [str(each) for each in parameter.get("AllowedValues", [value])]
    number = parameter["Type"] != "Number" or (value.isdigit() and parameter.get("MinValue", 0) <= int(value)
                                               <= parameter.get("MaxValue", int(value)))
    good = fits and value in allowed and number and len(value) <= parameter.get("MaxLength", len(value))
    return None if good else parameter.get("ConstraintDescription", "is not allowed")


def check_values(values, parameters):
    wrong = [f'{name}="{value}" {problem}' for name, value in values.items()
             if (problem := problem_with(value, parameters[name]))]
    if wrong:
        raise Problem("These values are not valid:\n    " + "\n    ".join(wrong))


def ask_questions(given, parameters, labels, found):
    """The first time: what is required, and where alerts go. The rest can be set at any later time."""
    print("\nPress Enter for the value in brackets. Everything else has a default; SET changes it at any later time.")
    answers = {}
    for name, default in QUESTIONS.items():
        if name not in given:
            offered = ",".join(found or []) if name == "EndpointServiceIds" else default
            answers[name] = answer(name, parameters[name], labels[name], offered)
    return answers


def answer(name, parameter, label, default):
    print(f"\n{label} ({name}): {parameter['Description']}")
    while True:
        value = read(f"{name} [{default or ''}]: ") or default or ""
        problem = problem_with(value, parameter)
        if not problem:
            return value
        print(f"{name} {problem}.")


def read(prompt):
    try:
        return input(prompt).strip()
    except EOFError:
        raise Problem("There is nobody to answer. With YES=1 nothing is asked; then give the parameters with "
                      "SET.") from None


def check_required(values, parameters):
    missing = [name for name, each in parameters.items() if "Default" not in each and name not in values]
    if missing:
        example = " ".join(f"{name}=<…>" for name in missing)
        raise Problem(f'These parameters have no value: {", ".join(missing)}. Give them: make deploy SET="{example}"')


def endpoint_services(account):
    """The endpoint services in this Region; None if they may not be listed."""
    try:
        pages = account.client("ec2").get_paginator("describe_vpc_endpoint_service_configurations").paginate()
        return [each["ServiceId"] for page in pages for each in page["ServiceConfigurations"]]
    except botocore.exceptions.ClientError as error:
        print(f"Your endpoint services cannot be listed, so whether the ids are right is not checked: {error}")
        return None


def check_services(values, found, account):
    """A wrong Region is the most likely mistake, and without this it shows only when the stack is rolled back."""
    if found is None:
        return
    absent = [each for each in values["EndpointServiceIds"].split(",") if each.strip() not in found]
    if absent:
        raise Problem(f"{', '.join(absent)}: no such endpoint service in {account.region} of account {account.id}. It "
                      f"has {', '.join(found) or 'none'}. make deploy REGION=<region> selects another Region.")


# ---- the code --------------------------------------------------------------------------------------------------------


def check_build():
    """What the compiler needs, before it runs for a quarter of an hour and is then killed."""
    missing = [each for each in ("cargo", "rustup", "make") if not shutil.which(each)]
    instead = "\nA release needs none of it: make deploy PREBUILT=<folder or https address>"
    if missing:
        raise Problem(f"Building needs {', '.join(missing)}, and cannot find it. https://rustup.rs has Rust.{instead}")
    free = free_memory_gb()
    if free is not None and free < BUILD_GB:
        raise Problem(f"Building needs {BUILD_GB} GB of memory, and {free:.1f} GB are free: the compiler would be "
                      f"killed halfway. Close other programs, or build on another machine.{instead}")


def free_memory_gb(path="/proc/meminfo"):
    """Free memory and swap; None where Linux is not there to say."""
    try:
        lines = dict(re.findall(r"(\w+): +(\d+) kB", pathlib.Path(path).read_text(encoding="ascii")))
    except OSError:
        return None
    return (int(lines["MemAvailable"]) + int(lines["SwapFree"])) / 1e6


def code(settings, architecture, scratch):
    """The folder with the files to deploy, which are what their SHA256SUMS says."""
    if not settings.prebuilt:
        folder = ROOT / "target/functions"
        make = [os.environ.get("MAKE", "make"), "functions", f"ARCHITECTURE={architecture}"]
        if subprocess.run(make, cwd=ROOT, check=False).returncode:
            raise Problem("The functions could not be built; see above. Nothing was deployed.")
    elif re.match(r"https?://", settings.prebuilt):
        return artifacts.download(settings.prebuilt, artifacts.names(architecture), scratch / "release")
    else:
        folder = pathlib.Path(settings.prebuilt)
    artifacts.verify(folder, artifacts.names(architecture))
    return folder


def bucket_for(account, wanted):
    """The bucket for the code, created if it is the usual one. Somebody else's is refused."""
    name, s3 = wanted or f"privatelink-guard-{account.id}-{account.region}", account.client("s3")
    try:
        s3.head_bucket(Bucket=name, ExpectedBucketOwner=account.id)
    except botocore.exceptions.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status != 404 or wanted:
            raise Problem(f"The bucket {name} cannot be used: {error}. It must exist in your account. "
                          "make deploy BUCKET=<bucket in this Region> names another.") from None
        place = {} if account.region == "us-east-1" else {
            "CreateBucketConfiguration": {"LocationConstraint": account.region}}
        s3.create_bucket(Bucket=name, **place)
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True))
        print(f"Created the bucket {name} for the code.")
    return name


def upload(account, bucket, folder, architecture, scratch):
    """Upload the code, each file under its hash. Returns the address of the template that names it there."""
    packaged = scratch / "packaged.yaml"
    aws = pathlib.Path(sys.executable).parent / "aws"
    done = subprocess.run(
        [aws, "cloudformation", "package", "--template-file", folder / f"template-{architecture}.yaml", "--s3-bucket",
         bucket, "--s3-prefix", "privatelink-guard", "--output-template-file", packaged],
        env=account.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"The code could not be uploaded to {bucket}: {done.stderr.strip()}")
    s3, content = account.client("s3"), packaged.read_bytes()
    key = f"privatelink-guard/{artifacts.sha256(content)}.template"
    s3.put_object(Bucket=bucket, Key=key, Body=content, ExpectedBucketOwner=account.id)
    return f"{s3.meta.endpoint_url}/{bucket}/{key}"


# ---- the change ------------------------------------------------------------------------------------------------------


def plan(cloudformation, settings, stack, url, values):
    """Let CloudFormation work out what would change. Returns the change set, or None if nothing would."""
    tags = {**{each["Key"]: each["Value"] for each in (stack or {}).get("Tags", [])}, **settings.tags}
    change = cloudformation.create_change_set(
        StackName=settings.stack, ChangeSetName=f"make-deploy-{int(time.time())}", TemplateURL=url,
        ChangeSetType="UPDATE" if stack else "CREATE", Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()])["Id"]
    for pause in pauses():
        described = cloudformation.describe_change_set(ChangeSetName=change, StackName=settings.stack)
        if described["Status"] in ("CREATE_COMPLETE", "FAILED"):
            break
        time.sleep(pause)
    if described["Status"] == "CREATE_COMPLETE":
        return change
    cloudformation.delete_change_set(ChangeSetName=change, StackName=settings.stack)
    reason = described.get("StatusReason", "")
    if "didn't contain changes" in reason or "No updates are to be performed" in reason:
        return None
    raise Problem(f"CloudFormation refuses the deployment: {reason}")


def pauses():
    """Seconds between two questions to AWS: at first short, then five."""
    pause = 0.2
    while True:
        yield pause
        pause = min(pause * 1.5, 5)


def show(cloudformation, stack, change):
    """What would change. A replacement is named, since what is replaced loses its contents."""
    print("\nChanges:")
    pages = cloudformation.get_paginator("describe_change_set").paginate(ChangeSetName=change, StackName=stack)
    for each in (each["ResourceChange"] for page in pages for each in page["Changes"]):
        replaced = "  REPLACED" if each.get("Replacement") == "True" else ""
        print(f"  {each['Action']:8}{each['LogicalResourceId']}  {each['ResourceType']}{replaced}")


def execute(cloudformation, stack, change):
    """Carry it out, and print each resource as it is done. Returns the stack, and what failed."""
    seen = {each["EventId"] for each in new_events(cloudformation, stack, set())}
    cloudformation.execute_change_set(ChangeSetName=change, StackName=stack)
    failures, at_rest = [], False
    for pause in pauses():
        for each in new_events(cloudformation, stack, seen):
            seen.add(each["EventId"])
            status, name = each["ResourceStatus"], each["LogicalResourceId"]
            if not status.endswith("_IN_PROGRESS"):
                print(f"  {status:26}{name}", flush=True)
            if status.endswith("_FAILED"):
                failures.append(f"{name}: {each.get('ResourceStatusReason', 'no reason given')}")
            # The stack's own status can still be the one before; its events cannot.
            at_rest = each["PhysicalResourceId"] == each["StackId"] and not status.endswith("_IN_PROGRESS")
        if at_rest:
            break
        time.sleep(pause)
    return cloudformation.describe_stacks(StackName=stack)["Stacks"][0], failures


def new_events(cloudformation, stack, seen):
    """The stack's events that were not seen yet, oldest first. AWS lists the newest first."""
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack)
    every = (each for page in pages for each in page["StackEvents"])
    return list(itertools.takewhile(lambda each: each["EventId"] not in seen, every))[::-1]


# ---- in this order ---------------------------------------------------------------------------------------------------


def run(settings):
    template = template_text(settings)
    account = Account(settings)
    cloudformation = account.client("cloudformation")
    print(f"Deploying {settings.stack} to {account.region} of account {account.id}, as {account.arn}.")
    stack = deployed(cloudformation, settings.stack)
    if stack:
        check_state(stack, account.region)
    parameters, labels = declared(template)
    check_names(settings.given, stack, parameters)
    kept = {name: value for name, value in previous(stack).items() if name in parameters}
    values = {**kept, **settings.given}
    found = endpoint_services(account)
    if not stack and settings.ask:
        values |= ask_questions(values, parameters, labels, found)
    if settings.architecture and "Architecture" not in settings.given:
        values["Architecture"] = settings.architecture
    architecture = values.setdefault("Architecture", str(parameters["Architecture"]["Default"]))
    check_required(values, parameters)
    check_values(values, parameters)
    check_services(values, found, account)
    if not settings.prebuilt:
        check_build()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = pathlib.Path(temporary)
        folder = code(settings, architecture, scratch)
        bucket = bucket_for(account, settings.bucket)
        url = upload(account, bucket, folder, architecture, scratch)
    change = plan(cloudformation, settings, stack, url, values)
    if not change:
        print("Nothing changes: this version is deployed with these parameters already.")
        return
    show(cloudformation, settings.stack, change)
    if settings.ask and read("\nDeploy these changes? [y/N]: ").lower() not in ("y", "yes"):
        cloudformation.delete_change_set(ChangeSetName=change, StackName=settings.stack)
        raise Problem("Nothing was deployed.")
    finish(*execute(cloudformation, settings.stack, change), account.region)


def template_text(settings):
    """The template whose parameters count: the release's, of any architecture, or the repository's."""
    if not settings.prebuilt:
        return (ROOT / "template.yaml").read_text(encoding="utf-8")
    architecture = settings.given.get("Architecture") or settings.architecture or "x86_64"
    with tempfile.TemporaryDirectory() as scratch:
        name, folder = f"template-{architecture}.yaml", pathlib.Path(settings.prebuilt)
        if re.match(r"https?://", settings.prebuilt):
            folder = artifacts.download(settings.prebuilt, [name], pathlib.Path(scratch))
        print(f"Release {settings.prebuilt}: {artifacts.SUMS} has the SHA-256 {artifacts.verify(folder, [name])}")
        return (folder / name).read_text(encoding="utf-8")


def finish(stack, reasons, region):
    if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        first = "\n    ".join(reasons) or "see its events in the CloudFormation console"
        clear = f"aws cloudformation delete-stack --region {region} --stack-name {stack['StackName']}"
        then = (f" The stack exists, but nothing of it works. This clears it; then deploy again:\n    {clear}"
                if stack["StackStatus"].startswith("ROLLBACK") else " Everything is as it was before.")
        raise Problem(f"The deployment failed and is {stack['StackStatus']}:\n    {first}\n{then.strip()}")
    print("\nDeployed. Outputs:")
    for each in stack.get("Outputs", []):
        print(f"  {each['OutputKey']}: {each['OutputValue']}")


def main():
    try:
        run(Settings.read(os.environ))
    except (Problem, artifacts.Refused) as problem:
        sys.exit(f"\nmake deploy: {problem}")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(f"\nmake deploy: AWS refused: {error}")
    except KeyboardInterrupt:
        sys.exit("\nmake deploy: interrupted. A change that CloudFormation has begun goes on.")


if __name__ == "__main__":
    main()
