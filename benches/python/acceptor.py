"""Accepts dbt's connection requests and reports endpoints of other accounts."""
from collections import defaultdict

from common import DBT, SERVICES, client, notify, pages

ec2 = client("ec2")


def handler(_event):
    filters = [{"Name": "service-id", "Values": SERVICES}]
    connections = pages(ec2, "describe_vpc_endpoint_connections", "VpcEndpointConnections", Filters=filters)
    requests, problems = defaultdict(list), defaultdict(list)
    for connection in connections:
        service, endpoint = connection["ServiceId"], connection["VpcEndpointId"]
        state = connection["VpcEndpointState"].lower()
        if connection.get("VpcEndpointOwner") not in DBT:
            if state in {"pendingacceptance", "pending", "available"}:
                problems[service].append(f"{endpoint} of another account is {state}")
        elif state == "pendingacceptance":
            requests[service].append(endpoint)
        elif state in {"rejected", "failed", "expired"}:
            problems[service].append(f"dbt's {endpoint} is {state}")
    for service, endpoints in requests.items():
        answer = ec2.accept_vpc_endpoint_connections(ServiceId=service, VpcEndpointIds=endpoints)
        for item in answer["Unsuccessful"]:
            problems[service].append(f"{item['ResourceId']} could not be accepted: {item['Error']['Message']}")
    notify("acceptor", problems)
