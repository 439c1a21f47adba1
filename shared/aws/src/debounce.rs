//! Debounce: many events, one run.

use std::time::Duration;

use guard_core::trigger::Trigger;
use jiff::{SignedDuration, Timestamp};

use crate::notify::store::Store;

/// A run waits until its event is this old. So a burst of events shares one run, and EC2, whose answers lag a moment behind,
/// shows what the event was about.
const DEBOUNCE: SignedDuration = SignedDuration::from_secs(1);

/// A run covers events that happened this long before it began; the margin is for clocks that differ.
const MARGIN: SignedDuration = SignedDuration::from_millis(500);

/// Whether another run covers the event, so that this run has nothing to do. Schedules are never covered, and if the table
/// does not answer, this run goes ahead.
pub async fn is_covered(store: &Store, function: &str, trigger: &Trigger) -> bool {
    let Some((event, at)) = trigger.event() else { return false };
    let age = Timestamp::now().duration_since(at);
    if let Ok(wait) = Duration::try_from(DEBOUNCE.saturating_sub(age)) {
        tokio::time::sleep(wait.min(DEBOUNCE.unsigned_abs())).await;
    }
    let covered_since = at.checked_add(MARGIN).unwrap_or(at);
    match store.claim_run(function, event, covered_since, Timestamp::now()).await {
        Ok(claimed) => {
            if !claimed {
                tracing::info!(event, "a run that began after this event covers it");
            }
            !claimed
        }
        Err(error) => {
            tracing::error!(%error, "unknown whether another run covers this event; going ahead");
            false
        }
    }
}
