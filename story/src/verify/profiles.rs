//! The stage of `make verify`: AWS accounts, reached with the AWS CLI's profiles.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::account::Account;
use super::figures::Figures;
use super::stacks::{Names, TAG};
use super::teardown::Accounts;
use crate::chapters::ChapterRun;
use crate::local_aws::list;
use crate::stage::{Limits, Party, SentAlert, StoryStage};
use crate::{aws_cli, command};

/// The accounts, and the run's resources in them so far.
#[derive(Debug)]
pub struct Profiles {
    /// The accounts by party.
    pub accounts: Accounts,
    /// The names of the run's stacks.
    pub names: Names,
    /// The functions' location.
    pub functions: String,
    /// The folder for the report.
    pub folder: PathBuf,
    /// The functions' figures.
    pub figures: RefCell<Vec<Figures>>,
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
    /// SNS's envelope and the text in it, if it is a message of SNS's.
    pub fn message(&self) -> Option<(Value, String)> {
        let envelope: Value = serde_json::from_str(&self.body).ok()?;
        let text = envelope["Message"].as_str()?.to_owned();
        Some((envelope, text))
    }

    /// CloudTrail's record in EventBridge's event, if it is one.
    pub fn record(&self) -> Option<Value> {
        let event: Value = serde_json::from_str(&self.body).ok()?;
        (event["detail-type"] == "AWS API Call via CloudTrail").then_some(event)
    }

    /// The guard's message.
    fn alert(&self, number: i64) -> Option<SentAlert> {
        let (envelope, text) = self.message()?;
        let content: Value = serde_json::from_str(&text).ok()?;
        content["transitions"].is_array().then_some(())?;
        let subject = envelope["Subject"].as_str().unwrap_or_default().to_owned();
        Some(SentAlert { number, subject, received: self.received, content })
    }
}

impl Profiles {
    /// The stage of a chapter that only `make verify` plays.
    pub fn of<'a>(run: &ChapterRun<'a>) -> Result<&'a Self> {
        let stage = run.stage().as_any().and_then(|stage| stage.downcast_ref());
        stage.context("only `make verify` plays this chapter")
    }

    /// An empty stage. Ctrl-C sets `interrupt`.
    pub fn new(accounts: Accounts, names: Names, functions: String, folder: &Path, interrupt: Arc<AtomicBool>) -> Self {
        Self {
            accounts,
            names,
            functions,
            folder: folder.to_owned(),
            figures: RefCell::default(),
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
        outputs.get(key).cloned().with_context(|| format!("the stack has no output {key}"))
    }

    /// AWS's events to the guard so far: connection notifications and CloudTrail's events.
    pub fn events(&self) -> Result<Vec<QueueEvent>> {
        let queue = self.output(Party::Provider, "EventQueueUrl")?;
        let received = self.receive(&queue, Duration::ZERO)?;
        self.events.borrow_mut().extend(received);
        Ok(self.received_events())
    }

    /// The events that were received, without asking for others.
    pub fn received_events(&self) -> Vec<QueueEvent> {
        self.events.borrow().clone()
    }

    /// CloudTrail's event of the change of cross-zone load balancing, as EventBridge delivered it, and the time of its
    /// arrival. The queue also gets the records of changes to the endpoint service.
    pub fn change(&self) -> Option<(Value, Timestamp)> {
        let events = self.events.borrow();
        let mut records = events.iter().filter_map(|event| Some((event.record()?, event.received)));
        records.find(|(record, _)| record["detail"]["eventName"] == "ModifyLoadBalancerAttributes")
    }

    /// A queue's messages that are new to this run. They stay hidden in the queue and are deleted with it.
    fn receive(&self, queue: &str, wait: Duration) -> Result<Vec<QueueEvent>> {
        let (mut received, mut wait) = (Vec::new(), wait.as_secs());
        loop {
            let options =
                format!("--max-number-of-messages 10 --attribute-names SentTimestamp --wait-time-seconds {wait}");
            let receive = format!("sqs receive-message --queue-url {queue} {options}");
            let answer = self.account(Party::Provider)?.aws(&receive)?;
            // A queue can deliver a message twice, and can return fewer messages than it has.
            let new = list(&answer["Messages"]).filter(|message| self.is_new(message));
            received.extend(new.filter_map(event));
            if list(&answer["Messages"]).count() < 10 {
                received.sort_by_key(|event| event.received);
                return Ok(received);
            }
            wait = 0;
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

impl StoryStage for Profiles {
    fn aws(&self, party: Party, line: &str) -> Result<Value> {
        self.account(party)?.aws(line)
    }

    fn shell(&self, line: &str) -> Result<()> {
        let mut shell = self.account(Party::Provider)?.command(Path::new("sh"));
        shell.current_dir(&self.folder);
        aws_cli::run_in_shell(shell, line)
    }

    fn alerts(&self, wait: Duration) -> Result<Vec<SentAlert>> {
        // The queue does not exist before the stack does.
        let Ok(queue) = self.output(Party::Provider, "AlertQueueUrl") else { return Ok(Vec::new()) };
        for event in self.receive(&queue, wait)? {
            let mut alerts = self.alerts.borrow_mut();
            let number = alerts.last().map_or(1, |last| last.number + 1);
            alerts.extend(event.alert(number));
        }
        Ok(self.alerts.borrow().clone())
    }

    fn endpoint_options(&self, party: Party) -> Result<String> {
        let [vpc, subnets, group] = ["VpcId", "SubnetIds", "SecurityGroupId"].map(|output| self.output(party, output));
        let place = format!("--vpc-id {} --subnet-ids {}", vpc?, subnets?.replace(',', " "));
        let tags = format!("ResourceType=vpc-endpoint,Tags=[{{Key={TAG},Value={}}}]", self.names.run);
        Ok(format!("{place} --security-group-ids {} --tag-specifications {tags}", group?))
    }

    fn set_target_health(&self, healthy: bool) -> Result<Vec<String>> {
        let status = if healthy { "200" } else { "503" };
        let response = self.output(Party::Provider, "ResponseArn")?;
        let answer = json!({"StatusCode": status, "ContentType": "text/plain"});
        let actions = json!([{"Type": "fixed-response", "FixedResponseConfig": answer}]);
        let modify = format!("elbv2 modify-listener --listener-arn {response} --default-actions '{actions}'");
        self.aws(Party::Provider, &modify)?;
        Ok(vec![format!("the Application Load Balancer that is the target now answers {status}")])
    }

    fn guard_command(&self, command: &str) -> Result<Option<(String, String)>> {
        let Ok(program) = command::built("privatelink-guard") else { return Ok(None) };
        let mut program = self.account(Party::Provider)?.command(&program);
        let output = program.args([command, "--stack", &self.names.guard()]).output()?;
        let printed = String::from_utf8(output.stdout)? + &String::from_utf8_lossy(&output.stderr);
        Ok(Some((format!("privatelink-guard {command} --stack {}", self.names.guard()), printed)))
    }

    fn limits(&self) -> Limits {
        let is_local = self.accounts.values().any(Account::is_local);
        if is_local { Limits::LOCAL } else { Limits::AWS }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
