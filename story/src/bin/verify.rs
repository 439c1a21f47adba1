//! `make verify`: see docs/verify.md.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use story::verify::settings::VerifySettings;
use story::verify::{self, VerifyEnd};

fn main() -> ExitCode {
    match run() {
        Ok(VerifyEnd::AsExpected) => ExitCode::SUCCESS,
        Ok(VerifyEnd::Otherwise | VerifyEnd::Declined) => ExitCode::FAILURE,
        // The status that a shell reports for a program ended by Ctrl-C.
        Ok(VerifyEnd::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("\nmake verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<VerifyEnd> {
    let settings = VerifySettings::read(|name| std::env::var(name).ok())?;
    let interrupt = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&interrupt))?;
    }
    verify::run(&settings, &interrupt)
}
