//! What a check is: its row in the catalogue, what it is given, what it returns, the commands it prints, the console links,
//! and which change can have caused what it found. The checks themselves are in [`checks`](crate::checks).

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
