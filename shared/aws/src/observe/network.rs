//! The network around load balancers and targets: security group rules, interfaces, subnets, network ACLs, routes,
//! instances.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aws_sdk_ec2::operation::describe_network_interfaces::builders::DescribeNetworkInterfacesFluentBuilder;
use aws_sdk_ec2::types as ec2;
use futures_util::future::join_all;
use guard_core::snapshot::{
    AclEntry, CallError, Interface, Network, NetworkAcl, Observed, Peer, Ports, Route, RouteTable, SecurityGroupRule,
    Subnet,
};
use ipnet::IpNet;

use super::{FILTER_VALUES, Observer, filter};
use crate::errors::malformed_response;

const RULES: &str = "ec2:DescribeSecurityGroupRules";

/// The location of an instance.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) zone: Option<String>,
    pub(super) subnet: Option<String>,
    /// Its primary private addresses, at most one per family.
    pub(super) addresses: Vec<IpAddr>,
    /// The security groups of its primary network interface.
    pub(super) security_groups: Vec<String>,
    /// The ids of its network interfaces.
    pub(super) interfaces: Vec<String>,
    pub(super) is_terminated: bool,
}

/// A network interface that may have a target's address.
#[derive(Debug, Clone)]
pub(super) struct TargetInterface {
    pub(super) id: String,
    /// The instance that it is attached to.
    pub(super) instance: Option<String>,
    pub(super) vpc: String,
    pub(super) addresses: Vec<IpAddr>,
    /// Further address blocks.
    pub(super) prefixes: Vec<IpNet>,
    pub(super) security_groups: Vec<String>,
}

impl TargetInterface {
    /// Whether the interface has `address`.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

/// Security group rules, in the form of [`Network`].
#[derive(Debug)]
pub(super) struct GroupRules {
    pub(super) rules: Observed<Vec<SecurityGroupRule>>,
    pub(super) unread_rules: BTreeMap<String, CallError>,
    pub(super) prefix_lists: BTreeMap<String, Observed<Vec<IpNet>>>,
}

impl Observer {
    /// The network around load balancers with these interface descriptions in these VPCs, without security group rules:
    /// concurrently, one call of each kind per 200 values and page.
    pub(super) async fn network(&self, interfaces: BTreeSet<String>, vpcs: BTreeSet<String>) -> Network {
        let vpcs: Vec<String> = vpcs.into_iter().collect();
        let (interfaces, subnets, acls, route_tables) = tokio::join!(
            self.interfaces(interfaces),
            self.subnets(vpcs.clone()),
            self.acls(vpcs.clone()),
            self.route_tables(vpcs)
        );
        let (rules, unread_rules, prefix_lists) = (Ok(Vec::new()), BTreeMap::new(), BTreeMap::new());
        Network { rules, unread_rules, prefix_lists, interfaces, subnets, acls, route_tables }
    }

    /// The rules of `groups`: one call per 200 groups and page; then one per prefix list that a rule names. An
    /// incomplete rule makes only its own group unreadable.
    pub(super) async fn rules_and_lists(&self, groups: BTreeSet<String>) -> GroupRules {
        let rows = self.rules(groups).await;
        let incomplete = rows.iter().flatten().filter_map(|row| row.as_ref().err().cloned());
        let unread_rules = self.incomplete(RULES, "a rule", incomplete.collect());
        let rules = rows.map(|rows| rows.into_iter().flatten().collect::<Vec<SecurityGroupRule>>());
        let decide = rules.iter().flatten().filter(|rule| rule.tcp.is_some());
        let named = decide.filter_map(|rule| match &rule.peer {
            Peer::PrefixList(id) => Some(id.clone()),
            Peer::Cidr(_) | Peer::Group(_) => None,
        });
        let named: BTreeSet<String> = named.collect();
        let lists =
            join_all(named.into_iter().map(|id| async move { (id.clone(), self.prefix_list(&id).await) })).await;
        GroupRules { rules, unread_rules, prefix_lists: lists.into_iter().collect() }
    }

    /// Each rule, or the group of an incomplete one.
    async fn rules(&self, groups: BTreeSet<String>) -> Observed<Vec<Result<SecurityGroupRule, String>>> {
        let parse = |row: &ec2::SecurityGroupRule| match (rule(row), row.group_id()) {
            (Some(rule), _) => Ok(Ok(rule)),
            (None, Some(group)) => Ok(Err(group.to_owned())),
            (None, None) => Err(malformed_response(RULES, "a rule does not name its group")),
        };
        self.in_batches(groups.into_iter().collect(), FILTER_VALUES, async |groups| {
            let call = self.ec2.describe_security_group_rules().filters(filter("group-id", groups));
            list!(self, RULES, call, security_group_rules, next_token, parse)
        })
        .await
    }

    async fn prefix_list(&self, id: &str) -> Observed<Vec<IpNet>> {
        const CALL: &str = "ec2:GetManagedPrefixListEntries";
        let call = self.ec2.get_managed_prefix_list_entries().prefix_list_id(id);
        let parse = |row: &ec2::PrefixListEntry| {
            let cidr = row.cidr().and_then(|cidr| cidr.parse().ok());
            cidr.ok_or_else(|| malformed_response(CALL, "an entry is no CIDR"))
        };
        list!(self, CALL, call, entries, next_token, parse)
    }

    /// A request for the network interfaces that match a filter, including those that AWS services manage.
    pub(super) fn describe_interfaces(
        &self,
        filtered: &str,
        values: Vec<String>,
    ) -> DescribeNetworkInterfacesFluentBuilder {
        let call = self.ec2.describe_network_interfaces().set_include_managed_resources(self.include_managed());
        call.filters(filter(filtered, values))
    }

    async fn interfaces(&self, descriptions: BTreeSet<String>) -> Observed<Vec<Interface>> {
        const CALL: &str = "ec2:DescribeNetworkInterfaces";
        let interface = |row: &ec2::NetworkInterface| {
            Some(Interface {
                id: row.network_interface_id()?.to_owned(),
                description: row.description()?.to_owned(),
                subnet: row.subnet_id()?.to_owned(),
                addresses: addresses(row)?,
            })
        };
        let parse = |row: &ec2::NetworkInterface| {
            interface(row)
                .ok_or_else(|| malformed_response(CALL, "an interface lacks its id or subnet, or its address is none"))
        };
        self.in_batches(descriptions.into_iter().collect(), FILTER_VALUES, async |descriptions| {
            let call = || self.describe_interfaces("description", descriptions.clone());
            list!(self, CALL, call(), network_interfaces, next_token, parse)
        })
        .await
    }

    /// The network interfaces that have one of these addresses, in any VPC: one call per 200 addresses and page.
    pub(super) async fn interfaces_with(&self, addresses: BTreeSet<IpAddr>) -> Observed<Vec<TargetInterface>> {
        let (ipv4, ipv6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
        let text = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect();
        let (ipv4, ipv6) = tokio::join!(
            self.target_interfaces("addresses.private-ip-address", text(ipv4)),
            self.target_interfaces("ipv6-addresses.ipv6-address", text(ipv6))
        );
        Ok([ipv4?, ipv6?].concat())
    }

    /// The network interfaces in these subnets: one call per 200 subnets and page. EKS pods may have addresses in a
    /// prefix of their node's interface, which no address filter finds.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-prefix-eni.html>
    pub(super) async fn interfaces_in(&self, subnets: BTreeSet<String>) -> Observed<Vec<TargetInterface>> {
        self.target_interfaces("subnet-id", subnets.into_iter().collect()).await
    }

    async fn target_interfaces(&self, filtered: &str, values: Vec<String>) -> Observed<Vec<TargetInterface>> {
        const CALL: &str = "ec2:DescribeNetworkInterfaces";
        let parse = |row: &ec2::NetworkInterface| {
            let interface = || {
                let groups = row.groups().iter().map(|group| group.group_id().map(ToOwned::to_owned));
                let ipv4 = row.ipv4_prefixes().iter().map(ec2::Ipv4PrefixSpecification::ipv4_prefix);
                let prefixes = ipv4.chain(row.ipv6_prefixes().iter().map(ec2::Ipv6PrefixSpecification::ipv6_prefix));
                Some(TargetInterface {
                    id: row.network_interface_id()?.to_owned(),
                    instance: row.attachment().and_then(|it| it.instance_id()).map(ToOwned::to_owned),
                    vpc: row.vpc_id()?.to_owned(),
                    addresses: addresses(row)?,
                    prefixes: prefixes.map(|prefix| prefix?.parse().ok()).collect::<Option<_>>()?,
                    security_groups: groups.collect::<Option<_>>()?,
                })
            };
            interface()
                .ok_or_else(|| malformed_response(CALL, "an interface lacks its id or VPC, or a security group its id"))
        };
        self.in_batches(values, FILTER_VALUES, async |values| {
            let call = || self.describe_interfaces(filtered, values.clone());
            list!(self, CALL, call(), network_interfaces, next_token, parse)
        })
        .await
    }

    /// The zone id and zone name of these subnets, by subnet: one call per 200 subnets and page.
    pub(super) async fn zones_of(&self, subnets: BTreeSet<String>) -> Observed<BTreeMap<String, (String, String)>> {
        const CALL: &str = "ec2:DescribeSubnets";
        let zone = |row: &ec2::Subnet| {
            let zone = (row.availability_zone_id()?.to_owned(), row.availability_zone()?.to_owned());
            Some((row.subnet_id()?.to_owned(), zone))
        };
        let parse =
            |row: &ec2::Subnet| zone(row).ok_or_else(|| malformed_response(CALL, "a subnet lacks its id or zone"));
        let zones = self.in_batches(subnets.into_iter().collect(), FILTER_VALUES, async |subnets| {
            let call = self.ec2.describe_subnets().filters(filter("subnet-id", subnets));
            list!(self, CALL, call, subnets, next_token, parse)
        });
        Ok(zones.await?.into_iter().collect())
    }

    pub(super) async fn subnets(&self, vpcs: Vec<String>) -> Observed<Vec<Subnet>> {
        const CALL: &str = "ec2:DescribeSubnets";
        let subnet = |row: &ec2::Subnet| {
            let ipv6 = row.ipv6_cidr_block_association_set().iter().filter_map(|block| block.ipv6_cidr_block());
            let cidrs = row.cidr_block().into_iter().chain(ipv6);
            Some(Subnet {
                id: row.subnet_id()?.to_owned(),
                vpc: row.vpc_id()?.to_owned(),
                cidrs: cidrs.map(|cidr| cidr.parse().ok()).collect::<Option<_>>()?,
            })
        };
        let parse = |row: &ec2::Subnet| {
            subnet(row).ok_or_else(|| malformed_response(CALL, "a subnet lacks its id, or its CIDR is none"))
        };
        self.in_batches(vpcs, FILTER_VALUES, async |vpcs| {
            let call = self.ec2.describe_subnets().filters(filter("vpc-id", vpcs));
            list!(self, CALL, call, subnets, next_token, parse)
        })
        .await
    }

    async fn acls(&self, vpcs: Vec<String>) -> Observed<Vec<NetworkAcl>> {
        const CALL: &str = "ec2:DescribeNetworkAcls";
        let acl = |row: &ec2::NetworkAcl| {
            let subnets =
                row.associations().iter().filter_map(|association| association.subnet_id().map(ToOwned::to_owned));
            let associations = row.associations().iter().filter_map(|association| {
                Some((association.subnet_id()?.to_owned(), association.network_acl_association_id()?.to_owned()))
            });
            let entries: Option<Vec<AclEntry>> = row.entries().iter().map(acl_entry).collect();
            Some(NetworkAcl {
                id: row.network_acl_id()?.to_owned(),
                subnets: subnets.collect(),
                associations: associations.collect(),
                entries: entries?,
            })
        };
        let parse = |row: &ec2::NetworkAcl| {
            acl(row).ok_or_else(|| malformed_response(CALL, "a network ACL lacks its id or part of a rule"))
        };
        self.in_batches(vpcs, FILTER_VALUES, async |vpcs| {
            let call = self.ec2.describe_network_acls().filters(filter("vpc-id", vpcs));
            list!(self, CALL, call, network_acls, next_token, parse)
        })
        .await
    }

    pub(super) async fn route_tables(&self, vpcs: Vec<String>) -> Observed<Vec<RouteTable>> {
        const CALL: &str = "ec2:DescribeRouteTables";
        let parse = |row: &ec2::RouteTable| {
            route_table(row).ok_or_else(|| malformed_response(CALL, "a route table lacks its id or part of a route"))
        };
        self.in_batches(vpcs, FILTER_VALUES, async |vpcs| {
            let call = self.ec2.describe_route_tables().filters(filter("vpc-id", vpcs));
            list!(self, CALL, call, route_tables, next_token, parse)
        })
        .await
    }

    /// The locations of `instances`, by id: one call per 200 instances and page. An instance unknown to EC2 is absent.
    pub(super) async fn instances(&self, instances: BTreeSet<String>) -> Observed<BTreeMap<String, Instance>> {
        const CALL: &str = "ec2:DescribeInstances";
        let instance = |row: &ec2::Instance| {
            let zone = row.placement().and_then(ec2::Placement::availability_zone).map(ToOwned::to_owned);
            let addresses = row.private_ip_address().into_iter().chain(primary_ipv6(row));
            let addresses = addresses.filter_map(|address| address.parse().ok()).collect();
            let subnet = row.subnet_id().map(ToOwned::to_owned);
            let groups = row.security_groups().iter().map(|group| group.group_id().map(ToOwned::to_owned));
            let security_groups = groups.collect::<Option<_>>()?;
            let interfaces = row.network_interfaces().iter().filter_map(|it| it.network_interface_id());
            let interfaces = interfaces.map(ToOwned::to_owned).collect();
            let is_terminated =
                row.state().and_then(ec2::InstanceState::name) == Some(&ec2::InstanceStateName::Terminated);
            let instance = Instance { zone, subnet, addresses, security_groups, interfaces, is_terminated };
            Some((row.instance_id()?.to_owned(), instance))
        };
        let parse = |row: &ec2::Reservation| {
            let instances: Option<Vec<_>> = row.instances().iter().map(instance).collect();
            instances.ok_or_else(|| malformed_response(CALL, "an instance, or a security group of one, has no id"))
        };
        let reservations: Vec<Vec<(String, Instance)>> = self
            .in_batches(instances.into_iter().collect(), FILTER_VALUES, async |ids| {
                // A filter, because the `InstanceIds` parameter makes the call fail if one of the instances does not
                // exist.
                let call = || {
                    let call = self.ec2.describe_instances().set_include_managed_resources(self.include_managed());
                    call.filters(filter("instance-id", ids.clone()))
                };
                list!(self, CALL, call(), reservations, next_token, parse)
            })
            .await?;
        Ok(reservations.into_iter().flatten().collect())
    }
}

/// The address at which an IPv6 target group reaches an instance: the primary one of its first interface, which is
/// required.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-register-targets.html>
fn primary_ipv6(row: &ec2::Instance) -> Option<&str> {
    let is_first = |interface: &&ec2::InstanceNetworkInterface| {
        interface
            .attachment()
            .and_then(ec2::InstanceNetworkInterfaceAttachment::device_index)
            .is_none_or(|index| index == 0)
    };
    let first = row.network_interfaces().iter().filter(is_first);
    let addresses = first.flat_map(ec2::InstanceNetworkInterface::ipv6_addresses);
    let mut primary = addresses.filter(|address| address.is_primary_ipv6() == Some(true));
    primary.next().and_then(ec2::InstanceIpv6Address::ipv6_address).or(row.ipv6_address())
}

/// All private addresses, primary first. A load balancer node may have secondary ones.
pub(super) fn addresses(row: &ec2::NetworkInterface) -> Option<Vec<IpAddr>> {
    let ipv4 = row.private_ip_addresses().iter().filter_map(ec2::NetworkInterfacePrivateIpAddress::private_ip_address);
    let ipv6 = row.ipv6_addresses().iter().filter_map(ec2::NetworkInterfaceIpv6Address::ipv6_address);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in row.private_ip_address().into_iter().chain(ipv4).chain(ipv6) {
        let address = address.parse().ok()?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Some(addresses)
}

/// The TCP ports of a rule: `Some(None)` for another protocol, `None` if EC2 omits them. EC2 writes `tcp` or `6` for
/// TCP, and `-1` for all protocols.
#[allow(clippy::option_option)]
fn tcp_ports(protocol: Option<&str>, first: Option<i32>, last: Option<i32>) -> Option<Option<Ports>> {
    Some(match (protocol?, first, last) {
        ("-1", ..) | ("tcp" | "6", None | Some(-1), _) => Some(Ports::ALL),
        ("tcp" | "6", Some(first), last) => {
            Some(Ports { first: first.try_into().ok()?, last: last.unwrap_or(first).try_into().ok()? })
        }
        _ => None,
    })
}

fn rule(row: &ec2::SecurityGroupRule) -> Option<SecurityGroupRule> {
    let cidr = row.cidr_ipv4().or(row.cidr_ipv6());
    let group = row.referenced_group_info().and_then(ec2::ReferencedSecurityGroup::group_id);
    let peer = match (cidr, row.prefix_list_id(), group) {
        (Some(cidr), ..) => Peer::Cidr(cidr.parse().ok()?),
        (None, Some(list), _) => Peer::PrefixList(list.to_owned()),
        (None, None, Some(group)) => Peer::Group(group.to_owned()),
        (None, None, None) => return None,
    };
    Some(SecurityGroupRule {
        id: row.security_group_rule_id()?.to_owned(),
        group: row.group_id()?.to_owned(),
        egress: row.is_egress()?,
        tcp: tcp_ports(row.ip_protocol(), row.from_port(), row.to_port())?,
        peer,
    })
}

fn acl_entry(row: &ec2::NetworkAclEntry) -> Option<AclEntry> {
    let ports = row.port_range();
    Some(AclEntry {
        number: row.rule_number()?,
        egress: row.egress()?,
        allow: *row.rule_action()? == ec2::RuleAction::Allow,
        tcp: tcp_ports(row.protocol(), ports.and_then(ec2::PortRange::from), ports.and_then(ec2::PortRange::to))?,
        peer: row.cidr_block().or(row.ipv6_cidr_block())?.parse().ok()?,
    })
}

fn route_table(row: &ec2::RouteTable) -> Option<RouteTable> {
    let (to_lists, to_cidrs): (Vec<&ec2::Route>, Vec<&ec2::Route>) =
        row.routes().iter().partition(|route| route.destination_prefix_list_id().is_some());
    let associations = row.associations();
    let main = || associations.iter().find(|association| association.main() == Some(true));
    Some(RouteTable {
        id: row.route_table_id()?.to_owned(),
        vpc: row.vpc_id()?.to_owned(),
        main: main().is_some(),
        main_association: main().and_then(|main| main.route_table_association_id()).map(ToOwned::to_owned),
        subnets: associations.iter().filter_map(|association| association.subnet_id().map(ToOwned::to_owned)).collect(),
        associations: associations
            .iter()
            .filter_map(|association| {
                Some((association.subnet_id()?.to_owned(), association.route_table_association_id()?.to_owned()))
            })
            .collect(),
        routes: to_cidrs.into_iter().map(route).collect::<Option<_>>()?,
        // A gateway endpoint's prefix list contains only public addresses of S3 or DynamoDB, never a target.
        to_prefix_lists: to_lists.into_iter().map(route_target).filter(|by| !by.starts_with("vpce-")).collect(),
    })
}

fn route(row: &ec2::Route) -> Option<Route> {
    let destination = row.destination_cidr_block().or(row.destination_ipv6_cidr_block())?;
    Some(Route {
        destination: destination.parse().ok()?,
        by: route_target(row),
        state: row.state()?.as_str().to_owned(),
    })
}

/// The id of a route's target.
fn route_target(row: &ec2::Route) -> String {
    let all = [
        row.gateway_id(),
        row.vpc_peering_connection_id(),
        row.transit_gateway_id(),
        row.nat_gateway_id(),
        row.network_interface_id(),
        row.instance_id(),
        row.egress_only_internet_gateway_id(),
        row.local_gateway_id(),
        row.carrier_gateway_id(),
        row.core_network_arn(),
        row.odb_network_arn(),
    ];
    all.into_iter().flatten().next().unwrap_or("a target EC2 does not name").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_parsed_as_ec2_writes_them() {
        let ports = |first, last| Some(Ports { first, last });
        let table = [
            (Some("tcp"), Some(5432), Some(5432), ports(5432, 5432)),
            (Some("6"), Some(1024), Some(65535), ports(1024, 65535)),
            (Some("tcp"), Some(-1), Some(-1), Some(Ports::ALL)),
            (Some("6"), None, None, Some(Ports::ALL)),
            (Some("-1"), Some(-1), Some(-1), Some(Ports::ALL)),
            (Some("-1"), None, None, Some(Ports::ALL)),
            (Some("udp"), Some(53), Some(53), None),
            (Some("17"), None, None, None),
            (Some("icmp"), Some(8), Some(-1), None),
        ];
        for (protocol, first, last, expected) in table {
            assert_eq!(tcp_ports(protocol, first, last), Some(expected), "{protocol:?} {first:?} {last:?}");
        }
        assert_eq!(tcp_ports(None, Some(1), Some(2)), None, "EC2 does not say");
        assert_eq!(tcp_ports(Some("tcp"), Some(70000), None), None, "no port");
    }

    #[test]
    fn a_rule_has_one_peer() {
        let row = || {
            ec2::SecurityGroupRule::builder()
                .security_group_rule_id("sgr-1")
                .group_id("sg-1")
                .is_egress(false)
                .ip_protocol("-1")
        };
        let referenced = ec2::ReferencedSecurityGroup::builder().group_id("sg-2").build();
        let peer = |row: ec2::SecurityGroupRule| rule(&row).map(|rule| rule.peer);
        assert_eq!(peer(row().cidr_ipv4("10.0.0.0/8").build()), Some(Peer::Cidr("10.0.0.0/8".parse().unwrap())));
        assert_eq!(peer(row().cidr_ipv6("::/0").build()), Some(Peer::Cidr("::/0".parse().unwrap())));
        assert_eq!(peer(row().prefix_list_id("pl-1").build()), Some(Peer::PrefixList("pl-1".to_owned())));
        assert_eq!(peer(row().referenced_group_info(referenced).build()), Some(Peer::Group("sg-2".to_owned())));
        assert_eq!(peer(row().build()), None);
    }

    #[test]
    fn a_route_has_the_target_that_ec2_names() {
        let route = |row: ec2::Route| super::route(&row).unwrap();
        let to = || ec2::Route::builder().destination_cidr_block("10.7.0.0/16").state(ec2::RouteState::Active);
        assert_eq!(route(to().gateway_id("local").build()).by, "local");
        assert_eq!(route(to().vpc_peering_connection_id("pcx-1").build()).by, "pcx-1");
        assert_eq!(route(to().nat_gateway_id("nat-1").state(ec2::RouteState::Filtered).build()).state, "filtered");
        let list = |by: &str| ec2::Route::builder().destination_prefix_list_id("pl-1").gateway_id(by).build();
        let main = ec2::RouteTableAssociation::builder().main(true).build();
        let table = ec2::RouteTable::builder()
            .route_table_id("rtb-1")
            .vpc_id("vpc-1")
            .associations(main)
            .routes(list("vpce-1"))
            .routes(list("tgw-1"))
            .build();
        let table = route_table(&table).unwrap();
        assert!(table.main && table.routes.is_empty());
        assert_eq!(table.to_prefix_lists, ["tgw-1"], "a gateway endpoint's list contains no target");
    }
}
