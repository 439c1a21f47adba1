//! Chapters on who connects.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Chapter, ChapterRun, Requester, shown};
use crate::local_aws::text;
use crate::stage::{Party, eventually};

/// Nobody has asked yet.
pub const WAITING: Chapter = Chapter {
    title: "nobody has asked to connect yet",
    expected: "the guard says that it waits, and for whom",
    play: |run| {
        run.count_from_the_start();
        run.wait_for("INFO", "connection.absent", "waiting for dbt's connection request").map(drop)
    },
};

/// dbt asks.
pub const DBT_REQUESTS: Chapter =
    Chapter { title: "dbt requests a connection", expected: "accepted within seconds, a notice", play: dbt_requests };

/// Another customer of dbt's asks.
pub const OTHER_CUSTOMER_REQUESTS: Chapter = Chapter {
    title: "another customer of dbt's requests a connection, from the same account of dbt's",
    expected: "held, a warning",
    play: |run| {
        let what = "another customer types the service's name into dbt's form, and dbt creates an endpoint for them";
        let endpoint = connect(run, Requester::OtherCustomer, what)?;
        run.wait_for("WARNING", "connection.dbt", &format!("{endpoint} of "))?;
        ensure_waits(run, &endpoint)?;
        run.check("network-admin looks at the path", &format!("{endpoint}, "))
    },
};

/// The administrator answers.
pub const OTHER_CUSTOMER_IS_REJECTED: Chapter = Chapter {
    title: "dbt Support says that the waiting request is not the company's",
    expected: "rejected with the command from the alert, resolved",
    play: |run| {
        let other = run.endpoint(Requester::OtherCustomer)?;
        run.count_from_the_start();
        let alert = run.wait_for("WARNING", "connection.dbt", &format!("{other} of "))?;
        let mut evidence = alert["evidence"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let reject = evidence.find_map(|line| line.strip_prefix("not yours? Reject it: "));
        run.run_printed(reject.context("the alert has no command that rejects it")?)?;
        run.wait_for("RESOLVED", "connection.dbt", "no dbt request is held")?;
        delete(run, Requester::OtherCustomer, "dbt deletes that endpoint")
    },
};

/// Everybody may ask.
pub const EVERY_ACCOUNT_ALLOWED: Chapter = Chapter {
    title: "somebody allows every account to request a connection",
    expected: "a critical alert",
    play: |run| {
        allow(run, "network-admin allows every account", "--add-allowed-principals")?;
        run.wait_for("CRITICAL", "service.principals", "any AWS account may request a connection").map(drop)
    },
};

/// Somebody else asks.
pub const UNTRUSTED_REQUESTS: Chapter = Chapter {
    title: "an untrusted account requests a connection",
    expected: "left pending, a warning",
    play: untrusted_requests,
};

/// Somebody else gives up.
pub const UNTRUSTED_LEAVES: Chapter = Chapter {
    title: "the untrusted account deletes its endpoint",
    expected: "resolved",
    play: |run| {
        delete(run, Requester::Untrusted, "the untrusted account deletes it")?;
        run.wait_for("RESOLVED", "connection.untrusted", "").map(drop)
    },
};

/// Only dbt may ask again.
pub const ONLY_DBT_ALLOWED: Chapter = Chapter {
    title: "only dbt may request a connection again",
    expected: "resolved",
    play: |run| {
        allow(run, "network-admin takes that back", "--remove-allowed-principals")?;
        run.wait_for("RESOLVED", "service.principals", "").map(drop)
    },
};

/// dbt's endpoint is gone, while another customer's request waits.
pub const DBT_LEAVES: Chapter = Chapter {
    title: "dbt deletes its endpoint, and the other customer's request still waits",
    expected: "a critical alert: dbt has lost its last endpoint; the other request does not get in",
    play: |run| {
        delete(run, Requester::Dbt, "dbt deletes its endpoint")?;
        run.wait_for("CRITICAL", "connection.absent", "")?;
        let other = run.endpoint(Requester::OtherCustomer)?;
        ensure_waits(run, &other)
    },
};

fn dbt_requests(run: &mut ChapterRun<'_>) -> Result<()> {
    let endpoint =
        connect(run, Requester::Dbt, "dbt creates an endpoint to the company's service, from its own account")?;
    wait_for_state(run, &endpoint, "available")?;
    run.note(
        "Request accepted, connection available",
        format!("{:.1} s after the request", run.since_step().as_secs_f32()),
    );
    run.wait_for("NOTICE", "connection", &format!("dbt is connected through {endpoint}")).map(drop)
}

fn untrusted_requests(run: &mut ChapterRun<'_>) -> Result<()> {
    let endpoint = connect(run, Requester::Untrusted, "an untrusted account creates an endpoint")?;
    run.wait_for("WARNING", "connection.untrusted", "requests a connection")?;
    ensure_waits(run, &endpoint)
}

fn ensure_waits(run: &mut ChapterRun<'_>, endpoint: &str) -> Result<()> {
    let state = state(&run.ask(Party::Provider, &connection(run, endpoint).each_ref().map(String::as_str))?);
    ensure!(state.as_deref() == Some("pendingAcceptance"), "the request {endpoint} is {state:?}");
    Ok(())
}

/// Creates an endpoint. Its id. A service that has just been allowed to an account can still be unknown to it.
fn connect(run: &mut ChapterRun<'_>, requester: Requester, what: &str) -> Result<String> {
    let party = requester.party();
    let place = run.stage().endpoint_arguments(party)?;
    let service = run.scene.service_name.clone();
    let mut command =
        vec!["ec2", "create-vpc-endpoint", "--vpc-endpoint-type", "Interface", "--service-name", &service];
    command.extend(place.iter().map(String::as_str));
    run.step(what, &[shown(&command)]);
    let (stage, limit) = (run.stage(), run.stage().limits().connection);
    let created = eventually(stage, "EC2 to know the service", limit, || match run.ask(party, &command) {
        Err(error) if format!("{error:#}").contains("InvalidServiceName") => Ok(None),
        answer => answer.map(Some),
    })?;
    let endpoint = text(&created, "/VpcEndpoint/VpcEndpointId")?;
    run.endpoints.insert(requester, endpoint.clone());
    Ok(endpoint)
}

fn delete(run: &mut ChapterRun<'_>, requester: Requester, what: &str) -> Result<()> {
    let endpoint = run.endpoint(requester)?;
    let answer = run.act(requester.party(), what, &["ec2", "delete-vpc-endpoints", "--vpc-endpoint-ids", &endpoint])?;
    let refused = answer["Unsuccessful"].as_array().is_some_and(|items| !items.is_empty());
    ensure!(!refused, "EC2 does not delete {endpoint}: {answer}");
    Ok(())
}

fn allow(run: &mut ChapterRun<'_>, what: &str, change: &str) -> Result<()> {
    let service = &run.scene.service;
    let command = ["ec2", "modify-vpc-endpoint-service-permissions", "--service-id", service, change, "*"];
    run.act(Party::Provider, what, &command).map(drop)
}

/// The command that describes an endpoint's connection, as the company sees it. EC2 may refuse a filter by the endpoint's id.
fn connection(run: &ChapterRun<'_>, endpoint: &str) -> [String; 6] {
    let service = format!("Name=service-id,Values={}", run.scene.service);
    // The story is shown with single quotes around it.
    let selected = format!("VpcEndpointConnections[?VpcEndpointId==`\"{endpoint}\"`]");
    ["ec2", "describe-vpc-endpoint-connections", "--filters", &service, "--query", &selected].map(ToOwned::to_owned)
}

fn state(connections: &Value) -> Option<String> {
    connections.pointer("/0/VpcEndpointState").and_then(Value::as_str).map(ToOwned::to_owned)
}

fn wait_for_state(run: &mut ChapterRun<'_>, endpoint: &str, wanted: &str) -> Result<()> {
    let (command, limit) = (connection(run, endpoint), run.stage().limits().connection);
    let is_there = |answer: &Value| (state(answer)?.eq_ignore_ascii_case(wanted)).then_some(());
    run.ask_until(&format!("{endpoint} to be {wanted}"), limit, &command.each_ref().map(String::as_str), is_there)
}
