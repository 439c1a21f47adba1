"""The functions as Lambda runs them: an event goes to a process that waits for one, or else to a new one; a run that
ends in error is repeated. Each process has credentials of its own: so the request log tells which run made a call."""
import itertools
import json
import threading
import time
from dataclasses import dataclass

from .company import SCHEDULED

# As template.yaml has them, in seconds.
SCHEDULES = {"connection-acceptor": 300, "health-watcher": 60, "drift-watcher": 900}
RETRIES = (60, 120)  # seconds until Lambda repeats an asynchronous invocation
CONCURRENCY = 10  # of a new account: further events wait
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass
class Invocation:
    process: str  # the user whose credentials it has
    started: float
    ended: float | None = None  # None: it has not
    error: str | None = None

    def made(self, request):
        """Whether it made a request of the log, whose times are milliseconds."""
        return (request["principal"].endswith(f"/{self.process}") and self.started - 0.002 <= request["at"]
                and (self.ended is None or request["at"] <= self.ended))


class Lambda:
    """The functions of one kind, in one local AWS."""

    def __init__(self, bench, kind, aws, variables):
        self.bench, self.kind, self.aws, self.variables = bench, kind, aws, variables
        self.invocations = {function: [] for function in SCHEDULES}
        self.idle = {function: [] for function in SCHEDULES}
        self.busy, self.lock = set(), threading.Lock()
        self.slots, self.stopped = threading.Semaphore(CONCURRENCY), threading.Event()
        self.numbers = itertools.count(1)

    def follow_schedules(self):
        """Every function starts now, all at once, and then as often as its schedule says."""
        for function, every in SCHEDULES.items():
            threading.Thread(target=self._follow, args=(function, every), daemon=True).start()

    def _follow(self, function, every):
        for number in itertools.count(1):
            self.invoke(function, SCHEDULED)
            if self.stopped.wait(max(0, self.began + number * every - time.monotonic())):
                return

    def invoke(self, function, event, retries=RETRIES):
        """Asynchronously, as schedules and rules do."""
        threading.Thread(target=self._invoke, args=(function, event, retries), daemon=True).start()

    def _invoke(self, function, event, retries):
        with self.slots:
            if self.stopped.is_set():
                return
            user, process = self._process(function)
            invocation = Invocation(user, time.time())
            self.invocations[function].append(invocation)
            result = process.run(event)
            if self.stopped.is_set():  # it was ended, rather than answered
                return
            invocation.ended = time.time()
            invocation.error = "killed at its deadline" if result.killed else result.error
            self._release(function, (user, process), result.killed)
        if invocation.error and retries and not self.stopped.wait(retries[0]):
            self._invoke(function, event, retries[1:])

    def _process(self, function):
        with self.lock:
            found = self.idle[function].pop() if self.idle[function] else None
        if not found:
            user = f"{function}-{next(self.numbers)}"
            variables = self.variables | credentials(self.aws, user)
            found = user, self.bench.start(self.kind, function, variables, self.aws.endpoint)
        with self.lock:
            self.busy.add(found)
        return found

    def _release(self, function, found, killed):
        with self.lock:
            self.busy.discard(found)
            if not killed:
                self.idle[function].append(found)
        if killed:
            found[1].stop()

    def __enter__(self):
        self.began = time.monotonic()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        with self.lock:
            for _, process in [*self.busy, *itertools.chain.from_iterable(self.idle.values())]:
                process.stop()


def credentials(aws, user):
    """Those of a new user who may do everything."""
    iam = aws.client("iam")
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="everything", PolicyDocument=json.dumps(EVERYTHING))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
