//! Something that is done on the side, in a thread, so that signals and the command's end wait for nothing.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::clock::Time;

use super::link::timespec;

/// What a thread does, and its end as something to poll: readable once it is done.
///
/// The thread has the signal mask of the one that starts it, so what is blocked there never reaches it. It goes with
/// the process if nobody waits for it.
#[derive(Debug)]
pub(super) struct Errand<T> {
    end: PipeReader,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Errand<T> {
    /// Starts it.
    pub(super) fn start(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Errand<T>> {
        let (end, open) = io::pipe()?;
        let thread = thread::Builder::new().name("errand".to_owned()).spawn(move || {
            let result = work();
            drop(open);
            result
        })?;
        Ok(Errand { end, thread })
    }

    /// Whether it is done, so that nothing waits for its result.
    pub(super) fn is_done(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Its result, waited for if need be; nothing when it failed.
    pub(super) fn result(self) -> Option<T> {
        self.thread.join().ok()
    }

    /// Its result, if it has one within `patience`.
    pub(super) fn result_within(self, patience: Duration) -> Option<T> {
        if self.wait(patience) { self.result() } else { None }
    }

    fn wait(&self, patience: Duration) -> bool {
        let deadline = Time::now() + patience;
        loop {
            let left = timespec(deadline.since(Time::now()));
            match poll(&mut [PollFd::new(&self.end, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// What is heard on the way from somebody on an errand; readable when there may be something.
#[derive(Debug)]
pub(super) struct Reports<T> {
    bell: PipeReader,
    said: Receiver<T>,
}

/// The other end of [`Reports`].
#[derive(Debug)]
pub(super) struct Reporter<T> {
    bell: PipeWriter,
    say: Sender<T>,
}

/// A way to hear from an errand before it is done.
pub(super) fn reports<T>() -> io::Result<(Reporter<T>, Reports<T>)> {
    let ((heard, bell), (say, said)) = (io::pipe()?, channel());
    Ok((Reporter { bell, say }, Reports { bell: heard, said }))
}

impl<T> Reporter<T> {
    /// Says something. Whoever listened may be gone.
    pub(super) fn say(&mut self, what: T) {
        if self.say.send(what).is_ok() {
            _ = self.bell.write_all(&[0]);
        }
    }
}

impl<T> Reports<T> {
    /// What was said and not heard yet, without waiting; nothing when that is all.
    pub(super) fn next(&mut self) -> Option<T> {
        let said = self.said.try_recv().ok()?;
        // Rung after it was said, so it is there, or is just coming.
        _ = self.bell.read_exact(&mut [0]);
        Some(said)
    }
}

impl<T> AsFd for Reports<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl<T> AsFd for Errand<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}
