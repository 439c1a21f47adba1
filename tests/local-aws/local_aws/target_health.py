"""ELBv2: registered targets and their health, which a test can set."""
import ipaddress
import time

from ministack.services import alb, ec2

from . import clock
from .load_balancers import load_balancers_of
from .wire import ELB, ApiError

_set_by_test: dict[tuple, dict] = {}  # (target group, target id, port or None) -> TargetHealth

# The descriptions AWS gives with its reason codes.
DESCRIPTIONS = {
    "Target.NotInUse": "Target group is not configured to receive traffic from the load balancer",
    "Target.NotRegistered": "Target is not registered to the target group",
    "Target.DeregistrationInProgress": "Target deregistration is in progress",
    "Target.FailedHealthChecks": "Health checks failed",
    "Target.Timeout": "Request timed out",
    "Elb.InternalError": "Health checks failed due to an internal error",
    "Elb.RegistrationInProgress": "Target registration is in progress",
    "Elb.InitialHealthChecking": "Initial health checks in progress",
}
USUAL_REASONS = {"unhealthy": "Target.FailedHealthChecks", "unhealthy.draining": "Target.FailedHealthChecks",
                 "initial": "Elb.InitialHealthChecking", "unused": "Target.NotInUse",
                 "draining": "Target.DeregistrationInProgress", "unavailable": "Target.HealthCheckDisabled"}


def set_health(target_group, target_id, port=None, state="healthy", reason=None, description=None):
    """From now on the target has this health; without a port, on all its ports."""
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
    group = _group(request["TargetGroupArn"])
    targets = alb._targets.setdefault(group["TargetGroupArn"], [])
    for new in request["Targets"]:
        targets[:] = [target for target in targets if not _same(target, new, group["Port"])] + [
            {"Port": group["Port"], **new}]
    return {}


@ELB.action("DeregisterTargets")
def deregister(request):
    """A target in use drains for the deregistration delay; another is gone at once."""
    arn = request["TargetGroupArn"]
    group, targets = _group(arn), alb._targets.get(arn, [])
    delay = next((int(attribute["Value"]) for attribute in alb._tg_attrs.get(arn, [])
                  if attribute["Key"] == "deregistration_delay.timeout_seconds"), 300)
    end = time.time() + clock.minutes(delay / 60) if load_balancers_of(arn) else 0
    for old in request["Targets"]:
        matching = [t for t in targets if _same(t, old, group["Port"]) or (t["Id"] == old["Id"] and "Port" not in old)]
        for target in matching:
            target["draining_until"] = end
    return {}


@ELB.action("DescribeTargetHealth")
def describe(request):
    arn = request["TargetGroupArn"]
    group = _group(arn)
    now = time.time()
    registered = [target for target in alb._targets.get(arn, []) if target.get("draining_until", now) >= now]
    alb._targets[arn] = registered
    rows = [_description(group, target) for target in registered]
    wanted = request.get("Targets")
    if wanted:
        rows = [next((row for row in rows if _same(row["Target"], target, group["Port"])),
                     {"Target": {"Port": group["Port"], **target},
                      "TargetHealth": _health("unused", "Target.NotRegistered")}) for target in wanted]
    return {"TargetHealthDescriptions": rows}


def _description(group, target):
    port = group["HealthCheckPort"]
    zone = target.get("AvailabilityZone") or _zone_of(target["Id"])
    return {
        "Target": {"Id": target["Id"], "Port": target["Port"], "AvailabilityZone": zone},
        "HealthCheckPort": str(target["Port"]) if port == "traffic-port" else port,
        "TargetHealth": _current_health(group["TargetGroupArn"], target, zone),
        "AdministrativeOverride": {"State": "no_override", "Reason": "AdministrativeOverride.NoOverride",
                                   "Description": "No override is currently active on target"},
    }


def _current_health(group, target, zone):
    balancers = [alb._lbs[arn] for arn in load_balancers_of(group) if arn in alb._lbs]
    if not balancers:
        return _health("unused", "Target.NotInUse")
    if "draining_until" in target:
        return _health("draining", "Target.DeregistrationInProgress")
    enabled = {ec2._subnets.get(subnet, {}).get("AvailabilityZone") for lb in balancers for subnet in lb["Subnets"]}
    if zone not in (None, "all") and zone not in enabled:
        return _health("unused", "Target.NotInUse",
                       "Target is in an Availability Zone that is not enabled for the load balancer")
    return (_set_by_test.get((group, target["Id"], target["Port"])) or _set_by_test.get((group, target["Id"], None))
            or _health("healthy"))


def _zone_of(target_id):
    """The zone of an IP target: its subnet's. AWS names none for an instance."""
    try:
        address = ipaddress.ip_address(target_id)
    except ValueError:
        return None
    return next((subnet["AvailabilityZone"] for subnet in ec2._subnets.values()
                 if address in ipaddress.ip_network(subnet["CidrBlock"], strict=False)), None)
