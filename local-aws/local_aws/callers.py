"""The caller of a request, and its CloudTrail userIdentity."""
from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id
from ministack.core.router import extract_access_key_id
from ministack.services import iam, sts

from . import clock


def arn_of(headers, query):
    return iam_evaluator.request_caller_arn(headers, query)


def identity_of(headers, query):
    """CloudTrail's userIdentity: Root, IAMUser, or AssumedRole with its sessionContext."""
    arn, account, key = arn_of(headers, query), get_account_id(), extract_access_key_id(headers, query)
    common = {"arn": arn, "accountId": account, "accessKeyId": key}
    if ":assumed-role/" in arn:
        role_name = arn.split("/")[1]
        role = iam._roles.get_scoped(account, None, role_name) or {}
        session = sts._sessions.get(key) or {}
        issuer = {"type": "Role", "principalId": role.get("RoleId", role_name), "accountId": account,
                  "arn": role.get("Arn", f"arn:aws:iam::{account}:role/{role_name}"), "userName": role_name}
        return {"type": "AssumedRole", "principalId": f"{issuer['principalId']}:{arn.split('/')[2]}", **common,
                "sessionContext": {"sessionIssuer": issuer, "attributes": {
                    "creationDate": clock.iso(session.get("IssuedAt"))[:19] + "Z", "mfaAuthenticated": "false"}}}
    if ":user/" in arn:
        name = arn.rsplit("/", 1)[-1]
        user = iam._users.get_scoped(account, None, name) or {}
        return {"type": "IAMUser", "principalId": user.get("UserId", name), **common, "userName": name}
    return {"type": "Root", "principalId": account, **common}
