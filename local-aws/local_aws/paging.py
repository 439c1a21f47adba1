"""Filters and pages of the Describe calls, and pages of GetMetricData."""
import base64
import json
import re

from .wire import ApiError

_MAX_FILTER_VALUES = 200
_IDENTITY = ("Id", "Arn", "Cidr", "Principal")
_INVALID_TOKEN = ApiError("InvalidNextToken", "The token is invalid.")
_max_page_size = 0  # 0: only the request's own limit


def set_max_page_size(size):
    """Limit every page to this size, so that a few resources need several pages."""
    global _max_page_size
    _max_page_size = size


def _cap(size):
    return min(size, _max_page_size) if _max_page_size else size


def _token(offset, last=None):
    """The token of the next page: the number of rows before it, and the last of them."""
    return base64.urlsafe_b64encode(json.dumps({"offset": offset, "last": last}).encode()).decode()


def _read(token, error):
    if not token:
        return 0, None
    try:
        read = json.loads(base64.urlsafe_b64decode(token.encode()))
        return int(read["offset"]), read["last"]
    except (ValueError, TypeError, KeyError):
        raise error from None


def _identity(row):
    """The values that identify a row, however its others change."""
    return [value for name, value in row.items() if isinstance(value, str) and name.endswith(_IDENTITY)]


def _page(rows, size, token, error):
    """The rows of one page, and the token of the next.

    A page begins after the last row of the previous page, wherever that row is now, so rows added or removed between
    two pages do not hide others. AWS does not document this.
    """
    offset, last = _read(token, error)
    if last:
        # If that row is gone, those after it have moved up by at least one.
        found = (position for position, row in enumerate(rows, 1) if _identity(row) == last)
        offset = next(found, offset - 1)
    end = offset + size
    return rows[offset:end], _token(end, _identity(rows[end - 1])) if end < len(rows) else None


def ec2_page(request, key, rows, smallest=5, largest=1000):
    """One page of an EC2 Describe call: MaxResults within the call's bounds, NextToken."""
    wanted = request.get("MaxResults", largest)
    if wanted < smallest:
        raise ApiError("InvalidParameterValue", f"Value ( {wanted} ) for parameter maxResults is invalid. "
                                                f"Expecting a value greater than or equal to {smallest}.")
    page, token = _page(rows, _cap(min(wanted, largest)), request.get("NextToken"), _INVALID_TOKEN)
    return {key: page, "NextToken": token}


def elb_page(request, key, rows):
    """One page of an ELBv2 Describe call: PageSize from 1 to 400, Marker."""
    wanted = request.get("PageSize", 400)
    if not 1 <= wanted <= 400:
        raise ApiError("ValidationError", "Page size must be between 1 and 400")
    page, marker = _page(rows, _cap(wanted), request.get("Marker"), ApiError("ValidationError", "Marker is invalid"))
    return {key: page, "NextMarker": marker}


def rds_page(request, key, rows):
    """One page of an RDS Describe call: MaxRecords from 20 to 100, Marker."""
    wanted = request.get("MaxRecords", 100)
    if not 20 <= wanted <= 100:
        raise ApiError("InvalidParameterValue", f"Invalid value {wanted} for MaxRecords. Must be between 20 and 100")
    page, marker = _page(rows, _cap(wanted), request.get("Marker"), ApiError("InvalidParameterValue",
                                                                             "The marker is invalid"))
    return {key: page, "Marker": marker}


def datapoints_page(request, total, largest=100_800):
    """One page of GetMetricData, of at most MaxDatapoints: its start, its end and the NextToken."""
    start, _ = _read(request.get("NextToken"), _INVALID_TOKEN)
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
