"""EC2: network ACLs and network interfaces on the path from a load balancer to its targets."""
import pytest
from conftest import Provider
from test_endpoint_services import error_code

ANYWHERE = "0.0.0.0/0"


@pytest.fixture
def subnet(aws):
    """A new subnet in a new VPC."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]


@pytest.fixture
def acl_of(aws):
    def find(subnet):
        [acl] = aws.client("ec2").describe_network_acls(
            Filters=[{"Name": "association.subnet-id", "Values": [subnet["SubnetId"]]}])["NetworkAcls"]
        return acl
    return find


def test_every_subnet_has_its_vpcs_default_network_acl(subnet, acl_of):
    acl = acl_of(subnet)
    assert acl["IsDefault"]
    assert acl["VpcId"] == subnet["VpcId"]
    assert [(e["Egress"], e["RuleNumber"], e["RuleAction"]) for e in acl["Entries"]] == [
        (True, 100, "allow"), (True, 32767, "deny"), (False, 100, "allow"), (False, 32767, "deny")]


def test_a_subnet_can_have_another_network_acl_with_port_ranges(aws, subnet, acl_of):
    ec2 = aws.client("ec2")
    acl = ec2.create_network_acl(VpcId=subnet["VpcId"])["NetworkAcl"]["NetworkAclId"]
    entry = {"NetworkAclId": acl, "RuleNumber": 10, "Egress": False}
    allow = {"Protocol": "6", "RuleAction": "allow", "CidrBlock": "10.0.0.0/8", "PortRange": {"From": 5432, "To": 5432}}
    ec2.create_network_acl_entry(**entry, **allow)
    assert error_code(ec2.create_network_acl_entry, **entry, **allow) == "NetworkAclEntryAlreadyExists"
    ec2.replace_network_acl_association(
        AssociationId=acl_of(subnet)["Associations"][0]["NetworkAclAssociationId"], NetworkAclId=acl)
    found = acl_of(subnet)
    assert (found["NetworkAclId"], found["Associations"][0]["SubnetId"]) == (acl, subnet["SubnetId"])
    assert {"RuleNumber": 10, "Egress": False, **allow} in found["Entries"]
    assert error_code(ec2.delete_network_acl, NetworkAclId=acl) == "DependencyViolation"
    ec2.delete_network_acl_entry(**entry)
    assert [e["RuleAction"] for e in acl_of(subnet)["Entries"]] == ["deny", "deny"]


def test_a_load_balancer_has_a_network_interface_in_each_zone(provider):
    name = provider.load_balancer.split(":loadbalancer/")[1]
    asked = {"Filters": [{"Name": "description", "Values": [f"ELB {name}"]}]}
    interfaces = provider.ec2.describe_network_interfaces(**asked)["NetworkInterfaces"]
    assert [interface["AvailabilityZone"] for interface in interfaces] == provider.zones
    assert {interface["InterfaceType"] for interface in interfaces} == {"network_load_balancer"}
    assert all(interface["RequesterManaged"] for interface in interfaces)
    assert provider.ec2.describe_network_interfaces(**asked)["NetworkInterfaces"] == interfaces


def test_one_call_finds_interfaces_of_several_load_balancers(aws, names, provider):
    other = Provider(aws, names("nlb"))
    described = [f"ELB {p.load_balancer.split(':loadbalancer/')[1]}" for p in (provider, other)]
    asked = {"Filters": [{"Name": "description", "Values": described}]}
    aws.control("page-size", size=3)
    pages = list(provider.ec2.get_paginator("describe_network_interfaces").paginate(**asked))
    assert [len(page["NetworkInterfaces"]) for page in pages] == [3, 1]
    found = [interface for page in pages for interface in page["NetworkInterfaces"]]
    assert sorted(interface["Description"] for interface in found) == sorted(described * 2)
    assert len({interface["PrivateIpAddress"] for interface in found}) == 4
