"""The probe's code from test-consumer.yaml, against this machine's loopback addresses."""
import json
import re
import socket
import time

import pytest
from infra_support import INFRA, load

CODE = load(INFRA / "test-consumer.yaml")["Resources"]["Probe"]["Properties"]["Code"]["ZipFile"]
SERVICE = "com.amazonaws.vpce.eu-central-1.vpce-svc-0123456789abcdef0"


@pytest.fixture
def probe(monkeypatch, capsys):
    """Runs the handler. Returns the report, and the metrics as CloudWatch would read them from the log."""
    def run(host, *ports, timeout=1, resolved=None):
        for name, value in {"SERVICE_NAME": SERVICE, "ENDPOINT_ID": "vpce-1", "TIMEOUT_SECONDS": str(timeout),
                            "DNS_ENTRIES": f"Z1EXAMPLE:{host},Z1EXAMPLE:zone-a.example" if host else "",
                            "PORTS": ",".join(map(str, ports))}.items():
            monkeypatch.setenv(name, value)
        module = {"__name__": "index"}
        exec(compile(CODE, "index.py", "exec"), module)
        if resolved is not None:
            module["resolve"] = lambda _: resolved
        report = module["handler"]({}, None)
        line = json.loads(capsys.readouterr().out)
        [directive] = line["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], directive["Dimensions"]) == ("PrivatelinkGuard/Probe", [["ServiceName"]])
        assert line["ServiceName"] == SERVICE
        assert abs(line["_aws"]["Timestamp"] / 1000 - time.time()) < 60
        return json.loads(json.dumps(report)), {metric["Name"]: line[metric["Name"]] for metric in directive["Metrics"]}
    return run


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.socket() as bound:  # reserved, but not listening
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_every_connection_succeeds(probe, listener):
    report, metrics = probe("localhost", listener)
    assert report["host"] == "localhost"
    assert report["reachable"] is True
    [result] = report["results"]
    assert (result["address"], result["port"], result["error"]) == ("127.0.0.1", listener, None)
    assert 0 <= result["milliseconds"] < 1000
    assert metrics == {"Reachable": 1, "ConnectMilliseconds": [result["milliseconds"]]}
    assert "check dbt's side" in report["verdict"]


def test_a_closed_port_is_a_result(probe, closed_port):
    report, metrics = probe("127.0.0.1", closed_port)
    assert (report["reachable"], report["results"][0]["error"]) == (False, "refused")
    assert metrics == {"Reachable": 0}
    assert "the fault is on your side" in report["verdict"]


def test_one_port_of_two_is_not_reachable(probe, listener, closed_port):
    report, metrics = probe("127.0.0.1", listener, closed_port)
    assert [result["reachable"] for result in report["results"]] == [True, False]
    assert metrics["Reachable"] == 0
    assert len(metrics["ConnectMilliseconds"]) == 1
    assert report["verdict"].startswith("Some connections failed.")


def test_every_address_is_tested(probe, listener):
    """127.0.0.2 is another address of this machine, on which nothing listens."""
    report, _ = probe("vpce-1.example", listener, resolved=["127.0.0.1", "127.0.0.2"])
    assert [(result["address"], result["reachable"]) for result in report["results"]] == [
        ("127.0.0.1", True), ("127.0.0.2", False)]


def test_a_connection_attempt_ends_at_the_timeout(probe):
    """A full backlog accepts no further connection: Linux drops the request, like a firewall."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        time.sleep(0.1)
        begin = time.monotonic()
        report, metrics = probe("127.0.0.1", *[address[1]] * 5, timeout=1)
        assert time.monotonic() - begin < 3  # five ports at once
        for each in waiting:
            each.close()
    assert {result["error"] for result in report["results"]} == {"timed out after 1 s"}
    assert metrics == {"Reachable": 0}


@pytest.mark.parametrize("host", ["", "does-not-exist.invalid", "a..b", "x" * 300])
def test_a_name_that_does_not_resolve_is_a_result(probe, host):
    report, metrics = probe(host, 5432)
    assert (report["reachable"], report["results"], metrics) == (False, [], {"Reachable": 0})
    assert "is pending acceptance" in report["verdict"]


def test_the_code_needs_only_the_standard_library():
    assert set(re.findall(r"^import ([a-z.]+)$", CODE, re.MULTILINE)) == {
        "concurrent.futures", "json", "os", "socket", "time"}
    assert "from " not in re.sub(r'"""[^"]*"""|"[^"]*"|#.*', "", CODE)
