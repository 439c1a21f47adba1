"""EC2: flow logs of network interfaces, subnets and VPCs. Tests write the records, since there is no traffic."""
import time
from datetime import datetime

from ministack.core.responses import get_account_id
from ministack.services import cloudwatch_logs, ec2

from . import clock, network_interfaces
from .endpoint_services import new_id, tags_for
from .metrics import scope
from .paging import ec2_filter, ec2_page
from .wire import EC2, ApiError

_DEFAULT_FORMAT = ("${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} "
                   "${packets} ${bytes} ${start} ${end} ${action} ${log-status}")
_KINDS = {"VPC": "vpc-", "Subnet": "subnet-", "NetworkInterface": "eni-"}


def _interfaces():
    return {row["NetworkInterfaceId"]: row for row in network_interfaces.all_views()}


def _exists(resource_id):
    return resource_id in ec2._vpcs or resource_id in ec2._subnets or resource_id in _interfaces()


def _destination(request):
    """The requested log group or bucket, in the form of DescribeFlowLogs."""
    kind = request.get("LogDestinationType", "cloud-watch-logs")
    if kind not in ("cloud-watch-logs", "s3", "kinesis-data-firehose"):
        raise ApiError("InvalidParameter", f"Unknown Log Destination Type {kind}")
    group, arn = request.get("LogGroupName"), request.get("LogDestination")
    if (group is None) == (arn is None):
        raise ApiError("InvalidParameter", "Please specify either LogDestination or LogGroupName")
    if kind != "cloud-watch-logs":
        return {"LogDestinationType": kind, "LogDestination": arn}
    if "DeliverLogsPermissionArn" not in request:
        raise ApiError("InvalidParameter", "DeliverLogsPermissionArn can't be empty if LogDestinationType is "
                                           "cloud-watch-logs")
    named = group or arn.split(":log-group:")[-1].removesuffix(":*")
    return {"LogDestinationType": kind, "LogDestination": arn, "LogGroupName": named}


@EC2.action("CreateFlowLogs")
def create(request):
    kind, interval = request["ResourceType"], request.get("MaxAggregationInterval", 600)
    if kind not in _KINDS or request.get("TrafficType") not in ("ALL", "ACCEPT", "REJECT") or interval not in (60, 600):
        raise ApiError("InvalidParameter", "ResourceType, TrafficType or MaxAggregationInterval is invalid")
    flow_log = {**_destination(request), "TrafficType": request["TrafficType"], "MaxAggregationInterval": interval,
                "LogFormat": request.get("LogFormat", _DEFAULT_FORMAT), "FlowLogStatus": "ACTIVE",
                "DeliverLogsStatus": "SUCCESS", "DeliverLogsPermissionArn": request.get("DeliverLogsPermissionArn")}
    created, unsuccessful = [], []
    for resource_id in request["ResourceIds"]:
        if not resource_id.startswith(_KINDS[kind]) or not _exists(resource_id):
            unsuccessful.append({"ResourceId": resource_id, "Error": {
                "Code": "InvalidResourceId.NotFound", "Message": f"The resource {resource_id} does not exist"}})
            continue
        flow_log_id = new_id("fl")
        ec2._flow_logs[flow_log_id] = {**flow_log, "FlowLogId": flow_log_id, "ResourceId": resource_id,
                                       "CreationTime": clock.iso()}
        ec2._tags[flow_log_id] = tags_for("vpc-flow-log", request)
        created.append(flow_log_id)
    return {"FlowLogIds": created, "Unsuccessful": unsuccessful}


@EC2.action("DescribeFlowLogs")
def describe(request):
    wanted = request.get("FlowLogIds", [])
    for flow_log_id in wanted:
        if flow_log_id not in ec2._flow_logs:
            raise ApiError("InvalidFlowLogId.NotFound", f"The flow log {flow_log_id} does not exist")
    rows = [{**flow_log, "Tags": ec2._tags.get(flow_log_id, [])} for flow_log_id, flow_log in ec2._flow_logs.items()
            if not wanted or flow_log_id in wanted]
    # Only this call names its list of filters Filter.
    rows = ec2_filter({"Filters": request.get("Filter", [])}, rows, {
        "deliver-log-status": "DeliverLogsStatus", "log-destination-type": "LogDestinationType",
        "flow-log-id": "FlowLogId", "log-group-name": "LogGroupName", "resource-id": "ResourceId",
        "traffic-type": "TrafficType"})
    return ec2_page(request, "FlowLogs", rows)


@EC2.action("DeleteFlowLogs")
def delete(request):
    unknown = [flow_log_id for flow_log_id in request["FlowLogIds"] if flow_log_id not in ec2._flow_logs]
    for flow_log_id in request["FlowLogIds"]:
        ec2._flow_logs.pop(flow_log_id, None)
        ec2._tags.pop(flow_log_id, None)
    return {"Unsuccessful": [{"ResourceId": flow_log_id, "Error": {
        "Code": "InvalidFlowLogId.NotFound", "Message": f"The flow log {flow_log_id} does not exist"}}
        for flow_log_id in unknown]}


# Records

def record(interface_id, source, destination, action="ACCEPT", packets=1, at=None, **where):
    """Write a TCP flow's record, `ADDRESS:PORT` to `ADDRESS:PORT`, to all flow logs that cover the interface."""
    end = datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() if at else time.time()
    (from_address, _, from_port), (to_address, _, to_port) = source.rpartition(":"), destination.rpartition(":")
    with scope(**where):
        interface = _interfaces()[interface_id]
        fields = {"version": 2, "account-id": get_account_id(), "interface-id": interface_id, "srcaddr": from_address,
                  "dstaddr": to_address, "srcport": from_port, "dstport": to_port, "protocol": 6, "packets": packets,
                  "bytes": 60 * packets, "start": int(end), "end": int(end) + 30, "action": action,
                  "log-status": "OK", "vpc-id": interface["VpcId"], "subnet-id": interface["SubnetId"]}
        places = (interface_id, interface["SubnetId"], interface["VpcId"])
        covering = [flow_log for flow_log in ec2._flow_logs.values() if flow_log["ResourceId"] in places
                    and flow_log["TrafficType"] in ("ALL", action) and "LogGroupName" in flow_log]
        for flow_log in covering:
            _write(flow_log["LogGroupName"], f"{interface_id}-{flow_log['TrafficType'].lower()}",
                   _formatted(flow_log["LogFormat"], fields), int(end * 1000))
        return {"FlowLogs": [flow_log["FlowLogId"] for flow_log in covering]}


def _formatted(log_format, fields):
    """The record's text. A field that is unknown here is `-`, like one that does not apply to a flow."""
    return " ".join(str(fields.get(name.strip("${}"), "-")) for name in log_format.split())


def _write(group, stream, message, milliseconds):
    """Write a record. The flow logs' service creates its log group and streams."""
    cloudwatch_logs._create_log_group({"logGroupName": group})
    cloudwatch_logs._create_log_stream({"logGroupName": group, "logStreamName": stream})
    status, _, body = cloudwatch_logs._put_log_events({"logGroupName": group, "logStreamName": stream, "logEvents": [
        {"timestamp": milliseconds, "message": message}]})
    if status != 200:
        raise ValueError(body)
