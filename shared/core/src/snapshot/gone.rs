//! What is gone from a path, as it was last seen there, so that people can put it back.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Health, Listener, LoadBalancer, Target};
use crate::ids::Arn;

/// How long it is remembered.
pub(super) const REMEMBER_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Targets of a group, and listeners of a load balancer, that are remembered.
pub(super) const MAX_REMEMBERED: usize = 50;

/// The last targets of groups that have none, and the listeners that are gone, each with the time since which they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    pub(super) targets: BTreeMap<Arn, (Timestamp, Vec<Target>)>,
    pub(super) listeners: BTreeMap<Arn, Vec<(Timestamp, Listener)>>,
}

impl Gone {
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.listeners.is_empty()
    }

    pub(super) fn targets_of(&self, group: &Arn) -> impl Iterator<Item = &Target> {
        self.targets.get(group).into_iter().flat_map(|(_, targets)| targets)
    }

    pub(super) fn listeners_of(&self, load_balancer: &Arn) -> impl Iterator<Item = &Listener> {
        self.listeners.get(load_balancer).into_iter().flatten().map(|(_, listener)| listener)
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
