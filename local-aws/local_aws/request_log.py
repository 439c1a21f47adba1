"""The path of every AWS request: it is logged, fails if it exceeds a limit or meets a fault, and emits its CloudTrail
event.
"""
import asyncio
import json
import logging
import re
import threading
import time

from ministack import app
from ministack.core import iam_actions
from ministack.core.responses import get_account_id
from ministack.core.router import detect_service, extract_region

from . import callers, cbor, clock, cloudtrail_events, delays, faults, limits

log = logging.getLogger("local_aws")
_requests: list[dict] = []
_lock = threading.Lock()


def since(number, principal=""):
    with _lock:
        return [entry for entry in _requests if entry["n"] > number and principal in entry["principal"]]


def error_code(status, headers, body):
    """The error code of a response in any AWS protocol."""
    if status < 400:
        return None
    typed = next((value for name, value in headers.items() if name.lower() == "x-amzn-errortype"), None)
    if typed:
        return typed.split(":")[0].split("#")[-1]
    if headers.get("Content-Type") == "application/cbor":
        return cbor.loads(body)["__type"]
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    found = re.search(r"<Code>([^<]+)</Code>", text)
    if found:
        return found[1]
    try:
        return str(json.loads(text).get("__type", status)).split("#")[-1]
    except (ValueError, AttributeError):
        return str(status)


def _arns(form):
    """The ARNs in a call's parameters. For a list, these are not resources that the call is authorized for."""
    values = [value if isinstance(value, list) else [value] for value in form.values()]
    return [text for texts in values for text in texts if str(text).startswith("arn:")]


def install():
    dispatch = app._dispatch_service_request

    async def logged_dispatch(method, path, headers, body, query, request_id):
        form = app._routing_params(method, path, headers, body, query)
        service = detect_service(method, path, headers, form)
        named = iam_actions.extract_iam_action(service, method, path, headers, body, form) or f"{service}:{method}"
        principal = callers.arn_of(headers, query)
        account, region = get_account_id(), extract_region(headers)
        resource = iam_actions.extract_resource_arn(service, method, path, headers, body, form, region, account)
        prefix, action = named.split(":", 1)  # as in policies
        started, now = time.monotonic(), clock.iso()
        error = limits.take(account, region, prefix, action, form)
        await asyncio.sleep(delays.of_answer(named))
        arns = _arns(form)
        error = error or faults.take(named, arns)
        if error:
            _, answer_headers, answer = iam_actions.access_denied_response(
                service, named, principal, request_id, error_code=error.code, message=error.message, headers=headers)
            response = error.status, answer_headers, answer
        else:
            response = await dispatch(method, path, headers, body, query, request_id)
        code = error_code(*response)
        with _lock:
            _requests.append({
                "n": len(_requests) + 1, "time": now, "principal": principal, "service": prefix, "action": action,
                "resources": [resource] if resource != "*" else [], "arns": arns, "error": code,
                "duration_ms": round((time.monotonic() - started) * 1000, 1)})
        if cloudtrail_events.is_recorded(service, action):
            try:
                request = body if service == "acm" else form
                cloudtrail_events.record(service, action, request, headers, query, response[2], code, request_id)
            except Exception:
                log.exception("no CloudTrail event for %s", named)
        if faults.take_lost(named, arns):
            await asyncio.sleep(faults.LOST)
        return response

    app._dispatch_service_request = logged_dispatch
