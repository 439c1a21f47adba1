//! `load-balancer.security-groups`: do the load balancer's security groups allow dbt?
//!
//! The rules of all its groups together must cover each of dbt's networks on each expected port, or on every listener's
//! port if none is expected. An unreadable prefix list makes the result unknown only if it would decide. Without
//! configured dbt networks, the result is info; but it passes if every IPv4 source is allowed
//! (`load-balancer.broad-rule` then warns), and it is critical if no rule opens a port at all. Without a port to judge,
//! the result is unknown: the loss of a listener fixes no rule.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net};

use crate::check::inbound_rules::{self, InboundRules, ids_of};
use crate::check::security_rules::{Allow, authorize};
use crate::check::{CheckContext, CheckResult, Command, Finding, Need, Remedy, Severity, Spec, Status};
use crate::snapshot::SecurityGroupRule;
use crate::text::limited;

/// Maximum number of rules in an alert's evidence; the rest is counted.
const MAX_RULES: usize = 20;

pub(crate) const SPEC: Spec = Spec {
    id: "load-balancer.security-groups",
    in_short: "Security groups allow dbt's networks on dbt's ports.",
    severities: &[
        (Severity::Critical, "a network of `DbtCidrs` is blocked on a port; without `DbtCidrs`, a port allows nobody"),
        (Severity::Warning, "a network of `DbtCidrs` is public: dbt does not connect from it"),
        (
            Severity::Info,
            "`DbtCidrs` is empty and not every source is allowed, so the guard cannot tell whether dbt is",
        ),
    ],
    fails_when: "inbound rules are enforced on PrivateLink traffic, and `DbtCidrs` has a public network, or a rule is \
                 missing for a part of it on a port of `ListenerPorts`; an empty `DbtCidrs` stands for every IPv4 \
                 source, an empty `ListenerPorts` for every listener port",
    failing_word: "blocked",
    impact: "dbt's connections from a blocked network time out before they reach a listener. If `DbtCidrs` is empty, \
             the guard does not know dbt's networks, and dbt may be blocked.",
    cloudtrail_events: inbound_rules::CLOUDTRAIL_EVENTS,
    needs: Some(Need::DbtCidrs),
    evaluate,
    ..Spec::USUAL
};

fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    inbound_rules::per_load_balancer(context, &SPEC, judge)
}

fn judge(inbound: &InboundRules<'_>) -> Status {
    let InboundRules { context, rules, ports, .. } = inbound;
    if context.policy.dbt_cidrs.is_empty() {
        return match allows_all_ipv4(inbound) {
            true => Status::pass(format!("security groups allow every IPv4 source on {}", named(ports))),
            false => Status::fail(without_dbt_cidrs(inbound)),
        };
    }
    let public: BTreeSet<IpNet> = context.policy.public_cidrs().copied().collect();
    // A public network is not dbt's, so it needs no rule.
    let private: Vec<IpNet> = context.policy.dbt_cidrs.iter().filter(|cidr| !public.contains(cidr)).copied().collect();
    let pairs: Vec<(IpNet, u16)> =
        ports.iter().flat_map(|port| private.iter().map(move |cidr| (*cidr, *port))).collect();
    let (mut blocked, mut unread) = (Vec::new(), None);
    for (cidr, port) in &pairs {
        match inbound.covers(rules, cidr, *port) {
            Ok(true) => {}
            Ok(false) => blocked.push((*cidr, *port)),
            Err(why) => unread = Some(why),
        }
    }
    if blocked.is_empty() && !public.is_empty() {
        return Status::fail(public_networks(&public, inbound).with_unknown_rest(unread));
    }
    if blocked.is_empty() {
        let no_port = || format!("no listener of {} serves dbt", inbound.load_balancer.name());
        if let Some(why) = unread.or_else(|| pairs.is_empty().then(no_port)) {
            return Status::Unknown(why);
        }
        return Status::pass(format!("security groups allow dbt on {}", named(ports)));
    }
    let group = first_group(inbound);
    let allowed = blocked.iter().map(|(cidr, port)| (Allow::Network(*cidr), *port));
    let allow = authorize(false, group, allowed, context.region);
    Status::fail(
        Finding::new(
            Severity::Critical,
            blocked_summary(&blocked, private.len()),
            "dbt cannot connect from the blocked networks: its connections time out before they reach a \
             listener.",
            Remedy::new(
                "Allow dbt's networks with the first command. If they have changed, ask dbt Support, and correct the \
                 stack's DbtCidrs. Or switch enforcement off with the second, an option in dbt's guide.",
                allow.map(|allow| allow.next_line(enforcement_off(inbound))),
                context.region.security_group(group),
            ),
        )
        // The blocked networks come first, because chat shows only the first lines.
        .with_evidence(std::iter::once(blocked_networks(&blocked)).chain(evidence(inbound)).collect())
        .with_parts(blocked.iter().map(|(cidr, port)| format!("{cidr} on port {port}")))
        .with_unknown_rest(unread)
        .about(ids(inbound))
        .stopping_dbt(true),
    )
}

/// Whether the rules allow every IPv4 source on each port. Then dbt's networks do not matter, because its endpoints are
/// IPv4.
fn allows_all_ipv4(inbound: &InboundRules<'_>) -> bool {
    let everywhere = IpNet::from(Ipv4Net::default());
    let is_open = |port: &u16| inbound.covers(&inbound.rules, &everywhere, *port) == Ok(true);
    !inbound.ports.is_empty() && inbound.ports.iter().all(is_open)
}

/// The finding for public networks in `DbtCidrs`, if no private network is blocked.
fn public_networks(public: &BTreeSet<IpNet>, inbound: &InboundRules<'_>) -> Finding {
    let names: Vec<String> = public.iter().map(ToString::to_string).collect();
    let group = first_group(inbound);
    let summary = match &names[..] {
        [one] => format!("DbtCidrs has a public network: {one}"),
        several => format!("DbtCidrs has {} public networks", several.len()),
    };
    Finding::new(
        Severity::Warning,
        summary,
        "dbt connects over PrivateLink from private addresses. The public addresses that dbt lists are for its other \
         connections, so dbt may be blocked although these networks are allowed.",
        Remedy::new(
            "Ask dbt Support for the internal networks of your dbt environment, and set them as the stack's DbtCidrs. Remove the \
             rules that allow the public ones, if nobody else needs them.",
            None,
            inbound.context.region.security_group(group),
        ),
    )
    .with_evidence(limited(names.clone(), MAX_RULES))
    .with_parts(names)
    .about(ids(inbound))
}

/// `security group blocks dbt on port 5432`; with the network or their number, if only some of dbt's networks are
/// blocked.
fn blocked_summary(blocked: &[(IpNet, u16)], networks: usize) -> String {
    let ports: BTreeSet<u16> = blocked.iter().map(|(_, port)| *port).collect();
    let cidrs: BTreeSet<IpNet> = blocked.iter().map(|(cidr, _)| *cidr).collect();
    let whom = match (cidrs.first(), cidrs.len()) {
        (_, some) if some == networks => "dbt".to_owned(),
        (Some(one), 1) => one.to_string(),
        (_, some) => format!("{some} of {networks} dbt networks"),
    };
    format!("security group blocks {whom} on {}", named(&ports))
}

/// `blocked: 10.1.2.0/24 on port 5432; 10.9.0.0/16 on ports 443, 5432`.
fn blocked_networks(blocked: &[(IpNet, u16)]) -> String {
    let mut ports: BTreeMap<IpNet, BTreeSet<u16>> = BTreeMap::new();
    for (cidr, port) in blocked {
        ports.entry(*cidr).or_default().insert(*port);
    }
    let networks = ports.iter().map(|(cidr, ports)| format!("{cidr} on {}", named(ports))).collect();
    format!("blocked: {}", limited(networks, MAX_RULES).join("; "))
}

/// `port 5432`, `ports 443, 5432`.
fn named(ports: &BTreeSet<u16>) -> String {
    let plural = if ports.len() == 1 { "" } else { "s" };
    format!("port{plural} {}", ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// The finding without configured dbt networks. A port that is closed to everybody is visible even then.
fn without_dbt_cidrs(inbound: &InboundRules<'_>) -> Finding {
    let InboundRules { context, groups, rules, ports, .. } = inbound;
    // An unreadable prefix list may open a port.
    let mut unread = None;
    let mut opens = |rule: &SecurityGroupRule, port: u16| {
        rule.tcp.is_some_and(|ports| ports.contains(port))
            && inbound.sources(rule).map_or_else(
                |why| {
                    unread = Some(why);
                    true
                },
                |sources| !sources.is_empty(),
            )
    };
    let closed: BTreeSet<u16> =
        ports.iter().filter(|port| !rules.iter().any(|rule| opens(rule, **port))).copied().collect();
    let (severity, summary, impact) = if closed.is_empty() {
        (
            Severity::Info,
            "cannot tell if security groups allow dbt: DbtCidrs is empty".to_owned(),
            "dbt can connect only from networks that a rule allows, and the guard does not know dbt's networks.",
        )
    } else {
        (
            Severity::Critical,
            format!("no security group rule opens {} to dbt", named(&closed)),
            "dbt cannot connect: its connections time out before they reach a listener.",
        )
    };
    Finding::new(
        severity,
        summary,
        impact,
        Remedy::new(
            match closed.is_empty() {
                true => {
                    "Ask dbt Support which networks your dbt environment connects from, and set them as the \
                     stack's DbtCidrs."
                }
                false => {
                    "Ask dbt Support which networks your dbt environment connects from. Allow them on the port, \
                     and set them as the stack's DbtCidrs."
                }
            },
            Some(
                Command::new("ec2 describe-security-group-rules", context.region)
                    .option("filters", format!("Name=group-id,Values={}", groups.join(","))),
            ),
            context.region.security_group(first_group(inbound)),
        ),
    )
    .with_evidence(evidence(inbound))
    .with_parts(closed.iter().map(|port| format!("port {port}")))
    .with_unknown_rest(unread)
    .about(ids(inbound))
    .stopping_dbt(!closed.is_empty())
}

/// dbt's other option: the rules stay, but no longer apply to PrivateLink traffic. ELB replaces the list of security
/// groups, so the command names all of them.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_SetSecurityGroups.html>
fn enforcement_off(inbound: &InboundRules<'_>) -> Command {
    Command::new("elbv2 set-security-groups", inbound.context.region)
        .option("load-balancer-arn", &inbound.load_balancer.arn)
        .options("security-groups", inbound.groups)
        .literal("--enforce-security-group-inbound-rules-on-private-link-traffic off")
}

/// The load balancer's security groups, and the ids in their rules.
fn ids<'a>(inbound: &InboundRules<'a>) -> impl Iterator<Item = &'a str> {
    inbound.groups.iter().map(String::as_str).chain(ids_of(&inbound.rules))
}

fn first_group<'a>(inbound: &InboundRules<'a>) -> &'a str {
    inbound.groups.first().map(String::as_str).unwrap_or_default()
}

fn evidence(inbound: &InboundRules<'_>) -> Vec<String> {
    let enforced =
        format!("load balancer {}: enforces inbound rules on PrivateLink traffic", inbound.load_balancer.name());
    let groups = format!("security groups: {}", inbound.groups.join(", "));
    let rules = inbound.rules.iter().map(|rule| inbound.describe(rule)).collect();
    [enforced, groups].into_iter().chain(limited(rules, MAX_RULES)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::snapshot::{Description, LoadBalancer, Network, Ports, Topology};
    use crate::testing::{
        call_error, endpoint_service, failure, listener, load_balancer, network, parts, security_group_rule, settings,
        target_group, topology, with_policy,
    };

    pub(in crate::checks) fn rule(source: &str, tcp: Option<Ports>) -> SecurityGroupRule {
        rule_of("sg-1", source, tcp)
    }

    pub(in crate::checks) fn rule_of(group: &str, source: &str, tcp: Option<Ports>) -> SecurityGroupRule {
        security_group_rule(group, false, source, tcp)
    }

    /// The port that [`guarded`] listens on.
    pub(in crate::checks) const PG: Option<Ports> = Some(Ports { first: 5432, last: 5432 });

    /// A load balancer that listens on 5432, with the enforced security groups sg-1 and sg-2 and these rules. The
    /// prefix list pl-dbt contains [`DBT_CIDR`], and pl-unread cannot be read.
    pub(in crate::checks) fn guarded(rules: Vec<SecurityGroupRule>) -> Topology {
        let group = target_group("pg");
        let mut load_balancer =
            LoadBalancer { listeners: Ok(vec![listener("TCP", 5432, &group)]), ..load_balancer("pg", vec![group]) };
        let description = load_balancer.description.as_mut().unwrap();
        description.security_groups = vec!["sg-1".to_owned(), "sg-2".to_owned()];
        description.enforced = Some(true);
        let lists = [
            ("pl-dbt".to_owned(), Ok(vec!["10.1.2.0/24".parse().unwrap()])),
            ("pl-unread".to_owned(), Err(call_error("ec2:GetManagedPrefixListEntries"))),
        ];
        let network = Network { rules: Ok(rules), prefix_lists: lists.into(), ..network() };
        Topology { network: Some(network), ..topology(endpoint_service(), [load_balancer]) }
    }

    fn status(topology: &Topology, cidrs: &str) -> Status {
        let policy = settings(&[("DBT_CIDRS", cidrs)]).policy;
        with_policy(topology, &policy, evaluate).remove(0).status
    }

    /// Whether these rules allow these networks.
    fn allows(rules: Vec<SecurityGroupRule>, cidrs: &str) -> bool {
        let finding = failure(status(&guarded(rules), cidrs));
        assert!(finding.iter().all(|finding| finding.severity == Severity::Critical), "{finding:?}");
        finding.is_none()
    }

    const DBT_CIDR: &str = "10.1.2.0/24";

    #[test]
    fn a_rule_must_cover_protocol_port_and_network() {
        let wide = Some(Ports { first: 5000, last: 6000 });
        assert!(allows(vec![rule(DBT_CIDR, PG)], DBT_CIDR));
        assert!(allows(vec![rule("10.1.0.0/16", PG)], DBT_CIDR), "a wider network contains it");
        assert!(allows(vec![rule(DBT_CIDR, wide)], DBT_CIDR));
        assert!(allows(vec![rule(DBT_CIDR, Some(Ports::ALL))], DBT_CIDR), "-1");
        assert!(!allows(vec![], DBT_CIDR));
        assert!(!allows(vec![rule(DBT_CIDR, None)], DBT_CIDR), "UDP");
        assert!(!allows(vec![rule(DBT_CIDR, Some(Ports::one(443)))], DBT_CIDR));
        assert!(!allows(vec![rule("10.1.2.0/25", PG)], DBT_CIDR), "half of it");
        assert!(!allows(vec![rule("10.1.3.0/24", PG)], DBT_CIDR));
    }

    #[test]
    fn rules_of_all_groups_together_must_cover_each_network() {
        let halves = |second: &str| vec![rule("10.1.2.0/25", PG), rule_of(second, "10.1.2.128/25", PG)];
        assert!(allows(halves("sg-1"), DBT_CIDR));
        assert!(allows(halves("sg-2"), DBT_CIDR), "the union of the groups");
        assert!(!allows(halves("sg-3"), DBT_CIDR), "a group that is not the load balancer's");
        let quarters = ["10.1.2.64/26", "10.1.2.192/26", "10.1.2.0/26", "10.1.2.128/26"];
        assert!(allows(quarters.map(|cidr| rule(cidr, PG)).to_vec(), DBT_CIDR));
        assert!(!allows(quarters[..3].iter().map(|cidr| rule(cidr, PG)).collect(), DBT_CIDR));
        assert!(!allows(vec![rule(DBT_CIDR, PG)], "10.1.2.0/24,10.9.0.0/16"), "each network counts");
    }

    #[test]
    fn each_address_family_needs_its_own_rule() {
        assert!(allows(vec![rule("2001:db8::/32", PG)], "2001:db8:1::/48"));
        assert!(!allows(vec![rule("::/0", PG)], DBT_CIDR), "an IPv6 rule does not allow IPv4");
        assert!(!allows(vec![rule("0.0.0.0/0", PG)], "2001:db8:1::/48"));
        assert!(allows(vec![rule("pl-dbt", PG)], DBT_CIDR));
        assert!(!allows(vec![rule("pl-dbt", PG)], "10.1.3.0/24"));
        assert!(!allows(vec![rule("sg-9", PG)], DBT_CIDR), "members of a group are never dbt");
    }

    #[test]
    fn rules_without_enforcement_or_groups_do_not_matter() {
        let changed = |change: fn(&mut Description)| {
            let mut topology = guarded(vec![]);
            change(topology.load_balancers.values_mut().next().unwrap().description.as_mut().unwrap());
            status(&topology, DBT_CIDR)
        };
        assert!(matches!(changed(|_| {}), Status::Fail(_)));
        assert!(matches!(changed(|nlb| nlb.enforced = Some(false)), Status::Pass(_)));
        assert!(matches!(changed(|nlb| (nlb.security_groups, nlb.enforced) = (vec![], None)), Status::Pass(_)));
        assert!(matches!(changed(|nlb| nlb.enforced = None), Status::Fail(_)), "on is ELB's default");
    }

    #[test]
    fn a_public_network_is_a_warning_and_stays_closed() {
        let public = "52.45.144.63/32";
        let finding = failure(status(&guarded(vec![rule(public, PG)]), public)).unwrap();
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.summary, "DbtCidrs has a public network: 52.45.144.63/32");
        assert_eq!(finding.remedy.command, None);
        let both = format!("{public},{DBT_CIDR}");
        let blocked = failure(status(&guarded(vec![]), &both)).unwrap();
        assert_eq!((blocked.severity, parts(&blocked)), (Severity::Critical, vec!["10.1.2.0/24 on port 5432"]));
        assert!(!blocked.remedy.command.unwrap().contains(public));
    }

    #[test]
    fn a_port_closed_to_all_is_critical_without_dbt_cidrs() {
        let (all, half) = ("0.0.0.0/0", ["0.0.0.0/1", "128.0.0.0/1"].map(|cidr| rule(cidr, PG)));
        let table = [
            (vec![rule(all, PG)], None),
            (vec![rule("sg-9", PG), rule(all, Some(Ports::ALL))], None),
            (half.to_vec(), None),
            (vec![rule(all, PG), rule("pl-unread", PG)], None),
            (half[..1].to_vec(), Some(Severity::Info)),
            (vec![rule("::/0", PG)], Some(Severity::Info)),
            (vec![rule(DBT_CIDR, PG)], Some(Severity::Info)),
            (vec![rule("pl-unread", PG)], Some(Severity::Info)),
            (vec![rule("sg-9", PG), rule(all, Some(Ports::one(443)))], Some(Severity::Critical)),
        ];
        for (rules, severity) in table {
            let status = status(&guarded(rules.clone()), "");
            assert!(!matches!(status, Status::Unknown(_)), "{rules:?}");
            assert_eq!(failure(status).map(|finding| finding.severity), severity, "{rules:?}");
        }
    }

    #[test]
    fn an_unread_prefix_list_is_unknown_only_if_decisive() {
        let unread = || rule("pl-unread", PG);
        assert!(matches!(status(&guarded(vec![unread()]), DBT_CIDR), Status::Unknown(_)));
        assert!(matches!(status(&guarded(vec![unread(), rule(DBT_CIDR, PG)]), DBT_CIDR), Status::Pass(_)));
        for (group, is_unknown) in [("sg-2", true), ("sg-9", false)] {
            let mut incomplete = guarded(vec![rule(DBT_CIDR, PG)]);
            let unread_rules = [(group.to_owned(), call_error("ec2:DescribeSecurityGroupRules"))].into();
            incomplete.network.as_mut().unwrap().unread_rules = unread_rules;
            assert_eq!(matches!(status(&incomplete, DBT_CIDR), Status::Unknown(_)), is_unknown, "{group}");
        }
        let mut no_rules = guarded(vec![]);
        no_rules.network.as_mut().unwrap().rules = Err(call_error("ec2:DescribeSecurityGroupRules"));
        assert!(matches!(status(&no_rules, DBT_CIDR), Status::Unknown(_)));
        assert_eq!(status(&Topology { network: None, ..no_rules }, DBT_CIDR), Status::NotAsked);
    }

    #[test]
    fn a_finding_counts_blocked_networks_and_prints_both_remedies() {
        let finding = failure(status(&guarded(vec![rule(DBT_CIDR, PG)]), "10.1.2.0/24,10.9.0.0/16")).unwrap();
        assert_eq!(finding.summary, "security group blocks 10.9.0.0/16 on port 5432");
        assert_eq!(finding.evidence[0], "blocked: 10.9.0.0/16 on port 5432");
        let arn = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/pg/0123456789abcdef";
        let commands = finding.remedy.command.unwrap();
        let [allow, switch_off] = commands.lines().collect::<Vec<_>>()[..] else { unreachable!("{commands}") };
        assert!(allow.contains(" --group-id sg-1 ") && allow.contains("CidrIp=10.9.0.0/16"), "{allow}");
        assert_eq!(
            switch_off,
            format!(
                "aws elbv2 set-security-groups --region eu-central-1 --load-balancer-arn {arn} --security-groups sg-1 sg-2 \
                 --enforce-security-group-inbound-rules-on-private-link-traffic off"
            )
        );
        assert!(finding.remedy.console.unwrap().ends_with("#SecurityGroup:groupId=sg-1"));
        let all = failure(status(&guarded(vec![]), "10.1.2.0/24,10.9.0.0/16")).unwrap();
        assert_eq!(all.summary, "security group blocks dbt on port 5432");
        assert_eq!(all.evidence[0], "blocked: 10.1.2.0/24 on port 5432; 10.9.0.0/16 on port 5432");
        let three = failure(status(&guarded(vec![rule(DBT_CIDR, PG)]), "10.1.2.0/24,10.8.0.0/16,10.9.0.0/16")).unwrap();
        assert_eq!(three.summary, "security group blocks 2 of 3 dbt networks on port 5432");
    }

    #[test]
    fn the_evidence_lists_the_sources_of_each_rule() {
        let rules = vec![
            rule("10.1.3.0/24", PG),
            rule_of("sg-2", "pl-dbt", None),
            rule("pl-unread", Some(Ports::one(443))),
            rule("sg-9", PG),
        ];
        let finding = failure(status(&guarded(rules), "10.9.0.0/16")).unwrap();
        assert_eq!(
            finding.evidence[2..],
            [
                "security groups: sg-1, sg-2",
                "sgr-sg-1 of sg-1: TCP 5432 from 10.1.3.0/24",
                "sgr-sg-2 of sg-2: not TCP from pl-dbt, which is 10.1.2.0/24",
                "sgr-sg-1 of sg-1: TCP 443 from pl-unread, which cannot be read: \
                 ec2:GetManagedPrefixListEntries failed: AccessDenied: not authorized",
                "sgr-sg-1 of sg-1: TCP 5432 from members of sg-9",
            ]
        );
    }

    #[test]
    fn a_blocked_port_fails_even_if_another_port_is_unknown() {
        let mut topology = guarded(vec![rule("pl-unread", PG)]);
        let listeners = topology.load_balancers.values_mut().next().unwrap().listeners.as_mut().unwrap();
        listeners.push(listener("TCP", 6432, &target_group("pg")));
        let finding = failure(status(&topology, DBT_CIDR)).expect("no rule opens port 6432");
        assert_eq!(finding.summary, "security group blocks dbt on port 6432");
    }

    #[test]
    fn without_a_listener_only_expected_ports_are_judged() {
        let mut topology = guarded(vec![]);
        topology.load_balancers.values_mut().next().unwrap().listeners = Ok(vec![]);
        assert!(matches!(status(&topology, DBT_CIDR), Status::Unknown(_)), "nothing was fixed");
        let policy = settings(&[("DBT_CIDRS", DBT_CIDR), ("LISTENER_PORTS", "5432")]).policy;
        let finding = failure(with_policy(&topology, &policy, evaluate).remove(0).status).expect("it is blocked");
        assert_eq!(parts(&finding), ["10.1.2.0/24 on port 5432"]);
    }

    #[test]
    fn a_closed_port_counts_only_if_it_is_expected() {
        let mut topology = guarded(vec![rule(DBT_CIDR, PG)]);
        let load_balancer = topology.load_balancers.values_mut().next().unwrap();
        let ssh = listener("TCP", 22, &target_group("pg"));
        load_balancer.listeners.as_mut().unwrap().push(ssh);
        let status =
            |variables: &[(&str, &str)]| with_policy(&topology, &settings(variables).policy, evaluate).remove(0).status;
        assert!(matches!(status(&[("DBT_CIDRS", DBT_CIDR), ("LISTENER_PORTS", "5432")]), Status::Pass(_)));
        let finding = failure(status(&[("DBT_CIDRS", DBT_CIDR)])).expect("port 22 is closed");
        let summary = "security group blocks dbt on port 22";
        assert_eq!(finding.summary, summary);
        let command = finding.remedy.command.unwrap();
        assert!(
            command.contains("'IpProtocol=tcp,FromPort=22,ToPort=22,IpRanges=[{CidrIp=10.1.2.0/24}]'\n"),
            "{command}"
        );
    }
}
