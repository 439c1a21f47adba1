"""What the guard's published messages say."""
import json


def reads_lost(mail):
    """How many alerts say that something could not be read."""
    messages = [entry["message"] for entry in mail if entry["protocol"] == "topic"]
    return sum((transition["check"], transition["kind"]) == ("visibility.lost", "firing")
               for message in messages for transition in _transitions(message))


def _transitions(message):
    """Those in a message of the guard's; none in one of Python's."""
    try:
        return json.loads(json.loads(message)["sqs"])["transitions"]
    except (ValueError, TypeError, KeyError):
        return []
