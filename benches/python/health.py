"""Reports target groups without enough healthy targets."""
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from common import SERVICES, THREADS, client, notify, pages

ec2, elb = client("ec2"), client("elbv2")
pool = ThreadPoolExecutor(THREADS)


def forwards_to(load_balancer):
    listeners = pages(elb, "describe_listeners", "Listeners", LoadBalancerArn=load_balancer)
    groups = set()
    for action in (action for listener in listeners for action in listener["DefaultActions"]):
        groups |= {group["TargetGroupArn"] for group in action.get("ForwardConfig", {}).get("TargetGroups", [])
                   if group.get("Weight") != 0}
    return groups


def states(group):
    answer = elb.describe_target_health(TargetGroupArn=group)
    return [target["TargetHealth"]["State"] for target in answer["TargetHealthDescriptions"]]


def handler(_event):
    services = pages(ec2, "describe_vpc_endpoint_service_configurations", "ServiceConfigurations",
                     ServiceIds=SERVICES)
    of_service = [(service["ServiceId"], arn) for service in services
                  for arn in service["NetworkLoadBalancerArns"]]
    found = pool.map(lambda pair: (pair[0], forwards_to(pair[1])), of_service)
    groups = [(service, group) for service, arns in found for group in sorted(arns)]
    problems = defaultdict(list)
    for (service, group), health in zip(groups, pool.map(lambda pair: states(pair[1]), groups), strict=True):
        healthy = health.count("healthy")
        if healthy < len(health) or not health:
            problems[service].append(f"{group}: {healthy} of {len(health)} targets are healthy")
    notify("health", problems)
