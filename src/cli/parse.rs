//! From the words of a command line to data.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser};

use super::{Cli, Done, Global, Run, Sequence, Status, plain};
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
    if let Some(cli) = plain::run(arguments).or_else(|| parse_known(arguments)) {
        return Ok(cli);
    }
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => UsageError::Shown(error),
        ErrorKind::MissingRequiredArgument => {
            UsageError::Wrong { lines: missing(&error), exit_status: usage_status(&arguments[1..]) }
        }
        ErrorKind::InvalidUtf8 => {
            UsageError::Wrong { lines: not_utf8(&error, arguments), exit_status: usage_status(&arguments[1..]) }
        }
        _ => {
            let tip = tip_for_dash(&error, arguments);
            let mut lines = lines(&printable(with_suggestion(error)));
            // Clap's own would not help then.
            lines.retain(|line| tip.is_none() || !line.starts_with("tip: "));
            lines.extend(tip);
            UsageError::Wrong { lines, exit_status: usage_status(&arguments[1..]) }
        }
    })
}

/// Reads a right command line that begins with its subcommand, by a parser that knows this subcommand alone: to build
/// the parser of all of them takes longer than to read most command lines. Whatever is not right, or asks for help,
/// is left to the whole parser, which says so.
fn parse_known(arguments: &[OsString]) -> Option<Cli> {
    let (known, augment): (_, fn(clap::Command) -> clap::Command) = match arguments.get(1)?.to_str()? {
        "run" => ("run", Run::augment_args),
        "sequence" => ("sequence", Sequence::augment_args),
        "done" => ("done", Done::augment_args),
        "status" => ("status", Status::augment_args),
        _ => return None,
    };
    let subcommand = augment(clap::Command::new(known));
    let command = Global::augment_args(clap::Command::new("seq").disable_help_subcommand(true)).subcommand(subcommand);
    Cli::from_arg_matches(&command.try_get_matches_from(arguments).ok()?).ok()
}

/// How to write a domain that looks like an option, where one was taken for that.
fn tip_for_dash(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_domain = |word: &OsString| word == "-d" || word == "--domain";
    let after = arguments.iter().skip_while(|word| !is_domain(word)).nth(1)?.to_str()?;
    let is_missing = option.starts_with("--domain") && error.kind() == ErrorKind::InvalidValue;
    let is_unknown = after.starts_with(option.as_str()) && error.kind() == ErrorKind::UnknownArgument;
    ((is_missing || is_unknown) && after.starts_with('-') && after != "--")
        .then(|| format!("tip: a domain that starts with '-' is written --domain={}", after.escape_default()))
}

/// Names the one subcommand that a mistyped one was probably meant to be. Clap's own suggestions do not see that two
/// letters changed places, and may be several.
fn with_suggestion(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
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

/// Shows control characters of what was typed instead of giving them to the terminal.
fn printable(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue] {
        if let Some(ContextValue::String(typed)) = error.get(kind) {
            let show = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
            let shown = typed.chars().map(show).collect();
            error.insert(kind, ContextValue::String(shown));
        }
    }
    error
}

/// What is missing, in one sentence.
fn missing(error: &clap::Error) -> Vec<String> {
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) => missing.join(", "),
        _ => return lines(error),
    };
    let sentence = if missing == "<COMMAND>..." {
        "no command: say what to run, as in 'seq run --domain foo.com -- COMMAND'".to_owned()
    } else {
        format!("something is missing: add {missing}")
    };
    vec![sentence, "For more information, try '--help'.".to_owned()]
}

/// Which word is not UTF-8, which clap does not say. Words of a command need not be.
fn not_utf8(error: &clap::Error, arguments: &[OsString]) -> Vec<String> {
    let Some(word) = arguments.iter().skip(1).take_while(|word| *word != "--").find(|word| word.to_str().is_none())
    else {
        return lines(error);
    };
    let shown = word.as_bytes().escape_ascii();
    vec![format!("'{shown}' is not UTF-8: names and values are written in it, only a command after '--' need not be")]
}

/// What clap has to say, line by line, without what is there to look good.
pub fn lines(error: &clap::Error) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn both_parsers_read_the_same() {
        let lines = [
            "seq run -d foo.com -- true",
            "seq run -d foo.com -w 1m --max-run 2h --kill-grace 1 -E 9 -q true -x --help",
            "seq run --socket /s --domain=foo.com --request-id a --no-wait --close -v -- a b",
            "seq run -nvd x --until-all-exit --no-start a",
            "seq sequence -d x --lease 1m --json",
            "seq sequence -d x --request-id a -w 1 --for-pid 12",
            "seq done -d x --request-id a",
            "seq done --ticket 12 --socket /s",
            "seq status",
            "seq status -d x --json --no-start",
        ];
        for line in lines {
            let known = parse_known(&words(line)).expect(line);
            assert_eq!(format!("{known:?}"), format!("{:?}", Cli::parse_from(words(line))), "{line}");
        }
    }

    #[test]
    fn what_is_not_right_is_left_to_the_whole_parser() {
        for line in
            ["seq run", "seq run --help", "seq run -V", "seq done", "seq status -d", "seq --no-start run", "seq"]
        {
            assert!(parse_known(&words(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn a_mistyped_subcommand_gets_a_suggestion() {
        let said = |typed: &str| match parse(&[OsString::from("seq"), typed.into()]) {
            Err(UsageError::Wrong { lines, exit_status }) => (lines[1].clone(), exit_status),
            other => panic!("{typed}: {other:?}"),
        };
        let tip = |name: &str| (format!("tip: a similar subcommand exists: '{name}'"), status::USAGE);
        assert_eq!(said("rnu"), tip("run"));
        assert_eq!(said("stauts"), tip("status"));
        assert_eq!(said("relase"), tip("release"));
        assert_eq!(said("frobnicate"), ("Usage: seq [OPTIONS] <COMMAND>".to_owned(), status::USAGE));
    }

    #[test]
    fn a_word_that_is_not_utf8_is_shown() {
        use std::os::unix::ffi::OsStringExt;
        let mut line = words("seq run -d foo.com -- true");
        line.push(OsString::from_vec(b"a\xff".to_vec()));
        assert!(parse(&line).is_ok(), "a command's own words may be anything");
        line[3] = OsString::from_vec(b"d\xff".to_vec());
        let Err(UsageError::Wrong { lines, exit_status: status::FAILURE }) = parse(&line) else { panic!("{line:?}") };
        assert!(lines[0].starts_with("'d\\xff' is not UTF-8: "), "{lines:?}");
    }

    #[test]
    fn a_domain_that_looks_like_an_option_gets_a_tip() {
        let last = |line: &str| match parse(&words(line)) {
            Err(UsageError::Wrong { lines, .. }) => lines.last().cloned().unwrap_or_default(),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(last("seq run -d -dash -- true"), "tip: a domain that starts with '-' is written --domain=-dash");
        assert_eq!(last("seq run -d -x -- true"), "tip: a domain that starts with '-' is written --domain=-x");
        assert_eq!(last("seq run -d -xyz -- true"), "tip: a domain that starts with '-' is written --domain=-xyz");
        assert!(!last("seq run -d -- true").contains("--domain="));
        assert!(!last("seq run -d x -y -- true").contains("--domain="));
        assert!(parse(&words("seq run --domain=-dash -- true")).is_ok());
    }

    #[test]
    fn wrong_usage_of_run_has_a_status_of_its_own() {
        let exit_status = |line: &str| match parse(&words(line)) {
            Err(UsageError::Wrong { exit_status, .. }) => exit_status,
            other => panic!("{line}: {other:?}"),
        };
        for line in ["seq run", "seq run --foo", "seq --no-start --socket run run", "seq --socket=a run -d x"] {
            assert_eq!(exit_status(line), status::FAILURE, "{line}");
        }
        for line in ["seq", "seq status --foo", "seq wait", "seq --socket run", "seq --foo run"] {
            assert_eq!(exit_status(line), status::USAGE, "{line}");
        }
    }
}
