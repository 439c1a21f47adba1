//! Failed calls, turned into errors that people can act on.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use guard_core::snapshot::{CallError, ErrorKind};

/// The error of `call`, named as IAM names its action.
pub fn call_error<E>(call: &'static str, error: &SdkError<E>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error.code() {
        Some(code) => {
            let kind = ErrorKind::Refused(code.to_owned());
            CallError::new(call, kind, error.message().unwrap_or_default())
        }
        None => without_code(call, error),
    }
}

/// A response that contradicts AWS's documentation.
pub(crate) fn malformed_response(call: &'static str, what: &str) -> CallError {
    CallError::new(call, ErrorKind::Malformed, format!("unexpected response: {what}"))
}

/// The error of a `call` that returned no AWS error code.
fn without_code<E>(call: &'static str, error: &SdkError<E>) -> CallError
where
    E: Error + 'static,
{
    let cause = error.source();
    let text = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {}", causes(cause)));
    let Some(answer) = error.raw_response() else {
        let kind = if has::<CredentialsError>(cause) { ErrorKind::NoCredentials } else { ErrorKind::NoAnswer };
        return CallError::new(call, kind, text);
    };
    // The parser's complaint helps developers only.
    let status = answer.status().as_u16();
    tracing::warn!(call, status, text, "an answer cannot be read");
    let is_cut = has::<io::Error>(cause) || answer.body().bytes().is_none();
    let why = if is_cut { "the answer was cut off on its way".to_owned() } else { foreign(status) };
    CallError::new(call, ErrorKind::Malformed, why)
}

/// The explanation for a response that AWS cannot have sent, because all its errors have a code. A setting can point to
/// any other server:
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
fn foreign(status: u16) -> String {
    format!(
        "the answer (HTTP {status}) is not in AWS's form. Usually a proxy answered, or an emulator that does not know this \
         call: check AWS_ENDPOINT_URL and any proxy"
    )
}

/// Whether the error, or one that caused it, is of this type.
fn has<T: Error + 'static>(error: Option<&(dyn Error + 'static)>) -> bool {
    error.is_some_and(|error| error.is::<T>() || has::<T>(error.source()))
}

/// The error and its chain of causes, each once.
fn causes(error: &dyn Error) -> String {
    let (mut texts, mut next) = (Vec::<String>::new(), Some(error));
    while let Some(error) = next {
        let text = error.to_string();
        // Some errors repeat the text of their cause.
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use aws_smithy_http_client::test_util::infallible_client_fn;
    use aws_smithy_types::body::SdkBody;

    use super::*;
    use crate::{clients, testing};

    const PAGE: &str = "<!doctype html>\n<html lang=en>\n<title>Not found</title>\n<h1>Not found</h1></html>";
    const CLOSED_PAGE: &str = "<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>";
    const CUT: &str =
        "<DescribeVpcEndpointConnectionsResponse><vpcEndpointConnectionSet><item><serviceId>vpce-svc-1</serviceId>";

    /// The error texts of an EC2, a DynamoDB and an ACM call that all get this response.
    async fn said(status: u16, body: impl Fn() -> SdkBody + Send + Sync + 'static) -> [String; 3] {
        let client = infallible_client_fn(move |_| http::Response::builder().status(status).body(body()).unwrap());
        let config = testing::config(client);
        let connections = clients::ec2(&config).describe_vpc_endpoint_connections().send().await.unwrap_err();
        let items = aws_sdk_dynamodb::Client::new(&config).query().table_name("table").send().await.unwrap_err();
        let certificate = aws_sdk_acm::Client::new(&config).describe_certificate().certificate_arn("arn");
        let certificate = certificate.send().await.unwrap_err();
        let errors = [
            call_error("ec2:DescribeVpcEndpointConnections", &connections),
            call_error("dynamodb:Query", &items),
            call_error("acm:DescribeCertificate", &certificate),
        ];
        assert!(errors.iter().all(|error| error.kind == ErrorKind::Malformed), "{errors:?}");
        errors.map(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_response_that_is_not_from_aws_blames_the_endpoint() {
        let answers = [
            (500, PAGE),
            (502, CLOSED_PAGE),
            (501, "not implemented"),
            (404, ""),
            (403, r#"{"message":"Forbidden"}"#),
            (302, ""),
            (200, PAGE),
            (200, CLOSED_PAGE),
            (200, "Please sign in"),
        ];
        for (status, body) in answers {
            let why = format!(
                "failed: the answer (HTTP {status}) is not in AWS's form. Usually a proxy answered, or an emulator that does \
                 not know this call: check AWS_ENDPOINT_URL and any proxy"
            );
            let calls = ["ec2:DescribeVpcEndpointConnections", "dynamodb:Query", "acm:DescribeCertificate"];
            assert_eq!(
                said(status, move || SdkBody::from(body)).await,
                calls.map(|call| format!("{call} {why}")),
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn a_truncated_response_is_reported_as_cut_off() {
        for end in CUT.find('>').unwrap() + 1..=CUT.len() {
            let [list, ..] = said(200, move || SdkBody::from(&CUT[..end])).await;
            assert_eq!(list, "ec2:DescribeVpcEndpointConnections failed: the answer was cut off on its way", "{end}");
        }
        // A connection that ends before the body.
        for said in said(200, SdkBody::taken).await {
            assert!(said.ends_with(" failed: the answer was cut off on its way"), "{said}");
        }
    }
}
