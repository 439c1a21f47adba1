"""Checks of infra/ that need no deployment."""
import json
import re
import string
import subprocess
import sys

import pytest
from infra_support import INFRA, ROOT, TEMPLATES, TOOLS, accepts, load

sys.path.insert(0, str(ROOT / "tools"))

import stackset

GUARD = load(ROOT / "template.yaml")
SERVICE, CONSUMER, STACKSET = (
    load(INFRA / f"{name}.yaml") for name in ("endpoint-service", "test-consumer", "stackset"))
CHAT, EXECUTION_ROLE = load(INFRA / "chat.yaml"), load(INFRA / "stackset-role.yaml")
DEPLOY_POLICY = json.loads((ROOT / "docs/deploy-policy.json").read_text(encoding="utf-8"))
each_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
# A part of the guard's template: nobody sees its parameters, and it has no outputs.
NESTED = INFRA / "chat.yaml"
# With one parameter.
UNGROUPED = INFRA / "stackset-role.yaml"
DEPLOYED = [path for path in TEMPLATES if path not in (NESTED, UNGROUPED)]


def nodes(value):
    """Every mapping in a template."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(child)


@each_template
def test_cfn_lint_finds_nothing(path):
    regions = ["us-east-1", "eu-central-1", *(["cn-north-1", "us-gov-west-1"] if path != NESTED else [])]
    done = subprocess.run([TOOLS / "cfn-lint", "--regions", *regions, "--template", path], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@each_template
def test_no_arn_is_limited_to_one_partition_and_no_line_is_too_long(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "arn:aws:" in line and "Description: " not in line] == []
    assert [line for line in lines if len(line) > 120] == []


# What StackSets needs for itself, which AWS names by service: in other accounts than the role's, and on its own stacks.
OF_STACK_SETS = ("StackSets", "StacksOfStackSets")


@each_template
def test_no_statement_allows_every_principal_or_action(path):
    for node in nodes(load(path)):
        for key in ("Principal", "AllowedPrincipals", "AWS"):
            assert "*" not in str(node.get(key, ""))
        if node.get("Effect") == "Allow" and node.get("Sid") not in OF_STACK_SETS:
            actions = node["Action"] if isinstance(node["Action"], list) else [node["Action"]]
            assert not [action for action in actions if "*" in action]


@pytest.mark.parametrize("path", [ROOT / "template.yaml", *TEMPLATES], ids=lambda path: path.name)
def test_no_map_looks_like_the_intrinsic_function_condition(path):
    """AWS::LanguageExtensions takes a map whose first key is Condition for the function of that name.

    "Condition layout is incorrect": https://github.com/aws-cloudformation/cfn-language-discussion/issues/147
    """
    template = load(path)
    for node in nodes(template):
        keys = [key for key in node if isinstance(key, str)]
        if "Condition" in keys:
            # The function itself: a condition's name, and nothing else.
            assert keys[0] != "Condition" or (keys == ["Condition"] and node["Condition"] in template["Conditions"])
            assert "Effect" not in keys or keys[-1] == "Condition", node
    for name, resource in template["Resources"].items():
        looped = resource[2].values() if name.startswith("Fn::ForEach::") else [resource]
        assert all(next(iter(each)) == "Type" for each in looped), name


@each_template
def test_every_parameter_has_a_description_and_limits(path):
    template = load(path)
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"], name
        if parameter["Type"] in ("String", "CommaDelimitedList") and "AllowedValues" not in parameter:
            assert parameter["AllowedPattern"].startswith("^"), name
            assert parameter["AllowedPattern"].endswith("$"), name
            assert parameter["ConstraintDescription"].startswith("must be "), name
        if parameter["Type"] == "Number":
            assert "AllowedValues" in parameter or {"MinValue", "MaxValue"} <= set(parameter), name
    for name, output in template.get("Outputs", {}).items():
        assert output["Description"], name


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.name)
def test_the_console_shows_every_parameter_once(path):
    template = load(path)
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    shown = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(shown) == sorted(template["Parameters"])
    assert set(interface["ParameterLabels"]) == set(template["Parameters"])


def printed_parameters(template):
    """The parameters that an output names in a command."""
    for output in template.get("Outputs", {}).values():
        text = str(output["Value"])
        if re.search(r"\b(aws|make) ", text):
            named = re.findall(r"\$\{(\w+)\}", text) + [node["Ref"] for node in nodes(output) if "Ref" in node]
            yield from (name for name in named if name in template["Parameters"])


@pytest.mark.parametrize("path", [ROOT / "template.yaml", *DEPLOYED], ids=lambda path: path.name)
def test_a_parameter_in_a_printed_command_holds_nothing_that_a_shell_acts_on(path):
    """The same characters as in the alerts' commands: shared/core/src/check/command.rs."""
    template = load(path)
    for name in set(printed_parameters(template)):
        [valid] = [each for of, parameter, each, _ in VALID_AND_INVALID if (of, parameter) == (template, name)]
        for value in filter(None, valid):
            for character in set(map(chr, range(1, 127))) - set(string.ascii_letters + string.digits + "+=,.@_/:-"):
                for at in range(len(value) + 1):
                    assert not accepts(template["Parameters"][name], value[:at] + character + value[at:]), name


BALANCER = "elasticloadbalancing:{}:111122223333:loadbalancer/net/db/0123456789abcdef"
VALID_AND_INVALID = [
    (SERVICE, "LoadBalancerArns",
     [f"arn:aws:{BALANCER.format('eu-central-1')}", f"arn:aws-cn:{BALANCER.format('cn-north-1')}",
      f"arn:aws-us-gov:{BALANCER.format('us-gov-west-1')}"],
     ["", "*", "db", f"arn:aws:{BALANCER.format('eu-central-1')} ",
      "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/net/db/0123456789abcdef",
      f"arn:aws:{BALANCER.format('eu-central-1').replace('/net/', '/app/')}"]),
    (SERVICE, "Name", ["dbt", "postgres 1"], ["", " dbt", "a" * 64, "a\nb", "$(id)"]),
    (SERVICE, "DbtPrincipals",
     ["arn:aws:iam::444455556666:root", "arn:aws-cn:iam::444455556666:root",
      "arn:aws-us-gov:iam::444455556666:role/dbt", "arn:aws:iam::444455556666:user/path/d_b+t=1,2.3@x-y"],
     ["", "*", "arn:aws:iam::444455556666:role/$(id)/x",
      "arn:aws:iam::*:root", "arn:aws:iam::444455556666:role/*", "arn:aws:iam::444455556666:root,*",
      "444455556666", "arn:aws:iam::44445555666:root"]),
    (SERVICE, "SupportedRegions", ["", "us-east-1", "us-east-1,eu-west-1", "us-gov-west-1", "ap-southeast-2"],
     ["*", "us-east-1, eu-west-1", "us-east-1,", "US-EAST-1", "useast1"]),
    (SERVICE, "PrivateDnsName", ["", "db.example.com", "*.db.example.com"],
     ["db", "*", "https://db.example.com", "db..example.com", "-db.example.com", "db.example.com "]),
    (CONSUMER, "ServiceName",
     ["com.amazonaws.vpce.eu-central-1.vpce-svc-0123456789abcdef0",
      "com.amazonaws.vpce.us-gov-west-1.vpce-svc-01234567",
      "cn.com.amazonaws.vpce.cn-north-1.vpce-svc-0123456789abcdef0"],
     ["", "vpce-svc-0123456789abcdef0", "com.amazonaws.eu-central-1.s3",
      "com.amazonaws.vpce.eu-central-1.vpce-svc-0123456789abcdef0 "]),
    (CONSUMER, "Ports", ["1", "22", "443", "5432", "65535"], ["", "0", "65536", "99999", "-1", "5432 ", "tcp", "0443"]),
    (CONSUMER, "AlarmTopicArn",
     ["", "arn:aws:sns:eu-central-1:111122223333:alerts", "arn:aws-cn:sns:cn-north-1:111122223333:alerts",
      "arn:aws-us-gov:sns:us-gov-west-1:111122223333:alerts"],
     ["alerts", "*", "arn:aws:sqs:eu-central-1:111122223333:alerts", "arn:aws:sns:eu-central-1:111122223333:a b"]),
    (CONSUMER, "EndpointDnsName", ["", "vpce-01-ab.vpce-svc-02.eu-central-1.vpce.amazonaws.com"],
     ["db", "169.254.169.254"]),
    (STACKSET, "TemplateURL",
     ["https://b-eu-central-1.s3.eu-central-1.amazonaws.com/privatelink-guard/0.yaml",
      "https://b-cn-north-1.s3.cn-north-1.amazonaws.com.cn/privatelink-guard/0.yaml"],
     ["", "s3://b/0.yaml", "http://b.s3.amazonaws.com/0.yaml", "https://example.com/0.yaml"]),
    (STACKSET, "DbtPrincipals", ["arn:aws:iam::444455556666:root", "444455556666"], ["", "*"]),
    (STACKSET, "AlertTopicArn", ["", "arn:aws:sns:eu-central-1:111122223333:alerts"],
     ["alerts", "arn:aws:sns:eu-central-1:111122223333:alerts.fifo", "arn:aws:sqs:eu-central-1:111122223333:alerts"]),
    (STACKSET, "RunbookUrl", ["", "https://wiki.example.com/checks"],
     ["http://wiki.example.com", "https://wiki.example.com/#checks"]),
    (STACKSET, "Account1", ["111122223333"], ["", "11112222333", "arn:aws:iam::111122223333:root"]),
    (STACKSET, "Account2", ["", "111122223333"], ["11112222333"]),
    (STACKSET, "Region1", ["eu-central-1", "us-gov-west-1", "cn-northwest-1"], ["", "*", "eu-central-1a"]),
    (STACKSET, "EndpointServiceIds1", ["vpce-svc-0123456789abcdef0"], ["", "*", "vpce-0123456789abcdef0"]),
    (EXECUTION_ROLE, "AdministratorAccountId", ["111122223333"], ["", "*", "arn:aws:iam::111122223333:root"]),
    (STACKSET, "AdministrationRoleArn", ["", "arn:aws-cn:iam::111122223333:role/admin"], ["admin"]),
    (STACKSET, "ExecutionRoleName", ["AWSCloudFormationStackSetExecutionRole"],
     ["", "arn:aws:iam::111122223333:role/x"]),
]


@pytest.mark.parametrize("template, name, valid, invalid", VALID_AND_INVALID,
                         ids=[case[1] for case in VALID_AND_INVALID])
def test_patterns_accept_valid_values_and_reject_invalid_ones(template, name, valid, invalid):
    parameter = template["Parameters"][name]
    assert [value for value in valid if not accepts(parameter, value)] == []
    assert [value for value in invalid if accepts(parameter, value)] == []


# endpoint-service.yaml


def test_the_endpoint_service_outlives_its_stack():
    for name in ("Service", "Permissions"):
        resource = SERVICE["Resources"][name]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_acceptance_is_always_required():
    assert SERVICE["Resources"]["Service"]["Properties"]["AcceptanceRequired"] is True


def test_the_guard_accepts_the_principals_that_the_service_accepts():
    _, _, valid, _ = VALID_AND_INVALID[2]
    assert [value for value in valid if not accepts(GUARD["Parameters"]["DbtPrincipals"], value)] == []


def test_the_services_name_begins_with_cn_in_china():
    assert SERVICE["Conditions"]["InChina"] == {"Fn::Equals": [{"Ref": "AWS::Partition"}, "aws-cn"]}
    _, china, elsewhere = SERVICE["Outputs"]["ServiceName"]["Value"]["Fn::If"]
    for name, region in ((china, "cn-north-1"), (elsewhere, "us-gov-west-1")):
        filled = name["Fn::Sub"].replace("${AWS::Region}", region).replace("${Service}", "vpce-svc-0123456789abcdef0")
        assert accepts(CONSUMER["Parameters"]["ServiceName"], filled)
    assert china["Fn::Sub"] == "cn." + elsewhere["Fn::Sub"]


# test-consumer.yaml


def test_only_the_probe_can_reach_the_endpoint_and_it_can_reach_nothing_else():
    resources = {name: resource["Properties"] for name, resource in CONSUMER["Resources"].items()}
    assert "SecurityGroupIngress" not in {**resources["EndpointSecurityGroup"], **resources["ProbeSecurityGroup"]}
    ingress = {name: rule for name, rule in resources.items() if "SourceSecurityGroupId" in rule or "CidrIp" in rule}
    assert list(ingress) == ["EndpointFromProbe"]
    assert ingress["EndpointFromProbe"]["GroupId"] == {"Ref": "EndpointSecurityGroup"}
    assert ingress["EndpointFromProbe"]["SourceSecurityGroupId"] == {"Ref": "ProbeSecurityGroup"}
    [egress] = resources["ProbeSecurityGroup"]["SecurityGroupEgress"]
    assert egress["DestinationSecurityGroupId"] == {"Ref": "EndpointSecurityGroup"}
    assert resources["Endpoint"]["SecurityGroupIds"] == [{"Ref": "EndpointSecurityGroup"}]
    assert resources["Probe"]["VpcConfig"]["SecurityGroupIds"] == [{"Ref": "ProbeSecurityGroup"}]
    [nowhere] = resources["EndpointSecurityGroup"]["SecurityGroupEgress"]
    assert nowhere["CidrIp"] == "127.0.0.1/32"


def test_the_probes_code_is_denied_all_of_ec2():
    [statement] = CONSUMER["Resources"]["DenyEc2ToCode"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "ec2:*")
    assert statement["Condition"] == {"ArnEquals": {"lambda:SourceFunctionArn": {"Fn::GetAtt": ["Probe", "Arn"]}}}


def test_the_probes_account_is_known_to_the_guard_before_its_endpoint_is_accepted():
    """Otherwise the probe causes a critical alert, and with UntrustedRequests=reject it is cut off."""
    outputs, description = CONSUMER["Outputs"], " ".join(CONSUMER["Description"].split())
    command = outputs["KnownAccountsCommand"]["Value"]["Fn::Sub"]
    assert command == 'make deploy REGION=${AWS::Region} SET="KnownAccounts+=${AWS::AccountId}"'
    assert list(outputs).index("KnownAccountsCommand") < list(outputs).index("AcceptCommand")
    assert description.index("KnownAccountsCommand") < description.index("AcceptCommand")
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    assert command.replace("${AWS::AccountId}", "<account>").replace("${AWS::Region}", "<region>") in page
    assert page.index("KnownAccountsCommand") < page.index("`AcceptCommand`")
    # The guard takes it; test_make_deploy.py has how `make deploy` passes it on.
    assert accepts(GUARD["Parameters"]["KnownAccounts"], "111122223333")


# chat.yaml


def test_the_guard_passes_all_parameters_to_its_chat_channels_with_the_same_limits():
    nested = GUARD["Resources"]["AlertChat"]
    assert nested["Properties"]["TemplateURL"] == "infra/chat.yaml"
    assert set(nested["Properties"]["Parameters"]) == set(CHAT["Parameters"])
    shared = set(CHAT["Parameters"]) & set(GUARD["Parameters"]) - {"AlertTopicArn"}
    assert len(shared) == 7
    for name in shared:
        for key in ("Type", "AllowedPattern", "Default"):
            assert CHAT["Parameters"][name].get(key) == GUARD["Parameters"][name].get(key), (name, key)
        assert nested["Properties"]["Parameters"][name] == {"Ref": name}


def test_nobody_can_run_commands_from_a_channel():
    resources = CHAT["Resources"]
    channels = [each["Properties"] for each in resources.values() if each["Type"].startswith("AWS::Chatbot::")]
    assert len(channels) == 2
    for properties in channels:
        assert properties["GuardrailPolicies"] == [{"Fn::Sub": "arn:${AWS::Partition}:iam::aws:policy/AWSDenyAll"}]
        assert properties["IamRoleArn"] == {
            "Fn::If": ["CreatesRole", {"Fn::GetAtt": ["Role", "Arn"]}, {"Ref": "RoleArn"}]}
        assert properties["SnsTopicArns"] == [{"Ref": "AlertTopicArn"}]
    role = resources["Role"]["Properties"]
    assert set(role) == {"AssumeRolePolicyDocument", "Path", "PermissionsBoundary"}, "no permissions"
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "chatbot.amazonaws.com"}


# stackset.yaml and stackset-role.yaml

STACKSET_PROPERTIES = STACKSET["Resources"]["Guard"]["Properties"]


def test_the_stack_set_and_its_role_are_what_their_sources_say():
    for path, text in stackset.pages():
        assert path.read_text(encoding="utf-8") == text, "run `make docs`"


def test_the_stack_set_passes_every_parameter_that_places_can_share():
    passed = {each["ParameterKey"]: each["ParameterValue"] for each in STACKSET_PROPERTIES["Parameters"]}
    assert set(stackset.OF_ONE_PLACE) <= set(GUARD["Parameters"])
    for name, parameter in GUARD["Parameters"].items():
        is_list = parameter["Type"] == "CommaDelimitedList"
        if stackset.is_shared(name):
            assert STACKSET["Parameters"][name] == parameter
            assert passed[name] == ({"Fn::Join": [",", {"Ref": name}]} if is_list else {"Ref": name})
    assert set(passed) == {name for name in GUARD["Parameters"] if stackset.is_shared(name)} | {"EndpointServiceIds"}


def test_a_parameter_of_the_guard_reaches_the_stack_set_by_one_edit():
    new = "  NewOne:\n    Type: String\n    Default: \"\"\n    Description: New.\n"
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    text = text.replace("\nRules:\n", f"{new}\nRules:\n").replace("    ParameterLabels:\n", "    ParameterLabels:\n"
                                                                "      NewOne: {default: New one}\n")
    written = stackset.stackset(stackset.STACKSET.read_text(encoding="utf-8"), text)
    assert new in written
    assert "{ParameterKey: NewOne, ParameterValue: !Ref NewOne}" in written
    assert "      NewOne: {default: New one}\n" in written


def test_every_place_has_its_own_endpoint_services():
    places = [place.get("Fn::If", [None, place])[1] for place in STACKSET_PROPERTIES["StackInstancesGroup"]]
    assert len(places) == 6
    for number, place in enumerate(places, 1):
        assert place == {
            "DeploymentTargets": {"Accounts": [{"Ref": f"Account{number}"}]}, "Regions": [{"Ref": f"Region{number}"}],
            "ParameterOverrides": [{"ParameterKey": "EndpointServiceIds", "ParameterValue": {
                "Fn::Join": [",", {"Ref": f"EndpointServiceIds{number}"}]}}]}
    assert all(accepts(STACKSET["Parameters"][f"EndpointServiceIds{number}"], "vpce-svc-0123456789abcdef0")
               for number in range(1, 7))


def test_the_stack_set_may_expand_the_guards_transforms():
    assert GUARD["Transform"]
    assert STACKSET_PROPERTIES["PermissionModel"] == "SELF_MANAGED"
    assert set(STACKSET_PROPERTIES["Capabilities"]) == {"CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"}


def test_the_execution_role_has_the_name_that_both_permission_models_take():
    name = EXECUTION_ROLE["Resources"]["Role"]["Properties"]["RoleName"]
    assert name.startswith("stacksets-exec-custom-")
    assert STACKSET["Parameters"]["ExecutionRoleName"]["Default"] == name


def test_the_documented_sed_gives_the_roles_template_its_account(tmp_path):
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    [command] = re.findall(r"(?m)^ +(sed .*) > role\.yaml$", page)
    done = subprocess.run(["sh", "-c", command.replace("<management account>", "999988887777")], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    (tmp_path / "role.yaml").write_text(done.stdout, encoding="utf-8")
    [parameter] = load(tmp_path / "role.yaml")["Parameters"].values()
    assert parameter["Default"] == "999988887777"


def test_the_execution_role_allows_what_the_deployer_may_but_the_bucket():
    """And nothing of the account's own besides, but the code and the stacks of stack sets."""
    [policy] = EXECUTION_ROLE["Resources"]["Role"]["Properties"]["ManagedPolicyArns"]
    document = EXECUTION_ROLE["Resources"][policy["Ref"]]["Properties"]["PolicyDocument"]
    by_sid = {each["Sid"]: each for each in document["Statement"]}
    own = {"Code": "s3:GetObject", "StackSets": ["s3:*", "sns:*"], "StacksOfStackSets": "cloudformation:*"}
    assert {sid: by_sid.pop(sid)["Action"] for sid in own} == own
    deployers = {each["Sid"]: each["Action"] for each in DEPLOY_POLICY["Statement"]}
    assert {sid: each["Action"] for sid, each in by_sid.items()} == {
        sid: action for sid, action in deployers.items() if sid not in ("Bucket", "Code", "Stack")}
    assert len(json.dumps(document, separators=(",", ":"))) <= 6144
