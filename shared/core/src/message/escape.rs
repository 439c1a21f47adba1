//! Text from AWS is not trusted. Names and reasons lose their invisible characters everywhere, and in chat everything
//! that could become markup.

use crate::text::strip_invisible;

/// Characters of one line that comes from AWS: room for a command in the evidence.
const MAX_LINE: usize = 1_000;

/// [`strip_invisible`] text of limited length; a line that was cut says so.
pub(super) fn strip_and_cut(text: &str) -> String {
    let line = strip_invisible(text);
    match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}... (cut)", &line[..end]),
        None => line,
    }
}

/// The text in ASCII, of at most `max` characters; dots say where it was cut.
pub(super) fn ascii(text: &str, max: usize) -> String {
    let ascii: String = strip_and_cut(text).chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    if ascii.len() <= max { ascii } else { format!("{}...", &ascii[..max.saturating_sub(3)]) }
}

/// Text for Slack, which has no escape for its markup: a zero-width space follows every character that could open some,
/// so that it looks the same and forms nothing.
pub(super) fn markdown(text: &str) -> String {
    let mut safe = String::new();
    for c in strip_and_cut(text).chars() {
        safe.push(c);
        if matches!(c, '*' | '_' | '~' | '`' | '[' | ']' | '<' | '>' | '!' | '#' | '@') {
            safe.push('\u{200b}');
        }
    }
    safe
}

/// Text that is shown literally, between back-ticks.
pub(super) fn code(text: &str) -> String {
    // Slack parses a `<` even there.
    strip_and_cut(text).replace('`', "'").replace('<', "<\u{200b}")
}
