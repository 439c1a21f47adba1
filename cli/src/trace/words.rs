//! Numbers and lists as text.

/// `512 B`, `12.4 kB`, `3.1 GB`.
#[allow(clippy::cast_precision_loss)]
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1000.0;
    let mut units = UNITS.into_iter().peekable();
    // Rounding would show 999.95 as 1000.0.
    while let Some(unit) = units.next() {
        if value < 999.95 || units.peek().is_none() {
            return format!("{value:.1} {unit}");
        }
        value /= 1000.0;
    }
    format!("{number} B")
}

/// `a`, `a and b`, `a, b and c`.
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_become_readable_text() {
        let table = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_400, "12.4 kB"), (999_960, "1.0 MB")];
        for (number, expected) in table {
            assert_eq!(bytes(number), expected);
        }
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
        let items = ["a", "b", "c"].map(ToOwned::to_owned);
        assert_eq!(listed(&items), "a, b and c");
    }
}
