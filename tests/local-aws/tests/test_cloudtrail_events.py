"""EventBridge: what "AWS API Call via CloudTrail" says, and about whom."""
import json

import pytest
from conftest import DBT, PROVIDER, REGION, eventually


@pytest.fixture
def trail(aws, names):
    """Collects an account's events in a queue; returns the details seen so far."""
    def collect(account):
        events, sqs = aws.client("events", account), aws.client("sqs", account)
        name = names("trail")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name=name, EventPattern=json.dumps({"detail-type": ["AWS API Call via CloudTrail"]}))
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
        seen = []

        def received():
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                seen.append(json.loads(message["Body"]))
            return seen

        def event(name):
            return eventually(lambda: next((e for e in received() if e["detail"]["eventName"] == name), None))

        event.received = received
        return event
    return collect


def test_a_users_call_is_recorded_as_the_users(aws, names, provider, connect, trail):
    events, iam, user = trail(PROVIDER), aws.client("iam"), names("alice")
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    arguments = ["--service-id", provider.service_id, "--vpc-endpoint-ids", endpoint := connect()]
    aws.cli("ec2", "reject-vpc-endpoint-connections", *arguments, account=key["AccessKeyId"],
            secret=key["SecretAccessKey"])
    event = events("RejectVpcEndpointConnections")
    assert (event["source"], event["account"], event["region"]) == ("aws.ec2", PROVIDER, REGION)
    detail = event["detail"]
    assert detail["userIdentity"]["type"] == "IAMUser"
    assert detail["userIdentity"]["arn"] == f"arn:aws:iam::{PROVIDER}:user/{user}"
    assert detail["userIdentity"]["userName"] == user
    assert detail["requestParameters"] == {"RejectVpcEndpointConnectionsRequest": {
        "ServiceId": provider.service_id, "VpcEndpointId": {"tag": 1, "content": endpoint}}}
    assert detail["eventSource"] == "ec2.amazonaws.com"
    assert detail["sourceIPAddress"] == "127.0.0.1"
    assert (detail["readOnly"], detail["managementEvent"], detail["eventType"]) == (False, True, "AwsApiCall")
    assert detail["recipientAccountId"] == PROVIDER
    assert detail["responseElements"]["RejectVpcEndpointConnectionsResponse"]["unsuccessful"] == ""


def test_a_load_balancers_change_names_it_and_its_attributes(aws, provider, trail):
    events = trail(PROVIDER)
    provider.elb.modify_load_balancer_attributes(LoadBalancerArn=provider.load_balancer, Attributes=[
        {"Key": "load_balancing.cross_zone.enabled", "Value": "true"}])
    event = events("ModifyLoadBalancerAttributes")
    assert event["source"] == "aws.elasticloadbalancing"
    assert event["detail"]["requestParameters"] == {
        "loadBalancerArn": provider.load_balancer,
        "attributes": [{"key": "load_balancing.cross_zone.enabled", "value": "true"}]}
    assert event["detail"]["userIdentity"] == {
        "type": "Root", "principalId": PROVIDER, "arn": f"arn:aws:iam::{PROVIDER}:root", "accountId": PROVIDER,
        "accessKeyId": PROVIDER}


def test_older_ec2_actions_have_their_older_shape(aws, names, trail):
    events, ec2 = trail(PROVIDER), aws.client("ec2")
    group = ec2.create_security_group(GroupName=names("sg"), Description="d")["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}])
    detail = events("AuthorizeSecurityGroupIngress")["detail"]
    assert detail["requestParameters"] == {"groupId": group, "ipPermissions": {"items": [
        {"ipProtocol": "tcp", "fromPort": 5432, "toPort": 5432, "ipRanges": {"items": [{"cidrIp": "10.0.0.0/8"}]}}]}}
    assert detail["responseElements"]["_return"] is True


def test_the_consumers_calls_are_the_consumers_events(aws, provider, connect, trail):
    provider_events, consumer_events = trail(PROVIDER), trail(DBT)
    connect()
    assert consumer_events("CreateVpcEndpoint")["detail"]["recipientAccountId"] == DBT
    provider.listen()
    provider_events("CreateListener")
    assert "CreateVpcEndpoint" not in [e["detail"]["eventName"] for e in provider_events.received()]


def test_reads_and_failures_are_not_recorded(aws, provider, trail):
    events = trail(PROVIDER)
    provider.ec2.describe_vpc_endpoint_connections()
    aws.control("fault", action="elasticloadbalancing:CreateListener", code="TooManyListeners", times=1)
    try:
        provider.listen()
    except provider.elb.exceptions.TooManyListenersException:
        pass
    provider.listen()
    events("CreateListener")
    assert [e["detail"]["eventName"] for e in events.received()] == ["CreateListener"]
