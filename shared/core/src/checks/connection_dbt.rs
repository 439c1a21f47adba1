//! `connection.dbt`: is dbt's own connection working, or on its way there?

use std::time::Duration;

use jiff::Timestamp;

use super::connection_room;
use crate::check::connection_details::{accept_command, describe_command, evidence};
use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Group, Need, Remedy, Severity, Spec, Status};
use crate::connections::{Verdict, decide};
use crate::ids::AccountId;
use crate::snapshot::{CallError, Connection, ConnectionState, LastConnection};

pub(crate) const SPEC: Spec = Spec {
    id: "connection.dbt",
    in_short: "dbt's connections work, and none of its requests is held or stuck.",
    severities: &[
        (Severity::Critical, "the connection is broken or stuck, or its request could not be accepted"),
        (
            Severity::Warning,
            "the same, while another dbt endpoint works; a request is held; more endpoints are connected than \
             `MaxDbtEndpoints` allows, or ones that `ExpectedEndpoints` does not name; the connection lacks zones; or \
             dbt has not connected for a long time",
        ),
        (Severity::Info, "the request waits because `DryRun` is on"),
    ],
    fails_when: "dbt's connection is `rejected`, `failed`, `expired`, `partial` (connected in some zones only), \
                 `pending` for over 15 minutes, or in a state that the guard does not know; its request waits for over \
                 15 minutes, or because AWS refuses the acceptance or `DryRun` is on, or `MaxDbtEndpoints` or \
                 `ExpectedEndpoints` holds it; more endpoints are connected than these allow; or, with \
                 `ExpectTrafficEvery`, dbt has not connected through it for that long",
    failing_word: "failing",
    impact: "dbt cannot connect through this endpoint. If it has no other one, it cannot reach your service.",
    cloudtrail_events: &["RejectVpcEndpointConnections"],
    group: Group::Connections,
    branch: Branch::Service,
    needs: Some(Need::DbtPrincipals),
    can_stop_dbt: false,
    evaluate,
    ..Spec::USUAL
};

/// Time after which a connection is stuck: AWS sets up an accepted one in about a minute.
const STUCK_AFTER: Duration = Duration::from_mins(15);

/// One result per connection of dbt on the service, and one for the service about the room that they take.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let Some(service) = context.service else { return Vec::new() };
    let connections = match context.topology.connections_of(service) {
        Ok(connections) => connections,
        Err(why) => return vec![CheckResult::unlisted(&SPEC, service, why)],
    };
    let is_dbt = |owner: &AccountId| context.policy.dbt_accounts.contains(owner);
    let of_dbt: Vec<&Connection> =
        connections.into_iter().filter(|connection| connection.owner.as_ref().is_some_and(is_dbt)).collect();
    let one_by_one = of_dbt
        .iter()
        // A deleted endpoint does not pass: its alert closes.
        .filter(|connection| decide(connection, context.policy) != Verdict::Gone)
        // Held requests share one alert on the service, and their later states need none.
        .filter(|connection| !context.held.contains(&connection.endpoint))
        .filter(|connection| !was_held_in_vain(connection, context))
        .map(|connection| CheckResult::new(&SPEC, &connection.endpoint, judge(connection, context)));
    let room = CheckResult::new(&SPEC, service, connection_room::judge(service, &of_dbt, context));
    one_by_one.chain([room]).collect()
}

/// Whether the request was held and has since been rejected or expired. A failed or connected one was accepted in
/// between.
fn was_held_in_vain(connection: &Connection, context: CheckContext<'_>) -> bool {
    let was_held = context.remembered.is_some_and(|remembered| {
        remembered.was_held(connection) && !remembered.established.contains(&connection.endpoint)
    });
    was_held && matches!(connection.state, ConnectionState::Rejected | ConnectionState::Expired)
}

/// Whether the request was rejected or failed before it was connected, and dbt does not need it.
fn was_never_connected(connection: &Connection, context: CheckContext<'_>) -> bool {
    let is_new = context.remembered.is_some_and(|remembered| !remembered.established.contains(&connection.endpoint));
    is_new && (connection.state == ConnectionState::Rejected || another_works(connection, context))
}

/// A problem of a connection, in words.
struct BrokenConnection {
    summary: String,
    /// The impact on dbt; in [`finding`], the impact if no other endpoint of dbt works.
    impact: &'static str,
    action: &'static str,
    command: Command,
}

fn judge(connection: &Connection, context: CheckContext<'_>) -> Status {
    let Connection { endpoint, state, .. } = connection;
    let since = context.remembered.and_then(|remembered| remembered.since(connection)).unwrap_or(context.now);
    let stuck = context.now.duration_since(since).unsigned_abs() > STUCK_AFTER;
    let command = describe_command(&connection.service, context, &[connection]);
    let problem = match decide(connection, context.policy) {
        Verdict::DbtRequest => return waiting(connection, since, stuck, context),
        Verdict::Establishing if stuck => BrokenConnection {
            summary: format!("dbt's endpoint {endpoint} is stuck in '{state}'"),
            impact: "dbt cannot connect yet: AWS is taking unusually long to set up the connection.",
            action: "Ask dbt Support to delete the endpoint and create it again. If that does not help, ask AWS Support.",
            command,
        },
        Verdict::Broken if was_never_connected(connection, context) => {
            return Status::pass(format!("{endpoint} is {state}, and was never connected"));
        }
        Verdict::Broken if *state == ConnectionState::Rejected => BrokenConnection {
            summary: format!("dbt's endpoint {endpoint} is {state}"),
            impact: "dbt cannot connect through this endpoint.",
            action: "Find out who rejected it. If it is yours, accept it again. If it was rejected on purpose, ask dbt Support to \
                     delete it; that ends this alert.",
            command: accept_command(&connection.service, context, &[connection]),
        },
        Verdict::Broken => BrokenConnection {
            summary: format!("dbt's endpoint {endpoint} is {state}"),
            impact: "dbt cannot connect through this endpoint.",
            action: "Ask dbt Support to delete the endpoint and create it again.",
            command,
        },
        Verdict::UnknownState => BrokenConnection {
            summary: format!("dbt's endpoint {endpoint} is in unknown state '{state}'"),
            impact: "dbt may not be able to connect. The guard does not know what this state means, so it changes nothing.",
            action: "Check the connection in the console. If AWS has added this state, update privatelink-guard.",
            command,
        },
        Verdict::Established if *state == ConnectionState::Partial => {
            return Status::fail(in_some_zones(connection, context));
        }
        Verdict::Establishing => return Status::Unknown(format!("AWS is setting up dbt's endpoint {endpoint}")),
        _ => return established(connection, context),
    };
    Status::fail(finding(connection, context, problem))
}

/// The finding for a connection that works in some zones only.
fn in_some_zones(connection: &Connection, context: CheckContext<'_>) -> Finding {
    let problem = BrokenConnection {
        summary: format!("dbt's endpoint {} lacks some zones", connection.endpoint),
        impact: "dbt can connect, but only through some of the endpoint's Availability Zones: an outage of these cuts it off.",
        action: "Make sure that the load balancer has a subnet in each zone that the service offered when dbt created \
                 the endpoint. If so, ask dbt Support to check the endpoint's zones.",
        command: describe_command(&connection.service, context, &[connection]),
    };
    described(connection, context, Severity::Warning, problem)
}

/// The status of a working connection. Missing traffic matters only if the policy expects traffic and AWS has metrics.
fn established(connection: &Connection, context: CheckContext<'_>) -> Status {
    let Connection { endpoint, state, created, .. } = connection;
    let stands = || Status::pass(format!("dbt's endpoint {endpoint} is {state}"));
    let Some(expected) = context.policy.expect_traffic_every.filter(|_| connection.region.is_none()) else {
        return stands();
    };
    let last = match last_connection(connection, context) {
        Ok(last) => last,
        Err(why) => return Status::Unknown(format!("dbt's last connection is unknown: {why}")),
    };
    let quiet = context.now.duration_since(last.quiet_since(*created));
    if quiet.unsigned_abs() <= expected {
        return stands();
    }
    let mut evidence = evidence(context, &[connection]);
    evidence.push(last.describe(*created));
    let trace = Command::own("trace", context.region).option("service", &connection.service).literal("--last 24h");
    Status::fail(
        Finding::new(
            Severity::Warning,
            format!("no connection from dbt for {} hours", quiet.as_hours()),
            "dbt's endpoint is up, but nothing has come through it. Either dbt's jobs fail, or none ran.",
            Remedy::new(
                "Ask your dbt users whether their jobs ran. If they failed, look at this service's other alerts, and \
                 run the second command, which comes with the guard: it shows where connections stopped, and whether \
                 flow logs are on. If such pauses are normal, raise the stack's ExpectTrafficEvery.",
                Some(describe_command(&connection.service, context, &[connection]).next_line(trace)),
                context.region.endpoint_service(connection.service.as_str()),
            ),
        )
        .with_evidence(evidence)
        .with_parts(["no traffic"]),
    )
}

fn last_connection(connection: &Connection, context: CheckContext<'_>) -> Result<LastConnection, String> {
    let traffic = context.remembered.and_then(|remembered| remembered.traffic.as_ref());
    let traffic = traffic.ok_or_else(|| "CloudWatch has not been asked yet".to_owned())?;
    traffic.of(&connection.endpoint, context.now)
}

/// The status of dbt's request that is still pending after this run's acceptance.
fn waiting(connection: &Connection, since: Timestamp, stuck: bool, context: CheckContext<'_>) -> Status {
    let endpoint = &connection.endpoint;
    let command = accept_command(&connection.service, context, &[connection]);
    if context.policy.dry_run {
        let (waits, action) = match context.policy.has_guard {
            true => (
                "dbt cannot connect until the request is accepted. DryRun is on, so the guard does not accept it.",
                "If you asked dbt Support for this endpoint, accept it, or switch DryRun off: make deploy SET=\"DryRun=false\". If \
                 not, ask dbt Support whose it is.",
            ),
            false => (
                "dbt cannot connect until somebody accepts the request.",
                "If you asked dbt Support for this endpoint, accept it. If not, ask dbt Support whose it is.",
            ),
        };
        let problem = BrokenConnection {
            summary: format!("dbt's request {endpoint} waits to be accepted"),
            impact: if another_works(connection, context) { THROUGH_ANOTHER } else { waits },
            action,
            command,
        };
        return Status::fail(described(connection, context, Severity::Info, problem));
    }
    let refused = context.refused.get(endpoint.as_str());
    let why = match refused {
        // Another run or a person was faster, and EC2's list lags behind.
        Some(error) if is_about_its_state(error) && !stuck => {
            return Status::Unknown(format!("{endpoint} is no longer in the state that EC2 lists: {}", error.reason()));
        }
        Some(error) => error.reason(),
        None if stuck => format!("EC2 confirms the acceptance, but the request has been waiting since {since:.0}"),
        // The request arrived during this run, or EC2's list lags behind: the next run reports it.
        None => return Status::Unknown(format!("{endpoint} waits for the next run")),
    };
    let problem = BrokenConnection {
        summary: format!("cannot accept dbt's request {endpoint}"),
        impact: "dbt cannot connect until the request is accepted.",
        action: if refused.is_some_and(CallError::is_denied) { ALLOW_ACCEPTING } else { ACCEPT_YOURSELF },
        command,
    };
    let mut finding = finding(connection, context, problem);
    finding.evidence.insert(0, why);
    Status::fail(finding)
}

const ACCEPT_YOURSELF: &str = "The guard tries again on every run. If this lasts, run the command with your own credentials: AWS's error says what is \
     wrong.";

/// The stack's own role allows both actions, so something else denies them.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_vpce.html>
const ALLOW_ACCEPTING: &str = "The guard's role is not allowed to accept. It needs ec2:AcceptVpcEndpointConnections \
                               and, if the service has several Regions, vpce:AllowMultiRegion: look for a permissions \
                               boundary or organization policy that denies one of them, or for a role of your own that \
                               lacks one. Meanwhile, run the command with your own credentials.";

/// Whether AWS refused a call because of the endpoint's state: `InvalidState`, `InvalidVpcEndpointState`, …
fn is_about_its_state(error: &CallError) -> bool {
    error.code().is_some_and(|code| code.contains("State"))
}

const THROUGH_ANOTHER: &str = "dbt can connect through another endpoint on this service, but not through this one.";

/// The finding for a problem that keeps dbt from connecting through this endpoint.
fn finding(connection: &Connection, context: CheckContext<'_>, problem: BrokenConnection) -> Finding {
    match another_works(connection, context) {
        true => {
            described(connection, context, Severity::Warning, BrokenConnection { impact: THROUGH_ANOTHER, ..problem })
        }
        false => described(connection, context, Severity::Critical, problem),
    }
}

fn described(
    connection: &Connection,
    context: CheckContext<'_>,
    severity: Severity,
    problem: BrokenConnection,
) -> Finding {
    let BrokenConnection { summary, impact, action, command } = problem;
    let mut evidence = evidence(context, &[connection]);
    evidence.extend(last_connection(connection, context).ok().map(|last| last.describe(connection.created)));
    Finding::new(
        severity,
        summary,
        impact,
        Remedy::new(action, Some(command), context.region.endpoint_service(connection.service.as_str())),
    )
    .with_evidence(evidence)
    .with_parts([connection.state.to_string()])
}

/// Whether another endpoint of dbt's on the service is available.
fn another_works(connection: &Connection, context: CheckContext<'_>) -> bool {
    let others = context.topology.connections.iter().flatten().flatten();
    let mut others =
        others.filter(|other| other.service == connection.service && other.endpoint != connection.endpoint);
    others.any(|other| decide(other, context.policy) == Verdict::Established)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::admission::Admissions;
    use crate::check::{PartStatus, RecordedState, RememberedConnections};
    use crate::config::Policy;
    use crate::snapshot::Traffic;
    use crate::testing::{
        DBT, UNTRUSTED, at, connection, endpoint, failure, only_finding, policy, refusal, service, settings,
        with_connections, with_policy,
    };
    use jiff::SignedDuration;

    /// The status of dbt's connection in `state` since then, evaluated at nine, if AWS refused to accept it.
    fn status(state: &str, policy: &Policy, refused: Option<CallError>, since: Option<Timestamp>) -> Option<Status> {
        let topology = with_connections(vec![connection(1, Some(DBT), state)]);
        let recorded = since.map(|since| (endpoint(1), RecordedState { state: state.to_owned(), since }));
        let remembered = RememberedConnections {
            states: recorded.into_iter().collect(),
            established: [endpoint(1)].into(),
            ..RememberedConnections::default()
        };
        let refused = refused.map(|refused| (endpoint(1).to_string(), refused)).into_iter().collect();
        let results = with_policy(&topology, policy, |context| {
            evaluate(CheckContext { refused: &refused, remembered: Some(&remembered), ..context })
        });
        results.into_iter().find(|result| result.resource == endpoint(1).as_str()).map(|result| result.status)
    }

    /// `pass`, `unknown`, `closed` without a status, or the severity and the summary.
    fn said(status: Option<Status>) -> String {
        match status {
            None => "closed".to_owned(),
            Some(Status::Pass(_)) => "pass".to_owned(),
            Some(Status::Fail(finding)) => format!("{}: {}", finding.severity.as_str(), finding.summary),
            Some(Status::Unknown(_) | Status::NotAsked) => "unknown".to_owned(),
        }
    }

    #[test]
    fn each_state_of_an_endpoint_has_its_status() {
        let table = [
            ("available", "pass"),
            ("pending", "unknown"),
            ("deleting", "closed"),
            ("deleted", "closed"),
            ("partial", "warning: dbt's endpoint vpce-00000000000000001 lacks some zones"),
            ("rejected", "critical: dbt's endpoint vpce-00000000000000001 is rejected"),
            ("failed", "critical: dbt's endpoint vpce-00000000000000001 is failed"),
            ("expired", "critical: dbt's endpoint vpce-00000000000000001 is expired"),
            ("newState", "critical: dbt's endpoint vpce-00000000000000001 is in unknown state 'newState'"),
        ];
        for (state, expected) in table {
            assert_eq!(said(status(state, &policy(), None, None)), expected, "{state}");
        }
    }

    #[test]
    fn a_request_or_endpoint_is_stuck_after_15_minutes() {
        let failed = "critical: cannot accept dbt's request vpce-00000000000000001";
        let stuck = "critical: dbt's endpoint vpce-00000000000000001 is stuck in 'pending'";
        let table = [
            ("pendingAcceptance", Some("Odd"), None, failed, "AWS refuses it"),
            ("pendingAcceptance", Some("InvalidState"), None, "unknown", "another run was faster"),
            ("pendingAcceptance", Some("InvalidState"), Some(at(8, 44)), failed, "but not for ever"),
            ("pendingAcceptance", None, None, "unknown", "the next run answers it"),
            ("pendingAcceptance", None, Some(at(8, 45)), "unknown", "EC2's list may lag behind"),
            ("pendingAcceptance", None, Some(at(8, 44)), failed, "it was accepted, and still waits"),
            ("pending", None, None, "unknown", "first seen now, though created an hour ago"),
            ("pending", None, Some(at(8, 45)), "unknown", "AWS is setting it up"),
            ("pending", None, Some(at(8, 44)), stuck, "AWS takes too long"),
        ];
        for (state, refused, since, expected, rule) in table {
            assert_eq!(said(status(state, &policy(), refused.map(refusal), since)), expected, "{state}: {rule}");
        }
    }

    #[test]
    fn a_part_is_as_severe_as_its_finding() {
        for (state, dry_run, severity) in [
            ("partial", "false", Severity::Warning),
            ("pendingAcceptance", "true", Severity::Info),
            ("failed", "false", Severity::Critical),
        ] {
            let policy = settings(&[("DRY_RUN", dry_run)]).policy;
            let finding = failure(status(state, &policy, None, None).unwrap()).unwrap();
            let parts: Vec<&PartStatus> = finding.parts.values().collect();
            assert_eq!((finding.severity, parts), (severity, vec![&PartStatus::Failing(severity)]), "{state}");
        }
    }

    #[test]
    fn a_request_rejected_before_connecting_is_no_alert() {
        let statuses = |connections: Vec<Connection>, remembered: &RememberedConnections| -> Vec<bool> {
            let results = with_policy(&with_connections(connections), &policy(), |context| {
                evaluate(CheckContext { remembered: Some(remembered), ..context })
            });
            let of_endpoint = results.iter().filter(|result| result.resource == endpoint(1).as_str());
            of_endpoint.map(|result| matches!(result.status, Status::Fail(_))).collect()
        };
        let new = RememberedConnections::default();
        let was_held = Admissions { held: [endpoint(1)].into(), ..Admissions::default() };
        let held = RememberedConnections { admissions: Some(was_held), ..RememberedConnections::default() };
        let (first, works) = (|state: &str| connection(1, Some(DBT), state), connection(2, Some(DBT), "available"));
        assert_eq!(statuses(vec![first("rejected")], &new), [false]);
        assert_eq!(statuses(vec![first("failed"), works], &new), [false]);
        assert_eq!(statuses(vec![first("failed")], &new), [true], "dbt is not connected");
        assert_eq!(statuses(vec![first("expired")], &held), [false; 0], "it may never have been the company's");
    }

    #[test]
    fn only_a_rejected_endpoint_can_be_accepted_again() {
        let command =
            |state: &str| failure(status(state, &policy(), None, None).unwrap()).unwrap().remedy.command.unwrap();
        assert!(command("rejected").starts_with("aws ec2 accept-vpc-endpoint-connections"));
        assert_eq!(
            command("failed"),
            "aws ec2 describe-vpc-endpoint-connections --region eu-central-1 --filters \
             Name=service-id,Values=vpce-svc-00000000000000001 --query \
             \"VpcEndpointConnections[?contains(['vpce-00000000000000001'],VpcEndpointId)]\""
        );
    }

    #[test]
    fn only_dbts_connections_count() {
        for owner in [Some(UNTRUSTED), None] {
            let topology = with_connections(vec![connection(1, owner, "rejected")]);
            let results = with_policy(&topology, &policy(), evaluate);
            assert_eq!(results.iter().map(|result| &result.resource[..]).collect::<Vec<_>>(), [service(1).as_str()]);
        }
    }

    #[test]
    fn a_denied_acceptance_names_the_missing_actions() {
        // The role's name is not the reason.
        let message = "arn:aws:sts::111122223333:assumed-role/StateGuard is not authorized".to_owned();
        let action = |code: &str| {
            let refused = CallError { message: message.clone(), ..refusal(code) };
            failure(status("pendingAcceptance", &policy(), Some(refused), None).unwrap()).unwrap().remedy.action
        };
        let denied = action("UnauthorizedOperation");
        assert!(
            denied.contains("ec2:AcceptVpcEndpointConnections") && denied.contains("vpce:AllowMultiRegion"),
            "{denied}"
        );
        assert!(!action("InternalError").contains("vpce:"));
    }

    #[test]
    fn a_broken_endpoint_is_a_warning_while_another_works() {
        let severities = |other: &str| -> Vec<Severity> {
            let connections = vec![connection(1, Some(DBT), "rejected"), connection(2, Some(DBT), other)];
            let results = with_policy(&with_connections(connections), &policy(), evaluate);
            let severity = |status| if let Status::Fail(finding) = status { Some(finding.severity) } else { None };
            results.into_iter().filter_map(|result| severity(result.status)).collect()
        };
        assert_eq!(severities("available"), [Severity::Warning]);
        assert_eq!(severities("pending"), [Severity::Critical], "it does not work yet");
        assert_eq!(severities("rejected"), [Severity::Critical, Severity::Critical]);
        let elsewhere = Connection { service: service(2), ..connection(2, Some(DBT), "available") };
        let topology = with_connections(vec![connection(1, Some(DBT), "rejected"), elsewhere]);
        let both = format!("{},{}", service(1), service(2));
        let policy = settings(&[("ENDPOINT_SERVICE_IDS", &both)]).policy;
        let finding = only_finding(with_policy(&topology, &policy, evaluate));
        assert_eq!(finding.severity, Severity::Critical, "it works on another service");
    }

    #[test]
    fn a_dry_run_describes_what_the_guard_would_do() {
        let policy = settings(&[("DRY_RUN", "true")]).policy;
        let says = |has_guard| {
            let policy = Policy { has_guard, ..policy.clone() };
            let finding = failure(status("pendingAcceptance", &policy, None, None).unwrap()).unwrap();
            assert_eq!(finding.severity, Severity::Info);
            format!("{} {}", finding.impact, finding.remedy.action)
        };
        let (guarded, alone) = (says(true), says(false));
        assert!(guarded.contains("DryRun is on") && guarded.contains(r#"make deploy SET="DryRun=false""#), "{guarded}");
        assert!(!guarded.contains("unless") && !alone.contains("DryRun"), "nothing is left open: {guarded} {alone}");
    }

    #[test]
    fn a_silent_connection_fails_when_traffic_is_expected() {
        let policy = settings(&[("EXPECT_TRAFFIC_EVERY", "24")]).policy;
        let judged = |policy: &Policy, last: Option<LastConnection>, region: Option<&str>| {
            let connection = Connection { region: region.map(str::to_owned), ..connection(1, Some(DBT), "available") };
            let connection = Connection { created: Some(at(9, 0) - SignedDuration::from_hours(500)), ..connection };
            let topology = with_connections(vec![connection]);
            let endpoints = last.map(|last| (endpoint(1).to_string(), last)).into_iter().collect();
            let traffic = Some(Traffic { until: at(9, 0), endpoints });
            let remembered = RememberedConnections { traffic, ..RememberedConnections::default() };
            let results = with_policy(&topology, policy, |context| {
                evaluate(CheckContext { remembered: Some(&remembered), ..context })
            });
            results.into_iter().next().unwrap().status
        };
        let ago = |hours| Some(at(9, 0) - SignedDuration::from_hours(hours));
        let last = |hours| Some(LastConnection { since: ago(168).unwrap(), at: ago(hours) });
        assert!(matches!(judged(&policy, last(24), None), Status::Pass(_)));
        let Status::Fail(finding) = judged(&policy, last(25), None) else { unreachable!("it fails") };
        assert_eq!((finding.severity, &*finding.summary), (Severity::Warning, "no connection from dbt for 25 hours"));
        let trace = "privatelink-guard trace --region eu-central-1 --service vpce-svc-00000000000000001 --last 24h";
        assert_eq!(finding.remedy.command.as_deref().and_then(|commands| commands.lines().nth(1)), Some(trace));
        let never = Some(LastConnection { since: ago(168).unwrap(), at: None });
        assert!(matches!(judged(&policy, never, None), Status::Fail(_)));
        assert!(matches!(judged(&policy, None, None), Status::Unknown(_)));
        assert!(matches!(judged(&policy, None, Some("us-east-1")), Status::Pass(_)), "AWS has no metrics of it");
        assert!(matches!(judged(&self::policy(), never, None), Status::Pass(_)), "nobody expects traffic");
    }
}
