//! The command `privatelink-guard`, as an administrator runs it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::COMPANY;
use crate::environment::FlowEnvironment;
use crate::local_aws::{Caller, LocalAws, eventually};

/// Runs the command with these credentials.
///
/// # Errors
/// If it was not built.
pub fn run(aws: &LocalAws, caller: &Caller, arguments: &[&str]) -> Result<Output> {
    Ok(command(aws, caller)?.args(arguments).output()?)
}

/// The command with these credentials.
///
/// # Errors
/// If it was not built.
pub fn command(aws: &LocalAws, caller: &Caller) -> Result<Command> {
    let mut command = aws.with_environment(Command::new(program()?), caller);
    command.env("AWS_REGION", crate::REGION);
    Ok(command)
}

/// Runs `check` with the settings of the environment's stack, as the company's administrator. The report, and the exit
/// status.
///
/// # Errors
/// If it prints no JSON.
pub fn check(environment: &FlowEnvironment, arguments: &[&str]) -> Result<(Value, Option<i32>)> {
    let fixed = ["check", "--stack", "guard", "--json"];
    let output = run(&environment.aws, &Caller::root(COMPANY), &[&fixed, arguments].concat())?;
    let report = serde_json::from_slice(&output.stdout);
    let report = report.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((report, output.status.code()))
}

/// Waits until `check` finds what the functions' alerts say: the same checks, resources, severities and summaries.
///
/// # Errors
/// If it finds something else.
pub fn ensure_same_verdict(environment: &FlowEnvironment) -> Result<()> {
    let compare = || -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        Ok((failing(&check(environment, &[])?.0), firing(environment)?))
    };
    let same = eventually("the command to find what the functions found", || {
        let (failing, firing) = compare()?;
        Ok((failing == firing).then_some(()))
    });
    same.or_else(|_| {
        let (failing, firing) = compare()?;
        let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| these - those;
        let (command, functions) = (only(&failing, &firing), only(&firing, &failing));
        ensure!(failing == firing, "only the command: {command:#?}\nonly the functions: {functions:#?}");
        Ok(())
    })
}

/// Where the command was built: next to this program, or in the folder above a test.
///
/// # Errors
/// If it was not built.
pub fn program() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let programs = executable.ancestors().skip(1).take(2).map(|folder| folder.join("privatelink-guard"));
    programs.into_iter().find(|program| program.is_file()).context("privatelink-guard is built: make local-build")
}

/// What fails according to a report.
fn failing(report: &Value) -> BTreeSet<String> {
    let services = report["services"].as_array().into_iter().flatten();
    let results = services.flat_map(|service| {
        let results = service["results"].as_array().into_iter().flatten();
        results.map(|result| (&service["serviceId"], result)).collect::<Vec<_>>()
    });
    let failing = results.filter(|(_, result)| result["status"] == "fail");
    let line = |(service, result): (&Value, &Value)| {
        let Value::Object(fields) = result else { return String::new() };
        let [check, resource, severity, summary] =
            ["check", "resource", "severity", "summary"].map(|field| fields[field].as_str().unwrap_or_default());
        format!("{} {check} {resource} {severity}: {summary}", service.as_str().unwrap_or_default())
    };
    failing.map(line).collect()
}

/// What fires according to the guard's table, and is not unknown now. `visibility.lost` is about the functions' own
/// calls, and `connection.absent` about what only the table knows.
fn firing(environment: &FlowEnvironment) -> Result<BTreeSet<String>> {
    let table = environment.stack.output("StateTableName")?;
    let items = environment.aws.aws(&Caller::root(COMPANY), &["dynamodb", "scan", "--table-name", table])?;
    let mut firing = BTreeSet::new();
    for item in items["Items"].as_array().into_iter().flatten() {
        let Some(record) = item["record"]["S"].as_str() else { continue };
        let record: Value = serde_json::from_str(record)?;
        let alert = &record["state"]["alert"];
        let key = item["item"]["S"].as_str().unwrap_or_default();
        let [_, check, resource] = key.splitn(3, '#').collect::<Vec<_>>()[..] else { continue };
        let is_known = alert["phase"] == json!("firing") && alert["unknown"].is_null();
        if is_known && !["visibility.lost", "connection.absent"].contains(&check) {
            let [severity, summary] =
                ["severity", "summary"].map(|field| alert["finding"][field].as_str().unwrap_or_default());
            let service = item["service"]["S"].as_str().unwrap_or_default();
            firing.insert(format!("{service} {check} {resource} {severity}: {summary}"));
        }
    }
    Ok(firing)
}
