//! What `seq` and `seqd` have in common: `seq` is the daemon as well, where it goes by that name.

use std::ffi::OsString;

use clap::Parser;
use rustix::io::Errno;
use seq::cli;
use seq::daemon::{self, SeqdArgs};
use seq::error::{Error, status};
use seq::sys::was_closed;
use seq::words::say;

/// The number of standard output.
pub(crate) const STDOUT: usize = 1;

/// The daemon; gives its exit status.
pub(crate) fn seqd(arguments: &[OsString]) -> u8 {
    let ended = match SeqdArgs::try_parse_from(arguments) {
        Ok(args) => daemon::run(&args),
        Err(help) if !help.use_stderr() => show(&help),
        Err(error) => {
            for line in cli::lines(&error) {
                say("seqd", line);
            }
            return status::USAGE;
        }
    };
    ended.map_or_else(|error| failed("seqd", &error), |()| 0)
}

/// Prints help, or the version.
pub(crate) fn show(help: &clap::Error) -> Result<(), Error> {
    if was_closed(STDOUT) {
        return Err(Error::output(&Errno::BADF.into()));
    }
    help.print().map_err(|error| Error::output(&error))
}

/// Says what went wrong, and gives the exit status for it.
pub(crate) fn failed(program: &str, error: &Error) -> u8 {
    if !error.is_silent() {
        say(program, error);
    }
    error.exit_status()
}
