//! Lines of text: cleaned texts from AWS, which anybody may have written, and numbers and lists in words.

use std::fmt::Display;

use jiff::SignedDuration;
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

/// The units: seconds, and the long and the short name.
const UNITS: [(i64, &str, &str); 4] =
    [(86_400, "day", "d"), (3_600, "hour", "h"), (60, "minute", "min"), (1, "second", "s")];

/// `3 days 4 hours`, `12 minutes`, `40 seconds`: the largest unit, and the next one unless it is zero.
pub fn duration(lasted: SignedDuration) -> String {
    let parts = in_units(lasted).into_iter().take(2).filter(|(number, ..)| *number > 0);
    let words = parts.map(|(number, unit, _)| count(number, unit)).collect::<Vec<_>>().join(" ");
    if words.is_empty() { "less than a second".to_owned() } else { words }
}

/// `3 d`, `12 min`, `40 s`: the largest unit.
pub fn short_duration(lasted: SignedDuration) -> String {
    in_units(lasted).first().map_or("0 s".to_owned(), |(number, _, unit)| format!("{number} {unit}"))
}

/// The duration in units, from the largest nonzero unit.
fn in_units(lasted: SignedDuration) -> Vec<(i64, &'static str, &'static str)> {
    let mut rest = lasted.as_secs().max(0);
    let numbers = UNITS.map(|(length, unit, short)| {
        let number = rest / length;
        rest %= length;
        (number, unit, short)
    });
    numbers.into_iter().skip_while(|(number, ..)| *number == 0).collect()
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

    #[test]
    fn a_duration_has_its_two_largest_units() {
        let table = [
            (0, "less than a second"),
            (1, "1 second"),
            (61, "1 minute 1 second"),
            (720, "12 minutes"),
            (97_200, "1 day 3 hours"),
        ];
        for (seconds, said) in table {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), said);
        }
        let short = |seconds| short_duration(SignedDuration::from_secs(seconds));
        assert_eq!([0, 61, 720, 97_200].map(short), ["0 s", "1 min", "12 min", "1 d"]);
    }
}
