//! Text from AWS is not trusted: names and reasons lose their control characters everywhere, and in chat everything that
//! could become markup.

/// SNS's limit for an email subject. <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
const MAX_SUBJECT: usize = 100;

/// Characters of one line that comes from AWS.
const MAX_LINE: usize = 400;

/// Columns of an email's prose.
const MAX_COLUMNS: usize = 78;

/// One line without control characters, of limited length; a line that was cut says so.
pub(super) fn plain(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}... (cut)", &line[..end]),
        None => line,
    }
}

/// A command or a link without control characters. It is never cut: a part of it is of no use.
pub(super) fn command(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A subject in ASCII, of limited length; dots say where it was cut.
pub(super) fn subject(title: &str) -> String {
    let ascii: String = title.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    if ascii.len() <= MAX_SUBJECT { ascii } else { format!("{}...", &ascii[..MAX_SUBJECT - 3]) }
}

/// Prose in lines that fit a terminal and a phone.
pub(super) fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in plain(text).split(' ') {
        let characters = word.chars().count();
        if length > 0 && length + 1 + characters > MAX_COLUMNS {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += characters;
    }
    lines
}

/// Text for Slack, which has no escape for its markup: a zero-width space follows every character that could open some, so
/// that it looks the same and forms nothing.
pub(super) fn markdown(text: &str) -> String {
    let mut safe = String::new();
    for c in plain(text).chars() {
        safe.push(c);
        if matches!(c, '*' | '_' | '~' | '`' | '[' | ']' | '<' | '>' | '!' | '#' | '@') {
            safe.push('\u{200b}');
        }
    }
    safe
}

/// Text that is shown literally, between back-ticks.
pub(super) fn code(text: &str) -> String {
    plain(text).replace('`', "'")
}
