"""CloudWatch metrics of AWS services, which only a control command can write."""
import json
from datetime import datetime, timedelta, timezone

import botocore.session
import pytest
import wire_check
from botocore.config import Config
from conftest import PROVIDER, REGION
from local_aws import cbor
from test_endpoint_services import error_code

NAMESPACE = "AWS/PrivateLinkServices"
END = datetime.now(timezone.utc).replace(second=0, microsecond=0)


@pytest.fixture(params=["smithy-rpc-v2-cbor", "json", "query"])
def cloudwatch_with(request, aws):
    """Creates a client for one of CloudWatch's protocols; the SDK for Rust uses only the first."""
    session = botocore.session.Session()
    model = session.get_component("data_loader").load_service_model("cloudwatch", "service-2")
    model["metadata"]["protocols"] = [request.param]
    model["metadata"]["protocol"] = request.param

    def create(key=PROVIDER, secret="test"):
        client = session.create_client("cloudwatch", region_name=REGION, endpoint_url=aws.endpoint,
                                       aws_access_key_id=key, aws_secret_access_key=secret,
                                       config=Config(retries={"total_max_attempts": 1}))
        assert client.meta.service_model.resolved_protocol == request.param
        if request.param != "query":
            wire_check.watch(client)
        return client
    return create


@pytest.fixture
def cloudwatch(cloudwatch_with):
    return cloudwatch_with()


@pytest.fixture
def service(names):
    return names("vpce-svc")


def query(query_id, service, metric="BytesProcessed", stat="Sum", period=60, **more):
    dimensions = [{"Name": "Service Id", "Value": service}]
    return {"Id": query_id, "MetricStat": {"Metric": {"Namespace": NAMESPACE, "MetricName": metric,
                                                      "Dimensions": dimensions},
                                           "Period": period, "Stat": stat, **more}}


def asked(*queries, minutes=60, **more):
    return {"MetricDataQueries": list(queries), "StartTime": END - timedelta(minutes=minutes), "EndTime": END, **more}


def set_values(aws, service, *values, metric="BytesProcessed", **more):
    aws.control("metric", namespace=NAMESPACE, metric=metric, dimensions=[f"Service Id={service}"],
                values=list(values), end=END.isoformat(), unit="Bytes", **more)


def test_get_metric_data_returns_the_values_set_by_a_test(aws, cloudwatch, service):
    set_values(aws, service, 1, None, 3.5)
    aws.control("metric", namespace=NAMESPACE, metric="BytesProcessed", values=[99], end=END.isoformat())
    [result] = cloudwatch.get_metric_data(**asked(query("bytes", service)))["MetricDataResults"]
    assert (result["Id"], result["Label"], result["StatusCode"]) == ("bytes", "BytesProcessed", "Complete")
    assert result["Values"] == [3.5, 1]  # newest first
    assert result["Timestamps"] == [END - timedelta(minutes=1), END - timedelta(minutes=3)]
    set_values(aws, service, 7)
    results = cloudwatch.get_metric_data(**asked(
        query("sum", service, period=3600), query("most", service, stat="Maximum", period=86400),
        query("none", "vpce-svc-none"), query("unit", service, Unit="Count"), query("bytes", service, Unit="Bytes"),
        minutes=5, ScanBy="TimestampAscending"))["MetricDataResults"]
    assert [sum(result["Values"]) for result in results] == [8, 7, 0, 0, 8]
    assert results[4]["Values"] == [1, 7]


def test_data_points_come_in_pages(aws, cloudwatch, service):
    set_values(aws, service, 1, 2, 3)
    set_values(aws, service, 4, 5, metric="NewConnections")
    queries = query("a", service), query("b", "vpce-svc-none"), query("c", service, metric="NewConnections")
    first = cloudwatch.get_metric_data(**asked(*queries, MaxDatapoints=2))
    assert [(r["Id"], r["Values"], r["StatusCode"]) for r in first["MetricDataResults"]] == [
        ("a", [3, 2], "PartialData"), ("b", [], "PartialData"), ("c", [], "PartialData")]
    aws.control("page-size", size=2)
    pages = list(cloudwatch.get_paginator("get_metric_data").paginate(**asked(*queries)))
    assert [sum(len(r["Values"]) for r in page["MetricDataResults"]) for page in pages] == [2, 2, 1]
    together = [(r["Id"], value) for page in pages for r in page["MetricDataResults"] for value in r["Values"]]
    assert together == [("a", 3), ("a", 2), ("a", 1), ("c", 5), ("c", 4)]
    assert error_code(cloudwatch.get_metric_data, **asked(*queries, NextToken="x")) == "InvalidNextToken"


def test_cloudwatch_rejects_invalid_calls(cloudwatch, service):
    def code(*queries, **more):
        return error_code(cloudwatch.get_metric_data, **{**asked(*queries), **more})

    many = [query(f"m{number}", service) for number in range(501)]
    assert code(*many) == "ValidationError"
    assert len(cloudwatch.get_metric_data(**asked(*many[:500]))["MetricDataResults"]) == 500
    assert code(query("Upper", service)) == code(*[query("a", service)] * 2) == "ValidationError"
    assert code(query("a", service, period=90)) == code(query("a", service), EndTime=END - timedelta(days=1)) == (
        "ValidationError")
    data = {"MetricData": [{"MetricName": "BytesProcessed", "Value": 1}]}
    with pytest.raises(cloudwatch.exceptions.ClientError) as failure:
        cloudwatch.put_metric_data(Namespace=NAMESPACE, **data)
    assert failure.value.response["Error"]["Code"] == "InvalidParameterValue"
    assert failure.value.response["Error"]["Message"] == "The value AWS/ for parameter Namespace is invalid."
    cloudwatch.put_metric_data(Namespace="Guard", **data)


def test_only_a_policy_allows_a_role_to_read_metrics(aws, names, cloudwatch_with, service):
    iam, user = aws.client("iam"), names("reader")
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    cloudwatch = cloudwatch_with(key["AccessKeyId"], key["SecretAccessKey"])
    with pytest.raises(cloudwatch.exceptions.ClientError) as failure:
        cloudwatch.get_metric_data(**asked(query("a", service)))
    assert failure.value.response["Error"]["Code"].startswith("AccessDenied")
    assert "is not authorized to perform: cloudwatch:GetMetricData" in failure.value.response["Error"]["Message"]
    refused = aws.control("requests", principal=user)[-1]
    assert (refused["action"], refused["error"].startswith("AccessDenied")) == ("GetMetricData", True)
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "cloudwatch:GetMetricData",
                                                "Resource": "*"}]}))
    assert cloudwatch.get_metric_data(**asked(query("a", service)))["MetricDataResults"][0]["Values"] == []
    aws.control("fault", action="cloudwatch:GetMetricData", code="ThrottlingException", status=400, times=1)
    assert error_code(cloudwatch.get_metric_data, **asked(query("a", service))) == "ThrottlingException"
    assert aws.control("requests", principal=user)[-1]["error"] == "ThrottlingException"


def test_a_value_set_by_a_test_raises_an_alarm(aws, names):
    cloudwatch, name = aws.client("cloudwatch"), names("alarm")
    cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace="AWS/NetworkELB", MetricName=name, Statistic="Sum", Period=60, EvaluationPeriods=1,
        Threshold=1, ComparisonOperator="GreaterThanOrEqualToThreshold")
    aws.control("metric", namespace="AWS/NetworkELB", metric=name, values=[5], period=1)
    [alarm] = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert alarm["StateValue"] == "ALARM"


@pytest.mark.parametrize("value", [
    0, 23, 24, 65536, -1, -500, 1.5, True, None, "", "zürich" * 50, b"\0", [], [1, [2]], {"a": {"b": [None]}}])
def test_cbor_values_survive_a_round_trip(value):
    assert cbor.loads(cbor.dumps(value)) == value


def test_cbor_of_the_sdk_for_rust_is_read():
    """The SDK writes maps and arrays without their length, and short floats."""
    assert cbor.loads(bytes.fromhex("bf6141 9f01 f93e00 ff 6142 c1 1903e8 ff".replace(" ", ""))) == {
        "A": [1, 1.5], "B": 1000}


def test_metrics_are_listed_by_one_dimension_with_all_of_theirs(aws, cloudwatch, service):
    set_values(aws, service, 1)
    aws.control("metric", namespace=NAMESPACE, metric="NewConnections", values=[1],
                dimensions=[f"Service Id={service}", "Az=eu-central-1a"])
    aws.control("metric", namespace=NAMESPACE, metric="NewConnections", dimensions=["Service Id=another"], values=[1])

    def listed(**filters):
        metrics = cloudwatch.list_metrics(Namespace=NAMESPACE, **filters)["Metrics"]
        return {(each["MetricName"], *sorted(one["Name"] for one in each["Dimensions"])) for each in metrics}
    ours = {"Name": "Service Id", "Value": service}
    assert listed(Dimensions=[ours]) == {("BytesProcessed", "Service Id"), ("NewConnections", "Az", "Service Id")}
    assert listed(Dimensions=[ours, {"Name": "Az"}]) == {("NewConnections", "Az", "Service Id")}
    assert listed(Dimensions=[ours], MetricName="Unknown") == set()
