//! The roles in the guard's CloudFormation templates, resolved for one stack as CloudFormation resolves them.
//!
//! `roles.json` has them: template.yaml and infra/chat.yaml without what their roles do not depend on. An auditor reads
//! the permissions there, and they are written nowhere else. A function of CloudFormation that is not known here is an
//! error, never skipped.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The stack whose roles are wanted. It need not exist.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name, with which the names that CloudFormation makes up begin.
    pub name: String,
    /// The partition of the Region.
    pub partition: String,
    /// The Region.
    pub region: String,
    /// The account.
    pub account: String,
    /// The parameters that are not left at their default.
    pub parameters: BTreeMap<String, String>,
}

/// A template, as a part of `roles.json`, and the stack that it is resolved for.
#[derive(Debug)]
pub struct Template<'a> {
    content: &'a Value,
    stack: &'a Stack,
    /// The resources with the loops unrolled, by logical id.
    resources: BTreeMap<String, Resource<'a>>,
}

#[derive(Debug)]
struct Resource<'a> {
    definition: &'a Value,
    /// The variable of the loop that it is in, and its value.
    variable: Option<(&'a str, String)>,
}

/// The prefix of a loop's name among the resources.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-foreach.html>
const LOOP: &str = "Fn::ForEach::";

impl<'a> Template<'a> {
    /// Unrolls the loops.
    ///
    /// # Errors
    /// If a parameter without a default has no value.
    pub fn new(content: &'a Value, stack: &'a Stack) -> Result<Self> {
        let mut template = Self { content, stack, resources: BTreeMap::new() };
        for (name, definition) in object(&content["Resources"])? {
            if !name.starts_with(LOOP) {
                template.resources.insert(name.clone(), Resource { definition, variable: None });
                continue;
            }
            let [Value::String(variable), collection, Value::Object(body)] = &array(definition)?[..] else {
                bail!("the loop {name} has another form than CloudFormation's");
            };
            for value in strings(&template.resolved(collection, None)?)? {
                for (pattern, definition) in body {
                    // In a name, & leaves out what is not alphanumeric.
                    let short: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
                    let name = pattern.replace(&format!("${{{variable}}}"), &value);
                    let name = name.replace(&format!("&{{{variable}}}"), &short);
                    let variable = Some((variable.as_str(), value.clone()));
                    template.resources.insert(name, Resource { definition, variable });
                }
            }
        }
        Ok(template)
    }

    /// The properties of the resource `name`; `None` if the stack does not create it.
    pub fn properties(&self, name: &str) -> Result<Option<Value>> {
        let resource = self.resource(name)?;
        match resource.definition["Condition"].as_str() {
            Some(condition) if !self.holds(condition)? => Ok(None),
            _ => self.resolved(&resource.definition["Properties"], resource.variable.as_ref()).map(Some),
        }
    }

    /// The properties of all resources of this type that the stack creates.
    pub fn of_type(&self, kind: &str) -> Result<Vec<Value>> {
        let names = self.resources.iter().filter(|(_, resource)| resource.definition["Type"] == kind);
        let properties = names.map(|(name, _)| self.properties(name)).collect::<Result<Vec<_>>>()?;
        Ok(properties.into_iter().flatten().collect())
    }

    fn resource(&self, name: &str) -> Result<&Resource<'a>> {
        self.resources.get(name).with_context(|| format!("the template has no resource {name}"))
    }

    /// A value that cannot be left out.
    fn resolved(&self, node: &Value, variable: Option<&(&str, String)>) -> Result<Value> {
        Scope { template: self, variable }.resolve(node)?.context("a value is left out that cannot be")
    }

    fn holds(&self, condition: &str) -> Result<bool> {
        let Some(test) = self.content["Conditions"].get(condition) else { bail!("there is no condition {condition}") };
        self.is_true(test)
    }

    fn is_true(&self, test: &Value) -> Result<bool> {
        let Some((function, argument)) = call(test) else { bail!("this is no condition: {test}") };
        if function == "Condition" {
            return self.holds(string(argument)?);
        }
        if function == "Fn::Equals" {
            let [left, right] = &array(argument)?[..] else { bail!("Fn::Equals takes two values: {argument}") };
            return Ok(self.resolved(left, None)? == self.resolved(right, None)?);
        }
        let parts = array(argument)?.iter().map(|part| self.is_true(part)).collect::<Result<Vec<bool>>>()?;
        match function {
            "Fn::Not" => Ok(parts == [false]),
            "Fn::And" => Ok(parts.iter().all(|part| *part)),
            "Fn::Or" => Ok(parts.contains(&true)),
            _ => bail!("{function} in a condition is not known here"),
        }
    }

    /// The ARN of a resource. A name that CloudFormation makes up begins with the stack's name and the logical id; its
    /// last part is known only afterwards, and is another one if the resource is replaced.
    /// <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html>
    fn arn(&self, id: &str) -> Result<String> {
        let Stack { name, partition, region, account, .. } = self.stack;
        let kind = string(&self.resource(id)?.definition["Type"])?;
        let made_up = format!("{name}-{id}-*");
        let (service, resource) = match kind {
            "AWS::SNS::Topic" => ("sns", made_up),
            "AWS::SQS::Queue" => ("sqs", made_up),
            "AWS::DynamoDB::Table" => ("dynamodb", format!("table/{made_up}")),
            "AWS::Serverless::Function" => ("lambda", format!("function:{made_up}")),
            "AWS::Logs::LogGroup" => {
                let properties = self.properties(id)?.unwrap_or_default();
                ("logs", format!("log-group:{}:*", string(&properties["LogGroupName"])?))
            }
            _ => bail!("the ARN of {id} ({kind}) is not known here"),
        };
        Ok(format!("arn:{partition}:{service}:{region}:{account}:{resource}"))
    }

    fn parameter(&self, name: &str) -> Result<Value> {
        let definition = &self.content["Parameters"][name];
        let default = definition["Default"].as_str();
        let value = self.stack.parameters.get(name).map(String::as_str).or(default);
        let value = value.with_context(|| format!("the parameter {name} has no value"))?;
        Ok(match definition["Type"].as_str() {
            Some("CommaDelimitedList") => value.split(',').map(|item| Value::from(item.trim())).collect(),
            _ => value.into(),
        })
    }
}

/// Where a value stands: perhaps in a loop.
#[derive(Clone, Copy)]
struct Scope<'a> {
    template: &'a Template<'a>,
    variable: Option<&'a (&'a str, String)>,
}

impl Scope<'_> {
    /// The value of a node; `None` for `AWS::NoValue`, which leaves out what it is the value of.
    fn resolve(self, node: &Value) -> Result<Option<Value>> {
        if let Some((function, argument)) = call(node) {
            return self.function(function, argument);
        }
        Ok(Some(match node {
            Value::Array(items) => {
                items.iter().filter_map(|item| self.resolve(item).transpose()).collect::<Result<Vec<_>>>()?.into()
            }
            Value::Object(fields) => {
                let mut resolved = Map::new();
                for (name, field) in fields {
                    if let Some(field) = self.resolve(field)? {
                        resolved.insert(name.clone(), field);
                    }
                }
                resolved.into()
            }
            _ => node.clone(),
        }))
    }

    /// A value that a function needs.
    fn needed(self, node: &Value) -> Result<Value> {
        self.resolve(node)?.with_context(|| format!("{node} has no value"))
    }

    fn function(self, function: &str, argument: &Value) -> Result<Option<Value>> {
        let list = argument.as_array().map(Vec::as_slice);
        Ok(Some(match (function, list) {
            ("Ref", _) if argument == "AWS::NoValue" => return Ok(None),
            ("Ref", _) => self.reference(string(argument)?)?,
            ("Fn::GetAtt", Some([id, Value::String(attribute)])) if attribute == "Arn" => {
                self.template.arn(string(&self.needed(id)?)?)?.into()
            }
            ("Fn::If", Some([condition, yes, no])) => {
                return self.resolve(if self.template.holds(string(condition)?)? { yes } else { no });
            }
            ("Fn::Sub", Some([text, Value::Object(given)])) => self.substituted(string(text)?, given)?,
            ("Fn::Sub", None) => self.substituted(string(argument)?, &Map::new())?,
            ("Fn::Join", Some([delimiter, parts])) => strings(&self.needed(parts)?)?.join(string(delimiter)?).into(),
            ("Fn::Split", Some([delimiter, text])) => {
                string(&self.needed(text)?)?.split(string(delimiter)?).map(Value::from).collect()
            }
            ("Fn::Select", Some([index, items])) => {
                let index = usize::try_from(index.as_u64().context("Fn::Select takes a number")?)?;
                array(&self.needed(items)?)?.get(index).context("Fn::Select is beyond the end")?.clone()
            }
            ("Fn::FindInMap", Some([map, first, second])) => {
                let path = [map, first, second].into_iter().map(|key| self.needed(key)).collect::<Result<Vec<_>>>()?;
                let mappings = &self.template.content["Mappings"];
                path.iter()
                    .try_fold(mappings, |map, key| map.get(string(key).ok()?))
                    .context("no such mapping")?
                    .clone()
            }
            _ => bail!("{function} with {argument} is not known here"),
        }))
    }

    fn reference(self, name: &str) -> Result<Value> {
        let Template { stack, resources, .. } = self.template;
        let kind = resources.get(name).map(|resource| &resource.definition["Type"]);
        Ok(match (name, self.variable) {
            ("AWS::Region", _) => stack.region.as_str().into(),
            ("AWS::Partition", _) => stack.partition.as_str().into(),
            ("AWS::AccountId", _) => stack.account.as_str().into(),
            ("AWS::StackName", _) => stack.name.as_str().into(),
            (_, Some((variable, value))) if *variable == name => value.as_str().into(),
            // Roles and policies name each other by their logical ids: nobody else sees them.
            _ if kind.is_some_and(|kind| kind.as_str().is_some_and(|kind| kind.starts_with("AWS::IAM::"))) => {
                name.into()
            }
            _ if kind.is_some_and(|kind| kind == "AWS::SNS::Topic") => self.template.arn(name)?.into(),
            _ => self.template.parameter(name)?,
        })
    }

    /// The text with every `${name}` replaced.
    fn substituted(self, text: &str, given: &Map<String, Value>) -> Result<Value> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').with_context(|| format!("{text} has no closing brace"))?;
            let value = given.get(name).map_or_else(|| self.reference(name), |value| self.needed(value))?;
            result.push_str(before);
            result.push_str(string(&value)?);
            rest = after;
        }
        Ok((result + rest).into())
    }
}

/// The function that a node calls, and its argument.
fn call(node: &Value) -> Option<(&str, &Value)> {
    let fields = node.as_object().filter(|fields| fields.len() == 1)?;
    let (name, argument) = fields.iter().next()?;
    let is_function = name.starts_with("Fn::") || ["Ref", "Condition"].contains(&name.as_str());
    is_function.then_some((name.as_str(), argument))
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().with_context(|| format!("this is no object: {value}"))
}

fn array(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().with_context(|| format!("this is no list: {value}"))
}

fn string(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("this is no string: {value}"))
}

fn strings(value: &Value) -> Result<Vec<String>> {
    array(value)?.iter().map(|item| Ok(string(item)?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A template with a parameter of each type, a condition of each outcome, and a loop.
    fn content() -> Value {
        json!({
            "Parameters": {
                "Services": {"Type": "CommaDelimitedList"},
                "Mode": {"Type": "String", "Default": "off"},
                "Missing": {"Type": "String"},
            },
            "Mappings": {"Words": {"alpha": {"Short": "a"}}},
            "Conditions": {
                "IsOff": {"Fn::Equals": [{"Ref": "Mode"}, "off"]},
                "IsOn": {"Fn::Not": [{"Condition": "IsOff"}]},
                "Both": {"Fn::And": [{"Condition": "IsOff"}, {"Condition": "IsOn"}]},
                "Either": {"Fn::Or": [{"Condition": "IsOff"}, {"Condition": "IsOn"}]},
            },
            "Resources": {
                "Topic": {"Type": "AWS::SNS::Topic"},
                "Table": {"Type": "AWS::DynamoDB::Table"},
                "Bucket": {"Type": "AWS::S3::Bucket"},
                "Role": {"Type": "AWS::IAM::Role", "Condition": "IsOn"},
                "Fn::ForEach::Logs": ["Service", {"Ref": "Services"}, {
                    "Log&{Service}": {"Type": "AWS::Logs::LogGroup", "Properties": {
                        "LogGroupName": {"Fn::Sub": "/${AWS::StackName}/${Service}"}}},
                }],
            },
        })
    }

    fn resolved(node: &Value) -> Result<Option<Value>> {
        let parameters = BTreeMap::from([("Services".to_owned(), "svc-1, svc-2".to_owned())]);
        let [name, partition, region, account] = ["guard", "aws-cn", "cn-north-1", "111122223333"].map(str::to_owned);
        let (content, stack) = (content(), Stack { name, partition, region, account, parameters });
        let template = Template::new(&content, &stack)?;
        Scope { template: &template, variable: None }.resolve(node)
    }

    #[test]
    fn each_function_has_the_value_that_cloudformation_gives_it() {
        let no_value = json!({"Ref": "AWS::NoValue"});
        for (node, expected) in [
            (json!({"Ref": "Services"}), json!(["svc-1", "svc-2"])),
            (json!({"Ref": "Mode"}), json!("off")),
            (json!({"Ref": "Topic"}), json!("arn:aws-cn:sns:cn-north-1:111122223333:guard-Topic-*")),
            (json!({"Ref": "Role"}), json!("Role")),
            (
                json!({"Fn::GetAtt": ["Table", "Arn"]}),
                json!("arn:aws-cn:dynamodb:cn-north-1:111122223333:table/guard-Table-*"),
            ),
            (
                json!({"Fn::GetAtt": ["Logsvc2", "Arn"]}),
                json!("arn:aws-cn:logs:cn-north-1:111122223333:log-group:/guard/svc-2:*"),
            ),
            (json!({"Fn::If": ["IsOff", "yes", "no"]}), json!("yes")),
            (json!({"Fn::If": ["Both", "yes", "no"]}), json!("no")),
            (json!({"Fn::If": ["Either", "yes", "no"]}), json!("yes")),
            (json!({"Fn::Sub": ["${AWS::Region}/${Here}/*", {"Here": {"Ref": "Mode"}}]}), json!("cn-north-1/off/*")),
            (json!({"Fn::Join": ["+", {"Ref": "Services"}]}), json!("svc-1+svc-2")),
            (json!({"Fn::Select": [1, {"Fn::Split": [":", "a:b"]}]}), json!("b")),
            (json!({"Fn::FindInMap": ["Words", "alpha", "Short"]}), json!("a")),
            (json!([1, no_value, {"left": {"Fn::If": ["IsOn", 2, no_value]}, "kept": 3}]), json!([1, {"kept": 3}])),
        ] {
            assert_eq!(resolved(&node).unwrap(), Some(expected), "{node}");
        }
    }

    #[test]
    fn nothing_unknown_is_skipped() {
        for (node, reason) in [
            (json!({"Fn::Base64": "x"}), "Fn::Base64"),
            (json!({"Fn::GetAtt": ["Table", "StreamArn"]}), "StreamArn"),
            (json!({"Fn::GetAtt": ["Bucket", "Arn"]}), "Bucket (AWS::S3::Bucket) is not known"),
            (json!({"Fn::GetAtt": ["Elsewhere", "Arn"]}), "no resource Elsewhere"),
            (json!({"Fn::If": ["Never", 1, 2]}), "no condition Never"),
            (json!({"Fn::Select": [2, ["a"]]}), "beyond the end"),
            (json!({"Ref": "Missing"}), "Missing has no value"),
        ] {
            let error = format!("{:#}", resolved(&node).unwrap_err());
            assert!(error.contains(reason), "{node}: {error}");
        }
    }
}
