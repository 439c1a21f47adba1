//! The story on a terminal, as it happens.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::outcome::{ChapterOutcome, ChapterResult};
use crate::stage::SentAlert;

/// A printer of events, each with the time since the start.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    began: Instant,
}

impl Default for Terminal {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl Terminal {
    fn line(self, text: &str) {
        println!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f32());
        let _ = std::io::stdout().flush();
    }

    /// A chapter with this title begins.
    pub fn began(self, title: &str) {
        println!("\n== {title}\n");
    }

    /// A step begins; `commands` are those that a person would type.
    pub fn step(self, what: &str, commands: &[String]) {
        self.line(what);
        for command in commands {
            println!("          $ {command}");
        }
    }

    /// A command printed these lines, and perhaps others.
    pub fn printed<'a>(self, lines: impl Iterator<Item = &'a str>) {
        for line in lines {
            println!("          {line}");
        }
    }

    /// The guard sent a message.
    pub fn sent(self, alert: &SentAlert, after: Duration) {
        self.line(&format!("the guard sent, after {:.1} s: {}", after.as_secs_f32(), alert.subject));
    }

    /// A chapter ended.
    pub fn ended(self, chapter: &ChapterResult) {
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
