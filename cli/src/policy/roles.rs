//! `policy --role`: what a role of the stack needs, for those who create it themselves.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use regex_lite::Regex;
use serde_json::{Value, json};

use super::partition;
use super::template::{Stack, Template};
use crate::BadUsage;
use crate::args::{AwsArgs, GuardRole, PolicyArgs};
use crate::session::Session;
use crate::stack::DeployedStack;

/// template.yaml and infra/chat.yaml, as `make docs` extracts them.
const TEMPLATES: &str = include_str!("roles.json");

/// CloudFormation cuts the stack's name where a made-up name would be longer than the 64 characters of a function's, of
/// which the longest, connection-acceptor's, takes 33 for itself. Then no pattern is sure to match.
const LONGEST_STACK_NAME: usize = 31;

/// The document: what the role may do or, with `--trust`, who may assume it.
///
/// # Errors
/// If a value is not allowed, the stack cannot be read, or it has no such role.
pub async fn document(aws: &AwsArgs, arguments: &PolicyArgs, role: GuardRole) -> Result<Value> {
    let templates: Value = serde_json::from_str(TEMPLATES)?;
    let content = &templates[if role == GuardRole::Chat { "infra/chat.yaml" } else { "template.yaml" }];
    check(&templates["template.yaml"]["Parameters"], &arguments.set)?;
    let mut stack = stack(aws, arguments).await?;
    // It is about the roles that the stack would create.
    stack.parameters.retain(|name, _| !name.ends_with("RoleArn"));
    let template = Template::new(content, &stack)?;
    let statements = if arguments.trust { trust(&template, role)? } else { permissions(&template, role)? };
    Ok(json!({"Version": "2012-10-17", "Statement": merged(statements)?}))
}

impl GuardRole {
    /// The roles in the template that it stands for, by their logical ids.
    fn resources(self) -> &'static [&'static str] {
        match self {
            Self::ConnectionAcceptor => &["ConnectionAcceptorRole"],
            Self::HealthWatcher => &["HealthWatcherRole"],
            Self::DriftWatcher => &["DriftWatcherRole"],
            Self::TargetFollower => &["TargetFollowerRole"],
            Self::Schedules => &[
                "ConnectionAcceptorScheduleRole",
                "HealthWatcherScheduleRole",
                "DriftWatcherScheduleRole",
                "TargetFollowerScheduleRole",
            ],
            Self::AlarmOver => &["AlarmOverRole"],
            Self::Chat => &["Role"],
        }
    }
}

/// The stack: the deployed one, or with `--account` one that is not deployed yet. `--set` changes its parameters.
async fn stack(aws: &AwsArgs, arguments: &PolicyArgs) -> Result<Stack> {
    let name = arguments.stack.clone();
    ensure!(
        name.len() <= LONGEST_STACK_NAME,
        BadUsage(format!(
            "the stack's name has {} characters. CloudFormation shortens the names of its resources if it has more than \
             {LONGEST_STACK_NAME}, so the policy of a role of your own could not name them",
            name.len()
        ))
    );
    let given = arguments.set.iter().cloned();
    if let Some(account) = &arguments.account {
        let region = aws.region.clone().context(BadUsage("with --account, give --region".to_owned()))?;
        let parameters: BTreeMap<String, String> = given.collect();
        ensure!(
            parameters.contains_key("EndpointServiceIds"),
            BadUsage("with --account, give --set EndpointServiceIds=<vpce-svc-…>".to_owned())
        );
        let partition = partition(Some(&region)).to_owned();
        return Ok(Stack { name, partition, region, account: account.clone(), parameters });
    }
    let session = Session::open(aws).await?;
    let deployed = DeployedStack::read(&session, &name).await.map_err(|error| {
        anyhow!(
            "{error:#} If it is not deployed yet, give --account, --region and --set EndpointServiceIds=<vpce-svc-…>."
        )
    })?;
    let account = session.identity().await?.account;
    let partition = partition(Some(&session.region)).to_owned();
    let parameters = deployed.parameters.into_iter().chain(given).collect();
    Ok(Stack { name, partition, region: session.region, account, parameters })
}

/// Refuses what CloudFormation would refuse.
fn check(definitions: &Value, given: &[(String, String)]) -> Result<()> {
    for (name, value) in given {
        let Some(definition) = definitions.get(name) else {
            return Err(BadUsage(format!("there is no parameter {name}; docs/parameters.md lists them")).into());
        };
        let pattern = definition["AllowedPattern"].as_str().map(|pattern| Regex::new(&format!("^(?:{pattern})$")));
        let (pattern, is_list) = (pattern.transpose()?, definition["Type"] == "CommaDelimitedList");
        let fits = |item: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(item));
        let fit = if is_list { value.split(',').all(|item| fits(item.trim())) } else { fits(value) };
        let is_allowed = definition["AllowedValues"].as_array().is_none_or(|allowed| {
            allowed
                .iter()
                .any(|allowed| allowed.as_str().map_or_else(|| allowed.to_string(), ToOwned::to_owned) == *value)
        });
        let limit = definition["ConstraintDescription"].as_str().unwrap_or("is not allowed");
        ensure!(fit && is_allowed, BadUsage(format!("{name}={value} {limit}")));
    }
    Ok(())
}

/// Who may assume the role.
fn trust(template: &Template<'_>, role: GuardRole) -> Result<Vec<Value>> {
    let mut statements = Vec::new();
    for (_, properties) in created(template, role)? {
        statements.extend(statements_of(&properties["AssumeRolePolicyDocument"])?);
    }
    Ok(statements)
}

/// What the role may do, by its own policies and by those that name it.
fn permissions(template: &Template<'_>, role: GuardRole) -> Result<Vec<Value>> {
    let mut statements = Vec::new();
    for (name, properties) in created(template, role)? {
        for policy in properties["Policies"].as_array().into_iter().flatten() {
            statements.extend(statements_of(&policy["PolicyDocument"])?);
        }
        for policy in properties["ManagedPolicyArns"].as_array().into_iter().flatten() {
            let managed = policy.as_str().map(|name| template.properties(name)).transpose()?.flatten();
            let managed = managed.with_context(|| format!("a managed policy of the template: {policy}"))?;
            statements.extend(statements_of(&managed["PolicyDocument"])?);
        }
        for policy in template.of_type("AWS::IAM::Policy")? {
            if policy["Roles"].as_array().is_some_and(|roles| roles.contains(&json!(name))) {
                statements.extend(statements_of(&policy["PolicyDocument"])?);
            }
        }
    }
    ensure!(!statements.is_empty(), BadUsage("this role needs no permissions, only --trust".to_owned()));
    Ok(statements)
}

/// The roles that the stack has with its parameters.
fn created(template: &Template<'_>, role: GuardRole) -> Result<Vec<(&'static str, Value)>> {
    let properties = role.resources().iter().map(|name| Ok((*name, template.properties(name)?)));
    let properties = properties.collect::<Result<Vec<_>>>()?;
    let created: Vec<_> = properties.into_iter().filter_map(|(name, properties)| Some((name, properties?))).collect();
    let missing = || BadUsage(format!("with these parameters, the stack has no role {}", role.resources().join(", ")));
    if created.is_empty() { Err(missing().into()) } else { Ok(created) }
}

fn statements_of(document: &Value) -> Result<Vec<Value>> {
    document["Statement"].as_array().cloned().with_context(|| format!("no list of statements: {document}"))
}

/// Statements that differ only in their resources become one: a policy has a limited size.
fn merged(statements: Vec<Value>) -> Result<Vec<Value>> {
    let mut result: Vec<(Value, Vec<Value>)> = Vec::new();
    for mut statement in statements {
        let resources = match statement.as_object_mut().context("a statement is an object")?.remove("Resource") {
            Some(Value::Array(resources)) => resources,
            resource => Vec::from_iter(resource),
        };
        match result.iter_mut().find(|(other, _)| *other == statement) {
            Some((_, known)) => {
                let new: Vec<Value> = resources.into_iter().filter(|resource| !known.contains(resource)).collect();
                known.extend(new);
            }
            None => result.push((statement, resources)),
        }
    }
    let with_resources = |(mut statement, mut resources): (Value, Vec<Value>)| {
        match resources.len() {
            0 => {}
            1 => statement["Resource"] = resources.remove(0),
            _ => statement["Resource"] = resources.into(),
        }
        statement
    };
    Ok(result.into_iter().map(with_resources).collect())
}
