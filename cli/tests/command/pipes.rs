//! The command without a reader of its output, as in `privatelink-guard check | head -1`.

use std::io::pipe;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::aws::{Aws, SERVICE};

/// Every command, and every failure before a command begins.
const COMMANDS: [&[&str]; 15] = [
    &["--help"],
    &["--version"],
    &["check", "--help"],
    &["chek"],
    &["check", "--ports", "none"],
    &["check", "--profile", "missing"],
    &["check", "--service", SERVICE],
    &["check", "--service", SERVICE, "--json", "--html", "report.html"],
    &["request", "--service", SERVICE],
    &["request", "--service", SERVICE, "--anyway"],
    &["trace", "--service", SERVICE, "--last", "30m"],
    &["silence", "list", "--stack", "guard"],
    &["policy"],
    &["completions", "bash"],
    &["man"],
];

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    pipe().unwrap().1.into()
}

fn command(aws: &Aws, arguments: &[&str]) -> Command {
    let mut command = aws.command(arguments);
    command.env("AWS_REGION", "us-east-1");
    command
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

#[test]
fn a_command_ends_quietly_if_nobody_reads_it() {
    let aws = Aws::new("pipes");
    for arguments in COMMANDS {
        let read = run(&mut command(&aws, arguments));
        let said = String::from_utf8_lossy(&read.stderr);
        let status = read.status.code();
        assert!(!read.stdout.is_empty() || !said.is_empty(), "{arguments:?} prints nothing");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");

        let without_stdout = run(command(&aws, arguments).stdout(closed()));
        assert_eq!(String::from_utf8_lossy(&without_stdout.stderr), said, "{arguments:?}, without stdout");
        assert_eq!(without_stdout.status.code(), status, "{arguments:?}, without stdout");

        let without_stderr = run(command(&aws, arguments).stderr(closed()));
        assert_eq!(without_stderr.status.code(), status, "{arguments:?}, without stderr");
        assert_eq!(without_stderr.stdout.is_empty(), read.stdout.is_empty(), "{arguments:?}, without stderr");

        let without_both = run(command(&aws, arguments).stdout(closed()).stderr(closed()));
        assert_eq!(without_both.status.code(), status, "{arguments:?}, without both");
    }
}

#[test]
fn a_check_that_waits_ends_if_nobody_reads_it() {
    let aws = Aws::new("waits");
    let began = Instant::now();
    let waiting = run(command(&aws, &["check", "--service", SERVICE, "--wait", "1h"]).stderr(closed()));
    assert_eq!(waiting.status.code(), Some(1), "AWS accepts requests by itself");
    assert!(began.elapsed() < Duration::from_mins(1), "it would check again after five seconds");
}

/// Only Linux has a file that is always full.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let aws = Aws::new("full");
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    for arguments in [&["--help"][..], &["policy"]] {
        let output = run(command(&aws, arguments).stdout(full()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("No space left"), "{arguments:?}: {said}");
    }
    assert_eq!(run(command(&aws, &["chek"]).stderr(full())).status.code(), Some(64), "nobody can be told");
}
