//! The agreement of the command with the functions.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use story::local_aws::{Caller, eventually, list};
use story::{COMPANY, command};

use crate::environment::FlowEnvironment;

impl FlowEnvironment {
    /// Runs `check` with the stack's settings as the company's administrator. Returns the report and the exit status.
    pub fn check(&self, arguments: &[&str]) -> Result<(Value, Option<i32>)> {
        let fixed = ["check", "--stack", "guard", "--json"];
        let output = command::run(&self.aws, &Caller::root(COMPANY), &[&fixed, arguments].concat())?;
        let report = serde_json::from_slice(&output.stdout);
        let report = report.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok((report, output.status.code()))
    }

    /// Waits until `check` and the functions' alerts agree on checks, resources, severities and summaries.
    pub fn ensure_same_verdict(&self) -> Result<()> {
        let compare =
            || -> Result<(BTreeSet<String>, BTreeSet<String>)> { Ok((failing(&self.check(&[])?.0), firing(self)?)) };
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
}

/// The failing results of a report.
fn failing(report: &Value) -> BTreeSet<String> {
    let results = list(&report["services"])
        .flat_map(|service| list(&service["results"]).map(|result| (&service["serviceId"], result)));
    let failing = results.filter(|(_, result)| result["status"] == "fail");
    let line = |(service, result): (&Value, &Value)| {
        let Value::Object(fields) = result else { return String::new() };
        let [check, resource, severity, summary] =
            ["check", "resource", "severity", "summary"].map(|field| fields[field].as_str().unwrap_or_default());
        format!("{} {check} {resource} {severity}: {summary}", service.as_str().unwrap_or_default())
    };
    failing.map(line).collect()
}

/// The firing alerts in the guard's table that are not unknown now. It leaves out `visibility.lost`, which is about the
/// functions' own calls.
fn firing(environment: &FlowEnvironment) -> Result<BTreeSet<String>> {
    let table = environment.stack.output("StateTableName")?;
    let items = environment.aws.aws(&Caller::root(COMPANY), &format!("dynamodb scan --table-name {table}"))?;
    let mut firing = BTreeSet::new();
    for item in list(&items["Items"]) {
        let Some(record) = item["record"]["S"].as_str() else { continue };
        let record: Value = serde_json::from_str(record)?;
        let alert = &record["state"]["alert"];
        let key = item["item"]["S"].as_str().unwrap_or_default();
        let [_, check, resource] = key.splitn(3, '#').collect::<Vec<_>>()[..] else { continue };
        let is_known = alert["phase"] == json!("firing") && alert["unknown"].is_null();
        if is_known && check != "visibility.lost" {
            let [severity, summary] =
                ["severity", "summary"].map(|field| alert["finding"][field].as_str().unwrap_or_default());
            let service = item["service"]["S"].as_str().unwrap_or_default();
            firing.insert(format!("{service} {check} {resource} {severity}: {summary}"));
        }
    }
    Ok(firing)
}
