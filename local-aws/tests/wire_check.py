"""Checks of responses to clients: every XML element and every key must be a member of botocore's output shape."""
import json
import re
from xml.etree import ElementTree

from local_aws import cbor

violations: list[str] = []
HANDLED_HERE = re.compile(  # the EC2 actions of this package; all calls to the other services
    "VpcEndpoint|NetworkAcl|(Create|Delete|Describe|Modify)NetworkInterface|PrivateIpAddresses|SecurityGroup|PrefixList|Route|Subnet|VpcPeering|"
    "TransitGateway|(Create|Describe)Vpcs?$|VpcCidrBlock|(Run|Describe)Instances|FlowLogs")
LOWER_CAMEL = re.compile(r"[a-z]+([A-Z][a-z]*)*")


def watch(client):
    """Check the responses to this client, if this package handles its service."""
    service = client.meta.service_model.service_name
    if service in ("ec2", "elbv2", "rds"):
        client.meta.events.register(f"before-parse.{service}", _check)
    if service == "acm":
        client.meta.events.register("before-parse.acm", _check_values)
    if service == "cloudwatch":
        client.meta.events.register("before-parse.cloudwatch.GetMetricData", _check_values)
    if service == "logs":
        for action in ("StartQuery", "GetQueryResults", "DescribeLogGroups"):
            client.meta.events.register(f"before-parse.cloudwatch-logs.{action}", _check_values)


def _check(operation_model, response_dict, **_):
    name = operation_model.name
    if response_dict["status_code"] >= 300:
        return
    if operation_model.service_model.service_name == "ec2" and not HANDLED_HERE.search(name):
        return
    shape = operation_model.output_shape
    without_shape = {"requestId", "ResponseMetadata"} | (set() if shape else {"return", f"{name}Result"})
    for element in ElementTree.fromstring(response_dict["body"]):
        if _tag(element) == f"{name}Result" and shape:
            _walk(element, shape, name)
        elif _tag(element) not in without_shape:
            _member(element, shape, name)


def _check_values(operation_model, response_dict, **_):
    if response_dict["status_code"] < 300 and operation_model.output_shape:
        decode = cbor.loads if response_dict["headers"]["content-type"] == "application/cbor" else json.loads
        check_value(decode(response_dict["body"]), operation_model.output_shape, operation_model.name)


_JSON_TYPES = {"structure": dict, "list": list, "map": dict, "string": str, "boolean": bool, "integer": int,
               "double": (int, float), "timestamp": (int, float)}


# AWS's answers that differ from its model. https://github.com/aws-controllers-k8s/community/issues/2394
_MODELLED = {"KeyAlgorithm": lambda value: value.replace("RSA-", "RSA_")}


def check_value(value, shape, path):
    """Check a decoded value. Timestamps are numbers, and a member without a value is absent."""
    if not isinstance(value, _JSON_TYPES.get(shape.type_name, object)):
        violations.append(f"{path}: {value!r} is not a {shape.type_name}")
    elif shape.type_name == "structure":
        for name, item in value.items():
            if name not in shape.members:
                violations.append(f"{path}: {shape.name} has no {name}")
            else:
                check_value(item, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for item in value:
            check_value(item, shape.member, f"{path}[]")
    elif getattr(shape, "enum", None) and _MODELLED.get(shape.name, str)(value) not in shape.enum:
        violations.append(f"{path}: {value!r} is not a {shape.name}")


def _tag(element):
    return element.tag.rsplit("}", 1)[-1]


def _walk(element, shape, path):
    if shape.type_name == "structure":
        for child in element:
            _member(child, shape, path)
    elif shape.type_name == "list":
        item = shape.member.serialization.get("name", "member")
        for child in element:
            if _tag(child) != item:
                violations.append(f"{path}: <{_tag(child)}> in a list of <{item}>")
            _walk(child, shape.member, f"{path}[]")
    elif len(element):
        violations.append(f"{path}: a {shape.type_name} with elements")
    elif shape.name == "State" and not LOWER_CAMEL.fullmatch(element.text or ""):
        violations.append(f"{path}: the state {element.text!r} is not in lower camel case")


def _member(element, shape, path):
    by_wire_name = {member.serialization.get("name", name): member for name, member in shape.members.items()}
    if _tag(element) not in by_wire_name:
        violations.append(f"{path}: {shape.name} has no <{_tag(element)}>")
    else:
        _walk(element, by_wire_name[_tag(element)], f"{path}.{_tag(element)}")
