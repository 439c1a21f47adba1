//! The findings of `check` as a tree along dbt's traffic: endpoint service → load balancer → listeners → target groups
//! → targets. Pure; the outputs only render it.

use std::collections::BTreeSet;
use std::fmt;

use guard_core::check::{CheckResult, Group, Severity, Status};
use guard_core::checks::network_path::remote_side_of;
use guard_core::ids::{Arn, ServiceId};
use guard_core::snapshot::{
    Connection, ConnectionState, EndpointService, Health, Listener, LoadBalancer, Target, TargetGroup, Topology,
};
use guard_core::text::strip_invisible;
use jiff::Timestamp;

/// The most endpoints without results that a service draws; it only counts the others.
const MAX_QUIET_ENDPOINTS: usize = 20;

/// The findings of a run of `check`.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    /// The account, if AWS named it.
    pub account: Option<String>,
    /// The Region.
    pub region: String,
    /// When the read began.
    pub checked_at: Timestamp,
    /// The address of the company's runbook, to which a check's id is appended (the stack's `RunbookUrl`).
    pub runbook: Option<String>,
    /// One report per endpoint service, or one for the load balancer that has none yet.
    pub services: Vec<ServiceReport>,
}

/// The findings on one endpoint service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceReport {
    /// The endpoint service; `None` for a load balancer that has none yet.
    pub id: Option<ServiceId>,
    /// Its `Name` tag, or the load balancer's name.
    pub name: Option<String>,
    /// The name that consumers need: `com.amazonaws.vpce.REGION.vpce-svc-…`.
    pub service_name: Option<String>,
    /// The deployed guard's silences, a line each, or why they are unknown.
    pub silences: Vec<String>,
    /// All results, in the order of the catalogue.
    pub results: Vec<CheckResult>,
    /// The same results on the path they belong to.
    pub path: PathPart,
}

/// A part of the path, with its results and the parts behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct PathPart {
    /// The kind of part.
    pub kind: PartKind,
    /// AWS's name for the part: an ARN or id; for a target, also its address.
    pub resource: String,
    /// The part's familiar name.
    pub name: String,
    /// A few words of detail.
    pub detail: Option<String>,
    /// The port that a listener listens on, or that a target is registered with.
    pub port: Option<u16>,
    /// The zone that a target is in.
    pub zone: Option<String>,
    /// The zones that a load balancer is enabled in.
    pub zones: Vec<String>,
    /// The target groups that a listener forwards to.
    pub forwards_to: Vec<String>,
    /// Whether it is a listener that dbt does not use: nothing behind it is checked.
    pub is_off_path: bool,
    /// The state that AWS itself reports: a target's health, an endpoint's connection.
    pub own_state: Option<CheckState>,
    /// The results about this part.
    pub results: Vec<CheckResult>,
    /// The parts behind it.
    pub parts: Vec<PathPart>,
}

/// The kinds of parts, from dbt to the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// A consumer's endpoint.
    Endpoint,
    /// The endpoint service.
    EndpointService,
    /// A load balancer.
    LoadBalancer,
    /// A listener.
    Listener,
    /// A target group.
    TargetGroup,
    /// A target.
    Target,
}

/// The state of a part or a result, ordered so that the greatest needs attention most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckState {
    /// As it must be.
    Pass,
    /// Fails with severity info, which dbt does not notice.
    Info,
    /// Could not be determined.
    Unknown,
    /// Fails with severity warning.
    Warning,
    /// Fails with severity critical.
    Critical,
}

/// The number of results per status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Results that pass.
    pub pass: usize,
    /// Results that fail.
    pub fail: usize,
    /// Results that could not be determined.
    pub unknown: usize,
}

impl PartKind {
    /// The state's name in a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::EndpointService => "endpoint service",
            Self::LoadBalancer => "load balancer",
            Self::Listener => "listener",
            Self::TargetGroup => "target group",
            Self::Target => "target",
        }
    }
}

impl CheckState {
    /// The state of a result.
    pub fn of(status: &Status) -> Self {
        match status {
            Status::Pass(_) => Self::Pass,
            Status::Unknown(_) | Status::NotAsked => Self::Unknown,
            Status::Fail(finding) => Self::failing(finding.severity),
        }
    }

    /// The state of a failure.
    pub fn failing(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }

    /// `pass`, `fail` or `unknown`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Unknown => "unknown",
            Self::Info | Self::Warning | Self::Critical => "fail",
        }
    }

    /// `✓`, `✗` or `?`.
    pub fn sign(self) -> char {
        match self {
            Self::Pass => '✓',
            Self::Unknown => '?',
            Self::Info | Self::Warning | Self::Critical => '✗',
        }
    }

    /// The severity of a failure.
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Pass | Self::Unknown => None,
            Self::Info => Some(Severity::Info),
            Self::Warning => Some(Severity::Warning),
            Self::Critical => Some(Severity::Critical),
        }
    }
}

impl CheckReport {
    /// The results of all services.
    pub fn results(&self) -> impl Iterator<Item = &CheckResult> {
        self.services.iter().flat_map(|service| &service.results)
    }

    /// The number of results per status.
    pub fn summary(&self) -> Summary {
        Summary::of(self.results())
    }

    /// 1 if something of severity `fail_on` or worse fails, else 2 if something is unknown, else 0.
    pub fn exit_status(&self, fail_on: Severity) -> u8 {
        let states = || self.results().map(|result| CheckState::of(&result.status));
        if states().any(|state| state.severity().is_some_and(|severity| severity >= fail_on)) {
            1
        } else {
            u8::from(states().any(|state| state == CheckState::Unknown)) * 2
        }
    }
}

impl Summary {
    /// Counts `results`.
    pub fn of<'a>(results: impl IntoIterator<Item = &'a CheckResult>) -> Self {
        results.into_iter().fold(Self::default(), |mut summary, result| {
            match &result.status {
                Status::Pass(_) => summary.pass += 1,
                Status::Fail(_) => summary.fail += 1,
                Status::Unknown(_) => summary.unknown += 1,
                Status::NotAsked => {}
            }
            summary
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pass, {} fail, {} unknown", self.pass, self.fail, self.unknown)
    }
}

impl ServiceReport {
    /// The report on an endpoint service. `ports` are dbt's ports; if empty, dbt may use any.
    pub fn new(service: &ServiceId, ports: &BTreeSet<u16>, topology: &Topology, results: Vec<CheckResult>) -> Self {
        let results = asked(results);
        let known = topology.service(service).ok();
        let balancers = topology.load_balancers_of(service).unwrap_or_default();
        let mut left = results.clone();
        let balancers: Vec<PathPart> =
            balancers.iter().map(|load_balancer| PathPart::load_balancer(load_balancer, ports, &mut left)).collect();
        let held = held_endpoints(&results, service);
        let mut behind = PathPart::endpoints(topology, service, &held, &mut left);
        behind.extend(balancers);
        let path = PathPart::endpoint_service(service, known, left, behind);
        let name = known.and_then(|service| service.name.as_deref()).map(strip_invisible);
        let service_name = known.and_then(|service| service.service_name.clone());
        Self { id: Some(service.clone()), name, service_name, silences: Vec::new(), results, path }
    }

    /// The report of a load balancer that has no endpoint service yet.
    pub fn without_service(load_balancer: &LoadBalancer, ports: &BTreeSet<u16>, results: Vec<CheckResult>) -> Self {
        let results = asked(results);
        let mut left = results.clone();
        let path = PathPart::load_balancer(load_balancer, ports, &mut left);
        let path = PathPart { results: path.results.into_iter().chain(left).collect(), ..path };
        let name = Some(load_balancer.name().to_owned());
        Self { id: None, name, service_name: None, silences: Vec::new(), results, path }
    }

    /// The worst state of all results.
    pub fn state(&self) -> CheckState {
        self.results.iter().map(|result| CheckState::of(&result.status)).max().unwrap_or(CheckState::Unknown)
    }
}

/// The results of the checks that the run asked.
fn asked(results: Vec<CheckResult>) -> Vec<CheckResult> {
    results.into_iter().filter(|result| result.status != Status::NotAsked).collect()
}

/// The endpoints in the finding on the limit of dbt's endpoints.
fn held_endpoints(results: &[CheckResult], service: &ServiceId) -> BTreeSet<String> {
    let of_service = results.iter().filter(|result| result.resource == service.as_str());
    let of_dbt = of_service.filter(|result| result.check.group == Group::Connections);
    let ids = of_dbt.filter_map(|result| match &result.status {
        Status::Fail(finding) => Some(finding.ids.clone()),
        _ => None,
    });
    ids.flatten().collect()
}

/// Removes and returns the results of a part.
fn take(left: &mut Vec<CheckResult>, is_its: impl Fn(&str) -> bool) -> Vec<CheckResult> {
    left.extract_if(.., |result| is_its(&result.resource)).collect()
}

impl PathPart {
    /// The worst state of this part alone.
    pub fn state(&self) -> Option<CheckState> {
        self.results.iter().map(|result| CheckState::of(&result.status)).chain(self.own_state).max()
    }

    fn new(kind: PartKind, resource: &impl ToString, name: impl Into<String>) -> Self {
        let (resource, name) = (resource.to_string(), name.into());
        Self {
            kind,
            resource,
            name,
            detail: None,
            port: None,
            zone: None,
            zones: Vec::new(),
            forwards_to: Vec::new(),
            is_off_path: false,
            own_state: None,
            results: Vec::new(),
            parts: Vec::new(),
        }
    }

    fn endpoint_service(
        id: &ServiceId,
        service: Option<&EndpointService>,
        results: Vec<CheckResult>,
        parts: Vec<Self>,
    ) -> Self {
        let name = service.and_then(|service| service.name.clone()).unwrap_or_else(|| id.to_string());
        let detail = (name != id.as_str()).then(|| id.to_string());
        Self { detail, results, parts, ..Self::new(PartKind::EndpointService, id, name) }
    }

    fn endpoints(
        topology: &Topology,
        service: &ServiceId,
        held: &BTreeSet<String>,
        left: &mut Vec<CheckResult>,
    ) -> Vec<Self> {
        let connections = topology.connections.iter().flatten().flatten();
        let endpoint = |connection: &Connection| {
            let Connection { endpoint, owner, state, region, .. } = connection;
            // The first endpoint of an account shows the findings on that account.
            let is_owner = |resource: &str| owner.as_ref().is_some_and(|owner| owner.as_str() == resource);
            let results = take(left, |resource| resource == endpoint.as_str() || is_owner(resource));
            let owner =
                owner.as_ref().map_or_else(|| "an account that EC2 does not name".to_owned(), ToString::to_string);
            let from = region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
            // The finding on the limit of endpoints also names connected endpoints beyond the limit.
            let is_held = held.contains(endpoint.as_str()) && *state == ConnectionState::PendingAcceptance;
            let (shown, own_state) = match is_held {
                true => ("held".to_owned(), Some(CheckState::Warning)),
                false => (state.to_string(), None),
            };
            let detail = Some(format!("of {owner}{from}, {shown}"));
            Self { detail, own_state, results, ..Self::new(PartKind::Endpoint, endpoint, endpoint.as_str()) }
        };
        let parts: Vec<Self> = connections.filter(|connection| connection.service == *service).map(endpoint).collect();
        // An allowed principal can create thousands of endpoints.
        let (told, quiet): (Vec<Self>, Vec<Self>) = parts.into_iter().partition(|part| !part.results.is_empty());
        let more = quiet.len().saturating_sub(MAX_QUIET_ENDPOINTS);
        let rest = (more > 0).then(|| Self::new(PartKind::Endpoint, &"", format!("and {more} more")));
        told.into_iter().chain(quiet.into_iter().take(MAX_QUIET_ENDPOINTS)).chain(rest).collect()
    }

    fn listener(listener: &Listener, ports: &BTreeSet<u16>) -> Self {
        let is_off_path = !listener.is_on(ports) && !ports.contains(&listener.port);
        let detail = match &listener.forwards_to {
            Err(_) => "its rules could not be read".to_owned(),
            Ok(groups) if groups.is_empty() => "forwards to nothing".to_owned(),
            Ok(groups) => format!("to {}", groups.iter().map(Arn::name).collect::<Vec<_>>().join(", ")),
        };
        let detail = Some(if is_off_path { format!("{detail}; not on dbt's path") } else { detail });
        let forwards_to = listener.forwards_to.iter().flatten().map(ToString::to_string).collect();
        let part = Self::new(PartKind::Listener, &listener.arn, listener.to_string());
        Self { detail, port: Some(listener.port), forwards_to, is_off_path, ..part }
    }

    fn load_balancer(load_balancer: &LoadBalancer, ports: &BTreeSet<u16>, left: &mut Vec<CheckResult>) -> Self {
        let listeners = load_balancer.listeners.iter().flatten();
        let mut behind: Vec<Self> = listeners.map(|listener| Self::listener(listener, ports)).collect();
        behind.extend(load_balancer.groups_on(ports).map(|group| Self::target_group(group, left)));
        let results = take(left, |resource| resource == load_balancer.arn.as_str());
        let zones = load_balancer.description.iter().flat_map(|description| &description.zones);
        let zones: Vec<String> = zones.map(|zone| zone.name.clone()).collect();
        let detail = (!zones.is_empty()).then(|| format!("in {}", zones.join(", ")));
        Self {
            detail,
            zones,
            results,
            parts: behind,
            ..Self::new(PartKind::LoadBalancer, &load_balancer.arn, load_balancer.name())
        }
    }

    fn target_group(group: &TargetGroup, left: &mut Vec<CheckResult>) -> Self {
        let remote = remote_side_of(&group.arn);
        let results = take(left, |resource| resource == group.arn.as_str() || resource == remote);
        let parts: Vec<Self> = group.targets.iter().flatten().map(Self::target).collect();
        let healthy = parts.iter().filter(|part| part.own_state == Some(CheckState::Pass)).count();
        let detail = group.targets.is_ok().then(|| format!("{healthy} of {} targets healthy", parts.len()));
        Self { detail, results, parts, ..Self::new(PartKind::TargetGroup, &group.arn, group.name()) }
    }

    fn target(target: &Target) -> Self {
        let state = match target.health {
            _ if target.is_shifted_away => CheckState::Info,
            Health::Healthy => CheckState::Pass,
            Health::Unhealthy | Health::UnhealthyDraining => CheckState::Warning,
            _ => CheckState::Unknown,
        };
        let reason = target.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let shift = if target.is_shifted_away { ", zonal shift: no new connections" } else { "" };
        let detail = Some(format!("{}{reason}{shift}", target.health));
        let zone = target.zone.clone();
        let part = Self::new(PartKind::Target, &target.id, target.to_string());
        Self { detail, port: target.port, zone, own_state: Some(state), ..part }
    }
}
