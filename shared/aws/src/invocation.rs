//! One start of a function: why, for which deployment, and how long it may take; and what a run leaves undone.

use std::fmt;
use std::time::Duration;

use guard_core::message::origin::Origin;
use guard_core::snapshot::{CallError, ErrorKind};
use guard_core::trigger::Trigger;
use tokio::time::Instant;

/// One start of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda's request id. A retry has the id of the invocation it repeats.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>
    pub id: String,
    /// Why it runs.
    pub trigger: Trigger,
    /// The deployment that it belongs to.
    pub origin: Origin,
    /// When its parts must end.
    pub deadline: Deadline,
}

/// When the parts of a run must end, so that it ends by itself before Lambda kills it.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// When reading must end. What follows stores and sends what was seen.
    pub reads: Instant,
    /// When the run must end.
    pub end: Instant,
}

/// What a run leaves of its time to Lambda.
const RESERVE: Duration = Duration::from_secs(6);

/// How long storing and sending may take: three calls, each as slow as the SDK's configuration allows, and the names.
const SENDING: Duration = Duration::from_secs(30);

impl Deadline {
    /// For a run that is killed after `left`. Of little time, half is for reading.
    pub fn new(left: Duration) -> Self {
        let (now, usable) = (Instant::now(), left.saturating_sub(RESERVE));
        Self { reads: now + usable - SENDING.min(usable / 2), end: now + usable }
    }
}

/// The calls of a run that failed. The invocation ends in error, so that Lambda retries it, and the dead-letter queue and the
/// alarm see it. What succeeded stays done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RunErrors(Vec<CallError>);

impl RunErrors {
    /// The run did not end in time. What it had stored, the next run sends.
    pub(crate) fn out_of_time() -> Self {
        let message = "the run took too long; the next run sends what is stored and not sent";
        Self(vec![CallError::new("lambda:Invoke", ErrorKind::GivenUp, message)])
    }

    /// Adds failures.
    pub fn extend(&mut self, failures: impl IntoIterator<Item = CallError>) {
        self.0.extend(failures);
    }

    /// Adds the failures of a part of the run.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Adds the failure, if it is one.
    pub fn push(&mut self, result: Result<(), CallError>) {
        self.0.extend(result.err());
    }

    /// Whether nothing failed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the run.
    ///
    /// # Errors
    /// If anything failed.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::error::Error for RunErrors {}

impl fmt::Display for RunErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "left undone: {}", failures.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_run_leaves_time_for_storing_and_sending_and_some_to_lambda() {
        let now = Instant::now();
        let ends = |left| {
            let Deadline { reads, end } = Deadline::new(Duration::from_secs(left));
            ((reads - now).as_secs(), (end - now).as_secs())
        };
        assert_eq!(ends(110), (74, 104));
        assert_eq!(ends(30), (12, 24), "half of little time is for reading");
        assert_eq!(ends(3), (0, 0));
    }
}
