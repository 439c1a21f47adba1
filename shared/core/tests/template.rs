//! What the code takes for granted of `template.yaml`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use guard_core::alerts::record::LEASE;

/// A run that still sends what it has the lease on must be the only one to do so.
#[test]
fn a_lease_lasts_longer_than_a_function_may_run() {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../template.yaml")).unwrap();
    let timeouts = template.lines().filter_map(|line| line.trim().strip_prefix("Timeout:"));
    let timeouts: Vec<i64> = timeouts.map(|seconds| seconds.trim().parse().expect("a number")).collect();
    assert!(!timeouts.is_empty(), "the template has no Timeout");
    assert!(timeouts.iter().all(|seconds| *seconds < LEASE.as_secs()), "{timeouts:?} against a lease of {LEASE:?}");
}
