//! The lock that proves that there is one daemon for a socket.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::Machine;

/// A lock file, locked for as long as this value lives, so for as long as the process lives.
///
/// It is never removed: a process that opened it before and one that opens it after would each lock a file of their own.
/// The descriptor is closed on exec: an inherited one would keep the lock after the daemon's death.
#[derive(Debug)]
pub(super) struct LifeLock {
    file: File,
    path: PathBuf,
}

/// Whether the lock was free.
#[derive(Debug)]
pub(super) enum Taken {
    /// It was; this process is the daemon.
    Mine(LifeLock),
    /// Another daemon has it: its process, if it has told.
    Busy(Option<u32>),
}

/// What the lock file says about who locked it.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    pid: u32,
    boot_id: String,
    host: String,
    version: String,
}

impl LifeLock {
    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, locked or written.
    pub(super) fn take(path: &Path) -> Result<Taken, Error> {
        let failed = |error: &io::Error| {
            let (lock, directory) = (path.display(), path.parent().unwrap_or(path).display());
            Error::failure(format_args!(
                "cannot lock {lock}: {error}: make {directory} writable, or name a socket elsewhere with --socket"
            ))
        };
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow);
        let mut file = open.open(path).map_err(|error| failed(&error))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return match read_owner(&mut file) {
                    Some(owner) if owner.boot_id != Machine::this().boot_id => Err(elsewhere(path, &owner)),
                    owner => Ok(Taken::Busy(owner.map(|owner| owner.pid))),
                };
            }
            Err(error) => return Err(failed(&error.into())),
        }
        let lock = LifeLock { file, path: path.to_owned() };
        lock.say_who().map_err(|error| failed(&error))?;
        Ok(Taken::Mine(lock))
    }

    /// Whether the locked file is still the one at its path. A cleaner may have removed it.
    pub(super) fn is_in_place(&self) -> bool {
        let (Ok(mine), Ok(there)) = (self.file.metadata(), std::fs::symlink_metadata(&self.path)) else {
            return false;
        };
        (mine.dev(), mine.ino()) == (there.dev(), there.ino())
    }

    fn say_who(&self) -> io::Result<()> {
        let Machine { boot_id, host_name: host, .. } = Machine::this();
        let owner = Owner { pid: std::process::id(), boot_id, host, version: env!("CARGO_PKG_VERSION").to_owned() };
        let mut content = serde_json::to_vec(&owner)?;
        content.push(b'\n');
        self.file.set_len(0)?;
        (&self.file).write_all(&content)
    }
}

/// What is told by whoever has the lock; nothing while that is being written.
fn read_owner(file: &mut File) -> Option<Owner> {
    let mut content = Vec::new();
    file.read_to_end(&mut content).ok()?;
    serde_json::from_slice(&content).ok()
}

/// A directory on a network, used from two machines: commands of one cannot be seen from the other.
fn elsewhere(path: &Path, owner: &Owner) -> Error {
    Error::failure(format_args!(
        "{} is locked by process {} on the host {}: run seq there, or name a socket on a disk of this machine with \
         --socket",
        path.display(),
        owner.pid,
        owner.host
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_to_come_learns_who_was_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("life.lock");
        let Taken::Mine(lock) = LifeLock::take(&path).unwrap() else { panic!("nobody else is there") };
        assert!(lock.is_in_place());
        assert!(matches!(LifeLock::take(&path), Ok(Taken::Busy(Some(pid))) if pid == std::process::id()));
        std::fs::remove_file(&path).unwrap();
        assert!(!lock.is_in_place());
    }

    #[test]
    fn the_lock_is_free_again_when_its_owner_is_gone_and_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("life.lock");
        drop(LifeLock::take(&path).unwrap());
        assert!(path.exists());
        assert!(matches!(LifeLock::take(&path), Ok(Taken::Mine(_))));
    }
}
