//! The plainest command lines of `seq run`, read without building a parser first, which takes longer than all else that
//! `seq` does before it asks for its turn.

use std::ffi::OsString;

use super::{Cli, Command, Global, Once, Run, Wishes, parse_duration, values};
use crate::protocol::Domain;

/// Reads `seq run`, a few options each in a word of its own, `--`, and a command. Whatever is not so, or not right, is
/// left to the parser that knows all, which takes these lines for the same.
pub(super) fn run(arguments: &[OsString]) -> Option<Cli> {
    let [_, subcommand, words @ ..] = arguments else { return None };
    let end = words.iter().position(|word| word == "--").filter(|_| subcommand == "run")?;
    let mut run = without_options(words[end + 1..].to_vec());
    let mut options = words[..end].iter().map(|word| word.to_str());
    while let Some(option) = options.next() {
        let mut value = || options.next().flatten().filter(|value| !value.starts_with('-'));
        match option? {
            "-d" | "--domain" => run.domain.push(value().filter(|name| Domain::parse(name).is_ok())?.to_owned()),
            "-w" | "--max-wait" if run.max_wait.is_none() => run.max_wait = Some(parse_duration(value()?).ok()?),
            "--max-run" if run.max_run.is_none() => run.max_run = Some(parse_duration(value()?).ok()?),
            "-n" | "--no-wait" if !run.no_wait => run.no_wait = true,
            "-q" | "--quiet" if !run.quiet => run.quiet = true,
            "-v" | "--verbose" if !run.verbose => run.verbose = true,
            _ => return None,
        }
    }
    let is_missing = run.domain.is_empty() || run.command.is_empty();
    let is_contradictory = run.no_wait && run.max_wait.is_some() || run.quiet && run.verbose;
    let is_right = !is_missing && !is_contradictory;
    is_right.then(|| Cli { global: Global::default(), command: Command::Run(run) })
}

fn without_options(command: Vec<OsString>) -> Run {
    Run {
        domain: Vec::new(),
        request_id: None,
        no_wait: false,
        max_wait: None,
        wishes: Wishes::default(),
        once: Once::default(),
        max_run: None,
        kill_grace: values::KILL_GRACE_DEFAULT,
        conflict_exit_code: None,
        close: false,
        until_all_exit: false,
        quiet: false,
        verbose: false,
        command,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_plain_line_is_read_as_the_whole_parser_reads_it() {
        let lines = [
            "seq run -d foo.com -- true",
            "seq run --domain Foo.COM. -- ./deploy.sh --all -d x",
            "seq run -d a -d b -w 1m --max-run 2h -q -- a -- b",
            "seq run --max-wait .5 -v -d a -- -x",
            "seq run -n -d a --quiet -- sh -c true",
            "seq run --no-wait --verbose --domain a -- true ",
        ];
        for line in lines {
            let plain = run(&words(line)).expect(line);
            assert_eq!(format!("{plain:?}"), format!("{:?}", Cli::parse_from(words(line))), "{line}");
        }
    }

    #[test]
    fn what_is_not_plain_or_not_right_is_left_to_the_whole_parser() {
        let lines = [
            "seq run",
            "seq run --",
            "seq run -- true",
            "seq run -d x --",
            "seq run -d x true",
            "seq run -d -- true",
            "seq run -d -x -- true",
            "seq run -d x -w -- true",
            "seq run -d x -w soon -- true",
            "seq run -d x -w 1 -w 2 -- true",
            "seq run -d x -n -n -- true",
            "seq run -d x -n -w 1 -- true",
            "seq run -d x -q -v -- true",
            "seq run -dx -- true",
            "seq run -d x --help -- true",
            "seq run -d x y -- true",
            "seq --no-start run -d x -- true",
            "seq sequence -d x -- true",
            "seq",
        ];
        for line in lines {
            assert!(run(&words(line)).is_none(), "{line}");
        }
        let too_long = ["seq", "run", "-d", &"x".repeat(256), "--", "true"].map(OsString::from);
        assert!(run(&too_long).is_none());
    }
}
