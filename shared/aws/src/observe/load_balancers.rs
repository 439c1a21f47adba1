//! Load balancers, their listeners, target groups and targets.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types as elb;
use guard_core::ids::Arn;
use guard_core::snapshot::{
    CrossZoneOverride, Description, Health, Listener, Observed, Target, TargetGroup, TargetKind, Zone,
};

use super::Observer;
use crate::errors::malformed_response;

const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";

/// How many load balancers or target groups one call describes.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeLoadBalancers.html>
const NAMED_PER_CALL: usize = 20;

impl Observer {
    /// The descriptions of these load balancers: one call per 20. None is missing, because a load balancer behind an
    /// endpoint service cannot be deleted.
    pub(super) async fn descriptions(&self, arns: &BTreeSet<Arn>) -> Observed<BTreeMap<Arn, Description>> {
        const CALL: &str = "elasticloadbalancing:DescribeLoadBalancers";
        let arns = arns.iter().map(ToString::to_string).collect();
        let rows: Vec<elb::LoadBalancer> = self
            .in_batches(arns, NAMED_PER_CALL, async |arns| {
                let call = self.elb.describe_load_balancers().set_load_balancer_arns(Some(arns));
                self.call(CALL, call.into_paginator().items().send().try_collect()).await
            })
            .await?;
        let load_balancer = |row: &elb::LoadBalancer| Some((row.load_balancer_arn()?.parse().ok()?, description(row)?));
        rows.iter()
            .map(|row| {
                load_balancer(row).ok_or_else(|| malformed_response(CALL, "a load balancer lacks its ARN, type or VPC"))
            })
            .collect()
    }

    /// These target groups, without their targets: one call per 20.
    pub(super) async fn target_groups(&self, arns: &BTreeSet<Arn>) -> Observed<BTreeMap<Arn, TargetGroup>> {
        const CALL: &str = "elasticloadbalancing:DescribeTargetGroups";
        let arns = arns.iter().map(ToString::to_string).collect();
        let rows: Vec<elb::TargetGroup> = self
            .in_batches(arns, NAMED_PER_CALL, async |arns| {
                let call = self.elb.describe_target_groups().set_target_group_arns(Some(arns));
                self.call(CALL, call.into_paginator().items().send().try_collect()).await
            })
            .await?;
        let group = |row: &elb::TargetGroup| {
            let arn: Option<Arn> = row.target_group_arn().and_then(|arn| arn.parse().ok());
            let arn = arn.ok_or_else(|| malformed_response(CALL, "a target group has no ARN"))?;
            Ok((arn.clone(), target_group(arn, row)))
        };
        rows.iter().map(group).collect()
    }

    /// The load balancer's listeners: one call per page. A listener of a Network Load Balancer has only a default action.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-listeners.html>
    pub(super) async fn listeners(&self, load_balancer: &Arn) -> Observed<Vec<Listener>> {
        const CALL: &str = "elasticloadbalancing:DescribeListeners";
        let call = self.elb.describe_listeners().load_balancer_arn(load_balancer.as_str());
        let rows: Vec<elb::Listener> = self.call(CALL, call.into_paginator().items().send().try_collect()).await?;
        rows.iter().map(|row| listener(row).ok_or_else(|| malformed_response(CALL, "a listener has no port"))).collect()
    }

    /// The targets of `group` with their health: one call.
    pub(super) async fn targets(&self, group: &Arn) -> Observed<Vec<Target>> {
        let call = self.elb.describe_target_health().target_group_arn(group.as_str());
        let health = self.call("elasticloadbalancing:DescribeTargetHealth", call.send()).await?;
        Ok(health.target_health_descriptions().iter().map(target).collect())
    }

    /// The load balancer's own cross-zone attribute.
    ///
    /// # Errors
    /// [`guard_core::snapshot::CallError`] if it could not be read.
    pub async fn load_balancer_cross_zone(&self, arn: &Arn) -> Observed<bool> {
        const CALL: &str = "elasticloadbalancing:DescribeLoadBalancerAttributes";
        let call = self.elb.describe_load_balancer_attributes().load_balancer_arn(arn.as_str());
        let answer = self.call(CALL, call.send()).await?;
        let value = answer.attributes().iter().find(|attribute| attribute.key() == Some(CROSS_ZONE));
        match value.and_then(elb::LoadBalancerAttribute::value) {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            other => Err(malformed_response(CALL, &format!("{CROSS_ZONE} is {other:?}"))),
        }
    }

    /// The target group's cross-zone attribute.
    ///
    /// # Errors
    /// [`guard_core::snapshot::CallError`] if it could not be read.
    pub async fn target_group_cross_zone(&self, arn: &Arn) -> Observed<CrossZoneOverride> {
        const CALL: &str = "elasticloadbalancing:DescribeTargetGroupAttributes";
        let call = self.elb.describe_target_group_attributes().target_group_arn(arn.as_str());
        let answer = self.call(CALL, call.send()).await?;
        let value = answer.attributes().iter().find(|attribute| attribute.key() == Some(CROSS_ZONE));
        match value.and_then(elb::TargetGroupAttribute::value) {
            Some("true") => Ok(CrossZoneOverride::On),
            Some("false") => Ok(CrossZoneOverride::Off),
            // The default. A group whose target is an Application Load Balancer may not have the attribute.
            Some("use_load_balancer_configuration") | None => Ok(CrossZoneOverride::LoadBalancer),
            other => Err(malformed_response(CALL, &format!("{CROSS_ZONE} is {other:?}"))),
        }
    }
}

fn description(row: &elb::LoadBalancer) -> Option<Description> {
    let zone = |row: &elb::AvailabilityZone| {
        Some(Zone { name: row.zone_name()?.to_owned(), subnet: row.subnet_id()?.to_owned() })
    };
    let enforced = row.enforce_security_group_inbound_rules_on_private_link_traffic();
    Some(Description {
        kind: row.r#type()?.as_str().to_owned(),
        // A Gateway Load Balancer has none.
        scheme: row.scheme().map_or("", |scheme| scheme.as_str()).to_owned(),
        state: row.state().and_then(elb::LoadBalancerState::code).map_or("", |code| code.as_str()).to_owned(),
        vpc: row.vpc_id()?.to_owned(),
        zones: row.availability_zones().iter().filter_map(zone).collect(),
        security_groups: row.security_groups().to_vec(),
        enforced: enforced.map(|enforced| enforced != "off"),
    })
}

fn listener(row: &elb::Listener) -> Option<Listener> {
    let forwards = row.default_actions().iter().flat_map(|action| {
        let config = action.forward_config().map(elb::ForwardActionConfig::target_groups).unwrap_or_default();
        let weighted =
            config.iter().filter(|group| group.weight() != Some(0)).filter_map(|group| group.target_group_arn());
        // ELB repeats a single target group outside the configuration, without its weight.
        weighted.chain(action.target_group_arn().filter(|_| config.is_empty()))
    });
    Some(Listener {
        port: row.port().and_then(|port| port.try_into().ok())?,
        protocol: row.protocol().map_or("", |protocol| protocol.as_str()).to_owned(),
        forwards_to: forwards.filter_map(|arn| arn.parse().ok()).collect(),
    })
}

fn target_group(arn: Arn, row: &elb::TargetGroup) -> TargetGroup {
    let health_check = match row.health_check_enabled() {
        Some(false) => Some("off".to_owned()),
        _ => row.health_check_protocol().map(|protocol| {
            let path = row.health_check_path().map(|path| format!(" {path}")).unwrap_or_default();
            format!("{}{path} on {}", protocol.as_str(), row.health_check_port().unwrap_or("an unknown port"))
        }),
    };
    let kind = match row.target_type() {
        Some(elb::TargetTypeEnum::Instance) => TargetKind::Instance,
        Some(elb::TargetTypeEnum::Ip) => TargetKind::Ip,
        Some(elb::TargetTypeEnum::Alb) => TargetKind::LoadBalancer,
        _ => TargetKind::Other,
    };
    let targets = Err(malformed_response("elasticloadbalancing:DescribeTargetHealth", "it was not asked"));
    TargetGroup { arn, kind, health_check, targets, cross_zone: None }
}

fn target(row: &elb::TargetHealthDescription) -> Target {
    let (target, health) = (row.target(), row.target_health());
    let reason = health.and_then(elb::TargetHealth::reason);
    let id = target.and_then(elb::TargetDescription::id).unwrap_or("a target without id");
    Target {
        id: id.to_owned(),
        port: target.and_then(elb::TargetDescription::port).and_then(|port| port.try_into().ok()),
        zone: target.and_then(elb::TargetDescription::availability_zone).map(ToOwned::to_owned),
        address: id.parse().ok(),
        subnet: None,
        health: Health::parse(health.and_then(elb::TargetHealth::state).map_or("", |state| state.as_str())),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        description: health.and_then(elb::TargetHealth::description).map(ToOwned::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, weight: i32) -> elb::TargetGroupTuple {
        let arn = format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/{name}/0123456789abcdef");
        elb::TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build()
    }

    fn forwards_to(groups: &[elb::TargetGroupTuple], alone: Option<&str>) -> Vec<String> {
        let config = elb::ForwardActionConfig::builder().set_target_groups(Some(groups.to_vec())).build();
        let action = elb::Action::builder()
            .r#type(elb::ActionTypeEnum::Forward)
            .forward_config(config)
            .set_target_group_arn(alone.map(ToOwned::to_owned))
            .build();
        let row = elb::Listener::builder().port(5432).protocol(elb::ProtocolEnum::Tcp).default_actions(action).build();
        let listener = listener(&row).unwrap();
        assert_eq!((listener.port, listener.protocol.as_str()), (5432, "TCP"));
        listener.forwards_to.iter().map(|arn| arn.resource().split('/').nth(1).unwrap().to_owned()).collect()
    }

    #[test]
    fn a_listener_forwards_to_groups_with_a_weight_above_zero() {
        assert_eq!(forwards_to(&[group("a", 1), group("b", 0), group("c", 999)], None), ["a", "c"]);
        let a = group("a", 0);
        assert_eq!(forwards_to(std::slice::from_ref(&a), a.target_group_arn()), [""; 0], "repeated without its weight");
        assert_eq!(forwards_to(&[], a.target_group_arn()), ["a"]);
    }

    #[test]
    fn enforcement_is_parsed_as_elb_writes_it() {
        let row = || {
            elb::LoadBalancer::builder()
                .r#type(elb::LoadBalancerTypeEnum::Network)
                .vpc_id("vpc-1")
                .security_groups("sg-1")
        };
        let enforced = |row: elb::LoadBalancer| description(&row).unwrap().enforced;
        let set = |value: &str| row().enforce_security_group_inbound_rules_on_private_link_traffic(value).build();
        assert_eq!(enforced(set("on")), Some(true));
        assert_eq!(enforced(set("off")), Some(false));
        assert_eq!(enforced(row().build()), None);
    }
}
