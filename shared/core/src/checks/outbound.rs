//! `load-balancer.outbound`: do the load balancer's outbound rules let it reach its targets?
//!
//! A load balancer without security groups can send everywhere. Otherwise the outbound rules of all its groups together
//! must allow each target, on its port and on its health check's port.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-security-groups.html>

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::check::security_rules::{Allow, Remote, allows, authorize};
use crate::check::{CheckContext, CheckResult, Finding, Remedy, Severity, Spec, Status};
use crate::snapshot::{Description, LoadBalancer, Peer, SecurityGroupRule, Target, Unread};
use crate::text::{count, limited};

/// Maximum number of evidence lines in an alert and of addresses in the command; the rest is counted.
const MAX_TARGETS: usize = 20;

pub(crate) const SPEC: Spec = Spec {
    id: "load-balancer.outbound",
    in_short: "The load balancer's outbound rules let it reach the targets.",
    severities: &[(Severity::Critical, "always")],
    fails_when: "the load balancer has security groups, and their outbound rules do not allow it to reach a target on \
                 its port or on the port of its health check",
    failing_word: "blocked",
    impact: "dbt's connections to these targets time out, and so do their health checks.",
    cloudtrail_events: &[
        "AuthorizeSecurityGroupEgress",
        "DeregisterTargets",
        "ModifyManagedPrefixList",
        "ModifySecurityGroupRules",
        "RegisterTargets",
        "RestoreManagedPrefixListVersion",
        "RevokeSecurityGroupEgress",
        "SetSecurityGroups",
    ],
    evaluate,
    ..Spec::USUAL
};

fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_load_balancer(&SPEC, |load_balancer, description| {
        judge(load_balancer, description, context).unwrap_or_else(Status::from)
    })
}

/// A target with the ports that the outbound rules do not allow.
struct BlockedTarget<'a> {
    target: &'a Target,
    address: IpAddr,
    ports: BTreeSet<u16>,
}

fn judge(load_balancer: &LoadBalancer, description: &Description, context: CheckContext<'_>) -> Result<Status, Unread> {
    let groups = &description.security_groups;
    if groups.is_empty() {
        return Ok(Status::pass(format!(
            "{} has no security group that limits outbound traffic",
            load_balancer.name()
        )));
    }
    let network = context.topology.network.as_ref().ok_or(Unread::NotAsked)?;
    let rules = network.rules_of(groups)?;
    let rules: Vec<&SecurityGroupRule> = rules.into_iter().filter(|rule| rule.egress).collect();
    let ports = context.ports();
    let unlisted = load_balancer.unlisted(&ports).map(ToString::to_string);
    let (mut all, mut blocked, mut unknown) = (0, Vec::new(), unlisted);
    for group in load_balancer.groups_on(&ports) {
        for target in group.targets.as_ref()? {
            if target.is_being_removed() {
                continue;
            }
            all += 1;
            let Some(address) = target.address else {
                if !group.ports_of(target).iter().all(|port| allows_everything(&rules, *port)) {
                    unknown = Some(address_unknown(target));
                }
                continue;
            };
            let remote = Remote { address, groups: target.security_groups.as_deref() };
            let mut ports = BTreeSet::new();
            for port in group.ports_of(target) {
                match allows(rules.iter().copied(), network, remote, port) {
                    Ok(true) => {}
                    Ok(false) => drop(ports.insert(port)),
                    Err(why) => unknown = Some(why),
                }
            }
            if !ports.is_empty() {
                blocked.push(BlockedTarget { target, address, ports });
            }
        }
    }
    Ok(match (&blocked[..], unknown) {
        ([], Some(why)) => Status::Unknown(why),
        ([], None) => {
            Status::pass(format!("outbound rules of {} allow {}", load_balancer.name(), count(all, "target")))
        }
        (blocked, unknown) => {
            Status::fail(finding(load_balancer, groups, &rules, blocked, all, context).with_unknown_rest(unknown))
        }
    })
}

/// Whether a rule allows the port everywhere, so that the target's address does not matter.
fn allows_everything(rules: &[&SecurityGroupRule], port: u16) -> bool {
    let everywhere = |rule: &&&SecurityGroupRule| matches!(&rule.peer, Peer::Cidr(cidr) if cidr.prefix_len() == 0);
    rules.iter().filter(everywhere).any(|rule| rule.tcp.is_some_and(|ports| ports.contains(port)))
}

fn address_unknown(target: &Target) -> String {
    match target.id.starts_with("arn:") {
        true => "ALB target: its addresses are not checked".to_owned(),
        false => format!("the address of {target} is not known"),
    }
}

fn finding(
    load_balancer: &LoadBalancer,
    groups: &[String],
    rules: &[&SecurityGroupRule],
    blocked: &[BlockedTarget<'_>],
    all: usize,
    context: CheckContext<'_>,
) -> Finding {
    let first = groups.first().map(String::as_str).unwrap_or_default();
    let ports: BTreeSet<u16> = blocked.iter().flat_map(|blocked| blocked.ports.iter().copied()).collect();
    let addresses: BTreeSet<IpAddr> = blocked.iter().take(MAX_TARGETS).map(|blocked| blocked.address).collect();
    let allowed = ports.iter().flat_map(|port| addresses.iter().map(|it| (Allow::Network((*it).into()), *port)));
    let line = |BlockedTarget { target, ports, .. }: &BlockedTarget<'_>| {
        let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("{target}: no outbound rule allows TCP {ports}")
    };
    let lines: Vec<String> = blocked.iter().map(line).collect();
    let lists = rules.iter().filter_map(|rule| rule.peer.prefix_list());
    let targets = blocked.iter().map(|blocked| blocked.target.id.as_str());
    let ids = groups.iter().map(String::as_str).chain(lists).chain(targets);
    Finding::new(
        Severity::Critical,
        format!("outbound rules of {} block {} of {}", load_balancer.name(), blocked.len(), count(all, "target")),
        "dbt's connections to these targets time out between the load balancer and the target.",
        Remedy::new(
            "Allow the load balancer to send to its targets.",
            authorize(true, first, allowed, context.region),
            context.region.security_group(first),
        ),
    )
    .with_evidence(
        std::iter::once(format!("security groups: {}", groups.join(", "))).chain(limited(lines, MAX_TARGETS)).collect(),
    )
    // Addresses are not parts: an orchestrator replaces failing targets, and each replacement would be a new part.
    .with_parts(ports.iter().map(|port| format!("TCP {port}")))
    .about(ids)
    .stopping_dbt(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Network, Ports, TargetGroup, Topology};
    use crate::testing::{
        endpoint_service, failure, load_balancer, network, only_status, security_group_rule, target, target_group,
        terminated, topology, with_context,
    };

    fn out(peer: &str, port: u16) -> SecurityGroupRule {
        security_group_rule("sg-lb", true, peer, Some(Ports::one(port)))
    }

    fn topology_of(
        targets: Vec<Target>,
        groups: &[&str],
        rules: Vec<SecurityGroupRule>,
        health_check_port: Option<u16>,
    ) -> Topology {
        let group = TargetGroup { health_check_port, targets: Ok(targets), ..target_group("pg") };
        let mut balancer = load_balancer("pg", vec![group]);
        balancer.description.as_mut().unwrap().security_groups = groups.iter().map(ToString::to_string).collect();
        let network = Network { rules: Ok(rules), ..network() };
        Topology { network: Some(network), ..topology(endpoint_service(), [balancer]) }
    }

    /// Two targets: 10.0.0.1 in sg-t, and 10.0.0.2 with unknown groups.
    fn status(rules: Vec<SecurityGroupRule>, groups: &[&str], health_check_port: Option<u16>) -> Status {
        let of_group = Target { security_groups: Some(vec!["sg-t".to_owned()]), ..target(1, "healthy") };
        let topology = topology_of(vec![of_group, target(2, "healthy")], groups, rules, health_check_port);
        only_status(with_context(&topology, evaluate))
    }

    #[test]
    fn rules_must_allow_each_targets_port_and_health_check() {
        let passes = |rules, port| matches!(status(rules, &["sg-lb"], port), Status::Pass(_));
        assert!(passes(vec![out("0.0.0.0/0", 5432)], None));
        assert!(passes(vec![out("10.0.0.1/32", 5432), out("10.0.0.2/32", 5432)], None));
        assert!(!passes(vec![out("10.0.0.1/32", 5432)], None), "one of two");
        assert!(!passes(vec![out("0.0.0.0/0", 443)], None), "another port");
        assert!(
            !passes(vec![security_group_rule("sg-lb", false, "0.0.0.0/0", Some(Ports::one(5432)))], None),
            "an inbound rule"
        );
        assert!(!passes(vec![out("0.0.0.0/0", 5432)], Some(8080)), "the health check's port");
        assert!(matches!(status(vec![], &[], None), Status::Pass(_)), "no security group limits nothing");
    }

    #[test]
    fn unread_groups_and_prefix_lists_are_unknown_if_decisive() {
        let unknown = |rules| matches!(status(rules, &["sg-lb"], None), Status::Unknown(_));
        assert!(unknown(vec![out("sg-t", 5432)]), "the groups of the second target");
        assert!(unknown(vec![out("pl-unread", 5432)]));
    }

    #[test]
    fn only_rules_for_every_address_allow_an_unknown_address() {
        let status = |rules, id: &str| {
            let target = Target { id: id.to_owned(), address: None, ..target(1, "healthy") };
            only_status(with_context(&topology_of(vec![target], &["sg-lb"], rules, None), evaluate))
        };
        let alb = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/app/web/1";
        let unknown = |why: &str| Status::Unknown(why.to_owned());
        let everywhere = vec![out("10.0.0.0/8", 5432), out("0.0.0.0/0", 5432)];
        assert_eq!(status(everywhere, alb), Status::pass("outbound rules of pg allow 1 target"));
        for rules in [vec![out("10.0.0.0/8", 5432)], vec![out("0.0.0.0/0", 443)], vec![]] {
            assert_eq!(status(rules, alb), unknown("ALB target: its addresses are not checked"));
        }
        let instance = status(vec![], "i-0123456789abcdef0");
        assert_eq!(instance, unknown("the address of i-0123456789abcdef0:5432 (eu-central-1a) is not known"));
    }

    #[test]
    fn a_draining_target_does_not_count() {
        let targets = vec![target(1, "draining"), target(2, "healthy"), terminated()];
        let topology = topology_of(targets, &["sg-lb"], vec![out("10.0.0.2/32", 5432)], None);
        assert_eq!(only_status(with_context(&topology, evaluate)), Status::pass("outbound rules of pg allow 1 target"));
    }

    #[test]
    fn the_command_allows_the_blocked_targets() {
        let finding = failure(status(vec![out("10.0.0.1/32", 5432)], &["sg-lb", "sg-x"], None)).unwrap();
        assert_eq!(finding.summary, "outbound rules of pg block 1 of 2 targets");
        assert_eq!(
            finding.remedy.command.unwrap(),
            "aws ec2 authorize-security-group-egress --region eu-central-1 --group-id sg-lb --ip-permissions \
             'IpProtocol=tcp,FromPort=5432,ToPort=5432,IpRanges=[{CidrIp=10.0.0.2/32}]'"
        );
    }
}
