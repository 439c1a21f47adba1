"""CloudWatch: GetMetricData, and the metrics of AWS services, which tests set.

Data points stay in ministack's store, for its alarms.
"""
import os
import re
import time
from collections import defaultdict
from datetime import datetime

from ministack.core.responses import request_scope
from ministack.services import cloudwatch

from . import cbor
from .paging import datapoints_page
from .wire import Api, ApiError

CLOUDWATCH = Api("cloudwatch")
_MAX_QUERIES = 500
_QUERY_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")


# Requests and responses, in any of CloudWatch's three protocols

def _error(error, is_cbor, is_json):
    status, headers, body = cloudwatch._error(error.code, error.message, error.status, use_json=is_json,
                                              use_cbor=is_cbor)
    return status, {**headers, "x-amzn-query-error": f"{error.code};Sender"}, body


def get_metric_data(params, data, is_cbor, is_json=False):
    try:
        answer = _metric_data(data if is_cbor or is_json else CLOUDWATCH.parse("GetMetricData", params))
    except ApiError as error:
        return _error(error, is_cbor, is_json)
    encoded = {True: lambda moment: cbor.CBORTag(1, float(moment)), False: int if is_json else cloudwatch._ts_iso}
    for result in answer["MetricDataResults"]:
        result["Timestamps"] = [encoded[is_cbor](moment) for moment in result["Timestamps"]]
    answer = {member: value for member, value in answer.items() if value is not None}
    if is_cbor:
        return cloudwatch._cbor_ok(answer)
    return cloudwatch._json_ok(answer) if is_json else CLOUDWATCH.answer("GetMetricData", answer)


def put_metric_data(params, data, is_cbor, is_json=False):
    """Refuse the namespaces of AWS services, which are reserved.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
    """
    namespace = data.get("Namespace") if is_cbor or is_json else cloudwatch._p(params, "Namespace")
    if (namespace or "").startswith("AWS/"):
        error = ApiError("InvalidParameterValue", "The value AWS/ for parameter Namespace is invalid.")
        return _error(error, is_cbor, is_json)
    return _ministack_put(params, data, is_cbor, is_json)


# GetMetricData

def _metric_data(request):
    queries = request.get("MetricDataQueries") or []
    if not queries:
        raise ApiError("ValidationError", "The parameter MetricDataQueries is required.")
    if len(queries) > _MAX_QUERIES:
        raise ApiError("ValidationError", "The collection MetricDataQueries must not have a size greater than "
                                          f"{_MAX_QUERIES}.")
    for number, query in enumerate(queries, start=1):
        _check_query(number, query)
    if len({query["Id"] for query in queries}) < len(queries):
        raise ApiError("ValidationError", "The values for parameter id in MetricDataQueries are not unique.")
    start, end = cloudwatch._parse_ts(request.get("StartTime")), cloudwatch._parse_ts(request.get("EndTime"))
    if start is None or end is None or start >= end:
        raise ApiError("ValidationError", "The parameter EndTime must be greater than StartTime.")
    newest_first = request.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    queries = [query for query in queries if query.get("ReturnData", True)]
    series = [_points(query["MetricStat"], start // 60 * 60, end, newest_first) for query in queries]
    return _page(request, queries, series)


def _check_query(number, query):
    where = f"MetricDataQueries.member.{number}"
    if not _QUERY_ID.fullmatch(query.get("Id", "")):
        raise ApiError("ValidationError", f"The value {query.get('Id')} for parameter {where}.Id is not matching the "
                                          f"expected pattern ^{_QUERY_ID.pattern}$.")
    if "MetricStat" not in query:
        raise ApiError("ValidationError", f"{where} has no MetricStat: metric math is not supported here.")
    period = query["MetricStat"]["Period"]
    if period not in (1, 5, 10, 20, 30) and (period < 60 or period % 60):
        raise ApiError("ValidationError", f"The parameter {where}.MetricStat.Period must be 1, 5, 10, 20, 30 or a "
                                          "multiple of 60.")


def _points(asked, start, end, newest_first):
    """(timestamp, value) for each period with data. The dimensions must equal the metric's."""
    metric, period, unit = asked["Metric"], asked["Period"], asked.get("Unit")
    dimensions = cloudwatch._dims_key(cloudwatch._dims_from_list(metric.get("Dimensions") or []))
    periods = defaultdict(list)
    for point in cloudwatch._metrics.get((metric["Namespace"], metric["MetricName"], dimensions)) or []:
        if start <= point["Timestamp"] < end and unit in (None, point["Unit"]):
            periods[point["Timestamp"] // period * period].append(point)
    values = [(moment, cloudwatch._stat_value(cloudwatch._calc_stats(points), asked["Stat"], points))
              for moment, points in sorted(periods.items(), reverse=newest_first)]
    return [(moment, value) for moment, value in values if value is not None]


def _page(request, queries, series):
    """A page of data points in the order of the queries. A query appears on all pages up to its last data point."""
    start, end, token = datapoints_page(request, sum(map(len, series)))
    results, before = [], 0
    for query, points in zip(queries, series, strict=True):
        shown = points[max(start - before, 0):max(end - before, 0)]
        before += len(points)
        if before > start or start == 0:
            results.append({
                "Id": query["Id"], "Label": query.get("Label") or query["MetricStat"]["Metric"]["MetricName"],
                "Timestamps": [moment for moment, _ in shown], "Values": [value for _, value in shown],
                "StatusCode": "Complete" if before <= end else "PartialData"})
    return {"MetricDataResults": results, "NextToken": token, "Messages": []}


# The metrics of AWS services

def set_values(namespace, metric, values, dimensions=(), period=60, end=None, unit="None", **where):
    """Set the values of consecutive periods, the last of which ends at `end` or before now; null: no data point."""
    dimensions = dict(pair.split("=", 1) for pair in dimensions)
    last = datetime.fromisoformat(end.replace("Z", "+00:00")).timestamp() if end else time.time()
    first = last // period * period - period * len(values)
    points = [{"Timestamp": first + period * number, "Value": float(value), "Unit": unit, "Dimensions": dimensions}
              for number, value in enumerate(values) if value is not None]
    moments = {first + period * number for number in range(len(values))}
    with scope(**where):
        stored = cloudwatch._metric_bucket((namespace, metric, cloudwatch._dims_key(dimensions)))
        stored[:] = [point for point in stored if point["Timestamp"] not in moments] + points
        cloudwatch._evaluate_all_alarms()


def scope(account=None, region=None):
    """The account and Region of a control command; by default the provider company's and the server's."""
    return request_scope(account or os.environ["MINISTACK_ACCOUNT_ID"], region or os.environ["MINISTACK_REGION"])


_ministack_put = cloudwatch._put_metric_data


def install():
    cloudwatch._get_metric_data, cloudwatch._put_metric_data = get_metric_data, put_metric_data
