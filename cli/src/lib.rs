//! `privatelink-guard`: the functions' checks on the command line, with the user's own AWS credentials.
//!
//! [`check`] observes and evaluates; [`report`] holds the findings as a value that [`output`] renders.

pub mod alarm_topics;
pub mod args;
pub mod check;
pub mod memory;
pub mod output;
pub mod policy;
pub mod profile;
pub mod progress;
pub mod report;
pub mod request;
pub mod session;
pub mod silence;
pub mod stack;
pub mod status;
pub mod trace;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::CommandFactory;
use guard_core::text::strip_invisible;

use self::args::{AwsArgs, CheckArgs, Cli, CliCommand, RequestArgs};
use self::check::Expectations;
use self::progress::Progress;
use self::report::{CheckReport, CheckState};
use self::request::Obstacles;
use self::session::Session;

/// The pause of `--wait` between two checks.
const WAIT_BETWEEN: std::time::Duration = std::time::Duration::from_secs(5);

/// A flag's value that makes no sense.
#[derive(Debug)]
pub struct BadUsage(String);

impl std::fmt::Display for BadUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

/// Runs a command and returns the exit status.
///
/// # Errors
/// If AWS gives no answer at all; [`BadUsage`] if the arguments make no sense.
pub async fn run(cli: Cli) -> Result<u8> {
    match cli.command {
        CliCommand::Check(arguments) => check(&cli.aws, &arguments).await,
        CliCommand::Request(arguments) => request(&cli.aws, &arguments).await,
        CliCommand::Trace(arguments) => trace::run(&cli.aws, &arguments).await,
        CliCommand::Status(arguments) => status::run(&Session::open(&cli.aws).await?, &arguments).await,
        CliCommand::Silence(arguments) => silence::run(&Session::open(&cli.aws).await?, arguments.action).await,
        CliCommand::Policy(arguments) => {
            let document = match arguments.role {
                Some(role) => policy::roles::document(&cli.aws, &arguments, role).await?,
                None => policy::document(&arguments, cli.aws.region.as_deref()),
            };
            output::print(&format!("{document:#}\n"))?;
            Ok(0)
        }
        CliCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "privatelink-guard", &mut script);
            output::print(&String::from_utf8_lossy(&script))?;
            Ok(0)
        }
        CliCommand::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            output::print(&String::from_utf8_lossy(&page))?;
            Ok(0)
        }
    }
}

async fn check(aws: &AwsArgs, arguments: &CheckArgs) -> Result<u8> {
    let session = Session::open(aws).await?;
    let began = Instant::now();
    let fail_on = arguments.fail_on.severity();
    let (report, remarks) = loop {
        let (report, remarks) = check_once(&session, arguments).await?;
        let fails = report.exit_status(fail_on) == 1;
        match arguments.wait {
            Some(wait) if fails && began.elapsed() + WAIT_BETWEEN < wait => {
                let summary = output::tree::summary_line(&report);
                let next = format!("{summary}; checking again in {} s\n", WAIT_BETWEEN.as_secs());
                if output::try_say(&next).is_err() {
                    // Nobody reads the output any more.
                    break (report, remarks);
                }
                tokio::time::sleep(WAIT_BETWEEN).await;
            }
            _ => break (report, remarks),
        }
    };
    if arguments.json {
        output::print(&format!("{:#}\n", output::json::render(&report)))?;
    } else {
        output::print(&output::tree::render(&report, textwrap::termwidth()))?;
        let is_ready =
            report.services.iter().all(|service| service.id.is_none() && service.state() < CheckState::Unknown);
        if let Some(arn) = arguments.load_balancer.as_ref().filter(|_| is_ready) {
            output::print(&create_command(arn, session.region.as_str()))?;
        }
    }
    if let Some(file) = &arguments.html {
        output::html::write(&report, file)?;
        output::say(&format!("The page is in {}.\n", file.display()));
    }
    for remark in remarks {
        output::say(&format!("Note: {remark}\n"));
    }
    Ok(report.exit_status(fail_on))
}

/// The next step for a load balancer on which nothing fails.
fn create_command(load_balancer: &guard_core::ids::Arn, region: &str) -> String {
    format!(
        "Next, create the endpoint service (or deploy infra/endpoint-service.yaml, which also allows dbt's principal):\n  \
         $ aws ec2 create-vpc-endpoint-service-configuration --region {region} --acceptance-required \
         --network-load-balancer-arns {load_balancer}\n"
    )
}

/// The report, and remarks on the guard's stack.
async fn check_once(session: &Session, arguments: &CheckArgs) -> Result<(CheckReport, Vec<String>)> {
    let expectations = Expectations::new(session, &arguments.subject, arguments.load_balancer.clone()).await?;
    let progress = Progress::start("Reading the path in AWS");
    let answer = expectations.check(session).await;
    let remarks = alarm_topics::remarks(session, &expectations.stack).await;
    progress.stop();
    Ok((answer?.0, remarks))
}

/// Prints the failures that would stop dbt. Returns the exit status unless the user wants the request anyway.
fn refused(obstacles: &Obstacles, anyway: bool) -> Option<u8> {
    let Obstacles { failing, unknown } = obstacles;
    let (status, head) = match (failing.is_empty(), unknown.is_empty()) {
        (true, true) => return None,
        (false, _) => (1, "dbt's attempt would fail. Fix this first, or give --anyway:"),
        (true, false) => (2, "It is unknown whether dbt's attempt would succeed. Read this first, or give --anyway:"),
    };
    let lines: Vec<String> = failing.iter().chain(unknown).map(|line| format!("  {}", strip_invisible(line))).collect();
    output::say(&format!("{head}\n{}\n`privatelink-guard check` shows more.\n", lines.join("\n")));
    (!anyway).then_some(status)
}

async fn request(aws: &AwsArgs, arguments: &RequestArgs) -> Result<u8> {
    let session = Session::open(aws).await?;
    let expectations = Expectations::new(&session, &arguments.subject, None).await?;
    ensure!(
        expectations.policy.services.len() == 1,
        BadUsage(format!("give --service: there are {} endpoint services", expectations.policy.services.len()))
    );
    let (report, topology) = expectations.check(&session).await?;
    let service = expectations.policy.services.first().and_then(|service| topology.service(service).ok());
    let private_dns = service.and_then(|service| service.private_dns.as_ref());
    let mut obstacles = Obstacles::of(&report);
    let expected = expectations.policy.listener_ports.for_service(expectations.policy.services.first());
    // The request names this host for dbt's connections.
    if let Some(name) = arguments.dns.as_ref().or(private_dns.map(|dns| &dns.name)) {
        obstacles.extend(request::uncovered(name, &expected, &topology));
    }
    if let Some(status) = refused(&obstacles, arguments.anyway) {
        return Ok(status);
    }
    let listeners = topology.load_balancers.values().flat_map(|load_balancer| load_balancer.listeners.iter().flatten());
    let ports: Vec<u16> =
        listeners.filter(|listener| listener.serves(&expected)).map(|listener| listener.port).collect();
    let note = expectations.policy.services.first().filter(|_| arguments.subject.stack.is_some());
    if let Some(note) = note.and_then(|service| request::held_later(&expectations.policy, service, &topology)) {
        output::say(&format!("Note: {note}\n"));
    }
    let facts = request::ServiceFacts {
        service_name: request::service_name(&report)?,
        region: &session.region,
        private_dns,
        ports: &ports,
    };
    output::print(&request::text(&facts, arguments).context("the request cannot be written")?)?;
    Ok(0)
}
