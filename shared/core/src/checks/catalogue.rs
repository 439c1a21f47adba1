//! The catalogue: one row per check. Everything that enumerates checks is derived from it or tested against it: what each
//! function evaluates, the events its rule subscribes to, README's table, `docs/checks.md`.

use std::fmt;

use super::{CheckContext, CheckResult, Severity, cause};
use crate::config::Policy;

/// A row of the catalogue. Two checks are the same if their ids are.
pub struct Spec {
    /// The stable id, for filters, silences and runbooks.
    pub id: &'static str,
    /// The severities it can have, each with the case it stands for, worst first.
    pub severities: &'static [(Severity, &'static str)],
    /// When it fails, as a clause.
    pub fails_when: &'static str,
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
    /// subscribes to them.
    pub cloudtrail_events: &'static [&'static str],
    /// Which functions evaluate it.
    pub group: Group,
    /// Evaluates it for one endpoint service.
    pub evaluate: fn(CheckContext<'_>) -> Vec<CheckResult>,
}

/// A check: its row of the catalogue.
pub type Check = &'static Spec;

/// What it means that a resource has no result any more, though all resources were listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The resource is gone, or no longer behind the endpoint service.
    Gone,
    /// What was wrong is over: an account without endpoints is not connected.
    Passing,
    /// Nothing: the call was not made in this run.
    Unknown,
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

/// Every check.
pub const CATALOGUE: [Check; 18] = [
    &super::service_available::SPEC,
    &super::acceptance_required::SPEC,
    &super::principals::SPEC,
    &super::private_dns::SPEC,
    &super::notification::SPEC,
    &super::regions::SPEC,
    &super::connection_untrusted::SPEC,
    &super::connection_dbt::SPEC,
    &super::connection_absent::SPEC,
    &super::internal_nlb::SPEC,
    &super::cross_zone::SPEC,
    &super::zones::SPEC,
    &super::security_groups::SPEC,
    &super::broad_rule::SPEC,
    &super::listener_port::SPEC,
    &super::target_health::SPEC,
    &super::network_path::SPEC,
    &super::visibility_lost::SPEC,
];

/// The checks of `groups`.
#[must_use]
pub fn checks_of(groups: &[Group]) -> Vec<Check> {
    CATALOGUE.into_iter().filter(|check| groups.contains(&check.group)).collect()
}

/// The results of `checks` for one endpoint service, as far as the policy wants them.
#[must_use]
pub fn evaluate_checks(checks: &[Check], context: CheckContext<'_>) -> Vec<CheckResult> {
    let watched = checks.iter().filter(|check| (check.is_watched)(context.policy));
    let mut results: Vec<CheckResult> = watched.flat_map(|check| (check.evaluate)(context)).collect();
    cause::add_related(&mut results, context);
    results
}

/// The check with this id, if this version has it.
#[must_use]
pub fn find(id: &str) -> Option<Check> {
    CATALOGUE.into_iter().find(|check| check.id == id)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique() {
        let ids: BTreeSet<&str> = CATALOGUE.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), CATALOGUE.len());
    }

    #[test]
    fn every_row_is_complete() {
        for check in CATALOGUE {
            let texts = [check.fails_when, check.impact, check.fix_in_short];
            assert!(texts.iter().all(|text| !text.trim().is_empty()), "{}", check.id);
            let severities: Vec<Severity> = check.severities.iter().map(|(severity, _)| *severity).collect();
            assert!(!severities.is_empty() && severities.is_sorted_by(|worse, better| worse > better), "{}", check.id);
            assert!(check.cloudtrail_events.is_sorted(), "{}", check.id);
        }
    }
}
