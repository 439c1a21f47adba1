//! The path that drift-watcher stores saves health-watcher reads without changing an answer.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use story::COMPANY;
use story::company::TARGETS;
use story::local_aws::{Caller, LocalAws, quoted, text};
use story::stack::GuardFunction::{DriftWatcher, HealthWatcher};
use story::stack::GuardStack;

use crate::api_calls;
use crate::environment::{FlowEnvironment, with_environment};

#[test]
fn a_path_that_is_missing_old_or_unreadable_is_read_anew() -> Result<()> {
    with_environment(|environment, _| {
        let FlowEnvironment { aws, .. } = environment;
        let path = PathItem::new(&environment.stack, &environment.postgres.service)?;
        let stored = || -> Result<()> {
            environment.run(DriftWatcher)?;
            ensure!(!reads_anew(environment)?, "drift-watcher has just stored it");
            Ok(())
        };
        stored()?;
        path.change(aws, |path| path["read_at"] = "2026-01-01T00:00:00Z".into())?;
        ensure!(reads_anew(environment)?, "it is older than two drift schedules");
        stored()?;
        path.change(aws, |path| path["load_balancers"] = "in another form".into())?;
        ensure!(reads_anew(environment)?, "it cannot be read");
        stored()?;
        path.remove(aws)?;
        ensure!(reads_anew(environment)?, "it is missing");
        stored()
    })
}

#[test]
fn a_contradicted_path_is_read_anew_before_an_alert() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, postgres, .. } = environment;
        let path = PathItem::new(&environment.stack, &environment.postgres.service)?;
        environment.run(DriftWatcher)?;

        // Elastic Load Balancing does not know the stored target group, as after a replacement.
        path.change(aws, |path| {
            let renamed = path.to_string().replace("targetgroup/postgres/", "targetgroup/replaced/");
            *path = serde_json::from_str(&renamed).unwrap_or_default();
        })?;
        ensure!(reads_anew(environment)?, "the target group is not found");

        environment.run(DriftWatcher)?;
        postgres.set_health(aws, TARGETS[0], "unhealthy")?;
        ensure!(reads_anew(environment)?, "a target fails");
        mailbox.wait("[WARNING]", "1 of 3 targets unhealthy in postgres")?;
        ensure!(!reads_anew(environment)?, "it still fails in the same way, and people know");

        postgres.set_health(aws, TARGETS[0], "healthy")?;
        ensure!(reads_anew(environment)?, "a stored path resolves nothing");
        mailbox.wait("[RESOLVED]", "3 of 3 targets healthy in postgres")?;
        ensure!(mailbox.emails()?.len() == 2, "nothing else was sent");
        Ok(())
    })
}

/// Whether a run of health-watcher reads more than the targets' health.
fn reads_anew(environment: &FlowEnvironment) -> Result<bool> {
    let calls = api_calls::of_one_run(&environment.aws, &environment.stack, HealthWatcher)?;
    Ok(calls.contains_key("elasticloadbalancing:DescribeListeners"))
}

/// The table item with the path of a service.
pub struct PathItem {
    table: String,
    key: Value,
}

impl PathItem {
    pub fn new(stack: &GuardStack, service: &str) -> Result<Self> {
        let key = json!({"service": {"S": service}, "item": {"S": format!("drift-watcher#path#{service}")}});
        Ok(Self { table: stack.output("StateTableName")?.to_owned(), key })
    }

    fn change(&self, aws: &LocalAws, change: impl FnOnce(&mut Value)) -> Result<()> {
        let root = Caller::root(COMPANY);
        let answer = aws.aws(&root, &format!("dynamodb get-item --table-name {} --key '{}'", self.table, self.key))?;
        let mut item = answer["Item"].clone();
        let mut record: Value = serde_json::from_str(&text(&item, "/record/S")?)?;
        change(record.pointer_mut("/state/path").context("the record of a path")?);
        item["record"]["S"] = record.to_string().into();
        aws.aws(&root, &format!("dynamodb put-item --table-name {} --item {}", self.table, quoted(&item))).map(drop)
    }

    pub fn remove(&self, aws: &LocalAws) -> Result<()> {
        let delete = format!("dynamodb delete-item --table-name {} --key '{}'", self.table, self.key);
        aws.aws(&Caller::root(COMPANY), &delete).map(drop)
    }
}
