"""The local AWS as a process, its control commands, and what it counted."""
import json
import os
import pathlib
import subprocess
import sys
import urllib.request
from collections import Counter
from datetime import datetime

import boto3
from botocore.config import Config

ROOT = pathlib.Path(__file__).parents[2]
ACCOUNT, DBT, OTHER, REGION = "111122223333", "444455556666", "777788889999", "eu-central-1"
ELB_READS = ["DescribeListenerAttributes", "DescribeListeners", "DescribeLoadBalancerAttributes",
             "DescribeLoadBalancers", "DescribeTags", "DescribeTargetGroupAttributes", "DescribeTargetGroups",
             "DescribeTargetHealth"]


def credentials(endpoint, account=ACCOUNT):
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "NO_PROXY": "127.0.0.1"}


class LocalAws:
    """Without AWS's rate limits until they are switched on: a set-up would wait for them, and figures that compare
    programs would compare how long each waits."""

    def __init__(self):
        command = [sys.executable, "-m", "local_aws", "serve", "--account", ACCOUNT, "--region", REGION,
                   "--minute", "60", "--establish-delay", "0.1"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "local-aws")})
        line = self.process.stdout.readline()
        if "ready" not in line:
            raise RuntimeError(f"the local AWS did not become ready: {line}")
        self.endpoint = line.split()[-1]
        self.control("limits", off=True)

    def control(self, command, **arguments):
        request = urllib.request.Request(f"{self.endpoint}/_local/{command}", json.dumps(arguments).encode())
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def client(self, service, account=ACCOUNT):
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id=account,
                            aws_secret_access_key="test", config=Config(retries={"max_attempts": 1}, read_timeout=60))

    def delay(self, seconds, action="*"):
        """From now on, calls of `action` are answered only after this time."""
        self.control("delay", answer=seconds, action=action)

    def delay_elb(self, seconds):
        for action in ELB_READS:
            self.delay(seconds, f"elasticloadbalancing:{action}")

    def mark(self):
        requests = self.control("requests")
        return requests[-1]["n"] if requests else 0

    def requests(self, since):
        """The requests since a mark, in the order of their arrival, each with `at`, the time it arrived."""
        entries = self.control("requests", since=since)
        for entry in entries:
            entry["at"] = datetime.fromisoformat(entry["time"].replace("Z", "+00:00")).timestamp()
        return sorted(entries, key=lambda entry: entry["at"])

    def calls(self, since):
        """How often each action was called since a mark: {"ec2:DescribeSubnets": 1, ...}."""
        return Counter(f"{entry['service']}:{entry['action']}" for entry in self.control("requests", since=since))

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def ec2_and_elb(calls):
    return sum(count for action, count in calls.items() if action.split(":")[0] in {"ec2", "elasticloadbalancing"})
