//! Chapters on a database whose hostname the guard follows.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Chapter, ChapterRun};
use crate::local_aws::{list, text};
use crate::stage::Party;

/// The check on the targets' hostname.
const CHECK: &str = "target-group.hostname";

/// The database fails over.
pub const FAILS_OVER: Chapter = Chapter {
    title: "the company's database fails over: its hostname has another address",
    expected: "the guard registers that address, a notice; once it is healthy, dbt gets through",
    play: |run| {
        let (_, fail_over) = database(run)?;
        run.act(Party::Provider, "the database fails over, here because network-admin wants it to", &fail_over)?;
        let notice = run.wait_for("NOTICE", CHECK, "registering ")?;
        let new = address(&notice)?;
        wait_for_targets(run, &format!("{new} to be healthy"), |targets| health(targets, &new) == Some("healthy"))
    },
};

/// The old address is deregistered.
pub const OLD_ADDRESS: Chapter = Chapter {
    title: "the hostname has had its new address for a while",
    expected: "the guard deregisters the old one, a notice",
    play: |run| {
        // Other chapters may have taken that while.
        run.count_from_the_start();
        let notice = run.wait_for("NOTICE", CHECK, "deregistering ")?;
        let old = address(&notice)?;
        wait_for_targets(run, &format!("{old} to drain"), |targets| {
            health(targets, &old).is_none_or(|health| health == "draining")
        })
    },
};

fn database(run: &ChapterRun<'_>) -> Result<(String, String)> {
    run.scene.database.clone().context("the scene has a database")
}

/// The address in a notice: `registering 172.31.16.4:5432 in orders`.
fn address(notice: &Value) -> Result<String> {
    let summary = text(notice, "/summary")?;
    let target = summary.split(' ').nth(1).and_then(|target| target.split(':').next());
    target.map(ToOwned::to_owned).context("the notice names a target")
}

fn health<'a>(targets: &'a Value, address: &str) -> Option<&'a str> {
    let found = list(&targets["TargetHealthDescriptions"]).find(|row| row["Target"]["Id"] == address)?;
    found["TargetHealth"]["State"].as_str()
}

/// Waits until the targets of the followed group are as expected, and shows them.
fn wait_for_targets(run: &mut ChapterRun<'_>, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
    let describe = format!("elbv2 describe-target-health --target-group-arn {}", database(run)?.0);
    let limit = run.stage().limits().health;
    run.step("network-admin looks at the targets", &[format!("aws {describe}")]);
    let targets = run.ask_until(what, limit, &describe, |targets| is_so(targets).then(|| targets.clone()))?;
    for row in list(&targets["TargetHealthDescriptions"]) {
        run.print(&format!("{}  {}", text(row, "/Target/Id")?, text(row, "/TargetHealth/State")?));
    }
    Ok(())
}
