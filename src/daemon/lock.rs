//! The lock that proves that there is one daemon for a socket.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::{Error, way_to_write};
use crate::protocol::Ticket;
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
    /// Names the machine, whatever it is called.
    #[serde(default)]
    machine: String,
    version: String,
    /// Set at the end of a daemon that left for good: the ticket that comes next. No waiter before that has a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped_at: Option<Ticket>,
}

/// Whether the last daemon there was told to leave for good while `ticket` waited, by what it left in the lock file at
/// `path`. Nothing of that is left once another one has the lock: that one knows it.
pub fn was_stopped(path: &Path, ticket: Ticket) -> bool {
    let owner = File::open(path).ok().and_then(|mut file| read_owner(&mut file));
    owner.and_then(|owner| owner.stopped_at).is_some_and(|next| ticket < next)
}

/// What locks on a directory can be trusted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Every process that can see it is on this machine.
    Local,
    /// Other machines see it too, and the locks of one may not be seen from another (`local_lock`, `nfs(5)`).
    Network,
}

/// File systems that several machines use (`statfs(2)`): AFS, Ceph, CIFS, NFS, SMB.
const NETWORKS: [u64; 6] = [0x5346_414F, 0x00C3_6400, 0xFF53_4D42, 0x6969, 0xFE53_4D42, 0x517B];

impl LifeLock {
    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, locked or written.
    pub(super) fn take(path: &Path) -> Result<Taken, Error> {
        let failed = |error: &io::Error| {
            let way_out = way_to_write(error, path);
            Error::failure(format_args!("cannot write the lock {}: {error}: {way_out}", path.display()))
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
        if let Some(owner) = read_owner(&mut file)
            && is_another_machines(&owner, &Machine::this(), reach(&file))
        {
            return Err(maybe_elsewhere(path, &owner));
        }
        let lock = LifeLock { file, path: path.to_owned() };
        lock.say_who(None).map_err(|error| failed(&error))?;
        Ok(Taken::Mine(lock))
    }

    /// Whether the locked file is still the one at its path. A cleaner may have removed it.
    pub(super) fn is_in_place(&self) -> bool {
        let (Ok(mine), Ok(there)) = (self.file.metadata(), std::fs::symlink_metadata(&self.path)) else {
            return false;
        };
        (mine.dev(), mine.ino()) == (there.dev(), there.ino())
    }

    /// Whether another file is at its path, which another daemon may have locked.
    pub(super) fn is_replaced(&self) -> bool {
        !self.is_in_place() && std::fs::symlink_metadata(&self.path).is_ok()
    }

    /// Says that this daemon was told to leave for good, and which ticket would have come next.
    pub(super) fn say_stopped(&self, next: Ticket) -> io::Result<()> {
        self.say_who(Some(next))
    }

    fn say_who(&self, stopped_at: Option<Ticket>) -> io::Result<()> {
        let Machine { boot_id, host: machine, host_name: host } = Machine::this();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let owner = Owner { pid: std::process::id(), boot_id, host, machine, version, stopped_at };
        let mut content = serde_json::to_vec(&owner)?;
        content.push(b'\n');
        self.file.set_len(0)?;
        self.file.write_all_at(&content, 0)
    }

    /// Says that nobody has it any more, for those who cannot see the lock itself. They are not told then that this daemon
    /// was stopped, which matters less.
    pub(super) fn say_nobody(&self) {
        if reach(&self.file) == Reach::Network {
            _ = self.file.set_len(0);
        }
    }
}

fn reach(file: &File) -> Reach {
    let is_network = rustix::fs::fstatfs(file).is_ok_and(|found| {
        // Its type differs from one architecture to the next, and only the low half of it is used.
        let kind = u64::from(u32::try_from(i128::from(found.f_type) & 0xFFFF_FFFF).unwrap_or(0));
        NETWORKS.contains(&kind)
    });
    if is_network { Reach::Network } else { Reach::Local }
}

/// Whether a lock that is free here was another machine's, and may be that one's still. On a disk of this machine a
/// free lock is nobody's, whatever the file says: the host may have another name now, or it is a container's.
fn is_another_machines(owner: &Owner, here: &Machine, reach: Reach) -> bool {
    let is_here = owner.boot_id == here.boot_id
        || if owner.machine.is_empty() { owner.host == here.host_name } else { owner.machine == here.host };
    reach == Reach::Network && !is_here
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

/// As [`elsewhere`], where the lock itself tells nothing.
fn maybe_elsewhere(path: &Path, owner: &Owner) -> Error {
    Error::failure(format_args!(
        "{} says that process {} on the host {} is the daemon, and locks are not seen from there: run seq there, or \
         name a socket on a disk of this machine with --socket, or, once no seqd runs there any more, remove the file",
        path.display(),
        owner.pid,
        owner.host
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(boot_id: &str, host: &str) -> Machine {
        Machine { boot_id: boot_id.to_owned(), host: host.to_owned(), host_name: format!("name of {host}") }
    }

    fn owner(boot_id: &str, host: &str, machine: &str) -> Owner {
        let (host, machine) = (format!("name of {host}"), machine.to_owned());
        Owner { pid: 77, boot_id: boot_id.to_owned(), host, machine, version: String::new(), stopped_at: None }
    }

    #[test]
    fn on_a_network_a_free_lock_of_another_machine_is_taken_for_its_own() {
        let here = machine("now", "here");
        for (found, is_another) in [
            (owner("now", "here", "here"), false),
            (owner("before", "here", "here"), false),
            (owner("before", "renamed", "here"), false),
            // Of an earlier version, which says no machine.
            (owner("before", "here", ""), false),
            (owner("other", "there", ""), true),
            (owner("other", "there", "there"), true),
            // Two machines may be called the same.
            (owner("other", "here", "there"), true),
        ] {
            assert_eq!(is_another_machines(&found, &here, Reach::Network), is_another, "{found:?}");
            assert!(!is_another_machines(&found, &here, Reach::Local), "{found:?}");
        }
    }

    #[test]
    fn a_free_lock_on_a_disk_of_this_machine_is_taken_whatever_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("life.lock");
        std::fs::write(&path, serde_json::to_vec(&owner("other", "there", "there")).unwrap()).unwrap();
        let Taken::Mine(lock) = LifeLock::take(&path).unwrap() else { panic!("nobody has it") };
        let said: Owner = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(said.pid, std::process::id());
        drop(lock);
    }

    #[test]
    fn what_may_be_another_machines_is_said_with_the_way_out() {
        let words = maybe_elsewhere(Path::new("/net/life.lock"), &owner("other", "there", "there")).to_string();
        assert_eq!(
            words,
            "/net/life.lock says that process 77 on the host name of there is the daemon, and locks are not seen from \
             there: run seq there, or name a socket on a disk of this machine with --socket, or, once no seqd runs \
             there any more, remove the file"
        );
    }

    #[test]
    fn the_second_to_come_learns_who_was_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("life.lock");
        let Taken::Mine(lock) = LifeLock::take(&path).unwrap() else { panic!("nobody else is there") };
        assert!(lock.is_in_place());
        assert!(matches!(LifeLock::take(&path), Ok(Taken::Busy(Some(pid))) if pid == std::process::id()));
        std::fs::remove_file(&path).unwrap();
        assert!(!lock.is_in_place() && !lock.is_replaced());
        std::fs::write(&path, "").unwrap();
        assert!(lock.is_replaced());
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
