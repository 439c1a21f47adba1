"""EC2: security groups and their rules.

ministack stores permissions, which CloudFormation also writes. Here each permission is a rule with one peer and its own
id; DescribeSecurityGroups merges the rules of one protocol and port range again.
"""
import ipaddress
import re

from ministack.core.responses import get_account_id, get_region
from ministack.services import alb, ec2

from . import prefix_lists, vpcs
from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_PROTOCOL_NAMES = {"all": "-1", "1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
_PEERS = {"IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6", "PrefixListIds": "PrefixListId",
          "UserIdGroupPairs": "GroupId"}
_DIRECTIONS = {False: "IpPermissions", True: "IpPermissionsEgress"}
_RULE_ID = re.compile(r"sgr-[0-9a-f]{17}")
_GROUP_ID = re.compile(r"sg-([0-9a-f]{8}|[0-9a-f]{17})")


def _group(request):
    """The request's group, by id, or by name in the default VPC."""
    if "GroupId" in request:
        return _group_of(request["GroupId"])
    name = request.get("GroupName")
    if name is None:
        raise ApiError("MissingParameter", "The request must contain the parameter groupName or groupId")
    for group in ec2._security_groups.values():
        if group["GroupName"] == name and ec2._vpcs.get(group["VpcId"], {}).get("IsDefault"):
            return group
    raise ApiError("InvalidGroup.NotFound", f"The security group '{name}' does not exist in default VPC")


def _group_of(group_id):
    if group_id not in ec2._security_groups:
        if not _GROUP_ID.fullmatch(group_id):
            raise ApiError("InvalidGroupId.Malformed", f"Invalid id: \"{group_id}\" (expecting \"sg-...\")")
        raise ApiError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
    return ec2._security_groups[group_id]


def _one_per_peer(permission):
    """The permission split into permissions with one peer each."""
    shared = {member: permission[member] for member in ("IpProtocol", "FromPort", "ToPort") if member in permission}
    for kind in _PEERS:
        for peer in permission.get(kind) or []:
            yield {**shared, **{other: [] for other in _PEERS}, kind: [dict(peer)]}


def _rules(group, egress):
    """The group's rules in this direction. Rules written by other code get their ids now."""
    key = _DIRECTIONS[egress]
    rules = []
    for permission in group[key]:
        single = sum(len(permission.get(kind) or []) for kind in _PEERS) == 1
        if single and "SecurityGroupRuleId" in permission:
            rules.append(permission)
        else:
            rules += [{**rule, "SecurityGroupRuleId": new_id("sgr")} for rule in _one_per_peer(permission)]
    group[key] = rules
    return rules


def _peer(rule):
    """The kind of the rule's peer, and the peer."""
    return next((kind, rule[kind][0]) for kind in _PEERS if rule.get(kind))


def _identity(rule):
    kind, peer = _peer(rule)
    return rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), kind, peer[_PEERS[kind]]


# Requests

def _cidr(text, version):
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        network = None
    if network is None or network.version != version:
        raise ApiError("InvalidParameterValue", f"CIDR block {text} is malformed")
    return str(network)


def _checked(rule, group):
    """The rule in the form that EC2 stores."""
    protocol = rule["IpProtocol"].lower()
    rule["IpProtocol"] = protocol = _PROTOCOL_NAMES.get(protocol, protocol)
    if protocol in ("tcp", "udp"):
        if "FromPort" not in rule or "ToPort" not in rule:
            raise ApiError("InvalidParameterValue", "Invalid value 'Must specify both from and to ports with "
                                                    "TCP/UDP.' for portRange.")
        if not 0 <= rule["FromPort"] <= rule["ToPort"] <= 65535:
            raise ApiError("InvalidParameterValue", f"Invalid TCP/UDP port range ({rule['FromPort']}:"
                                                    f"{rule['ToPort']})")
    elif protocol not in ("icmp", "icmpv6"):
        if protocol != "-1" and not (protocol.isdigit() and int(protocol) <= 255):
            raise ApiError("InvalidParameterValue", f"Invalid value '{protocol}' for IP protocol. Unknown protocol.")
        rule.pop("FromPort", None)
        rule.pop("ToPort", None)
    kind, peer = _peer(rule)
    if kind == "IpRanges":
        peer["CidrIp"] = _cidr(peer["CidrIp"], 4)
    elif kind == "Ipv6Ranges":
        peer["CidrIpv6"] = _cidr(peer["CidrIpv6"], 6)
    elif kind == "PrefixListIds":
        prefix_lists.prefix_list(peer["PrefixListId"])
    else:
        owner = peer.setdefault("UserId", get_account_id())
        if "GroupId" not in peer:
            peer["GroupId"] = next((other["GroupId"] for other in ec2._security_groups.values()
                                    if other["GroupName"] == peer.get("GroupName")
                                    and other["VpcId"] == group["VpcId"]), peer.get("GroupName", ""))
        if owner == get_account_id():
            _group_of(peer["GroupId"])
        peer.pop("GroupName", None)
    return rule


def _wanted(request, group):
    """The rules in a request, in either of its two forms."""
    permissions = list(request.get("IpPermissions", []))
    if "IpProtocol" in request:
        flat = {member: request[member] for member in ("IpProtocol", "FromPort", "ToPort") if member in request}
        if "CidrIp" in request:
            flat["IpRanges"] = [{"CidrIp": request["CidrIp"]}]
        elif "SourceSecurityGroupName" in request:
            pair = {"GroupName": request["SourceSecurityGroupName"]}
            if "SourceSecurityGroupOwnerId" in request:
                pair["UserId"] = request["SourceSecurityGroupOwnerId"]
            flat["UserIdGroupPairs"] = [pair]
        permissions.append(flat)
    if not permissions:
        raise ApiError("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")
    for permission in permissions:
        if "IpProtocol" not in permission:
            raise ApiError("MissingParameter", "The request must contain the parameter ipProtocol")
    rules = [_checked(rule, group) for permission in permissions for rule in _one_per_peer(permission)]
    if not rules:
        raise ApiError("InvalidParameterValue", "A source or destination must be specified for each rule")
    return rules


# Responses

def _rule_view(group, egress, rule):
    kind, peer = _peer(rule)
    rule_id = rule["SecurityGroupRuleId"]
    return {
        "SecurityGroupRuleId": rule_id, "GroupId": group["GroupId"], "GroupOwnerId": group["OwnerId"],
        "IsEgress": egress, "IpProtocol": rule["IpProtocol"], "FromPort": rule.get("FromPort", -1),
        "ToPort": rule.get("ToPort", -1), "Description": peer.get("Description"),
        "CidrIpv4": peer.get("CidrIp"), "CidrIpv6": peer.get("CidrIpv6"), "PrefixListId": peer.get("PrefixListId"),
        "ReferencedGroupInfo": {member: peer.get(member) for member in (
            "GroupId", "UserId", "VpcId", "VpcPeeringConnectionId", "PeeringStatus")}
        if kind == "UserIdGroupPairs" else None,
        "SecurityGroupRuleArn": f"arn:aws:ec2:{get_region()}:{group['OwnerId']}:security-group-rule/{rule_id}",
        "Tags": ec2._tags.get(rule_id, [])}


def _revoked_view(group, egress, rule):
    view = _rule_view(group, egress, rule)
    referenced = (view["ReferencedGroupInfo"] or {}).get("GroupId")
    return {**{member: view[member] for member in ("SecurityGroupRuleId", "GroupId", "IsEgress", "IpProtocol",
                                                   "FromPort", "ToPort", "CidrIpv4", "CidrIpv6", "PrefixListId",
                                                   "Description")}, "ReferencedGroupId": referenced}


def _permissions(rules):
    """The rules as permissions: one per protocol and port range."""
    together = {}
    for rule in rules:
        kind, peer = _peer(rule)
        key = rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort")
        permission = together.setdefault(key, {"IpProtocol": key[0], "FromPort": key[1], "ToPort": key[2],
                                               **{other: [] for other in _PEERS}})
        permission[kind].append(peer)
    return list(together.values())


def _group_view(group):
    return {
        **{member: group[member] for member in ("GroupId", "GroupName", "Description", "VpcId", "OwnerId")},
        "IpPermissions": _permissions(_rules(group, False)),
        "IpPermissionsEgress": _permissions(_rules(group, True)),
        "SecurityGroupArn": ec2._security_group_arn(group["GroupId"]), "Tags": ec2._tags.get(group["GroupId"], [])}


# Groups

@EC2.action("CreateSecurityGroup")
def create(request):
    vpc_id = request.get("VpcId") or next((i for i, vpc in ec2._vpcs.items() if vpc["IsDefault"]), None)
    if vpc_id is None:
        raise ApiError("VPCIdNotSpecified", "No default VPC for this user")
    vpc, name = vpcs.vpc_of(vpc_id), request["GroupName"]
    if any((group["GroupName"], group["VpcId"]) == (name, vpc_id) for group in ec2._security_groups.values()):
        raise ApiError("InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{vpc_id}'")
    group_id = new_id("sg")
    ec2._security_groups[group_id] = {
        "GroupId": group_id, "GroupName": name, "Description": request["Description"], "VpcId": vpc_id,
        "OwnerId": get_account_id(), "IpPermissions": [],
        "IpPermissionsEgress": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
                                 "Ipv6Ranges": [{"CidrIpv6": "::/0"}] if vpcs.ipv6_blocks(vpc) else []}]}
    ec2._tags[group_id] = tags = tags_for("security-group", request)
    return {"GroupId": group_id, "SecurityGroupArn": ec2._security_group_arn(group_id), "Tags": tags}


@EC2.action("DeleteSecurityGroup")
def delete(request):
    group = _group(request)
    group_id = group["GroupId"]
    if group["GroupName"] == "default":
        raise ApiError("CannotDelete", f"the specified group: \"{group_id}\" name: \"default\" cannot be deleted by a "
                                       "user")
    used = (any(group_id in (balancer.get("SecurityGroups") or []) for balancer in alb._lbs.values())
            or any(other["GroupId"] == group_id for interface in ec2._network_interfaces.values()
                   for other in interface.get("Groups") or [])
            or any(_peer(rule)[1].get("GroupId") == group_id for other in ec2._security_groups.values()
                   if other is not group for egress in (False, True) for rule in _rules(other, egress)))
    if used:
        raise ApiError("DependencyViolation", f"resource {group_id} has a dependent object")
    del ec2._security_groups[group_id]
    ec2._tags.pop(group_id, None)
    return {"Return": True, "GroupId": group_id}


@EC2.action("DescribeSecurityGroups")
def describe(request):
    groups = [_group_of(i) for i in request["GroupIds"]] if "GroupIds" in request else ec2._security_groups.values()
    rows = [_group_view(group) for group in groups]
    if "GroupNames" in request:
        rows = [row for row in rows if row["GroupName"] in request["GroupNames"]]

    def peers(permissions, kind):
        return lambda row: [peer[_PEERS[kind]] for permission in row[permissions] for peer in permission[kind]]

    def members(permissions, member):
        return lambda row: [p[member] for p in row[permissions] if p[member] is not None]

    fields = {"group-id": "GroupId", "group-name": "GroupName", "vpc-id": "VpcId", "owner-id": "OwnerId",
              "description": "Description"}
    for prefix, permissions in (("ip-permission", "IpPermissions"), ("egress.ip-permission", "IpPermissionsEgress")):
        fields |= {f"{prefix}.cidr": peers(permissions, "IpRanges"),
                   f"{prefix}.ipv6-cidr": peers(permissions, "Ipv6Ranges"),
                   f"{prefix}.prefix-list-id": peers(permissions, "PrefixListIds"),
                   f"{prefix}.group-id": peers(permissions, "UserIdGroupPairs"),
                   f"{prefix}.protocol": members(permissions, "IpProtocol"),
                   f"{prefix}.from-port": members(permissions, "FromPort"),
                   f"{prefix}.to-port": members(permissions, "ToPort")}
    return ec2_page(request, "SecurityGroups", ec2_filter(request, rows, fields))


# Rules

@EC2.action("DescribeSecurityGroupRules")
def describe_rules(request):
    rows = [_rule_view(group, egress, rule) for group in ec2._security_groups.values() for egress in (False, True)
            for rule in _rules(group, egress)]
    wanted = request.get("SecurityGroupRuleIds")
    if wanted:
        _check_rule_ids(wanted, [row["SecurityGroupRuleId"] for row in rows])
        rows = [row for row in rows if row["SecurityGroupRuleId"] in wanted]
    rows = ec2_filter(request, rows, {"group-id": "GroupId", "security-group-rule-id": "SecurityGroupRuleId"})
    return ec2_page(request, "SecurityGroupRules", rows)


def _check_rule_ids(wanted, known):
    for rule_id in wanted:
        if not _RULE_ID.fullmatch(rule_id):
            raise ApiError("InvalidSecurityGroupRuleId.Malformed", f"The security group rule ID '{rule_id}' is "
                                                                   "malformed")
        if rule_id not in known:
            raise ApiError("InvalidSecurityGroupRuleId.NotFound", f"The security group rule ID '{rule_id}' does not "
                                                                  "exist")


def _authorize(request, egress):
    group = _group(request)
    rules, new = _rules(group, egress), _wanted(request, group)
    for rule in new:
        if _identity(rule) in [_identity(other) for other in rules]:
            protocol, first, last, _, peer = _identity(rule)
            ports = "" if first is None else f", from port: {first}, to port: {last}"
            raise ApiError("InvalidPermission.Duplicate", f"the specified rule \"peer: {peer}, "
                                                          f"{protocol.upper().replace('-1', 'ALL')}{ports}, ALLOW\" "
                                                          "already exists")
    for rule in new:
        rule["SecurityGroupRuleId"] = rule_id = new_id("sgr")
        ec2._tags[rule_id] = tags_for("security-group-rule", request)
        rules.append(rule)
    return {"Return": True, "SecurityGroupRules": [_rule_view(group, egress, rule) for rule in new]}


def _revoke(request, egress):
    """Revoke rules. A missing rule is an error; in a default VPC it is listed as unknown instead."""
    group = _group(request)
    rules, ids = _rules(group, egress), request.get("SecurityGroupRuleIds")
    if ids:
        _check_rule_ids(ids, [rule["SecurityGroupRuleId"] for rule in rules])
        revoked, unknown = [rule for rule in rules if rule["SecurityGroupRuleId"] in ids], []
    else:
        wanted, known = _wanted(request, group), [_identity(rule) for rule in rules]
        unknown = [rule for rule in wanted if _identity(rule) not in known]
        if unknown and not ec2._vpcs.get(group["VpcId"], {}).get("IsDefault"):
            raise ApiError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
        identities = [_identity(rule) for rule in wanted]
        revoked = [rule for rule in rules if _identity(rule) in identities]
    rules[:] = [rule for rule in rules if rule not in revoked]
    for rule in revoked:
        ec2._tags.pop(rule["SecurityGroupRuleId"], None)
    return {"Return": not unknown, "UnknownIpPermissions": _permissions(unknown) or None,
            "RevokedSecurityGroupRules": [_revoked_view(group, egress, rule) for rule in revoked]}


@EC2.action("AuthorizeSecurityGroupIngress")
def authorize_ingress(request):
    return _authorize(request, egress=False)


@EC2.action("AuthorizeSecurityGroupEgress")
def authorize_egress(request):
    return _authorize(request, egress=True)


@EC2.action("RevokeSecurityGroupIngress")
def revoke_ingress(request):
    return _revoke(request, egress=False)


@EC2.action("RevokeSecurityGroupEgress")
def revoke_egress(request):
    return _revoke(request, egress=True)


@EC2.action("ModifySecurityGroupRules")
def modify_rules(request):
    """Replace each rule with the request's. It keeps its id."""
    group = _group(request)
    known = {rule["SecurityGroupRuleId"]: rule for egress in (False, True) for rule in _rules(group, egress)}
    _check_rule_ids([update["SecurityGroupRuleId"] for update in request["SecurityGroupRules"]], known)
    changes = [(known[update["SecurityGroupRuleId"]], _modified(update.get("SecurityGroupRule", {}), group))
               for update in request["SecurityGroupRules"]]
    for rule, changed in changes:
        rule_id = rule["SecurityGroupRuleId"]
        rule.clear()
        rule.update(changed, SecurityGroupRuleId=rule_id)
    return {"Return": True}


def _modified(asked, group):
    peers = {"IpRanges": ("CidrIp", "CidrIpv4"), "Ipv6Ranges": ("CidrIpv6", "CidrIpv6"),
             "PrefixListIds": ("PrefixListId", "PrefixListId"), "UserIdGroupPairs": ("GroupId", "ReferencedGroupId")}
    permission = {member: asked[member] for member in ("IpProtocol", "FromPort", "ToPort") if member in asked}
    for kind, (member, asked_member) in peers.items():
        if asked_member in asked:
            permission[kind] = [{member: asked[asked_member]}]
            if "Description" in asked:
                permission[kind][0]["Description"] = asked["Description"]
    rules = list(_one_per_peer(permission))
    if len(rules) != 1 or "IpProtocol" not in permission:
        raise ApiError("InvalidParameterValue", "A security group rule must have a protocol and exactly one of a "
                                                "CIDR, a prefix list and a security group")
    return _checked(rules[0], group)
