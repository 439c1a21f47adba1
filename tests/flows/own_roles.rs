//! Roles that a security team created, each with exactly the policies that the command prints and nothing else.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use story::company::{Company, TARGETS, describe_attributes, is_cross_zone_on};
use story::local_aws::{Caller, LocalAws, eventually, list, quoted, text};
use story::mail::Mailbox;
use story::stack::{self, GuardFunction, GuardStack};
use story::{COMPANY, REGION, UNTRUSTED, command};

/// The roles, as the command and as the template's parameters name them.
const ROLES: [(&str, &str); 6] = [
    ("connection-acceptor", "ConnectionAcceptorRoleArn"),
    ("health-watcher", "HealthWatcherRoleArn"),
    ("drift-watcher", "DriftWatcherRoleArn"),
    ("target-follower", "TargetFollowerRoleArn"),
    ("schedules", "ScheduleRoleArn"),
    ("chat", "ChatRoleArn"),
];

/// The parameters that the roles' policies depend on.
fn settings(company: &Company) -> [(&'static str, &str); 6] {
    [
        ("EndpointServiceIds", &company.service),
        ("UntrustedRequests", "reject"),
        ("CrossZone", "enforce"),
        ("FollowHostnames", "replace"),
        ("FollowTargetGroups", &company.target_group),
        ("DryRun", "false"),
    ]
}

#[test]
fn roles_with_the_printed_policies_are_all_the_guard_needs() -> Result<()> {
    let aws = LocalAws::start(2)?;
    let company = Company::set_up(&aws, "postgres")?;
    stack::build(&aws)?;
    let roles = ROLES.map(|(role, parameter)| create_role(&aws, role, &company).map(|arn| (parameter, arn)));
    let roles = roles.into_iter().collect::<Result<Vec<_>>>()?;
    let given = roles.iter().map(|(parameter, arn)| (*parameter, arn.as_str()));
    let before = in_iam(&aws)?;
    let parameters: Vec<_> = settings(&company).into_iter().skip(1).chain(given).collect();
    GuardStack::deploy(&aws, "guard", &[&company.service], &parameters)?;
    ensure!(in_iam(&aws)? == before, "the stack creates nothing in IAM: {:?}", in_iam(&aws)?);

    let mailbox = Mailbox::from_the_start(&aws);
    let dbt = company.dbt_connects(&aws)?;
    mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;
    company.allow_every_account(&aws)?;
    let untrusted = company.connect_from(&aws, UNTRUSTED, REGION)?;
    company.wait_for_state(&aws, &untrusted, "rejected")?;
    company.set_cross_zone(&aws, false)?;
    eventually("cross-zone to be on again", || {
        let attributes = company.administer(&aws, &describe_attributes(&company.load_balancer))?;
        Ok(is_cross_zone_on(&attributes).then_some(()))
    })?;
    company.set_health(&aws, TARGETS[0], "unhealthy")?;
    mailbox.wait("[WARNING]", "1 of 3 targets unhealthy")?;
    company.tag_target_group(&aws, "add-tags", "Key=privatelink-guard:hostname,Value=172.31.0.99")?;
    mailbox.wait("[NOTICE]", "registering 172.31.0.99:5432 in postgres")?;
    mailbox.wait("[NOTICE]", "deregistering ")?;
    ensure_schedules_start_every_function(&aws)?;
    ensure_nothing_was_denied(&aws)?;
    // Of a deployed stack, the command reads the parameters.
    let deployed = policy(&aws, &["--role", "drift-watcher", "--stack", "guard"])?;
    ensure!(deployed == printed(&aws, "drift-watcher", &company, &[])?, "{deployed:#}");
    Ok(())
}

/// Creates a role in a folder of the security team's, with what the command prints before the stack is deployed.
fn create_role(aws: &LocalAws, role: &str, company: &Company) -> Result<String> {
    let root = Caller::root(COMPANY);
    let name = format!("guard-{role}");
    let create = format!("iam create-role --role-name {name} --path /security/ --assume-role-policy-document");
    let created = aws.aws(&root, &format!("{create} {}", quoted(&printed(aws, role, company, &["--trust"])?)))?;
    if role != "chat" {
        let put = format!("iam put-role-policy --role-name {name} --policy-name guard --policy-document");
        aws.aws(&root, &format!("{put} {}", quoted(&printed(aws, role, company, &[])?)))?;
    }
    text(&created, "/Role/Arn")
}

fn printed(aws: &LocalAws, role: &str, company: &Company, flags: &[&str]) -> Result<Value> {
    let settings = settings(company).map(|(name, value)| format!("--set={name}={value}"));
    let place = ["--role", role, "--stack", "guard", "--account", COMPANY, "--region", REGION];
    let arguments = place.into_iter().chain(flags.iter().copied()).chain(settings.iter().map(String::as_str));
    policy(aws, &arguments.collect::<Vec<_>>())
}

fn policy(aws: &LocalAws, arguments: &[&str]) -> Result<Value> {
    let output = command::run(aws, &Caller::root(COMPANY), &[&["policy"], arguments].concat())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The names of all roles and policies.
fn in_iam(aws: &LocalAws) -> Result<Vec<String>> {
    let ask = |line| aws.aws(&Caller::root(COMPANY), line);
    let roles = ask("iam list-roles --query Roles[].Arn")?;
    let policies = ask("iam list-policies --scope Local --query Policies[].Arn")?;
    let arns = list(&roles).chain(list(&policies));
    arns.map(|arn| Ok(arn.as_str().context("an ARN is a string")?.to_owned())).collect()
}

fn ensure_schedules_start_every_function(aws: &LocalAws) -> Result<()> {
    eventually("every function to have run on its schedule", || {
        let runs = aws.invocations()?;
        let succeeded = |name: &str| {
            runs.iter().any(|run| {
                let function = run["function"].as_str().unwrap_or_default();
                function.contains(name) && run["trigger"] == "schedule" && run["ok"] == true
            })
        };
        Ok(GuardFunction::ALL.map(GuardFunction::as_str).into_iter().all(succeeded).then_some(()))
    })
}

fn ensure_nothing_was_denied(aws: &LocalAws) -> Result<()> {
    let requests = aws.control("requests", &json!({"principal": "assumed-role/guard-"}))?;
    let denied: Vec<&Value> = list(&requests)
        .filter(|request| {
            let error = request["error"].as_str().unwrap_or_default();
            ["Unauthorized", "AccessDenied", "AuthorizationError"].iter().any(|code| error.contains(code))
        })
        .collect();
    ensure!(list(&requests).count() > 20 && denied.is_empty(), "{denied:#?}");
    Ok(())
}
