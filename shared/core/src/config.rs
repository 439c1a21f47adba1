//! Reads [`Settings`] from environment variables. All problems are reported at once, each with its variable's name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;

use crate::ids::{AccountId, Arn, EndpointId, Malformed, ServiceId};

/// The configuration of a function: its policy, and where it stores its state and sends alerts.
#[derive(Debug, Clone)]
pub struct Settings {
    pub policy: Policy,
    /// The SNS topic that alerts are sent to (`ALERT_TOPIC_ARN`).
    pub alert_topic: Arn,
    /// The DynamoDB table that stores the state of alerts and connections (`STATE_TABLE`).
    pub state_table: String,
    /// The stack's name, as alerts show it (`STACK_NAME`).
    pub stack_name: Option<String>,
    /// The address of the runbook, to which alerts append `#CHECK` (`RUNBOOK_URL`).
    pub runbook_url: Option<String>,
    /// The interval between drift-watcher's scheduled runs (`DRIFT_SCHEDULE`).
    pub drift_schedule: Duration,
}

/// The services to check, with all limits and reactions.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The endpoint services to watch. Never empty.
    pub services: BTreeSet<ServiceId>,
    /// The accounts whose endpoints may connect: the accounts of `principals`. Never empty.
    pub dbt_accounts: BTreeSet<AccountId>,
    /// Accounts that are neither dbt's nor untrusted: the guard neither accepts nor rejects their endpoints.
    pub known_accounts: BTreeSet<AccountId>,
    /// The largest number of dbt's endpoints connected to one service. `None` for any number.
    pub max_dbt_endpoints: Option<usize>,
    /// The only endpoints of dbt that are accepted on these services.
    pub expected_endpoints: BTreeMap<ServiceId, BTreeSet<EndpointId>>,
    pub principals: BTreeSet<Principal>,
    /// The topic that connection notifications must go to; `None` if they are not checked.
    pub notification_topic: Option<Arn>,
    pub listener_ports: ListenerPorts,
    /// The networks that dbt connects from. Empty if not configured.
    pub dbt_cidrs: Vec<IpNet>,
    /// The reaction to requests and connections of untrusted accounts.
    pub untrusted_requests: UntrustedRequests,
    /// The reaction to cross-zone load balancing that is off.
    pub cross_zone: CrossZone,
    /// How target-follower changes the targets of the followed groups.
    pub follow_hostnames: FollowHostnames,
    /// The target groups whose targets follow their hostname. Empty unless `follow_hostnames` says to follow.
    pub follow_target_groups: BTreeSet<Arn>,
    /// Consecutive failing results before an alert of a check that can flap fires. At least 1.
    pub alert_after: u32,
    /// Consecutive passing results before such an alert resolves. At least 1.
    pub resolve_after: u32,
    /// The time between the last notification of a firing alert and its reminder. `None` for never.
    pub remind_every: Option<Duration>,
    /// The longest time in which dbt is expected to connect at least once. `None` if traffic is not expected.
    pub expect_traffic_every: Option<Duration>,
    /// Whether the guard only decides and reports, and changes nothing.
    pub dry_run: bool,
    /// Whether a guard runs with this policy: the command also works without one.
    pub has_guard: bool,
}

impl Policy {
    /// Reads the policy's variables through `lookup`, as [`Settings::from_lookup`] does, but requires none of them: a
    /// user of the command line may not know them all.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, BadConfiguration> {
        let mut read = Reader { lookup, problems: Vec::new() };
        let policy = read.policy(false);
        if read.problems.is_empty() { Ok(policy) } else { Err(BadConfiguration(read.problems)) }
    }
}

/// The networks of private IPv4 addresses: <https://www.rfc-editor.org/rfc/rfc1918>, <https://www.rfc-editor.org/rfc/rfc6598>.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];

/// The networks of [`PRIVATE`].
pub(crate) fn private_networks() -> impl Iterator<Item = IpNet> {
    PRIVATE.iter().filter_map(|network| network.parse().ok())
}

impl Policy {
    /// The ports that dbt connects to on any of the services; empty if at least one service takes any port.
    pub fn all_ports(&self) -> BTreeSet<u16> {
        let of_services = || self.services.iter().map(|service| self.listener_ports.for_service(Some(service)));
        match of_services().any(|ports| ports.is_empty()) {
            true => BTreeSet::new(),
            false => of_services().flatten().chain(self.listener_ports.for_service(None)).collect(),
        }
    }

    /// The IPv4 networks of `dbt_cidrs` that contain public addresses. dbt's traffic over PrivateLink has private
    /// source addresses; the public addresses that dbt lists belong to its other connections. IPv6 addresses tell
    /// nothing: most VPCs use public ranges.
    /// <https://docs.getdbt.com/docs/platform/about-platform/access-regions-ip-addresses>
    pub fn public_cidrs(&self) -> impl Iterator<Item = &IpNet> {
        let private: Vec<IpNet> = private_networks().collect();
        let ipv4 = self.dbt_cidrs.iter().filter(|cidr| matches!(cidr, IpNet::V4(_)));
        ipv4.filter(move |cidr| !private.iter().any(|private| private.contains(*cidr)))
    }
}

/// Maximum difference between the clocks of two runs.
pub const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(1);

/// The longest configurable `EXPECT_TRAFFIC_EVERY`: the period for which the guard reads CloudWatch metrics.
pub const MAX_EXPECT_TRAFFIC_EVERY: Duration = Duration::from_hours(168);

const A_YEAR: Duration = Duration::from_hours(8760);

/// An IAM principal that may connect. Acceptance depends only on its account, because EC2 reports an endpoint's owner
/// as an account id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Principal {
    pub account: AccountId,
    /// The ARN; `None` if the configuration gave an account id.
    pub arn: Option<Arn>,
}

/// `LISTENER_PORTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerPorts {
    /// Any port is accepted.
    Any,
    /// These ports, for every service.
    Every(BTreeSet<u16>),
    /// These ports for these services; any port is accepted for the others.
    PerService(BTreeMap<ServiceId, BTreeSet<u16>>),
}

/// `UNTRUSTED_REQUESTS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntrustedRequests {
    /// Send an alert and change nothing.
    Alert,
    /// Reject pending requests, revoke established connections, and send an alert.
    Reject,
}

/// `CROSS_ZONE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossZone {
    /// Send an alert and change nothing.
    Alert,
    /// Switch it back on, and send an alert.
    Enforce,
    /// Do not check it.
    Ignore,
}

/// `FOLLOW_HOSTNAMES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowHostnames {
    /// Change no targets.
    Never,
    /// Register the hostname's missing addresses.
    Register,
    /// Register them, and deregister the others once all of the hostname's addresses are healthy.
    Replace,
}

/// All problems of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadConfiguration(Vec<Problem>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    variable: &'static str,
    message: String,
    /// The other variable in the conflict, named at the end of the message.
    other: Option<&'static str>,
    expected: &'static str,
}

impl BadConfiguration {
    /// The problems, one per line. `name` translates each variable's name, for example into a command's flag.
    pub fn lines(&self, name: impl Fn(&'static str) -> &'static str) -> Vec<String> {
        let line = |Problem { variable, message, other, expected }: &Problem| {
            let other = other.map(|other| format!(" {}", name(other))).unwrap_or_default();
            format!("{}: {message}{other}; expected {expected}", name(variable))
        };
        self.0.iter().map(line).collect()
    }
}

impl std::error::Error for BadConfiguration {}

impl fmt::Display for BadConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} problem{plural}:", self.0.len())?;
        self.lines(|variable| variable).iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl Settings {
    /// Reads all variables through `lookup` (the process environment, or a test's map).
    ///
    /// # Errors
    /// [`BadConfiguration`] names every variable that is missing or malformed, not only the first.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, BadConfiguration> {
        let mut read = Reader { lookup, problems: Vec::new() };
        let policy = read.policy(true);
        let alert_topic = read.one("ALERT_TOPIC_ARN", "the ARN of an SNS topic", sns_topic);
        read.required("ALERT_TOPIC_ARN", alert_topic.is_none(), "the ARN of an SNS topic");
        let state_table = read.one("STATE_TABLE", "the name of a DynamoDB table", table_name);
        read.required("STATE_TABLE", state_table.is_none(), "the name of a DynamoDB table");
        let stack_name = Some(read.text("STACK_NAME")).filter(|name| !name.is_empty());
        let drift_schedule = read.one("DRIFT_SCHEDULE", "rate(15 minutes) or rate(1 hour)", rate);
        let drift_schedule = drift_schedule.unwrap_or(Duration::from_mins(15));
        let runbook_url = read.one("RUNBOOK_URL", "an address that begins with https://", runbook_url);

        match (alert_topic, state_table) {
            (Some(alert_topic), Some(state_table)) if read.problems.is_empty() => {
                Ok(Self { policy, alert_topic, state_table, stack_name, runbook_url, drift_schedule })
            }
            _ => Err(BadConfiguration(read.problems)),
        }
    }

    /// The largest usable age of a path stored by drift-watcher: two of its schedules.
    pub fn path_max_age(&self) -> SignedDuration {
        SignedDuration::try_from(self.drift_schedule * 2).unwrap_or(SignedDuration::ZERO)
    }

    /// [`Settings::from_lookup`] on the environment of this process.
    pub fn from_env() -> Result<Self, BadConfiguration> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }
}

/// Reads variables and collects the problems, so that all of them are reported at once.
struct Reader<L> {
    lookup: L,
    problems: Vec<Problem>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    /// The policy; `is_complete` requires services and dbt's principals. After a problem, parts of the policy are
    /// missing.
    fn policy(&mut self, is_complete: bool) -> Policy {
        let services = self.list("ENDPOINT_SERVICE_IDS", "vpce-svc-… ids, comma-separated", str::parse::<ServiceId>);
        let principals = self.list(
            "DBT_PRINCIPALS",
            "the principal dbt Support gave you (arn:aws:iam::<account>:root), a role or user ARN, or a 12-digit \
             account id, comma-separated",
            Principal::from_str,
        );
        if is_complete {
            self.required("ENDPOINT_SERVICE_IDS", services.is_empty(), "at least one endpoint service");
            self.required("DBT_PRINCIPALS", principals.is_empty(), "at least one dbt principal");
        }
        let known_accounts =
            self.list("KNOWN_ACCOUNTS", "12-digit AWS account ids, comma-separated", str::parse::<AccountId>);
        for account in known_accounts.iter().filter(|known| principals.iter().any(|dbt| dbt.account == **known)) {
            self.conflict(
                "KNOWN_ACCOUNTS",
                format!("{account} is in"),
                "DBT_PRINCIPALS",
                "accounts that are not dbt's",
            );
        }
        let listener_ports = self.one("LISTENER_PORTS", LISTENER_PORTS, ListenerPorts::from_str);
        if let Some(ListenerPorts::PerService(ports)) = &listener_ports {
            for service in ports.keys().filter(|service| !services.contains(service)) {
                let message = format!("{service} is not in");
                self.conflict("LISTENER_PORTS", message, "ENDPOINT_SERVICE_IDS", LISTENER_PORTS);
            }
        }

        let expected = self.one("EXPECTED_ENDPOINTS", EXPECTED_ENDPOINTS, |text| per_service(text, endpoint));
        let expected = expected.unwrap_or_default();
        for service in expected.keys().filter(|service| !services.contains(service)) {
            let message = format!("{service} is not in");
            self.conflict("EXPECTED_ENDPOINTS", message, "ENDPOINT_SERVICE_IDS", EXPECTED_ENDPOINTS);
        }

        let follow_hostnames = self.one("FOLLOW_HOSTNAMES", "'never', 'register' or 'replace'", follow_hostnames);
        let follow_hostnames = follow_hostnames.unwrap_or(FollowHostnames::Never);
        let follows = follow_hostnames != FollowHostnames::Never;
        let groups = self.list("FOLLOW_TARGET_GROUPS", TARGET_GROUPS, target_group);
        self.required("FOLLOW_TARGET_GROUPS", follows && groups.is_empty(), TARGET_GROUPS);

        Policy {
            max_dbt_endpoints: self
                .one("MAX_DBT_ENDPOINTS", "a whole number from 0 (no limit) to 1000", limit)
                .unwrap_or(Some(1)),
            expected_endpoints: expected,
            dbt_accounts: principals.iter().map(|principal| principal.account.clone()).collect(),
            services: services.into_iter().collect(),
            known_accounts: known_accounts.into_iter().collect(),
            principals: principals.into_iter().collect(),
            notification_topic: self.one("NOTIFICATION_TOPIC_ARN", "the ARN of an SNS topic", sns_topic),
            listener_ports: listener_ports.unwrap_or(ListenerPorts::Any),
            dbt_cidrs: self.list("DBT_CIDRS", "IPv4 or IPv6 CIDRs such as 10.1.2.0/24, comma-separated", cidr),
            untrusted_requests: self
                .one("UNTRUSTED_REQUESTS", "'alert' or 'reject'", untrusted_requests)
                .unwrap_or(UntrustedRequests::Alert),
            cross_zone: self
                .one("CROSS_ZONE", "'alert', 'enforce' or 'ignore'", cross_zone)
                .unwrap_or(CrossZone::Alert),
            follow_hostnames,
            follow_target_groups: groups.into_iter().filter(|_| follows).collect(),
            alert_after: self.one("ALERT_AFTER", "a whole number from 1 to 1000", times).unwrap_or(2),
            resolve_after: self.one("RESOLVE_AFTER", "a whole number from 1 to 1000", times).unwrap_or(2),
            remind_every: self
                .one("REMIND_EVERY_HOURS", "a whole number of hours from 0 (never) to 8760", |text| hours(text, A_YEAR))
                .unwrap_or(Some(Duration::from_hours(24))),
            expect_traffic_every: self
                .one("EXPECT_TRAFFIC_EVERY", "a whole number of hours from 0 (not expected) to 168", |text| {
                    hours(text, MAX_EXPECT_TRAFFIC_EVERY)
                })
                .unwrap_or(None),
            dry_run: self.one("DRY_RUN", "'true' or 'false'", boolean).unwrap_or(false),
            has_guard: true,
        }
    }

    fn problem(&mut self, variable: &'static str, message: String, expected: &'static str) {
        self.problems.push(Problem { variable, message, other: None, expected });
    }

    /// Records a conflict between `variable` and `other`, with whose name the message ends.
    fn conflict(&mut self, variable: &'static str, message: String, other: &'static str, expected: &'static str) {
        self.problems.push(Problem { variable, message, other: Some(other), expected });
    }

    /// Records that a required variable is missing, unless a problem with it is already recorded.
    fn required(&mut self, variable: &'static str, missing: bool, expected: &'static str) {
        if missing && !self.problems.iter().any(|problem| problem.variable == variable) {
            self.problem(variable, "is missing or empty".to_owned(), expected);
        }
    }

    fn text(&self, variable: &str) -> String {
        (self.lookup)(variable).map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    /// An optional value. Empty counts as absent, because a SAM parameter cannot be absent.
    fn one<T, E: fmt::Display>(
        &mut self,
        variable: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(variable);
        if text.is_empty() {
            return None;
        }
        parse(&text).map_err(|error| self.problem(variable, error.to_string(), expected)).ok()
    }

    /// Comma-separated values. Spaces and empty items are ignored.
    fn list<T: PartialEq, E: fmt::Display>(
        &mut self,
        variable: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let text = self.text(variable);
        let mut values = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match parse(item) {
                Ok(value) => {
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
                Err(error) => self.problem(variable, error.to_string(), expected),
            }
        }
        values
    }
}

impl FromStr for Principal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('*') {
            return Err(format!("'{text}' would allow any account"));
        }
        if let Ok(account) = text.parse() {
            return Ok(Self { account, arn: None });
        }
        let arn: Arn = text.parse().map_err(|_| format!("'{text}' is neither an ARN nor a 12-digit account id"))?;
        let principal = arn.resource() == "root"
            || ["role/", "user/"]
                .iter()
                .any(|kind| arn.resource().strip_prefix(kind).is_some_and(|name| !name.is_empty()));
        if arn.service() != "iam" || !arn.region().is_empty() || !principal {
            return Err(format!("'{text}' is not the ARN of an account's root, a role or a user"));
        }
        let account = arn.account().parse().map_err(|error| format!("in '{text}', {error}"))?;
        Ok(Self { account, arn: Some(arn) })
    }
}

const LISTENER_PORTS: &str = "5432, or 5432+443, or vpce-svc-a=5432+443,vpce-svc-b=22";

impl ListenerPorts {
    /// The ports that dbt connects to on `service`, or on a service that does not exist yet; empty if any port is
    /// accepted.
    pub fn for_service(&self, service: Option<&ServiceId>) -> BTreeSet<u16> {
        match self {
            Self::Any => BTreeSet::new(),
            Self::Every(ports) => ports.clone(),
            Self::PerService(services) => {
                service.and_then(|service| services.get(service)).cloned().unwrap_or_default()
            }
        }
    }
}

impl FromStr for ListenerPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.contains('=') {
            true => per_service(text, port).map(Self::PerService),
            false => listed(text, port).map(Self::Every),
        }
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("'{text}' is not a port from 1 to 65535")),
    }
}

/// `a+b`.
fn listed<T: Ord>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<BTreeSet<T>, String> {
    text.split('+').map(|item| parse(item.trim())).collect()
}

/// `vpce-svc-a=b+c,vpce-svc-d=e`: each service once.
fn per_service<T: Ord>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<BTreeMap<ServiceId, BTreeSet<T>>, String> {
    let mut services = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (service, list) = entry.split_once('=').ok_or_else(|| format!("'{entry}' names no service"))?;
        let service: ServiceId = service.trim().parse().map_err(|error: Malformed| error.to_string())?;
        if services.insert(service.clone(), listed(list, &parse)?).is_some() {
            return Err(format!("{service} is listed twice"));
        }
    }
    Ok(services)
}

fn untrusted_requests(text: &str) -> Result<UntrustedRequests, String> {
    one_of(text, [("alert", UntrustedRequests::Alert), ("reject", UntrustedRequests::Reject)])
}

fn cross_zone(text: &str) -> Result<CrossZone, String> {
    one_of(text, [("alert", CrossZone::Alert), ("enforce", CrossZone::Enforce), ("ignore", CrossZone::Ignore)])
}

fn follow_hostnames(text: &str) -> Result<FollowHostnames, String> {
    let words = [
        ("never", FollowHostnames::Never),
        ("register", FollowHostnames::Register),
        ("replace", FollowHostnames::Replace),
    ];
    one_of(text, words)
}

const TARGET_GROUPS: &str = "ARNs of target groups, comma-separated";

fn target_group(text: &str) -> Result<Arn, String> {
    match text.parse::<Arn>() {
        Ok(arn) if arn.service() == "elasticloadbalancing" && arn.resource().starts_with("targetgroup/") => Ok(arn),
        _ => Err(format!("'{text}' is not the ARN of a target group")),
    }
}

fn one_of<T, const N: usize>(text: &str, words: [(&str, T); N]) -> Result<T, String> {
    let known = words.into_iter().find(|(word, _)| *word == text);
    known.map(|(_, value)| value).ok_or_else(|| format!("'{text}' is not known"))
}

fn sns_topic(text: &str) -> Result<Arn, String> {
    match text.parse::<Arn>() {
        Ok(arn) if arn.service() == "sns" && !arn.region().is_empty() && arn.account().parse::<AccountId>().is_ok() => {
            Ok(arn)
        }
        _ => Err(format!("'{text}' is not the ARN of an SNS topic")),
    }
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>
fn table_name(text: &str) -> Result<String, String> {
    let fits = (3..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if fits { Ok(text.to_owned()) } else { Err(format!("'{text}' is not a table's name")) }
}

/// The address becomes a link in alerts, followed by `#CHECK`.
fn runbook_url(text: &str) -> Result<String, String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?@!$&()*+,;=%".contains(&b);
    let fits = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain));
    if fits { Ok(text.to_owned()) } else { Err(format!("'{text}' is not a valid address")) }
}

/// Rejects a network with host bits set: `10.1.2.3/8` is more likely a typing error than `10.0.0.0/8`.
fn cidr(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| format!("'{text}' is not a CIDR"))?;
    if net.trunc() == net { Ok(net) } else { Err(format!("'{text}' has host bits set, did you mean {}?", net.trunc())) }
}

fn number<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Result<T, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| format!("'{text}' is out of range"))
}

fn times(text: &str) -> Result<u32, String> {
    number(text, 1..=1000)
}

fn limit(text: &str) -> Result<Option<usize>, String> {
    number(text, 0..=1000).map(|limit| Some(limit).filter(|limit| *limit > 0))
}

/// The expected form of `EXPECTED_ENDPOINTS`.
const EXPECTED_ENDPOINTS: &str = "vpce-svc-a=vpce-1+vpce-2,vpce-svc-b=vpce-3: each service once, with its endpoints";

fn endpoint(text: &str) -> Result<EndpointId, String> {
    text.parse().map_err(|error: Malformed| error.to_string())
}

/// Up to `max` hours; `None` for zero.
fn hours(text: &str, max: Duration) -> Result<Option<Duration>, String> {
    let hours = number(text, 0..=max.as_secs() / 3600)?;
    Ok(Some(Duration::from_hours(hours)).filter(|hours| !hours.is_zero()))
}

/// The interval of a schedule as `EventBridge` writes it: `rate(15 minutes)`.
///
/// # Errors
/// What was wrong.
pub fn rate(text: &str) -> Result<Duration, String> {
    let inner = text.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')'));
    let (number, unit) = inner.and_then(|inner| inner.split_once(' ')).unwrap_or_default();
    match (number.parse(), unit) {
        (Ok(minutes @ 1..=1440), "minute" | "minutes") => Ok(Duration::from_mins(minutes)),
        (Ok(hours @ 1..=24), "hour" | "hours") => Ok(Duration::from_hours(hours)),
        _ => Err(format!("'{text}' is not a rate")),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("'{text}' is not a boolean"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &[(&str, &str)] = &[
        ("ENDPOINT_SERVICE_IDS", "vpce-svc-0123456789abcdef0"),
        ("DBT_PRINCIPALS", "arn:aws:iam::123456789012:root"),
        ("ALERT_TOPIC_ARN", "arn:aws:sns:eu-central-1:111122223333:alerts"),
        ("STATE_TABLE", "guard-state"),
    ];

    /// The settings of [`VALID`] with these variables changed.
    fn read(changes: &[(&str, &str)]) -> Result<Settings, BadConfiguration> {
        Settings::from_lookup(|name| {
            changes.iter().chain(VALID).find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn problems(changes: &[(&str, &str)]) -> String {
        read(changes).expect_err("a problem").to_string()
    }

    #[test]
    fn public_cidrs_exclude_private_networks() {
        let public = |cidrs: &str| {
            let policy = Policy::from_lookup(|name| (name == "DBT_CIDRS").then(|| cidrs.to_owned())).unwrap();
            policy.public_cidrs().map(ToString::to_string).collect::<Vec<_>>()
        };
        let private = "10.1.2.0/24,172.31.0.0/16,192.168.4.0/24,100.64.0.0/10,fd00::/64,2001:db8::/32";
        assert_eq!(public(private), Vec::<String>::new());
        let mixed = "52.45.144.63/32,10.1.2.0/24,8.0.0.0/6,0.0.0.0/0";
        assert_eq!(public(mixed), ["52.45.144.63/32", "8.0.0.0/6", "0.0.0.0/0"]);
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let policy = read(&[]).unwrap().policy;
        assert_eq!(policy.listener_ports, ListenerPorts::Any);
        assert_eq!(policy.untrusted_requests, UntrustedRequests::Alert);
        assert_eq!(policy.cross_zone, CrossZone::Alert);
        assert_eq!((policy.alert_after, policy.resolve_after), (2, 2));
        assert_eq!(policy.remind_every, Some(Duration::from_hours(24)));
        assert!(policy.dbt_cidrs.is_empty() && policy.notification_topic.is_none() && !policy.dry_run);
    }

    #[test]
    fn every_form_of_principal_gives_an_account() {
        let principals = "arn:aws:iam::111111111111:root, arn:aws-us-gov:iam::222222222222:role/dbt/link,\
                          arn:aws:iam::333333333333:user/u,444444444444,arn:aws:iam::111111111111:role/r,";
        let accounts = read(&[("DBT_PRINCIPALS", principals)]).unwrap().policy.dbt_accounts;
        let accounts: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
        assert_eq!(accounts, ["111111111111", "222222222222", "333333333333", "444444444444"]);
    }

    #[test]
    fn a_principal_that_could_admit_other_accounts_is_an_error() {
        for principal in [
            "*",
            "arn:aws:iam::*:root",
            "arn:aws:iam::123456789012:role/*",
            "arn:aws:iam::aws:root",
            "arn:aws:iam::12345678901:root",
            "arn:aws:sts::123456789012:assumed-role/r/s",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:s3:::bucket",
            "arn:aws:s3::123456789012:root",
            "arn:aws:iam:eu-central-1:123456789012:root",
            "dbt",
        ] {
            assert!(problems(&[("DBT_PRINCIPALS", principal)]).contains("DBT_PRINCIPALS"), "{principal}");
            let beside_a_valid_one = format!("123456789012,{principal}");
            assert!(read(&[("DBT_PRINCIPALS", &beside_a_valid_one)]).is_err(), "{principal}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once_by_variable() {
        let problems = problems(&[
            ("ENDPOINT_SERVICE_IDS", "svc-1,vpce-svc-0123456789abcdef0,svc-2"),
            ("DBT_PRINCIPALS", " , "),
            ("ALERT_TOPIC_ARN", "alerts"),
            ("STATE_TABLE", ""),
            ("NOTIFICATION_TOPIC_ARN", "arn:aws:sqs:eu-central-1:111122223333:q"),
            ("LISTENER_PORTS", "5432+0"),
            ("DBT_CIDRS", "10.0.0.1/8,300.0.0.0/8"),
            ("KNOWN_ACCOUNTS", "12345"),
            ("UNTRUSTED_REQUESTS", "accept"),
            ("CROSS_ZONE", "on"),
            ("FOLLOW_HOSTNAMES", "always"),
            ("FOLLOW_TARGET_GROUPS", "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/pg/1"),
            ("ALERT_AFTER", "0"),
            ("RESOLVE_AFTER", "many"),
            ("REMIND_EVERY_HOURS", "-1"),
            ("EXPECT_TRAFFIC_EVERY", "169"),
            ("DRY_RUN", "yes"),
            ("RUNBOOK_URL", "javascript:x"),
            ("DRIFT_SCHEDULE", "cron(0 * * * ? *)"),
        ]);
        insta::assert_snapshot!(problems, @r"
        the configuration has 21 problems:
          ENDPOINT_SERVICE_IDS: 'svc-1' is not an endpoint service id (vpce-svc-0123456789abcdef0); expected vpce-svc-… ids, comma-separated
          ENDPOINT_SERVICE_IDS: 'svc-2' is not an endpoint service id (vpce-svc-0123456789abcdef0); expected vpce-svc-… ids, comma-separated
          DBT_PRINCIPALS: is missing or empty; expected at least one dbt principal
          KNOWN_ACCOUNTS: '12345' is not a 12-digit AWS account id; expected 12-digit AWS account ids, comma-separated
          LISTENER_PORTS: '0' is not a port from 1 to 65535; expected 5432, or 5432+443, or vpce-svc-a=5432+443,vpce-svc-b=22
          FOLLOW_HOSTNAMES: 'always' is not known; expected 'never', 'register' or 'replace'
          FOLLOW_TARGET_GROUPS: 'arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/pg/1' is not the ARN of a target group; expected ARNs of target groups, comma-separated
          NOTIFICATION_TOPIC_ARN: 'arn:aws:sqs:eu-central-1:111122223333:q' is not the ARN of an SNS topic; expected the ARN of an SNS topic
          DBT_CIDRS: '10.0.0.1/8' has host bits set, did you mean 10.0.0.0/8?; expected IPv4 or IPv6 CIDRs such as 10.1.2.0/24, comma-separated
          DBT_CIDRS: '300.0.0.0/8' is not a CIDR; expected IPv4 or IPv6 CIDRs such as 10.1.2.0/24, comma-separated
          UNTRUSTED_REQUESTS: 'accept' is not known; expected 'alert' or 'reject'
          CROSS_ZONE: 'on' is not known; expected 'alert', 'enforce' or 'ignore'
          ALERT_AFTER: '0' is out of range; expected a whole number from 1 to 1000
          RESOLVE_AFTER: 'many' is out of range; expected a whole number from 1 to 1000
          REMIND_EVERY_HOURS: '-1' is out of range; expected a whole number of hours from 0 (never) to 8760
          EXPECT_TRAFFIC_EVERY: '169' is out of range; expected a whole number of hours from 0 (not expected) to 168
          DRY_RUN: 'yes' is not a boolean; expected 'true' or 'false'
          ALERT_TOPIC_ARN: 'alerts' is not the ARN of an SNS topic; expected the ARN of an SNS topic
          STATE_TABLE: is missing or empty; expected the name of a DynamoDB table
          DRIFT_SCHEDULE: 'cron(0 * * * ? *)' is not a rate; expected rate(15 minutes) or rate(1 hour)
          RUNBOOK_URL: 'javascript:x' is not a valid address; expected an address that begins with https://
        ");
    }

    #[test]
    fn each_setting_is_checked_at_its_limits() {
        let accepts = |name: &str, value: &str| read(&[(name, value)]).is_ok();
        for (name, valid, invalid) in [
            ("STATE_TABLE", "a_b", "ab"),
            ("STATE_TABLE", "guard-state.2", "guard state"),
            ("STATE_TABLE", &"x".repeat(255), &"x".repeat(256)),
            ("RUNBOOK_URL", "https://x", "https://"),
            ("RUNBOOK_URL", "https://wiki.example.com/checks.md?v=1", "https://wiki.example.com/a b"),
            ("RUNBOOK_URL", "https://x/y", "http://x/y"),
            ("ALERT_TOPIC_ARN", "arn:aws:sns:eu-central-1:111122223333:a", "arn:aws:sns::111122223333:a"),
            ("ALERT_TOPIC_ARN", "arn:aws:sns:eu-central-1:111122223333:a", "arn:aws:sns:eu-central-1:1111:a"),
            ("ALERT_TOPIC_ARN", "arn:aws:sns:eu-central-1:111122223333:a", "arn:aws:sqs:eu-central-1:111122223333:a"),
            ("ALERT_AFTER", "1000", "1001"),
            ("REMIND_EVERY_HOURS", "8760", "8761"),
            ("EXPECT_TRAFFIC_EVERY", "168", "169"),
            ("DRIFT_SCHEDULE", "rate(1440 minutes)", "rate(1441 minutes)"),
            ("DRIFT_SCHEDULE", "rate(24 hours)", "rate(25 hours)"),
            ("DRIFT_SCHEDULE", "rate(1 hour)", "rate(0 hours)"),
        ] {
            assert!(accepts(name, valid), "{name}={valid}");
            assert!(!accepts(name, invalid), "{name}={invalid}");
        }
    }

    #[test]
    fn groups_are_followed_only_if_hostnames_are() {
        let group = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef";
        let followed = |mode: &str| {
            let policy = read(&[("FOLLOW_HOSTNAMES", mode), ("FOLLOW_TARGET_GROUPS", group)]).unwrap().policy;
            (policy.follow_hostnames, policy.follow_target_groups.len())
        };
        assert_eq!(followed(""), (FollowHostnames::Never, 0));
        assert_eq!(followed("never"), (FollowHostnames::Never, 0));
        assert_eq!(followed("register"), (FollowHostnames::Register, 1));
        assert_eq!(followed("replace"), (FollowHostnames::Replace, 1));
        assert!(problems(&[("FOLLOW_HOSTNAMES", "replace")]).contains("FOLLOW_TARGET_GROUPS: is missing or empty"));
    }

    #[test]
    fn valid_settings_are_read_as_written() {
        let with = |name: &str, value: &str| read(&[(name, value)]).unwrap();
        assert_eq!(with("STATE_TABLE", "guard-2").state_table, "guard-2");
        assert_eq!(with("RUNBOOK_URL", "https://x/y").runbook_url.as_deref(), Some("https://x/y"));
        assert_eq!(with("REMIND_EVERY_HOURS", "0").policy.remind_every, None);
        assert_eq!(with("REMIND_EVERY_HOURS", "7").policy.remind_every, Some(Duration::from_hours(7)));
        assert_eq!(with("EXPECT_TRAFFIC_EVERY", "0").policy.expect_traffic_every, None);
        let max_age = |schedule: &str| with("DRIFT_SCHEDULE", schedule).path_max_age().as_mins();
        assert_eq!(["rate(1 minute)", "rate(15 minutes)", "rate(2 hours)"].map(max_age), [2, 30, 240]);
    }

    #[test]
    fn an_account_is_dbts_or_known_but_not_both() {
        let accounts = read(&[("KNOWN_ACCOUNTS", "555555555555, 666666666666")]).unwrap().policy.known_accounts;
        assert_eq!(accounts.len(), 2);
        assert!(problems(&[("KNOWN_ACCOUNTS", "123456789012")]).contains("123456789012 is in DBT_PRINCIPALS"));
    }

    #[test]
    fn listener_ports_are_any_or_the_same_or_per_service() {
        let service: ServiceId = "vpce-svc-0123456789abcdef0".parse().unwrap();
        let ports = |text: &str| read(&[("LISTENER_PORTS", text)]).map(|settings| settings.policy.listener_ports);
        assert_eq!(ports(""), Ok(ListenerPorts::Any));
        assert_eq!(ports("5432+443"), Ok(ListenerPorts::Every(BTreeSet::from([443, 5432]))));
        assert_eq!(
            ports("vpce-svc-0123456789abcdef0=5432+443"),
            Ok(ListenerPorts::PerService([(service, BTreeSet::from([443, 5432]))].into()))
        );
        assert!(ports("vpce-svc-00000000000000000=22").is_err(), "a service that is not configured");
        assert!(ports("vpce-svc-0123456789abcdef0=1,vpce-svc-0123456789abcdef0=2").is_err(), "a service twice");
    }
}
