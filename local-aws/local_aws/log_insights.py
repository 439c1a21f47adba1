"""CloudWatch Logs Insights: counting records of flow logs, and the size of log groups, which a test can set.

ministack answers queries that list log events. This module answers queries that count: each stage has one form, in this
order; any other query is an error instead of a wrong answer.
"""
import json
import re
from collections import Counter

from ministack.core.responses import error_response_json, json_response, new_uuid
from ministack.services import cloudwatch_logs

from .metrics import scope

_NAME = r"[A-Za-z_]\w*"
_NAMES = rf"{_NAME}(?:, {_NAME})*"
_TEXT = r'"[^"]*"'
_STAGES = [re.compile(pattern) for pattern in (
    rf'parse @message "(?P<pattern>\*(?: \*)*)" as (?P<fields>{_NAMES})',
    r"filter (?P<conditions>.+)",
    rf"stats count\(\*\) as (?P<count>{_NAME}) by (?P<groups>{_NAMES})",
    rf"sort (?P<sorted>{_NAME}) desc",
    r"limit (?P<limit>\d+)")]
_CONDITION = re.compile(rf"(?P<field>{_NAME}) (?:= (?P<value>{_TEXT})|in \[(?P<values>{_TEXT}(?:, {_TEXT})*)\])")
_stored_bytes: dict[str, int] = {}


class MalformedQueryError(Exception):
    """A query in a form that is not supported here."""


def start_query(data):
    query = data.get("queryString", "")
    if not re.search(r"\b(parse|stats)\b", query):
        return _ministack_start(data)
    names = cloudwatch_logs._resolve_query_log_groups(data)
    unknown = [name for name in names if name not in cloudwatch_logs._log_groups]
    if unknown or not names:
        return error_response_json("ResourceNotFoundException", "The specified log group does not exist.", 400)
    if data["startTime"] > data["endTime"]:
        return error_response_json("MalformedQueryException", "end date and time is either before the log groups "
                                                              "creation time or exceeds the log groups log retention "
                                                              "settings", 400)
    events = cloudwatch_logs._collect_query_records(names, data["startTime"], data["endTime"])
    try:
        rows, matched = _counted(_parsed(query), [event["@message"] for event in events])
    except MalformedQueryError as error:
        return error_response_json("MalformedQueryException", str(error), 400)
    query_id = new_uuid()
    cloudwatch_logs._queries[query_id] = {
        "queryId": query_id, "logGroupNames": names, "startTime": data["startTime"], "endTime": data["endTime"],
        "queryString": query, "status": "Complete",
        "results": [[{"field": field, "value": str(value)} for field, value in row.items()] for row in rows],
        "statistics": {"recordsMatched": float(matched), "recordsScanned": float(len(events)),
                       "bytesScanned": float(sum(len(event["@message"]) for event in events))}}
    return json_response({"queryId": query_id})


def _parsed(query):
    """The parts of the stages."""
    stages = [stage.strip() for stage in query.split("|")]
    found = [form.fullmatch(stage) for form, stage in zip(_STAGES, stages, strict=False)]
    if len(stages) != len(_STAGES) or not all(found):
        raise MalformedQueryError(f"This local AWS does not understand the query: {query}")
    parts = {name: part for match in found for name, part in match.groupdict().items()}
    fields, groups = parts["fields"].split(", "), parts["groups"].split(", ")
    conditions = [_CONDITION.fullmatch(condition) for condition in parts["conditions"].split(" and ")]
    wildcards = parts["pattern"].count("*")
    if not all(conditions) or wildcards != len(fields) or parts["sorted"] != parts["count"]:
        raise MalformedQueryError(f"This local AWS does not understand the query: {query}")
    return {**parts, "fields": fields, "groups": groups, "conditions": [
        (condition["field"], re.findall(r'"([^"]*)"', condition["value"] or condition["values"]))
        for condition in conditions]}


def _counted(query, messages):
    """The rows, and the number of matching events. An event that does not fit the pattern has none of its fields."""
    counts = Counter()
    for message in messages:
        # The last wildcard matches the rest.
        values = message.split(" ", len(query["fields"]) - 1)
        if len(values) < len(query["fields"]):
            continue
        event = dict(zip(query["fields"], values, strict=True))
        if all(event.get(field) in wanted for field, wanted in query["conditions"]):
            counts[tuple(event.get(field, "") for field in query["groups"])] += 1
    rows = [{**dict(zip(query["groups"], group, strict=True)), query["count"]: count}
            for group, count in counts.most_common(int(query["limit"]))]
    return rows, counts.total()


# The size of log groups

def set_stored_bytes(log_group, stored_bytes, **where):
    """Set a log group's size in DescribeLogGroups, since no test writes gigabytes."""
    with scope(**where):
        if log_group not in cloudwatch_logs._log_groups:
            raise LookupError(f"there is no log group {log_group}")
        _stored_bytes[cloudwatch_logs._log_groups[log_group]["arn"]] = stored_bytes


def describe_log_groups(data):
    status, headers, body = _ministack_describe(data)
    if status == 200:
        answer = json.loads(body)
        for group in answer["logGroups"]:
            group["storedBytes"] = _stored_bytes.get(group["arn"], group["storedBytes"])
        body = json.dumps(answer).encode()
    return status, headers, body


_ministack_start, _ministack_describe = cloudwatch_logs._start_query, cloudwatch_logs._describe_log_groups


def install():
    cloudwatch_logs._start_query, cloudwatch_logs._describe_log_groups = start_query, describe_log_groups
