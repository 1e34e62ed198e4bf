//! Where a daemon lives: its socket, and the files beside it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::store::Files;

/// The socket of a system-wide daemon.
pub const SYSTEM_SOCKET: &str = "/run/seqd/seqd.sock";

/// Where a system-wide daemon keeps what must outlive a restart of the machine, which `/run` does not.
const SYSTEM_STATE: &str = "/var/lib/seqd";

/// The environment variable that names the socket when `--socket` does not.
pub const SOCKET_VARIABLE: &str = "SEQ_SOCKET";

/// Bytes of a socket's path, as long as the system allows (`sun_path`, `unix(7)`, its closing NUL not counted).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The socket's usual file name. Its files have plain names; those of another socket are called after it.
const SOCKET_NAME: &str = "seqd.sock";

/// Where the state of programs is, in a home directory.
const STATE_DIRECTORY: &str = ".local/state";

/// Where a user's own daemon listens: `~/.local/state/seq/seqd.sock`. Nothing when the user has no home directory.
///
/// # Errors
///
/// As [`home_directory`].
///
/// It depends on the user alone, and not on `XDG_RUNTIME_DIR`, `XDG_STATE_HOME` or `TMPDIR`: cron, ssh, sudo and
/// systemd set those differently, and two daemons would mean no exclusion at all.
pub fn default_socket() -> Result<Option<PathBuf>, Error> {
    Ok(home_directory()?.map(|home| home.join(STATE_DIRECTORY).join("seq").join(SOCKET_NAME)))
}

/// The user's home directory: `HOME`, or what the user's entry in `/etc/passwd` says.
///
/// # Errors
///
/// When `HOME` is a relative path: there would be a daemon for each directory that seq is called in.
pub fn home_directory() -> Result<Option<PathBuf>, Error> {
    let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from) else {
        // Not by `getpwuid(3)`: it loads libraries of the system, which a program that is linked statically cannot.
        let users = std::fs::read("/etc/passwd").unwrap_or_default();
        return Ok(home_of(rustix::process::geteuid().as_raw(), &users));
    };
    if home.is_absolute() {
        return Ok(directories::BaseDirs::new().map(|directories| directories.home_dir().to_owned()));
    }
    Err(Error::failure(format_args!(
        "HOME is a relative path, {}: set it to the whole path of your home directory, or name a socket with --socket",
        home.display()
    )))
}

/// The home directory of user `uid`, by a file like `passwd(5)`.
fn home_of(uid: u32, users: &[u8]) -> Option<PathBuf> {
    let fields_of = |line: &[u8]| line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let user = users.split(|byte| *byte == b'\n').map(fields_of).find(|fields| {
        let found = fields.get(2).and_then(|field| std::str::from_utf8(field).ok()?.parse::<u32>().ok());
        found == Some(uid)
    })?;
    let home = user.get(5).filter(|home| !home.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(home)))
}

/// A daemon's socket and its files, all with absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Holds the socket, the locks, the log and the folder `done`.
    pub directory: PathBuf,
    /// Holds what must outlive a restart of the machine: the database, its mark and the numbers. The same as
    /// `directory`, but for the daemon of the whole system.
    pub state: PathBuf,
    /// Where the daemon listens.
    pub socket: PathBuf,
    /// Locked by the daemon for life; never removed.
    pub life_lock: PathBuf,
    /// Locked by a client while it starts the daemon; never removed.
    pub start_lock: PathBuf,
    /// What a daemon that was started by a client has to say.
    pub log: PathBuf,
    /// What the daemon was started with, for the next one; not there when it was nothing.
    pub options: PathBuf,
    /// Who waits, who has a turn, and how turns ended.
    pub database: PathBuf,
    /// What was written last, and what the database held.
    pub mark: PathBuf,
    /// A folder in which clients leave word of turns that ended while there was no daemon to hear it.
    pub done: PathBuf,
    /// How far the ticket and token numbers have risen.
    pub numbers: PathBuf,
}

impl Place {
    /// The place of the daemon that listens on `socket`. Two sockets in one directory share no file.
    ///
    /// # Errors
    ///
    /// When `socket` has no file name or is longer than [`SOCKET_PATH_BYTES_MAX`], both after making it absolute.
    pub fn of_socket(socket: &Path) -> Result<Place, Error> {
        let absolute = std::path::absolute(socket).map_err(|error| unusable(socket, &error))?;
        let (Some(directory), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(unusable(socket, &io::Error::other(NO_FILE)));
        };
        let length = absolute.as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            return Err(Error::failure(format_args!(
                "the socket path {} has {length} bytes, the system allows {SOCKET_PATH_BYTES_MAX}: \
                 name a shorter one with --socket or {SOCKET_VARIABLE}",
                absolute.display()
            )));
        }
        if absolute.as_os_str().as_bytes().contains(&0) {
            return Err(unusable(socket, &io::Error::other("it has a NUL byte")));
        }
        let called = |file: &str| {
            let mut full = OsString::new();
            if name != SOCKET_NAME {
                full.push(name);
                full.push(".");
            }
            full.push(file);
            full
        };
        let beside = |file| directory.join(called(file));
        let state = if absolute == Path::new(SYSTEM_SOCKET) { Path::new(SYSTEM_STATE) } else { directory };
        let kept = |file| state.join(called(file));
        Ok(Place {
            life_lock: beside("life.lock"),
            start_lock: beside("start.lock"),
            log: beside("seqd.log"),
            options: beside("seqd.options"),
            database: kept("seq.db"),
            mark: kept("seq.mark"),
            done: beside("done"),
            numbers: kept("numbers"),
            state: state.to_owned(),
            directory: directory.to_owned(),
            socket: absolute,
        })
    }

    /// Those of the store.
    pub fn files(&self) -> Files {
        Files { database: self.database.clone(), mark: self.mark.clone(), numbers: self.numbers.clone() }
    }
}

/// What is wrong with a path such as `/`, and the way out.
const NO_FILE: &str = "it names no file: name one in a directory of yours with --socket or SEQ_SOCKET";

fn unusable(socket: &Path, error: &io::Error) -> Error {
    Error::failure(format_args!("cannot use {} as a socket: {error}", socket.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_a_user_is_found_without_the_environment() {
        let users = b"root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\nnobody:x:65534:1:::\n";
        assert_eq!(home_of(1000, users), Some(PathBuf::from("/home/ann")));
        assert_eq!(home_of(65534, users), None);
        assert_eq!(home_of(40001, users), None);
    }

    #[test]
    fn the_usual_socket_has_files_with_plain_names() {
        let place = Place::of_socket(Path::new("/run/seqd/seqd.sock")).unwrap();
        assert_eq!(place.directory, Path::new("/run/seqd"));
        assert_eq!(place.life_lock, Path::new("/run/seqd/life.lock"));
        assert_eq!(place.log, Path::new("/run/seqd/seqd.log"));
    }

    #[test]
    fn what_the_daemon_of_all_keeps_is_not_lost_with_run() {
        let place = Place::of_socket(Path::new(SYSTEM_SOCKET)).unwrap();
        for kept in [&place.database, &place.mark, &place.numbers] {
            assert_eq!(kept.parent(), Some(Path::new("/var/lib/seqd")));
        }
        let other = Place::of_socket(Path::new("/run/seqd/other.sock")).unwrap();
        assert_eq!((&other.state, &other.directory), (&other.directory, &other.state));
    }

    #[test]
    fn two_sockets_in_one_directory_share_no_file() {
        let place = Place::of_socket(Path::new("/tmp/a/other")).unwrap();
        assert_eq!(place.life_lock, Path::new("/tmp/a/other.life.lock"));
        assert_eq!(place.database, Path::new("/tmp/a/other.seq.db"));
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_with_the_reason() {
        let refusal = |path: &str| Place::of_socket(Path::new(path)).unwrap_err().to_string();
        let long = format!("/{}", "x".repeat(107));
        assert_eq!(
            refusal(&long),
            format!(
                "the socket path {long} has 108 bytes, the system allows 107: \
                 name a shorter one with --socket or SEQ_SOCKET"
            )
        );
        assert_eq!(
            refusal("/"),
            "cannot use / as a socket: it names no file: name one in a directory of yours with --socket or SEQ_SOCKET"
        );
        assert!(Place::of_socket(Path::new(&long[..107])).is_ok());
    }
}
