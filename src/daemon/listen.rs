//! The socket: bound under another name, then renamed into place, so that it is never there without a listener.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::directory::Access;
use super::place::Place;
use crate::error::Error;

/// Connections that the kernel keeps for a daemon that is busy; it may allow fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// How long a dying daemon may take from losing its lock to closing its socket.
const DEATH_THROES: Duration = Duration::from_secs(1);

/// The socket that the daemon listens on.
#[derive(Debug)]
pub(super) struct Listening {
    /// Where clients come in.
    pub(super) listener: UnixListener,
    /// Device and inode of what this daemon put at the path; nothing for a socket that the service manager owns.
    pub(super) identity: Option<(u64, u64)>,
}

/// Binds the place's socket and puts it in the place of a stale one. Only for the holder of its life lock.
///
/// # Errors
///
/// When what is there is not a socket of this user, when something else listens on it, or when the system refuses.
pub(super) fn bind(place: &Place, access: Access) -> Result<Listening, Error> {
    check_replaceable(&place.socket)?;
    let failed = |error: io::Error| Error::failure(format_args!("cannot listen on {}: {error}", place.socket.display()));
    bind_and_rename(place, access).map_err(failed)
}

/// The socket that the service manager passed, if it did (`sd_listen_fds(3)`), with its path.
///
/// # Errors
///
/// When it passed something else, or more than one.
pub(super) fn passed() -> Result<Option<(Listening, PathBuf)>, Error> {
    let wrong = |reason: &dyn std::fmt::Display| {
        Error::failure(format_args!("the service manager passed no socket that seqd can use: {reason}"))
    };
    let mut descriptors = sd_notify::listen_fds().map_err(|error| wrong(&error))?;
    let Some(descriptor) = descriptors.next() else { return Ok(None) };
    if descriptors.next().is_some() {
        return Err(wrong(&"it passed more than one"));
    }
    let listener: UnixListener = crate::sys::take_passed(descriptor).map_err(|error| wrong(&error))?.into();
    let is_listening = rustix::net::sockopt::socket_acceptconn(&listener).unwrap_or(false);
    let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
    match path {
        Some(path) if is_listening => Ok(Some((Listening { listener, identity: None }, path))),
        _ => Err(wrong(&"it is not a listening Unix stream socket with a path")),
    }
}

/// Device and inode of what is at `path` now.
pub(super) fn identity_at(path: &Path) -> Option<(u64, u64)> {
    rustix::fs::lstat(path).ok().map(|found| (found.st_dev, found.st_ino))
}

/// Removes the socket from its path, if what is there is still what this daemon put there.
pub(super) fn remove(path: &Path, identity: (u64, u64)) -> io::Result<()> {
    if identity_at(path) == Some(identity) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

fn check_replaceable(socket: &Path) -> Result<(), Error> {
    let path = socket.display();
    let found: Stat = match rustix::fs::lstat(socket) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(Error::failure(format_args!("cannot use {path} as a socket: {error}"))),
    };
    let what = match FileType::from_raw_mode(found.st_mode) {
        FileType::Socket => {
            let me = rustix::process::geteuid().as_raw();
            if found.st_uid != me {
                return Err(Error::failure(format_args!(
                    "the socket {path} belongs to uid {}, not to uid {me}: name another with --socket",
                    found.st_uid
                )));
            }
            return check_stale(socket);
        }
        FileType::RegularFile => "a plain file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        _ => "something else",
    };
    Err(Error::failure(format_args!(
        "{path} is {what}, not a socket: move it away, or name another socket with --socket"
    )))
}

/// The life lock was free, so the last daemon is dead or dying: wait for its socket to die too. What still listens
/// then is no daemon of ours, but for instance a service manager.
fn check_stale(socket: &Path) -> Result<(), Error> {
    if is_refused(socket).unwrap_or(true) {
        return Ok(());
    }
    Err(Error::failure(format_args!(
        "another program listens on {}, perhaps a systemd socket unit: stop it, or let it start seqd",
        socket.display()
    )))
}

fn is_refused(socket: &Path) -> io::Result<bool> {
    let probe = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(socket)?) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Ok(false),
        Err(_) => return Ok(true),
    }
    let mut polled = [PollFd::new(&probe, PollFlags::RDHUP)];
    let timeout = Timespec::try_from(DEATH_THROES).map_err(io::Error::other)?;
    Ok(poll(&mut polled, Some(&timeout))? > 0)
}

fn bind_and_rename(place: &Place, access: Access) -> io::Result<Listening> {
    let name = place.socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = rustix::fs::open(
        &place.directory,
        OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // The other name is always the same for the same socket, so that nothing is left behind when a daemon is killed
    // here, and short, so that the longest path that is allowed for the socket works.
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let other_name = format!(".{:016x}", hasher.finish());
    match rustix::fs::unlinkat(&directory, &other_name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let listener = bind_in(&directory, &other_name)?;
    rustix::fs::chmodat(&directory, &other_name, access.socket_mode(), AtFlags::empty())?;
    if access.group.is_some() {
        rustix::fs::chownat(&directory, &other_name, None, access.group, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    rustix::net::listen(&listener, BACKLOG)?;
    let found = rustix::fs::statat(&directory, &other_name, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::renameat(&directory, &other_name, &directory, name)?;
    Ok(Listening { listener, identity: Some((found.st_dev, found.st_ino)) })
}

/// Binds `name` in `directory` by the directory's descriptor: the path that the system sees is short.
fn bind_in(directory: &OwnedFd, name: &str) -> io::Result<UnixListener> {
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    let listener = ListenerOptions::new()
        .name(path.to_fs_name::<GenericFilePath>()?)
        .mode(0o600)
        .reclaim_name(false)
        .try_overwrite(false)
        .create_sync_as::<interprocess::os::unix::uds_local_socket::Listener>()?;
    Ok(listener.into())
}
