//! `seq run`: wait for the turn, run the command under it, pass it on.

mod keeper;
mod command;
mod watch;
mod stop;

use std::ffi::OsString;
use std::io::Write as _;
use std::time::Duration;

use crate::cli::{self, show_duration};
use crate::clock::Time;
use crate::error::{Error, status};
use crate::protocol::limits::COMMAND_BYTES_MAX;
use crate::protocol::{Active, Done, Request, Sequence};

use super::connect::Daemon;
use super::link::{Link, LinkError};
use super::signals::Signals;
use super::turn::{Outcome, take_turn};
use super::waiting::{Loudness, Waiting};
use keeper::Keeper;

/// How long the daemon may take to confirm that a turn was given back. The turn goes with the process in any case.
const DONE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the command under a turn, and gives the status to exit with.
pub(super) fn run(daemon: &Daemon, args: &cli::Run) -> Result<u8, Error> {
    let signals = Signals::block()?;
    let keeper = if args.close { None } else { Some(Keeper::new()?) };
    let loudness = match (args.quiet, args.verbose) {
        (true, _) => Loudness::Quiet,
        (_, true) => Loudness::Verbose,
        _ => Loudness::Normal,
    };
    let mut waiting = Waiting::new(&args.domain, loudness);
    let sequence = request(args, waiting.is_shown(), keeper.is_some());
    let descriptors: Vec<_> = keeper.iter().map(Keeper::reading_end).collect();
    let asked = Time::now();
    match take_turn(daemon, sequence, &descriptors, &signals, &mut waiting)? {
        Outcome::Signal(status) => Ok(status),
        Outcome::NoTurn(error) => no_turn(args, error),
        Outcome::Turn(link, turn) => {
            let say = |words: &dyn Fn() -> String| {
                if args.verbose {
                    _ = writeln!(std::io::stderr(), "seq: {}: {}", turn.domain, words());
                }
            };
            say(&|| format!("ticket {} has the turn after {}", turn.ticket, show_duration(Time::now().since(asked))));
            under(daemon, args, &signals, keeper, link, &turn, &say)
        }
    }
}

/// Runs the command now that the turn is there.
fn under(
    daemon: &Daemon,
    args: &cli::Run,
    signals: &Signals,
    mut keeper: Option<Keeper>,
    mut link: Link,
    turn: &Active,
    say: &dyn Fn(&dyn Fn() -> String),
) -> Result<u8, Error> {
    let started = Time::now();
    let running = match command::start(args, turn, keeper.as_ref()) {
        Ok(running) => running,
        Err(error) => {
            give_back(daemon, &mut link, turn, error.exit_status());
            return Err(error);
        }
    };
    let bound = running.tell(&link, turn, !args.close);
    let mut watch = watch::Watch::new(args, signals, &running, bound.is_ok().then_some(&mut link), say);
    let mut exit_status = watch.until_end();
    if args.until_all_exit
        && let Some(keeper) = keeper.take()
    {
        exit_status = watch.until_all_exit(keeper).unwrap_or(exit_status);
    }
    give_back(daemon, &mut link, turn, exit_status);
    say(&|| format!("ended with status {exit_status} after {}", show_duration(Time::now().since(started))));
    Ok(exit_status)
}

/// Tells the daemon that the turn is over, whichever daemon is there by now. Nothing depends on the answer: the turn
/// ends with this process, too.
fn give_back(daemon: &Daemon, link: &mut Link, turn: &Active, exit_status: u8) {
    let ticket = Some(turn.ticket.0);
    let done = Request::Done(Done { ticket, exit_status: Some(exit_status.into()), ..Done::default() });
    let mut tell = || {
        link.send(&done, &[])?;
        while !matches!(link.receive(Some(DONE_TIMEOUT))?, crate::protocol::Reply::Done(_)) {}
        Ok(())
    };
    if let Err(LinkError::Closed) = tell() {
        _ = daemon.without_start().ask(&done);
    }
}

/// There is no turn: the words for it, or with `--quiet` just the status.
fn no_turn(args: &cli::Run, error: Error) -> Result<u8, Error> {
    let exit_status = match (error.exit_status(), args.conflict_exit_code) {
        (status::NO_TURN, Some(chosen)) => chosen,
        (usual, _) => usual,
    };
    let is_failure = error.exit_status() == status::FAILURE;
    if args.quiet && !is_failure { Ok(exit_status) } else { Err(Error::new(exit_status, error)) }
}

fn request(args: &cli::Run, positions: bool, has_keeper: bool) -> Sequence {
    Sequence {
        domain: args.domain.clone(),
        request_id: args.request_id.clone(),
        positions,
        no_wait: args.no_wait,
        max_wait_ms: args.max_wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        fresh: true,
        command: Some(shown(&args.command)),
        descriptors: usize::from(has_keeper),
        ..Sequence::default()
    }
}

/// A command for people to read: its arguments with blanks between them, cut when it is long.
fn shown(command: &[OsString]) -> String {
    let mut text = command.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if text.len() > COMMAND_BYTES_MAX {
        text.truncate(text.floor_char_boundary(COMMAND_BYTES_MAX - '…'.len_utf8()));
        text.push('…');
    }
    text
}
