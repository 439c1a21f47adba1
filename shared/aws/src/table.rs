//! The state table in DynamoDB, with one item per alert and per dbt connection. Optimistic concurrency: every write is
//! conditional on the version that was read, so of two concurrent runs one loses, reads again and decides again.
//!
//! | attribute | type | |
//! |---|---|---|
//! | `service` | S, partition key | the endpoint service's id; `guard` for facts that concern several services; `ids`, `runs`, `turns` and `watched` for the functions' own notes |
//! | `item` | S, sort key | a record's key, `FUNCTION#SUBJECT#RESOURCE`; in `ids`, the endpoint service's id; for the other notes, `FUNCTION` or `FUNCTION#…` |
//! | `version` | N | counts the writes |
//! | `record` | S | the record as JSON |
//! | `expires` | N | TTL in epoch seconds, for finished records |

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use guard_core::alerts::record::{Item, Items, Key, Partition, Record, Version};
use guard_core::concern::PathIds;
use guard_core::config::CLOCKS_DIFFER;
use guard_core::ids::ServiceId;
use guard_core::snapshot::{CallError, ErrorKind};
use guard_core::trigger::Change;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::errors::call_error;

/// The partition with the endpoint services that each function watched when it last started.
pub(crate) const WATCHED: &str = "watched";

/// The partition with the time of each function's last read of each endpoint service, if the services take turns.
pub(crate) const TURNS: &str = "turns";

/// The partition with the functions' latest runs.
const RUNS: &str = "runs";

/// The partition with the ids on the path behind each endpoint service.
const IDS: &str = "ids";

/// The lifetime of a run's item, longer than CloudTrail's delay.
const REMEMBER_RUNS_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The maximum number of changes that one run takes over.
const MAX_CAUSES: usize = 100;

/// The outcome of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Written, as this version.
    Won(u64),
    /// Another run wrote first.
    Lost,
}

/// The endpoint services that a run reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToRead {
    /// All configured services.
    All,
    /// These.
    These(BTreeSet<ServiceId>),
}

impl ToRead {
    /// The stored form of [`ToRead::All`].
    const ALL: &str = "*";

    fn to_attribute(&self) -> AttributeValue {
        AttributeValue::Ss(match self {
            Self::All => vec![Self::ALL.to_owned()],
            Self::These(services) => services.iter().map(ToString::to_string).collect(),
        })
    }

    fn from_attribute(services: &AttributeValue) -> Self {
        let services = services.as_ss().map(Vec::as_slice).unwrap_or_default();
        let these: Option<BTreeSet<ServiceId>> = services.iter().map(|service| service.parse().ok()).collect();
        these.map_or(Self::All, Self::These)
    }

    /// A DynamoDB condition that holds if a run that has begun reads these services, and its values.
    fn is_read(&self) -> (String, Vec<(String, AttributeValue)>) {
        let these = match self {
            Self::All => &BTreeSet::new(),
            Self::These(services) => services,
        };
        let named = (0..).zip(these).map(|(number, service)| (format!(":s{number}"), service.to_string()));
        let named: Vec<(String, String)> = named.collect();
        let each: Vec<String> = named.iter().map(|(name, _)| format!("contains(reading, {name})")).collect();
        let condition = match each.is_empty() {
            true => "contains(reading, :all)".to_owned(),
            false => format!("contains(reading, :all) OR ({})", each.join(" AND ")),
        };
        let values = named.into_iter().chain([(":all".to_owned(), Self::ALL.to_owned())]);
        (condition, values.map(|(name, value)| (name, AttributeValue::S(value))).collect())
    }
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
    pub fn new(config: &aws_config::SdkConfig, table: &str) -> Self {
        Self { client: Client::new(config), table: table.to_owned() }
    }

    /// All records of `partition`.
    pub async fn load(&self, partition: &Partition) -> Result<Items, CallError> {
        let rows = self.query(&partition.to_string()).await?;
        let item = |row: &ItemAttributes| {
            let key: Key = text(row, "item")?.parse().ok()?;
            Some((key, Item { record: content(row), version: version(row) }))
        };
        Ok(rows.iter().filter_map(item).collect())
    }

    /// Writes one record if the stored version is still `expected`, or if there is still no item.
    ///
    /// # Errors
    /// If the write failed for another reason.
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
            put = put.item("expires", seconds(expires));
        }
        Ok(if written(put.send().await)? { Write::Won(next(expected)) } else { Write::Lost })
    }

    /// Deletes one record. Returns whether it existed.
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

    /// The note of `function` in `partition` if it can be parsed, and its version.
    pub(crate) async fn note<T: DeserializeOwned>(
        &self,
        partition: &str,
        function: &str,
    ) -> Result<(Option<T>, Option<Version>), CallError> {
        let rows = self.query(partition).await?;
        let row = rows.iter().find(|row| text(row, "item") == Some(function));
        Ok((row.and_then(content), row.map(version)))
    }

    /// Writes the note of `function` in `partition`. Returns its version; `None` if another instance wrote first.
    pub(crate) async fn put_note(
        &self,
        partition: &str,
        function: &str,
        note: &impl Serialize,
        expected: Option<Version>,
    ) -> Result<Option<Version>, CallError> {
        let put = self.conditional_put(partition, function, note, expected)?;
        Ok(written(put.send().await)?.then(|| Version::At(next(expected))))
    }

    /// The ids on the path behind each endpoint service.
    pub(crate) async fn path_ids(&self) -> Result<BTreeMap<ServiceId, PathIds>, CallError> {
        let ids = |row: &ItemAttributes| {
            let hashes = row.get("hashes")?.as_b().ok()?.as_ref().chunks_exact(8);
            let hashes = hashes.map(|bytes| bytes.try_into().map(u64::from_be_bytes)).collect::<Result<_, _>>().ok()?;
            Some((text(row, "item")?.parse().ok()?, PathIds { hashes, until: time(row, "until")? }))
        };
        Ok(self.query(IDS).await?.iter().filter_map(ids).collect())
    }

    /// Writes the ids on the path behind `service`, unless those of a later read are stored.
    pub(crate) async fn put_path_ids(
        &self,
        service: &ServiceId,
        ids: &PathIds,
        read_at: Timestamp,
    ) -> Result<(), CallError> {
        let bytes: Vec<u8> = ids.hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect();
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("service", AttributeValue::S(IDS.to_owned()))
            .item("item", AttributeValue::S(service.to_string()))
            .item("hashes", AttributeValue::B(bytes.into()))
            .item("read_at", milliseconds(read_at))
            .item("until", milliseconds(ids.until))
            .condition_expression("attribute_not_exists(read_at) OR read_at <= :read_at OR read_at > :future")
            .expression_attribute_values(":read_at", milliseconds(read_at))
            .expression_attribute_values(":future", milliseconds(Timestamp::now() + CLOCKS_DIFFER));
        written(put.send().await).map(drop)
    }

    /// Stores that the run `run` begins at `begins` because of `event`, and that it reads `services` besides those that
    /// already wait for it. Returns `false` if another event's run covers this event: one that begins, or has begun, at
    /// or after `covered_since`, and that, if it has begun, reads these services. A repeated event is Lambda's retry,
    /// so its first run has failed.
    pub(crate) async fn claim_run(
        &self,
        run: &str,
        event: &str,
        services: &ToRead,
        (covered_since, begins): (Timestamp, Timestamp),
    ) -> Result<bool, CallError> {
        let (reads_all, names) = services.is_read();
        let update = self
            .update_run(run)
            .update_expression(
                "SET began = :began, event = :event, expires = :expires REMOVE started, finished ADD waiting :services",
            )
            .condition_expression(format!(
                "attribute_not_exists(began) OR began < :covered OR began > :future OR event = :event OR \
                 (attribute_exists(started) AND NOT ({reads_all}))"
            ))
            .expression_attribute_values(":began", milliseconds(begins))
            .expression_attribute_values(":covered", milliseconds(covered_since))
            .expression_attribute_values(":future", milliseconds(begins + CLOCKS_DIFFER))
            .expression_attribute_values(":event", AttributeValue::S(event.to_owned()))
            .expression_attribute_values(":expires", seconds(begins + REMEMBER_RUNS_FOR))
            .expression_attribute_values(":services", services.to_attribute());
        let update =
            names.into_iter().fold(update, |update, (name, value)| update.expression_attribute_values(name, value));
        Ok(updated(update.send().await)?.is_some())
    }

    /// Leaves `services`, and the change that concerns them, to a run that covers their event. Returns whether that run
    /// takes them over. It must not have begun, or must read them and not have finished, and it needs room for a
    /// change.
    pub(crate) async fn leave_to_run(
        &self,
        run: &str,
        services: &ToRead,
        change: Option<&Change>,
    ) -> Result<bool, CallError> {
        let (reads_all, names) = services.is_read();
        let open = format!(
            "attribute_exists(began) AND attribute_not_exists(finished) AND (attribute_not_exists(started) OR ({reads_all}))"
        );
        let update = self.update_run(run).expression_attribute_values(":services", services.to_attribute());
        let update = match change {
            None => update.update_expression("ADD waiting :services").condition_expression(open),
            Some(change) => update
                .update_expression(
                    "SET causes = list_append(if_not_exists(causes, :none), :change) ADD waiting :services",
                )
                .condition_expression(format!("{open} AND (attribute_not_exists(causes) OR size(causes) < :most)"))
                .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
                .expression_attribute_values(":change", AttributeValue::L(vec![AttributeValue::S(change.note())]))
                .expression_attribute_values(":most", AttributeValue::N(MAX_CAUSES.to_string())),
        };
        let update =
            names.into_iter().fold(update, |update, (name, value)| update.expression_attribute_values(name, value));
        Ok(updated(update.send().await)?.is_some())
    }

    /// Stores that the run claimed for `began` has begun. Returns the services that wait for it; `None` if a later run
    /// was claimed, which reads them.
    pub(crate) async fn begin_run(&self, run: &str, began: Timestamp) -> Result<Option<ToRead>, CallError> {
        let update = self
            .update_run(run)
            .update_expression("SET started = :true, reading = waiting REMOVE waiting")
            .condition_expression("began = :began AND attribute_exists(waiting)")
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .expression_attribute_values(":began", milliseconds(began))
            .return_values(ReturnValue::AllOld);
        let before = updated(update.send().await)?;
        Ok(before.and_then(|before| Some(ToRead::from_attribute(before.get("waiting")?))))
    }

    /// Stores that the run claimed with [`StateTable::claim_run`] has finished, unless a later run was claimed. Returns
    /// the changes that were left to it. If it left something `undone`, its services wait for the next run, Lambda's
    /// retry.
    pub(crate) async fn finish_run(&self, run: &str, began: Timestamp, undone: bool) -> Result<Vec<Change>, CallError> {
        let finish = match undone {
            true => "SET finished = :true, waiting = if_not_exists(reading, waiting) REMOVE causes",
            false => "SET finished = :true REMOVE causes, waiting",
        };
        let update = self
            .update_run(run)
            .update_expression(finish)
            .condition_expression("began = :began")
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .expression_attribute_values(":began", milliseconds(began))
            .return_values(ReturnValue::AllOld);
        let before = updated(update.send().await)?.unwrap_or_default();
        let causes = before.get("causes").and_then(|causes| causes.as_l().ok());
        Ok(causes.into_iter().flatten().filter_map(|note| Change::from_note(note.as_s().ok()?)).collect())
    }

    /// Whether the last claimed run has finished.
    pub(crate) async fn has_finished(&self, run: &str) -> Result<bool, CallError> {
        let rows = self.query(RUNS).await?;
        let noted = rows.iter().find(|row| text(row, "item") == Some(run));
        Ok(noted.is_some_and(|noted| noted.contains_key("finished")))
    }

    fn update_run(&self, run: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("service", AttributeValue::S(RUNS.to_owned()))
            .key("item", AttributeValue::S(run.to_owned()))
    }

    /// All items with this partition key, from all pages.
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

fn seconds(time: Timestamp) -> AttributeValue {
    AttributeValue::N(time.as_second().to_string())
}

fn time(row: &ItemAttributes, attribute: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(row.get(attribute)?.as_n().ok()?.parse().ok()?).ok()
}

fn text<'a>(row: &'a ItemAttributes, attribute: &str) -> Option<&'a str> {
    row.get(attribute)?.as_s().ok().map(String::as_str)
}

/// `None` if the JSON cannot be parsed.
fn content<T: DeserializeOwned>(row: &ItemAttributes) -> Option<T> {
    let parsed = serde_json::from_str(text(row, "record")?);
    parsed.inspect_err(|error| tracing::error!(item = text(row, "item"), %error, "an item cannot be read")).ok()
}

fn version(row: &ItemAttributes) -> Version {
    let version = row.get("version").and_then(|value| value.as_n().ok()?.parse().ok());
    version.map_or(Version::Unreadable, Version::At)
}

/// The version that a write over `expected` gets.
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

/// The item before a conditional update; `None` if the condition failed.
fn updated(result: Result<UpdateItemOutput, SdkError<UpdateItemError>>) -> Result<Option<ItemAttributes>, CallError> {
    match result {
        Ok(output) => Ok(Some(output.attributes.unwrap_or_default())),
        Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(None),
        Err(error) => Err(call_error("dynamodb:UpdateItem", &error)),
    }
}
