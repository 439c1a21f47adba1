"""EC2: VPC endpoint services, the provider's side of AWS PrivateLink: configurations and allowed principals."""
import re
import secrets
from dataclasses import dataclass, field

from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import alb, ec2

from . import callers
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError, UseMinistack

PRIVATE_DNS_STATES = ("pendingVerification", "verified", "failed")
REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")
SERVICE_ID = re.compile(r"vpce-svc-[0-9a-f]{8}([0-9a-f]{9})?")


def new_id(prefix):
    """An EC2 resource id: the prefix and 17 hexadecimal digits."""
    return f"{prefix}-{secrets.token_hex(9)[:17]}"


@dataclass
class EndpointService:
    """A VPC endpoint service configuration in one account and Region; other accounts find it by name."""

    service_id: str
    account: str
    region: str
    load_balancers: list
    acceptance_required: bool
    private_dns: dict | None = None
    ip_address_types: list = field(default_factory=lambda: ["ipv4"])
    regions: dict = field(default_factory=dict)  # other supported Regions: Region -> ServiceState
    gateway_load_balancers: list = field(default_factory=list)
    offered: dict = field(default_factory=dict)  # load balancer -> its zones when the service got it
    allowed: dict = field(default_factory=dict)  # principal -> permission id

    @property
    def name(self):
        return f"com.amazonaws.vpce.{self.region}.{self.service_id}"

    @property
    def arn(self):
        return f"arn:aws:ec2:{self.region}:{self.account}:vpc-endpoint-service/{self.service_id}"

    def scope(self):
        """The provider's account and Region, for code that reads ministack's stores or publishes on its behalf."""
        return request_scope(self.account, self.region)

    def put_behind(self, load_balancers):
        """Put load balancers behind the service. Their later zones are not offered until this happens again.

        https://github.com/hashicorp/terraform-provider-aws/issues/40809
        """
        with self.scope():
            for arn in load_balancers:
                subnets = alb._lbs[arn]["Subnets"]
                self.offered[arn] = {ec2._subnets[subnet]["AvailabilityZone"] for subnet in subnets}

    def zones(self):
        """The names of the zones in which the service is available."""
        balancers = [*self.load_balancers, *self.gateway_load_balancers]
        return sorted(set().union(*(self.offered[arn] for arn in balancers)))

    def zone_ids(self):
        return [ec2._az_id_for_zone_name(zone) for zone in self.zones()]

    def tags(self):
        with self.scope():
            return ec2._tags.get(self.service_id, [])

    def allows(self, caller_arn):
        """Whether the caller belongs to the owner's account or is an allowed principal.

        An allowed account (its root or its bare id) includes all its principals, and a role includes its sessions. An
        account's root user may do what any allowed principal of the account may.
        """
        account = caller_arn.split(":")[4]
        names = {"*", account, f"arn:aws:iam::{account}:root", caller_arn}
        if role := callers.issuer_of(caller_arn):
            names.add(role["Arn"])
        if caller_arn.endswith(":root"):
            names |= {principal for principal in self.allowed if f"::{account}:" in principal}
        return account == self.account or not names.isdisjoint(self.allowed)

    def describe(self):
        private_dns = self.private_dns or {}
        return {
            "ServiceType": [{"ServiceType": "GatewayLoadBalancer" if self.gateway_load_balancers else "Interface"}],
            "ServiceId": self.service_id,
            "ServiceName": self.name,
            "ServiceState": "Available",
            "AvailabilityZoneIds": self.zone_ids(),
            "AvailabilityZones": self.zones(),
            "AcceptanceRequired": self.acceptance_required,
            "ManagesVpcEndpoints": False,
            "NetworkLoadBalancerArns": self.load_balancers or None,
            "GatewayLoadBalancerArns": self.gateway_load_balancers or None,
            "SupportedIpAddressTypes": self.ip_address_types,
            "BaseEndpointDnsNames": [f"{self.service_id}.{self.region}.vpce.amazonaws.com"],
            "PrivateDnsName": private_dns.get("dns_name"),
            "PrivateDnsNameConfiguration": private_dns.get("configuration"),
            "Tags": self.tags(),
            "SupportedRegions": [{"Region": region, "ServiceState": state}
                                 for region, state in {self.region: "Available", **self.regions}.items()],
            "RemoteAccessEnabled": bool(self.regions),
        }


_services: dict[str, EndpointService] = {}
_before_delete = []  # functions that return the error if a service cannot be deleted, else None


def refuse_delete_when(reason):
    _before_delete.append(reason)


def owned(service_id):
    """The caller's endpoint service. Raises EC2's error if there is none with this id."""
    if not SERVICE_ID.fullmatch(service_id):
        raise ApiError("InvalidVpcEndpointServiceId.Malformed", f"Invalid Id: \"{service_id}\" "
                                                                "(expecting \"vpce-svc-...\")")
    service = _services.get(service_id)
    if not service or (service.account, service.region) != (get_account_id(), get_region()):
        raise ApiError("InvalidVpcEndpointServiceId.NotFound",
                       f"The VpcEndpointServiceId '{service_id}' does not exist")
    return service


def other_regions(service_id):
    """The service's supported Regions apart from its own."""
    return _services[service_id].regions if service_id in _services else {}


def by_name(name):
    return next((service for service in _services.values() if service.name == name), None)


def owned_by(account, region):
    return [service for service in _services.values() if (service.account, service.region) == (account, region)]


def owned_by_caller():
    return owned_by(get_account_id(), get_region())


def _check_load_balancers(arns, kind="network"):
    for arn in arns:
        if alb._lbs.get(arn, {}).get("Type") != kind:
            raise ApiError("InvalidParameter", f"The {kind.title()} Load Balancer '{arn}' does not exist")
    return arns


def _supported(regions, own):
    """The supported Regions without the service's own, which is always supported."""
    for region in regions:
        if not REGION.fullmatch(region):
            raise ApiError("InvalidParameter", f"Invalid Region: '{region}'")
    return {region: "Available" for region in regions if region != own}


def _private_dns(name):
    if not name:
        return None
    return {"dns_name": name, "verification": "verified", "configuration": {
        "State": "pendingVerification", "Type": "TXT", "Value": f"vpce:{secrets.token_urlsafe(15)}",
        "Name": f"_{secrets.token_hex(10)}"}}


@EC2.action("CreateVpcEndpointServiceConfiguration")
def create(request):
    arns = _check_load_balancers(request.get("NetworkLoadBalancerArns", []))
    gateways = _check_load_balancers(request.get("GatewayLoadBalancerArns", []), "gateway")
    if bool(arns) == bool(gateways):
        raise ApiError("InvalidParameterCombination" if arns else "MissingParameter",
                       "The request must contain either NetworkLoadBalancerArn or GatewayLoadBalancerArn")
    service = EndpointService(new_id("vpce-svc"), get_account_id(), get_region(), arns,
                              request.get("AcceptanceRequired", True), _private_dns(request.get("PrivateDnsName")))
    service.ip_address_types = request.get("SupportedIpAddressTypes", service.ip_address_types)
    service.regions = _supported(request.get("SupportedRegions", []), service.region)
    service.gateway_load_balancers = gateways
    service.put_behind(arns + gateways)
    _services[service.service_id] = service
    ec2._tags[service.service_id] = tags_for("vpc-endpoint-service", request)
    return {"ServiceConfiguration": service.describe(), "ClientToken": request.get("ClientToken")}


def tags_for(resource_type, request):
    return [tag for specification in request.get("TagSpecifications", [])
            if specification.get("ResourceType") == resource_type for tag in specification.get("Tags", [])]


@EC2.action("DescribeVpcEndpointServiceConfigurations")
def describe(request):
    services = [owned(i) for i in request["ServiceIds"]] if "ServiceIds" in request else owned_by_caller()
    rows = ec2_filter(request, [service.describe() for service in services], {
        "service-name": "ServiceName", "service-id": "ServiceId", "service-state": "ServiceState",
        "supported-ip-address-types": "SupportedIpAddressTypes"})
    return ec2_page(request, "ServiceConfigurations", rows)


@EC2.action("ModifyVpcEndpointServiceConfiguration")
def modify(request):
    service = owned(request["ServiceId"])
    added = _check_load_balancers(request.get("AddNetworkLoadBalancerArns", []))
    added = added + _check_load_balancers(request.get("AddGatewayLoadBalancerArns", []), "gateway")
    added_regions = _supported(request.get("AddSupportedRegions", []), service.region)
    service.load_balancers = _changed(service.load_balancers, request, "NetworkLoadBalancerArns")
    service.gateway_load_balancers = _changed(service.gateway_load_balancers, request, "GatewayLoadBalancerArns")
    service.put_behind(added)
    service.ip_address_types = _changed(service.ip_address_types, request, "SupportedIpAddressTypes")
    for region in request.get("RemoveSupportedRegions", []):
        service.regions.pop(region, None)
    service.regions |= {region: state for region, state in added_regions.items() if region not in service.regions}
    service.acceptance_required = request.get("AcceptanceRequired", service.acceptance_required)
    if request.get("RemovePrivateDnsName"):
        service.private_dns = None
    elif "PrivateDnsName" in request:
        service.private_dns = _private_dns(request["PrivateDnsName"])
    return {"Return": True}


def _changed(items, request, member):
    kept = [item for item in items if item not in request.get(f"Remove{member}", [])]
    return kept + [item for item in request.get(f"Add{member}", []) if item not in kept]


@EC2.action("StartVpcEndpointServicePrivateDnsVerification")
def verify_private_dns(request):
    service = owned(request["ServiceId"])
    if not service.private_dns:
        raise ApiError("InvalidParameter", f"The service '{service.service_id}' has no private DNS name")
    service.private_dns["configuration"]["State"] = service.private_dns["verification"]
    return {"ReturnValue": True}


def _for_test(service_id):
    if service_id not in _services:
        raise LookupError(f"no endpoint service {service_id}")
    return _services[service_id]


def force_private_dns(service_id, state=None, verification=None):
    """Set the state of the private DNS name now, and the result of later verifications."""
    private_dns = _for_test(service_id).private_dns
    if not private_dns:
        raise LookupError(f"{service_id} has no private DNS name")
    for wanted in filter(None, (state, verification)):
        if wanted not in PRIVATE_DNS_STATES:
            raise ValueError(f"{wanted} is not one of {', '.join(PRIVATE_DNS_STATES)}")
    private_dns["verification"] = verification or private_dns["verification"]
    private_dns["configuration"]["State"] = state or private_dns["configuration"]["State"]


def force_region(service_id, region, state):
    """Set the state of one of the service's supported Regions."""
    service = _for_test(service_id)
    if region not in service.regions:
        raise LookupError(f"{service_id} does not support {region}, or it is its own Region")
    service.regions[region] = state


@EC2.action("DeleteVpcEndpointServiceConfigurations")
def delete(request):
    unsuccessful = []
    for service_id in request["ServiceIds"]:
        try:
            service = owned(service_id)
            for refusal in filter(None, (reason(service) for reason in _before_delete)):
                raise refusal
            del _services[service_id]
            ec2._tags.pop(service_id, None)
        except ApiError as error:
            unsuccessful.append(unsuccessful_item(service_id, error))
    return {"Unsuccessful": unsuccessful}


def unsuccessful_item(resource_id, error):
    return {"ResourceId": resource_id, "Error": {"Code": error.code, "Message": error.message}}


# Allowed principals

_PRINCIPAL_TYPES = [
    (r"\*", "All"),
    (r"\d{12}|arn:aws[a-z-]*:iam::\d{12}:root", "Account"),
    (r"arn:aws[a-z-]*:iam::\d{12}:role/.+", "Role"),
    (r"arn:aws[a-z-]*:iam::\d{12}:user/.+", "User"),
]


def _principal_type(principal):
    for pattern, kind in _PRINCIPAL_TYPES:
        if re.fullmatch(pattern, principal):
            return kind
    raise ApiError("InvalidPrincipal", f"Invalid Principal: '{principal}'")


def _permission(service, principal):
    return {"PrincipalType": _principal_type(principal), "Principal": principal,
            "ServicePermissionId": service.allowed[principal], "ServiceId": service.service_id}


@EC2.action("ModifyVpcEndpointServicePermissions")
def modify_permissions(request):
    """Change the allowed principals. Removal of a principal prevents new connections; existing ones stay."""
    service = owned(request["ServiceId"])
    added = [principal for principal in request.get("AddAllowedPrincipals", []) if principal not in service.allowed]
    for principal in [*added, *request.get("RemoveAllowedPrincipals", [])]:
        _principal_type(principal)
    service.allowed.update({principal: new_id("vpce-svc-perm") for principal in added})
    for principal in request.get("RemoveAllowedPrincipals", []):
        service.allowed.pop(principal, None)
    return {"AddedPrincipals": [_permission(service, principal) for principal in added if principal in service.allowed],
            "ReturnValue": True}


@EC2.action("DescribeVpcEndpointServicePermissions")
def describe_permissions(request):
    service = owned(request["ServiceId"])
    rows = ec2_filter(request, [_permission(service, principal) for principal in service.allowed],
                      {"principal": "Principal", "principal-type": "PrincipalType"})
    return ec2_page(request, "AllowedPrincipals", rows)


# The consumer's view

@EC2.action("DescribeVpcEndpointServices")
def describe_for_consumers(request):
    """The named endpoint services that the caller may connect to. ministack lists the AWS services."""
    names = request.get("ServiceNames", [])
    if not any(".vpce-svc-" in name or ".vpce." in name for name in names):
        raise UseMinistack
    return {"ServiceNames": names, "ServiceDetails": [_detail(connectable(name)) for name in names]}


def _detail(service):
    description = service.describe()
    shared = {member: description[member] for member in (
        "ServiceName", "ServiceId", "ServiceType", "AvailabilityZoneIds", "AvailabilityZones", "BaseEndpointDnsNames",
        "AcceptanceRequired", "ManagesVpcEndpoints", "Tags", "SupportedIpAddressTypes", "PrivateDnsName")}
    dns = service.private_dns
    return {**shared, "ServiceRegion": service.region, "Owner": service.account, "VpcEndpointPolicySupported": False,
            "PrivateDnsNames": [{"PrivateDnsName": dns["dns_name"]}] if dns else None,
            "PrivateDnsNameVerificationState": dns["configuration"]["State"] if dns else None}


def connectable(name):
    """The service of this name if its permissions allow the caller. For other callers it does not exist."""
    from ministack.core.iam_evaluator import caller_arn

    service = by_name(name)
    if not service or not service.allows(caller_arn()) or get_region() not in [service.region, *service.regions]:
        raise ApiError("InvalidServiceName", f"The Vpc Endpoint Service '{name}' does not exist")
    return service
