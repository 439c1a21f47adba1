//! A corpus of inputs and its mutations: truncated, repeated, mixed, and with other characters.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};

/// The texts in a folder of the corpus.
pub fn corpus(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert!(!texts.is_empty(), "{} is empty", folder.display());
    texts
}

#[derive(Debug, Clone)]
enum Change {
    Cut(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, String),
}

fn tokens() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "\0",
        "\n",
        "\u{202e}",
        "\u{200b}",
        "\"",
        "\\",
        "{",
        "}",
        "[]",
        "null",
        "-1",
        "1e999",
        "18446744073709551616",
        "*",
        "#",
        ",",
        "=",
        ":",
        "/",
        "+",
        "０",
        "vpce-",
        "vpce-svc-",
        "arn:aws:iam::",
        "123456789012",
        "0.0.0.0/0",
        "::/0",
        "9999-12-31T23:59:59Z",
        "-009999-01-01T00:00:00Z",
    ];
    prop_oneof![4 => select(odd.to_vec()).prop_map(ToOwned::to_owned), 2 => ".{0,6}", 1 => Just("a".repeat(5_000))]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => any::<Index>().prop_map(Change::Cut),
        2 => (any::<Index>(), 1..12usize).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (any::<Index>(), 1..40usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        4 => (any::<Index>(), tokens()).prop_map(|(at, text)| Change::Insert(at, text)),
    ]
}

fn apply(text: &str, change: &Change) -> String {
    let all: Vec<char> = text.chars().collect();
    let split = |at: &Index| at.index(all.len() + 1);
    let string = |chars: &[char]| chars.iter().collect::<String>();
    match change {
        Change::Cut(at) => string(&all[..split(at)]),
        Change::Remove(at, length) => {
            let from = split(at);
            string(&all[..from]) + &string(&all[(from + length).min(all.len())..])
        }
        Change::Repeat(at, length) => {
            let from = split(at);
            let to = (from + length).min(all.len());
            string(&all[..to]) + &string(&all[from..])
        }
        Change::Insert(at, new) => string(&all[..split(at)]) + new + &string(&all[split(at)..]),
    }
}

/// A text from the folder with up to four changes, or any text.
pub fn inputs(folder: &str) -> impl Strategy<Value = String> + use<> {
    let changed = (select(corpus(folder)), vec(change(), 0..5));
    let changed = changed.prop_map(|(text, changes)| changes.iter().fold(text, |text, change| apply(&text, change)));
    prop_oneof![15 => changed, 1 => ".{0,200}"]
}

/// Tests every text in the folder, and `FUZZ_CASES`, else `cases`, generated ones. A failure prints `ATTACK_SEED`.
pub fn fuzz(folder: &str, cases: u32, test: impl Fn(&str) -> Result<(), TestCaseError>) {
    for text in corpus(folder) {
        test(&text).unwrap_or_else(|failure| panic!("{text}: {failure}"));
    }
    let cases = std::env::var("FUZZ_CASES").map_or(cases, |text| text.parse().unwrap());
    for seed in attack::seeds(1) {
        run_seeded(seed, cases, &inputs(folder), |text| test(&text));
    }
}

/// Tests `cases` values of `strategy` with this seed, which a failure prints.
pub fn run_seeded<S: Strategy>(
    seed: u64,
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        rng_seed: RngSeed::Fixed(seed),
        rng_algorithm: RngAlgorithm::ChaCha,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(strategy, test);
    result.unwrap_or_else(|failure| panic!("ATTACK_SEED={seed}, {cases} cases: {failure}"));
}
