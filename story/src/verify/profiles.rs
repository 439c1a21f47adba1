//! The stage of `make verify`: AWS accounts, reached with the AWS CLI's profiles.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::account::Account;
use super::stacks::{self, Names, TAG};
use super::teardown::Accounts;
use crate::command;
use crate::stage::{Limits, Party, SentAlert, StoryStage};

/// The accounts, and the run's resources in them so far.
#[derive(Debug)]
pub struct Profiles {
    /// The accounts by party.
    pub accounts: Accounts,
    /// The names of the run's stacks.
    pub names: Names,
    /// The folder for the report.
    pub folder: PathBuf,
    interrupt: Arc<AtomicBool>,
    outputs: RefCell<BTreeMap<Party, BTreeMap<String, String>>>,
    alerts: RefCell<Vec<SentAlert>>,
    events: RefCell<Vec<QueueEvent>>,
    seen: RefCell<HashSet<String>>,
}

/// A message in the queue for AWS's events to the guard.
#[derive(Debug, Clone)]
pub struct QueueEvent {
    /// The time of its arrival in the queue.
    pub received: Timestamp,
    /// The unchanged text.
    pub body: String,
}

impl QueueEvent {
    /// The text and the arrival time, if it is a connection notification.
    pub fn notification(&self) -> Option<(String, Timestamp)> {
        let envelope: Value = serde_json::from_str(&self.body).ok()?;
        Some((envelope["Message"].as_str()?.to_owned(), self.received))
    }
}

impl Profiles {
    /// An empty stage. Ctrl-C sets `interrupt`.
    pub fn new(accounts: Accounts, names: Names, folder: &Path, interrupt: Arc<AtomicBool>) -> Self {
        Self {
            accounts,
            names,
            folder: folder.to_owned(),
            interrupt,
            outputs: RefCell::default(),
            alerts: RefCell::default(),
            events: RefCell::default(),
            seen: RefCell::default(),
        }
    }

    /// A party's account.
    pub fn account(&self, party: Party) -> Result<&Account> {
        self.accounts.get(&party).with_context(|| format!("there is no account for {party:?}"))
    }

    /// Adds the outputs of one of a party's stacks to those of its others.
    pub fn add_outputs(&self, party: Party, outputs: BTreeMap<String, String>) {
        self.outputs.borrow_mut().entry(party).or_default().extend(outputs);
    }

    /// An output of a party's stack.
    pub fn output(&self, party: Party, key: &str) -> Result<String> {
        let outputs = self.outputs.borrow();
        let outputs = outputs.get(&party).with_context(|| format!("{party:?} has no stack yet"))?;
        stacks::output(outputs, key).map(ToOwned::to_owned)
    }

    /// AWS's events to the guard so far: connection notifications and CloudTrail's events.
    pub fn events(&self) -> Result<Vec<QueueEvent>> {
        let queue = self.output(Party::Provider, "EventQueueUrl")?;
        let received = self.receive(&queue, Duration::ZERO)?;
        self.events.borrow_mut().extend(received);
        Ok(self.events.borrow().clone())
    }

    /// A queue's messages that are new to this run. They stay hidden in the queue and are deleted with it.
    fn receive(&self, queue: &str, wait: Duration) -> Result<Vec<QueueEvent>> {
        let (mut received, mut wait) = (Vec::new(), wait.as_secs().to_string());
        loop {
            #[rustfmt::skip]
            let answer = self.account(Party::Provider)?.aws(&["sqs", "receive-message", "--queue-url", queue,
                "--max-number-of-messages", "10", "--attribute-names", "SentTimestamp", "--wait-time-seconds", &wait])?;
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            // A queue can deliver a message twice, and can return fewer messages than it has.
            let new = messages.iter().filter(|message| self.is_new(message));
            received.extend(new.filter_map(event));
            if messages.len() < 10 {
                received.sort_by_key(|event| event.received);
                return Ok(received);
            }
            "0".clone_into(&mut wait);
        }
    }

    fn is_new(&self, message: &Value) -> bool {
        message["MessageId"].as_str().is_some_and(|id| self.seen.borrow_mut().insert(id.to_owned()))
    }
}

fn event(message: &Value) -> Option<QueueEvent> {
    let sent = message["Attributes"]["SentTimestamp"].as_str()?.parse().ok()?;
    Some(QueueEvent { received: Timestamp::from_millisecond(sent).ok()?, body: message["Body"].as_str()?.to_owned() })
}

/// The guard's message in SNS's envelope.
fn alert(number: i64, event: &QueueEvent) -> Option<SentAlert> {
    let envelope: Value = serde_json::from_str(&event.body).ok()?;
    let content: Value = serde_json::from_str(envelope["Message"].as_str()?).ok()?;
    content["transitions"].is_array().then_some(())?;
    let subject = envelope["Subject"].as_str().unwrap_or_default().to_owned();
    Some(SentAlert { number, subject, received: event.received, content })
}

impl StoryStage for Profiles {
    fn aws(&self, party: Party, arguments: &[&str]) -> Result<Value> {
        self.account(party)?.aws(arguments)
    }

    fn shell(&self, line: &str) -> Result<()> {
        self.account(Party::Provider)?.shell(line, &self.folder)
    }

    fn alerts(&self, wait: Duration) -> Result<Vec<SentAlert>> {
        // The queue does not exist before the stack does.
        let Ok(queue) = self.output(Party::Provider, "AlertQueueUrl") else { return Ok(Vec::new()) };
        for event in self.receive(&queue, wait)? {
            let mut alerts = self.alerts.borrow_mut();
            let number = alerts.last().map_or(1, |last| last.number + 1);
            alerts.extend(alert(number, &event));
        }
        Ok(self.alerts.borrow().clone())
    }

    fn endpoint_arguments(&self, party: Party) -> Result<Vec<String>> {
        let [vpc, subnets, group] = ["VpcId", "SubnetIds", "SecurityGroupId"].map(|output| self.output(party, output));
        let tags = format!("ResourceType=vpc-endpoint,Tags=[{{Key={TAG},Value={}}}]", self.names.run);
        let mut arguments = vec!["--vpc-id".to_owned(), vpc?, "--subnet-ids".to_owned()];
        arguments.extend(subnets?.split(',').map(ToOwned::to_owned));
        arguments.extend(["--security-group-ids".to_owned(), group?, "--tag-specifications".to_owned(), tags]);
        Ok(arguments)
    }

    fn set_target_health(&self, healthy: bool) -> Result<Vec<String>> {
        let status = if healthy { 200 } else { 503 };
        let response = self.output(Party::Provider, "ResponseArn")?;
        let actions = format!(
            r#"[{{"Type":"fixed-response","FixedResponseConfig":{{"StatusCode":"{status}","ContentType":"text/plain"}}}}]"#
        );
        let command = ["elbv2", "modify-listener", "--listener-arn", &response, "--default-actions", &actions];
        self.aws(Party::Provider, &command)?;
        Ok(vec![format!("the Application Load Balancer that is the target now answers {status}")])
    }

    fn check(&self) -> Result<Option<(String, String)>> {
        let Ok(program) = command::built("privatelink-guard") else { return Ok(None) };
        let mut command = self.account(Party::Provider)?.command(&program);
        let output = command.args(["check", "--stack", &self.names.guard()]).output()?;
        let printed = String::from_utf8(output.stdout)? + &String::from_utf8_lossy(&output.stderr);
        Ok(Some((format!("privatelink-guard check --stack {}", self.names.guard()), printed)))
    }

    fn limits(&self) -> Limits {
        let is_local = self.accounts.values().any(Account::is_local);
        if is_local { Limits::LOCAL } else { Limits::AWS }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }
}
