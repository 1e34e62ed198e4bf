//! Descriptors that come with requests, and how many of them there may be.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::pipe::fcntl_getpipe_size;

use super::process;
use super::read::Refusal;
use crate::protocol::ErrorCode;
use crate::protocol::limits::DESCRIPTORS_PENDING_MAX;

/// Descriptors kept back from new turns: for the processes of turns that there are, for new connections, and for the
/// daemon itself.
const KEPT_FROM_TURNS: u64 = 48;

/// Descriptors kept back from everything that clients send.
const KEPT_FROM_CLIENTS: u64 = 24;

/// How many descriptors may be open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// The daemon's limit on open files.
    pub(super) open_files: u64,
}

impl Budget {
    /// Whether a descriptor that has just come is one too many for a new turn.
    pub(super) fn is_used_up(self, descriptor: &OwnedFd) -> bool {
        self.is_within(descriptor, KEPT_FROM_TURNS)
    }

    /// How many there may be before no new turn may bring one.
    pub(super) fn for_turns(self) -> usize {
        usize::try_from(self.open_files.saturating_sub(KEPT_FROM_TURNS)).unwrap_or(usize::MAX)
    }

    /// Why a request is refused whose descriptor is one too many.
    pub(super) fn refusal(self) -> Refusal {
        let message = format!(
            "turns that are kept by a pipe or a process use up the daemon's limit on open files, {} (ulimit -Hn): \
             try again when some have ended, or raise it and restart the daemon with 'seq restart'",
            self.open_files
        );
        Refusal::new(ErrorCode::TooManyRequests, message)
    }

    /// Whether at most `kept` descriptors are left, by this one: the system gives the lowest number that is free
    /// (`open(2)`).
    fn is_within(self, descriptor: &OwnedFd, kept: u64) -> bool {
        u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number >= self.open_files.saturating_sub(kept))
    }
}

/// One that a client has sent.
#[derive(Debug)]
pub(super) enum Sent {
    /// The reading end of a pipe.
    Pipe(OwnedFd),
    /// A pidfd.
    Pidfd(OwnedFd),
    /// Something that no request has a use for. It is gone already.
    Foreign,
    /// There was no descriptor left for it.
    Lost,
}

impl Sent {
    /// Tells what it is. Whatever it is a descriptor of may belong to a file system that never answers (FUSE, NFS), so
    /// it is asked nothing that goes there: `fstat(2)` does.
    fn of(descriptor: OwnedFd) -> Result<Sent, OwnedFd> {
        if is_pipe(&descriptor) {
            Ok(Sent::Pipe(descriptor))
        } else if process::is_pidfd(&descriptor) {
            Ok(Sent::Pidfd(descriptor))
        } else {
            Err(descriptor)
        }
    }
}

/// Those that a client has sent and not named in a request yet.
#[derive(Debug)]
pub(super) struct Pending {
    queue: VecDeque<Sent>,
    pub(super) budget: Budget,
}

impl Pending {
    pub(super) fn new(budget: Budget) -> Pending {
        Pending { queue: VecDeque::new(), budget }
    }

    /// Keeps what has come with one message. What is too much is closed right here. `are_lost` says that the system
    /// had no descriptors left for some.
    pub(super) fn extend(&mut self, received: impl Iterator<Item = OwnedFd>, are_lost: bool) {
        let mut foreign = Vec::new();
        for descriptor in received {
            let is_too_many = self.budget.is_within(&descriptor, KEPT_FROM_CLIENTS);
            let sent = Sent::of(descriptor).unwrap_or_else(|descriptor| {
                foreign.push(descriptor);
                Sent::Foreign
            });
            self.push(if is_too_many { Sent::Lost } else { sent });
        }
        if are_lost {
            // It is not known how many, and none of a later message may be taken for one of them.
            while self.push(Sent::Lost) {}
        }
        if !foreign.is_empty() {
            close_aside(foreign);
        }
    }

    /// The next `count`, or as many as there are.
    pub(super) fn take(&mut self, count: usize) -> impl Iterator<Item = Sent> {
        self.queue.drain(..count.min(self.queue.len()))
    }

    /// Whether there was a place for it.
    fn push(&mut self, sent: Sent) -> bool {
        let has_place = self.queue.len() < DESCRIPTORS_PENDING_MAX;
        if has_place {
            self.queue.push_back(sent);
        }
        has_place
    }
}

/// Closes what may take for ever: `close(2)` asks the file system as well. Each lot has a thread of its own, so that one
/// that hangs keeps no other open.
fn close_aside(foreign: Vec<OwnedFd>) {
    // Without a thread they are closed here, after all, together with what was to be run.
    _ = std::thread::Builder::new().name("close".to_owned()).spawn(move || drop(foreign));
}

/// Whether it is the reading end of a pipe that has no name: a fifo is a file of some file system, and is not found again
/// by the next daemon.
fn is_pipe(descriptor: &OwnedFd) -> bool {
    let path = || format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let is_named = || std::fs::read_link(path()).is_ok_and(|name| !name.as_os_str().as_bytes().starts_with(b"pipe:"));
    let reads = || fcntl_getfl(descriptor).is_ok_and(|flags| !flags.intersects(OFlags::WRONLY | OFlags::RDWR));
    fcntl_getpipe_size(descriptor).is_ok() && reads() && !is_named()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;

    #[test]
    fn of_what_a_client_sends_pipes_and_pidfds_are_kept_and_the_rest_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let fifo = rustix::fs::open(&fifo, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let (reading, writing) = std::io::pipe().unwrap();
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let pidfd = process::open(std::process::id()).unwrap();
        let mut pending = Pending::new(Budget { open_files: 1 << 20 });
        pending.extend([reading.into(), writing.into(), fifo, null, pidfd].into_iter(), false);
        let found: Vec<Sent> = pending.take(9).collect();
        assert!(
            matches!(&found[..], [Sent::Pipe(_), Sent::Foreign, Sent::Foreign, Sent::Foreign, Sent::Pidfd(_)]),
            "{found:?}"
        );
    }
}
