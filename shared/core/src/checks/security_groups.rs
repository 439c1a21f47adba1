//! `load-balancer.security-groups`: do the load balancer's security groups let dbt in?

use ipnet::IpNet;

use super::catalogue::{ALWAYS, Absence};
use super::inbound_rules::{self, InboundRules, authorize};
use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status, limited};
use crate::snapshot::SecurityGroupRule;

/// Evidence lines per alert; the rest is counted.
const MAX_RULES: usize = 20;

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "load-balancer.security-groups",
    severities: &[
        (Severity::Critical, "a network of `DbtCidrs` is blocked on a port; without `DbtCidrs`, a port allows nobody"),
        (Severity::Warning, "`DbtCidrs` is empty, so the guard cannot tell whether dbt is allowed"),
    ],
    fails_when: "inbound rules are enforced on PrivateLink traffic, and `DbtCidrs` is empty or not all of it is \
                 allowed on every listener port (of `ListenerPorts`, if set)",
    impact: "dbt's connections from a blocked network time out before they reach a listener. If `DbtCidrs` is empty, \
             the guard does not know dbt's networks, and dbt may be blocked.",
    fix_in_short: "`authorize-security-group-ingress` for dbt's networks, or switch enforcement off",
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

/// One result per load balancer.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    inbound_rules::per_load_balancer(context, &SPEC, judge)
}

fn judge(inbound: &InboundRules<'_>) -> Status {
    let InboundRules { context, balancer, groups, rules, ports, .. } = inbound;
    if context.policy.dbt_cidrs.is_empty() {
        return cannot_tell(inbound);
    }
    let pairs: Vec<(IpNet, u16)> =
        ports.iter().flat_map(|port| context.policy.dbt_cidrs.iter().map(move |cidr| (*cidr, *port))).collect();
    let mut kept_out = Vec::new();
    for (cidr, port) in &pairs {
        match inbound.covers(rules, cidr, *port) {
            Ok(true) => {}
            Ok(false) => kept_out.push((*cidr, *port)),
            Err(why) => return Status::Unknown(why),
        }
    }
    if kept_out.is_empty() {
        return Status::Pass;
    }
    let pairs_named = limited(kept_out.iter().map(|(cidr, port)| format!("{cidr} on port {port}")).collect(), 3);
    let group = groups.first().map(String::as_str).unwrap_or_default();
    Status::Fail(Box::new(Finding {
        severity: Severity::Critical,
        summary: format!(
            "security groups of {} keep dbt out ({} of {} ways): {}",
            balancer.name(),
            kept_out.len(),
            pairs.len(),
            pairs_named.join(", ")
        ),
        impact: "dbt cannot connect from these networks: its connections time out before they reach a listener."
            .to_owned(),
        evidence: evidence(inbound),
        remedy: Remedy {
            action: "Let dbt's networks in. If they have changed, ask dbt Support and fix the stack's DbtCidrs."
                .to_owned(),
            command: Some(authorize(group, &kept_out, context.region.name())),
            console: context.region.security_group(group),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

/// Without dbt's networks only that can be told: whether anybody is let in at all.
fn cannot_tell(inbound: &InboundRules<'_>) -> Status {
    let InboundRules { context, balancer, groups, rules, ports, .. } = inbound;
    let opens = |rule: &SecurityGroupRule, port: u16| {
        rule.tcp.is_some_and(|ports| ports.contains(port))
            && inbound.sources(rule).map_or(true, |sources| !sources.is_empty())
    };
    let shut: Vec<String> =
        ports.iter().filter(|port| !rules.iter().any(|rule| opens(rule, **port))).map(ToString::to_string).collect();
    let name = balancer.name();
    let (severity, summary, impact) = if shut.is_empty() {
        (
            Severity::Warning,
            format!("cannot tell whether security groups of {name} let dbt in: DbtCidrs is empty"),
            "dbt connects only from networks that a rule allows, and the guard does not know dbt's.",
        )
    } else {
        (
            Severity::Critical,
            format!("security groups of {name} let nobody in on port {}", shut.join(", ")),
            "dbt cannot connect: its connections time out before they reach a listener.",
        )
    };
    let group = groups.first().map(String::as_str).unwrap_or_default();
    Status::Fail(Box::new(Finding {
        severity,
        summary,
        impact: impact.to_owned(),
        evidence: evidence(inbound),
        remedy: Remedy {
            action: "Ask dbt Support for the networks your dbt environment connects from, and deploy the stack anew with them \
                   in DbtCidrs."
                .to_owned(),
            command: Some(format!(
                "aws ec2 describe-security-group-rules --region {} --filters Name=group-id,Values={}",
                context.region.name(),
                groups.join(",")
            )),
            console: context.region.security_group(group),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

fn evidence(inbound: &InboundRules<'_>) -> Vec<String> {
    let enforced = "inbound rules are enforced on PrivateLink traffic".to_owned();
    let groups = format!("security groups: {}", inbound.groups.join(", "));
    let rules = inbound.rules.iter().map(|rule| inbound.describe(rule)).collect();
    [enforced, groups].into_iter().chain(limited(rules, MAX_RULES)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::snapshot::{Description, LoadBalancer, Network, Ports, Source, Topology};
    use crate::testing::{
        call_error, endpoint_service, listener, load_balancer, network, settings, target_group, topology, with_policy,
    };

    /// A rule of `sg-1`.
    pub(in crate::checks) fn rule(source: &str, tcp: Option<Ports>) -> SecurityGroupRule {
        rule_of("sg-1", source, tcp)
    }

    pub(in crate::checks) fn rule_of(group: &str, source: &str, tcp: Option<Ports>) -> SecurityGroupRule {
        let source = match source {
            list if list.starts_with("pl-") => Source::PrefixList(list.to_owned()),
            group if group.starts_with("sg-") => Source::Group(group.to_owned()),
            cidr => Source::Cidr(cidr.parse().unwrap()),
        };
        SecurityGroupRule { id: format!("sgr-{group}"), group: group.to_owned(), tcp, source }
    }

    pub(in crate::checks) const PG: Option<Ports> = Some(Ports { first: 5432, last: 5432 });

    /// A load balancer that listens on 5432, with the groups sg-1 and sg-2 and these rules.
    pub(in crate::checks) fn guarded(rules: Vec<SecurityGroupRule>) -> Topology {
        let group = target_group("pg");
        let mut balancer =
            LoadBalancer { listeners: Ok(vec![listener("TCP", 5432, &group)]), ..load_balancer("pg", vec![group]) };
        let description = balancer.description.as_mut().unwrap();
        description.security_groups = vec!["sg-1".to_owned(), "sg-2".to_owned()];
        description.enforced = Some(true);
        let lists = [
            ("pl-dbt".to_owned(), Ok(vec!["10.1.2.0/24".parse().unwrap()])),
            ("pl-dark".to_owned(), Err(call_error("ec2:GetManagedPrefixListEntries"))),
        ];
        let network = Network { rules: Ok(rules), prefix_lists: lists.into(), ..network() };
        Topology { network: Some(network), ..topology(endpoint_service(), [balancer]) }
    }

    fn status(topology: &Topology, cidrs: &str) -> Status {
        let policy = settings(&[("DBT_CIDRS", cidrs)]).policy;
        with_policy(topology, &policy, evaluate).remove(0).status
    }

    fn lets_in(rules: Vec<SecurityGroupRule>, cidrs: &str) -> bool {
        match status(&guarded(rules), cidrs) {
            Status::Pass => true,
            Status::Fail(finding) => {
                assert_eq!(finding.severity, Severity::Critical);
                false
            }
            Status::Unknown(why) => panic!("unknown: {why}"),
        }
    }

    const DBT: &str = "10.1.2.0/24";

    #[test]
    fn a_rule_must_cover_protocol_port_and_network() {
        let wide = Some(Ports { first: 5000, last: 6000 });
        assert!(lets_in(vec![rule(DBT, PG)], DBT));
        assert!(lets_in(vec![rule("10.1.0.0/16", PG)], DBT), "a wider network contains it");
        assert!(lets_in(vec![rule(DBT, wide)], DBT));
        assert!(lets_in(vec![rule(DBT, Some(Ports::ALL))], DBT), "-1");
        assert!(!lets_in(vec![], DBT));
        assert!(!lets_in(vec![rule(DBT, None)], DBT), "UDP");
        assert!(!lets_in(vec![rule(DBT, Some(Ports::one(443)))], DBT));
        assert!(!lets_in(vec![rule("10.1.2.0/25", PG)], DBT), "half of it");
        assert!(!lets_in(vec![rule("10.1.3.0/24", PG)], DBT));
    }

    #[test]
    fn rules_and_groups_add_up() {
        let halves = |second: &str| vec![rule("10.1.2.0/25", PG), rule_of(second, "10.1.2.128/25", PG)];
        assert!(lets_in(halves("sg-1"), DBT));
        assert!(lets_in(halves("sg-2"), DBT), "the union of the groups");
        assert!(!lets_in(halves("sg-3"), DBT), "a group that is not the load balancer's");
        let quarters = ["10.1.2.64/26", "10.1.2.192/26", "10.1.2.0/26", "10.1.2.128/26"];
        assert!(lets_in(quarters.map(|cidr| rule(cidr, PG)).to_vec(), DBT));
        assert!(!lets_in(quarters[..3].iter().map(|cidr| rule(cidr, PG)).collect(), DBT));
        assert!(!lets_in(vec![rule(DBT, PG)], "10.1.2.0/24,10.9.0.0/16"), "each network counts");
    }

    #[test]
    fn families_prefix_lists_and_groups() {
        assert!(lets_in(vec![rule("2001:db8::/32", PG)], "2001:db8:1::/48"));
        assert!(!lets_in(vec![rule("::/0", PG)], DBT), "IPv6 does not let IPv4 in");
        assert!(!lets_in(vec![rule("0.0.0.0/0", PG)], "2001:db8:1::/48"));
        assert!(lets_in(vec![rule("pl-dbt", PG)], DBT));
        assert!(!lets_in(vec![rule("pl-dbt", PG)], "10.1.3.0/24"));
        assert!(!lets_in(vec![rule("sg-9", PG)], DBT), "members of a group are never dbt");
    }

    #[test]
    fn without_enforcement_or_groups_rules_do_not_matter() {
        let changed = |change: fn(&mut Description)| {
            let mut topology = guarded(vec![]);
            change(topology.load_balancers.values_mut().next().unwrap().description.as_mut().unwrap());
            status(&topology, DBT)
        };
        assert!(matches!(changed(|_| {}), Status::Fail(_)));
        assert_eq!(changed(|own| own.enforced = Some(false)), Status::Pass);
        assert_eq!(changed(|own| (own.security_groups, own.enforced) = (vec![], None)), Status::Pass);
        assert!(matches!(changed(|own| own.enforced = None), Status::Fail(_)), "on is ELB's default");
    }

    #[test]
    fn without_dbts_networks_nobody_can_tell_unless_nobody_is_let_in() {
        let told = |rules| match status(&guarded(rules), "") {
            Status::Fail(finding) => finding.severity,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(vec![rule("0.0.0.0/0", PG)]), Severity::Warning);
        assert_eq!(told(vec![rule("pl-dark", PG)]), Severity::Warning);
        assert_eq!(told(vec![rule("sg-9", PG), rule(DBT, Some(Ports::one(443)))]), Severity::Critical);
    }

    #[test]
    fn what_could_not_be_read_is_unknown_only_where_it_decides() {
        let dark = || rule("pl-dark", PG);
        assert!(matches!(status(&guarded(vec![dark()]), DBT), Status::Unknown(_)));
        assert_eq!(status(&guarded(vec![dark(), rule(DBT, PG)]), DBT), Status::Pass);
        let mut blind = guarded(vec![]);
        blind.network.as_mut().unwrap().rules = Err(call_error("ec2:DescribeSecurityGroupRules"));
        assert!(matches!(status(&blind, DBT), Status::Unknown(_)));
        assert!(matches!(status(&Topology { network: None, ..blind }, DBT), Status::Unknown(_)));
    }

    #[test]
    fn only_expected_ports_count_and_the_command_names_what_lacks() {
        let mut topology = guarded(vec![rule(DBT, PG)]);
        let balancer = topology.load_balancers.values_mut().next().unwrap();
        let ssh = listener("TCP", 22, &target_group("pg"));
        balancer.listeners.as_mut().unwrap().push(ssh);
        let told =
            |variables: &[(&str, &str)]| with_policy(&topology, &settings(variables).policy, evaluate).remove(0).status;
        assert_eq!(told(&[("DBT_CIDRS", DBT), ("LISTENER_PORTS", "5432")]), Status::Pass);
        let Status::Fail(finding) = told(&[("DBT_CIDRS", DBT)]) else { panic!("port 22 is shut") };
        let summary = "security groups of pg keep dbt out (1 of 2 ways): 10.1.2.0/24 on port 22";
        assert_eq!(finding.summary, summary);
        let command = finding.remedy.command.unwrap();
        assert!(
            command.ends_with("'IpProtocol=tcp,FromPort=22,ToPort=22,IpRanges=[{CidrIp=10.1.2.0/24}]'"),
            "{command}"
        );
    }
}
