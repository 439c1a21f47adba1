//! The calls of `status`: the stack and the identity, then everything else at once.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use guard_aws::notify::{AlertTopic, LIST_SUBSCRIPTIONS, SubscriptionState};
use guard_aws::observe::{MetricQuery, Observer, Series, pace};
use guard_core::ids::Arn;
use guard_core::snapshot::Observed;
use jiff::{SignedDuration, Timestamp};

use super::known::{FunctionStatus, GuardStatus, Runs, SCHEMA_VERSION, StackStatus, SubscriptionsStatus, seconds};
use crate::memory::GuardMemory;
use crate::session::{Session, explained};
use crate::stack::DeployedStack;

/// The IAM action of the call that the other commands do not make.
pub const ACTION: &str = LIST_SUBSCRIPTIONS;

/// The time that Lambda's metrics are asked for.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The resolution of Lambda's metrics.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// The functions, with the output that names each in Lambda, if it is deployed, and the parameter of its schedule, or
/// the schedule itself.
const FUNCTIONS: [(&str, &str, &str); 4] = [
    ("connection-acceptor", "ConnectionAcceptorName", "AcceptorSchedule"),
    ("health-watcher", "HealthWatcherName", "HealthSchedule"),
    ("drift-watcher", "DriftWatcherName", "DriftSchedule"),
    ("target-follower", "TargetFollowerName", "rate(1 minute)"),
];

/// The metrics of a function: namespace, name, statistic and dimension.
const METRICS: [(&str, &str, &str, &str); 3] = [
    ("AWS/Lambda", "Invocations", "Sum", "FunctionName"),
    ("AWS/Lambda", "Errors", "Sum", "FunctionName"),
    ("PrivatelinkGuard", "OldestReadSeconds", "Maximum", "Function"),
];

/// Asks the guard that the stack `name` deployed.
///
/// # Errors
/// If there is no such stack, if it is not the guard's or not deployed, or if nothing else could be read.
pub async fn status(session: &Session, name: &str, now: Timestamp) -> Result<GuardStatus> {
    let (stack, identity) = tokio::join!(DeployedStack::read(session, name), session.identity());
    let stack = stack?;
    let (memory, runs, subscriptions) =
        tokio::join!(GuardMemory::load(session, &stack), runs(session, &stack, now), subscriptions(session, &stack));
    let memory = memory?;
    let mut status = GuardStatus {
        schema_version: SCHEMA_VERSION,
        account_id: identity.ok().map(|identity| identity.account),
        region: session.region.clone(),
        asked_at: seconds(now),
        stack: StackStatus {
            name: name.to_owned(),
            status: stack.status.clone(),
            deployed_at: stack.deployed_at.map(seconds),
            dry_run: stack.parameters.get("DryRun").is_some_and(|dry_run| dry_run == "true"),
        },
        alerts: Vec::new(),
        silences: Vec::new(),
        endpoints: Vec::new(),
        functions: Vec::new(),
        subscriptions: None,
        unknown: Vec::new(),
    };
    let unknown = [
        memory.unread().map(|why| format!("Alerts, silences and endpoints: {why}")),
        runs.as_ref().err().map(|error| format!("The functions' runs: {}", explained(error))),
        subscriptions.as_ref().err().map(|why| format!("Who receives the alerts: {why}")),
    ];
    ensure!(unknown.iter().any(Option::is_none), unknown.into_iter().flatten().collect::<Vec<_>>().join("\n"));
    status.unknown.extend(unknown.into_iter().flatten());
    for (partition, items) in &memory.partitions {
        if let Ok(items) = items {
            status.add(partition, items, now);
        }
    }
    let runs = runs.ok();
    let function = |(index, (function, _, schedule)): (usize, (&str, &str, &str))| {
        let schedule = stack.parameters.get(schedule).map_or(schedule, String::as_str);
        let runs = runs.as_ref().and_then(|runs| runs.get(index)).copied();
        FunctionStatus::new(function, schedule, runs, (stack.deployed_at, now))
    };
    status.functions = deployed(&stack).enumerate().map(function).collect();
    status.subscriptions = subscriptions.ok();
    Ok(status)
}

fn deployed(stack: &DeployedStack) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    FUNCTIONS.into_iter().filter(|(_, output, _)| stack.outputs.contains_key(*output))
}

/// The runs of each function in the last day: one call.
async fn runs(session: &Session, stack: &DeployedStack, now: Timestamp) -> Observed<Vec<Runs>> {
    let query = |name: &str, (namespace, metric, statistic, dimension)| MetricQuery {
        namespace,
        name: metric,
        statistic,
        dimensions: vec![(dimension, name.to_owned())],
        period: MINUTE,
    };
    let names = deployed(stack).map(|(_, output, _)| &stack.outputs[output]);
    let queries: Vec<MetricQuery> = names.flat_map(|name| METRICS.map(|metric| query(name, metric))).collect();
    let observer = Observer::new(&session.config, pace::ELB, BTreeSet::new());
    let series = observer.series(&queries, now - DAY, now).await?;
    Ok(series.chunks(METRICS.len()).map(runs_of).collect())
}

/// The runs in a function's series, in the order of [`METRICS`].
fn runs_of(series: &[Series]) -> Runs {
    let sum = |series: Option<&Series>| -> u64 {
        let values = series.into_iter().flatten();
        // Counts, so whole numbers far below the limit.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        values.map(|(_, value)| *value as u64).sum()
    };
    let last = series.first().into_iter().flatten().filter(|(_, value)| *value > 0.0).map(|(time, _)| *time).max();
    let oldest = series.get(2).and_then(|series| series.last()).copied();
    Runs {
        last,
        number: sum(series.first()),
        errors: sum(series.get(1)),
        oldest_read_seconds: oldest.map(|oldest| sum(Some(&vec![oldest]))),
    }
}

/// The subscriptions of the alert topic, or why they are unknown.
async fn subscriptions(session: &Session, stack: &DeployedStack) -> Result<SubscriptionsStatus, String> {
    let topic = stack.outputs.get("AlertTopicArn").and_then(|topic| topic.parse::<Arn>().ok());
    let topic = topic.ok_or("The stack has no output AlertTopicArn.")?;
    let all = AlertTopic::new(&session.config, &topic).subscriptions().await.map_err(|error| explained(&error))?;
    let in_state = |state: SubscriptionState| {
        let protocols = all.iter().filter(|subscription| subscription.state == state);
        protocols.map(|subscription| subscription.protocol.clone()).collect()
    };
    Ok(SubscriptionsStatus {
        topic_arn: topic.to_string(),
        confirmed: in_state(SubscriptionState::Confirmed),
        pending: in_state(SubscriptionState::Pending),
    })
}
