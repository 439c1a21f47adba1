//! Tests that attack.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acceptance;
mod corpus;
mod crashes;
mod delivery;
mod faults;
mod fleets;
mod follower;
mod foreign;
mod gone;
mod histories;
mod impostors;
mod limits;
mod lists;
mod parsers;
mod reads;
mod refusals;
mod storm;
