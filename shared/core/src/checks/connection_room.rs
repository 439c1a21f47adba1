//! The room that dbt's endpoints take on a service: held requests, and connected endpoints beyond the limit. dbt
//! creates the endpoints of all its customers in the same accounts, so they may belong to another customer.

use std::collections::BTreeSet;

use crate::admission::takes_room;
use crate::check::connection_details::{MAX_ENDPOINTS, accept_command, describe_command, evidence, reject_command};
use crate::check::{CheckContext, Finding, Remedy, Severity, Status};
use crate::connections::{Room, Verdict, decide};
use crate::ids::ServiceId;
use crate::snapshot::Connection;
use crate::text::{count, limited};

/// Maximum number of parts in a finding.
const MAX_PARTS: usize = 100;

/// dbt's endpoints on a service, by their part in the finding.
struct Endpoints<'a> {
    room: Room<'a>,
    connected: Vec<&'a Connection>,
    held: Vec<&'a Connection>,
    /// The connected endpoints if they exceed the limit, or those that are not expected.
    beyond: Vec<&'a Connection>,
    /// Whether one of dbt's endpoints works, is being set up, or is being accepted.
    works: bool,
}

/// The result for the service. `of_dbt` contains all of dbt's endpoints on it.
pub(super) fn judge<'a>(service: &'a ServiceId, of_dbt: &[&'a Connection], context: CheckContext<'a>) -> Status {
    let endpoints = Endpoints::new(service, of_dbt, context);
    match (&endpoints.held[..], &endpoints.beyond[..]) {
        ([], []) => {
            let connected = count(endpoints.connected.len(), "endpoint");
            Status::pass(format!("no dbt request is held; {connected} connected, {}", endpoints.allowed()))
        }
        ([], _) => Status::fail(too_many(service, &endpoints, context)),
        ([_, ..], _) => Status::fail(waiting(service, &endpoints, context)),
    }
}

impl<'a> Endpoints<'a> {
    fn new(service: &'a ServiceId, of_dbt: &[&'a Connection], context: CheckContext<'a>) -> Self {
        let room = Room::new(context.policy, service);
        let is_held = |connection: &Connection| context.held.contains(&connection.endpoint);
        let connected: Vec<&Connection> =
            of_dbt.iter().copied().filter(|connection| takes_room(connection, context.policy)).collect();
        let mut held: Vec<&Connection> = of_dbt.iter().copied().filter(|connection| is_held(connection)).collect();
        held.sort_by_key(|connection| (connection.created, connection.endpoint.clone()));
        let beyond: Vec<&Connection> = match room {
            Room::AtMost(limit) if connected.len() > limit => connected.clone(),
            Room::Any | Room::AtMost(_) => Vec::new(),
            Room::Exactly(expected) => {
                connected.iter().copied().filter(|connection| !expected.contains(&connection.endpoint)).collect()
            }
        };
        let works = of_dbt.iter().any(|connection| match decide(connection, context.policy) {
            Verdict::Established | Verdict::Establishing => true,
            Verdict::DbtRequest => !is_held(connection),
            _ => false,
        });
        Self { room, connected, held, beyond, works }
    }

    /// The parameter that sets the limit, in a clause.
    fn allowed(&self) -> String {
        match self.room {
            Room::Any => "MaxDbtEndpoints sets no limit".to_owned(),
            Room::AtMost(limit) => format!("MaxDbtEndpoints allows {limit}"),
            Room::Exactly(_) if self.held.is_empty() && self.beyond.is_empty() => {
                "as ExpectedEndpoints says".to_owned()
            }
            Room::Exactly(_) => "ExpectedEndpoints names others".to_owned(),
        }
    }

    /// Whether the requests are held only because the table could not be read: there is room, or they are expected.
    fn lack_only_memory(&self, context: CheckContext<'_>) -> bool {
        let has_room = match self.room {
            Room::Any => true,
            Room::AtMost(limit) => self.connected.len() < limit,
            Room::Exactly(expected) => self.held.iter().any(|held| expected.contains(&held.endpoint)),
        };
        context.lacks_memory && has_room
    }

    /// The reason why requests are held, in a clause.
    fn reason(&self, context: CheckContext<'_>) -> String {
        match self.room {
            _ if self.lack_only_memory(context) => "state table unreadable".to_owned(),
            Room::AtMost(limit) if self.connected.len() < limit => "no room when requested".to_owned(),
            _ => self.allowed(),
        }
    }
}

/// The finding for held requests.
fn waiting(service: &ServiceId, endpoints: &Endpoints<'_>, context: CheckContext<'_>) -> Finding {
    let Endpoints { room, connected, held, beyond, works } = endpoints;
    let (severity, summary, impact) = match works {
        true => (
            Severity::Warning,
            format!("{} held: {}", count(held.len(), "dbt request"), endpoints.reason(context)),
            "Another dbt endpoint works or is being set up: if that one is yours, dbt is not affected. All dbt customers \
             have their endpoints in the same accounts, so either may be another customer's.",
        ),
        false => (
            Severity::Critical,
            format!("dbt cut off; {} held: {}", count(held.len(), "request"), endpoints.reason(context)),
            "dbt cannot connect: none of its endpoints on this service works. If dbt has just replaced yours, the held \
             request may be the new one. It may also be another customer's: all dbt customers have their endpoints in \
             the same accounts.",
        ),
    };
    let oldest = held[0];
    let accept = accept_command(service, context, &[oldest]);
    let reject = reject_command(service, [&oldest.endpoint], context.region);
    let which = match &held[..] {
        [_] => "Ask dbt Support which of these endpoints are yours, including the connected one. If the held one is \
             yours, accept it with the first command. If not, reject it with the second."
            .to_owned(),
        _ => format!(
            "Ask dbt Support which of these endpoints are yours. Accept yours, and reject the others. The first command accepts \
             the oldest, {}, the second rejects it; for the others, use the console.",
            oldest.endpoint
        ),
    };
    let mut lines: Vec<String> = Vec::new();
    if beyond.is_empty() && !connected.is_empty() {
        let ids = connected.iter().map(|connection| connection.endpoint.to_string());
        lines.push(format!("connected already: {}", limited(ids.collect(), MAX_ENDPOINTS).join(", ")));
    }
    lines.extend(evidence(context, held));
    if !beyond.is_empty() {
        lines.push(format!("connected, although {}:", endpoints.allowed()));
        lines.extend(evidence(context, beyond));
    }
    if context.remembered.is_none() && !context.lacks_memory {
        lines.push("decided from EC2's list alone: the deployed guard also knows what it held before".to_owned());
    }
    let action = match room {
        _ if endpoints.lack_only_memory(context) => {
            let others = if held.len() > 1 { " For the others, use the console." } else { "" };
            format!(
                "The guard cannot read its state table, so it accepts nothing until it can. Ask dbt Support whether {} is yours. If it \
                 is, accept it with the first command: do not wait for the table. If not, reject it with the second.{others}",
                oldest.endpoint
            )
        }
        Room::AtMost(limit) if connected.len() >= *limit => format!(
            "{which} A warning then reports {} connected endpoints until dbt deletes the old one. If dbt keeps both, \
             name both in ExpectedEndpoints. The guard never accepts a held request by itself.",
            connected.len() + 1
        ),
        _ => format!("{which} The guard never accepts a held request by itself."),
    };
    let console = context.region.endpoint_service(service.as_str());
    let finding =
        Finding::new(severity, summary, impact, Remedy::new(&action, Some(accept.next_line(reject)), console))
            .with_evidence(lines)
            .about(held.iter().chain(beyond).map(|connection| &connection.endpoint))
            .with_parts(connected_parts(beyond));
    // Anyone who can request the service can make requests come and go, and dbt's own endpoint may be down.
    if beyond.is_empty() { finding.with_parts(hours(held)).provokable(Severity::Critical) } else { finding }
}

/// The finding for connected endpoints beyond the limit, without held requests.
fn too_many(service: &ServiceId, endpoints: &Endpoints<'_>, context: CheckContext<'_>) -> Finding {
    let beyond = &endpoints.beyond;
    let region = context.region;
    let (summary, action, command) = match endpoints.room {
        Room::Exactly(_) => (
            format!("{} connected that ExpectedEndpoints does not name", count(beyond.len(), "dbt endpoint")),
            "Run the command only after dbt Support confirms that none of these endpoints is yours: it cuts them off \
             at once. If one is yours, add it to ExpectedEndpoints.",
            reject_command(service, beyond.iter().map(|connection| &connection.endpoint), region),
        ),
        // Only people know which of several is the company's own.
        _ => (
            format!("{} connected: {}", count(beyond.len(), "dbt endpoint"), endpoints.allowed()),
            "Ask dbt Support which of these endpoints are yours; the command shows them. Reject the others in the console: that \
             cuts them off at once. If all are yours, name all of them in ExpectedEndpoints.",
            describe_command(service, context, beyond),
        ),
    };
    Finding::new(
        Severity::Warning,
        summary,
        "All dbt customers have their endpoints in the same accounts: one of these may be another customer's, who can \
         then reach your service.",
        Remedy::new(action, Some(command), region.endpoint_service(service.as_str())),
    )
    .with_evidence(evidence(context, beyond))
    .about(beyond.iter().map(|connection| &connection.endpoint))
    .with_parts(connected_parts(beyond))
}

/// The hours in which the held requests were created, as parts: further requests are reported once a day.
fn hours(held: &[&Connection]) -> BTreeSet<String> {
    let hour = |connection: &&Connection| {
        connection.created.map_or("held".to_owned(), |created| format!("held since {}", created.strftime("%F %H:00")))
    };
    held.iter().rev().map(hour).take(MAX_PARTS).collect()
}

fn connected_parts<'a>(beyond: &'a [&Connection]) -> impl Iterator<Item = String> + 'a {
    beyond.iter().take(MAX_PARTS).map(|connection| format!("connected {}", connection.endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Admissions, admit};
    use crate::check::RememberedConnections;
    use crate::ids::EndpointId;
    use crate::snapshot::Topology;
    use crate::testing::{
        DBT, at, connection, endpoint, failure, parts, service, settings, with_connections, with_policy,
    };

    fn status(connections: &[Connection], variables: &[(&str, &str)]) -> Status {
        let policy = settings(variables).policy;
        let before = Admissions::default();
        let held = admit(connections, &policy, &service(1), Some(&before), at(9, 0)).hold;
        let topology = with_connections(connections.to_vec());
        let remembered = RememberedConnections::default();
        let of_dbt: Vec<&Connection> = connections.iter().collect();
        let service = service(1);
        with_policy(&topology, &policy, |context| {
            judge(&service, &of_dbt, CheckContext { held: &held, remembered: Some(&remembered), ..context })
        })
    }

    #[test]
    fn a_held_request_is_critical_if_no_dbt_endpoint_works() {
        let request = connection(2, Some(DBT), "pendingAcceptance");
        let held = failure(status(&[connection(1, Some(DBT), "available"), request.clone()], &[])).unwrap();
        assert_eq!((held.severity, parts(&held)), (Severity::Warning, vec!["held since 2026-03-14 08:00"]));
        assert_eq!(held.summary, "1 dbt request held: MaxDbtEndpoints allows 1");
        assert_eq!(decided_by(held), [("accept", endpoint(2)), ("reject", endpoint(2))]);
        let other = format!("{}={}", service(1), endpoint(3));
        let connections = [connection(1, Some(DBT), "failed"), request.clone()];
        let held = failure(status(&connections, &[("EXPECTED_ENDPOINTS", &other)])).unwrap();
        assert_eq!((held.severity, held.provokable), (Severity::Critical, Some(Severity::Critical)));
        assert_eq!(held.summary, "dbt cut off; 1 request held: ExpectedEndpoints names others");
        let setting_up = failure(status(&[connection(1, Some(DBT), "pending"), request], &[])).unwrap();
        assert_eq!(setting_up.severity, Severity::Warning, "another is being set up");
    }

    #[test]
    fn an_unread_table_is_the_reason_only_where_there_is_room() {
        let summary = |connections: &[Connection]| {
            let policy = settings(&[]).policy;
            let held = admit(connections, &policy, &service(1), None, at(9, 0)).hold;
            let of_dbt: Vec<&Connection> = connections.iter().collect();
            let (service, topology) = (service(1), Topology::default());
            let status = with_policy(&topology, &policy, |context| {
                judge(&service, &of_dbt, CheckContext { held: &held, lacks_memory: true, ..context })
            });
            failure(status).unwrap().summary
        };
        let request = connection(2, Some(DBT), "pendingAcceptance");
        assert_eq!(summary(std::slice::from_ref(&request)), "dbt cut off; 1 request held: state table unreadable");
        let both = [connection(1, Some(DBT), "available"), request];
        assert_eq!(summary(&both), "1 dbt request held: MaxDbtEndpoints allows 1", "it would be held anyway");
    }

    #[test]
    fn thousands_of_held_requests_are_one_short_finding() {
        let mut connections: Vec<Connection> =
            (2..3000).map(|number| connection(number, Some(DBT), "pendingAcceptance")).collect();
        connections.push(connection(1, Some(DBT), "available"));
        let held = failure(status(&connections, &[])).unwrap();
        assert_eq!(held.summary, "2998 dbt requests held: MaxDbtEndpoints allows 1");
        assert!(held.evidence.len() < 25, "{}", held.evidence.len());
        assert!(held.remedy.action.contains(&format!("the oldest, {}", endpoint(2))), "{}", held.remedy.action);
        assert_eq!(decided_by(held), [("accept", endpoint(2)), ("reject", endpoint(2))]);
    }

    /// The operation of each command, with its endpoint.
    fn decided_by(finding: Finding) -> Vec<(&'static str, EndpointId)> {
        let decided = |command: &str| {
            let operations = ["accept", "reject"];
            let operation =
                operations.into_iter().find(|it| command.starts_with(&format!("aws ec2 {it}-vpc"))).unwrap();
            (operation, command.split_once("--vpc-endpoint-ids ").unwrap().1.parse().unwrap())
        };
        finding.remedy.command.unwrap().lines().map(decided).collect()
    }

    #[test]
    fn endpoints_beyond_the_limit_are_a_warning() {
        let two = [connection(1, Some(DBT), "available"), connection(2, Some(DBT), "available")];
        assert!(matches!(status(&two[..1], &[]), Status::Pass(_)));
        let beyond = failure(status(&two, &[])).unwrap();
        assert_eq!(
            (beyond.severity, parts(&beyond)),
            (Severity::Warning, vec!["connected vpce-00000000000000001", "connected vpce-00000000000000002"])
        );
        assert_eq!(beyond.summary, "2 dbt endpoints connected: MaxDbtEndpoints allows 1");
        let command = beyond.remedy.command.unwrap();
        assert!(command.starts_with("aws ec2 describe-vpc-endpoint-connections"), "it cuts nobody off: {command}");
        let expected = format!("{}={}", service(1), endpoint(1));
        let other = failure(status(&two, &[("EXPECTED_ENDPOINTS", &expected)])).unwrap();
        assert_eq!(other.summary, "1 dbt endpoint connected that ExpectedEndpoints does not name");
        assert!(other.remedy.command.unwrap().ends_with(endpoint(2).as_str()));
        assert!(matches!(status(&two, &[("MAX_DBT_ENDPOINTS", "0")]), Status::Pass(_)));
    }
}
