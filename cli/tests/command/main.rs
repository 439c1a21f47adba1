//! The command as people start it: whose credentials it uses.
#![allow(clippy::unwrap_used, missing_docs)]

mod aws;
mod profiles;
