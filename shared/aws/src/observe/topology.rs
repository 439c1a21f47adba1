//! Reads everything behind the endpoint services. Nothing is read twice, and a call waits only for the calls on which
//! it depends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::future::join_all;
use guard_core::ids::{Arn, ServiceId};
use guard_core::plan::Plan;
use guard_core::snapshot::{
    CallError, Certificate, Coverage, EndpointService, Hostname, KnownDetails, Listener, LoadBalancer, Network,
    Observed, Target, TargetGroup, Topology, Zone, interface_description,
};

use super::Observer;
use super::hostnames::{Tags, fill_in, resolve, resolve_names};
use super::network::{GroupRules, Instance, TargetInterface};
use crate::errors::malformed_response;

/// The extent of a read.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// The health of the targets; cross-zone attributes only where a zone lacks a healthy target.
    Health,
    /// The same, with the target health that this run has just read.
    Path {
        /// The run's earlier read.
        health: &'a Topology,
    },
    /// The settings.
    Settings {
        /// Whether the read includes connection notifications.
        notifications: bool,
        /// Details that need not be read.
        known: &'a KnownDetails<'a>,
    },
    /// Everything.
    Everything {
        /// Whether the read includes connection notifications.
        notifications: bool,
    },
}

impl<'a> Scope<'a> {
    fn has_settings(self) -> bool {
        matches!(self, Self::Settings { .. } | Self::Everything { .. })
    }

    fn has_notifications(self) -> bool {
        matches!(self, Self::Settings { notifications: true, .. } | Self::Everything { notifications: true })
    }

    fn known(self) -> Option<&'a KnownDetails<'a>> {
        match self {
            Self::Settings { known, .. } => Some(known),
            Self::Health | Self::Path { .. } | Self::Everything { .. } => None,
        }
    }

    /// A load balancer from the run's earlier read.
    fn load_balancer(self, arn: &Arn) -> Option<&'a LoadBalancer> {
        let Self::Path { health } = self else { return None };
        health.load_balancers.get(arn)
    }

    /// A target group from the run's earlier read.
    fn group(self, group: &Arn) -> Option<&'a TargetGroup> {
        let Self::Path { health } = self else { return None };
        let mut groups = health.load_balancers.values().flat_map(|it| it.target_groups.iter().flatten());
        groups.find(|known| known.arn == *group)
    }

    /// The target group's name according to its tag, or its known lack of one; `None` if it is unknown.
    fn hostname(self, group: &Arn) -> Option<&'a Option<Hostname>> {
        self.known()?.hostname(group)
    }
}

impl Observer {
    /// The services and everything behind them. The longest chain has five calls, regardless of the number of services,
    /// load balancers and target groups. Each of these adds one call: listener rules of dual-stack load balancers
    /// before step 3, addresses in interface prefixes, and managed prefix lists in security group rules. If EC2 returns
    /// a service's zones only as ids, their names follow at the end.
    ///
    /// 1. the services; with settings, their connections and notifications;
    /// 2. their load balancers and listeners; with settings, principals and attributes;
    /// 3. target groups and the health of the targets; with settings, attributes, security groups, interfaces, subnets,
    ///    ACLs, routes, certificates of TLS listeners, idle timeouts of TCP listeners; with names, tags;
    /// 4. instances; with settings, the targets' interfaces; with names, subnets and routes of the VPCs of named target
    ///    groups; then, where an address was not found, the interfaces of its subnet;
    /// 5. with settings, all security group rules and the expiry of certificates; without, attributes if a zone lacks a
    ///    healthy target;
    /// 6. with settings, prefix lists that the rules name.
    pub async fn topology(&self, services: &BTreeSet<ServiceId>, scope: Scope<'_>) -> Topology {
        let settings = scope.has_settings();
        let connections = when(settings, self.connections(services));
        let notifications = when(scope.has_notifications(), self.notifications(services));
        let rest = async {
            let mut services = self.endpoint_services(services).await;
            let arns: BTreeSet<Arn> =
                services.iter().flat_map(BTreeMap::values).flat_map(|service| service.load_balancers.clone()).collect();
            let ids: Vec<ServiceId> = services.iter().flat_map(BTreeMap::keys).cloned().collect();
            let principals =
                when(settings, join_all(ids.into_iter().map(async |id| (self.allowed_principals(&id).await, id))));
            let (path, principals) = tokio::join!(self.path(&arns, scope), principals);
            if let Ok(services) = &mut services {
                self.name_zones(services, &path.load_balancers).await;
            }
            for (principals, id) in principals.into_iter().flatten() {
                if let Some(service) = services.as_mut().ok().and_then(|services| services.get_mut(&id)) {
                    service.principals = Some(principals);
                }
            }
            (services, path)
        };
        let (connections, notifications, (services, path)) = tokio::join!(connections, notifications, rest);
        let Behind { load_balancers, unlocated, network, certificates } = path;
        let services = Some(services);
        let mut topology = Topology {
            services,
            load_balancers,
            unlocated,
            notifications,
            network,
            certificates,
            ..Topology::default()
        };
        if let Some(connections) = connections {
            topology.set_connections(connections);
        }
        resolve(&mut topology).await;
        topology
    }

    /// A load balancer without an endpoint service, and everything behind it.
    pub async fn without_service(&self, load_balancer: &Arn) -> Topology {
        let scope = Scope::Everything { notifications: false };
        let path = self.path(&[load_balancer.clone()].into(), scope).await;
        let Behind { load_balancers, unlocated, network, certificates } = path;
        let mut topology = Topology { load_balancers, unlocated, network, certificates, ..Topology::default() };
        resolve(&mut topology).await;
        topology
    }

    /// The load balancers with everything behind them, and the network.
    async fn path(&self, arns: &BTreeSet<Arn>, scope: Scope<'_>) -> Behind {
        let settings = scope.has_settings();
        let (descriptions, mut load_balancers) =
            tokio::join!(self.descriptions(arns), self.with_listeners(arns, scope));
        for load_balancer in &mut load_balancers {
            load_balancer.description = match &descriptions {
                Ok(known) => {
                    known.get(&load_balancer.arn).cloned().ok_or_else(|| load_balancer_missing(&load_balancer.arn))
                }
                Err(error) => Err(error.clone()),
            };
        }
        let described = || load_balancers.iter().flat_map(|load_balancer| &load_balancer.description);
        let vpcs = described().map(|description| description.vpc.clone()).collect();
        let own: Vec<String> = described().flat_map(|description| description.security_groups.clone()).collect();
        let network = when(settings, self.network(arns.iter().map(interface_description).collect(), vpcs));
        let behind = self.behind_listeners(load_balancers, scope);
        let (mut network, (mut load_balancers, mut unlocated, is_asked)) = tokio::join!(network, behind);
        let subnets = network.as_ref().filter(|_| is_asked).map(|network| subnets_to_search(&load_balancers, network));
        match self.interfaces_in(subnets.unwrap_or_default()).await {
            Ok(interfaces) => locate_interfaces(&mut load_balancers, &interfaces),
            Err(error) => unlocated = unlocated.or(Some(error)),
        }
        let security_groups = security_groups_in(&load_balancers).cloned().chain(own).collect();
        let (rules, certificates) = tokio::join!(
            when(settings, self.rules_and_lists(security_groups)),
            when(settings, self.certificates(certificates_in(&load_balancers, &self.ports)))
        );
        if let (Some(network), Some(GroupRules { rules, unread_rules, prefix_lists })) = (&mut network, rules) {
            (network.rules, network.unread_rules, network.prefix_lists) = (rules, unread_rules, prefix_lists);
        }
        if !settings {
            self.attributes_where_needed(&mut load_balancers).await;
        }
        let load_balancers =
            load_balancers.into_iter().map(|load_balancer| (load_balancer.arn.clone(), load_balancer)).collect();
        Behind { load_balancers, unlocated, network, certificates: certificates.unwrap_or_default() }
    }

    /// Fills in the zone names of services for which EC2 returns only zone ids, from the subnets of their load
    /// balancers: one call. A zone without such a subnet keeps its id as its name.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ServiceConfiguration.html>
    async fn name_zones(
        &self,
        services: &mut BTreeMap<ServiceId, EndpointService>,
        load_balancers: &BTreeMap<Arn, LoadBalancer>,
    ) {
        let subnets_of = |service: &EndpointService| -> Option<BTreeSet<String>> {
            let zones = service
                .load_balancers
                .iter()
                .map(|arn| Some(&load_balancers.get(arn)?.description.as_ref().ok()?.zones));
            let zones: Vec<&Vec<Zone>> = zones.collect::<Option<_>>()?;
            Some(zones.into_iter().flatten().map(|zone| zone.subnet.clone()).collect())
        };
        let unnamed: Vec<(&mut EndpointService, BTreeSet<String>)> = services
            .values_mut()
            .filter(|service| service.zones.is_none() && !service.zone_ids.is_empty())
            .filter_map(|service| subnets_of(service).map(|subnets| (service, subnets)))
            .collect();
        let subnets = unnamed.iter().flat_map(|(_, subnets)| subnets).cloned().collect();
        let Ok(zones) = self.zones_of(subnets).await else { return };
        for (service, subnets) in unnamed {
            let known: Option<BTreeMap<&str, &str>> =
                subnets.iter().map(|subnet| zones.get(subnet).map(|(id, name)| (id.as_str(), name.as_str()))).collect();
            let named = |known: BTreeMap<&str, &str>| -> Vec<String> {
                let ids = service.zone_ids.iter().map(String::as_str);
                ids.map(|id| known.get(id).copied().unwrap_or(id).to_owned()).collect()
            };
            service.zones = known.map(named);
        }
    }

    /// The load balancers with their listeners and, with settings, attributes.
    async fn with_listeners(&self, arns: &BTreeSet<Arn>, scope: Scope<'_>) -> Vec<LoadBalancer> {
        let load_balancers = self.starting_anywhere(arns).into_iter().map(async |arn| {
            let cross_zone = async {
                match (scope.known().and_then(|known| known.cross_zone(arn)), scope.load_balancer(arn)) {
                    (Some(is_on), _) => Some(Ok(is_on)),
                    (None, Some(load_balancer)) => load_balancer.cross_zone.clone(),
                    (None, None) => when(scope.has_settings(), self.load_balancer_cross_zone(arn)).await,
                }
            };
            let (listeners, cross_zone) = tokio::join!(self.listeners(arn), cross_zone);
            LoadBalancer {
                arn: arn.clone(),
                description: Err(load_balancer_missing(arn)),
                target_groups: Ok(Vec::new()),
                listeners,
                cross_zone,
            }
        });
        join_all(load_balancers).await
    }

    /// The load balancers with their target groups and targets; EC2's error if it did not locate some of the targets,
    /// whose zones, addresses and security groups then stay unknown; and whether EC2 was asked for the interfaces of
    /// addresses.
    async fn behind_listeners(
        &self,
        mut load_balancers: Vec<LoadBalancer>,
        scope: Scope<'_>,
    ) -> (Vec<LoadBalancer>, Option<CallError>, bool) {
        self.read_rules(&mut load_balancers).await;
        let tags = self.read_groups(&mut load_balancers, scope).await;
        let (instances, interfaces, names) = tokio::join!(
            self.instances(instances_in(&load_balancers)),
            when(scope.has_settings(), self.interfaces_with(addresses_in(&load_balancers))),
            self.names(groups_in(&load_balancers).filter(|group| scope.hostname(&group.arn).is_none()), &tags)
        );
        if let Ok(instances) = &instances {
            locate_instances(&mut load_balancers, instances);
        }
        let is_asked = matches!(interfaces, Some(Ok(_)));
        if let Some(Ok(interfaces)) = &interfaces {
            locate_interfaces(&mut load_balancers, interfaces);
        }
        for group in groups_in_mut(&mut load_balancers) {
            group.hostname = match scope.hostname(&group.arn) {
                Some(hostname) => Some(Ok(hostname.clone())),
                None => names.get(&group.arn).cloned(),
            };
        }
        let unlocated = instances.err().or(interfaces.and_then(Result::err));
        (load_balancers, unlocated, is_asked)
    }

    /// Fills in the target groups to which rules on dbt's ports forward IPv4: one call per listener of a dual-stack
    /// load balancer. A load balancer without a readable description may be dual-stack.
    async fn read_rules(&self, load_balancers: &mut [LoadBalancer]) {
        let is_dual_stack = |it: &&mut LoadBalancer| it.description.as_ref().map_or(true, |it| it.dual_stack);
        let listeners =
            load_balancers.iter_mut().filter(is_dual_stack).flat_map(|it| it.listeners.iter_mut().flatten());
        let on_path = listeners.filter(|it| it.is_on(&self.ports));
        join_all(on_path.map(async |listener: &mut Listener| match self.forwarded_by_rules(&listener.arn).await {
            Ok(None) => {}
            Ok(Some(groups)) => listener.forwards_to = Ok(groups),
            Err(error) => listener.forwards_to = Err(error),
        }))
        .await;
    }

    /// Fills in the target groups on dbt's path, with their targets. Returns the tags of the groups whose details are
    /// unknown.
    async fn read_groups(&self, load_balancers: &mut [LoadBalancer], scope: Scope<'_>) -> Tags {
        let settings = scope.has_settings();
        let wanted: BTreeSet<Arn> = load_balancers.iter().flat_map(|it| it.forwards_to(&self.ports)).collect();
        let (each, hurried) = (groups_by_load_balancer(load_balancers, &self.ports), self.hurried());
        let details = each.iter().map(async |arn| {
            let attributes = async {
                match (scope.known().and_then(|known| known.attributes(arn)), scope.group(arn)) {
                    (Some(attributes), _) => Some(Ok(attributes.clone())),
                    (None, Some(group)) => group.attributes.clone(),
                    (None, None) => when(settings, hurried.target_group_attributes(arn)).await,
                }
            };
            let targets = async {
                match scope.group(arn).map(|group| &group.targets) {
                    Some(Ok(targets)) => Ok(targets.clone()),
                    _ => hurried.targets(arn).await,
                }
            };
            (arn, tokio::join!(targets, attributes))
        });
        let known = |group: &Arn| scope.known().and_then(|known| known.group(group));
        let undescribed = wanted.iter().filter(|group| known(group).is_none()).cloned().collect();
        let untagged = wanted.iter().filter(|group| scope.hostname(group).is_none()).cloned().collect();
        let tags = self.tags(&untagged);
        let of_listeners = when(settings, self.read_listener_details(load_balancers, scope));
        let (groups, details, tags, _) =
            tokio::join!(self.target_groups(&undescribed), join_all(details), tags, of_listeners);
        let groups = groups.map(|mut groups| {
            groups.extend(wanted.iter().filter_map(|group| Some((group.clone(), known(group)?.clone()))));
            for (arn, (targets, attributes)) in details {
                if let Some(group) = groups.get_mut(arn) {
                    (group.targets, group.attributes) = (targets, attributes);
                    group.own_tags = match (&tags, scope.group(arn)) {
                        _ if !untagged.contains(arn) => continue,
                        (Ok(tags), _) => Ok(tags.get(arn).cloned().unwrap_or_default()),
                        (Err(_), Some(before)) => before.own_tags.clone(),
                        (Err(error), None) => Err(error.clone()),
                    };
                }
            }
            groups
        });
        for load_balancer in load_balancers {
            load_balancer.target_groups = match (&load_balancer.listeners, &groups) {
                (Err(error), _) | (_, Err(error)) => Err(error.clone()),
                // A missing target group is an error: otherwise, its alert would resolve.
                (Ok(_), Ok(groups)) => load_balancer
                    .forwards_to(&self.ports)
                    .into_iter()
                    .map(|arn| groups.get(&arn).cloned().ok_or_else(|| group_missing(&arn)))
                    .collect(),
            };
        }
        tags
    }

    /// Fills in the additional certificates of TLS listeners and the idle timeouts of TCP listeners: one call per
    /// listener.
    async fn read_listener_details(&self, load_balancers: &mut [LoadBalancer], scope: Scope<'_>) {
        let listeners =
            load_balancers.iter_mut().flat_map(|load_balancer| load_balancer.listeners.iter_mut().flatten());
        let on_path = listeners.filter(|it| it.is_on(&self.ports));
        join_all(on_path.map(async |listener: &mut Listener| {
            let known = scope.known();
            if listener.certificate.is_some() {
                listener.certificates_by_name =
                    Some(match known.and_then(|known| known.certificates_by_name(&listener.arn)) {
                        Some(certificates) => Ok(certificates.clone()),
                        None => self.certificates_by_name(&listener.arn).await,
                    });
            }
            if listener.has_idle_timeout() {
                listener.idle_timeout = Some(match known.and_then(|known| known.idle_timeout(&listener.arn)) {
                    Some(seconds) => Ok(Some(seconds)),
                    None => self.idle_timeout(&listener.arn).await,
                });
            }
        }))
        .await;
    }

    /// The stored `topology` of an earlier run, with current target health and with the names of target groups resolved
    /// again: one call per target group, and nothing else.
    pub async fn health(&self, mut topology: Topology) -> Topology {
        let load_balancers = self.starting_anywhere(topology.load_balancers.values().cloned());
        let (groups, hurried) = (groups_by_load_balancer(&load_balancers, &self.ports), self.hurried());
        let read = join_all(groups.into_iter().map(async |arn| (hurried.targets(&arn).await, arn)));
        let (read, answers) = tokio::join!(read, resolve_names(&mut topology));
        fill_in(&mut topology, &answers);
        let read: BTreeMap<Arn, Observed<Vec<Target>>> =
            read.into_iter().map(|(targets, arn)| (arn, targets)).collect();
        for group in topology.target_groups_mut() {
            if let Some(targets) = read.get(&group.arn) {
                let before = std::mem::replace(&mut group.targets, targets.clone());
                locate_as_before(group, &before);
            }
        }
        topology
    }

    /// Reads the attributes if a target fails or a zone lacks a healthy one, because they decide the severity. Without
    /// any healthy target, they make no difference.
    async fn attributes_where_needed(&self, load_balancers: &mut [LoadBalancer]) {
        let needed = load_balancers.iter_mut().map(async |load_balancer: &mut LoadBalancer| {
            let before = load_balancer.clone();
            let groups = load_balancer.target_groups.iter_mut().flatten();
            let lacks_some =
                |group: &TargetGroup| before.coverage(group) != Coverage::Full || has_failing_target(group);
            let groups: Vec<&mut TargetGroup> =
                groups.filter(|group| has_healthy_target(group) && lacks_some(group)).collect();
            if groups.is_empty() {
                return;
            }
            let of_groups = join_all(groups.into_iter().map(async |group| {
                replace_if_read(&mut group.attributes, self.target_group_attributes(&group.arn).await);
            }));
            let (of_load_balancer, _) = tokio::join!(self.load_balancer_cross_zone(&before.arn), of_groups);
            replace_if_read(&mut load_balancer.cross_zone, of_load_balancer);
        });
        join_all(needed).await;
    }

    /// `topology`, after another read of the cross-zone attributes that `plan` changes.
    pub async fn cross_zone_again(&self, mut topology: Topology, plan: &Plan) -> Topology {
        let reads = topology.load_balancers.values_mut().map(async |load_balancer: &mut LoadBalancer| {
            let groups = load_balancer.target_groups.iter_mut().flatten();
            let changed = groups.filter(|group| plan.cross_zone_deferred.contains(&group.arn));
            join_all(changed.map(async |group: &mut TargetGroup| {
                group.attributes = Some(self.target_group_attributes(&group.arn).await);
            }))
            .await;
            if plan.cross_zone_on.contains(&load_balancer.arn) {
                load_balancer.cross_zone = Some(self.load_balancer_cross_zone(&load_balancer.arn).await);
            }
        });
        join_all(reads).await;
        topology
    }
}

/// The target groups, ordered by load balancer: if time runs out, most services have been read completely.
fn groups_by_load_balancer(load_balancers: &[LoadBalancer], ports: &BTreeSet<u16>) -> Vec<Arn> {
    let mut seen = BTreeSet::new();
    let groups = load_balancers.iter().flat_map(|load_balancer| load_balancer.forwards_to(ports));
    groups.filter(|group| seen.insert(group.clone())).collect()
}

fn groups_in(load_balancers: &[LoadBalancer]) -> impl Iterator<Item = &TargetGroup> {
    load_balancers.iter().flat_map(|load_balancer| load_balancer.target_groups.iter().flatten())
}

fn groups_in_mut(load_balancers: &mut [LoadBalancer]) -> impl Iterator<Item = &mut TargetGroup> {
    load_balancers.iter_mut().flat_map(|load_balancer| load_balancer.target_groups.iter_mut().flatten())
}

fn targets_in(load_balancers: &[LoadBalancer]) -> impl Iterator<Item = &Target> {
    groups_in(load_balancers).flat_map(|group| group.targets.iter().flatten())
}

fn instances_in(load_balancers: &[LoadBalancer]) -> BTreeSet<String> {
    targets_in(load_balancers).map(|target| &target.id).filter(|id| id.starts_with("i-")).cloned().collect()
}

/// The addresses of targets registered by address.
fn addresses_in(load_balancers: &[LoadBalancer]) -> BTreeSet<IpAddr> {
    targets_in(load_balancers).filter_map(|target| target.id.parse().ok()).collect()
}

fn security_groups_in(load_balancers: &[LoadBalancer]) -> impl Iterator<Item = &String> {
    targets_in(load_balancers).flat_map(|target| target.security_groups.iter().flatten())
}

fn certificates_in(load_balancers: &[LoadBalancer], ports: &BTreeSet<u16>) -> BTreeSet<String> {
    let listeners = load_balancers.iter().flat_map(|load_balancer| load_balancer.listeners.iter().flatten());
    listeners.filter(|listener| listener.is_on(ports)).flat_map(Listener::certificates).map(str::to_owned).collect()
}

/// Fills in the zone, subnet, address and security groups of instance targets.
fn locate_instances(load_balancers: &mut [LoadBalancer], instances: &BTreeMap<String, Instance>) {
    let targets = groups_in_mut(load_balancers).flat_map(|group| {
        let is_ipv6 = group.is_ipv6;
        group.targets.iter_mut().flatten().map(move |target| (target, is_ipv6))
    });
    for (target, is_ipv6) in targets {
        let instance = instances.get(&target.id);
        target.is_terminated = target.id.starts_with("i-") && instance.is_none_or(|instance| instance.is_terminated);
        if let Some(instance) = instance {
            target.zone.clone_from(&instance.zone);
            target.subnet.clone_from(&instance.subnet);
            // An instance's IPv4 address does not apply in an IPv6 target group.
            target.address = instance.addresses.iter().copied().find(|address| address.is_ipv6() == is_ipv6);
            target.security_groups = Some(instance.security_groups.clone());
            target.interfaces.clone_from(&instance.interfaces);
        }
    }
}

/// Fills in the locations of instance targets as they were `before`. For a target registered by address, ELB returns
/// the location.
fn locate_as_before(group: &mut TargetGroup, before: &Observed<Vec<Target>>) {
    for target in group.targets.iter_mut().flatten().filter(|target| target.address.is_none()) {
        if let Some(known) = before.iter().flatten().find(|known| known.id == target.id) {
            target.zone.clone_from(&known.zone);
            target.address = known.address;
        }
    }
}

/// Fills in the security groups of targets registered by address. Because several VPCs can contain the same address,
/// only interfaces in the target group's VPC count, and targets outside it (`all`) are skipped.
fn locate_interfaces(load_balancers: &mut [LoadBalancer], interfaces: &[TargetInterface]) {
    for group in groups_in_mut(load_balancers) {
        let Some(vpc) = &group.vpc else { continue };
        for target in group.targets.iter_mut().flatten() {
            let Some(address) = unlocated_address(target) else { continue };
            let mut in_vpc = interfaces.iter().filter(|interface| interface.vpc == *vpc);
            if let Some(interface) = in_vpc.find(|interface| interface.has(address)) {
                target.security_groups = Some(interface.security_groups.clone());
                target.interfaces = [&interface.id].into_iter().chain(&interface.instance).cloned().collect();
            }
        }
    }
}

/// The address of a target that is registered by address in the VPC, and whose interface was not found.
fn unlocated_address(target: &Target) -> Option<IpAddr> {
    let is_sought = target.zone.as_deref() != Some("all") && target.security_groups.is_none();
    target.id.parse().ok().filter(|_| is_sought)
}

/// The subnets that contain the addresses of targets whose interfaces were not found.
fn subnets_to_search(load_balancers: &[LoadBalancer], network: &Network) -> BTreeSet<String> {
    let addresses = groups_in(load_balancers).flat_map(|group| {
        let targets = group.targets.iter().flatten().filter(|target| !target.is_being_removed());
        targets.filter_map(unlocated_address).map(move |address| (&group.vpc, address))
    });
    let subnet_of = |(vpc, address): (&Option<String>, IpAddr)| {
        let mut subnets = network.subnets.iter().flatten().filter(|subnet| Some(&subnet.vpc) == vpc.as_ref());
        subnets.find(|subnet| subnet.cidrs.iter().any(|cidr| cidr.contains(&address))).map(|subnet| subnet.id.clone())
    };
    addresses.filter_map(subnet_of).collect()
}

/// Everything behind the endpoint services.
struct Behind {
    load_balancers: BTreeMap<Arn, LoadBalancer>,
    unlocated: Option<CallError>,
    network: Option<Network>,
    certificates: BTreeMap<String, Observed<Certificate>>,
}

fn has_healthy_target(group: &TargetGroup) -> bool {
    group.targets.iter().flatten().any(Target::is_healthy)
}

fn has_failing_target(group: &TargetGroup) -> bool {
    group.targets.iter().flatten().any(|target| target.health.is_failing())
}

/// Replaces `known` with `read`, unless that would replace a value with an error.
fn replace_if_read<T>(known: &mut Option<Observed<T>>, read: Observed<T>) {
    if read.is_ok() || !matches!(known, Some(Ok(_))) {
        *known = Some(read);
    }
}

/// Makes the read if `wanted`.
async fn when<T>(wanted: bool, read: impl Future<Output = T>) -> Option<T> {
    if wanted { Some(read.await) } else { None }
}

fn group_missing(group: &Arn) -> CallError {
    malformed_response("elasticloadbalancing:DescribeTargetGroups", &format!("{group} is not in it"))
}

fn load_balancer_missing(arn: &Arn) -> CallError {
    malformed_response("elasticloadbalancing:DescribeLoadBalancers", &format!("{arn} is not in it"))
}
