//! Processes of a test, found in `/proc`, ended through pidfds: a number that was used again is never signalled.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process, by a handle that means no other one.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// The process with this number; nothing when there is none.
    pub fn open(pid: u32) -> Option<Process> {
        let pidfd = pidfd_open(to_pid(pid), PidfdFlags::empty()).ok()?;
        Some(Process { pid, pidfd })
    }

    /// Sends a signal; false when it is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        pidfd_send_signal(&self.pidfd, signal).is_ok()
    }

    /// Whether it has ended within `seconds`. One that nobody has waited for has ended, too.
    pub fn has_ended_within(&self, seconds: u32) -> bool {
        let mut ready = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let patience = Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        loop {
            match poll(&mut ready, Some(&patience)) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("cannot poll: {error}"),
            }
        }
    }

    /// What becomes readable when it ends.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    pub fn is_alive(&self) -> bool {
        !self.has_ended_within(0)
    }
}

fn to_pid(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid")
}

/// Whether there is a process of this number that has not ended.
pub fn is_alive(pid: u32) -> bool {
    Process::open(pid).is_some_and(|process| process.is_alive())
}

/// Sends a signal to a process that is known to be there, such as a child that was not waited for.
pub fn signal(pid: u32, signal: Signal) {
    assert!(Process::open(pid).is_some_and(|process| process.signal(signal)), "there is no process {pid}");
}

/// Every process whose `HOME` or whose arguments are of `home`, the daemon included.
pub fn of_home(home: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            // First the handle, then the look: what is looked at is what the handle means.
            let process = Process::open(pid)?;
            belongs(pid, home).then_some(process)
        })
        .collect()
}

fn belongs(pid: u32, home: &Path) -> bool {
    let home = home.as_os_str().as_encoded_bytes();
    ["environ", "cmdline"].iter().any(|file| {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.windows(home.len()).any(|window| window == home)
    })
}

/// A process in one line, for people.
pub fn describe(pid: u32) -> String {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let wait = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let numbers: Vec<&str> = after_name.split_ascii_whitespace().take(4).collect();
    format!("{pid} [state, parent, group, session: {}] {wait} {arguments}", numbers.join(" "))
}
