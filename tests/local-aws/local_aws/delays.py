"""Delays on demand, where AWS is late: answers, the delivery of CloudTrail events, the list of endpoint connections."""

CLOUDTRAIL = 0.0  # seconds from a call to the delivery of its event
CONNECTIONS = 0.0  # seconds from a change of a connection until DescribeVpcEndpointConnections shows it
_answers: dict[str, float] = {}  # seconds until a call of this action is answered; "*": of every action


def configure(cloudtrail=None, connections=None, answer=None, action="*"):
    """Delay what happens from now on; 0 switches a delay off. What is already delayed stays so."""
    global CLOUDTRAIL, CONNECTIONS
    if min(cloudtrail or 0, connections or 0, answer or 0) < 0:
        raise ValueError("a delay is not negative")
    CLOUDTRAIL = CLOUDTRAIL if cloudtrail is None else cloudtrail
    CONNECTIONS = CONNECTIONS if connections is None else connections
    if answer is not None:
        _answers[action.lower()] = answer


def of_answer(action):
    """How long a call of this action waits for its answer. Actions are named as in IAM."""
    return _answers.get(action.lower(), _answers.get("*", 0.0))
