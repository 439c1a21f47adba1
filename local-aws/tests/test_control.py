"""Connection notifications, captured messages, faults and the request log."""
import json
import subprocess
import sys
import time

import pytest
from botocore.exceptions import ClientError
from conftest import DBT, PROVIDER, REGION, TIMEOUT, Provider, eventually
from local_aws import control
from test_endpoint_services import error_code


def topic_with_policy(aws, name, source_arn="*", principal="vpce.amazonaws.com"):
    sns = aws.client("sns")
    arn = sns.create_topic(Name=name)["TopicArn"]
    sns.set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=json.dumps({
        "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": principal}, "Action": "sns:Publish", "Resource": arn,
            "Condition": {"StringEquals": {"aws:SourceAccount": PROVIDER},
                          "ArnLike": {"aws:SourceArn": source_arn}}}]}))
    return arn


def service_arn(service_id):
    return f"arn:aws:ec2:{REGION}:{PROVIDER}:vpc-endpoint-service/{service_id}"


def published(aws, topic):
    return [json.loads(m["message"]) for m in aws.control("mail") if (m["topic"], m["protocol"]) == (topic, "topic")]


def notify(provider, topic, events=("Connect", "Accept", "Reject", "Delete")):
    return provider.ec2.create_vpc_endpoint_connection_notification(
        ServiceId=provider.service_id, ConnectionNotificationArn=topic, ConnectionEvents=list(events))[
            "ConnectionNotification"]


def test_each_event_of_a_connection_is_published(aws, names, provider, connect):
    topic = topic_with_policy(aws, names("topic"), service_arn(provider.service_id))
    notify(provider, topic)
    endpoint = connect()
    decide = {"ServiceId": provider.service_id, "VpcEndpointIds": [endpoint]}
    provider.ec2.accept_vpc_endpoint_connections(**decide)
    provider.ec2.reject_vpc_endpoint_connections(**decide)
    aws.client("ec2", DBT).delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    messages = published(aws, topic)
    assert [message["eventName"] for message in messages] == ["Connect", "Accept", "Reject", "Delete"]
    assert {(message["serviceId"], message["vpcEndpointId"]) for message in messages} == {
        (provider.service_id, endpoint)}


@pytest.mark.parametrize("policy", [
    None,  # the default policy of a topic
    {"principal": "events.amazonaws.com"},
    {"source_arn": "arn:aws:ec2:*:*:vpc-endpoint-service/vpce-svc-00000000000000000"},
])
def test_nothing_is_published_unless_the_topic_allows_it(aws, names, provider, connect, policy):
    topic = (aws.client("sns").create_topic(Name=names("topic"))["TopicArn"] if policy is None
             else topic_with_policy(aws, names("topic"), **policy))
    notify(provider, topic)
    connect()
    assert published(aws, topic) == []


def test_notifications_are_described_changed_and_deleted(aws, names, provider, connect):
    topic = topic_with_policy(aws, names("topic"))
    created = notify(provider, topic, ["Connect"])
    asked = {"Filters": [{"Name": "service-id", "Values": [provider.service_id]}]}
    describe = provider.ec2.describe_vpc_endpoint_connection_notifications
    assert describe(**asked)["ConnectionNotificationSet"] == [created]
    assert (created["ConnectionNotificationType"], created["ConnectionNotificationState"]) == ("Topic", "Enabled")
    by_id = {"ConnectionNotificationId": created["ConnectionNotificationId"]}
    provider.ec2.modify_vpc_endpoint_connection_notification(**by_id, ConnectionEvents=["Delete"])
    connect()
    assert published(aws, topic) == []
    provider.ec2.delete_vpc_endpoint_connection_notifications(
        ConnectionNotificationIds=[created["ConnectionNotificationId"]])
    assert describe(**asked)["ConnectionNotificationSet"] == []
    assert error_code(describe, **by_id) == "InvalidConnectionNotification"


def test_notifications_come_in_pages_and_can_be_disabled(aws, names, provider, connect):
    topic, other = topic_with_policy(aws, names("topic")), Provider(aws, names("svc"))
    ids = [notify(p, topic)["ConnectionNotificationId"] for p in (provider, provider, other)]
    asked = {"Filters": [{"Name": "service-id", "Values": [provider.service_id, other.service_id]}]}
    aws.control("page-size", size=2)
    pages = list(provider.ec2.get_paginator("describe_vpc_endpoint_connection_notifications").paginate(**asked))
    assert [[n["ConnectionNotificationId"] for n in page["ConnectionNotificationSet"]] for page in pages] == [
        ids[:2], ids[2:]]
    for disabled in ids[:2]:
        aws.control("notification", notification_id=disabled, state="Disabled")
    asked["Filters"].append({"Name": "connection-notification-state", "Values": ["Disabled"]})
    found = provider.ec2.describe_vpc_endpoint_connection_notifications(**asked)["ConnectionNotificationSet"]
    assert [n["ConnectionNotificationState"] for n in found] == ["Disabled", "Disabled"]
    connect()
    assert published(aws, topic) == []
    aws.control("notification", notification_id=ids[0], state="Enabled")
    connect()
    assert len(published(aws, topic)) == 1


def test_notify_publishes_any_text(aws, names, provider):
    topic = topic_with_policy(aws, names("topic"))
    aws.control("notify", topic=topic, message='{"anything": 1}')
    assert published(aws, topic) == [{"anything": 1}]


def test_each_protocol_gets_its_own_body(aws, names):
    sns = aws.client("sns")
    topic = sns.create_topic(Name=names("alerts"))["TopicArn"]
    severe = {"FilterPolicy": json.dumps({"severity": ["critical"]})}
    for protocol, endpoint, attributes in [
            ("email", "ops@example.com", {}), ("https", "https://chat.example.com/hook", {}),
            ("email", "boss@example.com", severe), ("email-json", "log@example.com", {}),
            ("email", "unconfirmed@example.com", {})]:
        sns.subscribe(TopicArn=topic, Protocol=protocol, Endpoint=endpoint, Attributes=attributes)
    listed = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    *confirmed, pending = [subscription["SubscriptionArn"] for subscription in listed]
    assert all(arn.startswith(topic) for arn in confirmed)
    assert pending == "PendingConfirmation"
    bodies = {"default": "plain", "email": "for people", "https": '{"version": "1.0"}'}
    sns.publish(TopicArn=topic, Subject="[WARNING] db", MessageStructure="json", Message=json.dumps(bodies),
                MessageAttributes={"severity": {"DataType": "String", "StringValue": "warning"}})
    mail = [m for m in aws.control("mail") if m["topic"] == topic]
    assert [(m["protocol"], m["endpoint"], m["message"]) for m in mail] == [
        ("topic", None, json.dumps(bodies)),
        ("email", "ops@example.com", "for people"),
        ("https", "https://chat.example.com/hook", '{"version": "1.0"}'),
        ("email-json", "log@example.com", "plain")]
    assert {(m["subject"], m["attributes"]["severity"]) for m in mail} == {("[WARNING] db", "warning")}
    assert aws.control("mail", since=mail[-1]["n"]) == []


@pytest.mark.parametrize("message", [
    {"Message": "x", "Subject": "é"},
    {"Message": "x", "Subject": "s" * 101},
    {"Message": "x", "Subject": "two\nlines"},
    {"Message": "not json", "MessageStructure": "json"},
    {"Message": '{"email": "no default"}', "MessageStructure": "json"},
])
def test_sns_rejects_invalid_messages(aws, names, message):
    sns = aws.client("sns")
    assert error_code(sns.publish, TopicArn=sns.create_topic(Name=names("t"))["TopicArn"], **message) == (
        "InvalidParameter")


@pytest.mark.parametrize("action, service, operation, arguments", [
    ("ec2:DescribeVpcEndpointConnections", "ec2", "describe_vpc_endpoint_connections", {}),
    ("elasticloadbalancing:DescribeLoadBalancers", "elbv2", "describe_load_balancers", {}),
    ("sns:ListTopics", "sns", "list_topics", {}),
    ("dynamodb:ListTables", "dynamodb", "list_tables", {}),
    ("sqs:ListQueues", "sqs", "list_queues", {}),
    ("logs:DescribeLogGroups", "logs", "describe_log_groups", {}),
])
def test_a_fault_uses_the_services_protocol(aws, action, service, operation, arguments):
    aws.control("fault", action=action, code="ThrottlingException", message="too fast", status=400, times=1)
    call = getattr(aws.client(service), operation)
    with pytest.raises(ClientError) as failure:
        call(**arguments)
    assert failure.value.response["Error"]["Code"] == "ThrottlingException"
    assert failure.value.response["Error"]["Message"] == "too fast"
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    call(**arguments)


def test_a_fault_can_fail_the_items_of_a_call(aws, provider, connect):
    endpoint = connect()
    aws.control("fault", action="ec2:AcceptVpcEndpointConnections", unsuccessful="VpcEndpointLimitExceeded", times=1)
    decide = {"ServiceId": provider.service_id, "VpcEndpointIds": [endpoint]}
    [item] = provider.ec2.accept_vpc_endpoint_connections(**decide)["Unsuccessful"]
    assert (item["ResourceId"], item["Error"]["Code"]) == (endpoint, "VpcEndpointLimitExceeded")
    assert provider.state(endpoint) == "pendingAcceptance"
    assert provider.ec2.accept_vpc_endpoint_connections(**decide)["Unsuccessful"] == []


def test_a_call_on_one_resource_can_lose_its_answer(aws, provider):
    other = provider.elb.create_target_group(Name="other", Protocol="TCP", Port=1, VpcId=provider.vpc, TargetType="ip")
    other = other["TargetGroups"][0]["TargetGroupArn"]
    action = "elasticloadbalancing:RegisterTargets"
    aws.control("fault", action=action, resource=provider.target_group, lost=True)
    targets = [{"Id": "172.31.0.10"}]
    provider.elb.register_targets(TargetGroupArn=other, Targets=targets)
    register = f"elbv2 register-targets --target-group-arn {provider.target_group} --targets Id=172.31.0.10"
    assert "Read timeout" in aws.cli(*register.split(), "--cli-read-timeout", "1", succeeds=False)
    for group in (provider.target_group, other):
        assert len(provider.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]) == 1


def test_the_list_of_connections_can_lag_behind(aws, provider, connect):
    """For a second after each change, the provider's list shows the previous state; the consumer sees the change at
    once.
    """
    consumer, listed_before = aws.client("ec2", DBT), connect()
    aws.control("clock", stop=True)
    aws.control("delay", connections=1)
    assert provider.state(listed_before) == "pendingAcceptance", "it was created before the delay was set"
    endpoint = connect()
    decision = {"ServiceId": provider.service_id, "VpcEndpointIds": [endpoint]}

    def shows_late(before, after, change=None):
        if change:
            change()
        [seen] = consumer.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"]
        assert seen["State"] == after
        aws.control("clock", advance=0.9)
        assert provider.state(endpoint) == before
        aws.control("clock", advance=0.1)
        assert provider.state(endpoint) == after

    shows_late(None, "pendingAcceptance")
    shows_late("pendingAcceptance", "pending", lambda: provider.ec2.accept_vpc_endpoint_connections(**decision))
    [refused] = provider.ec2.accept_vpc_endpoint_connections(**decision)["Unsuccessful"]
    assert refused["Error"]["Code"] == "InvalidState", "the real state decides"
    aws.control("clock", advance=1)
    assert provider.state(endpoint) == "available"
    shows_late("available", "rejected", lambda: provider.ec2.reject_vpc_endpoint_connections(**decision))
    assert provider.connections(vpc_endpoint_state="rejected"), "filters apply to what the list shows"
    shows_late("rejected", "expired", lambda: aws.control("connection", endpoint_id=endpoint, state="expired"))
    shows_late("expired", "deleting", lambda: consumer.delete_vpc_endpoints(VpcEndpointIds=[endpoint]))
    aws.control("clock", advance=1)
    assert provider.state(endpoint) == "deleted"
    aws.control("clock", advance=1)
    assert provider.state(endpoint) is None
    aws.control("delay", connections=0)
    assert provider.state(connect()) == "pendingAcceptance"


def test_a_moved_clock_continues_from_its_new_time(aws, provider, connect):
    """A minute of this server lasts a second, so the deleted connection is gone after two."""
    aws.control("clock", stop=True)
    endpoint = connect()
    aws.client("ec2", DBT).delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    aws.control("clock", advance=1)
    assert provider.state(endpoint) == "deleted"
    aws.control("clock", start=True)
    eventually(lambda: provider.state(endpoint) is None)
    aws.client("ec2", DBT).delete_vpc_endpoints(VpcEndpointIds=[endpoint := connect()])
    aws.control("clock", advance=2)
    assert provider.state(endpoint) is None


def test_a_delay_holds_back_the_answers_to_an_action(aws, provider):
    aws.control("delay", answer=0.6, action="ec2:DescribeSubnets")
    began = time.monotonic()
    provider.ec2.describe_subnets()
    assert time.monotonic() - began >= 0.6

    aws.control("delay", answer=2 * TIMEOUT, action="ec2:DescribeSubnets")
    assert provider.ec2.describe_vpcs()["Vpcs"], "another action is answered before the client gives up"
    aws.control("delay", answer=0, action="ec2:DescribeSubnets")
    assert provider.ec2.describe_subnets()["Subnets"], "so is this one, without the delay"


@pytest.mark.parametrize("delay", [{"cloudtrail": -1}, {"connections": "long"}, {"mail": 1}, {"answer": -1}])
def test_an_invalid_delay_is_refused(aws, delay):
    with pytest.raises(control.LocalError):
        aws.control("delay", **delay)


def test_requests_are_listed_with_their_principal_and_error(aws, provider):
    before = aws.control("requests")[-1]["n"]
    error_code(aws.client("ec2", DBT).describe_vpc_endpoint_service_permissions, ServiceId=provider.service_id)
    [request] = aws.control("requests", since=before, principal=DBT)
    assert request["principal"] == f"arn:aws:iam::{DBT}:root"
    assert (request["service"], request["action"], request["error"]) == (
        "ec2", "DescribeVpcEndpointServicePermissions", "InvalidVpcEndpointServiceId.NotFound")


def test_the_request_log_lists_the_arns_of_a_call(aws, provider):
    """A list is authorized for no resource."""
    before = aws.control("requests")[-1]["n"]
    provider.elb.describe_target_health(TargetGroupArn=provider.target_group)
    provider.elb.describe_tags(ResourceArns=[provider.load_balancer, provider.target_group])
    asked = [(request["resources"], request["arns"]) for request in aws.control("requests", since=before)]
    assert asked == [([], [provider.target_group]), ([], [provider.load_balancer, provider.target_group])]


def test_the_control_commands_work_on_the_command_line(aws, provider):
    """The commands run as in the demo, with the endpoint in AWS_ENDPOINT_URL."""
    def command(*arguments):
        done = subprocess.run([sys.executable, "-m", "local_aws", *arguments], env=aws.environment(),
                              capture_output=True, text=True, check=True)
        return json.loads(done.stdout) if done.stdout else None

    provider.listen()
    provider.elb.register_targets(TargetGroupArn=provider.target_group, Targets=[{"Id": "172.31.0.10"}])
    command("target-health", "--target-group", provider.target_group, "--target", "172.31.0.10", "--state", "unhealthy")
    [description] = aws.cli("elbv2", "describe-target-health", "--target-group-arn", provider.target_group)[
        "TargetHealthDescriptions"]
    assert description["TargetHealth"] == {"State": "unhealthy", "Reason": "Target.FailedHealthChecks",
                                           "Description": "Health checks failed"}
    command("fault", "--action", "ec2:DescribeVpcEndpointConnections", "--code", "UnauthorizedOperation")
    message = aws.cli("ec2", "describe-vpc-endpoint-connections", succeeds=False)
    assert "(UnauthorizedOperation)" in message
    command("fault", "--clear")
    assert eventually(lambda: command("requests", "--principal", PROVIDER))
    command("delay", "--cloudtrail", "0.1", "--connections", "0.1")
    command("delay", "--cloudtrail", "0", "--connections", "0")
    command("clock", "--stop", "--advance", "0.1")
    command("clock", "--start")
    command("load-balancer", "--load-balancer", provider.load_balancer, "--state", "active_impaired")
    service = ["--service-id", provider.service_id]
    aws.cli("ec2", "modify-vpc-endpoint-service-configuration", *service, "--private-dns-name", "db.example.com",
            "--add-supported-regions", "us-east-1")
    command("private-dns", *service, "--state", "failed", "--verification", "verified")
    command("service-region", *service, "--region", "us-east-1", "--state", "Pending")
    certificate = aws.cli("acm", "request-certificate", "--domain-name", "db.example.com")["CertificateArn"]
    command("certificate", "--certificate", certificate, "--not-after", "2040-01-01T00:00:00Z", "--type", "IMPORTED")
    described = aws.cli("acm", "describe-certificate", "--certificate-arn", certificate)["Certificate"]
    assert (described["NotAfter"], described["Type"]) == (2208988800, "IMPORTED")
    command("managed", "--resource-id", "i-00000000000000000", "--principal", "eks.amazonaws.com")
    command("metric", "--namespace", "AWS/PrivateLinkServices", "--metric", "NewConnections", "--dimensions",
            f"Service Id={provider.service_id}", "Az=euc1-az2", "--values", "0", "none", "12", "--unit", "Count")
    [listed] = aws.cli("cloudwatch", "list-metrics", "--dimensions", f"Name=Service Id,Value={provider.service_id}")[
        "Metrics"]
    assert (listed["Namespace"], len(listed["Dimensions"])) == ("AWS/PrivateLinkServices", 2)
    topic = aws.cli("sns", "create-topic", "--name", "notifications")["TopicArn"]
    created = aws.cli("ec2", "create-vpc-endpoint-connection-notification", *service, "--connection-events", "Connect",
                      "--connection-notification-arn", topic)["ConnectionNotification"]
    command("notification", "--notification-id", created["ConnectionNotificationId"], "--state", "Disabled")
    [described] = aws.cli("ec2", "describe-vpc-endpoint-service-configurations", "--service-ids", provider.service_id)[
        "ServiceConfigurations"]
    assert described["PrivateDnsNameConfiguration"]["State"] == "failed"
    assert {"Region": "us-east-1", "ServiceState": "Pending"} in described["SupportedRegions"]


def test_an_answer_can_have_another_value_or_lack_one(aws, provider, connect):
    endpoint, other = connect(), connect()
    listed = {"action": "ec2:DescribeVpcEndpointConnections", "row": endpoint}
    aws.control("answer", **listed, member="VpcEndpointRegion", value=REGION)
    aws.control("answer", **listed, member="VpcEndpointOwner")
    rows = {row["VpcEndpointId"]: row for row in provider.connections()}
    regions_and_owners = [[row.get(member) for member in ("VpcEndpointRegion", "VpcEndpointOwner")]
                          for row in (rows[endpoint], rows[other])]
    assert regions_and_owners == [[REGION, None], [None, DBT]]
    service = {"action": "ec2:DescribeVpcEndpointServiceConfigurations", "row": provider.service_id}
    aws.control("answer", **service, member="AvailabilityZones")
    described = provider.ec2.describe_vpc_endpoint_service_configurations(ServiceIds=[provider.service_id])
    [service] = described["ServiceConfigurations"]
    assert (service["AvailabilityZoneIds"], service.get("AvailabilityZones")) == (["euc1-az1", "euc1-az2"], None)
    aws.control("answer", clear=True)
    assert {row["VpcEndpointOwner"] for row in provider.connections()} == {DBT}
    with pytest.raises(control.LocalError):
        aws.control("answer", action="ec2:DescribeSubnets")
