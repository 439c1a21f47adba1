//! health-watcher: are there targets behind the load balancers to serve dbt?

use guard_aws::lambda::RunErrors;
use guard_aws::metrics;
use guard_aws::notify::{Notifier, ServiceReport};
use guard_aws::observe::{Observer, Scope};
use guard_core::alerts::reconcile::Report;
use guard_core::checks::{CheckContext, Group, evaluate};
use guard_core::config::Settings;
use guard_core::snapshot::CallError;
use guard_core::trigger::Trigger;
use jiff::Timestamp;

/// The function, with its clients.
#[derive(Debug)]
pub struct HealthWatcher {
    settings: Settings,
    observer: Observer,
    notifier: Notifier,
}

impl HealthWatcher {
    /// Builds the clients once.
    #[must_use]
    pub fn new(settings: Settings, config: &aws_config::SdkConfig) -> Self {
        let notifier = Notifier::new("health-watcher", config, &settings);
        Self { observer: Observer::new(config), notifier, settings }
    }

    /// One run.
    ///
    /// # Errors
    /// [`RunErrors`] names the calls that failed.
    pub async fn handle(&self, trigger: Trigger) -> Result<(), RunErrors> {
        tracing::info!(%trigger, "checking the targets");
        let policy = &self.settings.policy;
        let observed_at = Timestamp::now();
        let (topology, states) =
            tokio::join!(self.observer.topology(&policy.services, Scope::Health), self.notifier.load_state());

        let mut errors = RunErrors::default();
        errors.push(self.notifier.close_removed_services(observed_at).await);
        let failed_calls: Vec<CallError> = topology.failed_calls().cloned().collect();
        let mut metrics = Vec::from(metrics::targets(&topology));
        metrics.extend(metrics::firing_alerts(states.iter().filter_map(|(_, state)| state.as_ref().ok())));
        let reports = states.into_iter().map(|(service, state)| {
            let context = CheckContext::new(service, &topology, policy, self.notifier.region(), Timestamp::now());
            let context = CheckContext { failed_calls: &failed_calls, ..context };
            let results = evaluate(&[Group::Health, Group::Visibility], context);
            let report = Report { service, rounds: vec![results], connections: None, observed_at };
            ServiceReport { report, state, notice: None }
        });
        let reports: Vec<ServiceReport<'_>> = reports.collect();
        metrics.push(metrics::unknown_checks(&reports));
        errors.append(self.notifier.notify(reports, async || topology.names()).await);
        errors.extend(failed_calls);
        metrics::write(&metrics, observed_at);
        errors.into_result()
    }
}
