//! connection-acceptor against answers as EC2 sends them over the wire: who is let in, and with which calls.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connection_acceptor::ConnectionAcceptor;
use guard_aws::events;
use guard_aws::invocation::{Deadline, Invocation};
use guard_aws::pipeline::Pipeline;
use guard_aws::testing::{self as aws, Request, Table, cloudtrail_event, notification, scheduled};
use guard_core::alerts::record::{Key, Record, State};
use guard_core::snapshot::{EndpointService, StoredPath};
use guard_core::testing::{DBT, UNTRUSTED, at, endpoint, endpoint_service, origin, service, settings, topology};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A connection as EC2 describes it.
#[derive(Debug, Clone)]
struct Row {
    /// The endpoint's; 0: EC2 gives no id.
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
    /// The answer to rejecting: `<unsuccessful>` items, or nothing.
    unsuccessful_rejects: String,
    /// The code with which EC2 refuses to reject at all.
    refused_reject: Option<&'static str>,
    /// Whether service 2 is configured as well.
    two_services: bool,
    /// The page, counted from one, that EC2 refuses.
    refused_page: Option<usize>,
    calls: Vec<String>,
    accepted: Vec<(String, String)>,
    rejected: Vec<(String, String)>,
    subjects: Vec<String>,
    messages: Vec<String>,
    table: Table,
    /// Whether DynamoDB fails to read it.
    table_reads_fail: bool,
}

impl Aws {
    fn answer(&mut self, request: Request) -> (u16, String) {
        let form = match request {
            Request::Json(action, _) if self.table_reads_fail && action == "Query" => {
                return (400, r#"{"__type":"com.amazon.coral.service#AccessDeniedException"}"#.to_owned());
            }
            Request::Json(action, body) => return self.table.answer(&action, &body),
            Request::Query(form) => form,
        };
        let get = |name: &str| form.get(name);
        let action = form.action();
        self.calls.push(action.clone());
        let endpoints = || form.list("VpcEndpointId").into_iter().map(|endpoint| (get("ServiceId").unwrap(), endpoint));
        match action.as_str() {
            "DescribeVpcEndpointConnections" => {
                assert_eq!(get("Filter.1.Name").as_deref(), Some("service-id"), "every read is limited to the services");
                let asked = |number: u32| get(&format!("Filter.1.Value.{number}"));
                assert_eq!(asked(1), Some(service(1).to_string()));
                assert_eq!(asked(2), self.two_services.then(|| service(2).to_string()), "all services, always");
                let page: usize = get("NextToken").map_or(0, |token| token.parse().unwrap());
                self.connections(page)
            }
            "AcceptVpcEndpointConnections" => {
                self.accepted.extend(endpoints());
                (200, format!("<AcceptVpcEndpointConnectionsResponse><unsuccessful>{}</unsuccessful></AcceptVpcEndpointConnectionsResponse>", self.unsuccessful))
            }
            "RejectVpcEndpointConnections" => {
                self.rejected.extend(endpoints());
                if let Some(code) = self.refused_reject {
                    return (400, format!("<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>"));
                }
                (200, format!("<RejectVpcEndpointConnectionsResponse><unsuccessful>{}</unsuccessful></RejectVpcEndpointConnectionsResponse>", self.unsuccessful_rejects))
            }
            "DescribeVpcEndpointServiceConfigurations" => {
                (200, "<DescribeVpcEndpointServiceConfigurationsResponse><serviceConfigurationSet/></DescribeVpcEndpointServiceConfigurationsResponse>".to_owned())
            }
            "Publish" => {
                self.subjects.push(get("Subject").unwrap());
                self.messages.push(get("Message").unwrap());
                aws::published()
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
            let id = (row.number > 0).then(|| format!("<vpcEndpointId>{}</vpcEndpointId>", endpoint(row.number)));
            let id = id.unwrap_or_default();
            format!("<item><serviceId>{service}</serviceId>{id}{owner}<vpcEndpointState>{state}</vpcEndpointState></item>")
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
}

/// Each run has an id of its own.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// Runs the function once against `aws`.
async fn run(aws: Aws, variables: &[(&str, &str)], event: &Value) -> (Result<(), String>, Aws) {
    let aws = Arc::new(Mutex::new(aws));
    let config = aws::config(&aws, Aws::answer);
    let id = format!("run-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let deadline = Deadline::new(Duration::from_secs(110));
    let invocation = Invocation { id, trigger: events::parse(event), origin: origin(), deadline };
    let result = Pipeline::new(ConnectionAcceptor, settings(variables), &config).handle(invocation).await;
    let aws = std::mem::take(&mut *aws.lock().unwrap());
    (result.map_err(|undone| undone.to_string()), aws)
}

fn ids(list: &[(String, String)]) -> Vec<String> {
    list.iter().map(|(_, endpoint)| endpoint.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_on_the_last_page_is_accepted() {
    let pages = vec![
        vec![row(1, Some(UNTRUSTED), "pendingAcceptance")],
        vec![],
        vec![row(2, Some(DBT), "pendingAcceptance"), row(3, None, "pendingAcceptance")],
    ];
    let (result, aws) = run(Aws { reads: [pages].into(), ..Aws::default() }, &[], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(aws.accepted, [(service(1).to_string(), endpoint(2).to_string())]);
    assert_eq!(aws.rejected, []);
}

#[tokio::test(start_paused = true)]
async fn an_owner_named_in_the_event_counts_for_nothing() {
    let message = json!({
        "serviceId": service(1).to_string(), "vpcEndpointId": endpoint(1).to_string(), "vpcEndpointOwner": DBT,
        "vpcEndpointState": "pendingAcceptance",
    });
    let claim = notification("forged", "2026-03-14T08:00:00.000Z", &message.to_string());
    let reads = [vec![vec![row(1, Some(UNTRUSTED), "pendingAcceptance")]]].into();
    let (result, aws) = run(Aws { reads, ..Aws::default() }, &[], &claim).await;
    assert_eq!(result, Ok(()));
    assert_eq!(aws.accepted, []);
    let by_hand = cloudtrail_event(&json!({
        "eventName": "AcceptVpcEndpointConnections",
        "requestParameters": {"vpcEndpointId": endpoint(1).to_string(), "vpcEndpointOwner": DBT},
    }));
    let reads = [vec![vec![row(1, None, "pendingAcceptance")]]].into();
    let (_, aws) = run(Aws { reads, ..Aws::default() }, &[], &by_hand).await;
    assert_eq!(aws.accepted, []);
}

#[tokio::test(start_paused = true)]
async fn a_partial_list_is_an_error() {
    let pages = vec![vec![row(1, Some(DBT), "pendingAcceptance")], vec![row(2, Some(DBT), "pendingAcceptance")]];
    let aws = Aws { reads: [pages].into(), refused_page: Some(2), ..Aws::default() };
    let (result, aws) = run(aws, &[("ALERT_AFTER", "1")], &scheduled()).await;
    assert!(result.unwrap_err().contains("ec2:DescribeVpcEndpointConnections"));
    assert_eq!(aws.accepted, []);
    let subject = "[WARNING] privatelink-guard: ec2:DescribeVpcEndpointConnections is denied";
    assert_eq!(aws.subjects, [subject], "one message, and not one per service");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_costs_its_own_service() {
    let on = |number: u32, row: Row| Row { service: service(number).to_string(), ..row };
    let mut rows = vec![
        row(1, Some(DBT), "pendingAcceptance"),
        on(2, row(2, Some(DBT), "pendingAcceptance")),
        on(2, row(3, Some(UNTRUSTED), "pendingAcceptance")),
        on(2, row(4, Some(DBT), "available")),
    ];
    let both = format!("{},{}", service(1), service(2));
    let variables = [("ENDPOINT_SERVICE_IDS", &*both), ("UNTRUSTED_REQUESTS", "reject"), ("MAX_DBT_ENDPOINTS", "2")];
    let before = Aws { reads: [vec![rows[3..].to_vec()]].into(), two_services: true, ..Aws::default() };
    let (_, before) = run(before, &variables, &scheduled()).await;
    rows.pop();
    let attachment = on(2, row(0, Some(DBT), "available"));
    let broken = [rows.clone(), vec![attachment]].concat();
    let aws = Aws { reads: [vec![broken]].into(), two_services: true, table: before.table, ..Aws::default() };
    let (result, aws) = run(aws, &variables, &scheduled()).await;
    assert_eq!(aws.accepted, [(service(1).to_string(), endpoint(1).to_string())], "who is on service 2 is not known");
    assert_eq!(aws.rejected, []);
    let why = format!("a connection of {} is incomplete", service(2));
    assert!(result.unwrap_err().contains(&why), "Lambda asks again");
    let is_missed = |aws: &Aws| aws.messages.iter().any(|message| message.contains(endpoint(4).as_str()));
    assert!(!is_missed(&aws), "the row may be of the endpoint that was connected");
    let aws = Aws { reads: [vec![rows]].into(), two_services: true, table: aws.table, ..Aws::default() };
    let (_, aws) = run(aws, &variables, &scheduled()).await;
    assert!(ids(&aws.accepted).contains(&endpoint(2).to_string()) && is_missed(&aws), "{:?}", aws.accepted);
}

#[tokio::test(start_paused = true)]
async fn held_stays_held_if_the_list_cannot_be_confirmed() {
    let waiting = vec![row(1, Some(DBT), "pendingAcceptance"), row(2, Some(DBT), "pendingAcceptance")];
    let broken = [waiting.clone(), vec![row(0, Some(DBT), "available")]].concat();
    let (_, aws) = run(Aws { reads: [vec![waiting], vec![broken]].into(), ..Aws::default() }, &[], &scheduled()).await;
    assert_eq!(ids(&aws.accepted), [endpoint(1).to_string()], "there is room for one");
    let left = vec![row(2, Some(DBT), "pendingAcceptance")];
    let (_, aws) = run(Aws { reads: [vec![left]].into(), table: aws.table, ..Aws::default() }, &[], &scheduled()).await;
    assert_eq!(aws.accepted, []);
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
    let (result, aws) = run(aws, &[("MAX_DBT_ENDPOINTS", "2")], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(ids(&aws.accepted), [endpoint(1).to_string(), endpoint(2).to_string()]);
    assert_eq!(aws.subjects.len(), 1, "one message for the service");
    assert!(
        // A warning: dbt connects through the other endpoint.
        aws.subjects[0].starts_with(&format!("[WARNING] {}: cannot accept dbt's request {}", service(1), endpoint(1))),
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
    let reads = [vec![vec![row(1, Some(DBT), "pending"), row(2, Some(UNTRUSTED), "rejected")]]].into();
    let (result, aws) = run(Aws { reads, ..Aws::default() }, &[], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(aws.calls, ["DescribeVpcEndpointConnections"]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing_and_says_so() {
    let reads = [vec![vec![row(1, Some(DBT), "pendingAcceptance"), row(2, Some(UNTRUSTED), "available")]]].into();
    let variables = [("DRY_RUN", "true"), ("UNTRUSTED_REQUESTS", "reject")];
    let (result, aws) = run(Aws { reads, ..Aws::default() }, &variables, &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!((aws.accepted, aws.rejected), (vec![], vec![]));
    assert!(aws.messages[0].contains("The guard would reject it, but DryRun is on."), "{}", aws.messages[0]);
    let waits = format!("dbt's request {} waits to be accepted", endpoint(1));
    for words in [waits.as_str(), "DryRun is on, so the guard does not accept it."] {
        assert!(aws.messages[0].contains(words), "{}", aws.messages[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn reject_spares_dbt_and_unnamed_accounts() {
    let before = vec![vec![
        row(1, Some(DBT), "available"),
        row(2, Some(UNTRUSTED), "available"),
        row(3, None, "pendingAcceptance"),
        row(4, Some(DBT), "pendingAcceptance"),
    ]];
    let after = vec![vec![
        row(1, Some(DBT), "available"),
        row(2, Some(UNTRUSTED), "rejected"),
        row(3, None, "pendingAcceptance"),
        row(4, Some(DBT), "available"),
    ]];
    let aws = Aws { reads: [before, after].into(), ..Aws::default() };
    let (result, aws) = run(aws, &[("UNTRUSTED_REQUESTS", "reject"), ("MAX_DBT_ENDPOINTS", "2")], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert_eq!(ids(&aws.rejected), [endpoint(2).to_string()], "EC2 does not name the owner of the other one");
    assert_eq!(ids(&aws.accepted), [endpoint(4).to_string()]);
}

/// Runs the function on each of these lists in turn, and returns what was accepted and the subjects, run by run.
async fn history(lists: &[Vec<Row>], variables: &[(&str, &str)]) -> Vec<(Vec<String>, Vec<String>)> {
    let mut table = Table::default();
    let mut runs = Vec::new();
    for rows in lists {
        let aws = Aws { reads: [vec![rows.clone()]].into(), table, ..Aws::default() };
        let (result, aws) = run(aws, variables, &scheduled()).await;
        assert_eq!(result, Ok(()));
        runs.push((ids(&aws.accepted), aws.subjects));
        table = aws.table;
    }
    runs
}

fn accepted_in(runs: &[(Vec<String>, Vec<String>)]) -> Vec<Vec<&str>> {
    runs.iter().map(|(accepted, _)| accepted.iter().map(String::as_str).collect()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_parked_request_does_not_get_in_when_the_first_endpoint_goes() {
    let parked = row(2, Some(DBT), "pendingAcceptance");
    let lists = [
        vec![row(1, Some(DBT), "available"), parked.clone()],
        vec![row(1, Some(DBT), "deleted"), parked.clone()],
        vec![parked.clone(), row(3, Some(DBT), "pendingAcceptance")],
    ];
    let runs = history(&lists, &[]).await;
    let new = endpoint(3).to_string();
    assert_eq!(accepted_in(&runs), [vec![], vec![], vec![new.as_str()]], "the company's new endpoint does");
    let named = format!("{}={}", service(1), endpoint(2));
    assert_eq!(accepted_in(&history(&lists[2..], &[("EXPECTED_ENDPOINTS", &named)]).await), [[endpoint(2).as_str()]]);
}

#[tokio::test(start_paused = true)]
async fn held_requests_are_one_alert_until_people_answer() {
    let request = |number| row(number, Some(DBT), "pendingAcceptance");
    let first = row(1, Some(DBT), "available");
    let lists = [
        vec![first.clone(), request(2), request(3)],
        vec![first.clone(), request(2), request(3), request(4)],
        vec![first.clone(), row(2, Some(DBT), "rejected"), row(3, Some(DBT), "rejected"), row(4, Some(DBT), "deleted")],
        vec![first.clone(), row(2, Some(DBT), "rejected")],
    ];
    let subjects: Vec<Vec<String>> = history(&lists, &[]).await.into_iter().map(|(_, subjects)| subjects).collect();
    let [held, more, answered, after] = &subjects[..] else { panic!("{subjects:?}") };
    assert!(
        held[0].starts_with(&format!("[WARNING] {}: 2 dbt requests held: MaxDbtEndpoints", service(1))),
        "{held:?}"
    );
    assert_eq!((held.len(), more.len(), answered.len(), after.len()), (1, 0, 1, 0), "{subjects:?}");
    assert!(answered[0].starts_with("[RESOLVED] vpce-svc-00000...: no dbt request is held"), "{answered:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_person_accepts_is_reported_as_beyond_the_limit() {
    let lists = [
        vec![row(1, Some(DBT), "available"), row(2, Some(DBT), "pendingAcceptance")],
        vec![row(1, Some(DBT), "available"), row(2, Some(DBT), "available")],
    ];
    let runs = history(&lists, &[]).await;
    let subject = format!("[WARNING] {}: 2 dbt endpoints connected: MaxDbtEndpoints allows", service(1));
    assert!(runs[1].1[0].starts_with(&subject), "{:?}", runs[1].1);
    let two = history(&lists, &[("MAX_DBT_ENDPOINTS", "2")]).await;
    assert_eq!(accepted_in(&two)[0], [endpoint(2).as_str()], "with the limit raised, there is nothing to hold");
}

#[tokio::test(start_paused = true)]
async fn without_the_table_a_request_is_held_and_the_message_says_so() {
    let reads = || [vec![vec![row(1, Some(DBT), "pendingAcceptance")]]].into();
    let (result, aws) = run(Aws { reads: reads(), table_reads_fail: true, ..Aws::default() }, &[], &scheduled()).await;
    assert!(result.is_err(), "Lambda asks again");
    assert_eq!(aws.accepted, []);
    let all = format!("{:?}", aws.subjects);
    assert!(all.contains("1 request held: state table unreadable"), "{all}");
    let aws = Aws { reads: reads(), table_reads_fail: true, ..Aws::default() };
    let (_, aws) = run(aws, &[("MAX_DBT_ENDPOINTS", "0")], &scheduled()).await;
    assert_eq!(ids(&aws.accepted), [endpoint(1).to_string()], "without a limit, accepting waits for no table");
}

#[tokio::test(start_paused = true)]
async fn without_its_record_a_connection_is_no_news() {
    let reads = [vec![vec![row(1, Some(DBT), "available"), row(2, Some(UNTRUSTED), "available")]]].into();
    let (result, aws) = run(Aws { reads, table_reads_fail: true, ..Aws::default() }, &[], &scheduled()).await;
    assert!(result.is_err());
    let [subject] = &aws.subjects[..] else { panic!("{:?}", aws.subjects) };
    assert!(subject.contains("untrusted account 999999999999 is CONNECTED") && !subject.contains("more"), "{subject}");
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_another_run_covers_reads_nothing() {
    let reads = || [vec![vec![row(1, Some(DBT), "available")]]].into();
    let event = notification("m-1", "2026-03-14T08:00:00.000Z", "");
    let (result, first) = run(Aws { reads: reads(), ..Aws::default() }, &[], &event).await;
    assert_eq!(result, Ok(()));
    assert_eq!(first.calls[0], "DescribeVpcEndpointConnections");
    let table = || Aws { reads: reads(), table: first.table.clone(), ..Aws::default() };
    let (result, second) = run(table(), &[], &notification("m-2", "2026-03-14T08:00:01.000Z", "")).await;
    assert_eq!(result, Ok(()));
    assert_eq!(second.calls, [""; 0], "the run of m-1 began long after m-2 was sent");
    let (_, again) = run(table(), &[], &notification("m-1", "2026-03-14T08:00:00.000Z", "")).await;
    assert_eq!(again.calls.len(), 1, "the same notification again is Lambda's retry: the first run failed");
    let (_, later) = run(table(), &[], &notification("m-3", "2100-01-01T00:00:00.000Z", "")).await;
    assert_eq!(later.calls.len(), 1, "a notification that the run cannot cover");
    let (_, scheduled) = run(table(), &[], &scheduled()).await;
    assert_eq!(scheduled.calls.len(), 1, "the schedule is never covered");
}

#[tokio::test(start_paused = true)]
async fn a_change_on_one_service_sends_nothing_about_another() {
    let of = |number: u32, on: u32, owner, state: &str| Row {
        service: service(on).to_string(),
        ..row(number, owner, state)
    };
    let steady = [of(10, 2, Some(DBT), "available"), of(11, 2, Some(UNTRUSTED), "available")];
    let with = |state: &str| vec![[vec![of(1, 1, Some(DBT), state)], steady.to_vec()].concat()];
    let both = format!("{},{}", service(1), service(2));
    let variables = [("ENDPOINT_SERVICE_IDS", both.as_str())];
    let aws = Aws { reads: [vec![steady.to_vec()]].into(), two_services: true, ..Aws::default() };
    let (_, aws) = run(aws, &variables, &scheduled()).await;
    assert_eq!(aws.subjects.len(), 2, "waiting for dbt on service 1, an untrusted account on 2: {:?}", aws.subjects);
    // dbt asks on service 1: accepted and confirmed, and nothing about service 2.
    let reads = [with("pendingAcceptance"), with("available")].into();
    let aws = Aws { reads, two_services: true, table: aws.table, ..Aws::default() };
    let (result, aws) = run(aws, &variables, &scheduled()).await;
    assert_eq!(result, Ok(()));
    let subject = format!("[NOTICE] {}: dbt is connected through {}", service(1), endpoint(1));
    assert_eq!(aws.subjects.len(), 1);
    assert!(aws.subjects[0].starts_with(&subject), "{:?}", aws.subjects);
}

#[tokio::test(start_paused = true)]
async fn an_unsuccessful_item_without_an_id_counts_for_all_pending() {
    let waiting = || vec![vec![row(1, Some(DBT), "pendingAcceptance"), row(2, Some(DBT), "pendingAcceptance")]];
    let after = vec![vec![row(1, Some(DBT), "pendingAcceptance"), row(2, Some(DBT), "available")]];
    let unsuccessful = "<item><error><code>Odd</code><message>no</message></error></item>".to_owned();
    let aws = Aws { reads: [waiting(), after].into(), unsuccessful, ..Aws::default() };
    let (result, aws) = run(aws, &[("MAX_DBT_ENDPOINTS", "2")], &scheduled()).await;
    assert_eq!(result, Ok(()));
    assert!(aws.subjects[0].starts_with(&format!(
        "[WARNING] {}: cannot accept dbt's request {}",
        service(1),
        endpoint(1)
    )));
}

#[tokio::test(start_paused = true)]
async fn the_alert_names_who_accepted_an_untrusted_account() {
    let event = cloudtrail_event(&json!({
        "eventName": "AcceptVpcEndpointConnections",
        "eventTime": "2026-03-14T08:00:00Z",
        "userIdentity": {"arn": "arn:aws:iam::111122223333:user/network-admin"},
        "requestParameters": {"AcceptVpcEndpointConnectionsRequest": {
            "ServiceId": service(1).to_string(), "VpcEndpointId": {"tag": 1, "content": endpoint(7).to_string()},
        }},
    }));
    let reads = || [vec![vec![row(7, Some(UNTRUSTED), "available"), row(8, Some("888888888888"), "available")]]].into();
    let (_, aws) = run(Aws { reads: reads(), ..Aws::default() }, &[], &event).await;
    let message: Value = serde_json::from_str(&aws.messages[0]).unwrap();
    let message: Value = serde_json::from_str(message["sqs"].as_str().unwrap()).unwrap();
    let cause = |account: &str| {
        let transitions = message["transitions"].as_array().unwrap();
        transitions.iter().find(|transition| transition["resource"] == account).unwrap()["cause"]["principal"].clone()
    };
    assert_eq!(cause(UNTRUSTED), "arn:aws:iam::111122223333:user/network-admin");
    assert_eq!(cause("888888888888"), Value::Null, "another account's endpoint, another cause");
}

/// The transitions of the first message.
fn transitions(aws: &Aws) -> Vec<Value> {
    let message: Value = serde_json::from_str(&aws.messages[0]).unwrap();
    let data: Value = serde_json::from_str(message["sqs"].as_str().unwrap()).unwrap();
    data["transitions"].as_array().unwrap().clone()
}

/// The action of the alert on the untrusted account.
fn action(aws: &Aws) -> String {
    let transitions = transitions(aws);
    let untrusted = transitions.iter().find(|transition| transition["check"] == "connection.untrusted").unwrap();
    untrusted["remedy"]["action"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_refused_reject_is_reported_as_refused() {
    let reads = || [vec![vec![row(1, Some(DBT), "available"), row(2, Some(UNTRUSTED), "available")]]].into();
    let variables = [("UNTRUSTED_REQUESTS", "reject")];
    let id = endpoint(2);
    let unsuccessful_rejects =
        format!("<item><error><code>Odd</code><message>not now</message></error><resourceId>{id}</resourceId></item>");
    let (result, aws) =
        run(Aws { reads: reads(), unsuccessful_rejects, ..Aws::default() }, &variables, &scheduled()).await;
    assert_eq!(result, Ok(()), "it is an alert, and the next run tries again");
    assert!(action(&aws).starts_with("AWS refused to reject it: Odd: not now."), "{}", action(&aws));
    let aws = Aws { reads: reads(), refused_reject: Some("InvalidServiceId.Malformed"), ..Aws::default() };
    let (_, aws) = run(aws, &variables, &scheduled()).await;
    assert!(action(&aws).starts_with("AWS refused to reject it: InvalidServiceId.Malformed: no."), "{}", action(&aws));
}

#[tokio::test(start_paused = true)]
async fn a_connection_remembered_as_dbts_is_never_revoked() {
    let variables = [("UNTRUSTED_REQUESTS", "reject")];
    let reads = [vec![vec![row(1, Some(DBT), "available")]]].into();
    let (_, first) = run(Aws { reads, ..Aws::default() }, &variables, &scheduled()).await;
    // EC2 errs about the owner.
    for owner in [None, Some(UNTRUSTED)] {
        let reads = [vec![vec![row(1, owner, "available"), row(2, Some(UNTRUSTED), "available")]]].into();
        let aws = Aws { reads, table: first.table.clone(), ..Aws::default() };
        let (_, aws) = run(aws, &variables, &scheduled()).await;
        assert_eq!(ids(&aws.rejected), [endpoint(2).to_string()], "{owner:?}");
        let all = format!("{:?}", aws.subjects);
        assert!(all.contains("[CRITICAL]"), "but people hear of it: {all}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_notified_request_that_ec2_lists_late_is_accepted() {
    let reads = || [vec![vec![]], vec![vec![]], vec![vec![row(1, Some(DBT), "pendingAcceptance")]]].into();
    let named = json!({"serviceId": service(1).to_string(), "vpcEndpointId": endpoint(1).to_string()}).to_string();
    let event = |message: &str| notification("m-1", "2026-03-14T08:00:00.000Z", message);
    let (_, aws) = run(Aws { reads: reads(), ..Aws::default() }, &[], &event(&named)).await;
    assert_eq!(ids(&aws.accepted), [endpoint(1).to_string()]);
    let (result, _) = run(Aws { reads: [vec![vec![]]].into(), ..Aws::default() }, &[], &event(&named)).await;
    assert!(result.unwrap_err().contains("does not show an endpoint"), "Lambda asks again in a minute");
    let deleted =
        json!({"eventName": "Delete", "serviceId": service(1).to_string(), "vpcEndpointId": endpoint(1).to_string()});
    let (result, _) =
        run(Aws { reads: [vec![vec![]]].into(), ..Aws::default() }, &[], &event(&deleted.to_string())).await;
    assert_eq!(result, Ok(()), "what is deleted is in no list");
    let elsewhere = json!({"serviceId": service(9).to_string(), "vpcEndpointId": endpoint(1).to_string()}).to_string();
    let (_, aws) = run(Aws { reads: reads(), ..Aws::default() }, &[], &event(&elsewhere)).await;
    let reads = aws.calls.iter().filter(|call| *call == "DescribeVpcEndpointConnections").count();
    assert_eq!((reads, aws.accepted.len()), (1, 0), "another service's notification is no reason to wait");
}

/// The item in which drift-watcher stores what is behind service 1, with the service's name.
fn stored_path(name: &str) -> Value {
    let service_1 = EndpointService { name: Some(name.to_owned()), ..endpoint_service() };
    let path = StoredPath::new(&topology(service_1, []), &service(1), at(8, 0), at(8, 0)).unwrap();
    let record = Record::new(State::Path(Some(Box::new(path))), at(8, 0));
    let key = Key::new("drift-watcher", Key::PATH, service(1).as_str());
    json!({
        "service": {"S": service(1).to_string()}, "item": {"S": key.to_string()}, "version": {"N": "1"},
        "record": {"S": serde_json::to_string(&record).unwrap()},
    })
}

#[tokio::test(start_paused = true)]
async fn a_covered_change_is_added_to_the_other_runs_alert() {
    let let_in = |event: &str, number: u32, name: &str| {
        cloudtrail_event(&json!({
            "eventName": "AcceptVpcEndpointConnections", "eventID": event, "eventTime": "2026-03-14T08:00:00Z",
            "userIdentity": {"arn": format!("arn:aws:iam::111122223333:user/{name}")},
            "requestParameters": {"VpcEndpointId": endpoint(number).to_string()},
        }))
    };
    let reads = [vec![vec![
        row(1, Some(DBT), "available"),
        row(7, Some(UNTRUSTED), "available"),
        row(8, Some("888888888888"), "available"),
    ]]]
    .into();
    let (_, first) = run(Aws { reads, ..Aws::default() }, &[], &let_in("e-1", 7, "one")).await;
    let mut table = first.table;
    table.items.push(stored_path("postgres"));
    let (result, second) = run(Aws { table, ..Aws::default() }, &[], &let_in("e-2", 8, "two")).await;
    assert_eq!(result, Ok(()));
    assert_eq!(second.calls, ["Publish"], "EC2 is not asked again");
    assert!(second.subjects[0].starts_with("[NOTICE] postgres: "), "the stored name: {:?}", second.subjects);
    let transitions = transitions(&second);
    let [notice] = &transitions[..] else { panic!("{transitions:?}") };
    assert_eq!((notice["kind"].as_str(), notice["resource"].as_str()), (Some("notice"), Some("888888888888")));
    assert_eq!(notice["cause"]["principal"], "arn:aws:iam::111122223333:user/two");
}

#[tokio::test(start_paused = true)]
async fn an_untrusted_account_on_a_new_endpoint_fires_again() {
    let mut table = Table::default();
    let mut subjects = Vec::new();
    for rows in [
        vec![row(1, Some(UNTRUSTED), "available")],
        vec![row(1, Some(UNTRUSTED), "rejected"), row(2, Some(UNTRUSTED), "pendingAcceptance")],
        vec![row(1, Some(UNTRUSTED), "rejected"), row(2, Some(UNTRUSTED), "available")],
        vec![row(3, Some(UNTRUSTED), "available"), row(2, Some(UNTRUSTED), "available")],
    ] {
        let rows = [vec![row(9, Some(DBT), "available")], rows].concat();
        let aws = Aws { reads: [vec![rows]].into(), table, ..Aws::default() };
        let (_, aws) = run(aws, &[], &scheduled()).await;
        table = aws.table;
        subjects.push(aws.subjects.len());
    }
    // Connected; rejected, and asks again, which a notice says; connected again; one more is news a day later.
    assert_eq!(subjects, [1, 1, 1, 0]);
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
        1 => notification(&first, "2026-03-14T08:00:00.000Z", &format!("{first} {second} {third}")),
        2 => notification(
            &second,
            &first,
            &json!({
            "vpcEndpointOwner": DBT, "serviceId": third, "vpcEndpointId": endpoint(1).to_string()})
            .to_string(),
        ),
        3 => cloudtrail_event(&json!({
            "eventName": first, "userIdentity": {"arn": second, "accountId": DBT},
            "requestParameters": {"vpcEndpointOwner": DBT, "VpcEndpointId": third}})),
        _ => json!({first: second, "owner": third}),
    })
}

/// Any connection, on the guarded service or on another, of dbt or of anyone, in any state EC2 has or might have.
fn rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let owner = prop_oneof![
        Just(Some(DBT)),
        Just(Some(UNTRUSTED)),
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

/// The rows without those that name an endpoint again.
fn each_once(pages: Vec<Vec<Row>>) -> Vec<Vec<Row>> {
    let mut seen = BTreeSet::new();
    let once = |page: Vec<Row>| page.into_iter().filter(|row| seen.insert(row.number)).collect();
    pages.into_iter().map(once).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the event contains and whatever EC2 answers: nothing is accepted but what EC2 reported, in this run, as
    /// an endpoint of a dbt account on a configured service.
    #[test]
    fn nobody_but_dbt_is_ever_accepted(
        event in events(), pages in rows(), later in rows(), reject in any::<bool>(), limit in 0..4usize
    ) {
        // An endpoint id is AWS's, so it stands for one endpoint: the first row that names it says what it is.
        let (pages, later) = (each_once(pages), each_once(later));
        let aws = Aws { reads: [pages.clone(), later.clone()].into(), ..Aws::default() };
        let most = limit.to_string();
        let variables =
            [("UNTRUSTED_REQUESTS", if reject { "reject" } else { "alert" }), ("MAX_DBT_ENDPOINTS", most.as_str())];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (_, aws) = runtime.block_on(run(aws, &variables, &event));
        // The run decides on its first read; on a later one if the notification named an endpoint that the first lacked.
        let first_calls = aws.calls.iter().take_while(|call| *call == "DescribeVpcEndpointConnections").count();
        let decided = if first_calls > pages.len().max(1) { later } else { pages };
        let reported = |id: &str| decided.iter().flatten().find(|row| endpoint(row.number).as_str() == id);
        for (on, id) in &aws.accepted {
            let row = reported(id).expect("EC2 reported it in this run");
            prop_assert_eq!(row.owner, Some(DBT));
            prop_assert_eq!(on, &service(1).to_string());
            prop_assert_eq!(&row.service, on);
            prop_assert!(row.state.eq_ignore_ascii_case("pendingAcceptance"));
        }
        for (_, id) in &aws.rejected {
            prop_assert!(reject);
            prop_assert_eq!(reported(id).expect("EC2 reported it in this run").owner, Some(UNTRUSTED));
        }
        // And the other way round: every such request is accepted while there is room, whichever page it is on; but nothing
        // at all while EC2 describes a connection without saying which it is.
        let of_dbt = || decided.iter().flatten().filter(|row| row.owner == Some(DBT) && row.service == service(1).as_str());
        let is_in = |row: &&Row, states: &[&str]| states.iter().any(|state| row.state.eq_ignore_ascii_case(state));
        let due = of_dbt().filter(|row| is_in(row, &["pendingAcceptance"])).count();
        let no_room = ["pendingAcceptance", "rejected", "failed", "expired", "deleting", "deleted"];
        let taken = of_dbt().filter(|row| !is_in(row, &no_room)).count();
        let room = if limit == 0 { usize::MAX } else { limit.saturating_sub(taken) };
        let readable = decided.iter().flatten().all(|row| !row.service.is_empty());
        prop_assert_eq!(aws.accepted.len(), if readable { due.min(room) } else { 0 });
    }
}
