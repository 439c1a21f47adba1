//! The command as users start it: the credentials that it uses, and its behaviour when nobody reads its output.
#![allow(clippy::unwrap_used, missing_docs)]

mod aws;
mod pipes;
mod profiles;
mod stacks;
