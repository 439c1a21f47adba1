//! Where the story is played: on the local AWS, or on AWS itself with the profiles of several accounts.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::local_aws::PATIENCE;

/// Whose account runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The company that shares its service; its administrator.
    Provider,
    /// dbt, or the account that plays dbt.
    Consumer,
    /// An account that is neither.
    Untrusted,
}

/// How long a step may take before it counts as failed, and how often it asks meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Between two questions.
    pub poll: Duration,
    /// Until a connection has reached a state.
    pub connection: Duration,
    /// Until the guard has sent an alert.
    pub alert: Duration,
    /// Until the load balancer has noticed that a target fails or works again, and the guard has sent an alert.
    pub health: Duration,
    /// Until CloudTrail has delivered a change, and the guard has named who made it.
    pub trail: Duration,
    /// Until a stack is created, or deleted.
    pub stack: Duration,
}

impl Limits {
    /// The local AWS does everything at once, if the machine is not busy.
    pub const LOCAL: Self = Self {
        poll: Duration::from_millis(100),
        connection: PATIENCE,
        alert: PATIENCE,
        health: PATIENCE,
        trail: PATIENCE,
        stack: PATIENCE,
    };

    /// On AWS, a Network Load Balancer takes minutes to become active and to use a target; CloudTrail delivers an event
    /// within five minutes on average, and gives no maximum.
    /// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>
    pub const AWS: Self = Self {
        poll: Duration::from_secs(3),
        connection: Duration::from_mins(5),
        alert: Duration::from_mins(5),
        health: Duration::from_mins(10),
        trail: Duration::from_mins(15),
        stack: Duration::from_mins(30),
    };
}

/// A place where the story can be played.
pub trait StoryStage {
    /// Runs a command of the AWS CLI with a party's credentials, and returns what it prints.
    fn aws(&self, party: Party, arguments: &[&str]) -> Result<Value>;

    /// Runs a command line of the administrator, as an alert prints it.
    fn shell(&self, line: &str) -> Result<()>;

    /// Everything that the guard has sent, oldest first. If there is nothing new, it may wait for it this long.
    fn alerts(&self, wait: Duration) -> Result<Vec<SentAlert>>;

    /// The arguments of `create-vpc-endpoint` that say where in the party's account the endpoint is.
    fn endpoint_arguments(&self, party: Party) -> Result<Vec<String>>;

    /// Lets the target fail its health checks, or pass them again. The commands that do it, if a person can type them.
    fn set_target_health(&self, healthy: bool) -> Result<Vec<String>>;

    /// The command that checks the whole path with the settings of the guard's stack, and what it prints; nothing if the
    /// command was not built.
    fn check(&self) -> Result<Option<(String, String)>>;

    /// How long steps may take.
    fn limits(&self) -> Limits;

    /// Whether somebody wants it to end, as with Ctrl-C.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// The run ends because somebody wants it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Calls `poll` until it returns something.
pub fn eventually<T>(
    stage: &(impl StoryStage + ?Sized),
    what: &str,
    limit: Duration,
    mut poll: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if stage.is_interrupted() {
            bail!(Interrupted);
        }
        if let Some(found) = poll()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited {} s for {what}", limit.as_secs());
        thread::sleep(stage.limits().poll);
    }
}

/// A message of the guard, as its JSON for programs has it.
#[derive(Debug, Clone)]
pub struct SentAlert {
    /// Counts the messages, from 1.
    pub number: i64,
    /// The subject of the email.
    pub subject: String,
    /// When it reached its subscriber.
    pub received: Timestamp,
    /// `docs/alert.schema.json`
    pub content: Value,
}

impl SentAlert {
    /// The first transition with this label, of this check, with these words anywhere in it.
    pub fn find(&self, wanted: Wanted<'_>) -> Option<&Value> {
        let transitions = self.content["transitions"].as_array()?;
        transitions.iter().find(|transition| wanted.is(transition))
    }

    /// The labels of its transitions, each with the summary: `[WARNING] cross-zone is off for pg`.
    pub fn lines(&self) -> Vec<String> {
        let line = |transition: &Value| {
            let summary = transition["summary"].as_str().unwrap_or_default();
            format!("[{}] {summary}", label(transition))
        };
        self.content["transitions"].as_array().into_iter().flatten().map(line).collect()
    }
}

/// A transition that is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `CRITICAL`, `WARNING`, `INFO`, `NOTICE`, `RESOLVED`
    pub label: &'a str,
    /// The check's id.
    pub check: &'a str,
    /// Words in its summary, its evidence, or wherever.
    pub words: &'a str,
}

impl Wanted<'_> {
    fn is(self, transition: &Value) -> bool {
        let text = || transition.to_string().replace("\\\"", "\"");
        transition["check"] == self.check && label(transition) == self.label && text().contains(self.words)
    }
}

/// The label that people read in front of a transition.
fn label(transition: &Value) -> String {
    match transition["kind"].as_str() {
        Some("firing") => transition["severity"].as_str().unwrap_or_default().to_uppercase(),
        Some(kind) => kind.to_uppercase(),
        None => String::new(),
    }
}

/// Whom the alert names as the one who made the change that caused it.
pub fn named_by<'a>(alert: &'a SentAlert, check: &str) -> Option<&'a str> {
    let transitions = alert.content["transitions"].as_array()?;
    let mut of_check = transitions.iter().filter(|transition| transition["check"] == check);
    of_check.find_map(|transition| transition["cause"]["principal"].as_str())
}

/// The commands that fix what a transition reports, a line for each.
pub fn remedy(transition: &Value) -> Option<&str> {
    transition["remedy"]["command"].as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alert(kind: &str, severity: &str) -> SentAlert {
        let transition = json!({"check": "listener.port", "kind": kind, "severity": severity, "summary": "no listener",
            "cause": {"principal": "arn:aws:iam::111122223333:user/admin"}});
        let content = json!({"transitions": [transition]});
        SentAlert { number: 1, subject: String::new(), received: Timestamp::UNIX_EPOCH, content }
    }

    #[test]
    fn a_transition_is_found_by_its_label_its_check_and_words() {
        let wanted = Wanted { label: "CRITICAL", check: "listener.port", words: "no listener" };
        assert!(alert("firing", "critical").find(wanted).is_some());
        assert!(alert("firing", "warning").find(wanted).is_none());
        assert!(alert("resolved", "critical").find(wanted).is_none());
        assert!(alert("resolved", "critical").find(Wanted { label: "RESOLVED", ..wanted }).is_some());
        assert!(alert("firing", "critical").find(Wanted { check: "network-path", ..wanted }).is_none());
        assert!(alert("firing", "critical").find(Wanted { words: "5432", ..wanted }).is_none());
    }

    #[test]
    fn the_cause_names_who_made_the_change() {
        assert_eq!(named_by(&alert("notice", "info"), "listener.port"), Some("arn:aws:iam::111122223333:user/admin"));
        assert_eq!(named_by(&alert("notice", "info"), "network-path"), None);
    }
}
