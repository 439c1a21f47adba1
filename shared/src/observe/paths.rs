//! One pass over the paths of all endpoint services: nothing is read twice, and no call waits for one it does not need.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::{Observer, untold};
use crate::ids::{Arn, ServiceId};
use crate::snapshot::{Coverage, LoadBalancer, Network, Paths, Seen, TargetGroup, Unseen, interface_description};

/// What to read of the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The health of the targets; the cross-zone attributes only where a zone lacks a healthy one.
    Health,
    /// Everything. The connection notifications only if they are to be checked.
    Settings {
        /// Whether they are.
        notifications: bool,
    },
}

impl Observer {
    /// The services and what is behind them, in a chain of four calls at the most (five to tell what a zone without a
    /// healthy target means), however many services, load balancers and target groups there are:
    ///
    /// 1. the services; with settings, their connections and notifications;
    /// 2. their load balancers and listeners; with settings, principals and attributes;
    /// 3. target groups and the health of the targets; with settings, attributes, security groups, interfaces, subnets,
    ///    ACLs, routes;
    /// 4. where instances are; with settings, prefix lists;
    /// 5. without settings, attributes where they are needed.
    pub async fn paths(&self, services: &BTreeSet<ServiceId>, depth: Depth) -> Paths {
        let settings = depth != Depth::Health;
        let connections = when(settings, self.connections(services));
        let notifications = when(depth == Depth::Settings { notifications: true }, self.notifications(services));
        let rest = async {
            let mut services = self.endpoint_services(services).await;
            let arns: BTreeSet<Arn> =
                services.iter().flat_map(BTreeMap::values).flat_map(|own| own.load_balancers.clone()).collect();
            let ids: Vec<ServiceId> = services.iter().flat_map(BTreeMap::keys).cloned().collect();
            let principals =
                when(settings, join_all(ids.into_iter().map(async |id| (self.allowed_principals(&id).await, id))));
            let (balancers, principals) = tokio::join!(self.behind(&arns, settings), principals);
            for (principals, id) in principals.into_iter().flatten() {
                if let Some(service) = services.as_mut().ok().and_then(|services| services.get_mut(&id)) {
                    service.principals = Some(principals);
                }
            }
            (services, balancers)
        };
        let (connections, notifications, (services, (load_balancers, network, incomplete))) =
            tokio::join!(connections, notifications, rest);
        Paths { services, load_balancers, connections, notifications, network, incomplete }
    }

    /// Everything from the load balancers on.
    async fn behind(
        &self,
        arns: &BTreeSet<Arn>,
        settings: bool,
    ) -> (BTreeMap<Arn, LoadBalancer>, Option<Network>, Option<Unseen>) {
        let described = async {
            let descriptions = self.descriptions(arns).await;
            let known = || descriptions.iter().flat_map(BTreeMap::iter);
            let network = when(
                settings,
                self.network(
                    known().flat_map(|(_, own)| own.security_groups.clone()).collect(),
                    arns.iter().map(interface_description).collect(),
                    known().map(|(_, own)| own.vpc.clone()).collect(),
                ),
            );
            let network = network.await;
            (descriptions, network)
        };
        let forwarding = async {
            let mut balancers = self.forwarding(arns, settings).await;
            let incomplete = self.place_instances(&mut balancers).await.err();
            (balancers, incomplete)
        };
        let ((descriptions, network), (mut balancers, incomplete)) = tokio::join!(described, forwarding);
        for balancer in &mut balancers {
            balancer.description = match &descriptions {
                Ok(known) => known.get(&balancer.arn).cloned().ok_or_else(|| not_described(&balancer.arn)),
                Err(unseen) => Err(unseen.clone()),
            };
        }
        if !settings {
            self.cross_zone_where_needed(&mut balancers).await;
        }
        let balancers = balancers.into_iter().map(|balancer| (balancer.arn.clone(), balancer)).collect();
        (balancers, network, incomplete)
    }

    /// The load balancers with their listeners, and the target groups of those that serve dbt.
    async fn forwarding(&self, arns: &BTreeSet<Arn>, settings: bool) -> Vec<LoadBalancer> {
        let balancers = arns.iter().map(async |arn| {
            let cross_zone = when(settings, self.load_balancer_cross_zone(arn));
            let (listeners, cross_zone) = tokio::join!(self.listeners(arn), cross_zone);
            LoadBalancer {
                arn: arn.clone(),
                description: Err(not_described(arn)),
                target_groups: Ok(Vec::new()),
                listeners,
                cross_zone,
            }
        });
        let mut balancers = join_all(balancers).await;
        let wanted: BTreeSet<Arn> = balancers.iter().flat_map(LoadBalancer::forwards_to).collect();
        let details = wanted.iter().map(async |arn| {
            let cross_zone = when(settings, self.target_group_cross_zone(arn));
            (arn, tokio::join!(self.targets(arn), cross_zone))
        });
        let (groups, details) = tokio::join!(self.target_groups(&wanted), join_all(details));
        let groups = groups.map(|mut groups| {
            for (arn, (targets, cross_zone)) in details {
                if let Some(group) = groups.get_mut(arn) {
                    (group.targets, group.cross_zone) = (targets, cross_zone);
                }
            }
            groups
        });
        for balancer in &mut balancers {
            balancer.target_groups = match (&balancer.listeners, &groups) {
                (Err(unseen), _) | (_, Err(unseen)) => Err(unseen.clone()),
                // Passing over a group would make its alert look resolved.
                (Ok(_), Ok(groups)) => balancer
                    .forwards_to()
                    .into_iter()
                    .map(|arn| groups.get(&arn).cloned().ok_or_else(|| not_told(&arn)))
                    .collect(),
            };
        }
        balancers
    }

    /// Completes targets that are instances with what EC2 knows of them.
    async fn place_instances(&self, balancers: &mut [LoadBalancer]) -> Seen<()> {
        let targets = || {
            let groups = balancers.iter().flat_map(|balancer| balancer.target_groups.iter().flatten());
            groups.flat_map(|group| group.targets.iter().flatten())
        };
        let ids: BTreeSet<String> =
            targets().map(|target| &target.id).filter(|id| id.starts_with("i-")).cloned().collect();
        let instances = self.instances(ids).await?;
        let groups = balancers.iter_mut().flat_map(|balancer| balancer.target_groups.iter_mut().flatten());
        for target in groups.flat_map(|group| group.targets.iter_mut().flatten()) {
            if let Some(instance) = instances.get(&target.id) {
                target.zone.clone_from(&instance.zone);
                target.subnet.clone_from(&instance.subnet);
                target.address = instance.address;
            }
        }
        Ok(())
    }

    /// Reads the attributes that decide what it means that a zone has no healthy target, where one has none.
    async fn cross_zone_where_needed(&self, balancers: &mut [LoadBalancer]) {
        let needed = balancers.iter_mut().map(async |balancer: &mut LoadBalancer| {
            let seen = balancer.clone();
            let groups = balancer.target_groups.iter_mut().flatten();
            let groups: Vec<&mut TargetGroup> = groups.filter(|group| seen.coverage(group) != Coverage::Full).collect();
            if groups.is_empty() {
                return;
            }
            let of_groups = join_all(groups.into_iter().map(async |group| {
                group.cross_zone = Some(self.target_group_cross_zone(&group.arn).await);
            }));
            let (of_balancer, _) = tokio::join!(self.load_balancer_cross_zone(&seen.arn), of_groups);
            balancer.cross_zone = Some(of_balancer);
        });
        join_all(needed).await;
    }
}

impl Observer {
    /// `paths` with the cross-zone attributes read again that were just changed: nothing else is read twice.
    pub async fn cross_zone_again(&self, mut paths: Paths, load_balancers: &[Arn], target_groups: &[Arn]) -> Paths {
        let balancers = paths.load_balancers.values_mut().map(async |balancer: &mut LoadBalancer| {
            let groups = balancer.target_groups.iter_mut().flatten();
            let changed = groups.filter(|group| target_groups.contains(&group.arn));
            join_all(changed.map(async |group: &mut TargetGroup| {
                group.cross_zone = Some(self.target_group_cross_zone(&group.arn).await);
            }))
            .await;
            if load_balancers.contains(&balancer.arn) {
                balancer.cross_zone = Some(self.load_balancer_cross_zone(&balancer.arn).await);
            }
        });
        join_all(balancers).await;
        paths
    }
}

/// Does what is only sometimes to be done.
async fn when<T>(wanted: bool, read: impl Future<Output = T>) -> Option<T> {
    if wanted { Some(read.await) } else { None }
}

fn not_told(group: &Arn) -> Unseen {
    untold("elasticloadbalancing:DescribeTargetGroups", &format!("{group} is not in it"))
}

fn not_described(arn: &Arn) -> Unseen {
    untold("elasticloadbalancing:DescribeLoadBalancers", &format!("{arn} is not in it"))
}
