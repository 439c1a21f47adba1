//! connection-acceptor: accepts dbt's connection requests, and nobody else's.
//!
//! Whatever rang, it reads all connections of the configured services, decides for each, acts, confirms, and tells.

use std::collections::BTreeMap;
use std::time::Duration;

use guard::act::{Outcome, Writer};
use guard::alerts::{Report, Teller};
use guard::checks::connections::{Context, evaluate};
use guard::checks::{name_the_cause, visibility};
use guard::config::Settings;
use guard::connections::{Plan, Verdict, decide};
use guard::ids::ServiceId;
use guard::lambda::LeftUndone;
use guard::looks::is_covered;
use guard::metrics;
use guard::observe::{Observer, side_by_side};
use guard::snapshot::{Connection, EndpointService, Seen};
use guard::trigger::Trigger;
use jiff::Timestamp;
use serde_json::Value;

/// Pauses before each look at what became of a change. If it takes longer, a later run tells.
const CONFIRM_AFTER: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// How long to wait for the services' names.
const NAMES_WITHIN: Duration = Duration::from_secs(3);

const FUNCTION: &str = "connection-acceptor";

/// The function, with its clients.
#[derive(Debug)]
pub struct ConnectionAcceptor {
    settings: Settings,
    observer: Observer,
    writer: Writer,
    teller: Teller,
}

impl ConnectionAcceptor {
    /// Builds the clients once.
    #[must_use]
    pub fn new(settings: Settings, config: &aws_config::SdkConfig) -> Self {
        Self {
            observer: Observer::new(config),
            writer: Writer::new(config, settings.policy.dry_run),
            teller: Teller::new(FUNCTION, config, &settings),
            settings,
        }
    }

    /// One run.
    ///
    /// # Errors
    /// [`LeftUndone`] names the calls that failed. A request that AWS refuses to accept is no such failure: it is an
    /// alert.
    pub async fn handle(&self, event: &Value) -> Result<(), LeftUndone> {
        let trigger = Trigger::of(event);
        tracing::info!(%trigger, "looking at the connections");
        let policy = &self.settings.policy;
        if let Trigger::Notification { id, mentions, .. } = &trigger {
            let is_foreign = |id: &&String| id.parse().is_ok_and(|id: ServiceId| !policy.services.contains(&id));
            for service in mentions.iter().filter(is_foreign) {
                tracing::warn!(id, service, "the notification names a service that is not configured; ignored");
            }
        }
        if is_covered(self.teller.store(), FUNCTION, &trigger).await {
            return Ok(());
        }
        self.look(&trigger).await
    }

    async fn look(&self, trigger: &Trigger) -> Result<(), LeftUndone> {
        let policy = &self.settings.policy;
        let began = Timestamp::now();
        let remember = side_by_side(&policy.services, async |service| (service, self.teller.recall(service).await));
        let (seen, remembered) = tokio::join!(self.observer.connections(&policy.services), remember);

        let plan = seen.as_ref().map(|connections| Plan::of(connections, policy)).unwrap_or_default();
        for connection in seen.iter().flatten() {
            log(connection, decide(connection, policy));
        }
        let outcome = self.writer.answer_requests(&plan).await;
        let confirmed = self.confirm(&plan).await;

        let mut undone = LeftUndone::default();
        undone.note(self.teller.let_go(began).await);
        let failed_reads =
            seen.as_ref().err().into_iter().chain(confirmed.as_ref().and_then(|(_, seen)| seen.as_ref().err()));
        let failed_reads: Vec<_> = failed_reads.cloned().collect();
        let accepted = plan.accept.values().flatten().filter(|endpoint| !outcome.undone.contains_key(endpoint)).count();
        let mut unknown = 0;
        let mut untold = Vec::new();
        for (service, items) in remembered {
            let now = Timestamp::now();
            let (looked, last) = match &confirmed {
                Some((looked, again)) if again.is_ok() => (*looked, again),
                _ => (began, &seen),
            };
            let known = items.as_ref().map(|items| self.teller.known_connections(items)).unwrap_or_default();
            let since = guard::alerts::connection::since(known, last.as_deref().unwrap_or_default());
            let evaluate = |seen: &Seen<Vec<Connection>>, outcome: &Outcome| {
                let context = Context { undone: outcome.undone.clone(), since: since.clone() };
                let mut round = evaluate(service, seen, policy, &context, now, self.teller.place());
                round.extend(visibility::evaluate(&failed_reads));
                if let Trigger::Change(change) = trigger {
                    // A stranger's alert is about an account; a change names its endpoints.
                    name_the_cause(&mut round, change, |_, resource, _| {
                        let of_account = |connection: &&Connection| {
                            connection.owner.as_ref().is_some_and(|owner| owner.as_str() == resource)
                        };
                        let mut endpoints = seen.iter().flatten().filter(of_account).map(|own| &own.endpoint);
                        change.is_about(resource) || endpoints.any(|own| change.is_about(own.as_str()))
                    });
                }
                round
            };
            // What was there before the answer is told too: a stranger who was turned away did ask.
            let rounds = match &confirmed {
                Some(_) => vec![evaluate(&seen, &Outcome::default()), evaluate(last, &outcome)],
                None => vec![evaluate(&seen, &outcome)],
            };
            unknown += rounds.last().map_or(0, |round| metrics::unknown_checks(round).1);
            let report = Report { service, rounds: &rounds, connections: last.as_deref().ok(), looked };
            untold.push((service, self.teller.settle(report, items, now).await));
        }
        let accepted = if policy.dry_run { 0 } else { accepted };
        let refused = outcome.undone.len();
        let figures = [("AcceptedConnections", accepted), ("RefusedConnections", refused), ("UnknownChecks", unknown)];
        metrics::write(&figures, began);
        undone.extend(failed_reads);
        undone.extend(outcome.failed);

        let names = self.names(untold.iter().all(|(_, untold)| untold.is_empty())).await;
        for (service, untold) in untold {
            let name = names.get(service).and_then(|found| found.name.as_deref());
            undone.note(self.teller.publish(untold, name, Timestamp::now()).await);
        }
        undone.into_result()
    }

    /// The services with their names, which are for the reader alone: not asked for when nobody will read them, and not
    /// waited for when EC2 is slow.
    async fn names(&self, nothing_to_tell: bool) -> BTreeMap<ServiceId, EndpointService> {
        if nothing_to_tell {
            return BTreeMap::new();
        }
        let asked = self.observer.endpoint_services(&self.settings.policy.services);
        match tokio::time::timeout(NAMES_WITHIN, asked).await {
            Ok(Ok(services)) => services,
            Ok(Err(failure)) => {
                tracing::warn!(%failure, "told without the services' names");
                BTreeMap::new()
            }
            Err(_) => BTreeMap::new(),
        }
    }

    /// Reads again until everything that was answered has settled, or the pauses are used up; with the time the last
    /// read began. `None`: nothing was answered.
    async fn confirm(&self, plan: &Plan) -> Option<(Timestamp, Seen<Vec<Connection>>)> {
        if plan.is_empty() || self.settings.policy.dry_run {
            return None;
        }
        let answered: Vec<_> = plan.accept.values().chain(plan.reject.values()).flatten().collect();
        let mut seen = None;
        for pause in CONFIRM_AFTER {
            tokio::time::sleep(pause).await;
            let began = Timestamp::now();
            let again = self.observer.connections(&self.settings.policy.services).await;
            let unsettled = again.iter().flatten().any(|connection| {
                use Verdict::{Accept, Establishing, StrangerAsks, StrangerConnected};
                let verdict = decide(connection, &self.settings.policy);
                answered.contains(&&connection.endpoint)
                    && matches!(verdict, Accept | Establishing | StrangerAsks | StrangerConnected)
            });
            let failed = again.is_err();
            seen = Some((began, again));
            if !unsettled || failed {
                break;
            }
        }
        seen
    }
}

fn log(connection: &Connection, verdict: Verdict) {
    let Connection { service, endpoint, owner, state, .. } = connection;
    let owner = owner.as_ref().map_or("not named", |owner| owner.as_str());
    tracing::info!(%service, %endpoint, owner, %state, ?verdict, "decided");
}
