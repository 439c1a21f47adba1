//! The formats of a report. Only these modules write to standard output and standard error.

pub mod html;
pub mod json;
pub mod paragraph;
pub mod tree;

use std::io::{ErrorKind, Result, Write};

use anstyle::{AnsiColor, Style};

use crate::report::CheckState;

/// Prints text, with its colours if standard output shows them. A reader that has gone is no error, since people pipe
/// the output into `head`.
///
/// # Errors
/// If the write fails for another reason.
pub fn print(text: &str) -> Result<()> {
    match write(anstream::stdout().lock(), text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a remark for the user to standard error. A failed write is ignored, since then nobody reads.
pub fn say(text: &str) {
    let _ = try_say(text);
}

/// Like [`say`], for output that is pointless without a reader.
pub fn try_say(text: &str) -> Result<()> {
    write(anstream::stderr().lock(), text)
}

fn write(mut stream: impl Write, text: &str) -> Result<()> {
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
}

/// `text` in the colour of a state.
pub fn painted(state: CheckState, text: &str) -> String {
    let color = match state {
        CheckState::Pass => AnsiColor::Green,
        CheckState::Info => AnsiColor::Cyan,
        CheckState::Unknown | CheckState::Warning => AnsiColor::Yellow,
        CheckState::Critical => AnsiColor::Red,
    };
    let style = Style::new().bold().fg_color(Some(color.into()));
    format!("{style}{text}{style:#}")
}

/// `text` in bold.
pub fn strong(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}
