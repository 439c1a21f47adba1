"""The server: ministack with the additions of this package, on the loopback interface only."""
import asyncio
import errno
import logging
import os
import pathlib
import shutil
import signal
import socket
import sys
import tempfile

from . import clock

HOST = "127.0.0.1"


def serve(port, account, region, minute, establish_delay, log):
    """Serve until SIGTERM or SIGINT; end every function process before returning."""
    listener = _bind(port)
    port = listener.getsockname()[1]
    clock.configure(minute, establish_delay)
    folder = _temporary_folder()
    _set_environment(port, account, region)
    logging.basicConfig(filename=log, level=logging.INFO if log else logging.ERROR,
                        format="%(asctime)s %(levelname)s [%(name)s] %(message)s")
    _install()
    try:
        asyncio.run(_serve(listener.detach(), port))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # without waiting for ministack's worker threads


def _temporary_folder():
    """A folder for all files of ministack and the functions. It removes the folders of servers that were killed."""
    for left in pathlib.Path(tempfile.gettempdir()).glob("local-aws-*"):
        process = left.name.removeprefix("local-aws-")
        if process.isdecimal() and not _is_running(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    folder = os.path.join(tempfile.gettempdir(), f"local-aws-{os.getpid()}")
    os.mkdir(folder, 0o700)
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    return folder


def _is_running(process):
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _bind(port):
    """A socket at the port, or at a free one for 0. It holds the port from now on, however long the start takes."""
    listener = socket.socket()
    if port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        sys.exit(f"{HOST}:{port}: {error.strerror}")
    return listener


def _set_environment(port, account, region):
    """Set the variables that ministack reads at import. It would use AWS credentials from the environment as root's."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MINISTACK_"))]:
        del os.environ[name]
    os.environ.update({
        "AUTH": "true", "MINISTACK_ACCOUNT_ID": account, "MINISTACK_REGION": region,
        "MINISTACK_HOST": HOST, "GATEWAY_PORT": str(port),
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",  # functions inherit it
        "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "LAMBDA_EXECUTOR": "local",
        "LAMBDA_ASYNC_RETRY_BASE_SECONDS": str(clock.minutes(1)),  # Lambda's wait before the first retry is one minute
        "LAMBDA_ASYNC_RETRY_MAX_SECONDS": str(clock.minutes(5))})


def _install():
    from ministack.services import alb, ec2

    from . import (  # noqa: F401
        alarm_events,
        alarms,
        balancer_types,
        cbor,
        certificates,
        cloudformation_types,
        cloudtrail_events,
        connection_notifications,
        databases,
        dns,
        elb_tags,
        endpoint_connections,
        flow_logs,
        instances,
        invocations,
        lambda_reports,
        listener_rules,
        load_balancers,
        log_insights,
        mailbox,
        metric_list,
        metrics,
        network_acls,
        network_interfaces,
        permissions,
        prefix_lists,
        request_log,
        route_tables,
        security_groups,
        target_health,
        topic_encryption,
        transit_gateways,
        vpc_peering,
        vpcs,
    )
    from .wire import EC2, ELB

    EC2.install(ec2._ACTION_MAP)
    ELB.install(alb._ACTION_MAP)
    for module in (vpcs, load_balancers, listener_rules, clock, mailbox, invocations, permissions, request_log,
                   cloudtrail_events, cloudformation_types, balancer_types, alarm_events, alarms, certificates, cbor,
                   metrics, metric_list, log_insights, lambda_reports, topic_encryption, databases):
        module.install()
    dns.start(HOST)


async def _application(scope, receive, send):
    from ministack.app import app

    from . import admin

    if scope["type"] == "http" and scope["path"].startswith(admin.PREFIX):
        await admin.answer(scope, receive, send)
    else:
        await app(scope, receive, send)


async def _serve(listener, port):
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    from ministack.core import lambda_runtime

    config = Config()
    config.bind = [f"fd://{listener}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    announcement = asyncio.create_task(_announce(port))
    try:
        await hypercorn_serve(_application, config, shutdown_trigger=stop.wait)
    finally:
        announcement.cancel()
        lambda_runtime.reset()  # ends the function processes
    logging.shutdown()


async def _announce(port):
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            print(f"local AWS ready on http://{HOST}:{port}", flush=True)
            return
