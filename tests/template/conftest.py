"""The fixtures of the local AWS's own tests, and the rendered template."""
import importlib.util
import pathlib
import sys

import pytest

LOCAL_AWS_TESTS = pathlib.Path(__file__).parents[2] / "local-aws/tests"
sys.path.append(str(LOCAL_AWS_TESTS))
_specification = importlib.util.spec_from_file_location("local_aws_tests", LOCAL_AWS_TESTS / "conftest.py")
local_aws_tests = importlib.util.module_from_spec(_specification)
sys.modules["local_aws_tests"] = local_aws_tests
_specification.loader.exec_module(local_aws_tests)

from rendering import SLACK, TEAMS, follow, render  # noqa: E402

aws = local_aws_tests.aws


@pytest.fixture(scope="session")
def rendered():
    return render(AlertEmail="ops@example.com", **SLACK, **TEAMS, **follow())
