//! target-follower's decision: which targets of a group to register and to deregister, so that they become the addresses
//! of the group's hostname. Pure. This is the file to audit.
//!
//! DNS can lag behind a failover, and can be wrong. So a change needs the same answer from two look-ups, an answer that
//! proves nothing changes nothing, and a fourth change within an hour is left to people. An address is deregistered only
//! while all addresses of the answer are registered and healthy, so the group never loses its last healthy target.

pub mod state;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use self::state::{FollowState, PlannedTarget, TargetPlan};
pub use self::words::notice;
use crate::config::{CLOCKS_DIFFER, FollowHostnames};
use crate::snapshot::{Health, Hostname, Target, TargetGroup};

/// Minimum time between two look-ups of which the second confirms the first.
const CONFIRMED_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// Time after its look-up within which a run may begin the calls that it planned.
pub const CALLS_BEGIN_WITHIN: SignedDuration = SignedDuration::from_secs(20);

/// Time after its look-up within which the calls of a run have ended. Meanwhile, no other run plans any for the group:
/// a late call could undo a newer one.
pub const CALLS_END_WITHIN: SignedDuration = SignedDuration::from_secs(40);

/// Maximum number of changes within [`CHANGES_WITHIN`]: a name that changes more often is not in order.
const MAX_CHANGES: usize = 3;

/// The period in which changes are counted, and in which an answer must stay the same after too many.
const CHANGES_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// A look at one followed group.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub group: &'a TargetGroup,
    pub hostname: &'a Hostname,
    /// The time of the look-up, or just before it. The stored state was read within seconds of it.
    pub at: Timestamp,
    pub mode: FollowHostnames,
}

/// What a run does about a followed group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowStep {
    /// The targets equal the answer, as far as the guard changes them.
    Equal,
    /// A second look-up must confirm the answer.
    Confirm,
    /// Another run's calls may not have ended.
    WaitForCalls,
    /// An address must become healthy before others are deregistered.
    WaitForHealth,
    /// Too many changes within an hour.
    Stopped,
    /// Somebody deregistered an address twice.
    LeftToPeople,
    /// Make the calls in the state's plan.
    Change,
}

/// The state to store, which holds the plan if the step is [`FollowStep::Change`]; or the reason why DNS or ELB does not
/// prove what the targets should be. Then nothing is stored or changed.
pub type Decision = Result<(FollowState, FollowStep), String>;

/// Decides on one look at a group.
pub fn decide(before: Option<&FollowState>, look: Look<'_>) -> Decision {
    let wanted = look.hostname.wanted()?;
    let targets = Targets::read(look.group)?;
    // A time ahead of this clock says nothing: the state is lost, and takes a second look-up.
    let before = before.filter(|before| before.since < look.at + CLOCKS_DIFFER);
    let Some(known) = before.filter(|before| before.answer == wanted && before.name == look.hostname.name) else {
        return match before {
            Some(before) if before.since >= look.at => Err("a later look-up had another answer".to_owned()),
            _ => Ok((FollowState::first_seen(before, &look.hostname.name, wanted, look.at), FollowStep::Confirm)),
        };
    };
    if look.at.duration_since(known.since) < CONFIRMED_AFTER {
        return Ok((known.clone(), FollowStep::Confirm));
    }
    let may_be_under_way =
        |plan: &TargetPlan| look.at < plan.at + CALLS_END_WITHIN && plan.at < look.at + CLOCKS_DIFFER;
    if known.plan.as_ref().is_some_and(may_be_under_way) {
        return Ok((known.clone(), FollowStep::WaitForCalls));
    }
    follow(known.clone(), look, &targets)
}

/// Follows the confirmed answer.
fn follow(mut state: FollowState, look: Look<'_>, targets: &Targets<'_>) -> Decision {
    let wanted = state.answer.clone();
    let missing: Vec<IpAddr> = wanted.difference(&targets.addresses).copied().collect();
    let others = targets.except(&wanted);
    let is_equal = missing.is_empty() && (others.is_empty() || look.mode != FollowHostnames::Replace);
    let is_new = state.followed != wanted;
    let has_settled = look.at.duration_since(state.since) >= CHANGES_WITHIN;
    state.changes.retain(|change| look.at.duration_since(*change) < CHANGES_WITHIN);
    state.stopped |= is_new && !is_equal && state.changes.len() >= MAX_CHANGES;
    state.stopped &= !is_equal && !has_settled;
    if state.stopped {
        return Ok((state, FollowStep::Stopped));
    }
    if is_new {
        state.changes.extend((!is_equal).then_some(look.at));
        (state.registered, state.again) = (BTreeSet::new(), BTreeSet::new());
        state.followed.clone_from(&wanted);
    }
    state.registered.extend(wanted.intersection(&targets.addresses));
    if is_equal {
        return Ok((FollowState { plan: None, refused: None, ..state }, FollowStep::Equal));
    }
    let mut plan = TargetPlan { at: look.at, register: Vec::new(), deregister: Vec::new() };
    if !missing.is_empty() {
        let missing: Vec<IpAddr> = missing.into_iter().filter(|address| !state.leaves(address)).collect();
        if missing.is_empty() {
            return Ok((state, FollowStep::LeftToPeople));
        }
        for address in &missing {
            if state.registered.remove(address) {
                state.again.insert(*address);
            }
        }
        let port = targets.port()?;
        plan.register = missing.into_iter().map(|address| new_target(look.hostname, port, address)).collect();
    } else if targets.are_healthy(&wanted) {
        plan.deregister = others.into_iter().map(as_reported).collect::<Result<_, String>>()?;
    } else {
        return Ok((state, FollowStep::WaitForHealth));
    }
    Ok((FollowState { plan: Some(plan), ..state }, FollowStep::Change))
}

/// The reason why the guard cannot tell how to register an address in the group, if there is one.
pub(crate) fn obstacle(group: &TargetGroup) -> Option<String> {
    Targets::read(group).and_then(|targets| targets.port()).err()
}

/// A target for an address that is not registered.
pub(crate) fn new_target(hostname: &Hostname, port: Option<u16>, address: IpAddr) -> PlannedTarget {
    let is_own = hostname.networks.as_ref().is_ok_and(|networks| networks.is_own(&address));
    PlannedTarget { address, port, zone: (!is_own).then(|| "all".to_owned()) }
}

/// A target as ELB reports it. Without its port, a call to deregister it may change nothing.
fn as_reported(target: &Target) -> Result<PlannedTarget, String> {
    match (target.address, target.port) {
        (Some(address), port @ Some(_)) => Ok(PlannedTarget { address, port, zone: target.zone.clone() }),
        _ => Err(format!("ELB reports {target} without an address or a port")),
    }
}

/// The targets of a group.
struct Targets<'a> {
    all: &'a [Target],
    /// The targets that are not being deregistered.
    in_use: Vec<&'a Target>,
    addresses: BTreeSet<IpAddr>,
}

impl<'a> Targets<'a> {
    fn read(group: &'a TargetGroup) -> Result<Self, String> {
        let all = group.targets.as_ref().map_err(ToString::to_string)?;
        let in_use: Vec<&Target> = all.iter().filter(|target| target.health != Health::Draining).collect();
        let addresses: Option<BTreeSet<IpAddr>> = in_use.iter().map(|target| target.address).collect();
        Ok(Self { all, in_use, addresses: addresses.ok_or("ELB reports a target without an address")? })
    }

    /// The port of all of them; `None`, for the group's own port, without any target. If all are being deregistered, it
    /// is their port.
    fn port(&self) -> Result<Option<u16>, String> {
        let all: Vec<&Target> = self.all.iter().collect();
        let targets = if self.in_use.is_empty() { &all } else { &self.in_use };
        let ports: Option<BTreeSet<u16>> = targets.iter().map(|target| target.port).collect();
        let ports = ports.ok_or("ELB reports a target without a port")?;
        if ports.len() > 1 { Err("the targets use several ports".to_owned()) } else { Ok(ports.into_iter().next()) }
    }

    /// The targets with other addresses.
    fn except(&self, wanted: &BTreeSet<IpAddr>) -> Vec<&'a Target> {
        let is_other = |target: &&&Target| target.address.is_some_and(|address| !wanted.contains(&address));
        self.in_use.iter().filter(is_other).copied().collect()
    }

    /// Whether all targets with these addresses are healthy.
    fn are_healthy(&self, wanted: &BTreeSet<IpAddr>) -> bool {
        let is_wanted = |target: &&&Target| target.address.is_some_and(|address| wanted.contains(&address));
        self.in_use.iter().filter(is_wanted).all(|target| target.is_healthy())
    }
}

#[cfg(test)]
mod interleavings;

#[cfg(test)]
mod tests;
