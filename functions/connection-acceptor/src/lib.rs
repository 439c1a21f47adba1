//! connection-acceptor: accepts dbt's connection requests, and nobody else's.
//!
//! Whatever triggered it, it reads all connections of the configured services, decides for each, applies the decisions,
//! confirms them, and notifies people.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use guard_aws::apply::{Applier, Outcome};
use guard_aws::concurrently;
use guard_aws::debounce;
use guard_aws::lambda::{Invocation, RunErrors};
use guard_aws::metrics;
use guard_aws::notify::{Findings, LoadedState, Notifier, stored_names};
use guard_aws::observe::Observer;
use guard_core::alerts::connection::history;
use guard_core::alerts::reconcile::{Evaluation, Report};
use guard_core::alerts::record::Partition;
use guard_core::check::{Check, CheckContext, Group, RememberedConnections, cause};
use guard_core::checks::catalogue::checks_of;
use guard_core::checks::connection_untrusted;
use guard_core::config::Settings;
use guard_core::connections::{Plan, Verdict, decide};
use guard_core::ids::{EndpointId, ServiceId};
use guard_core::snapshot::{Calls, Connection, Topology};
use guard_core::trigger::Trigger;
use jiff::Timestamp;
use tokio::time::Instant;

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
    topology: Topology,
}

impl Read {
    fn connections(&self) -> &[Connection] {
        match &self.topology.connections {
            Some(Ok(connections)) => connections,
            _ => &[],
        }
    }
}

/// What one run read and changed.
struct Run<'a> {
    invocation: &'a Invocation,
    before: Read,
    outcome: Outcome,
    /// The last read after a change, if one succeeded.
    confirmed: Option<Read>,
    calls: Calls,
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
    /// [`RunErrors`] names the calls that failed. A change that AWS refuses is not among them: it is an alert.
    pub async fn handle(&self, invocation: Invocation) -> Result<(), RunErrors> {
        let Invocation { trigger, .. } = &invocation;
        tracing::info!(%trigger, "checking the connections");
        self.log_unconfigured_services(trigger);
        debounce::run_unless_covered(&self.notifier, &invocation, async || self.run(&invocation).await).await
    }

    async fn run(&self, invocation: &Invocation) -> Result<(), RunErrors> {
        let trigger = &invocation.trigger;
        let observer = self.observer.for_run(&invocation.id, invocation.deadline.reads);
        let partitions = self.notifier.partitions();
        // Accepting does not wait for the table; rejecting does, since it must not hit what the table knows as dbt's.
        let accept = async {
            let before = self.read_before(&observer, trigger).await;
            let plan = Plan::accepts(before.connections(), &self.settings.policy);
            let outcome = self.applier.apply_connections(&plan).await;
            (before, plan, outcome)
        };
        let work = async {
            let ((before, mut plan, mut outcome), mut states) =
                tokio::join!(accept, self.notifier.load_state(&partitions));
            let rejects = self.rejects(before.connections(), &states);
            if !self.settings.policy.dry_run {
                Box::pin(self.store_before_rejecting(invocation, &before, &rejects, &mut states)).await;
            }
            outcome.extend(self.applier.apply_connections(&rejects).await);
            plan.reject = rejects.reject;
            let confirmed = self.confirm(&observer, &plan).await;
            let run = Run { invocation, before, outcome, confirmed, calls: observer.calls() };
            self.notify(run, &plan, states).await
        };
        // What is sent does not wait for it either.
        let removed = self.notifier.close_removed_services(&invocation.origin, Timestamp::now());
        let (notified, removed) = tokio::join!(work, removed);
        let mut errors = RunErrors::default();
        errors.push(removed);
        errors.append(notified);
        errors.into_result()
    }

    fn log_unconfigured_services(&self, trigger: &Trigger) {
        let Trigger::Notification { id, mentions, .. } = trigger else { return };
        let services = mentions.iter().filter_map(|mention| mention.parse::<ServiceId>().ok());
        for service in services.filter(|service| !self.settings.policy.services.contains(service)) {
            tracing::warn!(id, %service, "the notification names a service that is not configured; ignored");
        }
    }

    async fn read(&self, observer: &Observer) -> Read {
        let began = Timestamp::now();
        let connections = Some(observer.connections(&self.settings.policy.services).await);
        Read { began, topology: Topology { connections, ..Topology::default() } }
    }

    /// Reads the connections. If a notification names an endpoint of a configured service that EC2's list does not show yet,
    /// it reads again after a pause: the notification is a hint that the list lags behind, and nothing more.
    async fn read_before(&self, observer: &Observer, trigger: &Trigger) -> Read {
        let mut read = self.read(observer).await;
        for pause in CONFIRM_AFTER {
            if !self.lacks_mentioned(&read, trigger) {
                break;
            }
            tokio::time::sleep(pause).await;
            read = self.read(observer).await;
        }
        for connection in read.connections() {
            let Connection { service, endpoint, owner, state, .. } = connection;
            let owner = owner.as_ref().map_or("not named", |owner| owner.as_str());
            let verdict = decide(connection, &self.settings.policy);
            tracing::info!(%service, %endpoint, owner, %state, ?verdict, "decided");
        }
        read
    }

    fn lacks_mentioned(&self, read: &Read, trigger: &Trigger) -> bool {
        let (Trigger::Notification { mentions, .. }, Some(Ok(connections))) = (trigger, &read.topology.connections)
        else {
            return false;
        };
        let is_ours = |id: &String| id.parse().is_ok_and(|id: ServiceId| self.settings.policy.services.contains(&id));
        let is_missing = |id: &String| {
            id.parse().is_ok_and(|id: EndpointId| connections.iter().all(|connection| connection.endpoint != id))
        };
        mentions.iter().any(is_ours) && mentions.iter().any(is_missing)
    }

    fn rejects(&self, connections: &[Connection], states: &[(&Partition, LoadedState)]) -> Plan {
        let items: Result<Vec<_>, _> = states.iter().map(|(_, state)| state.as_ref()).collect();
        let established: Option<BTreeSet<EndpointId>> =
            items.ok().map(|items| items.into_iter().flat_map(|items| history(items).established).collect());
        Plan::rejects(connections, &self.settings.policy, established.as_ref())
    }

    /// Stores that these accounts asked or are connected: once they are rejected, no later run sees it.
    async fn store_before_rejecting(
        &self,
        invocation: &Invocation,
        before: &Read,
        rejects: &Plan,
        states: &mut [(&Partition, LoadedState)],
    ) {
        let is_affected = |partition: &Partition| partition.service().is_some_and(|on| rejects.reject.contains_key(on));
        let affected = states.iter_mut().filter(|(partition, _)| is_affected(partition));
        concurrently(affected, async |(partition, state)| {
            let (Some(service), Ok(items)) = (partition.service(), &*state) else { return };
            let (policy, region, history) = (&self.settings.policy, &invocation.origin.region, history(items));
            let context = CheckContext::new(service, &before.topology, policy, region, Timestamp::now());
            let context = CheckContext { history: Some(&history), ..context };
            let mut evaluation = Evaluation::evaluate(&[&connection_untrusted::SPEC], context, before.began);
            if let Trigger::Change(change) = &invocation.trigger {
                cause::attribute(&mut evaluation.results, change);
            }
            let report = Report::new(partition, vec![evaluation]);
            self.notifier.store_before_change(invocation, &report, state).await;
        })
        .await;
    }

    /// Reads again until everything that was answered has settled, or the pauses are used up. `None`: nothing was answered,
    /// or no read succeeded.
    async fn confirm(&self, observer: &Observer, plan: &Plan) -> Option<Read> {
        if plan.is_empty() || self.settings.policy.dry_run {
            return None;
        }
        let answered: BTreeSet<&EndpointId> = plan.endpoints().collect();
        let is_pending = |connection: &Connection| {
            use Verdict::{Accept, Establishing, UntrustedConnected, UntrustedRequest};
            let verdict = decide(connection, &self.settings.policy);
            answered.contains(&connection.endpoint)
                && matches!(verdict, Accept | Establishing | UntrustedRequest | UntrustedConnected)
        };
        let mut last = None;
        for pause in CONFIRM_AFTER {
            tokio::time::sleep(pause).await;
            let read = self.read(observer).await;
            if matches!(read.topology.connections, Some(Err(_))) {
                break;
            }
            let settled = !read.connections().iter().any(is_pending);
            last = Some(read);
            if settled {
                break;
            }
        }
        last
    }

    async fn notify(&self, run: Run<'_>, plan: &Plan, states: Vec<(&Partition, LoadedState)>) -> RunErrors {
        let mut errors = RunErrors::default();
        let names = stored_names(&states);
        let findings: Vec<Findings<'_>> = states.into_iter().map(|state| self.findings(state, &run)).collect();
        let unknown_checks = metrics::unknown_checks(&findings);
        let notified =
            self.notifier.notify(run.invocation, findings, async || self.names(names, run.invocation).await).await;
        errors.append(notified.errors);
        let planned = plan.accept.values().flatten();
        let accepted = planned.filter(|endpoint| !run.outcome.refused.contains_key(endpoint.as_str())).count();
        let accepted = if self.settings.policy.dry_run { 0 } else { accepted };
        let failed_changes = ("FailedConnectionChanges", run.outcome.refused.len());
        let mut metrics = vec![("AcceptedConnections", accepted), failed_changes, unknown_checks];
        metrics.extend(metrics::firing_alerts(&notified.firing));
        metrics::write(&metrics, run.before.began);
        errors.extend(run.calls.into_values().flatten());
        errors.extend(run.outcome.failed);
        errors
    }

    fn findings<'a>(&self, (partition, state): (&'a Partition, LoadedState), run: &'a Run<'_>) -> Findings<'a> {
        let last = run.confirmed.as_ref().unwrap_or(&run.before);
        let (evaluations, connections) = match partition {
            Partition::Service(service) => {
                let history = state.as_ref().ok().map(history);
                let connections = match &last.topology.connections {
                    Some(Ok(connections)) => Some((connections.as_slice(), last.began)),
                    _ => None,
                };
                (self.evaluations(service, run, history.as_ref()), connections)
            }
            Partition::Guard => (vec![Evaluation::of_calls(&run.calls, last.began)], None),
        };
        Findings { report: Report { connections, ..Report::new(partition, evaluations) }, state }
    }

    /// All checks of the last read. If the run changed something, before that what it found of untrusted accounts: one that
    /// was rejected did ask.
    fn evaluations(
        &self,
        service: &ServiceId,
        run: &Run<'_>,
        history: Option<&RememberedConnections>,
    ) -> Vec<Evaluation> {
        let (policy, region) = (&self.settings.policy, &run.invocation.origin.region);
        let evaluate = |checks: &[Check], read: &Read| {
            let context = CheckContext::new(service, &read.topology, policy, region, Timestamp::now());
            let context = CheckContext { history, refused: &run.outcome.refused, ..context };
            let mut evaluation = Evaluation::evaluate(checks, context, read.began);
            if let Trigger::Change(change) = &run.invocation.trigger {
                cause::attribute(&mut evaluation.results, change);
            }
            evaluation
        };
        let all = checks_of(&[Group::Connections]);
        match &run.confirmed {
            Some(confirmed) => {
                vec![evaluate(&[&connection_untrusted::SPEC], &run.before), evaluate(&all, confirmed)]
            }
            None => vec![evaluate(&all, &run.before)],
        }
    }

    /// The services' names, which only serve the reader. EC2 is asked for those that drift-watcher has not stored, but the
    /// run does not wait for it when it is slow.
    async fn names(
        &self,
        stored: BTreeMap<ServiceId, Option<String>>,
        Invocation { id, deadline, .. }: &Invocation,
    ) -> BTreeMap<ServiceId, String> {
        let known = || stored.iter().filter_map(|(service, name)| Some((service.clone(), name.clone()?)));
        let unknown: BTreeSet<ServiceId> =
            self.settings.policy.services.iter().filter(|service| !stored.contains_key(service)).cloned().collect();
        if unknown.is_empty() {
            return known().collect();
        }
        let observer = self.observer.for_run(id, deadline.end.min(Instant::now() + NAMES_WITHIN));
        let services = observer.endpoint_services(&unknown).await;
        if let Err(error) = &services {
            tracing::warn!(%error, "sending without the names of some services");
        }
        let asked = Topology { services: Some(services), ..Topology::default() }.names();
        known().chain(asked).collect()
    }
}
