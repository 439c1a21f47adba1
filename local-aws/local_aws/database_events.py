"""RDS events: on EventBridge, and in the list of DescribeEvents.

https://docs.aws.amazon.com/eventbridge/latest/ref/events-ref-rds.html: best effort, so they can be late, or missing.
The ids and messages: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html and, for Aurora,
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/USER_Events.Messages.html
The shape: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/working-with-events.html
"""
import json
import time

from ministack.core.responses import get_account_id, get_region, new_uuid
from ministack.services import rds

from . import clock, cloudtrail_events, delays

# id: its category and its message, with a DB instance's name
_EVENTS = {
    "RDS-EVENT-0006": ("availability", "DB instance restarted"),
    "RDS-EVENT-0013": ("failover", "Multi-AZ instance failover started."),
    "RDS-EVENT-0049": ("failover", "Multi-AZ instance failover completed"),
    "RDS-EVENT-0071": ("failover", "Completed failover to DB instance: {name}"),
    "RDS-EVENT-0072": ("failover", "Started same AZ failover to DB instance: {name}"),
    "RDS-EVENT-0073": ("failover", "Started cross AZ failover to DB instance: {name}"),
}


def of_instance(instance, event_id):
    _emit("Instance", "DB_INSTANCE", "db-instance", instance["DBInstanceIdentifier"], instance["DBInstanceArn"],
          instance["TagList"], event_id)


def of_cluster(cluster, event_id, name):
    _emit("Cluster", "CLUSTER", "db-cluster", cluster["DBClusterIdentifier"], cluster["DBClusterArn"],
          cluster["TagList"], event_id, name)


def _emit(kind, source_type, listed_type, identifier, arn, tags, event_id, name=None):
    category, message = _EVENTS[event_id]
    message = message.format(name=name)
    rds._events[new_uuid()] = {
        "SourceIdentifier": identifier, "SourceType": listed_type, "SourceArn": arn, "Message": message,
        "Date": time.time(), "EventCategories": [category]}
    event = get_account_id(), get_region(), {
        "Source": "aws.rds", "DetailType": f"RDS DB {kind} Event", "Resources": [arn], "Detail": json.dumps({
            "EventCategories": [category], "SourceType": source_type, "SourceArn": arn, "Date": clock.iso(),
            "Message": message, "SourceIdentifier": identifier, "EventID": event_id,
            "Tags": {tag["Key"]: tag["Value"] for tag in tags}})}
    delays.of_event("rds", lambda: cloudtrail_events.send(event))
