//! Finding the pipes of before again: some process still has the writing end of each, or it is closed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{process, sight};

/// How often a pipe is looked for that was seen each time, with processes that had ended a moment later.
const LOOKS_MAX: usize = 100;

/// What looking through all processes has shown.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    /// Where each pipe that is wanted can be opened: at every process that has it.
    paths: HashMap<u64, Vec<PathBuf>>,
    /// Those whose descriptors this process may not look at.
    closed_books: Vec<ClosedBook>,
    /// Whether the processes of other users do not show at all (`hidepid`, `proc(5)`).
    is_hidden: bool,
    /// Whether the system did not let all be looked at, as when there are no descriptors left.
    is_partial: bool,
}

/// A process whose descriptors nobody here may see.
#[derive(Debug)]
struct ClosedBook {
    pid: u32,
    uid: u32,
    /// In ticks since boot.
    started: u64,
}

/// What works under the turn of a client that died without naming it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heir {
    pub(super) pid: u32,
    /// In ticks since boot.
    started: u64,
}

impl Heir {
    /// Its pidfd, if it has begun to end and has not come to the end of that.
    pub(super) fn dying(self) -> Option<OwnedFd> {
        let pidfd = process::open(self.pid).ok()?;
        let is_it = process::started(self.pid) == Some(self.started) && process::is_exiting(self.pid, &pidfd);
        is_it.then_some(pidfd)
    }
}

/// Whether the writing end of a pipe is still open.
#[derive(Debug)]
pub(super) enum PipeLook {
    /// It is; this is the reading end.
    Open(OwnedFd),
    /// Nobody has it.
    Closed,
    /// One of these may have it; none of them is named when not even that can be said.
    Unknown(Vec<OwnedFd>),
}

impl PipeLook {
    /// What it is worth where not every process shows that may have the pipe.
    pub(super) fn seen_from_afar(self) -> PipeLook {
        match self {
            PipeLook::Open(pipe) => PipeLook::Open(pipe),
            PipeLook::Closed | PipeLook::Unknown(_) => PipeLook::Unknown(Vec::new()),
        }
    }
}

impl Pipes {
    /// Looks for the pipes with these inodes.
    pub(super) fn look_for(wanted: &[u64]) -> Pipes {
        let mut pipes = Pipes::default();
        if wanted.is_empty() {
            return pipes;
        }
        pipes.is_hidden = !Path::new("/proc/1").exists();
        pipes.look_around(wanted);
        // A process that began behind the look, of one that ended before it, shows in a second one.
        let missing: Vec<u64> = wanted.iter().copied().filter(|inode| !pipes.paths.contains_key(inode)).collect();
        if !missing.is_empty() {
            pipes.look_around(&missing);
        }
        pipes
    }

    fn look_around(&mut self, wanted: &[u64]) {
        let Some(processes) = self.seen(fs::read_dir("/proc")) else { return };
        for entry in processes {
            let Some(entry) = self.seen(entry) else { continue };
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            match fs::read_dir(entry.path().join("fd")) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.close_book(pid),
                descriptors => {
                    if let Some(descriptors) = self.seen(descriptors) {
                        self.look_at(pid, descriptors, wanted);
                    }
                }
            }
        }
    }

    fn look_at(&mut self, pid: u32, descriptors: fs::ReadDir, wanted: &[u64]) {
        for descriptor in descriptors {
            let Some(descriptor) = self.seen(descriptor) else { continue };
            let target = fs::read_link(descriptor.path());
            if target.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                // They may be counted, and not be looked at.
                return self.close_book(pid);
            }
            let Some(target) = self.seen(target) else { continue };
            let inode = target.to_str().and_then(|target| target.strip_prefix("pipe:[")?.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()).filter(|inode| wanted.contains(inode)) {
                self.paths.entry(inode).or_default().push(descriptor.path());
            }
        }
    }

    fn close_book(&mut self, pid: u32) {
        if self.closed_books.iter().all(|book| book.pid != pid) {
            self.closed_books.extend(closed_book(pid));
        }
    }

    /// What a look at a process has shown; nothing when that has just ended, or was not to be seen.
    fn seen<T>(&mut self, look: io::Result<T>) -> Option<T> {
        match look {
            Ok(shown) => Some(shown),
            Err(error) => {
                self.is_partial |= !has_ended(&error);
                None
            }
        }
    }

    /// What is to be said of one pipe, of a request of user `uid` that is there since `since` in seconds since boot.
    pub(super) fn find(&self, inode: u64, uid: u32, since: u64) -> PipeLook {
        match self.look_again(inode) {
            PipeLook::Closed if self.paths.contains_key(&inode) => {
                // Those that had it have ended since. Whoever has inherited it shows by now.
                for _ in 0..LOOKS_MAX {
                    let now = Pipes::look_for(&[inode]);
                    match now.look_again(inode) {
                        PipeLook::Closed if now.paths.contains_key(&inode) => {}
                        PipeLook::Closed => return now.suspect(uid, since),
                        look => return look,
                    }
                }
                PipeLook::Unknown(Vec::new())
            }
            PipeLook::Closed => self.suspect(uid, since),
            look => look,
        }
    }

    /// Opens it where it was seen.
    fn look_again(&self, inode: u64) -> PipeLook {
        let mut is_doubtful = false;
        for path in self.paths.get(&inode).into_iter().flatten() {
            match open_pipe(inode, path) {
                Ok(Some(pipe)) => return PipeLook::Open(pipe),
                Ok(None) => {}
                Err(error) => is_doubtful |= !has_ended(&error),
            }
        }
        if is_doubtful { PipeLook::Unknown(Vec::new()) } else { PipeLook::Closed }
    }

    /// What is to be said of a pipe that was not seen.
    fn suspect(&self, uid: u32, since: u64) -> PipeLook {
        if self.is_partial {
            return PipeLook::Unknown(Vec::new());
        }
        if self.is_hidden && uid != rustix::process::geteuid().as_raw() {
            return PipeLook::Unknown(Vec::new());
        }
        // The command and what it started are younger than the request, and of the same user unless they changed that.
        let ticks = since.saturating_sub(1).saturating_mul(rustix::param::clock_ticks_per_second());
        let may_have_it = |book: &&ClosedBook| book.uid == uid && book.started >= ticks;
        let suspects = self.closed_books.iter().filter(may_have_it);
        let opened =
            suspects.map(|book| process::open(book.pid)).filter(|opened| !opened.as_ref().is_err_and(has_ended));
        match opened.collect::<io::Result<Vec<OwnedFd>>>() {
            Ok(suspects) if suspects.is_empty() => PipeLook::Closed,
            Ok(suspects) => PipeLook::Unknown(suspects),
            Err(_) => PipeLook::Unknown(Vec::new()),
        }
    }
}

/// The process that was started with the writing end of this pipe; nothing when that is not there any more. Looks at every
/// process: not for the owner's loop.
pub(super) fn heir(inode: u64) -> Option<Heir> {
    (0..LOOKS_MAX).find_map(|_| {
        let Some(pid) = oldest_writer(inode) else { return Some(None) };
        // That may have ended since, and another one have its number.
        let started = process::started(pid)?;
        can_write(pid, Path::new(&target(inode))).then_some(Some(Heir { pid, started }))
    })?
}

fn target(inode: u64) -> String {
    format!("pipe:[{inode}]")
}

/// The process that has had the writing end of this pipe for the longest time: what was started with it, and not what
/// that has started.
fn oldest_writer(inode: u64) -> Option<u32> {
    let target = target(inode);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // Where `/proc` is of a namespace around this one its numbers are not those that people are shown otherwise.
    let writers = pids.filter(|pid| sight::is_proc_our_own() && can_write(*pid, Path::new(&target)));
    writers.min_by_key(|pid| process::started(*pid))
}

/// Whether the process has an end of the pipe that it can write to (`fdinfo`, `proc_pid_fdinfo(5)`).
fn can_write(pid: u32, target: &Path) -> bool {
    let is_writing_end = |descriptor: fs::DirEntry| {
        let information = || fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", descriptor.file_name().display()));
        let flags = || {
            let information = information().ok()?;
            let flags = information.lines().find_map(|line| line.strip_prefix("flags:"))?;
            u32::from_str_radix(flags.trim(), 8).ok()
        };
        let writes = |flags: u32| OFlags::from_bits_retain(flags).intersects(OFlags::WRONLY | OFlags::RDWR);
        fs::read_link(descriptor.path()).is_ok_and(|found| found == target) && flags().is_some_and(writes)
    };
    fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().any(is_writing_end)
}

fn closed_book(pid: u32) -> Option<ClosedBook> {
    // The name in it may have been cut within a character.
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()?;
    Some(ClosedBook { pid, uid, started: process::started(pid)? })
}

/// The reading end of a pipe of which some process has an end; nothing when that has another file there by now. One
/// that nobody can write to tells so by itself.
fn open_pipe(inode: u64, path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    Ok((pipe.metadata()?.ino() == inode).then(|| pipe.into()))
}

/// Whether a look at a process failed because there is none: it has ended, or what has its number is a thread.
fn has_ended(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::SRCH | Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Time;

    #[test]
    fn a_pipe_is_found_while_somebody_has_it_and_not_after() {
        let (reading, writing) = io::pipe().unwrap();
        let inode = rustix::fs::fstat(&reading).unwrap().st_ino;
        let uid = rustix::process::geteuid().as_raw();
        assert!(matches!(Pipes::look_for(&[inode]).find(inode, uid, 0), PipeLook::Open(_)));
        drop((reading, writing));
        // A child of another test of this process has it too, between its start and its `exec`.
        let deadline = Time::now() + Duration::from_secs(10);
        while !matches!(Pipes::look_for(&[inode]).find(inode, uid, u64::MAX), PipeLook::Closed) {
            assert!(Time::now() < deadline, "somebody has the pipe still");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_lives_is_not_dying() {
        let pid = std::process::id();
        let heir = Heir { pid, started: process::started(pid).unwrap() };
        assert!(heir.dying().is_none());
    }

    #[test]
    fn a_pipe_is_found_with_those_who_live_on() {
        let (reading, _writing) = io::pipe().unwrap();
        let inode = rustix::fs::fstat(&reading).unwrap().st_ino;
        let mut pipes = Pipes::look_for(&[inode]);
        let gone = PathBuf::from("/proc/4194305/fd/0");
        pipes.paths.get_mut(&inode).unwrap().insert(0, gone.clone());
        assert!(matches!(pipes.find(inode, 0, 0), PipeLook::Open(_)), "the second has it still");
        pipes.paths.insert(inode, vec![gone]);
        assert!(matches!(pipes.find(inode, 0, 0), PipeLook::Open(_)), "somebody else has it by now");
    }

    #[test]
    fn a_pipe_is_not_closed_where_not_all_could_be_looked_at() {
        let mut pipes = Pipes::default();
        assert!(matches!(pipes.find(1, 7, 0), PipeLook::Closed));
        assert!(pipes.seen::<()>(Err(io::Error::from(Errno::NOENT))).is_none());
        assert!(matches!(pipes.find(1, 7, 0), PipeLook::Closed), "a process has ended meanwhile");
        assert!(pipes.seen::<()>(Err(io::Error::from(Errno::MFILE))).is_none());
        assert!(matches!(pipes.find(1, 7, 0), PipeLook::Unknown(suspects) if suspects.is_empty()));
    }

    #[test]
    fn a_pipe_that_a_process_out_of_sight_may_have_is_not_closed() {
        let me = ClosedBook { pid: std::process::id(), uid: 7, started: 1_000 };
        let pipes = Pipes { closed_books: vec![me], ..Pipes::default() };
        let ticks = rustix::param::clock_ticks_per_second();
        assert!(matches!(pipes.find(1, 7, 1_000 / ticks), PipeLook::Unknown(suspects) if suspects.len() == 1));
        assert!(matches!(pipes.find(1, 8, 1_000 / ticks), PipeLook::Closed));
        assert!(matches!(pipes.find(1, 7, 1_000 / ticks + 10), PipeLook::Closed));
    }
}
