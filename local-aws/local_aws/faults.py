"""Errors on demand: fails the next calls of an action, or all of them until the fault is cleared."""
from dataclasses import dataclass

from .wire import ApiError

_STATUS = {"InternalError": 500, "InternalFailure": 500, "InternalServerError": 500, "RequestLimitExceeded": 503,
           "ServiceUnavailable": 503, "Unavailable": 503, "UnauthorizedOperation": 403, "AccessDenied": 403,
           "AuthorizationError": 403}


@dataclass
class Fault:
    action: str
    code: str
    message: str
    status: int
    times: int | None  # None: until cleared
    unsuccessful: bool  # fail the items of a successful call

    def used(self):
        if self.times is not None:
            self.times -= 1
            if self.times <= 0:
                _faults.remove(self)
        return ApiError(self.code, self.message, self.status)


_faults: list[Fault] = []


def add(action, code=None, message=None, status=None, times=None, unsuccessful=None):
    code = unsuccessful or code or "InternalError"
    _faults.append(Fault(action, code, message or f"{code} was requested", status or _STATUS.get(code, 400), times,
                         bool(unsuccessful)))


def clear():
    _faults.clear()


def take(action):
    """The error for this call, if any. Actions are named as in IAM, such as ec2:CreateVpcEndpoint."""
    return _take(action, unsuccessful=False)


def take_unsuccessful(action):
    """The error for the items of this call, if any."""
    return _take(action, unsuccessful=True)


def _take(action, unsuccessful):
    for fault in _faults:
        if fault.action.lower() == action.lower() and fault.unsuccessful == unsuccessful:
            return fault.used()
    return None
