//! Debounce: many events, one run.

use std::time::Duration;

use guard_core::trigger::Trigger;
use jiff::{SignedDuration, Timestamp};

use crate::table::StateTable;

/// A run covers events that are this old when it begins: by then EC2, whose answers lag a moment behind, shows the
/// changes behind them.
const COVERS: SignedDuration = SignedDuration::from_secs(1);

/// A run waits until its event is this old. In the time beyond [`COVERS`], one run can cover the events of a stream
/// that does not end: two runs a second at most.
const DEBOUNCE: SignedDuration = SignedDuration::from_millis(1_500);

/// How long a covered change waits for the run that covers it.
const COVERING_RUN: Duration = Duration::from_secs(20);

/// How long a run waits for its claim. Accepting must not wait for a table that hangs; a second run does no harm.
const CLAIM_WITHIN: Duration = Duration::from_millis(500);

/// The time between two looks at whether the covering run has finished.
const POLL: Duration = Duration::from_millis(500);

/// Whether a run goes ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It does; [`finished`] needs this time when it ends.
    Run(Timestamp),
    /// Another run that began after the event covers it.
    Covered,
}

/// Claims the run for the trigger's event. Schedules always run, and if the table does not answer, the run goes ahead.
pub async fn claim(table: &StateTable, function: &str, trigger: &Trigger) -> Claim {
    let Some((event, at)) = trigger.event() else { return Claim::Run(Timestamp::now()) };
    let age = Timestamp::now().duration_since(at);
    if let Ok(wait) = Duration::try_from(DEBOUNCE.saturating_sub(age)) {
        tokio::time::sleep(wait.min(DEBOUNCE.unsigned_abs())).await;
    }
    let covered_since = at.checked_add(COVERS).unwrap_or(at);
    let now = Timestamp::now();
    let claimed = tokio::time::timeout(CLAIM_WITHIN, table.claim_run(function, event, covered_since, now)).await;
    match claimed {
        Ok(Ok(true)) => Claim::Run(now),
        Ok(Ok(false)) => {
            tracing::info!(event, "a run that began after this event covers it");
            Claim::Covered
        }
        Err(_) => {
            tracing::error!("the table is slow; going ahead without knowing whether another run covers this event");
            Claim::Run(now)
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "unknown whether another run covers this event; going ahead");
            Claim::Run(now)
        }
    }
}

/// Notes that the run that was claimed at `began` has finished.
pub async fn finished(table: &StateTable, function: &str, trigger: &Trigger, began: Timestamp) {
    let Some((event, _)) = trigger.event() else { return };
    if let Err(error) = table.finish_run(function, event, began).await {
        tracing::warn!(%error, "could not record that this run finished; runs that wait for it may time out");
    }
}

/// Waits until the latest claimed run has finished, but not for ever: a covered change adds itself as a cause to the
/// findings of that run.
pub async fn wait_for_covering_run(table: &StateTable, function: &str) {
    let finished = async {
        while !matches!(table.has_finished(function).await, Ok(true)) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(COVERING_RUN, finished).await.is_err() {
        tracing::warn!("the covering run has not finished; going ahead");
    }
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
        let trigger = Trigger::Notification { id: "m-1".to_owned(), sent: at(8, 0), mentions: Vec::new() };
        let began = Instant::now();
        let claim = claim(&StateTable::new(&config, "state"), "connection-acceptor", &trigger).await;
        assert!(matches!(claim, Claim::Run(_)));
        assert_eq!(began.elapsed(), CLAIM_WITHIN);
    }
}
