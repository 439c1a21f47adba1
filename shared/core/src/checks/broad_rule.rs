//! `load-balancer.broad-rule`: do the load balancer's security groups allow more than dbt?
//!
//! A rule is broad if it contains a network of dbt and more, if it allows the whole internet, or if it is `10.0.0.0/8`,
//! which dbt's guide uses for a first trial. Only enforced rules that open a listener's port count. A network that
//! contains none of dbt's is meant for other clients and not reported.
//!
//! The first printed command removes nothing, because targets may use the same security group: it allows those of dbt's
//! networks that only the broad rules allow, and lists the other users of the group. The command that removes the rules
//! has its own line.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::check::inbound_rules::{self, InboundRules, ids_of};
use crate::check::security_rules::{Allow, authorize};
use crate::check::{CheckContext, CheckResult, Command, Finding, Region, Remedy, Severity, Spec, Status};
use crate::snapshot::SecurityGroupRule;
use crate::text::{count, limited};

/// Maximum number of rules in an alert's evidence; the rest is counted.
const MAX_RULES: usize = 20;

/// The network that dbt's guide uses for a first trial. It must be narrowed once dbt's networks are known.
const TRIAL: &str = "10.0.0.0/8";

pub(crate) const SPEC: Spec = Spec {
    id: "load-balancer.broad-rule",
    in_short: "No inbound rule allows far more networks than dbt's.",
    severities: &[(Severity::Warning, "always")],
    fails_when: "inbound rules are enforced on PrivateLink traffic, and a rule that opens a listener port allows \
                 `0.0.0.0/0`, `::/0`, `10.0.0.0/8`, or a larger network around one of `DbtCidrs`",
    failing_word: "too broad",
    impact: "dbt is not affected, but others can reach your service through this load balancer.",
    cloudtrail_events: inbound_rules::CLOUDTRAIL_EVENTS,
    can_stop_dbt: false,
    evaluate,
    ..Spec::USUAL
};

fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    inbound_rules::per_load_balancer(context, &SPEC, judge)
}

/// Whether `net` exceeds dbt's networks and contains one of them, is the whole internet, or is [`TRIAL`].
fn is_broad(net: &IpNet, dbt: &[IpNet]) -> bool {
    let always_broad = net.prefix_len() == 0 || net.to_string() == TRIAL;
    let within_dbts = IpNet::aggregate(&dbt.to_vec()).iter().any(|cidr| cidr.contains(net));
    let contains_dbts = dbt.iter().any(|cidr| net.contains(cidr));
    !within_dbts && (always_broad || contains_dbts)
}

fn judge(inbound: &InboundRules<'_>) -> Status {
    let InboundRules { context, load_balancer, .. } = inbound;
    // Every listener counts, even on a port that dbt does not use, because others can reach it.
    let listeners = || load_balancer.listeners.iter().flatten();
    let opens_listener = |rule: &SecurityGroupRule| {
        rule.tcp.is_some_and(|ports| listeners().any(|listener| ports.contains(listener.port)))
    };
    let (mut broad, mut unread) = (Vec::new(), Vec::new());
    for rule in inbound.rules.iter().copied().filter(|rule| opens_listener(rule)) {
        match inbound.sources(rule) {
            Ok(sources) if sources.iter().any(|net| is_broad(net, &context.policy.dbt_cidrs)) => broad.push(rule),
            Ok(_) => {}
            Err(why) => unread.push((rule.id.as_str(), why)),
        }
    }
    let [first, ..] = broad[..] else {
        let passes = || Status::pass("no inbound rule is too broad");
        return unread.pop().map_or_else(passes, |(_, why)| Status::Unknown(why));
    };
    Status::fail(
        Finding::new(
            Severity::Warning,
            format!(
                "{} of {} {} more than dbt",
                count(broad.len(), "inbound rule"),
                load_balancer.name(),
                if broad.len() == 1 { "allows" } else { "allow" }
            ),
            "dbt is not affected, but others can reach your service through this load balancer.",
            remedy(inbound, first, &broad),
        )
        .with_evidence(evidence(inbound, &broad))
        .with_parts(broad.iter().map(|rule| rule.id.as_str()))
        .with_unknown_parts(unread)
        .about(ids_of(&broad)),
    )
}

/// The evidence: dbt's networks first, then the rules, because chat shows only the first lines.
fn evidence(inbound: &InboundRules<'_>, broad: &[&SecurityGroupRule]) -> Vec<String> {
    let dbt = &inbound.context.policy.dbt_cidrs;
    let networks = if dbt.is_empty() {
        "dbt's networks: unknown".to_owned()
    } else {
        format!("dbt's networks: {}", dbt.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    let rules = broad.iter().map(|rule| inbound.describe(rule)).collect();
    std::iter::once(networks).chain(limited(rules, MAX_RULES)).collect()
}

/// The commands that remove the rules, one per security group.
fn revoke(broad: &[&SecurityGroupRule], region: &Region) -> impl Iterator<Item = Command> {
    groups_of(broad).into_iter().map(move |group| {
        let rules = broad.iter().filter(move |rule| rule.group == group).map(|rule| rule.id.as_str());
        Command::new("ec2 revoke-security-group-ingress", region)
            .option("group-id", group)
            .options("security-group-rule-ids", rules)
    })
}

fn remedy(inbound: &InboundRules<'_>, first: &SecurityGroupRule, broad: &[&SecurityGroupRule]) -> Remedy {
    let InboundRules { context, ports, .. } = inbound;
    let (dbt, region) = (&context.policy.dbt_cidrs, context.region);
    let groups: Vec<&str> = groups_of(broad).into_iter().collect();
    let show_users = Command::new("ec2 describe-network-interfaces", region)
        .literal("--include-managed-resources")
        .option("filters", format!("Name=group-id,Values={}", groups.join(",")))
        .literal("--query 'NetworkInterfaces[].[PrivateIpAddress,Description]' --output text");
    let (action, command) = if dbt.is_empty() {
        (
            "Do not remove the rule yet: dbt may depend on it. Ask dbt Support which networks your dbt environment \
             connects from, and set them as the stack's DbtCidrs: the next alert has the commands. This command shows \
             what else uses the security group.",
            Some(show_users),
        )
    } else {
        // dbt's access without the broad rules.
        let others: Vec<&SecurityGroupRule> =
            inbound.rules.iter().copied().filter(|rule| !broad.contains(rule)).collect();
        let pairs = ports.iter().flat_map(|port| dbt.iter().map(move |cidr| (*cidr, *port)));
        let covered = |rules, (cidr, port): &(IpNet, u16)| inbound.covers(rules, cidr, *port);
        let lost: Vec<(Allow<'_>, u16)> = pairs
            .filter(|pair| covered(&inbound.rules, pair) != Ok(false) && covered(&others, pair) != Ok(true))
            .map(|(cidr, port)| (Allow::Network(cidr), port))
            .collect();
        if lost.is_empty() {
            (
                "Other rules already allow dbt. The first command lists what uses the security groups. If only the load balancer \
                 does, remove the broad rules with the commands after it. If targets do too, first give them a rule that allows the \
                 load balancer.",
                Some(show_users),
            )
        } else {
            (
                "The first command allows dbt's networks, and lists what uses the security groups. If only the load balancer \
                 does, remove the broad rules with the commands after it. If targets do too, first give them a rule that allows the \
                 load balancer.",
                authorize(false, &first.group, lost, region).map(|allow| allow.then(show_users)),
            )
        }
    };
    let revoke = revoke(broad, region).filter(|_| !dbt.is_empty());
    let commands = command.map(|command| revoke.fold(command, Command::next_line));
    Remedy::new(action, commands, context.region.security_group(&first.group))
}

fn groups_of<'a>(rules: &[&'a SecurityGroupRule]) -> BTreeSet<&'a str> {
    rules.iter().map(|rule| rule.group.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::security_groups::tests::{PG, guarded, rule, rule_of};
    use super::*;
    use crate::snapshot::{Ports, Topology};
    use crate::testing::{call_error, failure, listener, settings, target_group, with_policy};

    const DBT_CIDRS: &str = "10.1.2.0/24,10.1.4.0/24";

    fn status(rules: Vec<SecurityGroupRule>, cidrs: &str) -> Status {
        with_policy(&guarded(rules), &settings(&[("DBT_CIDRS", cidrs)]).policy, evaluate).remove(0).status
    }

    fn is_broad(source: &str, cidrs: &str) -> bool {
        failure(status(vec![rule(source, PG)], cidrs)).is_some()
    }

    #[test]
    fn a_rule_that_allows_more_than_dbts_networks_is_broad() {
        for source in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "10.1.2.0/23"] {
            assert!(is_broad(source, DBT_CIDRS), "{source}");
        }
        for source in ["10.1.2.0/24", "10.1.2.128/25", "192.168.0.0/16", "sg-9", "pl-dbt"] {
            assert!(!is_broad(source, DBT_CIDRS), "{source}");
        }
        assert!(!is_broad("10.1.2.0/23", "10.1.2.0/24,10.1.3.0/24"), "adjacent networks of dbt's");
        assert!(is_broad("10.0.0.0/8", "") && is_broad("0.0.0.0/0", ""), "broad regardless of dbt's networks");
        assert!(!is_broad("10.1.0.0/16", ""), "not known without dbt's networks");
        assert!(is_broad("10.0.0.0/8", "172.16.4.0/24"), "the trial network, regardless of dbt's");
    }

    #[test]
    fn a_listener_port_counts_even_if_dbt_does_not_use_it() {
        let variables = [("DBT_CIDRS", DBT_CIDRS), ("LISTENER_PORTS", "443")];
        let topology = guarded(vec![rule("0.0.0.0/0", PG)]);
        let status = with_policy(&topology, &settings(&variables).policy, evaluate).remove(0).status;
        let command = failure(status).unwrap().remedy.command.unwrap();
        assert!(command.starts_with("aws ec2 describe"), "dbt loses nothing: {command}");
    }

    #[test]
    fn the_command_skips_ports_that_other_rules_allow() {
        let mut topology = guarded(vec![rule("10.1.2.0/24", PG), rule("10.0.0.0/8", Some(Ports::one(443)))]);
        let https = listener("TCP", 443, &target_group("pg"));
        topology.load_balancers.values_mut().next().unwrap().listeners = Ok(vec![https]);
        let policy = settings(&[("DBT_CIDRS", "10.1.2.0/24"), ("LISTENER_PORTS", "5432+443")]).policy;
        let finding = failure(with_policy(&topology, &policy, evaluate).remove(0).status).unwrap();
        let command = finding.remedy.command.unwrap();
        assert!(command.contains("ToPort=443") && !command.contains("5432"), "{command}");
    }

    #[test]
    fn rules_that_are_not_enforced_pass() {
        let mut topology = guarded(vec![rule("0.0.0.0/0", PG)]);
        topology.load_balancers.values_mut().next().unwrap().description.as_mut().unwrap().enforced = Some(false);
        assert!(matches!(with_policy(&topology, &settings(&[]).policy, evaluate)[0].status, Status::Pass(_)));
    }

    #[test]
    fn rules_for_other_ports_or_protocols_pass() {
        assert!(matches!(status(vec![rule("0.0.0.0/0", Some(Ports::one(22)))], DBT_CIDRS), Status::Pass(_)));
        assert!(matches!(status(vec![rule("0.0.0.0/0", None)], DBT_CIDRS), Status::Pass(_)));
    }

    #[test]
    fn the_first_command_allows_dbt_and_removes_nothing() {
        let rules = vec![rule("10.1.2.0/24", PG), rule("10.0.0.0/8", PG), rule_of("sg-2", "0.0.0.0/0", PG)];
        let finding = failure(status(rules, DBT_CIDRS)).unwrap();
        assert_eq!(finding.summary, "2 inbound rules of pg allow more than dbt");
        let commands = finding.remedy.command.unwrap();
        let [first, removes @ ..] = &commands.lines().collect::<Vec<_>>()[..] else { unreachable!("{commands}") };
        let steps: Vec<&str> = first.split(" && ").collect();
        assert!(
            steps[0].contains("authorize") && steps[0].contains("10.1.4.0/24") && !steps[0].contains("10.1.2.0/24")
        );
        assert!(steps[1].contains("Values=sg-1,sg-2") && !first.contains("revoke"), "{first}");
        assert!(removes[0].contains("--group-id sg-1 --security-group-rule-ids"), "{removes:?}");
        assert!(removes[1].ends_with("--group-id sg-2 --security-group-rule-ids sgr-sg-2"), "{removes:?}");
    }

    #[test]
    fn a_failed_read_is_unknown() {
        assert!(matches!(status(vec![rule("pl-unread", PG)], DBT_CIDRS), Status::Unknown(_)));
        assert!(matches!(status(vec![rule("pl-unread", PG), rule("0.0.0.0/0", PG)], DBT_CIDRS), Status::Fail(_)));
        let mut unread: Topology = guarded(vec![]);
        unread.network.as_mut().unwrap().rules = Err(call_error("ec2:DescribeSecurityGroupRules"));
        let policy = settings(&[]).policy;
        assert!(matches!(with_policy(&unread, &policy, evaluate)[0].status, Status::Unknown(_)));
    }
}
