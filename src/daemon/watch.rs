//! What keeps a turn besides its connection: a pipe, a process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

use super::client::ReadBuffer;
use super::wake::{Wake, WatchEnd};
use crate::protocol::Ticket;

/// Tells the owner when a pipe has no writer any more, or a process has ended; until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    /// Its number, never used twice.
    pub(super) number: u64,
    /// Whether it watches a pipe; a process otherwise.
    pub(super) is_pipe: bool,
    watched: Rc<AsyncFd<OwnedFd>>,
    task: AbortHandle,
}

/// Makes watches.
#[derive(Debug)]
pub(super) struct Watcher {
    owner: Sender<Wake>,
    buffer: ReadBuffer,
    last_number: u64,
}

impl Watcher {
    /// `owner` is told; `buffer` takes what comes out of the pipes.
    pub(super) fn new(owner: Sender<Wake>, buffer: ReadBuffer) -> Watcher {
        Watcher { owner, buffer, last_number: 0 }
    }

    /// Watches the reading end of a pipe for `ticket`.
    ///
    /// # Errors
    ///
    /// When the system cannot watch it.
    pub(super) fn pipe(&mut self, pipe: OwnedFd, ticket: Ticket) -> io::Result<Watch> {
        let pipe = own_description(pipe)?;
        let watched = Rc::new(AsyncFd::with_interest(pipe, Interest::READABLE)?);
        let (pipe, buffer) = (Rc::clone(&watched), Rc::clone(&self.buffer));
        Ok(self.spawn(watched, ticket, true, async move { until_closed(&pipe, &buffer).await }))
    }

    /// Watches a process by its pidfd for `ticket`.
    ///
    /// # Errors
    ///
    /// When the system cannot watch it.
    pub(super) fn process(&mut self, pidfd: OwnedFd, ticket: Ticket) -> io::Result<Watch> {
        let watched = Rc::new(AsyncFd::with_interest(pidfd, Interest::READABLE)?);
        let pidfd = Rc::clone(&watched);
        Ok(self.spawn(watched, ticket, false, async move {
            // A pidfd is readable once its process has ended (`pidfd_open(2)`); there is nothing to read from it.
            let _ = pidfd.readable().await;
        }))
    }

    fn spawn(
        &mut self,
        watched: Rc<AsyncFd<OwnedFd>>,
        ticket: Ticket,
        is_pipe: bool,
        ended: impl Future<Output = ()> + 'static,
    ) -> Watch {
        self.last_number += 1;
        let number = self.last_number;
        let owner = self.owner.clone();
        let task = tokio::task::spawn_local(async move {
            ended.await;
            // The owner is gone only when the whole daemon is.
            let _ = owner.send(Wake::Ended(WatchEnd { watch: number, ticket, is_pipe })).await;
        });
        Watch { number, is_pipe, watched, task: task.abort_handle() }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.get_ref().as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads and throws away what comes, until the last writer is gone.
async fn until_closed(pipe: &AsyncFd<OwnedFd>, buffer: &ReadBuffer) {
    let read = |pipe: &OwnedFd| Ok(rustix::io::read(pipe, &mut **buffer.borrow_mut())?);
    // Before waiting for the first time: a fifo that lost its writers before it was opened never becomes ready.
    let mut last: io::Result<usize> = read(pipe.get_ref());
    loop {
        match last {
            Ok(0) => return,
            // A writer that never stops must not keep the others waiting.
            Ok(_) => tokio::task::yield_now().await,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
        let Ok(mut ready) = pipe.readable().await else { return };
        last = ready.try_io(|pipe| read(pipe.get_ref())).unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()));
    }
}

/// The same pipe, opened anew: the client may still have the description that it sent, and could make a read from
/// that one wait for ever. Another user's pipe cannot be opened; then what was sent must do.
fn own_description(pipe: OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    if let Ok(own) = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        return Ok(own);
    }
    let flags = rustix::fs::fcntl_getfl(&pipe)?;
    rustix::fs::fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?;
    Ok(pipe)
}
