//! Load balancers, their listeners, target groups and targets.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::{Observed, known};
use crate::ids::Arn;

/// A load balancer behind an endpoint service, and what this run saw of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Its ARN.
    pub arn: Arn,
    /// What ELB says it is.
    pub description: Observed<Description>,
    /// Its listeners.
    pub listeners: Observed<Vec<Listener>>,
    /// The target groups that dbt's connections reach: those that a listener for TCP forwards to.
    pub target_groups: Observed<Vec<TargetGroup>>,
    /// Its own attribute `load_balancing.cross_zone.enabled`; not read in every run.
    pub cross_zone: Option<Observed<bool>>,
}

/// In which zones of a load balancer a target group has a healthy target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage<'a> {
    /// In each.
    Full,
    /// Not in these.
    Lacks(Vec<&'a str>),
    /// A read failed, none is healthy in any zone, or it is not known in which zones those are that are.
    Unclear,
}

/// How ELB describes the network interfaces of `load_balancer`: `ELB net/NAME/ID`.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html>
#[must_use]
pub fn interface_description(load_balancer: &Arn) -> String {
    format!("ELB {}", load_balancer.resource().trim_start_matches("loadbalancer/"))
}

/// What ELB says a load balancer is.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancer.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// `network`, `application` or `gateway`, as ELB wrote it.
    pub kind: String,
    /// `internal` or `internet-facing`, as ELB wrote it.
    pub scheme: String,
    /// `active`, `provisioning`, `active_impaired` or `failed`, as ELB wrote it.
    pub state: String,
    /// Its VPC.
    pub vpc: String,
    /// The zones it is enabled in, each with its subnet.
    pub zones: Vec<Zone>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// Whether inbound rules hold for what comes through PrivateLink. `None` without security groups.
    pub enforced: Option<bool>,
}

/// A zone that a load balancer is enabled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// `eu-central-1a`, …
    pub name: String,
    /// The subnet of the load balancer's node.
    pub subnet: String,
}

/// A listener of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its port.
    pub port: u16,
    /// `TCP`, `TLS`, `TCP_UDP`, `UDP`, …, as ELB wrote it.
    pub protocol: String,
    /// The target groups it forwards to with a weight above zero.
    pub forwards_to: Vec<Arn>,
}

impl Listener {
    /// Whether dbt's connections, which are TCP, are taken and passed on.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-listeners.html>
    #[must_use]
    pub fn serves(&self) -> bool {
        ["TCP", "TLS", "TCP_UDP", "TCP_QUIC"].contains(&self.protocol.as_str()) && !self.forwards_to.is_empty()
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.port)
    }
}

impl LoadBalancer {
    /// The name, which its ARN carries: `loadbalancer/net/NAME/ID`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.arn.resource().split('/').nth(2).unwrap_or_else(|| self.arn.resource())
    }

    /// The target groups that a listener for TCP forwards to, each once.
    #[must_use]
    pub fn forwards_to(&self) -> BTreeSet<Arn> {
        let serving = self.listeners.iter().flatten().filter(|listener| listener.serves());
        serving.flat_map(|listener| listener.forwards_to.iter().cloned()).collect()
    }

    /// Whether its nodes send to targets of `group` in all zones; a group that overrides the load balancer decides alone.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-cross-zone.html>
    ///
    /// # Errors
    /// In words, if an attribute that decides is not known.
    pub fn crosses_zones(&self, group: &TargetGroup) -> Result<bool, String> {
        match known(group.cross_zone.as_ref())? {
            CrossZoneOverride::On => Ok(true),
            CrossZoneOverride::Off => Ok(false),
            CrossZoneOverride::LoadBalancer => known(self.cross_zone.as_ref()).copied(),
        }
    }

    /// In which of the zones it is enabled in a target of `group` is healthy.
    #[must_use]
    pub fn coverage(&self, group: &TargetGroup) -> Coverage<'_> {
        let (Ok(description), Ok(targets)) = (&self.description, &group.targets) else { return Coverage::Unclear };
        let healthy = || targets.iter().filter(|target| target.health == Health::Healthy);
        // Nodes in every zone send to targets outside the VPC.
        if healthy().any(|target| target.zone.as_deref() == Some("all")) {
            return Coverage::Full;
        }
        if healthy().next().is_none() || healthy().any(|target| target.zone.is_none()) {
            return Coverage::Unclear;
        }
        let has_one = |zone: &&str| healthy().any(|target| target.zone.as_deref() == Some(*zone));
        let lacking: Vec<&str> =
            description.zones.iter().map(|zone| zone.name.as_str()).filter(|zone| !has_one(zone)).collect();
        if lacking.is_empty() { Coverage::Full } else { Coverage::Lacks(lacking) }
    }
}

/// A target group that a listener forwards to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// Its ARN.
    pub arn: Arn,
    /// What its targets are.
    pub kind: TargetKind,
    /// Whether its targets are checked at all, and where: `TCP on traffic-port`.
    pub health_check: Option<String>,
    /// Its targets with their health.
    pub targets: Observed<Vec<Target>>,
    /// Its attribute `load_balancing.cross_zone.enabled`; not read in every run.
    pub cross_zone: Option<Observed<CrossZoneOverride>>,
}

/// What the targets of a group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// EC2 instances.
    Instance,
    /// IP addresses.
    Ip,
    /// An Application Load Balancer.
    LoadBalancer,
    /// A kind this tool does not know.
    Other,
}

impl TargetGroup {
    /// The name, which its ARN carries: `targetgroup/NAME/ID`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.arn.resource().split('/').nth(1).unwrap_or_else(|| self.arn.resource())
    }
}

/// A target group's say in cross-zone load balancing.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-cross-zone.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossZoneOverride {
    /// `true`, whatever the load balancer says.
    On,
    /// `false`, whatever the load balancer says.
    Off,
    /// `use_load_balancer_configuration`, the default.
    LoadBalancer,
}

/// A registered target and its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Instance id, IP address, or load balancer ARN.
    pub id: String,
    /// The port it is registered with.
    pub port: Option<u16>,
    /// The zone: ELB says it of IP targets, with `all` for addresses outside the VPC; of instances, EC2 does.
    pub zone: Option<String>,
    /// Its private address; an Application Load Balancer has none of its own.
    pub address: Option<IpAddr>,
    /// An instance's subnet.
    pub subnet: Option<String>,
    /// The health ELB reports.
    pub health: Health,
    /// The reason code, e.g. `Target.FailedHealthChecks`.
    pub reason: Option<String>,
    /// The reason in ELB's words.
    pub description: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match &self.zone {
            Some(zone) => write!(f, " ({zone})"),
            None => Ok(()),
        }
    }
}

/// The health of a target.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Takes traffic.
    Healthy,
    /// Fails its health checks.
    Unhealthy,
    /// Fails its health checks, and its connections are being drained.
    UnhealthyDraining,
    /// Being registered, or in its first health checks.
    Initial,
    /// Being deregistered.
    Draining,
    /// Not in use: no listener forwards to its group, or its zone is not enabled.
    Unused,
    /// Health checks are off.
    Unavailable,
    /// A state this tool does not know, or none.
    Other(String),
}

impl Health {
    /// Reads what ELB wrote.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "healthy" => Self::Healthy,
            "unhealthy" => Self::Unhealthy,
            "unhealthy.draining" => Self::UnhealthyDraining,
            "initial" => Self::Initial,
            "draining" => Self::Draining,
            "unused" => Self::Unused,
            "unavailable" => Self::Unavailable,
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::UnhealthyDraining => "unhealthy.draining",
            Self::Initial => "initial",
            Self::Draining => "draining",
            Self::Unused => "unused",
            Self::Unavailable => "unavailable",
            Self::Other(text) => text,
        })
    }
}
