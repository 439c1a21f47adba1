//! The guard's stack, built and deployed with SAM from the repository's template.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::company::DBT_CIDR;
use crate::local_aws::{Caller, LocalAws, list, quoted};
use crate::top;
use crate::{COMPANY, DBT};

/// The address for alert emails.
pub const EMAIL: &str = "network-admins@example.com";

/// A function of the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardFunction {
    /// Accepts dbt's connection requests.
    ConnectionAcceptor,
    /// Watches target health.
    HealthWatcher,
    /// Watches configuration drift.
    DriftWatcher,
    /// Makes targets the addresses of their hostname; only in stacks whose parameter `FollowHostnames` is not `never`.
    TargetFollower,
}

impl GuardFunction {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ConnectionAcceptor, Self::HealthWatcher, Self::DriftWatcher, Self::TargetFollower];

    /// Those that every stack has.
    pub const ALWAYS: [Self; 3] = [Self::ConnectionAcceptor, Self::HealthWatcher, Self::DriftWatcher];

    /// The function's logical id in the template.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionAcceptor => "ConnectionAcceptor",
            Self::HealthWatcher => "HealthWatcher",
            Self::DriftWatcher => "DriftWatcher",
            Self::TargetFollower => "TargetFollower",
        }
    }

    /// The last part of the log group's name.
    pub fn log_name(self) -> &'static str {
        match self {
            Self::ConnectionAcceptor => "connection-acceptor",
            Self::HealthWatcher => "health-watcher",
            Self::DriftWatcher => "drift-watcher",
            Self::TargetFollower => "target-follower",
        }
    }
}

/// The event of a function's schedule.
pub fn scheduled_event() -> Value {
    json!({"source": "aws.events", "detail-type": "Scheduled Event"})
}

/// A deployed stack.
#[derive(Debug, Clone)]
pub struct GuardStack {
    /// The stack's outputs.
    pub outputs: BTreeMap<String, String>,
}

/// The output folder of `sam build`.
const BUILT: &str = "target/local-aws/build";

/// Builds the functions for this machine, once for all stacks.
pub fn build(aws: &LocalAws) -> Result<()> {
    // Once per process: SAM first empties the folder, and another test may be deploying from it.
    static BUILD: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILD.get_or_init(|| {
        let mut sam = aws.command(&Caller::root(COMPANY), "sam", "sam");
        sam.args(["build", "--build-dir", BUILT]).env("LOCAL", "1");
        run(sam, "sam build").and_then(|()| zip_functions()).map_err(|error| format!("{error:#}"))
    });
    built.clone().map_err(anyhow::Error::msg)
}

/// Zips the functions once, fast: `sam deploy` would zip them for each stack, at seven seconds of a core each time.
fn zip_functions() -> Result<()> {
    let template = top().join(BUILT).join("template.yaml");
    let mut text = std::fs::read_to_string(&template)?;
    for function in GuardFunction::ALL.map(GuardFunction::as_str) {
        let mut zip = Command::new("zip");
        zip.args(["-1", "-q", "-j", &format!("{BUILT}/{function}.zip"), &format!("{BUILT}/{function}/bootstrap")]);
        run(zip, "zip")?;
        text = text.replace(&format!("CodeUri: {function}\n"), &format!("CodeUri: {function}.zip\n"));
    }
    Ok(std::fs::write(template, text)?)
}

impl GuardStack {
    /// Deploys or updates the stack `name`, which guards `services` for dbt's account, with these extra parameters.
    pub fn deploy(aws: &LocalAws, name: &str, services: &[&str], parameters: &[(&str, &str)]) -> Result<Self> {
        let root = Caller::root(COMPANY);
        let mut overrides = vec![
            format!("EndpointServiceIds={}", services.join(",")),
            format!("DbtPrincipals=arn:aws:iam::{DBT}:root"),
            format!("AlertEmail={EMAIL}"),
            "SlackWorkspaceId=T0123ABCD".to_owned(),
            "SlackChannelId=C0123ABCD".to_owned(),
            format!("DbtCidrs={DBT_CIDR}"),
        ];
        if parameters.iter().all(|(name, _)| *name != "ListenerPorts") {
            overrides.push("ListenerPorts=5432".to_owned());
        }
        overrides.extend(parameters.iter().map(|(name, value)| format!("{name}=\"{value}\"")));
        let mut sam = aws.command(&root, "sam", "sam");
        // Seconds between polls. SAM's default suits AWS, where a deployment takes minutes.
        sam.env("SAM_CLI_POLL_DELAY", "0.2");
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
        let described = aws.aws(&root, &format!("cloudformation describe-stacks --stack-name {name}"))?;
        let stack = Self { outputs: outputs(&described["Stacks"][0]) };
        stack.output("AlertTopicArn")?;
        Ok(stack)
    }

    /// One of the stack's outputs.
    pub fn output(&self, key: &str) -> Result<&str> {
        self.outputs.get(key).map(String::as_str).with_context(|| format!("the stack has no output {key}"))
    }

    /// The physical name of a function.
    pub fn name_of(&self, function: GuardFunction) -> Result<&str> {
        self.output(&format!("{}Name", function.as_str()))
    }

    /// Invokes a function and returns the error message of a failed run.
    pub fn invoke(&self, aws: &LocalAws, function: GuardFunction, event: &Value) -> Result<Option<String>> {
        static INVOCATIONS: AtomicUsize = AtomicUsize::new(0);
        let number = INVOCATIONS.fetch_add(1, Ordering::Relaxed);
        let file = top().join(format!("target/local-aws/invocation-{}-{number}.json", std::process::id()));
        let payload = format!("--payload {} {}", quoted(event), quoted(&file.display()));
        let invoke = format!("lambda invoke --function-name {} {payload}", self.name_of(function)?);
        let answer = aws.aws(&Caller::root(COMPANY), &invoke)?;
        let payload: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        std::fs::remove_file(file)?;
        Ok(answer.get("FunctionError").map(|_| payload["errorMessage"].as_str().unwrap_or_default().to_owned()))
    }

    /// Sets the function's timeout, after which Lambda kills a run.
    pub fn set_timeout(&self, aws: &LocalAws, function: GuardFunction, timeout: Duration) -> Result<()> {
        let update = format!("lambda update-function-configuration --function-name {}", self.name_of(function)?);
        aws.aws(&Caller::root(COMPANY), &format!("{update} --timeout {}", timeout.as_secs())).map(drop)
    }

    /// Sets an environment variable of a function, as a changed parameter does.
    pub fn set_variable(&self, aws: &LocalAws, function: GuardFunction, variable: &str, value: &str) -> Result<()> {
        let (root, name) = (Caller::root(COMPANY), self.name_of(function)?);
        let get = format!("lambda get-function-configuration --function-name {name} --query Environment");
        let mut environment = aws.aws(&root, &get)?;
        environment["Variables"][variable] = value.into();
        let update = format!("lambda update-function-configuration --function-name {name}");
        aws.aws(&root, &format!("{update} --environment {}", quoted(&environment))).map(drop)
    }

    /// Runs a function as its schedule does.
    pub fn run(&self, aws: &LocalAws, function: GuardFunction) -> Result<()> {
        let error = self.invoke(aws, function, &scheduled_event())?;
        ensure!(error.is_none(), "{function:?} ended in error: {error:?}");
        Ok(())
    }

    /// Runs a function as its schedule does and returns its error message.
    pub fn failing_run(&self, aws: &LocalAws, function: GuardFunction) -> Result<String> {
        let error = self.invoke(aws, function, &scheduled_event())?;
        error.with_context(|| format!("{function:?} did not end in error"))
    }
}

/// The outputs of a stack, as CloudFormation describes it.
pub fn outputs(stack: &Value) -> BTreeMap<String, String> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list(&stack["Outputs"]).map(|output| (word(&output["OutputKey"]), word(&output["OutputValue"]))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo sets variables about this test's package; they must not change what cargo compiles for `sam build`.
    #[test]
    fn a_build_does_not_depend_on_the_package_that_starts_it() -> Result<()> {
        ensure!(std::env::var_os("CARGO_PKG_NAME").is_some(), "cargo runs this test");
        let printed = Command::new("make").args(["--eval", "probe: ; @env", "probe"]).current_dir(top()).output()?;
        let variables = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(variables.contains("SAM_CLI_TELEMETRY=0"), "{variables}");
        assert!(!variables.contains("CARGO_PKG_") && !variables.contains("CARGO_MANIFEST_"), "{variables}");
        Ok(())
    }
}
