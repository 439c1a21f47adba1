"""Flow logs, and searches of their records with CloudWatch Logs Insights."""
import json
import time
from datetime import datetime, timedelta, timezone

import pytest
from conftest import DBT
from test_endpoint_services import error_code

NOW = datetime.now(timezone.utc).replace(microsecond=0)
ROLE = "arn:aws:iam::111122223333:role/flow-logs"
QUERY = ('parse @message "* * * * * * * * * * * * * *" as version, account, interface, source, destination, from_port, '
         "port, protocol, packets, bytes, start, finish, action, status "
         '| filter interface in ["{}", "eni-other"] and action = "REJECT" '
         "| stats count(*) as records by source, port | sort records desc | limit {}")


@pytest.fixture
def interface(provider):
    """The load balancer's network interface in its first subnet."""
    name = provider.load_balancer.split(":loadbalancer/")[1]
    return provider.ec2.describe_network_interfaces(
        Filters=[{"Name": "description", "Values": [f"ELB {name}"]}])["NetworkInterfaces"][0]


@pytest.fixture
def logged(provider, names):
    """Creates a flow log that writes to a log group of its own, and returns its id and the group's name."""
    def create(kind, resource, **more):
        group = names("flows")
        [flow_log] = provider.ec2.create_flow_logs(**{
            "ResourceType": kind, "ResourceIds": [resource], "TrafficType": "ALL", "LogGroupName": group,
            "DeliverLogsPermissionArn": ROLE, **more})["FlowLogIds"]
        return flow_log, group
    return create


def write(aws, interface, port=5432, action="REJECT", source="10.1.2.3", **more):
    return aws.control("flow-log-record", interface_id=interface["NetworkInterfaceId"], source=f"{source}:40000",
                       destination=f"{interface['PrivateIpAddress']}:{port}", action=action, **more)["FlowLogs"]


def search(logs, group, query, minutes=60):
    started = logs.start_query(logGroupName=group, startTime=int((NOW - timedelta(minutes=minutes)).timestamp()),
                               endTime=int(time.time()) + 1, queryString=query)
    answer = logs.get_query_results(queryId=started["queryId"])
    assert answer["status"] == "Complete"
    return [{field["field"]: field["value"] for field in row} for row in answer["results"]], answer["statistics"]


def test_flow_logs_are_described_as_they_were_created(aws, provider, interface, logged, names):
    ec2, resource = provider.ec2, interface["NetworkInterfaceId"]
    of_interface, group = logged("NetworkInterface", resource, MaxAggregationInterval=60)
    of_subnet, _ = logged("Subnet", interface["SubnetId"], TrafficType="REJECT", LogFormat="${srcaddr} ${action}")
    bucket = {"ResourceType": "VPC", "TrafficType": "ALL", "LogDestinationType": "s3"}
    answer = ec2.create_flow_logs(ResourceIds=[provider.vpc, "vpc-none"], LogDestination="arn:aws:s3:::b", **bucket)
    assert answer["Unsuccessful"][0]["ResourceId"] == "vpc-none"

    def described(**filters):
        wanted = [{"Name": name.replace("_", "-"), "Values": values} for name, values in filters.items()]
        return ec2.describe_flow_logs(Filter=wanted)["FlowLogs"]

    [found] = described(resource_id=[resource])
    assert (found["FlowLogId"], found["LogGroupName"], found["MaxAggregationInterval"]) == (of_interface, group, 60)
    assert found["LogFormat"].startswith("${version} ${account-id} ${interface-id} ")
    [found] = described(resource_id=[interface["SubnetId"]], traffic_type=["REJECT"])
    assert (found["FlowLogId"], found["LogFormat"]) == (of_subnet, "${srcaddr} ${action}")
    assert "LogGroupName" not in described(flow_log_id=answer["FlowLogIds"])[0]
    aws.control("page-size", size=1)
    both = [{"Name": "flow-log-id", "Values": [of_interface, of_subnet]}]
    assert len(list(ec2.get_paginator("describe_flow_logs").paginate(Filter=both))) == 2
    assert aws.client("ec2", DBT).describe_flow_logs()["FlowLogs"] == []
    ec2.delete_flow_logs(FlowLogIds=[of_interface, of_subnet, *answer["FlowLogIds"]])
    assert described(flow_log_id=[of_interface, of_subnet]) == []
    without_role = {"ResourceIds": [resource], "ResourceType": "NetworkInterface", "TrafficType": "ALL"}
    assert error_code(ec2.create_flow_logs, **without_role, LogGroupName=names("flows")) == "InvalidParameter"
    assert error_code(ec2.describe_flow_logs, FlowLogIds=["fl-none"]) == "InvalidFlowLogId.NotFound"


def test_a_record_goes_to_every_flow_log_of_its_interface(aws, provider, interface, logged):
    of_interface, group = logged("NetworkInterface", interface["NetworkInterfaceId"])
    of_subnet, rejects = logged("Subnet", interface["SubnetId"], TrafficType="REJECT",
                                LogFormat="${dstport} ${action} ${tcp-flags}")
    assert set(write(aws, interface)) == {of_interface, of_subnet}
    assert write(aws, interface, action="ACCEPT") == [of_interface]
    logs = aws.client("logs")
    messages = [[event["message"] for event in logs.filter_log_events(logGroupName=name)["events"]]
                for name in (group, rejects)]
    assert messages[1] == ["5432 REJECT -"]
    own = interface["NetworkInterfaceId"], interface["PrivateIpAddress"]
    assert messages[0][0].startswith(f"2 111122223333 {own[0]} 10.1.2.3 {own[1]} 40000 5432 6 1 60 ")
    assert [message.split()[-2] for message in messages[0]] == ["REJECT", "ACCEPT"]
    provider.ec2.delete_flow_logs(FlowLogIds=[of_interface, of_subnet])


def test_insights_counts_the_records_in_the_time_range(aws, provider, interface, logged):
    flow_log, group = logged("NetworkInterface", interface["NetworkInterfaceId"])
    for source in ("10.1.2.3", "10.1.2.3", "10.1.2.4"):
        write(aws, interface, source=source)
    write(aws, interface, action="ACCEPT")
    write(aws, interface, at=(NOW - timedelta(hours=2)).isoformat())
    logs, query = aws.client("logs"), QUERY.format(interface["NetworkInterfaceId"], 10)
    rows, statistics = search(logs, group, query)
    assert rows == [{"source": "10.1.2.3", "port": "5432", "records": "2"},
                    {"source": "10.1.2.4", "port": "5432", "records": "1"}]
    assert (statistics["recordsScanned"], statistics["recordsMatched"]) == (4, 3)
    assert search(logs, group, query, minutes=180)[0][0]["records"] == "3"
    assert len(search(logs, group, QUERY.format(interface["NetworkInterfaceId"], 1))[0]) == 1
    assert search(logs, group, QUERY.format("eni-none", 10))[0] == []
    [listed, *_], _ = search(logs, group, "fields @message | limit 1")
    assert "@message" in listed  # ministack answers queries that list events
    provider.ec2.delete_flow_logs(FlowLogIds=[flow_log])


@pytest.mark.parametrize("change", [
    ("desc", "asc"), ("count(*)", "sum(bytes)"), (" and action", " or action"), ("* * *", "*"), ("| sort records", "")])
def test_an_unsupported_query_is_an_error(aws, change):
    logs = aws.client("logs")
    group = "insights-errors"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        logs.create_log_group(logGroupName=group)
    when = {"startTime": int(NOW.timestamp()) - 60, "endTime": int(NOW.timestamp())}
    query = QUERY.format("eni-1", 10)
    assert logs.start_query(logGroupName=group, queryString=query, **when)["queryId"]
    assert query != query.replace(*change)
    broken = {"logGroupName": group, "queryString": query.replace(*change), **when}
    assert error_code(logs.start_query, **broken) == "MalformedQueryException"
    unknown = {**broken, "queryString": query, "logGroupName": "none"}
    assert error_code(logs.start_query, **unknown) == "ResourceNotFoundException"


def test_the_size_of_a_log_group_can_be_set(aws, names):
    logs, name = aws.client("logs"), names("large")
    logs.create_log_group(logGroupName=name)
    aws.control("log-group", log_group=name, stored_bytes=10**12)
    [group] = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert group["storedBytes"] == 10**12


def test_only_a_policy_allows_a_user_to_search(aws, names):
    iam, user, group = aws.client("iam"), names("searcher"), names("flows")
    aws.client("logs").create_log_group(logGroupName=group)
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    logs = aws.client("logs", key["AccessKeyId"], key["SecretAccessKey"])
    asked = {"logGroupName": group, "startTime": 0, "endTime": 1, "queryString": QUERY.format("eni-1", 1)}
    assert error_code(logs.start_query, **asked) == "AccessDeniedException"
    allowed = {"Effect": "Allow", "Action": ["logs:StartQuery", "logs:GetQueryResults"], "Resource": "*"}
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [allowed]}))
    query = logs.start_query(**asked)["queryId"]
    assert logs.get_query_results(queryId=query)["results"] == []
