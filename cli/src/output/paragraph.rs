//! Text in lines that fit. Names in it come from AWS, and so from anybody.

use textwrap::{Options, WordSplitter};

/// Joins two words in one line. `visible` leaves none in what comes from AWS.
const NO_BREAK: char = '\u{a0}';

/// What a prompt or a printed command begins with.
const COMMANDS: [&str; 7] = ["$", "#", "%", ">", "aws", "make", "privatelink-guard"];

/// `text` in lines of at most `width` columns, `first` before the first and `hanging` before the others. Words are whole.
///
/// No line begins with what looks like a command, so that a name cannot become one by where a line ends.
pub fn fill(text: &str, width: usize, first: &str, hanging: &str) -> String {
    let options = Options::new(width).initial_indent(first).subsequent_indent(hanging).break_words(false);
    let options = options.word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(&joined(text), options).replace(NO_BREAK, " ")
}

/// `text` with what looks like the beginning of a command joined to the word before it.
fn joined(text: &str) -> String {
    let mut words = text.split(' ');
    let mut joined = words.next().unwrap_or_default().to_owned();
    for word in words {
        let is_command = COMMANDS.iter().any(|command| word.starts_with(command));
        joined.push(if is_command { NO_BREAK } else { ' ' });
        joined.push_str(word);
    }
    joined
}
