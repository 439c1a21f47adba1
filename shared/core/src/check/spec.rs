//! The form of the catalogue's rows.

use std::fmt;

use super::{CheckContext, CheckResult, Severity};
use crate::config::Policy;

/// A row of the catalogue. Two checks are the same if their ids are.
pub struct Spec {
    /// The stable id, for filters, silences and runbooks.
    pub id: &'static str,
    /// The severities it can have, each with the case it stands for, worst first.
    pub severities: &'static [(Severity, &'static str)],
    /// When it fails, as a clause.
    pub fails_when: &'static str,
    /// The word for a failing resource: a resolved alert says `was WORD 12 min`.
    pub failing_word: &'static str,
    /// The impact of a failure on dbt.
    pub impact: &'static str,
    /// How to fix it, as a clause in Markdown. The whole runbook is `runbook/ID.md`.
    pub fix_in_short: &'static str,
    /// Whether the state it reads can change by itself from one run to the next, so that one result proves little: its
    /// alerts wait for `ALERT_AFTER` and `RESOLVE_AFTER`. The other checks read settings and states that somebody
    /// changed; their alerts fire and resolve with the first result.
    pub can_flap: bool,
    /// The meaning of a resource that has no result any more.
    pub when_missing: WhenMissing,
    /// Whether the policy wants it checked.
    pub is_watched: fn(&Policy) -> bool,
    /// The API calls that can change its result, as CloudTrail names them. A rule of the function that evaluates it
    /// subscribes to them; one of drift-watcher's also for health-watcher, because it stores the path that
    /// health-watcher reads, and notes the change.
    pub cloudtrail_events: &'static [&'static str],
    /// Which functions evaluate it.
    pub group: Group,
    /// Its branch of the checklist.
    pub branch: Branch,
    /// The setting that it needs and only the user can provide.
    pub needs: Option<Need>,
    /// The kind of its findings' parts.
    pub parts: Parts,
    /// Whether it can make dbt's attempts to connect fail. Each finding says whether it does.
    pub can_stop_dbt: bool,
    /// Which silences cover it.
    pub silenced_by: SilencedBy,
    /// Evaluates it for one endpoint service.
    pub evaluate: fn(CheckContext<'_>) -> Vec<CheckResult>,
}

impl Spec {
    /// The values that most checks share. A row without an id, severities and words of its own fails a test.
    pub(crate) const USUAL: Self = Self {
        id: "",
        severities: &[],
        fails_when: "",
        failing_word: "",
        impact: "",
        fix_in_short: "",
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

/// The meaning of a resource that has no result any more, though all resources were listed.
#[derive(Debug, Clone, Copy)]
pub enum WhenMissing {
    /// The resource is gone, or no longer behind the endpoint service.
    Gone,
    /// The failure is over: an account without endpoints is not connected. The function says so of the resource, under
    /// this policy.
    Passing(fn(&str, &Policy) -> String),
    /// Nothing: this run did not ask. If no run asks for a day, nothing needs the answer any more.
    NotAsked,
}

/// A branch of the checklist, by the subject of its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// The endpoint service and its connections.
    Service,
    /// The load balancers and everything behind them, which can be checked before there is an endpoint service.
    Path,
    /// The guard itself.
    Guard,
}

/// A setting that only the user can provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Which principals are dbt's. Without them, nothing can be judged.
    DbtPrincipals,
    /// The networks that dbt connects from. Without them, only failures that stop everybody are known.
    DbtCidrs,
}

/// Which silences cover a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SilencedBy {
    /// Those of all checks, and those that name it.
    Any,
    /// Only those that name it: alerts on who gets in are not silenced in passing.
    Id,
}

/// The kind of parts that a check's findings have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Anything, by its name.
    Named,
    /// The ports of a load balancer, as [`Parts::port`] spells them.
    Ports,
    /// The zones that a load balancer is enabled in.
    Zones,
}

impl Parts {
    /// The name of a port as a part.
    pub fn port(port: u16) -> String {
        format!("port {port}")
    }
}

/// The checks that are evaluated together, since they depend on the same reads.
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
