//! What a check found.

use serde::{Deserialize, Serialize};

use super::Check;
use super::command::Command;
use crate::ids::ServiceId;
use crate::trigger::Change;

/// One check's result for one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckResult {
    /// Which check.
    pub check: Check,
    /// The resource: an ARN, an id, or an account.
    pub resource: String,
    /// The result.
    pub status: Status,
    /// Whether it stands for resources that could not be listed. Then the status is [`Status::Unknown`], and the resource
    /// is the endpoint service.
    pub is_unlisted: bool,
}

/// Whether a check passes.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// As it must be; in one line, what is right now.
    Pass(String),
    /// Not as it must be.
    Fail(Box<Finding>),
    /// It could not be determined, and why. Never the same as [`Status::Pass`].
    Unknown(String),
}

/// What is wrong, in the reader's words. It is stored in the table, so that a later run can send it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with the numbers in it, in words that fit an email's subject: about 60 characters.
    pub summary: String,
    /// What it means for dbt.
    pub impact: String,
    /// What AWS reported, a line each.
    pub evidence: Vec<String>,
    /// What to do about it.
    pub remedy: Remedy,
    /// The change in AWS that caused it, if CloudTrail reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Change>,
    /// What can fail independently of each other: ports, principals, zones. People hear when a part is new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// Other resources whose change can be the cause: a target group's load balancer, an account's endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// What to do, in a sentence or two.
    pub action: String,
    /// The AWS CLI command that does it or shows more, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The resource in the AWS console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
}

/// How bad a finding is for dbt. Ordered: critical is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Remedy {
    /// What to do. A command with an argument that a shell would not take literally becomes a sentence.
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
        Self { action, command: text, console }
    }
}

impl CheckResult {
    /// The result of `check` for `resource`.
    #[must_use]
    pub fn new(check: Check, resource: &(impl ToString + ?Sized), status: Status) -> Self {
        Self { check, resource: resource.to_string(), status, is_unlisted: false }
    }

    /// The result of `check` for all of the service's resources: they could not be listed, and why.
    #[must_use]
    pub fn unlisted(check: Check, service: &ServiceId, why: String) -> Self {
        Self { is_unlisted: true, ..Self::new(check, service, Status::Unknown(why)) }
    }
}

impl Status {
    /// A success, and what is right now.
    pub(super) fn pass(right: impl Into<String>) -> Self {
        Self::Pass(right.into())
    }

    /// A failure.
    pub(super) fn fail(finding: Finding) -> Self {
        Self::Fail(Box::new(finding))
    }
}
