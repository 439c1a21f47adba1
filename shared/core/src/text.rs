//! Lines of text: cleaned texts from AWS, which anybody may have written, and numbers and lists in words.

use std::fmt::Display;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The text as one line, without control characters and characters that are invisible or change the text's direction.
pub fn strip_invisible(text: &str) -> String {
    let visible = text.chars().filter_map(|c| match c.general_category() {
        GeneralCategory::Control => Some(' '),
        GeneralCategory::Format => None,
        _ if is_ignorable(c) => None,
        _ => Some(c),
    });
    visible.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `c` is an invisible character that is neither a control nor a format character: the rest of Unicode's
/// property `Default_Ignorable_Code_Point`, and the empty Braille pattern.
/// <https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt>
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{034f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// `1 target`, `2 targets`.
pub fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    format!("{number} {noun}{}", if number == N::from(1) { "" } else { "s" })
}

/// At most `max` lines, followed by the number of omitted lines.
pub fn limited(mut lines: Vec<String>, max: usize) -> Vec<String> {
    if lines.len() > max {
        let more = lines.len() - max;
        lines.truncate(max);
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_removed() {
        assert_eq!(strip_invisible(" pg\u{7}primary\r\n  [RESOLVED]\t"), "pg primary [RESOLVED]", "control characters");
        assert_eq!(strip_invisible("pg\u{202e}lluf\u{200b}\u{feff}"), "pglluf", "direction, and no width");
        let ignorable = "p\u{034f}\u{115f}\u{1160}g\u{3164}\u{fe00}\u{fe0f}\u{e0100}\u{e01ef}\u{2800}\u{ffa0}\u{180b}";
        assert_eq!(strip_invisible(ignorable), "pg", "nothing is drawn for them");
        assert_eq!(strip_invisible("Zürich 東京 🐘"), "Zürich 東京 🐘");
    }

    #[test]
    fn one_thing_is_singular() {
        assert_eq!([0, 1, 2].map(|number: u64| count(number, "flow")), ["0 flows", "1 flow", "2 flows"]);
    }

    #[test]
    fn lines_are_limited_and_the_rest_is_counted() {
        let limited = |number: usize| limited(vec!["line".to_owned(); number], 2);
        assert_eq!(limited(1), ["line"]);
        assert_eq!(limited(2), ["line", "line"]);
        assert_eq!(limited(4), ["line", "line", "and 2 more"]);
    }
}
