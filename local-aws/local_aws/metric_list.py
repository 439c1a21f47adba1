"""CloudWatch: ListMetrics by dimensions in the query protocol, in which ministack ignores them."""
import json

from ministack.services import cloudwatch

from .metrics import CLOUDWATCH


def list_metrics(params, data, is_cbor, is_json=False):
    if is_cbor or is_json:
        return _ministack_list(params, data, is_cbor, is_json)
    _, _, body = _ministack_list(params, CLOUDWATCH.parse("ListMetrics", params), False, True)
    return CLOUDWATCH.answer("ListMetrics", json.loads(body))


_ministack_list = cloudwatch._list_metrics


def install():
    cloudwatch._list_metrics = list_metrics
