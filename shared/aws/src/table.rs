//! The state table in DynamoDB. One item per alert and per connection of dbt's. Every write is conditional on the
//! version that was read, so that of two runs at once one loses, reads again and decides again.
//!
//! | attribute | type | |
//! |---|---|---|
//! | `service` | S, partition key | the endpoint service's id; `guard` for facts that several of them depend on; `watched` and `runs` for the functions' own notes |
//! | `item` | S, sort key | a record's key, `FUNCTION#SUBJECT#RESOURCE`; `FUNCTION` for its own notes |
//! | `version` | N | counts the writes |
//! | `record` | S | the record as JSON |
//! | `expires` | N | TTL in epoch seconds, for records that are finished |

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use guard_core::alerts::record::{CLOCKS_DIFFER, Item, Items, Key, Partition, Record, Version};
use guard_core::snapshot::{CallError, ErrorKind};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::errors::call_error;

/// The partition of the endpoint services that each function watched when it last started.
const WATCHED: &str = "watched";

/// The partition of the functions' latest runs.
const RUNS: &str = "runs";

/// How a conditional write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Written, as this version.
    Won(u64),
    /// Another run wrote first.
    Lost,
}

/// Reads and writes the state table.
#[derive(Debug, Clone)]
pub struct StateTable {
    client: Client,
    table: String,
}

/// An item's attributes.
type ItemAttributes = HashMap<String, AttributeValue>;

impl StateTable {
    /// The table `table`.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, table: &str) -> Self {
        Self { client: Client::new(config), table: table.to_owned() }
    }

    /// All records of `partition`.
    ///
    /// # Errors
    /// If the table could not be read.
    pub async fn load(&self, partition: &Partition) -> Result<Items, CallError> {
        let rows = self.query(&partition.to_string()).await?;
        let item = |row: &ItemAttributes| {
            let key: Key = text(row, "item")?.parse().ok()?;
            Some((key, Item { record: content(row), version: version(row) }))
        };
        Ok(rows.iter().filter_map(item).collect())
    }

    /// Writes one record, if the table still holds what was read: `expected`, or no item.
    ///
    /// # Errors
    /// If the table did not take it for another reason.
    pub async fn put(
        &self,
        partition: &Partition,
        key: &Key,
        record: &Record,
        expected: Option<Version>,
        now: Timestamp,
    ) -> Result<Write, CallError> {
        let mut put = self.conditional_put(&partition.to_string(), &key.to_string(), record, expected)?;
        if let Some(expires) = record.expires(now) {
            put = put.item("expires", AttributeValue::N(expires.as_second().to_string()));
        }
        Ok(if written(put.send().await)? { Write::Won(next(expected)) } else { Write::Lost })
    }

    /// Deletes one record. Returns whether there was one.
    ///
    /// # Errors
    /// If the table did not take it.
    pub async fn remove(&self, partition: &Partition, key: &Key) -> Result<bool, CallError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("service", AttributeValue::S(partition.to_string()))
            .key("item", AttributeValue::S(key.to_string()))
            .return_values(ReturnValue::AllOld);
        let deleted = delete.send().await.map_err(|error| call_error("dynamodb:DeleteItem", &error))?;
        Ok(deleted.attributes().is_some())
    }

    /// The endpoint services that `function` watched when it last started, and the version of this note.
    ///
    /// # Errors
    /// If the table could not be read.
    pub async fn watched(&self, function: &str) -> Result<(BTreeSet<String>, Option<Version>), CallError> {
        let rows = self.query(WATCHED).await?;
        let row = rows.iter().find(|row| text(row, "item") == Some(function));
        Ok((row.and_then(content).unwrap_or_default(), row.map(version)))
    }

    /// Notes the endpoint services that `function` watches now.
    ///
    /// # Errors
    /// If the table did not answer.
    pub async fn put_watched(
        &self,
        function: &str,
        services: &BTreeSet<String>,
        expected: Option<Version>,
    ) -> Result<(), CallError> {
        let put = self.conditional_put(WATCHED, function, services, expected)?;
        // If another instance wrote first, it noted the same.
        written(put.send().await).map(drop)
    }

    /// Notes that `function` runs from `now` on because of `event`, unless another event's run that began at or after
    /// `covered_since` is noted: that run covers this event. The same event again is Lambda's retry, so its first run
    /// has failed. Returns whether the run was noted.
    ///
    /// # Errors
    /// If the table did not answer.
    pub async fn claim_run(
        &self,
        function: &str,
        event: &str,
        covered_since: Timestamp,
        now: Timestamp,
    ) -> Result<bool, CallError> {
        let put = self
            .put_run(function, event, now)
            .condition_expression(
                "attribute_not_exists(began) OR began < :covered OR began > :future OR event = :event",
            )
            .expression_attribute_values(":covered", milliseconds(covered_since))
            .expression_attribute_values(":future", milliseconds(now + CLOCKS_DIFFER))
            .expression_attribute_values(":event", AttributeValue::S(event.to_owned()));
        written(put.send().await)
    }

    /// Notes that the run that [`StateTable::claim_run`] noted at `began` has finished, unless a later run is noted.
    ///
    /// # Errors
    /// If the table did not answer.
    pub async fn finish_run(&self, function: &str, event: &str, began: Timestamp) -> Result<(), CallError> {
        let put = self
            .put_run(function, event, began)
            .item("finished", AttributeValue::Bool(true))
            .condition_expression("began = :began")
            .expression_attribute_values(":began", milliseconds(began));
        written(put.send().await).map(drop)
    }

    /// Whether the latest noted run of `function` has finished.
    ///
    /// # Errors
    /// If the table could not be read.
    pub async fn has_finished(&self, function: &str) -> Result<bool, CallError> {
        let rows = self.query(RUNS).await?;
        let run = rows.iter().find(|row| text(row, "item") == Some(function));
        Ok(run.is_none_or(|run| run.contains_key("finished")))
    }

    fn put_run(&self, function: &str, event: &str, began: Timestamp) -> PutItemFluentBuilder {
        self.client
            .put_item()
            .table_name(&self.table)
            .item("service", AttributeValue::S(RUNS.to_owned()))
            .item("item", AttributeValue::S(function.to_owned()))
            .item("began", milliseconds(began))
            .item("event", AttributeValue::S(event.to_owned()))
    }

    /// Everything under one partition key, all pages.
    async fn query(&self, partition: &str) -> Result<Vec<ItemAttributes>, CallError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("service = :service")
            .expression_attribute_values(":service", AttributeValue::S(partition.to_owned()));
        let rows = query.into_paginator().items().send().try_collect().await;
        rows.map_err(|error| call_error("dynamodb:Query", &error))
    }

    fn conditional_put(
        &self,
        partition: &str,
        item: &str,
        content: &impl Serialize,
        expected: Option<Version>,
    ) -> Result<PutItemFluentBuilder, CallError> {
        let json = serde_json::to_string(content).map_err(|error| {
            let message = format!("the record cannot be written as JSON: {error}");
            CallError::new("dynamodb:PutItem", ErrorKind::Malformed, message)
        })?;
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("service", AttributeValue::S(partition.to_owned()))
            .item("item", AttributeValue::S(item.to_owned()))
            .item("version", AttributeValue::N(next(expected).to_string()))
            .item("record", AttributeValue::S(json));
        Ok(match expected {
            None => put.condition_expression("attribute_not_exists(service)"),
            Some(Version::Unreadable) => put.condition_expression("attribute_exists(service)"),
            Some(Version::At(version)) => put
                .condition_expression("version = :version")
                .expression_attribute_values(":version", AttributeValue::N(version.to_string())),
        })
    }
}

fn milliseconds(time: Timestamp) -> AttributeValue {
    AttributeValue::N(time.as_millisecond().to_string())
}

fn text<'a>(row: &'a ItemAttributes, attribute: &str) -> Option<&'a str> {
    row.get(attribute)?.as_s().ok().map(String::as_str)
}

/// `None` if it cannot be read.
fn content<T: DeserializeOwned>(row: &ItemAttributes) -> Option<T> {
    let parsed = serde_json::from_str(text(row, "record")?);
    parsed.inspect_err(|error| tracing::error!(item = text(row, "item"), %error, "an item cannot be read")).ok()
}

fn version(row: &ItemAttributes) -> Version {
    let version = row.get("version").and_then(|value| value.as_n().ok()?.parse().ok());
    version.map_or(Version::Unreadable, Version::At)
}

/// The version after a write over `expected`.
fn next(expected: Option<Version>) -> u64 {
    match expected {
        Some(Version::At(version)) => version + 1,
        Some(Version::Unreadable) | None => 1,
    }
}

/// Whether a conditional write took place.
fn written(result: Result<PutItemOutput, SdkError<PutItemError>>) -> Result<bool, CallError> {
    match result {
        Ok(_) => Ok(true),
        Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(false),
        Err(error) => Err(call_error("dynamodb:PutItem", &error)),
    }
}
