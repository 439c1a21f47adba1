//! What people received.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::local_aws::{LocalAws, eventually};

/// A delivered message.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Counts the deliveries.
    pub number: i64,
    /// `email`, `https` (Slack), or `topic` for what was published, whoever subscribed.
    pub protocol: String,
    /// The subject.
    pub subject: String,
    /// The body made for the protocol.
    pub body: String,
}

impl Mail {
    /// Whether some transition in it has this label, and these words are in it, however the lines are broken.
    #[must_use]
    pub fn says(&self, label: &str, words: &str) -> bool {
        let body = self.body.split_whitespace().collect::<Vec<_>>().join(" ");
        body.contains(&format!("{label} ")) && body.contains(words)
    }
}

/// All that was delivered after number `since`, oldest first.
///
/// # Errors
/// If the local AWS does not answer.
pub fn since(aws: &LocalAws, since: i64) -> Result<Vec<Mail>> {
    let list = aws.control(&["mail", "--since", &since.to_string()])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mail = list.as_array().into_iter().flatten().map(|entry| Mail {
        number: entry["n"].as_i64().unwrap_or_default(),
        protocol: text(&entry["protocol"]),
        subject: text(&entry["subject"]),
        body: text(&entry["message"]),
    });
    Ok(mail.collect())
}

/// Only the emails.
///
/// # Errors
/// As [`since`].
pub fn emails_since(aws: &LocalAws, number: i64) -> Result<Vec<Mail>> {
    Ok(since(aws, number)?.into_iter().filter(|mail| mail.protocol == "email").collect())
}

/// The number of the last delivery.
///
/// # Errors
/// As [`since`].
pub fn last(aws: &LocalAws) -> Result<i64> {
    Ok(since(aws, 0)?.last().map_or(0, |mail| mail.number))
}

/// A Slack message as it looks, as far as a terminal can show it.
#[must_use]
pub fn slack(body: &str) -> String {
    let Ok(message) = serde_json::from_str::<Value>(body) else { return format!("not JSON: {body}") };
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut shown = format!("{}\n\n{}\n", text("/content/title"), text("/content/description"));
    let steps = message.pointer("/content/nextSteps").and_then(Value::as_array).cloned().unwrap_or_default();
    if !steps.is_empty() {
        shown.push_str("\nNext steps\n");
        for step in &steps {
            let _ = writeln!(shown, "  - {}", step.as_str().unwrap_or_default());
        }
    }
    let _ = write!(shown, "\nThread {}", text("/metadata/threadId"));
    shown.replace('\u{200b}', "")
}

/// Waits for an email after number `number`, with this label and these words in its body.
///
/// # Errors
/// If none comes.
pub fn wait(aws: &LocalAws, number: i64, label: &str, words: &str) -> Result<Mail> {
    let waited = eventually(&format!("an email that says {label} and '{words}'"), 60, || {
        Ok(emails_since(aws, number)?.into_iter().find(|mail| mail.says(label, words)))
    });
    waited.with_context(|| {
        let instead = emails_since(aws, number).unwrap_or_default();
        let instead: Vec<String> = instead.into_iter().map(|mail| mail.subject).collect();
        format!("heard instead: {instead:#?}")
    })
}

/// How often people were told something after number `number`, in emails with this label and these words.
///
/// # Errors
/// As [`since`].
pub fn times_told(aws: &LocalAws, number: i64, label: &str, words: &str) -> Result<usize> {
    Ok(emails_since(aws, number)?.iter().filter(|mail| mail.says(label, words)).count())
}

/// The command that an alert printed: of the last one after number `number` that fires for `check` with these words in its
/// summary.
///
/// # Errors
/// If there is none, or if it has no command.
pub fn command(aws: &LocalAws, number: i64, check: &str, words: &str) -> Result<String> {
    let published = since(aws, number)?.into_iter().rev().filter(|mail| mail.protocol == "topic");
    let firing = published.filter_map(|mail| {
        let bodies: Value = serde_json::from_str(&mail.body).ok()?;
        let alert: Value = serde_json::from_str(bodies["sqs"].as_str()?).ok()?;
        alert["transitions"].as_array()?.iter().find_map(|own| {
            let fits = own["kind"] == "firing" && own["check"] == check;
            let says = own.pointer("/finding/summary")?.as_str()?.contains(words);
            (fits && says).then(|| own.pointer("/finding/remedy/command")?.as_str().map(ToOwned::to_owned))
        })
    });
    firing.flatten().next().with_context(|| format!("no alert {check} with '{words}' and a command"))
}
