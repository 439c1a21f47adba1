//! Records that the first version wrote. Their form is another (`memory`, `untold`, `thread`), so they cannot be read, and
//! what cannot be read may have recorded anything: what fails is sent again, and nothing that fails is lost.

use serde_json::{Value, json};

use super::reconcile::{Report, Round};
use super::record::{Item, Items, Key, Partition, Record, Version};
use super::run::Run;
use super::transition::Kind;
use crate::checks::catalogue;
use crate::checks::{CheckResult, Severity, Status};
use crate::testing::{at, finding, policy, region, service};

const FUNCTION: &str = "drift-watcher";

/// As `Record` was serialized by the first version, for an alert that people had heard of.
fn firing() -> Value {
    json!({
        "memory": {"alert": {
            "phase": "firing", "severity": "warning", "bad": 1, "good": 0, "since": "2026-01-01T08:00:00Z",
            "last_said": "2026-01-01T08:00:00Z", "thread": "vpce-svc-00000000000000001/2026-01-01T08:00:00Z",
            "finding": {
                "severity": "warning", "summary": "cross-zone load balancing is off", "meaning": "One zone fails.",
                "evidence": [], "remedy": {"what": "Switch it on.", "console": "https://console.aws.amazon.com/ec2"},
            },
        }},
        "transitions": 1,
    })
}

/// With a transition that SNS had not taken yet.
fn untold() -> Value {
    let mut record = firing();
    let finding = record["memory"]["alert"]["finding"].clone();
    record["untold"] = json!([{
        "number": 1, "kind": "firing", "check": "load-balancer.cross-zone", "resource": "postgres",
        "at": "2026-01-01T08:00:00Z", "since": "2026-01-01T08:00:00Z", "thread": "incident", "finding": finding,
    }]);
    record["telling_until"] = json!("2026-01-01T08:02:00Z");
    record
}

fn connection() -> Value {
    json!({
        "memory": {"connection": {
            "owner": "444455556666", "state": "available", "since": "2026-01-01T08:00:00Z", "established": true,
            "gone": false,
        }},
        "transitions": 1,
    })
}

/// As the store reads an item of the table.
fn item(record: &Value, version: u64) -> Item {
    Item { record: serde_json::from_str(&record.to_string()).ok(), version: Version::At(version) }
}

/// What a run that finds `status` sends, and the versions that it replaces.
fn upgraded(record: &Value, status: Status) -> Vec<(Kind, Option<Version>)> {
    let check = catalogue::find("load-balancer.cross-zone").unwrap();
    let stored: Key = "drift-watcher#load-balancer.cross-zone#postgres".parse().unwrap();
    let items: Items = [(stored, item(record, 7))].into();
    let (policy, region) = (policy(), region());
    let partition = Partition::Service(service(1));
    let result = CheckResult::new(check, "postgres", status);
    let round = Round { observed_at: at(9, 0), checks: vec![check], results: vec![result] };
    let run = Run { id: "run", function: FUNCTION, policy: &policy, region: &region, now: at(9, 0) };
    let updates = run.updates(&Report::new(&partition, vec![round]), &items);
    let sent = |update: super::reconcile::Update| {
        let expected = update.expected;
        update.record.outbox.into_iter().map(move |transition| (transition.kind, expected)).collect::<Vec<_>>()
    };
    updates.into_iter().flat_map(sent).collect()
}

#[test]
fn no_record_of_the_first_version_is_taken_for_something_else() {
    for record in [firing(), untold(), connection()] {
        assert!(serde_json::from_value::<Record>(record).is_err());
    }
}

#[test]
fn what_still_fails_is_sent_again_and_replaces_the_old_record() {
    for record in [firing(), untold()] {
        let sent = upgraded(&record, Status::Fail(Box::new(finding(Severity::Warning))));
        assert_eq!(sent, [(Kind::Firing, Some(Version::At(7)))]);
    }
}

#[test]
fn what_passes_by_now_is_not_announced() {
    for record in [firing(), untold()] {
        assert_eq!(upgraded(&record, Status::Pass("right".to_owned())), []);
    }
}
