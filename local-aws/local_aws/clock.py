"""Time: the length of a minute on this server, the time until a connection is established, and a clock that a test can
stop to see each transient state.
"""
import time
from datetime import datetime, timezone

SECONDS_PER_MINUTE = 60.0
ESTABLISH_DELAY = 1.0  # seconds from an accepted connection's `pending` to `available`
_ahead = 0.0  # seconds that this server's clock is ahead of the machine's
_stopped: float | None = None  # the time of the stopped clock


def configure(minute, establish_delay):
    global SECONDS_PER_MINUTE, ESTABLISH_DELAY
    SECONDS_PER_MINUTE, ESTABLISH_DELAY = minute, establish_delay


def minutes(count):
    """The length of this many AWS minutes on this server, in seconds."""
    return count * SECONDS_PER_MINUTE


def now():
    """The clock of connections and draining targets."""
    return time.time() + _ahead if _stopped is None else _stopped


def control(stop=False, advance=0.0, start=False):
    """Stop the clock, move it ahead, or start it again from its present time."""
    global _ahead, _stopped
    shown, is_stopped = now() + advance, stop or (_stopped is not None and not start)
    _ahead, _stopped = shown - time.time(), shown if is_stopped else None


def iso(seconds=None):
    """A timestamp in the format of EC2 and CloudTrail."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def install():
    """Run the `rate()` schedules of EventBridge rules and EventBridge Scheduler in this server's minutes."""
    from ministack.services import eventbridge, scheduler

    rate_seconds = eventbridge._parse_rate_seconds

    def scaled_rate_seconds(expression):
        seconds = rate_seconds(expression)
        return None if seconds is None else minutes(seconds / 60)

    eventbridge._parse_rate_seconds = scaled_rate_seconds
    tick = min(1.0, SECONDS_PER_MINUTE / 10)
    eventbridge._SCHEDULER_TICK_INTERVAL = tick
    scheduler._SCHEDULE_TICK_INTERVAL = tick
