//! Every list that the functions read: if a page fails or repeats, or if a row lacks a field that a check needs, the
//! whole read is an error that the run names. No check passes and no alert resolves because of it.

use attack::{End, FakeAws, Flaw, Published, REFUSED_PAGE, Row, play, run_once};
use guard_core::testing::DBT;

const VARIABLES: &[(&str, &str)] = &[
    ("ALERT_AFTER", "1"),
    ("NOTIFICATION_TOPIC_ARN", "arn:aws:sns:eu-central-1:111122223333:notifications"),
    ("MAX_DBT_ENDPOINTS", "2"),
];

/// The lists of EC2, whose actions have the prefix `ec2:`: action, element, and a row that lacks a field.
const EC2: [(&str, &str, &str); 11] = [
    (
        "DescribeVpcEndpointConnections",
        "vpcEndpointConnectionSet",
        "<item><vpcEndpointState>deleted</vpcEndpointState></item>",
    ),
    ("DescribeVpcEndpointServiceConfigurations", "serviceConfigurationSet", "<item/>"),
    ("DescribeVpcEndpointServicePermissions", "allowedPrincipals", "<item/>"),
    ("DescribeVpcEndpointConnectionNotifications", "connectionNotificationSet", "<item/>"),
    ("DescribeNetworkInterfaces", "networkInterfaceSet", "<item/>"),
    ("DescribeSubnets", "subnetSet", "<item><subnetId>subnet-b</subnetId></item>"),
    (
        "DescribeNetworkAcls",
        "networkAclSet",
        "<item><networkAclId>acl-2</networkAclId><entrySet><item/></entrySet></item>",
    ),
    ("DescribeRouteTables", "routeTableSet", "<item><routeTableId>rtb-2</routeTableId></item>"),
    (
        "DescribeSecurityGroupRules",
        "securityGroupRuleSet",
        "<item><securityGroupRuleId>sgr-9</securityGroupRuleId></item>",
    ),
    ("DescribeInstances", "reservationSet", "<item><instancesSet><item/></instancesSet></item>"),
    ("GetManagedPrefixListEntries", "entrySet", "<item/>"),
];

/// The lists of ELB: action, element, and whether the list has pages.
const ELB: [(&str, &str, bool); 5] = [
    ("DescribeLoadBalancers", "LoadBalancers", true),
    ("DescribeListeners", "Listeners", true),
    ("DescribeTargetGroups", "TargetGroups", true),
    ("DescribeTags", "TagDescriptions", false),
    ("DescribeTargetHealth", "TargetHealthDescriptions", false),
];

/// The result of a run of `function` if AWS's responses have this flaw. An alert of every group fires before the run.
fn run(function: &str, flaw: Option<Flaw>) -> (End, FakeAws) {
    let mut fake = FakeAws { has_instances: true, ..FakeAws::new(1) };
    (fake.unhealthy, fake.cross_zone_off, fake.others_allowed) = ([1].into(), [1].into(), [1].into());
    let aws = fake.shared();
    let end = play(async {
        let first = run_once(function, &aws, VARIABLES, "first").await;
        assert_eq!(first, End::Done);
        {
            // dbt requests a connection; all problems are fixed, but the responses have the flaw; without stored paths, health-watcher reads
            // everything.
            let mut fake = aws.lock().unwrap();
            (fake.published, fake.flaw) = (Vec::new(), flaw);
            fake.table.items.retain(|item| !item["item"]["S"].as_str().unwrap().contains("#path#"));
            fake.connections.push(Row::new(2, 1, Some(DBT), "pendingAcceptance"));
        }
        run_once(function, &aws, VARIABLES, "second").await
    });
    let fake = std::mem::take(&mut *aws.lock().unwrap());
    (end, fake)
}

/// Asserts that the read counts as failed, and only that: it causes an alert, and an error in connection-acceptor,
/// because a request may be waiting.
fn assert_is_failed(function: &str, call: &str, flaw: Flaw) {
    let (end, aws) = run(function, Some(flaw));
    match (function, end) {
        ("connection-acceptor", End::Undone(undone)) => assert!(undone.contains(call), "{flaw:?}: {undone}"),
        ("health-watcher" | "drift-watcher", End::Done) => {}
        (_, end) => panic!("{function}: {flaw:?}: {end:?}"),
    }
    let lost = |sent: &&Published| sent.check == "visibility.lost" && sent.kind == "firing" && sent.resource == call;
    assert_eq!(aws.published.iter().filter(lost).count(), 1, "{function}: {flaw:?}: {:?}", aws.published);
    assert!(aws.published.iter().all(|sent| sent.kind != "resolved"), "{flaw:?}: {:?}", aws.published);
    assert_eq!(aws.accept_calls, [], "{flaw:?}");
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// The functions whose decisions depend on `action`. connection-acceptor also reads the services' names, which only
/// serve the reader.
fn callers(action: &str) -> Vec<&'static str> {
    let all = ["connection-acceptor", "health-watcher", "drift-watcher"];
    let calls = |function: &&str| run(function, None).1.count(action) > 0;
    let only_names =
        |function: &&str| *function == "connection-acceptor" && action == "DescribeVpcEndpointServiceConfigurations";
    all.into_iter().filter(|function| calls(function) && !only_names(function)).collect()
}

#[test]
fn a_failed_or_repeated_page_fails_the_whole_list() {
    assert_eq!(run("connection-acceptor", None).1.accept_calls.len(), 1, "if the list is whole");
    let of_ec2 = EC2.map(|(action, list, _)| ("ec2", action, list, "nextToken"));
    let of_elb = ELB.iter().filter(|(.., has_pages)| *has_pages);
    let of_elb = of_elb.map(|(action, list, _)| ("elasticloadbalancing", *action, *list, "NextMarker"));
    for (api, action, list, token) in of_ec2.into_iter().chain(of_elb) {
        let callers = callers(action);
        assert!(!callers.is_empty(), "nobody calls {action}");
        for page in [REFUSED_PAGE, "same"] {
            let find = leak(format!("</{list}>"));
            let replace = leak(format!("</{list}><{token}>{page}</{token}>"));
            for function in &callers {
                assert_is_failed(function, &format!("{api}:{action}"), Flaw { action, find, replace });
            }
        }
    }
}

#[test]
fn a_row_without_a_required_field_fails_the_whole_list() {
    let of_ec2 = EC2.map(|(action, list, row)| ("ec2", action, list, row));
    let of_elb = ELB.iter().map(|(action, list, _)| ("elasticloadbalancing", *action, *list, "<member/>"));
    for (api, action, list, row) in of_ec2.into_iter().chain(of_elb) {
        let (find, replace) = (leak(format!("<{list}>")), leak(format!("<{list}>{row}")));
        for function in callers(action) {
            assert_is_failed(function, &format!("{api}:{action}"), Flaw { action, find, replace });
        }
    }
}

#[test]
fn an_attribute_missing_from_elb_is_an_error() {
    let (action, find) = ("DescribeLoadBalancerAttributes", "load_balancing.cross_zone.enabled");
    let flaw = Flaw { action, find, replace: "something.else" };
    assert_is_failed("drift-watcher", "elasticloadbalancing:DescribeLoadBalancerAttributes", flaw);
    let flaw = Flaw { action: "DescribeListenerAttributes", find: "350", replace: "soon" };
    assert_is_failed("drift-watcher", "elasticloadbalancing:DescribeListenerAttributes", flaw);
    let action = "DescribeTargetGroupAttributes";
    let flaw = Flaw { action, find: "use_load_balancer_configuration", replace: "maybe" };
    assert_is_failed("drift-watcher", "elasticloadbalancing:DescribeTargetGroupAttributes", flaw);
}
