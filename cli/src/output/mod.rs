//! The forms in which a report is shown.

pub mod html;
pub mod json;
pub mod paragraph;
pub mod tree;

use std::io::{ErrorKind, Write};

/// Prints text that may hold colours, as far as standard output shows them. That its reader has gone is no error: people
/// print into `head`.
///
/// # Errors
/// If it cannot be written for another reason.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
