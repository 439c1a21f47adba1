"""EC2: the network interfaces of instances and load balancers, their addresses and groups, and managed resources."""
import pytest
from conftest import Provider
from test_endpoint_services import error_code

SUBNET = "subnet-00000001"


@pytest.fixture
def ec2(aws):
    return aws.client("ec2")


@pytest.fixture
def new_group(ec2, names):
    def create():
        name = names("sg")
        return {"GroupId": ec2.create_security_group(GroupName=name, Description="d")["GroupId"], "GroupName": name}
    return create


def found(ec2, include=False, **filters):
    asked = [{"Name": name.replace("__", ".").replace("_", "-"), "Values": [value]} for name, value in filters.items()]
    return ec2.describe_network_interfaces(Filters=asked, IncludeManagedResources=include)["NetworkInterfaces"]


def ids(interfaces):
    return [interface["NetworkInterfaceId"] for interface in interfaces]


def run(ec2, **more):
    return ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1, **more)["Instances"][0]["InstanceId"]


def test_an_interface_is_found_by_each_of_its_addresses(ec2, new_group):
    group = new_group()
    created = ec2.create_network_interface(
        SubnetId=SUBNET, Groups=[group["GroupId"]], Description="database", PrivateIpAddresses=[
            {"PrivateIpAddress": "172.31.9.1", "Primary": True}, {"PrivateIpAddress": "172.31.9.2"}],
    )["NetworkInterface"]
    interface_id = created["NetworkInterfaceId"]
    for filters in ({"private_ip_address": "172.31.9.1"}, {"addresses__private_ip_address": "172.31.9.2"},
                    {"group_id": group["GroupId"]}, {"network_interface_id": interface_id},
                    {"description": "database", "vpc_id": "vpc-00000001"}):
        [interface] = found(ec2, **filters)
        assert interface["NetworkInterfaceId"] == interface_id
    assert interface["Groups"] == [group]
    assert interface["PrivateIpAddresses"] == [{"Primary": True, "PrivateIpAddress": "172.31.9.1"},
                                               {"Primary": False, "PrivateIpAddress": "172.31.9.2"}]
    assert (interface["Ipv6Addresses"], interface["Operator"]) == ([], {"Managed": False})
    assert "Attachment" not in interface
    by_id = {"NetworkInterfaceId": interface_id}
    assigned = ec2.assign_private_ip_addresses(**by_id, SecondaryPrivateIpAddressCount=1)
    [third] = [address["PrivateIpAddress"] for address in assigned["AssignedPrivateIpAddresses"]]
    assert ids(found(ec2, private_ip_address=third)) == [interface_id]
    ec2.unassign_private_ip_addresses(**by_id, PrivateIpAddresses=[third])
    assert found(ec2, private_ip_address=third) == []
    ec2.delete_network_interface(**by_id)
    assert found(ec2, private_ip_address="172.31.9.2") == []
    assert error_code(ec2.describe_network_interfaces, NetworkInterfaceIds=[interface_id]) == (
        "InvalidNetworkInterfaceID.NotFound")


def test_an_interface_has_ipv6_addresses_of_its_vpc(ec2):
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    subnet = ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    address = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].replace("::/56", "::5")
    created = ec2.create_network_interface(SubnetId=subnet, Ipv6Addresses=[{"Ipv6Address": address}])
    [interface] = found(ec2, ipv6_addresses__ipv6_address=address)
    assert ids([interface]) == ids([created["NetworkInterface"]])
    assert interface["Ipv6Addresses"] == [{"Ipv6Address": address}]
    assert error_code(ec2.create_network_interface, SubnetId=subnet,
                      Ipv6Addresses=[{"Ipv6Address": "2001:db9::1"}]) == "InvalidParameterValue"


def test_a_prefix_is_found_only_by_its_subnet(ec2):
    created = ec2.create_network_interface(SubnetId=SUBNET, PrivateIpAddress="172.31.9.40",
                                           Ipv4Prefixes=[{"Ipv4Prefix": "172.31.9.64/28"}])["NetworkInterface"]
    assert found(ec2, addresses__private_ip_address="172.31.9.65") == []
    by_subnet = {row["NetworkInterfaceId"]: row for row in found(ec2, subnet_id=SUBNET)}
    assert by_subnet[created["NetworkInterfaceId"]]["Ipv4Prefixes"] == [{"Ipv4Prefix": "172.31.9.64/28"}]
    for prefix in ("172.31.9.64/29", "10.1.0.0/28"):
        assert error_code(ec2.create_network_interface, SubnetId=SUBNET,
                          Ipv4Prefixes=[{"Ipv4Prefix": prefix}]) == "InvalidParameterValue"


def test_an_instance_has_a_primary_ipv6_address(ec2):
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    subnet = ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    address = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].replace("::/56", "::6")
    instance = run(ec2, SubnetId=subnet, Ipv6Addresses=[{"Ipv6Address": address}], EnablePrimaryIpv6=True)
    [reservation] = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    [described] = reservation["Instances"]
    assert described["Ipv6Address"] == address
    assert described["NetworkInterfaces"][0]["Ipv6Addresses"] == [{"Ipv6Address": address, "IsPrimaryIpv6": True}]


def test_an_older_ec2_refuses_include_managed_resources(aws, ec2):
    aws.control("managed-resources", parameter="unknown")
    for describe in (ec2.describe_instances, ec2.describe_network_interfaces):
        assert error_code(describe, IncludeManagedResources=True) == "UnknownParameter"
        describe()
    aws.control("managed-resources", parameter="known")
    assert ec2.describe_instances(IncludeManagedResources=True)["Reservations"] is not None


def test_an_instance_has_the_groups_of_its_primary_interface(ec2, new_group):
    first, second, third = new_group(), new_group(), new_group()
    instance = run(ec2, SubnetId=SUBNET, SecurityGroupIds=[first["GroupId"]])

    def described():
        return ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    assert described()["SecurityGroups"] == [first]
    [interface] = found(ec2, attachment__instance_id=instance)
    assert (interface["Groups"], interface["Attachment"]["InstanceId"], interface["Attachment"]["Status"]) == (
        [first], instance, "attached")
    ec2.modify_network_interface_attribute(NetworkInterfaceId=interface["NetworkInterfaceId"],
                                           Groups=[second["GroupId"]])
    assert described()["SecurityGroups"] == [second] == described()["NetworkInterfaces"][0]["Groups"]
    ec2.modify_instance_attribute(InstanceId=instance, Groups=[third["GroupId"]])
    assert described()["SecurityGroups"] == [third]
    assert ids(found(ec2, group_id=third["GroupId"])) == ids([interface])
    more = ec2.create_network_interface(SubnetId=SUBNET, Groups=[first["GroupId"]])["NetworkInterface"]
    ec2.attach_network_interface(NetworkInterfaceId=more["NetworkInterfaceId"], InstanceId=instance, DeviceIndex=1)
    assert described()["SecurityGroups"] == [third]
    assert [i["Groups"] for i in described()["NetworkInterfaces"]] == [[third], [first]]
    assert error_code(ec2.modify_network_interface_attribute, NetworkInterfaceId=more["NetworkInterfaceId"],
                      Groups=["sg-00000000000000000"]) == "InvalidGroup.NotFound"
    assert error_code(ec2.delete_security_group, GroupId=first["GroupId"]) == "DependencyViolation"


def test_managed_resources_are_hidden_unless_requested(aws, ec2):
    instance, other = run(ec2, SubnetId=SUBNET), run(ec2, SubnetId=SUBNET)
    interfaces = {i: ids(found(ec2, attachment__instance_id=i))[0] for i in (instance, other)}
    aws.control("managed", resource_id=instance, principal="eks.amazonaws.com")
    aws.control("managed", resource_id=interfaces[other], principal="lambda.amazonaws.com")

    def instances(**more):
        answer = ec2.describe_instances(Filters=[{"Name": "subnet-id", "Values": [SUBNET]}], **more)
        return {i["InstanceId"]: i for reservation in answer["Reservations"] for i in reservation["Instances"]}

    assert instance not in instances()
    assert other in instances(IncludeManagedResources=False)
    assert instances(IncludeManagedResources=True)[instance]["Operator"] == {
        "Managed": True, "Principal": "eks.amazonaws.com", "HiddenByDefault": True}
    assert error_code(ec2.describe_instances, InstanceIds=[instance]) == "InvalidInstanceID.NotFound"
    assert ec2.describe_instances(InstanceIds=[instance], IncludeManagedResources=True)["Reservations"]
    for of_instance, interface in interfaces.items():
        assert found(ec2, attachment__instance_id=of_instance) == []
        [shown] = found(ec2, include=True, network_interface_id=interface)
        assert shown["Operator"]["Managed"] is True
    for resource in (instance, interfaces[other]):
        aws.control("managed", resource_id=resource, principal="none")
    assert instances()[instance]["Operator"] == {"Managed": False}
    assert len(found(ec2, attachment__instance_id=other)) == 1


def test_a_load_balancer_gets_secondary_addresses_by_attribute(aws, names, new_group):
    group = new_group()
    nlb = Provider(aws, names("nlb"), security_groups=[group["GroupId"]])
    before = found(nlb.ec2, group_id=group["GroupId"])
    assert [len(interface["PrivateIpAddresses"]) for interface in before] == [1, 1]

    def set_secondary(number):
        return nlb.elb.modify_load_balancer_attributes(LoadBalancerArn=nlb.load_balancer, Attributes=[
            {"Key": "secondary_ips.auto_assigned.per_subnet", "Value": str(number)}])

    set_secondary(1)
    after = found(nlb.ec2, group_id=group["GroupId"])
    assert ids(after) == ids(before)
    for interface in after:
        primary, secondary = interface["PrivateIpAddresses"]
        assert (primary["Primary"], secondary["Primary"]) == (True, False)
        assert primary["PrivateIpAddress"] == interface["PrivateIpAddress"]
        assert ids(found(nlb.ec2, addresses__private_ip_address=secondary["PrivateIpAddress"])) == ids([interface])
    assert error_code(set_secondary, 0) == "InvalidConfigurationRequest"
    assert error_code(set_secondary, 8) == "ValidationError"
    assert error_code(nlb.ec2.modify_network_interface_attribute, NetworkInterfaceId=ids(after)[0],
                      Groups=[group["GroupId"]]) == "AuthFailure"


def test_an_internal_load_balancer_can_have_chosen_addresses(aws, ec2, names):
    elb, name = aws.client("elbv2"), names("nlb")
    mapping = {"SubnetId": SUBNET, "PrivateIPv4Address": "172.31.10.1"}
    [balancer] = elb.create_load_balancer(Name=name, Type="network", Scheme="internal", SubnetMappings=[mapping])[
        "LoadBalancers"]
    assert balancer["AvailabilityZones"][0]["LoadBalancerAddresses"] == [{"PrivateIPv4Address": "172.31.10.1"}]
    [interface] = found(ec2, private_ip_address="172.31.10.1")
    assert interface["Description"].startswith(f"ELB net/{name}/")
    assert error_code(elb.create_load_balancer, Name=names("nlb"), Type="network", Scheme="internal",
                      SubnetMappings=[mapping]) == "InvalidConfigurationRequest"
