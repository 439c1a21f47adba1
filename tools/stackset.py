#!/usr/bin/env python3
"""The generated parts of infra/stackset.yaml and infra/stackset-role.yaml: `make docs` writes them.

The parameters come from template.yaml, and what the role may do from docs/deploy-policy.json: what is added there needs
no second edit.

    .tools/aws/bin/python tools/stackset.py
"""
import json
import pathlib
import re
import textwrap

from awscli.customizations.cloudformation.yamlhelper import yaml_parse

ROOT = pathlib.Path(__file__).parent.parent
STACKSET, ROLE = ROOT / "infra/stackset.yaml", ROOT / "infra/stackset-role.yaml"

# Parameters of the guard that the places do not share: ids of one place; chat channels, which an account can configure
# only once; the architecture, for which the template was packaged; and a path that the execution role does not allow.
OF_ONE_PLACE = {
    "EndpointServiceIds", "ExpectedEndpoints", "EnforceCrossZoneOn", "DashboardLoadBalancers", "FlowLogGroup",
    "SlackWorkspaceId", "SlackChannelId", "TeamsTenantId", "TeamsTeamId", "TeamsChannelId", "Architecture", "RolePath"}
# Of the deployer's policy, what the role has in another form.
REPLACED = {"Bucket", "Code", "Stack"}
# The names of a stack set's stacks, instead of the example's.
NAMES = [("arn:aws:", "arn:${AWS::Partition}:"), ("eu-central-1", "*"), ("111122223333", "${AWS::AccountId}"),
         ("privatelink-guard-", "StackSet-privatel")]


def is_shared(name):
    """Whether a place can have the same value as another. An ARN is of one account, and often of one Region; alerts of
    every place can go to one topic."""
    return name not in OF_ONE_PLACE and (not name.endswith("Arn") or name == "AlertTopicArn")


def stackset(text, guard):
    """The stack set's template, with the parameters of the guard's template as they are written there."""
    template = yaml_parse(guard)
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    section = re.search(r"(?ms)^Parameters:\n(.*?)^\S", guard)[1]
    written = dict(re.findall(r"(?m)^  (\w+):\n((?:    .*\n)+)", section))
    shared = [name for name in template["Parameters"] if is_shared(name)]
    groups = [(group["Label"]["default"], [name for name in group["Parameters"] if name in shared])
              for group in interface["ParameterGroups"]]
    text = filled(text, "groups", "".join(
        f"- Label: {{default: {label}}}\n  Parameters:\n" + "".join(f"    - {name}\n" for name in names)
        for label, names in groups if names))
    text = filled(text, "labels", "".join(
        f"{name}: {{default: {interface['ParameterLabels'][name]['default']}}}\n" for name in shared))
    text = filled(text, "parameters", textwrap.dedent("".join(f"  {name}:\n{written[name]}" for name in shared)))
    return filled(text, "passed", "".join(
        f"- {{ParameterKey: {name}, ParameterValue: {value(name, template['Parameters'][name])}}}\n"
        for name in shared))


def value(name, parameter):
    return f'!Join [",", !Ref {name}]' if parameter["Type"] == "CommaDelimitedList" else f"!Ref {name}"


def role(text, policy):
    """The execution role's template, with the statements of the deployer's policy."""
    return filled(text, "statements", "".join(
        statement(each) for each in policy["Statement"] if each["Sid"] not in REPLACED))


def statement(given):
    """A statement for this account, every Region, and the names of a stack set's stacks."""
    lines = [f"- Sid: {given['Sid']}", "  Effect: Allow", *listed("Action", given["Action"], str),
             *listed("Resource", given["Resource"], resource)]
    for operator, keys in given.get("Condition", {}).items():
        [(key, values)] = keys.items()
        lines += ["  Condition:", f"    {operator}:", f"      {key}:", *(f"        - {each}" for each in values)]
    return "\n".join(lines) + "\n"


def listed(key, values, written):
    if isinstance(values, str):
        return [f"  {key}: {written(values)}"]
    return [f"  {key}:", *(f"    - {written(each)}" for each in values)]


def resource(arn):
    for example, own in NAMES:
        arn = arn.replace(example, own)
    return '"*"' if arn == "*" else f"!Sub {arn}"


def filled(text, name, content):
    """The text with this content between the lines "generated" and "end"."""
    region = rf"(?ms)^( *)# generated: {name}\n.*?^ *# end\n"
    [indent] = re.findall(region, text)
    content = textwrap.indent(content, indent)
    return re.sub(region, lambda _: f"{indent}# generated: {name}\n{content}{indent}# end\n", text)


def pages():
    """Each file with what it must be."""
    guard = (ROOT / "template.yaml").read_text(encoding="utf-8")
    policy = json.loads((ROOT / "docs/deploy-policy.json").read_text(encoding="utf-8"))
    yield STACKSET, stackset(STACKSET.read_text(encoding="utf-8"), guard)
    yield ROLE, role(ROLE.read_text(encoding="utf-8"), policy)


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
