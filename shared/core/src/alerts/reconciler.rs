//! The facts of a function's run that its decisions depend on.

use jiff::Timestamp;

use crate::check::Region;
use crate::config::Policy;

/// The inputs of all decisions of one run.
#[derive(Debug, Clone, Copy)]
pub struct Reconciler<'a> {
    /// The run's id, which a retry shares with the run it repeats.
    pub id: &'a str,
    /// The function; its name is part of its records' keys.
    pub function: &'a str,
    pub policy: &'a Policy,
    /// The stack's name, for commands.
    pub stack: Option<&'a str>,
    pub region: &'a Region,
    pub now: Timestamp,
    /// The time since which the alert topic has had a subscriber again; earlier messages are sent once more.
    pub heard_since: Option<Timestamp>,
}
