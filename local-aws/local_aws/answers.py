"""Odd answers on demand: answers that a test needs and AWS rarely sends, such as a row without a common member."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A change of answers to an action: in the rows with this value, one member has another value or is left out."""

    action: str
    row: str
    member: str
    value: object  # None: left out

    def applies_to(self, action, shape, row):
        return self.action == action and self.member in shape.members and self.row in row.values()


_changes: list[Change] = []


def change(action=None, row=None, member=None, value=None, clear=False):
    if clear:
        _changes.clear()
    elif not (action and row and member):
        raise ValueError("a change needs an action, the value of a row, and a member")
    else:
        _changes.append(Change(action, row, member, value))


def changed(action, shape, value):
    """The value of this shape with the changes for the action, which is named as in IAM."""
    if not _changes or value is None:
        return value
    if shape.type_name == "list":
        return [changed(action, shape.member, item) for item in value]
    if shape.type_name != "structure":
        return value
    odd = {c.member: c.value for c in _changes if c.applies_to(action, shape, value)}
    return {name: changed(action, shape.members[name], member) if name in shape.members and name not in odd else member
            for name, member in {**value, **odd}.items()}
