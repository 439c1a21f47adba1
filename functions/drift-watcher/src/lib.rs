//! drift-watcher: is everything still configured as it must be, and who changed it?

use guard_aws::apply::{Applier, Outcome};
use guard_aws::debounce;
use guard_aws::lambda::{Invocation, RunErrors};
use guard_aws::metrics;
use guard_aws::notify::{Findings, LoadedState, Notifier};
use guard_aws::observe::{Observer, Scope};
use guard_core::alerts::reconcile::{Report, Round};
use guard_core::alerts::record::Partition;
use guard_core::checks::cross_zone::{self, Plan};
use guard_core::checks::{CheckContext, Finding, Group, Remedy, Severity, Status, cause, checks_of};
use guard_core::config::{CrossZone, Settings};
use guard_core::ids::ServiceId;
use guard_core::snapshot::{Calls, Topology};
use guard_core::trigger::Trigger;
use jiff::Timestamp;

const FUNCTION: &str = "drift-watcher";

/// The function, with its clients.
#[derive(Debug)]
pub struct DriftWatcher {
    settings: Settings,
    observer: Observer,
    applier: Applier,
    notifier: Notifier,
}

/// What one run read and changed.
struct Run<'a> {
    trigger: &'a Trigger,
    /// The first read, and when it began.
    first: (Topology, Timestamp),
    outcome: Outcome,
    /// The first read with the cross-zone attributes read again, if the run changed any.
    enforced: Option<(Topology, Timestamp)>,
    calls: Calls,
}

impl DriftWatcher {
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
    /// [`RunErrors`] names the calls that failed.
    pub async fn handle(&self, invocation: Invocation) -> Result<(), RunErrors> {
        let Invocation { id, trigger } = &invocation;
        tracing::info!(%trigger, "checking the settings");
        debounce::run_unless_covered(&self.notifier, &invocation, async || self.run(id, trigger).await).await
    }

    async fn run(&self, id: &str, trigger: &Trigger) -> Result<(), RunErrors> {
        let policy = &self.settings.policy;
        let began = Timestamp::now();
        let (observer, partitions) = (self.observer.for_run(), self.notifier.partitions());
        let scope = Scope::Settings { notifications: policy.notification_topic.is_some() };
        let (topology, states) =
            tokio::join!(observer.topology(&policy.services, scope), self.notifier.load_state(&partitions));
        let plan = self.plan(&topology);
        let outcome = self.applier.enforce_cross_zone(&plan).await;
        let enforced = if plan.is_empty() || policy.dry_run {
            None
        } else {
            let began = Timestamp::now();
            let again = observer.cross_zone_again(topology.clone(), &plan.load_balancers, &plan.target_groups).await;
            Some((again, began))
        };
        let run = Run { trigger, first: (topology, began), outcome, enforced, calls: observer.calls() };

        let mut errors = RunErrors::default();
        errors.push(self.notifier.close_removed_services(began).await);
        let findings: Vec<Findings<'_>> = states.into_iter().map(|state| self.findings(state, &run)).collect();
        let unknown_checks = metrics::unknown_checks(&findings);
        errors.append(self.notifier.notify(id, findings, async || run.first.0.names()).await);
        metrics::write(&[unknown_checks], began);
        errors.extend(run.outcome.failed);
        errors.extend(run.calls.into_values().flatten());
        errors.into_result()
    }

    fn plan(&self, topology: &Topology) -> Plan {
        match self.settings.policy.cross_zone {
            CrossZone::Enforce => Plan::new(topology.load_balancers.values()),
            CrossZone::Alert | CrossZone::Ignore => Plan::default(),
        }
    }

    fn findings<'a>(&self, (partition, state): (&'a Partition, LoadedState), run: &Run<'_>) -> Findings<'a> {
        let (rounds, heartbeat) = match partition {
            Partition::Service(service) => {
                let rounds = self.rounds(service, run);
                let heartbeat =
                    (*run.trigger == Trigger::Heartbeat).then(|| heartbeat(&rounds, &state, !is_blind(&run.calls)));
                (rounds, heartbeat)
            }
            Partition::Guard => (vec![Round::of_calls(&run.calls, run.first.1)], None),
        };
        Findings { report: Report { partition, rounds, connections: None, heartbeat }, state }
    }

    /// All checks of the first read; then, if the run changed it, cross-zone load balancing alone, of the second.
    fn rounds(&self, service: &ServiceId, run: &Run<'_>) -> Vec<Round> {
        let (policy, region) = (&self.settings.policy, self.notifier.region());
        let evaluate = |checks: &[_], (topology, began): &(Topology, Timestamp)| {
            let context = CheckContext::new(service, topology, policy, region, Timestamp::now());
            let context = CheckContext { refused: &run.outcome.refused, ..context };
            let mut round = Round::evaluate(checks, context, *began);
            if let Trigger::Change(change) = run.trigger {
                cause::attribute(&mut round.results, change);
            }
            round
        };
        let first = evaluate(&checks_of(&[Group::Settings]), &run.first);
        let enforced = run.enforced.as_ref().map(|read| evaluate(&[&cross_zone::SPEC], read));
        std::iter::once(first).chain(enforced).collect()
    }
}

/// Whether a call failed.
fn is_blind(calls: &Calls) -> bool {
    calls.values().any(Option::is_some)
}

/// The notice that the guard is running: without it, silence could mean that the guard is dead.
fn heartbeat(rounds: &[Round], state: &LoadedState, sees_all: bool) -> Finding {
    let results = || rounds.first().into_iter().flat_map(|round| &round.results);
    let number = |wanted: fn(&Status) -> bool| results().filter(|result| wanted(&result.status)).count();
    let passed = number(|status| matches!(status, Status::Pass));
    let failed = number(|status| matches!(status, Status::Fail(_)));
    let unknown = number(|status| matches!(status, Status::Unknown(_)));
    let firing = match state {
        Ok(items) => {
            let [(_, critical), (_, warning)] = metrics::firing_alerts([items]);
            format!("{critical} critical, {warning} warning")
        }
        Err(_) => "unknown: the guard's table cannot be read".to_owned(),
    };
    let impact = if sees_all && unknown == 0 && state.is_ok() {
        "The guard is running and would alert you if something were wrong."
    } else {
        "The guard is running, but it cannot check everything: a failure in what is unknown would not be reported."
    };
    Finding {
        severity: Severity::Info,
        summary: format!("still watching: {passed} checks of the settings pass, {failed} fail, {unknown} are unknown"),
        impact: impact.to_owned(),
        evidence: vec![format!("firing alerts of all functions: {firing}")],
        remedy: Remedy { action: "Nothing to do.".to_owned(), command: None, console: None },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }
}
