//! A silence: who silenced which alerts, until when and why.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// In a list of checks: all of them.
const EVERY: &str = "*";

/// Who silenced what, until when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// The ids of the checks; `*` for all.
    pub checks: Vec<String>,
    /// The resources; empty for all.
    #[serde(default)]
    pub resources: Vec<String>,
    /// When it ends.
    pub until: Timestamp,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub comment: String,
}

impl Silence {
    /// Whether it covers this check of this resource.
    #[must_use]
    pub fn matches(&self, check: &str, resource: &str) -> bool {
        let covers = |list: &[String], item: &str| list.iter().any(|covered| covered == item);
        (covers(&self.checks, EVERY) || covers(&self.checks, check))
            && (self.resources.is_empty() || covers(&self.resources, resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn silence(checks: &[&str], resources: &[&str], until: Timestamp) -> Silence {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let (by, comment) = ("ada".to_owned(), "database upgrade".to_owned());
        Silence { checks: owned(checks), resources: owned(resources), until, by, comment }
    }

    #[test]
    fn it_matches_checks_and_resources() {
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
    }
}
