"""Lambda's side of a function: its Runtime API on the loopback interface, and its process."""
import json
import os
import queue
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import local
from .local import ACCOUNT, REGION

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    seconds: float  # from handing out the event to the answer, or to the kill
    started: float  # when the event was handed out, in seconds since the epoch
    error: str | None  # the message of a run that ended in error
    killed: bool = False  # at the deadline, as Lambda does


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        function = self.server.function
        function.ready.set()
        function.ready_at = function.ready_at or time.monotonic()
        event, deadline = function.events.get()
        if event is None:
            self.close_connection = True
            return
        body = json.dumps(event).encode()
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function.name}"
        self._send(200, body, {"Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                               "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
                               "Lambda-Runtime-Invoked-Function-Arn": arn,
                               "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0"})

    def do_POST(self):
        answered = time.monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        failed = self.path.endswith("/error")
        self.server.function.answers.put((answered, json.loads(body)["errorMessage"] if failed else None))
        self._send(202, b"{}", {})

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": len(body)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A function that is stopped resets its connection."""


class Function:
    """A function's process. `command` is what Lambda would start."""

    def __init__(self, name, command, variables, endpoint, log=None):
        self.name, self.events, self.answers = name, queue.Queue(), queue.Queue()
        self.ready, self.ready_at = threading.Event(), None
        self.api = _Server(("127.0.0.1", 0), _Api)
        self.api.function = self
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        environment = {"PATH": "/usr/bin:/bin", "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_address[1]}",
                       "AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                       "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_LOG_FORMAT": "JSON",
                       "AWS_LAMBDA_LOG_GROUP_NAME": name, "AWS_LAMBDA_LOG_STREAM_NAME": name,
                       "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "_HANDLER": "bootstrap",
                       **local.credentials(endpoint), **variables}
        self.log = open(log, "ab") if log else subprocess.DEVNULL  # noqa: SIM115 it stays open as long as the process
        started = time.monotonic()
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        if not self.ready.wait(30):
            self.stop()
            raise RuntimeError(f"{name} did not ask for an event; see {log}")
        self.cold_start = self.ready_at - started

    def run(self, event, timeout=110, wait=None):
        """A run that Lambda would kill after `timeout` seconds; `wait`: the seconds until it is of no more interest."""
        started, deadline = time.monotonic(), time.time() + timeout
        self.events.put((event, deadline))
        try:
            answered, error = self.answers.get(timeout=wait or timeout)
        except queue.Empty:
            return Run(wait or timeout, deadline - timeout, None, killed=True)
        return Run(answered - started, deadline - timeout, error)

    def peak_memory(self):
        """In MiB."""
        return self._status("VmHWM")

    def memory(self):
        """What it occupies now, in MiB."""
        return self._status("VmRSS")

    def _status(self, field):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith(f"{field}:"))
        return int(line.split()[1]) / 1024

    def open_files(self):
        """Files and connections."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu(self):
        """Seconds of user and system time so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.events.put((None, 0))
        self.api.shutdown()
        self.api.server_close()
        if self.log != subprocess.DEVNULL:
            self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
