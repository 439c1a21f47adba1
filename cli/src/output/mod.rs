//! The forms in which a report is shown, and the only places that write to standard output and standard error.

pub mod html;
pub mod json;
pub mod paragraph;
pub mod tree;

use std::io::{ErrorKind, Result, Write};

/// Prints text that may hold colours, as far as standard output shows them. That its reader has gone is no error: people
/// print into `head`.
///
/// # Errors
/// If it cannot be written for another reason.
pub fn print(text: &str) -> Result<()> {
    match write(anstream::stdout().lock(), text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a remark for the user to standard error. If it cannot be written, nobody is there to read it.
pub fn say(text: &str) {
    let _ = try_say(text);
}

/// Like [`say`], for output that is pointless without a reader.
///
/// # Errors
/// If it cannot be written.
pub fn try_say(text: &str) -> Result<()> {
    write(anstream::stderr().lock(), text)
}

fn write(mut stream: impl Write, text: &str) -> Result<()> {
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
}
