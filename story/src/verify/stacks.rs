//! The stacks of a run: their names, their creation, and the proof that a stack is a run's own.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

use super::account::Account;
use crate::local_aws::{list, poll_every, quoted, text};
use crate::stack::outputs;
use crate::stage::{Limits, StoryStage, eventually};
use crate::top;

/// The key of the tag on all of a run's resources; its value is the run's id.
pub const TAG: &str = "privatelink-guard-verify";

/// The names of a run's stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Eight hexadecimal digits: the start of the run in seconds.
    pub run: String,
}

impl Names {
    /// The guard's stack.
    pub fn guard(&self) -> String {
        format!("{TAG}-{}", self.run)
    }

    /// The stack of `infra/verify.yaml`.
    pub fn service(&self) -> String {
        format!("{TAG}-{}-service", self.run)
    }

    /// The stack of `infra/verify-consumer.yaml`.
    pub fn consumer(&self) -> String {
        format!("{TAG}-{}-consumer", self.run)
    }

    /// The run whose stack has this name.
    pub fn of_stack(name: &str) -> Option<Self> {
        let run = name.strip_prefix(TAG)?.strip_prefix('-')?;
        let run = run.strip_suffix("-service").or_else(|| run.strip_suffix("-consumer")).unwrap_or(run);
        let is_run = run.len() == 8 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_run.then(|| Self { run: run.to_owned() })
    }
}

/// A stack, as CloudFormation describes it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its status.
    pub status: String,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
}

/// The account's stacks of all runs, with a run's name and a run's tag. A stack with only such a name is somebody
/// else's. A stack whose first change set was never executed has no tags yet, and no resources.
pub fn of_all_runs(account: &Account) -> Result<Vec<(Names, Found)>> {
    let answer = account.aws("cloudformation describe-stacks")?;
    Ok(list(&answer["Stacks"]).filter_map(|stack| Some((owner(stack)?, found(stack)))).collect())
}

fn owner(stack: &Value) -> Option<Names> {
    let names = Names::of_stack(stack["StackName"].as_str()?)?;
    let is_tagged = list(&stack["Tags"]).any(|tag| tag["Key"] == TAG && tag["Value"] == names.run.as_str());
    (is_tagged || stack["StackStatus"] == "REVIEW_IN_PROGRESS").then_some(names)
}

fn found(stack: &Value) -> Found {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Found { name: word(&stack["StackName"]), status: word(&stack["StackStatus"]), outputs: outputs(stack) }
}

/// The run's own stack with this name, if it exists.
pub fn of_run(account: &Account, names: &Names, name: &str) -> Result<Option<Found>> {
    let stacks = of_all_runs(account)?.into_iter();
    Ok(stacks.filter(|(owner, _)| owner == names).map(|(_, stack)| stack).find(|stack| stack.name == name))
}

/// Creates a stack of the run from a template in `infra/`, waits for it, and returns its outputs.
pub fn create(
    stage: &dyn StoryStage,
    account: &Account,
    names: &Names,
    (name, template): (&str, &str),
    parameters: &[(&str, &str)],
) -> Result<BTreeMap<String, String>> {
    let template = top().join("infra").join(template);
    let all = [("Run", names.run.as_str())].into_iter().chain(parameters.iter().copied());
    // Commas would end a value in the CLI's short form.
    let parameters = all.map(|(key, value)| format!("'ParameterKey={key},ParameterValue=\"{value}\"'"));
    account.aws(&format!(
        "cloudformation create-stack --stack-name {name} --template-body {} --tags Key={TAG},Value={} \
         --parameters {}",
        quoted(&format!("file://{}", template.display())),
        names.run,
        parameters.collect::<Vec<_>>().join(" ")
    ))?;
    let limit = stage.limits().stack;
    let stack = eventually(stage, &format!("the stack {name} to be created"), limit, || {
        let stack = of_run(account, names, name)?;
        Ok(stack.filter(|stack| !stack.status.ends_with("_IN_PROGRESS")))
    })?;
    if stack.status != "CREATE_COMPLETE" {
        bail!("the stack {name} is {}: {}", stack.status, reasons(account, name)?);
    }
    Ok(stack.outputs)
}

/// The reasons for the failures of a stack's resources.
fn reasons(account: &Account, name: &str) -> Result<String> {
    let events = account.aws(&format!("cloudformation describe-stack-events --stack-name {name}"))?;
    let failed = list(&events["StackEvents"]).filter_map(|event| {
        let is_failed = event["ResourceStatus"].as_str()?.ends_with("_FAILED");
        let reason = event["ResourceStatusReason"].as_str().unwrap_or("no reason given");
        is_failed.then(|| format!("{}: {reason}", event["LogicalResourceId"].as_str().unwrap_or_default()))
    });
    Ok(failed.collect::<Vec<_>>().join("; "))
}

/// Deletes a stack and waits until it is gone. A second attempt can delete resources that were still in use during the
/// first.
pub fn delete(account: &Account, names: &Names, name: &str, limits: Limits) -> Result<()> {
    if of_run(account, names, name)?.is_none() {
        return Ok(());
    }
    for _ in 0..2 {
        account.aws(&format!("cloudformation delete-stack --stack-name {name}"))?;
        if is_gone_in_time(account, names, name, limits)? {
            return Ok(());
        }
    }
    bail!("the stack {name} cannot be deleted: {}", reasons(account, name)?)
}

/// Waits until the stack is gone or its deletion has failed. Ctrl-C does not end this wait, since Ctrl-C asks for the
/// deletion.
fn is_gone_in_time(account: &Account, names: &Names, name: &str, limits: Limits) -> Result<bool> {
    poll_every(limits.poll, limits.stack, &format!("the stack {name} to be deleted"), || {
        let status = of_run(account, names, name)?.map(|stack| stack.status);
        Ok(match status.as_deref() {
            None => Some(true),
            Some("DELETE_FAILED") => Some(false),
            Some(_) => None,
        })
    })
}

/// The account's names for the zones with these ids; each account has its own names.
/// <https://docs.aws.amazon.com/ram/latest/userguide/working-with-az-ids.html>
pub fn zones(account: &Account, ids: &[String]) -> Result<Vec<String>> {
    let answer = account.aws("ec2 describe-availability-zones")?;
    let named = ids.iter().map(|id| list(&answer["AvailabilityZones"]).find(|zone| zone["ZoneId"] == id.as_str()));
    let name = |zone: Option<&Value>| match zone {
        Some(zone) => text(zone, "/ZoneName"),
        None => bail!("account {} does not have the zones {}", account.id, ids.join(", ")),
    };
    named.map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stack(name: &str, tag: &str, status: &str) -> Value {
        json!({"StackName": name, "StackStatus": status, "Tags": [{"Key": TAG, "Value": tag}]})
    }

    #[test]
    fn a_run_owns_a_stack_with_its_name_and_its_tag() {
        let names = Names { run: "0123abcd".to_owned() };
        for name in [names.guard(), names.service(), names.consumer()] {
            assert_eq!(owner(&stack(&name, "0123abcd", "CREATE_COMPLETE")), Some(names.clone()));
        }
    }

    #[test]
    fn a_run_owns_no_other_stack() {
        let ours = "privatelink-guard-verify-0123abcd";
        assert_eq!(owner(&stack(ours, "ffffffff", "CREATE_COMPLETE")), None, "another run's tag");
        assert_eq!(owner(&json!({"StackName": ours, "StackStatus": "CREATE_COMPLETE"})), None, "no tag");
        for name in ["privatelink-guard", "privatelink-guard-verify", "privatelink-guard-verify-0123abcd-x"] {
            assert_eq!(owner(&stack(name, "0123abcd", "CREATE_COMPLETE")), None, "{name}");
        }
    }

    #[test]
    fn a_change_set_that_was_never_executed_has_no_tag_yet() {
        let stack = json!({"StackName": "privatelink-guard-verify-0123abcd", "StackStatus": "REVIEW_IN_PROGRESS"});
        assert!(owner(&stack).is_some());
    }
}
