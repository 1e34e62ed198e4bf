//! What `/proc` tells of processes.

use rustix::process::Pid;

/// What matters here of `/proc/PID/stat` (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    /// Whose it is.
    pub(super) pid: Pid,
    /// `R`, `S`, `T`, `Z` and so on.
    pub(super) state: char,
    /// The parent; none when it is not in this pid namespace.
    pub(super) parent: Option<Pid>,
    /// The process group.
    pub(super) group: Option<Pid>,
}

impl Stat {
    /// Reads it; nothing when there is no such process.
    pub(super) fn of(pid: Pid) -> Option<Stat> {
        let text = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // The name in brackets may hold anything, brackets and blanks included: what counts comes after the last one.
        let after_name = text.iter().rposition(|byte| *byte == b')')?;
        let text = std::str::from_utf8(&text[after_name + 1..]).ok()?;
        let mut fields = text.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // A process that is just being buried has the group -1.
        let mut pid_field = || fields.next()?.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw);
        let (parent, group) = (pid_field(), pid_field());
        Some(Stat { pid, state, parent, group })
    }

    /// Reads that of every process there is, in no particular order.
    pub(super) fn all() -> Vec<Stat> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Stat::of(Pid::from_raw(pid)?))
            .collect()
    }
}

/// This process and those it descends from, as far as this pid namespace shows them.
pub(super) fn ancestry() -> Vec<u32> {
    let mut found = vec![std::process::id()];
    let mut next = rustix::process::getppid();
    while let Some(pid) = next {
        found.push(pid.as_raw_nonzero().get().unsigned_abs());
        next = Stat::of(pid).and_then(|stat| stat.parent);
    }
    found
}

/// What a process runs, for people; nothing when it is gone or has no arguments.
pub(super) fn command_line(pid: Pid) -> Option<String> {
    let arguments = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let shown = String::from_utf8_lossy(&arguments).replace('\0', " ").trim_end().to_owned();
    (!shown.is_empty()).then_some(shown)
}
