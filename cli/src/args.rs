//! The command line: its flags, and help that teaches by example.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use guard_core::check::Severity;
use guard_core::ids::{Arn, ServiceId};
use jiff::{SignedDuration, Timestamp};

/// `privatelink-guard`.
#[derive(Debug, Parser)]
#[command(
    name = "privatelink-guard",
    version,
    about = "Check a service that you share with dbt over AWS PrivateLink, with your own AWS credentials.\n\
             Nothing but `silence` changes anything.",
    after_help = "Examples:\n  \
        privatelink-guard check\n      \
            every endpoint service of the account and Region\n  \
        privatelink-guard check --stack privatelink-guard\n      \
            with the settings of the deployed guard",
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: CliCommand,
    /// The credentials to use.
    #[command(flatten)]
    pub aws: AwsArgs,
}

/// The credentials and the Region.
#[derive(Debug, Args)]
#[command(next_help_heading = "AWS")]
pub struct AwsArgs {
    /// The profile of the AWS CLI whose credentials are used
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// The Region of the endpoint service
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Check the whole path from dbt's endpoint to the targets
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Write the request that dbt Support needs to create its endpoint
    #[command(after_help = REQUEST_EXAMPLES)]
    Request(RequestArgs),
    /// Find where dbt's connections stopped in a given time
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(TraceArgs),
    /// Show what the deployed guard knows, and whether it runs
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Hold back alerts during planned work
    Silence(SilenceArgs),
    /// Print the IAM policy that you need to run privatelink-guard, or one of a role of the guard
    #[command(after_help = POLICY_EXAMPLES)]
    Policy(PolicyArgs),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  privatelink-guard completions bash > /etc/bash_completion.d/privatelink-guard")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  privatelink-guard man | man -l -")]
    Man,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  privatelink-guard check --service vpce-svc-0123456789abcdef0 \\
      --dbt-principal arn:aws:iam::<dbt-account-id>:root --ports 5432
  privatelink-guard check --stack privatelink-guard --html report.html

Exit status:
  0   nothing of severity --fail-on or worse fails, and nothing is unknown
  1   something of that severity fails
  2   nothing of that severity fails, but something is unknown
  3   nothing could be read (no credentials, stack or network), or a file could not be written
  64  bad usage";

const REQUEST_EXAMPLES: &str = "\
Examples:
  privatelink-guard request --stack privatelink-guard --account-url ab123.us1.dbt.com
  privatelink-guard request --service vpce-svc-0123456789abcdef0 \\
      --dbt-principal arn:aws:iam::<dbt-account-id>:root --cidrs <networks> \\
      --environment EMEA --dns git.example.com

Exit status:
  0   written
  1   refused: a failing check would make dbt's attempt fail
  2   refused: it is unknown whether dbt's attempt would fail
  3   nothing could be read: no credentials, stack or network
  64  bad usage";

const TRACE_EXAMPLES: &str = "\
Examples:
  privatelink-guard trace --stack privatelink-guard --last 30m
  privatelink-guard trace --service vpce-svc-0123456789abcdef0 \\
      --from '2026-03-14 09:00' --to '2026-03-14 09:20'

Exit status:
  0   there is a verdict
  2   it is unknown where the connections stopped
  3   nothing could be read: no credentials, stack or network
  64  bad usage";

const STATUS_EXAMPLES: &str = "\
Examples:
  privatelink-guard status --stack privatelink-guard
  privatelink-guard status --stack privatelink-guard --json | jq '.alerts[].summary'

Exit status:
  0   all is well
  1   an alert of severity --fail-on or worse fires, a function is silent or had
      errors, or nobody receives the alerts
  2   something is unknown
  3   nothing could be read: no credentials, stack or network
  64  bad usage";

const ADD_EXAMPLES: &str = "\
Examples:
  privatelink-guard silence add --stack privatelink-guard --target-group postgres \\
      --for 2h --comment \"database upgrade\"
  privatelink-guard silence add --stack privatelink-guard --check listener.certificate \\
      --for 1d --comment \"the new certificate comes tomorrow\"";

const POLICY_EXAMPLES: &str = "\
Examples:
  privatelink-guard policy --silence > policy.json
  aws iam create-policy --policy-name privatelink-guard-check --policy-document file://policy.json
  privatelink-guard policy --role drift-watcher --set CrossZone=enforce > drift-watcher.json
      what the role needs once the deployed stack has this parameter
  privatelink-guard policy --role drift-watcher --account 111122223333 \\
      --region eu-central-1 --set EndpointServiceIds=vpce-svc-0123456789abcdef0
      before the stack is deployed
  privatelink-guard policy --role drift-watcher --trust --account ...
      who must be able to assume it";

/// The endpoint services, and what is expected of them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What to check")]
pub struct Subject {
    /// The deployed guard's stack, for its services and settings; the flags below override them
    #[arg(long, value_name = "NAME")]
    pub stack: Option<String>,
    /// An endpoint service; can be repeated. Default: those of the stack, or all of the account and Region
    #[arg(long = "service", alias = "endpoint-service-ids", value_name = "vpce-svc-ID", value_delimiter = ',')]
    pub services: Vec<ServiceId>,
    /// dbt's principal, from dbt Support, or its account id; can be repeated. dbt's pages name account 346425330055 for
    /// its multi-tenant platform on AWS: ask whether that is yours
    #[arg(long = "dbt-principal", alias = "dbt-principals", value_name = "ARN or ACCOUNT", value_delimiter = ',')]
    pub dbt_principals: Vec<String>,
    /// The ports that dbt connects to: 5432, or 5432+443; or by service, vpce-svc-a=5432,vpce-svc-b=22
    #[arg(long, alias = "listener-ports", value_name = "PORTS")]
    pub ports: Option<String>,
    /// The networks that dbt connects from, comma-separated
    #[arg(long, alias = "dbt-cidrs", value_name = "CIDRS")]
    pub cidrs: Option<String>,
    /// How many of dbt's endpoints one service accepts; 0 for any number (default: 1)
    #[arg(long, value_name = "NUMBER")]
    pub max_dbt_endpoints: Option<usize>,
    /// The only endpoints of dbt's that a service accepts: vpce-svc-a=vpce-1+vpce-2,vpce-svc-b=vpce-3
    #[arg(long, value_name = "ENDPOINTS")]
    pub expected_endpoints: Option<String>,
    /// The account of another consumer that you trust; can be repeated
    #[arg(long = "known-account", alias = "known-accounts", value_name = "ACCOUNT", value_delimiter = ',')]
    pub known_accounts: Vec<String>,
}

/// `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The services, and what is expected of them.
    #[command(flatten)]
    pub subject: Subject,
    /// Instead of a service: a Network Load Balancer that has no endpoint service yet
    #[arg(long, value_name = "ARN", conflicts_with_all = ["services", "stack"])]
    pub load_balancer: Option<Arn>,
    /// The lowest severity whose failure makes the exit status 1
    #[arg(long, help_heading = "Output", value_name = "SEVERITY", value_enum, default_value_t = FailOn::Warning)]
    pub fail_on: FailOn,
    /// Check again until nothing fails, for at most this time (10m, 1h)
    #[arg(long, help_heading = "Output", value_name = "DURATION", value_parser = duration)]
    pub wait: Option<Duration>,
    /// Print JSON (docs/check.schema.json)
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Also write a page to share: one file that needs no network
    #[arg(long, help_heading = "Output", value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `--fail-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Everything that fails
    Info,
    /// Warnings and critical failures
    Warning,
    /// Critical failures only
    Critical,
}

impl FailOn {
    /// The severity that the flag stands for.
    pub fn severity(self) -> Severity {
        match self {
            Self::Info => Severity::Info,
            Self::Warning => Severity::Warning,
            Self::Critical => Severity::Critical,
        }
    }
}

/// The heading of `request`'s own flags.
const REQUESTED: &str = "What to request";

/// `request`.
#[derive(Debug, Clone, Args)]
pub struct RequestArgs {
    /// The service, and what is expected of it.
    #[command(flatten)]
    pub subject: Subject,
    /// What the service is, such as Postgres, Redshift or GitLab
    #[arg(long, help_heading = REQUESTED, value_name = "NAME")]
    pub platform: Option<String>,
    /// The address of your dbt account, such as ab123.us1.dbt.com; it names the environment
    #[arg(long, help_heading = REQUESTED, value_name = "URL", value_parser = AccountUrl::from_str)]
    pub account_url: Option<AccountUrl>,
    /// The environment that your dbt account is in, if its address does not name it
    #[arg(long, help_heading = REQUESTED, value_enum, value_name = "ENVIRONMENT")]
    pub environment: Option<DbtEnvironment>,
    /// The name that dbt connects to if it uses TLS; without it, the service's private DNS name
    #[arg(long, help_heading = REQUESTED, value_name = "NAME", value_parser = host_name)]
    pub dns: Option<String>,
    /// Write the request even if a check fails
    #[arg(long, help_heading = REQUESTED)]
    pub anyway: bool,
}

/// The address of a dbt account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountUrl {
    /// The form that dbt's request has: `https://HOST`.
    pub url: String,
    /// The environment that the address names; a single tenant's own address names none.
    pub environment: Option<DbtEnvironment>,
}

impl FromStr for AccountUrl {
    type Err = String;

    /// Accepts an address with or without `https://` and a path. An account on another cloud is an error, since AWS
    /// PrivateLink does not reach it.
    /// <https://docs.getdbt.com/docs/platform/about-platform/access-regions-ip-addresses>
    fn from_str(text: &str) -> Result<Self, String> {
        let host = text.strip_prefix("https://").unwrap_or(text).split('/').next().unwrap_or_default().to_lowercase();
        if !is_host_name(&host) || !host.contains('.') {
            return Err("expected the address of your dbt account, such as ab123.us1.dbt.com".to_owned());
        }
        let cell = host.strip_suffix(".dbt.com").map(|cell| cell.rsplit('.').next().unwrap_or(cell));
        let environment = match (host.as_str(), cell) {
            ("cloud.getdbt.com", _) | (_, Some("us1")) => Some(DbtEnvironment::Us),
            (_, Some("eu1" | "emea")) => Some(DbtEnvironment::Emea),
            (_, Some("au1" | "au")) => Some(DbtEnvironment::Au),
            (_, Some("jp1")) => Some(DbtEnvironment::Jp),
            (_, Some(cell)) if is_cell(cell) => return Err(on_another_cloud(cell)),
            _ => None,
        };
        Ok(Self { url: format!("https://{host}"), environment })
    }
}

/// Whether `text` has the form of dbt's cell names: a region's letters and a number.
fn is_cell(text: &str) -> bool {
    let number = text.trim_start_matches(|c: char| c.is_ascii_lowercase());
    text.len() - number.len() == 2 && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

fn on_another_cloud(cell: &str) -> String {
    format!(
        "this account is in dbt's cell {cell}, which is not on AWS: AWS PrivateLink does not reach it. dbt's cells on AWS are us1, \
         eu1, au1 and jp1. Ask dbt Support how an account there reaches a service on AWS."
    )
}

/// dbt's environments, as its form names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum DbtEnvironment {
    /// North America
    Us,
    /// Europe
    Emea,
    /// Australia
    Au,
    /// Japan
    Jp,
}

/// The heading of `trace`'s own flags.
const TRACED: &str = "What to trace";

/// `trace`.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("time").required(true).args(["last", "from"])))]
pub struct TraceArgs {
    /// The services.
    #[command(flatten)]
    pub subject: Subject,
    /// The start: 2026-03-14T09:00:00+01:00, or '2026-03-14 09:00' in this computer's time zone
    #[arg(long, help_heading = TRACED, value_name = "TIME", requires = "to", value_parser = time)]
    pub from: Option<Timestamp>,
    /// The end
    #[arg(long, help_heading = TRACED, value_name = "TIME", requires = "from", value_parser = time)]
    pub to: Option<Timestamp>,
    /// How far back from now: 30m, 2h
    #[arg(long, help_heading = TRACED, value_name = "DURATION", value_parser = duration)]
    pub last: Option<Duration>,
    /// Search the flow logs even if that scans more than 10 GB, which costs $0.005 per GB
    #[arg(long, help_heading = TRACED)]
    pub yes: bool,
}

/// `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The deployed guard's stack
    #[arg(long, value_name = "NAME")]
    pub stack: String,
    /// The lowest severity that makes the exit status 1
    #[arg(long, help_heading = "Output", value_name = "SEVERITY", value_enum, default_value_t = FailOn::Warning)]
    pub fail_on: FailOn,
    /// Print JSON (docs/status.schema.json)
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// `silence`.
#[derive(Debug, Clone, Args)]
pub struct SilenceArgs {
    /// The action.
    #[command(subcommand)]
    pub action: SilenceAction,
}

/// `silence add`, `list`, `remove`.
#[derive(Debug, Clone, Subcommand)]
pub enum SilenceAction {
    /// Hold back the alerts of some checks
    #[command(after_help = ADD_EXAMPLES)]
    Add(AddSilenceArgs),
    /// List the silences
    #[command(after_help = "Example:\n  privatelink-guard silence list --stack privatelink-guard")]
    List {
        /// The deployed guard's stack
        #[arg(long, value_name = "NAME")]
        stack: String,
    },
    /// End a silence
    #[command(after_help = "Example:\n  privatelink-guard silence remove --stack privatelink-guard <ID>")]
    Remove {
        /// The deployed guard's stack
        #[arg(long, value_name = "NAME")]
        stack: String,
        /// The silence's id, as `list` shows it
        id: String,
    },
}

/// `silence add`.
#[derive(Debug, Clone, Args)]
pub struct AddSilenceArgs {
    /// The deployed guard's stack
    #[arg(long, value_name = "NAME")]
    pub stack: String,
    /// A check's id; can be repeated. "*" for all but connection.untrusted and delivery.subscribers, which must be named
    #[arg(long = "check", value_name = "CHECK", required_unless_present = "target_group")]
    pub checks: Vec<String>,
    /// A resource, as in the alerts; can be repeated. Default: all
    #[arg(long = "resource", value_name = "ARN or ID")]
    pub resources: Vec<String>,
    /// Instead of --check: all checks of this target group, such as its health, zones and security groups
    #[arg(long, value_name = "ARN or NAME", conflicts_with_all = ["checks", "resources"])]
    pub target_group: Option<String>,
    /// An endpoint service of the stack; can be repeated. Default: all
    #[arg(long = "service", value_name = "vpce-svc-ID")]
    pub services: Vec<ServiceId>,
    /// For how long: 30m, 2h, 3d; at most 7 days
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub length: Duration,
    /// Why: the notice of the silence shows it
    #[arg(long, value_name = "TEXT")]
    pub comment: String,
}

/// The heading of the flags about the guard's roles.
const ROLES: &str = "Roles of your own";

/// `policy`.
#[derive(Debug, Clone, Args)]
pub struct PolicyArgs {
    /// Also allow `silence add` and `remove`, which write to the guard's table
    #[arg(long, conflicts_with = "role")]
    pub silence: bool,
    /// The guard's stack
    #[arg(long, value_name = "NAME", default_value = "privatelink-guard")]
    pub stack: String,
    /// Print what a role of the guard must be allowed instead, with the deployed stack's parameters
    #[arg(long, help_heading = ROLES, value_enum, value_name = "ROLE")]
    pub role: Option<GuardRole>,
    /// Print who must be able to assume that role: its trust policy
    #[arg(long, help_heading = ROLES, requires = "role")]
    pub trust: bool,
    /// The account of a stack that is not deployed yet: AWS is not asked, and --set has all that is not the default
    #[arg(long, help_heading = ROLES, requires = "role", value_name = "ACCOUNT", value_parser = account)]
    pub account: Option<String>,
    /// A parameter that will be deployed with another value; can be repeated
    #[arg(long, help_heading = ROLES, requires = "role", value_name = "Name=value", value_parser = parameter)]
    pub set: Vec<(String, String)>,
}

/// A role of the guard's stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GuardRole {
    /// The function that accepts connections (`ConnectionAcceptorRoleArn`)
    ConnectionAcceptor,
    /// The function that checks targets (`HealthWatcherRoleArn`)
    HealthWatcher,
    /// The function that checks the configuration (`DriftWatcherRoleArn`)
    DriftWatcher,
    /// The function that changes targets (`TargetFollowerRoleArn`)
    TargetFollower,
    /// What starts the functions (`ScheduleRoleArn`)
    Schedules,
    /// What reports that an alarm is over to a topic in another account (`AlarmOverRoleArn`)
    AlarmOver,
    /// The Slack and Teams channels (`ChatRoleArn`)
    Chat,
}

fn account(text: &str) -> Result<String, String> {
    let is_account = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    is_account.then(|| text.to_owned()).ok_or_else(|| "expected a 12-digit account id".to_owned())
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected Name=value, such as DryRun=true")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn host_name(text: &str) -> Result<String, String> {
    if is_host_name(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a host name such as git.example.com".to_owned())
    }
}

/// Whether `text` is a DNS name, possibly with a wildcard.
pub(crate) fn is_host_name(text: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '*');
    text.contains('.') && text.split('.').all(is_label)
}

/// `30m`, `2h`, `1h30m`, `3d`.
fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as 30m, 2h or 3d";
    let span: jiff::Span = text.parse().map_err(|_| expected.to_owned())?;
    let duration = SignedDuration::try_from(span)
        .or_else(|_| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .map_err(|_| expected.to_owned())?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(expected.to_owned()),
    }
}

/// RFC 3339, or a time in this computer's time zone.
fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(zoned) = text.parse::<jiff::Zoned>() {
        return Ok(zoned.timestamp());
    }
    let civil: jiff::civil::DateTime = text.parse().map_err(|_| {
        "expected a time such as 2026-03-14T09:00:00+01:00, or 2026-03-14 09:00 in local time".to_owned()
    })?;
    civil.to_zoned(jiff::tz::TimeZone::system()).map(|zoned| zoned.timestamp()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_has_a_positive_number_and_a_unit() {
        for (text, seconds) in [("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("3d", 259_200)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0m", "-1h", "2", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_name_has_a_dot_and_no_spaces() {
        for name in ["git.example.com", "*.example.com"] {
            assert_eq!(host_name(name).as_deref(), Ok(name));
        }
        for name in ["git", "not a name", "git..com", "https://git.example.com"] {
            assert!(host_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn times_have_an_offset_or_are_local() {
        let expected: Timestamp = "2026-03-14T08:00:00Z".parse().unwrap();
        assert_eq!(time("2026-03-14T09:00:00+01:00"), Ok(expected));
        assert_eq!(time("2026-03-14T09:00:00+01:00[Europe/Berlin]"), Ok(expected));
        assert!(time("2026-03-14 09:00").is_ok());
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn a_trace_without_a_time_names_all_ways_to_give_one() {
        let refusal = |more: &[&str]| {
            Cli::try_parse_from([&["privatelink-guard", "trace"], more].concat()).unwrap_err().to_string()
        };
        let missing = refusal(&[]);
        assert!(missing.contains("<--last <DURATION>|--from <TIME>>"), "{missing}");
        assert!(refusal(&["--from", "2026-03-14 09:00"]).contains("--to <TIME>"));
        assert!(refusal(&["--last", "1h", "--from", "2026-03-14 09:00"]).contains("cannot be used with"));
    }

    #[test]
    fn an_unknown_flag_gets_a_suggestion() {
        let error = Cli::try_parse_from(["privatelink-guard", "check", "--servce", "x"]).unwrap_err();
        assert!(error.to_string().contains("'--service'"), "{error}");
    }
}
