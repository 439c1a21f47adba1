//! The guard's messages as their receivers got them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::local_aws::{LocalAws, eventually, list};
use crate::stage::remedy;

/// A delivered message.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The number of the delivery.
    pub number: i64,
    /// `email`, `https` (Slack), or `topic` for the published message.
    pub protocol: String,
    /// The subject.
    pub subject: String,
    /// The body for this protocol.
    pub body: String,
}

impl Mail {
    /// Whether the message has a transition with this label and contains these words, wherever its lines break.
    pub fn contains(&self, label: &str, words: &str) -> bool {
        let body = self.body.split_whitespace().collect::<Vec<_>>().join(" ");
        body.contains(&format!("{label} ")) && body.contains(words)
    }

    /// The guard's message in its JSON form, if this is a published one.
    pub fn alert(&self) -> Option<Value> {
        let bodies: Value = serde_json::from_str(&self.body).ok().filter(|_| self.protocol == "topic")?;
        serde_json::from_str(bodies["sqs"].as_str()?).ok()
    }
}

/// The messages delivered after a given one.
#[derive(Debug, Clone, Copy)]
pub struct Mailbox<'a> {
    aws: &'a LocalAws,
    since: i64,
}

impl<'a> Mailbox<'a> {
    /// All messages.
    pub fn from_the_start(aws: &'a LocalAws) -> Self {
        Self { aws, since: 0 }
    }

    /// The messages delivered from now on.
    pub fn from_now(aws: &'a LocalAws) -> Result<Self> {
        let since = Self::from_the_start(aws).messages()?.last().map_or(0, |mail| mail.number);
        Ok(Self { aws, since })
    }

    /// The local AWS of the deliveries.
    pub fn aws(&self) -> &'a LocalAws {
        self.aws
    }

    /// The messages for all protocols, oldest first.
    pub fn messages(&self) -> Result<Vec<Mail>> {
        let delivered = self.aws.control("mail", &json!({"since": self.since}))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let messages = list(&delivered).map(|entry| Mail {
            number: entry["n"].as_i64().unwrap_or_default(),
            protocol: text(&entry["protocol"]),
            subject: text(&entry["subject"]),
            body: text(&entry["message"]),
        });
        Ok(messages.collect())
    }

    /// The emails.
    pub fn emails(&self) -> Result<Vec<Mail>> {
        Ok(self.messages()?.into_iter().filter(|mail| mail.protocol == "email").collect())
    }

    /// The number of emails with this label and these words.
    pub fn count(&self, label: &str, words: &str) -> Result<usize> {
        Ok(self.emails()?.iter().filter(|mail| mail.contains(label, words)).count())
    }

    /// Checks that one email has this label and these words. On a busy machine the table may not answer in time; then
    /// each instance of a function sends once without it and says so, and more such emails are allowed.
    pub fn expect_once(&self, label: &str, words: &str) -> Result<()> {
        let mails: Vec<Mail> = self.emails()?.into_iter().filter(|mail| mail.contains(label, words)).collect();
        let with_table = mails.iter().filter(|mail| !mail.body.contains("cannot use its state table")).count();
        ensure!(!mails.is_empty() && with_table <= 1, "not one email with {label} and '{words}': {mails:#?}");
        Ok(())
    }

    /// Waits for an email with this label and these words.
    pub fn wait(&self, label: &str, words: &str) -> Result<Mail> {
        let found = eventually(&format!("an email with {label} and '{words}'"), || {
            Ok(self.emails()?.into_iter().find(|mail| mail.contains(label, words)))
        });
        found.with_context(|| {
            let subjects = self.emails().unwrap_or_default().into_iter().map(|mail| mail.subject);
            format!("received instead: {:#?}", subjects.collect::<Vec<_>>())
        })
    }

    /// The commands in the newest firing alert on `check` with these words in its summary.
    pub fn commands(&self, check: &str, words: &str) -> Result<Vec<String>> {
        let commands = self.messages()?.iter().rev().filter_map(Mail::alert).find_map(|alert| {
            let mut firing = list(&alert["transitions"]).filter(|it| it["kind"] == "firing" && it["check"] == check);
            let wanted = firing.find(|it| it["summary"].as_str().is_some_and(|summary| summary.contains(words)))?;
            Some(remedy(wanted)?.lines().map(ToOwned::to_owned).collect())
        });
        commands.with_context(|| format!("no alert {check} with '{words}' and a command"))
    }
}

/// A Slack message as plain text.
pub fn slack(body: &str) -> String {
    let Ok(message) = serde_json::from_str::<Value>(body) else { return format!("not JSON: {body}") };
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let [title, description, thread] = ["/content/title", "/content/description", "/metadata/threadId"].map(text);
    format!("{title}\n\n{description}\n\nThread {thread}").replace('\u{200b}', "")
}
