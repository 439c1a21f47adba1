//! `make inbox`: a page with example alerts in the look of email, Slack, Teams and phones, written to the named file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use guard_core::testing::examples;
use story::inbox::{self, InboxMessage};
use story::top;

fn main() -> Result<()> {
    let parsed = examples().into_iter().map(|(name, message)| {
        InboxMessage::new(&message.subject, &message.bodies()).with_context(|| format!("the example {name}"))
    });
    let messages = parsed.collect::<Result<Vec<InboxMessage>>>()?;
    let named = std::env::args_os().nth(1).map(PathBuf::from);
    let page = named.unwrap_or_else(|| top().join("target/inbox.html"));
    std::fs::write(&page, inbox::page("Example alerts", &messages))?;
    println!("The example alerts as a page, for the browser: {}", page.display());
    Ok(())
}
