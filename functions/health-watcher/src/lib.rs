//! health-watcher: are there targets behind the load balancers to serve dbt?

use guard::alerts::{Report, Teller};
use guard::checks::{View, visibility};
use guard::config::Settings;
use guard::lambda::LeftUndone;
use guard::metrics;
use guard::observe::{Depth, Observer, side_by_side};
use guard::trigger::Trigger;
use jiff::Timestamp;
use serde_json::Value;

/// The function, with its clients.
#[derive(Debug)]
pub struct HealthWatcher {
    settings: Settings,
    observer: Observer,
    teller: Teller,
}

impl HealthWatcher {
    /// Builds the clients once.
    #[must_use]
    pub fn new(settings: Settings, config: &aws_config::SdkConfig) -> Self {
        Self { observer: Observer::new(config), teller: Teller::new("health-watcher", config, &settings), settings }
    }

    /// One run.
    ///
    /// # Errors
    /// [`LeftUndone`] names the calls that failed.
    pub async fn handle(&self, event: &Value) -> Result<(), LeftUndone> {
        let trigger = Trigger::of(event);
        tracing::info!(%trigger, "looking at the targets");
        let policy = &self.settings.policy;
        let services = &policy.services;
        let looked = Timestamp::now();
        let remember = side_by_side(services, async |service| (service, self.teller.recall(service).await));
        let (paths, remembered) = tokio::join!(self.observer.paths(services, Depth::Health), remember);

        let mut figures = Vec::from(metrics::targets(&paths));
        figures.extend(metrics::open_alerts(remembered.iter().filter_map(|(_, items)| items.as_ref().ok())));
        let mut unknown = 0;
        let mut undone = LeftUndone::default();
        undone.note(self.teller.let_go(looked).await);
        for (service, items) in remembered {
            let mut round = View { service, paths: &paths, policy, place: self.teller.place() }.health();
            round.extend(visibility::evaluate(paths.unseen()));
            unknown += metrics::unknown_checks(&round).1;
            let report = Report { service, rounds: &[round], connections: None, looked };
            let untold = self.teller.settle(report, items, Timestamp::now()).await;
            undone.note(self.teller.publish(untold, paths.name(service), Timestamp::now()).await);
        }
        undone.extend(paths.unseen().cloned());
        figures.push(("UnknownChecks", unknown));
        metrics::write(&figures, looked);
        undone.into_result()
    }
}
