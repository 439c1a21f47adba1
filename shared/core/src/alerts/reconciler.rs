//! A run of a function, as the decisions on its results see it.

use jiff::Timestamp;

use crate::check::Region;
use crate::config::Policy;

/// What all decisions of one run depend on.
#[derive(Debug, Clone, Copy)]
pub struct Reconciler<'a> {
    /// The run's id, which a retry shares with the run it repeats.
    pub id: &'a str,
    /// The function, whose name is part of its records' keys.
    pub function: &'a str,
    /// What must be.
    pub policy: &'a Policy,
    /// The Region that commands and console links are for.
    pub region: &'a Region,
    /// The time of the decisions.
    pub now: Timestamp,
}
