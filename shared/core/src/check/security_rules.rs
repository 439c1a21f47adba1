//! The evaluation of security group rules, for `load-balancer.outbound` and `target-group.security-groups`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Command;
use super::Region;
use crate::snapshot::{Network, Peer, SecurityGroupRule};

/// The other end of a connection, as a rule describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote<'a> {
    pub(crate) address: IpAddr,
    /// Its security groups; `None` if unknown.
    pub(crate) groups: Option<&'a [String]>,
}

/// Whether `rules`, of one direction, allow TCP on `port` with the other end. Security groups have no denying rules.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html>
pub(crate) fn allows<'a>(
    rules: impl IntoIterator<Item = &'a SecurityGroupRule>,
    network: &Network,
    remote: Remote<'_>,
    port: u16,
) -> Result<bool, String> {
    let mut unknown = None;
    for rule in rules.into_iter().filter(|rule| rule.tcp.is_some_and(|ports| ports.contains(port))) {
        let allowed = match &rule.peer {
            Peer::Cidr(cidr) => Ok(cidr.contains(&remote.address)),
            Peer::PrefixList(id) => {
                network.prefix_list(id).map(|list| list.iter().any(|cidr| cidr.contains(&remote.address)))
            }
            Peer::Group(group) => match remote.groups {
                Some(groups) => Ok(groups.contains(group)),
                None => Err(format!("the security groups of {} are not known", remote.address)),
            },
        };
        match allowed {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(why) => unknown = Some(why),
        }
    }
    unknown.map_or(Ok(false), Err)
}

/// The peers that a command allows: the members of a security group, or single addresses.
pub(crate) enum Allow<'a> {
    Group(&'a str),
    Addresses(BTreeSet<IpAddr>),
}

/// The AWS CLI command that allows these ports in this direction; `None` if there is nothing to allow.
pub(crate) fn authorize(
    egress: bool,
    group: &str,
    ports: &BTreeSet<u16>,
    allow: &Allow<'_>,
    region: &Region,
) -> Option<Command> {
    let peers: Vec<String> = match allow {
        // The id of a group passes the same check as an argument.
        Allow::Group(group) => {
            vec![format!("UserIdGroupPairs=[{{GroupId={}}}]", crate::check::command::argument(group)?)]
        }
        Allow::Addresses(addresses) => addresses.iter().map(|address| single(*address)).collect(),
    };
    let permissions: Vec<String> = ports
        .iter()
        .flat_map(|port| peers.iter().map(move |peer| format!("'IpProtocol=tcp,FromPort={port},ToPort={port},{peer}'")))
        .collect();
    let permissions = (!permissions.is_empty()).then(|| format!("--ip-permissions {}", permissions.join(" ")))?;
    Some(match egress {
        true => {
            Command::new("ec2 authorize-security-group-egress", region).option("group-id", group).literal(&permissions)
        }
        false => {
            Command::new("ec2 authorize-security-group-ingress", region).option("group-id", group).literal(&permissions)
        }
    })
}

fn single(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("IpRanges=[{{CidrIp={address}/32}}]"),
        IpAddr::V6(address) => format!("Ipv6Ranges=[{{CidrIpv6={address}/128}}]"),
    }
}
