"""A company whose endpoint services are all as dbt's guide asks, with as many services and target groups as wanted."""
import json
import time
from dataclasses import dataclass

from .local import ACCOUNT, DBT, REGION

DBT_CIDR = "10.1.2.0/24"
SERVERS_CIDR = "172.31.0.0/16"
TARGETS = ["172.31.0.10", "172.31.16.10", "172.31.16.11"]
FIRST_PORT = 5432
EVENTS = ["Accept", "Connect", "Delete", "Reject"]


@dataclass
class Service:
    id: str
    name: str
    load_balancer: str
    security_group: str
    groups: list


@dataclass
class Company:
    services: list
    alerts: str  # the alert topic
    connections: str  # the topic of connection notifications

    def variables(self, table, services=None):
        """The functions' environment, as template.yaml sets it with the parameters' defaults."""
        chosen = self.services[:services]
        ports = range(FIRST_PORT, FIRST_PORT + len(chosen[0].groups))
        return {
            "ENDPOINT_SERVICE_IDS": ",".join(service.id for service in chosen),
            "DBT_PRINCIPALS": f"arn:aws:iam::{DBT}:root", "KNOWN_ACCOUNTS": "", "ALERT_TOPIC_ARN": self.alerts,
            "STACK_NAME": "bench", "STATE_TABLE": table, "LISTENER_PORTS": "+".join(map(str, ports)),
            "DBT_CIDRS": DBT_CIDR, "UNTRUSTED_REQUESTS": "alert", "CROSS_ZONE": "alert", "ALERT_AFTER": "2",
            "RESOLVE_AFTER": "2", "MAX_DBT_ENDPOINTS": "1", "EXPECTED_ENDPOINTS": "",
            "REMIND_EVERY_HOURS": "24", "RUNBOOK_URL": "", "DRY_RUN": "false", "EXPECT_TRAFFIC_EVERY": "0",
            "DRIFT_SCHEDULE": "rate(15 minutes)", "NOTIFICATION_TOPIC_ARN": self.connections}


def create_table(aws, name):
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("service", "item")],
        KeySchema=[{"AttributeName": "service", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}])
    return name


def set_up(aws, services, groups_each):
    """`services` endpoint services with a load balancer and `groups_each` target groups each; dbt is connected."""
    ec2, sns = aws.client("ec2"), aws.client("sns")
    topics = {name: sns.create_topic(Name=name)["TopicArn"] for name in ("alerts", "connections")}
    policy = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "vpce.amazonaws.com"}, "Action": "sns:Publish",
        "Resource": topics["connections"]}]}
    sns.set_topic_attributes(TopicArn=topics["connections"], AttributeName="Policy", AttributeValue=json.dumps(policy))
    subnets = [row["SubnetId"] for row in ec2.describe_subnets()["Subnets"]][:2]
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    _servers(ec2, vpc, subnets, groups_each)
    made = [_service(aws, f"service-{number}", vpc, subnets, topics["connections"], groups_each)
            for number in range(services)]
    for service in made:
        accept(aws, service, request(aws, service))
    time.sleep(0.5)  # until the connections are available
    return Company(made, topics["alerts"], topics["connections"])


def request(aws, service):
    """dbt requests a connection. The endpoint's id."""
    ec2 = aws.client("ec2", DBT)
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    created = ec2.create_vpc_endpoint(VpcEndpointType="Interface", VpcId=vpc, ServiceName=service.name)
    return created["VpcEndpoint"]["VpcEndpointId"]


def accept(aws, service, endpoint):
    aws.client("ec2").accept_vpc_endpoint_connections(ServiceId=service.id, VpcEndpointIds=[endpoint])


def forbid(aws, service):
    """Takes dbt's rule out of the security group of the load balancer: an alert is due."""
    aws.client("ec2").revoke_security_group_ingress(GroupId=service.security_group, IpPermissions=_rule(
        DBT_CIDR, len(service.groups)))


def disconnect(aws, service):
    """Removes dbt's endpoints."""
    connections = aws.client("ec2").describe_vpc_endpoint_connections(
        Filters=[{"Name": "service-id", "Values": [service.id]}])["VpcEndpointConnections"]
    for connection in connections:
        if connection["VpcEndpointState"] == "available":
            remove(aws, connection["VpcEndpointId"])


def remove(aws, endpoint):
    aws.client("ec2", DBT).delete_vpc_endpoints(VpcEndpointIds=[endpoint])


def _allow(ec2, group, cidr, ports):
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=_rule(cidr, ports))


def _rule(cidr, ports):
    return [{"IpProtocol": "tcp", "FromPort": FIRST_PORT, "ToPort": FIRST_PORT + ports - 1,
             "IpRanges": [{"CidrIp": cidr}]}]


def _servers(ec2, vpc, subnets, ports):
    group = ec2.create_security_group(GroupName="servers", Description="servers", VpcId=vpc)["GroupId"]
    _allow(ec2, group, SERVERS_CIDR, ports)
    for address, subnet in zip(TARGETS, [subnets[0], subnets[1], subnets[1]], strict=True):
        ec2.create_network_interface(SubnetId=subnet, PrivateIpAddress=address, Groups=[group])


def _service(aws, name, vpc, subnets, topic, groups):
    ec2, elb = aws.client("ec2"), aws.client("elbv2")
    security_group = ec2.create_security_group(GroupName=name, Description="dbt", VpcId=vpc)["GroupId"]
    _allow(ec2, security_group, DBT_CIDR, groups)
    load_balancer = elb.create_load_balancer(Name=name, Type="network", Scheme="internal", Subnets=subnets,
                                             SecurityGroups=[security_group])["LoadBalancers"][0]["LoadBalancerArn"]
    elb.modify_load_balancer_attributes(
        LoadBalancerArn=load_balancer, Attributes=[{"Key": "load_balancing.cross_zone.enabled", "Value": "true"}])
    arns = [_target_group(elb, f"{name}-{number}", vpc, load_balancer, FIRST_PORT + number)
            for number in range(groups)]
    created = ec2.create_vpc_endpoint_service_configuration(
        AcceptanceRequired=True, NetworkLoadBalancerArns=[load_balancer], TagSpecifications=[
            {"ResourceType": "vpc-endpoint-service", "Tags": [{"Key": "Name", "Value": name}]}])["ServiceConfiguration"]
    ec2.modify_vpc_endpoint_service_permissions(ServiceId=created["ServiceId"],
                                                AddAllowedPrincipals=[f"arn:aws:iam::{DBT}:root"])
    ec2.create_vpc_endpoint_connection_notification(ServiceId=created["ServiceId"], ConnectionNotificationArn=topic,
                                                    ConnectionEvents=EVENTS)
    return Service(created["ServiceId"], created["ServiceName"], load_balancer, security_group, arns)


def _target_group(elb, name, vpc, load_balancer, port):
    group = elb.create_target_group(Name=name, Protocol="TCP", Port=port, TargetType="ip",
                                    VpcId=vpc)["TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": address} for address in TARGETS])
    elb.create_listener(LoadBalancerArn=load_balancer, Protocol="TCP", Port=port,
                        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
    return group


def notification(service, endpoint, sent):
    """The event by which SNS starts connection-acceptor: dbt has created `endpoint`."""
    message = json.dumps({"ServiceId": service.id, "VpcEndpointId": endpoint, "Event": "Connect", "Account": ACCOUNT})
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:connections"
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(sent)) + f".{int(sent % 1 * 1000):03d}Z"
    return {"Records": [{
        "EventVersion": "1.0", "EventSource": "aws:sns", "EventSubscriptionArn": f"{topic}:1",
        "Sns": {"Type": "Notification", "MessageId": endpoint, "TopicArn": topic, "Subject": "Connect",
                "Message": message, "Timestamp": timestamp, "SignatureVersion": "1", "Signature": "",
                "SigningCertUrl": "", "UnsubscribeUrl": "", "MessageAttributes": {}}}]}


SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event"}
