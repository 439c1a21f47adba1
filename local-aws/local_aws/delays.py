"""Delays on demand for answers, the delivery of events, the list of endpoint connections, DNS and new targets."""
import threading

CONNECTIONS = 0.0  # seconds from a change of a connection until DescribeVpcEndpointConnections shows it
DNS = 0.0  # seconds from a database's failover until DNS shows it
TARGETS = 0.0  # seconds from a target's registration until it is no longer `initial`
_events = {"cloudtrail": 0.0, "rds": 0.0}  # seconds until an event of this kind is delivered
_over = {kind: threading.Event() for kind in _events}  # set when that delay is switched off
_answers: dict[str, float] = {}  # seconds until the answer to a call of this action; "*": of every action


def configure(cloudtrail=None, rds=None, connections=None, dns=None, targets=None, answer=None, action="*"):
    """Delay what happens from now on; 0 switches a delay off. Earlier delays stay in force, except that 0 delivers the
    events held back.
    """
    global CONNECTIONS, DNS, TARGETS
    if min(seconds or 0 for seconds in (cloudtrail, rds, connections, dns, targets, answer)) < 0:
        raise ValueError("a delay is not negative")
    CONNECTIONS = CONNECTIONS if connections is None else connections
    DNS = DNS if dns is None else dns
    TARGETS = TARGETS if targets is None else targets
    if answer is not None:
        _answers[action.lower()] = answer
    for kind, seconds in (("cloudtrail", cloudtrail), ("rds", rds)):
        if seconds is not None:
            _delay_events(kind, seconds)


def _delay_events(kind, seconds):
    _events[kind] = seconds
    if not seconds:
        _over[kind].set()
        _over[kind] = threading.Event()


def of_answer(action):
    """The delay of the answer to a call of this action, which is named as in IAM."""
    return _answers.get(action.lower(), _answers.get("*", 0.0))


def of_event(kind, deliver):
    """Deliver an event of CloudTrail or RDS with its delay."""
    if not _events[kind]:
        deliver()
        return

    def later(seconds=_events[kind], over=_over[kind]):
        over.wait(seconds)
        deliver()

    threading.Thread(target=later, daemon=True, name="delayed-event").start()
