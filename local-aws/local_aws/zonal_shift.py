"""Zonal shifts of load balancers in Elastic Load Balancing's form: an administrative override of targets' health.

A shift leaves one zone, and must be enabled on a Network Load Balancer. A target in that zone gets no new connections;
its health does not change. https://docs.aws.amazon.com/elasticloadbalancing/latest/network/zonal-shift.html
"""
from ministack.core.responses import request_scope
from ministack.services import alb, ec2

_NONE = {"State": "no_override", "Reason": "AdministrativeOverride.NoOverride",
         "Description": "No override is currently active on target"}
_SHIFTED = {"State": "zonal_shift_active", "Reason": "AdministrativeOverride.ZonalShiftActive",
            "Description": "A zonal shift is active for the target's Availability Zone"}


def force(load_balancer, away_from=None):
    """Start a shift away from a zone; without a zone, end the shift."""
    region, account = load_balancer.split(":")[3:5]
    with request_scope(account, region):
        if load_balancer not in alb._lbs:
            raise LookupError(f"no load balancer {load_balancer}")
        balancer = alb._lbs[load_balancer]
        zones = [ec2._subnets[subnet]["AvailabilityZone"] for subnet in balancer["Subnets"]]
        enabled = {"Key": "zonal_shift.config.enabled", "Value": "true"} in alb._lb_attrs[load_balancer]
        if away_from and not enabled:
            raise PermissionError(f"zonal shift is not enabled on {load_balancer}")
        if away_from and away_from not in zones:
            raise ValueError(f"{away_from} is not one of {', '.join(zones)}")
        balancer["ZonalShift"] = away_from


def override(zone, balancers):
    """The override of a target in this zone behind these load balancers."""
    return _SHIFTED if zone and any(balancer.get("ZonalShift") == zone for balancer in balancers) else _NONE
