//! Chapters on connections.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Chapter, ChapterRun, Requester};
use crate::local_aws::{list, text};
use crate::stage::{Party, eventually, remedy};

/// No account has asked yet.
pub const WAITING: Chapter = Chapter {
    title: "nobody has asked to connect yet",
    expected: "the guard says that it waits, and for whom",
    play: |run| {
        run.count_from_the_start();
        run.wait_for("INFO", "connection.absent", "waiting for dbt's connection request").map(drop)
    },
};

/// dbt asks.
pub const DBT_REQUESTS: Chapter = Chapter {
    title: "dbt requests a connection",
    expected: "accepted within seconds, a notice",
    play: |run| {
        let what = "dbt creates an endpoint to the company's service, from its own account";
        let endpoint = connect(run, Requester::Dbt, what)?;
        wait_until_available(run, &endpoint)?;
        let after = format!("{:.1} s after the request", run.since_step().as_secs_f32());
        run.note("Request accepted, connection available", after);
        run.wait_for("NOTICE", "connection", &format!("dbt is connected through {endpoint}")).map(drop)
    },
};

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
        let mut commands = remedy(&alert).into_iter().flat_map(str::lines);
        let reject = commands.find(|command| command.starts_with("aws ec2 reject-vpc-endpoint-connections"));
        run.run_printed(reject.context("the alert has no command that rejects it")?)?;
        run.wait_for("RESOLVED", "connection.dbt", "no dbt request is held")?;
        note_what_is_listed(run, &other, "rejected-connection")?;
        delete(run, Requester::OtherCustomer, "dbt deletes that endpoint")
    },
};

/// The service allows every account.
pub const EVERY_ACCOUNT_ALLOWED: Chapter = Chapter {
    title: "somebody allows every account to request a connection",
    expected: "a critical alert",
    play: |run| {
        allow(run, "network-admin allows every account", "--add-allowed-principals")?;
        run.wait_for("CRITICAL", "service.principals", "any AWS account may request a connection").map(drop)
    },
};

/// An untrusted account asks.
pub const UNTRUSTED_REQUESTS: Chapter = Chapter {
    title: "an untrusted account requests a connection",
    expected: "left pending, a warning",
    play: |run| {
        let endpoint = connect(run, Requester::Untrusted, "an untrusted account creates an endpoint")?;
        run.wait_for("WARNING", "connection.untrusted", "requests a connection")?;
        ensure_waits(run, &endpoint)
    },
};

/// The untrusted account gives up.
pub const UNTRUSTED_LEAVES: Chapter = Chapter {
    title: "the untrusted account deletes its endpoint",
    expected: "resolved",
    play: |run| {
        delete(run, Requester::Untrusted, "the untrusted account deletes it")?;
        run.wait_for("RESOLVED", "connection.untrusted", "").map(drop)
    },
};

/// The service allows only dbt again.
pub const ONLY_DBT_ALLOWED: Chapter = Chapter {
    title: "only dbt may request a connection again",
    expected: "resolved",
    play: |run| {
        allow(run, "network-admin takes that back", "--remove-allowed-principals")?;
        run.wait_for("RESOLVED", "service.principals", "").map(drop)
    },
};

/// dbt's endpoint is gone while another customer's request waits.
pub const DBT_LEAVES: Chapter = Chapter {
    title: "dbt deletes its endpoint, and the other customer's request still waits",
    expected: "a critical alert: dbt has lost its last endpoint; the other request does not get in",
    play: |run| {
        delete(run, Requester::Dbt, "dbt deletes its endpoint")?;
        run.wait_for("CRITICAL", "connection.absent", "")?;
        let gone = run.endpoint(Requester::Dbt)?;
        note_what_is_listed(run, &gone, "deleted-connection")?;
        let other = run.endpoint(Requester::OtherCustomer)?;
        ensure_waits(run, &other)
    },
};

fn ensure_waits(run: &mut ChapterRun<'_>, endpoint: &str) -> Result<()> {
    let state = listed_state(run, endpoint)?;
    let waits = state.as_deref().is_some_and(|state| state.eq_ignore_ascii_case("pendingAcceptance"));
    ensure!(waits, "the request {endpoint} is {state:?}");
    Ok(())
}

/// Creates an endpoint and returns its id. A service may still be unknown to an account that it has just allowed.
fn connect(run: &mut ChapterRun<'_>, requester: Requester, what: &str) -> Result<String> {
    let (stage, party) = (run.stage(), requester.party());
    let place = stage.endpoint_options(party)?;
    let service = &run.scene.service_name;
    let create = format!("ec2 create-vpc-endpoint --vpc-endpoint-type Interface --service-name {service} {place}");
    run.step(what, &[format!("aws {create}")]);
    let created =
        eventually(stage, "EC2 to know the service", stage.limits().connection, || match run.ask(party, &create) {
            Err(error) if format!("{error:#}").contains("InvalidServiceName") => Ok(None),
            answer => answer.map(Some),
        })?;
    let endpoint = text(&created, "/VpcEndpoint/VpcEndpointId")?;
    run.endpoints.insert(requester, endpoint.clone());
    Ok(endpoint)
}

fn delete(run: &mut ChapterRun<'_>, requester: Requester, what: &str) -> Result<()> {
    let endpoint = run.endpoint(requester)?;
    let delete = format!("ec2 delete-vpc-endpoints --vpc-endpoint-ids {endpoint}");
    let answer = run.act(requester.party(), what, &delete)?;
    ensure!(list(&answer["Unsuccessful"]).next().is_none(), "EC2 does not delete {endpoint}: {answer}");
    Ok(())
}

fn allow(run: &mut ChapterRun<'_>, what: &str, change: &str) -> Result<()> {
    let command = format!("ec2 modify-vpc-endpoint-service-permissions --service-id {}", run.scene.service);
    run.act(Party::Provider, what, &format!("{command} {change} '*'")).map(drop)
}

/// The state of an endpoint's connection in the company's list, if present. Reads all connections of the service, since
/// sources disagree on whether EC2 accepts a filter for the endpoint's id.
fn listed_state(run: &mut ChapterRun<'_>, endpoint: &str) -> Result<Option<String>> {
    let filter = format!("Name=service-id,Values={}", run.scene.service);
    let answer = run.ask(Party::Provider, &format!("ec2 describe-vpc-endpoint-connections --filters {filter}"))?;
    let mut rows = list(&answer["VpcEndpointConnections"]);
    let state = rows.find(|row| row["VpcEndpointId"] == endpoint).and_then(|row| row["VpcEndpointState"].as_str());
    if let Some(state) = state {
        run.sees("state-spelling", Ok(vec![json!(state)]));
    }
    Ok(state.map(ToOwned::to_owned))
}

fn note_what_is_listed(run: &mut ChapterRun<'_>, endpoint: &str, assumption: &'static str) -> Result<()> {
    let state = listed_state(run, endpoint)?;
    run.sees(assumption, Ok(vec![json!({"listed": state.is_some(), "VpcEndpointState": state})]));
    Ok(())
}

fn wait_until_available(run: &mut ChapterRun<'_>, endpoint: &str) -> Result<()> {
    let stage = run.stage();
    eventually(stage, &format!("{endpoint} to be available"), stage.limits().connection, || {
        Ok(listed_state(run, endpoint)?.filter(|state| state.eq_ignore_ascii_case("available")).map(drop))
    })
}
