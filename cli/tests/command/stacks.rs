//! Stacks that are not deployed, deleted, or elsewhere.

use super::aws::Aws;

#[test]
fn a_stack_that_is_not_there_is_explained() {
    let aws = Aws::new("stacks");
    for (stack, expected) in [
        ("half", "The stack is ROLLBACK_COMPLETE: the guard is not deployed, and does not work."),
        ("gone", "The stack gone was deleted at 2026-02-01T00:00:00Z: nothing guards its endpoint services."),
        ("abroad", "There is no stack abroad in us-east-1. There is one in eu-west-1: add --region eu-west-1."),
        ("nowhere", "There is no stack nowhere in us-east-1. Is it another profile or account?"),
    ] {
        for command in ["status", "check"] {
            let output = aws.command(&[command, "--stack", stack, "--region", "us-east-1"]).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(3), "{command} {stack}: {said}");
            assert!(said.contains(expected), "{command} {stack}: {said}");
        }
    }
}
