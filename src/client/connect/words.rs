//! What is said of a daemon that cannot be talked to.

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::Daemon;
use crate::client::link::LinkError;
use crate::client::process::is_stopped;
use crate::daemon::{Place, SOCKET_VARIABLE};
use crate::error::{Cure, Error, status, with_limit};

impl Daemon {
    /// Turns a broken conversation into words.
    pub fn explain(&self, error: LinkError) -> Error {
        let socket = self.place.socket.display();
        match error {
            LinkError::Closed => Error::failure(format_args!(
                "the daemon at {socket} closed the connection: see its log {} and try again",
                self.place.log.display()
            )),
            LinkError::Full(why) => Error::failure(why).with_cure(Cure::Room),
            LinkError::Silent => self.silent(),
            LinkError::Garbage(what) => Error::failure(format_args!(
                "what answers at {socket} is not a seqd that this seq understands ({what}): \
                 {}, or name another socket with --socket",
                self.way_to_end_it()
            )),
            LinkError::OtherVersion(what) => Error::failure(format_args!(
                "the daemon at {socket} is not one that this seq understands ({what}): \
                 use the seq of its version, or {}",
                self.way_to_end_it()
            )),
            LinkError::System(error) => {
                Error::failure(format_args!("cannot talk to the daemon at {socket}: {}", with_limit(&error)))
            }
        }
    }

    /// The error when no daemon is there.
    pub(in crate::client) fn absent(&self) -> Error {
        let socket = self.place.socket.display();
        if self.is_of_all() {
            return Error::failure(format_args!(
                "the system-wide daemon at {socket} is not running: start it (systemctl start seqd.socket), \
                 or use your own with --socket"
            ));
        }
        if let Some(uid) = self.owner_if_not_me() {
            return Error::failure(format_args!(
                "the daemon of user {uid} at {socket} is not running: ask that user to start it, \
                 or use your own: without --socket and {SOCKET_VARIABLE}"
            ));
        }
        Error::failure(format_args!("no daemon listens at {socket}: start seqd, or leave out --no-start"))
    }

    pub(super) fn no_permission(&self) -> Error {
        Error::failure(format_args!(
            "no permission to use {}: ask its owner for access, or name a socket of yours with --socket",
            self.place.socket.display()
        ))
    }

    /// What to do about a program at the other end that this one cannot ask to leave.
    fn way_to_end_it(&self) -> String {
        // A service manager may have made the socket, and is not what is to end.
        match self.listener_pid().filter(|pid| *pid > 1) {
            Some(pid) => format!("end it with 'kill {pid}'"),
            None => "stop it".to_owned(),
        }
    }

    /// The process that listens, where this pid namespace shows it.
    fn listener_pid(&self) -> Option<i32> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        connect(&fd, &SocketAddrUnix::new(self.place.socket.as_path()).ok()?).ok()?;
        getsockopt(&fd, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
    }

    /// A daemon that takes no connection, or gives no answer, in time.
    pub(super) fn silent(&self) -> Error {
        let is_late = self.is_late();
        if is_late {
            return Error::new(status::NO_TURN, self.no_answer("in time"));
        }
        Error::new(status::FAILURE, self.silence())
    }

    /// That the daemon does not answer what it should answer at once, and the way out.
    pub(in crate::client) fn silence(&self) -> String {
        self.no_answer(&format!("for {} s", self.patience.as_secs()))
    }

    /// Who did not answer for so long, and the way out.
    fn no_answer(&self, how_long: &str) -> String {
        let socket = self.place.socket.display();
        match daemon_pid(&self.place) {
            Some(pid) if is_stopped(pid) => format!(
                "the daemon at {socket} (pid {pid}) is stopped and did not answer {how_long}: \
                 let it go on with 'kill -CONT {pid}'"
            ),
            Some(pid) => format!(
                "the daemon at {socket} (pid {pid}) did not answer {how_long}: \
                 see its log {}, or end it with 'kill {pid}'",
                self.place.log.display()
            ),
            None => {
                let who = self.listener_pid().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                format!(
                    "what listens at {socket}{who} did not answer {how_long}, and is no seqd: end it, or name \
                     another socket with --socket"
                )
            }
        }
    }
}

/// The daemon's process, as it says in the file that it keeps locked.
fn daemon_pid(place: &Place) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Life {
        pid: u32,
    }
    serde_json::from_slice::<Life>(&std::fs::read(&place.life_lock).ok()?).ok().map(|life| life.pid)
}
