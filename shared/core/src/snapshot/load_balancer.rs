//! Load balancers, their listeners, target groups and targets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{CallError, ErrorKind, Hostname, Interface, Observed, Unread, known};
use crate::ids::Arn;

/// A load balancer behind an endpoint service, as read in this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    pub arn: Arn,
    pub description: Observed<Description>,
    pub listeners: Observed<Vec<Listener>>,
    /// The known target groups on dbt's path: see [`LoadBalancer::forwards_to`].
    pub target_groups: Observed<Vec<TargetGroup>>,
    /// Its own attribute `load_balancing.cross_zone.enabled`; not read in every run.
    pub cross_zone: Option<Observed<bool>>,
}

/// The zones of a load balancer that have a healthy target of a target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage<'a> {
    /// All zones.
    Full,
    /// All zones except these.
    Lacks(Vec<&'a str>),
    /// Unknown: a read failed, no target is healthy in any zone, or the zone of a healthy target is unknown.
    Unclear,
}

/// The description that ELB gives the network interfaces of `load_balancer`: `ELB net/NAME/ID`.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html>
pub fn interface_description(load_balancer: &Arn) -> String {
    format!("ELB {}", load_balancer.resource().trim_start_matches("loadbalancer/"))
}

/// ELB's description of a load balancer.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancer.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `network`, `application` or `gateway`, as ELB wrote it.
    pub kind: String,
    /// `internal` or `internet-facing`, as ELB wrote it.
    pub scheme: String,
    /// `active`, `provisioning`, `active_impaired` or `failed`, as ELB wrote it.
    pub state: String,
    pub vpc: String,
    pub zones: Vec<Zone>,
    pub security_groups: Vec<String>,
    /// Whether inbound rules are enforced on PrivateLink traffic. `None` without security groups.
    pub enforced: Option<bool>,
    /// Whether it also takes IPv6 connections. Only then can its listeners have rules.
    pub dual_stack: bool,
}

/// A zone in which a load balancer is enabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// `eu-central-1a`, …
    pub name: String,
    /// The subnet of the load balancer's node.
    pub subnet: String,
}

/// A listener of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub arn: String,
    pub port: u16,
    /// `TCP`, `TLS`, `TCP_UDP`, `UDP`, …, as ELB wrote it.
    pub protocol: String,
    /// The target groups with a weight above zero to which it forwards IPv4 connections, which dbt uses.
    pub forwards_to: Observed<Vec<Arn>>,
    /// The mode of its client certificate authentication, as ELB wrote it: `off`, `verify`, …. `None` is off.
    pub mutual_authentication: Option<String>,
    /// The ARN of its default certificate, if it has one.
    pub certificate: Option<String>,
    /// The ARNs of further certificates, which it selects by the name that a client asks for (SNI); not read in every
    /// run.
    #[serde(default, skip_serializing_if = "is_unread")]
    pub certificates_by_name: Option<Observed<Vec<String>>>,
    /// The seconds after which it closes an idle connection, if it has the setting: see [`Listener::has_idle_timeout`];
    /// not read in every run.
    #[serde(default, skip_serializing_if = "is_unread")]
    pub idle_timeout: Option<Observed<Option<u32>>>,
}

/// Whether a detail could not be read: the next run reads it, and the rest of the path is stored anyway.
// The signature is serde's.
#[allow(clippy::ref_option)]
fn is_unread<T>(detail: &Option<Observed<T>>) -> bool {
    !matches!(detail, Some(Ok(_)))
}

impl Listener {
    /// Whether it is on dbt's path: it takes TCP connections, which dbt uses, on one of dbt's `ports`, or on any port
    /// if `ports` is empty.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-listeners.html>
    pub fn is_on(&self, ports: &BTreeSet<u16>) -> bool {
        ["TCP", "TLS", "TCP_UDP", "TCP_QUIC"].contains(&self.protocol.as_str())
            && (ports.is_empty() || ports.contains(&self.port))
    }

    /// Whether it is on dbt's path and forwards connections, or may do so.
    pub fn serves(&self, ports: &BTreeSet<u16>) -> bool {
        self.is_on(ports) && !self.forwards_to.as_ref().is_ok_and(Vec::is_empty)
    }

    /// Whether its idle timeout is configurable. A TLS listener has a fixed one.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/update-idle-timeout.html>
    pub fn has_idle_timeout(&self) -> bool {
        self.protocol == "TCP"
    }

    /// The ARNs of its certificates that were read, the default one first.
    pub fn certificates(&self) -> impl Iterator<Item = &str> {
        let default = self.certificate.as_deref();
        let by_name = self.certificates_by_name.iter().flatten().flatten().map(String::as_str);
        default.into_iter().chain(by_name.filter(move |arn| Some(*arn) != default))
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.port)
    }
}

impl LoadBalancer {
    /// The name, from its ARN: `loadbalancer/net/NAME/ID`.
    pub fn name(&self) -> &str {
        self.arn.name()
    }

    /// The known target groups on dbt's path, which its `ports` reach, each once.
    pub fn forwards_to(&self, ports: &BTreeSet<u16>) -> BTreeSet<Arn> {
        let listeners = self.listeners.iter().flatten().filter(|listener| listener.is_on(ports));
        listeners.flat_map(|listener| listener.forwards_to.iter().flatten().cloned()).collect()
    }

    /// The target groups on dbt's path that were read.
    pub fn groups_on<'a>(&'a self, ports: &BTreeSet<u16>) -> impl Iterator<Item = &'a TargetGroup> {
        let on_path = self.forwards_to(ports);
        self.target_groups.iter().flatten().filter(move |group| on_path.contains(&group.arn))
    }

    /// The reason why some target groups on dbt's path are unknown, if there are any.
    pub fn unlisted(&self, ports: &BTreeSet<u16>) -> Option<&CallError> {
        let mut listeners = self.listeners.iter().flatten().filter(|listener| listener.is_on(ports));
        let by_rules = listeners.find_map(|listener| listener.forwards_to.as_ref().err());
        self.listeners.as_ref().err().or(self.target_groups.as_ref().err()).or(by_rules)
    }

    /// The target groups that only listeners outside dbt's path forward to.
    pub fn off_path(&self, ports: &BTreeSet<u16>) -> BTreeSet<Arn> {
        let all = self.listeners.iter().flatten().flat_map(|listener| listener.forwards_to.iter().flatten().cloned());
        &all.collect::<BTreeSet<Arn>>() - &self.forwards_to(ports)
    }

    /// Whether the time for reading ended before all of it was read, including its attributes if `with_attributes`.
    pub(super) fn is_unfinished(&self, with_attributes: bool) -> bool {
        let groups = || self.target_groups.iter().flatten();
        given_up(&self.listeners)
            || self.listeners.iter().flatten().any(|listener| given_up(&listener.forwards_to))
            || given_up(&self.target_groups)
            || groups().any(|group| given_up(&group.targets))
            || (with_attributes
                && (self.cross_zone.as_ref().is_some_and(given_up)
                    || groups().any(|group| group.attributes.as_ref().is_some_and(given_up))))
    }

    /// Whether cross-zone load balancing is on for `group`. The group's setting overrides the load balancer's.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-cross-zone.html>
    ///
    /// # Errors
    /// The reason why it is unknown: a decisive attribute was not read.
    pub fn crosses_zones(&self, group: &TargetGroup) -> Result<bool, Unread> {
        match known(group.attributes.as_ref())?.cross_zone {
            CrossZoneOverride::On => Ok(true),
            CrossZoneOverride::Off => Ok(false),
            CrossZoneOverride::LoadBalancer => known(self.cross_zone.as_ref()).copied(),
        }
    }

    /// Whether the node sends connections to the target. Without cross-zone load balancing, it sends only to its own
    /// zone; if the setting is unknown, it may send to all zones.
    pub fn node_sends_to(&self, group: &TargetGroup, node: &Interface, target: &Target) -> bool {
        let mut zones = self.description.iter().flat_map(|description| &description.zones);
        let node_zone = zones.find(|zone| zone.subnet == node.subnet).map(|zone| zone.name.as_str());
        match (self.crosses_zones(group), node_zone, target.zone.as_deref()) {
            (Ok(false), Some(node_zone), Some(zone)) => zone == "all" || zone == node_zone,
            _ => true,
        }
    }

    /// The zones of the load balancer that have a healthy target of `group`.
    pub fn coverage(&self, group: &TargetGroup) -> Coverage<'_> {
        let (Ok(description), Ok(targets)) = (&self.description, &group.targets) else { return Coverage::Unclear };
        let healthy = || targets.iter().filter(|target| target.is_healthy());
        // A target in `all` is outside the VPC, and the nodes of every zone use it.
        if healthy().any(|target| target.zone.as_deref() == Some("all")) {
            return Coverage::Full;
        }
        if healthy().next().is_none() || healthy().any(|target| target.zone.is_none()) {
            return Coverage::Unclear;
        }
        let is_in = |target: &Target, zone: &str| target.zone.as_deref() == Some(zone);
        // A zonal shift leaves its zone on purpose.
        let is_left = |zone: &str| targets.iter().any(|target| target.is_shifted_away && is_in(target, zone));
        let zones = description.zones.iter().map(|zone| zone.name.as_str());
        let lacking: Vec<&str> =
            zones.filter(|zone| !is_left(zone) && !healthy().any(|target| is_in(target, zone))).collect();
        if lacking.is_empty() { Coverage::Full } else { Coverage::Lacks(lacking) }
    }
}

fn given_up<T>(read: &Observed<T>) -> bool {
    read.as_ref().is_err_and(|error| error.kind == ErrorKind::GivenUp)
}

/// A target group that a listener forwards to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGroup {
    pub arn: Arn,
    pub kind: TargetKind,
    pub vpc: Option<String>,
    /// The health check of its targets: `TCP on traffic-port`, or `off`.
    pub health_check: Option<String>,
    /// The port of the health checks, if it is not the target's own.
    pub health_check_port: Option<u16>,
    /// The status codes that pass the health checks, as `200` or `200-399,418`; `None` if it is not over HTTP.
    pub health_check_codes: Option<String>,
    /// The seconds between health checks, and the number of failures that make a target unhealthy.
    pub health_check_timing: Option<(u32, u32)>,
    pub is_ipv6: bool,
    /// The hostname behind its addresses, if it has the tag; not read in every run.
    pub hostname: Option<Observed<Option<Hostname>>>,
    /// Its tags for the guard, such as [`MIN_HEALTHY_TAG`], as written.
    pub own_tags: Observed<BTreeMap<String, String>>,
    pub targets: Observed<Vec<Target>>,
    /// Its attributes; not read in every run.
    pub attributes: Option<Observed<TargetGroupAttributes>>,
}

/// The tag of a target group with the sufficient number of healthy targets, if the others are standbys.
pub const MIN_HEALTHY_TAG: &str = "privatelink-guard:min-healthy";

/// The tag of a target group whose targets parse Proxy Protocol's header; its value is `expected`.
pub const PROXY_PROTOCOL_TAG: &str = "privatelink-guard:proxy-protocol";

/// The kind of a group's targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetKind {
    Instance,
    Ip,
    LoadBalancer,
    Other,
}

impl TargetGroup {
    /// The ports that must be open on a target: its own, and the health check's.
    pub fn ports_of(&self, target: &Target) -> BTreeSet<u16> {
        target.port.into_iter().chain(self.health_check_port).collect()
    }

    /// The name, from its ARN: `targetgroup/NAME/ID`.
    pub fn name(&self) -> &str {
        self.arn.name()
    }
}

/// A target group's setting for cross-zone load balancing.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-cross-zone.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CrossZoneOverride {
    /// `true`: on, regardless of the load balancer.
    On,
    /// `false`: off, regardless of the load balancer.
    Off,
    /// `use_load_balancer_configuration`, the default: as the load balancer.
    LoadBalancer,
}

/// The attributes of a target group that checks read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGroupAttributes {
    /// `load_balancing.cross_zone.enabled`.
    pub cross_zone: CrossZoneOverride,
    /// The attributes that, by being off, keep connections to a failed or deregistered target open.
    pub keeps_connections: Vec<String>,
    /// `target_group_health.unhealthy_state_routing.minimum_healthy_targets`.
    pub routing_threshold: RoutingThreshold,
    /// `proxy_protocol_v2.enabled`.
    pub proxy_protocol: bool,
}

/// The minimum of healthy targets. Below it, the load balancer sends new connections to all registered targets,
/// including failing ones. It applies to each zone without cross-zone load balancing, and to all zones together with
/// it.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-target-groups.html#target-group-health>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingThreshold {
    /// The minimum number of healthy targets: 1 by default.
    pub count: usize,
    /// The minimum percentage of healthy targets; `None`, the default, for off.
    pub percentage: Option<usize>,
}

impl RoutingThreshold {
    /// AWS's default.
    pub const DEFAULT: Self = Self { count: 1, percentage: None };

    /// Whether so few of the registered targets are healthy that the failing ones get connections as well. Either
    /// threshold is enough.
    pub fn is_breached(self, healthy: usize, registered: usize) -> bool {
        healthy < self.count || self.percentage.is_some_and(|least| healthy * 100 < least * registered)
    }
}

/// A registered target and its health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Instance id, IP address, or load balancer ARN.
    pub id: String,
    /// The port it is registered with.
    pub port: Option<u16>,
    /// The zone. For an IP target it is ELB's, with `all` for addresses outside the VPC; for an instance, EC2's.
    pub zone: Option<String>,
    /// Its private address; `None` for an Application Load Balancer.
    pub address: Option<IpAddr>,
    pub subnet: Option<String>,
    /// The security groups of its network interface; `None` if EC2 does not show the interface.
    pub security_groups: Option<Vec<String>>,
    /// The ids, `eni-…`, of its network interfaces that EC2 shows and, for an address, of the instance that has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Whether it is an instance that EC2 no longer shows, or shows as terminated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_terminated: bool,
    pub health: Health,
    /// Whether a zonal shift keeps new connections from it, whatever its health.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/zonal-shift.html#admin-override>
    pub is_shifted_away: bool,
    /// The reason code, e.g. `Target.FailedHealthChecks`.
    pub reason: Option<String>,
    pub description: Option<String>,
}

impl Target {
    /// Whether it passes its health checks and gets new connections.
    pub fn is_healthy(&self) -> bool {
        self.health == Health::Healthy && !self.is_shifted_away
    }

    /// Whether it no longer gets connections, so that nothing has to reach it: it is being deregistered, or ELB does
    /// not use it because its instance is gone.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html>
    pub fn is_being_removed(&self) -> bool {
        self.health == Health::Draining || (self.health == Health::Unused && self.is_terminated)
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    Healthy,
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
    /// An unknown state, or none.
    Other(String),
}

impl Health {
    /// Parses a state as ELB writes it.
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

impl Health {
    /// Whether the target fails its health checks.
    pub fn is_failing(&self) -> bool {
        matches!(self, Self::Unhealthy | Self::UnhealthyDraining)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{call_error, group_attributes, interface, listener, load_balancer, target, target_group};

    #[test]
    fn a_load_balancer_forwards_to_the_groups_of_tcp_listeners() {
        let groups = [target_group("pg"), target_group("dns")];
        let mut balancer = load_balancer("pg", groups.to_vec());
        balancer.listeners = Ok(vec![listener("TCP", 5432, &groups[0]), listener("UDP", 53, &groups[1])]);
        assert_eq!(balancer.forwards_to(&BTreeSet::new()), BTreeSet::from([groups[0].arn.clone()]));
    }

    #[test]
    fn a_group_is_on_dbts_path_if_one_of_dbts_ports_reaches_it() {
        let groups = [target_group("pg"), target_group("admin")];
        let mut balancer = load_balancer("pg", groups.to_vec());
        let listeners = [(5432, 0), (8080, 1), (8081, 0)].map(|(port, group)| listener("TCP", port, &groups[group]));
        balancer.listeners = Ok(listeners.to_vec());
        let ports = BTreeSet::from([5432]);
        let names =
            |groups: BTreeSet<Arn>| groups.iter().map(|arn| arn.resource()[12..14].to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (names(balancer.forwards_to(&ports)), names(balancer.off_path(&ports))),
            (vec!["pg".to_owned()], vec!["ad".to_owned()])
        );
        assert_eq!(balancer.groups_on(&ports).count(), 1);
        let denied = call_error("elasticloadbalancing:DescribeRules");
        balancer.listeners.as_mut().unwrap()[1].forwards_to = Err(denied.clone());
        assert_eq!(balancer.unlisted(&ports), None, "it is not on the path");
        assert_eq!(balancer.unlisted(&BTreeSet::new()), Some(&denied));
    }

    #[test]
    fn either_routing_threshold_can_be_breached() {
        let breached = |count, percentage, healthy| RoutingThreshold { count, percentage }.is_breached(healthy, 4);
        assert!(!breached(1, None, 1) && breached(1, None, 0), "AWS's default");
        assert!(breached(2, None, 1) && !breached(2, None, 2));
        assert!(breached(1, Some(75), 2) && !breached(1, Some(75), 3));
    }

    #[test]
    fn a_node_without_cross_zone_sends_to_its_own_zone() {
        let node = interface("subnet-a", [10, 0, 0, 200].into());
        let sends = |cross_zone: CrossZoneOverride, zone: Option<&str>| {
            let group = TargetGroup { attributes: group_attributes(cross_zone), ..target_group("pg") };
            let target = Target { zone: zone.map(ToOwned::to_owned), ..target(1, "healthy") };
            load_balancer("pg", vec![group.clone()]).node_sends_to(&group, &node, &target)
        };
        assert!(sends(CrossZoneOverride::Off, Some("eu-central-1a")));
        assert!(sends(CrossZoneOverride::Off, Some("all")));
        assert!(!sends(CrossZoneOverride::Off, Some("eu-central-1b")));
        assert!(sends(CrossZoneOverride::Off, None), "it may");
        assert!(sends(CrossZoneOverride::On, Some("eu-central-1b")));
    }

    #[test]
    fn a_health_state_is_written_as_elb_writes_it() {
        let states = ["healthy", "unhealthy", "unhealthy.draining", "initial", "draining", "unused", "unavailable"];
        for state in states {
            let health = Health::parse(&state.to_uppercase());
            assert!(!matches!(health, Health::Other(_)), "{state}");
            assert_eq!(health.to_string(), state);
        }
        assert_eq!(Health::parse("New"), Health::Other("New".to_owned()));
    }
}
