"""The caller of a request, and its CloudTrail userIdentity."""
import re

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id
from ministack.core.router import extract_access_key_id
from ministack.services import iam, sts

from . import clock


def arn_of(headers, query):
    return iam_evaluator.request_caller_arn(headers, query)


def issuer_of(session_arn):
    """The role of a session, which is in its ARN without the path; None if the caller is no role's session."""
    match = re.fullmatch(r"arn:aws:sts::(\d+):assumed-role/([^/]+)/.+", session_arn)
    if not match:
        return None
    account, name = match.groups()
    return iam._roles.get_scoped(account, None, name) or {
        "RoleId": name, "RoleName": name, "Arn": f"arn:aws:iam::{account}:role/{name}"}


def identity_of(headers, query):
    """CloudTrail's userIdentity: Root, IAMUser, or AssumedRole with its sessionContext."""
    arn, account, key = arn_of(headers, query), get_account_id(), extract_access_key_id(headers, query)
    common = {"arn": arn, "accountId": account, "accessKeyId": key}
    if role := issuer_of(arn):
        session = sts._sessions.get(key) or {}
        issuer = {"type": "Role", "principalId": role["RoleId"], "accountId": account, "arn": role["Arn"],
                  "userName": role["RoleName"]}
        return {"type": "AssumedRole", "principalId": f"{issuer['principalId']}:{arn.split('/')[2]}", **common,
                "sessionContext": {"sessionIssuer": issuer, "attributes": {
                    "creationDate": clock.iso(session.get("IssuedAt"))[:19] + "Z", "mfaAuthenticated": "false"}}}
    if ":user/" in arn:
        name = arn.rsplit("/", 1)[-1]
        user = iam._users.get_scoped(account, None, name) or {}
        return {"type": "IAMUser", "principalId": user.get("UserId", name), **common, "userName": name}
    return {"type": "Root", "principalId": account, **common}
