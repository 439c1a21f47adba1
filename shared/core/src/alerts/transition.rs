//! Transitions: the events that are sent.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::{Finding, Severity};

/// An event to send. It stays in its record's outbox until SNS has accepted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Its number within its record, counted from 1.
    pub number: u64,
    pub kind: Kind,
    /// The check's id; `connection`, `heartbeat`, `silence` or `removal` for a notice.
    pub check: String,
    pub resource: String,
    pub at: Timestamp,
    pub since: Timestamp,
    pub incident: String,
    pub finding: Finding,
    /// The fact that holds now, if the alert is over because the check passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_true: Option<String>,
    /// The severity before a fall to a milder one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_longer: Option<Severity>,
    /// The reason why the check's result is unknown at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// The number of earlier transitions that could be neither sent nor kept.
    #[serde(default)]
    pub dropped: u64,
}

/// The kind of an event, in reading order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A check fails, or got worse.
    Firing,
    /// The check still fails.
    Reminder,
    /// The alert is over.
    Resolved,
    /// An event that is no failure.
    Notice,
}

impl Kind {
    /// The lower-case name, as in message attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Reminder => "reminder",
            Self::Resolved => "resolved",
            Self::Notice => "notice",
        }
    }
}

impl Transition {
    /// An event of `resource` at `now`. Its record assigns the number.
    pub fn new(kind: Kind, (check, resource): (&str, &str), incident: &str, finding: Finding, now: Timestamp) -> Self {
        Self {
            number: 0,
            kind,
            check: check.to_owned(),
            resource: resource.to_owned(),
            at: now,
            since: now,
            incident: incident.to_owned(),
            // Messages carry no ids: the alert keeps them, to find a late cause.
            finding: Finding { ids: BTreeSet::new(), ..finding },
            now_true: None,
            no_longer: None,
            unknown: None,
            dropped: 0,
        }
    }
}
