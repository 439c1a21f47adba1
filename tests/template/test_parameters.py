"""Parameters: documented, labelled, and validated with helpful messages."""
import importlib.util
import re

import pytest
from awscli.customizations.cloudformation.yamlhelper import yaml_parse
from rendering import KEY, ROOT, SERVICE, source

spec = importlib.util.spec_from_file_location("parameter_page", ROOT / "tools/parameter_page.py")
parameter_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parameter_page)

TEMPLATE = source()
PARAMETERS = TEMPLATE["Parameters"]
INTERFACE = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]
RATES = ["rate(1 minute)", "rate(2 minutes)", "rate(59 minutes)", "rate(1 hour)", "rate(2 hours)"]
NO_RATES = ["", "1 minute", "rate(0 minutes)", "rate(1 minutes)", "rate(2 minute)", "rate(3 hours)", "rate(1 day)",
            "rate(90 minutes)", "cron(* * * * ? *)"]
LOAD_BALANCER = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/db/0123456789abcdef"
TARGET_GROUP = "arn:aws-cn:elasticloadbalancing:cn-north-1:111122223333:targetgroup/db/0123456789abcdef"
FOLLOWED = TARGET_GROUP.replace("aws-cn", "aws").replace("cn-north-1", "eu-central-1")
TENANT = "01234567-89ab-cdef-0123-456789abcdef"
TOPICS = ["", "arn:aws:sns:eu-central-1:111122223333:alerts", "arn:aws-cn:sns:cn-north-1:111122223333:Alerts_1-2"]
NO_TOPICS = ["alerts", "*", "arn:aws:sns:eu-central-1:111122223333:alerts.fifo",
             "arn:aws:sqs:eu-central-1:111122223333:alerts", "arn:aws:sns:eu-central-1:111122223333:*",
             "arn:aws:sns:eu-central-1:111122223333:alerts:01234567-89ab-cdef-0123-456789abcdef"]

# Parameter: valid values, invalid values.
VALUES = {
    "EndpointServiceIds": ([SERVICE, f"{SERVICE},vpce-svc-00000000, {SERVICE}"],
                           ["", "*", "vpce-0123456789abcdef0", f"{SERVICE};{SERVICE}", "vpce-svc-"]),
    "DbtPrincipals": (["111122223333", "arn:aws:iam::111122223333:root", "arn:aws-us-gov:iam::111122223333:role/a/b",
                       "arn:aws:iam::111122223333:root,444455556666"],
                      ["", "*", "arn:aws:iam::*:root", "arn:aws:iam::111122223333:role/*", "11112222333",
                       "arn:aws:sts::111122223333:assumed-role/a/b", "111122223333,*"]),
    "ExpectedEndpoints": (["", f"{SERVICE}=vpce-0123456789abcdef0",
                           f"{SERVICE}=vpce-00000000+vpce-11111111, vpce-svc-00000000=vpce-2222222f"],
                          [SERVICE, f"{SERVICE}=", f"{SERVICE}=vpce-00000000,vpce-11111111", "vpce-00000000", "*",
                           f"{SERVICE}=*"]),
    "KnownAccounts": (["", "111122223333", "111122223333, 444455556666"],
                      ["*", "11112222333", "1111222233334", "arn:aws:iam::111122223333:root",
                       "111122223333;444455556666", "111122223333,*"]),
    "AlertEmail": (["", "ops@example.com"], ["ops", "a@b@c", "a b@example.com", "ops@example.com,you@example.com"]),
    "SlackWorkspaceId": (["", "T0123ABCD"], ["#alerts", "my-team"]),
    "SlackChannelId": (["", "C0123ABCD"], ["#alerts", "https://slack.com/x"]),
    "TeamsTenantId": (["", TENANT], ["contoso", "contoso.onmicrosoft.com", TENANT + "0"]),
    "TeamsTeamId": (["", TENANT], ["alerts", "19%3Aabc%40thread.tacv2"]),
    "TeamsChannelId": (["", "19%3Aabc-_1%40thread.tacv2", "19%3aabc%40thread.skype"],
                       ["alerts", "19:abc@thread.tacv2", "https://teams.microsoft.com/l/channel/19%3Aabc%40thread.tacv2"]),
    "AlertTopicArn": (TOPICS, NO_TOPICS), "PagerTopicArn": (TOPICS, NO_TOPICS),
    "RunbookUrl": (["", "https://wiki.example.com/checks.md", "https://wiki.example.com/?page=checks"],
                   ["http://wiki.example.com", "wiki.example.com", "https://wiki.example.com/#checks", "https://",
                    "https://wiki.example.com/a b", 'https://wiki.example.com/"', "https://wiki.example.com/`id`",
                    "https://wiki.example.com/a|b", "https://wiki.example.com/Prüfung", "javascript:alert(1)"]),
    "ListenerPorts": (["", "5432", "5432+443", f"{SERVICE}=5432+443,vpce-svc-00000000=22"],
                      ["postgres", "5432-5440", "tcp/5432", f"{SERVICE}:5432", "543210"]),
    "DbtCidrs": (["", "10.1.2.0/24", "10.1.2.0/24,fd00::/8"], ["10.1.2.3", "10.0.0.0/8;10.1.0.0/16", "any"]),
    "EnforceCrossZoneOn": (["", LOAD_BALANCER, f"{LOAD_BALANCER},{TARGET_GROUP}"],
                           ["*", LOAD_BALANCER.replace("/net/", "/app/"), LOAD_BALANCER[:-16] + "*", "db"]),
    "FollowTargetGroups": (["", FOLLOWED, f"{FOLLOWED}, {FOLLOWED}"],
                           ["*", LOAD_BALANCER, FOLLOWED[:-16] + "*", FOLLOWED + "/1", "db"]),
    "AcceptorSchedule": (RATES, NO_RATES), "HealthSchedule": (RATES, NO_RATES), "DriftSchedule": (RATES, NO_RATES),
    "DashboardLoadBalancers": (
        ["", "net/db/0123456789abcdef", ",".join(["net/" + "x" * 32 + "/0123456789abcdef"] * 15)],
        ["db", LOAD_BALANCER, "net/db/0123456789abcdef, net/db/0123456789abcdef", "app/db/0123456789abcdef", 'net/"/0',
         ",".join(["net/db/0123456789abcdef"] * 16)]),
    "PermissionsBoundaryArn": (
        ["", "arn:aws:iam::111122223333:policy/team/boundary", "arn:aws-cn:iam::aws:policy/PowerUserAccess"],
        ["boundary", "*", "arn:aws:iam::111122223333:role/boundary", "arn:aws:iam::111122223333:policy/a b"]),
    "RolePath": (["/", "/network/", "/a/b_c.d/"], ["", "network", "/network", "network/", "/a b/", "/*/", "//"]),
    **{name: (["", "arn:aws:iam::111122223333:role/guard", "arn:aws-cn:iam::111122223333:role/security/team/a@b_c"],
              ["guard", "*", "arn:aws:iam::111122223333:role/*", "arn:aws:iam::*:role/guard",
               "arn:aws:iam::1:role/guard", "arn:aws:iam::111122223333:role/", "arn:aws:iam::111122223333:user/guard",
               "arn:aws:iam::111122223333:role//guard", "arn:aws:sts::111122223333:assumed-role/guard/session",
               'arn:aws:iam::111122223333:role/a", "b']) for name in PARAMETERS if name.endswith("RoleArn")},
    "FlowLogGroup": (["", "vpc-flow-logs", "/aws/vpc/flow_logs.1"],
                     ["arn:aws:logs:eu-central-1:111122223333:log-group:flow", "a,b", "flow logs", "a" * 513]),
    "KmsKeyArn": (["", KEY, KEY.replace("arn:aws:", "arn:aws-cn:"), KEY[:-36] + "mrk-" + "0" * 32],
                  ["alias/aws/sns", "01234567-89ab-cdef-0123-456789abcdef", KEY.replace("key/", "alias/"), KEY + "0"]),
}


def accepts(definition, value):
    """Whether the pattern matches, as CloudFormation applies it: to the whole value, or to each item of a list."""
    members = [part.strip() for part in value.split(",")] if definition["Type"] == "CommaDelimitedList" else [value]
    return all(re.fullmatch(definition["AllowedPattern"], member) for member in members)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_has_a_description_limits_and_a_label(name):
    definition = PARAMETERS[name]
    assert definition["Description"].endswith(".")
    limits = {"AllowedPattern", "AllowedValues", "MinValue", "MaxValue"} & set(definition)
    assert limits, "any value is accepted"
    assert definition["ConstraintDescription"].startswith("must be "), "it is shown after the parameter's name"
    assert name in INTERFACE["ParameterLabels"]
    assert [name in group["Parameters"] for group in INTERFACE["ParameterGroups"]].count(True) == 1


def test_only_two_parameters_are_required():
    assert [name for name, definition in PARAMETERS.items() if "Default" not in definition] == [
        "EndpointServiceIds", "DbtPrincipals"]
    for name, definition in PARAMETERS.items():
        if "AllowedPattern" in definition and "Default" in definition:
            assert accepts(definition, definition["Default"]), name
        if "AllowedValues" in definition:
            assert definition["Default"] in definition["AllowedValues"], name


def test_every_pattern_is_tested():
    assert {name for name, definition in PARAMETERS.items() if "AllowedPattern" in definition} == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_a_pattern_accepts_valid_values_and_rejects_invalid_ones(name):
    valid, invalid = VALUES[name]
    assert [value for value in valid if not accepts(PARAMETERS[name], value)] == []
    assert [value for value in invalid if accepts(PARAMETERS[name], value)] == []


def test_a_description_warns_of_what_can_cut_a_connection_or_change_more_than_meant():
    for name, danger in (("UntrustedRequests", "revokes their established connections"),
                         ("EnforceCrossZoneOn", "ALL Network Load Balancers and target groups")):
        warning = PARAMETERS[name]["Description"].partition("Caution: ")[2]
        assert danger in warning, name


def test_every_label_group_and_rule_names_a_parameter():
    grouped = [name for group in INTERFACE["ParameterGroups"] for name in group["Parameters"]]
    assert set(grouped) | set(INTERFACE["ParameterLabels"]) <= set(PARAMETERS)
    for rule in TEMPLATE["Rules"].values():
        assert all(assertion["AssertDescription"].endswith(".") for assertion in rule["Assertions"])


# docs/parameters.md


def test_the_page_of_the_parameters_is_what_the_template_says():
    template = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    assert parameter_page.PAGE.read_text(encoding="utf-8") == parameter_page.page(template), "run `make docs`"


def test_the_page_has_an_entry_for_every_parameter():
    page = parameter_page.PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?m)^### (.+)$", page)) == sorted(PARAMETERS)
    assert page.count("- Default: none, it is required\n") == 2
    for definition in PARAMETERS.values():
        # The page breaks lines and escapes what Markdown would take for its own.
        words = re.sub(r"\\(.)", r"\1", " ".join(page.split())).replace("&lt;", "<")
        assert " ".join(re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", definition["Description"]).split()) in words


@pytest.mark.parametrize("text, written", [
    ("arn:aws:iam::<account>:root", "arn:aws:iam::&lt;account>:root"),
    ("never *", r"never \*"),
    ("a `name` or [one]", r"a \`name\` or \[one\]"),
    ("see docs/key-policy.md.", "see [key-policy.md](key-policy.md)."),
])
def test_a_description_is_the_same_text_in_markdown(text, written):
    assert parameter_page.markdown(text) == written


@pytest.mark.parametrize("parameter, written", [
    ({}, "none, it is required"), ({"Default": ""}, "empty"), ({"Default": 0}, "`0`"), ({"Default": "no"}, "`no`"),
])
def test_a_default_is_told_apart_from_none(parameter, written):
    assert parameter_page.default(parameter) == written


def test_readme_names_parameters_that_exist_and_the_required_ones():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"(?m)^\| \[`(\w+)`\]\(docs/parameters\.md#(\w+)\) \|", readme)
    assert [name.lower() for name, _ in named] == [anchor for _, anchor in named]
    names = {name for name, _ in named}
    assert {"EndpointServiceIds", "DbtPrincipals"} <= names <= set(PARAMETERS)
