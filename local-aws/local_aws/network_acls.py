"""EC2: network ACLs. Every subnet has one, initially its VPC's default. Entries have port ranges."""
from ministack.core.responses import get_account_id
from ministack.services import ec2

from . import vpcs
from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_PROTOCOL_NUMBERS = {"all": "-1", "icmp": "1", "tcp": "6", "udp": "17", "icmpv6": "58"}
_LAST_ENTRY = 32767  # `*` in the console: denies traffic that no other entry matches


def _acl(acl_id):
    if acl_id not in ec2._network_acls:
        raise ApiError("InvalidNetworkAclID.NotFound", f"The networkAcl ID '{acl_id}' does not exist")
    return ec2._network_acls[acl_id]


def _association(subnet):
    """The subnet's association, stored in its record. Initially, it is with the VPC's default network ACL."""
    if "NetworkAclAssociation" not in subnet:
        subnet["NetworkAclAssociation"] = {
            "NetworkAclAssociationId": new_id("aclassoc"), "SubnetId": subnet["SubnetId"],
            "NetworkAclId": ec2._vpcs[subnet["VpcId"]]["DefaultNetworkAclId"]}
    return subnet["NetworkAclAssociation"]


def _associations():
    return [_association(subnet) for subnet in ec2._subnets.values() if subnet["VpcId"] in ec2._vpcs]


def _view(acl):
    return {
        "NetworkAclId": acl["NetworkAclId"], "VpcId": acl["VpcId"], "IsDefault": acl["IsDefault"],
        "OwnerId": acl["OwnerId"], "Tags": ec2._tags.get(acl["NetworkAclId"], []),
        "Associations": [a for a in _associations() if a["NetworkAclId"] == acl["NetworkAclId"]],
        "Entries": sorted(acl["Entries"], key=lambda entry: (not entry["Egress"], entry["RuleNumber"]))}


@EC2.action("DescribeNetworkAcls")
def describe(request):
    acls = [_acl(i) for i in request["NetworkAclIds"]] if "NetworkAclIds" in request else ec2._network_acls.values()

    def associated(member):
        return lambda row: [association[member] for association in row["Associations"]]

    rows = ec2_filter(request, [_view(acl) for acl in acls], {
        "network-acl-id": "NetworkAclId", "vpc-id": "VpcId", "owner-id": "OwnerId", "default": "IsDefault",
        "association.subnet-id": associated("SubnetId"), "association.network-acl-id": associated("NetworkAclId"),
        "association.association-id": associated("NetworkAclAssociationId")})
    return ec2_page(request, "NetworkAcls", rows)


@EC2.action("CreateNetworkAcl")
def create(request):
    """Create a network ACL, which denies everything."""
    vpcs.vpc_of(request["VpcId"])
    acl_id = new_id("acl")
    ec2._network_acls[acl_id] = acl = {
        "NetworkAclId": acl_id, "VpcId": request["VpcId"], "IsDefault": False, "OwnerId": get_account_id(),
        "Associations": [], "Tags": [], "Entries": [
            {"RuleNumber": _LAST_ENTRY, "Protocol": "-1", "RuleAction": "deny", "Egress": egress,
             "CidrBlock": "0.0.0.0/0"} for egress in (True, False)]}
    ec2._tags[acl_id] = tags_for("network-acl", request)
    return {"NetworkAcl": _view(acl)}


@EC2.action("DeleteNetworkAcl")
def delete(request):
    acl = _acl(request["NetworkAclId"])
    if _view(acl)["Associations"] or acl["IsDefault"]:
        raise ApiError("DependencyViolation", f"The networkAcl '{acl['NetworkAclId']}' has dependencies and cannot be "
                                              "deleted.")
    del ec2._network_acls[acl["NetworkAclId"]]


@EC2.action("ReplaceNetworkAclAssociation")
def replace_association(request):
    _acl(request["NetworkAclId"])
    for association in _associations():
        if association["NetworkAclAssociationId"] == request["AssociationId"]:
            association.update(NetworkAclAssociationId=new_id("aclassoc"), NetworkAclId=request["NetworkAclId"])
            return {"NewAssociationId": association["NetworkAclAssociationId"]}
    raise ApiError("InvalidAssociationID.NotFound", f"The association ID '{request['AssociationId']}' does not exist")


def _same(entry, request):
    return (entry["RuleNumber"], entry["Egress"]) == (request["RuleNumber"], request["Egress"])


def _entry(request):
    protocol = request["Protocol"].lower()
    return {**{member: request.get(member) for member in ("RuleNumber", "RuleAction", "Egress", "CidrBlock",
                                                          "Ipv6CidrBlock", "PortRange", "IcmpTypeCode")},
            "Protocol": _PROTOCOL_NUMBERS.get(protocol, protocol)}


@EC2.action("CreateNetworkAclEntry")
def create_entry(request):
    entries = _acl(request["NetworkAclId"])["Entries"]
    if any(_same(entry, request) for entry in entries):
        raise ApiError("NetworkAclEntryAlreadyExists", "The network acl entry identified by "
                                                       f"{request['RuleNumber']} already exists.")
    entries.append(_entry(request))


@EC2.action("ReplaceNetworkAclEntry")
def replace_entry(request):
    delete_entry(request)
    create_entry(request)


@EC2.action("DeleteNetworkAclEntry")
def delete_entry(request):
    entries = _acl(request["NetworkAclId"])["Entries"]
    kept = [entry for entry in entries if not _same(entry, request)]
    if len(kept) == len(entries):
        raise ApiError("InvalidNetworkAclEntry.NotFound", "The network acl entry identified by "
                                                          f"{request['RuleNumber']} does not exist.")
    entries[:] = kept
