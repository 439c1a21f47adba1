//! The results of checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Check;
use crate::check::command::Command;
use crate::snapshot::Unread;
use crate::trigger::Change;

/// Maximum number of stored ids per finding: a target group may have a thousand targets, each with security groups.
const MAX_STORED_IDS: usize = 500;

/// One check's result for one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckResult {
    pub check: Check,
    /// The resource: an ARN, an id, or an account.
    pub resource: String,
    pub status: Status,
    /// Whether the result stands for resources that were not listed. Then the status is [`Status::Unknown`] or
    /// [`Status::NotAsked`], and `resource` is the resource in front of them.
    pub is_unlisted: bool,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// The fact that satisfies the check, in one line.
    Pass(String),
    Fail(Box<Finding>),
    /// The reason why the result could not be determined. Never the same as [`Status::Pass`].
    Unknown(String),
    /// This run did not ask. The result has no effect: an alert stays as it is, and nothing is counted.
    NotAsked,
}

/// A failure, described for its reader. The table stores it so that a later run can send it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// The failure with its numbers, short enough for an email's subject: about 60 characters.
    pub summary: String,
    pub impact: String,
    /// AWS's report, one fact per line.
    pub evidence: Vec<String>,
    pub remedy: Remedy,
    /// The change in AWS that caused it, if CloudTrail reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Change>,
    /// The parts that can fail independently: ports, principals, zones, by name. A missing part passes. The alert is
    /// sent again when another part begins to fail.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, PartStatus>,
    /// Further ids and ARNs that the finding is about: a change that names one of them can be its cause.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ids: BTreeSet<String>,
    /// Whether it makes dbt's attempts to connect fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stops_dbt: bool,
    /// The worst severity with which others can make the finding fire and resolve at will, as an untrusted account can
    /// by creating and deleting endpoints. Up to that severity, the alert is sent once a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provokable: Option<Severity>,
}

/// The status of one part of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartStatus {
    Failing(Severity),
    /// The reason why the part could not be determined.
    Unknown(String),
}

/// The fix for a failure, or the reason why none is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// The action, in a sentence or two.
    pub action: String,
    /// The AWS CLI command that carries out the action or shows more, if there is one. Several commands have a line
    /// each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The resource in the AWS console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// Whether nothing needs to be done; `action` has the reason.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nothing_to_do: bool,
}

/// The severity of a finding for dbt. Ordered: critical is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Information; dbt is not affected.
    Info,
    /// dbt is partly affected, or will be.
    Warning,
    /// dbt cannot connect, or an untrusted account can.
    Critical,
}

impl Severity {
    /// The lower-case name, as in message attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Finding {
    /// The name of the part that stands for all undetermined parts without a name.
    pub(crate) const REST: &str = "the rest";

    /// A finding about its resource alone, without evidence or parts, that does not stop dbt.
    pub fn new(severity: Severity, summary: impl Into<String>, impact: impl Into<String>, remedy: Remedy) -> Self {
        Self {
            severity,
            summary: summary.into(),
            impact: impact.into(),
            evidence: Vec::new(),
            remedy,
            cause: None,
            parts: BTreeMap::new(),
            ids: BTreeSet::new(),
            stops_dbt: false,
            provokable: None,
        }
    }

    /// The finding with this evidence.
    #[must_use]
    pub fn with_evidence(self, evidence: Vec<String>) -> Self {
        Self { evidence, ..self }
    }

    /// The finding with these failing parts.
    #[must_use]
    pub fn with_parts(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let severity = self.severity;
        self.parts.extend(names.into_iter().map(|name| (name.into(), PartStatus::Failing(severity))));
        self
    }

    /// The finding with these unknown parts, each with its reason.
    #[must_use]
    pub fn with_unknown_parts(mut self, parts: impl IntoIterator<Item = (impl Into<String>, String)>) -> Self {
        self.parts.extend(parts.into_iter().map(|(name, why)| (name.into(), PartStatus::Unknown(why))));
        self
    }

    /// The finding with all unnamed parts unknown for this reason, if there is one.
    #[must_use]
    pub fn with_unknown_rest(mut self, why: Option<String>) -> Self {
        self.parts.extend(why.map(|why| (Self::REST.to_owned(), PartStatus::Unknown(why))));
        self
    }

    /// The reason why unnamed parts are unknown, if they are.
    pub fn rest(&self) -> Option<&String> {
        match self.parts.get(Self::REST)? {
            PartStatus::Unknown(why) => Some(why),
            PartStatus::Failing(_) => None,
        }
    }

    /// The status of a part; `None` if it passes.
    pub fn part(&self, name: &str) -> Option<&PartStatus> {
        self.parts.get(name).or_else(|| self.parts.get(Self::REST))
    }

    /// The finding with these further ids and ARNs.
    #[must_use]
    pub fn about(mut self, ids: impl IntoIterator<Item = impl ToString>) -> Self {
        self.ids.extend(ids.into_iter().map(|id| id.to_string()));
        self
    }

    /// The finding, marked with whether it makes dbt's attempts to connect fail.
    #[must_use]
    pub fn stopping_dbt(self, stops_dbt: bool) -> Self {
        Self { stops_dbt, ..self }
    }

    /// The finding, marked as one that others can make fire and resolve at will, up to this severity.
    #[must_use]
    pub fn provokable(self, up_to: Severity) -> Self {
        Self { provokable: Some(up_to), ..self }
    }

    /// Drops the ids beyond the maximum number stored.
    pub fn limit_ids(&mut self) {
        let mut ids: Vec<String> = std::mem::take(&mut self.ids).into_iter().collect();
        // Targets come last: a change that blocks all of them names a shared group or rule.
        ids.sort_by_key(|id| id.starts_with("i-") || id.parse::<IpAddr>().is_ok());
        ids.truncate(MAX_STORED_IDS);
        self.ids = ids.into_iter().collect();
    }

    /// The names of the parts that fail.
    pub fn failing_parts(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().filter(|(_, status)| matches!(status, PartStatus::Failing(_))).map(|(name, _)| name)
    }
}

impl Remedy {
    /// A remedy. If a shell would not take an argument of the command literally, a sentence replaces the command.
    pub(crate) fn new(action: &str, command: Option<Command>, console: Option<String>) -> Self {
        let is_wanted = command.is_some();
        let text = command.and_then(Command::into_text);
        let action = match &text {
            None if is_wanted => format!(
                "{action} No command is printed, because a name in AWS contains characters that a shell would interpret: \
                 use the console, and read that name with care."
            ),
            _ => action.to_owned(),
        };
        Self { action, command: text, console, nothing_to_do: false }
    }

    /// A remedy without anything to do, and the reason.
    pub(crate) fn nothing(action: &str, console: Option<String>) -> Self {
        Self { nothing_to_do: true, ..Self::new(action, None, console) }
    }
}

impl CheckResult {
    /// The result of `check` for `resource`.
    pub fn new(check: Check, resource: &(impl ToString + ?Sized), status: Status) -> Self {
        Self { check, resource: resource.to_string(), status, is_unlisted: false }
    }

    /// The result of `check` for the resources behind `resource`, which were not listed for this reason.
    pub fn unlisted(check: Check, resource: &(impl ToString + ?Sized), why: Unread) -> Self {
        Self { is_unlisted: true, ..Self::new(check, resource, why.into()) }
    }
}

impl From<Unread> for Status {
    fn from(why: Unread) -> Self {
        match why {
            Unread::NotAsked => Self::NotAsked,
            Unread::Unknown(why) => Self::Unknown(why),
        }
    }
}

impl Status {
    /// A pass, with the satisfying fact in one line.
    pub(crate) fn pass(right: impl Into<String>) -> Self {
        Self::Pass(right.into())
    }

    /// The status in one line.
    pub fn text(&self) -> &str {
        match self {
            Self::Pass(text) | Self::Unknown(text) => text,
            Self::Fail(finding) => &finding.summary,
            Self::NotAsked => "not asked",
        }
    }

    pub(crate) fn fail(finding: Finding) -> Self {
        #[cfg(test)]
        crate::testing::assert_pasteable(&finding);
        Self::Fail(Box::new(finding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::finding;

    #[test]
    fn ids_of_targets_are_dropped_first_from_a_long_list() {
        let targets = (0..1000).map(|number| format!("10.0.{}.{}", number / 250, number % 250));
        let mut finding = finding(Severity::Critical).about(targets).about(["sg-1", "pl-1"]);
        finding.limit_ids();
        assert_eq!(finding.ids.len(), MAX_STORED_IDS);
        assert!(finding.ids.contains("sg-1") && finding.ids.contains("pl-1"));
    }
}
