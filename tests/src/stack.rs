//! The guard's stack, built and deployed with SAM from the template as it stands.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::company::DBT_CIDR;
use crate::local_aws::{LocalAws, Who, top};
use crate::{COMPANY, DBT};

/// Where alert emails go.
pub const EMAIL: &str = "network-admins@example.com";

/// A deployed stack.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The stack's outputs.
    pub outputs: BTreeMap<String, String>,
}

/// The folder that `sam build` fills.
const BUILT: &str = "target/local-aws/build";

/// Builds the functions for this machine, once for all stacks.
///
/// # Errors
/// If SAM or the compiler fails.
pub fn build(aws: &LocalAws) -> Result<()> {
    // Whoever asks: SAM empties the folder first, from which another test may be deploying.
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        let mut sam = aws.command(&Who::account(COMPANY), "sam", "sam");
        sam.args(["build", "--build-dir", BUILT]).env("LOCAL", "1");
        run(sam, "sam build").map_err(|error| format!("{error:#}"))
    });
    done.clone().map_err(anyhow::Error::msg)
}

impl Stack {
    /// Deploys, or updates, the stack `name` to guard `services` for dbt's account, with these parameters besides.
    ///
    /// # Errors
    /// If SAM fails, or if the stack has not the outputs it should have.
    pub fn deploy(aws: &LocalAws, name: &str, services: &[&str], parameters: &[(&str, &str)]) -> Result<Self> {
        let root = Who::account(COMPANY);
        let mut overrides = vec![
            format!("EndpointServiceIds={}", services.join(",")),
            format!("DbtPrincipals=arn:aws:iam::{DBT}:root"),
            format!("AlertEmail={EMAIL}"),
            "SlackWorkspaceId=T0123ABCD".to_owned(),
            "SlackChannelId=C0123ABCD".to_owned(),
            "ListenerPorts=5432".to_owned(),
            format!("DbtCidrs={DBT_CIDR}"),
        ];
        overrides.extend(parameters.iter().map(|(name, value)| format!("{name}=\"{value}\"")));
        let mut sam = aws.command(&root, "sam", "sam");
        sam.args(["deploy", "--template-file", &format!("{BUILT}/template.yaml"), "--stack-name", name])
            .arg("--config-file")
            .arg(top().join("samconfig.toml"))
            .args([
                "--no-confirm-changeset",
                "--no-progressbar",
                "--no-fail-on-empty-changeset",
                "--parameter-overrides",
            ])
            .args(overrides);
        run(sam, "sam deploy")?;
        let described = aws.aws(&root, &["cloudformation", "describe-stacks", "--stack-name", name])?;
        let outputs = described.pointer("/Stacks/0/Outputs").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |output: &Value, key: &str| output[key].as_str().map(ToOwned::to_owned);
        let outputs =
            outputs.iter().filter_map(|output| Some((text(output, "OutputKey")?, text(output, "OutputValue")?)));
        let stack = Self { outputs: outputs.collect() };
        stack.output("AlertTopicArn")?;
        Ok(stack)
    }

    /// One of the stack's outputs.
    ///
    /// # Errors
    /// If the stack has no such output.
    pub fn output(&self, key: &str) -> Result<&str> {
        self.outputs.get(key).map(String::as_str).with_context(|| format!("the stack has no output {key}"))
    }

    /// Invokes a function by the output that holds its name, as its schedule would, and gives its error if it ends in
    /// one.
    ///
    /// # Errors
    /// If the invocation itself fails.
    pub fn invoke(&self, aws: &LocalAws, function: &str, event: &Value) -> Result<Option<String>> {
        self.invoke_as(aws, function, event, 0)
    }

    /// The same for run number `run` of several at the same time.
    ///
    /// # Errors
    /// As [`Stack::invoke`].
    pub fn invoke_as(&self, aws: &LocalAws, function: &str, event: &Value, run: usize) -> Result<Option<String>> {
        let out = top().join(format!("target/local-aws/{function}-{}-{run}.json", aws.pid()));
        let path = out.to_string_lossy().into_owned();
        #[rustfmt::skip]
        let answer = aws.aws(&Who::account(COMPANY), &["lambda", "invoke", "--function-name", self.output(function)?,
            "--payload", &event.to_string(), &path])?;
        let said: Value = serde_json::from_slice(&std::fs::read(out)?)?;
        Ok(answer.get("FunctionError").map(|_| said["errorMessage"].as_str().unwrap_or_default().to_owned()))
    }
}

fn run(mut command: Command, what: &str) -> Result<()> {
    let done =
        command.current_dir(top()).output().with_context(|| format!("{what} does not start; run `make setup`"))?;
    ensure!(
        done.status.success(),
        "{what} failed:\n{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}
