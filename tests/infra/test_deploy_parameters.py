"""The parameters of `make deploy`: how they are written, what is refused at once, and what people are told."""
import sys

import pytest
from infra_support import INFRA, ROOT

sys.path.insert(0, str(INFRA))

import parameters
from account import Problem

SERVICE, OTHER = "vpce-svc-0123456789abcdef0", "vpce-svc-0123456789abcdef1"
DBT, KNOWN, PROBE = "444455556666", "222233334444", "333344445555"
PAGER = "arn:aws:sns:us-east-1:111122223333:pager"
KEY = "arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture(scope="module")
def template():
    return parameters.Template((ROOT / "template.yaml").read_text(encoding="utf-8"), "make deploy {}".format)


def deployed(**others):
    return {"EndpointServiceIds": SERVICE, "DbtPrincipals": f"arn:aws:iam::{DBT}:root", **others}


# ---- SET and TAGS ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, parsed", [
    ("", {}),
    ("DryRun=false", {"DryRun": "false"}),
    ("HealthSchedule=rate(5 minutes) CrossZone=enforce", {"HealthSchedule": "rate(5 minutes)", "CrossZone": "enforce"}),
    ("ListenerPorts=vpce-svc-0a=5432, vpce-svc-0b=22  DryRun=true",
     {"ListenerPorts": "vpce-svc-0a=5432, vpce-svc-0b=22", "DryRun": "true"}),
    ("AlertEmail= RunbookUrl=https://wiki/?page=1", {"AlertEmail": "", "RunbookUrl": "https://wiki/?page=1"}),
    ("KnownAccounts+=1,2 DryRun=true", {"KnownAccounts+": "1,2", "DryRun": "true"}),
])
def test_a_value_ends_where_the_next_name_begins(text, parsed):
    assert parameters.pairs("SET", text) == parsed


@pytest.mark.parametrize("text, message", [
    ("enforce CrossZone=alert", r'does not begin with Name=value. Example: SET="DryRun=false"'),
    ("DryRun=true AlertEmail='ops@example.com'", "SET takes no quotes inside it, so those of AlertEmail would be part"),
    ("DryRun=true CrossZone=alert DryRun=false", "SET names DryRun twice"),
    ("KnownAccounts=1 KnownAccounts+=2", "SET names KnownAccounts twice"),
])
def test_text_that_can_be_misread_is_refused(text, message):
    with pytest.raises(Problem, match=message):
        parameters.pairs("SET", text)


# ---- what was given and what is deployed -----------------------------------------------------------------------------


def test_what_is_not_named_keeps_its_value_and_plus_adds_to_a_list(template):
    old = deployed(KnownAccounts=KNOWN, AlertAfter="3")
    values = template.chosen(old, {"KnownAccounts+": f"{PROBE},{KNOWN}", "DbtCidrs+": "10.0.0.0/8", "DryRun": "true"})
    assert values == {**old, "KnownAccounts": f"{KNOWN},{PROBE}", "DbtCidrs": "10.0.0.0/8", "DryRun": "true"}


def test_nothing_is_added_to_a_single_value(template):
    with pytest.raises(Problem, match=r"DryRun is one value and no list.* It is true now; write DryRun= and the whole"):
        template.chosen(deployed(DryRun="true"), {"DryRun+": "false"})


def test_each_changed_parameter_is_shown_with_its_old_and_its_new_value(template):
    old = {**template.defaults, **deployed(KnownAccounts=KNOWN)}
    new = {**old, "KnownAccounts": "", "CrossZone": "enforce"}
    assert list(parameters.changes(old, new)) == [
        f"KnownAccounts: {KNOWN} -> (empty)", "CrossZone: alert -> enforce"]
    assert list(parameters.changes({}, {"DryRun": "true"})) == ["DryRun: true"]


@pytest.mark.parametrize("left, reaction, expected", [
    ("KnownAccounts", "reject", [KNOWN]), ("DbtPrincipals", "reject", [DBT]), ("KnownAccounts", "alert", []),
    (None, "reject", [])])
def test_an_account_that_would_be_cut_off_is_a_caution(template, left, reaction, expected):
    old = {**template.defaults, **deployed(KnownAccounts=KNOWN, UntrustedRequests=reaction)}
    new = {**old, **({left: ""} if left else {})}
    cautions = list(parameters.cautions(old, new, {}))
    assert [each.split(" is no longer in KnownAccounts or DbtPrincipals. ")[0] for each in cautions] == expected
    assert all("cuts them off at once" in each for each in cautions)


def test_rejecting_from_now_on_is_a_caution(template):
    """Even if no list changes: a dry run ends, or the reaction changes."""
    alerts = {**template.defaults, **deployed()}
    rejects = {**alerts, "UntrustedRequests": "reject"}
    dry = {**rejects, "DryRun": "true", "KnownAccounts": KNOWN}
    for old in ({}, alerts, dry):
        [caution] = parameters.cautions(old, rejects, {})
        assert caution.startswith("From now on the guard rejects the requests of every account that is not in Known")
    assert list(parameters.cautions(alerts, {**rejects, "DryRun": "true"}, {})) == []
    [caution] = parameters.cautions(dry, {**dry, "KnownAccounts": ""}, {})
    assert f"{KNOWN} is no longer" in caution
    assert "once DryRun is false, the guard revokes" in caution


@pytest.mark.parametrize("expected, message", [
    (f"{OTHER}=vpce-00000001", f"ExpectedEndpoints names {OTHER}, which is not in EndpointServiceIds."),
    (f"{SERVICE}=vpce-00000001,{SERVICE}=vpce-00000002", f"ExpectedEndpoints names {SERVICE} twice. Write its"),
])
def test_expected_endpoints_name_each_configured_service_once(template, expected, message):
    with pytest.raises(Problem, match=message):
        template.check(deployed(ExpectedEndpoints=expected), "eu-central-1")


def test_following_hostnames_needs_target_groups(template):
    with pytest.raises(Problem, match="FollowHostnames is replace, and FollowTargetGroups names no target group"):
        template.check(deployed(FollowHostnames="replace"), "eu-central-1")
    group = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef"
    template.check(deployed(FollowHostnames="replace", FollowTargetGroups=group), "eu-central-1")


def connections(*states, owner=DBT, service=SERVICE):
    return [{"ServiceId": service, "VpcEndpointId": f"vpce-0000000{number}", "VpcEndpointOwner": owner,
             "VpcEndpointState": state} for number, state in enumerate(states, 1)]


@pytest.mark.parametrize("states, others, said", [
    ([], {}, "0 connected. MaxDbtEndpoints allows 1: the guard accepts the oldest request that it has not held before"),
    (["available", "pendingAcceptance"], {},
     "1 connected, 1 waiting. MaxDbtEndpoints allows 1: the guard holds further requests, and alerts you."),
    (["available", "partial", "rejected", "deleted"], {},
     "2 connected. MaxDbtEndpoints allows 1: all 2 stay connected, and a warning says so. If all are yours, name them: "
     f"ExpectedEndpoints={SERVICE}=vpce-00000001+vpce-00000002"),
    ([], {"DryRun": "true"}, "0 connected. Once DryRun is false: MaxDbtEndpoints allows 1"),
    (["available"], {"MaxDbtEndpoints": "3"}, "1 connected. MaxDbtEndpoints allows 3: the guard accepts the oldest 2"),
    (["available"], {"MaxDbtEndpoints": "0"}, "the guard accepts every endpoint of dbt's accounts, also other"),
    (["available", "pending"], {"ExpectedEndpoints": f"{SERVICE}=vpce-00000002+vpce-00000009"},
     "2 connected. ExpectedEndpoints: the guard accepts only what it names. It does not name vpce-00000001,"),
])
def test_the_limit_is_explained_by_what_is_connected(template, states, others, said):
    values = {**template.defaults, **deployed(**others)}
    foreign = [*connections("available", owner=KNOWN), *connections("available", service=OTHER)]
    [line] = parameters.room(values, [*connections(*states), *foreign])
    assert line.startswith(f"{SERVICE}: ")
    assert said in line


def test_an_account_that_moves_from_one_list_to_the_other_stays_connected(template):
    old = {**template.defaults, **deployed(KnownAccounts=KNOWN, UntrustedRequests="reject")}
    new = {**old, "KnownAccounts": "", "DbtPrincipals": f"{DBT},{KNOWN}"}
    assert list(parameters.cautions(old, new, {})) == []


def test_a_service_that_another_guard_watches_is_a_caution(template):
    values = {**template.defaults, **deployed()}
    [caution] = parameters.cautions({}, values, {SERVICE: "old-guard", OTHER: "third"})
    assert f"The stack old-guard watches {SERVICE} already" in caution


@pytest.mark.parametrize("key, is_lost", [
    ("alias/aws/sns", True), ("arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/aws/sns", True), ("", False),
    (None, False), ("alias/my/aws/sns", False), ("alias/aws/sns2", False), (KEY, False)])
def test_awss_own_key_on_an_alarms_topic_is_a_caution(key, is_lost):
    values = {"AlertTopicArn": PAGER.replace("pager", "alerts"), "PagerTopicArn": PAGER, "DryRun": "true"}
    region = PAGER.split(":")[3]
    assert list(parameters.alarm_topics(values, region)) == ["AlertTopicArn", "PagerTopicArn"]
    assert parameters.alarm_topics(values, "eu-west-9") == parameters.alarm_topics({"AlertTopicArn": ""}, region) == {}
    for name, lost in parameters.ALARMS_LOST.items():
        said = list(parameters.lost_alarms(values, {name: key}))
        assert [all(part in each for part in (lost, values[name], "docs/kms.md")) for each in said] == [True] * is_lost


# ---- what CloudFormation would refuse --------------------------------------------------------------------------------


@pytest.mark.parametrize("others, message", [
    ({"DbtPrincipals": f"arn:aws:iam::{DBT}:root,*"}, "must be principals"),
    ({"AlertAfter": "0"}, 'AlertAfter="0" must be a number from 1 to 1000'),
    # Digits of another script.
    ({"AlertAfter": "\u0663"}, "must be a number from 1 to 1000"),
    ({"EndpointServiceIds": "vpce-svc-0123456789abcdef\u0660"}, "must be endpoint service ids"),
    ({"SlackWorkspaceId": "T0123ABCD"}, "Give both SlackWorkspaceId and SlackChannelId, or neither"),
    ({"TeamsTeamId": "01234567-89ab-cdef-0123-456789abcdef"}, "Give TeamsTenantId, TeamsTeamId and TeamsChannelId"),
    ({"AlertTopicArn": PAGER, "AlertEmail": "ops@example.com"}, "With AlertTopicArn the stack subscribes nobody"),
    ({"EndpointServiceIds": f"{SERVICE}, {OTHER},{SERVICE}"}, f"EndpointServiceIds names {SERVICE} twice"),
    ({"EndpointServiceIds": ",".join(f"vpce-svc-{each:017x}" for each in range(31))}, "31 services, and a stack takes"),
    ({"PagerTopicArn": PAGER}, f"PagerTopicArn must be in eu-central-1, where the stack is: {PAGER}"),
    ({"KmsKeyArn": KEY}, "KmsKeyArn must be in eu-central-1"),
    ({"DbtCidrs": "10.1.2.0/24,52.45.144.63/32"}, "DbtCidrs has 52.45.144.63/32, a public network"),
    ({"DbtCidrs": "0.0.0.0/0"}, "DbtCidrs has 0.0.0.0/0, a public network"),
])
def test_what_cloudformation_would_refuse_is_refused_at_once(template, others, message):
    with pytest.raises(Problem, match="(?s)not valid.*" + message.replace("(", r"\(")):
        template.check(deployed(**others), "eu-central-1")
    template.check(deployed(), "eu-central-1")


def test_private_networks_and_ipv6_are_dbts(template):
    for network in ("10.1.2.0/24", "172.31.0.0/16", "192.168.4.0/24", "100.64.0.0/10", "2600:1f14::/48"):
        template.check(deployed(DbtCidrs=network), "eu-central-1")


def test_chat_is_refused_where_it_does_not_exist(template):
    slack = {"SlackWorkspaceId": "T0123ABCD", "SlackChannelId": "C0123ABCD"}
    template.check(deployed(**slack), "eu-central-1")
    with pytest.raises(Problem, match="not available in this Region"):
        template.check(deployed(**slack), "cn-north-1")


# ---- roles of your own -----------------------------------------------------------------------------------------------

ROLE = "arn:aws:iam::111122223333:role/security/acceptor"


def test_a_role_of_another_account_is_refused_by_name(template):
    given = {"ConnectionAcceptorRoleArn": ROLE, "ScheduleRoleArn": ROLE.replace("111122223333", DBT), "ChatRoleArn": ""}
    with pytest.raises(Problem) as refused:
        parameters.check_roles(deployed(**given), "111122223333")
    assert "A role must be in account 111122223333" in str(refused.value)
    assert f"ScheduleRoleArn=arn:aws:iam::{DBT}:role" in str(refused.value)
    assert "ConnectionAcceptorRoleArn" not in str(refused.value)
    parameters.check_roles({**template.defaults, **deployed(ConnectionAcceptorRoleArn=ROLE)}, "111122223333")


def test_a_role_that_is_no_arn_is_refused_first(template):
    with pytest.raises(Problem, match=r"ConnectionAcceptorRoleArn=.acceptor. must be empty or the ARN of a role"):
        template.check(deployed(ConnectionAcceptorRoleArn="acceptor"), "eu-central-1")


def test_own_roles_are_a_caution_with_the_commands_to_print_them(template):
    def cautions(old, new):
        return list(parameters.own_roles(old, new, "111122223333", "eu-central-1", "guard"))
    old = {**template.defaults, **deployed()}
    assert cautions(old, {**old, "DryRun": "true"}) == []
    assert cautions(old, {**old, "ChatRoleArn": ROLE}) == [], "it needs no permissions"
    new = {**old, "ConnectionAcceptorRoleArn": ROLE, "ScheduleRoleArn": ROLE, "HealthSchedule": "rate(5 minutes)"}
    [caution] = cautions(old, new)
    assert "(ConnectionAcceptorRoleArn, ScheduleRoleArn)" in caution
    where = "--stack guard --region eu-central-1"
    assert caution.split("\n    ")[1:] == [
        f"privatelink-guard policy --role connection-acceptor {where} --set 'HealthSchedule=rate(5 minutes)'",
        f"privatelink-guard policy --role schedules {where} --set 'HealthSchedule=rate(5 minutes)'"]
    [first] = cautions({}, deployed(DriftWatcherRoleArn=ROLE))
    assert first.endswith(f"policy --role drift-watcher {where} --account 111122223333 --set EndpointServiceIds="
                          f"{SERVICE} --set DbtPrincipals=arn:aws:iam::{DBT}:root")


def test_every_role_of_the_template_is_known(template):
    assert list(parameters.ROLES) == [name for name in template.parameters if name.endswith("RoleArn")]
