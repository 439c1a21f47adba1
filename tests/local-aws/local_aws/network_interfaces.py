"""EC2: network interfaces, with those that a Network Load Balancer has in each of its subnets."""
import ipaddress

from ministack.core.responses import get_account_id
from ministack.services import alb, ec2

from .endpoint_services import new_id
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_MEMBERS = ("NetworkInterfaceId", "SubnetId", "VpcId", "AvailabilityZone", "Description", "OwnerId", "Status",
            "PrivateIpAddress", "InterfaceType")


def _of_load_balancer(balancer):
    """ELB requests these interfaces and describes them as `ELB net/NAME/ID`; their addresses stay the same."""
    interfaces = balancer.setdefault("NetworkInterfaces", {})
    for position, subnet_id in enumerate(balancer["Subnets"]):
        subnet = ec2._subnets[subnet_id]
        if subnet_id not in interfaces:
            number = len(alb._lbs) * 8 + position
            address = str(ipaddress.ip_network(subnet["CidrBlock"], strict=False)[200 + number % 50])
            interfaces[subnet_id] = {
                "NetworkInterfaceId": new_id("eni"), "SubnetId": subnet_id, "VpcId": subnet["VpcId"],
                "AvailabilityZone": subnet["AvailabilityZone"], "OwnerId": get_account_id(), "Status": "in-use",
                "Description": f"ELB {balancer['LoadBalancerArn'].split(':loadbalancer/')[1]}",
                "PrivateIpAddress": address, "InterfaceType": "network_load_balancer"}
    groups = [{"GroupId": group, "GroupName": ec2._security_groups.get(group, {}).get("GroupName")}
              for group in balancer["SecurityGroups"]]
    return [_view(interfaces[subnet_id], groups, "amazon-elb") for subnet_id in balancer["Subnets"]]


def _view(interface, groups, requester=None):
    address = interface.get("PrivateIpAddress")
    return {**{member: interface.get(member) for member in _MEMBERS},
            "RequesterId": requester, "RequesterManaged": requester is not None,
            "Groups": groups,
            "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": address}],
            "TagSet": ec2._tags.get(interface["NetworkInterfaceId"], [])}


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
        "group-id": lambda row: [group["GroupId"] for group in row["Groups"]]})
    return ec2_page(request, "NetworkInterfaces", rows)
