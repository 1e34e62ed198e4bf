//! From the words of a command line to data.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use super::Cli;
use crate::error::status;

/// Letters that may be missing, changed or swapped in a mistyped subcommand.
const DISTANCE_MAX: usize = 2;

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
        _ => UsageError::Wrong { lines: lines(&with_suggestion(error)), exit_status: usage_status(&arguments[1..]) },
    })
}

/// Adds the subcommand that a mistyped one was probably meant to be. Clap's own suggestions do not see that two
/// letters changed places.
fn with_suggestion(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand || error.get(ContextKind::SuggestedSubcommand).is_some() {
        return error;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let command = Cli::command();
    let distance = |name: &str| strsim::osa_distance(name, typed);
    let nearest = command.get_subcommands().map(clap::Command::get_name).min_by_key(|name| distance(name));
    if let Some(name) = nearest.filter(|name| distance(name) <= DISTANCE_MAX).map(str::to_owned) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name]));
    }
    error
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
