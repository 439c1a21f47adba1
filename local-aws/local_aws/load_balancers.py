"""ELBv2: load balancers, and the listeners and target groups of Network Load Balancers.

Records stay in ministack's stores. This module creates the records that differ for Network Load Balancers, and renders
every load balancer, target group, listener and rule by the service model. An Application Load Balancer is a target
here: only its answer to a health check counts.
"""
import secrets

from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import acm, alb, ec2

from . import certificates, clock, dns, network_interfaces, vpcs
from .paging import elb_page
from .wire import ELB, ApiError, UseMinistack

# Defaults from the user guide for Network Load Balancers: cross-zone load balancing is off, and a target group follows
# its load balancer.
LOAD_BALANCER_ATTRIBUTES = {
    "access_logs.s3.enabled": "false",
    "access_logs.s3.bucket": "",
    "access_logs.s3.prefix": "",
    "deletion_protection.enabled": "false",
    "dns_record.client_routing_policy": "any_availability_zone",
    "ipv6.deny_all_igw_traffic": "false",
    "load_balancing.cross_zone.enabled": "false",
    "secondary_ips.auto_assigned.per_subnet": "0",
    "zonal_shift.config.enabled": "false",
}
# From the user guide for Application Load Balancers: cross-zone load balancing is always on.
APPLICATION_ATTRIBUTES = {
    "access_logs.s3.enabled": "false",
    "access_logs.s3.bucket": "",
    "access_logs.s3.prefix": "",
    "deletion_protection.enabled": "false",
    "idle_timeout.timeout_seconds": "60",
    "load_balancing.cross_zone.enabled": "true",
    "routing.http2.enabled": "true",
}
TARGET_GROUP_ATTRIBUTES = {
    "deregistration_delay.connection_termination.enabled": "false",
    "deregistration_delay.timeout_seconds": "300",
    "load_balancing.cross_zone.enabled": "use_load_balancer_configuration",
    "proxy_protocol_v2.enabled": "false",
    "stickiness.enabled": "false",
    "stickiness.type": "source_ip",
    "target_group_health.dns_failover.minimum_healthy_targets.count": "1",
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": "off",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": "1",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
    "target_health_state.unhealthy.connection_termination.enabled": "true",
    "target_health_state.unhealthy.draining_interval_seconds": "0",
}
# The target group protocols that each listener protocol can forward to.
NETWORK_PROTOCOLS = {"TCP": ("TCP", "TCP_UDP"), "TLS": ("TCP", "TLS"), "UDP": ("UDP", "TCP_UDP"),
                     "TCP_UDP": ("TCP_UDP",)}
STATES = ("provisioning", "active", "active_impaired", "failed")
_MAX_DESCRIBED = 20
IDLE_TIMEOUT = "tcp.idle_timeout.seconds"
ENFORCE = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"


def _arn(resource):
    return f"arn:aws:elasticloadbalancing:{get_region()}:{get_account_id()}:{resource}"


def _attributes(defaults):
    return [{"Key": key, "Value": value} for key, value in defaults.items()]


# Load balancers

@ELB.action("CreateLoadBalancer")
def create_load_balancer(request):
    kind = request.get("Type", "application")
    name, token = request["Name"], secrets.token_hex(8)
    if any(other["LoadBalancerName"] == name for other in alb._lbs.values()):
        raise ApiError("DuplicateLoadBalancerName", f"A load balancer with the same name '{name}' exists, but with "
                                                    "different settings")
    subnets = _check_subnets(request)
    groups = _check_security_groups(request)
    addresses = _private_addresses(request)
    if kind == "application":
        _check_application(subnets)
        groups = groups or [vpcs.default_security_group(ec2._subnets[subnets[0]]["VpcId"])]
    arn = _arn(f"loadbalancer/{_IN_ARN[kind]}/{name}/{token}")
    alb._lbs[arn] = balancer = {
        "LoadBalancerArn": arn, "LoadBalancerName": name, "Type": kind, "State": "active",
        "VpcId": ec2._subnets[subnets[0]]["VpcId"], "Subnets": subnets, "SecurityGroups": groups,
        "PrivateAddresses": addresses, "IpAddressType": request.get("IpAddressType", "ipv4"),
        "CreatedTime": clock.iso()}
    if kind != "gateway":  # it has neither a DNS name nor a scheme
        balancer |= {"Scheme": request.get("Scheme", "internet-facing"), "CanonicalHostedZoneId": "Z3F0SRJ5LGBH90",
                     "DNSName": f"{name}-{token}.elb.{get_region()}.amazonaws.com"}
    if groups and kind == "network":
        balancer[ENFORCE] = "on"  # the default of a Network Load Balancer with security groups
    alb._tags[arn] = request.get("Tags", [])
    alb._lb_attrs[arn] = _attributes(APPLICATION_ATTRIBUTES if kind == "application" else LOAD_BALANCER_ATTRIBUTES)
    network_interfaces.of_load_balancer(balancer)  # DNS has their addresses
    return {"LoadBalancers": [load_balancer_view(balancer)]}


def _answer(name):
    """What the DNS name of an internal load balancer stands for, from everywhere: the addresses of its interfaces.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/how-elastic-load-balancing-works.html
    """
    for _, balancer in alb._lbs.all_items():
        if balancer.get("Scheme") == "internal" and balancer["DNSName"].lower() == name:
            interfaces = balancer["NetworkInterfaces"]
            return dns.Answer([interfaces[subnet]["PrivateIpAddress"] for subnet in balancer["Subnets"]
                               if subnet in interfaces])
    return None


_IN_ARN = {"network": "net", "gateway": "gwy", "application": "app"}


def _check_application(subnets):
    """https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html"""
    if len(subnets) < 2:
        raise ApiError("ValidationError", "At least two subnets in two different Availability Zones must be specified")


def _check_subnets(request):
    subnets = request.get("Subnets") or [mapping["SubnetId"] for mapping in request.get("SubnetMappings", [])]
    if not subnets:
        raise ApiError("ValidationError", "At least one subnet must be specified")
    for subnet in subnets:
        if subnet not in ec2._subnets:
            raise ApiError("SubnetNotFound", f"The subnet ID '{subnet}' does not exist")
    zones = [ec2._subnets[subnet]["AvailabilityZone"] for subnet in subnets]
    if len(set(zones)) < len(zones):
        raise ApiError("InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the "
                                                      "same Availability Zone")
    return subnets


def _check_security_groups(request):
    for group in request.get("SecurityGroups", []):
        if group not in ec2._security_groups:
            raise ApiError("InvalidSecurityGroup", f"Security group '{group}' does not exist")
    return request.get("SecurityGroups", [])


def _private_addresses(request, current=()):
    """The primary addresses in the subnet mappings, by subnet, without the subnets that the balancer already has."""
    asked = {mapping["SubnetId"]: mapping["PrivateIPv4Address"] for mapping in request.get("SubnetMappings", [])
             if "PrivateIPv4Address" in mapping and mapping["SubnetId"] not in current}
    if asked and request.get("Scheme", "internal") != "internal":
        raise ApiError("InvalidConfigurationRequest", "Private IPv4 addresses are supported only for internal load "
                                                      "balancers")
    try:
        return {subnet: vpcs.take_address(ec2._subnets[subnet], address) for subnet, address in asked.items()}
    except ApiError as error:
        raise ApiError("InvalidConfigurationRequest", error.message) from None


def load_balancer_view(balancer):
    groups = balancer.get("SecurityGroups") or None
    return {
        **{member: balancer.get(member) for member in (
            "LoadBalancerArn", "LoadBalancerName", "DNSName", "CanonicalHostedZoneId", "CreatedTime", "Scheme",
            "VpcId", "Type", "IpAddressType")},
        "State": {"Code": balancer["State"], "Reason": balancer.get("StateReason")},
        "AvailabilityZones": _zones_view(balancer),
        "SecurityGroups": groups,
        ENFORCE: balancer.get(ENFORCE) if groups else None,  # absent without a security group
    }


def _zones_view(balancer):
    addresses = {subnet: [{"PrivateIPv4Address": address}]
                 for subnet, address in balancer.get("PrivateAddresses", {}).items()}
    return [{"ZoneName": ec2._subnets.get(subnet, {}).get("AvailabilityZone", f"{get_region()}a"), "SubnetId": subnet,
             "LoadBalancerAddresses": addresses.get(subnet, [])} for subnet in balancer.get("Subnets", [])]


def _load_balancer(arn):
    if arn not in alb._lbs:
        raise ApiError("LoadBalancerNotFound", f"Load balancer '{arn}' not found")
    return alb._lbs[arn]


def named(rows, arns, names, arn_member, name_member, missing):
    """The rows with these ARNs and names. Raises `missing` if a row does not exist."""
    for wanted, member in ((arns, arn_member), (names, name_member)):
        if wanted and not set(wanted) <= {row[member] for row in rows}:
            raise missing
        rows = [row for row in rows if not wanted or row[member] in wanted]
    return rows


def check_number(what, asked):
    if len(asked) > _MAX_DESCRIBED:
        raise ApiError("ValidationError", f"Up to {_MAX_DESCRIBED} {what} can be described at a time, but "
                                          f"{len(asked)} were specified")


@ELB.action("DescribeLoadBalancers")
def describe_load_balancers(request):
    check_number("load balancers", request.get("LoadBalancerArns") or request.get("Names") or [])
    rows = named(alb._lbs.values(), request.get("LoadBalancerArns"), request.get("Names"), "LoadBalancerArn",
                  "LoadBalancerName", ApiError("LoadBalancerNotFound", "One or more load balancers not found"))
    return elb_page(request, "LoadBalancers", [load_balancer_view(balancer) for balancer in rows])


@ELB.action("SetSubnets")
def set_subnets(request):
    """Change the subnets. A Network Load Balancer keeps its subnets while an endpoint is connected to it."""
    from . import endpoint_connections

    balancer = _load_balancer(request["LoadBalancerArn"])
    subnets = _check_subnets(request)
    removed = [subnet for subnet in balancer["Subnets"] if subnet not in subnets]
    if removed and endpoint_connections.lead_to(balancer["LoadBalancerArn"]):
        raise ApiError("InvalidConfigurationRequest", f"The subnets '{', '.join(removed)}' cannot be removed because "
                                                      "the load balancer has active VPC endpoint associations")
    added = _private_addresses(request, balancer["Subnets"])
    for subnet in removed:
        balancer.get("NetworkInterfaces", {}).pop(subnet, None)  # a subnet that is added again gets a new interface
        balancer.get("PrivateAddresses", {}).pop(subnet, None)
    balancer["Subnets"] = subnets
    balancer["PrivateAddresses"] = {**balancer.get("PrivateAddresses", {}), **added}
    return {"AvailabilityZones": _zones_view(balancer),
            "IpAddressType": balancer["IpAddressType"]}


@ELB.action("SetSecurityGroups")
def set_security_groups(request):
    """Change the security groups. A Network Load Balancer created without security groups can never have any."""
    balancer = _load_balancer(request["LoadBalancerArn"])
    groups = _check_security_groups(request)
    if balancer["Type"] == "network":
        if groups and not balancer["SecurityGroups"]:
            raise ApiError("InvalidConfigurationRequest", "You cannot set security groups on a Network Load Balancer "
                                                          "that was created without any")
        balancer[ENFORCE] = request.get(ENFORCE, balancer.get(ENFORCE))
    balancer["SecurityGroups"] = groups
    return {"SecurityGroupIds": groups, ENFORCE: balancer.get(ENFORCE)}


@ELB.action("SetIpAddressType")
def set_ip_address_type(request):
    balancer, kind = _load_balancer(request["LoadBalancerArn"]), request["IpAddressType"]
    kinds = ("ipv4", "dualstack") if balancer["Type"] != "application" else (
        "ipv4", "dualstack", "dualstack-without-public-ipv4")
    if kind not in kinds:
        raise ApiError("ValidationError", f"'{kind}' is not one of {', '.join(kinds)}")
    balancer["IpAddressType"] = kind
    return {"IpAddressType": kind}


@ELB.action("ModifyLoadBalancerAttributes")
def modify_attributes(request):
    """Check the attributes of a Network Load Balancer; ministack stores them."""
    balancer = _load_balancer(request["LoadBalancerArn"])
    if balancer["Type"] != "network":
        raise UseMinistack
    for attribute in request["Attributes"]:
        key, value = attribute.get("Key"), attribute.get("Value", "")
        if key not in LOAD_BALANCER_ATTRIBUTES:
            raise ApiError("ValidationError", f"Load balancer attribute key '{key}' is not recognized")
        if key == "secondary_ips.auto_assigned.per_subnet":
            current = next((int(known["Value"]) for known in alb._lb_attrs.get(balancer["LoadBalancerArn"], [])
                            if known["Key"] == key), 0)
            if not (value.isdigit() and int(value) <= 7):
                raise ApiError("ValidationError", f"The value of '{key}' must be an integer between 0 and 7")
            if int(value) < current:
                raise ApiError("InvalidConfigurationRequest", f"The value of '{key}' cannot be decreased")
    raise UseMinistack


def force_state(load_balancer, state, reason=None):
    """Set the load balancer's state."""
    if state not in STATES:
        raise ValueError(f"{state} is not one of {', '.join(STATES)}")
    region, account = load_balancer.split(":")[3:5]
    with request_scope(account, region):
        if load_balancer not in alb._lbs:
            raise LookupError(f"no load balancer {load_balancer}")
        alb._lbs[load_balancer].update(State=state, StateReason=reason)


@ELB.action("DeleteLoadBalancer")
def delete_load_balancer(request):
    """Delete a load balancer with its listeners, unless it serves an endpoint service."""
    arn = request["LoadBalancerArn"]
    check_unused(arn)
    for listener in [key for key, row in alb._listeners.items() if row["LoadBalancerArn"] == arn]:
        alb._delete_listener({"ListenerArn": [listener]})
    raise UseMinistack


def check_unused(arn):
    """Raise the error if an endpoint service has the load balancer."""
    from . import endpoint_services

    if any(arn in service.load_balancers + service.gateway_load_balancers
           for service in endpoint_services.owned_by_caller()):
        raise ApiError("ResourceInUse", f"Load balancer '{arn}' cannot be deleted because it is currently associated "
                                        "with another service")


# Target groups

@ELB.action("CreateTargetGroup")
def create_target_group(request):
    if request.get("Protocol") not in NETWORK_PROTOCOLS:
        raise UseMinistack
    name = request["Name"]
    if any(other["TargetGroupName"] == name for other in alb._tgs.values()):
        raise ApiError("DuplicateTargetGroupName", f"A target group with the same name '{name}' exists, but with "
                                                   "different settings")
    arn = _arn(f"targetgroup/{name}/{secrets.token_hex(8)}")
    to_alb = request.get("TargetType") == "alb"
    if to_alb and request["Protocol"] != "TCP":
        raise ApiError("ValidationError", f"Protocol '{request['Protocol']}' is not supported with target type 'alb'")
    _check_health_settings(request)
    health_protocol = request.get("HealthCheckProtocol", "HTTP" if to_alb else "TCP")
    over_http = health_protocol in ("HTTP", "HTTPS")
    alb._tgs[arn] = group = {
        "TargetGroupArn": arn, "TargetGroupName": name, "Protocol": request["Protocol"], "Port": request["Port"],
        "VpcId": request.get("VpcId", ec2._DEFAULT_VPC_ID), "TargetType": request.get("TargetType", "instance"),
        "HealthCheckProtocol": health_protocol, "HealthCheckPort": request.get("HealthCheckPort", "traffic-port"),
        "HealthCheckEnabled": request.get("HealthCheckEnabled", True),
        "HealthCheckIntervalSeconds": request.get("HealthCheckIntervalSeconds", 30),
        "HealthCheckTimeoutSeconds": request.get("HealthCheckTimeoutSeconds", 6 if over_http else 10),
        "HealthyThresholdCount": request.get("HealthyThresholdCount", 5),
        "UnhealthyThresholdCount": request.get("UnhealthyThresholdCount", 2),
        "HealthCheckPath": request.get("HealthCheckPath", "/") if over_http else None,
        "Matcher": request.get("Matcher", {"HttpCode": "200-399"}) if over_http else None,
        "IpAddressType": request.get("IpAddressType", "ipv4")}
    datagrams = group["Protocol"] in ("UDP", "TCP_UDP")
    keeps_client_ip = group["TargetType"] == "instance" or datagrams
    alb._targets[arn] = []
    alb._tags[arn] = request.get("Tags", [])
    alb._tg_attrs[arn] = _attributes({
        **TARGET_GROUP_ATTRIBUTES, "preserve_client_ip.enabled": str(keeps_client_ip).lower(),
        # https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html
        "deregistration_delay.connection_termination.enabled": str(datagrams).lower(),
        "target_health_state.unhealthy.connection_termination.enabled": str(not datagrams).lower()})
    return {"TargetGroups": [target_group_view(group)]}


# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html
_HEALTH_RANGES = {"HealthCheckIntervalSeconds": (5, 300), "HealthCheckTimeoutSeconds": (2, 120),
                  "HealthyThresholdCount": (2, 10), "UnhealthyThresholdCount": (2, 10)}


def _check_health_settings(request):
    for member, (least, most) in _HEALTH_RANGES.items():
        if member in request and not least <= request[member] <= most:
            raise ApiError("ValidationError", f"{member} must be between {least} and {most}")
    if request.get("HealthCheckProtocol", "TCP") not in ("TCP", "HTTP", "HTTPS"):
        raise ApiError("ValidationError", f"Health check protocol '{request['HealthCheckProtocol']}' is not supported")


def _network_group(arn):
    """The target group, if this module handles it."""
    if arn not in alb._tgs:
        raise ApiError("TargetGroupNotFound", "One or more target groups not found")
    if alb._tgs[arn]["Protocol"] not in NETWORK_PROTOCOLS:
        raise UseMinistack
    return alb._tgs[arn]


@ELB.action("ModifyTargetGroup")
def modify_target_group(request):
    group = _network_group(request["TargetGroupArn"])
    _check_health_settings(request)
    group.update({member: value for member, value in request.items() if member != "TargetGroupArn"})
    if group["HealthCheckProtocol"] == "TCP":
        group.update(HealthCheckPath=None, Matcher=None)
    else:
        group["HealthCheckPath"] = group.get("HealthCheckPath") or "/"
        group["Matcher"] = group.get("Matcher") or {"HttpCode": "200-399"}
    return {"TargetGroups": [target_group_view(group)]}


@ELB.action("ModifyTargetGroupAttributes")
def modify_target_group_attributes(request):
    """Check the attributes' names; ministack stores them."""
    _network_group(request["TargetGroupArn"])
    for attribute in request["Attributes"]:
        if attribute.get("Key") not in (*TARGET_GROUP_ATTRIBUTES, "preserve_client_ip.enabled"):
            raise ApiError("ValidationError", f"Target group attribute key '{attribute.get('Key')}' is not recognized")
    raise UseMinistack


def target_group_view(group):
    shape = ELB.model.shape_for("TargetGroup")
    known = {member: value for member, value in group.items() if member in shape.members}
    return {**known, "LoadBalancerArns": load_balancers_of(group["TargetGroupArn"])}


def load_balancers_of(target_group):
    """The load balancers with a listener or rule that forwards to the target group."""
    listeners = {rule["ListenerArn"] for rule in alb._rules.values()
                 if target_group in forwarded_to(rule["Actions"])}
    return sorted({alb._listeners[arn]["LoadBalancerArn"] for arn in listeners if arn in alb._listeners})


@ELB.action("DescribeTargetGroups")
def describe_target_groups(request):
    check_number("target groups", request.get("TargetGroupArns") or [])
    groups = named(alb._tgs.values(), request.get("TargetGroupArns"), request.get("Names"), "TargetGroupArn",
                    "TargetGroupName", ApiError("TargetGroupNotFound", "One or more target groups not found"))
    rows = [target_group_view(group) for group in groups]
    if "LoadBalancerArn" in request:
        _load_balancer(request["LoadBalancerArn"])
        rows = [row for row in rows if request["LoadBalancerArn"] in row["LoadBalancerArns"]]
    return elb_page(request, "TargetGroups", rows)


@ELB.action("DeleteTargetGroup")
def delete_target_group(request):
    check_unforwarded(request["TargetGroupArn"])
    raise UseMinistack


def check_unforwarded(arn):
    """Raise the error if a listener or a rule forwards to the target group."""
    if load_balancers_of(arn):
        raise ApiError("ResourceInUse", f"Target group '{arn}' is currently in use by a listener or a rule")


# Listeners and rules

def normal_action(action):
    """An action as AWS returns it: a forward has a ForwardConfig, and a TargetGroupArn if it has only one group."""
    if action["Type"] != "forward":
        return action
    config = action.get("ForwardConfig") or {"TargetGroups": [{"TargetGroupArn": action["TargetGroupArn"]}]}
    groups = [{"Weight": 1, **group} for group in config["TargetGroups"]]
    for group in groups:
        if group["TargetGroupArn"] not in alb._tgs:
            raise ApiError("TargetGroupNotFound", "One or more target groups not found")
    return {
        "Type": "forward", "Order": action.get("Order", 1),
        "TargetGroupArn": groups[0]["TargetGroupArn"] if len(groups) == 1 else None,
        "ForwardConfig": {"TargetGroups": groups, "TargetGroupStickinessConfig":
                          config.get("TargetGroupStickinessConfig", {"Enabled": False})}}


def forwarded_to(actions):
    """The target groups that these actions forward to with a weight above zero."""
    return [group["TargetGroupArn"] for action in actions if action["Type"] == "forward"
            for group in (action.get("ForwardConfig") or {"TargetGroups": [action]})["TargetGroups"]
            if group.get("Weight", 1) > 0]


@ELB.action("CreateListener")
def create_listener(request):
    balancer = _load_balancer(request["LoadBalancerArn"])
    if balancer["Type"] != "network":
        raise UseMinistack
    if any(other["LoadBalancerArn"] == balancer["LoadBalancerArn"] and other["Port"] == request["Port"]
           for other in alb._listeners.values()):
        raise ApiError("DuplicateListener", "A listener already exists on this port for this load balancer "
                                            f"'{balancer['LoadBalancerArn']}'")
    actions = [normal_action(action) for action in request["DefaultActions"]]
    protocol = request.get("Protocol", "TCP")
    check_protocols(protocol, actions)
    _check_tls(protocol, request)
    tail = f"{balancer['LoadBalancerArn'].split(':loadbalancer/')[1]}/{secrets.token_hex(8)}"
    arn = _arn(f"listener/{tail}")
    alb._listeners[arn] = listener = {
        "ListenerArn": arn, "LoadBalancerArn": balancer["LoadBalancerArn"], "Port": request["Port"],
        "Protocol": protocol, "DefaultActions": actions,
        "Certificates": [certificate["CertificateArn"] for certificate in request.get("Certificates", [])]}
    if listener["Protocol"] == "TLS":
        listener["SslPolicy"] = request.get("SslPolicy", alb._DEFAULT_SSL_POLICY)
    if "MutualAuthentication" in request:
        listener["MutualAuthentication"] = request["MutualAuthentication"]
    rule = _arn(f"listener-rule/{tail}/{secrets.token_hex(8)}")
    alb._rules[rule] = {"RuleArn": rule, "ListenerArn": arn, "Priority": "default", "Conditions": [],
                        "Actions": actions, "IsDefault": True}
    alb._listener_attrs[arn] = _listener_attributes(protocol)
    alb._tags[arn] = request.get("Tags", [])
    return {"Listeners": [listener_view(listener)]}


@ELB.action("ModifyListener")
def modify_listener(request):
    """Check the protocols and the certificate; ministack makes the change."""
    listener = alb._listeners.get(request["ListenerArn"])
    if not listener:
        raise ApiError("ListenerNotFound", "One or more listeners not found")
    if alb._lbs.get(listener["LoadBalancerArn"], {}).get("Type") == "network":
        actions = [normal_action(action) for action in request.get("DefaultActions", listener["DefaultActions"])]
        protocol = request.get("Protocol", listener["Protocol"])
        check_protocols(protocol, actions)
        _check_tls(protocol, request, listener.get("Certificates"))
        if protocol != listener["Protocol"]:
            alb._listener_attrs[request["ListenerArn"]] = _listener_attributes(protocol)
        if protocol != "TLS":
            listener.pop("MutualAuthentication", None)
        elif "MutualAuthentication" in request:
            listener["MutualAuthentication"] = request["MutualAuthentication"]
    raise UseMinistack


def _listener_attributes(protocol):
    """https://docs.aws.amazon.com/elasticloadbalancing/latest/network/update-idle-timeout.html"""
    return [{"Key": IDLE_TIMEOUT, "Value": "350"}] if protocol in ("TCP", "TCP_UDP") else []


@ELB.action("ModifyListenerAttributes")
def modify_listener_attributes(request):
    """Check the attributes of a Network Load Balancer's listener; ministack stores them."""
    listener = alb._listeners.get(request["ListenerArn"])
    if not listener or alb._lbs.get(listener["LoadBalancerArn"], {}).get("Type") != "network":
        raise UseMinistack
    for attribute in request["Attributes"]:
        key, value = attribute.get("Key"), attribute.get("Value", "")
        if key not in [known["Key"] for known in _listener_attributes(listener["Protocol"])]:
            raise ApiError("ValidationError", f"Listener attribute key '{key}' is not supported for "
                                              f"{listener['Protocol']} listeners")
        if not (value.isdigit() and 60 <= int(value) <= 6000):
            raise ApiError("ValidationError", f"The value of '{key}' must be an integer between 60 and 6000")
    raise UseMinistack


def _check_tls(protocol, request, current=None):
    """Check that a TLS listener has exactly one certificate, issued by ACM. `current` are its present certificates."""
    asked = [certificate["CertificateArn"] for certificate in request.get("Certificates", [])]
    if protocol != "TLS":
        if asked:
            raise ApiError("ValidationError", f"A certificate cannot be specified for {protocol} listeners")
        if "SslPolicy" in request:
            raise ApiError("ValidationError", f"An SSL policy cannot be specified for {protocol} listeners")
        if "MutualAuthentication" in request:
            raise ApiError("ValidationError", f"Mutual authentication cannot be specified for {protocol} listeners")
        return
    _check_mutual(request.get("MutualAuthentication", {}))
    if not (asked or current):
        raise ApiError("ValidationError", "A certificate must be specified for TLS listeners")
    if len(asked) > 1:
        raise ApiError("TooManyCertificates", f"Up to '1' certificate ARNs can be specified, but '{len(asked)}' were "
                                              "specified")
    for arn in asked:
        _check_certificate(arn)
    if not request.get("SslPolicy", "ELBSecurityPolicy-").startswith("ELBSecurityPolicy-"):
        raise ApiError("SSLPolicyNotFound", f"SSL policy '{request['SslPolicy']}' not found")


def _check_mutual(asked):
    """Whether clients must present a certificate. There are no trust stores here, so any trust store's ARN is valid.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/network/mutual-authentication.html
    """
    mode = asked.get("Mode", "off")
    if mode not in ("off", "verify"):
        raise ApiError("ValidationError", f"Mutual authentication mode '{mode}' is not supported with a Network Load "
                                          "Balancer")
    if (mode == "verify") != ("TrustStoreArn" in asked):
        raise ApiError("ValidationError", "A trust store must be specified for mutual authentication mode 'verify', "
                                          "and for no other")


def _check_certificate(arn):
    if ":acm:" not in arn:
        return  # a server certificate of IAM
    certificate = acm._get_local_certificate(arn)
    if not certificate:
        raise ApiError("CertificateNotFound", f"Certificate '{arn}' not found")
    if certificates.status_of(certificate) != "ISSUED":
        raise ApiError("UnsupportedCertificate", f"The certificate '{arn}' must have a fully-qualified domain "
                                                 "name, a supported signature, and a supported key size.")


def check_protocols(protocol, actions):
    if protocol not in NETWORK_PROTOCOLS:
        raise ApiError("UnsupportedProtocol", f"Listener protocol '{protocol}' is not supported with a Network Load "
                                              "Balancer")
    for arn in (group["TargetGroupArn"] for action in actions for group in action["ForwardConfig"]["TargetGroups"]):
        if alb._tgs[arn]["Protocol"] not in NETWORK_PROTOCOLS[protocol]:
            raise ApiError("IncompatibleProtocols", f"The target group protocol '{alb._tgs[arn]['Protocol']}' is not "
                                                    f"compatible with the listener protocol '{protocol}'")


# An Application Load Balancer's answer

def application_answer(balancer, port):
    """The status of the answer on this port to a request that matches only the default rule; None: no listener.

    There is no traffic here. A forward counts as answered by the targets if any is registered; without one, the load
    balancer answers 503.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
    """
    listener = next((listener for listener in alb._listeners.values()
                     if (listener["LoadBalancerArn"], int(listener["Port"])) == (balancer, port)), None)
    if not listener:
        return None
    action = listener["DefaultActions"][-1]
    if action["Type"] == "fixed-response":
        return int(action["FixedResponseConfig"]["StatusCode"])
    if action["Type"] == "redirect":
        return int(action["RedirectConfig"]["StatusCode"].removeprefix("HTTP_"))
    return 200 if any(alb._targets.get(group) for group in forwarded_to([action])) else 503


def listener_view(listener):
    certificates = [{"CertificateArn": arn} for arn in listener.get("Certificates", [])]
    return {**{member: listener.get(member) for member in ("ListenerArn", "LoadBalancerArn", "Port", "Protocol",
                                                           "SslPolicy", "DefaultActions", "MutualAuthentication")},
            "Certificates": certificates or None}


@ELB.action("DescribeListeners")
def describe_listeners(request):
    rows = named(alb._listeners.values(), request.get("ListenerArns"), None, "ListenerArn", "ListenerArn",
                  ApiError("ListenerNotFound", "One or more listeners not found"))
    if "LoadBalancerArn" in request:
        _load_balancer(request["LoadBalancerArn"])
        rows = [row for row in rows if row["LoadBalancerArn"] == request["LoadBalancerArn"]]
    return elb_page(request, "Listeners", [listener_view(listener) for listener in rows])


# The additional certificates of a TLS listener, for the names that clients ask for (SNI).

def _tls_listener(arn):
    listener = alb._listeners.get(arn)
    if not listener:
        raise ApiError("ListenerNotFound", f"Listener '{arn}' not found")
    if listener["Protocol"] != "TLS" and alb._lbs[listener["LoadBalancerArn"]]["Type"] == "network":
        raise ApiError("ValidationError", f"A certificate cannot be specified for {listener['Protocol']} listeners")
    return listener


def _in_list(listener):
    return [{"CertificateArn": arn, "IsDefault": False} for arn in listener.get("CertificateList", [])]


@ELB.action("AddListenerCertificates")
def add_listener_certificates(request):
    """Add one certificate per call. A second addition changes nothing."""
    listener = _tls_listener(request["ListenerArn"])
    arns = [certificate["CertificateArn"] for certificate in request["Certificates"]]
    if len(arns) != 1:
        raise ApiError("TooManyCertificates", f"Up to '1' certificate ARNs can be specified, but '{len(arns)}' were "
                                              "specified")
    _check_certificate(arns[0])
    listener["CertificateList"] = list(dict.fromkeys([*listener.get("CertificateList", []), *arns]))
    return {"Certificates": _in_list(listener)}


@ELB.action("RemoveListenerCertificates")
def remove_listener_certificates(request):
    listener = _tls_listener(request["ListenerArn"])
    removed = [certificate["CertificateArn"] for certificate in request["Certificates"]]
    if set(removed) & set(listener.get("Certificates", [])):
        raise ApiError("OperationNotPermitted", "Default certificates cannot be removed")
    listener["CertificateList"] = [arn for arn in listener.get("CertificateList", []) if arn not in removed]
    return {}


@ELB.action("DescribeListenerCertificates")
def describe_listener_certificates(request):
    """The default certificate and the additional ones, which may include it."""
    listener = _tls_listener(request["ListenerArn"])
    default = [{"CertificateArn": arn, "IsDefault": True} for arn in listener.get("Certificates", [])]
    return elb_page(request, "Certificates", default + _in_list(listener))


def renderer(shape, view):
    """Renders ministack's record of a resource by the service model."""
    return lambda record, **_: f"<member>{ELB.xml(ELB.model.shape_for(shape), view(record))}</member>"


def install():
    """Make ministack's remaining actions read and render these resources by the service model too."""
    dns.sources.append(_answer)

    def parse_actions(form, prefix="DefaultActions"):
        operation, member = {"DefaultActions": ("ModifyListener", "DefaultActions"),
                             "Actions": ("ModifyRule", "Actions")}[prefix]
        shape = ELB.model.operation_model(operation).input_shape.members[member]
        flat = {key: value[0] if isinstance(value, list) else value for key, value in form.items()}
        return [normal_action({"Order": order, **action})
                for order, action in enumerate(ELB.read(shape, member, flat) or [], start=1)]

    alb._parse_actions = parse_actions
    alb._lb_xml = renderer("LoadBalancer", load_balancer_view)
    alb._tg_xml = renderer("TargetGroup", target_group_view)
    alb._listener_xml = renderer("Listener", listener_view)
