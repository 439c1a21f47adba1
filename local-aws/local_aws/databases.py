"""RDS: DB instances and Aurora clusters with names that resolve, an address in each zone, and failovers.

ministack has the records. Here, a name of a database resolves to private addresses (`dns.py`), each of an interface in
the VPC; a failover takes its time, moves the name and sends RDS's events; and answers have the members of botocore's
model only. Nothing listens at the addresses.
"""
import base64
import contextvars
import hashlib
import html
import re
import secrets
import threading
import time

from botocore.serialize import create_serializer
from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2, rds

from . import clock, database_events, delays, dns, network_interfaces, vpcs
from .paging import rds_page
from .wire import RDS, ApiError, UseMinistack

_ministack = dict(rds._ACTION_MAP)
_to_form = create_serializer("query").serialize_to_request


def _carry_out(action, request):
    """Let ministack carry out the action."""
    form = _to_form(request, RDS.model.operation_model(action))["body"]
    status, _, body = _ministack[action](form)
    if status >= 300:
        code, message = (html.unescape(re.search(f"<{name}>(.*?)</{name}>", body.decode(), re.DOTALL)[1])
                         for name in ("Code", "Message"))
        raise ApiError(code, message, status)


def _view(shape, record):
    """The members of ministack's record that the shape has, and that have a value."""
    if shape.type_name == "structure":
        return {name: _view(member, record[name]) for name, member in shape.members.items()
                if record.get(name) not in (None, "")}
    return [_view(shape.member, item) for item in record] if shape.type_name == "list" else record


def _instance_view(instance):
    return {"DBInstance": _view(RDS.model.shape_for("DBInstance"), instance)}


def _cluster_view(cluster):
    members = [{**member, "DBClusterParameterGroupStatus": "in-sync"} for member in cluster["DBClusterMembers"]]
    custom = [endpoint["Endpoint"] for endpoint in _custom_endpoints(cluster).values()]
    return {"DBCluster": _view(RDS.model.shape_for("DBCluster"),
                               {**cluster, "DBClusterMembers": members, "CustomEndpoints": custom})}


def _instance(identifier):
    found = rds._resolve_instance(identifier)
    if not found:
        raise ApiError("DBInstanceNotFound", f"DBInstance {identifier} not found.", 404)
    return found


def _cluster(identifier):
    found = rds._resolve_cluster_in_request_region(identifier)
    if not found:
        raise ApiError("DBClusterNotFoundFault", f"DBCluster {identifier} not found.", 404)
    return found


def _endpoint(identifier, kind=""):
    """An endpoint's name. Its second label has a hash that the databases of an account in a Region have in common.

    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html
    """
    digest = hashlib.sha256(f"{get_account_id()} {get_region()}".encode()).digest()
    suffix = f"c{base64.b32encode(digest).decode()[:11]}.{get_region()}.rds.amazonaws.com"
    return f"{identifier}.{kind}{suffix}".lower()


def _subnet_group(name):
    """The DB subnet group. The group `default` has the subnets of the default VPC."""
    if name == "default" and name not in rds._subnet_groups:
        ec2._ensure_defaults_initialized()
        subnets = [subnet["SubnetId"] for subnet in ec2._subnets.values() if subnet["DefaultForAz"]]
        _carry_out("CreateDBSubnetGroup", {"DBSubnetGroupName": name, "DBSubnetGroupDescription": name,
                                           "SubnetIds": subnets})
    if name not in rds._subnet_groups:
        raise ApiError("DBSubnetGroupNotFoundFault", f"DB subnet group '{name}' does not exist.", 404)
    return rds._subnet_groups[name]


def _security_groups(request, vpc_id):
    """The requested security groups, or the VPC's default one."""
    ids = request.get("VpcSecurityGroupIds") or [vpcs.default_security_group(vpc_id)]
    network_interfaces.groups_of(ids)  # raises if one does not exist
    return [{"VpcSecurityGroupId": group_id, "Status": "active"} for group_id in ids]


def _filters(request):
    return {wanted["Name"]: wanted["Values"] for wanted in request.get("Filters", [])}


# DB instances

@RDS.action("CreateDBInstance")
def create_instance(request):
    cluster = _cluster(request["DBClusterIdentifier"]) if "DBClusterIdentifier" in request else None
    group = _subnet_group(cluster["DBSubnetGroup"] if cluster else request.get("DBSubnetGroupName", "default"))
    subnets = {subnet["SubnetAvailabilityZone"]["Name"]: ec2._subnets[subnet["SubnetIdentifier"]]
               for subnet in group["Subnets"]}
    zone, standby = _zones(request, subnets, cluster)
    security = cluster["VpcSecurityGroups"] if cluster else _security_groups(request, group["VpcId"])
    _carry_out("CreateDBInstance", request)
    instance = _instance(request["DBInstanceIdentifier"])
    interfaces = {place: network_interfaces.add_of_database(
        subnets[place], [membership["VpcSecurityGroupId"] for membership in security])
        for place in (zone, standby) if place}
    port = cluster["Port"] if cluster else request.get("Port") or rds._default_port(instance["Engine"])
    instance["Endpoint"] |= {"Address": _endpoint(instance["DBInstanceIdentifier"]), "Port": port}
    instance.update(
        AvailabilityZone=zone, SecondaryAvailabilityZone=standby, DBSubnetGroup=group, VpcSecurityGroups=security,
        Interfaces=interfaces, ZoneInDns=zone)
    if cluster and len(cluster["DBClusterMembers"]) == 1:
        cluster["WriterInDns"] = instance["DBInstanceIdentifier"]
    return _instance_view(instance)


def _zones(request, subnets, cluster):
    """The zone of a new DB instance, and that of its standby, if it has one."""
    zone = request.get("AvailabilityZone") or _free_zone(subnets, cluster)
    other = next((other for other in subnets if other != zone), None)
    multi_az = request.get("MultiAZ", False)
    if zone not in subnets or (multi_az and not other):
        raise ApiError("DBSubnetGroupDoesNotCoverEnoughAZs", "The DB subnet group does not cover enough Availability "
                                                             "Zones")
    return zone, other if multi_az else None


def _free_zone(subnets, cluster):
    """A zone in which the cluster has no instance, if there is one."""
    taken = {_instance(member["DBInstanceIdentifier"])["AvailabilityZone"]
             for member in cluster["DBClusterMembers"]} if cluster else ()
    return next((zone for zone in subnets if zone not in taken), next(iter(subnets)))


@RDS.action("DescribeDBInstances")
def describe_instances(request):
    wanted = request.get("DBInstanceIdentifier")
    instances = [_instance(wanted)] if wanted else rds._instances.values()
    found = rds._apply_instance_filters(instances, _filters(request))
    return rds_page(request, "DBInstances", [_instance_view(instance)["DBInstance"] for instance in found])


@RDS.action("DeleteDBInstance")
def delete_instance(request):
    instance = _instance(request["DBInstanceIdentifier"])
    _carry_out("DeleteDBInstance", request)
    for interface in instance["Interfaces"].values():
        network_interfaces.remove(interface["NetworkInterfaceId"])
    return _instance_view(instance)


@RDS.action("RebootDBInstance")
def reboot(request):
    if not request.get("ForceFailover"):
        raise UseMinistack
    instance = _instance(request["DBInstanceIdentifier"])
    if not instance["MultiAZ"]:
        raise ApiError("InvalidParameterCombination", "Cannot force failover on a single-AZ instance.")
    if instance["DBInstanceStatus"] != "available":
        raise ApiError("InvalidDBInstanceState", f"Instance {instance['DBInstanceIdentifier']} is not in available "
                                                 "state.")
    instance["DBInstanceStatus"] = "rebooting"
    _play((0.25, lambda: database_events.of_instance(instance, "RDS-EVENT-0013")),
          (0.5, lambda: database_events.of_instance(instance, "RDS-EVENT-0006")),
          (1, lambda: _change_to_standby(instance)))
    return _instance_view(instance)


def _change_to_standby(instance):
    """Exchange the zones of the DB instance and its standby. DNS follows."""
    old, new = instance["AvailabilityZone"], instance["SecondaryAvailabilityZone"]
    instance.update(AvailabilityZone=new, SecondaryAvailabilityZone=old)
    _in_dns(lambda: instance.update(ZoneInDns=new))
    instance["DBInstanceStatus"] = "available"
    database_events.of_instance(instance, "RDS-EVENT-0049")


# Time

def _play(*steps):
    """Take each step so many of this server's minutes from now, by its clock. On AWS, a failover takes one to two
    minutes for a Multi-AZ instance, and about half a minute for Aurora.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZ.Failover.html
    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Concepts.AuroraHighAvailability.html
    """
    start, context = clock.now(), contextvars.copy_context()

    def play():
        for minutes, step in steps:
            while clock.now() < start + clock.minutes(minutes):
                time.sleep(0.02)
            context.run(step)

    threading.Thread(target=play, daemon=True, name="failover").start()


def _in_dns(change):
    """Change what DNS shows, after its delay."""
    if delays.DNS:
        _play((delays.DNS / clock.SECONDS_PER_MINUTE, change))
    else:
        change()


# Aurora clusters

@RDS.action("CreateDBCluster")
def create_cluster(request):
    group = _subnet_group(request.get("DBSubnetGroupName", "default"))
    security = _security_groups(request, group["VpcId"])
    _carry_out("CreateDBCluster", request)
    cluster = _cluster(request["DBClusterIdentifier"])
    identifier = cluster["DBClusterIdentifier"]
    cluster.update(
        Endpoint=_endpoint(identifier, "cluster-"), ReaderEndpoint=_endpoint(identifier, "cluster-ro-"),
        VpcSecurityGroups=security)
    return _cluster_view(cluster)


@RDS.action("DescribeDBClusters")
def describe_clusters(request):
    wanted = request.get("DBClusterIdentifier")
    clusters = [_cluster(wanted)] if wanted else rds._clusters.values()
    found = rds._apply_cluster_filters(clusters, _filters(request))
    return rds_page(request, "DBClusters", [_cluster_view(cluster)["DBCluster"] for cluster in found])


@RDS.action("FailoverDBCluster")
def fail_over(request):
    """Promote a reader. Its zone decides which event says so."""
    cluster = _cluster(request["DBClusterIdentifier"])
    before = [dict(member) for member in cluster["DBClusterMembers"]]
    _carry_out("FailoverDBCluster", request)  # ministack checks the request, and promotes the reader at once
    after, cluster["DBClusterMembers"] = cluster["DBClusterMembers"], before
    cluster["Status"] = "failing-over"
    old, new = _instance(_writer(before)), _instance(_writer(after))
    name = new["DBInstanceIdentifier"]
    same_zone = old["AvailabilityZone"] == new["AvailabilityZone"]
    started = "RDS-EVENT-0072" if same_zone else "RDS-EVENT-0073"
    _play((0, lambda: database_events.of_cluster(cluster, started, name)),
          (0.5, lambda: _promote(cluster, after, (old, new))))
    return _cluster_view(cluster)


def _writer(members):
    return next(member["DBInstanceIdentifier"] for member in members if member["IsClusterWriter"])


def _promote(cluster, members, restarted):
    """Change the writer. The old one restarts as a reader. DNS follows."""
    name = _writer(members)
    cluster["DBClusterMembers"] = members
    _in_dns(lambda: cluster.update(WriterInDns=name))
    cluster["Status"] = "available"
    for instance in restarted:
        database_events.of_instance(instance, "RDS-EVENT-0006")
    database_events.of_cluster(cluster, "RDS-EVENT-0071", name)


# Custom endpoints of Aurora clusters

def _custom_endpoints(cluster):
    return cluster.setdefault("CustomEndpoints", {})


@RDS.action("CreateDBClusterEndpoint")
def create_endpoint(request):
    cluster, identifier = _cluster(request["DBClusterIdentifier"]), request["DBClusterEndpointIdentifier"]
    if request["EndpointType"] not in ("READER", "ANY"):
        raise ApiError("InvalidParameterValue", "The endpoint type must be READER or ANY")
    if any(identifier in _custom_endpoints(other) for other in rds._clusters.values()):
        raise ApiError("DBClusterEndpointAlreadyExistsFault", f"DB cluster endpoint {identifier} already exists")
    members = {name: request.get(name, []) for name in ("StaticMembers", "ExcludedMembers")}
    if all(members.values()):
        raise ApiError("InvalidParameterCombination", "Static and excluded members exclude each other")
    for name in (name for names in members.values() for name in names):
        _instance(name)
    resource = f"cluster-endpoint-{secrets.token_hex(13).upper()}"
    endpoint = _custom_endpoints(cluster)[identifier] = {
        "DBClusterEndpointIdentifier": identifier, "DBClusterIdentifier": cluster["DBClusterIdentifier"],
        "DBClusterEndpointResourceIdentifier": resource, "Endpoint": _endpoint(identifier, "cluster-custom-"),
        "Status": "available", "EndpointType": "CUSTOM", "CustomEndpointType": request["EndpointType"], **members,
        "DBClusterEndpointArn": f"arn:aws:rds:{get_region()}:{get_account_id()}:cluster-endpoint:{identifier}"}
    return endpoint


@RDS.action("DescribeDBClusterEndpoints")
def describe_endpoints(request):
    """The custom endpoints, and each cluster's own ones, which have no identifier."""
    wanted, name = request.get("DBClusterIdentifier"), request.get("DBClusterEndpointIdentifier")
    clusters = [_cluster(wanted)] if wanted else rds._clusters.values()
    rows = [row for cluster in clusters for row in (
        *({"DBClusterIdentifier": cluster["DBClusterIdentifier"], "Endpoint": cluster[member], "Status": "available",
           "EndpointType": kind} for member, kind in (("Endpoint", "WRITER"), ("ReaderEndpoint", "READER"))),
        *_custom_endpoints(cluster).values())]
    return rds_page(request, "DBClusterEndpoints",
                    [row for row in rows if name in (None, row.get("DBClusterEndpointIdentifier"))])


@RDS.action("DeleteDBClusterEndpoint")
def delete_endpoint(request):
    identifier = request["DBClusterEndpointIdentifier"]
    for cluster in rds._clusters.values():
        if identifier in _custom_endpoints(cluster):
            return {**_custom_endpoints(cluster).pop(identifier), "Status": "deleting"}
    raise ApiError("DBClusterEndpointNotFoundFault", f"DB cluster endpoint {identifier} not found", 404)


# DNS

def _address(instance):
    return instance["Interfaces"][instance["ZoneInDns"]]["PrivateIpAddress"]


def _answer(name):
    """The answer for an endpoint's name in any account and Region."""
    for _, instance in rds._instances.all_items():
        if instance["Endpoint"]["Address"] == name and "Interfaces" in instance:
            return dns.Answer([_address(instance)])
    for (account, region, _), cluster in rds._clusters.all_items():
        members = {member["DBInstanceIdentifier"]: rds._instances.get_scoped(
            account, region, member["DBInstanceIdentifier"]) for member in cluster["DBClusterMembers"]}
        named = _members_named(cluster, name, list(members))
        if named is not None:
            return dns.Answer([_address(members[member]) for member in named], in_turn=True)
    return None


def _members_named(cluster, name, members):
    """The members for which the name of an endpoint of the cluster stands; None: it is no such name.

    Without a reader, the reader endpoint stands for the writer:
    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Endpoints.Reader.html
    """
    writer = [member for member in members if member == cluster.get("WriterInDns")]
    readers = [member for member in members if member not in writer]
    if name == cluster["Endpoint"]:
        return writer
    if name == cluster["ReaderEndpoint"]:
        return readers or writer
    for endpoint in _custom_endpoints(cluster).values():
        if name == endpoint["Endpoint"]:
            of_type = readers if endpoint["CustomEndpointType"] == "READER" else members
            return [member for member in of_type if member not in endpoint["ExcludedMembers"]
                    and (not endpoint["StaticMembers"] or member in endpoint["StaticMembers"])]
    return None


def install():
    """Keep ministack from giving clusters the addresses of containers, which do not exist here."""
    rds._sync_cluster_endpoints = lambda cluster: None
    dns.sources.append(_answer)
    RDS.install(rds._ACTION_MAP)
