"""The stack's life cycle on the local AWS, with stub functions: rejected, created, updated, rolled back, deleted.

The tests run in order: each one starts from the state that the one before left.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from botocore.exceptions import ClientError
from local_aws_tests import DBT, HERE, PROVIDER, REGION, UNTRUSTED, Provider, eventually
from rendering import ALL_FUNCTIONS, FUNCTIONS, ROOT, SLACK, TEAMS, follow

sys.path.insert(0, str(ROOT / "infra"))

import artifacts

STACK = "guarded"
NO_SERVICE = "vpce-svc-00000000000000000"
TOPIC = f"arn:aws:sns:{REGION}:{PROVIDER}:alerts"


class Guard:
    """The stack, deployed with the SAM CLI from a copy of the template whose functions are the local AWS's stub."""

    def __init__(self, aws, folder):
        self.aws, self.folder = aws, folder
        (folder / "infra").mkdir()
        for file in ("template.yaml", "samconfig.toml", "infra/chat.yaml"):
            shutil.copy(ROOT / file, folder / file)
        shutil.copy(HERE / "stack/function/bootstrap", folder)
        (folder / "Makefile").write_text("build-%:\n\tcp bootstrap $(ARTIFACTS_DIR)/bootstrap\n")
        self.services = [Provider(aws, "guarded-1"), Provider(aws, "guarded-2")]
        self.parameters = {
            "EndpointServiceIds": self.services[0].service_id, "DbtPrincipals": f"arn:aws:iam::{DBT}:root",
            "AlertEmail": "ops@example.com", "AcceptorSchedule": "rate(2 minutes)", "HealthSchedule": "rate(2 minutes)",
            "DriftSchedule": "rate(2 minutes)"}
        assert self.sam("build").returncode == 0

    def sam(self, *arguments):
        tools = [ROOT / ".tools/sam/bin", pathlib.Path(sys.executable).parent]
        path = os.pathsep.join([*map(str, tools), os.environ["PATH"]])
        return subprocess.run(["sam", *arguments], cwd=self.folder, text=True, capture_output=True,
                              env={**self.aws.environment(), "PATH": path, "SAM_CLI_TELEMETRY": "0"}, check=False)

    def deploy(self, succeeds=True, name=STACK, **parameters):
        overrides = [f'{key}="{value}"' for key, value in {**self.parameters, **parameters}.items()]
        done = self.sam("deploy", "--stack-name", name, "--no-confirm-changeset", "--no-progressbar",
                        "--parameter-overrides", *overrides)
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        return done.stdout + done.stderr

    def update(self, **parameters):
        """Changes parameters of the stack, without packaging its template again; like the SAM CLI, keeps the others."""
        client = self.aws.client("cloudformation")
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        kept = [{"ParameterKey": each["ParameterKey"], "UsePreviousValue": True}
                for each in self.described["Parameters"] if each["ParameterKey"] not in parameters]
        client.update_stack(StackName=STACK, UsePreviousTemplate=True, Parameters=given + kept,
                            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])
        return eventually(lambda: (status := self.described["StackStatus"]).endswith("_COMPLETE") and status)

    def delete(self, name=STACK):
        """As docs/deploy.md. `sam delete` wants https URLs of nested templates, which the local AWS does not have."""
        client = self.aws.client("cloudformation")
        [stack] = client.describe_stacks(StackName=name)["Stacks"]
        client.delete_stack(StackName=name)
        eventually(lambda: client.describe_stacks(StackName=stack["StackId"])["Stacks"][0]["StackStatus"]
                   == "DELETE_COMPLETE")

    @property
    def described(self):
        [stack] = self.aws.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
        return stack

    @property
    def outputs(self):
        return {output["OutputKey"]: output["OutputValue"] for output in self.described["Outputs"]}

    def environment(self, function):
        name = self.outputs[f"{function}Name"]
        return self.aws.client("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]

    def items(self):
        return self.aws.client("dynamodb").scan(TableName=self.outputs["StateTableName"])["Items"]

    def shell(self, command, folder):
        """Runs the command of an output."""
        path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(["bash", "-ec", command], cwd=folder, text=True, capture_output=True,
                              env={**self.aws.environment(), "PATH": path}, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def invoked(self, since):
        """How many runs there were that no schedule started."""
        new = self.aws.control("invocations", since=0)[since:]
        return len([run for run in new if run["trigger"] != "schedule"])

    def announced(self, since=0):
        """What people were sent about the stack's alarms."""
        mails = [mail["message"] for mail in self.aws.control("mail")[since:] if mail["endpoint"] == "ops@example.com"]
        return [mail for mail in mails if "AlarmName" in mail or "privatelink-guard: over." in mail]

    def notified(self):
        """The endpoint services with a connection notification to the stack's topic."""
        listed = self.aws.client("ec2").describe_vpc_endpoint_connection_notifications()["ConnectionNotificationSet"]
        return {notification["ServiceId"] for notification in listed
                if f":{STACK}-" in notification["ConnectionNotificationArn"]}


@pytest.fixture(scope="module")
def guard(aws, tmp_path_factory):
    return Guard(aws, tmp_path_factory.mktemp("guard"))


def test_the_sam_cli_shows_why_a_parameter_is_rejected(guard):
    printed = " ".join(guard.deploy(succeeds=False, DbtPrincipals="*").split())
    assert ("Parameter 'DbtPrincipals' must be principals such as arn:aws:iam::123456789012:root, or 12-digit account "
            "ids; never *") in printed


def test_the_stack_is_created_and_each_function_runs_on_its_schedule(guard):
    guard.deploy()
    assert guard.described["StackStatus"] == "CREATE_COMPLETE"
    assert guard.notified() == {guard.services[0].service_id}
    named = {guard.outputs[f"{function}Name"] for function in FUNCTIONS}

    def scheduled():
        return {run["function"] for run in guard.aws.control("invocations", since=0)
                if run["trigger"] == "schedule" and run["ok"]}
    eventually(lambda: scheduled() == named)


    # Each alarm that has data is OK, and none has rung.
    alarms = guard.aws.client("cloudwatch").describe_alarms
    eventually(lambda: {alarm["StateValue"] for alarm in alarms(AlarmNamePrefix=f"{STACK}-")["MetricAlarms"]} == {"OK"})
    assert guard.announced() == []


def test_a_function_that_no_longer_runs_is_reported_and_that_it_runs_again(guard):
    """A schedule of two minutes: after five runs and a few more, seconds here."""
    scheduler = guard.aws.client("scheduler")
    [schedule] = [each["Name"] for each in scheduler.list_schedules()["Schedules"]
                  if each["Name"].startswith(f"{STACK}-HealthWatcherSchedule")]

    def switch(state):
        found = scheduler.get_schedule(Name=schedule)
        known = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
        scheduler.update_schedule(**{key: found[key] for key in known}, State=state)
    switch("DISABLED")
    [silent] = eventually(guard.announced)
    assert json.loads(silent)["NewStateValue"] == "INSUFFICIENT_DATA"
    assert "no longer runs, although its schedule is rate(2 minutes)" in json.loads(silent)["AlarmDescription"]
    switch("ENABLED")
    [_, over] = eventually(lambda: len(guard.announced()) > 1 and guard.announced())
    assert "HealthWatcherSilent" in over
    assert "has been OK again since 2" in over


@pytest.mark.parametrize("parameters, message", [
    ({"SlackWorkspaceId": "T0123ABCD"}, "Give both SlackWorkspaceId and SlackChannelId, or neither."),
    ({"TeamsTeamId": TEAMS["TeamsTeamId"]}, "Give TeamsTenantId, TeamsTeamId and TeamsChannelId, or none of them."),
    # The stack's own parameters have an email address.
    ({"AlertTopicArn": TOPIC}, "subscribe email addresses and channels to that topic instead"),
    ({"AlertTopicArn": TOPIC, "AlertEmail": "", **SLACK}, "With AlertTopicArn the stack subscribes nobody."),
    ({"AlertTopicArn": TOPIC, "AlertEmail": "", **TEAMS}, "With AlertTopicArn the stack subscribes nobody."),
    ({"AlertAfter": "0"}, "Parameter 'AlertAfter' must be a number from 1 to 1000"),
])
def test_an_invalid_parameter_is_rejected_with_a_helpful_message(guard, parameters, message):
    with pytest.raises(ClientError) as rejected:
        guard.update(**parameters)
    assert message in str(rejected.value)


def test_only_the_functions_publish(guard):
    aws, topics = guard.aws, [guard.outputs[name] for name in ("AlertTopicArn", "NotificationTopicArn")]

    def publish(client, topic):
        try:
            return client.publish(TopicArn=topic, Message="hello") and "published"
        except client.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
    iam = aws.client("iam")
    iam.create_user(UserName="administrator")
    anything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName="administrator", PolicyName="all", PolicyDocument=json.dumps(anything))
    key = iam.create_access_key(UserName="administrator")["AccessKey"]
    administrator = aws.client("sns", key["AccessKeyId"], key["SecretAccessKey"])
    for client in (administrator, aws.client("sns", PROVIDER), aws.client("sns", UNTRUSTED)):
        assert [publish(client, topic) for topic in topics] == ["AuthorizationError"] * 2
    # The administrator can still manage the topic.
    administrator.subscribe(TopicArn=topics[0], Protocol="email", Endpoint="boss@example.com")
    for function in FUNCTIONS:
        event = {"service": "sns", "form": {"Action": "Publish", "Version": "2010-03-31", "TopicArn": topics[0],
                                            "Message": f"from {function}"}}
        answer = aws.client("lambda").invoke(FunctionName=guard.outputs[f"{function}Name"], Payload=json.dumps(event))
        assert json.loads(answer["Payload"].read())["status"] == 200
    received = {mail["message"] for mail in aws.control("mail") if mail["endpoint"] == "boss@example.com"}
    assert received == {f"from {function}" for function in FUNCTIONS}
    # And EC2 may publish notifications of the endpoint service.
    aws.control("notify", topic=topics[1], message="notification")


def test_an_update_keeps_the_state_and_the_subscriptions(guard):
    item = {"service": {"S": guard.services[0].service_id}, "item": {"S": "alert"}, "version": {"N": "1"}}
    guard.aws.client("dynamodb").put_item(TableName=guard.outputs["StateTableName"], Item=item)
    before = guard.outputs
    both = ",".join(service.service_id for service in guard.services)
    guard.deploy(EndpointServiceIds=both, CrossZone="enforce")
    assert guard.described["StackStatus"] == "UPDATE_COMPLETE"
    assert guard.outputs == before
    assert guard.items() == [item]
    assert guard.environment("DriftWatcher")["CROSS_ZONE"] == "enforce"
    assert guard.notified() == set(both.split(","))
    listed = guard.aws.client("sns").list_subscriptions_by_topic(TopicArn=before["AlertTopicArn"])["Subscriptions"]
    assert {subscription["Endpoint"] for subscription in listed} == {"ops@example.com", "boss@example.com"}


def test_the_stack_creates_a_deleted_notification_anew(guard):
    ec2, before = guard.aws.client("ec2"), guard.notified()
    listed = ec2.describe_vpc_endpoint_connection_notifications()["ConnectionNotificationSet"]
    ec2.delete_vpc_endpoint_connection_notifications(ConnectionNotificationIds=[
        each["ConnectionNotificationId"] for each in listed if f":{STACK}-" in each["ConnectionNotificationArn"]])
    assert before
    assert not guard.notified()
    guard.update(ConnectionNotifications="false")
    guard.update(ConnectionNotifications="true")
    assert guard.notified() == before


@pytest.mark.parametrize("change", [{}, {"RemindEveryHours": "7"}, {"EndpointServiceIds": "both", "DryRun": "true"}])
def test_make_deploy_keeps_the_parameters_that_are_not_given(guard, change, tmp_path):
    """Also of a stack that the SAM CLI deployed. tests/infra/test_make_deploy.py has the rest of make deploy."""
    both = ",".join(service.service_id for service in guard.services)
    change = {name: both if value == "both" else value for name, value in change.items()}

    def parameters():
        return {each["ParameterKey"]: each["ParameterValue"] for each in guard.described["Parameters"]}
    before = parameters()
    artifacts.write(tmp_path, "x86_64", dict.fromkeys(artifacts.FUNCTIONS, guard.folder / "bootstrap"))
    done = subprocess.run(
        ["make", "deploy", f"STACK={STACK}", f"PREBUILT={tmp_path}", "YES=1",
         "SET=" + " ".join(f"{name}={value}" for name, value in change.items())],
        cwd=ROOT, text=True, capture_output=True, check=False, env=guard.aws.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert parameters() == {**before, **change}


@pytest.mark.parametrize("output, runs", [("DeadLettersRead", 0), ("DeadLettersReplay", 3)])
def test_the_commands_in_the_outputs_work(guard, output, runs, tmp_path):
    before = len(guard.aws.control("invocations", since=0))
    guard.shell(guard.outputs[output], tmp_path)
    eventually(lambda: guard.invoked(before) >= runs)


def test_the_test_message_is_followed_by_that_of_an_alarm(guard, tmp_path):
    """CloudWatch sets the alarm back with its next evaluation."""
    before, last = len(guard.aws.control("invocations", since=0)), len(guard.aws.control("mail"))
    printed = guard.shell(guard.outputs["TestMessage"], tmp_path)
    assert '"StatusCode": 200' in printed
    assert not list(tmp_path.iterdir()), "it leaves no file behind"
    assert guard.invoked(before) == 1
    alarmed, over = eventually(lambda: len(guard.announced(last)) > 1 and guard.announced(last))
    assert json.loads(alarmed)["NewStateReason"].startswith("TEST of privatelink-guard: nothing is wrong")
    assert "DeadLettersWaiting" in over


def test_chat_channels_are_added_and_removed(guard):
    topic = guard.outputs["AlertTopicArn"]

    def receiving():
        listed = guard.aws.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        return [each["Endpoint"].rpartition("/")[2] for each in listed if each["Protocol"] == "https"]
    assert receiving() == []
    guard.update(**SLACK, **TEAMS)
    assert receiving() == ["global.sns-api.chatbot.amazonaws.com", "teams"]
    guard.update(**TEAMS, SlackWorkspaceId="", SlackChannelId="")
    assert receiving() == ["teams"]
    guard.update(**dict.fromkeys([*SLACK, *TEAMS], ""))
    assert receiving() == []
    assert guard.outputs["AlertTopicArn"] == topic


def test_target_follower_comes_runs_publishes_and_goes(guard):
    topic = guard.outputs["AlertTopicArn"]
    guard.update(**follow(REGION))
    assert {guard.outputs[f"{name}Name"] for name in ALL_FUNCTIONS} <= set(existing(guard.aws)["functions"])
    event = {"service": "sns", "form": {"Action": "Publish", "Version": "2010-03-31", "TopicArn": topic,
                                        "Message": "from TargetFollower"}}
    name = guard.outputs["TargetFollowerName"]
    answer = guard.aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
    assert json.loads(answer["Payload"].read())["status"] == 200

    def started():
        return {run["function"] for run in guard.aws.control("invocations", since=0) if run["trigger"] == "schedule"}
    eventually(lambda: name in started())
    guard.update(FollowHostnames="never", FollowTargetGroups="")
    assert "TargetFollowerName" not in guard.outputs
    assert [name for names in existing(guard.aws).values() for name in names if "Follow" in name] == []


def test_the_end_of_an_alarm_is_announced(guard):
    cloudwatch = guard.aws.client("cloudwatch")
    [alarm] = cloudwatch.describe_alarms(AlarmNamePrefix=f"{STACK}-DeadLettersWaiting")["MetricAlarms"]
    name, last = alarm["AlarmName"], len(guard.aws.control("mail"))
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a dead letter")
    # CloudWatch evaluates the alarm again within a minute, and there is no dead letter.
    alarmed, over = eventually(lambda: len(guard.announced(last)) > 1 and guard.announced(last))
    assert json.loads(alarmed)["NewStateValue"] == "ALARM"
    assert f"alarm {name} (stack {STACK}, account {PROVIDER}, {REGION}) has been OK again since 2" in json.loads(over)


def test_the_log_command_of_an_alarm_works(guard):
    for alarm in guard.aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{STACK}-")["MetricAlarms"]:
        command = re.search(r"\((aws logs .+? --output text)\)", alarm["AlarmDescription"])
        if command:
            path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
            done = subprocess.run(["sh", "-ec", command[1]], text=True, capture_output=True, check=False,
                                  env={**guard.aws.environment(), "PATH": path})
            assert done.returncode == 0, done.stderr


def test_an_existing_topic_replaces_the_stacks_own(guard):
    """Deployed under another name, since the topic of the stack is needed below."""
    aws, name = guard.aws, "central"
    topic = aws.client("sns", DBT).create_topic(Name="alerts")["TopicArn"]
    pager = aws.client("sns").create_topic(Name="pager")["TopicArn"]
    guard.deploy(name=name, AlertEmail="", AlertTopicArn=topic, PagerTopicArn=pager)
    [stack] = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert outputs["AlertTopicArn"] == topic
    assert "SubscribeCommand" not in outputs
    assert [each["TopicArn"].rpartition(":")[2] for each in aws.client("sns").list_topics()["Topics"]
            if f":{name}-" in each["TopicArn"]] == [outputs["NotificationTopicArn"].rpartition(":")[2]]
    alarms = aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{name}-")["MetricAlarms"]
    assert len(alarms) == 13
    kinds = ("AlarmActions", "OKActions", "InsufficientDataActions")
    assert {tuple(arn for kind in kinds for arn in alarm[kind]) for alarm in alarms} == {(topic,), (pager, pager)}

    def publish():
        event = {"service": "sns", "form": {"Action": "Publish", "Version": "2010-03-31", "TopicArn": topic,
                                            "Message": "hello"}}
        answer = aws.client("lambda").invoke(FunctionName=outputs["DriftWatcherName"], Payload=json.dumps(event))
        return json.loads(answer["Payload"].read())["status"]
    assert publish() == 403
    # The owner of the topic adds what the output has.
    policy = {"Version": "2012-10-17", "Statement": json.loads(outputs["AlertTopicStatements"])}
    aws.client("sns", DBT).set_topic_attributes(
        TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy))
    assert publish() == 200
    guard.delete(name)
    assert aws.client("sns", DBT).get_topic_attributes(TopicArn=topic)["Attributes"]["TopicArn"] == topic


def test_a_failed_update_changes_nothing(guard):
    """The connection notification of a service that does not exist cannot be created."""
    def state():
        return guard.outputs, guard.items(), guard.notified(), guard.environment("DriftWatcher")
    before = state()
    output = guard.deploy(succeeds=False, EndpointServiceIds=NO_SERVICE, CrossZone="ignore")
    assert NO_SERVICE in output
    assert guard.described["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert state() == before


def existing(aws):
    """The names of all existing resources, by the types that the stack creates."""
    def of(service, call, key, name, **arguments):
        answer = getattr(aws.client(service), call)(**arguments)
        return [entry[name] if name else entry for entry in answer.get(key, [])]
    return {
        "functions": of("lambda", "list_functions", "Functions", "FunctionName"),
        "roles": of("iam", "list_roles", "Roles", "RoleName"),
        "policies": of("iam", "list_policies", "Policies", "PolicyName", Scope="Local"),
        "topics": of("sns", "list_topics", "Topics", "TopicArn"),
        "subscriptions": of("sns", "list_subscriptions", "Subscriptions", "TopicArn"),
        "queues": of("sqs", "list_queues", "QueueUrls", None),
        "tables": of("dynamodb", "list_tables", "TableNames", None),
        "logs": of("logs", "describe_log_groups", "logGroups", "logGroupName"),
        "alarms": of("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
        "dashboards": of("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
        "rules": of("events", "list_rules", "Rules", "Name"),
        "schedules": of("scheduler", "list_schedules", "Schedules", "Name"),
        "notifications": of("ec2", "describe_vpc_endpoint_connection_notifications", "ConnectionNotificationSet",
                            "ConnectionNotificationArn"),
    }


def test_deleting_the_stack_leaves_nothing(guard):
    def ours():
        return {kind: [name for name in names if STACK in name] for kind, names in existing(guard.aws).items()}
    counts = {kind: len(names) for kind, names in ours().items()}
    assert counts == {
        "functions": 3, "roles": 6, "policies": 1, "topics": 2, "subscriptions": 3, "queues": 1, "tables": 1, "logs": 3,
        "alarms": 10, "dashboards": 1, "rules": 4, "schedules": 4, "notifications": 2}
    guard.delete()
    assert ours() == {kind: [] for kind in counts}
