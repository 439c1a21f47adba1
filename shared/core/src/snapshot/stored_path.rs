//! What is behind one endpoint service, as drift-watcher stores it, so that health-watcher need not read it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{EndpointService, Hostname, Listener, LoadBalancer, TargetGroup, Topology};
use crate::ids::{Arn, ServiceId};

/// The largest path that is stored, in bytes of JSON. `DynamoDB` takes items of 400 KB.
const MAX_BYTES: usize = 300_000;

/// The endpoint service, its load balancers, listeners, target groups and targets, as read at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPath {
    /// When the read began.
    pub read_at: Timestamp,
    /// When the target groups' tags were read.
    pub named_at: Timestamp,
    service: EndpointService,
    load_balancers: BTreeMap<Arn, LoadBalancer>,
}

impl StoredPath {
    /// The path of `service` in `topology`, which was read at `read_at`, and the tags at `named_at`; `None` if a part of it is
    /// unknown, or if it is too large to be stored.
    #[must_use]
    pub fn new(topology: &Topology, service: &ServiceId, read_at: Timestamp, named_at: Timestamp) -> Option<Self> {
        let load_balancers = topology.load_balancers_of(service).ok()?;
        let load_balancers = load_balancers.into_iter().map(|it| (it.arn.clone(), stripped(it.clone()))).collect();
        let service = EndpointService { principals: None, ..topology.service(service).ok()?.clone() };
        let path = Self { read_at, named_at, service, load_balancers };
        // What contains a failure cannot be written as JSON.
        let bytes = serde_json::to_vec(&path).ok()?.len();
        (bytes <= MAX_BYTES).then_some(path)
    }

    /// Whether `topology`, a later read, has other load balancers, listeners or target groups than this, or could not read
    /// them. What else it could not read (attributes, tags, targets) does not contradict it.
    #[must_use]
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

    /// Whether it may still be used at `now`: it is not older than `max_age`.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp, max_age: SignedDuration) -> bool {
        now.duration_since(self.read_at) <= max_age
    }

    /// The endpoint service's `Name` tag.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.service.name.as_deref()
    }

    /// The name that the target group had by its tag, if the path has the group.
    #[must_use]
    pub fn hostname(&self, group: &Arn) -> Option<&Option<Hostname>> {
        let groups =
            self.load_balancers.values().flat_map(|load_balancer| load_balancer.target_groups.iter().flatten());
        let mut named = groups.filter(|known| known.arn == *group);
        named.find_map(|known| known.hostname.as_ref()?.as_ref().ok())
    }

    /// The endpoint service.
    #[must_use]
    pub fn service(&self) -> &ServiceId {
        &self.service.id
    }
}

/// Where each listener leads.
fn leads(listeners: &[Listener]) -> BTreeSet<(u16, String, Vec<Arn>)> {
    let lead = |listener: &Listener| {
        let mut groups = listener.forwards_to.clone();
        groups.sort();
        (listener.port, listener.protocol.clone(), groups)
    };
    listeners.iter().map(lead).collect()
}

/// Without what only people read: the descriptions of targets' health.
fn stripped(mut load_balancer: LoadBalancer) -> LoadBalancer {
    for group in load_balancer.target_groups.iter_mut().flatten() {
        for target in group.targets.iter_mut().flatten() {
            (target.reason, target.description) = (None, None);
        }
    }
    load_balancer
}

impl Topology {
    /// What is behind the endpoint services of these paths. Of a load balancer that several share, the latest read counts.
    #[must_use]
    pub fn from_paths<'a>(paths: impl IntoIterator<Item = &'a StoredPath>) -> Self {
        let mut paths: Vec<&StoredPath> = paths.into_iter().collect();
        paths.sort_by_key(|path| path.read_at);
        let services = paths.iter().map(|path| (path.service.id.clone(), path.service.clone())).collect();
        let load_balancers = paths.iter().flat_map(|path| path.load_balancers.clone()).collect();
        Self { services: Some(Ok(services)), load_balancers, ..Self::default() }
    }

    /// The target groups of all load balancers, each as often as a load balancer has it.
    pub fn target_groups_mut(&mut self) -> impl Iterator<Item = &mut TargetGroup> {
        self.load_balancers.values_mut().flat_map(|load_balancer| load_balancer.target_groups.iter_mut().flatten())
    }

    /// The ARNs of the target groups.
    #[must_use]
    pub fn target_groups(&self) -> BTreeSet<Arn> {
        let groups =
            self.load_balancers.values().flat_map(|load_balancer| load_balancer.target_groups.iter().flatten());
        groups.map(|group| group.arn.clone()).collect()
    }

    /// The names that target groups have by their tags.
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
    use crate::snapshot::{CrossZoneOverride, Target};
    use crate::testing::{
        at, call_error, endpoint_service, listener, load_balancer, service, target, target_group, topology,
    };

    fn read() -> Topology {
        let group = TargetGroup {
            targets: Ok(vec![target(1, "unhealthy"), Target { zone: None, ..target(2, "healthy") }]),
            cross_zone: Some(Ok(CrossZoneOverride::LoadBalancer)),
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
    fn a_later_read_contradicts_a_path_that_leads_elsewhere_or_may_do_so() {
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

    #[test]
    fn the_names_of_target_groups_can_be_resolved_anew() {
        let hostname =
            |name: &str| Hostname { name: name.to_owned(), addresses: Ok(Vec::new()), networks: Ok(Vec::new()) };
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
    fn it_knows_the_services_name() {
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
    fn a_path_that_is_old_is_not_used() {
        let path = StoredPath::new(&read(), &service(1), at(8, 0), at(7, 0)).unwrap();
        let half_an_hour = SignedDuration::from_mins(30);
        assert!(path.is_valid(at(8, 30), half_an_hour));
        assert!(!path.is_valid(at(8, 31), half_an_hour));
    }
}
