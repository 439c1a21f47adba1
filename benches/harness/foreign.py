"""Other people's resources in the same account, and the events of their changes as CloudTrail reports them: Auto
Scaling, clusters and Terraform make such changes all day."""
import copy
import itertools
import json
import re
import time
import uuid

from .local import ACCOUNT, REGION, ROOT

VPC, SUBNET, ADDRESS = "10.9.0.0/16", "10.9.0.0/24", "10.9.0.10"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:events"


class Account:
    """An account's changes that drift-watcher's rule matches, as EventBridge delivers them; another team makes some."""

    def __init__(self, aws):
        self.ec2, self.elb, self.sqs = aws.client("ec2"), aws.client("elbv2"), aws.client("sqs")
        self._listen(aws.client("events"))
        vpc = self.ec2.create_vpc(CidrBlock=VPC)["Vpc"]["VpcId"]
        self.ec2.create_subnet(VpcId=vpc, CidrBlock=SUBNET)
        self.gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=self.gateway, VpcId=vpc)
        self.route_table = self.ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        group = self.ec2.create_security_group(GroupName="others", Description="others", VpcId=vpc)
        self.security_group = group["GroupId"]
        made = self.elb.create_target_group(Name="others", Protocol="TCP", Port=80, TargetType="ip", VpcId=vpc)
        self.target_group = made["TargetGroups"][0]["TargetGroupArn"]

    def _listen(self, events):
        self.url = self.sqs.create_queue(QueueName="events", Attributes={"Policy": json.dumps({
            "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
                "Resource": QUEUE}]})})["QueueUrl"]
        events.put_rule(Name="events", EventPattern=json.dumps({
            "source": ["aws.ec2", "aws.elasticloadbalancing"], "detail-type": ["AWS API Call via CloudTrail"],
            "detail": {"eventName": _names()}}))
        events.put_targets(Rule="events", Targets=[{"Id": "queue", "Arn": QUEUE}])

    def received(self, count):
        """The next `count` events, in the order of the changes."""
        events, deadline = [], time.monotonic() + 30
        while len(events) < count and time.monotonic() < deadline:
            messages = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in messages.get("Messages", []):
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                events.append(json.loads(message["Body"]))
        if len(events) < count:
            raise RuntimeError(f"{len(events)} events instead of {count}")
        return events

    def of_others(self):
        """Events of the other team's changes, without end: of a few real ones, each as often as the others."""
        targets = {"TargetGroupArn": self.target_group, "Targets": [{"Id": ADDRESS, "Port": 80}]}
        rule = {"GroupId": self.security_group, "IpPermissions": [
            {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": VPC}]}]}
        route = {"RouteTableId": self.route_table, "DestinationCidrBlock": "192.0.2.0/24"}
        self.elb.register_targets(**targets)
        self.elb.deregister_targets(**targets)
        self.ec2.authorize_security_group_ingress(**rule)
        self.ec2.revoke_security_group_ingress(**rule)
        self.ec2.create_route(**route, GatewayId=self.gateway)
        self.ec2.delete_route(**route)
        return map(_again, itertools.cycle(self.received(6)))


def _names():
    """The names in drift-watcher's rule."""
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    listed = re.search(r"^  DriftWatcher:\n(?:.*\n)*?( +)eventName:\n((?:\1  - \w+\n)+)", template, re.MULTILINE)[2]
    return re.findall(r"\w+", listed)


def _again(event):
    """The same change, made once more, now."""
    event, now = copy.deepcopy(event), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    event.update(id=str(uuid.uuid4()), time=now)
    event["detail"].update(eventID=str(uuid.uuid4()), requestID=str(uuid.uuid4()), eventTime=now)
    return event
