//! The drawing: the parts of the path in the order of dbt's traffic, each with its state and its results.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use guard_core::check::{CheckResult, Parts, Status};
use guard_core::text::strip_invisible;

use super::Badge;
use super::results::{Callout, Index, Place};
use crate::report::{CheckState, PartKind, PathPart, ServiceReport};

/// The drawing.
pub(super) struct Drawing {
    pub endpoints: Vec<DrawnPart>,
    /// `None` before an endpoint service exists.
    pub service: Option<DrawnPart>,
    pub load_balancers: Vec<DrawnLoadBalancer>,
}

/// A part in the drawing.
pub(super) struct DrawnPart {
    pub anchor: String,
    pub kind: &'static str,
    pub name: String,
    pub detail: Option<String>,
    pub badge: Badge,
    pub callouts: Vec<Callout>,
}

/// A load balancer with the parts behind it.
pub(super) struct DrawnLoadBalancer {
    pub node: DrawnPart,
    pub zones: Vec<DrawnZone>,
    pub lanes: Vec<Lane>,
}

/// A zone that a load balancer is enabled in.
pub(super) struct DrawnZone {
    pub name: String,
    pub targets: String,
    pub badge: Badge,
}

/// Listeners, and the target groups that they forward to.
pub(super) struct Lane {
    pub listeners: Vec<DrawnPart>,
    pub groups: Vec<DrawnGroup>,
}

/// A target group with its targets: details for each target that needs attention, and the healthy ones by zone and
/// port.
pub(super) struct DrawnGroup {
    pub node: DrawnPart,
    pub ailing: Vec<DrawnPart>,
    pub healthy: Vec<(String, Vec<DrawnPart>)>,
}

impl Drawing {
    pub fn new(service: &ServiceReport, prefix: &str, index: &mut Index<'_>) -> Self {
        let mut builder = DrawingBuilder { service, prefix, parts: 0, index };
        let root = &service.path;
        if root.kind == PartKind::LoadBalancer {
            return Self { endpoints: Vec::new(), service: None, load_balancers: vec![builder.load_balancer(root)] };
        }
        Self {
            endpoints: of_kind(root, PartKind::Endpoint).map(|part| builder.endpoint(part)).collect(),
            service: Some(builder.node(root)),
            load_balancers: of_kind(root, PartKind::LoadBalancer).map(|part| builder.load_balancer(part)).collect(),
        }
    }
}

fn of_kind(part: &PathPart, kind: PartKind) -> impl Iterator<Item = &PathPart> {
    part.parts.iter().filter(move |part| part.kind == kind)
}

/// Draws the parts one after the other, and numbers them.
struct DrawingBuilder<'a, 'b> {
    service: &'a ServiceReport,
    prefix: &'a str,
    parts: usize,
    index: &'a mut Index<'b>,
}

impl DrawingBuilder<'_, '_> {
    fn node(&mut self, part: &PathPart) -> DrawnPart {
        self.node_with(part, &part.results.iter().collect::<Vec<_>>(), part.state())
    }

    fn node_with(&mut self, part: &PathPart, results: &[&CheckResult], state: Option<CheckState>) -> DrawnPart {
        self.parts += 1;
        let name = strip_invisible(&part.name);
        let anchor = format!("{}-p{}", self.prefix, self.parts);
        let place = Place { anchor: anchor.clone(), name: format!("{} {name}", part.kind.as_str()) };
        let callouts = self.index.call_out(results.iter().copied(), &place);
        let detail = part.detail.as_deref().map(strip_invisible);
        DrawnPart { anchor, kind: part.kind.as_str(), name, detail, badge: Badge::of(state), callouts }
    }

    /// An endpoint. It also shows the findings on its owner's account.
    fn endpoint(&mut self, part: &PathPart) -> DrawnPart {
        let is_related = |result: &&CheckResult| match &result.status {
            Status::Fail(finding) => finding.ids.contains(&part.resource),
            _ => false,
        };
        let related = self.service.results.iter().filter(is_related).filter(|result| !part.results.contains(result));
        let results: Vec<&CheckResult> = part.results.iter().chain(related).collect();
        self.node_with(part, &results, worst(&results).max(part.own_state))
    }

    fn load_balancer(&mut self, part: &PathPart) -> DrawnLoadBalancer {
        // The drawing shows the zones as parts of their own.
        let detail = part.detail.clone().filter(|_| part.zones.is_empty());
        let node = DrawnPart { detail, ..self.node(part) };
        let zones = part.zones.iter().map(|zone| self.zone(part, zone)).collect();
        let lanes = lanes(part).into_iter().map(|(listeners, groups)| Lane {
            listeners: listeners.into_iter().map(|listener| self.listener(listener, part)).collect(),
            groups: groups.into_iter().map(|group| self.group(group)).collect(),
        });
        DrawnLoadBalancer { node, zones, lanes: lanes.collect() }
    }

    fn zone(&self, load_balancer: &PathPart, zone: &str) -> DrawnZone {
        let groups = || of_kind(load_balancer, PartKind::TargetGroup);
        let targets = groups().flat_map(|group| &group.parts).filter(|target| target.zone.as_deref() == Some(zone));
        let targets: Vec<&PathPart> = targets.collect();
        let healthy = targets.iter().filter(|target| target.own_state == Some(CheckState::Pass)).count();
        let of_service = self.service.path.results.iter();
        let results = groups()
            .flat_map(|group| &group.results)
            .chain(of_service)
            .filter(|result| result.check.parts == Parts::Zones);
        // A zone without failures still does not work without targets.
        let state = state_of(results, zone).filter(|state| !targets.is_empty() || *state != CheckState::Pass);
        let targets = match targets.len() {
            0 => "no targets".to_owned(),
            all => format!("{healthy} of {all} targets healthy"),
        };
        DrawnZone { name: strip_invisible(zone), targets, badge: Badge::of(state) }
    }

    /// A listener has no results of its own: the load balancer's results name the ports that do not serve dbt.
    fn listener(&mut self, part: &PathPart, load_balancer: &PathPart) -> DrawnPart {
        let results = load_balancer.results.iter().filter(|result| result.check.parts == Parts::Ports);
        let state = part.port.filter(|_| !part.is_off_path).and_then(|port| state_of(results, &Parts::port(port)));
        let serves =
            of_kind(load_balancer, PartKind::TargetGroup).any(|group| part.forwards_to.contains(&group.resource));
        self.node_with(part, &[], state.filter(|state| serves || *state != CheckState::Pass).max(part.state()))
    }

    fn group(&mut self, part: &PathPart) -> DrawnGroup {
        let node = self.node(part);
        let (healthy, mut ailing): (Vec<&PathPart>, Vec<&PathPart>) =
            of_kind(part, PartKind::Target).partition(|target| target.own_state == Some(CheckState::Pass));
        ailing.sort_by_key(|target| Reverse(target.own_state));
        let mut places: BTreeMap<String, Vec<DrawnPart>> = BTreeMap::new();
        for target in healthy {
            let name = target.resource.clone();
            places.entry(place_of(target)).or_default().push(self.node(&PathPart { name, ..target.clone() }));
        }
        DrawnGroup {
            node,
            ailing: ailing.into_iter().map(|target| self.ailing(target)).collect(),
            healthy: places.into_iter().collect(),
        }
    }

    /// A target that is not healthy. Its details name the zone; its name does not.
    fn ailing(&mut self, target: &PathPart) -> DrawnPart {
        let Some(zone) = &target.zone else { return self.node(target) };
        let port = target.port.map(|port| format!(":{port}")).unwrap_or_default();
        let name = format!("{}{port}", target.resource);
        let detail = target.detail.as_ref().map(|detail| format!("{detail}, in {zone}"));
        self.node(&PathPart { name, detail, ..target.clone() })
    }
}

/// The target's place apart from its address: ` in eu-central-1a on port 5432`.
fn place_of(target: &PathPart) -> String {
    let zone = target.zone.as_ref().map(|zone| format!(" in {}", strip_invisible(zone))).unwrap_or_default();
    let port = target.port.map(|port| format!(" on port {port}")).unwrap_or_default();
    format!("{zone}{port}")
}

/// The worst state of `results`.
fn worst(results: &[&CheckResult]) -> Option<CheckState> {
    results.iter().map(|result| CheckState::of(&result.status)).max()
}

/// The state of a part according to `results`. The part passes if a failure does not name it.
fn state_of<'a>(results: impl Iterator<Item = &'a CheckResult>, part: &str) -> Option<CheckState> {
    let state = |result: &CheckResult| match &result.status {
        Status::Fail(finding) if !finding.parts.contains_key(part) => CheckState::Pass,
        status => CheckState::of(status),
    };
    results.map(state).max()
}

/// The listeners and target groups of a load balancer, grouped so that each listener is with its target groups.
fn lanes(load_balancer: &PathPart) -> Vec<(Vec<&PathPart>, Vec<&PathPart>)> {
    let mut lanes: Vec<(Vec<&PathPart>, Vec<&PathPart>)> =
        of_kind(load_balancer, PartKind::TargetGroup).map(|group| (Vec::new(), vec![group])).collect();
    for listener in of_kind(load_balancer, PartKind::Listener) {
        let leads_to = |(_, groups): &mut (Vec<&PathPart>, Vec<&PathPart>)| {
            groups.iter().any(|group| listener.forwards_to.contains(&group.resource))
        };
        let joined = lanes.extract_if(.., leads_to).reduce(|mut lane, other| {
            lane.0.extend(other.0);
            lane.1.extend(other.1);
            lane
        });
        let (mut listeners, groups) = joined.unwrap_or_default();
        listeners.push(listener);
        lanes.push((listeners, groups));
    }
    lanes
}
