//! Publishes messages to SNS.

use aws_sdk_sns::error::SdkError;
use aws_sdk_sns::operation::publish::PublishError;
use aws_sdk_sns::types::MessageAttributeValue;
use guard_core::alerts::message::Message;
use guard_core::ids::Arn;
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
        Self { client: aws_sdk_sns::Client::new(config), topic: topic.clone() }
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
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            let invalid = |error| call_error(CALL, &SdkError::<PublishError>::construction_failure(error));
            publish = publish.message_attributes(name, value.map_err(invalid)?);
        }
        publish.send().await.map(drop).map_err(|error| call_error(CALL, &error))
    }
}
