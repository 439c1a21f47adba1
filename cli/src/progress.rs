//! A spinner on the terminal while an answer from AWS takes longer than a second.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

/// The wait after which users want to see progress.
const AFTER: Duration = Duration::from_secs(1);

/// A spinner on standard error; nothing if standard error is no terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    timer: JoinHandle<()>,
}

impl Progress {
    /// Shows `message` after a second.
    pub fn start(message: &'static str) -> Self {
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        let later = bar.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(AFTER).await;
            later.set_message(message);
            later.enable_steady_tick(Duration::from_millis(200));
        });
        Self { bar, timer }
    }

    /// Removes the spinner.
    pub fn stop(self) {
        self.timer.abort();
        self.bar.finish_and_clear();
    }
}
