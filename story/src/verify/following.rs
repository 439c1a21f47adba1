//! The chapter of target-follower. The hostname is the Application Load Balancer's, which has an address in each of two
//! zones, in AWS's public DNS: a function outside the VPC resolves it, as it does a database's.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::profiles::Profiles;
use super::steps;
use crate::chapters::{Chapter, ChapterRun};
use crate::local_aws::list;
use crate::stage::{Party, Wanted};

/// An address of the VPC's that the hostname does not have: nothing answers there.
const OTHER: &str = "10.99.0.10";

/// The targets follow a name of AWS's own.
pub const FOLLOWS: Chapter = Chapter {
    title: "the targets follow a hostname",
    expected: "the name's addresses are registered; another one is deregistered, but only once they are healthy",
    play: |run| {
        let stage = Profiles::of(run)?;
        let group = stage.output(Party::Provider, "FollowedTargetGroupArn")?;
        let follow = format!("ListenerPorts=5432+5433 FollowHostnames=replace FollowTargetGroups={group}");
        steps::deploy(run, &follow)?;
        wait(run, "registering ")?;
        let both = healthy(run, &group, &[])?;
        run.note("From the deployment to two healthy targets", format!("{:.0} s", run.since_step().as_secs_f32()));

        let targets = format!("--target-group-arn {group} --targets Id={OTHER}");
        let what = "network-admin registers an address that the name does not have";
        run.act(Party::Provider, what, &format!("elbv2 register-targets {targets}"))?;
        wait(run, &format!("deregistering {OTHER}"))?;
        healthy(run, &group, &both).map(drop)
    },
};

fn wait(run: &mut ChapterRun<'_>, words: &str) -> Result<()> {
    let wanted = Wanted { label: "NOTICE", check: "target-group.hostname", words };
    run.wait_for_within(run.stage().limits().health, wanted).map(drop)
}

/// Waits until exactly two targets are in use, both healthy: if any are `expected`, those. Returns their addresses.
fn healthy(run: &mut ChapterRun<'_>, group: &str, expected: &[String]) -> Result<Vec<String>> {
    let describe = format!("elbv2 describe-target-health --target-group-arn {group}");
    let limit = run.stage().limits().health;
    run.ask_until("only the name's addresses, both healthy", limit, &describe, |answer| {
        let rows = list(&answer["TargetHealthDescriptions"]);
        let in_use: Vec<&Value> = rows.filter(|row| row["TargetHealth"]["State"] != "draining").collect();
        let are_healthy = in_use.len() == 2 && in_use.iter().all(|row| row["TargetHealth"]["State"] == "healthy");
        let addresses = in_use.iter().filter_map(|row| row["Target"]["Id"].as_str().map(ToOwned::to_owned));
        let addresses: BTreeSet<String> = addresses.collect();
        let is_expected = expected.is_empty() || addresses == expected.iter().cloned().collect();
        (are_healthy && is_expected).then(|| addresses.into_iter().collect())
    })
    .context("the targets are not the name's addresses")
}
