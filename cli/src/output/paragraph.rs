//! Text wrapped to a width. Names in it come from AWS, so anyone may have chosen them.

use textwrap::{Options, WordSplitter};

/// Keeps two words on one line. Text from AWS contains none, since `visible` removes them.
const NO_BREAK: char = '\u{a0}';

/// The beginnings of prompts and printed commands.
const COMMANDS: [&str; 7] = ["$", "#", "%", ">", "aws", "make", "privatelink-guard"];

/// `text` in lines of at most `width` columns, with `first` before the first line and `hanging` before the others.
/// Words stay whole.
///
/// No line begins like a command, so a line break cannot turn a name into one.
pub fn fill(text: &str, width: usize, first: &str, hanging: &str) -> String {
    let options = Options::new(width).initial_indent(first).subsequent_indent(hanging).break_words(false);
    let options = options.word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(&joined(text), options).replace(NO_BREAK, " ")
}

/// `text` in which each word that looks like a command is joined to the word before it.
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
