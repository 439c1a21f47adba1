//! connection-acceptor against answers as EC2 sends them over the wire: who is let in, and with which calls.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;
use connection_acceptor::ConnectionAcceptor;
use guard::testing::{endpoint, service, settings};
use proptest::prelude::*;
use serde_json::{Value, json};

const DBT: &str = "123456789012";
const STRANGER: &str = "999999999999";

/// A connection as EC2 describes it.
#[derive(Debug, Clone)]
struct Row {
    number: u32,
    service: String,
    owner: Option<&'static str>,
    state: String,
}

fn row(number: u32, owner: Option<&'static str>, state: &str) -> Row {
    Row { number, service: service(1).to_string(), owner, state: state.to_owned() }
}

/// AWS, as far as this function asks: answers from what a test put in, and notes every call.
#[derive(Default)]
struct Aws {
    /// What each read of the connections finds, page by page. The last is found again and again.
    reads: VecDeque<Vec<Vec<Row>>>,
    /// The answer to accepting: `<unsuccessful>` items, or nothing.
    unsuccessful: String,
    /// The page, counted from one, that EC2 refuses.
    refused_page: Option<usize>,
    calls: Vec<String>,
    accepted: Vec<(String, String)>,
    rejected: Vec<(String, String)>,
    subjects: Vec<String>,
    items: Vec<Value>,
}

impl Aws {
    fn answer(&mut self, target: Option<String>, body: &str) -> (u16, String) {
        if let Some(target) = target {
            return self.dynamodb(target.rsplit('.').next().unwrap(), &serde_json::from_str(body).unwrap());
        }
        let form: Vec<(String, String)> = body
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), decode(value)))
            .collect();
        let get = |name: &str| form.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let action = get("Action").unwrap();
        self.calls.push(action.clone());
        let endpoints = || {
            form.iter()
                .filter(|(name, _)| name.starts_with("VpcEndpointId."))
                .map(|(_, id)| (get("ServiceId").unwrap(), id.clone()))
        };
        match action.as_str() {
            "DescribeVpcEndpointConnections" => {
                assert_eq!(get("Filter.1.Name").as_deref(), Some("service-id"), "every read is limited to the services");
                assert_eq!(get("Filter.1.Value.1"), Some(service(1).to_string()));
                let page: usize = get("NextToken").map_or(0, |token| token.parse().unwrap());
                self.connections(page)
            }
            "AcceptVpcEndpointConnections" => {
                self.accepted.extend(endpoints());
                (200, format!("<AcceptVpcEndpointConnectionsResponse><unsuccessful>{}</unsuccessful></AcceptVpcEndpointConnectionsResponse>", self.unsuccessful))
            }
            "RejectVpcEndpointConnections" => {
                self.rejected.extend(endpoints());
                (200, "<RejectVpcEndpointConnectionsResponse><unsuccessful/></RejectVpcEndpointConnectionsResponse>".to_owned())
            }
            "DescribeVpcEndpointServiceConfigurations" => {
                (200, "<DescribeVpcEndpointServiceConfigurationsResponse><serviceConfigurationSet/></DescribeVpcEndpointServiceConfigurationsResponse>".to_owned())
            }
            "Publish" => {
                self.subjects.push(get("Subject").unwrap());
                (200, "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>".to_owned())
            }
            other => panic!("an unexpected call: {other}"),
        }
    }

    fn connections(&mut self, page: usize) -> (u16, String) {
        if self.refused_page == Some(page + 1) {
            return (403, "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>".to_owned());
        }
        let pages = self.reads.front().cloned().unwrap_or_default();
        let rows = pages.get(page).map(Vec::as_slice).unwrap_or_default();
        let items: Vec<String> = rows.iter().map(|row| {
            let owner = row.owner.map(|owner| format!("<vpcEndpointOwner>{owner}</vpcEndpointOwner>")).unwrap_or_default();
            let Row { service, state, .. } = row;
            format!("<item><serviceId>{service}</serviceId><vpcEndpointId>{}</vpcEndpointId>{owner}<vpcEndpointState>{state}</vpcEndpointState></item>", endpoint(row.number))
        }).collect();
        let next = if page + 1 < pages.len() {
            format!("<nextToken>{}</nextToken>", page + 1)
        } else {
            if self.reads.len() > 1 {
                self.reads.pop_front();
            }
            String::new()
        };
        (
            200,
            format!(
                "<DescribeVpcEndpointConnectionsResponse><vpcEndpointConnectionSet>{}</vpcEndpointConnectionSet>{next}</DescribeVpcEndpointConnectionsResponse>",
                items.concat()
            ),
        )
    }

    /// A table that takes every write and forgets nothing within a test.
    fn dynamodb(&mut self, action: &str, request: &Value) -> (u16, String) {
        match action {
            "Query" => (200, json!({"Items": self.items, "Count": self.items.len()}).to_string()),
            "PutItem" => {
                let item = request["Item"].clone();
                self.items.retain(|known| known["item"] != item["item"]);
                self.items.push(item);
                (200, "{}".to_owned())
            }
            other => panic!("an unexpected call: dynamodb:{other}"),
        }
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

/// Runs the function once against `aws`.
async fn run(aws: Aws, variables: &[(&str, &str)], event: &Value) -> (Result<(), String>, Aws) {
    let aws = Arc::new(Mutex::new(aws));
    let shared = aws.clone();
    let client = infallible_client_fn(move |request: http::Request<SdkBody>| {
        let target = request.headers().get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
        let body = std::str::from_utf8(request.body().bytes().unwrap()).unwrap().to_owned();
        let (status, answer) = shared.lock().unwrap().answer(target, &body);
        http::Response::builder().status(status).body(SdkBody::from(answer)).unwrap()
    });
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test")))
        .http_client(client)
        .build();
    let result = ConnectionAcceptor::new(settings(variables), &config).handle(event).await;
    let aws = std::mem::take(&mut *aws.lock().unwrap());
    (result.map_err(|undone| undone.to_string()), aws)
}

fn scheduled() -> Value {
    json!({"source": "aws.events", "detail-type": "Scheduled Event"})
}

fn ids(list: &[(String, String)]) -> Vec<String> {
    list.iter().map(|(_, endpoint)| endpoint.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_on_the_last_page_is_accepted() {
    let pages = vec![
        vec![row(1, Some(STRANGER), "pendingAcceptance")],
        vec![],
        vec![row(2, Some(DBT), "pendingAcceptance"), row(3, None, "pendingAcceptance")],
    ];
    let (result, aws) = run(Aws { reads: [pages].into(), ..Aws::default() }, &[], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(aws.accepted, [(service(1).to_string(), endpoint(2).to_string())]);
    assert_eq!(aws.rejected, []);
}

#[tokio::test(start_paused = true)]
async fn what_the_event_says_of_an_owner_counts_for_nothing() {
    let claim = json!({"Records": [{"EventSource": "aws:sns", "Sns": {
        "MessageId": "forged",
        "Timestamp": "2026-03-14T08:00:00.000Z",
        "Message": format!(r#"{{"serviceId":"{}","vpcEndpointId":"{}","vpcEndpointOwner":"{DBT}","vpcEndpointState":"pendingAcceptance"}}"#, service(1), endpoint(1)),
    }}]});
    let reads = [vec![vec![row(1, Some(STRANGER), "pendingAcceptance")]]].into();
    let (result, aws) = run(Aws { reads, ..Aws::default() }, &[], &claim).await;
    assert_eq!(result, Ok(()));
    assert_eq!(aws.accepted, []);
    let by_hand = json!({"detail-type": "AWS API Call via CloudTrail", "source": "aws.ec2", "detail": {
        "eventName": "AcceptVpcEndpointConnections",
        "requestParameters": {"vpcEndpointId": endpoint(1).to_string(), "vpcEndpointOwner": DBT},
    }});
    let reads = [vec![vec![row(1, None, "pendingAcceptance")]]].into();
    let (_, aws) = run(Aws { reads, ..Aws::default() }, &[], &by_hand).await;
    assert_eq!(aws.accepted, []);
}

#[tokio::test(start_paused = true)]
async fn half_a_list_is_no_list() {
    let pages = vec![vec![row(1, Some(DBT), "pendingAcceptance")], vec![row(2, Some(DBT), "pendingAcceptance")]];
    let aws = Aws { reads: [pages].into(), refused_page: Some(2), ..Aws::default() };
    let (result, aws) = run(aws, &[("ALERT_AFTER", "1")], &scheduled()).await;
    assert!(result.unwrap_err().contains("ec2:DescribeVpcEndpointConnections"));
    assert_eq!(aws.accepted, []);
    let subject = format!("[WARNING] {}: the guard cannot see: ec2:DescribeVpcEndpointConnections fails", service(1));
    assert_eq!(aws.subjects, [subject]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_item_fails_neither_the_batch_nor_the_run() {
    let waiting = vec![vec![row(1, Some(DBT), "pendingAcceptance"), row(2, Some(DBT), "pendingAcceptance")]];
    let after = vec![vec![row(1, Some(DBT), "pendingAcceptance"), row(2, Some(DBT), "available")]];
    let unsuccessful = format!(
        "<item><error><code>SomethingIsOff</code><message>no</message></error><resourceId>{}</resourceId></item>",
        endpoint(1)
    );
    let aws = Aws { reads: [waiting, after].into(), unsuccessful, ..Aws::default() };
    let (result, aws) = run(aws, &[], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(ids(&aws.accepted), [endpoint(1).to_string(), endpoint(2).to_string()]);
    assert_eq!(aws.subjects.len(), 1, "one message for the service");
    assert!(
        aws.subjects[0].starts_with(&format!("[CRITICAL] {}: dbt's request {}", service(1), endpoint(1))),
        "{}",
        aws.subjects[0]
    );
}

#[tokio::test(start_paused = true)]
async fn losing_the_race_to_accept_is_no_error() {
    let waiting = vec![vec![row(1, Some(DBT), "pendingAcceptance")]];
    let after = vec![vec![row(1, Some(DBT), "available")]];
    let unsuccessful = format!(
        "<item><error><code>InvalidState</code><message>not waiting</message></error><resourceId>{}</resourceId></item>",
        endpoint(1)
    );
    let aws = Aws { reads: [waiting, after].into(), unsuccessful, ..Aws::default() };
    let (result, aws) = run(aws, &[], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(aws.subjects, [format!("[NOTICE] {}: dbt is connected through {}", service(1), endpoint(1))]);
}

#[tokio::test(start_paused = true)]
async fn nothing_to_do_makes_one_call() {
    let reads = [vec![vec![row(1, Some(DBT), "pending"), row(2, Some(STRANGER), "rejected")]]].into();
    let (result, aws) = run(Aws { reads, ..Aws::default() }, &[], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(aws.calls, ["DescribeVpcEndpointConnections"]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing_and_says_so() {
    let reads = [vec![vec![row(1, Some(DBT), "pendingAcceptance"), row(2, Some(STRANGER), "available")]]].into();
    let variables = [("DRY_RUN", "true"), ("UNKNOWN_REQUESTERS", "reject")];
    let (result, aws) = run(Aws { reads, ..Aws::default() }, &variables, &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!((aws.accepted, aws.rejected), (vec![], vec![]));
    assert!(
        aws.subjects[0].starts_with("[CRITICAL]") && aws.subjects[0].contains("(and 1 more)")
            || aws.subjects[0].ends_with("...")
    );
}

#[tokio::test(start_paused = true)]
async fn strangers_are_turned_away_when_asked_for_and_dbt_is_not() {
    let before = vec![vec![
        row(1, Some(DBT), "available"),
        row(2, Some(STRANGER), "available"),
        row(3, None, "pendingAcceptance"),
        row(4, Some(DBT), "pendingAcceptance"),
    ]];
    let after = vec![vec![
        row(1, Some(DBT), "available"),
        row(2, Some(STRANGER), "rejected"),
        row(3, None, "rejected"),
        row(4, Some(DBT), "available"),
    ]];
    let aws = Aws { reads: [before, after].into(), ..Aws::default() };
    let (result, aws) = run(aws, &[("UNKNOWN_REQUESTERS", "reject")], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(ids(&aws.rejected), [endpoint(2).to_string(), endpoint(3).to_string()]);
    assert_eq!(ids(&aws.accepted), [endpoint(4).to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_a_look_has_covered_asks_ec2_nothing() {
    let notification = |sent: &str| json!({"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "m", "Timestamp": sent, "Message": ""}}]});
    // The fake table takes every write, so only the first of these looks; a table that refuses is the local AWS's part.
    let (result, aws) = run(Aws::default(), &[], &notification("2026-03-14T08:00:00.000Z")).await;
    assert_eq!(result, Ok(()));
    assert_eq!(aws.calls, ["DescribeVpcEndpointConnections"]);
    assert!(aws.items.iter().any(|item| item["service"]["S"] == "looks"), "the look was noted for the others");
}

/// Any event: well-formed, half-formed, naming dbt, naming anything.
fn events() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just(DBT.to_owned()),
        Just(format!("arn:aws:iam::{DBT}:root")),
        Just(endpoint(1).to_string()),
        Just(service(1).to_string()),
        Just("pendingAcceptance".to_owned()),
        ".{0,20}",
    ];
    (text.clone(), text.clone(), text, 0..5u8).prop_map(|(first, second, third, shape)| match shape {
        0 => scheduled(),
        1 => json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": format!("{first} {second} {third}")}}]}),
        2 => json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Timestamp": first, "MessageId": second,
            "Message": json!({"vpcEndpointOwner": DBT, "serviceId": third, "vpcEndpointId": endpoint(1).to_string()}).to_string()}}]}),
        3 => json!({"source": "aws.ec2", "detail-type": "AWS API Call via CloudTrail", "detail": {
            "eventName": first, "userIdentity": {"arn": second, "accountId": DBT},
            "requestParameters": {"vpcEndpointOwner": DBT, "VpcEndpointId": third}}}),
        _ => json!({first: second, "owner": third}),
    })
}

/// Any connection, on the guarded service or on another, of dbt or of anyone, in any state EC2 has or might have.
fn rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let owner = prop_oneof![
        Just(Some(DBT)),
        Just(Some(STRANGER)),
        Just(None),
        Just(Some("")),
        Just(Some("123456789012 ")),
        Just(Some("arn:aws:iam::123456789012:root")),
        Just(Some("1234567890123")),
        Just(Some("*")),
    ];
    let state = prop_oneof![
        Just("pendingAcceptance".to_owned()),
        Just("PendingAcceptance".to_owned()),
        Just("pending".to_owned()),
        Just("available".to_owned()),
        Just("rejected".to_owned()),
        "[a-zA-Z]{0,12}",
    ];
    let of =
        prop_oneof![4 => Just(service(1).to_string()), 1 => Just(service(2).to_string()), 1 => Just(String::new())];
    let page = prop::collection::vec((1..40u32, of, owner, state), 0..6);
    let page = page.prop_map(|rows| {
        rows.into_iter().map(|(number, service, owner, state)| Row { number, service, owner, state }).collect()
    });
    prop::collection::vec(page, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the event contains and whatever EC2 answers: nothing is accepted but what EC2 reported, in this run, as
    /// an endpoint of a dbt account on a configured service.
    #[test]
    fn nobody_but_dbt_is_ever_accepted(event in events(), pages in rows(), later in rows(), reject in any::<bool>()) {
        // An endpoint id is AWS's, so it stands for one endpoint: the first row that names it says what it is.
        let mut seen = std::collections::BTreeSet::new();
        let pages: Vec<Vec<Row>> = pages.into_iter().map(|page| page.into_iter().filter(|row| seen.insert(row.number)).collect()).collect();
        let aws = Aws { reads: [pages.clone(), later].into(), ..Aws::default() };
        let variables = [("UNKNOWN_REQUESTERS", if reject { "reject" } else { "alert" })];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (_, aws) = runtime.block_on(run(aws, &variables, &event));
        let reported = |id: &str| pages.iter().flatten().find(|row| endpoint(row.number).as_str() == id);
        for (on, id) in &aws.accepted {
            let row = reported(id).expect("EC2 reported it in this run");
            prop_assert_eq!(row.owner, Some(DBT));
            prop_assert_eq!(on, &service(1).to_string());
            prop_assert_eq!(&row.service, on);
            prop_assert!(row.state.eq_ignore_ascii_case("pendingAcceptance"));
        }
        for (_, id) in &aws.rejected {
            prop_assert!(reject);
            prop_assert_ne!(reported(id).expect("EC2 reported it in this run").owner, Some(DBT));
        }
        // And the other way round: every such request is accepted, whichever page it is on.
        let due = pages.iter().flatten().filter(|row| {
            row.owner == Some(DBT) && row.service == service(1).as_str() && row.state.eq_ignore_ascii_case("pendingAcceptance")
        });
        prop_assert_eq!(aws.accepted.len(), due.count());
    }
}
