//! The path behind one endpoint service, which drift-watcher stores so that health-watcher need not read it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::gone::{Gone, MAX_REMEMBERED, REMEMBER_FOR, registered, serves_on};
use super::{EndpointService, Hostname, Listener, LoadBalancer, Target, TargetGroup, TargetGroupAttributes, Topology};
use crate::ids::{Arn, ServiceId};

/// Maximum size of a stored path, in bytes of JSON. `DynamoDB` takes items of 400 KB.
const MAX_BYTES: usize = 300_000;

/// The endpoint service, its load balancers, listeners, target groups and targets, as of one read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPath {
    /// Start time of the read.
    pub read_at: Timestamp,
    /// Start time of the read of its details: see [`KnownDetails`]. `None` if they must be read again.
    #[serde(default)]
    pub detailed_at: Option<Timestamp>,
    /// dbt's ports in that read; empty for any.
    pub ports: BTreeSet<u16>,
    service: EndpointService,
    load_balancers: BTreeMap<Arn, LoadBalancer>,
    #[serde(default, skip_serializing_if = "Gone::is_empty")]
    pub(super) gone: Gone,
}

impl StoredPath {
    /// The path of `service` in `topology`, which was read at `read_at` behind any port, with its details read at
    /// `detailed_at`; `None` if a part of it is unknown, or if it is too large to store.
    pub fn new(topology: &Topology, service: &ServiceId, read_at: Timestamp, detailed_at: Timestamp) -> Option<Self> {
        let load_balancers = topology.load_balancers_of(service).ok()?;
        let load_balancers = load_balancers.into_iter().map(|it| (it.arn.clone(), stripped(it.clone()))).collect();
        let service = EndpointService { principals: None, ..topology.service(service).ok()?.clone() };
        let path = Self {
            read_at,
            detailed_at: Some(detailed_at),
            ports: BTreeSet::new(),
            service,
            load_balancers,
            gone: Gone::default(),
        };
        path.fits().then_some(path)
    }

    /// Whether it can be stored. A path that contains a failure cannot be written as JSON.
    fn fits(&self) -> bool {
        serde_json::to_vec(self).is_ok_and(|json| json.len() <= MAX_BYTES)
    }

    /// The path with the missing parts of `before`, the path that it replaces, if there is room for them.
    #[must_use]
    pub fn remembering(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        let path = Self { gone: self.gone_from(before), ..self };
        if path.fits() { path } else { Self { gone: Gone::default(), ..path } }
    }

    /// The parts missing since `before`, an earlier read. Parts that are back, or missing for a week, are dropped.
    fn gone_from(&self, before: &Self) -> Gone {
        let recent = |since: Timestamp| self.read_at.duration_since(since) < REMEMBER_FOR;
        let empty =
            self.all_groups().filter(|group| registered(group.targets.as_deref().unwrap_or_default()).is_empty());
        let targets = empty.filter_map(|group| {
            let since = before.gone.targets.get(&group.arn).map_or(self.read_at, |(since, _)| *since);
            let last: Vec<Target> = before.last_targets(&group.arn).into_iter().take(MAX_REMEMBERED).cloned().collect();
            (!last.is_empty() && recent(since)).then(|| (group.arn.clone(), (since, last)))
        });
        let listeners = self.load_balancers.values().map(|load_balancer| {
            let since = |listener: &Listener| {
                let mut known = before.gone.listeners.get(&load_balancer.arn).into_iter().flatten();
                known.find(|(_, known)| known.port == listener.port).map_or(self.read_at, |(since, _)| *since)
            };
            let last = before.last_listeners(&load_balancer.arn).into_iter();
            let gone = last.filter(|listener| !serves_on(load_balancer, listener.port));
            let gone = gone.map(|listener| (since(listener), listener.clone())).filter(|(since, _)| recent(*since));
            (load_balancer.arn.clone(), gone.take(MAX_REMEMBERED).collect::<Vec<_>>())
        });
        Gone { targets: targets.collect(), listeners: listeners.filter(|(_, gone)| !gone.is_empty()).collect() }
    }

    /// The present or last targets of the group.
    pub fn last_targets(&self, group: &Arn) -> Vec<&Target> {
        let now = self.group(group).and_then(|group| group.targets.as_deref().ok()).map(registered);
        now.filter(|now| !now.is_empty()).unwrap_or_else(|| self.gone.targets_of(group).collect())
    }

    /// The time since which the group has no targets, if it has none.
    pub fn gone_since(&self, group: &Arn) -> Option<Timestamp> {
        self.gone.targets.get(group).map(|(since, _)| *since)
    }

    /// The load balancer's listeners that serve dbt, and its last listeners on other ports.
    pub fn last_listeners(&self, load_balancer: &Arn) -> Vec<&Listener> {
        let Some(found) = self.load_balancers.get(load_balancer) else { return Vec::new() };
        let now = found.listeners.iter().flatten().filter(|listener| listener.serves(&self.ports));
        now.chain(self.gone.listeners_of(load_balancer).filter(|gone| !serves_on(found, gone.port))).collect()
    }

    /// The ids and ARNs of the endpoint service, its load balancers and its target groups.
    pub fn resources(&self) -> impl Iterator<Item = String> {
        let load_balancers = self.load_balancers.keys().map(ToString::to_string);
        let groups = self.all_groups().map(|group| group.arn.to_string());
        load_balancers.chain(groups).chain([self.service.id.to_string()])
    }

    /// The group's hostname from its tag, with its addresses.
    pub fn hostname(&self, group: &Arn) -> Option<&Hostname> {
        self.group(group)?.hostname.as_ref()?.as_ref().ok()?.as_ref()
    }

    fn all_groups(&self) -> impl Iterator<Item = &TargetGroup> {
        self.load_balancers.values().flat_map(|load_balancer| load_balancer.target_groups.iter().flatten())
    }

    fn group(&self, group: &Arn) -> Option<&TargetGroup> {
        self.all_groups().find(|found| found.arn == *group)
    }

    /// Whether `topology`, a later read, has other load balancers, listeners or target groups than this path, or could
    /// not read them. Other failed reads (attributes, tags, targets) do not contradict it.
    pub fn is_contradicted_by(&self, topology: &Topology) -> bool {
        let Ok(read) = topology.load_balancers_of(&self.service.id) else { return true };
        let groups = |load_balancer: &LoadBalancer| -> Option<BTreeSet<Arn>> {
            Some(load_balancer.target_groups.as_ref().ok()?.iter().map(|group| group.arn.clone()).collect())
        };
        let is_same = |stored: &LoadBalancer, read: &LoadBalancer| {
            read.listeners.is_ok()
                && read.listeners.as_ref().ok().map(|it| leads(it))
                    == stored.listeners.as_ref().ok().map(|it| leads(it))
                && groups(read).is_some_and(|read| Some(read) == groups(stored))
        };
        read.len() != self.load_balancers.len()
            || read
                .into_iter()
                .any(|read| !self.load_balancers.get(&read.arn).is_some_and(|stored| is_same(stored, read)))
    }

    /// The same path, limited to the parts behind these ports.
    #[must_use]
    pub fn behind(self, ports: BTreeSet<u16>) -> Self {
        Self { ports, ..self }
    }

    /// The same path, with its details due for a new read.
    #[must_use]
    pub fn with_details_due(&self) -> Self {
        Self { detailed_at: None, ..self.clone() }
    }

    /// Whether it may still be used at `now`: it is not older than `max_age`.
    pub fn is_valid(&self, now: Timestamp, max_age: SignedDuration) -> bool {
        now.duration_since(self.read_at) <= max_age
    }

    /// The endpoint service's `Name` tag.
    pub fn name(&self) -> Option<&str> {
        self.service.name.as_deref()
    }

    /// The number of calls to ELB that read it again: one for the listeners of each load balancer, one for the rules of
    /// each listener that can have some, and one for the targets of each group; `details` adds those for attributes,
    /// certificates and idle timeouts.
    pub fn calls(&self, details: bool) -> usize {
        let of = |load_balancer: &LoadBalancer| {
            let groups = load_balancer.target_groups.iter().flatten().count();
            let listeners = || load_balancer.listeners.iter().flatten();
            let certificates = listeners().filter(|it| it.certificate.is_some() && it.is_on(&self.ports)).count();
            let timeouts = listeners().filter(|it| it.has_idle_timeout() && it.is_on(&self.ports)).count();
            let is_dual_stack = load_balancer.description.as_ref().is_ok_and(|description| description.dual_stack);
            let with_rules = listeners().filter(|listener| is_dual_stack && listener.is_on(&self.ports)).count();
            1 + with_rules + groups + if details { 1 + groups + certificates + timeouts } else { 0 }
        };
        self.load_balancers.values().map(of).sum()
    }

    /// The number of its target groups.
    pub fn groups(&self) -> usize {
        self.all_groups().count()
    }

    /// The ARNs of its load balancers and target groups.
    pub fn arns(&self) -> impl Iterator<Item = &str> {
        self.load_balancers.keys().chain(self.all_groups().map(|group| &group.arn)).map(Arn::as_str)
    }

    /// The endpoint service.
    pub fn service(&self) -> &ServiceId {
        &self.service.id
    }
}

/// Stored details of paths: attributes, tags, certificates by name, idle timeouts, and descriptions of target groups.
/// They seldom change, and ELB needs one call for most of them. Each lookup is `None` if the detail must be read.
#[derive(Debug, Default)]
pub struct KnownDetails<'a> {
    load_balancers: BTreeMap<&'a Arn, &'a LoadBalancer>,
    groups: BTreeMap<&'a Arn, &'a TargetGroup>,
    listeners: BTreeMap<&'a str, &'a Listener>,
    read_at: BTreeMap<&'a ServiceId, Timestamp>,
}

impl<'a> KnownDetails<'a> {
    /// The details of these paths, except those that also belong to a path in `anew`, which is to be read again.
    pub fn new(mut paths: Vec<&'a StoredPath>, anew: &[&'a StoredPath]) -> Self {
        // For a shared load balancer, the latest read counts.
        paths.sort_by_key(|path| path.detailed_at);
        let mut known = Self::default();
        for path in paths {
            known.read_at.extend(path.detailed_at.map(|read_at| (path.service(), read_at)));
            for load_balancer in path.load_balancers.values() {
                known.load_balancers.insert(&load_balancer.arn, load_balancer);
                let groups = load_balancer.target_groups.iter().flatten();
                known.groups.extend(groups.map(|group| (&group.arn, group)));
                let listeners = load_balancer.listeners.iter().flatten();
                known.listeners.extend(listeners.map(|listener| (listener.arn.as_str(), listener)));
            }
        }
        for load_balancer in anew.iter().flat_map(|path| path.load_balancers.values()) {
            known.load_balancers.remove(&load_balancer.arn);
            for group in load_balancer.target_groups.iter().flatten() {
                known.groups.remove(&group.arn);
            }
            for listener in load_balancer.listeners.iter().flatten() {
                known.listeners.remove(listener.arn.as_str());
            }
        }
        known
    }

    /// When the details of the endpoint service were read.
    pub fn of(&self, service: &ServiceId) -> Option<Timestamp> {
        self.read_at.get(service).copied()
    }

    /// The load balancer's own cross-zone attribute.
    pub fn cross_zone(&self, load_balancer: &Arn) -> Option<bool> {
        self.load_balancers.get(load_balancer)?.cross_zone.as_ref()?.as_ref().ok().copied()
    }

    /// The target group, with its targets of that time.
    pub fn group(&self, group: &Arn) -> Option<&'a TargetGroup> {
        self.groups.get(group).copied()
    }

    /// The target group's attributes.
    pub fn attributes(&self, group: &Arn) -> Option<&TargetGroupAttributes> {
        self.groups.get(group)?.attributes.as_ref()?.as_ref().ok()
    }

    /// The target group's hostname from its tag; `Some(None)` without the tag.
    pub fn hostname(&self, group: &Arn) -> Option<&Option<Hostname>> {
        self.groups.get(group)?.hostname.as_ref()?.as_ref().ok()
    }

    /// The listener's certificates that it selects by name.
    pub fn certificates_by_name(&self, listener: &str) -> Option<&Vec<String>> {
        self.listeners.get(listener)?.certificates_by_name.as_ref()?.as_ref().ok()
    }

    /// The seconds after which the listener closes an idle connection.
    pub fn idle_timeout(&self, listener: &str) -> Option<u32> {
        self.listeners.get(listener)?.idle_timeout.as_ref()?.as_ref().ok().copied()?
    }
}

/// The target groups of each listener; `None` for a listener whose rules could not be read.
fn leads(listeners: &[Listener]) -> BTreeSet<(u16, String, Option<BTreeSet<Arn>>)> {
    let lead = |listener: &Listener| {
        let groups = listener.forwards_to.as_ref().ok();
        (listener.port, listener.protocol.clone(), groups.map(|groups| groups.iter().cloned().collect()))
    };
    listeners.iter().map(lead).collect()
}

/// The load balancer without the reasons for its targets' health, which only people read.
fn stripped(mut load_balancer: LoadBalancer) -> LoadBalancer {
    for group in load_balancer.target_groups.iter_mut().flatten() {
        for target in group.targets.iter_mut().flatten() {
            (target.reason, target.description) = (None, None);
        }
    }
    load_balancer
}

impl Topology {
    /// The topology behind the endpoint services of these paths. For a shared load balancer, the latest read counts.
    pub fn from_paths<'a>(paths: impl IntoIterator<Item = &'a StoredPath>) -> Self {
        let mut paths: Vec<&StoredPath> = paths.into_iter().collect();
        paths.sort_by_key(|path| path.read_at);
        let services = paths.iter().map(|path| (path.service.id.clone(), path.service.clone())).collect();
        let load_balancers = paths.iter().flat_map(|path| path.load_balancers.clone()).collect();
        Self { services: Some(Ok(services)), load_balancers, ..Self::default() }
    }

    /// The same topology with these target groups only.
    #[must_use]
    pub fn only_groups(mut self, wanted: &BTreeSet<Arn>) -> Self {
        for load_balancer in self.load_balancers.values_mut() {
            if let Ok(groups) = &mut load_balancer.target_groups {
                groups.retain(|group| wanted.contains(&group.arn));
            }
            for listener in load_balancer.listeners.iter_mut().flatten() {
                if let Ok(groups) = &mut listener.forwards_to {
                    groups.retain(|group| wanted.contains(group));
                }
            }
        }
        self
    }

    /// The target groups of all load balancers, once per load balancer.
    pub fn target_groups_mut(&mut self) -> impl Iterator<Item = &mut TargetGroup> {
        self.load_balancers.values_mut().flat_map(|load_balancer| load_balancer.target_groups.iter_mut().flatten())
    }

    /// The ARNs of the target groups.
    pub fn target_groups(&self) -> BTreeSet<Arn> {
        let groups =
            self.load_balancers.values().flat_map(|load_balancer| load_balancer.target_groups.iter().flatten());
        groups.map(|group| group.arn.clone()).collect()
    }

    /// The hostnames from target groups' tags, each with whether its group is IPv6.
    pub fn hostnames_mut(&mut self) -> impl Iterator<Item = (bool, &mut Hostname)> {
        self.target_groups_mut().filter_map(|group| match &mut group.hostname {
            Some(Ok(Some(hostname))) => Some((group.is_ipv6, hostname)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{CrossZoneOverride, Observed, ReachedNetworks, Target};
    use crate::testing::{
        at, call_error, endpoint_service, group_attributes, listener, load_balancer, service, target, target_group,
        topology,
    };

    fn read() -> Topology {
        let group = TargetGroup {
            targets: Ok(vec![target(1, "unhealthy"), Target { zone: None, ..target(2, "healthy") }]),
            attributes: group_attributes(CrossZoneOverride::LoadBalancer),
            ..target_group("pg")
        };
        let balancer = LoadBalancer { cross_zone: Some(Ok(true)), ..load_balancer("pg", vec![group]) };
        topology(endpoint_service(), [balancer])
    }

    #[test]
    fn a_stored_path_keeps_everything_but_elbs_reasons() {
        let path = StoredPath::new(&read(), &service(1), at(8, 0), at(7, 0)).unwrap();
        let stored: StoredPath = serde_json::from_str(&serde_json::to_string(&path).unwrap()).unwrap();
        assert_eq!(stored, path);
        let mut expected = read();
        for target in expected.target_groups_mut().flat_map(|group| group.targets.iter_mut().flatten()) {
            (target.reason, target.description) = (None, None);
        }
        assert_eq!(Topology::from_paths([&stored]).load_balancers, expected.load_balancers);
    }

    #[test]
    fn a_listeners_details_cost_a_call_and_are_stored() {
        let group = target_group("pg");
        let read = |idle_timeout: Observed<Option<u32>>| {
            let tls = Listener { certificate: Some("arn".to_owned()), ..listener("TLS", 443, &group) };
            let tcp = Listener { idle_timeout: Some(idle_timeout), ..listener("TCP", 5432, &group) };
            let listeners = Ok(vec![tcp, tls, listener("TCP_UDP", 53, &group)]);
            let balancer = LoadBalancer { listeners, ..load_balancer("pg", vec![group.clone()]) };
            StoredPath::new(&topology(endpoint_service(), [balancer]), &service(1), at(8, 0), at(8, 0)).unwrap()
        };
        let path = read(Ok(Some(60)));
        assert_eq!((path.calls(false), path.calls(true)), (2, 6));
        assert_eq!(path.clone().behind([443].into()).calls(true), 5);
        let known = |path: &StoredPath| {
            let stored: StoredPath = serde_json::from_str(&serde_json::to_string(path).unwrap()).unwrap();
            KnownDetails::new(vec![&stored], &[]).idle_timeout(&listener("TCP", 5432, &group).arn)
        };
        assert_eq!(known(&path), Some(60));
        assert_eq!(known(&read(Err(call_error("x")))), None, "the rest is stored");
        assert_eq!(known(&read(Ok(None))), None, "it is asked again");
        assert_eq!(KnownDetails::new(vec![&path], &[&path]).idle_timeout(&listener("TCP", 5432, &group).arn), None);
    }

    #[test]
    fn a_later_read_with_another_route_contradicts_a_path() {
        let groups = [target_group("pg"), target_group("old")];
        let balancer = |leads: &TargetGroup, groups: &[TargetGroup]| LoadBalancer {
            listeners: Ok(vec![listener("TCP", 5432, leads)]),
            ..load_balancer("pg", groups.to_vec())
        };
        let read = |load_balancer| topology(endpoint_service(), [load_balancer]);
        let stored = read(balancer(&groups[0], &groups));
        let path = StoredPath::new(&stored, &service(1), at(8, 0), at(8, 0)).unwrap();
        assert!(!path.is_contradicted_by(&stored));
        assert!(path.is_contradicted_by(&read(balancer(&groups[1], &groups))), "the listener leads elsewhere");
        assert!(path.is_contradicted_by(&read(balancer(&groups[0], &groups[..1]))), "a group is gone");
        let denied = || call_error("elasticloadbalancing:DescribeListeners");
        let unread = LoadBalancer { listeners: Err(denied()), ..balancer(&groups[0], &groups) };
        assert!(path.is_contradicted_by(&read(unread)), "the listeners may lead elsewhere");
        assert!(path.is_contradicted_by(&Topology { services: Some(Err(denied())), ..stored.clone() }));
        let targets = [TargetGroup { targets: Err(denied()), ..target_group("pg") }, target_group("old")];
        let partly = LoadBalancer { cross_zone: Some(Err(denied())), ..balancer(&groups[0], &targets) };
        assert!(!path.is_contradicted_by(&read(partly)), "targets and attributes say nothing of it");
    }

    /// The ports of the last listeners and the ids of the last targets after these reads, each some hours after the
    /// previous one.
    fn known_after(reads: &[(i64, &[u16], &[Target])]) -> (Vec<u16>, Vec<String>) {
        let group = |targets: &[Target]| TargetGroup { targets: Ok(targets.to_vec()), ..target_group("pg") };
        let mut before: Option<StoredPath> = None;
        let mut now = at(8, 0);
        for (hours, ports, targets) in reads {
            let listeners = ports.iter().map(|port| listener("TCP", *port, &target_group("pg"))).collect();
            let balancer = LoadBalancer { listeners: Ok(listeners), ..load_balancer("pg", vec![group(targets)]) };
            now += SignedDuration::from_hours(*hours);
            let read = StoredPath::new(&topology(endpoint_service(), [balancer]), &service(1), now, now).unwrap();
            let path = read.remembering(before.as_ref());
            before = Some(serde_json::from_str(&serde_json::to_string(&path).unwrap()).unwrap());
        }
        let path = before.unwrap();
        let balancer = path.load_balancers.keys().next().unwrap();
        let ports = path.last_listeners(balancer).into_iter().map(|listener| listener.port).collect();
        let targets = path.last_targets(&target_group("pg").arn).into_iter().map(|target| target.id.clone()).collect();
        (ports, targets)
    }

    #[test]
    fn the_last_targets_and_listeners_are_stored_for_a_week() {
        let one = [target(1, "healthy"), target(2, "draining")];
        let draining = [target(1, "draining")];
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<String>>();
        let known = (vec![5432], ids(&["10.0.0.1"]));
        assert_eq!(known_after(&[(0, &[5432], &one)]), known, "those that are there");
        assert_eq!(known_after(&[(0, &[5432], &one), (1, &[], &draining), (1, &[], &[])]), known);
        assert_eq!(known_after(&[(0, &[5432], &one), (1, &[], &[]), (167, &[], &[])]), known, "the first time is kept");
        assert_eq!(known_after(&[(0, &[5432], &one), (1, &[], &[]), (168, &[], &[])]), (vec![], vec![]));
        let others = [target(3, "initial")];
        let moved = known_after(&[(0, &[5432], &one), (1, &[], &[]), (1, &[443], &others)]);
        assert_eq!(moved, (vec![443, 5432], ids(&["10.0.0.3"])), "there are targets again");
        let back = known_after(&[(0, &[5432], &one), (1, &[], &[]), (1, &[5432], &one), (1, &[], &[])]);
        assert_eq!(back, known);
        let many: Vec<Target> = (0..60).map(|number| target(number, "healthy")).collect();
        assert_eq!(known_after(&[(0, &[5432], &many), (1, &[], &[])]).1.len(), 50);
        assert_eq!(known_after(&[(0, &[], &[])]), (vec![], vec![]));
    }

    #[test]
    fn each_hostname_is_listed_with_its_address_family() {
        let hostname = |name: &str| Hostname {
            name: name.to_owned(),
            addresses: Ok(Vec::new()),
            networks: Ok(ReachedNetworks::default()),
        };
        let group = |name: &str, hostname| TargetGroup { hostname, ..target_group(name) };
        let groups = vec![
            TargetGroup { is_ipv6: true, ..group("six", Some(Ok(Some(hostname("db6.example.com"))))) },
            group("four", Some(Ok(Some(hostname("db.example.com"))))),
            group("untagged", Some(Ok(None))),
            group("unread", None),
        ];
        let mut topology = topology(endpoint_service(), [load_balancer("pg", groups)]);
        let names: Vec<(bool, &str)> =
            topology.hostnames_mut().map(|(is_ipv6, it)| (is_ipv6, it.name.as_str())).collect();
        assert_eq!(names, [(true, "db6.example.com"), (false, "db.example.com")]);
    }

    #[test]
    fn a_stored_path_has_the_services_name() {
        let name_of = |name: Option<&str>| {
            let named = EndpointService { name: name.map(ToOwned::to_owned), ..endpoint_service() };
            let path = StoredPath::new(&topology(named, []), &service(1), at(8, 0), at(7, 0)).unwrap();
            path.name().map(ToOwned::to_owned)
        };
        assert_eq!(name_of(Some("postgres")).as_deref(), Some("postgres"));
        assert_eq!(name_of(None), None);
    }

    #[test]
    fn a_path_with_a_failed_read_is_not_stored() {
        let mut failed = read();
        failed.target_groups_mut().for_each(|group| group.targets = Err(call_error("x")));
        assert_eq!(StoredPath::new(&failed, &service(1), at(8, 0), at(7, 0)), None);
        let mut failed = read();
        failed.load_balancers.values_mut().for_each(|balancer| balancer.cross_zone = Some(Err(call_error("x"))));
        assert_eq!(StoredPath::new(&failed, &service(1), at(8, 0), at(7, 0)), None);
        assert_eq!(StoredPath::new(&Topology::default(), &service(1), at(8, 0), at(7, 0)), None);
    }

    #[test]
    fn an_old_path_is_not_valid() {
        let path = StoredPath::new(&read(), &service(1), at(8, 0), at(7, 0)).unwrap();
        let half_an_hour = SignedDuration::from_mins(30);
        assert!(path.is_valid(at(8, 30), half_an_hour));
        assert!(!path.is_valid(at(8, 31), half_an_hour));
    }
}
