"""EC2: network interfaces, including those that a Network Load Balancer has in each of its subnets."""
import secrets

from ministack.core.responses import get_account_id
from ministack.services import alb, ec2

from . import clock, vpcs
from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_MEMBERS = ("NetworkInterfaceId", "SubnetId", "VpcId", "AvailabilityZone", "Description", "OwnerId", "Status",
            "PrivateIpAddress", "InterfaceType", "MacAddress", "SourceDestCheck", "Attachment")


def _new(subnet, address, description, kind="interface"):
    return {"NetworkInterfaceId": new_id("eni"), "SubnetId": subnet["SubnetId"], "VpcId": subnet["VpcId"],
            "AvailabilityZone": subnet["AvailabilityZone"], "OwnerId": get_account_id(), "Status": "available",
            "Description": description, "PrivateIpAddress": address, "InterfaceType": kind, "SourceDestCheck": True,
            "MacAddress": "02:" + ":".join(secrets.token_hex(1) for _ in range(5)), "Groups": [], "Attachment": None}


def groups_of(group_ids):
    """The groups as an interface lists them. Raises EC2's error if one does not exist."""
    for group_id in group_ids:
        if group_id not in ec2._security_groups:
            raise ApiError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
    return [{"GroupId": group, "GroupName": ec2._security_groups[group]["GroupName"]} for group in group_ids]


def add(subnet, groups, address, description="", attached_to=None):
    """A new interface, attached to an instance as its primary one if `attached_to` is given."""
    interface = _new(subnet, address, description)
    interface["Groups"] = groups_of(groups)
    if attached_to:
        interface |= {"Status": "in-use", "Attachment": {
            "AttachmentId": new_id("eni-attach"), "InstanceId": attached_to, "InstanceOwnerId": get_account_id(),
            "DeviceIndex": 0, "NetworkCardIndex": 0, "Status": "attached", "AttachTime": clock.iso(),
            "DeleteOnTermination": True}}
    ec2._network_interfaces[interface["NetworkInterfaceId"]] = interface
    return interface


def remove(interface_id):
    interface = ec2._network_interfaces.pop(interface_id)
    vpcs.free_address(interface["SubnetId"], interface["PrivateIpAddress"])


def _of_load_balancer(balancer):
    """ELB creates these interfaces and describes them as `ELB net/NAME/ID`. Their addresses do not change."""
    interfaces = balancer.setdefault("NetworkInterfaces", {})
    for subnet_id in balancer["Subnets"]:
        subnet = ec2._subnets[subnet_id]
        if subnet_id not in interfaces:
            description = f"ELB {balancer['LoadBalancerArn'].split(':loadbalancer/')[1]}"
            interfaces[subnet_id] = {
                **_new(subnet, vpcs.take_address(subnet), description, "network_load_balancer"),
                "Status": "in-use", "Attachment": {
                    "AttachmentId": new_id("ela-attach"), "InstanceOwnerId": "amazon-aws", "DeviceIndex": 1,
                    "Status": "attached", "DeleteOnTermination": False}}
    groups = [{"GroupId": group, "GroupName": ec2._security_groups.get(group, {}).get("GroupName")}
              for group in balancer["SecurityGroups"]]
    return [_view(interfaces[subnet_id], groups, "amazon-elb") for subnet_id in balancer["Subnets"]]


def _view(interface, groups, requester=None):
    address = interface.get("PrivateIpAddress")
    attachment = interface.get("Attachment")
    return {**{member: interface.get(member) for member in _MEMBERS}, "Attachment": attachment or None,
            "RequesterId": requester, "RequesterManaged": requester is not None,
            "Groups": groups,
            "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": address}],
            "TagSet": ec2._tags.get(interface["NetworkInterfaceId"], [])}


@EC2.action("CreateNetworkInterface")
def create(request):
    subnet = vpcs.subnet_of(request["SubnetId"])
    groups = request.get("Groups") or [ec2._vpcs[subnet["VpcId"]]["DefaultSecurityGroupId"]]
    groups_of(groups)
    interface = add(subnet, groups, vpcs.take_address(subnet, request.get("PrivateIpAddress")),
                    request.get("Description", ""))
    ec2._tags[interface["NetworkInterfaceId"]] = tags_for("network-interface", request)
    return {"NetworkInterface": {**_view(interface, interface["Groups"]), "Status": "pending"},
            "ClientToken": request.get("ClientToken")}


@EC2.action("DeleteNetworkInterface")
def delete(request):
    interface_id = request["NetworkInterfaceId"]
    if interface_id not in ec2._network_interfaces:
        raise ApiError("InvalidNetworkInterfaceID.NotFound",
                       f"The networkInterface ID '{interface_id}' does not exist")
    if ec2._network_interfaces[interface_id].get("Attachment"):
        raise ApiError("InvalidParameterValue", f"Network interface '{interface_id}' is currently in use.")
    remove(interface_id)


@EC2.action("DescribeNetworkInterfaces")
def describe(request):
    rows = [_view(interface, interface.get("Groups") or []) for interface in ec2._network_interfaces.values()]
    rows += [row for balancer in alb._lbs.values() if balancer["Type"] == "network"
             for row in _of_load_balancer(balancer)]
    wanted = request.get("NetworkInterfaceIds", [])
    for interface_id in wanted:
        if interface_id not in [row["NetworkInterfaceId"] for row in rows]:
            raise ApiError("InvalidNetworkInterfaceID.NotFound",
                           f"The networkInterface ID '{interface_id}' does not exist")
    rows = ec2_filter(request, [row for row in rows if not wanted or row["NetworkInterfaceId"] in wanted], {
        "network-interface-id": "NetworkInterfaceId", "subnet-id": "SubnetId", "vpc-id": "VpcId",
        "availability-zone": "AvailabilityZone", "description": "Description", "owner-id": "OwnerId",
        "status": "Status", "interface-type": "InterfaceType", "requester-id": "RequesterId",
        "requester-managed": "RequesterManaged", "private-ip-address": "PrivateIpAddress",
        "addresses.private-ip-address": "PrivateIpAddress",
        "attachment.instance-id": lambda row: (row["Attachment"] or {}).get("InstanceId"),
        "group-id": lambda row: [group["GroupId"] for group in row["Groups"]]})
    return ec2_page(request, "NetworkInterfaces", rows)
