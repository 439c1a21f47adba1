"""CloudFormation: the resource types of AWS PrivateLink and chat channels, and features that ministack lacks:
properties of its types, and functions in conditions.

Each type's create, update and delete use the code of the EC2 calls. A resource that cannot be created fails the stack.
"""
import asyncio

import yaml
from ministack.core.responses import get_account_id, get_region
from ministack.services import dynamodb, lambda_svc, s3, sns
from ministack.services.cloudformation import _stacks, changesets, engine, handlers, provisioners, stacks

from . import connection_notifications, endpoint_connections, endpoint_services
from .wire import ApiError


def _tag_specifications(resource_type, properties):
    return [{"ResourceType": resource_type, "Tags": properties.get("Tags", [])}]


def _is_true(value):
    return str(value).lower() == "true"


def _cloudformation_error(error):
    return ValueError(f"{error.message} (Service: Ec2, Status Code: {error.status}, Error Code: {error.code})")


class ResourceType:
    """A resource type with one method per operation. A changed `create_only` property replaces the resource."""

    create_only: tuple = ()

    def handlers(self):
        return {"create": self._create, "update": self._update, "delete": self._delete}

    def _create(self, logical_id, properties, stack_name):
        try:
            return self.create(properties)
        except ApiError as error:
            raise _cloudformation_error(error) from error

    def _update(self, physical_id, old, new, stack_name):
        try:
            if any(old.get(name) != new.get(name) for name in self.create_only):
                return self.create(new)  # the physical id changes, so the engine deletes the old resource
            return physical_id, self.update(physical_id, old, new)
        except ApiError as error:
            raise _cloudformation_error(error) from error

    def _delete(self, physical_id, properties):
        self.delete(physical_id)


class ConnectionNotification(ResourceType):
    """AWS::EC2::VPCEndpointConnectionNotification"""

    create_only = ("ServiceId", "VPCEndpointId")

    def create(self, properties):
        request = {"ConnectionNotificationArn": properties["ConnectionNotificationArn"],
                   "ConnectionEvents": properties["ConnectionEvents"]}
        for name, member in (("ServiceId", "ServiceId"), ("VPCEndpointId", "VpcEndpointId")):
            if name in properties:
                request[member] = properties[name]
        answer = connection_notifications.create(request)["ConnectionNotification"]
        notification_id = answer["ConnectionNotificationId"]
        return notification_id, {"VPCEndpointConnectionNotificationId": notification_id}

    def update(self, physical_id, old, new):
        connection_notifications.modify({
            "ConnectionNotificationId": physical_id, "ConnectionEvents": new["ConnectionEvents"],
            "ConnectionNotificationArn": new["ConnectionNotificationArn"]})
        return {"VPCEndpointConnectionNotificationId": physical_id}

    def delete(self, physical_id):
        connection_notifications.delete({"ConnectionNotificationIds": [physical_id]})


class EndpointService(ResourceType):
    """AWS::EC2::VPCEndpointService"""

    def create(self, properties):
        answer = endpoint_services.create({
            "NetworkLoadBalancerArns": properties.get("NetworkLoadBalancerArns", []),
            "AcceptanceRequired": _is_true(properties.get("AcceptanceRequired", True)),
            "SupportedIpAddressTypes": properties.get("SupportedIpAddressTypes", ["ipv4"]),
            "SupportedRegions": self._regions(properties),
            "TagSpecifications": _tag_specifications("vpc-endpoint-service", properties)})
        service_id = answer["ServiceConfiguration"]["ServiceId"]
        return service_id, {"ServiceId": service_id}

    @staticmethod
    def _regions(properties):
        return [entry["Region"] for entry in properties.get("SupportedRegions", [])]

    def update(self, physical_id, old, new):
        arns, before = new.get("NetworkLoadBalancerArns", []), old.get("NetworkLoadBalancerArns", [])
        endpoint_services.modify({
            "ServiceId": physical_id, "AcceptanceRequired": _is_true(new.get("AcceptanceRequired", True)),
            "AddNetworkLoadBalancerArns": arns,
            "RemoveNetworkLoadBalancerArns": [arn for arn in before if arn not in arns],
            "AddSupportedRegions": self._regions(new),
            "RemoveSupportedRegions": [r for r in self._regions(old) if r not in self._regions(new)]})
        return {"ServiceId": physical_id}

    def delete(self, physical_id):
        for refused in endpoint_services.delete({"ServiceIds": [physical_id]})["Unsuccessful"]:
            if not refused["Error"]["Code"].endswith("NotFound"):
                raise ValueError(refused["Error"]["Message"])


class EndpointServicePermissions(ResourceType):
    """AWS::EC2::VPCEndpointServicePermissions. Its physical id is the service id."""

    create_only = ("ServiceId",)

    def create(self, properties):
        endpoint_services.modify_permissions({"ServiceId": properties["ServiceId"],
                                              "AddAllowedPrincipals": properties.get("AllowedPrincipals", [])})
        return properties["ServiceId"], {}

    def update(self, physical_id, old, new):
        wanted = new.get("AllowedPrincipals", [])
        endpoint_services.modify_permissions({
            "ServiceId": physical_id, "AddAllowedPrincipals": wanted,
            "RemoveAllowedPrincipals": [p for p in old.get("AllowedPrincipals", []) if p not in wanted]})
        return {}

    def delete(self, physical_id):
        try:
            service = endpoint_services.owned(physical_id)
        except ApiError:
            return
        service.allowed.clear()


class Endpoint(ResourceType):
    """AWS::EC2::VPCEndpoint for endpoint services. ministack handles endpoints for AWS services."""

    def __init__(self, ministack):
        self.ministack = ministack

    def handlers(self):
        return {"create": self._create_either, "update": self._update_either, "delete": self._delete_either}

    def _create_either(self, logical_id, properties, stack_name):
        if ".vpce-svc-" not in str(properties.get("ServiceName")):
            return self.ministack["create"](logical_id, properties, stack_name)
        return self._create(logical_id, properties, stack_name)

    def _update_either(self, physical_id, old, new, stack_name):
        if not endpoint_connections.find(physical_id):
            return self.ministack["update"](physical_id, old, new, stack_name)
        return physical_id, self._attributes(endpoint_connections.find(physical_id))

    def _delete_either(self, physical_id, properties):
        if not endpoint_connections.find(physical_id):
            return self.ministack["delete"](physical_id, properties)
        return endpoint_connections.delete_endpoints({"VpcEndpointIds": [physical_id]})

    def create(self, properties):
        answer = endpoint_connections.create_endpoint({
            "ServiceName": properties["ServiceName"], "VpcId": properties["VpcId"],
            "SubnetIds": properties.get("SubnetIds", []), "SecurityGroupIds": properties.get("SecurityGroupIds", []),
            "PrivateDnsEnabled": _is_true(properties.get("PrivateDnsEnabled", False)),
            "TagSpecifications": _tag_specifications("vpc-endpoint", properties)})
        endpoint_id = answer["VpcEndpoint"]["VpcEndpointId"]
        return endpoint_id, self._attributes(endpoint_connections.find(endpoint_id))

    @staticmethod
    def _attributes(connection):
        view = connection.consumer_view()
        return {"Id": connection.endpoint_id, "CreationTimestamp": view["CreationTimestamp"],
                "NetworkInterfaceIds": view["NetworkInterfaceIds"],
                "DnsEntries": [f"Z1EXAMPLE:{entry['DnsName']}" for entry in view["DnsEntries"]]}


class ChatChannel(ResourceType):
    """A channel of Amazon Q Developer in chat applications, which subscribes to the topics.

    AWS subscribes one endpoint for all channels. Here, each kind has its own endpoint, so that a test can tell the
    receivers apart.
    """

    def __init__(self, kind, endpoint, required):
        self.kind, self.endpoint, self.required = kind, endpoint, required

    def create(self, properties):
        missing = [name for name in self.required if not properties.get(name)]
        if missing:
            raise ValueError(f"Model validation failed (required key {missing[0]} not found)")
        self._subscribe(properties)
        arn = f"arn:aws:chatbot::{get_account_id()}:chat-configuration/{self.kind}/{properties['ConfigurationName']}"
        return arn, {"Arn": arn}

    def update(self, physical_id, old, new):
        self._unsubscribe(old)
        self._subscribe(new)
        return {"Arn": physical_id}

    def _delete(self, physical_id, properties):
        self._unsubscribe(properties)

    def _subscribe(self, properties):
        async def subscribe():
            self._subscribe_now(properties)
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # a nested stack is deployed in a thread without the loop that ministack's SNS needs
            asyncio.run(subscribe())
        else:
            self._subscribe_now(properties)

    def _subscribe_now(self, properties):
        for topic_arn in properties.get("SnsTopicArns", []):
            sns._subscribe({"TopicArn": topic_arn, "Protocol": "https", "Endpoint": self.endpoint})

    def _unsubscribe(self, properties):
        for topic_arn in properties.get("SnsTopicArns", []):
            topic = sns._topic_by_arn_any_scope(topic_arn) or {"subscriptions": []}
            topic["subscriptions"][:] = [s for s in topic["subscriptions"] if s["endpoint"] != self.endpoint]


# AWS::Chatbot::SlackChannelConfiguration and AWS::Chatbot::MicrosoftTeamsChannelConfiguration
SLACK = ChatChannel("slack-channel", "https://global.sns-api.chatbot.amazonaws.com",
                    ("ConfigurationName", "IamRoleArn", "SlackChannelId", "SlackWorkspaceId"))
TEAMS = ChatChannel("microsoft-teams-channel", "https://global.sns-api.chatbot.amazonaws.com/teams",
                    ("ConfigurationName", "IamRoleArn", "TeamId", "TeamsChannelId", "TeamsTenantId"))


def _set_time_to_live(table, properties):
    """AWS::DynamoDB::Table TimeToLiveSpecification"""
    specification = properties.get("TimeToLiveSpecification")
    if specification:
        dynamodb._update_ttl({"TableName": table, "TimeToLiveSpecification": {
            "AttributeName": specification["AttributeName"], "Enabled": _is_true(specification["Enabled"])}})


def _set_delivery_and_concurrency(function, properties):
    """AWS::Lambda::Function DeadLetterConfig and ReservedConcurrentExecutions"""
    record = lambda_svc._functions[function]
    record["config"]["DeadLetterConfig"] = properties.get("DeadLetterConfig")
    reserved = properties.get("ReservedConcurrentExecutions")
    record["concurrency"] = None if reserved is None else int(reserved)


def _refusing_full_buckets(handlers):
    """AWS::S3::Bucket: only an empty one can be deleted."""
    def delete(physical_id, properties):
        if (s3._buckets.get(physical_id) or {}).get("objects"):
            raise ValueError("The bucket you tried to delete is not empty (Service: S3, Status Code: 409)")
        return handlers["delete"](physical_id, properties)

    return {**handlers, "delete": delete}


def _completed(handlers, complete):
    """A type's handlers, extended to apply further properties after ministack's create and update."""
    def create(logical_id, properties, stack_name):
        physical_id, attributes = handlers["create"](logical_id, properties, stack_name)
        complete(physical_id, properties)
        return physical_id, attributes

    def update(physical_id, old, new, stack_name, logical_id=None):
        physical_id, attributes = handlers["update"](physical_id, old, new, stack_name, logical_id)
        complete(physical_id, new)
        return physical_id, attributes

    return {**handlers, "create": create, "update": update}


class Conditions:
    """An evaluator of the parts that ministack lacks in conditions: Fn::Join, Fn::Split, the Region and the account."""

    def __init__(self, parameters):
        self.values = {name: parameter["Value"] for name, parameter in parameters.items()}
        self.values |= {"AWS::Region": get_region(), "AWS::AccountId": get_account_id()}
        self.functions = {"Fn::Join": self._join, "Fn::Split": self._split}

    def replaced(self, node):
        if isinstance(node, list):
            return [self.replaced(member) for member in node]
        if not isinstance(node, dict) or len(node) != 1:
            return node
        [(function, argument)] = node.items()
        if function in self.functions:
            return self.functions[function](argument)
        is_pseudo = function == "Ref" and argument.startswith("AWS::") and argument in self.values
        return self.values[argument] if is_pseudo else {function: self.replaced(argument)}

    def _text(self, node):
        return self.values[node["Ref"]] if isinstance(node, dict) and "Ref" in node else self.replaced(node)

    def _join(self, argument):
        delimiter, parts = argument
        return delimiter.join(self._text(part) for part in parts)

    def _split(self, argument):
        delimiter, text = argument
        return self._text(text).split(delimiter)


def _evaluating_more(evaluate):
    def evaluated(template, parameters):
        every = Conditions(parameters)
        conditions = {name: every.replaced(condition) for name, condition in (template.get("Conditions") or {}).items()}
        return evaluate({**template, "Conditions": conditions}, parameters)
    return evaluated


def _without_aliases(parse):
    """Refuse aliases, which ministack resolves: "Template error: YAML aliases are not allowed in CloudFormation
    templates".
    https://github.com/seeebiii/aws-cloudformation-templates/issues/1
    """
    def parsed(body):
        if not body.strip().startswith("{") and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(body)):
            raise ValueError("YAML aliases are not allowed in CloudFormation templates")
        return parse(body)
    return parsed


def _update_nested(update):
    """Wrap ministack's update, which loses the attributes of resources that a nested stack leaves unchanged."""
    def updated(resource_type, physical_id, old, new, stack_name, logical_id=None, old_attributes=None):
        known = (_stacks.get(stack_name) or {}).get("_resources", {}).get(logical_id, {}).get("Attributes")
        return update(resource_type, physical_id, old, new, stack_name, logical_id, old_attributes or known)
    return updated


def install():
    types = provisioners._RESOURCE_HANDLERS
    types["AWS::EC2::VPCEndpointConnectionNotification"] = ConnectionNotification().handlers()
    types["AWS::EC2::VPCEndpointService"] = EndpointService().handlers()
    types["AWS::EC2::VPCEndpointServicePermissions"] = EndpointServicePermissions().handlers()
    types["AWS::EC2::VPCEndpoint"] = Endpoint(types["AWS::EC2::VPCEndpoint"]).handlers()
    types["AWS::Chatbot::SlackChannelConfiguration"] = SLACK.handlers()
    types["AWS::Chatbot::MicrosoftTeamsChannelConfiguration"] = TEAMS.handlers()
    types["AWS::DynamoDB::Table"] = _completed(types["AWS::DynamoDB::Table"], _set_time_to_live)
    types["AWS::Lambda::Function"] = _completed(types["AWS::Lambda::Function"], _set_delivery_and_concurrency)
    provisioners._STACK_TAG_PROPERTY["AWS::EC2::VPCEndpointService"] = ("Tags", "list")  # gets the stack's tags too
    types["AWS::S3::Bucket"] = _refusing_full_buckets(types["AWS::S3::Bucket"])
    provisioners._update_resource = _update_nested(provisioners._update_resource)
    for module in (changesets, engine, handlers):
        module._parse_template = _without_aliases(module._parse_template)
    for module in (changesets, engine, handlers, stacks):
        module._evaluate_conditions = _evaluating_more(module._evaluate_conditions)
