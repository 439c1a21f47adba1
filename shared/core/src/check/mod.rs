//! The parts of a check: its row in the catalogue, its context and results, the commands and console links it prints,
//! and the attribution of a finding to a change. Then what several checks share: rules of security groups, details of
//! connections, and commands that restore what is gone. The checks themselves are in [`checks`](crate::checks).

pub mod cause;
pub(crate) mod command;
pub(crate) mod connection_details;
mod context;
pub(crate) mod inbound_rules;
pub(crate) mod protocols;
mod region;
pub(crate) mod restore;
mod result;
pub(crate) mod security_rules;
mod spec;

pub(crate) use self::command::Command;
pub use self::context::{CheckContext, RecordedState, RememberedConnections};
pub use self::region::Region;
pub use self::result::{CheckResult, Finding, PartStatus, Remedy, Severity, Status};
pub use self::spec::{Branch, Check, Group, Need, Parts, SilencedBy, Spec, WhenMissing};
