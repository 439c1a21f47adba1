//! `connection.stranger` and `connection.dbt`: what people must hear of each endpoint connection.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Check, Finding, Observation, Place, Remedy, Severity, Status};
use crate::config::{Policy, UnknownRequesters};
use crate::connections::{Verdict, decide};
use crate::ids::{EndpointId, ServiceId};
use crate::snapshot::{Connection, ConnectionState, Seen};

/// Setting up an accepted connection takes AWS about a minute; after this long it is stuck.
pub const STUCK_AFTER: Duration = Duration::from_mins(15);

/// What this run knows besides the connections themselves.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Why a change that was planned for an endpoint did not happen: AWS's code and message.
    pub undone: BTreeMap<EndpointId, String>,
    /// Since when each endpoint has been in the state it is in, where an earlier run noted it.
    pub since: BTreeMap<EndpointId, Timestamp>,
}

/// Two observations per connection of `service`, one of each check.
#[must_use]
pub fn evaluate(
    service: &ServiceId,
    connections: &Seen<Vec<Connection>>,
    policy: &Policy,
    context: &Context,
    now: Timestamp,
    place: &Place,
) -> Vec<Observation> {
    let checks = [Check::ConnectionStranger, Check::ConnectionDbt];
    let connections = match connections {
        Ok(connections) => connections,
        Err(unseen) => {
            let blind = |check| Observation {
                check,
                resource: service.to_string(),
                status: Status::Unknown(unseen.to_string()),
            };
            return checks.map(blind).into();
        }
    };
    let ours = connections.iter().filter(|connection| connection.service == *service);
    ours.flat_map(|connection| {
        let (failed, status) = judge(connection, policy, context, now, place);
        checks.map(|check| Observation {
            check,
            resource: connection.endpoint.to_string(),
            status: if check == failed { status.clone() } else { Status::Pass },
        })
    })
    .collect()
}

/// The one check that this connection can fail, and whether it does.
fn judge(
    connection: &Connection,
    policy: &Policy,
    context: &Context,
    now: Timestamp,
    place: &Place,
) -> (Check, Status) {
    let about = About { connection, policy, undone: context.undone.get(&connection.endpoint), place };
    let is_dbt = connection.owner.as_ref().is_some_and(|owner| policy.dbt_accounts.contains(owner));
    let own_check = if is_dbt { Check::ConnectionDbt } else { Check::ConnectionStranger };
    let status = match decide(connection, policy) {
        Verdict::Accept => about.waiting(),
        Verdict::Establishing => {
            let since = context.since.get(&connection.endpoint).copied().unwrap_or(now);
            let lasted = now.duration_since(since);
            if lasted.unsigned_abs() > STUCK_AFTER { about.stuck(since) } else { Status::Pass }
        }
        Verdict::Broken => about.broken(),
        Verdict::StrangerAsks => about.stranger(Severity::Warning),
        Verdict::StrangerConnected => about.stranger(Severity::Critical),
        Verdict::UnknownState => about.unknown_state(if is_dbt { Severity::Critical } else { Severity::Warning }),
        Verdict::Established | Verdict::StrangerOut | Verdict::Gone | Verdict::NotOurs => Status::Pass,
    };
    (own_check, status)
}

struct About<'a> {
    connection: &'a Connection,
    policy: &'a Policy,
    undone: Option<&'a String>,
    place: &'a Place,
}

impl About<'_> {
    /// dbt's request still waits after this run did what it could.
    fn waiting(&self) -> Status {
        let endpoint = &self.connection.endpoint;
        if self.policy.dry_run {
            return self.fail(
                Severity::Info,
                format!("dbt's request {endpoint} waits: DryRun is on"),
                "dbt cannot connect until the request is accepted. The guard would accept it, but is told to change \
                 nothing.",
                "Set the stack's DryRun to false, or accept the request yourself.",
                Some(self.command("accept")),
            );
        }
        let Some(why) = self.undone else {
            return Status::Unknown(format!("{endpoint} asked while this run was under way; the next one answers it"));
        };
        self.fail(
            Severity::Critical,
            format!("dbt's request {endpoint} could not be accepted: {why}"),
            "dbt cannot connect until the request is accepted.",
            "The guard tries again at every run. If AWS keeps refusing, accept it by hand and see what AWS says.",
            Some(self.command("accept")),
        )
    }

    fn stuck(&self, since: Timestamp) -> Status {
        self.fail(
            Severity::Critical,
            format!("dbt's connection {} is stuck in 'pending' since {since:.0}", self.connection.endpoint),
            "dbt cannot connect yet: AWS takes unusually long to set the connection up.",
            "Ask dbt Support to delete the endpoint and create it again; if that does not help, ask AWS Support.",
            Some(self.command("describe")),
        )
    }

    fn broken(&self) -> Status {
        let (what, command) = if self.connection.state == ConnectionState::Rejected {
            ("If nobody meant to reject it, accept it again.", self.command("accept"))
        } else {
            ("Ask dbt Support to delete the endpoint and create it again.", self.command("describe"))
        };
        self.fail(
            Severity::Critical,
            format!("dbt's connection {} is {}", self.connection.endpoint, self.connection.state),
            "dbt cannot connect through this endpoint.",
            what,
            Some(command),
        )
    }

    fn stranger(&self, severity: Severity) -> Status {
        let endpoint = &self.connection.endpoint;
        let who = self.owner();
        let connected = severity == Severity::Critical;
        let summary = match connected {
            true => format!("{who} is connected through {endpoint} and is not dbt's"),
            false => format!("{who} asks to connect through {endpoint} and is not dbt's"),
        };
        let meaning = match connected {
            true => "Nothing changes for dbt, but somebody else can reach your service.",
            false => "Nothing changes for dbt. The request waits and gives no access until somebody accepts it.",
        };
        let what = match self.policy.unknown_requesters {
            UnknownRequesters::Reject if self.policy.dry_run => {
                "The guard would reject it, but DryRun is on. Reject it yourself, or set DryRun to false."
            }
            UnknownRequesters::Reject => "The guard rejects it (UnknownRequesters is 'reject').",
            UnknownRequesters::Alert => {
                "Reject it, and see that the endpoint service allows dbt's principal alone. If the account is dbt's, \
                 add the principal dbt Support gave you to the stack's DbtPrincipals."
            }
        };
        self.fail(severity, summary, meaning, what, Some(self.command("reject")))
    }

    fn unknown_state(&self, severity: Severity) -> Status {
        self.fail(
            severity,
            format!(
                "{} of {} is in the unknown state '{}'",
                self.connection.endpoint,
                self.owner(),
                self.connection.state
            ),
            "The guard does not know what this state means, so it changes nothing.",
            "Look at the connection, and see whether a newer version of privatelink-guard knows the state.",
            Some(self.command("describe")),
        )
    }

    fn owner(&self) -> String {
        match &self.connection.owner {
            Some(owner) => format!("account {owner}"),
            None => "an account EC2 does not name".to_owned(),
        }
    }

    fn command(&self, verb: &str) -> String {
        let Connection { service, endpoint, .. } = self.connection;
        let region = self.place.region();
        match verb {
            "describe" => format!(
                "aws ec2 describe-vpc-endpoint-connections --region {region} --filters \
                 Name=service-id,Values={service} Name=vpc-endpoint-id,Values={endpoint}"
            ),
            verb => format!(
                "aws ec2 {verb}-vpc-endpoint-connections --region {region} --service-id {service} \
                 --vpc-endpoint-ids {endpoint}"
            ),
        }
    }

    fn fail(&self, severity: Severity, summary: String, meaning: &str, what: &str, command: Option<String>) -> Status {
        let Connection { owner, state, created, region, .. } = self.connection;
        let mut evidence = vec![
            format!("owner: {}", owner.as_ref().map_or("not named by EC2", |owner| owner.as_str())),
            format!("state: {state}"),
        ];
        evidence.extend(created.map(|created| format!("created: {created:.0}")));
        evidence.extend(region.as_ref().map(|region| format!("endpoint's Region: {region}")));
        evidence.extend(self.undone.map(|why| format!("AWS refused the change: {why}")));
        Status::Fail(Box::new(Finding {
            severity,
            summary,
            meaning: meaning.to_owned(),
            evidence,
            remedy: Remedy {
                what: what.to_owned(),
                command,
                console: self.place.endpoint_service(self.connection.service.as_str()),
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
        assert_eq!(observations.len(), 2);
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
                    "vpce-00000000000000001 of account 123456789012 is in the unknown state 'partial'".to_owned(),
                )),
            ),
            (
                "pendingAcceptance",
                STRANGER,
                Some((
                    "connection.stranger",
                    Severity::Warning,
                    format!("{account} asks to connect through vpce-00000000000000001 and is not dbt's"),
                )),
            ),
            (
                "available",
                STRANGER,
                Some((
                    "connection.stranger",
                    Severity::Critical,
                    format!("{account} is connected through vpce-00000000000000001 and is not dbt's"),
                )),
            ),
            (
                "pending",
                None,
                Some((
                    "connection.stranger",
                    Severity::Critical,
                    "an account EC2 does not name is connected through vpce-00000000000000001 and is not dbt's"
                        .to_owned(),
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
    fn connections_that_could_not_be_read_are_unknown() {
        let failed = Err(unseen("ec2:DescribeVpcEndpointConnections"));
        let observations = evaluate(&service(1), &failed, &policy(), &Context::default(), at(9, 0), &place());
        assert_eq!(observations.len(), 2);
        assert!(observations.iter().all(|observation| matches!(observation.status, Status::Unknown(_))));
    }
}
