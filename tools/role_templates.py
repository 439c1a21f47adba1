#!/usr/bin/env python3
"""cli/src/policy/roles.json: template.yaml and infra/chat.yaml as JSON, without what their roles do not depend on.

`privatelink-guard policy --role` contains this file and resolves it, so that the templates are the only place where a
permission is written. `make docs` writes it:

    .tools/aws/bin/python tools/role_templates.py
"""
import json
import pathlib

from awscli.customizations.cloudformation.yamlhelper import yaml_parse

ROOT = pathlib.Path(__file__).parent.parent
FILE = ROOT / "cli/src/policy/roles.json"
TEMPLATES = ("template.yaml", "infra/chat.yaml")
LIMITS = ("Type", "Default", "MaxLength", "AllowedPattern", "AllowedValues", "ConstraintDescription")
# Who may assume a role, and what it may do; how a log group is called.
PROPERTIES = {"AWS::IAM::Role": ("AssumeRolePolicyDocument", "ManagedPolicyArns", "Policies"),
              "AWS::IAM::Policy": ("PolicyDocument", "Roles"), "AWS::IAM::ManagedPolicy": ("PolicyDocument",),
              "AWS::Logs::LogGroup": ("LogGroupName",)}


def extract(template):
    return {"Parameters": {name: only(LIMITS, each) for name, each in template["Parameters"].items()},
            "Mappings": template.get("Mappings", {}), "Conditions": template["Conditions"],
            "Resources": {name: short(each) for name, each in template["Resources"].items()}}


def short(resource):
    """A resource without properties that do not matter; of a loop, each resource in it."""
    if isinstance(resource, list):
        identifier, collection, body = resource
        return [identifier, collection, {name: short(each) for name, each in body.items()}]
    properties = only(PROPERTIES.get(resource["Type"], ()), resource.get("Properties", {}))
    return only(("Type", "Condition"), resource) | ({"Properties": properties} if properties else {})


def only(keys, mapping):
    return {key: mapping[key] for key in keys if key in mapping}


def text():
    templates = {path: extract(yaml_parse((ROOT / path).read_text(encoding="utf-8"))) for path in TEMPLATES}
    return json.dumps(templates, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
