//! `status`: what the deployed guard knows, and how it is.
//!
//! [`read`] asks AWS, [`known`] holds the answers, which are the JSON, and [`render`] prints them.

pub mod known;
pub mod read;
pub mod render;

use anyhow::Result;
use jiff::Timestamp;

use crate::args::StatusArgs;
use crate::output;
use crate::progress::Progress;
use crate::session::Session;

/// Asks the guard and returns the exit status, as `check` does.
///
/// # Errors
/// If there is no such stack, or nothing could be asked.
pub async fn run(session: &Session, arguments: &StatusArgs) -> Result<u8> {
    let progress = Progress::start("Asking the guard");
    let status = read::status(session, &arguments.stack, Timestamp::now()).await;
    progress.stop();
    let status = status?;
    output::print(&match arguments.json {
        true => format!("{:#}\n", serde_json::json!(status)),
        false => render::render(&status, textwrap::termwidth()),
    })?;
    Ok(status.exit_status(arguments.fail_on.severity()))
}
