//! Builders that let a test state only its own facts, and helpers that read results.

mod examples;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::alerts::lifecycle::{Alert, Phase};
use crate::alerts::record::{Item, Record, State, Version};
use crate::alerts::silence::Silence;
use crate::check::{CheckContext, CheckResult, Finding, Region, Remedy, Severity, Status};
use crate::config::{Policy, Settings};
use crate::ids::{Arn, EndpointId, ServiceId};
use crate::message::origin::Origin;
use crate::snapshot::{
    AclEntry, CallError, Connection, ConnectionState, CrossZoneOverride, Description, EndpointService, ErrorKind,
    Health, Interface, Listener, LoadBalancer, Network, NetworkAcl, Observed, Peer, Ports, Route, RouteTable,
    RoutingThreshold, SecurityGroupRule, Subnet, Target, TargetGroup, TargetGroupAttributes, TargetKind, Topology,
    Zone,
};
use crate::trigger::Change;

pub use self::examples::examples;

/// dbt's account in all tests.
pub const DBT: &str = "123456789012";

/// An account that is not dbt's.
pub const UNTRUSTED: &str = "999999999999";

/// Endpoint service number `number`; the policy of [`policy`] watches number 1.
pub fn service(number: u32) -> ServiceId {
    format!("vpce-svc-{number:017x}").parse().unwrap()
}

/// VPC endpoint number `number`.
pub fn endpoint(number: u32) -> EndpointId {
    format!("vpce-{number:017x}").parse().unwrap()
}

/// A time on the day of all tests, in UTC.
pub fn at(hour: i8, minute: i8) -> Timestamp {
    let time = jiff::civil::date(2026, 3, 14).at(hour, minute, 0, 0);
    time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
}

/// A connection on service 1.
pub fn connection(number: u32, owner: Option<&str>, state: &str) -> Connection {
    Connection {
        service: service(1),
        endpoint: endpoint(number),
        owner: owner.map(|account| account.parse().unwrap()),
        state: ConnectionState::parse(state),
        created: Some(at(8, 0)),
        region: None,
    }
}

/// Settings for service 1 and dbt's account [`DBT`], with these variables added or replaced.
pub fn settings(variables: &[(&str, &str)]) -> Settings {
    let service = service(1);
    let base = [
        ("ENDPOINT_SERVICE_IDS", service.as_str()),
        ("DBT_PRINCIPALS", "arn:aws:iam::123456789012:root"),
        ("ALERT_TOPIC_ARN", "arn:aws:sns:eu-central-1:111122223333:alerts"),
        ("STATE_TABLE", "state"),
    ];
    Settings::from_lookup(|name| {
        variables.iter().chain(&base).find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
    .unwrap()
}

/// The policy of [`settings`] without additional variables.
pub fn policy() -> Policy {
    let policy = settings(&[]).policy;
    assert_eq!(policy.services, BTreeSet::from([service(1)]));
    policy
}

/// The Region that the tests are in.
pub fn region() -> Region {
    Region::new("aws", "eu-central-1")
}

/// The deployment that test messages come from.
pub fn origin() -> Origin {
    Origin {
        account: Some("111122223333".parse().unwrap()),
        region: region(),
        stack: Some("privatelink-guard".to_owned()),
        runbook_url: Some("https://wiki.example.com/checks.md".to_owned()),
    }
}

/// AWS's refusal of a change, with this code.
pub fn refusal(code: &str) -> CallError {
    CallError::new("ec2:RejectVpcEndpointConnections", ErrorKind::Refused(code.to_owned()), "not now")
}

/// A call that AWS denied.
pub fn call_error(call: &'static str) -> CallError {
    CallError::new(call, ErrorKind::Refused("AccessDenied".to_owned()), "not authorized")
}

/// Endpoint service 1, which passes all checks, with dbt's principal.
pub fn endpoint_service() -> EndpointService {
    EndpointService {
        id: service(1),
        service_name: Some(format!("com.amazonaws.vpce.eu-central-1.{}", service(1))),
        name: None,
        state: Some("Available".to_owned()),
        acceptance_required: Some(true),
        zone_ids: Vec::new(),
        zones: None,
        ip_address_types: vec!["ipv4".to_owned()],
        load_balancers: Vec::new(),
        private_dns: None,
        regions: Vec::new(),
        principals: Some(Ok(vec!["arn:aws:iam::123456789012:root".to_owned()])),
    }
}

/// `service` with these load balancers, without any other reads.
pub fn topology(service: EndpointService, load_balancers: impl IntoIterator<Item = LoadBalancer>) -> Topology {
    let load_balancers: BTreeMap<Arn, LoadBalancer> =
        load_balancers.into_iter().map(|load_balancer| (load_balancer.arn.clone(), load_balancer)).collect();
    let service = EndpointService { load_balancers: load_balancers.keys().cloned().collect(), ..service };
    Topology { services: Some(Ok([(service.id.clone(), service)].into())), load_balancers, ..Topology::default() }
}

/// These connections, without any other reads.
pub fn with_connections(connections: Vec<Connection>) -> Topology {
    Topology { connections: Some(Ok(connections)), ..Topology::default() }
}

/// Runs `evaluate` on `topology`, for service 1 and [`policy`].
pub fn with_context<T>(topology: &Topology, evaluate: impl FnOnce(CheckContext<'_>) -> T) -> T {
    with_policy(topology, &policy(), evaluate)
}

/// Runs `evaluate` on `topology`, for service 1 and this policy, at 09:00, without earlier states.
pub fn with_policy<T>(topology: &Topology, policy: &Policy, evaluate: impl FnOnce(CheckContext<'_>) -> T) -> T {
    let (service, region) = (service(1), region());
    evaluate(CheckContext::new(&service, topology, policy, &region, at(9, 0)))
}

/// The status of the only result.
pub fn only_status(results: Vec<CheckResult>) -> Status {
    let [result] = <[CheckResult; 1]>::try_from(results).unwrap();
    result.status
}

/// A network that was read completely and is empty.
pub fn network() -> Network {
    Network {
        rules: Ok(Vec::new()),
        unread_rules: BTreeMap::new(),
        prefix_lists: BTreeMap::new(),
        interfaces: Ok(Vec::new()),
        subnets: Ok(Vec::new()),
        acls: Ok(Vec::new()),
        route_tables: Ok(Vec::new()),
    }
}

/// A network in which nothing is blocked. Each zone, from `a` on, has a subnet (`subnet-a`, 10.0.0.0/24) with AWS's default
/// network ACL (`acl-a`) and a node of the load balancer `pg` (10.0.0.200); all share the VPC's main route table.
pub fn open_network(zones: &[char]) -> Network {
    let numbered = || zones.iter().zip(0..);
    let node = |(zone, number): (&char, u8)| interface(&format!("subnet-{zone}"), [10, 0, number, 200].into());
    let subnet = |(zone, number): (&char, u8)| Subnet {
        id: format!("subnet-{zone}"),
        vpc: "vpc-1".to_owned(),
        cidrs: vec![format!("10.0.{number}.0/24").parse().unwrap()],
    };
    let doors = |egress| {
        [(100, true), (32_767, false)]
            .map(|(number, allow)| acl_entry(number, egress, allow, Some(Ports::ALL), "0.0.0.0/0"))
    };
    let acl = |zone: &char| NetworkAcl {
        id: format!("acl-{zone}"),
        subnets: vec![format!("subnet-{zone}")],
        associations: BTreeMap::new(),
        entries: [true, false].into_iter().flat_map(doors).collect(),
    };
    let routes = vec![route("10.0.0.0/16", "local", "active")];
    Network {
        interfaces: Ok(numbered().map(node).collect()),
        subnets: Ok(numbered().map(subnet).collect()),
        acls: Ok(zones.iter().map(acl).collect()),
        route_tables: Ok(vec![RouteTable { main: true, routes, ..route_table("rtb-1") }]),
        ..network()
    }
}

/// A network interface of the load balancer named `pg`.
pub fn interface(subnet: &str, address: IpAddr) -> Interface {
    Interface {
        id: "eni-1".to_owned(),
        description: "ELB net/pg/0123456789abcdef".to_owned(),
        subnet: subnet.to_owned(),
        addresses: vec![address],
    }
}

/// An entry of a network ACL.
pub fn acl_entry(number: i32, egress: bool, allow: bool, tcp: Option<Ports>, peer: &str) -> AclEntry {
    AclEntry { number, egress, allow, tcp, peer: peer.parse().unwrap() }
}

/// A route table of vpc-1, without routes or subnets.
pub fn route_table(id: &str) -> RouteTable {
    RouteTable {
        id: id.to_owned(),
        vpc: "vpc-1".to_owned(),
        main: false,
        main_association: None,
        subnets: Vec::new(),
        associations: BTreeMap::new(),
        routes: Vec::new(),
        to_prefix_lists: Vec::new(),
    }
}

/// A route to `destination` by `by`.
pub fn route(destination: &str, by: &str, state: &str) -> Route {
    Route { destination: destination.parse().unwrap(), by: by.to_owned(), state: state.to_owned() }
}

/// A rule of a security group for a network, a prefix list (`pl-…`) or the members of a group (`sg-…`).
pub fn security_group_rule(group: &str, egress: bool, peer: &str, tcp: Option<Ports>) -> SecurityGroupRule {
    let peer = match peer {
        list if list.starts_with("pl-") => Peer::PrefixList(list.to_owned()),
        group if group.starts_with("sg-") => Peer::Group(group.to_owned()),
        cidr => Peer::Cidr(cidr.parse().unwrap()),
    };
    SecurityGroupRule { id: format!("sgr-{group}"), group: group.to_owned(), egress, tcp, peer }
}

/// Severity and summary of each failure. Panics if a result is unknown.
pub fn failures(results: &[CheckResult]) -> Vec<(Severity, &str)> {
    let failed = results.iter().filter_map(|result| match &result.status {
        Status::Pass(_) | Status::NotAsked => None,
        Status::Fail(finding) => Some((finding.severity, finding.summary.as_str())),
        Status::Unknown(why) => panic!("unknown: {why}"),
    });
    failed.collect()
}

/// The summary of each failure. Panics if a result is unknown.
pub fn summaries(results: &[CheckResult]) -> Vec<&str> {
    failures(results).into_iter().map(|(_, summary)| summary).collect()
}

/// Checks a rule for every finding of every check in all tests: each line of its command can be pasted as it is, no
/// command stands elsewhere, and nothing proposes TLS for a port whose protocol negotiates it.
#[cfg(test)]
pub(crate) fn assert_pasteable(finding: &Finding) {
    use crate::check::Parts;
    use crate::check::protocols::NEGOTIATE_TLS;

    let is_constant = |word: &str| ["TCP", "TLS", "TCP_UDP", "DNS", "APPLIED"].contains(&word);
    let is_placeholder =
        |word: &&str| word.len() > 2 && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && !is_constant(word);
    for line in finding.remedy.command.iter().flat_map(|commands| commands.lines()) {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        assert!(line.starts_with("aws ") || line.starts_with("privatelink-guard "), "no command: {line}");
        assert_eq!(words.find(is_placeholder), None, "somebody has to fill it in: {line}");
        assert!(!line.contains('<'), "somebody has to fill it in: {line}");
    }
    let proposes_tls = |port: u16| {
        let mut commands = finding.remedy.command.iter().flat_map(|commands| commands.split(['\n', '&']));
        let is_of_port = finding.parts.contains_key(&Parts::port(port));
        (is_of_port && finding.remedy.action.contains("or TLS"))
            || commands.any(|it| it.contains("--protocol TLS") && it.contains(&format!("--port {port} ")))
    };
    let proposed = NEGOTIATE_TLS.iter().find(|(port, _)| proposes_tls(*port));
    assert_eq!(proposed, None, "TLS is proposed: {:?}", finding.remedy);
    let is_command = |line: &&String| line.contains("aws ") || line.contains("privatelink-guard ");
    assert_eq!(finding.evidence.iter().find(is_command), None, "a command stands in the evidence");
}

/// The finding of a failure; `None` if the check passes. Panics if the result is unknown.
pub fn failure(status: Status) -> Option<Finding> {
    match status {
        Status::Pass(_) | Status::NotAsked => None,
        Status::Fail(finding) => Some(*finding),
        Status::Unknown(why) => panic!("unknown: {why}"),
    }
}

/// The finding of the only failure.
pub fn only_finding(results: Vec<CheckResult>) -> Finding {
    let mut failed = results.into_iter().filter_map(|result| match result.status {
        Status::Fail(finding) => Some(*finding),
        _ => None,
    });
    let finding = failed.next().unwrap();
    assert_eq!(failed.next(), None, "one finding");
    finding
}

/// The names of a finding's parts.
pub fn parts(finding: &Finding) -> Vec<&str> {
    finding.parts.keys().map(String::as_str).collect()
}

/// A load balancer in zones a and b that passes all checks, with these target groups and a listener for each, from port
/// 5432 on.
pub fn load_balancer(name: &str, target_groups: Vec<TargetGroup>) -> LoadBalancer {
    let zone = |zone: char| Zone { name: format!("eu-central-1{zone}"), subnet: format!("subnet-{zone}") };
    let listeners = target_groups.iter().zip(5432..).map(|(group, port)| listener("TCP", port, group));
    LoadBalancer {
        arn: elb_arn(&format!("loadbalancer/net/{name}/0123456789abcdef")),
        description: Ok(Description {
            kind: "network".to_owned(),
            scheme: "internal".to_owned(),
            state: "active".to_owned(),
            vpc: "vpc-1".to_owned(),
            zones: vec![zone('a'), zone('b')],
            security_groups: Vec::new(),
            enforced: None,
            dual_stack: false,
        }),
        listeners: Ok(listeners.collect()),
        target_groups: Ok(target_groups),
        cross_zone: None,
    }
}

/// A listener that forwards to `group`.
pub fn listener(protocol: &str, port: u16, group: &TargetGroup) -> Listener {
    Listener {
        arn: format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener/net/pg/0123456789abcdef/{port}"),
        port,
        protocol: protocol.to_owned(),
        forwards_to: Ok(vec![group.arn.clone()]),
        mutual_authentication: None,
        certificate: None,
        certificates_by_name: None,
        idle_timeout: None,
    }
}

/// A target group of IP addresses, without targets.
pub fn target_group(name: &str) -> TargetGroup {
    TargetGroup {
        arn: elb_arn(&format!("targetgroup/{name}/0123456789abcdef")),
        kind: TargetKind::Ip,
        vpc: Some("vpc-1".to_owned()),
        health_check: Some("TCP on traffic-port".to_owned()),
        health_check_port: None,
        health_check_codes: None,
        health_check_timing: None,
        is_ipv6: false,
        hostname: Some(Ok(None)),
        own_tags: Ok(BTreeMap::new()),
        targets: Ok(Vec::new()),
        attributes: None,
    }
}

/// A target group's attributes with AWS's defaults and this setting for cross-zone load balancing.
pub fn group_attributes(cross_zone: CrossZoneOverride) -> Option<Observed<TargetGroupAttributes>> {
    let routing_threshold = RoutingThreshold::DEFAULT;
    Some(Ok(TargetGroupAttributes {
        cross_zone,
        keeps_connections: Vec::new(),
        routing_threshold,
        proxy_protocol: false,
    }))
}

/// The ARN of an ELB resource.
pub fn elb_arn(resource: &str) -> Arn {
    format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:{resource}").parse().unwrap()
}

/// The target 10.0.0.`number` in zone a.
pub fn target(number: u8, health: &str) -> Target {
    let failed = health.starts_with("unhealthy");
    Target {
        id: format!("10.0.0.{number}"),
        port: Some(5432),
        zone: Some("eu-central-1a".to_owned()),
        address: Some([10, 0, 0, number].into()),
        subnet: None,
        security_groups: None,
        interfaces: Vec::new(),
        is_terminated: false,
        health: Health::parse(health),
        is_shifted_away: false,
        reason: failed.then(|| "Target.FailedHealthChecks".to_owned()),
        description: failed.then(|| "Health checks failed".to_owned()),
    }
}

/// An instance that EC2 no longer shows, and that ELB no longer uses.
pub fn terminated() -> Target {
    Target {
        id: "i-0123456789abcdef0".to_owned(),
        zone: None,
        address: None,
        is_terminated: true,
        ..target(1, "unused")
    }
}

/// A finding for tests where only the severity matters.
pub fn finding(severity: Severity) -> Finding {
    Finding::new(
        severity,
        "2 of 3 targets unhealthy in pg",
        "dbt still gets through.",
        Remedy {
            action: "Start them.".to_owned(),
            command: Some("aws elbv2 describe-target-health".to_owned()),
            console: Some("https://eu-central-1.console.aws.amazon.com/ec2/home".to_owned()),
            nothing_to_do: false,
        },
    )
    .with_evidence(vec!["healthy: 1 of 3 (1 in eu-central-1a)".to_owned()])
}

/// An alert since 08:00, which was sent if it fires.
pub fn alert(phase: Phase, severity: Severity) -> Alert {
    Alert {
        phase,
        failing: 2,
        passing: 0,
        milder: 0,
        counted_by: Some("run".to_owned()),
        since: at(8, 0),
        last_notified: at(8, 0),
        notified: (phase == Phase::Firing).then_some(severity),
        last_fired: None,
        parts: BTreeMap::new(),
        incident: "incident".to_owned(),
        finding: finding(severity),
        unknown: None,
        silenced: false,
    }
}

/// The item with this state, as the table has it.
pub fn item(state: State) -> Item {
    Item { record: Some(Record::new(state, at(8, 0))), version: Version::At(1) }
}

/// A silence of everything until nine.
pub fn silence() -> Silence {
    let (by, comment) = ("ada".to_owned(), "upgrade".to_owned());
    Silence { checks: vec!["*".to_owned()], resources: Vec::new(), until: at(9, 0), by, comment, announced: None }
}

/// A change to the [`load_balancer`] named `pg`.
pub fn change() -> Change {
    Change {
        event_name: "ModifyLoadBalancerAttributes".to_owned(),
        principal: "arn:aws:iam::111122223333:user/network-admin".to_owned(),
        source_ip_address: "203.0.113.7".to_owned(),
        event_time: "2026-03-14T08:00:00Z".to_owned(),
        id: "e-1".to_owned(),
        parameters: format!("{{\"loadBalancerArn\":\"{}\"}}", elb_arn("loadbalancer/net/pg/0123456789abcdef")),
    }
}
