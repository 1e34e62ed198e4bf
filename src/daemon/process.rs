//! Who a process is, and whether it is still there.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::store::ProcessIdentity;

/// Where pidfds have inodes of their own (`PID_FS_MAGIC`, Linux 6.9 and later).
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// Names this run of the machine: another one means that every process of before is gone. Empty when unknown.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The process that a pidfd stands for, as this process sees it: zero in a pid namespace out of sight, nothing when
/// it is no pidfd or its process has been reaped.
pub(super) fn pid_of(pidfd: impl AsFd) -> Option<u32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let information = std::fs::read_to_string(path).ok()?;
    let pid = information.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok()
}

/// A process and those it descends from, as far as this pid namespace shows them. Nothing for a process out of sight,
/// whose pid is zero.
pub(super) fn ancestry(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| stat_field(*pid, 4).and_then(|parent| u32::try_from(parent).ok()).filter(|pid| *pid != 0);
    std::iter::successors(Some(pid).filter(|pid| *pid != 0), parent).collect()
}

/// Whether a descriptor is a pidfd, of a process alive or not.
pub(super) fn is_pidfd(descriptor: impl AsFd) -> bool {
    let path = format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd());
    std::fs::read_to_string(path).is_ok_and(|information| information.lines().any(|line| line.starts_with("Pid:")))
}

/// A handle on the process that has this pid now.
pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Who the process behind a pidfd is; nothing once it has ended.
pub(super) fn identify(pidfd: impl AsFd) -> Option<ProcessIdentity> {
    let pidfd = pidfd.as_fd();
    let pid = pid_of(pidfd).filter(|pid| *pid != 0)?;
    let is_pidfs = rustix::fs::fstatfs(pidfd).is_ok_and(|found| found.f_type.cast_unsigned() == PIDFS_MAGIC);
    let inode = if is_pidfs { rustix::fs::fstat(pidfd).ok().map(|found| found.st_ino) } else { None };
    let identity = ProcessIdentity { pid, inode, started: stat_field(pid, 22) };
    // Only now is it known that what was read by pid was about the same process.
    is_alive(pidfd).then_some(identity)
}

/// A handle on the very process that was identified; nothing when it has ended.
pub(super) fn find(wanted: &ProcessIdentity) -> Option<OwnedFd> {
    let pidfd = open(wanted.pid).ok()?;
    let found = identify(&pidfd)?;
    let is_same = match (wanted.inode, found.inode) {
        (Some(wanted), Some(found)) => wanted == found,
        _ => wanted.started.is_some() && wanted.started == found.started,
    };
    is_same.then_some(pidfd)
}

fn is_alive(pidfd: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0))
}

/// A field of `/proc/PID/stat`, counted from 1 as in `proc(5)`, from the fourth on. The second is a name that may
/// hold spaces and parentheses.
fn stat_field(pid: u32, number: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_again_while_it_lives_and_not_after() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = open(child.id()).unwrap();
        assert_eq!(pid_of(&pidfd), Some(child.id()));
        let identity = identify(&pidfd).unwrap();
        assert!(find(&identity).is_some());
        let another = ProcessIdentity { inode: identity.inode.map(|inode| inode + 1), started: Some(0), ..identity };
        assert!(find(&another).is_none());

        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(identify(&pidfd), None);
        assert!(find(&identity).is_none());
        assert!(is_pidfd(&pidfd));
    }

    #[test]
    fn other_descriptors_are_no_pidfds() {
        assert!(!is_pidfd(io::stdin()));
    }
}
