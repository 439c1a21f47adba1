//! The state table of the simulated AWS.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// A DynamoDB table that supports this project's conditions.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Its items, in DynamoDB's JSON.
    pub items: Vec<Value>,
}

impl Table {
    /// Adds an item with this record.
    pub fn add(&mut self, service: &str, item: &str, record: &str) {
        self.items.push(json!({
            "service": {"S": service}, "item": {"S": item}, "version": {"N": "1"}, "record": {"S": record},
        }));
    }

    /// Gives the stored version of `item` the next number, as another run's write does.
    pub(crate) fn overtake(&mut self, item: &Value) {
        if let Some(known) = self.items.iter_mut().find(|known| key(known) == key(item)) {
            let version = &mut known["version"]["N"];
            *version = (version.as_str().unwrap().parse::<u64>().unwrap() + 1).to_string().into();
        }
    }

    /// DynamoDB's answer to `action`.
    pub(crate) fn answer(&mut self, action: &str, request: &Value) -> (u16, String) {
        let values = &request["ExpressionAttributeValues"];
        match action {
            "Query" => {
                let of_service = |item: &&Value| item["service"]["S"] == values[":service"]["S"];
                let items: Vec<&Value> = self.items.iter().filter(of_service).collect();
                (200, json!({"Items": items, "Count": items.len()}).to_string())
            }
            "PutItem" => {
                let item = request["Item"].clone();
                let known = self.items.iter().find(|known| key(known) == key(&item));
                let holds = match (request["ConditionExpression"].as_str().unwrap(), known) {
                    (condition, None) => condition.contains("attribute_not_exists"),
                    ("version = :version", Some(known)) => known["version"] == values[":version"],
                    ("attribute_not_exists(service)", Some(_)) => false,
                    ("attribute_exists(service)", Some(_)) => true,
                    ("attribute_not_exists(read_at) OR read_at <= :read_at OR read_at > :future", Some(known)) => {
                        let read_at = number(&known["read_at"]);
                        read_at <= number(&values[":read_at"]) || read_at > number(&values[":future"])
                    }
                    (other, _) => panic!("an unexpected condition: {other}"),
                };
                if !holds {
                    return condition_failed();
                }
                self.items.retain(|known| key(known) != key(&item));
                self.items.push(item);
                (200, "{}".to_owned())
            }
            "UpdateItem" => {
                let known = self.items.iter().find(|known| key(known) == key(&request["Key"]));
                let mut item = known.unwrap_or(&request["Key"]).clone();
                match updated(&mut item, request["UpdateExpression"].as_str().unwrap(), values) {
                    Some(before) => {
                        self.items.retain(|known| key(known) != key(&item));
                        self.items.push(item);
                        (200, json!({"Attributes": before}).to_string())
                    }
                    None => condition_failed(),
                }
            }
            other => panic!("an unexpected call: dynamodb:{other}"),
        }
    }
}

fn key(item: &Value) -> (Value, Value) {
    (item["service"]["S"].clone(), item["item"]["S"].clone())
}

fn number(value: &Value) -> i64 {
    value["N"].as_str().unwrap().parse().unwrap()
}

fn condition_failed() -> (u16, String) {
    let error = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
    (400, json!({"__type": error, "message": "no"}).to_string())
}

/// Updates a run's item. Returns the previous item; `None` if the update's condition fails.
fn updated(item: &mut Value, update: &str, values: &Value) -> Option<Value> {
    let before = item.clone();
    let (is_noted, has_started) = (before["began"].is_object(), before["started"].is_object());
    let set = |item: &Value, name: &str| -> BTreeSet<String> {
        let names = item[name]["SS"].as_array().into_iter().flatten();
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let (asked, reading) = (set(&json!({"it": values[":services"]}), "it"), set(&before, "reading"));
    let reads_all = reading.contains("*") || asked.is_subset(&reading);
    let with_asked = json!({"SS": set(&before, "waiting").union(&asked).collect::<Vec<_>>()});
    match update {
        "SET began = :began, event = :event, expires = :expires REMOVE started, finished ADD waiting :services" => {
            let is_free = !is_noted
                || number(&before["began"]) < number(&values[":covered"])
                || number(&before["began"]) > number(&values[":future"])
                || before["event"] == values[":event"]
                || (has_started && !reads_all);
            is_free.then_some(())?;
            for name in ["began", "event", "expires"] {
                item[name] = values[format!(":{name}")].clone();
            }
            for name in ["started", "finished"] {
                item.as_object_mut().unwrap().remove(name);
            }
            item["waiting"] = with_asked;
        }
        "SET causes = list_append(if_not_exists(causes, :none), :change) ADD waiting :services"
        | "ADD waiting :services" => {
            let is_open = !before["finished"].is_object() && (!has_started || reads_all);
            (is_noted && is_open).then_some(())?;
            if values[":change"].is_object() {
                let mut causes = before["causes"]["L"].as_array().cloned().unwrap_or_default();
                (i64::try_from(causes.len()).unwrap() < number(&values[":most"])).then_some(())?;
                causes.extend(values[":change"]["L"].as_array().unwrap().iter().cloned());
                item["causes"] = json!({"L": causes});
            }
            item["waiting"] = with_asked;
        }
        "SET started = :true, reading = waiting REMOVE waiting" => {
            (before["began"] == values[":began"] && before["waiting"].is_object()).then_some(())?;
            item["started"] = values[":true"].clone();
            item["reading"] = item.as_object_mut().unwrap().remove("waiting").unwrap();
        }
        "SET finished = :true REMOVE causes, waiting"
        | "SET finished = :true, waiting = if_not_exists(reading, waiting) REMOVE causes" => {
            (before["began"] == values[":began"]).then_some(())?;
            item["finished"] = values[":true"].clone();
            item.as_object_mut().unwrap().remove("causes");
            match (update.contains("if_not_exists"), before["reading"].is_object()) {
                (true, true) => item["waiting"] = before["reading"].clone(),
                (true, false) => assert!(before["waiting"].is_object(), "DynamoDB refuses it"),
                (false, _) => drop(item.as_object_mut().unwrap().remove("waiting")),
            }
        }
        other => panic!("an unexpected update: {other}"),
    }
    Some(before)
}
