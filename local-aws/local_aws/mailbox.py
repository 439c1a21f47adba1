"""SNS: captures the messages for email, HTTP(S) and SMS, with SNS's checks before publication.

Nothing is sent. Subscriptions by email, HTTP(S) and SMS count as confirmed, except those of addresses that begin with
`unconfirmed`: nobody follows their link. Each receiver's messages stay in order, and every message is also kept in its
published form under the protocol "topic".
"""
import json
import threading

from ministack.services import sns

from . import clock

UNCONFIRMED = "unconfirmed"
CAPTURED = ("email", "email-json", "http", "https", "sms")
_mail: list[dict] = []
_lock = threading.Lock()


def since(number):
    with _lock:
        return [entry for entry in _mail if entry["n"] > number]


def _capture(topic, protocol, endpoint, subject, message, attributes):
    plain = {name: attribute.get("StringValue", attribute.get("BinaryValue")) for name, attribute in attributes.items()}
    with _lock:
        _mail.append({"n": len(_mail) + 1, "time": clock.iso(), "topic": topic, "protocol": protocol,
                      "endpoint": endpoint, "subject": subject or None, "message": message, "attributes": plain})


def _publish_problem(subject, message, structure):
    """SNS's error for a subject that is too long or not printable ASCII, JSON without a default, or no message."""
    if subject and not (len(subject) <= 100 and subject.isascii() and subject.isprintable() and subject[0] != " "):
        return "Invalid parameter: Subject"
    if structure not in ("", "json"):
        return "Invalid parameter: MessageStructure"
    if structure == "json":
        try:
            bodies = json.loads(message)
        except ValueError:
            return "Invalid parameter: Message Structure - JSON message body failed to parse"
        if not isinstance(bodies, dict) or not isinstance(bodies.get("default"), str):
            return "Invalid parameter: Message Structure - No default entry in JSON message body"
    return None if message else "Invalid parameter: Empty message"


def install():
    fanout, subscribe, publish_internal = sns._fanout, sns._subscribe, sns.publish_internal
    list_subscriptions = sns._list_subscriptions_by_topic

    def capturing_fanout(topic_arn, msg_id, message, subject, message_structure="", message_attributes=None, **more):
        attributes = message_attributes or {}
        _capture(topic_arn, "topic", None, subject, message, attributes)
        for subscription in (sns._topic_by_arn_any_scope(topic_arn) or {"subscriptions": []})["subscriptions"]:
            protocol = subscription["protocol"]
            if protocol not in CAPTURED or not subscription.get("confirmed"):
                continue
            body = sns._resolve_message_for_protocol(message, message_structure, protocol)
            if sns._matches_filter_policy(subscription, attributes, body):
                _capture(topic_arn, protocol, subscription["endpoint"], subject, body, attributes)
        fanout(topic_arn, msg_id, message, subject, message_structure, message_attributes, **more)

    def checked_publish(topic_arn, message, subject="", *, message_structure="", **more):
        text = json.dumps(message) if isinstance(message, (dict, list)) else message
        problem = _publish_problem(subject, text, message_structure)
        if problem:
            raise sns.SnsPublishError("InvalidParameter", problem)
        return publish_internal(topic_arn, text, subject, message_structure=message_structure, **more)

    def confirmed_subscribe(form):
        answer = subscribe(form)
        topic = sns._topic_by_arn_any_scope(sns._p(form, "TopicArn"))
        for subscription in topic["subscriptions"] if topic else []:
            subscription["confirmed"] = not subscription["endpoint"].startswith(UNCONFIRMED)
            pending = "false" if subscription["confirmed"] else "true"
            subscription.get("attributes", {})["PendingConfirmation"] = pending
        return answer

    def listed_subscriptions(form):
        """Instead of an ARN, a subscription that nobody has confirmed has a word.
        https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html"""
        status, headers, body = list_subscriptions(form)
        topic = sns._topic_by_arn_any_scope(sns._p(form, "TopicArn"))
        for subscription in topic["subscriptions"] if topic else []:
            if not subscription.get("confirmed"):
                arn = f"<SubscriptionArn>{subscription['arn']}</SubscriptionArn>".encode()
                body = body.replace(arn, b"<SubscriptionArn>PendingConfirmation</SubscriptionArn>")
        return status, headers, body

    async def deliver_nothing(*_):
        """Deliver nothing, so that no message leaves this machine."""

    sns._fanout, sns._subscribe, sns.publish_internal = capturing_fanout, confirmed_subscribe, checked_publish
    sns._list_subscriptions_by_topic = listed_subscriptions
    sns._deliver_to_http = sns._send_subscription_confirmation = deliver_nothing
