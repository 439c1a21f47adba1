"""Filters and pages of the Describe calls, and pages of GetMetricData."""
import base64
import re

from .wire import ApiError

_MAX_FILTER_VALUES = 200
_max_page_size = 0  # 0: no limit but the request's


def set_max_page_size(size):
    """Limit every page to this size, so that a few resources need several pages."""
    global _max_page_size
    _max_page_size = size


def _cap(size):
    return min(size, _max_page_size) if _max_page_size else size


def _token(offset):
    return base64.urlsafe_b64encode(f"offset:{offset}".encode()).decode()


def _offset(token, error):
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token.encode()).decode().removeprefix("offset:"))
    except ValueError:
        raise error from None


def ec2_page(request, key, rows, smallest=5, largest=1000):
    """One page of an EC2 Describe call: MaxResults within the call's bounds, NextToken."""
    wanted = request.get("MaxResults", largest)
    if wanted < smallest:
        raise ApiError("InvalidParameterValue", f"Value ( {wanted} ) for parameter maxResults is invalid. "
                                                f"Expecting a value greater than or equal to {smallest}.")
    start = _offset(request.get("NextToken"), ApiError("InvalidNextToken", "The token is invalid."))
    end = start + _cap(min(wanted, largest))
    return {key: rows[start:end], "NextToken": _token(end) if end < len(rows) else None}


def elb_page(request, key, rows):
    """One page of an ELBv2 Describe call: PageSize from 1 to 400, Marker."""
    wanted = request.get("PageSize", 400)
    if not 1 <= wanted <= 400:
        raise ApiError("ValidationError", "Page size must be between 1 and 400")
    start = _offset(request.get("Marker"), ApiError("ValidationError", "Marker is invalid"))
    end = start + _cap(wanted)
    return {key: rows[start:end], "NextMarker": _token(end) if end < len(rows) else None}


def datapoints_page(request, total, largest=100_800):
    """One page of GetMetricData, of at most MaxDatapoints: its start, its end and the NextToken."""
    start = _offset(request.get("NextToken"), ApiError("InvalidNextToken", "The token is invalid."))
    end = start + _cap(min(request.get("MaxDatapoints") or largest, largest))
    return start, end, _token(end) if end < total else None


def ec2_filter(request, rows, fields):
    """The rows that match every filter of the request.

    `fields` maps each filter's name to a member of the rows, or to a function from a row to its value or values.
    `tag:KEY` and `tag-key` work where the rows have Tags; `*` and `?` in values are wildcards.
    """
    if sum(len(wanted.get("Values", [])) for wanted in request.get("Filters", [])) > _MAX_FILTER_VALUES:
        raise ApiError("FilterLimitExceeded", "The maximum number of filter values specified on a single call is "
                                              f"{_MAX_FILTER_VALUES}")
    for wanted in request.get("Filters", []):
        name, patterns = wanted.get("Name", ""), wanted.get("Values", [])
        if name not in fields and not (name.startswith("tag:") or name == "tag-key"):
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
        rows = [row for row in rows if any(_matches(pattern, value)
                                           for value in _filter_values(row, name, fields) for pattern in patterns)]
    return rows


def _filter_values(row, name, fields):
    if name == "tag-key":
        return [tag["Key"] for tag in row.get("Tags") or []]
    if name.startswith("tag:"):
        return [tag["Value"] for tag in row.get("Tags") or [] if tag["Key"] == name[4:]]
    value = fields[name](row) if callable(fields[name]) else row.get(fields[name])
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [str(item).lower() if isinstance(item, bool) else str(item) for item in values]


def _matches(pattern, value):
    regex = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(regex, value) is not None
