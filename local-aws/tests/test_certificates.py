"""ACM certificates, and the TLS listeners that use them."""
import json
import shutil
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from conftest import DBT, PROVIDER, REGION
from test_endpoint_services import error_code
from test_load_balancers import new_group

MISSING = f"arn:aws:acm:{REGION}:{PROVIDER}:certificate/00000000-0000-0000-0000-000000000000"


@pytest.fixture
def acm(aws):
    return aws.client("acm")


@pytest.fixture
def certificate(acm):
    return acm.request_certificate(DomainName="db.example.com", ValidationMethod="DNS",
                                   SubjectAlternativeNames=["db.example.com", "*.db.example.com"])["CertificateArn"]


@pytest.fixture
def tls(provider, names):
    """Creates a TLS listener with these certificates."""
    group = new_group(provider, names, Protocol="TLS", TargetType="ip")

    def listen(*arns, port=443, **more):
        return provider.elb.create_listener(
            LoadBalancerArn=provider.load_balancer, Protocol="TLS", Port=port,
            Certificates=[{"CertificateArn": arn} for arn in arns],
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group}], **more)["Listeners"][0]
    return listen


def described(acm, arn):
    return acm.describe_certificate(CertificateArn=arn)["Certificate"]


def test_a_requested_certificate_is_issued(acm, certificate):
    found = described(acm, certificate)
    assert (found["DomainName"], found["SubjectAlternativeNames"]) == (
        "db.example.com", ["db.example.com", "*.db.example.com"])
    assert (found["Status"], found["Type"], found["RenewalEligibility"], found["InUseBy"]) == (
        "ISSUED", "AMAZON_ISSUED", "INELIGIBLE", [])
    assert found["NotAfter"] - found["NotBefore"] == pytest.approx(timedelta(days=198), abs=timedelta(minutes=1))


def test_an_imported_certificate_has_its_own_names_and_dates(acm, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    key, body = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "20", "-keyout", key, "-out",
                    body, "-subj", "/CN=own.example.com", "-addext",
                    "subjectAltName=DNS:own.example.com,DNS:other.example.com"], check=True, capture_output=True)
    imported = {"Certificate": body.read_bytes(), "PrivateKey": key.read_bytes()}
    arn = acm.import_certificate(**imported)["CertificateArn"]
    found = described(acm, arn)
    assert (found["DomainName"], found["SubjectAlternativeNames"]) == (
        "own.example.com", ["own.example.com", "other.example.com"])
    assert (found["Type"], found["RenewalEligibility"]) == ("IMPORTED", "INELIGIBLE")
    assert found["NotAfter"] - found["NotBefore"] == timedelta(days=20)
    assert "ImportedAt" in found
    assert {"IssuedAt", "DomainValidationOptions"}.isdisjoint(found)
    assert acm.import_certificate(CertificateArn=arn, **imported)["CertificateArn"] == arn
    assert error_code(acm.import_certificate, CertificateArn=MISSING, **imported) == "ResourceNotFoundException"
    assert error_code(acm.import_certificate, Certificate=b"none", PrivateKey=b"none") == "ValidationException"


def test_the_control_command_sets_dates_status_and_renewal(aws, acm, certificate, tls):
    in_a_week = (datetime.now(timezone.utc) + timedelta(days=7)).replace(microsecond=0)
    tls(certificate)
    aws.control("certificate", certificate=certificate, not_after=in_a_week.isoformat(), renewal="PENDING_VALIDATION")
    found = described(acm, certificate)
    assert (found["NotAfter"], found["Status"], found["RenewalEligibility"]) == (in_a_week, "ISSUED", "ELIGIBLE")
    assert found["RenewalSummary"]["RenewalStatus"] == "PENDING_VALIDATION"
    aws.control("certificate", certificate=certificate, not_after="2026-01-01T00:00:00Z", renewal="none")
    found = described(acm, certificate)
    assert (found["Status"], found["RenewalEligibility"], "RenewalSummary" in found) == ("EXPIRED", "INELIGIBLE", False)
    aws.control("certificate", certificate=certificate, status="PENDING_VALIDATION")
    found = described(acm, certificate)
    assert found["Status"] == "PENDING_VALIDATION"
    assert {"NotBefore", "NotAfter", "IssuedAt"}.isdisjoint(found)
    assert {option["ValidationStatus"] for option in found["DomainValidationOptions"]} == {"PENDING_VALIDATION"}
    aws.control("certificate", certificate=certificate, status="REVOKED", type="IMPORTED")
    found = described(acm, certificate)
    assert (found["Status"], found["Type"]) == ("REVOKED", "IMPORTED")


def test_a_certificate_has_the_key_that_it_was_requested_with(aws, acm, certificate):
    by_curve = acm.request_certificate(DomainName="ec.example.com", KeyAlgorithm="EC_prime256v1")["CertificateArn"]
    assert [described(acm, arn)["KeyAlgorithm"] for arn in (certificate, by_curve)] == ["RSA-2048", "EC_prime256v1"]
    for only_imported in ("RSA_4096", "EC_secp521r1"):
        assert error_code(acm.request_certificate, DomainName="db.example.com", KeyAlgorithm=only_imported) == (
            "ValidationException")
        aws.control("certificate", certificate=certificate, type="IMPORTED", key_algorithm=only_imported)
        assert described(acm, certificate)["KeyAlgorithm"] == only_imported.replace("RSA_", "RSA-")


def test_unknown_certificates_are_not_found(aws, acm, certificate):
    with pytest.raises(acm.exceptions.ResourceNotFoundException) as failure:
        acm.describe_certificate(CertificateArn=MISSING)
    assert failure.value.response["Error"]["Message"] == (
        f"Could not find certificate {MISSING} in account {PROVIDER}.")
    assert error_code(aws.client("acm", DBT).describe_certificate, CertificateArn=certificate) == (
        "ResourceNotFoundException")
    assert error_code(acm.describe_certificate, CertificateArn="db.example.com/certificate") == "ValidationException"


def test_a_tls_listener_has_its_certificate_and_policy(provider, acm, certificate, tls):
    created = tls(certificate, SslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06")
    [listener] = provider.elb.describe_listeners(LoadBalancerArn=provider.load_balancer)["Listeners"]
    assert listener == created
    assert (listener["Certificates"], listener["SslPolicy"]) == (
        [{"CertificateArn": certificate}], "ELBSecurityPolicy-TLS13-1-2-2021-06")
    assert described(acm, certificate)["InUseBy"] == [provider.load_balancer]
    assert error_code(acm.delete_certificate, CertificateArn=certificate) == "ResourceInUseException"
    other = acm.request_certificate(DomainName="new.example.com")["CertificateArn"]
    by_arn = {"ListenerArn": listener["ListenerArn"]}
    provider.elb.modify_listener(**by_arn, Certificates=[{"CertificateArn": other}])
    provider.elb.modify_listener(**by_arn, SslPolicy="ELBSecurityPolicy-2016-08")
    [listener] = provider.elb.describe_listeners(ListenerArns=[listener["ListenerArn"]])["Listeners"]
    assert (listener["Certificates"], listener["SslPolicy"]) == (
        [{"CertificateArn": other}], "ELBSecurityPolicy-2016-08")
    acm.delete_certificate(CertificateArn=certificate)
    assert error_code(acm.describe_certificate, CertificateArn=certificate) == "ResourceNotFoundException"


def test_a_listener_has_certificates_for_other_names(aws, provider, acm, certificate, tls):
    by_arn = {"ListenerArn": tls(certificate)["ListenerArn"]}
    others = [acm.request_certificate(DomainName=f"{name}.example.com")["CertificateArn"] for name in "ab"]
    for arn in (*others, others[0], certificate):
        answer = provider.elb.add_listener_certificates(**by_arn, Certificates=[{"CertificateArn": arn}])
    listed = [{"CertificateArn": arn, "IsDefault": False} for arn in (*others, certificate)]
    assert answer["Certificates"] == listed
    pages = provider.elb.get_paginator("describe_listener_certificates").paginate(
        **by_arn, PaginationConfig={"PageSize": 2})
    assert [row for page in pages for row in page["Certificates"]] == [
        {"CertificateArn": certificate, "IsDefault": True}, *listed]
    assert described(acm, others[1])["InUseBy"] == [provider.load_balancer]
    provider.elb.remove_listener_certificates(**by_arn, Certificates=[{"CertificateArn": others[1]}])
    assert described(acm, others[1])["InUseBy"] == []
    assert error_code(provider.elb.remove_listener_certificates, **by_arn,
                      Certificates=[{"CertificateArn": certificate}]) == "OperationNotPermitted"
    assert error_code(provider.elb.add_listener_certificates, **by_arn,
                      Certificates=[{"CertificateArn": MISSING}]) == "CertificateNotFound"
    assert error_code(provider.elb.describe_listener_certificates, ListenerArn=provider.listen()) == "ValidationError"


def test_elb_refuses_invalid_tls_listeners(aws, provider, acm, certificate, tls):
    assert error_code(tls) == "ValidationError"
    assert error_code(tls, MISSING) == "CertificateNotFound"
    assert error_code(tls, certificate, certificate) == "TooManyCertificates"
    assert error_code(tls, certificate, SslPolicy="none") == "SSLPolicyNotFound"
    plain = provider.listen()
    assert error_code(provider.elb.modify_listener, ListenerArn=plain,
                      Certificates=[{"CertificateArn": certificate}]) == "ValidationError"
    aws.control("certificate", certificate=certificate, status="PENDING_VALIDATION")
    assert error_code(tls, certificate) == "UnsupportedCertificate"


def test_a_tls_listener_can_require_client_certificates(provider, certificate, tls):
    trust = {"Mode": "verify", "TrustStoreArn": f"arn:aws:elasticloadbalancing:{REGION}:{PROVIDER}:truststore/own/0123"}
    by_arn = {"ListenerArn": tls(certificate)["ListenerArn"]}

    def mutual():
        [listener] = provider.elb.describe_listeners(ListenerArns=[by_arn["ListenerArn"]])["Listeners"]
        return listener.get("MutualAuthentication")

    assert mutual() is None
    for asked in (trust, {"Mode": "off"}):
        provider.elb.modify_listener(**by_arn, MutualAuthentication=asked)
        assert mutual() == asked
    assert tls(certificate, port=8443, MutualAuthentication=trust)["MutualAuthentication"] == trust
    for wrong in ({"Mode": "passthrough"}, {"Mode": "verify"}, {**trust, "Mode": "off"}):
        assert error_code(provider.elb.modify_listener, **by_arn, MutualAuthentication=wrong) == "ValidationError"
    provider.elb.modify_listener(**by_arn, MutualAuthentication=trust)
    tcp = {"Protocol": "TCP", "DefaultActions": [{"Type": "forward", "TargetGroupArn": provider.target_group}]}
    assert error_code(provider.elb.modify_listener, **by_arn, **tcp, MutualAuthentication=trust) == "ValidationError"
    provider.elb.modify_listener(**by_arn, **tcp)
    assert mutual() is None


def test_only_a_tcp_listener_has_an_idle_timeout_to_set(provider, certificate, tls):
    key = "tcp.idle_timeout.seconds"

    def timeout(listener):
        answer = provider.elb.describe_listener_attributes(ListenerArn=listener)
        return {attribute["Key"]: attribute["Value"] for attribute in answer["Attributes"]}.get(key)

    def change(listener, value, key=key):
        provider.elb.modify_listener_attributes(ListenerArn=listener, Attributes=[{"Key": key, "Value": value}])

    tcp, encrypted = provider.listen(), tls(certificate)["ListenerArn"]
    assert (timeout(tcp), timeout(encrypted)) == ("350", None)
    for value in ("60", "6000"):
        change(tcp, value)
        assert timeout(tcp) == value
    for listener, wrong in ((tcp, ("59",)), (tcp, ("6001",)), (tcp, ("60", "idle")), (encrypted, ("60",))):
        assert error_code(change, listener, *wrong) == "ValidationError"
    provider.elb.modify_listener(ListenerArn=tcp, Protocol="TLS", Certificates=[{"CertificateArn": certificate}])
    assert timeout(tcp) is None
    provider.elb.modify_listener(ListenerArn=tcp, Protocol="TCP")
    assert timeout(tcp) == "350"


def test_a_role_may_describe_only_the_certificates_in_its_policy(aws, names, acm, certificate):
    iam, role = aws.client("iam"), names("reader")
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": PROVIDER},
                                                "Action": "sts:AssumeRole"}]}))["Role"]["Arn"]
    iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "acm:DescribeCertificate",
                                                "Resource": certificate}]}))
    key = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
    client = aws.session.create_client(
        "acm", region_name=REGION, endpoint_url=aws.endpoint, aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"], aws_session_token=key["SessionToken"])
    assert described(client, certificate)["Status"] == "ISSUED"
    other = acm.request_certificate(DomainName="other.example.com")["CertificateArn"]
    with pytest.raises(client.exceptions.ClientError) as failure:
        client.describe_certificate(CertificateArn=other)
    error = failure.value.response["Error"]
    assert error["Code"] == "AccessDeniedException"
    assert f"is not authorized to perform: acm:DescribeCertificate on resource: {other} because no" in error["Message"]
