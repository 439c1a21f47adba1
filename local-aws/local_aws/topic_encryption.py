"""SNS: no AWS service can publish to a topic that is encrypted with AWS's own key, `alias/aws/sns`.

That key's policy allows the account's principals and no service, and nobody can change it. So a function's messages
arrive, while those of CloudWatch and EventBridge are lost; an alarm's history records the loss.
https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
"""
import json
import time

from ministack.services import cloudwatch, eventbridge, sns

_KEY = "alias/aws/sns"
_ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
_REFUSED = "CloudWatch Alarms does not have authorization to access the SNS topic encryption key."


def _is_closed(arn):
    """Whether AWS services cannot publish to the topic."""
    topic = sns._topic_by_arn_any_scope(arn) or {}
    return topic.get("attributes", {}).get("KmsMasterKeyId", "").endswith(_KEY)


def _record_failure(alarm, topic):
    failure = f'Failed to execute action {topic}. Received error: "{_REFUSED}"'
    cloudwatch._history_entries().append({
        "AlarmName": alarm["AlarmName"], "AlarmType": "MetricAlarm", "Timestamp": cloudwatch._ts_iso(time.time()),
        "HistoryItemType": "Action", "HistorySummary": failure,
        "HistoryData": json.dumps({"actionState": "Failed", "notificationResource": topic, "error": _REFUSED})})


def install():
    dispatch_actions, dispatch_to_sns = cloudwatch._dispatch_alarm_actions, eventbridge._dispatch_to_sns

    def dispatched_actions(alarm, old, new, reason):
        actions = alarm.get(_ACTIONS[new]) or []
        lost = [arn for arn in actions if _is_closed(arn)]
        dispatch_actions({**alarm, _ACTIONS[new]: [arn for arn in actions if arn not in lost]}, old, new, reason)
        for topic in lost if alarm.get("ActionsEnabled", True) else []:
            _record_failure(alarm, topic)

    def dispatched_to_sns(arn, payload):
        if not _is_closed(arn):
            dispatch_to_sns(arn, payload)
    cloudwatch._dispatch_alarm_actions, eventbridge._dispatch_to_sns = dispatched_actions, dispatched_to_sns
