//! Escaping of text from AWS, which is not trusted. Names and reasons lose their invisible characters in every body,
//! and in chat also everything that could become markup.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::text::strip_invisible;

/// Maximum length of a line from AWS.
const MAX_LINE: usize = 1_000;

/// The text after [`strip_invisible`], cut to the maximum length with a mark, and without an address that could become
/// a link.
pub(super) fn strip_and_cut(text: &str) -> String {
    let line = strip_invisible(text).replace("://", ": //").replace("www.", "www. ").replace("www.  ", "www. ");
    match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}... (cut)", &line[..end]),
        None => line,
    }
}

/// The text in ASCII, of at most `max` characters; dots mark a cut.
pub(super) fn ascii(text: &str, max: usize) -> String {
    let ascii: String = strip_and_cut(text).chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    if ascii.len() <= max { ascii } else { format!("{}...", &ascii[..max.saturating_sub(3)]) }
}

/// Text for Slack, whose markup has no escape: a zero-width space follows every character that could open markup, so
/// that the text looks the same and forms nothing.
pub(super) fn markdown(text: &str) -> String {
    let mut safe = String::new();
    let text = without_symbols(text);
    for (index, c) in text.char_indices() {
        safe.push(c);
        let opens = matches!(c, '*' | '_' | '~' | '`' | '[' | ']' | '<' | '>' | '!' | '#' | '@');
        if opens || is_emoji_code(&text[index..]) {
            safe.push('\u{200b}');
        }
    }
    safe
}

/// Whether the text begins with an emoji code of Slack: `:name:`.
fn is_emoji_code(text: &str) -> bool {
    let Some(name) = text.strip_prefix(':').and_then(|rest| rest.split_once(':')).map(|(name, _)| name) else {
        return false;
    };
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '+' | '-' | '\''))
}

/// Literal text, for use between back-ticks.
pub(super) fn code(text: &str) -> String {
    // Slack parses a `<` even in code.
    without_symbols(text).replace('`', "'").replace('<', "<\u{200b}")
}

/// The text after [`strip_and_cut`], with question marks for symbols: in chat, a coloured one is what people look at
/// first, and all of them are ours. Emoji and shapes are other symbols, and an enclosing mark draws a circle.
/// <https://www.unicode.org/reports/tr44/#General_Category_Values>
fn without_symbols(text: &str) -> String {
    let is_symbol =
        |c: char| matches!(c.general_category(), GeneralCategory::OtherSymbol | GeneralCategory::EnclosingMark);
    strip_and_cut(text).chars().map(|c| if is_symbol(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_brings_no_symbol_into_chat() {
        for symbol in ["🔴", "🟠", "🔵", "✅", "⚪", "🟢", "⚠", "✔", "●", "\u{20dd}"] {
            assert_eq!(markdown(&format!("pg {symbol}{symbol} ok")), "pg ?? ok");
            assert_eq!(code(&format!("{symbol} CRITICAL")), "? CRITICAL");
        }
        assert_eq!(markdown("Zürich 東京, 10 €, 5 → 6"), "Zürich 東京, 10 €, 5 → 6");
    }

    #[test]
    fn an_emoji_code_or_an_address_in_a_name_forms_no_markup() {
        assert_eq!(markdown("pg :white_check_mark: ok"), "pg :\u{200b}white_\u{200b}check_\u{200b}mark: ok");
        assert_eq!(markdown("a: b, 10:30 and :"), "a: b, 10:30 and :", "no code");
        assert_eq!(markdown("see https://evil.example"), "see https: //evil.example");
        assert_eq!(strip_and_cut("www.evil.example, HTTPS://x"), "www. evil.example, HTTPS: //x", "in emails too");
        assert_eq!(strip_and_cut(&strip_and_cut("https://x")), strip_and_cut("https://x"));
        assert_eq!(ascii("https://x", 40), "https: //x", "a subject has no link");
    }
}
