//! `seqd`: keeps the lines that `seq` waits in. See `seqd(1)`.

use std::process::ExitCode;

use clap::Parser;
use seq::cli;
use seq::daemon::{self, SeqdArgs};
use seq::error::status;
use seq::words::say;

fn main() -> ExitCode {
    let args = match SeqdArgs::try_parse() {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            for line in cli::lines(&error) {
                say("seqd", line);
            }
            return ExitCode::from(status::USAGE);
        }
    };
    match daemon::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say("seqd", &error);
            ExitCode::from(error.exit_status())
        }
    }
}
