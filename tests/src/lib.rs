//! The guard on a local AWS: a company with an endpoint service, the deployed stack, and the story of the demo.
//!
//! The demo shows the story; the flows in `tests/` run it and others; `make verify` plays it on AWS. Everything goes through
//! the AWS CLI and SAM, as an administrator would do it.

pub mod api_calls;
mod aws_cli;
pub mod cli;
pub mod company;
pub mod environment;
pub mod inbox;
pub mod local_aws;
pub mod mail;
pub mod stack;
pub mod stage;
pub mod story;
pub mod verify;

/// The company that shares its service.
pub const COMPANY: &str = "111122223333";
/// dbt's account.
pub const DBT: &str = "444455556666";
/// An account that is neither the company's nor dbt's.
pub const UNTRUSTED: &str = "777788889999";
/// An account of another consumer, which the company trusts with its endpoints.
pub const KNOWN: &str = "999900001111";
/// The Region of all of it.
pub const REGION: &str = "eu-central-1";
