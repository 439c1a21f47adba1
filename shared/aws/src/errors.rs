//! Failed calls as something a person can act on.

use std::error::Error;
use std::fmt::Debug;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use guard_core::snapshot::CallError;

/// The error of `call`, named as IAM names its action.
#[must_use]
pub fn call_error<E, R>(call: &'static str, error: &SdkError<E, R>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug,
{
    let code = error.code().unwrap_or_default();
    // EC2 answers UnauthorizedOperation, ELB AccessDenied, others AccessDeniedException or AuthorizationError.
    let denied =
        ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthorizationError"].contains(&code);
    CallError { call, error: error_text(error), denied }
}

/// AWS answered, but not as its documentation promises.
pub(crate) fn malformed_response(call: &'static str, what: &str) -> CallError {
    CallError { call, error: format!("unexpected response: {what}"), denied: false }
}

/// AWS's code and message; if AWS did not answer, what went wrong.
fn error_text<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => match error.source() {
            Some(source) => format!("{error}: {}", causes(source)),
            None => error.to_string(),
        },
    }
}

/// The error and what caused it, each once.
fn causes(error: &dyn Error) -> String {
    let (mut texts, mut next) = (Vec::<String>::new(), Some(error));
    while let Some(error) = next {
        let text = error.to_string();
        // Some repeat their cause.
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}
