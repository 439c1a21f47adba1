//! The story on a terminal, as it happens.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::outcome::{ChapterOutcome, ChapterResult};
use crate::stage::SentAlert;

/// A printer of events, each with the time since the start. Its clones print for the same story.
#[derive(Debug, Clone)]
pub struct Terminal {
    began: Instant,
    transcript: Arc<Mutex<String>>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self { began: Instant::now(), transcript: Arc::default() }
    }
}

impl Terminal {
    /// All that was printed.
    pub fn transcript(&self) -> String {
        self.transcript.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn print(&self, text: &str) {
        println!("{text}");
        let _ = std::io::stdout().flush();
        let mut transcript = self.transcript.lock().unwrap_or_else(PoisonError::into_inner);
        transcript.extend([text, "\n"]);
    }

    fn line(&self, text: &str) {
        self.print(&format!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f32()));
    }

    /// A chapter with this title begins.
    pub fn began(&self, title: &str) {
        self.print(&format!("\n== {title}\n"));
    }

    /// A step begins; `commands` are those that a person would type.
    pub fn step(&self, what: &str, commands: &[String]) {
        self.line(what);
        for command in commands {
            self.print(&format!("          $ {command}"));
        }
    }

    /// A command printed these lines, and perhaps others.
    pub fn printed<'a>(&self, lines: impl Iterator<Item = &'a str>) {
        for line in lines {
            self.print(&format!("          {line}"));
        }
    }

    /// The guard sent a message.
    pub fn sent(&self, alert: &SentAlert, after: Duration) {
        self.line(&format!("the guard sent, after {:.1} s: {}", after.as_secs_f32(), alert.subject));
    }

    /// A chapter ended.
    pub fn ended(&self, chapter: &ChapterResult) {
        match &chapter.outcome {
            ChapterOutcome::AsExpected => self.line(&format!("ok: {}", chapter.expected)),
            ChapterOutcome::Failed(error) => self.line(&format!("NOT OK: {error}")),
            ChapterOutcome::Skipped(reason) => self.line(&format!("skipped: {reason}")),
        }
    }
}

/// Prints the outcome of each chapter.
pub fn print_results(chapters: &[ChapterResult]) {
    println!("{}\nWhat was expected, and what happened\n{}\n", "=".repeat(80), "=".repeat(80));
    for chapter in chapters {
        let (sign, happened) = match &chapter.outcome {
            ChapterOutcome::AsExpected => ("ok     ", "as expected".to_owned()),
            ChapterOutcome::Failed(error) => ("NOT OK ", error.clone()),
            ChapterOutcome::Skipped(reason) => ("skipped", reason.clone()),
        };
        let (title, expected, took) = (chapter.title, chapter.expected, chapter.took.as_secs_f32());
        println!("{sign} {title}\n        expected: {expected}\n        happened: {happened}, in {took:.1} s");
    }
}
