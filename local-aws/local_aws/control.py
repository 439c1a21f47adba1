"""The control commands, for actions without an AWS API: requests to the running server under /_local/."""
import json
import os
import sys
import urllib.error
import urllib.request

_TIMEOUT = 120  # seconds: ends only hung calls; nothing takes that long, even on a busy machine


def add_commands(commands):
    """Add the control commands to an argparse subparsers object."""
    def command(name, help):
        parser = commands.add_parser(name, help=help)
        parser.add_argument("--endpoint", default=os.environ.get("AWS_ENDPOINT_URL"),
                            help="http://127.0.0.1:PORT; default: AWS_ENDPOINT_URL")
        parser.set_defaults(run=run)
        return parser

    _add_disturbances(command)
    _add_states(command)
    _add_load_balancer_states(command)
    _add_records(command)


def _add_disturbances(command):
    size = command("page-size", "cap every page of the Describe calls")
    size.add_argument("size", type=int, help="0: no cap")

    fault = command("fault", "make the next calls of an action fail")
    fault.add_argument("--action", help="such as ec2:AcceptVpcEndpointConnections, elasticloadbalancing:…, sns:Publish")
    fault.add_argument("--code", help="such as UnauthorizedOperation")
    fault.add_argument("--message")
    fault.add_argument("--status", type=int)
    fault.add_argument("--times", type=int, help="default: until cleared")
    fault.add_argument("--unsuccessful", metavar="CODE", help="the call succeeds, with its items under Unsuccessful")
    fault.add_argument("--lost", action="store_true", help="the calls are made, and their answers do not arrive")
    fault.add_argument("--resource", metavar="ARN", help="only calls with this parameter")
    fault.add_argument("--clear", action="store_true", help="end all faults")

    answer = command("answer", "let the answers to a Describe call have another value, or leave it out")
    answer.add_argument("--action", help="such as ec2:DescribeVpcEndpointConnections")
    answer.add_argument("--row", metavar="VALUE", help="the rows that have this value, such as an id")
    answer.add_argument("--member", metavar="NAME", help="such as VpcEndpointId")
    answer.add_argument("--value", help="default: the member is left out")
    answer.add_argument("--clear", action="store_true", help="as AWS usually answers")

    resources = command("managed-resources", "let EC2 know the parameter IncludeManagedResources, or not")
    resources.add_argument("--parameter", required=True, choices=("known", "unknown"))

    delay = command("delay", "let AWS be late from now on; what is already delayed stays so")
    delay.add_argument("--cloudtrail", type=float, metavar="SECONDS",
                       help="from a call to its event; 0: no delay, and what is held back is delivered")
    delay.add_argument("--rds", type=float, metavar="SECONDS", help="as --cloudtrail, for the events of databases")
    delay.add_argument("--connections", type=float, metavar="SECONDS",
                       help="from a change of a connection until its provider's list shows it; 0: no delay")
    delay.add_argument("--dns", type=float, metavar="SECONDS",
                       help="from a failover until DNS shows the new address; 0: no delay")
    delay.add_argument("--targets", type=float, metavar="SECONDS",
                       help="from a target's registration until it is no longer initial; 0: no delay")
    delay.add_argument("--answer", type=float, metavar="SECONDS", help="until a call is answered; 0: no delay")
    delay.add_argument("--action", default="*", help="of which calls, such as ec2:DescribeSubnets; default: of all")

    dns = command("dns", "set the answer for a name; show the variables of a process that asks this server's DNS")
    dns.add_argument("--name")
    dns.add_argument("--answer", nargs="+", metavar="ADDRESS",
                     help="or one word: nxdomain, empty (no address), servfail, silent (no response)")
    dns.add_argument("--in-turn", action="store_true", help="each query gets one of the addresses")
    dns.add_argument("--seconds", type=float, help="how long; default: until cleared")
    dns.add_argument("--clear", action="store_true", help="end all answers that were set")

    limits = command("limits", "show the buckets of AWS's rate limits: tokens left, and calls granted and refused")
    limits.add_argument("--on", action="store_true", help="as at the start: full buckets, and nothing counted")
    limits.add_argument("--off", action="store_true", help="refuse no call")
    limits.add_argument("--second-tool", type=float, metavar="RATE",
                        help="another client's reads of Elastic Load Balancing a second; 0: it ends")

    clock = command("clock", "stop or move the clock of connections and draining targets")
    clock.add_argument("--stop", action="store_true")
    clock.add_argument("--advance", type=float, metavar="SECONDS", help="move it ahead")
    clock.add_argument("--start", action="store_true", help="let it go on from where it is")

    notify = command("notify", "publish any text to a topic as vpce.amazonaws.com")
    notify.add_argument("--topic", required=True, metavar="ARN")
    notify.add_argument("--message", required=True)


def _add_load_balancer_states(command):
    balancer = command("load-balancer", "set the state of a load balancer")
    balancer.add_argument("--load-balancer", required=True, metavar="ARN")
    balancer.add_argument("--state", required=True, help="provisioning, active, active_impaired or failed")
    balancer.add_argument("--reason")

    shift = command("zonal-shift", "start a zonal shift of a load balancer, or end it")
    shift.add_argument("--load-balancer", required=True, metavar="ARN")
    shift.add_argument("--away-from", metavar="ZONE", help="without it, the shift ends")


def _add_states(command):
    health = command("target-health", "set the health of a target")
    health.add_argument("--target-group", required=True, metavar="ARN")
    health.add_argument("--target", required=True, metavar="ID[:PORT]")
    health.add_argument("--state", required=True, help="healthy, unhealthy, draining, …; healthy restores")
    health.add_argument("--reason", help="such as Target.FailedHealthChecks")
    health.add_argument("--description")

    connection = command("connection", "set raw fields of a connection, as its provider sees it")
    connection.add_argument("--endpoint-id", required=True, metavar="vpce-…")
    connection.add_argument("--state")
    connection.add_argument("--owner", help="an account id, or none")
    connection.add_argument("--created", metavar="ISO-TIME")

    notification = command("notification", "set the state of a connection notification")
    notification.add_argument("--notification-id", required=True, metavar="vpce-nfn-…")
    notification.add_argument("--state", required=True, help="Enabled or Disabled")

    private_dns = command("private-dns", "set the state of an endpoint service's private DNS name")
    private_dns.add_argument("--service-id", required=True, metavar="vpce-svc-…")
    private_dns.add_argument("--state", help="pendingVerification, verified or failed; now")
    private_dns.add_argument("--verification", help="the result of StartVpcEndpointServicePrivateDnsVerification")

    region = command("service-region", "set the state of a Region that an endpoint service supports")
    region.add_argument("--service-id", required=True, metavar="vpce-svc-…")
    region.add_argument("--region", required=True)
    region.add_argument("--state", required=True, help="such as Pending, Available, Failed")

    certificate = command("certificate", "set the status, the dates and the renewal of a certificate")
    certificate.add_argument("--certificate", required=True, metavar="ARN")
    certificate.add_argument("--status", help="such as ISSUED, PENDING_VALIDATION, REVOKED")
    certificate.add_argument("--not-before", metavar="ISO-TIME")
    certificate.add_argument("--not-after", metavar="ISO-TIME")
    certificate.add_argument("--type", help="AMAZON_ISSUED or IMPORTED")
    certificate.add_argument("--key-algorithm", help="such as RSA_4096, EC_secp521r1")
    certificate.add_argument("--renewal", help="PENDING_AUTO_RENEWAL, PENDING_VALIDATION, SUCCESS, FAILED or none")

    managed = command("managed", "let an AWS service manage an instance or a network interface")
    managed.add_argument("--resource-id", required=True, metavar="ID", help="i-… with its interfaces, or eni-…")
    managed.add_argument("--principal", required=True, help="such as eks.amazonaws.com, or none")

    metric = command("metric", "set the values of a metric, also of an AWS service, for consecutive periods")
    metric.add_argument("--namespace", required=True, help="such as AWS/PrivateLinkServices, AWS/NetworkELB")
    metric.add_argument("--metric", required=True, metavar="NAME")
    metric.add_argument("--dimensions", nargs="+", metavar="NAME=VALUE", help='such as "Service Id=vpce-svc-…"')
    metric.add_argument("--values", nargs="+", required=True, type=lambda text: None if text == "none" else float(text),
                        help="the oldest first; none: no data point")
    metric.add_argument("--period", type=int, metavar="SECONDS", help="of each value; default: 60")
    metric.add_argument("--end", metavar="ISO-TIME", help="the end of the last value's period; default: now")
    metric.add_argument("--unit", help="such as Bytes or Count")
    _add_scope(metric)

    flow = command("flow-log-record", "write the record of a TCP flow to all flow logs that cover an interface")
    flow.add_argument("--interface-id", required=True, metavar="eni-…")
    flow.add_argument("--source", required=True, metavar="ADDRESS:PORT")
    flow.add_argument("--destination", required=True, metavar="ADDRESS:PORT")
    flow.add_argument("--action", help="ACCEPT or REJECT; default: ACCEPT")
    flow.add_argument("--packets", type=int)
    flow.add_argument("--at", metavar="ISO-TIME", help="default: now")
    _add_scope(flow)

    group = command("log-group", "set what DescribeLogGroups says of the size of a log group")
    group.add_argument("--log-group", required=True, metavar="NAME")
    group.add_argument("--stored-bytes", required=True, type=int)
    _add_scope(group)


def _add_scope(parser):
    parser.add_argument("--account", help="default: the provider company's")
    parser.add_argument("--region", help="default: the server's")


def _add_records(command):
    mail = command("mail", "list what SNS delivered by email, HTTP(S) and SMS")
    mail.add_argument("--since", type=int, default=0, metavar="N")
    mail.add_argument("--text", action="store_true", help="print the emails as text")
    mail.add_argument("--last", type=int, metavar="N", help="with --text: only the last N")

    requests = command("requests", "list the API requests")
    requests.add_argument("--since", type=int, default=0, metavar="N")
    requests.add_argument("--principal", default="", metavar="SUBSTRING")

    lookups = command("lookups", "list the DNS queries")
    lookups.add_argument("--since", type=int, default=0, metavar="N")

    invocations = command("invocations", "list the invocations of functions")
    invocations.add_argument("--since", type=int, default=0, metavar="N")

    command("under-way", "count the events that no function has handled yet")


def run(arguments):
    if not arguments.endpoint:
        sys.exit("no server: give --endpoint or set AWS_ENDPOINT_URL")
    asked = {name: value for name, value in vars(arguments).items()
             if name not in ("run", "command", "endpoint", "text", "last") and value is not None}
    try:
        answer = call(arguments.endpoint, arguments.command, asked)
    except LocalError as error:
        sys.exit(str(error))
    if getattr(arguments, "text", False):
        emails = [entry for entry in answer if entry["protocol"] == "email"]
        for entry in emails[-arguments.last if arguments.last else 0:]:
            print(f"Subject: {entry['subject']}\n\n{entry['message']}\n{'=' * 78}\n")
    elif answer is not None:
        print(json.dumps(answer, indent=2))


class LocalError(Exception):
    """The server refused a control command, or did not answer."""


def call(endpoint, command, arguments):
    """Run one control command on the server at `endpoint`."""
    request = urllib.request.Request(f"{endpoint.rstrip('/')}/_local/{command}", json.dumps(arguments).encode(),
                                     {"Content-Type": "application/json"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=_TIMEOUT) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise LocalError(error.read().decode()) from None
    except OSError as error:
        raise LocalError(f"no answer from {endpoint}: {error}") from None
