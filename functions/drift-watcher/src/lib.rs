//! drift-watcher: is everything still set as it must be, and who changed it?

use guard::act::Writer;
use guard::alerts::store::Items;
use guard::alerts::{Report, Teller};
use guard::checks::cross_zone::{self, Enforcement, Plan};
use guard::checks::{Finding, Observation, Remedy, Severity, Status, View, visibility};
use guard::config::{CrossZone, Settings};
use guard::ids::ServiceId;
use guard::lambda::LeftUndone;
use guard::looks::is_covered;
use guard::metrics;
use guard::observe::{Depth, Observer, side_by_side};
use guard::snapshot::Paths;
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
        let depth = Depth::Settings { notifications: policy.notification_topic.is_some() };
        let (paths, remembered) = tokio::join!(self.observer.paths(&policy.services, depth), remember);

        let plan = match policy.cross_zone {
            CrossZone::Enforce => Plan::of(paths.load_balancers.values()),
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
            Some(self.observer.cross_zone_again(paths.clone(), &plan.load_balancers, &plan.target_groups).await)
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
        // The second look is the first with some attributes read again.
        undone.extend(mended.as_ref().unwrap_or(&paths).unseen().cloned());
        undone.into_result()
    }

    fn round(
        &self,
        service: &ServiceId,
        paths: &Paths,
        enforcement: Enforcement<'_>,
        trigger: &Trigger,
    ) -> Vec<Observation> {
        let view = View { service, paths, policy: &self.settings.policy, place: self.teller.place() };
        let mut round = view.settings();
        if self.settings.policy.cross_zone != CrossZone::Ignore {
            round.extend(cross_zone::evaluate(view, enforcement));
        }
        if let Trigger::Change(change) = trigger {
            view.name_the_cause(&mut round, change);
        }
        round.extend(visibility::evaluate(paths.unseen()));
        round
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use guard::checks::Check;

    /// The stack's rule for this function rings for the changes that checks depend on, each and no other.
    #[test]
    fn the_rule_rings_for_what_the_checks_depend_on() {
        let template = include_str!("../../../template.yaml");
        let function = template.split("\n  DriftWatcher:\n").nth(1).expect("the function");
        let list = function.split("eventName:\n").nth(1).expect("its rule");
        let names = list.lines().map_while(|line| line.trim().strip_prefix("- "));
        let ringing: BTreeSet<&str> = names.collect();
        let wanted: BTreeSet<&str> = Check::ALL.into_iter().flat_map(Check::events).copied().collect();
        assert_eq!(ringing, wanted);
    }
}
