"""Reports settings that are not as dbt's guide asks: acceptance, principals, cross-zone, listeners, security groups."""
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from common import DBT, SERVICES, THREADS, client, notify, pages

ec2, elb = client("ec2"), client("elbv2")
pool = ThreadPoolExecutor(THREADS)
PORTS = [int(port) for port in os.environ.get("LISTENER_PORTS", "").split("+") if port]
CIDRS = [cidr for cidr in os.environ.get("DBT_CIDRS", "").split(",") if cidr]


def of_service(service):
    problems = []
    if service["ServiceState"] != "Available":
        problems.append(f"the service is {service['ServiceState']}")
    if not service["AcceptanceRequired"]:
        problems.append("acceptance is not required")
    allowed = pages(ec2, "describe_vpc_endpoint_service_permissions", "AllowedPrincipals",
                    ServiceId=service["ServiceId"])
    accounts = [row["Principal"].split(":")[4] if ":" in row["Principal"] else row["Principal"] for row in allowed]
    if sorted(accounts) != sorted(DBT):
        problems.append("the allowed principals are not dbt's")
    return problems


def of_load_balancer(load_balancer):
    arn, problems = load_balancer["LoadBalancerArn"], []
    if load_balancer["Scheme"] != "internal" or load_balancer["State"]["Code"] != "active":
        problems.append(f"{arn} is not internal, or not active")
    attributes = elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    if {"Key": "load_balancing.cross_zone.enabled", "Value": "true"} not in attributes:
        problems.append(f"cross-zone load balancing is off for {arn}")
    ports = {listener["Port"] for listener in pages(elb, "describe_listeners", "Listeners", LoadBalancerArn=arn)}
    if not ports or not ports.issuperset(PORTS):
        problems.append(f"{arn} lacks listeners")
    return problems


def allows(group, port, cidr):
    def matches(rule):
        if rule["IpProtocol"] != "-1" and not rule.get("FromPort", 0) <= port <= rule.get("ToPort", 65535):
            return False
        return any(allowed["CidrIp"] == cidr for allowed in rule["IpRanges"])

    return any(matches(rule) for rule in group["IpPermissions"])


def handler(_event):
    services = pages(ec2, "describe_vpc_endpoint_service_configurations", "ServiceConfigurations",
                     ServiceIds=SERVICES)
    arns = sorted({arn for service in services for arn in service["NetworkLoadBalancerArns"]})
    load_balancers = [row for start in range(0, len(arns), 20)
                      for row in pages(elb, "describe_load_balancers", "LoadBalancers",
                                       LoadBalancerArns=arns[start:start + 20])]
    ids = sorted({group for row in load_balancers for group in row.get("SecurityGroups", [])})
    groups = pages(ec2, "describe_security_groups", "SecurityGroups", GroupIds=ids) if ids else []
    groups = {group["GroupId"]: group for group in groups}
    found = dict(zip([row["LoadBalancerArn"] for row in load_balancers],
                     pool.map(of_load_balancer, load_balancers), strict=True))
    for row in load_balancers:
        blocked = [f"{cidr} on {port}" for cidr in CIDRS for port in PORTS
                   if row.get("SecurityGroups") and not any(allows(groups[group], port, cidr)
                                                            for group in row["SecurityGroups"])]
        found[row["LoadBalancerArn"]] += [f"security groups block {what}" for what in blocked]
    problems = defaultdict(list)
    for service, own in zip(services, pool.map(of_service, services), strict=True):
        problems[service["ServiceId"]] += own
        for arn in service["NetworkLoadBalancerArns"]:
            problems[service["ServiceId"]] += found.get(arn, [f"{arn} is gone"])
    for missing in set(SERVICES) - {service["ServiceId"] for service in services}:
        problems[missing].append("the service is gone")
    notify("drift", problems)
