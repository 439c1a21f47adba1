"""Delays on demand for answers, the delivery of CloudTrail events, and the list of endpoint connections."""
import threading

CONNECTIONS = 0.0  # seconds from a change of a connection until DescribeVpcEndpointConnections shows it
_cloudtrail = 0.0  # seconds from a call to the delivery of its event
_cloudtrail_over = threading.Event()  # set when that delay is switched off
_answers: dict[str, float] = {}  # seconds until the answer to a call of this action; "*": of every action


def configure(cloudtrail=None, connections=None, answer=None, action="*"):
    """Delay events from now on; 0 switches a delay off. Earlier delays stay in force, except that 0 delivers
    CloudTrail's events held back.
    """
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
    """The delay of the answer to a call of this action, which is named as in IAM."""
    return _answers.get(action.lower(), _answers.get("*", 0.0))


def of_cloudtrail(deliver):
    """Deliver an event with CloudTrail's delay."""
    if not _cloudtrail:
        deliver()
        return

    def later(seconds=_cloudtrail, over=_cloudtrail_over):
        over.wait(seconds)
        deliver()

    threading.Thread(target=later, daemon=True, name="delayed-event").start()
