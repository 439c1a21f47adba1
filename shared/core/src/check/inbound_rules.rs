//! The inbound rules of a load balancer's security groups, for `load-balancer.security-groups` and
//! `load-balancer.broad-rule`.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Check, CheckContext, CheckResult, Status};
use crate::snapshot::{Description, LoadBalancer, Network, Peer, SecurityGroupRule, Unread};
use crate::text::limited;

/// The changes that can block dbt or allow others.
pub(crate) const CLOUDTRAIL_EVENTS: &[&str] = &[
    "AuthorizeSecurityGroupIngress",
    "CreateListener",
    "ModifyListener",
    "ModifyManagedPrefixList",
    "ModifySecurityGroupRules",
    "RestoreManagedPrefixListVersion",
    "RevokeSecurityGroupIngress",
    "SetSecurityGroups",
];

/// The inbound rules of a load balancer. The rules of all its security groups add up.
pub(crate) struct InboundRules<'a> {
    pub(crate) context: CheckContext<'a>,
    pub(crate) load_balancer: &'a LoadBalancer,
    pub(crate) groups: &'a [String],
    pub(crate) rules: Vec<&'a SecurityGroupRule>,
    /// dbt's ports; every port that serves dbt, if `LISTENER_PORTS` is empty.
    pub(crate) ports: BTreeSet<u16>,
    network: &'a Network,
}

/// One result of `check` per load balancer. ELB applies the rules to PrivateLink traffic only if they are enforced; the
/// source is then the private address of dbt's client. Rules that are not enforced pass.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-security-groups.html>
pub(crate) fn per_load_balancer(
    context: CheckContext<'_>,
    check: Check,
    judge: impl Fn(&InboundRules<'_>) -> Status,
) -> Vec<CheckResult> {
    context.per_load_balancer(check, |load_balancer, description| {
        // ELB enforces by default, so a missing value counts as enforced if there is a security group.
        if description.security_groups.is_empty() || description.enforced == Some(false) {
            return Status::pass("inbound rules are not enforced on PrivateLink traffic");
        }
        InboundRules::new(load_balancer, description, context).map_or_else(Status::from, |inbound| judge(&inbound))
    })
}

impl<'a> InboundRules<'a> {
    fn new(
        load_balancer: &'a LoadBalancer,
        description: &'a Description,
        context: CheckContext<'a>,
    ) -> Result<Self, Unread> {
        let network = context.topology.network.as_ref().ok_or(Unread::NotAsked)?;
        let groups = &description.security_groups;
        let rules = network.rules_of(groups)?;
        let expected = context.ports();
        let listeners = load_balancer.listeners.as_ref()?;
        let serving = listeners.iter().filter(|listener| listener.serves(&expected)).map(|listener| listener.port);
        Ok(Self {
            context,
            load_balancer,
            groups,
            rules: rules.into_iter().filter(|rule| !rule.egress).collect(),
            ports: if expected.is_empty() { serving.collect() } else { expected.clone() },
            network,
        })
    }

    /// The networks that a rule allows. A rule for the members of a security group never allows dbt, because dbt's
    /// endpoint is in another VPC.
    ///
    /// # Errors
    /// The reason why its prefix list is unknown.
    pub(crate) fn sources(&self, rule: &SecurityGroupRule) -> Result<Vec<IpNet>, String> {
        match &rule.peer {
            Peer::Cidr(cidr) => Ok(vec![*cidr]),
            Peer::PrefixList(id) => self.network.prefix_list(id).map(<[IpNet]>::to_vec),
            Peer::Group(_) => Ok(Vec::new()),
        }
    }

    /// Whether `rules` together allow all of `cidr` on `port`.
    pub(crate) fn covers(&self, rules: &[&SecurityGroupRule], cidr: &IpNet, port: u16) -> Result<bool, String> {
        let (mut open, mut unread) = (Vec::new(), None);
        for rule in rules.iter().filter(|rule| rule.tcp.is_some_and(|ports| ports.contains(port))) {
            match self.sources(rule) {
                Ok(sources) => open.extend(sources),
                Err(why) => unread = Some(why),
            }
        }
        // Aggregation joins adjacent networks, so one aggregated network contains whatever several rules cover
        // together.
        match (IpNet::aggregate(&open).iter().any(|open| open.contains(cidr)), unread) {
            (false, Some(why)) => Err(why),
            (covered, _) => Ok(covered),
        }
    }

    pub(crate) fn describe(&self, rule: &SecurityGroupRule) -> String {
        let SecurityGroupRule { id, group, tcp, peer, .. } = rule;
        let ports = tcp.map_or("not TCP".to_owned(), |ports| format!("TCP {ports}"));
        let from = match peer {
            Peer::Cidr(cidr) => cidr.to_string(),
            Peer::PrefixList(list) => match self.sources(rule) {
                Ok(cidrs) => format!(
                    "{list}, which is {}",
                    limited(cidrs.iter().map(ToString::to_string).collect(), 5).join(", ")
                ),
                Err(why) => format!("{list}, which cannot be read: {why}"),
            },
            Peer::Group(other) => format!("members of {other}"),
        };
        format!("{id} of {group}: {ports} from {from}")
    }
}

/// The ids of the rules, of their security groups, and of their prefix lists.
pub(crate) fn ids_of<'a>(rules: &[&'a SecurityGroupRule]) -> Vec<&'a str> {
    let ids =
        |rule: &&'a SecurityGroupRule| [Some(rule.id.as_str()), Some(rule.group.as_str()), rule.peer.prefix_list()];
    rules.iter().flat_map(ids).flatten().collect()
}
