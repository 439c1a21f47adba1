//! The report as Markdown, made from its JSON: an issue shows it as it is. The JSON itself is its last section.

use serde_json::Value;

/// The report as a page of text.
pub fn render(report: &Value) -> String {
    let lines = [
        head(report),
        section("What this run proves", list(&report["statements"], statement)),
        vec![String::new(), text(&report["notProved"])],
        section("Step by step", list(&report["steps"], step)),
        section("What this run saw of AWS", list(&report["assumptions"], assumption)),
        section("What was removed", list(&report["removed"], removal)),
        section("What is left", list(&report["left"], left)),
        section("Everything, with AWS's answers", json(report)),
    ];
    lines.concat().join("\n") + "\n"
}

fn head(report: &Value) -> Vec<String> {
    let mut lines = vec![format!("# privatelink-guard verify: {}", text(&report["verdict"])), String::new()];
    if report["ranOn"] != "AWS" {
        let warning =
            "**This ran on a local AWS.** It shows how make verify works, and proves nothing about AWS itself.";
        lines.extend([warning.to_owned(), String::new()]);
    }
    let (run, version, took) = (&report["run"], &report["guardVersion"], report["tookSeconds"].as_u64());
    lines.push(format!(
        "Run {} of version {} on {}, {}, from {}, in {} minutes. Account ids, callers and principals are masked.",
        text(run),
        text(version),
        text(&report["ranOn"]),
        text(&report["region"]),
        text(&report["beganAt"]),
        took.unwrap_or_default().div_ceil(60)
    ));
    lines
}

fn section(title: &str, body: Vec<String>) -> Vec<String> {
    let body = if body.is_empty() { vec!["Nothing.".to_owned()] } else { body };
    [vec![String::new(), format!("## {title}"), String::new()], body].concat()
}

fn list(items: &Value, show: fn(&Value) -> Vec<String>) -> Vec<String> {
    items.as_array().into_iter().flatten().flat_map(show).collect()
}

fn statement(row: &Value) -> Vec<String> {
    let sign = match row["verdict"].as_str() {
        Some("proved") => '✓',
        Some("not so") => '✗',
        _ => '?',
    };
    vec![format!("- {sign} **{}:** {} {}", text(&row["verdict"]), text(&row["statement"]), code(&text(&row["why"])))]
}

fn step(step: &Value) -> Vec<String> {
    let sign = match step["outcome"].as_str() {
        Some("as expected") => '✓',
        Some("failed") => '✗',
        _ => '–',
    };
    let outcome = format!("{sign} {}, {} s", text(&step["outcome"]), step["tookSeconds"]);
    let mut lines = vec![format!("### {}", text(&step["title"])), String::new(), outcome, String::new()];
    lines.push(format!("- Expected: {}", text(&step["expected"])));
    lines.extend(step["why"].as_str().map(|why| format!("- Happened: {}", code(why))));
    let facts = step["facts"].as_array().into_iter().flatten();
    lines.extend(facts.map(|fact| format!("- {}: {}", text(&fact["name"]), code(&text(&fact["text"])))));
    let sent = step["alerts"].as_array().into_iter().flatten();
    let sent = sent.map(|alert| (alert["afterSeconds"].to_string(), text(&alert["subject"])));
    lines.extend(sent.map(|(after, subject)| format!("- The guard sent, after {after} s: {}", code(&subject))));
    lines.push(String::new());
    lines
}

fn assumption(row: &Value) -> Vec<String> {
    let question = format!("- **{}**", text(&row["question"]));
    let seen = row["seen"].as_array().into_iter().flatten().map(|seen| format!("  {}", code(&seen.to_string())));
    let not_seen = row["notSeen"].as_str().map(|why| format!("  Not seen: {}", code(why)));
    [question].into_iter().chain(seen).chain(not_seen).collect()
}

fn removal(row: &Value) -> Vec<String> {
    let what = code(&text(&row["what"]));
    vec![match row["error"].as_str() {
        Some(error) => format!("- ✗ not removed: {what}: {}", code(error)),
        None => format!("- ✓ removed: {what}"),
    }]
}

fn left(row: &Value) -> Vec<String> {
    vec![format!("- {}. To remove it: {}", code(&text(&row["what"])), code(&text(&row["command"])))]
}

fn json(report: &Value) -> Vec<String> {
    let pretty = format!("{report:#}");
    let fence = "`".repeat(longest_run(&pretty).max(2) + 1);
    vec![format!("{fence}json"), pretty, fence]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The text in a code span, where nothing in it is markup.
fn code(text: &str) -> String {
    let fence = "`".repeat(longest_run(text) + 1);
    format!("{fence} {} {fence}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_from_aws_is_never_markup() {
        assert_eq!(code("a ``b`` <img>\n# c"), "``` a ``b`` <img> # c ```");
        let report = json!({"left": [{"what": "# [x](y)", "command": "aws"}], "note": "```"});
        let page = render(&report);
        assert!(page.contains("- ` # [x](y) `. To remove it: ` aws `"), "{page}");
        assert!(page.ends_with("\n````\n") && page.contains("\n````json\n"), "{page}");
    }

    #[test]
    fn each_step_has_its_outcome_and_the_alerts() {
        let report = json!({
            "verdict": "1 step did not end as expected; nothing is left.", "ranOn": "a local AWS",
            "steps": [{
                "title": "a target fails", "expected": "a warning", "outcome": "failed", "why": "waited", "tookSeconds": 4.2,
                "facts": [{"name": "Accepted", "text": "after 3 s"}],
                "alerts": [{"afterSeconds": 1.5, "subject": "[WARNING] pg"}],
            }],
            "removed": [{"what": "stack", "error": "DELETE_FAILED"}],
        });
        let page = render(&report);
        for line in [
            "# privatelink-guard verify: 1 step did not end as expected; nothing is left.",
            "### a target fails",
            "✗ failed, 4.2 s",
            "- Happened: ` waited `",
            "- Accepted: ` after 3 s `",
            "- The guard sent, after 1.5 s: ` [WARNING] pg `",
            "- ✗ not removed: ` stack `: ` DELETE_FAILED `",
        ] {
            assert!(page.lines().any(|each| each == line), "{line}\n{page}");
        }
    }
}
