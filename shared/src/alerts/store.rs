//! What was said, in DynamoDB. One table; one item per alert and per connection of dbt's; every write is conditional on
//! the version that was read, so that of two runs at once one loses and looks again.
//!
//! | attribute | type | |
//! |---|---|---|
//! | `service` | S, partition key | the endpoint service's id; `watched` and `looks` for the functions' own notes |
//! | `item` | S, sort key | `<function>#<check or "connection">#<resource>`; `<function>` for its own notes |
//! | `version` | N | counts the writes |
//! | `record` | S | [`Record`] as JSON |
//! | `expires` | N | TTL in epoch seconds, for what is over |

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Transition;
use super::connection::KnownConnection;
use super::lifecycle::Alert;
use crate::observe::unseen;
use crate::snapshot::Unseen;

/// How long what is over stays in the table: longer than EC2 lists a deleted connection.
const KEPT_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Transitions that one item keeps while they cannot be told. Beyond, the ones in the middle are counted, not kept.
const MOST_UNTOLD: usize = 12;

/// One item's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it remembers.
    pub memory: Memory,
    /// What happened and has not been marked as told, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Transition>,
    /// Until when the run that wrote this has the telling to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telling_until: Option<Timestamp>,
    /// Transitions so far; numbers them.
    #[serde(default)]
    pub transitions: u64,
    /// When the look began that this is the outcome of. An older look, of a run that took longer, changes nothing.
    pub looked: Timestamp,
}

/// What an item remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// An alert.
    Alert(Box<Alert>),
    /// A connection of dbt's.
    Connection(KnownConnection),
    /// The endpoint services that a function watched when it last started.
    Watched(Vec<String>),
}

/// An item as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `None`: the item is there, but cannot be read; then all it might have remembered is said again.
    pub record: Option<Record>,
    /// What a write must find in place.
    pub version: Version,
}

/// What a write must find in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No item.
    Absent,
    /// An item without a version that can be read: whatever it is.
    Unreadable,
    /// This version.
    At(u64),
}

/// The items of one endpoint service, by sort key.
pub type Items = BTreeMap<String, Stored>;

/// How a conditional write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Written, as this version.
    Won(u64),
    /// Another run wrote first.
    Lost,
}

/// Reads and writes the table.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    table: String,
}

impl Store {
    /// The table `table`.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, table: &str) -> Self {
        Self { client: Client::new(config), table: table.to_owned() }
    }

    /// Everything under the partition key `service`, all pages.
    ///
    /// # Errors
    /// [`Unseen`] if the table could not be read.
    pub async fn load(&self, service: &str) -> Result<Items, Unseen> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("service = :service")
            .expression_attribute_values(":service", AttributeValue::S(service.to_string()));
        let mut pages = query.into_paginator().items().send();
        let mut items = Items::new();
        while let Some(row) = pages.next().await {
            let row = row.map_err(|error| unseen("dynamodb:Query", &error))?;
            let text = |name: &str| row.get(name).and_then(|value| value.as_s().ok());
            let Some(item) = text("item").cloned() else { continue };
            let record = text("record").and_then(|json| match serde_json::from_str(json) {
                Ok(record) => Some(record),
                Err(error) => {
                    tracing::error!(%service, item, %error, "an item cannot be read; what it remembered is said again");
                    None
                }
            });
            let version = row.get("version").and_then(|value| value.as_n().ok()?.parse().ok());
            let version = version.map_or(Version::Unreadable, Version::At);
            items.insert(item, Stored { record, version });
        }
        Ok(items)
    }

    /// Writes one item, if the table still holds what was read.
    ///
    /// # Errors
    /// [`Unseen`] if the table did not take it for another reason.
    pub async fn put(
        &self,
        service: &str,
        item: &str,
        record: &Record,
        version: Version,
        now: Timestamp,
    ) -> Result<Write, Unseen> {
        let next = match version {
            Version::At(version) => version + 1,
            Version::Absent | Version::Unreadable => 1,
        };
        let json = serde_json::to_string(record).map_err(|error| Unseen {
            call: "dynamodb:PutItem",
            error: format!("the record cannot be written as JSON: {error}"),
            denied: false,
        })?;
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("service", AttributeValue::S(service.to_string()))
            .item("item", AttributeValue::S(item.to_owned()))
            .item("version", AttributeValue::N(next.to_string()))
            .item("record", AttributeValue::S(json));
        if record.is_over() {
            put = put.item("expires", AttributeValue::N((now + KEPT_AFTER).as_second().to_string()));
        }
        put = match version {
            Version::Absent => put.condition_expression("attribute_not_exists(service)"),
            Version::Unreadable => put.condition_expression("attribute_exists(service)"),
            Version::At(version) => put
                .condition_expression("version = :version")
                .expression_attribute_values(":version", AttributeValue::N(version.to_string())),
        };
        Ok(if written(put.send().await)? { Write::Won(next) } else { Write::Lost })
    }

    /// Takes note that `function` looks from `now` on, because of `ring`. Not if a look that began at or after `since` was
    /// noted, for another ring: that one has seen whatever rang. The same ring again is Lambda's second try, so the
    /// first has failed.
    ///
    /// # Errors
    /// [`Unseen`] if the table did not answer.
    pub async fn begin_look(
        &self,
        function: &str,
        ring: &str,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<bool, Unseen> {
        let millisecond = |time: Timestamp| AttributeValue::N(time.as_millisecond().to_string());
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("service", AttributeValue::S("looks".to_owned()))
            .item("item", AttributeValue::S(function.to_owned()))
            .item("began", millisecond(now))
            .item("ring", AttributeValue::S(ring.to_owned()))
            .condition_expression("attribute_not_exists(began) OR began < :rang OR ring = :ring")
            .expression_attribute_values(":rang", millisecond(since))
            .expression_attribute_values(":ring", AttributeValue::S(ring.to_owned()));
        written(put.send().await)
    }
}

/// Whether a conditional write took place.
fn written(result: Result<PutItemOutput, SdkError<PutItemError>>) -> Result<bool, Unseen> {
    match result {
        Ok(_) => Ok(true),
        Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(false),
        Err(error) => Err(unseen("dynamodb:PutItem", &error)),
    }
}

impl Record {
    /// What a look that began at `looked` found, with nothing to tell yet.
    #[must_use]
    pub fn new(memory: Memory, looked: Timestamp) -> Self {
        Self { memory, untold: Vec::new(), telling_until: None, transitions: 0, looked }
    }

    /// Numbers what happened, and keeps it until it is told.
    pub fn add(&mut self, transition: Transition) {
        self.transitions += 1;
        self.untold.push(Transition { number: self.transitions, ..transition });
        if self.untold.len() > MOST_UNTOLD {
            let dropped = self.untold.remove(self.untold.len() - 2);
            tracing::error!(?dropped, "this could not be told for so long that it is only counted");
            if let Some(last) = self.untold.last_mut() {
                last.skipped = dropped.skipped + 1;
            }
        }
    }

    /// Whether nothing more is expected of it, so that it may expire.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.untold.is_empty()
            && match &self.memory {
                Memory::Alert(alert) => alert.phase == super::lifecycle::Phase::Resolved,
                Memory::Connection(connection) => connection.gone,
                Memory::Watched(_) => false,
            }
    }
}
