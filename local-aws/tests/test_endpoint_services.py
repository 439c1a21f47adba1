"""EC2's provider side: services, principals, connections."""
import json

import pytest
from botocore.exceptions import ClientError
from conftest import DBT, PROVIDER, REGION, UNTRUSTED, Provider, eventually
from local_aws import control


def error_code(call, *arguments, **named):
    with pytest.raises(ClientError) as failure:
        call(*arguments, **named)
    return failure.value.response["Error"]["Code"]


def configuration(provider):
    [service] = provider.ec2.describe_vpc_endpoint_service_configurations(ServiceIds=[provider.service_id])[
        "ServiceConfigurations"]
    return service


def test_a_request_is_accepted_with_the_aws_cli(aws, provider):
    """dbt and the provider act, from the request to `available`, with EC2's states in lower camel case."""
    vpc = aws.cli("ec2", "describe-vpcs", "--query", "Vpcs[0].VpcId", "--output", "text", account=DBT)
    endpoint = aws.cli("ec2", "create-vpc-endpoint", "--vpc-endpoint-type", "Interface", "--vpc-id", vpc,
                       "--service-name", provider.service_name, account=DBT)["VpcEndpoint"]
    assert endpoint["State"] == "pendingAcceptance"
    assert endpoint["OwnerId"] == DBT
    asked = ["ec2", "describe-vpc-endpoint-connections", "--filters", f"Name=service-id,Values={provider.service_id}"]
    [connection] = aws.cli(*asked)["VpcEndpointConnections"]
    assert connection["VpcEndpointOwner"] == DBT
    assert connection["VpcEndpointState"] == "pendingAcceptance"
    accepted = aws.cli("ec2", "accept-vpc-endpoint-connections", "--service-id", provider.service_id,
                       "--vpc-endpoint-ids", endpoint["VpcEndpointId"])
    assert accepted == {"Unsuccessful": []}
    eventually(lambda: aws.cli(*asked)["VpcEndpointConnections"][0]["VpcEndpointState"] == "available")
    [described] = aws.cli("ec2", "describe-vpc-endpoints", "--vpc-endpoint-ids", endpoint["VpcEndpointId"],
                          account=DBT)["VpcEndpoints"]
    assert described["State"] == "available"


def test_a_service_is_described_with_its_zones_and_name(provider):
    service = configuration(provider)
    assert service["ServiceName"] == f"com.amazonaws.vpce.{REGION}.{provider.service_id}"
    assert service["ServiceState"] == "Available"
    assert service["AvailabilityZones"] == provider.zones
    assert service["AvailabilityZoneIds"] == ["euc1-az1", "euc1-az2"]
    assert service["AcceptanceRequired"] is True
    assert service["NetworkLoadBalancerArns"] == [provider.load_balancer]
    assert service["SupportedRegions"] == [{"Region": REGION, "ServiceState": "Available"}]
    assert service["Tags"][0]["Key"] == "Name"
    assert "PrivateDnsNameConfiguration" not in service


def test_private_dns_waits_for_verification(provider):
    def private_dns():
        return configuration(provider)["PrivateDnsNameConfiguration"]

    provider.ec2.modify_vpc_endpoint_service_configuration(ServiceId=provider.service_id,
                                                           PrivateDnsName="db.example.com")
    asked = private_dns()
    assert (asked["State"], asked["Type"]) == ("pendingVerification", "TXT")
    assert asked["Name"].startswith("_")
    assert asked["Value"].startswith("vpce:")
    provider.ec2.start_vpc_endpoint_service_private_dns_verification(ServiceId=provider.service_id)
    assert private_dns() == {**asked, "State": "verified"}


def test_private_dns_can_fail_and_be_removed(aws, provider):
    service = {"ServiceId": provider.service_id}
    with pytest.raises(control.LocalError):
        aws.control("private-dns", service_id=provider.service_id, state="failed")
    provider.ec2.modify_vpc_endpoint_service_configuration(**service, PrivateDnsName="db.example.com")
    aws.control("private-dns", service_id=provider.service_id, verification="failed")
    assert configuration(provider)["PrivateDnsNameConfiguration"]["State"] == "pendingVerification"
    provider.ec2.start_vpc_endpoint_service_private_dns_verification(**service)
    assert configuration(provider)["PrivateDnsNameConfiguration"]["State"] == "failed"
    aws.control("private-dns", service_id=provider.service_id, state="verified")
    assert configuration(provider)["PrivateDnsNameConfiguration"]["State"] == "verified"
    provider.ec2.modify_vpc_endpoint_service_configuration(**service, RemovePrivateDnsName=True)
    assert not {"PrivateDnsName", "PrivateDnsNameConfiguration"} & set(configuration(provider))


def test_acceptance_is_switched_both_ways(provider):
    for required in (False, True):
        provider.ec2.modify_vpc_endpoint_service_configuration(ServiceId=provider.service_id,
                                                               AcceptanceRequired=required)
        assert configuration(provider)["AcceptanceRequired"] is required


def test_regions_are_supported_and_dropped(aws, provider):
    def modify(**regions):
        provider.ec2.modify_vpc_endpoint_service_configuration(ServiceId=provider.service_id, **regions)
        return {r["Region"]: r["ServiceState"] for r in configuration(provider)["SupportedRegions"]}

    assert modify(AddSupportedRegions=["us-east-1", REGION]) == {REGION: "Available", "us-east-1": "Available"}
    assert configuration(provider)["RemoteAccessEnabled"] is True
    aws.control("service-region", service_id=provider.service_id, region="us-east-1", state="Failed")
    assert modify(AddSupportedRegions=["us-west-2"]) == {
        REGION: "Available", "us-east-1": "Failed", "us-west-2": "Available"}
    assert modify(RemoveSupportedRegions=["us-east-1", "us-west-2"]) == {REGION: "Available"}
    assert error_code(modify, AddSupportedRegions=["nowhere"]) == "InvalidParameter"


def test_a_service_offers_new_zones_after_readding_a_balancer(aws, provider, connect):
    balancer, subnets = provider.load_balancer, provider.ec2.describe_subnets()["Subnets"]
    [new] = {subnet["AvailabilityZone"] for subnet in subnets} - set(provider.zones)
    by_zone = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in subnets if subnet["VpcId"] == provider.vpc}
    provider.elb.set_subnets(LoadBalancerArn=balancer, Subnets=[by_zone[zone] for zone in [*provider.zones, new]])
    assert configuration(provider)["AvailabilityZones"] == provider.zones
    assert configuration(provider)["AvailabilityZoneIds"] == ["euc1-az1", "euc1-az2"]
    subnets = aws.client("ec2", DBT).describe_subnets()["Subnets"]
    elsewhere = next(s["SubnetId"] for s in subnets if s["AvailabilityZone"] == new)
    assert error_code(connect, SubnetIds=[elsewhere]) == "InvalidParameter"
    provider.ec2.modify_vpc_endpoint_service_configuration(ServiceId=provider.service_id,
                                                           AddNetworkLoadBalancerArns=[balancer])
    assert configuration(provider)["AvailabilityZones"] == [*provider.zones, new]


def test_load_balancers_are_added_and_removed(aws, names, provider):
    subnet = next(s["SubnetId"] for s in provider.ec2.describe_subnets()["Subnets"]
                  if s["VpcId"] == provider.vpc and s["AvailabilityZone"] not in provider.zones)
    second = provider.elb.create_load_balancer(Name=names("nlb"), Type="network", Subnets=[subnet])[
        "LoadBalancers"][0]["LoadBalancerArn"]
    modify = provider.ec2.modify_vpc_endpoint_service_configuration
    modify(ServiceId=provider.service_id, AddNetworkLoadBalancerArns=[second])
    assert configuration(provider)["NetworkLoadBalancerArns"] == [provider.load_balancer, second]
    assert len(configuration(provider)["AvailabilityZones"]) == 3
    assert error_code(provider.elb.delete_load_balancer, LoadBalancerArn=second) == "ResourceInUse"
    modify(ServiceId=provider.service_id, RemoveNetworkLoadBalancerArns=[second])
    assert configuration(provider)["NetworkLoadBalancerArns"] == [provider.load_balancer]
    assert error_code(modify, ServiceId=provider.service_id, AddNetworkLoadBalancerArns=[second + "0"]) == (
        "InvalidParameter")


def test_a_service_can_use_a_gateway_load_balancer(provider, names):
    subnet = provider.ec2.describe_subnets(SubnetIds=["subnet-00000001"])["Subnets"][0]["SubnetId"]
    [gateway] = provider.elb.create_load_balancer(Name=names("gwlb"), Type="gateway", Subnets=[subnet])[
        "LoadBalancers"]
    arn = gateway["LoadBalancerArn"]
    assert (":loadbalancer/gwy/" in arn, "Scheme" in gateway, "DNSName" in gateway) == (True, False, False)
    service = provider.ec2.create_vpc_endpoint_service_configuration(GatewayLoadBalancerArns=[arn])[
        "ServiceConfiguration"]
    assert (service["ServiceType"], service["GatewayLoadBalancerArns"]) == ([{"ServiceType": "GatewayLoadBalancer"}],
                                                                            [arn])
    assert "NetworkLoadBalancerArns" not in service


@pytest.mark.parametrize("service_id, code", [
    ("vpce-svc-00000000000000000", "InvalidVpcEndpointServiceId.NotFound"),
    ("vpce-svc-zzz", "InvalidVpcEndpointServiceId.Malformed"),
])
def test_missing_and_malformed_service_ids_are_refused(aws, service_id, code):
    ec2 = aws.client("ec2")
    assert error_code(ec2.describe_vpc_endpoint_service_configurations, ServiceIds=[service_id]) == code
    assert error_code(ec2.accept_vpc_endpoint_connections, ServiceId=service_id,
                      VpcEndpointIds=["vpce-00000000000000000"]) == code


def test_services_and_connections_of_others_are_invisible(aws, provider, connect):
    connect()
    untrusted = aws.client("ec2", UNTRUSTED)
    assert error_code(untrusted.describe_vpc_endpoint_service_configurations, ServiceIds=[provider.service_id]) == (
        "InvalidVpcEndpointServiceId.NotFound")
    assert untrusted.describe_vpc_endpoint_connections()["VpcEndpointConnections"] == []
    assert aws.client("ec2", DBT).describe_vpc_endpoint_connections()["VpcEndpointConnections"] == []


@pytest.mark.parametrize("allowed, connects", [
    ([f"arn:aws:iam::{DBT}:root"], True),
    ([f"arn:aws:iam::{DBT}:role/connector"], True),
    ([f"arn:aws:iam::{DBT}:user/connector"], True),
    ([DBT], True),
    (["*"], True),
    ([f"arn:aws:iam::{UNTRUSTED}:root"], False),
    ([], False),
])
def test_only_allowed_principals_find_the_service(aws, names, connect, allowed, connects):
    service = Provider(aws, names("svc"), allowed=allowed)
    if connects:
        assert connect(service_name=service.service_name).startswith("vpce-")
        [detail] = aws.client("ec2", DBT).describe_vpc_endpoint_services(ServiceNames=[service.service_name])[
            "ServiceDetails"]
        assert detail["Owner"] == PROVIDER
    else:
        assert error_code(connect, service_name=service.service_name) == "InvalidServiceName"


def test_permissions_are_listed_by_type_and_removed(provider):
    provider.ec2.modify_vpc_endpoint_service_permissions(
        ServiceId=provider.service_id, AddAllowedPrincipals=["*", f"arn:aws:iam::{UNTRUSTED}:role/r"])

    def types(**more):
        return sorted(p["PrincipalType"] for p in provider.ec2.describe_vpc_endpoint_service_permissions(
            ServiceId=provider.service_id, **more)["AllowedPrincipals"])

    assert types() == ["Account", "All", "Role"]
    assert types(Filters=[{"Name": "principal-type", "Values": ["All"]}]) == ["All"]
    provider.ec2.modify_vpc_endpoint_service_permissions(ServiceId=provider.service_id, RemoveAllowedPrincipals=["*"])
    assert types() == ["Account", "Role"]
    assert error_code(provider.ec2.modify_vpc_endpoint_service_permissions, ServiceId=provider.service_id,
                      AddAllowedPrincipals=["dbt"]) == "InvalidPrincipal"


def test_unsuccessful_items_do_not_fail_the_others(provider, connect):
    existing, unknown = connect(), "vpce-00000000000000000"
    answer = provider.ec2.accept_vpc_endpoint_connections(ServiceId=provider.service_id,
                                                          VpcEndpointIds=[unknown, existing])
    assert [(i["ResourceId"], i["Error"]["Code"]) for i in answer["Unsuccessful"]] == [
        (unknown, "InvalidVpcEndpointId.NotFound")]
    assert provider.state(existing) in ("pending", "available")
    again = provider.ec2.accept_vpc_endpoint_connections(ServiceId=provider.service_id, VpcEndpointIds=[existing])
    assert again["Unsuccessful"][0]["Error"]["Code"] == "InvalidState"


def test_accept_reject_and_delete_pass_through_their_states(aws, provider, connect):
    """The steps take the second that each state lasts, which is also a minute of this server."""
    endpoint, decide = connect(), {"ServiceId": provider.service_id}
    decide["VpcEndpointIds"] = [endpoint]
    aws.control("clock", stop=True)

    def a_second_later():
        aws.control("clock", advance=1)
        return provider.state(endpoint)

    provider.ec2.accept_vpc_endpoint_connections(**decide)
    assert (provider.state(endpoint), a_second_later(), a_second_later()) == ("pending", "available", "available")
    provider.ec2.reject_vpc_endpoint_connections(**decide)
    assert (provider.state(endpoint), a_second_later()) == ("rejected", "rejected")
    provider.ec2.accept_vpc_endpoint_connections(**decide)
    assert (provider.state(endpoint), a_second_later()) == ("pending", "available")
    aws.client("ec2", DBT).delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    assert (provider.state(endpoint), a_second_later(), a_second_later()) == ("deleting", "deleted", None)
    assert provider.connections() == []


def test_a_request_without_acceptance_is_established(aws, names, connect):
    service = Provider(aws, names("svc"), acceptance=False)
    endpoint = connect(service_name=service.service_name)
    eventually(lambda: service.state(endpoint) == "available")


def test_a_service_with_connections_cannot_be_deleted(provider, connect):
    connect()
    answer = provider.ec2.delete_vpc_endpoint_service_configurations(ServiceIds=[provider.service_id])
    assert answer["Unsuccessful"][0]["Error"]["Code"] == "ExistingVpcEndpointConnections"


def test_connections_are_filtered(provider, connect):
    mine, other = connect(), connect()
    provider.ec2.reject_vpc_endpoint_connections(ServiceId=provider.service_id, VpcEndpointIds=[other])
    assert [c["VpcEndpointId"] for c in provider.connections(vpc_endpoint_state="rejected")] == [other]
    assert [c["VpcEndpointId"] for c in provider.connections(vpc_endpoint_id=mine)] == [mine]
    assert len(provider.connections(vpc_endpoint_owner=DBT)) == 2
    assert provider.connections(vpc_endpoint_owner=UNTRUSTED) == []
    assert len(provider.connections(vpc_endpoint_region=REGION, ip_address_type="ipv4")) == 2
    assert error_code(provider.connections, colour="red") == "InvalidParameterValue"


def test_connections_come_in_pages(aws, provider, connect):
    endpoints = {connect() for _ in range(6)}
    mine = [{"Name": "service-id", "Values": [provider.service_id]}]
    first = provider.ec2.describe_vpc_endpoint_connections(Filters=mine, MaxResults=5)
    assert len(first["VpcEndpointConnections"]) == 5
    second = provider.ec2.describe_vpc_endpoint_connections(Filters=mine, MaxResults=5, NextToken=first["NextToken"])
    assert "NextToken" not in second
    assert endpoints == {c["VpcEndpointId"] for page in (first, second) for c in page["VpcEndpointConnections"]}
    assert error_code(provider.ec2.describe_vpc_endpoint_connections, MaxResults=1) == "InvalidParameterValue"
    assert error_code(provider.ec2.describe_vpc_endpoint_connections, NextToken="x") == "InvalidNextToken"
    aws.control("page-size", size=2)
    assert len(provider.ec2.describe_vpc_endpoint_connections(Filters=mine)["VpcEndpointConnections"]) == 2
    pages = provider.ec2.get_paginator("describe_vpc_endpoint_connections").paginate(Filters=mine)
    assert endpoints == {c["VpcEndpointId"] for page in pages for c in page["VpcEndpointConnections"]}


def test_an_unfiltered_list_has_all_the_accounts_connections(aws, names, provider, connect):
    other = Provider(aws, names("svc"))
    both = {connect(), connect(service_name=other.service_name)}
    everything = provider.ec2.describe_vpc_endpoint_connections()["VpcEndpointConnections"]
    assert both <= {c["VpcEndpointId"] for c in everything}


def test_an_endpoint_outside_the_services_zones_is_rejected(aws, provider, connect):
    elsewhere = next(subnet["SubnetId"] for subnet in aws.client("ec2", DBT).describe_subnets()["Subnets"]
                     if subnet["AvailabilityZone"] not in provider.zones)
    assert error_code(connect, SubnetIds=[elsewhere]) == "InvalidParameter"


def test_a_connection_from_another_region_has_the_region(aws, provider):
    provider.ec2.modify_vpc_endpoint_service_configuration(ServiceId=provider.service_id,
                                                           AddSupportedRegions=["us-east-1"])
    consumer = aws.client("ec2", DBT, region="us-east-1")
    vpc = consumer.describe_vpcs()["Vpcs"][0]["VpcId"]
    consumer.create_vpc_endpoint(VpcEndpointType="Interface", VpcId=vpc, ServiceName=provider.service_name,
                                 ServiceRegion=REGION)
    assert [c["VpcEndpointRegion"] for c in provider.connections()] == ["us-east-1"]


def test_the_control_command_sets_raw_fields_of_a_connection(aws, provider, connect):
    endpoint = connect()
    aws.control("connection", endpoint_id=endpoint, state="paused", owner="none", created="2026-01-02T03:04:05Z")
    [connection] = provider.connections()
    assert connection["VpcEndpointState"] == "paused"
    assert "VpcEndpointOwner" not in connection
    assert connection["CreationTimestamp"].year == 2026
    aws.control("connection", endpoint_id=endpoint, state="pending", owner=UNTRUSTED)
    [connection] = provider.connections()
    assert (connection["VpcEndpointState"], connection["VpcEndpointOwner"]) == ("pending", UNTRUSTED)


@pytest.mark.parametrize("spelling", ["partial", "Partial"])
def test_a_connection_can_be_partial(aws, provider, connect, spelling):
    """EC2 sends states in lower camel case; its enumeration has them in upper camel case."""
    endpoint = connect()
    aws.control("connection", endpoint_id=endpoint, state=spelling)
    assert provider.state(endpoint) == "partial"
    [seen] = aws.client("ec2", DBT).describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"]
    assert seen["State"] == "partial"
    assert provider.ec2.reject_vpc_endpoint_connections(ServiceId=provider.service_id, VpcEndpointIds=[endpoint])[
        "Unsuccessful"] == []


# ---- permissions


@pytest.fixture
def limited(aws, names):
    """A user of the provider, and a function that allows the user an action on a resource."""
    user, iam = names("user"), aws.client("iam")
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]

    def allow(*actions, resource):
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps({
            "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}]}))
    return aws.client("ec2", key["AccessKeyId"], key["SecretAccessKey"]), allow


def test_principals_and_notifications_need_service_permission(aws, limited, provider, names):
    ec2, allow = limited
    topic = aws.client("sns").create_topic(Name=names("topic"))["TopicArn"]
    notification = provider.ec2.create_vpc_endpoint_connection_notification(
        ServiceId=provider.service_id, ConnectionNotificationArn=topic, ConnectionEvents=["Connect"])[
        "ConnectionNotification"]["ConnectionNotificationId"]
    calls = {
        "ec2:DescribeVpcEndpointServicePermissions": (
            ec2.describe_vpc_endpoint_service_permissions, {"ServiceId": provider.service_id}),
        "ec2:ModifyVpcEndpointConnectionNotification": (
            ec2.modify_vpc_endpoint_connection_notification,
            {"ConnectionNotificationId": notification, "ConnectionEvents": ["Connect", "Delete"]}),
        "ec2:DeleteVpcEndpointConnectionNotifications": (
            ec2.delete_vpc_endpoint_connection_notifications, {"ConnectionNotificationIds": [notification]})}
    arn = f"arn:aws:ec2:{REGION}:{PROVIDER}:vpc-endpoint-service/"
    for action, (call, arguments) in calls.items():
        allow(action, resource=f"{arn}vpce-svc-00000000000000000")
        assert error_code(call, **arguments) == "UnauthorizedOperation", action
        allow(action, resource=arn.replace("arn:aws:", "arn:*:") + provider.service_id)
        call(**arguments)


def test_accepting_in_several_regions_needs_a_second_permission(limited, provider, connect):
    ec2, allow = limited
    arn = f"arn:aws:ec2:{REGION}:{PROVIDER}:vpc-endpoint-service/{provider.service_id}"
    allow("ec2:AcceptVpcEndpointConnections", resource=arn)

    def accept():
        return ec2.accept_vpc_endpoint_connections(ServiceId=provider.service_id, VpcEndpointIds=[connect()])
    assert accept()["Unsuccessful"] == []
    provider.ec2.modify_vpc_endpoint_service_configuration(
        ServiceId=provider.service_id, AddSupportedRegions=["us-east-1"])
    assert error_code(accept) == "UnauthorizedOperation"
    allow("ec2:AcceptVpcEndpointConnections", "vpce:AllowMultiRegion", resource=arn)
    assert accept()["Unsuccessful"] == []
