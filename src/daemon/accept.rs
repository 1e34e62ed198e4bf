//! The door: lets clients in, turns away those who may not come, and stays where clients look for it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::{SendFlags, SocketFlags, accept_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::args::SeqdArgs;
use super::client::{self, ReadBuffer};
use super::crowd::{Room, too_many};
use super::descriptors::Budget;
use super::directory::{self, Access};
use super::link::Link;
use super::listen::{self, Listening};
use super::lock::{LifeLock, Taken};
use super::log::Log;
use super::options;
use super::place::Place;
use super::place_watch::PlaceWatch;
use super::wake::Wake;
use crate::clock::Time;
use crate::error::Error;
use crate::protocol::limits::{CONNECTIONS_EXTRA, CONNECTIONS_EXTRA_OPERATORS};
use crate::protocol::{ErrorCode, ErrorReply, Reply, Ticket, encode};
use crate::sequencer::{ConnectionId, Peer};
use crate::sys::readable;

/// How long to leave the door closed when nobody can be let in: the system has no memory for that, or no descriptor
/// left, not even the spare one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often to look whether somebody has left, while a client waits for room.
const ROOM_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How often everybody else is let go on before a connection counts as open that is being closed.
const ROUNDS_TO_CLOSE: u32 = 16;

/// How often to look whether the place is this daemon's still, while nothing tells when it is not.
const PLACE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How many looks in a row may find another lock, of which it cannot be told whose it is, before the daemon leaves.
const DOUBTS_MAX: u32 = 5;

/// Between two lines of the log about those who are turned away.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// What the log is told of those who are turned away: a line now and then, however many they are.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    next_at: Time,
    /// How many had no line of their own since the last one.
    untold: u64,
}

impl Complaint {
    fn say(&mut self, what: impl FnOnce() -> String) {
        let now = Time::now();
        if now < self.next_at {
            self.untold += 1;
            return;
        }
        self.next_at = now + COMPLAINT_INTERVAL;
        match std::mem::take(&mut self.untold) {
            0 => warn!("{}", what()),
            untold => warn!("{}; {untold} others before that", what()),
        }
    }
}

/// Everything about where clients come in.
pub(super) struct Door {
    pub(super) place: Place,
    pub(super) access: Access,
    pub(super) lock: LifeLock,
    pub(super) log: Arc<Log>,
    /// For the next daemon, beside the socket.
    pub(super) args: SeqdArgs,
    pub(super) listener: AsyncFd<OwnedFd>,
    /// See [`Listening::identity`].
    pub(super) identity: Option<(u64, u64)>,
    pub(super) place_watch: Option<PlaceWatch>,
    /// How often in a row the place could not be put back.
    pub(super) failures: u32,
    /// Given up for a moment to turn a client away when there is no other descriptor.
    pub(super) spare: Option<File>,
    pub(super) connections_max: usize,
    pub(super) budget: Budget,
    pub(super) complaint: Complaint,
    /// Its clones are the open connections.
    pub(super) open: Rc<()>,
    pub(super) owner: Sender<Wake>,
    pub(super) buffer: ReadBuffer,
    pub(super) last_id: u64,
}

impl Door {
    /// Lets clients in until `stop`, then gives itself back.
    pub(super) async fn run(mut self, stop: Rc<Notify>) -> Door {
        let mut looks = tokio::time::interval(PLACE_LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_told = self.place_watch.is_some() && self.failures == 0;
            tokio::select! {
                biased;
                () = stop.notified() => return self,
                () = PlaceWatch::changed(&mut self.place_watch) => self.check_place().await,
                _ = looks.tick(), if !is_told => {
                    self.watch_place();
                    self.check_place().await;
                }
                accepted = accept(&self.listener) => match accepted {
                    Ok(stream) => self.welcome(stream).await,
                    Err(error) => self.cannot_accept(&error).await,
                },
            }
        }
    }

    /// Removes the socket, if it is still this daemon's own. Of one that was told to leave for good, those who wait are
    /// to find that out without another daemon: `stopped_at` is the ticket that would have come next.
    pub(super) fn close(&self, stopped_at: Option<Ticket>) {
        if let Some(next) = stopped_at
            && self.lock.is_in_place()
            && let Err(error) = self.lock.say_stopped(next)
        {
            warn!("those who are on their way back will start another daemon: cannot leave word: {error}");
        }
        if let Some(identity) = self.identity
            && let Err(error) = listen::remove(&self.place.socket, identity)
        {
            warn!("cannot remove {}: {error}", self.place.socket.display());
        }
        if self.lock.is_in_place() {
            self.lock.say_nobody();
        }
    }

    async fn welcome(&mut self, stream: OwnedFd) {
        let Ok(credentials) = getsockopt(&stream, PeerCredentials) else { return };
        let me = rustix::process::geteuid().as_raw();
        let uid = credentials.uid();
        let is_operator = uid == me || uid == 0;
        if !is_operator && !self.access.everybody {
            self.complaint.say(|| format!("turned away uid {uid}: this daemon serves uid {me}"));
            let message = format!("this daemon serves uid {me} only: run one of your own");
            return turn_away(&stream, ErrorCode::Forbidden, message);
        }
        let pid = u32::try_from(credentials.pid()).unwrap_or(0);
        let peer = Peer { uid, pid, is_operator };
        if !self.has_room(peer).await
            && let Err(words) = self.await_room(peer).await
        {
            return turn_away(&stream, ErrorCode::TooManyConnections, words);
        }
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        let link = Rc::new(Link::new(id, peer, stream, Rc::clone(&self.open)));
        if self.owner.send(Wake::Opened(Rc::clone(&link))).await.is_ok() {
            tokio::task::spawn_local(client::serve(link, self.owner.clone(), Rc::clone(&self.buffer), self.budget));
        }
    }

    /// Whether one more connection may be open. Those that are being closed for others are so in a few rounds.
    async fn has_room(&self, peer: Peer) -> bool {
        // Where there is but one user, that one would take these, too.
        let of_operators = if peer.is_operator && self.access.everybody { CONNECTIONS_EXTRA_OPERATORS } else { 0 };
        let open_max = self.connections_max + CONNECTIONS_EXTRA + of_operators;
        let has_room = || Rc::strong_count(&self.open) <= open_max;
        for _ in 0..ROUNDS_TO_CLOSE {
            if has_room() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        has_room()
    }

    /// Waits until somebody has made room; gives up, with what to say, when nobody will.
    async fn await_room(&mut self, peer: Peer) -> Result<(), String> {
        self.complaint.say(|| format!("{}: who comes waits for room", too_many(self.connections_max)));
        loop {
            self.ask_for_room(Some(peer)).await?;
            if self.has_room(peer).await {
                return Ok(());
            }
        }
    }

    /// Lets somebody make room, or waits a moment for those who will. When nobody will, gives what to say.
    async fn ask_for_room(&self, peer: Option<Peer>) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        if self.owner.send(Wake::Crowded(peer, answer)).await.is_err() {
            return Err(too_many(self.connections_max));
        }
        match answered.await {
            Ok(Ok(Room::Made)) => {}
            Ok(Ok(Room::At(time))) => tokio::time::sleep(time.since(Time::now()).min(ROOM_LOOK_INTERVAL)).await,
            Ok(Err(words)) => return Err(words),
            Err(_) => return Err(too_many(self.connections_max)),
        }
        Ok(())
    }

    async fn cannot_accept(&mut self, error: &io::Error) {
        // The client was gone before it was let in.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
            return;
        }
        self.complaint.say(|| format!("cannot let a client in: {error}"));
        let is_exhausted = matches!(error.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE));
        if !is_exhausted {
            // Whatever it is, it is still there at the next try.
            return tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        if self.ask_for_room(None).await.is_ok() {
            for _ in 0..ROUNDS_TO_CLOSE {
                tokio::task::yield_now().await;
            }
            return;
        }
        if self.spare.take().is_some()
            && let Ok(Ok(stream)) = tokio::time::timeout(ACCEPT_PAUSE, accept(&self.listener)).await
        {
            turn_away(&stream, ErrorCode::TooManyConnections, too_many(Rc::strong_count(&self.open) - 1));
        }
        self.spare = File::open("/dev/null").ok();
        if self.spare.is_none() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    /// Without it the daemon looks now and then instead.
    pub(super) fn watch_place(&mut self) {
        let place = &self.place;
        if self.place_watch.as_mut().is_none_or(|watch| watch.look_at(place).is_err()) {
            self.place_watch = PlaceWatch::new(place).ok();
        }
    }

    /// A cleaner may have removed the socket, the lock, the storage or a whole directory: puts them back. Without the
    /// lock there would be a second daemon.
    async fn check_place(&mut self) {
        let is_bound = self.identity.is_none() || listen::identity_at(&self.place.socket) == self.identity;
        if is_bound && self.lock.is_in_place() && self.place.state.exists() {
            self.failures = 0;
            self.restore_rest(self.log.is_removed());
            let _ = self.owner.send(Wake::PutBack).await;
            return;
        }
        match self.restore_place(is_bound) {
            Ok(true) => {
                self.failures = 0;
                self.restore_rest(self.log.is_removed() || !self.log.is_there());
                info!("put the place of {} back, which somebody had removed", self.place.socket.display());
                let _ = self.owner.send(Wake::PutBack).await;
            }
            Ok(false) => _ = self.owner.send(Wake::Usurped).await,
            Err(error) => {
                self.complaint.say(|| format!("cannot put back what somebody had removed: {error}"));
                self.failures += 1;
                // Where there is no lock at all nobody else can have it.
                if self.failures >= DOUBTS_MAX && self.lock.is_replaced() {
                    let _ = self.owner.send(Wake::Usurped).await;
                }
            }
        }
    }

    /// Puts back what the daemon can do without, as far as that goes.
    fn restore_rest(&mut self, is_log_lost: bool) {
        if is_log_lost {
            match self.log.reopen() {
                Ok(()) => info!("put the log back, which somebody had removed"),
                Err(error) => self.complaint.say(|| error.to_string()),
            }
        }
        if let Err(error) = options::leave(&self.args, &self.place) {
            self.complaint.say(|| format!("cannot put {} back: {error}", self.place.options.display()));
        }
        let done = &self.place.done;
        if !directory::has_done(done, self.access) {
            match directory::prepare_done(done, self.access) {
                Ok(()) => info!("put {} back, which somebody had removed", done.display()),
                Err(error) => self.complaint.say(|| format!("users cannot leave word in {}: {error}", done.display())),
            }
        }
    }

    /// Whether this is still the one daemon.
    fn restore_place(&mut self, is_bound: bool) -> Result<bool, Error> {
        directory::prepare(&self.place.directory, self.access)?;
        if self.place.state != self.place.directory {
            directory::prepare(&self.place.state, Access::default())?;
        }
        // First, so that nothing that is put there is taken away unseen.
        self.watch_place();
        if !self.lock.is_in_place() {
            match LifeLock::take(&self.place.life_lock)? {
                Taken::Mine(lock) => self.lock = lock,
                Taken::Busy(_) => return Ok(false),
            }
        }
        if !is_bound {
            let Listening { listener, identity } = listen::bind(&self.place, self.access)?;
            self.listener = for_runtime(listener).map_err(Error::failure)?;
            self.identity = identity;
        }
        Ok(true)
    }
}

/// The listener, for the runtime.
pub(super) fn for_runtime(listener: UnixListener) -> io::Result<AsyncFd<OwnedFd>> {
    listener.set_nonblocking(true)?;
    readable(listener.into())
}

/// Lets the next client in. The runtime hears of the connection only from its own task, which wants to be told less of it
/// than the runtime's own sockets are.
async fn accept(listener: &AsyncFd<OwnedFd>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    listener.async_io(Interest::READABLE, |listener| Ok(accept_with(listener, flags)?)).await
}

/// Says why, as far as the kernel takes it at once.
fn turn_away(stream: &OwnedFd, code: ErrorCode, message: String) {
    let mut line = Vec::new();
    encode(&Reply::Error(ErrorReply { code, message, domain: None, request_id: None, ticket: None }), &mut line);
    let _ = rustix::net::send(stream, &line, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}
