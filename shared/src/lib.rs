//! What privatelink-guard's functions share. Data goes one way: trigger → observe → evaluate → act → tell.

pub mod act;
pub mod alerts;
pub mod checks;
pub mod config;
pub mod connections;
pub mod ids;
pub mod lambda;
pub mod looks;
pub mod metrics;
pub mod observe;
pub mod snapshot;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::panic)]
pub mod testing;
pub mod trigger;
