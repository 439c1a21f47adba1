"""The probe's code from test-consumer.yaml, against this machine's loopback addresses."""
import json
import re
import socket
import struct
import threading
import time
import types

import pytest
from infra_support import INFRA, load, local

CODE = load(INFRA / "test-consumer.yaml")["Resources"]["Probe"]["Properties"]["Code"]["ZipFile"]
SERVICE = "com.amazonaws.vpce.eu-central-1.vpce-svc-0123456789abcdef0"


@pytest.fixture
def probe(monkeypatch, capsys):
    """Runs the handler. Returns the report, and the metrics as CloudWatch would read them from the log."""
    def run(host, *ports, timeout=local.TIMEOUT, **replaced):
        for name, value in {"SERVICE_NAME": SERVICE, "ENDPOINT_ID": "vpce-1", "TIMEOUT_SECONDS": str(timeout),
                            "DNS_ENTRIES": f"Z1EXAMPLE:{host},Z1EXAMPLE:zone-a.example" if host else "",
                            "PORTS": ",".join(map(str, ports))}.items():
            monkeypatch.setenv(name, value)
        module = {"__name__": "index"}
        exec(compile(CODE, "index.py", "exec"), module)
        module.update(replaced)
        began, report, ended = time.time(), module["handler"]({}, None), time.time()
        line = json.loads(capsys.readouterr().out)
        [directive] = line["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], directive["Dimensions"]) == ("PrivatelinkGuard/Probe", [["ServiceName"]])
        assert line["ServiceName"] == SERVICE
        assert int(began * 1000) <= line["_aws"]["Timestamp"] <= ended * 1000
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
    assert result["milliseconds"] >= 0
    assert metrics == {"Reachable": 1, "ConnectMilliseconds": [result["milliseconds"]]}
    assert "check dbt's side" in report["verdict"]


def test_the_duration_of_a_connection_is_in_milliseconds(probe, listener):
    """By a clock that goes on by 0.25 s whenever it is read."""
    readings = iter(range(1, 100))
    clock = types.SimpleNamespace(time=time.time, monotonic=lambda: next(readings) / 4)
    _, metrics = probe("127.0.0.1", listener, time=clock)
    assert metrics["ConnectMilliseconds"] == [250]


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
    report, _ = probe("vpce-1.example", listener, resolve=lambda _: ["127.0.0.1", "127.0.0.2"])
    assert [(result["address"], result["reachable"]) for result in report["results"]] == [
        ("127.0.0.1", True), ("127.0.0.2", False)]


def test_a_connection_attempt_ends_at_the_timeout(probe):
    """A full backlog accepts no further connection: Linux drops the request, like a firewall."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        local.eventually(lambda: waiting(full) > 0)
        report, metrics = probe("127.0.0.1", *[full.getsockname()[1]] * 5, timeout=1)
    assert [result["error"] for result in report["results"]] == ["timed out after 1 s"] * 5
    assert metrics == {"Reachable": 0}


def waiting(server):
    """How many connections nobody has accepted: in Linux's `struct tcp_info` of a listening socket, `tcpi_unacked`."""
    return struct.unpack_from("I", server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]


def test_all_connections_are_attempted_at_once(probe):
    """Each attempt waits for the others: it is refused when all five have begun."""
    together = threading.Barrier(5, timeout=local.TIMEOUT)

    def create_connection(address, timeout):
        together.wait()
        raise ConnectionRefusedError

    fake = types.SimpleNamespace(create_connection=create_connection)
    report, _ = probe("127.0.0.1", *range(1, 6), resolve=lambda host: [host], socket=fake)
    assert [result["error"] for result in report["results"]] == ["refused"] * 5


@pytest.mark.parametrize("host", ["", "does-not-exist.invalid", "a..b", "x" * 300])
def test_a_name_that_does_not_resolve_is_a_result(probe, host):
    report, metrics = probe(host, 5432)
    assert (report["reachable"], report["results"], metrics) == (False, [], {"Reachable": 0})
    assert "is pending acceptance" in report["verdict"]


def test_the_code_needs_only_the_standard_library():
    assert set(re.findall(r"^import ([a-z.]+)$", CODE, re.MULTILINE)) == {
        "concurrent.futures", "json", "os", "socket", "time"}
    assert "from " not in re.sub(r'"""[^"]*"""|"[^"]*"|#.*', "", CODE)
