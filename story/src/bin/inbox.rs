//! `make inbox`: a page with example alerts in the look of email, Slack, Teams and phones, written to the named folder;
//! and beside it the pages that `make pictures` photographs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use guard_core::testing::examples;
use story::inbox::{self, InboxMessage};
use story::top;

/// The alert in the documents' pictures.
const PICTURED: &str = "firing-critical";

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| top().join("target"), PathBuf::from);
    let mut messages = Vec::new();
    for (name, message) in examples() {
        let message = InboxMessage::new(&message.subject, &message.bodies());
        let message = message.with_context(|| format!("the example {name}"))?;
        for (picture, page) in inbox::pictures(&message).into_iter().filter(|_| name == PICTURED) {
            std::fs::write(folder.join(format!("{picture}.html")), page)?;
        }
        messages.push(message);
    }
    let page = folder.join("inbox.html");
    std::fs::write(&page, inbox::page("Example alerts", &messages))?;
    println!("The example alerts as a page, for the browser: {}", page.display());
    Ok(())
}
