"""EC2: VPCs with all their CIDR blocks, and subnets."""
import ipaddress
import secrets

from ministack.core.responses import get_account_id, get_region
from ministack.services import alb, ec2

from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_RESERVED = 4  # addresses that AWS reserves at the start of each subnet, besides the last one


def vpc_of(vpc_id):
    if vpc_id not in ec2._vpcs:
        raise ApiError("InvalidVpcID.NotFound", f"The vpc ID '{vpc_id}' does not exist")
    return ec2._vpcs[vpc_id]


def subnet_of(subnet_id):
    if subnet_id not in ec2._subnets:
        raise ApiError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
    return ec2._subnets[subnet_id]


def cidr(text, parameter="cidrBlock"):
    """The network with its host bits cleared, as in EC2."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ApiError("InvalidParameterValue", f"Value ({text}) for parameter {parameter} is invalid. This is not a "
                                                "valid CIDR block.") from None


def associations(vpc):
    """The associations of the VPC's IPv4 CIDR blocks, the primary one first."""
    first = {"AssociationId": f"vpc-cidr-assoc-{vpc['VpcId'].removeprefix('vpc-')}", "CidrBlock": vpc["CidrBlock"]}
    return [first, *vpc.get("MoreCidrBlocks", [])]


def ipv4_blocks(vpc):
    return [association["CidrBlock"] for association in associations(vpc)]


def ipv6_blocks(vpc):
    return [association["Ipv6CidrBlock"] for association in vpc.get("Ipv6CidrBlocks", [])]


def subnet_containing(address, vpc_id):
    """The VPC's subnet that contains the IP address, if any. For an IPv6 address it is the subnet of its interface."""
    if address.version == 6:
        return next((ec2._subnets.get(interface["SubnetId"]) for interface in ec2._network_interfaces.values()
                     if interface["VpcId"] == vpc_id and str(address) in interface.get("Ipv6", [])), None)
    return next((subnet for subnet in ec2._subnets.values() if subnet["VpcId"] == vpc_id
                 and address in ipaddress.ip_network(subnet["CidrBlock"], strict=False)), None)


def take_address(subnet, wanted=None):
    """Take a free private address of the subnet and mark it as taken."""
    network, taken = ipaddress.ip_network(subnet["CidrBlock"], strict=False), subnet.setdefault("Taken", [])
    if wanted and ipaddress.ip_address(wanted) not in network:
        raise ApiError("InvalidParameterValue", f"Address {wanted} does not fall within the subnet's address range")
    if wanted in taken:
        raise ApiError("InvalidIPAddress.InUse", f"Address {wanted} is in use.")
    free = wanted or next((str(network[number]) for number in range(_RESERVED, network.num_addresses - 1)
                           if str(network[number]) not in taken), None)
    if not free:
        raise ApiError("InsufficientFreeAddressesInSubnet", f"The specified subnet {subnet['SubnetId']} does not have "
                                                            "enough free addresses to satisfy the request.")
    taken.append(free)
    return free


def free_address(subnet_id, address):
    taken = ec2._subnets.get(subnet_id, {}).get("Taken", [])
    if address in taken:
        taken.remove(address)


# VPCs

def default_security_group(vpc_id):
    """The id of the VPC's default security group."""
    return next(group["GroupId"] for group in ec2._security_groups.values()
                if group["VpcId"] == vpc_id and group["GroupName"] == "default")


def _state(state="associated"):
    return {"State": state}


def _vpc_view(vpc):
    return {
        **{member: vpc[member] for member in ("VpcId", "State", "CidrBlock", "DhcpOptionsId", "InstanceTenancy",
                                              "IsDefault", "OwnerId")},
        "CidrBlockAssociationSet": [{**a, "CidrBlockState": _state()} for a in associations(vpc)],
        "Ipv6CidrBlockAssociationSet": [_ipv6_view(vpc, a) for a in vpc.get("Ipv6CidrBlocks", [])],
        "Tags": ec2._tags.get(vpc["VpcId"], [])}


def _ipv6_view(vpc, association, state="associated"):
    return {**association, "Ipv6CidrBlockState": _state(state), "Ipv6Pool": "Amazon",
            "NetworkBorderGroup": get_region()}


@EC2.action("CreateVpc")
def create_vpc(request):
    block = cidr(request.get("CidrBlock", ""))
    if not 16 <= block.prefixlen <= 28:
        raise ApiError("InvalidVpc.Range", f"The CIDR '{block}' is invalid.")
    before = set(ec2._vpcs)
    ec2._create_vpc({"CidrBlock": [str(block)], "InstanceTenancy": [request.get("InstanceTenancy", "default")]})
    [vpc_id] = set(ec2._vpcs) - before
    vpc = ec2._vpcs[vpc_id]
    _allow_members(vpc["DefaultSecurityGroupId"])
    ec2._tags[vpc_id] = tags_for("vpc", request)
    if request.get("AmazonProvidedIpv6CidrBlock"):
        _associate_ipv6(vpc)
    return {"Vpc": _vpc_view(vpc)}


def _allow_members(group_id):
    """Add the initial rule of a default security group, which allows traffic from its own members."""
    group = ec2._security_groups[group_id]
    if not group["IpPermissions"]:
        group["IpPermissions"] = [{"IpProtocol": "-1", "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [],
                                   "UserIdGroupPairs": [{"GroupId": group_id, "UserId": group["OwnerId"]}]}]


@EC2.action("DescribeVpcs")
def describe_vpcs(request):
    vpcs = [vpc_of(i) for i in request["VpcIds"]] if "VpcIds" in request else ec2._vpcs.values()
    rows = ec2_filter(request, [_vpc_view(vpc) for vpc in vpcs], {
        "vpc-id": "VpcId", "cidr": "CidrBlock", "state": "State", "owner-id": "OwnerId", "is-default": "IsDefault",
        "dhcp-options-id": "DhcpOptionsId",
        "cidr-block-association.cidr-block": lambda row: [a["CidrBlock"] for a in row["CidrBlockAssociationSet"]],
        "ipv6-cidr-block-association.ipv6-cidr-block":
            lambda row: [a["Ipv6CidrBlock"] for a in row["Ipv6CidrBlockAssociationSet"]]})
    return ec2_page(request, "Vpcs", rows)


def _tables_of(vpc):
    return [table for table in ec2._route_tables.values() if table["VpcId"] == vpc["VpcId"]]


def _associate_ipv6(vpc):
    """Associate a /56 from Amazon's pool, and add it to the default network ACL and every route table."""
    block = f"2001:db8:{secrets.randbelow(1 << 16):x}:{secrets.randbelow(256) << 8:x}::/56"
    association = {"AssociationId": new_id("vpc-cidr-assoc"), "Ipv6CidrBlock": str(ipaddress.ip_network(block))}
    vpc.setdefault("Ipv6CidrBlocks", []).append(association)
    for table in _tables_of(vpc):
        table["Routes"].append({"DestinationIpv6CidrBlock": association["Ipv6CidrBlock"], "GatewayId": "local",
                                "Origin": "CreateRouteTable"})
    entries = ec2._network_acls[vpc["DefaultNetworkAclId"]]["Entries"]
    if not any("Ipv6CidrBlock" in entry for entry in entries):
        entries += [{"RuleNumber": number, "Protocol": "-1", "RuleAction": action, "Egress": egress,
                     "Ipv6CidrBlock": "::/0"}
                    for egress in (True, False) for number, action in ((101, "allow"), (32768, "deny"))]
    for group in ec2._security_groups.values():
        if group["VpcId"] == vpc["VpcId"] and _allows_all_outbound_only(group):
            group["IpPermissionsEgress"].append({"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]})
    return association


def _allows_all_outbound_only(group):
    """Whether the outbound rules are still those of a new group. If so, EC2 adds the rule for IPv6.

    https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html
    """
    peers = [(permission["IpProtocol"], peer.get("CidrIp")) for permission in group["IpPermissionsEgress"]
             for kind in ("IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs")
             for peer in permission.get(kind) or []]
    return peers == [("-1", "0.0.0.0/0")]


@EC2.action("AssociateVpcCidrBlock")
def associate_cidr(request):
    vpc = vpc_of(request["VpcId"])
    if request.get("AmazonProvidedIpv6CidrBlock"):
        return {"VpcId": vpc["VpcId"],
                "Ipv6CidrBlockAssociation": _ipv6_view(vpc, _associate_ipv6(vpc), "associating")}
    if "CidrBlock" not in request:
        raise ApiError("MissingParameter", "The request must contain the parameter CidrBlock")
    block = cidr(request["CidrBlock"])
    if any(block.overlaps(ipaddress.ip_network(other)) for other in ipv4_blocks(vpc)):
        raise ApiError("InvalidVpc.Range", f"The CIDR '{block}' conflicts with the CIDRs of the VPC")
    association = {"AssociationId": new_id("vpc-cidr-assoc"), "CidrBlock": str(block)}
    vpc.setdefault("MoreCidrBlocks", []).append(association)
    for table in _tables_of(vpc):
        table["Routes"].append({"DestinationCidrBlock": str(block), "GatewayId": "local",
                                "Origin": "CreateRouteTable"})
    return {"VpcId": vpc["VpcId"], "CidrBlockAssociation": {**association, "CidrBlockState": _state("associating")}}


@EC2.action("DisassociateVpcCidrBlock")
def disassociate_cidr(request):
    wanted = request["AssociationId"]
    for vpc in ec2._vpcs.values():
        for kind, block, member in (("MoreCidrBlocks", "CidrBlock", "CidrBlockAssociation"),
                                    ("Ipv6CidrBlocks", "Ipv6CidrBlock", "Ipv6CidrBlockAssociation")):
            for association in vpc.get(kind, []):
                if association["AssociationId"] == wanted:
                    vpc[kind].remove(association)
                    for table in _tables_of(vpc):
                        table["Routes"] = [route for route in table["Routes"] if route.get("GatewayId") != "local"
                                           or route.get(f"Destination{block}") != association[block]]
                    return {"VpcId": vpc["VpcId"],
                            member: {**association, f"{block}State": _state("disassociating")}}
    raise ApiError("InvalidVpcCidrBlockAssociationID.NotFound", f"The vpc CIDR block association ID '{wanted}' does "
                                                                "not exist")


# Subnets

def _subnet_arn(subnet):
    return f"arn:aws:ec2:{get_region()}:{subnet['OwnerId']}:subnet/{subnet['SubnetId']}"


def _subnet_view(subnet):
    size = ipaddress.ip_network(subnet["CidrBlock"], strict=False).num_addresses
    dns = ec2._subnet_dns_name_options(subnet)
    return {
        **{member: subnet[member] for member in (
            "SubnetId", "VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId", "State", "DefaultForAz",
            "MapPublicIpOnLaunch", "OwnerId")},
        "AvailableIpAddressCount": size - _RESERVED - 1 - len(subnet.get("Taken", [])),
        "SubnetArn": _subnet_arn(subnet), "AssignIpv6AddressOnCreation": False, "MapCustomerOwnedIpOnLaunch": False,
        "EnableDns64": subnet.get("EnableDns64", False), "Ipv6Native": False, "Ipv6CidrBlockAssociationSet": [],
        "PrivateDnsNameOptionsOnLaunch": {member: dns[member] for member in (
            "HostnameType", "EnableResourceNameDnsARecord", "EnableResourceNameDnsAAAARecord")},
        "Tags": ec2._tags.get(subnet["SubnetId"], [])}


@EC2.action("CreateSubnet")
def create_subnet(request):
    vpc, block = vpc_of(request["VpcId"]), cidr(request.get("CidrBlock", ""))
    if not any(block.subnet_of(ipaddress.ip_network(other, strict=False)) for other in ipv4_blocks(vpc)):
        raise ApiError("InvalidSubnet.Range", f"The CIDR '{block}' is invalid.")
    if any(block.overlaps(ipaddress.ip_network(other["CidrBlock"], strict=False)) for other in ec2._subnets.values()
           if other["VpcId"] == vpc["VpcId"]):
        raise ApiError("InvalidSubnet.Conflict", f"The CIDR '{block}' conflicts with another subnet")
    zone = (request.get("AvailabilityZone") or ec2._zone_name_for_az_id(request.get("AvailabilityZoneId"))
            or f"{get_region()}a")
    if zone not in [f"{get_region()}{letter}" for letter in "abc"]:
        raise ApiError("InvalidParameterValue", f"Value ({zone}) for parameter availabilityZone is invalid.")
    subnet_id = new_id("subnet")
    ec2._subnets[subnet_id] = {
        "SubnetId": subnet_id, "VpcId": vpc["VpcId"], "CidrBlock": str(block), "AvailabilityZone": zone,
        "AvailabilityZoneId": ec2._az_id_for_zone_name(zone), "State": "available", "DefaultForAz": False,
        "AvailableIpAddressCount": block.num_addresses - _RESERVED - 1, "MapPublicIpOnLaunch": False,
        "OwnerId": get_account_id()}
    ec2._tags[subnet_id] = tags_for("subnet", request)
    return {"Subnet": _subnet_view(ec2._subnets[subnet_id])}


@EC2.action("DescribeSubnets")
def describe_subnets(request):
    subnets = [subnet_of(i) for i in request["SubnetIds"]] if "SubnetIds" in request else ec2._subnets.values()
    rows = ec2_filter(request, [_subnet_view(subnet) for subnet in subnets], {
        "subnet-id": "SubnetId", "vpc-id": "VpcId", "availability-zone": "AvailabilityZone",
        "availabilityZone": "AvailabilityZone", "availability-zone-id": "AvailabilityZoneId",
        "availableIpAddressCount": "AvailableIpAddressCount", "available-ip-address-count": "AvailableIpAddressCount",
        "cidr-block": "CidrBlock", "cidr": "CidrBlock", "cidrBlock": "CidrBlock", "default-for-az": "DefaultForAz",
        "defaultForAz": "DefaultForAz", "owner-id": "OwnerId", "state": "State", "subnet-arn": "SubnetArn",
        "map-public-ip-on-launch": "MapPublicIpOnLaunch"})
    return ec2_page(request, "Subnets", rows)


@EC2.action("DeleteSubnet")
def delete_subnet(request):
    subnet_id = subnet_of(request["SubnetId"])["SubnetId"]
    used = (any(subnet_id in balancer.get("Subnets", []) for balancer in alb._lbs.values())
            or any(interface["SubnetId"] == subnet_id for interface in ec2._network_interfaces.values()))
    if used:
        raise ApiError("DependencyViolation", f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
    for table in ec2._route_tables.values():
        table["Associations"] = [a for a in table["Associations"] if a.get("SubnetId") != subnet_id]
    del ec2._subnets[subnet_id]


def install():
    """Complete the default VPC with a route to its internet gateway and the rule of its default security group."""
    init_defaults = ec2._init_defaults

    def complete():
        _allow_members(ec2._DEFAULT_SG_ID)
        routes = ec2._route_tables[ec2._DEFAULT_RTB_ID]["Routes"]
        if len(routes) == 1:
            routes.append({"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": ec2._DEFAULT_IGW_ID,
                           "Origin": "CreateRoute"})

    def init_complete_defaults():
        init_defaults()
        complete()

    ec2._init_defaults = init_complete_defaults
    complete()
