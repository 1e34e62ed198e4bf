//! `seqd`: keeps the lines that `seq` waits in. See `seqd(1)`.

use std::process::ExitCode;

use clap::Parser;
use seq::daemon::{self, SeqdArgs};

#[expect(clippy::print_stderr, reason = "this is where errors are said")]
fn main() -> ExitCode {
    match daemon::run(&SeqdArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seqd: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
