"""AWS's rate limits for Elastic Load Balancing and EC2, with AWS's default numbers: code that works only without them
fails on AWS.

A call takes a token from each of its buckets; if one is empty, the call is refused and takes none. Each account and
Region has its own buckets. Elastic Load Balancing has one for each class of actions, and one for all actions together:
https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html
That page calls the error `ThrottlingException`; version 2 of the API sends `Throttling`. EC2 has a bucket for each
action, whose size depends on the action's class:
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
Seven of its lists have a smaller bucket for calls that neither filter nor page. The page does not mention ids; here,
they count as a filter.

Buckets refill by AWS's second, a sixtieth of this server's minute: a minute of any length refills the tokens of 60
seconds. The second tool is another client that reads from Elastic Load Balancing all day out of the same buckets: a
controller in a cluster, Terraform, an open console.
"""
import os
import re
import time
from dataclasses import dataclass, field, replace

from . import clock
from .wire import ApiError

_ALL, _READS = "elasticloadbalancing: all", "elasticloadbalancing: non-mutating"
_ELB = {  # capacity, and tokens per second
    _ALL: (40, 10), _READS: (40, 10), "elasticloadbalancing: mutating": (20, 3),
    "elasticloadbalancing: registration": (20, 4), "elasticloadbalancing: resource-intensive": (10, 0.2)}
_ELB_CLASSES = {"RegisterTargets": "registration", "DeregisterTargets": "registration",
                "CreateLoadBalancer": "resource-intensive", "SetSubnets": "resource-intensive"}
_EC2_READS, _EC2_UNFILTERED, _EC2_CHANGES = (100, 20), (50, 10), (50, 5)  # resource-intensive: as other changes
_UNFILTERED = {"DescribeInstances", "DescribeInstanceStatus", "DescribeNetworkInterfaces", "DescribeSecurityGroups",
               "DescribeSnapshots", "DescribeSpotInstanceRequests", "DescribeVolumes"}
_EC2_ACTIONS = {  # this server's actions that the page calls uncategorized
    **dict.fromkeys(["CreateVpcEndpoint", "DeleteVpcEndpoints", "ModifyVpcEndpoint"], (4, 0.3)),
    **dict.fromkeys(["AcceptVpcEndpointConnections", "CreateVpcEndpointServiceConfiguration",
                     "DeleteVpcEndpointServiceConfigurations", "ModifyVpcEndpointServiceConfiguration",
                     "RejectVpcEndpointConnections"], (10, 1)),
    **dict.fromkeys(["AssignIpv6Addresses", "AssignPrivateIpAddresses", "CreateNetworkInterface",
                     "DeleteNetworkInterface", "ModifyNetworkInterfaceAttribute", "TerminateInstances",
                     "UnassignPrivateIpAddresses"], (100, 5)),
    **dict.fromkeys(["CreateTags", "DeleteTags"], (100, 10)),
    **dict.fromkeys(["RunInstances", "StartInstances"], (5, 2))}
_NARROWED = re.compile(r"Filter\.|MaxResults$|NextToken$|\w*Id\.\d|GroupName\.\d")


def of_call(service, action, parameters):
    """The buckets of a call, with their capacity and tokens per second; none: the call has no limit here."""
    if service == "elasticloadbalancing":
        name = f"{service}: {_ELB_CLASSES.get(action, 'non-mutating' if action.startswith('Describe') else 'mutating')}"
        return {name: _ELB[name], _ALL: _ELB[_ALL]}
    if service != "ec2":
        return {}
    name, size = f"ec2: {action}", _EC2_ACTIONS.get(action, _EC2_CHANGES)
    if action in _UNFILTERED and not any(_NARROWED.match(parameter) for parameter in parameters):
        return {f"{name}, unfiltered": _EC2_UNFILTERED}
    return {name: _EC2_READS if re.match(r"(Describe|List|Search|Get)", action) else size}


@dataclass
class Bucket:
    capacity: float
    per_second: float
    filled: float  # the time of the last refill
    tokens: float = field(init=False)
    least: float = field(init=False)  # the fewest tokens that were left
    granted: int = 0
    refused: int = 0

    def __post_init__(self):
        self.tokens = self.least = float(self.capacity)

    def refill(self, now):
        self.tokens, self.filled = min(self.capacity, self.tokens + (now - self.filled) * self.per_second), now

    def is_empty(self):
        return self.tokens < 1 - 1e-9  # tolerates the rounding of fractions

    def count(self, granted):
        if granted:
            self.granted += 1
            self.tokens -= 1
            self.least = min(self.least, self.tokens)
        elif self.is_empty():
            self.refused += 1


@dataclass
class SecondTool:
    per_second: float = 0
    scope: tuple = ()
    next_call: float = 0
    granted: int = 0
    refused: int = 0


class Limits:
    """The buckets of all accounts and Regions. `now` is the time in seconds of AWS."""

    def __init__(self, now):
        self.now = now
        self.switch(on=True)

    def switch(self, on):
        """Begin anew, with full buckets, zero counts and no second tool."""
        self.on, self.buckets, self.tool = on, {}, SecondTool()  # {(account, region): {name: Bucket}}

    def take(self, scope, wanted):
        """Whether a call goes ahead; `wanted` are its buckets from `of_call`."""
        if not self.on:
            return True
        now = self.now()
        self._second_tool_until(now)
        return self._take(scope, wanted, now)

    def _take(self, scope, wanted, now):
        own = self.buckets.setdefault(scope, {})
        buckets = [own.setdefault(name, Bucket(*size, now)) for name, size in wanted.items()]
        for bucket in buckets:
            bucket.refill(now)
        granted = not any(bucket.is_empty() for bucket in buckets)
        for bucket in buckets:
            bucket.count(granted)
        return granted

    def start_second_tool(self, scope, per_second):
        """Let another client read from Elastic Load Balancing at this rate; 0 ends it."""
        now = self.now()
        self._second_tool_until(now)
        self.tool = SecondTool(per_second, scope, now) if per_second else replace(self.tool, per_second=0)

    def _second_tool_until(self, now):
        """Make the second tool's calls so far, each at its own time, however seldom anyone reads the limits."""
        while self.on and self.tool.per_second and self.tool.next_call <= now:
            if self._take(self.tool.scope, {name: _ELB[name] for name in (_READS, _ALL)}, self.tool.next_call):
                self.tool.granted += 1
            else:
                self.tool.refused += 1
            self.tool.next_call += 1 / self.tool.per_second

    def report(self):
        now = self.now()
        self._second_tool_until(now)
        return {
            "on": self.on,
            "buckets": {" ".join(scope): {name: _counts(bucket, now) for name, bucket in own.items()}
                        for scope, own in self.buckets.items()},
            "second_tool": {"per_second": self.tool.per_second, "granted": self.tool.granted,
                            "refused": self.tool.refused}}


def _counts(bucket, now):
    bucket.refill(now)
    return {"tokens": round(bucket.tokens, 2), "least": round(bucket.least, 2), "granted": bucket.granted,
            "refused": bucket.refused}


_limits = Limits(lambda: time.monotonic() * 60 / clock.SECONDS_PER_MINUTE)


def take(account, region, service, action, parameters):
    """The error of a call beyond the limits; None for other calls."""
    if _limits.take((account, region), of_call(service, action, parameters)):
        return None
    if service == "ec2":
        return ApiError("RequestLimitExceeded", "Request limit exceeded.", 503)
    return ApiError("Throttling", "Rate exceeded", 400)


def control(on=False, off=False, second_tool=None):
    """The counts of the limits, after the requested change, if any."""
    if on and off:
        raise ValueError("limits are either on or off")
    if second_tool is not None and second_tool < 0:
        raise ValueError("a rate is not negative")
    if on or off:
        _limits.switch(on)
    if second_tool is not None:
        own = os.environ["MINISTACK_ACCOUNT_ID"], os.environ["MINISTACK_REGION"]  # set by server.py
        _limits.start_second_tool(own, second_tool)
    return _limits.report()
