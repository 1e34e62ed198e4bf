//! A connection to the daemon, as the client sees it: blocking, with a deadline on everything that should come at once.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};

use crate::clock::Time;
use crate::protocol::limits::DESCRIPTORS_PER_REQUEST_MAX;
use crate::protocol::{Framed, Hello, HelloReply, LineBuffer, PROTOCOL_VERSION, Reply, Request, encode};

use super::refusal::unless_sent_away;

/// Bytes of the longest reply taken: a `status` of very long lines.
const REPLY_BYTES_MAX: usize = 1 << 30;

/// Bytes read at once: most replies are short, and each page of the stack that is used for the first time costs time.
const READ_BYTES: usize = 4 * 1024;

/// An open connection.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    buffer: LineBuffer,
}

/// Why nothing came.
#[derive(Debug)]
pub enum LinkError {
    /// The daemon has closed the connection, or is dead.
    Closed,
    /// The daemon has as many connections, or descriptors, as it may have, and says this. It keeps nothing of what it was
    /// asked.
    Full(String),
    /// Nothing came in time.
    Silent,
    /// What came is not a reply.
    Garbage(String),
    /// What answers is a daemon of another protocol; which one, in words.
    OtherVersion(String),
    /// The system refused.
    System(io::Error),
}

impl From<Errno> for LinkError {
    fn from(errno: Errno) -> LinkError {
        match errno {
            Errno::PIPE | Errno::CONNRESET => LinkError::Closed,
            Errno::AGAIN => LinkError::Silent,
            _ => LinkError::System(errno.into()),
        }
    }
}

impl Link {
    /// Takes over a connected socket.
    pub(super) fn new(socket: OwnedFd) -> Link {
        Link { socket, buffer: LineBuffer::new(REPLY_BYTES_MAX) }
    }

    /// Sends `hello` and `request` in one piece, with `descriptors` that belong to `request`. A daemon that has no room
    /// may have said so, and hung up, before.
    pub fn open_with(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = Request::Hello(Hello { protocol: PROTOCOL_VERSION, version, request_id: None });
        let mut bytes = Vec::with_capacity(512);
        encode(&hello, &mut bytes);
        encode(request, &mut bytes);
        match self.send_bytes(&bytes, descriptors) {
            Err(LinkError::Closed) => match self.try_receive()? {
                Some(last_words) => unless_sent_away(last_words).and(Err(LinkError::Closed)),
                None => Err(LinkError::Closed),
            },
            sent => sent,
        }
    }

    /// Sends one request.
    pub fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        let mut bytes = Vec::with_capacity(256);
        encode(request, &mut bytes);
        self.send_bytes(&bytes, descriptors)
    }

    fn send_bytes(&self, mut bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_REQUEST_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        while !bytes.is_empty() {
            match sendmsg(&self.socket, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    control.clear();
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// The next reply that is already here, without waiting; nothing when none is.
    pub fn try_receive(&mut self) -> Result<Option<Reply>, LinkError> {
        loop {
            if let Some(reply) = self.buffered()? {
                return Ok(Some(reply));
            }
            if !self.read(RecvFlags::DONTWAIT)? {
                return Ok(None);
            }
        }
    }

    /// The next reply; `Silent` when none comes within `patience`.
    pub fn receive(&mut self, patience: Option<Duration>) -> Result<Reply, LinkError> {
        let deadline = patience.map(|patience| Time::now() + patience);
        loop {
            if let Some(reply) = self.buffered()? {
                return Ok(reply);
            }
            let left = deadline.map(|deadline| deadline.since(Time::now()));
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut ready, left.map(timespec).as_ref()) {
                Ok(0) => return Err(LinkError::Silent),
                Ok(_) => _ = self.read(RecvFlags::DONTWAIT)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends `hello` and `request` and gives the answer to `request`. The daemon's `hello` is checked on the way.
    pub fn ask(&mut self, request: &Request, patience: Duration) -> Result<Reply, LinkError> {
        self.open_with(request, &[])?;
        self.answer(Some(patience))
    }

    /// The next reply that is not a `hello`, which is checked.
    pub fn answer(&mut self, patience: Option<Duration>) -> Result<Reply, LinkError> {
        loop {
            match self.receive(patience)? {
                Reply::Hello(hello) => check_version(&hello)?,
                reply => return Ok(reply),
            }
        }
    }

    fn buffered(&mut self) -> Result<Option<Reply>, LinkError> {
        match self.buffer.next_line() {
            None => Ok(None),
            Some(Framed::TooLong) => Err(LinkError::Garbage("a line without an end".to_owned())),
            Some(Framed::Line(line)) => {
                let reply = serde_json::from_slice(line).map_err(|error| LinkError::Garbage(error.to_string()))?;
                Ok(Some(reply))
            }
        }
    }

    /// Reads what is there; false when nothing is.
    fn read(&mut self, flags: RecvFlags) -> Result<bool, LinkError> {
        let mut bytes = [0; READ_BYTES];
        match recv(&self.socket, &mut bytes, flags) {
            Ok((0, _)) => Err(LinkError::Closed),
            Ok((read, _)) => {
                self.buffer.extend(&bytes[..read]);
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Fails unless the daemon speaks this client's protocol.
pub(super) fn check_version(hello: &HelloReply) -> Result<(), LinkError> {
    if hello.protocol == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(LinkError::OtherVersion(format!(
        "it is version {} and speaks protocol {}, this seq speaks {PROTOCOL_VERSION}",
        hello.version, hello.protocol
    )))
}

/// A time-out as `ppoll(2)` takes it.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
