//! The teardown: removes a run's resources in reverse order and lists the leftovers. It touches nothing without the
//! run's own tag.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::account::Account;
use super::stacks::{self, Names, TAG};
use crate::local_aws::{list, poll_every};
use crate::stage::{Limits, Party};

/// The accounts by party.
pub type Accounts = BTreeMap<Party, Account>;

/// A leftover, and the command that removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The resource.
    pub what: String,
    /// The command that removes it.
    pub command: String,
}

/// A step of the teardown and its outcome.
#[derive(Debug)]
pub struct Removal {
    /// The resource.
    pub what: String,
    /// Whether the removal succeeded.
    pub result: Result<()>,
}

/// The runs with leftovers in these accounts.
pub fn runs(accounts: &Accounts) -> Result<Vec<Names>> {
    let mut found = Vec::new();
    for account in accounts.values() {
        found.extend(stacks::of_all_runs(account)?.into_iter().map(|(names, _)| names));
        found.extend(endpoints(account, None)?.into_iter().map(|(run, _)| Names { run }));
    }
    found.sort_by(|one, other| one.run.cmp(&other.run));
    found.dedup();
    Ok(found)
}

/// Removes all of a run's resources; a failure does not stop it. `say` receives the next step.
pub fn remove(accounts: &Accounts, names: &Names, limits: Limits, mut say: impl FnMut(&str)) -> Vec<Removal> {
    let mut removals = Vec::new();
    let mut step = |what: String, remove: &dyn Fn() -> Result<()>| {
        say(&what);
        let result = remove();
        removals.push(Removal { what, result });
    };
    let consumers = || accounts.iter().rev().filter(|(party, _)| **party != Party::Provider);
    for (_, account) in consumers() {
        step(format!("the endpoint in account {}", account.id), &|| delete_endpoints(account, names, limits));
    }
    for (_, account) in consumers() {
        step(format!("the network in account {}", account.id), &|| {
            stacks::delete(account, names, &names.consumer(), limits)
        });
    }
    if let Some(provider) = accounts.get(&Party::Provider) {
        step("the guard".to_owned(), &|| stacks::delete(provider, names, &names.guard(), limits));
        step("the endpoint service and what is behind it".to_owned(), &|| delete_service(provider, names, limits));
    }
    removals
}

/// The leftovers of a run, with the commands that remove them.
pub fn left(accounts: &Accounts, names: &Names) -> Result<Vec<Left>> {
    let mut left = Vec::new();
    for account in accounts.values() {
        let options = format!("--region {} --profile {}", account.region, account.profile);
        for (run, endpoint) in endpoints(account, Some(names))? {
            let command = format!("aws ec2 delete-vpc-endpoints --vpc-endpoint-ids {endpoint} {options}");
            left.push(Left { what: format!("endpoint {endpoint} of run {run}"), command });
        }
        for (owner, stack) in stacks::of_all_runs(account)?.into_iter().filter(|(owner, _)| owner == names) {
            let command = format!("aws cloudformation delete-stack --stack-name {} {options}", stack.name);
            left.push(Left { what: format!("stack {} of run {}, {}", stack.name, owner.run, stack.status), command });
        }
    }
    Ok(left)
}

/// The existing endpoints with a run's tag: the run and the id of each.
fn endpoints(account: &Account, names: Option<&Names>) -> Result<Vec<(String, String)>> {
    let filter = match names {
        Some(names) => format!("Name=tag:{TAG},Values={}", names.run),
        None => format!("Name=tag-key,Values={TAG}"),
    };
    let answer = account.aws(&format!("ec2 describe-vpc-endpoints --filters {filter}"))?;
    let is_there =
        |endpoint: &&Value| endpoint["State"].as_str().is_some_and(|state| !state.eq_ignore_ascii_case("deleted"));
    let endpoints = list(&answer["VpcEndpoints"]).filter(is_there);
    Ok(endpoints.filter_map(|endpoint| Some((run_of(endpoint)?, id_of(endpoint)?))).collect())
}

fn id_of(endpoint: &Value) -> Option<String> {
    endpoint["VpcEndpointId"].as_str().map(ToOwned::to_owned)
}

fn run_of(endpoint: &Value) -> Option<String> {
    list(&endpoint["Tags"]).find(|tag| tag["Key"] == TAG)?["Value"].as_str().map(ToOwned::to_owned)
}

fn delete_endpoints(account: &Account, names: &Names, limits: Limits) -> Result<()> {
    let own: Vec<String> = endpoints(account, Some(names))?.into_iter().map(|(_, endpoint)| endpoint).collect();
    if own.is_empty() {
        return Ok(());
    }
    account.aws(&format!("ec2 delete-vpc-endpoints --vpc-endpoint-ids {}", own.join(" ")))?;
    poll_every(limits.poll, limits.stack, "the endpoints to be deleted", || {
        Ok(endpoints(account, Some(names))?.is_empty().then_some(()))
    })
}

/// Deletes the service's stack. It first removes what the stack cannot delete by itself: connections of accounts that
/// cannot be reached, listeners that a chapter created again outside the stack, and the code in the bucket.
fn delete_service(provider: &Account, names: &Names, limits: Limits) -> Result<()> {
    let Some(stack) = stacks::of_run(provider, names, &names.service())? else { return Ok(()) };
    let prepared = prepare(provider, &stack.outputs);
    stacks::delete(provider, names, &names.service(), limits)
        .with_context(|| prepared.err().map_or_else(String::new, |error| format!("{error:#}")))
}

/// The stack's outputs name only what the stack created.
fn prepare(provider: &Account, outputs: &BTreeMap<String, String>) -> Result<()> {
    if let Some(service) = outputs.get("ServiceId") {
        reject_connections(provider, service)?;
    }
    if let Some(load_balancer) = outputs.get("LoadBalancerArn") {
        delete_listeners(provider, load_balancer)?;
    }
    if let Some(bucket) = outputs.get("Bucket") {
        provider.aws(&format!("s3 rm s3://{bucket} --recursive --quiet"))?;
    }
    Ok(())
}

fn reject_connections(provider: &Account, service: &str) -> Result<()> {
    const OVER: [&str; 5] = ["rejected", "failed", "expired", "deleting", "deleted"];
    let filter = format!("Name=service-id,Values={service}");
    let answer = provider.aws(&format!("ec2 describe-vpc-endpoint-connections --filters {filter}"))?;
    let is_open = |connection: &&Value| {
        let state = connection["VpcEndpointState"].as_str().unwrap_or_default();
        !OVER.iter().any(|over| over.eq_ignore_ascii_case(state))
    };
    let open: Vec<String> = list(&answer["VpcEndpointConnections"]).filter(is_open).filter_map(id_of).collect();
    if open.is_empty() {
        return Ok(());
    }
    let reject = format!("ec2 reject-vpc-endpoint-connections --service-id {service}");
    provider.aws(&format!("{reject} --vpc-endpoint-ids {}", open.join(" "))).map(drop)
}

fn delete_listeners(provider: &Account, load_balancer: &str) -> Result<()> {
    let Ok(answer) = provider.aws(&format!("elbv2 describe-listeners --load-balancer-arn {load_balancer}")) else {
        return Ok(()); // a first attempt has deleted the load balancer
    };
    for listener in list(&answer["Listeners"]).filter_map(|listener| listener["ListenerArn"].as_str()) {
        provider.aws(&format!("elbv2 delete-listener --listener-arn {listener}"))?;
    }
    Ok(())
}
