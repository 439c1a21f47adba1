//! privatelink-guard's decisions, as pure functions without I/O, clock or randomness. Data flows in one direction, from
//! a [`snapshot`] of AWS through [`connections`] and [`checks`] to [`alerts`].
//!
//! Nothing in this crate calls AWS: its dependency tree contains no AWS crate. `guard-aws` reads, changes and sends.

// Types and functions have doc comments; a field or a variant has one where its name does not say it all. The lint knows
// no such difference.
#![allow(missing_docs)]

pub mod admission;
pub mod alerts;
pub mod catalogue;
pub mod check;
pub mod checks;
pub mod cloudtrail;
pub mod concern;
pub mod config;
pub mod connections;
pub mod documentation;
pub mod follow;
pub mod ids;
pub mod message;
pub mod plan;
pub mod snapshot;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::panic)]
pub mod testing;
pub mod text;
pub mod trigger;
pub mod turns;
