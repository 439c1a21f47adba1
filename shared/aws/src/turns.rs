//! The times of the last reads, which decide the services' turns: in the instance's memory, and in one item of the
//! table, which is written only if the services take turns.

use std::collections::{BTreeMap, BTreeSet};

use guard_core::alerts::record::Version;
use guard_core::config::CLOCKS_DIFFER;
use guard_core::ids::ServiceId;
use guard_core::turns::{Candidate, Turn, take};
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::table::{StateTable, TURNS};

/// The time of the last read of each endpoint service.
type LastReads = BTreeMap<ServiceId, Timestamp>;

/// A function's last reads, as far as this instance knows, and the version of the stored item.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Option<(LastReads, Option<Version>)>>);

impl Turns {
    /// Selects the `services` that a run can read with `budget` calls. `candidates` holds all configured services.
    pub(crate) async fn take(
        &self,
        table: &StateTable,
        function: &str,
        mut candidates: Vec<Candidate>,
        services: &BTreeSet<ServiceId>,
        budget: usize,
    ) -> Turn {
        let all: BTreeSet<ServiceId> = candidates.iter().map(|candidate| candidate.service.clone()).collect();
        let runs_in_a_pass = take(candidates.clone(), budget).runs_in_a_pass;
        candidates.retain(|candidate| services.contains(&candidate.service));
        if runs_in_a_pass > 1 {
            let latest = Timestamp::now() + CLOCKS_DIFFER;
            let mut known = self.0.lock().await;
            // Another instance may have read since. If the table fails, this instance's knowledge suffices.
            match table.note(TURNS, function).await {
                Ok((last, version)) => *known = Some((last.unwrap_or_default(), version)),
                Err(error) => tracing::warn!(%error, "whose turn it is could not be read"),
            }
            if let Some((last, _)) = known.as_mut() {
                last.retain(|service, _| all.contains(service));
            }
            for candidate in &mut candidates {
                let last = known.as_ref().and_then(|(last, _)| last.get(&candidate.service).copied());
                candidate.last_read = last.filter(|last| *last < latest);
            }
        }
        Turn { runs_in_a_pass, ..take(candidates, budget) }
    }

    /// Stores the times of the reads if services take turns. Returns the oldest last read of any service.
    pub(crate) async fn note(
        &self,
        table: &StateTable,
        function: &str,
        turn: &Turn,
        read: &[(&BTreeSet<ServiceId>, Timestamp)],
    ) -> Option<Timestamp> {
        if turn.runs_in_a_pass == 1 {
            return None;
        }
        let mut known = self.0.lock().await;
        let (mut last, version) = known.take().unwrap_or_default();
        for (services, read_at) in read {
            last.extend(services.iter().map(|service| (service.clone(), *read_at)));
        }
        let oldest = last.values().min().copied();
        match table.put_note(TURNS, function, &last, version).await {
            Ok(Some(version)) => *known = Some((last, Some(version))),
            // Another instance wrote first: the next run reads that item.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "whose turn it is could not be stored");
                *known = Some((last, version));
            }
        }
        oldest
    }
}
