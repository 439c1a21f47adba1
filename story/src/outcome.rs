//! What came of a chapter.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::stage::{Party, SentAlert};

/// The outcome of a chapter.
#[derive(Debug)]
pub enum ChapterOutcome {
    /// As expected.
    AsExpected,
    /// Not as expected, for this reason.
    Failed(String),
    /// Not played, for this reason.
    Skipped(String),
}

/// A command of the AWS CLI and AWS's answer.
#[derive(Debug)]
pub struct Exchange {
    /// The party whose credentials the command had.
    pub party: Party,
    /// The command.
    pub command: String,
    /// The last answer, or the error.
    pub answer: Result<Value, String>,
    /// The number of calls until this answer.
    pub times: usize,
}

/// AWS's answers to a question that its documentation leaves open, or the reason why the run did not see one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The question: an id in docs/assumptions.md.
    pub assumption: &'static str,
    /// The answers, or the reason why there are none.
    pub seen: Result<Vec<Value>, String>,
}

/// A played chapter with everything that happened in it.
#[derive(Debug)]
pub struct ChapterResult {
    /// The event.
    pub title: &'static str,
    /// The expected consequence.
    pub expected: &'static str,
    /// Whether the consequence followed.
    pub outcome: ChapterOutcome,
    /// The chapter's duration.
    pub took: Duration,
    /// The calls to AWS.
    pub exchanges: Vec<Exchange>,
    /// The guard's messages, each with the time since the step that caused it.
    pub alerts: Vec<(SentAlert, Duration)>,
    /// Measurements and texts worth reading: a name and a text.
    pub facts: Vec<(String, String)>,
    /// Answers to questions that AWS's documentation leaves open.
    pub sights: Vec<Sight>,
}

impl ChapterResult {
    /// Whether the chapter ended as expected. A skipped chapter has not failed.
    pub fn is_ok(&self) -> bool {
        !matches!(self.outcome, ChapterOutcome::Failed(_))
    }

    /// The chapter's outcome as a result. A skipped chapter is an error too.
    pub fn into_result(self) -> Result<()> {
        match self.outcome {
            ChapterOutcome::AsExpected => Ok(()),
            ChapterOutcome::Failed(error) => bail!("{}: {error}", self.title),
            ChapterOutcome::Skipped(reason) => bail!("{}: skipped, {reason}", self.title),
        }
    }

    /// A chapter in which nothing has happened.
    pub fn new(title: &'static str, expected: &'static str, outcome: ChapterOutcome) -> Self {
        let (exchanges, alerts, facts, sights) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { title, expected, outcome, took: Duration::ZERO, exchanges, alerts, facts, sights }
    }
}
