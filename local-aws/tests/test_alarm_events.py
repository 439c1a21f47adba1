"""The events of CloudWatch for a changed alarm state."""
import json

import pytest
from conftest import eventually


def test_a_change_of_an_alarms_state_is_an_event(aws, names):
    name, cloudwatch, sqs = names("alarm"), aws.client("cloudwatch"), aws.client("sqs")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events = aws.client("events")
    events.put_rule(Name=name, EventPattern=json.dumps({
        "source": ["aws.cloudwatch"], "detail-type": ["CloudWatch Alarm State Change"],
        "detail": {"alarmName": [name]}}))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace="Test", MetricName="Errors", Statistic="Sum", Period=60, EvaluationPeriods=1,
        Threshold=1, ComparisonOperator="GreaterThanOrEqualToThreshold")
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    [message] = eventually(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
    event = json.loads(message["Body"])
    assert event["resources"] == [f"arn:aws:cloudwatch:eu-central-1:111122223333:alarm:{name}"]
    assert (event["account"], event["region"]) == ("111122223333", "eu-central-1")
    assert event["detail"]["previousState"]["value"] == "INSUFFICIENT_DATA"
    assert event["detail"]["state"] == {"value": "ALARM", "reason": "a test"}
    history = cloudwatch.describe_alarm_history(AlarmName=name, HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    [change] = [item for item in history if item["HistorySummary"].endswith("to ALARM")]
    assert json.loads(change["HistoryData"])["oldState"] == {
        "stateValue": "INSUFFICIENT_DATA", "stateReason": "Unchecked: Initial alarm creation"}


@pytest.mark.parametrize("key", ["alias/aws/sns", "arn:aws:kms:eu-central-1:111122223333:alias/aws/sns"])
def test_awss_own_key_lets_principals_publish_and_no_service(aws, names, key):
    cloudwatch, events, sns, name = aws.client("cloudwatch"), aws.client("events"), aws.client("sns"), names("alarm")
    topics = {kind: sns.create_topic(Name=f"{name}-{kind}", Attributes=attributes)["TopicArn"] for kind, attributes in {
        "open": {}, "own": {"KmsMasterKeyId": "alias/own"}, "closed": {"KmsMasterKeyId": key}}.items()}
    events.put_rule(Name=name, EventPattern=json.dumps({"source": ["aws.cloudwatch"], "detail": {"alarmName": [name]}}))
    events.put_targets(Rule=name, Targets=[{"Id": kind, "Arn": arn} for kind, arn in topics.items()])
    cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace="Test", MetricName="Errors", Statistic="Sum", Period=60, EvaluationPeriods=1,
        Threshold=1, ComparisonOperator="GreaterThanOrEqualToThreshold", AlarmActions=[*topics.values()])
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    sns.publish(TopicArn=topics["closed"], Message="of a principal")

    def received(kind):
        return [mail["message"] for mail in aws.control("mail") if mail["topic"] == topics[kind]]
    eventually(lambda: all(len(received(kind)) >= 2 for kind in ("open", "own")))
    assert {json.loads(message).get("NewStateReason") for message in received("open")} >= {"a test", None}
    assert received("closed") == ["of a principal"]
    history = cloudwatch.describe_alarm_history(AlarmName=name, HistoryItemType="Action")["AlarmHistoryItems"]
    assert [item["HistorySummary"] for item in history] == [
        f'Failed to execute action {topics["closed"]}. Received error: "CloudWatch Alarms does not have authorization '
        'to access the SNS topic encryption key."']


def test_each_alarm_decides_how_missing_data_counts(aws, names):
    """Here, a minute lasts a second."""
    name, cloudwatch = names("alarm"), aws.client("cloudwatch")
    metric = {"Namespace": name, "MetricName": "Runs"}
    for treatment in ("missing", "ignore", "breaching", "notBreaching"):
        cloudwatch.put_metric_alarm(
            **metric, AlarmName=f"{name}-{treatment}", Statistic="Sum", Period=180, EvaluationPeriods=2, Threshold=1,
            Dimensions=[{"Name": "Function", "Value": "f"}], ComparisonOperator="LessThanThreshold",
            TreatMissingData=treatment)

    def states():
        alarms = cloudwatch.describe_alarms(AlarmNamePrefix=name)["MetricAlarms"]
        return {alarm["AlarmName"].rpartition("-")[2]: alarm["StateValue"] for alarm in alarms}
    nothing = {"missing": "INSUFFICIENT_DATA", "ignore": "INSUFFICIENT_DATA", "breaching": "ALARM",
               "notBreaching": "OK"}
    eventually(lambda: states() == nothing)

    def run(function):
        cloudwatch.put_metric_data(Namespace=name, MetricData=[
            {"MetricName": "Runs", "Value": 1, "Dimensions": [{"Name": "Function", "Value": function}]}])
    run("another")
    assert states() == nothing
    run("f")
    # One of two periods has a value that does not breach.
    assert set(states().values()) == {"OK"}
    eventually(lambda: states() == {**nothing, "ignore": "OK"})
