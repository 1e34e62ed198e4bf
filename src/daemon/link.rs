//! One client's connection: bytes in, bytes out, and never anybody who waits for it.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::sync::Notify;

use super::descriptors::Pending;
use super::process;
use crate::clock::Time;
use crate::protocol::limits::{DESCRIPTORS_PENDING_MAX, OUTBOX_BYTES_MAX};
use crate::protocol::{Reply, encode};
use crate::sequencer::{ConnectionId, Peer};
use crate::store::ProcessIdentity;
use crate::sys;

/// Bytes that one read takes at most. The buffer for it is shared by all connections.
pub(super) const READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes of memory that an outbox keeps while it is empty.
const OUTBOX_BYTES_KEPT: usize = 1024;

/// What the owner and a connection's own task share: the owner fills the outbox and writes what the kernel takes at
/// once, the task reads, and writes what the kernel did not take.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) peer: Peer,
    stream: Rc<OwnedFd>,
    /// The peer's process, once somebody needs to know it.
    identity: OnceCell<Option<Rc<ProcessIdentity>>>,
    outbox: RefCell<Outbox>,
    /// Whether the owner has put something into the outbox since it was last flushed.
    pub(super) is_dirty: Cell<bool>,
    /// Whether that is only where it stands.
    pub(super) is_placed: Cell<bool>,
    /// Whether the kernel took less than it was given: the task is to write when there is room again.
    is_blocked: Cell<bool>,
    /// The batch that must survive a power cut before anything more is told; zero for none.
    pub(super) held_for: Cell<u64>,
    /// Whether a request with a large answer has been read and not been answered; nothing more is read meanwhile.
    pub(super) is_owed_snapshot: Cell<bool>,
    /// Whether a watcher has missed events: the task is to tell the owner when the outbox is empty.
    pub(super) is_lagging: Cell<bool>,
    /// When something was read last, or when it came.
    pub(super) heard_at: Cell<Time>,
    /// Whether anything was ever read.
    pub(super) has_spoken: Cell<bool>,
    /// Whether it is there for errands only, see [`CONNECTIONS_EXTRA`](crate::protocol::limits::CONNECTIONS_EXTRA).
    pub(super) is_extra: Cell<bool>,
    /// Whether nothing more is to be read and what is in the outbox is the last.
    is_closing: Cell<bool>,
    /// Wakes the task when one of these has changed.
    changed: Notify,
    /// Counts the open connections by its clones.
    _open: Rc<()>,
}

/// Bytes that the client has not been given yet.
#[derive(Debug, Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// How many of them are written.
    written: usize,
    /// How many of them may be: what they tell is on disk.
    released: usize,
}

impl Link {
    /// A connection that has just been accepted; `open` is cloned once for each.
    pub(super) fn new(id: ConnectionId, peer: Peer, stream: OwnedFd, open: Rc<()>) -> Link {
        Link {
            id,
            peer,
            stream: Rc::new(stream),
            identity: OnceCell::new(),
            outbox: RefCell::default(),
            is_dirty: Cell::new(false),
            is_placed: Cell::new(false),
            is_blocked: Cell::new(false),
            held_for: Cell::new(0),
            is_owed_snapshot: Cell::new(false),
            is_lagging: Cell::new(false),
            heard_at: Cell::new(Time::now()),
            has_spoken: Cell::new(false),
            is_extra: Cell::new(false),
            is_closing: Cell::new(false),
            changed: Notify::new(),
            _open: open,
        }
    }

    /// The process at the other end, as the next daemon would find it; nothing once it has ended. Looked up once.
    pub(super) fn identity(&self) -> Option<Rc<ProcessIdentity>> {
        self.identity.get_or_init(|| process::identify_peer(&*self.stream, self.peer.pid).map(Rc::new)).clone()
    }

    /// Puts a reply into the outbox.
    pub(super) fn push(&self, reply: &Reply) {
        encode(reply, &mut self.outbox.borrow_mut().bytes);
    }

    /// Puts a line that is encoded already into the outbox.
    pub(super) fn push_line(&self, line: &[u8]) {
        self.outbox.borrow_mut().bytes.extend_from_slice(line);
    }

    /// Whether the client has closed its connection altogether, and not just what it writes to (`POLLHUP`, `poll(2)`).
    pub(super) fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::empty())];
        matches!(poll(&mut polled, Some(&Timespec::default())), Ok(1..)) && polled[0].revents().contains(PollFlags::HUP)
    }

    /// Bytes in the outbox.
    pub(super) fn outbox_bytes(&self) -> usize {
        let outbox = self.outbox.borrow();
        outbox.bytes.len() - outbox.written
    }

    /// Puts a reply ahead of all that must be written down first, and writes it.
    pub(super) fn push_now(&self, reply: &Reply) {
        self.outbox.borrow_mut().insert_released(reply);
        if !self.is_blocked.get() {
            self.write();
            if self.is_blocked.get() {
                self.changed.notify_one();
            }
        }
    }

    /// All that is in the outbox may be told: writes as much as the kernel takes at once, and leaves the rest to the
    /// task.
    pub(super) fn flush(&self) {
        self.is_dirty.set(false);
        self.outbox.borrow_mut().release();
        if !self.is_blocked.get() {
            self.write();
            if self.is_blocked.get() || self.is_lagging.get() || self.is_closing.get() {
                self.changed.notify_one();
            }
        }
    }

    /// Lets the task look again at what it may do.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Ends the connection once the outbox is empty.
    pub(super) fn close(&self) {
        self.is_closing.set(true);
        self.changed.notify_one();
    }

    /// Whether [`close`](Link::close) was called.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Whether there is nothing more to be told, as far as is known here.
    pub(super) fn has_been_answered(&self) -> bool {
        !self.is_owed_snapshot.get() && !self.is_closing.get() && self.outbox_bytes() == 0
    }

    /// Whether the client must catch up before more of it is read.
    pub(super) fn must_pause(&self) -> bool {
        self.is_owed_snapshot.get() || self.is_closing.get() || self.outbox_bytes() > OUTBOX_BYTES_MAX
    }

    /// Writes on, if there was no room before.
    pub(super) fn write_on(&self) {
        if self.is_blocked.get() {
            self.write();
        }
    }

    /// Waits until more of the outbox may be written, beside the connection's own task, which [`Events`] tell the same.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell.
    pub(super) async fn room(&self) -> io::Result<()> {
        if !self.is_blocked.get() {
            self.changed.notified().await;
            return Ok(());
        }
        let again = sys::watched(Rc::new(self.stream.try_clone()?), Interest::WRITABLE)?;
        again.writable().await.map(drop)
    }

    /// Whether the client has said something that is not read yet.
    pub(super) fn has_unread(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.stream, &mut [0; 1], flags).is_ok_and(|(_, bytes)| bytes > 0)
    }

    fn write(&self) {
        let mut outbox = self.outbox.borrow_mut();
        while outbox.written < outbox.released {
            let rest = &outbox.bytes[outbox.written..outbox.released];
            match send(&self.stream, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => outbox.written += count,
                Err(Errno::AGAIN) => {
                    self.is_blocked.set(true);
                    return outbox.compact();
                }
                Err(Errno::INTR) => {}
                // Nobody reads any more; the reading side will find out.
                Err(_) => break,
            }
        }
        self.is_blocked.set(false);
        outbox.clear();
    }
}

/// What wakes a connection's task. The system tells of room to write only while that is waited for: otherwise each answer
/// that a client takes would wake this process for nothing.
#[derive(Debug)]
pub(super) struct Events {
    link: Rc<Link>,
    /// What it tells of.
    interest: Interest,
    /// None once the system would not tell any more.
    told: Option<AsyncFd<Rc<OwnedFd>>>,
}

impl Events {
    /// Those of this connection. Only within the runtime.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(super) fn of(link: &Rc<Link>) -> io::Result<Events> {
        let mut events = Events { link: Rc::clone(link), interest: Interest::READABLE, told: None };
        events.tell_of(Interest::READABLE)?;
        Ok(events)
    }

    /// Waits until something can be done: room to write, bytes to read if `reads`, or a change by the owner.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell.
    pub(super) async fn ready(&mut self, reads: bool) -> io::Result<()> {
        let is_blocked = self.link.is_blocked.get();
        let told = if is_blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        if self.interest != told {
            self.tell_of(told)?;
        }
        let interest = match (is_blocked, reads) {
            (false, false) => {
                self.link.changed.notified().await;
                return Ok(());
            }
            (true, false) => Interest::WRITABLE,
            (_, true) => told,
        };
        let happened = self.told()?.ready(interest);
        tokio::select! {
            guard = happened => {
                // Room is used up before it is waited for again.
                guard?.clear_ready_matching(Ready::WRITABLE);
                Ok(())
            }
            () = self.link.changed.notified() => Ok(()),
        }
    }

    fn tell_of(&mut self, interest: Interest) -> io::Result<()> {
        // The system takes each descriptor once only.
        self.told = None;
        self.told = Some(sys::watched(Rc::clone(&self.link.stream), interest)?);
        self.interest = interest;
        Ok(())
    }

    fn told(&self) -> io::Result<&AsyncFd<Rc<OwnedFd>>> {
        self.told.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads what is there, without waiting, into `buffer`, and the descriptors that came with it into `descriptors`.
    pub(super) fn read(&self, buffer: &mut [u8], descriptors: &mut Pending) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PENDING_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let (buffer_bytes, told) = (buffer.len(), self.told()?);
        let received = told.try_io(Interest::READABLE, |stream| {
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            Ok(recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, flags)?)
        })?;
        let mut found = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                found.extend(received);
            }
        }
        let is_cut = received.flags.contains(ReturnFlags::CTRUNC);
        if received.bytes < buffer_bytes && found.is_empty() && !is_cut {
            // That was all: descriptors alone end a read before there is nothing more. What comes later tells the
            // runtime, so the kernel need not be asked once more now.
            let would_block = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            _ = told.try_io(Interest::READABLE, |_| would_block());
        }
        // With all that there is room for, it was the client that sent too many.
        let are_lost = is_cut && found.len() < DESCRIPTORS_PENDING_MAX;
        descriptors.extend(found.into_iter(), are_lost);
        self.link.heard_at.set(Time::now());
        self.link.has_spoken.set(true);
        Ok(received.bytes)
    }
}

impl Outbox {
    fn release(&mut self) {
        self.released = self.bytes.len();
    }

    fn insert_released(&mut self, reply: &Reply) {
        let mut line = Vec::new();
        encode(reply, &mut line);
        self.bytes.splice(self.released..self.released, line.iter().copied());
        self.released += line.len();
    }

    /// Forgets what was released.
    fn clear(&mut self) {
        self.bytes.drain(..self.released);
        self.bytes.shrink_to(OUTBOX_BYTES_KEPT);
        (self.written, self.released) = (0, 0);
    }

    /// Moves what is left to the front once more than half is written, so that each byte is moved once on average.
    fn compact(&mut self) {
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.released -= self.written;
            self.written = 0;
        }
    }
}
