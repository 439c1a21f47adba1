//! When several rings need one look only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::alerts::store::Store;
use crate::trigger::Trigger;

/// A look waits until what rang is this old. So a burst of rings shares one look, and AWS, which answers a moment behind
/// itself, shows what it rang for.
const SETTLE: SignedDuration = SignedDuration::from_secs(1);

/// A look covers what rang this long before it began; the margin is for clocks that differ.
const MARGIN: SignedDuration = SignedDuration::from_millis(500);

/// Whether another run's look has seen whatever rang, so that this run has nothing to do. The clock's own rings are never
/// covered, and if the table does not answer, this run looks.
pub async fn is_covered(store: &Store, function: &str, trigger: &Trigger) -> bool {
    let Some((ring, at)) = trigger.ring() else { return false };
    let age = Timestamp::now().duration_since(at);
    if let Ok(wait) = Duration::try_from(SETTLE.saturating_sub(age)) {
        tokio::time::sleep(wait.min(SETTLE.unsigned_abs())).await;
    }
    let covering = at.checked_add(MARGIN).unwrap_or(at);
    match store.begin_look(function, ring, covering, Timestamp::now()).await {
        Ok(ours) => {
            if !ours {
                tracing::info!(ring, "a look that began after this has seen what it is about");
            }
            !ours
        }
        Err(trouble) => {
            tracing::error!(%trouble, "cannot tell whether another run looks; looking");
            false
        }
    }
}
