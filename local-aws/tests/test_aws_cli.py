"""The AWS CLI that stays loaded: its calls share only the loaded code."""
import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import PACKAGE, TIMEOUT


@pytest.fixture
def server():
    process = subprocess.Popen([sys.executable, "-m", "local_aws", "cli"], env={**os.environ, "PYTHONPATH": PACKAGE},
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def call(server):
    address = server.stdout.readline().strip()

    def run(line, **environment):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
            own = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": os.devnull, **environment}
            client.sendall(json.dumps({"line": line, "environment": own}).encode())
            client.shutdown(socket.SHUT_WR)
            return json.load(client.makefile())
    return run


def test_each_call_has_its_own_environment_and_output(call):
    first = call("configure list", AWS_DEFAULT_REGION="eu-west-1")
    second = call("configure list")
    assert (first["status"], second["status"]) == (0, 0)
    assert "eu-west-1" in first["stdout"]
    assert "eu-west-1" not in second["stdout"]
    assert "region" in second["stdout"]


def test_a_failed_call_reports_its_error_and_the_next_one_works(call):
    failed = call("ec2 no-such-operation")
    assert failed["status"] == 2
    assert failed["stdout"] == ""
    assert "Invalid choice" in failed["stderr"]
    assert call("--version")["stdout"].startswith("aws-cli/1.")


def test_the_server_ends_with_its_starter(server, call):
    assert call("--version")["status"] == 0
    server.stdin.close()
    assert server.wait(TIMEOUT) == 0
