"""The measurements. Each returns plain values; nothing here knows what a figure must reach."""
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from . import company
from .company import SCHEDULED
from .latency import Latency
from .local import ROOT, LocalAws, ec2_and_elb
from .messages import reads_lost
from .runtime import Function

FUNCTIONS = ("connection-acceptor", "health-watcher", "drift-watcher")
PYTHON = {"connection-acceptor": "acceptor", "health-watcher": "health", "drift-watcher": "drift"}
TABLE = ("GetItem", "PutItem", "Query")
SLOW, SLOWER = 0.05, 0.15  # seconds per call; the difference of two durations, divided by theirs, is the chain
# The guard paces its calls: after ten to ELB, as many more as this a second at least. A run that makes no more than ten
# rests first, so that its duration is not one of waiting for the run before.
AT_ONCE, A_SECOND = 10, 2
FEW = 2  # runs per median where each waits for half a minute


class Kind:
    """The guard or the Python functions: how to start a function of it."""

    def __init__(self, name, bootstraps=None):
        self.name, self.bootstraps = name, bootstraps

    def start(self, function, variables, endpoint, log):
        if self.bootstraps:
            command = [str(self.bootstraps / function / "bootstrap")]
        else:
            command = [sys.executable, str(ROOT / "benches/python/bootstrap.py"), PYTHON[function]]
        return Function(function, command, variables, endpoint, log)


class Bench:
    def __init__(self, bootstraps, runs, log):
        self.guard, self.python = Kind("guard", bootstraps), Kind("python")
        self.kinds, self.runs, self.log, self.tables = (self.guard, self.python), runs, log, 0
        self.bootstraps = bootstraps

    def table(self, aws):
        self.tables += 1
        return company.create_table(aws, f"table-{self.tables}")

    def start(self, kind, function, variables, endpoint):
        return kind.start(function, variables, endpoint, self.log)

    # ---- one size --------------------------------------------------------------------------------------------------

    def size(self, aws, owner):
        """Calls, memory, processor time and duration of each function, the guard's and Python's."""
        found, groups = {}, sum(len(service.groups) for service in owner.services)
        for kind in self.kinds:
            variables = owner.variables(self.table(aws))
            # drift-watcher first: it stores the path that health-watcher goes by.
            for function in reversed(FUNCTIONS):
                with self.start(kind, function, variables, aws.endpoint) as process:
                    found.setdefault(kind.name, {})[function] = self._function(aws, kind, process, groups)
        return found

    def _function(self, aws, kind, process, groups):
        marks, results = [], []
        for _ in range(2):  # the first run of all, and one after which nothing is new
            marks.append(aws.mark())
            results.append(process.run(SCHEDULED))
        marks.append(aws.mark())
        cpu, runs = process.cpu(), self.runs if groups == 1 else FEW
        results += [self._rested(kind, process, groups) for _ in range(runs)]
        cpu = (process.cpu() - cpu) / runs
        calls = aws.calls(marks[2])
        if any(result.error or result.killed for result in results):
            raise RuntimeError(f"{process.name} failed: {results}")
        first = aws.calls(marks[0])
        first.subtract(aws.calls(marks[1]))
        return {"first": dict(+first), "run": {action: count / runs for action, count in calls.items()},
                "ec2_and_elb": ec2_and_elb(calls) / runs, "seconds": median(results[2:]), "cpu": cpu,
                "memory": process.peak_memory(), "cold_start": process.cold_start}

    def many_groups(self, aws, owner):
        """A health run that has more to read than it has time for, by kind."""
        found = {}
        for kind in self.kinds:
            with self.start(kind, "health-watcher", owner.variables(self.table(aws)), aws.endpoint) as process:
                runs = [process.run(SCHEDULED) for _ in range(FEW)]
                found[kind.name] = {"seconds": max(run.seconds for run in runs), "memory": process.peak_memory(),
                                    "failed": sum(bool(run.error or run.killed) for run in runs)}
        return found

    def _rested(self, kind, process, groups=1):
        if kind is self.guard and groups <= AT_ONCE:
            time.sleep(1 + groups / A_SECOND)
        return process.run(SCHEDULED)

    def cold_starts(self, aws, owner, times=10):
        """Milliseconds from exec to the first request for an event, by kind and function."""
        variables, found = owner.variables(self.table(aws)), {}
        for kind in self.kinds:
            for function in FUNCTIONS:
                seconds = []
                for _ in range(times):
                    with self.start(kind, function, variables, aws.endpoint) as process:
                        seconds.append(process.cold_start)
                found.setdefault(kind.name, {})[function] = statistics.median(seconds) * 1000
        return found

    # ---- chains ----------------------------------------------------------------------------------------------------

    def warm_chains(self, aws, owner):
        """Round trips of a run in which nothing is new, by kind and function."""
        found = {}
        for kind in self.kinds:
            variables = owner.variables(self.table(aws))
            for function in reversed(FUNCTIONS):
                with self.start(kind, function, variables, aws.endpoint) as process:
                    for _ in range(2):
                        process.run(SCHEDULED)

                    def duration(delay, kind=kind, process=process):
                        aws.delay(delay)
                        seconds = [self._rested(kind, process).seconds for _ in range(5)]
                        aws.delay(0)
                        return statistics.median(seconds)

                    found.setdefault(kind.name, {})[function] = chain(duration)
        return found

    def cold_acceptor(self, aws, owner, with_connections):
        """Round trips from the invocation until SNS has what a new acceptor sends, by kind."""
        # An address for each service, as on AWS: a connection to one is of no use to another.
        with Latency(aws.endpoint, ("EC2", "DYNAMODB", "SNS")) as proxy:
            addresses = proxy.addresses if with_connections else {}
            return {kind.name: chain(lambda delay, kind=kind: statistics.median(
                self._until_published(aws, owner, kind, proxy, addresses, delay) for _ in range(5)))
                for kind in self.kinds}

    def _until_published(self, aws, owner, kind, proxy, addresses, delay):
        variables = owner.variables(self.table(aws), services=1)
        if kind is self.guard:  # the services' names, which a message needs, come from drift-watcher
            with self.start(kind, "drift-watcher", variables, aws.endpoint) as process:
                process.run(SCHEDULED)
        else:  # what is over is sent
            aws.client("dynamodb").put_item(TableName=variables["STATE_TABLE"], Item={
                "service": {"S": owner.services[0].id}, "item": {"S": "python-acceptor"},
                "record": {"S": json.dumps(["something"])}})
        with self.start(kind, "connection-acceptor", variables | addresses, aws.endpoint) as process:
            proxy.delay = delay
            aws.delay(delay)
            mark = aws.mark()
            run = process.run(SCHEDULED)
            aws.delay(0)
            proxy.delay = 0.0
        published = [entry for entry in aws.requests(mark) if entry["action"] == "Publish"]
        return published[0]["at"] + published[0]["duration_ms"] / 1000 - run.started

    def dbt_request(self, aws, owner, table_hangs=False):
        """Of dbt's request, by kind: the round trips until AcceptVpcEndpointConnections is sent, and with no delay the
        seconds. Without a limit, accepting must not wait for a table that hangs; with one, it must."""
        company.disconnect(aws, owner.services[0])
        found = {}
        for kind in self.kinds:
            def until_accepted(delay, kind=kind):
                return statistics.median(self._accepted_by_new(aws, owner, kind, delay, table_hangs) for _ in range(3))

            found[kind.name] = {"chain": chain(until_accepted), "seconds": until_accepted(0)}
        return found

    def _accepted_by_new(self, aws, owner, kind, delay, table_hangs):
        # A table of its own: an endpoint that was accepted takes the room for a quarter of an hour.
        variables = owner.variables(self.table(aws), services=1) | ({"MAX_DBT_ENDPOINTS": "0"} if table_hangs else {})
        with self.start(kind, "connection-acceptor", variables, aws.endpoint) as process:
            process.run(SCHEDULED)
            seconds = 600 if table_hangs else delay
            return self._until_accepted(aws, owner.services[0], process, delay, seconds)

    def _until_accepted(self, aws, service, process, delay, of_table):
        endpoint = company.request(aws, service)
        mark = aws.mark()
        aws.delay(delay)
        for action in TABLE:
            aws.delay(of_table, f"dynamodb:{action}")
        # Sent as long ago as the acceptor's debounce waits, and not before the run of the last measurement.
        run = process.run(company.notification(service, endpoint, time.time() - 1.5), wait=6)
        aws.delay(0)
        for action in TABLE:
            aws.delay(0, f"dynamodb:{action}")
        accepted = [entry for entry in aws.requests(mark) if entry["action"] == "AcceptVpcEndpointConnections"]
        company.remove(aws, endpoint)
        return accepted[0]["at"] - run.started

    # ---- deadlines -------------------------------------------------------------------------------------------------

    def deadlines(self, services, groups_each, timeouts=(110, 30)):
        """What becomes of runs while ELB is slow: answering after 6 seconds, or never."""
        found = []
        for answer in (6, 3600):
            with LocalAws() as aws:
                owner = company.set_up(aws, services, groups_each)
                self._deadlines(aws, owner, answer, timeouts, found)
        return found

    def _deadlines(self, aws, owner, answer, timeouts, found):
        started = []
        for kind in self.kinds:
            for function in ("health-watcher", "drift-watcher"):
                for timeout in timeouts:
                    topic = aws.client("sns").create_topic(Name=f"alerts-{len(started)}")["TopicArn"]
                    variables = owner.variables(self.table(aws))
                    started.append((kind, function, timeout, topic, variables | {"ALERT_TOPIC_ARN": topic}))

        def prepare(kind, function, timeout, topic, variables):
            for preparing in ("drift-watcher", function):
                with self.start(kind, preparing, variables, aws.endpoint) as process:
                    process.run(SCHEDULED)

        _at_once(prepare, started)
        before = aws.control("mail")
        aws.client("ec2").modify_vpc_endpoint_service_configuration(ServiceId=owner.services[0].id,
                                                                    AcceptanceRequired=False)
        aws.delay_elb(answer)

        def run(kind, function, timeout, topic, variables):
            with self.start(kind, function, variables, aws.endpoint) as process:
                # Twice, since the guard says only of a read that failed twice that it fails. The longer run counts.
                result = max((process.run(SCHEDULED, timeout) for _ in range(2)), key=lambda run: run.seconds)
            sent = [mail for mail in aws.control("mail", since=len(before)) if mail["topic"] == topic]
            found.append({"kind": kind.name, "function": function, "answers_after": answer, "deadline": timeout,
                          "killed": result.killed, "seconds": result.seconds, "error": result.error,
                          "sent": len(sent), "lost": reads_lost(sent),
                          "subjects": [mail["subject"] for mail in sent][:3]})

        _at_once(run, started)

    # ---- files -----------------------------------------------------------------------------------------------------

    def zips(self):
        """The size of each function's zip in MB, and of its bootstrap."""
        found = {}
        for function in FUNCTIONS:
            bootstrap = self.bootstraps / function / "bootstrap"
            with tempfile.TemporaryDirectory() as folder:
                archive = Path(folder) / "function.zip"
                subprocess.run(["zip", "-9", "-j", "-q", archive, bootstrap], check=True)
                found[function] = (archive.stat().st_size / 1e6, bootstrap.stat().st_size / 1e6)
        return found


def _at_once(what, cases):
    threads = [threading.Thread(target=what, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def median(runs):
    return statistics.median(run.seconds for run in runs)


def chain(duration):
    """Round trips: how much longer it takes per second of delay of each call."""
    return (duration(SLOWER) - duration(SLOW)) / (SLOWER - SLOW)
