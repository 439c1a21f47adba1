//! The documentation says what the catalogue says, which `make docs` writes, and names tests that exist.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use guard_core::catalogue::CATALOGUE;
use guard_core::documentation;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

#[test]
fn the_runbook_is_up_to_date() {
    let page = |id: &str| Ok::<_, ()>(document(&format!("shared/core/runbook/{id}.md")));
    assert!(document("docs/checks.md") == documentation::runbook(page).unwrap(), "run `make docs`");
}

#[test]
fn the_readmes_table_is_up_to_date() {
    let readme = document("README.md");
    let table = readme.split("<!-- checks -->\n").nth(1).unwrap().split("<!-- /checks -->").next().unwrap();
    assert!(table == documentation::readme_table(), "run `make docs`");
}

#[test]
fn every_check_has_a_page_and_every_page_a_check() {
    let pages = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("runbook")).unwrap();
    let pages: BTreeSet<String> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(pages, CATALOGUE.iter().map(|check| format!("{}.md", check.id)).collect());
}

/// What depends on a check's id stands in its row of the catalogue: a list elsewhere would be a hidden step of "Add a
/// check". Only the check's own file names it.
#[test]
fn no_code_names_a_check_by_its_id() {
    let folders = ["cli/src", "functions", "shared/aws/src", "shared/core/src"];
    let code: String = folders.map(|folder| code(&repository().join(folder))).concat();
    for check in CATALOGUE {
        assert_eq!(code.matches(&format!("\"{}\"", check.id)).count(), 1, "{}", check.id);
    }
}

/// The Rust sources below `folder`, without tests and what only they use.
fn code(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_for_tests = |path: &Path| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        ["tests", "testing", "simulation"].contains(&name)
    };
    let texts = entries.filter(|path| !is_for_tests(path)).map(|path| match path.is_dir() {
        true => code(&path),
        false if path.extension().is_some_and(|extension| extension == "rs") => {
            std::fs::read_to_string(path).unwrap().split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()
        }
        false => String::new(),
    });
    texts.collect()
}

/// The Rust and Python sources below `folder`, one after the other.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension().and_then(|extension| extension.to_str()) {
        _ if path.is_dir() => sources(&path),
        Some("rs" | "py") => std::fs::read_to_string(path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

/// What stands in code in `text`.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests in the last column of ARCHITECTURE's tables "change one line", which are about the decisions.
fn tests_of_the_decisions(page: &str) -> Vec<&str> {
    let tables = page.split("| and this test fails |\n").skip(1);
    // Below the heading's rule.
    let rows = tables.flat_map(|table| table.lines().skip(1).take_while(|line| line.starts_with('|')));
    rows.flat_map(|row| code_spans(row.trim_end_matches(" |").rsplit(" | ").next().unwrap())).collect()
}

/// Each guarantee, with what stands in code behind its `**Tests:**`.
fn tests_of_the_guarantees(page: &str) -> BTreeMap<&str, Vec<&str>> {
    let guarantees = page.split("\n### ").skip(1).map(|guarantee| guarantee.split("\n## ").next().unwrap());
    let tests = guarantees.map(|guarantee| {
        let tests = guarantee.split("**Tests:**").nth(1).unwrap_or_default();
        (guarantee.lines().next().unwrap(), code_spans(tests).collect())
    });
    tests.collect()
}

#[test]
fn every_guarantee_names_its_tests_or_the_command_that_measures() {
    let (page, makefile) = (document("docs/guarantees.md"), document("Makefile"));
    let guarantees = tests_of_the_guarantees(&page);
    assert!(guarantees.len() >= 15, "{guarantees:?}");
    for (guarantee, tests) in guarantees {
        let targets = || tests.iter().filter_map(|test| test.strip_prefix("make "));
        assert!(tests.iter().any(|test| test.contains('_')) || targets().count() > 0, "{guarantee}");
        assert!(targets().all(|target| makefile.contains(&format!("\n{target}: "))), "{guarantee}: {tests:?}");
    }
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let folders = ["cli", "functions", "shared", "tests"];
    let sources: String = folders.map(|folder| sources(&repository().join(folder))).concat();
    let (architecture, guarantees) = (document("ARCHITECTURE.md"), document("docs/guarantees.md"));
    let of_guarantees = tests_of_the_guarantees(&guarantees).into_values().flatten().collect();
    for names in [tests_of_the_decisions(&architecture), of_guarantees] {
        let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let is_missing = |name: &&str| !["fn", "def"].iter().any(|word| sources.contains(&format!("{word} {name}(")));
        let names: Vec<&str> = names.into_iter().filter(is_name).collect();
        assert!(names.len() >= 5, "{names:?}");
        assert_eq!(names.into_iter().filter(is_missing).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
