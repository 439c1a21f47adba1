//! The local AWS as a process, and the AWS CLI as whoever one wants to be.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{COMPANY, REGION};

/// The repository's top folder.
#[must_use]
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Somebody with credentials. In the local AWS an account's id is also its root user's access key.
#[derive(Debug, Clone)]
pub struct Who {
    key: String,
    secret: String,
}

impl Who {
    /// The root user of an account.
    #[must_use]
    pub fn account(id: &str) -> Self {
        Self { key: id.to_owned(), secret: "test".to_owned() }
    }

    /// Whoever has this access key.
    #[must_use]
    pub fn with_key(key: &str, secret: &str) -> Self {
        Self { key: key.to_owned(), secret: secret.to_owned() }
    }
}

/// A running local AWS. Ends, with all function processes, when dropped.
#[derive(Debug)]
pub struct LocalAws {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    /// Whether it goes on running when this is dropped.
    pub keep: bool,
    server: Child,
}

impl LocalAws {
    /// Starts one whose minutes last `minute` seconds, so that schedules need not be waited for.
    ///
    /// # Errors
    /// If it does not say that it is ready.
    pub fn start(minute: u32) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Command::new(tool("aws", "python"))
            .args(["-m", "local_aws", "serve", "--account", COMPANY, "--region", REGION])
            .args(["--port", &port.to_string(), "--minute", &minute.to_string()])
            .env("PYTHONPATH", top().join("tests/local-aws"))
            .stdout(Stdio::piped())
            .spawn()
            .context("the local AWS does not start; run `make setup` first")?;
        let mut line = String::new();
        let output = server.stdout.take().context("it has a standard output")?;
        BufReader::new(output).read_line(&mut line)?;
        let aws = Self { endpoint: format!("http://127.0.0.1:{port}"), keep: false, server };
        ensure!(line.contains("ready"), "the local AWS did not become ready: {line}");
        Ok(aws)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Runs the AWS CLI and gives what it prints.
    ///
    /// # Errors
    /// If the command fails, with what it said.
    pub fn aws(&self, who: &Who, arguments: &[&str]) -> Result<Value> {
        // Said twice: for SQS, the AWS CLI has an address of its own that AWS_ENDPOINT_URL does not replace.
        let mut aws = self.command(who, "aws", "aws");
        let done = aws.args(["--endpoint-url", &self.endpoint]).args(arguments).output()?;
        if !done.status.success() {
            bail!("aws {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        if done.stdout.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&done.stdout).context("the AWS CLI prints JSON")
    }

    /// Tells the local AWS what AWS has no call for: the health of a target, a fault, a page size.
    ///
    /// # Errors
    /// If it refuses.
    pub fn control(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = self.command(&Who::account(COMPANY), "aws", "python");
        command.args(["-m", "local_aws"]).args(arguments).env("PYTHONPATH", top().join("tests/local-aws"));
        let done = command.output()?;
        ensure!(
            done.status.success(),
            "local_aws {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&done.stderr).trim()
        );
        if done.stdout.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&done.stdout)?) }
    }

    /// A tool of `.tools`, told to talk to this AWS as `who` and to no other.
    #[must_use]
    pub fn command(&self, who: &Who, set: &str, name: &str) -> Command {
        self.equip(Command::new(tool(set, name)), who)
    }

    /// Runs a command line as a person would paste it, with the pinned AWS CLI as `aws`.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn paste(&self, who: &Who, line: &str) -> Result<()> {
        let mut shell = self.equip(Command::new("sh"), who);
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = tool("aws", "aws");
        let tools = tools.parent().context("the tools have a folder")?;
        let done = shell.env("PATH", format!("{}:{path}", tools.display())).args(["-ec", line]).output()?;
        ensure!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(())
    }

    fn equip(&self, mut command: Command, who: &Who) -> Command {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", &who.key)
            .env("AWS_SECRET_ACCESS_KEY", &who.secret)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_PAGER", "")
            .env("NO_PROXY", "127.0.0.1")
            .env("SAM_CLI_TELEMETRY", "0");
        command
    }
}

impl Drop for LocalAws {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // A request to end, so that it ends the functions' processes; std can only kill.
        let asked = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.server.id())]).status();
        if asked.is_ok_and(|status| status.success()) {
            let deadline = Instant::now() + Duration::from_secs(10);
            while Instant::now() < deadline {
                if matches!(self.server.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn tool(set: &str, name: &str) -> PathBuf {
    top().join(".tools").join(set).join("bin").join(name)
}

/// Asks until there is an answer.
///
/// # Errors
/// If there is none in `seconds`, naming `what` was waited for.
pub fn eventually<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A text in a JSON answer, by its pointer.
///
/// # Errors
/// If it is not there.
pub fn text(answer: &Value, pointer: &str) -> Result<String> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.map(ToOwned::to_owned).with_context(|| format!("no {pointer} in {answer}"))
}
