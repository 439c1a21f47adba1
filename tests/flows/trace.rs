//! `privatelink-guard trace` shows where the requests of a time stopped. It needs no deployed guard.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Result, anyhow, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use story::company::{Company, TARGETS};
use story::local_aws::{LocalAws, text};
use story::{COMPANY, DBT, REGION, command};

/// A company with two services; dbt is connected to the first, and to the second from another Region.
struct Setting {
    aws: LocalAws,
    near: Company,
    endpoint: String,
    far: Company,
}

/// A Region other than the services'.
const ELSEWHERE: &str = "us-east-1";

const PRIVATE_LINK: &str = "AWS/PrivateLinkServices";
const LOAD_BALANCER: &str = "AWS/NetworkELB";

/// The setting, for one test at a time, since faults affect every caller. Each test uses a time of its own.
fn setting() -> Result<MutexGuard<'static, Setting>> {
    static SETTING: OnceLock<Result<Mutex<Setting>, String>> = OnceLock::new();
    let setting = SETTING.get_or_init(|| Setting::set_up().map(Mutex::new).map_err(|error| format!("{error:#}")));
    let setting = setting.as_ref().map_err(|error| anyhow!("{error}"))?;
    Ok(setting.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Setting {
    fn set_up() -> Result<Self> {
        let aws = LocalAws::start(60)?;
        let [near, far] = Company::set_up_two(&aws, ["postgres", "gitlab"])?;
        far.modify_service(&aws, &format!("--add-supported-regions {ELSEWHERE}"))?;
        let endpoint = near.dbt_connects(&aws)?;
        near.accept(&aws, &endpoint)?;
        far.accept(&aws, &far.connect_from(&aws, DBT, ELSEWHERE)?)?;
        Ok(Self { aws, near, endpoint, far })
    }

    /// Sets AWS's count for each of the 20 minutes before `end`.
    fn count(&self, namespace: &str, metric: &str, dimensions: &[String], value: u64, end: Timestamp) -> Result<()> {
        self.aws.set_metric(namespace, metric, dimensions, &[value; 20], end)
    }

    fn count_at_endpoint(&self, metric: &str, value: u64, end: Timestamp) -> Result<()> {
        let dimensions = [format!("Service Id={}", self.near.service), format!("VPC Endpoint Id={}", self.endpoint)];
        self.count(PRIVATE_LINK, metric, &dimensions, value, end)
    }

    fn count_at_load_balancer(&self, company: &Company, metric: &str, value: u64, end: Timestamp) -> Result<()> {
        self.count(LOAD_BALANCER, metric, &[load_balancer(company)], value, end)
    }

    fn count_healthy_targets(&self, company: &Company, value: u64, end: Timestamp) -> Result<()> {
        let group = company.target_group.rsplit(':').next().unwrap_or_default();
        let dimensions = [load_balancer(company), format!("TargetGroup={group}")];
        self.count(LOAD_BALANCER, "HealthyHostCount", &dimensions, value, end)
    }

    /// The exit status and the output of a trace of the 20 minutes before `end`.
    fn trace(&self, company: &Company, end: Timestamp, more: &[&str]) -> Result<(i32, String)> {
        let (from, to) = ((end - SignedDuration::from_mins(20)).to_string(), end.to_string());
        let common = ["trace", "--service", &company.service, "--dbt-principal", DBT, "--region", REGION];
        let time = ["--from", &from, "--to", &to];
        let done = command::run(&self.aws, &company.admin, &[&common[..], &time, more].concat())?;
        let printed = [done.stdout, done.stderr].concat();
        Ok((done.status.code().unwrap_or(-1), String::from_utf8(printed)?))
    }

    /// Sends the flow logs of the load balancer's first network interface to CloudWatch Logs. Returns the interface.
    fn log_flows(&self, company: &Company, group: &str) -> Result<Value> {
        let name = load_balancer(company).replace("LoadBalancer=", "Name=description,Values=ELB ");
        let describe = format!("ec2 describe-network-interfaces --filters '{name}'");
        let interface = company.administer(&self.aws, &describe)?["NetworkInterfaces"][0].clone();
        let resource = format!("--resource-ids {}", text(&interface, "/NetworkInterfaceId")?);
        let create = format!("ec2 create-flow-logs --resource-type NetworkInterface {resource} --traffic-type ALL");
        let role = "--deliver-logs-permission-arn arn:aws:iam::111122223333:role/flow-logs";
        company.change(&self.aws, &format!("{create} --log-group-name {group} {role}"))?;
        Ok(interface)
    }
}

fn load_balancer(company: &Company) -> String {
    format!("LoadBalancer={}", company.load_balancer.split(":loadbalancer/").nth(1).unwrap_or_default())
}

fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

fn ensure_contains(printed: &str, words: &[&str]) -> Result<()> {
    // A line may break anywhere.
    let joined = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    words.iter().try_for_each(|words| {
        ensure!(joined.contains(words), "no '{words}' in:\n{printed}");
        Ok(())
    })
}

#[test]
fn the_metrics_show_where_the_requests_stopped() -> Result<()> {
    let setting = setting()?;
    let near = &setting.near;

    let silence = hours_ago(10);
    setting.count_healthy_targets(near, 3, silence)?;
    let (status, printed) = setting.trace(near, silence, &[])?;
    ensure_contains(&printed, &["Verdict: not sent by dbt", "dbt sent no request", ": nothing"])?;
    assert_eq!(status, 0);

    let blocked = hours_ago(9);
    setting.count_at_endpoint("NewConnections", 2, blocked)?;
    setting.count_at_load_balancer(near, "SecurityGroupBlockedFlowCount_Inbound_TCP", 2, blocked)?;
    let (_, printed) = setting.trace(near, blocked, &[])?;
    ensure_contains(&printed, &["Verdict: stopped before the load balancer", "security groups blocked 40 flows"])?;

    let unanswered = hours_ago(8);
    setting.count_at_endpoint("NewConnections", 2, unanswered)?;
    setting.count_at_load_balancer(near, "NewFlowCount", 2, unanswered)?;
    setting.count_at_load_balancer(near, "ProcessedBytes", 240, unanswered)?;
    setting.count_healthy_targets(near, 0, unanswered)?;
    let (_, printed) = setting.trace(near, unanswered, &[])?;
    ensure_contains(&printed, &["Verdict: stopped before the target", "postgres had no healthy target"])?;

    let answered = hours_ago(7);
    setting.count_at_endpoint("NewConnections", 2, answered)?;
    setting.count_at_endpoint("BytesProcessed", 18_000, answered)?;
    setting.count_at_load_balancer(near, "NewFlowCount", 2, answered)?;
    setting.count_at_load_balancer(near, "ProcessedBytes", 18_200, answered)?;
    setting.count_healthy_targets(near, 3, answered)?;
    let (_, printed) = setting.trace(near, answered, &[])?;
    ensure_contains(&printed, &["Verdict: got through", "40 connections, with 360.0 kB", "aws ec2 create-flow-logs"])?;
    ensure!(printed.lines().filter(|line| !line.contains("$ aws")).all(|line| line.chars().count() <= 80), "{printed}");
    Ok(())
}

#[test]
fn flow_logs_show_what_rejected_the_packets() -> Result<()> {
    let setting = setting()?;
    let near = &setting.near;
    let interface = setting.log_flows(near, "flows")?;
    // A flow log has no records from before its creation.
    let end = Timestamp::now();
    setting.count_at_endpoint("NewConnections", 1, end)?;
    setting.count_at_load_balancer(near, "NewFlowCount", 1, end)?;
    setting.count_at_load_balancer(near, "ProcessedBytes", 60, end)?;
    let from = format!("{}:40000", text(&interface, "/PrivateIpAddress")?);
    for minute in 1..=3 {
        let at = (end - SignedDuration::from_mins(minute)).to_string();
        let record = json!({"interface_id": interface["NetworkInterfaceId"], "source": from, "action": "REJECT", "at": at,
            "destination": format!("{}:5432", TARGETS[0])});
        setting.aws.control("flow-log-record", &record)?;
    }
    let (status, printed) = setting.trace(near, end, &[])?;
    let words = "3 records: from the load balancer's";
    ensure_contains(&printed, &["Verdict: stopped before the target", words, "to the target 172.31.0.10, port 5432"])?;
    ensure_contains(&printed, &["the flow logs show rejected packets to or from its targets"])?;
    assert_eq!(status, 0);

    // The log group is younger than the time, so the search would cover all of it.
    setting.aws.control("log-group", &json!({"log_group": "flows", "stored_bytes": 34_000_000_000_u64}))?;
    let (_, printed) = setting.trace(near, end, &[])?;
    ensure_contains(&printed, &["were not searched: that would scan about 34.0 GB, and cost about $0.17. Give --yes"])?;
    let (_, printed) = setting.trace(near, end, &["--yes"])?;
    ensure_contains(&printed, &[words])
}

#[test]
fn load_balancer_metrics_reveal_requests_from_another_region() -> Result<()> {
    let setting = setting()?;
    let (far, end) = (&setting.far, hours_ago(5));
    let no_metrics = "no endpoint metrics for consumers in other Regions (us-east-1)";
    setting.count_healthy_targets(far, 3, end)?;
    let (status, printed) = setting.trace(far, end, &[])?;
    ensure_contains(&printed, &["Verdict: unknown", "another Region", no_metrics])?;
    assert_eq!(status, 2);

    setting.count_at_load_balancer(far, "NewFlowCount", 1, end)?;
    setting.count_at_load_balancer(far, "ProcessedBytes", 9000, end)?;
    let (status, printed) = setting.trace(far, end, &[])?;
    ensure_contains(&printed, &["Verdict: got through", no_metrics])?;
    assert_eq!(status, 0);
    Ok(())
}

#[test]
fn a_denied_read_is_a_missing_fact_and_decides_nothing() -> Result<()> {
    let setting = setting()?;
    let (near, end) = (&setting.near, hours_ago(4));
    setting.count_healthy_targets(near, 3, end)?;
    setting.aws.fail("ec2:DescribeFlowLogs", "UnauthorizedOperation", 403)?;
    let (status, printed) = setting.trace(near, end, &[])?;
    setting.aws.clear_faults()?;
    ensure_contains(&printed, &["Verdict: not sent by dbt", "You lack the permission ec2:DescribeFlowLogs"])?;
    assert_eq!(status, 0);

    setting.aws.fail("cloudwatch:GetMetricData", "AccessDeniedException", 403)?;
    let (status, printed) = setting.trace(near, end, &[])?;
    setting.aws.clear_faults()?;
    ensure_contains(&printed, &["Verdict: unknown", "You lack the permission cloudwatch:GetMetricData"])?;
    assert_eq!(status, 2);
    Ok(())
}

#[test]
fn the_printed_policy_allows_every_call_of_trace() -> Result<()> {
    let setting = setting()?;
    let Setting { aws, near, far, .. } = &*setting;
    let interface = setting.log_flows(far, "policy-flows")?;
    let policy = String::from_utf8(command::run(aws, &near.admin, &["policy", "--region", REGION])?.stdout)?;
    let tracer = aws.create_user(COMPANY, "tracer", &[&policy])?;
    let trace = || -> Result<String> {
        let arguments =
            ["trace", "--service", &far.service, "--dbt-principal", DBT, "--last", "1h", "--region", REGION];
        let done = command::run(aws, &tracer, &arguments)?;
        Ok(String::from_utf8([done.stdout, done.stderr].concat())?)
    };
    let printed = trace()?;
    ensure_contains(&printed, &["Verdict: ", "The flow logs in policy-flows: nothing was recorded yet"])?;

    let record = json!({"interface_id": interface["NetworkInterfaceId"], "source": "10.1.2.3:40000",
        "destination": format!("{}:5432", text(&interface, "/PrivateIpAddress")?), "action": "REJECT"});
    aws.control("flow-log-record", &record)?;
    let printed = trace()?;
    ensure_contains(&printed, &["flow logs: 1 record: from 10.1.2.3 to the load balancer's"])?;
    ensure!(!printed.contains("You lack the permission"), "{printed}");
    Ok(())
}

#[test]
fn an_invalid_time_is_bad_usage() -> Result<()> {
    let setting = setting()?;
    let (status, printed) = setting.trace(&setting.near, Timestamp::now() + SignedDuration::from_hours(1), &[])?;
    ensure!(status == 64 && printed.contains("--to is in the future"), "{status}: {printed}");
    let (status, printed) = setting.trace(&setting.near, hours_ago(16 * 24), &[])?;
    ensure!(status == 64 && printed.contains("15 days"), "{status}: {printed}");
    Ok(())
}
