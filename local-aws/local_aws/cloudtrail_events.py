"""EventBridge: "AWS API Call via CloudTrail" for the management events that write to EC2, ELBv2 and ACM.

Successful and failed writes appear on the default bus of the caller's account and Region, shortly after the call or
with the delay set in `delays`. The record has CloudTrail's shape: request parameters in lower camel case, and for newer
EC2 actions, including those of VPC endpoints, the request as `{"ACTIONRequest": {…}}`. There, list items are
`{"tag": 1, "content": …}`, a list of one is its item, an empty list is `""`, and digits such as an account's id become
a number.
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
"""
import base64
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
_APIS = {"ec2": EC2, "elasticloadbalancing": ELB, "acm": None}
_READS = re.compile(r"(Describe|Get|List|Search|Export)")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_WRAPPED = re.compile(r"VpcEndpoint|SecurityGroupRule|ManagedPrefixList|LaunchTemplate|TransitGateway")
_outgoing: queue.Queue = queue.Queue()


def is_recorded(service, action):
    if service not in _APIS or _READS.match(action):
        return False
    return service == "acm" or action in _APIS[service].model.operation_names


def record(service, action, request, headers, query, answer, error, request_id):
    """Send the event of a call. `request` is its form or its JSON; `error` is the error code of a failed call."""
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
        "requestParameters": request_parameters(service, action, request),
        "responseElements": None if error else response_elements(service, action, answer),
        "requestID": request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }
    if error:
        detail |= {"errorCode": f"Client.{error}" if service == "ec2" else error, "errorMessage": _message(answer)}
    if service == "elasticloadbalancing":
        detail["apiVersion"] = "2015-12-01"
    event = account, region, {"Source": f"aws.{service}", "DetailType": "AWS API Call via CloudTrail",
                              "Detail": json.dumps(detail)}
    delays.of_event("cloudtrail", lambda: send(event))


def send(event):
    """Send an event to EventBridge: its account, its Region and the entry for PutEvents."""
    _outgoing.put(event)


def _message(answer):
    found = re.search(r"<Message>(.*?)</Message>", answer if isinstance(answer, str) else answer.decode(), re.DOTALL)
    return found[1] if found else ""


def request_parameters(service, action, form):
    api = _APIS[service]
    if service == "acm":
        return _with_buffers(_lower_camel(json.loads(form)))
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


def _with_buffers(request):
    """ACM: a certificate's bytes become Java's buffer of them; its private key is hidden.
    https://docs.aws.amazon.com/acm/latest/userguide/cloudtrail.html#ct-acm-import
    """
    buffers = {name: {"hb": list(base64.b64decode(request[name])), "offset": 0, "isReadOnly": False}
               for name in ("certificate", "certificateChain", "privateKey") if name in request}
    if "privateKey" in buffers:
        buffers["privateKey"]["hb"] = []
    return request | buffers


def _lower_camel(value):
    """ELBv2 and ACM: members in lower camel case, lists unchanged."""
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
        return "" if not items else items[0] if len(items) == 1 else items
    return _number(value)


def _number(value):
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _with_items(shape, value, nested=False):
    """Older EC2 actions: lower camel case, lists as `{"items": […]}`. Inside an item, a missing list is `{}`."""
    if shape.type_name == "structure":
        given = {_lower_first(_older_name(name)): _with_items(shape.members[name], item, nested=True)
                 for name, item in value.items()}
        missing = {_lower_first(_older_name(name)): {} for name, member in shape.members.items()
                   if nested and member.type_name == "list" and name not in value}
        return missing | given
    if shape.name in ("SecurityGroupIdStringList", "GroupIdStringList"):  # of an instance or an interface
        return {"items": [{"groupId": item} for item in value]}
    if shape.type_name == "list":
        return {"items": [_with_items(shape.member, item, nested=True) for item in value]}
    return value


def _older_name(name):
    return {"Ipv6Ranges": "ipv6Ranges", "UserIdGroupPairs": "groups", "Groups": "groupSet",
            "SecurityGroupIds": "groupSet", "PortRange": "portRange", "Protocol": "aclProtocol"}.get(name, name)


def _lower_first(name):
    return name[0].lower() + name[1:]


def response_elements(service, action, answer):
    if service == "acm":
        return _lower_camel(json.loads(answer or "{}")) or None
    wrapped = service == "ec2" and _WRAPPED.search(action)
    content = _from_xml(ElementTree.fromstring(answer), wrapped)
    if service == "elasticloadbalancing":
        result = content.get(f"{action}Result") if isinstance(content, dict) else None
        return _lower_camel(result) if isinstance(result, dict) else None
    if wrapped:
        return {f"{action}Response": {"xmlns": EC2.namespace, **content}}
    return {("_return" if key == "return" else key): value for key, value in content.items()}


def _from_xml(element, wrapped):
    children = list(element)
    if not children:
        text = {"true": True, "false": False}.get(element.text, element.text or "")
        return _number(text) if wrapped else text
    names = [child.tag.rsplit("}", 1)[-1] for child in children]
    values = [_from_xml(child, wrapped) for child in children]
    if set(names) == {"member"}:
        return values
    if set(names) == {"item"}:
        return {"item": values[0] if len(values) == 1 else values} if wrapped else {"items": values}
    return dict(zip(names, values, strict=True))


def _deliver():
    while True:
        account, region, entry = _outgoing.get()
        try:
            with request_scope(account, region):
                eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
        except Exception:
            log.exception("an event was not delivered")
        finally:
            _outgoing.task_done()


def under_way():
    """The number of events that have not reached EventBridge, without the delayed ones."""
    return _outgoing.unfinished_tasks


def install():
    threading.Thread(target=_deliver, daemon=True, name="cloudtrail-events").start()
