//! The documentation says what the catalogue says. `make docs` writes it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use guard_core::checks::{CATALOGUE, documentation};

fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
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
