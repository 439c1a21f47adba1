//! What security group rules allow, and the command that adds one.

use std::net::IpAddr;

use ipnet::IpNet;

use super::command::argument;
use super::{Command, Region};
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

/// A peer that a command allows: the members of a security group, or a network.
pub(crate) enum Allow<'a> {
    Group(&'a str),
    Network(IpNet),
}

/// The AWS CLI command that allows these peers, each on a port, in this direction; `None` if a shell would interpret
/// the id of a peer.
pub(crate) fn authorize<'a>(
    egress: bool,
    group: &str,
    allowed: impl IntoIterator<Item = (Allow<'a>, u16)>,
    region: &Region,
) -> Option<Command> {
    let permission = |(peer, port): (Allow<'_>, u16)| {
        let peer = match peer {
            Allow::Group(id) => format!("UserIdGroupPairs=[{{GroupId={}}}]", argument(id)?),
            Allow::Network(IpNet::V4(cidr)) => format!("IpRanges=[{{CidrIp={cidr}}}]"),
            Allow::Network(IpNet::V6(cidr)) => format!("Ipv6Ranges=[{{CidrIpv6={cidr}}}]"),
        };
        Some(format!("'IpProtocol=tcp,FromPort={port},ToPort={port},{peer}'"))
    };
    let permissions: Vec<String> = allowed.into_iter().map(permission).collect::<Option<_>>()?;
    let operation = if egress { "ec2 authorize-security-group-egress" } else { "ec2 authorize-security-group-ingress" };
    let permissions = format!("--ip-permissions {}", permissions.join(" "));
    Some(Command::new(operation, region).option("group-id", group).literal(&permissions))
}
