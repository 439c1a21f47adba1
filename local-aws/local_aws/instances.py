"""EC2: instances in their subnets, each with a primary network interface."""
from ministack.core.responses import get_account_id
from ministack.services import ec2

from . import managed_resources, network_interfaces, vpcs
from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError, UseMinistack


def _view(instance, state=None):
    """EC2's view of an instance, with its primary interface's groups. A terminated one has no network members."""
    in_network = instance["State"]["Name"] != "terminated"
    interfaces = network_interfaces.of_instance(instance["InstanceId"])
    placed = {member: instance[member] for member in ("SubnetId", "VpcId", "PrivateIpAddress")} if in_network else {}
    ipv6 = next(iter(interfaces[0].get("Ipv6", [])), None) if interfaces else None
    return {
        **{member: instance[member] for member in (
            "InstanceId", "ImageId", "InstanceType", "LaunchTime", "AmiLaunchIndex", "Architecture", "RootDeviceType",
            "RootDeviceName", "Hypervisor", "Monitoring", "PrivateDnsName")},
        **placed, "Ipv6Address": ipv6,
        "State": state or instance["State"], "KeyName": instance.get("KeyName") or None,
        "Placement": {**instance["Placement"], "GroupName": ""},
        "SecurityGroups": interfaces[0]["Groups"] if interfaces else instance["SecurityGroups"],
        "SourceDestCheck": True, "VirtualizationType": instance["Virtualization"],
        "NetworkInterfaces": [_interface_view(interface) for interface in interfaces],
        "Operator": managed_resources.operator(instance["InstanceId"]),
        "Tags": ec2._tags.get(instance["InstanceId"], [])}


def _interface_view(interface):
    attachment = interface["Attachment"]
    return {
        **{member: interface[member] for member in ("NetworkInterfaceId", "SubnetId", "VpcId", "PrivateIpAddress",
                                                    "OwnerId", "Status", "Description", "Groups", "InterfaceType",
                                                    "MacAddress", "SourceDestCheck")},
        "PrivateIpAddresses": network_interfaces.addresses_view(interface),
        "Ipv6Addresses": network_interfaces.ipv6_view(interface),
        "Operator": network_interfaces.operator_of(interface),
        "Attachment": {member: attachment.get(member) for member in ("AttachmentId", "AttachTime", "DeviceIndex",
                                                                     "DeleteOnTermination", "Status",
                                                                     "NetworkCardIndex")}}


@EC2.action("RunInstances")
def run(request):
    if ec2._registered_image(request.get("ImageId", "")) is not None:
        raise UseMinistack
    asked = (request.get("NetworkInterfaces") or [{}])[0]
    default = next((i for i, subnet in ec2._subnets.items() if subnet["DefaultForAz"]), None)
    subnet_id = request.get("SubnetId") or asked.get("SubnetId") or default
    if subnet_id is None:
        raise ApiError("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
    subnet = vpcs.subnet_of(subnet_id)
    if request["MinCount"] > request["MaxCount"]:
        raise ApiError("InvalidParameterValue", "Value (minCount) must not be greater than maxCount.")
    groups = (request.get("SecurityGroupIds") or asked.get("Groups")
              or [ec2._vpcs[subnet["VpcId"]]["DefaultSecurityGroupId"]])
    network_interfaces.groups_of(groups)
    wanted = {**asked, "PrivateIpAddress": request.get("PrivateIpAddress") or asked.get("PrivateIpAddress")}
    reservation, created = new_id("r"), []
    ipv6 = network_interfaces.take_ipv6({**asked, **request}, subnet)
    for number in range(request["MaxCount"]):
        addresses = network_interfaces.take_addresses(wanted, subnet)
        [instance] = ec2._launch_instances_internal(
            request.get("ImageId", "ami-00000000"), request.get("InstanceType", "m1.small"), subnet["SubnetId"], 1,
            request.get("KeyName", ""), request.get("UserData", ""), groups, addresses[0])
        instance.update(AmiLaunchIndex=number, ReservationId=reservation)
        instance["Placement"] = {"AvailabilityZone": subnet["AvailabilityZone"],
                                 "AvailabilityZoneId": subnet["AvailabilityZoneId"], "Tenancy": "default"}
        interface = network_interfaces.add(subnet, groups, addresses, attached_to=instance["InstanceId"])
        interface.update(Ipv6=ipv6, PrimaryIpv6=request.get("EnablePrimaryIpv6") or asked.get("PrimaryIpv6"))
        ec2._tags[instance["InstanceId"]] = tags_for("instance", request)
        created.append(instance)
    return {"ReservationId": reservation, "OwnerId": get_account_id(), "Groups": [],
            "Instances": [_view(instance, {"Code": 0, "Name": "pending"}) for instance in created]}


@EC2.action("DescribeInstances")
def describe(request):
    ec2._cleanup_terminated()
    rows, wanted = [_view(instance) for instance in ec2._instances.values()], request.get("InstanceIds", [])
    rows = managed_resources.visible(request, rows)
    for instance_id in wanted:
        if not ec2._INSTANCE_ID_RE.match(instance_id):
            raise ApiError("InvalidInstanceID.Malformed", f"Invalid id: \"{instance_id}\"")
        if instance_id not in [row["InstanceId"] for row in rows]:
            raise ApiError("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
    rows = ec2_filter(request, [row for row in rows if not wanted or row["InstanceId"] in wanted], {
        "instance-id": "InstanceId", "instance-type": "InstanceType", "image-id": "ImageId", "vpc-id": "VpcId",
        "subnet-id": "SubnetId", "private-ip-address": "PrivateIpAddress", "private-dns-name": "PrivateDnsName",
        "instance-state-name": lambda row: row["State"]["Name"],
        "instance-state-code": lambda row: row["State"]["Code"],
        "availability-zone": lambda row: row["Placement"]["AvailabilityZone"],
        "instance.group-id": lambda row: [group["GroupId"] for group in row["SecurityGroups"]],
        **managed_resources.FILTERS,
        "network-interface.group-id": lambda row: [group["GroupId"] for interface in row["NetworkInterfaces"]
                                                   for group in interface["Groups"]],
        "network-interface.addresses.private-ip-address": lambda row: [
            address["PrivateIpAddress"] for interface in row["NetworkInterfaces"]
            for address in interface["PrivateIpAddresses"]],
        "network-interface.network-interface-id":
            lambda row: [interface["NetworkInterfaceId"] for interface in row["NetworkInterfaces"]]})
    return ec2_page(request, "Reservations", [_reservation(row) for row in rows])


def _reservation(row):
    instance_id = row["InstanceId"]
    return {"ReservationId": ec2._instances[instance_id].get("ReservationId", f"r-{instance_id[2:]}"),
            "OwnerId": get_account_id(), "Groups": [], "Instances": [row]}


@EC2.action("ModifyInstanceAttribute")
def modify(request):
    """Change an instance. Its groups are those of its primary interface."""
    if "Groups" not in request:
        raise UseMinistack
    interfaces = network_interfaces.of_instance(request["InstanceId"])
    if not interfaces:
        raise ApiError("InvalidInstanceID.NotFound", f"The instance ID '{request['InstanceId']}' does not exist")
    interfaces[0]["Groups"] = network_interfaces.groups_of(request["Groups"])


@EC2.action("TerminateInstances")
def terminate(request):
    """Remove the instances' network interfaces; ministack terminates the instances."""
    if all(instance_id in ec2._instances for instance_id in request["InstanceIds"]):
        for interface_id, interface in list(ec2._network_interfaces.items()):
            attachment = interface.get("Attachment") or {}
            if attachment.get("InstanceId") in request["InstanceIds"]:
                network_interfaces.remove(interface_id)
    raise UseMinistack
