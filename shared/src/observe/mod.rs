//! The only place that reads EC2 and ELB. All pages, always; a read that failed is [`Unseen`], never an empty list.

mod connections;
mod load_balancers;

pub use self::load_balancers::Paths;

use std::error::Error;

use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use futures_util::{StreamExt, stream};

use crate::snapshot::Unseen;

/// Things read side by side, with two calls each at the most. Describe calls have a bucket of about 100 per account and
/// Region, refilled at some 20 a second, which other tools share: so few keep a run short and leave the bucket to them.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
pub const READ_AT_ONCE: usize = 8;

/// Reads EC2 and ELB.
#[derive(Debug, Clone)]
pub struct Observer {
    ec2: aws_sdk_ec2::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
}

/// What to read of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The health of the targets.
    Health,
    /// The allowed principals, and the cross-zone attributes of load balancers and target groups.
    Settings,
}

impl Observer {
    /// Reads with these clients.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        Self { ec2: aws_sdk_ec2::Client::new(config), elb: aws_sdk_elasticloadbalancingv2::Client::new(config) }
    }
}

/// Runs `read` for each item, [`READ_AT_ONCE`] at a time, and keeps the order.
pub async fn side_by_side<T, R, F: Future<Output = R>>(
    items: impl IntoIterator<Item = T>,
    read: impl Fn(T) -> F,
) -> Vec<R> {
    stream::iter(items.into_iter().map(read)).buffered(READ_AT_ONCE).collect().await
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
