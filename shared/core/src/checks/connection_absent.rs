//! `connection.absent`: does dbt have an endpoint on the service, or is one being set up?

use crate::check::connection_details::{MAX_ENDPOINTS, accept_command, describe_command};
use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Group, Need, Remedy, Severity, Spec, Status};
use crate::connections::{Owner, Verdict, decide};
use crate::ids::{EndpointId, ServiceId};
use crate::snapshot::{Connection, ConnectionState};
use crate::text::{count, limited};

pub(crate) const SPEC: Spec = Spec {
    id: "connection.absent",
    in_short: "dbt has an endpoint on the service.",
    severities: &[(Severity::Critical, "dbt lost its last endpoint"), (Severity::Info, "dbt never had one")],
    fails_when: "dbt has no endpoint on the service that is available or being set up",
    failing_word: "absent",
    impact: "dbt cannot connect. This is expected before dbt's first request.",
    cloudtrail_events: &["RejectVpcEndpointConnections"],
    group: Group::Connections,
    branch: Branch::Service,
    needs: Some(Need::DbtPrincipals),
    can_stop_dbt: false,
    evaluate,
    ..Spec::USUAL
};

fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let Some(service) = context.service else { return Vec::new() };
    let status = match context.topology.connections_of(service) {
        Ok(connections) => judge(service, &connections, context),
        Err(why) => why.into(),
    };
    vec![CheckResult::new(&SPEC, service, status)]
}

fn judge(service: &ServiceId, connections: &[&Connection], context: CheckContext<'_>) -> Status {
    let is_dbts = |connection: &&Connection| Owner::new(connection, context.policy) == Owner::Dbt;
    let of_dbt: Vec<&Connection> = connections.iter().copied().filter(is_dbts).collect();
    let with =
        |wanted: &[Verdict]| of_dbt.iter().find(|connection| wanted.contains(&decide(connection, context.policy)));
    // A request counts if the guard accepts it: not in a dry run, not while held, and not if AWS refused it in this
    // run.
    let is_accepted = |request: &Connection| {
        let is_refused = context.refused.contains_key(request.endpoint.as_str());
        !context.policy.dry_run && !is_refused && !context.held.contains(&request.endpoint)
    };
    let requests: Vec<&Connection> =
        of_dbt.iter().copied().filter(|connection| decide(connection, context.policy) == Verdict::DbtRequest).collect();
    // A working endpoint takes precedence over one that is being set up.
    let working = with(&[Verdict::Established])
        .or_else(|| with(&[Verdict::Establishing]))
        .or_else(|| requests.iter().find(|request| is_accepted(request)));
    if let Some(Connection { endpoint, state, .. }) = working {
        return Status::pass(format!("dbt has an endpoint: {endpoint} is {state}"));
    }
    // In a dry run, or if all requests are held, only people accept: after the loss of the last endpoint, dbt is cut
    // off until they do.
    let had_connection = context.remembered.is_some_and(|remembered| remembered.had_connection);
    let only_people_accept =
        context.policy.dry_run || requests.iter().all(|request| context.held.contains(&request.endpoint));
    let is_lost = had_connection && only_people_accept;
    if !requests.is_empty() && !is_lost {
        return Status::Unknown("dbt's request waits to be accepted; connection.dbt reports it".to_owned());
    }
    if with(&[Verdict::UnknownState]).is_some() {
        return Status::Unknown("dbt's endpoint is in a state that this version does not know".to_owned());
    }
    match context.remembered {
        Some(remembered) if remembered.had_connection => Status::fail(lost(service, &of_dbt, context)),
        Some(_) => Status::fail(waiting(service, context)),
        None => Status::Unknown(
            "dbt has no endpoint that is available or being set up, and without the guard's table it is unknown whether it ever \
             had one"
                .to_owned(),
        ),
    }
}

fn lost(service: &ServiceId, of_dbt: &[&Connection], context: CheckContext<'_>) -> Finding {
    let line = |connection: &&Connection| format!("{}: {}", connection.endpoint, connection.state);
    // dbt's accounts hold the endpoints of all its customers: only a formerly connected one is certainly the company's.
    let established =
        |endpoint: &EndpointId| context.remembered.is_some_and(|remembered| remembered.established.contains(endpoint));
    let is_ours =
        |connection: &&Connection| connection.state == ConnectionState::Rejected && established(&connection.endpoint);
    let rejected: Vec<&Connection> = of_dbt.iter().copied().filter(is_ours).collect();
    let is_request = |connection: &&Connection| decide(connection, context.policy) == Verdict::DbtRequest;
    let (held, requests): (Vec<&Connection>, Vec<&Connection>) =
        of_dbt.iter().copied().filter(is_request).partition(|request| context.held.contains(&request.endpoint));
    let (action, command) = match (&rejected[..], &requests[..], &held[..]) {
        ([_, ..], ..) => (
            "Find out who rejected it. Unless it was rejected on purpose, accept it again.",
            accept_command(service, context, &rejected),
        ),
        ([], [_, ..], _) => (
            "dbt's request is waiting, and DryRun is on. If you asked dbt Support for it, accept it, or switch DryRun \
             off: make deploy SET=\"DryRun=false\"",
            accept_command(service, context, &requests),
        ),
        ([], [], [_, ..]) => (
            "A dbt request is held: it may be another customer's. Ask dbt Support whether it is yours. If it is, \
             accept it.",
            describe_command(service, context, &held),
        ),
        ([], [], []) => {
            ("Ask dbt Support to create the endpoint again, with this service name.", service_name(service, context))
        }
    };
    Finding::new(
        Severity::Critical,
        "dbt has lost its last endpoint on this service",
        "dbt cannot connect: none of its endpoints is available or being set up.",
        Remedy::new(action, Some(command), context.region.endpoint_service(service.as_str())),
    )
    .with_evidence(
        std::iter::once(count(of_dbt.len(), "dbt endpoint") + " listed by EC2")
            .chain(limited(of_dbt.iter().map(line).collect(), MAX_ENDPOINTS))
            .collect(),
    )
}

fn waiting(service: &ServiceId, context: CheckContext<'_>) -> Finding {
    let then = match context.policy.dry_run {
        true => "DryRun is on: when dbt sends one, someone must accept it.",
        false => "When dbt sends one, the guard accepts it.",
    };
    Finding::new(
        Severity::Info,
        "waiting for dbt's connection request",
        format!("dbt cannot connect yet: it has no open request. {then}"),
        Remedy::new(
            "If you have not asked yet, send dbt Support the service name and ask for an endpoint. The \
             command prints the name.",
            Some(service_name(service, context)),
            context.region.endpoint_service(service.as_str()),
        ),
    )
    .with_evidence(vec!["the guard knows of no earlier available dbt endpoint".to_owned()])
}

/// The command that prints the service name with which dbt creates an endpoint.
fn service_name(service: &ServiceId, context: CheckContext<'_>) -> Command {
    Command::new("ec2 describe-vpc-endpoint-service-configurations", context.region)
        .option("service-ids", service)
        .literal("--query 'ServiceConfigurations[].ServiceName' --output text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::RememberedConnections;

    use crate::testing::{
        DBT, UNTRUSTED, connection, endpoint, failure, only_status, refusal, settings, with_connections, with_context,
        with_policy,
    };

    fn status(connections: Vec<Connection>, remembered: Option<&RememberedConnections>) -> Status {
        let topology = with_connections(connections);
        only_status(with_context(&topology, |context| evaluate(CheckContext { remembered, ..context })))
    }

    fn severity(states: &[&str], had_connection: bool) -> Option<Severity> {
        let connections = states.iter().zip(1..).map(|(state, number)| connection(number, Some(DBT), state));
        let remembered = RememberedConnections { had_connection, ..RememberedConnections::default() };
        match status(connections.collect(), Some(&remembered)) {
            Status::Pass(_) => None,
            Status::Fail(finding) => Some(finding.severity),
            Status::Unknown(why) => panic!("unknown: {why}"),
            Status::NotAsked => panic!("not asked"),
        }
    }

    #[test]
    fn a_missing_endpoint_is_critical_once_dbt_was_connected() {
        let (info, critical) = (Some(Severity::Info), Some(Severity::Critical));
        let table: &[(&[&str], Option<Severity>, Option<Severity>)] = &[
            (&[], info, critical),
            (&["deleted"], info, critical),
            (&["rejected", "failed", "expired"], info, critical),
            (&["pendingAcceptance"], None, None),
            (&["pending"], None, None),
            (&["rejected", "available"], None, None),
        ];
        for (states, before, after) in table {
            assert_eq!(severity(states, false), *before, "{states:?}");
            assert_eq!(severity(states, true), *after, "{states:?}");
        }
    }

    #[test]
    fn the_command_accepts_only_a_formerly_connected_endpoint() {
        let remembered = |established: &[u32]| RememberedConnections {
            had_connection: true,
            established: established.iter().map(|number| endpoint(*number)).collect(),
            ..RememberedConnections::default()
        };
        let command = |remembered: &RememberedConnections| {
            let rejected = vec![connection(1, Some(DBT), "rejected"), connection(2, Some(DBT), "rejected")];
            failure(status(rejected, Some(remembered))).unwrap().remedy.command.unwrap()
        };
        let ours = command(&remembered(&[2]));
        assert!(
            ours.starts_with("aws ec2 accept") && ours.ends_with(endpoint(2).as_str()),
            "not another customer's: {ours}"
        );
        assert!(command(&remembered(&[])).contains("ServiceName"), "the name to send to dbt Support");
    }

    #[test]
    fn a_held_request_is_no_endpoint_but_an_accepted_one_is() {
        let remembered = RememberedConnections { had_connection: true, ..RememberedConnections::default() };
        let status = |numbers: &[u32]| {
            let requests = numbers.iter().map(|number| connection(*number, Some(DBT), "pendingAcceptance"));
            let topology = with_connections(requests.collect());
            let held = [endpoint(2)].into();
            only_status(with_context(&topology, |context| {
                evaluate(CheckContext { remembered: Some(&remembered), held: &held, ..context })
            }))
        };
        for order in [[2, 3], [3, 2]] {
            assert!(matches!(status(&order), Status::Pass(_)), "{order:?}");
        }
        let lost = failure(status(&[2])).unwrap();
        assert_eq!(lost.severity, Severity::Critical);
        assert!(lost.remedy.action.starts_with("A dbt request is held"), "{}", lost.remedy.action);
    }

    #[test]
    fn a_waiting_request_in_a_dry_run_leaves_a_loss_critical() {
        let policy = settings(&[("DRY_RUN", "true")]).policy;
        let topology = with_connections(vec![connection(1, Some(DBT), "pendingAcceptance")]);
        let status = |had_connection| {
            let remembered = RememberedConnections { had_connection, ..RememberedConnections::default() };
            with_policy(&topology, &policy, |context| {
                only_status(evaluate(CheckContext { remembered: Some(&remembered), ..context }))
            })
        };
        let lost = failure(status(true)).unwrap();
        assert_eq!(lost.severity, Severity::Critical);
        assert!(lost.remedy.action.contains("DryRun") && lost.remedy.command.unwrap().starts_with("aws ec2 accept"));
        assert!(matches!(status(false), Status::Unknown(_)), "before the first one, connection.dbt says it all");
    }

    #[test]
    fn a_request_that_aws_refuses_does_not_end_the_alert() {
        let topology = with_connections(vec![connection(1, Some(DBT), "pendingAcceptance")]);
        let remembered = RememberedConnections { had_connection: true, ..RememberedConnections::default() };
        let refused = [(endpoint(1).to_string(), refusal("UnauthorizedOperation"))].into();
        let status = with_context(&topology, |context| {
            only_status(evaluate(CheckContext { remembered: Some(&remembered), refused: &refused, ..context }))
        });
        assert!(matches!(status, Status::Unknown(_)), "{status:?}");
    }

    #[test]
    fn other_accounts_do_not_count() {
        let remembered = RememberedConnections::default();
        for owner in [Some(UNTRUSTED), None] {
            let status = status(vec![connection(1, owner, "available")], Some(&remembered));
            assert!(matches!(status, Status::Fail(_)), "{owner:?}");
        }
    }

    #[test]
    fn an_unread_table_or_an_unknown_state_is_unknown() {
        assert!(matches!(status(vec![], None), Status::Unknown(_)), "the table could not be read");
        let unknown_state = vec![connection(1, Some(DBT), "newState")];
        assert!(matches!(status(unknown_state, Some(&RememberedConnections::default())), Status::Unknown(_)));
    }

    #[test]
    fn in_a_dry_run_the_impact_promises_no_acceptance() {
        let impact = |dry_run: &str| {
            let policy = settings(&[("DRY_RUN", dry_run)]).policy;
            let topology = with_connections(Vec::new());
            let remembered = RememberedConnections::default();
            let evaluated = |context: CheckContext<'_>| {
                only_status(evaluate(CheckContext { remembered: Some(&remembered), ..context }))
            };
            failure(with_policy(&topology, &policy, evaluated)).unwrap().impact
        };
        assert!(impact("false").ends_with("the guard accepts it."));
        assert!(impact("true").ends_with("someone must accept it."));
    }
}
