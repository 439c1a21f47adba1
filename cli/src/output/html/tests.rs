use guard_core::admission::held_by_the_list;
use guard_core::catalogue::{checks_of, evaluate_checks};
use guard_core::check::{CheckContext, CheckResult, Group, RememberedConnections, Status};
use guard_core::config::Policy;
use guard_core::snapshot::{EndpointService, LoadBalancer, Target, TargetGroup, Topology};
use guard_core::testing::{
    DBT, UNTRUSTED, at, call_error, connection, endpoint, endpoint_service, listener, load_balancer, policy, region,
    service, settings, target, target_group, topology,
};

use super::*;
use crate::report::{PartKind, PathPart};

/// Characters that anyone can put into a name and that a browser must show as text.
const HOSTILE: &str = "</h2><script src=//evil.example/x.js></script>\"onload='a()' \u{202e}gnp.exe\u{7}";

/// A service with many failures and some facts that AWS did not show.
fn broken(name: &str) -> Topology {
    let targets = [target(1, "healthy"), target(2, "unhealthy"), target(3, "initial")];
    let group = TargetGroup { targets: Ok(targets.to_vec()), ..target_group("pg") };
    let mut service = endpoint_service();
    service.name = Some(name.to_owned());
    service.acceptance_required = Some(false);
    service.principals = Some(Ok(vec![format!("arn:aws:iam::{UNTRUSTED}:role/{name}")]));
    let mut topology = topology(service, [load_balancer("pg", vec![group])]);
    topology.connections =
        Some(Ok(vec![connection(1, Some(DBT), "rejected"), connection(2, Some(UNTRUSTED), "available")]));
    topology.notifications = Some(Err(call_error("ec2:DescribeVpcEndpointConnectionNotifications")));
    topology
}

fn report(topology: &Topology) -> CheckReport {
    report_with(topology, &policy())
}

fn report_with(topology: &Topology, policy: &Policy) -> CheckReport {
    let (service, region) = (service(1), region());
    let context = CheckContext::new(&service, topology, policy, &region, at(9, 0));
    let held = held_by_the_list(topology, policy, &service, at(9, 0));
    let remembered = RememberedConnections { established: [endpoint(1)].into(), ..RememberedConnections::default() };
    let context = CheckContext { remembered: Some(&remembered), held: &held, ..context };
    let checks = checks_of(&[Group::Connections, Group::Health, Group::Settings]);
    let (ports, results) = (policy.listener_ports.for_service(Some(&service)), evaluate_checks(&checks, context));
    let services = vec![ServiceReport::new(&service, &ports, topology, results)];
    let account = Some("111122223333".to_owned());
    CheckReport { account, region: "eu-central-1".to_owned(), checked_at: at(9, 0), runbook: None, services }
}

fn page(topology: &Topology) -> String {
    render(&report(topology)).unwrap()
}

/// The text in the template's escaping.
fn escaped(text: &str) -> String {
    askama::filters::escape(text, askama::filters::Html).unwrap().to_string()
}

fn parts(part: &PathPart) -> Vec<&PathPart> {
    std::iter::once(part).chain(part.parts.iter().flat_map(parts)).collect()
}

#[test]
fn names_from_aws_stay_text() {
    let page = page(&broken(HOSTILE));
    assert!(!page.contains("<script"), "escaped");
    assert!(!page.contains("\"onload"), "cannot end an attribute");
    assert!(!page.contains(['\u{202e}', '\u{7}']), "what nobody sees is left out");
    assert!(
        page.contains(&escaped("</h2><script src=//evil.example/x.js></script>\"onload='a()' gnp.exe")),
        "but shown"
    );
}

#[test]
fn every_failure_has_its_impact_and_its_fix() {
    let report = report(&broken("pg"));
    let page = render(&report).unwrap();
    let found: Vec<&CheckResult> = report.results().collect();
    assert!(found.iter().any(|result| matches!(result.status, Status::Unknown(_))));
    let mut commands = 0;
    for result in found {
        let texts = match &result.status {
            Status::Pass(text) | Status::Unknown(text) => vec![text],
            Status::NotAsked => panic!("not asked"),
            Status::Fail(finding) => {
                commands += usize::from(finding.remedy.command.is_some());
                let remedy = &finding.remedy;
                let texts = [&finding.summary, &finding.impact, &remedy.action].into_iter();
                texts.chain(&finding.evidence).chain(&remedy.command).chain(&remedy.console).collect()
            }
        };
        for text in texts {
            assert!(page.contains(&escaped(text)), "{}: {text}", result.check.id);
        }
    }
    assert!(commands > 3);
}

#[test]
fn every_part_is_drawn_once_with_its_state_in_words() {
    let mut topology = broken("service-name");
    topology.connections = Some(Ok(vec![connection(1, Some(DBT), "rejected")]));
    let report = report(&topology);
    let page = render(&report).unwrap();
    let drawn: Vec<&str> = page.split("id=\"s1-p").skip(1).collect();
    let parts = parts(&report.services[0].path);
    assert_eq!(drawn.len(), parts.len());
    for part in parts {
        let word = if part.kind == PartKind::Listener { "pass".to_owned() } else { Badge::of(part.state()).word };
        let name = if part.kind == PartKind::Target { &part.resource } else { &part.name };
        let is_it = |node: &&&str| node.contains(&format!("\">{name}")) && node.contains(&word);
        assert!(drawn.iter().any(|node| is_it(&node)), "{part:?}");
    }
}

#[test]
fn a_held_request_is_drawn_as_held() {
    let mut topology = broken("pg");
    let requests = (2..50).map(|number| connection(number, Some(DBT), "pendingAcceptance"));
    topology.connections = Some(Ok([connection(1, Some(DBT), "available")].into_iter().chain(requests).collect()));
    let page = page(&topology);
    let node =
        |name: &str| page.split("id=\"s1-p").find(|node| node.contains(&format!("\">{name}"))).unwrap().to_owned();
    let held = node(endpoint(2).as_str());
    assert!(held.contains(&format!("of {DBT}, held")) && held.contains("48 dbt requests held"), "{held}");
    assert!(!node(endpoint(1).as_str()).contains("held"));
    assert!(node("and 28 more").contains("endpoint"), "thousands of requests do not hide the path");
}

#[test]
fn an_accounts_finding_is_shown_once_on_each_endpoint() {
    let mut topology = broken("pg");
    for numbers in [vec![2], vec![2, 3]] {
        let connections = numbers.iter().map(|number| connection(*number, Some(UNTRUSTED), "pendingAcceptance"));
        topology.connections = Some(Ok(connections.collect()));
        let page = page(&topology);
        for number in numbers {
            let node = page.split("id=\"s1-p").find(|node| node.contains(&format!("\">{}", endpoint(number)))).unwrap();
            assert_eq!(node.matches("untrusted account 999999999999").count(), 1, "{node}");
        }
    }
}

#[test]
fn a_zone_without_targets_does_not_pass() {
    let zones = Some(["eu-central-1a", "eu-central-1b"].map(ToOwned::to_owned).to_vec());
    let page = page(&topology(EndpointService { zones, ..endpoint_service() }, [load_balancer("pg", Vec::new())]));
    let zone = page.split("eu-central-1a").nth(1).unwrap();
    let zone = zone.split("eu-central-1b").next().unwrap();
    assert!(zone.contains("no targets") && zone.contains("no check") && !zone.contains("pass"), "{zone}");
}

#[test]
fn healthy_targets_are_grouped_by_zone_and_port() {
    let anywhere = Target { zone: None, port: None, ..target(3, "healthy") };
    let targets = vec![target(1, "healthy"), target(2, "unhealthy"), anywhere];
    let group = TargetGroup { targets: Ok(targets), ..target_group("pg") };
    let report = report(&topology(endpoint_service(), [load_balancer("pg", vec![group])]));
    let service = &report.services[0];
    let drawing = Drawing::new(service, "s1", &mut Index::new(&service.results, "s1"));
    let group = &drawing.load_balancers[0].lanes[0].groups[0];
    let healthy: Vec<_> = group.healthy.iter().map(|(place, parts)| (place.as_str(), parts[0].name.as_str())).collect();
    assert_eq!(healthy, [("", "10.0.0.3"), (" in eu-central-1a on port 5432", "10.0.0.1")]);
    let [ailing] = &group.ailing[..] else { panic!("one target") };
    assert_eq!(ailing.name, "10.0.0.2:5432");
    assert!(ailing.detail.as_ref().unwrap().ends_with(", in eu-central-1a"), "{:?}", ailing.detail);
}

#[test]
fn a_listener_has_the_status_of_its_port() {
    let group = target_group("pg");
    let listeners = Ok(vec![listener("TCP", 443, &group), listener("UDP", 5432, &group)]);
    let topology = topology(endpoint_service(), [LoadBalancer { listeners, ..load_balancer("pg", vec![group]) }]);
    let report = report_with(&topology, &settings(&[("LISTENER_PORTS", "443+5432")]).policy);
    let service = &report.services[0];
    let drawing = Drawing::new(service, "s1", &mut Index::new(&service.results, "s1"));
    let badges = drawing.load_balancers[0].lanes[0].listeners.iter().map(|listener| listener.badge.class);
    assert_eq!(badges.collect::<Vec<_>>(), ["pass", "critical"], "dbt's connections are TCP");
}

#[test]
fn every_anchor_has_a_target() {
    let page = page(&broken("pg"));
    let anchors: Vec<&str> = page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(anchors.len() > 10);
    for anchor in anchors {
        assert_eq!(page.matches(&format!("id=\"{anchor}\"")).count(), 1, "{anchor}");
    }
}

#[test]
fn the_page_loads_no_resource() {
    let page = page(&broken("pg"));
    for word in ["http:", " src=", "<link", "<script", "<iframe", "<img", "url(", "@import", " on"] {
        let page = if word == " on" { page.split("<style>").next().unwrap_or_default() } else { &page };
        assert!(!page.contains(word), "{word}");
    }
    for link in page.split("href=\"").skip(1) {
        assert!(
            link.starts_with('#') || link.starts_with("https://"),
            "{}",
            link.split('"').next().unwrap_or_default()
        );
    }
}

#[test]
fn only_https_becomes_a_link() {
    let mut report = report(&broken("pg"));
    let hostile = "javascript:alert(1)";
    let result = report.services[0].results.iter_mut().find_map(|result| match &mut result.status {
        Status::Fail(finding) => Some(finding),
        _ => None,
    });
    result.unwrap().remedy.console = Some(hostile.to_owned());
    assert!(!render(&report).unwrap().contains(hostile));
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = std::env::temp_dir();
    let error = write(&report(&broken("pg")), &folder).unwrap_err();
    assert_eq!(error.to_string(), format!("the page cannot be written to {}", folder.display()));
}

#[test]
fn an_account_that_is_not_trusted_shows_on_its_endpoint() {
    let report = report(&broken("pg"));
    let service = &report.services[0];
    let mut index = Index::new(&service.results, "s1");
    let path = Drawing::new(service, "s1", &mut index);
    let [dbt, untrusted] = &path.endpoints[..] else { panic!("two endpoints") };
    assert_eq!((dbt.badge.class, untrusted.badge.class), ("critical", "critical"));
    assert!(untrusted.callouts[0].text.contains(UNTRUSTED));
}

#[test]
fn an_unread_service_is_never_shown_as_passing() {
    let page = page(&Topology {
        services: Some(Err(call_error("ec2:DescribeVpcEndpointServiceConfigurations"))),
        ..Topology::default()
    });
    assert!(page.contains("No load balancer is known") && page.contains("No endpoint is known"));
    assert!(!page.contains("badge pass") && !page.contains("Everything"));
    assert!(page.contains("<h1>Nothing could be determined.</h1>"));
}
