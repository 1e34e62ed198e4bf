//! Finding the daemon, and making sure that it is ours before a word is said to it.

mod words;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;

use crate::cli::Global;
use crate::clock::Time;
use crate::daemon::{Place, SOCKET_VARIABLE, SYSTEM_SOCKET, default_socket, home_directory, usual_config, was_stopped};
use crate::error::{Cure, Error, status, with_limit};
use crate::protocol::limits::ANSWER_TIMEOUT;
use crate::protocol::{Reply, Request, Ticket};

use super::link::{Link, LinkError};
use super::refusal::unless_sent_away;
use super::start::{await_departure, start};

/// A daemon that can be talked to: where it is, and whether to start one there.
#[derive(Clone, Debug)]
pub struct Daemon {
    place: Place,
    may_start: bool,
    /// How long it may take to answer what should be answered at once.
    patience: Duration,
    /// When who asks has waited for as long as it wants to.
    give_up: Option<Time>,
}

/// How much longer than the longest wait the daemon may take to say that it is over.
pub(super) const MAX_WAIT_GRACE: Duration = Duration::from_millis(500);

/// Why there is no connection.
enum Refusal {
    /// No daemon listens there: one may be started.
    Absent,
    /// A daemon is there, but something is wrong.
    Wrong(Error),
}

impl Daemon {
    /// Decides where the daemon is: `--socket`, then `SEQ_SOCKET`, then a system-wide daemon's socket if it is there,
    /// then the user's own.
    pub fn locate(global: &Global) -> Result<Daemon, Error> {
        let named = global
            .socket
            .clone()
            .or_else(|| std::env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty()).map(PathBuf::from));
        let (socket, may_start) = match named {
            Some(socket) => (socket, true),
            None if is_there(Path::new(SYSTEM_SOCKET)) => (PathBuf::from(SYSTEM_SOCKET), false),
            None => (own_socket()?, true),
        };
        let may_start = may_start && !global.no_start;
        Ok(Daemon { place: Place::of_socket(&socket)?, may_start, patience: ANSWER_TIMEOUT, give_up: None })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// This daemon, but never started when it is not there.
    #[must_use]
    pub fn without_start(&self) -> Daemon {
        Daemon { may_start: false, ..self.clone() }
    }

    /// Whether one is started when none is there: never in another user's place.
    pub(super) fn may_start(&self) -> bool {
        self.may_start && self.owner_if_not_me().is_none()
    }

    /// This daemon, but given up as silent after `patience`.
    #[must_use]
    pub fn within(&self, patience: Duration) -> Daemon {
        Daemon { patience, ..self.clone() }
    }

    /// This daemon for a request that waits until `max_wait` from now at most: one that is silent for longer gives it no
    /// turn in time.
    #[must_use]
    pub(super) fn for_at_most(&self, max_wait: Option<Duration>) -> Daemon {
        Daemon { give_up: max_wait.map(|longest| Time::now() + longest), ..self.clone() }
    }

    /// How long it may take to answer what should be answered at once.
    pub(super) fn patience(&self) -> Duration {
        let left = self.give_up.map(|give_up| give_up.since(Time::now()) + MAX_WAIT_GRACE);
        left.map_or(self.patience, |left| left.min(self.patience))
    }

    /// Connects, and starts a daemon if there is none and that is allowed.
    pub fn connect(&self) -> Result<Link, Error> {
        self.connect_unless(|| false)?.ok_or_else(|| self.absent())
    }

    /// Whether no daemon is there since the last one was told to leave for good, later than `ticket` was given.
    pub(super) fn was_stopped_after(&self, ticket: Ticket) -> bool {
        was_stopped(&self.place.life_lock, ticket) && matches!(self.connect_once(), Err(Refusal::Absent))
    }

    /// Connects for who has this ticket, and starts a daemon if need be; nothing when the last one was told to leave for
    /// good while the ticket lived.
    pub(super) fn connect_for(&self, ticket: Ticket) -> Result<Option<Link>, Error> {
        self.connect_unless(|| was_stopped(&self.place.life_lock, ticket))
    }

    /// Nothing when there is no daemon and none is to be started, since `is_over`.
    fn connect_unless(&self, is_over: impl Fn() -> bool) -> Result<Option<Link>, Error> {
        match self.connect_once() {
            Ok(link) => Ok(Some(link)),
            Err(Refusal::Wrong(error)) => Err(error),
            Err(Refusal::Absent) if is_over() => Ok(None),
            Err(Refusal::Absent) if self.may_start() => self.start_unless(is_over),
            Err(Refusal::Absent) => Err(self.absent()),
        }
    }

    /// Starts a daemon and connects to it. One that takes longer to start than who asks wants to wait gives no turn in
    /// time.
    fn start_unless(&self, is_over: impl Fn() -> bool) -> Result<Option<Link>, Error> {
        let connect = || match self.connect_if_up()? {
            None if is_over() => Ok(Some(None)),
            found => Ok(found.map(Some)),
        };
        start(&self.place, self.patience(), connect).map_err(|error| match error.cure() {
            Cure::Unknown if self.is_late() => Error::new(status::NO_TURN, error),
            _ => error,
        })
    }

    /// Whether who asks has waited for as long as it wants to.
    fn is_late(&self) -> bool {
        self.give_up.is_some_and(|give_up| give_up <= Time::now())
    }

    /// Connects and sends a request, again if the daemon is just leaving: until the first reply is here nothing was
    /// promised, so asking the next daemon is safe. `ask` sends the request and waits for the first reply.
    pub fn talk<T>(&self, ask: impl FnMut(&mut Link) -> Result<T, LinkError>) -> Result<(Link, T), Error> {
        self.talk_over(|| self.connect().map(Some), ask)?.ok_or_else(|| self.absent())
    }

    /// Talks to the daemon if there is one; nothing when there is none, and so no line and no turn.
    ///
    /// A daemon that left while turns were taken wrote them down: then one is started to take them up again.
    pub fn talk_if_there<T>(
        &self,
        ask: impl FnMut(&mut Link) -> Result<T, LinkError>,
    ) -> Result<Option<(Link, T)>, Error> {
        self.talk_over(|| self.connect_if_there(), ask)
    }

    /// As [`talk_if_there`](Daemon::talk_if_there), for who has talked to one before: where that was told to leave for good
    /// none is started.
    pub(super) fn talk_unless_stopped<T>(
        &self,
        ask: impl FnMut(&mut Link) -> Result<T, LinkError>,
    ) -> Result<Option<(Link, T)>, Error> {
        let connect = || match self.connect_if_up()? {
            None if self.may_have_turns() => self.connect_for(Ticket(0)),
            found => Ok(found),
        };
        self.talk_over(connect, ask)
    }

    /// Talks to the daemon if there is one now.
    pub(super) fn talk_if_up<T>(
        &self,
        ask: impl FnMut(&mut Link) -> Result<T, LinkError>,
    ) -> Result<Option<(Link, T)>, Error> {
        self.talk_over(|| self.connect_if_up(), ask)
    }

    fn talk_over<T>(
        &self,
        connect: impl Fn() -> Result<Option<Link>, Error>,
        mut ask: impl FnMut(&mut Link) -> Result<T, LinkError>,
    ) -> Result<Option<(Link, T)>, Error> {
        let deadline = Time::now() + self.patience;
        loop {
            let Some(mut link) = connect()? else { return Ok(None) };
            match ask(&mut link) {
                Ok(answer) => return Ok(Some((link, answer))),
                Err(LinkError::Closed) if Time::now() < deadline => {
                    // It is leaving. The next connection finds it gone, or its successor.
                    await_departure();
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    /// Asks one question and gives the answer.
    pub fn ask(&self, request: &Request) -> Result<Reply, Error> {
        self.talk(|link| unless_sent_away(link.ask(request, self.patience())?)).map(|(_, reply)| reply)
    }

    /// Asks one question if a daemon is there; see [`talk_if_there`](Daemon::talk_if_there).
    pub fn ask_if_there(&self, request: &Request) -> Result<Option<Reply>, Error> {
        Ok(self.talk_if_there(|link| unless_sent_away(link.ask(request, self.patience())?))?.map(|(_, reply)| reply))
    }

    /// As [`ask_if_there`](Daemon::ask_if_there), but one is started also where it would know of a policy, or of a domain
    /// that rests.
    pub(super) fn ask_if_it_knows(&self, request: &Request) -> Result<Option<Reply>, Error> {
        let connect = || match self.connect_if_there()? {
            None if self.may_have_policies() => self.connect().map(Some),
            found => Ok(found),
        };
        let asked = self.talk_over(connect, |link| unless_sent_away(link.ask(request, self.patience())?))?;
        Ok(asked.map(|(_, reply)| reply))
    }

    /// Connects if a daemon is there, and starts none in any case.
    pub(super) fn connect_if_up(&self) -> Result<Option<Link>, Error> {
        match self.connect_once() {
            Ok(link) => Ok(Some(link)),
            Err(Refusal::Absent) => Ok(None),
            Err(Refusal::Wrong(error)) => Err(error),
        }
    }

    fn connect_if_there(&self) -> Result<Option<Link>, Error> {
        match self.connect_if_up()? {
            None if self.may_have_turns() => self.connect().map(Some),
            found => Ok(found),
        }
    }

    /// Whether an earlier daemon may have left turns: only a daemon can tell then, or say why it cannot. So it is with
    /// one that is somebody else's, for what it left is not to be seen.
    pub(super) fn may_have_turns(&self) -> bool {
        self.is_of_all() || self.owner_if_not_me().is_some() || self.place.files().outlive_a_daemon()
    }

    /// Whether an earlier daemon may have left policies, or a file says what the next one would read.
    fn may_have_policies(&self) -> bool {
        self.place.files().have_settings() || usual_config().is_some_and(|path| is_there(&path))
    }

    /// Whether it is the daemon of the whole system, which nobody starts by the way.
    fn is_of_all(&self) -> bool {
        self.place.socket == Path::new(SYSTEM_SOCKET)
    }

    fn connect_once(&self) -> Result<Link, Refusal> {
        self.check_owner()?;
        let socket = &self.place.socket;
        let wrong = |errno: Errno| {
            Refusal::Wrong(Error::failure(format_args!(
                "cannot connect to {}: {}",
                socket.display(),
                with_limit(&errno.into())
            )))
        };
        let address = SocketAddrUnix::new(socket.as_path()).map_err(wrong)?;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(wrong)?;
        set_socket_timeout(&fd, Timeout::Send, Some(self.patience())).map_err(wrong)?;
        // Where the backlog is full, SIGSTOP and SIGCONT end the wait for it (`signal(7)`).
        match retry_on_intr(|| connect(&fd, &address)) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Err(Refusal::Absent),
            Err(Errno::AGAIN) => return Err(Refusal::Wrong(self.silent())),
            // A socket of another kind (`connect(2)`).
            Err(Errno::PROTOTYPE) => {
                return Err(Refusal::Wrong(Error::failure(format_args!(
                    "{} is not a socket of seqd: move it away, or name another path with --socket",
                    socket.display()
                ))));
            }
            Err(Errno::ACCESS | Errno::PERM) => return Err(Refusal::Wrong(self.no_permission())),
            Err(errno) => return Err(wrong(errno)),
        }
        self.check_peer(&fd)?;
        Ok(Link::new(fd))
    }

    /// Directory and socket must belong to this user or to root; others must not be able to put another in place.
    fn check_owner(&self) -> Result<(), Refusal> {
        if self.lstat(&self.place.socket)?.is_some_and(|found| found.is_dir()) {
            return Err(Refusal::Wrong(Error::failure(format_args!(
                "{} is a directory: name a path in one with --socket, as {}",
                self.place.socket.display(),
                self.place.socket.join("seqd.sock").display()
            ))));
        }
        let Some(directory) = self.lstat(&self.place.directory)? else {
            return Err(Refusal::Absent);
        };
        let shown = self.place.directory.display();
        if !directory.is_dir() {
            return Err(Refusal::Wrong(Error::failure(format_args!(
                "{shown} is not a directory: seq keeps its socket in a directory of its own, name one with --socket"
            ))));
        }
        if !self.trusts(directory.uid()) {
            return Err(Refusal::Wrong(Error::failure(format_args!(
                "{shown} belongs to user {}, not to you: name a socket in a directory of yours with --socket",
                directory.uid()
            ))));
        }
        if directory.mode() & 0o022 != 0 {
            return Err(Refusal::Wrong(Error::failure(format_args!(
                "others can write to {shown} (mode {:04o}), so what listens in it cannot be trusted: \
                 name a socket in a directory that only you can write to with --socket, or, if it is there for \
                 nothing else and you know what is in it, chmod 700 {shown}",
                directory.mode() & 0o7777
            ))));
        }
        let Some(socket) = self.lstat(&self.place.socket)? else {
            return Err(Refusal::Absent);
        };
        let shown = self.place.socket.display();
        if !socket.file_type().is_socket() {
            return Err(Refusal::Wrong(Error::failure(format_args!(
                "{shown} is not a socket: move it away, or name another path with --socket"
            ))));
        }
        if !self.trusts(socket.uid()) {
            return Err(Refusal::Wrong(Error::failure(format_args!(
                "{shown} belongs to user {}, not to you: name a socket of yours with --socket",
                socket.uid()
            ))));
        }
        Ok(())
    }

    fn check_peer(&self, fd: &OwnedFd) -> Result<(), Refusal> {
        // Not rustix's `socket_peercred`: it fails for a peer in another pid namespace, whose pid reads as zero.
        let uid = getsockopt(fd, PeerCredentials).map(|peer| peer.uid());
        match uid {
            Ok(uid) if self.trusts(uid) => Ok(()),
            Ok(uid) => Err(Refusal::Wrong(Error::failure(format_args!(
                "the program at {} runs as user {uid}, not as you: name a socket of yours with --socket",
                self.place.socket.display()
            )))),
            Err(errno) => Err(Refusal::Wrong(self.explain(LinkError::System(errno.into())))),
        }
    }

    /// Whose daemon may be talked to: one's own and root's; a system-wide one may run as a user of its own, which
    /// root chose by giving it `/run/seqd`.
    fn trusts(&self, uid: u32) -> bool {
        uid == 0 || uid == geteuid().as_raw() || self.place.socket == Path::new(SYSTEM_SOCKET)
    }

    /// What is at `path`, links not followed; nothing when nothing is.
    fn lstat(&self, path: &Path) -> Result<Option<std::fs::Metadata>, Refusal> {
        match std::fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Refusal::Wrong(self.no_permission())),
            Err(error) => Err(Refusal::Wrong(Error::failure(format_args!(
                "cannot look at {}: {error}: name a socket elsewhere with --socket",
                path.display()
            )))),
        }
    }

    /// Who has the directory, if that is another user: then only that one can start a daemon there.
    fn owner_if_not_me(&self) -> Option<u32> {
        let owner = std::fs::symlink_metadata(&self.place.directory).ok()?.uid();
        (owner != geteuid().as_raw()).then_some(owner)
    }
}

/// Whether something is at `path`, or may be: who must not look must not take it for missing either.
fn is_there(path: &Path) -> bool {
    !matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// The socket in the user's own home directory. With somebody else's `HOME`, as after some ways to become root, what
/// would be made there would lock its owner out.
fn own_socket() -> Result<PathBuf, Error> {
    let home = home_directory()?.ok_or_else(no_home)?;
    let me = geteuid().as_raw();
    match std::fs::metadata(&home) {
        Ok(found) if !found.is_dir() => Err(Error::failure(format_args!(
            "the home directory {} is not a directory: set HOME to yours, or name a socket with --socket",
            home.display()
        ))),
        Ok(found) if found.uid() != me && found.uid() != 0 => Err(Error::failure(format_args!(
            "the home directory {} belongs to user {}, not to you (user {me}): set HOME to yours (sudo -H does), \
             or name a socket with --socket",
            home.display(),
            found.uid()
        ))),
        _ => default_socket()?.ok_or_else(no_home),
    }
}

fn no_home() -> Error {
    Error::failure("there is no home directory to keep the socket in: set HOME, or name a socket with --socket")
}
