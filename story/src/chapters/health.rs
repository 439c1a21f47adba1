//! Chapters on targets.

use super::{Chapter, ChapterRun};
use crate::stage::Wanted;
use anyhow::Result;

/// The target fails.
pub const TARGET_FAILS: Chapter = Chapter {
    title: "a target fails its health checks",
    expected: "an alert with the numbers",
    play: |run| {
        let (label, words) = run.scene.unhealthy;
        set(run, false)?;
        wait(run, Wanted { label, check: "target-group.health", words })
    },
};

/// The target works again.
pub const TARGET_RECOVERS: Chapter = Chapter {
    title: "the target recovers",
    expected: "resolved",
    play: |run| {
        set(run, true)?;
        wait(run, Wanted { label: "RESOLVED", check: "target-group.health", words: "" })
    },
};

fn set(run: &mut ChapterRun<'_>, healthy: bool) -> Result<()> {
    run.step(
        if healthy { "the target passes its health checks again" } else { "the target fails its health checks" },
        &[],
    );
    for command in run.stage().set_target_health(healthy)? {
        run.note("What makes it so", command);
    }
    Ok(())
}

fn wait(run: &mut ChapterRun<'_>, wanted: Wanted<'_>) -> Result<()> {
    run.wait_for_within(run.stage().limits().health, wanted).map(drop)
}
