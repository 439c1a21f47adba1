//! The endpoint services that a change in AWS concerns. CloudTrail reports the whole account's changes, and Auto
//! Scaling, ECS, clusters and Terraform make them all day. A change that names only unrelated resources is *foreign*
//! and starts no run. Pure.
//!
//! A change is foreign only if it is a complete record of a call in drift-watcher's rules, and its parameters name at
//! least one id of a stored kind but no stored id. Every uncertain change concerns all services: an extra run costs
//! seconds, a missed change costs a quarter of an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::catalogue::checks_of;
use crate::check::Group;
use crate::ids::{Arn, ServiceId, load_balancer_of};
use crate::snapshot::{LoadBalancer, Network, Subnet, Target, Topology};
use crate::trigger::Change;

/// The services that a change concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concern {
    /// The services whose paths contain an id that the change names.
    Services(BTreeSet<ServiceId>),
    /// Possibly any service.
    Any,
    /// Possibly any service, but this kind of change is frequent and seldom concerns one. At most one a minute starts a
    /// run; the schedule covers the others.
    Seldom,
    /// None: it is foreign.
    Nothing,
}

/// The ids on the path behind an endpoint service, with an expiry time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathIds {
    pub hashes: BTreeSet<u64>,
    pub until: Timestamp,
}

/// Calls that can name a security group of the default VPC by its name. The ids in such a call belong to other groups.
/// All other calls in drift-watcher's rules name the changed resource by its id or ARN.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html>
const BY_NAME: [&str; 2] = ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"];

fn names_no_group(change: &Change) -> bool {
    let parameters: Option<Value> = serde_json::from_str(&change.parameters).ok();
    !parameters.is_some_and(|parameters| parameters["groupId"].is_string())
}

/// Whether the change is a complete record of a call in drift-watcher's rules. No other change is ever foreign.
fn is_well_formed(change: &Change) -> bool {
    // Includes health-watcher's checks, because drift-watcher stores the path that they use.
    let mut checks = checks_of(&[Group::Settings, Group::Health]).into_iter();
    checks.any(|check| check.cloudtrail_events.contains(&change.event_name.as_str()))
        && change.event_time.parse::<Timestamp>().is_ok()
}

/// The id kinds that are stored, as prefixes of EC2's ids. Stored ARNs belong to ELB and to certificates. No path
/// contains the id of a transit gateway attachment.
const KINDS: [&str; 22] = [
    "acl", "aclassoc", "cagw", "eigw", "eni", "i", "igw", "lgw", "nat", "pcx", "pl", "rtb", "rtbassoc", "sg", "sgr",
    "subnet", "tgw", "vgw", "vpc", "vpce", "vpce-nfn", "vpce-svc",
];

/// The services that `change` concerns, given the ids on each configured service's path at `now`.
pub fn of(
    change: &Change,
    stored: &BTreeMap<ServiceId, PathIds>,
    services: &BTreeSet<ServiceId>,
    now: Timestamp,
) -> Concern {
    let Some(named) = change.texts().filter(|_| is_well_formed(change)) else { return Concern::Any };
    if BY_NAME.contains(&change.event_name.as_str()) && names_no_group(change) {
        return Concern::Seldom;
    }
    // A listener or a rule may be newer than the stored ids.
    let load_balancers = named.iter().filter_map(|id| load_balancer_of(id));
    let hashes: BTreeSet<u64> = named.iter().cloned().chain(load_balancers).map(|id| hash(&id)).collect();
    // A service without stored ids may be concerned by any change.
    let is_concerned = |service: &&ServiceId| match stored.get(service) {
        Some(ids) if now < ids.until => !ids.hashes.is_disjoint(&hashes),
        _ => true,
    };
    let concerned: BTreeSet<ServiceId> = services.iter().filter(is_concerned).cloned().collect();
    match named.iter().any(|text| is_of_stored_kind(text)) {
        false if concerned.is_empty() => Concern::Any,
        true if concerned.is_empty() => Concern::Nothing,
        _ if concerned == *services => Concern::Any,
        _ => Concern::Services(concerned),
    }
}

fn is_of_stored_kind(text: &str) -> bool {
    if let Ok(arn) = text.parse::<Arn>() {
        return ["elasticloadbalancing", "acm"].contains(&arn.service());
    }
    let hex = |id: &str| id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.rsplit_once('-').is_some_and(|(kind, id)| hex(id) && KINDS.contains(&kind))
}

/// FNV-1a, because stored hashes must be the same in every version of the guard and of Rust. A collision costs one run.
/// <https://www.rfc-editor.org/rfc/rfc9923>
pub fn hash(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The hashes of all ids on the path behind `service` and of the other ids that its checks read, and whether every
/// source of ids was read. `in_place` contains the ids of its inventory, if they could be read.
pub fn ids_on_path(
    topology: &Topology,
    service: &ServiceId,
    in_place: Option<&BTreeSet<String>>,
) -> (BTreeSet<u64>, bool) {
    let all_read = in_place.is_some() && topology.unlocated.is_none();
    let mut ids = Ids { found: [service.to_string()].into(), all_read };
    if let Some(load_balancers) = ids.read(topology.load_balancers_of(service)) {
        for load_balancer in &load_balancers {
            ids.add_load_balancer(load_balancer);
        }
        match &topology.network {
            Some(network) => ids.add_network(network, &load_balancers),
            None => ids.all_read = false,
        }
    }
    ids.add(in_place.into_iter().flatten());
    (ids.found.iter().map(|id| hash(id)).collect(), ids.all_read)
}

struct Ids {
    found: BTreeSet<String>,
    all_read: bool,
}

impl Ids {
    /// The value of a read; a failed read marks the ids as incomplete.
    fn read<T, E>(&mut self, read: Result<T, E>) -> Option<T> {
        self.all_read &= read.is_ok();
        read.ok()
    }

    fn add<'a>(&mut self, ids: impl IntoIterator<Item = &'a String>) {
        self.found.extend(ids.into_iter().cloned());
    }

    fn add_load_balancer(&mut self, load_balancer: &LoadBalancer) {
        self.found.insert(load_balancer.arn.to_string());
        if let Some(description) = self.read(load_balancer.description.as_ref()) {
            self.add(description.security_groups.iter().chain([&description.vpc]));
            self.add(description.zones.iter().map(|zone| &zone.subnet));
        }
        for listener in self.read(load_balancer.listeners.as_ref()).into_iter().flatten() {
            self.add([&listener.arn]);
            self.found.extend(listener.certificates().map(ToOwned::to_owned));
            self.read(listener.forwards_to.as_ref());
        }
        for group in self.read(load_balancer.target_groups.as_ref()).into_iter().flatten() {
            self.found.insert(group.arn.to_string());
            self.add(&group.vpc);
            for target in self.read(group.targets.as_ref()).into_iter().flatten() {
                self.add([&target.id].into_iter().chain(&target.subnet).chain(&target.interfaces));
                self.add(target.security_groups.iter().flatten());
            }
        }
    }

    /// The rules of the security groups that were found, and the ACLs and route tables of the subnets on the path.
    fn add_network(&mut self, network: &Network, load_balancers: &[&LoadBalancer]) {
        self.all_read &= network.unread_rules.is_empty();
        for rule in self.read(network.rules.as_ref()).into_iter().flatten() {
            if self.found.contains(&rule.group) {
                self.add([&rule.id]);
                self.found.extend(rule.peer.prefix_list().map(ToOwned::to_owned));
            }
        }
        for load_balancer in load_balancers {
            let nodes = self.read(network.nodes(&load_balancer.arn)).unwrap_or_default();
            self.add(nodes.iter().flat_map(|node| [&node.id, &node.subnet]));
        }
        let Some(subnets) = self.read(network.subnets.as_ref()) else { return };
        let targets: Vec<&Target> = load_balancers
            .iter()
            .flat_map(|it| it.target_groups.iter().flatten())
            .flat_map(|group| group.targets.iter().flatten())
            .collect();
        let is_on_path = |subnet: &&Subnet, ids: &Self| {
            ids.found.contains(&subnet.id)
                || targets
                    .iter()
                    .filter_map(|it| it.address)
                    .any(|address| subnet.cidrs.iter().any(|it| it.contains(&address)))
        };
        let on_path: Vec<&Subnet> = subnets.iter().filter(|subnet| is_on_path(subnet, self)).collect();
        self.add(on_path.iter().map(|subnet| &subnet.id));
        for acl in self.read(network.acls.as_ref()).into_iter().flatten() {
            if on_path.iter().any(|subnet| acl.subnets.contains(&subnet.id)) {
                self.add([&acl.id].into_iter().chain(on_path.iter().filter_map(|it| acl.associations.get(&it.id))));
            }
        }
        let tables = self.read(network.route_tables.as_ref()).map(Vec::as_slice).unwrap_or_default();
        for subnet in on_path {
            let explicit = tables.iter().find(|table| table.subnets.contains(&subnet.id));
            let main = || tables.iter().find(|table| table.main && table.vpc == subnet.vpc);
            let Some(table) = explicit.or_else(main) else { continue };
            let association =
                explicit.map_or(table.main_association.as_ref(), |table| table.associations.get(&subnet.id));
            self.add([&table.id].into_iter().chain(association));
            let targets = table.routes.iter().map(|route| &route.by).chain(&table.to_prefix_lists);
            self.add(targets.filter(|target| *target != "local"));
        }
    }
}

/// The expiry time of ids read at `read_at`: two schedules later, multiplied by the number of runs in a pass if
/// services take turns.
pub fn valid_until(read_at: Timestamp, schedule: Duration, runs_in_a_pass: usize) -> Timestamp {
    let runs = u32::try_from(runs_in_a_pass).unwrap_or(1).max(1);
    read_at.checked_add(schedule.saturating_mul(2 * runs)).unwrap_or(read_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Interface, Listener, NetworkAcl, Ports, RouteTable, SecurityGroupRule, TargetGroup};
    use crate::testing::{
        at, call_error, change, elb_arn, endpoint_service, interface, listener, load_balancer, network, route,
        route_table, security_group_rule, service, target, target_group, topology,
    };

    /// Service 1: a load balancer in subnet-a with two targets in its VPC, one of them in a subnet with its own route
    /// table.
    fn read() -> Topology {
        let targets = vec![Target {
            interfaces: vec!["eni-0000000a".to_owned(), "i-0000000a".to_owned()],
            ..target(1, "healthy")
        }];
        let group = TargetGroup { targets: Ok(targets), vpc: Some("vpc-00000001".to_owned()), ..target_group("pg") };
        let mut balancer = load_balancer("pg", vec![group.clone()]);
        let certificate = Some("arn:aws:acm:r:1:certificate/a".to_owned());
        balancer.listeners = Ok(vec![Listener { certificate, ..listener("TLS", 5432, &group) }]);
        let description = balancer.description.as_mut().unwrap();
        description.security_groups = vec!["sg-00000001".to_owned()];
        description.vpc = "vpc-00000001".to_owned();
        for zone in &mut description.zones {
            zone.subnet = "subnet-0000000a".to_owned();
        }
        let subnet = |id: &str, cidr: &str| Subnet {
            id: id.to_owned(),
            vpc: "vpc-00000001".to_owned(),
            cidrs: vec![cidr.parse().unwrap()],
        };
        let table = |id: &str, subnets: &[(&str, &str)], by: &[&str]| RouteTable {
            vpc: "vpc-00000001".to_owned(),
            main: subnets.is_empty(),
            main_association: subnets.is_empty().then(|| "rtbassoc-00000001".to_owned()),
            subnets: subnets.iter().map(|(subnet, _)| (*subnet).to_owned()).collect(),
            associations: subnets.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            routes: by.iter().map(|by| route("10.9.0.0/16", by, "active")).collect(),
            ..route_table(id)
        };
        let acl = |id: &str, subnet: &str| NetworkAcl {
            id: id.to_owned(),
            subnets: vec![subnet.to_owned()],
            associations: [(subnet.to_owned(), id.replace("acl-", "aclassoc-"))].into(),
            entries: Vec::new(),
        };
        let rule = |id: &str, group: &str, list: &str| SecurityGroupRule {
            id: id.to_owned(),
            ..security_group_rule(group, false, list, Some(Ports::ALL))
        };
        let network = Network {
            interfaces: Ok(vec![Interface {
                id: "eni-0000000b".to_owned(),
                ..interface("subnet-0000000a", [10, 0, 5, 200].into())
            }]),
            rules: Ok(vec![
                rule("sgr-00000001", "sg-00000001", "pl-00000001"),
                rule("sgr-00000009", "sg-00000009", "pl-00000009"),
            ]),
            subnets: Ok(vec![
                subnet("subnet-0000000a", "10.0.5.0/24"),
                subnet("subnet-0000000b", "10.0.0.0/24"),
                subnet("subnet-0000000c", "10.0.9.0/24"),
            ]),
            acls: Ok(vec![acl("acl-00000001", "subnet-0000000b"), acl("acl-00000009", "subnet-0000000c")]),
            route_tables: Ok(vec![
                table("rtb-00000001", &[], &["pcx-00000001", "vgw-00000002", "vpce-00000002"]),
                table("rtb-00000002", &[("subnet-0000000b", "rtbassoc-00000002")], &["tgw-00000002"]),
                table("rtb-00000009", &[("subnet-0000000c", "rtbassoc-00000009")], &["pcx-00000009"]),
            ]),
            ..network()
        };
        Topology { network: Some(network), ..topology(endpoint_service(), [balancer]) }
    }

    fn stored() -> BTreeMap<ServiceId, PathIds> {
        let in_place = ["vpce-nfn-00000001".to_owned()].into();
        let (hashes, all_read) = ids_on_path(&read(), &service(1), Some(&in_place));
        assert!(all_read);
        let other = [hash(service(2).as_str()), hash("sg-00000002"), hash("vpc-00000001")].into();
        let until = at(9, 0);
        [(service(1), PathIds { hashes, until }), (service(2), PathIds { hashes: other, until })].into()
    }

    /// The services that a call with these parameters concerns.
    fn concern(event_name: &str, parameters: &str) -> Concern {
        let change =
            Change { event_name: event_name.to_owned(), parameters: parameters.replace('\'', "\""), ..change() };
        of(&change, &stored(), &[service(1), service(2)].into(), at(8, 0))
    }

    #[test]
    fn a_change_concerns_the_services_whose_ids_it_names() {
        let own = elb_arn("listener/net/pg/0123456789abcdef/a-new-one").to_string();
        let rule = elb_arn("listener-rule/net/pg/0123456789abcdef/a-new-one/a-rule").to_string();
        let group = target_group("pg").arn;
        for parameters in [
            format!("{{'serviceId':'{}'}}", service(1)),
            format!("{{'listenerArn':'{own}'}}"),
            format!("{{'rulePriorities':[{{'priority':1,'ruleArn':'{rule}'}}]}}"),
            "{'certificateArn':'arn:aws:acm:r:1:certificate/a'}".to_owned(),
            "{'instanceId':'i-0000000a','groupSet':{'items':[{'groupId':'sg-00000009'}]}}".to_owned(),
            "{'DeleteTransitGatewayRequest':{'TransitGatewayId':'tgw-00000002'}}".to_owned(),
            "[{'x':{'TransitGatewayAttachmentId':'tgw-attach-00000002'}},'vpc-00000009','tgw-00000002']".to_owned(),
            "{'DeleteVpcEndpointsRequest':{'VpcEndpointId':{'tag':1,'content':'vpce-00000002'}}}".to_owned(),
            "{'vpcId':'vpc-00000009','vpnGatewayId':'vgw-00000002'}".to_owned(),
            format!("{{'targetGroupArn':'{group}','targets':[{{'id':'10.9.9.9'}}]}}"),
            "{'targets':[{'id':'10.0.0.1'}],'targetGroupArn':'arn:aws:elasticloadbalancing:r:1:targetgroup/other/1'}"
                .to_owned(),
            "{'groupId':'sg-00000001'}".to_owned(),
            "{'groupId':'sg-00000009','securityGroupRuleId':'sgr-00000001'}".to_owned(),
            "{'ModifyManagedPrefixListRequest':{'PrefixListId':'pl-00000001'}}".to_owned(),
            "{'networkAclId':'acl-00000001'}".to_owned(),
            "{'routeTableId':'rtb-00000001'}".to_owned(),
            "{'routeTableId':'rtb-00000002'}".to_owned(),
            "{'associationId':'rtbassoc-00000002'}".to_owned(),
            "{'associationId':'rtbassoc-00000001','routeTableId':'rtb-00000009'}".to_owned(),
            "{'associationId':'aclassoc-00000001','networkAclId':'acl-00000009'}".to_owned(),
            "{'vpcPeeringConnectionId':'pcx-00000001'}".to_owned(),
            "{'subnets':['subnet-0000000b']}".to_owned(),
            "{'networkInterfaceId':'eni-0000000a'}".to_owned(),
            "{'networkInterfaceId':'eni-0000000b'}".to_owned(),
            "{'ConnectionNotificationId':{'tag':1,'content':'vpce-nfn-00000001'}}".to_owned(),
        ] {
            assert_eq!(concern("ModifyListener", &parameters), Concern::Services([service(1)].into()), "{parameters}");
        }
        assert_eq!(concern("ModifyListener", "{'vpcId':'vpc-00000001'}"), Concern::Any, "all of them share it");
    }

    #[test]
    fn a_change_that_names_only_other_resources_is_foreign() {
        for (event_name, parameters) in [
            (
                "RegisterTargets",
                "{'targetGroupArn':'arn:aws:elasticloadbalancing:r:1:targetgroup/x/1','targets':[{'id':'i-00000009'}]}",
            ),
            (
                "AuthorizeSecurityGroupIngress",
                "{'groupId':'sg-00000009','ipPermissions':{'items':[{'ipProtocol':'tcp'}]}}",
            ),
            ("CreateRoute", "{'routeTableId':'rtb-00000009','destinationCidrBlock':'10.0.0.0/8'}"),
            (
                "AddTags",
                "{'resourceArns':['arn:aws:elasticloadbalancing:r:1:targetgroup/x/1'],'tags':[{'key':'k','value':'v'}]}",
            ),
            ("CreateNetworkAclEntry", "{'networkAclId':'acl-00000009'}"),
            ("DeleteVpcPeeringConnection", "{'vpcPeeringConnectionId':'pcx-00000009'}"),
            ("DeleteTransitGatewayVpcAttachment", "[{'a':'tgw-attach-00000009'},'vpc-00000009','tgw-00000009']"),
            ("DeleteTransitGateway", "{'x':{'TransitGatewayId':'tgw-00000009'}}"),
            ("DeleteVpcEndpoints", "{'x':{'VpcEndpointId':[{'tag':1,'content':'vpce-00000009'}]}}"),
            ("DetachVpnGateway", "{'vpcId':'vpc-00000009','vpnGatewayId':'vgw-00000009'}"),
            ("ModifyInstanceAttribute", "{'instanceId':'i-00000009','instanceType':{'value':'m7i.large'}}"),
            ("ModifyNetworkInterfaceAttribute", "{'networkInterfaceId':'eni-00000009'}"),
            ("ImportCertificate", "{'certificateArn':'arn:aws:acm:r:1:certificate/b','certificate':{'hb':[48,49]}}"),
            ("CreateRule", "{'listenerArn':'arn:aws:elasticloadbalancing:r:1:listener/app/web/1/2','priority':1}"),
            ("ModifyRule", "{'ruleArn':'arn:aws:elasticloadbalancing:r:1:listener-rule/app/web/1/2/3'}"),
            ("DeleteVpcEndpointConnectionNotifications", "{'x':{'content':'vpce-nfn-00000009'}}"),
            ("ReplaceNetworkAclAssociation", "{'associationId':'aclassoc-00000009','networkAclId':'acl-00000009'}"),
            ("ReplaceRouteTableAssociation", "{'associationId':'rtbassoc-00000009','routeTableId':'rtb-00000009'}"),
            ("ModifyVpcEndpointServiceConfiguration", "{'x':{'ServiceId':'vpce-svc-00000009000000090'}}"),
        ] {
            assert_eq!(concern(event_name, parameters), Concern::Nothing, "{event_name} {parameters}");
        }
    }

    #[test]
    fn a_change_without_a_stored_kind_of_id_concerns_any_service() {
        for parameters in [
            "",
            "null",
            "{}",
            "[7]",
            "{'groupName':'default'}",
            "{'vpnId':'vpn-00000009'}",
            "{'a':'tgw-attach-00000009'}",
            "{'a':'sg-x'}",
            "{",
        ] {
            assert_eq!(concern("ModifyListener", parameters), Concern::Any, "{parameters}");
        }
    }

    #[test]
    fn a_security_group_named_by_its_name_is_seldom_a_concern() {
        let others = "{'groupName':'default','ipPermissions':{'groupId':'sg-00000009'}}";
        let another_service = "{'groupName':'default','ipPermissions':{'groupId':'sg-00000002'}}";
        for parameters in [others, another_service] {
            assert_eq!(concern("AuthorizeSecurityGroupIngress", parameters), Concern::Seldom);
            assert_eq!(concern("RevokeSecurityGroupIngress", parameters), Concern::Seldom);
        }
    }

    #[test]
    fn only_a_complete_record_of_the_rule_can_be_foreign() {
        let foreign = |event_name: &str, event_time: &str| Change {
            event_name: event_name.to_owned(),
            event_time: event_time.to_owned(),
            parameters: r#"{"groupId":"sg-00000009"}"#.to_owned(),
            ..change()
        };
        let judge = |change| of(&change, &stored(), &[service(1), service(2)].into(), at(8, 0));
        assert_eq!(judge(foreign("RevokeSecurityGroupEgress", "2026-03-14T08:00:00Z")), Concern::Nothing);
        assert_eq!(judge(foreign("RevokeSecurityGroupEgress", "unknown")), Concern::Any);
        assert_eq!(judge(foreign("CreateVpc", "2026-03-14T08:00:00Z")), Concern::Any);
    }

    #[test]
    fn a_change_concerns_every_service_without_current_ids() {
        let foreign = Change { parameters: r#"{"groupId":"sg-00000009"}"#.to_owned(), ..change() };
        let services = [service(1), service(2)].into();
        assert_eq!(of(&foreign, &stored(), &services, at(8, 59)), Concern::Nothing);
        assert_eq!(of(&foreign, &stored(), &services, at(9, 0)), Concern::Any, "all are too old");
        let mut missing = stored();
        missing.remove(&service(2));
        assert_eq!(of(&foreign, &missing, &services, at(8, 0)), Concern::Services([service(2)].into()));
        assert_eq!(of(&foreign, &BTreeMap::new(), &services, at(8, 0)), Concern::Any);
        assert_eq!(valid_until(at(8, 0), Duration::from_mins(15), 1), at(8, 30));
        assert_eq!(valid_until(at(8, 0), Duration::from_mins(15), 2), at(9, 0));
    }

    #[test]
    fn a_failed_read_leaves_the_ids_incomplete() {
        let in_place = BTreeSet::new();
        let complete = |change: fn(&mut Topology)| {
            let mut read = read();
            change(&mut read);
            ids_on_path(&read, &service(1), Some(&in_place)).1
        };
        assert!(complete(|_| {}));
        assert!(!complete(|read| read.services = Some(Err(call_error("x")))));
        assert!(!complete(|read| read.network = None));
        assert!(!complete(|read| read.network.as_mut().unwrap().acls = Err(call_error("x"))));
        assert!(!complete(|read| read.load_balancers.values_mut().for_each(|it| it.listeners = Err(call_error("x")))));
        assert!(!complete(|read| read.unlocated = Some(call_error("ec2:DescribeInstances"))));
        assert!(!ids_on_path(&read(), &service(1), None).1);
    }

    #[test]
    fn a_hash_is_the_same_in_every_version() {
        // The test vectors of FNV-1a.
        assert_eq!(
            [hash(""), hash("a"), hash("foobar")],
            [0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8]
        );
    }
}
