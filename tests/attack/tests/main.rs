//! Tests that attack.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crashes;
mod faults;
mod impostors;
mod storm;
