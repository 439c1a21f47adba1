//! Example pages of `check --html` for made-up services, for the browser tests and for a look:
//! `cargo run --example pages -- FOLDER`. For one of them also what `check` and `status` print, with colours: the
//! documents' pictures are made from these (`make pictures`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod status;

use std::path::PathBuf;

use guard_core::admission::held_by_the_list;
use guard_core::catalogue::{checks_of, evaluate_checks};
use guard_core::check::{Branch, CheckContext, Group, RememberedConnections};
use guard_core::ids::ServiceId;
use guard_core::snapshot::{
    Connection, CrossZoneOverride, EndpointService, Listener, LoadBalancer, Network, Notification, Ports, Target,
    TargetGroup, TargetKind, Topology, Zone,
};
use guard_core::testing::{
    DBT, UNTRUSTED, at, call_error, connection, endpoint_service, group_attributes, load_balancer, open_network,
    region, security_group_rule, service, settings, target, target_group, topology,
};
use privatelink_guard::output::{html, tree};
use privatelink_guard::report::{CheckReport, ServiceReport};
use privatelink_guard::status::render;

/// The width of what is printed, in columns: that of the terminal in the pictures.
const COLUMNS: usize = 96;

/// A known account that is not dbt's.
const KNOWN: &str = "444455556666";

/// The targets' security group.
const SECURITY_GROUP: &str = "sg-0123456789abcdef0";

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("the folder to write to"));
    std::fs::create_dir_all(&folder).unwrap();
    let pages = [
        ("all-green", vec![evaluated(&all_green(), "5432", false)]),
        (
            "broken",
            vec![evaluated(&broken(), "5432+5433+5434", false), evaluated(&two_load_balancers(), "5432", false)],
        ),
        ("fifty-targets", vec![evaluated(&fifty_targets(), "5432", false)]),
        ("before-the-service", vec![evaluated(&all_green(), "5432", true)]),
    ];
    let write = |file: String, text: String| std::fs::write(folder.join(file), text).unwrap();
    for (name, services) in pages {
        write(format!("{name}.html"), html::render(&report_on(services)).unwrap());
    }
    let report = report_on(vec![evaluated(&a_target_fails(), "5432", false)]);
    write("check-page.html".to_owned(), html::render(&report).unwrap());
    write("check.txt".to_owned(), tree::render(&report, COLUMNS));
    write("status.txt".to_owned(), render::render(&status::of(&report), COLUMNS));
}

fn report_on(services: Vec<ServiceReport>) -> CheckReport {
    let (account, region) = (Some("111122223333".to_owned()), region().name().to_owned());
    CheckReport { account, region, checked_at: at(9, 0), runbook: None, services }
}

/// The results for these ports; `preflight` covers the load balancer alone, before an endpoint service exists.
fn evaluated(topology: &Topology, ports: &str, preflight: bool) -> ServiceReport {
    let topic = "arn:aws:sns:eu-central-1:111122223333:connections";
    let known = [("KNOWN_ACCOUNTS", KNOWN), ("NOTIFICATION_TOPIC_ARN", topic), ("LISTENER_PORTS", ports)];
    let (policy, region, service) = (settings(&known).policy, region(), service(1));
    let remembered = RememberedConnections { had_connection: true, ..RememberedConnections::default() };
    let service = (!preflight).then_some(&service);
    let context = CheckContext::new(service, topology, &policy, &region, at(9, 0));
    let held = service.map(|service| held_by_the_list(topology, &policy, service, at(9, 0))).unwrap_or_default();
    let context = CheckContext { remembered: Some(&remembered), held: &held, ..context };
    let mut checks = checks_of(&[Group::Connections, Group::Health, Group::Settings]);
    checks.retain(|check| service.is_some() || check.branch == Branch::Path);
    let results = evaluate_checks(&checks, context);
    let ports = policy.listener_ports.for_service(service);
    match service {
        Some(service) => ServiceReport::new(service, &ports, topology, results),
        None => ServiceReport::without_service(topology.load_balancers.values().next().unwrap(), &ports, results),
    }
}

fn all_green() -> Topology {
    let targets = vec![in_zone('a', 10, "healthy"), in_zone('b', 11, "healthy"), in_zone('c', 12, "healthy")];
    behind(
        vec![connection(1, Some(DBT), "available"), connection(2, Some(DBT), "available")],
        vec![group("pg", targets)],
    )
}

/// One target of three fails its health check.
fn a_target_fails() -> Topology {
    let targets = vec![in_zone('a', 10, "healthy"), in_zone('b', 11, "healthy"), in_zone('c', 12, "unhealthy")];
    behind(vec![connection(1, Some(DBT), "available")], vec![group("pg", targets)])
}

fn fifty_targets() -> Topology {
    let health = |number: u8| match number {
        7 | 23 | 31 => "unhealthy",
        12 => "draining",
        44 => "initial",
        _ => "healthy",
    };
    let zones = ['a', 'b', 'c'];
    let targets = (1..=50).map(|number| in_zone(zones[usize::from(number % 3)], number, health(number))).collect();
    let few = vec![in_zone('a', 90, "healthy"), in_zone('b', 91, "healthy"), in_zone('c', 92, "healthy")];
    behind(vec![connection(1, Some(DBT), "available")], vec![group("pg-replicas", targets), group("pgbouncer", few)])
}

/// Many failures at once: an untrusted account, a principal that matches everybody, a port without a listener and a
/// listener that dbt does not use, a target from which a zonal shift keeps connections away, zones without targets, and
/// reads that AWS denied. One name tries to be HTML.
fn broken() -> Topology {
    let shifted = Target { is_shifted_away: true, ..in_zone('c', 13, "healthy") };
    let targets =
        vec![in_zone('a', 10, "unhealthy"), in_zone('a', 11, "healthy"), in_zone('b', 12, "unhealthy"), shifted];
    let connections = vec![
        connection(1, Some(DBT), "available"),
        connection(2, Some(DBT), "pendingAcceptance"),
        connection(7, Some(UNTRUSTED), "available"),
        connection(8, Some(KNOWN), "available"),
    ];
    let mut topology = behind(connections, vec![group("pg", targets), group("reporting", Vec::new())]);
    for load_balancer in topology.load_balancers.values_mut() {
        load_balancer.cross_zone = Some(Ok(false));
        let listeners = load_balancer.listeners.as_mut().unwrap();
        for listener in listeners.iter_mut() {
            listener.port += 1;
        }
        listeners.push(Listener { port: 9000, forwards_to: Ok(Vec::new()), ..listeners[0].clone() });
        let description = load_balancer.description.as_mut().unwrap();
        "internet-facing".clone_into(&mut description.scheme);
    }
    let service = service_of(&mut topology);
    service.name = Some("postgres <script>alert('dbt')</script> \u{202e}production".to_owned());
    service.principals = Some(Ok(vec!["*".to_owned()]));
    service.acceptance_required = Some(false);
    topology.notifications = Some(Err(call_error("ec2:DescribeVpcEndpointConnectionNotifications")));
    topology.network =
        topology.network.map(|network| Network { acls: Err(call_error("ec2:DescribeNetworkAcls")), ..network });
    topology
}

/// A second load balancer with instance targets and two listeners that share a target group. EC2 shows none of its
/// interfaces.
fn two_load_balancers() -> Topology {
    let mut topology = all_green();
    let instance = |number: u8| Target { id: format!("i-0123456789abcde{number}"), ..in_zone('a', number, "healthy") };
    let group = TargetGroup { kind: TargetKind::Instance, ..group("standby", vec![instance(10), instance(11)]) };
    let mut load_balancer = LoadBalancer { cross_zone: Some(Ok(true)), ..load_balancer("pg-standby", vec![group]) };
    let listeners = load_balancer.listeners.as_mut().unwrap();
    listeners.push(Listener { port: 6432, ..listeners[0].clone() });
    service_of(&mut topology).load_balancers.push(load_balancer.arn.clone());
    topology.load_balancers.insert(load_balancer.arn.clone(), load_balancer);
    topology
}

/// A service that passes all checks, with these connections and one load balancer with these target groups.
fn behind(connections: Vec<Connection>, groups: Vec<TargetGroup>) -> Topology {
    let mut topology = topology(endpoint_service(), [in_three_zones(groups)]);
    let service = service_of(&mut topology);
    service.name = Some("postgres".to_owned());
    service.zones = Some(zone_names());
    topology.connections = Some(Ok(connections));
    topology.notifications = Some(Ok(vec![notification(&service_id())]));
    topology.network = Some(open());
    topology
}

fn service_of(topology: &mut Topology) -> &mut EndpointService {
    topology.services.as_mut().unwrap().as_mut().unwrap().values_mut().next().unwrap()
}

fn service_id() -> ServiceId {
    service(1)
}

fn zone_names() -> Vec<String> {
    ['a', 'b', 'c'].map(|zone| format!("eu-central-1{zone}")).to_vec()
}

fn in_three_zones(groups: Vec<TargetGroup>) -> LoadBalancer {
    let mut load_balancer = load_balancer("pg", groups);
    load_balancer.cross_zone = Some(Ok(true));
    let zones = zone_names().into_iter().zip(["subnet-a", "subnet-b", "subnet-c"]);
    load_balancer.description.as_mut().unwrap().zones =
        zones.map(|(name, subnet)| Zone { name, subnet: subnet.to_owned() }).collect();
    load_balancer
}

fn group(name: &str, targets: Vec<Target>) -> TargetGroup {
    let attributes = group_attributes(CrossZoneOverride::LoadBalancer);
    TargetGroup { targets: Ok(targets), attributes, ..target_group(name) }
}

fn in_zone(zone: char, number: u8, health: &str) -> Target {
    let third = zone as u8 - b'a';
    let address = [10, 0, third, number];
    Target {
        id: std::net::Ipv4Addr::from(address).to_string(),
        address: Some(address.into()),
        zone: Some(format!("eu-central-1{zone}")),
        security_groups: Some(vec![SECURITY_GROUP.to_owned()]),
        ..target(number, health)
    }
}

fn notification(service: &ServiceId) -> Notification {
    Notification {
        id: "vpce-nfn-0123456789abcdef0".to_owned(),
        service: service.clone(),
        topic: "arn:aws:sns:eu-central-1:111122223333:connections".to_owned(),
        events: guard_core::snapshot::EVENTS.map(str::to_owned).to_vec(),
        enabled: true,
    }
}

/// A network in which everything passes, with a node of the load balancer in each zone.
fn open() -> Network {
    let allow = |egress| security_group_rule(SECURITY_GROUP, egress, "10.0.0.0/16", Some(Ports::ALL));
    Network { rules: Ok(vec![allow(false), allow(true)]), ..open_network(&['a', 'b', 'c']) }
}
