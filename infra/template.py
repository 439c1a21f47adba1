"""Reads the guard's template, and writes it the way that CloudFormation takes it."""
import yaml


class Loader(yaml.SafeLoader):
    """Reads intrinsic functions in their long form."""

    def function(self, name, node):
        if isinstance(node, yaml.ScalarNode):
            value = self.construct_scalar(node)
            # !GetAtt Resource.Attribute; an attribute's name may hold points as well.
            value = value.split(".", 1) if name == "GetAtt" else value
        else:
            sequence = isinstance(node, yaml.SequenceNode)
            value = (self.construct_sequence if sequence else self.construct_mapping)(node, deep=True)
        return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


Loader.add_multi_constructor("!", Loader.function)
# What looks like a date is text to CloudFormation, and stays text here.
Loader.add_constructor("tag:yaml.org,2002:timestamp", Loader.construct_yaml_str)


class Dumper(yaml.SafeDumper):
    """Writes no aliases, which CloudFormation refuses in a template:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-formats.html"""

    def ignore_aliases(self, data):
        return True


def read(text):
    return yaml.load(text, Loader)


def located(text, place):
    """The template with each file that it names where `place` says: the functions' code and the nested template."""
    def resource(declared):
        # Fn::ForEach among the resources is a list.
        properties = declared.get("Properties", {}) if isinstance(declared, dict) else {}
        files = {name: place(properties[name]) for name in ("CodeUri", "TemplateURL") if name in properties}
        return {**declared, "Properties": {**properties, **files}} if files else declared
    content = read(text)
    content["Resources"] = {name: resource(declared) for name, declared in content["Resources"].items()}
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
