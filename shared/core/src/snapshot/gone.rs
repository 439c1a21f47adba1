//! What is gone from a path, as it was last seen there, so that people can put it back.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::stored_path::StoredPath;
use super::{Health, Listener, LoadBalancer, Target};
use crate::ids::Arn;

/// How long it is remembered.
const REMEMBER_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Targets of a group, and listeners of a load balancer, that are remembered.
const MAX_REMEMBERED: usize = 50;

/// The last targets of groups that have none, and the listeners that are gone, each with the time since which they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    targets: BTreeMap<Arn, (Timestamp, Vec<Target>)>,
    listeners: BTreeMap<Arn, Vec<(Timestamp, Listener)>>,
}

impl Gone {
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.listeners.is_empty()
    }

    pub(super) fn targets(&self, group: &Arn) -> impl Iterator<Item = &Target> {
        self.targets.get(group).into_iter().flat_map(|(_, targets)| targets)
    }

    pub(super) fn listeners(&self, load_balancer: &Arn) -> impl Iterator<Item = &Listener> {
        self.listeners.get(load_balancer).into_iter().flatten().map(|(_, listener)| listener)
    }

    /// What is gone from `now`, a later read than `before`. What is there again is forgotten, and what is gone for a week.
    pub(super) fn between(before: &StoredPath, now: &StoredPath) -> Self {
        let recent = |since: Timestamp| now.read_at.duration_since(since) < REMEMBER_FOR;
        let empty =
            now.all_groups().filter(|group| registered(group.targets.as_deref().unwrap_or_default()).is_empty());
        let targets = empty.filter_map(|group| {
            let since = before.gone.targets.get(&group.arn).map_or(now.read_at, |(since, _)| *since);
            let last: Vec<Target> = before.last_targets(&group.arn).into_iter().take(MAX_REMEMBERED).cloned().collect();
            (!last.is_empty() && recent(since)).then(|| (group.arn.clone(), (since, last)))
        });
        let listeners = now.load_balancers().map(|load_balancer| {
            let since = |listener: &Listener| {
                let mut known = before.gone.listeners.get(&load_balancer.arn).into_iter().flatten();
                known.find(|(_, known)| known.port == listener.port).map_or(now.read_at, |(since, _)| *since)
            };
            let last = before.last_listeners(&load_balancer.arn).into_iter();
            let gone = last.filter(|listener| !serves_on(load_balancer, listener.port));
            let gone = gone.map(|listener| (since(listener), listener.clone())).filter(|(since, _)| recent(*since));
            (load_balancer.arn.clone(), gone.take(MAX_REMEMBERED).collect::<Vec<_>>())
        });
        Self { targets: targets.collect(), listeners: listeners.filter(|(_, gone)| !gone.is_empty()).collect() }
    }
}

/// The targets that are not being deregistered.
pub(super) fn registered(targets: &[Target]) -> Vec<&Target> {
    targets.iter().filter(|target| target.health != Health::Draining).collect()
}

/// Whether a listener of the load balancer serves dbt on the port.
pub(super) fn serves_on(load_balancer: &LoadBalancer, port: u16) -> bool {
    load_balancer.listeners.iter().flatten().any(|listener| listener.serves(&[port].into()))
}
