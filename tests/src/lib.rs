//! The guard on a local AWS: a company with an endpoint service, the deployed stack, and the story they play.
//!
//! The demo shows the story; the tests in `tests/` play it and others. Everything goes through the AWS CLI and SAM, as a
//! person would do it.

pub mod company;
pub mod inbox;
pub mod local_aws;
pub mod mail;
pub mod stack;
pub mod story;

/// The company that shares its service.
pub const COMPANY: &str = "111122223333";
/// dbt's account.
pub const DBT: &str = "444455556666";
/// An account that is nobody's business here.
pub const STRANGER: &str = "777788889999";
/// Where all of it is.
pub const REGION: &str = "eu-central-1";
