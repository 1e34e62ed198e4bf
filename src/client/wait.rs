//! `seq wait`: until a domain is idle, without taking a turn.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::termios::isatty;

use crate::cli;
use crate::clock::{Time, exact_duration, milliseconds_at_least};
use crate::error::{Cure, Error, status};
use crate::protocol::{ErrorCode, ErrorReply, Reply, Request, Ticket, Wait};
use crate::words::say;

use super::connect::{Daemon, MAX_WAIT_GRACE};
use super::link::{Link, LinkError, check_version};
use super::nested::outer_turn;
use super::pause::{Pause, RETURN_TIMEOUT};
use super::refusal::{is_full, is_leaving, is_restarting, no_room, refused};

/// Waits, as long as it takes. A daemon that leaves meanwhile hands its turns to the next, which is then asked; one that
/// has no room is asked again.
pub(super) fn wait(daemon: &Daemon, args: &cli::Wait) -> Result<u8, Error> {
    let deadline = args.max_wait.map(|longest| Time::now() + longest);
    let daemon = daemon.for_at_most(args.max_wait);
    // How long to look for the next daemon, once there was one.
    let mut give_up: Option<Time> = None;
    let mut pause = Pause::new();
    let mut trouble = String::new();
    loop {
        let left = deadline.map(|deadline| deadline.since(Time::now()));
        let request = Request::Wait(Wait {
            domain: args.domain.clone(),
            request_id: None,
            max_wait_ms: left.map(milliseconds_at_least),
            within: outer_turn(&daemon.place().socket),
        });
        let greet = |link: &mut Link| greet(link, &request, daemon.patience());
        let is_back = give_up.is_some();
        let heard = if is_back { daemon.talk_unless_stopped(greet) } else { daemon.talk_if_there(greet) };
        let (mut link, first) = match heard {
            Ok(Some(heard)) => heard,
            Ok(None) if is_back && daemon.was_stopped_after(Ticket(0)) => return Err(told_to_leave(args)),
            Ok(None) => return Ok(status::OK),
            Err(error) if error.cure() == Cure::Room => {
                await_room(&mut trouble, pause.next(), deadline, error)?;
                continue;
            }
            // The daemon has died, and the next one is not there yet.
            Err(_) if give_up.is_some_and(|give_up| Time::now() < give_up) => {
                let left = left_until(deadline);
                thread::sleep(left.min(pause.next()));
                if left.is_zero() {
                    return Err(not_idle(args));
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        give_up = Some(Time::now() + RETURN_TIMEOUT);
        let mut stalled = None;
        match first.map_or_else(|| answer(&mut link, deadline, (&mut stalled, &mut trouble)), Ok) {
            Ok(Reply::Idle(_)) => return Ok(status::OK),
            Ok(Reply::Error(ErrorReply { code: ErrorCode::TimedOut, .. })) => return Err(not_idle(args)),
            Ok(reply) if is_restarting(&reply) => pause = Pause::new(),
            Ok(reply) if is_full(&reply) => await_room(&mut trouble, pause.next(), deadline, refused(reply))?,
            Ok(reply) if is_leaving(&reply) => return Err(told_to_leave(args)),
            Ok(other) => return Err(refused(other)),
            Err(LinkError::Closed) => pause = Pause::new(),
            Err(error) => return Err(stalled.map_or_else(|| daemon.explain(error), |why| not_idle_for(args, &why))),
        }
    }
}

/// Waits a moment before the daemon is asked again, which has as many connections as it may have.
fn await_room(trouble: &mut String, pause: Duration, deadline: Option<Time>, why: Error) -> Result<(), Error> {
    let left = left_until(deadline);
    if left.is_zero() {
        return Err(Error::new(status::NO_TURN, why));
    }
    // Once, for who has how many connections changes from one moment to the next.
    if isatty(io::stderr()) && !trouble.starts_with(&no_room("")) {
        tell_once(trouble, format!("{}; waiting until it has", no_room(&why.to_string())));
    }
    thread::sleep(left.min(pause));
    Ok(())
}

fn left_until(deadline: Option<Time>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.since(Time::now()))
}

/// The answer. Why the daemon is `stalled`, so that it cannot give one, is said once, for somebody has to do something
/// about it.
fn answer(
    link: &mut Link,
    deadline: Option<Time>,
    (stalled, trouble): (&mut Option<String>, &mut String),
) -> Result<Reply, LinkError> {
    loop {
        match link.answer(deadline.map(|deadline| (deadline + MAX_WAIT_GRACE).since(Time::now())))? {
            Reply::Stalled(found) => {
                tell_once(trouble, format!("{}; waiting until that is done", found.message));
                *stalled = Some(found.message);
            }
            reply => return Ok(reply),
        }
    }
}

fn tell_once(last: &mut String, trouble: String) {
    if *last != trouble {
        say("seq", &trouble);
        *last = trouble;
    }
}

/// Asks, and makes sure that somebody hears it who understands: the answer itself may take its time, and is given here
/// only if it comes instead of the `hello`.
fn greet(link: &mut Link, request: &Request, patience: Duration) -> Result<Option<Reply>, LinkError> {
    link.open_with(request, &[])?;
    match link.receive(Some(patience))? {
        Reply::Hello(hello) => check_version(&hello).map(|()| None),
        reply => Ok(Some(reply)),
    }
}

/// It was told to leave, so that nothing is started behind the user's back.
fn told_to_leave(args: &cli::Wait) -> Error {
    Error::failure(format_args!("the daemon was told to leave while {} was waited for: wait again", args.domain))
}

fn not_idle(args: &cli::Wait) -> Error {
    let longest = exact_duration(args.max_wait.unwrap_or(Duration::ZERO));
    Error::new(status::NO_TURN, format_args!("{} is not idle after {longest}", args.domain))
}

/// It may be idle, but the daemon cannot say so.
fn not_idle_for(args: &cli::Wait, why: &str) -> Error {
    Error::new(status::NO_TURN, format_args!("{}: {why}", not_idle(args)))
}
