//! `make inbox`: a page with example alerts, as email, Slack, Teams and phones show them.

use anyhow::{Context, Result};
use guard_core::testing::examples;
use story::inbox::{self, InboxMessage};
use story::local_aws::top;

fn main() -> Result<()> {
    let parsed = examples().into_iter().map(|(name, message)| {
        InboxMessage::new(&message.subject, &message.bodies()).with_context(|| format!("the example {name}"))
    });
    let messages = parsed.collect::<Result<Vec<InboxMessage>>>()?;
    let page = top().join("target/inbox.html");
    std::fs::write(&page, inbox::page("Example alerts", &messages))?;
    println!("The example alerts as a page, for the browser: {}", page.display());
    Ok(())
}
