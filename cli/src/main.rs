//! `privatelink-guard`: see [`privatelink_guard`].

use std::process::ExitCode;

use clap::Parser;
use guard_core::text::visible;
use privatelink_guard::args::Cli;

/// The exit status of bad usage, as in sysexits.h.
const BAD_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { BAD_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(privatelink_guard::run(cli)));
    match result {
        Ok(status) => status.into(),
        Err(error) => {
            // Line by line: AWS's text may hold what nobody sees.
            for line in format!("privatelink-guard: {error:#}").lines() {
                eprintln!("{}", visible(line));
            }
            match error.is::<privatelink_guard::BadUsage>() {
                true => BAD_USAGE.into(),
                // Nothing could be determined.
                false => 2.into(),
            }
        }
    }
}
