"""CloudWatch: sends "CloudWatch Alarm State Change" to EventBridge when an alarm's state changes.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html
"""
import contextvars
import json
import logging
import threading

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch, eventbridge

log = logging.getLogger("local_aws")


# The reason of each alarm's state, by account, Region and name, since the events also contain the previous reason.
_reasons: dict[tuple, str] = {}


def _reason_before(name, reason):
    """Return the reason of the previous state and store the new one."""
    key = (get_account_id(), get_region(), name)
    before = _reasons.get(key, "Unchecked: Initial alarm creation")
    _reasons[key] = reason
    return before


def event(name, old, before, new, reason):
    alarm = cloudwatch._alarms.get(name) or {}
    return {
        "Source": "aws.cloudwatch", "DetailType": "CloudWatch Alarm State Change",
        "Resources": [f"arn:aws:cloudwatch:{get_region()}:{get_account_id()}:alarm:{name}"],
        "Detail": json.dumps({
            "alarmName": name, "state": {"value": new, "reason": reason},
            "previousState": {"value": old, "reason": before},
            "configuration": {"description": alarm.get("AlarmDescription", "")}})}


def _deliver(entry):
    try:
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
    except Exception:
        log.exception("an alarm's event was not delivered")


def _complete_history(name, before):
    """Add the reason of the previous state to the history entry, as AWS does."""
    entry = next(entry for entry in reversed(cloudwatch._history_entries()) if entry["AlarmName"] == name)
    data = json.loads(entry["HistoryData"])
    data["oldState"]["stateReason"] = before
    entry["HistoryData"] = json.dumps(data)


def install():
    record = cloudwatch._record_history

    def recorded(name, old, new, reason, *more):
        record(name, old, new, reason, *more)
        if old == new:
            return  # the alarm's creation
        # In a thread, since a target may be slow; with the account and Region of the request.
        before, context = _reason_before(name, reason), contextvars.copy_context()
        _complete_history(name, before)
        change = event(name, old, before, new, reason)
        threading.Thread(target=context.run, args=(_deliver, change), daemon=True).start()
    cloudwatch._record_history = recorded
