//! The checks: the conditions for dbt to connect, and for nobody else to. Pure functions from a
//! [`CheckContext`](crate::check::CheckContext) to [`CheckResult`](crate::check::CheckResult)s. One file per check;
//! [`catalogue`](crate::catalogue) lists them.

pub(crate) mod acceptance_required;
pub(crate) mod broad_rule;
pub(crate) mod certificate;
pub(crate) mod connection_absent;
pub(crate) mod connection_dbt;
pub(crate) mod connection_room;
pub mod connection_untrusted;
pub mod cross_zone;
pub(crate) mod internal_nlb;
pub(crate) mod listener_idle_timeout;
pub(crate) mod listener_port;
pub(crate) mod listener_tls;
pub mod network_path;
pub(crate) mod notification;
pub(crate) mod outbound;
pub(crate) mod principals;
pub(crate) mod private_dns;
pub(crate) mod proxy_protocol;
pub(crate) mod regions;
pub(crate) mod security_groups;
pub(crate) mod service_available;
pub mod subscribers;
pub(crate) mod target_health;
pub(crate) mod target_hostname;
pub(crate) mod target_security_groups;
pub mod visibility_lost;
pub(crate) mod zones;
