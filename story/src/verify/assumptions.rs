//! Questions that AWS's documentation leaves open, and the places where a run sees the answers. docs/assumptions.md
//! gives the guard's assumption for each and why it is safe either way; a test keeps page and list in step.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::profiles::{Profiles, QueueEvent};
use crate::chapters::connections::{
    DBT_LEAVES, DBT_REQUESTS, DELETED_CONNECTION, OTHER_CUSTOMER_IS_REJECTED, REJECTED_CONNECTION, STATE_SPELLING,
};
use crate::chapters::{ChapterRun, Requester};
use crate::stage::Party;

/// A fact about AWS that only a real account can settle.
#[derive(Debug, Clone, Copy)]
pub struct Assumption {
    /// The id, which is the heading in docs/assumptions.md.
    pub id: &'static str,
    /// The question, in the words of docs/assumptions.md.
    pub question: &'static str,
    /// The place where a run sees the answer.
    pub seen: SeenIn,
}

/// The place where a run sees the answer.
#[derive(Debug, Clone, Copy)]
pub enum SeenIn {
    /// In the chapter with this title.
    Chapter(&'static str),
    /// Nowhere, for this reason, which docs/assumptions.md also gives.
    Nowhere(&'static str),
}

use SeenIn::{Chapter, Nowhere};

const fn assumption(id: &'static str, question: &'static str, seen: SeenIn) -> Assumption {
    Assumption { id, question, seen }
}

/// All assumptions, in the order of docs/assumptions.md.
pub const ASSUMPTIONS: [Assumption; 26] = [
    assumption(
        OWN_REGION,
        "Does EC2 name the Region of an endpoint that is in the service's own Region?",
        Chapter(ANSWERS.0),
    ),
    assumption(
        SUPPORTED_REGIONS,
        "Does a service that is shared in one Region list that Region as supported?",
        Chapter(ANSWERS.0),
    ),
    assumption(
        ENDPOINT_ID_FILTER,
        "Does DescribeVpcEndpointConnections take the filter vpc-endpoint-id?",
        Chapter(ANSWERS.0),
    ),
    assumption(STATE_SPELLING, "How does EC2 spell the states of a connection?", Chapter(DBT_REQUESTS.title)),
    assumption(
        REJECTED_CONNECTION,
        "Does a rejected connection stay in the provider's list?",
        Chapter(OTHER_CUSTOMER_IS_REJECTED.title),
    ),
    assumption(
        DELETED_CONNECTION,
        "Does a connection whose endpoint was deleted stay in the provider's list for a while?",
        Chapter(DBT_LEAVES.title),
    ),
    assumption(
        "rows-without-endpoint",
        "What does a connection without an endpoint look like in the provider's list?",
        Nowhere("it takes a transit gateway that is attached to the service, and a run has none"),
    ),
    assumption(
        "partial-connection",
        "When is a connection partial, and does it carry traffic then?",
        Nowhere("a run has no failing zone, and no traffic"),
    ),
    assumption(
        "refused-item",
        "Which codes does the list of what EC2 did not accept have?",
        Nowhere("the guard accepts only what is pending, and a run has no permission to accept anything itself"),
    ),
    assumption(
        "accept-multi-region",
        "Does accepting a connection ever need the permission vpce:AllowMultiRegion?",
        Nowhere("the service of a run has one Region, since each further one costs money"),
    ),
    assumption(NOTIFICATION_FORM, "What does a connection notification say?", Chapter(NOTIFICATION.0)),
    assumption(
        CLOUDTRAIL_RECORDS,
        "What do CloudTrail's records of changes to an endpoint service and a load balancer look like?",
        Chapter(PUBLISHED.0),
    ),
    assumption(SERVICE_ZONES, "Does EC2 give the zones of a service by name, by id, or both?", Chapter(ANSWERS.0)),
    assumption(
        "new-zones",
        "Does putting a load balancer behind a service once more offer the zones that it has got since?",
        Nowhere("the load balancer of a run keeps its zones"),
    ),
    assumption(MANAGED_RESOURCES, "Does EC2 know IncludeManagedResources in this Region?", Chapter(ANSWERS.0)),
    assumption(
        "enforcement-field",
        "Can the field on enforcing inbound rules for PrivateLink be missing although a load balancer has security groups?",
        Nowhere("the load balancer of a run sets the field, because the story depends on it"),
    ),
    assumption(
        TARGET_OVERRIDE,
        "Does the health of a target name an administrative override while there is no zonal shift?",
        Chapter(ANSWERS.0),
    ),
    assumption(
        "zonal-shift",
        "What does a zonal shift do to connections that enter the shifted zone by PrivateLink?",
        Nowhere(
            "it takes a client and servers in two zones, and with cross-zone load balancing AWS allows no zonal shift \
             where an Application Load Balancer is the target, as it is in a run",
        ),
    ),
    assumption(
        DEREGISTER_WITHOUT_PORT,
        "Does deregistering a target without its port do nothing, and answer as if it had?",
        Chapter(ANSWERS.0),
    ),
    assumption(
        "deregistered-target",
        "How long does a deregistered target still get new connections?",
        Nowhere("it takes a client and a server, and nothing connects through the endpoint of a run"),
    ),
    assumption(SERVICE_METRICS, "Which dimensions do the metrics of an endpoint service have?", Chapter(PUBLISHED.0)),
    assumption(
        ENDPOINT_METRICS,
        "Which dimensions do the metrics of the consumer's endpoint have?",
        Chapter(PUBLISHED.0),
    ),
    assumption(
        LOAD_BALANCER_METRICS,
        "Which dimensions do the metrics of a Network Load Balancer have?",
        Chapter(PUBLISHED.0),
    ),
    assumption(
        ALARM_FIRST_REASON,
        "Does a new alarm keep the reason of its creation until it has data?",
        Chapter(PUBLISHED.0),
    ),
    assumption(
        "alarm-silence",
        "How many periods without data does CloudWatch wait before an alarm has insufficient data?",
        Nowhere("it takes a function that does not run for up to an hour, which would ring the alarm"),
    ),
    assumption(
        "request-limits",
        "How does AWS count calls against its rate limits?",
        Nowhere("it takes using up the limits, which all tools in the account share"),
    ),
];

const OWN_REGION: &str = "own-region";
const SUPPORTED_REGIONS: &str = "supported-regions";
const ENDPOINT_ID_FILTER: &str = "endpoint-id-filter";
const NOTIFICATION_FORM: &str = "notification-form";
const CLOUDTRAIL_RECORDS: &str = "cloudtrail-records";
const SERVICE_ZONES: &str = "service-zones";
const MANAGED_RESOURCES: &str = "managed-resources";
const TARGET_OVERRIDE: &str = "target-override";
const DEREGISTER_WITHOUT_PORT: &str = "deregister-without-port";
const SERVICE_METRICS: &str = "service-metrics";
const ENDPOINT_METRICS: &str = "endpoint-metrics";
const LOAD_BALANCER_METRICS: &str = "load-balancer-metrics";
const ALARM_FIRST_REASON: &str = "alarm-first-reason";

// ---- while dbt is connected -----------------------------------------------------------------------------------------

/// The connection notification.
pub const NOTIFICATION: (&str, &str) =
    ("EC2 sends connection notifications", "one for the request, which names the endpoint and the service");

/// The questions that a run can ask AWS.
pub const ANSWERS: (&str, &str) =
    ("AWS is asked what its documentation leaves open", "each answer is noted, and so is a refusal");

/// Asks AWS.
pub fn answers(run: &mut ChapterRun<'_>, stage: &Profiles) -> Result<()> {
    run.step("asking AWS about the service, its connection and its target", &[]);
    match run.endpoint(Requester::Dbt) {
        Ok(endpoint) => connection(run, &endpoint)?,
        Err(error) => {
            for id in [OWN_REGION, ENDPOINT_ID_FILTER] {
                run.did_not_see(id, &error.to_string());
            }
        }
    }
    let service = run.scene.service.clone();
    let described = ["ec2", "describe-vpc-endpoint-service-configurations", "--service-ids", &service];
    let member = |answer: &Value, name: &str| answer["ServiceConfigurations"][0][name].clone();
    observe(
        run,
        SUPPORTED_REGIONS,
        Party::Provider,
        &described,
        |answer| json!({"SupportedRegions": member(answer, "SupportedRegions")}),
    )?;
    observe(run, SERVICE_ZONES, Party::Provider, &described, |answer| {
        let [names, ids] = ["AvailabilityZones", "AvailabilityZoneIds"].map(|name| member(answer, name));
        json!({"AvailabilityZones": names, "AvailabilityZoneIds": ids})
    })?;
    let target_group = run.scene.target_group.clone();
    let health = ["elbv2", "describe-target-health", "--target-group-arn", &target_group];
    observe(run, TARGET_OVERRIDE, Party::Provider, &health, |answer| {
        let overrides = rows(&answer["TargetHealthDescriptions"]).map(|row| row["AdministrativeOverride"].clone());
        json!({"AdministrativeOverride": overrides.collect::<Vec<_>>()})
    })?;
    managed_resources(run, stage)?;
    deregister_without_port(run, stage)
}

/// dbt's connection in the provider's list, also read with the filter that EC2 may refuse.
fn connection(run: &mut ChapterRun<'_>, endpoint: &str) -> Result<()> {
    let by_service = format!("Name=service-id,Values={}", run.scene.service);
    let by_endpoint = format!("Name=vpc-endpoint-id,Values={endpoint}");
    let connections = ["ec2", "describe-vpc-endpoint-connections", "--filters", &by_service];
    observe_with(run, OWN_REGION, Party::Provider, &connections, |run, answer| {
        match rows(&answer["VpcEndpointConnections"]).find(|row| row["VpcEndpointId"] == endpoint) {
            Some(row) => run.saw(OWN_REGION, json!({"VpcEndpointRegion": row["VpcEndpointRegion"]})),
            None => run.did_not_see(OWN_REGION, "EC2 does not list the endpoint"),
        }
    })?;
    let filtered = ["ec2", "describe-vpc-endpoint-connections", "--filters", &by_service, &by_endpoint];
    observe(
        run,
        ENDPOINT_ID_FILTER,
        Party::Provider,
        &filtered,
        |answer| json!({"rows": rows(&answer["VpcEndpointConnections"]).count()}),
    )
}

/// Asks only for resources with the run's tag, of which there are none: the question is whether EC2 knows the
/// parameter.
fn managed_resources(run: &mut ChapterRun<'_>, stage: &Profiles) -> Result<()> {
    let own = format!("Name=tag:{},Values={}", super::stacks::TAG, stage.names.run);
    let instances = ["ec2", "describe-instances", "--include-managed-resources", "--filters", &own];
    let interfaces = ["ec2", "describe-network-interfaces", "--include-managed-resources", "--filters", &own];
    observe(run, MANAGED_RESOURCES, Party::Provider, &instances, |_| json!({"DescribeInstances": "known"}))?;
    observe(run, MANAGED_RESOURCES, Party::Provider, &interfaces, |_| json!({"DescribeNetworkInterfaces": "known"}))
}

/// Uses a target group without a listener and another port than the group's. The stack's deletion removes both.
fn deregister_without_port(run: &mut ChapterRun<'_>, stage: &Profiles) -> Result<()> {
    let group = stage.output(Party::Provider, "SpareTargetGroupArn")?;
    let target = "Id=10.99.0.10,Port=5433";
    let register = ["elbv2", "register-targets", "--target-group-arn", &group, "--targets", target];
    if let Err(error) = run.ask(Party::Provider, &register) {
        let code = refusal(&error).ok_or(error)?;
        run.did_not_see(DEREGISTER_WITHOUT_PORT, &format!("registering a target was refused: {code}"));
        return Ok(());
    }
    let deregister = ["elbv2", "deregister-targets", "--target-group-arn", &group, "--targets", "Id=10.99.0.10"];
    let answered = match run.ask(Party::Provider, &deregister) {
        Ok(_) => json!("as if it had"),
        Err(error) => json!(refusal(&error).ok_or(error)?),
    };
    let health = ["elbv2", "describe-target-health", "--target-group-arn", &group];
    observe(run, DEREGISTER_WITHOUT_PORT, Party::Provider, &health, |answer| {
        let left = rows(&answer["TargetHealthDescriptions"]).map(|row| row["TargetHealth"]["State"].clone());
        json!({"answered": answered, "then listed as": left.collect::<Vec<_>>()})
    })
}

// ---- what AWS sends and publishes -----------------------------------------------------------------------------------

/// Notes a connection notification as SNS delivers it, without the fields that only serve to check SNS's signature.
pub fn notification(run: &mut ChapterRun<'_>, events: &[QueueEvent]) {
    let of_dbt = |event: &&QueueEvent| event.notification().is_some();
    let sent = events.iter().filter(of_dbt).filter_map(|event| serde_json::from_str::<Value>(&event.body).ok());
    for envelope in sent.take(1) {
        let message = &envelope["Message"];
        let parsed = message.as_str().and_then(|text| serde_json::from_str(text).ok());
        run.saw(
            NOTIFICATION_FORM,
            json!({
                "Subject": envelope["Subject"],
                "Message": parsed.unwrap_or_else(|| message.clone()),
                "MessageAttributes": envelope["MessageAttributes"],
            }),
        );
    }
}

/// Data that AWS publishes only after a while.
pub const PUBLISHED: (&str, &str) = (
    "AWS has published metrics, the alarms' states and CloudTrail's records",
    "what there is of each is noted, and so is what is missing",
);

/// Reads the published data.
pub fn published(run: &mut ChapterRun<'_>, stage: &Profiles) -> Result<()> {
    run.step("reading which metrics there are, how the alarms began, and CloudTrail's records", &[]);
    let load_balancer = run.scene.load_balancer.rsplit_once("loadbalancer/").map_or("", |(_, name)| name).to_owned();
    let service = run.scene.service.clone();
    metrics(run, SERVICE_METRICS, Party::Provider, ("AWS/PrivateLinkServices", "Service Id", &service))?;
    match run.endpoint(Requester::Dbt) {
        Ok(id) => {
            metrics(run, ENDPOINT_METRICS, Party::Consumer, ("AWS/PrivateLinkEndpoints", "VPC Endpoint Id", &id))?;
        }
        Err(error) => run.did_not_see(ENDPOINT_METRICS, &error.to_string()),
    }
    metrics(run, LOAD_BALANCER_METRICS, Party::Provider, ("AWS/NetworkELB", "LoadBalancer", &load_balancer))?;
    let prefix = format!("{}-", stage.names.guard());
    let history = ["cloudwatch", "describe-alarm-history", "--history-item-type", "StateUpdate"];
    observe_with(run, ALARM_FIRST_REASON, Party::Provider, &history, |run, answer| {
        let changes = first_changes(answer, &prefix);
        if changes.is_empty() {
            run.did_not_see(ALARM_FIRST_REASON, "no alarm of the guard has changed its state");
        }
        for change in changes {
            run.saw(ALARM_FIRST_REASON, change);
        }
    })?;
    let records = records(&stage.events()?, &[&service, &run.scene.load_balancer]);
    match (run.scene.administrator.is_some(), records.is_empty()) {
        (false, _) => run.did_not_see(CLOUDTRAIL_RECORDS, "no trail records management events in this Region"),
        (true, true) => run.did_not_see(CLOUDTRAIL_RECORDS, "no record has reached EventBridge"),
        (true, false) => records.into_iter().for_each(|record| run.saw(CLOUDTRAIL_RECORDS, record)),
    }
    Ok(())
}

/// The dimensions of one resource's metrics. It reads no metric values, and no other resource's metrics.
fn metrics(
    run: &mut ChapterRun<'_>,
    id: &'static str,
    party: Party,
    (namespace, dimension, value): (&str, &str, &str),
) -> Result<()> {
    let of = format!("Name={dimension},Value={value}");
    let command = ["cloudwatch", "list-metrics", "--namespace", namespace, "--dimensions", &of];
    observe_with(run, id, party, &command, |run, answer| {
        let sets = dimension_sets(answer);
        match sets.is_empty() {
            true => run.did_not_see(
                id,
                &format!("CloudWatch lists none in {namespace}: many appear only after a minute with traffic"),
            ),
            false => run.saw(id, json!({"namespace": namespace, "sets": sets})),
        }
    })
}

/// Each set of dimensions, by name, with its metrics.
fn dimension_sets(answer: &Value) -> Vec<Value> {
    let mut sets: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for metric in rows(&answer["Metrics"]) {
        let mut dimensions: Vec<_> = rows(&metric["Dimensions"]).filter_map(|each| each["Name"].as_str()).collect();
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
    let mut items: Vec<&Value> = rows(&answer["AlarmHistoryItems"]).collect();
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
    for event in events {
        let ours = ids.iter().any(|id| event.body.contains(id));
        let Ok(record) = serde_json::from_str::<Value>(&event.body) else { continue };
        let detail = &record["detail"];
        let is_new = records.iter().all(|known| known["eventName"] != detail["eventName"]);
        if ours && is_new && record["detail-type"] == "AWS API Call via CloudTrail" {
            let who = detail["userIdentity"].as_object().map(|who| who.keys().cloned().collect::<BTreeSet<_>>());
            records.push(json!({
                "eventName": detail["eventName"],
                "requestParameters": detail["requestParameters"],
                "responseElements": detail["responseElements"],
                "userIdentity has": who,
            }));
        }
    }
    records
}

// ---- asking ---------------------------------------------------------------------------------------------------------

/// Asks, and notes the answer's evidence on an assumption, or AWS's error code.
fn observe(
    run: &mut ChapterRun<'_>,
    id: &'static str,
    party: Party,
    command: &[&str],
    shows: impl FnOnce(&Value) -> Value,
) -> Result<()> {
    observe_with(run, id, party, command, |run, answer| run.saw(id, shows(answer)))
}

fn observe_with(
    run: &mut ChapterRun<'_>,
    id: &'static str,
    party: Party,
    command: &[&str],
    note: impl FnOnce(&mut ChapterRun<'_>, &Value),
) -> Result<()> {
    match run.ask(party, command) {
        Ok(answer) => note(run, &answer),
        Err(error) => match refusal(&error) {
            Some(code) if is_denied(&code) => run.did_not_see(id, &format!("the profile may not ask: {code}")),
            Some(code) => run.saw(id, json!({"operation": command.get(1), "refused": code})),
            None => return Err(error),
        },
    }
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

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use jiff::Timestamp;

    use super::*;

    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_page_has_every_assumption_and_no_other() {
        let page = std::fs::read_to_string(crate::top().join("docs/assumptions.md")).unwrap();
        let sections: Vec<_> = page.split("\n## `").skip(1).filter_map(|section| section.split_once('`')).collect();
        let ids: Vec<_> = sections.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, ASSUMPTIONS.map(|each| each.id));
        for (Assumption { id, question, seen }, (_, section)) in ASSUMPTIONS.iter().zip(sections) {
            let section = words(section);
            let settled = match seen {
                Chapter(title) => format!("*{title}*"),
                Nowhere(reason) => format!("No run sees it: {reason}."),
            };
            for text in [format!("**{question}**"), settled, "https://".to_owned(), "Safe either way:".to_owned()] {
                assert!(section.contains(&text), "{id}: {text}");
            }
        }
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
