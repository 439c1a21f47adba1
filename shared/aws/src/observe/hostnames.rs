//! DNS: what the names of target groups resolve to.
//!
//! The system's resolver, asked anew in every run: it is the one that Lambda configures, and glibc keeps no
//! cache. A resolver of our own would only add code to a run that asks for one name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use futures_util::future::join_all;
use guard_core::ids::Arn;
use guard_core::snapshot::{Hostname, Observed, Route, RouteTable, Subnet, TargetGroup, TargetKind};
use ipnet::IpNet;

use super::Observer;

/// How long DNS may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(3);

impl Observer {
    /// Fills in the hostname of each group: from its tag, what DNS answers, and the networks that its VPC reaches.
    pub(super) async fn resolve_hostnames(
        &self,
        groups: &mut BTreeMap<Arn, TargetGroup>,
        tags: Observed<BTreeMap<Arn, String>>,
    ) {
        let tags = match tags {
            Ok(tags) => tags,
            Err(error) => {
                for group in groups.values_mut() {
                    group.hostname = Some(Err(error.clone()));
                }
                return;
            }
        };
        for group in groups.values_mut() {
            group.hostname = Some(Ok(None));
        }
        let tagged = || groups.values().filter(|group| group.kind == TargetKind::Ip && tags.contains_key(&group.arn));
        let vpcs: BTreeSet<String> = tagged().filter_map(|group| group.vpc.clone()).collect();
        let names: BTreeSet<String> = tagged().filter_map(|group| tags.get(&group.arn).cloned()).collect();
        let resolved = join_all(names.into_iter().map(async |name| (name.clone(), resolve(name).await)));
        let vpcs: Vec<String> = vpcs.into_iter().collect();
        let networks = async {
            let (subnets, tables) = tokio::join!(self.subnets(vpcs.clone()), self.route_tables(vpcs.clone()));
            Ok((subnets?, tables?))
        };
        let (resolved, networks) = tokio::join!(resolved, networks);
        let resolved: BTreeMap<String, Result<Vec<IpAddr>, String>> = resolved.into_iter().collect();
        for group in groups.values_mut().filter(|group| group.kind == TargetKind::Ip) {
            if let Some((name, addresses)) = tags.get(&group.arn).and_then(|name| resolved.get_key_value(name)) {
                group.hostname = Some(Ok(Some(hostname(name, addresses, group, &networks))));
            }
        }
    }
}

fn hostname(
    name: &str,
    addresses: &Result<Vec<IpAddr>, String>,
    group: &TargetGroup,
    networks: &Observed<(Vec<Subnet>, Vec<RouteTable>)>,
) -> Hostname {
    let of_family = |addresses: &Vec<IpAddr>| -> Vec<IpAddr> {
        addresses.iter().copied().filter(|address| address.is_ipv6() == group.is_ipv6).collect()
    };
    let reached = |(subnets, tables): &(Vec<Subnet>, Vec<RouteTable>)| {
        let subnets = subnets.iter().filter(|subnet| Some(&subnet.vpc) == group.vpc.as_ref());
        let tables = tables.iter().filter(|table| Some(&table.vpc) == group.vpc.as_ref());
        let routed = tables.flat_map(|table| &table.routes).filter_map(private_network);
        subnets.flat_map(|subnet| subnet.cidrs.iter().copied()).chain(routed).collect()
    };
    Hostname {
        name: name.to_owned(),
        addresses: addresses.as_ref().map(of_family).map_err(Clone::clone),
        networks: networks.as_ref().map(reached).map_err(Clone::clone),
    }
}

/// Where the route leads, if that is a private network: not the internet, and not nowhere.
fn private_network(route: &Route) -> Option<IpNet> {
    let to_internet = ["igw-", "eigw-", "nat-"].iter().any(|gateway| route.by.starts_with(gateway));
    (!route.blackhole && !to_internet && route.destination.prefix_len() > 0).then_some(route.destination)
}

/// The addresses of `name`, each once.
async fn resolve(name: String) -> Result<Vec<IpAddr>, String> {
    let lookup = tokio::task::spawn_blocking(move || (name.as_str(), 0).to_socket_addrs());
    let answer =
        tokio::time::timeout(RESOLVE_WITHIN, lookup).await.map_err(|_| "DNS did not answer in time".to_owned())?;
    let addresses = answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let addresses: BTreeSet<IpAddr> = addresses.map(|address: SocketAddr| address.ip()).collect();
    Ok(addresses.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_leads_to_a_private_network_unless_to_the_internet_or_nowhere() {
        let route = |destination: &str, by: &str, blackhole| {
            private_network(&Route { destination: destination.parse().unwrap(), by: by.to_owned(), blackhole })
                .is_some()
        };
        assert!(route("10.9.0.0/16", "pcx-1", false));
        assert!(!route("10.9.0.0/16", "pcx-1", true));
        assert!(!route("0.0.0.0/0", "tgw-1", false), "a default route says nothing of what is there");
        assert!(!route("198.51.100.0/24", "igw-1", false));
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_a_name_that_does_not_exist_is_an_error() {
        // An address stands for itself: no network is needed.
        assert_eq!(resolve("10.0.0.7".to_owned()).await, Ok(vec!["10.0.0.7".parse().unwrap()]));
        assert!(resolve("no-such-name.invalid".to_owned()).await.is_err());
    }
}
