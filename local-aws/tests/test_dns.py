"""DNS: what a process whose resolver asks the local AWS gets for a name."""
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import eventually
from local_aws.control import LocalError

_RESOLVE = """
import json, socket, sys
try:
    found = socket.getaddrinfo(sys.argv[1], 0, type=socket.SOCK_STREAM)
    print(json.dumps([address for *_, (address, *_) in found]))
except socket.gaierror as error:
    print(json.dumps(error.errno))
"""


@pytest.fixture
def resolve(aws):
    """The addresses that the C library's resolver finds, in its order, or its error."""
    variables = aws.control("dns")["environment"]

    def run(name, **more):
        return json.loads(subprocess.check_output([sys.executable, "-c", _RESOLVE, name],
                                                  env={**os.environ, **variables, **more}))
    return run


@pytest.fixture
def name(names):
    return f"{names('db')}.example.com"


def lookups(aws, name):
    return [(entry["type"], entry["answer"]) for entry in aws.control("lookups") if entry["name"] == name]


def test_the_resolver_asks_the_local_aws_and_nobody_else(aws, resolve, name):
    before = len(aws.control("lookups"))
    assert resolve(name, LOCALDOMAIN="example.org") == socket.EAI_NONAME
    assert sorted(lookups(aws, name)) == [("A", "nxdomain"), ("AAAA", "nxdomain")]
    assert len(aws.control("lookups", since=before)) == 2, "none in the machine's search domain"
    aws.control("dns", name=name.upper(), answer=["10.0.0.7", "fd00::7", "203.0.113.7"])
    assert sorted(resolve(name)) == ["10.0.0.7", "203.0.113.7", "fd00::7"]
    assert sorted(lookups(aws, name)[2:]) == [("A", ["10.0.0.7", "203.0.113.7"]), ("AAAA", ["fd00::7"])]
    assert (resolve("localhost"), resolve("10.9.9.9")) == (["127.0.0.1"], ["10.9.9.9"])


@pytest.mark.parametrize("failure, error", [
    ("nxdomain", socket.EAI_NONAME), ("empty", socket.EAI_NODATA), ("servfail", socket.EAI_AGAIN)])
def test_dns_fails_on_request(aws, resolve, name, failure, error):
    aws.control("dns", name=name, answer=[failure])
    assert resolve(name) == error


def test_a_silent_server_keeps_the_resolver_waiting(aws, resolve, name):
    aws.control("dns", name=name, answer=["silent"])
    asking = subprocess.Popen([sys.executable, "-c", _RESOLVE, name],
                              env={**os.environ, **aws.control("dns")["environment"]})
    eventually(lambda: lookups(aws, name))
    time.sleep(1)
    assert asking.poll() is None
    asking.kill()
    asking.wait()


def test_the_name_of_an_internal_load_balancer_stands_for_its_addresses(aws, provider, resolve):
    [balancer] = provider.elb.describe_load_balancers(LoadBalancerArns=[provider.load_balancer])["LoadBalancers"]
    description = f"ELB {provider.load_balancer.split(':loadbalancer/')[1]}"
    interfaces = provider.ec2.describe_network_interfaces(Filters=[{"Name": "description", "Values": [description]}])
    addresses = [each["PrivateIpAddress"] for each in interfaces["NetworkInterfaces"]]
    assert addresses
    assert sorted(resolve(balancer["DNSName"])) == sorted(addresses)
    subnets = [interfaces["NetworkInterfaces"][0]["SubnetId"]]
    [facing] = provider.elb.create_load_balancer(Name="facing", Type="network", Subnets=subnets)["LoadBalancers"]
    assert resolve(facing["DNSName"]) == socket.EAI_NONAME, "public addresses, unknown here"


def test_addresses_in_turn_come_one_at_a_time(aws, resolve, name):
    aws.control("dns", name=name, answer=["10.0.0.7", "10.0.0.8"], in_turn=True)
    assert [resolve(name) for _ in range(3)] == [["10.0.0.7"], ["10.0.0.8"], ["10.0.0.7"]]


def test_an_answer_ends_after_its_time(aws, resolve, name):
    aws.control("clock", stop=True)
    aws.control("dns", name=name, answer=["10.0.0.7"], seconds=20)
    aws.control("clock", advance=19)
    assert resolve(name) == ["10.0.0.7"]
    aws.control("clock", advance=2)
    assert resolve(name) == socket.EAI_NONAME


def test_an_answer_needs_a_name_and_addresses(aws):
    for wrong in ({"name": "a.example.com"}, {"answer": ["10.0.0.7"]},
                  {"name": "a.example.com", "answer": ["somewhere"]}):
        with pytest.raises(LocalError):
            aws.control("dns", **wrong)
