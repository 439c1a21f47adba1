"""What the template creates: functions, schedules, alarms, dashboard, topics, encryption, and retention."""
import json
import re

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from rendering import (
    ACCOUNT,
    ALL_FUNCTIONS,
    FUNCTIONS,
    KEY,
    PARTITIONS,
    ROOT,
    SERVICE,
    SLACK,
    STACK,
    TEAMS,
    follow,
    many,
    render,
    render_chat,
    source,
    statements,
)

REGION = "eu-central-1"
CENTRAL = "999988887777"
PAGER = f"arn:aws:sns:{REGION}:{ACCOUNT}:pager"
# Existing alert topics, by where they are.
NEAR, CENTRALS, FAR = (f"arn:aws:sns:{REGION}:{ACCOUNT}:alerts", f"arn:aws:sns:{REGION}:{CENTRAL}:alerts",
                       f"arn:aws:sns:us-east-1:{ACCOUNT}:alerts")


def arn(service, resource, account=ACCOUNT, region=REGION):
    return f"arn:aws:{service}:{region}:{account}:{resource}"


@pytest.mark.parametrize("name", ALL_FUNCTIONS)
def test_a_function_knows_the_stack_the_runbook_and_the_alert_topic(name):
    def known(**parameters):
        variables = render(**parameters, **follow()).resources[name]["Properties"]["Environment"]["Variables"]
        return variables["STACK_NAME"], variables["RUNBOOK_URL"], variables["ALERT_TOPIC_ARN"]
    assert known() == ("privatelink-guard", "", arn("sns", "AlertTopic"))
    runbook = "https://wiki.example.com/checks.md"
    assert known(RunbookUrl=runbook, AlertTopicArn=FAR) == ("privatelink-guard", runbook, FAR)


# ---- triggers


@pytest.mark.parametrize("heartbeat, state", [("never", "DISABLED"), ("weekly", "ENABLED")])
def test_the_heartbeat_schedule_is_enabled_by_its_parameter(heartbeat, state):
    schedule = render(Heartbeat=heartbeat).resources["DriftWatcherHeartbeat"]["Properties"]
    assert schedule["State"] == state
    assert json.loads(schedule["Target"]["Input"]) == {"source": "privatelink-guard.heartbeat"}


def test_the_functions_that_see_targets_know_which_groups_are_followed(rendered):
    named = {name: variables for name in ALL_FUNCTIONS
             if "FOLLOW_HOSTNAMES" in (variables := rendered.resources[name]["Properties"]["Environment"]["Variables"])}
    assert list(named) == ["HealthWatcher", "TargetFollower"]
    for variables in named.values():
        assert (variables["FOLLOW_HOSTNAMES"], variables["FOLLOW_TARGET_GROUPS"]) == tuple(follow().values())
    without = render().resources["HealthWatcher"]["Properties"]["Environment"]["Variables"]
    assert (without["FOLLOW_HOSTNAMES"], without["FOLLOW_TARGET_GROUPS"]) == ("never", "")


def test_target_follower_runs_every_minute_and_after_a_failover(rendered):
    schedule = rendered.resources["TargetFollowerSchedule"]["Properties"]
    assert (schedule["ScheduleExpression"], schedule["FlexibleTimeWindow"]) == ("rate(1 minute)", {"Mode": "OFF"})
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-cloud-watch-events.html
    assert rendered.resources["TargetFollowerFailover"]["Properties"]["EventPattern"] == {
        "source": ["aws.rds"], "detail-type": ["RDS DB Instance Event", "RDS DB Cluster Event"],
        "detail": {"EventCategories": ["failover"]}}


# ---- resource policies


def may(rendered, policy, resource, action, service, source_arn, source_account=ACCOUNT):
    """Whether the resource's policy allows the service to act, as AWS evaluates it."""
    context = EvalContext(
        principal_arn=service, principal_type="Service", principal_account="", action=action, resource_arn=resource,
        region=REGION, service_context={"aws:sourcearn": source_arn, "aws:sourceaccount": source_account,
                                        "aws:principalisawsservice": "true"})
    document = rendered.resources[policy]["Properties"]["PolicyDocument"]
    return evaluate_resource_policy(document, context, service=service).decision == "Allow"


@pytest.mark.parametrize("service, source_arn, expected", [
    ("events.amazonaws.com", arn("events", "rule/ConnectionAcceptorChange"), True),
    ("events.amazonaws.com", arn("events", "rule/DriftWatcherNetworkChange"), True),
    ("events.amazonaws.com", arn("events", "rule/DriftWatcherLoadBalancerChange"), True),
    ("events.amazonaws.com", arn("events", "rule/TargetFollowerFailover"), True),
    ("events.amazonaws.com", arn("events", "rule/another"), False),
    ("events.amazonaws.com", arn("events", "rule/DriftWatcherNetworkChange", account="777788889999"), False),
    ("sns.amazonaws.com", arn("sns", "NotificationTopic"), True),
    ("sns.amazonaws.com", arn("sns", "AlertTopic"), False),
    ("scheduler.amazonaws.com", arn("events", "rule/DriftWatcherNetworkChange"), False),
])
def test_which_services_may_send_dead_letters(rendered, service, source_arn, expected):
    queue = arn("sqs", "DeadLetters")
    assert may(rendered, "DeadLettersPolicy", queue, "sqs:SendMessage", service, source_arn) is expected


@pytest.mark.parametrize("service, source_arn, account, expected", [
    ("cloudwatch.amazonaws.com", arn("cloudwatch", "alarm:any"), ACCOUNT, True),
    ("cloudwatch.amazonaws.com", arn("cloudwatch", "alarm:any", account="777788889999"), "777788889999", False),
    ("cloudwatch.amazonaws.com", arn("cloudwatch", "alarm:any"), "777788889999", False),
    ("cloudwatch.amazonaws.com", arn("cloudwatch", "dashboard/any"), ACCOUNT, False),
    ("events.amazonaws.com", arn("events", "rule/AlarmOver"), ACCOUNT, True),
    ("events.amazonaws.com", arn("events", "rule/AlarmOver", account="777788889999"), "777788889999", False),
    ("events.amazonaws.com", arn("events", "rule/any"), ACCOUNT, False),
    ("vpce.amazonaws.com", arn("ec2", f"vpc-endpoint-service/{SERVICE}"), ACCOUNT, False),
])
def test_which_services_may_publish_alerts(rendered, service, source_arn, account, expected):
    assert may(rendered, "AlertTopicPolicy", arn("sns", "AlertTopic"), "sns:Publish", service, source_arn,
               account) is expected


@pytest.mark.parametrize("service, source_arn, account, expected", [
    ("vpce.amazonaws.com", arn("ec2", f"vpc-endpoint-service/{SERVICE}"), ACCOUNT, True),
    ("vpce.amazonaws.com", arn("ec2", "vpc-endpoint-service/vpce-svc-0fedcba9876543210"), ACCOUNT, False),
    ("vpce.amazonaws.com", arn("ec2", f"vpc-endpoint-service/{SERVICE}"), "777788889999", False),
    ("cloudwatch.amazonaws.com", arn("cloudwatch", "alarm:any"), ACCOUNT, False),
])
def test_which_services_may_publish_notifications(rendered, service, source_arn, account, expected):
    assert may(rendered, "NotificationTopicPolicy", arn("sns", "NotificationTopic"), "sns:Publish", service, source_arn,
               account) is expected


@pytest.mark.parametrize("policy", ["AlertTopicPolicy", "NotificationTopicPolicy"])
def test_a_topics_policy_denies_publishing_only(rendered, policy):
    """Administrators, root included, can still change the topic, subscribe to it and delete it."""
    denied = [statement for statement in statements(rendered.resources[policy]["Properties"]["PolicyDocument"])
              if statement["Effect"] == "Deny"]
    assert [statement["Action"] for statement in denied] == ["sns:Publish"]
    assert denied[0]["Condition"]["StringEquals"] == {"aws:PrincipalAccount": ACCOUNT}


@pytest.mark.parametrize("topic, via, denied", [
    ("NotificationTopic", None, True), ("NotificationTopic", "false", True),
    # EC2 tries out the topic on behalf of whoever creates a connection notification.
    ("NotificationTopic", "true", False),
    # Nobody needs this for alerts, and people trust them.
    ("AlertTopic", None, True), ("AlertTopic", "false", True), ("AlertTopic", "true", True)])
def test_an_administrator_may_publish_only_through_ec2s_own_check(rendered, topic, via, denied):
    keys = {"aws:principalisawsservice": "false"} | ({"aws:viaawsservice": via} if via else {})
    context = EvalContext(
        principal_arn=f"arn:aws:iam::{ACCOUNT}:user/administrator", principal_type="User", principal_account=ACCOUNT,
        action="sns:Publish", resource_arn=arn("sns", topic), region=REGION, service_context=keys)
    document = rendered.resources[f"{topic}Policy"]["Properties"]["PolicyDocument"]
    result = evaluate_resource_policy(document, context, service="sns")
    # Not denied: then the administrator's own policy decides.
    assert result.decision == ("Deny" if denied else "ImplicitDeny")


# ---- alarms on the guard itself


def alarms(rendered):
    return rendered.of_type("AWS::CloudWatch::Alarm")


def test_there_are_ten_alarms_and_three_more_each_with_a_pager_and_with_target_follower():
    """Ten is the number in CloudWatch's free tier."""
    def of(functions):
        return [f"{name}{kind}" for name in functions for kind in ("Failures", "Late", "Silent")]
    ten = [*of(FUNCTIONS), "DeadLettersWaiting"]
    assert sorted(alarms(render())) == sorted(ten)
    assert sorted(alarms(render(PagerTopicArn=PAGER))) == sorted([*ten, *(f"{name}Critical" for name in FUNCTIONS)])
    assert sorted(alarms(render(**follow()))) == sorted([*ten, *of(["TargetFollower"])])


@pytest.mark.parametrize("topic, expected", [
    ("", [arn("sns", "AlertTopic")]), (NEAR, [NEAR]), (CENTRALS, [CENTRALS]), (FAR, None)])
def test_every_alarm_notifies_the_alert_topic_if_it_is_in_its_region(topic, expected):
    for name, alarm in alarms(render(AlertTopicArn=topic, **follow())).items():
        actions = {each: alarm[each] for each in ("AlarmActions", "OKActions", "InsufficientDataActions")
                   if alarm.get(each) is not None}
        # The first OK after the deployment would be announced as well; the rule below announces only the others.
        notifies = "InsufficientDataActions" if name.endswith("Silent") else "AlarmActions"
        assert actions == ({notifies: expected} if expected else {}), name
        assert "Metrics" not in alarm, "the local AWS does not support metric math"


@pytest.mark.parametrize("topic, target, role", [
    ("", arn("sns", "AlertTopic"), None), (NEAR, NEAR, None),
    (CENTRALS, CENTRALS, f"arn:aws:iam::{ACCOUNT}:role/AlarmOverRole")])
def test_a_rule_announces_that_an_alarm_is_over(topic, target, role):
    rendered = render(AlertTopicArn=topic, **follow())
    rule = rendered.resources["AlarmOver"]["Properties"]
    detail = rule["EventPattern"]["detail"]
    names = [name for name in detail["alarmName"] if isinstance(name, str)]
    [prefix] = [name["prefix"] for name in detail["alarmName"] if not isinstance(name, str)]
    assert sorted(names) == sorted(alarms(render()))
    assert prefix == f"{STACK}-TargetFollower"
    assert detail["state"] == {"value": ["OK"]}
    [sent] = rule["Targets"]
    assert (sent["Arn"], sent.get("RoleArn")) == (target, role)
    text = sent["InputTransformer"]["InputTemplate"]
    assert "over" in json.loads(text), "a JSON string"
    assert set(re.findall("<(.+?)>", text)) == set(sent["InputTransformer"]["InputPathsMap"])
    assert "stack privatelink-guard" in text


def test_the_guards_alarms_are_silent_with_a_topic_in_another_region():
    rendered = render(AlertTopicArn=FAR)
    assert not {"AlarmOver", "AlarmOverRole"} & set(rendered.resources)
    assert "AlarmOverRole" not in render(AlertTopicArn=NEAR).resources


def test_every_alarm_says_what_is_wrong_what_it_means_and_what_to_do():
    rendered, descriptions = render(PagerTopicArn=PAGER, **follow()), set()
    for name, alarm in alarms(rendered).items():
        description = alarm["AlarmDescription"]
        parts = re.fullmatch(r"privatelink-guard: (.+)\. For dbt: (.+)\. To do: (.+)\.", description)
        assert parts, description
        assert len(description) <= 1024, name
        assert "aws " in parts[3], "the command to investigate with"
        assert "aws logs tail" not in parts[3], "the AWS CLI 1 does not have it"
        descriptions.add(description)
    assert len(descriptions) == len(alarms(rendered)), "each has its own"


@pytest.mark.parametrize("name", ALL_FUNCTIONS)
def test_an_alarm_on_a_function_uses_that_functions_metrics(rendered, name):
    own = {kind: alarms(rendered)[f"{name}{kind}"] for kind in ("Failures", "Late", "Silent")}
    assert all(alarm["Dimensions"] == [{"Name": "FunctionName", "Value": name}] for alarm in own.values())
    assert all(f"{name} " in alarm["AlarmDescription"] for alarm in own.values())
    assert {kind: (alarm["MetricName"], alarm["TreatMissingData"]) for kind, alarm in own.items()} == {
        "Failures": ("Errors", "notBreaching"), "Late": ("AsyncEventAge", "notBreaching"),
        "Silent": ("Invocations", "missing")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_pager_is_paged_for_the_critical_alerts_of_a_function_and_told_when_they_are_over(name):
    alarm = alarms(render(PagerTopicArn=PAGER))[f"{name}Critical"]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("PrivatelinkGuard", "FiringCriticalAlerts")
    assert alarm["Dimensions"] == [{"Name": "Function", "Value": name}]
    assert alarm["AlarmActions"] == alarm["OKActions"] == [PAGER]
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == (
        "Maximum", "GreaterThanOrEqualToThreshold", 1)
    # The last value counts, however long ago: the slowest schedule has two hours between two values.
    assert (alarm["TreatMissingData"], alarm["EvaluationPeriods"]) == ("ignore", 1)
    # The same text is sent for both states.
    description = alarm["AlarmDescription"]
    assert "ALARM means" in description
    assert re.search(r"in OK, nothing\.$", description)
    assert arn("sns", "AlertTopic") in description


def test_the_guards_own_alarms_do_not_page_and_a_pager_needs_no_alert_topic_of_its_own():
    for name, alarm in alarms(render(PagerTopicArn=PAGER, AlertTopicArn=FAR)).items():
        assert (PAGER in alarm.get("AlarmActions", [])) is name.endswith("Critical")


@pytest.mark.parametrize("rate, minutes", [("1 minute", 5), ("15 minutes", 75), ("59 minutes", 295), ("1 hour", 120),
                                           ("2 hours", 240)])
def test_the_silent_alarm_waits_for_two_to_five_runs_of_the_functions_schedule(rate, minutes):
    """CloudWatch's limits: a day, for periods of less than an hour, else a week."""
    schedules = {f"{name}Schedule": f"rate({rate})" for name in ("Acceptor", "Health", "Drift")}
    silent = [alarm for name, alarm in alarms(render(**schedules)).items() if name.endswith("Silent")]
    assert [alarm["Period"] * int(alarm["EvaluationPeriods"]) for alarm in silent] == [60 * minutes] * 3
    assert all(f"although its schedule is rate({rate})" in alarm["AlarmDescription"] for alarm in silent)
    # So another schedule makes a new alarm, instead of one whose data were evaluated with other periods.
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-cloudwatch-alarm.html
    assert all(alarm["AlarmName"].endswith(f"Silent rate({rate})") for alarm in silent)


def test_the_late_alarm_fires_after_lambdas_retries_and_before_lambda_drops_the_event(rendered):
    function = source()["Globals"]["Function"]
    retries = (1 + 2) * 60 + 2 * function["Timeout"]
    for name, alarm in alarms(rendered).items():
        if name.endswith("Late"):
            assert retries < alarm["Threshold"] / 1000 < function["EventInvokeConfig"]["MaximumEventAgeInSeconds"]


# ---- the dashboard


def dashboard(**parameters):
    return json.loads(render(**parameters).resources["Overview"]["Properties"]["DashboardBody"])["widgets"]


def test_target_followers_silent_alarm_waits_for_five_runs(rendered):
    alarm = alarms(rendered)["TargetFollowerSilent"]
    assert alarm["Period"] * int(alarm["EvaluationPeriods"]) == 60 * 5


@pytest.mark.parametrize("services", [1, 30])
def test_the_dashboard_fits_and_nothing_overlaps(services):
    ids = ",".join(f"vpce-svc-{number:017x}" for number in range(services))
    taken = set()
    for widget in dashboard(EndpointServiceIds=ids):
        assert widget["x"] + widget["width"] <= 24
        cells = {(x, y) for x in range(widget["x"], widget["x"] + widget["width"])
                 for y in range(widget["y"], widget["y"] + widget["height"])}
        assert not taken & cells, widget["properties"].get("title")
        taken |= cells
    assert max(y for _, y in taken) < 24, "more than a screen"


@pytest.mark.parametrize("parameters", [{}, follow()])
def test_every_widget_is_valid_for_cloudwatch(parameters):
    for widget in dashboard(**parameters):
        properties = widget["properties"]
        if widget["type"] == "text":
            assert set(properties) == {"markdown"}
        elif widget["type"] == "alarm":
            assert set(properties["alarms"]) == {arn("cloudwatch", f"alarm:{name}") for name in
                                                 alarms(render(**parameters))}
        else:
            assert properties["region"] == REGION
            assert properties["title"]
            assert properties["view"] == "timeSeries"
            assert properties["stat"] in ("Sum", "Minimum", "Maximum")
            assert properties["period"] in (60, 300)
            ids = [entry[0]["id"] for entry in properties["metrics"] if "id" in entry[0]]
            assert len(ids) == len(set(ids))
            assert all(re.fullmatch("[a-z][a-zA-Z0-9_]*", name) for name in ids)


def test_the_dashboard_shows_every_endpoint_service_and_the_guards_own_metrics():
    shown = json.dumps(dashboard(EndpointServiceIds="vpce-svc-00000000a,vpce-svc-00000000b"))
    assert '["AWS/PrivateLinkServices", "EndpointsCount", "Service Id", "vpce-svc-00000000a"], ' \
           '["...", "vpce-svc-00000000b"]' in shown
    code = [*ROOT.glob("shared/**/metrics.rs"), *ROOT.glob("functions/*/src/**/*.rs")]
    # A metric is a tuple of its name and its value; with a name before the parenthesis it would be a call.
    metric = re.compile(r'(?<!\w)\(\s*"((?:[A-Z][a-z]+){2,})",')
    written = {name for file in code for name in metric.findall(file.read_text(encoding="utf-8"))}
    assert "HealthyTargets" in written
    assert set(re.findall(r'"PrivatelinkGuard", "(\w+)"', shown)) == written


def test_the_dashboard_shows_every_functions_errors():
    def functions(**parameters):
        [widget] = [each["properties"] for each in dashboard(**parameters) if "errors and" in json.dumps(each)]
        return {row[3] for row in widget["metrics"]}
    assert (functions(), functions(**follow())) == (set(FUNCTIONS), set(ALL_FUNCTIONS))


def test_the_dashboard_shows_the_firing_alerts_of_every_function():
    [widget] = [each["properties"] for each in dashboard() if each["properties"].get("title", "").startswith("Firing")]
    shown = {(row[1], row[3]): row[4]["label"] for row in widget["metrics"]}
    assert set(shown) == {(f"Firing{severity}Alerts", name) for severity in ("Critical", "Warning")
                          for name in FUNCTIONS}
    assert len(set(shown.values())) == len(shown)
    assert all(len(label) <= 24 for label in shown.values())


def searches(**parameters):
    return [row[0]["expression"] for widget in dashboard(**parameters)
            for row in widget["properties"].get("metrics", []) if "expression" in row[0]]


def test_the_dashboard_shows_each_endpoint_of_the_stacks_services():
    """The dimension sets: https://docs.aws.amazon.com/vpc/latest/privatelink/privatelink-cloudwatch-metrics.html"""
    services = ["vpce-svc-00000000a", "vpce-svc-00000000b"]
    expected = [f"""SEARCH('{{AWS/PrivateLinkServices,"Service Id","VPC Endpoint Id"}} MetricName="{metric}" AND """
                f""""{service}"', '{statistic}')"""
                for metric, statistic in (("NewConnections", "Sum"), ("ActiveConnections", "Maximum"),
                                          ("BytesProcessed", "Sum"), ("RstPacketsSent", "Sum")) for service in services]
    assert [search for search in searches(EndpointServiceIds=",".join(services)) if "PrivateLink" in search] == expected


@pytest.mark.parametrize("given, only", [
    ("", ""), ("net/a/0123456789abcdef", ' AND ("net/a/0123456789abcdef")'),
    ("net/a/0123456789abcdef,net/b/0123456789abcdef", ' AND ("net/a/0123456789abcdef" OR "net/b/0123456789abcdef")')])
def test_the_dashboard_shows_the_given_load_balancers_or_says_that_it_shows_all(given, only):
    found = [search for search in searches(DashboardLoadBalancers=given) if "NetworkELB" in search]
    assert len(found) == 9
    for search in found:
        form = r"""SEARCH\('\{AWS/NetworkELB,[A-Za-z,]+\} MetricName="\w+"(.*)', '(Sum|Minimum)'\)"""
        assert re.fullmatch(form, search)[1] == only
    titles = [widget["properties"]["title"] for widget in dashboard(DashboardLoadBalancers=given)
              if "NetworkELB" in json.dumps(widget)]
    assert len(titles) == 5
    assert all(title.startswith("Load balancers: " if given else "All NLBs in the Region: ") for title in titles)


def test_the_largest_dashboard_stays_within_the_limits():
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html"""
    largest = {"EndpointServiceIds": ",".join(f"vpce-svc-{number:017x}" for number in range(30)),
               "DashboardLoadBalancers": ",".join(["net/" + "x" * 32 + "/0123456789abcdef"] * 15)}
    assert all(len(search) <= 1024 for search in searches(**largest))
    assert all(len(widget["properties"].get("metrics", [])) <= 100 for widget in dashboard(**largest))


def test_the_dashboard_can_be_left_out():
    without = render(Dashboard="no")
    assert without.of_type("AWS::CloudWatch::Dashboard") == {}
    assert "DashboardUrl" not in without.outputs


# ---- the saved query for flow logs


def test_a_query_for_flow_logs_is_saved_under_the_stacks_name_if_their_log_group_is_given():
    assert render().of_type("AWS::Logs::QueryDefinition") == {}
    [query] = render(FlowLogGroup="flows").of_type("AWS::Logs::QueryDefinition").values()
    assert query["Name"].startswith("privatelink-guard/")
    assert len(render(stack="s" * 128, FlowLogGroup="flows").resources["FlowQuery"]["Properties"]["Name"]) <= 255
    assert query["LogGroupNames"] == ["flows"]
    comments, lines = query["QueryString"].split("fields ")
    assert all(line.startswith("#") for line in comments.splitlines())
    # The placeholder that the comment names is in the query, and the command finds what replaces it.
    assert 'filter interfaceId in ["eni-1", "eni-2"]' in lines
    assert "Replace eni-1 and eni-2" in comments
    assert "'Name=description,Values=ELB net/NAME/*'" in comments


# ---- outputs


def test_without_a_subscriber_an_output_has_the_command_to_subscribe():
    assert "SubscribeCommand" not in render(AlertEmail="ops@example.com").outputs
    assert "SubscribeCommand" not in render(**SLACK).outputs
    assert "SubscribeCommand" not in render(**TEAMS).outputs
    assert "SubscribeCommand" not in render(AlertTopicArn=NEAR).outputs
    command = render().outputs["SubscribeCommand"]["Value"]
    assert command == (f"aws sns subscribe --region {REGION} --topic-arn {arn('sns', 'AlertTopic')} --protocol email "
                       "--notification-endpoint YOU@EXAMPLE.COM")


def test_with_an_existing_topic_the_stack_has_none_of_its_own():
    rendered = render(AlertTopicArn=NEAR)
    assert list(rendered.of_type("AWS::SNS::Topic")) == ["NotificationTopic"]
    assert list(rendered.of_type("AWS::SNS::TopicPolicy")) == ["NotificationTopicPolicy"]
    assert [each["Protocol"] for each in rendered.of_type("AWS::SNS::Subscription").values()] == ["lambda"]
    assert rendered.outputs["AlertTopicArn"]["Value"] == NEAR
    assert "AlertTopic\"" not in json.dumps(rendered.resources)
    assert not {"AlertTopicStatements", "AlertTopicKeyStatements"} & set(render().outputs)


def central_policy(topic, output="AlertTopicStatements", **parameters):
    return json.loads(render(AlertTopicArn=topic, **parameters).outputs[output]["Value"])


@pytest.mark.parametrize("topic", [NEAR, CENTRALS, FAR])
def test_the_statements_for_an_existing_topic_allow_the_guard_to_publish_and_no_one_else(topic):
    def allows(action_arn, **principal):
        context = EvalContext(
            principal_arn=principal.get("role", principal.get("service")), action="sns:Publish", resource_arn=topic,
            principal_type="AssumedRole" if "role" in principal else "Service",
            principal_account=ACCOUNT if "role" in principal else "", region=REGION,
            service_context={"aws:sourcearn": action_arn, "aws:sourceaccount": principal.get("account", ACCOUNT)})
        document = {"Version": "2012-10-17", "Statement": central_policy(topic)}
        service = principal.get("service", "sns")
        return evaluate_resource_policy(document, context, service=service).decision == "Allow"
    cloudwatch, events = {"service": "cloudwatch.amazonaws.com"}, {"service": "events.amazonaws.com"}
    assert allows(arn("cloudwatch", "alarm:any"), **cloudwatch) is (topic != FAR)
    assert not allows(arn("cloudwatch", "alarm:any", account="777788889999"), **cloudwatch, account="777788889999")
    assert allows(arn("events", "rule/AlarmOver"), **events) is (topic == NEAR)
    assert not allows(arn("events", "rule/any"), **events)
    roles = central_policy(topic)[0]["Principal"]["AWS"]
    over = [f"arn:aws:iam::{ACCOUNT}:role/AlarmOverRole"] if topic == CENTRALS else []
    assert roles == [*(f"arn:aws:iam::{ACCOUNT}:role/{name}Role" for name in FUNCTIONS), *over]
    with_follower = central_policy(topic, **follow())[0]["Principal"]["AWS"]
    assert set(with_follower) == {*roles, f"arn:aws:iam::{ACCOUNT}:role/TargetFollowerRole"}
    for statement in central_policy(topic):
        assert (statement["Effect"], statement["Resource"]) == ("Allow", topic)
    others = [each for each in central_policy(topic) if each["Action"] != "sns:Publish"]
    assert [(each["Action"], each["Principal"]) for each in others] == [
        ("sns:ListSubscriptionsByTopic", {"AWS": f"arn:aws:iam::{ACCOUNT}:role/DriftWatcherRole"})]


@pytest.mark.parametrize("topic", [NEAR, CENTRALS, FAR])
def test_the_statements_for_an_existing_topics_key_allow_those_who_publish(topic):
    publishers = [statement["Principal"] for statement in central_policy(topic)
                  if statement["Action"] == "sns:Publish"]
    statements = central_policy(topic, "AlertTopicKeyStatements")
    assert [statement["Principal"] for statement in statements] == publishers
    assert all(statement["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"] for statement in statements)
    assert statements[0]["Condition"] == {"StringEquals": {"kms:EncryptionContext:aws:sns:topicArn": topic}}


@pytest.mark.parametrize("given, expected", [
    (SLACK, ["Slack"]), (TEAMS, ["Teams"]), (SLACK | TEAMS, ["Slack", "Teams"])])
def test_the_chat_channels_are_those_whose_ids_are_given(given, expected):
    chat = render_chat(**given)
    channels = {name: each["Properties"] for name, each in chat.resources.items()
                if each["Type"].startswith("AWS::Chatbot::")}
    assert list(channels) == expected
    assert all(each["SnsTopicArns"] == [arn("sns", "AlertTopic")] for each in channels.values())
    assert [each["ConfigurationName"] for each in channels.values()] == [
        f"privatelink-guard-{name.lower()}" for name in expected]
    if "Teams" in expected:
        ids = [channels["Teams"][name] for name in ("TeamsTenantId", "TeamId", "TeamsChannelId")]
        assert ids == [TEAMS[name] for name in ("TeamsTenantId", "TeamsTeamId", "TeamsChannelId")]


@pytest.mark.parametrize("topic, actions", [("", arn("sns", "AlertTopic")), (NEAR, NEAR), (CENTRALS, CENTRALS),
                                            (FAR, None)])
def test_the_tests_ring_an_alarm_that_goes_to_the_topic(topic, actions):
    """A topic in another Region receives no alarms."""
    rendered = render(AlertTopicArn=topic, PagerTopicArn=NEAR)
    command = rendered.outputs["TestMessage"]["Value"]
    alarms = re.findall(r" && aws cloudwatch set-alarm-state --region eu-central-1 --alarm-name (\w+) "
                        "--state-value ALARM --state-reason 'TEST [^']+'$", command)
    assert [rendered.resources[alarm]["Properties"]["AlarmActions"] for alarm in alarms] == ([[actions]] if actions
                                                                                             else [])
    assert command == command.strip()
    pager = rendered.outputs["TestPager"]["Value"].split("--alarm-name ")[1].split()[0]
    assert rendered.resources[pager]["Properties"]["AlarmActions"] == [NEAR]
    assert "TestPager" not in render().outputs


@pytest.mark.parametrize("region, domain", [("eu-central-1", "console.aws.amazon.com"),
                                            ("cn-north-1", "console.amazonaws.cn"),
                                            ("us-gov-west-1", "console.amazonaws-us-gov.com")])
def test_the_dashboards_address_is_in_its_partition(region, domain):
    assert render(region).outputs["DashboardUrl"]["Value"] == (
        f"https://{region}.{domain}/cloudwatch/home?region={region}#dashboards/dashboard/Overview")


# ---- encryption


ENCRYPTED = {"AlertTopic": "KmsMasterKeyId", "NotificationTopic": "KmsMasterKeyId", "DeadLetters": "KmsMasterKeyId",
             **{f"{name}Log": "KmsKeyId" for name in ALL_FUNCTIONS}}


def test_with_a_key_everything_that_stores_data_uses_it():
    rendered = render(KmsKeyArn=KEY, **follow())
    for name, property_name in ENCRYPTED.items():
        assert rendered.resources[name]["Properties"][property_name] == KEY
    assert rendered.resources["StateTable"]["Properties"]["SSESpecification"] == {
        "SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}
    assert "SqsManagedSseEnabled" not in rendered.resources["DeadLetters"]["Properties"]
    storing = {name for name, resource in rendered.resources.items() if resource["Type"] in (
        "AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::Logs::LogGroup")}
    assert storing == set(ENCRYPTED) | {"StateTable"}


def test_without_a_key_aws_keys_are_used():
    rendered = render(**follow())
    for name, property_name in ENCRYPTED.items():
        assert property_name not in rendered.resources[name]["Properties"]
    assert "SSESpecification" not in rendered.resources["StateTable"]["Properties"]
    assert rendered.resources["DeadLetters"]["Properties"]["SqsManagedSseEnabled"] is True
    assert "kms:" not in json.dumps(rendered.resources)


def test_the_documented_key_policy_allows_every_service_that_uses_the_key():
    policy = json.loads((ROOT / "docs/key-policy.json").read_text())
    allowed = {service: set(statement["Action"]) for statement in policy["Statement"]
               for service in many(statement["Principal"].get("Service", []))}
    writers = {service for name in ("AlertTopicPolicy", "NotificationTopicPolicy", "DeadLettersPolicy")
               for statement in statements(render().resources[name]["Properties"]["PolicyDocument"])
               if statement["Effect"] == "Allow" for service in many(statement["Principal"].get("Service", []))}
    assert set(allowed) == writers | {"logs.eu-central-1.amazonaws.com"}
    assert all({"kms:Decrypt", "kms:GenerateDataKey*"} <= actions for actions in allowed.values())


# ---- retention and names


def test_everything_that_stores_data_has_deletion_policies(rendered):
    kept = {name: (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
            for name, resource in rendered.resources.items()
            if resource["Type"] in ("AWS::DynamoDB::Table", "AWS::Logs::LogGroup", "AWS::SQS::Queue")
            or name == "AlertTopic"}
    assert kept == {
        "StateTable": ("Delete", "Retain"), "AlertTopic": ("Delete", "Retain"), "DeadLetters": ("Delete", "Delete"),
        **{f"{name}Log": ("Delete", "Delete") for name in ALL_FUNCTIONS}}


def test_no_name_collides_with_another_stack(rendered):
    for name, resource in rendered.resources.items():
        for property_name in ("TopicName", "QueueName", "TableName", "RoleName", "FunctionName", "AlarmName", "Name"):
            if resource["Type"] != "AWS::Lambda::EventInvokeConfig" and resource["Type"] != "AWS::Lambda::Permission":
                # Unless it begins with the name of the stack.
                assert resource["Properties"].get(property_name, STACK).startswith(STACK), name


def test_no_arn_is_limited_to_one_partition():
    text = (ROOT / "template.yaml").read_text()
    # Descriptions have examples of principals; a pattern has arn:aws[a-z-]*.
    arns = [line.strip() for line in text.splitlines() if re.search(r"arn:aws(?!\[)", line)]
    assert [line for line in arns if not line.startswith(("Description:", "ConstraintDescription:", "#"))] == []
    assert set(PARTITIONS.values()) == set(source()["Mappings"]["Console"])


def test_every_role_has_the_boundary_and_the_path_that_are_given():
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    given = {"PermissionsBoundaryArn": boundary, "RolePath": "/network/", **follow()}
    stacks = [render(Heartbeat="weekly", AlertTopicArn=f"arn:aws:sns:eu-central-1:{CENTRAL}:alerts", **given),
              render_chat(**SLACK, **given)]
    roles = [role for stack in stacks for role in stack.of_type("AWS::IAM::Role").values()]
    assert len(roles) == sum(stack.defined("AWS::IAM::Role") for stack in stacks), "all of them are created"
    assert {(role["Path"], role["PermissionsBoundary"]) for role in roles} == {("/network/", boundary)}
    for role in render().of_type("AWS::IAM::Role").values():
        assert (role["Path"], "PermissionsBoundary" in role) == ("/", False)


def test_logs_stay_only_if_asked_to():
    def policies_with(**given):
        logs = render(**given, **follow()).resources.values()
        return {(each["DeletionPolicy"], each["UpdateReplacePolicy"]) for each in logs
                if each["Type"] == "AWS::Logs::LogGroup"}
    assert policies_with() == {("Delete", "Delete")}
    assert policies_with(KeepLogs="yes") == {("RetainExceptOnCreate", "Retain")}
