//! The deployed guard's stack: its settings and its table.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use aws_config::Region;
use aws_sdk_cloudformation::types as cloudformation;
use guard_aws::concurrently;
use guard_aws::errors::call_error;
use jiff::Timestamp;

use crate::session::{Session, explained};

/// CloudFormation's error code for a name without a stack, and for a name that no stack can have.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html>
const NO_SUCH_STACK: &str = "ValidationError";

/// A deployed stack: its state, parameters and outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployedStack {
    /// CloudFormation's word for its state: `UPDATE_COMPLETE`, …
    pub status: String,
    /// When it was last deployed.
    pub deployed_at: Option<Timestamp>,
    /// The parameters, by their names in the template.
    pub parameters: BTreeMap<String, String>,
    /// The outputs.
    pub outputs: BTreeMap<String, String>,
}

impl DeployedStack {
    /// Reads the stack `name`.
    ///
    /// # Errors
    /// If there is no such stack in this account and Region, or if it cannot be read.
    pub async fn read(session: &Session, name: &str) -> Result<Self> {
        let client = aws_sdk_cloudformation::Client::new(&session.config);
        let answer = match client.describe_stacks().stack_name(name).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = call_error("cloudformation:DescribeStacks", &error);
                bail!(match error.code() {
                    Some(NO_SUCH_STACK) => missing(&client, name, session).await,
                    _ if error.is_denied() => {
                        format!(
                            "{} Is {name} the name of the guard's stack? The policy is for one name.",
                            explained(&error)
                        )
                    }
                    _ => explained(&error),
                })
            }
        };
        let stack = answer.stacks().first().with_context(|| format!("CloudFormation did not describe {name}."))?;
        let parameter = |row: &cloudformation::Parameter| {
            Some((row.parameter_key()?.to_owned(), row.parameter_value()?.to_owned()))
        };
        let output =
            |row: &cloudformation::Output| Some((row.output_key()?.to_owned(), row.output_value()?.to_owned()));
        let deployed_at = stack.last_updated_time().or(stack.creation_time());
        Ok(Self {
            status: stack.stack_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            deployed_at: deployed_at.and_then(|time| Timestamp::from_second(time.secs()).ok()),
            parameters: stack.parameters().iter().filter_map(parameter).collect(),
            outputs: stack.outputs().iter().filter_map(output).collect(),
        })
    }

    /// One of the stack's outputs.
    ///
    /// # Errors
    /// If the stack has no output of this name, and so is not the guard's.
    pub fn output(&self, key: &str) -> Result<&str> {
        let value = self.outputs.get(key).map(String::as_str);
        value.with_context(|| match self.outputs.is_empty() && self.parameters.contains_key("EndpointServiceIds") {
            true => format!(
                "The stack is {}: the guard is not deployed, and does not work. The stack's CloudFormation events say \
                 why. Deploy it again.",
                self.status
            ),
            false => format!("The stack has no output {key}: is it a stack of privatelink-guard?"),
        })
    }
}

/// The reason why there is no stack `name` here: it is in another Region, or it was deleted, which CloudFormation
/// remembers for 90 days.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ListStacks.html>
async fn missing(client: &aws_sdk_cloudformation::Client, name: &str, session: &Session) -> String {
    let (deleted_at, elsewhere) = tokio::join!(deleted_at(client, name), regions_with(name, session));
    match (&elsewhere[..], deleted_at) {
        ([], None) => format!("There is no stack {name} in {}. Is it another profile or account?", session.region),
        ([], Some(at)) => {
            format!("The stack {name} was deleted at {at:.0}: nothing guards its endpoint services. Deploy it again.")
        }
        ([region, ..], _) => format!(
            "There is no stack {name} in {}. There is one in {}: add --region {region}.",
            session.region,
            elsewhere.join(" and ")
        ),
    }
}

async fn deleted_at(client: &aws_sdk_cloudformation::Client, name: &str) -> Option<Timestamp> {
    let deleted = client.list_stacks().stack_status_filter(cloudformation::StackStatus::DeleteComplete);
    let mut pages = deleted.into_paginator().items().send();
    while let Some(Ok(row)) = pages.next().await {
        if row.stack_name() == Some(name) {
            return Timestamp::from_second(row.deletion_time()?.secs()).ok();
        }
    }
    None
}

/// The other Regions that have a stack `name`, as far as they answer.
async fn regions_with(name: &str, session: &Session) -> Vec<String> {
    let Ok(answer) = aws_sdk_ec2::Client::new(&session.config).describe_regions().send().await else {
        return Vec::new();
    };
    let regions = answer.regions().iter().filter_map(|region| region.region_name());
    let others = regions.filter(|region| *region != session.region).map(ToOwned::to_owned);
    let found = concurrently(others, async |region: String| {
        let config = session.config.to_builder().region(Region::new(region.clone())).build();
        let answer = aws_sdk_cloudformation::Client::new(&config).describe_stacks().stack_name(name).send().await;
        answer.is_ok().then_some(region)
    });
    found.await.into_iter().flatten().collect()
}
