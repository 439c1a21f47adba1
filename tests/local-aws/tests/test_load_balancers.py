"""ELBv2: Network Load Balancers, target groups, target health."""
import pytest
from botocore.exceptions import ClientError
from conftest import PROVIDER, REGION, Provider, eventually
from test_endpoint_services import error_code

ENFORCE = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"


def health(provider, **more):
    return [(d["Target"]["Id"], d["TargetHealth"]["State"], d["TargetHealth"].get("Reason"))
            for d in provider.elb.describe_target_health(TargetGroupArn=provider.target_group, **more)[
                "TargetHealthDescriptions"]]


def register(provider, *addresses):
    provider.elb.register_targets(TargetGroupArn=provider.target_group, Targets=[{"Id": a} for a in addresses])


def attributes(answer):
    return {attribute["Key"]: attribute["Value"] for attribute in answer["Attributes"]}


def test_a_network_load_balancer_says_where_it_is(provider):
    [balancer] = provider.elb.describe_load_balancers(LoadBalancerArns=[provider.load_balancer])["LoadBalancers"]
    name = balancer["LoadBalancerName"]
    assert balancer["LoadBalancerArn"].startswith(
        f"arn:aws:elasticloadbalancing:{REGION}:{PROVIDER}:loadbalancer/net/{name}/")
    assert (balancer["Type"], balancer["Scheme"], balancer["State"]) == ("network", "internal", {"Code": "active"})
    assert [zone["ZoneName"] for zone in balancer["AvailabilityZones"]] == provider.zones
    assert ENFORCE not in balancer and "SecurityGroups" not in balancer
    assert provider.listen().startswith(f"arn:aws:elasticloadbalancing:{REGION}:{PROVIDER}:listener/net/{name}/")


def test_enforcement_is_a_field_of_load_balancers_with_security_groups(aws, names):
    group = aws.client("ec2").create_security_group(GroupName=names("sg"), Description="nlb")["GroupId"]
    guarded = Provider(aws, names("nlb"), security_groups=[group])

    def enforcement():
        [balancer] = guarded.elb.describe_load_balancers(LoadBalancerArns=[guarded.load_balancer])["LoadBalancers"]
        assert balancer["SecurityGroups"] == [group]
        return balancer[ENFORCE]

    assert enforcement() == "on"
    guarded.elb.set_security_groups(LoadBalancerArn=guarded.load_balancer, SecurityGroups=[group], **{ENFORCE: "off"})
    assert enforcement() == "off"
    open_one = Provider(aws, names("nlb"))
    assert error_code(open_one.elb.set_security_groups, LoadBalancerArn=open_one.load_balancer,
                      SecurityGroups=[group]) == "InvalidConfigurationRequest"


def test_cross_zone_is_off_and_left_to_the_load_balancer_by_default(provider):
    key = "load_balancing.cross_zone.enabled"
    balancer = {"LoadBalancerArn": provider.load_balancer}
    group = {"TargetGroupArn": provider.target_group}
    assert attributes(provider.elb.describe_load_balancer_attributes(**balancer))[key] == "false"
    assert attributes(provider.elb.describe_target_group_attributes(**group))[key] == "use_load_balancer_configuration"
    provider.elb.modify_load_balancer_attributes(**balancer, Attributes=[{"Key": key, "Value": "true"}])
    provider.elb.modify_target_group_attributes(**group, Attributes=[{"Key": key, "Value": "false"}])
    assert attributes(provider.elb.describe_load_balancer_attributes(**balancer))[key] == "true"
    assert attributes(provider.elb.describe_target_group_attributes(**group))[key] == "false"


def test_targets_are_unused_until_a_listener_forwards_to_them(provider):
    register(provider, "172.31.0.10")
    assert health(provider) == [("172.31.0.10", "unused", "Target.NotInUse")]
    listener = provider.listen()
    assert health(provider) == [("172.31.0.10", "healthy", None)]
    provider.elb.delete_listener(ListenerArn=listener)
    assert health(provider) == [("172.31.0.10", "unused", "Target.NotInUse")]


def test_target_health_is_set_with_the_control_command(aws, provider):
    provider.listen()
    register(provider, "172.31.0.10", "172.31.16.10")
    aws.control("target-health", target_group=provider.target_group, target="172.31.0.10", state="unhealthy",
                reason="Target.Timeout")
    assert health(provider) == [("172.31.0.10", "unhealthy", "Target.Timeout"), ("172.31.16.10", "healthy", None)]
    [description] = provider.elb.describe_target_health(
        TargetGroupArn=provider.target_group, Targets=[{"Id": "172.31.0.10"}])["TargetHealthDescriptions"]
    assert description["Target"] == {"Id": "172.31.0.10", "Port": 5432, "AvailabilityZone": provider.zones[0]}
    assert description["HealthCheckPort"] == "5432"
    assert description["TargetHealth"]["Description"] == "Request timed out"
    aws.control("target-health", target_group=provider.target_group, target="172.31.0.10:5432", state="healthy")
    assert [state for _, state, _ in health(provider)] == ["healthy", "healthy"]


def test_a_target_in_a_zone_without_the_load_balancer_is_unused(provider):
    provider.listen()
    register(provider, "172.31.32.10")
    assert health(provider) == [("172.31.32.10", "unused", "Target.NotInUse")]
    assert health(provider, Targets=[{"Id": "10.9.9.9"}]) == [("10.9.9.9", "unused", "Target.NotRegistered")]


def test_a_deregistered_target_drains_and_goes(provider):
    provider.listen()
    provider.elb.modify_target_group_attributes(TargetGroupArn=provider.target_group, Attributes=[
        {"Key": "deregistration_delay.timeout_seconds", "Value": "60"}])  # a second at --minute 1
    register(provider, "172.31.0.10")
    provider.elb.deregister_targets(TargetGroupArn=provider.target_group, Targets=[{"Id": "172.31.0.10"}])
    assert health(provider) == [("172.31.0.10", "draining", "Target.DeregistrationInProgress")]
    eventually(lambda: health(provider) == [])


def test_a_tcp_target_group_has_no_http_settings(provider):
    [group] = provider.elb.describe_target_groups(TargetGroupArns=[provider.target_group])["TargetGroups"]
    assert group["HealthCheckProtocol"] == "TCP"
    assert "Matcher" not in group and "HealthCheckPath" not in group
    assert group["LoadBalancerArns"] == []
    provider.listen()
    [group] = provider.elb.describe_target_groups(LoadBalancerArn=provider.load_balancer)["TargetGroups"]
    assert group["LoadBalancerArns"] == [provider.load_balancer]


def test_weighted_forwards_are_reported_with_their_weights(provider, names):
    second = provider.new_target_group(names("tg"))
    listener = provider.listen()
    [action] = provider.elb.describe_listeners(ListenerArns=[listener])["Listeners"][0]["DefaultActions"]
    assert action["TargetGroupArn"] == provider.target_group
    assert action["ForwardConfig"]["TargetGroups"] == [{"TargetGroupArn": provider.target_group, "Weight": 1}]
    weighted = [{"TargetGroupArn": provider.target_group, "Weight": 9}, {"TargetGroupArn": second, "Weight": 1}]
    provider.elb.modify_listener(ListenerArn=listener, DefaultActions=[
        {"Type": "forward", "ForwardConfig": {"TargetGroups": weighted}}])
    [action] = provider.elb.describe_listeners(LoadBalancerArn=provider.load_balancer)["Listeners"][0][
        "DefaultActions"]
    assert "TargetGroupArn" not in action
    assert action["ForwardConfig"]["TargetGroups"] == weighted
    listed = provider.elb.describe_target_groups(LoadBalancerArn=provider.load_balancer)["TargetGroups"]
    assert {group["TargetGroupArn"] for group in listed} == {provider.target_group, second}
    [rule] = provider.elb.describe_rules(ListenerArn=listener)["Rules"]
    assert (rule["IsDefault"], rule["Actions"]) == (True, [action])
    assert error_code(provider.elb.delete_target_group, TargetGroupArn=second) == "ResourceInUse"


def test_describes_come_in_pages(aws, provider):
    listeners = {provider.listen(port) for port in (1, 2, 3)}
    mine = {"LoadBalancerArn": provider.load_balancer}
    first = provider.elb.describe_listeners(**mine, PageSize=2)
    second = provider.elb.describe_listeners(**mine, PageSize=2, Marker=first["NextMarker"])
    assert "NextMarker" not in second
    assert listeners == {row["ListenerArn"] for page in (first, second) for row in page["Listeners"]}
    aws.control("page-size", size=1)
    for operation, key in [("describe_listeners", "Listeners"), ("describe_target_groups", "TargetGroups")]:
        pages = list(provider.elb.get_paginator(operation).paginate(**mine))
        assert all(len(page[key]) == 1 for page in pages)
    assert len(provider.elb.describe_load_balancers()["LoadBalancers"]) == 1


@pytest.mark.parametrize("operation, code, arguments", [
    ("describe_load_balancers", "LoadBalancerNotFound", {"LoadBalancerArns": ["ARN"]}),
    ("describe_load_balancers", "LoadBalancerNotFound", {"Names": ["none"]}),
    ("describe_load_balancer_attributes", "LoadBalancerNotFound", {"LoadBalancerArn": "ARN"}),
    ("describe_listeners", "LoadBalancerNotFound", {"LoadBalancerArn": "ARN"}),
    ("describe_target_groups", "TargetGroupNotFound", {"TargetGroupArns": ["ARN"]}),
    ("describe_target_health", "TargetGroupNotFound", {"TargetGroupArn": "ARN"}),
    ("describe_rules", "ListenerNotFound", {"ListenerArn": "ARN"}),
])
def test_what_is_not_there_is_not_found(provider, operation, code, arguments):
    missing = f"arn:aws:elasticloadbalancing:{REGION}:{PROVIDER}:none/net/none/0123456789abcdef"
    filled = {name: missing if value == "ARN" else [missing] if value == ["ARN"] else value
              for name, value in arguments.items()}
    assert error_code(getattr(provider.elb, operation), **filled) == code


def test_one_missing_name_among_others_fails_the_call(provider):
    with pytest.raises(ClientError):
        provider.elb.describe_load_balancers(LoadBalancerArns=[provider.load_balancer, provider.load_balancer + "0"])
