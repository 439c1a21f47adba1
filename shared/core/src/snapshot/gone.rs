//! Parts that are gone from a path, as last seen there, so that people can restore them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Health, Listener, LoadBalancer, Target};
use crate::ids::Arn;

/// Time for which a missing part is stored.
pub(super) const REMEMBER_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Maximum number of stored targets per group, and of stored listeners per load balancer.
pub(super) const MAX_REMEMBERED: usize = 50;

/// The last targets of groups without targets, and the missing listeners, each with the time of its disappearance.
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
