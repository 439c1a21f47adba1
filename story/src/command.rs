//! The command `privatelink-guard`, run as an administrator runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result};

use crate::local_aws::{Caller, LocalAws};

/// Runs the command with these credentials.
pub fn run(aws: &LocalAws, caller: &Caller, arguments: &[&str]) -> Result<Output> {
    Ok(command(aws, caller)?.args(arguments).output()?)
}

/// The command with these credentials.
pub fn command(aws: &LocalAws, caller: &Caller) -> Result<Command> {
    let mut command = aws.with_environment(Command::new(built("privatelink-guard")?), caller);
    command.env("AWS_REGION", crate::REGION).envs(aws.resolver());
    Ok(command)
}

/// The path of a built program of the workspace: next to this one, or in the folder above a test.
pub fn built(program: &str) -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let programs = executable.ancestors().skip(1).take(2).map(|folder| folder.join(program));
    let found = programs.into_iter().find(|program| program.is_file());
    found.with_context(|| format!("{program} is not built: make local-build"))
}
