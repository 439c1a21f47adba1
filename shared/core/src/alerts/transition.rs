//! Transitions: the events that are sent.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::{Finding, Severity};

/// An event to send. It stays in its record's outbox until SNS has accepted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Counts the transitions of its record.
    pub number: u64,
    /// The kind of event.
    pub kind: Kind,
    /// The check's id; `connection` or `heartbeat` for a notice.
    pub check: String,
    /// The resource it happened to.
    pub resource: String,
    /// When it happened.
    pub at: Timestamp,
    /// When the alert began.
    pub since: Timestamp,
    /// Its incident.
    pub incident: String,
    /// The finding.
    pub finding: Finding,
    /// The fact that holds now, if the alert is over because the check passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_true: Option<String>,
    /// The severity that it had and no longer has, if it fell to info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_longer: Option<Severity>,
    /// Why the check's result is unknown at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Transitions before this one that could be neither sent nor kept.
    #[serde(default)]
    pub dropped: u64,
}

/// The kind of an event, in the order in which people should read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something is wrong, or got worse.
    Firing,
    /// It is still wrong.
    Reminder,
    /// It is over.
    Resolved,
    /// Something happened that is not wrong.
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
    /// An event of `resource` at `now`. It gets its number from the record it is added to.
    pub fn new(kind: Kind, (check, resource): (&str, &str), incident: &str, finding: Finding, now: Timestamp) -> Self {
        Self {
            number: 0,
            kind,
            check: check.to_owned(),
            resource: resource.to_owned(),
            at: now,
            since: now,
            incident: incident.to_owned(),
            // Messages carry no ids: the alert keeps them, to find a cause that comes late.
            finding: Finding { ids: BTreeSet::new(), ..finding },
            now_true: None,
            no_longer: None,
            unknown: None,
            dropped: 0,
        }
    }
}
