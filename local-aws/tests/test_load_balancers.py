"""ELBv2: Network Load Balancers, target groups, target health."""
import json

import pytest
from botocore.exceptions import ClientError
from conftest import PROVIDER, REGION, Provider
from local_aws.control import LocalError
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


def test_a_network_load_balancer_is_described_with_its_zones(provider):
    [balancer] = provider.elb.describe_load_balancers(LoadBalancerArns=[provider.load_balancer])["LoadBalancers"]
    name = balancer["LoadBalancerName"]
    assert balancer["LoadBalancerArn"].startswith(
        f"arn:aws:elasticloadbalancing:{REGION}:{PROVIDER}:loadbalancer/net/{name}/")
    assert (balancer["Type"], balancer["Scheme"], balancer["State"]) == ("network", "internal", {"Code": "active"})
    assert [zone["ZoneName"] for zone in balancer["AvailabilityZones"]] == provider.zones
    assert ENFORCE not in balancer
    assert "SecurityGroups" not in balancer
    assert provider.listen().startswith(f"arn:aws:elasticloadbalancing:{REGION}:{PROVIDER}:listener/net/{name}/")


def test_only_balancers_with_security_groups_have_enforcement(aws, names):
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


def test_a_balancer_changes_its_groups_subnets_and_addresses(aws, names, connect):
    ec2 = aws.client("ec2")
    groups = [ec2.create_security_group(GroupName=names("sg"), Description="nlb")["GroupId"] for _ in range(3)]
    guarded = Provider(aws, names("nlb"), security_groups=groups[:2])
    by_arn = {"LoadBalancerArn": guarded.load_balancer}
    guarded.elb.set_security_groups(**by_arn, SecurityGroups=groups[1:])
    guarded.elb.set_ip_address_type(**by_arn, IpAddressType="dualstack")
    assert error_code(guarded.elb.set_ip_address_type, **by_arn, IpAddressType="ipv5") == "ValidationError"
    guarded.elb.set_subnets(**by_arn, Subnets=["subnet-00000001", "subnet-00000002", "subnet-00000003"])
    connect(service_name=guarded.service_name)
    guarded.elb.set_subnets(**by_arn, Subnets=["subnet-00000003", "subnet-00000001"])
    [balancer] = guarded.elb.describe_load_balancers(LoadBalancerArns=[guarded.load_balancer])["LoadBalancers"]
    assert (balancer["SecurityGroups"], balancer["IpAddressType"]) == (groups[1:], "dualstack")
    assert [zone["SubnetId"] for zone in balancer["AvailabilityZones"]] == ["subnet-00000003", "subnet-00000001"]
    guarded.ec2.accept_vpc_endpoint_connections(ServiceId=guarded.service_id, VpcEndpointIds=[
        guarded.connections()[0]["VpcEndpointId"]])
    assert error_code(guarded.elb.set_subnets, **by_arn, Subnets=["subnet-00000001"]) == "InvalidConfigurationRequest"


def test_a_control_command_sets_a_load_balancers_state(aws, provider):
    for state, reason in (("provisioning", None), ("active_impaired", None), ("failed", "broken"), ("active", None)):
        aws.control("load-balancer", load_balancer=provider.load_balancer, state=state, reason=reason)
        [balancer] = provider.elb.describe_load_balancers(LoadBalancerArns=[provider.load_balancer])["LoadBalancers"]
        assert balancer["State"] == {"Code": state, **({"Reason": reason} if reason else {})}


def test_cross_zone_is_off_and_target_groups_follow_the_balancer(provider):
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


def test_a_deregistered_target_drains_and_is_removed(aws, provider):
    aws.control("clock", stop=True)
    provider.listen()
    provider.elb.modify_target_group_attributes(TargetGroupArn=provider.target_group, Attributes=[
        {"Key": "deregistration_delay.timeout_seconds", "Value": "60"}])  # a second at --minute 1
    register(provider, "172.31.0.10")
    provider.elb.deregister_targets(TargetGroupArn=provider.target_group, Targets=[{"Id": "172.31.0.10"}])
    assert health(provider) == [("172.31.0.10", "draining", "Target.DeregistrationInProgress")]
    aws.control("clock", advance=1.1)
    assert health(provider) == []


def test_deregistration_needs_the_targets_own_port_and_zone(provider):
    targets = [{"Id": "172.31.0.10", "Port": 6432}, {"Id": "10.9.9.9", "AvailabilityZone": "all"}]
    provider.elb.register_targets(TargetGroupArn=provider.target_group, Targets=targets)

    def left(*deregistered):
        provider.elb.deregister_targets(TargetGroupArn=provider.target_group, Targets=list(deregistered))
        return [target for target, _, _ in health(provider)]
    assert left({"Id": "172.31.0.10"}, {"Id": "10.9.9.9"}) == ["172.31.0.10", "10.9.9.9"], "a success that does nothing"
    assert left(*targets) == []


def test_a_new_target_is_initial_for_a_while(aws, provider):
    aws.control("clock", stop=True)
    aws.control("delay", targets=120)
    provider.listen()
    register(provider, "172.31.0.10")
    aws.control("target-health", target_group=provider.target_group, target="172.31.0.10", state="unhealthy")
    aws.control("clock", advance=100)
    register(provider, "172.31.0.10")
    assert health(provider) == [("172.31.0.10", "initial", "Elb.RegistrationInProgress")]
    aws.control("clock", advance=21)
    assert health(provider) == [("172.31.0.10", "unhealthy", "Target.FailedHealthChecks")], "not registered anew"


def test_a_draining_target_is_registered_anew(aws, provider):
    aws.control("clock", stop=True)
    provider.listen()
    target = {"TargetGroupArn": provider.target_group, "Targets": [{"Id": "10.9.9.9", "AvailabilityZone": "all"}]}
    provider.elb.register_targets(**target)
    provider.elb.deregister_targets(**target)
    assert health(provider) == [("10.9.9.9", "draining", "Target.DeregistrationInProgress")]
    aws.control("delay", targets=120)
    provider.elb.register_targets(**target)
    assert health(provider) == [("10.9.9.9", "initial", "Elb.RegistrationInProgress")]
    aws.control("clock", advance=400)
    assert health(provider) == [("10.9.9.9", "healthy", None)], "the deregistration is over"


def test_a_target_group_has_at_most_a_thousand_targets(provider):
    addresses = [f"172.31.{number // 250}.{number % 250 + 4}" for number in range(1000)]
    register(provider, *addresses)
    assert error_code(register, provider, "172.31.16.9") == "TooManyTargets"
    register(provider, addresses[0])
    assert len(health(provider)) == 1000


@pytest.mark.parametrize("action", ["register_targets", "deregister_targets"])
def test_changes_of_targets_need_permission_for_the_target_group(aws, provider, names, action):
    iam, user, other = aws.client("iam"), names("follower"), new_group(provider, names, TargetType="ip")
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    name = f"elasticloadbalancing:{action.title().replace('_', '')}"
    iam.put_user_policy(UserName=user, PolicyName="one-group", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": name, "Resource": provider.target_group}]}))
    call = getattr(aws.client("elbv2", key["AccessKeyId"], key["SecretAccessKey"]), action)
    call(TargetGroupArn=provider.target_group, Targets=[{"Id": "172.31.0.10"}])
    with pytest.raises(ClientError, match=rf"not authorized to perform: {name} on resource: {other}"):
        call(TargetGroupArn=other, Targets=[{"Id": "172.31.0.10"}])


def test_a_tcp_target_group_has_no_http_settings(provider):
    [group] = provider.elb.describe_target_groups(TargetGroupArns=[provider.target_group])["TargetGroups"]
    assert group["HealthCheckProtocol"] == "TCP"
    assert "Matcher" not in group
    assert "HealthCheckPath" not in group
    assert group["LoadBalancerArns"] == []
    provider.listen()
    [group] = provider.elb.describe_target_groups(LoadBalancerArn=provider.load_balancer)["TargetGroups"]
    assert group["LoadBalancerArns"] == [provider.load_balancer]


def test_weighted_forwards_are_described_with_their_weights(provider, names):
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
def test_a_missing_resource_is_not_found(provider, operation, code, arguments):
    missing = f"arn:aws:elasticloadbalancing:{REGION}:{PROVIDER}:none/net/none/0123456789abcdef"
    filled = {name: missing if value == "ARN" else [missing] if value == ["ARN"] else value
              for name, value in arguments.items()}
    assert error_code(getattr(provider.elb, operation), **filled) == code


def test_a_call_describes_at_most_twenty_resources(provider):
    arns = [f"{provider.load_balancer}{number}" for number in range(21)]
    assert error_code(provider.elb.describe_load_balancers, LoadBalancerArns=arns) == "ValidationError"
    assert error_code(provider.elb.describe_load_balancers, LoadBalancerArns=arns[1:]) == "LoadBalancerNotFound"
    assert error_code(provider.elb.describe_target_groups, TargetGroupArns=arns) == "ValidationError"


@pytest.mark.parametrize("protocol, group_protocol", [("TCP", "TCP_UDP"), ("TLS", "TLS"), ("UDP", "UDP"),
                                                      ("TCP_UDP", "TCP_UDP")])
def test_listeners_forward_to_groups_of_compatible_protocols(aws, provider, names, protocol, group_protocol):
    group = provider.elb.create_target_group(Name=names("tg"), Protocol=group_protocol, Port=53, VpcId=provider.vpc,
                                             TargetType="ip")["TargetGroups"][0]["TargetGroupArn"]
    certificate = aws.client("acm").request_certificate(DomainName="db.example.com")
    more = {"Certificates": [{"CertificateArn": certificate["CertificateArn"]}]} if protocol == "TLS" else {}
    asked = {"LoadBalancerArn": provider.load_balancer, "Protocol": protocol, **more}
    provider.elb.create_listener(**asked, Port=53, DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
    [listener] = provider.elb.describe_listeners(LoadBalancerArn=provider.load_balancer)["Listeners"]
    assert (listener["Protocol"], listener["Port"], "SslPolicy" in listener) == (protocol, 53, protocol == "TLS")
    wrong = {"TCP": "UDP", "TLS": "UDP", "UDP": "TCP", "TCP_UDP": "TCP"}[protocol]
    other = provider.elb.create_target_group(Name=names("tg"), Protocol=wrong, Port=53, VpcId=provider.vpc)[
        "TargetGroups"][0]["TargetGroupArn"]
    forward = [{"Type": "forward", "TargetGroupArn": other}]
    assert error_code(provider.elb.create_listener, **asked, Port=54, DefaultActions=forward) == (
        "IncompatibleProtocols")
    assert error_code(provider.elb.modify_listener, ListenerArn=listener["ListenerArn"], DefaultActions=forward) == (
        "IncompatibleProtocols")


def new_group(provider, names, **more):
    return provider.elb.create_target_group(Name=names("tg"), **{
        "VpcId": provider.vpc, "Protocol": "TCP", "Port": 5432, **more})["TargetGroups"][0]["TargetGroupArn"]


def test_addresses_outside_the_vpc_need_a_zone_or_all(provider):
    def attempt(**target):
        return error_code(provider.elb.register_targets, TargetGroupArn=provider.target_group, Targets=[target])

    assert attempt(Id="10.9.9.9") == attempt(Id="10.9.9.9", AvailabilityZone="nowhere") == "ValidationError"
    assert attempt(Id="172.31.0.10", AvailabilityZone="all") == "ValidationError"
    assert attempt(Id="172.31.240.10") == "ValidationError"  # in the VPC's CIDR, but in none of its subnets
    assert attempt(Id="8.8.8.8", AvailabilityZone="all") == attempt(Id="db.example.com") == "ValidationError"
    provider.listen()
    provider.elb.register_targets(TargetGroupArn=provider.target_group, Targets=[
        {"Id": "10.9.9.9", "AvailabilityZone": "all"}, {"Id": "100.64.0.1", "AvailabilityZone": provider.zones[1]},
        {"Id": "172.31.0.10"}])
    found = provider.elb.describe_target_health(TargetGroupArn=provider.target_group)["TargetHealthDescriptions"]
    assert [(d["Target"]["AvailabilityZone"], d["TargetHealth"]["State"]) for d in found] == [
        ("all", "healthy"), (provider.zones[1], "healthy"), (provider.zones[0], "healthy")]


def test_a_target_group_of_ipv6_addresses_has_only_those(provider, names):
    vpc = provider.ec2.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    subnet = provider.ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="10.0.1.0/24")["Subnet"]
    address = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].replace("::/56", "::5")
    provider.ec2.create_network_interface(SubnetId=subnet["SubnetId"], Ipv6Addresses=[{"Ipv6Address": address}])
    group = new_group(provider, names, TargetType="ip", IpAddressType="ipv6", VpcId=vpc["VpcId"])
    provider.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": address}])
    [found] = provider.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert found["Target"] == {"Id": address, "Port": 5432, "AvailabilityZone": subnet["AvailabilityZone"]}
    for other, target in ((group, "10.0.1.9"), (provider.target_group, address)):
        assert error_code(provider.elb.register_targets, TargetGroupArn=other, Targets=[{"Id": target}]) == (
            "ValidationError")


def test_target_group_health_checks_change_within_elbs_bounds(provider, names):
    group = new_group(provider, names, HealthCheckIntervalSeconds=10, HealthyThresholdCount=3, HealthCheckPort="8080")
    members = ("HealthCheckProtocol", "HealthCheckPort", "HealthCheckIntervalSeconds", "HealthCheckTimeoutSeconds",
               "HealthyThresholdCount", "UnhealthyThresholdCount", "IpAddressType")

    def settings():
        [found] = provider.elb.describe_target_groups(TargetGroupArns=[group])["TargetGroups"]
        return tuple(found[member] for member in members), found.get("HealthCheckPath")

    assert settings() == (("TCP", "8080", 10, 10, 3, 2, "ipv4"), None)
    provider.elb.modify_target_group(TargetGroupArn=group, HealthCheckProtocol="HTTP", UnhealthyThresholdCount=4)
    assert settings() == (("HTTP", "8080", 10, 10, 3, 4, "ipv4"), "/")
    for wrong in ({"HealthCheckIntervalSeconds": 301}, {"HealthyThresholdCount": 11}, {"HealthCheckProtocol": "TLS"}):
        assert error_code(provider.elb.modify_target_group, TargetGroupArn=group, **wrong) == "ValidationError"


@pytest.mark.parametrize("protocol, deregistration, unhealthy", [("TCP", "false", "true"), ("UDP", "true", "false")])
def test_termination_of_connections_depends_on_the_protocol(provider, names, protocol, deregistration, unhealthy):
    group = {"TargetGroupArn": new_group(provider, names, Protocol=protocol)}
    key = "deregistration_delay.connection_termination.enabled"
    found = attributes(provider.elb.describe_target_group_attributes(**group))
    assert (found[key], found["target_health_state.unhealthy.connection_termination.enabled"]) == (
        deregistration, unhealthy)
    provider.elb.modify_target_group_attributes(**group, Attributes=[{"Key": key, "Value": "true"}])
    assert attributes(provider.elb.describe_target_group_attributes(**group))[key] == "true"
    assert error_code(provider.elb.modify_target_group_attributes, **group,
                      Attributes=[{"Key": "none", "Value": "true"}]) == "ValidationError"


def test_tags_are_added_described_and_removed(aws, provider):
    arns = [provider.load_balancer, provider.target_group, provider.listen()]

    def tags():
        found = provider.elb.describe_tags(ResourceArns=arns)["TagDescriptions"]
        assert [row["ResourceArn"] for row in found] == arns
        return [{tag["Key"]: tag["Value"] for tag in row["Tags"]} for row in found]

    provider.elb.add_tags(ResourceArns=arns, Tags=[{"Key": "team", "Value": "data & ml"}, {"Key": "a", "Value": "b"}])
    provider.elb.add_tags(ResourceArns=arns[:1], Tags=[{"Key": "team", "Value": "db"}])
    provider.elb.remove_tags(ResourceArns=arns, TagKeys=["a"])
    assert tags() == [{"team": "db"}, {"team": "data & ml"}, {"team": "data & ml"}]
    twice = [{"Key": "team", "Value": "1"}, {"Key": "team", "Value": "2"}]
    assert error_code(provider.elb.add_tags, ResourceArns=arns, Tags=twice) == "DuplicateTagKeys"
    many = [{"Key": str(number), "Value": ""} for number in range(50)]
    assert error_code(provider.elb.add_tags, ResourceArns=arns, Tags=many) == "TooManyTags"
    describe = provider.elb.describe_tags
    assert error_code(describe, ResourceArns=[*arns, arns[1] + "0"]) == "TargetGroupNotFound"
    assert error_code(describe, ResourceArns=arns * 7) == "ValidationError"  # 20 is the most


def test_instances_are_targets_without_a_zone(aws, provider, names):
    group = new_group(provider, names)
    provider.elb.create_listener(LoadBalancerArn=provider.load_balancer, Protocol="TCP", Port=5432, DefaultActions=[
        {"Type": "forward", "TargetGroupArn": group}])
    subnets = ("subnet-00000001", "subnet-00000003")  # the second's zone is not the load balancer's
    ids = [provider.ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0][
        "InstanceId"] for subnet in subnets]
    by_group = {"TargetGroupArn": group}
    provider.elb.register_targets(**by_group, Targets=[{"Id": instance} for instance in ids])

    def described():
        return provider.elb.describe_target_health(**by_group)["TargetHealthDescriptions"]

    assert [d["Target"] for d in described()] == [{"Id": instance, "Port": 5432} for instance in ids]
    assert [d["TargetHealth"]["State"] for d in described()] == ["healthy", "unused"]
    aws.control("target-health", target_group=group, target=ids[0], state="unhealthy")
    assert described()[0]["TargetHealth"]["State"] == "unhealthy"
    provider.ec2.stop_instances(InstanceIds=ids[:1])
    assert described()[0]["TargetHealth"]["Reason"] == "Target.InvalidState"
    assert error_code(provider.elb.register_targets, **by_group, Targets=[{"Id": "i-00000000000000000"}]) == (
        "InvalidTarget")


def test_an_application_load_balancer_is_a_target(provider, names):
    application = provider.elb.create_load_balancer(
        Name=names("alb"), Type="application", Subnets=["subnet-00000001", "subnet-00000002"])[
            "LoadBalancers"][0]["LoadBalancerArn"]
    group = new_group(provider, names, TargetType="alb", Port=80)
    by_group = {"TargetGroupArn": group, "Targets": [{"Id": application}]}
    assert error_code(provider.elb.register_targets, **by_group) == "InvalidTarget"  # no listener on that port yet
    provider.elb.create_listener(LoadBalancerArn=application, Protocol="HTTP", Port=80, DefaultActions=[
        {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}])
    provider.elb.register_targets(**by_group)
    provider.elb.create_listener(LoadBalancerArn=provider.load_balancer, Protocol="TCP", Port=80, DefaultActions=[
        {"Type": "forward", "TargetGroupArn": group}])
    [found] = provider.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    assert (found["Target"], found["TargetHealth"]["State"]) == ({"Id": application, "Port": 80}, "healthy")
    [described] = provider.elb.describe_target_groups(TargetGroupArns=[group])["TargetGroups"]
    assert (described["TargetType"], described["HealthCheckProtocol"]) == ("alb", "HTTP")


def test_one_missing_name_among_others_fails_the_call(provider):
    with pytest.raises(ClientError):
        provider.elb.describe_load_balancers(LoadBalancerArns=[provider.load_balancer, provider.load_balancer + "0"])


def test_rules_of_a_dual_stack_balancer_name_an_address_type(provider, names):
    listener, groups = provider.listen(), [new_group(provider, names) for _ in range(2)]

    def create(priority, kind, group, field="source-ip"):
        return provider.elb.create_rule(
            ListenerArn=listener, Priority=priority, Conditions=[{"Field": field, "SourceIpConfig": {
                "IpAddressType": kind}}], Actions=[{"Type": "forward", "TargetGroupArn": group}])["Rules"][0]

    def rules():
        described = provider.elb.describe_rules(ListenerArn=listener)["Rules"]
        return {rule["Priority"]: [one["SourceIpConfig"] for one in rule["Conditions"]] for rule in described}

    assert error_code(create, 1, "ipv4", groups[0]) == "InvalidConfigurationRequest"
    provider.elb.set_ip_address_type(LoadBalancerArn=provider.load_balancer, IpAddressType="dualstack")
    assert error_code(create, 1, "ipv4", groups[0], "path-pattern") == "ValidationError"
    first, second = create(1, "ipv4", groups[0])["RuleArn"], create(2, "ipv6", groups[1])["RuleArn"]
    assert ":listener-rule/net/" in first
    assert error_code(create, 1, "ipv4", groups[0]) == "PriorityInUse"
    assert rules() == {"default": [], "1": [{"IpAddressType": "ipv4"}], "2": [{"IpAddressType": "ipv6"}]}
    provider.elb.set_rule_priorities(RulePriorities=[{"RuleArn": first, "Priority": 9}])
    provider.elb.modify_rule(RuleArn=second, Conditions=[{"Field": "source-ip", "SourceIpConfig": {
        "IpAddressType": "ipv4"}}])
    assert rules() == {"default": [], "9": [{"IpAddressType": "ipv4"}], "2": [{"IpAddressType": "ipv4"}]}
    provider.elb.delete_rule(RuleArn=first)
    assert sorted(rules()) == ["2", "default"]


def test_a_zonal_shift_overrides_the_targets_of_its_zone(aws, provider):
    provider.listen()
    register(provider, "172.31.0.10", "172.31.16.10")
    by_arn = {"load_balancer": provider.load_balancer}

    def overrides():
        rows = provider.elb.describe_target_health(TargetGroupArn=provider.target_group)["TargetHealthDescriptions"]
        assert {row["TargetHealth"]["State"] for row in rows} == {"healthy"}
        return {row["Target"]["AvailabilityZone"]: row["AdministrativeOverride"]["State"] for row in rows}

    with pytest.raises(LocalError, match="is not enabled"):
        aws.control("zonal-shift", **by_arn, away_from=provider.zones[0])
    provider.elb.modify_load_balancer_attributes(LoadBalancerArn=provider.load_balancer, Attributes=[
        {"Key": "zonal_shift.config.enabled", "Value": "true"}])
    aws.control("zonal-shift", **by_arn, away_from=provider.zones[0])
    assert overrides()[provider.zones[0]] == "zonal_shift_active"
    assert set(overrides().values()) == {"zonal_shift_active", "no_override"}
    aws.control("zonal-shift", **by_arn)
    assert set(overrides().values()) == {"no_override"}
