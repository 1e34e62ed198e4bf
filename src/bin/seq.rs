//! `seq`: commands that must take turns. See `seq(1)`.

#![cfg_attr(all(target_os = "linux", target_env = "gnu"), no_main)]

mod shared;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use rustix::io::Errno;
use seq::cli::{self, Cli, UsageError};
use seq::client;
use seq::error::Error;
use seq::sys::was_closed;
use seq::words::say;
use shared::{STDOUT, failed, seqd, show};

/// Set by the completions in `completions/`, and by nothing else, to the name of the shell that asks.
const COMPLETE_VARIABLE: &str = "SEQ_COMPLETE";

/// What the C library calls. Before a `main` of its own the standard library reads where the stack ends, to be able to say
/// that it has overflowed: a twentieth of the time that `seq run` takes (`cargo bench --bench peers`). What it does after
/// it, to write out what was printed, `exit` does as well.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "there is one function of this name, and it is as the C library wants it")]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    seq::sys::prepare();
    std::process::exit(seq_main().into())
}

/// Elsewhere the standard library knows of arguments only if it was there first.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn main() -> std::process::ExitCode {
    seq_main().into()
}

/// The program; gives its exit status.
fn seq_main() -> u8 {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if is_called("seqd", &arguments) {
        return seqd(&arguments);
    }
    if std::env::var_os(COMPLETE_VARIABLE).is_some() {
        return complete(&arguments);
    }
    if arguments.get(1).is_some_and(|first| cli::is_for_coreutils(first)) {
        return failed("seq", &client::hand_over(&arguments));
    }
    match cli::parse(&arguments) {
        Ok(cli) => run(&cli),
        Err(usage) => explain(&usage),
    }
}

/// Whether this program goes by `name`: it starts itself again as the daemon, and may be linked to that name.
fn is_called(name: &str, arguments: &[OsString]) -> bool {
    arguments.first().and_then(|typed| Path::new(typed).file_name()).is_some_and(|file| file == name)
}

/// Answers a shell that completes a command line: it comes after a `--`, with our name first.
fn complete(arguments: &[OsString]) -> u8 {
    let are_numbers = matches!(arguments, [_, _, _, first, _, ..] if cli::is_for_coreutils(first));
    if !are_numbers {
        CompleteEnv::with_factory(Cli::command).var(COMPLETE_VARIABLE).complete();
    }
    0
}

fn run(cli: &Cli) -> u8 {
    let mut out = output();
    let result = client::main(cli, &mut *out);
    match result.and_then(|exit_status| out.flush().map(|()| exit_status).map_err(|error| Error::output(&error))) {
        Ok(exit_status) => exit_status,
        Err(error) => failed("seq", &error),
    }
}

/// Standard output. The standard library writes to nowhere when it was closed, and says that all went well.
fn output() -> Box<dyn Write> {
    if was_closed(STDOUT) { Box::new(Closed) } else { Box::new(io::stdout().lock()) }
}

/// What cannot be written to.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(Errno::BADF.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn explain(usage: &UsageError) -> u8 {
    match usage {
        UsageError::Shown(help) => show(help).map_or_else(|error| failed("seq", &error), |()| 0),
        UsageError::Wrong { lines, exit_status } => {
            for line in lines {
                say("seq", line);
            }
            *exit_status
        }
    }
}
