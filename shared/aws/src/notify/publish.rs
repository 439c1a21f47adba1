//! The second half of notifying: sends the stored transitions, and acknowledges them.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use aws_sdk_sns::error::SdkError;
use aws_sdk_sns::operation::publish::PublishError;
use aws_sdk_sns::types::{MessageAttributeValue, Subscription};
use guard_core::alerts::record::{Partition, Version};
use guard_core::alerts::transition::Transition;
use guard_core::alerts::{removal, sample};
use guard_core::ids::{Arn, ServiceId};
use guard_core::message::origin::Origin;
use guard_core::message::{Attribute, Banner, Envelope, Message};
use guard_core::snapshot::{CallError, ErrorKind};
use jiff::Timestamp;

use super::outbox::{Entry, MAX_TRIES, Outbox};
use super::{News, Notifier};
use crate::concurrently;
use crate::errors::call_error;
use crate::invocation::{Invocation, RunErrors};
use crate::table::Write;

const CALL: &str = "sns:Publish";

/// The call that lists the subscriptions.
pub const LIST: &str = "sns:ListSubscriptionsByTopic";

/// The alert topic in SNS.
#[derive(Debug, Clone)]
pub struct AlertTopic {
    client: aws_sdk_sns::Client,
    topic: Arn,
}

impl AlertTopic {
    /// The topic `topic`.
    pub fn new(config: &aws_config::SdkConfig, topic: &Arn) -> Self {
        // The topic may be in another Region than the function.
        let region = aws_sdk_sns::config::Region::new(topic.region().to_owned());
        let config = aws_sdk_sns::config::Builder::from(config).region(region).build();
        Self { client: aws_sdk_sns::Client::from_conf(config), topic: topic.clone() }
    }

    /// All subscriptions. Their addresses are neither kept nor logged.
    /// <https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html>
    pub async fn subscriptions(&self) -> Result<Vec<TopicSubscription>, CallError> {
        let list = self.client.list_subscriptions_by_topic().topic_arn(self.topic.as_str());
        let mut pages = list.into_paginator().stop_on_duplicate_token(false).send();
        let mut subscriptions = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| call_error(LIST, &error))?;
            subscriptions.extend(page.subscriptions().iter().map(subscription));
        }
        Ok(subscriptions)
    }

    /// Publishes `message`.
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

/// A subscription, without its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSubscription {
    /// `email`, `https`, …
    pub protocol: String,
    /// Its state.
    pub state: SubscriptionState,
}

/// The state of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionState {
    /// It receives messages.
    Confirmed,
    /// Nobody has followed the link in SNS's message yet.
    Pending,
    /// It has ended, and SNS still lists it.
    Deleted,
}

fn subscription(row: &Subscription) -> TopicSubscription {
    // Instead of an ARN, SNS writes `PendingConfirmation` or `Deleted`.
    let state = match row.subscription_arn() {
        Some(arn) if arn.starts_with("arn:") => SubscriptionState::Confirmed,
        Some("PendingConfirmation") => SubscriptionState::Pending,
        _ => SubscriptionState::Deleted,
    };
    TopicSubscription { protocol: row.protocol().unwrap_or("unknown").to_owned(), state }
}

impl Notifier {
    /// Sends test messages on the first configured service, one of each severity and kind.
    pub async fn send_test_messages(&self, Invocation { origin, .. }: &Invocation) -> RunErrors {
        let mut errors = RunErrors::default();
        let Some(service) = self.settings.policy.services.first() else { return errors };
        let partition = Partition::Service(service.clone());
        let banner = Some(Banner::Test);
        let envelope = Envelope { partition: &partition, name: None, origin, function: self.function, banner };
        // One after another, so that they arrive in this order.
        for transition in sample::transitions(service, &origin.region, Timestamp::now()) {
            errors.push(self.topic.publish(&Message::new(envelope, &[&[transition]])).await);
        }
        errors
    }

    /// Sends the notice that the stack is being removed. Nothing is stored: there is no later run to send it.
    pub async fn send_last_message(&self, Invocation { origin, .. }: &Invocation) -> RunErrors {
        let mut errors = RunErrors::default();
        let transition = removal::notice(&self.settings.policy.services, Timestamp::now());
        let partition = Partition::Guard;
        let envelope = Envelope { partition: &partition, name: None, origin, function: self.function, banner: None };
        errors.push(self.topic.publish(&Message::new(envelope, &[&[transition]])).await);
        errors
    }

    /// Sends one message per partition with transitions, and acknowledges them. `names` holds the services' `Name`
    /// tags.
    pub async fn send(
        &self,
        news: News,
        names: &BTreeMap<ServiceId, String>,
        Invocation { origin, .. }: &Invocation,
        now: Timestamp,
    ) -> RunErrors {
        let sent = concurrently(news.0, async |outbox| {
            let name = outbox.partition.service().and_then(|service| names.get(service)).map(String::as_str);
            self.publish(outbox, name, origin, now).await
        })
        .await;
        let mut errors = RunErrors::default();
        for result in sent {
            errors.push(result);
        }
        errors
    }

    /// Sends one message for the partition, and acknowledges its transitions. `name` is the service's `Name` tag.
    ///
    /// # Errors
    /// If SNS did not accept the message, which a later run then sends, or if the table failed before or after.
    pub(super) async fn publish(
        &self,
        outbox: Outbox,
        name: Option<&str>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<(), CallError> {
        if outbox.is_empty() {
            return outbox.error.map_or(Ok(()), Err);
        }
        let Outbox { partition, entries, unrecorded, error, .. } = outbox;
        let recorded = entries.iter().map(|entry| entry.record.outbox.as_slice());
        let transitions: Vec<&[Transition]> =
            recorded.chain(unrecorded.iter().map(|(_, _, transitions)| transitions.as_slice())).collect();
        let banner = error.as_ref().map(Banner::TableFailed);
        let envelope = Envelope { partition: &partition, name, origin, function: self.function, banner };
        let message = Message::new(envelope, &transitions);
        if let Err(error) = self.topic.publish(&message).await {
            tracing::error!(%error, %partition, "not sent; a later run sends it");
            self.release(&partition, entries, now).await;
            return Err(error);
        }
        for transition in transitions.iter().copied().flatten() {
            tracing::info!(%partition, ?transition, "sent");
        }
        let sent = unrecorded.into_iter().map(|(key, sent, _)| (key, sent));
        self.recently_sent.lock().unwrap_or_else(PoisonError::into_inner).extend(sent);
        let acknowledged = concurrently(entries, |entry| self.acknowledge(&partition, entry, now)).await;
        acknowledged.into_iter().collect::<Result<(), CallError>>()?;
        error.map_or(Ok(()), Err)
    }

    /// Removes the sent transitions from the record's outbox, even if another run has since written the record.
    async fn acknowledge(&self, partition: &Partition, entry: Entry, now: Timestamp) -> Result<(), CallError> {
        let Entry { key, mut record, version } = entry;
        let mut expected = Version::At(version);
        let sent = record.outbox.last().map_or(0, |last| last.number);
        for _ in 0..MAX_TRIES {
            record.acknowledge(sent);
            if let Write::Won(_) = self.table.put(partition, &key, &record, Some(expected), now).await? {
                return Ok(());
            }
            let Some(item) = self.table.load(partition).await?.remove(&key) else { return Ok(()) };
            let Some(fresh) = item.record else { return Ok(()) };
            (record, expected) = (fresh, item.version);
        }
        Err(CallError::new(
            "dynamodb:PutItem",
            ErrorKind::GivenUp,
            format!("{key} was sent but could not be acknowledged; it may be sent again"),
        ))
    }

    /// Releases the leases, so that the next run can send at once. If that fails, they expire.
    async fn release(&self, partition: &Partition, entries: Vec<Entry>, now: Timestamp) {
        concurrently(entries, async |Entry { key, mut record, version }| {
            record.lease_until = None;
            if let Err(error) = self.table.put(partition, &key, &record, Some(Version::At(version)), now).await {
                tracing::warn!(%error, %key, "the lease stays until it expires");
            }
        })
        .await;
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
