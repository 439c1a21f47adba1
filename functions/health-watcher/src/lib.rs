//! health-watcher: are there targets behind the load balancers to serve dbt?

use guard_aws::lambda::{Invocation, RunErrors};
use guard_aws::metrics;
use guard_aws::notify::{Findings, LoadedState, Notifier};
use guard_aws::observe::{Observer, Scope};
use guard_core::alerts::reconcile::{Report, Round};
use guard_core::alerts::record::Partition;
use guard_core::checks::{CheckContext, Group, Region, checks_of};
use guard_core::config::Settings;
use guard_core::snapshot::{Calls, Topology};
use jiff::Timestamp;

/// The function, with its clients.
#[derive(Debug)]
pub struct HealthWatcher {
    settings: Settings,
    observer: Observer,
    notifier: Notifier,
}

/// What one run read.
struct Read<'a> {
    topology: &'a Topology,
    calls: &'a Calls,
    /// When the read began.
    observed_at: Timestamp,
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
    pub async fn handle(&self, invocation: Invocation) -> Result<(), RunErrors> {
        let Invocation { trigger, origin, .. } = &invocation;
        tracing::info!(%trigger, "checking the targets");
        let observed_at = Timestamp::now();
        let (observer, partitions) = (self.observer.for_run(), self.notifier.partitions());
        let (topology, states) = tokio::join!(
            observer.topology(&self.settings.policy.services, Scope::Health),
            self.notifier.load_state(&partitions)
        );
        let calls = observer.calls();

        let mut errors = RunErrors::default();
        errors.push(self.notifier.close_removed_services(origin, observed_at).await);
        let mut metrics = Vec::from(metrics::targets(&topology));
        let read = Read { topology: &topology, calls: &calls, observed_at };
        let findings = states.into_iter().map(|state| self.findings(state, &read, &origin.region));
        let findings: Vec<Findings<'_>> = findings.collect();
        metrics.push(metrics::unknown_checks(&findings));
        let notified = self.notifier.notify(&invocation, findings, async || topology.names()).await;
        metrics.extend(metrics::firing_alerts(&notified.firing));
        errors.append(notified.errors);
        errors.extend(calls.into_values().flatten());
        metrics::write(&metrics, observed_at);
        errors.into_result()
    }

    fn findings<'a>(
        &self,
        (partition, state): (&'a Partition, LoadedState),
        Read { topology, calls, observed_at }: &Read<'_>,
        region: &Region,
    ) -> Findings<'a> {
        let policy = &self.settings.policy;
        let round = match partition {
            Partition::Service(service) => {
                let context = CheckContext::new(service, topology, policy, region, Timestamp::now());
                Round::evaluate(&checks_of(&[Group::Health]), context, *observed_at)
            }
            Partition::Guard => Round::of_calls(calls, *observed_at),
        };
        Findings { report: Report::new(partition, vec![round]), state }
    }
}
