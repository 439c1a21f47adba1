"""The resource types that this package adds to CloudFormation."""
import json

import pytest
from botocore.exceptions import ClientError
from conftest import DBT, Provider, eventually


def deploy(aws, name, resources, account="111122223333", update=False):
    """Create or update a stack. Returns the physical ids of its resources by logical id."""
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


@pytest.mark.parametrize("call", ["create_stack", "create_change_set", "validate_template"])
def test_a_template_with_aliases_is_refused(aws, names, call):
    name = names("aliases")
    arguments = {"create_stack": {"StackName": name}, "validate_template": {},
                 "create_change_set": {"StackName": name, "ChangeSetName": name, "ChangeSetType": "CREATE"}}[call]
    topics = "Resources:\n  A: &topic {Type: AWS::SNS::Topic}\n  B: *topic\n"
    with pytest.raises(ClientError, match="YAML aliases are not allowed in CloudFormation templates"):
        getattr(aws.client("cloudformation"), call)(TemplateBody=topics, **arguments)


def test_a_stack_creates_changes_and_deletes_a_service(aws, names, provider):
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


CHANNELS = {
    "slack": ("https://global.sns-api.chatbot.amazonaws.com", {
        "Type": "AWS::Chatbot::SlackChannelConfiguration", "Properties": {
            "ConfigurationName": "alerts-slack", "SlackWorkspaceId": "T0123ABCD", "SlackChannelId": "C0123ABCD"}}),
    "teams": ("https://global.sns-api.chatbot.amazonaws.com/teams", {
        "Type": "AWS::Chatbot::MicrosoftTeamsChannelConfiguration", "Properties": {
            "ConfigurationName": "alerts-teams", "TeamsTenantId": "01234567-89ab-cdef-0123-456789abcdef",
            "TeamId": "01234567-89ab-cdef-0123-456789abcdef", "TeamsChannelId": "19%3Aabc%40thread.tacv2"}}),
}


def channel(kind, topic):
    endpoint, resource = CHANNELS[kind]
    return endpoint, {**resource, "Properties": {
        **resource["Properties"], "IamRoleArn": "arn:aws:iam::111122223333:role/chat", "SnsTopicArns": [topic]}}


def over_https(aws, topic):
    return [(mail["endpoint"], mail["message"]) for mail in aws.control("mail")
            if (mail["topic"], mail["protocol"]) == (topic, "https")]


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_chat_channel_receives_messages_until_its_deletion(aws, names, kind):
    endpoint, resource = channel(kind, {"Ref": "Topic"})
    name, resources = names(kind), {"Topic": {"Type": "AWS::SNS::Topic"}, "Channel": resource}
    made = deploy(aws, name, resources)
    assert made["Channel"].startswith("arn:aws:chatbot::111122223333:chat-configuration/")
    aws.client("sns").publish(TopicArn=made["Topic"], Message="hello")
    assert over_https(aws, made["Topic"]) == [(endpoint, "hello")]
    del resources["Channel"]
    deploy(aws, name, resources, update=True)
    aws.client("sns").publish(TopicArn=made["Topic"], Message="is anybody there?")
    assert over_https(aws, made["Topic"]) == [(endpoint, "hello")]


def test_a_chat_channel_that_lacks_a_property_fails_the_stack(aws, names):
    _, resource = channel("teams", "arn:aws:sns:eu-central-1:111122223333:none")
    del resource["Properties"]["TeamId"]
    name, client = names("teams"), aws.client("cloudformation")
    client.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"Teams": resource}}))
    eventually(lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "ROLLBACK_COMPLETE")
    reasons = [event.get("ResourceStatusReason", "") for event in client.describe_stack_events(StackName=name)[
        "StackEvents"]]
    assert any("required key TeamId not found" in reason for reason in reasons)


def test_a_nested_stack_follows_its_parents_changes(aws, names):
    """A type of ministack's own, which the guard's template uses for its chat channels."""
    s3, bucket = aws.client("s3"), names("templates")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    endpoint, resource = channel("teams", {"Ref": "TopicArn"})
    s3.put_object(Bucket=bucket, Key="chat.json", Body=json.dumps({
        "Parameters": {"TopicArn": {"Type": "String"}, "Name": {"Type": "String"}},
        "Resources": {"Teams": resource, "Unchanged": {"Type": "AWS::SQS::Queue"}}, "Outputs": {
            "Name": {"Value": {"Fn::Sub": "${Name} ${Unchanged.Arn}"}}}}).encode())
    name = names("parent")

    def template(child):
        nested = {"Chat": {"Type": "AWS::CloudFormation::Stack", "Properties": {
            "TemplateURL": f"https://s3.eu-central-1.amazonaws.com/{bucket}/chat.json",
            "Parameters": {"TopicArn": {"Ref": "Topic"}, "Name": child}}}} if child else {}
        outputs = {"Name": {"Type": "AWS::SSM::Parameter", "Properties": {
            "Type": "String", "Value": {"Fn::GetAtt": ["Chat", "Outputs.Name"]}}}} if child else {}
        return {"Topic": {"Type": "AWS::SNS::Topic"}, **nested, **outputs}

    def named(made):
        own, unchanged = aws.client("ssm").get_parameter(Name=made["Name"])["Parameter"]["Value"].split()
        assert unchanged.startswith("arn:aws:sqs:")
        return own
    made = deploy(aws, name, template("first"))
    assert named(made) == "first"
    changed = deploy(aws, name, template("second"), update=True)
    assert changed["Chat"] == made["Chat"], "the same nested stack"
    assert named(changed) == "second"
    aws.client("sns").publish(TopicArn=made["Topic"], Message="hello")
    assert over_https(aws, made["Topic"]) == [(endpoint, "hello")]
    deploy(aws, name, template(None), update=True)
    aws.client("sns").publish(TopicArn=made["Topic"], Message="is anybody there?")
    assert over_https(aws, made["Topic"]) == [(endpoint, "hello")]


@pytest.mark.parametrize("topic, created", [("", "Own"), ("arn:aws:sns:eu-central-1:111122223333:t", "Near"),
                                            ("arn:aws:sns:us-east-1:111122223333:t", "Far")])
def test_a_condition_can_split_an_arn(aws, names, topic, created):
    region = {"Fn::Select": [3, {"Fn::Split": [":", {"Fn::Join": ["", [{"Ref": "TopicArn"}, ":::::"]]}]}]}
    here = {"Fn::Equals": [region, {"Ref": "AWS::Region"}]}
    topic_in = {"Type": "AWS::SNS::Topic"}
    client, name = aws.client("cloudformation"), names("conditions")
    client.create_stack(
        StackName=name, Parameters=[{"ParameterKey": "TopicArn", "ParameterValue": topic}], TemplateBody=json.dumps({
            "Parameters": {"TopicArn": {"Type": "String"}},
            "Conditions": {"Own": {"Fn::Equals": [region, ""]}, "Near": here,
                           "Far": {"Fn::Not": [{"Fn::Or": [{"Condition": "Own"}, here]}]}},
            "Resources": {each: {**topic_in, "Condition": each} for each in ("Own", "Near", "Far")}}))
    eventually(lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE")
    listed = client.describe_stack_resources(StackName=name)["StackResources"]
    assert [resource["LogicalResourceId"] for resource in listed] == [created]


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


def test_only_an_empty_bucket_is_deleted(aws, names):
    name, client, s3 = names("bucket"), aws.client("cloudformation"), aws.client("s3")
    bucket = deploy(aws, name, {"Bucket": {"Type": "AWS::S3::Bucket"}})["Bucket"]
    s3.put_object(Bucket=bucket, Key="key", Body=b"content")
    client.delete_stack(StackName=name)
    eventually(lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "DELETE_FAILED")
    s3.delete_object(Bucket=bucket, Key="key")
    client.delete_stack(StackName=name)
    eventually(lambda: bucket not in [each["Name"] for each in s3.list_buckets()["Buckets"]])


def test_a_policy_can_limit_a_user_to_resources_by_stack_tag(aws, names, provider):
    name, iam = names("tagged"), aws.client("iam")
    client = aws.client("cloudformation")
    client.create_stack(StackName=name, Tags=[{"Key": "owner", "Value": name}], TemplateBody=json.dumps({
        "Resources": {"Service": service(provider.load_balancer)}}))
    eventually(lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE")
    [own] = client.describe_stack_resources(StackName=name)["StackResources"]
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "ec2:ModifyVpcEndpointServiceConfiguration", "Resource": "*",
            "Condition": {"StringEquals": {"aws:ResourceTag/owner": name}}}]}))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    ec2 = aws.client("ec2", key["AccessKeyId"], key["SecretAccessKey"])
    ec2.modify_vpc_endpoint_service_configuration(ServiceId=own["PhysicalResourceId"], AcceptanceRequired=False)
    with pytest.raises(ec2.exceptions.ClientError, match="UnauthorizedOperation"):
        ec2.modify_vpc_endpoint_service_configuration(ServiceId=provider.service_id, AcceptanceRequired=False)
