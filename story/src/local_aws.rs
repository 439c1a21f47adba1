//! The local AWS as a process, and the AWS CLI with any caller's credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{COMPANY, REGION, aws_cli, tool, top};

/// A command's credentials. In the local AWS, an account's id is also its root user's access key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The access key.
    pub key: String,
    /// Its secret.
    pub secret: String,
}

impl Caller {
    /// The root user of an account.
    pub fn root(account: &str) -> Self {
        Self { key: account.to_owned(), secret: "test".to_owned() }
    }
}

/// Serves moto on a free port and prints the port as the local AWS does.
const MOTO: &str = "
import signal
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)
server.start()
print('moto ready on http://%s:%d' % server.get_host_and_port(), flush=True)
signal.pause()
";

/// A running local AWS. It stops, with all function processes, when this value is dropped or this process ends.
#[derive(Debug)]
pub struct LocalAws {
    port: u16,
    server: Child,
    /// Stops the server as soon as its standard input closes. `None`: the server keeps running.
    stopper: Option<Child>,
    /// The variables of a process whose resolver asks this AWS's DNS.
    resolver: BTreeMap<String, String>,
}

impl LocalAws {
    /// Starts a local AWS in which a minute of the schedules lasts `minute` seconds.
    pub fn start(minute: u32) -> Result<Self> {
        let mut server = Command::new(tool("aws", "python"));
        server
            .args(["-m", "local_aws", "serve", "--account", COMPANY, "--region", REGION])
            .args(["--minute", &minute.to_string()])
            .env("PYTHONPATH", top().join("local-aws"));
        let mut aws = Self::serve(server)?;
        aws.resolver = serde_json::from_value(aws.control("dns", &json!({}))?["environment"].take())?;
        Ok(aws)
    }

    /// Starts moto instead: an independent emulator, without control commands.
    pub fn moto() -> Result<Self> {
        let mut server = Command::new(tool("moto", "python"));
        // moto logs every request, and a stack trace for each unknown call.
        server.args(["-c", MOTO]).stderr(Stdio::null());
        // moto would issue a certificate only after a minute.
        server.env("MOTO_ACCOUNT_ID", COMPANY).env("MOTO_ACM_VALIDATION_WAIT", "-1");
        Self::serve(server)
    }

    fn serve(mut server: Command) -> Result<Self> {
        let mut server = server.stdout(Stdio::piped()).spawn().context("it does not start; run `make setup` first")?;
        let mut line = String::new();
        let output = server.stdout.take().context("it has a standard output")?;
        BufReader::new(output).read_line(&mut line)?;
        // Environments that flows share are never dropped, so the server must stop with this process, however that
        // ends.
        let stopper = Command::new("sh")
            .args(["-c", "read -r line; kill -TERM \"$0\"", &server.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()?;
        // The server takes a free port itself; a port found free here could be taken before the server starts.
        let port = line.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
        let aws = Self { port: port.unwrap_or_default(), server, stopper: Some(stopper), resolver: BTreeMap::new() };
        ensure!(line.contains("ready") && port.is_some(), "it did not become ready: {line}");
        Ok(aws)
    }

    /// Its address, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Lets the server outlive this value and this process.
    pub fn keep_running(&mut self) -> Result<()> {
        let Some(mut stopper) = self.stopper.take() else { return Ok(()) };
        stopper.kill()?;
        stopper.wait()?;
        Ok(())
    }

    /// Runs a command line of the AWS CLI, `ec2 describe-vpcs`, and returns its output.
    pub fn aws(&self, caller: &Caller, line: &str) -> Result<Value> {
        aws_cli::call(Some(&self.endpoint()), line, &self.environment(caller))
    }

    /// Creates a user with these policies alone.
    pub fn create_user(&self, account: &str, name: &str, policies: &[&str]) -> Result<Caller> {
        let run = |line: &str| self.aws(&Caller::root(account), line);
        run(&format!("iam create-user --user-name {name}"))?;
        for (number, policy) in policies.iter().enumerate() {
            let put = format!("iam put-user-policy --user-name {name} --policy-name policy-{number}");
            run(&format!("{put} --policy-document {}", quoted(policy)))?;
        }
        let key = run(&format!("iam create-access-key --user-name {name}"))?;
        Ok(Caller { key: text(&key, "/AccessKey/AccessKeyId")?, secret: text(&key, "/AccessKey/SecretAccessKey")? })
    }

    /// Runs a control command, for actions without an AWS API: the health of a target, a fault, a page size. The
    /// arguments are those of `python -m local_aws COMMAND`. The call skips Python, whose start is slow, since flows
    /// poll with it.
    pub fn control(&self, command: &str, arguments: &Value) -> Result<Value> {
        let body = arguments.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let length = body.len();
        write!(stream, "POST /_local/{command} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (head, answer) = response.split_once("\r\n\r\n").context("an HTTP response")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{command} {arguments}: {answer}");
        serde_json::from_str(answer).context("the answer is JSON")
    }

    /// The variables of a process whose resolver asks this AWS's DNS.
    pub fn resolver(&self) -> &BTreeMap<String, String> {
        &self.resolver
    }

    /// The IPv4 addresses for which a name stands in this AWS's DNS.
    pub fn resolve(&self, name: &str) -> Result<Vec<String>> {
        let found = Command::new("getent").args(["ahostsv4", name]).envs(&self.resolver).output()?;
        let found = String::from_utf8(found.stdout)?;
        let addresses: BTreeSet<&str> = found.lines().filter_map(|line| line.split_whitespace().next()).collect();
        Ok(addresses.into_iter().map(ToOwned::to_owned).collect())
    }

    /// Lets DNS answer with these addresses for a name, or fail: `nxdomain`, `empty`.
    pub fn answer_dns(&self, name: &str, answer: &[&str]) -> Result<()> {
        self.control("dns", &json!({"name": name, "answer": answer})).map(drop)
    }

    /// Makes calls of an action fail with this error, until [`LocalAws::clear_faults`].
    pub fn fail(&self, action: &str, code: &str, status: u16) -> Result<()> {
        self.control("fault", &json!({"action": action, "code": code, "status": status})).map(drop)
    }

    /// Makes calls of an action succeed but list their items as unsuccessful, until [`LocalAws::clear_faults`].
    pub fn fail_items(&self, action: &str, code: &str) -> Result<()> {
        self.control("fault", &json!({"action": action, "unsuccessful": code})).map(drop)
    }

    /// Delays the answers to an action's calls; zero ends the delay.
    pub fn delay_answers(&self, action: &str, delay: Duration) -> Result<()> {
        self.control("delay", &json!({"action": action, "answer": delay.as_secs_f64()})).map(drop)
    }

    /// Ends all faults.
    pub fn clear_faults(&self) -> Result<()> {
        self.control("fault", &json!({"clear": true})).map(drop)
    }

    /// Delays CloudTrail's delivery of all events from now on (`cloudtrail`), or the changes of connections in EC2's
    /// list (`connections`). Zero ends the delay and delivers the events held back.
    pub fn delay(&self, what: &str, delay: Duration) -> Result<()> {
        self.control("delay", &json!({what: delay.as_secs_f64()})).map(drop)
    }

    /// Limits every page of a list to `rows` rows; 0 removes the limit.
    pub fn set_page_size(&self, rows: u32) -> Result<()> {
        self.control("page-size", &json!({"size": rows})).map(drop)
    }

    /// Sets the algorithm of a certificate's key, as an import could.
    pub fn set_certificate_key(&self, certificate: &str, algorithm: &str) -> Result<()> {
        self.control("certificate", &json!({"certificate": certificate, "key_algorithm": algorithm})).map(drop)
    }

    /// Sets a certificate's expiry, in days from now.
    pub fn set_certificate_expiry(&self, certificate: &str, days: i64) -> Result<()> {
        let expiry = Timestamp::now() + SignedDuration::from_hours(24 * days + 1);
        self.control("certificate", &json!({"certificate": certificate, "not_after": expiry})).map(drop)
    }

    /// Sets AWS's values of a metric in the minutes before `end`, the last of which ends then.
    pub fn set_metric(
        &self,
        namespace: &str,
        metric: &str,
        dimensions: &[String],
        values: &[u64],
        end: Timestamp,
    ) -> Result<()> {
        let metric = json!({"namespace": namespace, "metric": metric, "dimensions": dimensions, "values": values,
            "end": end});
        self.control("metric", &metric).map(drop)
    }

    /// The finished invocations of all functions.
    pub fn invocations(&self) -> Result<Vec<Value>> {
        Ok(self.control("invocations", &json!({}))?.as_array().cloned().unwrap_or_default())
    }

    /// A tool of `.tools`, with the endpoint of this AWS and the caller's credentials.
    pub fn command(&self, caller: &Caller, set: &str, name: &str) -> Command {
        self.with_environment(Command::new(tool(set, name)), caller)
    }

    /// Runs a command line in a shell, with the pinned AWS CLI as `aws`.
    pub fn run_in_shell(&self, caller: &Caller, line: &str) -> Result<()> {
        aws_cli::run_in_shell(self.with_environment(Command::new("sh"), caller), line)
    }

    /// The command with this AWS's address and the caller's credentials.
    pub(crate) fn with_environment(&self, mut command: Command, caller: &Caller) -> Command {
        command.env_clear().envs(self.environment(caller));
        command
    }

    fn environment(&self, caller: &Caller) -> BTreeMap<String, String> {
        let here = aws_cli::inherited().filter(|(name, _)| !name.starts_with("AWS_"));
        let endpoint = self.endpoint();
        let ours = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", &caller.key),
            ("AWS_SECRET_ACCESS_KEY", &caller.secret),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_PAGER", ""),
            ("NO_PROXY", "127.0.0.1"),
            ("SAM_CLI_TELEMETRY", "0"),
        ];
        here.chain(ours.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    }
}

impl Drop for LocalAws {
    fn drop(&mut self) {
        let Some(mut stopper) = self.stopper.take() else { return };
        // Asked to stop, the server ends the functions' processes; std can only kill it.
        drop(stopper.stdin.take());
        let _ = stopper.wait();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if matches!(self.server.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The limit of a wait for the local AWS. It ends only hung waits: nothing takes that long, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Calls `poll` until it returns something.
pub fn eventually<T>(what: &str, poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    eventually_within(PATIENCE, what, poll)
}

/// [`eventually`] with a limit of its own.
pub fn eventually_within<T>(limit: Duration, what: &str, poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    poll_every(Duration::from_millis(100), limit, what, poll)
}

/// Calls `poll` at this interval until it returns something.
pub fn poll_every<T>(
    interval: Duration,
    limit: Duration,
    what: &str,
    mut poll: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = poll()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited {} s for {what}", limit.as_secs());
        thread::sleep(interval);
    }
}

/// Runs `task` for each number below `count`, all in parallel.
pub fn concurrently<T: Send>(count: usize, task: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let task = &task;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || task(number))).collect();
        let results: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        results.into_iter().map(|result| result.map_err(|_| anyhow!("a task panicked"))?).collect()
    })
}

/// A text as one word of a command line.
pub fn quoted(text: &impl Display) -> String {
    format!("'{}'", text.to_string().replace('\'', r"'\''"))
}

/// The elements of a JSON list; none if it is absent.
pub fn list(value: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// The text at a pointer in a JSON document.
pub fn text(document: &Value, pointer: &str) -> Result<String> {
    let found = document.pointer(pointer).and_then(Value::as_str);
    found.map(ToOwned::to_owned).with_context(|| format!("no {pointer} in {document}"))
}
