//! Selects the endpoint services for a run that cannot read all of them. A run reads a service completely or not at
//! all. An unread service has no result: it neither fires nor resolves anything. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::ids::ServiceId;

/// An endpoint service that a run may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub service: ServiceId,
    pub calls: usize,
    /// Whether it has an open or pending alert: such a service comes first.
    pub has_open_alert: bool,
    /// When it was last read; `None` if never, or if no record says so.
    pub last_read: Option<Timestamp>,
}

/// The services that a run reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    pub services: BTreeSet<ServiceId>,
    /// The number of runs needed to read every candidate.
    pub runs_in_a_pass: usize,
}

/// The candidates that `budget` calls can read: first those with an alert, then those read longest ago. The oldest is
/// always included, so open alerts keep no other service from being read.
pub fn take(mut candidates: Vec<Candidate>, budget: usize) -> Turn {
    let total: usize = candidates.iter().map(|candidate| candidate.calls).sum();
    candidates.sort_by(|a, b| (a.last_read, &a.service).cmp(&(b.last_read, &b.service)));
    let mut candidates = candidates.into_iter();
    let oldest: Vec<Candidate> = candidates.next().into_iter().collect();
    let (alerting, others): (Vec<Candidate>, Vec<Candidate>) =
        candidates.partition(|candidate| candidate.has_open_alert);
    let (mut services, mut left) = (BTreeSet::new(), budget);
    for queue in [oldest, alerting, others] {
        for Candidate { service, calls, .. } in queue {
            if calls > left && !services.is_empty() {
                break;
            }
            left = left.saturating_sub(calls);
            services.insert(service);
        }
    }
    Turn { services, runs_in_a_pass: total.div_ceil(budget.max(1)).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, service};

    fn candidate(number: u32, calls: usize, last_read: Option<i8>) -> Candidate {
        let last_read = last_read.map(|hour| at(hour, 0));
        Candidate { service: service(number), calls, has_open_alert: false, last_read }
    }

    fn alerting(number: u32, calls: usize) -> Candidate {
        Candidate { has_open_alert: true, ..candidate(number, calls, Some(9)) }
    }

    fn taken(candidates: &[Candidate], budget: usize) -> Vec<u32> {
        let turn = take(candidates.to_vec(), budget);
        (1..=9).filter(|number| turn.services.contains(&service(*number))).collect()
    }

    #[test]
    fn all_services_are_read_if_the_budget_allows() {
        let all = [candidate(1, 10, None), candidate(2, 20, None)];
        assert_eq!(taken(&all, 30), [1, 2]);
        assert_eq!(take(all.to_vec(), 30).runs_in_a_pass, 1);
        assert_eq!(take(all.to_vec(), 29).runs_in_a_pass, 2);
        assert_eq!(taken(&[], 30), [0; 0]);
    }

    #[test]
    fn services_never_read_come_first_then_the_longest_unread() {
        let all =
            [candidate(1, 10, Some(9)), candidate(2, 10, Some(8)), candidate(3, 10, None), candidate(4, 10, Some(7))];
        assert_eq!(taken(&all, 10), [3]);
        assert_eq!(taken(&all, 29), [3, 4]);
        assert_eq!(taken(&all, 30), [2, 3, 4]);
    }

    #[test]
    fn a_service_with_an_alert_comes_first_but_blocks_no_other() {
        let all = [candidate(1, 10, Some(7)), candidate(2, 10, Some(8)), alerting(3, 10), alerting(4, 10)];
        assert_eq!(taken(&all, 30), [1, 3, 4]);
        assert_eq!(taken(&all, 20), [1, 3]);
        assert_eq!(taken(&all, 10), [1]);
    }

    #[test]
    fn a_service_over_the_budget_is_read_alone_at_its_turn() {
        assert_eq!(taken(&[candidate(1, 500, Some(7)), candidate(2, 10, Some(8))], 100), [1]);
        assert_eq!(taken(&[candidate(1, 500, Some(9)), candidate(2, 10, Some(8))], 100), [2]);
    }

    /// Whatever their sizes and alerts, all services are read within a bounded number of runs.
    #[test]
    fn every_service_has_its_turn() {
        let mut all: Vec<Candidate> = (1..=9).map(|number| candidate(number, number as usize * 7, None)).collect();
        for candidate in &mut all[5..] {
            candidate.has_open_alert = true;
        }
        let mut read = BTreeSet::new();
        for run in 0..12 {
            let turn = take(all.clone(), 70);
            for candidate in all.iter_mut().filter(|candidate| turn.services.contains(&candidate.service)) {
                candidate.last_read = Some(at(8, run));
            }
            read.extend(turn.services);
        }
        assert_eq!(read.len(), 9);
    }
}
