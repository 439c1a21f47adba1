//! Calls to the simulated AWS, as the SDK's clients make them.

use serde_json::{Value, json};

/// An API of AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// EC2.
    Ec2,
    /// Elastic Load Balancing.
    Elb,
    /// DynamoDB.
    DynamoDb,
    /// SNS.
    Sns,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The called API.
    pub api: Api,
    /// Its action.
    pub action: String,
    /// The resource or table item that it concerns.
    pub about: String,
    pub(crate) request: Request,
}

impl Call {
    /// The call that a request to this address makes; `target` is the header that names DynamoDB's action.
    pub(crate) fn new(address: &str, target: Option<&str>, body: &str) -> Self {
        let api = match address {
            address if address.contains("//ec2.") => Api::Ec2,
            address if address.contains("//elasticloadbalancing.") => Api::Elb,
            address if address.contains("//dynamodb.") => Api::DynamoDb,
            address if address.contains("//sns.") => Api::Sns,
            other => panic!("an unexpected address: {other}"),
        };
        let Some(target) = target else {
            let form = Form::parse(body);
            let about = if api == Api::Sns { String::new() } else { form.parameters() };
            return Self { api, action: form.get("Action").unwrap(), about, request: Request::Query(form) };
        };
        let request: Value = serde_json::from_str(body).unwrap();
        let (values, item) = (&request["ExpressionAttributeValues"], &request["Item"]);
        let about = format!("{}{}{}", values[":service"], item["service"], item["item"]);
        let action = target.rsplit('.').next().unwrap().to_owned();
        Self { api, action, about, request: Request::Json(request) }
    }

    /// A response with this result, in the API's format.
    pub(crate) fn response(&self, result: &str) -> String {
        let action = &self.action;
        match self.api {
            Api::Ec2 => format!("<{action}Response>{result}</{action}Response>"),
            _ => format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"),
        }
    }

    /// An error in the API's format.
    pub fn error(&self, code: &str, message: &str) -> String {
        match self.api {
            Api::DynamoDb => {
                json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message}).to_string()
            }
            Api::Ec2 => format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
            ),
            _ => format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
            ),
        }
    }
}

/// A request, in the protocol of its service.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// To EC2, ELB or SNS: the parameters.
    Query(Form),
    /// To DynamoDB: the JSON body.
    Json(Value),
}

/// The parameters of a query request.
#[derive(Debug, Clone)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    fn parse(body: &str) -> Self {
        let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect())
    }

    /// The parameter's value.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// The values of a list's members.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}.");
        self.0.iter().filter(|(known, _)| known.starts_with(&prefix)).map(|(_, value)| value.clone()).collect()
    }

    /// All parameters but the action.
    fn parameters(&self) -> String {
        let all = self.0.iter().filter(|(name, _)| name != "Action");
        all.map(|(name, value)| format!("{name}={value}")).collect::<Vec<String>>().join("&")
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
