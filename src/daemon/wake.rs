//! Everything that can wake the owner: one closed enum.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::crowd::Room;
use super::history::LogAsk;
use super::keys::KeyAsked;
use super::link::Link;
use super::pipes::Heir;
use crate::error::Error;
use crate::protocol::{Domain, ErrorReply, KeyOutput, Reply, Ticket};
use crate::sequencer::{ConnectionId, Enqueue, Input, Peer};

/// One reason for the owner to act.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most wakes are asks, and each is moved but a few times")]
pub(super) enum Wake {
    /// A client has come.
    Opened(Rc<Link>),
    /// A client is at the door, of whom nothing may be known yet, and there is no room; the answer says whether somebody
    /// makes some, and what to say if nobody does.
    Crowded(Option<Peer>, oneshot::Sender<Result<Room, String>>),
    /// A client has asked for something.
    Asked(ConnectionId, Ask),
    /// A client is gone, or will ask for nothing more.
    Closed(ConnectionId),
    /// A watcher that was too slow has read everything.
    CaughtUp(ConnectionId),
    /// What a watch waited for has happened.
    Ended(WatchEnd),
    /// A watch cannot go on, so that nobody knows whether that has happened.
    Blinded(WatchEnd, io::Error),
    /// This process was found to work under a turn whose client is gone.
    Heir(Ticket, Heir),
    /// The history has been read for a client.
    Read(ConnectionId, Box<Reply>),
    /// All batches up to this one survive a power cut, unless that failed.
    Synced(u64, Result<(), Error>),
    /// The process is asked to do something by a signal.
    Signal(Signal),
    /// Somebody removed the socket or what is beside it. The socket has been put back.
    PutBack,
    /// Another daemon has the life lock, since somebody removed its file.
    Usurped,
}

/// A request that has been understood.
#[derive(Debug)]
pub(super) enum Ask {
    /// For the sequencer as it is.
    Input(Input),
    /// A turn, with what may keep it: a pipe or a pidfd. In no box of its own, from which a ticket, which is smaller and
    /// stays, would leave a hole in memory that nothing fits into.
    Sequence(Enqueue, Option<OwnedFd>),
    /// The process that works under a turn, with its pidfd.
    Started(Ticket, u32, Option<OwnedFd>),
    /// What a command wrote that runs under this turn.
    Output(Ticket, KeyOutput),
    /// Anything that does not change the lines.
    Other(Box<Other>),
}

/// A request that does not change the lines.
#[derive(Debug)]
pub(super) enum Other {
    /// Who the daemon is.
    Hello(Option<String>),
    /// Who holds and who waits.
    Status {
        /// One line, or all.
        domain: Option<Domain>,
        /// Waiters to list for each.
        waiters_max: usize,
        /// Whether idle domains are listed.
        idle: bool,
        /// Repeated in the reply.
        request_id: Option<String>,
    },
    /// What happens from now on, in one line or all.
    Watch(Option<Domain>, Option<String>),
    /// About the daemon.
    Info(Option<String>),
    /// The past.
    Log(LogAsk),
    /// What is recorded of keys.
    Keys(KeyAsked),
    /// Which policies there are, for one line or all.
    Policies(Option<Domain>, Option<String>),
    /// That the daemon leaves.
    Stop(Option<String>),
    /// That the daemon makes room for the next.
    Restart(Option<String>),
    /// What cannot be answered otherwise.
    Refused(ErrorReply),
}

impl Ask {
    /// Whether the answer says nothing that has to be written down first.
    pub(super) fn is_told_at_once(&self) -> bool {
        matches!(self, Ask::Other(other) if matches!(**other, Other::Hello(_) | Other::Stop(_) | Other::Restart(_)))
    }

    /// Whether it is to be done only while somebody waits for the answer: it must not happen behind its user's back, or
    /// is an answer and nothing else. The end of a turn is no such thing: it has happened.
    pub(super) fn needs_hearer(&self) -> bool {
        match self {
            Ask::Sequence(..) => true,
            // A greeting does no harm.
            Ask::Other(other) => !matches!(**other, Other::Hello(_)),
            Ask::Input(input) => {
                matches!(input, Input::Release { .. } | Input::Cancel { .. } | Input::Wait { .. })
            }
            Ask::Started(..) | Ask::Output(..) => false,
        }
    }

    /// Whether the answer may be so large that it must be read before more is asked.
    pub(super) fn is_for_snapshot(&self) -> bool {
        matches!(self, Ask::Other(other) if matches!(**other, Other::Status { .. } | Other::Watch(..) | Other::Log(_) | Other::Policies(..) | Other::Keys(_)))
    }
}

/// The end of what one watch watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchEnd {
    /// The watch, by its number.
    pub(super) watch: u64,
    /// For whom.
    pub(super) ticket: Ticket,
    /// Whether the sequencer counts it as a pipe; as a process otherwise.
    pub(super) is_pipe: bool,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT.
    Leave,
    /// SIGHUP.
    HangUp,
}

/// Why the daemon leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// A signal asked for it.
    Signal,
    /// A client asked for it.
    Client,
    /// A client asked for it, so that the next daemon may start.
    Restart,
    /// Nothing has used the daemon for as long as it is to stay.
    Idle,
    /// Another daemon has its place. What is on disk is that one's now.
    Usurped,
}

impl fmt::Display for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Leaving::Signal => "asked by a signal",
            Leaving::Client => "asked by a client",
            Leaving::Restart => "asked to make room for the next",
            Leaving::Idle => "nothing uses it",
            Leaving::Usurped => "another daemon took over",
        })
    }
}
