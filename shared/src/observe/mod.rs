//! The only place that reads EC2 and ELB. All pages, always; a read that failed is [`Unseen`], never an empty list.

mod connections;
mod endpoint_services;
mod load_balancers;
mod network;
mod paths;

pub use self::paths::Depth;

use std::error::Error;
use std::sync::Arc;

use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::Filter;
use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use crate::snapshot::{Seen, Unseen};

/// Calls to EC2 and ELB under way at the same time. EC2's describe calls have a bucket of about 100 per account and
/// Region, refilled at some 20 a second, which other tools share: so few keep a run short and leave the bucket to them.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
pub const CALLS_AT_ONCE: usize = 16;

/// Other things done side by side.
const AT_ONCE: usize = 8;

/// Values that one filter takes.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html>
const FILTER_VALUES: usize = 200;

/// Reads EC2 and ELB.
#[derive(Debug, Clone)]
pub struct Observer {
    ec2: aws_sdk_ec2::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    calls: Arc<Semaphore>,
}

impl Observer {
    /// Reads with these clients.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self {
            ec2: aws_sdk_ec2::Client::new(config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(config),
            calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
        }
    }

    /// Waits for the answer of `call`, one of [`CALLS_AT_ONCE`]. The pages of one list follow each other and count as one.
    async fn ask<T, E, R>(&self, call: &'static str, answer: impl Future<Output = Result<T, SdkError<E, R>>>) -> Seen<T>
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug,
    {
        // Never closed, so never an error.
        let _one_of_few = self.calls.acquire().await;
        answer.await.map_err(|error| unseen(call, &error))
    }

    /// Asks for `values` in as many calls as their number demands, and puts the answers together. No values, no call:
    /// without its filter EC2 would answer with everything in the account.
    async fn in_batches<T>(
        &self,
        values: Vec<String>,
        size: usize,
        ask: impl AsyncFn(Vec<String>) -> Seen<Vec<T>>,
    ) -> Seen<Vec<T>> {
        let answers = futures_util::future::join_all(values.chunks(size).map(|values| ask(values.to_vec()))).await;
        let answers: Vec<Vec<T>> = answers.into_iter().collect::<Seen<_>>()?;
        Ok(answers.into_iter().flatten().collect())
    }
}

/// The filter that lets pass what has one of `values`.
fn filter(name: &str, values: Vec<String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// Runs `read` for each item, a few at a time, and keeps the order.
pub async fn side_by_side<T, R, F: Future<Output = R>>(
    items: impl IntoIterator<Item = T>,
    read: impl Fn(T) -> F,
) -> Vec<R> {
    stream::iter(items.into_iter().map(read)).buffered(AT_ONCE).collect().await
}

/// AWS answered, but not with what its documentation promises.
fn untold(call: &'static str, what: &str) -> Unseen {
    Unseen { call, error: format!("its answer is not as documented: {what}"), denied: false }
}

/// A failed call as something a person can act on.
pub(crate) fn unseen<E, R>(call: &'static str, error: &SdkError<E, R>) -> Unseen
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    let code = error.code().unwrap_or_default();
    // EC2 says UnauthorizedOperation, ELB AccessDenied, others AccessDeniedException or AuthorizationError.
    let denied =
        ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthorizationError"].contains(&code);
    Unseen { call, error: said(error), denied }
}

/// AWS's code and message; where AWS did not answer, what happened on the way.
pub(crate) fn said<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => DisplayErrorContext(error).to_string(),
    }
}
