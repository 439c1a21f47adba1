//! The stored state of a followed target group, and the calls that it plans.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The stored state of a followed target group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowState {
    /// The hostname that was looked up.
    pub name: String,
    /// The last answer that proved its addresses.
    pub answer: BTreeSet<IpAddr>,
    /// The first look-up in a row with this answer.
    pub since: Timestamp,
    /// The followed answer: the last one for which targets were changed, or which they equalled.
    pub followed: BTreeSet<IpAddr>,
    /// The addresses of `followed` that have been registered, by the guard or by others.
    pub registered: BTreeSet<IpAddr>,
    /// The addresses of `followed` that somebody deregistered and that the guard registered once more.
    pub again: BTreeSet<IpAddr>,
    /// The start times of the changes within the last hour: of following another answer.
    pub changes: Vec<Timestamp>,
    /// Whether too many changes have stopped the guard from following.
    pub stopped: bool,
    /// The last planned calls; `None` once the targets equal the answer.
    pub plan: Option<TargetPlan>,
    /// AWS's refusal of the last planned calls.
    pub refused: Option<String>,
}

/// The planned calls for one target group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetPlan {
    /// The look-up that it follows.
    pub at: Timestamp,
    pub register: Vec<PlannedTarget>,
    pub deregister: Vec<PlannedTarget>,
}

/// A target to register or deregister. Without the port and zone that ELB reports, a call to deregister can succeed and
/// change nothing.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlannedTarget {
    pub address: IpAddr,
    /// The port; `None` for the group's own.
    pub port: Option<u16>,
    /// The zone; `all` for an address outside the VPC. `None` lets ELB find the zone of an address inside.
    pub zone: Option<String>,
}

impl TargetPlan {
    /// Whether both plan the same calls.
    fn is_same(&self, other: &Self) -> bool {
        (&self.register, &self.deregister) == (&other.register, &other.deregister)
    }
}

impl fmt::Display for TargetPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let register = self.register.iter().map(|target| format!("register {target}"));
        let deregister = self.deregister.iter().map(|target| format!("deregister {target}"));
        f.write_str(&register.chain(deregister).collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for PlannedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.address.is_ipv6() => write!(f, "[{}]:{port}", self.address),
            Some(port) => write!(f, "{}:{port}", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl FollowState {
    /// The state after the first look-up with this answer. What was followed before stays known.
    pub(crate) fn first_seen(before: Option<&Self>, name: &str, answer: BTreeSet<IpAddr>, since: Timestamp) -> Self {
        let (name, nothing) = (name.to_owned(), BTreeSet::new);
        match before.cloned() {
            Some(before) => Self { name, answer, since, ..before },
            None => Self {
                name,
                answer,
                since,
                followed: nothing(),
                registered: nothing(),
                again: nothing(),
                changes: Vec::new(),
                stopped: false,
                plan: None,
                refused: None,
            },
        }
    }

    /// Whether the guard leaves it to people to register `address`.
    pub(crate) fn leaves(&self, address: &IpAddr) -> bool {
        self.registered.contains(address) && self.again.contains(address)
    }

    /// The state once AWS has answered the planned calls.
    #[must_use]
    pub fn answered(mut self, refusal: Option<String>) -> Self {
        if let (Some(plan), None) = (&self.plan, &refusal) {
            self.registered.extend(plan.register.iter().map(|target| target.address));
        }
        Self { refused: refusal, ..self }
    }

    /// Whether this state plans other calls than `before`: people hear of those.
    pub fn has_new_plan(&self, before: Option<&Self>) -> bool {
        let known = before.and_then(|before| before.plan.as_ref());
        self.plan.as_ref().is_some_and(|plan| !known.is_some_and(|known| known.is_same(plan)))
    }
}
