//! privatelink-guard's calls to AWS. Data flows in one direction: trigger → observe → evaluate → apply → notify.
//!
//! [`observe`] reads EC2 and ELB, [`apply`] changes them, and [`notify`] stores and sends alerts and notices.
//! `guard-core` makes all decisions in between.

pub mod apply;
mod clients;
mod debounce;
pub mod errors;
pub mod events;
pub mod http;
pub mod invocation;
pub mod lambda;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod observe;
pub mod pipeline;
pub mod table;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::panic)]
pub mod testing;
mod turns;

use futures_util::{StreamExt, stream};

/// Concurrent tasks, except for calls to EC2 and ELB, which have a limit of their own. Forty publishes that all time
/// out must end within a run's time for sending.
const MAX_CONCURRENT: usize = 16;

/// Runs `work` for each item, a few at a time, and keeps the order.
pub async fn concurrently<T, R, F: Future<Output = R>>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> F,
) -> Vec<R> {
    stream::iter(items.into_iter().map(work)).buffered(MAX_CONCURRENT).collect().await
}
