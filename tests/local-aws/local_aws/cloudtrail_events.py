"""EventBridge: "AWS API Call via CloudTrail" for the management events that write to EC2 and ELBv2.

Only successful writes, shortly after the call or as late as `delays` says, on the default bus of the caller's account
and Region. The record has CloudTrail's shape: request parameters in lower camel case, and for newer EC2 actions,
including those of VPC endpoints, the request as `{"ACTIONRequest": {…}}` with list items as `{"tag": 1, "content": …}`.
"""
import json
import logging
import queue
import re
import threading
import uuid
from xml.etree import ElementTree

from ministack.core.responses import get_account_id, get_region, get_request_client_ip, request_scope
from ministack.services import eventbridge

from . import callers, clock, delays
from .wire import EC2, ELB, ApiError

log = logging.getLogger("local_aws")
_APIS = {"ec2": EC2, "elasticloadbalancing": ELB}
_READS = re.compile(r"(Describe|Get|List|Search|Export)")
_WRAPPED = re.compile(r"VpcEndpoint|SecurityGroupRule|ManagedPrefixList|LaunchTemplate|TransitGateway")
_outgoing: queue.Queue = queue.Queue()


def is_recorded(service, action):
    return service in _APIS and not _READS.match(action)


def record(service, action, form, headers, query, answer, request_id):
    """Send the event of a successful call. `answer` is the XML of the response."""
    account, region = get_account_id(), get_region()
    detail = {
        "eventVersion": "1.10",
        "userIdentity": callers.identity_of(headers, query),
        "eventTime": clock.iso()[:19] + "Z",
        "eventSource": f"{service}.amazonaws.com",
        "eventName": action,
        "awsRegion": region,
        "sourceIPAddress": get_request_client_ip(),
        "userAgent": headers.get("user-agent", ""),
        "requestParameters": request_parameters(service, action, form),
        "responseElements": response_elements(service, action, answer),
        "requestID": request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }
    if service == "elasticloadbalancing":
        detail["apiVersion"] = "2015-12-01"
    event = account, region, {"Source": f"aws.{service}", "DetailType": "AWS API Call via CloudTrail",
                              "Detail": json.dumps(detail)}
    delays.of_cloudtrail(lambda: _outgoing.put(event))


def request_parameters(service, action, form):
    api = _APIS[service]
    try:
        request = api.parse(action, form)
    except ApiError:
        return None
    shape = api.model.operation_model(action).input_shape
    if service == "elasticloadbalancing":
        return _lower_camel(request)
    if _WRAPPED.search(action):
        return {f"{action}Request": _wrapped(api, shape, request)}
    return _with_items(shape, request)


def _lower_camel(value):
    """ELBv2: members in lower camel case, lists unchanged."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: _lower_camel(item) for key, item in value.items()}
    return [_lower_camel(item) for item in value] if isinstance(value, list) else value


def _wrapped(api, shape, value):
    """Newer EC2 actions: members by their request names, list items numbered by `tag`."""
    if shape.type_name == "structure":
        return {api.request_name(name, shape.members[name]): _wrapped(api, shape.members[name], item)
                for name, item in value.items()}
    if shape.type_name == "list":
        items = []
        for tag, item in enumerate(value, start=1):
            content = _wrapped(api, shape.member, item)
            items.append({"tag": tag, **(content if isinstance(content, dict) else {"content": content})})
        return items[0] if len(items) == 1 else items
    return value


def _with_items(shape, value):
    """Older EC2 actions: lower camel case, lists as `{"items": […]}`."""
    if shape.type_name == "structure":
        return {_lower_first(_older_name(name)): _with_items(shape.members[name], item)
                for name, item in value.items()}
    if shape.name in ("SecurityGroupIdStringList", "GroupIdStringList"):  # of an instance or an interface
        return {"items": [{"groupId": item} for item in value]}
    if shape.type_name == "list":
        return {"items": [_with_items(shape.member, item) for item in value]}
    return value


def _older_name(name):
    return {"Ipv6Ranges": "ipv6Ranges", "UserIdGroupPairs": "groups", "Groups": "groupSet",
            "SecurityGroupIds": "groupSet", "PortRange": "portRange", "Protocol": "aclProtocol"}.get(name, name)


def _lower_first(name):
    return name[0].lower() + name[1:]


def response_elements(service, action, xml):
    root = ElementTree.fromstring(xml)
    content = _from_xml(root)
    if service == "elasticloadbalancing":
        result = content.get(f"{action}Result") if isinstance(content, dict) else None
        return _lower_camel(result) if isinstance(result, dict) else None
    if _WRAPPED.search(action):
        return {f"{action}Response": {"xmlns": EC2.namespace, **content}}
    return {("_return" if key == "return" else key): value for key, value in content.items()}


def _from_xml(element):
    children = list(element)
    if not children:
        return {"true": True, "false": False}.get(element.text, element.text or "")
    names = [child.tag.rsplit("}", 1)[-1] for child in children]
    if set(names) == {"member"}:
        return [_from_xml(child) for child in children]
    if set(names) == {"item"}:
        return {"items": [_from_xml(child) for child in children]}
    return {name: _from_xml(child) for name, child in zip(names, children, strict=True)}


def _deliver():
    while True:
        account, region, entry = _outgoing.get()
        try:
            with request_scope(account, region):
                eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
        except Exception:
            log.exception("a CloudTrail event was not delivered")
        finally:
            _outgoing.task_done()


def under_way():
    """How many events EventBridge does not have yet, besides those that are delayed."""
    return _outgoing.unfinished_tasks


def install():
    threading.Thread(target=_deliver, daemon=True, name="cloudtrail-events").start()
