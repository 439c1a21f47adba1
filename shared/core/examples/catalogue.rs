//! Prints the catalogue of checks: `runbook` and `readme` as Markdown, `json` for programs. `make docs` writes the first two
//! into the documentation; the test `documentation` compares.

use std::path::Path;
use std::process::ExitCode;

use guard_core::checks::documentation;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("runbook") => print!("{}", documentation::runbook(page)),
        Some("readme") => print!("{}", documentation::readme_table()),
        Some("json") => println!("{}", documentation::json()),
        _ => {
            eprintln!("usage: catalogue runbook|readme|json");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn page(id: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbook").join(format!("{id}.md"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
