"""CloudWatch: the state of metric alarms, evaluated every minute.

ministack evaluates a metric of any dimensions, and only when data arrives. Here, each alarm's setting decides how
missing data counts:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""
import threading
import time

from ministack.core.responses import request_scope
from ministack.services import cloudwatch

from . import clock

# CloudWatch retrieves more periods than it evaluates: in the page's examples, five for an evaluation of three.
_MORE_PERIODS = 2
_BREACHES = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold}


def evaluate(alarm):
    """Set the alarm's state from the values of its evaluation range."""
    new = _state(alarm, _values(alarm, time.time()))
    old, reason = alarm["StateValue"], "Threshold Crossed" if new != "INSUFFICIENT_DATA" else "Insufficient Data"
    if new == old:
        return
    alarm.update(StateValue=new, StateReason=reason, StateUpdatedTimestamp=int(time.time()))
    cloudwatch._record_history(alarm["AlarmName"], old, new, reason)
    cloudwatch._dispatch_alarm_actions(alarm, old, new, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def _values(alarm, now):
    """The values of the periods that have one, newest first."""
    dimensions = cloudwatch._dims_key(cloudwatch._dims_from_list(alarm.get("Dimensions") or []))
    points = cloudwatch._metrics.get((alarm["Namespace"], alarm["MetricName"], dimensions)) or []
    period = clock.minutes(alarm["Period"] / 60)
    statistic = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    for number in range(alarm["EvaluationPeriods"] + _MORE_PERIODS):
        end = now - number * period
        inside = [point for point in list(points) if end - period < point["Timestamp"] <= end]
        if inside:
            yield cloudwatch._stat_value(cloudwatch._calc_stats(inside), statistic, inside)


def _state(alarm, values):
    """The state by the newest values, in whatever periods. The alarm's treatment of missing data fills the gaps."""
    values, periods = list(values), alarm["EvaluationPeriods"]
    treatment = alarm.get("TreatMissingData") or "missing"
    if not values and treatment in ("missing", "ignore"):
        return "INSUFFICIENT_DATA" if treatment == "missing" else alarm["StateValue"]
    breaching = [_BREACHES[alarm["ComparisonOperator"]](value, alarm["Threshold"]) for value in values[:periods]]
    if treatment in ("breaching", "notBreaching"):
        breaching += [treatment == "breaching"] * (periods - len(breaching))
    return "ALARM" if sum(breaching) >= (alarm.get("DatapointsToAlarm") or periods) else "OK"


def _evaluate_forever():
    while True:
        time.sleep(clock.minutes(1))
        for account, region in {key[:2] for key, _ in cloudwatch._alarms.all_items()}:
            with request_scope(account, region):
                cloudwatch._evaluate_all_alarms()


def install():
    cloudwatch._evaluate_alarm = evaluate
    threading.Thread(target=_evaluate_forever, daemon=True, name="alarms").start()
