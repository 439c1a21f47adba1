//! `make verify`, run as an administrator runs it: with profiles of several accounts, here of a local AWS.
//!
//! These flows take longest. Tests start in the order of their names, so these start first.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use story::chapters::health::{TARGET_FAILS, TARGET_RECOVERS};
use story::command::built;
use story::local_aws::{Caller, LocalAws, list, text};
use story::verify::assumptions::{ANSWERS, Assumption, SeenIn, assumptions};
use story::verify::steps::NETWORKS;
use story::{COMPANY, DBT, UNTRUSTED};
use story::{tool, top};

/// A local AWS, and the profiles of its accounts.
struct Verification {
    aws: LocalAws,
    folder: PathBuf,
}

impl Verification {
    /// Sets it up with users who have exactly the policies in docs/ or, faster, with root users.
    fn set_up(name: &str, with_users: bool) -> Result<Self> {
        let folder = top().join("target/local-aws").join(format!("verify-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let aws = LocalAws::start(4)?;
        let caller = |account: &str, policies: &[&str]| match with_users {
            true => user(&aws, account, policies),
            false => Ok(Caller::root(account)),
        };
        let provider = caller(COMPANY, &["verify-policy.json", "deploy-policy.json"])?;
        let [consumer, third] = [DBT, UNTRUSTED].map(|account| caller(account, &["verify-consumer-policy.json"]));
        let twin = Caller::root(COMPANY);
        let profiles = [("provider", provider), ("twin", twin), ("consumer", consumer?), ("third", third?)];
        let profile = |(name, Caller { key, secret }): (&str, Caller)| {
            let keys = format!("aws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
            format!("[profile {name}]\nregion = {}\nendpoint_url = {}\n{keys}", story::REGION, aws.endpoint())
        };
        std::fs::write(folder.join("config"), profiles.map(profile).concat())?;
        Ok(Self { aws, folder })
    }

    /// Starts a run with these settings.
    fn start(&self, settings: &[(&str, &str)]) -> Result<Running> {
        let mut verify = Command::new(built("verify")?);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            verify.env_remove(name);
        }
        verify
            .envs([("PROFILE", "provider"), ("CONSUMER_PROFILE", "consumer"), ("YES", "1")])
            .envs(settings.iter().copied())
            .env("PREBUILT", prebuilt()?)
            .env("REPORT", self.folder.join("report"))
            .env("AWS_CONFIG_FILE", self.folder.join("config"))
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "127.0.0.1");
        let mut child = verify.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("it has a standard output")?);
        Ok(Running { child, output, printed: String::new() })
    }

    /// Publishes metrics of the run's service, endpoint and load balancer, as after a minute with traffic.
    fn publish_metrics(&self) -> Result<()> {
        let ask = |account: &str, command: &str| self.aws.aws(&Caller::root(account), command);
        let services = ask(COMPANY, "ec2 describe-vpc-endpoint-service-configurations")?;
        let endpoints = ask(DBT, "ec2 describe-vpc-endpoints")?;
        let service = text(&services, "/ServiceConfigurations/0/ServiceId")?;
        let load_balancer = text(&services, "/ServiceConfigurations/0/NetworkLoadBalancerArns/0")?;
        let (_, load_balancer) = load_balancer.split_once("loadbalancer/").context("it is a load balancer's ARN")?;
        let endpoint = text(&endpoints, "/VpcEndpoints/0/VpcEndpointId")?;
        let [service, endpoint] = [format!("Service Id={service}"), format!("VPC Endpoint Id={endpoint}")];
        let load_balancer = format!("LoadBalancer={load_balancer}");
        let metrics = [
            (COMPANY, "AWS/PrivateLinkServices", "NewConnections", vec![&service, &endpoint]),
            (DBT, "AWS/PrivateLinkEndpoints", "NewConnections", vec![&endpoint]),
            (COMPANY, "AWS/NetworkELB", "NewFlowCount", vec![&load_balancer]),
        ];
        metrics.into_iter().try_for_each(|(account, namespace, metric, dimensions)| {
            let metric = json!({"account": account, "namespace": namespace, "metric": metric, "dimensions": dimensions,
                "values": [1]});
            self.aws.control("metric", &metric).map(drop)
        })
    }

    fn report(&self) -> Result<Value> {
        let report = std::fs::read_to_string(self.folder.join("report/report.md"))?;
        let (_, data) = report.rsplit_once("```json").context("the report ends with its data")?;
        Ok(serde_json::from_str(data.trim().trim_end_matches('`'))?)
    }

    /// The names of all stacks, and the total number of endpoints and of the provider's VPCs and endpoint services.
    fn existing(&self) -> Result<(Vec<String>, usize)> {
        let ask = |account: &str, command: &str| self.aws.aws(&Caller::root(account), command);
        let mut stacks = Vec::new();
        for account in [COMPANY, DBT, UNTRUSTED] {
            let answer = ask(account, "cloudformation describe-stacks")?;
            stacks
                .extend(list(&answer["Stacks"]).filter_map(|stack| stack["StackName"].as_str().map(ToOwned::to_owned)));
        }
        let mut number = 0;
        for (account, operation, key) in [
            (DBT, "describe-vpc-endpoints", "VpcEndpoints"),
            (COMPANY, "describe-vpcs", "Vpcs"),
            (COMPANY, "describe-vpc-endpoint-service-configurations", "ServiceConfigurations"),
        ] {
            number += list(&ask(account, &format!("ec2 {operation}"))?[key]).count();
        }
        Ok((stacks, number))
    }
}

/// A user with these policies alone.
fn user(aws: &LocalAws, account: &str, policies: &[&str]) -> Result<Caller> {
    let document = |name: &&str| -> Result<String> {
        let document = std::fs::read_to_string(top().join("docs").join(name))?;
        // The policies contain dbt's account as an example of the consumer's.
        Ok(if account == COMPANY { document } else { document.replace(DBT, account) })
    };
    let documents = policies.iter().map(document).collect::<Result<Vec<_>>>()?;
    aws.create_user(account, "verifier", &documents.iter().map(String::as_str).collect::<Vec<_>>())
}

/// This machine's functions in the layout of a release, built once for all runs.
fn prebuilt() -> Result<PathBuf> {
    static PREBUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let write = "import sys, pathlib; sys.path.insert(0, 'infra'); import artifacts; built = pathlib.Path(sys.argv[2]); \
                 artifacts.write(pathlib.Path(sys.argv[1]), 'x86_64', {n: built / n for n in artifacts.FUNCTIONS}, 1)";
    let made = || -> Result<PathBuf> {
        let folder = top().join("target/local-aws/prebuilt");
        let executable = std::env::current_exe()?;
        let built_in = executable.ancestors().nth(2).context("the test is in a folder of the build")?;
        let mut python = Command::new(tool("aws", "python"));
        let done = python.current_dir(top()).args(["-c", write]).args([&folder, built_in]).output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(folder)
    };
    PREBUILT.get_or_init(|| made().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

/// A run.
struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    printed: String,
}

impl Running {
    /// Reads until a line contains these words.
    fn wait_for(&mut self, words: &str) -> Result<()> {
        loop {
            let mut line = String::new();
            let length = self.output.read_line(&mut line)?;
            self.printed.push_str(&line);
            ensure!(length > 0, "it ended without '{words}':\n{}", self.printed);
            if line.contains(words) {
                return Ok(());
            }
        }
    }

    fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status()?;
        ensure!(sent.success(), "kill {name}");
        Ok(())
    }

    /// Waits for the run's end and returns its output.
    fn end(mut self) -> Result<(ExitStatus, String)> {
        while self.output.read_line(&mut self.printed)? > 0 {}
        Ok((self.child.wait()?, std::mem::take(&mut self.printed)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn verify_goes_on_after_a_failed_step_and_reports_it() -> Result<()> {
    let verification = Verification::set_up("all", true)?;
    let Verification { aws, folder } = &verification;
    let root = Caller::root(COMPANY);
    aws.aws(&root, "cloudtrail create-trail --name trail --s3-bucket-name trail")?;
    aws.aws(&root, "cloudtrail start-logging --name trail")?;
    // Another stack, whose name only looks like a run's.
    let template = r#"{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}"#;
    let stack = "privatelink-guard-verify-00000000";
    aws.aws(&root, &format!("cloudformation create-stack --stack-name {stack} --template-body '{template}'"))?;
    let before = verification.existing()?;
    aws.fail("elasticloadbalancing:ModifyListener", "AccessDenied", 403)?;

    let mut running = verification.start(&[("STRANGER_PROFILE", "third")])?;
    running.wait_for(&format!("ok: {}", ANSWERS.expected))?;
    verification.publish_metrics()?;
    let (status, printed) = running.end()?;

    ensure!(status.code() == Some(1), "{status}: {printed}");
    ensure!(verification.existing()? == before, "something is left, or somebody else's is gone: {printed}");
    let report = verification.report()?;
    let steps = report["steps"].as_array().context("the report has steps")?;
    let failed: Vec<_> = steps.iter().filter(|step| step["outcome"] != "as expected").collect();
    let titles: Vec<_> = failed.iter().map(|step| step["title"].as_str().unwrap_or_default()).collect();
    ensure!(titles == [TARGET_FAILS.title, TARGET_RECOVERS.title], "{titles:?}: {printed}");
    ensure!(failed[0]["why"].as_str().is_some_and(|why| why.contains("AccessDenied")), "{}", failed[0]);
    ensure!(report["left"] == json!([]) && report["ranOn"] == "a local AWS", "{}", report["left"]);
    let statements = report["statements"].as_array().context("the report has statements")?;
    ensure!(statements.iter().all(|statement| statement["verdict"] != "proved"), "a local AWS proves nothing");
    ensure!(report["connectionNotifications"][0].as_str().is_some_and(|text| text.contains("vpce-svc-")));
    ensure!(report["cloudTrailEvent"]["detail"]["eventName"] == "ModifyLoadBalancerAttributes");
    let reported = report["assumptions"].as_array().context("the report has assumptions")?;
    ensure!(reported.len() == assumptions().len());
    for (Assumption { id, seen, .. }, reported) in assumptions().iter().zip(reported) {
        let is_seen = reported["seen"].as_array().is_some_and(|seen| !seen.is_empty());
        let (can_be_seen, why) = (matches!(seen, SeenIn::Chapter(_)), reported["notSeen"].as_str());
        ensure!(reported["id"] == *id && is_seen == can_be_seen && is_seen == why.is_none(), "{reported}");
    }
    let saw = |id: &str| reported.iter().find(|each| each["id"] == id).map(|each| each["seen"].clone());
    let metrics = json!([{"namespace": "AWS/PrivateLinkServices",
        "sets": [{"dimensions": ["Service Id", "VPC Endpoint Id"], "metrics": ["NewConnections"]}]}]);
    ensure!(saw("service-metrics") == Some(metrics), "{:?}", saw("service-metrics"));
    let deregistered = json!([{"answered": "as if it had", "then listed as": ["unused"]}]);
    ensure!(saw("deregister-without-port") == Some(deregistered), "{:?}", saw("deregister-without-port"));
    let calls = saw("cloudtrail-records").unwrap_or_default().to_string();
    ensure!(
        calls.contains("ModifyVpcEndpointServicePermissionsRequest") && calls.contains("loadBalancerArn"),
        "{calls}"
    );
    ensure!(report["functions"][0]["coldStartsMs"].as_array().is_some_and(|times| !times.is_empty()));
    let page = std::fs::read_to_string(folder.join("report/report.md"))?;
    ensure!(page.contains("2 steps did not end as expected; nothing is left."));
    for account in [COMPANY, DBT, UNTRUSTED] {
        ensure!(!page.contains(account), "{account} is not masked");
    }
    Ok(())
}

#[test]
fn an_interrupted_or_killed_verify_leaves_nothing_behind() -> Result<()> {
    let verification = Verification::set_up("ended", false)?;
    let before = verification.existing()?;
    // A second profile of the same account is no second account: nothing begins.
    let (status, printed) = verification.start(&[("CONSUMER_PROFILE", "twin")])?.end()?;
    ensure!(status.code() == Some(1) && printed.is_empty(), "{status}: {printed}");

    let mut interrupted = verification.start(&[])?;
    interrupted.wait_for("make deploy")?;
    interrupted.signal("-INT")?;
    let (status, printed) = interrupted.end()?;
    ensure!(status.code() == Some(130) && printed.contains("Nothing is left."), "{status}: {printed}");
    ensure!(verification.existing()? == before, "something is left: {printed}");
    ensure!(verification.report()?["interrupted"] == true);

    let mut killed = verification.start(&[])?;
    killed.wait_for(&format!("ok: {}", NETWORKS.expected))?;
    killed.signal("-KILL")?;
    killed.end()?;
    ensure!(verification.existing()?.0.len() == 3, "a killed run leaves its stacks");

    let (status, printed) = verification.start(&[("CLEAN", "1")])?.end()?;
    ensure!(status.success() && printed.contains("left something"), "{status}: {printed}");
    ensure!(verification.existing()? == before, "something is left: {printed}");
    Ok(())
}
