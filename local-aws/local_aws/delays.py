"""Delays on demand, where AWS is late: answers, the delivery of CloudTrail events, the list of endpoint connections."""
import threading

CONNECTIONS = 0.0  # seconds from a change of a connection until DescribeVpcEndpointConnections shows it
_cloudtrail = 0.0  # seconds from a call to the delivery of its event
_cloudtrail_over = threading.Event()  # set when that delay is switched off
_answers: dict[str, float] = {}  # seconds until a call of this action is answered; "*": of every action


def configure(cloudtrail=None, connections=None, answer=None, action="*"):
    """Delay what happens from now on; 0 switches a delay off. What is already delayed stays so, but for CloudTrail's
    events: 0 delivers those that are held back."""
    global _cloudtrail, _cloudtrail_over, CONNECTIONS
    if min(cloudtrail or 0, connections or 0, answer or 0) < 0:
        raise ValueError("a delay is not negative")
    CONNECTIONS = CONNECTIONS if connections is None else connections
    if answer is not None:
        _answers[action.lower()] = answer
    if cloudtrail is not None:
        _cloudtrail = cloudtrail
        if not cloudtrail:
            _cloudtrail_over.set()
            _cloudtrail_over = threading.Event()


def of_answer(action):
    """How long a call of this action waits for its answer. Actions are named as in IAM."""
    return _answers.get(action.lower(), _answers.get("*", 0.0))


def of_cloudtrail(deliver):
    """Deliver an event as late as CloudTrail is."""
    if not _cloudtrail:
        deliver()
        return

    def later(seconds=_cloudtrail, over=_cloudtrail_over):
        over.wait(seconds)
        deliver()

    threading.Thread(target=later, daemon=True, name="delayed-event").start()
