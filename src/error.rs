//! The exit statuses, and the one error type that knows its words and its status.

use std::fmt;
use std::io;
use std::path::Path;

/// Exit statuses of `seq` and `seqd`. They are an interface: each has a line in `seq(1)` and a test.
pub mod status {
    /// It went well.
    pub const OK: u8 = 0;
    /// What was named is not there, or not so: no such ticket, not waiting, not the caller's.
    pub const NO: u8 = 1;
    /// Wrong usage of any subcommand but `run` (as clap and most tools have it).
    pub const USAGE: u8 = 2;
    /// Run-once key reused with another command (`EX_DATAERR`, `sysexits(3)`).
    pub const CONFLICT: u8 = 65;
    /// No turn: busy with `--no-wait`, line full, `--max-wait` over, or the request has its turn already (`EX_TEMPFAIL`,
    /// `sysexits(3)`).
    pub const NO_TURN: u8 = 75;
    /// No turn: cancelled, or replaced by a newer request.
    pub const CANCELLED: u8 = 76;
    /// Stopped because it held the turn longer than `--max-run` (as `timeout(1)`).
    pub const MAX_RUN: u8 = 124;
    /// Failure of seq itself, wrong usage of `run` included (as `timeout(1)`, `env(1)`).
    pub const FAILURE: u8 = 125;
    /// The command was found but cannot be executed (POSIX, as `env(1)`).
    pub const CANNOT_EXECUTE: u8 = 126;
    /// The command was not found (POSIX, as `env(1)`).
    pub const NOT_FOUND: u8 = 127;
    /// Added to a signal's number: the command, or seq while it waited, was ended by that signal (as the shells).
    pub const SIGNAL_BASE: u8 = 128;
}

/// `SIGPIPE` (`signal(7)`).
const SIGPIPE: u8 = 13;

/// What can go wrong, with the data to say it, and the status to exit with.
#[derive(Debug)]
pub struct Error {
    /// One sentence, lower case, without a full stop: what was attempted on what, why it failed, the way out. Empty
    /// when the status says it all.
    message: String,
    /// One of [`status`].
    exit_status: u8,
    cure: Cure,
}

/// What has to happen before it is of any use to try again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cure {
    /// Nothing is known of that.
    #[default]
    Unknown,
    /// The disk has to take what is written, for instance because there is room again. Nothing was changed, so the same
    /// may be tried again then.
    Write,
    /// Others have to end their connections to the daemon, or their turns: it has as many as it may have.
    Room,
    /// Somebody has to do what the message says.
    Person,
}

impl Error {
    /// An error that is said with `message` and exits with `exit_status`.
    pub fn new(exit_status: u8, message: impl fmt::Display) -> Error {
        Error { message: message.to_string(), exit_status, cure: Cure::Unknown }
    }

    /// A failure of seq itself: status 125.
    pub fn failure(message: impl fmt::Display) -> Error {
        Error::new(status::FAILURE, message)
    }

    /// This error, which `cure` is needed for.
    #[must_use]
    pub fn with_cure(self, cure: Cure) -> Error {
        Error { cure, ..self }
    }

    /// What has to happen before it is of any use to try again.
    pub fn cure(&self) -> Cure {
        self.cure
    }

    /// Standard output cannot be written. When nobody reads it any more nothing is said, as if `SIGPIPE` had come.
    pub fn output(error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Error::new(status::SIGNAL_BASE + SIGPIPE, ""),
            _ => Error::failure(format_args!("cannot write to standard output: {error}")),
        }
    }

    /// Whether there is anything to say.
    pub fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// The status to exit with.
    pub fn exit_status(&self) -> u8 {
        self.exit_status
    }
}

/// The way out when the file `path` cannot be written, or made.
pub fn way_to_write(error: &io::Error, path: &Path) -> String {
    let is_its_own = error.kind() == io::ErrorKind::PermissionDenied && path.is_file();
    way_to_write_in(error, if is_its_own { path } else { path.parent().unwrap_or(path) })
}

/// The way out when `directory`, or a file in it, cannot be written.
pub fn way_to_write_in(error: &io::Error, directory: &Path) -> String {
    let directory = directory.display();
    if let Some(way_out) = way_past_limit(error) {
        return way_out.to_owned();
    }
    match error.kind() {
        io::ErrorKind::IsADirectory => {
            "a directory is in its place: move that away, or name a socket elsewhere with --socket".to_owned()
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("make room in {directory}"),
        _ => format!(
            "make {directory} writable, or name a socket elsewhere with --socket or SEQ_SOCKET, the same for all \
             commands that take turns"
        ),
    }
}

/// What `error` says, and the way out where a limit of the process or of its user is at fault.
pub fn with_limit(error: &io::Error) -> String {
    way_past_limit(error).map_or_else(|| error.to_string(), |way_out| format!("{error}: {way_out}"))
}

/// The way out where a limit of the process or of its user is at fault.
pub fn way_past_limit(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => Some("raise the limit on open files (ulimit -n)"),
        Some(rustix::io::Errno::AGAIN) => Some("raise the limit on processes (ulimit -u), or end some"),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_made_writable_is_the_file_if_it_is_there() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("life.lock");
        let way_out = || way_to_write(&io::ErrorKind::PermissionDenied.into(), &path);
        assert!(way_out().starts_with(&format!("make {} writable, or ", scratch.path().display())));
        std::fs::write(&path, "").unwrap();
        assert!(way_out().starts_with(&format!("make {} writable, or ", path.display())));
    }
}
