"""EC2: transit gateways and their VPC attachments, as far as routes need them."""
from ministack.core.responses import AccountRegionScopedDict, get_account_id, get_region
from ministack.services import ec2

from . import clock, vpcs
from .endpoint_services import new_id, tags_for
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_gateways = AccountRegionScopedDict()
_attachments = AccountRegionScopedDict()


def reach(gateway_id, vpc_id):
    """Whether the transit gateway exists, and whether the VPC is attached to it."""
    return gateway_id in _gateways, any(
        (attachment["TransitGatewayId"], attachment["VpcId"]) == (gateway_id, vpc_id)
        for attachment in _attachments.values())


def _one(store, resource_id, code):
    if resource_id not in store:
        raise ApiError(code, f"The ID '{resource_id}' does not exist")
    return store[resource_id]


def _gateway(gateway_id):
    return _one(_gateways, gateway_id, "InvalidTransitGatewayID.NotFound")


def _attachment(attachment_id):
    return _one(_attachments, attachment_id, "InvalidTransitGatewayAttachmentID.NotFound")


def _view(row, id_member, state="available"):
    return {**row, "State": state, "Tags": ec2._tags.get(row[id_member], [])}


@EC2.action("CreateTransitGateway")
def create(request):
    gateway_id = new_id("tgw")
    _gateways[gateway_id] = row = {
        "TransitGatewayId": gateway_id, "OwnerId": get_account_id(), "CreationTime": clock.iso(),
        "TransitGatewayArn": f"arn:aws:ec2:{get_region()}:{get_account_id()}:transit-gateway/{gateway_id}",
        "Description": request.get("Description")}
    ec2._tags[gateway_id] = tags_for("transit-gateway", request)
    return {"TransitGateway": _view(row, "TransitGatewayId", "pending")}


@EC2.action("DescribeTransitGateways")
def describe(request):
    rows = ([_gateway(i) for i in request["TransitGatewayIds"]] if "TransitGatewayIds" in request
            else _gateways.values())
    rows = ec2_filter(request, [_view(row, "TransitGatewayId") for row in rows], {
        "transit-gateway-id": "TransitGatewayId", "state": "State", "owner-id": "OwnerId"})
    return ec2_page(request, "TransitGateways", rows)


@EC2.action("DeleteTransitGateway")
def delete(request):
    row = _gateway(request["TransitGatewayId"])
    if any(attachment["TransitGatewayId"] == row["TransitGatewayId"] for attachment in _attachments.values()):
        raise ApiError("IncorrectState", f"{row['TransitGatewayId']} has non-deleted VPC Attachments")
    del _gateways[row["TransitGatewayId"]]
    return {"TransitGateway": _view(row, "TransitGatewayId", "deleting")}


@EC2.action("CreateTransitGatewayVpcAttachment")
def attach(request):
    gateway, vpc = _gateway(request["TransitGatewayId"]), vpcs.vpc_of(request["VpcId"])
    if reach(gateway["TransitGatewayId"], vpc["VpcId"])[1]:
        raise ApiError("DuplicateTransitGatewayAttachment", f"{gateway['TransitGatewayId']} has an attachment to "
                                                            f"{vpc['VpcId']}")
    subnets = [vpcs.subnet_of(subnet)["SubnetId"] for subnet in request["SubnetIds"]]
    attachment_id = new_id("tgw-attach")
    _attachments[attachment_id] = row = {
        "TransitGatewayAttachmentId": attachment_id, "TransitGatewayId": gateway["TransitGatewayId"],
        "VpcId": vpc["VpcId"], "VpcOwnerId": vpc["OwnerId"], "SubnetIds": subnets, "CreationTime": clock.iso()}
    ec2._tags[attachment_id] = tags_for("transit-gateway-attachment", request)
    return {"TransitGatewayVpcAttachment": _view(row, "TransitGatewayAttachmentId", "pending")}


@EC2.action("DescribeTransitGatewayVpcAttachments")
def describe_attachments(request):
    rows = ([_attachment(i) for i in request["TransitGatewayAttachmentIds"]]
            if "TransitGatewayAttachmentIds" in request else _attachments.values())
    rows = ec2_filter(request, [_view(row, "TransitGatewayAttachmentId") for row in rows], {
        "transit-gateway-attachment-id": "TransitGatewayAttachmentId", "transit-gateway-id": "TransitGatewayId",
        "vpc-id": "VpcId", "state": "State"})
    return ec2_page(request, "TransitGatewayVpcAttachments", rows)


@EC2.action("DeleteTransitGatewayVpcAttachment")
def detach(request):
    row = _attachment(request["TransitGatewayAttachmentId"])
    del _attachments[row["TransitGatewayAttachmentId"]]
    return {"TransitGatewayVpcAttachment": _view(row, "TransitGatewayAttachmentId", "deleting")}
