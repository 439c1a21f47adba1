//! The command `privatelink-guard`: the functions' answers, with an administrator's own credentials. The checklist's
//! flows compare the two for each check.

use std::collections::BTreeSet;
use std::process::Output;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use story::company::{DBT_CIDR, TARGETS};
use story::local_aws::{Caller, LocalAws, list, text};
use story::stack::GuardFunction::{ConnectionAcceptor, HealthWatcher};
use story::{COMPANY, DBT, command};

use crate::environment::{FlowEnvironment, with_environment};

#[test]
fn the_exit_status_agrees_with_the_tree() -> Result<()> {
    with_environment(|environment, _| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        // Before dbt has asked, too: the guard's table knows whether dbt ever had an endpoint.
        let (report, status) = environment.check(&[])?;
        ensure!(unknown(&report).is_empty(), "{report:#}");
        // Another flow may have connected dbt and left it without an endpoint.
        let is_lost = list(&report["services"])
            .flat_map(|service| list(&service["results"]))
            .any(|result| result["check"] == "connection.absent" && result["severity"] == "critical");
        ensure!(status == Some(i32::from(is_lost)), "{status:?}: {report:#}");
        ensure!(environment.check(&["--fail-on", "info"])?.1 == Some(1), "one instance serves two zones");

        postgres.set_health(aws, TARGETS[0], "unhealthy")?;
        ensure!(environment.check(&[])?.1 == Some(1), "a warning");
        ensure!(environment.check(&["--fail-on", "critical"])?.1 == status, "only a warning");
        let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/check.html");
        let tree = as_root(aws, &["check", "--stack", "guard", "--service", &postgres.service, "--html", file])?;
        let (tree, page) = (words(tree)?, std::fs::read_to_string(file)?);
        ensure!(page.contains("1 of 3 targets unhealthy") && page.contains(TARGETS[0]), "what fails is on the page");
        ensure!(!page.contains("src=\"http") && !page.contains("<link"), "the page loads nothing");
        ensure!(tree.contains("✗ fail, warning target-group.health: 1 of 3 targets unhealthy in postgres"), "{tree}");
        ensure!(!tree.contains('\u{1b}'), "no colours where there is no terminal");

        aws.fail("elasticloadbalancing:DescribeTargetHealth", "Throttling", 400)?;
        let (report, unread) = environment.check(&["--fail-on", "critical"])?;
        ensure!(
            unread == Some(if is_lost { 1 } else { 2 }) && unknown(&report).contains(&"target-group.health"),
            "{report:#}"
        );
        aws.clear_faults()?;
        postgres.set_health(aws, TARGETS[0], "healthy")?;

        aws.fail("dynamodb:Query", "AccessDeniedException", 400)?;
        let (report, _) = environment.check(&[])?;
        ensure!(unknown(&report).iter().all(|check| *check == "connection.absent"), "{report:#}");
        let tree = words(as_root(aws, &["check", "--stack", "guard"])?)?;
        ensure!(
            tree.contains("dbt's earlier connections are unknown. You lack the permission dynamodb:Query"),
            "{tree}"
        );
        aws.clear_faults()?;
        let missing = as_root(aws, &["status", "--stack", "gard"])?;
        let said = String::from_utf8(missing.stderr)?;
        ensure!(
            missing.status.code() == Some(3)
                && said.contains("There is no stack gard in eu-central-1. Is it another profile"),
            "{said}"
        );
        ensure!(as_root(aws, &["check", "--servce"])?.status.code() == Some(64));
        ensure!(as_root(aws, &["check", "--ports", "99999"])?.status.code() == Some(64));
        Ok(())
    })
}

#[test]
fn check_without_a_stack_finds_services_but_assumes_no_dbt() -> Result<()> {
    with_environment(|environment, _| {
        let FlowEnvironment { aws, postgres, gitlab, .. } = environment;
        let output = as_root(aws, &["check", "--json"])?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let ids: BTreeSet<&str> =
            list(&report["services"]).filter_map(|service| service["serviceId"].as_str()).collect();
        ensure!(ids == BTreeSet::from([postgres.service.as_str(), gitlab.service.as_str()]), "{ids:?}");
        ensure!(output.status.code() == Some(2), "who dbt is is not known");

        // Before an endpoint service exists.
        let balancer = &postgres.load_balancer;
        let preflight =
            |port| as_root(aws, &["check", "--load-balancer", balancer, "--ports", port, "--cidrs", DBT_CIDR]);
        let ready = preflight("5432")?;
        let (status, tree) = (ready.status, words(ready)?);
        ensure!(status.success() && tree.contains("create-vpc-endpoint-service-configuration"), "{tree}");
        let wrong = preflight("22")?;
        ensure!(wrong.status.code() == Some(1) && words(wrong)?.contains("on port 22"));
        Ok(())
    })
}

#[test]
fn the_request_is_filled_in_and_refused_while_dbt_would_fail() -> Result<()> {
    with_environment(|environment, _| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        let arguments = ["request", "--stack", "guard", "--service", &postgres.service, "--environment", "EMEA"];
        let request = String::from_utf8(as_root(aws, &arguments)?.stdout)?;
        for line in [
            "Subject: New AWS Self-hosted PrivateLink Request",
            "- Type: Self-hosted PrivateLink\n",
            "- Platform/Service: Postgres\n",
            "- VPC Endpoint Service Name: com.amazonaws.vpce.eu-central-1.vpce-svc-",
            "- dbt AWS environment: EMEA\n",
        ] {
            ensure!(request.contains(line), "{request}");
        }
        environment.set_all_targets("unhealthy")?;
        let refused = as_root(aws, &arguments)?;
        ensure!(refused.status.code() == Some(1) && refused.stdout.is_empty());
        ensure!(String::from_utf8(refused.stderr)?.contains("target-group.health: 0 of 3 targets healthy"));
        ensure!(as_root(aws, &[&arguments[..], &["--anyway"]].concat())?.status.success());
        environment.set_all_targets("healthy")
    })
}

#[test]
fn a_silence_is_announced_and_holds_alerts_back_until_its_end() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        let silence = |arguments: &[&str]| {
            let output = as_root(aws, &[&["silence"], arguments, &["--stack", "guard"]].concat())?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?)
        };
        let service = ["--service", &postgres.service];
        let what = ["--check", "target-group.health", "--for", "2h", "--comment", "database upgrade"];
        let said = silence(&[&["add"], &what[..], &service].concat())?;
        ensure!(
            said.contains(&format!("in: account {COMPANY}, eu-central-1")) && said.contains(&postgres.service),
            "{said}"
        );
        let of_the_guard =
            [&["silence", "add", "--stack", "guard", "--check", "visibility.lost"], &what[2..], &service];
        ensure!(as_root(aws, &of_the_guard.concat())?.status.code() == Some(64), "it belongs to no service");
        for (flag, resource) in [("--resource", "postgres"), ("--target-group", "postgre")] {
            let check: &[&str] = if flag == "--resource" { &what[..2] } else { &[] };
            let unknown = [&["silence", "add", "--stack", "guard", flag, resource], check, &what[2..]].concat();
            let refused = as_root(aws, &unknown)?;
            let said = String::from_utf8(refused.stderr)?;
            ensure!(refused.status.code() == Some(64) && said.contains(&postgres.target_group), "{said}");
        }
        let listed = silence(&["list"])?;
        ensure!(listed.contains("why: database upgrade"));
        ensure!(listed.contains(&format!("by: arn:aws:iam::{COMPANY}:root")));

        environment.set_all_targets("unhealthy")?;
        environment.run(HealthWatcher)?;
        environment.run(HealthWatcher)?;
        let notice = mailbox.wait("[NOTICE]", "why: database upgrade")?;
        let begins = "[NOTICE] postgres: target-group.health silenced until";
        ensure!(notice.subject.starts_with(begins), "{}", notice.subject);
        mailbox.expect_once("[NOTICE]", " silenced until")?;
        ensure!(mailbox.count("[CRITICAL]", "")? == 0, "it is held back");
        let tree = words(as_root(aws, &["check", "--stack", "guard", "--service", &postgres.service])?)?;
        ensure!(tree.contains("silenced until") && tree.contains("upgrade)"), "{tree}");

        let id = listed.split_whitespace().next().unwrap_or_default();
        silence(&["remove", id])?;
        ensure!(silence(&["list"])?.contains("No silence is active."));
        environment.run(HealthWatcher)?;
        let alert = mailbox.wait("[CRITICAL]", "0 of 3 targets healthy")?;
        ensure!(alert.body.contains("a silence held this alert back until now"), "{}", alert.body);

        let added = silence(&["add", "--target-group", "postgres", "--for", "1h", "--comment", "upgrade"])?;
        ensure!(added.contains(&format!("for: {}\n", postgres.service)), "not the other services: {added}");
        ensure!(added.contains(&format!("resources: {}\n", postgres.target_group)), "{added}");
        ensure!(added.contains("held back from now on: 0 of 3 targets healthy"), "{added}");
        silence(&["remove", added.split_whitespace().nth(1).unwrap_or_default()])?;
        environment.set_all_targets("healthy")?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[RESOLVED]", "3 of 3 targets healthy")?;
        Ok(())
    })
}

#[test]
fn status_tells_what_the_deployed_guard_knows() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, stack, .. } = environment;
        let dbt = postgres.dbt_connects(aws)?;
        mailbox.wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;
        stack.set_variable(aws, ConnectionAcceptor, "MAX_DBT_ENDPOINTS", "1")?;
        let held = postgres.dbt_connects(aws)?;
        mailbox.wait("[WARNING]", "dbt request")?;
        environment.set_all_targets("unhealthy")?;
        environment.run(HealthWatcher)?;
        environment.run(HealthWatcher)?;
        mailbox.wait("[CRITICAL]", "0 of 3 targets healthy")?;
        let topic = stack.output("AlertTopicArn")?;
        let subscribe = "--protocol email --notification-endpoint unconfirmed@example.com";
        postgres.administer(aws, &format!("sns subscribe --topic-arn {topic} {subscribe}"))?;
        #[rustfmt::skip]
        let silenced = as_root(aws, &["silence", "add", "--stack", "guard", "--service", &postgres.service,
            "--check", "listener.port", "--for", "1h", "--comment", "a new port"])?;
        ensure!(silenced.status.success());

        let policy = String::from_utf8(as_root(aws, &["policy", "--stack", "guard"])?.stdout)?;
        let caller = aws.create_user(COMPANY, "asker", &[&policy])?;
        let asked = command::run(aws, &caller, &["status", "--stack", "guard", "--json"])?;
        let status: Value = serde_json::from_slice(&asked.stdout)?;
        ensure!(asked.status.code() == Some(1), "{status:#}");
        let calls = aws.control("requests", &json!({"principal": "user/asker"}))?;
        ensure!(calls.as_array().is_some_and(|calls| calls.len() <= 8 + 1), "two services: {calls:#}");
        let of_postgres = list(&status["alerts"]).filter(|alert| alert["serviceId"] == postgres.service.as_str());
        let alerts: Vec<(&str, &str)> =
            of_postgres.filter_map(|alert| Some((alert["severity"].as_str()?, alert["check"].as_str()?))).collect();
        assert_eq!(alerts[..2], [("critical", "target-group.health"), ("warning", "connection.dbt")], "{status:#}");
        ensure!(status["alerts"][0]["lastSent"].is_string() && status["silences"][0]["comment"] == "a new port");
        let endpoints: Vec<(&str, &str)> = list(&status["endpoints"])
            .filter_map(|endpoint| Some((endpoint["endpointId"].as_str()?, endpoint["state"].as_str()?)))
            .collect();
        ensure!(endpoints.contains(&(&dbt, "available")) && endpoints.contains(&(&held, "held")), "{status:#}");
        ensure!(status["subscriptions"]["pending"] == json!(["email"]), "{status:#}");
        ensure!(status["functions"][1]["state"] == "runs" && status["unknown"] == json!([]), "{status:#}");

        let screen = String::from_utf8(as_root(aws, &["status", "--stack", "guard"])?.stdout)?;
        ensure!(screen.contains("✗ critical  postgres: 0 of 3 targets healthy"), "{screen}");
        ensure!(screen.contains("✗ warning") && screen.contains("1 pending (email)"), "{screen}");
        ensure!(screen.lines().all(|line| line.contains("$ ") || line.chars().count() <= 80), "{screen}");

        aws.fail("dynamodb:Query", "ResourceNotFoundException", 400)?;
        let blind = as_root(aws, &["status", "--stack", "guard"])?;
        let screen = String::from_utf8(blind.stdout)?;
        ensure!(blind.status.code() == Some(2) && screen.contains("? Alerts, silences and endpoints: "), "{screen}");
        aws.clear_faults()?;

        stack.set_variable(aws, ConnectionAcceptor, "MAX_DBT_ENDPOINTS", "0")?;
        environment.set_all_targets("healthy")?;
        environment.run(HealthWatcher)?;
        environment.run(HealthWatcher)?;
        let id = text(&status, "/silences/0/id")?;
        ensure!(as_root(aws, &["silence", "remove", "--stack", "guard", &id])?.status.success());
        aws.aws(&Caller::root(DBT), &format!("ec2 delete-vpc-endpoints --vpc-endpoint-ids {held}")).map(drop)
    })
}

#[test]
fn check_reports_that_alarms_do_not_reach_the_topic() -> Result<()> {
    with_environment(|environment, _| {
        let FlowEnvironment { aws, .. } = environment;
        let topic = environment.stack.output("AlertTopicArn")?;
        let encrypt = |key: &str| {
            let set = format!("sns set-topic-attributes --topic-arn {topic} --attribute-name KmsMasterKeyId");
            aws.aws(&Caller::root(COMPANY), &format!("{set} --attribute-value '{key}'")).map(drop)
        };
        let said = || -> Result<String> {
            Ok(String::from_utf8(as_root(aws, &["check", "--stack", "guard", "--json"])?.stderr)?)
        };
        ensure!(!said()?.contains("CloudWatch's alarms"), "the topic is not encrypted");
        encrypt("alias/aws/sns")?;
        let lost = said()?;
        ensure!(lost.contains(&format!("Note: CloudWatch's alarms do not reach the topic {topic}")), "{lost}");
        encrypt("")?;
        aws.fail("sns:GetTopicAttributes", "AuthorizationError", 403)?;
        let unread = said()?;
        ensure!(
            unread.contains(&format!("the topic {topic}. You lack the permission sns:GetTopicAttributes")),
            "{unread}"
        );
        aws.clear_faults()
    })
}

/// The local AWS denies what a policy does not allow.
#[test]
fn the_printed_policy_allows_exactly_the_commands_calls() -> Result<()> {
    with_environment(|environment, _| {
        let FlowEnvironment { aws, postgres, gitlab, .. } = environment;
        // A certificate, a hostname, an instance, a prefix list and listener rules need further calls.
        let [listener, _] = gitlab.switch_to_tls(aws, 443, 300)?;
        gitlab.set_ip_address_type(aws, "dualstack")?;
        postgres.tag_target_group(aws, "add-tags", "Key=privatelink-guard:hostname,Value=172.31.0.10")?;
        let policy = as_root(aws, &["policy", "--silence", "--stack", "guard"])?;
        let policy: Value = serde_json::from_slice(&policy.stdout)?;
        let user = aws.create_user(COMPANY, "checker", &[&policy.to_string()])?;
        let run = |arguments: &[&str]| -> Result<String> {
            let output = command::run(aws, &user, arguments)?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            ensure!(!said.contains("denied") && !said.contains("lack the permission"), "{said}");
            Ok(said)
        };
        run(&["check", "--stack", "guard"])?;
        run(&["check", "--dbt-principal", DBT])?;
        run(&["status", "--stack", "guard"])?;
        run(&["silence", "add", "--stack", "guard", "--check", "listener.port", "--for", "1h", "--comment", "test"])?;
        let listed = run(&["silence", "list", "--stack", "guard"])?;
        run(&["silence", "remove", "--stack", "guard", listed.split_whitespace().next().unwrap_or_default()])?;

        let called = aws.control("requests", &json!({"principal": "user/checker"}))?;
        let called: BTreeSet<String> = list(&called)
            .filter_map(|request| Some(format!("{}:{}", request["service"].as_str()?, request["action"].as_str()?)))
            .collect();
        let actions = list(&policy["Statement"]).flat_map(|statement| match &statement["Action"] {
            Value::Array(actions) => actions.clone(),
            action => vec![action.clone()],
        });
        let allowed: BTreeSet<String> = actions.filter_map(|action| action.as_str().map(ToOwned::to_owned)).collect();
        // Actions that only `trace`, or a stack that is gone, needs.
        let others = ["ec2:DescribeFlowLogs", "cloudformation:ListStacks", "ec2:DescribeRegions"];
        let is_of_trace = |action: &String| others.contains(&action.as_str()) || action.starts_with("logs:");
        let allowed: BTreeSet<String> = allowed.into_iter().filter(|action| !is_of_trace(action)).collect();
        assert_eq!(called, allowed, "called, and allowed");
        postgres.tag_target_group(aws, "remove-tags", "privatelink-guard:hostname")?;
        gitlab.set_ip_address_type(aws, "ipv4")?;
        gitlab.switch_to_tcp(aws, &listener)
    })
}

/// The checks that are unknown.
fn unknown(report: &Value) -> Vec<&str> {
    let results = list(&report["services"]).flat_map(|service| list(&service["results"]));
    results.filter(|result| result["status"] == "unknown").filter_map(|result| result["check"].as_str()).collect()
}

/// The output without the tree's strokes and the line breaks.
fn words(output: Output) -> Result<String> {
    let text = String::from_utf8(output.stdout)?.replace(['│', '├', '└', '─'], " ");
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn as_root(aws: &LocalAws, arguments: &[&str]) -> Result<Output> {
    command::run(aws, &Caller::root(COMPANY), arguments)
}
