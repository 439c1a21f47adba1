"""ACM: certificates with all members that AWS describes, and with dates and states set by tests.

Records stay in ministack's store.
"""
import json
import os
import re
import ssl
import tempfile
import time
from datetime import datetime, timezone

from ministack.core.responses import error_response_json, get_account_id, get_region, json_response, request_scope
from ministack.services import acm, alb

STATUSES = ("PENDING_VALIDATION", "ISSUED", "INACTIVE", "EXPIRED", "VALIDATION_TIMED_OUT", "REVOKED", "FAILED")
TYPES = ("AMAZON_ISSUED", "IMPORTED")
# https://docs.aws.amazon.com/acm/latest/userguide/import-certificate-prerequisites.html
KEY_ALGORITHMS = ("RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1")
# https://docs.aws.amazon.com/acm/latest/APIReference/API_RequestCertificate.html
_REQUESTED = ("RSA_2048", "EC_prime256v1", "EC_secp384r1")
RENEWALS = ("PENDING_AUTO_RENEWAL", "PENDING_VALIDATION", "SUCCESS", "FAILED")
_NEVER_ISSUED = ("PENDING_VALIDATION", "VALIDATION_TIMED_OUT", "FAILED")
_ARN = r"arn:[\w+=/,.@-]+:acm:[\w+=/,.@-]*:[0-9]+:[\w+=,.@-]+(/[\w+=,.@-]+)*"
# https://docs.aws.amazon.com/acm/latest/userguide/acm-certificate-characteristics.html
_DAYS_VALID = 198


def status_of(certificate):
    """The certificate's status: an issued one expires."""
    expired = acm._epoch(certificate["NotAfter"]) <= time.time()
    return "EXPIRED" if certificate["Status"] == "ISSUED" and expired else certificate["Status"]


def in_use_by(arn):
    """The load balancers whose listeners use the certificate."""
    return sorted({listener["LoadBalancerArn"] for listener in alb._listeners.values()
                   if arn in [*listener.get("Certificates", []), *listener.get("CertificateList", [])]})


def view(certificate):
    arn, kind, status = certificate["CertificateArn"], certificate["Type"], status_of(certificate)
    # The form of ACM's answer, which differs from its model:
    # https://github.com/aws-controllers-k8s/community/issues/2394
    algorithm = certificate.get("KeyAlgorithm", "RSA_2048").replace("RSA_", "RSA-")
    used = in_use_by(arn) + acm._signing_profiles_using(arn)
    # https://docs.aws.amazon.com/acm/latest/userguide/managed-renewal.html
    eligible = kind == "AMAZON_ISSUED" and status == "ISSUED" and used
    shown = {
        "CertificateArn": arn, "DomainName": certificate["DomainName"], "Status": status, "Type": kind,
        "SubjectAlternativeNames": certificate["SubjectAlternativeNames"], "InUseBy": used,
        "CreatedAt": acm._epoch(certificate["CreatedAt"]), "KeyAlgorithm": algorithm,
        "SignatureAlgorithm": "SHA256WITHRSA", "KeyUsages": [], "ExtendedKeyUsages": [],
        "RenewalEligibility": "ELIGIBLE" if eligible else "INELIGIBLE",
        "Options": {"CertificateTransparencyLoggingPreference": "ENABLED" if kind == "AMAZON_ISSUED" else "DISABLED"}}
    if status not in _NEVER_ISSUED:
        shown |= {"NotBefore": acm._epoch(certificate["NotBefore"]), "NotAfter": acm._epoch(certificate["NotAfter"])}
    if kind == "IMPORTED":
        return shown | {"ImportedAt": acm._epoch(certificate["IssuedAt"])}
    validation = certificate["DomainValidationOptions"]
    if status in _NEVER_ISSUED:
        outcome = "PENDING_VALIDATION" if status == "PENDING_VALIDATION" else "FAILED"
        validation = [{**option, "ValidationStatus": outcome} for option in validation]
    else:
        shown["IssuedAt"] = acm._epoch(certificate["IssuedAt"])
    if "Renewal" in certificate:
        renewal, since = certificate["Renewal"]
        outcome = renewal if renewal in ("SUCCESS", "FAILED") else "PENDING_VALIDATION"
        shown["RenewalSummary"] = {
            "RenewalStatus": renewal, "UpdatedAt": since,
            "DomainValidationOptions": [{**option, "ValidationStatus": outcome} for option in validation]}
    return shown | {"DomainValidationOptions": validation}


def not_found(arn):
    if not re.fullmatch(_ARN, arn):
        return error_response_json(
            "ValidationException", f"1 validation error detected: Value '{arn}' at 'certificateArn' failed to satisfy "
                                   f"constraint: Member must satisfy regular expression pattern: {_ARN}", 400)
    return error_response_json("ResourceNotFoundException",
                               f"Could not find certificate {arn} in account {get_account_id()}.", 400)


def delete(data):
    arn = data.get("CertificateArn", "")
    if acm._get_local_certificate(arn) and in_use_by(arn):
        return error_response_json("ResourceInUseException",
                                   f"Certificate {arn} in account {get_account_id()} is in use.", 400)
    return _ministack_delete(data)


def request(data):
    """Request a certificate. Here, ACM validates the domains at once."""
    algorithm = data.get("KeyAlgorithm", "RSA_2048")
    if algorithm not in _REQUESTED:
        return error_response_json("ValidationException", f"Encryption Algorithm {algorithm} is not supported in "
                                                          f"{get_region()} region", 400)
    answer = _ministack_request(data)
    arn = _arn_in(answer)
    if arn:
        acm._certificates[arn].update(NotAfter=time.time() + _DAYS_VALID * 86400, KeyAlgorithm=algorithm)
    return answer


def import_certificate(data):
    """Import a certificate with its own names and dates. An import to an existing ARN renews the certificate there."""
    arn, read = data.get("CertificateArn"), _read(acm._decode_pem_field(data.get("Certificate")))
    if read is None:
        return error_response_json("ValidationException", "The certificate field contains an unparsable certificate. "
                                                          "Use a PEM-encoded certificate.", 400)
    if arn and not acm._get_local_certificate(arn):
        return not_found(arn)
    # https://docs.aws.amazon.com/acm/latest/userguide/import-reimport.html: a renewal keeps the key's type and size.
    algorithm = acm._certificates[arn].get("KeyAlgorithm", "RSA_2048") if arn else "RSA_2048"
    answer = _ministack_import(data)
    imported = _arn_in(answer)
    if imported:
        acm._certificates[imported].update(read, KeyAlgorithm=algorithm)
    return answer


def _arn_in(answer):
    return json.loads(answer[2]).get("CertificateArn") if answer[0] == 200 else None


def _read(pem):
    """The names and dates in a certificate; None if the text is no certificate."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "certificate.pem")
        with open(path, "w", encoding="utf-8") as file:
            file.write(pem)
        try:
            found = ssl._ssl._test_decode_cert(path)  # the only parser of certificates in the standard library
        except (ssl.SSLError, ValueError):
            return None
    common = [value for attributes in found.get("subject", ()) for name, value in attributes if name == "commonName"]
    others = [value for kind, value in found.get("subjectAltName", ()) if kind == "DNS"]
    names = list(dict.fromkeys([*common[:1], *others]))
    return {"DomainName": names[0] if names else "", "SubjectAlternativeNames": names,
            "NotBefore": ssl.cert_time_to_seconds(found["notBefore"]),
            "NotAfter": ssl.cert_time_to_seconds(found["notAfter"])}


def force(certificate, status=None, not_before=None, not_after=None, type=None, renewal=None, key_algorithm=None):
    """Set a certificate's status, dates, type, key algorithm and managed renewal ("none": no renewal)."""
    for value, known in ((status, STATUSES), (type, TYPES), (renewal, (*RENEWALS, "none")),
                         (key_algorithm, KEY_ALGORITHMS)):
        if value is not None and value not in known:
            raise ValueError(f"{value} is not one of {', '.join(known)}")
    region, account = certificate.split(":")[3:5]
    with request_scope(account, region):
        record = acm._certificates.get(certificate)
        if record is None:
            raise LookupError(f"no certificate {certificate}")
        changed = {"Status": status, "Type": type, "NotBefore": _seconds(not_before), "NotAfter": _seconds(not_after),
                   "KeyAlgorithm": key_algorithm}
        record.update({member: value for member, value in changed.items() if value is not None})
        if renewal == "none":
            record.pop("Renewal", None)
        elif renewal:
            record["Renewal"] = renewal, time.time()


def _seconds(text):
    if text is None:
        return None
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


_ministack_delete, _ministack_request, _ministack_import = (
    acm._delete_certificate, acm._request_certificate, acm._import_certificate)


def describe(data):
    arn = data.get("CertificateArn", "")
    certificate = acm._get_local_certificate(arn)
    return json_response({"Certificate": view(certificate)}) if certificate else not_found(arn)


def install():
    acm._describe_certificate, acm._certificate_not_found = describe, not_found
    acm._delete_certificate, acm._request_certificate, acm._import_certificate = delete, request, import_certificate
