//! Configurations whose clients call a client of the test, in the same process; and the events that start functions.

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use serde_json::{Value, json};

/// A configuration whose clients call `client`, without retries and timeouts.
pub fn config(client: impl HttpClient + 'static) -> SdkConfig {
    let config = sdk_config(client).into_builder().timeout_config(TimeoutConfig::disabled());
    config.retry_config(RetryConfig::disabled()).build()
}

/// A configuration whose clients call `client`, with the functions' retries and timeouts.
pub fn sdk_config(client: impl HttpClient + 'static) -> SdkConfig {
    crate::lambda::sdk_builder()
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test")))
        .http_client(client)
        .build()
}

/// A schedule's event.
pub fn scheduled() -> Value {
    json!({"source": "aws.events", "detail-type": "Scheduled Event"})
}

/// A notification topic's event, as SNS sends it to Lambda.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html>
pub fn notification(id: &str, sent: &str, message: &str) -> Value {
    let topic = "arn:aws:sns:eu-central-1:111122223333:notifications";
    json!({"Records": [{
        "EventVersion": "1.0",
        "EventSubscriptionArn": format!("{topic}:0123"),
        "EventSource": "aws:sns",
        "Sns": {
            "Type": "Notification",
            "MessageId": id,
            "TopicArn": topic,
            "Subject": null,
            "Message": message,
            "Timestamp": sent,
            "SignatureVersion": "1",
            "Signature": "EXAMPLE",
            "SigningCertUrl": "EXAMPLE",
            "UnsubscribeUrl": "EXAMPLE",
            "MessageAttributes": {},
        },
    }]})
}

/// The event of an API call that CloudTrail recorded as `record`.
pub fn cloudtrail_event(record: &Value) -> Value {
    json!({"source": "aws.ec2", "detail-type": "AWS API Call via CloudTrail", "detail": record})
}

/// JSON pointers to all values in `event`.
pub fn pointers(event: &Value, prefix: &str) -> Vec<String> {
    let children: Vec<(String, &Value)> = match event {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(values) => values.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = children.into_iter().flat_map(|(name, value)| pointers(value, &format!("{prefix}/{name}")));
    [prefix.to_owned()].into_iter().chain(below).collect()
}
