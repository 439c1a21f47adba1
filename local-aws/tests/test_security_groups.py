"""EC2: security groups and their rules, and the prefix lists that rules can refer to."""
import re

import pytest
from conftest import PROVIDER, REGION
from test_endpoint_services import error_code

POSTGRES = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432}


@pytest.fixture
def ec2(aws):
    return aws.client("ec2")


@pytest.fixture
def new_vpc(ec2):
    return ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]


@pytest.fixture
def new_group(ec2, names):
    return lambda **more: ec2.create_security_group(GroupName=names("sg"), Description="d", **more)["GroupId"]


@pytest.fixture
def new_prefix_list(ec2, names):
    def create(*blocks, family="IPv4", max_entries=10):
        return ec2.create_managed_prefix_list(
            PrefixListName=names("pl"), AddressFamily=family, MaxEntries=max_entries,
            Entries=[{"Cidr": block, "Description": f"about {block}"} for block in blocks])["PrefixList"]
    return create


def rules(ec2, *groups, egress=False, **more):
    found = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": list(groups)}], **more)
    return [rule for rule in found["SecurityGroupRules"] if rule["IsEgress"] == egress]


def permissions(ec2, group):
    [found] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    return found["IpPermissions"]


def entries(ec2, list_id, **more):
    return [e["Cidr"] for e in ec2.get_managed_prefix_list_entries(PrefixListId=list_id, **more)["Entries"]]


def test_every_peer_is_a_rule_with_a_stable_id(ec2, new_group, new_prefix_list):
    group, other, prefixes = new_group(), new_group(), new_prefix_list("192.0.2.0/24")["PrefixListId"]
    answer = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {**POSTGRES, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "trial"}, {"CidrIp": "203.0.113.7/24"}],
         "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}], "PrefixListIds": [{"PrefixListId": prefixes}],
         "UserIdGroupPairs": [{"GroupId": other}]},
        {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    found = rules(ec2, group)
    assert found == answer["SecurityGroupRules"]
    assert len({rule["SecurityGroupRuleId"] for rule in found}) == 6
    assert all(re.fullmatch("sgr-[0-9a-f]{17}", rule["SecurityGroupRuleId"]) for rule in found)
    assert {(rule["GroupId"], rule["GroupOwnerId"]) for rule in found} == {(group, PROVIDER)}
    peers = [(rule.get("CidrIpv4"), rule.get("CidrIpv6"), rule.get("PrefixListId"), rule.get("ReferencedGroupInfo"))
             for rule in found]
    assert peers == [
        ("10.0.0.0/8", None, None, None), ("203.0.113.0/24", None, None, None), (None, "2001:db8::/32", None, None),
        (None, None, prefixes, None), (None, None, None, {"GroupId": other, "UserId": PROVIDER}),
        ("0.0.0.0/0", None, None, None)]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in found] == [
        ("tcp", 5432, 5432)] * 5 + [("-1", -1, -1)]
    assert found[0]["Description"] == "trial"
    by_ports, everything = permissions(ec2, group)
    assert by_ports["IpRanges"] == [{"CidrIp": "10.0.0.0/8", "Description": "trial"}, {"CidrIp": "203.0.113.0/24"}]
    assert (by_ports["PrefixListIds"], by_ports["Ipv6Ranges"]) == (
        [{"PrefixListId": prefixes}], [{"CidrIpv6": "2001:db8::/32"}])
    assert "FromPort" not in everything
    [default] = rules(ec2, group, egress=True)
    assert (default["IpProtocol"], default["CidrIpv4"]) == ("-1", "0.0.0.0/0")


def test_rules_of_several_groups_come_in_pages(aws, ec2, new_group):
    groups = [new_group() for _ in range(3)]
    asked = {"Filters": [{"Name": "group-id", "Values": [*groups, *[f"sg-{n:017x}" for n in range(197)]]}]}
    aws.control("page-size", size=2)
    pages = list(ec2.get_paginator("describe_security_group_rules").paginate(**asked))
    assert [len(page["SecurityGroupRules"]) for page in pages] == [2, 1]
    assert {rule["GroupId"] for page in pages for rule in page["SecurityGroupRules"]} == set(groups)
    asked["Filters"][0]["Values"].append("sg-00000001")
    assert error_code(ec2.describe_security_group_rules, **asked) == "FilterLimitExceeded"
    assert error_code(ec2.describe_security_group_rules, Filters=[{"Name": "x", "Values": ["y"]}]) == (
        "InvalidParameterValue")


@pytest.mark.parametrize("removed", ["10.1.0.0/16", "10.2.0.0/16"])
def test_a_rule_removed_between_two_pages_hides_no_other(aws, ec2, new_group, removed):
    group = new_group()
    for number in (1, 2, 3, 4):
        ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="-1", CidrIp=f"10.{number}.0.0/16")
    asked = {"Filters": [{"Name": "group-id", "Values": [group]}]}
    aws.control("page-size", size=2)
    first = ec2.describe_security_group_rules(**asked)
    ec2.revoke_security_group_ingress(GroupId=group, IpProtocol="-1", CidrIp=removed)
    second = ec2.describe_security_group_rules(**asked, NextToken=first["NextToken"])
    assert [rule["CidrIpv4"] for rule in second["SecurityGroupRules"]] == ["10.3.0.0/16", "10.4.0.0/16"]


def test_the_cli_opens_and_closes_a_port(aws, ec2, new_group):
    group = new_group()
    rule = ["--group-id", group, "--protocol", "tcp", "--port", "5432", "--cidr", "10.0.0.0/8"]
    aws.cli("ec2", "authorize-security-group-ingress", *rule)
    assert "(InvalidPermission.Duplicate)" in aws.cli("ec2", "authorize-security-group-ingress", *rule, succeeds=False)
    [found] = aws.cli("ec2", "describe-security-group-rules", "--filters", f"Name=group-id,Values={group}", "--query",
                      "SecurityGroupRules[?!IsEgress]")
    assert (found["CidrIpv4"], found["FromPort"], found["ToPort"]) == ("10.0.0.0/8", 5432, 5432)
    revoked = aws.cli("ec2", "revoke-security-group-ingress", *rule)["RevokedSecurityGroupRules"]
    assert [r["SecurityGroupRuleId"] for r in revoked] == [found["SecurityGroupRuleId"]]
    assert rules(ec2, group) == [] == permissions(ec2, group)


def test_flat_parameters_also_form_a_rule(ec2, new_group):
    group = new_group()
    ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="6", FromPort=1, ToPort=2, CidrIp="10.1.2.3/32")
    assert permissions(ec2, group)[0]["IpProtocol"] == "tcp"
    ec2.revoke_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=1, ToPort=2, CidrIp="10.1.2.3/32")
    assert rules(ec2, group) == []


def test_rules_are_revoked_by_id_all_or_none(ec2, new_group):
    group = new_group()
    created = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {**POSTGRES, "IpRanges": [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "192.0.2.0/24"}]}])["SecurityGroupRules"]
    first, second = (rule["SecurityGroupRuleId"] for rule in created)
    revoke = {"GroupId": group, "SecurityGroupRuleIds": [first, "sgr-00000000000000000"]}
    assert error_code(ec2.revoke_security_group_ingress, **revoke) == "InvalidSecurityGroupRuleId.NotFound"
    assert len(rules(ec2, group)) == 2
    ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[first])
    assert [rule["SecurityGroupRuleId"] for rule in rules(ec2, group)] == [second]
    assert [rule["SecurityGroupRuleId"] for rule in ec2.describe_security_group_rules(SecurityGroupRuleIds=[second])[
        "SecurityGroupRules"]] == [second]
    [egress] = rules(ec2, group, egress=True)
    assert error_code(ec2.revoke_security_group_ingress, GroupId=group,
                      SecurityGroupRuleIds=[egress["SecurityGroupRuleId"]]) == "InvalidSecurityGroupRuleId.NotFound"
    ec2.revoke_security_group_egress(GroupId=group, SecurityGroupRuleIds=[egress["SecurityGroupRuleId"]])
    assert rules(ec2, group, egress=True) == []


def test_outbound_rules_are_closed_opened_and_modified(ec2, new_group, new_prefix_list):
    group, other, prefixes = new_group(), new_group(), new_prefix_list("192.0.2.0/24")["PrefixListId"]
    everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    [default] = rules(ec2, group, egress=True)
    assert (default["IsEgress"], default["IpProtocol"], default["CidrIpv4"]) == (True, "-1", "0.0.0.0/0")
    [revoked] = ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[everything])["RevokedSecurityGroupRules"]
    assert (revoked["SecurityGroupRuleId"], revoked["IsEgress"]) == (default["SecurityGroupRuleId"], True)
    assert rules(ec2, group, egress=True) == []
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[
        {**POSTGRES, "PrefixListIds": [{"PrefixListId": prefixes}], "UserIdGroupPairs": [{"GroupId": other}]}])
    by_list, by_group = rules(ec2, group, egress=True)
    assert (by_list["PrefixListId"], by_group["ReferencedGroupInfo"]["GroupId"]) == (prefixes, other)
    assert rules(ec2, group) == []
    ec2.modify_security_group_rules(GroupId=group, SecurityGroupRules=[
        {"SecurityGroupRuleId": by_list["SecurityGroupRuleId"],
         "SecurityGroupRule": {**POSTGRES, "CidrIpv4": "10.0.0.0/8"}}])
    changed = rules(ec2, group, egress=True)[0]
    assert (changed["SecurityGroupRuleId"], changed["CidrIpv4"], changed["IsEgress"]) == (
        by_list["SecurityGroupRuleId"], "10.0.0.0/8", True)
    [found] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    [outbound] = found["IpPermissionsEgress"]
    assert (outbound["IpRanges"], outbound["UserIdGroupPairs"][0]["GroupId"]) == ([{"CidrIp": "10.0.0.0/8"}], other)
    assert error_code(ec2.delete_security_group, GroupId=other) == "DependencyViolation"


def test_the_cli_opens_and_closes_an_outbound_port(aws, ec2, new_group):
    group = new_group()
    rule = ["--group-id", group, "--ip-permissions", "IpProtocol=tcp,FromPort=5432,ToPort=5432,"
                                                     "IpRanges=[{CidrIp=10.0.0.0/8}]"]
    created = aws.cli("ec2", "authorize-security-group-egress", *rule)["SecurityGroupRules"]
    assert [r["IsEgress"] for r in created] == [True]
    revoked = aws.cli("ec2", "revoke-security-group-egress", *rule)["RevokedSecurityGroupRules"]
    assert [r["SecurityGroupRuleId"] for r in revoked] == [r["SecurityGroupRuleId"] for r in created]


def test_groups_of_a_vpc_with_ipv6_allow_all_outbound_ipv6(ec2, new_group, new_vpc):
    changed, unchanged = new_group(VpcId=new_vpc), new_group(VpcId=new_vpc)
    ec2.authorize_security_group_egress(GroupId=changed, IpPermissions=[
        {**POSTGRES, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}])
    ec2.associate_vpc_cidr_block(VpcId=new_vpc, AmazonProvidedIpv6CidrBlock=True)
    outbound = {group: [rule.get("CidrIpv4") or rule["CidrIpv6"] for rule in rules(ec2, group, egress=True)]
                for group in (changed, unchanged, new_group(VpcId=new_vpc))}
    assert list(outbound.values()) == [["0.0.0.0/0", "10.0.0.0/8"], ["0.0.0.0/0", "::/0"], ["0.0.0.0/0", "::/0"]]


def test_revoking_a_missing_rule_fails_except_in_a_default_vpc(ec2, new_group, new_vpc):
    absent = {"IpPermissions": [{**POSTGRES, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]}
    answer = ec2.revoke_security_group_ingress(GroupId=new_group(), **absent)
    assert (answer["Return"], answer["UnknownIpPermissions"][0]["FromPort"]) == (False, 5432)
    assert error_code(ec2.revoke_security_group_ingress, GroupId=new_group(VpcId=new_vpc), **absent) == (
        "InvalidPermission.NotFound")


def test_a_modified_rule_keeps_its_id(ec2, new_group, new_prefix_list):
    group, prefixes = new_group(), new_prefix_list("192.0.2.0/24")["PrefixListId"]
    [rule] = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {**POSTGRES, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}])["SecurityGroupRules"]
    rule_id = rule["SecurityGroupRuleId"]

    def modify(**changed):
        ec2.modify_security_group_rules(GroupId=group, SecurityGroupRules=[
            {"SecurityGroupRuleId": rule_id, "SecurityGroupRule": changed}])
        [now] = rules(ec2, group)
        assert now["SecurityGroupRuleId"] == rule_id
        return now

    assert modify(**{**POSTGRES, "ToPort": 6000}, CidrIpv4="192.0.2.0/24", Description="dbt")["ToPort"] == 6000
    assert modify(IpProtocol="-1", PrefixListId=prefixes)["PrefixListId"] == prefixes
    assert permissions(ec2, group)[0]["PrefixListIds"] == [{"PrefixListId": prefixes}]
    assert modify(IpProtocol="-1", ReferencedGroupId=group)["ReferencedGroupInfo"]["GroupId"] == group
    assert error_code(ec2.modify_security_group_rules, GroupId=group, SecurityGroupRules=[
        {"SecurityGroupRuleId": "sgr-00000000000000000",
         "SecurityGroupRule": {**POSTGRES, "CidrIpv4": "10.0.0.0/8"}}]) == "InvalidSecurityGroupRuleId.NotFound"


@pytest.mark.parametrize("permission, code", [
    ({**POSTGRES, "IpRanges": [{"CidrIp": "10.0.0.0/33"}]}, "InvalidParameterValue"),
    ({**POSTGRES, "IpRanges": [{"CidrIp": "2001:db8::/32"}]}, "InvalidParameterValue"),
    ({"IpProtocol": "tcp", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "InvalidParameterValue"),
    ({**POSTGRES, "ToPort": 1, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, "InvalidParameterValue"),
    ({**POSTGRES, "PrefixListIds": [{"PrefixListId": "pl-00000000000000000"}]}, "InvalidPrefixListID.NotFound"),
    ({**POSTGRES, "UserIdGroupPairs": [{"GroupId": "sg-00000000000000000"}]}, "InvalidGroup.NotFound"),
])
def test_ec2_rejects_invalid_rules(ec2, new_group, permission, code):
    group = new_group()
    assert error_code(ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[permission]) == code
    assert rules(ec2, group) == []


def test_groups_are_found_duplicated_and_deleted(ec2, names, new_group, new_vpc):
    name, group = names("sg"), new_group(VpcId=new_vpc)
    ec2.create_security_group(GroupName=name, Description="d")
    assert error_code(ec2.create_security_group, GroupName=name, Description="d") == "InvalidGroup.Duplicate"
    there = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [new_vpc]}])["SecurityGroups"]
    assert {g["GroupId"] for g in there} > {group}
    [default] = [g["GroupId"] for g in there if g["GroupName"] == "default"]
    [itself] = rules(ec2, default)
    assert itself["ReferencedGroupInfo"]["GroupId"] == default
    ec2.delete_security_group(GroupId=group)
    assert error_code(ec2.describe_security_groups, GroupIds=[group]) == "InvalidGroup.NotFound"
    assert error_code(ec2.describe_security_groups, GroupIds=["sg-x"]) == "InvalidGroupId.Malformed"
    assert error_code(ec2.delete_security_group, GroupId=default) == "CannotDelete"


# Prefix lists

def test_a_prefix_list_has_versions(ec2, new_prefix_list):
    created = new_prefix_list("10.0.0.0/8", "192.0.2.0/24")
    list_id = created["PrefixListId"]
    assert (created["State"], created["Version"], created["AddressFamily"]) == ("create-in-progress", 1, "IPv4")
    assert created["PrefixListArn"] == f"arn:aws:ec2:{REGION}:{PROVIDER}:prefix-list/{list_id}"
    change = {"PrefixListId": list_id, "AddEntries": [{"Cidr": "198.51.100.0/24"}],
              "RemoveEntries": [{"Cidr": "10.0.0.0/8"}]}
    assert error_code(ec2.modify_managed_prefix_list, **change, CurrentVersion=2) == "PrefixListVersionMismatch"
    ec2.modify_managed_prefix_list(**change, CurrentVersion=1)
    assert entries(ec2, list_id) == ["192.0.2.0/24", "198.51.100.0/24"]
    assert entries(ec2, list_id, TargetVersion=1) == ["10.0.0.0/8", "192.0.2.0/24"]
    [now] = ec2.describe_managed_prefix_lists(PrefixListIds=[list_id])["PrefixLists"]
    assert (now["State"], now["Version"], now["OwnerId"]) == ("modify-complete", 2, PROVIDER)
    ec2.delete_managed_prefix_list(PrefixListId=list_id)
    assert error_code(ec2.get_managed_prefix_list_entries, PrefixListId=list_id) == "InvalidPrefixListID.NotFound"


def test_prefix_lists_and_their_entries_come_in_pages(aws, ec2, new_prefix_list):
    blocks = [f"10.{number}.0.0/16" for number in range(5)]
    lists = [new_prefix_list(*blocks, max_entries=5)["PrefixListId"] for _ in range(3)]
    aws.control("page-size", size=2)
    pages = list(ec2.get_paginator("get_managed_prefix_list_entries").paginate(PrefixListId=lists[0]))
    assert [entry["Cidr"] for page in pages for entry in page["Entries"]] == blocks
    assert len(pages) == 3
    found = ec2.get_paginator("describe_managed_prefix_lists").paginate(
        Filters=[{"Name": "owner-id", "Values": [PROVIDER]}])
    assert set(lists) <= {row["PrefixListId"] for page in found for row in page["PrefixLists"]}
    assert error_code(ec2.modify_managed_prefix_list, PrefixListId=lists[0],
                      AddEntries=[{"Cidr": "10.9.0.0/16"}]) == "PrefixListMaxEntriesExceeded"
    assert error_code(ec2.modify_managed_prefix_list, PrefixListId=lists[0],
                      AddEntries=[{"Cidr": "2001:db8::/32"}]) == "InvalidParameterValue"


def test_aws_managed_prefix_lists_are_listed_but_immutable(ec2):
    own = ec2.describe_managed_prefix_lists(Filters=[{"Name": "owner-id", "Values": ["AWS"]}])["PrefixLists"]
    assert f"com.amazonaws.{REGION}.s3" in [row["PrefixListName"] for row in own]
    assert entries(ec2, own[0]["PrefixListId"])
    assert error_code(ec2.modify_managed_prefix_list, PrefixListId=own[0]["PrefixListId"]) == "UnsupportedOperation"
