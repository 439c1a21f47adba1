//! `connection.stranger` and `connection.dbt`: what people must hear of each endpoint connection.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Check, Finding, Observation, Place, Remedy, Severity, Status, count, some_of};
use crate::config::{Policy, UnknownRequesters};
use crate::connections::{Verdict, decide};
use crate::ids::{AccountId, EndpointId, ServiceId};
use crate::snapshot::{Connection, ConnectionState, Seen};

/// Setting up an accepted connection takes AWS about a minute; after this long it is stuck.
pub const STUCK_AFTER: Duration = Duration::from_mins(15);

/// Endpoints named in one alert; the rest is counted.
const MOST_ENDPOINTS_NAMED: usize = 20;

/// What this run knows besides the connections themselves.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Why a change that was planned for an endpoint did not happen: AWS's code and message.
    pub undone: BTreeMap<EndpointId, String>,
    /// Since when each endpoint has been in the state it is in, where an earlier run noted it.
    pub since: BTreeMap<EndpointId, Timestamp>,
}

/// One observation per connection of dbt's on `service`, and one per account that is not dbt's and has an endpoint there:
/// whoever creates a hundred endpoints raises one alert.
#[must_use]
pub fn evaluate(
    service: &ServiceId,
    connections: &Seen<Vec<Connection>>,
    policy: &Policy,
    context: &Context,
    now: Timestamp,
    place: &Place,
) -> Vec<Observation> {
    let connections = match connections {
        Ok(connections) => connections,
        Err(unseen) => {
            let blind = |check| Observation {
                check,
                resource: service.to_string(),
                status: Status::Unknown(unseen.to_string()),
            };
            return [Check::ConnectionStranger, Check::ConnectionDbt].map(blind).into();
        }
    };
    let scene = Scene { service, policy, context, now, place };
    let mut observations = Vec::new();
    let mut strangers: BTreeMap<Option<&AccountId>, Vec<&Connection>> = BTreeMap::new();
    for connection in connections.iter().filter(|connection| connection.service == *service) {
        match connection.owner.as_ref().filter(|owner| policy.dbt_accounts.contains(*owner)) {
            Some(_) => observations.push(Observation {
                check: Check::ConnectionDbt,
                resource: connection.endpoint.to_string(),
                status: scene.dbt(connection),
            }),
            None => strangers.entry(connection.owner.as_ref()).or_default().push(connection),
        }
    }
    observations.extend(strangers.into_iter().map(|(owner, connections)| Observation {
        check: Check::ConnectionStranger,
        resource: owner.map_or("unnamed account", AccountId::as_str).to_owned(),
        status: scene.strangers(owner, &connections),
    }));
    observations
}

/// What every judgement needs.
struct Scene<'a> {
    service: &'a ServiceId,
    policy: &'a Policy,
    context: &'a Context,
    now: Timestamp,
    place: &'a Place,
}

impl Scene<'_> {
    fn dbt(&self, connection: &Connection) -> Status {
        let Connection { endpoint, state, .. } = connection;
        let since = self.context.since.get(endpoint).copied().unwrap_or(self.now);
        let stuck = self.now.duration_since(since).unsigned_abs() > STUCK_AFTER;
        match decide(connection, self.policy) {
            Verdict::Accept => self.waiting(connection, since, stuck),
            Verdict::Establishing if stuck => self.fail(
                Severity::Critical,
                format!("dbt's connection {endpoint} is stuck in 'pending' since {since:.0}"),
                "dbt cannot connect yet: AWS takes unusually long to set the connection up.",
                "Ask dbt Support to delete the endpoint and create it again; if that does not help, ask AWS Support.",
                self.command("describe", &[connection]),
                &[connection],
            ),
            Verdict::Broken => {
                let (what, verb) = if *state == ConnectionState::Rejected {
                    ("If nobody meant to reject it, accept it again.", "accept")
                } else {
                    ("Ask dbt Support to delete the endpoint and create it again.", "describe")
                };
                self.fail(
                    Severity::Critical,
                    format!("dbt's connection {endpoint} is {state}"),
                    "dbt cannot connect through this endpoint.",
                    what,
                    self.command(verb, &[connection]),
                    &[connection],
                )
            }
            Verdict::UnknownState => self.fail(
                Severity::Critical,
                format!("dbt's connection {endpoint} is in the unknown state '{state}'"),
                "The guard does not know what this state means, so it changes nothing.",
                "Look at the connection, and see whether a newer version of privatelink-guard knows the state.",
                self.command("describe", &[connection]),
                &[connection],
            ),
            _ => Status::Pass,
        }
    }

    /// dbt's request still waits after this run did what it could.
    fn waiting(&self, connection: &Connection, since: Timestamp, stuck: bool) -> Status {
        let endpoint = &connection.endpoint;
        let command = self.command("accept", &[connection]);
        if self.policy.dry_run {
            return self.fail(
                Severity::Info,
                format!("dbt's request {endpoint} waits: DryRun is on"),
                "dbt cannot connect until the request is accepted. The guard would accept it, but is told to change \
                 nothing.",
                "Set the stack's DryRun to false, or accept the request yourself.",
                command,
                &[connection],
            );
        }
        let why = match self.context.undone.get(endpoint) {
            Some(why) => why.clone(),
            None if stuck => format!("EC2 takes the acceptance, but the request waits since {since:.0}"),
            // It came while this run was under way, or EC2 answers a moment behind itself: the next run tells.
            None => return Status::Unknown(format!("{endpoint} waits for the next run")),
        };
        self.fail(
            Severity::Critical,
            format!("dbt's request {endpoint} could not be accepted: {why}"),
            "dbt cannot connect until the request is accepted.",
            "The guard tries again at every run. If AWS keeps refusing, accept it by hand and see what AWS says.",
            command,
            &[connection],
        )
    }

    /// All endpoints of one account that is not dbt's.
    fn strangers(&self, owner: Option<&AccountId>, connections: &[&Connection]) -> Status {
        let of = |wanted: Verdict| -> Vec<&Connection> {
            let fits = |connection: &&Connection| decide(connection, self.policy) == wanted;
            connections.iter().copied().filter(fits).collect()
        };
        let (asking, connected, unknown) =
            (of(Verdict::StrangerAsks), of(Verdict::StrangerConnected), of(Verdict::UnknownState));
        let who = owner.map_or("an account EC2 does not name".to_owned(), |owner| format!("account {owner}"));
        let through = |endpoints: &[&Connection]| match endpoints {
            [one] => one.endpoint.to_string(),
            many => count(many.len(), "endpoint"),
        };
        let (severity, summary, meaning) = if !connected.is_empty() {
            (
                Severity::Critical,
                format!("{who} is not dbt's and is connected ({})", through(&connected)),
                "Nothing changes for dbt, but somebody else can reach your service.",
            )
        } else if !asking.is_empty() {
            (
                Severity::Warning,
                format!("{who} is not dbt's and asks to connect ({})", through(&asking)),
                "Nothing changes for dbt. The request waits and gives no access until somebody accepts it.",
            )
        } else if let [first, ..] = &unknown[..] {
            (
                Severity::Warning,
                format!("{} of {who} is in the unknown state '{}'", first.endpoint, first.state),
                "The guard does not know what this state means, so it changes nothing.",
            )
        } else {
            return Status::Pass;
        };
        let what = match self.policy.unknown_requesters {
            UnknownRequesters::Reject if self.policy.dry_run => {
                "The guard would reject it, but DryRun is on. Reject it yourself, or set DryRun to false."
            }
            UnknownRequesters::Reject => "The guard rejects it (UnknownRequesters is 'reject').",
            UnknownRequesters::Alert => {
                "If you do not know the account, reject it, and see that the endpoint service allows dbt's principal \
                 alone. If dbt Support says that it is dbt's, add it to the stack's DbtPrincipals."
            }
        };
        let all = [connected, asking, unknown].concat();
        self.fail(severity, summary, meaning, what, self.command("reject", &all), &all)
    }

    fn command(&self, verb: &str, connections: &[&Connection]) -> String {
        let (service, region) = (self.service, self.place.region());
        let named = connections.iter().take(MOST_ENDPOINTS_NAMED).map(|connection| connection.endpoint.as_str());
        let endpoints: Vec<&str> = named.collect();
        match verb {
            "describe" => format!(
                "aws ec2 describe-vpc-endpoint-connections --region {region} --filters \
                 Name=service-id,Values={service} Name=vpc-endpoint-id,Values={}",
                endpoints.join(",")
            ),
            verb => format!(
                "aws ec2 {verb}-vpc-endpoint-connections --region {region} --service-id {service} \
                 --vpc-endpoint-ids {}",
                endpoints.join(" ")
            ),
        }
    }

    fn fail(
        &self,
        severity: Severity,
        summary: String,
        meaning: &str,
        what: &str,
        command: String,
        connections: &[&Connection],
    ) -> Status {
        let line = |connection: &&Connection| {
            let Connection { endpoint, owner, state, created, region, .. } = connection;
            let owner = owner.as_ref().map_or("an unnamed account", AccountId::as_str);
            let created = created.map(|created| format!(", created {created:.0}")).unwrap_or_default();
            let region = region.as_ref().map(|region| format!(", from {region}")).unwrap_or_default();
            let undone = self.context.undone.get(endpoint).map(|why| format!(", AWS refused the change: {why}"));
            format!("{endpoint} of {owner}: {state}{created}{region}{}", undone.unwrap_or_default())
        };
        Status::Fail(Box::new(Finding {
            severity,
            summary,
            meaning: meaning.to_owned(),
            evidence: some_of(connections.iter().map(line).collect(), MOST_ENDPOINTS_NAMED),
            remedy: Remedy {
                what: what.to_owned(),
                command: Some(command),
                console: self.place.endpoint_service(self.service.as_str()),
            },
            cause: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, connection, endpoint, place, policy, service, settings, unseen};

    const DBT: Option<&str> = Some("123456789012");
    const STRANGER: Option<&str> = Some("999999999999");

    /// The checks that fail, with severity and summary.
    fn told(connection: Connection, policy: &Policy, context: &Context) -> Vec<(&'static str, Severity, String)> {
        let observations = evaluate(&service(1), &Ok(vec![connection]), policy, context, at(9, 0), &place());
        assert_eq!(observations.len(), 1);
        let failed = observations.into_iter().filter_map(|observation| match observation.status {
            Status::Fail(finding) => Some((observation.check.id(), finding.severity, finding.summary)),
            _ => None,
        });
        failed.collect()
    }

    /// The check that fails, how bad, and the summary.
    type Told = Option<(&'static str, Severity, String)>;

    #[test]
    fn what_is_told_of_each_state() {
        let dbt = "dbt's connection vpce-00000000000000001 is";
        let account = "account 999999999999";
        let table: &[(&str, Option<&str>, Told)] = &[
            ("pending", DBT, None),
            ("available", DBT, None),
            ("rejected", DBT, Some(("connection.dbt", Severity::Critical, format!("{dbt} rejected")))),
            ("failed", DBT, Some(("connection.dbt", Severity::Critical, format!("{dbt} failed")))),
            ("expired", DBT, Some(("connection.dbt", Severity::Critical, format!("{dbt} expired")))),
            ("deleting", DBT, None),
            ("deleted", DBT, None),
            (
                "partial",
                DBT,
                Some((
                    "connection.dbt",
                    Severity::Critical,
                    "dbt's connection vpce-00000000000000001 is in the unknown state 'partial'".to_owned(),
                )),
            ),
            (
                "pendingAcceptance",
                STRANGER,
                Some((
                    "connection.stranger",
                    Severity::Warning,
                    format!("{account} is not dbt's and asks to connect (vpce-00000000000000001)"),
                )),
            ),
            (
                "available",
                STRANGER,
                Some((
                    "connection.stranger",
                    Severity::Critical,
                    format!("{account} is not dbt's and is connected (vpce-00000000000000001)"),
                )),
            ),
            (
                "pending",
                None,
                Some((
                    "connection.stranger",
                    Severity::Critical,
                    "an account EC2 does not name is not dbt's and is connected (vpce-00000000000000001)".to_owned(),
                )),
            ),
            ("rejected", STRANGER, None),
            ("failed", STRANGER, None),
            ("expired", STRANGER, None),
            ("deleted", STRANGER, None),
        ];
        for (state, owner, expected) in table {
            let told = told(connection(1, *owner, state), &policy(), &Context::default());
            assert_eq!(told.first(), expected.as_ref(), "{state} {owner:?}");
        }
    }

    #[test]
    fn a_refused_request_is_told_with_what_aws_said() {
        let undone = BTreeMap::from([(endpoint(1), "InvalidState: it is not waiting".to_owned())]);
        let told = told(connection(1, DBT, "pendingAcceptance"), &policy(), &Context { undone, ..Context::default() });
        let summary =
            "dbt's request vpce-00000000000000001 could not be accepted: InvalidState: it is not waiting".to_owned();
        assert_eq!(told, [("connection.dbt", Severity::Critical, summary)]);
    }

    #[test]
    fn a_dry_run_says_what_it_would_do() {
        let policy = settings(&[("DRY_RUN", "true")]).policy;
        let told = told(connection(1, DBT, "pendingAcceptance"), &policy, &Context::default());
        assert_eq!(told[0].1, Severity::Info);
    }

    #[test]
    fn pending_is_stuck_after_fifteen_minutes_counted_from_when_it_became_pending() {
        let pending = || connection(1, DBT, "pending");
        let since = |minute| Context { since: BTreeMap::from([(endpoint(1), at(8, minute))]), ..Context::default() };
        assert_eq!(told(pending(), &policy(), &Context::default()), [], "first seen now, though created an hour ago");
        assert_eq!(told(pending(), &policy(), &since(45)), []);
        assert_eq!(told(pending(), &policy(), &since(44)).len(), 1);
    }

    #[test]
    fn a_request_that_stays_though_it_was_accepted_is_told_in_the_end() {
        let waiting = || connection(1, DBT, "pendingAcceptance");
        let since = |minute| Context { since: BTreeMap::from([(endpoint(1), at(8, minute))]), ..Context::default() };
        assert_eq!(told(waiting(), &policy(), &Context::default()), [], "the next run answers it");
        assert_eq!(told(waiting(), &policy(), &since(45)), []);
        assert_eq!(told(waiting(), &policy(), &since(44)).len(), 1);
    }

    #[test]
    fn one_alert_per_account_however_many_endpoints_it_creates() {
        let mut connections: Vec<Connection> =
            (1..=30).map(|number| connection(number, STRANGER, "pendingAcceptance")).collect();
        connections.push(connection(31, STRANGER, "available"));
        connections.push(connection(32, None, "pendingAcceptance"));
        let observations = evaluate(&service(1), &Ok(connections), &policy(), &Context::default(), at(9, 0), &place());
        let failed: Vec<(&str, String, usize)> = observations
            .iter()
            .filter_map(|observation| match &observation.status {
                Status::Fail(finding) => {
                    Some((observation.resource.as_str(), finding.summary.clone(), finding.evidence.len()))
                }
                _ => None,
            })
            .collect();
        let unnamed = "an account EC2 does not name is not dbt's and asks to connect (vpce-00000000000000020)";
        let named = "account 999999999999 is not dbt's and is connected (vpce-0000000000000001f)";
        assert_eq!(failed, [("unnamed account", unnamed.to_owned(), 1), ("999999999999", named.to_owned(), 21)]);
    }

    #[test]
    fn connections_that_could_not_be_read_are_unknown() {
        let failed = Err(unseen("ec2:DescribeVpcEndpointConnections"));
        let observations = evaluate(&service(1), &failed, &policy(), &Context::default(), at(9, 0), &place());
        assert_eq!(observations.len(), 2);
        assert!(observations.iter().all(|observation| matches!(observation.status, Status::Unknown(_))));
    }
}
