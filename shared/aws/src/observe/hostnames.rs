//! DNS: what the names of target groups resolve to.
//!
//! The system's resolver, asked anew in every run: it is the one that Lambda configures, and glibc keeps no
//! cache. A resolver of our own would only add code to a run that asks for one name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use futures_util::future::join_all;
use guard_core::ids::Arn;
use guard_core::snapshot::{Hostname, Observed, Subnet, TargetGroup, TargetKind};

use super::Observer;

/// How long DNS may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(3);

impl Observer {
    /// Fills in the hostname of each group: from its tag, what DNS answers, and the networks of its VPC.
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
        let (resolved, subnets) = tokio::join!(resolved, self.subnets(vpcs.into_iter().collect()));
        let resolved: BTreeMap<String, Result<Vec<IpAddr>, String>> = resolved.into_iter().collect();
        for group in groups.values_mut().filter(|group| group.kind == TargetKind::Ip) {
            if let Some((name, addresses)) = tags.get(&group.arn).and_then(|name| resolved.get_key_value(name)) {
                group.hostname = Some(Ok(Some(hostname(name, addresses, group, &subnets))));
            }
        }
    }
}

fn hostname(
    name: &str,
    addresses: &Result<Vec<IpAddr>, String>,
    group: &TargetGroup,
    subnets: &Observed<Vec<Subnet>>,
) -> Hostname {
    let of_family = |addresses: &Vec<IpAddr>| -> Vec<IpAddr> {
        addresses.iter().copied().filter(|address| address.is_ipv6() == group.is_ipv6).collect()
    };
    let in_vpc = |subnets: &Vec<Subnet>| {
        let subnets = subnets.iter().filter(|subnet| Some(&subnet.vpc) == group.vpc.as_ref());
        subnets.flat_map(|subnet| subnet.cidrs.iter().copied()).collect()
    };
    Hostname {
        name: name.to_owned(),
        addresses: addresses.as_ref().map(of_family).map_err(Clone::clone),
        networks: subnets.as_ref().map(in_vpc).map_err(Clone::clone),
    }
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

    #[tokio::test]
    async fn a_name_is_resolved_and_a_name_that_does_not_exist_is_an_error() {
        // An address stands for itself: no network is needed.
        assert_eq!(resolve("10.0.0.7".to_owned()).await, Ok(vec!["10.0.0.7".parse().unwrap()]));
        assert!(resolve("no-such-name.invalid".to_owned()).await.is_err());
    }
}
