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
use super::process::arguments;
use super::refusal::refused;
use super::start::{forbid_start, start_through};

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
    let Some(mut link) = daemon.connect_if_up()? else {
        let socket = daemon.place().socket.display();
        return Err(Error::new(status::OK, format_args!("nothing to restart: no daemon listens at {socket}")));
    };
    let info = info(daemon, &mut link)?;
    let arguments = arguments(info.pid);
    let is_daemon = arguments.iter().any(|argument| argument.ends_with("seqd"));
    let old = Old {
        pidfd: Some(info.pid).filter(|_| is_daemon).and_then(open),
        is_supervised: !arguments.iter().any(|argument| argument == "--detached"),
        info,
    };
    // Those who wait would start their own version as soon as this one is gone.
    let lock = if daemon.may_start() { Some(forbid_start(daemon.place())?) } else { None };
    ask(daemon, &mut link, &old)?;
    await_end(daemon, &mut link, &old)?;
    let mut link = next(daemon, &old, lock.as_ref())?;
    let text = describe(&info_of_next(daemon, &mut link)?);
    out.write_all(text.as_bytes()).map_err(|error| Error::output(&error))?;
    Ok(status::OK)
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

fn ask(daemon: &Daemon, link: &mut Link, old: &Old) -> Result<(), Error> {
    match link.ask(&Request::Restart(Restart::default()), ANSWER_TIMEOUT) {
        // One that is gone already is one that makes room.
        Ok(Reply::Restarting(_)) | Err(LinkError::Closed) => Ok(()),
        Ok(Reply::Error(error)) if error.code == ErrorCode::UnknownOperation => Err(Error::failure(format_args!(
            "the daemon (seqd {}, pid {}) is too old to hand its turns over: \
             end it with 'seq stop' when nothing waits, and the next 'seq run' starts the new one",
            old.info.version, old.info.pid
        ))),
        Ok(other) => Err(refused(other)),
        Err(error) => Err(daemon.explain(error)),
    }
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
        Some(lock) => start_through(lock, daemon.place(), || daemon.connect_if_up()),
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
