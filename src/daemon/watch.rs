//! What keeps a turn besides its connection: a pipe, a process.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::io::DupFlags;
use rustix::pipe::{SpliceFlags, splice};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;
use tracing::warn;

use super::aside::aside;
use super::pipes::heir;
use super::process;
use super::wake::{Wake, WatchEnd};
use crate::error::with_limit;
use crate::protocol::Ticket;
use crate::store::ProcessIdentity;

/// Bytes that are thrown away at once: what a pipe holds.
const SPLICE_BYTES: usize = 64 * 1024;

/// What is watched for a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The reading end of a pipe; the rest are pidfds.
    Pipe,
    /// A process that works under the turn, or that it is bound to.
    Worker,
    /// The process that asked, of whose connection only the one before this daemon knew.
    Asker,
}

/// Who it is that is watched, so that the next daemon finds it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// A pipe, by its inode.
    Pipe(u64),
    /// A process.
    Process(ProcessIdentity),
}

/// Tells the owner when a pipe has no writer any more, or a process has ended; until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    /// Its number, never used twice.
    pub(super) number: u64,
    pub(super) role: Role,
    /// None for what has ended by now, and for what has no number in this pid namespace.
    pub(super) identity: Option<Identity>,
    task: AbortHandle,
}

/// Who it is that a descriptor is of; none when it has ended by now, or cannot be told.
pub(super) fn identify(role: Role, descriptor: &OwnedFd) -> Option<Identity> {
    match role {
        Role::Pipe => rustix::fs::fstat(descriptor).ok().map(|found| Identity::Pipe(found.st_ino)),
        Role::Worker | Role::Asker => process::identify(descriptor).map(Identity::Process),
    }
}

/// Makes watches.
#[derive(Debug)]
pub(super) struct Watcher {
    owner: Sender<Wake>,
    /// Where what comes out of the pipes goes.
    nowhere: Rc<File>,
    /// One looks for an heir at a time.
    looks: Rc<Semaphore>,
    last_number: u64,
}

impl Watcher {
    /// `owner` is told.
    ///
    /// # Errors
    ///
    /// When there is nowhere to throw away what comes out of the pipes.
    pub(super) fn new(owner: Sender<Wake>) -> io::Result<Watcher> {
        let nowhere = Rc::new(File::options().write(true).open("/dev/null")?);
        Ok(Watcher { owner, nowhere, looks: Rc::new(Semaphore::new(1)), last_number: 0 })
    }

    /// Watches something for `ticket`, which [`identify`] knows. The system is asked to by and by, when the owner is done
    /// with the batch at hand, so that nobody waits for it who is told of a turn; where it cannot the owner is told.
    pub(super) fn watch(
        &mut self,
        role: Role,
        identity: Option<Identity>,
        descriptor: OwnedFd,
        ticket: Ticket,
    ) -> Watch {
        self.last_number += 1;
        let number = self.last_number;
        let (owner, nowhere) = (self.owner.clone(), Rc::clone(&self.nowhere));
        let task = tokio::task::spawn_local(async move {
            let end = WatchEnd { watch: number, ticket, is_pipe: role == Role::Pipe };
            let ended = match role {
                Role::Pipe => until_closed(descriptor, &nowhere).await,
                Role::Worker | Role::Asker => until_ended(descriptor).await,
            };
            // The owner is gone only when the whole daemon is.
            let _ = owner.send(ended.map_or_else(|error| Wake::Blinded(end, error), |()| Wake::Ended(end))).await;
        });
        Watch { number, role, identity, task: task.abort_handle() }
    }

    /// Looks for the process that has the pipe of a turn whose client has named none; the owner is told by and by.
    pub(super) fn look_for_heir(&self, ticket: Ticket, pipe: u64) {
        let (owner, looks) = (self.owner.clone(), Rc::clone(&self.looks));
        tokio::task::spawn_local(async move {
            let Ok(_turn) = looks.acquire().await else { return };
            match aside(move || heir(pipe)).await {
                // The owner is gone only when the whole daemon is.
                Ok(Some(heir)) => _ = owner.send(Wake::Heir(ticket, heir)).await,
                Ok(None) => {}
                Err(error) => warn!("cannot look for what keeps ticket {ticket}: {}", with_limit(&error)),
            }
        });
    }

    /// Tells the owner of the end of a watch once this process has ended, too.
    pub(super) fn tell_after(&self, pidfd: OwnedFd, end: WatchEnd) {
        let owner = self.owner.clone();
        tokio::task::spawn_local(async move {
            _ = until_ended(pidfd).await;
            // The owner is gone only when the whole daemon is.
            _ = owner.send(Wake::Ended(end)).await;
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A pidfd is readable once its process has ended (`pidfd_open(2)`); there is nothing to read from it.
async fn until_ended(pidfd: OwnedFd) -> io::Result<()> {
    crate::sys::readable(pidfd)?.readable().await.map(drop)
}

/// Throws away what comes, until the last writer is gone. Never waits in the system, whatever a client that has the same
/// description makes of it: `SPLICE_F_NONBLOCK` goes with the call (`splice(2)`). An error says nothing of the writers.
async fn until_closed(pipe: OwnedFd, nowhere: &File) -> io::Result<()> {
    let pipe = crate::sys::readable(own_description(pipe)?)?;
    let read = |pipe: &OwnedFd| Ok(splice(pipe, None, nowhere, None, SPLICE_BYTES, SpliceFlags::NONBLOCK)?);
    // Before waiting for the first time: a fifo that lost its writers before it was opened never becomes ready.
    let mut last: io::Result<usize> = read(pipe.get_ref());
    loop {
        match last {
            Ok(0) => return Ok(()),
            // A writer that never stops must not keep the others waiting.
            Ok(_) => tokio::task::yield_now().await,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        let mut ready = pipe.readable().await?;
        last = ready.try_io(|pipe| read(pipe.get_ref())).unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()));
    }
}

/// The same pipe, opened anew, so that it is nobody else's. Another user's pipe cannot be opened; then what was sent must
/// do.
fn own_description(mut pipe: OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    if let Ok(own) = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        // In its place: numbers without a hole tell how many descriptors there are, see `Budget`.
        rustix::io::dup3(&own, &mut pipe, DupFlags::CLOEXEC)?;
        return Ok(pipe);
    }
    let flags = rustix::fs::fcntl_getfl(&pipe)?;
    rustix::fs::fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?;
    Ok(pipe)
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::mpsc;

    use super::*;

    /// It can be waited for and not be read as a pipe, which no pipe is known to come to.
    #[test]
    fn what_cannot_be_read_is_not_taken_for_closed() {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        let wake = runtime.block_on(async {
            let (sender, mut wakes) = mpsc::channel(1);
            let odd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            let _watch = Watcher::new(sender).unwrap().watch(Role::Pipe, None, odd, Ticket(7));
            wakes.recv().await
        });
        assert!(matches!(wake, Some(Wake::Blinded(WatchEnd { ticket: Ticket(7), .. }, _))), "{wake:?}");
    }
}
