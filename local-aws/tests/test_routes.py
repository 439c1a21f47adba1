"""EC2: VPCs, subnets, route tables and the targets of routes."""
import pytest
from conftest import DBT, PROVIDER, REGION
from test_endpoint_services import error_code


@pytest.fixture
def ec2(aws):
    return aws.client("ec2")


class Network:
    """A VPC with a subnet."""

    def __init__(self, ec2, block="10.0.0.0/16"):
        self.ec2, self.block = ec2, block
        self.vpc = ec2.create_vpc(CidrBlock=block)["Vpc"]["VpcId"]
        self.subnet = ec2.create_subnet(VpcId=self.vpc, CidrBlock=block.replace("/16", "/24"),
                                        AvailabilityZone=f"{REGION}b")["Subnet"]["SubnetId"]
        self.main = self.tables()[0]["RouteTableId"]

    def tables(self, **filters):
        wanted = {"vpc-id": self.vpc, **{name.replace("__", ".").replace("_", "-"): value
                                         for name, value in filters.items()}}
        return self.ec2.describe_route_tables(
            Filters=[{"Name": name, "Values": [value]} for name, value in wanted.items()])["RouteTables"]

    def routes(self):
        """The main table's routes except the local ones, without Origin."""
        return [{name: value for name, value in route.items() if name != "Origin"}
                for route in self.tables()[0]["Routes"] if route.get("GatewayId") != "local"]

    def route(self, destination="192.168.0.0/16", **target):
        self.ec2.create_route(RouteTableId=self.main, DestinationCidrBlock=destination, **target)
        return self.routes()[-1]


@pytest.fixture
def network(ec2):
    return Network(ec2)


def test_a_vpcs_subnets_are_described(ec2, network):
    assert error_code(ec2.create_subnet, VpcId=network.vpc, CidrBlock="10.1.0.0/24") == "InvalidSubnet.Range"
    assert error_code(ec2.create_subnet, VpcId=network.vpc, CidrBlock="10.0.0.0/25") == "InvalidSubnet.Conflict"
    other = ec2.create_subnet(VpcId=network.vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    by_vpc = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [network.vpc]}])["Subnets"]
    assert [subnet["SubnetId"] for subnet in by_vpc] == [network.subnet, other]
    by_id = ec2.describe_subnets(Filters=[{"Name": "subnet-id", "Values": [other, network.subnet]}])["Subnets"]
    assert by_id == by_vpc
    assert [(s["AvailabilityZone"], s["AvailabilityZoneId"], s["CidrBlock"]) for s in by_vpc] == [
        (f"{REGION}b", "euc1-az2", "10.0.0.0/24"), (f"{REGION}a", "euc1-az1", "10.0.1.0/24")]
    assert by_vpc[0]["AvailableIpAddressCount"] == 251
    assert error_code(ec2.describe_subnets, SubnetIds=["subnet-0"]) == "InvalidSubnetID.NotFound"
    ec2.delete_subnet(SubnetId=other)
    assert error_code(ec2.describe_subnets, SubnetIds=[other]) == "InvalidSubnetID.NotFound"


def test_network_descriptions_come_in_pages(aws, ec2, network):
    for number in range(1, 3):
        ec2.create_subnet(VpcId=network.vpc, CidrBlock=f"10.0.{number}.0/24")
        ec2.create_route_table(VpcId=network.vpc)
        ec2.create_network_acl(VpcId=network.vpc)
    aws.control("page-size", size=2)
    for operation, key in [("describe_subnets", "Subnets"), ("describe_route_tables", "RouteTables"),
                           ("describe_network_acls", "NetworkAcls")]:
        asked = {"Filters": [{"Name": "vpc-id", "Values": [network.vpc]}]}
        assert [len(page[key]) for page in ec2.get_paginator(operation).paginate(**asked)] == [2, 1]


def test_every_cidr_of_a_vpc_has_its_local_route(ec2, network):
    more = ec2.associate_vpc_cidr_block(VpcId=network.vpc, CidrBlock="10.1.0.0/16")["CidrBlockAssociation"]
    ec2.associate_vpc_cidr_block(VpcId=network.vpc, AmazonProvidedIpv6CidrBlock=True)
    ec2.create_route_table(VpcId=network.vpc)
    [vpc] = ec2.describe_vpcs(VpcIds=[network.vpc])["Vpcs"]
    assert [a["CidrBlock"] for a in vpc["CidrBlockAssociationSet"]] == ["10.0.0.0/16", "10.1.0.0/16"]
    [ipv6] = [a["Ipv6CidrBlock"] for a in vpc["Ipv6CidrBlockAssociationSet"]]
    for table in network.tables():
        assert [r.get("DestinationCidrBlock") or r["DestinationIpv6CidrBlock"] for r in table["Routes"]] == [
            "10.0.0.0/16", "10.1.0.0/16", ipv6]
        assert {(r["GatewayId"], r["State"], r["Origin"]) for r in table["Routes"]} == {
            ("local", "active", "CreateRouteTable")}
    ec2.disassociate_vpc_cidr_block(AssociationId=more["AssociationId"])
    assert all(len(table["Routes"]) == 2 for table in network.tables())
    assert error_code(ec2.delete_route, RouteTableId=network.main, DestinationCidrBlock="10.0.0.0/16") == (
        "InvalidParameterValue")


def test_subnets_use_the_main_table_until_they_are_associated(ec2, network):
    [main] = network.tables(association__main="true")
    assert [(a["Main"], a.get("SubnetId")) for a in main["Associations"]] == [(True, None)]
    assert network.tables(association__subnet_id=network.subnet) == []
    table = ec2.create_route_table(VpcId=network.vpc)["RouteTable"]["RouteTableId"]
    association = ec2.associate_route_table(RouteTableId=table, SubnetId=network.subnet)["AssociationId"]
    [found] = network.tables(association__subnet_id=network.subnet)
    assert (found["RouteTableId"], found["Associations"][0]["Main"]) == (table, False)
    assert found["Associations"][0]["AssociationState"] == {"State": "associated"}
    assert error_code(ec2.associate_route_table, RouteTableId=network.main, SubnetId=network.subnet) == (
        "Resource.AlreadyAssociated")
    assert error_code(ec2.delete_route_table, RouteTableId=table) == "DependencyViolation"
    association = ec2.replace_route_table_association(AssociationId=association, RouteTableId=network.main)[
        "NewAssociationId"]
    ec2.disassociate_route_table(AssociationId=association)
    assert network.tables(association__subnet_id=network.subnet) == []
    first = main["Associations"][0]["RouteTableAssociationId"]
    assert error_code(ec2.disassociate_route_table, AssociationId=first) == "InvalidParameterValue"
    ec2.replace_route_table_association(AssociationId=first, RouteTableId=table)
    assert [t["RouteTableId"] for t in network.tables(association__main="true")] == [table]


def test_the_default_vpc_has_a_route_to_its_internet_gateway(ec2):
    [table] = ec2.describe_route_tables(RouteTableIds=["rtb-00000001"])["RouteTables"]
    assert [(r["DestinationCidrBlock"], r["GatewayId"], r["State"]) for r in table["Routes"]] == [
        ("172.31.0.0/16", "local", "active"), ("0.0.0.0/0", "igw-00000001", "active")]


def test_a_route_to_a_peer_is_active_while_the_peering_is(ec2, network):
    peer = Network(ec2, "192.168.0.0/16")
    peering = ec2.create_vpc_peering_connection(VpcId=network.vpc, PeerVpcId=peer.vpc)["VpcPeeringConnection"]
    by_id = {"VpcPeeringConnectionId": peering["VpcPeeringConnectionId"]}
    assert network.route(**by_id) == {"DestinationCidrBlock": "192.168.0.0/16", **by_id, "State": "blackhole"}
    ec2.accept_vpc_peering_connection(**by_id)
    [active] = ec2.describe_vpc_peering_connections(Filters=[
        {"Name": "status-code", "Values": ["active"]},
        {"Name": "requester-vpc-info.vpc-id", "Values": [network.vpc]}])["VpcPeeringConnections"]
    assert active["AccepterVpcInfo"]["CidrBlock"] == "192.168.0.0/16"
    assert network.routes()[0]["State"] == "active"
    assert error_code(ec2.create_route, RouteTableId=network.main, DestinationCidrBlock="192.168.3.4/16", **by_id) == (
        "RouteAlreadyExists")
    ec2.delete_vpc_peering_connection(**by_id)
    assert network.routes() == [{"DestinationCidrBlock": "192.168.0.0/16", **by_id, "State": "blackhole"}]
    assert error_code(ec2.accept_vpc_peering_connection, **by_id) == "InvalidStateTransition"
    missing = {"VpcPeeringConnectionId": "pcx-00000000000000000"}
    assert error_code(network.route, "10.9.0.0/16", **missing) == "InvalidVpcPeeringConnectionID.NotFound"


def test_peering_accepts_other_accounts_but_no_cidr_overlap(aws, ec2, network):
    other = Network(aws.client("ec2", DBT), "192.168.0.0/16")
    peering = ec2.create_vpc_peering_connection(VpcId=network.vpc, PeerVpcId=other.vpc, PeerOwnerId=DBT)
    by_id = {"VpcPeeringConnectionId": peering["VpcPeeringConnection"]["VpcPeeringConnectionId"]}
    assert error_code(ec2.accept_vpc_peering_connection, **by_id) == "OperationNotPermitted"
    other.ec2.accept_vpc_peering_connection(**by_id)
    assert network.route(**by_id)["State"] == other.route("10.0.0.0/16", **by_id)["State"] == "active"
    other.ec2.delete_vpc_peering_connection(**by_id)
    assert network.routes()[0]["State"] == other.routes()[0]["State"] == "blackhole"
    same = ec2.create_vpc_peering_connection(VpcId=network.vpc, PeerVpcId=Network(ec2).vpc)["VpcPeeringConnection"]
    [failed] = ec2.describe_vpc_peering_connections(VpcPeeringConnectionIds=[same["VpcPeeringConnectionId"]])[
        "VpcPeeringConnections"]
    assert failed["Status"]["Code"] == "failed"


def test_a_route_to_a_transit_gateway_needs_the_vpcs_attachment(ec2, network):
    gateway = {"TransitGatewayId": ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]}
    assert error_code(network.route, **gateway) == "InvalidTransitGatewayID.NotFound"
    attachment = ec2.create_transit_gateway_vpc_attachment(**gateway, VpcId=network.vpc, SubnetIds=[network.subnet])[
        "TransitGatewayVpcAttachment"]["TransitGatewayAttachmentId"]
    assert network.route(**gateway) == {"DestinationCidrBlock": "192.168.0.0/16", **gateway, "State": "active"}
    ec2.delete_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=attachment)
    assert network.routes()[0]["State"] == "blackhole"


def test_a_route_to_an_interface_is_active_while_its_instance_is(ec2, network):
    [instance] = ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1, SubnetId=network.subnet)["Instances"]
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    through = {"NetworkInterfaceId": interface, "InstanceId": instance["InstanceId"], "InstanceOwnerId": PROVIDER}
    assert network.route(NetworkInterfaceId=interface) == {
        "DestinationCidrBlock": "192.168.0.0/16", **through, "State": "active"}
    assert network.route("192.168.1.0/24", InstanceId=instance["InstanceId"])["NetworkInterfaceId"] == interface
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert network.routes() == [
        {"DestinationCidrBlock": block, "NetworkInterfaceId": interface, "State": "blackhole"}
        for block in ("192.168.0.0/16", "192.168.1.0/24")]
    free = ec2.create_network_interface(SubnetId=network.subnet)["NetworkInterface"]["NetworkInterfaceId"]
    assert network.route("192.168.2.0/24", NetworkInterfaceId=free)["State"] == "blackhole"  # not attached
    ec2.delete_network_interface(NetworkInterfaceId=free)
    assert network.routes()[-1] == {
        "DestinationCidrBlock": "192.168.2.0/24", "NetworkInterfaceId": free, "State": "blackhole"}


def test_a_route_to_a_gateway_is_active_while_it_is_attached(ec2, network):
    gateway = {"GatewayId": ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]}
    attached = {"InternetGatewayId": gateway["GatewayId"], "VpcId": network.vpc}
    assert error_code(network.route, "0.0.0.0/0", **gateway) == "InvalidParameterValue"
    ec2.attach_internet_gateway(**attached)
    assert network.route("0.0.0.0/0", **gateway)["State"] == "active"
    nat = {"NatGatewayId": ec2.create_nat_gateway(SubnetId=network.subnet, ConnectivityType="private")[
        "NatGateway"]["NatGatewayId"]}
    assert network.route(**nat)["State"] == "active"
    ec2.delete_nat_gateway(**nat)
    ec2.detach_internet_gateway(**attached)
    assert [route["State"] for route in network.routes()] == ["blackhole", "blackhole"]


def test_a_route_to_a_vpn_gateway_is_active_while_it_is_attached(ec2, network):
    gateway = ec2.create_vpn_gateway(Type="ipsec.1")["VpnGateway"]["VpnGatewayId"]
    assert error_code(network.route, GatewayId=gateway) == "InvalidParameterValue"
    ec2.attach_vpn_gateway(VpnGatewayId=gateway, VpcId=network.vpc)
    assert network.route(GatewayId=gateway) == {
        "DestinationCidrBlock": "192.168.0.0/16", "GatewayId": gateway, "State": "active"}
    ec2.detach_vpn_gateway(VpnGatewayId=gateway, VpcId=network.vpc)
    assert network.routes()[0]["State"] == "blackhole"


def test_routes_are_replaced_and_deleted_by_their_destination(ec2, network, names):
    prefixes = ec2.create_managed_prefix_list(PrefixListName=names("pl"), AddressFamily="IPv4", MaxEntries=1)[
        "PrefixList"]["PrefixListId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    nat = ec2.create_nat_gateway(SubnetId=network.subnet)["NatGateway"]["NatGatewayId"]
    to_list = {"RouteTableId": network.main, "DestinationPrefixListId": prefixes}
    ec2.create_route(**to_list, GatewayId=gateway)
    ec2.replace_route(**to_list, NatGatewayId=nat)
    assert network.routes() == [{"DestinationPrefixListId": prefixes, "NatGatewayId": nat, "State": "active"}]
    ec2.delete_route(**to_list)
    assert network.routes() == []
    assert error_code(ec2.delete_route, **to_list) == "InvalidRoute.NotFound"
    assert error_code(ec2.replace_route, **to_list, NatGatewayId=nat) == "InvalidRoute.NotFound"
    assert error_code(ec2.create_route, **to_list) == "MissingParameter"
    assert error_code(ec2.create_route, RouteTableId="rtb-0", DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway) == (
        "InvalidRouteTableID.NotFound")
    assert error_code(ec2.create_route, RouteTableId=network.main, GatewayId=gateway,
                      DestinationPrefixListId="pl-00000000000000000") == "InvalidPrefixListID.NotFound"


# Instances

def test_instances_have_the_vpc_and_zone_of_their_subnet(aws, ec2, network):
    def run(**more):
        return ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1, SubnetId=network.subnet, **more)[
            "Instances"][0]

    started, second = run(PrivateIpAddress="10.0.0.77"), run()
    assert started["State"]["Name"] == "pending"
    wanted = [{"Name": "instance-id", "Values": [started["InstanceId"], second["InstanceId"]]}]
    found = [r["Instances"][0] for r in ec2.describe_instances(Filters=wanted)["Reservations"]]
    assert [(i["InstanceId"], i["PrivateIpAddress"]) for i in found] == [
        (started["InstanceId"], "10.0.0.77"), (second["InstanceId"], "10.0.0.4")]
    assert {(i["SubnetId"], i["VpcId"], i["Placement"]["AvailabilityZone"], i["State"]["Name"]) for i in found} == {
        (network.subnet, network.vpc, f"{REGION}b", "running")}
    assert error_code(run, PrivateIpAddress="10.0.0.77") == "InvalidIPAddress.InUse"
    aws.control("page-size", size=1)
    pages = list(ec2.get_paginator("describe_instances").paginate(Filters=wanted))
    assert [len(page["Reservations"]) for page in pages] == [1, 1]
    ec2.terminate_instances(InstanceIds=[started["InstanceId"]])
    [gone] = ec2.describe_instances(InstanceIds=[started["InstanceId"]])["Reservations"]
    assert gone["Instances"][0]["State"]["Name"] == "terminated"
    assert "SubnetId" not in gone["Instances"][0]
    assert error_code(ec2.describe_instances, InstanceIds=["i-00000000000000000"]) == "InvalidInstanceID.NotFound"
    assert error_code(ec2.describe_instances, InstanceIds=["i-x"]) == "InvalidInstanceID.Malformed"
