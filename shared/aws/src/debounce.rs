//! Debounce: one run covers many events.
//!
//! The first event claims the run before it waits, so the events that the run covers need not wait, and a burst of
//! events does not use up the account's concurrent executions, of which a new account has ten.

use std::time::Duration;

use guard_core::snapshot::CallError;
use guard_core::trigger::Change;
use jiff::{SignedDuration, Timestamp};

use crate::table::{StateTable, ToRead};

/// The minimum age at which a run covers an event: by then EC2, which lags a moment behind, shows the change.
const COVERS: SignedDuration = SignedDuration::from_secs(1);

/// The age of its event at which a run begins. Because it exceeds [`COVERS`], an endless stream of events causes at
/// most two runs a second.
const DEBOUNCE: SignedDuration = SignedDuration::from_millis(1_500);

/// The minimum wait of a run for changes, so that others can join: CloudTrail reports changes minutes late, and then
/// many at once.
const GATHERS: SignedDuration = SignedDuration::from_secs(1);

/// The number of attempts of a change to join or claim a run.
const MAX_TRIES: usize = 5;

/// The minimum interval between two runs for changes that seldom concern a path.
const SELDOM: SignedDuration = SignedDuration::from_mins(1);

/// The longest wait for a claim. Accepting must not wait for a hanging table; a second run does no harm.
const CLAIM_WITHIN: Duration = Duration::from_millis(500);

/// The outcome of claiming a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The run begins now; [`finished`] needs the claimed time.
    Run(Timestamp),
    /// Another run covers the event, and takes over its change.
    Covered,
    /// Another run covered the event, and has already finished.
    WasCovered,
}

/// The event that claims a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// Its time.
    pub(crate) at: Timestamp,
    /// The change that it reports.
    pub(crate) change: Option<&'a Change>,
}

/// Claims the run `run` of `services` for `event`, and waits until it may begin. The run begins even if the table does
/// not answer.
pub(crate) async fn claim(table: &StateTable, run: &str, event: Event<'_>, services: &ToRead) -> Claim {
    let covered_since = event.at.checked_add(COVERS).unwrap_or(event.at);
    let mut has_finished = false;
    for _ in 0..MAX_TRIES {
        if let Some(begins) = claimed(table, run, event, services, covered_since).await {
            return Claim::Run(begins);
        }
        let Some(change) = event.change else { return Claim::Covered };
        // The covering run finished before this claim failed.
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

/// Joins a run together with the change; without the change if too many have joined.
async fn joined(table: &StateTable, run: &str, services: &ToRead, change: &Change) -> Result<bool, CallError> {
    Ok(table.leave_to_run(run, services, Some(change)).await? || table.leave_to_run(run, services, None).await?)
}

/// Claims a run of all services, unless one took place within the last minute. In that case, the schedule covers the
/// change.
pub(crate) async fn claim_seldom(table: &StateTable, run: &str, event: Event<'_>) -> Claim {
    let begins = claimed(table, run, event, &ToRead::All, Timestamp::now() - SELDOM).await;
    begins.map_or(Claim::Covered, Claim::Run)
}

/// The start of the claimed run, after waiting for it; `None` if another run covers the event.
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

/// The services that the run reads, which begins now: `services`, and those of the events that it covers; all if the
/// table fails.
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

/// Stores that the claimed run has finished, and whether it left something undone. Returns the changes that it covered.
pub(crate) async fn finished(table: &StateTable, run: &str, began: Timestamp, undone: bool) -> Vec<Change> {
    table.finish_run(run, began, undone).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "could not record that this run finished; changes that it covers are not named as causes");
        Vec::new()
    })
}
