//! A silence: its alerts, end, author and reason.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalogue;
use crate::check::SilencedBy;
use crate::checks::network_path::without_side;
use crate::ids::Arn;

/// The entry in a list of checks for all checks except those that only their id silences.
pub const EVERY_CHECK: &str = "*";

/// A stored silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// The ids of the checks; `*` for all except those that only their id silences, so that nobody silences alerts on
    /// access by accident.
    pub checks: Vec<String>,
    /// The resources; empty for all.
    #[serde(default)]
    pub resources: Vec<String>,
    pub until: Timestamp,
    pub by: String,
    pub comment: String,
    /// The announcement as sent: a later change to the silence is announced again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<String>,
}

impl Silence {
    /// The whole silence as one line.
    pub fn describe(&self) -> String {
        let Self { checks, resources, until, by, comment, .. } = self;
        format!("{} on {} until {until} by {by}: {comment}", checks.join(", "), resources.join(", "))
    }

    /// What it covers, in a few words: `target-group.health on pg`.
    pub fn subject(&self) -> String {
        let resources = match &self.resources[..] {
            [] => None,
            [one] => Some(one.parse::<Arn>().map_or_else(|_| one.clone(), |arn| arn.name().to_owned())),
            several => Some(format!("{} resources", several.len())),
        };
        match (&self.checks[..], resources) {
            ([every], None) if every == EVERY_CHECK => "all alerts but access".to_owned(),
            ([every], Some(resources)) if every == EVERY_CHECK => format!("alerts on {resources}"),
            ([check], None) => check.clone(),
            ([check], Some(resources)) => format!("{check} on {resources}"),
            (checks, None) => format!("{} checks", checks.len()),
            (checks, Some(resources)) => format!("{} checks on {resources}", checks.len()),
        }
    }

    /// Whether it covers this check of this resource.
    pub fn matches(&self, check: &str, resource: &str) -> bool {
        let covers = |list: &[String], item: &str| list.iter().any(|covered| covered == item);
        let by_id = covers(&self.checks, check);
        let is_by_id_only = || catalogue::find(check).is_some_and(|check| check.silenced_by == SilencedBy::Id);
        (by_id || (covers(&self.checks, EVERY_CHECK) && !is_by_id_only()))
            && (self.resources.is_empty()
                || covers(&self.resources, resource)
                || covers(&self.resources, without_side(resource)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn silence(checks: &[&str], resources: &[&str], until: Timestamp) -> Silence {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let (by, comment) = ("ada".to_owned(), "database upgrade".to_owned());
        Silence { checks: owned(checks), resources: owned(resources), until, by, comment, announced: None }
    }

    #[test]
    fn a_silence_matches_checks_and_resources() {
        let table: [(&[&str], &[&str], bool); 6] = [
            (&["*"], &[], true),
            (&["target-group.health"], &[], true),
            (&["listener.port", "target-group.health"], &["pg"], true),
            (&["target-group.health"], &["web"], false),
            (&["listener.port"], &[], false),
            (&[], &[], false),
        ];
        for (checks, resources, expected) in table {
            let silence = silence(checks, resources, at(9, 0));
            assert_eq!(silence.matches("target-group.health", "pg"), expected, "{checks:?} {resources:?}");
        }
        let remote = silence(&["*"], &["arn:a"], at(9, 0));
        assert!(remote.matches("network-path", "arn:a, remote side") && !remote.matches("network-path", "arn:ab"));
        let untrusted = |checks| silence(checks, &[], at(9, 0)).matches("connection.untrusted", "999999999999");
        assert!(!untrusted(&["*"]) && untrusted(&["connection.untrusted"]), "only by name");
    }

    #[test]
    fn a_subject_says_what_is_silenced() {
        let group = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef";
        let table: [(&[&str], &[&str], &str); 6] = [
            (&["*"], &[], "all alerts but access"),
            (&["*"], &[group], "alerts on pg"),
            (&["target-group.health"], &[], "target-group.health"),
            (&["target-group.health"], &[group], "target-group.health on pg"),
            (&["listener.port", "listener.tls"], &[], "2 checks"),
            (&["listener.port", "listener.tls"], &[group, "999999999999"], "2 checks on 2 resources"),
        ];
        for (checks, resources, expected) in table {
            assert_eq!(silence(checks, resources, at(9, 0)).subject(), expected);
        }
    }
}
