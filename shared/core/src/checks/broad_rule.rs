//! `load-balancer.broad-rule`: do the load balancer's security groups let in more than dbt?

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::catalogue::{ALWAYS, Absence};
use super::inbound_rules::{self, InboundRules, authorize};
use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status, count, limited};
use crate::snapshot::SecurityGroupRule;

/// Evidence lines per alert; the rest is counted.
const MAX_RULES: usize = 20;

/// The rule of a first trial: what must be narrowed once dbt's own networks are known.
const TRIAL: &str = "10.0.0.0/8";

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "load-balancer.broad-rule",
    severities: &[(Severity::Warning, "always")],
    fails_when: "inbound rules are enforced on PrivateLink traffic, and one that opens a listener port allows \
                 `0.0.0.0/0`, `::/0`, `10.0.0.0/8`, or another network that contains one of `DbtCidrs` and more",
    impact: "Nothing changes for dbt, but others can reach your service through this load balancer.",
    fix_in_short: "allow dbt's networks, then `revoke-security-group-ingress`",
    can_flap: false,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: ALWAYS,
    cloudtrail_events: &[
        "AuthorizeSecurityGroupIngress",
        "CreateListener",
        "ModifyListener",
        "ModifyManagedPrefixList",
        "ModifySecurityGroupRules",
        "RestoreManagedPrefixListVersion",
        "RevokeSecurityGroupIngress",
        "SetSecurityGroups",
    ],
    group: Group::Settings,
    evaluate,
};

/// One result per load balancer whose security groups are enforced on what comes through PrivateLink; rules that are
/// not were never meant for dbt. Nor was a network that has nothing to do with dbt's: that is somebody else's business. One
/// that goes beyond dbt's was, and lets others in.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    inbound_rules::per_load_balancer(context, &SPEC, judge)
}

/// Whether `net` goes beyond dbt's networks while it reaches into them, lets in the whole world, or is the rule of a trial.
fn is_broad(net: &IpNet, dbt: &[IpNet]) -> bool {
    let known_to_be = net.prefix_len() == 0 || net.to_string() == TRIAL;
    let joined = IpNet::aggregate(&dbt.to_vec());
    let inside = joined.iter().any(|own| own.contains(net));
    let reaches = dbt.iter().any(|own| net.contains(own));
    !inside && (known_to_be || reaches)
}

fn judge(inbound: &InboundRules<'_>) -> Status {
    let InboundRules { context, balancer, ports, .. } = inbound;
    let dbt = &context.policy.dbt_cidrs;
    // Not only where dbt connects: whatever listens can be reached.
    let listeners = || balancer.listeners.iter().flatten();
    let relevant =
        |rule: &SecurityGroupRule| rule.tcp.is_some_and(|open| listeners().any(|own| open.contains(own.port)));
    let (mut broad, mut narrow, mut unread) = (Vec::new(), Vec::new(), None);
    for rule in inbound.rules.iter().copied().filter(|rule| relevant(rule)) {
        match inbound.sources(rule) {
            Ok(sources) if sources.iter().any(|net| is_broad(net, dbt)) => broad.push(rule),
            Ok(_) => narrow.push(rule),
            Err(why) => unread = Some(why),
        }
    }
    let [first, ..] = broad[..] else { return unread.map_or(Status::Pass, Status::Unknown) };

    // What dbt would lose with these rules must be let in first.
    let pairs = ports.iter().flat_map(|port| dbt.iter().map(move |cidr| (*cidr, *port)));
    let lost: Vec<(IpNet, u16)> =
        pairs.filter(|(cidr, port)| inbound.covers(&narrow, cidr, *port) != Ok(true)).collect();
    let region = context.region.name();
    let groups: BTreeSet<&str> = broad.iter().map(|rule| rule.group.as_str()).collect();
    let revoke = groups.iter().map(|group| {
        let rules: Vec<&str> = broad.iter().filter(|rule| rule.group == *group).map(|rule| rule.id.as_str()).collect();
        format!(
            "to take it out: aws ec2 revoke-security-group-ingress --region {region} --group-id {group} \
             --security-group-rule-ids {}",
            rules.join(" ")
        )
    });
    let admit = (!lost.is_empty()).then(|| authorize(&first.group, &lost, region));
    // Not the command that takes the rule out: targets may have the same group, and the load balancer reach them by it.
    let users = format!(
        "aws ec2 describe-network-interfaces --region {region} --filters Name=group-id,Values={} --query \
         'NetworkInterfaces[].[PrivateIpAddress,Description]' --output text",
        groups.iter().copied().collect::<Vec<_>>().join(",")
    );
    let (action, command) = if dbt.is_empty() {
        (
            "Ask dbt Support for the networks your dbt environment connects from, put them into the stack's DbtCidrs, and \
             let them in. Before that, dbt may depend on this rule. Then take it out, if the command shows nothing but the \
             load balancer.",
            users,
        )
    } else {
        (
            "The command lets in those of dbt's networks that only the wide rule does, and shows who else has the security \
             group. If that is the load balancer alone, take the wide rule out; if your targets have it as well, give them a \
             rule for the load balancer first.",
            admit.into_iter().chain([users]).collect::<Vec<_>>().join(" && "),
        )
    };
    let lines = broad.iter().map(|rule| inbound.describe(rule)).collect();
    let known = if dbt.is_empty() {
        "dbt's networks: not known".to_owned()
    } else {
        format!("dbt's networks: {}", dbt.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    Status::Fail(Box::new(Finding {
        severity: Severity::Warning,
        summary: format!(
            "{} of {} {} in more than dbt",
            count(broad.len(), "rule"),
            balancer.name(),
            if broad.len() == 1 { "lets" } else { "let" }
        ),
        impact: "Nothing changes for dbt, but others can reach your service through this load balancer.".to_owned(),
        evidence: std::iter::once(known).chain(limited(lines, MAX_RULES)).chain(revoke).collect(),
        remedy: Remedy {
            action: action.to_owned(),
            command: Some(command),
            console: context.region.security_group(&first.group),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::security_groups::tests::{PG, guarded, rule, rule_of};
    use super::*;
    use crate::snapshot::{Ports, Topology};
    use crate::testing::{call_error, settings, with_policy};

    const DBT: &str = "10.1.2.0/24,10.1.4.0/24";

    fn status(rules: Vec<SecurityGroupRule>, cidrs: &str) -> Status {
        with_policy(&guarded(rules), &settings(&[("DBT_CIDRS", cidrs)]).policy, evaluate).remove(0).status
    }

    fn is_broad(source: &str, cidrs: &str) -> bool {
        match status(vec![rule(source, PG)], cidrs) {
            Status::Pass => false,
            Status::Fail(_) => true,
            Status::Unknown(why) => panic!("unknown: {why}"),
        }
    }

    #[test]
    fn what_goes_beyond_dbts_networks_is_broad() {
        for source in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "10.1.2.0/23"] {
            assert!(is_broad(source, DBT), "{source}");
        }
        for source in ["10.1.2.0/24", "10.1.2.128/25", "192.168.0.0/16", "sg-9", "pl-dbt"] {
            assert!(!is_broad(source, DBT), "{source}");
        }
        assert!(!is_broad("10.1.2.0/23", "10.1.2.0/24,10.1.3.0/24"), "dbt's networks side by side");
        assert!(
            is_broad("10.0.0.0/8", "") && is_broad("0.0.0.0/0", ""),
            "known to be wide whatever dbt's networks are"
        );
        assert!(!is_broad("10.1.0.0/16", ""), "who knows");
        assert!(is_broad("10.0.0.0/8", "172.16.4.0/24"), "the trial rule, wherever dbt is");
    }

    #[test]
    fn every_port_that_something_listens_on_counts_though_dbt_does_not_expect_it() {
        let variables = [("DBT_CIDRS", DBT), ("LISTENER_PORTS", "443")];
        let topology = guarded(vec![rule("0.0.0.0/0", PG)]);
        let status = with_policy(&topology, &settings(&variables).policy, evaluate).remove(0).status;
        let Status::Fail(finding) = status else { panic!("it fails") };
        let command = finding.remedy.command.unwrap();
        assert!(command.starts_with("aws ec2 describe"), "dbt loses nothing by it: {command}");
    }

    #[test]
    fn rules_that_are_not_enforced_are_not_dbts() {
        let mut topology = guarded(vec![rule("0.0.0.0/0", PG)]);
        topology.load_balancers.values_mut().next().unwrap().description.as_mut().unwrap().enforced = Some(false);
        assert_eq!(with_policy(&topology, &settings(&[]).policy, evaluate)[0].status, Status::Pass);
    }

    #[test]
    fn a_rule_for_other_ports_or_protocols_reaches_no_listener() {
        assert_eq!(status(vec![rule("0.0.0.0/0", Some(Ports::one(22)))], DBT), Status::Pass);
        assert_eq!(status(vec![rule("0.0.0.0/0", None)], DBT), Status::Pass);
    }

    #[test]
    fn the_command_lets_dbt_in_and_takes_nothing_out() {
        let rules = vec![rule("10.1.2.0/24", PG), rule("10.0.0.0/8", PG), rule_of("sg-2", "0.0.0.0/0", PG)];
        let Status::Fail(finding) = status(rules, DBT) else { panic!("it fails") };
        assert_eq!(finding.summary, "2 rules of pg let in more than dbt");
        let command = finding.remedy.command.unwrap();
        let steps: Vec<&str> = command.split(" && ").collect();
        assert!(
            steps[0].contains("authorize") && steps[0].contains("10.1.4.0/24") && !steps[0].contains("10.1.2.0/24")
        );
        assert!(steps[1].contains("Values=sg-1,sg-2") && !command.contains("revoke"), "{command}");
        let last = finding.evidence.last().unwrap();
        assert!(last.ends_with("--group-id sg-2 --security-group-rule-ids sgr-sg-2"), "{last}");
    }

    #[test]
    fn what_could_not_be_read_is_unknown() {
        assert!(matches!(status(vec![rule("pl-dark", PG)], DBT), Status::Unknown(_)));
        assert!(matches!(status(vec![rule("pl-dark", PG), rule("0.0.0.0/0", PG)], DBT), Status::Fail(_)));
        let mut blind: Topology = guarded(vec![]);
        blind.network.as_mut().unwrap().rules = Err(call_error("ec2:DescribeSecurityGroupRules"));
        let policy = settings(&[]).policy;
        assert!(matches!(with_policy(&blind, &policy, evaluate)[0].status, Status::Unknown(_)));
    }
}
