//! The checks: the conditions for dbt to connect, and for nobody else to. Pure functions from a
//! [`CheckContext`](crate::check::CheckContext) to [`CheckResult`](crate::check::CheckResult)s. One file per check;
//! [`catalogue`] lists them.

mod acceptance_required;
mod broad_rule;
pub mod catalogue;
mod certificate;
pub(crate) mod connection_absent;
mod connection_dbt;
mod connection_details;
mod connection_room;
pub mod connection_untrusted;
pub mod cross_zone;
mod inbound_rules;
mod internal_nlb;
mod listener_idle_timeout;
pub(crate) mod listener_port;
pub(crate) mod listener_tls;
pub mod network_path;
mod notification;
mod outbound;
mod principals;
mod private_dns;
mod proxy_protocol;
mod regions;
mod restore;
pub(crate) mod security_groups;
mod security_rules;
mod service_available;
pub mod subscribers;
mod target_health;
mod target_hostname;
mod target_security_groups;
pub mod visibility_lost;
mod zones;

pub(crate) use self::connection_details::reject_command;
