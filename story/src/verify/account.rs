//! An account, reached with a profile of the AWS CLI.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::aws_cli;
use crate::local_aws::{quoted, text};
use crate::{tool, top};

/// An account and its caller.
#[derive(Debug, Clone)]
pub struct Account {
    /// The AWS CLI's profile.
    pub profile: String,
    /// The Region.
    pub region: String,
    /// Twelve digits.
    pub id: String,
    /// The caller, as CloudTrail names it.
    pub caller: String,
    /// The profile's endpoint for AWS: a local AWS.
    pub endpoint: Option<String>,
}

/// Credential variables of the environment, which would override a profile.
const CREDENTIALS: [&str; 4] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_PROFILE"];

impl Account {
    /// Asks AWS for the profile's account.
    pub fn open(profile: &str, region: Option<&str>) -> Result<Self> {
        let region = match region {
            Some(region) => region.to_owned(),
            None => setting(profile, "region").with_context(|| {
                format!("the profile {profile} has no Region. Name one: make verify REGION=eu-central-1 PROFILE=…")
            })?,
        };
        let endpoint = setting(profile, "endpoint_url");
        let mut account =
            Self { profile: profile.to_owned(), region, endpoint, id: String::new(), caller: String::new() };
        let caller = account.aws("sts get-caller-identity").with_context(|| {
            format!("AWS does not accept the profile {profile}; sign in first, for example: aws sso login --profile {profile}")
        })?;
        (account.id, account.caller) = (text(&caller, "/Account")?, text(&caller, "/Arn")?);
        Ok(account)
    }

    /// Whether the account is on this machine. Then a run proves nothing about AWS.
    pub fn is_local(&self) -> bool {
        let local =
            |endpoint: &String| endpoint.starts_with("http://127.0.0.1") || endpoint.starts_with("http://localhost");
        self.endpoint.as_ref().is_some_and(local)
    }

    /// The partition: `aws`, `aws-cn`, …
    pub fn partition(&self) -> &str {
        self.caller.split(':').nth(1).unwrap_or("aws")
    }

    /// Runs a command line of the AWS CLI and returns its output.
    pub fn aws(&self, line: &str) -> Result<Value> {
        aws_cli::call(self.endpoint.as_deref(), line, &self.environment())
    }

    /// Runs `infra/deploy.py`, as `make deploy` does, with these settings on top of the environment's. It writes to a
    /// log; `stop` ends it.
    pub fn deploy(&self, settings: &[(&str, String)], log: &Path, stop: impl Fn() -> bool) -> Result<()> {
        let mut deploy = self.command(&tool("aws", "python"));
        deploy.arg(top().join("infra/deploy.py")).current_dir(top()).stdin(Stdio::null());
        deploy.envs(settings.iter().map(|(name, value)| (name, value)));
        deploy.env("PROFILE", &self.profile).env("REGION", &self.region).env("YES", "1");
        let output = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        let mut child = deploy.stdout(output.try_clone()?).stderr(output).spawn()?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if stop() {
                // The whole process group: an upload that goes on would fill the bucket that the teardown empties next.
                Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
                child.wait()?;
                return Err(crate::stage::Interrupted.into());
            }
            thread::sleep(Duration::from_millis(100));
        };
        let printed = std::fs::read_to_string(log)?;
        let last: Vec<&str> = printed.lines().rev().take(15).collect();
        ensure!(status.success(), "make deploy failed:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        Ok(())
    }

    /// A program with this account's credentials. Ctrl-C does not reach it, so that its work ends or is undone in
    /// order.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for name in CREDENTIALS {
            command.env_remove(name);
        }
        command.envs(self.environment()).process_group(0);
        command
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let here = aws_cli::inherited().filter(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
        let ours = [
            ("AWS_PROFILE", self.profile.as_str()),
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region),
            ("AWS_DEFAULT_OUTPUT", "json"),
            ("AWS_PAGER", ""),
        ];
        here.chain(ours.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    }
}

/// A setting of a profile.
fn setting(profile: &str, name: &str) -> Option<String> {
    let get = format!("configure get {name} --profile {}", quoted(&profile));
    let done = aws_cli::run(&get, &aws_cli::inherited().collect()).ok()?;
    let value = done.stdout.trim();
    (done.status == 0 && !value.is_empty()).then(|| value.to_owned())
}
