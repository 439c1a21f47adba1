//! The pace of calls to EC2 and ELB. Both limit the calls of the whole account and Region with token buckets, which the
//! console, Terraform and cluster controllers share, and throttle calls beyond them. So the guard waits before AWS has
//! to refuse.
//!
//! The SDK's adaptive mode begins to wait only after the first refusal. The crate `governor` waits on its own thread,
//! which is useless in a function that is frozen between its runs.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The size and fill rate of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// The number of calls that can follow each other at once.
    pub burst: u32,
    /// The number of calls per second after that.
    pub per_second: u32,
}

/// A share of EC2's bucket for calls with filters or ids, which holds 100 calls and refills at 20 a second.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
pub const EC2: Rate = Rate { burst: 50, per_second: 10 };

/// The share that drift-watcher and the command line each take from ELB's bucket for `Describe` calls, which holds 40
/// calls and refills at 10 a second.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>
pub const ELB: Rate = Rate { burst: 10, per_second: 3 };

/// target-follower's share of the same bucket.
pub const ELB_FOLLOW: Rate = Rate { burst: 5, per_second: 1 };

/// health-watcher's share of the same bucket.
pub const ELB_HEALTH: Rate = Rate { burst: 10, per_second: 2 };

impl Rate {
    /// The time between two calls once the burst is used up.
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    /// The number of calls allowed within `time`, starting with a full bucket.
    pub fn calls_within(self, time: Duration) -> usize {
        let later = time.as_millis() / self.interval().as_millis().max(1);
        usize::try_from(later).unwrap_or(usize::MAX).saturating_add(self.burst as usize)
    }
}

/// A token bucket whose callers wait in order of arrival.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    /// The time at which the bucket is full again without further calls. A frozen function may not see time pass: then
    /// the bucket fills more slowly, never faster.
    full_at: Mutex<Instant>,
}

impl Pace {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: Mutex::new(Instant::now()) }
    }

    /// Waits for a call's turn. A caller that stops waiting takes no token.
    pub async fn turn(&self) {
        let mut full_at = self.full_at.lock().await;
        // An empty bucket needs the whole burst to fill up.
        let ahead = self.rate.interval() * self.rate.burst.saturating_sub(1);
        if let Some(begins) = full_at.checked_sub(ahead) {
            sleep_until(begins).await;
        }
        *full_at = Instant::now().max(*full_at) + self.rate.interval();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 10, per_second: 2 };

    /// The milliseconds after which each of `calls` gets its turn.
    async fn turns(pace: &Pace, calls: usize) -> Vec<u128> {
        let (began, mut turns) = (Instant::now(), Vec::new());
        for _ in 0..calls {
            pace.turn().await;
            turns.push(began.elapsed().as_millis());
        }
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_burst_follow_at_the_rate() {
        let pace = Pace::new(RATE);
        let mut expected = vec![0; 10];
        expected.extend([500, 1000, 1500]);
        assert_eq!(turns(&pace, 13).await, expected);
        assert_eq!(RATE.calls_within(Duration::from_millis(1500)), 13);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_bucket_fills_up_to_the_burst() {
        let pace = Pace::new(RATE);
        turns(&pace, 10).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(turns(&pace, 5).await, [0, 0, 0, 0, 500]);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(turns(&pace, 11).await.last(), Some(&500));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_give_up_waiting_take_no_token() {
        let pace = Pace::new(RATE);
        turns(&pace, 10).await;
        let waiting = (0..100).map(|_| tokio::time::timeout(Duration::from_millis(100), pace.turn()));
        assert!(futures_util::future::join_all(waiting).await.iter().all(Result::is_err));
        assert_eq!(turns(&pace, 1).await, [400]);
    }
}
