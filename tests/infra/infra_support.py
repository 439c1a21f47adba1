"""Shared by the tests of infra/: the templates, and the fixtures of the local AWS's own tests."""
import importlib.util
import pathlib
import re
import sys

from cfnlint.decode import cfn_yaml

ROOT = pathlib.Path(__file__).parent.parent.parent
INFRA = ROOT / "infra"
TEMPLATES = sorted(INFRA.glob("*.yaml"))
TOOLS = pathlib.Path(sys.executable).parent


def load(path):
    """The template with intrinsic functions in their long form."""
    return cfn_yaml.load(str(path))


def accepts(parameter, value):
    """Whether the parameter's pattern matches the value; for a list, one item."""
    return re.fullmatch(parameter["AllowedPattern"], value) is not None


def _local_aws_conftest():
    """The module under another name: a plain import of `conftest` would find this folder's."""
    folder = ROOT / "local-aws/tests"
    sys.path.insert(0, str(folder))  # it imports its neighbours
    spec = importlib.util.spec_from_file_location("local_aws_conftest", folder / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


local = _local_aws_conftest()
