//! The stage of the story: the local AWS, or AWS itself with the profiles of several accounts.

use std::any::Any;
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde_json::Value;

use crate::local_aws::{PATIENCE, list, poll_every};

/// The party whose account runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The administrator of the company that shares its service.
    Provider,
    /// dbt, or an account that plays dbt.
    Consumer,
    /// An account that is neither.
    Untrusted,
}

/// The time limits of steps, and the poll interval.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Between two polls.
    pub poll: Duration,
    /// Until a connection reaches a state.
    pub connection: Duration,
    /// Until the guard sends an alert.
    pub alert: Duration,
    /// Until the load balancer notices a failing or recovered target, and the guard sends an alert.
    pub health: Duration,
    /// Until CloudTrail delivers a change, and the guard names its author.
    pub trail: Duration,
    /// Until a stack is created, or deleted.
    pub stack: Duration,
}

impl Limits {
    /// The local AWS does everything at once, unless the machine is busy.
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
    /// Runs a command line of the AWS CLI with a party's credentials and returns its output.
    fn aws(&self, party: Party, line: &str) -> Result<Value>;

    /// Runs a command line from an alert as the administrator.
    fn shell(&self, line: &str) -> Result<()>;

    /// All messages from the guard, oldest first. Without a new one, it may wait this long.
    fn alerts(&self, wait: Duration) -> Result<Vec<SentAlert>>;

    /// The options of `create-vpc-endpoint` that place the endpoint in the party's account.
    fn endpoint_options(&self, party: Party) -> Result<String>;

    /// Makes the target fail its health checks, or pass them again. Returns the commands, if a person can type them.
    fn set_target_health(&self, healthy: bool) -> Result<Vec<String>>;

    /// `privatelink-guard COMMAND --stack …`, the line as people type it and its output; `None` if the program was not
    /// built. `command` is `check` or `status`.
    fn guard_command(&self, command: &str) -> Result<Option<(String, String)>>;

    /// The time limits of steps.
    fn limits(&self) -> Limits;

    /// Whether the user wants the run to end, for example with Ctrl-C.
    fn is_interrupted(&self) -> bool {
        false
    }

    /// The stage as its own type, for the chapters that only it has.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// The error of a run that the user ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Calls `poll` until it returns something.
pub fn eventually<T>(
    stage: &dyn StoryStage,
    what: &str,
    limit: Duration,
    mut poll: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    poll_every(stage.limits().poll, limit, what, || {
        if stage.is_interrupted() {
            bail!(Interrupted);
        }
        poll()
    })
}

/// A message from the guard, in its JSON form.
#[derive(Debug, Clone)]
pub struct SentAlert {
    /// The number of the message, from 1.
    pub number: i64,
    /// The subject of the email.
    pub subject: String,
    /// The time of its delivery to the subscriber.
    pub received: Timestamp,
    /// `docs/alert.schema.json`
    pub content: Value,
}

impl SentAlert {
    /// The first transition of this check with this label, and with these words anywhere.
    pub fn find(&self, wanted: Wanted<'_>) -> Option<&Value> {
        list(&self.content["transitions"]).find(|transition| wanted.is(transition))
    }
}

/// An expected transition.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `CRITICAL`, `WARNING`, `INFO`, `NOTICE`, `RESOLVED`
    pub label: &'a str,
    /// The check's id.
    pub check: &'a str,
    /// Words anywhere in the transition, for example in its summary or evidence.
    pub words: &'a str,
}

impl Wanted<'_> {
    fn is(self, transition: &Value) -> bool {
        let text = || transition.to_string().replace("\\\"", "\"");
        transition["check"] == self.check && label(transition) == self.label && text().contains(self.words)
    }
}

/// The label in front of a transition.
fn label(transition: &Value) -> String {
    match transition["kind"].as_str() {
        Some("firing") => transition["severity"].as_str().unwrap_or_default().to_uppercase(),
        Some(kind) => kind.to_uppercase(),
        None => String::new(),
    }
}

/// The author, named in the alert, of the change that caused it.
pub fn named_by<'a>(alert: &'a SentAlert, check: &str) -> Option<&'a str> {
    let mut of_check = list(&alert.content["transitions"]).filter(|transition| transition["check"] == check);
    of_check.find_map(|transition| transition["cause"]["principal"].as_str())
}

/// The commands that fix a transition's problem, one per line.
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
