"""EventBridge: the content of "AWS API Call via CloudTrail" events, and their caller."""
import calendar
import json
import shutil
import subprocess
import time

import pytest
from conftest import DBT, PROVIDER, REGION, eventually


@pytest.fixture
def trail(aws, names):
    """Collects an account's events in a queue. Returns a function that waits for an event by name."""
    def collect(account):
        events, sqs = aws.client("events", account), aws.client("sqs", account)
        name = names("trail")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name=name, EventPattern=json.dumps({"detail-type": ["AWS API Call via CloudTrail"]}))
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
        collected = []

        def received():
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                collected.append(json.loads(message["Body"]))
            return collected

        def event(name):
            return eventually(lambda: next((e for e in received() if e["detail"]["eventName"] == name), None))

        event.received = received
        return event
    return collect


def test_a_users_call_is_recorded_with_the_users_identity(aws, names, provider, connect, trail):
    events, iam, user = trail(PROVIDER), aws.client("iam"), names("alice")
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    arguments = ["--service-id", provider.service_id, "--vpc-endpoint-ids", endpoint := connect()]
    aws.cli("ec2", "reject-vpc-endpoint-connections", *arguments, account=key["AccessKeyId"],
            secret=key["SecretAccessKey"])
    event = events("RejectVpcEndpointConnections")
    assert (event["source"], event["account"], event["region"]) == ("aws.ec2", PROVIDER, REGION)
    detail = event["detail"]
    assert detail["userIdentity"]["type"] == "IAMUser"
    assert detail["userIdentity"]["arn"] == f"arn:aws:iam::{PROVIDER}:user/{user}"
    assert detail["userIdentity"]["userName"] == user
    assert detail["requestParameters"] == {"RejectVpcEndpointConnectionsRequest": {
        "ServiceId": provider.service_id, "VpcEndpointId": {"tag": 1, "content": endpoint}}}
    assert detail["eventSource"] == "ec2.amazonaws.com"
    assert detail["sourceIPAddress"] == "127.0.0.1"
    assert (detail["readOnly"], detail["managementEvent"], detail["eventType"]) == (False, True, "AwsApiCall")
    assert detail["recipientAccountId"] == PROVIDER
    assert detail["responseElements"]["RejectVpcEndpointConnectionsResponse"]["unsuccessful"] == ""


def test_a_load_balancer_change_contains_arn_and_attributes(aws, provider, trail):
    events = trail(PROVIDER)
    provider.elb.modify_load_balancer_attributes(LoadBalancerArn=provider.load_balancer, Attributes=[
        {"Key": "load_balancing.cross_zone.enabled", "Value": "true"}])
    event = events("ModifyLoadBalancerAttributes")
    assert event["source"] == "aws.elasticloadbalancing"
    assert event["detail"]["requestParameters"] == {
        "loadBalancerArn": provider.load_balancer,
        "attributes": [{"key": "load_balancing.cross_zone.enabled", "value": "true"}]}
    assert event["detail"]["userIdentity"] == {
        "type": "Root", "principalId": PROVIDER, "arn": f"arn:aws:iam::{PROVIDER}:root", "accountId": PROVIDER,
        "accessKeyId": PROVIDER}


def test_older_ec2_actions_have_the_older_shape(aws, names, trail):
    events, ec2 = trail(PROVIDER), aws.client("ec2")
    group = ec2.create_security_group(GroupName=names("sg"), Description="d")["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}])
    detail = events("AuthorizeSecurityGroupIngress")["detail"]
    assert detail["requestParameters"] == {"groupId": group, "ipPermissions": {"items": [
        {"ipProtocol": "tcp", "fromPort": 5432, "toPort": 5432, "ipRanges": {"items": [{"cidrIp": "10.0.0.0/8"}]},
         "groups": {}, "ipv6Ranges": {}, "prefixListIds": {}}]}}
    assert detail["responseElements"]["_return"] is True


def test_network_changes_contain_the_changed_resources_id(aws, names, provider, trail):
    """The guard finds a resource's change by the ids in the request, whose shape depends on the action."""
    ec2, elb = provider.ec2, provider.elb
    group = ec2.create_security_group(GroupName=names("sg"), Description="d")["GroupId"]
    guarded = elb.create_load_balancer(Name=names("nlb"), Type="network", Subnets=["subnet-00000001"],
                                       SecurityGroups=[group])["LoadBalancers"][0]["LoadBalancerArn"]
    prefixes = ec2.create_managed_prefix_list(PrefixListName=names("pl"), AddressFamily="IPv4", MaxEntries=3)[
        "PrefixList"]["PrefixListId"]
    acl = ec2.create_network_acl(VpcId=provider.vpc)["NetworkAcl"]["NetworkAclId"]
    table = ec2.create_route_table(VpcId=provider.vpc)["RouteTable"]["RouteTableId"]
    events = trail(PROVIDER)

    def parameters(action):
        return events(action)["detail"]["requestParameters"]

    route = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0"}
    ec2.create_route(**route, GatewayId="igw-00000001")
    assert parameters("CreateRoute") == {"routeTableId": table, "destinationCidrBlock": "0.0.0.0/0",
                                         "gatewayId": "igw-00000001"}
    ec2.replace_route(**route, GatewayId="igw-00000001")
    assert parameters("ReplaceRoute")["routeTableId"] == table
    ec2.delete_route(**route)
    assert parameters("DeleteRoute") == {"routeTableId": table, "destinationCidrBlock": "0.0.0.0/0"}
    ec2.associate_route_table(RouteTableId=table, SubnetId="subnet-00000003")
    association = events("AssociateRouteTable")["detail"]["responseElements"]["associationId"]
    ec2.disassociate_route_table(AssociationId=association)
    assert parameters("DisassociateRouteTable") == {"associationId": association}
    ec2.create_network_acl_entry(NetworkAclId=acl, RuleNumber=10, Egress=False, Protocol="6", RuleAction="allow",
                                 CidrBlock="10.0.0.0/8", PortRange={"From": 5432, "To": 5432})
    assert parameters("CreateNetworkAclEntry") == {
        "networkAclId": acl, "ruleNumber": 10, "egress": False, "aclProtocol": "6", "ruleAction": "allow",
        "cidrBlock": "10.0.0.0/8", "portRange": {"from": 5432, "to": 5432}}
    [rule] = ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=1, ToPort=2,
                                                  CidrIp="10.0.0.0/8")["SecurityGroupRules"]
    ec2.modify_security_group_rules(GroupId=group, SecurityGroupRules=[
        {"SecurityGroupRuleId": rule["SecurityGroupRuleId"],
         "SecurityGroupRule": {"IpProtocol": "-1", "CidrIpv4": "10.0.0.0/8"}}])
    asked = parameters("ModifySecurityGroupRules")["ModifySecurityGroupRulesRequest"]
    assert (asked["GroupId"], asked["SecurityGroupRule"]["SecurityGroupRuleId"]) == (group, rule["SecurityGroupRuleId"])
    ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[rule["SecurityGroupRuleId"]])
    assert parameters("RevokeSecurityGroupIngress")["groupId"] == group
    ec2.modify_managed_prefix_list(PrefixListId=prefixes, CurrentVersion=1, AddEntries=[{"Cidr": "10.0.0.0/8"}])
    assert parameters("ModifyManagedPrefixList")["ModifyManagedPrefixListRequest"]["PrefixListId"] == prefixes
    ec2.modify_vpc_endpoint_service_configuration(ServiceId=provider.service_id, AcceptanceRequired=False)
    assert parameters("ModifyVpcEndpointServiceConfiguration") == {"ModifyVpcEndpointServiceConfigurationRequest": {
        "ServiceId": provider.service_id, "AcceptanceRequired": False}}
    elb.set_security_groups(LoadBalancerArn=guarded, SecurityGroups=[group])
    assert parameters("SetSecurityGroups") == {"loadBalancerArn": guarded, "securityGroups": [group]}
    elb.set_subnets(LoadBalancerArn=guarded, Subnets=["subnet-00000002"])
    assert parameters("SetSubnets") == {"loadBalancerArn": guarded, "subnets": ["subnet-00000002"]}
    listener = provider.listen()
    elb.modify_listener(ListenerArn=listener, Port=5433)
    assert parameters("ModifyListener") == {"listenerArn": listener, "port": 5433}


def test_outbound_rules_and_interface_groups_are_recorded_by_id(aws, names, trail):
    ec2 = aws.client("ec2")
    group, other = (ec2.create_security_group(GroupName=names("sg"), Description="d")["GroupId"] for _ in range(2))
    interface = ec2.create_network_interface(SubnetId="subnet-00000001")["NetworkInterface"]["NetworkInterfaceId"]
    prefixes = ec2.create_managed_prefix_list(PrefixListName=names("pl"), AddressFamily="IPv4", MaxEntries=3)[
        "PrefixList"]["PrefixListId"]
    events = trail(PROVIDER)
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "PrefixListIds": [{"PrefixListId": prefixes}],
         "UserIdGroupPairs": [{"GroupId": other}]}])
    assert events("AuthorizeSecurityGroupEgress")["detail"]["requestParameters"] == {
        "groupId": group, "ipPermissions": {"items": [{
            "ipProtocol": "tcp", "fromPort": 5432, "toPort": 5432, "groups": {"items": [{"groupId": other}]},
            "prefixListIds": {"items": [{"prefixListId": prefixes}]}, "ipRanges": {}, "ipv6Ranges": {}}]}}
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[
        {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    assert events("RevokeSecurityGroupEgress")["detail"]["requestParameters"]["groupId"] == group
    ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[group])
    assert events("ModifyNetworkInterfaceAttribute")["detail"]["requestParameters"] == {
        "networkInterfaceId": interface, "groupSet": {"items": [{"groupId": group}]}}


def test_changes_of_targets_are_recorded_with_the_target_group(provider, trail):
    events, targets = trail(PROVIDER), [{"Id": "172.31.0.10", "Port": 5432}]
    provider.elb.register_targets(TargetGroupArn=provider.target_group, Targets=targets)
    provider.elb.deregister_targets(TargetGroupArn=provider.target_group, Targets=targets)
    provider.elb.add_tags(ResourceArns=[provider.target_group], Tags=[{"Key": "team", "Value": "db"}])
    for name in ("RegisterTargets", "DeregisterTargets"):
        detail = events(name)["detail"]
        assert detail["requestParameters"] == {"targetGroupArn": provider.target_group,
                                               "targets": [{"id": "172.31.0.10", "port": 5432}]}
        assert detail["responseElements"] is None
    assert events("AddTags")["detail"]["requestParameters"] == {
        "resourceArns": [provider.target_group], "tags": [{"key": "team", "value": "db"}]}


def test_consumer_calls_are_recorded_in_the_consumers_account(aws, provider, connect, trail):
    provider_events, consumer_events = trail(PROVIDER), trail(DBT)
    connect()
    assert consumer_events("CreateVpcEndpoint")["detail"]["recipientAccountId"] == DBT
    provider.listen()
    provider_events("CreateListener")
    assert "CreateVpcEndpoint" not in [e["detail"]["eventName"] for e in provider_events.received()]


def test_the_newer_shape_has_bare_single_items_and_numbers(aws, names, provider, connect, trail):
    events, ec2 = trail(PROVIDER), provider.ec2

    def request(action):
        return events(action)["detail"]["requestParameters"][f"{action}Request"]

    service, missing, principal = provider.service_id, "vpce-0123456789abcdef0", f"arn:aws:iam::{DBT}:role/dbt"
    ec2.modify_vpc_endpoint_service_permissions(ServiceId=service, AddAllowedPrincipals=[principal, DBT])
    assert request("ModifyVpcEndpointServicePermissions") == {"ServiceId": service, "AddAllowedPrincipals": [
        {"tag": 1, "content": principal}, {"tag": 2, "content": int(DBT)}]}
    endpoint = connect()
    ec2.accept_vpc_endpoint_connections(ServiceId=service, VpcEndpointIds=[endpoint, missing])
    detail = events("AcceptVpcEndpointConnections")["detail"]
    assert detail["requestParameters"]["AcceptVpcEndpointConnectionsRequest"]["VpcEndpointId"] == [
        {"tag": 1, "content": endpoint}, {"tag": 2, "content": missing}]
    unsuccessful = detail["responseElements"]["AcceptVpcEndpointConnectionsResponse"]["unsuccessful"]
    assert unsuccessful["item"]["resourceId"] == missing
    gateway = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    attachment = ec2.create_transit_gateway_vpc_attachment(
        TransitGatewayId=gateway, VpcId=provider.vpc, SubnetIds=["subnet-00000001"])["TransitGatewayVpcAttachment"]
    ec2.delete_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=attachment["TransitGatewayAttachmentId"])
    detail = events("DeleteTransitGatewayVpcAttachment")["detail"]
    assert detail["requestParameters"]["DeleteTransitGatewayVpcAttachmentRequest"] == {
        "TransitGatewayAttachmentId": attachment["TransitGatewayAttachmentId"]}
    deleted = detail["responseElements"]["DeleteTransitGatewayVpcAttachmentResponse"]["transitGatewayVpcAttachment"]
    assert (deleted["transitGatewayId"], deleted["vpcId"]) == (gateway, provider.vpc)
    assert deleted["vpcOwnerId"] == int(PROVIDER)


def test_an_imported_certificate_is_recorded_without_its_key(aws, tmp_path, trail):
    """https://docs.aws.amazon.com/acm/latest/userguide/cloudtrail.html#ct-acm-import"""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                    "-subj", "/CN=db.example.com"], check=True, capture_output=True)
    events, acm = trail(PROVIDER), aws.client("acm")
    imported = {"Certificate": certificate.read_bytes(), "PrivateKey": key.read_bytes()}
    arn = acm.import_certificate(**imported)["CertificateArn"]
    event = events("ImportCertificate")
    assert (event["source"], event["detail"]["eventSource"]) == ("aws.acm", "acm.amazonaws.com")
    assert event["detail"]["responseElements"] == {"certificateArn": arn}
    acm.import_certificate(CertificateArn=arn, **imported)
    eventually(lambda: len(events.received()) == 2)
    asked = events.received()[1]["detail"]["requestParameters"]
    assert (asked["certificateArn"], bytes(asked["certificate"]["hb"])) == (arn, imported["Certificate"])
    assert asked["privateKey"]["hb"] == []


def test_reads_are_not_recorded_and_failures_are(aws, provider, trail):
    events = trail(PROVIDER)
    provider.ec2.describe_vpc_endpoint_connections()
    with pytest.raises(provider.ec2.exceptions.ClientError):
        provider.ec2.delete_route(RouteTableId="rtb-0123456789abcdef0", DestinationCidrBlock="10.0.0.0/8")
    aws.control("fault", action="elasticloadbalancing:CreateListener", code="TooManyListeners", times=1)
    with pytest.raises(provider.elb.exceptions.TooManyListenersException):
        provider.listen()
    provider.listen()
    eventually(lambda: len(events.received()) == 3)
    recorded = [(e["detail"]["eventName"], e["detail"].get("errorCode")) for e in events.received()]
    assert recorded == [("DeleteRoute", "Client.InvalidRouteTableID.NotFound"), ("CreateListener", "TooManyListeners"),
                        ("CreateListener", None)]
    failed = events.received()[0]["detail"]
    assert failed["requestParameters"]["routeTableId"] == "rtb-0123456789abcdef0"
    assert (failed["responseElements"], failed["errorMessage"] != "") == (None, True)


def test_a_delayed_event_keeps_the_time_of_its_call(aws, provider, trail):
    """A delayed event does not hold up the events after it, and is delivered when its delay is switched off."""
    events = trail(PROVIDER)
    aws.control("delay", cloudtrail=3600)
    called = time.time()
    provider.listen()
    answered = time.time()
    aws.control("delay", cloudtrail=0.5)
    called_again = time.monotonic()
    provider.listen(5433)
    eventually(lambda: len(events.received()) == 1)
    assert time.monotonic() - called_again >= 0.5
    assert events.received()[0]["detail"]["requestParameters"]["port"] == 5433
    aws.control("delay", cloudtrail=0)
    eventually(lambda: len(events.received()) == 2)
    detail = events.received()[1]["detail"]
    assert detail["requestParameters"]["port"] == 5432
    at = calendar.timegm(time.strptime(detail["eventTime"], "%Y-%m-%dT%H:%M:%SZ"))
    assert int(called) <= at <= answered
