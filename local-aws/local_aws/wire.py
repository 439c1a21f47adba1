"""The wire format of EC2, ELBv2 and RDS, and of CloudWatch's older protocol, read from botocore's service model.

The model lists every parameter and field of an API. So a handler takes a dict of the request's members and returns a
dict of the response's members, named as in the API reference and the AWS CLI's output. A field outside the model is an
error: a response can lack a field, but cannot contain one that AWS would not send.
"""
import uuid
from xml.sax.saxutils import escape

from botocore.loaders import Loader
from botocore.model import ServiceModel

from . import answers

_XML = {"Content-Type": "text/xml;charset=UTF-8"}


class ApiError(Exception):
    """An error response of AWS."""

    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class UseMinistack(Exception):
    """Raised by a handler to leave the request to ministack."""


class Api:
    """One service: its model, and the actions handled here instead of by ministack."""

    def __init__(self, botocore_name):
        self.model = ServiceModel(Loader().load_service_model(botocore_name, "service-2"), botocore_name)
        self.is_ec2 = self.model.metadata["protocol"] == "ec2"
        self.namespace = self.model.metadata.get("xmlNamespace") or "http://ec2.amazonaws.com/doc/2016-11-15/"
        if isinstance(self.namespace, dict):
            self.namespace = self.namespace["uri"]
        self._functions = {}

    def action(self, name):
        """Decorator: the function handles the action. It takes the request dict and returns the response dict."""
        self.model.operation_model(name)  # raises for an unknown action

        def register(function):
            self._functions[name] = function
            return function

        return register

    def install(self, action_map):
        """Register the actions in place of ministack's."""
        for name, function in self._functions.items():
            action_map[name] = self._handler(name, function, action_map.get(name))

    def _handler(self, name, function, fallback):
        def handle(form):
            try:
                return self.answer(name, function(self.parse(name, form)) or {})
            except UseMinistack:
                return fallback(form)
            except ApiError as error:
                return self.error(error)

        return handle

    # Requests

    def parse(self, action, form):
        """The request's members, from its form parameters `{name: value or [value]}`."""
        flat = {key: value[0] if isinstance(value, list) else value for key, value in form.items()}
        shape = self.model.operation_model(action).input_shape
        request = (self.read(shape, "", flat) if shape else None) or {}
        for member in shape.required_members if shape else ():
            if member not in request:
                raise self._missing(self.request_name(member, shape.members[member]), member)
        return request

    def _missing(self, wire_name, member):
        if self.is_ec2:
            return ApiError("MissingParameter", f"The request must contain the parameter {wire_name}")
        field = member[0].lower() + member[1:]
        return ApiError("ValidationError", f"1 validation error detected: Value null at '{field}' failed to satisfy "
                                           "constraint: Member must not be null")

    def request_name(self, member, shape):
        """The parameter's name in requests. In EC2 it often differs: `VpcEndpointId` for the member VpcEndpointIds."""
        if not self.is_ec2:
            return shape.serialization.get("name", member)
        name = shape.serialization.get("queryName") or shape.serialization.get("name", member)
        return name[0].upper() + name[1:]

    def read(self, shape, prefix, form):
        """The value of this shape under a parameter name (`Tag.1.Key`, `Tags.member.1.Key`), or None."""
        if shape.type_name == "structure":
            below = f"{prefix}." if prefix else ""
            if below and not any(key.startswith(below) for key in form):
                return None
            members = {name: self.read(member, below + self.request_name(name, member), form)
                       for name, member in shape.members.items()}
            return {name: value for name, value in members.items() if value is not None}
        if shape.type_name == "list":
            stem = prefix if self.is_ec2 else f"{prefix}.{shape.member.serialization.get('name', 'member')}"
            items = []
            while (item := self.read(shape.member, f"{stem}.{len(items) + 1}", form)) is not None:
                items.append(item)
            return items or None
        value = form.get(prefix)
        if value is not None and shape.type_name == "boolean":
            return value.lower() == "true"
        if value is not None and shape.type_name in ("integer", "long"):
            try:
                return int(value)
            except ValueError:
                code = "InvalidParameterValue" if self.is_ec2 else "ValidationError"
                raise ApiError(code, f"Value ({value}) for parameter {prefix} is invalid") from None
        return value

    # Responses

    def answer(self, action, answer):
        shape = self.model.operation_model(action).output_shape
        answer = answers.changed(f"{self.model.signing_name}:{action}", shape, answer) if shape else answer
        inner = self.xml(shape, answer) if shape else ("<return>true</return>" if self.is_ec2 else "")
        request_id = str(uuid.uuid4())
        if self.is_ec2:
            inner = f"<requestId>{request_id}</requestId>{inner}"
        else:
            inner = (f"<{action}Result>{inner}</{action}Result>"
                     f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>")
        body = f'<{action}Response xmlns="{self.namespace}">{inner}</{action}Response>'
        return 200, dict(_XML), f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()

    def xml(self, shape, value):
        """The inner XML of a value of this shape. Members that are None are omitted."""
        if shape.type_name == "structure":
            unknown = value.keys() - shape.members.keys()
            if unknown:
                raise KeyError(f"{shape.name} has no {sorted(unknown)}")
            return "".join(_element(member.serialization.get("name", name), self.xml(member, value[name]))
                           for name, member in shape.members.items() if value.get(name) is not None)
        if shape.type_name == "list":
            return "".join(_element(shape.member.serialization.get("name", "member"), self.xml(shape.member, item))
                           for item in value)
        return escape(str(value).lower() if isinstance(value, bool) else str(value))

    def error(self, error):
        code, message, request_id = escape(error.code), escape(error.message), uuid.uuid4()
        if self.is_ec2:
            body = (f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
                    f"<RequestID>{request_id}</RequestID></Response>")
        else:
            body = (f'<ErrorResponse xmlns="{self.namespace}"><Error><Type>Sender</Type><Code>{code}</Code>'
                    f"<Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>")
        return error.status, dict(_XML), body.encode()


def _element(name, inner):
    return f"<{name}>{inner}</{name}>"


EC2 = Api("ec2")
ELB = Api("elbv2")
RDS = Api("rds")
