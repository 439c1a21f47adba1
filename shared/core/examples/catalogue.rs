//! The catalogue of checks: `write` writes it into the documentation (`make docs`), `json` prints it for programs.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use guard_core::documentation::{json, readme_table, runbook};

/// README's table stands between these lines.
const MARKS: (&str, &str) = ("<!-- checks -->\n", "<!-- /checks -->");

fn main() -> Result<ExitCode> {
    match std::env::args().nth(1).as_deref() {
        Some("write") => write()?,
        Some("json") => println!("{}", json()),
        _ => {
            eprintln!("usage: catalogue write|json");
            return Ok(ExitCode::from(64));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write() -> Result<()> {
    let page = |id: &str| {
        let path = top().join(format!("shared/core/runbook/{id}.md"));
        std::fs::read_to_string(&path).map_err(|error| Error::other(format!("{}: {error}", path.display())))
    };
    std::fs::write(top().join("docs/checks.md"), runbook(page)?)?;
    let readme = top().join("README.md");
    let text = std::fs::read_to_string(&readme)?;
    let parts = text.split_once(MARKS.0).and_then(|(before, rest)| Some((before, rest.split_once(MARKS.1)?.1)));
    let (before, after) = parts.ok_or_else(|| Error::other("README.md has no place for the table"))?;
    std::fs::write(readme, [before, MARKS.0, &readme_table(), MARKS.1, after].concat())
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
