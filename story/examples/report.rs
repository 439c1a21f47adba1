//! An example report of `make verify` for a made-up run, for the browser tests and for a look:
//! `cargo run --package story --example report -- FOLDER`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;
use serde_json::json;
use story::REGION;
use story::chapters::{ChapterOutcome, ChapterResult, Exchange, Sight, connections, health};
use story::stage::{Party, SentAlert};
use story::verify::account::Account;
use story::verify::profiles::Profiles;
use story::verify::report::VerifyReport;
use story::verify::stacks::Names;
use story::verify::steps::{self, VerifyFindings};
use story::verify::teardown::{Left, Removal};

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("the folder to write to"));
    std::fs::create_dir_all(&folder).unwrap();
    let accounts = [(Party::Provider, account(story::COMPANY)), (Party::Consumer, account(story::DBT))];
    let names = Names { run: "0123abcd".to_owned() };
    let stage = Profiles::new(accounts.into(), names, &folder, Arc::default());
    let findings = VerifyFindings::default();
    findings.notifications.borrow_mut().push(r#"{"eventName": "Connect", "serviceId": "vpce-svc-0123"}"#.to_owned());
    let report = VerifyReport {
        began: Timestamp::from_second(1_773_475_200).unwrap(),
        took: Duration::from_secs(3725),
        interrupted: false,
        played: played(),
        removals: vec![
            Removal { what: "the guard".to_owned(), result: Ok(()) },
            Removal { what: "the endpoint service".to_owned(), result: Err(anyhow!("DELETE_FAILED")) },
        ],
        left: vec![Left {
            what: "stack privatelink-guard-verify-0123abcd-service".to_owned(),
            command: "aws cloudformation delete-stack --stack-name privatelink-guard-verify-0123abcd-service"
                .to_owned(),
        }],
        findings,
        stage: &stage,
    };
    std::fs::write(folder.join("verify.html"), report.page().unwrap()).unwrap();
}

fn account(id: &str) -> Account {
    let (profile, region, endpoint) = ("a".to_owned(), REGION.to_owned(), None);
    Account { profile, region, endpoint, id: id.to_owned(), caller: format!("arn:aws:iam::{id}:user/admin") }
}

/// One chapter of each kind.
fn played() -> Vec<ChapterResult> {
    let state = json!({"VpcEndpointConnections": [{"VpcEndpointState": "available", "VpcEndpointOwner": story::DBT}]});
    let transition =
        json!({"check": "connection", "kind": "notice", "severity": "info", "summary": "dbt is connected"});
    let alert = SentAlert {
        number: 1,
        subject: "[NOTICE] verify: dbt is connected".to_owned(),
        received: Timestamp::UNIX_EPOCH,
        content: json!({"transitions": [transition]}),
    };
    let chapter = |(title, expected): (&'static str, &'static str), outcome: ChapterOutcome| ChapterResult {
        title,
        expected,
        outcome,
        took: Duration::from_millis(65_432),
        exchanges: Vec::new(),
        alerts: Vec::new(),
        facts: Vec::new(),
        sights: Vec::new(),
    };
    let (requests, fails) = (connections::DBT_REQUESTS, health::TARGET_FAILS);
    let connected = ChapterResult {
        exchanges: vec![Exchange {
            party: Party::Provider,
            command: "aws ec2 describe-vpc-endpoint-connections".to_owned(),
            answer: Ok(state),
            times: 7,
        }],
        alerts: vec![(alert, Duration::from_millis(2_300))],
        facts: vec![("Request accepted, connection available".to_owned(), "41.5 s after the request".to_owned())],
        sights: vec![Sight { assumption: connections::STATE_SPELLING, seen: Ok(json!("pendingAcceptance")) }],
        ..chapter((requests.title, requests.expected), ChapterOutcome::AsExpected)
    };
    let failed = ChapterOutcome::Failed(anyhow!("waited 600 s for [CRITICAL] target-group.health"));
    vec![
        connected,
        chapter((fails.title, fails.expected), failed),
        chapter(steps::CHANGE, ChapterOutcome::Skipped("no trail records management events in this Region".to_owned())),
    ]
}
