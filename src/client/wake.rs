//! What a wait for a turn wakes up for.

use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::clock::Time;
use crate::protocol::Reply;

use super::link::{Link, LinkError, check_version, timespec};
use super::refusal::is_restarting;
use super::signals::Signals;

/// What the wait woke up for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it lives for a moment")]
pub(super) enum Wake {
    Reply(Reply),
    Signal(Signal),
    Tick,
    /// The daemon has gone.
    Lost,
}

/// The first answer, which must come at once. The daemon's `hello` is checked on the way.
pub(super) fn first_answer(link: &mut Link, signals: &Signals, patience: Duration) -> Result<Wake, LinkError> {
    loop {
        match next(link, signals, Some(patience))? {
            Wake::Tick => return Err(LinkError::Silent),
            Wake::Reply(Reply::Hello(hello)) => check_version(&hello)?,
            wake => return Ok(wake),
        }
    }
}

pub(super) fn next(link: &mut Link, signals: &Signals, patience: Option<Duration>) -> Result<Wake, LinkError> {
    let deadline = patience.map(|patience| Time::now() + patience);
    loop {
        // A signal goes before a turn that came in the same instant: what did not start need not be stopped.
        if let Some(signal) = signals.next_ending() {
            return Ok(Wake::Signal(signal));
        }
        match link.try_receive()? {
            Some(reply) if is_restarting(&reply) => return Ok(Wake::Lost),
            Some(reply) => return Ok(Wake::Reply(reply)),
            None => {}
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
