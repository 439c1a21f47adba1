//! Questions that AWS's documentation leaves open, and the chapters that ask AWS. docs/assumptions.md is the list of them,
//! with the guard's assumption for each and why it is safe either way.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::profiles::Profiles;
use super::profiles::QueueEvent;
use super::stacks::TAG;
use crate::chapters::{Chapter, ChapterRun, Requester};
use crate::local_aws::list;
use crate::stage::Party;

/// A fact about AWS that only a real account can settle.
#[derive(Debug, Clone)]
pub struct Assumption {
    /// The id, which chapters use, too.
    pub id: String,
    /// The question.
    pub question: String,
    /// The place where a run sees the answer.
    pub seen: SeenIn,
}

/// The place where a run sees the answer.
#[derive(Debug, Clone)]
pub enum SeenIn {
    /// In the chapter with this title.
    Chapter(String),
    /// Nowhere, for this reason.
    Nowhere(String),
}

const PAGE: &str = include_str!("../../../docs/assumptions.md");

/// All assumptions, in the order of the page.
pub fn assumptions() -> Vec<Assumption> {
    let page = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    page.split(" ## `").skip(1).filter_map(assumption).collect()
}

fn assumption(section: &str) -> Option<Assumption> {
    let (id, text) = section.split_once('`')?;
    let between = |start, end| text.split_once(start)?.1.split_once(end).map(|(found, _)| found.to_owned());
    let seen = match between("- Settled in the step *", "*") {
        Some(title) => SeenIn::Chapter(title),
        None => SeenIn::Nowhere(between("- No run sees it: ", ".")?),
    };
    Some(Assumption { id: id.to_owned(), question: between("**", "**")?, seen })
}

// ---- while dbt is connected -----------------------------------------------------------------------------------------

/// The questions that a run can ask AWS.
pub const ANSWERS: Chapter = Chapter {
    title: "AWS is asked what its documentation leaves open",
    expected: "each answer is noted, and so is a refusal",
    play: |run| {
        run.step("asking AWS about the service, its connection and its target", &[]);
        match run.endpoint(Requester::Dbt) {
            Ok(endpoint) => connection(run, &endpoint)?,
            Err(error) => {
                for id in ["own-region", "endpoint-id-filter"] {
                    run.sees(id, Err(error.to_string()));
                }
            }
        }
        let describe = format!("ec2 describe-vpc-endpoint-service-configurations --service-ids {}", run.scene.service);
        ask(run, "supported-regions", Party::Provider, &describe, |answer| {
            Ok(vec![members(&answer["ServiceConfigurations"][0], &["SupportedRegions"])])
        })?;
        ask(run, "service-zones", Party::Provider, &describe, |answer| {
            Ok(vec![members(&answer["ServiceConfigurations"][0], &["AvailabilityZones", "AvailabilityZoneIds"])])
        })?;
        let health = format!("elbv2 describe-target-health --target-group-arn {}", run.scene.target_group);
        ask(run, "target-override", Party::Provider, &health, |answer| {
            let overrides = list(&answer["TargetHealthDescriptions"]).map(|row| &row["AdministrativeOverride"]);
            Ok(vec![json!({"AdministrativeOverride": overrides.collect::<Vec<_>>()})])
        })?;
        managed_resources(run)?;
        deregister_without_port(run)
    },
};

/// dbt's connection in the provider's list, also read with the filter that EC2 may refuse.
fn connection(run: &mut ChapterRun<'_>, endpoint: &str) -> Result<()> {
    let describe = "ec2 describe-vpc-endpoint-connections --filters";
    let by_service = format!("{describe} Name=service-id,Values={}", run.scene.service);
    ask(run, "own-region", Party::Provider, &by_service, |answer| {
        let row = list(&answer["VpcEndpointConnections"]).find(|row| row["VpcEndpointId"] == endpoint);
        let row = row.ok_or("EC2 does not list the endpoint")?;
        Ok(vec![members(row, &["VpcEndpointRegion"])])
    })?;
    let filtered = format!("{by_service} Name=vpc-endpoint-id,Values={endpoint}");
    ask(run, "endpoint-id-filter", Party::Provider, &filtered, |answer| {
        Ok(vec![json!({"rows": list(&answer["VpcEndpointConnections"]).count()})])
    })
}

/// Asks only for resources with the run's tag, of which there are none: the question is whether EC2 knows the
/// parameter.
fn managed_resources(run: &mut ChapterRun<'_>) -> Result<()> {
    let own = format!("--include-managed-resources --filters Name=tag:{TAG},Values={}", Profiles::of(run)?.names.run);
    let calls = [
        ("DescribeInstances", "ec2 describe-instances"),
        ("DescribeNetworkInterfaces", "ec2 describe-network-interfaces"),
    ];
    for (call, command) in calls {
        ask(run, "managed-resources", Party::Provider, &format!("{command} {own}"), |_| {
            Ok(vec![json!({call: "known"})])
        })?;
    }
    Ok(())
}

/// Uses a target group without a listener and another port than the group's. The stack's deletion removes both.
fn deregister_without_port(run: &mut ChapterRun<'_>) -> Result<()> {
    let group = format!("--target-group-arn {}", Profiles::of(run)?.output(Party::Provider, "SpareTargetGroupArn")?);
    let register = format!("elbv2 register-targets {group} --targets Id=10.99.0.10,Port=5433");
    if let Err(error) = run.ask(Party::Provider, &register) {
        let code = refusal(&error).ok_or(error)?;
        run.sees("deregister-without-port", Err(format!("registering a target was refused: {code}")));
        return Ok(());
    }
    let deregister = format!("elbv2 deregister-targets {group} --targets Id=10.99.0.10");
    let answered = match run.ask(Party::Provider, &deregister) {
        Ok(_) => "as if it had".to_owned(),
        Err(error) => refusal(&error).ok_or(error)?,
    };
    let health = format!("elbv2 describe-target-health {group}");
    ask(run, "deregister-without-port", Party::Provider, &health, |answer| {
        let left = list(&answer["TargetHealthDescriptions"]).map(|row| &row["TargetHealth"]["State"]);
        Ok(vec![json!({"answered": answered, "then listed as": left.collect::<Vec<_>>()})])
    })
}

// ---- what AWS publishes ---------------------------------------------------------------------------------------------

/// Data that AWS publishes only after a while.
pub const PUBLISHED: Chapter = Chapter {
    title: "AWS has published metrics, the alarms' states and CloudTrail's records",
    expected: "what there is of each is noted, and so is what is missing",
    play: |run| {
        run.step("reading which metrics there are, how the alarms began, and CloudTrail's records", &[]);
        let (service, load_balancer) = (run.scene.service.clone(), run.scene.load_balancer.clone());
        let name = load_balancer.rsplit_once("loadbalancer/").map_or("", |(_, name)| name);
        metrics(run, "service-metrics", Party::Provider, ("AWS/PrivateLinkServices", "Service Id", &service))?;
        match run.endpoint(Requester::Dbt) {
            Ok(id) => {
                let of_endpoint = ("AWS/PrivateLinkEndpoints", "VPC Endpoint Id", id.as_str());
                metrics(run, "endpoint-metrics", Party::Consumer, of_endpoint)?;
            }
            Err(error) => run.sees("endpoint-metrics", Err(error.to_string())),
        }
        metrics(run, "load-balancer-metrics", Party::Provider, ("AWS/NetworkELB", "LoadBalancer", name))?;
        let stage = Profiles::of(run)?;
        let prefix = format!("{}-", stage.names.guard());
        let history = "cloudwatch describe-alarm-history --history-item-type StateUpdate";
        ask(run, "alarm-first-reason", Party::Provider, history, |answer| {
            some(first_changes(answer, &prefix), "no alarm of the guard has changed its state")
        })?;
        let why = match run.scene.administrator {
            Some(_) => "no record has reached EventBridge",
            None => "no trail records management events in this Region",
        };
        let records = records(&stage.events()?, &[&service, &load_balancer]);
        run.sees("cloudtrail-records", some(records, why));
        Ok(())
    },
};

/// The dimensions of one resource's metrics. It reads no metric values, and no other resource's metrics.
fn metrics(
    run: &mut ChapterRun<'_>,
    id: &'static str,
    party: Party,
    (namespace, dimension, value): (&str, &str, &str),
) -> Result<()> {
    let dimension = format!("'Name={dimension},Value={value}'");
    let command = format!("cloudwatch list-metrics --namespace {namespace} --dimensions {dimension}");
    ask(run, id, party, &command, |answer| match dimension_sets(answer) {
        sets if sets.is_empty() => {
            Err(format!("CloudWatch lists none in {namespace}: many appear only after a minute with traffic"))
        }
        sets => Ok(vec![json!({"namespace": namespace, "sets": sets})]),
    })
}

/// Each set of dimensions, by name, with its metrics.
fn dimension_sets(answer: &Value) -> Vec<Value> {
    let mut sets: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for metric in list(&answer["Metrics"]) {
        let mut dimensions: Vec<_> = list(&metric["Dimensions"]).filter_map(|each| each["Name"].as_str()).collect();
        dimensions.sort_unstable();
        let name = metric["MetricName"].as_str().unwrap_or_default();
        match sets.iter_mut().find(|(known, _)| *known == dimensions) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => sets.push((dimensions, vec![name])),
        }
    }
    sets.sort();
    sets.into_iter()
        .map(|(dimensions, mut metrics)| {
            metrics.sort_unstable();
            json!({"dimensions": dimensions, "metrics": metrics})
        })
        .collect()
}

/// The first change of each alarm with this prefix: the old state with its reason, and the new state.
fn first_changes(answer: &Value, prefix: &str) -> Vec<Value> {
    let mut items: Vec<&Value> = list(&answer["AlarmHistoryItems"]).collect();
    items.sort_by_key(|item| item["Timestamp"].as_str().unwrap_or_default());
    let (mut seen, mut first) = (Vec::new(), Vec::new());
    for item in items {
        let Some(alarm) = item["AlarmName"].as_str().filter(|alarm| alarm.starts_with(prefix)) else { continue };
        let data = item["HistoryData"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let Some((old, new)) = data.map(|data| (data["oldState"].clone(), data["newState"].clone())) else { continue };
        if old["stateValue"] == new["stateValue"] || seen.contains(&alarm) {
            continue;
        }
        seen.push(alarm);
        let change = json!({"from": old["stateValue"], "reason": old["stateReason"], "to": new["stateValue"]});
        if !first.contains(&change) {
            first.push(change);
        }
    }
    first
}

/// The first record of each call that names one of these ids: request, response, and the names of the members that
/// identify the caller.
fn records(events: &[QueueEvent], ids: &[&str]) -> Vec<Value> {
    let mut records: Vec<Value> = Vec::new();
    for event in events.iter().filter(|event| ids.iter().any(|id| event.body.contains(id))) {
        let Some(record) = event.record() else { continue };
        let detail = &record["detail"];
        if records.iter().all(|known| known["eventName"] != detail["eventName"]) {
            let who = detail["userIdentity"].as_object().map(|who| who.keys().collect::<BTreeSet<_>>());
            let mut kept = members(detail, &["eventName", "requestParameters", "responseElements"]);
            kept["userIdentity has"] = json!(who);
            records.push(kept);
        }
    }
    records
}

// ---- asking ---------------------------------------------------------------------------------------------------------

/// Asks, and notes what the answer shows about an assumption, or AWS's error code.
fn ask(
    run: &mut ChapterRun<'_>,
    id: &'static str,
    party: Party,
    command: &str,
    shows: impl FnOnce(&Value) -> Result<Vec<Value>, String>,
) -> Result<()> {
    let seen = match run.ask(party, command) {
        Ok(answer) => shows(&answer),
        Err(error) => match refusal(&error) {
            Some(code) if is_denied(&code) => Err(format!("the profile may not ask: {code}")),
            Some(code) => Ok(vec![json!({"operation": command.split(' ').nth(1), "refused": code})]),
            None => return Err(error),
        },
    };
    run.sees(id, seen);
    Ok(())
}

/// AWS's code in an error of the AWS CLI. An error without a code is no answer from AWS.
fn refusal(error: &anyhow::Error) -> Option<String> {
    let text = format!("{error:#}");
    let (_, rest) = text.split_once("An error occurred (")?;
    rest.split_once(')').map(|(code, _)| code.to_owned())
}

fn is_denied(code: &str) -> bool {
    code == "UnauthorizedOperation" || code.starts_with("AccessDenied")
}

/// These members of an answer; `null` for one that AWS left out.
fn members(answer: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), answer[name].clone())).collect()
}

fn some(seen: Vec<Value>, why_not: &str) -> Result<Vec<Value>, String> {
    if seen.is_empty() { Err(why_not.to_owned()) } else { Ok(seen) }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use jiff::Timestamp;

    use super::*;
    use crate::chapters::connections::{DBT_LEAVES, DBT_REQUESTS, OTHER_CUSTOMER_IS_REJECTED};
    use crate::verify::steps::NOTIFICATION;

    #[test]
    fn every_section_of_the_page_is_an_assumption() {
        let titles = [DBT_REQUESTS, OTHER_CUSTOMER_IS_REJECTED, DBT_LEAVES, NOTIFICATION, ANSWERS, PUBLISHED]
            .map(|chapter| chapter.title);
        let assumptions = assumptions();
        for (Assumption { id, question, seen }, section) in assumptions.iter().zip(PAGE.split("\n## ").skip(1)) {
            assert!(section.starts_with(&format!("`{id}`\n\n**")) && question.ends_with('?'), "{id}: {question}");
            assert!(section.contains("https://") && section.contains("Safe either way:"), "{id}");
            match seen {
                SeenIn::Chapter(title) => assert!(titles.contains(&title.as_str()), "{id}: no chapter {title}"),
                SeenIn::Nowhere(reason) => assert!(!reason.is_empty(), "{id}"),
            }
        }
        assert_eq!(assumptions.len(), PAGE.matches("\n## ").count());
    }

    #[test]
    fn metrics_are_grouped_by_the_names_of_their_dimensions() {
        let metric = |name: &str, dimensions: &[&str]| {
            let dimensions = dimensions.iter().map(|name| json!({"Name": name, "Value": "x"}));
            json!({"MetricName": name, "Dimensions": dimensions.collect::<Vec<_>>()})
        };
        let metrics = [
            metric("NewFlowCount", &["LoadBalancer"]),
            metric("NewFlowCount", &["LoadBalancer", "AvailabilityZone"]),
            metric("ActiveFlowCount", &["AvailabilityZone", "LoadBalancer"]),
            metric("NewFlowCount", &["AvailabilityZone", "LoadBalancer"]),
        ];
        let expected = [
            json!({"dimensions": ["AvailabilityZone", "LoadBalancer"], "metrics": ["ActiveFlowCount", "NewFlowCount"]}),
            json!({"dimensions": ["LoadBalancer"], "metrics": ["NewFlowCount"]}),
        ];
        assert_eq!(dimension_sets(&json!({"Metrics": metrics})), expected);
        assert_eq!(dimension_sets(&Value::Null), Vec::<Value>::new());
    }

    #[test]
    fn only_the_first_change_of_an_own_alarm_counts() {
        let item = |alarm: &str, minute: u8, from: &str, reason: &str, to: &str| {
            let data = json!({"oldState": {"stateValue": from, "stateReason": reason}, "newState": {"stateValue": to}});
            let timestamp = format!("2026-11-30T12:{minute:02}:00Z");
            json!({"AlarmName": alarm, "Timestamp": timestamp, "HistoryData": data.to_string()})
        };
        let (nothing, created) = ("INSUFFICIENT_DATA", "Unchecked: Initial alarm creation");
        let items = [
            item("own-a", 9, "OK", "Threshold Crossed", nothing),
            item("own-a", 1, nothing, created, "OK"),
            item("own-a", 0, nothing, created, nothing),
            item("own-b", 2, nothing, created, "OK"),
            item("other-a", 1, nothing, "Insufficient Data", "OK"),
            json!({"AlarmName": "own-c", "HistoryData": "not JSON"}),
        ];
        let expected = [json!({"from": nothing, "reason": created, "to": "OK"})];
        assert_eq!(first_changes(&json!({"AlarmHistoryItems": items}), "own-"), expected);
    }

    #[test]
    fn only_own_calls_are_recorded_and_each_only_once() {
        let event = |name: &str, id: &str| {
            let who = json!({"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/r/s"});
            let detail = json!({"eventName": name, "requestParameters": {"id": id}, "userIdentity": who});
            let body = json!({"detail-type": "AWS API Call via CloudTrail", "detail": detail}).to_string();
            QueueEvent { received: Timestamp::UNIX_EPOCH, body }
        };
        let text = QueueEvent { received: Timestamp::UNIX_EPOCH, body: "ours, but no record".to_owned() };
        let events = [event("A", "theirs"), text, event("A", "ours"), event("A", "ours too"), event("B", "ours")];
        let kept = records(&events, &["ours"]);
        assert_eq!(kept.iter().map(|record| &record["eventName"]).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(kept[0]["requestParameters"], json!({"id": "ours"}));
        assert_eq!(kept[0]["userIdentity has"], json!(["arn", "type"]), "who it was is nobody's business");
    }

    #[test]
    fn a_refusal_is_an_answer_of_aws_with_a_code() {
        let error = anyhow!("aws ec2 …: An error occurred (InvalidParameterValue) when calling the X operation: …");
        assert_eq!(refusal(&error).as_deref(), Some("InvalidParameterValue"));
        assert_eq!(refusal(&anyhow!("Could not connect to the endpoint URL")), None);
        let denied = ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "InvalidFilter"].map(is_denied);
        assert_eq!(denied, [true, true, true, false]);
    }
}
