"""EC2: interface endpoints to endpoint services, and their connections in the providers' view."""
import re
from dataclasses import dataclass, field

from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2

from . import clock, connection_notifications, delays, endpoint_services, faults
from .endpoint_services import EndpointService, new_id, owned, tags_for, unsuccessful_item
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError, UseMinistack

_ESTABLISHED = ("pending", "available", "partial")
ENDPOINT_ID = re.compile(r"vpce-[0-9a-f]{8}([0-9a-f]{9})?")


@dataclass
class Connection:
    """A consumer's endpoint, which is also a connection to the provider's service.

    EC2 sends its state in lower camel case: pendingAcceptance, pending, available, rejected, deleting, deleted, …
    """

    endpoint_id: str
    service: EndpointService
    consumer: str
    consumer_region: str
    endpoint: dict  # the consumer's own members of the VpcEndpoint
    connection_id: str = field(default_factory=lambda: new_id("vpce-con"))
    created: str = field(default_factory=clock.iso)
    states: list = field(default_factory=list)  # [(when it begins, when its provider sees it, state)]
    forced: dict = field(default_factory=dict)  # members of the provider's view that a test overrides

    def move(self, state, *later):
        """Enter a state now, and later states after a delay: (seconds from now, state)."""
        now = clock.now()
        self.states = [entry for entry in self.states if entry[0] <= now]
        for wait, entered in [(0, state), *later]:
            self.states.append((now + wait, now + wait + delays.CONNECTIONS, entered))

    def current_state(self):
        now = clock.now()
        return next(state for entered, _, state in reversed(self.states) if entered <= now)

    def listed_state(self):
        """The state in the provider's list, which may lag behind; None: not listed yet."""
        now = clock.now()
        return next((state for _, listed, state in reversed(self.states) if listed <= now), None)

    def establish(self):
        self.move("pending", (clock.ESTABLISH_DELAY, "available"))

    def delete(self):
        self.move("deleting", (clock.ESTABLISH_DELAY, "deleted"), (clock.ESTABLISH_DELAY + clock.minutes(1), "gone"))

    def tags(self):
        return ec2._tags.get_scoped(self.consumer, self.consumer_region, self.endpoint_id, [])

    def provider_view(self):
        remote = self.consumer_region != self.service.region
        tags = ec2._tags.get_scoped(self.service.account, self.service.region, self.connection_id, [])
        return {
            "ServiceId": self.service.service_id,
            "VpcEndpointId": self.endpoint_id,
            "VpcEndpointOwner": self.consumer,
            "VpcEndpointState": self.listed_state(),
            "CreationTimestamp": self.created,
            "NetworkLoadBalancerArns": self.service.load_balancers,
            "IpAddressType": self.endpoint["IpAddressType"],
            "VpcEndpointConnectionId": self.connection_id,
            "Tags": tags,
            "VpcEndpointRegion": self.consumer_region if remote else None,
            **self.forced,
        }

    def consumer_view(self):
        return {
            "VpcEndpointId": self.endpoint_id,
            "VpcEndpointType": "Interface",
            "ServiceName": self.service.name,
            "State": self.current_state(),
            "RequesterManaged": False,
            "CreationTimestamp": self.created,
            "OwnerId": self.consumer,
            "ServiceRegion": self.service.region,
            "DnsEntries": [{"DnsName": f"{self.endpoint_id}-{self.connection_id[-8:]}.{self.service.service_id}."
                                       f"{self.service.region}.vpce.amazonaws.com"}],
            "Tags": self.tags(),
            **self.endpoint,
        }


_connections: dict[str, Connection] = {}


def _existing():
    return [connection for connection in list(_connections.values()) if connection.current_state() != "gone"]


def _listed():
    """The connections that their providers' lists contain."""
    for endpoint_id in [i for i, connection in list(_connections.items()) if connection.listed_state() == "gone"]:
        del _connections[endpoint_id]
    return [connection for connection in list(_connections.values()) if connection.listed_state()]


def find(endpoint_id):
    return next((connection for connection in _existing() if connection.endpoint_id == endpoint_id), None)


def lead_to(load_balancer):
    """Whether an endpoint service of this load balancer has an established connection."""
    return any(load_balancer in connection.service.load_balancers
               and connection.current_state() in _ESTABLISHED for connection in _existing())


@endpoint_services.refuse_delete_when
def _has_connections(service):
    if any(c.service is service and c.current_state() in ("pendingAcceptance", *_ESTABLISHED)
           for c in _existing()):
        return ApiError("ExistingVpcEndpointConnections", f"Service {service.service_id} has existing active VPC "
                                                          "Endpoint connections!")
    return None


# The consumer's side

@EC2.action("CreateVpcEndpoint")
def create_endpoint(request):
    if ".vpce-svc-" not in request.get("ServiceName", ""):
        raise UseMinistack  # an endpoint for an AWS service
    service = endpoint_services.connectable(request["ServiceName"])
    subnets = request.get("SubnetIds", [])
    _check_network(service, request["VpcId"], subnets)
    connection = Connection(new_id("vpce"), service, get_account_id(), get_region(), {
        "VpcId": request["VpcId"], "SubnetIds": subnets, "RouteTableIds": [],
        "Groups": [{"GroupId": group, "GroupName": ec2._security_groups.get(group, {}).get("GroupName", "default")}
                   for group in request.get("SecurityGroupIds", [])],
        "IpAddressType": request.get("IpAddressType", "ipv4"),
        "DnsOptions": {"DnsRecordIpType": "ipv4"},
        "PrivateDnsEnabled": request.get("PrivateDnsEnabled", False),
        "NetworkInterfaceIds": [new_id("eni") for _ in subnets]})
    if service.acceptance_required:
        connection.move("pendingAcceptance")
    else:
        connection.establish()
    _connections[connection.endpoint_id] = connection
    ec2._tags[connection.endpoint_id] = tags_for("vpc-endpoint", request)
    connection_notifications.notify(service, connection.endpoint_id, "Connect")
    return {"VpcEndpoint": connection.consumer_view(), "ClientToken": request.get("ClientToken")}


def _check_network(service, vpc, subnets):
    if vpc not in ec2._vpcs:
        raise ApiError("InvalidVpcId.NotFound", f"The Vpc Id {vpc} does not exist")
    for subnet in subnets:
        if subnet not in ec2._subnets:
            raise ApiError("InvalidSubnetId.NotFound", f"The subnet ID '{subnet}' does not exist")
        if get_region() == service.region and ec2._subnets[subnet]["AvailabilityZoneId"] not in service.zone_ids():
            raise ApiError("InvalidParameter", f"The VPC endpoint service {service.name} does not support the "
                                               f"availability zone of the subnet: {subnet}.")


@EC2.action("DescribeVpcEndpoints")
def describe_endpoints(request):
    scope = (get_account_id(), get_region())
    rows = [c.consumer_view() for c in _existing() if (c.consumer, c.consumer_region) == scope]
    rows += [_aws_service_endpoint(endpoint) for endpoint in ec2._vpc_endpoints.values()]
    for endpoint_id in request.get("VpcEndpointIds", []):
        if endpoint_id not in [row["VpcEndpointId"] for row in rows]:
            raise _no_endpoint(endpoint_id)
    if "VpcEndpointIds" in request:
        rows = [row for row in rows if row["VpcEndpointId"] in request["VpcEndpointIds"]]
    rows = ec2_filter(request, rows, {
        "ip-address-type": "IpAddressType", "service-name": "ServiceName", "service-region": "ServiceRegion",
        "vpc-id": "VpcId", "vpc-endpoint-id": "VpcEndpointId", "vpc-endpoint-state": "State",
        "vpc-endpoint-type": "VpcEndpointType"})
    return ec2_page(request, "VpcEndpoints", rows)


def _aws_service_endpoint(endpoint):
    known = ("VpcEndpointId", "VpcEndpointType", "VpcId", "ServiceName", "State", "RouteTableIds", "SubnetIds",
             "OwnerId", "CreationTimestamp", "PrivateDnsEnabled")
    return {**{member: endpoint.get(member) for member in known},
            "Tags": ec2._tags.get(endpoint["VpcEndpointId"], [])}


@EC2.action("DeleteVpcEndpoints")
def delete_endpoints(request):
    unsuccessful = []
    for endpoint_id in request["VpcEndpointIds"]:
        connection = find(endpoint_id)
        if connection and connection.consumer == get_account_id():
            connection.delete()
            connection_notifications.notify(connection.service, endpoint_id, "Delete")
        elif ec2._vpc_endpoints.pop(endpoint_id, None) is None:
            unsuccessful.append(unsuccessful_item(endpoint_id, _no_endpoint(endpoint_id)))
    return {"Unsuccessful": unsuccessful}


def _no_endpoint(endpoint_id):
    if not ENDPOINT_ID.fullmatch(endpoint_id):
        return ApiError("InvalidVpcEndpointId.Malformed", f"Invalid Id: \"{endpoint_id}\" (expecting \"vpce-...\")")
    return ApiError("InvalidVpcEndpointId.NotFound", f"The Vpc Endpoint Id '{endpoint_id}' does not exist")


# The provider's side

@EC2.action("DescribeVpcEndpointConnections")
def describe_connections(request):
    """Without a service-id filter, list every connection to the account's services."""
    scope = (get_account_id(), get_region())
    rows = [c.provider_view() for c in _listed() if (c.service.account, c.service.region) == scope]
    rows = ec2_filter(request, rows, {
        "ip-address-type": "IpAddressType", "service-id": "ServiceId", "vpc-endpoint-owner": "VpcEndpointOwner",
        "vpc-endpoint-region": lambda row: row["VpcEndpointRegion"] or get_region(),
        "vpc-endpoint-state": "VpcEndpointState", "vpc-endpoint-id": "VpcEndpointId"})
    return ec2_page(request, "VpcEndpointConnections", rows)


@EC2.action("AcceptVpcEndpointConnections")
def accept(request):
    """Accept connections, also rejected ones. An accepted connection takes a while to be established."""
    return _decide(request, "Accept", ("pendingAcceptance", "rejected"), Connection.establish)


@EC2.action("RejectVpcEndpointConnections")
def reject(request):
    """Reject connections. The rejection of an established connection revokes it."""
    return _decide(request, "Reject", ("pendingAcceptance", *_ESTABLISHED),
                   lambda connection: connection.move("rejected"))


def _decide(request, event, from_states, change):
    service = owned(request["ServiceId"])
    fault = faults.take_unsuccessful(f"ec2:{event}VpcEndpointConnections")
    unsuccessful = []
    for endpoint_id in request["VpcEndpointIds"]:
        connection = find(endpoint_id)
        if fault:
            error = fault
        elif not connection or connection.service is not service:
            error = _no_endpoint(endpoint_id)
        elif connection.current_state() not in from_states:
            error = ApiError("InvalidState", f"The endpoint '{endpoint_id}' is in state {connection.current_state()} "
                                             f"and cannot be {event.lower()}ed")
        else:
            change(connection)
            connection_notifications.notify(service, endpoint_id, event)
            continue
        unsuccessful.append(unsuccessful_item(endpoint_id, error))
    return {"Unsuccessful": unsuccessful}


def force(endpoint_id, state=None, owner=None, created=None):
    """Override values that AWS rarely sends to the provider: a state, an owner ("none": no owner), a creation time."""
    connection = find(endpoint_id)
    if not connection:
        raise LookupError(f"no endpoint {endpoint_id}")
    if state:
        connection.move(state[0].lower() + state[1:])  # EC2 sends `partial`, although its enumeration has `Partial`
    if owner:
        connection.forced["VpcEndpointOwner"] = None if owner == "none" else owner
    if created:
        connection.forced["CreationTimestamp"] = created
