"""EC2: network interfaces, including those of a Network Load Balancer in each of its subnets."""
import ipaddress
import secrets

from ministack.core.responses import get_account_id
from ministack.services import alb, ec2

from . import clock, managed_resources, vpcs
from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_MEMBERS = ("NetworkInterfaceId", "SubnetId", "VpcId", "AvailabilityZone", "AvailabilityZoneId", "Description",
            "OwnerId", "Status", "PrivateIpAddress", "InterfaceType", "MacAddress", "SourceDestCheck")


def _new(subnet, addresses, description, kind="interface"):
    """An interface with these private IPv4 addresses, the primary one first."""
    return {"NetworkInterfaceId": new_id("eni"), "SubnetId": subnet["SubnetId"], "VpcId": subnet["VpcId"],
            "AvailabilityZone": subnet["AvailabilityZone"], "AvailabilityZoneId": subnet["AvailabilityZoneId"],
            "OwnerId": get_account_id(), "Status": "available", "Description": description,
            "PrivateIpAddress": addresses[0], "Secondary": addresses[1:], "Ipv6": [], "Prefixes": [],
            "InterfaceType": kind, "SourceDestCheck": True,
            "MacAddress": "02:" + ":".join(secrets.token_hex(1) for _ in range(5)), "Groups": [], "Attachment": None}


def groups_of(group_ids):
    """The groups in the form of an interface's list. Raises EC2's error if a group does not exist."""
    for group_id in group_ids:
        if group_id not in ec2._security_groups:
            raise ApiError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
    return [{"GroupId": group, "GroupName": ec2._security_groups[group]["GroupName"]} for group in group_ids]


def take_addresses(request, subnet):
    """The requested private IPv4 addresses, the primary one first."""
    listed = request.get("PrivateIpAddresses", [])
    primary = next((address["PrivateIpAddress"] for address in listed if address.get("Primary")), None)
    wanted = [request.get("PrivateIpAddress") or primary,
              *[address["PrivateIpAddress"] for address in listed if not address.get("Primary")],
              *[None] * request.get("SecondaryPrivateIpAddressCount", 0)]
    return [vpcs.take_address(subnet, address) for address in wanted]


def add(subnet, groups, addresses, description="", attached_to=None):
    """Add an interface; with `attached_to`, it is that instance's primary one."""
    interface = _new(subnet, addresses, description)
    interface["Groups"] = groups_of(groups)
    if attached_to:
        interface |= {"Status": "in-use", "Attachment": {
            "AttachmentId": new_id("eni-attach"), "InstanceId": attached_to, "InstanceOwnerId": get_account_id(),
            "DeviceIndex": 0, "NetworkCardIndex": 0, "Status": "attached", "AttachTime": clock.iso(),
            "DeleteOnTermination": True}}
    ec2._network_interfaces[interface["NetworkInterfaceId"]] = interface
    return interface


def add_of_database(subnet, groups):
    """Add an interface that RDS creates for a DB instance or its standby."""
    interface = add(subnet, groups, [vpcs.take_address(subnet)], "RDSNetworkInterface")
    interface |= {"Status": "in-use", "RequesterId": "amazon-rds", "Attachment": {
        "AttachmentId": new_id("eni-attach"), "InstanceOwnerId": "amazon-rds", "DeviceIndex": 1, "Status": "attached",
        "DeleteOnTermination": False}}
    return interface


def remove(interface_id):
    interface = ec2._network_interfaces.pop(interface_id)
    for address in addresses_of(interface):
        vpcs.free_address(interface["SubnetId"], address)


def of_instance(instance_id):
    """The interfaces attached to the instance, the primary one first."""
    attached = [interface for interface in ec2._network_interfaces.values()
                if (interface.get("Attachment") or {}).get("InstanceId") == instance_id]
    return sorted(attached, key=lambda interface: interface["Attachment"]["DeviceIndex"])


def of_load_balancer(balancer):
    """The interfaces that ELB creates, with the description `ELB net/NAME/ID`. Their addresses do not change.

    An attribute of the load balancer sets their number of secondary addresses:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-load-balancer-attributes.html
    """
    interfaces = balancer.setdefault("NetworkInterfaces", {})
    secondary = next((int(attribute["Value"]) for attribute in alb._lb_attrs.get(balancer["LoadBalancerArn"], [])
                      if attribute["Key"] == "secondary_ips.auto_assigned.per_subnet"), 0)
    for subnet_id in balancer["Subnets"]:
        subnet = ec2._subnets[subnet_id]
        if subnet_id not in interfaces:
            description = f"ELB {balancer['LoadBalancerArn'].split(':loadbalancer/')[1]}"
            primary = balancer.get("PrivateAddresses", {}).get(subnet_id) or vpcs.take_address(subnet)
            interfaces[subnet_id] = {
                **_new(subnet, [primary], description, "network_load_balancer"),
                "Status": "in-use", "Attachment": {
                    "AttachmentId": new_id("ela-attach"), "InstanceOwnerId": "amazon-aws", "DeviceIndex": 1,
                    "Status": "attached", "DeleteOnTermination": False}}
        more = interfaces[subnet_id]["Secondary"]
        more += [vpcs.take_address(subnet) for _ in range(secondary - len(more))]
    groups = [{"GroupId": group, "GroupName": ec2._security_groups.get(group, {}).get("GroupName")}
              for group in balancer["SecurityGroups"]]
    return [_view(interfaces[subnet_id], groups, "amazon-elb") for subnet_id in balancer["Subnets"]]


def addresses_of(interface):
    return [interface["PrivateIpAddress"], *interface.get("Secondary", [])]


def addresses_view(interface):
    return [{"Primary": number == 0, "PrivateIpAddress": address}
            for number, address in enumerate(addresses_of(interface))]


def ipv6_view(interface):
    """The IPv6 addresses. The primary one is marked only on an instance's interface whose launch asked for it."""
    return [{"Ipv6Address": address, "IsPrimaryIpv6": number == 0} if interface.get("PrimaryIpv6")
            else {"Ipv6Address": address} for number, address in enumerate(interface.get("Ipv6", []))]


def prefixes_view(interface):
    """Whole blocks of addresses, as for pods of EKS. No filter finds an interface by an address in them."""
    by_version = {4: [], 6: []}
    for prefix in interface.get("Prefixes", []):
        by_version[ipaddress.ip_network(prefix).version].append(prefix)
    return {"Ipv4Prefixes": [{"Ipv4Prefix": prefix} for prefix in by_version[4]],
            "Ipv6Prefixes": [{"Ipv6Prefix": prefix} for prefix in by_version[6]]}


def _prefixes(request, subnet):
    """The requested /28 and /80 blocks: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-prefix-eni.html"""
    ipv4 = [vpcs.cidr(prefix["Ipv4Prefix"], "Ipv4Prefix") for prefix in request.get("Ipv4Prefixes", [])]
    ipv6 = [vpcs.cidr(prefix["Ipv6Prefix"], "Ipv6Prefix") for prefix in request.get("Ipv6Prefixes", [])]
    own = ipaddress.ip_network(subnet["CidrBlock"], strict=False)
    blocks = [ipaddress.ip_network(block) for block in vpcs.ipv6_blocks(ec2._vpcs[subnet["VpcId"]])]
    if not (all(prefix.prefixlen == 28 and prefix.subnet_of(own) for prefix in ipv4)
            and all(prefix.prefixlen == 80 and any(prefix.subnet_of(block) for block in blocks) for prefix in ipv6)):
        raise ApiError("InvalidParameterValue", "A prefix is not a /28 or /80 block of the subnet's address range")
    return [str(prefix) for prefix in [*ipv4, *ipv6]]


def operator_of(interface):
    """The interface's operator. An interface of a managed instance is managed too."""
    instance_id = (interface.get("Attachment") or {}).get("InstanceId")
    return managed_resources.operator(interface["NetworkInterfaceId"], instance_id)


def _view(interface, groups, requester=None):
    return {**{member: interface.get(member) for member in _MEMBERS},
            "Attachment": interface.get("Attachment") or None,
            "RequesterId": requester, "RequesterManaged": requester is not None,
            "Groups": groups, "PrivateIpAddresses": addresses_view(interface), "Ipv6Addresses": ipv6_view(interface),
            **prefixes_view(interface),
            "Operator": operator_of(interface), "TagSet": ec2._tags.get(interface["NetworkInterfaceId"], [])}


def all_views():
    rows = [_view(interface, interface.get("Groups") or [], interface.get("RequesterId"))
            for interface in ec2._network_interfaces.values()]
    return rows + [row for balancer in alb._lbs.values() if balancer["Type"] == "network"
                   for row in of_load_balancer(balancer)]


def _not_found(interface_id):
    return ApiError("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{interface_id}' does not exist")


def _own(interface_id):
    """An interface that its account may change, and so none of a load balancer or a database."""
    interface = ec2._network_interfaces.get(interface_id, {})
    if interface and "RequesterId" not in interface:
        return interface
    if interface_id in [row["NetworkInterfaceId"] for row in all_views()]:
        raise ApiError("AuthFailure", "You do not have permission to access the specified resource.")
    raise _not_found(interface_id)


@EC2.action("CreateNetworkInterface")
def create(request):
    subnet = vpcs.subnet_of(request["SubnetId"])
    groups = request.get("Groups") or [ec2._vpcs[subnet["VpcId"]]["DefaultSecurityGroupId"]]
    groups_of(groups)
    ipv6 = take_ipv6(request, subnet)
    prefixes = _prefixes(request, subnet)
    interface = add(subnet, groups, take_addresses(request, subnet), request.get("Description", ""))
    interface.update(Ipv6=ipv6, Prefixes=prefixes)
    ec2._tags[interface["NetworkInterfaceId"]] = tags_for("network-interface", request)
    return {"NetworkInterface": {**_view(interface, interface["Groups"]), "Status": "pending"},
            "ClientToken": request.get("ClientToken")}


def take_ipv6(request, subnet):
    """The requested IPv6 addresses, the primary one first."""
    return [_ipv6(address["Ipv6Address"], subnet) for address in request.get("Ipv6Addresses", [])]


def _ipv6(text, subnet):
    """An IPv6 address of the VPC. Subnets have no IPv6 CIDR blocks here."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ApiError("InvalidParameterValue", f"Invalid IPv6 address: {text}") from None
    blocks = vpcs.ipv6_blocks(ec2._vpcs[subnet["VpcId"]])
    if not any(address in ipaddress.ip_network(block) for block in blocks):
        raise ApiError("InvalidParameterValue", f"Address {text} does not fall within the subnet's address range")
    return str(address)


@EC2.action("ModifyNetworkInterfaceAttribute")
def modify(request):
    interface = _own(request["NetworkInterfaceId"])
    if "Groups" in request:
        interface["Groups"] = groups_of(request["Groups"])
    if "Description" in request:
        interface["Description"] = request["Description"].get("Value", "")
    if "SourceDestCheck" in request:
        interface["SourceDestCheck"] = request["SourceDestCheck"].get("Value")


@EC2.action("AssignPrivateIpAddresses")
def assign(request):
    interface = _own(request["NetworkInterfaceId"])
    wanted = request.get("PrivateIpAddresses") or [None] * request.get("SecondaryPrivateIpAddressCount", 0)
    if not wanted:
        raise ApiError("MissingParameter", "Either secondaryPrivateIpAddressCount or privateIpAddress is required")
    subnet = vpcs.subnet_of(interface["SubnetId"])
    new = [vpcs.take_address(subnet, address) for address in wanted]
    interface.setdefault("Secondary", []).extend(new)
    return {"NetworkInterfaceId": interface["NetworkInterfaceId"],
            "AssignedPrivateIpAddresses": [{"PrivateIpAddress": address} for address in new]}


@EC2.action("UnassignPrivateIpAddresses")
def unassign(request):
    interface = _own(request["NetworkInterfaceId"])
    for address in request.get("PrivateIpAddresses", []):
        if address not in interface.get("Secondary", []):
            raise ApiError("InvalidParameterValue", f"Some of [{address}] are not assigned to interface "
                                                    f"{interface['NetworkInterfaceId']}")
        interface["Secondary"].remove(address)
        vpcs.free_address(interface["SubnetId"], address)


@EC2.action("DeleteNetworkInterface")
def delete(request):
    interface = _own(request["NetworkInterfaceId"])
    if interface.get("Attachment"):
        raise ApiError("InvalidParameterValue",
                       f"Network interface '{interface['NetworkInterfaceId']}' is currently in use.")
    remove(interface["NetworkInterfaceId"])


@EC2.action("DescribeNetworkInterfaces")
def describe(request):
    rows, wanted = managed_resources.visible(request, all_views()), request.get("NetworkInterfaceIds", [])
    for interface_id in wanted:
        if interface_id not in [row["NetworkInterfaceId"] for row in rows]:
            raise _not_found(interface_id)

    def addresses(row):
        return [address["PrivateIpAddress"] for address in row["PrivateIpAddresses"]]

    def attachment(member):
        return lambda row: (row["Attachment"] or {}).get(member)

    rows = ec2_filter(request, [row for row in rows if not wanted or row["NetworkInterfaceId"] in wanted], {
        "network-interface-id": "NetworkInterfaceId", "subnet-id": "SubnetId", "vpc-id": "VpcId",
        "availability-zone": "AvailabilityZone", "availability-zone-id": "AvailabilityZoneId",
        "description": "Description", "owner-id": "OwnerId", "mac-address": "MacAddress",
        "status": "Status", "interface-type": "InterfaceType", "requester-id": "RequesterId",
        "requester-managed": "RequesterManaged", "private-ip-address": addresses,
        "addresses.private-ip-address": addresses, **managed_resources.FILTERS,
        "ipv6-addresses.ipv6-address": lambda row: [address["Ipv6Address"] for address in row["Ipv6Addresses"]],
        "attachment.instance-id": attachment("InstanceId"), "attachment.attachment-id": attachment("AttachmentId"),
        "attachment.instance-owner-id": attachment("InstanceOwnerId"), "attachment.status": attachment("Status"),
        "attachment.device-index": attachment("DeviceIndex"),
        "group-id": lambda row: [group["GroupId"] for group in row["Groups"]]})
    return ec2_page(request, "NetworkInterfaces", rows)
