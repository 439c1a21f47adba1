//! The command as people start it: whose credentials it uses, and what it does when nobody reads what it prints.
#![allow(clippy::unwrap_used, missing_docs)]

mod aws;
mod pipes;
mod profiles;
