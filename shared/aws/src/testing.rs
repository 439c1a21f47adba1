//! A fake AWS in the same process, behind the SDK's HTTP client: it receives the SDK's real requests, and responds in
//! AWS's formats. Also the events that start functions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_runtime_api::client::http::HttpClient;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use serde_json::{Value, json};

/// A request, in the protocol of its service.
#[derive(Debug, Clone)]
pub enum Request {
    /// To EC2, ELB or SNS: an action and its parameters.
    Query(Form),
    /// To DynamoDB: an action and a JSON body.
    Json(String, Value),
}

impl Request {
    /// Parses a request body; `target` is the header that names DynamoDB's action.
    pub fn parse(target: Option<&str>, body: &str) -> Self {
        match target.and_then(|target| target.rsplit('.').next()) {
            Some(action) => Self::Json(action.to_owned(), serde_json::from_str(body).unwrap()),
            None => Self::Query(Form::parse(body)),
        }
    }
}

/// The parameters of a query request.
#[derive(Debug, Clone)]
pub struct Form(Vec<(String, String)>);

impl Form {
    fn parse(body: &str) -> Self {
        let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect())
    }

    /// The parameter's value.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// The values of a list's members.
    pub fn list(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}.");
        self.0.iter().filter(|(known, _)| known.starts_with(&prefix)).map(|(_, value)| value.clone()).collect()
    }

    /// All parameters but the action.
    pub fn parameters(&self) -> String {
        let all = self.0.iter().filter(|(name, _)| name != "Action");
        all.map(|(name, value)| format!("{name}={value}")).collect::<Vec<String>>().join("&")
    }

    /// The action.
    pub fn action(&self) -> String {
        self.get("Action").unwrap()
    }
}

fn decode(value: &str) -> String {
    let plain = value.replace('+', " ");
    let mut parts = plain.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).unwrap()
}

/// A configuration whose clients call `aws` without retries. `answer` returns the status and body for each request.
pub fn config<A: Send + 'static>(
    aws: &Arc<Mutex<A>>,
    answer: impl Fn(&mut A, Request) -> (u16, String) + Send + Sync + 'static,
) -> SdkConfig {
    let aws = aws.clone();
    let client = infallible_client_fn(move |request: http::Request<SdkBody>| {
        let target = request.headers().get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
        let body = std::str::from_utf8(request.body().bytes().unwrap()).unwrap();
        let (status, body) = answer(&mut aws.lock().unwrap(), Request::parse(target.as_deref(), body));
        http::Response::builder().status(status).body(SdkBody::from(body)).unwrap()
    });
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

/// A DynamoDB table that supports this project's conditions.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Its items, in DynamoDB's JSON.
    pub items: Vec<Value>,
}

impl Table {
    /// DynamoDB's answer to `action`.
    pub fn answer(&mut self, action: &str, request: &Value) -> (u16, String) {
        let key = |item: &Value| (item["service"]["S"].clone(), item["item"]["S"].clone());
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

/// SNS's response to `Publish`.
pub fn published() -> (u16, String) {
    (200, "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>".to_owned())
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
