//! The results of checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Check;
use crate::check::command::Command;
use crate::snapshot::Unread;
use crate::trigger::Change;

/// Ids of a finding that are stored: a target group may have a thousand targets, each with security groups.
const MAX_STORED_IDS: usize = 500;

/// One check's result for one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckResult {
    /// Which check.
    pub check: Check,
    /// The resource: an ARN, an id, or an account.
    pub resource: String,
    /// The result.
    pub status: Status,
    /// Whether it stands for resources that were not listed. Then the status is [`Status::Unknown`] or
    /// [`Status::NotAsked`], and the resource is what they are behind.
    pub is_unlisted: bool,
}

/// Whether a check passes.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// As it must be, described in one line.
    Pass(String),
    /// Not as it must be.
    Fail(Box<Finding>),
    /// It could not be determined, and why. Never the same as [`Status::Pass`].
    Unknown(String),
    /// This run did not ask. It says nothing: an alert stays as it is, and no result is counted.
    NotAsked,
}

/// A failure, in the reader's words. It is stored in the table, so that a later run can send it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The failure, with the numbers in it, in words that fit an email's subject: about 60 characters.
    pub summary: String,
    /// The impact on dbt.
    pub impact: String,
    /// What AWS reported, a line each.
    pub evidence: Vec<String>,
    /// How to fix it.
    pub remedy: Remedy,
    /// The change in AWS that caused it, if CloudTrail reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Change>,
    /// The parts that can fail independently: ports, principals, zones, by name. A part that is not here passes. The
    /// alert is sent again when another part begins to fail.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, PartStatus>,
    /// The ids and ARNs that it is about besides its resource: a change that names one of them can be the cause.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ids: BTreeSet<String>,
    /// Whether it makes dbt's attempts to connect fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stops_dbt: bool,
    /// The worst severity with which others can make it fire and resolve at will, as an untrusted account can by creating and
    /// deleting endpoints: up to that, it is sent once a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provokable: Option<Severity>,
}

/// The status of one part of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartStatus {
    /// Not as it must be, of this severity.
    Failing(Severity),
    /// It could not be determined, and why.
    Unknown(String),
}

/// How to fix a failure, or why there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// The action, in a sentence or two.
    pub action: String,
    /// The AWS CLI command that does it or shows more, if there is one. Where there are several, each has a line of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The resource in the AWS console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// Whether there is nothing to do, and `action` says why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nothing_to_do: bool,
}

/// How bad a finding is for dbt. Ordered: critical is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; dbt is not affected.
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
    /// The part that stands for all that are not named, where some could not be determined.
    pub(crate) const REST: &str = "the rest";

    /// A finding without evidence, of one part, about its resource alone, which stops nothing.
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

    /// The finding with these parts, which fail.
    #[must_use]
    pub fn with_parts(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let severity = self.severity;
        self.parts.extend(names.into_iter().map(|name| (name.into(), PartStatus::Failing(severity))));
        self
    }

    /// The finding, with these parts unknown, each for a reason.
    #[must_use]
    pub fn with_unknown_parts(mut self, parts: impl IntoIterator<Item = (impl Into<String>, String)>) -> Self {
        self.parts.extend(parts.into_iter().map(|(name, why)| (name.into(), PartStatus::Unknown(why))));
        self
    }

    /// The finding, with all other parts unknown for this reason, if there is one.
    #[must_use]
    pub fn with_unknown_rest(mut self, why: Option<String>) -> Self {
        self.parts.extend(why.map(|why| (Self::REST.to_owned(), PartStatus::Unknown(why))));
        self
    }

    /// Why parts that are not named are unknown, if they are.
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

    /// The finding about these ids and ARNs as well.
    #[must_use]
    pub fn about(mut self, ids: impl IntoIterator<Item = impl ToString>) -> Self {
        self.ids.extend(ids.into_iter().map(|id| id.to_string()));
        self
    }

    /// The finding, with whether it makes dbt's attempts to connect fail.
    #[must_use]
    pub fn stopping_dbt(self, stops_dbt: bool) -> Self {
        Self { stops_dbt, ..self }
    }

    /// The finding as one that others can make fire and resolve at will, up to this severity.
    #[must_use]
    pub fn provokable(self, up_to: Severity) -> Self {
        Self { provokable: Some(up_to), ..self }
    }

    /// Drops the ids beyond the number that is stored.
    pub fn limit_ids(&mut self) {
        let mut ids: Vec<String> = std::mem::take(&mut self.ids).into_iter().collect();
        // Targets last: a change that blocks them all names a group or a rule of theirs.
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
    /// A remedy. A command with an argument that a shell would not take literally becomes a sentence.
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

    /// Nothing, and why.
    pub(crate) fn nothing(action: &str, console: Option<String>) -> Self {
        Self { nothing_to_do: true, ..Self::new(action, None, console) }
    }
}

impl CheckResult {
    /// The result of `check` for `resource`.
    pub fn new(check: Check, resource: &(impl ToString + ?Sized), status: Status) -> Self {
        Self { check, resource: resource.to_string(), status, is_unlisted: false }
    }

    /// The result of `check` for all resources behind `resource`: they were not listed, and why.
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
    /// A pass, described in one line.
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

    /// A failure.
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
    fn of_a_thousand_ids_those_of_targets_are_dropped_first() {
        let targets = (0..1000).map(|number| format!("10.0.{}.{}", number / 250, number % 250));
        let mut finding = finding(Severity::Critical).about(targets).about(["sg-1", "pl-1"]);
        finding.limit_ids();
        assert_eq!(finding.ids.len(), MAX_STORED_IDS);
        assert!(finding.ids.contains("sg-1") && finding.ids.contains("pl-1"));
    }
}
