//! connection-acceptor: accepts dbt's connection requests, and nobody else's.
//!
//! Whatever triggered it, it reads all connections of the configured services, decides for each, applies the decisions,
//! confirms them, and notifies people.

use std::collections::BTreeMap;
use std::time::Duration;

use guard_aws::apply::{Applier, Outcome};
use guard_aws::debounce;
use guard_aws::lambda::RunErrors;
use guard_aws::metrics;
use guard_aws::notify::{LoadedState, Notifier, ServiceReport};
use guard_aws::observe::Observer;
use guard_core::alerts::connection::state_since;
use guard_core::alerts::reconcile::Report;
use guard_core::checks::{CheckContext, CheckResult, Group, cause, evaluate};
use guard_core::config::Settings;
use guard_core::connections::{Plan, Verdict, decide};
use guard_core::ids::{EndpointId, ServiceId};
use guard_core::snapshot::{CallError, Connection, Observed, Topology};
use guard_core::trigger::Trigger;
use jiff::Timestamp;

/// Pauses before each read that confirms a change. If it takes longer, a later run reports it.
const CONFIRM_AFTER: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// How long to wait for the services' names.
const NAMES_WITHIN: Duration = Duration::from_secs(3);

const FUNCTION: &str = "connection-acceptor";

/// The function, with its clients.
#[derive(Debug)]
pub struct ConnectionAcceptor {
    settings: Settings,
    observer: Observer,
    applier: Applier,
    notifier: Notifier,
}

/// A read of all connections.
struct Read {
    began: Timestamp,
    connections: Observed<Vec<Connection>>,
}

/// What one run read and changed.
struct Run<'a> {
    trigger: &'a Trigger,
    before: Read,
    outcome: Outcome,
    /// The last read after a change.
    confirmed: Option<Read>,
}

impl Run<'_> {
    /// The last read that succeeded; else the first.
    fn last(&self) -> &Read {
        self.confirmed.as_ref().filter(|read| read.connections.is_ok()).unwrap_or(&self.before)
    }

    fn failed_calls(&self) -> Vec<CallError> {
        let reads = [Some(&self.before), self.confirmed.as_ref()];
        reads.into_iter().flatten().filter_map(|read| read.connections.as_ref().err().cloned()).collect()
    }
}

impl ConnectionAcceptor {
    /// Builds the clients once.
    #[must_use]
    pub fn new(settings: Settings, config: &aws_config::SdkConfig) -> Self {
        Self {
            observer: Observer::new(config),
            applier: Applier::new(config, settings.policy.dry_run),
            notifier: Notifier::new(FUNCTION, config, &settings),
            settings,
        }
    }

    /// One run.
    ///
    /// # Errors
    /// [`RunErrors`] names the calls that failed. A request that AWS refuses to accept is not among them: it is an alert.
    pub async fn handle(&self, trigger: Trigger) -> Result<(), RunErrors> {
        tracing::info!(%trigger, "checking the connections");
        self.log_unconfigured_services(&trigger);
        if debounce::is_covered(self.notifier.store(), FUNCTION, &trigger).await {
            return Ok(());
        }
        let (before, states) = tokio::join!(self.read(), self.notifier.load_state());
        let plan = self.plan(&before.connections);
        let outcome = self.applier.apply_connections(&plan).await;
        let confirmed = self.confirm(&plan).await;
        let run = Run { trigger: &trigger, before, outcome, confirmed };
        self.notify(run, &plan, states).await.into_result()
    }

    fn log_unconfigured_services(&self, trigger: &Trigger) {
        let Trigger::Notification { id, mentions, .. } = trigger else { return };
        let services = mentions.iter().filter_map(|mention| mention.parse::<ServiceId>().ok());
        for service in services.filter(|service| !self.settings.policy.services.contains(service)) {
            tracing::warn!(id, %service, "the notification names a service that is not configured; ignored");
        }
    }

    async fn read(&self) -> Read {
        let began = Timestamp::now();
        Read { began, connections: self.observer.connections(&self.settings.policy.services).await }
    }

    fn plan(&self, connections: &Observed<Vec<Connection>>) -> Plan {
        let policy = &self.settings.policy;
        for connection in connections.iter().flatten() {
            let Connection { service, endpoint, owner, state, .. } = connection;
            let owner = owner.as_ref().map_or("not named", |owner| owner.as_str());
            tracing::info!(%service, %endpoint, owner, %state, verdict = ?decide(connection, policy), "decided");
        }
        connections.as_ref().map(|connections| Plan::new(connections, policy)).unwrap_or_default()
    }

    /// Reads again until everything that was answered has settled, or the pauses are used up. `None`: nothing was answered.
    async fn confirm(&self, plan: &Plan) -> Option<Read> {
        if plan.is_empty() || self.settings.policy.dry_run {
            return None;
        }
        let answered: Vec<&EndpointId> = plan.accept.values().chain(plan.reject.values()).flatten().collect();
        let is_pending = |connection: &Connection| {
            use Verdict::{Accept, Establishing, UntrustedConnected, UntrustedRequest};
            let verdict = decide(connection, &self.settings.policy);
            answered.contains(&&connection.endpoint)
                && matches!(verdict, Accept | Establishing | UntrustedRequest | UntrustedConnected)
        };
        let mut last = None;
        for pause in CONFIRM_AFTER {
            tokio::time::sleep(pause).await;
            let read = self.read().await;
            let settled = !read.connections.iter().flatten().any(is_pending);
            last = Some(read);
            if settled {
                break;
            }
        }
        last
    }

    async fn notify(&self, run: Run<'_>, plan: &Plan, states: Vec<(&ServiceId, LoadedState)>) -> RunErrors {
        let mut errors = RunErrors::default();
        errors.push(self.notifier.close_removed_services(run.before.began).await);
        let failed_calls = run.failed_calls();
        let reports = states.into_iter().map(|(service, state)| ServiceReport {
            report: self.report(service, &run, &failed_calls, &state),
            state,
            notice: None,
        });
        let reports: Vec<ServiceReport<'_>> = reports.collect();
        let unknown_checks = metrics::unknown_checks(&reports);
        errors.append(self.notifier.notify(reports, async || self.names().await).await);
        let planned = plan.accept.values().flatten();
        let accepted = planned.filter(|endpoint| !run.outcome.refused.contains_key(endpoint.as_str())).count();
        let accepted = if self.settings.policy.dry_run { 0 } else { accepted };
        let failed_changes = ("FailedConnectionChanges", run.outcome.refused.len());
        metrics::write(&[("AcceptedConnections", accepted), failed_changes, unknown_checks], run.before.began);
        errors.extend(failed_calls);
        errors.extend(run.outcome.failed);
        errors
    }

    fn report<'a>(
        &self,
        service: &'a ServiceId,
        run: &'a Run<'_>,
        failed_calls: &[CallError],
        state: &LoadedState,
    ) -> Report<'a> {
        let last = run.last();
        let connections = last.connections.as_deref();
        let since = match (state, connections) {
            (Ok(items), Ok(connections)) => state_since(items, connections),
            _ => BTreeMap::new(),
        };
        let evaluate = |read: &Read, outcome: &Outcome| {
            let topology = Topology { connections: Some(read.connections.clone()), ..Topology::default() };
            let policy = &self.settings.policy;
            let context = CheckContext::new(service, &topology, policy, self.notifier.region(), Timestamp::now());
            let context = CheckContext { state_since: &since, refused: &outcome.refused, failed_calls, ..context };
            let mut results: Vec<CheckResult> = evaluate(&[Group::Connections, Group::Visibility], context);
            if let Trigger::Change(change) = run.trigger {
                cause::attribute(&mut results, change, context);
            }
            results
        };
        // The read before the change is reported too: an untrusted account that was rejected did ask to connect.
        let rounds = match &run.confirmed {
            Some(_) => vec![evaluate(&run.before, &Outcome::default()), evaluate(last, &run.outcome)],
            None => vec![evaluate(&run.before, &run.outcome)],
        };
        Report { service, rounds, connections: connections.ok(), observed_at: last.began }
    }

    /// The services' names, which only serve the reader: the run does not wait for them when EC2 is slow.
    async fn names(&self) -> BTreeMap<ServiceId, String> {
        let services = self.observer.endpoint_services(&self.settings.policy.services);
        match tokio::time::timeout(NAMES_WITHIN, services).await {
            Ok(services @ Ok(_)) => Topology { services: Some(services), ..Topology::default() }.names(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "sending without the services' names");
                BTreeMap::new()
            }
            Err(_) => BTreeMap::new(),
        }
    }
}
