//! DNS: the addresses to which the names of target groups resolve.
//!
//! Every run queries the system's resolver, which Lambda configures and glibc does not cache. A resolver of our own
//! would only add code to a run that looks up one name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use futures_util::future::join_all;
use guard_core::ids::Arn;
use guard_core::snapshot::{
    HOSTNAME_TAG, Hostname, Observed, ReachedNetworks, Route, RouteTable, Subnet, TargetGroup, TargetKind, Topology,
};
use ipnet::IpNet;

use super::Observer;

/// The timeout of a DNS query.
const RESOLVE_WITHIN: Duration = Duration::from_secs(3);

/// The guard's own tags of target groups, by tag name.
pub(super) type Tags = Observed<BTreeMap<Arn, BTreeMap<String, String>>>;

impl Observer {
    /// The names of `groups`, by their tags, with the networks that their VPCs reach.
    pub(super) async fn names(
        &self,
        groups: impl Iterator<Item = &TargetGroup>,
        tags: &Tags,
    ) -> BTreeMap<Arn, Observed<Option<Hostname>>> {
        let groups: BTreeMap<&Arn, &TargetGroup> = groups.map(|group| (&group.arn, group)).collect();
        let tags = match tags {
            Ok(tags) => tags,
            Err(error) => return groups.into_keys().map(|arn| (arn.clone(), Err(error.clone()))).collect(),
        };
        let name = |group: &TargetGroup| {
            tags.get(&group.arn)?.get(HOSTNAME_TAG).filter(|_| group.kind == TargetKind::Ip).cloned()
        };
        let tagged = |group: &&&TargetGroup| name(group).is_some();
        let vpcs: BTreeSet<String> = groups.values().filter(tagged).filter_map(|group| group.vpc.clone()).collect();
        let vpcs: Vec<String> = vpcs.into_iter().collect();
        let (subnets, tables) = tokio::join!(self.subnets(vpcs.clone()), self.route_tables(vpcs));
        let networks = subnets.and_then(|subnets| Ok((subnets, tables?)));
        let hostname = |group: &TargetGroup| {
            let name = name(group)?;
            let networks = networks.as_ref().map(|networks| reached(group, networks)).map_err(Clone::clone);
            Some(Hostname { name, addresses: Err("DNS was not asked".to_owned()), networks })
        };
        groups.into_iter().map(|(arn, group)| (arn.clone(), Ok(hostname(group)))).collect()
    }
}

/// The networks that the group's VPC reaches.
fn reached(group: &TargetGroup, (subnets, tables): &(Vec<Subnet>, Vec<RouteTable>)) -> ReachedNetworks {
    let subnets = subnets.iter().filter(|subnet| Some(&subnet.vpc) == group.vpc.as_ref());
    let tables = tables.iter().filter(|table| Some(&table.vpc) == group.vpc.as_ref());
    ReachedNetworks {
        own: subnets.flat_map(|subnet| subnet.cidrs.iter().copied()).collect(),
        routed: tables.flat_map(|table| &table.routes).filter_map(private_network).collect(),
    }
}

/// The DNS result for each name.
pub(super) type Answers = BTreeMap<String, Result<Vec<IpAddr>, String>>;

/// Resolves the names of the target groups in `topology`, and fills in the results.
pub(super) async fn resolve(topology: &mut Topology) {
    let answers = resolve_names(topology).await;
    fill_in(topology, &answers);
}

/// Resolves the names of the target groups in `topology`, each once.
pub(super) async fn resolve_names(topology: &mut Topology) -> Answers {
    let names: BTreeSet<String> = topology.hostnames_mut().map(|(_, hostname)| hostname.name.clone()).collect();
    let answers = names.into_iter().map(|name| async { (name.clone(), lookup(name).await) });
    join_all(answers).await.into_iter().collect()
}

/// Fills in the resolved addresses of each group's address family.
pub(super) fn fill_in(topology: &mut Topology, answers: &Answers) {
    for (is_ipv6, hostname) in topology.hostnames_mut() {
        if let Some(answer) = answers.get(&hostname.name) {
            let of_family = |addresses: &Vec<IpAddr>| -> Vec<IpAddr> {
                addresses.iter().copied().filter(|address| address.is_ipv6() == is_ipv6).collect()
            };
            hostname.addresses = answer.as_ref().map(of_family).map_err(Clone::clone);
        }
    }
}

/// The destination of the route if it leads to a private network, not to the internet or a dead end.
fn private_network(route: &Route) -> Option<IpNet> {
    let to_internet = ["igw-", "eigw-", "nat-"].iter().any(|gateway| route.by.starts_with(gateway));
    let carries = route.carries_traffic() == Some(true);
    (carries && !to_internet && route.destination.prefix_len() > 0).then_some(route.destination)
}

/// The addresses of `name`, each once.
async fn lookup(name: String) -> Result<Vec<IpAddr>, String> {
    let answer = tokio::task::spawn_blocking(move || (name.as_str(), 0).to_socket_addrs());
    let answer =
        tokio::time::timeout(RESOLVE_WITHIN, answer).await.map_err(|_| "DNS did not answer in time".to_owned())?;
    let addresses = answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let addresses: BTreeSet<IpAddr> = addresses.map(|address: SocketAddr| address.ip()).collect();
    Ok(addresses.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_internet_and_dead_routes_are_not_private() {
        let route = |destination: &str, by: &str, state: &str| {
            let (destination, by, state) = (destination.parse().unwrap(), by.to_owned(), state.to_owned());
            private_network(&Route { destination, by, state }).is_some()
        };
        assert!(route("10.9.0.0/16", "pcx-1", "active"));
        for state in ["blackhole", "filtered", "newState"] {
            assert!(!route("10.9.0.0/16", "pcx-1", state), "{state}");
        }
        assert!(!route("0.0.0.0/0", "tgw-1", "active"), "a default route says nothing of what is there");
        assert!(!route("198.51.100.0/24", "igw-1", "active"));
    }

    #[tokio::test]
    async fn an_unknown_hostname_is_an_error() {
        // An address resolves to itself without a network.
        assert_eq!(lookup("10.0.0.7".to_owned()).await, Ok(vec!["10.0.0.7".parse().unwrap()]));
        assert!(lookup("no-such-name.invalid".to_owned()).await.is_err());
    }
}
