"""The resource types that this package adds to CloudFormation."""
import json

from conftest import DBT, Provider, eventually


def deploy(aws, name, resources, account="111122223333", update=False):
    """Create or update a stack. Returns its resources' physical ids by logical id."""
    client = aws.client("cloudformation", account)
    call = client.update_stack if update else client.create_stack
    call(StackName=name, TemplateBody=json.dumps({"Resources": resources}))
    done = "UPDATE_COMPLETE" if update else "CREATE_COMPLETE"
    eventually(lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == done)
    listed = client.describe_stack_resources(StackName=name)["StackResources"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in listed}


def service(load_balancer, **more):
    return {"Type": "AWS::EC2::VPCEndpointService", "Properties": {
        "NetworkLoadBalancerArns": [load_balancer], "AcceptanceRequired": True, **more}}


def permissions(*principals):
    return {"Type": "AWS::EC2::VPCEndpointServicePermissions", "Properties": {
        "ServiceId": {"Ref": "Service"}, "AllowedPrincipals": list(principals)}}


def test_a_service_with_permissions_is_created_changed_and_deleted(aws, names, provider):
    name, root = names("service"), f"arn:aws:iam::{DBT}:root"
    resources = {"Service": service(provider.load_balancer), "Permissions": permissions("*")}
    service_id = deploy(aws, name, resources)["Service"]

    def described():
        [configuration] = provider.ec2.describe_vpc_endpoint_service_configurations(ServiceIds=[service_id])[
            "ServiceConfigurations"]
        allowed = provider.ec2.describe_vpc_endpoint_service_permissions(ServiceId=service_id)["AllowedPrincipals"]
        return configuration["AcceptanceRequired"], [principal["Principal"] for principal in allowed]

    assert described() == (True, ["*"])
    changed = {"Service": service(provider.load_balancer, AcceptanceRequired=False), "Permissions": permissions(root)}
    assert deploy(aws, name, changed, update=True)["Service"] == service_id
    assert described() == (False, [root])
    aws.client("cloudformation").delete_stack(StackName=name)
    eventually(lambda: service_id not in [configuration["ServiceId"] for configuration in
               provider.ec2.describe_vpc_endpoint_service_configurations()["ServiceConfigurations"]])


def test_a_resource_that_cannot_be_created_fails_the_stack(aws, names):
    name, client = names("broken"), aws.client("cloudformation")
    client.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {
        "Notification": {"Type": "AWS::EC2::VPCEndpointConnectionNotification", "Properties": {
            "ServiceId": "vpce-svc-00000000000000000", "ConnectionEvents": ["Connect"],
            "ConnectionNotificationArn": "arn:aws:sns:eu-central-1:111122223333:none"}}}}))
    eventually(lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "ROLLBACK_COMPLETE")
    [failed] = [event for event in client.describe_stack_events(StackName=name)["StackEvents"]
                if event["ResourceStatus"] == "CREATE_FAILED"]
    assert "vpce-svc-00000000000000000" in failed["ResourceStatusReason"]


def test_a_consumers_endpoint_is_a_connection(aws, names, provider):
    vpc = aws.client("ec2", DBT).describe_vpcs()["Vpcs"][0]["VpcId"]
    name = names("consumer")
    endpoint = deploy(aws, name, {"Endpoint": {"Type": "AWS::EC2::VPCEndpoint", "Properties": {
        "VpcId": vpc, "VpcEndpointType": "Interface", "ServiceName": provider.service_name}}}, account=DBT)["Endpoint"]
    assert provider.state(endpoint) == "pendingAcceptance"
    aws.client("cloudformation", DBT).delete_stack(StackName=name)
    eventually(lambda: provider.state(endpoint) in ("deleting", "deleted", None))


def test_a_slack_channel_receives_its_topics_messages(aws, names):
    resources = {"Topic": {"Type": "AWS::SNS::Topic"}, "Slack": {
        "Type": "AWS::Chatbot::SlackChannelConfiguration", "Properties": {
            "ConfigurationName": "alerts", "SlackWorkspaceId": "T0123ABCD", "SlackChannelId": "C0123ABCD",
            "IamRoleArn": "arn:aws:iam::111122223333:role/chat", "SnsTopicArns": [{"Ref": "Topic"}]}}}
    topic = deploy(aws, names("slack"), resources)["Topic"]
    aws.client("sns").publish(TopicArn=topic, Message="hello")
    received = [m for m in aws.control("mail") if (m["topic"], m["protocol"]) == (topic, "https")]
    assert [(m["endpoint"], m["message"]) for m in received] == [
        ("https://global.sns-api.chatbot.amazonaws.com", "hello")]


def test_a_replaced_service_moves_its_notification(aws, names, provider):
    other = Provider(aws, names("other"))
    name = names("notification")

    def template(service_id):
        return {"Topic": {"Type": "AWS::SNS::Topic"}, "Notification": {
            "Type": "AWS::EC2::VPCEndpointConnectionNotification", "Properties": {
                "ServiceId": service_id, "ConnectionNotificationArn": {"Ref": "Topic"},
                "ConnectionEvents": ["Connect"]}}}

    def notified():
        listed = provider.ec2.describe_vpc_endpoint_connection_notifications()["ConnectionNotificationSet"]
        return [n["ServiceId"] for n in listed if n["ConnectionNotificationArn"] == topic]

    topic = deploy(aws, name, template(provider.service_id))["Topic"]
    assert notified() == [provider.service_id]
    deploy(aws, name, template(other.service_id), update=True)
    assert notified() == [other.service_id]
