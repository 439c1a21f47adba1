//! Publishes messages to SNS.

use aws_sdk_sns::error::SdkError;
use aws_sdk_sns::operation::publish::PublishError;
use aws_sdk_sns::types::MessageAttributeValue;
use guard_core::ids::Arn;
use guard_core::message::{Attribute, Message};
use guard_core::snapshot::CallError;

use crate::errors::call_error;

const CALL: &str = "sns:Publish";

/// The alert topic.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    client: aws_sdk_sns::Client,
    topic: Arn,
}

impl Delivery {
    pub(super) fn new(config: &aws_config::SdkConfig, topic: &Arn) -> Self {
        // The topic may be in another Region than the function.
        let region = aws_sdk_sns::config::Region::new(topic.region().to_owned());
        let config = aws_sdk_sns::config::Builder::from(config).region(region).build();
        Self { client: aws_sdk_sns::Client::from_conf(config), topic: topic.clone() }
    }

    /// Publishes `message`.
    ///
    /// # Errors
    /// If SNS did not accept it.
    pub(super) async fn publish(&self, message: &Message) -> Result<(), CallError> {
        let mut publish = self
            .client
            .publish()
            .topic_arn(self.topic.as_str())
            .subject(&message.subject)
            .message_structure("json")
            .message(message.bodies());
        for (name, value) in message.attributes() {
            publish = publish.message_attributes(name, attribute(value)?);
        }
        publish.send().await.map(drop).map_err(|error| call_error(CALL, &error))
    }
}

fn attribute(value: Attribute) -> Result<MessageAttributeValue, CallError> {
    let (data_type, text) = match value {
        Attribute::Text(text) => ("String", text),
        Attribute::List(texts) => ("String.Array", serde_json::Value::from(texts).to_string()),
    };
    let invalid = |error| call_error(CALL, &SdkError::<PublishError>::construction_failure(error));
    MessageAttributeValue::builder().data_type(data_type).string_value(text).build().map_err(invalid)
}
