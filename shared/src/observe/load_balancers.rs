//! The path behind an endpoint service: load balancers, the target groups they forward to, and what a run asks of them.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::Filter;
use aws_sdk_elasticloadbalancingv2::types as elb;

use super::connections::FILTER_VALUES;
use super::{Depth, Observer, side_by_side, unseen, untold};
use crate::ids::{Arn, Malformed, ServiceId};
use crate::snapshot::{CrossZoneOverride, EndpointService, Health, LoadBalancer, Seen, Target, TargetGroup, Unseen};

const DESCRIBE_SERVICES: &str = "ec2:DescribeVpcEndpointServiceConfigurations";
const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";

/// The endpoint services, and each load balancer behind them once, however many services share it.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The services EC2 knows, of those asked for.
    pub services: Seen<BTreeMap<ServiceId, EndpointService>>,
    load_balancers: BTreeMap<Arn, LoadBalancer>,
}

impl Paths {
    /// The load balancers behind `service`.
    ///
    /// # Errors
    /// [`Unseen`] if the services could not be described, or if EC2 does not know this one.
    pub fn behind(&self, service: &ServiceId) -> Seen<Vec<LoadBalancer>> {
        let services = self.services.as_ref().map_err(Clone::clone)?;
        let service = services.get(service).ok_or_else(|| unknown_service(service))?;
        Ok(service.load_balancers.iter().filter_map(|arn| self.load_balancers.get(arn).cloned()).collect())
    }

    /// Every load balancer behind any of the services, once.
    pub fn load_balancers(&self) -> impl Iterator<Item = &LoadBalancer> {
        self.load_balancers.values()
    }

    /// The allowed principals of `service`.
    ///
    /// # Errors
    /// [`Unseen`] if they could not be read, or if EC2 does not know this service.
    pub fn principals(&self, service: &ServiceId) -> Seen<Vec<String>> {
        let services = self.services.as_ref().map_err(Clone::clone)?;
        let service = services.get(service).ok_or_else(|| unknown_service(service))?;
        service
            .principals
            .clone()
            .unwrap_or_else(|| Err(untold(DESCRIBE_SERVICES, "its permissions were not asked for")))
    }

    /// The reads that failed.
    pub fn unseen(&self) -> impl Iterator<Item = &Unseen> {
        let of_services =
            self.services.iter().flat_map(BTreeMap::values).filter_map(|service| failed(service.principals.as_ref()));
        let of_balancers = self.load_balancers.values().flat_map(|balancer| {
            let groups = balancer.target_groups.iter().flatten();
            let groups = groups
                .flat_map(|group| failed(group.targets.as_ref()).into_iter().chain(failed(group.cross_zone.as_ref())));
            balancer.target_groups.as_ref().err().into_iter().chain(failed(balancer.cross_zone.as_ref())).chain(groups)
        });
        self.services.as_ref().err().into_iter().chain(of_services).chain(of_balancers)
    }

    /// The `Name` tag of `service`, if it was seen.
    #[must_use]
    pub fn name(&self, service: &ServiceId) -> Option<&str> {
        self.services.as_ref().ok()?.get(service)?.name.as_deref()
    }
}

impl Observer {
    /// The configurations of `services`, all pages: one call per 200 services and page. One that EC2 does not know is
    /// absent.
    ///
    /// # Errors
    /// [`Unseen`] if any page could not be read.
    pub async fn endpoint_services(
        &self,
        services: &BTreeSet<ServiceId>,
    ) -> Seen<BTreeMap<ServiceId, EndpointService>> {
        let ids: Vec<String> = services.iter().map(ToString::to_string).collect();
        let mut found = BTreeMap::new();
        // A filter, not the ServiceIds parameter: that one fails for all if one of them does not exist.
        for ids in ids.chunks(FILTER_VALUES) {
            let filter = Filter::builder().name("service-id").set_values(Some(ids.to_vec())).build();
            let call = self.ec2.describe_vpc_endpoint_service_configurations().filters(filter);
            let mut pages = call.into_paginator().items().send();
            while let Some(row) = pages.next().await {
                let row = row.map_err(|error| unseen(DESCRIBE_SERVICES, &error))?;
                let Some(id) = row.service_id().and_then(|id| id.parse::<ServiceId>().ok()) else { continue };
                let tag = row.tags().iter().find(|tag| tag.key() == Some("Name")).and_then(|tag| tag.value());
                let balancers: Result<Vec<Arn>, Malformed> =
                    row.network_load_balancer_arns().iter().map(|arn| arn.parse()).collect();
                let service = EndpointService {
                    id: id.clone(),
                    state: row.service_state().map(|state| state.as_str().to_owned()),
                    principals: None,
                    name: tag.filter(|name| !name.is_empty()).map(ToOwned::to_owned),
                    load_balancers: balancers.map_err(|wrong| untold(DESCRIBE_SERVICES, &wrong.to_string()))?,
                };
                found.insert(id, service);
            }
        }
        Ok(found)
    }

    /// The services and what is behind them: a chain of three calls, however many services, load balancers and target
    /// groups there are.
    pub async fn paths(&self, services: &BTreeSet<ServiceId>, depth: Depth) -> Paths {
        let mut services = self.endpoint_services(services).await;
        let arns: BTreeSet<Arn> =
            services.iter().flat_map(BTreeMap::values).flat_map(|service| service.load_balancers.clone()).collect();
        let ids: Vec<ServiceId> = services.iter().flat_map(BTreeMap::keys).cloned().collect();
        let principals = async {
            match depth {
                Depth::Health => Vec::new(),
                Depth::Settings => side_by_side(ids, async |id| (self.allowed_principals(&id).await, id)).await,
            }
        };
        let (balancers, principals) =
            tokio::join!(side_by_side(arns, |arn| self.load_balancer(arn, depth)), principals);
        if let Ok(services) = &mut services {
            for (principals, id) in principals {
                services.entry(id).and_modify(|service| service.principals = Some(principals));
            }
        }
        let groups: BTreeSet<Arn> = balancers
            .iter()
            .flat_map(|balancer| balancer.target_groups.iter().flatten())
            .map(|group| group.arn.clone())
            .collect();
        let details: BTreeMap<Arn, Detail> =
            side_by_side(groups, async |arn| (arn.clone(), self.detail(&arn, depth).await)).await.into_iter().collect();
        let load_balancers = balancers.into_iter().map(|mut balancer| {
            for group in balancer.target_groups.iter_mut().flatten() {
                match details.get(&group.arn) {
                    Some(Detail::Health(targets)) => group.targets = Some(targets.clone()),
                    Some(Detail::CrossZone(own)) => group.cross_zone = Some(own.clone()),
                    None => {}
                }
            }
            (balancer.arn.clone(), balancer)
        });
        Paths { services, load_balancers: load_balancers.collect() }
    }

    /// Who may create an endpoint to the service, all pages. This call takes no list of services.
    async fn allowed_principals(&self, service: &ServiceId) -> Seen<Vec<String>> {
        const CALL: &str = "ec2:DescribeVpcEndpointServicePermissions";
        let call = self.ec2.describe_vpc_endpoint_service_permissions().service_id(service.as_str());
        let mut pages = call.into_paginator().items().send();
        let mut principals = Vec::new();
        while let Some(row) = pages.next().await {
            let row = row.map_err(|error| unseen(CALL, &error))?;
            let principal = row.principal().ok_or_else(|| untold(CALL, "an allowed principal has no name"))?;
            principals.push(principal.to_owned());
        }
        Ok(principals)
    }

    async fn load_balancer(&self, arn: Arn, depth: Depth) -> LoadBalancer {
        let attributes = async {
            match depth {
                Depth::Health => None,
                Depth::Settings => Some(self.load_balancer_cross_zone(&arn).await),
            }
        };
        let (target_groups, cross_zone) = tokio::join!(self.target_groups(&arn), attributes);
        LoadBalancer { arn, target_groups, cross_zone }
    }

    /// The target groups that the load balancer's listeners forward to, in default actions and rules, weighted or not:
    /// asked for by load balancer, ELB lists just these, in one call instead of one per listener.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetGroups.html>
    async fn target_groups(&self, load_balancer: &Arn) -> Seen<Vec<TargetGroup>> {
        const CALL: &str = "elasticloadbalancing:DescribeTargetGroups";
        let call = self.elb.describe_target_groups().load_balancer_arn(load_balancer.as_str());
        let mut pages = call.into_paginator().items().send();
        let mut groups = Vec::new();
        while let Some(row) = pages.next().await {
            let row = row.map_err(|error| unseen(CALL, &error))?;
            let arn = row.target_group_arn().and_then(|arn| arn.parse().ok());
            // Passing over a group would make its alert look resolved.
            let arn = arn.ok_or_else(|| untold(CALL, "a target group has no ARN"))?;
            groups.push(target_group(arn, &row));
        }
        Ok(groups)
    }

    async fn detail(&self, group: &Arn, depth: Depth) -> Detail {
        match depth {
            Depth::Health => Detail::Health(self.targets(group).await),
            Depth::Settings => Detail::CrossZone(self.target_group_cross_zone(group).await),
        }
    }

    async fn targets(&self, group: &Arn) -> Seen<Vec<Target>> {
        let call = self.elb.describe_target_health().target_group_arn(group.as_str());
        let health = call.send().await.map_err(|error| unseen("elasticloadbalancing:DescribeTargetHealth", &error))?;
        Ok(health.target_health_descriptions().iter().map(target).collect())
    }

    async fn load_balancer_cross_zone(&self, arn: &Arn) -> Seen<bool> {
        const CALL: &str = "elasticloadbalancing:DescribeLoadBalancerAttributes";
        let call = self.elb.describe_load_balancer_attributes().load_balancer_arn(arn.as_str());
        let answer = call.send().await.map_err(|error| unseen(CALL, &error))?;
        let value = answer.attributes().iter().find(|attribute| attribute.key() == Some(CROSS_ZONE));
        match value.and_then(elb::LoadBalancerAttribute::value) {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            other => Err(untold(CALL, &format!("{CROSS_ZONE} is {other:?}"))),
        }
    }

    async fn target_group_cross_zone(&self, arn: &Arn) -> Seen<CrossZoneOverride> {
        const CALL: &str = "elasticloadbalancing:DescribeTargetGroupAttributes";
        let call = self.elb.describe_target_group_attributes().target_group_arn(arn.as_str());
        let answer = call.send().await.map_err(|error| unseen(CALL, &error))?;
        let value = answer.attributes().iter().find(|attribute| attribute.key() == Some(CROSS_ZONE));
        match value.and_then(elb::TargetGroupAttribute::value) {
            Some("true") => Ok(CrossZoneOverride::On),
            Some("false") => Ok(CrossZoneOverride::Off),
            Some("use_load_balancer_configuration") => Ok(CrossZoneOverride::LoadBalancer),
            other => Err(untold(CALL, &format!("{CROSS_ZONE} is {other:?}"))),
        }
    }
}

fn unknown_service(service: &ServiceId) -> Unseen {
    Unseen { call: DESCRIBE_SERVICES, error: format!("EC2 does not know {service}"), denied: false }
}

fn failed<T>(read: Option<&Seen<T>>) -> Option<&Unseen> {
    read.and_then(|read| read.as_ref().err())
}

/// What a run asks of a target group.
enum Detail {
    Health(Seen<Vec<Target>>),
    CrossZone(Seen<CrossZoneOverride>),
}

fn target_group(arn: Arn, row: &elb::TargetGroup) -> TargetGroup {
    let health_check = match row.health_check_enabled() {
        Some(false) => Some("off".to_owned()),
        _ => row.health_check_protocol().map(|protocol| {
            let path = row.health_check_path().map(|path| format!(" {path}")).unwrap_or_default();
            format!("{}{path} on {}", protocol.as_str(), row.health_check_port().unwrap_or("an untold port"))
        }),
    };
    TargetGroup { arn, health_check, targets: None, cross_zone: None }
}

fn target(row: &elb::TargetHealthDescription) -> Target {
    let (target, health) = (row.target(), row.target_health());
    let reason = health.and_then(elb::TargetHealth::reason);
    Target {
        id: target.and_then(elb::TargetDescription::id).unwrap_or("a target without id").to_owned(),
        port: target.and_then(elb::TargetDescription::port).and_then(|port| port.try_into().ok()),
        zone: target.and_then(elb::TargetDescription::availability_zone).map(ToOwned::to_owned),
        health: Health::parse(health.and_then(elb::TargetHealth::state).map_or("", |state| state.as_str())),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        description: health.and_then(elb::TargetHealth::description).map(ToOwned::to_owned),
    }
}
