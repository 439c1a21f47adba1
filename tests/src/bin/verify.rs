//! `make verify`: see docs/verify.md.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use flows::verify::settings::Settings;
use flows::verify::{self, End};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

fn main() -> ExitCode {
    match run() {
        Ok(End::AsExpected) => ExitCode::SUCCESS,
        Ok(End::Otherwise | End::Declined) => ExitCode::FAILURE,
        // As a shell reports a program that Ctrl-C has ended.
        Ok(End::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("\nmake verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<End> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let interrupt = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&interrupt))?;
    }
    verify::run(&settings, &interrupt)
}
