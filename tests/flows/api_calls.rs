//! The functions' calls, and the permissions of their roles.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use story::COMPANY;
use story::local_aws::{Caller, LocalAws, eventually, text};
use story::stack::{GuardFunction, GuardStack};

/// The actions that a function's role has called, such as `ec2:DescribeSubnets`, in order.
pub fn called(aws: &LocalAws, function: GuardFunction) -> Result<Vec<String>> {
    let list = aws.control("requests", &json!({"principal": format!("{}Role", function.as_str())}))?;
    let actions = list.as_array().into_iter().flatten();
    let actions = actions.filter_map(|request| Some((request["service"].as_str()?, request["action"].as_str()?)));
    Ok(actions.map(|(service, action)| format!("{service}:{action}")).collect())
}

/// The number of a role's calls of `action`.
pub fn count(aws: &LocalAws, function: GuardFunction, action: &str) -> Result<usize> {
    Ok(called(aws, function)?.iter().filter(|called| *called == action).count())
}

/// The number of calls of each action in one run of a function.
pub fn of_one_run(aws: &LocalAws, stack: &GuardStack, function: GuardFunction) -> Result<BTreeMap<String, usize>> {
    // Measured again if an earlier change started another run of the function that ended meanwhile.
    eventually(&format!("a run of {function:?} alone"), || {
        let (calls_before, runs_before) = (called(aws, function)?.len(), runs(aws, stack, function)?);
        stack.run(aws, function)?;
        let calls = called(aws, function)?.into_iter().skip(calls_before);
        let counts = calls.fold(BTreeMap::new(), |mut counts, action| {
            *counts.entry(action).or_default() += 1;
            counts
        });
        Ok((runs(aws, stack, function)? == runs_before + 1).then_some(counts))
    })
}

fn runs(aws: &LocalAws, stack: &GuardStack, function: GuardFunction) -> Result<usize> {
    let name = stack.name_of(function)?;
    Ok(aws.invocations()?.iter().filter(|run| run["function"] == name).count())
}

/// The actions that the policies of a function's role allow.
pub fn allowed(aws: &LocalAws, stack: &str, function: GuardFunction) -> Result<BTreeSet<String>> {
    let root = Caller::root(COMPANY);
    let role = format!("{}Role", function.as_str());
    let describe = format!("cloudformation describe-stack-resource --stack-name {stack} --logical-resource-id {role}");
    let resource = aws.aws(&root, &describe)?;
    let role = text(&resource, "/StackResourceDetail/PhysicalResourceId")?;
    let policies = policies(aws, &role)?;
    let statements = policies.iter().flat_map(|policy| list(&policy["Statement"]));
    let actions = statements.flat_map(|statement| list(&statement["Action"]));
    actions.map(|action| Ok(action.as_str().context("an action is a string")?.to_owned())).collect()
}

/// The policy documents of a role, inline and attached.
fn policies(aws: &LocalAws, role: &str) -> Result<Vec<Value>> {
    let run = |line: &str| aws.aws(&Caller::root(COMPANY), line);
    let mut documents = Vec::new();
    let inline = run(&format!("iam list-role-policies --role-name {role}"))?;
    for name in list(&inline["PolicyNames"]) {
        let name = name.as_str().context("a policy's name is a string")?;
        let policy = run(&format!("iam get-role-policy --role-name {role} --policy-name {name}"))?;
        documents.push(policy["PolicyDocument"].clone());
    }
    let attached = run(&format!("iam list-attached-role-policies --role-name {role}"))?;
    for policy in list(&attached["AttachedPolicies"]) {
        let arn = text(policy, "/PolicyArn")?;
        let version = text(&run(&format!("iam get-policy --policy-arn {arn}"))?, "/Policy/DefaultVersionId")?;
        let policy = run(&format!("iam get-policy-version --policy-arn {arn} --version-id {version}"))?;
        documents.push(policy["PolicyVersion"]["Document"].clone());
    }
    Ok(documents)
}

/// The elements of a JSON list; a single value counts as a list of one, as in IAM policies.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}
