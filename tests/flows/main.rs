//! Flows: the real template and the real functions on a local AWS, driven with the AWS CLI.
//!
//! `cargo test --package flows -- NAME` runs the flows with NAME in their names: one flow, or a module such as
//! `checklist`.

mod accounts;
mod api_calls;
mod checklist;
mod cli;
mod connections;
mod dbts_path;
mod demo;
mod environment;
mod failures;
mod follower;
mod health;
mod lateness;
mod moto;
mod own_roles;
mod path;
mod strict;
mod targets;
mod topics;
mod trace;
mod verdict;
