//! The checks: what must be true for dbt to connect, and for nobody else to. Pure: a [`CheckContext`] in,
//! [`CheckResult`]s out. One file per check; [`catalogue`] lists them.

pub mod catalogue;
pub mod cause;
mod command;
mod context;
pub mod documentation;
mod region;
mod result;
mod spec;

mod acceptance_required;
mod broad_rule;
mod certificate;
mod connection_absent;
mod connection_dbt;
mod connection_details;
pub mod connection_untrusted;
pub mod cross_zone;
mod inbound_rules;
mod internal_nlb;
mod listener_port;
pub mod network_path;
mod notification;
mod outbound;
mod principals;
mod private_dns;
mod regions;
mod security_groups;
mod security_rules;
mod service_available;
mod target_health;
mod target_hostname;
mod target_security_groups;
pub mod visibility_lost;
mod zones;

pub use self::catalogue::{CATALOGUE, checks_of, evaluate_checks};
pub(crate) use self::command::Command;
pub(crate) use self::connection_details::reject_command;
pub use self::context::{CheckContext, History, RecordedState};
pub use self::region::Region;
pub use self::result::{CheckResult, Finding, PartStatus, Remedy, Severity, Status};
pub use self::spec::{Absence, Check, Group, Spec};

/// `1 target`, `2 targets`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// At most `max` lines, and how many more there are.
pub(crate) fn limited(mut lines: Vec<String>, max: usize) -> Vec<String> {
    if lines.len() > max {
        let more = lines.len() - max;
        lines.truncate(max);
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_and_the_rest_is_counted() {
        let limited = |number: usize| limited(vec!["line".to_owned(); number], 2);
        assert_eq!(limited(1), ["line"]);
        assert_eq!(limited(2), ["line", "line"]);
        assert_eq!(limited(4), ["line", "line", "and 2 more"]);
    }
}
