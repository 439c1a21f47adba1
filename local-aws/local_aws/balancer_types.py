"""CloudFormation: load balancers, target groups and listeners, created as by Elastic Load Balancing.

ministack's own types know only Application Load Balancers, and forget VPCs, attributes and targets. Its code still
changes existing resources.
"""
from ministack.services import alb
from ministack.services.cloudformation import provisioners

from . import load_balancers, target_health
from .wire import ApiError, UseMinistack

_NUMBERS = ("Port", "HealthCheckIntervalSeconds", "HealthCheckTimeoutSeconds", "HealthyThresholdCount",
            "UnhealthyThresholdCount")


def _numbers(properties):
    return {name: int(value) if name in _NUMBERS else value for name, value in properties.items()}


def _set_attributes(store, declared):
    """Set the declared attributes; the others keep their values."""
    changed = {attribute["Key"]: str(attribute["Value"]) for attribute in declared or []}
    known = {attribute["Key"]: attribute["Value"] for attribute in store}
    store[:] = [{"Key": key, "Value": value} for key, value in {**known, **changed}.items()]


class BalancerType:
    """A type with ministack's handlers, except that `create` and `check_delete` replace its incomplete ones."""

    def __init__(self, ministack):
        self.ministack = ministack

    def handlers(self):
        return {**self.ministack, "create": self._create, "delete": self._delete}

    def _create(self, logical_id, properties, stack_name):
        name = properties.get("Name") or provisioners._physical_name(stack_name, logical_id, max_len=32)
        try:
            return self.create(_numbers({**properties, "Name": name}))
        except UseMinistack:
            return self.ministack["create"](logical_id, properties, stack_name)
        except ApiError as error:
            raise ValueError(f"{error.message} (Service: ElasticLoadBalancingV2, Error Code: {error.code})") from error

    def _delete(self, physical_id, properties):
        try:
            self.check_delete(physical_id)
        except ApiError as error:
            raise ValueError(error.message) from error
        return self.ministack["delete"](physical_id, properties)

    def check_delete(self, physical_id):
        """Raise the error if Elastic Load Balancing would refuse the deletion."""


class LoadBalancer(BalancerType):
    """AWS::ElasticLoadBalancingV2::LoadBalancer"""

    def create(self, properties):
        members = ("Name", "Type", "Scheme", "Subnets", "SubnetMappings", "SecurityGroups", "IpAddressType", "Tags")
        request = {member: properties[member] for member in members if member in properties}
        answer = load_balancers.create_load_balancer(request)["LoadBalancers"][0]
        arn = answer["LoadBalancerArn"]
        _set_attributes(alb._lb_attrs[arn], properties.get("LoadBalancerAttributes"))
        enforce = properties.get(load_balancers.ENFORCE)
        if enforce:
            alb._lbs[arn][load_balancers.ENFORCE] = enforce
        return arn, {
            "LoadBalancerArn": arn, "LoadBalancerName": answer["LoadBalancerName"], "DNSName": answer.get("DNSName"),
            "LoadBalancerFullName": arn.split(":loadbalancer/")[1], "SecurityGroups": answer["SecurityGroups"] or [],
            "CanonicalHostedZoneID": answer.get("CanonicalHostedZoneId")}

    def check_delete(self, physical_id):
        load_balancers.check_unused(physical_id)


class TargetGroup(BalancerType):
    """AWS::ElasticLoadBalancingV2::TargetGroup"""

    def create(self, properties):
        apart = ("Targets", "TargetGroupAttributes")
        group = load_balancers.create_target_group({
            name: value for name, value in properties.items() if name not in apart})["TargetGroups"][0]
        arn = group["TargetGroupArn"]
        _set_attributes(alb._tg_attrs[arn], properties.get("TargetGroupAttributes"))
        if properties.get("Targets"):
            target_health.register({"TargetGroupArn": arn, "Targets": [_numbers(t) for t in properties["Targets"]]})
        return arn, {"TargetGroupArn": arn, "TargetGroupName": group["TargetGroupName"],
                     "TargetGroupFullName": arn.rsplit(":", 1)[1]}

    def check_delete(self, physical_id):
        load_balancers.check_unforwarded(physical_id)


class Listener(BalancerType):
    """AWS::ElasticLoadBalancingV2::Listener"""

    def create(self, properties):
        members = ("LoadBalancerArn", "Port", "Protocol", "DefaultActions", "Certificates", "SslPolicy", "Tags")
        request = {member: properties[member] for member in members if member in properties}
        arn = load_balancers.create_listener(request)["Listeners"][0]["ListenerArn"]
        return arn, {"ListenerArn": arn}


def install():
    types = provisioners._RESOURCE_HANDLERS
    for kind in (LoadBalancer, TargetGroup, Listener):
        name = f"AWS::ElasticLoadBalancingV2::{kind.__name__}"
        types[name] = kind(types[name]).handlers()
