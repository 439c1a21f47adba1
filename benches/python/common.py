"""What the three functions share: clients made once, state in DynamoDB, alerts on SNS."""
import json
import os

import boto3
from botocore.config import Config

SERVICES = os.environ["ENDPOINT_SERVICE_IDS"].split(",")
DBT = {principal.split(":")[4] if ":" in principal else principal
       for principal in os.environ["DBT_PRINCIPALS"].split(",")}
THREADS = 16  # as many calls at a time as the guard makes

_CONFIG = Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=2, read_timeout=4,
                 max_pool_connections=THREADS)


def client(service):
    return boto3.client(service, config=_CONFIG)


table = client("dynamodb")
sns = client("sns")


def pages(aws, operation, key, **arguments):
    return [row for page in aws.get_paginator(operation).paginate(**arguments) for row in page[key]]


def notify(function, problems):
    """Publish what differs from the last run, and remember it. `problems`: {service: [text, ...]}."""
    name = os.environ["STATE_TABLE"]
    for service in SERVICES:
        now = sorted(problems.get(service, []))
        key = {"service": {"S": service}, "item": {"S": f"python-{function}"}}
        item = table.get_item(TableName=name, Key=key).get("Item")
        if now == (json.loads(item["record"]["S"]) if item else []):
            continue
        sns.publish(TopicArn=os.environ["ALERT_TOPIC_ARN"], Subject=f"{service}: {len(now)} problems",
                    Message="\n".join(now) or "All problems are resolved.")
        table.put_item(TableName=name, Item={**key, "record": {"S": json.dumps(now)}})
