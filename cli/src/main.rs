//! `privatelink-guard`: see [`privatelink_guard`].

use std::process::ExitCode;

use clap::Parser;
use guard_core::text::strip_invisible;
use privatelink_guard::args::Cli;
use privatelink_guard::{BadUsage, output};

/// The exit status of bad usage, as in sysexits.h.
const BAD_USAGE: u8 = 64;

/// The exit status if nothing could be read: no credentials, no stack, no network, a file that cannot be written.
const NOTHING_ASKED: u8 = 3;

fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => run(cli),
        // clap returns help and version as errors too.
        Err(message) if message.use_stderr() => {
            output::say(&message.render().ansi().to_string());
            return BAD_USAGE.into();
        }
        Err(text) => output::print(&text.render().ansi().to_string()).map(|()| 0).map_err(anyhow::Error::from),
    };
    match result {
        Ok(status) => status.into(),
        Err(error) => {
            // Line by line, since AWS's text may hold invisible characters. Our own lists are indented.
            let lines = format!("privatelink-guard: {error:#}");
            let shown = |line: &str| {
                let indent = if line.starts_with("  ") { "  " } else { "" };
                format!("{indent}{}\n", strip_invisible(line))
            };
            let lines = lines.lines().map(shown).collect::<Vec<_>>().concat();
            output::say(&lines);
            if error.is::<BadUsage>() { BAD_USAGE } else { NOTHING_ASKED }.into()
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(privatelink_guard::run(cli))
}
