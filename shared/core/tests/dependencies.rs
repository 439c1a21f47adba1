//! What decides stays pure: the compiler never sees an AWS crate or a runtime in this crate's dependency tree.

#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn the_dependency_tree_has_no_aws_crate_and_no_runtime() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "guard-core", "--edges", "normal,build", "--prefix", "none", "--all-features"])
        .arg("--offline")
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.lines().any(|line| line.starts_with("serde ")), "the tree was read: {tree}");
    let forbidden =
        |name: &str| name.starts_with("aws") || ["tokio", "hyper", "reqwest", "lambda_runtime"].contains(&name);
    let found: Vec<&str> = tree.lines().filter(|line| forbidden(line.split(' ').next().unwrap())).collect();
    assert_eq!(found, [""; 0]);
}
