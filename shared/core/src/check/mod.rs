//! The parts of a check: its row in the catalogue, its context and results, the commands and console links it prints,
//! and the attribution of a finding to a change. The checks themselves are in [`checks`](crate::checks).

pub mod cause;
pub(crate) mod command;
mod context;
mod region;
mod result;
mod spec;

pub(crate) use self::command::Command;
pub use self::context::{CheckContext, RecordedState, RememberedConnections};
pub use self::region::Region;
pub use self::result::{CheckResult, Finding, PartStatus, Remedy, Severity, Status};
pub use self::spec::{Branch, Check, Group, Need, Parts, SilencedBy, Spec, WhenMissing};
