//! Asking for a turn, and waiting for it.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::clock::Time;
use crate::error::{Error, status};
use crate::protocol::limits::ANSWER_TIMEOUT;
use crate::protocol::{Active, ErrorCode, ErrorReply, HelloReply, PROTOCOL_VERSION, Reply, Request, Sequence, Status};

use super::connect::Daemon;
use super::link::{Link, LinkError, timespec};
use super::signals::Signals;
use super::waiting::Waiting;

/// How waiting for a turn ended.
pub(super) enum Outcome {
    /// The turn is there, and lives on this connection.
    Turn(Link, Active),
    /// There is no turn: why, in words, with its status.
    NoTurn(Error),
    /// A signal came first: the status to exit with.
    Signal(u8),
}

/// What the wait woke up for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it lives for a moment")]
enum Wake {
    Reply(Reply),
    Signal(u8),
    Tick,
}

/// Asks for a turn and waits for it, as long as it takes. A signal ends the wait: the place in line goes with the
/// connection.
pub(super) fn take_turn(
    daemon: &Daemon,
    sequence: Sequence,
    descriptors: &[BorrowedFd<'_>],
    signals: &Signals,
    waiting: &mut Waiting,
) -> Result<Outcome, Error> {
    let longest = sequence.max_wait_ms.map(|wait| Duration::from_millis(wait) + ANSWER_TIMEOUT);
    let give_up = longest.map(|longest| Time::now() + longest);
    let domain = sequence.domain.clone();
    let request = Request::Sequence(sequence);
    let (mut link, mut wake) = daemon.talk(|link| {
        link.open_with(&request, descriptors)?;
        first_answer(link, signals)
    })?;
    let outcome = loop {
        match wake {
            Wake::Signal(status) => break Outcome::Signal(status),
            Wake::Reply(Reply::Active(active)) => break Outcome::Turn(link, active),
            Wake::Reply(Reply::Error(error)) => break Outcome::NoTurn(no_turn(&error)),
            Wake::Reply(Reply::Queued(queued)) => {
                waiting.position(queued.position, queued.total_ahead);
                ask_who_holds(&link, waiting, &domain)?;
            }
            Wake::Reply(Reply::QueuePosition(place)) => {
                waiting.position(place.position, place.total_ahead);
                ask_who_holds(&link, waiting, &domain)?;
            }
            Wake::Reply(Reply::Status(status)) => waiting.status(status.domains.first()),
            Wake::Reply(_) => {}
            Wake::Tick if give_up.is_some_and(|give_up| Time::now() >= give_up) => {
                return Err(daemon.explain(LinkError::Silent));
            }
            Wake::Tick => {
                if waiting.tick() {
                    ask_who_holds(&link, waiting, &domain)?;
                }
            }
        }
        let patience = [waiting.next_tick(), give_up.map(|give_up| give_up.since(Time::now()))];
        let next = next(&mut link, signals, patience.into_iter().flatten().min());
        wake = next.map_err(|error| match error {
            LinkError::Closed => Error::failure(
                "the daemon ended while this request waited, and its place in line is lost: run it again",
            ),
            error => daemon.explain(error),
        })?;
    };
    waiting.end();
    Ok(outcome)
}

/// The status of a process that signal `number` ended, as shells have it.
pub(super) fn signal_status(number: i32) -> u8 {
    status::SIGNAL_BASE.saturating_add(u8::try_from(number).unwrap_or(u8::MAX))
}

/// The first answer, which must come at once. The daemon's `hello` is checked on the way.
fn first_answer(link: &mut Link, signals: &Signals) -> Result<Wake, LinkError> {
    loop {
        match next(link, signals, Some(ANSWER_TIMEOUT))? {
            Wake::Tick => return Err(LinkError::Silent),
            Wake::Reply(Reply::Hello(hello)) => check_version(&hello)?,
            // Nothing was promised yet: the next daemon can be asked.
            Wake::Reply(Reply::Error(error)) if error.code == ErrorCode::Leaving => return Err(LinkError::Closed),
            wake => return Ok(wake),
        }
    }
}

fn check_version(hello: &HelloReply) -> Result<(), LinkError> {
    if hello.protocol == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(LinkError::Garbage(format!(
        "it is version {} and speaks protocol {}, this seq speaks {PROTOCOL_VERSION}",
        hello.version, hello.protocol
    )))
}

fn next(link: &mut Link, signals: &Signals, patience: Option<Duration>) -> Result<Wake, LinkError> {
    let deadline = patience.map(|patience| Time::now() + patience);
    loop {
        // A signal goes before a turn that came in the same instant: what did not start need not be stopped.
        if let Some(signal) = signals.next_ending() {
            return Ok(Wake::Signal(signal_status(signal as i32)));
        }
        if let Some(reply) = link.try_receive()? {
            return Ok(Wake::Reply(reply));
        }
        let left = deadline.map(|deadline| timespec(deadline.since(Time::now())));
        let mut ready = [PollFd::new(&*link, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut ready, left.as_ref()) {
            Ok(0) => return Ok(Wake::Tick),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Asks who has the turn, if somebody will be shown the answer.
fn ask_who_holds(link: &Link, waiting: &Waiting, domain: &str) -> Result<(), Error> {
    if !waiting.is_shown() {
        return Ok(());
    }
    let domain = Some(domain.to_owned());
    let request = Request::Status(Status { domain, waiters_max: Some(0), ..Status::default() });
    match link.send(&request, &[]) {
        // A daemon that has gone is noticed when it is listened to.
        Ok(()) | Err(LinkError::Closed) => Ok(()),
        Err(_) => Err(Error::failure("cannot ask the daemon who has the turn")),
    }
}

fn no_turn(error: &ErrorReply) -> Error {
    let exit_status = match error.code {
        ErrorCode::Busy | ErrorCode::TimedOut | ErrorCode::QueueFull | ErrorCode::AlreadyActive => status::NO_TURN,
        ErrorCode::Cancelled | ErrorCode::TakenOver => status::CANCELLED,
        _ => status::FAILURE,
    };
    Error::new(exit_status, &error.message)
}
