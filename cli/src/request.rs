//! `request`: the text for dbt Support.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use guard_core::check::Status;
use guard_core::snapshot::PrivateDns;

use crate::args::{DbtEnvironment, RequestArgs, is_host_name};
use crate::report::CheckReport;

/// What speaks against dbt's attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// What fails so that the attempt would fail, a line each.
    pub failing: Vec<String>,
    /// What is not known, a line each.
    pub unknown: Vec<String>,
}

impl Obstacles {
    /// Those in `report`.
    #[must_use]
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
}

/// What AWS knows of the service that dbt shall connect to.
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

/// The request, in the words of dbt's guide. What only the company knows is asked for in angle brackets.
/// <https://docs.getdbt.com/docs/cloud/secure/private-connectivity/aws/aws-self-hosted>
///
/// # Errors
/// If the service's private DNS name is no host name.
pub fn text(facts: &ServiceFacts<'_>, request: &RequestArgs) -> Result<String> {
    let private = facts.private_dns.map(|dns| dns.name.as_str());
    ensure!(private.is_none_or(is_host_name), "The service's private DNS name is no host name. Give --dns.");
    let dns = request.dns.as_deref().or(private);
    let platform = request.platform.clone().or_else(|| platform(facts.ports).map(ToOwned::to_owned));
    let platform = platform.as_deref().unwrap_or("<what it is: Postgres, GitLab, ...>");
    let environment = request.environment.map_or("<US, EMEA or AU>", DbtEnvironment::as_str);
    let mut text = String::from("Subject: New AWS Self-hosted PrivateLink Request\n\n");
    let _ =
        writeln!(text, "- Type: self-hosted service behind a Network Load Balancer\n- Platform or service: {platform}");
    let _ = writeln!(text, "- VPC endpoint service name: {}", facts.service_name);
    if let Some(dns) = dns {
        let _ = writeln!(text, "- Custom DNS record for HTTPS/TLS: {dns}");
    }
    let _ = writeln!(text, "- Region of the service: {}\n- dbt environment: {environment}", facts.region);
    Ok(text)
}

/// What usually listens on these ports, if they say so.
fn platform(ports: &[u16]) -> Option<&'static str> {
    match ports {
        [5432] => Some("Postgres"),
        [5439] => Some("Redshift"),
        [3306] => Some("MySQL"),
        [1433] => Some("SQL Server"),
        _ => None,
    }
}

impl DbtEnvironment {
    /// As dbt's form has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Us => "US",
            Self::Emea => "EMEA",
            Self::Au => "AU",
        }
    }
}

/// The name that dbt's endpoint needs.
///
/// # Errors
/// If EC2 did not give it.
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
