//! `--profile`: each kind of profile, and the key that then signs the calls.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::aws::{ACCOUNT, Aws, ENVIRONMENT_KEY, PORTAL_KEY, ROLE_KEY, SERVICE, TOKEN};

const CONFIG: &str = "
[profile keys]
region = eu-central-1

[profile role]
region = eu-central-1
role_arn = arn:aws:iam::111122223333:role/reader
source_profile = keys

[profile mfa]
region = eu-central-1
role_arn = arn:aws:iam::111122223333:role/reader
source_profile = keys
mfa_serial = arn:aws:iam::111122223333:mfa/me

[profile process]
region = eu-central-1
credential_process = echo started >> starts && cat process.json

[profile sso]
region = eu-central-1
sso_session = company
sso_account_id = 111122223333
sso_role_name = reader

[sso-session company]
sso_region = eu-west-1
sso_start_url = https://company.awsapps.com/start

[profile empty]
region = eu-central-1
";

const CREDENTIALS: &str = "
[keys]
aws_access_key_id = AKIAKEYS
aws_secret_access_key = secret
";

/// The file that a sign-in leaves for the SSO session, named after `printf company | sha1sum`.
const TOKEN_FILE: &str = ".aws/sso/cache/71b21161ffa1e6516bcc072aaf5ef38cbe85b511.json";

/// The calls of `check` if EC2 answers only the first call.
const ACTIONS: [&str; 4] = [
    "DescribeVpcEndpointConnections",
    "DescribeVpcEndpointServiceConfigurations",
    "DescribeVpcEndpointServicePermissions",
    "GetCallerIdentity",
];

/// Runs `check` with a profile.
fn check(aws: &Aws, profile: &str) -> Output {
    aws.write("config", CONFIG);
    aws.write("credentials", CREDENTIALS);
    aws.command(&["check", "--service", SERVICE, "--json", "--profile", profile]).output().unwrap()
}

/// Checks that the command made the calls in `first` once each, and that `key` signed all others.
fn assert_signed(aws: &Aws, output: &Output, first: &[&str], key: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.stdout.is_empty(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["accountId"], &report["region"]), (&ACCOUNT.into(), &"eu-central-1".into()), "{said}");
    assert_eq!(output.status.code(), Some(1), "AWS accepts requests by itself: {said}");
    let calls = aws.calls();
    let (of_sign_in, others) = calls.split_at_checked(first.len()).unwrap_or_default();
    assert_eq!(of_sign_in, first);
    let by = format!(" in eu-central-1 by {key}");
    let actions: BTreeSet<&str> = others.iter().filter_map(|call| call.strip_suffix(&by)).collect();
    assert_eq!(others.iter().find(|call| !call.ends_with(&by)), None, "another key signed");
    assert_eq!(actions, BTreeSet::from(ACTIONS));
}

/// Checks that the command failed with one sentence that contains these words.
fn assert_refused(aws: &Aws, output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("Give --profile"), "it was given: {said}");
    assert_eq!(aws.calls(), [""; 0], "nobody else's key signs");
}

#[test]
fn keys_of_a_profile_sign_all_calls() {
    let aws = Aws::new("keys");
    assert_signed(&aws, &check(&aws, "keys"), &[], "AKIAKEYS");
}

#[test]
fn a_role_is_assumed_once_with_its_source_profile() {
    let aws = Aws::new("role");
    assert_signed(&aws, &check(&aws, "role"), &["AssumeRole in eu-central-1 by AKIAKEYS"], ROLE_KEY);
}

/// Runs its arguments in a terminal, and types a code when the prompt asks for one.
const TYPIST: &str = r#"
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
said = b""
try:
    while chunk := os.read(terminal, 1024):
        said += chunk
        if said.endswith(b": ") and b"MFA code" in said:
            os.write(terminal, b"123456\n")
            said = b""
except OSError:
    pass  # the terminal closes with its last process
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// What the AWS CLI, version 2, does: botocore asks for the code. Version 1, which `PyPI` has, cannot export credentials.
const AWS: &str = r#"
import json, sys
import botocore.session
assert sys.argv[1:6] == ["configure", "export-credentials", "--format", "process", "--profile"], sys.argv
found = botocore.session.Session(profile=sys.argv[6]).get_credentials().get_frozen_credentials()
print(json.dumps({"Version": 1, "AccessKeyId": found.access_key, "SecretAccessKey": found.secret_key,
                  "SessionToken": found.token}))
"#;

#[test]
fn the_aws_cli_asks_for_the_code_of_an_mfa_device() {
    let aws = Aws::new("mfa");
    aws.write("config", CONFIG);
    aws.write("credentials", CREDENTIALS);
    let command = aws.command(&["check", "--service", SERVICE, "--json", "--profile", "mfa"]);
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".tools/aws/bin/python");
    aws.write("bin/aws", &format!("#!{}{AWS}", python.display()));
    let bin = command.get_current_dir().unwrap().join("bin");
    std::fs::set_permissions(bin.join("aws"), Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path)));
    let mut typist = Command::new(&python);
    typist.args(["-c", TYPIST]).arg(command.get_program()).args(command.get_args()).env_clear();
    typist.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path.unwrap());
    let output = typist.current_dir(command.get_current_dir().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let calls = aws.calls();
    assert_eq!(calls.first().map(String::as_str), Some("AssumeRole in eu-central-1 by AKIAKEYS"), "{said}");
    let by_the_role = |call: &String| call.ends_with(&format!(" in eu-central-1 by {ROLE_KEY}"));
    assert!(calls.len() > 4 && calls[1..].iter().all(by_the_role), "{calls:?}");
}

#[test]
fn a_profile_with_mfa_names_the_cli_that_asks_for_the_code() {
    let aws = Aws::new("mfa-without-cli");
    let output = check(&aws, "mfa");
    assert_refused(&aws, &output, &["profile mfa", "AWS CLI, version 2", "aws configure export-credentials"]);
}

#[test]
fn a_credential_process_is_started_once() {
    let aws = Aws::new("process");
    aws.write("process.json", r#"{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "secret"}"#);
    assert_signed(&aws, &check(&aws, "process"), &[], "AKIAPROCESS");
    assert_eq!(aws.read("starts"), "started\n", "it may ask for a code");
}

#[test]
fn the_sso_portal_returns_the_credentials_of_a_sign_in() {
    let aws = Aws::new("sso");
    let token = format!(r#"{{"accessToken": "{TOKEN}", "expiresAt": "2099-01-01T00:00:00Z"}}"#);
    aws.write(TOKEN_FILE, &token);
    assert_signed(&aws, &check(&aws, "sso"), &[&format!("GetRoleCredentials with {TOKEN}")], PORTAL_KEY);
}

#[test]
fn an_ended_sso_session_needs_a_new_sign_in() {
    let aws = Aws::new("sso-ended");
    let token = format!(r#"{{"accessToken": "{TOKEN}", "expiresAt": "2020-01-01T00:00:00Z"}}"#);
    aws.write(TOKEN_FILE, &token);
    assert_refused(&aws, &check(&aws, "sso"), &["profile sso", "aws sso login --profile sso"]);
}

#[test]
fn a_profile_without_credentials_is_named() {
    let aws = Aws::new("empty");
    assert_refused(&aws, &check(&aws, "empty"), &["profile empty", "no credentials"]);
}

#[test]
fn a_missing_profile_is_named_with_the_command_that_lists_them() {
    let aws = Aws::new("missing");
    assert_refused(&aws, &check(&aws, "mising"), &["There is no profile mising", "`aws configure list-profiles`"]);
}

#[test]
fn without_a_profile_the_environment_signs() {
    let aws = Aws::new("environment");
    let output = aws.command(&["check", "--service", SERVICE, "--region", "eu-central-1", "--json"]).output().unwrap();
    assert_signed(&aws, &output, &[], ENVIRONMENT_KEY);
}
