"""Odd answers on demand: what a test needs and AWS sends rarely, such as a row without a member that others have."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """In the answers to an action, a member of the rows that have this value has another one, or is left out."""

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
    """The value of this shape as the answer to the action, named as in IAM, has it."""
    if not _changes or value is None:
        return value
    if shape.type_name == "list":
        return [changed(action, shape.member, item) for item in value]
    if shape.type_name != "structure":
        return value
    odd = {c.member: c.value for c in _changes if c.applies_to(action, shape, value)}
    return {name: changed(action, shape.members[name], member) if name in shape.members and name not in odd else member
            for name, member in {**value, **odd}.items()}
