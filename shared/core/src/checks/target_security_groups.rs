//! `target-group.security-groups`: do the targets' own security groups allow the load balancer?
//!
//! Targets see the nodes' private addresses as the source; a rule that names a security group of the load balancer
//! counts as well. Client IP preservation does not apply to PrivateLink traffic. The rules of all groups of a target's
//! network interface add up. They must allow every node that sends to the target, on the target's port and on its
//! health check's port. If EC2 does not show the interface (another VPC or account), the result is unknown.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-register-targets.html#target-security-groups>

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::check::security_rules::{Allow, Remote, allows, authorize};
use crate::check::{CheckContext, CheckResult, Command, Finding, Remedy, Severity, Spec, Status};
use crate::snapshot::{Interface, LoadBalancer, Network, SecurityGroupRule, Target, TargetGroup, TargetKind, Unread};
use crate::text::{count, limited};

/// Maximum number of targets in an alert's evidence; the rest is counted.
const MAX_TARGETS: usize = 20;

/// Maximum number of commands in an alert: each opens one security group.
const MAX_COMMANDS: usize = 4;

pub(crate) const SPEC: Spec = Spec {
    id: "target-group.security-groups",
    in_short: "The targets' security groups allow the load balancer.",
    severities: &[(Severity::Critical, "no target is reachable"), (Severity::Warning, "some targets are unreachable")],
    fails_when: "the security groups of a target's network interface do not allow the load balancer's nodes on the \
                 target's port or on the port of its health check",
    failing_word: "blocked",
    impact: "dbt's connections to these targets time out, and so do their health checks.",
    cloudtrail_events: &[
        "AuthorizeSecurityGroupIngress",
        "DeregisterTargets",
        "ModifyInstanceAttribute",
        "ModifyManagedPrefixList",
        "ModifyNetworkInterfaceAttribute",
        "ModifySecurityGroupRules",
        "ModifyTargetGroup",
        "RegisterTargets",
        "RestoreManagedPrefixListVersion",
        "RevokeSecurityGroupIngress",
        "SetSecurityGroups",
    ],
    evaluate,
    ..Spec::USUAL
};

/// One result per target group.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_target_group(&SPEC, |load_balancer, group| {
        Inbound::new(load_balancer, context).map_or_else(Status::from, |inbound| inbound.judge(group, context))
    })
}

/// The facts that decide on one load balancer's traffic to its targets.
struct Inbound<'a> {
    load_balancer: &'a LoadBalancer,
    network: &'a Network,
    nodes: Vec<&'a Interface>,
    groups: &'a [String],
    rules: Vec<&'a SecurityGroupRule>,
}

/// The ports of a target that nodes cannot reach.
#[derive(Default)]
struct BlockedPorts {
    ports: BTreeSet<u16>,
    nodes: BTreeSet<IpAddr>,
}

impl<'a> Inbound<'a> {
    fn new(load_balancer: &'a LoadBalancer, context: CheckContext<'a>) -> Result<Self, Unread> {
        let network = context.topology.network.as_ref().ok_or(Unread::NotAsked)?;
        let description = load_balancer.description.as_ref()?;
        let rules = network.rules.as_ref()?;
        Ok(Self {
            load_balancer,
            network,
            nodes: network.nodes(&load_balancer.arn)?,
            groups: &description.security_groups,
            rules: rules.iter().filter(|rule| !rule.egress).collect(),
        })
    }

    fn judge(&self, group: &'a TargetGroup, context: CheckContext<'_>) -> Status {
        let targets = match &group.targets {
            Ok(targets) => targets,
            Err(error) => return Unread::from(error).into(),
        };
        if group.kind == TargetKind::LoadBalancer && !targets.is_empty() {
            return Status::Unknown("ALB target: its security groups are not checked".to_owned());
        }
        let targets: Vec<&Target> = targets.iter().filter(|target| !target.is_being_removed()).collect();
        let (mut blocked, mut unknown) = (Vec::new(), Vec::new());
        for target in &targets {
            match self.blocked(group, target) {
                Ok(found) if found.ports.is_empty() => {}
                Ok(found) => blocked.push((*target, found)),
                Err(why) => unknown.push(why),
            }
        }
        match (&blocked[..], unknown.pop()) {
            ([], Some(why)) => Status::Unknown(why),
            ([], None) => {
                Status::pass(format!("the targets' security groups allow the load balancer ({})", group.name()))
            }
            (blocked, unknown) => {
                Status::fail(self.finding(group, blocked, targets.len(), context).with_unknown_rest(unknown))
            }
        }
    }

    /// The ports that the target's security groups block. An interface without security groups blocks nothing.
    fn blocked(&self, group: &TargetGroup, target: &Target) -> Result<BlockedPorts, String> {
        let Some(address) = target.address else { return Err(format!("the address of {target} is not known")) };
        let Some(groups) = &target.security_groups else {
            return Err(format!("EC2 does not show the network interface of {target}"));
        };
        let mut blocked = BlockedPorts::default();
        if groups.is_empty() {
            return Ok(blocked);
        }
        let all = self.network.rules_of(groups).map_err(|why| why.to_string())?;
        let mut unknown = None;
        let sends = |node: &&&Interface| self.load_balancer.node_sends_to(group, node, target);
        for node in self.nodes.iter().filter(sends) {
            for source in node.addresses.iter().filter(|source| source.is_ipv4() == address.is_ipv4()) {
                let remote = Remote { address: *source, groups: Some(self.groups) };
                for port in group.ports_of(target) {
                    let rules = all.iter().copied().filter(|rule| !rule.egress);
                    match allows(rules, self.network, remote, port) {
                        Ok(true) => {}
                        Ok(false) => {
                            blocked.ports.insert(port);
                            blocked.nodes.insert(*source);
                        }
                        Err(why) => unknown = Some(why),
                    }
                }
            }
        }
        // EC2 may omit the rules of a group that another account shares.
        let hidden = groups.iter().find(|group| !all.iter().any(|rule| rule.group == **group));
        match (blocked.ports.is_empty(), unknown, hidden) {
            (true, Some(why), _) => Err(why),
            (false, _, Some(group)) => {
                Err(format!("EC2 shows no rule of {group}: it has none, or belongs to another account"))
            }
            _ => Ok(blocked),
        }
    }

    fn finding(
        &self,
        group: &TargetGroup,
        blocked: &[(&'a Target, BlockedPorts)],
        targets: usize,
        context: CheckContext<'_>,
    ) -> Finding {
        let commands = self.commands(blocked, context);
        let line = |(target, BlockedPorts { ports, nodes }): &(&Target, BlockedPorts)| {
            let groups = target.security_groups.as_deref().unwrap_or_default().join(", ");
            format!("{target}: {groups} does not allow TCP {} from {}", listed(ports), listed(nodes))
        };
        let part = |(target, BlockedPorts { ports, .. }): &(&Target, BlockedPorts)| {
            format!("{} TCP {}", target.security_groups.as_deref().unwrap_or_default().join(", "), listed(ports))
        };
        let all = blocked.len() == targets;
        Finding::new(
            if all { Severity::Critical } else { Severity::Warning },
            format!("security group blocks {} of {} in {}", blocked.len(), count(targets, "target"), group.name()),
            match all {
                true => "dbt cannot connect: the load balancer reaches none of the targets, so connections time out.",
                false => "Some of dbt's connections fail: the load balancer cannot reach these targets.",
            },
            Remedy::new(
                "Allow the load balancer in the targets' security group.",
                commands.into_iter().take(MAX_COMMANDS).reduce(Command::then),
                blocked
                    .first()
                    .and_then(|(target, _)| context.region.security_group(target.security_groups.as_deref()?.first()?)),
            ),
        )
        .with_evidence(limited(blocked.iter().map(line).collect(), MAX_TARGETS))
        .with_parts(blocked.iter().map(part))
        .about(blocked.iter().flat_map(|(target, _)| self.ids_behind(target)))
        .stopping_dbt(all)
    }

    /// The ids that can have blocked the target: itself and its interfaces, its security groups, and their rules'
    /// prefix lists.
    fn ids_behind(&self, target: &'a Target) -> impl Iterator<Item = &'a str> {
        let groups = target.security_groups.iter().flatten();
        let own =
            self.rules.iter().filter(|rule| target.security_groups.iter().flatten().any(|group| *group == rule.group));
        let lists: Vec<&str> = own.filter_map(|rule| rule.peer.prefix_list()).collect();
        let own = std::iter::once(&target.id).chain(&target.interfaces);
        own.chain(groups).map(String::as_str).chain(lists)
    }

    /// One command per security group, which allows the load balancer's own group or, if it has none, its nodes.
    fn commands(&self, blocked: &[(&Target, BlockedPorts)], context: CheckContext<'_>) -> Vec<Command> {
        let mut wanted: BTreeMap<&str, BlockedPorts> = BTreeMap::new();
        for (target, BlockedPorts { ports, nodes }) in blocked {
            if let Some(group) = target.security_groups.iter().flatten().next() {
                let entry = wanted.entry(group).or_default();
                entry.ports.extend(ports);
                entry.nodes.extend(nodes);
            }
        }
        let command = |(group, BlockedPorts { ports, nodes }): (&str, BlockedPorts)| {
            let allow = |port: u16| match self.groups.first() {
                Some(own) => vec![(Allow::Group(own), port)],
                None => nodes.iter().map(|node| (Allow::Network((*node).into()), port)).collect(),
            };
            authorize(false, group, ports.into_iter().flat_map(allow), context.region)
        };
        wanted.into_iter().filter_map(command).collect()
    }
}

fn listed<T: ToString>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::cause;
    use crate::snapshot::{Health, Ports, Topology};
    use crate::testing::{
        call_error, change, endpoint_service, failure, load_balancer, only_finding, only_status, open_network,
        security_group_rule, target, target_group, terminated, topology, with_context,
    };
    use crate::trigger::Change;

    fn rule(group: &str, peer: &str, port: u16) -> SecurityGroupRule {
        security_group_rule(group, false, peer, Some(Ports::one(port)))
    }

    /// Target `number` with these security groups.
    fn in_groups(number: u8, groups: Option<&[&str]>) -> Target {
        let security_groups = groups.map(|groups| groups.iter().map(ToString::to_string).collect());
        Target { security_groups, ..target(number, "healthy") }
    }

    /// A topology in which each group of a target has at least the outbound rule that AWS gives a new group.
    fn seen(targets: Vec<Target>, mut rules: Vec<SecurityGroupRule>, own_group: Option<&str>) -> Topology {
        let groups = targets.iter().flat_map(|target| target.security_groups.clone().unwrap_or_default());
        rules.extend(groups.map(|group| SecurityGroupRule { egress: true, ..rule(&group, "0.0.0.0/0", 443) }));
        observed(targets, rules, own_group)
    }

    fn observed(targets: Vec<Target>, rules: Vec<SecurityGroupRule>, own_group: Option<&str>) -> Topology {
        let group = TargetGroup { targets: Ok(targets), health_check_port: Some(8080), ..target_group("pg") };
        let mut balancer = load_balancer("pg", vec![group]);
        balancer.description.as_mut().unwrap().security_groups = own_group.map(ToOwned::to_owned).into_iter().collect();
        let network = Network { rules: Ok(rules), ..open_network(&['a', 'b']) };
        Topology { network: Some(network), ..topology(endpoint_service(), [balancer]) }
    }

    fn status(targets: Vec<Target>, rules: Vec<SecurityGroupRule>, own_group: Option<&str>) -> Status {
        with_context(&seen(targets, rules, own_group), |context| only_status(evaluate(context)))
    }

    fn open(group: &str, peer: &str) -> Vec<SecurityGroupRule> {
        vec![rule(group, peer, 5432), rule(group, peer, 8080)]
    }

    #[test]
    fn every_node_must_be_allowed_on_both_ports() {
        let one = || vec![in_groups(1, Some(&["sg-t"]))];
        let passes = |rules| matches!(status(one(), rules, Some("sg-lb")), Status::Pass(_));
        assert!(passes(open("sg-t", "10.0.0.0/16")));
        assert!(passes(open("sg-t", "sg-lb")), "the load balancer's own group");
        assert!(!passes(open("sg-t", "sg-other")));
        assert!(!passes(open("sg-t", "10.0.0.0/24")), "the node in the other zone");
        assert!(!passes(open("sg-x", "10.0.0.0/16")), "another group's rules");
        assert!(!passes(vec![rule("sg-t", "10.0.0.0/16", 5432)]), "the health check has a port of its own");
        let outbound = open("sg-t", "0.0.0.0/0").into_iter();
        assert!(!passes(outbound.map(|rule| SecurityGroupRule { egress: true, ..rule }).collect()));
        let mut halves = open("sg-t", "10.0.0.0/24");
        halves.extend(open("sg-t2", "10.0.1.0/24"));
        assert!(
            matches!(status(vec![in_groups(1, Some(&["sg-t", "sg-t2"]))], halves, None), Status::Pass(_)),
            "they add up"
        );
    }

    #[test]
    fn blocking_every_target_is_critical_and_some_a_warning() {
        let both = vec![in_groups(1, Some(&["sg-t"])), in_groups(2, Some(&["sg-u"]))];
        let finding = failure(status(both.clone(), open("sg-t", "10.0.0.0/8"), Some("sg-lb"))).unwrap();
        assert_eq!(
            (finding.severity, finding.summary.as_str()),
            (Severity::Warning, "security group blocks 1 of 2 targets in pg")
        );
        assert_eq!(
            finding.remedy.command.unwrap(),
            "aws ec2 authorize-security-group-ingress --region eu-central-1 --group-id sg-u --ip-permissions \
             'IpProtocol=tcp,FromPort=5432,ToPort=5432,UserIdGroupPairs=[{GroupId=sg-lb}]' \
             'IpProtocol=tcp,FromPort=8080,ToPort=8080,UserIdGroupPairs=[{GroupId=sg-lb}]'"
        );
        assert_eq!(
            finding.evidence,
            ["10.0.0.2:5432 (eu-central-1a): sg-u does not allow TCP 5432, 8080 from 10.0.0.200, 10.0.1.200"]
        );
        let finding = failure(status(both, vec![], None)).unwrap();
        assert_eq!(finding.severity, Severity::Critical);
        let command = finding.remedy.command.unwrap();
        assert!(command.contains("IpRanges=[{CidrIp=10.0.0.200/32}]") && command.contains(" && aws ec2"), "{command}");
    }

    #[test]
    fn a_missing_interface_or_an_unread_list_is_unknown() {
        let unknown = |targets| matches!(status(targets, open("sg-t", "10.0.0.0/8"), None), Status::Unknown(_));
        assert!(unknown(vec![in_groups(1, None)]), "no interface in this VPC");
        assert!(unknown(vec![Target { address: None, ..in_groups(1, Some(&["sg-t"])) }]));
        assert!(unknown(vec![Target { health: Health::Healthy, ..terminated() }]), "ELB still uses it");
        let reachable = vec![terminated(), in_groups(1, Some(&["sg-t"]))];
        assert!(matches!(status(reachable, open("sg-t", "10.0.0.0/8"), None), Status::Pass(_)));
        let list = open("sg-t", "pl-unread");
        assert!(matches!(status(vec![in_groups(1, Some(&["sg-t"]))], list, None), Status::Unknown(_)));
        let two = vec![in_groups(1, Some(&["sg-t"])), in_groups(2, Some(&["sg-v"]))];
        let with_incomplete_rules = |targets, of: &str| {
            let mut topology = seen(targets, open("sg-t", "10.0.0.0/8"), None);
            let unread_rules = [(of.to_owned(), call_error("ec2:DescribeSecurityGroupRules"))].into();
            topology.network.as_mut().unwrap().unread_rules = unread_rules;
            with_context(&topology, |context| only_status(evaluate(context)))
        };
        assert!(matches!(with_incomplete_rules(vec![in_groups(1, Some(&["sg-t"]))], "sg-t"), Status::Unknown(_)));
        assert!(matches!(with_incomplete_rules(vec![in_groups(1, Some(&["sg-t"]))], "sg-v"), Status::Pass(_)));
        assert!(matches!(with_incomplete_rules(two, "sg-v"), Status::Unknown(_)));
        let some = vec![in_groups(1, None), in_groups(2, Some(&["sg-u"]))];
        let finding = failure(status(some, vec![], None)).unwrap();
        assert_eq!(finding.severity, Severity::Warning, "the other one may be reachable");
        assert!(matches!(status(vec![in_groups(1, Some(&[]))], vec![], None), Status::Pass(_)), "no group, no filter");
    }

    #[test]
    fn the_path_to_an_application_load_balancer_is_not_checked() {
        let judged = |targets: Vec<Target>| {
            let mut topology = seen(targets, vec![], None);
            for group in topology.target_groups_mut() {
                group.kind = TargetKind::LoadBalancer;
            }
            with_context(&topology, |context| only_status(evaluate(context)))
        };
        let why = "ALB target: its security groups are not checked";
        assert_eq!(judged(vec![in_groups(1, None)]), Status::Unknown(why.to_owned()));
        assert!(matches!(judged(vec![]), Status::Pass(_)), "without a target");
    }

    #[test]
    fn a_group_without_rules_is_unknown_unless_another_allows() {
        let judged = |groups: &[&str], rules| {
            let topology = observed(vec![in_groups(1, Some(groups))], rules, None);
            with_context(&topology, |context| only_status(evaluate(context)))
        };
        assert!(matches!(judged(&["sg-t"], vec![]), Status::Unknown(_)));
        let open = || open("sg-t", "10.0.0.0/16");
        assert!(matches!(judged(&["sg-member", "sg-t"], open()), Status::Pass(_)));
        assert!(matches!(judged(&["sg-member"], open()), Status::Unknown(_)));
    }

    /// An alert lists 20 targets, but the cause of a later one is found too.
    #[test]
    fn the_cause_is_found_among_thirty_blocked_targets() {
        let groups: Vec<String> = (1..=30).map(|number| format!("sg-{number:02}")).collect();
        let interfaces = |number| vec![format!("eni-{number}"), format!("i-{number}")];
        let targets = (1..=30)
            .zip(&groups)
            .map(|(number, group)| Target { interfaces: interfaces(number), ..in_groups(number, Some(&[group])) });
        let topology = seen(targets.collect(), vec![], None);
        let is_cause = |event_name: &str, id: &str| {
            let event_name = event_name.to_owned();
            let change = Change { event_name, parameters: format!("{{\"id\":\"{id}\"}}"), ..change() };
            let mut results = with_context(&topology, evaluate);
            cause::attribute(&mut results, &change);
            only_finding(results).cause.is_some()
        };
        let caused_by = |group: &str| is_cause("RevokeSecurityGroupIngress", group);
        assert!(caused_by("sg-01") && caused_by("sg-30"));
        assert!(!caused_by("sg-31"), "another group");
        assert!(is_cause("ModifyNetworkInterfaceAttribute", "eni-30"), "it has other groups now");
        assert!(is_cause("ModifyInstanceAttribute", "i-30"));
    }
}
