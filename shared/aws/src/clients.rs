//! The clients of EC2 and ELB. They reject truncated responses: the SDK parses XML as far as it goes, so half of a list
//! would look complete, and the entries in the other half would look deleted.

use std::io;

use aws_config::SdkConfig;
use aws_sdk_ec2::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;

/// A client of EC2.
pub(crate) fn ec2(config: &SdkConfig) -> aws_sdk_ec2::Client {
    let config = aws_sdk_ec2::config::Builder::from(config).interceptor(WholeAnswers);
    aws_sdk_ec2::Client::from_conf(config.build())
}

/// A client of ELB.
pub(crate) fn elb(config: &SdkConfig) -> aws_sdk_elasticloadbalancingv2::Client {
    let config = aws_sdk_elasticloadbalancingv2::config::Builder::from(config).interceptor(WholeAnswers);
    aws_sdk_elasticloadbalancingv2::Client::from_conf(config.build())
}

/// Turns a response whose root element is not closed into an error.
#[derive(Debug)]
struct WholeAnswers;

impl Intercept for WholeAnswers {
    fn name(&self) -> &'static str {
        "WholeAnswers"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        match response.body().bytes() {
            Some(body) if context.output_or_error().is_ok() && !is_whole(body) => {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            }
            _ => Ok(()),
        }
    }
}

/// `<DescribeTagsResponse …>…</DescribeTagsResponse>`: every response ends with the closing tag of its root element.
fn is_whole(body: &[u8]) -> bool {
    let last_tag = body.trim_ascii_end().rsplit(|byte| *byte == b'<').next().unwrap_or_default();
    last_tag.starts_with(b"/") && last_tag.ends_with(b"Response>")
}
