//! An invocation of a function, with its trigger, deployment and deadline; and the errors of a run.

use std::fmt;
use std::time::Duration;

use guard_core::message::origin::Origin;
use guard_core::snapshot::{CallError, ErrorKind};
use guard_core::trigger::Trigger;
use tokio::time::Instant;

/// One invocation of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda's request id. A retry has the id of the invocation it repeats.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>
    pub id: String,
    /// The reason for the run.
    pub trigger: Trigger,
    /// The function's deployment.
    pub origin: Origin,
    /// The deadlines of its parts.
    pub deadline: Deadline,
}

/// The deadlines of a run's parts, so that it ends by itself before Lambda kills it.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// The end of reading. Storing and sending follow.
    pub reads: Instant,
    /// The end of the run.
    pub end: Instant,
}

/// The time that a run leaves unused before Lambda's timeout.
const RESERVE: Duration = Duration::from_secs(6);

/// The time for storing and sending: three calls, each as slow as the SDK's configuration allows, and the lookup of
/// service names.
const SENDING: Duration = Duration::from_secs(30);

impl Deadline {
    /// The deadlines of a run that Lambda kills after `left`. If time is short, reading gets half of it.
    pub fn new(left: Duration) -> Self {
        let (now, usable) = (Instant::now(), left.saturating_sub(RESERVE));
        Self { reads: now + usable - SENDING.min(usable / 2), end: now + usable }
    }
}

/// The failed calls of a run. They make the invocation fail, so that Lambda retries it, and the dead-letter queue and
/// the alarm notice it. Successful changes remain in place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RunErrors(Vec<CallError>);

impl RunErrors {
    /// The error of a run that exceeded its time. The next run sends the stored transitions.
    pub(crate) fn out_of_time() -> Self {
        let message = "the run took too long; the next run sends what is stored and not sent";
        Self(vec![CallError::new("lambda:Invoke", ErrorKind::GivenUp, message)])
    }

    /// Adds `failures`.
    pub fn extend(&mut self, failures: impl IntoIterator<Item = CallError>) {
        self.0.extend(failures);
    }

    /// Adds the failures of another part of the run.
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
    async fn the_deadline_reserves_time_to_store_send_and_exit() {
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
