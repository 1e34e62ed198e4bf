//! `seq restart`: the next daemon in the place of the present one, with all turns and places.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::clock::Time;
use crate::error::{Error, status};
use crate::protocol::limits::ANSWER_TIMEOUT;
use crate::protocol::{ErrorCode, Info, InfoReply, Reply, Request, Restart};
use crate::words::counted;

use super::connect::Daemon;
use super::link::{Link, LinkError, timespec};
use super::pause::Pause;
use super::process::{arguments, sees_the_same_files};
use super::refusal::{refused, unless_sent_away};
use super::start::{START_TIMEOUT, await_departure, forbid_start, start_through, try_out};

/// The daemon that is to go.
struct Old {
    info: InfoReply,
    /// None when its number means nothing here, as in another container: then its connection's end must do.
    pidfd: Option<OwnedFd>,
    /// Whether somebody else keeps it running: it was not started by a client.
    is_supervised: bool,
}

/// Asks the daemon to make room, waits until it is gone, and starts the next one, or waits for whoever does that.
pub(super) fn restart(daemon: &Daemon, out: &mut dyn Write) -> Result<u8, Error> {
    let mut link = replace(daemon)?;
    let text = describe(&info_of_next(daemon, &mut link)?);
    out.write_all(text.as_bytes()).map_err(|error| Error::output(&error))?;
    Ok(status::OK)
}

/// Makes the daemon go and connects to the next one. One that dies meanwhile is no matter: whoever is there then is to go.
fn replace(daemon: &Daemon) -> Result<Link, Error> {
    let deadline = Time::now() + ANSWER_TIMEOUT;
    let mut lock = None;
    loop {
        let Some(mut link) = daemon.connect_if_up()? else {
            if !daemon.may_have_turns() {
                let socket = daemon.place().socket.display();
                return Err(Error::new(status::OK, format_args!("nothing to restart: no daemon listens at {socket}")));
            }
            match &lock {
                Some(lock) => return start_through(lock, daemon.place(), START_TIMEOUT, || daemon.connect_if_up()),
                None if daemon.may_start() => lock = Some(forbid_start(daemon.place())?),
                None => return Err(daemon.absent()),
            }
            continue;
        };
        match make_go(daemon, &mut link, &mut lock) {
            Ok(old) => return next(daemon, &old, lock.as_ref()),
            Err(Obstacle::Died) if Time::now() < deadline => await_departure(),
            Err(Obstacle::Died) => return Err(daemon.explain(LinkError::Closed)),
            Err(Obstacle::Other(error)) => return Err(error),
        }
    }
}

/// Why the daemon was not made to go.
enum Obstacle {
    /// It was gone before it could be asked.
    Died,
    /// It did not want to, or does not answer.
    Other(Error),
}

impl Obstacle {
    fn of(daemon: &Daemon, error: LinkError) -> Obstacle {
        match error {
            LinkError::Closed => Obstacle::Died,
            error => Obstacle::Other(daemon.explain(error)),
        }
    }
}

/// Asks the daemon to go, and waits until it is gone.
fn make_go(daemon: &Daemon, link: &mut Link, lock: &mut Option<File>) -> Result<Old, Obstacle> {
    let info = match link.ask(&Request::Info(Info::default()), ANSWER_TIMEOUT).and_then(unless_sent_away) {
        Ok(Reply::Info(info)) => info,
        Ok(other) => return Err(Obstacle::Other(refused(other))),
        Err(error) => return Err(Obstacle::of(daemon, error)),
    };
    let arguments = arguments(info.pid);
    let is_daemon = arguments.iter().any(|argument| argument.ends_with("seqd"));
    let old = Old {
        pidfd: Some(info.pid).filter(|_| is_daemon).and_then(open),
        is_supervised: !arguments.iter().any(|argument| argument == "--detached"),
        info,
    };
    if daemon.may_start() && is_daemon && sees_the_same_files(old.info.pid) {
        try_out(daemon.place(), !old.is_supervised).map_err(|why| Obstacle::Other(stays(&old, &why)))?;
    }
    // Those who wait would start their own version as soon as this one is gone.
    if lock.is_none() && daemon.may_start() {
        *lock = Some(forbid_start(daemon.place()).map_err(Obstacle::Other)?);
    }
    ask(daemon, link, &old)?;
    await_end(daemon, link, &old).map_err(Obstacle::Other)?;
    Ok(old)
}

/// What `seq restart` says when the next daemon could not start.
fn stays(old: &Old, why: &Error) -> Error {
    let pid = old.info.pid;
    Error::failure(format_args!("the next daemon could not start, so the present one (pid {pid}) stays: {why}"))
}

fn info(daemon: &Daemon, link: &mut Link) -> Result<InfoReply, Error> {
    match link.ask(&Request::Info(Info::default()), ANSWER_TIMEOUT) {
        Ok(Reply::Info(info)) => Ok(info),
        Ok(other) => Err(refused(other)),
        Err(error) => Err(daemon.explain(error)),
    }
}

/// The next daemon may be killed as well: whoever is there then is asked.
fn info_of_next(daemon: &Daemon, link: &mut Link) -> Result<InfoReply, Error> {
    info(daemon, link).or_else(|_| match daemon.ask(&Request::Info(Info::default()))? {
        Reply::Info(info) => Ok(info),
        other => Err(refused(other)),
    })
}

fn ask(daemon: &Daemon, link: &mut Link, old: &Old) -> Result<(), Obstacle> {
    let error = match link.ask(&Request::Restart(Restart::default()), ANSWER_TIMEOUT) {
        Ok(Reply::Restarting(_)) => return Ok(()),
        // Whoever keeps it running brings the next one, which is as good.
        Err(LinkError::Closed) if old.is_supervised => return Ok(()),
        Ok(Reply::Error(error)) if error.code == ErrorCode::UnknownOperation => Error::failure(format_args!(
            "the daemon (seqd {}, pid {}) is too old to hand its turns over: \
             end it with 'seq stop' when nothing waits, and the next 'seq run' starts the new one",
            old.info.version, old.info.pid
        )),
        Ok(other) => refused(other),
        Err(error) => return Err(Obstacle::of(daemon, error)),
    };
    Err(Obstacle::Other(error))
}

/// Waits until the old daemon is gone, and its files with it.
fn await_end(daemon: &Daemon, link: &mut Link, old: &Old) -> Result<(), Error> {
    let deadline = Time::now() + ANSWER_TIMEOUT;
    loop {
        match link.receive(Some(deadline.since(Time::now()))) {
            Ok(_) => {}
            Err(LinkError::Closed) => break,
            Err(error) => return Err(daemon.explain(error)),
        }
    }
    let Some(pidfd) = &old.pidfd else { return Ok(()) };
    loop {
        let left = timespec(deadline.since(Time::now()));
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => {
                let (pid, seconds) = (old.info.pid, ANSWER_TIMEOUT.as_secs());
                return Err(Error::failure(format_args!(
                    "the daemon (pid {pid}) did not end within {seconds} s: see its log {}, or end it with 'kill {pid}'",
                    daemon.place().log.display()
                )));
            }
            Ok(_) => return Ok(()),
            Err(_) => {}
        }
    }
}

/// Connects to the next daemon: whoever kept the old one running brings it back, otherwise it is started from here.
fn next(daemon: &Daemon, old: &Old, lock: Option<&File>) -> Result<Link, Error> {
    let deadline = Time::now() + ANSWER_TIMEOUT;
    let mut pause = Pause::new();
    while old.is_supervised || lock.is_none() {
        if let Some(link) = daemon.connect_if_up()? {
            return Ok(link);
        }
        if Time::now() >= deadline {
            break;
        }
        thread::sleep(pause.next());
    }
    match lock {
        Some(lock) => start_through(lock, daemon.place(), START_TIMEOUT, || daemon.connect_if_up()),
        None => Err(Error::failure(format_args!(
            "the daemon has made room, and nobody has started the next one within {} s: {}",
            ANSWER_TIMEOUT.as_secs(),
            daemon.absent()
        ))),
    }
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid.try_into().ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn describe(info: &InfoReply) -> String {
    let (turns, waiters) = (counted(info.counts.holders, "turn"), counted(info.counts.waiters, "waiter"));
    format!("seqd {} (pid {}) took over {turns} and {waiters}\n", info.version, info.pid)
}
