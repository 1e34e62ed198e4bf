//! What `/proc` tells of processes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;

use rustix::process::Pid;

/// Whether `/proc` is of this process's own pid namespace. Otherwise its numbers are other processes' (`unshare --pid`
/// without a `/proc` of its own), and tell nothing.
static IS_OURS: LazyLock<bool> = LazyLock::new(|| {
    let here = std::fs::read_link("/proc/self");
    here.is_ok_and(|here| here.as_os_str() == std::process::id().to_string().as_str())
});

/// Reads a file of a process; nothing when there is no such process here.
fn read(pid: impl std::fmt::Display, file: &str) -> Option<Vec<u8>> {
    if *IS_OURS { std::fs::read(format!("/proc/{pid}/{file}")).ok() } else { None }
}

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
        let text = read(pid.as_raw_nonzero(), "stat")?;
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

/// The arguments that a process was started with, its own name first; none when it is gone.
pub(super) fn arguments(pid: u32) -> Vec<String> {
    let text = read(pid, "cmdline").unwrap_or_default();
    text.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// Whether what a path names is the same for this process and for `pid`: neither is in a container, or closed in by its
/// service manager, without the other (`mount_namespaces(7)`).
pub(super) fn sees_the_same_files(pid: u32) -> bool {
    let namespace = |of: &str| std::fs::metadata(format!("/proc/{of}/ns/mnt")).map(|found| (found.dev(), found.ino()));
    *IS_OURS && namespace("self").is_ok_and(|mine| namespace(&pid.to_string()).is_ok_and(|its| its == mine))
}

/// Whether a process is stopped, by a signal or a debugger (`proc_pid_stat(5)`).
pub(super) fn is_stopped(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.and_then(Stat::of).is_some_and(|stat| matches!(stat.state, 'T' | 't'))
}

/// The process that was stopped and holds up what `pid` is for: it itself, or where it has ended the parent, which has to
/// take note of that.
pub(super) fn stopped_for(pid: u32) -> Option<u32> {
    let of = |pid: Pid| pid.as_raw_nonzero().get().unsigned_abs();
    let stat = Stat::of(i32::try_from(pid).ok().and_then(Pid::from_raw)?)?;
    let suspect = if stat.state == 'Z' { of(stat.parent?) } else { of(stat.pid) };
    is_stopped(suspect).then_some(suspect)
}

/// The process that has the lock of `flock(2)` on a file, as far as this user may see (`proc_pid_fdinfo(5)`).
pub(super) fn lock_holder(path: &Path) -> Option<u32> {
    let file = std::fs::metadata(path).ok()?;
    let holds = |pid: u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let same = |found: std::fs::Metadata| (found.dev(), found.ino()) == (file.dev(), file.ino());
        let mut open = open.filter(|entry| std::fs::metadata(entry.path()).is_ok_and(same));
        open.any(|entry| {
            let info = read(pid, &format!("fdinfo/{}", entry.file_name().display())).unwrap_or_default();
            info.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"lock:"))
        })
    };
    Stat::all().iter().map(|stat| stat.pid.as_raw_nonzero().get().unsigned_abs()).find(|pid| holds(*pid))
}

/// What a process runs, for people; nothing when it is gone or has no arguments.
pub(super) fn command_line(pid: Pid) -> Option<String> {
    let arguments = read(pid.as_raw_nonzero(), "cmdline")?;
    let shown = String::from_utf8_lossy(&arguments).replace('\0', " ").trim_end().to_owned();
    (!shown.is_empty()).then_some(shown)
}
