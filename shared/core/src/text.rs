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
