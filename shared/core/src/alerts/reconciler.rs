//! The facts of a function's run that the decisions on its results depend on.

use jiff::Timestamp;

use crate::check::Region;
use crate::config::Policy;

/// The inputs of all decisions of one run.
#[derive(Debug, Clone, Copy)]
pub struct Reconciler<'a> {
    /// The run's id, which a retry shares with the run it repeats.
    pub id: &'a str,
    /// The function, whose name is part of its records' keys.
    pub function: &'a str,
    /// The policy.
    pub policy: &'a Policy,
    /// The Region that commands and console links are for.
    pub region: &'a Region,
    /// The time of the decisions.
    pub now: Timestamp,
    /// Since when anybody has been subscribed to the alerts, after nobody was: what was sent before is sent once more.
    pub heard_since: Option<Timestamp>,
}
