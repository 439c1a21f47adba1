"""EC2: route tables. A route's state is computed: `blackhole` while its target cannot take packets."""
from ministack.core.responses import get_account_id
from ministack.services import ec2

from . import endpoint_connections, prefix_lists, transit_gateways, vpcs
from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
_TARGETS = ("GatewayId", "VpcEndpointId", "NatGatewayId", "InstanceId", "NetworkInterfaceId",
            "VpcPeeringConnectionId", "TransitGatewayId", "EgressOnlyInternetGatewayId")


def _table(table_id):
    if table_id not in ec2._route_tables:
        raise ApiError("InvalidRouteTableID.NotFound", f"The routeTable ID '{table_id}' does not exist")
    return ec2._route_tables[table_id]


# Route targets: for each kind, whether the target exists and whether it takes packets from this VPC

def _gateway(gateway_id, vpc_id):
    if gateway_id == "local":
        return True, True
    if gateway_id.startswith("vpce-"):
        return _endpoint(gateway_id, vpc_id)
    gateway = (ec2._internet_gateways.get(gateway_id) or ec2._vpn_gateways.get(gateway_id)
               or ec2._egress_igws.get(gateway_id))
    if not gateway:
        return False, False
    attached = gateway.get("Attachments") or [{"VpcId": gateway.get("VpcId")}]
    return True, any(attachment.get("VpcId") == vpc_id for attachment in attached)


def _endpoint(endpoint_id, _vpc_id):
    found = endpoint_id in ec2._vpc_endpoints or endpoint_connections.find(endpoint_id) is not None
    return found, found


def _nat_gateway(nat_id, _vpc_id):
    nat = ec2._nat_gateways.get(nat_id)
    return nat is not None, nat is not None and nat["State"] == "available"


def _interface(interface_id, _vpc_id):
    """Whether the interface exists, and whether it takes packets: it does while attached to a running instance."""
    interface = ec2._network_interfaces.get(interface_id)
    instance = ec2._instances.get(((interface or {}).get("Attachment") or {}).get("InstanceId"))
    return interface is not None, instance is not None and instance["State"]["Name"] in ("pending", "running")


def _peering(peering_id, _vpc_id):
    peering = ec2._vpc_peering.get(peering_id)
    return peering is not None, peering is not None and peering["Status"]["Code"] == "active"


_REACH = {"GatewayId": (_gateway, "InvalidGatewayID.NotFound"),
          "VpcEndpointId": (_endpoint, "InvalidVpcEndpointId.NotFound"),
          "NatGatewayId": (_nat_gateway, "InvalidNatGatewayID.NotFound"),
          "NetworkInterfaceId": (_interface, "InvalidNetworkInterfaceID.NotFound"),
          "VpcPeeringConnectionId": (_peering, "InvalidVpcPeeringConnectionID.NotFound"),
          "TransitGatewayId": (transit_gateways.reach, "InvalidTransitGatewayID.NotFound"),
          "EgressOnlyInternetGatewayId": (_gateway, "InvalidGatewayID.NotFound")}


def _target(request, vpc_id):
    """The request's one target, checked. An instance stands for its primary interface."""
    named = {member: request[member] for member in _TARGETS if member in request}
    if request.get("LocalTarget"):
        named["GatewayId"] = "local"
    if len(named) != 1:
        raise ApiError("InvalidParameterCombination" if named else "MissingParameter",
                       f"The request must contain exactly one of {', '.join(_TARGETS)}")
    [(kind, target)] = named.items()
    if kind == "InstanceId":
        interfaces = [interface["NetworkInterfaceId"] for interface in ec2._network_interfaces.values()
                      if (interface.get("Attachment") or {}).get("InstanceId") == target]
        if not interfaces:
            raise ApiError("InvalidInstanceID.NotFound", f"The instance ID '{target}' does not exist")
        return {"NetworkInterfaceId": interfaces[0]}
    reach, missing = _REACH[kind]
    exists, reachable = reach(target, vpc_id)
    if not exists:
        raise ApiError(missing, f"The {kind} '{target}' does not exist")
    if kind == "GatewayId" and not reachable:
        raise ApiError("InvalidParameterValue", f"route table and network gateway {target} belong to different "
                                                "networks")
    if kind == "TransitGatewayId" and not reachable:
        raise ApiError(missing, f"The transitGateway ID '{target}' does not exist.")
    return {kind: target}


def _destination(request):
    named = {member: request[member] for member in _DESTINATIONS if member in request}
    if len(named) != 1:
        raise ApiError("InvalidParameterCombination" if named else "MissingParameter",
                       f"The request must contain exactly one of {', '.join(_DESTINATIONS)}")
    [(kind, destination)] = named.items()
    if kind == "DestinationPrefixListId":
        prefix_lists.prefix_list(destination)
    else:
        destination = str(vpcs.cidr(destination, kind))
    return kind, destination


def _existing(table, kind, destination):
    return next((route for route in table["Routes"] if route.get(kind) == destination), None)


def _route(table, request):
    kind, destination = _destination(request)
    route = _existing(table, kind, destination)
    if not route:
        raise ApiError("InvalidRoute.NotFound", f"no route with destination {destination} in route table "
                                                f"{table['RouteTableId']}")
    return route


@EC2.action("CreateRoute")
def create_route(request):
    table = _table(request["RouteTableId"])
    kind, destination = _destination(request)
    target = _target(request, table["VpcId"])
    if _existing(table, kind, destination):
        raise ApiError("RouteAlreadyExists", f"The route identified by {destination} already exists.")
    table["Routes"].append({kind: destination, **target, "Origin": "CreateRoute"})
    return {"Return": True}


@EC2.action("ReplaceRoute")
def replace_route(request):
    table = _table(request["RouteTableId"])
    route, target = _route(table, request), _target(request, table["VpcId"])
    for member in _TARGETS:
        route.pop(member, None)
    route.update(target)


@EC2.action("DeleteRoute")
def delete_route(request):
    table = _table(request["RouteTableId"])
    route = _route(table, request)
    if route["Origin"] == "CreateRouteTable":
        raise ApiError("InvalidParameterValue", f"cannot remove local route {_destination(request)[1]} in route table "
                                                f"{table['RouteTableId']}")
    table["Routes"].remove(route)


# Tables

def _route_view(route, vpc_id):
    kind, target = next((member, route[member]) for member in _TARGETS if route.get(member))
    reach = _REACH[kind][0] if kind in _REACH else None
    view = {**{member: route.get(member) for member in _DESTINATIONS}, "Origin": route["Origin"],
            "State": "active" if reach is None or reach(target, vpc_id)[1] else "blackhole",
            "GatewayId" if kind == "VpcEndpointId" else kind: target}
    attachment = (ec2._network_interfaces.get(target) or {}).get("Attachment")
    if attachment:
        view |= {"InstanceId": attachment["InstanceId"], "InstanceOwnerId": get_account_id()}
    return view


def _association_view(association):
    return {**{member: association.get(member) for member in ("RouteTableAssociationId", "RouteTableId", "SubnetId",
                                                              "GatewayId")},
            "Main": association.get("Main", False), "AssociationState": {"State": "associated"}}


def _view(table):
    return {
        "RouteTableId": table["RouteTableId"], "VpcId": table["VpcId"], "OwnerId": table["OwnerId"],
        "Routes": [_route_view(route, table["VpcId"]) for route in table["Routes"]],
        "Associations": [_association_view(association) for association in table["Associations"]],
        "PropagatingVgws": [{"GatewayId": gateway} for gateway in table.get("PropagatingVgws", [])],
        "Tags": ec2._tags.get(table["RouteTableId"], [])}


@EC2.action("DescribeRouteTables")
def describe(request):
    tables = [_table(i) for i in request["RouteTableIds"]] if "RouteTableIds" in request else (
        ec2._route_tables.values())

    def of(list_member, member):
        def values(row):
            return [str(item[member]).lower() if isinstance(item[member], bool) else item[member]
                    for item in row[list_member] if item.get(member) is not None]
        return values

    fields = {"route-table-id": "RouteTableId", "vpc-id": "VpcId", "owner-id": "OwnerId",
              "association.route-table-association-id": of("Associations", "RouteTableAssociationId"),
              "association.route-table-id": of("Associations", "RouteTableId"),
              "association.subnet-id": of("Associations", "SubnetId"),
              "association.gateway-id": of("Associations", "GatewayId"),
              "association.main": of("Associations", "Main")}
    for name, member in {
            "destination-cidr-block": "DestinationCidrBlock", "destination-prefix-list-id": "DestinationPrefixListId",
            "destination-ipv6-cidr-block": "DestinationIpv6CidrBlock", "gateway-id": "GatewayId",
            "instance-id": "InstanceId", "nat-gateway-id": "NatGatewayId", "origin": "Origin", "state": "State",
            "transit-gateway-id": "TransitGatewayId", "vpc-peering-connection-id": "VpcPeeringConnectionId"}.items():
        fields[f"route.{name}"] = of("Routes", member)
    rows = ec2_filter(request, [_view(table) for table in tables], fields)
    return ec2_page(request, "RouteTables", rows, largest=100)


@EC2.action("CreateRouteTable")
def create(request):
    vpc = vpcs.vpc_of(request["VpcId"])
    table_id = new_id("rtb")
    local = [{"DestinationCidrBlock": block} for block in vpcs.ipv4_blocks(vpc)] + [
        {"DestinationIpv6CidrBlock": block} for block in vpcs.ipv6_blocks(vpc)]
    ec2._route_tables[table_id] = {
        "RouteTableId": table_id, "VpcId": vpc["VpcId"], "OwnerId": get_account_id(), "Associations": [],
        "Routes": [{**destination, "GatewayId": "local", "Origin": "CreateRouteTable"} for destination in local]}
    ec2._tags[table_id] = tags_for("route-table", request)
    return {"RouteTable": _view(ec2._route_tables[table_id]), "ClientToken": request.get("ClientToken")}


@EC2.action("DeleteRouteTable")
def delete(request):
    table = _table(request["RouteTableId"])
    if table["Associations"]:
        raise ApiError("DependencyViolation", f"The routeTable '{table['RouteTableId']}' has dependencies and cannot "
                                              "be deleted.")
    del ec2._route_tables[table["RouteTableId"]]


@EC2.action("AssociateRouteTable")
def associate(request):
    table, subnet = _table(request["RouteTableId"]), vpcs.subnet_of(request.get("SubnetId", ""))
    if subnet["VpcId"] != table["VpcId"]:
        raise ApiError("InvalidParameterValue", f"route table {table['RouteTableId']} and subnet "
                                                f"{subnet['SubnetId']} belong to different networks")
    for other in ec2._route_tables.values():
        for association in other["Associations"]:
            if association.get("SubnetId") == subnet["SubnetId"]:
                if other is table:
                    return _associated("AssociationId", association)
                raise ApiError("Resource.AlreadyAssociated", "the specified association for route table "
                               f"{table['RouteTableId']} conflicts with an existing association")
    return _associated("AssociationId", _associate(table, SubnetId=subnet["SubnetId"], Main=False))


def _associate(table, **more):
    association = {"RouteTableAssociationId": new_id("rtbassoc"), "RouteTableId": table["RouteTableId"], **more}
    table["Associations"].append(association)
    return association


def _associated(member, association):
    return {member: association["RouteTableAssociationId"], "AssociationState": {"State": "associated"}}


def _take_association(association_id, keep_main):
    for table in ec2._route_tables.values():
        for association in table["Associations"]:
            if association["RouteTableAssociationId"] == association_id:
                if keep_main and association.get("Main"):
                    raise ApiError("InvalidParameterValue", "cannot disassociate the main route table association "
                                                            f"{association_id}")
                table["Associations"].remove(association)
                return association
    raise ApiError("InvalidAssociationID.NotFound", f"The association ID '{association_id}' does not exist")


@EC2.action("ReplaceRouteTableAssociation")
def replace_association(request):
    """Give a subnet another table, or the VPC another main table."""
    table = _table(request["RouteTableId"])
    old = _take_association(request["AssociationId"], keep_main=False)
    kept = {member: old[member] for member in ("SubnetId", "GatewayId", "Main") if member in old}
    return _associated("NewAssociationId", _associate(table, **kept))


@EC2.action("DisassociateRouteTable")
def disassociate(request):
    _take_association(request["AssociationId"], keep_main=True)
