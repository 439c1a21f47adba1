//! Reads everything behind the endpoint services. Nothing is read twice, and no call waits for one that it does not depend
//! on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::future::join_all;
use guard_core::ids::{Arn, ServiceId};
use guard_core::plan::Plan;
use guard_core::snapshot::{
    CallError, Certificate, Coverage, Listener, LoadBalancer, Network, Observed, Target, TargetGroup, Topology,
    interface_description,
};

use super::Observer;
use super::hostnames::{Tags, fill_in, resolve, resolve_names};
use super::network::{Instance, TargetInterface};
use crate::errors::malformed_response;

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The health of the targets; cross-zone attributes only where a zone lacks a healthy target.
    Health,
    /// The settings; connection notifications only if they are checked. The names of target groups are left to
    /// [`Observer::name_target_groups`].
    Settings {
        /// Whether connection notifications are checked.
        notifications: bool,
    },
    /// Everything.
    Everything {
        /// Whether connection notifications are checked.
        notifications: bool,
    },
}

impl Scope {
    fn has_settings(self) -> bool {
        self != Self::Health
    }

    fn has_notifications(self) -> bool {
        matches!(self, Self::Settings { notifications } | Self::Everything { notifications } if notifications)
    }

    fn has_names(self) -> bool {
        !matches!(self, Self::Settings { .. })
    }
}

impl Observer {
    /// The services and what is behind them. The longest chain of calls is five, regardless of the number of services, load
    /// balancers and target groups; with names of managed prefix lists in security group rules, six:
    ///
    /// 1. the services; with settings, their connections and notifications;
    /// 2. their load balancers and listeners; with settings, principals and attributes;
    /// 3. target groups and the health of the targets; with settings, attributes, security groups, interfaces, subnets,
    ///    ACLs, routes, certificates of TLS listeners; with names, tags;
    /// 4. instances; with settings, the targets' interfaces; with names, subnets and routes of the VPCs of named target
    ///    groups;
    /// 5. with settings, the rules of all security groups, and when certificates expire; without, attributes if a zone lacks a healthy
    ///    target;
    /// 6. with settings, prefix lists that the rules name.
    pub async fn topology(&self, services: &BTreeSet<ServiceId>, scope: Scope) -> Topology {
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
            for (principals, id) in principals.into_iter().flatten() {
                if let Some(service) = services.as_mut().ok().and_then(|services| services.get_mut(&id)) {
                    service.principals = Some(principals);
                }
            }
            (services, path)
        };
        let (connections, notifications, (services, path)) = tokio::join!(connections, notifications, rest);
        let Behind { load_balancers, network, certificates } = path;
        let services = Some(services);
        let mut topology = Topology {
            services,
            load_balancers,
            connections,
            notifications,
            network,
            certificates,
            ..Topology::default()
        };
        if scope.has_names() {
            resolve(&mut topology).await;
        }
        topology
    }

    /// A load balancer without an endpoint service, and everything behind it.
    pub async fn without_service(&self, load_balancer: &Arn) -> Topology {
        let scope = Scope::Everything { notifications: false };
        let Behind { load_balancers, network, certificates } = self.path(&[load_balancer.clone()].into(), scope).await;
        let mut topology = Topology { load_balancers, network, certificates, ..Topology::default() };
        resolve(&mut topology).await;
        topology
    }

    /// The load balancers with everything behind them, and the network.
    async fn path(&self, arns: &BTreeSet<Arn>, scope: Scope) -> Behind {
        let settings = scope.has_settings();
        let described = async {
            let descriptions = self.descriptions(arns).await;
            let known = || descriptions.iter().flat_map(BTreeMap::iter);
            let network = when(
                settings,
                self.network(
                    arns.iter().map(interface_description).collect(),
                    known().map(|(_, description)| description.vpc.clone()).collect(),
                ),
            );
            let network = network.await;
            (descriptions, network)
        };
        let forwarding = async {
            let (mut load_balancers, tags) = self.forwarding(arns, scope).await;
            // If that fails, the zones and addresses of instances stay unknown.
            let (instances, interfaces, names) = tokio::join!(
                self.instances(instances_in(&load_balancers)),
                when(settings, self.interfaces_with(addresses_in(&load_balancers))),
                async {
                    match tags {
                        Some(tags) => self.names(groups_in(&load_balancers), tags).await,
                        None => BTreeMap::new(),
                    }
                }
            );
            if let Ok(instances) = &instances {
                locate_instances(&mut load_balancers, instances);
            }
            if let Some(Ok(interfaces)) = &interfaces {
                locate_interfaces(&mut load_balancers, interfaces);
            }
            for group in groups_in_mut(&mut load_balancers) {
                group.hostname = names.get(&group.arn).cloned();
            }
            load_balancers
        };
        let ((descriptions, mut network), mut load_balancers) = tokio::join!(described, forwarding);
        let own = descriptions.iter().flat_map(BTreeMap::values).flat_map(|description| &description.security_groups);
        let security_groups = security_groups_in(&load_balancers).chain(own).cloned().collect();
        let (rules, certificates) = tokio::join!(
            when(settings, self.rules_and_lists(security_groups)),
            when(settings, self.certificates(certificates_in(&load_balancers)))
        );
        if let (Some(network), Some((rules, prefix_lists))) = (&mut network, rules) {
            (network.rules, network.prefix_lists) = (rules, prefix_lists);
        }
        for load_balancer in &mut load_balancers {
            load_balancer.description = match &descriptions {
                Ok(known) => {
                    known.get(&load_balancer.arn).cloned().ok_or_else(|| load_balancer_missing(&load_balancer.arn))
                }
                Err(error) => Err(error.clone()),
            };
        }
        if !settings {
            self.cross_zone_where_needed(&mut load_balancers).await;
        }
        let load_balancers =
            load_balancers.into_iter().map(|load_balancer| (load_balancer.arn.clone(), load_balancer)).collect();
        Behind { load_balancers, network, certificates: certificates.unwrap_or_default() }
    }

    /// The load balancers with their listeners, and the target groups of those that serve dbt; with names, the groups' tags.
    async fn forwarding(&self, arns: &BTreeSet<Arn>, scope: Scope) -> (Vec<LoadBalancer>, Option<Tags>) {
        let settings = scope.has_settings();
        let load_balancers = self.starting_anywhere(arns).into_iter().map(async |arn| {
            let cross_zone = when(settings, self.load_balancer_cross_zone(arn));
            let (listeners, cross_zone) = tokio::join!(self.listeners(arn), cross_zone);
            LoadBalancer {
                arn: arn.clone(),
                description: Err(load_balancer_missing(arn)),
                target_groups: Ok(Vec::new()),
                listeners,
                cross_zone,
            }
        });
        let mut load_balancers = join_all(load_balancers).await;
        let wanted: BTreeSet<Arn> = load_balancers.iter().flat_map(LoadBalancer::forwards_to).collect();
        let details = self.starting_anywhere(&wanted).into_iter().map(async |arn| {
            let attributes = when(settings, self.target_group_attributes(arn));
            (arn, tokio::join!(self.targets(arn), attributes))
        });
        let tags = when(scope.has_names(), self.hostname_tags(&wanted));
        let certificates = when(settings, self.read_certificates_by_name(&mut load_balancers));
        let (groups, details, tags, _) =
            tokio::join!(self.target_groups(&wanted), join_all(details), tags, certificates);
        let groups = groups.map(|mut groups| {
            for (arn, (targets, attributes)) in details {
                if let Some(group) = groups.get_mut(arn) {
                    group.targets = targets;
                    if let Some(attributes) = attributes {
                        group.set_attributes(attributes);
                    }
                }
            }
            groups
        });
        for load_balancer in &mut load_balancers {
            load_balancer.target_groups = match (&load_balancer.listeners, &groups) {
                (Err(error), _) | (_, Err(error)) => Err(error.clone()),
                // A missing group is an error. Without it, its alert would resolve.
                (Ok(_), Ok(groups)) => load_balancer
                    .forwards_to()
                    .into_iter()
                    .map(|arn| groups.get(&arn).cloned().ok_or_else(|| group_missing(&arn)))
                    .collect(),
            };
        }
        (load_balancers, tags)
    }

    /// Fills in the certificates that TLS listeners have for names: one call per listener.
    async fn read_certificates_by_name(&self, load_balancers: &mut [LoadBalancer]) {
        let listeners =
            load_balancers.iter_mut().flat_map(|load_balancer| load_balancer.listeners.iter_mut().flatten());
        let with_certificate = listeners.filter(|listener| listener.certificate.is_some());
        join_all(with_certificate.map(async |listener: &mut Listener| {
            listener.certificates_by_name = Some(self.certificates_by_name(&listener.arn).await);
        }))
        .await;
    }

    /// `topology`, as an earlier run stored it, with the health of the targets read now, and the names of target groups
    /// resolved now: one call per target group, and nothing else.
    pub async fn health(&self, mut topology: Topology) -> Topology {
        let groups = self.starting_anywhere(topology.target_groups());
        let read = join_all(groups.into_iter().map(async |arn| (self.targets(&arn).await, arn)));
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

    /// Reads the cross-zone attributes where a zone lacks a healthy target, because they decide how severe that is.
    async fn cross_zone_where_needed(&self, load_balancers: &mut [LoadBalancer]) {
        let needed = load_balancers.iter_mut().map(async |load_balancer: &mut LoadBalancer| {
            let before = load_balancer.clone();
            let groups = load_balancer.target_groups.iter_mut().flatten();
            let groups: Vec<&mut TargetGroup> =
                groups.filter(|group| before.coverage(group) != Coverage::Full).collect();
            if groups.is_empty() {
                return;
            }
            let of_groups = join_all(groups.into_iter().map(async |group| {
                group.set_attributes(self.target_group_attributes(&group.arn).await);
            }));
            let (of_load_balancer, _) = tokio::join!(self.load_balancer_cross_zone(&before.arn), of_groups);
            load_balancer.cross_zone = Some(of_load_balancer);
        });
        join_all(needed).await;
    }

    /// `topology`, with the cross-zone attributes that `plan` changes read again.
    pub async fn cross_zone_again(&self, mut topology: Topology, plan: &Plan) -> Topology {
        let reads = topology.load_balancers.values_mut().map(async |load_balancer: &mut LoadBalancer| {
            let groups = load_balancer.target_groups.iter_mut().flatten();
            let changed = groups.filter(|group| plan.cross_zone_deferred.contains(&group.arn));
            join_all(changed.map(async |group: &mut TargetGroup| {
                group.set_attributes(self.target_group_attributes(&group.arn).await);
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

/// The addresses of targets that are registered by address.
fn addresses_in(load_balancers: &[LoadBalancer]) -> BTreeSet<IpAddr> {
    targets_in(load_balancers).filter_map(|target| target.id.parse().ok()).collect()
}

fn security_groups_in(load_balancers: &[LoadBalancer]) -> impl Iterator<Item = &String> {
    targets_in(load_balancers).flat_map(|target| target.security_groups.iter().flatten())
}

fn certificates_in(load_balancers: &[LoadBalancer]) -> BTreeSet<String> {
    let listeners = load_balancers.iter().flat_map(|load_balancer| load_balancer.listeners.iter().flatten());
    listeners.flat_map(Listener::certificates).map(str::to_owned).collect()
}

/// Fills in the zone, subnet, address and security groups of targets that are instances.
fn locate_instances(load_balancers: &mut [LoadBalancer], instances: &BTreeMap<String, Instance>) {
    let targets = groups_in_mut(load_balancers).flat_map(|group| {
        let is_ipv6 = group.is_ipv6;
        group.targets.iter_mut().flatten().map(move |target| (target, is_ipv6))
    });
    for (target, is_ipv6) in targets {
        if let Some(instance) = instances.get(&target.id) {
            target.zone.clone_from(&instance.zone);
            target.subnet.clone_from(&instance.subnet);
            // The IPv4 address says nothing of a group that is reached by IPv6.
            target.address = instance.address.filter(|address| address.is_ipv6() == is_ipv6);
            target.security_groups = Some(instance.security_groups.clone());
        }
    }
}

/// Fills in where the instances among the targets are, as it was `before`. Of an address, ELB says it itself.
fn locate_as_before(group: &mut TargetGroup, before: &Observed<Vec<Target>>) {
    for target in group.targets.iter_mut().flatten().filter(|target| target.address.is_none()) {
        if let Some(known) = before.iter().flatten().find(|known| known.id == target.id) {
            target.zone.clone_from(&known.zone);
            target.address = known.address;
        }
    }
}

/// Fills in the security groups of targets that are registered by address. The same address can exist in several VPCs: only
/// that of the target group counts, and not for targets outside it (`all`).
fn locate_interfaces(load_balancers: &mut [LoadBalancer], interfaces: &[TargetInterface]) {
    for group in groups_in_mut(load_balancers) {
        let Some(vpc) = &group.vpc else { continue };
        let in_vpc = |target: &&mut Target| target.zone.as_deref() != Some("all");
        for target in group.targets.iter_mut().flatten().filter(in_vpc) {
            let Ok(address) = target.id.parse::<IpAddr>() else { continue };
            let interface =
                interfaces.iter().find(|interface| interface.vpc == *vpc && interface.addresses.contains(&address));
            target.security_groups = interface.map(|interface| interface.security_groups.clone());
        }
    }
}

/// What is behind the endpoint services.
struct Behind {
    load_balancers: BTreeMap<Arn, LoadBalancer>,
    network: Option<Network>,
    certificates: BTreeMap<String, Observed<Certificate>>,
}

/// Makes the read if it is wanted.
async fn when<T>(wanted: bool, read: impl Future<Output = T>) -> Option<T> {
    if wanted { Some(read.await) } else { None }
}

fn group_missing(group: &Arn) -> CallError {
    malformed_response("elasticloadbalancing:DescribeTargetGroups", &format!("{group} is not in it"))
}

fn load_balancer_missing(arn: &Arn) -> CallError {
    malformed_response("elasticloadbalancing:DescribeLoadBalancers", &format!("{arn} is not in it"))
}
