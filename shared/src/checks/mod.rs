//! The checks: what must be true for dbt to get through. Pure: a snapshot in, observations out.

pub mod connections;
pub mod cross_zone;
pub mod principals;
pub mod service;
pub mod target_health;
pub mod visibility;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Arn, ServiceId};
use crate::snapshot::{LoadBalancer, Seen, TargetGroup, Unseen};
use crate::trigger::Change;

/// The catalogue. Ids are stable: people write filters and runbooks against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The endpoint service is gone, or not available.
    ServiceAvailable,
    /// The allowed principals are not exactly dbt's.
    ServicePrincipals,
    /// An endpoint of an account that is not dbt's asks or is connected.
    ConnectionStranger,
    /// dbt's own connection is rejected, failed, expired, stuck, or could not be accepted.
    ConnectionDbt,
    /// A target group that dbt's traffic reaches has targets that do not serve.
    TargetGroupHealth,
    /// Cross-zone load balancing is off, in effect, for a target group that dbt's traffic reaches.
    LoadBalancerCrossZone,
    /// A read that checks depend on fails.
    VisibilityLost,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 7] = [
        Self::ServiceAvailable,
        Self::ServicePrincipals,
        Self::ConnectionStranger,
        Self::ConnectionDbt,
        Self::TargetGroupHealth,
        Self::LoadBalancerCrossZone,
        Self::VisibilityLost,
    ];

    /// The stable id.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::ServiceAvailable => "service.available",
            Self::ServicePrincipals => "service.principals",
            Self::ConnectionStranger => "connection.stranger",
            Self::ConnectionDbt => "connection.dbt",
            Self::TargetGroupHealth => "target-group.health",
            Self::LoadBalancerCrossZone => "load-balancer.cross-zone",
            Self::VisibilityLost => "visibility.lost",
        }
    }

    /// Whether what it looks at comes and goes by itself, so that one look proves little: such alerts wait for
    /// `ALERT_AFTER` and `RESOLVE_AFTER`. The others report settings and states that somebody changed; they fire and
    /// resolve at the first look.
    #[must_use]
    pub fn wavers(self) -> bool {
        matches!(self, Self::TargetGroupHealth | Self::VisibilityLost)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// How bad it is for dbt. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will hurt, or hurts a little.
    Warning,
    /// dbt cannot connect, or somebody else can.
    Critical,
}

impl Severity {
    /// The lower-case word, as in message attributes.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One check's result for one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Which check.
    pub check: Check,
    /// The resource it looked at: an ARN or an id. With [`Status::Unknown`], the endpoint service's id where the
    /// resources themselves could not be listed.
    pub resource: String,
    /// The result.
    pub status: Status,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// As it must be.
    Pass,
    /// Not as it must be.
    Fail(Box<Finding>),
    /// It could not be told, and why. Never the same as [`Status::Pass`].
    Unknown(String),
}

/// What is wrong, in the reader's words. Kept in the table, so that an alert can be told again by a later run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// One line with the numbers in it.
    pub summary: String,
    /// What it means for dbt.
    pub meaning: String,
    /// What was seen, a line each.
    pub evidence: Vec<String>,
    /// What to do about it.
    pub remedy: Remedy,
    /// The change in AWS that brought it about, where CloudTrail told of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Change>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// In a sentence or two.
    pub what: String,
    /// The exact AWS CLI command, if one does it or shows more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Where to look in the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
}

/// The Region and partition that commands and console links are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    partition: String,
    region: String,
    console: Option<&'static str>,
}

impl Place {
    /// The place a resource's ARN names.
    #[must_use]
    pub fn of(arn: &Arn) -> Self {
        // https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html, "Management Console" per partition
        let console = match arn.partition() {
            "aws" => Some("console.aws.amazon.com"),
            "aws-cn" => Some("console.amazonaws.cn"),
            "aws-us-gov" => Some("console.amazonaws-us-gov.com"),
            _ => None,
        };
        Self { partition: arn.partition().to_owned(), region: arn.region().to_owned(), console }
    }

    /// `aws`, `aws-cn`, `aws-us-gov`, …
    #[must_use]
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The Region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The endpoint service in the VPC console.
    #[must_use]
    pub fn endpoint_service(&self, id: &str) -> Option<String> {
        self.link("vpcconsole", &format!("EndpointServices:search={id}"))
    }

    /// The target group in the EC2 console.
    #[must_use]
    pub fn target_group(&self, arn: &Arn) -> Option<String> {
        self.link("ec2", &format!("TargetGroup:targetGroupArn={arn}"))
    }

    /// The load balancer in the EC2 console.
    #[must_use]
    pub fn load_balancer(&self, arn: &Arn) -> Option<String> {
        self.link("ec2", &format!("LoadBalancer:loadBalancerArn={arn}"))
    }

    fn link(&self, console: &str, fragment: &str) -> Option<String> {
        let region = &self.region;
        self.console.map(|domain| format!("https://{region}.{domain}/{console}/home?region={region}#{fragment}"))
    }
}

/// One observation of `check` per target group behind `service`; [`Status::Unknown`] for the service where they could not
/// be listed.
fn per_target_group(
    check: Check,
    service: &ServiceId,
    load_balancers: &Seen<Vec<LoadBalancer>>,
    judge: impl Fn(&LoadBalancer, &TargetGroup) -> Status,
) -> Vec<Observation> {
    let blind = |unseen: &Unseen| Observation {
        check,
        resource: service.to_string(),
        status: Status::Unknown(unseen.to_string()),
    };
    let load_balancers = match load_balancers {
        Ok(load_balancers) => load_balancers,
        Err(unseen) => return vec![blind(unseen)],
    };
    let mut observations = Vec::new();
    for load_balancer in load_balancers {
        match &load_balancer.target_groups {
            Err(unseen) => observations.push(blind(unseen)),
            Ok(groups) => observations.extend(groups.iter().map(|group| Observation {
                check,
                resource: group.arn.to_string(),
                status: judge(load_balancer, group),
            })),
        }
    }
    observations
}

/// `1 target`, `2 targets`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// At most `most` lines, and how many more there are.
pub(crate) fn some_of(mut lines: Vec<String>, most: usize) -> Vec<String> {
    if lines.len() > most {
        let more = lines.len() - most;
        lines.truncate(most);
        lines.push(format!("and {more} more"));
    }
    lines
}
