"""EC2: VPC peering connections, also across accounts and Regions. Both sides see the same state."""
import ipaddress
import time

from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2

from . import clock, vpcs
from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_EXPIRES_AFTER = 7 * 24 * 3600  # seconds until a request expires


def _peering(peering_id):
    if peering_id not in ec2._vpc_peering:
        raise ApiError("InvalidVpcPeeringConnectionID.NotFound",
                       f"The vpcPeeringConnection ID '{peering_id}' does not exist")
    return ec2._vpc_peering[peering_id]


def _vpc(side):
    return ec2._vpcs.get_scoped(side["OwnerId"], side["Region"], side["VpcId"])


def _side(row, name, with_blocks):
    side = {member: row[name][member] for member in ("OwnerId", "VpcId", "Region")}
    vpc = _vpc(side)
    if with_blocks and vpc:
        blocks = vpcs.ipv4_blocks(vpc)
        side |= {"CidrBlock": blocks[0], "CidrBlockSet": [{"CidrBlock": block} for block in blocks]}
    return side


def _view(row):
    code = row["Status"]["Code"]
    return {
        "VpcPeeringConnectionId": row["VpcPeeringConnectionId"], "Status": row["Status"],
        "RequesterVpcInfo": _side(row, "RequesterVpcInfo", True),
        "AccepterVpcInfo": _side(row, "AccepterVpcInfo", code == "active"),
        "ExpirationTime": row["ExpirationTime"] if code == "pending-acceptance" else None,
        "Tags": ec2._tags.get(row["VpcPeeringConnectionId"], [])}


def _require(row, *codes):
    if row["Status"]["Code"] not in codes:
        raise ApiError("InvalidStateTransition", f"Invalid state transition for {row['VpcPeeringConnectionId']}, "
                                                 f"attempted to transition from {row['Status']['Code']}")


@EC2.action("CreateVpcPeeringConnection")
def create(request):
    """Create a peering. The call succeeds but the peering fails if the CIDRs overlap or the peer VPC does not exist."""
    vpc, peer = vpcs.vpc_of(request["VpcId"]), {
        "VpcId": request["PeerVpcId"], "OwnerId": request.get("PeerOwnerId", get_account_id()),
        "Region": request.get("PeerRegion", get_region())}
    peering_id = new_id("pcx")
    row = {"VpcPeeringConnectionId": peering_id, "AccepterVpcInfo": peer,
           "RequesterVpcInfo": {"VpcId": vpc["VpcId"], "OwnerId": get_account_id(), "Region": get_region()},
           "Status": {"Code": "pending-acceptance", "Message": f"Pending Acceptance by {peer['OwnerId']}"},
           "ExpirationTime": clock.iso(time.time() + _EXPIRES_AFTER)}
    answer = _view({**row, "Status": {"Code": "initiating-request",
                                      "Message": f"Initiating Request to {peer['OwnerId']}"}})
    other = _vpc(peer)
    if not other or any(ipaddress.ip_network(mine, strict=False).overlaps(ipaddress.ip_network(theirs, strict=False))
                        for mine in vpcs.ipv4_blocks(vpc) for theirs in vpcs.ipv4_blocks(other)):
        row["Status"] = {"Code": "failed", "Message": "Failed due to incorrect VPC-ID, Account ID, or overlapping "
                                                      "CIDR range"}
    ec2._put_vpc_peering_record(row)
    ec2._tags[peering_id] = answer["Tags"] = tags_for("vpc-peering-connection", request)
    return {"VpcPeeringConnection": answer}


@EC2.action("AcceptVpcPeeringConnection")
def accept(request):
    row = _peering(request["VpcPeeringConnectionId"])
    side = row["AccepterVpcInfo"]
    if (side["OwnerId"], side["Region"]) != (get_account_id(), get_region()):
        raise ApiError("OperationNotPermitted", f"User {get_account_id()} cannot accept peering "
                                                f"{row['VpcPeeringConnectionId']}")
    _require(row, "pending-acceptance")
    ec2._set_vpc_peering_status(row, "active", "Active")
    return {"VpcPeeringConnection": _view({**row, "Status": {"Code": "provisioning", "Message": "Provisioning"}})}


@EC2.action("RejectVpcPeeringConnection")
def reject(request):
    row = _peering(request["VpcPeeringConnectionId"])
    _require(row, "pending-acceptance")
    ec2._set_vpc_peering_status(row, "rejected", f"Rejected by {get_account_id()}")
    return {"Return": True}


@EC2.action("DeleteVpcPeeringConnection")
def delete(request):
    """Delete a peering. AWS lists it for a while; here it stays listed."""
    row = _peering(request["VpcPeeringConnectionId"])
    _require(row, "active", "pending-acceptance")
    ec2._set_vpc_peering_status(row, "deleted", f"Deleted by {get_account_id()}")
    return {"Return": True}


@EC2.action("DescribeVpcPeeringConnections")
def describe(request):
    rows = ([_peering(i) for i in request["VpcPeeringConnectionIds"]] if "VpcPeeringConnectionIds" in request
            else ec2._vpc_peering.values())

    def of(side, member):
        return lambda row: row[side].get(member)

    fields = {"vpc-peering-connection-id": "VpcPeeringConnectionId",
              "status-code": lambda row: row["Status"]["Code"],
              "status-message": lambda row: row["Status"]["Message"]}
    for prefix, side in (("requester-vpc-info", "RequesterVpcInfo"), ("accepter-vpc-info", "AccepterVpcInfo")):
        fields |= {f"{prefix}.vpc-id": of(side, "VpcId"), f"{prefix}.owner-id": of(side, "OwnerId"),
                   f"{prefix}.cidr-block": of(side, "CidrBlock")}
    return ec2_page(request, "VpcPeeringConnections", ec2_filter(request, [_view(row) for row in rows], fields))
