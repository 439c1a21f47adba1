//! connection-acceptor: accepts dbt's connection requests, and nobody else's.
//!
//! Whatever rang, it reads all connections of the configured services, decides for each, acts, confirms, and tells.

use std::time::Duration;

use guard::act::{Outcome, Writer};
use guard::alerts::{Report, Teller, name_the_cause};
use guard::checks::connections::{Context, evaluate};
use guard::checks::visibility;
use guard::config::Settings;
use guard::connections::{Plan, Verdict, decide};
use guard::ids::ServiceId;
use guard::lambda::LeftUndone;
use guard::observe::{Observer, side_by_side};
use guard::snapshot::{Connection, Seen};
use guard::trigger::Trigger;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// A look waits until a notification is this old. So a burst of notifications shares one look, and EC2, which answers a
/// moment behind itself, shows what it notified of.
const SETTLE: SignedDuration = SignedDuration::from_secs(1);

/// A look covers the notifications that were sent this long before it began; the margin is for clocks that differ.
const MARGIN: SignedDuration = SignedDuration::from_millis(500);

/// Pauses before each look at what became of a change. If it takes longer, a later run tells.
const CONFIRM_AFTER: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

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
            teller: Teller::new("connection-acceptor", config, &settings),
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
        let Trigger::Notification { id, sent, mentions } = &trigger else {
            return self.look(&trigger).await;
        };
        let services = &self.settings.policy.services;
        let foreign = mentions.iter().filter(|id| id.parse().is_ok_and(|id: ServiceId| !services.contains(&id)));
        for service in foreign {
            tracing::warn!(id, service, "the notification names a service that is not configured; ignored");
        }
        let Some(sent) = *sent else { return self.look(&trigger).await };
        if self.is_covered(sent).await {
            tracing::info!(id, "a look that began after this notification has seen what it is about");
            return Ok(());
        }
        let result = self.look(&trigger).await;
        if result.is_err() {
            // Lambda will ring again with this notification, and must not find it covered.
            if let Err(trouble) = self.teller.store().fail_look().await {
                tracing::error!(%trouble, "the schedule will make up for this look");
            }
        }
        result
    }

    /// Whether another run's look has seen whatever rang. If the table does not answer, this run looks.
    async fn is_covered(&self, sent: Timestamp) -> bool {
        let age = Timestamp::now().duration_since(sent);
        if let Ok(wait) = Duration::try_from(SETTLE - age) {
            tokio::time::sleep(wait.min(SETTLE.unsigned_abs())).await;
        }
        match self.teller.store().begin_look(sent + MARGIN, Timestamp::now()).await {
            Ok(ours) => !ours,
            Err(trouble) => {
                tracing::error!(%trouble, "cannot tell whether another run looks; looking");
                false
            }
        }
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
        let failed_reads =
            seen.as_ref().err().into_iter().chain(confirmed.as_ref().and_then(|(_, seen)| seen.as_ref().err()));
        let failed_reads: Vec<_> = failed_reads.cloned().collect();
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
                    name_the_cause(&mut round, change, |_| Vec::new());
                }
                round
            };
            // What was there before the answer is told too: a stranger who was turned away did ask.
            let rounds = match &confirmed {
                Some(_) => vec![evaluate(&seen, &Outcome::default()), evaluate(last, &outcome)],
                None => vec![evaluate(&seen, &outcome)],
            };
            let report = Report { service, rounds: &rounds, connections: last.as_deref().ok(), looked };
            untold.push((service, self.teller.settle(report, items, now).await));
        }
        undone.extend(failed_reads);
        undone.extend(outcome.failed);

        // The names are for the reader alone: asked for only when somebody will read them.
        let names = if untold.iter().any(|(_, untold)| !untold.is_empty()) {
            self.observer.endpoint_services(&policy.services).await.unwrap_or_else(|failure| {
                tracing::warn!(%failure, "told without the services' names");
                std::collections::BTreeMap::new()
            })
        } else {
            std::collections::BTreeMap::new()
        };
        for (service, untold) in untold {
            let name = names.get(service).and_then(|service| service.name.as_deref());
            undone.note(self.teller.publish(untold, name, Timestamp::now()).await);
        }
        undone.into_result()
    }

    /// Reads again until everything that was answered has settled, or the pauses are used up; with the time the last
    /// read began. `None`: nothing was answered.
    async fn confirm(&self, plan: &Plan) -> Option<(Timestamp, Seen<Vec<Connection>>)> {
        if plan.is_empty() || self.settings.policy.dry_run {
            return None;
        }
        let services = plan.accept.keys().chain(plan.reject.keys()).cloned().collect();
        let answered: Vec<_> = plan.accept.values().chain(plan.reject.values()).flatten().collect();
        let mut seen = None;
        for pause in CONFIRM_AFTER {
            tokio::time::sleep(pause).await;
            let began = Timestamp::now();
            let again = self.observer.connections(&services).await;
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
