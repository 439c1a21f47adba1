"""ELBv2: the rules of listeners.

A rule of a Network Load Balancer sends the connections from one type of source address, IPv4 or IPv6, to its own target
groups. https://docs.aws.amazon.com/elasticloadbalancing/latest/network/create-rule.html
"""
import secrets

from ministack.services import alb

from .load_balancers import check_protocols, named, normal_action, renderer
from .paging import elb_page
from .wire import ELB, ApiError, UseMinistack


def rule_view(rule):
    members = ("Field", "Values", "SourceIpConfig")
    return {**{member: rule[member] for member in ("RuleArn", "Priority", "Actions", "IsDefault")},
            "Conditions": [{member: condition[member] for member in members if member in condition}
                           for condition in rule["Conditions"]]}


def _network_listener(arn):
    """The listener, if it is a Network Load Balancer's, with its load balancer; ministack has the others."""
    if arn not in alb._listeners:
        raise ApiError("ListenerNotFound", "One or more listeners not found")
    listener = alb._listeners[arn]
    balancer = alb._lbs[listener["LoadBalancerArn"]]
    if balancer["Type"] != "network":
        raise UseMinistack
    return listener, balancer


def _network_rule(arn):
    if arn not in alb._rules:
        raise ApiError("RuleNotFound", "One or more rules not found")
    rule = alb._rules[arn]
    _network_listener(rule["ListenerArn"])
    if rule["IsDefault"]:
        raise ApiError("OperationNotPermitted", f"Default rule '{arn}' cannot be modified")
    return rule


def _conditions(request):
    conditions = request["Conditions"]
    for condition in conditions:
        if condition.get("Field") != "source-ip":
            raise ApiError("ValidationError", f"Condition field '{condition.get('Field')}' is not supported for "
                                              "Network Load Balancers")
        if condition.get("SourceIpConfig", {}).get("IpAddressType") not in ("ipv4", "ipv6"):
            raise ApiError("ValidationError", "A source-ip condition must have an IP address type")
    return conditions


def _actions(request, listener):
    actions = [normal_action(action) for action in request["Actions"]]
    check_protocols(listener["Protocol"], actions)
    return actions


@ELB.action("CreateRule")
def create(request):
    listener, balancer = _network_listener(request["ListenerArn"])
    if balancer["IpAddressType"] != "dualstack":
        raise ApiError("InvalidConfigurationRequest", "Listener rules are supported for dual-stack Network Load "
                                                      "Balancers only")
    priority = str(request["Priority"])
    if (listener["ListenerArn"], priority) in {(rule["ListenerArn"], rule["Priority"]) for rule in alb._rules.values()}:
        raise ApiError("PriorityInUse", f"Priority '{priority}' is currently in use")
    prefix = listener["ListenerArn"].replace(":listener/", ":listener-rule/")
    arn = f"{prefix}/{secrets.token_hex(8)}"
    alb._rules[arn] = rule = {"RuleArn": arn, "ListenerArn": listener["ListenerArn"], "Priority": priority,
                              "Conditions": _conditions(request), "Actions": _actions(request, listener),
                              "IsDefault": False}
    alb._tags[arn] = request.get("Tags", [])
    return {"Rules": [rule_view(rule)]}


@ELB.action("ModifyRule")
def modify(request):
    rule = _network_rule(request["RuleArn"])
    if "Conditions" in request:
        rule["Conditions"] = _conditions(request)
    if "Actions" in request:
        rule["Actions"] = _actions(request, alb._listeners[rule["ListenerArn"]])
    return {"Rules": [rule_view(rule)]}


@ELB.action("DeleteRule")
def delete(request):
    del alb._rules[_network_rule(request["RuleArn"])["RuleArn"]]
    return {}


@ELB.action("SetRulePriorities")
def set_priorities(request):
    asked = {pair["RuleArn"]: str(pair["Priority"]) for pair in request["RulePriorities"]}
    rules = [_network_rule(arn) for arn in asked]
    taken = {(rule["ListenerArn"], rule["Priority"]) for rule in alb._rules.values() if rule["RuleArn"] not in asked}
    for rule in rules:
        if (rule["ListenerArn"], asked[rule["RuleArn"]]) in taken:
            raise ApiError("PriorityInUse", f"Priority '{asked[rule['RuleArn']]}' is currently in use")
    for rule in rules:
        rule["Priority"] = asked[rule["RuleArn"]]
    return {"Rules": [rule_view(rule) for rule in rules]}


@ELB.action("DescribeRules")
def describe(request):
    if "ListenerArn" in request and request["ListenerArn"] not in alb._listeners:
        raise ApiError("ListenerNotFound", "One or more listeners not found")
    rows = named(alb._rules.values(), request.get("RuleArns"), None, "RuleArn", "RuleArn",
                 ApiError("RuleNotFound", "One or more rules not found"))
    rows = [row for row in rows if request.get("ListenerArn") in (None, row["ListenerArn"])]
    return elb_page(request, "Rules", [rule_view(rule) for rule in rows])


def install():
    alb._rule_xml = renderer("Rule", rule_view)
