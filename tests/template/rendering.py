"""The template as CloudFormation would see it for given parameters, Region and partition, without deploying it.

The local AWS's engine unrolls the loops and applies SAM's transform. The remaining intrinsic functions are resolved
here, with a made-up name or ARN for each resource.
"""
import copy
import functools
import json
import os
import pathlib
import re

os.environ.setdefault("MINISTACK_REGION", "eu-central-1")
from ministack.services.cloudformation import engine

ROOT = pathlib.Path(__file__).parents[2]
ACCOUNT = "111122223333"
SERVICE = "vpce-svc-0123456789abcdef0"
SLACK = {"SlackWorkspaceId": "T0123ABCD", "SlackChannelId": "C0123ABCD"}
TEAMS = {"TeamsTenantId": "01234567-89ab-cdef-0123-456789abcdef", "TeamsTeamId": "fedcba98-7654-3210-fedc-ba9876543210",
         "TeamsChannelId": "19%3Aabc%40thread.tacv2"}
# The functions of every stack, and one more with follow().
FUNCTIONS = ["ConnectionAcceptor", "HealthWatcher", "DriftWatcher"]
ALL_FUNCTIONS = [*FUNCTIONS, "TargetFollower"]
REQUIRED = {"EndpointServiceIds": SERVICE, "DbtPrincipals": "arn:aws:iam::444455556666:root"}
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/01234567-89ab-cdef-0123-456789abcdef"
PARTITIONS = {"eu-central-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov"}
NOTHING = object()

# The ARN of each resource type, with {id} for the resource's name.
_ARNS = {
    "AWS::SNS::Topic": "sns:{region}:{account}:{id}", "AWS::SQS::Queue": "sqs:{region}:{account}:{id}",
    "AWS::IAM::Role": "iam::{account}:role/{id}", "AWS::IAM::ManagedPolicy": "iam::{account}:policy/{id}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{id}",
    "AWS::DynamoDB::Table": "dynamodb:{region}:{account}:table/{id}",
    "AWS::Logs::LogGroup": "logs:{region}:{account}:log-group:{id}:*",
    "AWS::Events::Rule": "events:{region}:{account}:rule/{id}",
    "AWS::CloudWatch::Alarm": "cloudwatch:{region}:{account}:alarm:{id}",
}
_REF_IS_ARN = ("AWS::SNS::Topic", "AWS::IAM::ManagedPolicy")
STACK = "privatelink-guard"
# CloudFormation cuts the stack's part of a name where a service takes fewer characters. The others take all of it.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html
_LONGEST_NAMES = {"AWS::IAM::Role": 64, "AWS::Lambda::Function": 64, "AWS::Events::Rule": 64, "AWS::SQS::Queue": 80,
                  "AWS::Scheduler::Schedule": 64, "AWS::IAM::ManagedPolicy": 128}


def partition_of(region):
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def follow(region="eu-central-1"):
    """The parameters with which the stack has target-follower."""
    group = f"arn:{partition_of(region)}:elasticloadbalancing:{region}:{ACCOUNT}:targetgroup/pg/0123456789abcdef"
    return {"FollowHostnames": "replace", "FollowTargetGroups": group}


def source(path="template.yaml"):
    return copy.deepcopy(_parsed(path))


@functools.cache
def _parsed(path):
    return engine._parse_template((ROOT / path).read_text(encoding="utf-8"))


class Rendered:
    """The resources and outputs that CloudFormation creates.

    A resource is named like in the template, unless a stack's name is given: then as CloudFormation would name it.
    """

    def __init__(self, region="eu-central-1", path="template.yaml", stack=None, **parameters):
        template = source(path)
        for resource in template["Resources"].values():
            if isinstance(resource, dict) and resource["Type"] == "AWS::Serverless::Function":
                resource["Properties"]["CodeUri"] = "s3://bucket/key"
        required = {name: value for name, value in REQUIRED.items() if name in template["Parameters"]}
        values = {**required, **parameters}
        given = [{"Key": name, "Value": value} for name, value in values.items()]
        expanded = engine._apply_transforms(template, given)
        assert "Resources" in expanded, expanded
        self.region, self.partition, self._stack = region, partition_of(region), stack
        self._definitions, self._mappings = template["Parameters"], template.get("Mappings", {})
        self._values = {name: values.get(name, definition.get("Default"))
                        for name, definition in self._definitions.items()}
        self._conditions, self._all = expanded["Conditions"], expanded["Resources"]
        self.resources = self._section(expanded["Resources"])
        self.outputs = self._section(expanded.get("Outputs", {}))

    def of_type(self, kind):
        return {name: resource["Properties"] for name, resource in self.resources.items() if resource["Type"] == kind}

    def defined(self, kind):
        """How many resources of this type the template has, created or not."""
        return sum(resource["Type"] == kind for resource in self._all.values())

    def _section(self, section):
        created = {name: entry for name, entry in section.items() if self._holds(entry.get("Condition"))}
        return {name: self._resolved(copy.deepcopy(entry)) for name, entry in created.items()}

    def _holds(self, condition):
        return condition is None or self._is_true(self._conditions[condition])

    def _is_true(self, test):
        [(function, argument)] = test.items()
        if function == "Condition":
            return self._holds(argument)
        if function == "Fn::Equals":
            left, right = self._resolved(argument)
            return left == right
        results = [self._is_true(part) for part in argument]
        return {"Fn::Not": not results[0], "Fn::And": all(results), "Fn::Or": any(results)}[function]

    def _resolved(self, node):
        if isinstance(node, list):
            return [value for value in map(self._resolved, node) if value is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(function, argument)] = node.items()
            if function == "Ref":
                return self._ref(argument)
            if function.startswith("Fn::"):
                return getattr(self, "_" + function[4:].lower())(argument)
        resolved = {name: value if name == "Condition" and isinstance(value, str) else self._resolved(value)
                    for name, value in node.items()}
        return {name: value for name, value in resolved.items() if value is not NOTHING}

    def _ref(self, name):
        pseudo = {"AWS::Region": self.region, "AWS::Partition": self.partition, "AWS::AccountId": ACCOUNT,
                  "AWS::StackName": self._stack or STACK, "AWS::NoValue": NOTHING, "AWS::URLSuffix": "amazonaws.com"}
        if name in pseudo:
            return pseudo[name]
        if name in self._definitions:
            value = self._values[name]
            is_list = self._definitions[name]["Type"] == "CommaDelimitedList"
            return [member.strip() for member in value.split(",")] if is_list else value
        kind = self._all[name]["Type"]
        if kind in _REF_IS_ARN:
            return self._arn(name)
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.{self.region}.amazonaws.com/{ACCOUNT}/{self.name(name)}"
        return self.name(name)

    def name(self, name):
        properties = self._all[name]["Properties"]
        if "LogGroupName" in properties:
            return self._resolved(properties["LogGroupName"])
        if self._stack is None:
            return name
        ending = f"-{name}-{'X' * 13}"
        longest = _LONGEST_NAMES.get(self._all[name]["Type"], 256)
        return (self._stack[:longest - len(ending)] + ending)[-longest:]

    def _arn(self, name):
        form = _ARNS[self._all[name]["Type"]]
        return f"arn:{self.partition}:" + form.format(region=self.region, account=ACCOUNT, id=self.name(name))

    def _getatt(self, argument):
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        return self._arn(name) if attribute == "Arn" else self.name(name)

    def _sub(self, argument):
        text, given = argument if isinstance(argument, list) else (argument, {})

        def value(match):
            name = match[1]
            if name in given:
                return str(self._resolved(given[name]))
            return str(self._getatt(name) if "." in name else self._ref(name))
        return re.sub(r"\$\{([^!}]+)\}", value, text)

    def _join(self, argument):
        delimiter, parts = argument
        return delimiter.join(str(part) for part in self._resolved(parts))

    def _split(self, argument):
        delimiter, text = argument
        return self._resolved(text).split(delimiter)

    def _select(self, argument):
        index, values = argument
        return self._resolved(values)[int(index)]

    def _if(self, argument):
        condition, then, otherwise = argument
        return self._resolved(then if self._holds(condition) else otherwise)

    def _findinmap(self, argument):
        names = [self._resolved(name) for name in argument[:3]]
        return functools.reduce(lambda mapping, name: mapping[name], names, self._mappings)


@functools.cache
def _cached(key):
    region, path, stack, parameters = json.loads(key)
    return Rendered(region, path, stack, **parameters)


def render(region="eu-central-1", path="template.yaml", stack=None, **parameters):
    return _cached(json.dumps([region, path, stack, parameters], sort_keys=True))


def render_chat(region="eu-central-1", **parameters):
    """The nested stack with these chat channels, as the guard's stack deploys it."""
    passed = render(region, **parameters).resources["AlertChat"]["Properties"]
    return render(region, passed["TemplateURL"], **passed["Parameters"])


def statements(document):
    listed = document["Statement"]
    return listed if isinstance(listed, list) else [listed]


def many(value):
    return value if isinstance(value, list) else [value]


def policies(rendered):
    """Every policy document: (resource name, kind of policy, document)."""
    for name, resource in rendered.resources.items():
        properties = resource["Properties"]
        if "AssumeRolePolicyDocument" in properties:
            yield name, "trust", properties["AssumeRolePolicyDocument"]
        for policy in properties.get("Policies", []):
            yield f"{name}/{policy['PolicyName']}", "identity", policy["PolicyDocument"]
        if "PolicyDocument" in properties:
            identity = resource["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")
            yield name, "identity" if identity else "resource", properties["PolicyDocument"]


def documents_of(rendered, role):
    """The identity policies of a role: inline, attached and managed."""
    properties = rendered.resources[role]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    documents += [policy["PolicyDocument"] for policy in rendered.of_type("AWS::IAM::Policy").values()
                  if rendered.name(role) in policy["Roles"]]
    managed = {rendered.name(name): policy for name, policy in rendered.of_type("AWS::IAM::ManagedPolicy").items()}
    documents += [managed[arn.rsplit("/", 1)[1]]["PolicyDocument"] for arn in properties.get("ManagedPolicyArns", [])]
    return documents


def allowed(rendered, role):
    """What the role may do: pairs of action and resource."""
    return {(action, resource) for document in documents_of(rendered, role) for statement in statements(document)
            for action in many(statement["Action"]) for resource in many(statement["Resource"])}
