"""EC2: connection notifications, the only messages that report a consumer's request to the provider."""
import json
import logging

from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region
from ministack.services import sns

from . import clock, endpoint_services
from .endpoint_services import new_id, unsuccessful_item
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

EVENTS = ("Connect", "Accept", "Reject", "Delete")
_notifications: dict[str, dict] = {}  # id -> {"account", "region", "answer": the ConnectionNotification}
log = logging.getLogger("local_aws")


def _of_caller(notification_id):
    notification = _notifications.get(notification_id)
    if not notification or (notification["account"], notification["region"]) != (get_account_id(), get_region()):
        raise ApiError("InvalidConnectionNotification",
                       f"The connection notification '{notification_id}' does not exist")
    return notification


def service_of(notification_id):
    """The endpoint service of a notification, if it has one."""
    return _notifications.get(notification_id, {}).get("answer", {}).get("ServiceId")


def _check(topic_arn, events):
    if not topic_arn.startswith("arn:aws:sns:"):
        raise ApiError("InvalidParameter", f"'{topic_arn}' is not the ARN of an SNS topic")
    for event in events:
        if event not in EVENTS:
            raise ApiError("InvalidParameter", f"Invalid connection event: '{event}'")


@EC2.action("CreateVpcEndpointConnectionNotification")
def create(request):
    if "ServiceId" in request:
        endpoint_services.owned(request["ServiceId"])
    elif "VpcEndpointId" not in request:
        raise ApiError("MissingParameter", "The request must contain the parameter ServiceId or VpcEndpointId")
    _check(request["ConnectionNotificationArn"], request["ConnectionEvents"])
    notification_id = new_id("vpce-nfn")
    answer = {
        "ConnectionNotificationId": notification_id, "ConnectionNotificationType": "Topic",
        "ServiceId": request.get("ServiceId"), "VpcEndpointId": request.get("VpcEndpointId"),
        "ConnectionNotificationArn": request["ConnectionNotificationArn"],
        "ConnectionEvents": request["ConnectionEvents"], "ConnectionNotificationState": "Enabled"}
    _notifications[notification_id] = {"account": get_account_id(), "region": get_region(), "answer": answer}
    return {"ConnectionNotification": answer, "ClientToken": request.get("ClientToken")}


@EC2.action("DescribeVpcEndpointConnectionNotifications")
def describe(request):
    scope = (get_account_id(), get_region())
    notifications = ([_of_caller(request["ConnectionNotificationId"])] if "ConnectionNotificationId" in request else
                     [n for n in _notifications.values() if (n["account"], n["region"]) == scope])
    rows = ec2_filter(request, [notification["answer"] for notification in notifications], {
        "connection-notification-arn": "ConnectionNotificationArn",
        "connection-notification-id": "ConnectionNotificationId",
        "connection-notification-state": "ConnectionNotificationState",
        "connection-notification-type": "ConnectionNotificationType",
        "service-id": "ServiceId", "vpc-endpoint-id": "VpcEndpointId"})
    return ec2_page(request, "ConnectionNotificationSet", rows)


@EC2.action("ModifyVpcEndpointConnectionNotification")
def modify(request):
    answer = _of_caller(request["ConnectionNotificationId"])["answer"]
    changes = {member: request[member] for member in ("ConnectionNotificationArn", "ConnectionEvents")
               if member in request}
    _check(changes.get("ConnectionNotificationArn", answer["ConnectionNotificationArn"]),
           changes.get("ConnectionEvents", []))
    answer.update(changes)
    return {"ReturnValue": True}


@EC2.action("DeleteVpcEndpointConnectionNotifications")
def delete(request):
    unsuccessful = []
    for notification_id in request["ConnectionNotificationIds"]:
        try:
            _of_caller(notification_id)
            del _notifications[notification_id]
        except ApiError as error:
            unsuccessful.append(unsuccessful_item(notification_id, error))
    return {"Unsuccessful": unsuccessful}


def notify(service, endpoint_id, event):
    """Publish the event to the topic of every matching notification, of the service or of the endpoint.

    AWS does not document the message. This one contains the ids, the event, the account and the time.
    """
    message = json.dumps({"eventName": event, "serviceId": service.service_id, "vpcEndpointId": endpoint_id,
                          "accountId": service.account, "region": service.region, "time": clock.iso()})
    for notification in list(_notifications.values()):
        answer = notification["answer"]
        if answer["ConnectionNotificationState"] != "Enabled":
            continue
        if event in answer["ConnectionEvents"] and (answer["ServiceId"] == service.service_id
                                                    or answer["VpcEndpointId"] == endpoint_id):
            publish(answer["ConnectionNotificationArn"], message, service)


def force(notification_id, state):
    """Set a notification's state: Describe can return Disabled, but no API call disables a notification."""
    if notification_id not in _notifications:
        raise LookupError(f"no connection notification {notification_id}")
    if state not in ("Enabled", "Disabled"):
        raise ValueError("a notification is Enabled or Disabled")
    _notifications[notification_id]["answer"]["ConnectionNotificationState"] = state


def publish(topic_arn, message, service):
    """Publish as vpce.amazonaws.com on behalf of the endpoint service, if the topic's policy allows it."""
    with service.scope():
        if not _topic_allows_vpce(topic_arn, service):
            log.warning("%s does not allow vpce.amazonaws.com to publish for %s", topic_arn, service.arn)
            return False
        return sns.publish_internal(topic_arn, message) is not None


def _topic_allows_vpce(topic_arn, service):
    policy = (sns.topic_policy_for_arn(topic_arn) or [""])[0]
    context = EvalContext(
        principal_arn="vpce.amazonaws.com", principal_type="Service", principal_account="", action="sns:Publish",
        resource_arn=topic_arn, region=service.region,
        service_context={"aws:sourcearn": service.arn, "aws:sourceaccount": service.account})
    return evaluate_resource_policy(policy, context, service="vpce.amazonaws.com").decision == "Allow"
