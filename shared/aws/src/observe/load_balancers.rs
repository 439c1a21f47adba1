//! Load balancers, their listeners, target groups and targets.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types as elb;
use aws_sdk_elasticloadbalancingv2::types::MutualAuthenticationAttributes as Mutual;
use guard_core::ids::Arn;
use guard_core::snapshot::{
    CrossZoneOverride, Description, Health, Listener, Observed, RoutingThreshold, Target, TargetGroup,
    TargetGroupAttributes, TargetKind, Zone,
};

use super::Observer;
use super::hostnames::Tags;
use crate::errors::malformed_response;

const IDLE_TIMEOUT: &str = "tcp.idle_timeout.seconds";

const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";

/// Whether targets get a header in front of the client's bytes. A group with an Application Load Balancer as its target
/// may lack the attribute.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html#proxy-protocol>
const PROXY_PROTOCOL: &str = "proxy_protocol_v2.enabled";

/// See [`RoutingThreshold`].
const ROUTING_THRESHOLD: &str = "target_group_health.unhealthy_state_routing.minimum_healthy_targets";

/// The prefix of the guard's own tags.
const OWN_TAGS: &str = "privatelink-guard:";

/// The attributes that terminate connections to a target when it fails and when it is deregistered.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html>
const TERMINATION: [&str; 2] = [
    "target_health_state.unhealthy.connection_termination.enabled",
    "deregistration_delay.connection_termination.enabled",
];

/// The maximum number of load balancers or target groups in one call.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeLoadBalancers.html>
const NAMED_PER_CALL: usize = 20;

impl Observer {
    /// The descriptions of these load balancers: one call per 20. None can be missing, because a load balancer behind
    /// an endpoint service cannot be deleted.
    pub(super) async fn descriptions(&self, arns: &BTreeSet<Arn>) -> Observed<BTreeMap<Arn, Description>> {
        const CALL: &str = "elasticloadbalancing:DescribeLoadBalancers";
        let arns = arns.iter().map(ToString::to_string).collect();
        let parse = |row: &elb::LoadBalancer| {
            let arn = row.load_balancer_arn().and_then(|arn| arn.parse().ok());
            arn.zip(description(row)).ok_or_else(|| {
                malformed_response(
                    CALL,
                    "a load balancer lacks its ARN, type, scheme, state, VPC, or a zone's name or subnet",
                )
            })
        };
        let load_balancers: Vec<(Arn, Description)> = self
            .in_batches(arns, NAMED_PER_CALL, async |arns| {
                let call = self.elb.describe_load_balancers().set_load_balancer_arns(Some(arns));
                list!(self, CALL, call, load_balancers, next_marker, parse)
            })
            .await?;
        Ok(load_balancers.into_iter().collect())
    }

    /// These target groups, without their targets: one call per 20.
    pub(super) async fn target_groups(&self, arns: &BTreeSet<Arn>) -> Observed<BTreeMap<Arn, TargetGroup>> {
        const CALL: &str = "elasticloadbalancing:DescribeTargetGroups";
        let arns = arns.iter().map(ToString::to_string).collect();
        let parse = |row: &elb::TargetGroup| {
            let arn: Option<Arn> = row.target_group_arn().and_then(|arn| arn.parse().ok());
            let arn = arn.ok_or_else(|| malformed_response(CALL, "a target group has no ARN"))?;
            Ok((arn.clone(), target_group(arn, row)))
        };
        let groups: Vec<(Arn, TargetGroup)> = self
            .in_batches(arns, NAMED_PER_CALL, async |arns| {
                let call = self.elb.describe_target_groups().set_target_group_arns(Some(arns));
                list!(self, CALL, call, target_groups, next_marker, parse)
            })
            .await?;
        Ok(groups.into_iter().collect())
    }

    /// The guard's own tags of these target groups, by tag name: one call per 20.
    pub(super) async fn tags(&self, arns: &BTreeSet<Arn>) -> Tags {
        const CALL: &str = "elasticloadbalancing:DescribeTags";
        let arns = arns.iter().map(ToString::to_string).collect();
        let tagged: Vec<(Arn, BTreeMap<String, String>)> = self
            .in_batches(arns, NAMED_PER_CALL, async |arns| {
                let call = self.elb.describe_tags().set_resource_arns(Some(arns));
                self.call(
                    CALL,
                    async || call.clone().send().await,
                    |response| {
                        let named = response.tag_descriptions().iter().map(|row| {
                            let arn = row.resource_arn().and_then(|arn| arn.parse().ok());
                            let own = row.tags().iter().filter_map(|tag| {
                                let key = tag.key().filter(|key| key.starts_with(OWN_TAGS))?;
                                Some((key.to_owned(), tag.value()?.to_owned()))
                            });
                            arn.map(|arn: Arn| (arn, own.collect()))
                                .ok_or_else(|| malformed_response(CALL, "a resource has no ARN"))
                        });
                        named.collect()
                    },
                )
                .await
            })
            .await?;
        Ok(tagged.into_iter().collect())
    }

    /// The load balancer's listeners: one call per page. They show only the default action: see
    /// [`Observer::forwarded_by_rules`].
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-listeners.html>
    pub(super) async fn listeners(&self, load_balancer: &Arn) -> Observed<Vec<Listener>> {
        const CALL: &str = "elasticloadbalancing:DescribeListeners";
        let call = self.elb.describe_listeners().load_balancer_arn(load_balancer.as_str());
        let parse = |row: &elb::Listener| {
            listener(row).ok_or_else(|| {
                malformed_response(CALL, "a listener lacks its ARN, port, protocol, or a target group's ARN")
            })
        };
        list!(self, CALL, call, listeners, next_marker, parse)
    }

    /// The target groups to which the listener's rules forward IPv4 connections; `None` if only the default rule does:
    /// one call per page. The matching rule with the lowest priority number decides.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/create-rule.html>
    pub(super) async fn forwarded_by_rules(&self, listener: &str) -> Observed<Option<Vec<Arn>>> {
        const CALL: &str = "elasticloadbalancing:DescribeRules";
        let call = self.elb.describe_rules().listener_arn(listener);
        let parse = |row: &elb::Rule| match row.is_default() {
            // The listener itself contains the default action.
            Some(true) => Ok(None),
            _ => rule(row).map(Some).ok_or_else(|| {
                malformed_response(
                    CALL,
                    "a rule lacks its priority, a target group's ARN, or the type of its source address",
                )
            }),
        };
        let rules: Observed<Vec<Option<Rule>>> = list!(self, CALL, call, rules, next_marker, parse);
        let mut rules: Vec<Rule> = rules?.into_iter().flatten().collect();
        rules.sort_by_key(|rule| rule.priority);
        Ok(rules.into_iter().find(|rule| rule.takes_ipv4).map(|rule| rule.forwards_to))
    }

    /// The certificates of `listener` besides its default one, which the list can include as well.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeListenerCertificates.html>
    pub(super) async fn certificates_by_name(&self, listener: &str) -> Observed<Vec<String>> {
        const CALL: &str = "elasticloadbalancing:DescribeListenerCertificates";
        let call = self.elb.describe_listener_certificates().listener_arn(listener);
        let parse = |row: &elb::Certificate| match (row.certificate_arn(), row.is_default()) {
            (Some(arn), Some(is_default)) => Ok((arn.to_owned(), is_default)),
            _ => Err(malformed_response(CALL, "a certificate lacks its ARN, or whether it is the default")),
        };
        let listed: Observed<Vec<(String, bool)>> = list!(self, CALL, call, certificates, next_marker, parse);
        Ok(listed?.into_iter().filter(|(_, is_default)| !is_default).map(|(arn, _)| arn).collect())
    }

    /// The seconds after which a TCP listener closes an idle connection; `None` if ELB names none, for example because
    /// the listener's protocol has changed since it was listed.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_ListenerAttribute.html>
    pub(super) async fn idle_timeout(&self, listener: &str) -> Observed<Option<u32>> {
        const CALL: &str = "elasticloadbalancing:DescribeListenerAttributes";
        let call = self.elb.describe_listener_attributes().listener_arn(listener);
        self.call(
            CALL,
            async || call.clone().send().await,
            |response| {
                let attribute = response.attributes().iter().find(|attribute| attribute.key() == Some(IDLE_TIMEOUT));
                let value = attribute.map(|attribute| attribute.value().unwrap_or_default());
                let malformed = |value| malformed_response(CALL, &format!("{IDLE_TIMEOUT} is {value:?}"));
                value.map(|value| value.parse().map_err(|_| malformed(value))).transpose()
            },
        )
        .await
    }

    /// The targets of `group` with their health: one call.
    pub(super) async fn targets(&self, group: &Arn) -> Observed<Vec<Target>> {
        const CALL: &str = "elasticloadbalancing:DescribeTargetHealth";
        let call = self.elb.describe_target_health().target_group_arn(group.as_str());
        let parse = |row: &elb::TargetHealthDescription| {
            target(row).ok_or_else(|| malformed_response(CALL, "a target has no id"))
        };
        self.call(
            CALL,
            async || call.clone().send().await,
            |health| health.target_health_descriptions().iter().map(parse).collect(),
        )
        .await
    }

    /// The load balancer's own cross-zone attribute.
    pub async fn load_balancer_cross_zone(&self, arn: &Arn) -> Observed<bool> {
        const CALL: &str = "elasticloadbalancing:DescribeLoadBalancerAttributes";
        let call = self.elb.describe_load_balancer_attributes().load_balancer_arn(arn.as_str());
        self.call(
            CALL,
            async || call.clone().send().await,
            |response| {
                let value = response.attributes().iter().find(|attribute| attribute.key() == Some(CROSS_ZONE));
                match value.and_then(elb::LoadBalancerAttribute::value) {
                    Some("true") => Ok(true),
                    Some("false") => Ok(false),
                    other => Err(malformed_response(CALL, &format!("{CROSS_ZONE} is {other:?}"))),
                }
            },
        )
        .await
    }

    /// The target group attributes that the checks need.
    pub async fn target_group_attributes(&self, arn: &Arn) -> Observed<TargetGroupAttributes> {
        const CALL: &str = "elasticloadbalancing:DescribeTargetGroupAttributes";
        let call = self.elb.describe_target_group_attributes().target_group_arn(arn.as_str());
        self.call(
            CALL,
            async || call.clone().send().await,
            |response| {
                let value =
                    |name: &str| response.attributes().iter().find(|attribute| attribute.key() == Some(name))?.value();
                let cross_zone = match value(CROSS_ZONE) {
                    Some("true") => CrossZoneOverride::On,
                    Some("false") => CrossZoneOverride::Off,
                    // The default. A group with an Application Load Balancer as its target may lack the attribute.
                    Some("use_load_balancer_configuration") | None => CrossZoneOverride::LoadBalancer,
                    other => return Err(malformed_response(CALL, &format!("{CROSS_ZONE} is {other:?}"))),
                };
                let off = TERMINATION.into_iter().filter(|name| value(name) == Some("false"));
                let number = |name: &str| match value(&format!("{ROUTING_THRESHOLD}.{name}")) {
                    None | Some("off") => Ok(None),
                    Some(text) => text
                        .parse()
                        .map(Some)
                        .map_err(|_| malformed_response(CALL, &format!("{ROUTING_THRESHOLD}.{name} is '{text}'"))),
                };
                let RoutingThreshold { count, percentage } = RoutingThreshold::DEFAULT;
                let routing_threshold = RoutingThreshold {
                    count: number("count")?.unwrap_or(count),
                    percentage: number("percentage")?.or(percentage),
                };
                let keeps_connections = off.map(ToOwned::to_owned).collect();
                let proxy_protocol = value(PROXY_PROTOCOL) == Some("true");
                Ok(TargetGroupAttributes { cross_zone, keeps_connections, routing_threshold, proxy_protocol })
            },
        )
        .await
    }
}

/// `None` if ELB omitted a field that a check needs.
fn description(row: &elb::LoadBalancer) -> Option<Description> {
    let zone = |row: &elb::AvailabilityZone| {
        Some(Zone { name: row.zone_name()?.to_owned(), subnet: row.subnet_id()?.to_owned() })
    };
    let enforced = row.enforce_security_group_inbound_rules_on_private_link_traffic();
    let kind = row.r#type()?;
    let scheme = match row.scheme() {
        Some(scheme) => scheme.as_str(),
        None if *kind == elb::LoadBalancerTypeEnum::Gateway => "",
        None => return None,
    };
    Some(Description {
        kind: kind.as_str().to_owned(),
        scheme: scheme.to_owned(),
        state: row.state().and_then(elb::LoadBalancerState::code)?.as_str().to_owned(),
        vpc: row.vpc_id()?.to_owned(),
        zones: row.availability_zones().iter().map(zone).collect::<Option<_>>()?,
        security_groups: row.security_groups().to_vec(),
        enforced: enforced.map(|enforced| enforced != "off"),
        dual_stack: row.ip_address_type().is_none_or(|kind| *kind != elb::IpAddressType::Ipv4),
    })
}

fn listener(row: &elb::Listener) -> Option<Listener> {
    Some(Listener {
        arn: row.listener_arn()?.to_owned(),
        port: row.port().and_then(|port| port.try_into().ok())?,
        protocol: row.protocol()?.as_str().to_owned(),
        forwards_to: Ok(forwards_to(row.default_actions())?),
        mutual_authentication: row.mutual_authentication().and_then(Mutual::mode).map(ToOwned::to_owned),
        certificate: row.certificates().first().and_then(elb::Certificate::certificate_arn).map(ToOwned::to_owned),
        certificates_by_name: None,
        idle_timeout: None,
    })
}

/// The target groups to which these actions forward with a weight above zero; `None` if an ARN is missing.
fn forwards_to(actions: &[elb::Action]) -> Option<Vec<Arn>> {
    let forwards = actions.iter().flat_map(|action| {
        let config = action.forward_config().map(elb::ForwardActionConfig::target_groups).unwrap_or_default();
        let weighted = config.iter().filter(|group| group.weight() != Some(0)).map(|group| group.target_group_arn());
        // ELB repeats a single target group outside the configuration, without its weight.
        weighted.chain(action.target_group_arn().filter(|_| config.is_empty()).map(Some))
    });
    forwards.map(|arn| arn?.parse().ok()).collect()
}

/// A rule of a listener, other than the default one.
struct Rule {
    priority: u32,
    takes_ipv4: bool,
    forwards_to: Vec<Arn>,
}

/// `None` if ELB omitted a required field, or if the rule's condition on IPv4 is unknown. The only condition in a
/// Network Load Balancer's rule is the source's address type.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_RuleCondition.html>
fn rule(row: &elb::Rule) -> Option<Rule> {
    let takes_ipv4 = |condition: &elb::RuleCondition| match condition.source_ip_config()?.ip_address_type()? {
        elb::SourceIpAddressTypeEnum::Ipv4 => Some(true),
        elb::SourceIpAddressTypeEnum::Ipv6 => Some(false),
        _ => None,
    };
    let [condition] = row.conditions() else { return None };
    Some(Rule {
        priority: row.priority()?.parse().ok()?,
        takes_ipv4: takes_ipv4(condition)?,
        forwards_to: forwards_to(row.actions())?,
    })
}

fn target_group(arn: Arn, row: &elb::TargetGroup) -> TargetGroup {
    let health_check = match row.health_check_enabled() {
        Some(false) => Some("off".to_owned()),
        _ => row.health_check_protocol().map(|protocol| {
            let path = row.health_check_path().map(|path| format!(" {path}")).unwrap_or_default();
            let codes = row.matcher().and_then(elb::Matcher::http_code);
            let codes = codes.map(|codes| format!(", expects {codes}")).unwrap_or_default();
            format!("{}{path} on {}{codes}", protocol.as_str(), row.health_check_port().unwrap_or("an unknown port"))
        }),
    };
    let kind = match row.target_type() {
        Some(elb::TargetTypeEnum::Instance) => TargetKind::Instance,
        Some(elb::TargetTypeEnum::Ip) => TargetKind::Ip,
        Some(elb::TargetTypeEnum::Alb) => TargetKind::LoadBalancer,
        _ => TargetKind::Other,
    };
    let targets = Err(malformed_response("elasticloadbalancing:DescribeTargetHealth", "it was not asked"));
    let seconds = row.health_check_interval_seconds().and_then(|seconds| seconds.try_into().ok());
    let failures = row.unhealthy_threshold_count().and_then(|failures| failures.try_into().ok());
    TargetGroup {
        arn,
        kind,
        vpc: row.vpc_id().map(ToOwned::to_owned),
        health_check,
        // `traffic-port` is not a number.
        health_check_port: row.health_check_port().and_then(|port| port.parse().ok()),
        health_check_codes: row.matcher().and_then(elb::Matcher::http_code).map(ToOwned::to_owned),
        health_check_timing: seconds.zip(failures),
        is_ipv6: row.ip_address_type() == Some(&elb::TargetGroupIpAddressTypeEnum::Ipv6),
        hostname: None,
        own_tags: Ok(BTreeMap::new()),
        targets,
        attributes: None,
    }
}

fn target(row: &elb::TargetHealthDescription) -> Option<Target> {
    let (target, health) = (row.target(), row.target_health());
    let shift = row.administrative_override().and_then(elb::AdministrativeOverride::state);
    let reason = health.and_then(elb::TargetHealth::reason);
    let id = target.and_then(elb::TargetDescription::id)?;
    Some(Target {
        id: id.to_owned(),
        port: target.and_then(elb::TargetDescription::port).and_then(|port| port.try_into().ok()),
        zone: target.and_then(elb::TargetDescription::availability_zone).map(ToOwned::to_owned),
        address: id.parse().ok(),
        subnet: None,
        security_groups: None,
        interfaces: Vec::new(),
        is_terminated: false,
        health: Health::parse(health.and_then(elb::TargetHealth::state).map_or("", |state| state.as_str())),
        is_shifted_away: shift == Some(&elb::TargetAdministrativeOverrideStateEnum::ZonalShiftActive),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        description: health.and_then(elb::TargetHealth::description).map(ToOwned::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use aws_smithy_http_client::test_util::infallible_client_fn;
    use aws_smithy_types::body::SdkBody;
    use guard_core::snapshot::ErrorKind;

    use super::*;
    use crate::observe::pace;
    use crate::testing;

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
        let row = elb::Listener::builder().listener_arn("arn").port(5432).protocol(elb::ProtocolEnum::Tcp);
        let listener = listener(&row.default_actions(action).build()).unwrap();
        assert_eq!((listener.port, listener.protocol.as_str()), (5432, "TCP"));
        let groups = listener.forwards_to.unwrap();
        groups.iter().map(|arn| arn.name().to_owned()).collect()
    }

    #[test]
    fn a_listener_forwards_to_groups_with_a_weight_above_zero() {
        assert_eq!(forwards_to(&[group("a", 1), group("b", 0), group("c", 999)], None), ["a", "c"]);
        let a = group("a", 0);
        assert_eq!(forwards_to(std::slice::from_ref(&a), a.target_group_arn()), [""; 0], "repeated without its weight");
        assert_eq!(forwards_to(&[], a.target_group_arn()), ["a"]);
    }

    #[test]
    fn the_client_certificate_mode_is_kept_as_elb_writes_it() {
        let mode = |mutual: Option<Mutual>| {
            let row = elb::Listener::builder().listener_arn("arn").port(443).protocol(elb::ProtocolEnum::Tls);
            listener(&row.set_mutual_authentication(mutual).build()).unwrap().mutual_authentication
        };
        let of = |mode: &str| Some(Mutual::builder().mode(mode).build());
        assert_eq!([mode(None), mode(Some(Mutual::builder().build()))], [None, None], "off is the default");
        assert_eq!([mode(of("verify")), mode(of("new"))], ["verify", "new"].map(|mode| Some(mode.to_owned())));
    }

    fn load_balancer() -> elb::builders::LoadBalancerBuilder {
        elb::LoadBalancer::builder()
            .r#type(elb::LoadBalancerTypeEnum::Network)
            .scheme(elb::LoadBalancerSchemeEnum::Internal)
            .state(elb::LoadBalancerState::builder().code(elb::LoadBalancerStateEnum::Active).build())
            .vpc_id("vpc-1")
    }

    #[test]
    fn a_description_with_a_missing_field_is_refused() {
        let zone = || elb::AvailabilityZone::builder().zone_name("eu-central-1a").subnet_id("subnet-a");
        assert!(description(&load_balancer().availability_zones(zone().build()).build()).is_some());
        assert!(description(&load_balancer().availability_zones(zone().set_zone_name(None).build()).build()).is_none());
        assert!(description(&load_balancer().availability_zones(zone().set_subnet_id(None).build()).build()).is_none());
        assert!(description(&load_balancer().set_scheme(None).build()).is_none());
        assert!(description(&load_balancer().set_state(None).build()).is_none());
        let gateway = load_balancer().r#type(elb::LoadBalancerTypeEnum::Gateway).set_scheme(None);
        assert!(description(&gateway.build()).is_some(), "it has no scheme");
        let forwards = |arn: &str| {
            let action = elb::Action::builder().r#type(elb::ActionTypeEnum::Forward).target_group_arn(arn).build();
            elb::Listener::builder()
                .listener_arn("arn")
                .port(5432)
                .protocol(elb::ProtocolEnum::Tcp)
                .default_actions(action)
        };
        let arn = group("a", 1).target_group_arn.unwrap();
        assert!(listener(&forwards(&arn).build()).is_some());
        assert!(listener(&forwards("garbage").build()).is_none(), "an ARN that does not parse");
        assert!(listener(&forwards(&arn).set_protocol(None).build()).is_none());
        assert!(listener(&forwards(&arn).set_listener_arn(None).build()).is_none());
    }

    /// An observer of an ELB that always returns this response to `action`.
    fn answering(action: &str, body: &str) -> Observer {
        let answer = format!("<{action}Response><{action}Result>{body}</{action}Result></{action}Response>");
        let client = infallible_client_fn(move |_| http::Response::new(SdkBody::from(answer.clone())));
        Observer::new(&testing::config(client), pace::ELB, BTreeSet::new())
    }

    #[tokio::test]
    async fn the_first_ipv4_rule_decides_the_target_group() {
        let rule = |priority: &str, kind: &str, name: &str| {
            let arn = group(name, 1).target_group_arn.unwrap();
            let condition = match kind {
                "" => String::new(),
                kind => format!(
                    "<member><Field>source-ip</Field><SourceIpConfig><IpAddressType>{kind}</IpAddressType></SourceIpConfig></member>"
                ),
            };
            format!(
                "<member><Priority>{priority}</Priority><IsDefault>{}</IsDefault><Conditions>{condition}</Conditions><Actions><member>\
                 <Type>forward</Type><TargetGroupArn>{arn}</TargetGroupArn></member></Actions></member>",
                priority == "default"
            )
        };
        let forwards = async |rules: &[(&str, &str, &str)]| {
            let rows: String = rules.iter().map(|(priority, kind, name)| rule(priority, kind, name)).collect();
            let read = answering("DescribeRules", &format!("<Rules>{rows}</Rules>")).forwarded_by_rules("arn").await;
            let name = |arn: &Arn| arn.name().to_owned();
            read.map(|groups| groups.map(|groups| groups.iter().map(name).collect::<Vec<_>>()))
                .map_err(|error| error.kind)
        };
        let all = ("default", "", "all");
        assert_eq!(forwards(&[all]).await, Ok(None));
        assert_eq!(forwards(&[("1", "ipv6", "six"), all]).await, Ok(None));
        let both = [("10", "ipv4", "late"), ("9", "ipv4", "four"), ("1", "ipv6", "six"), all];
        assert_eq!(forwards(&both).await, Ok(Some(vec!["four".to_owned()])), "10 comes after 9");
        for unclear in [("1", "ipv9", "new"), ("1", "", "none"), ("soon", "ipv4", "bad")] {
            assert_eq!(forwards(&[unclear, all]).await, Err(ErrorKind::Malformed), "{unclear:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_routing_threshold_takes_the_default_of_aws() {
        let read = async |rows: &[(&str, &str)]| {
            let rows = rows.iter().map(|(name, value)| {
                format!("<member><Key>{ROUTING_THRESHOLD}.{name}</Key><Value>{value}</Value></member>")
            });
            let body = format!("<Attributes>{}</Attributes>", rows.collect::<String>());
            let arn = group("a", 1).target_group_arn.unwrap().parse().unwrap();
            let read = answering("DescribeTargetGroupAttributes", &body).target_group_attributes(&arn).await;
            read.map(|attributes| (attributes.routing_threshold.count, attributes.routing_threshold.percentage)).ok()
        };
        assert_eq!(read(&[]).await, Some((1, None)));
        assert_eq!(read(&[("count", "2"), ("percentage", "off")]).await, Some((2, None)));
        assert_eq!(read(&[("percentage", "50")]).await, Some((1, Some(50))));
        assert_eq!(read(&[("count", "most")]).await, None, "unknown, not the default");
    }

    #[test]
    fn enforcement_is_parsed_as_elb_writes_it() {
        let row = || load_balancer().security_groups("sg-1");
        let enforced = |row: elb::LoadBalancer| description(&row).unwrap().enforced;
        let set = |value: &str| row().enforce_security_group_inbound_rules_on_private_link_traffic(value).build();
        assert_eq!(enforced(set("on")), Some(true));
        assert_eq!(enforced(set("off")), Some(false));
        assert_eq!(enforced(row().build()), None);
    }
}
