"""Errors on demand: fails the next calls of an action, or all of them until the fault is cleared; or makes them, and
keeps their answers.
"""
from dataclasses import dataclass

from .wire import ApiError

_STATUS = {"InternalError": 500, "InternalFailure": 500, "InternalServerError": 500, "RequestLimitExceeded": 503,
           "ServiceUnavailable": 503, "Unavailable": 503, "UnauthorizedOperation": 403, "AccessDenied": 403,
           "AuthorizationError": 403}


LOST = 30  # seconds until a lost answer comes after all: longer than clients wait


@dataclass
class Fault:
    action: str
    code: str
    message: str
    status: int
    times: int | None  # None: until cleared
    kind: str  # "error"; "unsuccessful": the items of a successful call fail; "lost": no answer to a call that is made
    resource: str | None = None  # an ARN among the call's parameters; None: every call

    def used(self):
        if self.times is not None:
            self.times -= 1
            if self.times <= 0:
                _faults.remove(self)
        return ApiError(self.code, self.message, self.status)


_faults: list[Fault] = []


def add(action, code=None, message=None, status=None, times=None, unsuccessful=None, lost=False, resource=None):
    code = unsuccessful or code or "InternalError"
    kind = "lost" if lost else "unsuccessful" if unsuccessful else "error"
    _faults.append(Fault(action, code, message or f"{code} was requested", status or _STATUS.get(code, 400), times,
                         kind, resource))


def clear():
    _faults.clear()


def take(action, arns=()):
    """The error for this call, if any. Actions are named as in IAM, such as ec2:CreateVpcEndpoint."""
    return _take(action, "error", arns)


def take_unsuccessful(action):
    """The error for the items of this call, if any."""
    return _take(action, "unsuccessful")


def take_lost(action, arns):
    """Whether the answer to this call is lost."""
    return _take(action, "lost", arns) is not None


def _take(action, kind, arns=()):
    for fault in _faults:
        if (fault.action.lower(), fault.kind) == (action.lower(), kind) and fault.resource in (None, *arns):
            return fault.used()
    return None
