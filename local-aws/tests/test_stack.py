"""A SAM stack with a function: deployed, started by notifications and schedules, limited by its role's policies."""
import io
import json
import shutil
import subprocess
import time
import zipfile

import pytest
from conftest import DBT, HERE, PROVIDER, REGION, Provider, eventually
from test_databases import FAILOVERS, Databases
from test_endpoint_services import error_code

OPS = "ops@example.com"


def zipped(directory):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in directory.iterdir():
            archive.write(file, file.name)
    return buffer.getvalue()


class Stack:
    """The deployed stack/template.yaml, guarding two services."""

    def __init__(self, aws):
        self.aws = aws
        self.guarded, self.other = Provider(aws, "guarded"), Provider(aws, "guarded-too")
        self._deploy([self.guarded.service_id, self.other.service_id])
        [stack] = aws.client("cloudformation").describe_stacks(StackName="guard")["Stacks"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        self.function = self.outputs["Function"]

    def _deploy(self, services):
        """Deploy with the SAM CLI if it is on the PATH, else with the CloudFormation API, which runs the same
        transforms.
        """
        parameters = {"EndpointServiceIds": ",".join(services), "AlertEmail": OPS}
        capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
        if sam := shutil.which("sam"):
            command = [sam, "deploy", "--template-file", "template.yaml", "--stack-name", "guard", "--resolve-s3",
                       "--language-extensions", "--no-progressbar", "--capabilities", *capabilities,
                       "--parameter-overrides", *[f"{key}={value}" for key, value in parameters.items()]]
            done = subprocess.run(command, cwd=HERE / "stack", text=True, capture_output=True,
                                  env={**self.aws.environment(), "SAM_CLI_TELEMETRY": "0"}, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return
        template = (HERE / "stack/template.yaml").read_text().replace("CodeUri: function", "CodeUri: s3://code/f.zip")
        s3, cloudformation = self.aws.client("s3"), self.aws.client("cloudformation")
        s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="code", Key="f.zip", Body=zipped(HERE / "stack/function"))
        cloudformation.create_stack(
            StackName="guard", TemplateBody=template, Capabilities=capabilities,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()])
        eventually(lambda: cloudformation.describe_stacks(StackName="guard")["Stacks"][0]["StackStatus"]
                   == "CREATE_COMPLETE")

    def invoke(self, event):
        answer = self.aws.client("lambda").invoke(FunctionName=self.function, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read())

    def invocations(self, trigger, since=0):
        return [i for i in self.aws.control("invocations", since=since)
                if i["function"] == self.function and i["trigger"] == trigger]

    def last(self, listing):
        entries = self.aws.control(listing)
        return entries[-1]["n"] if entries else 0


@pytest.fixture(scope="module")
def stack(aws):
    return Stack(aws)


def query(service, version, action, **form):
    return {"service": service, "form": {"Action": action, "Version": version, **form}}


def accept(service_id, endpoint_id="vpce-00000000000000000"):
    return query("ec2", "2016-11-15", "AcceptVpcEndpointConnections",
                 **{"ServiceId": service_id, "VpcEndpointId.1": endpoint_id})


def test_the_stacks_resources_exist(aws, stack):
    listed = aws.client("ec2").describe_vpc_endpoint_connection_notifications()["ConnectionNotificationSet"]
    assert {n["ServiceId"] for n in listed if n["ConnectionNotificationArn"] == stack.outputs["NotificationTopic"]} == {
        stack.guarded.service_id, stack.other.service_id}
    table = aws.client("dynamodb").describe_table(TableName=stack.outputs["Table"])["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    ttl = aws.client("dynamodb").describe_time_to_live(TableName=stack.outputs["Table"])["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
    [group] = aws.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{stack.function}")["logGroups"]
    assert group["retentionInDays"] == 30
    [alarm] = aws.client("cloudwatch").describe_alarms(AlarmNamePrefix="guard")["MetricAlarms"]
    assert alarm["AlarmActions"] == [stack.outputs["AlertTopic"]]


def test_a_connection_request_starts_the_function(aws, stack):
    before = stack.last("invocations")
    consumer = aws.client("ec2", DBT)
    consumer.create_vpc_endpoint(VpcEndpointType="Interface", VpcId=consumer.describe_vpcs()["Vpcs"][0]["VpcId"],
                                 ServiceName=stack.guarded.service_name)
    [invocation] = eventually(lambda: stack.invocations("sns", before))
    assert invocation["ok"]


def test_schedules_run_in_the_servers_minutes(stack):
    """rate(1 minute) at --minute 1."""
    eventually(lambda: len(stack.invocations("schedule")) >= 2)


def test_a_recorded_change_starts_the_function(stack):
    before = stack.last("invocations")
    stack.guarded.elb.modify_load_balancer_attributes(LoadBalancerArn=stack.guarded.load_balancer, Attributes=[
        {"Key": "load_balancing.cross_zone.enabled", "Value": "true"}])
    assert eventually(lambda: stack.invocations("cloudtrail", before))[0]["ok"]


def test_a_call_of_the_function_is_recorded_with_its_role(aws, stack):
    consumer = aws.client("ec2", DBT)
    endpoint = consumer.create_vpc_endpoint(
        VpcEndpointType="Interface", VpcId=consumer.describe_vpcs()["Vpcs"][0]["VpcId"],
        ServiceName=stack.guarded.service_name)["VpcEndpoint"]["VpcEndpointId"]
    before_requests, before = stack.last("requests"), stack.last("invocations")
    assert stack.invoke(accept(stack.guarded.service_id, endpoint))["status"] == 200
    eventually(lambda: stack.guarded.state(endpoint) == "available")
    assert eventually(lambda: stack.invocations("cloudtrail", before))
    [request] = aws.control("requests", since=before_requests, principal=":assumed-role/")
    role = aws.client("lambda").get_function_configuration(FunctionName=stack.function)["Role"].split("/")[-1]
    assert request["principal"] == f"arn:aws:sts::{PROVIDER}:assumed-role/{role}/{stack.function}"
    assert request["resources"] == [
        f"arn:aws:ec2:{REGION}:{PROVIDER}:vpc-endpoint-service/{stack.guarded.service_id}"]


def test_the_function_may_do_only_what_its_role_allows(aws, stack):
    unguarded = Provider(aws, "unguarded")
    denied = stack.invoke(accept(unguarded.service_id))
    assert denied["status"] == 403
    assert "<Code>UnauthorizedOperation</Code>" in denied["body"]
    assert (f"is not authorized to perform: ec2:AcceptVpcEndpointConnections on resource: arn:aws:ec2:{REGION}:"
            f"{PROVIDER}:vpc-endpoint-service/{unguarded.service_id} because no identity-based policy allows"
            ) in denied["body"]
    described = stack.invoke(query("ec2", "2016-11-15", "DescribeVpcEndpointConnections"))
    assert described["status"] == 200


def test_a_role_with_a_path_is_named_by_its_whole_arn(aws, names):
    """A session's ARN has no path; aws:PrincipalArn has, as the Principal of a policy has."""
    topic, iam = aws.client("sns").create_topic(Name=names("topic"))["TopicArn"], aws.client("iam")

    def session(path):
        trust = {"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{PROVIDER}:root"}, "Action": "sts:AssumeRole"}]}
        allow = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "sns:Publish", "Resource": topic}]}
        name = names("role")
        role = iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(allow))
        deny = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": topic,
             "Condition": {"ArnNotEquals": {"aws:PrincipalArn": f"arn:aws:iam::{PROVIDER}:role/security/{name}"}}}]}
        aws.client("sns").set_topic_attributes(
            TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(deny))
        key = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
        return aws.session.create_client(
            "sns", region_name=REGION, endpoint_url=aws.endpoint, aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"], aws_session_token=key["SessionToken"])
    session("/security/").publish(TopicArn=topic, Message="hello")
    assert error_code(session("/").publish, TopicArn=topic, Message="hello") == "AuthorizationError"


def test_policies_limit_reads_and_changes_of_a_network(aws, names):
    """A user who may describe everything and change one security group, and nothing else."""
    ec2, iam, user = aws.client("ec2"), aws.client("iam"), names("auditor")
    mine, other = (ec2.create_security_group(GroupName=names("sg"), Description="d")["GroupId"] for _ in range(2))
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"},
            {"Effect": "Allow", "Action": "ec2:AuthorizeSecurityGroupIngress",
             "Resource": f"arn:aws:ec2:{REGION}:{PROVIDER}:security-group/{mine}"}]}))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    as_user = aws.client("ec2", key["AccessKeyId"], key["SecretAccessKey"])
    before = aws.control("requests")[-1]["n"]
    reads = ("security_group_rules", "managed_prefix_lists", "subnets", "network_acls", "route_tables", "instances",
             "network_interfaces", "vpc_endpoint_connection_notifications", "vpcs", "vpc_peering_connections")
    for read in reads:
        getattr(as_user, f"describe_{read}")()
    rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "CidrIp": "10.0.0.0/8"}
    as_user.authorize_security_group_ingress(GroupId=mine, **rule)
    denied = [
        (as_user.authorize_security_group_ingress, {"GroupId": other, **rule}),
        (as_user.get_managed_prefix_list_entries, {"PrefixListId": "pl-00000000000000000"}),
        (as_user.create_route, {"RouteTableId": "rtb-00000001", "DestinationCidrBlock": "10.0.0.0/8",
                                "GatewayId": "igw-00000001"}),
        (as_user.delete_network_acl_entry, {"NetworkAclId": "acl-00000001", "RuleNumber": 100, "Egress": True})]
    for call, arguments in denied:
        assert error_code(call, **arguments) == "UnauthorizedOperation"
    listed = aws.control("requests", since=before, principal=f"user/{user}")
    assert [(r["action"], r["error"]) for r in listed] == [
        *[("Describe" + "".join(word.title() for word in read.split("_")), None) for read in reads],
        ("AuthorizeSecurityGroupIngress", None), ("AuthorizeSecurityGroupIngress", "UnauthorizedOperation"),
        ("GetManagedPrefixListEntries", "UnauthorizedOperation"), ("CreateRoute", "UnauthorizedOperation"),
        ("DeleteNetworkAclEntry", "UnauthorizedOperation")]
    kinds = [resource.split(":")[5] for r in listed for resource in r["resources"]]
    assert kinds == [f"security-group/{mine}", f"security-group/{other}", "prefix-list/pl-00000000000000000",
                     "route-table/rtb-00000001", "network-acl/acl-00000001"]


@pytest.mark.parametrize("event, code", [
    (query("elasticloadbalancing", "2015-12-01", "ModifyLoadBalancerAttributes",
           LoadBalancerArn=f"arn:aws:elasticloadbalancing:{REGION}:{PROVIDER}:loadbalancer/net/db/0123456789abcdef"),
     "<Code>AccessDenied</Code>"),
    (query("elasticloadbalancing", "2015-12-01", "DescribeLoadBalancers"),  # allowed, but only on some resources
     "<Code>AccessDenied</Code>"),
    (query("sns", "2010-03-31", "Publish", Message="x", TopicArn=f"arn:aws:sns:{REGION}:{PROVIDER}:other"),
     "<Code>AuthorizationError</Code>"),
    ({"service": "dynamodb", "target": "DynamoDB_20120810.DeleteItem", "json": {"TableName": "x", "Key": {}}},
     "AccessDeniedException"),
    ({"service": "sqs", "target": "AmazonSQS.SendMessage", "json": {
        "QueueUrl": f"http://127.0.0.1/{PROVIDER}/other", "MessageBody": "x"}}, "AccessDenied"),
    ({"service": "logs", "target": "Logs_20140328.DescribeLogGroups", "json": {}}, "AccessDeniedException"),
])
def test_each_service_has_its_own_error_for_denials(stack, event, code):
    denied = stack.invoke(event)
    assert denied["status"] in (400, 403)
    assert code in denied["body"]
    assert "is not authorized to perform" in denied["body"]


def test_published_messages_are_captured_per_protocol(aws, stack):
    before = stack.last("mail")
    bodies = {"default": "plain", "email": "for people"}
    answer = stack.invoke(query("sns", "2010-03-31", "Publish", TopicArn=stack.outputs["AlertTopic"],
                                Subject="[CRITICAL] db", Message=json.dumps(bodies), MessageStructure="json"))
    assert answer["status"] == 200
    _, email = aws.control("mail", since=before)
    assert (email["protocol"], email["endpoint"], email["message"]) == ("email", OPS, "for people")


def test_a_failing_invocation_ends_as_a_dead_letter(aws, stack):
    before = stack.last("invocations")
    aws.client("lambda").invoke(FunctionName=stack.function, InvocationType="Event", Payload='{"fail": "on purpose"}')

    def attempts():
        return stack.invocations("direct", before)

    def have_ended():
        """An invocation is under way until its last attempt ends, so that state is read first."""
        under_way, ended = aws.control("under-way"), len(attempts()) == 3
        assert under_way or ended
        return ended

    eventually(have_ended)
    sqs, url = aws.client("sqs"), stack.outputs["DeadLetters"]
    [letter] = eventually(lambda: sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages"))
    assert json.loads(letter["Body"]) == {"fail": "on purpose"}
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "on purpose"
    eventually(lambda: aws.control("under-way") == 0)
    assert [(a["ok"], a["error"]) for a in attempts()] == [(False, "on purpose")] * 3


def test_a_retry_has_the_request_id_of_the_invocation(aws, stack):
    before, called = stack.last("invocations"), int(time.time() * 1000) - 1000
    for number in range(2):
        aws.client("lambda").invoke(FunctionName=stack.function, InvocationType="Event",
                                    Payload=json.dumps({"fail": f"retry {number}"}))
    attempts = eventually(lambda: len(found := stack.invocations("direct", before)) == 6 and found)
    ids = [{a["request_id"] for a in attempts if a["error"] == f"retry {number}"} for number in range(2)]
    assert [len(attempt_ids) for attempt_ids in ids] == [1, 1]
    first, second = ids[0].pop(), ids[1].pop()
    assert first != second
    group = f"/aws/lambda/{stack.function}"
    lines = [e["message"].strip() for e in aws.client("logs").filter_log_events(
        logGroupName=group, startTime=called)["events"]]
    assert [lines.count(f"{request_id}: error") for request_id in (first, second)] == [3, 3], "what the function got"
    letters = {}

    def letter_of_each():
        received = aws.client("sqs").receive_message(QueueUrl=stack.outputs["DeadLetters"], MaxNumberOfMessages=10,
                                                     MessageAttributeNames=["All"]).get("Messages", [])
        for letter in received:
            letters[json.loads(letter["Body"])["fail"]] = letter["MessageAttributes"]["RequestID"]["StringValue"]
        return letters.get("retry 0") == first and letters.get("retry 1") == second

    assert eventually(letter_of_each)


def test_a_function_has_lambdas_variables_and_its_own(stack):
    environment = stack.invoke({})["environment"]
    assert environment["STATE_TABLE"] == stack.outputs["Table"]
    assert environment["AWS_ENDPOINT_URL"] == stack.aws.endpoint
    assert environment["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert not {"PYTHONPATH", "AUTH", "GATEWAY_PORT", "MINISTACK_REGION"} & set(environment)


def test_a_function_resolves_the_names_of_databases(aws, stack):
    aws.control("dns", name="orders.example.com", answer=["10.0.0.7"])
    assert stack.invoke({"resolve": "orders.example.com"}) == ["10.0.0.7"]


def test_a_failover_invokes_a_function(aws, names, stack):
    databases, events, rule = Databases(aws, names), aws.client("events"), names("failovers")
    function = f"arn:aws:lambda:{REGION}:{PROVIDER}:function:{stack.function}"
    arn = events.put_rule(Name=rule, EventPattern=json.dumps(FAILOVERS))["RuleArn"]
    events.put_targets(Rule=rule, Targets=[{"Id": "function", "Arn": function}])
    aws.client("lambda").add_permission(
        FunctionName=stack.function, StatementId=rule, Action="lambda:InvokeFunction", SourceArn=arn,
        Principal="events.amazonaws.com")
    before = stack.last("invocations")
    databases.rds.reboot_db_instance(DBInstanceIdentifier=databases.new_instance(), ForceFailover=True)
    eventually(lambda: len(stack.invocations("rds", before)) == 2)
    events.remove_targets(Rule=rule, Ids=["function"])
    events.delete_rule(Name=rule)


def test_the_table_supports_conditional_writes(aws, stack):
    dynamodb, table = aws.client("dynamodb"), stack.outputs["Table"]
    item = {"pk": {"S": "alert"}, "sk": {"S": "1"}, "version": {"N": "1"}}
    dynamodb.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(pk)")
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException) as failure:
        dynamodb.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(pk)",
                          ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert failure.value.response["Item"] == item
    update = {"TableName": table, "Key": {"pk": item["pk"], "sk": item["sk"]},
              "UpdateExpression": "SET version = version + :one",
              "ConditionExpression": "version = :expected AND (attribute_not_exists(lease) OR lease < :now)"}
    values = {":one": {"N": "1"}, ":expected": {"N": "1"}, ":now": {"N": "5"}}
    dynamodb.update_item(**update, ExpressionAttributeValues=values)
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.update_item(**update, ExpressionAttributeValues=values)
    found = dynamodb.query(TableName=table, KeyConditionExpression="pk = :pk",
                           ExpressionAttributeValues={":pk": item["pk"]}, ConsistentRead=True)["Items"]
    assert found == [{**item, "version": {"N": "2"}}]
    keys = [{"pk": item["pk"], "sk": {"S": sk}} for sk in ("1", "2")]
    batch = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys}})
    assert (batch["Responses"][table], batch["UnprocessedKeys"]) == (found, {})


def test_deleting_the_stack_deletes_its_notifications(aws, stack):
    """The last test in this file, since it deletes the stack."""
    client = aws.client("cloudformation")
    client.delete_stack(StackName="guard")
    eventually(lambda: not [s for s in client.list_stacks()["StackSummaries"]
                            if s["StackName"] == "guard" and s["StackStatus"] != "DELETE_COMPLETE"])
    listed = aws.client("ec2").describe_vpc_endpoint_connection_notifications()["ConnectionNotificationSet"]
    assert not [n for n in listed if n["ConnectionNotificationArn"] == stack.outputs["NotificationTopic"]]
