//! The form of a row in the catalogue.

use std::fmt;

use super::{CheckContext, CheckResult, Severity};
use crate::config::Policy;

/// A row of the catalogue. Two checks are the same if their ids are.
pub struct Spec {
    /// The stable id, for filters, silences and runbooks.
    pub id: &'static str,
    /// What must be right, as one short sentence in Markdown.
    pub in_short: &'static str,
    /// Its possible severities, worst first, each with its case.
    pub severities: &'static [(Severity, &'static str)],
    /// The condition under which it fails, as a clause.
    pub fails_when: &'static str,
    /// The word for a failing resource: a resolved alert says `was WORD 12 min`.
    pub failing_word: &'static str,
    pub impact: &'static str,
    /// Whether its state can change by itself from one run to the next, so that one result proves little. Alerts of
    /// such a check wait for `ALERT_AFTER` and `RESOLVE_AFTER`. The other checks read settings and states that somebody
    /// changed; their alerts fire and resolve with the first result.
    pub can_flap: bool,
    /// The meaning of a resource that no longer has a result.
    pub when_missing: WhenMissing,
    pub is_watched: fn(&Policy) -> bool,
    /// The API calls that can change its result, by their CloudTrail names. A rule of the evaluating function
    /// subscribes to them. drift-watcher's rule also has those of health-watcher's checks, because drift-watcher stores
    /// the path that health-watcher reads, and notes the change.
    pub cloudtrail_events: &'static [&'static str],
    /// The group of functions that evaluate it.
    pub group: Group,
    pub branch: Branch,
    /// The required setting that only the user can provide.
    pub needs: Option<Need>,
    pub parts: Parts,
    /// Whether it can make dbt's attempts to connect fail. Each finding decides whether it does.
    pub can_stop_dbt: bool,
    pub silenced_by: SilencedBy,
    pub evaluate: fn(CheckContext<'_>) -> Vec<CheckResult>,
}

impl Spec {
    /// The values that most checks share. A test rejects a row without its own id, severities and words.
    pub(crate) const USUAL: Self = Self {
        id: "",
        in_short: "",
        severities: &[],
        fails_when: "",
        failing_word: "",
        impact: "",
        can_flap: false,
        when_missing: WhenMissing::Gone,
        is_watched: |_| true,
        cloudtrail_events: &[],
        group: Group::Settings,
        branch: Branch::Path,
        needs: None,
        parts: Parts::Named,
        can_stop_dbt: true,
        silenced_by: SilencedBy::Any,
        evaluate: |_| Vec::new(),
    };
}

/// A check: its row of the catalogue.
pub type Check = &'static Spec;

/// The meaning of a resource that no longer has a result although all resources were listed.
#[derive(Debug, Clone, Copy)]
pub enum WhenMissing {
    /// The resource is gone, or no longer behind the endpoint service.
    Gone,
    /// The failure is over: an account without endpoints is not connected. The function describes this for the
    /// resource, under this policy.
    Passing(fn(&str, &Policy) -> String),
    /// No meaning: this run did not ask. After a day without a run that asks, nothing needs the answer any more.
    NotAsked,
}

/// A branch of the checklist, by the subject of its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// The endpoint service and its connections.
    Service,
    /// The load balancers and the resources behind them, which can be checked before the endpoint service exists.
    Path,
    Guard,
}

/// A setting that only the user can provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// dbt's principals. Without them, no connection can be judged.
    DbtPrincipals,
    /// dbt's networks. Without them, only failures that stop every client are visible.
    DbtCidrs,
}

/// The silences that cover a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SilencedBy {
    /// Silences of all checks, and silences with its id.
    Any,
    /// Only silences with its id, so that nobody silences alerts on access by accident.
    Id,
}

/// The kind of a finding's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Arbitrary names.
    Named,
    /// Ports of a load balancer, in the form of [`Parts::port`].
    Ports,
    /// Zones in which a load balancer is enabled.
    Zones,
}

impl Parts {
    /// The name of a port as a part.
    pub fn port(port: u16) -> String {
        format!("port {port}")
    }
}

/// Checks that are evaluated together, because they depend on the same reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The endpoint connections: `connection-acceptor`.
    Connections,
    /// The targets, which change by themselves: `health-watcher`.
    Health,
    /// The settings, which somebody changes: `drift-watcher`.
    Settings,
    /// The reads that the other checks depend on: every function.
    Visibility,
    /// The alert topic: `drift-watcher`.
    Delivery,
}

impl Group {
    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Health => "health",
            Self::Settings => "settings",
            Self::Visibility => "visibility",
            Self::Delivery => "delivery",
        }
    }
}

impl PartialEq for Spec {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}
