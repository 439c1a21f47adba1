//! Failed calls as something a person can act on.

use std::error::Error;
use std::fmt::Debug;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use guard_core::snapshot::{CallError, ErrorKind};

/// The error of `call`, named as IAM names its action.
#[must_use]
pub fn call_error<E, R>(call: &'static str, error: &SdkError<E, R>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug,
{
    match error.code() {
        Some(code) => {
            let kind = ErrorKind::Refused(code.to_owned());
            CallError::new(call, kind, error.message().unwrap_or_default())
        }
        None => CallError::new(call, unanswered(error), text(error)),
    }
}

/// AWS answered, but not as its documentation promises.
pub(crate) fn malformed_response(call: &'static str, what: &str) -> CallError {
    CallError::new(call, ErrorKind::Malformed, format!("unexpected response: {what}"))
}

/// Why there is no code of AWS's.
fn unanswered<E, R>(error: &SdkError<E, R>) -> ErrorKind
where
    E: Error + 'static,
    R: Debug,
{
    match error {
        _ if error.source().is_some_and(lacks_credentials) => ErrorKind::NoCredentials,
        SdkError::ResponseError(_) | SdkError::ServiceError(_) => ErrorKind::Malformed,
        _ => ErrorKind::NoAnswer,
    }
}

/// Whether it was caused by credentials that were not found, or that could not be got.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    error.is::<CredentialsError>() || error.source().is_some_and(lacks_credentials)
}

/// The text of a failure without a code.
fn text<E, R>(error: &SdkError<E, R>) -> String
where
    E: Error + 'static,
    R: Debug,
{
    match error.source() {
        Some(source) => format!("{error}: {}", causes(source)),
        None => error.to_string(),
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
