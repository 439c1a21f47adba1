"""ELBv2: the tags of load balancers, target groups, listeners and rules."""
from ministack.core.responses import get_account_id, get_region
from ministack.services import alb

from .load_balancers import check_number
from .wire import ELB, ApiError

_MOST_TAGS = 50


def _check(arns):
    stores = {"loadbalancer": (alb._lbs, "LoadBalancerNotFound", "Load balancer"),
              "targetgroup": (alb._tgs, "TargetGroupNotFound", "Target group"),
              "listener": (alb._listeners, "ListenerNotFound", "Listener"),
              "listener-rule": (alb._rules, "RuleNotFound", "Rule")}
    for arn in arns:
        scope, _, resource = arn.rpartition(":")
        kind = resource.split("/")[0]
        if scope != f"arn:aws:elasticloadbalancing:{get_region()}:{get_account_id()}" or kind not in stores:
            raise ApiError("ValidationError", f"'{arn}' is not a valid resource ARN")
        store, code, name = stores[kind]
        if arn not in store:
            raise ApiError(code, f"{name} '{arn}' not found")


@ELB.action("AddTags")
def add(request):
    _check(request["ResourceArns"])
    new = {tag["Key"]: tag.get("Value", "") for tag in request["Tags"]}
    if len(new) < len(request["Tags"]):
        raise ApiError("DuplicateTagKeys", "A tag key was specified more than once")
    tags = {arn: {**{tag["Key"]: tag.get("Value", "") for tag in alb._tags.get(arn, [])}, **new}
            for arn in request["ResourceArns"]}
    if any(len(of_one) > _MOST_TAGS for of_one in tags.values()):
        raise ApiError("TooManyTags", "You've reached the limit on the number of tags for this resource")
    for arn, of_one in tags.items():
        alb._tags[arn] = [{"Key": key, "Value": value} for key, value in of_one.items()]


@ELB.action("RemoveTags")
def remove(request):
    _check(request["ResourceArns"])
    for arn in request["ResourceArns"]:
        alb._tags[arn] = [tag for tag in alb._tags.get(arn, []) if tag["Key"] not in request["TagKeys"]]


@ELB.action("DescribeTags")
def describe(request):
    check_number("resources", request["ResourceArns"])
    _check(request["ResourceArns"])
    return {"TagDescriptions": [{"ResourceArn": arn, "Tags": alb._tags.get(arn, [])}
                                for arn in request["ResourceArns"]]}
