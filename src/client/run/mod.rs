//! `seq run`: wait for the turn, run the command under it, pass it on.

mod keeper;
mod command;
mod terminal;
mod tie;
mod watch;
mod stop;
mod done;
mod once;
mod record;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io;
use std::time::Duration;

use crate::cli;
use crate::clock::{Time, milliseconds_at_least, show_duration};
use crate::error::{Error, status};
use crate::protocol::limits::COMMAND_BYTES_MAX;
use crate::protocol::{Active, KeyOutput, Sequence};
use crate::words;

use super::connect::Daemon;
use super::rejoin::secret;
use super::signals::{Signals, die_of, signal_status};
use super::turn::{Outcome, take_turn};
use super::waiting::{Loudness, Waiting};
use super::wishes::wishes;
use command::Prepared;
use keeper::Keeper;
use record::Recorder;
use tie::Tie;

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
    let key = once::key_wish(args)?;
    let sequence = Sequence { key, ..request(daemon, args, waiting.is_shown(), keeper.is_some()) };
    let descriptors: Vec<_> = keeper.iter().map(Keeper::reading_end).collect();
    let asked = Time::now();
    let asked_of = daemon.for_at_most(args.max_wait);
    let prepared = OnceCell::new();
    let prepare = || Prepared::new(args);
    match take_turn(&asked_of, &sequence, &descriptors, &signals, &mut waiting, &|| _ = prepared.get_or_init(prepare)) {
        Err(error) => no_turn(args, error),
        Ok(Outcome::Signal(signal)) => Ok(die_of(signal)),
        Ok(Outcome::Recorded(done)) => {
            let is_told = !args.quiet && (!done.followed || waiting.is_shown() || once::is_output_missing(args, &done));
            once::give_back(args, &done, is_told)
        }
        Ok(Outcome::Turn(link, turn)) => {
            let say = |what: &dyn Fn() -> String| {
                if args.verbose {
                    words::say("seq", format_args!("{}: {}", turn.domain, what()));
                }
            };
            say(&|| format!("ticket {} has the turn after {}", turn.ticket, show_duration(Time::now().since(asked))));
            let prepared = prepared.into_inner().unwrap_or_else(prepare);
            under(args, prepared, &signals, Tie::new(daemon, &sequence, &turn, keeper, link), &turn, &say)
        }
    }
}

/// Runs the command now that the turn is there.
fn under(
    args: &cli::Run,
    prepared: io::Result<Prepared>,
    signals: &Signals,
    mut tie: Tie<'_>,
    turn: &Active,
    say: &dyn Fn(&dyn Fn() -> String),
) -> Result<u8, Error> {
    let started = Time::now();
    let longest = longest_run(args, turn);
    let mut recorder = None;
    let running = record(args, &mut recorder).and_then(|()| {
        command::start(args, prepared, longest, (turn, &tie), (recorder.as_ref(), signals.blocked_at_start()))
    });
    let running = match running {
        Ok(running) => running,
        Err(error) => {
            give_back(args, turn, tie, (error.exit_status(), None));
            return Err(error);
        }
    };
    if let Some(recorder) = &mut recorder {
        recorder.close_commands_ends();
    }
    let mut watch = watch::Watch::new(args, longest, signals, &running, &mut tie, say);
    let mut exit_status = watch.until_end();
    if args.until_all_exit {
        exit_status = watch.until_all_exit().unwrap_or(exit_status);
    }
    let killer = watch.killer();
    let ran = Time::now().since(started);
    let output = recorder.map(|recorder| recorder.end(signals));
    give_back(args, turn, tie, (exit_status, output));
    if let (Some(_), Some(terminal)) = (killer, &running.terminal) {
        terminal.set_back();
    }
    say(&|| format!("ended with status {exit_status} after {}", show_duration(ran)));
    match killer.filter(|number| signal_status(*number) == exit_status).and_then(|number| signals.has_come(number)) {
        Some(signal) => Ok(die_of(signal)),
        None => Ok(exit_status),
    }
}

/// Begins to record what the command will write, if that is wanted.
fn record(args: &cli::Run, recorder: &mut Option<Recorder>) -> Result<(), Error> {
    if args.once.replay {
        *recorder = Some(Recorder::start()?);
    }
    Ok(())
}

/// How long the command may run: no longer than the domain's policy lets it.
fn longest_run(args: &cli::Run, turn: &Active) -> Option<Duration> {
    let of_request = args.max_run.filter(|longest| !longest.is_zero());
    let of_domain = turn.max_run_ms.map(Duration::from_millis);
    of_request.into_iter().chain(of_domain).min()
}

/// Passes the turn on. Where nobody could be told how the command ended, the user is: only the history misses it.
fn give_back(args: &cli::Run, turn: &Active, tie: Tie<'_>, (exit_status, output): (u8, Option<KeyOutput>)) {
    if let Some(why) = tie.give_back(exit_status, output)
        && !args.quiet
    {
        let domain = &turn.domain;
        let missed = format_args!("{domain}: the history may miss that the command ended with {exit_status}: {why}");
        words::say("seq", missed);
    }
}

/// There is no turn: the words for it, or with `--quiet` just the status.
fn no_turn(args: &cli::Run, error: Error) -> Result<u8, Error> {
    let exit_status = match (error.exit_status(), args.conflict_exit_code) {
        (status::NO_TURN, Some(chosen)) => chosen,
        (usual, _) => usual,
    };
    let is_failure = matches!(error.exit_status(), status::FAILURE | status::CONFLICT);
    if args.quiet && !is_failure { Ok(exit_status) } else { Err(Error::new(exit_status, error)) }
}

fn request(daemon: &Daemon, args: &cli::Run, positions: bool, has_keeper: bool) -> Sequence {
    Sequence {
        request_id: args.request_id.clone(),
        positions,
        no_wait: args.no_wait,
        max_wait_ms: args.max_wait.map(milliseconds_at_least),
        secret: secret(),
        fresh: true,
        says_started: true,
        command: Some(shown(&args.command)),
        descriptors: usize::from(has_keeper),
        ..wishes(daemon, &args.domain, &args.wishes)
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
