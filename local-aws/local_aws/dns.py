"""DNS: on the loopback interface, with the names of this server's databases and those a test sets, and no others.

A function calls the C library's resolver, as on AWS. `resolver.c`, preloaded into its process, points that resolver
here: no file of the machine changes, and no name leaves it.

The log has every query, so a test can count them.
"""
import functools
import ipaddress
import logging
import pathlib
import socketserver
import subprocess
import tempfile
import threading
from dataclasses import dataclass

from . import clock

log = logging.getLogger("local_aws")
_TTL = 5  # of RDS: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZ.Failover.html
_TYPES = {1: "A", 28: "AAAA"}
_CODES = {"servfail": 2, "nxdomain": 3}
_FAILURES = ("nxdomain", "empty", "servfail", "silent")
_lookups: list[dict] = []
_lock = threading.Lock()
_server: socketserver.UDPServer | None = None


@dataclass
class Answer:
    """What a name stands for."""

    addresses: list[str]
    in_turn: bool = False  # each query gets one address, the next of them
    failure: str | None = None
    until: float = float("inf")  # by this server's clock

    def of_type(self, kind):
        version = 6 if kind == "AAAA" else 4
        return [address for address in self.addresses if ipaddress.ip_address(address).version == version]


_set_by_test: dict[str, Answer] = {}
_turns: dict[str, int] = {}  # by name: the number of answers so far that were one of several in turn
sources = []  # functions from a name in lower case to its Answer, or None


def _answer_for(name):
    forced = _set_by_test.get(name)
    if forced and clock.now() < forced.until:
        return forced
    found = (source(name) for source in sources)
    return next((answer for answer in found if answer), Answer([], failure="nxdomain"))


def _resolve(name, kind):
    """The addresses for a query, or the word for its failure; logged."""
    with _lock:
        answer = _answer_for(name)
        addresses = answer.of_type(kind)
        if answer.in_turn and addresses:
            turn = _turns[name] = _turns.get(name, -1) + 1
            addresses = [addresses[turn % len(addresses)]]
        result = answer.failure or addresses
        _lookups.append({"n": len(_lookups) + 1, "time": clock.iso(), "name": name, "type": kind, "answer": result})
    return result


def since(number):
    with _lock:
        return [entry for entry in _lookups if entry["n"] > number]


# The wire format: https://www.rfc-editor.org/rfc/rfc1035#section-4

def reply(query):
    """The response to a query with one question, as resolvers send them; None if there is none."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    kind = _TYPES.get(int.from_bytes(query[at + 1:at + 3], "big"))
    result = _resolve(".".join(labels).lower(), kind) if kind else []
    if result == "silent":
        return None
    records = [] if isinstance(result, str) else [ipaddress.ip_address(address).packed for address in result]
    header = query[:2] + bytes([0x81, 0x80 | _CODES.get(str(result), 0), 0, 1, 0, len(records), 0, 0, 0, 0])
    name_type_and_class = b"\xc0\x0c" + query[at + 1:at + 5]  # the name is the question's
    return header + query[12:at + 5] + b"".join(
        name_type_and_class + _TTL.to_bytes(4, "big") + len(address).to_bytes(2, "big") + address
        for address in records)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        query, connection = self.request
        try:
            response = reply(query)
        except IndexError:
            return  # not a query
        if response:
            connection.sendto(response, self.client_address)


# The functions' resolver

@functools.cache
def environment():
    """The variables of a process whose resolver asks this server. Without a C compiler, it asks the machine's."""
    library = pathlib.Path(tempfile.gettempdir(), "resolver.so")
    source = pathlib.Path(__file__).with_name("resolver.c")
    command = ["cc", "-shared", "-fPIC", "-O2", f"-DDNS_PORT={_server.server_address[1]}", "-o", library, source,
               "-lresolv", "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        log.error("functions do not resolve the names of databases: %s", getattr(error, "stderr", None) or error)
        return {}
    return {"LD_PRELOAD": str(library)}


def control(name=None, answer=None, in_turn=False, seconds=None, clear=False):
    """Set the answer for a name, or end all that are set; the server's port and the variables of its clients."""
    if clear:
        _set_by_test.clear()
    elif answer and name:
        failure = answer[0] if answer[0] in _FAILURES else None
        addresses = [] if failure else [str(ipaddress.ip_address(address)) for address in answer]
        until = float("inf") if seconds is None else clock.now() + seconds
        _set_by_test[name.lower().rstrip(".")] = Answer(
            addresses, in_turn, None if failure == "empty" else failure, until)
    elif answer or name:
        raise ValueError("an answer needs a name, and a name an answer")
    return {"port": _server.server_address[1], "environment": environment()}


def start(host):
    """Start the server at a free port."""
    global _server
    _server = socketserver.ThreadingUDPServer((host, 0), _Handler)
    threading.Thread(target=_server.serve_forever, daemon=True, name="dns").start()
