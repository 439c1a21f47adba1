//! Alerts: the selection and timing of the check results to send. Pure: the clock and the stored state are inputs.
//!
//! [`reconcile`] compares a run's results with the stored [`record`]s. Each event to send becomes a [`transition`] in a
//! record's outbox; [`message`](crate::message) renders transitions.

pub mod changes;
pub mod connection;
pub mod heartbeat;
pub mod inventory;
pub mod lifecycle;
pub mod reconcile;
pub mod reconciler;
pub mod record;
pub mod removal;
pub mod reuse;
pub mod sample;
pub mod silence;
pub mod silencing;
pub mod traffic;
pub mod transition;
