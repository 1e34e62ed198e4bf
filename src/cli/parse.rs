//! From the words of a command line to data.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;
use crate::error::status;

/// Why a command line says nothing to do.
#[derive(Debug)]
pub enum UsageError {
    /// Help or the version was asked for. It prints itself, in colours where there are some.
    Shown(clap::Error),
    /// It is wrong.
    Wrong {
        /// What to say, line by line.
        lines: Vec<String>,
        /// The status to exit with.
        exit_status: u8,
    },
}

/// Reads a command line, the program's own name first.
///
/// # Errors
///
/// When it asks for help, or is wrong.
pub fn parse(arguments: &[OsString]) -> Result<Cli, UsageError> {
    if arguments.len() < 2 {
        let lines =
            ["no subcommand: say what to do, such as 'seq run --domain foo.com -- COMMAND'", "try 'seq --help'"];
        return Err(UsageError::Wrong { lines: lines.map(str::to_owned).to_vec(), exit_status: status::USAGE });
    }
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => UsageError::Shown(error),
        _ => UsageError::Wrong { lines: lines(&error), exit_status: usage_status(&arguments[1..]) },
    })
}

/// What clap has to say, without what is there to look good.
fn lines(error: &clap::Error) -> Vec<String> {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.strip_prefix("error: ").unwrap_or(line).to_owned()).collect()
}

/// Wrong usage of `run` has a status that no command has by chance.
fn usage_status(arguments: &[OsString]) -> u8 {
    let mut words = arguments.iter().map(OsString::as_os_str);
    while let Some(word) = words.next() {
        if word == "--socket" {
            words.next();
        } else if word == "run" {
            return status::FAILURE;
        } else if !is_global(word) {
            break;
        }
    }
    status::USAGE
}

fn is_global(word: &OsStr) -> bool {
    word == "--no-start" || word.as_bytes().starts_with(b"--socket=")
}
