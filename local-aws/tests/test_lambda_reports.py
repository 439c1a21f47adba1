"""The platform's lines in a function's log, a run's timeout, and deliveries of SNS and EventBridge to queues."""
import io
import json
import pathlib
import zipfile

import pytest
from conftest import TIMEOUT, eventually

STUB = pathlib.Path(__file__).parent / "stack/function/bootstrap"
TRUST = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}


@pytest.fixture(scope="module")
def function(aws, names):
    """A function with `LogFormat: JSON` and its own log group, and a reader of one kind of lines in that log."""
    name, group, content = names("reports"), f"/{names('reports')}", io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, STUB.read_bytes())
    role = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    logs = aws.client("logs")
    logs.create_log_group(logGroupName=group)
    aws.client("lambda").create_function(
        FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=role, MemorySize=256,
        Code={"ZipFile": content.getvalue()}, LoggingConfig={"LogFormat": "JSON", "LogGroup": group})

    def lines(kind):
        events = logs.filter_log_events(logGroupName=group)["events"]
        return [line for line in (parsed(event["message"]) for event in events) if line.get("type") == kind]
    return name, lines


def parsed(line):
    return json.loads(line) if line.startswith("{") else {}


def test_each_run_has_a_report_and_the_first_an_init_time(aws, function):
    name, lines = function
    for _ in range(2):
        aws.client("lambda").invoke(FunctionName=name, Payload=b"{}")
    reports = eventually(lambda: (found := lines("platform.report")) and len(found) == 2 and found)
    first, second = ((each["record"]["status"], each["record"]["metrics"]) for each in reports)
    assert (first[0], second[0]) == ("success", "success")
    assert "initDurationMs" in first[1]
    assert "initDurationMs" not in second[1]
    for _, metrics in (first, second):
        assert metrics["memorySizeMB"] == 256
        assert 0 < metrics["maxMemoryUsedMB"] <= 256
        assert 0 < metrics["durationMs"] <= metrics["billedDurationMs"]
    starts = lines("platform.start")
    assert [each["record"]["requestId"] for each in starts] == [each["record"]["requestId"] for each in reports]


def test_a_run_is_killed_at_the_functions_timeout(aws, function):
    client, name = aws.client("lambda"), function[0]
    client.update_function_configuration(FunctionName=name, Timeout=1)
    answer = client.invoke(FunctionName=name, Payload=json.dumps({"sleep": TIMEOUT}))
    assert "FunctionError" in answer
    assert json.loads(answer["Payload"].read())["errorMessage"] == "Task timed out after 1.00 seconds"


def test_sns_and_eventbridge_reach_only_queues_that_allow_it(aws, names):
    sns, sqs = aws.client("sns"), aws.client("sqs")
    topic = sns.create_topic(Name=names("topic"))["TopicArn"]
    queues = [sqs.create_queue(QueueName=names("queue"))["QueueUrl"] for _ in range(2)]
    for queue, allowed in zip(queues, (topic, topic + "-other"), strict=True):
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps({
            "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
                "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": allowed}}}]})})
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    sns.publish(TopicArn=topic, Subject="s", MessageStructure="json", Message=json.dumps({"default": "d", "sqs": "q"}))

    def received(queue):
        return sqs.receive_message(QueueUrl=queue, AttributeNames=["SentTimestamp"]).get("Messages", [])
    [message] = eventually(lambda: received(queues[0]))
    envelope = json.loads(message["Body"])
    assert (envelope["Type"], envelope["Subject"], envelope["Message"]) == ("Notification", "s", "q")
    assert int(message["Attributes"]["SentTimestamp"]) > 1_500_000_000_000
    assert received(queues[1]) == []
