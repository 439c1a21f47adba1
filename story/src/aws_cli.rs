//! The AWS CLI, loaded once for all calls of this process (`local-aws/local_aws/aws_cli.py`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{tool, top};

/// The outcome of a call.
#[derive(Debug)]
pub struct Done {
    /// The exit status.
    pub status: i64,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

/// Runs a command line of the AWS CLI, `ec2 describe-vpcs`, with quotation marks as in a shell, in this environment.
pub fn run(line: &str, environment: &BTreeMap<String, String>) -> Result<Done> {
    let mut call = UnixStream::connect(socket()?)?;
    call.write_all(json!({"line": line, "environment": environment}).to_string().as_bytes())?;
    call.shutdown(Shutdown::Write)?;
    let done: Value = serde_json::from_reader(call)?;
    let text = |field: &str| done[field].as_str().unwrap_or_default().to_owned();
    let status = done["status"].as_i64().context("an exit status")?;
    Ok(Done { status, stdout: text("stdout"), stderr: text("stderr") })
}

/// Runs a command line of the AWS CLI, against this endpoint if there is one, and returns its output.
pub fn call(endpoint: Option<&str>, line: &str, environment: &BTreeMap<String, String>) -> Result<Value> {
    // Also as an option: for SQS, the AWS CLI has an address of its own that no setting replaces.
    let option = endpoint.map_or_else(String::new, |address| format!("--endpoint-url {address} "));
    let done = run(&format!("{option}{line}"), environment)?;
    ensure!(done.status == 0, "aws {line}: {}", done.stderr.trim());
    match done.stdout.trim() {
        "" => Ok(Value::Null),
        printed => serde_json::from_str(printed).context("the AWS CLI prints JSON"),
    }
}

/// Runs a command line in a shell, with the pinned AWS CLI as `aws`.
pub fn run_in_shell(mut shell: Command, line: &str) -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = tool("aws", "aws");
    let tools = tools.parent().context("the tools have a folder")?;
    shell.env("PATH", format!("{}:{path}", tools.display())).args(["-ec", line]).stdin(Stdio::null());
    let done = shell.output()?;
    ensure!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

/// This process's variables that a call can receive, namely those that are text.
pub fn inherited() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The socket of the process that runs the calls. That process ends with this one, which holds its standard input.
fn socket() -> Result<&'static Path> {
    static SERVER: OnceLock<Result<(Child, PathBuf), String>> = OnceLock::new();
    let server = SERVER.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    server.as_ref().map(|(_, socket)| socket.as_path()).map_err(|error| anyhow::Error::msg(error.clone()))
}

fn start() -> Result<(Child, PathBuf)> {
    let mut server = Command::new(tool("aws", "python"))
        .args(["-m", "local_aws", "cli"])
        .env("PYTHONPATH", top().join("local-aws"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C does not reach it, since `make verify` must still remove what it created.
        .process_group(0)
        .spawn()
        .context("the AWS CLI does not start; run `make setup` first")?;
    let mut socket = String::new();
    BufReader::new(server.stdout.take().context("it has a standard output")?).read_line(&mut socket)?;
    Ok((server, socket.trim_end().into()))
}
