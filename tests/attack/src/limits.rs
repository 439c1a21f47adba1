//! The token buckets with which AWS limits an account's calls.
//!
//! ELB: a bucket of 40, refilled at 10 a second, for `Describe` calls; another of the same size and rate for all calls;
//! and one of 20, refilled at 3 a second, for changes.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-api-throttling.html>
//!
//! EC2: a bucket of 100, refilled at 20 a second, for calls with filters or ids.
//! <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>

use tokio::time::Instant;

use crate::call::{Api, Call};

/// The buckets of an account.
#[derive(Debug)]
pub struct Limits {
    elb_reads: Bucket,
    elb_changes: Bucket,
    elb_all: Bucket,
    ec2: Bucket,
}

#[derive(Debug)]
struct Bucket {
    size: f64,
    per_second: f64,
    tokens: f64,
    counted_at: Option<Instant>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            elb_reads: Bucket::new(40.0, 10.0),
            elb_changes: Bucket::new(20.0, 3.0),
            elb_all: Bucket::new(40.0, 10.0),
            ec2: Bucket::new(100.0, 20.0),
        }
    }
}

impl Limits {
    /// The limits that remain beside a tool that makes `calls` `Describe` calls to ELB per second.
    pub fn beside(calls: f64) -> Self {
        Self { elb_reads: Bucket::new(40.0, 10.0 - calls), elb_all: Bucket::new(40.0, 10.0 - calls), ..Self::default() }
    }

    /// Counts `call`. Returns whether the limits allow it.
    pub fn take(&mut self, call: &Call) -> bool {
        let buckets = match call.api {
            Api::Elb if call.action.starts_with("Describe") => vec![&mut self.elb_reads, &mut self.elb_all],
            Api::Elb => vec![&mut self.elb_changes, &mut self.elb_all],
            Api::Ec2 => vec![&mut self.ec2],
            Api::DynamoDb | Api::Sns => Vec::new(),
        };
        let buckets: Vec<&mut Bucket> = buckets.into_iter().map(Bucket::filled).collect();
        let has_room = buckets.iter().all(|bucket| bucket.tokens >= 1.0);
        if has_room {
            for bucket in buckets {
                bucket.tokens -= 1.0;
            }
        }
        has_room
    }
}

impl Bucket {
    fn new(size: f64, per_second: f64) -> Self {
        Self { size, per_second, tokens: size, counted_at: None }
    }

    /// The bucket, refilled for the time since the last count. A clock that was set back means that another test has
    /// begun.
    fn filled(&mut self) -> &mut Self {
        let now = Instant::now();
        let since = self.counted_at.replace(now).and_then(|before| now.checked_duration_since(before));
        let more = since.map_or(self.size, |since| since.as_secs_f64() * self.per_second);
        self.tokens = (self.tokens + more).min(self.size);
        self
    }
}
