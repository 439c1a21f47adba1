//! The part of the demo that the documents show as a picture, as it was once printed.

use crate::chapters::{Chapter, connections, settings};

/// The chapters in the picture. What they print is always the same, but for ids, numbers, times and [`BY_CHANCE`].
const SHOWN: [Chapter; 3] = [connections::DBT_REQUESTS, connections::OTHER_CUSTOMER_REQUESTS, settings::REMOVED_RULE];

/// Messages that are part of another one in some runs: AWS sets dbt's endpoint up in its own time, and a scheduled run
/// can be faster than CloudTrail.
const BY_CHANCE: [&str; 2] = [": dbt has an endpoint: ", ": cause found: "];

/// These chapters of what the demo printed.
pub fn excerpt(printed: &str) -> String {
    let is_shown = |text: &&str| SHOWN.iter().any(|chapter| text.starts_with(&format!("{}\n", chapter.title)));
    let chapters = printed.split("\n== ").filter(is_shown);
    let chapters = chapters.map(|chapter| format!("== {}\n", chapter.trim_end()));
    let chapters = chapters.collect::<Vec<_>>().join("\n");
    chapters.split_inclusive('\n').filter(|line| !BY_CHANCE.iter().any(|part| line.contains(part))).collect()
}

/// Whether the demo still prints each line of a recording, with other ids, numbers and times.
pub fn is_current(recording: &str, excerpt: &str) -> bool {
    let printed: Vec<String> = excerpt.lines().map(words).collect();
    !recording.is_empty() && recording.lines().all(|line| printed.contains(&words(line)))
}

/// A line with `#` for each word with a digit. What is in brackets, such as `(+1 more)`, depends on the time.
fn words(line: &str) -> String {
    let line = line.split(" (").next().unwrap_or_default().trim();
    let words = line.split_inclusive(|c: char| !c.is_alphanumeric()).map(|part| {
        let word = part.trim_end_matches(|c: char| !c.is_alphanumeric());
        let has_digit = word.contains(|c: char| c.is_ascii_digit());
        if has_digit { part.replace(word, "#") } else { part.to_owned() }
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "   0.4 s  Deploying the guard

== dbt requests a connection

  12.1 s  dbt creates vpce-0a1
  12.5 s  the guard sent, after 0.4 s: [RESOLVED] postgres: dbt has an endpoint: vpce-0a1 is pending
  12.9 s  the guard sent, after 0.8 s: [NOTICE] postgres: dbt is connected (+1 more)

== somebody else

  13.0 s  no
";

    #[test]
    fn only_the_chosen_chapters_are_recorded() {
        let recorded = excerpt(PRINTED);
        assert!(recorded.starts_with("== dbt requests a connection\n\n  12.1 s  dbt creates vpce-0a1\n"), "{recorded}");
        assert!(recorded.ends_with("(+1 more)\n") && !recorded.contains("RESOLVED"), "{recorded}");
    }

    #[test]
    fn a_recording_is_current_while_its_words_are_printed() {
        let recorded = "== dbt requests a connection

   8.0 s  dbt creates vpce-99
   9.0 s  the guard sent, after 1.0 s: [NOTICE] postgres: dbt is connected
";
        assert!(is_current(recorded, &excerpt(PRINTED)));
        assert!(!is_current(&recorded.replace("connected", "attached"), &excerpt(PRINTED)));
        assert!(!is_current("", &excerpt(PRINTED)), "nothing was recorded");
    }
}
