"""Deploys the guard: `make deploy`. It asks everything it needs before it builds anything, and shows the changes first.

Settings are variables, as in `make deploy STACK=guard REGION=eu-central-1 SET="DryRun=false"`:

    STACK      the stack's name                                               privatelink-guard
    SET        parameters: Name=value, separated by spaces. A value may hold spaces and parentheses, and ends where the
               next Name= begins: SET="HealthSchedule=rate(5 minutes) CrossZone=enforce". It takes no quotes of its own;
               in make, write $$ for $. What it does not name keeps its value. Name+=value adds to a list that the
               deployed stack has: SET="KnownAccounts+=444455556666".
    TAGS       the stack's tags, written like SET. Other tags of the stack stay.
    PROFILE, REGION   as in the AWS CLI
    PREBUILT   the folder or the https address of a release: nothing is compiled, and no Rust is needed
    SHA256     the SHA-256 of that release's SHA256SUMS: with another one, nothing is deployed
    ARCHITECTURE      x86_64 or arm64                                         the deployed one, or x86_64
    BUCKET     where the code is uploaded                                     privatelink-guard-<account>-<region>
    YES=1      ask nothing, for continuous integration
"""
import dataclasses
import itertools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import artifacts
import botocore.exceptions
import parameters
from account import Account, Bucket, Problem, Services, key_of

ROOT = artifacts.ROOT
# What is asked the first time, and what Enter answers; everything else has a default that is safe.
QUESTIONS = {"EndpointServiceIds": "", "DbtPrincipals": "", "AlertEmail": "", "DryRun": "true"}
# Said with a question.
# https://docs.getdbt.com/docs/platform/secure/private-connectivity/aws/snowflake
HINTS = {"DbtPrincipals": "dbt's pages name account 346425330055 for its multi-tenant platform on AWS. Ask dbt Support "
                          "whether it is yours: the guard lets in whoever you name here."}
# EC2's SDK takes this much to compile.
BUILD_GB = 7
# Seconds between two looks at what CloudFormation does.
PAUSE = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command was given."""

    stack: str
    given: dict
    tags: dict
    profile: str
    region: str
    prebuilt: str
    sha256: str | None
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
        if of("YES") not in ("", "1"):
            raise Problem(f'YES={of("YES")} is neither YES=1, which asks nothing, nor empty, which asks.')
        if "SHA256" in environment and not of("PREBUILT"):
            raise Problem("SHA256 says which release is deployed, and PREBUILT names none. What is built here has no "
                          "hash before it is built.")
        return Settings(stack=stack, given=parameters.pairs("SET", of("SET")),
                        tags=parameters.pairs("TAGS", of("TAGS"), r"[^\s=]+"), profile=of("PROFILE"),
                        region=of("REGION"), prebuilt=of("PREBUILT"), sha256=environment.get("SHA256"),
                        architecture=of("ARCHITECTURE"), bucket=of("BUCKET"), ask=not of("YES"))

    def command(self, **parameters):
        """The command that does the same again with these parameters, for people to run."""
        same = {"STACK": self.stack, "PROFILE": self.profile, "REGION": self.region, "PREBUILT": self.prebuilt,
                "SHA256": self.sha256, "BUCKET": self.bucket, "ARCHITECTURE": self.architecture,
                "TAGS": parameters_text(self.tags), "SET": parameters_text(parameters)}
        # Make reads $ as the beginning of a variable.
        return " ".join(["make deploy", *(f"{name}={shlex.quote(value.replace('$', '$$'))}"
                                          for name, value in same.items() if value)])


def parameters_text(values):
    """As SET and TAGS take them."""
    return " ".join(f"{name}={value}" for name, value in values.items())


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


def check_state(stack, account):
    """Only a stack of the guard, and only one at rest, can be updated."""
    if not any(each["ParameterKey"] == "EndpointServiceIds" for each in stack.get("Parameters", [])):
        raise Problem(f"The stack {stack['StackName']} is not a guard's: it has no parameter EndpointServiceIds. "
                      "Deploying would replace all that it has. STACK=<name> selects another name.")
    if helps := what_helps(stack, account):
        raise Problem(f"The stack {stack['StackName']} is {stack['StackStatus']}: {helps}")


def what_helps(stack, account):
    """Why this stack cannot be updated, and the command that helps; None if it can."""
    status, name = stack["StackStatus"], stack["StackName"]

    def aws(operation):
        return f"{account.command(f'cloudformation {operation}')} --stack-name {name}"
    goes_back = {"UPDATE_FAILED": "rollback-stack", "UPDATE_ROLLBACK_FAILED": "continue-update-rollback"}
    if status in goes_back:
        return f"some of it is new, and some as before. This goes back:\n    {aws(goes_back[status])}"
    if status.endswith("_IN_PROGRESS"):
        return f"somebody is deploying or deleting it. This shows its state:\n    {state_command(account, name)}"
    if status.startswith("ROLLBACK") or status.endswith("_FAILED"):
        failed = "'StackEvents[?ends_with(ResourceStatus, `FAILED`)].[LogicalResourceId, ResourceStatusReason]'"
        return ("its first deployment failed, or its deletion did. The guard does not work, and CloudFormation cannot "
                "update it. This shows why:\n"
                f"    {aws('describe-stack-events')} --output text --query {failed}\n"
                f"This clears it; then deploy again:\n    {aws('delete-stack')} && {aws('wait stack-delete-complete')}")
    return None


def state_command(account, name):
    return (f"{account.command('cloudformation describe-stacks')} --stack-name {name} --output text "
            "--query 'Stacks[].StackStatus'")


# ---- questions -------------------------------------------------------------------------------------------------------


def ask_questions(values, template, services):
    """The first time: what is required, and where alerts go. The rest can be set at any later time."""
    print("\nPress Enter for the value in brackets. Everything else has a default; SET changes it at any later time.")
    answers = {}
    for name, default in QUESTIONS.items():
        if name in template.parameters and name not in values:
            print(f"\n{template.labels[name]} ({name}): {template.parameters[name]['Description']}")
            if name == "EndpointServiceIds":
                print("\n".join(["These exist here:", *services.lines()]))
            if name in HINTS:
                print(HINTS[name])
            answers[name] = answer(name, template, default)
    return answers


def answer(name, template, default):
    shown = default or ("required" if template.problem_with(name, "") else "none")
    while True:
        value = read(f"{name} [{shown}]: ") or default
        problem = template.problem_with(name, value)
        if not problem:
            return value
        print(f"{name} {problem}.")


def read(prompt):
    try:
        return input(prompt).strip()
    except EOFError:
        raise Problem("There is nobody to answer, so nothing was deployed. With YES=1 nothing is asked; then give the "
                      "parameters with SET.") from None


def agreed(settings, question):
    return not settings.ask or read(f"\n{question} [y/N]: ").lower() in ("y", "yes")


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


def released(settings, folder):
    """The release that is deployed, or nothing if the functions are built here."""
    if not settings.prebuilt:
        return None
    release = artifacts.Release(settings.prebuilt, folder)
    release.expect(settings.sha256)
    print(f"Release {settings.prebuilt}: {artifacts.SUMS} has the SHA-256 {release.digest}"
          + (", as SHA256 says." if settings.sha256 else "."))
    return release


def build(architecture, folder):
    """Build the functions. Returns the folder with a copy, which no other build changes."""
    make = [os.environ.get("MAKE", "make"), "functions", f"ARCHITECTURE={architecture}"]
    # Whatever else is set, the build goes to the folder that is read below.
    moved = ("OUT", "MAKEFLAGS", "MAKEOVERRIDES", "CARGO_BUILD_TARGET_DIR", "CARGO_LAMBDA_LAMBDA_DIR")
    environment = {**{name: value for name, value in os.environ.items() if name not in moved},
                   "CARGO_TARGET_DIR": str(ROOT / "target")}
    if subprocess.run(make, cwd=ROOT, env=environment, check=False).returncode:
        raise Problem("The functions could not be built; see above. Nothing was deployed.")
    return artifacts.Release(str(ROOT / "target/functions"), folder).fetch(artifacts.names(architecture))


def bucket_for(account, settings):
    """The bucket for the code; the usual one is created, if people agree."""
    bucket = Bucket(account, settings.bucket or f"privatelink-guard-{account.id}-{account.region}")
    if not bucket.exists():
        if settings.bucket:
            raise Problem(f"There is no bucket {bucket.name}. BUCKET names one that exists in account {account.id}, in "
                          f"{account.region}; without BUCKET, one is created.")
        if not agreed(settings, f"Lambda reads the code from a bucket. Create {bucket.name} in account {account.id}?"):
            raise Problem("Nothing was deployed, and no bucket was created.")
        bucket.create()
        print(f"Created the bucket {bucket.name} in account {account.id}.")
    return bucket


# ---- the change ------------------------------------------------------------------------------------------------------


def tags_of(stack):
    return {each["Key"]: each["Value"] for each in (stack or {}).get("Tags", [])}


def plan(cloudformation, settings, stack, url, values):
    """Let CloudFormation work out what would change. Returns the change set, or None if nothing would."""
    change = {"StackName": settings.stack, "ChangeSetName": f"make-deploy-{int(time.time())}"}
    cloudformation.create_change_set(
        **change, TemplateURL=url, ChangeSetType="UPDATE" if stack else "CREATE",
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        Tags=[{"Key": key, "Value": value} for key, value in {**tags_of(stack), **settings.tags}.items()])
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(**change, WaiterConfig={"Delay": 2})
    except botocore.exceptions.WaiterError as error:
        cloudformation.delete_change_set(**change)
        reason = error.last_response.get("StatusReason", str(error))
        if "didn't contain changes" in reason or "No updates are to be performed" in reason:
            return None
        raise Problem(f"CloudFormation refuses the deployment: {reason}") from None
    return change


def show(cloudformation, change):
    """What would change. A replacement is named, since what is replaced loses its contents."""
    print("\nResources:")
    pages = cloudformation.get_paginator("describe_change_set").paginate(**change)
    for each in (each["ResourceChange"] for page in pages for each in page["Changes"]):
        replaced = {"True": "  REPLACED", "Conditional": "  perhaps REPLACED"}.get(each.get("Replacement"), "")
        print(f"  {each['Action']:8}{each['LogicalResourceId']}  {each['ResourceType']}{replaced}")


def execute(cloudformation, account, stack, change):
    """Carry it out, and print each resource as it is done. Returns the stack, and what failed."""
    before = new_events(cloudformation, stack, None)
    try:
        # With the token, an answer that is lost and asked for again is no refusal.
        cloudformation.execute_change_set(**change, ClientRequestToken=change["ChangeSetName"])
        return followed(cloudformation, stack, before[-1]["EventId"] if before else None)
    except (KeyboardInterrupt, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else f"AWS cannot be asked any more: {error}"
        raise Problem(f"{why}. If CloudFormation has begun to change the stack {stack} in {account.region} of account "
                      f"{account.id}, it goes on. This shows the stack's state:\n"
                      f"    {state_command(account, stack)}") from None


def followed(cloudformation, stack, last):
    """Wait until the stack is at rest. Its own status can still be the one before; its events cannot."""
    failures, at_rest = [], False
    while not at_rest:
        time.sleep(PAUSE)
        for each in new_events(cloudformation, stack, last):
            last, status, name = each["EventId"], each["ResourceStatus"], each["LogicalResourceId"]
            ended = not status.endswith("_IN_PROGRESS")
            if ended:
                print(f"  {status:26}{name}", flush=True)
            if status.endswith("_FAILED"):
                failures.append(f"{name}: {each.get('ResourceStatusReason', 'no reason given')}")
            at_rest = ended and each["PhysicalResourceId"] == each["StackId"]
    return cloudformation.describe_stacks(StackName=stack)["Stacks"][0], failures


def new_events(cloudformation, stack, last):
    """The stack's events after the last known one, oldest first. AWS lists the newest first."""
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack)
    every = (each for page in pages for each in page["StackEvents"])
    return list(itertools.takewhile(lambda each: each["EventId"] != last, every))[::-1]


# ---- in this order ---------------------------------------------------------------------------------------------------


def run(settings, scratch):
    try:
        change = prepare(settings, scratch)
    except KeyboardInterrupt:
        raise Problem("interrupted. Nothing was deployed.") from None
    if change:
        carry_out(settings, *change)


def prepare(settings, scratch):
    """Nothing is built before all is asked, and nothing changes before people agree. `None` if nothing changes."""
    release = released(settings, scratch / "release")
    account = Account(settings.profile, settings.region)
    cloudformation = account.client("cloudformation")
    print(f"Deploying {settings.stack} to {account.region} of account {account.id}, as {account.arn}.")
    stack = deployed(cloudformation, settings.stack)
    if stack:
        check_state(stack, account)
    old = {each["ParameterKey"]: each["ParameterValue"] for each in (stack or {}).get("Parameters", [])}
    architecture = architecture_of(settings, old)
    declared = parameters.Template(template_text(release, architecture), settings.command)
    services = Services(account, settings.stack)
    values = declared.chosen(old, settings.given)
    if not stack and settings.ask:
        values |= ask_questions(values, declared, services)
    values["Architecture"] = architecture
    declared.check(values, account.region)
    parameters.check_roles(values, account.id)
    services.check(parameters.items(values["EndpointServiceIds"]))
    keys = {name: key_of(account, topic) for name, topic in parameters.alarm_topics(values, account.region).items()}
    cautions = [*parameters.cautions(old, {**declared.defaults, **values}, services.watched_by),
                *parameters.lost_alarms(values, keys),
                *parameters.own_roles(old, values, account.id, account.region, settings.stack)]
    print_cautions(cautions)
    if not release:
        check_build()
    bucket = bucket_for(account, settings)
    folder = release.folder if release else build(architecture, scratch / "release")
    print(f"Uploading the code to the bucket {bucket.name} of account {account.id}.")
    key = bucket.put("guard.template", bucket.package(folder, architecture))
    url = f"{bucket.s3.meta.endpoint_url}/{bucket.name}/{key}"
    change = plan(cloudformation, settings, stack, url, values)
    if not change:
        print("Nothing changes: this version is deployed with these parameters already.")
        return None
    print_changes("Parameters", {**declared.defaults, **old} if stack else {}, values)
    print_room({**declared.defaults, **values}, services)
    if settings.tags:
        print_changes("Tags", tags_of(stack), {**tags_of(stack), **settings.tags})
    show(cloudformation, change)
    print_cautions(cautions)
    confirm(cloudformation, settings, change, f"{account.region} of account {account.id}")
    return account, cloudformation, change, old, {**declared.defaults, **values}


def carry_out(settings, account, cloudformation, change, old, new):
    stack, reasons = execute(cloudformation, account, settings.stack, change)
    finish(stack, reasons, account)
    print_next_steps(settings, stack, old, new)


def print_changes(what, old, new):
    print("\n".join([f"\n{what}:", *([f"  {each}" for each in parameters.changes(old, new)] or ["  no change"])]))


def print_room(values, services):
    connections = services.connections(parameters.items(values["EndpointServiceIds"]))
    if connections is not None:
        print("\n".join(["\ndbt's endpoints:", *(f"  {each}" for each in parameters.room(values, connections))]))


def architecture_of(settings, old):
    """The deployed one stays, also where the release's template has another default."""
    wanted = settings.given.get("Architecture") or settings.architecture or old.get("Architecture", "x86_64")
    if wanted not in ("arm64", "x86_64"):
        raise Problem(f'Architecture="{wanted}" must be arm64 or x86_64.')
    return wanted


def template_text(release, architecture):
    """The template whose parameters count: the release's, or the repository's."""
    wanted = artifacts.names(architecture)
    return (release.fetch(wanted) / wanted[0] if release else ROOT / "template.yaml").read_text(encoding="utf-8")


def print_cautions(cautions):
    for each in cautions:
        print(f"\nCAUTION: {each}")


def confirm(cloudformation, settings, change, place):
    try:
        if not agreed(settings, f"Deploy these changes to {settings.stack} in {place}?"):
            raise Problem("Nothing was deployed.")
    except (Problem, KeyboardInterrupt):
        cloudformation.delete_change_set(**change)
        raise


def finish(stack, reasons, account):
    status, name = stack["StackStatus"], stack["StackName"]
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        first = "\n    ".join(reasons) or "see its events in the CloudFormation console"
        helps = what_helps(stack, account) or "everything is as it was before."
        raise Problem(f"The deployment failed:\n    {first}\nThe stack {name} is {status}: {helps}")
    print(f"\nDeployed {name} to {account.region} of account {account.id}. Outputs:")
    print("\n".join(f"  {output['OutputKey']}: {output['OutputValue']}" for output in stack.get("Outputs", [])))


def print_next_steps(settings, stack, old, new):
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
    steps = [f"  {number}. {step}" for number, step in enumerate(next_steps(outputs, old, new, settings.command), 1)]
    if steps:
        print("\n".join(["\nWhat to do now:", *steps]))


def next_steps(outputs, old, new, again):
    """What only people can do, after the first deployment and where an address is new."""
    def is_new(name):
        return new.get(name, "") not in ("", old.get(name))
    if is_new("AlertEmail"):
        yield (f"AWS has sent an email to {new['AlertEmail']}. Open the link in it: until then, this address receives "
               "no alerts.")
    if "SubscribeCommand" in outputs:
        yield f"The stack itself subscribes nobody to its alerts. This does:\n     {outputs['SubscribeCommand']}"
    if not old or is_new("AlertTopicArn"):
        alarm = ", and then one of CloudWatch's" if "set-alarm-state" in outputs["TestMessage"] else ""
        yield (f"Send test messages, and see that they arrive: four of the guard's{alarm}:\n"
               f"     {outputs['TestMessage']}")
    if "TestPager" in outputs and is_new("PagerTopicArn"):
        yield f"See that your pager opens an incident. It closes it by itself:\n     {outputs['TestPager']}"
    if not old and new.get("DryRun") == "true":
        yield ("The guard only reports so far. When an alert has reported dbt's request, let the guard accept it:\n"
               f"     {again(DryRun='false')}")


def main():
    try:
        with tempfile.TemporaryDirectory() as scratch:
            run(Settings.read(os.environ), pathlib.Path(scratch))
    except (Problem, artifacts.Refused) as problem:
        sys.exit(f"\nmake deploy: {problem}")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(f"\nmake deploy: AWS refused: {error}")
    except KeyboardInterrupt:
        # Where it is certain that nothing was deployed, a Problem has said so.
        sys.exit("\nmake deploy: interrupted.")


if __name__ == "__main__":
    main()
