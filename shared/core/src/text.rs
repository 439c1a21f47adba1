//! Lines of text: what comes from AWS, and so from anybody; numbers and lists in words.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// One line without control characters and without those that change direction or have no width.
#[must_use]
pub fn strip_invisible(text: &str) -> String {
    let visible = text.chars().filter_map(|c| match c.general_category() {
        GeneralCategory::Control => Some(' '),
        GeneralCategory::Format => None,
        _ => Some(c),
    });
    visible.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `1 target`, `2 targets`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// At most `max` lines, and how many more there are.
#[must_use]
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
        assert_eq!(strip_invisible("Zürich 東京 🐘"), "Zürich 東京 🐘");
    }

    #[test]
    fn lines_are_limited_and_the_rest_is_counted() {
        let limited = |number: usize| limited(vec!["line".to_owned(); number], 2);
        assert_eq!(limited(1), ["line"]);
        assert_eq!(limited(2), ["line", "line"]);
        assert_eq!(limited(4), ["line", "line", "and 2 more"]);
    }
}
