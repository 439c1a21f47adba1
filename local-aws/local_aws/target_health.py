"""ELBv2: registered targets and their health, which tests can set."""
import ipaddress

from ministack.core.responses import get_region
from ministack.services import alb, ec2

from . import clock, delays, vpcs, zonal_shift
from .load_balancers import application_answer, load_balancers_of
from .wire import ELB, ApiError

_set_by_test: dict[tuple, dict] = {}  # (target group, target id, port or None) -> TargetHealth

# The descriptions AWS gives with its reason codes.
DESCRIPTIONS = {
    "Target.NotInUse": "Target group is not configured to receive traffic from the load balancer",
    "Target.NotRegistered": "Target is not registered to the target group",
    "Target.DeregistrationInProgress": "Target deregistration is in progress",
    "Target.FailedHealthChecks": "Health checks failed",
    "Target.ResponseCodeMismatch": "Health checks failed with these codes: [503]",
    "Target.Timeout": "Request timed out",
    "Target.InvalidState": "Target is in the stopped state",
    "Elb.InternalError": "Health checks failed due to an internal error",
    "Elb.RegistrationInProgress": "Target registration is in progress",
    "Elb.InitialHealthChecking": "Initial health checks in progress",
}
USUAL_REASONS = {"unhealthy": "Target.FailedHealthChecks", "unhealthy.draining": "Target.FailedHealthChecks",
                 "initial": "Elb.InitialHealthChecking", "unused": "Target.NotInUse",
                 "draining": "Target.DeregistrationInProgress", "unavailable": "Target.HealthCheckDisabled"}


def set_health(target_group, target_id, port=None, state="healthy", reason=None, description=None):
    """Set the target's health from now on; without a port, on all its ports."""
    if port is None:
        for key in [key for key in _set_by_test if key[:2] == (target_group, target_id)]:
            del _set_by_test[key]
    _set_by_test[target_group, target_id, port] = _health(state, reason or USUAL_REASONS.get(state), description)


def _health(state, reason=None, description=None):
    return {"State": state, "Reason": reason, "Description": description or DESCRIPTIONS.get(reason)}


def _group(arn):
    if arn not in alb._tgs:
        raise ApiError("TargetGroupNotFound", "One or more target groups not found")
    return alb._tgs[arn]


def _same(target, other, default_port):
    return target["Id"] == other["Id"] and target.get("Port", default_port) == other.get("Port", default_port)


@ELB.action("RegisterTargets")
def register(request):
    """Register targets, and draining ones anew. Nothing changes for those that are registered."""
    group = _group(request["TargetGroupArn"])
    targets = alb._targets.setdefault(group["TargetGroupArn"], [])
    for new in request["Targets"]:
        _CHECKS[group["TargetType"]](group, {"Port": group["Port"], **new})
    kept = [target for target in targets if "draining_until" not in target]
    new = [{"Port": group["Port"], **target, "initial_until": clock.now() + delays.TARGETS}
           for target in request["Targets"] if not any(_same(target, other, group["Port"]) for other in kept)]
    if len(kept) + len(new) > _MOST_TARGETS:
        raise ApiError("TooManyTargets", "The number of targets exceeds the limit of the target group")
    targets[:] = [target for target in targets if not any(_same(target, other, group["Port"]) for other in new)] + new
    return {}


# Checks of new targets, by the target group's type

def _check_instance(group, target):
    instance = ec2._instances.get(target["Id"])
    if "AvailabilityZone" in target:
        raise ApiError("ValidationError", "You cannot specify an Availability Zone for instance targets")
    if not instance:
        raise ApiError("InvalidTarget", f"The following targets do not exist: '{target['Id']}'")
    if instance["State"]["Name"] != "running":
        raise ApiError("InvalidTarget", "The following targets are not in a running state and cannot be registered: "
                                        f"'{target['Id']}'")
    if instance["VpcId"] != group["VpcId"]:
        raise ApiError("InvalidTarget", f"The following targets are not in the target group VPC '{group['VpcId']}': "
                                        f"'{target['Id']}'")


def _check_ip(group, target):
    """Check an IP target. An address in a subnet of the VPC has the subnet's zone; any other needs a zone, or `all`."""
    text, zone = target["Id"], target.get("AvailabilityZone")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ApiError("ValidationError", f"The IP address '{text}' is not a valid IP address") from None
    version = group.get("IpAddressType", "ipv4")
    if f"ipv{address.version}" != version:
        raise ApiError("ValidationError", f"The IP address '{text}' is not a valid IPv{version[3:]} address")
    subnet = vpcs.subnet_containing(address, group["VpcId"])
    if subnet:
        if zone not in (None, subnet["AvailabilityZone"]):
            raise ApiError("ValidationError", f"The IP address '{text}' is within the VPC, and cannot have its "
                                              f"Availability Zone overridden to '{zone}' from "
                                              f"'{subnet['AvailabilityZone']}'")
        return
    if address.version == 4 and not any(address in network for network in _OUTSIDE):
        raise ApiError("ValidationError", f"The IP address '{text}' is not in a private address range")
    if zone not in ("all", *(f"{get_region()}{letter}" for letter in "abc")):
        raise ApiError("ValidationError", "You must specify a valid Availability Zone or select 'all' for all enabled "
                                          f"Availability zones, since the IP address '{text}' is outside the VPC")


def _check_alb(group, target):
    if alb._lbs.get(target["Id"], {}).get("Type") != "application":
        raise ApiError("InvalidTarget", f"The Application Load Balancer '{target['Id']}' does not exist")
    if not any((listener["LoadBalancerArn"], int(listener["Port"])) == (target["Id"], target["Port"])
               for listener in alb._listeners.values()):
        raise ApiError("InvalidTarget", f"The Application Load Balancer '{target['Id']}' has no listener on port "
                                        f"{target['Port']}")
    if any(other["Id"] != target["Id"] for other in alb._targets.get(group["TargetGroupArn"], [])):
        raise ApiError("TooManyTargets", "A target group of type alb can have only one target")


_OUTSIDE = [ipaddress.ip_network(block) for block in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12",
                                                      "192.168.0.0/16")]
# https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-limits.html
_MOST_TARGETS = 1000
_CHECKS = {"instance": _check_instance, "ip": _check_ip, "alb": _check_alb, "lambda": lambda group, target: None}


@ELB.action("DeregisterTargets")
def deregister(request):
    """Deregister targets. One in use drains for the deregistration delay; an unused one is removed at once.

    A target registered with its own port, or from outside the VPC with a zone, is found only with that port or zone;
    otherwise the call succeeds and does nothing: https://github.com/chaostoolkit-incubator/chaostoolkit-aws/issues/60
    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html
    """
    arn = request["TargetGroupArn"]
    group, targets = _group(arn), alb._targets.get(arn, [])
    delay = next((int(attribute["Value"]) for attribute in alb._tg_attrs.get(arn, [])
                  if attribute["Key"] == "deregistration_delay.timeout_seconds"), 300)
    end = clock.now() + clock.minutes(delay / 60) if load_balancers_of(arn) else 0
    for old in request["Targets"]:
        for target in targets:
            zones = (_zone_of(group, target["Id"]), old.get("AvailabilityZone"))
            if _same(target, old, group["Port"]) and target.get("AvailabilityZone", zones[0]) in zones:
                target["draining_until"] = end
    return {}


@ELB.action("DescribeTargetHealth")
def describe(request):
    arn = request["TargetGroupArn"]
    group = _group(arn)
    now = clock.now()
    registered = [target for target in alb._targets.get(arn, []) if target.get("draining_until", now) >= now]
    alb._targets[arn] = registered
    balancers = [alb._lbs[balancer] for balancer in load_balancers_of(arn) if balancer in alb._lbs]
    rows = [_description(group, target, balancers) for target in registered]
    wanted = request.get("Targets")
    if wanted:
        rows = [next((row for row in rows if _same(row["Target"], target, group["Port"])),
                     {"Target": {"Port": group["Port"], **target},
                      "TargetHealth": _health("unused", "Target.NotRegistered")}) for target in wanted]
    return {"TargetHealthDescriptions": rows}


def _description(group, target, balancers):
    port = group["HealthCheckPort"]
    zone = target.get("AvailabilityZone") or _zone_of(group, target["Id"])
    shown = zone if group["TargetType"] == "ip" else None
    return {
        "Target": {"Id": target["Id"], "Port": target["Port"], "AvailabilityZone": shown},
        "HealthCheckPort": str(target["Port"]) if port == "traffic-port" else port,
        "TargetHealth": _current_health(group["TargetGroupArn"], target, zone, balancers),
        "AdministrativeOverride": zonal_shift.override(zone, balancers),
    }


def _current_health(group, target, zone, balancers):
    if not balancers:
        return _health("unused", "Target.NotInUse")
    if "draining_until" in target:
        return _health("draining", "Target.DeregistrationInProgress")
    if clock.now() < target.get("initial_until", 0):
        return _health("initial", "Elb.RegistrationInProgress")
    state = ec2._instances.get(target["Id"], {}).get("State", {}).get("Name", "running")
    if state != "running":
        return _health("unused", "Target.InvalidState", f"Target is in the {state} state")
    enabled = {ec2._subnets.get(subnet, {}).get("AvailabilityZone") for lb in balancers for subnet in lb["Subnets"]}
    if zone not in (None, "all") and zone not in enabled:
        return _health("unused", "Target.NotInUse",
                       "Target is in an Availability Zone that is not enabled for the load balancer")
    return (_set_by_test.get((group, target["Id"], target["Port"])) or _set_by_test.get((group, target["Id"], None))
            or (_application_health(group, target) if target["Id"] in alb._lbs else _health("healthy")))


def _application_health(group, target):
    """The health by the status of the Application Load Balancer's answer to the health check.

    A Network Load Balancer has one reason for every failure, which does not contain the status.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
    """
    port = alb._tgs[group]["HealthCheckPort"]
    status = application_answer(target["Id"], target["Port"] if port == "traffic-port" else int(port))
    expected = (alb._tgs[group].get("Matcher") or {}).get("HttpCode", "200-399")
    if status is not None and _is_expected(status, expected):
        return _health("healthy")
    return _health("unhealthy", "Target.FailedHealthChecks")


def _is_expected(status, codes):
    """Whether a matcher such as `200,202` or `200-399` contains the status."""
    bounds = [part.split("-") for part in codes.split(",")]
    return any(int(part[0]) <= status <= int(part[-1]) for part in bounds)


def _zone_of(group, target_id):
    """The zone of a target, which is its subnet's."""
    if target_id in ec2._instances:
        return ec2._instances[target_id]["Placement"]["AvailabilityZone"]
    try:
        subnet = vpcs.subnet_containing(ipaddress.ip_address(target_id), group["VpcId"])
    except ValueError:
        return None
    return subnet["AvailabilityZone"] if subnet else None
