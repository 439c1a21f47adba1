//! drift-watcher: is everything still set as it must be, and who changed it?

use guard::act::Writer;
use guard::alerts::store::Items;
use guard::alerts::{Report, Teller, name_the_cause};
use guard::checks::cross_zone::{Enforcement, Plan, evaluate};
use guard::checks::{Finding, Observation, Remedy, Severity, Status, principals, service, visibility};
use guard::config::{CrossZone, Settings};
use guard::ids::ServiceId;
use guard::lambda::LeftUndone;
use guard::looks::is_covered;
use guard::metrics;
use guard::observe::{Depth, Observer, Paths, side_by_side};
use guard::snapshot::LoadBalancer;
use guard::trigger::Trigger;
use jiff::Timestamp;
use serde_json::Value;

const FUNCTION: &str = "drift-watcher";

/// The function, with its clients.
#[derive(Debug)]
pub struct DriftWatcher {
    settings: Settings,
    observer: Observer,
    writer: Writer,
    teller: Teller,
}

/// That the guard is alive, so that silence can be told from death.
fn still_watching(observations: &[Observation], remembered: Option<&Items>) -> Finding {
    let number = |wanted: fn(&Status) -> bool| observations.iter().filter(|found| wanted(&found.status)).count();
    let passed = number(|status| matches!(status, Status::Pass));
    let failed = number(|status| matches!(status, Status::Fail(_)));
    let unknown = number(|status| matches!(status, Status::Unknown(_)));
    let open = remembered.map(|items| metrics::open_alerts([items]));
    let open = open.map_or("unknown: the guard's table cannot be read".to_owned(), |[(_, critical), (_, warning)]| {
        format!("{critical} critical, {warning} warning")
    });
    Finding {
        severity: Severity::Info,
        summary: format!("still watching: {passed} checks of the settings pass, {failed} fail, {unknown} are unknown"),
        meaning: "The guard is alive and would tell you if something were wrong.".to_owned(),
        evidence: vec![format!("open alerts of all functions: {open}")],
        remedy: Remedy { what: "Nothing to do.".to_owned(), command: None, console: None },
        cause: None,
    }
}

impl DriftWatcher {
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
    /// [`LeftUndone`] names the calls that failed.
    pub async fn handle(&self, event: &Value) -> Result<(), LeftUndone> {
        let trigger = Trigger::of(event);
        tracing::info!(%trigger, "looking at the settings");
        if is_covered(self.teller.store(), FUNCTION, &trigger).await {
            return Ok(());
        }
        let policy = &self.settings.policy;
        let began = Timestamp::now();
        let remember = side_by_side(&policy.services, async |service| (service, self.teller.recall(service).await));
        let (paths, remembered) = tokio::join!(self.observer.paths(&policy.services, Depth::Settings), remember);

        let plan = match policy.cross_zone {
            CrossZone::Enforce => Plan::of(paths.load_balancers()),
            CrossZone::Alert | CrossZone::Ignore => Plan::default(),
        };
        let failed = self.writer.enforce_cross_zone(&plan).await;
        let enforcement = match policy.cross_zone {
            CrossZone::Enforce if policy.dry_run => Enforcement::DryRun,
            CrossZone::Enforce => Enforcement::Done(&failed),
            CrossZone::Alert | CrossZone::Ignore => Enforcement::No,
        };
        let mut looked = began;
        let mended = if plan.is_empty() || policy.dry_run {
            None
        } else {
            looked = Timestamp::now();
            Some(self.observer.paths(&policy.services, Depth::Settings).await)
        };

        let mut unknown = 0;
        let mut undone = LeftUndone::default();
        undone.note(self.teller.let_go(began).await);
        for (service, items) in remembered {
            let looks = [Some(&paths), mended.as_ref()];
            let rounds: Vec<Vec<Observation>> =
                looks.into_iter().flatten().map(|paths| self.round(service, paths, enforcement, &trigger)).collect();
            let last = rounds.last().map(Vec::as_slice).unwrap_or_default();
            unknown += metrics::unknown_checks(last).1;
            let notice = matches!(trigger, Trigger::StillWatching).then(|| still_watching(last, items.as_ref().ok()));
            let report = Report { service, rounds: &rounds, connections: None, looked };
            let mut untold = self.teller.settle(report, items, Timestamp::now()).await;
            if let Some(notice) = notice {
                self.teller.add_notice(&mut untold, &notice, Timestamp::now());
            }
            undone.note(self.teller.publish(untold, paths.name(service), Timestamp::now()).await);
        }
        metrics::write(&[("UnknownChecks", unknown)], began);
        undone.extend(failed.into_iter().map(|(_, failure)| failure));
        undone.extend(paths.unseen().chain(mended.iter().flat_map(Paths::unseen)).cloned());
        undone.into_result()
    }

    fn round(
        &self,
        service_id: &ServiceId,
        paths: &Paths,
        enforcement: Enforcement<'_>,
        trigger: &Trigger,
    ) -> Vec<Observation> {
        let behind = paths.behind(service_id);
        let (policy, place) = (&self.settings.policy, self.teller.place());
        let mut round = match policy.cross_zone {
            CrossZone::Ignore => Vec::new(),
            CrossZone::Alert | CrossZone::Enforce => evaluate(service_id, &behind, enforcement, place),
        };
        round.push(service::evaluate(service_id, &paths.services, place));
        round.push(principals::evaluate(service_id, &paths.principals(service_id), policy, place));
        if let Trigger::Change(change) = trigger {
            // A target group's setting is its load balancer's as well.
            name_the_cause(&mut round, change, |group| {
                let uses = |balancer: &&LoadBalancer| {
                    balancer.target_groups.iter().flatten().any(|own| own.arn.as_str() == group)
                };
                behind.iter().flatten().filter(uses).map(|balancer| balancer.arn.to_string()).collect()
            });
        }
        round.extend(visibility::evaluate(paths.unseen()));
        round
    }
}
