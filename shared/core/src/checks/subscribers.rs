//! `delivery.subscribers`: does the alert topic have subscribers? Every SNS email has a link that ends its subscription
//! without a sign-in: one click is enough, even by a person to whom an alert was forwarded.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::check::{
    Branch, CheckResult, Command, Finding, Group, Region, Remedy, Severity, SilencedBy, Spec, Status, WhenMissing,
};
use crate::ids::Arn;
use crate::snapshot::CallError;
use crate::text::count;

/// The catalogue's row. It is about the alert topic, not about an endpoint service: see [`result`].
pub const SPEC: Spec = Spec {
    id: "delivery.subscribers",
    in_short: "Somebody is subscribed to the alerts, and no subscription was lost.",
    severities: &[
        (Severity::Critical, "nobody has been subscribed for 24 hours, or the last subscription is gone"),
        (Severity::Warning, "fewer are subscribed than at this hour yesterday"),
    ],
    fails_when: "the alert topic has no confirmed subscription, or fewer than a day ago",
    failing_word: "too few",
    impact: "dbt is not affected. When something breaks, nobody gets the alert, or fewer people do.",
    when_missing: WhenMissing::NotAsked,
    group: Group::Delivery,
    branch: Branch::Guard,
    can_stop_dbt: false,
    silenced_by: SilencedBy::Id,
    ..Spec::USUAL
};

const NOBODY_HEARS: &str = "Alerts reach nobody by email, chat or SMS. Only a pager (PagerTopicArn), if set, still reports critical ones, without \
     details.";

/// Minimum time between queries of the topic. drift-watcher's schedule may be slower.
const ASK_EVERY: SignedDuration = SignedDuration::from_mins(55);

/// Time for which a new topic may have no subscription.
const NOBODY_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Time for which the numbers are kept: an hour longer than the comparison needs.
const REMEMBER_FOR: SignedDuration = SignedDuration::from_hours(25);

/// The numbers of the alert topic's subscriptions, and no other facts about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribers {
    /// The time of the first query.
    pub since: Timestamp,
    /// The number of confirmed subscriptions at each query of the last 25 hours.
    pub numbers: BTreeMap<Timestamp, usize>,
    /// When the first subscription was confirmed after a time without any: nobody received earlier messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_since: Option<Timestamp>,
}

impl Subscribers {
    /// Whether the next query is due.
    pub fn is_due(before: Option<&Self>, now: Timestamp) -> bool {
        let last = before.and_then(|before| before.numbers.keys().next_back());
        last.is_none_or(|last| now.duration_since(*last) >= ASK_EVERY)
    }

    /// The next record, with the present number from SNS.
    pub fn next(before: Option<&Self>, number: usize, now: Timestamp) -> Self {
        let mut numbers = before.map(|before| before.numbers.clone()).unwrap_or_default();
        let had_none = numbers.values().next_back() == Some(&0);
        numbers.retain(|at, _| now.duration_since(*at) <= REMEMBER_FOR);
        numbers.insert(now, number);
        let heard_since = if had_none && number > 0 { Some(now) } else { before.and_then(|before| before.heard_since) };
        Self { since: before.map_or(now, |before| before.since), numbers, heard_since }
    }

    /// The number at this hour yesterday: the last one that is a day old, with half an hour of tolerance, because runs
    /// are not punctual.
    fn yesterday(&self, now: Timestamp) -> Option<usize> {
        let is_old = |at: &Timestamp| now.duration_since(*at) >= NOBODY_FOR - SignedDuration::from_mins(30);
        self.numbers.iter().rev().find(|(at, _)| is_old(at)).map(|(_, number)| *number)
    }
}

/// The result for the topic, given the present and the earlier numbers from SNS.
pub fn result(
    topic: &Arn,
    number: &Result<usize, CallError>,
    before: Option<&Subscribers>,
    (region, now): (&Region, Timestamp),
) -> CheckResult {
    let status = match number {
        Ok(number) => judge(topic, *number, before, (region, now)),
        Err(error) => Status::Unknown(format!(
            "the subscriptions are unknown: {error}. If the topic belongs to another account, its owner must add the \
             statements in the stack's output AlertTopicStatements"
        )),
    };
    CheckResult::new(&SPEC, topic, status)
}

fn judge(topic: &Arn, number: usize, before: Option<&Subscribers>, (region, now): (&Region, Timestamp)) -> Status {
    let last = before.and_then(|before| before.numbers.values().next_back()).copied();
    let most = before.and_then(|before| before.numbers.values().max()).copied().unwrap_or_default();
    let since = before.map_or(now, |before| before.since);
    let yesterday = before.and_then(|before| before.yesterday(now)).unwrap_or_default();
    let of = |number: usize| count(number, "confirmed subscription");
    let remedy = || {
        let show = Command::new("sns list-subscriptions-by-topic", region)
            .option("topic-arn", topic)
            .literal("--query 'Subscriptions[].[Protocol,Endpoint,SubscriptionArn]' --output text");
        Remedy::new(
            "The command shows who is subscribed. Subscribe whoever is missing: the runbook has the command. Confirm \
             with the token in AWS's email instead of its link: then unsubscribing needs a sign-in.",
            Some(show),
            None,
        )
    };
    let evidence =
        vec![format!("topic: {topic}"), format!("confirmed now: {number}, most in the last 25 hours: {most}")];
    let finding = |severity, summary: String, impact: &str| {
        Status::fail(Finding::new(severity, summary, impact, remedy()).with_evidence(evidence.clone()))
    };
    match number {
        0 if most > 0 => {
            finding(Severity::Critical, "nobody is subscribed to the alerts any more".to_owned(), NOBODY_HEARS)
        }
        0 if now.duration_since(since) >= NOBODY_FOR => {
            finding(Severity::Critical, "nobody is subscribed to the alerts".to_owned(), NOBODY_HEARS)
        }
        0 => Status::pass("no subscription to the alerts is confirmed yet"),
        _ if number < yesterday => finding(
            Severity::Warning,
            format!("{} to the alerts, {yesterday} a day ago", of(number)),
            "When something breaks, fewer people get the alert.",
        ),
        _ => Status::pass(match last {
            Some(last) if last != number => format!("{} to the alerts, was {last}", of(number)),
            _ => format!("{} to the alerts", of(number)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, call_error, region};

    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:alerts";

    /// The label and summary of each hour, and the resulting record.
    fn play(numbers: &[usize]) -> (Vec<String>, Subscribers) {
        let (mut before, mut told): (Option<Subscribers>, Vec<String>) = (None, Vec::new());
        for (number, hour) in numbers.iter().zip(0..) {
            let now = at(0, 0) + SignedDuration::from_hours(hour);
            let status = judge(&TOPIC.parse().unwrap(), *number, before.as_ref(), (&region(), now));
            told.push(match status {
                Status::Fail(finding) => format!("{}: {}", finding.severity.as_str(), finding.summary),
                status => format!("pass: {}", status.text()),
            });
            before = Some(Subscribers::next(before.as_ref(), *number, now));
        }
        (told, before.unwrap())
    }

    #[test]
    fn a_new_topic_may_have_no_subscription_for_a_day() {
        let (told, record) = play(&[0; 30]);
        assert!(
            told[..24].iter().all(|told| told == "pass: no subscription to the alerts is confirmed yet"),
            "{told:?}"
        );
        assert!(told[24..].iter().all(|told| told == "critical: nobody is subscribed to the alerts"), "{told:?}");
        assert!(record.numbers.len() <= 26 && record.heard_since.is_none());
    }

    #[test]
    fn the_loss_of_the_last_subscription_is_critical_at_once() {
        let (told, record) = play(&[2, 0, 0, 1]);
        assert_eq!(told[1..3], ["critical: nobody is subscribed to the alerts any more"; 2]);
        assert_eq!(told[3], "pass: 1 confirmed subscription to the alerts, was 0");
        assert_eq!(record.heard_since, Some(at(3, 0)));
        let lost_for_long = play(&[[1].as_slice(), &[0; 40]].concat()).0;
        assert!(lost_for_long[1..].iter().all(|told| told.starts_with("critical")), "{lost_for_long:?}");
    }

    #[test]
    fn fewer_subscriptions_than_yesterday_are_a_warning() {
        let (told, _) = play(&[[3; 25].as_slice(), &[2; 30]].concat());
        assert_eq!(told[24], "pass: 3 confirmed subscriptions to the alerts");
        assert_eq!(told[25], "warning: 2 confirmed subscriptions to the alerts, 3 a day ago");
        assert!(told[25..48].iter().all(|told| told.starts_with("warning")), "{told:?}");
        assert!(told.last().unwrap().starts_with("pass"), "it is no longer fewer than a day ago");
    }

    #[test]
    fn a_topic_that_cannot_be_read_is_unknown() {
        let denied = Err(call_error("sns:ListSubscriptionsByTopic"));
        let result = result(&TOPIC.parse().unwrap(), &denied, None, (&region(), at(8, 0)));
        assert!(matches!(&result.status, Status::Unknown(why) if why.contains("AlertTopicStatements")), "{result:?}");
        let asked = Subscribers::next(None, 1, at(8, 0));
        assert!(Subscribers::is_due(None, at(8, 0)) && Subscribers::is_due(Some(&asked), at(9, 0)));
        assert!(!Subscribers::is_due(Some(&asked), at(8, 45)));
    }
}
