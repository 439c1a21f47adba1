//! drift-watcher: is everything still configured as it must be, and who changed it?

use guard_aws::apply::{Applier, Outcome};
use guard_aws::debounce;
use guard_aws::lambda::RunErrors;
use guard_aws::metrics;
use guard_aws::notify::{LoadedState, Notifier, ServiceReport};
use guard_aws::observe::{Observer, Scope};
use guard_core::alerts::reconcile::Report;
use guard_core::checks::cross_zone::Plan;
use guard_core::checks::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Status, cause, evaluate};
use guard_core::config::{CrossZone, Settings};
use guard_core::ids::ServiceId;
use guard_core::snapshot::{CallError, Topology};
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
    pub async fn handle(&self, trigger: Trigger) -> Result<(), RunErrors> {
        tracing::info!(%trigger, "checking the settings");
        if debounce::is_covered(self.notifier.store(), FUNCTION, &trigger).await {
            return Ok(());
        }
        let policy = &self.settings.policy;
        let began = Timestamp::now();
        let scope = Scope::Settings { notifications: policy.notification_topic.is_some() };
        let (topology, states) =
            tokio::join!(self.observer.topology(&policy.services, scope), self.notifier.load_state());

        let plan = self.plan(&topology);
        let outcome = self.applier.enforce_cross_zone(&plan).await;
        let mut rounds = vec![topology];
        let mut observed_at = began;
        if !plan.is_empty() && !policy.dry_run {
            observed_at = Timestamp::now();
            let before = rounds[0].clone();
            rounds.push(self.observer.cross_zone_again(before, &plan.load_balancers, &plan.target_groups).await);
        }

        let mut errors = RunErrors::default();
        errors.push(self.notifier.close_removed_services(began).await);
        let reports = states.into_iter().map(|(service, state)| {
            let rounds: Vec<Vec<CheckResult>> =
                rounds.iter().map(|topology| self.evaluate(service, topology, &outcome, &trigger)).collect();
            let heartbeat = || heartbeat(rounds.last().map_or(&[], Vec::as_slice), &state);
            let notice = (trigger == Trigger::Heartbeat).then(heartbeat);
            ServiceReport { report: Report { service, rounds, connections: None, observed_at }, state, notice }
        });
        let reports: Vec<ServiceReport<'_>> = reports.collect();
        let unknown_checks = metrics::unknown_checks(&reports);
        let names = rounds[0].names();
        errors.append(self.notifier.notify(reports, async || names).await);
        metrics::write(&[unknown_checks], began);
        errors.extend(outcome.failed);
        // The second round is the first with some attributes read again.
        errors.extend(rounds.iter().next_back().into_iter().flat_map(Topology::failed_calls).cloned());
        errors.into_result()
    }

    fn plan(&self, topology: &Topology) -> Plan {
        match self.settings.policy.cross_zone {
            CrossZone::Enforce => Plan::new(topology.load_balancers.values()),
            CrossZone::Alert | CrossZone::Ignore => Plan::default(),
        }
    }

    fn evaluate(
        &self,
        service: &ServiceId,
        topology: &Topology,
        outcome: &Outcome,
        trigger: &Trigger,
    ) -> Vec<CheckResult> {
        let failed_calls: Vec<CallError> = topology.failed_calls().cloned().collect();
        let context =
            CheckContext::new(service, topology, &self.settings.policy, self.notifier.region(), Timestamp::now());
        let context = CheckContext { refused: &outcome.refused, failed_calls: &failed_calls, ..context };
        let mut results = evaluate(&[Group::Settings, Group::Visibility], context);
        if let Trigger::Change(change) = trigger {
            cause::attribute(&mut results, change, context);
        }
        results
    }
}

/// The notice that the guard is running: without it, silence could mean that the guard is dead.
fn heartbeat(results: &[CheckResult], state: &LoadedState) -> Finding {
    let number = |wanted: fn(&Status) -> bool| results.iter().filter(|result| wanted(&result.status)).count();
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
    Finding {
        severity: Severity::Info,
        summary: format!("still watching: {passed} checks of the settings pass, {failed} fail, {unknown} are unknown"),
        impact: "The guard is running and would alert you if something were wrong.".to_owned(),
        evidence: vec![format!("firing alerts of all functions: {firing}")],
        remedy: Remedy { action: "Nothing to do.".to_owned(), command: None, console: None },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }
}
