//! The evaluation of a network ACL.

use std::net::IpAddr;

use crate::snapshot::{AclEntry, Ports};

/// The number of the last rule of every network ACL, shown as `*`. It denies everything.
pub(super) const LAST_RULE: i32 = 32767;

/// The parts of `ports` that an ACL denies, each with the denying rule. Rules apply in ascending order, and the first
/// match decides.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/nacl-rules.html>
pub(super) fn denied(entries: &[AclEntry], egress: bool, peer: IpAddr, ports: Ports) -> Vec<(Ports, i32)> {
    let mut rules: Vec<&AclEntry> =
        entries.iter().filter(|entry| entry.egress == egress && entry.peer.contains(&peer)).collect();
    rules.sort_by_key(|entry| entry.number);
    let (mut undecided, mut denied) = (vec![ports], Vec::new());
    for rule in rules {
        let Some(matched) = rule.tcp else { continue };
        if !rule.allow {
            denied.extend(undecided.iter().filter_map(|ports| ports.and(matched)).map(|ports| (ports, rule.number)));
        }
        undecided = undecided.into_iter().flat_map(|ports| ports.without(matched)).collect();
    }
    denied.extend(undecided.into_iter().map(|ports| (ports, LAST_RULE)));
    denied
}
