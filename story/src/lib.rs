//! The story: a company with an endpoint service, the deployed stack, the events, and the guard's messages.
//!
//! `make demo` plays it on the local AWS, `make verify` on AWS; the flows in `tests/flows` play it and others.
//! Everything goes through the AWS CLI and SAM, as an administrator would work.

mod aws_cli;
pub mod chapters;
pub mod command;
pub mod company;
pub mod database;
pub mod demo;
pub mod inbox;
pub mod local_aws;
pub mod mail;
pub mod outcome;
pub mod recording;
pub mod stack;
pub mod stage;
pub mod terminal;
pub mod verify;

use std::path::{Path, PathBuf};

/// The company that shares its service.
pub const COMPANY: &str = "111122223333";
/// dbt's account.
pub const DBT: &str = "444455556666";
/// An account that is neither the company's nor dbt's.
pub const UNTRUSTED: &str = "777788889999";
/// Another consumer's account, which the company trusts with its endpoints.
pub const KNOWN: &str = "999900001111";
/// The Region of all resources.
pub const REGION: &str = "eu-central-1";

/// The repository's top folder.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The path of a tool in `.tools`.
pub fn tool(set: &str, name: &str) -> PathBuf {
    top().join(".tools").join(set).join("bin").join(name)
}
