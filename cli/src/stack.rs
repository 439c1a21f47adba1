//! The deployed guard's stack: its settings and its table.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use aws_sdk_cloudformation::types as cloudformation;
use guard_aws::errors::call_error;

use crate::session::{Session, explained};

/// CloudFormation's error code for a name without a stack, and for a name that no stack can have.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html>
const NO_SUCH_STACK: &str = "ValidationError";

/// The parameters and outputs of a deployed stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployedStack {
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
        let answer = client.describe_stacks().stack_name(name).send().await.map_err(|error| {
            let error = call_error("cloudformation:DescribeStacks", &error);
            match error.code() {
                Some(NO_SUCH_STACK) => {
                    anyhow!("There is no stack {name} in {}. Is it another Region or profile?", session.region)
                }
                _ => anyhow!(explained(&error)),
            }
        })?;
        let stack = answer.stacks().first().with_context(|| format!("CloudFormation did not describe {name}."))?;
        let parameter = |row: &cloudformation::Parameter| {
            Some((row.parameter_key()?.to_owned(), row.parameter_value()?.to_owned()))
        };
        let output =
            |row: &cloudformation::Output| Some((row.output_key()?.to_owned(), row.output_value()?.to_owned()));
        Ok(Self {
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
        value.with_context(|| format!("The stack has no output {key}: is it a stack of privatelink-guard?"))
    }
}
