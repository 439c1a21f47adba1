"""Lambda: the platform's lines in the log of a function with `LogFormat: JSON`: its start, and the report of each run.

The fields are those of Lambda's telemetry: https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
Duration, memory and, after a cold start, the initialization time are measured on the function's process.
"""
import json
import math
import pathlib
import re
import threading
import time
import uuid

from ministack.core import lambda_runtime
from ministack.services import cloudwatch_logs, lambda_svc

from . import clock

# Measurements of the run in this thread.
_run = threading.local()


def _record(kind, record):
    return json.dumps({"time": clock.iso(), "type": f"platform.{kind}", "record": record})


def _start(config, request_id):
    return _record("start", {"requestId": request_id, "functionArn": config.get("FunctionArn"), "version": "$LATEST"})


def report(config, request_id, failed, run):
    """The report of a run: `run` has its duration, its memory and, after a cold start, the initialization time."""
    duration, init = run["duration_ms"], run.get("init_ms")
    metrics = {"durationMs": round(duration, 3), "billedDurationMs": math.ceil(duration + (init or 0)),
               "memorySizeMB": config.get("MemorySize", 128), "maxMemoryUsedMB": run.get("memory_mb", 0)}
    if init is not None:
        metrics["initDurationMs"] = round(init, 3)
    return _record("report", {"requestId": request_id, "metrics": metrics, "status": "error" if failed else "success"})


def _memory_mb(process):
    """The peak memory of a process, rounded up to megabytes; 0 if it has ended."""
    try:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    except (OSError, AttributeError):
        return 0
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return math.ceil(int(peak[1]) / 1024) if peak else 0


def _write(config, lines):
    group = cloudwatch_logs._log_groups.get(config["LoggingConfig"]["LogGroup"])
    if group is None:
        return  # Lambda does not create a log group that the function's configuration names
    now = int(time.time() * 1000)
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
    name = f"{time.strftime('%Y/%m/%d')}/{config['FunctionName']}[$LATEST]{uuid.uuid4().hex}"
    stream = group["streams"][name] = {
        "events": [], "uploadSequenceToken": "1", "creationTime": now, "firstEventTimestamp": None,
        "lastEventTimestamp": None, "lastIngestionTime": None}
    cloudwatch_logs._append_log_events(stream, [
        {"timestamp": now, "message": line, "ingestionTime": now} for line in lines])


def install():
    emit_logs = lambda_svc._emit_lambda_logs
    worker = lambda_runtime.ProvidedWorker
    spawn, invoke = worker._spawn, worker.invoke

    def measured_spawn(self, *arguments, **options):
        began = time.monotonic()
        spawn(self, *arguments, **options)
        if hasattr(_run, "measured"):  # else it starts before any run
            _run.measured["init_ms"] = (time.monotonic() - began) * 1000

    def measured_invoke(self, *arguments, **options):
        _run.measured = {}
        began = time.monotonic()
        try:
            return invoke(self, *arguments, **options)
        finally:
            took = (time.monotonic() - began) * 1000
            _run.measured["duration_ms"] = took - _run.measured.get("init_ms", 0)
            _run.measured["memory_mb"] = _memory_mb(self._proc)

    def emit_reports(function, request_id, text, failed, duration_ms, *, log_source=None):
        config = function.get("config") or function
        settings = config.get("LoggingConfig") or {}
        if settings.get("LogFormat") != "JSON" or not settings.get("LogGroup"):
            emit_logs(function, request_id, text, failed, duration_ms, log_source=log_source)
            return
        run = {"duration_ms": duration_ms, **getattr(_run, "measured", {})}
        lines = [_start(config, request_id), *text.splitlines(), report(config, request_id, failed, run)]
        _write(config, lines)

    worker._spawn, worker.invoke = measured_spawn, measured_invoke
    lambda_svc._emit_lambda_logs = emit_reports
