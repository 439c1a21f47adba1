//! Debounce: many events, one run.
//!
//! The first event claims the run before it waits, so that those that the run covers need not wait, and a crowd of events takes
//! up none of the account's concurrent functions, of which a new account has ten.

use std::time::Duration;

use guard_core::snapshot::CallError;
use guard_core::trigger::Change;
use jiff::{SignedDuration, Timestamp};

use crate::table::{StateTable, ToRead};

/// A run covers events that are this old when it begins: by then EC2, whose answers lag a moment behind, shows the
/// changes behind them.
const COVERS: SignedDuration = SignedDuration::from_secs(1);

/// A run begins when its event is this old. In the time beyond [`COVERS`], one run can cover the events of a stream
/// that does not end: two runs a second at most.
const DEBOUNCE: SignedDuration = SignedDuration::from_millis(1_500);

/// How long a run of changes waits at least for others to join it: CloudTrail reports a change minutes later, and then many at
/// once.
const GATHERS: SignedDuration = SignedDuration::from_secs(1);

/// How often a change tries to join a run, or to claim one.
const MAX_TRIES: usize = 5;

/// The time between two runs of changes that seldom concern a path.
const SELDOM: SignedDuration = SignedDuration::from_mins(1);

/// How long a run waits for its claim. Accepting must not wait for a table that hangs; a second run does no harm.
const CLAIM_WITHIN: Duration = Duration::from_millis(500);

/// Whether a run goes ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It does, now; [`finished`] needs the time that was claimed.
    Run(Timestamp),
    /// Another run covers the event, and takes over the change behind it.
    Covered,
    /// Another run covered the event, and has finished.
    WasCovered,
}

/// The event that a run is claimed for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// When it happened.
    pub(crate) at: Timestamp,
    /// The change in AWS that it reports.
    pub(crate) change: Option<&'a Change>,
}

/// Claims the run `run` of these services for `event`, and waits until it may begin. If the table does not answer, it begins
/// all the same.
pub(crate) async fn claim(table: &StateTable, run: &str, event: Event<'_>, services: &ToRead) -> Claim {
    let covered_since = event.at.checked_add(COVERS).unwrap_or(event.at);
    let mut has_finished = false;
    for _ in 0..MAX_TRIES {
        if let Some(begins) = claimed(table, run, event, services, covered_since).await {
            return Claim::Run(begins);
        }
        let Some(change) = event.change else { return Claim::Covered };
        // The run that covers it had finished before it could not be claimed.
        if has_finished {
            return Claim::WasCovered;
        }
        match joined(table, run, services, change).await {
            Ok(true) => return Claim::Covered,
            Ok(false) => has_finished = matches!(table.has_finished(run).await, Ok(true)),
            Err(error) => {
                tracing::warn!(%error, "could not join the run that covers this event; going ahead");
                break;
            }
        }
    }
    Claim::Run(Timestamp::now())
}

/// Joins a run, with the change; without it, if too many have joined.
async fn joined(table: &StateTable, run: &str, services: &ToRead, change: &Change) -> Result<bool, CallError> {
    Ok(table.leave_to_run(run, services, Some(change)).await? || table.leave_to_run(run, services, None).await?)
}

/// Claims a run of all services, unless there was one within the minute. Then the change is left to the schedule.
pub(crate) async fn claim_seldom(table: &StateTable, run: &str, event: Event<'_>) -> Claim {
    let begins = claimed(table, run, event, &ToRead::All, Timestamp::now() - SELDOM).await;
    begins.map_or(Claim::Covered, Claim::Run)
}

/// When the claimed run begins, after the wait; `None` if another run covers the event.
async fn claimed(
    table: &StateTable,
    run: &str,
    event: Event<'_>,
    services: &ToRead,
    covered_since: Timestamp,
) -> Option<Timestamp> {
    let now = Timestamp::now();
    let at_least = if event.change.is_some() { GATHERS } else { SignedDuration::ZERO };
    let wait = DEBOUNCE.saturating_sub(now.duration_since(event.at)).clamp(at_least, DEBOUNCE);
    let begins = now.checked_add(wait).unwrap_or(now);
    let claim = table.claim_run(run, event.id, services, (covered_since, begins));
    match tokio::time::timeout(CLAIM_WITHIN, claim).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            tracing::info!(event = event.id, "a run that begins after this event covers it");
            return None;
        }
        Err(_) => {
            tracing::error!("the table is slow; going ahead without knowing whether another run covers this event");
        }
        Ok(Err(error)) => tracing::error!(%error, "unknown whether another run covers this event; going ahead"),
    }
    let left = begins.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    Some(begins)
}

/// What the run that begins now reads: `services`, and those of the events that it covers. If that is not known, all.
pub(crate) async fn begun(table: &StateTable, run: &str, began: Timestamp, services: ToRead) -> ToRead {
    match tokio::time::timeout(CLAIM_WITHIN, table.begin_run(run, began)).await {
        Ok(Ok(Some(waiting))) => waiting,
        Ok(Ok(None)) => services,
        Ok(Err(error)) => {
            tracing::warn!(%error, "unknown what other events concern; reading all");
            ToRead::All
        }
        Err(_) => ToRead::All,
    }
}

/// Notes that the run that was claimed has finished, and whether it left something undone. Returns the changes that it
/// covered.
pub(crate) async fn finished(table: &StateTable, run: &str, began: Timestamp, undone: bool) -> Vec<Change> {
    table.finish_run(run, began, undone).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "could not record that this run finished; changes that it covers are not named as causes");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_smithy_http_client::test_util::NeverClient;
    use guard_core::testing::at;
    use tokio::time::Instant;

    use super::*;
    use crate::testing;

    #[tokio::test(start_paused = true)]
    async fn a_run_does_not_wait_for_a_table_that_hangs() {
        let config = testing::config(&Arc::default(), |(): &mut (), _| (200, String::new()));
        let config = config.into_builder().http_client(NeverClient::new()).build();
        let began = Instant::now();
        let event = Event { id: "m-1", at: at(8, 0), change: None };
        let claim = claim(&StateTable::new(&config, "state"), "connection-acceptor", event, &ToRead::All).await;
        assert!(matches!(claim, Claim::Run(_)));
        assert_eq!(began.elapsed(), CLAIM_WITHIN);
    }
}
