"""The guard as others in the account notice it, and they by it: all functions at once under AWS's rate limits, beside
another tool, and among other people's changes."""
import itertools
import threading
import time
from datetime import datetime

from . import company, foreign
from .company import SCHEDULED
from .lambdas import Lambda
from .local import ACCOUNT, REGION, LocalAws, ec2_and_elb
from .messages import reads_lost

# Services, target groups of each, and the seconds for which they are watched; those of a batch at once, each in a local
# AWS of its own. Where a pass of health-watcher takes several runs, there is time for all of them.
BATCHES = [([(1, 1), (30, 10)], 370), ([(30, 1), (20, 3)], 190)]
SECOND_TOOL = 4  # calls a second
BUCKET = "elasticloadbalancing: non-mutating"
REFUSED = ("Throttling", "RequestLimitExceeded")
# The call that shows that a function has read a service.
READS = {("guard", "health-watcher"): "DescribeTargetHealth", ("guard", "drift-watcher"): "DescribeTargetHealth",
         ("python", "health-watcher"): "DescribeTargetHealth", ("python", "drift-watcher"): "DescribeListeners"}
FOREIGN = {"guard": 1000, "python": 20}  # events; Python runs for each of them, which takes a while
SERVICES = 30  # among other people's changes
CROWD, BEFORE, GIVE_UP = 10, 10, 60  # foreign events a second; seconds of them before ours, and at most after it


def together(bench, batch, seconds):
    """Both kinds, alone and beside the second tool: {(services, groups, kind, calls a second): what was measured}."""
    found, rows = {}, [(*size, kind, tool) for size in batch for kind in bench.kinds for tool in (0, SECOND_TOOL)]
    ready = threading.Barrier(len(rows))

    def measure(services, groups, kind, tool):
        with LocalAws() as aws:
            try:
                owner = company.set_up(aws, services, groups)
                ready.wait(600)
            except Exception:
                ready.abort()
                raise
            found[services, services * groups, kind.name, tool] = _watch(bench, kind, aws, owner, seconds, tool)

    threads = [threading.Thread(target=measure, args=row) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) < len(rows):
        raise RuntimeError("not everything was measured; see above")
    return found


def _watch(bench, kind, aws, owner, seconds, tool):
    variables, mark = owner.variables(bench.table(aws)), aws.mark()
    with Lambda(bench, kind, aws, variables) as functions:
        aws.control("limits", on=True, second_tool=tool)
        began = time.time()
        functions.follow_schedules()
        time.sleep(seconds)
        ended, limits = time.time(), aws.control("limits")
    requests = [request for request in aws.requests(mark) if ":user/" in request["principal"]]  # of the functions
    invocations = [run for runs in functions.invocations.values() for run in runs]
    calls = [request["error"] for request in requests if request["service"] in ("ec2", "elasticloadbalancing")]
    reads = {function: _reads(kind, function, owner, functions.invocations[function], requests)
             for function in ("health-watcher", "drift-watcher")}
    return {
        "seconds": ended - began, "runs": len(invocations), "failed": sum(bool(run.error) for run in invocations),
        "errors": sorted({run.error for run in invocations if run.error}), "lost": reads_lost(aws.control("mail")),
        "calls": len(calls), "refused": sum(error in REFUSED for error in calls),
        "passes": {function: (len(services), max(times[0] for times in services.values()) - began if services else None)
                   for function, services in reads.items()},
        "oldest": max((ended - times[-1] for times in reads["health-watcher"].values()), default=None),
        "least": limits["buckets"][f"{ACCOUNT} {REGION}"][BUCKET]["least"], "tool": limits["second_tool"]}


def _reads(kind, function, owner, runs, requests):
    """When a function had read each service, in seconds since the epoch; what a run read that ended in error counts for
    nothing, since nobody hears of it. A service is read when all that is asked about it is."""
    action = READS[kind.name, function]
    times = {}
    for request in requests:
        if request["action"] == action and not request["error"] and any(
                run.made(request) and not run.error for run in runs):
            times.setdefault(request["arns"][0], []).append(request["at"] + request["duration_ms"] / 1000)
    asked = {service.id: service.groups if action == "DescribeTargetHealth" else [service.load_balancer]
             for service in owner.services}
    return {service: (max(times[arn][0] for arn in arns), min(times[arn][-1] for arn in arns))
            for service, arns in asked.items() if all(arn in times for arn in arns)}


def foreign_events(bench):
    """What events of other people's changes cost, delivered one after the other after a complete run, by kind."""
    found = {}
    with LocalAws() as aws:
        owner, account = company.set_up(aws, SERVICES, 1), foreign.Account(aws)
        changes = account.of_others()
        for kind in bench.kinds:
            variables = owner.variables(bench.table(aws))
            with bench.start(kind, "drift-watcher", variables, aws.endpoint) as process:
                process.run(SCHEDULED)
                mark = aws.mark()
                runs = [process.run(change) for change in itertools.islice(changes, FOREIGN[kind.name])]
            requests, calls = aws.requests(mark), aws.calls(mark)
            reads = [request["at"] for request in requests if request["service"] in ("ec2", "elasticloadbalancing")]
            began = [any(0 <= at - run.started + 0.002 <= run.seconds for at in reads) for run in runs]
            found[kind.name] = {
                "events": len(runs), "runs": sum(began), "ec2_and_elb": ec2_and_elb(calls),
                "table": sum(count for action, count in calls.items() if action.startswith("dynamodb:")),
                "failed": sum(bool(run.error or run.killed) for run in runs)}
    return found


def crowd(bench):
    """Seconds from the delivery of an event of ours, among foreign ones, until SNS has the alert, by kind."""
    found = {}
    for kind in bench.kinds:
        with LocalAws() as aws:
            found[kind.name] = _crowd(bench, kind, aws)
    return found


def _crowd(bench, kind, aws):
    owner, account = company.set_up(aws, SERVICES, 1), foreign.Account(aws)
    service, changes = owner.services[-1], account.of_others()
    variables = owner.variables(bench.table(aws))
    with bench.start(kind, "drift-watcher", variables, aws.endpoint) as process:
        process.run(SCHEDULED, timeout=600)
    aws.control("limits", on=True)
    with Lambda(bench, kind, aws, variables) as functions:
        quiet = threading.Event()

        def change():
            while not quiet.wait(1 / CROWD):
                functions.invoke("drift-watcher", next(changes))

        others = threading.Thread(target=change)
        others.start()
        time.sleep(BEFORE)
        company.forbid(aws, service)
        [ours] = account.received(1)
        delivered = time.time()
        functions.invoke("drift-watcher", ours)
        while not (alerts := _alerts(aws, service)) and time.time() < delivered + GIVE_UP:
            time.sleep(0.5)
        quiet.set()
        others.join()
    return alerts[0] - delivered if alerts else None


def _alerts(aws, service):
    """When each was sent that names the service and the network that it no longer allows."""
    return [datetime.fromisoformat(entry["time"].replace("Z", "+00:00")).timestamp() for entry in aws.control("mail")
            if service.id in f"{entry['subject']} {entry['message']}" and company.DBT_CIDR in entry["message"]]
