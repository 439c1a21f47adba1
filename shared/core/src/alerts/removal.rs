//! The last message: without it, nothing would tell subscribers that nobody watches any more.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::transition::{Kind, Transition};
use crate::check::{Finding, Remedy, Severity};
use crate::ids::ServiceId;

/// The notice that the stack that watches `services` is being removed.
pub fn notice(services: &BTreeSet<ServiceId>, now: Timestamp) -> Transition {
    let finding = Finding::new(
        Severity::Warning,
        "the guard is being removed",
        "Accepted connections stay. Nobody watches them any more, accepts dbt's requests, or says that an alert is over.",
        Remedy::nothing("Nothing, if you know of it. If not, ask whoever deploys this stack.", None),
    )
    .with_evidence(services.iter().map(|service| format!("watched so far: {service}")).collect());
    let incident = format!("removal-{}", now.as_second());
    Transition { number: 1, ..Transition::new(Kind::Notice, ("removal", "privatelink-guard"), &incident, finding, now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, service};

    #[test]
    fn the_last_message_names_every_service() {
        let finding = notice(&BTreeSet::from([service(1), service(2)]), at(8, 0)).finding;
        assert_eq!(finding.evidence, [service(1), service(2)].map(|service| format!("watched so far: {service}")));
        assert!(finding.remedy.nothing_to_do);
    }
}
