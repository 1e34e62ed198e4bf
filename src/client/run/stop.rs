//! Stopping everything that a command started, wherever it has gone.

use std::collections::HashSet;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::super::process::Stat;

/// Signals every process that descends from this one, those in the group `spared` excepted.
///
/// As a subreaper this process is the ancestor of all that the command started, even if it left its group and its
/// session. Each is signalled through a pidfd, and only if it is a descendant still when that is open, so that a
/// reused pid is never hit.
pub(super) fn signal_descendants(spared: Option<Pid>, signal: Signal) {
    let processes = Stat::all();
    let mut family = HashSet::from([getpid()]);
    // Parents may come after their children in the list, so look until no more are found.
    loop {
        let is_new = |process: &&Stat| {
            !family.contains(&process.pid) && is_child_of(process, &family) && !is_daemon(process.pid)
        };
        let found: Vec<Pid> = processes.iter().filter(is_new).map(|process| process.pid).collect();
        if found.is_empty() {
            break;
        }
        family.extend(found);
    }
    for process in processes.iter().filter(|process| process.pid != getpid() && family.contains(&process.pid)) {
        let Ok(pidfd) = pidfd_open(process.pid, PidfdFlags::empty()) else { continue };
        let is_still_ours = Stat::of(process.pid).is_some_and(|now| is_child_of(&now, &family));
        if is_still_ours && (spared.is_none() || process.group != spared) {
            _ = pidfd_send_signal(&pidfd, signal);
        }
    }
}

/// Whether this process has children that are to be stopped: others than a daemon that was started by it, or by the
/// command, and has become its child when the one that started it ended.
pub(super) fn has_children_to_stop() -> bool {
    let family = HashSet::from([getpid()]);
    Stat::all().iter().any(|process| is_child_of(process, &family) && !is_daemon(process.pid))
}

/// Whether a process is a daemon in the background, which serves others too.
fn is_daemon(pid: Pid) -> bool {
    let arguments = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.next() == Some(b"seqd") && matches!(arguments.next(), Some(b"--detach" | b"--detached"))
}

fn is_child_of(process: &Stat, family: &HashSet<Pid>) -> bool {
    process.parent.is_some_and(|parent| family.contains(&parent))
}
