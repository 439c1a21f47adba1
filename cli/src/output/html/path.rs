//! The drawing: the parts of the path, as dbt's traffic goes, each with its state and the results about it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use guard_core::checks::{CheckResult, Status};
use guard_core::text::visible;

use super::Badge;
use super::finding::{Callout, Index, Place};
use crate::report::{Part, PartKind, ServiceReport, State};

/// The check that judges zones. Its findings name the zones.
const ZONES: &str = "load-balancer.zones";

/// The check that judges listeners. Its findings name the ports.
const PORTS: &str = "listener.port";

/// The drawing.
pub(super) struct Path {
    pub endpoints: Vec<Node>,
    /// `None` before there is one.
    pub service: Option<Node>,
    pub load_balancers: Vec<LoadBalancer>,
}

/// A part in the drawing.
pub(super) struct Node {
    pub anchor: String,
    pub kind: &'static str,
    pub name: String,
    pub detail: Option<String>,
    pub badge: Badge,
    pub callouts: Vec<Callout>,
}

/// A load balancer with what is behind it.
pub(super) struct LoadBalancer {
    pub node: Node,
    pub zones: Vec<Zone>,
    pub lanes: Vec<Lane>,
}

/// A zone that a load balancer is enabled in.
pub(super) struct Zone {
    pub name: String,
    pub targets: String,
    pub badge: Badge,
}

/// Listeners, and the target groups that they forward to.
pub(super) struct Lane {
    pub listeners: Vec<Node>,
    pub groups: Vec<Group>,
}

/// A target group with its targets: those that need attention with all that is known of them, the healthy
/// ones by zone and port.
pub(super) struct Group {
    pub node: Node,
    pub ailing: Vec<Node>,
    pub healthy: Vec<(String, Vec<Node>)>,
}

impl Path {
    pub fn new(service: &ServiceReport, prefix: &str, index: &mut Index<'_>) -> Self {
        let mut drawing = Drawing { service, prefix, parts: 0, index };
        let root = &service.path;
        if root.kind == PartKind::LoadBalancer {
            return Self { endpoints: Vec::new(), service: None, load_balancers: vec![drawing.load_balancer(root)] };
        }
        Self {
            endpoints: of_kind(root, PartKind::Endpoint).map(|part| drawing.endpoint(part)).collect(),
            service: Some(drawing.node(root)),
            load_balancers: of_kind(root, PartKind::LoadBalancer).map(|part| drawing.load_balancer(part)).collect(),
        }
    }
}

fn of_kind(part: &Part, kind: PartKind) -> impl Iterator<Item = &Part> {
    part.parts.iter().filter(move |part| part.kind == kind)
}

struct Drawing<'a, 'b> {
    service: &'a ServiceReport,
    prefix: &'a str,
    parts: usize,
    index: &'a mut Index<'b>,
}

impl Drawing<'_, '_> {
    fn node(&mut self, part: &Part) -> Node {
        self.node_with(part, &part.results.iter().collect::<Vec<_>>(), part.state())
    }

    fn node_with(&mut self, part: &Part, results: &[&CheckResult], state: Option<State>) -> Node {
        self.parts += 1;
        let name = visible(&part.name);
        let anchor = format!("{}-p{}", self.prefix, self.parts);
        let place = Place { anchor: anchor.clone(), name: format!("{} {name}", part.kind.as_str()) };
        let callouts = self.index.call_out(results.iter().copied(), &place);
        let detail = part.detail.as_deref().map(visible);
        Node { anchor, kind: part.kind.as_str(), name, detail, badge: Badge::of(state), callouts }
    }

    /// An endpoint. What is found of its owner's account is shown on it as well.
    fn endpoint(&mut self, part: &Part) -> Node {
        let is_related = |result: &&CheckResult| match &result.status {
            Status::Fail(finding) => finding.ids.contains(&part.resource),
            _ => false,
        };
        let related = self.service.results.iter().filter(is_related).filter(|result| !part.results.contains(result));
        let results: Vec<&CheckResult> = part.results.iter().chain(related).collect();
        self.node_with(part, &results, worst(&results).max(part.own_state))
    }

    fn load_balancer(&mut self, part: &Part) -> LoadBalancer {
        // The drawing has the zones themselves.
        let detail = part.detail.clone().filter(|_| part.zones.is_empty());
        let node = Node { detail, ..self.node(part) };
        let zones = part.zones.iter().map(|zone| self.zone(part, zone)).collect();
        let lanes = lanes(part).into_iter().map(|(listeners, groups)| Lane {
            listeners: listeners.into_iter().map(|listener| self.listener(listener, part)).collect(),
            groups: groups.into_iter().map(|group| self.group(group)).collect(),
        });
        LoadBalancer { node, zones, lanes: lanes.collect() }
    }

    fn zone(&self, load_balancer: &Part, zone: &str) -> Zone {
        let groups = || of_kind(load_balancer, PartKind::TargetGroup);
        let targets = groups().flat_map(|group| &group.parts).filter(|target| target.zones.iter().any(|it| it == zone));
        let targets: Vec<&Part> = targets.collect();
        let healthy = targets.iter().filter(|target| target.own_state == Some(State::Pass)).count();
        let of_service = self.service.path.results.iter();
        let results =
            groups().flat_map(|group| &group.results).chain(of_service).filter(|result| result.check.id == ZONES);
        // That nothing fails there does not mean that a zone without targets works.
        let state = state_of(results, zone).filter(|state| !targets.is_empty() || *state != State::Pass);
        let targets = match targets.len() {
            0 => "no targets".to_owned(),
            all => format!("{healthy} of {all} targets healthy"),
        };
        Zone { name: visible(zone), targets, badge: Badge::of(state) }
    }

    /// A listener has no results of its own: the load balancer's name the ports that do not serve dbt.
    fn listener(&mut self, part: &Part, load_balancer: &Part) -> Node {
        let number = part.resource.rsplit(':').next().unwrap_or_default();
        let results = load_balancer.results.iter().filter(|result| result.check.id == PORTS);
        let state = state_of(results, &format!("port {number}"));
        let serves =
            of_kind(load_balancer, PartKind::TargetGroup).any(|group| part.forwards_to.contains(&group.resource));
        self.node_with(part, &[], state.filter(|state| serves || *state != State::Pass).max(part.state()))
    }

    fn group(&mut self, part: &Part) -> Group {
        let node = self.node(part);
        let (healthy, mut ailing): (Vec<&Part>, Vec<&Part>) =
            of_kind(part, PartKind::Target).partition(|target| target.own_state == Some(State::Pass));
        ailing.sort_by_key(|target| Reverse(target.own_state));
        let mut places: BTreeMap<String, Vec<Node>> = BTreeMap::new();
        for target in healthy {
            let name = target.resource.clone();
            places.entry(place_of(target)).or_default().push(self.node(&Part { name, ..target.clone() }));
        }
        Group {
            node,
            ailing: ailing.into_iter().map(|target| self.ailing(target)).collect(),
            healthy: places.into_iter().collect(),
        }
    }

    /// A target that is not healthy. Its zone is in its details instead of its name.
    fn ailing(&mut self, target: &Part) -> Node {
        let zone = target.zones.join(", ");
        let Some(name) = target.name.strip_suffix(&format!(" ({zone})")) else { return self.node(target) };
        let detail = target.detail.as_ref().map(|detail| format!("{detail}, in {zone}"));
        self.node(&Part { name: name.to_owned(), detail, ..target.clone() })
    }
}

/// Where a target is, apart from its address: ` in eu-central-1a on port 5432`.
fn place_of(target: &Part) -> String {
    let zone = target.zones.first().map(|zone| format!(" in {}", visible(zone))).unwrap_or_default();
    let after = target.name.strip_prefix(&target.resource).and_then(|rest| rest.strip_prefix(':'));
    let port = after.and_then(|rest| rest.split(' ').next()).map(|port| format!(" on port {port}")).unwrap_or_default();
    format!("{zone}{port}")
}

/// The worst state of `results`.
fn worst(results: &[&CheckResult]) -> Option<State> {
    results.iter().map(|result| State::of(&result.status)).max()
}

/// What `results` say of one of the parts that they name. A failure that does not name it says that it passes.
fn state_of<'a>(results: impl Iterator<Item = &'a CheckResult>, part: &str) -> Option<State> {
    let state = |result: &CheckResult| match &result.status {
        Status::Fail(finding) if !finding.parts.contains_key(part) => State::Pass,
        status => State::of(status),
    };
    results.map(state).max()
}

/// The listeners and target groups of a load balancer, those together that lead to one another.
fn lanes(load_balancer: &Part) -> Vec<(Vec<&Part>, Vec<&Part>)> {
    let mut lanes: Vec<(Vec<&Part>, Vec<&Part>)> =
        of_kind(load_balancer, PartKind::TargetGroup).map(|group| (Vec::new(), vec![group])).collect();
    for listener in of_kind(load_balancer, PartKind::Listener) {
        let leads_to = |(_, groups): &mut (Vec<&Part>, Vec<&Part>)| {
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
