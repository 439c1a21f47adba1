//! `request`: the text of a request to dbt Support.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use guard_core::admission::takes_room;
use guard_core::check::Status;
use guard_core::config::Policy;
use guard_core::connections::Room;
use guard_core::ids::ServiceId;
use guard_core::snapshot::{Certificate, Connection, PrivateDns, Topology};
use guard_core::text::count;

use crate::args::{DbtEnvironment, RequestArgs, is_host_name};
use crate::report::CheckReport;

/// Reasons why dbt's attempt may fail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// Failures that would make the attempt fail, one per line.
    pub failing: Vec<String>,
    /// Unknown results, one per line.
    pub unknown: Vec<String>,
}

impl Obstacles {
    /// The obstacles in `report`.
    pub fn of(report: &CheckReport) -> Self {
        let mut obstacles = Self::default();
        for result in report.results().filter(|result| result.check.can_stop_dbt) {
            let check = result.check.id;
            match &result.status {
                Status::Fail(finding) if finding.stops_dbt => {
                    obstacles.failing.push(format!("{check}: {}", finding.summary));
                }
                Status::Unknown(why) => obstacles.unknown.push(format!("{check}: unknown: {why}")),
                Status::Fail(_) | Status::Pass(_) | Status::NotAsked => {}
            }
        }
        obstacles
    }

    /// Adds other obstacles.
    pub fn extend(&mut self, others: Self) {
        self.failing.extend(others.failing);
        self.unknown.extend(others.unknown);
    }
}

/// The obstacles to TLS connections to `name`: a TLS listener on one of dbt's `ports` whose certificates do not cover
/// it.
pub fn uncovered(name: &str, ports: &BTreeSet<u16>, topology: &Topology) -> Obstacles {
    let mut obstacles = Obstacles::default();
    for load_balancer in topology.load_balancers.values() {
        let listeners = load_balancer.listeners.iter().flatten();
        for listener in listeners.filter(|listener| listener.serves(ports) && listener.certificate.is_some()) {
            let place = format!("{}:{}", load_balancer.name(), listener.port);
            let arns: Vec<&str> = listener.certificates().collect();
            let read: Vec<&Certificate> =
                arns.iter().filter_map(|arn| topology.certificates.get(*arn)?.as_ref().ok()).collect();
            let all_are_read = read.len() == arns.len() && matches!(listener.certificates_by_name, Some(Ok(_)));
            match (read.iter().any(|certificate| certificate.covers(name)), all_are_read) {
                (true, _) => {}
                (false, true) => {
                    obstacles.failing.push(format!("listener.certificate: no certificate of {place} covers {name}"));
                }
                (false, false) => obstacles
                    .unknown
                    .push(format!("listener.certificate: unknown: not every certificate of {place} can be read")),
            }
        }
    }
    obstacles
}

/// A note that the guard will hold the endpoint that dbt creates, if it will.
pub fn held_later(policy: &Policy, service: &ServiceId, topology: &Topology) -> Option<String> {
    let connections = topology.connections.iter().flatten().flatten();
    let is_in = |connection: &&Connection| connection.service == *service && takes_room(connection, policy);
    let connected = connections.filter(is_in).count();
    match Room::new(policy, service) {
        Room::AtMost(limit) if connected >= limit => Some(format!(
            "{} connected, and MaxDbtEndpoints allows {limit}: the guard will hold the new one and ask you. If dbt \
             needs both: make deploy SET=\"MaxDbtEndpoints={}\"",
            count(connected, "dbt endpoint"),
            connected + 1
        )),
        Room::Exactly(_) => Some(
            "ExpectedEndpoints names the endpoints of this service: the guard will hold the new one until you add its id, which \
             dbt Support tells you."
                .to_owned(),
        ),
        Room::Any | Room::AtMost(_) => None,
    }
}

/// AWS's facts about the service that dbt is to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts<'a> {
    /// `com.amazonaws.vpce.REGION.vpce-svc-…`
    pub service_name: &'a str,
    /// Its Region.
    pub region: &'a str,
    /// Its private DNS name.
    pub private_dns: Option<&'a PrivateDns>,
    /// The ports of its listeners.
    pub ports: &'a [u16],
}

/// The request: the filled-in template of dbt's guide. Angle brackets ask for facts that only the company has.
/// <https://docs.getdbt.com/docs/platform/secure/private-connectivity/aws/aws-self-hosted>
///
/// # Errors
/// If the service's private DNS name is no host name.
pub fn text(facts: &ServiceFacts<'_>, request: &RequestArgs) -> Result<String> {
    let private = facts.private_dns.map(|dns| dns.name.as_str());
    ensure!(private.is_none_or(is_host_name), "The service's private DNS name is no host name. Give --dns.");
    let dns = request.dns.as_deref().or(private);
    let platform = request.platform.as_deref().unwrap_or_else(|| platform(facts.ports));
    let account = request.account_url.as_ref();
    let url = account.map_or("<the address of your dbt account>", |account| &account.url);
    let environment = request.environment.or(account.and_then(|account| account.environment));
    let environment = environment.map_or("<US, EMEA, AU or JP>", DbtEnvironment::as_str);
    let dns = dns.map_or_else(|| " none".to_owned(), |dns| format!("\n  - DNS record: {dns}"));
    let ServiceFacts { service_name, region, .. } = facts;
    Ok(format!(
        "Subject: New AWS Self-hosted PrivateLink Request\n\n\
         - Type: Self-hosted PrivateLink\n\
         - Platform/Service: {platform}\n\
         - dbt platform account URL: {url}\n\
         - VPC Endpoint Service Name: {service_name}\n\
         - Custom DNS (if HTTPS/TLS):{dns}\n\
         - Service Region: {region}\n\
         - dbt AWS environment: {environment}\n"
    ))
}

/// The usual platform for these ports, or a question if the ports do not tell.
fn platform(ports: &[u16]) -> &'static str {
    let ports: BTreeSet<u16> = ports.iter().copied().collect();
    match ports.into_iter().collect::<Vec<_>>()[..] {
        [1025] => "Teradata",
        [1433] => "SQL Server",
        [3306] => "MySQL",
        [5432] => "Postgres",
        [5439] => "Redshift",
        [8443] | [443, 8443] => "<Starburst or Trino>",
        [22] | [22, 443] => "<Git server: GitLab, GitHub Enterprise, ...>",
        _ => "<what it is: Postgres, GitLab, ...>",
    }
}

impl DbtEnvironment {
    /// The environment's name in dbt's form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Us => "US",
            Self::Emea => "EMEA",
            Self::Au => "AU",
            Self::Jp => "JP",
        }
    }
}

/// The service name that dbt's endpoint needs.
pub fn service_name(report: &CheckReport) -> Result<&str> {
    let service = report.services.first().context("There is no endpoint service.")?;
    service.service_name.as_deref().with_context(|| {
        let why = service.results.iter().find_map(|result| match &result.status {
            Status::Unknown(why) => Some(why.as_str()),
            _ => None,
        });
        format!("EC2 did not give the service's name: {}", why.unwrap_or("no reason is known"))
    })
}
