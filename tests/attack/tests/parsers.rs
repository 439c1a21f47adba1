//! The parsers of all external input: events, settings, ids, stored records, names. `make fuzz` runs these tests until
//! it is stopped.

use attack::{End, FakeAws, play, run_once};
use guard_aws::events;
use guard_core::alerts::record::{Key, Partition, Record};
use guard_core::alerts::transition::{Kind, Transition};
use guard_core::check::{Finding, Severity};
use guard_core::config::Settings;
use guard_core::ids::{AccountId, Arn, EndpointId, ServiceId, mentioned};
use guard_core::message::{Envelope, Message};
use guard_core::testing::{at, change, finding, origin, service};
use guard_core::trigger::Trigger;
use proptest::prelude::*;
use serde_json::{Value, json};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::corpus::{corpus, fuzz};

/// Whether `c` is invisible, or reverses the direction of a line.
fn is_hidden(c: char) -> bool {
    matches!(c.general_category(), GeneralCategory::Control | GeneralCategory::Format)
}

#[test]
fn every_event_yields_a_trigger_and_a_visible_log_line() {
    fuzz("events", 4_000, |text| {
        let event: Value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        let trigger = events::parse(&event);
        if let Trigger::Notification { mentions, .. } = &trigger {
            let is_id = |id: &String| id.parse::<ServiceId>().is_ok() || id.parse::<EndpointId>().is_ok();
            prop_assert!(mentions.iter().all(is_id));
        }
        if let Trigger::Change(change) = &trigger {
            prop_assert!(!change.to_string().contains(is_hidden), "{:?}", change);
        }
        Ok(())
    });
}

#[test]
fn settings_trust_only_the_accounts_that_they_contain() {
    fuzz("settings", 4_000, |text| {
        let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let lookup = |name: &str| lines.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        match Settings::from_lookup(lookup) {
            Err(problems) => {
                let problems = problems.to_string();
                let named =
                    problems.lines().skip(1).filter(|line| line.starts_with("  ") && line.contains("; expected "));
                prop_assert!(named.count() > 0, "{}", problems);
            }
            Ok(Settings { policy, alert_topic, .. }) => {
                let principals = lookup("DBT_PRINCIPALS").unwrap();
                prop_assert!(!principals.contains('*'));
                prop_assert!(!policy.dbt_accounts.is_empty() && !policy.services.is_empty());
                for account in &policy.dbt_accounts {
                    prop_assert!(principals.contains(account.as_str()), "{} is not in {}", account, principals);
                    prop_assert!(!policy.known_accounts.contains(account));
                }
                let services = lookup("ENDPOINT_SERVICE_IDS").unwrap();
                prop_assert!(policy.services.iter().all(|service| services.contains(service.as_str())));
                prop_assert!(policy.dbt_cidrs.iter().all(|cidr| cidr.trunc() == *cidr));
                prop_assert!(policy.alert_after >= 1 && policy.resolve_after >= 1);
                prop_assert_eq!(alert_topic.service(), "sns");
            }
        }
        Ok(())
    });
}

#[test]
fn a_parsed_id_equals_its_input() {
    fuzz("names", 4_000, |text| {
        let words: Vec<&str> = text.split_whitespace().chain([text]).collect();
        for word in words {
            if let Ok(account) = word.parse::<AccountId>() {
                prop_assert!(word.len() == 12 && word.bytes().all(|b| b.is_ascii_digit()) && account.as_str() == word);
            }
            let ids = [
                word.parse::<ServiceId>().map(|id| id.to_string()),
                word.parse::<EndpointId>().map(|id| id.to_string()),
            ];
            for id in ids.into_iter().flatten() {
                prop_assert!(
                    id == word && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                );
            }
            if let Ok(arn) = word.parse::<Arn>() {
                let parts = [arn.partition(), arn.service(), arn.region(), arn.account(), arn.resource()];
                prop_assert_eq!(format!("arn:{}", parts.join(":")), word);
            }
        }
        let found = mentioned(text);
        prop_assert!(found.iter().all(|id| text.contains(id.as_str())));
        Ok(())
    });
}

#[test]
fn a_stored_record_is_read_exactly_or_not_at_all() {
    fuzz("records", 4_000, |text| {
        if let Ok(record) = serde_json::from_str::<Record>(text) {
            let again = serde_json::to_string(&record).unwrap();
            prop_assert_eq!(serde_json::from_str::<Record>(&again).unwrap(), record);
        }
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
        Ok(())
    });
}

/// Whatever the change to a table item, the run completes and sends the failure, unless the item records that it was
/// sent or silences it.
#[test]
fn no_corrupt_item_keeps_a_run_from_sending_failures() {
    let keys = [
        "drift-watcher#service.principals#vpce-svc-00000000000000001",
        "*#silence#x",
        "drift-watcher#path#vpce-svc-00000000000000001",
        "drift-watcher#connection#vpce-00000000000000001",
    ];
    fuzz("records", 40, |text| {
        let others = [1].into();
        let fake = FakeAws { others_allowed: others, ..FakeAws::new(1) };
        let aws = fake.shared();
        for key in keys {
            aws.lock().unwrap().table.add(service(1).as_str(), key, text);
        }
        let end = play(async { run_once("drift-watcher", &aws, &[], "run").await });
        prop_assert_eq!(end, End::Done);
        let is_readable = serde_json::from_str::<Record>(text).is_ok();
        let fake = aws.lock().unwrap();
        let is_sent = fake.published.iter().any(|sent| sent.check == "service.principals" && sent.kind == "firing");
        prop_assert!(is_sent || is_readable, "{:?}", fake.published);
        Ok(())
    });
}

/// A message in which every name that AWS users can choose is this name.
fn message(name: &str) -> Message {
    let partition = Partition::Service(service(1));
    let origin = origin();
    let envelope =
        Envelope { partition: &partition, name: Some(name), origin: &origin, function: "drift-watcher", banner: None };
    let finding = Finding {
        summary: format!("2 of 3 targets unhealthy in {name}"),
        evidence: vec![name.to_owned(), format!("group: {name}")],
        cause: Some(change()),
        ..finding(Severity::Critical)
    };
    let about = ("target-group.health", name);
    let transition = |kind| Transition {
        unknown: Some(name.to_owned()),
        ..Transition::new(kind, about, "i", finding.clone(), at(8, 0))
    };
    Message::new(envelope, &[&[transition(Kind::Firing)], &[transition(Kind::Notice)], &[transition(Kind::Resolved)]])
}

/// The lines that begin like a shell command.
fn commands(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_start).filter(|line| line.starts_with("aws ") || line.starts_with("--")).collect()
}

/// The text that Slack shows.
fn description(message: &Message) -> String {
    let chat: Value = serde_json::from_str(&message.chat).unwrap();
    chat["content"]["description"].as_str().unwrap().to_owned()
}

/// No resource name can inject a line, a command, a link or a change of direction into a message.
#[test]
fn a_forged_name_injects_no_line_command_or_markup() {
    let plain = message("postgres");
    fuzz("names", 500, |name| {
        // The maximum length of a tag.
        let name = name.chars().take(256).collect::<String>();
        let name = name.as_str();
        let message = message(name);
        let is_line = |text: &str, most: usize| text.len() <= most && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        prop_assert!(is_line(&message.subject, 100) && is_line(&message.sms, 140), "{}", message.subject);
        prop_assert!(message.subject.starts_with("[CRITICAL] "));
        prop_assert!(!message.text.contains(|c| is_hidden(c) && c != '\n'), "{:?}", message.text);
        let is_empty = name.chars().all(|c| is_hidden(c) || c.is_whitespace());
        if !is_empty {
            prop_assert_eq!(message.text.lines().count(), plain.text.lines().count(), "{}", message.text);
        }
        prop_assert_eq!(commands(&message.text), commands(&plain.text));
        // Between fences, Slack shows plain text, and no name can end a fence.
        let shown = description(&message);
        prop_assert!(shown.matches("```").count().is_multiple_of(2), "{}", shown);
        let marked_up: String = shown.split("```").step_by(2).collect();
        for forged in ["<!channel", "<https://evil", "](https://evil", "`x`", "*pg*", "\u{202e}", "\u{2066}", "\u{1b}"]
        {
            prop_assert!(!marked_up.contains(forged), "{}: {}", forged, shown);
        }
        let data: Value = serde_json::from_str(&message.data).unwrap();
        prop_assert_eq!(data["transitions"].as_array().map(Vec::len), Some(3));
        prop_assert!(message.bodies().len() <= 256 * 1024);
        Ok(())
    });
    assert!(corpus("names").len() >= 5);
}
