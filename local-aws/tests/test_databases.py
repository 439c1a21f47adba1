"""RDS: DB instances and Aurora clusters, their names and addresses, failovers and their events."""
import json

import pytest
from conftest import DBT, PROVIDER, REGION, Provider, eventually
from test_dns import resolve  # noqa: F401
from test_endpoint_services import error_code

ZONES = [f"{REGION}{letter}" for letter in "abc"]
OF_ONE = {"DBInstanceClass": "db.r6g.large", "Engine": "aurora-postgresql"}
FAILOVERS = {"source": ["aws.rds"], "detail-type": ["RDS DB Instance Event", "RDS DB Cluster Event"],
             "detail": {"EventCategories": ["failover"]}}


class Databases:
    """RDS, as the provider."""

    def __init__(self, aws, names):
        self.aws, self.rds, self.new_name = aws, aws.client("rds"), names

    def new_instance(self, **more):
        name = self.new_name("orders")
        self.rds.create_db_instance(**{
            "DBInstanceIdentifier": name, "DBInstanceClass": "db.m6g.large", "Engine": "postgres", "MultiAZ": True,
            "AllocatedStorage": 20, "MasterUsername": "root", "MasterUserPassword": "a password", **more})
        return name

    def instance(self, name):
        [found] = self.rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
        return found

    def new_cluster(self, instances=2, **more):
        name = self.new_name("sales")
        self.rds.create_db_cluster(DBClusterIdentifier=name, Engine="aurora-postgresql", MasterUsername="root",
                                   MasterUserPassword="a password", **more)
        members = [self.new_instance(DBClusterIdentifier=name, MultiAZ=False, **OF_ONE) for _ in range(instances)]
        return name, members

    def cluster(self, name):
        [found] = self.rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"]
        return found

    def writer(self, name):
        [writer] = [m["DBInstanceIdentifier"] for m in self.cluster(name)["DBClusterMembers"] if m["IsClusterWriter"]]
        return writer

    def interfaces(self):
        found = self.aws.client("ec2").describe_network_interfaces(
            Filters=[{"Name": "requester-id", "Values": ["amazon-rds"]}])["NetworkInterfaces"]
        return {interface["PrivateIpAddress"]: interface for interface in found}


@pytest.fixture
def databases(aws, names):
    return Databases(aws, names)


@pytest.fixture
def failovers(aws, names):
    """A queue of failover events: a function that receives those so far."""
    sqs, events, name = aws.client("sqs"), aws.client("events"), names("failovers")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name=name, EventPattern=json.dumps(FAILOVERS))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    seen = []

    def received():
        seen.extend(json.loads(message["Body"]) for message in sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []))
        return seen
    yield received
    events.remove_targets(Rule=name, Ids=["queue"])
    events.delete_rule(Name=name)


def test_a_multi_az_instance_has_an_interface_in_each_zone(aws, databases, resolve):  # noqa: F811
    before = databases.interfaces()
    found = databases.instance(databases.new_instance())
    assert (found["AvailabilityZone"], found["SecondaryAvailabilityZone"], found["MultiAZ"]) == (*ZONES[:2], True)
    assert found["VpcSecurityGroups"] == [{"VpcSecurityGroupId": "sg-00000001", "Status": "active"}]
    assert found["Endpoint"]["Port"] == 5432
    assert "DBClusterIdentifier" not in found
    name, _, rest = found["Endpoint"]["Address"].partition(".")
    assert (name, rest.partition(".")[2]) == (found["DBInstanceIdentifier"], f"{REGION}.rds.amazonaws.com")
    own = {address: i for address, i in databases.interfaces().items() if address not in before}
    assert [interface["AvailabilityZone"] for interface in own.values()] == ZONES[:2]
    assert resolve(found["Endpoint"]["Address"]) == [next(iter(own))]
    interface = next(iter(own.values()))
    assert (interface["Description"], interface["RequesterManaged"]) == ("RDSNetworkInterface", True)
    assert interface["Groups"][0]["GroupId"] == "sg-00000001"
    assert error_code(aws.client("ec2").delete_network_interface,
                      NetworkInterfaceId=interface["NetworkInterfaceId"]) == "AuthFailure"
    databases.rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    assert databases.interfaces() == before
    assert isinstance(resolve(found["Endpoint"]["Address"]), int), "the name went with the instance"


def test_the_cli_creates_databases_and_fails_them_over(aws, names, databases):
    name = names("Orders")
    aws.cli("rds", "create-db-instance", "--db-instance-identifier", name, "--engine", "mysql", "--multi-az",
            "--db-instance-class", "db.m6g.large", "--allocated-storage", "20")
    endpoint = databases.instance(name)["Endpoint"]
    assert (endpoint["Address"].split(".")[0], endpoint["Port"]) == (name.lower(), 3306)
    done = aws.cli("rds", "reboot-db-instance", "--db-instance-identifier", name, "--force-failover")
    assert done["DBInstance"]["DBInstanceStatus"] == "rebooting"
    eventually(lambda: databases.instance(name)["AvailabilityZone"] == ZONES[1])


def test_an_instance_uses_its_subnet_and_security_groups(aws, databases, resolve):  # noqa: F811
    ec2, group = aws.client("ec2"), databases.new_name("group")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.7.{number}.0/24", AvailabilityZone=zone)["Subnet"][
        "SubnetId"] for number, zone in enumerate(ZONES[1:])]
    databases.rds.create_db_subnet_group(DBSubnetGroupName=group, DBSubnetGroupDescription="two", SubnetIds=subnets)
    found = databases.instance(databases.new_instance(DBSubnetGroupName=group))
    assert (found["AvailabilityZone"], found["DBSubnetGroup"]["VpcId"]) == (ZONES[1], vpc)
    assert resolve(found["Endpoint"]["Address"]) == ["10.7.0.4"]
    existing = len(databases.rds.describe_db_instances()["DBInstances"])
    assert error_code(databases.new_instance, AvailabilityZone=ZONES[0], DBSubnetGroupName=group) == (
        "DBSubnetGroupDoesNotCoverEnoughAZs")
    assert error_code(databases.new_instance, DBSubnetGroupName="none") == "DBSubnetGroupNotFoundFault"
    assert error_code(databases.new_instance, VpcSecurityGroupIds=["sg-0"]) == "InvalidGroup.NotFound"
    assert len(databases.rds.describe_db_instances()["DBInstances"]) == existing
    own = ec2.create_security_group(VpcId=vpc, GroupName=group, Description="own")["GroupId"]
    found = databases.instance(databases.new_instance(DBSubnetGroupName=group, VpcSecurityGroupIds=[own]))
    assert [groups["VpcSecurityGroupId"] for groups in found["VpcSecurityGroups"]] == [own]
    [address] = resolve(found["Endpoint"]["Address"])
    assert [used["GroupId"] for used in databases.interfaces()[address]["Groups"]] == [own]
    assert error_code(databases.instance, "none") == "DBInstanceNotFound"


def test_a_failover_moves_an_instances_name_to_its_standby(aws, databases, failovers, resolve):  # noqa: F811
    """A minute is a second here, and the failover takes one."""
    name = databases.new_instance(Tags=[{"Key": "team", "Value": "db"}])
    host = databases.instance(name)["Endpoint"]["Address"]
    [old] = resolve(host)
    aws.control("clock", stop=True)
    databases.rds.reboot_db_instance(DBInstanceIdentifier=name, ForceFailover=True)
    assert error_code(databases.rds.reboot_db_instance, DBInstanceIdentifier=name, ForceFailover=True) == (
        "InvalidDBInstanceState")
    aws.control("clock", advance=0.9)
    [started] = eventually(failovers)
    assert resolve(host) == [old]
    assert databases.instance(name)["DBInstanceStatus"] == "rebooting"
    aws.control("clock", advance=0.2)
    _, completed = eventually(lambda: len(failovers()) == 2 and failovers())
    [new] = resolve(host)
    found, interfaces = databases.instance(name), databases.interfaces()
    assert [interfaces[address]["AvailabilityZone"] for address in (old, new)] == ZONES[:2]
    assert (found["AvailabilityZone"], found["SecondaryAvailabilityZone"], found["DBInstanceStatus"]) == (
        ZONES[1], ZONES[0], "available")
    arn = f"arn:aws:rds:{REGION}:{PROVIDER}:db:{name}"
    assert {key: completed[key] for key in ("source", "detail-type", "resources", "account", "region")} == {
        "source": "aws.rds", "detail-type": "RDS DB Instance Event", "resources": [arn], "account": PROVIDER,
        "region": REGION}
    assert completed["detail"].pop("Date") > started["detail"]["Date"]
    assert completed["detail"] == {
        "EventCategories": ["failover"], "SourceType": "DB_INSTANCE", "SourceArn": arn, "SourceIdentifier": name,
        "Message": "Multi-AZ instance failover completed", "EventID": "RDS-EVENT-0049", "Tags": {"team": "db"}}
    assert started["detail"]["EventID"] == "RDS-EVENT-0013"
    listed = databases.rds.describe_events(SourceType="db-instance", SourceIdentifier=name)["Events"]
    assert [event["EventCategories"] for event in listed] == [["failover"], ["availability"], ["failover"]]


def test_only_a_multi_az_instance_fails_over_on_reboot(databases):
    name = databases.new_instance(MultiAZ=False)
    assert "SecondaryAvailabilityZone" not in databases.instance(name)
    assert error_code(databases.rds.reboot_db_instance, DBInstanceIdentifier=name, ForceFailover=True) == (
        "InvalidParameterCombination")
    databases.rds.reboot_db_instance(DBInstanceIdentifier=name)
    eventually(lambda: databases.instance(name)["DBInstanceStatus"] == "available")
    assert databases.instance(name)["AvailabilityZone"] == ZONES[0]


def test_the_names_of_a_cluster_stand_for_its_members(databases, resolve):  # noqa: F811
    name, members = databases.new_cluster(instances=3)
    found = databases.cluster(name)
    addresses = [resolve(databases.instance(member)["Endpoint"]["Address"]) for member in members]
    assert [databases.instance(member)["AvailabilityZone"] for member in members] == ZONES
    assert found["Endpoint"].startswith(f"{name}.cluster-c")
    assert found["ReaderEndpoint"].startswith(f"{name}.cluster-ro-c")
    assert resolve(found["Endpoint"]) == addresses[0]
    assert [resolve(found["ReaderEndpoint"]) for _ in range(3)] == [addresses[1], addresses[2], addresses[1]]
    custom = {
        "some": databases.rds.create_db_cluster_endpoint(
            DBClusterIdentifier=name, DBClusterEndpointIdentifier=f"{name}-some", EndpointType="ANY",
            StaticMembers=members[:1])["Endpoint"],
        "most": databases.rds.create_db_cluster_endpoint(
            DBClusterIdentifier=name, DBClusterEndpointIdentifier=f"{name}-most", EndpointType="READER",
            ExcludedMembers=members[1:2])["Endpoint"]}
    assert custom["some"].startswith(f"{name}-some.cluster-custom-c")
    assert (resolve(custom["some"]), resolve(custom["most"])) == (addresses[0], addresses[2])
    assert databases.cluster(name)["CustomEndpoints"] == list(custom.values())
    listed = databases.rds.describe_db_cluster_endpoints(DBClusterIdentifier=name)["DBClusterEndpoints"]
    assert [endpoint["EndpointType"] for endpoint in listed] == ["WRITER", "READER", "CUSTOM", "CUSTOM"]
    databases.rds.delete_db_cluster_endpoint(DBClusterEndpointIdentifier=f"{name}-most")
    assert isinstance(resolve(custom["most"]), int)


def test_the_reader_endpoint_of_a_lone_writer_is_the_writer(databases, resolve):  # noqa: F811
    found = databases.cluster(databases.new_cluster(instances=1)[0])
    assert resolve(found["ReaderEndpoint"]) == resolve(found["Endpoint"])
    assert error_code(databases.rds.failover_db_cluster, DBClusterIdentifier=found["DBClusterIdentifier"]) == (
        "InvalidDBClusterStateFault")


def test_a_failover_exchanges_a_clusters_writer_and_reader(aws, databases, failovers, resolve):  # noqa: F811
    name, (first, second) = databases.new_cluster()
    found = databases.cluster(name)
    endpoints = [found["Endpoint"], found["ReaderEndpoint"]]
    before = [resolve(endpoint) for endpoint in endpoints]
    aws.control("clock", stop=True)
    assert databases.rds.failover_db_cluster(DBClusterIdentifier=name)["DBCluster"]["Status"] == "failing-over"
    aws.control("clock", advance=0.4)
    [started] = eventually(failovers)
    assert [resolve(endpoint) for endpoint in endpoints] == before
    assert databases.writer(name) == first
    aws.control("clock", advance=0.2)
    _, completed = eventually(lambda: len(failovers()) == 2 and failovers())
    assert [resolve(endpoint) for endpoint in endpoints] == before[::-1]
    assert (databases.writer(name), databases.cluster(name)["Status"]) == (second, "available")
    assert {(event["detail-type"], event["detail"]["SourceType"], *event["resources"])
            for event in (started, completed)} == {
        ("RDS DB Cluster Event", "CLUSTER", f"arn:aws:rds:{REGION}:{PROVIDER}:cluster:{name}")}
    assert [(event["detail"]["EventID"], event["detail"]["Message"]) for event in (started, completed)] == [
        ("RDS-EVENT-0073", f"Started cross AZ failover to DB instance: {second}"),
        ("RDS-EVENT-0071", f"Completed failover to DB instance: {second}")]


def test_dns_and_events_are_as_late_as_a_test_wants(aws, databases, failovers, resolve):  # noqa: F811
    name, (_, second) = databases.new_cluster()
    endpoint = databases.cluster(name)["Endpoint"]
    before = resolve(endpoint)
    aws.control("clock", stop=True)
    aws.control("delay", dns=30, rds=3600)
    databases.rds.failover_db_cluster(DBClusterIdentifier=name)
    aws.control("clock", advance=1)
    eventually(lambda: databases.writer(name) == second)
    aws.control("clock", advance=25)
    assert (resolve(endpoint), failovers()) == (before, [])
    aws.control("delay", rds=0)
    held_back = eventually(lambda: len(failovers()) == 2 and failovers())
    assert {event["detail"]["EventID"] for event in held_back} == {"RDS-EVENT-0073", "RDS-EVENT-0071"}
    aws.control("clock", advance=6)
    eventually(lambda: resolve(endpoint) != before)
    aws.control("dns", name=endpoint, answer=before)
    assert resolve(endpoint) == before, "an old cache"


def test_databases_are_described_by_filter_and_in_pages(aws, databases):
    databases.new_cluster()
    name, members = databases.new_cluster()
    filters = [{"Name": "db-cluster-id", "Values": [name]}]
    aws.control("page-size", size=1)
    pages = list(databases.rds.get_paginator("describe_db_instances").paginate(Filters=filters))
    assert [[row["DBInstanceIdentifier"] for row in page["DBInstances"]] for page in pages] == [[m] for m in members]
    [found] = databases.rds.describe_db_clusters(Filters=filters)["DBClusters"]
    assert [member["DBInstanceIdentifier"] for member in found["DBClusterMembers"]] == members
    assert error_code(databases.rds.describe_db_instances, MaxRecords=5) == "InvalidParameterValue"


def test_the_databases_of_another_account_have_another_suffix(aws, names, databases):
    def suffix(owner):
        return owner.instance(owner.new_instance())["Endpoint"]["Address"].split(".")[1]

    other = Databases(aws, names)
    other.rds = aws.client("rds", DBT)
    assert suffix(databases) == suffix(databases) != suffix(other)


def test_a_databases_address_is_a_target_of_its_zone(aws, names, databases, resolve):  # noqa: F811
    provider = Provider(aws, names("db"))
    provider.listen()
    [address] = resolve(databases.instance(databases.new_instance())["Endpoint"]["Address"])
    provider.elb.register_targets(TargetGroupArn=provider.target_group, Targets=[{"Id": address}])
    [found] = provider.elb.describe_target_health(TargetGroupArn=provider.target_group)["TargetHealthDescriptions"]
    assert (found["Target"]["AvailabilityZone"], found["TargetHealth"]["State"]) == (ZONES[0], "healthy")
