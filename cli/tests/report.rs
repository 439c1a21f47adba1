//! The output of `check` and `request` for values from the observer.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use clap::Parser;
use guard_core::admission::held_by_the_list;
use guard_core::catalogue;
use guard_core::catalogue::{checks_of, evaluate_checks};
use guard_core::check::{CheckContext, CheckResult, Finding, Group, Remedy, RememberedConnections, Severity, Status};
use guard_core::checks::network_path::remote_side_of;
use guard_core::snapshot::{
    Certificate, EndpointService, Listener, LoadBalancer, Observed, PrivateDns, TargetGroup, Topology,
};
use guard_core::testing::{
    at, call_error, connection, endpoint, endpoint_service, listener, load_balancer, network, service, settings,
    target, target_group, topology, with_context,
};
use privatelink_guard::args::{AccountUrl, Cli, CliCommand, DbtEnvironment, RequestArgs};
use privatelink_guard::output::{json, tree};
use privatelink_guard::report::{CheckReport, PartKind, ServiceReport};
use privatelink_guard::request::{self, Obstacles, ServiceFacts};

const GROUPS: [Group; 3] = [Group::Connections, Group::Health, Group::Settings];

/// A service with dbt connected, one failing target of two, and an unread network.
fn broken() -> Topology {
    let group = TargetGroup { targets: Ok(vec![target(1, "healthy"), target(2, "unhealthy")]), ..target_group("pg") };
    let balancer = LoadBalancer {
        listeners: Ok(vec![listener("TCP", 5432, &group)]),
        cross_zone: Some(Ok(true)),
        ..load_balancer("pg", vec![group])
    };
    let name = Some("postgres\u{202e}".to_owned());
    let connections = Some(Ok(vec![connection(1, Some("123456789012"), "available")]));
    Topology { connections, network: None, ..topology(EndpointService { name, ..endpoint_service() }, [balancer]) }
}

fn report_of(topology: &Topology) -> CheckReport {
    let history = RememberedConnections::default();
    let results = with_context(topology, |context| {
        evaluate_checks(&checks_of(&GROUPS), CheckContext { remembered: Some(&history), ..context })
    });
    CheckReport {
        account: Some("111122223333".to_owned()),
        region: "eu-central-1".to_owned(),
        checked_at: at(9, 0),
        runbook: None,
        services: vec![ServiceReport::new(&service(1), &BTreeSet::new(), topology, results)],
    }
}

#[test]
fn each_result_appears_once_in_the_tree_with_sign_and_word() {
    let report = report_of(&broken());
    let text = anstream::adapter::strip_str(&tree::render(&report, 100)).to_string();
    for result in report.results() {
        assert!(text.contains(result.check.id), "{text}");
    }
    let signs = ["✓ pass", "✗ fail", "? unknown"].map(|sign| text.matches(sign).count());
    let summary = report.summary();
    assert_eq!(signs, [summary.pass, summary.fail, summary.unknown]);
    assert!(signs.iter().all(|count| *count > 0), "{text}");
    // Commands and addresses are never broken.
    let is_whole = |line: &str| line.contains("$ aws") || line.contains("more: https://");
    assert!(text.lines().all(|line| is_whole(line) || line.chars().count() <= 100), "{text}");
    assert!(!text.contains('\u{202e}'), "what nobody sees is removed");
}

#[test]
fn the_stacks_runbook_and_silences_are_shown() {
    let mut report = report_of(&broken());
    let console = tree::render(&report, 80);
    assert!(console.contains("more: https://eu-central-1.console.aws.amazon.com/"), "{console}");
    report.runbook = Some("https://wiki.example.com/runbook".to_owned());
    report.services[0].silences = vec!["silenced until 9:00: target-group.health (by ada: upgrade)".to_owned()];
    let text = tree::render(&report, 80);
    assert!(text.contains("more: https://wiki.example.com/runbook#target-group.health\n"), "{text}");
    assert!(text.contains("\nsilenced until 9:00: target-group.health (by ada: upgrade)\n"), "{text}");
}

/// A finding with `name` in each of its texts.
fn finding_of(name: &str) -> Finding {
    let action = format!("Open {name} for {name}, or close {name}.");
    Finding::new(
        Severity::Warning,
        format!("security group {name} blocks {name}"),
        format!("{name} and {name} are cut off"),
        Remedy { action, command: None, console: None, nothing_to_do: false },
    )
    .with_evidence(vec![format!("a rule of {name}, of {name}"), format!("{name} of {name}")])
}

#[test]
fn a_name_never_becomes_a_line_that_looks_like_a_command() {
    let name = "$ aws ec2 delete-vpc --vpc-id vpc-1\n$ aws ec2 delete-vpc --vpc-id vpc-2";
    let mut report = report_of(&broken());
    for result in &mut report.services[0].path.results {
        result.status = Status::Fail(Box::new(finding_of(name)));
    }
    for width in 40..=160 {
        let text = anstream::adapter::strip_str(&tree::render(&report, width)).to_string();
        let mut lines = text.lines().map(|line| line.trim_start_matches([' ', '│', '├', '└', '─']));
        let forged = lines.find(|line| line.starts_with("$ aws ec2 delete-vpc") || line.starts_with("aws"));
        assert_eq!(forged, None, "in {width} columns:\n{text}");
        assert!(text.matches("delete-vpc").count() > 20, "the name is shown:\n{text}");
    }
}

#[test]
fn the_path_is_drawn_from_the_endpoint_to_the_targets() {
    let text = anstream::adapter::strip_str(&tree::render(&report_of(&broken()), 100)).to_string();
    let places: Vec<usize> = [
        "endpoint service postgres",
        "endpoint vpce-",
        "load balancer pg",
        "listener TCP 5432, to pg",
        "target group pg, 1 of 2 targets healthy",
        "✓ target 10.0.0.1:5432",
    ]
    .map(|words| text.find(words).unwrap_or_else(|| panic!("{words} in {text}")))
    .into();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn a_held_request_is_drawn_as_held_and_decided_from_the_list() {
    let connections = Some(Ok(vec![
        connection(1, Some("123456789012"), "available"),
        connection(2, Some("123456789012"), "pendingAcceptance"),
    ]));
    let topology = Topology { connections, ..broken() };
    let results = with_context(&topology, |context| {
        let held = held_by_the_list(&topology, context.policy, &service(1), context.now);
        evaluate_checks(&checks_of(&GROUPS), CheckContext { held: &held, ..context })
    });
    let report = CheckReport {
        services: vec![ServiceReport::new(&service(1), &BTreeSet::new(), &topology, results)],
        ..report_of(&topology)
    };
    let text = anstream::adapter::strip_str(&tree::render(&report, 200)).to_string();
    for words in [
        "✗ endpoint vpce-00000000000000002, of 123456789012, held",
        "✗ fail, warning  connection.dbt: 1 dbt request held: MaxDbtEndpoints allows 1",
        "decided from EC2's list alone: the deployed guard also knows what it held before",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn a_listener_that_dbt_does_not_use_is_grey_and_has_no_result() {
    let (pg, admin) = (target_group("pg"), target_group("admin"));
    let mut balancer = load_balancer("pg", vec![pg.clone()]);
    balancer.listeners = Ok(vec![listener("TCP", 5432, &pg), listener("TCP", 9000, &admin)]);
    let (topology, ports) = (topology(endpoint_service(), [balancer]), BTreeSet::from([5432]));
    let report = ServiceReport::new(&service(1), &ports, &topology, Vec::new());
    let text = tree::render(&CheckReport { services: vec![report], ..report_of(&topology) }, 100);
    let grey = "\u{1b}[2mlistener TCP 9000, to admin; not on dbt's path\u{1b}[0m";
    assert!(text.contains(grey) && !text.contains("target group admin"), "{text}");
    assert!(text.contains("\u{1b}[1mlistener TCP 5432\u{1b}[0m, to pg"), "{text}");
}

#[test]
fn a_remote_side_result_appears_at_its_target_group() {
    let topology = broken();
    let group = &topology.load_balancers.values().next().unwrap().target_groups.as_ref().unwrap()[0];
    let check = catalogue::find("network-path").unwrap();
    let unseen = || Status::Unknown("EC2 does not show it".to_owned());
    let near = CheckResult::new(check, &group.arn, unseen());
    let remote = CheckResult::new(check, &remote_side_of(&group.arn), unseen());
    let report = ServiceReport::new(&service(1), &BTreeSet::new(), &topology, vec![near.clone(), remote.clone()]);
    let balancers = report.path.parts.iter().filter(|part| part.kind == PartKind::LoadBalancer);
    let groups = balancers.flat_map(|part| &part.parts).filter(|part| part.kind == PartKind::TargetGroup);
    let results: Vec<_> = groups.map(|part| part.results.clone()).collect();
    assert_eq!(results, [vec![near, remote]]);
}

#[test]
fn the_worst_result_decides_the_exit_status() {
    let report = report_of(&broken());
    assert_eq!(report.exit_status(Severity::Warning), 1, "a target fails");
    assert_eq!(report.exit_status(Severity::Critical), 2, "the rest is unknown, which is never all right");
    let healthy = CheckReport { services: Vec::new(), ..report };
    assert_eq!(healthy.exit_status(Severity::Info), 0);
}

/// With `UPDATE_EXAMPLES` set, the test writes the example (`make docs`).
#[test]
fn the_json_matches_its_documentation() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/check/report.json");
    let text = format!("{:#}\n", json::render(&report_of(&broken())));
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), text, "make docs writes the example");
}

fn request(flags: &[&str]) -> RequestArgs {
    let arguments = [&["privatelink-guard", "request"], flags].concat();
    match Cli::try_parse_from(arguments).unwrap().command {
        CliCommand::Request(request) => request,
        _ => unreachable!(),
    }
}

const FACTS: ServiceFacts<'_> = ServiceFacts {
    service_name: "com.amazonaws.vpce.eu-central-1.vpce-svc-1",
    region: "eu-central-1",
    private_dns: None,
    ports: &[5432],
};

#[test]
fn the_request_asks_only_for_what_aws_cannot_know() {
    let text = request::text(&FACTS, &request(&[])).unwrap();
    assert_eq!(
        text,
        "Subject: New AWS Self-hosted PrivateLink Request\n\n\
         - Type: Self-hosted PrivateLink\n\
         - Platform/Service: Postgres\n\
         - dbt platform account URL: <the address of your dbt account>\n\
         - VPC Endpoint Service Name: com.amazonaws.vpce.eu-central-1.vpce-svc-1\n\
         - Custom DNS (if HTTPS/TLS): none\n\
         - Service Region: eu-central-1\n\
         - dbt AWS environment: <US, EMEA, AU or JP>\n"
    );
    let flags = ["--account-url", "https://ab123.jp1.dbt.com/settings", "--dns", "git.example.com"];
    let text = request::text(&FACTS, &request(&flags)).unwrap();
    for line in ["URL: https://ab123.jp1.dbt.com\n", "TLS):\n  - DNS record: git.example.com\n", "environment: JP\n"] {
        assert!(text.contains(line), "{text}");
    }
    let no_name = PrivateDns { name: "pg\nexample".to_owned(), state: None, record: None };
    assert!(request::text(&ServiceFacts { private_dns: Some(&no_name), ..FACTS }, &request(&[])).is_err());
}

#[test]
fn typical_ports_name_the_platform() {
    let platform = |ports: &[u16]| {
        let text = request::text(&ServiceFacts { ports, ..FACTS }, &request(&[])).unwrap();
        text.lines().find_map(|line| line.strip_prefix("- Platform/Service: ")).unwrap().to_owned()
    };
    let table: [(&[u16], &str); 9] = [
        (&[5432], "Postgres"),
        (&[5439], "Redshift"),
        (&[1025], "Teradata"),
        (&[3306], "MySQL"),
        (&[1433], "SQL Server"),
        (&[443, 22], "<Git server: GitLab, GitHub Enterprise, ...>"),
        (&[8443, 443], "<Starburst or Trino>"),
        (&[443], "<what it is: Postgres, GitLab, ...>"),
        (&[5432, 5439], "<what it is: Postgres, GitLab, ...>"),
    ];
    for (ports, expected) in table {
        assert_eq!(platform(ports), expected, "{ports:?}");
    }
}

#[test]
fn an_account_address_names_an_environment_or_another_cloud() {
    let environment = |url: &str| url.parse::<AccountUrl>().map(|account| account.environment);
    for (url, expected) in [
        ("ab123.us1.dbt.com", DbtEnvironment::Us),
        ("https://cloud.getdbt.com/", DbtEnvironment::Us),
        ("AB123.eu1.dbt.com", DbtEnvironment::Emea),
        ("emea.dbt.com", DbtEnvironment::Emea),
        ("ab123.au1.dbt.com", DbtEnvironment::Au),
        ("jp1.dbt.com", DbtEnvironment::Jp),
    ] {
        assert_eq!(environment(url), Ok(Some(expected)), "{url}");
    }
    assert_eq!(environment("acme.dbt.example.com"), Ok(None), "a single tenant's own");
    assert_eq!(environment("acme.dbt.com"), Ok(None), "a single tenant's own");
    for url in ["ab123.us2.dbt.com", "eu3.dbt.com", "ab123.eu4.dbt.com"] {
        assert!(environment(url).unwrap_err().contains("not on AWS"), "{url}");
    }
    for url in ["", "http://ab123.us1.dbt.com", "ab 123.us1.dbt.com", "us1"] {
        assert!(environment(url).unwrap_err().contains("expected the address"), "{url}");
    }
}

#[test]
fn a_certificate_that_lacks_the_name_stops_the_request() {
    let arn = "arn:aws:acm:eu-central-1:111122223333:certificate/1".to_owned();
    let group = target_group("pg");
    let listener = Listener {
        certificate: Some(arn.clone()),
        certificates_by_name: Some(Ok(Vec::new())),
        ..listener("TLS", 443, &group)
    };
    let balancer = LoadBalancer { listeners: Ok(vec![listener]), ..load_balancer("pg", vec![group]) };
    let with = |certificate: Observed<Certificate>| {
        let certificates = [(arn.clone(), certificate)].into();
        request::uncovered(
            "pg.example.com",
            &BTreeSet::new(),
            &Topology { certificates, ..topology(endpoint_service(), [balancer.clone()]) },
        )
    };
    let certificate = |name: &str| Certificate {
        status: "ISSUED".to_owned(),
        not_after: at(9, 0),
        names: vec![name.to_owned()],
        imported: false,
        key_algorithm: Some("RSA-2048".to_owned()),
    };
    assert_eq!(with(Ok(certificate("*.example.com"))), Obstacles::default());
    let uncovered = with(Ok(certificate("db.example.com")));
    assert_eq!(uncovered.failing, ["listener.certificate: no certificate of pg:443 covers pg.example.com"]);
    let unread = with(Err(call_error("acm:DescribeCertificate")));
    assert!(unread.failing.is_empty() && unread.unknown.len() == 1, "unknown is not uncovered: {unread:?}");
}

#[test]
fn the_request_says_whether_the_new_endpoint_will_be_held() {
    let connections = Some(Ok(vec![connection(1, Some("123456789012"), "available")]));
    let note = |variables: &[(&str, &str)], topology: &Topology| {
        request::held_later(&settings(variables).policy, &service(1), topology).unwrap_or_default()
    };
    let connected = Topology { connections, ..broken() };
    let held = note(&[], &connected);
    assert!(held.starts_with("1 dbt endpoint connected, and MaxDbtEndpoints allows 1: the guard will hold"), "{held}");
    assert!(held.ends_with("make deploy SET=\"MaxDbtEndpoints=2\""), "{held}");
    assert_eq!(note(&[("MAX_DBT_ENDPOINTS", "2")], &connected), "");
    assert_eq!(note(&[], &Topology::default()), "", "there is room");
    let named = format!("{}={}", service(1), endpoint(1));
    assert!(note(&[("EXPECTED_ENDPOINTS", &named)], &connected).contains("until you add its id"));
}

#[test]
fn failures_that_would_stop_dbt_hold_the_request_back() {
    let obstacles = |topology: &Topology| Obstacles::of(&report_of(topology));
    let fails = |topology: &Topology| !obstacles(topology).failing.is_empty();
    assert!(!fails(&broken()), "one of two targets serves");
    assert!(!obstacles(&broken()).unknown.is_empty(), "the network was not read");
    let group = TargetGroup { targets: Ok(vec![target(1, "unhealthy")]), ..target_group("pg") };
    assert!(fails(&topology(endpoint_service(), [load_balancer("pg", vec![group])])));
    let untrusted = connection(2, Some("999999999999"), "available");
    let others = Topology { connections: Some(Ok(vec![untrusted])), network: Some(network()), ..broken() };
    assert!(!fails(&others), "critical, but not for dbt");
    let dns = PrivateDns { name: "pg.example.com".to_owned(), state: Some("failed".to_owned()), record: None };
    let unverified = EndpointService { private_dns: Some(dns), ..endpoint_service() };
    assert!(fails(&topology(unverified, [])), "the request says that dbt uses this name");
}
