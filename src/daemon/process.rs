//! Who a process is, and whether it is still there.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::sight::{self, Sight};
use crate::clock::{Time, namespace_offset};
use crate::small_file;
use crate::store::ProcessIdentity;

/// Where pidfds have inodes of their own (`PID_FS_MAGIC`, Linux 6.9 and later).
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// The process that a pidfd stands for, as this process sees it: zero in a pid namespace out of sight, nothing when
/// it is no pidfd or its process has been reaped.
pub(super) fn pid_of(pidfd: impl AsFd) -> Option<u32> {
    with_pid_line(pidfd, |pid| pid.trim().parse().ok())
}

/// A process and those it descends from, as far as this pid namespace shows them. Nothing for a process out of sight,
/// whose pid is zero.
pub(super) fn ancestry(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| stat_field(*pid, 4).and_then(|parent| u32::try_from(parent).ok()).filter(|pid| *pid != 0);
    std::iter::successors(Some(pid).filter(|pid| *pid != 0), parent).collect()
}

/// The number here of the process that `pid`, which descends from it, knows by the number `its`; nothing when it is none
/// of those that show here.
pub(super) fn ancestor(pid: u32, its: u32) -> Option<u32> {
    let is_it = |pid: &u32| {
        let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_ascii_whitespace().last() == Some(its.to_string().as_str()))
    };
    ancestry(pid).into_iter().find(is_it)
}

/// Whether the process that had this number at `moment` is there still.
pub(super) fn is_there_since(pid: u32, moment: Time) -> bool {
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let moment = moment.as_nanos() / (1_000_000_000 / ticks_per_second.max(1));
    let is_dead = || stat_state(pid).is_none_or(|state| matches!(state, 'Z' | 'X'));
    started(pid).is_some_and(|began| began <= moment) && !is_dead()
}

/// Whether a descriptor is a pidfd, of a process alive or not.
pub(super) fn is_pidfd(descriptor: impl AsFd) -> bool {
    with_pid_line(descriptor, |_| Some(())).is_some()
}

/// What the system tells of a descriptor has this line where that is a pidfd (`pidfd_open(2)`).
fn with_pid_line<T>(descriptor: impl AsFd, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let path = format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd());
    small_file::parse(path, |information| read(information.lines().find_map(|line| line.strip_prefix("Pid:"))?))
}

/// A handle on the process that has this pid now.
pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Who the process behind a pidfd is; nothing once it has ended.
pub(super) fn identify(pidfd: impl AsFd) -> Option<ProcessIdentity> {
    let pidfd = pidfd.as_fd();
    let shown = pid_of(pidfd)?;
    // Where `/proc` is of a namespace around this one its numbers are not those that a process is opened by.
    let pid = if sight::is_proc_our_own() { shown } else { 0 };
    let namespace = sight::namespace();
    let identity = match inode_of(pidfd) {
        Some(inode) => ProcessIdentity::by_inode(pid, namespace, inode),
        None => ProcessIdentity { pid, namespace: Some(namespace), inode: None, started: started(shown) },
    };
    // Only now is it known that what was read by pid was about the same process.
    is_alive(pidfd).then_some(identity)
}

/// The process at the other end of a connection, which must be open still; nothing once it has ended. Its `pid` is what
/// the system calls it in this pid namespace, zero when that is out of sight.
pub(super) fn identify_peer(stream: impl AsFd, pid: u32) -> Option<ProcessIdentity> {
    match getsockopt(&stream, sockopt::PeerPidfd) {
        Ok(pidfd) => match inode_of(&pidfd) {
            Some(inode) => is_alive(&pidfd).then(|| ProcessIdentity::by_inode(pid, sight::namespace(), inode)),
            None => identify(pidfd),
        },
        // Before Linux 6.5. What has the pid now is the peer, unless that ended within the moment since it connected.
        Err(Errno::ENOPROTOOPT) if pid != 0 => identify(open(pid).ok()?),
        Err(_) => None,
    }
}

/// What looking for a process of before has shown.
#[derive(Debug)]
pub(super) enum Look {
    /// It is there.
    Alive(OwnedFd),
    /// It has ended.
    Gone,
    /// The system does not let this process look: it may be there.
    Unknown(&'static str),
    /// It is, or was, in a pid namespace that does not show here: it may be there.
    OutOfSight,
}

/// Looks for the very process that was identified.
pub(super) fn look_for(wanted: &ProcessIdentity, sight: &Sight) -> Look {
    let is_numbered_here = wanted.namespace.is_none_or(|namespace| namespace == sight::namespace());
    if wanted.pid == 0 || !is_numbered_here {
        return look_everywhere(wanted, sight);
    }
    let pidfd = match open(wanted.pid) {
        Ok(pidfd) => pidfd,
        // EINVAL: what has the pid now is a thread of some other process.
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ESRCH | nix::libc::EINVAL)) => return Look::Gone,
        Err(_) => return Look::Unknown("the system refuses a pidfd"),
    };
    if !is_alive(&pidfd) {
        return Look::Gone;
    }
    let is_same = match (wanted.inode, inode_of(&pidfd)) {
        (Some(wanted), Some(found)) => wanted == found,
        _ => match (wanted.started, started(wanted.pid)) {
            (Some(wanted), Some(found)) => wanted == found,
            // A process with its pid is alive, and that is all that can be said: it is watched as if it were the one.
            _ => true,
        },
    };
    if is_same { Look::Alive(pidfd) } else { Look::Gone }
}

/// Looks for a process that has no number here, or another one than where it was identified.
fn look_everywhere(wanted: &ProcessIdentity, sight: &Sight) -> Look {
    let Some(inode) = wanted.inode else { return Look::OutOfSight };
    if let Some(pidfd) = sight.find(inode).filter(|pidfd| inode_of(pidfd) == Some(inode)) {
        return if is_alive(&pidfd) { Look::Alive(pidfd) } else { Look::Gone };
    }
    let had_number_in = wanted.namespace.filter(|_| wanted.pid != 0);
    let is_in_sight = sight.is_whole_machine() || had_number_in.is_some_and(|namespace| sight.covers(namespace));
    if is_in_sight { Look::Gone } else { Look::OutOfSight }
}

/// The inode of a pidfd, which no other process has had since the machine started; nothing before Linux 6.9.
pub(super) fn inode_of(pidfd: impl AsFd) -> Option<u64> {
    // What is true of one is true of all.
    static HAVE_INODES: OnceLock<bool> = OnceLock::new();
    let pidfd = pidfd.as_fd();
    if HAVE_INODES.get().is_none() {
        let found = rustix::fs::fstatfs(pidfd).ok()?;
        _ = HAVE_INODES.set(found.f_type.cast_unsigned() == PIDFS_MAGIC);
    }
    HAVE_INODES.get().filter(|have| **have).and_then(|_| rustix::fs::fstat(pidfd).ok()).map(|found| found.st_ino)
}

/// Whether the process behind a pidfd runs still: not one that has ended and whose status nobody has collected.
pub(super) fn is_alive(pidfd: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0))
}

/// When a process started, in ticks since the machine did. The system tells it by the clock of the time namespace of
/// whoever asks (`time_namespaces(7)`).
pub(super) fn started(pid: u32) -> Option<u64> {
    let ticks_per_second = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    let ahead = namespace_offset() / (1_000_000_000 / ticks_per_second);
    stat_field(pid, 22)?.checked_add_signed(-ahead)
}

/// Whether the process of this pidfd has begun to end, and has not come to the end of that (`PF_EXITING`,
/// `proc_pid_stat(5)`).
pub(super) fn is_exiting(pid: u32, pidfd: &OwnedFd) -> bool {
    const PF_EXITING: u64 = 0x4;
    let flags = stat_field(pid, 9);
    let has_ended = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&Timespec::default())) != Ok(0);
    !has_ended && flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// A field of `/proc/PID/stat`, counted from 1 as in `proc(5)`, from the fourth on. The second is a name that may
/// hold spaces and parentheses.
fn stat_field(pid: u32, number: usize) -> Option<u64> {
    with_stat(pid, number, |field| field.parse().ok())
}

/// `R`, `S`, `T`, `Z` and so on; nothing when there is no such process.
fn stat_state(pid: u32) -> Option<char> {
    with_stat(pid, 3, |field| field.chars().next())
}

fn with_stat<T>(pid: u32, number: usize, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    small_file::parse(format!("/proc/{pid}/stat"), |stat| {
        let (_, after_name) = stat.rsplit_once(')')?;
        read(after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_again_while_it_lives_and_not_after() {
        let look_for = |wanted: &ProcessIdentity| look_for(wanted, &Sight::default());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = open(child.id()).unwrap();
        assert_eq!(pid_of(&pidfd), Some(child.id()));
        let identity = identify(&pidfd).unwrap();
        assert!(matches!(look_for(&identity), Look::Alive(_)));
        let another = ProcessIdentity { inode: identity.inode.map(|inode| inode + 1), started: Some(0), ..identity };
        assert!(matches!(look_for(&another), Look::Gone));
        let without_inode = ProcessIdentity { inode: None, started: started(child.id()), ..identity };
        assert!(matches!(look_for(&without_inode), Look::Alive(_)));
        let earlier = ProcessIdentity { inode: None, started: Some(0), ..identity };
        assert!(matches!(look_for(&earlier), Look::Gone));
        let of_an_earlier_version = ProcessIdentity { namespace: None, ..identity };
        assert!(matches!(look_for(&of_an_earlier_version), Look::Alive(_)));
        let without_anything = ProcessIdentity { pid: 0, inode: None, ..identity };
        assert!(matches!(look_for(&without_anything), Look::OutOfSight));

        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(identify(&pidfd), None);
        assert!(matches!(look_for(&identity), Look::Gone));
        assert!(is_pidfd(&pidfd));
    }

    #[test]
    fn a_number_of_another_pid_namespace_proves_nothing() {
        let namespace = Some(sight::namespace() + 1);
        let me = identify(open(std::process::id()).unwrap()).unwrap();
        // Nothing has the number here, and that of this process is another's there.
        let elsewhere = ProcessIdentity { pid: u32::MAX >> 1, namespace, inode: Some(1), started: None };
        let look = look_for(&elsewhere, &Sight::default());
        let is_whole_machine = Sight::default().is_whole_machine();
        assert!(matches!((look, is_whole_machine), (Look::Gone, true) | (Look::OutOfSight, false)));
        let by_time = ProcessIdentity { namespace, inode: None, started: started(me.pid), ..me };
        assert!(matches!(look_for(&by_time, &Sight::default()), Look::OutOfSight));
        if me.inode.is_some() {
            let renumbered = ProcessIdentity { pid: 7, namespace, ..me };
            assert!(matches!(look_for(&renumbered, &Sight::default()), Look::Alive(_)));
        }
    }

    #[test]
    fn other_descriptors_are_no_pidfds() {
        assert!(!is_pidfd(io::stdin()));
    }

    #[test]
    fn a_process_whose_name_the_system_has_cut_within_a_character_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("спитспит");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("1000").spawn().unwrap();
        let seen = (ancestry(child.id()).len() > 1, is_there_since(child.id(), Time::now()));
        let name = std::fs::read(format!("/proc/{}/comm", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(String::from_utf8(name).is_err());
        assert_eq!(seen, (true, true));
    }
}
