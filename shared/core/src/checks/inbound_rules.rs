//! The inbound rules of a load balancer's security groups, which two checks look at.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Check, CheckContext, CheckResult, Status, limited};
use crate::snapshot::{Description, LoadBalancer, NOT_READ, Network, SecurityGroupRule, Source, known};

/// The rules of one load balancer, of all its groups together: what one lets in, is in.
pub(super) struct InboundRules<'a> {
    pub(super) context: CheckContext<'a>,
    pub(super) balancer: &'a LoadBalancer,
    /// Its security groups.
    pub(super) groups: &'a [String],
    pub(super) rules: Vec<&'a SecurityGroupRule>,
    /// The ports on which it serves dbt: those expected, or every one if none is.
    pub(super) ports: BTreeSet<u16>,
    network: &'a Network,
}

/// One result of `check` per load balancer. Rules hold for what comes through PrivateLink only where ELB enforces them;
/// they see the consumer's private address as the source. Where they do not hold, nothing is wrong with them.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-security-groups.html>
pub(super) fn per_load_balancer(
    context: CheckContext<'_>,
    check: Check,
    judge: impl Fn(&InboundRules<'_>) -> Status,
) -> Vec<CheckResult> {
    context.per_load_balancer(check, |balancer, description| {
        // Absent means no security group; a group that ELB says nothing of is taken as enforced, which is its default.
        if description.security_groups.is_empty() || description.enforced == Some(false) {
            return Status::Pass;
        }
        InboundRules::new(balancer, description, context).map_or_else(Status::Unknown, |inbound| judge(&inbound))
    })
}

impl<'a> InboundRules<'a> {
    fn new(
        balancer: &'a LoadBalancer,
        description: &'a Description,
        context: CheckContext<'a>,
    ) -> Result<Self, String> {
        let network = context.topology.network.as_ref().ok_or(NOT_READ)?;
        let rules = network.rules.as_ref().map_err(ToString::to_string)?;
        let groups = &description.security_groups;
        let expected = context.policy.listener_ports.for_service(context.service);
        let listeners = balancer.listeners.as_ref().map_err(ToString::to_string)?;
        let serving = listeners.iter().filter(|listener| listener.serves()).map(|listener| listener.port);
        Ok(Self {
            context,
            balancer,
            groups,
            rules: rules.iter().filter(|rule| groups.contains(&rule.group)).collect(),
            ports: serving.filter(|port| expected.is_empty() || expected.contains(port)).collect(),
            network,
        })
    }

    /// The addresses that a rule lets in. Members of a security group are never dbt: its endpoint is in another VPC, and
    /// what comes through PrivateLink comes with an address and no group.
    ///
    /// # Errors
    /// In words, if its prefix list is not known.
    pub(super) fn sources(&self, rule: &SecurityGroupRule) -> Result<Vec<IpNet>, String> {
        match &rule.source {
            Source::Cidr(cidr) => Ok(vec![*cidr]),
            Source::PrefixList(id) => known(self.network.prefix_lists.get(id)).cloned(),
            Source::Group(_) => Ok(Vec::new()),
        }
    }

    /// Whether `rules` together let all of `cidr` in on `port`; in words, why that is not known.
    pub(super) fn covers(&self, rules: &[&SecurityGroupRule], cidr: &IpNet, port: u16) -> Result<bool, String> {
        let (mut open, mut unread) = (Vec::new(), None);
        for rule in rules.iter().filter(|rule| rule.tcp.is_some_and(|ports| ports.contains(port))) {
            match self.sources(rule) {
                Ok(sources) => open.extend(sources),
                Err(why) => unread = Some(why),
            }
        }
        // Aggregation joins neighbours, so what several rules cover together is covered by one network afterwards.
        match (IpNet::aggregate(&open).iter().any(|open| open.contains(cidr)), unread) {
            (false, Some(why)) => Err(why),
            (covered, _) => Ok(covered),
        }
    }

    /// The rule in a line.
    pub(super) fn describe(&self, rule: &SecurityGroupRule) -> String {
        let SecurityGroupRule { id, group, tcp, source } = rule;
        let ports = tcp.map_or("not TCP".to_owned(), |ports| format!("TCP {ports}"));
        let from = match source {
            Source::Cidr(cidr) => cidr.to_string(),
            Source::PrefixList(list) => match self.sources(rule) {
                Ok(cidrs) => format!(
                    "{list}, which is {}",
                    limited(cidrs.iter().map(ToString::to_string).collect(), 5).join(", ")
                ),
                Err(why) => format!("{list}, which cannot be read: {why}"),
            },
            Source::Group(other) => format!("members of {other}"),
        };
        format!("{id} of {group}: {ports} from {from}")
    }
}

/// The command that lets these networks in on these ports.
pub(super) fn authorize(group: &str, missing: &[(IpNet, u16)], region: &str) -> String {
    let permission = |(cidr, port): &(IpNet, u16)| {
        let range = match cidr {
            IpNet::V4(cidr) => format!("IpRanges=[{{CidrIp={cidr}}}]"),
            IpNet::V6(cidr) => format!("Ipv6Ranges=[{{CidrIpv6={cidr}}}]"),
        };
        format!("'IpProtocol=tcp,FromPort={port},ToPort={port},{range}'")
    };
    let permissions: Vec<String> = missing.iter().map(permission).collect();
    format!(
        "aws ec2 authorize-security-group-ingress --region {region} --group-id {group} --ip-permissions {}",
        permissions.join(" ")
    )
}
