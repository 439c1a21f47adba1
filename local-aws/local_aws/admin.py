"""The server side of the control commands: POST /_local/COMMAND with the arguments as JSON."""
import json

from . import (
    answers,
    certificates,
    clock,
    cloudtrail_events,
    connection_notifications,
    delays,
    dns,
    endpoint_connections,
    endpoint_services,
    faults,
    flow_logs,
    invocations,
    limits,
    load_balancers,
    log_insights,
    mailbox,
    managed_resources,
    metrics,
    paging,
    request_log,
    target_health,
    zonal_shift,
)

PREFIX = "/_local/"


def set_target_health(target_group, target, state, reason=None, description=None):
    target_id, _, port = target.partition(":") if target.count(":") == 1 else (target, "", "")
    target_health.set_health(target_group, target_id, int(port) if port else None, state, reason, description)


def set_fault(action=None, clear=False, **fault):
    if clear:
        faults.clear()
    elif action:
        faults.add(action, **fault)
    else:
        raise ValueError("a fault needs an action")


def notify(topic, message):
    """Publish on behalf of an endpoint service of the topic's owner: the first one that the topic's policy allows."""
    region, account = topic.split(":")[3:5]
    services = endpoint_services.owned_by(account, region)
    if not any(connection_notifications.publish(topic, message, service) for service in services):
        raise PermissionError(f"{topic} does not allow vpce.amazonaws.com to publish for any of {account}'s services")


COMMANDS = {
    "target-health": set_target_health,
    "answer": answers.change,
    "page-size": paging.set_max_page_size,
    "fault": set_fault,
    "delay": delays.configure,
    "dns": dns.control,
    "clock": clock.control,
    "limits": limits.control,
    "connection": endpoint_connections.force,
    "notification": connection_notifications.force,
    "private-dns": endpoint_services.force_private_dns,
    "service-region": endpoint_services.force_region,
    "load-balancer": load_balancers.force_state,
    "zonal-shift": zonal_shift.force,
    "certificate": certificates.force,
    "managed": managed_resources.force,
    "managed-resources": managed_resources.support,
    "metric": metrics.set_values,
    "flow-log-record": flow_logs.record,
    "log-group": log_insights.set_stored_bytes,
    "mail": lambda since=0: mailbox.since(since),
    "requests": lambda since=0, principal="": request_log.since(since, principal),
    "lookups": lambda since=0: dns.since(since),
    "invocations": lambda since=0: invocations.since(since),
    "under-way": lambda: cloudtrail_events.under_way() + invocations.under_way(),
    "notify": notify,
}


async def answer(scope, receive, send):
    """ASGI application for the paths under /_local/."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    try:
        status, result = 200, json.dumps(COMMANDS[scope["path"].removeprefix(PREFIX)](**json.loads(body or b"{}")))
    except (LookupError, PermissionError, TypeError, ValueError) as error:
        status, result = 400, f"{type(error).__name__}: {error}"
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": result.encode()})
