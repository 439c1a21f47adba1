//! `connection.untrusted`: does an account other than dbt's request a connection, or is it connected?

use std::collections::{BTreeMap, BTreeSet};

use crate::check::connection_details::{describe_command, evidence, reject_command};
use crate::check::{
    Branch, CheckContext, CheckResult, Command, Finding, Group, Need, Remedy, Severity, SilencedBy, Spec, Status,
    WhenMissing,
};
use crate::config::{Policy, UntrustedRequests};
use crate::connections::{Owner, Verdict, decide};
use crate::ids::{AccountId, EndpointId, ServiceId};
use crate::snapshot::Connection;

/// The catalogue's row.
pub const SPEC: Spec = Spec {
    id: "connection.untrusted",
    in_short: "No untrusted account has an endpoint that waits or is connected.",
    severities: &[
        (Severity::Critical, "the endpoint is connected (`pending`, `available` or `partial`)"),
        (Severity::Warning, "it waits for acceptance, or the guard does not know its state"),
    ],
    fails_when: "an account that is not dbt's, or that EC2 does not name, has an endpoint that is waiting, connected, \
                 or in a state that the guard does not know; one alert per account",
    failing_word: "open",
    impact: "dbt is not affected. A waiting request gives no access; a connected endpoint can reach your service.",
    when_missing: WhenMissing::Passing(over),
    cloudtrail_events: &["AcceptVpcEndpointConnections", "ModifyVpcEndpointServicePermissions"],
    group: Group::Connections,
    branch: Branch::Service,
    needs: Some(Need::DbtPrincipals),
    can_stop_dbt: false,
    silenced_by: SilencedBy::Id,
    evaluate,
    ..Spec::USUAL
};

/// Maximum number of connected endpoints as parts.
const MAX_PARTS: usize = 100;

/// Maximum number of endpoints in the reject command: all open ones, unless the email would be too long to copy from.
const MAX_REJECTED: usize = 500;

/// The resource of connections whose owner EC2 does not name.
const UNNAMED: &str = "unnamed account";

/// The fact that satisfies the check once an account has no untrusted endpoint: EC2 lists none, or the account is now
/// trusted.
fn over(account: &str, policy: &Policy) -> String {
    let listed_in = |accounts: &BTreeSet<AccountId>| accounts.iter().any(|listed| listed.as_str() == account);
    if account == UNNAMED {
        "no endpoint of an unnamed account is left".to_owned()
    } else if listed_in(&policy.dbt_accounts) {
        format!("DbtPrincipals names account {account} now")
    } else if listed_in(&policy.known_accounts) {
        format!("KnownAccounts names account {account} now")
    } else {
        format!("AWS account {account} has no endpoint here")
    }
}

/// One result per account: an account that creates a hundred endpoints raises one alert.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let Some(service) = context.service else { return Vec::new() };
    let connections = match context.topology.connections_of(service) {
        Ok(connections) => connections,
        Err(why) => return vec![CheckResult::unlisted(&SPEC, service, why)],
    };
    let mut accounts: BTreeMap<Option<&AccountId>, Vec<&Connection>> = BTreeMap::new();
    for connection in connections {
        if matches!(Owner::new(connection, context.policy), Owner::Untrusted | Owner::Unnamed) {
            accounts.entry(connection.owner.as_ref()).or_default().push(connection);
        }
    }
    let resource = |owner: Option<&AccountId>| owner.map_or(UNNAMED.to_owned(), ToString::to_string);
    accounts
        .into_iter()
        .map(|(owner, connections)| {
            CheckResult::new(&SPEC, &resource(owner), judge(service, owner, &connections, context))
        })
        .collect()
}

/// Judges all endpoints of one account together.
fn judge(
    service: &ServiceId,
    owner: Option<&AccountId>,
    connections: &[&Connection],
    context: CheckContext<'_>,
) -> Status {
    let with = |verdicts: &[Verdict]| -> Vec<&Connection> {
        let verdict = |connection: &Connection| decide(connection, context.policy);
        connections.iter().copied().filter(|connection| verdicts.contains(&verdict(connection))).collect()
    };
    let requests = with(&[Verdict::UntrustedRequest, Verdict::UnnamedRequest]);
    let connected = with(&[Verdict::UntrustedConnected, Verdict::UnnamedConnected]);
    let unknown = with(&[Verdict::UnknownState]);
    let who =
        owner.map_or("an account that EC2 does not name".to_owned(), |owner| format!("untrusted account {owner}"));
    let (severity, summary, impact) = if !connected.is_empty() {
        (
            Severity::Critical,
            match connected.len() {
                1 => format!("{who} is CONNECTED"),
                number => format!("{who} is CONNECTED ({number} endpoints)"),
            },
            "dbt is not affected, but another account can reach your service.",
        )
    } else if !requests.is_empty() {
        (
            Severity::Warning,
            match requests.len() {
                1 => format!("{who} requests a connection"),
                number => format!("{who} requests {number} connections"),
            },
            "dbt is not affected. The request waits, and gives no access unless someone accepts it.",
        )
    } else if let [first, ..] = &unknown[..] {
        (
            Severity::Warning,
            format!("endpoint of {who} is in unknown state '{}'", first.state),
            "dbt is not affected. The guard does not know what this state means, so it changes nothing.",
        )
    } else {
        return Status::pass(format!("{who} has no request or connection"));
    };
    // Requests are not parts: otherwise anyone could trigger an alert per request.
    let parts: Vec<String> =
        connected.iter().take(MAX_PARTS).map(|connection| connection.endpoint.to_string()).collect();
    let open = [connected, requests, unknown].concat();
    let recorded = |connection: &&&Connection| {
        context.remembered.is_some_and(|remembered| remembered.established.contains(&connection.endpoint))
    };
    // This includes requests, so that the command leaves none of them open.
    let was_dbts = open.iter().find(recorded).map(|connection| &connection.endpoint);
    Status::fail(
        Finding::new(
            severity,
            summary,
            impact,
            Remedy::new(
                &was_dbts.map_or_else(|| action(owner, &open, context), recorded_as_dbts),
                Some(match was_dbts {
                    // Rejecting it would cut dbt off.
                    Some(_) => describe_command(service, context, &open),
                    None => rejects(service, owner, &open, context),
                }),
                context.region.endpoint_service(service.as_str()),
            ),
        )
        .with_evidence(evidence(context, &open))
        .with_parts(parts)
        // An account is connected only if somebody has accepted it.
        .provokable(Severity::Warning),
    )
}

/// The command that rejects the open endpoints. If the guard only alerts, a second command keeps an account that is
/// allowed by its ARN from asking again.
fn rejects(service: &ServiceId, owner: Option<&AccountId>, open: &[&Connection], context: CheckContext<'_>) -> Command {
    let endpoints = open.iter().take(MAX_REJECTED).map(|open| &open.endpoint);
    let reject = reject_command(service, endpoints, context.region);
    let Some(owner) = owner.filter(|_| context.policy.untrusted_requests == UntrustedRequests::Alert) else {
        return reject;
    };
    let principal = format!("arn:{}:iam::{owner}:root", context.region.partition());
    let not_again = Command::new("ec2 modify-vpc-endpoint-service-permissions", context.region)
        .option("service-id", service)
        .options("remove-allowed-principals", [principal]);
    reject.next_line(not_again)
}

fn recorded_as_dbts(endpoint: &EndpointId) -> String {
    format!(
        "The guard recorded {endpoint} as dbt's connection before, so it does not reject it. First check the stack's \
         DbtPrincipals: is an account of dbt's missing? Reject the endpoint only if dbt Support says that it is not dbt's."
    )
}

fn action(owner: Option<&AccountId>, open: &[&Connection], context: CheckContext<'_>) -> String {
    let refused = open.iter().find_map(|connection| context.refused.get(connection.endpoint.as_str()));
    let reject = context.policy.untrusted_requests == UntrustedRequests::Reject;
    match (reject, owner, refused) {
        (_, _, Some(error)) => format!(
            "AWS refused to reject it: {}. The guard tries again on every run. Fix what AWS's error names, or run the command \
             with your own credentials.",
            error.reason()
        ),
        (true, None, _) => {
            "The guard rejects only endpoints whose owner EC2 names, so it leaves this one alone. If it is not dbt's, \
             reject it yourself."
                .to_owned()
        }
        (true, ..) if context.policy.dry_run => {
            "The guard would reject it, but DryRun is on. Reject it yourself, or switch DryRun off: make deploy SET=\"DryRun=false\""
                .to_owned()
        }
        (true, ..) if context.remembered.is_none() || context.lacks_memory => {
            "The guard cannot read its state table, so it revokes no connection until it can. If the account is not \
             dbt's, reject the endpoint yourself."
                .to_owned()
        }
        (true, ..) => {
            "Nothing: the guard is rejecting it (UntrustedRequests is 'reject'). If this alert stays, make sure that the \
             endpoint is not dbt's before you reject it yourself."
                .to_owned()
        }
        (false, None, _) => {
            "EC2 does not name the account, so the guard changes nothing. Ask dbt Support whether this endpoint is dbt's. If it \
             is not, reject it."
                .to_owned()
        }
        (false, ..) => {
            "If the account is dbt's, add it to DbtPrincipals: rejecting would cut its connections. If it is another \
             consumer of yours, add it to KnownAccounts. Otherwise reject it with the first command. The second removes \
             its ARN from the allowed principals, if it is there."
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::RememberedConnections;

    use crate::testing::{
        DBT, UNTRUSTED, connection, endpoint, only_finding, parts, refusal, settings, with_connections, with_context,
        with_policy,
    };

    /// The resource, severity, summary and number of evidence lines of each failure.
    fn failures(connections: Vec<Connection>) -> Vec<(String, Severity, String, usize)> {
        let topology = with_connections(connections);
        let failures = with_context(&topology, evaluate).into_iter().filter_map(|result| match result.status {
            Status::Fail(finding) => Some((result.resource, finding.severity, finding.summary, finding.evidence.len())),
            _ => None,
        });
        failures.collect()
    }

    #[test]
    fn an_untrusted_request_warns_and_a_connection_is_critical() {
        let account = "untrusted account 999999999999";
        let unnamed = "an account that EC2 does not name";
        let warning = |text: String| Some((Severity::Warning, text));
        let critical = |text: String| Some((Severity::Critical, text));
        let table = [
            ("pendingAcceptance", Some(UNTRUSTED), warning(format!("{account} requests a connection"))),
            ("pending", Some(UNTRUSTED), critical(format!("{account} is CONNECTED"))),
            ("available", Some(UNTRUSTED), critical(format!("{account} is CONNECTED"))),
            ("pending", None, critical(format!("{unnamed} is CONNECTED"))),
            ("partial", Some(UNTRUSTED), critical(format!("{account} is CONNECTED"))),
            ("new", Some(UNTRUSTED), warning(format!("endpoint of {account} is in unknown state 'new'"))),
            ("rejected", Some(UNTRUSTED), None),
            ("failed", Some(UNTRUSTED), None),
            ("expired", Some(UNTRUSTED), None),
            ("deleted", Some(UNTRUSTED), None),
            ("available", Some(DBT), None),
        ];
        for (state, owner, expected) in table {
            let failure = failures(vec![connection(1, owner, state)]).pop();
            assert_eq!(failure.map(|(_, severity, summary, _)| (severity, summary)), expected, "{state} {owner:?}");
        }
    }

    #[test]
    fn an_account_has_one_alert_for_all_its_endpoints() {
        let mut connections: Vec<Connection> =
            (1..=30).map(|number| connection(number, Some(UNTRUSTED), "pendingAcceptance")).collect();
        connections.push(connection(31, Some(UNTRUSTED), "available"));
        connections.push(connection(32, None, "pendingAcceptance"));
        let unnamed = "an account that EC2 does not name requests a connection";
        let named = "untrusted account 999999999999 is CONNECTED";
        let expected = [
            (UNNAMED.to_owned(), Severity::Warning, unnamed.to_owned(), 1),
            (UNTRUSTED.to_owned(), Severity::Critical, named.to_owned(), 21),
        ];
        assert_eq!(failures(connections), expected);
    }

    #[test]
    fn the_command_rejects_all_open_endpoints() {
        let state = |number: u32| if number < 31 { "available" } else { "pendingAcceptance" };
        let connections = (1..=61).map(|number| connection(number, Some(UNTRUSTED), state(number))).collect();
        let topology = with_connections(connections);
        let command = only_finding(with_context(&topology, evaluate)).remedy.command.unwrap();
        let left_open: Vec<EndpointId> =
            (1..=61).map(endpoint).filter(|endpoint| !command.contains(endpoint.as_str())).collect();
        assert_eq!(left_open, []);
        let principal = format!("--remove-allowed-principals arn:aws:iam::{UNTRUSTED}:root");
        assert!(command.lines().nth(1).unwrap().ends_with(&principal), "so that it cannot ask again");
    }

    #[test]
    fn a_known_account_is_not_untrusted() {
        let policy = settings(&[("KNOWN_ACCOUNTS", UNTRUSTED)]).policy;
        let topology = with_connections(vec![connection(1, Some(UNTRUSTED), "available")]);
        assert_eq!(with_policy(&topology, &policy, evaluate), []);
    }

    #[test]
    fn a_connection_recorded_as_dbts_gets_no_reject_command() {
        let remembered =
            RememberedConnections { established: [endpoint(1)].into(), ..RememberedConnections::default() };
        let topology = with_connections(vec![connection(1, Some(UNTRUSTED), "available")]);
        let results =
            with_context(&topology, |context| evaluate(CheckContext { remembered: Some(&remembered), ..context }));
        let remedy = only_finding(results).remedy;
        assert!(remedy.command.unwrap().starts_with("aws ec2 describe-vpc-endpoint-connections"));
        assert!(remedy.action.contains("First check the stack's DbtPrincipals"), "{}", remedy.action);
    }

    #[test]
    fn the_remedy_matches_the_guards_own_action() {
        let (none, remembered) = (BTreeMap::new(), RememberedConnections::default());
        let refused = BTreeMap::from([(endpoint(1).to_string(), refusal("Odd"))]);
        let named = Some(UNTRUSTED);
        let known = Some(&remembered);
        let table = [
            ("reject", "false", named, &none, known, "Nothing: the guard is rejecting it"),
            ("reject", "false", named, &refused, known, "AWS refused to reject it: Odd: not now."),
            ("reject", "false", None, &none, known, "The guard rejects only endpoints whose owner EC2 names"),
            ("reject", "true", named, &none, known, "The guard would reject it, but DryRun is on."),
            ("reject", "false", named, &none, None, "The guard cannot read its state table"),
            ("alert", "false", None, &none, known, "EC2 does not name the account, so the guard changes nothing."),
            (
                "alert",
                "false",
                named,
                &none,
                known,
                "If the account is dbt's, add it to DbtPrincipals: rejecting would cut",
            ),
        ];
        for (requests, dry_run, owner, refused, remembered, begins) in table {
            let policy = settings(&[("UNTRUSTED_REQUESTS", requests), ("DRY_RUN", dry_run)]).policy;
            let topology = with_connections(vec![connection(1, owner, "available")]);
            let results =
                with_policy(&topology, &policy, |context| evaluate(CheckContext { remembered, refused, ..context }));
            let action = only_finding(results).remedy.action;
            assert!(action.starts_with(begins), "{action}");
        }
    }

    #[test]
    fn connected_endpoints_are_parts_and_requests_are_not() {
        let connections =
            vec![connection(1, Some(UNTRUSTED), "available"), connection(2, Some(UNTRUSTED), "pendingAcceptance")];
        let topology = with_connections(connections);
        assert_eq!(parts(&only_finding(with_context(&topology, evaluate))), [endpoint(1).as_str()]);
    }
}
