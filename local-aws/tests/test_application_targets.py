"""An Application Load Balancer as the target of a Network Load Balancer, by API and by CloudFormation."""
import json

import pytest
from conftest import eventually


@pytest.fixture
def balanced(provider, names):
    """An Application Load Balancer with a fixed response, as the target behind the provider's load balancer."""
    elb = provider.elb
    application = elb.create_load_balancer(Name=names("alb"), Scheme="internal", Subnets=[
        "subnet-00000001", "subnet-00000002"])["LoadBalancers"][0]["LoadBalancerArn"]
    response = elb.create_listener(LoadBalancerArn=application, Protocol="HTTP", Port=80, DefaultActions=answer(200))[
        "Listeners"][0]["ListenerArn"]
    group = elb.create_target_group(Name=names("tg"), Protocol="TCP", Port=80, VpcId=provider.vpc, TargetType="alb")[
        "TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": application}])
    elb.create_listener(LoadBalancerArn=provider.load_balancer, Protocol="TCP", Port=80, DefaultActions=[
        {"Type": "forward", "TargetGroupArn": group}])
    return application, response, group


def answer(status):
    return [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": str(status), "ContentType": "text/plain"}}]


def health(elb, group):
    [found] = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    return found["TargetHealth"]


@pytest.mark.parametrize("status, state", [(200, "healthy"), (399, "healthy"), (404, "unhealthy"), (503, "unhealthy")])
def test_a_balancers_answer_decides_its_health_as_a_target(provider, balanced, status, state):
    _, response, group = balanced
    provider.elb.modify_listener(ListenerArn=response, DefaultActions=answer(status))
    assert health(provider.elb, group)["State"] == state


def test_a_failed_check_has_a_network_load_balancers_reason(provider, balanced):
    _, response, group = balanced
    provider.elb.modify_listener(ListenerArn=response, DefaultActions=answer(503))
    assert health(provider.elb, group) == {
        "State": "unhealthy", "Reason": "Target.FailedHealthChecks", "Description": "Health checks failed"}


def test_the_target_groups_matcher_decides_the_health(provider, balanced):
    _, response, group = balanced
    provider.elb.modify_target_group(TargetGroupArn=group, Matcher={"HttpCode": "200,404"})
    for status, state in ((404, "healthy"), (302, "unhealthy")):
        provider.elb.modify_listener(ListenerArn=response, DefaultActions=answer(status))
        assert health(provider.elb, group)["State"] == state


def test_a_balancer_without_a_listener_does_not_answer(provider, balanced):
    _, response, group = balanced
    provider.elb.delete_listener(ListenerArn=response)
    assert health(provider.elb, group)["State"] == "unhealthy"


def test_a_balancer_without_a_target_answers_503(provider, balanced, names):
    _, response, group = balanced
    empty = provider.elb.create_target_group(Name=names("tg"), Protocol="HTTP", Port=80, VpcId=provider.vpc)[
        "TargetGroups"][0]["TargetGroupArn"]
    provider.elb.modify_listener(ListenerArn=response, DefaultActions=[{"Type": "forward", "TargetGroupArn": empty}])
    assert health(provider.elb, group)["State"] == "unhealthy"


def test_a_control_command_can_set_a_balancers_health(aws, provider, balanced):
    application, _, group = balanced
    aws.control("target-health", target_group=group, target=application, state="unavailable")
    assert health(provider.elb, group)["State"] == "unavailable"


def test_a_balancer_needs_two_subnets_and_gets_a_default_group(provider, names):
    with pytest.raises(provider.elb.exceptions.ClientError, match="At least two subnets"):
        provider.elb.create_load_balancer(Name=names("alb"), Subnets=["subnet-00000001"])
    [made] = provider.elb.create_load_balancer(Name=names("alb"), Subnets=["subnet-00000001", "subnet-00000002"])[
        "LoadBalancers"]
    [default] = provider.ec2.describe_security_groups(Filters=[
        {"Name": "vpc-id", "Values": [provider.vpc]}, {"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]
    assert (made["Type"], made["SecurityGroups"]) == ("application", [default["GroupId"]])


# ---- the same by CloudFormation --------------------------------------------------------------------------------------

BALANCER = "AWS::ElasticLoadBalancingV2::"
TEMPLATE = {"Resources": {
    "Application": {"Type": f"{BALANCER}LoadBalancer", "Properties": {
        "Scheme": "internal", "Subnets": ["subnet-00000001", "subnet-00000002"]}},
    "Response": {"Type": f"{BALANCER}Listener", "Properties": {
        "LoadBalancerArn": {"Ref": "Application"}, "Protocol": "HTTP", "Port": 80, "DefaultActions": answer(200)}},
    "Network": {"Type": f"{BALANCER}LoadBalancer", "Properties": {
        "Type": "network", "Scheme": "internal", "Subnets": ["subnet-00000001", "subnet-00000002"],
        "LoadBalancerAttributes": [{"Key": "load_balancing.cross_zone.enabled", "Value": "true"}]}},
    "Group": {"Type": f"{BALANCER}TargetGroup", "DependsOn": "Response", "Properties": {
        "TargetType": "alb", "Protocol": "TCP", "Port": 80, "VpcId": "vpc-00000001", "HealthCheckProtocol": "HTTP",
        "HealthCheckIntervalSeconds": "10", "Targets": [{"Id": {"Ref": "Application"}, "Port": 80}]}},
    "Listener": {"Type": f"{BALANCER}Listener", "Properties": {
        "LoadBalancerArn": {"Ref": "Network"}, "Protocol": "TCP", "Port": 5432,
        "DefaultActions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Group"}}]}}},
    "Outputs": {"Name": {"Value": {"Fn::GetAtt": ["Network", "LoadBalancerFullName"]}}}}


@pytest.fixture
def stack(aws, names):
    name, client = names("balancers"), aws.client("cloudformation")
    client.create_stack(StackName=name, TemplateBody=json.dumps(TEMPLATE))
    eventually(lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE")
    listed = client.describe_stack_resources(StackName=name)["StackResources"]
    return name, {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in listed}


def test_a_stack_creates_what_the_api_creates(aws, stack):
    name, ids = stack
    elb = aws.client("elbv2")
    [network] = elb.describe_load_balancers(LoadBalancerArns=[ids["Network"]])["LoadBalancers"]
    assert (network["Type"], network["Scheme"], ":loadbalancer/net/" in ids["Network"]) == ("network", "internal", True)
    attributes = elb.describe_load_balancer_attributes(LoadBalancerArn=ids["Network"])["Attributes"]
    assert {"Key": "load_balancing.cross_zone.enabled", "Value": "true"} in attributes
    assert len(attributes) > 5  # the others have their defaults
    assert health(elb, ids["Group"])["State"] == "healthy"
    [group] = elb.describe_target_groups(TargetGroupArns=[ids["Group"]])["TargetGroups"]
    assert (group["HealthCheckIntervalSeconds"], group["LoadBalancerArns"]) == (10, [ids["Network"]])
    [described] = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    assert described["Outputs"][0]["OutputValue"] == ids["Network"].split(":loadbalancer/")[1]


def test_a_stack_cannot_delete_a_target_group_in_use(aws, stack):
    """Until its load balancer is deleted, a listener outside the stack forwards to the target group."""
    name, ids = stack
    client, elb = aws.client("cloudformation"), aws.client("elbv2")
    elb.create_listener(LoadBalancerArn=ids["Network"], Protocol="TCP", Port=443, DefaultActions=[
        {"Type": "forward", "TargetGroupArn": ids["Group"]}])

    def groups():
        return [each["TargetGroupArn"] for each in elb.describe_target_groups()["TargetGroups"]]

    client.delete_stack(StackName=name)
    eventually(lambda: client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "DELETE_FAILED")
    assert ids["Group"] in groups()
    client.delete_stack(StackName=name)
    eventually(lambda: ids["Group"] not in groups())
