"""Lambda: delivers events asynchronously where the function's resource policy allows it, and lists every invocation."""
import contextvars
import json
import logging
import threading
import time
import uuid

from ministack.core import lambda_runtime
from ministack.core.iam_evaluator import EvalContext, _gather_role_policies, evaluate, evaluate_resource_policy
from ministack.services import eventbridge, lambda_svc, sns, sqs

from . import clock, dns

log = logging.getLogger("local_aws")
_invocations: list[dict] = []
_lock = threading.Lock()
# The request ids of asynchronous invocations that have not ended: they wait, run, or await a retry.
_under_way: set[str] = set()
# The request id of an asynchronous invocation. Lambda keeps it for the retries.
_request_id = contextvars.ContextVar("request_id", default=None)

# The server's variables that a function inherits, in addition to AWS_… and those of its configuration.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LAMBDA_TASK_ROOT", "_HANDLER")


def since(number):
    with _lock:
        return [entry for entry in _invocations if entry["n"] > number]


def under_way():
    """The number of asynchronous invocations that have not ended."""
    with _lock:
        return len(_under_way)


def _ended(request_id):
    with _lock:
        _under_way.discard(request_id)


def trigger_of(event):
    if not isinstance(event, dict):
        return "direct"
    if any("Sns" in record for record in event.get("Records", []) if isinstance(record, dict)):
        return "sns"
    return {"Scheduled Event": "schedule", "AWS API Call via CloudTrail": "cloudtrail", "RDS DB Instance Event": "rds",
            "RDS DB Cluster Event": "rds"}.get(event.get("detail-type"), "direct")


def error_message(result):
    body = result.get("body")
    return str((body.get("errorMessage") if isinstance(body, dict) else None) or "error")


def _function_policy_allows(config, service, source_arn):
    """Whether the function's resource policy lets this AWS service invoke it for this source."""
    arn = config["FunctionArn"]
    policy = (lambda_svc.function_policy_for_arn(arn) or [None])[0]
    context = EvalContext(
        principal_arn=service, principal_type="Service", principal_account="", action="lambda:InvokeFunction",
        resource_arn=arn, region=arn.split(":")[3],
        service_context={"aws:sourcearn": source_arn, "aws:sourceaccount": source_arn.split(":")[4]})
    return evaluate_resource_policy(policy, context, service=service).decision == "Allow"


def _role_allows(config, role_arn):
    """Whether the role that EventBridge Scheduler assumes may invoke the function."""
    arn, account = config["FunctionArn"], role_arn.split(":")[4]
    context = EvalContext(principal_arn=role_arn, principal_type="AssumedRole", principal_account=account,
                          action="lambda:InvokeFunction", resource_arn=arn, region=arn.split(":")[3])
    return evaluate(context, _gather_role_policies(role_arn.split("/")[-1], account)).decision == "Allow"


def _invoke_later(function_arn, event, may_invoke):
    """Invoke asynchronously, as SNS and EventBridge do. Lambda retries, then writes to the dead-letter queue."""
    function, config, name = lambda_svc._get_func_record_for_ref(function_arn)
    if not config:
        log.warning("no function %s to deliver to", name)
    elif not may_invoke(config):
        log.warning("%s not invoked: AccessDeniedException", function_arn)
    else:
        lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(function, config), event)


def _as_one_request(invoke_async):
    """Give all attempts one request id. ministack runs them in a copy of this call's context."""
    def invoke(function, event):
        request_id = str(uuid.uuid4())
        token = _request_id.set(request_id)
        with _lock:
            _under_way.add(request_id)
        try:
            invoke_async(function, event)
        finally:
            _request_id.reset(token)
    return invoke


def install():
    execute = lambda_svc._execute_function_dispatch
    emit_metrics = lambda_svc._emit_lambda_metrics
    route_failure = lambda_svc._route_async_failure
    worker_environment = lambda_svc._provided_worker_env
    runtime_api = lambda_runtime.ProvidedWorker._build_handler_class
    invoke_target = eventbridge._invoke_target

    def listed_execute(function, config, event, request_id, started):
        request_id = _request_id.get() or request_id
        entry = {"function": config.get("FunctionName"), "time": clock.iso(), "trigger": trigger_of(event),
                 "request_id": request_id}
        result = execute(function, config, event, request_id, started)
        duration = (time.time() - started) * 1000
        emit_metrics(entry["function"], duration_ms=duration, error=bool(result.get("error")), throttle=False)
        with _lock:
            _invocations.append({"n": len(_invocations) + 1, **entry, "ok": not result.get("error"),
                                 "error": error_message(result) if result.get("error") else None,
                                 "duration_ms": round(duration)})
        if not result.get("error"):
            _ended(request_id)
        return result

    def emit_throttles(function_name, duration_ms, error, throttle):
        """Emit only throttles: ministack counts only direct invocations, and listed_execute counts all of them."""
        if throttle:
            emit_metrics(function_name, duration_ms, error, throttle)

    def deliver_from_sns(endpoint, envelope, topic_arn, sub_arn, *_):
        event = {"Records": [{"EventVersion": "1.0", "EventSubscriptionArn": sub_arn, "EventSource": "aws:sns",
                              "Sns": json.loads(envelope)}]}
        _invoke_later(endpoint, event,
                      lambda config: _function_policy_allows(config, "sns.amazonaws.com", topic_arn))

    delivering = threading.local()

    def invoke_known_target(target, event, rule, view=None):
        """Pass the rule or schedule on to deliver_from_eventbridge."""
        delivering.rule, delivering.role = rule.get("Arn", ""), target.get("RoleArn")
        return invoke_target(target, event, rule, view)

    def deliver_from_eventbridge(arn, payload):
        rule, role = delivering.rule, delivering.role
        _invoke_later(arn, json.loads(payload), lambda config: (
            _role_allows(config, role) if role else _function_policy_allows(config, "events.amazonaws.com", rule)))

    def route_dead_letter(target_arn, function_name, event, result):
        """Send the event, with the error as attributes, to a dead-letter queue, or a record to a destination."""
        # After the last attempt. All functions of the guard have a dead-letter queue.
        _ended(_request_id.get())
        queue = sqs._queue_by_arn(target_arn)
        config = lambda_svc._functions.get(function_name, {}).get("config", {})
        if not queue or (config.get("DeadLetterConfig") or {}).get("TargetArn") != target_arn:
            route_failure(target_arn, function_name, event, result)
            return
        sqs._act_send_message({"QueueUrl": queue["url"], "MessageBody": json.dumps(event), "MessageAttributes": {
            "RequestID": {"DataType": "String", "StringValue": _request_id.get()},
            "ErrorCode": {"DataType": "Number", "StringValue": "200"},
            "ErrorMessage": {"DataType": "String", "StringValue": error_message(result)[:1024]}}}, "")

    def lambda_environment(config, code_dir, port):
        log_settings = config.get("LoggingConfig") or {}
        declared = lambda_svc._runtime_env_vars(config)
        environment = {name: value for name, value in worker_environment(config, code_dir, port).items()
                       if name.startswith("AWS_") or name in _INHERITED or name in declared}
        for setting, name in (("LogFormat", "FORMAT"), ("ApplicationLogLevel", "LEVEL")):
            if log_settings.get(setting):
                environment[f"AWS_LAMBDA_LOG_{name}"] = log_settings[setting]
        return environment | dns.environment()

    def prompt_runtime_api(worker, generation, pending):
        """Send small responses at once, so that measured latencies do not contain TCP's delay."""
        handler = runtime_api(worker, generation, pending)
        handler.disable_nagle_algorithm = True
        return handler

    lambda_svc.invoke_async_with_retry = _as_one_request(lambda_svc.invoke_async_with_retry)
    lambda_svc._execute_function_dispatch = listed_execute
    lambda_svc._emit_lambda_metrics = emit_throttles
    lambda_svc._route_async_failure = route_dead_letter
    lambda_svc._provided_worker_env = lambda_environment
    lambda_runtime.ProvidedWorker._build_handler_class = prompt_runtime_api
    sns._deliver_to_lambda = deliver_from_sns
    eventbridge._invoke_target = invoke_known_target
    eventbridge._dispatch_to_lambda = deliver_from_eventbridge
