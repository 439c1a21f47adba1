//! What a check is: the form of the catalogue's rows.

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
    /// What a failing resource is, in a word: a resolved alert says `was WORD 12 min`.
    pub was: &'static str,
    /// What a failure means for dbt.
    pub impact: &'static str,
    /// How to fix it, as a clause in Markdown. The whole runbook is `runbook/ID.md`.
    pub fix_in_short: &'static str,
    /// Whether what it reads can change by itself from one run to the next, so that one result proves little: its alerts
    /// wait for `ALERT_AFTER` and `RESOLVE_AFTER`. The other checks read settings and states that somebody changed; their
    /// alerts fire and resolve with the first result.
    pub can_flap: bool,
    /// Whether others can make it fire and resolve at will, as an untrusted account can by creating and deleting endpoints:
    /// while it is not critical, people hear of it once a day.
    pub can_be_provoked: bool,
    /// What it means that a resource has no result any more.
    pub absence: Absence,
    /// Whether the policy wants it checked.
    pub is_watched: fn(&Policy) -> bool,
    /// The API calls that can change its result, as CloudTrail names them. The rule of the function that evaluates it
    /// subscribes to them; that of drift-watcher also for health-watcher, because it stores what that one goes by.
    pub cloudtrail_events: &'static [&'static str],
    /// Which functions evaluate it.
    pub group: Group,
    /// Evaluates it for one endpoint service.
    pub evaluate: fn(CheckContext<'_>) -> Vec<CheckResult>,
}

/// A check: its row of the catalogue.
pub type Check = &'static Spec;

/// What it means that a resource has no result any more, though all resources were listed.
#[derive(Debug, Clone, Copy)]
pub enum Absence {
    /// The resource is gone, or no longer behind the endpoint service.
    Gone,
    /// What was wrong is over: an account without endpoints is not connected. Says so of the resource, under this policy.
    Passing(fn(&str, &Policy) -> String),
    /// Nothing: this run did not ask. If no run asks for a day, nothing needs the answer any more.
    NotAsked,
}

/// For checks that every policy wants.
pub(super) const ALWAYS: fn(&Policy) -> bool = |_| true;

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
}

impl Group {
    /// The lower-case name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Health => "health",
            Self::Settings => "settings",
            Self::Visibility => "visibility",
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
