//! Text that comes from AWS, and so from anybody.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// One line without control characters and without those that change direction or have no width.
#[must_use]
pub fn visible(text: &str) -> String {
    let visible = text.chars().filter_map(|c| match c.general_category() {
        GeneralCategory::Control => Some(' '),
        GeneralCategory::Format => None,
        _ => Some(c),
    });
    visible.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn what_nobody_sees_is_removed() {
        assert_eq!(visible(" pg\u{7}primary\r\n  [RESOLVED]\t"), "pg primary [RESOLVED]", "control characters");
        assert_eq!(visible("pg\u{202e}lluf\u{200b}\u{feff}"), "pglluf", "direction, and no width");
        assert_eq!(visible("Zürich 東京 🐘"), "Zürich 東京 🐘");
    }
}
